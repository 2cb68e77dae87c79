//! Counts the instructions of each operation under callgrind and compares them with what
//! the repository says. Unlike times, counts are the same however busy the machine is.
//!
//! `cargo run --release -p shm-benches --bin gate`

mod baseline;
mod callgrind;
mod operations;

use std::{collections::BTreeMap, error::Error, process::ExitCode};

use clap::Parser;

use baseline::{Baseline, Toolchain, Verdict};
use operations::{OPERATIONS, Operation};

/// Compares the instructions of each operation with the committed ones.
#[derive(Parser)]
struct Options {
    /// One operation by its name; all by default.
    operation: Option<String>,
    /// Write what was counted instead of comparing with it.
    #[arg(long, conflicts_with = "operation")]
    update: bool,
    /// One object per line, for programs.
    #[arg(long)]
    json: bool,
    /// Fail if another compiler made the committed counts.
    #[arg(long)]
    strict: bool,
    /// Perform the operation and count nothing: what runs under callgrind.
    #[arg(long, requires = "operation", conflicts_with_all = ["json", "strict"])]
    perform: bool,
}

fn main() -> ExitCode {
    run(&Options::parse()).unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let named = |operation: &&Operation| {
        options.operation.as_ref().is_none_or(|name| name == operation.name)
    };
    let chosen: Vec<&Operation> = OPERATIONS.iter().filter(named).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
        return Err(format!("no such operation; there are:\n{}", names.join("\n")).into());
    }
    if options.perform {
        chosen.iter().try_for_each(|operation| (operation.perform)())?;
        return Ok(ExitCode::SUCCESS);
    }
    if cfg!(debug_assertions) {
        return Err("only a release build has instructions worth counting".into());
    }
    let toolchain = Toolchain::of_this()?;
    if options.update { update(toolchain) } else { compare(options, &chosen, &toolchain) }
}

fn update(made_with: Toolchain) -> Result<ExitCode, Box<dyn Error>> {
    let mut instructions = BTreeMap::new();
    for operation in &OPERATIONS {
        let now = callgrind::instructions(operation.name)?;
        println!("{now:>10.1}  {}", operation.name);
        instructions.insert(operation.name.to_owned(), now);
    }
    let path = Baseline { made_with, instructions }.write()?;
    println!("written to {}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn compare(
    options: &Options,
    chosen: &[&Operation],
    toolchain: &Toolchain,
) -> Result<ExitCode, Box<dyn Error>> {
    let baseline = Baseline::read()?;
    let comparable = baseline.made_with == *toolchain;
    if !options.json {
        println!("{:>10} {:>10} {:>8}  operation", "baseline", "now", "change");
    }
    let mut failures = 0;
    for operation in chosen {
        let now = callgrind::instructions(operation.name)?;
        let before = baseline.instructions.get(operation.name).copied();
        let verdict = Verdict::of(before, now);
        failures += usize::from(verdict.is_failure());
        if options.json {
            let line = serde_json::json!({
                "operation": operation.name,
                "instructions": now,
                "baseline": before,
                "comparable": comparable,
                "failed": comparable && verdict.is_failure(),
            });
            println!("{line}");
        } else {
            let change = before.map(|before| format!("{:+.1} %", (now / before - 1.0) * 100.0));
            let before = before.map(|before| format!("{before:.1}"));
            println!(
                "{:>10} {now:>10.1} {:>8}  {}{}",
                before.as_deref().unwrap_or("-"),
                change.as_deref().unwrap_or("-"),
                operation.name,
                if comparable { verdict.remark() } else { "" },
            );
        }
    }
    if !comparable {
        eprintln!(
            "not compared: the baseline was made with {}, this is {toolchain}",
            baseline.made_with
        );
        return Ok(ExitCode::from(u8::from(options.strict)));
    }
    if failures > 0 {
        eprintln!(
            "{failures} of {} operations take more instructions than the baseline allows. If that \
             is intended: cargo run --release -p shm-benches --bin gate -- --update",
            chosen.len()
        );
    }
    Ok(ExitCode::from(u8::from(failures > 0)))
}
