//! One tracked connection: what each segment means for it.
//!
//! Segments in; payload, gaps and ends out through [`Emit`]; the caller learns whether the connection is over.
//!
//! ```text
//!            SYN                 segment without SYN
//! (untracked) ──> handshaking ────────────────────────> established ── both FINs reached ──> closed
//!      │                                                  ^       └── RST in window ───────> closed
//!      └── payload or ACK: midstream, established once payload or both sides were seen
//! ```
//! A closed one stays in the table for a while, so that late retransmissions are not taken for a new connection.
//!
//! Midstream: position 0 of a side is its first payload byte seen. Where a segment without payload or an
//! acknowledgement of the other side came first, it is the byte they announce: what is lost or reordered right after is
//! noticed then.

use crate::connection::{CloseReason, Closed, Connection, ConnectionId, OpenedBy, Side};
use crate::counters::Counters;
use crate::engine::Sink;
use crate::facts::{Facts, SideFacts, Tally};
use crate::limits::Limits;
use crate::stream::{Origin, PLAUSIBLE_DISTANCE, Stream};
use crate::table::{End, Key, Life};
use crate::tcp::Segment;

/// The time of what was not seen.
const NEVER: u64 = u64::MAX;

/// The part of [`Limits::close_timeout_ns`] in which what comes again is held for a copy, captured on another interface,
/// and not for a retransmission. The next one of those comes after twice the time, which is early enough still.
const COPIES_PART: u64 = 16;

/// What a connection needs to report, and the time of the packet at hand.
pub(crate) struct Emit<'e> {
    pub(crate) sink: &'e mut dyn Sink,
    pub(crate) counters: &'e mut Counters,
    pub(crate) limits: &'e Limits,
    /// What all pieces that wait cost, see [`Limits::total_buffer_bytes`].
    pub(crate) waiting_cost: &'e mut u64,
    pub(crate) time_ns: u64,
}

/// A connection and its two streams. `repr(C)`: what every packet needs comes first.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Tracked {
    pub(crate) key: Key,
    pub(crate) id: ConnectionId,
    a: End,
    opened_by: OpenedBy,
    /// The sink knows it.
    opened: bool,
    ignored: bool,
    closed: Option<CloseReason>,
    established: bool,
    /// A segment other than a SYN came from A, from B.
    spoke: [bool; 2],
    /// A SYN came from A, from B.
    syns: [bool; 2],
    /// Its first packet was a SYN without acknowledgement.
    begun_by_syn: bool,
    /// Greatest capture time of its packets.
    last_ns: u64,
    pub(crate) streams: [Stream; 2],
    start_ns: u64,
    /// B's first SYN-ACK, or [`NEVER`].
    syn_ack_ns: u64,
    /// A's first segment behind it, or [`NEVER`].
    ack_ns: u64,
    tallies: [Tally; 2],
}

/// What a segment did to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes on.
    Open,
    /// It is over.
    Over(CloseReason),
    /// The segment belongs to a new connection between the same ends.
    Anew,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

impl Tracked {
    /// A connection that begins with a segment from `sender`, which is to be given to [`Tracked::segment`] next.
    pub(crate) fn new(id: ConnectionId, key: Key, sender: End, segment: &Segment<'_>, start_ns: u64) -> Tracked {
        Tracked {
            key,
            id,
            // The receiver of a SYN-ACK opened the connection.
            a: if segment.syn && segment.ack.is_some() { sender.other() } else { sender },
            opened_by: if segment.syn { OpenedBy::Handshake } else { OpenedBy::Midstream },
            opened: false,
            ignored: false,
            closed: None,
            established: false,
            spoke: [false; 2],
            syns: [false; 2],
            begun_by_syn: segment.syn && segment.ack.is_none(),
            last_ns: start_ns,
            streams: [Stream::new(), Stream::new()],
            start_ns,
            syn_ack_ns: NEVER,
            ack_ns: NEVER,
            tallies: [Tally::default(), Tally::default()],
        }
    }

    pub(crate) fn side(&self, end: End) -> Side {
        if end == self.a { Side::A } else { Side::B }
    }

