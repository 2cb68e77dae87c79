//! Links, hosts and guests in tasks: on one thread and on several, and what becomes of whoever
//! waits when the other side goes.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use shm_tests::{
    Place, pattern, peer,
    raw::RawGuest,
    small,
    tasks::{on_both_runtimes, pair},
};
use shm_transport::{
    DetachError, Host, Link, LinkConfig, LinkEnd, RecvError, SendError,
    asynchronous::{AsyncGuest, AsyncHost, AsyncLink},
};
use tokio::time::timeout;

/// Small, of each size class, and sealed.
const MAX: usize = 20 << 10;

fn message(number: u64) -> Vec<u8> {
    pattern::message(number, pattern::length(number, MAX))
}

async fn send_all(link: &mut shm_transport::asynchronous::AsyncSender, count: u64) {
    for number in 0..count {
        link.send(&message(number)).await.unwrap();
    }
}

async fn receive_all(link: &mut shm_transport::asynchronous::AsyncReceiver, count: u64) {
    for number in 0..count {
        let received = link.recv().await.unwrap().to_bytes();
        assert_eq!(received, message(number), "message {number}");
    }
}

#[test]
fn messages_of_all_sizes_arrive_in_both_directions_at_once() {
    on_both_runtimes(|| async {
        let (left, right) = pair(&small());
        let halves = [left.split(), right.split()];
        let tasks: Vec<_> = halves
            .into_iter()
            .flat_map(|(mut sender, mut receiver)| {
                [
                    tokio::spawn(async move { send_all(&mut sender, 1000).await }),
                    tokio::spawn(async move { receive_all(&mut receiver, 1000).await }),
                ]
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn one_host_serves_many_guests_each_in_tasks_of_its_own() {
    const GUESTS: u64 = 32;
    on_both_runtimes(|| async {
        let place = Place::new();
        let mut host = AsyncHost::new(place.small_host()).unwrap();
        let path = place.hub();
        let guests: Vec<_> = (0..GUESTS)
            .map(|guest| {
                let path = path.clone();
                tokio::spawn(async move {
                    let mut guest_side = AsyncGuest::attach(&path).await.unwrap();
                    for number in 0..50 {
                        let question = message(guest * 1000 + number);
                        guest_side.link.send(&question).await.unwrap();
                        assert_eq!(guest_side.link.recv().await.unwrap().to_bytes(), question);
                    }
                    guest_side.detach().await.unwrap();
                })
            })
            .collect();
        let mut served = Vec::new();
        for _ in 0..GUESTS {
            let mut link = host.accept().await.unwrap();
            served.push(tokio::spawn(async move {
                loop {
                    let question = match link.recv().await {
                        Ok(question) => question.to_bytes(),
                        Err(RecvError::Ended(LinkEnd::Departed)) => break,
                        Err(error) => panic!("{error}"),
                    };
                    link.send(&question).await.unwrap();
                }
            }));
        }
        for task in guests.into_iter().chain(served) {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_stream_and_a_sink_carry_all_messages_and_the_end() {
    on_both_runtimes(|| async {
        let (left, right) = pair(&small());
        let (mut sender, _) = left.split();
        let (_, receiver) = right.split();
        let sending = tokio::spawn(async move {
            let mut messages =
                stream::iter((0..500).map(|number| Ok(Bytes::from(message(number)))));
            sender.send_all(&mut messages).await.unwrap();
            // Dropped here: that is the goodbye.
        });
        // One after the other: a sealed one is the sender's again when its bytes are dropped.
        let count = receiver.map(Result::unwrap).fold(0, async |number, received| {
            assert_eq!(received, message(number), "message {number}");
            number + 1
        });
        assert_eq!(count.await, 500);
        sending.await.unwrap();
    });
}

#[test]
fn a_stream_yields_an_end_without_a_goodbye_as_its_last_item() {
    on_both_runtimes(|| async {
        let place = Place::new();
        let mut host = AsyncHost::new(place.small_host()).unwrap();
        let mut guest = peer!("guest", place.hub());
        let link = host.accept().await.unwrap();
        let (_sender, mut receiver) = link.split();
        guest.kill();
        assert!(matches!(receiver.next().await, Some(Err(RecvError::Ended(LinkEnd::PeerDead)))));
        assert!(receiver.next().await.is_none());
    });
}

/// Fills everything that the other side would have to read first.
async fn fill(link: &mut AsyncLink) {
    while link.sender.try_send(&[0; 100]).is_ok() {}
}

#[test]
fn the_death_of_the_peer_ends_recv_send_and_closed() {
    on_both_runtimes(|| async {
        let place = Place::new();
        let mut host = AsyncHost::new(place.small_host()).unwrap();
        let mut guest = peer!("guest", place.hub());
        let mut link = host.accept().await.unwrap();
        fill(&mut link).await;
        let closed = tokio::spawn(link.closed());
        let (mut sender, mut receiver) = link.split();
        let sending = tokio::spawn(async move { sender.send(&[1; 100]).await });
        let receiving =
            tokio::spawn(async move { receiver.recv().await.map(|message| message.to_bytes()) });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!closed.is_finished() && !sending.is_finished() && !receiving.is_finished());
        guest.kill();
        assert_eq!(closed.await.unwrap(), LinkEnd::PeerDead);
        assert!(matches!(sending.await.unwrap(), Err(SendError::Ended(LinkEnd::PeerDead))));
        assert!(matches!(receiving.await.unwrap(), Err(RecvError::Ended(LinkEnd::PeerDead))));
    });
}

#[test]
fn the_goodbye_of_the_peer_ends_recv_send_and_closed_before_it_hangs_up() {
    on_both_runtimes(|| async {
        let (mut left, mut right) = pair(&small());
        fill(&mut left).await;
        right.send(b"unread").await.unwrap();
        let closed = tokio::spawn(left.closed());
        let (mut sender, mut receiver) = left.split();
        let sending = tokio::spawn(async move { sender.send(&[1; 100]).await });
        // It has not been read, so this waits.
        let detaching = tokio::spawn(right.detach());
        assert_eq!(closed.await.unwrap(), LinkEnd::Departed);
        assert!(matches!(sending.await.unwrap(), Err(SendError::Ended(LinkEnd::Departed))));
        assert!(!detaching.is_finished());
        assert_eq!(receiver.recv().await.unwrap().to_bytes(), "unread");
        assert!(matches!(
            receiver.recv().await.map(|message| message.to_bytes()),
            Err(RecvError::Ended(LinkEnd::Departed))
        ));
        detaching.await.unwrap().unwrap();
    });
}

#[test]
fn closed_alone_notices_a_goodbye_that_no_half_waits_for() {
    on_both_runtimes(|| async {
        let place = Place::new();
        let mut host = AsyncHost::new(place.small_host()).unwrap();
        let path = place.hub();
        let guest = tokio::spawn(async move { AsyncGuest::attach(&path).await.unwrap() });
        let link = host.accept().await.unwrap();
        let guest = guest.await.unwrap();
        let mut closed = pin!(guest.link.closed());
        assert!(timeout(Duration::from_millis(20), &mut closed).await.is_err());
        // The host leaves and hangs up on nobody.
        host.get().hub().say_goodbye();
        assert_eq!(closed.await, LinkEnd::Departed);
        drop(link);
    });
}

#[test]
fn an_eviction_ends_whoever_waits_on_either_side() {
    on_both_runtimes(|| async {
        let place = Place::new();
        let mut host = AsyncHost::new(place.small_host()).unwrap();
        let path = place.hub();
        let guest = tokio::spawn(async move {
            let mut guest = AsyncGuest::attach(&path).await.unwrap();
            guest.link.recv().await.map(|message| message.to_bytes())
        });
        let mut link = host.accept().await.unwrap();
        let peer = link.peer();
        let waiting =
            tokio::spawn(async move { link.recv().await.map(|message| message.to_bytes()) });
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(host.get().hub().evict(peer));
        let evicted = |result| matches!(result, Err(RecvError::Ended(LinkEnd::Evicted)));
        assert!(evicted(waiting.await.unwrap()));
        assert!(evicted(guest.await.unwrap()));
    });
}

#[test]
fn a_detach_says_when_the_peer_left_before_it_had_read_everything() {
    on_both_runtimes(|| async {
        let (mut left, right) = pair(&small());
        left.send(b"unread").await.unwrap();
        let detaching = tokio::spawn(left.detach());
        tokio::task::yield_now().await;
        drop(right);
        assert!(matches!(detaching.await.unwrap(), Err(DetachError::Ended(LinkEnd::Departed))));
    });
}

#[test]
fn a_task_waits_for_a_peer_that_blocks_a_thread() {
    on_both_runtimes(|| async {
        let (left, mut right) = Link::pair(&small()).unwrap();
        let mut left = AsyncLink::new(left).unwrap();
        let thread = std::thread::spawn(move || {
            for number in 0..300 {
                assert_eq!(right.recv(shm_tests::WAIT).unwrap().to_bytes(), message(number));
                right.send(&message(number), shm_tests::WAIT).unwrap();
            }
        });
        for number in 0..300 {
            left.send(&message(number)).await.unwrap();
            assert_eq!(left.recv().await.unwrap().to_bytes(), message(number));
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_link_that_is_always_ready_leaves_other_tasks_their_turn() {
    // On one thread: nobody else could run meanwhile.
    shm_tests::tasks::run(&shm_tests::tasks::current_thread(), async {
        let (left, right) = pair(&LinkConfig::default());
        let (mut sender, _left) = left.split();
        let (_right, mut receiver) = right.split();
        let flood = tokio::spawn(async move {
            loop {
                sender.send(b"again").await.unwrap();
                receiver.recv().await.unwrap();
            }
        });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        flood.abort();
    });
}

/// What it polls for is what another task of its thread is about to send.
#[test]
fn a_task_that_polls_leaves_other_tasks_their_turn() {
    on_both_runtimes(|| async {
        let (mut left, mut right) = pair(&small());
        left.set_spin(Duration::from_secs(3600));
        let polls = tokio::spawn(async move { left.recv().await.unwrap().to_bytes() });
        // By then it polls; and the runtime looks after its clock as well.
        tokio::time::sleep(Duration::from_millis(1)).await;
        right.send(b"a turn").await.unwrap();
        assert_eq!(polls.await.unwrap(), "a turn");
    });
}

#[test]
fn a_half_comes_back_from_its_runtime_with_what_was_not_received() {
    on_both_runtimes(|| async {
        let (left, right) = pair(&small());
        let (sender, _left) = left.split();
        let (_right, mut receiver) = right.split();
        assert!(timeout(Duration::from_millis(5), receiver.recv()).await.is_err());
        let mut sender = sender.into_sync();
        sender.try_send(b"one").unwrap();
        sender.try_send(b"two").unwrap();
        assert_eq!(receiver.recv().await.unwrap().to_bytes(), "one");
        let mut receiver = receiver.into_sync();
        assert_eq!(receiver.try_recv().unwrap().unwrap().to_bytes(), "two");
    });
}

#[test]
fn a_link_outlives_its_runtime_with_an_error() {
    let runtime = shm_tests::tasks::current_thread();
    let (mut left, right) = runtime.block_on(async { pair(&small()) });
    drop(runtime);
    let other = shm_tests::tasks::current_thread();
    other.block_on(async move {
        assert!(matches!(left.recv().await, Err(RecvError::Os(_))));
        drop(right);
    });
}

#[test]
fn a_host_of_another_configuration_serves_tasks() {
    on_both_runtimes(|| async {
        let place = Place::new();
        let builder = Host::builder().max_guests(1).link(small());
        let mut host = AsyncHost::new(place.host(builder)).unwrap();
        assert!(timeout(Duration::from_millis(5), host.accept()).await.is_err());
        let mut guest = peer!("guest", place.hub());
        let link = host.accept().await.unwrap();
        assert_eq!(link.peer_pid(), guest.pid());
        drop(link);
        guest.kill();
    });
}

/// A guest by hand that rings as fast as it can and publishes nothing, and then one message.
#[test]
fn a_peer_that_rings_for_nothing_costs_a_task_a_poll_now_and_then() {
    on_both_runtimes(|| async {
        let place = Place::new();
        let mut host = AsyncHost::new(place.small_host()).unwrap();
        let path = place.hub();
        let attaching = tokio::task::spawn_blocking(move || RawGuest::attach(&path));
        let link = host.accept().await.unwrap();
        let guest = attaching.await.unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let flood = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                guest.ring_bell();
            }
            guest
        });
        let closed = tokio::spawn(link.closed());
        let (_sender, mut receiver) = link.split();
        let start = Instant::now();
        let mut polls = 0;
        let mut receiving = pin!(receiver.recv());
        let flooded = poll_fn(|cx| {
            polls += 1;
            receiving.as_mut().poll(cx).map(|_| ())
        });
        assert!(timeout(Duration::from_millis(300), flooded).await.is_err());
        let milliseconds = start.elapsed().as_millis();
        assert!(polls < 100 + 4 * milliseconds, "{polls} polls in {milliseconds} ms");
        over.store(true, Ordering::Relaxed);
        let mut guest = flood.join().unwrap();
        guest.send_word(7);
        assert_eq!(receiving.await.unwrap().read_u64(0), Some(7));
        drop(guest);
        assert_eq!(closed.await.unwrap(), LinkEnd::PeerDead);
    });
}
