//! Where a trial kills its victim.

use super::{
    route::Route,
    victim::{Stop, Victim, Wake},
};

/// Where a trial kills its victim.
#[derive(Debug)]
pub struct Strike<'a> {
    plan: Plan<'a>,
    /// Instructions that the victim has done.
    steps: u64,
    came_to_its_end: bool,
    went_elsewhere: bool,
}

#[derive(Debug)]
enum Plan<'a> {
    /// At the end of the operation. Notes its way.
    AtEnd(&'a mut Route),
    /// After so many instructions of that way.
    After(u64, &'a Route),
    /// Asleep in a system call.
    Asleep,
}

impl<'a> Strike<'a> {
    /// At the end of the operation; notes its way.
    pub fn at_end(route: &'a mut Route) -> Self {
        Self::new(Plan::AtEnd(route))
    }

    /// After so many instructions of an operation whose way is known.
    #[must_use]
    pub fn after(instructions: u64, route: &'a Route) -> Self {
        Self::new(Plan::After(instructions, route))
    }

    /// Asleep in a system call.
    #[must_use]
    pub fn asleep() -> Self {
        Self::new(Plan::Asleep)
    }

    fn new(plan: Plan<'a>) -> Self {
        Self { plan, steps: 0, came_to_its_end: false, went_elsewhere: false }
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
            Plan::AtEnd(route) => {
                route.clear();
                let code = victim.code();
                loop {
                    let (address, is_call) = victim.next_instruction();
                    route.note(&code, address);
                    match victim.step(&mut wake) {
                        Stop::Trap => self.steps += 1,
                        stop => break stop,
                    }
                    if is_call {
                        route.note_return();
                    }
                }
            }
            Plan::After(instructions, route) => {
                let (stop, steps) = approach(victim, *instructions, route, &mut wake);
                (self.steps, self.went_elsewhere) = (steps, steps != *instructions);
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

    /// Whether the victim did not come to its place, and stands at another one.
    #[must_use]
    pub fn went_elsewhere(&self) -> bool {
        self.went_elsewhere
    }

    /// Whether the victim came to the end of its operation.
    #[must_use]
    pub fn came_to_its_end(&self) -> bool {
        self.came_to_its_end
    }
}

/// Brings a victim to where so many instructions are done: as fast as can be to where the
/// last system call before has returned, and from there to the instruction that is next.
///
/// No two victims go quite the same way. One that comes to another system call instead stays
/// there.
fn approach(victim: &Victim, instructions: u64, route: &Route, wake: &mut Wake<'_>) -> (Stop, u64) {
    let (calls, mut steps) = route.last_call(instructions);
    // A stop where each begins and where it ends.
    for _ in 0..calls * 2 {
        match victim.to_call(wake) {
            Stop::Trap => {}
            stop => return (stop, steps),
        }
    }
    // In a loop it may stand there already.
    if steps < instructions && route.spot(steps, instructions).is_none() {
        match victim.step(wake) {
            Stop::Trap => steps += 1,
            stop => return (stop, steps),
        }
    }
    if let Some((spot, count)) = route.spot(steps, instructions)
        && let Some(address) = victim.code().address(spot)
    {
        for nth in 1..=count {
            match victim.to_address(address, wake) {
                Some((Stop::Trap, true)) if nth < count => {}
                Some((stop, came)) => return (stop, if came { instructions } else { steps }),
                // Not on this machine.
                None => break,
            }
        }
    }
    while steps < instructions {
        match victim.step(wake) {
            Stop::Trap => steps += 1,
            stop => return (stop, steps),
        }
    }
    (Stop::Trap, steps)
}
