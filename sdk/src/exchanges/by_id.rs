//! Pairing by id: a response names the request that it answers, in whatever order.
//!
//! ```text
//!   request(id) ──> waiting ──response(id)──> answering ──finish()──> emitted
//!       │              │  └──────<──continues()──┘  │
//!       │              └────────── close ───────────┴──> no_response, aborted
//!       └──request_end_unanswered()──> emitted: ok, without a response
//! ```
//!
//! A response may be seen to end before its request: what the capture missed of a request shows only when the other side
//! has gone on. The exchange is then kept until its request is over, as only that says whether it is whole.
//!
//! Invariant: only the newest may have an unfinished request; at most one is being answered, for a side is read in order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::{Close, Exchange, MAX_WAITING_BY_ID, Outcome, Report, code, messages};
use crate::bindings::podtap::decoder::types::Output;
use crate::instance::Connection;
use crate::stream::{Break, Inbox, Span, Stream};

#[derive(Debug)]
struct Waiting<T> {
    id: u64,
    exchange: Box<Exchange<T>>,
    /// Replies that came before the one being read.
    earlier: Option<Span>,
    /// Bytes of the server were lost while it waited: they may have been its response.
    doubted: bool,
    /// It waits for the end of its request alone.
    answered: Option<(Span, Outcome)>,
}

impl<T> Waiting<T> {
    /// All replies so far; `latest` is the one that the server's stream has read.
    fn response(&self, latest: Span) -> Span {
        match self.earlier {
            None => latest,
            Some(earlier) => Span {
                start_ns: earlier.start_ns,
                end_ns: latest.end_ns,
                bytes: earlier.bytes + latest.bytes,
                lost_bytes: earlier.lost_bytes + latest.lost_bytes,
            },
        }
    }
}

#[derive(Debug)]
struct Pairing<T> {
    report: Report<T>,
    /// The oldest first. Few wait at once, so that looking through them is cheaper than a map.
    waiting: VecDeque<Waiting<T>>,
    /// The id of the exchange whose response the server's stream is in.
    answering: Option<u64>,
}

impl<T: Default> Pairing<T> {
    fn position(&self, id: u64) -> Option<usize> {
        self.waiting.iter().position(|waiting| waiting.id == id && waiting.answered.is_none())
    }

    /// The oldest goes where one more would be too many.
    fn make_room(&mut self) {
        if self.report.is_full(self.waiting.len(), MAX_WAITING_BY_ID)
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.give_up(oldest, None, false);
        }
    }

    fn fresh(&mut self, id: u64) -> Waiting<T> {
        Waiting { id, exchange: self.report.fresh(), earlier: None, doubted: false, answered: None }
    }

    /// Takes out the exchange whose response the server's stream is in.
    fn take_answering(&mut self) -> Option<Waiting<T>> {
        let id = self.answering.take()?;
        self.waiting.remove(self.position(id)?)
    }

    /// The newest request is over: is that all that its exchange waited for?
    fn request_over(&mut self) {
        let is_over = |newest: &mut Waiting<T>| newest.answered.is_some() && !newest.exchange.request_open;
        if let Some(newest) = self.waiting.pop_back_if(is_over) {
            self.give_up(newest, None, false);
        }
    }

    /// Reports an exchange that gets no more replies; `latest` where one is being read.
    fn give_up(&mut self, waiting: Waiting<T>, latest: Option<Span>, reset: bool) {
        if let Some((response, outcome)) = waiting.answered {
            return self.report.finish(waiting.exchange, Some(response), outcome);
        }
        let response = latest.map(|latest| waiting.response(latest)).or(waiting.earlier);
        self.report.give_up(waiting.exchange, response, reset);
    }

    /// Of those that waited while bytes of the server were lost, the ones before `position` have had their responses
    /// then, or never get any: the server has come to a later request.
    fn give_up_doubted(&mut self, position: usize) {
        let mut rest = position;
        let mut index = 0;
        while rest > 0 {
            rest -= 1;
            if self.waiting.get(index).is_some_and(|waiting| waiting.doubted) {
                if let Some(waiting) = self.waiting.remove(index) {
                    self.give_up(waiting, None, false);
                }
            } else {
                index += 1;
            }
        }
    }
}

/// The exchanges of one connection whose responses name their request, shared by the tasks of its sides. `T` is what the
/// decoder must remember from a request to its response.
#[derive(Debug)]
pub struct ExchangesById<T> {
    pairing: Rc<RefCell<Pairing<T>>>,
}

impl<T> Clone for ExchangesById<T> {
    fn clone(&self) -> ExchangesById<T> {
        ExchangesById { pairing: Rc::clone(&self.pairing) }
    }
}

