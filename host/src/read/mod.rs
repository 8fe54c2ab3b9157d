//! Events read back: from a Kafka topic, a file, a pipe or a running podtap, to lines for people, to JSON or MessagePack, or
//! into a view.
//!
//! In come bytes that anybody may have written; out go events in the order they came in, each as it was but for its
//! encoding. What cannot be read is reported with its place and counted, and does not keep the next events from being
//! read, unless nobody can say where the next one begins. Nothing is changed in Kafka: there is no consumer group and no
//! commit.

mod agent;
mod frames;
mod output;
mod record;
mod topic;

pub use agent::{Agent, AgentError, Line, Stream};
pub use frames::FrameError;
pub(crate) use frames::MAX_EVENT_BYTES;
pub(crate) use record::Known;
pub(crate) use record::MAX_DEPTH;
pub use record::Record;
pub use topic::{From, Topic, TopicError};

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use crate::event::Format;
use crate::filter::Filter;
use crate::pipeline::Report;
use crate::publish::{Colour, PublishError};
use frames::Frames;
use output::Output;

/// Unreadable events that are reported one by one; the others are only counted.
const MAX_REPORTED: u64 = 10;

/// Where events are read from.
#[derive(Debug)]
pub enum Source<'a> {
    /// A file; `-` is standard input.
    File(&'a Path),
    /// Records of Kafka.
    Topic(Topic<'a>),
    /// What a running podtap makes.
    Agent(Agent<'a>),
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

/// Takes events that were read.
pub trait Receiver {
    /// Takes an event, which was read in a format from these bytes.
    ///
    /// # Errors
    /// The outer one: what keeps this event from being taken. The inner one: none can be taken any more.
    fn take(&mut self, record: &mut Record, format: Format, bytes: &[u8]) -> Result<Result<(), PublishError>, String>;

    /// Nothing more may come for a while.
    ///
    /// # Errors
    /// No more can be taken.
    fn pause(&mut self) -> Result<(), PublishError>;

    /// Here so many are missing, which came faster than they were read.
    fn lost(&mut self, _events: u64) {}

    /// What the podtap that is read from has counted so far.
    fn counted(&mut self, _report: Report) {}

    /// Is the event one that is wanted? An error says why nobody knows.
    ///
    /// # Errors
    /// What the filter cannot compare.
    fn wants(&mut self, record: &Record) -> Result<bool, String>;
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
    /// Events that were not read quickly enough.
    pub lost: u64,
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
    /// From a running podtap.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// They cannot be shown.
    #[error(transparent)]
    Output(#[from] PublishError),
}

/// Reads events and shows them on standard output, to the end or to the count. `report` is told of each of the first
/// records that cannot be read.
pub fn read(source: &Source<'_>, options: &Options, report: &mut dyn FnMut(&str)) -> Result<Counts, ReadError> {
    let mut shown = Shown { out: Output::open(options.form, options.colour)?, filter: options.filter.as_ref() };
    read_into(source, &mut shown, options.count, report)
}

/// Reads events to the end, or to a count of those that were taken. `report` is told of each of the first records that
/// cannot be read.
pub fn read_into(
    source: &Source<'_>,
    receiver: &mut dyn Receiver,
    count: Option<u64>,
    report: &mut dyn FnMut(&str),
) -> Result<Counts, ReadError> {
    let mut reading = Reading { receiver, limit: count.unwrap_or(u64::MAX), counts: Counts::default(), report };
    let read = match source {
        _ if reading.limit == 0 => Ok(()),
        Source::Topic(topic) => topic.read(&mut reading),
        Source::Agent(agent) => agent.read(&mut reading),
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
    let finished = reading.receiver.pause();
    read?;
    finished?;
    Ok(reading.counts)
}

/// The line of an event for people, without its end.
///
/// # Errors
/// It has no form in text.
pub fn line(record: &Record) -> Result<String, String> {
    let mut line = String::new();
    output::append_line(&mut crate::publish::Lines::plain(), &mut line, record, None)?;
    Ok(line)
}

/// Does a file begin as one of events does? One that cannot be read does not.
pub(crate) fn holds_events(path: &Path) -> bool {
    let mut first = [0];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut first));
    read.is_ok() && frames::format_of(first[0]).is_some()
}

/// Standard output takes what the filter lets through.
struct Shown<'f> {
    out: Output,
    filter: Option<&'f Filter>,
}

impl Receiver for Shown<'_> {
    fn take(&mut self, record: &mut Record, format: Format, bytes: &[u8]) -> Result<Result<(), PublishError>, String> {
        self.out.show(record, format, bytes)
    }

    fn pause(&mut self) -> Result<(), PublishError> {
        self.out.flush()
    }

    fn wants(&mut self, record: &Record) -> Result<bool, String> {
        self.filter.map_or(Ok(true), |filter| filter.matches(record.fields()))
    }
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

/// Events on their way from a source to whoever takes them.
struct Reading<'a> {
    receiver: &'a mut dyn Receiver,
    limit: u64,
    counts: Counts,
    report: &'a mut dyn FnMut(&str),
}

impl Reading<'_> {
    /// The bytes of one record, and in words the place of one of them. Break: enough is shown.
    fn take(
        &mut self,
        format: Option<Format>,
        bytes: &[u8],
        place: impl Fn(usize) -> String,
    ) -> Result<ControlFlow<()>, ReadError> {
        let Some(format) = format else {
            self.unreadable(&place(0), "neither JSON nor a MessagePack map");
            return Ok(ControlFlow::Continue(()));
        };
        match Record::decode(format, bytes) {
            Ok(mut record) if self.is_wanted(&record, &place) => match self.receiver.take(&mut record, format, bytes) {
                Ok(written) => {
                    written?;
                    self.counts.shown += 1;
                }
                Err(what) => self.unreadable(&place(0), &what),
            },
            Ok(_) => {}
            Err(error) => self.unreadable(&place(error.at), &error.what),
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
        self.receiver.wants(record).unwrap_or_else(|what| {
            self.counts.unfiltered += 1;
            if self.counts.unfiltered <= MAX_REPORTED {
                (self.report)(&format!("{}: filter: {what}", place(0)));
            }
            false
        })
    }

    /// Nothing more may come for a while.
    fn pause(&mut self) -> Result<(), ReadError> {
        Ok(self.receiver.pause()?)
    }
}
