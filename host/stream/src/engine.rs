//! The engine: from a packet to its connection, and the timers. See the crate's documentation.

use crate::clock::Clock;
use crate::fragments::{Datagram, Fragments};
use crate::frame::NoSegment;
use crate::packet::{self, Content, Fragment};
use crate::table::{Due, End, Key, Life, Table};
use crate::tcp::Segment;
use crate::tracked::{Emit, LateSegment, Tracked, Verdict};
use crate::{CloseReason, Closed, Connection, ConnectionId, Counters, Limits, LinkType, Side};

/// A packet as captured.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Link type of the interface it was captured on.
    pub link_type: LinkType,
    /// Capture time, ns since epoch.
    pub time_ns: u64,
    /// The bytes captured, from the link header on.
    pub data: &'a [u8],
    /// Length on the wire; more than `data.len()` when a snaplen cut it.
    pub original_len: u32,
}

/// Payload of one side, next in stream order.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Stream position of the first byte.
    pub position: u64,
    /// Capture time of the segment that brought it, ns since epoch.
    pub time_ns: u64,
    /// The payload; never empty.
    pub bytes: &'a [u8],
}

/// Why bytes are held to be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The receiver acknowledged them: it has them, the capture has not.
    Acknowledged,
    /// Too much waited behind the hole (bytes or segments).
    BufferLimit,
    /// They did not come within [`Limits::gap_timeout_ns`].
    Timeout,
    /// The snaplen cut them off.
    Snaplen,
    /// The stream went on implausibly far away, and two segments in a row agreed on where.
    Resync,
    /// The connection ended with the hole open.
    ConnectionEnd,
}

/// Bytes that will never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Stream position of the first missing byte.
    pub position: u64,
    /// How many are missing; at least 1.
    pub length: u64,
    /// Capture time at which they were given up, ns since epoch.
    pub time_ns: u64,
    /// Why.
    pub reason: GapReason,
    /// For how long bytes behind it had waited for it then, ns; 0 where none did: it was known at once, or only an
    /// acknowledgement or a FIN showed it.
    pub waited_ns: u64,
}

/// Receives what the engine finds. Within a side, chunks and gaps are contiguous in `position`, except for bytes
/// skipped on demand. No call but `closed` comes before `opened` of a connection, and none after `closed`.
pub trait Sink {
    /// The connection is about to carry its first payload or gap.
    fn opened(&mut self, connection: &Connection);
    /// Payload, in order.
    fn data(&mut self, connection: ConnectionId, side: Side, chunk: Chunk<'_>);
    /// A gap, in order.
    fn gap(&mut self, connection: ConnectionId, side: Side, gap: Gap);
    /// The side will send no more: its FIN was reached in order.
    fn end(&mut self, connection: ConnectionId, side: Side, position: u64, time_ns: u64);
    /// The connection is gone; its id may come again with another generation. Called once for every connection: it is
    /// the only call for one that never carried payload, such as one that was refused.
    fn closed(&mut self, connection: &Connection, closed: &Closed);
}

/// Link, IP and TCP parsing, the connection table and reassembly.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    counters: Counters,
    fragments: Fragments,
    table: Table,
    /// What all that waits behind holes costs, see [`Limits::total_buffer_bytes`].
    waiting_cost: u64,
    clock: Clock,
}

impl Engine {
    /// An engine without connections.
    pub fn new(limits: Limits) -> Engine {
        Engine {
            limits,
            counters: Counters::default(),
            fragments: Fragments::default(),
            table: Table::new(),
            waiting_cost: 0,
            clock: Clock::new(),
        }
    }

    /// Takes one packet and tells `sink` what became known by it.
    ///
    /// Timers run on the greatest capture time seen, so that a packet from the past changes none; where the clock was set
    /// back by a minute or more, they go on from its new time.
    pub fn packet(&mut self, packet: &Packet<'_>, sink: &mut dyn Sink) {
        self.counters.packets += 1;
        if self.clock.reach(packet.time_ns) {
            self.run_timers(sink);
        }
        match packet::usual(packet) {
            Some(segment) => self.segment(&segment, packet.time_ns, sink),
            None => self.content(packet::parse(packet), packet.time_ns, sink),
        }
    }

