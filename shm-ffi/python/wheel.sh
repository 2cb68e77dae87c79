#!/usr/bin/env bash
# Builds the wheel, installs it where nothing else is, and runs the package's tests with it.
# The wheel stays in target/wheels. Arguments go to maturin: wheel.sh --release
# Needs python3 with venv, and the package index for maturin and cffi.
set -euo pipefail
cd "$(dirname "$0")"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
target=$(realpath -m "${CARGO_TARGET_DIR:-../../target}")

python3 -m venv "$work/build"
"$work/build/bin/pip" install --quiet 'maturin>=1.9,<2' 'cffi>=1.16'
PATH=$work/build/bin:$PATH maturin build --out "$work/wheel" "$@"
mkdir -p "$target/wheels"
cp "$work"/wheel/*.whl "$target/wheels"

python3 -m venv "$work/clean"
"$work/clean/bin/pip" install --quiet --no-index "$work"/wheel/*.whl
cargo build --quiet -p shm-ffi --bin shm-echo-host
# Away from the sources, which would be imported instead.
mkdir -p "$work/tests/python" "$work/tests/include"
cp -r tests examples "$work/tests/python"
cp ../include/shm.h "$work/tests/include"
cd "$work/tests/python"
SHM_ECHO_HOST=$target/debug/shm-echo-host "$work/clean/bin/python" -B -m unittest discover tests
