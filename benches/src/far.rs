//! The far ends of systems, in another process or in another thread: they sleep until they
//! are told to take part in a turn.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::Scope,
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    control::Control,
    processors::pin,
    system::{Error, Runner, Setup, System, Workload},
};

/// What a far end does in a turn.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Task {
    /// Answers messages.
    Echo,
    /// Receives messages one by one.
    Receive,
    /// Receives messages, at most so many at a time.
    ReceiveBatches(usize),
}

/// What the far ends are told: a line of JSON.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Which of them it is for.
    pub index: usize,
    pub task: Task,
    /// The number of the first message.
    pub first: u64,
    pub count: usize,
}

/// What another process of a benchmark is told as it starts.
#[derive(clap::Args)]
pub struct Options {
    /// What it will do.
    #[arg(long)]
    workload: Workload,
    /// Bytes in a message.
    #[arg(long)]
    size: usize,
    /// Where sockets and the like are.
    #[arg(long)]
    directory: PathBuf,
    /// The memory in which it says how far it is.
    #[arg(long)]
    control: String,
    /// The processor to run on.
    #[arg(long)]
    processor: usize,
    /// The systems to join.
    #[arg(long = "system")]
    systems: Vec<String>,
    /// What each has to know to join.
    #[arg(long = "ticket")]
    tickets: Vec<String>,
}

/// A system and what its far end has to know.
pub type Joining<'a> = (&'a dyn System, String);

/// What it says when it has joined: other lines are somebody else's.
const JOINED: &str = "joined";

/// Runs the far ends in this process, which another one has started.
pub fn run_process(options: &Options, systems: &[&dyn System]) -> Result<(), Error> {
    // It does not outlive the measuring process, whatever it is doing.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let mut joining = Vec::new();
    for (name, ticket) in options.systems.iter().zip(&options.tickets) {
        let system = systems.iter().find(|system| system.name() == name);
        let system = system.ok_or_else(|| format!("there is no system {name}"))?;
        joining.push((*system, ticket.clone()));
    }
    let setup = Setup {
        workload: options.workload,
        size: options.size,
        directory: options.directory.clone(),
    };
    attend(
        &setup,
        &joining,
        &options.control,
        options.processor,
        std::io::stdin().lock(),
        std::io::stdout(),
    )
}

/// Joins, and obeys until there are no more orders.
fn attend(
    setup: &Setup,
    joining: &[Joining],
    control: &str,
    processor: usize,
    orders: impl BufRead,
    mut answers: impl Write,
) -> Result<(), Error> {
    pin(processor)?;
    let control = Control::open(control)?;
    let mut runners = Vec::new();
    for (system, ticket) in joining {
        let runner = system.join(setup, ticket);
        runners.push(runner.map_err(|error| format!("{}: {error}", system.name()))?);
    }
    writeln!(answers, "{JOINED}")?;
    answers.flush()?;
    let result = obey(&mut runners, setup.size, &control, orders);
    if result.is_err() {
        control.fail();
    }
    result
}

fn obey(
    runners: &mut [Box<dyn Runner>],
    size: usize,
    control: &Control,
    orders: impl BufRead,
) -> Result<(), Error> {
    let mut message = vec![0; size];
    for (turn, order) in (1..).zip(orders.lines()) {
        let Order { index, task, first, count } = serde_json::from_str(&order?)?;
        let runner = runners.get_mut(index).ok_or("an order for nobody")?;
        control.begin(turn);
        match task {
            Task::Echo => runner.echo(&mut message, first, count)?,
            Task::Receive => runner.receive(&mut message, first, count)?,
            Task::ReceiveBatches(batch) => {
                runner.receive_batches(&mut message, batch, first, count)?;
            }
        }
        control.end(turn);
    }
    Ok(())
}

/// The measuring end's hold on the far ends of one process or thread.
pub struct Others {
    orders: Box<dyn Write>,
    control: Control,
    turns: u64,
    answers: Box<dyn BufRead>,
    _process: Option<OtherProcess>,
}

/// A process that does not outlive what it is for.
struct OtherProcess(Child);

impl Drop for OtherProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Others {
    /// Starts this executable anew, with `path` in front of the hidden subcommand.
    pub fn start_process(
        path: &[&str],
        setup: &Setup,
        joining: &[Joining],
        processor: usize,
    ) -> Result<Self, Error> {
        let control = Control::create()?;
        let workload = setup.workload.to_possible_value();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(path).arg("peer");
        command.args(["--workload", workload.as_ref().map_or("", |value| value.get_name())]);
        command.args(["--size", &setup.size.to_string()]);
        command.arg("--directory").arg(&setup.directory);
        command.args(["--control", &control.ticket()]);
        command.args(["--processor", &processor.to_string()]);
        for (system, ticket) in joining {
            command.arg("--system").arg(system.name());
            command.arg(format!("--ticket={ticket}"));
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let process = OtherProcess(child);
        let (orders, answers) = stdin.zip(stdout).ok_or("the other process has no pipes")?;
        Ok(Self::new(orders, answers, control, Some(process)))
    }

    /// Starts a thread.
    pub fn start_thread<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        setup: &Setup,
        joining: Vec<Joining<'env>>,
        processor: usize,
    ) -> Result<Self, Error> {
        let control = Control::create()?;
        let (orders_out, orders) = std::io::pipe()?;
        let (answers, answers_in) = std::io::pipe()?;
        let (setup, ticket) = (setup.clone(), control.ticket());
        scope.spawn(move || {
            let orders = BufReader::new(orders_out);
            if let Err(error) = attend(&setup, &joining, &ticket, processor, orders, answers_in) {
                eprintln!("the other thread: {error}");
            }
        });
        Ok(Self::new(orders, answers, control, None))
    }

    fn new(
        orders: impl Write + 'static,
        answers: impl Read + 'static,
        control: Control,
        process: Option<OtherProcess>,
    ) -> Self {
        let answers = Box::new(BufReader::new(answers));
        Self { orders: Box::new(orders), answers, control, turns: 0, _process: process }
    }

    /// Waits until all have joined.
    pub fn wait(&mut self) -> Result<(), Error> {
        for line in self.answers.as_mut().lines() {
            if line? == JOINED {
                return Ok(());
            }
        }
        Err("the other end has not joined".into())
    }

    /// Wakes a far end for a turn, and returns when it has begun.
    pub fn begin(&mut self, order: &Order) -> Result<(), Error> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.orders.write_all(&line)?;
        self.turns += 1;
        self.control.wait_for_begin(self.turns)
    }

    /// Waits for the end of the turn.
    pub fn end(&mut self) -> Result<(), Error> {
        self.control.wait_for_end(self.turns)
    }
}
