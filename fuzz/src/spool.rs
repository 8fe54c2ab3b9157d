//! A spool's directory: what stands in its files, be it written by podtap and damaged, or by nobody.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use podtap::config::{self, ByteSize, HumanDuration};
use podtap::publish::Traffic;
use podtap::publish::spool::{Appended, Spool};

use crate::memory::held_bytes;
use crate::scratch;
use crate::script::Script;

const MAX_BYTES: u64 = 20_000;
const SEGMENT_BYTES: u64 = 5_000;
/// Of a segment: magic, and number of records.
const HEADER: usize = 16;
const MAGIC: &[u8] = b"podtap-1";
/// Of a record: length and checksum, then what every record has.
const HEAD: usize = 8;
const FIXED: usize = HEAD + 14;
/// Reading takes a block, or a record.
const MOST_HELD_BYTES: isize = 1 << 20;
/// Files without a record that are kept.
const MAX_SET_ASIDE: usize = 4;
const MAX_STEPS: u32 = 64;

thread_local! {
    static FOLDER: PathBuf = scratch::folder("spool");
}

/// What is done to files, of a byte.
pub(crate) mod op {
    pub(crate) const APPEND: u8 = 0;
    pub(crate) const READ: u8 = 1;
    pub(crate) const SETTLE: u8 = 2;
    pub(crate) const REOPEN: u8 = 3;
    pub(crate) const KILL: u8 = 4;
    pub(crate) const DAMAGE: u8 = 5;
    pub(crate) const CUT: u8 = 6;
    pub(crate) const GROW: u8 = 7;
    pub(crate) const ALL: u8 = 8;
}

/// Reads a spool. It gives back whole records with right checksums only, each that stands before the first damage to records
/// of its file, and counts what is missing. A file that holds none is set aside; these do not pile up.
///
/// An input begins with a byte. Where that is even, files follow, each as [`files`] says; else steps of [`op`].
pub fn spool(input: &[u8]) {
    let mut script = Script::new(input);
    let is_script = script.u8() & 1 == 1;
    FOLDER.with(|folder| {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            fs::remove_file(entry.path()).expect("a file of ours");
        }
        if is_script { steps(script, folder) } else { files(script, folder) }
    });
}

/// No file keeps it from opening.
fn open(folder: &Path, traffic: Traffic) -> Spool {
    let settings = config::Spool {
        directory: Some(folder.to_owned()),
        max_bytes: ByteSize(MAX_BYTES),
        segment_bytes: ByteSize(SEGMENT_BYTES),
        fsync_interval: HumanDuration(Duration::from_secs(3600)),
    };
    let spool = Spool::open(&settings, traffic).expect("its files are segments by name");
    assert!(files_of(folder, "damaged").len() <= MAX_SET_ASIDE);
    spool.expect("it has a directory")
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.segment"))
}

/// A record as `host/src/publish/record.rs` draws it.
fn record(time_ms: u64, kinds: u8, protocol: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut body = time_ms.to_le_bytes().to_vec();
    body.extend([kinds & 1, kinds >> 1 & 1, protocol.len() as u8, 0]);
    body.extend((key.len() as u16).to_le_bytes());
    [protocol, key, value].iter().for_each(|part| body.extend_from_slice(part));
    framed(&body)
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], &crc32c::crc32c(body).to_le_bytes(), body].concat()
}

/// Lengths of the records that some bytes begin with, up to the first that is none.
fn whole(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let Some(body) = rest.get(..number(0) as usize) else { break };
        let is_whole =
            body.len() + HEAD >= FIXED && crc32c::crc32c(body) == number(4) && body[8] < 2 && body[9] < 2 && {
                let (protocol, key) = (usize::from(body[10]), usize::from(u16::from_le_bytes([body[12], body[13]])));
                FIXED - HEAD + protocol + key <= body.len()
            };
        if !is_whole {
            break;
        }
        lengths.push(HEAD + body.len());
        bytes = &rest[body.len()..];
    }
    lengths
}

