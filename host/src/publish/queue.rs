//! The queue between the threads that decode and the thread of one output: chunks of encoded events, bounded in bytes.
//!
//! ```text
//!  decoding thread                                       thread of the output
//!  Filler: events appended to a chunk ── full, flush ──> take ──> written or sent ──> done
//!     ^                                                                               │
//!     └───────────────────────────── emptied chunks, used again <─────────────────────┘
//! ```
//!
//! Each thread that decodes has a filler of its own. There is one lock for a chunk, none for an event, and no allocation for
//! either once chunks go round. Where traffic is
//! live, filling never waits: the oldest chunks make room, and their events are counted. Where it is recorded, filling
//! waits for room until the other side gives up.
//!
//! The bound is one of memory: a chunk counts by what it takes, not by what is in it. So that chunks which are handed over
//! before they are full take no more than they have to, they are put together where they wait.
//!
//! Invariant: events filled in = events taken + dropped + still here.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{HandOver, Traffic};
use crate::stop::Stop;

/// A chunk of this many bytes is handed over: to wake the other side takes as long as to decode several exchanges.
const CHUNK_BYTES: usize = 256 << 10;
/// What a chunk takes, unless its last event is a large one.
const CHUNK_CAPACITY: usize = CHUNK_BYTES + CHUNK_BYTES / 4;
/// Chunks kept for use again.
const MAX_SPARE: usize = 2;
/// What these take at most.
pub(crate) const MAX_SPARE_BYTES: usize = MAX_SPARE * 2 * CHUNK_BYTES;
/// How often whoever waits looks whether the end is overdue.
const LOOK: Duration = Duration::from_millis(50);

/// Encoded events, one after the other.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) events: u64,
}

impl Chunk {
    fn new() -> Chunk {
        Chunk { bytes: Vec::with_capacity(CHUNK_CAPACITY), events: 0 }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.events = 0;
    }

    /// Takes over what is in another one, where it has room for that as it is.
    fn absorb(&mut self, other: &mut Chunk) -> bool {
        let has_room = self.bytes.capacity() - self.bytes.len() >= other.bytes.len();
        if has_room {
            self.bytes.extend_from_slice(&other.bytes);
            self.events += other.events;
            other.clear();
        }
        has_room
    }
}

/// The other side has given up: nothing more can be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GivenUp;

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// For the taker: a chunk, the end, or a wake.
    news: Condvar,
    /// For the filler: room, or that the taker has gone.
    room: Condvar,
    max_bytes: usize,
    traffic: Traffic,
    stop: Stop,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Chunk>,
    /// Memory of chunks that wait, and of those taken that are not done.
    bytes: usize,
    spare: Vec<Chunk>,
    /// Events filled in.
    accepted: u64,
    dropped: u64,
    /// Of fillers that have gone.
    hand_over: HandOver,
    /// No more will be filled in.
    ended: bool,
    /// Nobody takes any more.
    gone: bool,
    woken: bool,
}

