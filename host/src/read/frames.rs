//! Where one event of a stream ends and the next begins: bytes in, the bytes of one event out, with their offset.
//!
//! MessagePack maps and JSON lines tell themselves apart, event by event: `{` is no map's first byte in MessagePack, and
//! a map's is no text. Nothing is decoded here, and no length that the bytes claim is allocated: an event is looked at
//! as it comes, and given up at [`MAX_EVENT_BYTES`].

use std::io::{self, Read};

use crate::event::Format;

/// The longest event that is read. Those of podtap are far below; Kafka's own default for a record is 1 MiB.
pub(crate) const MAX_EVENT_BYTES: usize = 16 << 20;
/// Read at once.
const READ_BYTES: usize = 64 << 10;

/// The bytes of one event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'b> {
    pub(super) format: Format,
    pub(super) bytes: &'b [u8],
    /// Of its first byte in the stream.
    pub(super) offset: u64,
}

/// The stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// From the system.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Neither a map of MessagePack nor an object of JSON.
    #[error("byte {offset}: 0x{byte:02x} begins no event: neither a JSON line nor a MessagePack map{hint}")]
    NoEvent {
        /// Where.
        offset: u64,
        /// What stands there.
        byte: u8,
        /// What the file may be instead.
        hint: &'static str,
    },
    /// MessagePack has no such byte.
    #[error("byte {0}: 0xc1 is no MessagePack")]
    Reserved(u64),
    /// It ends in the middle.
    #[error("byte {offset}: the event that begins here is cut off after {length} bytes")]
    Truncated {
        /// Of the event.
        offset: u64,
        /// What is there of it.
        length: usize,
    },
    /// It is longer than is read.
    #[error("byte {0}: the event that begins here is longer than {MAX_EVENT_BYTES} bytes")]
    TooLong(u64),
}

/// A stream, cut into events.
pub(super) struct Frames<R> {
    input: R,
    buffer: Vec<u8>,
    /// What is read but not yet taken: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Of `buffer[start]` in the stream.
    offset: u64,
}

impl<R: Read> Frames<R> {
    pub(super) fn new(input: R) -> Frames<R> {
        Frames { input, buffer: vec![0; READ_BYTES], start: 0, end: 0, offset: 0 }
    }

    /// Is an event, or a part of one, there without waiting for more input?
    pub(super) fn has_more_at_hand(&self) -> bool {
        self.rest().iter().any(|byte| !byte.is_ascii_whitespace())
    }

