//! One decoder by itself, through which captures are replayed as podtap does it.
//!
//! In: a plugin and capture files. Out: the exchanges, and every count of the run that may not be.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use serde_json::Value;

use crate::config::Config;
use crate::decoder::{Plugin, Runtime};
use crate::event::{Encoder, Event, Format};
use crate::pipeline::{Decoders, PipelineError, Replay, Report, replay_with};
use crate::publish::{Delivery, Output, Outputs, PublishError};

/// What may not happen, whatever the packets hold.
const FAILURES: [(&str, &str); 9] = [
    ("decoder_traps", "trapped"),
    ("decoder_deadlines", "ran past its deadline"),
    ("decoder_memory_breaches", "wanted more memory than it may have"),
    ("decoder_invalid_outputs", "returned what does not add up"),
    ("decoder_oversized_outputs", "returned too much"),
    ("decoder_demands_ignored", "demanded something of a connection that it does not have"),
    ("decoder_log_lines_dropped", "wrote more log lines than are taken"),
    ("connections_blamed", "failed on a connection"),
    ("decoders_quarantined", "failed so often that it was set aside"),
];

/// It could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The replay did not go through.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// No room for a capture in memory.
    #[error("a file in memory: {0}")]
    Memory(#[from] std::io::Error),
}

/// What came of a replay.
#[derive(Debug)]
pub struct Outcome {
    /// The exchanges, each a line of JSON, in the order of their events.
    pub lines: Vec<String>,
    /// What went wrong.
    pub faults: Vec<String>,
    /// Bytes of payload that the decoder made nothing of.
    pub undecoded_bytes: u64,
}

impl Outcome {
    /// The exchanges without what segments and times decide, those of a connection together.
    pub fn exchanges(&self) -> Vec<Value> {
        let mut exchanges: Vec<Value> = self.lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        for exchange in &mut exchanges {
            let Some(fields) = exchange.as_object_mut() else { continue };
            for field in ["id", "time", "duration", "timing"] {
                fields.shift_remove(field);
            }
            if let Some(connection) = fields.get_mut("connection").and_then(Value::as_object_mut) {
                connection.shift_remove("id");
            }
        }
        exchanges.sort_by_cached_key(connection_of);
        exchanges
    }
}

/// The ends of an exchange's connection.
pub(crate) fn connection_of(exchange: &Value) -> String {
    let end = |name: &str| format!("{}:{}", exchange[name]["address"], exchange[name]["port"]);
    format!("{} {}", end("client"), end("server"))
}

/// A decoder and how it is replayed.
pub struct Bench {
    decoders: Decoders,
    config: Config,
    /// In memory; replayed by its name, as any other.
    file: File,
    name: PathBuf,
}

impl Bench {
    /// For a plugin of a runtime.
    ///
    /// # Errors
    /// When there are no files in memory.
    pub fn new(runtime: Runtime, plugin: Plugin, config: Config) -> Result<Bench, BenchError> {
        let memory = rustix::fs::memfd_create("capture", rustix::fs::MemfdFlags::CLOEXEC);
        let file = File::from(memory.map_err(std::io::Error::from)?);
        let name = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(Bench { decoders: Decoders::only(runtime, plugin), config, file, name })
    }

    /// The exchanges of a capture in memory. `batch_entries`: how much the decoder is given in a call.
    ///
    /// # Errors
    /// When the replay does not go through.
    pub fn replay_bytes(&mut self, capture: &[u8], batch_entries: u32) -> Result<Outcome, BenchError> {
        self.file.set_len(0)?;
        self.file.write_all_at(capture, 0)?;
        let usual = std::mem::replace(&mut self.config.decoder.batch_entries, batch_entries);
        let outcome = self.replay(&self.name);
        self.config.decoder.batch_entries = usual;
        outcome
    }

    /// The exchanges of a capture file.
    ///
    /// # Errors
    /// When the replay does not go through.
    pub fn replay(&self, path: &Path) -> Result<Outcome, BenchError> {
        let (sender, lines) = mpsc::channel();
        let mut outputs = Outputs::default();
        outputs.add(Collector { encoder: Encoder::new(Format::Json), lines: sender, count: 0 });
        let files = [path.to_owned()];
        let request = Replay { files: &files, filter: None, config: &self.config, progress: &mut |_| () };
        let report = replay_with(&self.decoders, request, &mut outputs)?;
        drop(outputs);
        let undecoded_bytes = report.count("payload_bytes_undecoded");
        Ok(Outcome { lines: lines.try_iter().collect(), faults: faults(&report), undecoded_bytes })
    }
}

fn faults(report: &Report) -> Vec<String> {
    let mut faults = report.problems.clone();
    for (count, what) in FAILURES {
        let times = report.count(count);
        if times > 0 {
            faults.push(format!("the decoder {what} ({count} {times})"));
        }
    }
    if !report.adds_up() {
        faults.push("podtap's counts do not add up: that is a fault of podtap's own, please report it".to_owned());
    }
    faults
}

/// Keeps events as lines of JSON.
struct Collector {
    encoder: Encoder,
    lines: mpsc::Sender<String>,
    count: u64,
}

impl Output for Collector {
    fn publish(&mut self, event: Event<'_>) -> Result<(), PublishError> {
        if let Event::Exchange(_) = event {
            let line = String::from_utf8_lossy(self.encoder.encode(event)?).into_owned();
            self.count += 1;
            // Whoever reads them waits until all have come.
            let _ = self.lines.send(line);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Delivery, PublishError> {
        Ok(Delivery { delivered: self.count, ..Delivery::default() })
    }
}
