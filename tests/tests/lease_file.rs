//! Whatever is done to the `-shm` file beside a leased data file, with an owner or without:
//! it is healed, or refused and left alone. Nobody crashes, there are never two owners, and
//! no generation is lower than one before.
//!
//! `SHM_TEST_SECONDS=60` is the whole form of the test with vandals.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::{
        fs::{FileExt, MetadataExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
    sys::stat::Mode,
    unistd::mkfifo,
};
use shm_primitives::lease::{HEADER_SIZE, PAGE_SIZE, SLOTS_AT};
use shm_tests::{Place, amount, eventually, ownerships, peer, process::Peer};
use shm_transport::{
    Deadline, Lease, LeaseError,
    lease::{
        Beat, BeatError, Damage, Generation, LeaseFileError, LeaseHeaderError, LeaseState, Outcome,
        Ownership,
    },
};

fn data_file(place: &Place) -> (PathBuf, PathBuf) {
    let path = place.file("data");
    fs::write(&path, "contents").unwrap();
    (path, place.file("data-shm"))
}

/// The file as an owner leaves it that dies.
fn after_a_death(path: &Path, shm: &Path) -> Vec<u8> {
    let _owner = Lease::open(path).unwrap();
    fs::read(shm).unwrap()
}

/// Opens the lease and expects to own it; returns how.
fn own(path: &Path, newest: &mut Option<Generation>) -> Outcome {
    let lease = Lease::open(path).unwrap();
    assert!(lease.is_owner());
    assert!(lease.generation() > *newest, "{:?} after {newest:?}", lease.generation());
    *newest = lease.generation();
    assert_eq!(fs::metadata(path.with_file_name("data-shm")).unwrap().len(), PAGE_SIZE as u64);
    let reading = lease.header().unwrap();
    assert_eq!(Some(reading.header.generation), *newest);
    assert_eq!(reading.header.state, LeaseState::Owned);
    lease.outcome()
}

#[test]
fn each_flipped_bit_is_healed_by_the_next_owner() {
    let place = Place::new();
    let (path, shm) = data_file(&place);
    let page = after_a_death(&path, &shm);
    let mut newest = None;
    fs::write(&shm, &page).unwrap();
    assert_eq!(own(&path, &mut newest), Outcome::Recovered);
    // All of the headers, and a bit of each byte of the reader slots.
    let bits = (0..SLOTS_AT * 8).chain((SLOTS_AT..PAGE_SIZE).map(|byte| byte * 8 + byte % 8));
    for bit in bits {
        let mut flipped = page.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&shm, &flipped).unwrap();
        let expected = match bit / 8 {
            SLOTS_AT.. => Outcome::Recovered,
            byte if byte % HEADER_SIZE < 8 => Outcome::Healed(Damage::Magic),
            _ => Outcome::Healed(Damage::Checksum),
        };
        assert_eq!(own(&path, &mut newest), expected, "bit {bit}");
        assert_eq!(own(&path, &mut newest), Outcome::Reopened);
    }
}

#[test]
fn a_file_of_any_length_is_healed_by_the_next_owner() {
    let place = Place::new();
    let (path, shm) = data_file(&place);
    let page = after_a_death(&path, &shm);
    let mut newest = None;
    let longer = [PAGE_SIZE + 1, 2 * PAGE_SIZE, 1 << 20];
    for len in (0..PAGE_SIZE).chain(longer) {
        fs::write(&shm, &page).unwrap();
        File::options().write(true).open(&shm).unwrap().set_len(len as u64).unwrap();
        let damage = Damage::Size { found: len as u64 };
        assert_eq!(own(&path, &mut newest), Outcome::Healed(damage));
    }
    for garbage in [0, 1, 0xff] {
        fs::write(&shm, [garbage; PAGE_SIZE]).unwrap();
        assert_eq!(own(&path, &mut newest), Outcome::Healed(Damage::Magic));
    }
    fs::remove_file(&shm).unwrap();
    assert_eq!(own(&path, &mut newest), Outcome::Created);
    // An old copy, as a restored backup has it.
    fs::remove_file(&shm).unwrap();
    fs::write(&shm, &page).unwrap();
    assert_eq!(own(&path, &mut newest), Outcome::Recovered);
}

