//! Durations of many exchanges in little memory, and their percentiles.
//!
//! The one place that says how precise a percentile is, so that the same exchanges have the same ones wherever they are
//! shown: two digits that count, from a microsecond (less is not told apart) to an hour (more counts as an hour).

use hdrhistogram::Histogram;

const LEAST_NS: u64 = 1_000;
const MOST_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 2;

/// Durations, each counted in a bucket; takes about 13 kB. There always is a histogram: it is refused only for bounds that are
/// the wrong way round, and for more than five digits.
#[derive(Clone, Debug)]
pub struct Latencies(Option<Histogram<u32>>);

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(Histogram::new_with_bounds(LEAST_NS, MOST_NS, DIGITS).ok())
    }
}

impl Latencies {
    /// Counts one, ns. Allocates nothing.
    pub fn record(&mut self, ns: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(ns);
        }
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The duration, ns, that this share of them (0 to 1) does not exceed; none where there are none.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        self.recorded().map(|histogram| histogram.value_at_quantile(share))
    }

    /// The histogram, where something is in it.
    fn recorded(&self) -> Option<&Histogram<u32>> {
        self.0.as_ref().filter(|histogram| !histogram.is_empty())
    }

    /// The median, the 95th and the 99th percentile.
    pub fn percentiles(&self) -> [Option<u64>; 3] {
        [0.5, 0.95, 0.99].map(|share| self.quantile(share))
    }

    /// The longest, ns.
    pub fn longest(&self) -> Option<u64> {
        self.recorded().map(Histogram::max)
    }

    /// Those of another, too.
    pub fn add(&mut self, other: &Latencies) {
        if let (Some(histogram), Some(other)) = (&mut self.0, &other.0) {
            // All have the same bounds; where they had not, nothing would be added.
            let _ = histogram.add(other);
        }
    }

    /// How many lie below each of some durations, ns, and not below the one before; beyond the last are the others. The
    /// durations come in ascending order.
    pub fn spread(&self, edges: &[u64]) -> Vec<u64> {
        let mut counts = vec![0; edges.len() + 1];
        for bucket in self.0.iter().flat_map(Histogram::iter_recorded) {
            let value = bucket.value_iterated_to();
            counts[edges.partition_point(|&edge| edge <= value)] += bucket.count_since_last_iteration();
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn percentiles_of_parts_put_together_are_those_of_the_whole() {
        let mut whole = Latencies::default();
        let mut parts = [Latencies::default(), Latencies::default()];
        assert_eq!(whole.percentiles(), [None; 3]);
        for ms in 1..=1000 {
            whole.record(ms * MS);
            parts[(ms % 2) as usize].record(ms * MS);
        }
        let [mut one, other] = parts;
        one.add(&other);
        assert_eq!(one.percentiles(), whole.percentiles());
        let [p50, p95, p99] = whole.percentiles().map(Option::unwrap);
        for (found, ms) in [(p50, 500), (p95, 950), (p99, 990)] {
            assert!(found.abs_diff(ms * MS) <= ms * MS / 100, "{found}");
        }
    }

    #[test]
    fn every_duration_is_in_one_part_of_the_spread() {
        let mut latencies = Latencies::default();
        for ns in [0, 1, 999 * MS, MS / 2, 5 * MS, 50 * MS, u64::MAX] {
            latencies.record(ns);
        }
        assert_eq!(latencies.spread(&[MS, 10 * MS, 100 * MS]), [3, 1, 1, 2]);
        assert_eq!(latencies.spread(&[]), [7]);
    }
}
