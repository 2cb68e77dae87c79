//! Victims: each does one operation between two stops; see `shm_tests::steps`.

use std::{fs, thread};

use shm_tests::{
    WAIT,
    fleet::{CLAIMS, Content, RING, STEPPED},
    pattern,
    steps::{
        begin, end,
        operation::{Operation, SEALED},
    },
};
use shm_transport::{
    Guest, Host, Lease, Link, LinkEnd, LinkSet, Message, PeerId, RecvError, SlowGuest, Start,
    TopicConfig, fleet::Claims,
};

use crate::{fleet::join, number};

const VALUES: &str = "values";

fn parse(operation: &str) -> Operation {
    operation.parse().expect("an operation")
}

/// Does it, and then nothing more.
fn between_stops(mut operate: impl FnMut()) -> ! {
    begin();
    operate();
    end();
    loop {
        thread::park();
    }
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

/// A guest that attaches: walks in, by a ticket, or over an inherited socket.
pub(crate) fn attach(path: &str, how: &str) {
    let mut guest = None;
    between_stops(|| {
        let attached = match how {
            "walk-in" => Guest::attach(path, WAIT),
            "inherited" => Guest::attach_inherited(WAIT),
            ticket => {
                let ticket = ticket.parse::<PeerId>().expect("a ticket");
                Guest::builder().ticket(ticket).attach(path, WAIT)
            }
        };
        guest = Some(attached.expect("attached"));
    });
}

/// A host that does something that is not for one link.
pub(crate) fn serve(path: &str, what: &str) {
    let topic = TopicConfig { slots: 4, max_payload: 24 };
    let create = || {
        let config = Operation::SendInline.config();
        Host::builder().link(config).topic(VALUES, topic).create(path).expect("a host")
    };
    if what == "create" {
        let mut host = None;
        between_stops(|| host = Some(create()));
    }
    let mut host = create();
    let accept = |host: &mut Host| host.accept(WAIT).expect("a guest");
    match what {
        "admit" => {
            let mut link = None;
            between_stops(|| link = Some(accept(&mut host)));
        }
        // Receives what a guest sent that dies, and gives everything of it back.
        "drain" => {
            let mut link = accept(&mut host);
            let mut next = 0;
            let mut check = |message: Message<'_>| {
                assert!(pattern::matches(next, &message.to_bytes()), "message {next}");
                next += 1;
            };
            check(link.recv(WAIT).expect("received"));
            let mut link = Some(link);
            between_stops(|| {
                if let Some(mut link) = link.take() {
                    let end = loop {
                        match link.recv(WAIT) {
                            Ok(message) => check(message),
                            Err(error) => break error,
                        }
                    };
                    use LinkEnd::{Departed, PeerDead};
                    assert!(matches!(end, RecvError::Ended(PeerDead | Departed)), "{end:?}");
                }
                assert_eq!(host.hub().peers(), []);
            });
        }
        "drop" => {
            let mut host = Some(host);
            between_stops(|| drop(host.take()));
        }
        "say-goodbye" | "evict" => {
            let mut link = accept(&mut host);
            link.send(&pattern::message(0, 10), WAIT).expect("sent");
            between_stops(|| match what {
                "evict" => assert!(host.hub().evict(link.peer())),
                _ => host.hub().say_goodbye(),
            });
        }
        "send-to-all" | "share-with-all" => {
            let mut links = LinkSet::new().expect("a set");
            for _ in 0..2 {
                links.insert(accept(&mut host)).expect("inserted");
            }
            let message = pattern::message(0, if what == "send-to-all" { 100 } else { SEALED });
            between_stops(|| {
                let all = links.send_to_all(&message, SlowGuest::Drop).expect("sent");
                assert_eq!(all.sent, 2);
            });
        }
        "publish" => {
            let _link = accept(&mut host);
            let mut publisher = host.hub().publisher(VALUES).expect("the topic");
            let value = |position| pattern::value(position, 24);
            for position in 0..6 {
                publisher.publish(&value(position)).expect("published");
            }
            let next = value(6);
            between_stops(|| {
                publisher.publish(&next).expect("published");
            });
        }
        _ => panic!("unknown: {what}"),
    }
}

/// A guest that follows a topic.
pub(crate) fn subscribe(path: &str, what: &str) {
    let guest = Guest::attach(path, WAIT).expect("attached");
    let mut values = guest.subscribe(VALUES, Start::Oldest).expect("the topic");
    match what {
        "read" => between_stops(|| {
            assert!(values.try_next().expect("read").is_some());
        }),
        "newest" => between_stops(|| {
            assert!(values.newest().expect("read").is_some());
        }),
        "arm" => {
            while values.try_next().expect("read").is_some() {}
            between_stops(|| {
                assert!(!values.arm().expect("armed"), "there is nothing");
            })
        }
        "sleep" => {
            while values.try_next().expect("read").is_some() {}
            between_stops(|| {
                values.next(WAIT).expect("read");
            })
        }
        _ => panic!("unknown: {what}"),
    }
}

/// A member of a fleet.
pub(crate) fn member(directory: &str, life: &str, what: &str) {
    let content = |sequence| Content { node: 0, life: number(life), sequence }.bytes();
    let contents = [content(0), content(1)];
    if what == "join" {
        let mut kept = None;
        between_stops(|| {
            let fleet = join(directory, "0");
            let ring = fleet.ring(RING, &STEPPED).expect("the ring");
            ring.publish(0, 1, &contents[0]).expect("published");
            kept = Some((fleet, ring));
        });
    }
    let fleet = join(directory, "0");
    match what {
        "publish" => {
            let ring = fleet.ring(RING, &STEPPED).expect("the ring");
            ring.publish(0, 1, &contents[0]).expect("published");
            between_stops(|| {
                ring.publish(0, 1, &contents[1]).expect("published");
            });
        }
        "claim" | "release" => {
            let claims = Claims::open(&fleet, CLAIMS, &STEPPED).expect("the claims");
            let claim = || claims.claim(b"subject", 2 * WAIT).expect("held");
            let mut guard = None;
            if what == "claim" {
                between_stops(|| guard = Some(claim()));
            }
            guard = Some(claim());
            between_stops(|| drop(guard.take()));
        }
        _ => panic!("unknown: {what}"),
    }
}

/// A process that leases a data file.
pub(crate) fn lease(path: &str, what: &str) {
    let open = || Lease::open(path).expect("a lease");
    let mut lease = None;
    if what == "open" {
        between_stops(|| lease = Some(open()));
    }
    let mut lease = open();
    match what {
        "take-over" => {
            assert!(!lease.is_owner());
            between_stops(|| {
                lease.wait_for_ownership(WAIT).expect("the owner");
            });
        }
        "beat" => between_stops(|| {
            lease.beat().expect("the owner");
        }),
        "heal-and-beat" => {
            let mut shm = path.to_owned();
            shm.push_str("-shm");
            fs::write(shm, [0x5a; 4096]).expect("spoilt");
            between_stops(|| {
                lease.beat().expect("the owner");
            })
        }
        "attach-reader" => {
            let mut reader = None;
            between_stops(|| reader = Some(lease.attach_reader(7).expect("a reader")));
        }
        "pin" => {
            let mut reader = lease.attach_reader(7).expect("a reader");
            between_stops(|| reader.pin(9).expect("pinned"));
        }
        "close" => {
            let mut lease = Some(lease);
            between_stops(|| drop(lease.take()));
        }
        _ => panic!("unknown: {what}"),
    }
}
