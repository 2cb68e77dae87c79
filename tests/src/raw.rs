//! A guest that speaks the protocol by hand, over a raw socket and raw mappings, and can
//! therefore break it at every step.
//!
//! It knows the layouts of handshake, outbox and frames from their documentation, not from
//! the library's code, so it also notices when they change unannounced.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{
        FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
    },
    io::Errno,
    mm::{MapFlags, ProtFlags, mmap, munmap},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg,
        sendmsg, socket_with,
    },
};

use shm_transport::{Host, Link};

use crate::WAIT;

/// The version of the handshake.
pub const VERSION: u32 = 2;
/// Seals of memory with one writer.
pub const ONE_WRITER: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);
/// Seals of memory without a writer.
pub const NO_WRITER: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE).union(SealFlags::SEAL);

/// Where words lie in an outbox.
pub mod at {
    /// The owner's goodbye.
    pub const GOODBYE: u64 = 96;
    /// How far the owner has written.
    pub const HEAD: u64 = 128;
    /// How far the owner has read the other's ring.
    pub const TAIL: u64 = 256;
    /// How the owner's receiving half sleeps.
    pub const DATA_SLEEP: u64 = 384;
    /// How the owner's sending half sleeps.
    pub const SPACE_SLEEP: u64 = 392;
    /// What wakes the other's receiving half.
    pub const DATA_BELL: u64 = 512;
    /// What wakes the other's sending half.
    pub const SPACE_BELL: u64 = 516;
    /// Signs of life.
    pub const HEARTBEAT: u64 = 640;
    /// Messages that the owner has dropped.
    pub const DROPPED: u64 = 648;
    /// The first release ack.
    pub const ACKS: u64 = 768;
}

/// Where words lie in a hub.
pub mod topic {
    use super::RawMemory;

    /// The peer table.
    const PEERS: u64 = 256;
    /// How many peers, and how many topics, in the header.
    const COUNTS: (u64, u64) = (56, 72);

    /// Where the entry of topic `index` in the directory lies.
    #[must_use]
    pub fn entry(hub: &RawMemory, index: u64) -> u64 {
        PEERS + 128 * hub.load64(COUNTS.0) + 128 * index
    }

    /// How many topics there are.
    #[must_use]
    pub fn count(hub: &RawMemory) -> u64 {
        hub.load64(COUNTS.1)
    }

    /// Where the ring of topic `index` begins.
    #[must_use]
    pub fn ring(hub: &RawMemory, index: u64) -> u64 {
        assert!(index < count(hub));
        hub.load64(entry(hub, index) + 80)
    }

    /// Where slot `index` of a ring begins.
    #[must_use]
    pub const fn slot(ring: u64, index: u64, max: usize) -> u64 {
        ring + 256 + index * (16 + max as u64).next_multiple_of(64)
    }
}

/// A connection to a host that is not a link yet.
#[derive(Debug)]
pub struct RawSocket {
    socket: OwnedFd,
}

/// What a host answered.
#[derive(Debug)]
pub struct RawAnswer {
    /// The message.
    pub message: Vec<u8>,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// Sizes as a welcome says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawGeometry {
    /// The guest's entry and epoch.
    pub peer: (u32, u32),
    /// Size of the hub.
    pub hub: u64,
    /// Whether the hub has topics.
    pub topics: bool,
    /// Bytes in each ring.
    pub capacity: u64,
    /// Release acks in each outbox.
    pub acks: u32,
    /// Slot size, slots in an extent and most extents of each class.
    pub classes: Vec<(u32, u32, u32)>,
    /// Where the ring begins.
    pub ring: u64,
    /// Size of an outbox.
    pub total: u64,
}

/// Tags of the handshake.
#[must_use]
pub fn tag(name: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*name)
}

impl RawSocket {
    /// Connects to whatever listens at `path`.
    ///
    /// # Panics
    ///
    /// If nothing does.
    #[must_use]
    pub fn connect(path: &Path) -> Self {
        Self::try_connect(path).expect("a host at the path")
    }

