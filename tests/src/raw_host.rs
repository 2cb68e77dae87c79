//! A host that speaks the protocol by hand, over memory that it alone writes, and can
//! therefore tell its guests anything.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
    thread::{self, JoinHandle},
};

use rustix::{
    fs::fcntl_add_seals,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept, bind, listen, socket,
        socketpair,
    },
};
use shm_primitives::{
    Mapped,
    broadcast::BroadcastGeometry,
    hub::{HubGeometry, Topic},
    outbox::OutboxGeometry,
};
use shm_transport::{AttachError, Guest};

use crate::{
    WAIT,
    raw::{ONE_WRITER, RawMemory, RawSocket, memory, tag},
};

const INCARNATION: u128 = 0x1234_5678_9abc_def0;
const CAPACITY: u64 = 1024;

/// A host by hand and its one guest.
#[derive(Debug)]
pub struct RawHost {
    /// The hub's memory, writable.
    pub hub: RawMemory,
    /// The topics, as an honest host would have them.
    pub topics: Vec<Topic>,
    hub_fd: OwnedFd,
    /// The end of the link's socket.
    link: Option<RawSocket>,
    /// Where subscriptions are asked for.
    pub control: Option<RawSocket>,
}

impl RawHost {
    /// A host with these topics: name, slots, largest payload.
    ///
    /// # Panics
    ///
    /// If they cannot be.
    #[must_use]
    pub fn new(topics: &[(&str, u64, u64)]) -> Self {
        let ring = |slots, max| BroadcastGeometry::new(slots, max).expect("a ring");
        let topics = topics.iter().map(|&(name, slots, max)| (name, ring(slots, max)));
        let geometry = HubGeometry::new(1, topics).expect("a hub");
        let size = geometry.total_size();
        let hub_fd = memory(size);
        let hub = RawMemory::map(hub_fd.as_fd(), size as usize, true).expect("mapped");
        fcntl_add_seals(&hub_fd, ONE_WRITER).expect("sealed");
        geometry.initialise(&hub.mapped(), INCARNATION);
        let topics = geometry.topics().to_vec();
        Self { hub, topics, hub_fd, link: None, control: None }
    }

    /// The hub as the library sees it.
    #[must_use]
    pub fn mapped(&self) -> Mapped {
        self.hub.mapped()
    }

    /// Lets one guest attach, and says to it that the hub has topics, or has none.
    ///
    /// # Errors
    ///
    /// As the guest says.
    ///
    /// # Panics
    ///
    /// If the guest breaks the protocol.
    pub fn let_in(&mut self, path: &Path, says_topics: bool) -> Result<Guest, AttachError> {
        let flags = SocketFlags::CLOEXEC;
        let kind = SocketType::SEQPACKET;
        let listener = socket(AddressFamily::UNIX, kind, None).expect("a socket");
        let _ = std::fs::remove_file(path);
        bind(&listener, &SocketAddrUnix::new(path).expect("a path")).expect("bound");
        listen(&listener, 1).expect("it listens");
        let path = path.to_owned();
        let attaching: JoinHandle<_> = thread::spawn(move || Guest::attach(path, WAIT));
        let connection = RawSocket::from(accept(&listener).expect("a guest"));
        let hello = connection.receive(WAIT).expect("a hello").message;
        assert_eq!(hello[..8], tag(b"SHMHELLO").to_le_bytes());
        let geometry = OutboxGeometry::new(CAPACITY, 0).expect("an outbox");
        let outbox = memory(geometry.total_size());
        let size = geometry.total_size() as usize;
        let mapped = RawMemory::map(outbox.as_fd(), size, true).expect("mapped");
        fcntl_add_seals(&outbox, ONE_WRITER).expect("sealed");
        geometry.initialise(&mapped.mapped(), INCARNATION);
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).expect("a pair");
        let mut descriptors = vec![self.hub_fd.as_fd(), outbox.as_fd()];
        if says_topics {
            descriptors.push(theirs.as_fd());
        }
        let welcome = welcome(self.hub.size(), says_topics);
        connection.send(&welcome, &descriptors).expect("the guest listens");
        drop(theirs);
        if connection.receive(WAIT).is_some_and(|claim| claim.descriptors.len() == 1) {
            let admitted = tag(b"SHMADMIT").to_le_bytes();
            connection.send(&admitted, &[]).expect("the guest listens");
        }
        self.link = Some(connection);
        self.control = Some(RawSocket::from(ours));
        attaching.join().expect("it does not panic")
    }

    /// Hangs up on its guest.
    pub fn hang_up(&mut self) {
        self.link = None;
        self.control = None;
    }
}

fn welcome(hub_size: u64, topics: bool) -> Vec<u8> {
    let mut welcome = tag(b"SHMWELCM").to_le_bytes().to_vec();
    for word in [0u32, 0, 1] {
        welcome.extend(word.to_le_bytes());
    }
    welcome.extend(INCARNATION.to_le_bytes());
    welcome.extend(hub_size.to_le_bytes());
    welcome.extend(u32::from(topics).to_le_bytes());
    welcome.extend(CAPACITY.to_le_bytes());
    welcome.extend(128u32.to_le_bytes());
    welcome.extend(128u64.to_le_bytes());
    welcome.extend(0u64.to_le_bytes());
    welcome.extend([0; 8]);
    welcome
}
