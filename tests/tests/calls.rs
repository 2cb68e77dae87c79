//! Calls over a link: from both sides at once, cancelled at any time, and what becomes of them
//! when the other side is slow, gone, or hostile.

use std::{convert::Infallible, pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use shm_tests::{
    Place, WAIT, amount,
    calls::{Side, pair, until},
    pattern, peer, small,
    tasks::{self, dropped_after, on_both_runtimes},
};
use shm_transport::{
    Corruption, Deadline, Link, LinkConfig, LinkEnd,
    asynchronous::{AsyncHost, AsyncLink},
    call::{self, CallConfig, CallError, Caller, NoCalls},
};
use tokio::{task::yield_now, time::timeout};
use tower::{Service, ServiceBuilder, ServiceExt};

fn calls(max: u32) -> CallConfig {
    CallConfig { max_in_flight: max, max_served: max }
}

async fn call(caller: &Caller, request: impl Into<Bytes>) -> Result<Bytes, CallError> {
    caller.call_by(request.into(), WAIT).await
}

/// Inline, in a slot, and sealed.
fn request(number: u64) -> Bytes {
    pattern::message(number, pattern::length(number, 20 << 10)).into()
}

/// Many calls at once; each must get its own answer.
async fn call_many(caller: Caller, first: u64, count: u64) {
    let mut answers = FuturesUnordered::new();
    for number in first..first + count {
        let caller = caller.clone();
        answers.push(async move { (number, call(&caller, request(number)).await) });
    }
    while let Some((number, answer)) = answers.next().await {
        assert_eq!(answer.unwrap(), request(number), "call {number}");
    }
}

#[test]
fn both_sides_have_many_calls_in_flight_at_once_and_each_gets_its_own_answer() {
    let count = amount("SHM_TEST_CALLS", 1000);
    on_both_runtimes(move || async move {
        let (left, right) = pair(&small(), &calls(16));
        let calling = [
            tokio::spawn(call_many(left.caller.clone(), 0, count)),
            tokio::spawn(call_many(left.caller.clone(), 10_000_000, count)),
            tokio::spawn(call_many(right.caller.clone(), 20_000_000, count)),
        ];
        for task in calling {
            task.await.unwrap();
        }
        assert_eq!((left.handled.started(), right.handled.started()), (count, 2 * count));
    });
}

#[test]
fn answers_come_in_any_order() {
    on_both_runtimes(|| async {
        let (left, right) = pair(&small(), &calls(4));
        let mut hanging = Box::pin(call(&left.caller, "hang"));
        assert!(dropped_after(1, &mut hanging).await.is_none());
        assert_eq!(call(&left.caller, "second").await.unwrap(), "second");
        assert_eq!(call(&left.caller, "third").await.unwrap(), "third");
        drop(hanging);
        until(|| right.handled.running() == 0).await;
    });
}

#[test]
fn requests_are_handled_in_the_order_of_the_calls() {
    tasks::run(&tasks::current_thread(), async {
        let (left, right) = tasks::pair(&small());
        let (seen, mut order) = tokio::sync::mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Bytes| {
            seen.send(request.clone()).unwrap();
            async move { Ok::<_, Infallible>(request) }
        });
        let (_, driver) = call::connect(right, service, &calls(8));
        tokio::spawn(driver);
        let (mut caller, driver) = call::connect(left, NoCalls, &calls(8));
        tokio::spawn(driver);
        let mut all = Vec::new();
        for number in 0..8u64 {
            all.push(caller.ready().await.unwrap().call(Bytes::from(number.to_string())));
        }
        for (number, answer) in all.into_iter().enumerate() {
            assert_eq!(answer.await.unwrap(), number.to_string());
            assert_eq!(order.recv().await.unwrap(), number.to_string());
        }
    });
}

/// Polls a future so many times, whether it was woken or not, and drops it.
async fn polled<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        if let Some(output) = dropped_after(1, future.as_mut()).await {
            return Some(output);
        }
        yield_now().await;
    }
    None
}

#[test]
fn a_call_dropped_at_any_poll_is_cancelled_at_both_sides_and_the_link_goes_on() {
    on_both_runtimes(|| async {
        let (left, right) = pair(&small(), &calls(3));
        let mut dropped = 0;
        for polls in 1..=6 {
            for number in 0..40 {
                let hangs = number % 2 == 0;
                let sent = if hangs { Bytes::from("hang") } else { request(number) };
                match polled(polls, call(&left.caller, sent.clone())).await {
                    Some(answer) => assert_eq!(answer.unwrap(), sent),
                    None => dropped += 1,
                }
            }
            // All three may be in flight again.
            call_many(left.caller.clone(), 100, 9).await;
        }
        assert!(dropped >= 120, "{dropped}");
        until(|| right.handled.running() == 0).await;
        assert!(right.handled.started() > 54);
    });
}

