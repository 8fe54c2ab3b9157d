//! How sending goes, as the thread that sends leaves it now and then for whoever looks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::reports::Reports;
use crate::publish::queue::Queue;
use crate::publish::{KafkaStatus, OutputStatus, SpoolStatus, Target, Watched};

/// What the sender says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Records that librdkafka took.
    pub(super) sent: u64,
    /// Events lost before librdkafka, by reason.
    pub(super) lost: BTreeMap<String, u64>,
    /// Since when nothing was acknowledged, while something was to be.
    pub(super) silent_since: Option<Instant>,
    pub(super) spool: Option<SpoolStatus>,
}

/// Sending as another thread sees it. Clones share it.
#[derive(Clone)]
pub(super) struct Watch {
    progress: Arc<Mutex<Progress>>,
    queue: Arc<Queue>,
    reports: Reports,
}

impl Watch {
    pub(super) fn new(queue: Arc<Queue>, reports: Reports) -> Watch {
        Watch { progress: Arc::default(), queue, reports }
    }

    pub(super) fn tell(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

impl Watched for Watch {
    fn status(&self) -> OutputStatus {
        let Progress { sent, lost, silent_since, spool } =
            self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (queue_bytes, queue_events) = self.queue.held();
        let last_error = self.reports.last_error();
        let (delivered, settled, mut failed) = {
            let counts = self.reports.lock();
            (counts.delivered, counts.settled, counts.failed.clone())
        };
        for (reason, count) in lost {
            *failed.entry(reason).or_default() += count;
        }
        let kafka = KafkaStatus {
            // What the sender says of itself may be a moment old.
            in_flight: sent.saturating_sub(settled),
            silent_for: silent_since.map(|since| since.elapsed()).unwrap_or_default(),
            last_error,
            spool,
        };
        OutputStatus { target: Target::Kafka, queue_bytes, queue_events, delivered, failed, kafka: Some(kafka) }
    }
}
