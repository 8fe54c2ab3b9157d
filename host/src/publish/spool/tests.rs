//! What a spool keeps, whatever happens to its files.

use std::path::Path;

use super::super::record::{First, append_event, first, seal};
use super::*;
use crate::config::{ByteSize, HumanDuration, RecordKey};
use crate::event::{Event, Format};
use crate::reference::example_event;

fn settings(directory: &Path) -> config::Spool {
    config::Spool {
        directory: Some(directory.to_owned()),
        max_bytes: ByteSize(20_000),
        segment_bytes: ByteSize(5_000),
        fsync_interval: HumanDuration(Duration::ZERO),
    }
}

fn open(directory: &Path) -> Spool {
    Spool::open(&settings(directory), Traffic::Live).unwrap().unwrap()
}

/// Sealed records of events with these numbers.
fn records(numbers: std::ops::Range<u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in numbers {
        let mut exchange = example_event();
        exchange.id = format!("{number:032x}").into();
        append_event(&mut bytes, Event::Exchange(&exchange), RecordKey::Connection, Format::Json).unwrap();
    }
    seal(&mut bytes);
    bytes
}

fn numbers(mut bytes: &[u8]) -> Vec<u32> {
    let mut numbers = Vec::new();
    while let First::Record(record, length) = first(bytes, true) {
        let id = serde_json::from_slice::<serde_json::Value>(record.value).unwrap()["id"].as_str().unwrap().to_owned();
        numbers.push(u32::from_str_radix(&id, 16).unwrap());
        bytes = &bytes[length..];
    }
    numbers
}

/// Reads and advances, to the end; settles nothing. Events with their segments.
fn read_all(spool: &mut Spool) -> Vec<(u64, u32)> {
    let mut all = Vec::new();
    while let Some((segment, bytes)) = spool.unsent() {
        let (length, found) = (bytes.len(), numbers(bytes));
        assert!(!found.is_empty());
        all.extend(found.iter().map(|number| (segment, *number)));
        spool.advance(length, found.len() as u64);
    }
    all
}

fn bytes_on_disk(directory: &Path) -> u64 {
    directory.read_dir().unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

fn plain(found: &[(u64, u32)]) -> Vec<u32> {
    found.iter().map(|(_, number)| *number).collect()
}

#[test]
fn what_was_written_is_read_in_order_and_a_segment_goes_once_all_of_it_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    for number in (0..12).step_by(2) {
        assert_ne!(spool.append(&records(number..number + 2), 2), Appended::Refused);
    }
    let read = read_all(&mut spool);
    assert_eq!(plain(&read), (0..12).collect::<Vec<_>>());
    assert_eq!(spool.segments.len(), 2);
    for (segment, _) in &read {
        spool.settle(*segment, 1);
    }
    assert_eq!(spool.segments.len(), 1, "the one that is written to stays");
    assert_eq!(spool.close(), SpoolCounts::default());
    drop(spool);
    assert_eq!(bytes_on_disk(folder.path()), 0, "only the lock is left");
    assert_eq!(open(folder.path()).counts.recovered, 0);
}

#[test]
fn who_sends_from_memory_is_told_so_only_when_nothing_comes_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    let two = records(0..2);
    assert_eq!(spool.append(&two, 2), Appended::Next(1));
    spool.advance(two.len(), 2);
    assert!(spool.is_caught_up());
    assert_eq!(spool.append(&records(2..4), 2), Appended::Next(1));
    assert_eq!(spool.append(&records(4..6), 2), Appended::Behind);
    assert_eq!(plain(&read_all(&mut spool)), [2, 3, 4, 5]);
}

#[test]
fn the_next_run_sends_what_was_left_however_the_last_one_ended() {
    for orderly in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path());
        spool.append(&records(0..7), 7);
        let (segment, bytes) = spool.unsent().unwrap();
        let length = bytes.len();
        spool.advance(length, 7);
        spool.settle(segment, 3);
        if orderly {
            assert_eq!(spool.close().left, 4);
        }
        drop(spool);
        let mut spool = open(folder.path());
        assert_eq!((spool.counts.recovered, spool.counts.damaged_bytes), (7, 0));
        spool.append(&records(7..8), 1);
        assert_eq!(plain(&read_all(&mut spool)), (0..8).collect::<Vec<_>>());
    }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_all_before_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    let (before, torn) = (records(0..2), records(2..3));
    spool.append(&before, 2);
    spool.append(&torn, 1);
    let path = folder.path().join("0000000000000001.segment");
    let whole = std::fs::read(&path).unwrap();
    drop(spool);
    for length in 0..=whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let mut spool = open(folder.path());
        let first = numbers(&before).len();
        let kept = numbers(whole[..length].get(16..).unwrap_or_default()).len();
        assert_eq!(spool.counts.recovered, kept as u64, "{length}");
        assert!(length < 16 + before.len() || kept >= first, "{length}");
        let good = if kept == 0 { length.min(16) } else { 16 + records(0..kept as u32).len() };
        assert_eq!(spool.counts.damaged_bytes, (length - good) as u64, "{length}");
        assert_eq!(plain(&read_all(&mut spool)), (0..kept as u32).collect::<Vec<_>>());
    }
}

