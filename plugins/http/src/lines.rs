//! The lines of a head (RFC 9112 section 2.2), whose ends are looked for 64 bytes at a time: a search for each line alone
//! takes several times the instructions, as most lines are short.

/// Bytes that are looked at together.
const BLOCK: usize = 64;

/// Gives lines without their endings, CRLF or a bare LF.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    bytes: &'a [u8],
    /// Where the next line begins.
    start: usize,
    /// Where the block begins that the masks are of; bit n stands for its byte n.
    block: usize,
    /// Line feeds that are still to come.
    feeds: u64,
    /// Carriage returns that no line feed follows.
    stray: u64,
    /// The same of earlier blocks, all together.
    earlier_stray: u64,
    /// A line given ended in a line feed alone.
    bare_lf: bool,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Lines<'a> {
        let (feeds, stray) = masks(bytes, 0);
        Lines { bytes, start: 0, block: 0, feeds, stray, earlier_stray: 0, bare_lf: false }
    }

    /// The next line; none while its end is not there.
    // In line, so that its state is in registers.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<&'a [u8]> {
        while self.feeds == 0 {
            self.earlier_stray |= self.stray;
            self.block += BLOCK;
            if self.block >= self.bytes.len() {
                return None;
            }
            (self.feeds, self.stray) = masks(self.bytes, self.block);
        }
        let end = self.block + self.feeds.trailing_zeros() as usize;
        self.feeds &= self.feeds - 1;
        let line = self.bytes.get(self.start..end)?;
        self.start = end + 1;
        let without_return = line.strip_suffix(b"\r");
        self.bare_lf |= without_return.is_none();
        Some(without_return.unwrap_or(line))
    }

    /// Where the next line begins.
    pub(crate) fn position(&self) -> usize {
        self.start
    }

    /// Did a line that was given have a carriage return in it?
    pub(crate) fn has_bare_cr(&self) -> bool {
        let given = self.start.saturating_sub(self.block);
        let of_lines_given = 1_u64.checked_shl(given as u32).map_or(u64::MAX, |bit| bit - 1);
        self.earlier_stray | self.stray & of_lines_given != 0
    }

    /// Did a line that was given end in a line feed alone?
    pub(crate) fn has_bare_lf(&self) -> bool {
        self.bare_lf
    }
}

/// Line feeds, and carriage returns that none follows, of the up to 64 bytes from `at` on.
fn masks(bytes: &[u8], at: usize) -> (u64, u64) {
    let rest = bytes.get(at..).unwrap_or_default();
    let (feeds, returns) = match (rest.first_chunk(), bytes.last_chunk()) {
        (Some(block), _) => (equal(block, b'\n'), equal(block, b'\r')),
        (None, _) if rest.is_empty() => (0, 0),
        // What stands before is shifted out.
        (None, Some(last)) => {
            let passed = BLOCK - rest.len();
            (equal(last, b'\n') >> passed, equal(last, b'\r') >> passed)
        }
        (None, None) => {
            let mut block = [0; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            (equal(&block, b'\n'), equal(&block, b'\r'))
        }
    };
    let followed = feeds >> 1 | u64::from(rest.get(BLOCK) == Some(&b'\n')) << (BLOCK - 1);
    (feeds, returns & !followed)
}

/// Which bytes of the block are this one.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
fn equal(block: &[u8; BLOCK], byte: u8) -> u64 {
    use std::arch::wasm32::{i8x16_bitmask, i8x16_eq, u8x16_splat, u64x2};
    let sixteen = |index: usize, [low, high]: [[u8; 8]; 2]| {
        let piece = u64x2(u64::from_le_bytes(low), u64::from_le_bytes(high));
        u64::from(i8x16_bitmask(i8x16_eq(piece, u8x16_splat(byte)))) << (16 * index)
    };
    let sixteens = block.as_chunks().0.as_chunks().0;
    sixteens.iter().enumerate().fold(0, |mask, (index, piece)| mask | sixteen(index, *piece))
}

/// Which bytes of the block are this one.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
fn equal(block: &[u8; BLOCK], byte: u8) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    let eight = |index: usize, piece: &[u8; 8]| {
        // A byte of 0 is where they are equal; only there does bit 7 stay 0. Then these bits move together.
        let differ = u64::from_le_bytes(*piece) ^ (LOW * u64::from(byte));
        let high = ((differ & (LOW * 0x7f)) + LOW * 0x7f) | differ;
        let ones = !high >> 7 & LOW;
        (ones.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * index)
    };
    block.as_chunks().0.iter().enumerate().fold(0, |mask, (index, piece)| mask | eight(index, piece))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Line by line, byte by byte: lines, where they end, and whether there was a bare CR, a bare LF.
    fn expected(bytes: &[u8]) -> (Vec<&[u8]>, usize, bool, bool) {
        let (mut lines, mut start, mut bare_cr, mut bare_lf) = (Vec::new(), 0, false, false);
        for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            let line = &bytes[start..at];
            start = at + 1;
            bare_lf |= !line.ends_with(b"\r");
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            bare_cr |= line.contains(&b'\r');
            lines.push(line);
        }
        (lines, start, bare_cr, bare_lf)
    }

    proptest! {
        #[test]
        fn lines_are_those_found_byte_by_byte(
            pieces in prop::collection::vec(
                prop_oneof![
                    Just("\r\n".to_owned()), Just("\n".to_owned()), Just("\r".to_owned()), "[a-z\u{8a}\u{8d}]{0,70}"
                ],
                0..12
            ),
        ) {
            let bytes = pieces.concat().into_bytes();
            let mut lines = Lines::of(&bytes);
            let (wanted, position, bare_cr, bare_lf) = expected(&bytes);
            let found: Vec<_> = wanted.iter().map_while(|_| lines.next()).collect();
            prop_assert_eq!(&found, &wanted);
            prop_assert_eq!((lines.position(), lines.has_bare_cr(), lines.has_bare_lf()), (position, bare_cr, bare_lf));
            prop_assert_eq!(lines.next(), None);
        }
    }
}
