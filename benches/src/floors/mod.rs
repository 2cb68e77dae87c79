//! What the machine allows: the least that any way to pass messages must do.

mod buffer;
pub mod crossing;
pub mod disk;
mod futex;
mod lines;
mod ring;

pub use futex::FutexWake;

use buffer::SharedBuffer;
use lines::Lines;
use ring::Ring;

use crate::system::System;

/// The floor that round trips are compared with.
pub const PINGPONG_FLOOR: &str = ONE_BUFFER.name;
/// The floors of the smallest round trips.
pub const ONE_LINE_FLOOR: &str = ONE_LINE.name;
pub const TWO_LINES_FLOOR: &str = TWO_LINES.name;
/// The floors that streams are compared with: the better of the two.
pub const STREAM_FLOORS: [&str; 2] = [INDEX_RING.name, COMMIT_RING.name];

const ONE_LINE: Lines = Lines { name: "one line", lines: 1 };
const TWO_LINES: Lines = Lines { name: "two lines", lines: 2 };
const ONE_BUFFER: SharedBuffer = SharedBuffer { name: "one shared buffer", buffers: 1 };
const TWO_BUFFERS: SharedBuffer = SharedBuffer { name: "two shared buffers", buffers: 2 };
const INDEX_RING: Ring = Ring { name: "ring with an index", commit_words: false };
const COMMIT_RING: Ring = Ring { name: "ring with commit words", commit_words: true };

/// The floors of all workloads.
pub const FLOORS: [&dyn System; 7] =
    [&ONE_LINE, &TWO_LINES, &ONE_BUFFER, &TWO_BUFFERS, &INDEX_RING, &COMMIT_RING, &FutexWake];
