//! Events to Apache Kafka through librdkafka, with every acknowledgement counted.
//!
//! ```text
//!  publish ──> librdkafka's queue (bounded) ──> broker
//!     ^                                            │
//!     └── waits while the queue is full <── delivery reports: acknowledged, or failed by reason
//! ```
//!
//! Invariant: accepted = delivered + failed + pending. Whoever waits, waits for progress: as long as the brokers
//! acknowledge something it goes on, and `kafka.timeout` after the last acknowledgement it gives up. The records are
//! sent by an idempotent producer, so that its own retries make no duplicates.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, PurgeConfig, ThreadedProducer};

use super::{Delivery, Output, PublishError};
use crate::config::{self, HumanDuration, LibrdkafkaOptions, RecordKey, RecordTimestamp};
use crate::event::{Encoder, Event};

/// Schemas and protocols whose record headers are kept ready.
const MAX_READY_HEADERS: usize = 64;
/// For how long a topic that is being created may be unknown.
const TOPIC_CREATION: Duration = Duration::from_secs(5);
/// How long librdkafka may try to send one record; it must not fail while others are acknowledged.
const LEAST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(300);

/// Publishes to a topic.
pub struct Kafka {
    producer: ThreadedProducer<Reports>,
    encoder: Encoder,
    brokers: String,
    topic: String,
    key: RecordKey,
    timestamp: RecordTimestamp,
    timeout: HumanDuration,
    /// Reused.
    key_text: String,
    /// By schema and protocol.
    headers: Vec<(&'static str, Option<String>, OwnedHeaders)>,
    accepted: u64,
    /// Records that librdkafka did not take, by reason.
    refused: BTreeMap<String, u64>,
    /// Set once nothing was acknowledged for so long that waiting again is of no use.
    stalled: bool,
}

impl Kafka {
    /// Connects, and asks for the topic: what cannot work fails here, before any event is lost.
    pub fn connect(config: &config::Kafka) -> Result<Kafka, PublishError> {
        let producer = ThreadedProducer::from_config_and_context(&client_config(config), Reports::default())
            .map_err(|error| PublishError::KafkaSetting(setting_error(&error)))?;
        let kafka = Kafka {
            producer,
            encoder: Encoder::new(config.format),
            brokers: config.brokers.join(","),
            topic: config.topic.clone(),
            key: config.key,
            timestamp: config.timestamp,
            timeout: config.timeout,
            key_text: String::with_capacity(64),
            headers: Vec::new(),
            accepted: 0,
            refused: BTreeMap::new(),
            stalled: false,
        };
        kafka.check_topic(config.connect_timeout)?;
        Ok(kafka)
    }

    fn check_topic(&self, connect_timeout: HumanDuration) -> Result<(), PublishError> {
        let started = Instant::now();
        let refusal = loop {
            let left = connect_timeout.0.saturating_sub(started.elapsed());
            let metadata = self.producer.client().fetch_metadata(Some(&self.topic), left);
            let metadata = metadata.map_err(|error| self.unreachable(connect_timeout, &error))?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == self.topic);
            let Some(error) = topic.and_then(|topic| topic.error()) else { return Ok(()) };
            let error = RDKafkaErrorCode::from(error);
            let being_created =
                matches!(error, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::LeaderNotAvailable);
            // Half of the time at most, so that the next question can be answered too.
            if !being_created || started.elapsed() > TOPIC_CREATION.min(connect_timeout.0 / 2) {
                break error;
            }
            // The broker tells nothing of the creation but the answer to the next question.
            std::thread::sleep(Duration::from_millis(100));
        };
        let reason = match refusal {
            RDKafkaErrorCode::UnknownTopicOrPartition => {
                "there is none, and the brokers do not create it; create the topic or correct kafka.topic".to_owned()
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                "access is denied; give this client's principal the right to write and describe it".to_owned()
            }
            error => format!("{error}; check the brokers and kafka.topic"),
        };
        Err(PublishError::KafkaTopic { topic: self.topic.clone(), brokers: self.brokers.clone(), reason })
    }

