//! Packets and the basic types in them, read within bounds.
//!
//! A packet is a length of 3 bytes, a sequence id and the payload; a payload of 2^24 - 1 bytes is continued in the next
//! packet (dev.mysql.com, "MySQL Packets"). Nothing here indexes by a value from the wire.

use podtap_sdk::{Break, Stream};

/// Bytes before a payload.
pub(crate) const HEADER: usize = 4;

/// A payload that is continued in the next packet.
pub(crate) const MAX_PAYLOAD: usize = 0xff_ffff;

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) length: usize,
    pub(crate) sequence: u8,
}

impl Header {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Header> {
        let &[a, b, c, sequence] = bytes.first_chunk::<HEADER>()?;
        Some(Header { length: u32::from_le_bytes([a, b, c, 0]) as usize, sequence })
    }
}

/// The packet that `bytes` begin with and up to `keep` bytes of its payload; none while those have not come.
pub(crate) fn visible(bytes: &[u8], keep: usize) -> Option<(Header, &[u8])> {
    let header = Header::parse(bytes)?;
    let payload = bytes.get(HEADER..HEADER + header.length.min(keep))?;
    Some((header, payload))
}

/// Reads a packet with its continuations. `read` sees up to `keep` bytes of the payload; the rest is passed over.
/// The last packet's sequence id is given beside what `read` made of it.
pub(crate) async fn packet<T>(
    stream: &mut Stream,
    keep: usize,
    read: impl FnOnce(Header, &[u8]) -> T,
) -> Result<(T, u8), Break> {
    let end = |bytes: &[u8], _: usize| visible(bytes, keep).map(|(_, payload)| HEADER + payload.len());
    let piece = |bytes: &[u8]| visible(bytes, keep).map(|(header, payload)| (header, read(header, payload)));
    let (header, value) = stream.until(end, HEADER + keep + 1, piece).await?.ok_or(Break::Malformed)?;
    if header.length > keep {
        stream.skip((header.length - keep) as u64).await?;
    }
    let (last, _) = continuations(stream, header).await?;
    Ok((value, last.sequence))
}

/// Passes over the packets that continue one; gives the last header and the bytes passed over.
pub(crate) async fn continuations(stream: &mut Stream, first: Header) -> Result<(Header, u64), Break> {
    let (mut last, mut bytes) = (first, 0);
    while last.length == MAX_PAYLOAD {
        let next = stream.exact(HEADER, Header::parse).await?.ok_or(Break::Malformed)?;
        // "MySQL Packets": ids go up by one within a command.
        if next.sequence != last.sequence.wrapping_add(1) {
            return Err(Break::Malformed);
        }
        stream.skip(next.length as u64).await?;
        bytes += next.length as u64;
        last = next;
    }
    Ok((last, bytes))
}

/// Reads a payload from its front; every read is none where too little is left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload<'a>(pub(crate) &'a [u8]);

impl<'a> Payload<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (piece, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(piece)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// `int<lenenc>` (dev.mysql.com, "Integer Types").
    pub(crate) fn lenenc(&mut self) -> Option<u64> {
        match self.u8()? {
            first @ ..=0xfa => Some(first.into()),
            0xfc => self.u16().map(u64::from),
            0xfd => self.array().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]).into()),
            0xfe => self.array().map(u64::from_le_bytes),
            _ => None,
        }
    }

    /// `string<lenenc>` (dev.mysql.com, "String Types").
    pub(crate) fn lenenc_text(&mut self) -> Option<&'a [u8]> {
        let length = self.lenenc()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// `string<NUL>`; a last one may lack its end, as some clients and old servers leave it out.
    pub(crate) fn nul_text(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        let text = self.take(end)?;
        self.take(1);
        Some(text)
    }
}
