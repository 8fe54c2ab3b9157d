//! One event that was read: its bytes, and what is in them.
//!
//! It is kept as the object that its JSON form is, so that fields and kinds of later versions come through; where it is
//! one that this version knows, it can be had as that. In both encodings all is the same but for `time`.

use rmp_serde::decode::Error;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::frames::{MAX_EVENT_BYTES, format_of};
use crate::event::{ConnectionEvent, Exchange, Format, Timestamp};

/// Nesting that is followed; serde_json has the same bound.
pub(crate) const MAX_DEPTH: usize = 128;

/// Bytes that are no event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RecordError {
    /// Of the first byte that cannot be right, as near as is known.
    pub(super) at: usize,
    pub(super) what: String,
}

/// An event, in its JSON form.
#[derive(Debug, PartialEq)]
pub struct Record {
    fields: Map<String, Value>,
    time: Timestamp,
}

/// An event of a kind and version that is known here.
pub(crate) enum Known<'r> {
    Exchange(Exchange<'r>),
    Connection(ConnectionEvent<'r>),
}

impl Record {
    /// Decodes the bytes of one event.
    pub(crate) fn decode(format: Format, bytes: &[u8]) -> Result<Record, RecordError> {
        if bytes.len() > MAX_EVENT_BYTES {
            return Err(RecordError { at: 0, what: format!("longer than {MAX_EVENT_BYTES} bytes") });
        }
        let value = match format {
            Format::Json => serde_json::from_slice(bytes).map_err(|error| RecordError {
                at: error.column().saturating_sub(1),
                // Its own place is one in a line, of which there is only this one.
                what: error.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
            })?,
            Format::Msgpack => unpack(bytes)?,
        };
        let Value::Object(mut fields) = value else {
            return Err(RecordError { at: 0, what: "no event: not a map".to_owned() });
        };
        let time =
            check(&mut fields).map_err(|what| RecordError { at: 0, what: format!("no event of podtap: {what}") })?;
        Ok(Record { fields, time })
    }

    /// All of it, as in JSON.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// Its `time`.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Its `kind`; exchanges have none.
    pub fn kind(&self) -> &str {
        self.fields.get("kind").and_then(Value::as_str).unwrap_or("exchange")
    }

    /// As what it is known to be. None: of another kind, or of a later version that means something else.
    pub(crate) fn known(&self) -> Option<Known<'_>> {
        match self.fields.get("kind") {
            None => Exchange::deserialize(&self.fields).ok().map(Known::Exchange),
            Some(_) => ConnectionEvent::deserialize(&self.fields).ok().map(Known::Connection),
        }
    }

    /// In another format than it was read in. Into a buffer, in place of what that held.
    ///
    /// # Errors
    /// The encoder's own words.
    pub fn encode(&mut self, format: Format, buffer: &mut Vec<u8>) -> Result<(), String> {
        buffer.clear();
        match format {
            Format::Json => serde_json::to_writer(buffer, &self.fields).map_err(|error| error.to_string()),
            Format::Msgpack => {
                if let Some(time) = self.fields.get_mut("time") {
                    *time = self.time.0.into();
                }
                rmp_serde::encode::write_named(buffer, &self.fields).map_err(|error| error.to_string())
            }
        }
    }
}

/// What every event of podtap has, whatever its kind; `time` becomes what it is in JSON.
fn check(fields: &mut Map<String, Value>) -> Result<Timestamp, String> {
    if !fields.get("id").is_some_and(Value::is_string) {
        return Err("it has no `id` that is text".to_owned());
    }
    let Some(time) = fields.get_mut("time") else { return Err("it has no `time`".to_owned()) };
    if let Some(ns) = time.as_u64() {
        *time = Timestamp(ns).to_string().into();
        return Ok(Timestamp(ns));
    }
    Timestamp::deserialize(&*time).map_err(|error| format!("`time`: {error}"))
}

/// The format of a Kafka record's value: as its `content-type` says, else as its first byte does.
pub(super) fn format_of_value(content_type: Option<&[u8]>, value: &[u8]) -> Option<Format> {
    let media_type = content_type.map(|text| text.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii());
    let named =
        |format: &Format| media_type.is_some_and(|text| text.eq_ignore_ascii_case(format.media_type().as_bytes()));
    let known = [Format::Json, Format::Msgpack].into_iter().find(named);
    known.or_else(|| format_of(*value.trim_ascii_start().first()?))
}

