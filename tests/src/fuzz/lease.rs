use shm_primitives::lease::{
    Found, HEADER_SIZE, HEADERS_AT, LeaseHeader, PAGE_SIZE, ReaderRecord, SLOT_SIZE, SLOTS,
};

use super::Input;

/// A `-shm` page: the input says how long the file is and what stands in it, and which
/// headers and reader slots get the checksum that makes them look genuine.
///
/// A header that is found is written as the same bytes again, and stands in the page. A page
/// of another length is never whole. A reader's record is accepted at its own place alone.
pub fn lease(data: &[u8]) {
    let mut input = Input(data);
    let flags = input.byte();
    let size = match flags % 4 {
        0 => u64::from(input.u32() % (2 * PAGE_SIZE as u32)),
        _ => PAGE_SIZE as u64,
    };
    let mut page = vec![0; PAGE_SIZE.min(size as usize)];
    let lay = |page: &mut Vec<u8>, at: usize, content: &[u8]| {
        if let Some(place) = page.get_mut(at..at + content.len()) {
            place.copy_from_slice(content);
        }
    };
    // Headers as an owner writes them, by the fields that the input says.
    for at in HEADERS_AT {
        let header = LeaseHeader {
            pid: input.u32(),
            generation: shm_primitives::lease::Generation::after(None, input.u64()),
            incarnation: input.u64().into(),
            readers: input.u32(),
            state: shm_primitives::lease::LeaseState::Owned,
            heartbeat: input.u64(),
        };
        lay(&mut page, at, &header.encode());
    }
    let record = ReaderRecord {
        slot: u32::from(input.byte()),
        pid: input.u32(),
        start_time: input.u64(),
        position: input.u64(),
    };
    if let Some(at) = ReaderRecord::offset(u32::from(input.byte())) {
        lay(&mut page, at, &record.encode());
    }
    // And then pieces of anything.
    while !input.is_empty() {
        let at = input.u32() as usize % PAGE_SIZE;
        let len = usize::from(input.byte());
        let piece = input.take(len);
        lay(&mut page, at, piece);
    }

    let found = shm_primitives::lease::judge(&page, size);
    let header = match found {
        Found::Whole(header) => {
            assert_eq!(size, PAGE_SIZE as u64);
            Some(header)
        }
        Found::Damaged { header, damage } => {
            assert!(!damage.to_string().is_empty());
            header
        }
        _ => None,
    };
    if let Some(header) = header {
        let encoded = header.encode();
        let stands = |at: usize| page.get(at..at + HEADER_SIZE) == Some(&encoded[..]);
        assert!(HEADERS_AT.into_iter().any(stands), "{header:?} stands nowhere");
    }
    for slot in 0..SLOTS + 2 {
        let Some(record) = ReaderRecord::decode(&page, slot) else { continue };
        assert!(slot < SLOTS && record.slot == slot);
        let at = ReaderRecord::offset(slot).expect("a slot");
        assert_eq!(page.get(at..at + SLOT_SIZE), Some(&record.encode()[..]));
    }
}
