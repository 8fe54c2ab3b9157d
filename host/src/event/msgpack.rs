//! An exchange as MessagePack, written straight into the buffer: byte for byte what rmp-serde makes of the type, as a test
//! holds it to, but with keys that the compiler puts together, and a header and its text in one step.
//!
//! Format: <https://github.com/msgpack/msgpack/blob/master/spec.md>. Every number and header takes the fewest bytes.

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
    map(out, 8 + count(&optional));
    out.extend_from_slice(fixstr!("id"));
    text(out, id);
    out.extend_from_slice(fixstr!("time"));
    uint(out, time.0);
    if let Some(duration) = duration {
        out.extend_from_slice(fixstr!("duration"));
        uint(out, *duration);
    }
    if !timing.is_empty() {
        out.extend_from_slice(fixstr!("timing"));
        append_timing(out, timing);
    }
    out.extend_from_slice(fixstr!("protocol"));
    text(out, protocol);
    out.extend_from_slice(fixstr!("decoder"));
    text(out, decoder);
    if let Some(operation) = operation {
        out.extend_from_slice(fixstr!("operation"));
        text(out, operation);
    }
    if let Some(target) = target {
        out.extend_from_slice(fixstr!("target"));
        text(out, target);
    }
    if let Some(summary) = summary {
        out.extend_from_slice(fixstr!("summary"));
        text(out, summary);
    }
    out.extend_from_slice(fixstr!("outcome"));
    out.extend_from_slice(match outcome {
        Outcome::Ok => fixstr!("ok").as_slice(),
        Outcome::Error => fixstr!("error"),
        Outcome::NoResponse => fixstr!("no_response"),
        Outcome::Aborted => fixstr!("aborted"),
        Outcome::Unmatched => fixstr!("unmatched"),
    });
    out.extend_from_slice(fixstr!("client"));
    append_peer(out, client);
    out.extend_from_slice(fixstr!("server"));
    append_peer(out, server);
    if let Some(vantage) = vantage {
        out.extend_from_slice(fixstr!("vantage"));
        out.extend_from_slice(match vantage {
            Vantage::Client => fixstr!("client").as_slice(),
            Vantage::Server => fixstr!("server"),
            Vantage::Between => fixstr!("between"),
        });
    }
    out.extend_from_slice(fixstr!("connection"));
    append_connection(out, connection);
    if let Some(loss) = loss {
        out.extend_from_slice(fixstr!("loss"));
        append_loss(out, loss);
    }
    if !attributes.is_empty() {
        out.extend_from_slice(fixstr!("attributes"));
        append_attributes(out, attributes);
    }
    if !resource.is_empty() {
        out.extend_from_slice(fixstr!("resource"));
        append_resource(out, resource);
    }
}

fn append_timing(out: &mut Vec<u8>, timing: &Timing) {
    let Timing { request_end, response_start, response_end } = timing;
    map(out, count(&[request_end.is_some(), response_start.is_some(), response_end.is_some()]));
    if let Some(offset) = request_end {
        out.extend_from_slice(fixstr!("request_end"));
        uint(out, *offset);
    }
    if let Some(offset) = response_start {
        out.extend_from_slice(fixstr!("response_start"));
        uint(out, *offset);
    }
    if let Some(offset) = response_end {
        out.extend_from_slice(fixstr!("response_end"));
        uint(out, *offset);
    }
}

fn append_peer(out: &mut Vec<u8>, peer: &Peer) {
    let Peer { address, port, bytes } = peer;
    map(out, 2 + usize::from(bytes.is_some()));
    out.extend_from_slice(fixstr!("address"));
    address_as_text::with_text(address, |address| text(out, address));
    out.extend_from_slice(fixstr!("port"));
    uint(out, (*port).into());
    if let Some(bytes) = bytes {
        out.extend_from_slice(fixstr!("bytes"));
        uint(out, *bytes);
    }
}

