//! Forks: what they share, what is their own, and what lives as long as they do.

use super::*;

#[test]
fn a_fork_reads_what_was_before_it_and_goes_its_own_way() {
    everywhere(
        |bench| {
            bench.create("a");
            bench.append("a", &["one", "two", "three"]).expect("appended");
            bench.fork("b", "a", Some(Offset::new(2, 6))).expect("forked");
            bench.append("a", &["four"]).expect("appended");
            bench.append("b", &["vier"]).expect("appended");
            bench.fork("c", "b", None).expect("forked");
            bench.append("c", &["cinq"]).expect("appended");
        },
        |bench| {
            assert_eq!(bench.all("a"), ["one", "two", "three", "four"]);
            assert_eq!(bench.all("b"), ["one", "two", "vier"]);
            assert_eq!(bench.all("c"), ["one", "two", "vier", "cinq"]);
            assert_eq!(bench.texts("c", From::Offset(Offset::new(1, 3))), ["two", "vier", "cinq"]);
            let (of, at) = bench.engine().view().head("b").expect("a head").forked.expect("a fork");
            assert_eq!(at, Offset::new(2, 6));
            assert_eq!(of, bench.engine().view().head("a").expect("a head").stream);
        },
    );
}

#[test]
fn a_fork_inside_an_entry_has_the_part_before_it() {
    everywhere(
        |bench| {
            bench.create("a");
            bench.append("a", &["hello", "world"]).expect("appended");
            bench.fork("b", "a", Some(Offset::new(1, 5).within(3))).expect("forked");
            bench.append("b", &["!"]).expect("appended");
            // Inside the part, and then inside that.
            bench.fork("c", "b", Some(Offset::new(1, 5).within(2))).expect("forked");
            bench.fork("d", "c", Some(Offset::new(1, 5).within(1))).expect("forked");
            bench.append("d", &["?"]).expect("appended");
        },
        |bench| {
            assert_eq!(bench.all("b"), ["hello", "wor", "!"]);
            assert_eq!(bench.all("c"), ["hello", "wo"]);
            assert_eq!(bench.all("d"), ["hello", "w", "?"]);
            // Where it was forked is a place of the fork as well.
            let at = Offset::new(1, 5).within(3);
            assert_eq!(bench.texts("b", From::Offset(at)), ["!"]);
            assert_eq!(bench.texts("b", From::Offset(Offset::new(1, 5).within(2))), ["r", "!"]);
            for bad in [Offset::new(1, 5).within(4), Offset::new(2, 10)] {
                let result = bench.page("b", From::Offset(bad));
                assert!(matches!(result, Err(ReadError::BadOffset)), "{bad}: {result:?}");
            }
            for bad in [Offset::new(1, 5).within(5), Offset::new(9, 9), Offset::new(1, 3)] {
                let result = bench.fork("x", "a", Some(bad));
                assert!(matches!(result, Err(WriteError::BadOffset)), "{bad}: {result:?}");
            }
        },
    );
}

#[test]
fn forking_is_repeated_only_for_the_same_fork() {
    everywhere(
        |bench| {
            bench.create("a");
            bench.append("a", &["x"]).expect("appended");
            bench.fork("b", "a", Some(Offset::new(1, 1))).expect("forked");
        },
        |bench| {
            assert!(bench.fork("b", "a", Some(Offset::new(1, 1))).expect("forked before").repeated);
            assert!(bench.fork("b", "a", None).expect("forked before").repeated);
            for (from, at) in [("a", Some(Offset::START)), ("b", None), ("none", None)] {
                let result = bench.fork("b", from, at);
                assert!(matches!(result, Err(WriteError::Mismatch(_))), "{result:?}");
            }
            let result = bench.fork("c", "none", None);
            assert!(matches!(result, Err(WriteError::NotFound)), "{result:?}");
        },
    );
}

