//! One file of a spool: a header, then records as `record` has them.
//!
//! ```text
//! "podtap-1" | events u32, 0 while it is still written to | CRC32C u32 of that number | records       (little-endian)
//! ```
//!
//! A file whose writer was killed has no number of events, and may end within a record: [`Segment::recover`] counts its
//! whole records and cuts what is behind them. So it does where the number has another checksum, or the header is
//! damaged, and where the records show by their checksums that it is a segment.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::super::record::{First, first};

const MAGIC: &[u8; 8] = b"podtap-1";
/// Where records begin.
pub(super) const HEADER: u64 = 16;
/// Bytes read at once.
const BLOCK: u64 = 256 << 10;
const EXTENSION: &str = "segment";
/// Of a file that was set aside.
const ASIDE: &str = "damaged";

/// A file and what is known of its records.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// With the header.
    pub(super) bytes: u64,
    pub(super) records: u64,
    /// Acknowledged, or given up and counted.
    pub(super) settled: u64,
}

impl Segment {
    /// A new file, empty but for its header.
    pub(super) fn create(directory: &Path, number: u64) -> io::Result<(Segment, File)> {
        let path = path(directory, number);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        if let Err(error) = file.write_all_at(&header(0), 0) {
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok((Segment { number, bytes: HEADER, records: 0, settled: 0 }, file))
    }

    /// Notes in the file how many events it has: it is not written to any more.
    pub(super) fn close(&self, file: &File) -> io::Result<()> {
        // More would be hundreds of gigabytes; without a number they are counted.
        file.write_all_at(&header(u32::try_from(self.records).unwrap_or(0)), 0)
    }

    pub(super) fn remove(&self, directory: &Path) -> io::Result<()> {
        std::fs::remove_file(path(directory, self.number))
    }

    pub(super) fn open(directory: &Path, number: u64) -> io::Result<File> {
        File::open(path(directory, number))
    }

    /// A file of an earlier run, and the bytes that were cut from its end. None: it holds no record, and is removed.
    ///
    /// # Errors
    /// The system's; of kind `InvalidData` where it is no segment, or its first record is damaged.
    pub(super) fn recover(directory: &Path, number: u64) -> io::Result<Option<(Segment, u64)>> {
        let path = path(directory, number);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let length = file.metadata()?.len();
        let mut header = [0; HEADER as usize];
        // A writer may be killed before the header is there.
        let is_whole = length >= HEADER;
        if is_whole {
            file.read_exact_at(&mut header, 0)?;
        }
        let is_ours = !is_whole || header.starts_with(MAGIC);
        if let Some(records) = noted(&header)
            && is_whole
            && is_ours
        {
            return Ok(Some((Segment { number, bytes: length, records, settled: 0 }, 0)));
        }
        let mut segment = Segment { number, bytes: length.min(HEADER), records: 0, settled: 0 };
        let mut buffer = Vec::new();
        while segment.bytes < length {
            let (bytes, records) = read_records(&file, segment.bytes, length, &mut buffer)?;
            if records == 0 {
                break;
            }
            segment.bytes += bytes as u64;
            segment.records += records;
        }
        let cut = length - segment.bytes;
        if segment.records == 0 {
            let damaged = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
            if !is_ours {
                return damaged("is no segment of a spool");
            }
            // Not one that was being written: records may stand behind it.
            if matches!(first(&buffer, true), First::Broken) {
                return damaged("its first record is damaged");
            }
            std::fs::remove_file(path)?;
            return Ok((cut > 0).then_some((segment, cut)));
        }
        file.set_len(segment.bytes)?;
        segment.close(&file)?;
        Ok(Some((segment, cut)))
    }
}

/// The header of a segment with so many events; 0: it is still written to.
fn header(events: u32) -> [u8; HEADER as usize] {
    let mut header = [0; HEADER as usize];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    if events > 0 {
        let events = events.to_le_bytes();
        let checksum = crc32c::crc32c(&events).to_le_bytes();
        header[MAGIC.len()..].copy_from_slice([events, checksum].as_flattened());
    }
    header
}

/// The number of events that a header has, if its checksum is right.
fn noted(header: &[u8; HEADER as usize]) -> Option<u64> {
    let (events, checksum) = header[MAGIC.len()..].split_first_chunk::<4>()?;
    let number = u32::from_le_bytes(*events);
    (number > 0 && checksum == crc32c::crc32c(events).to_le_bytes()).then_some(number.into())
}

/// Reads whole records with right checksums from `offset` on, not beyond `end`: as many as come in one go, at least one
/// unless the first is none. Gives their bytes, which stand at the start of `buffer`, and their number.
pub(super) fn read_records(file: &File, offset: u64, end: u64, buffer: &mut Vec<u8>) -> io::Result<(usize, u64)> {
    let mut wanted = BLOCK;
    loop {
        let length = wanted.min(end.saturating_sub(offset)) as usize;
        buffer.resize(length, 0);
        file.read_exact_at(buffer, offset)?;
        let (mut bytes, mut records) = (0, 0);
        loop {
            match first(&buffer[bytes..], true) {
                First::Record(_, length) => {
                    bytes += length;
                    records += 1;
                }
                // One longer than a block, whose end is in the file.
                First::Incomplete(needed) if records == 0 && needed > length && offset + needed as u64 <= end => {
                    wanted = needed as u64;
                    break;
                }
                First::Incomplete(_) | First::Broken => return Ok((bytes, records)),
            }
        }
    }
}

pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016}.{EXTENSION}"))
}

/// Where a segment's file goes that is damaged.
pub(super) fn aside(file: &Path) -> PathBuf {
    file.with_extension(ASIDE)
}

/// Numbers of the files that were set aside.
pub(super) fn set_aside(directory: &Path) -> io::Result<Vec<u64>> {
    numbers(directory, ASIDE)
}

/// Numbers of the segments in a directory, in order.
pub(super) fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = numbers(directory, EXTENSION)?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// Those of files whose names are a segment's but for this extension.
fn numbers(directory: &Path, extension: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in directory.read_dir()? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.split_once('.')?.0.parse::<u64>().ok());
        numbers.extend(number.filter(|number| *name == *format!("{number:016}.{extension}")));
    }
    Ok(numbers)
}
