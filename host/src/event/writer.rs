//! An exchange, written straight into the buffer: byte for byte what rmp-serde and serde_json make of the type, as a test holds
//! it to, but with keys that the compiler puts together, and room that is made once.

use std::borrow::Cow;
use std::net::IpAddr;

use super::{Attributes, Connection, Exchange, Loss, Outcome, Peer, Resource, Timestamp, Timing, Value, Vantage};

/// A format of events.
pub(super) trait Writer {
    /// Begins a map; the place is for [`Writer::end`].
    fn map(&mut self, entries: usize) -> usize;
    /// Ends a map.
    fn end(&mut self, map: usize);
    /// A key or a text that is known beforehand, in either format: see [`key`] and [`name`].
    fn known<const M: usize, const J: usize>(&mut self, msgpack: &[u8; M], json: &[u8; J]);
    /// A key.
    fn any_key(&mut self, key: &str);
    fn text(&mut self, text: &str);
    fn address(&mut self, address: &IpAddr);
    fn time(&mut self, time: Timestamp);
    fn flag(&mut self, flag: bool);
    fn uint(&mut self, number: u64);
    fn int(&mut self, number: i64);
    fn float(&mut self, number: f64);
}

/// The bytes of texts, one behind the other.
macro_rules! joined {
    ($($part:expr),+) => {{
        const PARTS: &[&[u8]] = &[$($part),+];
        const LENGTH: usize = {
            let (mut length, mut part) = (0, 0);
            while part < PARTS.len() {
                length += PARTS[part].len();
                part += 1;
            }
            length
        };
        const BYTES: [u8; LENGTH] = {
            let (mut bytes, mut at, mut part) = ([0; LENGTH], 0, 0);
            while part < PARTS.len() {
                let mut of_part = 0;
                while of_part < PARTS[part].len() {
                    bytes[at] = PARTS[part][of_part];
                    (at, of_part) = (at + 1, of_part + 1);
                }
                part += 1;
            }
            bytes
        };
        &BYTES
    }};
}

/// A text of at most 31 bytes behind its header in MessagePack.
macro_rules! fixstr {
    ($text:literal) => {{
        const { assert!($text.len() < 32) };
        joined!(&[0xa0 | $text.len() as u8], $text.as_bytes())
    }};
}

macro_rules! key {
    ($out:ident, $text:literal) => {
        $out.known(fixstr!($text), joined!(b",\"", $text.as_bytes(), b"\":"))
    };
}

macro_rules! name {
    ($out:ident, $text:literal) => {
        $out.known(fixstr!($text), joined!(b"\"", $text.as_bytes(), b"\""))
    };
}

/// All that an exchange has but its texts of any length: keys, headers, numbers, addresses and names that are chosen from few.
const MOST_BYTES_OF_FRAME: usize = 1024;

/// What a text, or a number, has around it at most in either format; a number, with itself.
const MOST_BYTES_AROUND: usize = 26;

/// No exchange takes more, but for what JSON escapes.
pub(super) fn most_bytes(exchange: &Exchange<'_>) -> usize {
    let Exchange { id, protocol, decoder, operation, target, summary, connection, attributes, resource, .. } = exchange;
    let optional = [operation, target, summary].map(|text| text.as_ref().map_or(0, |text| text.len()));
    let texts = id.len() + protocol.len() + decoder.len() + connection.id.len() + optional.iter().sum::<usize>();
    let of_attribute = |(name, value): &(Cow<'_, str>, Value<'_>)| {
        let value = if let Value::Text(text) = value { text.len() } else { 0 };
        name.len() + value + 2 * MOST_BYTES_AROUND
    };
    let of_resource = |(name, value): (&String, &String)| name.len() + value.len() + 2 * MOST_BYTES_AROUND;
    let attributes = attributes.0.iter().map(of_attribute).sum::<usize>();
    MOST_BYTES_OF_FRAME + texts + attributes + resource.iter().map(of_resource).sum::<usize>()
}

