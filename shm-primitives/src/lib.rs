//! Layouts and algorithms of a shared-memory transport, without an operating system.
//!
//! Everything here works on a region of words and bytes behind one door, the
//! [`Memory`] trait. The code that runs over mapped memory ([`Mapped`]) is the code
//! that the model checker runs: shared memory is addressed by [`Offset`], never
//! through references to shared structs.
//!
//! Three rules hold everywhere:
//!
//! - **One writer per byte.** Each process of a link owns an *outbox*; it writes there
//!   and only reads the other's.
//! - **One publishing store.** An operation becomes visible through one atomic store.
//!   A process that dies before it did nothing; after it, everything.
//! - **Private truth.** What the other side writes is a claim: loaded once, checked
//!   against private state, then used. No claim makes this crate panic.
//!
//! | module | concept |
//! |---|---|
//! | [`memory`] | the door to shared memory, [`order`] the table of its orderings |
//! | [`mapped`] | the door over real memory: the only `unsafe` of this crate |
//! | [`audit`](mod@audit) | what is fetched for one decision, once |
//! | [`header`] | what stands at offset 0 of a segment |
//! | [`outbox`] | where one side's control words, acks and ring lie |
//! | [`frame`] | the header word of a ring entry |
//! | [`ring`] | the BipBuffer: single producer, single consumer, contiguous grants |
//! | [`pool`] | slots of the var-slot pool: private allocator, shared acks |
//! | [`doorbell`] | sleeping and waking without a lost wake-up |
//! | [`seqlock`] | a value of any size that is never read torn |
//! | [`broadcast`] | one writer, many readers with private cursors |
//! | [`hub`] | what a host tells all its guests |
//! | [`peer`] | the host's table of peers |
//! | [`ledger`] | what a process counts of its links |
//! | [`fleet`] | a ring that equal members write |
//! | [`lease`] | what the `-shm` file beside a data file says |
//!
//! # Example
//!
//! A ring between two halves of one process; between two processes only the
//! memory differs.
//!
//! ```
//! use shm_primitives::{Frame, Mapped, outbox::OutboxGeometry, ring::{Consumer, Producer}};
//!
//! let geometry = OutboxGeometry::new(1024, 0)?;
//! let (left, right) = (Mapped::leaked(geometry.total_size()), Mapped::leaked(geometry.total_size()));
//! let mut producer = Producer::new(left, right, &geometry);
//! let mut consumer = Consumer::new(right, left, &geometry);
//!
//! producer.push(b"hello")?;
//! let entry = consumer.next()?.expect("one frame was published");
//! let mut text = [0; 5];
//! consumer.read(&entry, 0, &mut text);
//! consumer.release();
//! assert_eq!(&text, b"hello");
//! assert_eq!(entry.frame(), Frame::Inline { len: 5 });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![deny(unsafe_code)]
// What a peer writes must not make this process panic: no construct here can, but for the
// bounds check of `Mapped`, which no peer reaches.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!(
    "shm-primitives supports x86-64 and aarch64 only: its layouts need 64-bit atomics and little-endian words"
);
#[cfg(target_endian = "big")]
compile_error!("shm-primitives supports little-endian targets only: its layouts are little-endian");

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod audit;
pub mod broadcast;
pub mod doorbell;
pub mod fleet;
pub mod frame;
pub mod header;
pub mod hub;
pub mod lease;
pub mod ledger;
pub mod mapped;
pub mod memory;
pub mod order;
pub mod outbox;
pub mod peer;
pub mod pool;
pub mod ring;
pub mod seqlock;

pub use frame::Frame;
pub use mapped::{Counters, Mapped};
pub use memory::{Memory, Offset};
pub use order::Order;
