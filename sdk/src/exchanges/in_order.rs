//! Pairing in order: the first response answers the first request.
//!
//! ```text
//!   request() ──> waiting ──response()──> answering ──finish()──> emitted
//!                    │                        │
//!                    └────── close ───────────┴──> no_response, aborted
//! ```
//!
//! Invariant: only the front of the queue is being answered; only its back may have an unfinished request.
//!
//! # After a loss
//! A response is paired only where the order of both sides is known; rather no pair than a wrong one.
//!
//! - The client's stream broke: requests from before it are answered in order as ever; those behind it cannot be told
//!   from ones that nobody saw.
//! - The server's broke with one request waiting: the next response is that one's, unless the client asks again.
//! - With several waiting, or both streams broken: order is lost. Requests and responses are reported each by itself.
//!
//! Order is there again when nothing can be on its way: when as many responses have come as requests were seen, or when
//! the client asks again after it was answered. Such a turn says that all was answered, for a client that has always
//! waited for that before. Bias: until one is seen to ask while others wait behind a response, it is taken to wait, even
//! if it sends several requests at once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::{Close, Exchange, MAX_WAITING, Outcome, Report, messages};
use crate::bindings::podtap::decoder::types::Output;
use crate::instance::Connection;
use crate::stream::{Break, Inbox, Sought, Span, Stream};

/// What is known of the order of requests and responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// The front of the queue is answered next.
    Known,
    /// The client's stream broke: requests from there on are marked.
    RequestsLost,
    /// The server's stream broke while one request waited.
    OneWaits,
    /// So many responses can be due at most; none: nobody knows.
    Lost(Option<usize>),
}

#[derive(Debug)]
struct Pairing<T> {
    report: Report<T>,
    waiting: VecDeque<Box<Exchange<T>>>,
    order: Order,
    /// The oldest requests that were given up for want of room: as many responses come first.
    forgotten: usize,
    /// The server has sent something, or lost it, since the last request.
    turn: bool,
    /// The client was seen to ask while an earlier answer was not complete: what it asks says nothing of answers.
    overlaps: bool,
}

impl<T: Default> Pairing<T> {
    /// The front as the one being answered; made up where no request is known.
    fn answering(&mut self) -> &mut Exchange<T> {
        self.turn = true;
        let waits_alone = |front: &Exchange<T>| !front.answering && !front.request_open;
        if self.order == Order::OneWaits
            && self.waiting.front().is_some_and(|front| waits_alone(front))
            && self.report.client.borrow().is_in_message()
        {
            // The client has begun to ask again, and what is missing of that is not known to be lost yet.
            self.waits_no_longer_alone();
            self.turn = false;
        }
        let lost = matches!(self.order, Order::Lost(_));
        let known = self
            .waiting
            .front()
            .is_some_and(|front| front.answering || !(lost || front.order_lost || self.forgotten > 0));
        if !known {
            let mut unmatched = self.report.fresh();
            unmatched.order_lost = lost || self.waiting.front().is_some_and(|front| front.order_lost);
            self.waiting.push_front(unmatched);
        } else if self.order == Order::OneWaits {
            self.order = Order::Known;
        }
        // Not empty: either the front is known, or one was just put there.
        let front = &mut self.waiting[0];
        front.answering = true;
        front
    }

    /// Bytes of the server were lost: of the exchange that waits for its response, else of the next one.
    fn lost_of_server(&mut self, bytes: u64) {
        match self.waiting.front_mut() {
            Some(front) => front.lost_bytes += bytes,
            None => self.report.lost_bytes += bytes,
        }
    }

    /// Gives up all that wait for a response; `lost`: because order is lost, not because there was none.
    fn give_up_waiting(&mut self, lost: bool) {
        let first = usize::from(self.waiting.front().is_some_and(|front| front.answering));
        while let Some(mut exchange) = self.waiting.remove(first) {
            exchange.order_lost |= lost;
            self.report.give_up(exchange, None, false);
        }
    }

    /// The client begins to ask again, after the server has said or lost something.
    fn begin_turn(&mut self) {
        self.turn = false;
        let Some(front) = self.waiting.front() else {
            if !self.overlaps {
                self.order = Order::Known;
            }
            return;
        };
        let certain = !front.order_lost && matches!(self.order, Order::Known | Order::RequestsLost);
        self.overlaps |= certain || front.answering;
        if !self.overlaps {
            // Its answer was in what the server lost.
            self.give_up_waiting(self.order != Order::OneWaits);
            self.order = Order::Known;
            self.forgotten = 0;
        }
    }

