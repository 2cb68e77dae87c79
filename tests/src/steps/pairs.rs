//! Two victims, one after the other.

use std::time::Instant;

use super::{
    route::Route,
    strike::Strike,
    sweep::{Sweep, Tally},
};
use crate::amount;

/// How many places in each of the two are paired in the short form.
const SHORT: u64 = 2;

impl Sweep<'_> {
    /// Kills two victims one after the other: `first` kills the first where it is told to,
    /// and `trial` the second, which comes upon what the first one left, and returns what a
    /// third one finds. About `SHM_TEST_PAIRS` places in each of both are paired.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run); no outcome between the first and the last has to occur.
    pub fn run_pairs(
        &self,
        mut first: impl FnMut(&mut Strike<'_>),
        mut trial: impl FnMut(&mut Strike<'_>) -> &'static str,
    ) {
        let begun = Instant::now();
        let mut tally = Tally::new(self);
        let mut route = Route::default();
        let mut at_end = Strike::at_end(&mut route);
        first(&mut at_end);
        let all = at_end.steps();
        let mut kill_second = |strike: &mut Strike<'_>, place: &str, tally: &mut Tally<'_>| {
            tally.trial(strike, place, &mut trial)
        };
        let mut second_route = Route::default();
        let mut at_end = Strike::at_end(&mut second_route);
        kill_second(&mut at_end, "at the end of both", &mut tally);
        let mut second_all = at_end.steps();
        let wanted = amount("SHM_TEST_PAIRS", SHORT);
        let (mut pairs, mut longest) = (0u64, 0);
        for (round, instructions) in spread(all, wanted, 0).enumerate() {
            let place = format!("the first after {instructions} of {all} instructions");
            // What the second one does depends on what it finds. To look costs much time.
            if wanted > SHORT {
                first(&mut Strike::after(instructions, &route));
                let mut at_end = Strike::at_end(&mut second_route);
                kill_second(&mut at_end, &format!("{place}, the second at its end"), &mut tally);
                second_all = at_end.steps();
            }
            longest = longest.max(second_all);
            for second_instructions in spread(second_all, wanted, round as u64) {
                let place = format!("{place}, the second after {second_instructions}");
                let mut strikes = [
                    Strike::after(instructions, &route),
                    Strike::after(second_instructions, &second_route),
                ];
                first(&mut strikes[0]);
                kill_second(&mut strikes[1], &place, &mut tally);
                // Both in the middle of what they did.
                pairs += u64::from(!strikes.iter().any(Strike::came_to_its_end));
            }
        }
        let counts = tally.finish(false);
        println!(
            "{}: {all} instructions, then up to {longest}: {pairs} pairs of kills, 0 bad: {counts} \
             ({:.1} s)",
            self.name,
            begun.elapsed().as_secs_f64(),
        );
    }
}

/// So many numbers of instructions, from none to the last; those between are others for each
/// round.
fn spread(last: u64, wanted: u64, round: u64) -> impl Iterator<Item = u64> {
    let stride = (last / wanted.max(1)).max(1);
    let between = (1 + round * 7 % stride..last).step_by(stride as usize);
    [0].into_iter().chain(between).chain([last])
}
