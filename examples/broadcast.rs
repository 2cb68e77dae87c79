//! One process publishes prices, three others follow them: one keeps up, one is slow and
//! learns what it has missed, one only ever looks at the newest.
//!
//! `cargo run -p shm-examples --bin broadcast`

use std::{env, error::Error, process::Command, thread, time::Duration};

use shm_transport::{CommandExt, Guest, Host, LinkEnd, LinkSet, RecvError, Start, TopicConfig};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const WAIT: Duration = Duration::from_secs(10);
const PRICES: u64 = 1000;

/// What is published. The derives make sure that every byte of it is part of a field.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
struct Price {
    number: u64,
    cents: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        None => publish(),
        Some("keeps up") => follow(Duration::ZERO),
        Some("is slow") => follow(Duration::from_millis(20)),
        Some("looks at the newest") => look(),
        Some(other) => Err(format!("unknown role {other:?}").into()),
    }
}

/// The host.
fn publish() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    // Readers that fall behind by more than 64 prices lose some; the writer waits for nobody.
    let mut host = Host::builder()
        .topic("prices", TopicConfig { slots: 64, ..TopicConfig::of::<Price>() })
        .create(directory.path().join("hub"))?;
    let mut prices = host.hub().typed_publisher::<Price>("prices")?;

    let mut children = Vec::new();
    let mut links = LinkSet::new()?;
    for role in ["keeps up", "is slow", "looks at the newest"] {
        children.push(Command::new(env::current_exe()?).arg(role).spawn_guest(host.hub())?.child);
        let mut link = host.accept(WAIT)?;
        // It says when it has subscribed.
        link.recv(WAIT)?;
        links.insert(link)?;
    }
    for number in 0..PRICES {
        prices.set(&Price { number, cents: 10_000 + number % 7 });
        thread::sleep(Duration::from_micros(500));
    }
    // What each guest says of itself, and then the end of its link.
    for (_, link) in links.iter_mut() {
        loop {
            match link.recv(WAIT) {
                Ok(message) => println!("{}", String::from_utf8_lossy(&message.to_bytes())),
                Err(RecvError::Ended(LinkEnd::Departed)) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    for mut child in children {
        if !child.wait()?.success() {
            return Err("a guest failed".into());
        }
    }
    Ok(())
}

/// A guest that takes each price in order, and needs so long for it.
fn follow(work: Duration) -> Result<(), Box<dyn Error>> {
    let mut guest = Guest::attach_inherited(WAIT)?;
    let mut prices = guest.subscribe_typed::<Price>("prices", Start::Next)?;
    guest.link.send(b"subscribed", WAIT)?;
    let mut received = 0u64;
    loop {
        let price = prices.next(WAIT)?;
        received += 1;
        // Its number says how many came before it: none is missing without notice.
        let lost = prices.as_subscriber().lost();
        if price.number + 1 != received + lost {
            return Err(format!("price {} after {received} and {lost}", price.number).into());
        }
        if price.number + 1 == PRICES {
            break;
        }
        thread::sleep(work);
    }
    let lost = prices.as_subscriber().lost();
    report(guest, &format!("received {received} prices and lost {lost}"))
}

/// A guest that wants to know the price now and then.
fn look() -> Result<(), Box<dyn Error>> {
    let mut guest = Guest::attach_inherited(WAIT)?;
    let mut prices = guest.subscribe_typed::<Price>("prices", Start::Newest)?;
    guest.link.send(b"subscribed", WAIT)?;
    let newest = loop {
        match prices.get()? {
            Some(price) if price.number + 1 == PRICES => break price.cents,
            _ => thread::sleep(Duration::from_millis(5)),
        }
    };
    report(guest, &format!("the last price is {newest} cents"))
}

fn report(mut guest: Guest, message: &str) -> Result<(), Box<dyn Error>> {
    guest.link.send(message.as_bytes(), WAIT)?;
    Ok(guest.detach(WAIT)?)
}
