//! What the commands print, for people and for programs.

use std::{
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use shm_store::{Ack, Entry, Head, Stat, Verified};

use super::Target;

pub(super) fn written(target: &Target, name: &str, lines: u64, ack: &Ack) -> io::Result<()> {
    let durability = match ack {
        Ack::Durable(_) => "durable",
        Ack::Relaxed(_) => "relaxed",
    };
    let mut output = io::stdout().lock();
    if target.json {
        let value = json!({
            "stream": name,
            "lines": lines,
            "end": ack.end.to_string(),
            "lsn": ack.lsn.number(),
            "repeated": ack.repeated,
            "closed": ack.closed,
            "acknowledgement": durability,
        });
        return writeln!(output, "{value}");
    }
    writeln!(output, "{name}: {lines} lines, ends at {}, {durability}", ack.end)
}

pub(super) fn entry(output: &mut impl Write, json: bool, entry: &Entry) -> io::Result<()> {
    if !json {
        output.write_all(&entry.data)?;
        return output.write_all(b"\n");
    }
    let mut value = json!({
        "offset": entry.offset.to_string(),
        "next": entry.next.to_string(),
    });
    match std::str::from_utf8(&entry.data) {
        Ok(text) => value["text"] = text.into(),
        Err(_) => {
            let hex: String = entry.data.iter().map(|byte| format!("{byte:02x}")).collect();
            value["hex"] = hex.into();
        }
    }
    writeln!(output, "{value}")
}

pub(super) fn head(output: &mut impl Write, json: bool, head: &Head) -> io::Result<()> {
    if !json {
        let state = if head.closed { "closed" } else { "open" };
        return writeln!(output, "{}\t{}\t{state}", head.end, head.name);
    }
    let value = json!({
        "name": head.name,
        "stream": head.stream.number(),
        "end": head.end.to_string(),
        "closed": head.closed,
        "content_type": head.config.content_type,
        "time_to_live_s": head.config.time_to_live.map(|time| time.as_secs_f64()),
        "expires_at": seconds(head.config.expires_at),
        "max_bytes": head.config.max_bytes,
        "forked_from": head.forked.map(|(parent, at)| {
            json!({ "stream": parent.number(), "at": at.to_string() })
        }),
        "created": seconds(Some(head.created)),
        "expires": seconds(head.expires),
    });
    writeln!(output, "{value}")
}

/// Seconds since 1970.
fn seconds(time: Option<SystemTime>) -> Value {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map(|since| since.as_secs_f64()).into()
}

pub(super) fn stat(output: &mut impl Write, json: bool, stat: &Stat) -> io::Result<()> {
    if json {
        let value = json!({
            "owner": stat.owner,
            "streams": stat.streams,
            "bytes": stat.bytes,
            "visible": stat.visible.number(),
            "durable": stat.durable.number(),
            "applied": stat.applied.number(),
            "memory": stat.memory,
            "writes": stat.writes,
            "batches": stat.batches,
        });
        return writeln!(output, "{value}");
    }
    writeln!(output, "owner     process {}", stat.owner)?;
    writeln!(output, "streams   {}", stat.streams)?;
    writeln!(output, "bytes     {}", stat.bytes)?;
    let (durable, applied) = (stat.durable.number(), stat.applied.number());
    writeln!(output, "log       durable to {durable}, in the shards to {applied}")?;
    writeln!(output, "memory    {} bytes of changes", stat.memory)?;
    writeln!(output, "writes    {} in {} batches by this owner", stat.writes, stat.batches)
}

pub(super) fn verified(output: &mut impl Write, json: bool, verified: &Verified) -> io::Result<()> {
    if json {
        let value = json!({
            "streams": verified.streams,
            "entries": verified.entries,
            "bytes": verified.bytes,
            "sums": verified.sums,
            "problems": verified.problems,
        });
        return writeln!(output, "{value}");
    }
    for problem in &verified.problems {
        writeln!(output, "{problem}")?;
    }
    let Verified { streams, entries, bytes, .. } = verified;
    writeln!(output, "{streams} streams, {entries} entries, {bytes} bytes")?;
    if !verified.sums {
        writeln!(output, "sums were not compared: others wrote meanwhile")?;
    }
    writeln!(output, "{} problems", verified.problems.len())
}
