//! Reads an input. It never ends: what is missing is 0, so that every input means something.

/// What is left of an input.
pub(crate) struct Script<'i> {
    rest: &'i [u8],
}

impl<'i> Script<'i> {
    pub(crate) fn new(input: &'i [u8]) -> Script<'i> {
        Script { rest: input }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let [byte] = self.bytes();
        byte
    }

    /// Little-endian, as libFuzzer writes the numbers it finds in comparisons.
    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    /// As many bytes as the next one says; fewer where the input ends.
    pub(crate) fn slice_of_u8(&mut self) -> &'i [u8] {
        let length = self.u8();
        self.slice(length.into())
    }

    /// As [`Script::slice_of_u8`], for a length of two bytes.
    pub(crate) fn slice_of_u16(&mut self) -> &'i [u8] {
        let length = self.u16();
        self.slice(length.into())
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'i [u8] {
        self.rest
    }

    fn slice(&mut self, length: usize) -> &'i [u8] {
        let (slice, rest) = self.rest.split_at(self.rest.len().min(length));
        self.rest = rest;
        slice
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let (head, rest) = self.rest.split_at(self.rest.len().min(N));
        bytes[..head.len()].copy_from_slice(head);
        self.rest = rest;
        bytes
    }
}