    /// The server's stream broke. Nothing is being answered any more. After requests were lost, too, this is no turn: what
    /// comes next may have been asked before as well as behind what is missing.
    fn lose_responses(&mut self) {
        self.turn |= !matches!(self.order, Order::RequestsLost | Order::Lost(None));
        let waiting = self.waiting.len() + self.forgotten;
        self.order = match self.order {
            Order::Known | Order::OneWaits if waiting == 0 => Order::Known,
            Order::Known | Order::OneWaits if waiting == 1 && self.forgotten == 0 => Order::OneWaits,
            Order::Known | Order::OneWaits => Order::Lost(Some(waiting)),
            Order::RequestsLost => Order::Lost(None),
            lost @ Order::Lost(_) => lost,
        };
        if matches!(self.order, Order::Lost(_)) {
            self.give_up_waiting(true);
            self.forgotten = 0;
        }
    }

    /// The client's stream broke. What is lost may have begun a turn, and what follows may belong to the same.
    fn lose_requests(&mut self) {
        if self.turn {
            self.begin_turn();
        }
        self.order = match self.order {
            Order::Known | Order::RequestsLost => Order::RequestsLost,
            Order::OneWaits | Order::Lost(_) => Order::Lost(None),
        };
        if self.order == Order::Lost(None) {
            self.give_up_waiting(true);
        }
    }

    /// A new request joins those that wait, if any.
    fn join(&mut self) {
        if self.report.is_full(self.waiting.len(), MAX_WAITING) {
            // Not the one being answered; else the oldest, whose response will come first.
            let first = usize::from(self.waiting.front().is_some_and(|front| front.answering));
            if let Some(oldest) = self.waiting.remove(first) {
                self.forgotten += 1;
                self.report.give_up(oldest, None, false);
            }
        }
        match &mut self.order {
            Order::Known | Order::RequestsLost => {}
            Order::OneWaits => self.waits_no_longer_alone(),
            Order::Lost(due) => {
                *due = due.map(|due| due + 1);
                self.give_up_waiting(true);
            }
        }
    }

    /// There is another request beside the one whose response may have been lost.
    fn waits_no_longer_alone(&mut self) {
        self.order = Order::Lost(Some(2));
        self.give_up_waiting(true);
    }

    /// A response is over, with or without its request.
    fn answered(&mut self, matched: bool) {
        if !matched {
            self.forgotten = self.forgotten.saturating_sub(1);
        }
        if let Order::Lost(Some(due)) = &mut self.order {
            *due = due.saturating_sub(1);
            if *due == 0 {
                self.give_up_waiting(true);
                self.order = Order::Known;
            }
        }
    }
}

