//! Reads a message's body as it comes, and tells a [`Listener`] what is in it (BSON 1.1; Wire Protocol; Legacy Opcodes).
//!
//! In: the body's bytes, in pieces of any size. Out: calls to the listener, and how many bytes it has no use for. Never
//! keeps more than [`MAX_STEP`] bytes and one [`Frame`] for each level of nesting: documents are walked, not built.
//!
//! ```text
//!   Prologue ──> Sections (OP_MSG) <──> frames: root ⊃ document, array ⊃ ...; sequence ⊃ document ...
//!       └──────> Documents (others) <──>    │
//!                    └──────────────────────┴──> done; a Fault anywhere ends it: nothing further is read
//! ```
//!
//! Invariants: every frame ends within the one around it, the outermost within the body.

use crate::checksum::Crc32c;
use crate::wire::{HEADER, MAX_NAMESPACE, Opcode, flags, i64_at, u32_at};

/// Levels of nesting that are gone into, as many as a server takes (manual, "MongoDB Limits and Thresholds").
const MAX_DEPTH: usize = 100;

/// A longer field name is passed over, with the rest of its document.
const MAX_NAME: usize = 1024;

/// Bytes of a string's value that are shown.
pub(crate) const MAX_TEXT: usize = 512;

/// Bytes that one step looks at: an element's type, name, length and what is shown of its value.
const MAX_STEP: usize = 1 + MAX_NAME + 1 + 4 + MAX_TEXT;

/// Into it, or past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    Into,
    Past,
}

/// A value, as far as it is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Document,
    Array,
    /// The first [`MAX_TEXT`] bytes.
    Text(&'a [u8]),
    Int(i64),
    Double(f64),
    Bool(bool),
    /// Any other, by its name in `$type`.
    Other(&'static str),
}

impl Value<'_> {
    /// As a number, where it is one: servers and drivers choose among the types.
    pub(crate) fn integer(self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(value),
            Value::Double(value) => Some(value as i64),
            Value::Bool(value) => Some(value.into()),
            _ => None,
        }
    }
}

/// What stands before a legacy message's documents.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Prologue<'a> {
    /// Of OP_MSG, OP_QUERY, OP_REPLY.
    pub(crate) flags: u32,
    /// fullCollectionName.
    pub(crate) namespace: &'a [u8],
    pub(crate) cursor_id: Option<i64>,
    /// Documents wanted, documents returned, or cursors to kill.
    pub(crate) number: i32,
}

/// Hears what is in a message. Depths count from 1, the elements of a top-level document.
pub(crate) trait Listener {
    fn prologue(&mut self, prologue: &Prologue<'_>);
    /// A top-level document, the nth.
    fn document(&mut self, index: u32) -> Follow;
    /// A document sequence (kind 1): as if an array of this name stood at depth 1.
    fn sequence(&mut self, name: &[u8]) -> Follow;
    /// An element; what is returned counts for documents and arrays.
    fn element(&mut self, depth: usize, name: &[u8], value: Value<'_>) -> Follow;
    /// The end of a document or array at this depth that was gone into.
    fn leave(&mut self, depth: usize);
}

/// Why a body cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Length,
    Depth,
    Type,
    Section,
    Compression,
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Length => "length",
            Fault::Depth => "depth",
            Fault::Type => "type",
            Fault::Section => "section",
            Fault::Compression => "compression",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Root,
    Nested,
    /// A document sequence: documents one after the other, without names or a terminator.
    Sequence,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    /// Offset behind its last byte.
    end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Prologue,
    Sections,
    Documents,
    Checksum,
    Done,
}

enum Step {
    /// Incomplete.
    More,
    /// So many bytes are done with, and so many behind them are of no use.
    Took(usize, u64),
}

/// Reads one body.
#[derive(Debug)]
pub(crate) struct Reader<L> {
    pub(crate) listener: L,
    opcode: Opcode,
    header: [u8; HEADER],
    stage: Stage,
    /// Bytes of the body that are done with.
    offset: u64,
    /// Where sections or documents end: before the checksum.
    end: u64,
    documents: u32,
    frames: Vec<Frame>,
    /// The beginning of a step whose rest has not come.
    held: Vec<u8>,
    skip: u64,
    crc: Option<Crc32c>,
    /// Whether the checksum was right, where it could be told.
    pub(crate) checksum_valid: Option<bool>,
    pub(crate) fault: Option<Fault>,
}

impl<L: Listener> Reader<L> {
    /// Of a body of `length` bytes; `header` is needed where the checksum is to be verified.
    pub(crate) fn new(listener: L, opcode: Opcode, length: u64, header: [u8; HEADER]) -> Reader<L> {
        Reader {
            listener,
            opcode,
            header,
            stage: Stage::Prologue,
            offset: 0,
            end: length,
            documents: 0,
            frames: Vec::with_capacity(8),
            held: Vec::new(),
            skip: 0,
            crc: None,
            checksum_valid: None,
            fault: None,
        }
    }

