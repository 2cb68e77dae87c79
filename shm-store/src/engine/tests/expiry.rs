//! Streams that expire.

use super::*;

fn sliding(millis: u64) -> StreamConfig {
    StreamConfig { time_to_live: Some(Duration::from_millis(millis)), ..StreamConfig::default() }
}

fn until(millis: u64) -> StreamConfig {
    let expires_at = Some(UNIX_EPOCH + Duration::from_millis(millis));
    StreamConfig { expires_at, ..StreamConfig::default() }
}

#[test]
fn an_expired_stream_is_not_there_from_the_moment_on() {
    for reopen in [false, true] {
        let mut bench = Bench::new(Options::default());
        bench.create_with("a", sliding(1000)).expect("created");
        bench.create_with("b", until(1_000_500)).expect("created");
        bench.append("b", &["x"]).expect("appended");
        bench.pass(499);
        assert_eq!(bench.names(), ["a", "b"]);
        bench.pass(1);
        if reopen {
            bench.reopen();
        }
        assert_eq!(bench.names(), ["a"]);
        assert!(matches!(bench.page("b", From::Start), Err(ReadError::NotFound)));
        assert!(matches!(bench.append("b", &["y"]), Err(WriteError::NotFound)));
        assert!(matches!(bench.delete("b"), Err(WriteError::NotFound)));
        assert!(matches!(bench.fork("c", "b", None), Err(WriteError::NotFound)));
        assert_eq!(bench.all("a"), [""; 0]);
        bench.pass(999);
        assert_eq!(bench.names(), ["a"]);
        bench.pass(1);
        assert_eq!(bench.names(), [""; 0]);
        // The name is free at once.
        assert!(!bench.create("b").repeated);
        assert!(bench.all("b").is_empty());
    }
}

#[test]
fn reading_and_writing_make_a_sliding_time_begin_anew() {
    let mut bench = Bench::new(Options::default());
    bench.create_with("read", sliding(800)).expect("created");
    bench.create_with("written", sliding(800)).expect("created");
    let mut touches = 0;
    for _ in 0..100 {
        bench.pass(50);
        bench.all("read");
        bench.append("written", &["x"]).expect("appended");
        touches += bench.sweep();
    }
    assert_eq!(bench.names(), ["read", "written"]);
    // An eighth is 100: every other read.
    assert!((40..=60).contains(&touches), "{touches}");
    bench.reopen();
    assert_eq!(bench.names(), ["read", "written"]);
    bench.pass(800);
    assert_eq!(bench.names(), [""; 0]);
}

#[test]
fn the_sweeper_removes_what_has_expired_and_rests_otherwise() {
    let mut bench = Bench::new(Options::default());
    for number in 0..50 {
        bench.create_with(&format!("a{number}"), until(1_001_000 + 10 * number)).expect("created");
        bench.append(&format!("a{number}"), &["x"]).expect("appended");
        bench.create(&format!("b{number}"));
    }
    bench.engine().checkpoint().expect("a checkpoint");
    bench.fork("c", "a49", None).expect("forked");
    bench.reopen();
    for _ in 0..10 {
        assert_eq!(bench.sweep(), 0);
    }
    bench.pass(1000 + 10 * 24);
    let mut swept = 0;
    for _ in 0..30 {
        swept += bench.sweep();
    }
    assert_eq!(swept, 25);
    assert_eq!(bench.engine().view().stat().streams, 76);
    bench.pass(1000);
    for _ in 0..30 {
        swept += bench.sweep();
    }
    assert_eq!(swept, 50);
    // The parent of the fork has become a tombstone.
    assert_eq!(bench.engine().view().stat().streams, 52);
    assert!(matches!(bench.page("a49", From::Start), Err(ReadError::Tombstone)));
    assert_eq!(bench.all("c"), ["x"]);
    bench.delete("c").expect("deleted");
    assert_eq!(bench.engine().view().stat().streams, 50);
    assert_eq!(bench.engine().view().stat().bytes, 0);
    assert_eq!(bench.verify(), [""; 0]);
}

#[test]
fn an_expired_fork_that_is_made_again_does_not_keep_its_parent() {
    let mut bench = Bench::new(Options::default());
    bench.create("a");
    let fork = |expires| Write::Fork {
        name: "b".into(),
        from: "a".into(),
        at: None,
        config: until(expires),
    };
    bench.write(fork(1_000_100)).expect("forked");
    bench.pass(100);
    assert!(!bench.write(fork(1_000_200)).expect("forked").repeated);
    bench.pass(100);
    bench.create("b");
    bench.delete("a").expect("deleted");
    assert_eq!(bench.names(), ["b"]);
    assert_eq!(bench.engine().view().stat().streams, 1);
    assert_eq!(bench.verify(), [""; 0]);
}
