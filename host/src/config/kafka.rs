//! Events to Apache Kafka.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

use super::secret::Secret;
use super::units::HumanDuration;
use crate::event::Format;

/// Events to Apache Kafka, one record an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// Brokers to connect to first, each as `host:port`. Without any, nothing goes to Kafka.
    pub brokers: Vec<String>,
    /// Topic of the events; needed where there are brokers. `{protocol}` in it stands for the protocol as its decoder calls
    /// it, such as `http` (`unknown` where no decoder knows a connection), so that there is a topic for each:
    /// `podtap.{protocol}`. A name of `agent.resource` in braces stands for its value: `{service.name}.events`. Every such
    /// topic has to be there, or the brokers have to create it: where traffic is live, the events of one that takes none for
    /// half a minute while others do are lost and counted (`topic_refused`), so that those for other topics can go on.
    pub topic: String,
    /// How a record's value is encoded.
    pub format: Format,
    /// The record's key, which decides about the partition: `connection` keeps the events of a connection in order,
    /// `server` keeps those of a server (address and port) together where it is known, `none` spreads them.
    pub key: RecordKey,
    /// The record's timestamp: `publish`, when it is sent; `event`, the event's `time`. Brokers may refuse
    /// times far from their own, and retention may delete old ones at once.
    pub timestamp: RecordTimestamp,
    /// Name of this client in the broker's logs, metrics and quotas.
    pub client_id: String,
    /// How long the brokers may acknowledge nothing at all, while events wait, before publishing is given up.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub timeout: HumanDuration,
    /// How long a broker may take to answer at the start.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "10m"))]
    pub connect_timeout: HumanDuration,
    /// Compression of what is sent.
    pub compression: Compression,
    /// Whether connections to the brokers are encrypted (TLS). The brokers' certificates and names are checked.
    pub tls: bool,
    /// PEM file with the certificates that brokers' certificates are checked against; not set: those of the system.
    pub tls_ca_file: Option<PathBuf>,
    /// PEM file with this client's certificate, where brokers ask for one.
    pub tls_certificate_file: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    pub tls_key_file: Option<PathBuf>,
    /// How this client proves who it is, where brokers ask for that (SASL): by a name and a password, or by a token.
    pub sasl_mechanism: Option<SaslMechanism>,
    /// Its name.
    pub sasl_username: String,
    /// Its password; better given by the environment or by a file.
    pub sasl_password: Secret,
    /// File with the password, such as one of a mounted secret. A line end after it does not count. Like certificates and
    /// keys it is read anew where brokers reject it, if it was replaced meanwhile.
    pub sasl_password_file: Option<PathBuf>,
    /// File with the token of `oauthbearer`, such as a projected service account token of Kubernetes. It is read again
    /// before the token expires, so whoever writes it has to replace it in time.
    pub sasl_token_file: Option<PathBuf>,
    /// Any setting of librdkafka by its own name, such as `ssl.key.password`. Stronger than all above.
    pub librdkafka_options: LibrdkafkaOptions,
}

impl Default for Kafka {
    fn default() -> Kafka {
        Kafka {
            brokers: Vec::new(),
            topic: String::new(),
            format: Format::Msgpack,
            key: RecordKey::Connection,
            timestamp: RecordTimestamp::Publish,
            client_id: "podtap".to_owned(),
            timeout: HumanDuration(Duration::from_secs(30)),
            connect_timeout: HumanDuration(Duration::from_secs(10)),
            compression: Compression::Lz4,
            tls: false,
            tls_ca_file: None,
            tls_certificate_file: None,
            tls_key_file: None,
            sasl_mechanism: None,
            sasl_username: String::new(),
            sasl_password: Secret::default(),
            sasl_password_file: None,
            sasl_token_file: None,
            librdkafka_options: LibrdkafkaOptions::default(),
        }
    }
}

/// In `kafka.topic`, stands for the protocol of an event.
pub const PROTOCOL_IN_TOPIC: &str = "{protocol}";
/// Letters of a protocol's name, at most: a decoder with a longer one is refused.
const LONGEST_PROTOCOL: usize = 32;

