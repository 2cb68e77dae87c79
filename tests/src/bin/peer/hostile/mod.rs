//! Guests that break the protocol for as long as they are let. Each is a program with a name:
//! the driver, `tests/hostile_programs.rs`, has the same names with what may come of them.

mod handed_over;
mod handshake;
mod life;
mod outbox;
mod scribbler;
mod writes;

use std::path::Path;

use shm_tests::{
    pattern::Random,
    raw::{RawGuest, RawSocket},
};

use crate::say;

pub(crate) use scribbler::run as scribble;

/// What a program is given: a guest that has attached as an honest one would.
struct Attached {
    guest: RawGuest,
    random: Random,
}

/// A program that does not attach, or not as an honest guest would.
type Outside = fn(&Path);
/// A program that begins as an honest guest.
type Inside = fn(&mut Attached);
/// One act of a program that does the same again and again, without a pause.
type Step = fn(&mut RawGuest, &mut Random);

const OUTSIDE: &[(&str, Outside)] = &[
    ("handshake-garbage", handshake::garbage),
    ("half-a-handshake", handshake::half),
    ("silence", handshake::silence),
    ("bad-outboxes", handshake::bad_outboxes),
    ("connect-storm", handshake::connect_storm),
    ("attach-storm", handshake::attach_storm),
];

const INSIDE: &[(&str, Inside)] = &[
    ("unsealed-payloads", handed_over::unsealed),
    ("half-sealed-extent", handed_over::half_sealed_extent),
    ("short-extent", handed_over::short_extent),
    ("stale-slots", handed_over::stale_slots),
    ("growing-payload", handed_over::growing),
    ("shrinking-payload", handed_over::shrinking),
    ("payload-in-a-file", handed_over::in_a_file),
    ("payload-in-dev-shm", handed_over::in_dev_shm),
    ("payload-of-huge-pages", handed_over::of_huge_pages),
    ("payload-with-holes", handed_over::with_holes),
    ("payload-that-is-punched", handed_over::punched),
    ("slow-to-close", handed_over::slow_to_close),
    ("resizes", writes::resizes),
    ("removes-pages", writes::removes_pages),
    ("writes-by-call", writes::by_call),
    ("writes-by-mprotect", writes::by_mprotect),
    ("writes-by-new-mapping", writes::by_new_mapping),
    ("writes-by-reopening", writes::by_reopening),
    ("writes-by-proc-mem", writes::by_proc_mem),
    ("stops-in-mid-send", life::stops_in_mid_send),
    ("forks-and-exits", life::forks_and_exits),
    ("never-reads", life::never_reads),
    ("writes-on-after-hanging-up", life::writes_on),
    ("subscription-flood", life::subscription_flood),
    ("sleep-flood", life::sleep_flood),
];

const STEPS: &[(&str, Step)] = &[
    ("frame-headers", outbox::frame_headers),
    ("index-jumps", outbox::index_jumps),
    ("padding-loops", outbox::padding_loops),
    ("zero-lengths", outbox::zero_lengths),
    ("huge-lengths", outbox::huge_lengths),
    ("foreign-slots", outbox::foreign_slots),
    ("double-acks", outbox::double_acks),
    ("ack-flood", outbox::ack_flood),
    ("sleep-words", outbox::sleep_words),
    ("bells", outbox::bells),
    ("wake-calls", outbox::wake_calls),
    ("bell-messages", outbox::bell_messages),
    ("all-bells", outbox::all_bells),
    ("goodbyes", outbox::goodbyes),
    ("heartbeats", outbox::heartbeats),
    ("everything", outbox::everything),
    ("messages-without-room", outbox::messages_without_room),
    ("descriptor-flood", handed_over::flood),
    ("wakes-other-guests", life::wakes_other_guests),
];

pub(crate) fn run(path: &str, program: &str) {
    let path = Path::new(path);
    let seed = program.bytes().map(u64::from).sum();
    if let Some((_, outside)) = OUTSIDE.iter().find(|(name, _)| *name == program) {
        return outside(path);
    }
    let guest = RawSocket::connect(path).welcomed().claimed();
    say("attached");
    let mut attached = Attached { guest, random: Random::new(seed) };
    if let Some((_, inside)) = INSIDE.iter().find(|(name, _)| *name == program) {
        return inside(&mut attached);
    }
    let step = STEPS.iter().find(|(name, _)| *name == program);
    let (_, step) = step.unwrap_or_else(|| panic!("unknown program {program}"));
    let Attached { guest, random } = &mut attached;
    loop {
        step(guest, random);
    }
}

/// The names of all programs.
pub(crate) fn names() -> Vec<&'static str> {
    let outside = OUTSIDE.iter().map(|(name, _)| *name);
    let inside = INSIDE.iter().map(|(name, _)| *name);
    outside.chain(inside).chain(STEPS.iter().map(|(name, _)| *name)).collect()
}

/// Does nothing more, for as long as it lives.
fn idle() -> ! {
    loop {
        std::thread::sleep(shm_tests::WAIT);
    }
}
