//! One side of a connection, read as a stream: bounded reads that wait for what has not been captured yet.
//!
//! Every read either consumes what it returns, or says why it cannot ([`Break`]). A read that fails for length has
//! consumed what it looked at, and [`Stream::resync`] gives up what was looked at and not consumed, at least the first byte
//! of a message that was begun, so that a loop of read and resync always moves on.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use crate::bindings::podtap::decoder::types::Output;
use crate::delimiter::Delimiter;
use crate::packed::Wire;

/// Bit of entry and demand kinds: of the server's side.
pub(crate) const FROM_SERVER: u8 = 128;
const DEMAND_SKIP: u8 = 0;
const DEMAND_IGNORE: u8 = 1;
const DEMAND_DETECT: u8 = 2;

/// Below this, asking podtap to leave bytes out costs more than passing them over.
const WORTH_A_DEMAND: u64 = 2048;

/// Why a read did not give what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Bytes are missing here: the capture lost them. [`Stream::resync`] goes on behind them.
    Gap,
    /// The side has ended.
    End,
    /// The end of what was looked for did not come within the limit, or what came made no sense to the caller.
    Malformed,
}

/// Time, size and loss of the message being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) bytes: u64,
    pub(crate) lost_bytes: u64,
}

/// What follows the unread bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interrupt {
    Gap(u64),
    End,
}

/// What the tasks and podtap share of one side.
#[derive(Debug)]
pub(crate) struct Inbox {
    connection: u32,
    side: u8,
    output: Rc<RefCell<Output>>,
    /// Unread bytes of earlier batches; they come before the chunk.
    carry: Vec<u8>,
    /// When the first of them came.
    carry_ns: u64,
    /// The chunk being read: `batch[start..end]`; none between entries.
    batch: Option<Rc<Vec<u8>>>,
    start: usize,
    end: usize,
    time_ns: u64,
    /// The first entry has come. It says where the stream begins: for a connection seen from its middle, anywhere.
    started: bool,
    /// Stream position of the next unread byte.
    position: u64,
    /// Data may be left out up to here: podtap was asked to.
    skip_to: u64,
    /// Bytes that have come, so without those in gaps and those left out.
    come: u64,
    /// Of these, those that were given up.
    given_up: u64,
    /// Bytes in gaps so far.
    lost: Rc<Cell<u64>>,
    interrupt: Option<Interrupt>,
    /// The side's end is none: the connection is over without it.
    cut: bool,
    /// Up to here bytes were looked at, or the first one of a message was: [`Inbox::resync`] gives them up, so that it moves
    /// on even where nothing was consumed.
    looked_to: u64,
    message_position: u64,
    message: Span,
    /// What [`Inbox::read_bytes`] was when the message being read began.
    message_read: u64,
    /// Another protocol begins here.
    pub(crate) handed_over: bool,
}

impl Inbox {
    pub(crate) fn new(connection: u32, side: u8, output: Rc<RefCell<Output>>) -> Inbox {
        Inbox {
            connection,
            side,
            output,
            carry: Vec::new(),
            carry_ns: 0,
            batch: None,
            start: 0,
            end: 0,
            time_ns: 0,
            started: false,
            position: 0,
            skip_to: 0,
            come: 0,
            given_up: 0,
            lost: Rc::default(),
            interrupt: None,
            cut: false,
            looked_to: 0,
            message_position: 0,
            message: Span::default(),
            message_read: 0,
            handed_over: false,
        }
    }

    /// A chunk has come. podtap leaves out only what it was asked to; then the position is ahead.
    pub(crate) fn data(&mut self, batch: &Rc<Vec<u8>>, start: usize, end: usize, position: u64, time_ns: u64) {
        self.start_at(position);
        self.advance_to(position);
        self.batch = Some(Rc::clone(batch));
        (self.start, self.end) = (start, end);
        self.come += (end - start) as u64;
        self.time_ns = time_ns;
    }

