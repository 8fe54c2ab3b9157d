//! Streams within streams: a side whose bytes are packed (compressed) and must be unpacked to be read.
//!
//! ```text
//!   side ──> unpack: reads frames, gives what is in them ──> inner stream ──> read: the protocol's task
//! ```
//!
//! Two tasks in the place of one. The inner stream's messages are measured on the wire: the time of a frame's first and
//! last byte, and the bytes of frames. A frame counts for the message that begins with it or was being read when it came.
//! Nothing given is kept: what the inner task does not read of a piece at once is what its own reads keep.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use crate::instance::no_output;
use crate::stream::{Break, Inbox, Sought, Stream};

/// A gap of unknown length in an inner stream.
const UNKNOWN: u64 = 1 << 40;

/// How an inner stream's bytes came over the wire.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) packed: Rc<RefCell<Inbox>>,
    /// Where the frame that is being unpacked began, and when.
    frame: Cell<(u64, u64)>,
    /// Bytes of gaps that no message has noted yet.
    pub(crate) lost: Cell<u64>,
}

/// Gives unpacked bytes to the inner stream; see [`Stream::unpack`].
#[derive(Debug)]
pub struct Unpacked {
    wire: Rc<Wire>,
    inner: Rc<RefCell<Inbox>>,
    given: Rc<Cell<bool>>,
}

impl Unpacked {
    /// Waits for the first byte of the next frame.
    pub async fn frame(&self) -> Result<(), Break> {
        let place = poll_fn(|_| self.wire.packed.borrow_mut().next_byte()).await?;
        self.wire.frame.set(place);
        Ok(())
    }

    /// What was in the frame, or a piece of it. Returns when the inner task has read it.
    pub async fn give(&self, bytes: Vec<u8>) {
        let time_ns = self.wire.packed.borrow().time_ns();
        let length = bytes.len();
        self.inner.borrow_mut().data(&Rc::new(bytes), 0, length, 0, time_ns);
        self.hand().await;
    }

    /// So many bytes of the inner stream will never come; none: it is not known how many.
    pub async fn gap(&self, length: Option<u64>) {
        let time_ns = self.wire.packed.borrow().time_ns();
        self.inner.borrow_mut().gap(length.unwrap_or(UNKNOWN), 0, time_ns);
        self.hand().await;
    }

    async fn hand(&self) {
        self.given.set(true);
        poll_fn(|_| if self.given.get() { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    /// The inner task passes over the next `length` bytes: they need not be unpacked, [`Unpacked::pass`] will do.
    pub fn unneeded(&self, length: u64) -> bool {
        self.inner.borrow().passes_over(length)
    }

    /// Passes over bytes that are [`Unpacked::unneeded`].
    pub fn pass(&self, length: u64) {
        self.inner.borrow_mut().pass(length);
    }

    /// Passes over so many packed bytes. Those in gaps are noted as losses of the inner stream's message.
    pub async fn skip(&self, packed: &mut Stream, length: u64) -> Result<(), Break> {
        let before = packed.span().lost_bytes;
        let skipped = packed.skip(length).await;
        let lost = packed.inbox.borrow_mut().take_lost(before);
        self.lost(lost);
        skipped
    }

    /// After a gap or nonsense between frames: tells the inner task at once, and goes on with the next frame, which `find`
    /// recognises as in [`Stream::resync`]. Of all that is passed over until then, the inner task is told as well: it may be
    /// what the other side waits for.
    pub async fn resync(&self, packed: &mut Stream, find: impl Fn(&[u8]) -> Option<usize>) {
        let mut noted = packed.gap();
        self.lost(noted);
        self.gap(None).await;
        loop {
            let (lost, more) = match packed.seek(&find).await {
                Sought::Passed { lost } => (lost, true),
                Sought::Found { passed: 0 } | Sought::Ended => return,
                Sought::Found { .. } => (0, false),
            };
            self.lost(lost.saturating_sub(std::mem::take(&mut noted)));
            self.gap(None).await;
            if !more {
                return;
            }
        }
    }

    fn lost(&self, bytes: u64) {
        self.wire.lost.set(self.wire.lost.get().saturating_add(bytes));
    }
}

impl Wire {
    /// The inner stream's next message begins: `fresh` with the frame, else behind what was unpacked so far.
    pub(crate) fn begin_message(&self, fresh: bool) {
        let mut packed = self.packed.borrow_mut();
        let (position, start_ns) = if fresh { self.frame.get() } else { packed.here() };
        packed.begin_message(position, start_ns);
        // What was unpacked has been read already.
        packed.pass(0);
    }

    /// The message being read goes on behind a gap.
    pub(crate) fn note_losses(&self) {
        self.packed.borrow_mut().add_lost(self.lost.take());
    }
}

impl Stream {
    /// From here on reads an inner stream: `unpack` takes frames from this side and gives what is in them, `read` is the
    /// task of the inner stream. Ends when either task does.
    pub async fn unpack<U, R>(&mut self, unpack: impl FnOnce(Stream, Unpacked) -> U, read: impl FnOnce(Stream) -> R)
    where
        U: Future<Output = Result<(), Break>>,
        R: Future<Output = Result<(), Break>>,
    {
        // Demands of the inner stream are of no use: what it gives up is counted below.
        let output = Rc::new(RefCell::new(no_output()));
        let inner = Rc::new(RefCell::new(Inbox::new(0, 0, Rc::clone(&output))));
        let wire = Rc::new(Wire { packed: Rc::clone(&self.inbox), frame: Cell::default(), lost: Cell::new(0) });
        let given = Rc::new(Cell::new(false));
        let unpacked = Unpacked { wire: Rc::clone(&wire), inner: Rc::clone(&inner), given: Rc::clone(&given) };
        let mut unpack = pin!(unpack(Stream::of(Rc::clone(&self.inbox)), unpacked));
        let mut read = pin!(read(Stream { inbox: Rc::clone(&inner), wire: Some(Rc::clone(&wire)) }));
        let mut counted = self.inbox.borrow().read_bytes();
        poll_fn(|context| {
            loop {
                let over = unpack.as_mut().poll(context).is_ready();
                if !given.get() && !over {
                    return Poll::Pending;
                }
                if over {
                    let (time_ns, cut) = (self.inbox.borrow().time_ns(), self.inbox.borrow().is_cut());
                    inner.borrow_mut().ended(None, time_ns, cut);
                }
                let length = inner.borrow().unread() as u64;
                let done = read.as_mut().poll(context).is_ready();
                inner.borrow_mut().release();
                // The frame's share of what was given up of its content.
                let mut output = output.borrow_mut();
                let undecoded = std::mem::take(&mut output.undecoded_bytes);
                (output.demand_connections, output.demand_kinds, output.demand_positions) = Default::default();
                let read = self.inbox.borrow().read_bytes();
                let bytes = read.saturating_sub(counted);
                counted = read;
                if undecoded > 0 && length > 0 {
                    self.inbox.borrow_mut().count_undecoded(bytes.saturating_mul(undecoded.min(length)) / length);
                }
                given.set(false);
                if done || over {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }
}