    /// Connects to whatever listens at `path`, if anything does.
    ///
    /// # Panics
    ///
    /// If there are no sockets, or the path is none.
    #[must_use]
    pub fn try_connect(path: &Path) -> Option<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let socket = socket.expect("a socket");
        let address = SocketAddrUnix::new(path).expect("an address");
        connect(&socket, &address).ok().map(|()| Self { socket })
    }

    /// Sends a message without waiting.
    ///
    /// # Errors
    ///
    /// As the kernel says.
    pub fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)), "at most 64");
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(&self.socket, &[IoSlice::new(message)], &mut ancillary, flags).map(drop)
    }

    /// The next message; `None` when the host has hung up, or said nothing in time.
    pub fn receive(&self, wait: Duration) -> Option<RawAnswer> {
        let timeout = Timespec::try_from(wait).ok();
        let _ = poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], timeout.as_ref());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut message = vec![0; 4096];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut buffer = [IoSliceMut::new(&mut message)];
        let received = recvmsg(&self.socket, &mut buffer, &mut ancillary, flags).ok()?;
        let mut descriptors = Vec::new();
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                descriptors.extend(fds);
            }
        }
        message.truncate(received.bytes);
        (received.bytes > 0).then_some(RawAnswer { message, descriptors })
    }

    /// Says hello.
    ///
    /// # Errors
    ///
    /// As the kernel says.
    pub fn hello(&self, version: u32, ticket: (u32, u32)) -> Result<(), Errno> {
        let mut hello = tag(b"SHMHELLO").to_le_bytes().to_vec();
        for word in [version, 0, ticket.0, ticket.1] {
            hello.extend(word.to_le_bytes());
        }
        self.send(&hello, &[])
    }

    /// Says hello and waits for the welcome.
    ///
    /// # Panics
    ///
    /// If the host does not welcome it.
    #[must_use]
    pub fn welcomed(self) -> RawWelcome {
        self.try_welcomed().expect("the host answers")
    }

    /// Says hello and waits for the welcome; `None` if the host has hung up.
    ///
    /// # Panics
    ///
    /// If the host says something else.
    #[must_use]
    pub fn try_welcomed(self) -> Option<RawWelcome> {
        self.hello(VERSION, (0, 0)).ok()?;
        let answer = self.receive(WAIT)?;
        let geometry = RawGeometry::parse(&answer.message).expect("a welcome");
        let mut descriptors = answer.descriptors.into_iter();
        let hub = descriptors.next().expect("the hub");
        let outbox = descriptors.next().expect("an outbox");
        let control = descriptors.next().map(RawSocket::from);
        assert_eq!(control.is_some(), geometry.topics, "a socket for subscriptions");
        assert!(descriptors.next().is_none(), "no more descriptors");
        Some(RawWelcome { socket: self, geometry, hub, outbox, control })
    }
}

impl From<OwnedFd> for RawSocket {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl RawGeometry {
    /// Reads a welcome; `None` if it is something else.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let u32_at =
            |at: usize| Some(u32::from_le_bytes(message.get(at..at + 4)?.try_into().ok()?));
        let u64_at =
            |at: usize| Some(u64::from_le_bytes(message.get(at..at + 8)?.try_into().ok()?));
        if u64_at(0)? != tag(b"SHMWELCM") {
            return None;
        }
        // Tag, fences, entry, epoch, incarnation, size of the hub, topics, capacity, inline
        // limit, largest message, spin.
        let peer = (u32_at(12)?, u32_at(16)?);
        let (hub, topics) = (u64_at(36)?, u32_at(44)? != 0);
        let capacity = u64_at(48)?;
        let (sealed, count) = (u32_at(76)?, u32_at(80)?);
        let mut classes = Vec::new();
        for class in 0..count as usize {
            let at = 84 + 12 * class;
            classes.push((u32_at(at)?, u32_at(at + 4)?, u32_at(at + 8)?));
        }
        let acks = sealed + classes.iter().map(|(_, slots, extents)| slots * extents).sum::<u32>();
        let ring = (at::ACKS + 4 * u64::from(acks) + 127) & !127;
        let total = ring + capacity;
        Some(Self { peer, hub, topics, capacity, acks, classes, ring, total })
    }
}

