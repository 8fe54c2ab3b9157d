//! A component's file, plain or packed, read into memory within a bound.
//!
//! In: a path, and how many bytes a component may have. Out: the bytes of the component and their digest, or what is
//! wrong with the file. How a file is packed is told by its name and checked against its first bytes. A file whose
//! content is longer than allowed costs no more memory than what is allowed: lengths that the file tells of itself are
//! checked before any allocation, and what comes of it is counted while it is unpacked.
//!
//! Formats: RFC 1952 (gzip), RFC 8878 (zstd). A file holds one gzip member or one zstd frame and nothing behind it, for
//! what stands there would be in no digest; nor are the frames of zstd before 1.0 read.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use zstd_safe::zstd_sys::ZSTD_ErrorCode;

use crate::config::{ByteSize, Digest};

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const LONGEST_MAGIC: usize = 4;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all: `.wasm`.
    Plain,
    /// gzip: `.wasm.gz`.
    Gzip,
    /// zstd: `.wasm.zst`.
    Zstd,
}

impl Packing {
    /// By a file's name; none for what is no name of a plugin.
    pub fn of(path: &Path) -> Option<Packing> {
        let name = path.file_name()?.as_encoded_bytes();
        let all = [Packing::Plain, Packing::Gzip, Packing::Zstd];
        all.into_iter().find(|packing| name.ends_with(packing.ending().as_bytes()))
    }

    /// By a file's first bytes; plain is whatever is not packed.
    fn of_content(bytes: &[u8]) -> Packing {
        match bytes {
            _ if bytes.starts_with(GZIP_MAGIC) => Packing::Gzip,
            _ if bytes.starts_with(ZSTD_MAGIC) => Packing::Zstd,
            _ => Packing::Plain,
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Packing::Plain => ".wasm",
            Packing::Gzip => ".wasm.gz",
            Packing::Zstd => ".wasm.zst",
        }
    }

    /// What a name has behind `.wasm`.
    pub(super) fn packed_ending(self) -> &'static str {
        self.ending().strip_prefix(Packing::Plain.ending()).unwrap_or_default()
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Packing::Plain => "plain",
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        })
    }
}

/// Why a file gives no component.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system says no.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Its length is more than is allowed.
    #[error(
        "is longer than plugins.max_bytes allows ({0}): strip the component (`wasm-tools strip`), or raise the limit"
    )]
    TooLong(ByteSize),
    /// What it unpacks to is more than is allowed.
    #[error(
        "unpacks to more than plugins.max_bytes allows ({0}) and was given up there: do not use it if you do not know \
         why it is so long; else strip the component (`wasm-tools strip`), or raise the limit"
    )]
    UnpacksTooLong(ByteSize),
    /// Name and content do not agree.
    #[error("is named *{} but its content is {}: {}", .named.ending(), described(*.found), advice(*.found))]
    OtherPacking {
        /// By its name.
        named: Packing,
        /// By its first bytes.
        found: Packing,
    },
    /// It cannot be unpacked.
    #[error("is damaged or cut off ({0}): make and copy it anew")]
    Damaged(String),
    /// There is more behind the end.
    #[error("has {0} bytes behind the end of its {1} data: pack the component alone, in one piece")]
    Trailing(usize, Packing),
}

fn described(found: Packing) -> &'static str {
    match found {
        Packing::Plain => "not packed so",
        Packing::Gzip => "packed with gzip",
        Packing::Zstd => "packed with zstd",
    }
}

fn advice(found: Packing) -> &'static str {
    match found {
        Packing::Plain => "name a component that is not packed *.wasm",
        Packing::Gzip => "name it *.wasm.gz",
        Packing::Zstd => "name it *.wasm.zst",
    }
}

/// A component as its file holds it, unpacked; not yet looked into.
#[derive(Clone, Debug)]
pub struct ComponentFile {
    /// The file.
    pub path: PathBuf,
    /// How it is packed.
    pub packing: Packing,
    /// Its length.
    pub file_bytes: usize,
    /// The component.
    pub component: Vec<u8>,
    /// Digest of the component. Packing does not change it.
    pub digest: Digest,
}

