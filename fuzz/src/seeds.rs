//! Inputs to begin with.
//!
//! A fuzz target writes its own, before libFuzzer reads them, into the folder that PODTAP_FUZZ_SEEDS names; without it
//! nothing is written. They come of the captures that ship with podtap and of those below PODTAP_CAPTURES.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use podtap::capture::CaptureFile;

use crate::packet::LINK_TYPES;
use crate::packets::op;
use crate::wire::ACK;

mod conversations;
mod texts;

pub use conversations::conversation;
pub use texts::{boundary, config, filter, msgpack, spool};

/// A capture that is longer is cut into shorter ones.
const MAX_CAPTURE_BYTES: usize = 16 << 10;
/// Longer captures of others are passed over.
const MAX_FOREIGN_BYTES: u64 = 64 << 10;
/// Packets of one capture that become seeds: the first ones differ most.
const PACKETS_A_CAPTURE: usize = 24;
/// A longer packet has no more kinds of headers than a shorter one.
const MAX_PACKET_BYTES: usize = 512;

/// Seeds of [`crate::packet`].
pub fn packet() {
    write(|| {
        let inputs = captures().into_iter().flat_map(|file| {
            let of_others = !is_ours(&file);
            let inputs = records(&file).into_iter().map(packet_input);
            inputs.take(if of_others { PACKETS_A_CAPTURE } else { usize::MAX }).collect::<Vec<_>>()
        });
        inputs.collect()
    });
}

/// Seeds of [`crate::packets`].
pub fn packets() {
    write(|| scripts().into_iter().collect());
}

/// Seeds of [`crate::capture`].
pub fn capture() {
    write(|| {
        let inputs = captures().into_iter().flat_map(|file| match fs::read(&file) {
            Ok(bytes) if bytes.len() <= MAX_CAPTURE_BYTES || !is_ours(&file) => vec![bytes],
            _ => pieces(&records(&file)),
        });
        inputs.collect()
    });
}

/// Writes seeds, each to a file of its own, if they are wanted.
fn write(inputs: impl FnOnce() -> BTreeSet<Vec<u8>>) {
    let Some(folder) = std::env::var_os("PODTAP_FUZZ_SEEDS").map(PathBuf::from) else { return };
    let written = fs::create_dir_all(&folder).and_then(|()| {
        let inputs = inputs();
        (0..).zip(inputs).try_for_each(|(number, input)| fs::write(folder.join(format!("seed-{number:05}")), input))
    });
    written.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
}

/// The shipped captures, and those of others that are not too long.
fn captures() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let short = |file: &Path| file.metadata().is_ok_and(|metadata| metadata.len() <= MAX_FOREIGN_BYTES);
    if let Some(folder) = std::env::var_os("PODTAP_CAPTURES") {
        search(Path::new(&folder), &mut found).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        found.retain(|file| short(file));
    }
    search(&ours(), &mut found).expect("the sources are there");
    found
}

fn ours() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins")
}

fn is_ours(file: &Path) -> bool {
    file.starts_with(ours())
}

fn search(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    search_for(folder, &["pcap", "pcapng", "cap"], found)
}

/// Files with one of these endings, in the order of their names.
fn search_for(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            search_for(&path, endings, found)?;
        } else if path.extension().is_some_and(|extension| endings.iter().any(|known| extension == *known)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

/// A packet of a capture.
struct Record {
    link_type: u32,
    time_ns: u64,
    data: Vec<u8>,
}

/// The packets of a capture, as far as it can be read.
fn records(file: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    let Ok(bytes) = fs::read(file) else { return records };
    let Ok(mut capture) = CaptureFile::new(Cursor::new(bytes)) else { return records };
    while let Ok(Some(record)) = capture.next_record() {
        let (link_type, time_ns) = (record.link_type, record.time_ns);
        records.push(Record { link_type, time_ns, data: record.data.to_vec() });
    }
    records
}

/// A packet, cut after its headers, as [`crate::packet`] reads it.
fn packet_input(record: Record) -> Vec<u8> {
    let Record { link_type, mut data, .. } = record;
    let mut input = match LINK_TYPES.iter().position(|&known| known == link_type) {
        Some(place) => vec![place as u8],
        None => [&[u8::MAX][..], &link_type.to_le_bytes()].concat(),
    };
    match data.len().checked_sub(MAX_PACKET_BYTES) {
        None | Some(0) => input.push(0),
        Some(cut) => {
            data.truncate(MAX_PACKET_BYTES);
            input.push(2);
            input.extend((cut as u32).to_le_bytes());
        }
    }
    input.extend(data);
    input
}

/// Packets that follow each other, in pcap files of at most about [`MAX_CAPTURE_BYTES`].
fn pieces(records: &[Record]) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for Record { link_type, time_ns, data } in records {
        let piece = match pieces.last_mut().filter(|piece| piece.len() + data.len() < MAX_CAPTURE_BYTES) {
            Some(piece) => piece,
            None => {
                // Version 2.4, in nanoseconds.
                let header = [0xa1b2_3c4d, 2 | 4 << 16, 0, 0, 1 << 18, *link_type];
                pieces.push(header.iter().flat_map(|field| field.to_le_bytes()).collect());
                pieces.last_mut().expect("was just pushed")
            }
        };
        let (seconds, nanoseconds) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
        let header = [seconds as u32, nanoseconds as u32, data.len() as u32, data.len() as u32];
        piece.extend(header.iter().flat_map(|field| field.to_le_bytes()));
        piece.extend(data);
    }
    pieces
}

