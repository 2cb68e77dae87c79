//! What the fuzzer is let in by: the handshake, which is nobody else's business. It is built
//! for fuzzing and for this crate's own tests alone.

use crate::wire::{Hello, Refusal, Welcome};

/// Any message of the handshake. What is understood is said by the same message again, and is
/// understood as one of the three alone; sizes that are accepted are possible.
pub fn handshake(message: &[u8]) {
    let hello = Hello::decode(message);
    let welcome = Welcome::decode(message);
    let refusal = Refusal::decode(message);
    let kinds = [hello.is_some(), welcome.is_some(), refusal.is_some()];
    assert!(kinds.into_iter().filter(|is| *is).count() <= 1);
    if let Some(hello) = hello {
        // A flag may be any number that is not 0, and without an epoch there is no ticket.
        assert_eq!(hello.encode().len(), message.len());
        assert_eq!(Hello::decode(&hello.encode()), Some(hello));
        assert!(hello.ticket.is_none_or(|ticket| ticket.epoch != 0));
    }
    if let Some(refusal) = refusal {
        assert_eq!(refusal.encode().len(), message.len());
        assert_eq!(Refusal::decode(&refusal.encode()), Some(refusal));
    }
    if let Some(Ok(welcome)) = welcome {
        let encoded = welcome.encode();
        assert_eq!(encoded.len(), message.len());
        assert_eq!(Welcome::decode(&encoded), Some(Ok(welcome.clone())));
        let link = &welcome.link;
        assert!(link.outbox.capacity().is_power_of_two());
        assert_eq!(link.outbox.acks(), link.pool.acks());
        assert!(u64::from(link.inline_max) + 8 <= link.outbox.capacity() / 2);
        assert!(u64::from(link.inline_max) <= link.max_message);
        assert!(
            link.pool.sealed() > 0
                || link.max_message <= u64::from(link.inline_max.max(link.pool.largest_slot()))
        );
        let classes = link.pool.classes();
        assert!(classes.is_sorted_by(|a, b| a.slot_size < b.slot_size));
        assert!(classes.iter().all(|class| class.extent_size() > 0));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    #[test]
    fn the_corpus_of_the_handshake_holds() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/handshake");
        let mut count = 0;
        for entry in fs::read_dir(corpus).unwrap() {
            super::handshake(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 5, "{count} inputs");
    }
}
