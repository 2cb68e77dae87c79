//! The way of a victim through its operation, and how another one is brought to a place on it.

use super::victim::{Code, Spot};

/// Which instructions an operation consists of, one after the other.
#[derive(Debug, Default)]
pub struct Route {
    /// The instruction that is next after so many.
    spots: Vec<Option<Spot>>,
    /// After how many instructions each system call returned.
    calls: Vec<u64>,
}

impl Route {
    /// Notes the next instruction.
    pub(super) fn note(&mut self, code: &Code, address: u64) {
        self.spots.push(code.spot(address));
    }

    /// The last one that was noted was a system call, which has returned.
    pub(super) fn note_return(&mut self) {
        self.calls.push(self.spots.len() as u64);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.spots.clear();
        self.calls.clear();
    }

    /// How many system calls there are.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// How many system calls return before so many instructions are done, and how many are
    /// done when the last of them has returned.
    #[must_use]
    pub fn last_call(&self, instructions: u64) -> (usize, u64) {
        let calls = self.calls.partition_point(|returned| *returned <= instructions);
        let returned = calls.checked_sub(1).and_then(|last| self.calls.get(last));
        (calls, returned.copied().unwrap_or(0))
    }

    /// The instruction that is next after `instructions`, and how often it is come to on the
    /// way there from where `from` are done.
    pub(super) fn spot(&self, from: u64, instructions: u64) -> Option<(&Spot, usize)> {
        let spots = self.spots.get(from as usize..=instructions as usize)?;
        let (first, others) = spots.split_first()?;
        let spot = others.last()?;
        // To where it stands it would come without a step.
        if first == spot {
            return None;
        }
        Some((spot.as_ref()?, others.iter().filter(|other| *other == spot).count()))
    }
}
