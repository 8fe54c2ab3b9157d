//! Records of a Kafka topic, partition by partition, from the beginning or from now on.
//!
//! Partitions are assigned by hand: no consumer group forms, nothing is committed, and no other reader notices. Without
//! `follow`, the end of each partition is asked for first, and reading ends when all of them are reached; what is
//! published meanwhile is for the next time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::record::format_of_value;
use super::{ReadError, Reading};
use crate::config;
use crate::publish::{self, NO_TOKEN_FILE, PublishError, TokenFile};

/// For how long to wait for a record before what was read is flushed.
const POLL: Duration = Duration::from_millis(100);
/// Errors that are looked at for the last of them.
const MAX_ERRORS_AT_HAND: usize = 100;

/// A topic, and what of it is read.
#[derive(Debug)]
pub struct Topic<'a> {
    /// Brokers, timeouts and security; of the topic's settings, none is for readers.
    pub kafka: &'a config::Kafka,
    /// Its name.
    pub name: &'a str,
    /// Where to begin.
    pub from: From,
    /// Go on at the end, with what is published from then on.
    pub follow: bool,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum From {
    /// The oldest record that the topic still has
    #[default]
    Beginning,
    /// Behind the newest
    End,
}

/// A topic cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// A setting that librdkafka refuses.
    #[error("kafka: {0}; check kafka.librdkafka_options")]
    Setting(String),
    /// What proves who podtap is cannot be read.
    #[error(transparent)]
    Security(#[from] PublishError),
    /// No broker answers.
    #[error("kafka: no answer from {brokers} within {waited}{last}; check the address and the security settings")]
    Unreachable {
        /// As given.
        brokers: String,
        /// How long.
        waited: String,
        /// What librdkafka said last, in brackets.
        last: String,
    },
    /// The topic cannot be read.
    #[error("kafka: topic {topic:?} on {brokers}: {reason}")]
    Refused {
        /// As given.
        topic: String,
        /// As given.
        brokers: String,
        /// Why, and what to do.
        reason: String,
    },
}

