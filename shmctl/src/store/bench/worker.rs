//! A process that appends or reads while another one measures.

use std::{
    error::Error,
    io::{BufRead, BufReader, Write, stdin, stdout},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use shm_store::{From, Store};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A worker, seen from the process that measures. It ends when this is dropped.
pub(super) struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    pub(super) fn start(
        directory: &Path,
        role: &str,
        size: usize,
        seconds: Duration,
    ) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["store", "bench", "--worker", role, "--size", &size.to_string()])
            .args(["--seconds", &seconds.as_secs_f64().to_string()])
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

    pub(super) fn go(&mut self) -> Result<()> {
        Ok(writeln!(self.input, "go")?)
    }

    /// Nanoseconds of each of its calls.
    pub(super) fn times(mut self) -> Result<Vec<u64>> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let times = line.split_whitespace().map(|word| Ok(word.parse()?)).collect();
        self.child.wait()?;
        times
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a worker does: `append STREAM` or `read STREAM`.
pub(super) fn run(directory: &Path, role: &str, size: usize, seconds: Duration) -> Result<()> {
    let store = Store::open(directory)?;
    let (what, stream) = role.split_once(' ').ok_or("no such role")?;
    match what {
        // What happens once.
        "append" => drop(store.head(stream)?),
        _ => read(&store, stream)?,
    }
    writeln!(stdout(), "ready")?;
    stdout().flush()?;
    stdin().lock().read_line(&mut String::new())?;
    let entry = bytes::Bytes::from(vec![b'x'; size]);
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < seconds || times.is_empty() {
        let call = Instant::now();
        match what {
            "append" => drop(store.append(stream, entry.clone())?),
            _ => read(&store, stream)?,
        }
        times.push(call.elapsed().as_nanos().to_string());
    }
    writeln!(stdout(), "{}", times.join(" "))?;
    Ok(())
}

fn read(store: &Store, stream: &str) -> Result<()> {
    for page in store.pages(stream, From::Start) {
        std::hint::black_box(page?);
    }
    Ok(())
}