    /// Lets go of the chunk; what the task did not read of it is undecoded, or of another protocol.
    pub(crate) fn release(&mut self) {
        let left = self.end - self.start;
        if left > 0 && !self.handed_over {
            self.give_up(left as u64);
        }
        self.batch = None;
        (self.start, self.end) = (0, 0);
    }

    /// podtap has left out what comes before the position, if it was asked to.
    fn advance_to(&mut self, position: u64) {
        if self.carry.is_empty() && position > self.position && position <= self.skip_to {
            self.position = position;
        }
    }

    fn start_at(&mut self, position: u64) {
        if !std::mem::replace(&mut self.started, true) {
            self.position = position;
        }
    }

    pub(crate) fn gap(&mut self, length: u64, position: u64, time_ns: u64) {
        self.start_at(position);
        let earlier = match self.interrupt {
            Some(Interrupt::Gap(earlier)) => earlier,
            Some(Interrupt::End) => return,
            None => {
                self.advance_to(position);
                0
            }
        };
        self.interrupt = Some(Interrupt::Gap(earlier.saturating_add(length)));
        self.lost.set(self.lost.get().saturating_add(length));
        self.time_ns = time_ns;
    }

    /// The side sends no more. Only in the entry `end` is it said at which position.
    pub(crate) fn ended(&mut self, position: Option<u64>, time_ns: u64, cut: bool) {
        if self.interrupt != Some(Interrupt::End) {
            if self.interrupt.is_none()
                && let Some(position) = position
            {
                self.advance_to(position);
            }
            self.interrupt = Some(Interrupt::End);
            self.cut = cut;
            self.time_ns = time_ns;
        }
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    /// The message being read, so far.
    #[inline(always)]
    pub(crate) fn span(&self) -> Span {
        Span { bytes: self.position.saturating_sub(self.message_position), ..self.message }
    }

    fn give_up(&mut self, bytes: u64) {
        self.count_undecoded(bytes);
        self.given_up += bytes;
        self.position += bytes;
    }

    pub(crate) fn count_undecoded(&mut self, bytes: u64) {
        let mut output = self.output.borrow_mut();
        output.undecoded_bytes = output.undecoded_bytes.saturating_add(bytes);
    }

    /// Time of the chunk being read, or of what came last.
    pub(crate) fn time_ns(&self) -> u64 {
        self.time_ns
    }

    /// Of the bytes that have come, those that were read and not given up.
    #[inline(always)]
    pub(crate) fn read_bytes(&self) -> u64 {
        self.come.saturating_sub((self.chunk().len() + self.carry.len()) as u64 + self.given_up)
    }

    /// Position and time of what is read next.
    pub(crate) fn here(&self) -> (u64, u64) {
        (self.position, if self.carry.is_empty() { self.time_ns } else { self.carry_ns })
    }

    /// As [`Inbox::here`], once there is a byte.
    pub(crate) fn next_byte(&mut self) -> Poll<Result<(u64, u64), Break>> {
        match (self.carry.is_empty() && self.chunk().is_empty(), self.interrupted()) {
            (false, _) => Poll::Ready(Ok(self.here())),
            (true, Some(why)) => Poll::Ready(Err(why)),
            (true, None) => Poll::Pending,
        }
    }

    /// Have bytes come that are no whole message yet?
    pub(crate) fn is_in_message(&self) -> bool {
        !self.carry.is_empty()
    }

    /// Bytes of the chunk that are not read yet.
    pub(crate) fn unread(&self) -> usize {
        self.chunk().len()
    }

    /// Nothing of the chunk was read.
    fn is_fresh(&self) -> bool {
        self.start == 0 && self.carry.is_empty()
    }

    #[inline(always)]
    pub(crate) fn begin_message(&mut self, position: u64, start_ns: u64) {
        self.message_position = position;
        self.message = Span { start_ns, ..Span::default() };
    }

    /// What was read of the message being read is of no exchange.
    fn give_up_message(&mut self) {
        let bytes = self.read_bytes().saturating_sub(self.message_read);
        if bytes > 0 {
            self.count_undecoded(bytes);
            self.given_up += bytes;
        }
    }

    pub(crate) fn add_lost(&mut self, bytes: u64) {
        self.message.lost_bytes = self.message.lost_bytes.saturating_add(bytes);
    }

    /// Takes back what was noted as lost beyond `before`.
    pub(crate) fn take_lost(&mut self, before: u64) -> u64 {
        std::mem::replace(&mut self.message.lost_bytes, before).saturating_sub(before)
    }

    /// The next `length` bytes were asked to be left out.
    pub(crate) fn passes_over(&self, length: u64) -> bool {
        self.carry.is_empty() && self.interrupt.is_none() && self.position.saturating_add(length) <= self.skip_to
    }

    pub(crate) fn pass(&mut self, length: u64) {
        self.consumed(length);
    }

    fn demand(&mut self, kind: u8, position: u64) {
        let mut output = self.output.borrow_mut();
        output.demand_connections.push(self.connection);
        output.demand_kinds.push(kind | self.side);
        output.demand_positions.push(position);
    }

    #[inline(always)]
    fn chunk(&self) -> &[u8] {
        self.batch.as_ref().and_then(|batch| batch.get(self.start..self.end)).unwrap_or_default()
    }

    /// `bytes` more were consumed, the last of them from the chunk.
    #[inline(always)]
    fn consumed(&mut self, bytes: u64) {
        self.position += bytes;
        self.message.end_ns = self.time_ns;
    }

    #[inline(always)]
    fn interrupted(&self) -> Option<Break> {
        self.interrupt.map(|interrupt| match interrupt {
            Interrupt::Gap(_) => Break::Gap,
            Interrupt::End => Break::End,
        })
    }

    #[inline(always)]
    fn message(&mut self) -> Poll<Result<(), Break>> {
        // Whatever the last one was, it was read to its end.
        self.message_read = self.read_bytes();
        // What a broken read has left in the carry begins no message.
        let start_ns = match (self.carry.is_empty(), self.chunk().is_empty(), self.interrupted()) {
            (_, true, Some(why)) => return Poll::Ready(Err(why)),
            (true, true, None) => return Poll::Pending,
            (true, false, _) => self.time_ns,
            (false, ..) => self.carry_ns,
        };
        self.begin_message(self.position, start_ns);
        self.looked_to = self.looked_to.max(self.position + 1);
        Poll::Ready(Ok(()))
    }

    /// Moves up to `length` bytes of the chunk behind the carry; the number of them.
    fn keep(&mut self, length: usize) -> usize {
        let chunk = self.batch.as_ref().and_then(|batch| batch.get(self.start..self.end)).unwrap_or_default();
        let visible = chunk.get(..length).unwrap_or(chunk);
        if self.carry.is_empty() {
            self.carry_ns = self.time_ns;
        }
        self.carry.extend_from_slice(visible);
        self.start += visible.len();
        visible.len()
    }

    /// Consumes `length` bytes of the carry, the last `kept` of which came with this chunk: what remains of those goes
    /// back to it.
    fn consume_carry(&mut self, length: usize, kept: usize) {
        let behind = (self.carry.len() - length).min(kept);
        self.start -= behind;
        self.carry.truncate(self.carry.len() - behind);
        self.carry.drain(..length);
        self.consumed(length as u64);
    }

    /// Consumes the piece that `end` finds and gives what `read` makes of it.
    fn until<T>(
        &mut self,
        end: &impl Delimiter,
        max: usize,
        scanned: &mut usize,
        read: &mut Option<impl FnOnce(&[u8]) -> T>,
    ) -> Poll<Result<T, Break>> {
        if self.carry.is_empty() {
            // The common way: all of it in this chunk, nothing is copied.
            let chunk = self.chunk();
            let visible = chunk.get(..max).unwrap_or(chunk);
            if let Some(length) = end.end(visible, *scanned) {
                let length = length.min(visible.len());
                let value = read.take().map(|read| read(&visible[..length]));
                self.start += length;
                self.consumed(length as u64);
                return Poll::Ready(value.ok_or(Break::Malformed));
            }
        }
        let had = self.carry.len();
        let kept = self.keep(max.saturating_sub(had));
        let visible = self.carry.get(..max).unwrap_or(&self.carry);
        if had > 0
            && let Some(length) = end.end(visible, *scanned)
        {
            let length = length.min(visible.len());
            let value = read.take().map(|read| read(&visible[..length]));
            self.consume_carry(length, kept);
            return Poll::Ready(value.ok_or(Break::Malformed));
        }
        *scanned = self.carry.len();
        if self.carry.len() >= max {
            self.drop_carry();
            return Poll::Ready(Err(Break::Malformed));
        }
        self.interrupted().map_or(Poll::Pending, |why| Poll::Ready(Err(why)))
    }

    /// Consumes what `read` makes of the chunk alone; none where it is incomplete.
    fn parse<T>(
        &mut self,
        max: usize,
        read: &mut impl FnMut(&[u8]) -> Option<(usize, T)>,
    ) -> Poll<Result<Option<T>, Break>> {
        if !self.carry.is_empty() {
            return Poll::Ready(Ok(None));
        }
        let chunk = self.chunk();
        if chunk.is_empty() {
            return self.interrupted().map_or(Poll::Pending, |why| Poll::Ready(Err(why)));
        }
        let visible = chunk.get(..max).unwrap_or(chunk);
        let Some((length, value)) = read(visible) else { return Poll::Ready(Ok(None)) };
        let length = length.min(visible.len());
        self.start += length;
        self.consumed(length as u64);
        Poll::Ready(Ok(Some(value)))
    }

    /// Gives what `read` makes of up to `length` bytes, consuming none. Fewer only where no more will come.
    fn peek<T>(&mut self, length: usize, read: &mut Option<impl FnOnce(&[u8]) -> T>) -> Poll<Result<T, Break>> {
        let visible = match self.chunk().get(..length) {
            Some(visible) if self.carry.is_empty() => visible,
            _ => {
                self.keep(length.saturating_sub(self.carry.len()));
                match (self.carry.get(..length), self.interrupted()) {
                    (Some(visible), _) => visible,
                    (None, None) => return Poll::Pending,
                    (None, Some(why)) if self.carry.is_empty() => return Poll::Ready(Err(why)),
                    (None, Some(_)) => &self.carry,
                }
            }
        };
        let looked_to = self.position + visible.len() as u64;
        let value = read.take().map(|read| read(visible));
        self.looked_to = self.looked_to.max(looked_to);
        Poll::Ready(value.ok_or(Break::Malformed))
    }

    /// Consumes what is there, up to `max` bytes.
    fn piece<T>(&mut self, max: usize, read: &mut Option<impl FnOnce(&[u8]) -> T>) -> Poll<Result<T, Break>> {
        let (bytes, carried) =
            if self.carry.is_empty() { (self.chunk(), false) } else { (self.carry.as_slice(), true) };
        if bytes.is_empty() && max > 0 {
            return self.interrupted().map_or(Poll::Pending, |why| Poll::Ready(Err(why)));
        }
        let bytes = bytes.get(..max).unwrap_or(bytes);
        let length = bytes.len();
        let value = read.take().map(|read| read(bytes));
        if carried {
            self.consume_carry(length, 0);
        } else {
            self.start += length;
            self.consumed(length as u64);
        }
        Poll::Ready(value.ok_or(Break::Malformed))
    }

    fn drop_carry(&mut self) {
        let bytes = self.carry.len() as u64;
        self.carry.clear();
        if bytes > 0 {
            self.give_up(bytes);
        }
    }

    /// Passes over everything before stream position `target`; gaps in it are losses, not breaks.
    fn skip(&mut self, target: u64) -> Poll<Result<(), Break>> {
        if !self.carry.is_empty() {
            let wanted = target.saturating_sub(self.position).min(self.carry.len() as u64);
            self.consume_carry(wanted as usize, 0);
        }
        let unread = self.chunk().len() as u64;
        let wanted = target.saturating_sub(self.position);
        if wanted <= unread {
            self.start += wanted as usize;
            if wanted > 0 {
                self.consumed(wanted);
            }
            return Poll::Ready(Ok(()));
        }
        self.start = self.end;
        if unread > 0 {
            self.consumed(unread);
        }
        match self.interrupt {
            Some(Interrupt::Gap(length)) => {
                let inside = length.min(target - self.position);
                self.message.lost_bytes += inside;
                self.consumed(inside);
                self.interrupt = (length > inside).then_some(Interrupt::Gap(length - inside));
                if self.position == target {
                    return Poll::Ready(Ok(()));
                }
            }
            Some(Interrupt::End) => return Poll::Ready(Err(Break::End)),
            None => {}
        }
        // The last byte is asked for, so that its time is seen.
        if target - self.position > WORTH_A_DEMAND && self.skip_to < target - 1 {
            self.skip_to = target - 1;
            self.demand(DEMAND_SKIP, target - 1);
        }
        Poll::Pending
    }

    /// Passes over everything up to the end of the side.
    fn rest(&mut self, begin: u64) -> Poll<u64> {
        if !self.carry.is_empty() {
            self.consume_carry(self.carry.len(), 0);
        }
        let unread = self.chunk().len() as u64;
        self.start = self.end;
        if unread > 0 {
            self.consumed(unread);
        }
        match self.interrupt {
            Some(Interrupt::Gap(length)) => {
                self.message.lost_bytes += length;
                self.position += length;
                self.interrupt = None;
                Poll::Pending
            }
            Some(Interrupt::End) => Poll::Ready(self.position - begin),
            None => Poll::Pending,
        }
    }

    fn resync(&mut self, find: &impl Fn(&[u8]) -> Option<usize>) -> Poll<Sought> {
        let mut dropped = self.carry.len() as u64;
        self.drop_carry();
        let looked = self.looked_to.saturating_sub(self.position).min(self.chunk().len() as u64);
        self.start += looked as usize;
        self.give_up(looked);
        dropped += looked;
        let unread = self.chunk().len();
        if unread > 0 {
            let found = find(self.chunk());
            let passed = found.map_or(unread, |at| at.min(unread));
            self.start += passed;
            self.give_up(passed as u64);
            return Poll::Ready(match found {
                Some(_) => Sought::Found { passed: dropped + passed as u64 },
                None => Sought::Passed { lost: 0 },
            });
        }
        match self.interrupt {
            Some(Interrupt::Gap(length)) => {
                self.position += length;
                self.interrupt = None;
                Poll::Ready(Sought::Passed { lost: length })
            }
            Some(Interrupt::End) => Poll::Ready(Sought::Ended),
            None => Poll::Pending,
        }
    }
}

/// What a step of [`Stream::resync`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sought {
    /// A message begins, behind so many bytes given up.
    Found { passed: u64 },
    /// Not yet: what there was is given up, of that so many bytes that were not captured.
    Passed { lost: u64 },
    /// The side has ended.
    Ended,
}

