//! A `ShmStream` behaves as a `UnixStream` does: the same tests run over both.

use std::{
    io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use shm_tests::{
    Place, WAIT,
    bytes::{ByteStream, bytes, size},
    eventually,
    pattern::Random,
    peer, within_wait,
};
use shm_transport::stream::ShmStream;

/// Makes a test over each kind of stream from each function.
macro_rules! alike {
    ($(fn $name:ident<$stream:ident>() $body:block)+) => {
        $(fn $name<$stream: Kind>() $body)+
        mod unix_stream {
            $(#[test] fn $name() { super::within_wait(super::$name::<super::UnixStream>) })+
        }
        mod shm_stream {
            $(#[test] fn $name() { super::within_wait(super::$name::<super::ShmStream>) })+
        }
    };
}

trait Kind: ByteStream {
    const NAME: &str;
}

impl Kind for UnixStream {
    const NAME: &str = "unix";
}

impl Kind for ShmStream {
    const NAME: &str = "shm";
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.expect_err("an error").kind()
}

/// Writes until there is no room; returns how many bytes.
fn fill(stream: &mut impl ByteStream) -> usize {
    stream.set_nonblocking(true).unwrap();
    let mut written = 0;
    loop {
        match stream.write(&bytes(written, 10_000)) {
            Ok(count) => written += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                stream.set_nonblocking(false).unwrap();
                return written;
            }
        }
    }
}

/// Writes and reads pieces of random sizes, and checks every byte.
fn exchange<S: ByteStream>(mut near: S, far: S, total: usize, seed: u64) -> (S, S) {
    let write = move |mut stream: S, seed| {
        let mut random = Random::new(seed);
        let mut at = 0;
        while at < total {
            let len = size(&mut random, 300_000, 300);
            let piece = bytes(at, len.min(total - at));
            stream.write_all(&piece).unwrap();
            at += piece.len();
        }
        stream
    };
    let writer = thread::spawn(move || write(far, seed));
    let mut random = Random::new(seed + 1);
    let mut at = 0;
    let mut buffer = vec![0; 200_000];
    while at < total {
        let len = size(&mut random, 200_000, 200);
        let count = near.read(&mut buffer[..len]).unwrap();
        assert!(count > 0, "the end at {at}");
        assert!(buffer[..count] == bytes(at, count), "other bytes at {at}");
        at += count;
    }
    (near, writer.join().unwrap())
}

alike! {
    fn every_byte_arrives_in_order_whatever_the_sizes_of_writes_and_reads<S>() {
        let (left, right) = S::pair();
        let (left, right) = exchange(left, right, 20 << 20, 1);
        exchange(right, left, 20 << 20, 3);
    }

    fn after_a_half_close_all_is_read_and_then_the_end_again_and_again<S>() {
        let (mut left, mut right) = S::pair();
        left.write_all(b"the last words").unwrap();
        left.shutdown(Shutdown::Write).unwrap();
        left.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        right.read_to_string(&mut text).unwrap();
        assert_eq!(text, "the last words");
        for _ in 0..3 {
            assert_eq!(right.read(&mut [0; 9]).unwrap(), 0);
        }
        // The other direction goes on.
        right.write_all(b"an answer").unwrap();
        let mut answer = [0; 9];
        left.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"an answer");
        assert_eq!(kind(left.write(b"more")), ErrorKind::BrokenPipe);
        assert_eq!(kind(left.write(b"")), ErrorKind::BrokenPipe);
        drop(right);
        assert_eq!(left.read(&mut [0; 9]).unwrap(), 0);
    }

    fn what_a_dropped_stream_has_written_is_read_and_then_the_end<S>() {
        let (mut left, mut right) = S::pair();
        left.write_all(&bytes(0, 30_000)).unwrap();
        drop(left);
        let mut all = Vec::new();
        right.read_to_end(&mut all).unwrap();
        assert!(all == bytes(0, 30_000));
        assert_eq!(right.read(&mut [0; 9]).unwrap(), 0);
        assert_eq!(kind(right.write(b"x")), ErrorKind::BrokenPipe);
        assert_eq!(kind(right.write(b"")), ErrorKind::BrokenPipe);
    }

    fn a_peer_that_drops_unread_bytes_is_a_reset_once_after_its_own_bytes<S>() {
        // What the peer has read of the 20,000 bytes that were written to it.
        for read in [0, 1, 19_999] {
            let (mut left, mut right) = S::pair();
            left.write_all(&bytes(0, 20_000)).unwrap();
            right.read_exact(&mut vec![0; read]).unwrap();
            right.write_all(b"bye").unwrap();
            drop(right);
            let mut answer = [0; 3];
            left.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"bye");
            assert_eq!(kind(left.write(b"x")), ErrorKind::BrokenPipe);
            assert_eq!(kind(left.read(&mut [0; 9])), ErrorKind::ConnectionReset, "{read}");
            assert_eq!(left.read(&mut [0; 9]).unwrap(), 0);
        }
    }

    fn a_peer_that_drops_nothing_unread_is_no_reset_even_if_it_has_not_seen_the_end<S>() {
        for (pieces, len) in [(1, 5), (1, 20_000), (100, 5), (10, 5_000)] {
            let (mut left, mut right) = S::pair();
            for round in 0..2 {
                for piece in 0..pieces {
                    left.write_all(&bytes(piece * len, len)).unwrap();
                }
                if round == 1 {
                    left.shutdown(Shutdown::Write).unwrap();
                }
                right.read_exact(&mut vec![0; pieces * len]).unwrap();
            }
            drop(right);
            assert_eq!(left.read(&mut [0; 9]).unwrap(), 0, "{pieces} times {len}");
            assert_eq!(kind(left.write(b"x")), ErrorKind::BrokenPipe);
        }
    }

    fn after_a_shutdown_of_both_directions_the_peer_reads_the_end_and_cannot_write<S>() {
        let (mut left, mut right) = S::pair();
        left.write_all(b"bye").unwrap();
        left.shutdown(Shutdown::Both).unwrap();
        assert_eq!(left.read(&mut [0; 9]).unwrap(), 0);
        assert_eq!(kind(left.write(b"x")), ErrorKind::BrokenPipe);
        let mut text = String::new();
        right.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bye");
        assert_eq!(kind(right.write(b"x")), ErrorKind::BrokenPipe);
    }

    fn after_a_shutdown_of_reading_what_is_there_is_read_and_then_the_end<S>() {
        let (mut left, mut right) = S::pair();
        right.write_all(b"before").unwrap();
        left.shutdown(Shutdown::Read).unwrap();
        let mut before = [0; 6];
        left.read_exact(&mut before).unwrap();
        assert_eq!(&before, b"before");
        assert_eq!(left.read(&mut [0; 9]).unwrap(), 0);
        left.write_all(b"still here").unwrap();
        let mut text = [0; 10];
        right.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"still here");
    }

    fn reads_and_writes_of_nothing_do_nothing<S>() {
        let (mut left, mut right) = S::pair();
        assert_eq!(left.write(b"").unwrap(), 0);
        assert_eq!(left.write_vectored(&[]).unwrap(), 0);
        assert_eq!(left.write_vectored(&[IoSlice::new(b""); 3]).unwrap(), 0);
        left.write_all(b"something").unwrap();
        assert_eq!(right.read(&mut []).unwrap(), 0);
        assert_eq!(right.read_vectored(&mut []).unwrap(), 0);
        let mut text = [0; 9];
        assert_eq!(right.read(&mut text).unwrap(), 9);
        assert_eq!(&text, b"something");
        // To write nothing was not to end.
        right.set_nonblocking(true).unwrap();
        assert_eq!(kind(right.read(&mut text)), ErrorKind::WouldBlock);
    }

    fn a_read_returns_what_is_there_and_no_bytes_are_lost_between_reads<S>() {
        let (mut left, mut right) = S::pair();
        left.write_all(&bytes(0, 100)).unwrap();
        left.write_all(&bytes(100, 100)).unwrap();
        let mut read = Vec::new();
        for len in [1, 3, 90, 10, 50, 1000] {
            let mut buffer = vec![0; len];
            let count = right.read(&mut buffer).unwrap();
            assert!(count > 0 && count <= len);
            read.extend_from_slice(&buffer[..count]);
        }
        assert!(read == bytes(0, 200));
    }

    fn slices_are_written_and_read_in_their_order<S>() {
        let (mut left, mut right) = S::pair();
        let slices = [b"one ".as_slice(), b"", b"two ", b"three"].map(IoSlice::new);
        assert_eq!(left.write_vectored(&slices).unwrap(), 13);
        let (mut head, mut none, mut tail) = ([0; 3], [], [0; 20]);
        let mut buffers =
            [&mut none[..], &mut head[..], &mut tail[..]].map(IoSliceMut::new);
        assert_eq!(right.read_vectored(&mut buffers).unwrap(), 13);
        assert_eq!((&head, &tail[..10]), (b"one", b" two three".as_slice()));
    }

    fn a_read_waits_no_longer_than_its_timeout<S>() {
        let (mut left, mut right) = S::pair();
        let wait = Duration::from_millis(30);
        right.set_read_timeout(Some(wait)).unwrap();
        let start = Instant::now();
        assert_eq!(kind(right.read(&mut [0; 9])), ErrorKind::WouldBlock);
        assert!(start.elapsed() >= wait - Duration::from_millis(1));
        assert_eq!(kind(right.set_read_timeout(Some(Duration::ZERO))), ErrorKind::InvalidInput);
        left.write_all(b"late").unwrap();
        assert_eq!(right.read(&mut [0; 9]).unwrap(), 4);
        right.set_read_timeout(None).unwrap();
        left.shutdown(Shutdown::Write).unwrap();
        assert_eq!(right.read(&mut [0; 9]).unwrap(), 0);
    }

    fn a_write_waits_no_longer_than_its_timeout_and_goes_on_when_there_is_room<S>() {
        let (mut left, mut right) = S::pair();
        let written = fill(&mut left);
        let wait = Duration::from_millis(30);
        left.set_write_timeout(Some(wait)).unwrap();
        assert_eq!(kind(left.set_write_timeout(Some(Duration::ZERO))), ErrorKind::InvalidInput);
        let start = Instant::now();
        assert_eq!(kind(left.write(&bytes(written, 10_000))), ErrorKind::WouldBlock);
        assert!(start.elapsed() >= wait - Duration::from_millis(1));
        let mut all = vec![0; written];
        right.read_exact(&mut all).unwrap();
        assert!(all == bytes(0, written));
        assert_eq!(left.write(b"more").unwrap(), 4);
        right.read_exact(&mut [0; 4]).unwrap();
    }

    fn without_waiting_calls_would_block_and_then_go_on<S>() {
        let (mut left, mut right) = S::pair();
        right.set_nonblocking(true).unwrap();
        assert_eq!(kind(right.read(&mut [0; 9])), ErrorKind::WouldBlock);
        let written = fill(&mut left);
        assert!(written >= 64 << 10);
        let mut read = vec![0; written];
        let mut at = 0;
        while at < written {
            at += right.read(&mut read[at..]).unwrap();
        }
        assert!(read == bytes(0, written));
        assert_eq!(kind(right.read(&mut [0; 9])), ErrorKind::WouldBlock);
        left.set_nonblocking(true).unwrap();
        assert!(left.write(b"more").is_ok());
    }

    fn a_half_close_with_a_full_buffer_does_not_wait_and_loses_nothing<S>() {
        let (mut left, mut right) = S::pair();
        let written = fill(&mut left);
        left.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        right.read_to_end(&mut all).unwrap();
        assert!(all == bytes(0, written));
        right.write_all(b"seen").unwrap();
        left.read_exact(&mut [0; 4]).unwrap();
    }

    fn a_stream_that_is_dropped_with_a_full_buffer_loses_nothing<S>() {
        let (mut left, mut right) = S::pair();
        let written = fill(&mut left);
        drop(left);
        let mut all = Vec::new();
        right.read_to_end(&mut all).unwrap();
        assert!(all == bytes(0, written));
    }

    fn a_writer_that_waits_goes_on_when_the_reader_reads<S>() {
        let (mut left, mut right) = S::pair();
        let written = fill(&mut left);
        let writer = thread::spawn(move || {
            left.write_all(&bytes(written, 500_000)).unwrap();
            left
        });
        thread::sleep(Duration::from_millis(20));
        let mut all = vec![0; written + 500_000];
        right.read_exact(&mut all).unwrap();
        assert!(all == bytes(0, written + 500_000));
        writer.join().unwrap();
    }

    // A socket's gets the reset that a reader would get: it is the first who asks.
    fn a_writer_that_waits_for_a_peer_that_goes_learns_of_it<S>() {
        let (mut left, right) = S::pair();
        fill(&mut left);
        let writer = thread::spawn(move || kind(left.write_all(&[0; 500_000])));
        thread::sleep(Duration::from_millis(20));
        drop(right);
        let kind = writer.join().unwrap();
        assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{kind}");
    }

    fn a_reader_that_waits_for_a_peer_that_goes_gets_the_end<S>() {
        for half in [true, false] {
            let (mut left, mut right) = S::pair();
            let reader = thread::spawn(move || right.read(&mut [0; 9]).map(|count| (count, right)));
            thread::sleep(Duration::from_millis(20));
            if half {
                left.shutdown(Shutdown::Write).unwrap();
                assert_eq!(reader.join().unwrap().unwrap().0, 0);
            } else {
                drop(left);
                assert_eq!(reader.join().unwrap().unwrap().0, 0);
            }
        }
    }

    fn the_end_of_a_killed_process_is_as_if_it_had_dropped_its_stream<S>() {
        let place = Place::new();
        let mut listener = S::bind(&place.hub()).unwrap();
        for (told, ends, reset) in [(0, false, false), (5_000, false, true), (5_000, true, true)] {
            let mut child = peer!("bytes", S::NAME, place.hub());
            let mut stream = S::accept(&mut listener).unwrap();
            assert_eq!(child.answer(), "connected");
            assert_eq!(child.ask("write 100000"), "done");
            if ends {
                assert_eq!(child.ask("end"), "done");
            }
            stream.write_all(&vec![0; told]).unwrap();
            if told > 0 {
                assert_eq!(child.ask("read 10"), "done");
            }
            child.kill();
            // What it wrote is there, and then it says how it ended.
            let mut all = vec![0; 100_000];
            stream.read_exact(&mut all).unwrap();
            assert!(all.iter().all(|byte| *byte == 1));
            // A peer is dead when the kernel says so, which is a moment after the kill.
            let first = eventually(|| match stream.read(&mut [0; 9]) {
                Ok(0) if reset && kind_of_write(&mut stream).is_none() => None,
                first => Some(first),
            });
            match first {
                Ok(count) => assert_eq!((count, reset), (0, false)),
                Err(error) => assert_eq!((error.kind(), reset), (ErrorKind::ConnectionReset, true)),
            }
            assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0);
            let broken = eventually(|| kind_of_write(&mut stream));
            assert_eq!(broken, ErrorKind::BrokenPipe);
        }
    }

    fn a_path_without_a_listener_refuses<S>() {
        let place = Place::new();
        assert_eq!(kind(S::connect(&place.hub()).map(drop)), ErrorKind::NotFound);
        let mut listener = S::bind(&place.hub()).unwrap();
        assert_eq!(kind(S::bind(&place.hub()).map(drop)), ErrorKind::AddrInUse);
        let path = place.hub();
        let client = thread::spawn(move || S::connect(&path).unwrap().write_all(b"hello").unwrap());
        let mut text = String::new();
        S::accept(&mut listener).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        client.join().unwrap();
    }
}

