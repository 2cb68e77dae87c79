//! The peer table: one winner for each entry and for each of its lives.

use shm_primitives::{
    Offset,
    hub::HubGeometry,
    peer::{PeerDetails, PeerError, PeerId, PeerState, PeerTable},
};

use crate::{
    explore::explore,
    memory::{Area, LoomMem},
    thread,
};

/// Where the table starts, how large an entry is, and how much of it is used.
const TABLE: u64 = 256;
const ENTRY: u64 = 128;
const USED: u64 = 8 + 8 + 48;

fn table(peers: u64) -> (LoomMem, PeerTable<LoomMem>) {
    let geometry = HubGeometry::new(peers, []).expect("some peers");
    let entry = |index: u64| {
        let start = TABLE + ENTRY * index;
        Area::Words64(start..start + USED)
    };
    let areas: Vec<_> = (0..peers).map(entry).collect();
    let memory = LoomMem::new(geometry.total_size(), &areas);
    assert_eq!(Offset::new(TABLE + ENTRY * peers).bytes(), geometry.total_size());
    (memory.clone(), geometry.peer_table(memory))
}

/// Of two threads one gets the only entry.
pub fn two_reserve_one_entry() {
    let paths = ["raced and lost", "this one won", "the other won"];
    explore("peer::two_reserve_one_entry", &paths, |paths| {
        let (memory, table) = table(1);
        let other = table.clone();
        let reserving = thread::spawn(move || other.reserve());
        let mine = table.reserve();
        let others = reserving.join().expect("the other ends");
        let won = Ok(PeerId { index: 0, epoch: 1 });
        let lost = Err(PeerError::Full { peers: 1 });
        assert!((mine, others) == (won, lost) || (mine, others) == (lost, won));
        paths.take(if mine == won { "this one won" } else { "the other won" });
        paths.take_if(memory.lost_exchanges() > 0, "raced and lost");
    });
}

/// Two threads get different entries.
pub fn two_reserve_two_entries() {
    let paths = ["raced and lost", "this one first", "the other first"];
    explore("peer::two_reserve_two_entries", &paths, |paths| {
        let (memory, table) = table(2);
        let other = table.clone();
        let reserving = thread::spawn(move || other.reserve());
        let mine = table.reserve().expect("an entry for each");
        let others = reserving.join().expect("the other ends").expect("an entry for each");
        assert_ne!(mine.index, others.index);
        assert_eq!((mine.epoch, others.epoch), (1, 1));
        paths.take(if mine.index == 0 { "this one first" } else { "the other first" });
        paths.take_if(memory.lost_exchanges() > 0, "raced and lost");
    });
}

/// A reservation is claimed while another thread releases it: the claim comes first or
/// is stale, and the entry is empty in the end.
pub fn claim_against_release() {
    let paths = ["raced and lost", "claimed first", "released first"];
    explore("peer::claim_against_release", &paths, |paths| {
        let (memory, table) = table(1);
        let peer = table.reserve().expect("the only entry");
        let other = table.clone();
        let claiming = thread::spawn(move || other.claim(peer));
        assert_eq!(table.release(peer), Ok(()));
        match claiming.join().expect("the other ends") {
            Ok(()) => paths.take("claimed first"),
            Err(error) => {
                assert_eq!(error, PeerError::Stale { peer });
                paths.take("released first");
            }
        }
        assert_eq!(table.state(0), Ok((peer, PeerState::Empty)));
        paths.take_if(memory.lost_exchanges() > 0, "raced and lost");
    });
}

/// Two threads release one life while a third lets its guest say goodbye: one of the two
/// succeeds.
pub fn two_release() {
    let paths = ["raced and lost", "goodbye first", "released first", "this one won"];
    explore("peer::two_release", &paths, |paths| {
        let (memory, table) = table(1);
        let peer = table.reserve().expect("the only entry");
        table.claim(peer).expect("reserved");
        let (leaver, other) = (table.clone(), table.clone());
        let leaving = thread::spawn(move || leaver.say_goodbye(peer));
        let releasing = thread::spawn(move || other.release(peer));
        let mine = table.release(peer);
        let others = releasing.join().expect("the other ends");
        let stale = Err(PeerError::Stale { peer });
        assert!((mine, others) == (Ok(()), stale) || (mine, others) == (stale, Ok(())));
        paths.take_if(mine.is_ok(), "this one won");
        let left = leaving.join().expect("the third ends");
        assert!(left.is_ok() || left == stale);
        paths.take(if left.is_ok() { "goodbye first" } else { "released first" });
        assert_eq!(table.state(0), Ok((peer, PeerState::Empty)));
        paths.take_if(memory.lost_exchanges() > 0, "raced and lost");
    });
}

/// A ticket of an earlier life never claims the next one.
pub fn stale_epoch() {
    let paths = ["raced and lost", "claimed in time", "stale"];
    explore("peer::stale_epoch", &paths, |paths| {
        let (memory, table) = table(1);
        let old = table.reserve().expect("the only entry");
        let zombie = table.clone();
        let claiming = thread::spawn(move || zombie.claim(old));
        table.release(old).expect("its only release");
        let new = table.reserve().expect("the entry is empty");
        assert_eq!(new, PeerId { index: 0, epoch: 2 });
        match claiming.join().expect("the zombie ends") {
            Ok(()) => paths.take("claimed in time"),
            Err(error) => {
                assert_eq!(error, PeerError::Stale { peer: old });
                paths.take("stale");
            }
        }
        assert_eq!(table.state(0), Ok((new, PeerState::Reserved)));
        paths.take_if(memory.lost_exchanges() > 0, "raced and lost");
    });
}

fn details(pid: u32) -> PeerDetails {
    PeerDetails { pid, start_time: u64::from(pid), ..Default::default() }
}

/// A thread of the host that reserves what another one released describes the next
/// guest: its details replace those of the one before.
///
/// The slot of the details has a new writer then, which must see how far the last one
/// came.
pub fn details_of_the_next_life() {
    let paths = ["still taken", "next life"];
    explore("peer::details_of_the_next_life", &paths, |paths| {
        let (_, table) = table(1);
        let first = table.reserve().expect("the only entry");
        let host = table.clone();
        let releasing = thread::spawn(move || {
            host.describe(first, &details(1));
            host.release(first).expect("its only release");
        });
        let expected = match table.reserve() {
            Ok(second) => {
                table.describe(second, &details(2));
                paths.take("next life");
                details(2)
            }
            Err(error) => {
                assert_eq!(error, PeerError::Full { peers: 1 });
                paths.take("still taken");
                details(1)
            }
        };
        releasing.join().expect("the other ends");
        assert_eq!(table.details(0), Ok(expected));
    });
}

/// Whoever sees an entry attached reads the details of that guest, not of the one
/// before.
pub fn details_of_the_attached() {
    let paths = ["of the second", "not attached"];
    explore("peer::details_of_the_attached", &paths, |paths| {
        let (_, table) = table(1);
        let first = table.reserve().expect("the only entry");
        table.describe(first, &details(1));
        table.release(first).expect("its only release");
        let host = table.clone();
        let hosting = thread::spawn(move || {
            let second = host.reserve().expect("the entry is empty");
            host.describe(second, &details(2));
            host.claim(second).expect("reserved");
        });
        match table.state(0).expect("an honest host") {
            (PeerId { epoch: 2, .. }, PeerState::Attached) => {
                assert_eq!(table.details(0), Ok(details(2)));
                paths.take("of the second");
            }
            _ => paths.take("not attached"),
        }
        hosting.join().expect("the host ends");
    });
}
