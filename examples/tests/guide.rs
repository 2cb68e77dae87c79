//! The guide says what is so: its Rust is that of the examples, its sums are those of the code.

use std::{fs, path::Path};

use shm_transport::{Link, LinkConfig};

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What each block of Rust says, and the file that the comment above it names.
fn blocks(guide: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks = Vec::new();
    let mut named = None;
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        if let Some(comment) = line.strip_prefix("<!-- ") {
            named = comment.strip_suffix(" -->").map(str::to_owned);
        } else if line == "```rust" {
            let file = named.take().expect("a comment above each block names its file");
            let block = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned);
            blocks.push((file, block.collect()));
        }
    }
    blocks
}

/// The block's parts, between lines of `// ...`, stand in the file as they are, one after the
/// other.
#[test]
fn the_code_of_the_guide_is_that_of_the_examples() {
    let blocks = blocks(&read("docs/guide.md"));
    for (file, block) in &blocks {
        let text = read(file);
        let mut rest = text.as_str();
        for part in block.split(|line| line.trim() == "// ...") {
            let part = format!("\n{}\n", part.join("\n"));
            let at = rest.find(&part);
            let at = at.unwrap_or_else(|| panic!("{file} has not, or not in this order:{part}"));
            // The last line's end may begin the next part.
            rest = &rest[at + part.len() - 1..];
        }
    }
    let programs = ["worker", "guests", "payloads", "broadcast", "store"];
    for program in programs.map(|name| format!("examples/{name}.rs")) {
        assert!(blocks.iter().any(|(file, _)| *file == program), "{program} is shown");
    }
}

/// Links to files beside the guide lead somewhere.
#[test]
fn the_links_of_the_guide_lead_somewhere() {
    let guide = read("docs/guide.md");
    let links = guide.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let mut count = 0;
    for link in links.filter(|link| !link.starts_with("http")) {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let text = if file.is_empty() { guide.clone() } else { String::new() };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file);
        assert!(path.exists(), "{link}");
        let is_heading = |line: &str| {
            let keep = |c: char| c.is_alphanumeric() || c == ' ' || c == '-';
            let title = line.trim_start_matches('#').trim().to_lowercase();
            line.starts_with('#')
                && title.chars().filter(|c| keep(*c)).collect::<String>().replace(' ', "-")
                    == anchor
        };
        assert!(anchor.is_empty() || text.is_empty() || text.lines().any(is_heading), "{link}");
        count += 1;
    }
    assert!(count > 15, "{count} links");
}

/// The sizes of a link with the default configuration, as the guide gives them.
#[test]
fn the_sums_of_the_guide_are_right() {
    let guide = read("docs/guide.md");
    let says = |what: &str| assert!(guide.contains(what), "the guide does not say {what:?}");
    let config = LinkConfig::default();
    let slots = |class: &shm_transport::SizeClass| class.extent_slots * class.max_extents;
    let all: u32 = config.size_classes.iter().map(slots).sum();
    says(&format!(
        "| {all} + {} = {} |",
        config.sealed_limit,
        all + u32::from(config.sealed_limit)
    ));
    let acks = u64::from(all) + u64::from(config.sealed_limit);
    let outbox = (768 + 4 * acks).next_multiple_of(128) + config.ring_capacity;
    assert_eq!(outbox, 66_944);
    says("| 66,944: 17 pages, 68 KiB |");
    let bytes = |class: &shm_transport::SizeClass| u64::from(slots(class) * class.slot_size);
    let extents: Vec<u64> = config.size_classes.iter().map(|c| bytes(c) >> 20).collect();
    let sum: u64 = config.size_classes.iter().map(bytes).sum();
    assert_eq!((extents, sum), (vec![1, 2, 4, 8], 15 << 20));
    says("1 + 2 + 4 + 8 = 15 MiB");
    says(&format!("{} · {} MiB = 4 GiB", config.sealed_limit, config.max_message >> 20));
    assert_eq!(u64::from(config.sealed_limit) * config.max_message, 4 << 30);

    // What the kernel has mapped: each end maps both outboxes.
    let (left, right) = Link::pair(&config).unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let sizes = maps.lines().filter(|line| line.contains("/memfd:shm-outbox")).map(|line| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        u64::from_str_radix(to, 16).unwrap() - u64::from_str_radix(from, 16).unwrap()
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [outbox.next_multiple_of(4096); 4]);
    assert_eq!(outbox.next_multiple_of(4096), 17 * 4096);
    drop((left, right));
}
