//! What is published: exchanges, and the ends of connections (see `connection`).
//!
//! Here: one request/response exchange, as a consumer reads it: the schema [`EXCHANGE_SCHEMA`], typed once.
//!
//! Absent means unknown: no empty string and no zero that was not seen. Attribute names follow the OpenTelemetry
//! semantic conventions.

mod connection;
mod encode;
mod identity;
mod json;
mod msgpack;
mod redact;
mod time;
mod writer;

pub use connection::{CONNECTION_SCHEMA, ConnectionEvent, End, Kind, Name, Opened, Party, Reason, Role};
pub(crate) use encode::append;
pub use encode::{EncodeError, Encoder, Format};
pub use identity::{ConnectionIdentity, ExchangeId};
pub use redact::Redaction;
pub use time::Timestamp;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// Name and version of the schema of exchanges.
pub const EXCHANGE_SCHEMA: &str = "podtap.exchange/1";

/// What the agent knows of where it runs: `k8s.pod.name`, `service.name`, `host.name` and what the config adds.
pub type Resource = BTreeMap<String, String>;

/// One event of any kind.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// A request and its response.
    Exchange(&'e Exchange<'e>),
    /// The end of a connection, after its exchanges.
    Connection(&'e ConnectionEvent<'e>),
}

impl<'e> Event<'e> {
    /// Name and version of its schema.
    pub fn schema(self) -> &'static str {
        match self {
            Event::Exchange(_) => EXCHANGE_SCHEMA,
            Event::Connection(_) => CONNECTION_SCHEMA,
        }
    }

    /// Its `time`.
    pub fn time(self) -> Timestamp {
        match self {
            Event::Exchange(exchange) => exchange.time,
            Event::Connection(connection) => connection.time,
        }
    }

    /// Its `protocol`.
    pub fn protocol(self) -> Option<&'e str> {
        match self {
            Event::Exchange(exchange) => Some(&exchange.protocol),
            Event::Connection(connection) => connection.protocol.as_deref(),
        }
    }

    /// Its `connection.id`.
    pub fn connection_id(self) -> &'e str {
        match self {
            Event::Exchange(exchange) => &exchange.connection.id,
            Event::Connection(connection) => &connection.connection.id,
        }
    }

    /// Its server.
    pub fn server(self) -> Option<SocketAddr> {
        match self {
            Event::Exchange(Exchange { server, .. }) => Some(SocketAddr::new(server.address, server.port)),
            Event::Connection(connection) => {
                connection.server.as_ref().map(|server| SocketAddr::new(server.address, server.port))
            }
        }
    }
}

/// A request and its response, on one connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "podtap.exchange/1")]
pub struct Exchange<'a> {
    /// Deterministic: the same packets give the same id. Lets a consumer drop duplicates of at-least-once delivery.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// First byte of the request; of the response where no request was seen. Capture time.
    pub time: Timestamp,
    /// First byte of the request to last byte of the response, ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    /// Moments of the exchange, as offsets from `time`.
    #[serde(default, skip_serializing_if = "Timing::is_empty")]
    pub timing: Timing,
    /// Protocol by its usual lower-case name: `http`, `mysql`, ...
    pub protocol: Cow<'a, str>,
    /// Name and version of the decoder that found it: `http/0.1.0`.
    pub decoder: Cow<'a, str>,
    /// What was asked, of low cardinality: `GET`, `SELECT`, `find`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Cow<'a, str>>,
    /// What it acted on: a path without query, a table, a collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Cow<'a, str>>,
    /// One line a person reads: `GET /api/users/42`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Cow<'a, str>>,
    /// How it ended.
    pub outcome: Outcome,
    /// Who asked.
    pub client: Peer,
    /// Who was asked.
    pub server: Peer,
    /// On whose side it was captured, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vantage: Option<Vantage>,
    /// The connection that carried it.
    pub connection: Connection<'a>,
    /// What of it was not captured; absent when nothing was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Fields of the protocol; its decoder's README lists them, and `podtap plugin inspect` prints them.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes<'a>,
    /// Where the agent runs.
    #[serde(default, skip_serializing_if = "resource_is_empty")]
    pub resource: Cow<'a, Resource>,
}

fn resource_is_empty(resource: &Resource) -> bool {
    resource.is_empty()
}

/// Moments of an exchange as offsets from its `time`, ns. Time to first byte and transfer time follow from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timing {
    /// Last byte of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_end: Option<u64>,
    /// First byte of the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_start: Option<u64>,
    /// Last byte of the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_end: Option<u64>,
}

impl Timing {
    fn is_empty(&self) -> bool {
        *self == Timing::default()
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The server did what was asked.
    Ok,
    /// The server answered that it did not.
    Error,
    /// The connection ended, or is no longer tracked, without an answer.
    NoResponse,
    /// The connection was cut in the middle of the exchange.
    Aborted,
    /// A response whose request was not captured.
    Unmatched,
}

impl Outcome {
    /// All, in the order that they have as numbers.
    pub const ALL: [Outcome; 5] =
        [Outcome::Ok, Outcome::Error, Outcome::NoResponse, Outcome::Aborted, Outcome::Unmatched];

