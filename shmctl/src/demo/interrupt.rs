use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};

use super::failure::Failure;

/// Whether the user wants the demo to end: SIGINT, SIGTERM and SIGHUP, asked for instead of
/// handled, so that guests and the rendezvous directory are cleaned up in order.
#[derive(Debug)]
pub struct Interrupt(SignalFd);

impl Interrupt {
    /// Keeps the signals from this thread and all that it starts. Processes that it starts
    /// get them as usual.
    pub fn new() -> Result<Self, Failure> {
        let signals: SigSet =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        let failed = || Failure::of("ask for signals");
        signals.thread_block().map_err(failed())?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&signals, flags).map_err(failed())?))
    }

    /// Fails if the user wants no more.
    pub fn check(&self) -> Result<(), Failure> {
        match self.0.read_signal() {
            Ok(Some(_)) => Err(Failure::Interrupted),
            Ok(None) => Ok(()),
            Err(error) => Err(Failure::of("ask for signals")(error)),
        }
    }
}
