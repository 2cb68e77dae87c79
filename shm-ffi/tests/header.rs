//! The header that is committed is the one that the sources make.

use std::{env, fs, path::Path};

#[test]
fn the_header_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let builder = cbindgen::Builder::new().with_config(config).with_src(root.join("src/lib.rs"));
    let mut made = Vec::new();
    builder.generate().expect("bindings").write(&mut made);
    let (made, header) = (String::from_utf8(made).unwrap(), root.join("include/shm.h"));
    if env::var_os("SHM_FFI_HEADER").is_some_and(|what| what == "write") {
        fs::write(&header, &made).unwrap();
    }
    let committed = fs::read_to_string(&header).unwrap_or_default();
    assert!(committed.contains("shm_guest_attach("), "it is there");
    assert_eq!(
        made, committed,
        "include/shm.h is stale: SHM_FFI_HEADER=write cargo test -p shm-ffi --test header"
    );
}
