//! What was counted, by the names that reports, metrics and logs give it.

use super::Worker;
use crate::decoder::{DispatchCounters, Undetected, Waiting};

/// What was counted: by a replay at its end, by podtap that is running so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Counted work.
    pub totals: Vec<(&'static str, u64)>,
    /// Counted losses.
    pub losses: Vec<(&'static str, u64)>,
    /// One line for each file or plugin that could not be used, or not wholly.
    pub problems: Vec<String>,
}

impl Report {
    /// What another worker of the same run has counted, too.
    pub fn add(&mut self, other: &Report) {
        for (sums, counts) in [(&mut self.totals, &other.totals), (&mut self.losses, &other.losses)] {
            for &(name, count) in counts {
                match sums.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, sum)) => *sum += count,
                    None => sums.push((name, count)),
                }
            }
        }
        for problem in &other.problems {
            if !self.problems.contains(problem) {
                self.problems.push(problem.clone());
            }
        }
    }

    /// A total or a loss by its name; 0 where there is none of it.
    pub fn count(&self, name: &str) -> u64 {
        self.totals.iter().chain(&self.losses).find_map(|&(known, count)| (known == name).then_some(count)).unwrap_or(0)
    }

    /// Of what every packet, every byte of payload and every connection that no decoder claimed is in exactly one place.
    pub fn sums(&self) -> [Sum; 3] {
        let named = |name: &'static str| (name, self.count(name));
        let sum = |total, parts: &[&'static str]| Sum {
            total: named(total),
            parts: parts.iter().map(|&part| named(part)).collect(),
        };
        [
            sum("packets", &PLACES_OF_PACKETS),
            sum("payload_bytes", &PLACES_OF_BYTES),
            sum("connections_undetected", &Undetected::ALL.map(|(_, name)| name)),
        ]
    }

    /// Is every packet, every byte of payload and every connection that no decoder claimed in exactly one place?
    pub fn adds_up(&self) -> bool {
        self.sums().iter().all(Sum::holds)
    }
}