/// A guest that was welcomed and has not mapped anything.
#[derive(Debug)]
pub struct RawWelcome {
    /// The connection.
    pub socket: RawSocket,
    /// The sizes.
    pub geometry: RawGeometry,
    /// The hub's memory.
    pub hub: OwnedFd,
    /// The host's outbox.
    pub outbox: OwnedFd,
    /// Where subscriptions are made; none if the hub has no topics.
    pub control: Option<RawSocket>,
}

impl RawWelcome {
    /// Makes its outbox and maps it for writing, and the host's for reading.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    #[must_use]
    pub fn mapped(self) -> RawGuest {
        let own = memory(self.geometry.total);
        self.mapped_with(own)
    }

    /// Takes `own` for its outbox.
    ///
    /// # Panics
    ///
    /// If the kernel refuses to map it.
    #[must_use]
    pub fn mapped_with(self, own: OwnedFd) -> RawGuest {
        let Self { socket, geometry, hub, outbox, control } = self;
        let size = geometry.total as usize;
        let memory = RawMemory::map(own.as_fd(), size, true).expect("its outbox is its to write");
        let host = RawMemory::map(outbox.as_fd(), size, false).expect("the host's is readable");
        let (position, read) = (0, 0);
        RawGuest { socket, geometry, hub, outbox, control, own, memory, host, position, read }
    }

    /// Attaches as an honest guest would.
    ///
    /// # Panics
    ///
    /// If the host does not let it.
    #[must_use]
    pub fn claimed(self) -> RawGuest {
        let guest = self.mapped();
        guest.seal();
        guest.claim();
        guest
    }
}

/// A guest by hand.
#[derive(Debug)]
pub struct RawGuest {
    /// The connection.
    pub socket: RawSocket,
    /// The sizes.
    pub geometry: RawGeometry,
    /// The hub's memory.
    pub hub: OwnedFd,
    /// The host's outbox.
    pub outbox: OwnedFd,
    /// Where subscriptions are made; none if the hub has no topics.
    pub control: Option<RawSocket>,
    /// This guest's outbox.
    pub own: OwnedFd,
    /// This guest's outbox, writable.
    pub memory: RawMemory,
    /// The host's outbox, readable.
    pub host: RawMemory,
    position: u64,
    read: u64,
}

/// A guest by hand and the host's end of its link.
///
/// # Panics
///
/// If the host does not let it in.
#[must_use]
pub fn attach_by_hand(host: &mut Host) -> (RawGuest, Link) {
    let path = host.path().to_owned();
    let guest = thread::spawn(move || RawGuest::attach(&path));
    let link = host.accept(WAIT).expect("a guest");
    (guest.join().expect("an honest guest"), link)
}

impl RawGuest {
    /// Connects to the host at `path` and attaches. The host must be accepting meanwhile.
    #[must_use]
    pub fn attach(path: &Path) -> Self {
        RawSocket::connect(path).welcomed().claimed()
    }

    /// Seals its outbox as the host demands.
    ///
    /// # Panics
    ///
    /// If it is sealed already.
    pub fn seal(&self) {
        fcntl_add_seals(&self.own, ONE_WRITER).expect("sealed");
    }

    /// Claims its entry with its outbox.
    ///
    /// # Panics
    ///
    /// If the host has hung up.
    pub fn claim(&self) {
        let claim = tag(b"SHMCLAIM").to_le_bytes();
        self.socket.send(&claim, &[self.own.as_fd()]).expect("the host listens");
    }

