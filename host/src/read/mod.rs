//! Events read back: from a Kafka topic, a file or a pipe, to lines for people or to JSON or MessagePack.
//!
//! In come bytes that anybody may have written; out go events in the order they came in, each as it was but for its
//! encoding. What cannot be read is reported with its place and counted, and does not keep the next events from being
//! read, unless nobody can say where the next one begins. Nothing is changed in Kafka: there is no consumer group and no
//! commit.

mod frames;
mod record;
mod topic;

pub use frames::FrameError;
pub(crate) use frames::MAX_EVENT_BYTES;
pub(crate) use record::MAX_DEPTH;
pub use record::Record;
pub use topic::{From, Topic, TopicError};

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use crate::event::{Event, Format};
use crate::filter::Filter;
use crate::publish::{Colour, EventStream, Output as _, PublishError, TextLines};
use frames::Frames;
use record::Known;

/// Unreadable events that are reported one by one; the others are only counted.
const MAX_REPORTED: u64 = 10;

/// Where events are read from.
#[derive(Debug)]
pub enum Source<'a> {
    /// A file; `-` is standard input.
    File(&'a Path),
    /// Records of Kafka.
    Topic(Topic<'a>),
}

/// How they are shown on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// One line an event, for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
    /// MessagePack maps one after the other
    Msgpack,
}

/// What is to be shown of them.
#[derive(Debug)]
pub struct Options {
    /// How.
    pub form: Form,
    /// Colours in text.
    pub colour: Colour,
    /// Only what matches; none: all.
    pub filter: Option<Filter>,
    /// No more than these; none: all.
    pub count: Option<u64>,
}

/// What became of what was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events shown.
    pub shown: u64,
    /// Records that are no event, or a broken one.
    pub unreadable: u64,
    /// Events that the filter could not be applied to.
    pub unfiltered: u64,
}

/// Events cannot be read, or not shown.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is not there, or closed to us.
    #[error("{name}: cannot be read: {source}; check the path and its permissions")]
    Open {
        /// Of the file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A file or pipe cannot be read on.
    #[error("{name}: {error}")]
    Stream {
        /// Of the file.
        name: String,
        /// Why.
        error: FrameError,
    },
    /// From Kafka.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// They cannot be shown.
    #[error(transparent)]
    Output(#[from] PublishError),
}

/// Reads events and shows them on standard output, to the end or to the count. `report` is told of each of the first
/// records that cannot be read.
pub fn read(source: &Source<'_>, options: &Options, report: &mut dyn FnMut(&str)) -> Result<Counts, ReadError> {
    let out = match options.form {
        Form::Text => Out::Text(TextLines::to_stdout(options.colour)?),
        Form::Json => Out::Encoded(EventStream::to_stdout(Format::Json)?),
        Form::Msgpack => Out::Encoded(EventStream::to_stdout(Format::Msgpack)?),
    };
    let mut reading = Reading {
        out,
        options,
        limit: options.count.unwrap_or(u64::MAX),
        counts: Counts::default(),
        buffer: Vec::new(),
        report,
    };
    let read = match source {
        _ if reading.limit == 0 => Ok(()),
        Source::Topic(topic) => topic.read(&mut reading),
        Source::File(path) if *path == Path::new("-") => {
            read_stream(io::stdin().lock(), "standard input", &mut reading)
        }
        Source::File(path) => {
            let name = path.display().to_string();
            match File::open(path) {
                Ok(file) => read_stream(file, &name, &mut reading),
                Err(source) => Err(ReadError::Open { name, source }),
            }
        }
    };
    // What was read before a failure is shown all the same.
    let finished = reading.out.flush();
    read?;
    finished?;
    Ok(reading.counts)
}

fn read_stream(input: impl Read, name: &str, reading: &mut Reading<'_>) -> Result<(), ReadError> {
    let mut frames = Frames::new(input);
    loop {
        if !frames.has_more_at_hand() {
            reading.pause()?;
        }
        let Some(frame) = frames.next().map_err(|error| ReadError::Stream { name: name.to_owned(), error })? else {
            return Ok(());
        };
        let offset = frame.offset;
        let place = |at: usize| format!("{name}: byte {}", offset + at as u64);
        if reading.take(Some(frame.format), frame.bytes, place)?.is_break() {
            return Ok(());
        }
    }
}

/// Events on their way from a source to standard output.
struct Reading<'a> {
    out: Out,
    options: &'a Options,
    limit: u64,
    counts: Counts,
    /// Reused.
    buffer: Vec<u8>,
    report: &'a mut dyn FnMut(&str),
}

enum Out {
    Text(TextLines),
    Encoded(EventStream),
}

impl Reading<'_> {
    /// The bytes of one record, and in words the place of one of them. Break: enough is shown.
    fn take(
        &mut self,
        format: Option<Format>,
        bytes: &[u8],
        place: impl Fn(usize) -> String,
    ) -> Result<ControlFlow<()>, ReadError> {
        let decoded = match format {
            Some(format) => Record::decode(format, bytes).map_err(|error| (error.at, error.to_string())),
            None => Err((0, "neither JSON nor a MessagePack map".to_owned())),
        };
        match decoded {
            Ok(mut record) if self.is_wanted(&record, &place) => {
                match self.out.show(&mut record, format, bytes, &mut self.buffer) {
                    Ok(written) => {
                        written?;
                        self.counts.shown += 1;
                    }
                    Err(what) => self.unreadable(&place(0), &what),
                }
            }
            Ok(_) => {}
            Err((at, what)) => self.unreadable(&place(at), &what),
        }
        Ok(if self.counts.shown < self.limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }

    fn unreadable(&mut self, place: &str, what: &str) {
        self.counts.unreadable += 1;
        if self.counts.unreadable <= MAX_REPORTED {
            (self.report)(&format!("{place}: {what}"));
        }
    }

    fn is_wanted(&mut self, record: &Record, place: &impl Fn(usize) -> String) -> bool {
        let Some(filter) = &self.options.filter else { return true };
        filter.matches(record.fields()).unwrap_or_else(|what| {
            self.counts.unfiltered += 1;
            if self.counts.unfiltered <= MAX_REPORTED {
                (self.report)(&format!("{}: filter: {what}", place(0)));
            }
            false
        })
    }

    /// Nothing more may come for a while.
    fn pause(&mut self) -> Result<(), ReadError> {
        Ok(self.out.flush()?)
    }
}

impl Out {
    /// Writes an event. The outer error: it has no form in the format that is asked for.
    fn show(
        &mut self,
        record: &mut Record,
        format: Option<Format>,
        bytes: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<Result<(), PublishError>, String> {
        let out = match self {
            Out::Encoded(out) => out,
            Out::Text(lines) => {
                return Ok(match record.known() {
                    Some(Known::Exchange(exchange)) => lines.publish(Event::Exchange(&exchange)),
                    Some(Known::Connection(connection)) => lines.publish(Event::Connection(&connection)),
                    None => lines.publish_unknown(record.time(), record.kind(), record.fields()),
                });
            }
        };
        // As it came in, byte by byte, where that is a line.
        let line = bytes.trim_ascii();
        if format == Some(out.format()) && (out.format() == Format::Msgpack || !line.contains(&b'\n')) {
            return Ok(out.write_encoded(if out.format() == Format::Json { line } else { bytes }));
        }
        record.encode(out.format(), buffer)?;
        Ok(out.write_encoded(buffer))
    }

    fn flush(&mut self) -> Result<(), PublishError> {
        match self {
            Out::Text(lines) => lines.flush(),
            Out::Encoded(out) => out.flush(),
        }
    }
}
