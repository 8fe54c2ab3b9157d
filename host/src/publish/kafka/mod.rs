//! Events to Apache Kafka through librdkafka, with every acknowledgement counted.
//!
//! ```text
//!  publish ──> queue (bounded) ──> sender ──> librdkafka (bounded) ──> brokers
//!                                    │  ^                                 │
//!                                    v  └── delivery reports <────────────┘
//!                                  spool, where there is one
//! ```
//!
//! An event is encoded once, into the queue. Invariant: accepted + recovered from the spool = delivered + failed + left in
//! the spool. The records are sent by an idempotent producer, so that its own retries make no duplicates.

mod client;
mod progress;
mod reports;
mod sender;
mod token;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use self::client::Client;
pub(crate) use self::client::{LIBRDKAFKA_RECORD_BYTES, librdkafka_queue, set_security, setting_error};
use self::reports::Reports;
pub(crate) use self::reports::TOPIC_PATIENCE;
use self::sender::{Sender, Sent, Watch};
pub(crate) use self::token::{NO_TOKEN_FILE, TokenFile};
pub(crate) use self::topics::MAX_TOPICS;
use super::queue::{Filler, GivenUp, Taker};
use super::spool::Spool;
use super::{Delivery, HandOver, Output, PublishError, Traffic, Waits, Watched, record};
use crate::config::{self, PROTOCOL_IN_TOPIC, RecordKey};
use crate::event::{Event, Format, Value};

/// The reason of events that were given up.
const NOT_ACKNOWLEDGED: &str = "not_acknowledged_in_time";

/// Publishes to a topic.
pub struct Kafka {
    filler: Filler,
    thread: Option<JoinHandle<Sent>>,
    progress: progress::Watch,
    format: Format,
    key: RecordKey,
    /// Of key and value, as librdkafka takes them.
    max_record_bytes: usize,
    /// Of another one, which knows what becomes of the thread.
    is_branch: bool,
    /// What the thread did, once it has ended.
    sent: Sent,
}

