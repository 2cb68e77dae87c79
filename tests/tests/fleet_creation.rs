//! A process that makes a fleet and a ring and publishes a first frame is killed after each
//! of its instructions: the next one always succeeds, and nothing else is left. See
//! `shm_tests::steps`; `SHM_TEST_STEPS=0` is the whole form.

use std::{collections::HashSet, fs, process::Command};

use shm_tests::{
    Place,
    fleet::{NAME, NODES, RING, TINY},
    steps::{Sweep, Victim, alone},
};
use shm_transport::fleet::{Fleet, Position, Start};

const OUTCOMES: [&str; 4] = ["nothing or a directory", "a fleet", "a ring", "a frame"];

#[test]
fn whoever_dies_making_a_fleet_or_a_ring_leaves_nothing_that_stops_the_next_one() {
    let _alone = alone();
    let place = Place::in_memory();
    let mut left = HashSet::new();
    Sweep { name: "fleet, creation", outcomes: &OUTCOMES, sleeps: false }.run(|strike| {
        let creator = env!("CARGO_BIN_EXE_peer");
        let mut creator = Command::new(creator);
        creator.arg("fleet-create").arg(place.file("fleets"));
        let victim = Victim::start(&mut creator);
        victim.wait_for_begin();
        strike.run(&victim);
        victim.kill();
        let outcome = OUTCOMES[outcome(&place)];
        left.insert(outcome);
        outcome
    });
    assert_eq!(left, OUTCOMES.into());
}

/// Does what the creator did, checks what is there, and removes it. Returns how far the
/// creator had come, as a place among [`OUTCOMES`].
fn outcome(place: &Place) -> usize {
    let root = place.file("fleets");
    let names = |path: &std::path::Path| -> Vec<String> {
        let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert!([vec![], vec![NAME.to_owned()]].contains(&names(&root)));
    let left = names(&root.join(NAME));
    assert!(
        [&[][..], &["members"], &["members", "ring-2a"]]
            .contains(&left.iter().map(String::as_str).collect::<Vec<_>>().as_slice()),
        "{left:?}"
    );

    let fleet = Fleet::builder().directory(&root).nodes(NODES).join(NAME, 0).unwrap();
    let ring = fleet.ring(RING, &TINY).unwrap();
    assert_eq!(fleet.created(), left.is_empty());
    assert_eq!(ring.created(), left.len() < 2);
    let committed = ring.end().number();
    assert!(committed <= 1);
    let mut cursor = ring.cursor(Start::Oldest);
    if committed == 1 {
        let frame = cursor.next().unwrap().unwrap().frame;
        assert_eq!((frame.payload(), frame.id().counter()), (&b"x"[..], 0));
        assert_eq!(ring.read(frame.id()).unwrap(), Some(frame));
    }
    for number in 0..10 {
        let published = ring.publish(0, 1, b"again").unwrap();
        assert_eq!(published.position, Position::new(committed + number));
        assert_eq!(cursor.next().unwrap().unwrap().frame.id(), published.id);
        assert_eq!(ring.read(published.id).unwrap().unwrap().payload(), b"again");
    }
    fleet.unlink().unwrap();
    // So that each creator goes the same way.
    fs::remove_dir(&root).unwrap();
    left.len() + committed as usize
}
