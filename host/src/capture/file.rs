//! Capture files: pcap and pcapng, of either byte order, from a file or a pipe.
//!
//! Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. In: bytes. Out: packets as slices of the read buffer,
//! in file order. Read here and not by libpcap, which refuses pcapng files with more than one link type and reads
//! packet by packet through stdio. Never here: an allocation that a length in the file decides, beyond [`MAX_PACKET`].

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::stoppable::Stoppable;
use crate::stop::Stop;

/// The longest packet taken: libpcap's own bound is 256 KiB, offloaded segments reach 512 KiB.
pub(crate) const MAX_PACKET: usize = 1 << 20;

const BUFFER: usize = 256 * 1024;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// A capture that cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Opening or reading failed.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// No bytes at all.
    #[error("is empty: a capture file has at least a header; was the capture stopped before it began?")]
    Empty,
    /// Neither format.
    #[error(
        "is not a capture file: it starts with {start}, not with the magic number of pcap or pcapng; make one with \
         `tcpdump -w FILE`"
    )]
    NotACapture {
        /// The first bytes, printable.
        start: String,
    },
    /// A pcap version never published.
    #[error("is a pcap file of version {major}.{minor}; podtap reads version 2")]
    Version {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// The file ends within a record.
    #[error(
        "is cut off at byte {offset}, within a record: what stands before was decoded; the end is missing, as when a \
         capture or copy is interrupted"
    )]
    CutOff {
        /// Where the incomplete record begins.
        offset: u64,
    },
    /// A record that contradicts itself.
    #[error("is damaged at byte {offset} ({what}): what stands before was decoded, the rest cannot be read")]
    Damaged {
        /// Where the record begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// A packet of a file.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// LINKTYPE_ number of its interface.
    pub link_type: u32,
    /// Capture time, ns since epoch; that of the record before where a record has none.
    pub time_ns: u64,
    /// Bytes captured.
    pub data: &'a [u8],
    /// Length on the wire.
    pub original_len: u32,
}

/// A capture file that is being read.
pub struct CaptureFile {
    input: Box<dyn Read>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset in the file of `buffer[start]`.
    offset: u64,
    format: Format,
    last_time_ns: u64,
    /// It is a pipe or the like.
    may_wait: bool,
    /// The same file, to ask whether it has anything; none where it never waits.
    source: Option<OwnedFd>,
}

#[derive(Clone, Debug)]
enum Format {
    Pcap { big_endian: bool, nanoseconds: bool, header: usize, link_type: u32 },
    Pcapng { big_endian: bool, interfaces: Vec<Interface> },
}

/// A packet, by its place in the buffer.
struct Found {
    link_type: u32,
    time_ns: u64,
    start: usize,
    length: usize,
    original_len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: u32,
    snaplen: u32,
    resolution: Resolution,
    offset_seconds: i64,
}

/// Units of an interface's timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    Decimal(u8),
    Binary(u8),
}

impl Resolution {
    /// if_tsresol: the high bit chooses powers of 2 over powers of 10.
    fn new(option: u8) -> Resolution {
        if option & 0x80 == 0 { Resolution::Decimal(option) } else { Resolution::Binary(option & 0x7f) }
    }

    /// Saturates at the ends of time.
    fn nanoseconds(self, units: u64) -> u64 {
        match self {
            Resolution::Decimal(power @ 0..=9) => units.saturating_mul(10_u64.pow(u32::from(9 - power))),
            Resolution::Decimal(power) => 10_u64.checked_pow(u32::from(power - 9)).map_or(0, |divisor| units / divisor),
            Resolution::Binary(power) => {
                let scaled = (u128::from(units) * u128::from(NS_PER_SECOND)).checked_shr(power.into()).unwrap_or(0);
                u64::try_from(scaled).unwrap_or(u64::MAX)
            }
        }
    }
}

// Block types of pcapng.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Interfaces of one section that are remembered.
pub(crate) const MAX_INTERFACES: usize = 4096;

impl CaptureFile {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// As [`CaptureFile::new`].
    pub fn open(path: &Path) -> Result<CaptureFile, CaptureError> {
        CaptureFile::open_until(path, &Stop::default())
    }

