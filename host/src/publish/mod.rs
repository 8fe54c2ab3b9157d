//! Events out of the program: to standard output, a file, Kafka.
//!
//! In come events, redacted and complete; out they go to every output of the run, and into the summary. Each output has a
//! queue and a thread of its own (see `queue`), so that none keeps another waiting, nor, where traffic is live, whoever
//! decodes. An output that fails names itself and is left out from then on; when none is left, that ends the run, for an
//! event that went nowhere is not to pass in silence. Only a reader that went away (`| head`) is no failure.

mod broadcast;
mod error;
mod hand_over;
mod kafka;
mod printable;
mod queue;
mod record;
mod sink;
#[doc(hidden)]
pub mod spool;
mod status;
mod stream;
mod text;

pub use broadcast::Broadcast;
pub(crate) use broadcast::{Chunk, MAX_CHUNKS, MAX_READERS, Refused, Subscription};
pub use error::PublishError;
pub use hand_over::HandOver;
pub use kafka::Kafka;
pub(crate) use kafka::{
    LIBRDKAFKA_RECORD_BYTES, MAX_TOPICS, NO_TOKEN_FILE, TOPIC_PATIENCE, TokenFile, librdkafka_queue, set_security,
    setting_error,
};
pub use printable::Printable;
pub(crate) use queue::MAX_SPARE_BYTES;
pub(crate) use sink::Sink;
pub use status::{KafkaStatus, OutputStatus, SpoolStatus, Target, Watched};
pub use stream::EventStream;
pub(crate) use text::{Bytes, DisplayDuration, Lines, terminal_columns};
pub use text::{Colour, TextLines};

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{self, Config, OutputFormat};
use crate::event::{Event, Format};
use crate::requests::Requests;
use crate::stop::Stop;
use crate::summary::Summary;

/// The reason of events that made room for newer ones in a queue.
const QUEUE_FULL: &str = "queue_full";
/// The reason of events that an output did not get, because it had failed before.
const OUTPUT_FAILED: &str = "output_failed";

/// How packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// From a file, which can wait.
    Recorded,
    /// As they are seen: nothing may wait, for what waits is lost before it is read.
    Live,
}

/// How long events may wait for their outputs, and where.
#[derive(Clone, Debug)]
pub struct Waits {
    /// Bound of each output's queue.
    pub queue_bytes: usize,
    /// How packets come.
    pub traffic: Traffic,
    /// The end that somebody may ask for.
    pub stop: Stop,
}

impl Waits {
    /// As a configuration has it, where files are replayed.
    pub fn recorded(config: &Config) -> Waits {
        let queue_bytes = config.delivery.queue_bytes.as_usize();
        Waits { queue_bytes, traffic: Traffic::Recorded, stop: Stop::default() }
    }

    fn queue(&self) -> Arc<queue::Queue> {
        queue::Queue::new(self.queue_bytes, self.traffic, self.stop.clone())
    }
}

/// Where events go.
pub trait Output: Send {
    /// Takes an event. It may still be on its way when this returns.
    fn publish(&mut self, event: Event<'_>) -> Result<(), PublishError>;

    /// Sends off what was taken, where it is still held back: nothing more may come for a while.
    fn flush(&mut self) -> Result<(), PublishError> {
        Ok(())
    }

    /// Waits until all that was taken has arrived, or is known not to. An error comes once; after it, another call gives
    /// the counts.
    fn finish(&mut self) -> Result<Delivery, PublishError>;

    /// The same output for another thread; none where it cannot be shared. What is taken there is this one's to finish, once
    /// that one was flushed for the last time.
    fn branch(&self) -> Option<Box<dyn Output>> {
        None
    }

    /// For a decoder's name, the attribute that holds the status of its exchanges.
    fn learn_status_attributes(&mut self, _attributes: &HashMap<String, String>) {}

    /// For whoever wants to know from another thread how it is doing; none where there is nothing to say.
    fn watched(&self) -> Option<Arc<dyn Watched>> {
        None
    }
}

/// What became of events that were taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Arrived.
    pub delivered: u64,
    /// Did not, by reason.
    pub failed: BTreeMap<String, u64>,
    /// What a spool did, where there is one.
    pub spool: Option<SpoolCounts>,
}

/// What became of events in a spool, beside those delivered and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolCounts {
    /// Events of earlier runs: delivered, failed or left like those of this run.
    pub recovered: u64,
    /// Events that are still there, for the next run.
    pub left: u64,
    /// Events that the disk refused; they went on from memory, or into the spool later.
    pub bypassed: u64,
    /// Bytes of earlier runs that were no whole events: a tail cut by a crash, or damage.
    pub damaged_bytes: u64,
}

