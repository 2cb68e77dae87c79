use shm_primitives::{
    Frame, Memory, Offset,
    frame::{HEADER, footprint},
    order::OWN,
    outbox::{OutboxGeometry, TAIL},
    ring::Consumer,
};

use super::{Input, Region};

/// A ring that the other side filled with anything: the first byte says its size, the rest is
/// its content. In the middle the other side changes a word now and then.
///
/// No entry lies outside the ring or is longer than half of it, entries follow each other,
/// and what is given back is what was taken. What is found corrupt stays so until the other
/// side changes it.
pub fn ring(data: &[u8]) {
    let mut input = Input(data);
    let shape = input.byte();
    let capacity = 64u64 << (shape % 4);
    let geometry = OutboxGeometry::new(capacity, 0).expect("a ring");
    let start = geometry.ring().bytes();
    let content = input.take(capacity as usize);
    let mut segment = vec![0; start as usize];
    segment.extend_from_slice(content);
    let peer = Region::new(geometry.total_size() as usize, &segment);
    let own = Region::new(geometry.total_size() as usize, &[]);
    let mut consumer = Consumer::new(own.mapped, peer.mapped, &geometry);

    let (mut given_back, mut position) = (0u64, 0u64);
    let mut corrupt = None;
    // More than an honest producer can have published: it ends by this bound alone.
    for _ in 0..4 * capacity / HEADER {
        let before = consumer.is_ready();
        match consumer.next() {
            Ok(Some(entry)) => {
                assert!(before && corrupt.is_none());
                assert_eq!(Frame::decode(entry.frame().encode()), Ok(Some(entry.frame())));
                let taken = entry.frame().footprint();
                assert!(taken <= capacity / 2 && taken % HEADER == 0);
                let at = entry.payload().bytes() - start - HEADER;
                assert!(at + taken <= capacity, "{at} {taken} {capacity}");
                if let Frame::Inline { len } = entry.frame() {
                    assert_eq!((entry.len(), taken), (len, footprint(len)));
                    let mut payload = vec![0; len as usize + 1];
                    assert_eq!(consumer.read(&entry, 0, &mut payload), len as usize);
                    assert_eq!(consumer.read(&entry, len, &mut payload), 0);
                }
                // Where the last one ended, or at the start behind padding.
                let skipped = (at + capacity - position % capacity) % capacity;
                assert!(skipped == 0 || at == 0, "from {position} to {at}");
                position += skipped + taken;
            }
            Ok(None) => assert!(corrupt.is_none() && !before),
            Err(error) => {
                assert!(corrupt.is_none_or(|first| first == error), "{corrupt:?} then {error:?}");
                corrupt = Some(error);
            }
        }
        match input.byte() {
            step if step & 1 != 0 => {
                if consumer.release() {
                    given_back = position;
                }
                assert!(position - given_back < (capacity / 8).max(HEADER));
                assert_eq!(own.mapped.load64(TAIL, OWN), given_back);
            }
            // The other side writes over it.
            step if step & 2 != 0 => {
                let at = u64::from(input.byte()) % (capacity / HEADER) * HEADER;
                let word = input.u64();
                let at = Offset::new(start + at);
                let address = peer.mapped.address(at, 8).cast::<u64>();
                // SAFETY: `address` checked that it lies inside, aligned; one thread runs.
                unsafe { address.write(word) };
                corrupt = None;
            }
            _ => {}
        }
        if input.is_empty() && (corrupt.is_some() || !consumer.is_ready()) {
            break;
        }
    }
}
