//! An `AsyncShmStream` behaves as tokio's `UnixStream` does: the same tests run over both, and
//! over both kinds of runtime.

use std::{
    future::poll_fn,
    io::{self, ErrorKind, IoSlice},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use shm_tests::{
    Place, alike_in_tasks,
    bytes::{bytes, size},
    pattern::Random,
    tasks::{current_thread, on_both_runtimes},
    within_wait,
};
use shm_transport::stream::{AsyncShmListener, AsyncShmStream, ShmStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio_util::codec::{Framed, LengthDelimitedCodec, LinesCodec};

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.expect_err("an error").kind()
}

/// Writes pieces of random sizes.
async fn write(stream: &mut (impl AsyncWrite + Unpin), total: usize, seed: u64) {
    let mut random = Random::new(seed);
    let mut at = 0;
    while at < total {
        let len = size(&mut random, 300_000, 300);
        let piece = bytes(at, len.min(total - at));
        stream.write_all(&piece).await.unwrap();
        at += piece.len();
    }
}

/// Reads pieces of random sizes, and checks every byte.
async fn check(stream: &mut (impl AsyncRead + Unpin), total: usize, seed: u64) {
    let mut random = Random::new(seed);
    let mut at = 0;
    let mut buffer = vec![0; 200_000];
    while at < total {
        let len = size(&mut random, 200_000, 200);
        let count = stream.read(&mut buffer[..len]).await.unwrap();
        assert!(count > 0, "the end at {at}");
        assert!(buffer[..count] == bytes(at, count), "other bytes at {at}");
        at += count;
    }
}

alike_in_tasks! {
    async fn every_byte_arrives_in_order_both_ways_at_once<S>() {
        let (left, right) = S::pair();
        let total = 4 << 20;
        let side = |stream, seed| async move {
            let (mut reader, mut writer) = tokio::io::split(stream);
            let writer = tokio::spawn(async move {
                write(&mut writer, total, seed).await;
                writer.shutdown().await.unwrap();
            });
            check(&mut reader, total, seed + 1).await;
            assert_eq!(reader.read(&mut [0; 9]).await.unwrap(), 0);
            writer.await.unwrap();
        };
        tokio::join!(side(left, 1), side(right, 3));
    }

    async fn after_a_shutdown_all_is_read_and_then_the_end_and_the_other_way_goes_on<S>() {
        let (mut left, mut right) = S::pair();
        left.write_all(b"the last words").await.unwrap();
        left.shutdown().await.unwrap();
        let mut text = String::new();
        right.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "the last words");
        assert_eq!(right.read(&mut [0; 9]).await.unwrap(), 0);
        right.write_all(b"an answer").await.unwrap();
        let mut answer = [0; 9];
        left.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"an answer");
        assert_eq!(kind(left.write(b"more").await), ErrorKind::BrokenPipe);
    }

    async fn a_dropped_peer_is_the_end_or_a_reset_and_a_broken_pipe<S>() {
        for unread in [false, true] {
            let (mut left, mut right) = S::pair();
            left.write_all(&bytes(0, 20_000)).await.unwrap();
            right.write_all(b"bye").await.unwrap();
            right.read_exact(&mut vec![0; if unread { 19_999 } else { 20_000 }]).await.unwrap();
            drop(right);
            left.read_exact(&mut [0; 3]).await.unwrap();
            assert_eq!(kind(left.write(b"x").await), ErrorKind::BrokenPipe);
            let read = left.read(&mut [0; 9]).await;
            match unread {
                true => assert_eq!(kind(read), ErrorKind::ConnectionReset),
                false => assert_eq!(read.unwrap(), 0),
            }
            assert_eq!(left.read(&mut [0; 9]).await.unwrap(), 0);
        }
    }

    async fn a_reader_and_a_writer_that_wait_learn_that_the_peer_is_gone<S>() {
        let (left, right) = S::pair();
        let (mut reader, mut writer) = tokio::io::split(left);
        let reader = tokio::spawn(async move { reader.read(&mut [0; 9]).await });
        let writer = tokio::spawn(async move { writer.write_all(&vec![0; 5 << 20]).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!reader.is_finished() && !writer.is_finished());
        drop(right);
        assert_eq!(kind(reader.await.unwrap()), ErrorKind::ConnectionReset);
        assert_eq!(kind(writer.await.unwrap()), ErrorKind::BrokenPipe);
    }

    async fn slices_are_written_in_their_order<S>() {
        let (mut left, mut right) = S::pair();
        assert!(left.is_write_vectored());
        let slices = [b"one ".as_slice(), b"", b"two ", b"three"].map(IoSlice::new);
        assert_eq!(left.write_vectored(&slices).await.unwrap(), 13);
        let mut text = [0; 13];
        right.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"one two three");
    }

    async fn reads_and_writes_of_nothing_do_nothing<S>() {
        let (mut left, mut right) = S::pair();
        assert_eq!(left.write(b"").await.unwrap(), 0);
        left.write_all(b"something").await.unwrap();
        assert_eq!(right.read(&mut []).await.unwrap(), 0);
        assert_eq!(right.read(&mut [0; 20]).await.unwrap(), 9);
    }

    // Polls a read and a write a few times each and drops them, again and again.
    async fn a_future_that_is_dropped_at_any_poll_loses_and_repeats_nothing<S>() {
        let (mut left, mut right) = S::pair();
        let (mut written, mut read) = (0, 0);
        let mut random = Random::new(7);
        let total = 3 << 20;
        let mut buffer = vec![0; 100_000];
        while read < total {
            let polls = random.below(3);
            let piece = bytes(written, (random.below(100_000) as usize).min(total - written));
            if let Some(count) = at_most(polls, left.write(&piece)).await {
                written += count.unwrap();
            }
            let len = 1 + random.below(99_999) as usize;
            if let Some(count) = at_most(random.below(3), right.read(&mut buffer[..len])).await {
                let count = count.unwrap();
                assert!(buffer[..count] == bytes(read, count));
                read += count;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn streams_are_copied_into_each_other<S>() {
        let ((mut client, mut inner), (mut outer, mut server)) = (S::pair(), S::pair());
        let proxy = tokio::spawn(async move { copy_bidirectional(&mut inner, &mut outer).await });
        let echo = tokio::spawn(async move {
            let mut all = Vec::new();
            server.read_to_end(&mut all).await.unwrap();
            server.write_all(&all).await.unwrap();
        });
        client.write_all(&bytes(0, 500_000)).await.unwrap();
        client.shutdown().await.unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert!(all == bytes(0, 500_000));
        assert_eq!(proxy.await.unwrap().unwrap(), (500_000, 500_000));
        echo.await.unwrap();
    }

    async fn frames_with_their_length_in_front_arrive_whole<S>() {
        let (left, right) = S::pair();
        let mut left = Framed::new(left, LengthDelimitedCodec::new());
        let mut right = Framed::new(right, LengthDelimitedCodec::new());
        let sizes = [0, 1, 8191, 8192, 65_536, 1 << 20, 3];
        let sender = tokio::spawn(async move {
            for size in sizes {
                left.send(Bytes::from(bytes(size, size))).await.unwrap();
            }
        });
        for size in sizes {
            assert!(right.next().await.unwrap().unwrap() == bytes(size, size));
        }
        assert!(right.next().await.is_none());
        sender.await.unwrap();
    }

    async fn lines_arrive_one_by_one<S>() {
        let (left, right) = S::pair();
        let mut left = Framed::new(left, LinesCodec::new());
        let mut right = Framed::new(right, LinesCodec::new());
        let sender = tokio::spawn(async move {
            for number in 0..2000 {
                left.feed(format!("line {number}")).await.unwrap();
            }
            SinkExt::<String>::close(&mut left).await.unwrap();
        });
        for number in 0..2000 {
            assert_eq!(right.next().await.unwrap().unwrap(), format!("line {number}"));
        }
        assert!(right.next().await.is_none());
        sender.await.unwrap();
    }
}

/// What a future is ready with after so many polls at most; else it is dropped.
async fn at_most<T>(polls: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let poll = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(found) = poll {
            return Some(found);
        }
    }
    None
}

/// Both halves wait in tasks of their own over the one socket.
#[test]
fn a_dropped_writer_ends_its_direction_and_the_reader_goes_on() {
    on_both_runtimes(|| async {
        let (left, mut right) = AsyncShmStream::pair().unwrap();
        let (mut reader, mut writer) = left.split();
        writer.write_all(b"question").await.unwrap();
        drop(writer);
        let mut question = String::new();
        right.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        right.write_all(b"answer").await.unwrap();
        drop(right);
        let mut answer = String::new();
        reader.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
    });
}

#[test]
fn a_listener_accepts_clients_of_both_forms_and_forgets_one_that_gives_up() {
    on_both_runtimes(|| async {
        let place = Place::new();
        let mut listener = AsyncShmListener::bind(place.hub()).unwrap();
        let error = AsyncShmStream::connect(place.file("nothing")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        {
            let path = place.hub();
            let mut given_up = pin!(AsyncShmStream::connect(path));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(given_up.as_mut().poll(&mut cx).is_pending());
        }
        let path = place.hub();
        let tasks = tokio::spawn(async move {
            for number in 0..10u8 {
                let mut stream = AsyncShmStream::connect(&path).await.unwrap();
                stream.write_all(&[number]).await.unwrap();
            }
        });
        for number in 0..10u8 {
            let mut stream = listener.next().await.unwrap().unwrap();
            assert_eq!(stream.peer_pid(), std::process::id());
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, [number]);
        }
        tasks.await.unwrap();
        let path = place.hub();
        let thread = std::thread::spawn(move || {
            let mut stream = ShmStream::connect(path).unwrap();
            io::Write::write_all(&mut stream, b"from a thread").unwrap();
        });
        let mut text = String::new();
        listener.accept().await.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "from a thread");
        thread.join().unwrap();
    });
}

/// A writer that is always ahead leaves the thread to other tasks.
#[test]
fn a_stream_that_always_has_something_to_read_does_not_starve_other_tasks() {
    within_wait(|| {
        let single = current_thread();
        single.block_on(async {
            let (left, mut right) = ShmStream::pair().unwrap();
            let mut left = AsyncShmStream::new(left).unwrap();
            let writer = std::thread::spawn(move || {
                // Until the reader is gone.
                while io::Write::write_all(&mut right, &[0; 50]).is_ok() {}
            });
            let reader = tokio::spawn(async move {
                loop {
                    left.read_exact(&mut [0; 1]).await.unwrap();
                }
            });
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            reader.abort();
            assert!(reader.await.unwrap_err().is_cancelled());
            writer.join().unwrap();
        });
    });
}
