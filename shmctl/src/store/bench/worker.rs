//! A process that appends or reads while another one measures.

use std::{
    io::{BufRead, BufReader, Write, stdin},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use shm_store::{From, Options as StoreOptions, Store};

use super::{Options, Result, floor::Redb};

/// A worker, seen from the process that measures. It ends when this is dropped.
pub(super) struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    pub(super) fn start(directory: &Path, role: &str, options: &Options) -> Result<Self> {
        let Options { size, spin, .. } = options;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["store", "bench", "--worker", role])
            .args(["--size", &size.to_string(), "--spin", &spin.to_string()])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, input, output })
    }

    pub(super) fn ready(&mut self) -> Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.trim_end() == "ready" { Ok(()) } else { Err("a worker has failed".into()) }
    }

    /// Has it call again and again, for a time.
    pub(super) fn go(&mut self, time: Duration) -> Result<()> {
        Ok(writeln!(self.input, "{}", time.as_secs_f64())?)
    }

    /// Nanoseconds of each of its calls, when it has done so.
    pub(super) fn times(&mut self) -> Result<Vec<u64>> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        line.split_whitespace().map(|word| Ok(word.parse()?)).collect()
    }

    /// Has it end, and waits until it has left.
    pub(super) fn end(mut self) -> Result<()> {
        writeln!(self.input, "end")?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a worker does: `append STREAM`, `read STREAM` or `redb`.
pub(super) fn run(directory: &Path, role: &str, size: usize, spin: Duration) -> Result<()> {
    let options = StoreOptions { spin, ..StoreOptions::default() };
    let entry = bytes::Bytes::from(vec![b'x'; size]);
    match role.split_once(' ') {
        Some(("append", stream)) => {
            let store = Store::open_with(directory, options)?;
            // What happens once.
            store.head(stream)?;
            repeat(|| {
                store.append(stream, entry.clone())?;
                Ok(())
            })
        }
        Some(("read", stream)) => {
            let store = Store::open_with(directory, options)?;
            read(&store, stream)?;
            repeat(|| read(&store, stream))
        }
        None if role == "redb" => {
            let mut redb = Redb::new(directory, size)?;
            repeat(|| redb.append())
        }
        _ => Err("no such role".into()),
    }
}

/// Calls it for so many seconds as each line of the input says, and says how long each call took.
fn repeat(mut call: impl FnMut() -> Result<()>) -> Result<()> {
    println!("ready");
    for line in stdin().lines() {
        let Ok(seconds) = line?.parse() else { break };
        let time = Duration::from_secs_f64(seconds);
        let began = Instant::now();
        let mut times = Vec::new();
        while began.elapsed() < time || times.is_empty() {
            let called = Instant::now();
            call()?;
            times.push(called.elapsed().as_nanos());
        }
        let times: Vec<_> = times.iter().map(u128::to_string).collect();
        println!("{}", times.join(" "));
    }
    Ok(())
}

fn read(store: &Store, stream: &str) -> Result<()> {
    for page in store.pages(stream, From::Start) {
        std::hint::black_box(page?);
    }
    Ok(())
}
