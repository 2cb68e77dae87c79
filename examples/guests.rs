//! A host that serves many guests in one thread: it keeps accounts, guests pay in and are told
//! what is there. The guests come and go as they like; one of them is killed.
//!
//! `cargo run -p shm-examples --bin guests`

use std::{
    collections::HashMap,
    env,
    error::Error,
    path::Path,
    process::{Child, Command, abort},
    time::Duration,
};

use shm_transport::{Guest, Host, Link, LinkEnd, LinkEvent, LinkSet, RecvError};

const WAIT: Duration = Duration::from_secs(30);
const GUESTS: usize = 8;
/// What each guest pays in, in steps of 1.
const PAYMENTS: u64 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [path, account, how] => pay(path.as_ref(), account, how == "is killed"),
        [] => serve(),
        _ => Err("usage: guests".into()),
    }
}

/// A guest: pays in, one by one, and is told each time what the account has.
fn pay(path: &Path, account: &str, is_killed: bool) -> Result<(), Box<dyn Error>> {
    let mut guest = Guest::attach(path, WAIT)?;
    for paid in 1..=PAYMENTS {
        guest.link.send(account.as_bytes(), WAIT)?;
        let balance = guest.link.recv(WAIT)?.read_u64(0).ok_or("a balance is a number")?;
        assert!(balance >= paid, "{balance} after {paid}");
        if is_killed && paid == PAYMENTS / 2 {
            abort();
        }
    }
    Ok(guest.detach(WAIT)?)
}

/// The host.
fn serve() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("hub");
    let mut host = Host::builder().max_guests(GUESTS).create(&path)?;
    let mut children = start_guests(&path)?;

    let mut accounts: HashMap<String, u64> = HashMap::new();
    let mut links = LinkSet::new()?;
    let mut events = Vec::new();
    let mut ended = 0;
    while ended < GUESTS {
        links.wait_with(&mut host, &mut events, WAIT)?;
        for event in &events {
            // Who has just come has nothing to say yet; it is served with the others.
            let LinkEvent::Ready(key) = *event else { continue };
            let Some(link) = links.get_mut(key) else { continue };
            if let Some(end) = serve_one(link, &mut accounts)? {
                println!("a guest is gone: {end}");
                links.remove(key);
                ended += 1;
            }
        }
    }
    for child in &mut children {
        child.wait()?;
    }
    let statistics = host.hub().statistics();
    println!("{} guests came, {} died", statistics.attached, statistics.died);
    for (account, balance) in accounts {
        println!("{account} has {balance}");
    }
    Ok(())
}

/// Answers what a guest has sent; returns how its link ended, if it has.
fn serve_one(
    link: &mut Link,
    accounts: &mut HashMap<String, u64>,
) -> Result<Option<LinkEnd>, Box<dyn Error>> {
    loop {
        let account = match link.try_recv() {
            Ok(Some(message)) => String::from_utf8(message.to_bytes().into())?,
            Ok(None) => return Ok(None),
            Err(RecvError::Ended(end)) => return Ok(Some(end)),
            Err(error) => return Err(error.into()),
        };
        let balance = accounts.entry(account).or_default();
        *balance += 1;
        // It waits for this answer, so there is room. If it is gone, the next look says so.
        let _ = link.try_send(&balance.to_le_bytes());
    }
}

fn start_guests(path: &Path) -> Result<Vec<Child>, Box<dyn Error>> {
    let mut children = Vec::new();
    for number in 0..GUESTS {
        let account = if number % 2 == 0 { "even" } else { "odd" };
        let how = if number == 1 { "is killed" } else { "leaves" };
        let mut command = Command::new(env::current_exe()?);
        children.push(command.arg(path).arg(account).arg(how).spawn()?);
    }
    Ok(children)
}
