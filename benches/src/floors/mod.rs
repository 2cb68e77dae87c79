//! What the machine allows: the least that any way to pass messages must do.

mod buffer;
pub mod crossing;
pub mod disk;
mod futex;
mod lines;
mod ring;

pub use futex::FutexWake;

pub use buffer::SharedBuffer;
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
pub const ONE_BUFFER: SharedBuffer = SharedBuffer { name: "one shared buffer", buffers: 1 };
const TWO_BUFFERS: SharedBuffer = SharedBuffer { name: "two shared buffers", buffers: 2 };
const INDEX_RING: Ring = Ring { name: "ring with an index", commit_words: false };
const COMMIT_RING: Ring = Ring { name: "ring with commit words", commit_words: true };

/// The floors of all workloads.
pub const FLOORS: [&dyn System; 7] =
    [&ONE_LINE, &TWO_LINES, &ONE_BUFFER, &TWO_BUFFERS, &INDEX_RING, &COMMIT_RING, &FutexWake];

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::system::{Setup, Workload};

    #[test]
    fn every_byte_is_passed_on_in_both_directions_at_every_size() {
        for size in (8..=70).chain([4096, 4097, 1 << 20]) {
            let setup = Setup { workload: Workload::Pingpong, size, directory: PathBuf::new() };
            // Those that pass on messages and not only their numbers.
            for floor in FLOORS.iter().filter(|floor| floor.carries(Workload::Pingpong, 64)) {
                let opened = floor.open(&setup).unwrap();
                let mut near = opened.near;
                let mut far = floor.join(&setup, &opened.ticket).unwrap();
                let mut received = vec![0; size];
                for number in 1..=10 {
                    let mut sent: Vec<u8> = (0..size).map(|at| (at as u8) ^ number).collect();
                    for _ in 0..2 {
                        near.send(&mut sent, number.into(), 1).unwrap();
                        far.receive(&mut received, number.into(), 1).unwrap();
                        assert!(received == sent, "{} at {size}", floor.name());
                        sent.reverse();
                        std::mem::swap(&mut near, &mut far);
                    }
                }
            }
        }
    }
}
