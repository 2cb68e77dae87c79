//! The other process of the tests. Its first argument is its role; most roles then take
//! commands, one a line, and answer each with one line.

mod broadcast;
mod calls;
mod canary;
mod creators;
mod fleet;
mod forks;
mod full;
mod guest;
mod honest;
mod host;
mod hostile;
#[cfg(target_arch = "x86_64")]
mod inject;
mod lease;
mod limits;
mod messages;
mod mutations;
mod steps;
mod store;
mod stream;
mod typed;

use std::{
    env,
    io::{self, BufRead, Write},
    process::ExitCode,
    time::Duration,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        ["guest", path] => guest::by_path(path, None),
        ["guest", path, ticket] => guest::by_path(path, Some(ticket)),
        ["inherited"] => guest::inherited(shm_tests::WAIT),
        ["inherited", wait] => guest::inherited(Duration::from_millis(number(wait))),
        ["host", path] => host::run(path),
        ["echoing-host", path] => host::echo(path),
        ["attaching-guest", path] => guest::attach_again_and_again(path),
        ["publisher", path, slots, max] => broadcast::publish(path, number(slots), number(max)),
        ["subscriber", path] => broadcast::subscribe(path),
        ["send", path, count, batch] => stream::send(path, number(count), number(batch)),
        ["receive", path, count] => stream::receive(path, number(count)),
        ["both", path, count] => stream::both(path, number(count)),
        ["messages", count] => messages::pair(number(count)),
        ["messages", path, role, way, spin, work, count] => {
            messages::side(path, role, way, number(spin), number(work), number(count));
        }
        ["messages-in-a-task", path, role, count] => messages::task(path, role, number(count)),
        ["canary", path, canary] => canary::hold(path, canary),
        ["honest", path] => honest::run(path),
        ["hostile", path, program] => hostile::run(path, program),
        ["hostile-programs"] => say(&hostile::names().join(" ")),
        ["scribble", path, seed] => hostile::scribble(path, number(seed)),
        ["mutations", progress, seed, first, last] => {
            mutations::run(progress, number(seed), number(first), number(last));
        }
        ["lease", path] => lease::run(path),
        ["lease-in-namespace", path] => lease::in_namespace(path),
        ["lease-churn", path, log] => lease::churn(path, log, true),
        ["lease-churn-on", path, log] => lease::churn(path, log, false),
        ["full", directory] => full::run(directory),
        // Under another umask; as another user if it was started as one.
        ["attempt", what, path, mask] => {
            let mask = u32::from_str_radix(mask, 8).expect("an umask");
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
            say(&shm_tests::attempt::attempt(what, path.as_ref()));
        }
        ["creator", path, meeting, creator, rounds] => {
            creators::race(path, meeting, number(creator), number(rounds));
        }
        ["limits", kind, path] => limits::run(kind, path),
        ["fleet", directory, node] => fleet::run(directory, node),
        ["fleet-soak", directory, node, life] => fleet::soak(directory, node, life),
        ["fleet-create", directory] => fleet::create(directory),
        #[cfg(target_arch = "x86_64")]
        ["inject", group] => inject::names_of(group),
        #[cfg(target_arch = "x86_64")]
        ["inject", operation, directory] => inject::run(operation, directory),
        ["forks", directory] => forks::run(directory),
        ["stepped-guest", path, operation] => steps::guest(path, operation),
        ["stepped-host", path, operation] => steps::host(path, operation),
        ["stepped-attach", path, how] => steps::attach(path, how),
        ["stepped-serve", path, what] => steps::serve(path, what),
        ["stepped-subscriber", path, what] => steps::subscribe(path, what),
        ["stepped-member", directory, what, life] => steps::member(directory, life, what),
        ["stepped-lease", path, what] => steps::lease(path, what),
        ["store", path] => store::run(path),
        ["store-append", path, stream, life, log, producer] => {
            store::append(path, stream, life, log, producer == "producer");
        }
        ["store-follow", path, stream, log] => store::follow(path, stream, log),
        ["typed", path, what] => typed::run(path, what),
        ["calls", path, calls] => calls::run(path, number(calls)),
        ["descriptors"] => say(&shm_tests::counts::holdings().descriptors.to_string()),
        _ => {
            eprintln!("unknown role: {arguments:?}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

/// Answers with a line.
fn say(line: &str) {
    let mut output = io::stdout().lock();
    // Nobody listens any more if the test has failed.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// The next command.
fn command() -> Option<String> {
    io::stdin().lock().lines().next().and_then(Result::ok)
}