impl Kafka {
    /// `kafka.topic` with what is known before there are events: all but [`PROTOCOL_IN_TOPIC`] is put in.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn topic_of(&self, resource: &BTreeMap<String, String>) -> Result<String, String> {
        // Kafka's own rule for names of topics.
        let legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
        let (mut topic, mut longest, mut rest) = (String::new(), 0, self.topic.as_str());
        let refused = || {
            let topic = &self.topic;
            Err(format!("{topic:?} is no topic: allowed are 1 to 249 letters, digits, `.`, `_` and `-`"))
        };
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { return refused() };
            topic.push_str(before);
            rest = after;
            longest += before.len();
            match (name, resource.get(name)) {
                ("protocol", _) => {
                    topic.push_str(PROTOCOL_IN_TOPIC);
                    longest += LONGEST_PROTOCOL;
                }
                (_, Some(value)) if !value.is_empty() => {
                    topic.extend(value.chars().map(|letter| if legal(letter) { letter } else { '_' }));
                    longest += value.chars().count();
                }
                _ => {
                    let known = resource.keys().map(String::as_str);
                    let known: Vec<_> = std::iter::once("protocol").chain(known).collect();
                    let topic = &self.topic;
                    return Err(format!("{topic:?}: nothing is known of {{{name}}}; known: {}", known.join(", ")));
                }
            }
        }
        topic.push_str(rest);
        longest += rest.len();
        let is_legal = topic.replace(PROTOCOL_IN_TOPIC, "").chars().all(legal);
        if !is_legal || longest > 249 || matches!(topic.as_str(), "." | "..") { refused() } else { Ok(topic) }
    }

    /// Every file that is named, with its key.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let secrets = [
            ("kafka.sasl_password_file", self.sasl_password_file.as_deref()),
            ("kafka.sasl_token_file", self.sasl_token_file.as_deref()),
        ];
        let files = self.tls_files().into_iter().chain(secrets);
        files.filter_map(|(key, file)| Some((key, file?)))
    }

    fn tls_files(&self) -> [(&'static str, Option<&Path>); 3] {
        [
            ("kafka.tls_ca_file", self.tls_ca_file.as_deref()),
            ("kafka.tls_certificate_file", self.tls_certificate_file.as_deref()),
            ("kafka.tls_key_file", self.tls_key_file.as_deref()),
        ]
    }

    /// What contradicts itself in TLS and SASL: keys and messages.
    pub(super) fn security_problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut problems = Vec::new();
        let mut check = |wrong: bool, key, message| {
            if wrong {
                problems.push((key, message));
            }
        };
        for (key, file) in self.tls_files() {
            check(file.is_some() && !self.tls, key, "set, but kafka.tls is not; set that to true");
        }
        let (certificate, key) = (self.tls_certificate_file.is_some(), self.tls_key_file.is_some());
        check(certificate && !key, "kafka.tls_key_file", "not set, but kafka.tls_certificate_file is; name its key");
        check(key && !certificate, "kafka.tls_certificate_file", "not set, but kafka.tls_key_file is; name both");
        let passwords = usize::from(!self.sasl_password.is_empty()) + usize::from(self.sasl_password_file.is_some());
        check(passwords == 2, "kafka.sasl_password_file", "set, as is kafka.sasl_password; set one of them");
        let by_token = self.sasl_mechanism == Some(SaslMechanism::Oauthbearer);
        let has_token = self.sasl_token_file.is_some();
        check(has_token && !by_token, "kafka.sasl_token_file", "set, but kafka.sasl_mechanism is not oauthbearer");
        match self.sasl_mechanism {
            Some(SaslMechanism::Oauthbearer) => {
                check(!has_token, "kafka.sasl_token_file", "not set, but kafka.sasl_mechanism is oauthbearer");
                let name = !self.sasl_username.is_empty();
                check(name, "kafka.sasl_username", "set, but a token needs no name; leave it out");
                check(passwords > 0, "kafka.sasl_password", "set, but a token needs no password; leave it out");
            }
            Some(_) => {
                check(self.sasl_username.is_empty(), "kafka.sasl_username", "not set, but kafka.sasl_mechanism is");
                let missing = "not set, but kafka.sasl_mechanism is; set that or kafka.sasl_password_file";
                check(passwords == 0, "kafka.sasl_password", missing);
            }
            None => {
                let any = passwords > 0 || !self.sasl_username.is_empty();
                check(any, "kafka.sasl_mechanism", "not set, but a name or a password is; choose one");
            }
        }
        problems
    }
}

/// How a client proves to Kafka who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaslMechanism {
    /// The password is sent as it is: over TLS only.
    Plain,
    /// By challenge and response.
    #[serde(rename = "scram_sha_256")]
    ScramSha256,
    /// By challenge and response, with a longer hash.
    #[serde(rename = "scram_sha_512")]
    ScramSha512,
    /// A token, which is sent as it is: over TLS only.
    Oauthbearer,
}

impl SaslMechanism {
    /// The name in librdkafka's settings.
    pub fn name(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            SaslMechanism::Oauthbearer => "OAUTHBEARER",
        }
    }
}

/// What a record's key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordKey {
    /// The id of the connection.
    Connection,
    /// Address and port of the server.
    Server,
    /// No key.
    None,
}

/// What a record's timestamp is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordTimestamp {
    /// The event's `time`.
    Event,
    /// When it is sent.
    Publish,
}

/// Compression of what is sent to Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Cheap.
    Lz4,
    /// Smaller, for more work.
    Zstd,
    /// For consumers that know nothing else.
    Gzip,
    /// Cheap, less small than lz4.
    Snappy,
    /// As it is.
    None,
}

impl Compression {
    /// The name in librdkafka's settings.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::None => "none",
        }
    }
}

