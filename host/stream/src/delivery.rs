//! How segments become chunks and gaps in stream order.
//!
//! # When a hole becomes a gap
//! - The other side acknowledged all of it *and* something waits behind it. An acknowledgement alone declares nothing:
//!   captures reorder, and the data may be the next packet.
//! - The other side sends payload that acknowledges bytes not seen: they are declared lost before that payload is
//!   handed on, so that no answer comes before its question. Bias: where the capture turns round question and answer,
//!   the question is lost. A single byte with nothing behind it is taken for a FIN that was not captured, and waits.
//! - The bounds on what waits behind it are reached, or the time for it is over ([`crate::Limits`]). A receiver that
//!   acknowledged all before the hole and no more still lacks the bytes: then the network lost them, not the capture,
//!   and a retransmission will come, maybe late; such a hole has eight times as long.
//! - The snaplen cut it, and all before it is there.
//! - The connection ends.
//!
//! In midstream, bytes that an acknowledgement announced before the first one seen are no gap: position 0 is the first
//! byte seen. They are one only where the other side's payload depends on them and nothing of the side has been seen.
//!
//! # Overlaps
//! The first byte captured for a position counts (see `assembler`). What was handed on is not kept, so only bytes that
//! still wait can be compared.

use crate::assembler::{Assembler, Content, Piece, Run};
use crate::connection::Side;
use crate::engine::{Chunk, Gap, GapReason};
use crate::stream::{Origin, PLAUSIBLE_DISTANCE};
use crate::tcp::Segment;
use crate::tracked::{Emit, Tracked};

/// How many times [`crate::Limits::gap_timeout_ns`] a hole may last while the receiver asks for its bytes.
const WANTED_PATIENCE: u64 = 8;

impl Tracked {
    /// Takes payload and FIN of a segment.
    pub(crate) fn receive(&mut self, side: Side, segment: &Segment<'_>, emit: &mut Emit<'_>) {
        let captured = segment.payload.len() as u64;
        let length = segment.payload_len();
        let stream = self.stream_mut(side);
        let mut offset = stream.offset(segment.seq);
        if stream.origin == Origin::Guessed && (length > 0 || segment.fin) {
            // A guess from a keep-alive probe is one less than the truth, and a wild one is none.
            if (offset == 1 || offset.abs() > PLAUSIBLE_DISTANCE) && stream.untouched() {
                stream.begin(segment.seq, Origin::Known);
                offset = 0;
            }
        }
        if offset.abs() > PLAUSIBLE_DISTANCE {
            if !stream.resynchronises(segment.seq, segment.seq.after(length)) {
                emit.counters.bytes_out_of_window += captured;
                return;
            }
            let target = stream.position + stream.forward(segment.seq);
            while self.stream(side).position < target {
                let stop = self.stream(side).hole_end().map_or(target, |end| end.min(target));
                self.give_up(side, stop, GapReason::Resync, emit);
            }
            offset = self.stream(side).offset(segment.seq);
        }

        let stream = self.stream_mut(side);
        let behind = (-offset).max(0).unsigned_abs();
        let ahead = offset.max(0).unsigned_abs();
        let start = stream.position + ahead;
        let ahead_of = stream.waiting.as_ref().and_then(|waiting| waiting.back_end());
        let fin_again = segment.fin && stream.fin().is_some();
        if segment.fin && behind <= length {
            stream.set_fin(start + (length - behind));
        }
        let (old, mut bytes) = Run::Captured(segment.payload).split_at(behind);
        emit.counters.bytes_duplicate += old.captured();
        let mut cut = Run::Cut(segment.cut.saturating_sub(behind.saturating_sub(captured)));
        if let Some(fin) = self.stream(side).fin() {
            let (within, beyond) = bytes.split_at(fin.saturating_sub(start));
            emit.counters.bytes_out_of_window += beyond.captured();
            (cut, _) = cut.split_at(fin.saturating_sub(start + within.len()));
            bytes = within;
        }
        let cut_start = start + bytes.len();
        let taken = bytes.len() + cut.len();
        let new = self.place(side, start, bytes, emit) + self.place(side, cut_start, cut, emit);
        if behind > 0 || ahead_of.is_some() || fin_again {
            let again = behind.min(length) + taken - new;
            // See `facts` for what is taken for a probe.
            let probe = length == 1 && behind == 1 && ahead_of.is_none();
            if (again > 0 && !probe) || fin_again {
                self.tally_mut(side).note_retransmission(again);
            } else if new > 0 && ahead_of.is_some_and(|end| start < end) {
                self.tally_mut(side).note_out_of_order();
            }
        }
        self.reach_fin(side, emit);
        self.settle(side, emit);
    }

    /// Declares the hole of a side that the other side acknowledged, if something waits behind it.
    pub(crate) fn settle(&mut self, side: Side, emit: &mut Emit<'_>) {
        while let Some(end) = self.stream(side).hole_end()
            && end <= self.stream(side).acked
        {
            self.give_up(side, end, GapReason::Acknowledged, emit);
        }
    }