#[test]
fn a_byte_changed_anywhere_costs_what_follows_in_its_segment_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    spool.append(&records(0..3), 3);
    spool.close();
    drop(spool);
    let path = folder.path().join("0000000000000001.segment");
    let whole = std::fs::read(&path).unwrap();
    for at in (16..whole.len()).step_by(7) {
        let mut changed = whole.clone();
        changed[at] ^= 0x40;
        std::fs::write(&path, &changed).unwrap();
        let mut spool = open(folder.path());
        assert_eq!(spool.counts.recovered, 3);
        spool.append(&records(3..4), 1);
        let read = plain(&read_all(&mut spool));
        let lost = spool.lost().1;
        assert!(lost > 0 && read.len() as u64 + lost == 4, "{at}: {read:?} {lost}");
        assert_eq!(read.last(), Some(&3), "the next segment is read");
        std::fs::remove_file(folder.path().join("0000000000000002.segment")).unwrap();
    }
}

#[test]
fn a_changed_number_of_events_is_noticed_and_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0000000000000001.segment");
    let mut spool = open(folder.path());
    spool.append(&records(0..3), 3);
    spool.close();
    drop(spool);
    let whole = std::fs::read(&path).unwrap();
    for bit in 8 * 8..16 * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &changed).unwrap();
        let mut spool = open(folder.path());
        assert_eq!((spool.counts.recovered, spool.counts.damaged_bytes), (3, 0), "{bit}");
        assert_eq!(plain(&read_all(&mut spool)), [0, 1, 2], "{bit}");
        spool.settle(1, 3);
        assert_eq!((spool.lost(), spool.close().left), ((0, 0), 0), "{bit}");
    }
}

#[test]
fn what_a_closed_segment_lacks_at_its_end_is_counted_and_it_goes_once_the_rest_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    for kept in 0..3 {
        let mut spool = open(folder.path());
        let Appended::Next(number) = spool.append(&records(0..3), 3) else { panic!("there is nothing before") };
        spool.close();
        drop(spool);
        let path = folder.path().join(format!("{number:016}.segment"));
        let length = HEADER + records(0..kept).len() as u64;
        File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        let mut spool = open(folder.path());
        assert_eq!(plain(&read_all(&mut spool)), (0..kept).collect::<Vec<_>>());
        spool.settle(number, kept.into());
        assert_eq!((spool.counts.recovered, spool.lost(), spool.close().left), (3, (0, 3 - u64::from(kept)), 0));
        assert!(!path.exists(), "{kept}");
    }
}

#[test]
fn a_header_that_tells_of_fewer_events_than_there_are_costs_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    spool.append(&records(0..3), 3);
    spool.close();
    drop(spool);
    let path = folder.path().join("0000000000000001.segment");
    let mut changed = std::fs::read(&path).unwrap();
    changed[8..12].copy_from_slice(&1_u32.to_le_bytes());
    let checksum = crc32c::crc32c(&changed[8..12]);
    changed[12..16].copy_from_slice(&checksum.to_le_bytes());
    changed.extend(b"no record");
    std::fs::write(&path, &changed).unwrap();
    let mut spool = open(folder.path());
    let (_, bytes) = spool.unsent().unwrap();
    let lengths: Vec<_> = (0..3).map(|number| records(number..number + 1).len()).collect();
    assert_eq!(bytes.len(), lengths.iter().sum::<usize>());
    for length in lengths {
        spool.advance(length, 1);
        spool.settle(1, 1);
    }
    assert_eq!(spool.unsent(), None);
    assert_eq!((spool.counts.recovered, spool.counts.damaged_bytes, spool.lost()), (3, 9, (0, 0)));
    assert!(!path.exists());
}

#[test]
fn at_the_cap_the_oldest_go_and_the_sums_agree() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    let mut written = 0;
    for number in 0..100 {
        assert_ne!(spool.append(&records(number..number + 1), 1), Appended::Refused);
        written += 1;
        spool.tick();
        assert!(bytes_on_disk(folder.path()) <= 20_000);
        assert_eq!(spool.total_bytes, bytes_on_disk(folder.path()));
        // Some are sent before they have to go.
        if number % 10 == 0
            && let Some((_, bytes)) = spool.unsent()
            && let First::Record(_, length) = first(bytes, true)
        {
            spool.advance(length, 1);
            written -= 1;
        }
    }
    let (dropped, _) = spool.lost();
    let left = plain(&read_all(&mut spool));
    assert!(dropped > 0);
    assert_eq!(dropped + left.len() as u64, written);
    assert_eq!(left.last(), Some(&99));
    assert!(left.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{left:?}");
}

