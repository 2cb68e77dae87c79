//! The asymmetric fence: `membarrier`, which makes the processors of the other side
//! fence, so that the path of a message needs no fence of its own.
//!
//! Source: membarrier(2), `MEMBARRIER_CMD_GLOBAL_EXPEDITED`.
//!
//! The kernel forgets a processor now and then (seen in Linux 6.18): when a thread ends, its
//! processor no longer counts as running a registered process, and a switch to another
//! thread of the same process does not change that; only a switch from another process does.
//! Until then `membarrier` passes that processor over, and what its light fences hold back,
//! stores that have not left it, can still be on their way. They leave it by themselves
//! within less than a microsecond. So the heavy fence also waits for [`SETTLE`].

use std::{
    hint,
    sync::{
        OnceLock,
        atomic::{self, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{MembarrierCommand, membarrier};

/// Registers this process for the other side's heavy fences. Returns whether the kernel
/// offers them.
pub(crate) fn register() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| {
        membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok()
            && membarrier(MembarrierCommand::GlobalExpedited).is_ok()
    })
}

/// The fence of one who falls asleep on several links: full on this processor and, if one of
/// them is `asymmetric`, on all that run a registered process.
pub(crate) fn before_sleep(asymmetric: bool) {
    atomic::fence(Ordering::SeqCst);
    if asymmetric {
        heavy();
    }
}

/// How long a heavy fence waits for the stores of a processor that the kernel passed over.
/// The longest that was seen to take, in some 10^6 races for contended lines, is 0.4 µs.
const SETTLE: Duration = Duration::from_micros(5);

/// Makes every processor that runs a registered process issue a full fence.
pub(crate) fn heavy() {
    // It was tried at registration; it has no other way to fail.
    let _ = membarrier(MembarrierCommand::GlobalExpedited);
    let start = Instant::now();
    // Whoever else is to run on this processor makes better use of the time.
    thread::yield_now();
    while start.elapsed() < SETTLE {
        hint::spin_loop();
    }
}
