use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    sync::atomic::Ordering,
    thread,
};

use serde::{Deserialize, Serialize};
use shm_transport::{Guest, Host, LinkConfig};

use crate::{
    helper::Helper,
    patience::{WAIT, poll},
    processors::two_processors,
    system::Error,
    words::Words,
};

/// Bytes of each message that a link carries before it is looked at once more.
const MESSAGE: usize = 64;
/// How many of them go each way.
const MESSAGES: usize = 100;
/// The word that says how far the guest is to go.
const TOLD: usize = 0;

/// Options of `bench footprint`.
#[derive(clap::Args)]
pub struct Options {
    /// Links after the first one.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    links: u32,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// What the guest's process is told.
#[derive(clap::Args)]
pub struct GuestOptions {
    #[arg(long)]
    hub: PathBuf,
    #[arg(long)]
    words: String,
    #[arg(long)]
    links: usize,
}

/// What a process has, or what one link adds to it.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Usage {
    descriptors: f64,
    /// Of all kinds: also of stacks and of the heap.
    mappings: f64,
    shared_mappings: f64,
    shared_bytes: f64,
    /// Of shared mappings: each process counts all of a page that several have mapped.
    resident_shared_bytes: f64,
    resident_bytes: f64,
    /// Of that what is this process's alone: its heap and its stacks. The rest is shared
    /// memory, and the program's own pages that it has touched for the first time.
    anonymous_bytes: f64,
    /// Pages that several processes have mapped are divided among them. Without those of files,
    /// the program's own: of them this process has less whenever another one touches more.
    proportional_bytes: f64,
}

/// One side of links in one state.
#[derive(Serialize)]
struct Row {
    workload: &'static str,
    side: &'static str,
    state: &'static str,
    /// Resident bytes by those of the rings of both directions.
    ratio: f64,
    ring_bytes: u64,
    /// Resident bytes beside the rings.
    resident_bytes_beside_rings: f64,
    #[serde(flatten)]
    each: Usage,
}

/// The first link of a process; each after it, when it has carried nothing; and when it has
/// carried some small messages.
const STATES: [&str; 3] = ["first", "further", "used"];

/// Measures.
pub fn run(options: &Options, path: &[&str]) -> Result<(), Error> {
    let (_, there) = two_processors()?;
    let further = options.links as usize;
    let directory = tempfile::tempdir()?;
    let mut host = Host::builder().max_guests(further + 1).create(directory.path().join("hub"))?;
    let words = Words::create()?;
    let (hub, links) = (host.path().to_string_lossy().into_owned(), further.to_string());
    let arguments = ["footprint", "--hub", &hub, "--words", &words.ticket(), "--links", &links];
    let mut guest = Helper::start(path, there, arguments)?;
    let output = guest.output().ok_or("the other process has no output")?;
    let mut theirs = BufReader::new(output).lines();
    let mut look = move || -> Result<[Usage; 2], Error> {
        let line = theirs.next().ok_or("the other process has ended")??;
        Ok([Usage::of_this_process()?, serde_json::from_str(&line)?])
    };
    let none = look()?;
    let go_on = || words.word(TOLD).fetch_add(1, Ordering::Release);
    go_on();
    let _first = host.accept(WAIT)?;
    let first = look()?;
    go_on();
    let links = (0..further).map(|_| host.accept(WAIT)).collect::<Result<Vec<_>, _>>();
    let mut links = links?;
    let all = look()?;
    go_on();
    for link in &mut links {
        for _ in 0..MESSAGES {
            link.recv(WAIT)?;
            link.send(&[1; MESSAGE], WAIT)?;
        }
    }
    let used = look()?;
    let rings = 2 * LinkConfig::default().ring_capacity;
    for (side, name) in ["host", "guest"].into_iter().enumerate() {
        let each = [
            first[side].less(&none[side], 1),
            all[side].less(&first[side], further),
            used[side].less(&first[side], further),
        ];
        for (state, each) in STATES.into_iter().zip(each) {
            let row = Row {
                workload: "footprint",
                side: name,
                state,
                ratio: each.resident_bytes / rings as f64,
                ring_bytes: rings,
                resident_bytes_beside_rings: each.resident_bytes - rings as f64,
                each,
            };
            if options.json {
                println!("{}", serde_json::to_string(&row)?);
            } else {
                print(&row);
            }
        }
    }
    Ok(())
}

