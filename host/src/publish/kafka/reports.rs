//! What librdkafka reports, from its own threads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Headers, Message, Timestamp};
use rdkafka::producer::ProducerContext;

use super::token::{NO_TOKEN_FILE, TokenFile};
use crate::event::{CONNECTION_SCHEMA, EXCHANGE_SCHEMA, Format};
use crate::publish::queue::Queue;
use crate::publish::record::{self, Record};

/// How long records wait that were refused for a reason that may pass.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// A topic that takes nothing for so long is given up while others take events, and tried again each so often.
pub(crate) const TOPIC_PATIENCE: Duration = Duration::from_secs(30);

/// The reason of events whose topic was given up.
pub(super) const TOPIC_REFUSED: &str = "topic_refused";

/// The context of a producer; clones share what they know.
#[derive(Clone)]
pub(super) struct Reports(Arc<Shared>);

struct Shared {
    counts: Mutex<Counts>,
    progress: Condvar,
    /// Of the sender, to be woken.
    queue: Arc<Queue>,
    /// Whether records are given back that were refused for a reason that may pass: a topic that is not there, say.
    gives_back: bool,
    /// Whether a topic is given up that takes nothing, so that others need not wait.
    gives_up: bool,
    token: Option<TokenFile>,
}

/// Records as bytes of `record`, with their segment.
pub(super) type GivenBack = VecDeque<(usize, Vec<u8>)>;

/// Counts, and what is to be done.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) delivered: u64,
    pub(super) failed: BTreeMap<String, u64>,
    /// Delivered or failed.
    pub(super) answered: u64,
    /// Records that left librdkafka: delivered, failed or given back.
    pub(super) settled: u64,
    /// Those delivered or failed, by segment of the spool, since this was last taken.
    by_segment: BTreeMap<usize, u64>,
    given_back: GivenBack,
    /// When these may be tried again.
    retry_at: Option<Instant>,
    /// The sender is woken once so many are settled.
    wake_at: Option<u64>,
    /// The last error that was of no record: a connection that failed, say.
    last_error: String,
    /// Brokers do not believe, or take, who this client says it is.
    is_rejected: bool,
    /// No more is given back: it is the end.
    ends: bool,
    /// Topics that refused records and have taken none since, of a few that there are.
    refused: BTreeMap<String, RefusedTopic>,
}

#[derive(Debug)]
struct RefusedTopic {
    since: Instant,
    /// Its records are lost.
    is_given_up: bool,
}

impl Reports {
    /// `token`: what proves who this client is, where that is by a token.
    pub(super) fn new(queue: Arc<Queue>, gives_back: bool, gives_up: bool, token: Option<TokenFile>) -> Reports {
        let (counts, progress) = (Mutex::default(), Condvar::new());
        Reports(Arc::new(Shared { counts, progress, queue, gives_back, gives_up, token }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are right between any two statements that change them.
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Are records given back that were refused for a reason that may pass?
    pub(super) fn gives_back(&self) -> bool {
        self.0.gives_back
    }

    /// Are topics given up that take nothing?
    pub(super) fn gives_up(&self) -> bool {
        self.0.gives_up
    }

    /// A topic refuses records.
    pub(super) fn refuse_topic(&self, topic: &str) {
        self.lock().refuse(topic);
    }

    /// Has it taken nothing since it refused records?
    pub(super) fn is_refused(&self, topic: &str) -> bool {
        self.lock().refused.contains_key(topic)
    }

    /// Gives up the topics that have taken nothing for too long, if another one of those that are `usable` does not refuse
    /// what is sent to it: then it is this one, and not all that brokers have or allow. Gives their names.
    pub(super) fn give_up(&self, usable: &[&str]) -> Vec<String> {
        let mut counts = self.lock();
        let others_go = usable.iter().any(|topic| !counts.refused.contains_key(*topic));
        let is_hopeless =
            |refused: &RefusedTopic| others_go && !refused.is_given_up && refused.since.elapsed() >= TOPIC_PATIENCE;
        let hopeless = counts.refused.iter_mut().filter(|(_, refused)| is_hopeless(refused));
        hopeless
            .map(|(topic, refused)| {
                refused.is_given_up = true;
                topic.clone()
            })
            .collect()
    }

    /// Why records have to wait.
    pub(super) fn note_error(&self, error: String) {
        self.lock().last_error = error;
    }

    /// Did a broker reject what proves who this client is, since this was last asked?
    pub(super) fn take_rejected(&self) -> bool {
        std::mem::take(&mut self.lock().is_rejected)
    }

    /// From now on, nothing is given back.
    pub(super) fn end(&self) {
        self.lock().ends = true;
    }

    /// Wakes the sender when so many more are settled; gives how many that are in all.
    pub(super) fn wake_after(&self, records: u64) -> u64 {
        let mut counts = self.lock();
        let settled = counts.settled + records;
        counts.wake_at = Some(settled);
        settled
    }

    /// Is there anything to be sent again, now or later?
    pub(super) fn has_given_back(&self) -> bool {
        !self.lock().given_back.is_empty()
    }

    /// What is to be sent again; none before it is time.
    pub(super) fn take_given_back(&self) -> Option<GivenBack> {
        let mut counts = self.lock();
        let is_time = counts.retry_at.is_none_or(|moment| moment <= Instant::now());
        is_time.then(|| std::mem::take(&mut counts.given_back))
    }

    /// What could not be sent again after all.
    pub(super) fn give_back(&self, mut records: GivenBack) {
        let mut counts = self.lock();
        records.append(&mut counts.given_back);
        counts.given_back = records;
    }

    /// Records delivered or failed since the last call, by segment of the spool.
    pub(super) fn take_settled(&self) -> BTreeMap<usize, u64> {
        std::mem::take(&mut self.lock().by_segment)
    }

    /// Waits until so many are settled, for a time at most.
    pub(super) fn wait(&self, settled: u64, time: Duration) {
        let counts = self.lock();
        let open = |counts: &mut Counts| counts.settled < settled;
        drop(self.0.progress.wait_timeout_while(counts, time, open));
    }

    /// In brackets, or nothing.
    pub(super) fn last_error(&self) -> String {
        let counts = self.lock();
        if counts.last_error.is_empty() { String::new() } else { format!(" ({})", counts.last_error) }
    }
}

impl ClientContext for Reports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.0.token.as_ref().ok_or(NO_TOKEN_FILE)?.token()
    }

    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "librdkafka: {reason}");
        // "All brokers down" says less than what came before it.
        let says_nothing = matches!(error, KafkaError::Global(RDKafkaErrorCode::AllBrokersDown));
        let mut counts = self.lock();
        counts.is_rejected |=
            matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL));
        if !says_nothing || counts.last_error.is_empty() {
            counts.last_error = reason.lines().collect::<Vec<_>>().join(" ");
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, segment: usize) {
        let mut counts = self.lock();
        counts.settled += 1;
        match result {
            Ok(message) => {
                counts.delivered += 1;
                counts.answer(segment);
                if !counts.refused.is_empty() {
                    counts.refused.remove(message.topic());
                }
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                let is_lost = self.0.gives_up && is_about_the_topic(code) && counts.refuse(message.topic());
                if is_lost {
                    *counts.failed.entry(TOPIC_REFUSED.to_owned()).or_default() += 1;
                    counts.answer(segment);
                } else if counts.ends && is_purged(code) {
                    // It is counted by what is missing then, or stays in the spool.
                } else if self.0.gives_back && !is_about_the_record(code) {
                    counts.last_error = code.to_string();
                    counts.given_back.push_back((segment, bytes(message)));
                    counts.retry_at = Some(Instant::now() + RETRY);
                } else {
                    *counts.failed.entry(reason(code)).or_default() += 1;
                    counts.answer(segment);
                }
            }
        }
        let settled = counts.settled;
        let wake = counts.wake_at.take_if(|at| settled >= *at).is_some();
        drop(counts);
        if wake {
            self.0.queue.wake();
        }
        self.0.progress.notify_all();
    }
}

