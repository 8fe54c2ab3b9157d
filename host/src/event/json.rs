//! An exchange as JSON: RFC 8259, without white space.

use std::net::IpAddr;

use super::writer::{Room, Writer, most_bytes, write};
use super::{Exchange, Timestamp, address_as_text};

/// Appends the exchange as one object.
pub(super) fn append(exchange: &Exchange<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + most_bytes(exchange), 0);
    let mut writer = Json { room: Room::new(out, start) };
    write(exchange, &mut writer);
    let end = writer.room.at();
    out.truncate(end);
}

/// Every member has a comma before it; at the end of its object, that of the first becomes the brace.
struct Json<'o> {
    room: Room<&'o mut Vec<u8>>,
}

impl Writer for Json<'_> {
    #[inline(always)]
    fn map(&mut self, _: usize) -> usize {
        self.room.at()
    }

    #[inline(always)]
    fn end(&mut self, map: usize) {
        if map == self.room.at() {
            self.room.array(b"{");
        } else {
            self.room.replace(map, b'{');
        }
        self.room.array(b"}");
    }

    #[inline(always)]
    fn known<const M: usize, const J: usize>(&mut self, _: &[u8; M], json: &[u8; J]) {
        self.room.array(json);
    }

    #[inline(always)]
    fn any_key(&mut self, key: &str) {
        self.room.array(b",");
        self.text(key);
        self.room.array(b":");
    }

    #[inline(always)]
    fn text(&mut self, text: &str) {
        self.room.array(b"\"");
        if is_plain(text.as_bytes()) {
            self.room.bytes(text.as_bytes());
        } else {
            self.escaped(text);
        }
        self.room.array(b"\"");
    }

    fn address(&mut self, address: &IpAddr) {
        self.room.array(b"\"");
        address_as_text::with_text(address, |address| self.room.bytes(address.as_bytes()));
        self.room.array(b"\"");
    }

    fn time(&mut self, time: Timestamp) {
        self.room.array(b"\"");
        self.room.array(&time.text());
        self.room.array(b"\"");
    }

    fn flag(&mut self, flag: bool) {
        self.room.bytes(if flag { b"true" } else { b"false" });
    }

    fn uint(&mut self, number: u64) {
        self.room.bytes(itoa::Buffer::new().format(number).as_bytes());
    }

    fn int(&mut self, number: i64) {
        self.room.bytes(itoa::Buffer::new().format(number).as_bytes());
    }

    fn float(&mut self, number: f64) {
        // JSON has neither infinities nor what is no number.
        let text = serde_json::Number::from_f64(number).map_or_else(|| "null".to_owned(), |number| number.to_string());
        self.room.bytes(text.as_bytes());
    }
}

/// Of one byte: `\u0000`.
const MOST_BYTES_OF_ESCAPE: usize = 6;

impl Json<'_> {
    /// A text with what must be escaped (RFC 8259 section 7), in the shortest way.
    #[cold]
    fn escaped(&mut self, text: &str) {
        self.room.grow((MOST_BYTES_OF_ESCAPE - 1) * text.len());
        let mut rest = text.as_bytes();
        while let Some(at) = rest.iter().position(|&byte| !is_plain(&[byte])) {
            let (plain, from) = rest.split_at(at);
            self.room.bytes(plain);
            let short = match from[0] {
                0x08 => b'b',
                b'\t' => b't',
                b'\n' => b'n',
                0x0c => b'f',
                b'\r' => b'r',
                byte @ (b'"' | b'\\') => byte,
                _ => 0,
            };
            if short == 0 {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let digits = [from[0] >> 4, from[0] & 0xf].map(|digit| DIGITS[usize::from(digit)]);
                self.room.array(b"\\u00");
                self.room.array(&digits);
            } else {
                self.room.array(&[b'\\', short]);
            }
            rest = &from[1..];
        }
        self.room.bytes(rest);
    }
}

/// Is there nothing to escape?
#[inline(always)]
fn is_plain(text: &[u8]) -> bool {
    if text.len() < 8 {
        return text.iter().all(|&byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    }
    // Eight bytes at a time, the last eight perhaps twice.
    let mut found = text.last_chunk().map_or(0, |last| to_escape(*last));
    for eight in text.as_chunks::<8>().0 {
        found |= to_escape(*eight);
    }
    found == 0
}

/// Not zero where one of the bytes is a control character, a quote or a backslash: none has its highest bit, and borrows go no
/// further than from one that is found to the next (H. Warren, "Hacker's Delight", section 6-1).
#[inline(always)]
fn to_escape(bytes: [u8; 8]) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let word = u64::from_le_bytes(bytes);
    let less_than = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word;
    let equals = |byte: u8| less_than(word ^ (ONES * u64::from(byte)), 1);
    (less_than(word, b' ') | equals(b'"') | equals(b'\\')) & (ONES << 7)
}
