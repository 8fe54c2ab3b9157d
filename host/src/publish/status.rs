//! How an output is doing, for whoever looks from another thread.

use std::collections::BTreeMap;
use std::time::Duration;

/// An output as another thread sees it.
pub trait Watched: Send + Sync {
    /// How it is just now.
    fn status(&self) -> OutputStatus;
}

/// Where an output leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Apache Kafka.
    Kafka,
    /// A file.
    File,
    /// Standard output.
    StandardOutput,
}

impl Target {
    /// As a word.
    pub fn name(self) -> &'static str {
        match self {
            Target::Kafka => "kafka",
            Target::File => "file",
            Target::StandardOutput => "standard_output",
        }
    }
}

/// How an output is.
#[derive(Clone, Debug)]
pub struct OutputStatus {
    /// Where it leads.
    pub target: Target,
    /// Bytes in its queue, and taken from it but not done.
    pub queue_bytes: u64,
    /// Events in its queue.
    pub queue_events: u64,
    /// Events that arrived.
    pub delivered: u64,
    /// Events that did not, by reason.
    pub failed: BTreeMap<String, u64>,
    /// What else there is to say of Kafka.
    pub kafka: Option<KafkaStatus>,
}

/// How sending to Kafka goes.
#[derive(Clone, Debug, Default)]
pub struct KafkaStatus {
    /// Events that librdkafka has and nobody has acknowledged.
    pub in_flight: u64,
    /// For how long nothing was acknowledged, while there was something to be.
    pub silent_for: Duration,
    /// The last error that librdkafka gave, in brackets; empty: none.
    pub last_error: String,
    /// The spool, where there is one.
    pub spool: Option<SpoolStatus>,
}

/// What a spool holds and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolStatus {
    /// Bytes of its files.
    pub bytes: u64,
    /// Events of earlier runs that were found in it.
    pub recovered: u64,
    /// Events that the disk refused, at first or for good.
    pub bypassed: u64,
    /// Bytes of earlier runs that were no whole events.
    pub damaged_bytes: u64,
}
