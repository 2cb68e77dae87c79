//! The asymmetric fence: `membarrier`, which makes the processors of the other side
//! fence, so that the path of a message needs no fence of its own.
//!
//! Source: membarrier(2), `MEMBARRIER_CMD_GLOBAL_EXPEDITED`.

use std::sync::{
    OnceLock,
    atomic::{self, Ordering},
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

/// A full fence on this processor and, where the kernel offers it, on all that run a
/// registered process.
pub(crate) fn everywhere() {
    atomic::fence(Ordering::SeqCst);
    if register() {
        heavy();
    }
}

/// Makes every processor that runs a registered process issue a full fence.
pub(crate) fn heavy() {
    // It was tried at registration; it has no other way to fail.
    let _ = membarrier(MembarrierCommand::GlobalExpedited);
}
