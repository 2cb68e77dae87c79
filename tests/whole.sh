#!/usr/bin/env bash
# The whole forms of the tests: tests/whole.sh all, or tests/whole.sh NAME..., in that order.
# Each prints what it counted; docs/reliability.md says what it means. Without a name it lists them.
set -euo pipefail
cd "$(dirname "$0")/.."

release() { cargo test --release -p shm-tests "$@" -- --nocapture --test-threads=1; }

# name | minutes on two processors | what
list='
stream | 3 | 50 million messages through a ring of 256 bytes
leaks | 4 | a million guests that come and go, a thousand that are killed
broadcast | 2 | ten million reads of values while publishers are stopped and killed
fleet | 5 | eight members, one killed every 10 ms
creation | 3 | a fleet killed at each instruction of its creation
lease | 4 | 10,000 races for ownership, vandals
steps | 40 | processes killed after each instruction of each operation
twice | 15 | a killed process, and then the one that recovers
restarts | 1 | a host killed and restarted 1,000 times
chaos | 30 | guests killed and stopped at random under full load
stalled | 2 | a guest stopped for a minute; 1,000 that are evicted and come back
hangs | 4 | each blocking call beside each kind of peer
forks | 1 | 2,000 children that have one of everything
creators | 3 | four that create one host, 200,000 times
mutations | 1 | a million segments of which words were changed
scribbler | 1 | a guest that writes at random all over what it can write
programs | 9 | 50 hostile programs
faults | 1 | each system call of each operation fails, with each of six errors
store | 60 | a store whose owners are killed for ten minutes, and at each step that they take on the disk
fuzz | 8 | the parsers, a minute each
audit | 8 | the whole test suite with each fetch audited
checkers | 5 | each ordering weakened, each pair of stores swapped
sanitizers | 8 | address and thread sanitizer, Miri
'

run() {
    case $1 in
    stream) SHM_TEST_MESSAGES=50000000 release --test stream ;;
    leaks) SHM_TEST_CYCLES=1000000 SHM_TEST_KILLS=1000 release --test leaks ;;
    broadcast) SHM_TEST_READS=10000000 release --test broadcast ;;
    fleet) SHM_TEST_FLEET_SECONDS=300 release --test fleet_soak ;;
    creation) SHM_TEST_STEPS=0 release --test fleet_creation ;;
    lease) SHM_TEST_ROUNDS=10000 SHM_TEST_KILLS=1000 SHM_TEST_SECONDS=60 release --test lease --test lease_file ;;
    steps) SHM_TEST_STEPS=${SHM_TEST_STEPS:-0} release --test crash_link --test crash_host --test crash_state ;;
    twice) SHM_TEST_PAIRS=40 release --test crash_twice ;;
    restarts) SHM_TEST_RESTARTS=1000 release --test restarts ;;
    chaos) cargo run --release -p shm-tests --bin chaos -- --minutes 30 ;;
    stalled) SHM_TEST_STALL_SECONDS=60 SHM_TEST_EVICTIONS=1000 release --test stalled ;;
    hangs) SHM_TEST_HANG_ROUNDS=20 release --test hangs ;;
    forks) SHM_TEST_FORKS=2000 release --test forks ;;
    creators) SHM_TEST_CREATOR_ROUNDS=100000 release --test creators ;;
    mutations) SHM_TEST_MUTATIONS=1000000 release --test mutations ;;
    scribbler) SHM_TEST_SCRIBBLE_SECONDS=60 release --test scribbler ;;
    programs) SHM_TEST_HOSTILE_MILLIS=1000 release --test hostile_programs ;;
    faults) SHM_TEST_FAULTS=0 release --test faults ;;
    store)
        SHM_TEST_STORE_SECONDS=600 release --test store --test store_kill
        SHM_TEST_STORE_PROCESSES=50 SHM_TEST_STORE_KILLS=4 SHM_TEST_STORE_CRASHES=4 SHM_TEST_STORE_MODEL=2500 \
            SHM_TEST_STORE_FAULTS=100000 SHM_TEST_STORE_APPENDS=240000 SHM_TEST_STORE_ENTRIES=10000000 \
            SHM_TEST_STORE_LOG=1000 cargo test --release -p shm-store --lib -- --nocapture --test-threads=1
        ;;
    fuzz) fuzz/run.sh 60 ;;
    audit) tests/audit.sh ;;
    checkers)
        cargo run --release -p loom-tests --bin weaken
        cargo run --release -p loom-tests --bin swap
        ;;
    sanitizers) SHM_TEST_SANITIZER_RUNS=10 tests/sanitizers.sh ;;
    *)
        echo "no test of the name $1" >&2
        return 2
        ;;
    esac
}

names=("$@")
if [ ${#names[@]} = 0 ]; then
    echo "usage: $0 all | NAME..."
    printf '%s' "$list" | awk -F ' [|] ' 'NF { printf "  %-11s %2s min  %s\n", $1, $2, $3 }'
    exit 2
elif [ "${names[*]}" = all ]; then
    mapfile -t names < <(printf '%s' "$list" | awk -F ' [|] ' 'NF { print $1 }')
fi
for name in "${names[@]}"; do
    printf '\n== %s (%ss)\n' "$name" "$SECONDS"
    run "$name"
done
