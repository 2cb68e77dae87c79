use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::*;
use crate::{
    Append, Damage, Durability, Entry, From, Head, Lsn, Offset, Page, Producer, ReadError,
    StreamConfig, StreamId, WriteError, Written, engine, operation::Write,
};

fn config() -> StreamConfig {
    StreamConfig {
        content_type: "text/plain".into(),
        time_to_live: Some(Duration::from_millis(1500)),
        expires_at: Some(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)),
        max_bytes: Some(7),
    }
}

fn entries() -> Vec<Bytes> {
    vec!["one".into(), Bytes::new(), vec![7; 300].into()]
}

fn requests() -> Vec<Request> {
    let name = || "stream".to_owned();
    let append = |sequence: Option<Bytes>, producer| {
        Request::Write(Write::Append {
            name: name(),
            append: Append { entries: entries(), sequence, producer, close: true },
        })
    };
    let producer = Producer { id: "p".into(), epoch: 3, sequence: u64::MAX };
    let read = |from| Request::Read {
        name: name(),
        expected: Some(StreamId(4)),
        from,
        max_bytes: 5,
        max_entries: 6,
    };
    vec![
        Request::Write(Write::Create {
            name: name(),
            config: config(),
            entries: entries(),
            close: true,
        }),
        append(None, None),
        append(Some("x".into()), Some(producer)),
        // Given and empty is not the same as not given.
        append(Some(Bytes::new()), None),
        Request::Write(Write::Delete { name: name() }),
        Request::Write(Write::Fork {
            name: name(),
            from: "parent".into(),
            at: Some(Offset::new(3, 4)),
            config: StreamConfig::default(),
        }),
        Request::Write(Write::Fork { name: name(), from: name(), at: None, config: config() }),
        Request::Write(Write::Touch { name: name() }),
        Request::Write(Write::Expire { name: name(), stream: StreamId(9) }),
        read(From::Start),
        read(From::Now),
        read(From::Offset(Offset::new(1, 2))),
        Request::Head { name: name() },
        Request::List { prefix: name(), after: Some(name()), limit: 3 },
        Request::List { prefix: String::new(), after: None, limit: 3 },
        Request::Stat,
        Request::Verify,
    ]
}

fn answers() -> Vec<Answer> {
    let written = Written {
        start: Offset::new(1, 2),
        end: Offset::new(3, 4),
        lsn: Lsn(5),
        repeated: true,
        closed: false,
    };
    let first = Offset::new(4, 100);
    let second = Offset::new(5, 103);
    let end = Offset::new(6, 103);
    let page = Page {
        entries: vec![
            Entry { offset: first, next: second, data: "one".into() },
            Entry { offset: second, next: end, data: Bytes::new() },
        ],
        next: end,
        up_to_date: true,
        closed: false,
        stream: StreamId(8),
    };
    let head = Head {
        name: "stream".into(),
        stream: StreamId(8),
        config: config(),
        end,
        closed: true,
        forked: Some((StreamId(2), first)),
        created: UNIX_EPOCH + Duration::from_millis(5),
        expires: None,
    };
    let errors = [
        WriteError::NotFound,
        WriteError::Mismatch(Box::new(config())),
        WriteError::Closed(end),
        WriteError::Fenced { epoch: 1 },
        WriteError::Gap { expected: 2 },
        WriteError::TooLarge { limit: 3 },
        WriteError::TooDeep { limit: 4 },
        WriteError::Io(std::sync::Arc::new(std::io::Error::from_raw_os_error(5))),
    ];
    let damage = Damage { file: "log".into(), position: 7, what: "a hole" };
    let mut answers = vec![
        Answer::Written(Durability::Relaxed, Ok(written)),
        Answer::Page(Ok(page)),
        Answer::Page(Err(ReadError::Damaged(damage))),
        Answer::Head(Ok(head.clone())),
        Answer::Head(Err(ReadError::Tombstone)),
        Answer::List(Ok(vec![head.clone(), head])),
        Answer::Stat(crate::Stat {
            owner: 1,
            streams: 2,
            bytes: 3,
            visible: Lsn(4),
            durable: Lsn(5),
            applied: Lsn(6),
            memory: 7,
            writes: 8,
            batches: 9,
        }),
        Answer::Verified(crate::Verified {
            problems: vec!["a gap".into()],
            ..crate::Verified::default()
        }),
    ];
    answers.extend(errors.map(|error| Answer::Written(Durability::Durable, Err(error))));
    answers
}

