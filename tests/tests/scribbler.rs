//! A guest writes random words over all that it can write, a million and more a second, while
//! the host serves others: they see nothing of it, and the host's calls are bounded.

use std::time::{Duration, Instant};

use shm_tests::{amount, peer, service::Service};

/// Of the time that a processor works, and by the clock on a machine that does nothing else.
const BOUND: Duration = Duration::from_millis(100);
/// By the clock on any machine.
const HANG: Duration = Duration::from_secs(20);

#[test]
fn a_scribbler_beside_them_costs_the_honest_guests_nothing() {
    let seconds = amount("SHM_TEST_SCRIBBLE_SECONDS", 3);
    let seed = amount("SHM_TEST_SEED", 1);
    let mut service = Service::new(2, |path| peer!("honest", path));
    service.round();
    let mut scribbler = peer!("scribble", service.place.hub(), seed.to_string());
    assert_eq!(scribbler.answer(), "scribbling");
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        service.round();
        service.exercise();
        // What it sends is its own; that there is no end of it is no reason to serve only it.
        if service.ends.values().sum::<u64>() % 7 == 3 {
            service.evict_strangers();
        }
    }
    scribbler.tell("stop");
    // It may wait for a welcome.
    let said = loop {
        service.serve(Duration::from_millis(1));
        if let Some(said) = scribbler.answer_within(Duration::ZERO) {
            break said;
        }
        assert!(end.elapsed() < shm_tests::WAIT, "it does not stop");
    };
    let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [words, millis, links] = numbers[..] else { panic!("{said}") };
    scribbler.succeeds();
    service.round();
    service.evict_strangers();
    let (ends, heard, meter) = (service.ends.clone(), service.heard, service.meter);
    let sent = service.sent();
    let errors = service.end();
    println!(
        "seed {seed}: {words} words in {millis} ms ({:.2} million a second) over {links} links, \
         which ended {ends:?}; {heard} messages of its own; 2 honest guests received {sent} \
         messages each, errors {errors}; {} calls of the host: most work {}, latest {}",
        words as f64 / 1e3 / millis.max(1) as f64,
        meter.calls,
        meter.work,
        meter.late
    );
    assert_eq!(errors, 0);
    assert!(links > 1, "it attached once");
    assert!(ends.get("corrupt").is_some_and(|corrupt| *corrupt > 0), "{ends:?}");
    assert!(meter.work.time < BOUND, "{}", meter.work);
    assert!(meter.late.time < if seconds >= 60 { BOUND } else { HANG }, "{}", meter.late);
    if seconds >= 60 {
        assert!(words / millis >= 1000, "{words} words in {millis} ms");
    }
}
