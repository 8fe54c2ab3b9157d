//! What a run saw, in a table: exchanges by protocol, operation and outcome with percentiles of their durations, and
//! every loss by name.
//!
//! Memory is bounded whatever the traffic holds: beyond [`MAX_ROWS`] combinations, exchanges are counted under `other`.

use std::fmt::{self, Write as _};

use hashbrown::HashMap;

use crate::event::{Event, Exchange, Outcome};
use crate::latency::Latencies;
use crate::publish::{Bytes, Delivery, DisplayDuration, Printable};

/// Combinations of protocol, operation and outcome that get a row; a row takes about 13 kB.
pub(crate) const MAX_ROWS: usize = 256;
/// Stands for protocol and operation beyond [`MAX_ROWS`].
pub(crate) const OTHER: &str = "other";
/// Letters of an operation or protocol that are shown.
const MAX_NAME: usize = 32;

/// One array element an outcome, in the order of [`Outcome::ALL`].
type Rows = [Option<Box<Row>>; Outcome::ALL.len()];

/// Counts events.
#[derive(Debug, Default)]
pub struct Summary {
    /// By protocol, then by operation (empty: none). Nested, so that a look-up needs no key of its own.
    protocols: HashMap<Box<str>, HashMap<Box<str>, Rows>>,
    other: Rows,
    rows: usize,
    exchanges: u64,
    connections: u64,
}

#[derive(Debug, Default)]
struct Row {
    count: u64,
    latencies: Latencies,
}

impl Row {
    fn record(&mut self, duration_ns: Option<u64>) {
        self.count += 1;
        if let Some(ns) = duration_ns {
            self.latencies.record(ns);
        }
    }

    fn add(&mut self, other: &Row) {
        self.count += other.count;
        self.latencies.add(&other.latencies);
    }
}

impl Summary {
    /// Counts an event. Allocates only for a combination that was not there before.
    pub fn record(&mut self, event: Event<'_>) {
        match event {
            Event::Exchange(exchange) => self.record_exchange(exchange),
            Event::Connection(_) => self.connections += 1,
        }
    }

    /// Events counted.
    pub fn events(&self) -> u64 {
        self.exchanges + self.connections
    }

    /// Exchanges counted.
    pub fn exchanges(&self) -> u64 {
        self.exchanges
    }

    fn record_exchange(&mut self, exchange: &Exchange<'_>) {
        self.exchanges += 1;
        let operation = exchange.operation.as_deref().unwrap_or_default();
        let outcome = exchange.outcome as usize;
        match self.row(&exchange.protocol, operation, outcome) {
            Some(row) => row.record(exchange.duration),
            None => self.new_row(&exchange.protocol, operation, outcome).record(exchange.duration),
        }
    }

    fn row(&mut self, protocol: &str, operation: &str, outcome: usize) -> Option<&mut Row> {
        self.protocols.get_mut(protocol)?.get_mut(operation)?[outcome].as_deref_mut()
    }

    /// For a combination that was not there before.
    fn new_row(&mut self, protocol: &str, operation: &str, outcome: usize) -> &mut Row {
        let rows = if self.rows < MAX_ROWS {
            self.rows += 1;
            self.protocols.entry(protocol.into()).or_default().entry(operation.into()).or_default()
        } else {
            &mut self.other
        };
        rows[outcome].get_or_insert_default()
    }

    /// What another has counted, too.
    pub fn add(&mut self, other: &Summary) {
        self.exchanges += other.exchanges;
        self.connections += other.connections;
        for (protocol, operations) in &other.protocols {
            for (operation, rows) in operations {
                for (outcome, row) in rows.iter().enumerate() {
                    let Some(row) = row else { continue };
                    match self.row(protocol, operation, outcome) {
                        Some(known) => known.add(row),
                        None => self.new_row(protocol, operation, outcome).add(row),
                    }
                }
            }
        }
        for (row, other) in self.other.iter_mut().zip(&other.other) {
            if let Some(other) = other {
                row.get_or_insert_default().add(other);
            }
        }
    }

