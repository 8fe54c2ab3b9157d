//! A producer of librdkafka and what it is told.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, PurgeConfig, ThreadedProducer};

use super::reports::{Reports, TOPIC_PATIENCE, TOPIC_REFUSED, is_about_the_record, is_about_the_topic, reason};
use super::topics::Topics;
use crate::config::{self, HumanDuration, LibrdkafkaOptions, RecordTimestamp, SaslMechanism};
use crate::event::Format;
use crate::publish::record::{self, First, Record};
use crate::publish::{PublishError, Traffic, Waits};

/// Schemas, formats and protocols whose record headers are kept ready.
const MAX_READY_HEADERS: usize = 64;
/// For how long a topic that is being created may be unknown.
const TOPIC_CREATION: Duration = Duration::from_secs(5);
/// How long librdkafka may try to send one record; it must not fail while others are acknowledged.
const LEAST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(300);

/// See the module.
pub(super) struct Client {
    producer: ThreadedProducer<Reports>,
    config: config::Kafka,
    waits: Waits,
    /// The files that prove who this client is, as they were when the producer was made.
    credentials: Credentials,
    pub(super) brokers: String,
    topics: Topics,
    timestamp: RecordTimestamp,
    reports: Reports,
    /// Topics whose records are lost, as others would have to wait for them, and when each was last tried.
    given_up: Vec<(String, Instant)>,
    headers: Vec<Ready>,
}

/// Headers of records of one kind.
struct Ready {
    schema: &'static str,
    format: Format,
    protocol: Box<[u8]>,
    headers: OwnedHeaders,
}

/// What librdkafka says to a record.
pub(super) enum Answer {
    /// It will be reported.
    Taken,
    /// Not now.
    NoRoom,
    /// Not for a while, for this reason: there is no such topic, say.
    NotNow(String),
    /// Never, for this reason.
    Refused(String),
    /// The producer is of no use any more.
    Fatal(String),
}

impl Client {
    /// A producer that begins to connect.
    pub(super) fn new(config: &config::Kafka, waits: &Waits, reports: &Reports) -> Result<Client, PublishError> {
        Ok(Client {
            // Before they are read: what is written meanwhile is another one.
            credentials: credentials(config),
            producer: producer(&settings(config, waits)?, reports)?,
            config: config.clone(),
            waits: waits.clone(),
            brokers: config.brokers.join(","),
            topics: Topics::new(&config.topic),
            timestamp: config.timestamp,
            reports: reports.clone(),
            given_up: Vec::new(),
            headers: Vec::new(),
        })
    }

    /// A new producer in the place of one that is of no use any more; the files that the configuration names are read anew.
    /// What the old one still had is given back or counted.
    ///
    /// # Errors
    /// The old one stays.
    pub(super) fn renew(&mut self) -> Result<(), PublishError> {
        self.credentials = credentials(&self.config);
        let producer = producer(&settings(&self.config, &self.waits)?, &self.reports)?;
        self.purge();
        self.producer = producer;
        Ok(())
    }

    /// Is a password, certificate or key another one than when the producer was made, or last to be?
    pub(super) fn has_new_credentials(&self) -> bool {
        credentials(&self.config) != self.credentials
    }

