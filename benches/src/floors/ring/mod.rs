//! The least that any ring must do, by hand, for messages of one size.

mod commit;
mod index;

use crate::{
    memory::{APART, Shared, WORD},
    system::{Error, Opened, Runner, Setup, System, Workload},
};

use commit::CommitEnd;
use index::IndexEnd;

/// Two rings, one for each direction.
pub struct Ring {
    pub name: &'static str,
    /// Whether a word in each frame says that it is there, or a count for the whole ring.
    pub commit_words: bool,
}

/// About the bytes in a ring, and the least number of messages.
const BYTES: usize = 64 << 10;
const LEAST: usize = 4;

/// Where the counts and the frames lie in a ring, each count in lines of its own.
const WRITTEN: usize = 0;
const READ: usize = APART;
const FRAMES: usize = 2 * APART;

/// The sizes of a ring.
#[derive(Clone, Copy)]
struct Layout {
    /// Bytes in a message, and in a frame.
    size: usize,
    frame: usize,
    /// Frames in the ring: a power of two.
    frames: u64,
}

impl Layout {
    fn new(size: usize, in_front: usize) -> Self {
        let frame = in_front + size.next_multiple_of(WORD);
        let frames = 1 << (BYTES / frame).max(LEAST).ilog2();
        Self { size, frame, frames }
    }

    /// Bytes from the start of one ring to the start of the other.
    fn stride(&self) -> usize {
        (FRAMES + self.frame * self.frames as usize).next_multiple_of(4096)
    }

    /// Where the frame with this number starts within its ring.
    #[inline]
    fn at(&self, number: u64) -> usize {
        FRAMES + (number & (self.frames - 1)) as usize * self.frame
    }
}

/// How far one end is in one ring.
struct Progress {
    /// Where the ring starts.
    base: usize,
    /// Frames that this end has written, or read.
    done: u64,
    /// What this end last saw of the other's count.
    seen: u64,
}

impl Progress {
    fn new(base: usize) -> Self {
        Self { base, done: 0, seen: 0 }
    }
}

impl Ring {
    fn layout(&self, size: usize) -> Layout {
        Layout::new(size, if self.commit_words { WORD } else { 0 })
    }

    fn end(&self, layout: Layout, memory: Shared, out: usize, back: usize) -> Box<dyn Runner> {
        let (out, back) = (Progress::new(out), Progress::new(back));
        if self.commit_words {
            Box::new(CommitEnd { memory, layout, out, back })
        } else {
            Box::new(IndexEnd { memory, layout, out, back })
        }
    }
}

impl System for Ring {
    fn name(&self) -> &'static str {
        self.name
    }

    fn carries(&self, workload: Workload, _: usize) -> bool {
        matches!(workload, Workload::Pingpong | Workload::Stream)
    }

    fn open(&self, setup: &Setup) -> Result<Opened, Error> {
        let layout = self.layout(setup.size);
        let memory = Shared::create(2 * layout.stride())?;
        let ticket = memory.ticket();
        Ok(Opened { near: self.end(layout, memory, 0, layout.stride()), ticket })
    }

    fn join(&self, setup: &Setup, ticket: &str) -> Result<Box<dyn Runner>, Error> {
        let layout = self.layout(setup.size);
        Ok(self.end(layout, Shared::open(ticket)?, layout.stride(), 0))
    }
}