#[test]
fn a_call_that_was_sent_and_is_dropped_drops_the_future_of_its_handler() {
    on_both_runtimes(|| async {
        let (left, right) = pair(&small(), &calls(4));
        let hanging = tokio::spawn({
            let caller = left.caller.clone();
            async move { call(&caller, "hang").await }
        });
        until(|| right.handled.running() == 1).await;
        hanging.abort();
        until(|| right.handled.running() == 0).await;
    });
}

#[test]
fn a_deadline_ends_a_call_and_its_handler() {
    on_both_runtimes(|| async {
        let (left, right) = pair(&small(), &calls(1));
        let wait = Duration::from_millis(20);
        let answer = left.caller.call_by("hang".into(), wait).await;
        assert!(matches!(answer, Err(CallError::DeadlineExceeded)), "{answer:?}");
        until(|| right.handled.running() == 0).await;
        // The wait for room counts as well.
        let mut hanging = Box::pin(call(&left.caller, "hang"));
        assert!(dropped_after(1, &mut hanging).await.is_none());
        let answer = left.caller.call_by("more".into(), wait).await;
        assert!(matches!(answer, Err(CallError::DeadlineExceeded)), "{answer:?}");
        drop(hanging);
        let answer = left.caller.call_by("soon".into(), Deadline::NEVER).await;
        assert_eq!(answer.unwrap(), "soon");
    });
}

#[test]
fn a_failure_comes_as_its_message_and_a_panic_is_one() {
    on_both_runtimes(|| async {
        let (left, right) = pair(&small(), &calls(4));
        for (request, expected) in [
            ("fail", "as it was told"),
            ("panic", "the handler ended without an answer"),
            ("huge", "the answer has 1048576 bytes, the link carries up to 65520"),
        ] {
            match call(&left.caller, request).await {
                Err(CallError::Failed { message }) => assert_eq!(message, expected),
                answer => panic!("{answer:?}"),
            }
        }
        let answer = call(&left.caller, vec![0; 64 << 10]).await;
        assert!(
            matches!(answer, Err(CallError::TooLarge { len: 65536, max: 65520 })),
            "{answer:?}"
        );
        assert_eq!(call(&left.caller, vec![0; 65520]).await.unwrap().len(), 65520);
        assert_eq!(right.handled.running(), 0);
    });
}

#[test]
fn a_side_that_takes_no_calls_says_so() {
    on_both_runtimes(|| async {
        let (left, right) = tasks::pair(&small());
        let (_, driver) = call::connect(right, NoCalls, &calls(4));
        tokio::spawn(driver);
        let left = Side::new(left, &calls(4));
        let answer = call(&left.caller, "anybody?").await;
        assert!(matches!(answer, Err(CallError::Failed { .. })), "{answer:?}");
    });
}

#[test]
fn no_more_calls_are_in_flight_than_either_side_allows() {
    on_both_runtimes(|| async {
        let (left, right) = tasks::pair(&small());
        let left = Side::new(left, &calls(100));
        let right = Side::new(right, &calls(3));
        let mut caller = left.caller.clone();
        let mut hanging = Vec::new();
        for _ in 0..3 {
            hanging.push(caller.ready().await.unwrap().call("hang".into()));
        }
        until(|| right.handled.running() == 3).await;
        // For as long as nothing is answered.
        assert!(timeout(Duration::from_millis(20), caller.ready()).await.is_err());
        assert!(matches!(
            Service::call(&mut left.caller.clone(), Bytes::new()).await,
            Err(CallError::NotReady)
        ));
        hanging.pop();
        let one = caller.ready().await.unwrap().call("one".into());
        assert_eq!(one.await.unwrap(), "one");
        assert_eq!(right.handled.running(), 2);
    });
}

