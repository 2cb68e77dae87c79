//! What the other side of a victim's link does, and what it finds when the victim is dead.

use std::{
    fs,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use nix::{libc, unistd::gettid};
use shm_transport::{Link, LinkEnd, LinkSet, Message, RecvError, SendError};

use super::operation::{INLINE, Operation, SEALED, SLOT};
use crate::{
    WAIT, eventually,
    pattern::{matches, message},
};

/// The other side of a victim's link.
#[derive(Debug)]
pub struct Survivor {
    operation: Operation,
    side: Side,
    /// How many messages of the victim it has received, message 0 left out.
    received: usize,
    /// Messages that it does not give back.
    held: Vec<Message<'static>>,
    /// Whether the victim was asleep and was woken.
    woke: bool,
    /// Slots and sealed payloads that the victim had, or 1 if it had not given back the room
    /// of a message, when it stood still.
    kept: usize,
}

#[derive(Debug)]
enum Side {
    Awake(Box<Link>),
    /// In a call of its own; it returns its link and whether it got what it waited for.
    Asleep(JoinHandle<(Link, Result<(), LinkEnd>)>),
    Gone,
}

/// The outcomes of an operation, as in [`Sweep`](super::Sweep).
#[must_use]
pub fn outcomes(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::SendBatchInParts => &["nothing", "one part", "two parts", "all"],
        Operation::SendToSleeper | Operation::SendToSleepingSet | Operation::RecvFromSleeper => {
            &["not woken", "woken"]
        }
        Operation::RecvInline
        | Operation::RecvInlineInto
        | Operation::RecvSlot
        | Operation::RecvFirstSlot
        | Operation::RecvSlotInto
        | Operation::RecvSealed
        | Operation::RecvSealedInto => &["kept", "released"],
        Operation::ReleaseInOrder | Operation::ReleaseOutOfOrder => {
            &["three kept", "two kept", "one kept", "released"]
        }
        Operation::Sleep | Operation::SleepInSet => &["not woken", "woken"],
        Operation::Detach | Operation::Drop => &["dead", "departed"],
        _ => &["nothing", "all"],
    }
}

impl Survivor {
    /// Sends what the victim needs to prepare.
    ///
    /// # Panics
    ///
    /// If that is not possible.
    pub fn help(operation: Operation, link: &mut Link) {
        let lens: &[usize] = match operation {
            Operation::RecvSlot => &[SLOT],
            Operation::ReleaseInOrder | Operation::ReleaseOutOfOrder => &[SLOT, SLOT, SEALED],
            _ => &[],
        };
        for (number, len) in (0..).zip(lens) {
            link.send(&message(number, *len), WAIT).expect("sent");
        }
    }

    /// Takes its place while the victim stands before its operation.
    ///
    /// # Panics
    ///
    /// If that is not possible.
    #[must_use]
    pub fn new(operation: Operation, mut link: Link) -> Self {
        let mut this = Self {
            operation,
            side: Side::Gone,
            received: 0,
            held: Vec::new(),
            woke: false,
            kept: 0,
        };
        // To the last byte: then there is room again when the first message is given back.
        let fill = |link: &mut Link| {
            while link.try_send(&[7; INLINE]).is_ok() {}
            while link.try_send(&[7]).is_ok() {}
        };
        match operation {
            // These it receives later.
            Operation::SleepForRoom | Operation::Detach | Operation::Drop => {}
            _ => while this.receive(&mut link).is_some() {},
        }
        this.side = match operation {
            Operation::SendToSleeper => asleep(link, |mut link| {
                let result = receive_one(&mut link);
                (link, result)
            }),
            Operation::SendToSleepingSet => asleep(link, |link| {
                let mut set = LinkSet::new().expect("a set");
                let key = set.insert(link).expect("inserted");
                let mut events = Vec::new();
                while events.is_empty() {
                    set.wait(&mut events, WAIT).expect("waited");
                }
                let mut link = set.remove(key).expect("there");
                let result = receive_one(&mut link);
                (link, result)
            }),
            Operation::RecvFromSleeper => {
                fill(&mut link);
                asleep(link, |mut link| {
                    let result = match link.send(&[7; 100], WAIT) {
                        Ok(()) => Ok(()),
                        Err(SendError::Ended(end)) => Err(end),
                        Err(error) => panic!("{error:?}"),
                    };
                    (link, result)
                })
            }
            _ => {
                match operation {
                    Operation::RecvInline | Operation::RecvInlineInto => fill(&mut link),
                    Operation::RecvSlot | Operation::RecvFirstSlot | Operation::RecvSlotInto => {
                        link.send(&message(1, SLOT), WAIT).expect("sent");
                    }
                    Operation::RecvSealed | Operation::RecvSealedInto => {
                        link.send(&message(1, SEALED), WAIT).expect("sent");
                    }
                    _ => {}
                }
                Side::Awake(Box::new(link))
            }
        };
        this
    }

    /// The victim sleeps: gives it what it waits for.
    ///
    /// # Panics
    ///
    /// If that is not possible.
    pub fn wake(&mut self) -> bool {
        let Side::Awake(mut link) = std::mem::replace(&mut self.side, Side::Gone) else {
            panic!("it sleeps itself");
        };
        match self.operation {
            Operation::Sleep | Operation::SleepInSet if !self.woke => {
                link.send(&message(0, 10), WAIT).expect("sent");
                self.woke = true;
            }
            Operation::SleepForRoom | Operation::Detach => {
                while self.receive(&mut link).is_some() {}
            }
            _ => {}
        }
        self.side = Side::Awake(link);
        true
    }

