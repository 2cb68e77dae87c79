//! The workloads of `shmctl bench` beyond round trips and streams, as a stranger runs them:
//! what they print, with few repetitions. Nothing is said about speed.

use std::process::Command;

use serde_json::Value;

fn run(arguments: &[&str]) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shmctl"));
    let output = command.arg("bench").args(arguments).arg("--json").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = str::from_utf8(&output.stdout).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(row: &Value, path: &str) -> f64 {
    let number = row.pointer(path).and_then(Value::as_f64);
    number.unwrap_or_else(|| panic!("{path} of {row}"))
}

fn positive(row: &Value, paths: &[&str]) {
    for path in paths {
        let number = number(row, path);
        assert!(number > 0.0 && number.is_finite(), "{path} of {row}");
    }
}

#[test]
fn fan_in_compares_each_number_of_guests_with_one() {
    let rows = run(&["fanin", "--milliseconds", "40", "--turns", "3"]);
    let guests: Vec<_> = rows.iter().map(|row| row["guests"].as_u64().unwrap()).collect();
    assert_eq!(guests, [1, 2, 4, 8, 16]);
    for row in &rows {
        assert_eq!((&row["workload"], &row["size"]), (&"fanin".into(), &64.into()));
        positive(row, &["/messages_per_second/p50", "/messages_per_second/p75"]);
        // A guest may not have run at all in so short a time.
        let share = number(row, "/smallest_share/p50");
        assert!((0.0..=1.0).contains(&share), "{row}");
        number(row, "/ratio_to_one/p50");
    }
    assert_eq!(number(&rows[0], "/ratio_to_one/p50"), 1.0);
    assert_eq!(number(&rows[0], "/smallest_share/p50"), 1.0);
}

#[test]
fn attach_tells_the_time_to_the_first_message_and_the_rate_of_cycles() {
    let rows = run(&["attach", "--attaches", "20", "--turns", "2"]);
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((&row["workload"], &row["attaches"]), (&"attach".into(), &20.into()));
    positive(
        row,
        &[
            "/ratio",
            "/ratio_of_turns/p50",
            "/first_message_ns/p50",
            "/first_message_ns/p99",
            "/socket_ns/p50",
            "/cycles_per_second/p50",
        ],
    );
}

/// Descriptors and mappings are counts, which noise does not change.
#[test]
fn an_idle_link_costs_few_descriptors_and_mappings() {
    let rows = run(&["footprint", "--links", "4"]);
    let kinds: Vec<_> = rows.iter().map(|row| (&row["side"], &row["state"])).collect();
    let kinds: Vec<_> = kinds.iter().map(|(a, b)| [a.as_str(), b.as_str()]).collect();
    let (host, guest) = (Some("host"), Some("guest"));
    let [first, further, used] = [Some("first"), Some("further"), Some("used")];
    let of = |side| [[side, first], [side, further], [side, used]];
    assert_eq!(kinds, [of(host), of(guest)].concat());
    for row in &rows {
        positive(row, &["/ratio", "/shared_bytes", "/resident_bytes", "/proportional_bytes"]);
        assert!(number(row, "/descriptors") <= 4.0, "{row}");
        // With the first one comes the memory in which a process counts.
        let ledger = if row["state"] == "first" { 1.0 } else { 0.0 };
        assert!(number(row, "/shared_mappings") <= 3.0 + ledger, "{row}");
        assert!(number(row, "/resident_shared_bytes") <= number(row, "/shared_bytes"), "{row}");
        if row["state"] != "first" {
            assert!(number(row, "/resident_bytes_beside_rings") < 65_536.0, "{row}");
        }
    }
}

#[test]
fn wake_compares_the_library_with_a_futex_and_counts_sleeps_of_dense_traffic() {
    let rows = run(&["wake", "--wakes", "20", "--round-trips", "1000"]);
    let systems: Vec<_> = rows.iter().map(|row| row["system"].as_str().unwrap()).collect();
    assert_eq!(systems, ["futex wake", "link", "link"]);
    for row in &rows[..2] {
        assert_eq!((&row["workload"], &row["wakes"]), (&"wake".into(), &20.into()));
        positive(row, &["/ratio", "/ratio_of_turns/p50", "/wake_ns/p50", "/wake_ns/p99"]);
    }
    assert_eq!(number(&rows[0], "/ratio"), 1.0);
    let dense = &rows[2];
    assert_eq!((&dense["workload"], &dense["round_trips"]), (&"dense".into(), &1000.into()));
    for path in ["/sleeps_here", "/sleeps_there", "/rtt_ns/p50"] {
        assert!(number(dense, path) >= 0.0, "{dense}");
    }
}

#[test]
fn broadcast_reads_the_newest_value_while_it_changes_and_while_it_does_not() {
    let rows =
        run(&["broadcast", "--readers", "2", "--round-trips", "2000", "--milliseconds", "30"]);
    let [row] = &rows[..] else { panic!("{rows:?}") };
    positive(row, &["/ratio_p50", "/ratio_all_to_one"]);
    let busy = row["newest_while_written"].as_array().unwrap();
    let kinds: Vec<_> =
        busy.iter().map(|row| (number(row, "/slots"), number(row, "/size"))).collect();
    let sizes = [8.0, 64.0, 1024.0, 4096.0];
    let expected = [16.0, 256.0].map(|slots| sizes.map(|size| (slots, size)));
    assert_eq!(kinds, expected.concat());
    for row in busy {
        positive(row, &["/reads", "/writes", "/attempts_at_most"]);
        let within = [0, 1, 2].map(|number_| number(row, &format!("/within/{number_}")));
        assert!(within.is_sorted() && within[0] > 0.0 && within[2] <= 1.0, "{row}");
    }
    positive(
        &row["newest_while_idle"],
        &["/ratio/p50", "/ratio_of_bytes/p50", "/read_ns/p50", "/bytes_ns/p50", "/seqlock_ns/p50"],
    );
}

#[test]
fn async_compares_parked_and_polling_tasks_with_a_unix_socket() {
    let rows = run(&["async", "--round-trips", "1000", "--work", "5"]);
    let systems: Vec<_> = rows.iter().map(|row| row["system"].as_str().unwrap()).collect();
    assert_eq!(systems, ["UnixStream", "link, parked", "link, polling"]);
    for row in &rows {
        assert_eq!((&row["size"], &row["round_trips"]), (&64.into(), &1000.into()));
        positive(row, &["/ratio", "/ratio_of_turns/p50", "/rtt_ns/p50", "/rtt_ns/p99"]);
    }
    assert_eq!(number(&rows[0], "/ratio"), 1.0);
}
