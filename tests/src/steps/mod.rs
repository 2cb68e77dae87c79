//! One operation of another process, run instruction by instruction and ended by a kill after
//! any of them. What survives is checked after each kill.
//!
//! The *victim* is a role of the helper. It prepares, [`begin`]s, does the operation and
//! [`end`]s: both stop it for the test that traces it; see ptrace(2). Only the thread of the
//! operation is traced and stepped, its others run as ever. A *trial* makes a victim, kills
//! it where the [`Strike`] says, and returns what became of the operation. [`Sweep`] makes
//! trials for one instruction after the other, or for pairs of victims.
//!
//! `SHM_TEST_STEPS=0` is the whole form: a kill after every instruction of every operation.
//! Any other number is about how many kills there are for each operation, at even distances;
//! where the outcome differs between two of them, the instruction that makes the difference is
//! searched for.

pub mod operation;
mod pairs;
mod route;
pub mod scene;
mod strike;
pub mod survivor;
mod sweep;
mod victim;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use self::{
    route::Route,
    strike::Strike,
    sweep::Sweep,
    victim::{Stop, Victim, Wake, begin, end},
};

/// Only one test of a process sweeps at a time: what the process holds is counted.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
