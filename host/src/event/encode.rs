//! Events to bytes: MessagePack or JSON, each once, behind what a buffer already holds.

use serde::{Deserialize, Serialize};

use super::{Event, json, msgpack};

/// An encoding of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A MessagePack map.
    #[default]
    Msgpack,
    /// A JSON object.
    Json,
}

impl Format {
    /// Media type, as the Kafka record's `content-type` header names it.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Msgpack => "application/vnd.msgpack",
            Format::Json => "application/json",
        }
    }
}

/// An event that could not be encoded: a fault of podtap's own.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// From the MessagePack encoder.
    #[error("event could not be encoded as MessagePack: {0}")]
    Msgpack(#[from] rmp_serde::encode::Error),
    /// From the JSON encoder.
    #[error("event could not be encoded as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Encodes into one buffer.
#[derive(Debug)]
pub struct Encoder {
    format: Format,
    buffer: Vec<u8>,
}

impl Encoder {
    /// An encoder of a format.
    pub fn new(format: Format) -> Encoder {
        Encoder { format, buffer: Vec::with_capacity(2048) }
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The event as one value, valid until the next call. No newline is added.
    pub fn encode(&mut self, event: Event<'_>) -> Result<&[u8], EncodeError> {
        self.buffer.clear();
        append(self.format, event, &mut self.buffer)?;
        Ok(&self.buffer)
    }
}

/// Appends the event as one value. After an error, `out` may hold a part of it.
pub(crate) fn append(format: Format, event: Event<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match (format, event) {
        (Format::Msgpack, Event::Exchange(exchange)) => msgpack::append(exchange, out),
        (Format::Json, Event::Exchange(exchange)) => json::append(exchange, out),
        (Format::Msgpack, Event::Connection(connection)) => {
            connection.serialize(&mut rmp_serde::Serializer::new(out).with_struct_map())?;
        }
        (Format::Json, Event::Connection(connection)) => serde_json::to_writer(out, connection)?,
    }
    Ok(())
}
