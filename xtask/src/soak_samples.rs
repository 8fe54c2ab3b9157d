//! What `cargo xtask soak` looks at, about once a second: podtap's process as Linux has it, and podtap's metrics.
//!
//! All samples go into a file as well, comma-separated.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::e2e_outages_traffic::memory_bytes;
use crate::soak_traffic::Time;
use crate::{process, sums};

/// Of one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Since the traffic began.
    pub(crate) seconds: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) connections: u64,
    /// Memory of the decoders' instances, which is a part of the resident one.
    pub(crate) decoder_bytes: u64,
    pub(crate) queue_bytes: u64,
    pub(crate) spool_bytes: u64,
    /// Published, and not yet acknowledged or lost.
    pub(crate) waiting_events: u64,
    /// How long ago as many events were published as have arrived by now: the age of the oldest one that waits, as far
    /// as they arrive in order.
    pub(crate) lag_seconds: f64,
    pub(crate) dropped_packets: u64,
    pub(crate) exchanges: u64,
}

const COLUMNS: &str = "seconds,resident_bytes,descriptors,threads,cpu_seconds,connections,decoder_bytes,queue_bytes,\
    spool_bytes,waiting_events,lag_seconds,dropped_packets,exchanges";

/// The process that is looked at.
pub(crate) struct Watched {
    pub(crate) process: u32,
    /// Of podtap's metrics.
    pub(crate) address: String,
}

impl Watched {
    /// Looks until the time is over.
    pub(crate) fn watch(&self, time: &Time, file: &Path) -> Result<Vec<Sample>> {
        let mut file = BufWriter::new(File::create(file)?);
        writeln!(file, "{COLUMNS}")?;
        let (mut samples, mut published) = (Vec::new(), Vec::new());
        while time.wait_for(Duration::from_secs(samples.len() as u64)) {
            let sample = self.sample(time.seconds(), &mut published)?;
            writeln!(file, "{}", sample.row())?;
            file.flush()?;
            samples.push(sample);
        }
        Ok(samples)
    }

    /// As podtap serves them.
    pub(crate) fn metrics(&self) -> Result<String> {
        let url = format!("http://{}/metrics", self.address);
        process::output(Command::new("curl").args(["-sf", "--max-time", "10", &url]))
    }

    /// `published`: when how many events were, from all samples so far.
    fn sample(&self, seconds: f64, published: &mut Vec<(f64, f64)>) -> Result<Sample> {
        let metrics = self.metrics()?;
        let sum = |name: &str| sums::metric(&metrics, name);
        let settled = sum("podtap_output_delivered_events_total") + sum("podtap_output_lost_events_total");
        published.push((seconds, sum("podtap_events_total")));
        let entries = |name: &str| Ok(fs::read_dir(format!("/proc/{}/{name}", self.process))?.count() as u64);
        let descriptors: Result<u64> = entries("fd");
        Ok(Sample {
            seconds,
            resident_bytes: memory_bytes(self.process, "VmRSS").context("podtap has ended")?,
            descriptors: descriptors?,
            threads: entries("task")?,
            cpu_seconds: sum("podtap_process_cpu_seconds_total"),
            connections: sum("podtap_connections_tracked") as u64,
            decoder_bytes: sum("podtap_decoder_memory_bytes") as u64,
            queue_bytes: sum("podtap_output_queue_bytes") as u64,
            spool_bytes: sum("podtap_spool_bytes") as u64,
            waiting_events: (sum("podtap_events_total") - settled).max(0.0) as u64,
            lag_seconds: lag(published, settled),
            dropped_packets: sum("podtap_packets_dropped_total") as u64,
            exchanges: sum("podtap_exchanges_total") as u64,
        })
    }
}

impl Sample {
    fn row(&self) -> String {
        let Sample { seconds, cpu_seconds, lag_seconds, .. } = self;
        let numbers = [self.connections, self.decoder_bytes, self.queue_bytes, self.spool_bytes, self.waiting_events];
        let numbers = numbers.map(|number| number.to_string()).join(",");
        format!(
            "{seconds:.1},{},{},{},{cpu_seconds:.2},{numbers},{lag_seconds:.1},{},{}",
            self.resident_bytes, self.descriptors, self.threads, self.dropped_packets, self.exchanges
        )
    }
}

/// When the event after the first `settled` ones was published, in seconds before the last sample. Between samples they
/// are taken to be published evenly.
fn lag(published: &[(f64, f64)], settled: f64) -> f64 {
    let Some(&(now, _)) = published.last() else { return 0.0 };
    let Some(after) = published.iter().position(|&(_, events)| events > settled) else { return 0.0 };
    let (until, more) = published[after];
    let (from, fewer) = after.checked_sub(1).map_or((until, 0.0), |before| published[before]);
    now - (from + (until - from) * (settled - fewer) / (more - fewer))
}

/// A part of the time.
pub(crate) struct Third {
    /// In the middle, of all values sorted.
    pub(crate) median: f64,
    pub(crate) most: f64,
}

/// What a value was in each third of the time.
pub(crate) fn thirds(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> [Third; 3] {
    let length = samples.len();
    [0, 1, 2].map(|third| {
        let mut values: Vec<f64> = samples[length * third / 3..length * (third + 1) / 3].iter().map(&value).collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(0.0);
        Third { median: at(values.len() / 2), most: at(values.len().saturating_sub(1)) }
    })
}

#[cfg(test)]
mod tests {
    use super::{Sample, lag, thirds};

    #[test]
    fn the_lag_is_the_age_of_what_was_published_first_and_waits() {
        let published = [(0.0, 0.0), (1.0, 100.0), (2.0, 200.0), (3.0, 300.0)];
        for (settled, seconds) in [(300.0, 0.0), (400.0, 0.0), (200.0, 1.0), (150.0, 1.5), (0.0, 3.0)] {
            assert!((lag(&published, settled) - seconds).abs() < 1e-9, "{settled}");
        }
        assert!(lag(&[], 0.0).abs() < 1e-9);
    }

    #[test]
    fn a_third_is_a_third_of_the_samples() {
        let samples: Vec<Sample> = (0..9).map(|threads| Sample { threads, ..Sample::default() }).collect();
        let [first, _, last] = thirds(&samples, |sample| sample.threads as f64);
        assert_eq!([first.median, first.most, last.median, last.most], [1.0, 2.0, 7.0, 8.0]);
    }
}
