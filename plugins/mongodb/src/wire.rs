//! Message headers and opcodes (MongoDB manual, "MongoDB Wire Protocol", and "Legacy Opcodes").
//!
//! In: the first bytes of a message, or bytes in which one may begin. Out: its header, or whether it can be one. What is
//! not certainly MongoDB is taken for something else.

use podtap_sdk::Verdict;

/// `MsgHeader`: messageLength, requestID, responseTo, opCode (Wire Protocol, "Standard Message Header").
pub(crate) const HEADER: usize = 16;

/// The longest message taken: `maxMessageSizeBytes` of every server is 48,000,000 (manual, "hello"), and what the
/// server itself allows beyond it for overhead.
pub(crate) const MAX_MESSAGE: u32 = 48_000_000 + 16 * 1024;

/// Bytes of an OP_COMPRESSED message before its payload: originalOpcode, uncompressedSize, compressorId.
pub(crate) const COMPRESSED_HEADER: usize = 9;

/// Flags of OP_MSG (Wire Protocol, "OP_MSG", "Flag Bits").
pub(crate) mod flags {
    pub(crate) const CHECKSUM_PRESENT: u32 = 1;
    pub(crate) const MORE_TO_COME: u32 = 2;
    /// A parser errors on unknown ones of these.
    pub(crate) const REQUIRED: u32 = 0xffff;
}

/// What kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Reply,
    Update,
    Insert,
    Query,
    GetMore,
    Delete,
    KillCursors,
    Compressed,
    Msg,
}

impl Opcode {
    pub(crate) fn of(number: u32) -> Option<Opcode> {
        Some(match number {
            1 => Opcode::Reply,
            2001 => Opcode::Update,
            2002 => Opcode::Insert,
            2004 => Opcode::Query,
            2005 => Opcode::GetMore,
            2006 => Opcode::Delete,
            2007 => Opcode::KillCursors,
            2012 => Opcode::Compressed,
            2013 => Opcode::Msg,
            _ => return None,
        })
    }

    /// The name of a legacy one.
    pub(crate) fn legacy(self) -> Option<&'static str> {
        Some(match self {
            Opcode::Reply => "OP_REPLY",
            Opcode::Update => "OP_UPDATE",
            Opcode::Insert => "OP_INSERT",
            Opcode::Query => "OP_QUERY",
            Opcode::GetMore => "OP_GET_MORE",
            Opcode::Delete => "OP_DELETE",
            Opcode::KillCursors => "OP_KILL_CURSORS",
            Opcode::Compressed | Opcode::Msg => return None,
        })
    }

    /// The server never answers these (manual, "Legacy Opcodes").
    pub(crate) fn unanswered(self) -> bool {
        matches!(self, Opcode::Update | Opcode::Insert | Opcode::Delete | Opcode::KillCursors)
    }

    fn sent_by(self, server: bool) -> bool {
        match self {
            Opcode::Msg | Opcode::Compressed => true,
            Opcode::Reply => server,
            _ => !server,
        }
    }
}

/// A message's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) length: u32,
    pub(crate) request_id: u32,
    pub(crate) response_to: u32,
    pub(crate) opcode: Opcode,
}

impl Header {
    /// None where no side sends such a header.
    pub(crate) fn parse(bytes: &[u8; HEADER], from_server: bool) -> Option<Header> {
        let opcode = Opcode::of(u32_at(bytes, 12)?)?;
        let header =
            Header { length: u32_at(bytes, 0)?, request_id: u32_at(bytes, 4)?, response_to: u32_at(bytes, 8)?, opcode };
        // An empty section is 5 bytes of flags and kind with a document of 5; nothing else is shorter.
        let plausible = (HEADER as u32 + 8..=MAX_MESSAGE).contains(&header.length) && opcode.sent_by(from_server);
        plausible.then_some(header)
    }
}

/// The integer at an offset, lowest byte first ("Byte Ordering").
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// The integer at an offset, lowest byte first.
pub(crate) fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    bytes.get(at..)?.first_chunk().copied().map(i64::from_le_bytes)
}

/// Do these bytes begin a message of this side? As far as they go; long enough ones always get a yes or a no.
pub(crate) fn probe(from_server: bool, bytes: &[u8]) -> Verdict {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        // The length's highest byte is 0 to 2, and the opcode's upper three are known; a TLS record is longer than that.
        let length = bytes.get(3).is_none_or(|&highest| highest <= 2);
        let opcode = bytes.get(13..).is_none_or(|high| b"\x07\0\0".starts_with(high) || b"\0\0\0".starts_with(high));
        return if length && opcode { Verdict::NeedMore } else { Verdict::No };
    };
    let Some(header) = Header::parse(header, from_server) else { return Verdict::No };
    let body = bytes.get(HEADER..).unwrap_or_default();
    let room = header.length as usize - HEADER;
    let body = body.get(..room).unwrap_or(body);
    // A request answers nothing ("responseTo"): 0, or -1 by old shells.
    if !from_server && !matches!(header.response_to, 0 | u32::MAX) {
        return Verdict::No;
    }
    let fits = match header.opcode {
        Opcode::Msg => probe_msg(body, room),
        Opcode::Compressed => probe_compressed(body),
        Opcode::Reply => u32_at(body, 0).map(|flags| flags & !0xf == 0).filter(|fits| !fits || body.len() >= 20).map(
            // Documents, or none where numberReturned is 0.
            |fits| fits && u32_at(body, 16).is_some_and(|returned| (returned == 0) == (room == 20)),
        ),
        Opcode::Query => u32_at(body, 0)
            .map(|flags| flags & !0xff == 0)
            .and_then(|fits| if fits { probe_namespace(&body[4..]) } else { Some(false) }),
        Opcode::KillCursors => u32_at(body, 4).map(|count| u64::from(count) * 8 + 8 == room as u64),
        _ => body.get(4..).and_then(probe_namespace),
    };
    match fits {
        Some(true) => Verdict::Yes,
        Some(false) => Verdict::No,
        None => Verdict::NeedMore,
    }
}