impl Kafka {
    /// Are there settings that librdkafka does not know, or values that it does not take? No broker is asked.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(config: &config::Kafka, waits: &Waits) -> Result<(), PublishError> {
        client::check(config, waits)
    }

    /// Connects. Where traffic is recorded it asks for the topic: what cannot work fails here, before any event is lost.
    /// Where it is live, brokers may come later.
    ///
    /// # Errors
    /// Of the settings, the spool's directory, and where traffic is recorded, of the brokers.
    pub fn open(config: &config::Kafka, spool: Option<&config::Spool>, waits: &Waits) -> Result<Kafka, PublishError> {
        let queue = waits.queue();
        let is_live = waits.traffic == Traffic::Live;
        let gives_back = is_live || spool.is_some_and(|spool| spool.directory.is_some());
        let gives_up = is_live && config.topic.contains(PROTOCOL_IN_TOPIC);
        let reports = Reports::new(queue.clone(), gives_back, gives_up, TokenFile::of(config)?);
        let client = Client::new(config, waits, &reports)?;
        if !is_live {
            client.check_topic(config.connect_timeout, &reports)?;
        }
        let spool = spool.map(|spool| Spool::open(spool, waits.traffic)).transpose()?.flatten();
        let progress = progress::Watch::new(queue.clone(), reports.clone());
        let sender = Sender {
            queue: queue.clone(),
            client,
            reports,
            spool,
            traffic: waits.traffic,
            stop: waits.stop.clone(),
            timeout: config.timeout,
            waiting: None,
            sent: 0,
            refused: BTreeMap::new(),
            room_at: 0,
            looked: None,
            paused_until: None,
            watch: Watch::new(is_live.then_some(config.connect_timeout.0)),
            progress: progress.clone(),
            told: None,
        };
        let taker = Taker(queue.clone());
        let run = move || {
            // Whoever waits for room is told when this ends, whyever it does.
            let _taker = taker;
            sender.run()
        };
        let thread = std::thread::Builder::new().name("podtap-kafka".into()).spawn(run);
        let thread = Some(thread.map_err(|error| PublishError::KafkaFatal(error.to_string()))?);
        let (format, key, max_record_bytes) = (config.format, config.key, client::max_record_bytes(config));
        let (filler, sent) = (Filler::new(queue), Sent::default());
        Ok(Kafka { filler, thread, progress, format, key, max_record_bytes, is_branch: false, sent })
    }

    /// Appends the record again from `start` on, without as many of the largest attributes as it takes to fit. What does
    /// not fit even then is refused by librdkafka, and counted.
    fn append_smaller(&mut self, event: Event<'_>, start: usize, mut size: usize) -> Result<(), PublishError> {
        let Event::Exchange(exchange) = event else { return Ok(()) };
        let mut smaller = exchange.clone();
        smaller.loss.get_or_insert_default().truncated = true;
        while size > self.max_record_bytes {
            let attributes = &mut smaller.attributes.0;
            let length = |value: &Value<'_>| if let Value::Text(text) = value { text.len() } else { 0 };
            let Some((largest, _)) = attributes.iter().enumerate().max_by_key(|(_, (_, value))| length(value)) else {
                break;
            };
            attributes.remove(largest);
            self.filler.bytes().truncate(start);
            size = record::append_event(self.filler.bytes(), Event::Exchange(&smaller), self.key, self.format)?;
        }
        Ok(())
    }

    /// How long the thread that publishes took to hand events over.
    pub fn hand_over(&self) -> HandOver {
        self.filler.hand_over()
    }

    fn given_up(&mut self) -> PublishError {
        if self.is_branch {
            return PublishError::Ended;
        }
        let unknown = || PublishError::KafkaFatal("it was told to end".to_owned());
        self.join().unwrap_or_else(unknown)
    }

    /// Waits for the thread's end; gives why it came early, once.
    fn join(&mut self) -> Option<PublishError> {
        if let Some(thread) = self.thread.take() {
            let times = self.filler.hand_over();
            tracing::debug!(
                chunks = times.chunks(),
                p99_ns = times.percentile(99).as_nanos() as u64,
                longest_ns = times.longest().as_nanos() as u64,
                histogram = %times,
                "kafka: how long it took to hand events over"
            );
            let panicked = || Sent {
                error: Some(PublishError::KafkaFatal("the thread that sends has panicked".to_owned())),
                ..Sent::default()
            };
            self.sent = thread.join().unwrap_or_else(|_| panicked());
        }
        self.sent.error.take()
    }
}

impl Output for Kafka {
    fn publish(&mut self, event: Event<'_>) -> Result<(), PublishError> {
        let start = self.filler.bytes().len();
        let size = record::append_event(self.filler.bytes(), event, self.key, self.format)?;
        if size > self.max_record_bytes {
            self.append_smaller(event, start, size)?;
        }
        self.filler.end_event().map_err(|GivenUp| self.given_up())
    }

    fn flush(&mut self) -> Result<(), PublishError> {
        self.filler.push().map_err(|GivenUp| self.given_up())
    }

    fn branch(&self) -> Option<Box<dyn Output>> {
        Some(Box::new(Kafka {
            filler: self.filler.another(),
            thread: None,
            progress: self.progress.clone(),
            is_branch: true,
            sent: Sent::default(),
            ..*self
        }))
    }

    fn watched(&self) -> Option<Arc<dyn Watched>> {
        Some(Arc::new(self.progress.clone()))
    }

    fn finish(&mut self) -> Result<Delivery, PublishError> {
        // What keeps it from ending comes out in a moment.
        let _ = self.filler.end();
        if let Some(error) = self.join() {
            return Err(error);
        }
        let Sent { delivered, failed, spool, .. } = &self.sent;
        let mut delivery = Delivery { delivered: *delivered, failed: failed.clone(), spool: *spool };
        let (recovered, left) = spool.map_or((0, 0), |spool| (spool.recovered, spool.left));
        let known = delivery.delivered + delivery.failed_total() + left;
        delivery.fail(NOT_ACKNOWLEDGED, (self.filler.accepted() + recovered).saturating_sub(known));
        Ok(delivery)
    }
}