/// Settings of librdkafka by name. Values of names that look like secrets are shown neither by `Debug` nor in JSON.
#[derive(Clone, Default, PartialEq, Eq, JsonSchema)]
pub struct LibrdkafkaOptions(pub BTreeMap<String, String>);

impl LibrdkafkaOptions {
    /// May a setting of this name hold a secret? Errs towards yes.
    pub fn is_secret(name: &str) -> bool {
        ["password", "secret", "token", "key", "pem", "jaas", "credential", "oauthbearer.config"]
            .iter()
            .any(|word| name.to_ascii_lowercase().contains(word))
    }

    /// Without secrets.
    fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), if LibrdkafkaOptions::is_secret(name) { "***" } else { value }))
    }
}

impl fmt::Debug for LibrdkafkaOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.shown()).finish()
    }
}

impl Serialize for LibrdkafkaOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.shown())
    }
}

impl<'de> Deserialize<'de> for LibrdkafkaOptions {
    /// Numbers and true/false stand for their text: that is how people write them.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LibrdkafkaOptions, D::Error> {
        let entries = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        let text = |(name, value)| match value {
            serde_json::Value::String(text) => Ok((name, text)),
            serde_json::Value::Bool(flag) => Ok((name, flag.to_string())),
            serde_json::Value::Number(number) => Ok((name, number.to_string())),
            _ => Err(D::Error::custom(format!("the value of {name:?} is not text"))),
        };
        entries.into_iter().map(text).collect::<Result<_, _>>().map(LibrdkafkaOptions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_made_of_what_is_known() {
        let resource = [("service.name", "shop"), ("place", "Köln/2"), ("none", "")];
        let resource = resource.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let topic_of = |topic: &str| Kafka { topic: topic.to_owned(), ..Kafka::default() }.topic_of(&resource);
        assert_eq!(topic_of("events").unwrap(), "events");
        assert_eq!(topic_of("").unwrap(), "");
        assert_eq!(topic_of("{service.name}.{protocol}.{place}").unwrap(), "shop.{protocol}.K_ln_2");
        assert_eq!(
            topic_of("{server.address}").unwrap_err(),
            "\"{server.address}\": nothing is known of {server.address}; known: protocol, none, place, service.name"
        );
        assert!(topic_of("a{none}").is_err());
        for wrong in ["a/b", "{protocol", "a}b", "..", "{proto{protocol}col}", &"a".repeat(250)] {
            assert!(topic_of(wrong).is_err(), "{wrong}");
        }
        assert!(topic_of(&format!("{}{{protocol}}", "a".repeat(249 - LONGEST_PROTOCOL))).is_ok());
        assert!(topic_of(&format!("{}{{protocol}}", "a".repeat(250 - LONGEST_PROTOCOL))).is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let options = [("sasl.password", "hunter2"), ("ssl.key.pem", "-----BEGIN"), ("linger.ms", "5")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let sasl_password = Secret("hunter2".to_owned());
        let kafka = Kafka { librdkafka_options: LibrdkafkaOptions(options), sasl_password, ..Kafka::default() };
        let shown = format!("{kafka:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("BEGIN"), "{shown}");
        let json = serde_json::to_value(&kafka).unwrap();
        assert_eq!(json["sasl_password"], "***");
        assert_eq!(json["librdkafka_options"]["sasl.password"], "***");
        assert!(shown.contains("\"linger.ms\": \"5\""), "{shown}");
    }

    #[test]
    fn half_a_security_is_refused() {
        let keys = |change: fn(&mut Kafka)| {
            let mut kafka = Kafka::default();
            change(&mut kafka);
            kafka.security_problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert!(keys(|_| {}).is_empty());
        assert_eq!(keys(|kafka| kafka.tls_ca_file = Some("ca".into())), ["kafka.tls_ca_file"]);
        let certificate = |kafka: &mut Kafka| {
            (kafka.tls, kafka.tls_certificate_file) = (true, Some("certificate".into()));
        };
        assert_eq!(keys(certificate), ["kafka.tls_key_file"]);
        assert_eq!(keys(|kafka| kafka.sasl_username = "me".to_owned()), ["kafka.sasl_mechanism"]);
        let nameless = |kafka: &mut Kafka| kafka.sasl_mechanism = Some(SaslMechanism::Plain);
        assert_eq!(keys(nameless), ["kafka.sasl_username", "kafka.sasl_password"]);
        assert_eq!(keys(|kafka| kafka.sasl_token_file = Some("token".into())), ["kafka.sasl_token_file"]);
        let by_token = |kafka: &mut Kafka| kafka.sasl_mechanism = Some(SaslMechanism::Oauthbearer);
        assert_eq!(keys(by_token), ["kafka.sasl_token_file"]);
        let by_both = |kafka: &mut Kafka| {
            kafka.sasl_mechanism = Some(SaslMechanism::Oauthbearer);
            (kafka.sasl_token_file, kafka.sasl_username) = (Some("token".into()), "me".to_owned());
        };
        assert_eq!(keys(by_both), ["kafka.sasl_username"]);
    }
}
