//! Chaos under load for as long as it is told: eight guests send and receive as fast as
//! they can while they are killed, stopped and continued at random. Prints what was lost,
//! duplicated, reordered or torn, and what is left in use; fails if anything is.
//!
//! `chaos [--minutes N] [--seed N] [--kills-per-second N] [--json]`

use std::{env, path::Path, process::ExitCode, time::Duration};

use shm_tests::chaos::{self, Options};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        ["guest", records, number, life] => guest(records, number, life, None),
        ["guest", records, number, life, path] => guest(records, number, life, Some(path)),
        _ => match options(&arguments) {
            Some((options, json)) => run(&options, json),
            None => {
                eprintln!("chaos [--minutes N] [--seed N] [--kills-per-second N] [--json]");
                ExitCode::FAILURE
            }
        },
    }
}

fn guest(records: &str, number: &str, life: &str, path: Option<&str>) -> ExitCode {
    let [number, life] = [number, life].map(|text| text.parse().expect("a number"));
    exit_code(chaos::guest::run(Path::new(records), number, life, path.map(Path::new)))
}

fn exit_code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(arguments: &[&str]) -> Option<(Options, bool)> {
    let mut options = Options {
        program: env::current_exe().ok()?,
        duration: Duration::from_secs(60),
        seed: 1,
        guests: 8,
        kills_per_second: 20.0,
        progress: Some(Duration::from_secs(10)),
    };
    let mut json = false;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            "--minutes" => {
                let minutes: f64 = arguments.next()?.parse().ok()?;
                options.duration = Duration::try_from_secs_f64(60.0 * minutes).ok()?;
            }
            "--seed" => options.seed = arguments.next()?.parse().ok()?,
            "--kills-per-second" => {
                options.kills_per_second = arguments.next()?.parse().ok()?;
            }
            "--json" => json = true,
            _ => return None,
        }
    }
    (options.kills_per_second > 0.0).then_some((options, json))
}

fn run(options: &Options, json: bool) -> ExitCode {
    let options = Options { progress: options.progress.filter(|_| !json), ..options.clone() };
    let report = chaos::run(&options);
    if json {
        println!("{}", report.json());
    } else {
        println!("{report}");
    }
    exit_code(report.is_clean())
}
