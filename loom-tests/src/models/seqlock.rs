//! The seqlock slot: never torn, and busy only beside a writer.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use shm_primitives::{
    Offset,
    seqlock::{Busy, SeqlockReader, SeqlockWriter, slot_size},
};

use crate::{
    crash::{CrashMem, until_death},
    explore::{Paths, explore, explore_bounded},
    memory::{Area, LoomMem},
    thread,
};

/// A slot of two words, the second one not whole.
const AT: Offset = Offset::new(40);
const LEN: usize = 13;
/// With five preemptions the models of two values or two readers take half a minute and
/// more.
const BOUND: usize = 3;

fn slot() -> LoomMem {
    let end = AT.bytes() + slot_size(LEN as u64);
    LoomMem::new(end, &[Area::Words64(AT.bytes()..end)])
}

/// Reads once: what it reads is what the write of that number wrote.
fn read(reader: &SeqlockReader<LoomMem>) -> Result<u64, Busy> {
    let mut value = [0xff; LEN];
    let number = reader.read(&mut value, 1)?;
    assert_eq!(value, [number as u8; LEN], "torn in write {number}");
    Ok(number)
}

fn read_twice(reader: &SeqlockReader<LoomMem>, writes: u64, paths: &Paths) {
    let mut last = 0;
    for _ in 0..2 {
        match read(reader) {
            Err(Busy) => paths.take("overlapped"),
            Ok(number) => {
                assert!(number >= last, "back from write {last} to {number}");
                last = number;
                paths.take_if(number == 0, "before all");
                paths.take_if(number == writes, "after all");
                paths.take_if(number != 0 && number != writes, "between two writes");
            }
        }
    }
}

fn check_after(reader: &SeqlockReader<LoomMem>, writes: u64) {
    assert_eq!(read(reader), Ok(writes), "busy or old, though nobody writes");
}

/// One writes twice, one reads twice.
pub fn one_reader() {
    let paths = ["overlapped", "before all", "between two writes", "after all"];
    explore_bounded("seqlock::one_reader", BOUND, &paths, |paths| {
        let memory = slot();
        let mut writer = SeqlockWriter::new(memory.clone(), AT);
        let reader = SeqlockReader::new(memory, AT);
        let writing = thread::spawn(move || {
            writer.write(&[1; LEN]);
            writer.write(&[2; LEN]);
        });
        read_twice(&reader, 2, paths);
        writing.join().expect("the writer ends");
        check_after(&reader, 2);
    });
}

/// Two readers do not disturb each other.
pub fn two_readers() {
    let paths = ["overlapped", "before all", "after all"];
    explore_bounded("seqlock::two_readers", BOUND, &paths, |paths| {
        let memory = slot();
        let mut writer = SeqlockWriter::new(memory.clone(), AT);
        let reader = SeqlockReader::new(memory, AT);
        let (other, of_other) = (reader.clone(), Arc::clone(paths));
        let reading = thread::spawn(move || match read(&other) {
            Ok(number) => assert!(number <= 1),
            Err(Busy) => of_other.take("overlapped"),
        });
        let writing = thread::spawn(move || writer.write(&[1; LEN]));
        match read(&reader) {
            Ok(number) => paths.take(if number == 0 { "before all" } else { "after all" }),
            Err(Busy) => paths.take("overlapped"),
        }
        writing.join().expect("the writer ends");
        reading.join().expect("the other reader ends");
        check_after(&reader, 1);
    });
}

/// The writer dies in each of its operations: the value is then the old one, the new
/// one, or busy; and the next writer's value is read.
pub fn dying_writer() {
    for n in 0.. {
        let died = Arc::new(AtomicU64::new(0));
        let of_model = Arc::clone(&died);
        explore(&format!("seqlock::dying_writer in operation {n}"), &[], move |_| {
            let memory = slot();
            SeqlockWriter::new(memory.clone(), AT).write(&[1; LEN]);
            let [own] = CrashMem::new([&memory]);
            own.die_in(n);
            let died = Arc::clone(&of_model);
            let reader = SeqlockReader::new(memory.clone(), AT);
            let writing = thread::spawn(move || {
                if until_death(|| SeqlockWriter::new(own, AT).write(&[2; LEN])).is_none() {
                    died.fetch_add(1, Ordering::Relaxed);
                }
            });
            if let Ok(number) = read(&reader) {
                assert!([1, 2].contains(&number));
            }
            writing.join().expect("the writer ends");
            let number = match read(&reader) {
                Ok(number) => number + 1,
                // Its sequence is odd: the next even one counts as its write.
                Err(Busy) => 3,
            };
            SeqlockWriter::new(memory, AT).write(&[number as u8; LEN]);
            check_after(&reader, number);
        });
        if died.load(Ordering::Relaxed) == 0 {
            assert!(n > 4, "a write has at least five operations");
            break;
        }
    }
}
