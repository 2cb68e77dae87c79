//! Which blocks were dealt and answered, and what was wrong with the answers.

use std::collections::VecDeque;

/// What was wrong with answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Answers to blocks that were answered before.
    pub duplicated: u64,
    /// Answers of a guest in another order than its blocks were dealt.
    pub reordered: u64,
    /// Wrong digests, and answers to what was not asked.
    pub mismatched: u64,
}

/// The blocks that were dealt to one guest and that it has not answered.
#[derive(Debug, Default)]
pub struct Unanswered {
    /// In the order in which they were dealt.
    blocks: VecDeque<Dealt>,
    next_turn: u64,
    /// All turns before this one were answered or passed over.
    answered_up_to: u64,
}

#[derive(Clone, Copy, Debug)]
struct Dealt {
    turn: u64,
    id: u64,
}

impl Unanswered {
    /// A block was dealt to the guest.
    pub fn push(&mut self, id: u64) {
        self.blocks.push_back(Dealt { turn: self.next_turn, id });
        self.next_turn += 1;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// All ids, in the order in which they were dealt.
    pub fn take_all(&mut self) -> VecDeque<u64> {
        self.blocks.drain(..).map(|dealt| dealt.id).collect()
    }

    /// Takes a block out. `Some(true)`: it was its turn; `Some(false)`: one that was dealt
    /// later was answered before.
    fn answer(&mut self, id: u64) -> Option<bool> {
        let place = self.blocks.iter().position(|dealt| dealt.id == id)?;
        let turn = self.blocks.remove(place)?.turn;
        let in_order = turn >= self.answered_up_to;
        if in_order {
            self.answered_up_to = turn + 1;
        }
        Some(in_order)
    }
}

/// All blocks that were dealt, by id.
#[derive(Debug, Default)]
pub struct Ledger {
    answered: Vec<bool>,
    /// What was wrong so far.
    pub faults: Faults,
}

impl Ledger {
    /// How many blocks were dealt: the id of the next.
    pub fn dealt(&self) -> u64 {
        self.answered.len() as u64
    }

    /// The next block was dealt.
    pub fn deal(&mut self) {
        self.answered.push(false);
    }

    /// A guest answered. Returns whether that is its block's one answer, right or wrong.
    pub fn answer(&mut self, id: u64, of_guest: &mut Unanswered, is_right: bool) -> bool {
        let answered = usize::try_from(id).ok().and_then(|id| self.answered.get_mut(id));
        match (answered, of_guest.answer(id)) {
            (Some(answered @ false), Some(in_order)) => {
                *answered = true;
                self.faults.reordered += u64::from(!in_order);
                self.faults.mismatched += u64::from(!is_right);
                true
            }
            (Some(true), _) => {
                self.faults.duplicated += 1;
                false
            }
            // Never dealt, or dealt to another guest.
            (None, _) | (Some(false), None) => {
                self.faults.mismatched += 1;
                false
            }
        }
    }

    /// A guest sent something that is no answer.
    pub fn nonsense(&mut self) {
        self.faults.mismatched += 1;
    }

    /// Blocks that were dealt and have no answer.
    pub fn unanswered(&self) -> u64 {
        self.answered.iter().filter(|answered| !**answered).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger_of(blocks: u64) -> (Ledger, Unanswered) {
        let (mut ledger, mut unanswered) = (Ledger::default(), Unanswered::default());
        for id in 0..blocks {
            ledger.deal();
            unanswered.push(id);
        }
        (ledger, unanswered)
    }

    #[test]
    fn right_answers_in_order_are_no_fault() {
        let (mut ledger, mut guest) = ledger_of(3);
        assert_eq!(ledger.unanswered(), 3);
        assert!((0..3).all(|id| ledger.answer(id, &mut guest, true)));
        assert_eq!((ledger.unanswered(), ledger.faults), (0, Faults::default()));
        assert!(guest.is_empty());
    }

    #[test]
    fn a_second_answer_is_a_duplicate_and_not_accepted() {
        let (mut ledger, mut guest) = ledger_of(1);
        assert!(ledger.answer(0, &mut guest, true));
        assert!(!ledger.answer(0, &mut guest, true));
        assert_eq!(ledger.faults, Faults { duplicated: 1, ..Faults::default() });
    }

    #[test]
    fn a_late_answer_is_reordered_and_a_missing_one_is_only_lost() {
        let (mut ledger, mut guest) = ledger_of(4);
        for id in [0, 2, 1] {
            assert!(ledger.answer(id, &mut guest, true));
        }
        assert_eq!(ledger.faults, Faults { reordered: 1, ..Faults::default() });
        assert_eq!(ledger.unanswered(), 1);
        assert_eq!(guest.take_all(), [3]);
    }

    #[test]
    fn a_wrong_digest_an_unknown_id_and_anothers_block_are_mismatched() {
        let (mut ledger, mut guest) = ledger_of(2);
        let mut other = Unanswered::default();
        assert!(ledger.answer(0, &mut guest, false));
        assert!(!ledger.answer(u64::MAX, &mut guest, true));
        assert!(!ledger.answer(1, &mut other, true));
        ledger.nonsense();
        assert_eq!(ledger.faults, Faults { mismatched: 4, ..Faults::default() });
        assert_eq!(ledger.unanswered(), 1);
    }

    #[test]
    fn blocks_dealt_again_are_answered_in_their_new_order() {
        let (mut ledger, mut dead) = ledger_of(3);
        assert!(ledger.answer(0, &mut dead, true));
        let mut heir = Unanswered::default();
        for id in dead.take_all() {
            heir.push(id);
        }
        assert!((1..3).all(|id| ledger.answer(id, &mut heir, true)));
        assert_eq!((ledger.unanswered(), ledger.faults), (0, Faults::default()));
    }
}
