//! A guest finds nothing of another guest in anything that it has: neither in what it has
//! mapped, nor in its files, nor in what waits in its sockets.

use shm_tests::{Place, WAIT, peer, process::Peer};
use shm_transport::{Host, Link};

/// Kinds of messages: inline, in a slot, and sealed.
const KINDS: usize = 3;

struct Guest {
    process: Peer,
    link: Link,
    canary: u128,
}

impl Guest {
    fn attach(place: &Place, host: &mut Host, canary: u128) -> Self {
        let mut process = peer!("canary", place.hub(), canary.to_string());
        let link = host.accept(WAIT).unwrap();
        assert!(process.answer().starts_with("attached"));
        Self { process, link, canary }
    }

    /// It sends messages of all kinds, and receives them back; some are on their way, some are
    /// held on either side.
    fn exchange(&mut self) {
        assert_eq!(self.process.ask("send"), "done");
        let mut held = Vec::new();
        for _ in 0..KINDS {
            held.push(self.link.recv(WAIT).unwrap().into_owned());
        }
        for message in &held {
            self.link.send(&message.to_bytes(), WAIT).unwrap();
        }
        assert_eq!(self.process.ask("receive"), "done");
        // And once more, not received.
        assert_eq!(self.process.ask("send"), "done");
        for message in &held {
            self.link.send(&message.to_bytes(), WAIT).unwrap();
        }
    }

    /// How often it finds each canary in its mappings, its files, and its sockets, and in how
    /// many bytes.
    fn look_for(&mut self, canaries: &[u128]) -> Vec<[u64; 4]> {
        let keys: Vec<String> = canaries.iter().map(|canary| (!canary).to_string()).collect();
        self.process.tell(&format!("look {}", keys.join(" ")));
        let found = canaries.iter().map(|_| {
            let found = self.process.answer();
            let found: Vec<u64> = found.split(' ').map(|word| word.parse().unwrap()).collect();
            found.try_into().unwrap()
        });
        found.collect()
    }
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
    u128::from_le_bytes(bytes)
}

#[test]
fn a_guest_finds_no_canary_of_another_in_all_that_it_has() {
    let place = Place::new();
    let mut host = place.small_host();
    let mut guests: Vec<Guest> =
        (0..3).map(|_| Guest::attach(&place, &mut host, random())).collect();
    guests.iter_mut().for_each(Guest::exchange);
    let canaries: Vec<u128> = guests.iter().map(|guest| guest.canary).collect();
    for (number, guest) in guests.iter_mut().enumerate() {
        let all = guest.look_for(&canaries);
        for (other, [mapped, files, sockets, bytes]) in all.into_iter().enumerate() {
            println!(
                "guest {number} finds the canary of guest {other}: {mapped} times in mappings, \
                 {files} in files, {sockets} in sockets; of {bytes} bytes"
            );
            if other == number {
                assert!(mapped > 0 && files > 0 && sockets > 0, "it looks where it cannot be");
            } else {
                assert_eq!((mapped, files, sockets), (0, 0, 0));
            }
        }
    }
}