    /// Hands a record to librdkafka.
    pub(super) fn send(&mut self, record: &Record<'_>, segment: usize) -> Answer {
        let headers = self.headers_of(record);
        let topic = self.topics.of(record.protocol);
        let mut given_up = self.given_up.iter().position(|(given_up, _)| given_up == topic);
        if let Some(index) = given_up {
            let tried = &mut self.given_up[index].1;
            if !self.reports.is_refused(topic) {
                tracing::info!(topic, "kafka: the topic takes events again");
                self.given_up.swap_remove(index);
                given_up = None;
            } else if tried.elapsed() < TOPIC_PATIENCE {
                return Answer::Refused(TOPIC_REFUSED.to_owned());
            } else {
                *tried = Instant::now();
                ask_for(&self.producer, topic);
            }
        }
        let mut outgoing =
            BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, segment).payload(record.value).headers(headers);
        if !record.key.is_empty() {
            outgoing = outgoing.key(record.key);
        }
        if self.timestamp == RecordTimestamp::Event {
            outgoing = outgoing.timestamp(i64::try_from(record.time_ms).unwrap_or(i64::MAX));
        }
        let code = match self.producer.send(outgoing) {
            Ok(()) => return Answer::Taken,
            Err((KafkaError::MessageProduction(code), _)) => code,
            Err((error, _)) => return Answer::Fatal(error.to_string()),
        };
        match code {
            RDKafkaErrorCode::QueueFull => Answer::NoRoom,
            RDKafkaErrorCode::Fatal => {
                let (code, message) = self.producer.client().fatal_error().unwrap_or((code, code.to_string()));
                Answer::Fatal(format!("{message} ({})", reason(code)))
            }
            // The topic is known not to be usable.
            code if self.reports.gives_back() && !is_about_the_record(code) => {
                if self.reports.gives_up() && is_about_the_topic(code) {
                    self.reports.refuse_topic(topic);
                    if given_up.is_some() {
                        return Answer::Refused(TOPIC_REFUSED.to_owned());
                    }
                }
                Answer::NotNow(code.to_string())
            }
            // This record cannot be sent (it is too large, say); the next one may.
            code => Answer::Refused(reason(code)),
        }
    }

    /// As configured.
    pub(super) fn topic(&self) -> &str {
        self.topics.pattern()
    }

    /// Of records that wait, the topics are used as well: they may be fine where that of the first is not.
    pub(super) fn learn_topics(&mut self, mut bytes: &[u8]) {
        while let First::Record(record, length) = record::first(bytes, false) {
            self.topics.of(record.protocol);
            bytes = bytes.get(length..).unwrap_or_default();
        }
    }

    /// Are topics given up that take nothing?
    pub(super) fn gives_up(&self) -> bool {
        self.reports.gives_up()
    }

    /// Asks for the topics, whose state librdkafka otherwise takes for known for minutes. One that has taken nothing for long
    /// is given up then, where others are fine.
    pub(super) fn ask_for_topics(&mut self) {
        let mut usable = Vec::new();
        for topic in self.topics.used() {
            match ask_for(&self.producer, topic) {
                Some(true) => usable.push(topic),
                Some(false) => {}
                // Nor would there be an answer about the next one.
                None => break,
            }
        }
        if !self.gives_up() {
            return;
        }
        for topic in self.reports.give_up(&usable) {
            let last = self.reports.last_error();
            tracing::error!(
                topic,
                "kafka: the topic takes no events{last}: they are lost from now on, and those for other topics go on; \
                 create the topic, or give this client's principal the right to write to it"
            );
            self.given_up.push((topic, Instant::now()));
        }
    }

    /// Lets go of all records: they are reported.
    pub(super) fn purge(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }

    fn headers_of(&mut self, record: &Record<'_>) -> OwnedHeaders {
        let Record { schema, format, protocol, .. } = *record;
        let is_it = |it: &&Ready| it.schema == schema && it.format == format && *it.protocol == *protocol;
        if let Some(ready) = self.headers.iter().find(is_it) {
            return ready.headers.clone();
        }
        let mut headers = OwnedHeaders::new_with_capacity(3)
            .insert(Header { key: "content-type", value: Some(format.media_type()) })
            .insert(Header { key: "podtap-schema", value: Some(schema) });
        if !protocol.is_empty() {
            headers = headers.insert(Header { key: "podtap-protocol", value: Some(protocol) });
        }
        if self.headers.len() < MAX_READY_HEADERS {
            self.headers.push(Ready { schema, format, protocol: protocol.into(), headers: headers.clone() });
        }
        headers
    }

    /// Asks the brokers for the topic: what cannot work fails here, before any event is lost. Where each protocol has its
    /// own, none is known yet: then that brokers answer is all.
    pub(super) fn check_topic(&self, connect_timeout: HumanDuration, reports: &Reports) -> Result<(), PublishError> {
        let started = Instant::now();
        let Some(topic_name) = self.topics.single() else {
            let answer = self.producer.client().fetch_cluster_id(connect_timeout.0);
            let silence = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
            return answer.map(drop).ok_or_else(|| self.unreachable(connect_timeout, &silence, reports));
        };
        let refusal = loop {
            let left = connect_timeout.0.saturating_sub(started.elapsed());
            let metadata = self.producer.client().fetch_metadata(Some(topic_name), left);
            let metadata = metadata.map_err(|error| self.unreachable(connect_timeout, &error, reports))?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == topic_name);
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
        Err(PublishError::KafkaTopic { topic: topic_name.to_owned(), brokers: self.brokers.clone(), reason })
    }

    fn unreachable(&self, waited: HumanDuration, error: &KafkaError, reports: &Reports) -> PublishError {
        let last = reports.last_error();
        let last = if last.is_empty() { format!(" ({error})") } else { last };
        PublishError::KafkaUnreachable { brokers: self.brokers.clone(), waited: waited.to_string(), last }
    }
}