    /// Reads on. Gives how many of the bytes that follow it has no use for.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> u64 {
        let mut at = 0;
        while self.fault.is_none() && self.stage != Stage::Done {
            if self.skip > 0 {
                let passed = self.skip.min((bytes.len() - at) as u64);
                self.skip -= passed;
                self.offset += passed;
                at += passed as usize;
                if self.skip > 0 {
                    break;
                }
            }
            // The step that starts the checksum has put its own bytes in.
            let summed = self.crc.is_some();
            let had = self.held.len();
            let rest = bytes.get(at..).unwrap_or_default();
            let step = if had == 0 {
                self.step(rest)
            } else {
                let wanted = MAX_STEP.saturating_sub(had).min(rest.len());
                self.held.extend_from_slice(&rest[..wanted]);
                let held = std::mem::take(&mut self.held);
                let step = self.step(&held);
                self.held = held;
                step
            };
            match step {
                Ok(Step::Took(took, skip)) => {
                    let fresh = rest.get(..took.saturating_sub(had)).unwrap_or_default();
                    if summed {
                        self.add_to_checksum(fresh);
                    }
                    if skip > 0 {
                        // What is skipped may not even be handed over.
                        self.crc = None;
                    }
                    at += fresh.len();
                    self.held.clear();
                    self.offset += took as u64;
                    self.skip = skip;
                }
                Ok(Step::More) => {
                    if had == 0 {
                        self.held.extend_from_slice(rest.get(..MAX_STEP).unwrap_or(rest));
                    }
                    if self.held.len() >= MAX_STEP {
                        self.fault = Some(Fault::Length);
                    }
                    self.add_to_checksum(rest);
                    break;
                }
                Err(fault) => self.fault = Some(fault),
            }
        }
        if self.fault.is_some() || self.stage == Stage::Done { u64::MAX } else { self.skip }
    }

    /// So many of the bytes that it has no use for were passed over.
    pub(crate) fn skipped(&mut self, bytes: u64) {
        self.skip = self.skip.saturating_sub(bytes);
        self.offset += bytes;
    }

    /// The body is over. One that ends before its documents do is at fault.
    pub(crate) fn end(&mut self) {
        self.push(&[]);
        if self.stage != Stage::Done && self.fault.is_none() {
            self.fault = Some(Fault::Length);
        }
    }

    fn add_to_checksum(&mut self, bytes: &[u8]) {
        if let Some(crc) = &mut self.crc
            && self.stage != Stage::Checksum
            && self.stage != Stage::Done
        {
            crc.add(bytes);
        }
    }

    /// Does one thing with the bytes at the offset.
    fn step(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        match (self.stage, self.frames.last().copied()) {
            (Stage::Prologue, _) => self.prologue(bytes),
            (_, Some(frame)) if frame.kind == Kind::Sequence => self.sequence_document(bytes, frame),
            (_, Some(frame)) => self.element(bytes, frame),
            (Stage::Sections, None) => self.section(bytes),
            (Stage::Documents, None) => self.top_document(bytes),
            (Stage::Checksum, None) => Ok(match u32_at(bytes, 0) {
                None => Step::More,
                Some(sent) => {
                    self.checksum_valid = self.crc.take().map(|crc| crc.value() == sent);
                    self.stage = Stage::Done;
                    Step::Took(4, 0)
                }
            }),
            (Stage::Done, None) => Ok(Step::Took(0, 0)),
        }
    }