    /// The next event; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let first = loop {
            match self.rest().iter().position(|byte| !byte.is_ascii_whitespace()) {
                Some(blank) => {
                    self.take(blank);
                    break self.buffer[self.start];
                }
                None => {
                    self.take(self.end - self.start);
                    if !self.fill()? {
                        return Ok(None);
                    }
                }
            }
        };
        let offset = self.offset;
        let Some(format) = format_of(first) else {
            while self.end - self.start < 4 && self.fill()? {}
            return Err(FrameError::NoEvent { offset, byte: first, hint: hint(self.rest()) });
        };
        let mut extent = Extent::default();
        let length = loop {
            let found = match format {
                Format::Msgpack => {
                    extent.msgpack(self.rest()).map_err(|at| FrameError::Reserved(offset + at as u64))?
                }
                Format::Json => extent.line(self.rest()),
            };
            // What is still to come may be known to be too long before it has come.
            if found.unwrap_or(extent.position) > MAX_EVENT_BYTES {
                return Err(FrameError::TooLong(offset));
            }
            match found {
                Some(length) => break length,
                None if self.fill()? => {}
                // The last line needs no end; whether it is whole, the parser sees.
                None if format == Format::Json => break self.end - self.start,
                None => return Err(FrameError::Truncated { offset, length: self.end - self.start }),
            }
        };
        let start = self.start;
        self.take(length);
        Ok(Some(Frame { format, bytes: &self.buffer[start..start + length], offset }))
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn take(&mut self, length: usize) {
        self.start += length;
        self.offset += length as u64;
    }

    /// Reads some more behind what is there. False at the end of the input.
    fn fill(&mut self) -> io::Result<bool> {
        if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                // At most twice the longest event: a longer one was refused before.
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(length) => {
                    self.end += length;
                    return Ok(length > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What an event is that begins with this byte.
pub(super) fn format_of(first: u8) -> Option<Format> {
    match first {
        b'{' => Some(Format::Json),
        0x80..=0x8f | 0xde | 0xdf => Some(Format::Msgpack),
        _ => None,
    }
}

/// What a file that holds no events may be, by its first bytes.
fn hint(bytes: &[u8]) -> &'static str {
    match bytes {
        [0xd4, 0xc3, 0xb2, 0xa1, ..] | [0xa1, 0xb2, 0xc3, 0xd4, ..] | [0x4d, 0x3c, 0xb2, 0xa1, ..] => CAPTURE,
        [0xa1, 0xb2, 0x3c, 0x4d, ..] | [0x0a, 0x0d, 0x0d, 0x0a, ..] => CAPTURE,
        [0x1f, 0x8b, ..] => "; it is packed with gzip: `zcat FILE | podtap read -`",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "; it is packed with zstd: `zstdcat FILE | podtap read -`",
        [b'[', ..] => "; a JSON array is no JSON lines: `jq -c '.[]' FILE | podtap read -`",
        _ => "",
    }
}

const CAPTURE: &str = "; it is a capture: `podtap replay` reads those";

/// How far an event goes, as far as is known: it goes on where it stopped when more bytes have come.
#[derive(Debug, Default)]
struct Extent {
    /// Behind what was looked at; of MessagePack, behind what is known to belong to the event.
    position: usize,
    /// MessagePack: values that have begun to be looked at and those inside of them, less those that are over.
    begun: bool,
    pending: u64,
}

impl Extent {
    /// Length of the line, without its end; none: more bytes are needed.
    fn line(&mut self, bytes: &[u8]) -> Option<usize> {
        let found = bytes[self.position..].iter().position(|&byte| byte == b'\n');
        let length = self.position + found.unwrap_or(bytes.len() - self.position);
        self.position = length;
        found.map(|_| length)
    }

    /// Length of the value; none: more bytes are needed. An error is the place of a byte that MessagePack does not have.
    ///
    /// Nesting does not matter to where a value ends, only how many values are still to come: so there is no stack.
    fn msgpack(&mut self, bytes: &[u8]) -> Result<Option<usize>, usize> {
        if !self.begun {
            (self.begun, self.pending) = (true, 1);
        }
        while self.pending > 0 {
            let Some((&marker, rest)) = bytes.get(self.position..).and_then(<[u8]>::split_first) else {
                return Ok(None);
            };
            // https://github.com/msgpack/msgpack/blob/master/spec.md: bytes of a length, bytes of data, values inside.
            let (length_bytes, data, inside) = match marker {
                0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0, 0),
                0x80..=0x8f => (0, 0, 2 * u64::from(marker & 0x0f)),
                0x90..=0x9f => (0, 0, u64::from(marker & 0x0f)),
                0xa0..=0xbf => (0, u64::from(marker & 0x1f), 0),
                0xc1 => return Err(self.position),
                0xcc | 0xd0 => (0, 1, 0),
                0xcd | 0xd1 | 0xd4 => (0, 2, 0),
                0xca | 0xce | 0xd2 => (0, 4, 0),
                0xcb | 0xcf | 0xd3 => (0, 8, 0),
                0xd5 => (0, 3, 0),
                0xd6 => (0, 5, 0),
                0xd7 => (0, 9, 0),
                0xd8 => (0, 17, 0),
                0xc4..=0xdf => {
                    let length_bytes = match marker {
                        0xc4 | 0xc7 | 0xd9 => 1,
                        0xc5 | 0xc8 | 0xda | 0xdc | 0xde => 2,
                        _ => 4,
                    };
                    let Some(length) = rest.get(..length_bytes) else { return Ok(None) };
                    let length = length.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
                    match marker {
                        0xc7..=0xc9 => (length_bytes, length + 1, 0),
                        0xdc | 0xdd => (length_bytes, 0, length),
                        0xde | 0xdf => (length_bytes, 0, 2 * length),
                        _ => (length_bytes, length, 0),
                    }
                }
            };
            self.position += 1 + length_bytes + usize::try_from(data).unwrap_or(MAX_EVENT_BYTES + 1);
            // Each byte adds less than 2^34, and there are at most 2^24 of them.
            self.pending += inside;
            self.pending -= 1;
            if self.position > MAX_EVENT_BYTES {
                return Ok(None);
            }
        }
        Ok((self.position <= bytes.len()).then_some(self.position))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Reads as many bytes at once as it is told.
    struct Dribble<'b>(&'b [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(buffer.len());
            self.0.read(&mut buffer[..length])
        }
    }

    /// Format, bytes and offset.
    type Found = (Format, Vec<u8>, u64);

    fn frames(bytes: &[u8], at_once: usize) -> (Vec<Found>, Option<String>) {
        let (mut frames, mut found) = (Frames::new(Dribble(bytes, at_once)), Vec::new());
        loop {
            match frames.next() {
                Ok(Some(frame)) => found.push((frame.format, frame.bytes.to_vec(), frame.offset)),
                Ok(None) => return (found, None),
                Err(error) => return (found, Some(error.to_string())),
            }
        }
    }

    fn failure(bytes: &[u8]) -> String {
        let error = frames(bytes, 1 << 20).1.unwrap();
        assert_eq!(frames(bytes, 7).1.as_ref(), Some(&error));
        error
    }

    /// Every marker of MessagePack but the maps with 32-bit lengths and floats of 32 bits.
    fn all_kinds() -> Value {
        json!({
            "small": [0, 127, -1, -32, 128, 255, 256, 65535, 65536, u32::MAX, u64::MAX, -33, -129, -32769, i64::MIN],
            "others": [null, true, false, 1.5],
            "texts": ["", "a", "b".repeat(31), "c".repeat(32), "d".repeat(255), "e".repeat(256), "f".repeat(65536)],
            "list": vec![1; 15], "longer": vec![2; 16], "longest": vec![3; 65536],
            "map": (0..20).map(|number| (number.to_string(), json!({}))).collect::<serde_json::Map<_, _>>(),
        })
    }

    #[test]
    fn both_formats_are_cut_at_the_same_places_however_they_come() {
        let packed = rmp_serde::to_vec(&all_kinds()).unwrap();
        let line = all_kinds().to_string().into_bytes();
        let bytes = [b" \n", &packed[..], b"\x80", &line, b"\r\n\n", &line, b"\n", &packed, b"{}"].concat();
        let (expected, error) = frames(&bytes, usize::MAX);
        assert_eq!(error, None);
        let formats: Vec<_> = expected.iter().map(|(format, ..)| *format).collect();
        use Format::{Json, Msgpack};
        assert_eq!(formats, [Msgpack, Msgpack, Json, Json, Msgpack, Json]);
        assert_eq!(expected[0], (Msgpack, packed.clone(), 2));
        assert_eq!(expected[1], (Msgpack, b"\x80".to_vec(), 2 + packed.len() as u64));
        assert_eq!(expected[2].1, [&line[..], b"\r"].concat());
        assert_eq!(expected[5], (Json, b"{}".to_vec(), bytes.len() as u64 - 2));
        for at_once in [1, 2, 3, 1000, READ_BYTES] {
            assert_eq!(frames(&bytes, at_once), (expected.clone(), None), "{at_once} at once");
        }
    }

    #[test]
    fn binary_and_extensions_are_passed_over() {
        let value = b"\x8b\xa1a\xc4\x01\xff\xa1b\xc5\x00\x01\xff\xa1c\xc6\x00\x00\x00\x01\xff\xa1d\xc7\x01\x00\xff\
            \xa1e\xc8\x00\x01\x00\xff\xa1f\xc9\x00\x00\x00\x01\x00\xff\xa1g\xd4\x00\xff\xa1h\xd5\x00\xff\xff\
            \xa1i\xd6\x00\xff\xff\xff\xff\xa1j\xd7\x00\xff\xff\xff\xff\xff\xff\xff\xff\
            \xa1k\xd8\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
        let more = b"\x82\xa1a\xca\x00\x00\x00\x00\xa1b\xdf\x00\x00\x00\x01\x00\xdd\x00\x00\x00\x00";
        let (found, error) = frames(&[&value[..], more].concat(), 1);
        assert_eq!(error, None);
        assert_eq!(found.iter().map(|frame| &frame.1[..]).collect::<Vec<_>>(), [&value[..], more]);
    }

    #[test]
    fn what_is_no_event_is_named_with_its_place() {
        assert_eq!(failure(b"{}\nhello"), "byte 3: 0x68 begins no event: neither a JSON line nor a MessagePack map");
        assert!(failure(b"\x1f\x8b\x08\x00").ends_with("`zcat FILE | podtap read -`"));
        assert!(failure(b"\xd4\xc3\xb2\xa1\x02").ends_with("`podtap replay` reads those"));
        assert_eq!(failure(b"\x80\x81\xc1\x00"), "byte 2: 0xc1 is no MessagePack");
        assert_eq!(failure(b"\x80\x82\xa1a"), "byte 1: the event that begins here is cut off after 3 bytes");
    }

    #[test]
    fn claimed_lengths_are_not_believed() {
        let too_long = format!("byte 1: the event that begins here is longer than {MAX_EVENT_BYTES} bytes");
        for claim in [
            &b"\x80\x81\xa1a\xdb\xff\xff\xff\xff"[..],
            b"\x80\x81\xa1a\xc6\xff\xff\xff\xff",
            b"\x80\x81\xa1a\xc9\xff\xff\xff\xff",
        ] {
            let mut frames = Frames::new(claim);
            frames.next().unwrap();
            assert_eq!(frames.next().unwrap_err().to_string(), too_long);
            assert!(frames.buffer.len() <= READ_BYTES);
        }
        // Many values that never come.
        let claims = [b"\x80\xdf\xff\xff\xff\xff".as_slice(), &[0xdd, 0xff, 0xff, 0xff, 0xff].repeat(1000)].concat();
        assert!(failure(&claims).contains("cut off after 5005 bytes"));
        let endless = [b"\x80\xdf\xff\xff\xff\xff".as_slice(), &vec![0xc0; MAX_EVENT_BYTES]].concat();
        assert_eq!(failure(&endless), too_long);
        let line = [b"\n{".as_slice(), &vec![b' '; MAX_EVENT_BYTES]].concat();
        assert_eq!(failure(&line), too_long);
    }
}