/// Writes the exchange as one map.
pub(super) fn write(exchange: &Exchange<'_>, out: &mut impl Writer) {
    let Exchange {
        id,
        time,
        duration,
        timing,
        protocol,
        decoder,
        operation,
        target,
        summary,
        outcome,
        client,
        server,
        vantage,
        connection,
        loss,
        attributes,
        resource,
    } = exchange;
    let optional = [
        duration.is_some(),
        !timing.is_empty(),
        operation.is_some(),
        target.is_some(),
        summary.is_some(),
        vantage.is_some(),
        loss.is_some(),
        !attributes.is_empty(),
        !resource.is_empty(),
    ];
    let map = out.map(8 + count(&optional));
    key!(out, "id");
    out.text(id);
    key!(out, "time");
    out.time(*time);
    if let Some(duration) = duration {
        key!(out, "duration");
        out.uint(*duration);
    }
    if !timing.is_empty() {
        key!(out, "timing");
        write_timing(out, timing);
    }
    key!(out, "protocol");
    out.text(protocol);
    key!(out, "decoder");
    out.text(decoder);
    if let Some(operation) = operation {
        key!(out, "operation");
        out.text(operation);
    }
    if let Some(target) = target {
        key!(out, "target");
        out.text(target);
    }
    if let Some(summary) = summary {
        key!(out, "summary");
        out.text(summary);
    }
    key!(out, "outcome");
    match outcome {
        Outcome::Ok => name!(out, "ok"),
        Outcome::Error => name!(out, "error"),
        Outcome::NoResponse => name!(out, "no_response"),
        Outcome::Aborted => name!(out, "aborted"),
        Outcome::Unmatched => name!(out, "unmatched"),
    }
    key!(out, "client");
    write_peer(out, client);
    key!(out, "server");
    write_peer(out, server);
    if let Some(vantage) = vantage {
        key!(out, "vantage");
        match vantage {
            Vantage::Client => name!(out, "client"),
            Vantage::Server => name!(out, "server"),
            Vantage::Between => name!(out, "between"),
        }
    }
    key!(out, "connection");
    write_connection(out, connection);
    if let Some(loss) = loss {
        key!(out, "loss");
        write_loss(out, loss);
    }
    if !attributes.is_empty() {
        key!(out, "attributes");
        write_attributes(out, attributes);
    }
    if !resource.is_empty() {
        key!(out, "resource");
        write_resource(out, resource);
    }
    out.end(map);
}

fn write_timing(out: &mut impl Writer, timing: &Timing) {
    let Timing { request_end, response_start, response_end } = timing;
    let map = out.map(count(&[request_end.is_some(), response_start.is_some(), response_end.is_some()]));
    if let Some(offset) = request_end {
        key!(out, "request_end");
        out.uint(*offset);
    }
    if let Some(offset) = response_start {
        key!(out, "response_start");
        out.uint(*offset);
    }
    if let Some(offset) = response_end {
        key!(out, "response_end");
        out.uint(*offset);
    }
    out.end(map);
}

fn write_peer(out: &mut impl Writer, peer: &Peer) {
    let Peer { address, port, bytes } = peer;
    let map = out.map(2 + usize::from(bytes.is_some()));
    key!(out, "address");
    out.address(address);
    key!(out, "port");
    out.uint((*port).into());
    if let Some(bytes) = bytes {
        key!(out, "bytes");
        out.uint(*bytes);
    }
    out.end(map);
}

fn write_connection(out: &mut impl Writer, connection: &Connection<'_>) {
    let Connection { id, exchange, midstream } = connection;
    let map = out.map(3);
    key!(out, "id");
    out.text(id);
    key!(out, "exchange");
    out.uint((*exchange).into());
    key!(out, "midstream");
    out.flag(*midstream);
    out.end(map);
}