fn unpack(bytes: &[u8]) -> Result<Value, RecordError> {
    let mut decoder = rmp_serde::Deserializer::new(bytes);
    decoder.set_max_depth(MAX_DEPTH);
    let value = Value::deserialize(&mut decoder);
    let rest = decoder.get_ref().len();
    let at = bytes.len() - rest;
    match value {
        Err(Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_)) => {
            Err(RecordError { at, what: "cut off in the middle".to_owned() })
        }
        Err(error) => Err(RecordError { at, what: error.to_string() }),
        Ok(_) if rest > 0 => Err(RecordError { at, what: format!("{rest} bytes follow the event") }),
        Ok(value) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Encoder, Event};
    use crate::reference::{example_connection_event, example_event};

    fn encoded(format: Format, event: Event<'_>) -> Vec<u8> {
        Encoder::new(format).encode(event).unwrap().to_vec()
    }

    fn failure(format: Format, bytes: &[u8]) -> (usize, String) {
        let error = Record::decode(format, bytes).unwrap_err();
        (error.at, error.what)
    }

    #[test]
    fn an_event_comes_back_as_it_was_published_and_goes_from_each_format_to_the_other() {
        let (exchange, connection) = (example_event(), example_connection_event());
        for event in [Event::Exchange(&exchange), Event::Connection(&connection)] {
            for (from, to) in [(Format::Json, Format::Msgpack), (Format::Msgpack, Format::Json)] {
                let mut record = Record::decode(from, &encoded(from, event)).unwrap();
                match (record.known().unwrap(), event) {
                    (Known::Exchange(read), Event::Exchange(published)) => assert_eq!(read, *published),
                    (Known::Connection(read), Event::Connection(published)) => assert_eq!(read, *published),
                    _ => panic!("another kind"),
                }
                assert_eq!(record.time(), event.time());
                let mut bytes = Vec::new();
                record.encode(to, &mut bytes).unwrap();
                assert!(bytes == encoded(to, event), "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn what_later_versions_add_is_kept() {
        let mut value: Value =
            serde_json::from_slice(&encoded(Format::Json, Event::Exchange(&example_event()))).unwrap();
        value["attributes"]["a.list"] = serde_json::json!(["a", 1, null, { "b": [] }]);
        value["added"] = serde_json::json!({ "very": ["new"] });
        let mut record = Record::decode(Format::Json, value.to_string().as_bytes()).unwrap();
        assert!(record.known().is_none(), "a list is no value of an attribute of this version");
        let mut bytes = Vec::new();
        record.encode(Format::Msgpack, &mut bytes).unwrap();
        assert_eq!(Some(Record::decode(Format::Msgpack, &bytes).unwrap().fields()), value.as_object());
        value["attributes"].as_object_mut().unwrap().remove("a.list");
        let record = Record::decode(Format::Json, value.to_string().as_bytes()).unwrap();
        assert!(matches!(record.known(), Some(Known::Exchange(read)) if read == example_event()));

        let record =
            Record::decode(Format::Json, br#"{"kind":"later","id":"1","time":"2026-01-01T00:00:00Z"}"#).unwrap();
        assert!(record.known().is_none() && record.kind() == "later");
    }

    #[test]
    fn what_is_no_event_is_said_with_its_place() {
        use Format::{Json, Msgpack};
        assert_eq!(failure(Json, b"{\"id\":\"1\", nonsense}"), (11, "key must be a string".to_owned()));
        assert_eq!(failure(Json, b"{}{}"), (2, "trailing characters".to_owned()));
        assert_eq!(failure(Json, b"{}"), (0, "no event of podtap: it has no `id` that is text".to_owned()));
        assert_eq!(failure(Json, b"{\"id\":\"1\"}"), (0, "no event of podtap: it has no `time`".to_owned()));
        assert_eq!(failure(Msgpack, b"\x01"), (0, "no event: not a map".to_owned()));
        assert_eq!(failure(Msgpack, b"\x80\x80\x80"), (1, "2 bytes follow the event".to_owned()));
        assert!(failure(Json, b"{\"id\":\"1\",\"time\":\"noon\"}").1.starts_with("no event of podtap: `time`: "));
        for (format, nested) in [
            (Json, [b"{\"id\":".as_slice(), &[b'['; 100_000]].concat()),
            (Msgpack, [b"\x81\xa2id".as_slice(), &[0x91; 100_000]].concat()),
        ] {
            let (at, what) = failure(format, &nested);
            assert!(at < 200 && what.contains("limit exceeded"), "{at} {what}");
        }
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_an_event_or_an_error() {
        for format in [Format::Json, Format::Msgpack] {
            let whole = encoded(format, Event::Exchange(&example_event()));
            for cut in 0..whole.len() {
                let error = Record::decode(format, &whole[..cut]).unwrap_err();
                assert!(error.at <= cut, "{error:?}");
                for byte in [0, 0x7f, 0xc1, 0xdb, 0xdd, 0xdf, 0xff, b'"', b'}'] {
                    let mut changed = whole.clone();
                    changed[cut] = byte;
                    if let Ok(mut record) = Record::decode(format, &changed) {
                        record.known();
                        record.encode(format, &mut Vec::new()).unwrap();
                    }
                }
            }
        }
    }

    #[test]
    fn the_header_says_what_a_value_is_and_else_its_first_byte() {
        let json = b" {}".as_slice();
        assert_eq!(format_of_value(None, json), Some(Format::Json));
        assert_eq!(format_of_value(None, b"\x81"), Some(Format::Msgpack));
        assert_eq!(format_of_value(Some(b"Application/JSON; charset=utf-8"), b"\x81"), Some(Format::Json));
        assert_eq!(format_of_value(Some(b"application/vnd.msgpack"), json), Some(Format::Msgpack));
        assert_eq!(format_of_value(Some(b"text/plain"), json), Some(Format::Json));
        assert_eq!(format_of_value(None, b""), None);
    }
}