    /// The capture has come to this time, though no packet says so: timers run. For live traffic that pauses; a time in the
    /// past changes nothing, but for a clock that was set back, see [`Engine::packet`].
    pub fn advance(&mut self, now_ns: u64, sink: &mut dyn Sink) {
        if self.clock.reach(now_ns) {
            self.run_timers(sink);
        }
    }

    /// From now on, payload of `side` before `position` is not needed: it is neither buffered nor handed on. Gaps there
    /// are still declared, those by snaplen included. Advice: a position in the past changes nothing.
    pub fn skip_to(&mut self, connection: ConnectionId, side: Side, position: u64) {
        if let Some(tracked) = self.table.by_id(connection) {
            tracked.skip_to(side, position, &mut self.counters, &mut self.waiting_cost);
        }
    }

    /// From now on the connection is of no interest: nothing of it is buffered or handed on but its `closed`.
    pub fn ignore(&mut self, connection: ConnectionId) {
        if let Some(tracked) = self.table.by_id(connection) {
            tracked.ignore(&mut self.counters, &mut self.waiting_cost);
            self.table.set_hole(connection.index, false, 0, 0);
        }
    }

    /// The capture is over: hands on what is buffered, with the holes as gaps, and closes every connection.
    pub fn finish(&mut self, sink: &mut dyn Sink) {
        while let Some(index) = self.table.victim() {
            self.let_go(index, CloseReason::CaptureEnd, self.clock.capture_ns, sink);
        }
        self.fragments.finish(&mut self.counters);
        // Another capture may follow, with a time of its own.
        self.clock = Clock::new();
    }

