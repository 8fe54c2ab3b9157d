//! How long the thread that decodes takes to hand its events over: the one place where an output could keep it waiting.
//!
//! It is measured for each chunk and not for each event, so that it may be measured always: twice the clock for some
//! 256 KiB of events.

use std::fmt;
use std::time::Duration;

/// A histogram of the times that handing over took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandOver {
    /// Those within each bound, and within none below it; the last: beyond all.
    counts: [u64; HandOver::BOUNDS.len() + 1],
    longest: Duration,
}

impl HandOver {
    /// Upper bounds of the buckets, inclusive.
    pub const BOUNDS: [Duration; 7] = [
        Duration::from_micros(1),
        Duration::from_micros(10),
        Duration::from_micros(100),
        Duration::from_millis(1),
        Duration::from_millis(10),
        Duration::from_millis(100),
        Duration::from_secs(1),
    ];

    pub(super) fn add(&mut self, took: Duration) {
        let bucket = Self::BOUNDS.iter().position(|&bound| took <= bound).unwrap_or(Self::BOUNDS.len());
        self.counts[bucket] += 1;
        self.longest = self.longest.max(took);
    }

    /// Those of another, too.
    pub(super) fn add_all(&mut self, other: &HandOver) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.longest = self.longest.max(other.longest);
    }

    /// Chunks that were handed over.
    pub fn chunks(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest time.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// A time within which this many of a hundred were: the bound of a bucket, or the longest where that is less.
    pub fn percentile(&self, percent: u64) -> Duration {
        let wanted = (self.chunks() * percent).div_ceil(100);
        let mut so_far = 0;
        let mut buckets = self.counts.iter().zip(Self::BOUNDS);
        let within = |(&count, bound): (&u64, Duration)| {
            so_far += count;
            (so_far >= wanted).then_some(bound)
        };
        buckets.find_map(within).unwrap_or(self.longest).min(self.longest)
    }
}

impl fmt::Display for HandOver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (count, bound) in self.counts.iter().zip(Self::BOUNDS).filter(|(count, _)| **count > 0) {
            write!(formatter, "{separator}{count} within {bound:?}")?;
            separator = ", ";
        }
        match self.counts.last() {
            Some(&beyond) if beyond > 0 => write!(formatter, "{separator}{beyond} longer"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_by_bucket() {
        let mut times = HandOver::default();
        assert_eq!((times.chunks(), times.percentile(99), times.to_string()), (0, Duration::ZERO, String::new()));
        (0..98).for_each(|_| times.add(Duration::from_micros(2)));
        assert_eq!(times.percentile(99), Duration::from_micros(2));
        times.add(Duration::from_micros(100));
        times.add(Duration::from_secs(7));
        assert_eq!((times.chunks(), times.longest()), (100, Duration::from_secs(7)));
        assert_eq!(times.percentile(50), Duration::from_micros(10));
        assert_eq!(times.percentile(99), Duration::from_micros(100));
        assert_eq!(times.percentile(100), Duration::from_secs(7));
        assert_eq!(times.to_string(), "98 within 10µs, 1 within 100µs, 1 longer");
    }
}
