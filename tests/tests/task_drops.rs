//! A future can be dropped at any time: each test drops at each number of polls, and then finds
//! every message once, whole and in order.

use bytes::Bytes;
use futures_util::SinkExt;
use shm_tests::{
    Place, pattern, small,
    tasks::{dropped_after, on_both_runtimes, pair},
};
use shm_transport::{
    LinkEnd, RecvError,
    asynchronous::{AsyncGuest, AsyncHost, AsyncReceiver, AsyncSender},
};
use tokio::task::yield_now;

/// Polls after which futures are dropped, at most. Those of this library are ready after fewer
/// when nobody drops them.
const POLLS: usize = 5;
/// Messages for each number of polls.
const MESSAGES: u64 = 120;

/// Inline, in a slot of each size class, and sealed: in turn, and each of several lengths.
fn message(number: u64) -> Vec<u8> {
    let most = [128, 1 << 10, 8 << 10, 64 << 10][number as usize % 4];
    let least = most / 2;
    pattern::message(number, least + pattern::length(number, least))
}

/// Sends with futures that are dropped after so many polls, again and again. Returns how many
/// were dropped.
async fn send(sender: &mut AsyncSender, polls: usize) -> u64 {
    let mut dropped = 0;
    for number in 0..MESSAGES {
        let message = message(number);
        while dropped_after(polls, sender.send(&message)).await.map(Result::unwrap).is_none() {
            dropped += 1;
            yield_now().await;
        }
    }
    dropped
}

/// Receives in the same way.
async fn receive(receiver: &mut AsyncReceiver, polls: usize) -> u64 {
    let mut dropped = 0;
    for number in 0..MESSAGES {
        let received = loop {
            let received = dropped_after(polls, receiver.recv()).await;
            match received.map(|received| received.unwrap().to_bytes()) {
                Some(received) => break received,
                None => dropped += 1,
            }
            yield_now().await;
        };
        assert_eq!(received, message(number), "message {number}");
    }
    dropped
}

#[test]
fn no_message_is_lost_repeated_or_torn_when_sends_and_receives_are_dropped() {
    on_both_runtimes(|| async {
        let mut all_dropped = (0, 0);
        for polls in 1..=POLLS {
            // One side at a time is dropped as early as that: else neither ever sleeps.
            for (sends, receives) in [(polls, usize::MAX), (usize::MAX, polls), (polls, polls)] {
                let (left, right) = pair(&small());
                let ((mut sender, _left), (_right, mut receiver)) = (left.split(), right.split());
                let sending = tokio::spawn(async move { send(&mut sender, sends).await });
                let receiving = tokio::spawn(async move { receive(&mut receiver, receives).await });
                all_dropped.0 += sending.await.unwrap();
                all_dropped.1 += receiving.await.unwrap();
            }
        }
        assert!(all_dropped.0 > 0 && all_dropped.1 > 0, "{all_dropped:?}");
    });
}

#[test]
fn a_sink_keeps_what_it_has_taken_when_its_flush_is_dropped() {
    on_both_runtimes(|| async {
        for polls in 1..=POLLS {
            let (left, right) = pair(&small());
            let ((mut sender, _left), (_right, mut receiver)) = (left.split(), right.split());
            let sending = tokio::spawn(async move {
                for number in 0..MESSAGES {
                    // Ready once the message before it is sent.
                    while dropped_after(polls, sender.flush()).await.is_none() {
                        yield_now().await;
                    }
                    let message = Bytes::from(message(number));
                    sender.feed(message).await.unwrap();
                }
                sender.close().await.unwrap();
            });
            receive(&mut receiver, usize::MAX).await;
            sending.await.unwrap();
        }
    });
}

#[test]
fn no_guest_is_turned_away_when_accepts_are_dropped() {
    const GUESTS: usize = 12;
    on_both_runtimes(|| async {
        for polls in 1..=POLLS {
            let place = Place::new();
            let mut host = AsyncHost::new(place.small_host()).unwrap();
            let path = place.hub();
            let guests = tokio::spawn(async move {
                for number in 0..GUESTS {
                    let mut guest = AsyncGuest::attach(&path).await.unwrap();
                    guest.link.send(&[number as u8]).await.unwrap();
                    guest.detach().await.unwrap();
                }
            });
            for number in 0..GUESTS {
                let mut link = loop {
                    match dropped_after(polls, host.accept()).await {
                        Some(link) => break link.unwrap(),
                        None => yield_now().await,
                    }
                };
                assert_eq!(link.recv().await.unwrap().to_bytes(), [number as u8][..]);
            }
            guests.await.unwrap();
        }
    });
}

#[test]
fn an_attach_that_is_dropped_leaves_nothing_at_the_host() {
    on_both_runtimes(|| async {
        let place = Place::new();
        let mut host = AsyncHost::new(place.small_host()).unwrap();
        let path = place.hub();
        let guests = tokio::spawn(async move {
            let mut attached = 0;
            for polls in 1..=POLLS {
                for _ in 0..10 {
                    if let Some(guest) = dropped_after(polls, AsyncGuest::attach(&path)).await {
                        guest.unwrap().detach().await.unwrap();
                        attached += 1;
                    }
                    yield_now().await;
                }
            }
            let mut guest = AsyncGuest::attach(&path).await.unwrap();
            guest.link.send(b"last").await.unwrap();
            (guest, attached)
        });
        let (mut last, mut links) = (None, 0);
        while last.is_none() {
            let mut link = host.accept().await.unwrap();
            links += 1;
            let received = link.recv().await.map(|message| message.to_bytes());
            match received {
                Ok(message) => {
                    assert_eq!(message, "last");
                    last = Some(link);
                }
                Err(error) => assert!(matches!(error, RecvError::Ended(_)), "{error}"),
            }
        }
        let (guest, attached) = guests.await.unwrap();
        assert!(attached > 0, "with {POLLS} polls a guest attaches");
        assert!(links > attached);
        // Only the last one has an entry.
        shm_tests::eventually(|| (guest.peers().len() == 1).then_some(()));
    });
}

#[test]
fn a_detach_that_is_dropped_leaves_all_messages_to_the_peer() {
    on_both_runtimes(|| async {
        for polled in [false, true] {
            let (mut left, mut right) = pair(&small());
            left.send(b"first").await.unwrap();
            left.send(b"second").await.unwrap();
            let detaching = left.detach();
            if polled {
                // Nobody reads, so it is not polled again.
                assert!(dropped_after(1, detaching).await.is_none());
            } else {
                drop(detaching);
            }
            assert_eq!(right.recv().await.unwrap().to_bytes(), "first");
            assert_eq!(right.recv().await.unwrap().to_bytes(), "second");
            let end = right.recv().await.map(|message| message.to_bytes());
            assert!(matches!(end, Err(RecvError::Ended(LinkEnd::Departed))));
        }
    });
}
