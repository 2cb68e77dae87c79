//! Eight members publish and read as fast as they can, while one after the other is killed,
//! every second one after it was stopped for a while, and comes back.
//!
//! `SHM_TEST_FLEET_SECONDS=300` is the whole form. `SHM_TEST_FLEET_PERIOD` is the time
//! between kills in milliseconds, `SHM_TEST_FLEET_PAUSE` how many microseconds members sleep
//! after each 16 reads, so that there are processors for all.
//!
//! - No frame is torn: each has a checksum and says who published it, and each is checked by
//!   all that read it.
//! - No committed frame is missing: after each kill, what the victim last reported as
//!   published is there, at its position and by its id, or has been lapped; and an auditor
//!   reads all positions one after the other, or learns exactly how many it lost.
//! - Ids grow along the positions of a node, without gaps within a life.
//! - Nobody is stuck: no read uses 10 ms of processor time. By the clock reads can take
//!   longer, when a process waits for a processor; that is reported.

use std::{
    fs,
    os::unix::fs::FileExt,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use shm_tests::{
    Place, amount,
    fleet::{Content, NAME, NODES, RING, SOAK, Stats, committed_file, errors_path, stats_file},
    peer,
    process::Peer,
};
use shm_transport::fleet::{
    Fleet, FleetCursor, FleetFrame, FleetId, FleetRing, Position, ReadAtError, Start,
};

const MEMBERS: u32 = 8;

#[test]
fn members_that_are_killed_all_the_time_tear_lose_and_hold_up_nothing() {
    let place = Place::in_memory();
    let directory = place.file("fleets").to_str().unwrap().to_owned();
    let duration = Duration::from_secs(amount("SHM_TEST_FLEET_SECONDS", 5));
    let period = Duration::from_millis(amount("SHM_TEST_FLEET_PERIOD", 10));
    let builder = Fleet::builder().directory(&directory).nodes(NODES);
    let fleet = builder.join(NAME, MEMBERS).unwrap();
    let ring = fleet.ring(RING, &SOAK).unwrap();
    let (committed, stats) = (committed_file(&directory), stats_file(&directory));

    let mut lives = 0;
    let mut start = |node: u32| {
        lives += 1;
        peer!("fleet-soak", &directory, node.to_string(), lives.to_string())
    };
    let mut members: Vec<Peer> = (0..MEMBERS).map(&mut start).collect();
    let mut audit = Audit::new(&ring);
    let (mut kills, mut kept, mut lapped) = (0u64, 0u64, 0u64);
    let begin = Instant::now();
    let mut next_kill = begin + period;
    while begin.elapsed() < duration {
        audit.follow_until(next_kill);
        if Instant::now() < next_kill {
            continue;
        }
        next_kill = (next_kill + period).max(Instant::now());
        let node = victim_of(kills);
        let victim = &mut members[node as usize];
        assert!(victim.is_running(), "node {node} ended by itself");
        victim.kill();
        kills += 1;
        if kills % 2 == 1 {
            members[victim_of(kills) as usize].signal(Signal::SIGSTOP);
        }
        match last_committed(&ring, &committed, node) {
            Last::Kept => kept += 1,
            Last::Lapped => lapped += 1,
            Last::None => {}
        }
        members[node as usize] = start(node);
    }
    let took = begin.elapsed();
    for member in &mut members {
        member.kill();
    }
    let end = ring.end();
    while audit.cursor.position() < end {
        audit.step();
    }
    for node in 0..MEMBERS {
        last_committed(&ring, &committed, node);
    }

    let errors = fs::read_to_string(errors_path(&directory)).unwrap_or_default();
    let mut sum = Stats::default();
    for node in 0..MEMBERS {
        let mut of_node = Stats::default();
        of_node.load(&stats, node);
        sum = sum.plus(&of_node);
    }
    println!(
        "{:.1} s, {MEMBERS} members, {kills} kills (every second one stopped before); {} frames \
         committed, {} audited, {} lapped before the auditor came, {} gaps of a lap after a death",
        took.as_secs_f64(),
        end.number(),
        audit.seen,
        audit.cursor.lost(),
        audit.jumps
    );
    println!(
        "last frame reported by the dead: {kept} there, {lapped} lapped, 0 missing; {} reads by \
         members, longest {:.3} ms on the processor, {:.1} ms by the clock, {} of them 10 ms and \
         more",
        sum.reads,
        sum.max_cpu as f64 / 1e6,
        sum.max_wall as f64 / 1e6,
        sum.slow
    );
    assert!(errors.is_empty(), "{errors}");
    assert_eq!(audit.seen + audit.cursor.lost(), end.number());
    assert!(kills > duration.as_secs() && kept > 0 && audit.seen > 0 && sum.reads > 0);
    assert!(sum.max_cpu < 10_000_000, "a read used {} ns of a processor", sum.max_cpu);
    assert!(sum.max_wall < 10_000_000_000, "a read took {} ns", sum.max_wall);
}

/// The node that is killed as the how-manyth.
fn victim_of(kills: u64) -> u32 {
    (kills * 5 % u64::from(MEMBERS)) as u32
}

enum Last {
    Kept,
    Lapped,
    None,
}

/// Checks that the last frame that a dead member reported as published is there.
fn last_committed(ring: &FleetRing, committed: &fs::File, node: u32) -> Last {
    let mut report = [0; 16];
    if committed.read_exact_at(&mut report, u64::from(node) * 16).is_err() {
        return Last::None;
    }
    let (id, place) = report.split_at(8);
    let id = FleetId::from_bits(u64::from_le_bytes(id.try_into().unwrap()));
    let Some(position) = u64::from_le_bytes(place.try_into().unwrap()).checked_sub(1) else {
        return Last::None;
    };
    let position = Position::new(position);
    let by_id = ring.read(id).unwrap();
    match ring.read_at(position) {
        Ok(frame) => {
            assert_eq!((frame.id(), frame.position()), (id, position));
            Content::check(&frame).unwrap();
            assert_eq!(by_id, Some(frame), "committed and kept, but not found by its id");
            Last::Kept
        }
        Err(ReadAtError::Lost { oldest }) => {
            assert!(oldest > position);
            // It is lapped only if a whole ring was published after it.
            assert!(ring.end().since(position) > SOAK.capacity, "{id} is missing");
            Last::Lapped
        }
        Err(error) => panic!("{id} at {position}: {error}"),
    }
}

/// Follows the ring and checks each frame and their order.
struct Audit {
    cursor: FleetCursor,
    next: Position,
    seen: u64,
    jumps: u64,
    /// The last frame of each node that nothing was lost after.
    last: Vec<Option<(FleetId, Content)>>,
}

impl Audit {
    fn new(ring: &FleetRing) -> Self {
        let last = vec![None; NODES as usize];
        let cursor = ring.cursor(Start::Position(Position::new(0)));
        Self { cursor, next: Position::new(0), seen: 0, jumps: 0, last }
    }

    fn follow_until(&mut self, end: Instant) {
        while Instant::now() < end {
            if !self.step() {
                thread::sleep(Duration::from_micros(200));
            }
        }
    }

    fn step(&mut self) -> bool {
        let Some(next) = self.cursor.next().unwrap() else { return false };
        self.next = self.next.plus(next.lost);
        assert_eq!(next.frame.position(), self.next, "a position is missing");
        self.next = self.next.plus(1);
        self.seen += 1;
        self.check(&next.frame, next.lost > 0);
        true
    }

    fn check(&mut self, frame: &FleetFrame, lost: bool) {
        let content = Content::check(frame).unwrap();
        let id = frame.id();
        let last = &mut self.last[id.node() as usize];
        if let Some((last, before)) = *last {
            let ahead = id.counter().checked_sub(last.counter());
            assert!(ahead > Some(0), "{id} after {last}");
            assert!(content.life >= before.life, "{content:?} after {before:?}");
            if content.life == before.life {
                let step = content.sequence.checked_sub(before.sequence);
                assert_eq!(step, ahead, "{content:?} as {id} after {before:?} as {last}");
            } else if ahead > Some(SOAK.capacity) {
                self.jumps += 1;
            }
            if !lost && self.cursor.lost() == 0 {
                // Not one was lost so far: then there is no gap but where a life ended.
                let gap = ahead != Some(1) && ahead != Some(SOAK.capacity + 1);
                assert!(!gap || content.life > before.life + 1, "{id} after {last}");
            }
        }
        *last = Some((id, content));
    }
}
