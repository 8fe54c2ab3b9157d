//! An exchange as MessagePack: <https://github.com/msgpack/msgpack/blob/master/spec.md>. Every number and header takes the fewest
//! bytes.

use std::net::IpAddr;

use super::writer::{Room, Writer, most_bytes, write};
use super::{Exchange, Timestamp, address_as_text};

/// Appends the exchange as one map.
pub(super) fn append(exchange: &Exchange<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + most_bytes(exchange), 0);
    let mut writer = Msgpack { room: Room::new(&mut out[start..], 0) };
    write(exchange, &mut writer);
    let written = writer.room.at();
    out.truncate(start + written);
}

struct Msgpack<'o> {
    room: Room<&'o mut [u8]>,
}

impl Msgpack<'_> {
    /// A header byte with what belongs to it.
    #[inline(always)]
    fn long<const N: usize>(&mut self, header: u8, bytes: [u8; N]) {
        self.room.array(&[header]);
        self.room.array(&bytes);
    }
}

impl Writer for Msgpack<'_> {
    #[inline(always)]
    fn map(&mut self, entries: usize) -> usize {
        match entries {
            0..16 => self.room.array(&[0x80 | entries as u8]),
            16..0x1_0000 => self.long(0xde, (entries as u16).to_be_bytes()),
            // No map of ours has as many.
            _ => self.long(0xdf, (entries as u32).to_be_bytes()),
        }
        0
    }

    #[inline(always)]
    fn end(&mut self, _: usize) {}

    #[inline(always)]
    fn known<const M: usize, const J: usize>(&mut self, msgpack: &[u8; M], _: &[u8; J]) {
        self.room.array(msgpack);
    }

    #[inline(always)]
    fn any_key(&mut self, key: &str) {
        self.text(key);
    }

    #[inline(always)]
    fn text(&mut self, text: &str) {
        match text.len() {
            length @ 0..32 => self.room.array(&[0xa0 | length as u8]),
            length @ 32..0x100 => self.long(0xd9, [length as u8]),
            length @ 0x100..0x1_0000 => self.long(0xda, (length as u16).to_be_bytes()),
            // Texts are bounded far below 4 GiB.
            length => self.long(0xdb, (length as u32).to_be_bytes()),
        }
        self.room.bytes(text.as_bytes());
    }

    fn address(&mut self, address: &IpAddr) {
        address_as_text::with_text(address, |address| self.text(address));
    }

    #[inline(always)]
    fn time(&mut self, time: Timestamp) {
        self.uint(time.0);
    }

    fn flag(&mut self, flag: bool) {
        self.room.array(&[0xc2 | u8::from(flag)]);
    }

    #[inline(always)]
    fn uint(&mut self, number: u64) {
        match number {
            0..0x80 => self.room.array(&[number as u8]),
            0x80..0x100 => self.long(0xcc, [number as u8]),
            0x100..0x1_0000 => self.long(0xcd, (number as u16).to_be_bytes()),
            0x1_0000..0x1_0000_0000 => self.long(0xce, (number as u32).to_be_bytes()),
            _ => self.long(0xcf, number.to_be_bytes()),
        }
    }

    fn int(&mut self, number: i64) {
        match number {
            0.. => self.uint(number.cast_unsigned()),
            -0x20..0 => self.room.array(&[number as u8]),
            -0x80..-0x20 => self.long(0xd0, [number as u8]),
            -0x8000..-0x80 => self.long(0xd1, (number as i16).to_be_bytes()),
            -0x8000_0000..-0x8000 => self.long(0xd2, (number as i32).to_be_bytes()),
            _ => self.long(0xd3, number.to_be_bytes()),
        }
    }

    fn float(&mut self, number: f64) {
        self.long(0xcb, number.to_be_bytes());
    }
}
