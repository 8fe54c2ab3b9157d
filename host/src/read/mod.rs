//! Events read back: from a Kafka topic, a file, a pipe or a running podtap, to lines for people or to JSON or MessagePack.
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
pub(crate) use record::MAX_DEPTH;
pub use record::Record;
pub use topic::{From, Topic, TopicError};

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use crate::event::Format;
use crate::filter::Filter;
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
    let out = Output::open(options.form, options.colour)?;
    let mut reading =
        Reading { out, options, limit: options.count.unwrap_or(u64::MAX), counts: Counts::default(), report };
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
    out: Output,
    options: &'a Options,
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
            Ok(mut record) if self.is_wanted(&record, &place) => match self.out.show(&mut record, format, bytes) {
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