    /// Publishes a frame of one header word at its position, as an honest guest would if
    /// `word` were honest, and moves on by `footprint` bytes. The ring must have room.
    pub fn publish(&mut self, word: u64, footprint: u64) {
        let (ring, mask) = (self.geometry.ring, self.geometry.capacity - 1);
        let next = self.position + footprint;
        self.memory.store64(ring + (next & mask), 0);
        self.memory.store64(ring + (self.position & mask), word);
        self.position = next;
        self.ring_bell();
    }

    /// Where its next frame goes, in its outbox.
    #[must_use]
    pub fn frame_at(&self) -> u64 {
        self.geometry.ring + (self.position & (self.geometry.capacity - 1))
    }

    /// Publishes an inline frame of eight bytes. The ring must have room.
    pub fn send_word(&mut self, payload: u64) {
        let mask = self.geometry.capacity - 1;
        let at = self.geometry.ring + ((self.position + 8) & mask);
        self.memory.store64(at, payload);
        self.publish(inline(8), 16);
    }

    /// Whether a frame of eight bytes fits, by what the host says that it has read.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let read = self.host.load64(at::TAIL);
        self.position + 24 - read <= self.geometry.capacity
    }

    /// Wakes the host's receiving half, whether it sleeps or not.
    pub fn ring_bell(&self) {
        self.memory.store32(at::DATA_BELL, self.memory.load32(at::DATA_BELL).wrapping_add(1));
        self.memory.wake(at::DATA_BELL);
        // Full is as good.
        let _ = self.socket.send(&[1], &[]);
    }

    /// The next header word of the host's ring, if there is one; moves on by `footprint`.
    pub fn next_word(&mut self, footprint: u64) -> Option<u64> {
        let mask = self.geometry.capacity - 1;
        let word = self.host.load64(self.geometry.ring + (self.read & mask));
        (word != 0).then(|| {
            self.read += footprint;
            word
        })
    }
}

/// Header words.
#[must_use]
pub const fn inline(len: u32) -> u64 {
    1 | (len as u64) << 32
}

/// A reference to a slot.
#[must_use]
pub const fn slot(class: u8, index: u16, len: u32) -> u64 {
    2 | (class as u64) << 8 | (index as u64) << 16 | (len as u64) << 32
}

/// A reference to a sealed payload.
#[must_use]
pub const fn sealed(index: u16) -> u64 {
    3 | (index as u64) << 16
}

/// Padding.
pub const PADDING: u64 = 4;

/// A mapping without an owner's manners: words are stored and loaded anywhere in it.
#[derive(Debug)]
pub struct RawMemory {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: an address and a size; all accesses are atomic.
unsafe impl Send for RawMemory {}
// SAFETY: as above.
unsafe impl Sync for RawMemory {}

impl RawMemory {
    /// Maps a descriptor, shared.
    ///
    /// # Errors
    ///
    /// As the kernel says.
    pub fn map(fd: BorrowedFd<'_>, size: usize, writable: bool) -> Result<Self, Errno> {
        let prot = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping wherever the kernel likes touches no memory in use.
        let base = unsafe { mmap(std::ptr::null_mut(), size, prot, MapFlags::SHARED, fd, 0) }?;
        Ok(Self { base: NonNull::new(base.cast()).ok_or(Errno::NOMEM)?, size })
    }

    /// Maps a descriptor, as a private copy that is written to.
    ///
    /// # Errors
    ///
    /// As the kernel says.
    pub fn map_privately(fd: BorrowedFd<'_>, size: usize) -> Result<Self, Errno> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as in `map`.
        let base = unsafe { mmap(std::ptr::null_mut(), size, prot, MapFlags::PRIVATE, fd, 0) }?;
        Ok(Self { base: NonNull::new(base.cast()).ok_or(Errno::NOMEM)?, size })
    }

    /// Where it begins in this process.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.base.as_ptr().addr() as u64
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size as u64
    }

    /// The same memory as the library sees it, for as long as this value lives.
    #[must_use]
    pub fn mapped(&self) -> shm_primitives::Mapped {
        // SAFETY: a mapping begins at a page and has this size; it lives as long as this
        // value, which the caller keeps. Whoever only reads it maps it so.
        unsafe { shm_primitives::Mapped::new(self.base.as_ptr(), self.size) }
    }

