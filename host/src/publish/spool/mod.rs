//! Events on disk until they are acknowledged: a log of segments, written at its end and read from its start.
//!
//! ```text
//!   oldest                                          newest
//!  [ segment ][ segment ][ seg|ment ][ segment ][ seg|
//!    settled: deleted         ^ read up to here      ^ written up to here
//! ```
//!
//! Every event goes through it, so that there is one path and a kill loses nothing that was written. Who sends reads from
//! here where it lags behind; else it sends what it still has in memory. A segment is deleted once all of its events
//! are settled. No run writes into segments of an earlier one. docs/decisions/0008 says why it is so.
//!
//! A file with the name of a segment that cannot be read, or holds no event where some should be, is set aside: it keeps
//! nobody from the others. Files of other names are left alone.
//!
//! Bounds: `max_bytes` for all segments; [`MAX_SET_ASIDE`] files beside them. Invariant: records written + recovered =
//! settled + dropped + damaged + left + those sent from a segment that made room since, which the sender still knows.

mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use self::segment::{HEADER, Segment, read_records};
use super::{PublishError, SpoolCounts, SpoolStatus, Traffic};
use crate::config;

/// How long the disk is left alone after it refused a write.
const RETRY: Duration = Duration::from_secs(1);
/// Once all is settled and nothing came for so long, the last segment is deleted as well: a kill later sends none of it
/// twice.
const IDLE: Duration = Duration::from_secs(1);
/// Files not yet forced onto the disk that are kept open.
const MAX_UNSYNCED: usize = 16;
/// Damaged files that are kept for a person to look at.
pub(crate) const MAX_SET_ASIDE: usize = 4;

/// See the module.
pub struct Spool {
    directory: PathBuf,
    /// Held as long as this lives.
    _lock: File,
    settings: config::Spool,
    traffic: Traffic,
    segments: VecDeque<Segment>,
    /// The last segment's file while it is written to.
    active: Option<File>,
    next_number: u64,
    total_bytes: u64,
    reader: Reader,
    /// Files with writes that may not be on the disk, by segment.
    unsynced: Vec<(u64, File)>,
    next_sync: Instant,
    last_write: Instant,
    /// No write is tried before.
    retry_at: Option<Instant>,
    counts: SpoolCounts,
    dropped: u64,
    damaged: u64,
}

/// Where sending goes on.
struct Reader {
    number: u64,
    offset: u64,
    /// Records of this segment before the offset.
    records: u64,
    file: Option<(u64, File)>,
    buffer: Vec<u8>,
}

/// What became of records that were to be written.
#[derive(Debug, PartialEq, Eq)]
pub enum Appended {
    /// They are in this segment, and they are the next to be sent.
    Next(u64),
    /// They are in a segment; others come before them.
    Behind,
    /// They are not in the spool.
    Refused,
}

impl Spool {
    /// Takes the directory, with what earlier runs left there.
    pub fn open(settings: &config::Spool, traffic: Traffic) -> Result<Option<Spool>, PublishError> {
        let Some(directory) = settings.directory.clone() else { return Ok(None) };
        Spool::open_directory(settings.clone(), directory.clone(), traffic)
            .map(Some)
            .map_err(|source| PublishError::Spool { directory, source })
    }