#[test]
fn a_generation_survives_in_one_header_whatever_the_clock_says() {
    let place = Place::new();
    let (path, shm) = data_file(&place);
    let mut page = after_a_death(&path, &shm);
    // An owner of the far future, by a clock that was wrong.
    let future = Generation::new(1 << 59).unwrap();
    for (damaged, kept) in [(0, HEADER_SIZE), (HEADER_SIZE, 0)] {
        let header = Lease::read_header(&path).unwrap().header;
        let header = shm_primitives::lease::LeaseHeader { generation: future, ..header };
        page[kept..kept + HEADER_SIZE].copy_from_slice(&header.encode());
        page[damaged..damaged + HEADER_SIZE].fill(7);
        fs::write(&shm, &page).unwrap();
        let lease = Lease::open(&path).unwrap();
        assert!(matches!(lease.outcome(), Outcome::Healed(_)));
        assert_eq!(lease.generation().unwrap().get(), future.get() + 1);
    }
}

type Make = fn(&Path);

/// What somebody else could have put there.
const FOREIGN: [(&str, Make); 8] = [
    ("notes", |path| fs::write(path, "notes").unwrap()),
    ("SQLite", |path| {
        let mut index = vec![0; 32 << 10];
        index[..4].copy_from_slice(&3_007_000u32.to_le_bytes());
        fs::write(path, index).unwrap();
    }),
    ("zeros", |path| fs::write(path, vec![0; 32 << 10]).unwrap()),
    ("garbage", |path| fs::write(path, vec![0xa5; PAGE_SIZE + 1]).unwrap()),
    ("directory", |path| fs::create_dir(path).unwrap()),
    ("link", |path| symlink("data", path).unwrap()),
    ("dangling link", |path| symlink("nowhere", path).unwrap()),
    ("pipe", |path| mkfifo(path, Mode::S_IRWXU).unwrap()),
];

fn remove(path: &Path) {
    if fs::remove_file(path).is_err() {
        let _ = fs::remove_dir(path);
    }
}

/// Type, length, contents: what must stay.
fn look(path: &Path) -> (u32, u64, Vec<u8>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let contents = if metadata.is_file() { fs::read(path).unwrap() } else { Vec::new() };
    (metadata.mode(), metadata.ino(), contents)
}

#[test]
fn files_of_others_are_left_alone() {
    let place = Place::new();
    let (path, shm) = data_file(&place);
    let occupied = LeaseFileError::Occupied(shm.clone());
    for (what, make) in FOREIGN {
        make(&shm);
        let before = look(&shm);
        let opened = Lease::open(&path);
        assert!(
            matches!(&opened, Err(LeaseError::File(error)) if *error == occupied),
            "{what}: {opened:?}"
        );
        let read = Lease::read_header(&path);
        assert!(
            matches!(&read, Err(LeaseHeaderError::File(error)) if *error == occupied),
            "{what}: {read:?}"
        );
        assert_eq!(look(&shm), before, "{what}");
        remove(&shm);
        // Nothing is locked by an opening that failed.
        assert_eq!(Lease::open(&path).unwrap().outcome(), Outcome::Created, "{what}");
        remove(&shm);
    }
    let listener = UnixListener::bind(&shm).unwrap();
    assert!(matches!(Lease::open(&path), Err(LeaseError::File(error)) if error == occupied));
    drop(listener);
    remove(&shm);
    assert_eq!(fs::read_to_string(path).unwrap(), "contents");
}