#[test]
fn a_deleted_parent_lives_on_for_its_forks_and_goes_with_the_last() {
    everywhere(
        |bench| {
            bench.create("a");
            bench.append("a", &["x", "y"]).expect("appended");
            bench.fork("b", "a", None).expect("forked");
            bench.fork("c", "b", None).expect("forked");
            bench.fork("d", "a", None).expect("forked");
            bench.delete("a").expect("deleted");
            bench.delete("b").expect("deleted");
        },
        |bench| {
            assert!(matches!(bench.page("a", From::Start), Err(ReadError::Tombstone)));
            assert!(matches!(bench.append("b", &["z"]), Err(WriteError::Tombstone)));
            assert!(matches!(bench.delete("a"), Err(WriteError::Tombstone)));
            assert!(matches!(bench.fork("e", "a", None), Err(WriteError::Tombstone)));
            let result = bench.create_with("a", StreamConfig::default());
            assert!(matches!(result, Err(WriteError::Tombstone)));
            assert_eq!(bench.all("c"), ["x", "y"]);
            assert_eq!(bench.names(), ["c", "d"]);
        },
    );
}

#[test]
fn the_last_fork_takes_its_dead_ancestors_with_it_across_shards_in_one_operation() {
    let mut bench = Bench::new(Options::default());
    bench.create("a");
    bench.append("a", &["x", "y"]).expect("appended");
    for (name, from) in [("b", "a"), ("c", "b"), ("d", "c"), ("e", "b")] {
        bench.fork(name, from, None).expect("forked");
    }
    bench.engine().checkpoint().expect("a checkpoint");
    for name in ["a", "b", "c"] {
        bench.delete(name).expect("deleted");
    }
    bench.reopen();
    bench.delete("d").expect("deleted");
    // c went with d; b and a stay for e.
    bench.create("c");
    bench.delete("c").expect("deleted");
    assert_eq!(bench.all("e"), ["x", "y"]);
    bench.reopen();
    bench.delete("e").expect("deleted");
    assert_eq!(bench.engine().view().stat().streams, 0);
    assert_eq!(bench.engine().view().stat().bytes, 0);
    bench.engine().checkpoint().expect("a checkpoint");
    bench.reopen();
    assert_eq!(bench.engine().view().stat().streams, 0);
    assert_eq!(bench.verify(), [""; 0]);
    bench.create("a");
    assert!(bench.all("a").is_empty());
}

#[test]
fn forks_of_forks_have_a_limit() {
    let mut bench = Bench::new(Options::default());
    bench.create("0");
    bench.append("0", &["x"]).expect("appended");
    for depth in 1..=64 {
        bench.fork(&depth.to_string(), &(depth - 1).to_string(), None).expect("forked");
    }
    let result = bench.fork("65", "64", None);
    assert!(matches!(result, Err(WriteError::TooDeep { limit: 64 })), "{result:?}");
    assert_eq!(bench.all("64"), ["x"]);
    for depth in 0..=64 {
        bench.delete(&depth.to_string()).expect("deleted");
    }
    assert_eq!(bench.engine().view().stat().streams, 0);
}

#[test]
fn wrong_numbers_of_forks_are_mended_when_the_store_is_opened() {
    for checkpoint in [false, true] {
        let mut bench = Bench::new(Options::default());
        bench.create("a");
        bench.create("b");
        bench.append("b", &["x"]).expect("appended");
        bench.fork("c", "b", None).expect("forked");
        // A reference without a fork, to both.
        for name in ["a", "b"] {
            let change = Change::ChildAdded;
            let effects = vec![Effect { name: name.into(), change }];
            bench.engine().log_record(&Record { at: 0, effects }).expect("logged");
        }
        assert_eq!(bench.verify().len(), 2);
        bench.delete("a").expect("deleted");
        bench.delete("b").expect("deleted");
        assert_eq!(bench.engine().view().stat().streams, 3);
        if checkpoint {
            bench.engine().checkpoint().expect("a checkpoint");
        }
        bench.reopen();
        assert_eq!(bench.engine().view().stat().streams, 2);
        assert_eq!(bench.verify(), [""; 0]);
        bench.delete("c").expect("deleted");
        assert_eq!(bench.engine().view().stat().streams, 0);
        bench.reopen();
        assert_eq!(bench.engine().view().stat().streams, 0);
    }
}
