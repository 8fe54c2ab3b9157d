//! The beginning of what an OP_COMPRESSED message holds (Wire Protocol, "OP_COMPRESSED", compressor ids).
//!
//! In: the first [`MAX_COMPRESSED`] bytes of the payload at most. Out: the first [`MAX_PLAIN`] bytes at most of what they
//! mean. That is enough for every field but those behind many documents, and bounds memory and time whatever is claimed
//! or repeated. A payload that breaks off gives what stands before the break.

use std::io::Read as _;

use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_PARSE_ZLIB_HEADER, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::reader::Fault;

/// Payload that is kept: the longest zstd block (RFC 8878 section 3.1.1.2) with its frame's header.
pub(crate) const MAX_COMPRESSED: usize = 128 * 1024 + 32;

/// Bytes that are decompressed; zstd goes by whole blocks of at most as many.
pub(crate) const MAX_PLAIN: usize = 128 * 1024;

/// How a message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compressor {
    Noop,
    Snappy,
    Zlib,
    Zstd,
}

impl Compressor {
    pub(crate) fn of(id: u8) -> Option<Compressor> {
        Some(match id {
            0 => Compressor::Noop,
            1 => Compressor::Snappy,
            2 => Compressor::Zlib,
            3 => Compressor::Zstd,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Compressor::Noop => "noop",
            Compressor::Snappy => "snappy",
            Compressor::Zlib => "zlib",
            Compressor::Zstd => "zstd",
        }
    }

    /// Decompresses a payload, or the beginning of one; at most [`MAX_PLAIN`] bytes, and no more than `claimed`.
    pub(crate) fn beginning(self, payload: &[u8], claimed: usize) -> Result<Vec<u8>, Fault> {
        let limit = claimed.min(MAX_PLAIN);
        let mut plain = match self {
            Compressor::Noop => payload.to_vec(),
            Compressor::Snappy => snappy(payload, limit),
            Compressor::Zlib => zlib(payload, limit),
            Compressor::Zstd => zstd(payload, claimed).unwrap_or_default(),
        };
        if plain.is_empty() {
            return Err(Fault::Compression);
        }
        plain.truncate(limit);
        Ok(plain)
    }
}

/// A zlib stream (RFC 1950), as far as it goes.
fn zlib(payload: &[u8], limit: usize) -> Vec<u8> {
    let flags = TINFL_FLAG_PARSE_ZLIB_HEADER | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | TINFL_FLAG_HAS_MORE_INPUT;
    let mut plain = vec![0; limit];
    let (_, _, written) = decompress(&mut DecompressorOxide::new(), payload, &mut plain, 0, flags);
    plain.truncate(written);
    plain
}

/// A snappy block ("Snappy compressed format description"): the length, then literals and copies. The `snap` crate
/// decodes whole blocks only.
fn snappy(payload: &[u8], limit: usize) -> Vec<u8> {
    let mut plain = Vec::new();
    let length = payload.iter().position(|byte| byte & 0x80 == 0);
    let mut rest = length.and_then(|at| payload.get(at + 1..)).unwrap_or_default();
    while plain.len() < limit
        && let Some(after) = snappy_element(rest, limit, &mut plain)
    {
        rest = after;
    }
    plain
}

/// Appends what the first element means; none where it is broken or incomplete.
fn snappy_element<'a>(bytes: &'a [u8], limit: usize, plain: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&tag, rest) = bytes.split_first()?;
    let little_endian = |count: usize| {
        let bytes = rest.get(..count)?;
        Some(bytes.iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte)))
    };
    let high = usize::from(tag >> 2);
    let (length, offset, header) = match tag & 3 {
        // 2.1 Literals: lengths from 61 on stand in the next 1 to 4 bytes.
        0 => {
            let header = high.saturating_sub(59);
            let length = if header == 0 { high } else { little_endian(header)? } + 1;
            let literal = rest.get(header..)?;
            // One that is cut off is as good as it goes.
            let visible = literal.get(..length).unwrap_or(literal);
            plain.extend_from_slice(visible.get(..limit - plain.len()).unwrap_or(visible));
            return literal.get(length..);
        }
        // 2.2 Copies, with 1, 2 or 4 bytes of offset.
        1 => ((high & 7) + 4, (high >> 3) << 8 | little_endian(1)?, 1),
        2 => (high + 1, little_endian(2)?, 2),
        _ => (high + 1, little_endian(4)?, 4),
    };
    let from = plain.len().checked_sub(offset).filter(|_| offset > 0)?;
    for at in from..from + length.min(limit - plain.len()) {
        // What is copied may be what this very copy has appended.
        plain.push(*plain.get(at)?);
    }
    rest.get(header..)
}