/// Inode and time of the last change of each file; none where there is none.
type Credentials = [Option<(u64, i64, i64)>; 4];

fn credentials(config: &config::Kafka) -> Credentials {
    let files = [&config.sasl_password_file, &config.tls_ca_file, &config.tls_certificate_file, &config.tls_key_file];
    files.map(|file| {
        let metadata = file.as_ref()?.metadata().ok()?;
        Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
    })
}

/// Is there such a topic, for this client? None: nobody says.
fn ask_for(producer: &ThreadedProducer<Reports>, topic: &str) -> Option<bool> {
    /// The sender waits for it.
    const PATIENCE: Duration = Duration::from_secs(1);
    match producer.client().fetch_metadata(Some(topic), PATIENCE) {
        Ok(metadata) => Some(metadata.topics().iter().any(|it| it.name() == topic && it.error().is_none())),
        Err(error) => {
            tracing::debug!(%error, topic, "kafka: no answer about the topic");
            None
        }
    }
}

fn producer(settings: &ClientConfig, reports: &Reports) -> Result<ThreadedProducer<Reports>, PublishError> {
    ThreadedProducer::from_config_and_context(settings, reports.clone())
        .map_err(|error| PublishError::KafkaSetting(setting_error(&error)))
}

/// Every name and value, without a client.
pub(super) fn check(config: &config::Kafka, waits: &Waits) -> Result<(), PublishError> {
    let settings = settings(config, waits)?.create_native_config();
    settings.map(drop).map_err(|error| PublishError::KafkaSetting(setting_error(&error)))
}

fn settings(config: &config::Kafka, waits: &Waits) -> Result<ClientConfig, PublishError> {
    let mut client = ClientConfig::new();
    let (queue_bytes, queue_records) = librdkafka_queue(waits.queue_bytes);
    let message_timeout = match waits.traffic {
        Traffic::Recorded => config.timeout.0.max(LEAST_MESSAGE_TIMEOUT).as_millis(),
        // As long as it takes.
        Traffic::Live => 0,
    };
    client
        .set("bootstrap.servers", config.brokers.join(","))
        .set("client.id", &config.client_id)
        .set("compression.type", config.compression.name())
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", message_timeout.to_string())
        // librdkafka's own bound is 1 GiB.
        .set("queue.buffering.max.kbytes", (queue_bytes >> 10).to_string())
        // What it needs for each record beside its bytes counts as well, if not for that bound.
        .set("queue.buffering.max.messages", queue_records.to_string())
        .set("linger.ms", "50")
        .set("batch.size", "262144")
        // As Java clients partition: a consumer may count on it.
        .set("partitioner", "murmur2_random")
        .set("enable.metrics.push", "false")
        .set("socket.keepalive.enable", "true")
        .set_log_level(RDKafkaLogLevel::Info);
    set_security(&mut client, config)?;
    for (name, value) in &config.librdkafka_options.0 {
        client.set(name, value);
    }
    Ok(client)
}

