//! The other process of the tests. Its first argument is its role; most roles then take
//! commands, one a line, and answer each with one line.

mod broadcast;
mod fleet;
mod guest;
mod host;
mod hostile;
mod lease;
mod limits;
mod messages;
mod store;
mod stream;

use std::{
    env,
    io::{self, BufRead, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        ["guest", path] => guest::by_path(path, None),
        ["guest", path, ticket] => guest::by_path(path, Some(ticket)),
        ["inherited"] => guest::inherited(),
        ["host", path] => host::run(path),
        ["publisher", path, slots, max] => broadcast::publish(path, number(slots), number(max)),
        ["subscriber", path] => broadcast::subscribe(path),
        ["send", path, count, batch] => stream::send(path, number(count), number(batch)),
        ["receive", path, count] => stream::receive(path, number(count)),
        ["both", path, count] => stream::both(path, number(count)),
        ["messages", count] => messages::pair(number(count)),
        ["messages", path, role, way, spin, work, count] => {
            messages::side(path, role, way, number(spin), number(work), number(count));
        }
        ["hostile", path, kind] => hostile::run(path, kind),
        ["lease", path] => lease::run(path),
        ["lease-in-namespace", path] => lease::in_namespace(path),
        ["lease-churn", path, log] => lease::churn(path, log, true),
        ["lease-churn-on", path, log] => lease::churn(path, log, false),
        ["limits", kind, path] => limits::run(kind, path),
        ["fleet", directory, node] => fleet::run(directory, node),
        ["fleet-soak", directory, node, life] => fleet::soak(directory, node, life),
        ["fleet-create", directory] => fleet::create(directory),
        ["store", path] => store::run(path),
        ["store-append", path, stream, life, log, producer] => {
            store::append(path, stream, life, log, producer == "producer");
        }
        ["store-follow", path, stream, log] => store::follow(path, stream, log),
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