fn write_loss(out: &mut impl Writer, loss: &Loss) {
    let Loss { gap_bytes, truncated } = loss;
    let map = out.map(count(&[gap_bytes.is_some(), *truncated]));
    if let Some(bytes) = gap_bytes {
        key!(out, "gap_bytes");
        out.uint(*bytes);
    }
    if *truncated {
        key!(out, "truncated");
        out.flag(true);
    }
    out.end(map);
}

fn write_attributes(out: &mut impl Writer, attributes: &Attributes<'_>) {
    let map = out.map(attributes.0.len());
    for (name, value) in &attributes.0 {
        out.any_key(name);
        match value {
            Value::Flag(value) => out.flag(*value),
            Value::Uint(value) => out.uint(*value),
            Value::Int(value) => out.int(*value),
            Value::Float(value) => out.float(*value),
            Value::Text(value) => out.text(value),
        }
    }
    out.end(map);
}

fn write_resource(out: &mut impl Writer, resource: &Resource) {
    let map = out.map(resource.len());
    for (name, value) in resource {
        out.any_key(name);
        out.text(value);
    }
    out.end(map);
}

/// How many are there.
fn count(present: &[bool]) -> usize {
    present.iter().map(|&present| usize::from(present)).sum()
}

/// Room that was made before, in a slice or at the end of a vector.
pub(super) struct Room<B> {
    buffer: B,
    at: usize,
}

impl<B: AsMut<[u8]>> Room<B> {
    /// From a place on.
    pub(super) fn new(buffer: B, at: usize) -> Room<B> {
        Room { buffer, at }
    }

    /// Where the next byte goes.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Puts another byte in the place of one that was written.
    pub(super) fn replace(&mut self, at: usize, byte: u8) {
        self.buffer.as_mut()[at] = byte;
    }

    #[inline(always)]
    pub(super) fn array<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.buffer.as_mut()[self.at..self.at + N].copy_from_slice(bytes);
        self.at += N;
    }

    /// Short ones, as nearly all are, in two moves that may overlap: a call takes longer.
    #[inline(always)]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let room = &mut self.buffer.as_mut()[self.at..self.at + bytes.len()];
        self.at += bytes.len();
        match bytes.len() {
            0..4 => room.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from),
            4..8 => ends::<4>(room, bytes),
            8..16 => ends::<8>(room, bytes),
            16..=32 => ends::<16>(room, bytes),
            _ => room.copy_from_slice(bytes),
        }
    }
}

impl Room<&mut Vec<u8>> {
    /// So many bytes more.
    pub(super) fn grow(&mut self, bytes: usize) {
        self.buffer.resize(self.buffer.len() + bytes, 0);
    }
}