    fn prologue(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        let Some(first) = u32_at(bytes, 0) else { return Ok(Step::More) };
        self.stage = Stage::Documents;
        let (took, prologue) = match self.opcode {
            Opcode::Msg => {
                self.stage = Stage::Sections;
                if first & flags::CHECKSUM_PRESENT != 0 {
                    self.end = self.end.checked_sub(4).ok_or(Fault::Length)?;
                    let mut crc = Crc32c::default();
                    crc.add(&self.header);
                    crc.add(&bytes[..4]);
                    self.crc = Some(crc);
                }
                self.listener.prologue(&Prologue { flags: first, ..Prologue::default() });
                return Ok(Step::Took(4, 0));
            }
            // responseFlags, cursorID, startingFrom, numberReturned (Legacy Opcodes, "OP_REPLY").
            Opcode::Reply => {
                let (Some(cursor_id), Some(returned)) = (i64_at(bytes, 4), u32_at(bytes, 16)) else {
                    return Ok(self.unread());
                };
                let number = returned.cast_signed();
                (20, Prologue { flags: first, cursor_id: Some(cursor_id), number, ..Prologue::default() })
            }
            // ZERO, numberOfCursorIDs, cursorIDs ("OP_KILL_CURSORS").
            Opcode::KillCursors => {
                let (Some(count), Some(cursor_id)) = (u32_at(bytes, 4), i64_at(bytes, 8)) else {
                    return Ok(self.unread());
                };
                if u64::from(count).checked_mul(8) != self.end.checked_sub(8) {
                    return Err(Fault::Length);
                }
                self.stage = Stage::Done;
                let number = count.cast_signed();
                (16, Prologue { cursor_id: Some(cursor_id), number, ..Prologue::default() })
            }
            // Flags or ZERO, fullCollectionName, then by opcode.
            _ => {
                let name = bytes.get(4..).unwrap_or_default();
                let Some(name_end) = memchr::memchr(0, name.get(..=MAX_NAMESPACE).unwrap_or(name)) else {
                    return if name.len() > MAX_NAMESPACE { Err(Fault::Length) } else { Ok(self.unread()) };
                };
                let behind = 4 + name_end + 1;
                let mut prologue = Prologue { namespace: &name[..name_end], ..Prologue::default() };
                let more = match self.opcode {
                    // numberToSkip, numberToReturn.
                    Opcode::Query => {
                        prologue.flags = first;
                        let Some(number) = u32_at(bytes, behind + 4) else { return Ok(self.unread()) };
                        prologue.number = number.cast_signed();
                        8
                    }
                    // numberToReturn, cursorID.
                    Opcode::GetMore => {
                        let (Some(number), Some(cursor_id)) = (u32_at(bytes, behind), i64_at(bytes, behind + 4)) else {
                            return Ok(self.unread());
                        };
                        (prologue.number, prologue.cursor_id) = (number.cast_signed(), Some(cursor_id));
                        self.stage = Stage::Done;
                        12
                    }
                    // Flags of OP_UPDATE and OP_DELETE.
                    Opcode::Update | Opcode::Delete => {
                        let Some(flags) = u32_at(bytes, behind) else { return Ok(self.unread()) };
                        prologue.flags = flags;
                        4
                    }
                    _ => 0,
                };
                (behind + more, prologue)
            }
        };
        if took as u64 > self.end {
            return Err(Fault::Length);
        }
        self.listener.prologue(&prologue);
        Ok(Step::Took(took, 0))
    }

    fn unread(&mut self) -> Step {
        self.stage = Stage::Prologue;
        Step::More
    }