impl ComponentFile {
    /// Reads and unpacks a file. A file of another name is read as a plain one.
    ///
    /// # Errors
    /// What is wrong with the file; the error does not name it.
    pub fn read(path: &Path, max_bytes: ByteSize) -> Result<ComponentFile, FileError> {
        let packing = Packing::of(path).unwrap_or(Packing::Plain);
        let content = read_bounded(path, max_bytes)?;
        if packing != Packing::Plain && content.len() < LONGEST_MAGIC {
            return Err(FileError::Damaged(format!("it has {} bytes", content.len())));
        }
        let found = Packing::of_content(&content);
        if found != packing {
            return Err(FileError::OtherPacking { named: packing, found });
        }
        let file_bytes = content.len();
        let component = match packing {
            Packing::Plain => content,
            Packing::Gzip => gunzip(&content, max_bytes)?,
            Packing::Zstd => unzstd(&content, max_bytes)?,
        };
        let digest = Digest::of(&component);
        Ok(ComponentFile { path: path.to_owned(), packing, file_bytes, component, digest })
    }
}

fn read_bounded(path: &Path, max_bytes: ByteSize) -> Result<Vec<u8>, FileError> {
    let mut file = File::open(path)?;
    let told = file.metadata()?.len();
    if told > max_bytes.0 {
        return Err(FileError::TooLong(max_bytes));
    }
    let mut content = Vec::new();
    content.try_reserve_exact(told as usize).map_err(io::Error::from)?;
    // A file may grow meanwhile, and a device tells no length.
    file.by_ref().take(max_bytes.0).read_to_end(&mut content)?;
    if file.read(&mut [0])? != 0 {
        return Err(FileError::TooLong(max_bytes));
    }
    Ok(content)
}

/// Room for what is unpacked. Where there are fewer bytes in the end, the rest of the room was never touched, and so was
/// no memory of the machine; but growing step by step would touch up to three times the bytes.
fn room(bytes: u64) -> Result<Vec<u8>, FileError> {
    let mut room = Vec::new();
    room.try_reserve_exact(usize::try_from(bytes).unwrap_or(usize::MAX)).map_err(io::Error::from)?;
    Ok(room)
}

fn gunzip(packed: &[u8], max_bytes: ByteSize) -> Result<Vec<u8>, FileError> {
    let mut unpacked = room(max_bytes.0)?;
    let mut decoder = GzDecoder::new(packed);
    let damaged = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => FileError::Damaged("gzip data ends early".to_owned()),
        _ => FileError::Damaged(format!("gzip: {error}")),
    };
    decoder.by_ref().take(max_bytes.0).read_to_end(&mut unpacked).map_err(damaged)?;
    // Also where all was read: only now is the checksum compared.
    if decoder.read(&mut [0]).map_err(damaged)? != 0 {
        return Err(FileError::UnpacksTooLong(max_bytes));
    }
    match decoder.into_inner().len() {
        0 => Ok(fitted(unpacked)),
        behind => Err(FileError::Trailing(behind, Packing::Gzip)),
    }
}

fn unzstd(packed: &[u8], max_bytes: ByteSize) -> Result<Vec<u8>, FileError> {
    let damaged = |code| FileError::Damaged(format!("zstd: {}", zstd_safe::get_error_name(code)));
    let frame_bytes = zstd_safe::find_frame_compressed_size(packed).map_err(damaged)?;
    let frame = packed.get(..frame_bytes).unwrap_or(packed);
    let told = zstd_safe::get_frame_content_size(frame)
        .map_err(|_| FileError::Damaged("zstd: its header is cut off".to_owned()))?;
    if told.is_some_and(|told| told > max_bytes.0) {
        return Err(FileError::UnpacksTooLong(max_bytes));
    }
    if frame.len() < packed.len() {
        return Err(FileError::Trailing(packed.len() - frame.len(), Packing::Zstd));
    }
    // In one step, so that the room is the window too: a stream's window is what the file asks for, up to 128 MiB.
    let mut unpacked = room(told.unwrap_or(max_bytes.0))?;
    match zstd_safe::decompress(&mut unpacked, frame) {
        Ok(_) if unpacked.len() as u64 <= max_bytes.0 => Ok(fitted(unpacked)),
        Ok(_) => Err(FileError::UnpacksTooLong(max_bytes)),
        Err(code) if told.is_none() && zstd_safe::is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) => {
            Err(FileError::UnpacksTooLong(max_bytes))
        }
        Err(code) => Err(damaged(code)),
    }
}

