//! The compressed protocol: frames in, the packets in them out.
//!
//! dev.mysql.com, "Compressed Packet": the length of the payload in 3 bytes, a sequence id, the length of what is in it in
//! 3 bytes, 0 where it is not compressed; then the payload, in zlib's format or in zstd's. Packets may go on from one frame
//! to the next.
//!
//! What is unpacked is handed on piece by piece, at most as much as the frame says. A zstd frame may want its window of
//! up to 2 MiB (what the usual levels ask for); one that wants more is not unpacked, which is told as a gap.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};
use podtap_sdk::{Break, Stream, Unpacked};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const HEADER: usize = 7;

/// How much is handed on at a time.
const PIECE: usize = 16 * 1024;

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// RFC 8878, 3.1.1: magic number and frame header are at most 18 bytes.
const ZSTD_MAX_HEADER: usize = 18;

/// RFC 8878, 3.1.1.2.4: the largest block, but for its header.
const ZSTD_MAX_BLOCK: usize = 128 * 1024;

const ZSTD_MAX_WINDOW: u64 = 2 << 20;

/// What stands before a frame's payload.
#[derive(Clone, Copy, Debug)]
struct Header {
    packed: usize,
    /// Length of what is in it; none where it is not compressed.
    plain: Option<usize>,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Header> {
        let &[a, b, c, _sequence, x, y, z] = bytes.first_chunk::<HEADER>()?;
        let packed = u32::from_le_bytes([a, b, c, 0]) as usize;
        let plain = u32::from_le_bytes([x, y, z, 0]) as usize;
        Some(Header { packed, plain: (plain > 0).then_some(plain) })
    }
}

/// Unpacks frames up to the side's end.
pub(crate) async fn frames(mut packed: Stream, unpacked: Unpacked) -> Result<(), Break> {
    loop {
        let read = match unpacked.frame().await {
            Ok(()) => frame(&mut packed, &unpacked).await,
            Err(why) => Err(why),
        };
        match read {
            Ok(()) => {}
            Err(Break::End) => return Err(Break::End),
            Err(Break::Gap | Break::Malformed) => {
                unpacked.resync(&mut packed, find).await;
            }
        }
    }
}

async fn frame(packed: &mut Stream, unpacked: &Unpacked) -> Result<(), Break> {
    let header = packed.exact(HEADER, Header::parse).await?.ok_or(Break::Malformed)?;
    let length = header.plain.unwrap_or(header.packed);
    if header.packed == 0 {
        return Ok(());
    }
    if unpacked.unneeded(length as u64) {
        unpacked.skip(packed, header.packed as u64).await?;
        unpacked.pass(length as u64);
        return Ok(());
    }
    // Of the frame: what is still packed, what has been handed on.
    let mut progress = Progress { left: header.packed, given: 0, length, held: Vec::new() };
    let read = match header.plain {
        None => plain(packed, unpacked, &mut progress).await,
        Some(_) => {
            let magic = if header.packed < 4 { [0; 4] } else { packed.peek(4, first_4).await? };
            if magic == ZSTD_MAGIC {
                zstd(packed, unpacked, &mut progress).await
            } else {
                zlib(packed, unpacked, &mut progress).await
            }
        }
    };
    match read {
        Err(Break::End) => Err(Break::End),
        Ok(()) if progress.left == 0 && progress.given == length => {
            progress.finish(unpacked).await;
            Ok(())
        }
        // Lost in part, or not what it said: the rest of it cannot be unpacked, but where the next one begins is known.
        Ok(()) | Err(Break::Gap | Break::Malformed) => {
            progress.finish(unpacked).await;
            unpacked.skip(packed, progress.left as u64).await?;
            // What holds more than it says is not to be trusted with what it gave, either.
            let missing = length - progress.given;
            unpacked.gap((missing > 0).then_some(missing as u64)).await;
            Ok(())
        }
    }
}

struct Progress {
    left: usize,
    given: usize,
    length: usize,
    /// Of what was given, what is not handed on yet: a short frame is handed on when all of it has come, so that the
    /// message that ends with it has all of its bytes.
    held: Vec<u8>,
}

impl Progress {
    async fn give(&mut self, unpacked: &Unpacked, mut bytes: Vec<u8>) -> Result<(), Break> {
        let more = self.given + bytes.len() > self.length;
        bytes.truncate(self.length - self.given);
        self.given += bytes.len();
        if self.held.is_empty() {
            self.held = bytes;
        } else if self.held.len() + bytes.len() <= PIECE {
            self.held.extend_from_slice(&bytes);
        } else {
            unpacked.give(std::mem::replace(&mut self.held, bytes)).await;
        }
        if more { Err(Break::Malformed) } else { Ok(()) }
    }