    pub(crate) fn stream(&self, side: Side) -> &Stream {
        let [a, b] = &self.streams;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    pub(crate) fn stream_mut(&mut self, side: Side) -> &mut Stream {
        let [a, b] = &mut self.streams;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    pub(crate) fn tally_mut(&mut self, side: Side) -> &mut Tally {
        let [a, b] = &mut self.tallies;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    pub(crate) fn is_ignored(&self) -> bool {
        self.ignored
    }

    /// More than SYNs were seen, or, in midstream, more than acknowledgements of one side.
    pub(crate) fn is_established(&self) -> bool {
        self.established
    }

    /// A hole is open, so that [`Limits::gap_timeout_ns`] runs.
    pub(crate) fn has_hole(&self) -> bool {
        self.closed.is_none() && !self.ignored && self.streams.iter().any(|stream| stream.hole_end().is_some())
    }

    /// Takes a segment of a connection that is not closed. Counts the payload, not the packet; nothing at all if the
    /// verdict is [`Verdict::Anew`].
    pub(crate) fn segment(&mut self, end: End, segment: &Segment<'_>, emit: &mut Emit<'_>) -> Verdict {
        if segment.syn && !segment.rst {
            if !self.handshake(self.side(end), segment) {
                return Verdict::Anew;
            }
            self.note_syn(self.side(end), segment, emit.time_ns);
        }
        let side = self.side(end);
        self.last_ns = self.last_ns.max(emit.time_ns);
        self.stream_mut(side).note_packet();
        if segment.rst {
            return self.reset(side, segment, emit);
        }
        self.learn_origins(side, segment);
        self.note_progress(side, segment, emit.time_ns);
        if self.ignored {
            return self.pass_over(side, segment, emit);
        }
        if self.stream(side.other()).hole_end().is_some() {
            self.settle(side.other(), emit);
        }
        if segment.payload_len() > 0 || segment.fin {
            self.receive(side, segment, emit);
        }
        if self.both_ended() { Verdict::Over(CloseReason::Finished) } else { Verdict::Open }
    }

    /// Takes a segment of a closed connection. Says whether it was a late one of the connection, or [`Verdict::Anew`].
    pub(crate) fn late_segment(&mut self, end: End, segment: &Segment<'_>, emit: &mut Emit<'_>) -> LateSegment {
        let stream = self.stream(self.side(end));
        if segment.syn && !segment.rst {
            let repeated = stream.origin != Origin::Unknown && stream.first() == segment.seq;
            // A refused connection may be tried again with the same number.
            let reset = matches!(self.closed, Some(CloseReason::Reset(_) | CloseReason::Refused));
            if !repeated || reset && segment.ack.is_none() {
                return LateSegment::Anew;
            }
        }
        let captured = segment.payload.len() as u64;
        let (known, offset) = (stream.origin != Origin::Unknown, stream.offset(segment.seq));
        let plausible = !known || offset.abs() <= PLAUSIBLE_DISTANCE;
        // The ports are in use again, by a connection whose SYNs were not captured.
        if !plausible && captured > 0 && !segment.rst {
            return LateSegment::Anew;
        }
        let behind = (-offset).clamp(0, i64::MAX).unsigned_abs();
        let duplicate = if known && plausible { captured.min(behind) } else { 0 };
        if self.ignored {
            emit.counters.bytes_ignored += captured;
        } else {
            emit.counters.bytes_duplicate += duplicate;
            emit.counters.bytes_out_of_window += captured - duplicate;
        }
        let again = plausible && duplicate == captured && (captured > 0 || segment.fin);
        let since_close_ns = emit.time_ns.saturating_sub(self.last_ns);
        let times = emit.limits.close_timeout_ns / COPIES_PART..=Life::Lingering.timeout_ns(emit.limits);
        if again && times.contains(&since_close_ns) { LateSegment::Old } else { LateSegment::Other }
    }

    /// The consumer wants no more of it.
    pub(crate) fn ignore(&mut self, counters: &mut Counters, waiting_cost: &mut u64) {
        self.ignored = true;
        for (stream, tally) in self.streams.iter_mut().zip(&mut self.tallies) {
            let seen_end = stream.seen_end();
            if let Some(waiting) = stream.waiting.take() {
                // As the packets that follow do, see `pass_over`.
                let passed = seen_end - stream.position;
                tally.unseen_bytes += passed - waiting.covered();
                stream.advance(passed);
                counters.bytes_buffered -= waiting.bytes();
                counters.bytes_abandoned += waiting.bytes();
                *waiting_cost -= waiting.cost();
            }
        }
    }

    /// Advances a side past bytes that the consumer does not want.
    pub(crate) fn skip_to(&mut self, side: Side, position: u64, counters: &mut Counters, waiting_cost: &mut u64) {
        let stream = self.stream_mut(side);
        let position = stream.own_position(position);
        stream.skip_until = stream.skip_until.max(position);
        if let Some(waiting) = &mut stream.waiting {
            let cost = waiting.cost();
            let dropped = waiting.skip_to(position);
            *waiting_cost = *waiting_cost + waiting.cost() - cost;
            counters.bytes_buffered -= dropped;
            counters.bytes_skipped += dropped;
        }
    }

    /// Ends it: hands on what waits, then tells the sink.
    pub(crate) fn close(&mut self, reason: CloseReason, emit: &mut Emit<'_>) {
        if self.closed.is_some() {
            return;
        }
        if !self.ignored {
            self.flush(emit);
        }
        self.closed = Some(reason);
        emit.counters.connections -= 1;
        emit.sink.closed(&self.connection(), &Closed { reason, time_ns: emit.time_ns, facts: self.facts() });
    }

    /// Tells the sink of the connection, once. An end that was reached before is told now.
    pub(crate) fn open(&mut self, emit: &mut Emit<'_>) {
        if self.opened {
            return;
        }
        self.opened = true;
        emit.sink.opened(&self.connection());
        for side in [Side::A, Side::B] {
            if self.stream(side).ended {
                emit.sink.end(self.id, side, self.stream(side).told_position(), emit.time_ns);
            }
        }
    }

    fn connection(&self) -> Connection {
        Connection {
            id: self.id,
            a: self.key.endpoint(self.a),
            b: self.key.endpoint(self.a.other()),
            opened_by: self.opened_by,
            start_ns: self.start_ns,
        }
    }

    fn facts(&self) -> Facts {
        let between = |from_ns: u64, to_ns: u64| if to_ns == NEVER { None } else { to_ns.checked_sub(from_ns) };
        let ([a, b], [tally_a, tally_b], [syn_a, syn_b]) = (&self.streams, &self.tallies, self.syns);
        Facts {
            last_ns: self.last_ns,
            established: self.established,
            ignored: self.ignored,
            syn_to_syn_ack_ns: between(self.start_ns, self.syn_ack_ns).filter(|_| self.begun_by_syn),
            syn_ack_to_ack_ns: between(self.syn_ack_ns, self.ack_ns),
            a: SideFacts { syn: syn_a, ..a.facts(tally_a) },
            b: SideFacts { syn: syn_b, ..b.facts(tally_b) },
        }
    }

    /// Tells the sink of an end reached in order, if it knows the connection.
    pub(crate) fn end(&mut self, side: Side, emit: &mut Emit<'_>) {
        self.stream_mut(side).ended = true;
        if self.opened {
            emit.sink.end(self.id, side, self.stream(side).told_position(), emit.time_ns);
        }
    }

    /// Both FINs were reached in order.
    pub(crate) fn both_ended(&self) -> bool {
        self.streams.iter().all(|stream| stream.ended)
    }

    /// Takes what a SYN says. False if it belongs to another connection than this one.
    ///
    /// A SYN with another number replaces the connection at once. Bias: a forged one loses us a connection; two
    /// connections are never glued together.
    fn handshake(&mut self, side: Side, segment: &Segment<'_>) -> bool {
        let (own, other) = (self.stream(side), self.stream(side.other()));
        let repeated = own.origin != Origin::Unknown && own.first() == segment.seq;
        // A SYN-ACK acknowledges what the other side sent, which is its SYN and maybe data on it.
        let answers = segment.ack.is_some_and(|ack| {
            let offset = other.offset(ack);
            other.origin == Origin::Unknown || (offset <= 0 && offset + (other.position.min(1 << 32) as i64) >= 0)
        });
        // In a split handshake B acknowledges the SYN first, and then sends its own.
        let split = segment.ack.is_none()
            && own.origin == Origin::Guessed
            && own.untouched()
            && self.opened_by == OpenedBy::Handshake;
        let simultaneous = segment.ack.is_none()
            && own.origin == Origin::Unknown
            && (other.origin == Origin::Unknown || (self.opened_by == OpenedBy::Handshake && !self.established));
        if !(repeated || simultaneous || split || answers) {
            return false;
        }
        if !repeated {
            if own.origin != Origin::Unknown && !split && (self.established || !own.untouched()) {
                return true; // an answer to the SYN that lost against another one
            }
            // SYN proxies and anycast answer one SYN with several numbers; the last one before the handshake is over
            // counts.
            self.stream_mut(side).begin(segment.seq, Origin::Known);
        }
        let stream = self.stream_mut(side);
        stream.origin = Origin::Known;
        stream.set_window(segment);
        if let Some(ack) = segment.ack
            && self.stream(side.other()).origin == Origin::Unknown
        {
            self.stream_mut(side.other()).begin(ack, Origin::Known);
        }
        if self.opened_by == OpenedBy::Midstream && !self.opened {
            // Captured late, but in time to know who opened the connection.
            self.opened_by = OpenedBy::Handshake;
            let opener = if segment.ack.is_none() { side } else { side.other() };
            if opener == Side::B {
                self.a = self.a.other();
                self.streams.swap(0, 1);
                self.spoke.swap(0, 1);
                self.syns.swap(0, 1);
                self.tallies.swap(0, 1);
            }
        }
        true
    }

    /// Notes the SYN of a handshake that was taken, when it came, and whether it came before.
    fn note_syn(&mut self, side: Side, segment: &Segment<'_>, time_ns: u64) {
        if self.stream(side).first() != segment.seq {
            return; // an answer that was not taken
        }
        let [a, b] = &mut self.syns;
        let again = match (side, segment.ack) {
            (Side::A, None) => std::mem::replace(a, true),
            (Side::B, Some(_)) => {
                let again = self.syn_ack_ns != NEVER;
                self.syn_ack_ns = self.syn_ack_ns.min(time_ns);
                *b = true;
                again
            }
            // Both opened at once: each side answers with its own SYN, once more.
            (Side::A, Some(_)) => {
                *a = true;
                false
            }
            (Side::B, None) => std::mem::replace(b, true),
        };
        // Payload on it is looked at by `receive`.
        if again && segment.payload_len() == 0 {
            self.tally_mut(side).note_retransmission(0);
        }
    }

    fn learn_origins(&mut self, side: Side, segment: &Segment<'_>) {
        let own = self.stream_mut(side);
        if own.origin == Origin::Unknown {
            own.begin(segment.seq, if segment.payload_len() > 0 { Origin::Known } else { Origin::Guessed });
        }
        // RFC 9293, section 3.10.7.4: an unacceptable segment is dropped before its acknowledgement is looked at.
        let plausible = own.offset(segment.seq).abs() <= PLAUSIBLE_DISTANCE;
        let Some(ack) = segment.ack.filter(|_| plausible) else { return };
        // The segment after a SYN whose answer was not captured acknowledges that answer.
        let after_syn = self.opened_by == OpenedBy::Handshake && !self.established;
        let other = self.stream_mut(side.other());
        match other.origin {
            Origin::Unknown => other.begin(ack, if after_syn { Origin::Known } else { Origin::Guessed }),
            Origin::Guessed | Origin::Known => other.acknowledge(ack),
        }
    }

    fn note_progress(&mut self, side: Side, segment: &Segment<'_>, time_ns: u64) {
        if segment.syn {
            return;
        }
        if self.stream_mut(side).set_window(segment) {
            self.tally_mut(side).note_zero_window();
        }
        if !self.established {
            if side == Side::A && self.syn_ack_ns != NEVER {
                self.ack_ns = self.ack_ns.min(time_ns);
            }
            let [a, b] = &mut self.spoke;
            *(if side == Side::A { a } else { b }) = true;
            self.established = match self.opened_by {
                OpenedBy::Handshake => true,
                OpenedBy::Midstream => segment.payload_len() > 0 || self.spoke == [true; 2],
            };
        }
    }

    /// A RST. Its payload, if any, is a message to people (RFC 9293, section 3.5.3).
    fn reset(&mut self, side: Side, segment: &Segment<'_>, emit: &mut Emit<'_>) -> Verdict {
        let captured = segment.payload.len() as u64;
        *(if self.ignored { &mut emit.counters.bytes_ignored } else { &mut emit.counters.bytes_out_of_window }) +=
            captured;
        let (own, other) = (self.stream(side), self.stream(side.other()));
        // The answer to a SYN has no sequence number of its own, it acknowledges the SYN.
        let refuses = !self.established && segment.ack.is_some_and(|ack| other.offset(ack) == 0);
        let own_seen = own.origin != Origin::Unknown;
        let taken = refuses || own_seen && own.takes_reset_at(segment.seq, other.window());
        if taken && let Some(ack) = segment.ack {
            self.stream_mut(side.other()).acknowledge(ack);
        }
        match taken {
            true if refuses && !own_seen && self.opened_by == OpenedBy::Handshake => {
                Verdict::Over(CloseReason::Refused)
            }
            true => Verdict::Over(CloseReason::Reset(side)),
            false => Verdict::Open,
        }
    }

    /// A segment of an ignored connection: only the sequence number and the FINs are followed.
    fn pass_over(&mut self, side: Side, segment: &Segment<'_>, emit: &mut Emit<'_>) -> Verdict {
        emit.counters.bytes_ignored += segment.payload.len() as u64;
        let length = segment.payload_len();
        let stream = self.stream_mut(side);
        let offset = stream.offset(segment.seq.after(length));
        if offset.abs() > PLAUSIBLE_DISTANCE {
            return Verdict::Open;
        }
        let ahead = offset.max(0).unsigned_abs();
        let new = length.min(ahead);
        let probe = length == 1 && offset == 0;
        let fin_again = segment.fin && stream.ended;
        if offset >= 0 {
            stream.advance(ahead);
            stream.ended |= segment.fin;
        }
        let tally = self.tally_mut(side);
        tally.unseen_bytes += ahead - new;
        if (new < length && !probe) || fin_again {
            tally.note_retransmission(length - new);
        }
        if self.both_ended() { Verdict::Over(CloseReason::Finished) } else { Verdict::Open }
    }
}

/// What a segment of a closed connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LateSegment {
    /// A retransmission.
    Old,
    /// Of the connection, but no retransmission, or long after its end: the connection is kept no longer for it.
    Other,
    /// It opens a new connection.
    Anew,
}
