//! Operations of the state that processes share: topics and fleets.

use std::{error::Error, hint::black_box, thread, time::Duration};

use shm_transport::{
    Fleet, Guest, Host, Link, Publisher, Start, Subscriber, TopicConfig,
    fleet::{self, FleetRing, RingConfig},
};
use tempfile::TempDir;

use super::{BURST, TIMES, there, under_count};

type Done = Result<(), Box<dyn Error>>;

const WAIT: Duration = Duration::from_secs(10);
const SIZE: usize = 64;

/// A topic with its writer and a reader, and what they live in.
struct Topic {
    publisher: Publisher,
    subscriber: Subscriber,
    _guest: Guest,
    _link: Link,
    _host: Host,
    _directory: TempDir,
}

impl Topic {
    fn new() -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("hub");
        let topic = TopicConfig { slots: 64, max_payload: SIZE as u64 };
        let mut host = Host::builder().topic("values", topic).create(&path)?;
        let guest = thread::spawn(move || Guest::attach(path, WAIT));
        let link = host.accept(WAIT)?;
        let guest = guest.join().map_err(|_| "the guest's thread panicked")??;
        let publisher = host.hub().publisher("values")?;
        let subscriber = guest.subscribe("values", Start::Next)?;
        Ok(Self {
            publisher,
            subscriber,
            _guest: guest,
            _link: link,
            _host: host,
            _directory: directory,
        })
    }

    fn fill(&mut self) -> Done {
        (0..BURST).try_for_each(|_| self.publisher.publish(&[7; SIZE]).map(|_| ()))?;
        Ok(())
    }
}

pub fn publish() -> Done {
    let mut topic = Topic::new()?;
    let value = black_box([7; SIZE]);
    under_count(TIMES, || topic.publisher.publish(&value))
}

pub fn next() -> Done {
    let mut topic = Topic::new()?;
    for _ in 0..TIMES / BURST {
        topic.fill()?;
        under_count(BURST, || -> Result<u64, Box<dyn Error>> {
            Ok(there(topic.subscriber.try_next()?)?.position)
        })?;
    }
    Ok(())
}

pub fn newest() -> Done {
    let mut topic = Topic::new()?;
    topic.fill()?;
    under_count(TIMES, || -> Result<u64, Box<dyn Error>> {
        Ok(there(topic.subscriber.newest()?)?.position)
    })
}

/// A ring of a fleet of one.
struct Ring {
    ring: FleetRing,
    _fleet: Fleet,
    _directory: TempDir,
}

impl Ring {
    fn new() -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir_in("/dev/shm")?;
        let fleet = Fleet::builder().directory(directory.path()).join("gate", 0)?;
        let ring = fleet.ring(1, &RingConfig::default())?;
        let ring = Self { ring, _fleet: fleet, _directory: directory };
        // The first frames make the memory of the lane.
        ring.fill()?;
        Ok(ring)
    }

    fn fill(&self) -> Done {
        (0..BURST).try_for_each(|_| self.ring.publish(0, 1, &[7; SIZE]).map(|_| ()))?;
        Ok(())
    }
}

pub fn fleet_publish() -> Done {
    let ring = Ring::new()?;
    let payload = black_box([7; SIZE]);
    under_count(TIMES, || ring.ring.publish(0, 1, &payload))
}

pub fn fleet_next() -> Done {
    let ring = Ring::new()?;
    let mut cursor = ring.ring.cursor(fleet::Start::Next);
    for _ in 0..TIMES / BURST {
        ring.fill()?;
        under_count(BURST, || -> Result<_, Box<dyn Error>> { Ok(there(cursor.next()?)?) })?;
    }
    Ok(())
}

pub fn fleet_newest() -> Done {
    let ring = Ring::new()?;
    under_count(TIMES, || -> Result<_, Box<dyn Error>> { Ok(there(ring.ring.read_newest()?)?) })
}
