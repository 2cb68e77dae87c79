//! One message to all links of a set.
//!
//! A small message is copied into each ring or a slot. A large one is made once, sealed, and
//! its descriptor goes to each link under a number of that link's own pool. So what a guest
//! can keep in use is bounded by its own link, as for any sealed payload, and the memory is
//! there once however many have it.
//!
//! Links that have room are served first, in one pass; only then the policy looks at those
//! that have none.

use std::{fmt, time::Instant};

use shm_primitives::{Mapped, Offset};

use crate::{
    deadline::Deadline,
    error::{FanOutError, LinkEnd, OsError, SendError},
    link::{
        Link, SharedPayload,
        sender::SOCKET_PAUSE,
        staging::{Blocked, Growth, StageError},
    },
    link_set::{LinkKey, LinkSet},
    os::{
        fence,
        futex::{self, Word},
    },
    vain::VainWakeUps,
};

/// What becomes of a guest that has no room for a message to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowGuest {
    /// The call waits for it until the deadline, when all others have theirs.
    Wait(Deadline),
    /// It does not get this message, and can see how many it
    /// [missed](crate::Receiver::missed).
    Drop,
    /// It is thrown out, as by [`Hub::evict`](crate::Hub::evict).
    Evict,
}

/// Why a guest did not get a message.
#[derive(Debug)]
#[non_exhaustive]
pub enum Missed {
    /// It had no room, and was told that it misses one more.
    Dropped,
    /// It had no room before the deadline.
    TimedOut,
    /// It had no room, and was thrown out. [Remove](LinkSet::remove) its link.
    Evicted,
    /// Its link was over. [Remove](LinkSet::remove) it.
    Ended(LinkEnd),
    /// The system refused to queue it. Where messages are dropped, the guest was told that
    /// it misses one more.
    Os(OsError),
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped => f.write_str("the guest had no room: it was told that it misses one"),
            Self::TimedOut => f.write_str("the guest made no room before the deadline"),
            Self::Evicted => f.write_str("the guest had no room and was evicted: drop its link"),
            Self::Ended(end) => end.fmt(f),
            Self::Os(error) => error.fmt(f),
        }
    }
}

/// Who got a message to all, and who did not.
#[derive(Debug, Default)]
#[must_use = "it says who did not get the message"]
#[non_exhaustive]
pub struct FanOut {
    /// To how many links the message was queued.
    pub sent: usize,
    /// All others, with the reason.
    pub missed: Vec<(LinkKey, Missed)>,
}

