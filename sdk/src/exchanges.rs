//! Exchanges as they are put together, and their report; [`in_order`] and [`by_id`] find the exchange that a response
//! belongs to.

pub(crate) mod by_id;
pub(crate) mod in_order;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::bindings::podtap::decoder::types::Output;
use crate::fields::{Field, Settable};
use crate::stream::{Break, Inbox, Span, Stream};

/// Requests of one connection that may wait for their responses, in order; with one more, the oldest is given up as if it
/// had none.
pub const MAX_WAITING: usize = 4096;

/// The same where responses name their requests.
pub const MAX_WAITING_BY_ID: usize = 256;

/// Exchanges of all connections of an instance that may be open; beyond, a connection gives up its oldest for a new one.
pub const MAX_OPEN: usize = 32 * 1024;

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server did what was asked.
    Ok,
    /// The server answered that it did not.
    Error,
}

/// Outcomes as numbered in the contract.
mod code {
    pub(super) const OK: u8 = 0;
    pub(super) const ERROR: u8 = 1;
    pub(super) const NO_RESPONSE: u8 = 2;
    pub(super) const ABORTED: u8 = 3;
    pub(super) const UNMATCHED: u8 = 4;
}

/// An exchange that is being put together: its fields, and `state` of the decoder's own.
#[derive(Debug, Default)]
pub struct Exchange<T> {
    /// What the decoder must remember from request to response.
    pub state: T,
    protocol: u8,
    /// Operation, target and summary, joined.
    head: Vec<u8>,
    head_lengths: [u32; 3],
    text: Vec<u8>,
    ids: Vec<u16>,
    values: Vec<u64>,
    /// Bit n: a field n, n + 64, ... has a value.
    taken: u64,
    request: Option<Span>,
    request_open: bool,
    answering: bool,
    /// A request that stands behind a loss, or anything that was reported while order was lost.
    order_lost: bool,
    left_out: bool,
    lost_bytes: u64,
}

impl<T> Exchange<T> {
    /// Is this only half of an exchange because a loss made it unknowable which response answers which request?
    pub fn is_order_lost(&self) -> bool {
        self.order_lost
    }

    /// The protocol, as an index into [`crate::Descriptor::protocols`]; 0 unless said.
    pub fn protocol(&mut self, index: u8) {
        self.protocol = index;
    }

    /// Operation (low cardinality: `GET`, `SELECT`), target (what it acts on) and summary (one line for a person; empty:
    /// operation and target joined). A later call replaces an earlier one.
    pub fn describe(&mut self, operation: &[u8], target: &[u8], summary: &[u8]) {
        self.head.clear();
        self.head.extend_from_slice(operation);
        self.head.extend_from_slice(target);
        self.head.extend_from_slice(summary);
        self.head_lengths = [operation.len() as u32, target.len() as u32, summary.len() as u32];
    }

    /// Sets a field. The first value stays: a second one is left out.
    #[inline]
    pub fn set<K>(&mut self, field: Field<K>, value: impl Settable<K>) {
        // Fields 64 apart share a bit, so a set bit only says where to look.
        let bit = 1 << (field.id % 64);
        if self.taken & bit == 0 || !self.ids.contains(&field.id) {
            self.taken |= bit;
            self.ids.push(field.id);
            self.values.push(value.put(&mut self.text));
        }
    }

    /// Does a field have a value?
    pub fn has<K>(&self, field: Field<K>) -> bool {
        self.taken & (1 << (field.id % 64)) != 0 && self.ids.contains(&field.id)
    }

    /// Something that was lost before it would have told more of it, such as the statement that it executes: it is reported
    /// as one of which bytes were lost; at least one, as nobody knows how many.
    pub fn lacks_earlier(&mut self) {
        self.lost_bytes += 1;
    }

    /// The exchange is not worth an event: nothing of it is reported, however it ends.
    pub fn leave_out(&mut self) {
        self.left_out = true;
    }

    /// Its request is the message that the client's stream has begun.
    fn open_request(&mut self) {
        self.request_open = true;
        self.request = Some(Span::default());
    }

    /// Its request is as long as the client's stream has come.
    fn close_request(&mut self, span: Span) {
        self.request_open = false;
        self.request = Some(span);
    }

    /// Makes it new, with its buffers kept.
    fn reset(&mut self)
    where
        T: Default,
    {
        self.state = T::default();
        self.protocol = 0;
        self.head.clear();
        self.head_lengths = [0; 3];
        self.text.clear();
        self.ids.clear();
        self.values.clear();
        self.taken = 0;
        self.request = None;
        self.request_open = false;
        self.answering = false;
        self.order_lost = false;
        self.left_out = false;
        self.lost_bytes = 0;
    }
}