#[test]
fn a_file_that_somebody_has_locked_is_left_alone() {
    let place = Place::new();
    let (path, shm) = data_file(&place);
    // As SQLite begins its file: empty, with a lock on its byte 128.
    let file = File::create(&shm).unwrap();
    let lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 128,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    assert!(matches!(Lease::open(&path), Err(LeaseError::File(LeaseFileError::Occupied(_)))));
    assert_eq!(fs::metadata(&shm).unwrap().len(), 0);
    drop(file);
    let damage = Damage::Size { found: 0 };
    assert_eq!(Lease::open(&path).unwrap().outcome(), Outcome::Healed(damage));
}

#[test]
fn a_file_of_another_version_is_left_alone() {
    let place = Place::new();
    let (path, shm) = data_file(&place);
    let mut page = after_a_death(&path, &shm);
    for at in [0, HEADER_SIZE] {
        page[at + 8] = 2;
        let sum = page[at..at + 56].iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        page[at + 56..at + 64].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(&shm, &page).unwrap();
    let version = LeaseFileError::Version { path: shm.clone(), found: 2 };
    assert!(matches!(Lease::open(&path), Err(LeaseError::File(error)) if error == version));
    let read = Lease::read_header(&path);
    assert!(matches!(read, Err(LeaseHeaderError::File(error)) if error == version));
    assert_eq!(fs::read(&shm).unwrap(), page);
}

#[test]
fn a_living_owner_heals_what_is_done_to_its_file() {
    let place = Place::new();
    let (path, shm) = data_file(&place);
    let mut owner = Lease::open(&path).unwrap();
    let generation = owner.generation();
    let page = fs::read(&shm).unwrap();
    let mut reader = owner.attach_reader(5).unwrap();
    assert_eq!(owner.beat().unwrap(), Beat::Sound);
    let resize = |len| File::options().write(true).open(&shm).unwrap().set_len(len).unwrap();
    let overwrite = |bytes: &[u8], at| {
        File::options().write(true).open(&shm).unwrap().write_all_at(bytes, at).unwrap();
    };
    let other = place.file("other");
    type Damaging<'a> = (&'a dyn Fn(), Damage);
    let damaging: [Damaging<'_>; 9] = [
        (&|| fs::remove_file(&shm).unwrap(), Damage::Missing),
        (&|| resize(0), Damage::Size { found: 0 }),
        (&|| resize(100), Damage::Size { found: 100 }),
        (&|| resize(1 << 30), Damage::Size { found: 1 << 30 }),
        (&|| overwrite(&[1; PAGE_SIZE], 0), Damage::Magic),
        // Nobody but its owner would take this for a lease's file.
        (&|| overwrite(&[1; PAGE_SIZE + 1], 0), Damage::Magic),
        (&|| overwrite(&[1], 20), Damage::Checksum),
        (&|| overwrite(&page[..SLOTS_AT], 0), Damage::Stale),
        (
            &|| {
                fs::write(&other, &page).unwrap();
                fs::rename(&other, &shm).unwrap();
            },
            Damage::Stale,
        ),
    ];
    for (damage, expected) in damaging {
        damage();
        // Ownership, generation, readers and pins do not depend on it.
        let mut second = Lease::open(&path).unwrap();
        assert_eq!((second.outcome(), second.generation()), (Outcome::Attached, generation));
        assert_eq!(second.oldest_pin().unwrap(), Some(5));
        let waited = second.wait_for_ownership(Deadline::NOW);
        assert!(matches!(waited, Err(LeaseError::TimedOut)));
        reader.pin(6).unwrap();
        reader.pin(5).unwrap();
        assert_eq!(second.reader_count().unwrap(), 1);
        if let Err(error) = second.header() {
            let ours =
                matches!(error, LeaseHeaderError::Damaged { .. } | LeaseHeaderError::File(_));
            assert!(ours, "{expected:?}: {error:?}");
        }
        assert_eq!(owner.beat().unwrap(), Beat::Healed(expected));
        let reading = second.header().unwrap();
        assert_eq!(Some(reading.header.generation), generation);
        assert_eq!(Some(reading.ownership), generation.map(Ownership::Owned));
        assert_eq!(reading.header.readers, 1);
        assert_eq!(owner.beat().unwrap(), Beat::Sound);
        // The reader writes itself down again when it pins.
        reader.pin(5).unwrap();
        assert_eq!(second.header().unwrap().readers[0].record.unwrap().position, 5);
    }
    for (what, make) in FOREIGN {
        remove(&shm);
        make(&shm);
        let before = look(&shm);
        assert!(
            matches!(owner.beat(), Err(BeatError::File(LeaseFileError::Occupied(_)))),
            "{what}"
        );
        reader.pin(7).unwrap();
        let second = Lease::open(&path).unwrap();
        assert_eq!((second.outcome(), second.generation()), (Outcome::Attached, generation));
        assert_eq!(second.oldest_pin().unwrap(), Some(7));
        assert!(matches!(second.header(), Err(LeaseHeaderError::File(_))), "{what}");
        assert_eq!(look(&shm), before, "{what}");
    }
    remove(&shm);
    assert_eq!(owner.beat().unwrap(), Beat::Healed(Damage::Missing));
    drop(owner);
    assert_eq!(Lease::open(&path).unwrap().outcome(), Outcome::Reopened);
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Does one bad thing to the file.
fn vandalise(shm: &Path, other: &Path, numbers: &mut Numbers) {
    let open = || OpenOptions::new().write(true).read(true).open(shm);
    // Each can fail, because it is gone or a directory just now.
    let _ = match numbers.below(10) {
        0 => fs::remove_file(shm),
        1 => open().and_then(|file| file.set_len(numbers.below(PAGE_SIZE as u64))),
        2 => open().and_then(|file| file.set_len(numbers.below(1 << 20))),
        3 => open().and_then(|file| file.set_len(0)),
        4 => fs::copy(shm, other).map(|_| ()),
        5 => fs::rename(other, shm),
        6 => fs::write(other, vec![numbers.below(256) as u8; PAGE_SIZE]),
        7 => {
            remove(shm);
            let made = fs::create_dir(shm);
            thread::sleep(Duration::from_micros(numbers.below(300)));
            let _ = fs::remove_dir(shm);
            made
        }
        _ => open().and_then(|file| {
            let at = numbers.below(PAGE_SIZE as u64);
            let mut byte = [0];
            file.read_at(&mut byte, at)?;
            file.write_all_at(&[byte[0] ^ (1 << numbers.below(8))], at % 160)
        }),
    };
}

#[test]
fn vandals_cause_no_crash_no_second_owner_and_no_lower_generation() {
    let place = Place::new();
    let (path, shm) = data_file(&place);
    let log = place.file("log");
    fs::write(&log, "").unwrap();
    let start = || {
        let mut peer: Peer = peer!("lease-churn-on", &path, &log);
        assert_eq!(peer.answer(), "churning");
        peer
    };
    let mut peers: Vec<Peer> = (0..3).map(|_| start()).collect();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let end = Instant::now() + Duration::from_secs(amount("SHM_TEST_SECONDS", 2));
    let mut acts = 0;
    while Instant::now() < end {
        for _ in 0..numbers.below(20) {
            vandalise(&shm, &place.file("other"), &mut numbers);
            acts += 1;
        }
        thread::sleep(Duration::from_micros(numbers.below(1000)));
        if numbers.below(50) == 0 {
            // Killed in the middle, too.
            let victim = numbers.below(3) as usize;
            assert!(peers[victim].is_running(), "it crashed");
            peers[victim].kill();
            peers[victim] = start();
        }
    }
    for peer in &mut peers {
        assert!(peer.is_running(), "it crashed");
    }
    drop(peers);
    let begun = ownerships(&log);
    println!("{acts} acts of vandalism, {begun} owners");
    assert!(begun > 10, "{begun} owners: it did not go on");
    // What is left is healed, or somebody else's by now.
    let lease = eventually(|| match Lease::open(&path) {
        Err(LeaseError::File(LeaseFileError::Occupied(_))) => {
            remove(&shm);
            None
        }
        opened => Some(opened.unwrap()),
    });
    assert!(lease.is_owner());
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b".").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "contents.");
}
