//! A host is killed and started again, many times over, while guests work with it and attach
//! anew. `SHM_TEST_RESTARTS=1000` is the whole form.

use shm_tests::{
    Place, WAIT, amount, eventually, monotonic, pattern::Random, peer, process::Peer,
    steps::scene::names,
};

const GUESTS: usize = 4;

/// From when on the 99th percentile of so many restarts is a figure of its own.
const WHOLE: u64 = 1000;

#[test]
fn guests_of_a_host_that_is_killed_again_and_again_are_soon_back_and_no_name_is_left() {
    let place = Place::new();
    let restarts = amount("SHM_TEST_RESTARTS", 20);
    let mut random = Random::new(restarts);
    let mut host = peer!("echoing-host", place.hub());
    let mut guests: Vec<Peer> =
        (0..GUESTS).map(|_| peer!("attaching-guest", place.hub())).collect();
    let heard = |guest: &mut Peer, host: &Peer| loop {
        let said = guest.answer();
        let (pid, at) = said.split_once(' ').expect("two words");
        let pid: u32 = pid.parse().unwrap_or_else(|_| panic!("{said}"));
        // It may have come back to one that was killed before it could say so.
        if pid == host.pid() {
            break at.parse::<u64>().expect("a time");
        }
    };
    for guest in &mut guests {
        heard(guest, &host);
    }
    let mut took = Vec::new();
    for _ in 0..restarts {
        // Anywhere in its work.
        std::thread::sleep(std::time::Duration::from_micros(random.below(3000)));
        let killed = monotonic();
        host.kill();
        assert_eq!(names(&place.hub()), ["hub", "hub.lock"], "left by a dead host");
        host = peer!("echoing-host", place.hub());
        for guest in &mut guests {
            took.push(heard(guest, &host) - killed);
        }
        assert_eq!(names(&place.hub()), ["hub", "hub.lock"]);
    }
    drop((host, guests));
    drop(place.small_host());
    eventually(|| names(&place.hub()).is_empty().then_some(()));
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)] as f64 / 1e6;
    println!(
        "{restarts} restarts, {GUESTS} guests: 0 stale names; back after {:.1} ms (median), \
         {:.1} ms (99th percentile), {:.1} ms (longest)",
        at(50),
        at(99),
        at(100),
    );
    if restarts >= WHOLE {
        assert!(at(99) < 1000.0, "the 99th percentile of {restarts} restarts");
    } else {
        assert!(at(100) < WAIT.as_secs_f64() * 1e3);
    }
}