impl Topic<'_> {
    /// Reads to the end, to the count or for ever.
    pub(super) fn read(&self, reading: &mut Reading<'_>) -> Result<(), ReadError> {
        let consumer = self.connect()?;
        let mut left = self.assign(&consumer)?;
        let mut last_progress = Instant::now();
        while self.follow || !left.is_empty() {
            match consumer.poll(POLL) {
                Some(Ok(record)) => {
                    last_progress = Instant::now();
                    let (partition, offset) = (record.partition(), record.offset());
                    // Past the end that this run reads to.
                    if !self.follow && left.get(&partition).is_none_or(|&end| offset >= end) {
                        left.remove(&partition);
                        continue;
                    }
                    let value = record.payload().unwrap_or_default();
                    let headers = record.headers();
                    let content_type =
                        headers.and_then(|headers| headers.iter().find(|header| header.key == "content-type")?.value);
                    let place = |at: usize| format!("{}: partition {partition}, offset {offset}, byte {at}", self.name);
                    if reading.take(format_of_value(content_type, value), value, place)?.is_break() {
                        return Ok(());
                    }
                    if left.get(&partition).is_some_and(|&end| offset + 1 >= end) {
                        left.remove(&partition);
                    }
                }
                // The last offsets may be of no record: markers of transactions, or compacted away.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    last_progress = Instant::now();
                    left.remove(&partition);
                }
                Some(Err(error)) if !may_pass(&error) => return Err(self.refused(&error).into()),
                Some(Err(_)) | None => {
                    reading.pause()?;
                    if !self.follow && last_progress.elapsed() > self.kafka.timeout.0 {
                        return Err(self.unreachable(&consumer, self.kafka.timeout).into());
                    }
                }
            }
        }
        Ok(())
    }

    fn connect(&self) -> Result<BaseConsumer<Log>, TopicError> {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", self.kafka.brokers.join(","))
            .set("client.id", &self.kafka.client_id)
            // librdkafka wants one; without a subscription and commits there is no such group.
            .set("group.id", "podtap-read")
            .set("socket.keepalive.enable", "true")
            .set("enable.metrics.push", "false")
            // librdkafka's own bound is 64 MiB for each partition.
            .set("queued.max.messages.kbytes", (16 << 10).to_string())
            .set_log_level(RDKafkaLogLevel::Info);
        publish::set_security(&mut client, self.kafka)?;
        for (name, value) in &self.kafka.librdkafka_options.0 {
            client.set(name, value);
        }
        client
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true");
        let token = TokenFile::of(self.kafka)?;
        let by_token = token.is_some();
        let consumer = BaseConsumer::from_config_and_context(&client, Log { token, ..Log::default() })
            .map_err(|error| TopicError::Setting(publish::setting_error(&error)))?;
        // The token is asked for by the queue of the records, and what is asked of brokers meanwhile waits for it.
        let begun = Instant::now();
        while by_token && !consumer.context().has_token.load(Ordering::Relaxed) {
            drop(consumer.poll(POLL));
            if begun.elapsed() > self.kafka.connect_timeout.0 {
                return Err(self.unreachable(&consumer, self.kafka.connect_timeout));
            }
        }
        Ok(consumer)
    }

    /// Assigns all partitions; returns the end of each that holds anything to read, where reading ends.
    fn assign(&self, consumer: &BaseConsumer<Log>) -> Result<HashMap<i32, i64>, TopicError> {
        let wait = self.kafka.connect_timeout;
        let silent = |_| self.unreachable(consumer, wait);
        let metadata = consumer.fetch_metadata(Some(self.name), wait.0).map_err(silent)?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.name);
        let refused = topic.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from);
        if let Some(code) = refused {
            return Err(self.refused(&KafkaError::MessageConsumption(code)));
        }
        let (mut partitions, mut ends) = (TopicPartitionList::new(), HashMap::new());
        for partition in topic.map(|topic| topic.partitions()).unwrap_or_default() {
            let (low, high) = consumer.fetch_watermarks(self.name, partition.id(), wait.0).map_err(silent)?;
            let begin = match self.from {
                From::Beginning => low,
                From::End => high,
            };
            if begin < high {
                ends.insert(partition.id(), high);
            }
            let added = partitions.add_partition_offset(self.name, partition.id(), Offset::Offset(begin));
            added.map_err(|error| self.refused(&error))?;
        }
        consumer.assign(&partitions).map_err(|error| self.refused(&error))?;
        Ok(ends)
    }

    fn unreachable(&self, consumer: &BaseConsumer<Log>, waited: config::HumanDuration) -> TopicError {
        // What went wrong comes by the queue of the records; that nothing is returned does not mean that it is empty.
        for _ in 0..MAX_ERRORS_AT_HAND {
            drop(consumer.poll(Duration::ZERO));
        }
        let last = consumer.context().last_error();
        TopicError::Unreachable { brokers: self.kafka.brokers.join(","), waited: waited.to_string(), last }
    }

    fn refused(&self, error: &KafkaError) -> TopicError {
        let reason = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                "there is none; check the name".to_owned()
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                "access is denied; give this client's principal the right to read and describe it".to_owned()
            }
            _ => error.to_string(),
        };
        TopicError::Refused { topic: self.name.to_owned(), brokers: self.kafka.brokers.join(","), reason }
    }
}

/// Does librdkafka go on by itself? Of what does not pass, the reader is to know; what stays away shows as a timeout.
fn may_pass(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| {
        matches!(
            code,
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                // The group is not used.
                | RDKafkaErrorCode::GroupAuthorizationFailed
        )
    })
}

/// What librdkafka says, from its own threads.
#[derive(Default)]
struct Log {
    /// The last error that was of no record: a connection that failed, say.
    last_error: Mutex<String>,
    /// What proves who this client is, where that is by a token.
    token: Option<TokenFile>,
    /// Whether that was asked for, and given.
    has_token: AtomicBool,
}

impl Log {
    /// In brackets, or nothing.
    fn last_error(&self) -> String {
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_empty() { String::new() } else { format!(" ({last})") }
    }
}

impl ClientContext for Log {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let token = self.token.as_ref().ok_or(NO_TOKEN_FILE)?.token()?;
        self.has_token.store(true, Ordering::Relaxed);
        Ok(token)
    }

    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "librdkafka: {reason}");
        // "All brokers down" says less than what came before it.
        let says_nothing = matches!(error, KafkaError::Global(RDKafkaErrorCode::AllBrokersDown));
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if !says_nothing || last.is_empty() {
            *last = reason.lines().collect::<Vec<_>>().join(" ");
        }
    }
}

impl ConsumerContext for Log {}