impl Delivery {
    /// All that did not arrive.
    pub fn failed_total(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Adds to a reason, unless nothing.
    fn fail(&mut self, reason: &str, events: u64) {
        if events > 0 {
            *self.failed.entry(reason.to_owned()).or_default() += events;
        }
    }
}

/// All outputs of a run, or of one thread of it, and their summary.
#[derive(Default)]
pub struct Outputs {
    outputs: Vec<Place>,
    summary: Summary,
    /// For whoever asks for metrics; none where nobody can.
    requests: Option<Requests>,
    /// For whoever reads along; none where nobody can.
    live: Option<broadcast::Source>,
    /// Why outputs were left out, until the end.
    failures: Vec<PublishError>,
    delivery: Option<Delivery>,
}

struct Place {
    output: Box<dyn Output>,
    has_failed: bool,
    missed: Missed,
}

/// Events that an output did not get since it failed.
#[derive(Default)]
struct Missed {
    /// Of this thread, since it last told.
    here: u64,
    /// Of all threads, as far as they told.
    told: Arc<AtomicU64>,
}

impl Missed {
    fn tell(&mut self) {
        self.told.fetch_add(std::mem::take(&mut self.here), Ordering::Relaxed);
    }
}

/// An output as another thread sees it, with what it does not get any more.
struct PlaceWatch {
    output: Arc<dyn Watched>,
    missed: Arc<AtomicU64>,
}

impl Watched for PlaceWatch {
    fn status(&self) -> OutputStatus {
        let mut status = self.output.status();
        let missed = self.missed.load(Ordering::Relaxed);
        if missed > 0 {
            *status.failed.entry(OUTPUT_FAILED.to_owned()).or_default() += missed;
        }
        status
    }
}

impl std::fmt::Debug for Outputs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Outputs").field("outputs", &self.outputs.len()).finish_non_exhaustive()
    }
}

impl Outputs {
    /// What the configuration asks for, where files are replayed. Connects to Kafka, and fails if that does not answer.
    pub fn open(config: &Config, colour: Colour) -> Result<Outputs, PublishError> {
        Outputs::open_for(config, colour, &Waits::recorded(config))
    }

