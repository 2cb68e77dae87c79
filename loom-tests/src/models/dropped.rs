//! The count of what was dropped: it comes with the frame behind the gap.

use shm_primitives::outbox::{DROPPED, dropped_by, say_dropped};

use super::Link;
use crate::{explore::explore, memory::Area, thread};

/// A side sends, drops, and sends again. Whoever has the second frame knows of the gap
/// before it.
pub fn gap_before_frame() {
    let paths = ["both frames", "the first frame", "a count before its frame"];
    explore("dropped::gap_before_frame", &paths, |paths| {
        let link = Link::new(0, &[Area::word64(DROPPED)], &[]);
        let (mut producer, mut consumer) = (link.producer(), link.consumer());
        let own = link.sender.clone();
        let sending = thread::spawn(move || {
            producer.push(&[1]).expect("room");
            say_dropped(&own, 1);
            producer.push(&[2]).expect("room");
        });
        let mut received = 0;
        while consumer.next().expect("an honest producer").is_some() {
            received += 1;
        }
        let missed = dropped_by(&link.sender);
        match received {
            2 => {
                paths.take("both frames");
                assert_eq!(missed, 1, "the frame behind the gap came, the count did not");
            }
            1 => paths.take("the first frame"),
            _ => {}
        }
        paths.take_if(received < 2 && missed == 1, "a count before its frame");
        sending.join().expect("the sending side ends");
    });
}
