//! What links count, for the recorder of the [`metrics`](https://docs.rs/metrics) crate that the
//! program has installed, if any (feature `metrics`).
//!
//! Nothing is recorded by itself, and nothing for a message: the program calls [`record_hub`] or
//! [`record_link`] when it likes, such as before each scrape. Counts are counted anyway; recording
//! them reads a few words.
//!
//! ```
//! use shm_transport::{Host, metrics};
//!
//! let directory = tempfile::tempdir()?;
//! let host = Host::create(directory.path().join("hub"))?;
//! metrics::describe();
//! // And then, from time to time:
//! metrics::record_hub(host.hub(), "orders");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | metric | type | labels beside yours |
//! |---|---|---|
//! | `shm_messages_total`, `shm_bytes_total` | counter | `direction`: sent, received; `kind`: inline, slot, sealed, shared |
//! | `shm_full_total` | counter | |
//! | `shm_dropped_total` | counter | |
//! | `shm_sleeps_total`, `shm_asleep_nanoseconds_total` | counter | `direction`: sent (for room), received (for messages) |
//! | `shm_wakes_total`, `shm_wakes_spared_total` | counter | `direction` |
//! | `shm_slots`, `shm_slots_in_use`, `shm_slots_in_use_max` | gauge | |
//! | `shm_guests` | gauge | of a hub |
//! | `shm_guests_total` | counter | of a hub; `event`: attached, departed, died, evicted, corrupt, refused |

use ::metrics::{Label, Unit, counter, describe_counter, describe_gauge, gauge};

use crate::{Hub, LinkStatistics, PeerState, Traffic};

/// Tells the recorder what the metrics are. Once is enough.
pub fn describe() {
    describe_counter!("shm_messages_total", Unit::Count, "messages sent and received");
    describe_counter!("shm_bytes_total", Unit::Bytes, "bytes of messages, without headers");
    describe_counter!("shm_full_total", Unit::Count, "messages that found no room");
    describe_counter!("shm_dropped_total", Unit::Count, "messages dropped for want of room");
    describe_counter!("shm_sleeps_total", Unit::Count, "sleeps for room or for messages");
    describe_counter!("shm_asleep_nanoseconds_total", Unit::Nanoseconds, "time asleep");
    describe_counter!("shm_wakes_total", Unit::Count, "system calls that woke the peer");
    describe_counter!("shm_wakes_spared_total", Unit::Count, "wake-ups that were under way");
    describe_gauge!("shm_slots", Unit::Count, "slots of the pools");
    describe_gauge!("shm_slots_in_use", Unit::Count, "slots and payloads that receivers have");
    describe_gauge!("shm_slots_in_use_max", Unit::Count, "the most of these at once");
    describe_gauge!("shm_guests", Unit::Count, "guests that are attached");
    describe_counter!("shm_guests_total", Unit::Count, "what became of guests");
}

/// Records the counts of a link, or of several added up, under labels of your own.
pub fn record_link(statistics: &LinkStatistics, labels: &[(&'static str, String)]) {
    let base: Vec<Label> =
        labels.iter().map(|(name, value)| Label::new(*name, value.clone())).collect();
    let with = |more: &[(&'static str, &'static str)]| -> Vec<Label> {
        let more = more.iter().map(|(name, value)| Label::from_static_parts(name, value));
        base.iter().cloned().chain(more).collect()
    };
    let traffic = |direction, kind, traffic: Traffic| {
        let labels = with(&[("direction", direction), ("kind", kind)]);
        counter!("shm_messages_total", labels.clone()).absolute(traffic.messages);
        counter!("shm_bytes_total", labels).absolute(traffic.bytes);
    };
    let (sent, received) = (&statistics.sent, &statistics.received);
    traffic("sent", "inline", sent.inline);
    traffic("sent", "slot", sent.slot);
    traffic("sent", "sealed", sent.sealed);
    traffic("sent", "shared", sent.shared);
    traffic("received", "inline", received.inline);
    traffic("received", "slot", received.slot);
    traffic("received", "sealed", received.sealed);
    counter!("shm_full_total", with(&[])).absolute(sent.full);
    counter!("shm_dropped_total", with(&[])).absolute(sent.dropped);
    let of_both = [
        ("sent", sent.sleeps, sent.asleep, sent.wakes, sent.wakes_spared),
        ("received", received.sleeps, received.asleep, received.wakes, received.wakes_spared),
    ];
    for (direction, sleeps, asleep, wakes, spared) in of_both {
        let labels = with(&[("direction", direction)]);
        counter!("shm_sleeps_total", labels.clone()).absolute(sleeps);
        counter!("shm_asleep_nanoseconds_total", labels.clone()).absolute(asleep);
        counter!("shm_wakes_total", labels.clone()).absolute(wakes);
        counter!("shm_wakes_spared_total", labels).absolute(spared);
    }
    gauge!("shm_slots", with(&[])).set(sent.slots as f64);
    gauge!("shm_slots_in_use", with(&[])).set(sent.in_use as f64);
    gauge!("shm_slots_in_use_max", with(&[])).set(sent.most_in_use as f64);
}

/// Records what a host counts: all its links added up, those that are over as well, and its
/// guests, under the label `hub`.
pub fn record_hub(hub: &Hub, name: &str) {
    record_link(&hub.total_statistics(), &[("hub", name.to_owned())]);
    let attached = hub.peers().iter().filter(|peer| peer.state == PeerState::Attached).count();
    gauge!("shm_guests", "hub" => name.to_owned()).set(attached as f64);
    let counts = hub.statistics();
    let events = [
        ("attached", counts.attached),
        ("departed", counts.departed),
        ("died", counts.died),
        ("evicted", counts.evicted),
        ("corrupt", counts.corrupt),
        ("refused", counts.refused),
    ];
    for (event, count) in events {
        counter!("shm_guests_total", "hub" => name.to_owned(), "event" => event).absolute(count);
    }
}