/// The largest key and value, together, that librdkafka takes.
pub(super) fn max_record_bytes(config: &config::Kafka) -> usize {
    /// librdkafka's own default.
    const USUAL: usize = 1_000_000;
    config.librdkafka_options.0.get("message.max.bytes").and_then(|text| text.parse().ok()).unwrap_or(USUAL)
}

/// TLS and SASL, of a producer or a consumer.
pub(crate) fn set_security(client: &mut ClientConfig, config: &config::Kafka) -> Result<(), PublishError> {
    let protocol = match (config.tls, config.sasl_mechanism.is_some()) {
        (false, false) => return Ok(()),
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    client.set("security.protocol", protocol);
    let files = [
        ("ssl.ca.location", &config.tls_ca_file),
        ("ssl.certificate.location", &config.tls_certificate_file),
        ("ssl.key.location", &config.tls_key_file),
    ];
    for (name, file) in files {
        if let Some(file) = file {
            client.set(name, file.to_string_lossy());
        }
    }
    if let Some(mechanism) = config.sasl_mechanism {
        client.set("sasl.mechanism", mechanism.name());
        if mechanism == SaslMechanism::Oauthbearer {
            // The client's context has it.
            return Ok(());
        }
        let password = match &config.sasl_password_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| PublishError::KafkaPassword { path: path.clone(), source })?,
            None => config.sasl_password.0.clone(),
        };
        client.set("sasl.username", &config.sasl_username);
        client.set("sasl.password", password.trim_end_matches(['\r', '\n']));
    }
    Ok(())
}

/// Bytes of records' values that librdkafka holds at most, and how many records. Twice what waits in podtap's own queue, of
/// `queue_bytes`, within bounds.
pub(crate) fn librdkafka_queue(queue_bytes: usize) -> (usize, usize) {
    let bytes = queue_bytes.saturating_mul(2).clamp(4 << 20, 32 << 20);
    (bytes, bytes / (32 << 10) * 50_000 / (1 << 10))
}

/// What librdkafka needs for a record beside its value: key, headers and its own. Measured, some 850.
pub(crate) const LIBRDKAFKA_RECORD_BYTES: usize = 1 << 10;

/// An error of a setting, without the value where that may be a secret.
pub(crate) fn setting_error(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, _, name, _) if LibrdkafkaOptions::is_secret(name) => {
            format!("librdkafka refuses the value of {name}")
        }
        KafkaError::ClientConfig(_, what, name, value) => format!("{name}: {value:?}: {}", what.trim()),
        KafkaError::ClientCreation(what) => what.trim().to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::publish::queue::Queue;

    fn client(password: &Path) -> Client {
        let config = config::Kafka {
            brokers: vec!["127.0.0.1:1".to_owned()],
            topic: "t".to_owned(),
            sasl_mechanism: Some(SaslMechanism::Plain),
            sasl_username: "me".to_owned(),
            sasl_password_file: Some(password.to_owned()),
            ..config::Kafka::default()
        };
        let waits = Waits { traffic: Traffic::Live, ..Waits::recorded(&Config::default()) };
        let reports = Reports::new(Queue::new(1, waits.traffic, waits.stop.clone()), true, false, None);
        Client::new(&config, &waits, &reports).unwrap()
    }

    #[test]
    fn a_password_that_was_replaced_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let [password, next] = ["password", "next"].map(|name| folder.path().join(name));
        std::fs::write(&password, "one\n").unwrap();
        let mut client = client(&password);
        assert!(!client.has_new_credentials());
        // As Kubernetes replaces a mounted secret.
        std::fs::write(&next, "two\n").unwrap();
        std::fs::rename(&next, &password).unwrap();
        assert!(client.has_new_credentials());
        assert_eq!(settings(&client.config, &client.waits).unwrap().get("sasl.password"), Some("two"));
        client.renew().unwrap();
        assert!(!client.has_new_credentials());
        // Without it, the producer there is stays, and what is wrong is said once.
        std::fs::remove_file(&password).unwrap();
        assert!(client.has_new_credentials() && client.renew().is_err() && !client.has_new_credentials());
    }
}