/// Copies the first and the last `N` bytes, which together are all.
#[inline(always)]
fn ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk()) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;
    use crate::event::{json, msgpack};

    fn number() -> impl Strategy<Value = u64> {
        // All lengths that numbers have in bytes, and their bounds.
        (0..64_u32, any::<u64>(), -1..2_i64).prop_map(|(bits, noise, off)| {
            let bound = 1_u64 << bits;
            if noise % 3 == 0 { bound.wrapping_add_signed(off) } else { noise >> bits }
        })
    }

    fn some_text() -> impl Strategy<Value = Cow<'static, str>> {
        let lengths = prop_oneof![0..40_usize, 250..260_usize, 65_530..65_540_usize];
        prop_oneof![
            9 => "\\PC{0,40}".prop_map(Cow::Owned),
            // Every character of ASCII.
            3 => "[\0-\x7f]{0,40}".prop_map(Cow::Owned),
            1 => lengths.prop_map(|length| Cow::Owned("x".repeat(length))),
        ]
    }

    fn value() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![
            any::<bool>().prop_map(Value::Flag),
            number().prop_map(Value::Uint),
            number().prop_map(|number| Value::Int(number.cast_signed())),
            any::<f64>().prop_map(Value::Float),
            prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]).prop_map(Value::Float),
            some_text().prop_map(Value::Text),
        ]
    }

    fn peer() -> impl Strategy<Value = Peer> {
        (any::<IpAddr>(), any::<u16>(), prop::option::of(number())).prop_map(|(address, port, bytes)| Peer {
            address,
            port,
            bytes,
        })
    }

    fn exchange() -> impl Strategy<Value = Exchange<'static>> {
        let offset = || prop::option::of(number());
        let name = || prop::option::of(some_text());
        let outcome = prop::sample::select(vec![
            Outcome::Ok,
            Outcome::Error,
            Outcome::NoResponse,
            Outcome::Aborted,
            Outcome::Unmatched,
        ]);
        let vantage =
            prop::sample::select(vec![None, Some(Vantage::Client), Some(Vantage::Server), Some(Vantage::Between)]);
        let loss = (offset(), any::<bool>()).prop_map(|(gap_bytes, truncated)| Loss { gap_bytes, truncated });
        let attributes = prop::collection::vec((some_text(), value()), 0..20).prop_map(Attributes);
        let resource = prop::collection::btree_map("[a-z.]{1,40}", "\\PC{0,40}", 0..4);
        let first = (some_text(), number(), offset(), (offset(), offset(), offset()), some_text(), some_text());
        let second = (name(), name(), name(), outcome, peer(), peer());
        let connection = (some_text(), any::<u32>(), any::<bool>());
        let third = (vantage, connection, prop::option::of(loss), attributes, resource);
        (first, second, third).prop_map(|(first, second, third)| {
            let (id, time, duration, (request_end, response_start, response_end), protocol, decoder) = first;
            let (operation, target, summary, outcome, client, server) = second;
            let (vantage, (connection, exchange, midstream), loss, attributes, resource) = third;
            Exchange {
                id,
                time: Timestamp(time),
                duration,
                timing: Timing { request_end, response_start, response_end },
                protocol,
                decoder,
                operation,
                target,
                summary,
                outcome,
                client,
                server,
                vantage,
                connection: Connection { id: connection, exchange, midstream },
                loss,
                attributes,
                resource: Cow::Owned(resource),
            }
        })
    }

    #[test]
    fn there_is_room_for_the_largest_frame() {
        let address = "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap();
        let peer = Peer { address, port: u16::MAX, bytes: Some(u64::MAX) };
        let offset = Some(u64::MAX);
        let exchange = Exchange {
            id: "".into(),
            time: Timestamp(u64::MAX),
            duration: offset,
            timing: Timing { request_end: offset, response_start: offset, response_end: offset },
            protocol: "".into(),
            decoder: "".into(),
            operation: Some("".into()),
            target: Some("".into()),
            summary: Some("".into()),
            outcome: Outcome::NoResponse,
            client: peer,
            server: peer,
            vantage: Some(Vantage::Between),
            connection: Connection { id: "".into(), exchange: u32::MAX, midstream: false },
            loss: Some(Loss { gap_bytes: offset, truncated: true }),
            attributes: Attributes(vec![("".into(), Value::Float(-f64::MIN_POSITIVE))]),
            resource: Cow::Owned(Resource::from([(String::new(), String::new())])),
        };
        for append in [msgpack::append, json::append] {
            let mut written = Vec::new();
            append(&exchange, &mut written);
            assert!(written.len() < MOST_BYTES_OF_FRAME, "{}", written.len());
        }
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_serializers(exchange in exchange()) {
            let (mut written, mut expected) = (b"before".to_vec(), b"before".to_vec());
            msgpack::append(&exchange, &mut written);
            exchange.serialize(&mut rmp_serde::Serializer::new(&mut expected).with_struct_map()).unwrap();
            prop_assert_eq!(&written, &expected);
            let (mut written, mut expected) = (b"before".to_vec(), b"before".to_vec());
            json::append(&exchange, &mut written);
            serde_json::to_writer(&mut expected, &exchange).unwrap();
            prop_assert_eq!(String::from_utf8(written).unwrap(), String::from_utf8(expected).unwrap());
        }
    }
}
