//! Sides of a link that a tracer watches: what they do between two calls of `getppid` is
//! what it counts.

use std::{
    fs::{self, DirEntry},
    future::{Future, poll_fn},
    pin::pin,
    time::{Duration, Instant},
};

use nix::libc;
use rustix::{
    process::getppid,
    thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity},
};
use shm_tests::{WAIT, eventually};
use shm_transport::{Guest, Host, Link, LinkConfig, asynchronous::AsyncLink};

use crate::command;

const MESSAGE: [u8; 64] = [7; 64];
/// In turn, on one processor.
const YIELDING: &str = "yielding";

/// Both ends of a link, in turn.
pub(crate) fn pair(count: u64) {
    wait_for_tracer();
    let (mut left, mut right) = Link::pair(&LinkConfig::default()).expect("memory");
    let mut buffer = [0; MESSAGE.len()];
    counted(|| {
        for _ in 0..count {
            left.send(&MESSAGE, WAIT).expect("sent");
            right.recv_into(&mut buffer, WAIT).expect("received");
        }
    });
    assert_eq!(buffer, MESSAGE);
}

/// One of two processes. The host begins.
pub(crate) fn side(path: &str, role: &str, way: &str, spin: u64, work: u64, count: u64) {
    wait_for_tracer();
    let work = Duration::from_nanos(work);
    if role == "host" {
        let config = LinkConfig { spin: Duration::from_nanos(spin), ..LinkConfig::default() };
        let mut host = Host::builder().link(config).create(path).expect("a host");
        let mut link = host.accept(WAIT).expect("a guest");
        pin(0);
        if way == YIELDING {
            link.set_yielding_spin(Duration::from_nanos(spin));
        }
        meet(&mut link);
        counted(|| match way {
            "one-way" => (0..count).for_each(|_| send(&mut link, work)),
            _ => (0..count).for_each(|_| {
                send(&mut link, work);
                receive(&mut link);
            }),
        });
        meet(&mut link);
    } else {
        // The host may still be about to begin.
        let mut guest = eventually(|| Guest::attach(path, WAIT).ok());
        if way == YIELDING {
            pin(0);
            guest.link.set_yielding_spin(Duration::from_nanos(spin));
        } else {
            pin(1);
        }
        meet(&mut guest.link);
        counted(|| match way {
            "one-way" => (0..count).for_each(|_| receive(&mut guest.link)),
            _ => (0..count).for_each(|_| {
                receive(&mut guest.link);
                send(&mut guest.link, work);
            }),
        });
        meet(&mut guest.link);
    }
}

/// One of two processes, in a task. The host begins.
pub(crate) fn task(path: &str, role: &str, count: u64) {
    wait_for_tracer();
    let runtime = shm_tests::tasks::current_thread();
    let link = if role == "host" {
        Host::create(path).expect("a host").accept(WAIT).expect("a guest")
    } else {
        eventually(|| Guest::attach(path, WAIT).ok()).link
    };
    pin(usize::from(role != "host"));
    let mut link = runtime.block_on(async { AsyncLink::new(link).expect("registered") });
    // Neither side sleeps, however long it waits.
    link.set_spin(Duration::from_secs(3600));
    let begins = role == "host";
    let exchange = |link, count| {
        // A task of its own: to wake the future of `block_on` takes a system call.
        runtime.block_on(async { tokio::spawn(turns(round_trips(link, begins, count))).await })
    };
    let (mut link, mut turns) = (exchange(link, 10).ok().map(|(link, _)| link), 0);
    counted(|| {
        let exchanged = link.take().and_then(|link| exchange(link, count).ok());
        (link, turns) = exchanged.map_or((None, 0), |(link, turns)| (Some(link), turns));
    });
    // Both have come as far as this.
    exchange(link.expect("it has not panicked"), 10).expect("it has not panicked");
    fs::write(format!("{path}.{role}"), turns.to_string()).expect("written");
}

/// What becomes of a future, and how often it gave others their turn before.
async fn turns<F: Future>(future: F) -> (F::Output, u64) {
    let (mut future, mut turns) = (pin!(future), 0);
    let output = poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        turns += u64::from(polled.is_pending());
        polled
    })
    .await;
    (output, turns)
}

async fn round_trips(mut link: AsyncLink, begins: bool, count: u64) -> AsyncLink {
    for _ in 0..count {
        if begins {
            link.send(&MESSAGE).await.expect("sent");
        }
        assert_eq!(link.recv().await.expect("received").len(), MESSAGE.len());
        if !begins {
            link.send(&MESSAGE).await.expect("sent");
        }
    }
    link
}

/// Both sides have come as far as this.
fn meet(link: &mut Link) {
    link.send(b"here", WAIT).expect("sent");
    assert_eq!(link.recv(WAIT).expect("the other one").to_bytes(), &b"here"[..]);
}

/// The tracer says so when it traces.
fn wait_for_tracer() {
    assert_eq!(command().as_deref(), Some("go"));
}

fn counted(what: impl FnOnce()) {
    // What the start of the watching thread takes is no message's cost.
    eventually(|| others_watch().then_some(()));
    let _mark = getppid();
    what();
    let _mark = getppid();
}

fn send(link: &mut Link, work: Duration) {
    if !work.is_zero() {
        let start = Instant::now();
        while start.elapsed() < work {
            std::hint::spin_loop();
        }
    }
    link.send(&MESSAGE, WAIT).expect("sent");
}

fn receive(link: &mut Link) {
    let mut buffer = [0; MESSAGE.len()];
    link.recv_into(&mut buffer, WAIT).expect("received");
    assert_eq!(buffer, MESSAGE);
}

/// Whether all other threads of this process sleep in the call in which they watch.
fn others_watch() -> bool {
    let own = gettid().as_raw_nonzero().to_string();
    let threads = fs::read_dir("/proc/self/task").expect("threads");
    let others = threads.flatten().filter(|thread| *thread.file_name() != *own);
    let read = |thread: &DirEntry, what| fs::read_to_string(thread.path().join(what));
    others.into_iter().all(|thread| {
        let call = read(&thread, "syscall").unwrap_or_default();
        let state = read(&thread, "stat").unwrap_or_default();
        call.starts_with(&format!("{} ", libc::SYS_epoll_pwait)) && state.contains(") S ")
    })
}

/// Stays on a processor of its own if there are two: who waits without sleeping keeps the
/// other one from running.
fn pin(number: usize) {
    let allowed = sched_getaffinity(None).expect("an affinity");
    let mut processors = (0..CpuSet::MAX_CPU).filter(|&processor| allowed.is_set(processor));
    if let Some(processor) = processors.nth(number) {
        let mut set = CpuSet::new();
        set.set(processor);
        sched_setaffinity(None, &set).expect("pinned");
    }
}
