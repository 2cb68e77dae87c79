#!/usr/bin/env bash
# Fuzzes each target for so many seconds (default 20), on a copy of its corpus, on the stable
# toolchain: fuzz/run.sh [SECONDS] [TARGET...]. Fails if one crashes; the input is then in
# fuzz/artifacts/TARGET. Needs a C++ compiler.
#
# fuzz/run.sh merge [SECONDS] [TARGET...] puts what is worth keeping of what it finds into
# the corpus in the repository.
set -euo pipefail
cd "$(dirname "$0")"

merge=
if [ "${1:-}" = merge ]; then
    merge=yes
    shift
fi
seconds=${1:-20}
shift || true
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
    targets=(header ring handshake pool hub lease fleet)
fi

target=$(rustc -vV | sed -n 's/^host: //p')
# The flags of cargo-fuzz. They are unstable, and the stable compiler takes them all the same.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address \
-Cunsafe-allow-abi-mismatch=sanitizer -Ccodegen-units=1"
cargo build --quiet --locked --release --target "$target"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=
for name in "${targets[@]}"; do
    mkdir -p "corpus/$name" "artifacts/$name" "$work/$name"
    cp -r "corpus/$name/." "$work/$name"
    before=$(find "$work/$name" -type f | wc -l)
    status=0
    "target/$target/release/$name" "$work/$name" -max_total_time="$seconds" -max_len=1024 \
        -timeout=10 -rss_limit_mb=1024 -artifact_prefix="artifacts/$name/" -print_final_stats=1 \
        >"$work/log" 2>&1 || status=$?
    after=$(find "$work/$name" -type f | wc -l)
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) ft: \([0-9]*\).*/\1 edges, \2 features/p' "$work/log" |
        tail -1)
    echo "$name: ${executions:-?} executions, ${coverage:-no coverage}," \
        "$before inputs before, $((after - before)) new"
    if [ "$status" != 0 ]; then
        failed=yes
        tail -40 "$work/log"
        echo "$name: FAILED with status $status"
    fi
    if [ -n "$merge" ]; then
        rm -rf "corpus/$name"
        mkdir "corpus/$name"
        "target/$target/release/$name" -merge=1 -use_counters=0 -max_len=1024 "corpus/$name" "$work/$name" \
            >"$work/log" 2>&1
    fi
done
test -z "$failed"
