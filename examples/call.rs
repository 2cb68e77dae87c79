//! Calls between processes: a host has work done by a worker that it starts, many calls at once,
//! and the worker asks the host back over the same link. One call comes too late, one fails, and
//! at the end the worker is killed in the middle of one.
//!
//! `cargo run -p shm-examples --bin call`

use std::{env, error::Error, process::Command, time::Duration};

use bytes::Bytes;
use shm_transport::{
    CommandExt, Deadline, Guest, Host,
    asynchronous::AsyncLink,
    call::{self, BoxError, CallConfig, Caller},
};
use tokio::task::JoinSet;
use tower::service_fn;

const WAIT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match env::args().nth(1) {
        None => runtime.block_on(host()),
        Some(_) => runtime.block_on(worker()),
    }
}

async fn host() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let mut host = Host::create(directory.path().join("hub"))?;
    let mut command = Command::new(env::current_exe()?);
    let mut child = command.arg("worker").spawn_guest(host.hub())?.child;
    let link = AsyncLink::new(host.accept(WAIT)?)?;

    // What the worker asks back.
    let prices = service_fn(|what: Bytes| async move {
        match &what[..] {
            b"tea" => Ok(Bytes::from("3")),
            b"cake" => Ok(Bytes::from("5")),
            _ => Err(BoxError::from("not for sale")),
        }
    });
    let (caller, driver) = call::connect(link, prices, &CallConfig::default());
    let driver = tokio::spawn(driver);

    let mut answers = JoinSet::new();
    for number in 1..=100u32 {
        let caller = caller.clone();
        answers.spawn(async move {
            let what = if number % 2 == 0 { "tea" } else { "cake" };
            let answer = caller.call_by(format!("{number} {what}").into(), WAIT).await?;
            Ok::<u32, BoxError>(str::from_utf8(&answer)?.parse()?)
        });
    }
    let mut sum = 0;
    while let Some(answer) = answers.join_next().await {
        sum += answer?.map_err(|error| error.to_string())?;
    }
    println!("100 calls: {sum} in all");

    let fails = caller.call_by("1 unicorn".into(), WAIT).await;
    println!("{}", fails.expect_err("there are none"));
    let late = caller.call_by("sleep".into(), Duration::from_millis(20)).await;
    println!("{}", late.expect_err("it sleeps for ever"));

    let asleep = {
        let caller = caller.clone();
        tokio::spawn(async move { caller.call_by("sleep".into(), Deadline::NEVER).await })
    };
    caller.call_by("1 tea".into(), WAIT).await?;
    child.kill()?;
    child.wait()?;
    println!("{}", asleep.await?.expect_err("it is dead"));
    println!("the link: {}", driver.await??);
    Ok(())
}

async fn worker() -> Result<(), Box<dyn Error>> {
    let guest = Guest::attach_inherited(WAIT)?;
    let link = AsyncLink::new(guest.link)?;
    // The service needs the caller of the link that it serves.
    let (give, take) = tokio::sync::watch::channel(None::<Caller>);
    let service = service_fn(move |request: Bytes| {
        let host = take.borrow().clone();
        async move {
            let host = host.ok_or("it has just started")?;
            if request == "sleep" {
                return std::future::pending().await;
            }
            let (count, what) = str::from_utf8(&request)?.split_once(' ').ok_or("what?")?;
            let price = host.call_by(what.to_owned().into(), WAIT).await?;
            let sum = count.parse::<u32>()? * str::from_utf8(&price)?.parse::<u32>()?;
            Ok::<_, BoxError>(Bytes::from(sum.to_string()))
        }
    });
    let (caller, driver) = call::connect(link, service, &CallConfig::default());
    give.send_replace(Some(caller));
    driver.await?;
    Ok(())
}
