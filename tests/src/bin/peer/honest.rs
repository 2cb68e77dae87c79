//! A guest that does everything that an honest one does, and counts what went wrong.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use shm_tests::{WAIT, pattern};
use shm_transport::{Deadline, Guest, LinkEnd, RecvError, Start, Subscriber, SubscriberError};

use crate::say;

/// Sends back what it receives and follows the topic "values" until its host is gone; says how
/// many messages and values came, how many values were lost, and how much went wrong:
/// `MESSAGES VALUES LOST ERRORS`.
pub(crate) fn run(path: &str) {
    let mut guest = Guest::attach(path, WAIT).expect("attached");
    let mut values = guest.subscribe("values", Start::Next).expect("the topic");
    let errors = AtomicU64::new(0);
    say("attached");
    let (followed, messages) = thread::scope(|scope| {
        let following = scope.spawn(|| follow(&mut values, &errors));
        let messages = answer(&mut guest, &errors);
        (following.join().expect("it follows"), messages)
    });
    let errors = errors.load(Ordering::Relaxed);
    say(&format!("{messages} {followed} {} {errors}", values.lost()));
}

/// Messages begin with their number, from 0 on; those to all have the same numbers.
fn answer(guest: &mut Guest, errors: &AtomicU64) -> u64 {
    let mut next = 0;
    let wrong = || errors.fetch_add(1, Ordering::Relaxed);
    loop {
        match guest.link.recv(Deadline::NEVER).map(|message| message.to_bytes()) {
            Ok(message) => {
                let number = message.split_first_chunk().and_then(|(number, rest)| {
                    let number = u64::from_le_bytes(*number);
                    pattern::matches(number, rest).then_some(number)
                });
                if number != Some(next) {
                    eprintln!("message {number:?} instead of {next}");
                    wrong();
                }
                next += 1;
                if let Err(error) = guest.link.send(&message, WAIT) {
                    eprintln!("no answer: {error}");
                    wrong();
                }
            }
            Err(RecvError::Ended(LinkEnd::Departed)) => return next,
            Err(error) => {
                eprintln!("no message: {error}");
                wrong();
                return next;
            }
        }
    }
}

fn follow(values: &mut Subscriber, errors: &AtomicU64) -> u64 {
    let max = values.max_payload() as usize;
    let (mut count, mut next) = (0, values.position());
    loop {
        match values.next(Deadline::NEVER) {
            Ok(value) => {
                let is_whole = pattern::is_value(value.position, max, value.payload);
                if !is_whole || value.position != next + value.lost {
                    eprintln!("value {} after {next} and {} lost", value.position, value.lost);
                    errors.fetch_add(1, Ordering::Relaxed);
                }
                next = value.position + 1;
                count += 1;
            }
            Err(SubscriberError::Ended(LinkEnd::Departed)) => return count,
            Err(error) => {
                eprintln!("no value: {error}");
                errors.fetch_add(1, Ordering::Relaxed);
                return count;
            }
        }
    }
}
