//! Helper processes: each is told what to do by lines, and answers with one line each.

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::WAIT;

/// A helper process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// Taken when the peer is to see the end of its commands.
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
}

/// A command that runs the helper with these arguments: `peer!("guest", path)`.
#[macro_export]
macro_rules! peer_command {
    ($($argument:expr),+ $(,)?) => {{
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_peer"));
        $(command.arg($argument);)+
        command
    }};
}

/// Starts the helper with these arguments: `peer!("guest", path)`.
#[macro_export]
macro_rules! peer {
    ($($argument:expr),+ $(,)?) => {
        $crate::process::Peer::start(&mut $crate::peer_command!($($argument),+))
    };
}

impl Peer {
    /// Starts a helper.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start(command: &mut Command) -> Self {
        Self::prepare(command);
        let child = crate::eventually(|| match command.spawn() {
            // A program that was just copied is busy while a child that another thread
            // forks meanwhile has not let go of it.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => None,
            spawned => Some(spawned.expect("the helper starts")),
        });
        Self::adopt(child)
    }

    /// Connects a command's input and output so that it can be adopted.
    pub fn prepare(command: &mut Command) {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
    }

    /// Takes over a process that was started with its input and output piped.
    ///
    /// # Panics
    ///
    /// If they are not.
    #[must_use]
    pub fn adopt(mut child: Child) -> Self {
        let output = child.stdout.take().expect("its output is piped");
        let commands = child.stdin.take();
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, commands, answers }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it something and does not wait for an answer.
    ///
    /// # Panics
    ///
    /// If it does not listen any more.
    pub fn tell(&mut self, command: &str) {
        let commands = self.commands.as_mut().expect("it still listens");
        writeln!(commands, "{command}").expect("it still listens");
    }

    /// Tells it something and returns its answer.
    ///
    /// # Panics
    ///
    /// If none comes within [`WAIT`].
    pub fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    /// Its next answer.
    ///
    /// # Panics
    ///
    /// If none comes within [`WAIT`].
    pub fn answer(&mut self) -> String {
        match self.answers.recv_timeout(WAIT) {
            Ok(line) => line,
            Err(error) => {
                panic!("no answer from the helper ({error}): {:?}", self.child.try_wait())
            }
        }
    }

    /// Its next answer if it is there, or comes within `wait`.
    pub fn answer_within(&mut self, wait: Duration) -> Option<String> {
        self.answers.recv_timeout(wait).ok()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If it has not ended after [`WAIT`].
    pub fn wait(&mut self) -> ExitStatus {
        self.commands = None;
        let end = Instant::now() + WAIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(Instant::now() < end, "the helper has not ended");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for its end, which must be a success.
    ///
    /// # Panics
    ///
    /// If it fails, or has not ended after [`WAIT`].
    pub fn succeeds(&mut self) {
        let status = self.wait();
        assert!(status.success(), "the helper failed: {status}");
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it is still there");
    }

    /// Stops it, and returns when none of its threads runs any more.
    ///
    /// # Panics
    ///
    /// If it is gone, or does not stop within [`WAIT`].
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let is_stopped = |thread: io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
            Some(stat.rsplit(')').next()?.trim_start().starts_with('T'))
        };
        crate::eventually(|| {
            let mut threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).ok()?;
            threads.all(|thread| is_stopped(thread).unwrap_or(true)).then_some(())
        });
    }

    /// Lets it go on after [`stop`](Self::stop).
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Panics
    ///
    /// If it was gone already, and not by a kill.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        let _ = self.child.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
