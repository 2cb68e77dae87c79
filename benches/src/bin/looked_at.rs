//! What it costs a hub under load to be looked at: throughput beside `shmctl top --json` at ten
//! looks a second, which is stopped in every other turn.
//!
//! `cargo build --release -p shmctl && cargo run --release -p shm-benches --bin looked_at`

use std::{
    error::Error,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use shm_benches::{pin, two_processors};
use shm_transport::{Guest, Host};

const WAIT: Duration = Duration::from_secs(10);

/// Measures what looks from outside cost.
#[derive(Parser)]
struct Options {
    /// The program that looks
    #[arg(default_value = "target/release/shmctl")]
    shmctl: PathBuf,

    /// Turns with and as many without
    #[arg(long, default_value_t = 400)]
    turns: u32,

    /// The length of a turn, in milliseconds
    #[arg(long, default_value_t = 50)]
    turn: u64,

    /// Bytes in a message
    #[arg(long, default_value_t = 8192)]
    size: usize,

    /// Looks a second
    #[arg(long, default_value_t = 10)]
    looks: u32,
}

/// A process that looks, ended with this.
struct Looker(Child);

impl Looker {
    fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        kill_process(Pid::from_child(&self.0), signal)
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("hub");
    let mut host = Host::create(&path)?;
    let attaching = {
        let path = path.clone();
        thread::spawn(move || Guest::attach(path, WAIT))
    };
    let mut link = host.accept(WAIT)?;
    let mut guest = attaching.join().map_err(|_| "the guest panicked")??;

    let interval = (1.0 / f64::from(options.looks)).to_string();
    let looker = Command::new(&options.shmctl)
        .args(["top", "--json", "--interval", &interval])
        .arg(&path)
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", options.shmctl.display()))?;
    let looker = Looker(looker);
    // The looker has to take its time from one of the two.
    let (here, there) = two_processors()?;
    pin(here)?;
    let over = AtomicBool::new(false);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let sender = scope.spawn(|| {
            if let Err(error) = pin(there) {
                eprintln!("not pinned to processor {there}: {error}");
            }
            let message = vec![7; options.size];
            while !over.load(Ordering::Relaxed) {
                if link.send(&message, WAIT).is_err() {
                    break;
                }
            }
            drop(link);
        });
        let mut buffer = vec![0; options.size];
        let mut receive_for = |time: Duration| -> Result<f64, Box<dyn Error>> {
            let (start, mut count) = (Instant::now(), 0u64);
            while start.elapsed() < time {
                for _ in 0..1000 {
                    guest.link.recv_into(&mut buffer, WAIT)?;
                }
                count += 1000;
            }
            Ok(count as f64 / start.elapsed().as_secs_f64())
        };
        let turn = Duration::from_millis(options.turn);
        receive_for(turn)?;
        for number in 0..2 * options.turns {
            // Which of the two is first changes from pair to pair.
            let looks = (number % 2 == 0) == (number / 2 % 2 == 0);
            looker.signal(if looks { Signal::CONT } else { Signal::STOP })?;
            let rate = receive_for(turn)?;
            if looks { with.push(rate) } else { without.push(rate) }
        }
        over.store(true, Ordering::Relaxed);
        while guest.link.recv_into(&mut buffer, WAIT).is_ok() {}
        sender.join().map_err(|_| "the sender panicked")?;
        Ok(())
    })?;
    // The processor time of the looker, in ticks of 10 ms.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", looker.0.id()))?;
    let ticks: Vec<u64> = stat.split(' ').skip(13).take(2).flat_map(str::parse).collect();
    let ratios: Vec<f64> = with.iter().zip(&without).map(|(a, b)| a / b).collect();
    let [low, median_ratio, high] = quartiles(ratios);
    println!(
        "{median_ratio:.4}  ratio of throughputs, with looks to without, median of {} pairs; \
         quartiles {low:.4} to {high:.4}",
        options.turns
    );
    println!(
        "{:.2}  million messages of {} bytes a second without",
        quartiles(without)[1] / 1e6,
        options.size
    );
    println!("{:.2}  with {} looks a second", quartiles(with)[1] / 1e6, options.looks);
    let seconds = f64::from(options.turns) * options.turn as f64 / 1e3;
    let used = ticks.iter().sum::<u64>() as f64 / 100.0;
    println!("{:.2} % of one processor is what the tool itself takes", 100.0 * used / seconds);
    Ok(())
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values.get(values.len() * quarter / 4).copied().unwrap_or(f64::NAN))
}
