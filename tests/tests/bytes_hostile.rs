//! A client of a stream listener that breaks the protocol ends its own stream and no other, and
//! nobody waits for it.

use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    thread,
    time::Duration,
};

use shm_tests::{
    Place, eventually,
    raw::{RawGuest, at, inline, sealed, slot},
    within_wait,
};
use shm_transport::stream::{ShmListener, ShmStream};

/// A listener, an honest client of it, and a hostile one.
struct Listener {
    _place: Place,
    _listener: ShmListener,
    honest: [ShmStream; 2],
    guest: RawGuest,
    stream: ShmStream,
}

impl Listener {
    fn new() -> Self {
        let place = Place::new();
        let mut listener = ShmListener::bind(place.hub()).unwrap();
        let path = place.hub();
        let client = thread::spawn(move || ShmStream::connect(path).unwrap());
        let near = listener.accept().unwrap();
        let honest = [near, client.join().unwrap()];
        let path = place.hub();
        let guest = thread::spawn(move || RawGuest::attach(&path));
        let stream = listener.accept().unwrap();
        let guest = guest.join().unwrap();
        Self { _place: place, _listener: listener, honest, guest, stream }
    }

    fn check_honest(&mut self) {
        for _ in 0..2 {
            let [from, to] = &mut self.honest;
            from.write_all(b"still here").unwrap();
            let mut text = [0; 10];
            to.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"still here");
            self.honest.swap(0, 1);
        }
    }

    fn read(&mut self) -> Result<usize, ErrorKind> {
        self.stream.read(&mut [0; 100]).map_err(|error| error.kind())
    }

    fn write(&mut self) -> Result<usize, ErrorKind> {
        self.stream.write(&[0; 100]).map_err(|error| error.kind())
    }
}

#[test]
fn a_malformed_message_is_invalid_data_after_what_came_before_and_breaks_the_pipe() {
    within_wait(|| {
        for word in [u64::MAX, 7, inline(u32::MAX), slot(0, 0, 10), sealed(0)] {
            let mut listener = Listener::new();
            listener.guest.send_word(5);
            assert_eq!(listener.read(), Ok(8));
            listener.guest.publish(word, 8);
            assert_eq!(listener.read(), Err(ErrorKind::InvalidData), "{word:#x}");
            assert_eq!(listener.write(), Err(ErrorKind::BrokenPipe));
            assert_eq!(listener.read(), Err(ErrorKind::InvalidData));
            listener.stream.shutdown(Shutdown::Both).unwrap();
            listener.check_honest();
        }
    });
}

#[test]
fn a_client_that_lies_about_what_it_has_read_breaks_the_pipe() {
    within_wait(|| {
        for lie in [1 << 31, u64::MAX] {
            let mut listener = Listener::new();
            listener.guest.memory.store64(at::TAIL, lie);
            listener.stream.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
            // It is looked at when room is needed.
            let kind = eventually(|| match listener.stream.write(&[0; 50_000]) {
                Ok(_) => None,
                Err(error) => (error.kind() != ErrorKind::WouldBlock).then_some(error.kind()),
            });
            assert_eq!(kind, ErrorKind::BrokenPipe);
            assert_eq!(listener.read(), Err(ErrorKind::InvalidData));
            listener.check_honest();
        }
    });
}

#[test]
fn what_a_client_sends_behind_its_end_is_not_read() {
    within_wait(|| {
        let mut listener = Listener::new();
        listener.guest.send_word(1);
        listener.guest.publish(inline(0), 8);
        listener.guest.send_word(2);
        listener.guest.publish(u64::MAX, 8);
        assert_eq!(listener.read(), Ok(8));
        for _ in 0..3 {
            assert_eq!(listener.read(), Ok(0));
        }
        assert_eq!(listener.write(), Ok(100));
        listener.check_honest();
    });
}

#[test]
fn to_leave_a_client_that_never_reads_takes_no_time() {
    within_wait(|| {
        let mut listener = Listener::new();
        listener.stream.set_nonblocking(true).unwrap();
        while listener.write().is_ok() {}
        assert_eq!(listener.write(), Err(ErrorKind::WouldBlock));
        listener.stream.shutdown(Shutdown::Write).unwrap();
        let (near, _) = ShmStream::pair().unwrap();
        drop(std::mem::replace(&mut listener.stream, near));
        listener.check_honest();
    });
}
