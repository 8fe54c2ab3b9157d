//! Pairs requests with responses in order, and keeps their times, sizes and losses.
//!
//! ```text
//!   request() ──> waiting ──response()──> answering ──finish()──> emitted
//!                    │                        │
//!                    └────── close ───────────┴──> no_response, aborted
//! ```
//!
//! Invariant: only the front of the queue is being answered; only its back may have an unfinished request.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::bindings::podtap::decoder::types::Output;
use crate::fields::{Field, Settable};
use crate::stream::{Inbox, Span, Stream};

/// Requests of one connection that may wait for their responses; with one more, the oldest is given up.
pub const MAX_WAITING: usize = 256;

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
    /// Bit n: a field n, n + 128, ... has a value.
    taken: u128,
    request: Option<Span>,
    request_open: bool,
    answering: bool,
    lost_bytes: u64,
}

impl<T> Exchange<T> {
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
        // Fields 128 apart share a bit, so a set bit only says where to look.
        let bit = 1 << (field.id % 128);
        if self.taken & bit == 0 || !self.ids.contains(&field.id) {
            self.taken |= bit;
            self.ids.push(field.id);
            self.values.push(value.put(&mut self.text));
        }
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
        self.lost_bytes = 0;
    }
}

#[derive(Debug)]
struct Pairing<T> {
    connection: u32,
    output: Rc<RefCell<Output>>,
    client: Rc<RefCell<Inbox>>,
    /// In boxes, which move for less than their content.
    waiting: VecDeque<Box<Exchange<T>>>,
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Exchange<T>>>,
    /// Lost outside any exchange, to be noted in the next one.
    lost_bytes: u64,
    /// Several requests have waited at once: order alone pairs them, so a loss makes it unknowable.
    pipelined: bool,
    /// Order was lost while pipelining: responses are reported without a request.
    unpaired: bool,
    /// The server's stream is broken, and its next response not found yet.
    searching: bool,
}

impl<T: Default> Pairing<T> {
    fn fresh(&mut self) -> Box<Exchange<T>> {
        let mut exchange = self.spare.pop().unwrap_or_default();
        exchange.lost_bytes = std::mem::take(&mut self.lost_bytes);
        exchange
    }

    fn emit(&mut self, mut exchange: Box<Exchange<T>>, response: Option<Span>, outcome: u8) {
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
        if self.spare.len() < 4 {
            exchange.reset();
            self.spare.push(exchange);
        }
    }

    /// The front as the one being answered; made up where no request is known.
    fn answering(&mut self) -> &mut Exchange<T> {
        let known = self.waiting.front().is_some_and(|front| front.answering || !self.unpaired);
        if !known {
            let unmatched = self.fresh();
            self.waiting.push_front(unmatched);
        }
        // Not empty: either the front is known, or one was just put there.
        let front = &mut self.waiting[0];
        front.answering = true;
        front
    }

    fn give_up(&mut self, exchange: Box<Exchange<T>>, response: Option<Span>, reset: bool) {
        let outcome = match (&exchange.request, exchange.answering || reset || exchange.request_open) {
            (None, _) => code::UNMATCHED,
            (_, true) => code::ABORTED,
            (_, false) => code::NO_RESPONSE,
        };
        self.emit(exchange, response, outcome);
    }
}

/// The exchanges of one connection, shared by the tasks of its sides. `T` is what the decoder must remember from a
/// request to its response.
#[derive(Debug)]
pub struct Exchanges<T> {
    pairing: Rc<RefCell<Pairing<T>>>,
}

impl<T> Clone for Exchanges<T> {
    fn clone(&self) -> Exchanges<T> {
        Exchanges { pairing: Rc::clone(&self.pairing) }
    }
}