    /// The table, with totals, losses and deliveries given by name. Of losses, only what is not zero is shown.
    pub fn table(&self, totals: &[(&str, u64)], losses: &[(&str, u64)], delivery: Option<&Delivery>) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_table(&mut out, totals, losses, delivery);
        out
    }

    fn write_table(
        &self,
        out: &mut String,
        totals: &[(&str, u64)],
        losses: &[(&str, u64)],
        delivery: Option<&Delivery>,
    ) -> fmt::Result {
        let mut lines = self.lines();
        if !lines.is_empty() {
            let header = ["protocol", "operation", "outcome", "count", "p50", "p95", "p99"].map(str::to_owned);
            lines.insert(0, header);
            write_aligned(out, &lines)?;
            out.push('\n');
        }
        let named = |(name, count): &(&str, u64)| (name.replace('_', " "), *count);
        let counted_here = [("exchanges".to_owned(), self.exchanges)];
        // Totals may count exchanges too: shown where that differs.
        let totals = totals.iter().map(named).filter(|total| !counted_here.contains(total));
        let connections = (self.connections > 0).then(|| ("connection events".to_owned(), self.connections));
        let spool = delivery.and_then(|delivery| delivery.spool).into_iter().flat_map(|spool| {
            let of = |name: &str, count| (count > 0).then(|| (name.to_owned(), count));
            [
                of("events recovered from the spool", spool.recovered),
                of("events left in the spool", spool.left),
                of("events that the spool did not take at once", spool.bypassed),
            ]
        });
        let totals = totals.chain(spool.flatten());
        write_counts(out, &counted_here.iter().cloned().chain(connections).chain(totals).collect::<Vec<_>>())?;
        let failed = delivery.into_iter().flat_map(|delivery| &delivery.failed);
        let failed = failed.map(|(reason, count)| (format!("not delivered: {}", reason.replace('_', " ")), *count));
        let damaged = delivery.and_then(|delivery| delivery.spool).map_or(0, |spool| spool.damaged_bytes);
        let damaged = [("damaged bytes in the spool".to_owned(), damaged)];
        let lost: Vec<_> =
            losses.iter().map(named).chain(failed).chain(damaged).filter(|(_, count)| *count > 0).collect();
        if !lost.is_empty() {
            out.push_str("\nlost or left out\n");
            write_counts(out, &lost)?;
        }
        Ok(())
    }

    /// By protocol, then the most frequent first; `other` last.
    fn lines(&self) -> Vec<[String; 7]> {
        let mut rows: Vec<_> = self
            .protocols
            .iter()
            .flat_map(|(protocol, operations)| {
                operations.iter().flat_map(move |(operation, rows)| present(protocol, operation, rows))
            })
            .collect();
        rows.sort_by(|(p1, o1, i1, row1), (p2, o2, i2, row2)| (p1, row2.count, o1, i1).cmp(&(p2, row1.count, o2, i2)));
        rows.extend(present(OTHER, OTHER, &self.other));
        rows.into_iter()
            .map(|(protocol, operation, outcome, row)| {
                let [p50, p95, p99] = row
                    .latencies
                    .percentiles()
                    .map(|ns| ns.map_or_else(|| "-".to_owned(), |ns| DisplayDuration(ns).to_string()));
                let outcome = Outcome::ALL[outcome].name().to_owned();
                [name(protocol), name(operation), outcome, row.count.to_string(), p50, p95, p99]
            })
            .collect()
    }
}

fn present<'a>(
    protocol: &'a str,
    operation: &'a str,
    rows: &'a Rows,
) -> impl Iterator<Item = (&'a str, &'a str, usize, &'a Row)> {
    let rows = rows.iter().enumerate();
    rows.filter_map(move |(outcome, row)| row.as_deref().map(|row| (protocol, operation, outcome, row)))
}

/// A name from traffic, fit for a terminal.
fn name(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    let mut shown: String = Printable(text).to_string();
    if let Some((end, _)) = shown.char_indices().nth(MAX_NAME) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
}

/// A line a count; bytes also as people read them.
fn write_counts(out: &mut String, counts: &[(String, u64)]) -> fmt::Result {
    let digits = counts.iter().map(|(_, count)| count.to_string().len()).max().unwrap_or_default();
    for (name, count) in counts {
        match name.contains("bytes") && *count >= 1000 {
            true => writeln!(out, "{count:>digits$}  {name} ({})", Bytes(*count))?,
            false => writeln!(out, "{count:>digits$}  {name}")?,
        }
    }
    Ok(())
}

