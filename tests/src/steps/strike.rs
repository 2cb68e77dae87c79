//! Where a trial kills its victim.

use super::victim::{Stop, Victim, Wake};

/// Where a trial kills its victim.
#[derive(Debug)]
pub struct Strike<'a> {
    plan: Plan<'a>,
    /// Instructions that the victim has done.
    steps: u64,
    came_to_its_end: bool,
}

#[derive(Debug)]
enum Plan<'a> {
    /// At the end of the operation. Notes after how many instructions each of its system
    /// calls returned.
    AtEnd(&'a mut Vec<u64>),
    /// After so many instructions. It is let run up to the last system call before.
    After(u64, &'a [u64]),
    /// Asleep in a system call.
    Asleep,
}

impl<'a> Strike<'a> {
    /// At the end of the operation; notes its way.
    pub fn at_end(route: &'a mut Vec<u64>) -> Self {
        Self::new(Plan::AtEnd(route))
    }

    /// After so many instructions of an operation whose way is known.
    #[must_use]
    pub fn after(instructions: u64, route: &'a [u64]) -> Self {
        Self::new(Plan::After(instructions, route))
    }

    /// Asleep in a system call.
    #[must_use]
    pub fn asleep() -> Self {
        Self::new(Plan::Asleep)
    }

    fn new(plan: Plan<'a>) -> Self {
        Self { plan, steps: 0, came_to_its_end: false }
    }

    /// Runs the victim from its beginning to where it is to be killed, and stops it there.
    pub fn run(&mut self, victim: &Victim) {
        self.go(victim, None);
    }

    /// Like [`run`](Self::run). Whenever the victim sleeps in a system call, `wake` is called
    /// and says whether it does something about it. If not the victim stays there.
    ///
    /// # Panics
    ///
    /// If the victim ends or hangs.
    pub fn run_beside(&mut self, victim: &Victim, mut wake: impl FnMut() -> bool) {
        self.go(victim, Some(&mut wake));
    }

    fn go(&mut self, victim: &Victim, mut wake: Wake<'_>) {
        let stop = match &mut self.plan {
            Plan::AtEnd(route) => loop {
                let is_call = victim.is_at_call();
                match victim.step(&mut wake) {
                    Stop::Trap => self.steps += 1,
                    stop => break stop,
                }
                if is_call {
                    route.push(self.steps);
                }
            },
            Plan::After(instructions, route) => {
                let calls = route.partition_point(|returned| returned <= instructions);
                // A stop where each begins and where it ends.
                let mut stop = Stop::Trap;
                for _ in 0..calls * 2 {
                    stop = victim.to_call(&mut wake);
                    if stop != Stop::Trap {
                        break;
                    }
                }
                self.steps =
                    calls.checked_sub(1).and_then(|last| route.get(last)).map_or(0, |n| *n);
                while stop == Stop::Trap && self.steps < *instructions {
                    stop = victim.step(&mut wake);
                    self.steps += 1;
                }
                stop
            }
            Plan::Asleep => loop {
                match victim.to_call(&mut Some(&mut || false)) {
                    Stop::Trap => {}
                    stop => break stop,
                }
            },
        };
        if matches!(self.plan, Plan::Asleep) {
            assert_eq!(stop, Stop::Asleep, "it is to sleep");
        }
        self.came_to_its_end = stop == Stop::End;
    }

    /// How many instructions the victim has done.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether the victim came to the end of its operation.
    #[must_use]
    pub fn came_to_its_end(&self) -> bool {
        self.came_to_its_end
    }
}
