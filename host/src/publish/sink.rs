//! A file or standard output, written by a thread of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::queue::{Filler, GivenUp, Queue, Taker};
use super::{Delivery, OutputStatus, PublishError, QUEUE_FULL, Target, Waits, Watched};

/// The reason of events that could not be written.
const NOT_WRITTEN: &str = "not_written";

/// Takes the bytes of events; a thread writes them.
pub(crate) struct Sink {
    filler: Filler,
    queue: Arc<Queue>,
    /// Ends with what kept it from writing, if anything did.
    thread: Option<JoinHandle<io::Result<()>>>,
    file: Arc<File>,
    name: String,
    is_stdout: bool,
    pub(super) is_terminal: bool,
    /// Of another one, which knows what becomes of the thread.
    is_branch: bool,
    written: Arc<Written>,
    reader_gone: bool,
}

/// What the thread did.
#[derive(Default)]
struct Written {
    events: AtomicU64,
    /// It ended because nobody reads any more, which is no failure.
    reader_gone: AtomicBool,
}

impl Sink {
    /// Creates a file, or empties it.
    pub(crate) fn file(path: PathBuf, waits: &Waits) -> Result<Sink, PublishError> {
        let name = path.display().to_string();
        let file = File::create(&path).map_err(|source| PublishError::Open { path, source })?;
        Sink::new(file, name, false, waits)
    }

    pub(super) fn stdout(waits: &Waits) -> Result<Sink, PublishError> {
        let name = "standard output".to_owned();
        // Not std's `Stdout`: that looks for line ends in what it writes.
        match io::stdout().as_fd().try_clone_to_owned() {
            Ok(descriptor) => Sink::new(descriptor.into(), name, true, waits),
            Err(source) => Err(PublishError::Write { name, source }),
        }
    }

    pub(super) fn new(file: File, name: String, is_stdout: bool, waits: &Waits) -> Result<Sink, PublishError> {
        let is_terminal = file.is_terminal();
        let (file, written, queue) = (Arc::new(file), Arc::new(Written::default()), waits.queue());
        let (target, done, taker) = (Arc::clone(&file), Arc::clone(&written), Taker(Arc::clone(&queue)));
        let thread = std::thread::Builder::new()
            .name("podtap-output".into())
            .spawn(move || {
                let result = write(&target, &done, &taker.0);
                let is_reader_gone = result.as_ref().is_err_and(|error| is_reader_gone(error, is_stdout));
                done.reader_gone.store(is_reader_gone, Ordering::Release);
                // Whoever sees that it has gone sees why.
                drop(taker);
                result
            })
            .map_err(|source| PublishError::Write { name: name.clone(), source })?;
        let filler = Filler::new(Arc::clone(&queue));
        let (thread, is_branch, reader_gone) = (Some(thread), false, false);
        Ok(Sink { filler, queue, thread, file, name, is_stdout, is_terminal, is_branch, written, reader_gone })
    }

    /// The same for another thread.
    pub(super) fn branch(&self) -> Sink {
        Sink {
            filler: self.filler.another(),
            queue: Arc::clone(&self.queue),
            thread: None,
            file: Arc::clone(&self.file),
            name: self.name.clone(),
            is_branch: true,
            written: Arc::clone(&self.written),
            ..*self
        }
    }

    /// What is written to, to ask about its width and colours.
    pub(super) fn target(&self) -> &File {
        &self.file
    }

    pub(super) fn watched(&self) -> Arc<dyn Watched> {
        let target = if self.is_stdout { Target::StandardOutput } else { Target::File };
        Arc::new(Watch { target, queue: Arc::clone(&self.queue), written: Arc::clone(&self.written) })
    }

    /// Where the next event is appended.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        self.filler.bytes()
    }

    /// An event was appended as a whole. A person sees it at once.
    pub(super) fn end_event(&mut self) -> Result<(), PublishError> {
        let handed_over = match self.is_terminal {
            true => self.filler.end_event().and_then(|()| self.filler.push()),
            false => self.filler.end_event(),
        };
        handed_over.map_err(|GivenUp| self.given_up())
    }

    pub(super) fn flush(&mut self) -> Result<(), PublishError> {
        self.filler.push().map_err(|GivenUp| self.given_up())
    }

    fn given_up(&mut self) -> PublishError {
        if self.is_branch {
            let is_reader_gone = self.written.reader_gone.load(Ordering::Acquire);
            return if is_reader_gone { PublishError::ReaderGone } else { PublishError::Ended };
        }
        // Nobody is to ask again after an error, which comes once.
        let again = PublishError::Write { name: self.name.clone(), source: io::ErrorKind::BrokenPipe.into() };
        self.failure().unwrap_or(again)
    }

    /// What kept the thread from writing, once.
    fn failure(&mut self) -> Option<PublishError> {
        let thread = self.thread.take()?;
        let result = match self.filler.wait_for_taker() {
            true => thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes has panicked"))),
            // It goes on as long as the process does.
            false => Err(io::Error::new(io::ErrorKind::TimedOut, "whoever reads it did not take them in time")),
        };
        let source = result.err()?;
        if is_reader_gone(&source, self.is_stdout) {
            self.reader_gone = true;
            return Some(PublishError::ReaderGone);
        }
        Some(PublishError::Write { name: self.name.clone(), source })
    }

    /// Waits until all events are written, or cannot be: that is an error once, and the next call gives the counts. That
    /// nobody reads any more is no failure.
    pub(super) fn finish(&mut self) -> Result<Delivery, PublishError> {
        // What keeps it from ending comes out in a moment.
        let _ = self.filler.end();
        match self.failure() {
            None | Some(PublishError::ReaderGone) => {}
            Some(error) => return Err(error),
        }
        let mut delivery = Delivery { delivered: self.written.events.load(Ordering::Acquire), ..Delivery::default() };
        let (accepted, dropped) = (self.queue.accepted(), self.queue.dropped());
        delivery.fail(QUEUE_FULL, dropped);
        if self.reader_gone {
            delivery.delivered = accepted - dropped;
        } else {
            delivery.fail(NOT_WRITTEN, accepted.saturating_sub(delivery.delivered + dropped));
        }
        Ok(delivery)
    }
}

fn is_reader_gone(error: &io::Error, is_stdout: bool) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe && is_stdout
}

/// A sink as another thread sees it.
struct Watch {
    target: Target,
    queue: Arc<Queue>,
    written: Arc<Written>,
}

impl Watched for Watch {
    fn status(&self) -> OutputStatus {
        // In this order: once the thread has gone, nothing more is written.
        let is_over = self.queue.has_no_taker() && !self.written.reader_gone.load(Ordering::Acquire);
        let delivered = self.written.events.load(Ordering::Acquire);
        let (queue_bytes, queue_events) = self.queue.held();
        let dropped = self.queue.dropped();
        let mut failed = BTreeMap::from([(QUEUE_FULL.to_owned(), dropped)]);
        let not_written = self.queue.accepted().saturating_sub(delivered + dropped);
        if is_over && not_written > 0 {
            failed.insert(NOT_WRITTEN.to_owned(), not_written);
        }
        OutputStatus { target: self.target, queue_bytes, queue_events, delivered, failed, kafka: None }
    }
}

/// Writes chunks until there are no more.
fn write(file: &File, written: &Written, queue: &Queue) -> io::Result<()> {
    let mut file = file;
    while let Some(chunk) = queue.next() {
        file.write_all(&chunk.bytes)?;
        written.events.fetch_add(chunk.events, Ordering::Release);
        queue.done(chunk);
    }
    Ok(())
}