fn fitted(mut unpacked: Vec<u8>) -> Vec<u8> {
    unpacked.shrink_to_fit();
    unpacked
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const MAX: ByteSize = ByteSize(1 << 20);

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::with_capacity(bytes.len() + 1024);
        zstd_safe::compress(&mut packed, bytes, 19).unwrap();
        packed
    }

    /// A frame whose header does not tell the length of its content, as `zstd` writes from a pipe.
    fn zstd_untold(bytes: &[u8]) -> Vec<u8> {
        let mut context = zstd_safe::CCtx::create();
        context.set_parameter(zstd_safe::CParameter::ContentSizeFlag(false)).unwrap();
        let mut packed = Vec::with_capacity(bytes.len() + 1024);
        context.compress2(&mut packed, bytes).unwrap();
        assert_eq!(zstd_safe::get_frame_content_size(&packed).unwrap(), None);
        packed
    }

    /// Bytes that neither repeat nor are all different.
    fn content(length: usize) -> Vec<u8> {
        (0..length as u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 27) as u8).collect()
    }

    /// All ways to pack.
    fn packed(bytes: &[u8]) -> [(Packing, Vec<u8>); 3] {
        [(Packing::Gzip, gzip(bytes)), (Packing::Zstd, zstd(bytes)), (Packing::Zstd, zstd_untold(bytes))]
    }

    fn unpack(packing: Packing, packed: &[u8]) -> Result<Vec<u8>, FileError> {
        match packing {
            Packing::Plain => Ok(packed.to_vec()),
            Packing::Gzip => gunzip(packed, MAX),
            Packing::Zstd => unzstd(packed, MAX),
        }
    }

    #[test]
    fn names_tell_the_packing() {
        let of = |name: &str| Packing::of(Path::new(name));
        assert_eq!(of("/a/http.wasm"), Some(Packing::Plain));
        assert_eq!(of("http.wasm.gz"), Some(Packing::Gzip));
        assert_eq!(of("http-2.wasm.zst"), Some(Packing::Zstd));
        for other in ["http.gz", "http.zst", "wasm", "http.wasm.new", "http.wasm.gz.bak", "http.WASM", "/"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn what_was_packed_comes_out_up_to_the_limit() {
        for length in [0, 1, 99_191, MAX.0 as usize] {
            for (packing, packed) in packed(&content(length)) {
                let unpacked = unpack(packing, &packed).unwrap();
                assert!(unpacked == content(length), "{packing} {length}");
            }
        }
    }

    #[test]
    fn one_byte_more_is_too_long() {
        for (packing, packed) in packed(&content(MAX.0 as usize + 1)) {
            assert!(matches!(unpack(packing, &packed), Err(FileError::UnpacksTooLong(_))), "{packing}");
        }
    }

    #[test]
    fn cut_off_anywhere_is_damaged() {
        for (packing, packed) in packed(&content(1000)) {
            for length in 0..packed.len() {
                let result = unpack(packing, &packed[..length]);
                assert!(matches!(result, Err(FileError::Damaged(_))), "{packing} {length}: {result:?}");
            }
        }
    }

    #[test]
    fn more_behind_the_end_is_refused_be_it_packed_or_not() {
        for (packing, packed) in packed(&content(1000)) {
            for behind in [&b"x"[..], &[0; 512], &packed] {
                let result = unpack(packing, &[&packed, behind].concat());
                let Err(FileError::Trailing(bytes, found)) = result else { panic!("{packing}: {result:?}") };
                assert_eq!((bytes, found), (behind.len(), packing));
            }
        }
    }

    #[test]
    fn a_changed_byte_never_gives_more_than_allowed() {
        for (packing, packed) in packed(&content(2000)) {
            for at in 0..packed.len() {
                for change in [1, 0x80, 0xff] {
                    let mut changed = packed.clone();
                    changed[at] ^= change;
                    if let Ok(unpacked) = unpack(packing, &changed) {
                        assert!(unpacked.len() as u64 <= MAX.0);
                    }
                }
            }
        }
    }

    #[test]
    fn a_length_that_is_a_lie_is_found_out() {
        let mut packed = zstd(&content(1000));
        // RFC 8878, 3.1.1.1: magic, descriptor, here with a content size of two bytes that counts from 256.
        assert_eq!((packed[4] >> 6, u16::from_le_bytes([packed[5], packed[6]])), (1, 1000 - 256));
        packed[5..7].copy_from_slice(&10_u16.to_le_bytes());
        assert!(matches!(unpack(Packing::Zstd, &packed), Err(FileError::Damaged(_))));
    }
}