/// The exchanges of one connection, shared by the tasks of its sides. `T` is what the decoder must remember from a
/// request to its response.
///
/// ```
/// # use podtap_sdk::{Break, Stream};
/// use podtap_sdk::{Exchanges, Outcome};
///
/// /// A line asks; whether it is an order or a question is remembered for the answer.
/// async fn request(client: &mut Stream, exchanges: &Exchanges<bool>) -> Result<(), Break> {
///     client.message().await?;
///     let read = |line: &[u8]| {
///         exchanges.request(|exchange| {
///             exchange.state = line.starts_with(b"?");
///             exchange.describe(if exchange.state { b"ASK" } else { b"TELL" }, line.trim_ascii(), b"");
///         });
///     };
///     client.until(b"\n", 1024, read).await?;
///     exchanges.request_end(client, |_| ());
///     Ok(())
/// }
///
/// async fn response(server: &mut Stream, exchanges: &Exchanges<bool>) -> Result<(), Break> {
///     server.message().await?;
///     let said_no = server.until(b"\n", 1024, |line| line.starts_with(b"no")).await?;
///     let asked = exchanges.response(|exchange| exchange.state);
///     exchanges.finish(server, if said_no && !asked { Outcome::Error } else { Outcome::Ok });
///     Ok(())
/// }
/// ```
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
    pub(crate) fn new(
        connection: u32,
        output: Rc<RefCell<Output>>,
        client: Rc<RefCell<Inbox>>,
        complete: fn(&mut Exchange<T>),
        open: Rc<Cell<usize>>,
    ) -> Exchanges<T> {
        let pairing = Pairing {
            report: Report::new(connection, output, client, complete, open),
            waiting: VecDeque::new(),
            order: Order::Known,
            forgotten: 0,
            turn: false,
            overlaps: false,
        };
        Exchanges { pairing: Rc::new(RefCell::new(pairing)) }
    }

    /// The message that the client's stream has begun is a request. `fill` sets what is known of it.
    pub fn request<R>(&self, fill: impl FnOnce(&mut Exchange<T>) -> R) -> R {
        let mut pairing = self.pairing.borrow_mut();
        if pairing.turn {
            pairing.begin_turn();
        }
        pairing.join();
        let mut exchange = pairing.report.fresh();
        let value = fill(&mut exchange);
        exchange.open_request();
        exchange.order_lost = pairing.order != Order::Known;
        pairing.waiting.push_back(exchange);
        value
    }

    /// The newest request is complete: its last byte is the last that `client` has read. `fill` sets what is known only
    /// now; it is not called when the exchange is over already, by an early response.
    pub fn request_end(&self, client: &Stream, fill: impl FnOnce(&mut Exchange<T>)) {
        let span = client.span();
        if let Some(newest) = self.pairing.borrow_mut().waiting.back_mut()
            && newest.request_open
        {
            newest.close_request(span);
            fill(newest);
        }
    }

    /// Sets what has become known of the newest request while it is not complete; `fill` is not called when it is over.
    pub fn open_request(&self, fill: impl FnOnce(&mut Exchange<T>)) {
        if let Some(newest) = self.pairing.borrow_mut().waiting.back_mut()
            && newest.request_open
        {
            fill(newest);
        }
    }

    /// A response has begun, as is to be said as soon as it is known: should the stream break before, the next response is
    /// taken for it. `fill` sees the exchange it belongs to, with the state that the request left there (the
    /// default, where the request was not captured). May be called again for the same response.
    pub fn response<R>(&self, fill: impl FnOnce(&mut Exchange<T>) -> R) -> R {
        fill(self.pairing.borrow_mut().answering())
    }

    /// The response is complete: its last byte is the last that `server` has read. The exchange is reported.
    pub fn finish(&self, server: &Stream, outcome: Outcome) {
        let mut pairing = self.pairing.borrow_mut();
        pairing.answering();
        let Some(exchange) = pairing.waiting.pop_front() else { return };
        let matched = exchange.request.is_some();
        pairing.report.finish(exchange, Some(server.span()), outcome);
        pairing.answered(matched);
    }

    /// The task of the client's side: `read` reads one request, again and again until the side ends. Where its stream breaks
    /// it goes on with the next request, as [`Exchanges::resync_requests`] does; a connection seen from its middle begins with
    /// the first that `find` recognises.
    pub fn requests<F, R>(
        &self,
        connection: &Connection,
        find: F,
        mut read: R,
    ) -> impl Future<Output = Result<(), Break>> + use<T, F, R>
    where
        F: Fn(&[u8]) -> Option<usize> + 'static,
        R: AsyncFnMut(&mut Stream, &Exchanges<T>) -> Result<(), Break> + 'static,
    {
        let (exchanges, mut client) = (self.clone(), connection.client());
        let midstream = connection.is_midstream();
        async move {
            let read = async |client: &mut Stream| read(client, &exchanges).await;
            let resync = async |client: &mut Stream, find: &F| exchanges.resync_requests_by(client, find).await;
            if midstream {
                client.look_for(&find).await;
            }
            messages(client, find, read, resync).await
        }
    }

    /// After a [`Break::Gap`] or [`Break::Malformed`] of the client's stream: goes on with the next request, which
    /// `find` recognises as in [`Stream::resync`]. Requests may be missing; what was lost is noted in the next exchange.
    ///
    /// [`Break::Gap`]: crate::Break::Gap
    /// [`Break::Malformed`]: crate::Break::Malformed
    pub async fn resync_requests(&self, client: &mut Stream, find: impl Fn(&[u8]) -> Option<usize>) {
        self.resync_requests_by(client, &find).await;
    }

    async fn resync_requests_by(&self, client: &mut Stream, find: &impl Fn(&[u8]) -> Option<usize>) {
        let mut noted = 0;
        {
            let (span, gap) = (client.span(), client.gap());
            let mut pairing = self.pairing.borrow_mut();
            match pairing.waiting.back_mut() {
                // Its end was not seen; its time and size so far are all that is known.
                Some(newest) if newest.request_open => {
                    newest.close_request(Span { end_ns: 0, ..span });
                    newest.lost_bytes += gap;
                    noted = gap;
                }
                _ => client.give_up_message(),
            }
            pairing.lose_requests();
        }
        // With more that is no request, requests may be lost that have a turn of their own.
        loop {
            let sought = client.seek(find).await;
            let mut pairing = self.pairing.borrow_mut();
            match sought {
                Sought::Passed { lost } => {
                    pairing.report.lost_bytes += lost.saturating_sub(std::mem::take(&mut noted));
                }
                Sought::Found { passed: 0 } | Sought::Ended => return,
                Sought::Found { .. } => return pairing.lose_requests(),
            }
            pairing.lose_requests();
        }
    }

    /// The task of the server's side: `read` reads one response, again and again until the side ends. Where its stream breaks
    /// it goes on with the next response, as [`Exchanges::resync_responses`] does; a connection seen from its middle begins with
    /// the first that `find` recognises.
    pub fn responses<F, R>(
        &self,
        connection: &Connection,
        find: F,
        mut read: R,
    ) -> impl Future<Output = Result<(), Break>> + use<T, F, R>
    where
        F: Fn(&[u8]) -> Option<usize> + 'static,
        R: AsyncFnMut(&mut Stream, &Exchanges<T>) -> Result<(), Break> + 'static,
    {
        let (exchanges, mut server) = (self.clone(), connection.server());
        let midstream = connection.is_midstream();
        async move {
            let read = async |server: &mut Stream| read(server, &exchanges).await;
            let resync = async |server: &mut Stream, find: &F| exchanges.resync_responses_by(server, find).await;
            if midstream {
                exchanges.first_response_by(&mut server, &find).await;
            }
            messages(server, find, read, resync).await
        }
    }

    /// After a [`Break::Gap`] or [`Break::Malformed`] of the server's stream: goes on with the next response, which
    /// `find` recognises as in [`Stream::resync`]. The exchange being answered is reported as far as it was seen. What
    /// becomes of those that wait is told at the head of this module's source.
    ///
    /// [`Break::Gap`]: crate::Break::Gap
    /// [`Break::Malformed`]: crate::Break::Malformed
    pub async fn resync_responses(&self, server: &mut Stream, find: impl Fn(&[u8]) -> Option<usize>) {
        self.resync_responses_by(server, &find).await;
    }

    /// In a connection seen from its middle: goes on with the first response, which `find` recognises as in
    /// [`Stream::resync`]. A request seen before waits for it, unless the client asks again after the server has sent, or
    /// lost, something else: then that was its response.
    pub async fn first_response(&self, server: &mut Stream, find: impl Fn(&[u8]) -> Option<usize>) {
        self.first_response_by(server, &find).await;
    }

    async fn first_response_by(&self, server: &mut Stream, find: &impl Fn(&[u8]) -> Option<usize>) {
        while let Sought::Passed { lost } = server.seek(find).await {
            let mut pairing = self.pairing.borrow_mut();
            if !pairing.waiting.is_empty() {
                pairing.lost_of_server(lost);
                pairing.lose_responses();
            }
        }
    }

    async fn resync_responses_by(&self, server: &mut Stream, find: &impl Fn(&[u8]) -> Option<usize>) {
        let gap = server.gap();
        {
            let span = server.span();
            let mut pairing = self.pairing.borrow_mut();
            pairing.lost_of_server(gap);
            match pairing.waiting.pop_front_if(|front| front.answering) {
                Some(exchange) => {
                    let matched = exchange.request.is_some();
                    pairing.report.give_up(exchange, Some(span), false);
                    pairing.answered(matched);
                }
                None => server.give_up_message(),
            }
            pairing.lose_responses();
        }
        // The first gap is noted already. With more that is no response, responses may be lost that the client asked for
        // meanwhile.
        let mut noted = gap;
        loop {
            let sought = server.seek(find).await;
            let mut pairing = self.pairing.borrow_mut();
            match sought {
                Sought::Passed { lost } if lost > 0 && lost == std::mem::take(&mut noted) => continue,
                // It may have been the response to a request that came meanwhile.
                Sought::Passed { lost } => pairing.lost_of_server(lost),
                Sought::Found { passed: 0 } | Sought::Ended => return,
                Sought::Found { .. } => return pairing.lose_responses(),
            }
            pairing.lose_responses();
        }
    }
}

impl<T: Default + 'static> Close for Exchanges<T> {
    fn close(&self, reset: bool, server: &Inbox) {
        let mut pairing = self.pairing.borrow_mut();
        while let Some(exchange) = pairing.waiting.pop_front() {
            let response = exchange.answering.then(|| server.span());
            pairing.report.give_up(exchange, response, reset);
        }
    }
}
