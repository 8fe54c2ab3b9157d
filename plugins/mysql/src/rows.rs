//! Column definitions and rows: counted, verified by their sequence ids, never looked into.
//!
//! dev.mysql.com, "Text Resultset" and "Binary Protocol Resultset": a row begins with the length of its first value or
//! with 0, never with 0xff, and with 0xfe only where it is 16 MiB long.

use podtap_sdk::{Break, Stream};

use crate::wire::{HEADER, Header, MAX_PAYLOAD, Payload, visible};

/// How much of a packet that is no row is read.
pub(crate) const KEEP: usize = 4096;

/// Segments are looked at whole: podtap gathers fewer bytes in a batch.
const WHOLE: usize = 1 << 20;

pub(crate) const ERR: u8 = 0xff;
pub(crate) const EOF: u8 = 0xfe;

/// An error number that is none: a progress report (mariadb.com/kb/en/progress-reporting).
pub(crate) const PROGRESS: u16 = 0xffff;

/// Length of an EOF packet's payload; an OK packet in its place has more.
pub(crate) const EOF_LENGTH: usize = 5;

/// Counts packets that belong to one result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// The next packet's sequence id; none where packets have none that can be checked.
    pub(crate) sequence: Option<u8>,
    /// Column definitions that are still to come.
    pub(crate) definitions: u64,
    /// No rows follow.
    pub(crate) only_definitions: bool,
    /// The definitions have just ended: an EOF packet may follow.
    pub(crate) behind_definitions: bool,
    /// The last packet is continued in the next one.
    continued: bool,
    pub(crate) rows: u64,
}

/// What ended a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The definitions are complete.
    Definitions,
    /// An EOF packet behind definitions.
    Middle(Vec<u8>),
    /// The EOF or OK packet behind rows, or an error: its payload.
    Last(Vec<u8>),
}

impl Ended {
    fn is_progress(&self) -> bool {
        let Ended::Last(payload) = self else { return false };
        let mut payload = Payload(payload);
        payload.u8() == Some(ERR) && payload.u16() == Some(PROGRESS)
    }
}

enum Step {
    /// All that was there, in packets that are complete.
    More,
    /// A packet that goes on for so many bytes.
    Skip(usize),
    Ended(Ended, usize),
    Wrong,
}

enum Packet {
    PassOver,
    Read(fn(Vec<u8>) -> Ended),
    Wrong,
}

impl Rows {
    pub(crate) fn new(sequence: Option<u8>, definitions: u64) -> Rows {
        Rows { sequence, definitions, only_definitions: false, behind_definitions: true, continued: false, rows: 0 }
    }

    /// Reads up to what ends the definitions or rows.
    pub(crate) async fn read(&mut self, server: &mut Stream) -> Result<Ended, Break> {
        loop {
            if self.only_definitions && self.definitions == 0 && !self.continued {
                return Ok(Ended::Definitions);
            }
            let rows = *self;
            let end = |bytes: &[u8], _: usize| rows.needed(bytes);
            match server.parse(end, WHOLE, |bytes| self.run(bytes)).await? {
                Step::More => {}
                Step::Skip(bytes) => server.skip(bytes as u64).await?,
                Step::Ended(ended, skip) => {
                    server.skip(skip as u64).await?;
                    // A server that checks tables reports its progress between rows, too.
                    if !ended.is_progress() {
                        return Ok(ended);
                    }
                }
                Step::Wrong => return Err(Break::Malformed),
            }
        }
    }

    /// As many bytes as it takes to know what to do with the next packet.
    fn needed(&self, bytes: &[u8]) -> Option<usize> {
        let header = Header::parse(bytes)?;
        if header.length == 0 {
            return Some(HEADER);
        }
        let first = *bytes.get(HEADER)?;
        let payload = match self.kind(header, first) {
            Packet::Read(_) => header.length.min(KEEP),
            Packet::PassOver | Packet::Wrong => 1,
        };
        (bytes.len() >= HEADER + payload).then_some(HEADER + payload)
    }

