use shm_primitives::{
    broadcast::{BroadcastReader, Start},
    header::{SegmentHeader, SegmentKind},
    hub::{HubGeometry, Statistics},
};

use super::{Input, Region};

/// A hub as a host made it, with up to four topics, over which the input is then laid, piece
/// by piece.
///
/// What is accepted is what a hub of these sizes has: all parts inside, topics with names of
/// their own, the same bytes when it is made again. Tables and topics can be read whatever
/// stands there.
pub fn hub(data: &[u8]) {
    let mut input = Input(data);
    let (peers, count) = (u64::from(input.byte() % 4) + 1, input.byte() % 5);
    let names = ["a", "topic", "with spaces", "ä"];
    let topics = (0..usize::from(count)).map(|index| {
        let (slots, max) = (1u64 << (input.byte() % 3), u64::from(input.byte() % 64));
        let name = names.get(index).copied().unwrap_or("a");
        (name, shm_primitives::broadcast::BroadcastGeometry::new(slots, max).expect("a ring"))
    });
    let topics: Vec<_> = topics.collect();
    let Ok(made) = HubGeometry::new(peers, topics) else { return };
    let size = made.total_size() as usize;
    let region = Region::new(size, &[]);
    let memory = region.mapped;
    made.initialise(&memory, 7);
    assert_eq!(HubGeometry::check(&memory, 7).as_ref(), Ok(&made));
    while !input.is_empty() {
        let at = input.u32() as usize % size;
        let len = usize::from(input.byte()).min(size - at);
        let piece = input.take(len);
        let address = memory.address(shm_primitives::Offset::new(at as u64), piece.len() as u64);
        // SAFETY: `address` checked that it lies inside; one thread runs.
        unsafe { address.copy_from_nonoverlapping(piece.as_ptr(), piece.len()) };
    }

    let Ok(found) = HubGeometry::check(&memory, 7) else { return };
    assert_eq!(found.total_size(), size as u64);
    for (index, topic) in found.topics().iter().enumerate() {
        assert!((1..=64).contains(&topic.name.len()));
        assert!(topic.at.bytes() + topic.ring.size() <= size as u64);
        assert!(found.topics()[..index].iter().all(|other| other.name != topic.name));
    }
    let copy = Region::new(size, &[]);
    found.initialise(&copy.mapped, 7);
    assert_eq!(HubGeometry::check(&copy.mapped, 7).as_ref(), Ok(&found));
    assert!(SegmentHeader::read(&memory, SegmentKind::Outbox).is_err());

    let table = found.peer_table(memory);
    for index in 0..=table.len() {
        match table.state(index) {
            Ok((peer, _)) => assert!(index < table.len() && peer.index == index),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        let _ = table.details(index);
    }
    let _ = Statistics::new(memory).get();
    for topic in found.topics() {
        let (slots, max) = (topic.ring.slots(), topic.ring.max_payload() as usize);
        let mut value = vec![0; max];
        for start in [Start::Oldest, Start::Newest] {
            let mut reader = BroadcastReader::new(memory, topic.at, topic.ring, start);
            for _ in 0..2 * slots + 2 {
                let Ok(step) = reader.next(&mut value) else { break };
                if let shm_primitives::broadcast::Step::Value { len, .. } = step {
                    assert!(len <= max);
                }
            }
            if let Ok(Some((_, len))) = reader.newest(&mut value) {
                assert!(len <= max);
            }
        }
    }
}