#[test]
fn nothing_is_lost_when_neither_side_has_room_for_requests_and_answers() {
    // More and larger ones in flight than rings and pools have room for, in both directions.
    on_both_runtimes(|| async {
        let link = LinkConfig { sealed_limit: 1, ..small() };
        let (left, right) = pair(&link, &calls(50));
        let large = |side: &Side, first: u64| {
            let caller = side.caller.clone();
            tokio::spawn(async move {
                let all: FuturesUnordered<_> = (0..100)
                    .map(|number| {
                        let request = Bytes::from(pattern::message(first + number, 7 << 10));
                        let caller = &caller;
                        async move {
                            assert_eq!(call(caller, request.clone()).await.unwrap(), request);
                        }
                    })
                    .collect();
                all.collect::<()>().await;
            })
        };
        let (first, second) = (large(&left, 0), large(&right, 1000));
        first.await.unwrap();
        second.await.unwrap();
    });
}

#[test]
fn all_calls_in_flight_end_with_peer_dead_when_the_other_process_is_killed() {
    on_both_runtimes(|| async {
        let place = Place::new();
        let mut host = AsyncHost::new(place.small_host()).unwrap();
        let mut guest = peer!("calls", place.hub(), "0");
        let side = Side::new(host.accept().await.unwrap(), &calls(64));
        assert_eq!(call(&side.caller, "alive").await.unwrap(), "alive");
        let mut hanging = Vec::new();
        // More than may be in flight: some wait for room.
        for number in 0..80 {
            let caller = side.caller.clone();
            hanging.push(tokio::spawn(async move {
                let answer = match number % 2 {
                    0 => caller.call_by("hang".into(), Deadline::NEVER).await,
                    _ => caller.clone().ready().await?.call("hang".into()).await,
                };
                answer.map(drop)
            }));
        }
        // Each call before was answered, and all these hang.
        until(|| side.caller.clone().ready().now_or_never().is_none()).await;
        guest.kill();
        for task in hanging {
            let answer = task.await.unwrap();
            assert!(matches!(answer, Err(CallError::Ended(LinkEnd::PeerDead))), "{answer:?}");
        }
        let answer = call(&side.caller, "dead?").await;
        assert!(matches!(answer, Err(CallError::Ended(LinkEnd::PeerDead))), "{answer:?}");
        assert_eq!(side.driver.await.unwrap().unwrap(), LinkEnd::PeerDead);
    });
}

#[test]
fn two_processes_call_each_other_until_one_leaves() {
    on_both_runtimes(|| async {
        let place = Place::new();
        let mut host = AsyncHost::new(place.small_host()).unwrap();
        let mut guest = peer!("calls", place.hub(), "200");
        let side = Side::new(host.accept().await.unwrap(), &calls(64));
        call_many(side.caller.clone(), 0, 200).await;
        until(|| side.handled.started() == 200 && side.handled.running() == 0).await;
        let hanging = tokio::spawn({
            let caller = side.caller.clone();
            async move { call(&caller, "hang").await }
        });
        assert_eq!(guest.answer(), "called");
        // Dropped: that is the goodbye.
        side.driver.abort();
        let answer = hanging.await.unwrap();
        assert!(matches!(answer, Err(CallError::Stopped)), "{answer:?}");
        assert_eq!(guest.answer(), "Departed");
        guest.succeeds();
    });
}

const HELLO: u64 = 1;
const REQUEST: u64 = 2;
const ANSWER: u64 = 3;
const FAILURE: u64 = 4;
const CANCEL: u64 = 5;

fn frame(kind: u64, call: u64, body: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &call.to_le_bytes(), body].concat()
}

/// A side of calls, and its peer to be played by hand, which has said hello.
async fn side_and_raw() -> (Side, AsyncLink) {
    let (left, mut raw) = tasks::pair(&small());
    let side = Side::new(left, &calls(4));
    raw.send(&frame(HELLO, 4, b"shmcall1")).await.unwrap();
    let hello = raw.recv().await.unwrap().to_bytes();
    assert_eq!(hello, frame(HELLO, 4, b"shmcall1"));
    (side, raw)
}

