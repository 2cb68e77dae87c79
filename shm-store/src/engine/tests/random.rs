//! Random operations, on the engine and on a plain model.

use proptest::prelude::*;

use super::{
    model::{Model, answer, dump},
    *,
};

pub(super) const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[derive(Clone, Debug)]
enum Op {
    /// One write, or several at once.
    Commit(Vec<Seed>),
    Read {
        name: usize,
        at: u64,
    },
    Pass(u64),
    Sweep,
    Checkpoint,
    Reopen,
}

/// What a write is made of, once it is known what there is.
#[derive(Clone, Debug)]
pub(super) struct Seed {
    kind: u8,
    name: usize,
    other: usize,
    number: u64,
    lengths: Vec<usize>,
}

impl Seed {
    /// The write, for a store that is as the model.
    pub(super) fn write(&self, model: &Model) -> Write {
        let (name, from) = (NAMES[self.name].to_owned(), NAMES[self.other].to_owned());
        let number = self.number;
        let entries: Vec<_> = self
            .lengths
            .iter()
            .enumerate()
            .map(|(index, &len)| {
                Bytes::from(vec![b'a' + ((number as usize + index) % 26) as u8; len])
            })
            .collect();
        let config = match number % 8 {
            0 => StreamConfig {
                time_to_live: Some(Duration::from_millis(800)),
                ..StreamConfig::default()
            },
            1 => StreamConfig {
                expires_at: Some(UNIX_EPOCH + Duration::from_millis(model.now / 500 * 500 + 1000)),
                ..StreamConfig::default()
            },
            _ => StreamConfig::default(),
        };
        match self.kind {
            0..=2 => Write::Create { name, config, entries, close: number % 16 == 15 },
            3..=9 => {
                let mut append = Append { entries, ..Append::default() };
                append.close = number % 16 == 15;
                Write::Append { name, append }
            }
            10..=11 => {
                let sequence = Some(Bytes::from((number % 1000).to_string()));
                Write::Append { name, append: Append { entries, sequence, ..Append::default() } }
            }
            12..=14 => {
                let id = ["p", "q"][number as usize % 2].into();
                let (epoch, sequence) = (number / 2 % 32 / 16, number / 64 % 8);
                let producer = Some(Producer { id, epoch, sequence });
                Write::Append { name, append: Append { entries, producer, ..Append::default() } }
            }
            15..=17 => {
                let stream = model.streams.get(&from);
                let at = (!number.is_multiple_of(3))
                    .then(|| stream.map_or(Offset::START, |stream| stream.position(number >> 2)));
                Write::Fork { name, from, at, config }
            }
            _ => Write::Delete { name },
        }
    }
}

pub(super) fn seed() -> impl Strategy<Value = Seed> {
    let lengths = prop::collection::vec(prop_oneof![4 => 0..20_usize, 1 => 20..3000_usize], 0..4);
    (0..20_u8, 0..NAMES.len(), 0..NAMES.len(), any::<u64>(), lengths).prop_map(
        |(kind, name, other, number, lengths)| Seed { kind, name, other, number, lengths },
    )
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => prop::collection::vec(seed(), 1..6).prop_map(Op::Commit),
        4 => (0..NAMES.len(), any::<u64>()).prop_map(|(name, at)| Op::Read { name, at }),
        2 => (1..400_u64).prop_map(Op::Pass),
        1 => Just(Op::Sweep),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: amount("SHM_TEST_STORE_MODEL", 100) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_engine_does_what_a_plain_model_does(
        ops in prop::collection::vec(op(), 1..60),
        small in any::<bool>(),
    ) {
        let memory_bytes = if small { 4 << 10 } else { 1 << 20 };
        let options =
            Options { shards: 2, segment_bytes: 64 << 10, memory_bytes, ..Options::default() };
        let fs = Arc::new(SimulatedFs::default());
        let mut bench = Bench::on(fs, Path::new("/store"), options).expect("a new store");
        let mut model = Model { now: 1_000_000, ..Model::default() };
        for op in ops {
            run(&mut bench, &mut model, op);
            let view = bench.engine().view();
            prop_assert_eq!(dump(&view, &NAMES), model.dump());
        }
        prop_assert_eq!(bench.verify(), [""; 0]);
    }
}

fn run(bench: &mut Bench, model: &mut Model, op: Op) {
    match op {
        Op::Commit(seeds) => {
            let mut after = model.clone();
            let (mut batch, mut expected) = (Vec::new(), Vec::new());
            for seed in seeds {
                let write = seed.write(&after);
                expected.push(after.write(&write));
                batch.push(write);
            }
            let results = bench.commit(batch.clone());
            let results: Vec<_> = results.iter().map(answer).collect();
            assert_eq!(results, expected, "{batch:?}");
            *model = after;
        }
        Op::Read { name, at } => {
            let name = NAMES[name];
            let (at, expected) = match model.live(name) {
                Ok(stream) => {
                    let at = stream.position(at);
                    (at, stream.from(at).ok_or("bad offset"))
                }
                Err(error) => (Offset::START, Err(error)),
            };
            let page = bench.page(name, From::Offset(at)).map(|page| page.entries);
            let found = match page {
                Ok(entries) => Ok(entries.into_iter().map(|entry| entry.data).collect::<Vec<_>>()),
                Err(ReadError::BadOffset) => Err("bad offset"),
                Err(ReadError::NotFound) => Err("not found"),
                Err(ReadError::Tombstone) => Err("tombstone"),
                Err(error) => panic!("{error:?}"),
            };
            assert_eq!(found, expected, "{name} at {at}");
            if found.is_ok() {
                model.read(name);
            }
        }
        Op::Pass(millis) => {
            bench.pass(millis);
            model.now += millis;
        }
        Op::Sweep => {
            let writes = bench.engine().sweep(1000);
            for result in bench.commit(writes) {
                result.expect("swept");
            }
            model.sweep();
        }
        Op::Checkpoint => bench.engine().checkpoint().expect("a checkpoint"),
        Op::Reopen => {
            bench.reopen();
            model.end();
        }
    }
}
