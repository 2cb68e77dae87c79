//! What each operation on a stream does, before and after a checkpoint and opening again.

use super::*;

#[test]
fn entries_are_read_in_order_wherever_they_are() {
    everywhere(
        |bench| {
            bench.create("a");
            bench.append("a", &["one", "two"]).expect("appended");
            bench.append("a", &["", "three"]).expect("appended");
        },
        |bench| {
            assert_eq!(bench.all("a"), ["one", "two", "", "three"]);
            let end = bench.page("a", From::Now).expect("a page").next;
            assert_eq!(end, Offset::new(4, 11));
        },
    );
}

#[test]
fn pages_are_bounded_and_every_offset_that_they_give_goes_on() {
    everywhere(
        |bench| {
            bench.create("a");
            for number in 0..100 {
                bench.append("a", &[&number.to_string()]).expect("appended");
            }
            bench.engine().checkpoint().expect("a checkpoint");
            for number in 100..150 {
                bench.append("a", &[&number.to_string()]).expect("appended");
            }
        },
        |bench| {
            for (max_bytes, max_entries) in [(7, 100), (1000, 7), (0, 0), (50, 30)] {
                let mut from = From::Start;
                let mut number = 0;
                loop {
                    let view = bench.engine().view();
                    let page = view.read("a", None, from, max_bytes, max_entries).expect("a page");
                    let bytes: usize = page.entries.iter().map(|entry| entry.data.len()).sum();
                    assert!(bytes <= max_bytes || page.entries.len() == 1);
                    assert!(page.entries.len() <= max_entries.max(1));
                    for entry in &page.entries {
                        assert_eq!(entry.data, number.to_string());
                        number += 1;
                    }
                    if page.up_to_date {
                        break;
                    }
                    from = From::Offset(page.next);
                }
                assert_eq!(number, 150);
            }
        },
    );
}

#[test]
fn reading_begins_inside_an_entry_and_nowhere_else_than_in_the_stream() {
    everywhere(
        |bench| {
            bench.create("a");
            bench.append("a", &["hello", "world"]).expect("appended");
        },
        |bench| {
            let first = Offset::START.within(2);
            assert_eq!(bench.texts("a", From::Offset(first)), ["llo", "world"]);
            let entry = bench.page("a", From::Offset(first)).expect("a page").entries.remove(0);
            assert_eq!((entry.offset, entry.next), (first, Offset::new(1, 5)));
            for bad in [
                Offset::START.within(5),
                Offset::new(1, 4),
                Offset::new(1, 10),
                Offset::new(2, 9),
                Offset::new(2, 11),
                Offset::new(3, 10),
                Offset::new(u64::MAX, u64::MAX),
            ] {
                assert!(
                    matches!(bench.page("a", From::Offset(bad)), Err(ReadError::BadOffset)),
                    "{bad}"
                );
            }
        },
    );
}

#[test]
fn creating_is_repeated_for_an_equal_configuration_and_refused_for_another() {
    everywhere(
        |bench| {
            let write = Write::Create {
                name: "a".into(),
                config: StreamConfig {
                    content_type: "text/plain".into(),
                    ..StreamConfig::default()
                },
                entries: vec![Bytes::from_static(b"first")],
                close: false,
            };
            let made = bench.write(write).expect("created");
            assert!(!made.repeated);
            assert_eq!(made.end, Offset::new(1, 5));
        },
        |bench| {
            let config =
                StreamConfig { content_type: "text/plain".into(), ..StreamConfig::default() };
            let again = bench.create_with("a", config.clone()).expect("created before");
            assert!(again.repeated);
            assert_eq!(again.end, Offset::new(1, 5));
            match bench.create_with("a", StreamConfig::default()) {
                Err(WriteError::Mismatch(is)) => assert_eq!(*is, config),
                other => panic!("{other:?}"),
            }
            assert_eq!(bench.all("a"), ["first"]);
        },
    );
}

#[test]
fn a_closed_stream_takes_nothing_and_says_so() {
    everywhere(
        |bench| {
            bench.create("a");
            bench.append("a", &["x"]).expect("appended");
            let close = Append { close: true, ..Append::default() };
            let closed = bench.write(Write::Append { name: "a".into(), append: close });
            assert!(closed.expect("closed").closed);
        },
        |bench| {
            let end = Offset::new(1, 1);
            assert!(matches!(bench.append("a", &["y"]), Err(WriteError::Closed(at)) if at == end));
            let close = Append { close: true, ..Append::default() };
            let again = bench.write(Write::Append { name: "a".into(), append: close });
            assert!(again.expect("closed before").repeated);
            let page = bench.page("a", From::Start).expect("a page");
            assert!(page.closed && page.up_to_date);
        },
    );
}

