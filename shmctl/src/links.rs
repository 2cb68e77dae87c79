//! Links, with what both ends count of them put together.

use std::{collections::BTreeMap, time::Duration};

use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use shm_transport::{
    LinkStatistics, PeerId, ReceiverStatistics, SenderStatistics, Traffic,
    inspect::{About, LinkView, Process, Role},
};

/// What of the frames' own bytes lies in the ring for each message.
const HEADER: u64 = 8;

/// One link, as far as it is seen.
#[derive(Clone, Debug, Serialize)]
pub struct Link {
    /// The hub's path.
    pub hub: String,
    /// Device and inode of the hub's socket.
    #[serde(skip)]
    pub socket: (u64, u64),
    /// The guest's entry and epoch; for two ends within a process, when it began.
    pub peer: String,
    /// The host's process, or the one that has both ends; none if it is not seen.
    pub host: Option<u32>,
    /// The guest's process; none if it is not seen.
    pub guest: Option<u32>,
    /// What the guest's process runs.
    pub command: Option<String>,
    /// For how long it has been there, in seconds.
    pub seconds: f64,
    /// Capacity of each ring, in bytes.
    pub ring: u64,
    /// Messages from the host.
    pub to_guest: Way,
    /// Messages from the guest.
    pub to_host: Way,
    /// What cannot be right.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// Messages and bytes, for JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    pub messages: u64,
    pub bytes: u64,
}

impl From<Traffic> for Count {
    fn from(traffic: Traffic) -> Self {
        Self { messages: traffic.messages, bytes: traffic.bytes }
    }
}

/// Messages one way.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Way {
    /// All that were sent, or, if the sender is not seen, received.
    #[serde(flatten)]
    pub all: Count,
    /// In the ring.
    pub inline: Count,
    /// In slots.
    pub slot: Count,
    /// In sealed memory.
    pub sealed: Count,
    /// In sealed memory that several links share. A receiver cannot tell it from its own.
    pub shared: Count,
    /// Sent and not received yet; none unless both ends are seen.
    pub under_way: Option<Count>,
    /// How much of the ring they take at least, from 0 to 1.
    pub fill: Option<f64>,
    /// How often a message found no room.
    pub full: Option<u64>,
    /// Messages that were dropped for want of room.
    pub dropped: Option<u64>,
    /// Slots that the sender has.
    pub slots: Option<u64>,
    /// Slots and sealed payloads that the receiver had, when one was sent last.
    pub in_use: Option<u64>,
    /// The most of these at once.
    pub most_in_use: Option<u64>,
    /// System calls by which the sender woke the receiver.
    pub wakes: Option<u64>,
    /// Such calls that were spared.
    pub wakes_spared: Option<u64>,
    /// For how long the sender has been asleep for room, in seconds.
    pub stalled: Option<f64>,
    /// For how long the receiver has been asleep for a message, in seconds.
    pub idle: Option<f64>,
}

impl Way {
    fn new(
        sent: Option<&SenderStatistics>,
        received: Option<&ReceiverStatistics>,
        ring: u64,
        now: u64,
    ) -> Self {
        let mut way = Self::default();
        let asleep = |since: u64| (since != 0).then(|| now.saturating_sub(since) as f64 / 1e9);
        if let Some(received) = received {
            way.all = received.total().into();
            way.inline = received.inline.into();
            way.slot = received.slot.into();
            way.sealed = received.sealed.into();
            way.idle = asleep(received.asleep_since);
        }
        if let Some(sent) = sent {
            way.all = sent.total().into();
            way.inline = sent.inline.into();
            way.slot = sent.slot.into();
            way.sealed = sent.sealed.into();
            way.shared = sent.shared.into();
            way.full = Some(sent.full);
            way.dropped = Some(sent.dropped);
            way.slots = Some(sent.slots);
            way.in_use = Some(sent.in_use);
            way.most_in_use = Some(sent.most_in_use);
            way.wakes = Some(sent.wakes);
            way.wakes_spared = Some(sent.wakes_spared);
            way.stalled = asleep(sent.asleep_since);
        }
        if let (Some(sent), Some(received)) = (sent, received) {
            // What is sent meanwhile makes it look like more, never like less.
            let less = |a: Traffic, b: Traffic| Count {
                messages: a.messages.saturating_sub(b.messages),
                bytes: a.bytes.saturating_sub(b.bytes),
            };
            let all = less(sent.total(), received.total());
            let inline = less(sent.inline, received.inline);
            let in_ring = inline.bytes.saturating_add(all.messages.saturating_mul(HEADER));
            way.under_way = Some(all);
            way.fill = Some((in_ring as f64 / ring.max(1) as f64).min(1.0));
        }
        way
    }
}