/// Connections as they go well and wrong.
fn scripts() -> Vec<Vec<u8>> {
    let handshake = |client: u8| [at(op::SYN, client, &[9]), at(op::SYN_ACK, client + 1, &[200])].concat();
    let exchange = |client: u8| [at(op::DATA, client, &[40]), at(op::DATA, client + 1, &[90])].concat();
    let end = |client: u8| [at(op::FIN, client, &[0]), at(op::FIN, client + 1, &[0])].concat();
    let whole = |client: u8| [handshake(client), exchange(client), exchange(client), end(client)].concat();
    let lost = || [handshake(0), at(op::LOST, 0, &[60]), at(op::DATA, 0, &[20])].concat();

    let mut scripts: Vec<Vec<u8>> = (0..8).step_by(2).map(whole).collect();
    scripts.extend([
        [whole(0), whole(0)].concat(),
        [handshake(0), whole(2), exchange(0), whole(4), whole(6), end(0)].concat(),
        // From the middle.
        [exchange(0), at(op::ACKNOWLEDGE, 0, &[]), exchange(0), end(0)].concat(),
        // Loss that is acknowledged, that is given up in time, that is filled; loss at the end.
        [lost(), at(op::DATA, 1, &[30])].concat(),
        [lost(), at(op::LATER, 0, &[36]), at(op::ACKNOWLEDGE_LESS, 1, &[80]), at(op::DATA, 1, &[30])].concat(),
        [lost(), at(op::AGAIN, 0, &[80, 30]), at(op::AGAIN, 0, &[60, 80])].concat(),
        [lost(), end(0)].concat(),
        [lost(), at(op::RST, 1, &[])].concat(),
        [lost(), at(op::FINISH, 0, &[])].concat(),
        // Turned round: ahead, held back, in the past.
        [handshake(0), at(op::AHEAD, 0, &[50, 30]), at(op::DATA, 0, &[99]), end(0)].concat(),
        [handshake(0), at(op::HOLD, 0, &[]), at(op::DATA, 0, &[50]), exchange(0), at(op::RELEASE, 0, &[])].concat(),
        [handshake(0), at(op::EARLIER, 0, &[30]), exchange(0), end(0)].concat(),
        // Demands.
        [handshake(0), exchange(0), at(op::SKIP, 1, &[0, 200, 0]), exchange(0), exchange(0)].concat(),
        [handshake(0), exchange(0), at(op::SKIP, 0, &[0, 255, 127]), exchange(0), end(0)].concat(),
        [handshake(0), exchange(0), at(op::IGNORE, 0, &[0]), exchange(0), end(0), whole(0)].concat(),
        // Near, far, and much.
        [handshake(0), at(op::NEAR, 0, &[ACK, 250, 3, 20, 9]), exchange(0)].concat(),
        [handshake(0), at(op::FAR, 0, &[ACK, 0, 0, 0, 9, 0, 0, 0, 0, 20, 0, 255, 255]), exchange(0), exchange(0)]
            .concat(),
        [at(op::WINDOW, 1, &[1, 7]), handshake(0), at(op::MUCH_DATA, 0, &[90]), end(0)].concat(),
    ]);
    let specials: [(u8, &[u8]); 8] = [
        (op::SNAPLEN, &[60, 0]),
        (op::TAGS, &[2]),
        (op::FRAGMENTS, &[3, 0]),
        (op::FRAGMENTS, &[3, 3]),
        (op::FRAGMENTS, &[2, 8]),
        (op::COPIES, &[2]),
        (op::CONFLICT, &[]),
        (op::LINK, &[3]),
    ];
    for (client, (operation, operands)) in
        [0, 4].into_iter().flat_map(|client| specials.map(|special| (client, special)))
    {
        scripts.push([handshake(client), at(operation, 0, operands), exchange(client), end(client)].concat());
    }

    let usual = scripts.iter().map(|script| [&USUAL, &script[..]].concat());
    let tight = scripts.iter().map(|script| [&TIGHT, &script[..]].concat());
    usual.chain(tight).collect()
}

/// The default limits; a packet takes a millisecond.
const USUAL: [u8; 2] = [0, 20];
/// A single connection, 64 bytes on a side and 255 in all, 3 segments; 32 ns between packets, a timeout of 1024.
const TIGHT: [u8; 8] = [3, 10, 64, 0, 255, 0, 3, 5];

/// An operation of a direction.
fn at(operation: u8, direction: u8, operands: &[u8]) -> Vec<u8> {
    [&[operation << 3 | direction], operands].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_runs_and_payload_is_compared() {
        let compared: Vec<u64> = scripts().iter().map(|script| crate::packets::run(script)).collect();
        // Two exchanges of 130 bytes each.
        assert_eq!(compared[0], 260);
        assert!(compared.iter().filter(|&&bytes| bytes > 0).count() * 2 > compared.len(), "{compared:?}");
    }
}