    /// Opens a file that ends where an end is asked for, also while it is waited for.
    ///
    /// # Errors
    /// As [`CaptureFile::new`].
    pub fn open_until(path: &Path, stop: &Stop) -> Result<CaptureFile, CaptureError> {
        // A descriptor of its own for standard input: std's would buffer a second time.
        let file = if path == Path::new("-") {
            File::from(io::stdin().as_fd().try_clone_to_owned()?)
        } else {
            File::open(path)?
        };
        let is_regular = file.metadata()?.is_file();
        let source = if is_regular { None } else { Some(file.as_fd().try_clone_to_owned()?) };
        let mut capture = CaptureFile::new(Stoppable { file, may_wait: !is_regular, stop: stop.clone() })?;
        (capture.may_wait, capture.source) = (!is_regular, source);
        Ok(capture)
    }

    /// Is it a pipe or the like, so that a read may take any time?
    pub fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// Waits until there is something to read, but no longer than this. False: there is nothing.
    pub fn wait_for_input(&self, at_most: Duration) -> bool {
        let Some(file) = &self.source else { return true };
        let timeout = Timespec::try_from(at_most).ok();
        // Interrupted by a signal: whoever reads looks for itself.
        poll(&mut [PollFd::new(file, PollFlags::IN)], timeout.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// Will the next call of [`CaptureFile::next_record`] wait for whoever writes the capture? Then nothing should be held
    /// back.
    pub fn would_wait(&self) -> bool {
        if !self.may_wait {
            return false;
        }
        let unread = self.unread();
        match self.format {
            Format::Pcap { big_endian, header, .. } => {
                let length = header.saturating_add(Fields { bytes: unread, big_endian }.u32(8) as usize);
                unread.len() < header || unread.len() < length
            }
            Format::Pcapng { big_endian, .. } => !holds_packet(unread, big_endian),
        }
    }

    /// Reads the header.
    ///
    /// # Errors
    /// When it cannot be read or is not that of a capture file.
    pub fn new(input: impl Read + 'static) -> Result<CaptureFile, CaptureError> {
        let mut file = CaptureFile {
            input: Box::new(input),
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            offset: 0,
            format: Format::Pcapng { big_endian: false, interfaces: Vec::new() },
            last_time_ns: 0,
            may_wait: false,
            source: None,
        };
        if !file.fill(4)? {
            return Err(match file.unread() {
                [] => CaptureError::Empty,
                start => CaptureError::NotACapture { start: printable(start) },
            });
        }
        let magic = file.unread().first_chunk::<4>().copied().unwrap_or_default();
        // pcap magic numbers: microseconds, nanoseconds, and the "modified" format with longer record headers.
        let (big_endian, nanoseconds, header) = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
            (SECTION_HEADER, _) => return Ok(file),
            (0xa1b2_c3d4, _) => (false, false, 16),
            (0xa1b2_3c4d, _) => (false, true, 16),
            (0xa1b2_cd34, _) => (false, false, 24),
            (_, 0xa1b2_c3d4) => (true, false, 16),
            (_, 0xa1b2_3c4d) => (true, true, 16),
            (_, 0xa1b2_cd34) => (true, false, 24),
            _ => return Err(CaptureError::NotACapture { start: printable(&magic) }),
        };
        if !file.fill(24)? {
            return Err(CaptureError::CutOff { offset: 0 });
        }
        let fields = Fields { bytes: file.unread(), big_endian };
        let (major, minor) = (fields.u16(4), fields.u16(6));
        if major != 2 {
            return Err(CaptureError::Version { major, minor });
        }
        // The upper bits tell of a frame check sequence.
        let link_type = fields.u32(20) & 0xffff;
        file.format = Format::Pcap { big_endian, nanoseconds, header, link_type };
        file.consume(24);
        Ok(file)
    }

    /// Bytes of the file that were read.
    pub fn position(&self) -> u64 {
        self.offset
    }

    /// The next packet; none at the end of the file.
    ///
    /// # Errors
    /// When the file cannot be read any further. Another call would go wrong as well.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        let found = match self.format {
            Format::Pcap { big_endian, nanoseconds, header, link_type } => {
                self.pcap_record(big_endian, nanoseconds, header, link_type)?
            }
            Format::Pcapng { .. } => self.pcapng_record()?,
        };
        Ok(found.map(|Found { link_type, time_ns, start, length, original_len }| {
            let data = self.buffer.get(start..start + length).unwrap_or_default();
            Record { link_type, time_ns, data, original_len }
        }))
    }

    fn pcap_record(
        &mut self,
        big_endian: bool,
        nanoseconds: bool,
        header: usize,
        link_type: u32,
    ) -> Result<Option<Found>, CaptureError> {
        if !self.fill(header)? {
            return self.end_of_file();
        }
        let fields = Fields { bytes: self.unread(), big_endian };
        let (seconds, fraction) = (u64::from(fields.u32(0)), u64::from(fields.u32(4)));
        let (length, original_len) = (fields.u32(8) as usize, fields.u32(12));
        if length > MAX_PACKET {
            return Err(self.damaged("a packet longer than any network carries"));
        }
        if !self.fill(header + length)? {
            return self.end_of_file();
        }
        let time_ns = seconds * NS_PER_SECOND + fraction * if nanoseconds { 1 } else { 1000 };
        let start = self.consume(header + length) + header;
        Ok(Some(Found { link_type, time_ns, start, length, original_len }))
    }

    fn pcapng_record(&mut self) -> Result<Option<Found>, CaptureError> {
        loop {
            if !self.fill(12)? {
                return self.end_of_file();
            }
            let Format::Pcapng { big_endian, interfaces } = &mut self.format else { return Ok(None) };
            let bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
            let block_type = Fields { bytes, big_endian: *big_endian }.u32(0);
            if block_type == SECTION_HEADER {
                // Each section has a byte order and interfaces of its own.
                *big_endian = match (Fields { bytes, big_endian: true }).u32(8) {
                    BYTE_ORDER_MAGIC => true,
                    magic if magic.swap_bytes() == BYTE_ORDER_MAGIC => false,
                    _ => return Err(self.damaged("a section without a byte-order magic")),
                };
                interfaces.clear();
            }
            let big_endian = *big_endian;
            let length = Fields { bytes, big_endian }.u32(4) as usize;
            if length < 12 || !length.is_multiple_of(4) {
                return Err(self.damaged("a block of impossible length"));
            }
            let keeps = matches!(block_type, INTERFACE_DESCRIPTION | OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET);
            if !keeps {
                if !self.pass_over(length)? {
                    return self.end_of_file();
                }
                continue;
            }
            if length > MAX_PACKET + 65_536 {
                return Err(self.damaged("a packet longer than any network carries"));
            }
            if !self.fill(length)? {
                return self.end_of_file();
            }
            let offset = self.offset;
            let damaged = move |what| CaptureError::Damaged { offset, what };
            let from = self.consume(length);
            let Format::Pcapng { interfaces, .. } = &mut self.format else { return Ok(None) };
            // The body lies between type and length, and the repeated length.
            let body = self.buffer.get(from + 8..from + length - 4).unwrap_or_default();
            let fields = Fields { bytes: body, big_endian };
            let interface = |index: u32| interfaces.get(index as usize).copied().ok_or(index);
            let unknown = |_| damaged("a packet of an interface that was not described");
            let (interface, units, header, length, original_len) = match block_type {
                INTERFACE_DESCRIPTION => {
                    if interfaces.len() >= MAX_INTERFACES {
                        return Err(damaged("more interfaces than podtap keeps"));
                    }
                    interfaces.push(Interface::parse(&fields).ok_or(damaged("an interface without a link type"))?);
                    continue;
                }
                SIMPLE_PACKET => {
                    let interface = interface(0).map_err(unknown)?;
                    let original_len = fields.u32(0);
                    let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
                    let room = body.len().saturating_sub(4) as u32;
                    (interface, None, 4, original_len.min(snaplen).min(room), original_len)
                }
                _ => {
                    // The obsolete block has 16 bits of interface and 16 of drop count in the place of 32.
                    let index = if block_type == OBSOLETE_PACKET { fields.u16(0).into() } else { fields.u32(0) };
                    let units = u64::from(fields.u32(4)) << 32 | u64::from(fields.u32(8));
                    (interface(index).map_err(unknown)?, Some(units), 20, fields.u32(12), fields.u32(16))
                }
            };
            let length = length as usize;
            if header + length > body.len() {
                return Err(damaged("a packet longer than its block"));
            }
            if let Some(units) = units {
                self.last_time_ns = interface.time_ns(units);
            }
            let (link_type, time_ns, start) = (interface.link_type, self.last_time_ns, from + 8 + header);
            return Ok(Some(Found { link_type, time_ns, start, length, original_len }));
        }
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The end came: cleanly between records, or within one.
    fn end_of_file<T>(&self) -> Result<Option<T>, CaptureError> {
        if self.start == self.end { Ok(None) } else { Err(CaptureError::CutOff { offset: self.offset }) }
    }

    fn damaged(&self, what: &'static str) -> CaptureError {
        CaptureError::Damaged { offset: self.offset, what }
    }

    /// Marks bytes as read and gives where they begin in the buffer.
    fn consume(&mut self, length: usize) -> usize {
        let from = self.start;
        self.start += length;
        self.offset += length as u64;
        from
    }

    /// Sees to it that `wanted` bytes are unread; false when the file ends before.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        if self.end - self.start >= wanted {
            return Ok(true);
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        while self.end < wanted {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads over `length` bytes without keeping them; false when the file ends before.
    fn pass_over(&mut self, mut length: usize) -> io::Result<bool> {
        while length > 0 {
            let step = length.min(BUFFER);
            if !self.fill(step)? {
                return Ok(false);
            }
            self.consume(step);
            length -= step;
        }
        Ok(true)
    }
}

impl Interface {
    fn parse(body: &Fields<'_>) -> Option<Interface> {
        let mut interface = Interface {
            link_type: u32::from(body.u16(0)),
            snaplen: body.u32(4),
            resolution: Resolution::Decimal(6),
            offset_seconds: 0,
        };
        let mut options = body.bytes.get(8..)?;
        // Options: code, length, value padded to 32 bits.
        while options.len() >= 4 {
            let header = Fields { bytes: options, big_endian: body.big_endian };
            let (code, length) = (header.u16(0), usize::from(header.u16(2)));
            let Some(value) = options.get(4..4 + length) else { break };
            match (code, value) {
                (0, _) => break,
                (9, [resolution]) => interface.resolution = Resolution::new(*resolution),
                (14, value) if value.len() == 8 => {
                    let value = Fields { bytes: value, big_endian: body.big_endian };
                    let (first, second) = (u64::from(value.u32(0)), u64::from(value.u32(4)));
                    let bits = if body.big_endian { first << 32 | second } else { second << 32 | first };
                    interface.offset_seconds = bits.cast_signed();
                }
                _ => {}
            }
            options = options.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(interface)
    }

    fn time_ns(&self, units: u64) -> u64 {
        let offset = i128::from(self.offset_seconds) * i128::from(NS_PER_SECOND);
        let time = i128::from(self.resolution.nanoseconds(units)) + offset;
        u64::try_from(time.max(0)).unwrap_or(u64::MAX)
    }
}

/// Numbers at offsets, in the file's byte order; 0 behind the end.
struct Fields<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl Fields<'_> {
    fn u32(&self, at: usize) -> u32 {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    fn u16(&self, at: usize) -> u16 {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }
}

/// Is there a whole packet among these blocks, or one that is damaged, behind others that are whole?
fn holds_packet(mut blocks: &[u8], mut big_endian: bool) -> bool {
    while blocks.len() >= 12 {
        let block_type = Fields { bytes: blocks, big_endian }.u32(0);
        if block_type == SECTION_HEADER {
            big_endian = Fields { bytes: blocks, big_endian: true }.u32(8) == BYTE_ORDER_MAGIC;
        }
        let length = Fields { bytes: blocks, big_endian }.u32(4) as usize;
        let Some(others) = blocks.get(length..) else { return false };
        if length < 12 || matches!(block_type, OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET) {
            return true;
        }
        blocks = others;
    }
    false
}

fn printable(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Link type, time, data, original length.
    type Owned = (u32, u64, Vec<u8>, u32);

    /// Every record, and how the file ended.
    fn read(bytes: Vec<u8>) -> (Vec<Owned>, Option<String>) {
        let mut records = Vec::new();
        let mut file = match CaptureFile::new(io::Cursor::new(bytes)) {
            Ok(file) => file,
            Err(error) => return (records, Some(error.to_string())),
        };
        loop {
            match file.next_record() {
                Ok(Some(record)) => {
                    records.push((record.link_type, record.time_ns, record.data.to_vec(), record.original_len));
                }
                Ok(None) => return (records, None),
                Err(error) => return (records, Some(error.to_string())),
            }
        }
    }

    fn words(big_endian: bool, words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() }).collect()
    }

    fn pcap(big_endian: bool, magic: u32, extra: &[u32]) -> Vec<u8> {
        let version = if big_endian { 0x0002_0004 } else { 0x0004_0002 };
        let mut bytes = words(big_endian, &[magic, version, 0, 0, 65535, 0xf000_0071]);
        bytes.extend(words(big_endian, &[10, 5, 3, 60]));
        bytes.extend(words(big_endian, extra));
        bytes.extend(b"abc");
        bytes
    }

    #[test]
    fn pcap_of_every_magic_number() {
        for big_endian in [false, true] {
            let packet = |time| vec![(113, time, b"abc".to_vec(), 60)];
            assert_eq!(read(pcap(big_endian, 0xa1b2_c3d4, &[])), (packet(10_000_005_000), None));
            assert_eq!(read(pcap(big_endian, 0xa1b2_3c4d, &[])), (packet(10_000_000_005), None));
            assert_eq!(read(pcap(big_endian, 0xa1b2_cd34, &[7, 8])), (packet(10_000_005_000), None));
        }
    }

    fn block(big_endian: bool, kind: u32, body: &[u8]) -> Vec<u8> {
        let length = 12 + body.len() as u32;
        let mut bytes = words(big_endian, &[kind, length]);
        bytes.extend(body);
        bytes.extend(words(big_endian, &[length]));
        bytes
    }

    fn half(big_endian: bool, value: u16) -> [u8; 2] {
        if big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn section(big_endian: bool) -> Vec<u8> {
        block(big_endian, SECTION_HEADER, &words(big_endian, &[BYTE_ORDER_MAGIC, 1, u32::MAX, u32::MAX]))
    }

    fn interface(big_endian: bool, link_type: u16, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = half(big_endian, link_type).to_vec();
        body.extend([0, 0]);
        body.extend(words(big_endian, &[0]));
        for (code, value) in options {
            body.extend(half(big_endian, *code));
            body.extend(half(big_endian, value.len() as u16));
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        block(big_endian, INTERFACE_DESCRIPTION, &body)
    }

    fn packet(big_endian: bool, interface: u32, units: u64, data: &[u8]) -> Vec<u8> {
        let (high, low) = ((units >> 32) as u32, units as u32);
        let mut body = words(big_endian, &[interface, high, low, data.len() as u32, 99]);
        body.extend(data);
        body.resize(body.len().next_multiple_of(4), 0);
        block(big_endian, ENHANCED_PACKET, &body)
    }

    #[test]
    fn pcapng_with_several_sections_link_types_and_resolutions() {
        let mut bytes = section(false);
        bytes.extend(interface(false, 1, &[]));
        bytes.extend(interface(false, 113, &[(9, &[9]), (14, &2_u64.to_le_bytes()), (2, b"eth0")]));
        bytes.extend(packet(false, 0, 1, b"abcde"));
        bytes.extend(block(false, 5, &[0; 300_000]));
        bytes.extend(packet(false, 1, 7, b""));
        bytes.extend(block(false, SIMPLE_PACKET, &[&3_u32.to_le_bytes()[..], b"xyz\0"].concat()));
        bytes.extend(section(true));
        bytes.extend(interface(true, 101, &[(9, &[0x80 | 1])]));
        bytes.extend(packet(true, 0, 3, b"p"));
        let expected = vec![
            (1, 1_000, b"abcde".to_vec(), 99),
            (113, 2_000_000_007, Vec::new(), 99),
            (1, 2_000_000_007, b"xyz".to_vec(), 3),
            (101, 1_500_000_000, b"p".to_vec(), 99),
        ];
        assert_eq!(read(bytes), (expected, None));
    }

    #[test]
    fn it_is_known_before_each_packet_whether_it_is_there() {
        let parts = [false, true].map(|big_endian| {
            let blocks = [section(big_endian), interface(big_endian, 1, &[]), block(big_endian, 5, &[0; 8])];
            [blocks.concat(), packet(big_endian, 0, 1, b"abcde"), block(big_endian, 5, &[0; 4])].concat()
        });
        for whole in [parts.concat(), pcap(false, 0xa1b2_c3d4, &[])] {
            for length in 24..=whole.len() {
                let mut file = CaptureFile::new(io::Cursor::new(whole[..length].to_vec())).unwrap();
                file.may_wait = true;
                while !file.would_wait() {
                    assert!(matches!(file.next_record(), Ok(Some(_))), "{length}");
                }
                assert!(!matches!(file.next_record(), Ok(Some(_))), "{length}");
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_gives_what_stands_before_and_says_so() {
        let mut ng = section(false);
        ng.extend(interface(false, 1, &[]));
        let header = ng.len();
        ng.extend(packet(false, 0, 1, b"abcde"));
        let classic = pcap(false, 0xa1b2_c3d4, &[]);
        for (whole, boundaries) in [(classic, vec![24]), (ng, vec![28, header])] {
            for length in 4..whole.len() {
                let (records, error) = read(whole[..length].to_vec());
                assert!(records.is_empty());
                assert_eq!(error.is_none(), boundaries.contains(&length), "{length}: {error:?}");
                assert!(error.is_none_or(|error| error.starts_with("is cut off at byte ")));
            }
        }
    }

    #[test]
    fn what_is_no_capture_is_refused_in_words() {
        let check = |bytes: &[u8], expected: &str| {
            let (_, error) = read(bytes.to_vec());
            assert!(error.as_deref().is_some_and(|error| error.contains(expected)), "{error:?}");
        };
        check(b"", "is empty");
        check(b"GIF", "it starts with \"GIF\"");
        check(b"GIF89a....", "not with the magic number of pcap or pcapng");
        check(&words(false, &[0xa1b2_c3d4, 0x0004_0003, 0, 0, 0, 1]), "version 3.4");
        check(&pcap(false, 0xa1b2_c3d4, &[])[..20], "is cut off at byte 0");
        let mut huge = words(false, &[0xa1b2_c3d4, 0x0004_0002, 0, 0, 0, 1]);
        huge.extend(words(false, &[0, 0, u32::MAX, 0]));
        check(&huge, "is damaged at byte 24 (a packet longer than any network carries)");
        check(&[section(false), packet(false, 3, 0, b"")].concat(), "an interface that was not described");
        check(&block(false, SECTION_HEADER, &[0; 16]), "byte-order magic");
        let mut short = section(false);
        short.extend(words(false, &[5, 8, 8]));
        check(&short, "impossible length");
    }

    #[test]
    fn resolutions_at_their_ends() {
        assert_eq!(Resolution::new(0).nanoseconds(3), 3_000_000_000);
        assert_eq!(Resolution::new(12).nanoseconds(5_000), 5);
        assert_eq!(Resolution::new(127).nanoseconds(u64::MAX), 0);
        assert_eq!(Resolution::new(0xff).nanoseconds(u64::MAX), 0);
        assert_eq!(Resolution::new(0x80).nanoseconds(u64::MAX), u64::MAX);
    }
}