/// What a write of one byte fails with, if it does.
fn kind_of_write(stream: &mut impl Write) -> Option<ErrorKind> {
    stream.write(b"x").err().map(|error| error.kind())
}

/// The halves of a stream, on two threads: dropping the writer ends what is written, and the
/// reader goes on.
#[test]
fn a_dropped_writer_ends_its_direction_and_a_dropped_reader_does_not() {
    within_wait(|| {
        let (left, mut right) = ShmStream::pair().unwrap();
        let (mut reader, mut writer) = left.split();
        writer.write_all(b"question").unwrap();
        drop(writer);
        let mut question = String::new();
        right.read_to_string(&mut question).unwrap();
        assert_eq!(question, "question");
        right.write_all(b"answer").unwrap();
        drop(right);
        let mut answer = String::new();
        reader.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");

        let (left, mut right) = ShmStream::pair().unwrap();
        let (reader, mut writer) = left.split();
        drop(reader);
        right.write_all(b"nobody reads this").unwrap();
        writer.write_all(b"and yet").unwrap();
        drop(writer);
        let mut text = [0; 7];
        right.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"and yet");
        assert_eq!(kind(right.read(&mut text)), ErrorKind::ConnectionReset);
    });
}

/// The wait of a test is longer than that of a client.
#[test]
fn a_client_does_not_wait_longer_than_it_says_for_a_listener_that_does_not_accept() {
    let place = Place::new();
    let _listener = shm_transport::stream::ShmListener::bind(place.hub()).unwrap();
    let wait = Duration::from_millis(30);
    assert!(wait < WAIT);
    let error = ShmStream::connect_timeout(place.hub(), wait).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}
