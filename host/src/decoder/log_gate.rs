//! How much of what a plugin writes reaches podtap's log: a bucket of tokens for each plugin, all its instances
//! together. In time of the clock, not of the packets: it is this machine's log that fills.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A line is let through each so often, and so many at once after a silence: a panic says why in one line, and a
/// decoder that panics for many connections says the same each time.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
pub(crate) const BURST: u32 = 20;

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Write,
    /// The first that is dropped: to be said.
    DropFirst,
    Drop,
}

/// Of one plugin.
#[derive(Debug, Default)]
pub(super) struct LogGate {
    bucket: Mutex<Bucket>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Bucket {
    /// When it was, or will be, full. None: it is.
    full_at: Option<Instant>,
}

impl LogGate {
    /// One line more.
    pub(super) fn line(&self, now: Instant) -> Verdict {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = bucket.full_at.map_or(now, |at| at.max(now)) + INTERVAL;
        if full_at.saturating_duration_since(now) <= INTERVAL * BURST {
            bucket.full_at = Some(full_at);
            return Verdict::Write;
        }
        if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 { Verdict::DropFirst } else { Verdict::Drop }
    }
}

/// Gates by name of the plugin.
#[derive(Debug, Default)]
pub(super) struct LogGates(Mutex<BTreeMap<String, Arc<LogGate>>>);

impl LogGates {
    /// The plugin's.
    pub(super) fn of(&self, name: &str) -> Arc<LogGate> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match gates.get(name) {
            Some(gate) => Arc::clone(gate),
            None => Arc::clone(gates.entry(name.to_owned()).or_default()),
        }
    }

    /// Lines dropped so far, of all plugins.
    pub(super) fn dropped(&self) -> u64 {
        let gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.values().map(|gate| gate.dropped.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_a_line_an_interval_and_the_first_loss_is_said_once() {
        let (gates, start) = (LogGates::default(), Instant::now());
        let lines = |name: &str, at: Duration, count: usize| {
            let gate = gates.of(name);
            let verdicts: Vec<_> = (0..count).map(|_| gate.line(start + at)).collect();
            let count = |kind| verdicts.iter().filter(|verdict| **verdict == kind).count();
            [count(Verdict::Write), count(Verdict::DropFirst), count(Verdict::Drop)]
        };
        assert_eq!(lines("a", Duration::ZERO, 50), [20, 1, 29]);
        assert_eq!(lines("a", INTERVAL * 3, 5), [3, 0, 2]);
        assert_eq!(lines("b", INTERVAL * 3, 20), [20, 0, 0]);
        assert_eq!(lines("a", INTERVAL * 100, 50), [20, 0, 30]);
        assert_eq!(gates.dropped(), 30 + 2 + 30);
    }
}
