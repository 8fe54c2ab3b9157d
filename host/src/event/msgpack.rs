//! An exchange as MessagePack, written straight into the buffer: byte for byte what rmp-serde makes of the type, as a test
//! holds it to, but with keys that the compiler puts together, and a header and its text in one step.
//!
//! Format: <https://github.com/msgpack/msgpack/blob/master/spec.md>. Every number and header takes the fewest bytes.

use std::borrow::Cow;
use std::net::IpAddr;

use super::{Attributes, Connection, Exchange, Loss, Outcome, Peer, Resource, Timing, Value, Vantage, address_as_text};

/// A text of at most 31 bytes behind its header.
macro_rules! fixstr {
    ($text:literal) => {{
        const BYTES: [u8; $text.len() + 1] = {
            let (mut bytes, text) = ([0xa0 | $text.len() as u8; $text.len() + 1], $text.as_bytes());
            let mut at = 0;
            while at < text.len() {
                bytes[at + 1] = text[at];
                at += 1;
            }
            bytes
        };
        const { assert!($text.len() < 32) };
        &BYTES
    }};
}

/// Appends the exchange as one map.
pub(super) fn append(exchange: &Exchange<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    // Room for all of it at once: what is looked at for each piece otherwise is looked at once.
    out.resize(start + most_bytes(exchange), 0);
    let mut writer = Writer { room: &mut out[start..], at: 0 };
    write(exchange, &mut writer);
    let written = writer.at;
    out.truncate(start + written);
}

/// Of a header, or of a number behind its header.
const MOST_BYTES_OF_NUMBER: usize = 9;

/// All that an exchange has but its texts of any length: keys, headers, numbers, addresses and names that are chosen from few.
const MOST_BYTES_OF_FRAME: usize = 768;

/// No exchange takes more.
fn most_bytes(exchange: &Exchange<'_>) -> usize {
    let Exchange { id, protocol, decoder, operation, target, summary, connection, attributes, resource, .. } = exchange;
    let optional = [operation, target, summary].map(|text| text.as_ref().map_or(0, |text| text.len()));
    let texts = id.len() + protocol.len() + decoder.len() + connection.id.len() + optional.iter().sum::<usize>();
    let of_attribute = |(name, value): &(Cow<'_, str>, Value<'_>)| {
        let value = if let Value::Text(text) = value { text.len() } else { 0 };
        name.len() + value + 2 * MOST_BYTES_OF_NUMBER
    };
    let of_resource = |(name, value): (&String, &String)| name.len() + value.len() + 2 * MOST_BYTES_OF_NUMBER;
    let attributes = attributes.0.iter().map(of_attribute).sum::<usize>();
    MOST_BYTES_OF_FRAME + texts + attributes + resource.iter().map(of_resource).sum::<usize>()
}

fn write(exchange: &Exchange<'_>, out: &mut Writer<'_>) {
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
    out.map(8 + count(&optional));
    out.array(fixstr!("id"));
    out.text(id);
    out.array(fixstr!("time"));
    out.uint(time.0);
    if let Some(duration) = duration {
        out.array(fixstr!("duration"));
        out.uint(*duration);
    }
    if !timing.is_empty() {
        out.array(fixstr!("timing"));
        write_timing(out, timing);
    }
    out.array(fixstr!("protocol"));
    out.text(protocol);
    out.array(fixstr!("decoder"));
    out.text(decoder);
    if let Some(operation) = operation {
        out.array(fixstr!("operation"));
        out.text(operation);
    }
    if let Some(target) = target {
        out.array(fixstr!("target"));
        out.text(target);
    }
    if let Some(summary) = summary {
        out.array(fixstr!("summary"));
        out.text(summary);
    }
    out.array(fixstr!("outcome"));
    match outcome {
        Outcome::Ok => out.array(fixstr!("ok")),
        Outcome::Error => out.array(fixstr!("error")),
        Outcome::NoResponse => out.array(fixstr!("no_response")),
        Outcome::Aborted => out.array(fixstr!("aborted")),
        Outcome::Unmatched => out.array(fixstr!("unmatched")),
    }
    out.array(fixstr!("client"));
    write_peer(out, client);
    out.array(fixstr!("server"));
    write_peer(out, server);
    if let Some(vantage) = vantage {
        out.array(fixstr!("vantage"));
        match vantage {
            Vantage::Client => out.array(fixstr!("client")),
            Vantage::Server => out.array(fixstr!("server")),
            Vantage::Between => out.array(fixstr!("between")),
        }
    }
    out.array(fixstr!("connection"));
    write_connection(out, connection);
    if let Some(loss) = loss {
        out.array(fixstr!("loss"));
        write_loss(out, loss);
    }
    if !attributes.is_empty() {
        out.array(fixstr!("attributes"));
        write_attributes(out, attributes);
    }
    if !resource.is_empty() {
        out.array(fixstr!("resource"));
        write_resource(out, resource);
    }
}

fn write_timing(out: &mut Writer<'_>, timing: &Timing) {
    let Timing { request_end, response_start, response_end } = timing;
    out.map(count(&[request_end.is_some(), response_start.is_some(), response_end.is_some()]));
    if let Some(offset) = request_end {
        out.array(fixstr!("request_end"));
        out.uint(*offset);
    }
    if let Some(offset) = response_start {
        out.array(fixstr!("response_start"));
        out.uint(*offset);
    }
    if let Some(offset) = response_end {
        out.array(fixstr!("response_end"));
        out.uint(*offset);
    }
}

