//! Events as they are made, to whoever reads them now: a live view, not a delivery.
//!
//! ```text
//!  Source: events appended to a chunk ── full, flush ──> a bounded channel for each reader ──> Subscription
//! ```
//!
//! A reader that does not keep up loses chunks, which are counted for it and in all; nobody waits for it. While nobody
//! reads, an event costs one look at a flag that the thread itself owns; whether somebody reads is looked up once for a
//! flush.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::event::{self, Event, Format};

/// Readers at once.
pub(crate) const MAX_READERS: usize = 4;
/// A chunk of this many bytes is handed over.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that wait for one reader: 2 MiB at most, for what is flushed is smaller.
pub(crate) const MAX_CHUNKS: usize = 32;

/// Events in JSON, one a line.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) lines: Bytes,
    pub(crate) events: u64,
}

/// Where readers come from. Clones are of the same broadcast.
#[derive(Clone, Debug, Default)]
pub struct Broadcast(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    readers: Mutex<Readers>,
    /// How many there are, for a look without the lock.
    count: AtomicUsize,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Readers {
    all: Vec<Reader>,
    next: u64,
    /// Nothing more will come.
    ended: bool,
}

#[derive(Debug)]
struct Reader {
    number: u64,
    chunks: mpsc::Sender<Chunk>,
    lost: Arc<AtomicU64>,
}

/// Why there is no subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There are [`MAX_READERS`] already.
    TooMany,
    /// Nothing more will come.
    Ended,
}

impl Broadcast {
    /// One reader more, for events from now on.
    pub(crate) fn subscribe(&self) -> Result<Subscription, Refused> {
        let mut readers = self.readers();
        if readers.ended {
            return Err(Refused::Ended);
        }
        if readers.all.len() >= MAX_READERS {
            return Err(Refused::TooMany);
        }
        let (sender, chunks) = mpsc::channel(MAX_CHUNKS);
        let (number, lost) = (readers.next, Arc::new(AtomicU64::new(0)));
        readers.next += 1;
        readers.all.push(Reader { number, chunks: sender, lost: Arc::clone(&lost) });
        self.0.count.store(readers.all.len(), Ordering::Relaxed);
        Ok(Subscription { broadcast: self.clone(), number, chunks, lost })
    }

    /// How many read now.
    pub fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed) as u64
    }

    /// Events that readers did not get, of all of them added.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        // Whole between any two statements that change it.
        self.0.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, chunk: &Chunk) {
        let mut readers = self.readers();
        readers.all.retain(|reader| match reader.chunks.try_send(chunk.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                reader.lost.fetch_add(chunk.events, Ordering::Relaxed);
                self.0.lost.fetch_add(chunk.events, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        });
        self.0.count.store(readers.all.len(), Ordering::Relaxed);
    }

    /// Nothing more comes: readers see it once they have read the rest.
    fn end(&self) {
        let mut readers = self.readers();
        readers.ended = true;
        readers.all.clear();
        self.0.count.store(0, Ordering::Relaxed);
    }
}

/// What one reader gets.
#[derive(Debug)]
pub(crate) struct Subscription {
    broadcast: Broadcast,
    number: u64,
    chunks: mpsc::Receiver<Chunk>,
    lost: Arc<AtomicU64>,
}

impl Subscription {
    /// The next chunk; none at the end.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk>> {
        self.chunks.poll_recv(context)
    }

    /// Events that this reader did not get, so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut readers = self.broadcast.readers();
        readers.all.retain(|reader| reader.number != self.number);
        self.broadcast.0.count.store(readers.all.len(), Ordering::Relaxed);
    }
}

/// Where events go in, on the thread that makes them.
#[derive(Debug)]
pub(super) struct Source {
    broadcast: Broadcast,
    /// Somebody reads, as of the last flush.
    is_read: bool,
    bytes: Vec<u8>,
    events: u64,
}

impl Source {
    pub(super) fn new(broadcast: Broadcast) -> Source {
        Source { broadcast, is_read: false, bytes: Vec::new(), events: 0 }
    }

    /// One more, for another thread.
    pub(super) fn another(&self) -> Source {
        Source::new(self.broadcast.clone())
    }

