use shm_primitives::{
    Mapped, Offset,
    fleet::{Cursor, LaneWriter, MemberDetails, Members, ReadAtError, Ring, RingGeometry, Start},
};

use super::{Input, Region};

/// A ring and a table of members, used by honest members, over which pieces of the input are
/// then laid.
///
/// Whatever stands there, a frame that is read is of this ring's kind and of one of its
/// nodes, and not longer than its payloads; a cursor ends; publishing ends and says what
/// happened. Before anything was laid over it, each frame is read as it was published.
pub fn fleet(data: &[u8]) {
    let mut input = Input(data);
    let geometry = RingGeometry::new(9, 4, 2, 24).expect("a ring");
    let region = Region::new(geometry.total_size() as usize, &[]);
    let memory = region.mapped;
    geometry.header(3).write(&memory);
    assert_eq!(RingGeometry::read(&memory), Ok(geometry));
    let mut lanes: Vec<_> =
        (0..2).map(|node| LaneWriter::join(memory, geometry, node).expect("a lane")).collect();
    for round in 0..input.byte() % 8 {
        let payload = [round; 24];
        let lane = &mut lanes[usize::from(round % 2)];
        let (id, position) =
            lane.publish(round, 1, &payload[..usize::from(round)]).expect("published");
        let frame = Ring::new(memory, geometry).read_at(position).expect("read");
        assert_eq!(frame.id(), id);
        assert_eq!(frame.payload(), &payload[..usize::from(round)]);
    }
    lay(memory, &mut input);
    if let Ok(found) = RingGeometry::read(&memory) {
        assert_eq!(found.total_size(), geometry.total_size());
    }

    // Whoever uses it has its geometry from before.
    let ring = Ring::new(memory, geometry);
    for start in [Start::Oldest, Start::Newest] {
        let mut cursor = Cursor::new(&ring, start);
        for _ in 0..16 {
            let Ok(Some(next)) = cursor.next(&ring) else { break };
            check(&next.frame);
        }
    }
    for position in [ring.oldest(), ring.end(), ring.floor()] {
        match ring.read_at(position) {
            Ok(frame) => {
                check(&frame);
                assert_eq!(frame.position(), position);
                if let Ok(Some(by_id)) = ring.read(frame.id()) {
                    assert_eq!(by_id.id(), frame.id());
                }
            }
            // No ring comes so far as to the last position, behind which there is none.
            Err(ReadAtError::Lost { oldest }) => {
                assert!(oldest > position || position.plus(1) <= position);
            }
            Err(_) => {}
        }
    }
    if let Ok(Some(frame)) = ring.read_newest() {
        check(&frame);
    }
    for lane in &mut lanes {
        let _ = lane.publish(1, 1, b"again");
    }
    for node in 0..2 {
        let _ = LaneWriter::join(memory, geometry, node).map(|mut lane| lane.publish(1, 1, b"new"));
    }

    let region = Region::new(Members::<Mapped>::size(2) as usize, &[]);
    Members::<Mapped>::header(2, 5).write(&region.mapped);
    let (members, _) = Members::read(region.mapped).expect("members");
    let details = MemberDetails { pid: 1, start_time: 2, incarnation: 3, joined: 4 };
    members.enter(1, &details);
    assert_eq!(members.details(1), Ok(Some(details)));
    lay(region.mapped, &mut input);
    if let Ok((members, _)) = Members::read(region.mapped) {
        assert_eq!(members.nodes(), 2);
        for node in 0..3 {
            let _ = members.details(node);
            let before = members.heartbeat(node);
            let beat = members.beat(node);
            assert!(beat == before.wrapping_add(1) || node == 2);
        }
    }
}

fn check(frame: &shm_primitives::fleet::FleetFrame) {
    assert!(frame.payload().len() <= 24);
    assert!(frame.id().kind() == 9 && frame.id().node() < 2);
}

/// A few pieces; an empty one is the last.
fn lay(memory: Mapped, input: &mut Input<'_>) {
    let size = shm_primitives::Memory::size(&memory) as usize;
    while !input.is_empty() {
        let at = input.u32() as usize % size;
        let len = usize::from(input.byte()).min(size - at);
        let piece = input.take(len);
        if piece.is_empty() {
            break;
        }
        let address = memory.address(Offset::new(at as u64), piece.len() as u64);
        // SAFETY: `address` checked that it lies inside; one thread runs.
        unsafe { address.copy_from_nonoverlapping(piece.as_ptr(), piece.len()) };
    }
}