    /// Section kind, then a body, or size, identifier and documents (Wire Protocol, "Sections").
    fn section(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        if self.offset == self.end {
            self.stage = if self.crc.is_some() { Stage::Checksum } else { Stage::Done };
            return Ok(Step::Took(0, 0));
        }
        let (Some(&kind), Some(length)) = (bytes.first(), u32_at(bytes, 1)) else { return Ok(Step::More) };
        let length = u64::from(length);
        let end = self.offset + 1 + length;
        if end > self.end || length < 5 {
            return Err(Fault::Length);
        }
        match kind {
            0 => Ok(self.open_document(1, length)),
            1 => {
                let name = bytes.get(5..).unwrap_or_default();
                let Some(name_end) = memchr::memchr(0, name.get(..=MAX_NAME).unwrap_or(name)) else {
                    return if name.len() > MAX_NAME { Err(Fault::Section) } else { Ok(Step::More) };
                };
                let took = 5 + name_end + 1;
                let rest = end.checked_sub(self.offset + took as u64).ok_or(Fault::Length)?;
                if self.listener.sequence(&name[..name_end]) == Follow::Past {
                    return Ok(Step::Took(took, rest));
                }
                self.frames.push(Frame { kind: Kind::Sequence, end });
                Ok(Step::Took(took, 0))
            }
            // 2 is internal to servers; others do not exist.
            _ => Err(Fault::Section),
        }
    }

    /// A document behind a legacy message's prologue.
    fn top_document(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        if self.offset == self.end {
            self.stage = Stage::Done;
            return Ok(Step::Took(0, 0));
        }
        let Some(length) = u32_at(bytes, 0) else { return Ok(Step::More) };
        let length = u64::from(length);
        if length < 5 || self.offset + length > self.end {
            return Err(Fault::Length);
        }
        Ok(self.open_document(0, length))
    }

    /// Goes into a top-level document or past it; `before` bytes stand before its length.
    fn open_document(&mut self, before: usize, length: u64) -> Step {
        let index = self.documents;
        self.documents = self.documents.saturating_add(1);
        if self.listener.document(index) == Follow::Past {
            return Step::Took(before + 4, length - 4);
        }
        self.frames.push(Frame { kind: Kind::Root, end: self.offset + before as u64 + length });
        Step::Took(before + 4, 0)
    }

    fn sequence_document(&mut self, bytes: &[u8], frame: Frame) -> Result<Step, Fault> {
        if self.offset == frame.end {
            self.frames.pop();
            self.listener.leave(1);
            return Ok(Step::Took(0, 0));
        }
        let Some(length) = u32_at(bytes, 0) else { return Ok(Step::More) };
        let end = self.offset + u64::from(length);
        if length < 5 || end > frame.end {
            return Err(Fault::Length);
        }
        if self.listener.element(2, b"", Value::Document) == Follow::Past {
            return Ok(Step::Took(4, u64::from(length) - 4));
        }
        self.frames.push(Frame { kind: Kind::Nested, end });
        Ok(Step::Took(4, 0))
    }

    /// Depth of the elements in the innermost frame.
    fn depth(&self) -> usize {
        // The documents of a sequence are as deep as those of an array.
        let sequence = self.frames.first().is_some_and(|first| first.kind == Kind::Sequence);
        self.frames.len() + usize::from(sequence)
    }

    /// type, e_name, value (BSON 1.1, "element"), or the document's end.
    fn element(&mut self, bytes: &[u8], frame: Frame) -> Result<Step, Fault> {
        let Some(&kind) = bytes.first() else { return Ok(Step::More) };
        if kind == 0 {
            if self.offset + 1 != frame.end {
                return Err(Fault::Length);
            }
            let depth = self.depth();
            self.frames.pop();
            if frame.kind == Kind::Nested {
                self.listener.leave(depth - 1);
            }
            return Ok(Step::Took(1, 0));
        }
        // What is left of the document before its terminator.
        let room = frame.end.checked_sub(self.offset + 1).ok_or(Fault::Length)?;
        let within = usize::try_from(room).ok().and_then(|room| bytes.get(..room)).unwrap_or(bytes);
        match self.value(kind, within, room) {
            // No more can come of what ends with its document.
            Ok(Step::More) if within.len() as u64 == room => Err(Fault::Length),
            step => step,
        }
    }