    /// Looks at what the victim has given back, while it stands still.
    pub fn look(&mut self) {
        if let Side::Awake(link) = &mut self.side {
            self.kept = match self.operation {
                Operation::RecvInline | Operation::RecvInlineInto => {
                    usize::from(link.try_send(&[7; 100]).is_err())
                }
                _ => link.sender.slots_in_flight(),
            };
        }
    }

    /// The victim is dead: what became of its operation.
    ///
    /// # Panics
    ///
    /// If that is anything that must not be.
    #[must_use]
    pub fn settle(mut self) -> &'static str {
        let before = self.operation.before().len();
        let known = outcomes(self.operation);
        let (mut link, outcome) = match std::mem::replace(&mut self.side, Side::Gone) {
            Side::Gone => unreachable!("it is somewhere"),
            Side::Asleep(thread) => {
                let (link, result) = thread.join().expect("it returns");
                if matches!(self.operation, Operation::SendToSleeper | Operation::SendToSleepingSet)
                {
                    self.received += usize::from(result.is_ok());
                }
                match result {
                    Ok(()) => (link, known[1]),
                    Err(end) => {
                        assert_eq!(end, LinkEnd::PeerDead);
                        (link, known[0])
                    }
                }
            }
            Side::Awake(link) => (*link, known[0]),
        };
        let end = self.receive_to_the_end(&mut link);
        self.held.clear();
        let ends_again = link.recv(WAIT).map(drop);
        assert!(matches!(ends_again, Err(RecvError::Ended(again)) if again == end));
        let sent = link.send(&[1; 10], WAIT);
        assert!(matches!(sent, Err(SendError::Ended(again)) if again == end), "{sent:?}");
        match self.operation {
            Operation::SendToSleeper | Operation::SendToSleepingSet => {
                assert_eq!(end, LinkEnd::PeerDead);
                assert_eq!(self.received == 1, outcome == known[1]);
                outcome
            }
            Operation::RecvFromSleeper => {
                assert_eq!((end, self.received), (LinkEnd::PeerDead, 0));
                outcome
            }
            Operation::Detach | Operation::Drop => {
                assert_eq!(self.received, before);
                known[usize::from(end == LinkEnd::Departed)]
            }
            Operation::Sleep | Operation::SleepInSet => {
                assert_eq!((end, self.received), (LinkEnd::PeerDead, 0));
                known[usize::from(self.woke)]
            }
            _ => {
                assert_eq!(end, LinkEnd::PeerDead);
                if self.operation.sends().is_empty() {
                    assert_eq!(self.received, 0);
                    self.released(&mut link)
                } else {
                    let count = self.received.checked_sub(before).expect("what came before");
                    let part = self.operation.parts().iter().position(|part| *part == count);
                    known[part.unwrap_or_else(|| panic!("{count} of a batch"))]
                }
            }
        }
    }

    /// How far the victim had come with giving back.
    fn released(&self, link: &mut Link) -> &'static str {
        let known = outcomes(self.operation);
        if !matches!(self.operation, Operation::RecvInline | Operation::RecvInlineInto) {
            assert_eq!(link.sender.slots_in_flight(), self.kept, "given back after its death");
        }
        known[known.len() - 1 - self.kept]
    }

    /// Receives what the victim sent, if it is there.
    fn receive(&mut self, link: &mut Link) -> Option<()> {
        let received = match link.try_recv() {
            Ok(received) => received?.into_owned(),
            Err(RecvError::Ended(LinkEnd::Departed)) => return None,
            Err(error) => panic!("{error:?}"),
        };
        self.check(received);
        Some(())
    }

    fn receive_to_the_end(&mut self, link: &mut Link) -> LinkEnd {
        loop {
            let received = match link.recv(WAIT) {
                Ok(received) => received.into_owned(),
                Err(RecvError::Ended(end)) => break end,
                Err(error) => panic!("{error:?}"),
            };
            self.check(received);
        }
    }

    /// Each message comes once, in order and whole.
    fn check(&mut self, received: Message<'static>) {
        let lens = self.operation.before().into_iter().chain(self.operation.sends());
        let len = lens.into_iter().nth(self.received).expect("no more than were sent");
        self.received += 1;
        assert_eq!(received.len(), len, "message {}", self.received);
        assert!(matches(self.received as u64, &received.to_bytes()), "message {}", self.received);
        if self.operation == Operation::SendSlotOfNextExtent {
            self.held.push(received);
        }
    }
}

fn receive_one(link: &mut Link) -> Result<(), LinkEnd> {
    match link.recv(WAIT) {
        Ok(received) => {
            assert!(received.len() == 10 && matches(1, &received.to_bytes()));
            Ok(())
        }
        Err(RecvError::Ended(end)) => Err(end),
        Err(error) => panic!("{error:?}"),
    }
}

/// A thread that does `what`; returns when it sleeps in that.
fn asleep(
    link: Link,
    what: impl FnOnce(Link) -> (Link, Result<(), LinkEnd>) + Send + 'static,
) -> Side {
    let (sender, tid) = mpsc::channel();
    let thread = thread::spawn(move || {
        sender.send(gettid()).expect("somebody waits");
        what(link)
    });
    let tid = tid.recv().expect("it says who it is");
    let waits = [libc::SYS_futex_waitv, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
    #[cfg(target_arch = "x86_64")]
    let waits = [waits.as_slice(), &[libc::SYS_epoll_wait]].concat();
    eventually(|| {
        let call = fs::read_to_string(format!("/proc/self/task/{tid}/syscall")).ok()?;
        let number = call.split(' ').next()?.parse().ok()?;
        waits.contains(&number).then_some(())
    });
    Side::Asleep(thread)
}
