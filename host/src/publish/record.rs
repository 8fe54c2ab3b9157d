//! A record for Kafka in bytes, the same in a queue and in a spool.
//!
//! ```text
//! length u32, of what follows the checksum | CRC32C u32 of that | time u64, ms since epoch | schema u8 | format u8 |
//! length of the protocol u8 | 0 u8 | length of the key u16 | protocol | key | value       (numbers little-endian)
//! ```
//!
//! The checksum is 0 until [`seal`] sets it: only a spool needs it.

use std::io::Write as _;

use crate::config::RecordKey;
use crate::event::{self, CONNECTION_SCHEMA, EXCHANGE_SCHEMA, EncodeError, Event, Format};

/// Length and checksum.
const HEAD: usize = 8;
/// Head, and the fields before the protocol.
const FIXED: usize = HEAD + 14;
/// No record is longer: the texts of an exchange have a bound far below, also where JSON makes six letters of one.
pub(super) const MAX_RECORD: usize = 16 << 20;

/// A record that can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) time_ms: u64,
    pub(super) schema: &'static str,
    pub(super) format: Format,
    /// Empty: unknown.
    pub(super) protocol: &'a [u8],
    /// Empty: none.
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// Appends the record of an event; nothing of it where it cannot be encoded. Gives the bytes of key and value.
pub(super) fn append_event(
    out: &mut Vec<u8>,
    event: Event<'_>,
    key: RecordKey,
    format: Format,
) -> Result<usize, EncodeError> {
    let start = begin(out, event.time().0 / 1_000_000, event.schema(), format, event.protocol().unwrap_or_default());
    let key_start = out.len();
    match key {
        RecordKey::Connection => out.extend_from_slice(event.connection_id().as_bytes()),
        RecordKey::Server => {
            if let Some(server) = event.server() {
                // Writing to a Vec cannot fail.
                let _ = write!(out, "{server}");
            }
        }
        RecordKey::None => {}
    }
    // A connection's id and an address are some dozens of bytes.
    let key_length = u16::try_from(out.len() - key_start).unwrap_or_default();
    out[start + FIXED - 2..start + FIXED].copy_from_slice(&key_length.to_le_bytes());
    if let Err(error) = event::append(format, event, out) {
        out.truncate(start);
        return Err(error);
    }
    end(out, start);
    Ok(out.len() - key_start)
}

/// Appends a record as it was.
pub(super) fn append(out: &mut Vec<u8>, record: &Record<'_>) {
    let protocol = std::str::from_utf8(record.protocol).unwrap_or_default();
    let start = begin(out, record.time_ms, record.schema, record.format, protocol);
    let key_length = u16::try_from(record.key.len()).unwrap_or_default();
    out[start + FIXED - 2..start + FIXED].copy_from_slice(&key_length.to_le_bytes());
    out.extend_from_slice(&record.key[..usize::from(key_length)]);
    out.extend_from_slice(record.value);
    end(out, start);
}

/// All before the key, whose length is still open.
fn begin(out: &mut Vec<u8>, time_ms: u64, schema: &str, format: Format, protocol: &str) -> usize {
    let start = out.len();
    // Names of protocols are far shorter: a descriptor's are bounded.
    let protocol = if protocol.len() < 256 { protocol } else { "" };
    out.extend_from_slice(&[0; HEAD]);
    out.extend_from_slice(&time_ms.to_le_bytes());
    let schema = u8::from(schema == CONNECTION_SCHEMA);
    out.extend_from_slice(&[schema, u8::from(format == Format::Json), protocol.len() as u8, 0, 0, 0]);
    out.extend_from_slice(protocol.as_bytes());
    start
}