#[test]
fn the_sequence_of_appends_strictly_increases() {
    everywhere(
        |bench| {
            bench.create("a");
            bench.write(sequenced("a", "b")).expect("appended");
        },
        |bench| {
            for low in ["", "a", "b"] {
                let result = bench.write(sequenced("a", low));
                assert!(matches!(result, Err(WriteError::Sequence)), "{low}: {result:?}");
            }
            assert_eq!(bench.all("a"), ["b"]);
        },
    );
}

#[test]
fn an_idempotent_producer_is_fenced_answered_again_and_told_of_gaps() {
    everywhere(
        |bench| {
            bench.create("a");
            assert!(matches!(
                bench.write(produced("a", 3, 1)),
                Err(WriteError::Gap { expected: 0 })
            ));
            for sequence in 0..8 {
                bench.write(produced("a", 3, sequence)).expect("appended");
            }
        },
        |bench| {
            for sequence in 3..8 {
                let again = bench.write(produced("a", 3, sequence)).expect("appended before");
                assert!(again.repeated);
                assert_eq!(again.start, Offset::new(sequence, 3 * sequence));
                assert_eq!(again.end, Offset::new(sequence + 1, 3 * sequence + 3));
            }
            let result = bench.write(produced("a", 3, 2));
            assert!(matches!(result, Err(WriteError::AlreadyDone)), "{result:?}");
            let result = bench.write(produced("a", 3, 9));
            assert!(matches!(result, Err(WriteError::Gap { expected: 8 })), "{result:?}");
            let result = bench.write(produced("a", 2, 8));
            assert!(matches!(result, Err(WriteError::Fenced { epoch: 3 })), "{result:?}");
            let result = bench.write(produced("a", 4, 1));
            assert!(matches!(result, Err(WriteError::Gap { expected: 0 })), "{result:?}");
            assert_eq!(bench.all("a").len(), 8);
        },
    );
}

#[test]
fn a_larger_epoch_shuts_out_the_smaller_one() {
    let mut bench = Bench::new(Options::default());
    bench.create("a");
    bench.write(produced("a", 1, 0)).expect("appended");
    bench.write(produced("a", 2, 0)).expect("appended");
    assert!(matches!(bench.write(produced("a", 1, 1)), Err(WriteError::Fenced { epoch: 2 })));
    assert!(bench.write(produced("a", 2, 0)).expect("appended before").repeated);
}

#[test]
fn a_producers_closing_append_is_answered_again() {
    let mut bench = Bench::new(Options::default());
    bench.create("a");
    let mut write = produced("a", 0, 0);
    if let Write::Append { append, .. } = &mut write {
        append.close = true;
    }
    let first = bench.write(write.clone()).expect("appended");
    let again = bench.write(write).expect("appended before");
    assert_eq!(again, Written { repeated: true, ..first });
}

#[test]
fn a_later_write_of_a_batch_sees_the_earlier_ones_and_a_refused_one_changes_nothing() {
    let mut bench = Bench::new(Options::default());
    let create = Write::Create {
        name: "a".into(),
        config: StreamConfig::default(),
        entries: Vec::new(),
        close: false,
    };
    let batch = vec![
        append("a", &["lost"]),
        create,
        append("a", &["one"]),
        sequenced("a", "two"),
        sequenced("a", "two"),
        Write::Fork {
            name: "b".into(),
            from: "a".into(),
            at: None,
            config: StreamConfig::default(),
        },
        append("b", &["three"]),
    ];
    let results = bench.commit(batch);
    let fine: Vec<_> = results.iter().map(Result::is_ok).collect();
    assert_eq!(fine, [false, true, true, true, false, true, true]);
    let lsns: Vec<_> = results.iter().flatten().map(|written| written.lsn.number()).collect();
    assert!(lsns.is_sorted_by(|a, b| a + 1 == *b), "{lsns:?}");
    assert_eq!(bench.all("b"), ["one", "two", "three"]);
    let events = bench.engine().take_events();
    let entries: Vec<_> = events.iter().flat_map(|event| event.entries.clone()).collect();
    assert_eq!(entries, ["one", "two", "three"]);
    bench.reopen();
    assert_eq!(bench.all("b"), ["one", "two", "three"]);
}