impl<T: Default + 'static> Exchanges<T> {
    pub(crate) fn new(connection: u32, output: Rc<RefCell<Output>>, client: Rc<RefCell<Inbox>>) -> Exchanges<T> {
        let pairing = Pairing {
            connection,
            output,
            client,
            waiting: VecDeque::new(),
            spare: Vec::new(),
            lost_bytes: 0,
            pipelined: false,
            unpaired: false,
            searching: false,
        };
        Exchanges { pairing: Rc::new(RefCell::new(pairing)) }
    }

    /// The message that the client's stream has begun is a request. `fill` sets what is known of it.
    pub fn request<R>(&self, fill: impl FnOnce(&mut Exchange<T>) -> R) -> R {
        let mut pairing = self.pairing.borrow_mut();
        if pairing.waiting.len() >= MAX_WAITING
            && let Some(oldest) = pairing.waiting.pop_front()
        {
            pairing.give_up(oldest, None, false);
            // Its response will come first, and belongs to nobody we know.
            pairing.unpaired = true;
        }
        if pairing.searching && !pairing.pipelined {
            // The client went on: what it asked before was answered, in what was lost.
            while let Some(answered) = pairing.waiting.pop_front() {
                pairing.give_up(answered, None, false);
            }
        }
        let mut exchange = pairing.fresh();
        let value = fill(&mut exchange);
        exchange.request_open = true;
        exchange.request = Some(Span::default());
        pairing.waiting.push_back(exchange);
        pairing.pipelined |= pairing.waiting.len() > 1;
        value
    }

    /// The newest request is complete: its last byte is the last that `client` has read. `fill` sets what is known only
    /// now; it is not called when the exchange is over already, by an early response.
    pub fn request_end(&self, client: &Stream, fill: impl FnOnce(&mut Exchange<T>)) {
        let span = client.span();
        if let Some(newest) = self.pairing.borrow_mut().waiting.back_mut()
            && newest.request_open
        {
            newest.request_open = false;
            newest.request = Some(span);
            fill(newest);
        }
    }

    /// A response has begun: `fill` sees the exchange it belongs to, with the state that the request left there (the
    /// default, where the request was not captured). May be called again for the same response.
    pub fn response<R>(&self, fill: impl FnOnce(&mut Exchange<T>) -> R) -> R {
        fill(self.pairing.borrow_mut().answering())
    }

    /// The response is complete: its last byte is the last that `server` has read. The exchange is reported.
    pub fn finish(&self, server: &Stream, outcome: Outcome) {
        let mut pairing = self.pairing.borrow_mut();
        pairing.answering();
        let Some(exchange) = pairing.waiting.pop_front() else { return };
        let code = match outcome {
            _ if exchange.request.is_none() => code::UNMATCHED,
            Outcome::Ok => code::OK,
            Outcome::Error => code::ERROR,
        };
        pairing.emit(exchange, Some(server.span()), code);
    }

    /// After a [`Break::Gap`] or [`Break::Malformed`] of the client's stream: goes on with the next request, which
    /// `find` recognises as in [`Stream::resync`]. Requests may be missing; what was lost is noted in the next exchange.
    ///
    /// [`Break::Gap`]: crate::Break::Gap
    /// [`Break::Malformed`]: crate::Break::Malformed
    pub async fn resync_requests(&self, client: &mut Stream, find: impl Fn(&[u8]) -> Option<usize>) {
        {
            let span = client.span();
            let mut pairing = self.pairing.borrow_mut();
            if let Some(newest) = pairing.waiting.back_mut()
                && newest.request_open
            {
                // Its end was not seen; its time and size so far are all that is known.
                newest.request_open = false;
                newest.request = Some(Span { end_ns: 0, ..span });
            }
            pairing.unpaired |= pairing.pipelined;
        }
        let lost = client.resync(find).await;
        self.pairing.borrow_mut().lost_bytes += lost;
    }

    /// After a [`Break::Gap`] or [`Break::Malformed`] of the server's stream: goes on with the next response, which
    /// `find` recognises as in [`Stream::resync`]. The exchange being answered is reported as far as it was seen. One
    /// whose client asks again meanwhile has had its response. Where requests were pipelined, which response answers
    /// which request can no longer be known, and none is paired: rather no pair than a wrong one.
    ///
    /// [`Break::Gap`]: crate::Break::Gap
    /// [`Break::Malformed`]: crate::Break::Malformed
    pub async fn resync_responses(&self, server: &mut Stream, find: impl Fn(&[u8]) -> Option<usize>) {
        let gap = server.gap();
        {
            let span = server.span();
            let mut pairing = self.pairing.borrow_mut();
            pairing.searching = true;
            pairing.unpaired |= pairing.pipelined;
            match pairing.waiting.front_mut() {
                Some(front) => front.lost_bytes += gap,
                None => pairing.lost_bytes += gap,
            }
            let keep = if pairing.pipelined { 0 } else { usize::MAX };
            while pairing.waiting.front().is_some_and(|front| front.answering) || pairing.waiting.len() > keep {
                let Some(exchange) = pairing.waiting.pop_front() else { break };
                let response = exchange.answering.then_some(span);
                pairing.give_up(exchange, response, false);
            }
        }
        let lost = server.resync(find).await;
        let mut pairing = self.pairing.borrow_mut();
        pairing.searching = false;
        pairing.lost_bytes += lost.saturating_sub(gap);
    }
}

/// What podtap_sdk does itself at the end of a connection, for any `T`.
pub(crate) trait Close {
    /// Reports every exchange that is still open.
    fn close(&self, reset: bool, server: &Inbox);
}

impl<T: Default + 'static> Close for Exchanges<T> {
    fn close(&self, reset: bool, server: &Inbox) {
        let mut pairing = self.pairing.borrow_mut();
        while let Some(exchange) = pairing.waiting.pop_front() {
            let response = exchange.answering.then(|| server.span());
            pairing.give_up(exchange, response, reset);
        }
    }
}