    async fn finish(&mut self, unpacked: &Unpacked) {
        if !self.held.is_empty() {
            unpacked.give(std::mem::take(&mut self.held)).await;
        }
    }
}

fn first_4(bytes: &[u8]) -> [u8; 4] {
    bytes.first_chunk().copied().unwrap_or_default()
}

async fn plain(packed: &mut Stream, unpacked: &Unpacked, progress: &mut Progress) -> Result<(), Break> {
    while progress.left > 0 {
        let bytes = packed.piece(progress.left.min(PIECE), <[u8]>::to_vec).await?;
        progress.left -= bytes.len();
        progress.give(unpacked, bytes).await?;
    }
    Ok(())
}

async fn zlib(packed: &mut Stream, unpacked: &Unpacked, progress: &mut Progress) -> Result<(), Break> {
    let mut state = InflateState::new_boxed(DataFormat::Zlib);
    let mut over = false;
    while progress.left > 0 && !over {
        let mut input = packed.piece(progress.left.min(PIECE), <[u8]>::to_vec).await?;
        progress.left -= input.len();
        loop {
            let mut output = vec![0; PIECE.min(progress.length - progress.given + 1)];
            let result = inflate(&mut state, &input, &mut output, MZFlush::None);
            output.truncate(result.bytes_written);
            let full = output.len() == output.capacity();
            input.drain(..result.bytes_consumed.min(input.len()));
            over = result.status == Ok(MZStatus::StreamEnd);
            if !matches!(result.status, Ok(_) | Err(MZError::Buf)) {
                return Err(Break::Malformed);
            }
            let idle = output.is_empty() && result.bytes_consumed == 0;
            progress.give(unpacked, output).await?;
            // Once the input is used up, a full output means that there may be more.
            if over || idle || (input.is_empty() && !full) {
                break;
            }
        }
    }
    if over { Ok(()) } else { Err(Break::Malformed) }
}

async fn zstd(packed: &mut Stream, unpacked: &Unpacked, progress: &mut Progress) -> Result<(), Break> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_MAX_WINDOW);
    let header = packed.peek(progress.left.min(ZSTD_MAX_HEADER), |bytes| zstd_header(bytes, &mut decoder)).await?;
    let header = header.filter(|&length| length <= progress.left).ok_or(Break::Malformed)?;
    packed.skip(header as u64).await?;
    progress.left -= header;
    while !decoder.is_finished() {
        let &[a, b, c] =
            packed.peek(3, |bytes| bytes.first_chunk::<3>().copied()).await?.as_ref().ok_or(Break::Malformed)?;
        // RFC 8878, 3.1.1.2: last block, type, size; of a block of one repeated byte the size is that of its content.
        let block = u32::from_le_bytes([a, b, c, 0]);
        let (last, kind, size) = (block & 1 == 1, block >> 1 & 3, (block >> 3) as usize);
        let size = if kind == 1 { 1 } else { size };
        // A checksum of 4 bytes may follow the last block; what is left tells.
        let checksum = if last { progress.left.saturating_sub(3 + size).min(4) } else { 0 };
        let whole = 3 + size + checksum;
        if size > ZSTD_MAX_BLOCK || whole > progress.left {
            return Err(Break::Malformed);
        }
        let output = packed.exact(whole, |bytes| {
            decoder.decode_blocks(bytes, BlockDecodingStrategy::UptoBlocks(1)).ok()?;
            Some(decoder.collect().unwrap_or_default())
        });
        let output = output.await?;
        progress.left -= whole;
        progress.give(unpacked, output.ok_or(Break::Malformed)?).await?;
    }
    Ok(())
}

/// Begins a frame; the length of its header.
fn zstd_header(bytes: &[u8], decoder: &mut FrameDecoder) -> Option<usize> {
    let mut rest = bytes;
    decoder.init(&mut rest).ok()?;
    Some(bytes.len() - rest.len())
}

/// A frame at a segment's start. It errs towards no: zlib's or zstd's first bytes, or the header of a packet that begins a
/// command or a response.
fn find(bytes: &[u8]) -> Option<usize> {
    let header = Header::parse(bytes)?;
    let payload = bytes.get(HEADER..)?;
    let fits = match header.plain {
        Some(plain) => {
            plain >= header.packed / 2 && (payload.first() == Some(&0x78) || payload.starts_with(&ZSTD_MAGIC))
        }
        None => crate::wire::Header::parse(payload)
            .is_some_and(|inner| inner.length + crate::wire::HEADER <= header.packed && inner.sequence <= 1),
    };
    fits.then_some(0)
}
