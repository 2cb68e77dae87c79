//! Model-checked tests of shm-primitives.
//!
//! The algorithms run here over [`LoomMem`], which is a [`Memory`] of loom's atomics and
//! cells: the same code, the same offsets and the same layout as over mapped memory.
//! loom runs each model through all its interleavings (up to a number of preemptions)
//! and through all values that the memory model lets a load return.
//!
//! | module | what |
//! |---|---|
//! | [`memory`] | shared memory in the model checker, and how an ordering is weakened |
//! | [`crash`] | a memory whose thread dies at its n-th operation |
//! | [`membarrier`] | a memory with an asymmetric fence |
//! | [`futex`] | what sleeps in the kernel: the call that a doorbell leaves to its caller, a lock |
//! | [`explore`](mod@explore) | running a model and proving that it reached what it is about |
//! | [`swap`] | neighbouring stores in the wrong order |
//! | [`thread`] | loom's threads, where a store may be held back |
//! | [`mutants`] | running the models with one thing changed |
//! | [`models`] | the models, one file for each structure |
//!
//! ```sh
//! cargo test -p loom-tests
//! # The executions and seconds of each model, and how often it reached each path:
//! cargo test -p loom-tests -- --nocapture
//! # The table of the orderings, each weakened once: the model that fails, and how
//! # (also run by the tests):
//! cargo run -p loom-tests --bin weaken
//! # The same for neighbouring stores, each pair swapped once:
//! cargo run -p loom-tests --bin swap
//! ```
//!
//! [`Memory`]: shm_primitives::Memory
#![deny(unsafe_code)]

pub mod crash;
pub mod explore;
pub mod futex;
pub mod membarrier;
pub mod memory;
pub mod models;
pub mod mutants;
pub mod swap;
pub mod thread;

pub use crash::CrashMem;
pub use explore::{Paths, explore};
pub use futex::Futex;
pub use membarrier::{Process, ProcessMem, Running};
pub use memory::{Area, LoomMem};
