//! What becomes of exchanges when packets are lost: nothing may be paired wrongly, the rest is reported, losses show.
//!
//! Takes a capture without losses and the events of it, leaves out one packet in a hundred behind its beginning, replays that
//! and compares. Then the same of the beginning alone, over and over with more losses: what is lost of it is seldom the same,
//! and may be what all that follows is known by, such as a statement that is prepared once and executed a thousand times.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{process, release};

/// One packet in so many is left out, of the whole and of the beginning.
const ONE_IN: u64 = 100;
const ONE_IN_BEGINNING: u64 = 15;

/// So many packets are a beginning, and so often it is tried.
const BEGINNING: usize = 400;
const ROUNDS: u64 = 100;

/// Lengths of a pcap file's header and of a packet's.
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;

/// Replays the capture with losses; says what came of it.
pub(crate) fn check(podtap: &Path, capture: &Path, events: &Path) -> Result<String> {
    let known = known(BufReader::new(File::open(events)?))?;
    let lossy = capture.with_extension("lossy.pcap");
    let left_out = leave_out(capture, &lossy, 1, ONE_IN, BEGINNING..usize::MAX)?;
    let Found { whole, damaged } = replay(podtap, &lossy, &known)?;
    let total = known.len() as u64;
    ensure!(whole * 100 >= total * 95, "only {whole} of {total} exchanges are whole");
    let mut beginnings = Found::default();
    for round in 1..=ROUNDS {
        leave_out(capture, &lossy, round, ONE_IN_BEGINNING, 0..BEGINNING)?;
        let found = replay(podtap, &lossy, &known).with_context(|| format!("round {round}, {}", lossy.display()))?;
        beginnings.whole += found.whole;
        beginnings.damaged += found.damaged;
    }
    ensure!(beginnings.whole > beginnings.damaged, "only {} exchanges of beginnings are whole", beginnings.whole);
    fs::remove_file(&lossy)?;
    Ok(format!(
        "{left_out} packets left out; of {total} exchanges {whole} are whole and the same, {damaged} say that something \
         is missing; of {ROUNDS} beginnings with 1 in {ONE_IN_BEGINNING} lost {} and {}",
        beginnings.whole, beginnings.damaged
    ))
}

/// Replays a capture with losses and compares its exchanges with those known.
fn replay(podtap: &Path, lossy: &Path, known: &Known) -> Result<Found> {
    let events = lossy.with_extension("jsonl");
    let mut replay = release::command(podtap);
    replay.arg("replay").arg(lossy).args(["--output", "json", "--output-file"]).arg(&events);
    process::output(&mut replay)?;
    compare(known, BufReader::new(File::open(&events)?))
}

/// Copies the packets of a pcap file (as tcpdump writes it, in this machine's byte order) up to the end of a range, but for
/// one in `one_in` of those within it; says how many it left out.
fn leave_out(from: &Path, to: &Path, seed: u64, one_in: u64, packets: Range<usize>) -> Result<u64> {
    let mut reader = BufReader::new(File::open(from)?);
    let mut writer = BufWriter::new(File::create(to)?);
    let mut header = [0; FILE_HEADER];
    reader.read_exact(&mut header)?;
    writer.write_all(&header)?;
    let (mut left_out, mut random) = (0, seed);
    let mut header = [0; PACKET_HEADER];
    for number in 0..packets.end {
        if reader.read_exact(&mut header).is_err() {
            break;
        }
        let length = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        let mut packet = vec![0; length as usize];
        reader.read_exact(&mut packet)?;
        // Knuth's constants; the upper bits are the random ones. The same packets in every run.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if packets.contains(&number) && (random >> 33) % one_in == 0 {
            left_out += 1;
            continue;
        }
        writer.write_all(&header)?;
        writer.write_all(&packet)?;
    }
    writer.flush()?;
    Ok(left_out)
}

/// An exchange without losses, by the client's port and the time of its request.
type Known = HashMap<(u64, String), (String, String)>;

/// What names an exchange, and what must be the same where nothing of it was lost: request, then response.
fn parts(event: &Value) -> Option<((u64, String), (String, String))> {
    let key = (event["client"]["port"].as_u64()?, event["time"].as_str()?.to_owned());
    let attributes = &event["attributes"];
    let request = format!("{} {} {}", event["operation"], event["target"], event["client"]["bytes"]);
    let response = format!(
        "{} {} {} rows {} affected {}",
        event["outcome"],
        event["duration"],
        event["server"]["bytes"],
        attributes["db.response.returned_rows"],
        attributes["mysql.affected_rows"]
    );
    Some((key, (request, response)))
}

fn known(complete: impl BufRead) -> Result<Known> {
    let mut known = Known::new();
    for line in complete.lines() {
        known.extend(parts(&serde_json::from_str(&line?)?));
    }
    Ok(known)
}

/// How many exchanges with losses are as those without, and how many say that something is missing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    whole: u64,
    damaged: u64,
}

fn compare(known: &Known, lossy: impl BufRead) -> Result<Found> {
    let mut counts = Found::default();
    for line in lossy.lines() {
        let line = line?;
        let event: Value = serde_json::from_str(&line)?;
        let paired = matches!(event["outcome"].as_str(), Some("ok" | "error"));
        if !paired || event.get("loss").is_some() {
            counts.damaged += 1;
            continue;
        }
        let (key, found) = parts(&event).with_context(|| format!("not an exchange: {line}"))?;
        let expected = known.get(&key).with_context(|| format!("no request was sent then: {line}"))?;
        // The statement is unknown where its PREPARE was lost.
        let same_request = found.0 == expected.0 || event["operation"] == "EXECUTE" || event["operation"] == "RESET";
        ensure!(same_request && found.1 == expected.1, "paired wrongly, {expected:?} without losses: {line}");
        counts.whole += 1;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::{Found, compare, known};

    fn event(time: &str, bytes: u64, outcome: &str) -> String {
        format!(
            r#"{{"time":"{time}","client":{{"port":1,"bytes":9}},"server":{{"bytes":{bytes}}},"operation":"SELECT",
            "outcome":"{outcome}","duration":5,"attributes":{{}}}}"#
        )
        .replace('\n', "")
    }

    #[test]
    fn a_wrong_pair_is_an_error_and_a_damaged_exchange_is_not() {
        let complete: Vec<_> = (0..10).map(|n| event(&n.to_string(), n, "ok")).collect();
        let check = |changed: String| {
            let mut lossy = complete.clone();
            lossy[3] = changed;
            compare(&known(complete.join("\n").as_bytes()).unwrap(), lossy.join("\n").as_bytes())
        };
        assert_eq!(check(event("3", 0, "no_response")).unwrap(), Found { whole: 9, damaged: 1 });
        assert!(check(event("3", 4, "ok")).unwrap_err().to_string().contains("paired wrongly"));
        assert!(check(event("33", 3, "ok")).unwrap_err().to_string().contains("no request was sent then"));
    }
}
