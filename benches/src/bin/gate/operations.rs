//! The operations whose instructions are counted, each between set-up and clearing up that
//! are not.

mod links;
mod primitives;
mod state;

use std::{error::Error, hint::black_box};

/// How often each is performed under the count. What happens only every few times, such as
/// the end of the ring, is part of the average.
pub const TIMES: usize = 1024;
/// How often in a row, before the other side follows: what any ring or extent here holds, so
/// that nothing is waited for.
const BURST: usize = 8;
/// What callgrind is told to count: [`under_count`] by any mangling.
pub const COUNTED: &str = "*under_count*";

/// Something to count.
pub struct Operation {
    pub name: &'static str,
    /// Performs it [`TIMES`] times under the count.
    pub perform: fn() -> Result<(), Box<dyn Error>>,
}

/// All of them.
pub const OPERATIONS: [Operation; 30] = [
    Operation { name: "send 8 B", perform: || links::send(8) },
    Operation { name: "send 64 B", perform: || links::send(64) },
    Operation { name: "send 1 KiB", perform: || links::send(1 << 10) },
    Operation { name: "send 16 KiB in a slot", perform: || links::send(16 << 10) },
    Operation { name: "receive 8 B", perform: || links::receive(8) },
    Operation { name: "receive 64 B", perform: || links::receive(64) },
    Operation { name: "receive 1 KiB", perform: || links::receive(1 << 10) },
    Operation { name: "receive 16 KiB in a slot", perform: || links::receive(16 << 10) },
    Operation { name: "send and receive 8 B in turn", perform: || links::in_turn(8) },
    Operation { name: "send and receive 64 B in turn", perform: || links::in_turn(64) },
    Operation { name: "grant and commit 64 B", perform: || links::grant(64) },
    Operation { name: "grant and commit 16 KiB in a slot", perform: || links::grant(16 << 10) },
    Operation { name: "send a batch of 64 x 16 B", perform: links::send_batch },
    Operation { name: "receive a batch of 64 x 16 B", perform: links::receive_batch },
    Operation { name: "find no message", perform: links::find_none },
    Operation { name: "release 64 B", perform: || links::release(64) },
    Operation { name: "release 16 KiB in a slot", perform: || links::release(16 << 10) },
    Operation { name: "ring: push 64 B", perform: primitives::push },
    Operation { name: "ring: take 64 B", perform: primitives::take },
    Operation { name: "pool: allocate", perform: primitives::allocate },
    Operation { name: "pool: release", perform: primitives::release },
    Operation { name: "doorbell: nobody sleeps", perform: primitives::doorbell },
    Operation { name: "seqlock: write 64 B", perform: primitives::write },
    Operation { name: "seqlock: read 64 B", perform: primitives::read },
    Operation { name: "broadcast: publish 64 B", perform: state::publish },
    Operation { name: "broadcast: next 64 B", perform: state::next },
    Operation { name: "broadcast: newest 64 B", perform: state::newest },
    Operation { name: "fleet: publish 64 B", perform: state::fleet_publish },
    Operation { name: "fleet: next 64 B", perform: state::fleet_next },
    Operation { name: "fleet: newest 64 B", perform: state::fleet_newest },
];

/// Does something a number of times. What runs in here is counted, and nothing else.
#[inline(never)]
fn under_count<T, E>(
    times: usize,
    mut operation: impl FnMut() -> Result<T, E>,
) -> Result<(), Box<dyn Error>>
where
    Box<dyn Error>: From<E>,
{
    for _ in 0..times {
        black_box(operation()?);
    }
    Ok(())
}

/// How a benchmark says that something is missing that it has put there.
fn there<T>(found: Option<T>) -> Result<T, &'static str> {
    found.ok_or("nothing is there")
}
