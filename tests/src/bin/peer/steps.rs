//! Victims: each does one operation between two stops; see `shm_tests::steps`.

use std::thread;

use shm_tests::{
    WAIT,
    steps::{begin, end, operation::Operation},
};
use shm_transport::{Guest, Host, Link};

fn parse(operation: &str) -> Operation {
    operation.parse().expect("an operation")
}

/// A guest that does something on its link.
pub(crate) fn guest(path: &str, operation: &str) {
    let guest = Guest::attach(path, WAIT).expect("attached");
    operate(guest.link, parse(operation));
}

/// A host that does something on its link.
pub(crate) fn host(path: &str, operation: &str) {
    let operation = parse(operation);
    let host = Host::builder().link(operation.config()).max_guests(1).create(path);
    let mut host = host.expect("a host");
    let link = host.accept(WAIT).expect("a guest");
    operate(link, operation);
}

fn operate(link: Link, operation: Operation) {
    let mut operate = operation.prepare(link);
    between_stops(&mut operate);
}

/// Does it, and then nothing more.
fn between_stops(operate: &mut dyn FnMut()) -> ! {
    begin();
    operate();
    end();
    loop {
        thread::park();
    }
}