impl LinkSet {
    /// Queues a message to every link of the set. From 64 KiB on, and beyond the largest
    /// slot, it is put into sealed memory once, and each guest maps that one copy. What is
    /// smaller is copied to each, as by [`Sender::send`](crate::Sender::send), and so is
    /// what goes to a link that carries no sealed payloads.
    ///
    /// `slow` says what becomes of guests that have no room: in their ring, in their slots
    /// or, for what is shared, for one more sealed payload
    /// ([`sealed_limit`](crate::LinkConfig::sealed_limit)). All others have theirs before
    /// anybody is waited for, and one guest's trouble is no other's.
    ///
    /// Each guest receives what is queued to it in order, together with what is sent to it
    /// alone.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shm_transport::{Link, LinkConfig, LinkSet, Missed, SlowGuest};
    ///
    /// let config = LinkConfig { sealed_limit: 2, ..LinkConfig::default() };
    /// let wait = Duration::from_secs(1);
    /// let mut links = LinkSet::new()?;
    /// let (link, mut brisk) = Link::pair(&config)?;
    /// links.insert(link)?;
    /// let (link, mut slow) = Link::pair(&config)?;
    /// let slow_key = links.insert(link)?;
    ///
    /// let frame = vec![7; 1 << 20];
    /// for _ in 0..2 {
    ///     let all = links.send_to_all(&frame, SlowGuest::Wait(wait.into()))?;
    ///     assert_eq!(all.sent, 2);
    ///     assert_eq!(brisk.recv(wait)?.len(), frame.len());
    /// }
    /// // One guest has read nothing, and its link carries two sealed payloads.
    /// let all = links.send_to_all(&frame, SlowGuest::Drop)?;
    /// assert_eq!(all.sent, 1);
    /// assert!(matches!(all.missed[..], [(key, Missed::Dropped)] if key == slow_key));
    /// assert_eq!((slow.missed(), brisk.missed()), (1, 0));
    /// assert_eq!(slow.recv(wait)?.len(), frame.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`FanOutError::TooLarge`] if a link that is open carries no message of this length,
    /// [`FanOutError::Os`] if the shared memory could not be had. Nothing was queued to
    /// anybody then.
    pub fn send_to_all(&mut self, message: &[u8], slow: SlowGuest) -> Result<FanOut, FanOutError> {
        let len = message.len();
        let is_open = |link: &Link| link.end().is_none();
        let smallest = self.iter_mut().filter(|(_, link)| is_open(link));
        let max = smallest.map(|(_, link)| link.sender.max_message()).min().unwrap_or(u64::MAX);
        if len as u64 > max {
            return Err(FanOutError::TooLarge { len: len as u64, max });
        }
        // A message that is dropped for all who would share it is not made at all.
        let waits = matches!(slow, SlowGuest::Wait(_));
        let wanted = self.iter_mut().any(|(_, link)| {
            let room = |link: &mut Link| waits || link.sender.half.has_room_to_share();
            link.sender.half.should_share(len) && is_open(link) && room(link)
        });
        let shared = if wanted { Some(SharedPayload::new(message)) } else { None };
        let shared = shared.transpose().map_err(FanOutError::Os)?;
        let message = ToAll { message, shared };

        let mut all = FanOut::default();
        let mut blocked = Vec::new();
        for (key, link) in self.iter_mut() {
            match message.try_send(link) {
                Err(StageError::Blocked(on)) => {
                    link.sender.half.count_full(on);
                    blocked.push(Slow { key, link, on });
                }
                Err(StageError::Failed(error)) => {
                    if slow == SlowGuest::Drop && is_open(link) {
                        link.sender.count_dropped();
                    }
                    all.missed.push((key, missed(error)));
                }
                Ok(()) => all.sent += 1,
            }
        }
        match slow {
            _ if blocked.is_empty() => {}
            SlowGuest::Wait(deadline) => message.wait(blocked, deadline.fixed(), &mut all),
            SlowGuest::Drop => all.missed.extend(blocked.into_iter().map(Slow::drop_for)),
            SlowGuest::Evict => all.missed.extend(blocked.into_iter().map(Slow::evict)),
        }
        Ok(all)
    }
}

/// A message on its way to several links.
struct ToAll<'a> {
    message: &'a [u8],
    /// For the links that share it, if any has room.
    shared: Option<SharedPayload>,
}

/// A link that has no room.
struct Slow<'a> {
    key: LinkKey,
    link: &'a mut Link,
    on: Blocked,
}

