#!/usr/bin/env bash
# The address and thread sanitizers over the in-process tests of the primitives and the transport,
# and Miri over those of the primitives. What the toolchain at hand cannot is skipped, and it says so.
#
# The sanitizers are unstable options of a stable compiler. The standard library is not built with
# them: what the thread sanitizer therefore says of the test harness is suppressed. It sees nothing
# across two mappings of one memory, so the two sides of each structure share one in
# shm-primitives/tests/threads.rs; of the transport it sees what is private to a process.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
skipped() { printf 'skipped: %s: %s\n' "$1" "$2"; }

sanitize() {
    local name=$1
    printf '== %s sanitizer (%ss)\n' "$name" "$SECONDS"
    export RUSTC_BOOTSTRAP=1
    export RUSTFLAGS="-Zsanitizer=$name -Cunsafe-allow-abi-mismatch=sanitizer"
    if ! printf 'fn main() {}' | rustc --target "$target" $RUSTFLAGS -o "$probe" - 2>"$probe.said"; then
        skipped "$name sanitizer" "$(tail -n 1 "$probe.said")"
        return
    fi
    # One profile and one directory for each, so that nothing else is built again.
    export CARGO_TARGET_DIR="target/sanitizer-$name"
    local test=(cargo test --profile sanitizer --target "$target")
    "${test[@]}" -p shm-primitives --lib --test threads
    for ((run = 1; run < ${SHM_TEST_SANITIZER_RUNS:-3}; run++)); do
        "${test[@]}" --quiet -p shm-primitives --test threads
    done
    "${test[@]}" -p shm-transport --lib
    "${test[@]}" -p shm-tests --test slots -- --test-threads=1
    unset RUSTC_BOOTSTRAP RUSTFLAGS CARGO_TARGET_DIR
}

probe=$(mktemp)
trap 'rm -f "$probe" "$probe.said"' EXIT
# Memory that is for ever is not a leak here: mappings of tests are.
export ASAN_OPTIONS=detect_leaks=0
TSAN_OPTIONS="halt_on_error=1 suppressions=$PWD/tests/tsan.suppressions"
export TSAN_OPTIONS
sanitize address
sanitize thread

printf '== Miri (%ss)\n' "$SECONDS"
if cargo +nightly miri --version >/dev/null 2>&1; then
    # Memory for ever is what the tests use. proptest looks for its files' directory.
    MIRIFLAGS="-Zmiri-ignore-leaks -Zmiri-disable-isolation" \
        CARGO_TARGET_DIR=target/miri PROPTEST_CASES=2 \
        cargo +nightly miri test -p shm-primitives --lib --test threads
else
    skipped Miri "no nightly toolchain with Miri: rustup component add --toolchain nightly miri rust-src"
fi
printf '== done (%ss)\n' "$SECONDS"