/// Flags, kind, and of a body section the document's length and its first element's type.
fn probe_msg(body: &[u8], room: usize) -> Option<bool> {
    let message_flags = u32_at(body, 0)?;
    if message_flags & flags::REQUIRED & !(flags::CHECKSUM_PRESENT | flags::MORE_TO_COME) != 0 {
        return Some(false);
    }
    let kind = *body.get(4)?;
    let length = u32_at(body, 5)? as usize;
    let first = *body.get(9)?;
    Some(match kind {
        0 => (5..=room.saturating_sub(5)).contains(&length) && (first <= 0x13 || matches!(first, 0x7f | 0xff)),
        1 => (5..=room.saturating_sub(5)).contains(&length) && first.is_ascii_alphabetic(),
        _ => false,
    })
}

/// originalOpcode, uncompressedSize, compressorId (Wire Protocol, "OP_COMPRESSED").
fn probe_compressed(body: &[u8]) -> Option<bool> {
    let original = Opcode::of(u32_at(body, 0)?).filter(|&opcode| opcode != Opcode::Compressed);
    let size = u32_at(body, 4)?;
    Some(original.is_some() && (5..=MAX_MESSAGE).contains(&size) && *body.get(8)? <= 3)
}

/// `database.collection`, ended by NUL.
fn probe_namespace(body: &[u8]) -> Option<bool> {
    let visible = body.get(..MAX_NAMESPACE + 1).unwrap_or(body);
    match memchr::memchr(0, visible) {
        Some(end) => {
            let name = &visible[..end];
            Some(name.contains(&b'.') && !name.iter().any(u8::is_ascii_control))
        }
        None => (visible.len() > MAX_NAMESPACE || visible.iter().any(u8::is_ascii_control)).then_some(false),
    }
}

/// Bytes of a namespace (manual, "MongoDB Limits and Thresholds": 255), with room for older and other servers.
pub(crate) const MAX_NAMESPACE: usize = 512;

/// The offset at which a message of this side begins, as in `Stream::resync`. Errs towards none: a start that is cut by
/// the segment's end before it can be told is missed.
pub(crate) fn find(from_server: bool, bytes: &[u8]) -> Option<usize> {
    let opcode_ends = |window: &[u8]| matches!(window, [_, 7, 0, 0] | [1, 0, 0, 0]);
    let opcodes = bytes.windows(4).enumerate().skip(12).filter(|(_, window)| opcode_ends(window));
    opcodes.map(|(at, _)| at - 12).find(|&at| probe(from_server, &bytes[at..]) == Verdict::Yes)
}

#[cfg(test)]
mod tests {
    use super::{Verdict, find, probe};

    const PING: &[u8] =
        b"\x33\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0\x1e\0\0\0\x10ping\0\x01\0\0\0\x02$db\0\x06\
        \0\0\0admin\0\0";

    #[test]
    fn a_request_is_recognised_by_its_first_26_bytes() {
        assert_eq!(PING.len(), 0x33);
        for length in 0..PING.len() {
            let expected = if length < 26 { Verdict::NeedMore } else { Verdict::Yes };
            assert_eq!(probe(false, &PING[..length]), expected, "{length} bytes");
        }
    }

    #[test]
    fn a_query_of_an_old_shell_answers_minus_one() {
        let query = b"\x27\0\0\0\x0a\0\0\0\xff\xff\xff\xff\xd4\x07\0\0\0\0\0\0ab.c\0\0\0\0\0\x01\0\0\0\x05\0\0\0\0";
        assert_eq!(probe(false, query), Verdict::Yes);
        let other = [&query[..8], &[7, 0, 0, 0], &query[12..]].concat();
        assert_eq!(probe(false, &other), Verdict::No);
    }

    #[test]
    fn other_protocols_are_not() {
        let tls = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03abcdefghijklmnopqrstuvwxyz";
        let mysql = b"\x4a\0\0\0\x0a8.0.36\0\x08\0\0\0abcdefgh\0\xff\xff\xff\x02\0";
        for other in [&tls[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", mysql, &[0; 64], &[0xff; 64]] {
            assert_eq!(probe(false, other), Verdict::No, "{other:?}");
            assert_eq!(probe(true, other), Verdict::No, "{other:?}");
        }
        assert_eq!(probe(false, &tls[..4]), Verdict::NeedMore);
    }

    #[test]
    fn a_message_is_found_behind_nonsense() {
        let bytes = [&b"\x07\0\0\0\x01\0\0\0\xdd\x07\0\0 nonsense"[..], PING].concat();
        assert_eq!(find(false, &bytes), Some(bytes.len() - PING.len()));
        assert_eq!(find(false, &bytes[..bytes.len() - 30]), None);
    }
}