fn append_connection(out: &mut Vec<u8>, connection: &Connection<'_>) {
    let Connection { id, exchange, midstream } = connection;
    map(out, 3);
    out.extend_from_slice(fixstr!("id"));
    text(out, id);
    out.extend_from_slice(fixstr!("exchange"));
    uint(out, (*exchange).into());
    out.extend_from_slice(fixstr!("midstream"));
    flag(out, *midstream);
}

fn append_loss(out: &mut Vec<u8>, loss: &Loss) {
    let Loss { gap_bytes, truncated } = loss;
    map(out, count(&[gap_bytes.is_some(), *truncated]));
    if let Some(bytes) = gap_bytes {
        out.extend_from_slice(fixstr!("gap_bytes"));
        uint(out, *bytes);
    }
    if *truncated {
        out.extend_from_slice(fixstr!("truncated"));
        flag(out, true);
    }
}

fn append_attributes(out: &mut Vec<u8>, attributes: &Attributes<'_>) {
    map(out, attributes.0.len());
    for (name, value) in &attributes.0 {
        text(out, name);
        match value {
            Value::Flag(value) => flag(out, *value),
            Value::Uint(value) => uint(out, *value),
            Value::Int(value) => int(out, *value),
            Value::Float(value) => long(out, 0xcb, value.to_be_bytes()),
            Value::Text(value) => text(out, value),
        }
    }
}

fn append_resource(out: &mut Vec<u8>, resource: &Resource) {
    map(out, resource.len());
    for (name, value) in resource {
        text(out, name);
        text(out, value);
    }
}

/// How many are there.
fn count(present: &[bool]) -> usize {
    present.iter().map(|&present| usize::from(present)).sum()
}

fn map(out: &mut Vec<u8>, entries: usize) {
    match entries {
        0..16 => out.push(0x80 | entries as u8),
        16..0x1_0000 => long(out, 0xde, (entries as u16).to_be_bytes()),
        // No map of ours has as many.
        _ => long(out, 0xdf, (entries as u32).to_be_bytes()),
    }
}

#[inline]
fn text(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        length @ 0..32 => out.push(0xa0 | length as u8),
        length @ 32..0x100 => long(out, 0xd9, [length as u8]),
        length @ 0x100..0x1_0000 => long(out, 0xda, (length as u16).to_be_bytes()),
        // Texts are bounded far below 4 GiB.
        length => long(out, 0xdb, (length as u32).to_be_bytes()),
    }
    out.extend_from_slice(text.as_bytes());
}

fn flag(out: &mut Vec<u8>, flag: bool) {
    out.push(0xc2 | u8::from(flag));
}

#[inline]
fn uint(out: &mut Vec<u8>, number: u64) {
    match number {
        0..0x80 => out.push(number as u8),
        0x80..0x100 => long(out, 0xcc, [number as u8]),
        0x100..0x1_0000 => long(out, 0xcd, (number as u16).to_be_bytes()),
        0x1_0000..0x1_0000_0000 => long(out, 0xce, (number as u32).to_be_bytes()),
        _ => long(out, 0xcf, number.to_be_bytes()),
    }
}

fn int(out: &mut Vec<u8>, number: i64) {
    match number {
        0.. => uint(out, number.cast_unsigned()),
        -0x20..0 => out.push(number as u8),
        -0x80..-0x20 => long(out, 0xd0, [number as u8]),
        -0x8000..-0x80 => long(out, 0xd1, (number as i16).to_be_bytes()),
        -0x8000_0000..-0x8000 => long(out, 0xd2, (number as i32).to_be_bytes()),
        _ => long(out, 0xd3, number.to_be_bytes()),
    }
}

/// A header byte with what belongs to it.
#[inline]
fn long<const N: usize>(out: &mut Vec<u8>, header: u8, bytes: [u8; N]) {
    out.push(header);
    out.extend_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::net::IpAddr;

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