/// Names to the left, numbers to the right.
fn write_aligned(out: &mut String, lines: &[[String; 7]]) -> fmt::Result {
    let mut widths = [0; 7];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            match column {
                0..3 => write!(out, "{gap}{cell:<width$}")?,
                _ => write!(out, "{gap}{cell:>width$}")?,
            }
        }
        out.push('\n');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::example_event;

    fn record(summary: &mut Summary, operation: &str, outcome: Outcome, ms: Option<u64>) {
        let mut exchange = example_event();
        exchange.operation = (!operation.is_empty()).then(|| operation.to_owned().into());
        exchange.outcome = outcome;
        exchange.duration = ms.map(|ms| ms * 1_000_000);
        summary.record(Event::Exchange(&exchange));
    }

    #[test]
    fn what_two_have_counted_is_what_one_would_have() {
        let [mut first, mut second, mut both] = [(); 3].map(|()| Summary::default());
        for number in 0..2 * MAX_ROWS {
            for operation in [format!("o{number}"), "all".to_owned()] {
                record(&mut both, &operation, Outcome::Ok, Some(number as u64));
                // All that come first are in both.
                let half = if number < MAX_ROWS && number % 2 == 0 { &mut first } else { &mut second };
                record(half, &operation, Outcome::Ok, Some(number as u64));
            }
        }
        first.add(&second);
        assert_eq!((first.exchanges(), first.rows), (both.exchanges(), MAX_ROWS));
        let total = |summary: &Summary, name: &str| {
            let lines = summary.lines().into_iter().filter(|line| line[1] == name);
            lines.map(|line| (line[3].clone(), line[4].clone())).collect::<Vec<_>>()
        };
        assert_eq!(total(&first, "all"), total(&both, "all"));
        let counts =
            |summary: &Summary| summary.lines().iter().map(|line| line[3].parse::<u64>().unwrap()).sum::<u64>();
        assert_eq!(counts(&first), counts(&both));
    }

    #[test]
    fn the_table_has_a_row_a_combination_and_names_what_is_not_zero() {
        let mut summary = Summary::default();
        for ms in 1..=100 {
            record(&mut summary, "GET", Outcome::Ok, Some(ms));
        }
        record(&mut summary, "POST", Outcome::Error, Some(7));
        record(&mut summary, "POST", Outcome::NoResponse, None);
        record(&mut summary, "", Outcome::Unmatched, None);
        let delivery = Delivery { delivered: 100, failed: [("message_timed_out".to_owned(), 3)].into(), spool: None };
        let table = summary.table(
            &[("exchanges", 103), ("packets", 1234), ("payload_bytes", 123_456)],
            &[("timeout_gap_bytes", 1460), ("packets_malformed", 0)],
            Some(&delivery),
        );
        let expected = "\
protocol  operation  outcome      count     p50     p95     p99
http      GET        ok             100  50.0ms  95.4ms  99.0ms
http      -          unmatched        1       -       -       -
http      POST       error            1  7.01ms  7.01ms  7.01ms
http      POST       no_response      1       -       -       -

   103  exchanges
  1234  packets
123456  payload bytes (123kB)

lost or left out
1460  timeout gap bytes (1.46kB)
   3  not delivered: message timed out
";
        assert_eq!(table, expected, "\n{table}");
    }

    #[test]
    fn a_run_without_anything_says_so() {
        assert_eq!(Summary::default().table(&[("packets", 0)], &[("gaps", 0)], None), "0  exchanges\n0  packets\n");
    }

    #[test]
    fn rows_are_bounded_and_what_is_beyond_is_counted_together() {
        let mut summary = Summary::default();
        for number in 0..MAX_ROWS + 50 {
            record(&mut summary, &format!("OP{number}"), Outcome::Ok, Some(1));
        }
        let lines = summary.lines();
        assert_eq!(lines.len(), MAX_ROWS + 1);
        assert_eq!(lines[MAX_ROWS][..4], ["other", "other", "ok", "50"]);
    }

    #[test]
    fn names_from_traffic_are_fit_for_a_terminal() {
        assert_eq!(name("\x1b[2J"), "\\u{1b}[2J");
        assert_eq!(name(&"A".repeat(100)).chars().count(), MAX_NAME + 1);
    }
}