impl Queue {
    pub(super) fn new(max_bytes: usize, traffic: Traffic, stop: Stop) -> Arc<Queue> {
        let (news, room) = (Condvar::new(), Condvar::new());
        Arc::new(Queue { state: Mutex::default(), news, room, max_bytes, traffic, stop })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between two statements that change it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an empty chunk for a full one.
    fn push(&self, mut chunk: Chunk) -> Result<Chunk, GivenUp> {
        let mut state = self.lock();
        state.accepted += chunk.events;
        if !state.gone && state.chunks.back_mut().is_some_and(|last| last.absorb(&mut chunk)) {
            return Ok(chunk);
        }
        while state.bytes + chunk.bytes.capacity() > self.max_bytes && state.bytes > 0 && !state.gone {
            if self.traffic == Traffic::Recorded {
                if self.stop.is_overdue() {
                    return Err(GivenUp);
                }
                state = self.room.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            // What is taken is on its way out: at most one chunk beyond the bound.
            let Some(oldest) = state.chunks.pop_front() else { break };
            state.dropped += oldest.events;
            state.recycle(oldest);
        }
        if state.gone {
            return Err(GivenUp);
        }
        state.bytes += chunk.bytes.capacity();
        state.chunks.push_back(chunk);
        let spare = state.spare.pop();
        // Whoever is woken finds the lock free.
        drop(state);
        self.news.notify_one();
        Ok(spare.unwrap_or_else(Chunk::new))
    }

    /// The oldest chunk, if there is one just now.
    pub(super) fn take(&self) -> Option<Chunk> {
        self.lock().chunks.pop_front()
    }

    /// As [`Queue::take`], but waits for it; none at the end.
    pub(super) fn next(&self) -> Option<Chunk> {
        loop {
            // In this order: what was pushed before the end is seen.
            let ended = self.has_ended();
            match self.take() {
                Some(chunk) => return Some(chunk),
                None if ended => return None,
                None => self.wait(true, None),
            }
        }
    }

    /// Will nothing more be filled in?
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Until a chunk can be taken or the end has come (where `for_chunks`), somebody calls [`Queue::wake`], or `time` is
    /// over.
    pub(super) fn wait(&self, for_chunks: bool, time: Option<Duration>) {
        let state = self.lock();
        let nothing = |state: &mut State| !(state.woken || for_chunks && (state.ended || !state.chunks.is_empty()));
        let mut state = match time {
            Some(time) => self.news.wait_timeout_while(state, time, nothing).unwrap_or_else(PoisonError::into_inner).0,
            None => self.news.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner),
        };
        state.woken = false;
    }

    /// Ends a wait.
    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.news.notify_one();
    }

    /// A chunk that was taken is written or sent: there is room.
    pub(super) fn done(&self, chunk: Chunk) {
        self.lock().recycle(chunk);
        self.room.notify_one();
    }

    /// Events that were handed over, or were to be.
    pub(super) fn accepted(&self) -> u64 {
        self.lock().accepted
    }

    /// Events that made room for newer ones.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Events that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.lock().chunks.iter().map(|chunk| chunk.events).sum()
    }

    /// Shows the events that came last, where some wait.
    pub(super) fn look_at_newest(&self, look: impl FnOnce(&[u8])) {
        if let Some(newest) = self.lock().chunks.back() {
            look(&newest.bytes);
        }
    }

    /// Bytes and events that it holds.
    pub(super) fn held(&self) -> (u64, u64) {
        let state = self.lock();
        (state.bytes as u64, state.chunks.iter().map(|chunk| chunk.events).sum())
    }

    /// Will nothing more be taken?
    pub(super) fn has_no_taker(&self) -> bool {
        self.lock().gone
    }

    /// Nothing more will be taken.
    fn leave(&self) {
        self.lock().gone = true;
        self.room.notify_one();
    }
}

impl State {
    fn recycle(&mut self, mut chunk: Chunk) {
        self.bytes -= chunk.bytes.capacity();
        if self.spare.len() < MAX_SPARE && chunk.bytes.capacity() <= 2 * CHUNK_BYTES {
            chunk.clear();
            self.spare.push(chunk);
        }
    }
}

/// The side of the thread that takes. Dropped when that thread ends, whyever it does: then nobody waits for it.
pub(super) struct Taker(pub(super) Arc<Queue>);

impl Drop for Taker {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// The side of a thread that decodes.
#[derive(Debug)]
pub(super) struct Filler {
    queue: Arc<Queue>,
    chunk: Chunk,
    hand_over: HandOver,
}

impl Filler {
    pub(super) fn new(queue: Arc<Queue>) -> Filler {
        Filler { queue, chunk: Chunk::new(), hand_over: HandOver::default() }
    }

    /// One more, for another thread.
    pub(super) fn another(&self) -> Filler {
        Filler::new(Arc::clone(&self.queue))
    }