impl Counts {
    /// A topic refuses records. True: it is given up.
    fn refuse(&mut self, topic: &str) -> bool {
        if !self.refused.contains_key(topic) {
            self.refused.insert(topic.to_owned(), RefusedTopic { since: Instant::now(), is_given_up: false });
        }
        self.refused.get(topic).is_some_and(|refused| refused.is_given_up)
    }

    fn answer(&mut self, segment: usize) {
        self.answered += 1;
        if segment > 0 {
            *self.by_segment.entry(segment).or_default() += 1;
        }
    }
}

/// The record as it was sent.
fn bytes(message: &BorrowedMessage<'_>) -> Vec<u8> {
    let header = |name: &str| {
        let mut headers = message.headers().into_iter().flat_map(Headers::iter);
        headers.find(|header| header.key == name).and_then(|header| header.value).unwrap_or_default()
    };
    let is_connection = header("podtap-schema") == CONNECTION_SCHEMA.as_bytes();
    let is_json = header("content-type") == Format::Json.media_type().as_bytes();
    let record = Record {
        time_ms: match message.timestamp() {
            Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => ms.try_into().unwrap_or_default(),
            Timestamp::NotAvailable => 0,
        },
        schema: if is_connection { CONNECTION_SCHEMA } else { EXCHANGE_SCHEMA },
        format: if is_json { Format::Json } else { Format::Msgpack },
        protocol: header("podtap-protocol"),
        key: message.key().unwrap_or_default(),
        value: message.payload().unwrap_or_default(),
    };
    let mut bytes = Vec::new();
    record::append(&mut bytes, &record);
    bytes
}

/// Is an error the fault of the record, so that another try would end as this one did? Errs towards no.
pub(super) fn is_about_the_record(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidTimestamp
            | RDKafkaErrorCode::MessageBatchTooLarge
            | RDKafkaErrorCode::BadMessage
            | RDKafkaErrorCode::PolicyViolation
    )
}

/// Is an error the fault of the topic, so that a record of another one may be taken? Errs towards no.
pub(super) fn is_about_the_topic(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::InvalidTopic
    )
}

fn is_purged(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
}

/// The name of an error among the reasons of failed deliveries: `MessageTimedOut` is `message_timed_out`.
pub(super) fn reason(code: RDKafkaErrorCode) -> String {
    let mut name = String::new();
    for (index, letter) in format!("{code:?}").char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::Traffic;
    use crate::stop::Stop;

    #[test]
    fn a_topic_is_given_up_once_it_took_nothing_for_long_and_only_while_another_one_is_fine() {
        let reports = Reports::new(Queue::new(1, Traffic::Live, Stop::default()), true, true, None);
        reports.refuse_topic("a");
        assert!(reports.give_up(&["b"]).is_empty(), "not yet");
        reports.lock().refused.get_mut("a").unwrap().since -= TOPIC_PATIENCE;
        assert!(reports.give_up(&[]).is_empty(), "nobody says that any is fine");
        assert!(reports.give_up(&["a"]).is_empty(), "it may be there, and yet refuse what is sent");
        reports.refuse_topic("b");
        assert!(reports.give_up(&["a", "b"]).is_empty(), "all refuse");
        assert_eq!(reports.give_up(&["b", "c"]), ["a"]);
        assert!(reports.give_up(&["c"]).is_empty(), "it is said once");
        assert!(reports.lock().refuse("a") && !reports.lock().refuse("b"));
    }
}