/// Now, by the clock that sleeps are counted by, in nanoseconds.
fn monotonic() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| Duration::from(now).as_nanos() as u64)
}

fn boot_time() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |now| Duration::from(now).as_nanos() as u64)
}

/// Both ends of a link, as far as they are seen.
#[derive(Default)]
struct Ends<'a> {
    host: Option<(&'a Process, About, LinkStatistics)>,
    guest: Option<(&'a Process, About, LinkStatistics)>,
}

/// All links of these processes. What was received is looked at before what was sent, so that
/// what is under way is never less than nothing.
pub fn links<'a>(processes: impl Iterator<Item = &'a Process>) -> Vec<Link> {
    let mut linked: BTreeMap<(u128, PeerId), Ends<'a>> = BTreeMap::new();
    let mut pairs = Vec::new();
    for process in processes {
        for LinkView { about, statistics, .. } in process.links() {
            if about.role == Role::Pair {
                pairs.push((process, about, statistics));
                continue;
            }
            let ends = linked.entry((about.incarnation, about.peer)).or_default();
            let end = if about.role == Role::Host { &mut ends.host } else { &mut ends.guest };
            *end = Some((process, about, statistics));
        }
    }
    let (now, boot) = (monotonic(), boot_time());
    let mut links: Vec<Link> =
        linked.into_values().filter_map(|ends| link(ends, now, boot)).collect();
    links.extend(pairs.into_iter().map(|(process, about, statistics)| {
        let way = |sent, received| Way::new(sent, received, about.ring_capacity, now);
        Link {
            hub: String::new(),
            socket: (0, 0),
            peer: format!("pair@{}", about.since),
            host: Some(process.pid),
            guest: Some(process.pid),
            command: Some(process.command.clone()),
            seconds: boot.saturating_sub(about.since) as f64 / 1e9,
            ring: about.ring_capacity,
            to_guest: way(Some(&statistics.sent), None),
            to_host: way(None, Some(&statistics.received)),
            problems: Vec::new(),
        }
    }));
    links
}

fn link(ends: Ends<'_>, now: u64, boot: u64) -> Option<Link> {
    let Ends { host, guest } = ends;
    // The host's word counts, and where there is none the guest's.
    let (_, about, _) = host.as_ref().or(guest.as_ref())?;
    let ring = about.ring_capacity;
    let (ours, theirs) = (host.as_ref().map(|end| &end.2), guest.as_ref().map(|end| &end.2));
    let sent = |end: Option<&'_ LinkStatistics>| end.map(|counts| counts.sent);
    let received = |end: Option<&'_ LinkStatistics>| end.map(|counts| counts.received);
    let way = |from, to| Way::new(sent(from).as_ref(), received(to).as_ref(), ring, now);
    let mut problems = Vec::new();
    if let (Some((_, host, _)), Some((_, guest, _))) = (&host, &guest)
        && host.ring_capacity != guest.ring_capacity
    {
        problems.push(format!(
            "the host says that its rings have {} bytes, the guest {}",
            host.ring_capacity, guest.ring_capacity
        ));
    }
    let guest_pid = guest.as_ref().map(|(process, ..)| process.pid);
    let seen = host.as_ref().map(|(_, about, _)| about.peer_pid).filter(|pid| *pid != 0);
    Some(Link {
        hub: about.path.clone(),
        socket: about.socket,
        peer: about.peer.to_string(),
        host: host.as_ref().map(|(process, ..)| process.pid),
        guest: guest_pid.or(seen),
        command: guest.as_ref().map(|(process, ..)| process.command.clone()),
        seconds: boot.saturating_sub(about.since) as f64 / 1e9,
        ring,
        to_guest: way(ours, theirs),
        to_host: way(theirs, ours),
        problems,
    })
}