    /// Where the next event is appended.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.chunk.bytes
    }

    /// An event was appended as a whole.
    pub(super) fn end_event(&mut self) -> Result<(), GivenUp> {
        self.chunk.events += 1;
        if self.chunk.bytes.len() >= CHUNK_BYTES { self.push() } else { Ok(()) }
    }

    /// Hands over what there is.
    pub(super) fn push(&mut self) -> Result<(), GivenUp> {
        if self.chunk.events == 0 {
            // Whoever has nothing to hand over notices all the same.
            return if self.queue.has_no_taker() { Err(GivenUp) } else { Ok(()) };
        }
        let nothing = Chunk { bytes: Vec::new(), events: 0 };
        let begun = Instant::now();
        let pushed = self.queue.push(std::mem::replace(&mut self.chunk, nothing));
        self.hand_over.add(begun.elapsed());
        self.chunk = pushed?;
        Ok(())
    }

    /// As [`Queue::accepted`].
    pub(super) fn accepted(&self) -> u64 {
        self.queue.accepted()
    }

    /// How long that took so far, here and where other fillers have gone.
    pub(super) fn hand_over(&self) -> HandOver {
        let mut all = self.queue.lock().hand_over.clone();
        all.add_all(&self.hand_over);
        all
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) -> Result<(), GivenUp> {
        let pushed = self.push();
        self.queue.lock().ended = true;
        self.queue.news.notify_one();
        pushed
    }