#[test]
fn answers_that_are_unknown_late_or_repeated_are_ignored() {
    on_both_runtimes(|| async {
        let (side, mut raw) = side_and_raw().await;
        for kind in [ANSWER, FAILURE, CANCEL] {
            for call in [7, 8, 1 << 40, u64::MAX] {
                raw.send(&frame(kind, call, b"unasked")).await.unwrap();
            }
        }
        let caller = side.caller.clone();
        let first = tokio::spawn(async move { call(&caller, "first").await });
        let request = raw.recv().await.unwrap().to_bytes();
        assert_eq!(request, frame(REQUEST, 0, b"first"));
        for body in [b"one", b"two"] {
            raw.send(&frame(ANSWER, 0, body)).await.unwrap();
        }
        raw.send(&frame(FAILURE, 0, b"three")).await.unwrap();
        assert_eq!(first.await.unwrap().unwrap(), "one");

        // Late.
        let answer = side.caller.call_by("second".into(), Duration::from_millis(5)).await;
        assert!(matches!(answer, Err(CallError::DeadlineExceeded)));
        assert_eq!(raw.recv().await.unwrap().to_bytes(), frame(REQUEST, 1, b"second"));
        raw.send(&frame(ANSWER, 1, b"late")).await.unwrap();
        assert_eq!(raw.recv().await.unwrap().to_bytes(), frame(CANCEL, 1, b""));
        raw.send(&frame(ANSWER, 1, b"later")).await.unwrap();

        let caller = side.caller.clone();
        let third = tokio::spawn(async move { call(&caller, "third").await });
        assert_eq!(raw.recv().await.unwrap().to_bytes(), frame(REQUEST, 2, b"third"));
        // A message that is no UTF-8, and longer than any honest one.
        raw.send(&frame(FAILURE, 2, &[0xff; 4 << 10])).await.unwrap();
        match third.await.unwrap() {
            Err(CallError::Failed { message }) => assert_eq!(message.chars().count(), 1 << 10),
            answer => panic!("{answer:?}"),
        }
        // It is still served.
        raw.send(&frame(REQUEST, 9, b"and you?")).await.unwrap();
        assert_eq!(raw.recv().await.unwrap().to_bytes(), frame(ANSWER, 9, b"and you?"));
    });
}

#[test]
fn a_peer_that_breaks_the_protocol_ends_its_link_and_the_calls_over_it() {
    on_both_runtimes(|| async {
        let garbage: [&[Vec<u8>]; 8] = [
            &[vec![]],
            &[vec![3; 15]],
            &[frame(0, 1, b"")],
            &[frame(6, 1, b"")],
            &[frame(HELLO, 4, b"shmcall1")],
            &[frame(REQUEST | 1 << 40, 0, b"")],
            // One number twice.
            &[frame(REQUEST, 1, b"hang"), frame(REQUEST, 1, b"hang")],
            // More than four at once.
            &[0, 1, 2, 3, 4].map(|call| frame(REQUEST, call, b"hang")),
        ];
        for frames in garbage {
            let (side, mut raw) = side_and_raw().await;
            let caller = side.caller.clone();
            let waiting = tokio::spawn(async move { call(&caller, "hang").await });
            assert_eq!(raw.recv().await.unwrap().to_bytes(), frame(REQUEST, 0, b"hang"));
            for frame in frames {
                raw.send(frame).await.unwrap();
            }
            let end = LinkEnd::Corrupt(Corruption::Call);
            let answer = waiting.await.unwrap();
            assert!(matches!(answer, Err(CallError::Ended(ended)) if ended == end), "{answer:?}");
            assert_eq!(side.driver.await.unwrap().unwrap(), end);
            assert_eq!(raw.closed().await, LinkEnd::Departed);
            until(|| side.handled.running() == 0).await;
        }
    });
}

#[test]
fn a_peer_that_says_no_hello_ends_its_link() {
    on_both_runtimes(|| async {
        let firsts = [
            b"an ordinary message".to_vec(),
            frame(HELLO, 4, b"shmcall2"),
            frame(REQUEST, 0, b"hang"),
            frame(HELLO, 4, b""),
        ];
        for first in firsts {
            let (left, mut raw) = tasks::pair(&small());
            let side = Side::new(left, &calls(4));
            raw.send(&first).await.unwrap();
            let end = LinkEnd::Corrupt(Corruption::Call);
            assert_eq!(side.driver.await.unwrap().unwrap(), end);
            let answer = call(&side.caller, "hello?").await;
            assert!(matches!(answer, Err(CallError::Ended(ended)) if ended == end), "{answer:?}");
        }
    });
}

#[test]
fn calls_wait_for_a_hello_and_no_hello_allows_more_than_this_side() {
    on_both_runtimes(|| async {
        let (left, mut raw) = tasks::pair(&small());
        let side = Side::new(left, &calls(2));
        let mut caller = side.caller.clone();
        assert!(timeout(Duration::from_millis(5), caller.ready()).await.is_err());
        raw.send(&frame(HELLO, u64::MAX, b"shmcall1")).await.unwrap();
        let _two = [
            caller.ready().await.unwrap().call("1".into()),
            caller.ready().await.unwrap().call("2".into()),
        ];
        assert!(timeout(Duration::from_millis(5), caller.ready()).await.is_err());
    });
}