#[test]
fn requests_arrive_as_they_were_made() {
    for (number, request) in (1..).zip(requests()) {
        let message = Bytes::from(request.encode(number));
        assert_eq!(Request::decode(&message), Ok((number, request)));
    }
    assert!(Request::decode(&Request::Stat.encode(0).into()).is_err(), "the farewell's number");
}

#[test]
fn answers_arrive_as_they_were_made() {
    for (number, answer) in (1..).zip(answers()) {
        let message = Bytes::from(answer.encode(number));
        assert_eq!(number_of(&message), Ok(number));
        let decoded = Answer::decode(&message).expect("an answer");
        assert_eq!(format!("{decoded:?}"), format!("{answer:?}"));
    }
    assert_eq!(number_of(&FAREWELL), Ok(0));
}

#[test]
fn what_is_cut_or_changed_is_refused_or_means_something_else_and_never_panics() {
    let messages = requests().into_iter().map(|request| request.encode(77));
    let messages: Vec<_> =
        messages.chain(answers().into_iter().map(|answer| answer.encode(77))).collect();
    for message in messages {
        for len in 0..message.len() {
            let cut = Bytes::copy_from_slice(&message[..len]);
            assert!(Request::decode(&cut).is_err() || Answer::decode(&cut).is_err());
        }
        for at in 0..message.len().min(200) {
            for value in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut changed = message.clone();
                changed[at] = value;
                let changed = Bytes::from(changed);
                let _ = (Request::decode(&changed), Answer::decode(&changed));
                let _ = Event::decode(&changed);
            }
        }
    }
}

#[test]
fn a_large_event_is_told_of_without_its_entries() {
    let event = |len| engine::Event {
        stream: StreamId(3),
        name: "s".into(),
        start: Offset::new(1, 10),
        entries: vec![Bytes::from(vec![1; len]), Bytes::from_static(b"x")],
        closed: true,
        deleted: false,
    };
    let small = Event::encode(&event(100));
    assert_eq!(Event::stream_of(&small), Ok(StreamId(3)));
    let small = Event::decode(&small).unwrap();
    assert_eq!(small.entries.len(), 2);
    assert_eq!((small.end, small.closed), (Offset::new(3, 111), true));
    assert_eq!(small.entries[1].offset, Offset::new(2, 110));
    let large = Event::encode(&event(MAX_EVENT));
    assert!(large.len() <= MAX_EVENT);
    let large = Event::decode(&large).unwrap();
    assert_eq!((large.entries.len(), large.end), (0, Offset::new(3, 11 + MAX_EVENT as u64)));
}

#[test]
fn a_page_as_large_as_it_may_be_fits_into_one_slot() {
    let largest_slot = read_link(1 << 20).size_classes.iter().map(|class| class.slot_size).max();
    let entry = Bytes::from(vec![0; (MAX_PAGE / MAX_PAGE_ENTRIES) as usize]);
    let mut offset = Offset::START;
    let entries: Vec<Entry> = (0..MAX_PAGE_ENTRIES)
        .map(|_| {
            let next = answer::following(offset, entry.len()).unwrap();
            let entry = Entry { offset, next, data: entry.clone() };
            offset = next;
            entry
        })
        .collect();
    let page =
        Page { entries, next: offset, up_to_date: false, closed: false, stream: StreamId(1) };
    assert!(page_len(&page) <= largest_slot.unwrap() as usize);
}