#[test]
fn names_and_texts_are_checked() {
    let mut bench = Bench::new(Options::default());
    let long = "x".repeat(256);
    for name in ["", "a\nb", &long] {
        let result = bench.create_with(name, StreamConfig::default());
        assert!(matches!(result, Err(WriteError::BadName)), "{result:?}");
    }
    let config = StreamConfig { content_type: long.clone(), ..StreamConfig::default() };
    assert!(matches!(bench.create_with("a", config), Err(WriteError::BadName)));
    bench.create("a");
    assert!(matches!(bench.append("a", &[]), Err(WriteError::Empty)));
    assert!(matches!(bench.append("b", &["x"]), Err(WriteError::NotFound)));
    assert!(matches!(bench.write(sequenced("a", &long)), Err(WriteError::BadName)));
}

#[test]
fn limits_of_operation_stream_and_store_are_kept_and_named() {
    let options = Options {
        max_operation_bytes: 100,
        max_stream_bytes: 150,
        max_bytes: 300,
        ..Options::default()
    };
    let mut bench = Bench::new(options);
    let text = "x".repeat(100);
    for name in ["a", "b", "c"] {
        bench.create(name);
        bench.append(name, &[&text]).expect("appended");
    }
    let result = bench.append("a", &[&text, "y"]);
    assert!(matches!(result, Err(WriteError::TooLarge { limit: 100 })), "{result:?}");
    let result = bench.append("a", &[&text[..51]]);
    assert!(matches!(result, Err(WriteError::StreamFull { limit: 150 })), "{result:?}");
    let result = bench.append("a", &["x"]);
    assert!(matches!(result, Err(WriteError::StoreFull { limit: 300 })), "{result:?}");
    bench.delete("b").expect("deleted");
    bench.append("a", &[&text[..50]]).expect("there is room");
    bench.reopen();
    let config = StreamConfig { max_bytes: Some(10), ..StreamConfig::default() };
    bench.create_with("d", config).expect("created");
    let result = bench.append("d", &[&text[..11]]);
    assert!(matches!(result, Err(WriteError::StreamFull { limit: 10 })), "{result:?}");
    assert_eq!(bench.engine().view().stat().bytes, 250);
    assert_eq!(bench.engine().view().stat().streams, 3);
}

#[test]
fn streams_are_listed_by_name_from_memory_and_shards_alike() {
    everywhere(
        |bench| {
            for number in 0..40 {
                bench.create(&format!("{}/{number:02}", if number % 2 == 0 { "a" } else { "b" }));
            }
            bench.engine().checkpoint().expect("a checkpoint");
            bench.delete("a/00").expect("deleted");
            bench.delete("a/38").expect("deleted");
            bench.create("a/01");
        },
        |bench| {
            let mut expected: Vec<_> = (2..37).step_by(2).map(|n| format!("a/{n:02}")).collect();
            expected.insert(0, "a/01".into());
            let view = bench.engine().view();
            let mut names: Vec<String> = Vec::new();
            loop {
                let after = names.last().map(String::as_str);
                let page = view.list("a/", after, 7).expect("a page");
                if page.is_empty() {
                    break;
                }
                names.extend(page.into_iter().map(|head| head.name));
            }
            assert_eq!(names, expected);
        },
    );
}

#[test]
fn a_name_that_is_taken_again_is_another_stream() {
    everywhere(
        |bench| {
            bench.create("a");
            bench.append("a", &["old"]).expect("appended");
            bench.write(produced("a", 0, 0)).expect("appended");
            bench.engine().checkpoint().expect("a checkpoint");
            let old = bench.page("a", From::Start).expect("a page").stream;
            bench.delete("a").expect("deleted");
            assert!(matches!(bench.page("a", From::Start), Err(ReadError::NotFound)));
            bench.create("a");
            bench.append("a", &["new"]).expect("appended");
            let view = bench.engine().view();
            let page = view.read("a", Some(old), From::Start, 100, 100);
            assert!(matches!(page, Err(ReadError::NotFound)));
        },
        |bench| {
            assert_eq!(bench.all("a"), ["new"]);
            let result = bench.write(produced("a", 0, 1));
            assert!(matches!(result, Err(WriteError::Gap { expected: 0 })), "{result:?}");
        },
    );
}

fn sequenced(name: &str, sequence: &str) -> Write {
    let data = Bytes::copy_from_slice(sequence.as_bytes());
    let append = Append { entries: vec![data.clone()], sequence: Some(data), ..Append::default() };
    Write::Append { name: name.into(), append }
}

fn produced(name: &str, epoch: u64, sequence: u64) -> Write {
    let append = Append {
        entries: vec![Bytes::from_static(b"abc")],
        producer: Some(Producer { id: "p".into(), epoch, sequence }),
        ..Append::default()
    };
    Write::Append { name: name.into(), append }
}