/// The whole blocks of a zstd frame (RFC 8878 section 3.1.1) that are there; of a long message those up to the first
/// compressed one, which may mean [`MAX_PLAIN`] bytes by itself. They are decoded as a frame of their own, whose last
/// block is the last one taken and whose window is no larger than that: the frame's own may be 8 MB, all for bytes that
/// are not wanted.
fn zstd(payload: &[u8], claimed: usize) -> Option<Vec<u8>> {
    /// Magic number, no optional field, a window of 128 KiB (3.1.1.1.2).
    const HEADER: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    let descriptor = *payload.strip_prefix(&HEADER[..4])?.first()?;
    let single_segment = descriptor & 0x20 != 0;
    let window = usize::from(!single_segment);
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content_size = match descriptor >> 6 {
        0 => usize::from(single_segment),
        size => 1 << size,
    };
    let blocks = payload.get(5 + window + dictionary + content_size..)?;
    let (mut length, mut last, mut meant) = (0, None, 0);
    while meant < MAX_PLAIN
        && let Some(&[a, b, c]) = blocks.get(length..).and_then(|block| block.first_chunk())
    {
        let header = u32::from_le_bytes([a, b, c, 0]);
        let size = (header >> 3) as usize;
        // Of an RLE block, whose size is that of what it means, one byte is there (3.1.1.2.2).
        let end = length + 3 + if header >> 1 & 3 == 1 { 1 } else { size };
        if blocks.len() < end {
            break;
        }
        last = Some(length);
        length = end;
        meant += match header >> 1 & 3 {
            2 if claimed <= MAX_PLAIN => 0,
            2 => MAX_PLAIN,
            _ => size,
        };
        if header & 1 != 0 {
            break;
        }
    }
    let last = last?;
    let (before, from_last) = (blocks.get(..last)?, blocks.get(last..length)?);
    let (&first, behind) = from_last.split_first()?;
    // Last_Block is the lowest bit of a block's header.
    let first = [first | 1];
    let mut frame = HEADER.as_slice().chain(before).chain(first.as_slice()).chain(behind);
    let mut decoder = FrameDecoder::new();
    decoder.init(&mut frame).ok()?;
    while !decoder.is_finished() {
        decoder.decode_blocks(&mut frame, BlockDecodingStrategy::UptoBlocks(1)).ok()?;
        // Beyond the window before the end: it means more than it claimed.
        if decoder.can_collect() > MAX_PLAIN {
            return None;
        }
    }
    decoder.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruzstd::encoding::CompressionLevel;

    use super::{Compressor, MAX_PLAIN};

    fn of(compressor: Compressor, bytes: &[u8]) -> Vec<u8> {
        match compressor {
            Compressor::Noop => bytes.to_vec(),
            Compressor::Snappy => snap::raw::Encoder::new().compress_vec(bytes).unwrap(),
            Compressor::Zlib => miniz_oxide::deflate::compress_to_vec_zlib(bytes, 6),
            Compressor::Zstd => ruzstd::encoding::compress_to_vec(bytes, CompressionLevel::Fastest),
        }
    }

    const ALL: [Compressor; 4] = [Compressor::Noop, Compressor::Snappy, Compressor::Zlib, Compressor::Zstd];

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(
            words in prop::collection::vec("[a-d]{1,9}|[\\x00-\\xff]{1,40}", 1..400),
            cut in 0.0..1.0,
        ) {
            let bytes = words.concat().into_bytes();
            for compressor in ALL {
                let packed = of(compressor, &bytes);
                prop_assert_eq!(&compressor.beginning(&packed, bytes.len()).unwrap(), &bytes, "{:?}", compressor);
                let cut = &packed[..(packed.len() as f64 * cut) as usize];
                if let Ok(beginning) = compressor.beginning(cut, bytes.len()) {
                    prop_assert!(bytes.starts_with(&beginning), "{:?} cut", compressor);
                }
            }
        }

        #[test]
        fn nonsense_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), claimed in 0_usize..50_000_000) {
            for compressor in ALL {
                let headed = [&b"\x28\xb5\x2f\xfd"[..], &bytes].concat();
                for payload in [&bytes, &headed] {
                    if let Ok(beginning) = compressor.beginning(payload, claimed) {
                        prop_assert!(beginning.len() <= MAX_PLAIN.min(claimed));
                    }
                }
            }
        }
    }

    #[test]
    fn of_long_messages_the_beginning_is_enough() {
        let bytes: Vec<u8> = (0..2_000_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for compressor in ALL {
            let packed = of(compressor, &bytes);
            let beginning =
                compressor.beginning(&packed[..packed.len().min(super::MAX_COMPRESSED)], bytes.len()).unwrap();
            assert!(beginning.len() > 60_000, "{compressor:?}: {} bytes", beginning.len());
            assert!(beginning.len() <= MAX_PLAIN && bytes.starts_with(&beginning), "{compressor:?}");
        }
    }

    #[test]
    fn a_bomb_is_cut_off() {
        let zeros = vec![0; 40_000_000];
        for compressor in ALL {
            let packed = of(compressor, &zeros);
            let beginning =
                compressor.beginning(&packed[..packed.len().min(super::MAX_COMPRESSED)], zeros.len()).unwrap();
            assert!((65_536..=MAX_PLAIN).contains(&beginning.len()), "{compressor:?}: {} bytes", beginning.len());
        }
    }
}
