//! Events out of the program: to standard output, a file, Kafka.
//!
//! In come events, redacted and complete; out they go to every output of the run, and into the summary. An output
//! that fails names itself and ends the run, for an event that went nowhere is not to pass in silence; only a reader
//! that went away (`| head`) is no failure.

mod kafka;
mod printable;
mod stream;
mod text;

pub use kafka::Kafka;
pub use printable::Printable;
pub use stream::EventStream;
pub(crate) use text::{Bytes, DisplayDuration, Lines, terminal_columns};
pub use text::{Colour, TextLines};

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::config::{Config, OutputFormat};
use crate::event::{EncodeError, Event, Format};
use crate::summary::Summary;

/// Bytes collected before a write.
const WRITE_BUFFER_BYTES: usize = 64 << 10;

/// Where events go.
pub trait Output {
    /// Takes an event. It may still be on its way when this returns.
    fn publish(&mut self, event: Event<'_>) -> Result<(), PublishError>;

    /// Sends off what was taken, where it is still held back: nothing more may come for a while.
    fn flush(&mut self) -> Result<(), PublishError> {
        Ok(())
    }

    /// Waits until all that was taken has arrived, or is known not to.
    fn finish(&mut self) -> Result<Delivery, PublishError>;

    /// For a decoder's name, the attribute that holds the status of its exchanges.
    fn learn_status_attributes(&mut self, _attributes: &HashMap<String, String>) {}
}

/// What became of events that were taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Arrived.
    pub delivered: u64,
    /// Did not, by reason.
    pub failed: BTreeMap<String, u64>,
}

impl Delivery {
    /// All that did not arrive.
    pub fn failed_total(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// Events cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Whoever read standard output has gone. No fault: there is nothing more to do.
    #[error("standard output was closed")]
    ReaderGone,
    /// MessagePack would garble the terminal.
    #[error("MessagePack is not for a terminal; give --output-file, or send standard output elsewhere")]
    BinaryTerminal,
    /// The output cannot be opened.
    #[error("{}: the output file cannot be written: {source}; check the path and its permissions", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A write failed.
    #[error("{name}: events cannot be written: {source}")]
    Write {
        /// The file, or `standard output`.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A fault of podtap's own.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A setting that librdkafka refuses.
    #[error("kafka: {0}; check kafka.librdkafka_options and the other keys of that section")]
    KafkaSetting(String),
    /// No broker answers.
    #[error(
        "kafka: no answer from {brokers} within {waited}{last}; check kafka.brokers, that the brokers run and can be \
         reached from here, and the security settings"
    )]
    KafkaUnreachable {
        /// As configured.
        brokers: String,
        /// How long.
        waited: String,
        /// What librdkafka said last, in brackets, or nothing.
        last: String,
    },
    /// The topic cannot be written to.
    #[error("kafka: topic {topic:?} on {brokers}: {reason}")]
    KafkaTopic {
        /// As configured.
        topic: String,
        /// As configured.
        brokers: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The broker stopped to acknowledge.
    #[error(
        "kafka: {brokers} acknowledged nothing for {waited} while {pending} events wait{last}; check the brokers, or \
         raise kafka.timeout"
    )]
    KafkaStalled {
        /// As configured.
        brokers: String,
        /// How long.
        waited: String,
        /// Events on their way.
        pending: u64,
        /// What librdkafka said last, in brackets, or nothing.
        last: String,
    },
    /// The producer can do no more.
    #[error("kafka: the producer had to stop: {0}")]
    KafkaFatal(String),
}

/// All outputs of a run, and its summary.
#[derive(Default)]
pub struct Outputs {
    outputs: Vec<Box<dyn Output>>,
    summary: Summary,
    delivery: Option<Delivery>,
}

impl std::fmt::Debug for Outputs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Outputs").field("outputs", &self.outputs.len()).finish_non_exhaustive()
    }
}

impl Outputs {
    /// What the configuration asks for. Connects to Kafka, and fails if that does not answer.
    pub fn open(config: &Config, colour: Colour) -> Result<Outputs, PublishError> {
        let with_kafka = !config.kafka.brokers.is_empty();
        let mut outputs = Outputs::default();
        // Kafka first: where it does not answer, an existing output file keeps what it holds.
        if with_kafka {
            outputs.add(Kafka::connect(&config.kafka)?);
        }
        let format = match config.output.effective_format(with_kafka) {
            OutputFormat::None => return Ok(outputs),
            OutputFormat::Text => None,
            OutputFormat::Json => Some(Format::Json),
            OutputFormat::Msgpack => Some(Format::Msgpack),
        };
        let sink = match &config.output.file {
            Some(path) => Sink::file(path.clone())?,
            None => Sink::stdout()?,
        };
        match format {
            None => outputs.add(TextLines::new(sink, colour)),
            Some(Format::Msgpack) if sink.is_terminal => return Err(PublishError::BinaryTerminal),
            Some(format) => outputs.add(EventStream::new(sink, format)),
        }
        Ok(outputs)
    }

    /// One more output.
    pub fn add(&mut self, output: impl Output + 'static) {
        self.outputs.push(Box::new(output));
    }

    /// For a decoder's name, the attribute that holds the status of its exchanges.
    pub fn set_status_attributes(&mut self, attributes: &HashMap<String, String>) {
        for output in &mut self.outputs {
            output.learn_status_attributes(attributes);
        }
    }

    /// Takes an event. [`PublishError::ReaderGone`]: no output is left.
    pub fn publish(&mut self, event: Event<'_>) -> Result<(), PublishError> {
        self.summary.record(event);
        self.each(|output| output.publish(event))
    }