/// A count, and those that it is the sum of.
#[derive(Debug)]
pub struct Sum {
    /// The count of all.
    pub total: (&'static str, u64),
    /// The counts of its parts.
    pub parts: Vec<(&'static str, u64)>,
}

impl Sum {
    /// Is it their sum?
    pub fn holds(&self) -> bool {
        self.parts.iter().map(|(_, count)| count).sum::<u64>() == self.total.1
    }
}

/// What waits does so while podtap is running; at the end, nothing does.
pub(crate) const WAITING: [&str; 2] = ["fragments_waiting", "payload_bytes_waiting"];

/// Every packet is in one of these.
const PLACES_OF_PACKETS: [&str; 15] = [
    "packets_tracked",
    WAITING[0],
    "packets_filtered",
    "packets_ignored",
    "packets_not_tcp",
    "packets_unknown_link",
    "packets_malformed",
    "packets_truncated",
    "packets_too_deep",
    "packets_stray",
    "fragments_joined",
    "fragments_duplicate",
    "fragments_overlapping",
    "fragments_expired",
    "fragments_evicted",
];

/// Every byte of payload is in one of these.
const PLACES_OF_BYTES: [&str; 9] = [
    "payload_bytes_decoded",
    "payload_bytes_skipped",
    WAITING[1],
    "payload_bytes_ignored",
    "payload_bytes_duplicate",
    "payload_bytes_out_of_window",
    "payload_bytes_abandoned",
    "payload_bytes_undetected",
    "payload_bytes_in_failed_calls",
];

impl Worker<'_, '_> {
    /// Totals and named losses. Every packet that came up, and every byte of payload, is in one of them.
    pub(super) fn report(&self, report: &mut Report) {
        let stream = self.engine.counters();
        let DispatchCounters {
            bytes_decoded,
            bytes_undetected,
            bytes_failed,
            bytes_undecoded,
            bytes_unknown,
            connections_detected,
            connections_undetected,
            connections_of_known_servers,
            connections_beyond_bound,
            connections_blamed,
            failures_trap,
            failures_deadline,
            failures_memory,
            failures_output,
            failures_too_much,
            demands_ignored,
            exchanges_truncated,
            plugins_quarantined,
            connections_quarantined,
            plugins_reloaded,
            connections_moved,
            connections_of_removed_plugins,
            connections_own,
            connections_left_out,
            exchanges,
        } = *self.dispatcher.counters();
        report.totals = vec![
            ("exchanges", exchanges),
            ("packets", stream.packets + self.packets_filtered),
            ("packets_tracked", stream.packets_tracked),
            ("connections", stream.connections_total),
            ("connections_detected", connections_detected),
            ("connections_of_known_servers", connections_of_known_servers),
            ("payload_bytes", stream.bytes),
            ("payload_bytes_decoded", bytes_decoded),
            ("payload_bytes_skipped", stream.bytes_skipped),
        ];
        let Waiting { detection_bytes, batch_bytes } = self.dispatcher.waiting();
        let rare = [
            ("fragments_joined", stream.fragments_joined),
            (WAITING[0], stream.fragments_waiting),
            (WAITING[1], stream.bytes_buffered + detection_bytes + batch_bytes),
            ("decoders_reloaded", plugins_reloaded),
            ("own_connections", connections_own),
        ];
        report.totals.extend(rare.into_iter().filter(|(_, count)| *count > 0));
        report.losses = vec![
            ("packets_filtered", self.packets_filtered),
            ("packets_dropped_by_kernel", self.drops.kernel),
            ("packets_dropped_by_interface", self.drops.interface),
            ("packets_before_sharing", self.drops.before_sharing),
            ("packets_ignored", stream.packets_ignored),
            ("packets_not_tcp", stream.packets_not_tcp),
            ("packets_unknown_link", stream.packets_unknown_link),
            ("packets_malformed", stream.packets_malformed),
            ("packets_truncated", stream.packets_truncated),
            ("packets_too_deep", stream.packets_too_deep),
            ("fragments_duplicate", stream.fragments_duplicate),
            ("fragments_overlapping", stream.fragments_overlapping),
            ("fragments_expired", stream.fragments_expired),
            ("fragments_evicted", stream.fragments_evicted),
            ("packets_stray", stream.packets_stray),
            ("payload_bytes_ignored", stream.bytes_ignored),
            ("payload_bytes_duplicate", stream.bytes_duplicate),
            ("payload_bytes_conflicting", stream.bytes_conflicting),
            ("payload_bytes_out_of_window", stream.bytes_out_of_window),
            ("payload_bytes_abandoned", stream.bytes_abandoned),
            ("payload_bytes_undetected", bytes_undetected),
            ("payload_bytes_undecoded", bytes_undecoded),
            ("payload_bytes_in_failed_calls", bytes_failed),
            // No place of the sum in `adds_up`: it is to show.
            ("payload_bytes_of_unknown_connections", bytes_unknown),
            ("gaps", stream.gaps),
            ("acknowledged_gap_bytes", stream.bytes_gap_acknowledged),
            ("buffer_limit_gap_bytes", stream.bytes_gap_buffer_limit),
            ("timeout_gap_bytes", stream.bytes_gap_timeout),
            ("snaplen_gap_bytes", stream.bytes_gap_snaplen),
            ("resync_gap_bytes", stream.bytes_gap_resync),
            ("connection_end_gap_bytes", stream.bytes_gap_connection_end),
            ("connections_evicted", stream.connections_evicted),
            ("connections_undetected", connections_undetected.iter().sum()),
            ("connections_beyond_instance_bound", connections_beyond_bound),
            ("connections_blamed", connections_blamed),
            ("decoder_traps", failures_trap),
            ("decoder_deadlines", failures_deadline),
            ("decoder_memory_breaches", failures_memory),
            ("decoder_invalid_outputs", failures_output),
            ("decoder_oversized_outputs", failures_too_much),
            ("decoder_demands_ignored", demands_ignored),
            ("decoder_log_lines_dropped", self.dispatcher.log_lines_dropped()),
            ("exchanges_truncated", exchanges_truncated),
            ("decoders_quarantined", plugins_quarantined),
            ("connections_of_quarantined_decoders", connections_quarantined),
            ("connections_moved_to_other_version", connections_moved),
            ("connections_of_removed_decoders", connections_of_removed_plugins),
            ("connections_left_out", connections_left_out),
        ];
        let reasons = Undetected::ALL.iter().zip(connections_undetected);
        report.losses.extend(reasons.map(|(&(_, name), count)| (name, count)));
    }
}