    /// Waits until the taker has gone. False: the end is overdue.
    pub(super) fn wait_for_taker(&self) -> bool {
        let mut state = self.queue.lock();
        while !state.gone {
            if self.queue.stop.is_overdue() {
                return false;
            }
            state = self.queue.room.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.queue.lock().hand_over.add_all(&self.hand_over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(filler: &mut Filler, text: &str) -> Result<(), GivenUp> {
        filler.bytes().extend(text.as_bytes());
        filler.end_event()?;
        filler.push()
    }

    fn queue(max_bytes: usize, traffic: Traffic) -> (Arc<Queue>, Filler) {
        let queue = Queue::new(max_bytes, traffic, Stop::default());
        (Arc::clone(&queue), Filler::new(queue))
    }

    /// So large that nothing of the kind fits into the same chunk.
    fn large(letter: &str) -> String {
        letter.repeat(CHUNK_BYTES - 1)
    }

    fn letters(queue: &Queue) -> Vec<(u8, u64)> {
        let mut letters = Vec::new();
        while let Some(chunk) = queue.take() {
            letters.push((chunk.bytes[0], chunk.events));
            queue.done(chunk);
        }
        letters
    }

    #[test]
    fn two_threads_fill_and_what_each_did_is_counted_together() {
        let (queue, mut filler) = queue(1 << 20, Traffic::Live);
        let mut other = filler.another();
        let thread = std::thread::spawn(move || (0..1000).for_each(|_| fill(&mut other, "b").unwrap()));
        (0..1000).for_each(|_| fill(&mut filler, "a").unwrap());
        thread.join().unwrap();
        assert_eq!((queue.accepted(), queue.waiting(), filler.hand_over().chunks()), (2000, 2000, 2000));
        let mut bytes = Vec::new();
        while let Some(chunk) = queue.take() {
            bytes.extend_from_slice(&chunk.bytes);
        }
        assert_eq!([b'a', b'b'].map(|letter| bytes.iter().filter(|byte| **byte == letter).count()), [1000, 1000]);
    }

    #[test]
    fn live_traffic_never_waits_and_the_oldest_are_dropped_and_counted() {
        let (queue, mut filler) = queue(3 * CHUNK_CAPACITY, Traffic::Live);
        for letter in ["a", "b", "c"] {
            fill(&mut filler, &large(letter)).unwrap();
        }
        assert_eq!(queue.dropped(), 0);
        // Four fifths of a chunk's memory are taken by the large one.
        let rest = "d".repeat(CHUNK_CAPACITY - CHUNK_BYTES + 2);
        fill(&mut filler, &rest).unwrap();
        assert_eq!((queue.dropped(), queue.lock().bytes), (1, 3 * CHUNK_CAPACITY));
        assert_eq!(letters(&queue), [(b'b', 1), (b'c', 1), (b'd', 1)]);
        assert_eq!(queue.lock().bytes, 0);
        assert_eq!(filler.hand_over().chunks(), 4);
    }

    #[test]
    fn chunks_that_are_not_full_are_put_together_while_they_wait_and_memory_keeps_its_bound() {
        let (queue, mut filler) = queue(2 * CHUNK_CAPACITY, Traffic::Live);
        let mut events = 0;
        while queue.dropped() == 0 {
            fill(&mut filler, "0123456789abcdef").unwrap();
            events += 1;
            let state = queue.lock();
            let capacity: usize = state.chunks.iter().map(|chunk| chunk.bytes.capacity()).sum();
            assert!(capacity == state.bytes && capacity <= 2 * CHUNK_CAPACITY, "{capacity}");
        }
        assert_eq!(events, 2 * CHUNK_CAPACITY as u64 / 16 + 1);
        assert_eq!(queue.dropped(), CHUNK_CAPACITY as u64 / 16);
        assert_eq!(queue.dropped() + queue.waiting(), events);
    }

    #[test]
    fn what_is_taken_counts_until_it_is_done_but_is_not_dropped() {
        let (queue, mut filler) = queue(CHUNK_CAPACITY, Traffic::Live);
        fill(&mut filler, &large("a")).unwrap();
        let taken = queue.next().unwrap();
        fill(&mut filler, &large("b")).unwrap();
        fill(&mut filler, &large("c")).unwrap();
        assert_eq!((queue.dropped(), queue.waiting(), queue.lock().bytes), (1, 1, 2 * CHUNK_CAPACITY));
        queue.done(taken);
        assert_eq!(queue.lock().bytes, CHUNK_CAPACITY);
    }

    #[test]
    fn recorded_traffic_waits_for_room_and_loses_nothing() {
        let (queue, mut filler) = queue(2 * CHUNK_CAPACITY, Traffic::Recorded);
        let taker = Taker(Arc::clone(&queue));
        let thread = std::thread::spawn(move || {
            let mut events = 0;
            while let Some(chunk) = taker.0.next() {
                std::thread::sleep(Duration::from_micros(100));
                events += chunk.events;
                taker.0.done(chunk);
            }
            events
        });
        let event = large("e");
        for _ in 0..500 {
            fill(&mut filler, &event).unwrap();
            assert!(queue.lock().bytes <= 2 * CHUNK_CAPACITY);
        }
        filler.end().unwrap();
        assert!(filler.wait_for_taker());
        assert_eq!(thread.join().unwrap(), 500);
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn nobody_waits_for_a_taker_that_has_gone() {
        let (queue, mut filler) = queue(CHUNK_CAPACITY, Traffic::Recorded);
        let taker = Taker(Arc::clone(&queue));
        fill(&mut filler, &large("a")).unwrap();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(taker);
        });
        assert_eq!(fill(&mut filler, &large("b")), Err(GivenUp));
        assert_eq!(fill(&mut filler, "c"), Err(GivenUp));
        assert_eq!(filler.push(), Err(GivenUp), "with nothing to hand over, too");
        thread.join().unwrap();
    }

    #[test]
    fn an_end_that_is_overdue_is_not_kept_waiting() {
        let stop = Stop::by_hand(Duration::from_millis(20));
        let queue = Queue::new(10, Traffic::Recorded, stop.clone());
        let mut filler = Filler::new(Arc::clone(&queue));
        fill(&mut filler, &large("a")).unwrap();
        stop.request();
        assert_eq!(fill(&mut filler, &large("b")), Err(GivenUp));
        assert!(!filler.wait_for_taker());
    }
}