    /// Takes as many packets as `bytes` hold.
    fn run(&mut self, bytes: &[u8]) -> Option<(usize, Step)> {
        let mut at = 0;
        loop {
            at = self.whole_rows(bytes, at);
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(header) = Header::parse(rest) else { break };
            let first = match rest.get(HEADER) {
                Some(&first) => first,
                None if header.length == 0 => 0,
                None => break,
            };
            match self.kind(header, first) {
                Packet::Wrong => return Some((at + HEADER.min(rest.len()), Step::Wrong)),
                Packet::Read(ended) => {
                    let Some((_, payload)) = visible(rest, KEEP) else { break };
                    self.pass(header);
                    let step = Step::Ended(ended(payload.to_vec()), header.length - payload.len());
                    return Some((at + HEADER + payload.len(), step));
                }
                Packet::PassOver => {
                    self.count();
                    self.pass(header);
                    let there = rest.len() - HEADER;
                    if there < header.length {
                        return Some((bytes.len(), Step::Skip(header.length - there)));
                    }
                    at += HEADER + header.length;
                    if self.only_definitions && self.definitions == 0 {
                        return Some((at, Step::More));
                    }
                }
            }
        }
        (at > 0).then_some((at, Step::More))
    }

    /// Passes over rows that are there as a whole, from `at` on, as [`Rows::run`] would one by one: of most results they are
    /// nearly all. Gives where they end.
    fn whole_rows(&mut self, bytes: &[u8], mut at: usize) -> usize {
        if self.definitions > 0 || self.continued {
            return at;
        }
        let (mut rows, mut sequence) = (0_u64, self.sequence.unwrap_or_default());
        while let Some(&[low, middle, high, found, first]) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
            let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
            let expected = self.sequence.is_none() || found == sequence;
            let end = at + HEADER + length;
            if first >= EOF || !(1..MAX_PAYLOAD).contains(&length) || !expected || end > bytes.len() {
                break;
            }
            (at, rows, sequence) = (end, rows + 1, sequence.wrapping_add(1));
        }
        if rows > 0 {
            self.rows += rows;
            self.behind_definitions = false;
            self.sequence = self.sequence.map(|_| sequence);
        }
        at
    }

    /// What a packet is, by its header and first byte.
    fn kind(&self, header: Header, first: u8) -> Packet {
        if self.sequence.is_some_and(|expected| expected != header.sequence) {
            return Packet::Wrong;
        }
        if self.continued {
            return Packet::PassOver;
        }
        if first == ERR && header.length < MAX_PAYLOAD {
            return Packet::Read(Ended::Last);
        }
        if self.definitions > 0 {
            // "Column Definition": the catalog is always "def".
            return if first == 3 && header.length > 20 { Packet::PassOver } else { Packet::Wrong };
        }
        match first {
            EOF if header.length == EOF_LENGTH && self.behind_definitions => Packet::Read(Ended::Middle),
            EOF if header.length < MAX_PAYLOAD => Packet::Read(Ended::Last),
            _ if header.length == 0 => Packet::Wrong,
            _ => Packet::PassOver,
        }
    }

    fn count(&mut self) {
        match self.definitions {
            _ if self.continued => {}
            0 => {
                self.rows += 1;
                self.behind_definitions = false;
            }
            _ => self.definitions -= 1,
        }
    }

    fn pass(&mut self, header: Header) {
        self.continued = header.length == MAX_PAYLOAD;
        self.sequence = self.sequence.map(|sequence| sequence.wrapping_add(1));
    }
}

/// An OK packet, or what ends a result (dev.mysql.com, "OK_Packet", "EOF_Packet").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done<'a> {
    pub(crate) affected_rows: u64,
    pub(crate) insert_id: u64,
    pub(crate) status: u16,
    pub(crate) warnings: u16,
    /// Behind the numbers: a text, changes of the session's state.
    pub(crate) rest: &'a [u8],
}

impl Done<'_> {
    pub(crate) fn parse(payload: &[u8]) -> Option<Done<'_>> {
        let mut payload = Payload(payload);
        let length = payload.0.len();
        if payload.u8()? == EOF && length <= EOF_LENGTH {
            let warnings = payload.u16().unwrap_or_default();
            let status = payload.u16().unwrap_or_default();
            return Some(Done { status, warnings, ..Done::default() });
        }
        let (affected_rows, insert_id) = (payload.lenenc()?, payload.lenenc()?);
        let status = payload.u16().unwrap_or_default();
        let warnings = payload.u16().unwrap_or_default();
        Some(Done { affected_rows, insert_id, status, warnings, rest: payload.0 })
    }

    /// The database that became current, where the server says so ("Session State Information": type 1).
    pub(crate) fn schema(&self) -> Option<&[u8]> {
        const SCHEMA: u8 = 1;
        let mut rest = Payload(self.rest);
        rest.lenenc_text()?;
        let mut states = Payload(rest.lenenc_text()?);
        while let Some(kind) = states.u8() {
            let state = states.lenenc_text()?;
            if kind == SCHEMA {
                return Payload(state).lenenc_text();
            }
        }
        None
    }
}