/// The other side of all links: prints what this process has at each step.
pub fn run_guest(options: &GuestOptions) -> Result<(), Error> {
    let words = Words::open(&options.words)?;
    let mut step = 0;
    let mut next_step = || {
        println!("{}", serde_json::to_string(&Usage::of_this_process()?)?);
        step += 1;
        poll(|| words.word(TOLD).load(Ordering::Acquire) >= step)
    };
    next_step()?;
    let _first = Guest::attach(&options.hub, WAIT)?;
    next_step()?;
    let guests = (0..options.links).map(|_| Guest::attach(&options.hub, WAIT));
    let mut guests = guests.collect::<Result<Vec<_>, _>>()?;
    next_step()?;
    for guest in &mut guests {
        for _ in 0..MESSAGES {
            guest.link.send(&[1; MESSAGE], WAIT)?;
            guest.link.recv(WAIT)?;
        }
    }
    println!("{}", serde_json::to_string(&Usage::of_this_process()?)?);
    // It is killed when it is not needed any more.
    thread::sleep(WAIT);
    Ok(())
}

impl Usage {
    /// See proc(5).
    fn of_this_process() -> Result<Self, Error> {
        let mut usage =
            Self { descriptors: fs::read_dir("/proc/self/fd")?.count() as f64, ..Self::default() };
        let (mut shared, mut of_a_file) = (false, false);
        for line in fs::read_to_string("/proc/self/smaps")?.lines() {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            let Some(name) = name.strip_suffix(':') else {
                // The first line of a mapping.
                shared = line.contains("/memfd:");
                of_a_file = !shared && line.contains(" /");
                usage.mappings += 1.0;
                usage.shared_mappings += f64::from(u8::from(shared));
                continue;
            };
            let kibibytes = words.next().and_then(|number| number.parse().ok());
            let bytes = 1024.0 * kibibytes.unwrap_or(0.0);
            match name {
                "Size" if shared => usage.shared_bytes += bytes,
                "Rss" if shared => usage.resident_shared_bytes += bytes,
                "Anonymous" => usage.anonymous_bytes += bytes,
                "Pss" if !of_a_file => usage.proportional_bytes += bytes,
                _ => {}
            }
            usage.resident_bytes += if name == "Rss" { bytes } else { 0.0 };
        }
        Ok(usage)
    }

    /// What each of `links` has added since `before`.
    fn less(&self, before: &Self, links: usize) -> Self {
        let each = |figure: fn(&Self) -> f64| (figure(self) - figure(before)) / links as f64;
        Self {
            descriptors: each(|usage| usage.descriptors),
            mappings: each(|usage| usage.mappings),
            shared_mappings: each(|usage| usage.shared_mappings),
            shared_bytes: each(|usage| usage.shared_bytes),
            resident_shared_bytes: each(|usage| usage.resident_shared_bytes),
            resident_bytes: each(|usage| usage.resident_bytes),
            anonymous_bytes: each(|usage| usage.anonymous_bytes),
            proportional_bytes: each(|usage| usage.proportional_bytes),
        }
    }
}

fn print(row: &Row) {
    let Row { side, state, ratio, each, resident_bytes_beside_rings: beside, .. } = row;
    println!(
        "{side:>5}, {state:>7} link: {ratio:.2} × its rings resident; {:.2} descriptors, {:.2} \
         mappings ({:.2} shared), {:.1} KiB shared, {:.1} KiB of that resident, {:.1} KiB in all, \
         {:.1} anonymous, {beside:.1} KiB beside the rings, proportional {:.1} KiB",
        each.descriptors,
        each.mappings,
        each.shared_mappings,
        each.shared_bytes / 1024.0,
        each.resident_shared_bytes / 1024.0,
        each.resident_bytes / 1024.0,
        each.anonymous_bytes / 1024.0,
        each.proportional_bytes / 1024.0,
        beside = beside / 1024.0,
    );
}
