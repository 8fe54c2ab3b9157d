//! What podtap says: whether its counts add up, those of the summary at its end and its metrics while it runs, and whether it
//! panicked. Names are written out here, so that a count that podtap gets anew is noticed.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

/// Every packet is in one of these (docs/limits.md has what each is).
const PACKETS: [&str; 14] = [
    "packets tracked",
    "packets filtered",
    "packets ignored",
    "packets not tcp",
    "packets unknown link",
    "packets malformed",
    "packets truncated",
    "packets too deep",
    "packets stray",
    "fragments joined",
    "fragments duplicate",
    "fragments overlapping",
    "fragments expired",
    "fragments evicted",
];

/// Every byte of payload is in one of these.
const BYTES: [&str; 8] = [
    "payload bytes decoded",
    "payload bytes skipped",
    "payload bytes ignored",
    "payload bytes duplicate",
    "payload bytes out of window",
    "payload bytes abandoned",
    "payload bytes undetected",
    "payload bytes in failed calls",
];

/// The counts of a summary, by the words that stand behind each.
pub(crate) fn counts(said: &str) -> BTreeMap<String, u64> {
    let count = |line: &str| {
        let (number, words) = line.trim().split_once("  ")?;
        Some((words.split(" (").next()?.trim().to_owned(), number.parse().ok()?))
    };
    said.lines().filter_map(count).collect()
}

/// Is every packet, every byte and every connection that no decoder took in one place, as a run says at its end?
pub(crate) fn summary_adds_up(said: &str) -> Result<BTreeMap<String, u64>> {
    let counts = counts(said);
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    ensure!(counts.contains_key("packets"), "there is no summary");
    for (all, parts) in [("packets", &PACKETS[..]), ("payload bytes", &BYTES[..])] {
        let sum: u64 = parts.iter().map(|part| count(part)).sum();
        ensure!(count(all) == sum, "{} {all}, of which {sum} are in a place", count(all));
    }
    let reasons = counts.iter().filter(|(name, _)| name.starts_with("undetected "));
    let (undetected, sum) = (count("connections undetected"), reasons.map(|(_, count)| count).sum::<u64>());
    ensure!(undetected == sum, "{undetected} connections undetected, of which {sum} have a reason");
    Ok(counts)
}

/// Does it say so of a thread of its own? What a decoder says of itself is in the log.
pub(crate) fn has_panicked(said: &str) -> bool {
    said.lines().any(|line| line.starts_with("thread '") && line.contains("panicked at "))
}

/// The same of metrics, with what waits.
pub(crate) fn metrics_add_up(metrics: &str) -> Result<()> {
    let sum = |name: &str| metric(metrics, name);
    for [all, by_fate, waiting] in [
        ["podtap_packets_total", "podtap_packets_by_fate_total", "podtap_fragments_waiting"],
        ["podtap_payload_bytes_total", "podtap_payload_bytes_by_fate_total", "podtap_payload_waiting_bytes"],
    ] {
        let parts = sum(by_fate) + sum(waiting);
        ensure!(sum(all) > 0.0 && sum(all) == parts, "{all} is {}, its parts are {parts}", sum(all));
    }
    Ok(())
}

/// All samples of a metric, added.
pub(crate) fn metric(metrics: &str, name: &str) -> f64 {
    let values = metrics.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = " 3  exchanges\n 9  packets\n 7  packets tracked\n30  payload bytes (30B)\n\
        20  payload bytes decoded (20B)\n\nlost or left out\n 2  packets malformed\n10  payload bytes undetected\n\
         1  connections undetected\n 1  undetected refused by all decoders\n";

    #[test]
    fn a_summary_adds_up_or_does_not() {
        assert_eq!(summary_adds_up(SUMMARY).unwrap()["exchanges"], 3);
        for (count, other) in
            [(" 2  packets mal", " 3  packets mal"), ("10  pay", "11  pay"), (" 1  undet", " 2  undet")]
        {
            assert!(SUMMARY.contains(count) && summary_adds_up(&SUMMARY.replace(count, other)).is_err(), "{count}");
        }
        assert!(summary_adds_up("").is_err());
    }

    #[test]
    fn metrics_add_up_or_do_not() {
        let metrics = "podtap_packets_total 3\npodtap_packets_by_fate_total{fate=\"a\"} 1\n\
            podtap_packets_by_fate_total{fate=\"b\"} 1\npodtap_fragments_waiting 1\npodtap_payload_bytes_total 5\n\
            podtap_payload_bytes_by_fate_total{fate=\"a\"} 5\npodtap_payload_waiting_bytes 0\n";
        metrics_add_up(metrics).unwrap();
        assert!(metrics_add_up(&metrics.replace("waiting 1", "waiting 0")).is_err());
    }
}