/// Some bytes that are to be sent, all of them whole records.
fn check(bytes: &[u8]) -> u64 {
    let lengths = whole(bytes);
    assert_eq!(lengths.iter().sum::<usize>(), bytes.len(), "a record that is none");
    assert!(!lengths.is_empty());
    lengths.len() as u64
}

/// All that there is to send.
fn read_all(spool: &mut Spool) -> (Vec<u8>, u64) {
    let (mut all, mut records, before) = (Vec::new(), 0, held_bytes());
    while let Some((_, bytes)) = spool.unsent() {
        let (length, count) = (bytes.len(), check(bytes));
        all.extend_from_slice(bytes);
        let held = held_bytes() - before - all.capacity() as isize;
        assert!(held <= MOST_HELD_BYTES + 2 * length as isize, "{held} bytes");
        spool.advance(length, count);
        records += count;
    }
    assert!(spool.is_caught_up());
    (all, records)
}

/// Segments that anybody may have written. Each is a byte, which says what number of records its header has (1: that of its
/// records; 2 and more: any 8 bytes with a wrong checksum; else none), how many pieces it has; and these. Of a piece, the
/// first byte says whether it is a record (128 and more), anything with a right checksum (254), the file from its first
/// byte on (255), or any bytes.
fn files(mut script: Script<'_>, folder: &Path) {
    let mut expected = Vec::new();
    let (mut is_forged, mut damaged, mut recovered) = (false, 0_u64, 0);
    for number in 1..=4 {
        if script.is_over() {
            break;
        }
        let (noted, pieces) = (script.u8(), script.u8() % 16);
        let mut content = [MAGIC, &[0; 8]].concat();
        if noted > 1 {
            content[8..12].copy_from_slice(&script.u32().to_le_bytes());
            let right = crc32c::crc32c(&content[8..12]);
            content[12..16].copy_from_slice(&(script.u32().max(1) ^ right).to_le_bytes());
        }
        let mut records = 0;
        for _ in 0..pieces {
            match script.u8() {
                255 => (content, records) = (script.slice_of_u8().to_vec(), 0),
                254 => content.extend(framed(script.slice_of_u8())),
                kinds @ 128.. => {
                    let (protocol, key) = (script.slice_of_u8(), script.slice_of_u8());
                    content.extend(record(script.u32().into(), kinds, protocol, key, script.slice_of_u16()));
                    records += 1;
                }
                _ => content.extend(script.slice_of_u8()),
            }
        }
        let found = whole(content.get(HEADER..).unwrap_or_default());
        let is_closed = noted == 1 && records > 0 && content.starts_with(MAGIC);
        if is_closed {
            content[8..12].copy_from_slice(&u32::to_le_bytes(records));
            let checksum = crc32c::crc32c(&content[8..12]);
            content[12..16].copy_from_slice(&checksum.to_le_bytes());
        }
        fs::write(path(folder, number), &content).expect("a file in memory can be written");
        let all = content.get(HEADER..).unwrap_or_default();
        let good: usize = found.iter().sum();
        expected.extend_from_slice(&all[..good]);
        damaged += (all.len() - good) as u64;
        // Other pieces may happen to be records.
        is_forged |= content.len() < HEADER || is_closed && found.len() > records as usize;
        recovered += if is_closed { u64::from(records) } else { found.len() as u64 };
    }
    let mut spool = open(folder, Traffic::Live);
    let (read, records) = read_all(&mut spool);
    assert_eq!(read, expected);
    let status = spool.status();
    assert_eq!(spool.lost().0, 0);
    if !is_forged {
        assert_eq!(status.damaged_bytes, damaged);
        assert_eq!((status.recovered, spool.lost().1), (recovered, recovered - records));
    }
    // It takes more, where nothing has to make room, and gives it back.
    let more = record(1, 0, b"http", b"", b"more");
    if status.bytes > MAX_BYTES / 2 {
        return;
    }
    assert!(spool.append(&more, 1) != Appended::Refused);
    assert_eq!(read_all(&mut spool), (more, 1));
    spool.close();
    drop(spool);
    // Nothing of it was settled: what was intact is there again.
    let mut spool = open(folder, Traffic::Live);
    let (again, _) = read_all(&mut spool);
    assert!(again.starts_with(&expected), "what was intact is gone");
}