    /// Was something asked that did not come about: refused, not answered, or cut off?
    pub fn is_failure(self) -> bool {
        matches!(self, Outcome::Error | Outcome::NoResponse | Outcome::Aborted)
    }

    /// The name in events.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Error => "error",
            Outcome::NoResponse => "no_response",
            Outcome::Aborted => "aborted",
            Outcome::Unmatched => "unmatched",
        }
    }
}

/// On whose side of the connection the capture was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Vantage {
    /// The client's host or pod.
    Client,
    /// The server's host or pod.
    Server,
    /// Neither.
    Between,
}

impl Vantage {
    /// As events have it.
    pub fn name(self) -> &'static str {
        match self {
            Vantage::Client => "client",
            Vantage::Server => "server",
            Vantage::Between => "between",
        }
    }
}

/// One end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Peer {
    /// IPv4 or IPv6 address, as text.
    #[serde(with = "address_as_text")]
    #[schemars(with = "String")]
    pub address: IpAddr,
    /// TCP port.
    pub port: u16,
    /// Payload bytes it sent for this exchange; absent when its part was not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Addresses are text in every format: serde's own form for compact formats is an array of numbers.
mod address_as_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(address: &IpAddr, serializer: S) -> Result<S::Ok, S::Error> {
        with_text(address, |text| serializer.serialize_str(text))
    }

    /// The digits of each octet and a dot, and how many these are.
    const OCTETS: [([u8; 4], u8); 256] = {
        let mut texts = [([b'.'; 4], 0); 256];
        let mut octet = 0;
        while octet < texts.len() {
            let digits = [octet / 100, octet / 10 % 10, octet % 10];
            let skipped = (octet < 10) as usize + (octet < 100) as usize;
            let mut at = 0;
            while at + skipped < digits.len() {
                texts[octet].0[at] = b'0' + digits[at + skipped] as u8;
                at += 1;
            }
            texts[octet].1 = at as u8 + 1;
            octet += 1;
        }
        texts
    };

    /// Gives the text to `take`.
    pub(super) fn with_text<T>(address: &IpAddr, take: impl FnOnce(&str) -> T) -> T {
        let IpAddr::V4(address) = address else { return take(&address.to_string()) };
        // By hand: the formatter takes ten times as long, twice an event. Each octet with a dot behind it.
        let mut text = [0_u8; 4 * 4];
        let mut length = 0;
        for octet in address.octets() {
            let (digits, count) = OCTETS[usize::from(octet)];
            if let Some(place) = text.get_mut(length..length + 4) {
                place.copy_from_slice(&digits);
            }
            length += usize::from(count);
        }
        length -= 1;
        take(std::str::from_utf8(&text[..length]).unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The connection of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connection<'a> {
    /// Community id v1, a dash, and the time of its first packet in ns.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Number of the exchange on this connection, from 0.
    pub exchange: u32,
    /// The capture, or the decoder, began in the middle of this connection.
    pub midstream: bool,
}

/// What of an exchange was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Loss {
    /// Payload bytes that were not captured: of the exchange, or of an earlier one without which it is not fully known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_bytes: Option<u64>,
    /// A text of the exchange was longer than podtap keeps, and is cut off; or attributes were left out, the largest first,
    /// so that the event fits into a record of Kafka.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// A value of a protocol's field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Value<'a> {
    /// True or false.
    Flag(bool),
    /// Unsigned integer.
    Uint(u64),
    /// Negative integer.
    Int(i64),
    /// Double.
    Float(f64),
    /// Text.
    #[serde(borrow)]
    Text(Cow<'a, str>),
}

/// Fields of the protocol, in the decoder's order; a map in every encoding.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(with = "BTreeMap<String, Value<'static>>")]
pub struct Attributes<'a>(pub Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Attributes<'a> {
    /// The value of a name.
    pub fn find(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().find_map(|(key, value)| (key == name).then_some(value))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Attributes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Attributes<'a>, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Attributes<'de>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a map of attributes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Attributes(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_text_in_every_format() {
        for text in ["0.0.0.0", "255.255.255.255", "10.20.3.100", "192.0.2.1", "::1", "2001:db8::ffff:1"] {
            let peer = Peer { address: text.parse().unwrap(), port: 80, bytes: None };
            let json = serde_json::to_string(&peer).unwrap();
            assert_eq!(json, format!("{{\"address\":\"{text}\",\"port\":80}}"));
            assert_eq!(serde_json::from_str::<Peer>(&json).unwrap(), peer);
            let packed = rmp_serde::to_vec_named(&peer).unwrap();
            assert_eq!(rmp_serde::from_slice::<Peer>(&packed).unwrap(), peer);
        }
    }
}
