//! The inputs that the fuzzer has found, without a fuzzer: what must hold of each parser holds
//! for all of them. That of the handshake is read where the handshake is.

use std::{fs, path::Path};

use shm_tests::fuzz;

type Target = (&'static str, fn(&[u8]));

#[test]
fn all_that_must_hold_holds_for_the_corpus() {
    let targets: [Target; 6] = [
        ("header", fuzz::header),
        ("ring", fuzz::ring),
        ("pool", fuzz::pool),
        ("hub", fuzz::hub),
        ("lease", fuzz::lease),
        ("fleet", fuzz::fleet),
    ];
    for (name, target) in targets {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
        let mut count = 0;
        for entry in fs::read_dir(&corpus).unwrap() {
            target(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        println!("{name}: {count} inputs");
        assert!(count > 5, "{name}: {count} inputs");
        // And for what is shorter than any of them.
        target(&[]);
        (0..=255).for_each(|byte| target(&[byte]));
    }
}