/// What was lost of a side; see [`Stream::losses`].
#[derive(Clone, Debug, Default)]
pub struct Losses(Rc<Cell<u64>>);

impl Losses {
    /// Bytes in gaps so far, from the connection's beginning.
    pub fn bytes(&self) -> u64 {
        self.0.get()
    }
}

/// One side of a connection. Its methods are the only things a task awaits.
#[derive(Debug)]
pub struct Stream {
    pub(crate) inbox: Rc<RefCell<Inbox>>,
    /// Of an inner stream: that of the side, on which messages are measured.
    pub(crate) wire: Option<Rc<Wire>>,
}

impl Stream {
    pub(crate) fn of(inbox: Rc<RefCell<Inbox>>) -> Stream {
        Stream { inbox, wire: None }
    }

    /// Waits for the first byte of the next message and starts to measure it: its time, its size, its losses.
    #[inline(always)]
    pub fn message(&mut self) -> impl Future<Output = Result<(), Break>> {
        poll_fn(|_| {
            let mut inbox = self.inbox.borrow_mut();
            let begun = inbox.message();
            if let (Poll::Ready(Ok(())), Some(wire)) = (&begun, &self.wire) {
                wire.begin_message(inbox.is_fresh());
            }
            begun
        })
    }

    /// Reads up to and including a delimiter, of at most `max` bytes in all, and gives what `read` makes of them. A
    /// piece that arrived in one segment is not copied.
    ///
    /// # Errors
    /// [`Break::Malformed`] when the delimiter is not within `max` bytes.
    pub async fn until<T>(
        &mut self,
        end: impl Delimiter,
        max: usize,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Break> {
        let (mut scanned, mut read) = (0, Some(read));
        poll_fn(|_| self.inbox.borrow_mut().until(&end, max, &mut scanned, &mut read)).await
    }

    /// As [`Stream::until`], for a piece whose end shows only in reading it: `read` gives its length and what it makes of
    /// it, or none while it is incomplete. What arrived in one segment is then looked at once; only otherwise is `end`
    /// asked, and `read` called again when it has found the end.
    pub async fn parse<T>(
        &mut self,
        end: impl Delimiter,
        max: usize,
        mut read: impl FnMut(&[u8]) -> Option<(usize, T)>,
    ) -> Result<T, Break> {
        let at_once = poll_fn(|_| self.inbox.borrow_mut().parse(max, &mut read)).await?;
        match at_once {
            Some(value) => Ok(value),
            None => self.until(end, max, |bytes| read(bytes).map(|(_, value)| value)).await?.ok_or(Break::Malformed),
        }
    }

    /// Reads `length` bytes and gives what `read` makes of them.
    ///
    /// Meant for headers: the bytes are kept until all have come. For long payload use [`Stream::skip`].
    ///
    /// ```
    /// # use podtap_sdk::{Break, Stream};
    /// async fn length(server: &mut Stream) -> Result<u32, Break> {
    ///     server.exact(4, |bytes| bytes.iter().fold(0, |length, byte| length << 8 | u32::from(*byte))).await
    /// }
    /// ```
    pub async fn exact<T>(&mut self, length: usize, read: impl FnOnce(&[u8]) -> T) -> Result<T, Break> {
        let whole = |bytes: &[u8], _: usize| (bytes.len() >= length).then_some(length);
        self.until(whole, length.saturating_add(1), read).await
    }

    /// Reads a header of `header` bytes together with its payload, whose length `payload` takes from the header, and
    /// gives what `read` makes of both.
    ///
    /// # Errors
    /// [`Break::Malformed`] when they are longer than `max` bytes together; then only the header is consumed.
    pub async fn frame<T>(
        &mut self,
        header: usize,
        payload: impl Fn(&[u8]) -> usize,
        max: usize,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Break> {
        let whole = |bytes: &[u8]| bytes.get(..header).map(|head| header.saturating_add(payload(head)));
        let end = |bytes: &[u8], _: usize| match whole(bytes)? {
            length if length > max => Some(header),
            length => (bytes.len() >= length).then_some(length),
        };
        let read = |bytes: &[u8]| (whole(bytes)? <= max).then(|| read(bytes));
        self.until(end, max.max(header).saturating_add(1), read).await?.ok_or(Break::Malformed)
    }

    /// Looks at the next `length` bytes without consuming them: the next read sees them again. Waits until all have come,
    /// so ask for no more than the message certainly has; they are fewer only where a gap or the side's end comes first. Meant for a few bytes that say what follows; [`Stream::resync`] gives them up.
    pub async fn peek<T>(&mut self, length: usize, read: impl FnOnce(&[u8]) -> T) -> Result<T, Break> {
        let mut read = Some(read);
        poll_fn(|_| self.inbox.borrow_mut().peek(length, &mut read)).await
    }

    /// Reads what has come, at least one byte and at most `max`: for payload that is worked on as it comes.
    pub async fn piece<T>(&mut self, max: usize, read: impl FnOnce(&[u8]) -> T) -> Result<T, Break> {
        let mut read = Some(read);
        poll_fn(|_| self.inbox.borrow_mut().piece(max, &mut read)).await
    }

    /// Reads `N` bytes.
    pub async fn array<const N: usize>(&mut self) -> Result<[u8; N], Break> {
        self.exact(N, |bytes| bytes.first_chunk().copied()).await?.ok_or(Break::Malformed)
    }

    /// Reads a byte.
    pub async fn u8(&mut self) -> Result<u8, Break> {
        self.array().await.map(u8::from_le_bytes)
    }

    /// Reads 2 bytes, the lowest first.
    pub async fn u16_le(&mut self) -> Result<u16, Break> {
        self.array().await.map(u16::from_le_bytes)
    }

    /// Reads 2 bytes, the highest first.
    pub async fn u16_be(&mut self) -> Result<u16, Break> {
        self.array().await.map(u16::from_be_bytes)
    }

    /// Reads 3 bytes, the lowest first.
    pub async fn u24_le(&mut self) -> Result<u32, Break> {
        self.array().await.map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    /// Reads 3 bytes, the highest first.
    pub async fn u24_be(&mut self) -> Result<u32, Break> {
        self.array().await.map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// Reads 4 bytes, the lowest first.
    pub async fn u32_le(&mut self) -> Result<u32, Break> {
        self.array().await.map(u32::from_le_bytes)
    }

    /// Reads 4 bytes, the highest first.
    pub async fn u32_be(&mut self) -> Result<u32, Break> {
        self.array().await.map(u32::from_be_bytes)
    }

    /// Reads 8 bytes, the lowest first.
    pub async fn u64_le(&mut self) -> Result<u64, Break> {
        self.array().await.map(u64::from_le_bytes)
    }

    /// Reads 8 bytes, the highest first.
    pub async fn u64_be(&mut self) -> Result<u64, Break> {
        self.array().await.map(u64::from_be_bytes)
    }

    /// Passes over `length` bytes without looking at them. podtap is told and does not send what it can leave out.
    /// Gaps inside are noted as losses of the message; they do not break the stream.
    ///
    /// ```
    /// # use podtap_sdk::{Break, Stream};
    /// /// A length and so many bytes of a body that nobody looks at.
    /// async fn body(server: &mut Stream) -> Result<(), Break> {
    ///     let length = server.exact(2, |bytes| u16::from_be_bytes([bytes[0], bytes[1]])).await?;
    ///     server.skip(length.into()).await
    /// }
    /// ```
    pub async fn skip(&mut self, length: u64) -> Result<(), Break> {
        let target = self.inbox.borrow().position.saturating_add(length);
        let skipped = poll_fn(|_| self.inbox.borrow_mut().skip(target)).await;
        if let Some(wire) = &self.wire {
            wire.note_losses();
        }
        skipped
    }

    /// Passes over everything until the side ends, and gives the number of bytes, lost ones included. Whether that was all
    /// that the side had to send, [`Stream::is_cut`] says.
    pub async fn rest(&mut self) -> u64 {
        let begin = self.inbox.borrow().position;
        poll_fn(|_| self.inbox.borrow_mut().rest(begin)).await
    }

    /// The side is over, but has not ended: the connection was reset, or podtap sees no more of it. A message that only the
    /// side's end completes is then not complete.
    pub fn is_cut(&self) -> bool {
        self.inbox.borrow().is_cut()
    }

    /// After a gap or nonsense: gives up bytes until `find` sees a message begin. It gets what has come, from a segment's
    /// start or from behind what was read of it, never nothing, and gives an offset in that; a start that is cut by the
    /// segment's end may be missed. What was read of the last message is given up too, and what was peeked at; of
    /// a message that was begun at least the first byte, so that a loop of read and resync moves on. Gives the number of
    /// bytes lost in gaps on the way. Where the side ends first, the next read says so.
    ///
    /// ```
    /// # use podtap_sdk::{Break, Stream};
    /// async fn lines(mut client: Stream) -> Result<(), Break> {
    ///     loop {
    ///         match client.until(b"\n", 1024, |_| ()).await {
    ///             Err(Break::Gap | Break::Malformed) => {
    ///                 client.resync(|bytes| bytes.starts_with(b"GET ").then_some(0)).await;
    ///             }
    ///             read => read?,
    ///         }
    ///     }
    /// }
    /// ```
    pub async fn resync(&mut self, find: impl Fn(&[u8]) -> Option<usize>) -> u64 {
        self.give_up_message();
        self.look_for(&find).await
    }

    /// What was read of the message being read is of no exchange: it is undecoded.
    pub(crate) fn give_up_message(&self) {
        self.inbox.borrow_mut().give_up_message();
    }

    /// As [`Stream::resync`], where what was read is of an exchange, or of none that is to be counted.
    pub(crate) async fn look_for(&mut self, find: &impl Fn(&[u8]) -> Option<usize>) -> u64 {
        let mut lost_bytes = 0;
        while let Sought::Passed { lost } = self.seek(find).await {
            lost_bytes += lost;
        }
        lost_bytes
    }

    /// A step of [`Stream::resync`].
    pub(crate) async fn seek(&mut self, find: &impl Fn(&[u8]) -> Option<usize>) -> Sought {
        let sought = poll_fn(|_| self.inbox.borrow_mut().resync(find)).await;
        match (sought, &self.wire) {
            (Sought::Passed { .. }, Some(wire)) => Sought::Passed { lost: wire.lost.take() },
            (sought, _) => sought,
        }
    }

    /// How much of this side is lost, from now on at any time: for what a decoder remembers from one message to others.
    pub fn losses(&self) -> Losses {
        Losses(Rc::clone(&self.inbox.borrow().lost))
    }

    /// Asks podtap to send no more of this connection, in either direction. What is under way already still comes: have the
    /// other side's task end (`Err(Break::End)`), and end this one by [`Stream::rest`].
    pub fn ignore_connection(&self) {
        self.side().borrow_mut().demand(DEMAND_IGNORE, 0);
    }

    /// Tells podtap that another protocol begins with the next byte of this side: it detects it anew. For this decoder
    /// the connection is over, and neither task runs again.
    pub fn hand_over(&self) {
        let mut inbox = self.side().borrow_mut();
        let position = inbox.position;
        inbox.handed_over = true;
        inbox.demand(DEMAND_DETECT, position);
    }

    pub(crate) fn span(&self) -> Span {
        self.side().borrow().span()
    }

    /// The side that the bytes came from.
    fn side(&self) -> &Rc<RefCell<Inbox>> {
        self.wire.as_ref().map_or(&self.inbox, |wire| &wire.packed)
    }

    /// The length of the gap that the stream is broken by now.
    pub(crate) fn gap(&self) -> u64 {
        if let Some(wire) = &self.wire {
            return wire.lost.get();
        }
        match self.inbox.borrow().interrupt {
            Some(Interrupt::Gap(length)) => length,
            _ => 0,
        }
    }
}