impl<T: Default + 'static> ExchangesById<T> {
    pub(crate) fn new(
        connection: u32,
        output: Rc<RefCell<Output>>,
        client: Rc<RefCell<Inbox>>,
        open: Rc<Cell<usize>>,
    ) -> ExchangesById<T> {
        let report = Report::new(connection, output, client, |_| (), open);
        let pairing = Pairing { report, waiting: VecDeque::new(), answering: None };
        ExchangesById { pairing: Rc::new(RefCell::new(pairing)) }
    }

    /// The message that the client's stream has begun is request `id`. `fill` sets what is known of it. One that waits
    /// under the same id is given up, unless the response that is being read is its own, and so is the oldest where
    /// [`MAX_WAITING_BY_ID`] wait.
    pub fn request<R>(&self, id: u64, fill: impl FnOnce(&mut Exchange<T>) -> R) -> R {
        let mut pairing = self.pairing.borrow_mut();
        let same = pairing.position(id).filter(|_| pairing.answering != Some(id));
        match same.and_then(|position| pairing.waiting.remove(position)) {
            Some(same) => pairing.give_up(same, None, false),
            None => pairing.make_room(),
        }
        let mut waiting = pairing.fresh(id);
        let value = fill(&mut waiting.exchange);
        waiting.exchange.open_request();
        pairing.waiting.push_back(waiting);
        value
    }

    /// The newest request is complete: its last byte is the last that `client` has read. `fill` sets what is known only
    /// now.
    pub fn request_end(&self, client: &Stream, fill: impl FnOnce(&mut Exchange<T>)) {
        let span = client.span();
        let mut pairing = self.pairing.borrow_mut();
        if let Some(newest) = pairing.waiting.back_mut()
            && newest.exchange.request_open
        {
            newest.exchange.close_request(span);
            fill(&mut newest.exchange);
            pairing.request_over();
        }
    }

    /// As [`ExchangesById::request_end`], of a request that nobody answers: the exchange is reported as ok, without times
    /// of a response.
    pub fn request_end_unanswered(&self, client: &Stream, fill: impl FnOnce(&mut Exchange<T>)) {
        let span = client.span();
        let mut pairing = self.pairing.borrow_mut();
        if let Some(mut newest) = pairing.waiting.pop_back_if(|newest| newest.exchange.request_open) {
            newest.exchange.close_request(span);
            fill(&mut newest.exchange);
            pairing.report.emit(newest.exchange, None, code::OK);
        }
    }

    /// A response to request `id` has begun: `fill` sees its exchange, with the state that the request left there (the
    /// default, where the request was not captured: it counts as one that waits). May be called again for the same
    /// response.
    pub fn response<R>(&self, id: u64, fill: impl FnOnce(&mut Exchange<T>) -> R) -> R {
        let mut pairing = self.pairing.borrow_mut();
        pairing.answering = Some(id);
        if let Some(position) = pairing.position(id) {
            pairing.give_up_doubted(position);
        }
        let position = pairing.position(id).unwrap_or_else(|| {
            // It waits, too, where it announces further replies. The request that is being read just now stays.
            let is_alone = pairing.waiting.len() == 1;
            if !(is_alone && pairing.waiting.back().is_some_and(|newest| newest.exchange.request_open)) {
                pairing.make_room();
            }
            // Not at the back, which is the newest request's.
            let unmatched = pairing.fresh(id);
            pairing.waiting.push_front(unmatched);
            0
        });
        let exchange = &mut pairing.waiting[position].exchange;
        exchange.answering = true;
        fill(exchange)
    }

    /// The response is complete: its last byte is the last that `server` has read. The exchange is reported, once its request
    /// is over.
    pub fn finish(&self, server: &Stream, outcome: Outcome) {
        let mut pairing = self.pairing.borrow_mut();
        let Some(mut waiting) = pairing.take_answering() else { return };
        let response = waiting.response(server.span());
        if waiting.exchange.request_open {
            waiting.answered = Some((response, outcome));
            // Where it was: an unfinished request is the newest.
            return pairing.waiting.push_back(waiting);
        }
        pairing.report.finish(waiting.exchange, Some(response), outcome);
    }

    /// This reply is complete and another follows, which will name `next` as what it answers: all replies are one
    /// response, from the first byte of the first to the last byte of the last.
    pub fn continues(&self, server: &Stream, next: u64) {
        let mut pairing = self.pairing.borrow_mut();
        let Some(position) = pairing.answering.take().and_then(|id| pairing.position(id)) else { return };
        let waiting = &mut pairing.waiting[position];
        waiting.earlier = Some(waiting.response(server.span()));
        waiting.id = next;
    }

    /// The response is over, but what it said cannot be known: the exchange is reported as aborted.
    pub fn abort(&self, server: &Stream) {
        let mut pairing = self.pairing.borrow_mut();
        if let Some(waiting) = pairing.take_answering() {
            pairing.give_up(waiting, Some(server.span()), false);
        }
    }

    /// The task of the client's side: `read` reads one request, again and again until the side ends. Where its stream breaks
    /// it goes on with the next request, as [`ExchangesById::resync_requests`] does; a connection seen from its middle begins with
    /// the first that `find` recognises.
    pub fn requests<F, R>(
        &self,
        connection: &Connection,
        find: F,
        mut read: R,
    ) -> impl Future<Output = Result<(), Break>> + use<T, F, R>
    where
        F: Fn(&[u8]) -> Option<usize> + 'static,
        R: AsyncFnMut(&mut Stream, &ExchangesById<T>) -> Result<(), Break> + 'static,
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
        let (span, gap) = (client.span(), client.gap());
        let mut noted = 0;
        {
            let mut pairing = self.pairing.borrow_mut();
            match pairing.waiting.back_mut() {
                // Its end was not seen; its time and size so far are all that is known.
                Some(newest) if newest.exchange.request_open => {
                    newest.exchange.close_request(Span { end_ns: 0, ..span });
                    newest.exchange.lost_bytes += gap;
                    noted = gap;
                }
                _ => client.give_up_message(),
            }
            pairing.request_over();
        }
        let lost = client.look_for(find).await;
        self.pairing.borrow_mut().report.lost_bytes += lost.saturating_sub(noted);
    }

    /// The task of the server's side: `read` reads one response, again and again until the side ends. Where its stream breaks
    /// it goes on with the next response, as [`ExchangesById::resync_responses`] does; a connection seen from its middle begins with
    /// the first that `find` recognises.
    pub fn responses<F, R>(
        &self,
        connection: &Connection,
        find: F,
        mut read: R,
    ) -> impl Future<Output = Result<(), Break>> + use<T, F, R>
    where
        F: Fn(&[u8]) -> Option<usize> + 'static,
        R: AsyncFnMut(&mut Stream, &ExchangesById<T>) -> Result<(), Break> + 'static,
    {
        let (exchanges, mut server) = (self.clone(), connection.server());
        let midstream = connection.is_midstream();
        async move {
            let read = async |server: &mut Stream| read(server, &exchanges).await;
            let resync = async |server: &mut Stream, find: &F| exchanges.resync_responses_by(server, find).await;
            if midstream {
                server.look_for(&find).await;
            }
            messages(server, find, read, resync).await
        }
    }

    /// After a [`Break::Gap`] or [`Break::Malformed`] of the server's stream: goes on with the next response, which
    /// `find` recognises as in [`Stream::resync`]. The exchange being answered is reported as far as it was seen. Of the
    /// others, those that are older than the next one answered are given up then.
    ///
    /// [`Break::Gap`]: crate::Break::Gap
    /// [`Break::Malformed`]: crate::Break::Malformed
    pub async fn resync_responses(&self, server: &mut Stream, find: impl Fn(&[u8]) -> Option<usize>) {
        self.resync_responses_by(server, &find).await;
    }

    async fn resync_responses_by(&self, server: &mut Stream, find: &impl Fn(&[u8]) -> Option<usize>) {
        let gap = server.gap();
        {
            let span = server.span();
            let mut pairing = self.pairing.borrow_mut();
            if let Some(mut waiting) = pairing.take_answering() {
                waiting.exchange.lost_bytes += gap;
                pairing.give_up(waiting, Some(span), false);
            } else {
                server.give_up_message();
                match pairing.waiting.front_mut() {
                    Some(oldest) => oldest.exchange.lost_bytes += gap,
                    None => pairing.report.lost_bytes += gap,
                }
            }
            pairing.waiting.iter_mut().for_each(|waiting| waiting.doubted = true);
        }
        let lost = server.look_for(find).await;
        self.pairing.borrow_mut().report.lost_bytes += lost.saturating_sub(gap);
    }
}

impl<T: Default + 'static> Close for ExchangesById<T> {
    fn close(&self, reset: bool, server: &Inbox) {
        let mut pairing = self.pairing.borrow_mut();
        while let Some(waiting) = pairing.waiting.pop_front() {
            let answering = pairing.answering.take_if(|answering| *answering == waiting.id);
            let latest = answering.map(|_| server.span());
            pairing.give_up(waiting, latest, reset);
        }
    }
}