    /// An element of a type in the `room` bytes that are left of its document, of which `bytes` are there.
    fn value(&mut self, kind: u8, bytes: &[u8], room: u64) -> Result<Step, Fault> {
        let rest = bytes.get(1..).unwrap_or_default();
        let Some(name_end) = memchr::memchr(0, rest.get(..=MAX_NAME).unwrap_or(rest)) else {
            return Ok(if rest.len() > MAX_NAME { past(bytes.len(), room) } else { Step::More });
        };
        let (name, value_at) = (&rest[..name_end], 1 + name_end + 1);
        let bytes = bytes.get(value_at..).unwrap_or_default();
        let length = |extra: u64| u32_at(bytes, 0).map(|length| u64::from(length) + extra);
        // How long the value is, and how much of it must be there to be shown.
        let (size, shown) = match kind {
            0x06 | 0x0a | 0x7f | 0xff => (Some(0), 0),
            0x08 => (Some(1), 1),
            0x10 => (Some(4), 4),
            0x01 | 0x12 => (Some(8), 8),
            0x09 | 0x11 => (Some(8), 0),
            0x07 => (Some(12), 0),
            0x13 => (Some(16), 0),
            // string: int32 (bytes of text and its NUL).
            0x02 | 0x0d | 0x0e => (length(4), MAX_TEXT + 4),
            0x03 | 0x04 | 0x0f => (length(0), 4),
            0x05 => (length(5), 4),
            0x0c => (length(4 + 12), 4),
            0x0b => {
                let visible = bytes.get(..MAX_STEP - value_at).unwrap_or(bytes);
                match cstrings(visible) {
                    Some(length) => (Some(length as u64), length),
                    None if visible.len() + value_at >= MAX_STEP => return Ok(past(MAX_STEP, room)),
                    None => return Ok(Step::More),
                }
            }
            _ => return Err(Fault::Type),
        };
        let Some(size) = size else { return Ok(Step::More) };
        let least = match kind {
            0x02 | 0x0d | 0x0e => 5,
            0x03 | 0x04 => 5,
            0x0f => 14,
            0x0c => 17,
            _ => 0,
        };
        if size < least || value_at as u64 + size > room {
            return Err(Fault::Length);
        }
        let shown = shown.min(size as usize);
        let Some(visible) = bytes.get(..shown) else { return Ok(Step::More) };
        let value = match kind {
            0x01 => Value::Double(f64::from_bits(i64_at(visible, 0).unwrap_or_default().cast_unsigned())),
            0x02 => {
                // The NUL is no part of the text.
                let text = &visible[4..];
                Value::Text(if size as usize == shown { &text[..text.len() - 1] } else { text })
            }
            0x03 => Value::Document,
            0x04 => Value::Array,
            0x08 => Value::Bool(visible.first() == Some(&1)),
            0x10 => Value::Int(u32_at(visible, 0).unwrap_or_default().cast_signed().into()),
            0x12 => Value::Int(i64_at(visible, 0).unwrap_or_default()),
            _ => Value::Other(type_name(kind)),
        };
        let depth = self.depth();
        let follow = self.listener.element(depth, name, value);
        if follow == Follow::Into && matches!(kind, 0x03 | 0x04) {
            if depth >= MAX_DEPTH {
                return Err(Fault::Depth);
            }
            self.frames.push(Frame { kind: Kind::Nested, end: self.offset + value_at as u64 + size });
            return Ok(Step::Took(value_at + 4, 0));
        }
        Ok(Step::Took(value_at + shown, size - shown as u64))
    }
}

/// Past the `room` bytes that are left of a document, of which so many were looked at.
fn past(looked_at: usize, room: u64) -> Step {
    Step::Took(looked_at, room.saturating_sub(looked_at as u64))
}

/// The length of two strings that end with NUL (BSON 1.1, regular expression).
fn cstrings(bytes: &[u8]) -> Option<usize> {
    let pattern = memchr::memchr(0, bytes)? + 1;
    Some(pattern + memchr::memchr(0, bytes.get(pattern..)?)? + 1)
}

/// Names of types, as the `$type` operator has them (manual, "BSON Types").
fn type_name(kind: u8) -> &'static str {
    match kind {
        0x05 => "binData",
        0x06 => "undefined",
        0x07 => "objectId",
        0x09 => "date",
        0x0a => "null",
        0x0b => "regex",
        0x0c => "dbPointer",
        0x0d => "javascript",
        0x0e => "symbol",
        0x0f => "javascriptWithScope",
        0x11 => "timestamp",
        0x13 => "decimal",
        0x7f => "maxKey",
        0xff => "minKey",
        _ => "unknown",
    }
}