    fn unreachable(&self, waited: HumanDuration, error: &KafkaError) -> PublishError {
        let last = self.reports().last_error();
        let last = if last.is_empty() { format!(" ({error})") } else { last };
        PublishError::KafkaUnreachable { brokers: self.brokers.clone(), waited: waited.to_string(), last }
    }

    fn stalled(&mut self, pending: u64) -> PublishError {
        self.stalled = true;
        PublishError::KafkaStalled {
            brokers: self.brokers.clone(),
            waited: self.timeout.to_string(),
            pending,
            last: self.reports().last_error(),
        }
    }

    fn reports(&self) -> &Reports {
        self.producer.client().context()
    }

    fn headers_of(&mut self, schema: &'static str, protocol: Option<&str>) -> OwnedHeaders {
        let mut ready = self.headers.iter();
        if let Some((.., headers)) = ready.find(|(s, p, _)| *s == schema && p.as_deref() == protocol) {
            return headers.clone();
        }
        let header = |key, value| Header { key, value: Some(value) };
        let mut headers = OwnedHeaders::new_with_capacity(3)
            .insert(header("content-type", self.encoder.format().media_type()))
            .insert(header("podtap-schema", schema));
        if let Some(protocol) = protocol {
            headers = headers.insert(header("podtap-protocol", protocol));
        }
        if self.headers.len() < MAX_READY_HEADERS {
            self.headers.push((schema, protocol.map(str::to_owned), headers.clone()));
        }
        headers
    }

    fn refuse(&mut self, code: RDKafkaErrorCode) {
        *self.refused.entry(reason(code)).or_default() += 1;
    }
}

impl Output for Kafka {
    fn publish(&mut self, event: Event<'_>) -> Result<(), PublishError> {
        use std::fmt::Write as _;
        let headers = self.headers_of(event.schema(), event.protocol());
        self.key_text.clear();
        match self.key {
            RecordKey::Connection => self.key_text.push_str(event.connection_id()),
            RecordKey::Server => {
                if let Some(server) = event.server() {
                    // Writing to a String cannot fail.
                    let _ = write!(self.key_text, "{server}");
                }
            }
            RecordKey::None => {}
        }
        let payload = self.encoder.encode(event)?;
        let mut record = BaseRecord::<str, [u8]>::to(&self.topic).payload(payload).headers(headers);
        if !self.key_text.is_empty() {
            record = record.key(&self.key_text);
        }
        if self.timestamp == RecordTimestamp::Event {
            record = record.timestamp(i64::try_from(event.time().0 / 1_000_000).unwrap_or(i64::MAX));
        }
        let pending = loop {
            let code = match self.producer.send(record) {
                Ok(()) => {
                    self.accepted += 1;
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    // Room for a good part of the queue, so that waiter and sender do not take turns at every record.
                    let pending = self.accepted - self.producer.client().context().lock().settled();
                    if self.producer.client().context().wait(self.accepted, pending - pending / 8, self.timeout.0) {
                        continue;
                    }
                    break pending;
                }
                Err((KafkaError::MessageProduction(code), _)) => code,
                Err((error, _)) => return Err(PublishError::KafkaFatal(error.to_string())),
            };
            if code == RDKafkaErrorCode::Fatal {
                let (code, message) = self.producer.client().fatal_error().unwrap_or((code, code.to_string()));
                return Err(PublishError::KafkaFatal(format!("{message} ({})", reason(code))));
            }
            // This record cannot be sent (it is too large, say); the next one may.
            self.refuse(code);
            return Ok(());
        };
        Err(self.stalled(pending))
    }

    fn finish(&mut self) -> Result<Delivery, PublishError> {
        /// For what was purged to be reported.
        const PURGE: Duration = Duration::from_secs(2);
        if self.stalled || !self.reports().wait(self.accepted, 0, self.timeout.0) {
            self.producer.purge(PurgeConfig::default().queue().inflight());
            self.reports().wait(self.accepted, 0, PURGE);
        }
        let (delivered, mut failed) = {
            let counts = self.reports().lock();
            (counts.delivered, counts.failed.clone())
        };
        for (reason, count) in &self.refused {
            *failed.entry(reason.clone()).or_default() += count;
        }
        let pending = self.accepted.saturating_sub(delivered + failed.values().sum::<u64>());
        if pending > 0 {
            *failed.entry(NOT_ACKNOWLEDGED.to_owned()).or_default() += pending;
        }
        Ok(Delivery { delivered, failed })
    }
}

