//! Events to Apache Kafka.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use super::units::HumanDuration;
use crate::event::Format;

/// Events to Apache Kafka, one record an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// Brokers to connect to first, each as `host:port`. Without any, nothing goes to Kafka.
    pub brokers: Vec<String>,
    /// Topic of the events; needed where there are brokers.
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
    /// Any setting of librdkafka by its own name, such as `security.protocol: sasl_ssl`. Stronger than all above.
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
            librdkafka_options: LibrdkafkaOptions::default(),
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

/// Settings of librdkafka by name. Values of names that look like secrets are not shown by `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LibrdkafkaOptions(pub BTreeMap<String, String>);

impl LibrdkafkaOptions {
    /// May a setting of this name hold a secret? Errs towards yes.
    pub fn is_secret(name: &str) -> bool {
        ["password", "secret", "token", "key", "pem", "jaas", "credential", "oauthbearer.config"]
            .iter()
            .any(|word| name.to_ascii_lowercase().contains(word))
    }
}

impl fmt::Debug for LibrdkafkaOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): (&'_ String, &'_ String)| {
            let value = if LibrdkafkaOptions::is_secret(name) { "***".to_owned() } else { value.clone() };
            (name.clone(), value)
        };
        formatter.debug_map().entries(self.0.iter().map(shown)).finish()
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
    fn secrets_are_not_shown() {
        let options = [("sasl.password", "hunter2"), ("ssl.key.pem", "-----BEGIN"), ("linger.ms", "5")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let kafka = Kafka { librdkafka_options: LibrdkafkaOptions(options), ..Kafka::default() };
        let shown = format!("{kafka:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("BEGIN"), "{shown}");
        assert!(shown.contains("\"linger.ms\": \"5\""), "{shown}");
    }
}