    /// What the configuration asks for. Where traffic is live, Kafka need not answer yet.
    pub fn open_for(config: &Config, colour: Colour, waits: &Waits) -> Result<Outputs, PublishError> {
        let with_kafka = !config.kafka.brokers.is_empty();
        let mut outputs = Outputs::default();
        // Kafka first: where it does not answer, an existing output file keeps what it holds.
        if with_kafka {
            let topic = config.kafka.topic_of(&config.agent.resource).map_err(PublishError::KafkaSetting)?;
            let kafka = config::Kafka { topic, ..config.kafka.clone() };
            outputs.add(Kafka::open(&kafka, Some(&config.spool), waits)?);
        }
        let format = match config.output.effective_format(with_kafka) {
            OutputFormat::None => return Ok(outputs),
            OutputFormat::Text => None,
            OutputFormat::Json => Some(Format::Json),
            OutputFormat::Msgpack => Some(Format::Msgpack),
        };
        let sink = match &config.output.file {
            Some(path) => Sink::file(path.clone(), waits)?,
            None => Sink::stdout(waits)?,
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
        self.outputs.push(Place { output: Box::new(output), has_failed: false, missed: Missed::default() });
    }

    /// For a decoder's name, the attribute that holds the status of its exchanges.
    pub fn set_status_attributes(&mut self, attributes: &HashMap<String, String>) {
        for place in &mut self.outputs {
            place.output.learn_status_attributes(attributes);
        }
    }

    /// From now on, counts requests for so many servers.
    pub fn count_requests(&mut self, max_servers: usize) {
        self.requests = Some(Requests::new(max_servers));
    }

    /// From now on, events can be read along.
    pub fn broadcast(&mut self, broadcast: Broadcast) {
        self.live = Some(broadcast::Source::new(broadcast));
    }

    /// Requests counted, where they are.
    pub fn requests(&self) -> Option<&Requests> {
        self.requests.as_ref()
    }

    /// Each output, as another thread may look at it.
    pub fn watched(&self) -> Vec<Arc<dyn Watched>> {
        let watch = |place: &Place| -> Option<Arc<dyn Watched>> {
            Some(Arc::new(PlaceWatch { output: place.output.watched()?, missed: Arc::clone(&place.missed.told) }))
        };
        self.outputs.iter().filter_map(watch).collect()
    }

    /// Why outputs were left out.
    pub fn failures(&self) -> impl Iterator<Item = &PublishError> {
        self.failures.iter()
    }

    /// The same outputs for another thread, with a summary of its own; none where one of them cannot be shared.
    pub fn branch(&self) -> Option<Outputs> {
        let branch = |place: &Place| {
            let missed = Missed { here: 0, told: Arc::clone(&place.missed.told) };
            Some(Place { output: place.output.branch()?, has_failed: place.has_failed, missed })
        };
        Some(Outputs {
            outputs: self.outputs.iter().map(branch).collect::<Option<_>>()?,
            requests: self.requests.as_ref().map(Requests::emptied),
            live: self.live.as_ref().map(broadcast::Source::another),
            ..Outputs::default()
        })
    }

    /// Takes over what a branch has counted and still holds.
    pub fn absorb(&mut self, mut branch: Outputs) {
        // Where it cannot be handed over, its output says why when it is finished.
        let _ = branch.flush();
        self.summary.add(&branch.summary);
        if let (Some(requests), Some(others)) = (&mut self.requests, &branch.requests) {
            requests.add(others);
        }
    }

    /// Takes an event.
    ///
    /// # Errors
    /// When no output is left: the first one's failure, or [`PublishError::ReaderGone`].
    pub fn publish(&mut self, event: Event<'_>) -> Result<(), PublishError> {
        self.summary.record(event);
        if let (Some(requests), Event::Exchange(exchange)) = (&mut self.requests, event) {
            requests.record(exchange);
        }
        if let Some(live) = &mut self.live {
            live.publish(event);
        }
        self.each(1, |output| output.publish(event))
    }

    /// Sends off what is held back.
    ///
    /// # Errors
    /// As [`Outputs::publish`].
    pub fn flush(&mut self) -> Result<(), PublishError> {
        if let Some(live) = &mut self.live {
            live.flush();
        }
        self.outputs.iter_mut().for_each(|place| place.missed.tell());
        self.each(0, |output| output.flush())
    }

    /// Does it with each output that has not failed; `events` are missed by the others.
    fn each(
        &mut self,
        events: u64,
        mut work: impl FnMut(&mut dyn Output) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        let mut gone = None;
        let (mut failed, mut ended) = (false, false);
        for (index, place) in self.outputs.iter_mut().enumerate() {
            if place.has_failed {
                place.missed.here += events;
                continue;
            }
            match work(place.output.as_mut()) {
                Ok(()) => {}
                Err(PublishError::ReaderGone) => gone = Some(index),
                Err(PublishError::Ended) => (place.has_failed, ended) = (true, true),
                Err(error) => {
                    (place.has_failed, failed) = (true, true);
                    self.failures.push(error);
                }
            }
        }
        if let Some(index) = gone {
            self.outputs.remove(index);
        }
        if (gone.is_some() || failed || ended) && self.outputs.iter().all(|place| place.has_failed) {
            return Err(match self.failures.is_empty() {
                false => self.failures.remove(0),
                true if ended => PublishError::Ended,
                true => PublishError::ReaderGone,
            });
        }
        if failed && let Some(error) = self.failures.last() {
            tracing::error!("{error}; the other outputs go on");
        }
        Ok(())
    }

    /// Waits until all that was published has arrived, or is known not to. Again, it does nothing.
    ///
    /// # Errors
    /// The first failure of an output that was not reported yet.
    pub fn finish(&mut self) -> Result<(), PublishError> {
        if self.delivery.is_some() {
            return Ok(());
        }
        if let Some(live) = &mut self.live {
            live.end();
        }
        let mut total = Delivery::default();
        for place in &mut self.outputs {
            let delivery = match place.output.finish() {
                Ok(delivery) => delivery,
                Err(error) => {
                    if !place.has_failed {
                        self.failures.push(error);
                    }
                    place.output.finish().unwrap_or_default()
                }
            };
            total.delivered += delivery.delivered;
            for (reason, count) in delivery.failed {
                total.fail(&reason, count);
            }
            place.missed.tell();
            total.fail(OUTPUT_FAILED, place.missed.told.load(Ordering::Relaxed));
            total.spool = total.spool.or(delivery.spool);
        }
        self.delivery = Some(total);
        if self.failures.is_empty() { Ok(()) } else { Err(self.failures.remove(0)) }
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;

    use super::*;
    use crate::reference::example_event;

    fn waits() -> Waits {
        Waits::recorded(&Config::default())
    }

    /// Something to write to whose reader has gone.
    fn abandoned(is_stdout: bool) -> Sink {
        let (_, writer) = io::pipe().unwrap();
        let file = std::os::fd::OwnedFd::from(writer).into();
        Sink::new(file, "standard output".to_owned(), is_stdout, &waits()).unwrap()
    }

    /// The result of the first publish that is not fine, if one is not.
    fn publish_much(outputs: &mut Outputs, events: usize) -> Result<(), PublishError> {
        (0..events).try_for_each(|_| outputs.publish(Event::Exchange(&example_event())))
    }

    #[test]
    fn a_reader_that_went_away_ends_the_run_where_nobody_else_reads() {
        let mut outputs = Outputs::default();
        outputs.add(EventStream::new(abandoned(true), Format::Json));
        assert!(matches!(publish_much(&mut outputs, 1_000_000), Err(PublishError::ReaderGone)));
        outputs.finish().unwrap();
    }

    #[test]
    fn a_reader_that_went_away_does_not_disturb_another_output() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let mut outputs = Outputs::default();
        outputs.add(TextLines::new(abandoned(true), Colour::Auto));
        outputs.add(EventStream::new(Sink::file(path.clone(), &waits()).unwrap(), Format::Json));
        while outputs.outputs.len() > 1 {
            publish_much(&mut outputs, 1000).unwrap();
        }
        outputs.finish().unwrap();
        let events = outputs.summary().events();
        assert_eq!(outputs.delivery().unwrap().delivered, events);
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count() as u64, events);
    }

