//! Where a view gets its events from, on a thread of its own: captures that are decoded here, or events that are read back.
//!
//! The thread ends by itself at the end of its input, or at the first event after it was told to; nobody waits for it, as
//! standard input may never say anything again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::event::{Event, Format};
use crate::filter::Filter;
use crate::pipeline::{self, Decoders, PipelineError, Replay, Report};
use crate::publish::{Delivery, Output, Outputs, PublishError};
use crate::read::{self, Agent, From, ReadError, Receiver, Record, Topic};
use crate::view::{Filtered, Shared};

/// Problems that are kept to be shown; the others are counted in the view.
const MAX_PROBLEMS: usize = 20;
/// The longest that the thread sleeps without looking whether it is to end.
const NAP: Duration = Duration::from_millis(50);

/// Where events come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Capture files, of which only packets are read that match a filter in libpcap's language.
    Captures(Vec<PathBuf>, Option<String>),
    /// Events in a file; `-` is standard input.
    Events(PathBuf),
    /// The topic of the configuration, from where on, and whether to wait for more at its end.
    Topic(From, bool),
    /// A podtap that is running, by the address of its admin server.
    Agent(String),
}

/// A source, and how it is read.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Where from.
    pub source: Source,
    /// Decoders, and how to connect to Kafka.
    pub config: Arc<Config>,
    /// So many times as fast as the events happened; none: as fast as possible.
    pub speed: Option<f64>,
}

/// How far a feed has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Events may still come.
    #[default]
    Reading,
    /// All is read.
    Over,
    /// Why no more can be read.
    Failed(String),
}

/// A feed under way.
#[derive(Clone, Debug, Default)]
pub struct Feeding {
    /// What it has brought.
    pub view: Shared,
    control: Arc<Control>,
}

#[derive(Debug, Default)]
struct Control {
    stop: AtomicBool,
    told: Mutex<Told>,
}

/// What the thread has told.
#[derive(Clone, Debug, Default)]
struct Told {
    progress: Progress,
    problems: Vec<String>,
}

impl Feed {
    /// Can it be read once more from its beginning?
    pub fn is_repeatable(&self) -> bool {
        !matches!(&self.source, Source::Events(path) if path == Path::new("-"))
    }

    /// Reads all that matches a filter, which was understood before, into a new view.
    pub fn start(&self, filter: Option<&str>) -> std::io::Result<Feeding> {
        let feeding = Feeding::default();
        let (feed, filter, fed) = (self.clone(), filter.map(str::to_owned), feeding.clone());
        std::thread::Builder::new().name("podtap-feed".into()).spawn(move || {
            let progress = match feed.run(filter.as_deref(), &fed) {
                Ok(()) => Progress::Over,
                Err(error) => Progress::Failed(error),
            };
            fed.control.tell(|told| told.progress = progress);
        })?;
        Ok(feeding)
    }

