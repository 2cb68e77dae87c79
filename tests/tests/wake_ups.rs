//! No wake-up is lost while threads of the two sides come and go: the kernel forgets a
//! processor then (see `os/fence.rs`), and a sleeper's fence passes it over.

use std::{
    hint, thread,
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use shm_tests::pattern;
use shm_transport::{Link, LinkConfig};

const ROUND_TRIPS: u32 = if cfg!(debug_assertions) { 5_000 } else { 40_000 };
/// Round trips between two threads that end, on either processor.
const ENDING: u32 = 8;
/// Turns of a waiting loop for which a side at most is busy before it waits: for about as
/// long as the other side takes to answer, so that it often falls asleep while the answer is
/// sent.
const BUSY: u64 = 512;
/// A sleeper whose wake-up is lost finds its message when this is over.
const LOST: Duration = Duration::from_secs(5);

/// The first two processors that this process may use; one, if there is no other.
fn two_processors() -> [CpuSet; 2] {
    let allowed = sched_getaffinity(None).unwrap();
    let mut each = (0..CpuSet::MAX_CPU).filter(|&number| allowed.is_set(number)).map(|number| {
        let mut set = CpuSet::new();
        set.set(number);
        set
    });
    let first = each.next().unwrap();
    [first, each.next().unwrap_or(first)]
}

/// A thread ends on a processor.
fn end_a_thread_on(processor: CpuSet) {
    let thread = thread::spawn(move || sched_setaffinity(None, &processor));
    thread.join().unwrap().unwrap();
}

fn receive(link: &mut Link, buffer: &mut [u8], number: u32) {
    for _ in 0..pattern::mix(number.into()) % BUSY {
        hint::spin_loop();
    }
    let start = Instant::now();
    let received = link.recv_into(buffer, LOST);
    assert!(start.elapsed() < LOST, "message {number}: asleep for {LOST:?} beside it");
    assert_eq!(received.unwrap(), buffer.len());
    assert!(buffer.iter().all(|byte| *byte == number as u8), "message {number} is another");
}

#[test]
fn no_wake_up_is_lost_while_threads_end_on_the_processors_of_both_sides() {
    sleep_for_each_message(true);
}

#[test]
fn no_wake_up_is_lost_where_each_message_has_its_fence() {
    sleep_for_each_message(false);
}

/// Each round trip is two sleeps, as nobody polls.
fn sleep_for_each_message(asymmetric_fence: bool) {
    let config = LinkConfig { spin: Duration::ZERO, asymmetric_fence, ..LinkConfig::default() };
    let (mut left, mut right) = Link::pair(&config).unwrap();
    let [near, far] = two_processors();
    let answering = thread::spawn(move || {
        sched_setaffinity(None, &far).unwrap();
        let mut buffer = [0; 4096];
        for number in 0..ROUND_TRIPS {
            receive(&mut right, &mut buffer, number);
            right.send(&buffer, LOST).unwrap();
        }
        right
    });
    sched_setaffinity(None, &near).unwrap();
    let mut buffer = [0; 4096];
    for number in 0..ROUND_TRIPS {
        if number % ENDING == 0 {
            end_a_thread_on(if number % (2 * ENDING) == 0 { far } else { near });
        }
        left.send(&[number as u8; 4096], LOST).unwrap();
        receive(&mut left, &mut buffer, number);
    }
    drop(answering.join().unwrap());
}