    fn open_directory(settings: config::Spool, directory: PathBuf, traffic: Traffic) -> io::Result<Spool> {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(directory.join("lock"))?;
        if let Err(error) = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            return Err(match error {
                rustix::io::Errno::WOULDBLOCK => io::Error::other("another podtap uses it; give each one its own"),
                error => error.into(),
            });
        }
        let now = Instant::now();
        let reader = Reader { number: 0, offset: HEADER, records: 0, file: None, buffer: Vec::new() };
        let mut spool = Spool {
            directory,
            _lock: lock,
            settings,
            traffic,
            segments: VecDeque::new(),
            active: None,
            next_number: 1,
            total_bytes: 0,
            reader,
            unsynced: Vec::new(),
            next_sync: now,
            last_write: now,
            retry_at: None,
            counts: SpoolCounts::default(),
            dropped: 0,
            damaged: 0,
        };
        spool.recover()?;
        Ok(spool)
    }

    fn recover(&mut self) -> io::Result<()> {
        let segments = segment::list(&self.directory)?;
        let taken = segment::set_aside(&self.directory)?.into_iter().chain(segments.last().copied()).max();
        self.next_number = taken.map_or(1, |number| number.saturating_add(1));
        for number in segments {
            let recovered = Segment::recover(&self.directory, number).or_else(|fault| self.set_aside(number, fault));
            let recovered =
                recovered.map_err(|error| io::Error::new(error.kind(), format!("segment {number}: {error}")))?;
            let Some((segment, cut)) = recovered else { continue };
            if cut > 0 {
                tracing::warn!(segment = number, bytes = cut, "spool: cut an event that was not written to its end");
                self.counts.damaged_bytes += cut;
            }
            if segment.records > 0 && segment.bytes == HEADER {
                // Its header tells of events, and behind it all is gone: there is nothing to be read.
                tracing::error!(segment = number, events = segment.records, "spool: events were cut off and are lost");
                self.counts.recovered += segment.records;
                self.damaged += segment.records;
                segment.remove(&self.directory)?;
            } else if segment.records > 0 {
                self.counts.recovered += segment.records;
                self.total_bytes += segment.bytes;
                self.segments.push_back(segment);
            }
        }
        if self.counts.recovered > 0 {
            tracing::info!(events = self.counts.recovered, "spool: events of an earlier run are sent first");
        }
        self.skip_what_is_read();
        Ok(())
    }

    /// A damaged file out of the way, for a person to look at; without end they would pile up. What is no fault of the
    /// file, such as rights that are missing, is an error still.
    fn set_aside(&mut self, number: u64, fault: io::Error) -> io::Result<Option<(Segment, u64)>> {
        let is_damaged = fault.kind() == io::ErrorKind::InvalidData
            || fault.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
        if !is_damaged {
            return Err(fault);
        }
        let file = segment::path(&self.directory, number);
        let bytes = file.metadata().map_or(0, |metadata| metadata.len()).saturating_sub(HEADER);
        let kept = (segment::set_aside(&self.directory)?.len() < MAX_SET_ASIDE).then(|| segment::aside(&file));
        match &kept {
            Some(aside) => std::fs::rename(&file, aside)?,
            None => std::fs::remove_file(&file)?,
        }
        self.counts.damaged_bytes += bytes;
        let became = kept.map_or("removed, as others are kept".to_owned(), |aside| aside.display().to_string());
        tracing::error!(file = %file.display(), bytes, became, "spool: {fault}; what events it held are lost");
        Ok(None)
    }

    /// Writes records, sealed. Those that the disk refuses are counted.
    pub fn append(&mut self, bytes: &[u8], records: u64) -> Appended {
        if self.retry_at.is_some_and(|moment| Instant::now() < moment) {
            self.counts.bypassed += records;
            return Appended::Refused;
        }
        let refused_before = self.retry_at;
        let appended = self.append_again(bytes, records);
        if self.retry_at.is_some() && self.retry_at != refused_before {
            self.counts.bypassed += records;
        }
        appended
    }

    /// As [`Spool::append`], of records that were refused and counted before.
    pub(super) fn append_again(&mut self, bytes: &[u8], records: u64) -> Appended {
        let length = bytes.len() as u64;
        let fits = |segment: &Segment| segment.bytes + length <= self.settings.segment_bytes.0;
        if self.active.is_some() && !self.segments.back().is_some_and(fits) {
            self.close_active();
        }
        let needed = length + if self.active.is_some() { 0 } else { HEADER };
        if self.total_bytes + needed > self.settings.max_bytes.0 && self.traffic == Traffic::Recorded {
            return Appended::Refused;
        }
        while self.total_bytes + needed > self.settings.max_bytes.0 {
            if !self.drop_oldest() {
                break;
            }
        }
        let was_caught_up = self.is_caught_up();
        match self.write(bytes) {
            Ok(number) => {
                self.total_bytes += length;
                if let Some(segment) = self.segments.back_mut() {
                    segment.bytes += length;
                    segment.records += records;
                }
                if self.retry_at.take().is_some() {
                    tracing::info!("spool: the disk takes events again");
                }
                if was_caught_up {
                    self.skip_what_is_read();
                    return Appended::Next(number);
                }
                Appended::Behind
            }
            Err(error) => {
                if self.retry_at.is_none() {
                    tracing::error!(%error, "spool: cannot be written; events stay in memory until it can");
                }
                self.retry_at = Some(Instant::now() + RETRY);
                Appended::Refused
            }
        }
    }

    /// Did the disk refuse a write, so long ago that it is worth another one?
    pub(super) fn is_to_be_tried_again(&self) -> bool {
        self.retry_at.is_some_and(|moment| moment <= Instant::now())
    }

    /// It is now or never: the disk is not left alone any longer.
    pub(super) fn try_again_now(&mut self) {
        self.retry_at = None;
    }

    /// Writes behind the last record; what of it was written before an error is written over or cut.
    fn write(&mut self, bytes: &[u8]) -> io::Result<u64> {
        if self.active.is_none() {
            let (segment, file) = Segment::create(&self.directory, self.next_number)?;
            self.next_number += 1;
            self.total_bytes += segment.bytes;
            self.unsynced.push((segment.number, file.try_clone()?));
            self.segments.push_back(segment);
            self.active = Some(file);
        }
        let (Some(file), Some(segment)) = (&self.active, self.segments.back()) else { return Ok(0) };
        if let Err(error) = file.write_all_at(bytes, segment.bytes) {
            // Where this fails as well, it is cut when it is read.
            let _ = file.set_len(segment.bytes);
            return Err(error);
        }
        self.last_write = Instant::now();
        Ok(segment.number)
    }

    /// Ends the last segment. Where its number of events cannot be noted, the next run counts them.
    fn close_active(&mut self) {
        if let (Some(file), Some(segment)) = (self.active.take(), self.segments.back())
            && let Err(error) = segment.close(&file)
        {
            tracing::debug!(%error, segment = segment.number, "spool: no number of events noted");
        }
        if self.unsynced.len() > MAX_UNSYNCED {
            self.sync();
        }
    }

    /// Makes room. What of the segment was never sent is counted.
    fn drop_oldest(&mut self) -> bool {
        if self.segments.len() == 1 {
            self.close_active();
        }
        let Some(segment) = self.segments.pop_front() else { return false };
        let sent = match segment.number.cmp(&self.reader.number) {
            std::cmp::Ordering::Less => segment.records,
            std::cmp::Ordering::Equal => self.reader.records,
            std::cmp::Ordering::Greater => 0,
        };
        self.dropped += segment.records - sent;
        self.remove(&segment);
        self.skip_what_is_read();
        true
    }

    fn remove(&mut self, segment: &Segment) {
        self.total_bytes -= segment.bytes;
        self.unsynced.retain(|(number, _)| *number != segment.number);
        if let Err(error) = segment.remove(&self.directory) {
            tracing::warn!(%error, segment = segment.number, "spool: a segment cannot be removed; it will be sent again");
        }
    }

    /// Is all that was written also sent?
    pub fn is_caught_up(&self) -> bool {
        self.segments.back().is_none_or(|last| {
            self.reader.number > last.number || (self.reader.number == last.number && self.reader.offset >= last.bytes)
        })
    }

    /// The next records that were not sent, and their segment.
    pub fn unsent(&mut self) -> Option<(u64, &[u8])> {
        let mut found = None;
        self.skip_what_is_read();
        while found.is_none() && !self.is_caught_up() {
            found = match self.read() {
                Ok((bytes, records)) if records > 0 => Some(bytes),
                Ok(_) => {
                    self.give_up_segment("its records are damaged");
                    None
                }
                Err(error) => {
                    self.give_up_segment(&error.to_string());
                    None
                }
            };
        }
        Some((self.reader.number, self.reader.buffer.get(..found?)?))
    }

    fn read(&mut self) -> io::Result<(usize, u64)> {
        let reader = &mut self.reader;
        let end = self.segments.iter().find(|segment| segment.number == reader.number).map_or(0, |it| it.bytes);
        let file = match reader.file.take() {
            Some((number, file)) if number == reader.number => file,
            _ => Segment::open(&self.directory, reader.number)?,
        };
        let (_, file) = reader.file.insert((reader.number, file));
        read_records(file, reader.offset, end, &mut reader.buffer)
    }

    /// The rest of the segment cannot be read: what is lost with it is counted.
    fn give_up_segment(&mut self, why: &str) {
        let reader = &mut self.reader;
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == reader.number) {
            let (bytes, events) = (segment.bytes - reader.offset, segment.records - reader.records);
            tracing::error!(segment = segment.number, bytes, events, why, "spool: events cannot be read and are lost");
            self.counts.damaged_bytes += bytes;
            self.damaged += events;
            segment.records = reader.records;
            reader.offset = segment.bytes;
        }
        self.remove_settled();
        self.skip_what_is_read();
    }

    /// Records of this length were sent, the next ones in order.
    pub fn advance(&mut self, bytes: usize, records: u64) {
        let reader = &mut self.reader;
        reader.offset += bytes as u64;
        reader.records += records;
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == reader.number) {
            // A header may tell of fewer than there are.
            let more = reader.records.saturating_sub(segment.records);
            segment.records += more;
            self.counts.recovered += more;
            if reader.offset >= segment.bytes && reader.records < segment.records {
                self.give_up_segment("its end was cut off");
            }
        }
        self.skip_what_is_read();
    }

    /// To the next segment with records to read, if there is one.
    fn skip_what_is_read(&mut self) {
        let reader = &mut self.reader;
        let unread = |segment: &&Segment| {
            segment.number > reader.number || (segment.number == reader.number && reader.offset < segment.bytes)
        };
        if let Some(next) = self.segments.iter().find(unread)
            && next.number != reader.number
        {
            (reader.number, reader.offset, reader.records, reader.file) = (next.number, HEADER, 0, None);
        }
    }

    /// Records of a segment are acknowledged, or given up and counted.
    pub fn settle(&mut self, number: u64, records: u64) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == number) {
            segment.settled += records;
        }
        self.remove_settled();
    }

    fn remove_settled(&mut self) {
        let active = self.active.as_ref().and(self.segments.back()).map(|segment| segment.number);
        let (number, offset) = (self.reader.number, self.reader.offset);
        let is_over = |segment: &mut Segment| {
            let is_read = segment.number < number || offset >= segment.bytes;
            segment.settled == segment.records && is_read && Some(segment.number) != active
        };
        while let Some(segment) = self.segments.pop_front_if(is_over) {
            self.remove(&segment);
        }
    }

    /// What time brings: writes are forced onto the disk, and a last segment that nobody needs is removed.
    pub fn tick(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.last_write) >= IDLE && self.settled_all() && self.active.is_some() {
            self.close_active();
            self.remove_settled();
        }
        if now >= self.next_sync && !self.unsynced.is_empty() {
            if self.settled_all() {
                // Nobody will read it.
                self.keep_active_unsynced();
            } else {
                self.sync();
            }
            self.next_sync = now + self.settings.fsync_interval.0;
        }
    }

    fn settled_all(&self) -> bool {
        self.segments.iter().all(|segment| segment.settled == segment.records)
    }

    fn sync(&mut self) {
        for (number, file) in &self.unsynced {
            if let Err(error) = file.sync_data() {
                tracing::warn!(%error, segment = number, "spool: writes may not be on the disk");
            }
        }
        // The names of new files.
        if let Err(error) = File::open(&self.directory).and_then(|directory| directory.sync_all()) {
            tracing::warn!(%error, "spool: new files may not be on the disk");
        }
        self.keep_active_unsynced();
    }

    /// Of the files, only the one that is still written to has to be looked after again.
    fn keep_active_unsynced(&mut self) {
        let active = self.active.as_ref().and(self.segments.back()).map(|segment| segment.number);
        self.unsynced.retain(|(number, _)| Some(*number) == active);
    }

    /// Is there nothing left to do for time to come?
    pub(super) fn is_quiet(&self) -> bool {
        self.active.is_none() && self.unsynced.is_empty()
    }

    /// Events that made room for newer ones, and those that could not be read.
    pub fn lost(&self) -> (u64, u64) {
        (self.dropped, self.damaged)
    }

    /// What it holds and did so far.
    pub fn status(&self) -> SpoolStatus {
        let SpoolCounts { recovered, bypassed, damaged_bytes, .. } = self.counts;
        SpoolStatus { bytes: self.total_bytes, recovered, bypassed, damaged_bytes }
    }

    /// Leaves the directory to the next run; gives the counts.
    pub fn close(&mut self) -> SpoolCounts {
        self.close_active();
        self.remove_settled();
        if !self.segments.is_empty() {
            self.sync();
        }
        self.counts.left = self.segments.iter().map(|segment| segment.records - segment.settled).sum();
        self.counts
    }
}