fn client_config(config: &config::Kafka) -> ClientConfig {
    let mut client = ClientConfig::new();
    let message_timeout = config.timeout.0.max(LEAST_MESSAGE_TIMEOUT).as_millis().to_string();
    client
        .set("bootstrap.servers", config.brokers.join(","))
        .set("client.id", &config.client_id)
        .set("compression.type", config.compression.name())
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", message_timeout)
        // librdkafka's own bound is 1 GiB.
        .set("queue.buffering.max.kbytes", (32 << 10).to_string())
        .set("linger.ms", "50")
        .set("batch.size", "262144")
        // As Java clients partition: a consumer may count on it.
        .set("partitioner", "murmur2_random")
        .set("enable.metrics.push", "false")
        .set("socket.keepalive.enable", "true")
        .set_log_level(RDKafkaLogLevel::Info);
    for (name, value) in &config.librdkafka_options.0 {
        client.set(name, value);
    }
    client
}

/// An error of a setting, without the value where that may be a secret.
fn setting_error(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, _, name, _) if LibrdkafkaOptions::is_secret(name) => {
            format!("librdkafka refuses the value of {name}")
        }
        KafkaError::ClientConfig(_, what, name, value) => format!("{name}: {value:?}: {}", what.trim()),
        KafkaError::ClientCreation(what) => what.trim().to_owned(),
        other => other.to_string(),
    }
}

/// The reason of records that were given up.
const NOT_ACKNOWLEDGED: &str = "not_acknowledged_in_time";

/// The name of an error among the reasons of failed deliveries: `MessageTimedOut` is `message_timed_out`.
fn reason(code: RDKafkaErrorCode) -> String {
    if matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) {
        return NOT_ACKNOWLEDGED.to_owned();
    }
    let mut name = String::new();
    for (index, letter) in format!("{code:?}").char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// What librdkafka reports, from its own threads.
#[derive(Default)]
struct Reports {
    counts: Mutex<Counts>,
    progress: Condvar,
}

#[derive(Default)]
struct Counts {
    delivered: u64,
    failed: BTreeMap<String, u64>,
    failed_total: u64,
    /// The last error that was of no record: a connection that failed, say.
    last_error: String,
}

impl Counts {
    fn settled(&self) -> u64 {
        self.delivered + self.failed_total
    }
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are right between any two statements that change them.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until at most `enough` of `accepted` records are pending. False: for `patience` nothing was reported.
    fn wait(&self, accepted: u64, enough: u64, patience: Duration) -> bool {
        let mut counts = self.lock();
        loop {
            let settled = counts.settled();
            if accepted.saturating_sub(settled) <= enough {
                return true;
            }
            let unchanged = |counts: &mut Counts| counts.settled() == settled;
            let waited = self.progress.wait_timeout_while(counts, patience, unchanged);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                return false;
            }
            counts = guard;
        }
    }

    /// In brackets, or nothing.
    fn last_error(&self) -> String {
        let counts = self.lock();
        if counts.last_error.is_empty() { String::new() } else { format!(" ({})", counts.last_error) }
    }
}

impl ClientContext for Reports {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "librdkafka: {reason}");
        // "All brokers down" says less than what came before it.
        let says_nothing = matches!(error, KafkaError::Global(RDKafkaErrorCode::AllBrokersDown));
        let mut counts = self.lock();
        if !says_nothing || counts.last_error.is_empty() {
            counts.last_error = reason.lines().collect::<Vec<_>>().join(" ");
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut counts = self.lock();
        match result {
            Ok(_) => counts.delivered += 1,
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                *counts.failed.entry(reason(code)).or_default() += 1;
                counts.failed_total += 1;
            }
        }
        drop(counts);
        self.progress.notify_all();
    }
}