    /// Declares the holes that have waited for too long.
    pub(crate) fn give_up_stale(&mut self, emit: &mut Emit<'_>) {
        for side in [Side::A, Side::B] {
            while let Some(end) = self.stream(side).hole_end() {
                let stream = self.stream(side);
                let since_ns = stream.hole_since_ns();
                let patience = if stream.hole_is_wanted() { WANTED_PATIENCE } else { 1 };
                let timeout_ns = emit.limits.gap_timeout_ns.saturating_mul(patience);
                // Where only the FIN shows the hole, its time is not kept: it goes when the connection's holes are
                // looked at. One that has waited since before the clock was set back, has so for long enough.
                let stale = since_ns.map_or(patience == 1, |since_ns| emit.time_ns.abs_diff(since_ns) >= timeout_ns);
                if !stale {
                    break;
                }
                self.give_up(side, end, GapReason::Timeout, emit);
            }
        }
    }

    /// Hands on all that waits, and declares all holes.
    pub(crate) fn flush(&mut self, emit: &mut Emit<'_>) {
        for side in [Side::A, Side::B] {
            loop {
                let (acknowledged, hole) = (self.stream(side).acknowledged_loss(), self.stream(side).hole_end());
                match (acknowledged, hole) {
                    (Some(end), hole) => {
                        self.give_up(side, end.min(hole.unwrap_or(end)), GapReason::Acknowledged, emit);
                    }
                    (None, Some(end)) => self.give_up(side, end, GapReason::ConnectionEnd, emit),
                    (None, None) => break,
                }
            }
        }
    }

    /// Hands on or keeps a run that begins at `start`. Returns how many of its bytes were not seen before.
    fn place(&mut self, side: Side, mut start: u64, mut run: Run<'_>, emit: &mut Emit<'_>) -> u64 {
        while run.len() > 0 {
            let stream = self.stream_mut(side);
            if start < stream.position {
                // What waited there has been handed on meanwhile.
                let (old, rest) = run.split_at(stream.position - start);
                emit.counters.bytes_duplicate += old.captured();
                start += old.len();
                run = rest;
                continue;
            }
            if start == stream.position {
                return self.place_next(side, run, emit);
            }
            let waiting = stream.waiting.as_deref();
            let hole_end = waiting.and_then(Assembler::front_start).map_or(start, |front| front.min(start));
            if stream.acked >= hole_end {
                self.give_up(side, hole_end, GapReason::Acknowledged, emit);
            } else if fits(waiting, run, emit) {
                return self.keep(side, start, run, emit);
            } else {
                self.give_up(side, hole_end, GapReason::BufferLimit, emit);
            }
        }
        0
    }

    /// Hands on a run that is next in order, and what it connects to. Returns how many of its bytes were not seen
    /// before.
    fn place_next(&mut self, side: Side, mut run: Run<'_>, emit: &mut Emit<'_>) -> u64 {
        self.settle_dependence(side, emit);
        if self.stream(side).waiting.is_none() {
            self.hand_on(side, run, emit.time_ns, emit);
            return run.len();
        }
        let mut new = run.len();
        if let Run::Captured(_) = run
            && let stream = self.stream_mut(side)
            && let Some(waiting) = &mut stream.waiting
        {
            let cost = waiting.cost();
            new -= waiting.make_room(stream.position, stream.position + run.len());
            *emit.waiting_cost = *emit.waiting_cost + waiting.cost() - cost;
        }
        while run.len() > 0 {
            let stream = self.stream_mut(side);
            let position = stream.position;
            let piece = stream.waiting.as_mut().and_then(|waiting| waiting.pop_at(position));
            match piece {
                Some(piece) => {
                    let (overlap, rest) = run.split_at(piece.end - piece.start);
                    emit.counters.bytes_duplicate += overlap.captured();
                    emit.counters.bytes_conflicting += piece.conflicts(position, overlap);
                    new -= overlap.len();
                    run = rest;
                    self.hand_on_piece(side, piece, emit);
                }
                None => {
                    let front = stream.waiting.as_ref().and_then(|waiting| waiting.front_start());
                    let (next, rest) = run.split_at(front.map_or(u64::MAX, |front| front - position));
                    run = rest;
                    self.hand_on(side, next, emit.time_ns, emit);
                }
            }
        }
        self.drain(side, emit);
        if let Some(waiting) = &mut self.stream_mut(side).waiting {
            waiting.set_progress(emit.time_ns);
        }
        new
    }

    /// Keeps a run that lies behind a hole. Returns how many of its bytes were not seen before.
    fn keep(&mut self, side: Side, start: u64, run: Run<'_>, emit: &mut Emit<'_>) -> u64 {
        let stream = self.stream_mut(side);
        let waiting = stream.waiting.get_or_insert_default();
        let cost = waiting.cost();
        let done = waiting.insert(start, run, stream.skip_until, emit.time_ns);
        *emit.waiting_cost = *emit.waiting_cost + waiting.cost() - cost;
        emit.counters.bytes_buffered += done.buffered;
        emit.counters.bytes_skipped += done.skipped;
        emit.counters.bytes_duplicate += done.duplicate;
        emit.counters.bytes_conflicting += done.conflicting;
        done.new
    }