#[test]
fn requests_that_are_cancelled_at_once_again_and_again_fill_no_memory() {
    on_both_runtimes(|| async {
        let (side, mut raw) = side_and_raw().await;
        for number in 0..2000 {
            raw.send(&frame(REQUEST, number, b"hang")).await.unwrap();
            raw.send(&frame(CANCEL, number, b"")).await.unwrap();
        }
        raw.send(&frame(REQUEST, 5000, b"done?")).await.unwrap();
        assert_eq!(raw.recv().await.unwrap().to_bytes(), frame(ANSWER, 5000, b"done?"));
        until(|| side.handled.running() == 0).await;
    });
}

#[test]
fn a_peer_that_reads_no_answers_has_only_as_many_as_it_may() {
    on_both_runtimes(|| async {
        let (side, mut raw) = side_and_raw().await;
        // The answers do not fit, and five are more than four.
        let mut number = 0;
        while raw.send(&frame(REQUEST, number, &[7; 8000])).await.is_ok() {
            number += 1;
            assert!(number < 100);
        }
        assert_eq!(side.driver.await.unwrap().unwrap(), LinkEnd::Corrupt(Corruption::Call));
    });
}

#[test]
fn the_layers_of_tower_go_around_a_caller() {
    #[derive(Clone)]
    struct Again(u32);

    impl tower::retry::Policy<Bytes, Bytes, tower::BoxError> for Again {
        type Future = std::future::Ready<()>;

        fn retry(
            &mut self,
            _: &mut Bytes,
            result: &mut Result<Bytes, tower::BoxError>,
        ) -> Option<Self::Future> {
            self.0 = self.0.checked_sub(1)?;
            result.is_err().then(|| std::future::ready(()))
        }

        fn clone_request(&mut self, request: &Bytes) -> Option<Bytes> {
            Some(request.clone())
        }
    }

    on_both_runtimes(|| async {
        let (left, right) = pair(&small(), &calls(8));
        let mut service = ServiceBuilder::new()
            .retry(Again(2))
            .concurrency_limit(2)
            .timeout(Duration::from_millis(50))
            .service(left.caller.clone());
        let answer = service.ready().await.unwrap().call("fine".into()).await;
        assert_eq!(answer.unwrap(), "fine");
        assert_eq!(right.handled.started(), 1);
        // Once, and twice again.
        let answer = service.ready().await.unwrap().call("fail".into()).await;
        assert!(answer.unwrap_err().downcast::<CallError>().is_ok());
        assert_eq!(right.handled.started(), 4);
        let answer = service.ready().await.unwrap().call("hang".into()).await;
        assert!(answer.unwrap_err().is::<tower::timeout::error::Elapsed>());
        until(|| right.handled.running() == 0).await;
        assert_eq!(right.handled.started(), 7);

        // And around a handler.
        let (left, right) = tasks::pair(&small());
        let handler = ServiceBuilder::new()
            .concurrency_limit(1)
            .timeout(Duration::from_millis(20))
            .service(shm_tests::calls::Obedient::default());
        let (_, driver) = call::connect(right, handler, &calls(8));
        tokio::spawn(driver);
        let left = Side::new(left, &calls(8));
        let (hangs, answers) = tokio::join!(
            call(&left.caller, "hang"),
            // It waits for the first one's end.
            call(&left.caller, "fine"),
        );
        assert!(matches!(hangs, Err(CallError::Failed { .. })), "{hangs:?}");
        assert_eq!(answers.unwrap(), "fine");
    });
}

#[test]
fn threads_without_tasks_call_through_the_runtime() {
    tasks::run(&tasks::multi_thread(), async {
        let (left, right) = Link::pair(&small()).unwrap();
        let left = Side::new(AsyncLink::new(left).unwrap(), &CallConfig::default());
        let _right = Side::new(AsyncLink::new(right).unwrap(), &CallConfig::default());
        let runtime = tokio::runtime::Handle::current();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (caller, runtime) = (left.caller.clone(), runtime.clone());
                std::thread::spawn(move || {
                    for number in 0..50 {
                        let request = format!("{thread} {number}");
                        let answer = runtime.block_on(call(&caller, request.clone()));
                        assert_eq!(answer.unwrap(), request);
                    }
                })
            })
            .collect();
        tokio::task::spawn_blocking(|| {
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        })
        .await
        .unwrap();
    });
}