/// Makes exchanges new and reports them.
#[derive(Debug)]
struct Report<T> {
    connection: u32,
    output: Rc<RefCell<Output>>,
    client: Rc<RefCell<Inbox>>,
    /// Called for each exchange before it is reported.
    complete: fn(&mut Exchange<T>),
    /// In boxes, which move for less than their content.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Exchange<T>>>,
    /// Lost outside any exchange, to be noted in the next one.
    lost_bytes: u64,
    /// Exchanges that are open, of all connections of the instance.
    open: Rc<Cell<usize>>,
}

impl<T: Default> Report<T> {
    fn new(
        connection: u32,
        output: Rc<RefCell<Output>>,
        client: Rc<RefCell<Inbox>>,
        complete: fn(&mut Exchange<T>),
        open: Rc<Cell<usize>>,
    ) -> Report<T> {
        Report { connection, output, client, complete, spare: Vec::new(), lost_bytes: 0, open }
    }

    fn fresh(&mut self) -> Box<Exchange<T>> {
        let mut exchange = self.spare.pop().unwrap_or_default();
        exchange.lost_bytes = std::mem::take(&mut self.lost_bytes);
        self.open.set(self.open.get() + 1);
        exchange
    }

    /// Is there no room for one more, with so many of this connection?
    fn is_full(&self, waiting: usize, most: usize) -> bool {
        waiting >= most || (waiting > 0 && self.open.get() >= MAX_OPEN)
    }

    fn emit(&mut self, mut exchange: Box<Exchange<T>>, response: Option<Span>, outcome: u8) {
        self.open.set(self.open.get().saturating_sub(1));
        if exchange.left_out {
            return self.keep(exchange);
        }
        (self.complete)(&mut exchange);
        if exchange.request_open {
            exchange.request = Some(Span { end_ns: 0, ..self.client.borrow().span() });
        }
        let request = exchange.request.unwrap_or_default();
        let response = response.unwrap_or_default();
        let mut output = self.output.borrow_mut();
        output.exchange_connections.push(self.connection);
        output.protocols.push(exchange.protocol);
        output.outcomes.push(outcome);
        output.times.extend([request.start_ns, request.end_ns, response.start_ns, response.end_ns]);
        let lost = exchange.lost_bytes + request.lost_bytes + response.lost_bytes;
        output.sizes.extend([request.bytes, response.bytes, lost]);
        output.text_lengths.extend(exchange.head_lengths);
        output.text.extend_from_slice(&exchange.head);
        output.attribute_counts.push(exchange.ids.len() as u16);
        output.attribute_ids.extend_from_slice(&exchange.ids);
        output.attribute_values.extend_from_slice(&exchange.values);
        output.text.extend_from_slice(&exchange.text);
        drop(output);
        self.keep(exchange);
    }

    fn keep(&mut self, mut exchange: Box<Exchange<T>>) {
        if self.spare.len() < 4 {
            exchange.reset();
            self.spare.push(exchange);
        }
    }

    fn give_up(&mut self, exchange: Box<Exchange<T>>, response: Option<Span>, reset: bool) {
        let outcome = match (&exchange.request, exchange.answering || reset || exchange.request_open) {
            (None, _) => code::UNMATCHED,
            (_, true) => code::ABORTED,
            (_, false) => code::NO_RESPONSE,
        };
        self.emit(exchange, response, outcome);
    }

    fn finish(&mut self, exchange: Box<Exchange<T>>, response: Option<Span>, outcome: Outcome) {
        let code = match outcome {
            _ if exchange.request.is_none() => code::UNMATCHED,
            Outcome::Ok => code::OK,
            Outcome::Error => code::ERROR,
        };
        self.emit(exchange, response, code);
    }
}

/// What podtap_sdk does itself at the end of a connection, for any `T`.
pub(crate) trait Close {
    /// Reports every exchange that is still open.
    fn close(&self, reset: bool, server: &Inbox);
}

/// Messages of a side, one after another until it ends; where its stream breaks, `resync` finds the next one.
async fn messages<F: Fn(&[u8]) -> Option<usize>>(
    mut stream: Stream,
    find: F,
    mut read: impl AsyncFnMut(&mut Stream) -> Result<(), Break>,
    resync: impl AsyncFn(&mut Stream, &F),
) -> Result<(), Break> {
    loop {
        match read(&mut stream).await {
            Ok(()) => {}
            Err(Break::End) => return Err(Break::End),
            Err(Break::Gap | Break::Malformed) => resync(&mut stream, &find).await,
        }
    }
}