#[test]
fn where_files_are_replayed_a_full_spool_refuses_instead() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(&settings(folder.path()), Traffic::Recorded).unwrap().unwrap();
    let taken =
        (0..100).take_while(|&number| spool.append(&records(number..number + 1), 1) != Appended::Refused).count();
    assert!(taken < 100);
    assert_eq!(plain(&read_all(&mut spool)), (0..taken as u32).collect::<Vec<_>>());
    assert_eq!(spool.lost(), (0, 0));
}

#[test]
fn a_disk_that_takes_no_more_is_counted_and_used_again_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    spool.append(&records(0..1), 1);
    let file = spool.active.replace(File::options().write(true).open("/dev/full").unwrap());
    assert_eq!(spool.append(&records(1..3), 2), Appended::Refused);
    assert_eq!(spool.append(&records(3..4), 1), Appended::Refused, "it is left alone for a while");
    assert_eq!(spool.counts.bypassed, 3);
    spool.active = file;
    spool.retry_at = Some(Instant::now());
    assert_eq!(spool.append(&records(4..5), 1), Appended::Behind);
    assert_eq!(plain(&read_all(&mut spool)), [0, 4]);
}

#[test]
fn two_do_not_share_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let error = Spool::open(&settings(folder.path()), Traffic::Live).err().unwrap().to_string();
    assert!(error.contains("another podtap uses it") && error.contains("spool.directory"), "{error}");
    drop(first);
    open(folder.path());
}

#[test]
fn a_damaged_header_costs_nothing_of_what_stands_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0000000000000001.segment");
    for noted in [true, false] {
        let mut spool = open(folder.path());
        spool.append(&records(0..3), 3);
        if noted {
            spool.close();
        }
        drop(spool);
        let whole = std::fs::read(&path).unwrap();
        for damage in [&[0; 8][..], b"Podtap-1", &[0xff; 16]] {
            let changed = [damage, &whole[damage.len()..]].concat();
            std::fs::write(&path, changed).unwrap();
            for _ in 0..2 {
                let mut spool = open(folder.path());
                assert_eq!((spool.counts.recovered, spool.counts.damaged_bytes), (3, 0), "{damage:?}");
                assert_eq!(plain(&read_all(&mut spool)), [0, 1, 2]);
            }
        }
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_file_that_holds_no_event_is_set_aside_and_keeps_nobody_from_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    spool.append(&records(0..3), 3);
    drop(spool);
    let path = |number: u64, extension| folder.path().join(format!("{number:016}.{extension}"));
    std::fs::write(path(9, "segment"), "somebody's precious file").unwrap();
    let mut spool = open(folder.path());
    assert_eq!((spool.counts.recovered, spool.counts.damaged_bytes), (3, 8));
    assert_eq!(plain(&read_all(&mut spool)), [0, 1, 2]);
    assert_eq!(std::fs::read(path(9, "damaged")).unwrap(), b"somebody's precious file");
    assert!(!path(9, "segment").exists() && spool.total_bytes < MAX_SET_ASIDE as u64 * 1000);
    assert_eq!(spool.append(&records(3..4), 1), Appended::Next(10));
    drop(spool);
    // They do not pile up.
    for number in 20..30 {
        std::fs::write(path(number, "segment"), [0; 100]).unwrap();
        drop(open(folder.path()));
    }
    let names = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(names.filter(|path| path.extension().is_some_and(|it| it == "damaged")).count(), MAX_SET_ASIDE);
}

#[test]
fn a_segment_whose_first_event_is_damaged_is_set_aside_and_its_number_not_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |number: u64, extension| folder.path().join(format!("{number:016}.{extension}"));
    for number in [1, 2] {
        let mut spool = open(folder.path());
        assert_eq!(spool.append(&records(0..3), 3), Appended::Next(number));
        drop(spool);
        let mut changed = std::fs::read(path(number, "segment")).unwrap();
        changed[20] ^= 1;
        std::fs::write(path(number, "segment"), &changed).unwrap();
        let spool = open(folder.path());
        assert_eq!((spool.counts.recovered, spool.counts.damaged_bytes), (0, changed.len() as u64 - HEADER));
        assert_eq!(std::fs::read(path(number, "damaged")).unwrap(), changed);
    }
}

#[test]
fn a_file_of_another_name_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["9.segment", "+000000000000009.segment", "mine.segment", "0000000000000009.txt"];
    names.iter().for_each(|name| std::fs::write(folder.path().join(name), "precious, more than a header").unwrap());
    let mut spool = open(folder.path());
    assert_eq!(spool.append(&records(0..1), 1), Appended::Next(1));
    drop(spool);
    assert!(names.iter().all(|name| folder.path().join(name).exists()));
}

#[test]
fn a_segment_that_nobody_needs_is_removed_after_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    let bytes = records(0..1);
    spool.append(&bytes, 1);
    spool.advance(bytes.len(), 1);
    spool.settle(1, 1);
    spool.last_write = Instant::now() - IDLE;
    spool.tick();
    assert!(spool.is_quiet());
    assert_eq!(bytes_on_disk(folder.path()), 0);
    assert_eq!(spool.append(&bytes, 1), Appended::Next(2));
}