    pub(super) fn publish(&mut self, event: Event<'_>) {
        if !self.is_read {
            return;
        }
        let before = self.bytes.len();
        // What cannot be encoded is an error of the outputs, which say so.
        if event::append(Format::Json, event, &mut self.bytes).is_err() {
            return self.bytes.truncate(before);
        }
        self.bytes.push(b'\n');
        self.events += 1;
        if self.bytes.len() >= CHUNK_BYTES {
            self.push();
        }
    }

    fn push(&mut self) {
        if self.events > 0 {
            let chunk = Chunk { lines: Bytes::copy_from_slice(&self.bytes), events: self.events };
            self.broadcast.send(&chunk);
            self.bytes.clear();
            self.events = 0;
        }
    }

    /// Hands over what there is, and looks whether somebody reads.
    pub(super) fn flush(&mut self) {
        self.push();
        self.is_read = self.broadcast.count() > 0;
        if !self.is_read {
            self.bytes = Vec::new();
        }
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) {
        self.flush();
        self.broadcast.end();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::reference::example_event;

    fn publish(source: &mut Source, events: u64) {
        let event = example_event();
        (0..events).for_each(|_| source.publish(Event::Exchange(&event)));
        source.flush();
    }

    /// Events, and whether the end has come.
    fn read(subscription: &mut Subscription) -> (u64, bool) {
        let mut context = Context::from_waker(Waker::noop());
        let mut events = 0;
        loop {
            match subscription.poll(&mut context) {
                Poll::Ready(Some(chunk)) => {
                    assert_eq!(chunk.lines.iter().filter(|byte| **byte == b'\n').count() as u64, chunk.events);
                    events += chunk.events;
                }
                Poll::Ready(None) => return (events, true),
                Poll::Pending => return (events, false),
            }
        }
    }

    #[test]
    fn readers_get_what_comes_after_them_and_then_the_end() {
        let broadcast = Broadcast::default();
        let mut source = Source::new(broadcast.clone());
        publish(&mut source, 10);
        let mut first = broadcast.subscribe().unwrap();
        source.flush();
        publish(&mut source, 3);
        let mut second = broadcast.subscribe().unwrap();
        publish(&mut source, 1000);
        assert_eq!((read(&mut first), read(&mut second)), ((1003, false), (1000, false)));
        publish(&mut source, 1);
        source.end();
        assert_eq!((read(&mut first), read(&mut second)), ((1, true), (1, true)));
        assert_eq!(broadcast.subscribe().unwrap_err(), Refused::Ended);
    }

    #[test]
    fn a_reader_that_is_slow_loses_events_and_no_other_does() {
        let broadcast = Broadcast::default();
        let mut source = Source::new(broadcast.clone());
        let (mut slow, mut quick) = (broadcast.subscribe().unwrap(), broadcast.subscribe().unwrap());
        source.flush();
        let mut got = 0;
        for _ in 0..100 {
            publish(&mut source, 2);
            got += read(&mut quick).0;
        }
        assert_eq!((got, quick.lost()), (200, 0));
        let (events, _) = read(&mut slow);
        assert_eq!(events, 2 * MAX_CHUNKS as u64);
        assert_eq!((events + slow.lost(), broadcast.lost()), (200, slow.lost()));
    }

    #[test]
    fn readers_are_bounded_and_one_that_goes_makes_room() {
        let broadcast = Broadcast::default();
        let mut readers: Vec<_> = (0..MAX_READERS).map(|_| broadcast.subscribe().unwrap()).collect();
        assert_eq!(broadcast.subscribe().unwrap_err(), Refused::TooMany);
        readers.pop();
        assert_eq!(broadcast.count(), MAX_READERS as u64 - 1);
        broadcast.subscribe().unwrap();
    }

    #[test]
    fn nothing_is_encoded_while_nobody_reads() {
        let broadcast = Broadcast::default();
        let mut source = Source::new(broadcast.clone());
        publish(&mut source, 100);
        assert_eq!((source.bytes.capacity(), source.events), (0, 0));
        let reader = broadcast.subscribe().unwrap();
        source.flush();
        publish(&mut source, 1);
        drop(reader);
        source.flush();
        publish(&mut source, 100);
        assert_eq!((source.bytes.capacity(), source.events), (0, 0));
    }
}
