use shm_primitives::{
    header::{SegmentHeader, SegmentKind, goodbye_of},
    hub::HubGeometry,
    ledger::{self, Ledger},
    outbox::OutboxGeometry,
};

use super::{Input, Region};

const KINDS: [SegmentKind; 5] = [
    SegmentKind::Outbox,
    SegmentKind::Hub,
    SegmentKind::Ledger,
    SegmentKind::FleetMembers,
    SegmentKind::FleetRing,
];

/// The first 128 bytes of a segment of any size. What is accepted as a header is written as
/// the same bytes again; what is accepted as an outbox has all its parts inside the segment.
pub fn header(data: &[u8]) {
    let mut input = Input(data);
    // Sizes around those that an outbox can have, and those of nothing.
    let size = (input.u32() % (1 << 14)) as usize;
    let region = Region::new(size, input.0);
    let memory = region.mapped;
    for kind in KINDS {
        let Ok(header) = SegmentHeader::read(&memory, kind) else { continue };
        assert_eq!((header.kind, header.total_size), (kind, size as u64));
        let copy = Region::new(size, &[]);
        header.write(&copy.mapped);
        assert_eq!(SegmentHeader::read(&copy.mapped, kind), Ok(header));
        goodbye_of(&memory);
        if kind == SegmentKind::Outbox {
            check_outbox(&memory, &header);
        }
        if let Ok(found) = Ledger::check(memory) {
            assert_eq!(ledger::size(found.len()), size as u64);
            // Whatever stands there, and beyond the end.
            (0..=found.len()).for_each(|index| drop(found.read(index)));
        }
        if kind == SegmentKind::Hub {
            let _ = HubGeometry::check(&memory, header.incarnation);
        }
    }
}

fn check_outbox(memory: &shm_primitives::Mapped, header: &SegmentHeader) {
    assert!(OutboxGeometry::check(memory, header.incarnation.wrapping_add(1)).is_err());
    let Ok(geometry) = OutboxGeometry::check(memory, header.incarnation) else { return };
    assert_eq!(geometry.total_size(), header.total_size);
    assert_eq!(OutboxGeometry::new(geometry.capacity(), geometry.acks()), Ok(geometry));
    for number in 0..geometry.acks() {
        let at = geometry.ack(number).expect("an ack").bytes();
        assert!(at + 4 <= geometry.ring().bytes());
    }
    assert_eq!(geometry.ack(geometry.acks()), None);
    assert_eq!(geometry.ring().bytes() + geometry.capacity(), header.total_size);
    let copy = Region::new(header.total_size as usize, &[]);
    geometry.initialise(&copy.mapped, header.incarnation);
    assert_eq!(OutboxGeometry::check(&copy.mapped, header.incarnation), Ok(geometry));
}