/// A spool at work: killed, opened again, its files damaged while nobody uses them.
fn steps(mut script: Script<'_>, folder: &Path) {
    let traffic = if script.u8() & 1 == 1 { Traffic::Live } else { Traffic::Recorded };
    let mut spool = open(folder, traffic);
    // Of this run: records that it began with and that were written, and those that were read.
    let (mut there, mut read, mut unsettled) = (0, 0, Vec::new());
    let (mut written, mut is_damaged) = (BTreeSet::new(), false);
    for number in 0..MAX_STEPS {
        if script.is_over() {
            break;
        }
        let operation = script.u8();
        let count = u64::from(operation / op::ALL) % 8 + 1;
        match operation % op::ALL {
            op::APPEND => {
                let length = usize::from(script.u16() % 2_000);
                let records: Vec<_> = (0..count)
                    .map(|index| record(u64::from(number) << 8 | index, 0, b"http", b"key", &vec![b'x'; length]))
                    .collect();
                if spool.append(&records.concat(), count) == Appended::Refused {
                    assert!(traffic == Traffic::Recorded || length as u64 * count > SEGMENT_BYTES);
                } else {
                    there += count;
                    written.extend(records);
                }
            }
            op::READ => {
                if let Some((segment, bytes)) = spool.unsent() {
                    let all = check(bytes);
                    let lengths = whole(bytes);
                    let taken = count.min(all) as usize;
                    let length = lengths[..taken].iter().sum();
                    let mut at = 0;
                    for length in &lengths[..taken] {
                        assert!(written.contains(&bytes[at..at + length]), "a record that nobody wrote");
                        at += length;
                    }
                    spool.advance(length, taken as u64);
                    read += taken as u64;
                    unsettled.push((segment, taken as u64));
                }
            }
            op::SETTLE => {
                for (segment, records) in unsettled.drain(..) {
                    spool.settle(segment, records);
                }
            }
            operation => {
                check_sum(&mut spool, there, read);
                if operation == op::REOPEN || operation == op::GROW {
                    let left = spool.close().left;
                    assert!(is_damaged || left <= there, "{left} left of {there}");
                }
                drop(spool);
                if operation >= op::DAMAGE {
                    is_damaged |= damage(operation, &mut script, folder);
                }
                spool = open(folder, traffic);
                (there, read) = (spool.status().recovered, 0);
                unsettled.clear();
            }
        }
        let bytes: u64 = segments(folder).iter().map(|path| path.metadata().map_or(0, |it| it.len())).sum();
        assert_eq!(spool.status().bytes, bytes);
        assert!(is_damaged || bytes <= MAX_BYTES, "{bytes} bytes");
    }
    check_sum(&mut spool, there, read);
}

/// Every record is read, or counted as lost.
fn check_sum(spool: &mut Spool, there: u64, read: u64) {
    let (_, rest) = read_all(spool);
    let (dropped, damaged) = spool.lost();
    assert_eq!(read + rest + dropped + damaged, there, "{read} {rest} {dropped} {damaged}");
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    files_of(folder, "segment")
}

fn files_of(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    paths.sort();
    paths
}

/// Changes a file: a byte of it, or its end. False where there is none, or nothing is changed.
fn damage(operation: u8, script: &mut Script<'_>, folder: &Path) -> bool {
    let paths = segments(folder);
    let (which, place, value) = (script.u8(), script.u16(), script.u8());
    let Some(path) = paths.get(usize::from(which) % paths.len().max(1)) else { return false };
    let mut content = fs::read(path).expect("a file of ours");
    let place = usize::from(place) % content.len().max(1);
    match operation {
        op::DAMAGE => match content.get_mut(place) {
            Some(byte) => *byte ^= value,
            None => return false,
        },
        op::CUT => content.truncate(place),
        _ => content.extend(vec![value; usize::from(value)]),
    }
    fs::write(path, content).expect("a file in memory can be written");
    true
}