    fn run(&self, filter: Option<&str>, feeding: &Feeding) -> Result<(), String> {
        let parsed = filter.map(Filter::parse).transpose().map_err(|error| error.to_string())?;
        let into = Filtered { view: feeding.view.clone(), filter: parsed.map(Arc::new) };
        let mut intake = Intake { into, control: Arc::clone(&feeding.control), pace: self.speed.map(Pace::new) };
        let config = &self.config;
        let source = match &self.source {
            Source::Captures(files, filter) => return replay(files, filter.as_deref(), config, intake, feeding),
            Source::Events(path) => read::Source::File(path),
            Source::Agent(url) => {
                // There, rather than here: what is not wanted need not come.
                intake.into.filter = None;
                read::Source::Agent(Agent { url, filter, counts: true })
            }
            &Source::Topic(from, follow) => {
                read::Source::Topic(Topic { kafka: &config.kafka, name: &config.kafka.topic, from, follow })
            }
        };
        let control = Arc::clone(&feeding.control);
        match read::read_into(&source, &mut intake, None, &mut |problem| control.problem(problem)) {
            Ok(counts) => {
                let mut view = feeding.view.lock();
                view.left_out().unreadable = counts.unreadable;
                view.left_out().unfiltered = counts.unfiltered;
                Ok(())
            }
            Err(ReadError::Output(PublishError::ReaderGone)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn replay(
    files: &[PathBuf],
    filter: Option<&str>,
    config: &Config,
    intake: Intake,
    feeding: &Feeding,
) -> Result<(), String> {
    let decoders = Decoders::load(config).map_err(|error| error.to_string())?;
    let mut outputs = Outputs::default();
    outputs.add(intake);
    match pipeline::replay_with(&decoders, Replay { files, filter, config, progress: &mut |_| () }, &mut outputs) {
        Ok(mut report) => {
            for problem in std::mem::take(&mut report.problems) {
                feeding.control.problem(&problem);
            }
            feeding.view.lock().set_report(report);
            Ok(())
        }
        Err(PipelineError::Publish(PublishError::ReaderGone)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

impl Feeding {
    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.control.tell(|told| told.progress.clone())
    }

    /// What could not be read, or not wholly, a line each.
    pub fn problems(&self) -> Vec<String> {
        self.control.tell(|told| told.problems.clone())
    }

    /// Nothing more is wanted.
    pub fn stop(&self) {
        self.control.stop.store(true, Ordering::Relaxed);
    }
}

impl Control {
    fn tell<T>(&self, work: impl FnOnce(&mut Told) -> T) -> T {
        work(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn problem(&self, problem: &str) {
        self.tell(|told| {
            if told.problems.len() < MAX_PROBLEMS {
                told.problems.push(problem.to_owned());
            }
        });
    }

    fn go_on(&self) -> Result<(), PublishError> {
        if self.stop.load(Ordering::Relaxed) { Err(PublishError::ReaderGone) } else { Ok(()) }
    }
}

/// Takes events into the view, those that are wanted, when they are due.
struct Intake {
    into: Filtered,
    control: Arc<Control>,
    pace: Option<Pace>,
}

impl Intake {
    fn wait(&mut self, time_ns: u64) -> Result<(), PublishError> {
        let control = &self.control;
        while let Some(left) = self.pace.as_mut().and_then(|pace| pace.left(time_ns)) {
            control.go_on()?;
            std::thread::sleep(left.min(NAP));
        }
        control.go_on()
    }
}

impl Output for Intake {
    fn publish(&mut self, event: Event<'_>) -> Result<(), PublishError> {
        self.wait(event.time().0)?;
        self.into.publish(event)
    }

    fn finish(&mut self) -> Result<Delivery, PublishError> {
        self.into.finish()
    }
}

impl Receiver for Intake {
    fn take(&mut self, record: &mut Record, format: Format, bytes: &[u8]) -> Result<Result<(), PublishError>, String> {
        if let Err(gone) = self.wait(record.time().0) {
            return Ok(Err(gone));
        }
        self.into.take(record, format, bytes)
    }

    fn pause(&mut self) -> Result<(), PublishError> {
        self.control.go_on()
    }

    fn lost(&mut self, events: u64) {
        self.into.view.lock().left_out().missed += events;
    }

    fn counted(&mut self, report: Report) {
        self.into.view.lock().set_report(report);
    }

    fn wants(&mut self, record: &Record) -> Result<bool, String> {
        self.into.wants(record)
    }
}

/// Time of events that goes by so many times as fast as it did.
struct Pace {
    speed: f64,
    begin: Option<(u64, Instant)>,
}

impl Pace {
    fn new(speed: f64) -> Pace {
        Pace { speed, begin: None }
    }

    /// How long until an event of that time is due; none: it is.
    fn left(&mut self, time_ns: u64) -> Option<Duration> {
        let (first, begun) = *self.begin.get_or_insert_with(|| (time_ns, Instant::now()));
        // Beyond what can be said, it is due in a long time.
        let due = Duration::try_from_secs_f64(time_ns.saturating_sub(first) as f64 / 1e9 / self.speed);
        let left = due.unwrap_or(Duration::MAX).saturating_sub(begun.elapsed());
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_due_when_their_time_has_come() {
        let mut pace = Pace::new(1000.0);
        assert_eq!(pace.left(5_000_000_000), None);
        let left = pace.left(25_000_000_000).unwrap();
        assert!(left <= Duration::from_millis(20), "{left:?}");
        std::thread::sleep(left);
        assert_eq!(pace.left(25_000_000_000), None);
        // What began before the first is late.
        assert_eq!(pace.left(1_000_000_000), None);
        assert!(Pace { speed: 1e-300, begin: Some((0, Instant::now())) }.left(u64::MAX).is_some());
    }
}