    /// Sends off what is held back. [`PublishError::ReaderGone`]: no output is left.
    pub fn flush(&mut self) -> Result<(), PublishError> {
        self.each(|output| output.flush())
    }

    /// Does it with each output. One whose reader has gone is removed.
    fn each(&mut self, mut work: impl FnMut(&mut dyn Output) -> Result<(), PublishError>) -> Result<(), PublishError> {
        let mut gone = None;
        for (index, output) in self.outputs.iter_mut().enumerate() {
            match work(output.as_mut()) {
                Ok(()) => {}
                Err(PublishError::ReaderGone) => gone = Some(index),
                Err(error) => return Err(error),
            }
        }
        match gone {
            Some(index) => {
                self.outputs.remove(index);
                if self.outputs.is_empty() { Err(PublishError::ReaderGone) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    /// Waits until all that was published has arrived, or is known not to. Again, it does nothing.
    pub fn finish(&mut self) -> Result<(), PublishError> {
        if self.delivery.is_some() {
            return Ok(());
        }
        let mut total = Delivery::default();
        let mut failure = None;
        for output in &mut self.outputs {
            match output.finish() {
                Ok(delivery) => {
                    total.delivered += delivery.delivered;
                    for (reason, count) in delivery.failed {
                        *total.failed.entry(reason).or_default() += count;
                    }
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        self.delivery = Some(total);
        failure.map_or(Ok(()), Err)
    }

    /// What arrived and what did not, over all outputs; known once finished.
    pub fn delivery(&self) -> Option<&Delivery> {
        self.delivery.as_ref()
    }

    /// What was published.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

/// A file or standard output.
pub(crate) struct Sink {
    writer: io::BufWriter<File>,
    name: String,
    is_stdout: bool,
    is_terminal: bool,
    events: u64,
}

impl Sink {
    /// Creates a file, or empties it.
    pub(crate) fn file(path: PathBuf) -> Result<Sink, PublishError> {
        let name = path.display().to_string();
        let file = File::create(&path).map_err(|source| PublishError::Open { path, source })?;
        Ok(Sink::new(file, name, false))
    }

    fn stdout() -> Result<Sink, PublishError> {
        let name = "standard output".to_owned();
        // Not std's `Stdout`: that looks for line ends in what it writes.
        match io::stdout().as_fd().try_clone_to_owned() {
            Ok(descriptor) => Ok(Sink::new(descriptor.into(), name, true)),
            Err(source) => Err(PublishError::Write { name, source }),
        }
    }

    fn new(file: File, name: String, is_stdout: bool) -> Sink {
        let is_terminal = file.is_terminal();
        Sink { writer: io::BufWriter::with_capacity(WRITE_BUFFER_BYTES, file), name, is_stdout, is_terminal, events: 0 }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PublishError> {
        io::Write::write_all(&mut self.writer, bytes).map_err(|source| self.failure(source))
    }

    /// An event was written whole. A person sees it at once.
    fn end_event(&mut self) -> Result<(), PublishError> {
        self.events += 1;
        if self.is_terminal { self.flush() } else { Ok(()) }
    }

    /// All events were written. That nobody reads any more is no failure.
    fn finish(&mut self) -> Result<Delivery, PublishError> {
        match self.flush() {
            Ok(()) | Err(PublishError::ReaderGone) => Ok(Delivery { delivered: self.events, ..Delivery::default() }),
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self) -> Result<(), PublishError> {
        io::Write::flush(&mut self.writer).map_err(|source| self.failure(source))
    }

    fn failure(&self, source: io::Error) -> PublishError {
        match source.kind() {
            io::ErrorKind::BrokenPipe if self.is_stdout => PublishError::ReaderGone,
            _ => PublishError::Write { name: self.name.clone(), source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::example_event;

    /// Standard output whose reader has gone.
    fn abandoned() -> Sink {
        let (_, writer) = io::pipe().unwrap();
        Sink::new(std::os::fd::OwnedFd::from(writer).into(), "standard output".to_owned(), true)
    }

    /// The result of the first publish that is not fine, if one is not.
    fn publish_much(outputs: &mut Outputs) -> Result<(), PublishError> {
        (0..1000).try_for_each(|_| outputs.publish(Event::Exchange(&example_event())))
    }

    #[test]
    fn a_reader_that_went_away_ends_the_run_where_nobody_else_reads() {
        let mut outputs = Outputs::default();
        outputs.add(EventStream::new(abandoned(), Format::Json));
        assert!(matches!(publish_much(&mut outputs), Err(PublishError::ReaderGone)));
        outputs.finish().unwrap();
    }

    #[test]
    fn a_reader_that_went_away_does_not_disturb_another_output() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let mut outputs = Outputs::default();
        outputs.add(TextLines::new(abandoned(), Colour::Auto));
        outputs.add(EventStream::new(Sink::file(path.clone()).unwrap(), Format::Json));
        publish_much(&mut outputs).unwrap();
        outputs.finish().unwrap();
        assert_eq!(outputs.delivery().unwrap().delivered, 1000);
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 1000);
    }

    #[test]
    fn a_closed_pipe_that_is_not_standard_output_is_a_failure() {
        let mut sink = abandoned();
        sink.is_stdout = false;
        let mut outputs = Outputs::default();
        outputs.add(EventStream::new(sink, Format::Json));
        assert!(matches!(publish_much(&mut outputs), Err(PublishError::Write { .. })));
    }
}