    /// Declares the bytes before `end` lost, then hands on what waited for them.
    fn give_up(&mut self, side: Side, end: u64, reason: GapReason, emit: &mut Emit<'_>) {
        if !self.stream_mut(side).begin_late(end) {
            self.lose(side, end - self.stream(side).position, reason, emit);
        }
        if self.stream(side).waiting.as_ref().and_then(|waiting| waiting.front_start()) == Some(end) {
            self.settle_dependence(side, emit);
            self.drain(side, emit);
        }
        self.reach_fin(side, emit);
    }

    /// Before payload of `side` is handed on: declares lost what it acknowledges of the other side and was not seen.
    fn settle_dependence(&mut self, side: Side, emit: &mut Emit<'_>) {
        let other = side.other();
        while self.stream(other).acked > self.stream(other).position
            && let Some(end) = self.stream(other).acknowledged_loss()
        {
            let hole = self.stream(other).hole_end();
            let begins_late = hole.is_some_and(|hole| self.stream_mut(other).begin_late(hole));
            if !begins_late {
                let end = hole.unwrap_or(end).min(end);
                self.lose(other, end - self.stream(other).position, GapReason::Acknowledged, emit);
            }
            self.drain(other, emit);
            self.reach_fin(other, emit);
        }
    }

    /// Hands on the pieces that are next in order.
    fn drain(&mut self, side: Side, emit: &mut Emit<'_>) {
        loop {
            let stream = self.stream_mut(side);
            let Some(waiting) = &mut stream.waiting else { return };
            let Some(piece) = waiting.pop_at(stream.position) else {
                if waiting.pieces() == 0 {
                    stream.waiting = None;
                }
                return;
            };
            self.hand_on_piece(side, piece, emit);
        }
    }

    /// Hands on a piece that was taken from those that wait.
    fn hand_on_piece(&mut self, side: Side, piece: Piece, emit: &mut Emit<'_>) {
        *emit.waiting_cost -= piece.cost();
        match &piece.content {
            Content::Data(bytes) => {
                emit.counters.bytes_buffered -= bytes.len() as u64;
                self.hand_on(side, Run::Captured(bytes), piece.time_ns, emit);
            }
            Content::Cut => self.hand_on(side, Run::Cut(piece.end - piece.start), piece.time_ns, emit),
            Content::Skipped => self.stream_mut(side).advance(piece.end - piece.start),
        }
    }

    /// Hands on a run that begins at the stream's position, as far as it is wanted.
    fn hand_on(&mut self, side: Side, run: Run<'_>, time_ns: u64, emit: &mut Emit<'_>) {
        let mut bytes = match run {
            Run::Cut(length) => return self.lose(side, length, GapReason::Snaplen, emit),
            Run::Captured(bytes) => bytes,
        };
        let stream = self.stream_mut(side);
        if stream.skip_until > stream.position {
            let unwanted = stream.skip_until - stream.position;
            let (skipped, wanted) = run.split_at(unwanted);
            stream.advance(skipped.len());
            emit.counters.bytes_skipped += skipped.len();
            let Run::Captured(wanted) = wanted else { return };
            bytes = wanted;
        }
        if bytes.is_empty() {
            return;
        }
        let position = self.stream(side).told_position();
        self.stream_mut(side).advance(bytes.len() as u64);
        emit.counters.bytes_delivered += bytes.len() as u64;
        self.open(emit);
        emit.sink.data(self.id, side, Chunk { position, time_ns, bytes });
    }

    /// Declares the next `length` bytes lost.
    fn lose(&mut self, side: Side, length: u64, reason: GapReason, emit: &mut Emit<'_>) {
        if length == 0 {
            return;
        }
        let stream = self.stream_mut(side);
        let position = stream.told_position();
        let waited_ns = match reason {
            GapReason::Snaplen => 0,
            _ => stream.hole_since_ns().map_or(0, |since_ns| emit.time_ns.saturating_sub(since_ns)),
        };
        stream.advance(length);
        self.tally_mut(side).note_gap(length, reason);
        emit.counters.note_gap(reason, length);
        self.open(emit);
        emit.sink.gap(self.id, side, Gap { position, length, time_ns: emit.time_ns, reason, waited_ns });
    }

    fn reach_fin(&mut self, side: Side, emit: &mut Emit<'_>) {
        let stream = self.stream(side);
        if !stream.ended && stream.fin() == Some(stream.position) {
            self.end(side, emit);
        }
    }
}

/// Is there room for one more run? The bounds may be passed by the pieces of one run that fills several holes.
fn fits(waiting: Option<&Assembler>, run: Run<'_>, emit: &Emit<'_>) -> bool {
    let (pieces, bytes) = waiting.map_or((0, 0), |waiting| (waiting.pieces(), waiting.bytes()));
    pieces < emit.limits.side_buffer_segments as usize
        && bytes + run.captured() <= u64::from(emit.limits.side_buffer_bytes)
        && *emit.waiting_cost + Assembler::cost_of(run) <= emit.limits.total_buffer_bytes
}