fn end(out: &mut [u8], start: usize) {
    let length = (out.len() - start - HEAD) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Sets the checksums of all records.
pub(super) fn seal(mut bytes: &mut [u8]) {
    while let Some((length, _)) = head(bytes)
        && bytes.len() >= HEAD + length
    {
        let (frame, rest) = bytes.split_at_mut(HEAD + length);
        let checksum = crc32c::crc32c(&frame[HEAD..]);
        frame[4..HEAD].copy_from_slice(&checksum.to_le_bytes());
        bytes = rest;
    }
}

/// Length of the body and checksum.
fn head(bytes: &[u8]) -> Option<(usize, u32)> {
    let number = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    Some((number(0)? as usize, number(4)?))
}

/// What stands at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First<'a> {
    /// A record, and its length with everything.
    Record(Record<'a>, usize),
    /// Its beginning: this many bytes in all are needed.
    Incomplete(usize),
    /// No record.
    Broken,
}

/// The first record. `check`: its checksum too.
pub(super) fn first(bytes: &[u8], check: bool) -> First<'_> {
    let Some((length, checksum)) = head(bytes) else { return First::Incomplete(HEAD) };
    let total = HEAD + length;
    if !(FIXED..=MAX_RECORD).contains(&total) {
        return First::Broken;
    }
    let Some(body) = bytes.get(HEAD..total) else { return First::Incomplete(total) };
    if check && crc32c::crc32c(body) != checksum {
        return First::Broken;
    }
    match parse(body) {
        Some(record) => First::Record(record, total),
        None => First::Broken,
    }
}

fn parse(body: &[u8]) -> Option<Record<'_>> {
    let (time_ms, rest) = body.split_first_chunk()?;
    let (&[schema, format, protocol_length, _, low, high], rest) = rest.split_first_chunk()?;
    let (protocol, rest) = rest.split_at_checked(usize::from(protocol_length))?;
    let (key, value) = rest.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
    let schema = match schema {
        0 => EXCHANGE_SCHEMA,
        1 => CONNECTION_SCHEMA,
        _ => return None,
    };
    let format = match format {
        0 => Format::Msgpack,
        1 => Format::Json,
        _ => return None,
    };
    Some(Record { time_ms: u64::from_le_bytes(*time_ms), schema, format, protocol, key, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{example_connection_event, example_event};

    fn two() -> Vec<u8> {
        let (exchange, connection) = (example_event(), example_connection_event());
        let mut bytes = Vec::new();
        append_event(&mut bytes, Event::Exchange(&exchange), RecordKey::Connection, Format::Msgpack).unwrap();
        append_event(&mut bytes, Event::Connection(&connection), RecordKey::Server, Format::Json).unwrap();
        seal(&mut bytes);
        bytes
    }

    #[test]
    fn records_read_back_as_they_were_written() {
        let bytes = two();
        let First::Record(exchange, length) = first(&bytes, true) else { panic!("no record") };
        let read: event::Exchange<'_> = rmp_serde::from_slice(exchange.value).unwrap();
        assert_eq!(read, example_event());
        assert_eq!((exchange.schema, exchange.protocol), (EXCHANGE_SCHEMA, b"http".as_slice()));
        assert_eq!(exchange.key, read.connection.id.as_bytes());
        assert_eq!(exchange.time_ms, read.time.0 / 1_000_000);
        let First::Record(connection, rest) = first(&bytes[length..], true) else { panic!("no record") };
        assert_eq!(length + rest, bytes.len());
        assert_eq!((connection.schema, connection.format), (CONNECTION_SCHEMA, Format::Json));
        assert_eq!(connection.key, b"10.1.0.9:80");

        let mut again = Vec::new();
        append(&mut again, &exchange);
        append(&mut again, &connection);
        seal(&mut again);
        assert_eq!(again, bytes);
    }

    #[test]
    fn a_record_cut_anywhere_is_incomplete_and_one_changed_anywhere_is_noticed() {
        let bytes = two();
        let First::Record(_, length) = first(&bytes, true) else { panic!("no record") };
        for end in 0..length {
            assert!(matches!(first(&bytes[..end], true), First::Incomplete(needed) if needed > end), "{end}");
        }
        for at in 0..length {
            let mut changed = bytes[..length].to_vec();
            changed[at] ^= 0x10;
            assert!(!matches!(first(&changed, true), First::Record(..)), "{at}");
        }
    }
}
