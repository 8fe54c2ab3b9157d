//! Events that are read back: MessagePack and JSON, one behind the other, from whoever wrote them.

use podtap::event::{Format, Timestamp};
use podtap::publish::PublishError;
use podtap::read::{FrameError, ReadError, Receiver, Record, Source, line, read_into};
use serde_json::{Map, Value};

use crate::capture::Memory;
use crate::memory::held_bytes;

/// Beside the buffer, which is as long as the longest event of an input, but not shorter than 64 KiB, and the events
/// themselves: an empty value takes 72 bytes and more in memory.
const BUFFER_BYTES: isize = 256 << 10;
const BYTES_FOR_A_BYTE: isize = 1024;
/// JSON first: to write MessagePack, an event gives up how its time was written.
const FORMATS: [Format; 2] = [Format::Json, Format::Msgpack];

thread_local! {
    static MEMORY: Memory = Memory::new("events");
}

/// Reads events, and each of them again as each of both formats. What cannot be read is an error with its place.
pub fn msgpack(input: &[u8]) {
    MEMORY.with(|memory| {
        memory.hold(input);
        let mut all = All { read: Vec::new(), most: held_bytes() + bound(input) };
        let mut complaints = Vec::new();
        let read = read_into(&Source::File(&memory.name), &mut all, None, &mut |what| complaints.push(what.to_owned()));
        let unreadable = match read {
            Ok(counts) => {
                assert_eq!(counts.shown, all.read.len() as u64);
                counts.unreadable
            }
            Err(ReadError::Stream { error, .. }) => {
                check_error(&error, input.len());
                0
            }
            Err(other) => panic!("{other}"),
        };
        // Ten are told, and the others only counted.
        assert!(complaints.len() <= 10 && (unreadable == 0 || !complaints.is_empty()), "{complaints:?}");
        let name = memory.name.display().to_string();
        for complaint in &complaints {
            assert!(complaint.starts_with(&format!("{name}: byte ")) && !complaint.contains('\n'), "{complaint:?}");
        }
        all.read.iter().for_each(|event| check(event, memory));
    });
}

fn bound(input: &[u8]) -> isize {
    BUFFER_BYTES + BYTES_FOR_A_BYTE * input.len() as isize
}

/// Its place is in the input.
fn check_error(error: &FrameError, length: usize) {
    match *error {
        FrameError::NoEvent { offset, .. } | FrameError::Reserved(offset) | FrameError::TooLong(offset) => {
            assert!(offset < length as u64, "{error}");
        }
        FrameError::Truncated { offset, length: there } => {
            assert_eq!(offset + there as u64, length as u64, "{error}");
        }
        FrameError::Io(_) => panic!("{error}"),
    }
}

/// It comes back from both formats, and has a line that does nothing to a terminal.
fn check(event: &Read, memory: &Memory) {
    let Read { fields, time, line, encoded } = event;
    assert!(!line.contains(char::is_control), "{line:?}");
    for (format, encoded) in FORMATS.into_iter().zip(encoded) {
        memory.hold(encoded);
        let mut all = All { read: Vec::new(), most: isize::MAX };
        let mut complaints = String::new();
        let read = read_into(&Source::File(&memory.name), &mut all, None, &mut |what| complaints += what);
        let [again] = &all.read[..] else { panic!("{format:?}: {read:?} {complaints}: {fields:?}") };
        assert_eq!(again.time, *time, "{format:?}");
        // It is written in one way, and may be read in several.
        let mut expected = fields.clone();
        if format == Format::Msgpack {
            expected.insert("time".to_owned(), time.to_string().into());
        }
        assert_eq!(again.fields, expected, "{format:?}");
    }
}

/// An event as it was read.
struct Read {
    fields: Map<String, Value>,
    time: Timestamp,
    line: String,
    /// In each of [`FORMATS`].
    encoded: [Vec<u8>; FORMATS.len()],
}

/// Keeps all.
struct All {
    read: Vec<Read>,
    /// That this thread may hold.
    most: isize,
}

impl Receiver for All {
    fn take(&mut self, record: &mut Record, _: Format, _: &[u8]) -> Result<Result<(), PublishError>, String> {
        assert!(held_bytes() <= self.most, "{} bytes too many", held_bytes() - self.most);
        let (fields, time, line) = (record.fields().clone(), record.time(), line(record).expect("a line"));
        let encoded = FORMATS.map(|format| {
            let mut encoded = Vec::new();
            record.encode(format, &mut encoded).unwrap_or_else(|error| panic!("{format:?}: {error}: {fields:?}"));
            encoded
        });
        self.read.push(Read { fields, time, line, encoded });
        Ok(Ok(()))
    }

    fn pause(&mut self) -> Result<(), PublishError> {
        Ok(())
    }

    fn wants(&mut self, _: &Record) -> Result<bool, String> {
        Ok(true)
    }
}