    #[test]
    fn a_reader_that_went_away_is_no_loss_of_another_thread() {
        let folder = tempfile::tempdir().unwrap();
        let mut outputs = Outputs::default();
        outputs.add(EventStream::new(abandoned(true), Format::Json));
        outputs.add(EventStream::new(Sink::file(folder.path().join("events"), &waits()).unwrap(), Format::Json));
        let (watched, mut branch) = (outputs.watched(), outputs.branch().unwrap());
        while branch.outputs.len() > 1 {
            publish_much(&mut branch, 1000).unwrap();
        }
        publish_much(&mut branch, 10).unwrap();
        // Who has nothing to hand over notices as well.
        outputs.flush().unwrap();
        assert_eq!(outputs.outputs.len(), 1);
        outputs.absorb(branch);
        outputs.finish().unwrap();
        assert_eq!(outputs.delivery().unwrap().failed_total(), 0);
        assert_eq!(watched[0].status().failed.values().sum::<u64>(), 0);
    }

    #[test]
    fn an_output_that_fails_does_not_disturb_another_and_what_it_missed_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut outputs = Outputs::default();
        outputs.add(EventStream::new(Sink::new(full, "full".to_owned(), false, &waits()).unwrap(), Format::Json));
        outputs.add(EventStream::new(Sink::file(path.clone(), &waits()).unwrap(), Format::Json));
        while !outputs.outputs[0].has_failed {
            publish_much(&mut outputs, 1000).unwrap();
        }
        publish_much(&mut outputs, 10).unwrap();
        let error = outputs.finish().unwrap_err().to_string();
        assert!(error.starts_with("full: events cannot be written: No space left"), "{error}");
        let (events, delivery) = (outputs.summary().events(), outputs.delivery().unwrap());
        assert_eq!(delivery.delivered, events);
        assert_eq!(delivery.failed_total(), events);
        assert!(delivery.failed["output_failed"] >= 10 && delivery.failed["not_written"] > 0, "{delivery:?}");
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count() as u64, events);
    }

    #[test]
    fn what_a_failed_output_loses_is_told_while_the_others_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut outputs = Outputs::default();
        outputs.add(EventStream::new(Sink::new(full, "full".to_owned(), false, &waits()).unwrap(), Format::Json));
        outputs.add(EventStream::new(Sink::file(folder.path().join("events"), &waits()).unwrap(), Format::Json));
        let (watched, mut branch) = (outputs.watched(), outputs.branch().unwrap());
        for outputs in [&mut outputs, &mut branch] {
            while !outputs.outputs[0].has_failed {
                publish_much(outputs, 1000).unwrap();
            }
            publish_much(outputs, 10).unwrap();
            outputs.flush().unwrap();
        }
        let events = outputs.summary().events() + branch.summary().events();
        let failed = || {
            let mut failed = watched[0].status().failed;
            failed.retain(|_, count| *count > 0);
            failed
        };
        let (failed, at_the_end) = (failed(), failed);
        assert_eq!(failed.values().sum::<u64>(), events, "{failed:?}");
        assert!(failed["output_failed"] >= 20 && failed["not_written"] > 0, "{failed:?}");
        outputs.absorb(branch);
        outputs.finish().unwrap_err();
        let delivery = outputs.delivery().unwrap();
        assert_eq!((delivery.delivered, &delivery.failed), (events, &failed));
        assert_eq!(at_the_end(), failed);
        assert_eq!(watched[1].status().failed.values().sum::<u64>(), 0);
    }

    #[test]
    fn a_reader_that_went_away_lost_nothing_that_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut outputs = Outputs::default();
        outputs.add(EventStream::new(abandoned(true), Format::Json));
        outputs.add(EventStream::new(Sink::file(folder.path().join("events"), &waits()).unwrap(), Format::Json));
        let watched = outputs.watched();
        while outputs.outputs.len() > 1 {
            publish_much(&mut outputs, 1000).unwrap();
        }
        outputs.finish().unwrap();
        let status = watched[0].status();
        assert!(status.failed.values().all(|count| *count == 0), "{status:?}");
    }

    #[test]
    fn another_thread_publishes_to_the_same_outputs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let mut outputs = Outputs::default();
        outputs.add(EventStream::new(Sink::file(path.clone(), &waits()).unwrap(), Format::Json));
        outputs.count_requests(8);
        let mut branch = outputs.branch().unwrap();
        let thread = std::thread::spawn(move || {
            publish_much(&mut branch, 1234).unwrap();
            branch
        });
        publish_much(&mut outputs, 4321).unwrap();
        outputs.absorb(thread.join().unwrap());
        outputs.finish().unwrap();
        assert_eq!((outputs.summary().events(), outputs.delivery().unwrap().delivered), (5555, 5555));
        assert_eq!(outputs.requests().unwrap().rows()[0].durations.exchanges, 5555);
        let text = std::fs::read_to_string(path).unwrap();
        // None is cut by another.
        assert_eq!(text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count(), 5555);
    }

    #[test]
    fn what_another_thread_cannot_publish_is_counted_and_the_reason_is_told_once() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut outputs = Outputs::default();
        outputs.add(EventStream::new(Sink::new(full, "full".to_owned(), false, &waits()).unwrap(), Format::Json));
        let mut branch = outputs.branch().unwrap();
        let thread = std::thread::spawn(move || {
            assert!(matches!(publish_much(&mut branch, 1_000_000), Err(PublishError::Ended)));
            branch
        });
        let branch = thread.join().unwrap();
        outputs.absorb(branch);
        let error = outputs.finish().unwrap_err().to_string();
        assert!(error.starts_with("full: events cannot be written: No space left"), "{error}");
        let delivery = outputs.delivery().unwrap();
        assert_eq!((delivery.delivered, delivery.failed_total()), (0, outputs.summary().events()));
    }

    #[test]
    fn a_closed_pipe_that_is_not_standard_output_is_a_failure() {
        let mut outputs = Outputs::default();
        outputs.add(EventStream::new(abandoned(false), Format::Json));
        assert!(matches!(publish_much(&mut outputs, 1_000_000), Err(PublishError::Write { .. })));
    }

    #[test]
    fn live_events_for_a_reader_that_takes_none_are_dropped_and_counted() {
        let (reader, writer) = io::pipe().unwrap();
        let stop = Stop::by_hand(std::time::Duration::from_millis(100));
        let waits = Waits { queue_bytes: 100_000, traffic: Traffic::Live, stop: stop.clone() };
        let file = std::os::fd::OwnedFd::from(writer).into();
        let mut outputs = Outputs::default();
        let sink = Sink::new(file, "standard output".to_owned(), true, &waits).unwrap();
        outputs.add(EventStream::new(sink, Format::Json));
        publish_much(&mut outputs, 2000).unwrap();
        stop.request();
        assert!(matches!(outputs.finish(), Err(PublishError::Write { .. })));
        let delivery = outputs.delivery().unwrap();
        assert_eq!(delivery.delivered + delivery.failed_total(), 2000);
        assert!(delivery.failed["queue_full"] > 0, "{delivery:?}");
        drop(reader);
    }
}
