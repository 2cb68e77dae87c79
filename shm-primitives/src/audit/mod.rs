//! At most one fetch of each shared field for each decision, checked while it happens.
//!
//! What another process writes may change between two loads. So whatever is decided by it, is
//! decided by one load. The operations of this crate say where a decision begins and ends; built
//! with the feature `audit`, [`Mapped`](crate::Mapped) compares each load with the others of the
//! same decision, and a second fetch of the same bytes ends the process, with both places in the
//! code. Without the feature nothing of this is there.
//!
//! Two things look like a second fetch and are none, and each says so where it stands:
//! [`anew`], where an attempt or another question begins, which forgets what was loaded before;
//! and [`second_look`], for the second half of a check whether something has changed meanwhile.
//!
//! With the environment variable `SHM_AUDIT`, each thread adds what it counted to the file of
//! that name, in lines of four numbers: decisions, loads, second looks among them, and the most
//! loads of one field in one decision, second looks left out.

#[cfg(feature = "audit")]
mod auditor;
#[cfg(feature = "audit")]
pub(crate) use auditor::loaded;
#[cfg(feature = "audit")]
pub use auditor::{Decision, anew, decision, second_look};

#[cfg(not(feature = "audit"))]
mod nothing {
    /// A decision, until it is dropped.
    #[derive(Debug)]
    #[must_use = "a decision ends when this is dropped"]
    pub struct Decision;

    /// Begins a decision; inside another one, goes on with that.
    #[inline(always)]
    pub fn decision() -> Decision {
        Decision
    }

    /// Begins another attempt, or another question, within this decision.
    #[inline(always)]
    pub fn anew() {}

    /// The next load looks whether a word has changed since it was loaded first.
    #[inline(always)]
    pub fn second_look() {}
}
#[cfg(not(feature = "audit"))]
pub use nothing::{Decision, anew, decision, second_look};