    /// What happened to every packet and byte so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn content(&mut self, content: Result<Content<'_>, NoSegment>, time_ns: u64, sink: &mut dyn Sink) {
        match content {
            Ok(Content::Segment(segment)) => self.segment(&segment, time_ns, sink),
            Ok(Content::Fragment(fragment)) => self.fragment(&fragment, time_ns, sink),
            Err(NoSegment::NotTcp) => self.counters.packets_not_tcp += 1,
            Err(NoSegment::UnknownLink) => self.counters.packets_unknown_link += 1,
            Err(NoSegment::Malformed) => self.counters.packets_malformed += 1,
            Err(NoSegment::Truncated) => self.counters.packets_truncated += 1,
            Err(NoSegment::TooDeep) => self.counters.packets_too_deep += 1,
        }
    }

    /// A fragment may complete a datagram, and that may be a fragment of another one, as deep as headers are read.
    #[cold]
    fn fragment(&mut self, fragment: &Fragment<'_>, time_ns: u64, sink: &mut dyn Sink) {
        let Engine { fragments, counters, limits, clock, .. } = self;
        let Some(Datagram { addresses, protocol, payload, headers_left }) =
            fragments.add(fragment, clock.now_ns, limits, counters)
        else {
            return;
        };
        self.content(packet::parse_payload(addresses, protocol, &payload, headers_left), time_ns, sink);
    }

    fn segment(&mut self, segment: &Segment<'_>, time_ns: u64, sink: &mut dyn Sink) {
        self.counters.bytes += segment.payload.len() as u64;
        let (key, end) = Key::of(segment);
        let Some(index) = self.table.find(&key) else {
            return self.untracked(key, end, segment, time_ns, sink);
        };
        let (Some(tracked), mut emit) = self.parts(index, time_ns, sink) else { return };
        if tracked.is_closed() {
            return self.late(index, key, end, segment, time_ns, sink);
        }
        let ignored = tracked.is_ignored();
        match tracked.segment(end, segment, &mut emit) {
            Verdict::Open => {}
            Verdict::Over(reason) => tracked.close(reason, &mut emit),
            Verdict::Anew => {
                self.let_go(index, CloseReason::Replaced, time_ns, sink);
                return self.untracked(key, end, segment, time_ns, sink);
            }
        }
        self.count_packet(ignored);
        self.settle_lists(index);
    }

    /// A segment of no connection in the table.
    fn untracked(&mut self, key: Key, end: End, segment: &Segment<'_>, time_ns: u64, sink: &mut dyn Sink) {
        // A FIN without payload ends what was never seen; all other segments with SYN, payload or an acknowledgement
        // may begin something.
        let useful = segment.syn || segment.payload_len() > 0 || (segment.ack.is_some() && !segment.fin);
        if segment.rst || !useful {
            self.counters.packets_stray += 1;
            self.counters.bytes_out_of_window += segment.payload.len() as u64;
            return;
        }
        while self.table.len() >= self.limits.max_connections.max(1) as usize
            && let Some(victim) = self.table.victim()
        {
            let closed = self.table.get(victim).is_none_or(Tracked::is_closed);
            self.counters.connections_evicted += u64::from(!closed);
            self.let_go(victim, CloseReason::Evicted, time_ns, sink);
        }
        self.counters.connections += 1;
        self.counters.connections_total += 1;
        let make = |id| Tracked::new(id, key, end, segment, time_ns);
        let index = self.table.insert(self.clock.now_ns, &self.limits, make);
        let (Some(tracked), mut emit) = self.parts(index, time_ns, sink) else { return };
        if let Verdict::Over(reason) = tracked.segment(end, segment, &mut emit) {
            tracked.close(reason, &mut emit);
        }
        self.count_packet(false);
        self.settle_lists(index);
    }

    /// A segment of a connection that is closed already.
    fn late(&mut self, index: u32, key: Key, end: End, segment: &Segment<'_>, time_ns: u64, sink: &mut dyn Sink) {
        let (Some(tracked), mut emit) = self.parts(index, time_ns, sink) else { return };
        let ignored = tracked.is_ignored();
        match tracked.late_segment(end, segment, &mut emit) {
            LateSegment::Old => self.table.touch(index, Life::Lingering, self.clock.now_ns, &self.limits),
            LateSegment::Other => {}
            LateSegment::Anew => {
                self.table.remove(index);
                return self.untracked(key, end, segment, time_ns, sink);
            }
        }
        self.counters.packets_late += 1;
        self.count_packet(ignored);
    }

    fn count_packet(&mut self, ignored: bool) {
        *(if ignored { &mut self.counters.packets_ignored } else { &mut self.counters.packets_tracked }) += 1;
    }

    /// After a segment: moves the connection to the list where it belongs now.
    fn settle_lists(&mut self, index: u32) {
        let Some(tracked) = self.table.get(index) else { return };
        let life = match (tracked.is_closed(), tracked.is_established()) {
            (true, _) => Life::Closing,
            (false, true) => Life::Established,
            (false, false) => Life::HalfOpen,
        };
        let hole = tracked.has_hole();
        self.table.touch(index, life, self.clock.now_ns, &self.limits);
        self.table.set_hole(index, hole, self.clock.now_ns, self.limits.gap_timeout_ns);
    }

    fn run_timers(&mut self, sink: &mut dyn Sink) {
        while let Some(due) = self.table.due(self.clock.now_ns, &self.limits) {
            match due {
                Due::Expired(index) => self.let_go(index, CloseReason::Idle, self.clock.capture_ns, sink),
                Due::Hole(index) => {
                    let (Some(tracked), mut emit) = self.parts(index, self.clock.capture_ns, sink) else { return };
                    tracked.give_up_stale(&mut emit);
                    if tracked.both_ended() {
                        tracked.close(CloseReason::Finished, &mut emit);
                    }
                    let (closed, hole) = (tracked.is_closed(), tracked.has_hole());
                    self.table.set_hole(index, false, 0, 0);
                    self.table.set_hole(index, hole, self.clock.now_ns, self.limits.gap_timeout_ns);
                    if closed {
                        self.table.touch(index, Life::Closing, self.clock.now_ns, &self.limits);
                    }
                }
            }
        }
    }

    /// Closes a connection and frees its slot.
    fn let_go(&mut self, index: u32, reason: CloseReason, time_ns: u64, sink: &mut dyn Sink) {
        if let (Some(tracked), mut emit) = self.parts(index, time_ns, sink) {
            tracked.close(reason, &mut emit);
        }
        self.table.remove(index);
    }

    /// A connection, and apart from it what it needs to report.
    fn parts<'e>(
        &'e mut self,
        index: u32,
        time_ns: u64,
        sink: &'e mut dyn Sink,
    ) -> (Option<&'e mut Tracked>, Emit<'e>) {
        let Engine { table, counters, limits, waiting_cost, .. } = self;
        (table.get_mut(index), Emit { sink, counters, limits, waiting_cost, time_ns })
    }
}