    /// Tries to make the mapping writable.
    ///
    /// # Errors
    ///
    /// As the kernel says.
    pub fn make_writable(&self) -> Result<(), Errno> {
        use rustix::mm::{MprotectFlags, mprotect};
        let flags = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the mapping is this value's own, and no reference to it exists.
        unsafe { mprotect(self.base.as_ptr().cast(), self.size, flags) }
    }

    /// Tries to take the pages away from everybody who has them mapped.
    ///
    /// # Errors
    ///
    /// As the kernel says.
    pub fn remove_pages(&self) -> Result<(), Errno> {
        use rustix::mm::{Advice, madvise};
        // SAFETY: the mapping is this value's own, and no reference to it exists; atomics of
        // removed pages are zero.
        unsafe { madvise(self.base.as_ptr().cast(), self.size, Advice::LinuxRemove) }
    }

    fn word(&self, at: u64, size: usize) -> *mut u8 {
        let at = at as usize;
        assert!(at.is_multiple_of(size) && at + size <= self.size, "a word of the mapping");
        // SAFETY: inside the mapping, as checked.
        unsafe { self.base.as_ptr().add(at) }
    }

    /// Stores a word.
    pub fn store64(&self, at: u64, value: u64) {
        // SAFETY: `word` checked bounds and alignment; the mapping lives as long as `self`.
        let word = unsafe { AtomicU64::from_ptr(self.word(at, 8).cast()) };
        word.store(value, Ordering::Release);
    }

    /// Loads a word.
    #[must_use]
    pub fn load64(&self, at: u64) -> u64 {
        // SAFETY: as for `store64`; a load needs no permission to write.
        unsafe { AtomicU64::from_ptr(self.word(at, 8).cast()) }.load(Ordering::Acquire)
    }

    /// Stores half a word.
    pub fn store32(&self, at: u64, value: u32) {
        // SAFETY: as for `store64`.
        let word = unsafe { AtomicU32::from_ptr(self.word(at, 4).cast()) };
        word.store(value, Ordering::Release);
    }

    /// Loads half a word.
    #[must_use]
    pub fn load32(&self, at: u64) -> u32 {
        // SAFETY: as for `load64`.
        unsafe { AtomicU32::from_ptr(self.word(at, 4).cast()) }.load(Ordering::Acquire)
    }

    /// Wakes who sleeps on half a word.
    pub fn wake(&self, at: u64) {
        // SAFETY: as for `load64`.
        let word = unsafe { AtomicU32::from_ptr(self.word(at, 4).cast()) };
        let flags = rustix::thread::futex::Flags::empty();
        let _ = rustix::thread::futex::wake(word, flags, i32::MAX as u32);
    }
}

impl Drop for RawMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own and nothing refers to it any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.size) };
    }
}

/// New memory of `size` bytes, allocated throughout and not sealed.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn memory(size: u64) -> OwnedFd {
    let fd = holey_memory(size);
    fallocate(&fd, FallocateFlags::empty(), 0, size).expect("allocated");
    fd
}

/// New memory of `size` bytes without a page.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn holey_memory(size: u64) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("hostile", flags).expect("memory");
    ftruncate(&fd, size).expect("sized");
    fd
}

/// Memory of `size` bytes that has a hole, and as many pages beyond its end, so that its
/// count of blocks is that of memory without holes.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn memory_with_blocks_beyond_its_end(size: u64) -> OwnedFd {
    let fd = holey_memory(size);
    let rounded = (size + 4095) & !4095;
    fallocate(&fd, FallocateFlags::KEEP_SIZE, rounded, rounded).expect("allocated beyond the end");
    fd
}

/// Seals memory.
///
/// # Panics
///
/// If the kernel refuses.
#[must_use]
pub fn sealed_with(fd: OwnedFd, seals: SealFlags) -> OwnedFd {
    fcntl_add_seals(&fd, seals).expect("sealed");
    fd
}
