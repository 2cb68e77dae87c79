//! Defects that earlier systems of this kind had. Each row of this table names a defect and the tests
//! that run its schedule against this library, so that it does not come back.

use std::{fs, path::Path};

/// What, and the tests: file in the repository and function.
type Row = (&'static str, &'static [(&'static str, &'static str)]);

const RINGS: &str = "tests/tests/defects_rings.rs";
const POOL: &str = "tests/tests/defects_pool.rs";
const PEERS: &str = "tests/tests/defects_peers.rs";
const STEPS: &str = "tests/tests/broadcast_steps.rs";
const FLEET: &str = "tests/tests/fleet.rs";
const LOOM_FLEET: &str = "loom-tests/tests/fleet.rs";
const LEASE: &str = "tests/tests/lease.rs";
const LEASE_FILE: &str = "tests/tests/lease_file.rs";

const ROWS: &[Row] = &[
    // Rings and frames.
    ("messages delivered twice", &[(RINGS, "messages_delivered_twice")]),
    ("4 GiB slice, SIGSEGV", &[(RINGS, "slice_of_four_gigabytes")]),
    ("host panics", &[(RINGS, "host_panics")]),
    ("double fetch", &[(RINGS, "double_fetch_of_a_frame_header")]),
    ("link stalls for ever", &[(RINGS, "link_stalls_for_ever")]),
    ("empty ring refuses a frame for ever", &[(RINGS, "empty_ring_refuses_a_frame_for_ever")]),
    ("sender spins for ever", &[(RINGS, "sender_spins_for_ever")]),
    ("two writers alias", &[(RINGS, "two_writers_alias")]),
    ("unblock underflows, SIGSEGV", &[(RINGS, "unblock_underflows")]),
    // Slot pool and recovery.
    (
        "slots leak",
        &[
            (POOL, "slots_leak"),
            ("tests/tests/leaks.rs", "nothing_is_left_of_guests_that_left_or_died"),
        ],
    ),
    ("slot pushed twice", &[(POOL, "slot_pushed_twice")]),
    ("use after free", &[(POOL, "use_after_free_of_a_dead_guests_slot")]),
    ("pool drains", &[(POOL, "pool_drains")]),
    ("committed messages lost", &[(POOL, "committed_messages_lost")]),
    ("out of bounds, foreign slots", &[(POOL, "out_of_bounds_and_foreign_slots")]),
    ("sizes overflow", &[(POOL, "sizes_overflow")]),
    // Peers, segments, doorbells.
    ("table fills up", &[(PEERS, "table_fills_up")]),
    (
        "unknown state reads as empty; losing one race reads as \"no free slot\"",
        &[
            (PEERS, "unknown_state_reads_as_empty"),
            (PEERS, "losing_one_race_reads_as_no_free_slot"),
        ],
    ),
    ("zombie claims the next guest's entry", &[(PEERS, "zombie_claims_the_next_guests_entry")]),
    ("stale at birth, or never stale", &[(PEERS, "stale_at_birth_or_never_stale")]),
    ("half-built segment seen", &[(PEERS, "half_built_segment_seen")]),
    (
        "victim file truncated, mode 0666",
        &[
            (PEERS, "victim_file_truncated"),
            (PEERS, "second_host_kills_the_first"),
            (PEERS, "old_owners_drop_deletes_the_new_file"),
        ],
    ),
    ("SIGBUS on growth", &[(PEERS, "sigbus_on_growth")]),
    (
        "SIGBUS on a full tmpfs",
        &[
            (PEERS, "sigbus_on_a_full_tmpfs"),
            (FLEET, "a_full_file_system_is_an_error_and_never_a_signal"),
        ],
    ),
    ("death unseen", &[(PEERS, "death_unseen")]),
    ("SIGPIPE; lost wake-up", &[(PEERS, "sigpipe"), (PEERS, "two_waiters_drain_one_doorbell")]),
    ("descriptors run out", &[(PEERS, "descriptors_run_out")]),
    (
        "SIGBUS, 2.8 s stall",
        &[(PEERS, "announced_length_trusted"), (PEERS, "unknown_id_waited_for")],
    ),
    ("orphan writes on", &[(PEERS, "orphan_writes_on")]),
    // Named rings and seqlocks.
    (
        "torn reads accepted",
        &[
            (
                "tests/tests/fleet_soak.rs",
                "members_that_are_killed_all_the_time_tear_lose_and_hold_up_nothing",
            ),
            (LOOM_FLEET, "a_reader_that_others_lap_gets_the_whole_frame_or_knows_that_it_is_lost"),
        ],
    ),
    (
        "reader stuck",
        &[
            (FLEET, "members_that_are_stopped_or_killed_while_they_publish_hold_up_nobody"),
            (STEPS, "a_writer_stopped_at_any_instruction_leaves_whole_values_or_none"),
        ],
    ),
    (
        "data race",
        &[(
            "loom-tests/tests/seqlock.rs",
            "a_value_is_never_read_torn_or_older_than_the_one_before",
        )],
    ),
    (
        "name poisoned for ever",
        &[(
            "tests/tests/fleet_creation.rs",
            "whoever_dies_making_a_fleet_or_a_ring_leaves_nothing_that_stops_the_next_one",
        )],
    ),
    // Leases.
    (
        "two owners",
        &[
            (
                LEASE,
                "of_simultaneous_processes_one_is_the_owner_fresh_after_a_close_and_after_a_death",
            ),
            (LEASE, "of_simultaneous_threads_one_is_the_owner"),
        ],
    ),
    ("readers miscounted", &[(LEASE, "the_count_of_readers_is_exact_whoever_is_killed")]),
    (
        "generation goes back",
        &[
            (LEASE_FILE, "a_generation_survives_in_one_header_whatever_the_clock_says"),
            (LEASE_FILE, "vandals_cause_no_crash_no_second_owner_and_no_lower_generation"),
        ],
    ),
    (
        "dead owner looks alive",
        &[
            (LEASE, "a_living_process_of_the_owners_number_is_not_the_owner"),
            (LEASE, "an_owner_in_another_pid_namespace_is_seen_to_live_and_to_die"),
        ],
    ),
];

#[test]
fn every_row_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (what, tests) in ROWS {
        assert!(!tests.is_empty(), "{what}: no test");
        for (file, test) in *tests {
            let text = fs::read_to_string(root.join(file)).unwrap();
            let is_there = text.contains(&format!("#[test]\nfn {test}()"))
                || text.contains(&format!("#[test]\n    fn {test}()"));
            assert!(is_there, "{what}: no test {test} in {file}");
        }
    }
    println!("{} rows", ROWS.len());
}
