//! `shmctl bench` as a stranger runs it: the built program, its output and its exit status.
//! Nothing is said about the figures themselves.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

const FLOORS_OF_ROUND_TRIPS: [&str; 6] = [
    "one line",
    "two lines",
    "one shared buffer",
    "two shared buffers",
    "ring with an index",
    "ring with commit words",
];

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shmctl"));
    command.arg("bench").args(arguments);
    command
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    let lines = str::from_utf8(&output.stdout).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn positive(row: &Value, path: &str) -> f64 {
    let figure = row.pointer(path).and_then(Value::as_f64);
    let figure = figure.unwrap_or_else(|| panic!("{path} of {row}"));
    assert!(figure > 0.0 && figure.is_finite(), "{path} of {row}");
    figure
}

fn names(rows: &[Value], key: &str, size: u64) -> Vec<String> {
    let rows = rows.iter().filter(|row| row["size"] == size);
    rows.map(|row| row[key].as_str().unwrap().to_owned()).collect()
}

/// That each start of an element has its end, and which names are written as text.
fn assert_is_svg(file: &Path) -> Vec<String> {
    let svg = fs::read_to_string(file).unwrap();
    assert!(svg.starts_with("<svg "), "{svg:.80}");
    let (mut open, mut texts) = (Vec::new(), Vec::new());
    for piece in svg.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap();
        assert!(!tag.contains('<') && tag.matches('"').count() % 2 == 0, "{tag}");
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') {
            open.push(name);
            if name == "text" {
                texts.push(text.trim().to_owned());
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
    // Without a size or a figure there is nothing to see.
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    texts
}

/// The lines of two points or more that are as thick as curves.
fn curves(file: &Path) -> usize {
    let svg = fs::read_to_string(file).unwrap();
    let lines = svg.split("<polyline").skip(1);
    lines.filter(|line| line.split('>').next().unwrap().contains("stroke-width=\"2\"")).count()
}

#[test]
fn round_trips_of_every_system_at_every_size_beside_the_floor() {
    let directory = tempfile::tempdir().unwrap();
    let plot = directory.path().join("plot.svg");
    let mut command = bench(&["pingpong", "--sizes", "8,4096", "--round-trips", "100", "--json"]);
    let rows = lines(&command.arg("--plot").arg(&plot).output().unwrap());
    let mut expected = FLOORS_OF_ROUND_TRIPS.to_vec();
    expected.push("link");
    assert_eq!(names(&rows, "system", 8), expected);
    // A line or two are no floor for what does not go in there.
    assert_eq!(names(&rows, "system", 4096), &expected[2..]);
    for row in &rows {
        assert_eq!(row["workload"], "pingpong");
        assert_eq!(row["round_trips"], 100);
        for path in ["/ratio", "/ratio_p999", "/ratio_of_turns/p50", "/rtt_ns/p25", "/rtt_ns/p75"] {
            positive(row, path);
        }
        assert!(positive(row, "/rtt_ns/p50") <= positive(row, "/rtt_ns/p99"), "{row}");
        assert!(positive(row, "/rtt_ns/p99") <= positive(row, "/rtt_ns/p999"), "{row}");
        assert_eq!(row["ratio_two_lines"].is_number(), row["size"] == 8, "{row}");
        if row["system"] == "one shared buffer" {
            assert_eq!(row["ratio"], 1.0, "it is the floor");
        }
    }
    let texts = assert_is_svg(&plot);
    assert!(expected.iter().all(|name| texts.iter().any(|text| text == name)), "{texts:?}");
    // A line or two have one point only.
    assert!(curves(&plot) >= expected.len() - 2, "{}", curves(&plot));
}

#[test]
fn streams_of_every_system_one_by_one_and_in_batches() {
    let directory = tempfile::tempdir().unwrap();
    let plot = directory.path().join("plot.svg");
    let mut command = bench(&["stream", "--sizes", "16,65536", "--turns", "2", "--json"]);
    let output = command.args(["--batch", "200", "--plot"]).arg(&plot).output().unwrap();
    let rows = lines(&output);
    let expected = ["ring with an index", "ring with commit words", "link"];
    for (size, batch) in [(16, 200), (65536, 128)] {
        assert_eq!(names(&rows, "system", size), expected);
        for row in rows.iter().filter(|row| row["size"] == size) {
            assert_eq!(row["workload"], "stream");
            assert_eq!(row["batch"], batch, "at most 8 MiB");
            for way in ["/one_by_one", "/batched"] {
                positive(row, &format!("{way}/ratio_of_turns/p50"));
                assert!(positive(row, &format!("{way}/ratio")) < 1000.0, "{row}");
                let rate = positive(row, &format!("{way}/mps/p50"));
                let bytes = positive(row, &format!("{way}/gbps/p50"));
                assert!((bytes / rate / size as f64 * 1000.0 - 1.0).abs() < 1e-6, "{row}");
            }
        }
    }
    let texts = assert_is_svg(&plot);
    assert!(expected.iter().all(|name| texts.iter().any(|text| text == name)), "{texts:?}");
    assert!(curves(&plot) >= expected.len(), "{}", curves(&plot));
}

#[test]
fn all_floors_of_the_machine() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = bench(&["floors", "--round-trips", "100", "--writes", "2", "--json"]);
    let rows = lines(&command.arg("--directory").arg(directory.path()).output().unwrap());
    assert_eq!(names(&rows, "floor", 8), FLOORS_OF_ROUND_TRIPS);
    for size in [64, 256, 1024, 4096] {
        assert!(names(&rows, "floor", size).contains(&"one shared buffer".to_owned()));
    }
    for size in [64, 1 << 20] {
        let mut reads = rows.iter().filter(|row| row["size"] == size && row["gbps"].is_number());
        let row = reads.next().unwrap();
        assert_eq!(row["floor"], "read from the other processor");
        positive(row, "/ns_per_line");
    }
    for floor in ["reading the clock", "futex wake", "append and fdatasync"] {
        assert_eq!(rows.iter().filter(|row| row["floor"] == floor).count(), 1, "{floor}");
    }
    rows.iter().for_each(|row| _ = positive(row, "/ns/p50"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn output_for_people_starts_with_the_ratio() {
    let arguments = ["pingpong", "--size", "64", "--round-trips", "10", "--only", "link"];
    let output = bench(&arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let row = text.lines().find(|line| line.contains(" link ")).unwrap();
    let ratio: f64 = row.split_whitespace().next().unwrap().parse().unwrap();
    assert!(ratio > 0.0);
}

#[test]
fn options_that_make_no_sense_are_errors_at_once() {
    for (arguments, says) in [
        (&["pingpong", "--size", "7"][..], "7"),
        (&["pingpong", "--sizes", "8,x"], "x"),
        (&["pingpong", "--size", "8", "--sizes", "8"], "--sizes"),
        (&["pingpong", "--size", "16777217"], "16777217"),
        (&["pingpong", "--round-trips", "0"], "0"),
        (&["pingpong", "--only", "nobody"], "nobody"),
        (&["pingpong", "--plot", "/nowhere/plot.svg"], "/nowhere/plot.svg"),
        (&["stream", "--batch", "0"], "0"),
        (&["floors", "--directory", "/nowhere"], "/nowhere"),
    ] {
        let output = bench(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
        assert!(stderr.contains(says) && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
}

/// Processes whose parent is `pid`, and the parent of each process that runs.
fn children_of(pid: u32) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|&number| state_and_parent(number).is_some_and(|it| it.1 == pid)).collect()
}

fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[test]
fn the_other_process_does_not_outlive_a_measuring_one_that_is_killed() {
    let mut command = bench(&["pingpong", "--size", "8", "--round-trips", "100000000"]);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let wait = || {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(5));
    };
    let other = loop {
        if let Some(&other) = children_of(child.id()).first() {
            break other;
        }
        wait();
    };
    // In the middle of a turn, most likely.
    thread::sleep(Duration::from_millis(100));
    child.kill().unwrap();
    child.wait().unwrap();
    while state_and_parent(other).is_some_and(|(state, _)| state != 'Z') {
        wait();
    }
}
