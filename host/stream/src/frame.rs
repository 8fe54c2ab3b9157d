//! A bounded reader over a captured packet that knows how long the packet was on the wire, and the fates of packets
//! that hold no TCP segment. A header that is not there is [`NoSegment::Truncated`] when the wire had it, else
//! [`NoSegment::Malformed`].

/// Why a packet yields no TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSegment {
    /// Another protocol.
    NotTcp,
    /// A link type that is not read.
    UnknownLink,
    /// A header contradicts itself.
    Malformed,
    /// The snaplen cut a header, or a fragment.
    Truncated,
    /// More headers one in the other than are read.
    TooDeep,
}

/// What is left of a packet: the bytes captured and the length they had on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    /// Captured.
    pub(crate) bytes: &'a [u8],
    /// On the wire; at least `bytes.len()`.
    pub(crate) wire_len: usize,
    /// A header said so, and not only the capture, whose word for the original length is not always true.
    pub(crate) is_stated: bool,
}

impl<'a> Frame<'a> {
    /// The packet from its link header on. An original length below the captured one is not believed.
    pub(crate) fn new(bytes: &'a [u8], original_len: u32) -> Frame<'a> {
        Frame { bytes, wire_len: bytes.len().max(original_len as usize), is_stated: false }
    }

    /// Reads `N` bytes.
    pub(crate) fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], NoSegment> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<N>() else { return Err(self.short_of(N)) };
        self.bytes = rest;
        self.wire_len -= N;
        Ok(head)
    }

    /// Reads `length` bytes.
    pub(crate) fn take_slice(&mut self, length: usize) -> Result<&'a [u8], NoSegment> {
        let Some((head, rest)) = self.bytes.split_at_checked(length) else { return Err(self.short_of(length)) };
        self.bytes = rest;
        self.wire_len -= length;
        Ok(head)
    }

    /// The next `N` bytes, which stay.
    pub(crate) fn peek<const N: usize>(&self) -> Result<&'a [u8; N], NoSegment> {
        self.bytes.first_chunk::<N>().ok_or(self.short_of(N))
    }

    /// The rest is as long as its header says: padding behind is dropped, what is missing was cut off. A header around
    /// it that said less is right: there is no more in it.
    pub(crate) fn set_wire_len(&mut self, length: usize) {
        let length = if self.is_stated { length.min(self.wire_len) } else { length };
        self.is_stated = true;
        self.bytes = self.bytes.get(..length).unwrap_or(self.bytes);
        self.wire_len = length;
    }

    fn short_of(&self, length: usize) -> NoSegment {
        if self.wire_len >= length { NoSegment::Truncated } else { NoSegment::Malformed }
    }
}
