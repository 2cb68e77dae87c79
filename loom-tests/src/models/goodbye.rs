//! Goodbye: what was sent before it is found by one more look after it.

use shm_primitives::header::{Goodbye, goodbye_of, say_goodbye};

use super::Link;
use crate::{explore::explore, memory::Area, thread};

/// Where the goodbye word stands in a segment.
const GOODBYE: u64 = 96;

/// A side sends its last frame and says goodbye. Whoever sees the goodbye and then looks
/// into the ring once more has the frame.
pub fn last_frame() {
    let paths = ["frame first", "goodbye first", "neither yet"];
    explore("goodbye::last_frame", &paths, |paths| {
        let link = Link::new(0, &[Area::Words32(GOODBYE..GOODBYE + 4)], &[]);
        let (mut producer, mut consumer) = (link.producer(), link.consumer());
        let own = link.sender.clone();
        let leaving = thread::spawn(move || {
            producer.push(&[7; 9]).expect("room");
            say_goodbye(&own, Goodbye::Graceful);
        });
        let mut entry = consumer.next().expect("an honest producer");
        let goodbye = goodbye_of(&link.sender);
        paths.take_if(entry.is_some(), "frame first");
        if goodbye.is_some() {
            assert_eq!(goodbye, Some(Goodbye::Graceful));
            if entry.is_none() {
                paths.take("goodbye first");
                entry = consumer.next().expect("an honest producer");
                assert!(entry.is_some(), "the goodbye came, the frame before it did not");
            }
        } else if entry.is_none() {
            paths.take("neither yet");
        }
        if let Some(entry) = entry {
            let mut bytes = [0; 9];
            consumer.read(&entry, 0, &mut bytes);
            assert_eq!(bytes, [7; 9]);
            assert!(matches!(consumer.next(), Ok(None)));
        }
        leaving.join().expect("the leaving side ends");
    });
}
