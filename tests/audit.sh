#!/usr/bin/env bash
# Runs the whole test suite with each fetch of a shared field audited, and adds up what was counted.
# A second fetch within one decision ends its process, and so fails its test.
# tests/audit.sh [ARGUMENTS OF CARGO TEST], such as: --test hostile
set -euo pipefail
cd "$(dirname "$0")/.."

SHM_AUDIT=$(mktemp)
# Some tests have processes of other users.
chmod 666 "$SHM_AUDIT"
export SHM_AUDIT
trap 'rm -f "$SHM_AUDIT"' EXIT
cargo test -p shm-primitives -p shm-transport -p shm-store -p shm-tests --features shm-tests/audit "$@"
awk '
    { decisions += $1; loads += $2; again += $3; if ($4 > most) most = $4 }
    END {
        printf "audit: %d decisions, %d loads, %d second looks by design;", decisions, loads, again
        printf " the most loads of one field in one decision: %d\n", most
        exit !(loads > 0 && most == 1)
    }' "$SHM_AUDIT"
