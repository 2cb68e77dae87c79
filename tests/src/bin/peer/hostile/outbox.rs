//! What a guest can write into its own outbox, and ring.

use shm_tests::{
    pattern::Random,
    raw::{PADDING, RawGuest, at, inline, slot},
};

pub(super) fn frame_headers(guest: &mut RawGuest, random: &mut Random) {
    let words = guest.geometry.capacity / 8;
    let word = plausible(random);
    guest.memory.store64(guest.geometry.ring + 8 * random.below(words), word);
}

pub(super) fn index_jumps(guest: &mut RawGuest, random: &mut Random) {
    let edges = [1 << 31, u32::MAX.into(), 1 << 63, u64::MAX, 0, random.next()];
    let word = edges[random.below(6) as usize];
    guest.memory.store64([at::TAIL, at::HEAD][random.below(2) as usize], word);
}

/// Padding wherever a frame could stand: who skips it goes round for ever.
pub(super) fn padding_loops(guest: &mut RawGuest, random: &mut Random) {
    let words = guest.geometry.capacity / 8;
    guest.memory.store64(guest.geometry.ring + 8 * random.below(words), PADDING);
}

/// A ring that is full of empty messages, and stays so however many are taken.
pub(super) fn zero_lengths(guest: &mut RawGuest, _: &mut Random) {
    for word in 0..guest.geometry.capacity / 8 {
        guest.memory.store64(guest.geometry.ring + 8 * word, inline(0));
    }
}

pub(super) fn huge_lengths(guest: &mut RawGuest, random: &mut Random) {
    let len = [u32::MAX, 1 << 31, u32::MAX - 7, 1017][random.below(4) as usize];
    let words = guest.geometry.capacity / 8;
    let word = [inline(len), slot(0, 0, len)][random.below(2) as usize];
    guest.memory.store64(guest.geometry.ring + 8 * random.below(words), word);
}

/// Slots that do not exist, or that nobody handed over: those of the host among them.
pub(super) fn foreign_slots(guest: &mut RawGuest, random: &mut Random) {
    let (class, index) = (random.below(4) as u8, random.below(8) as u16);
    guest.memory.store64(guest.frame_at(), slot(class, index, random.below(9000) as u32));
}

/// Gives each slot back twice: the ack goes on counting.
pub(super) fn double_acks(guest: &mut RawGuest, random: &mut Random) {
    let ack = at::ACKS + 4 * random.below(guest.geometry.acks.into());
    guest.memory.store32(ack, guest.memory.load32(ack).wrapping_add(2));
    guest.memory.store32(at::SPACE_BELL, random.next() as u32);
    guest.memory.wake(at::SPACE_BELL);
}

pub(super) fn ack_flood(guest: &mut RawGuest, random: &mut Random) {
    for ack in 0..u64::from(guest.geometry.acks) {
        guest.memory.store32(at::ACKS + 4 * ack, random.below(5) as u32);
    }
}

/// Asks for a system call for each thing that the host does.
pub(super) fn sleep_words(guest: &mut RawGuest, random: &mut Random) {
    guest.memory.store64(at::DATA_SLEEP, random.next());
    guest.memory.store64(at::SPACE_SLEEP, random.next());
}

pub(super) fn bells(guest: &mut RawGuest, random: &mut Random) {
    guest.memory.store32(at::DATA_BELL, random.next() as u32);
    guest.memory.store32(at::SPACE_BELL, random.next() as u32);
    guest.memory.wake(at::DATA_BELL);
    guest.memory.wake(at::SPACE_BELL);
}

/// Wakes who sleeps on its bells, which stay as they are.
pub(super) fn wake_calls(guest: &mut RawGuest, _: &mut Random) {
    guest.memory.wake(at::DATA_BELL);
    guest.memory.wake(at::SPACE_BELL);
}

pub(super) fn bell_messages(guest: &mut RawGuest, _: &mut Random) {
    // Full is as good.
    let _ = guest.socket.send(&[1], &[]);
}

pub(super) fn all_bells(guest: &mut RawGuest, random: &mut Random) {
    bells(guest, random);
    bell_messages(guest, random);
}

pub(super) fn goodbyes(guest: &mut RawGuest, random: &mut Random) {
    guest.memory.store32(at::GOODBYE, random.below(4) as u32);
}

pub(super) fn heartbeats(guest: &mut RawGuest, random: &mut Random) {
    guest.memory.store64(at::HEARTBEAT, random.next());
    guest.memory.store64(at::DROPPED, random.next());
}

pub(super) fn everything(guest: &mut RawGuest, random: &mut Random) {
    let words = guest.memory.size() / 8;
    guest.memory.store64(8 * random.below(words), plausible(random));
}

/// An endless stream of well-formed messages, whether there is room or not.
pub(super) fn messages_without_room(guest: &mut RawGuest, random: &mut Random) {
    guest.send_word(random.next());
}

/// Words that look like frames more often than chance has it.
pub(super) fn plausible(random: &mut Random) -> u64 {
    let word = random.next();
    match random.below(8) {
        0 => 0,
        1 => word,
        2 => 1 | (word % 300) << 32,
        3 => 1 | word << 32,
        4 => 2 | (word % 3) << 8 | ((word >> 8) % 6) << 16 | ((word >> 20) % 9000) << 32,
        5 => 3 | (word % 6) << 16,
        6 => 4,
        _ => 2 | word << 8,
    }
}