fn write_peer(out: &mut Writer<'_>, peer: &Peer) {
    let Peer { address, port, bytes } = peer;
    out.map(2 + usize::from(bytes.is_some()));
    out.array(fixstr!("address"));
    out.address(address);
    out.array(fixstr!("port"));
    out.uint((*port).into());
    if let Some(bytes) = bytes {
        out.array(fixstr!("bytes"));
        out.uint(*bytes);
    }
}

fn write_connection(out: &mut Writer<'_>, connection: &Connection<'_>) {
    let Connection { id, exchange, midstream } = connection;
    out.map(3);
    out.array(fixstr!("id"));
    out.text(id);
    out.array(fixstr!("exchange"));
    out.uint((*exchange).into());
    out.array(fixstr!("midstream"));
    out.flag(*midstream);
}

fn write_loss(out: &mut Writer<'_>, loss: &Loss) {
    let Loss { gap_bytes, truncated } = loss;
    out.map(count(&[gap_bytes.is_some(), *truncated]));
    if let Some(bytes) = gap_bytes {
        out.array(fixstr!("gap_bytes"));
        out.uint(*bytes);
    }
    if *truncated {
        out.array(fixstr!("truncated"));
        out.flag(true);
    }
}

fn write_attributes(out: &mut Writer<'_>, attributes: &Attributes<'_>) {
    out.map(attributes.0.len());
    for (name, value) in &attributes.0 {
        out.text(name);
        match value {
            Value::Flag(value) => out.flag(*value),
            Value::Uint(value) => out.uint(*value),
            Value::Int(value) => out.int(*value),
            Value::Float(value) => out.long(0xcb, value.to_be_bytes()),
            Value::Text(value) => out.text(value),
        }
    }
}

fn write_resource(out: &mut Writer<'_>, resource: &Resource) {
    out.map(resource.len());
    for (name, value) in resource {
        out.text(name);
        out.text(value);
    }
}

/// How many are there.
fn count(present: &[bool]) -> usize {
    present.iter().map(|&present| usize::from(present)).sum()
}

/// Writes into room that was made before.
struct Writer<'o> {
    room: &'o mut [u8],
    at: usize,
}

impl Writer<'_> {
    #[inline(always)]
    fn array<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.room[self.at..self.at + N].copy_from_slice(bytes);
        self.at += N;
    }

    /// Short ones, as nearly all are, in two moves that may overlap: a call takes longer.
    #[inline(always)]
    fn bytes(&mut self, bytes: &[u8]) {
        let room = &mut self.room[self.at..self.at + bytes.len()];
        self.at += bytes.len();
        match bytes.len() {
            0..4 => room.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from),
            4..8 => ends::<4>(room, bytes),
            8..16 => ends::<8>(room, bytes),
            16..=32 => ends::<16>(room, bytes),
            _ => room.copy_from_slice(bytes),
        }
    }

    fn map(&mut self, entries: usize) {
        match entries {
            0..16 => self.array(&[0x80 | entries as u8]),
            16..0x1_0000 => self.long(0xde, (entries as u16).to_be_bytes()),
            // No map of ours has as many.
            _ => self.long(0xdf, (entries as u32).to_be_bytes()),
        }
    }

    #[inline(always)]
    fn text(&mut self, text: &str) {
        match text.len() {
            length @ 0..32 => self.array(&[0xa0 | length as u8]),
            length @ 32..0x100 => self.long(0xd9, [length as u8]),
            length @ 0x100..0x1_0000 => self.long(0xda, (length as u16).to_be_bytes()),
            // Texts are bounded far below 4 GiB.
            length => self.long(0xdb, (length as u32).to_be_bytes()),
        }
        self.bytes(text.as_bytes());
    }

    fn address(&mut self, address: &IpAddr) {
        address_as_text::with_text(address, |address| self.text(address));
    }

    fn flag(&mut self, flag: bool) {
        self.array(&[0xc2 | u8::from(flag)]);
    }

    #[inline(always)]
    fn uint(&mut self, number: u64) {
        match number {
            0..0x80 => self.array(&[number as u8]),
            0x80..0x100 => self.long(0xcc, [number as u8]),
            0x100..0x1_0000 => self.long(0xcd, (number as u16).to_be_bytes()),
            0x1_0000..0x1_0000_0000 => self.long(0xce, (number as u32).to_be_bytes()),
            _ => self.long(0xcf, number.to_be_bytes()),
        }
    }

    fn int(&mut self, number: i64) {
        match number {
            0.. => self.uint(number.cast_unsigned()),
            -0x20..0 => self.array(&[number as u8]),
            -0x80..-0x20 => self.long(0xd0, [number as u8]),
            -0x8000..-0x80 => self.long(0xd1, (number as i16).to_be_bytes()),
            -0x8000_0000..-0x8000 => self.long(0xd2, (number as i32).to_be_bytes()),
            _ => self.long(0xd3, number.to_be_bytes()),
        }
    }

    /// A header byte with what belongs to it.
    #[inline(always)]
    fn long<const N: usize>(&mut self, header: u8, bytes: [u8; N]) {
        self.array(&[header]);
        self.array(&bytes);
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
    use crate::event::Timestamp;

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
            1 => lengths.prop_map(|length| Cow::Owned("x".repeat(length))),
        ]
    }

    fn value() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![
            any::<bool>().prop_map(Value::Flag),
            number().prop_map(Value::Uint),
            number().prop_map(|number| Value::Int(number.cast_signed())),
            any::<f64>().prop_map(Value::Float),
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

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_serializer(exchange in exchange()) {
            let (mut written, mut expected) = (Vec::new(), Vec::new());
            append(&exchange, &mut written);
            exchange.serialize(&mut rmp_serde::Serializer::new(&mut expected).with_struct_map()).unwrap();
            prop_assert_eq!(written, expected);
        }
    }
}