impl ToAll<'_> {
    fn try_send(&self, link: &mut Link) -> Result<(), StageError> {
        // What is sent to a guest that has said goodbye may not be received.
        if let Some(end) = link.end() {
            return Err(end.into());
        }
        let half = &mut link.sender.half;
        match &self.shared {
            _ if !half.should_share(self.message.len()) => half.stage(self.message, Growth::Now)?,
            Some(payload) => half.stage_shared(payload)?,
            None => return Err(StageError::Blocked(Blocked::Slots)),
        }
        half.publish();
        Ok(())
    }

    /// Waits for all of these at once, and serves each as soon as it has room.
    fn wait(&self, mut blocked: Vec<Slow<'_>>, deadline: Deadline, all: &mut FanOut) {
        let start = Instant::now();
        let spin = blocked.iter().map(|slow| slow.link.sender.waiter.max_spin()).max();
        let spin = deadline.remaining_at_most(spin).unwrap_or_default();
        while !blocked.is_empty() && start.elapsed() < spin {
            // The others cost a system call each time.
            self.serve(&mut blocked, Blocked::is_rung_for, all);
            std::hint::spin_loop();
        }
        let mut vain = VainWakeUps::default();
        loop {
            if blocked.is_empty() || deadline.has_passed() {
                break;
            }
            let bells: Vec<Bell> = blocked.iter_mut().map(Slow::announce).collect();
            // SYNC SLEEP_FENCE: one for all of them.
            let mut cores = blocked.iter().map(|slow| &slow.link.sender.half.core);
            fence::before_sleep(cores.any(|core| core.has_asymmetric_fence()));
            let before = blocked.len();
            self.serve(&mut blocked, |_| true, all);
            if blocked.len() == before {
                sleep(&blocked, &bells, deadline);
            }
            for slow in &mut blocked {
                slow.link.sender.waiter.awake();
            }
            if blocked.len() < before {
                vain.forget();
            } else if let Some(nap) = vain.count() {
                // One rings for nothing. The others wait a little longer for that.
                let nap = deadline.remaining_at_most(Some(nap)).unwrap_or(nap);
                futex::wait_any(&ends(&blocked), Some(nap));
            }
        }
        self.serve(&mut blocked, |_| true, all);
        all.missed.extend(blocked.into_iter().map(|slow| (slow.key, Missed::TimedOut)));
    }

    /// Tries those again that are blocked on something that `tries`; keeps those that still
    /// have no room.
    fn serve(&self, blocked: &mut Vec<Slow<'_>>, tries: fn(Blocked) -> bool, all: &mut FanOut) {
        blocked.retain_mut(|slow| {
            if !tries(slow.on) {
                return true;
            }
            match self.try_send(slow.link) {
                Err(StageError::Blocked(on)) => {
                    slow.on = on;
                    return true;
                }
                Err(StageError::Failed(error)) => all.missed.push((slow.key, missed(error))),
                Ok(()) => all.sent += 1,
            }
            slow.link.sender.waiter.awake();
            false
        });
    }
}

impl Slow<'_> {
    fn drop_for(self) -> (LinkKey, Missed) {
        self.link.sender.count_dropped();
        (self.key, Missed::Dropped)
    }

    fn evict(self) -> (LinkKey, Missed) {
        let Self { key, link, on } = self;
        if on == Blocked::Descriptors {
            let source = rustix::io::Errno::MFILE;
            return (key, Missed::Os(OsError::new("hand over memory", source)));
        }
        link.sender.half.core.evict(false);
        let missed = match link.end() {
            None | Some(LinkEnd::Evicted) => Missed::Evicted,
            // It was faster.
            Some(end) => Missed::Ended(end),
        };
        (key, missed)
    }

    /// Announces a sleep.
    fn announce(&mut self) -> Bell {
        let sender = &mut self.link.sender;
        let (at, seen) = sender.waiter.announce_on_futex();
        Bell { outbox: sender.half.core.peer.mapped(), at, seen }
    }
}

/// What a guest rings when it has made room, and what it showed before the sleep.
struct Bell {
    outbox: Mapped,
    at: Offset,
    seen: u32,
}

/// Sleeps until one of the links may have room, or has ended.
fn sleep(blocked: &[Slow<'_>], bells: &[Bell], deadline: Deadline) {
    let rings = bells.iter().map(|bell| Word::Shared(bell.outbox.word32(bell.at), bell.seen));
    // In turns, so that of more words than the kernel takes both kinds are watched.
    let words = rings.zip(ends(blocked)).flat_map(|(ring, end)| [ring, end]);
    let words: Vec<Word<'_>> = words.collect();
    let pause = blocked.iter().any(|slow| !slow.on.is_rung_for()).then_some(SOCKET_PAUSE);
    futex::wait_any(&words, deadline.remaining_at_most(pause));
}

fn ends<'a>(blocked: &'a [Slow<'_>]) -> Vec<Word<'a>> {
    let ends = blocked.iter().map(|slow| slow.link.sender.half.core.end_word());
    ends.map(|(word, open)| Word::Private(word, open)).collect()
}

/// Why a link could not take a message whose size was checked.
fn missed(error: SendError) -> Missed {
    match error {
        SendError::Ended(end) => Missed::Ended(end),
        SendError::Os(error) => Missed::Os(error),
        SendError::Full | SendError::TimedOut | SendError::TooLarge { .. } => Missed::TimedOut,
    }
}
