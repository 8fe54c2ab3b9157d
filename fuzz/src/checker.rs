//! Holds the engine to what [`Sink`] promises. The only sink of the fuzz targets.
//!
//! Where it is told what the senders sent (see [`Sent`]), it also checks each byte: a connection's side must map stream
//! positions to sequence numbers in one way from its first byte to its last.

use std::collections::HashSet;

use podtap_stream::{Chunk, Closed, Connection, ConnectionId, Counters, Endpoint, Gap, Limits, Side, Sink};

/// Checks all that it is told, and panics.
pub(crate) struct Checker {
    limits: Limits,
    /// Every name given out, in order.
    names: Vec<ConnectionId>,
    known: HashSet<ConnectionId>,
    open: Vec<Open>,
    bytes_delivered: u64,
    bytes_gap: u64,
    gaps: u64,
    /// The greatest time of a packet so far.
    pub(crate) latest_ns: u64,
    /// What was sent; `None` where the payload is arbitrary.
    pub(crate) sent: Option<Sent>,
    /// Bytes that were compared with what was sent.
    pub(crate) bytes_compared: u64,
}

/// A connection between its `opened` and its `closed`.
struct Open {
    connection: Connection,
    ignored: bool,
    sides: [Progress; 2],
}

/// One side of it.
#[derive(Default)]
struct Progress {
    position: u64,
    /// Bytes before this position may be left out.
    skip_until: u64,
    ended: bool,
    /// Number and bytes of the gaps.
    gaps: (u64, u64),
    /// Sequence numbers that position 0 can have, by all bytes so far; `None` before the first.
    origins: Option<Vec<u32>>,
}

impl Checker {
    pub(crate) fn new(limits: Limits, sent: Option<Sent>) -> Checker {
        Checker {
            limits,
            names: Vec::new(),
            known: HashSet::new(),
            open: Vec::new(),
            bytes_delivered: 0,
            bytes_gap: 0,
            gaps: 0,
            latest_ns: 0,
            sent,
            bytes_compared: 0,
        }
    }

    /// A name that was given out, maybe long ago.
    pub(crate) fn name(&self, choice: u8) -> Option<ConnectionId> {
        // Counted from the last, for the connections that are open are there.
        let back = usize::from(choice) % self.names.len().max(1);
        self.names.iter().rev().nth(back).copied()
    }

    /// How far a side has come; 0 for a connection that is not open.
    pub(crate) fn position(&self, id: ConnectionId, side: Side) -> u64 {
        let open = self.open.iter().find(|open| open.connection.id == id);
        open.map_or(0, |open| open.sides[side as usize].position)
    }

    /// Bytes before `position` are not wanted from now on.
    pub(crate) fn skip_to(&mut self, id: ConnectionId, side: Side, position: u64) {
        if let Some(open) = self.open.iter_mut().find(|open| open.connection.id == id) {
            let progress = &mut open.sides[side as usize];
            progress.skip_until = progress.skip_until.max(position);
        }
    }

    /// Nothing but `closed` is expected of the connection from now on.
    pub(crate) fn ignore(&mut self, id: ConnectionId) {
        if let Some(open) = self.open.iter_mut().find(|open| open.connection.id == id) {
            open.ignored = true;
        }
    }

    /// Compares the engine's sums with what was told. To be called between any two calls of the engine.
    pub(crate) fn check(&self, counters: &Counters) {
        let Limits { max_connections, side_buffer_bytes, total_buffer_bytes, .. } = self.limits;
        assert!(counters.adds_up(), "{counters:?}");
        let counted = (counters.bytes_delivered, counters.bytes_gap(), counters.gaps);
        assert_eq!(counted, (self.bytes_delivered, self.bytes_gap, self.gaps), "{counters:?}");
        assert!(counters.connections <= u64::from(max_connections.max(1)), "{counters:?}");
        assert!(self.open.len() as u64 <= counters.connections, "{counters:?}");
        assert!(counters.bytes_buffered <= total_buffer_bytes, "{counters:?}");
        assert!(counters.bytes_buffered <= 2 * counters.connections * u64::from(side_buffer_bytes), "{counters:?}");
        if self.sent.as_ref().is_some_and(|sent| !sent.any_conflict()) {
            assert_eq!(counters.bytes_conflicting, 0, "{counters:?}");
        }
    }

    /// As [`Checker::check`], after [`podtap_stream::Engine::finish`].
    pub(crate) fn check_finished(&self, counters: &Counters) {
        self.check(counters);
        let left = (counters.bytes_buffered, counters.fragments_waiting, counters.connections);
        assert_eq!(left, (0, 0, 0), "{counters:?}");
        assert!(self.open.is_empty());
    }
}

impl Open {
    /// The connection that a call is about: it must be open and not ignored, and the time must have come.
    fn find(open: &mut [Open], id: ConnectionId, time_ns: u64, latest_ns: u64) -> &mut Open {
        assert!(time_ns <= latest_ns, "at {time_ns}, after {latest_ns}");
        let found = open.iter_mut().find(|open| open.connection.id == id);
        let found = found.unwrap_or_else(|| panic!("{id:?} is not open"));
        assert!(!found.ignored, "{id:?} is ignored");
        found
    }
}

impl Progress {
    /// Goes on with `length` bytes at `position`.
    fn advance(&mut self, position: u64, length: u64) {
        assert!(!self.ended, "{position}, after the end");
        let skipped = self.position < position && position <= self.skip_until;
        assert!(position == self.position || skipped, "{position}, not {}", self.position);
        self.position = position + length;
    }
}

impl Sink for Checker {
    fn opened(&mut self, connection: &Connection) {
        assert!(connection.start_ns <= self.latest_ns);
        assert!(connection.id.index < self.limits.max_connections.max(1), "{connection:?}");
        assert!(self.known.insert(connection.id), "{connection:?}, again");
        self.names.push(connection.id);
        self.open.push(Open { connection: *connection, ignored: false, sides: Default::default() });
    }

    fn data(&mut self, id: ConnectionId, side: Side, chunk: Chunk<'_>) {
        let Chunk { position, time_ns, bytes } = chunk;
        assert!(!bytes.is_empty());
        let open = Open::find(&mut self.open, id, time_ns, self.latest_ns);
        let (a, b) = (open.connection.a, open.connection.b);
        let progress = &mut open.sides[side as usize];
        progress.advance(position, bytes.len() as u64);
        assert!(position >= progress.skip_until, "{position}, though {} was skipped to", progress.skip_until);
        let (from, to) = if side == Side::A { (a, b) } else { (b, a) };
        if let Some(direction) = self.sent.as_ref().and_then(|sent| sent.direction(from, to)) {
            direction.compare(&mut progress.origins, position, bytes);
            self.bytes_compared += bytes.len() as u64;
        }
        self.bytes_delivered += bytes.len() as u64;
    }

    fn gap(&mut self, id: ConnectionId, side: Side, gap: Gap) {
        let Gap { position, length, time_ns, .. } = gap;
        assert!(length > 0, "{gap:?}");
        let progress = &mut Open::find(&mut self.open, id, time_ns, self.latest_ns).sides[side as usize];
        progress.advance(position, length);
        progress.gaps.0 += 1;
        progress.gaps.1 += length;
        self.bytes_gap += length;
        self.gaps += 1;
    }

    fn end(&mut self, id: ConnectionId, side: Side, position: u64, time_ns: u64) {
        let progress = &mut Open::find(&mut self.open, id, time_ns, self.latest_ns).sides[side as usize];
        progress.advance(position, 0);
        progress.ended = true;
    }

    fn closed(&mut self, connection: &Connection, closed: &Closed) {
        assert!(closed.time_ns <= self.latest_ns && closed.facts.last_ns <= self.latest_ns, "{closed:?}");
        let place = self.open.iter().position(|open| open.connection.id == connection.id);
        let open = place.map(|place| self.open.swap_remove(place));
        // One that never carried payload was not told before.
        assert!(open.is_some() || self.known.insert(connection.id), "{connection:?}, again");
        let sides = [(&closed.facts.a, Side::A), (&closed.facts.b, Side::B)];
        for (facts, side) in sides {
            assert!(facts.retransmitted_bytes <= facts.payload_bytes, "{closed:?}");
            let told = open.as_ref().map_or((0, 0), |open| open.sides[side as usize].gaps);
            assert_eq!((facts.gaps.into(), facts.gap_bytes), told, "{closed:?}");
        }
    }
}

/// So many bytes are found in one place only, so that the likely places are enough: to look through all that was sent
/// takes longer than the engine does.
const TELLING_BYTES: usize = 8;

/// What was sent, by direction.
pub(crate) struct Sent {
    directions: Vec<Direction>,
}

/// All that one end sent to another, in all their connections: each byte follows from its sequence number.
pub(crate) struct Direction {
    from: Endpoint,
    to: Endpoint,
    /// Sequence numbers and lengths of the segments with payload.
    segments: Vec<(u32, u32)>,
    /// Other bytes were sent for some sequence numbers, so that nothing can be said.
    conflict: bool,
}

impl Sent {
    /// Nothing, between these ends.
    pub(crate) fn new(ends: impl Iterator<Item = (Endpoint, Endpoint)>) -> Sent {
        let direction = |(from, to)| Direction { from, to, segments: Vec::new(), conflict: false };
        Sent { directions: ends.map(direction).collect() }
    }

    /// The payload of a segment that is about to be sent; `conflicts`: not what a retransmission of it would bring.
    pub(crate) fn payload(&mut self, index: usize, seq: u32, length: u32, conflicts: bool) -> Vec<u8> {
        let direction = &mut self.directions[index];
        if length > 0 {
            direction.conflict |= conflicts;
            if !direction.segments.contains(&(seq, length)) {
                direction.segments.push((seq, length));
            }
        }
        let mask = if conflicts { 0x55 } else { 0 };
        (0..length).map(|offset| byte(direction.from, seq.wrapping_add(offset)) ^ mask).collect()
    }

    fn any_conflict(&self) -> bool {
        self.directions.iter().any(|direction| direction.conflict)
    }

    fn direction(&self, from: Endpoint, to: Endpoint) -> Option<&Direction> {
        let found = self.directions.iter().find(|direction| (direction.from, direction.to) == (from, to));
        let direction = found.unwrap_or_else(|| panic!("{from:?} sent nothing to {to:?}"));
        (!direction.conflict).then_some(direction)
    }
}

impl Direction {
    /// Narrows `origins` to those by which `bytes` at `position` are what was sent; none left is a fault.
    fn compare(&self, origins: &mut Option<Vec<u32>>, position: u64, bytes: &[u8]) {
        let holds = |origin: u32| {
            // Truncation is the wrap of sequence numbers.
            let first = origin.wrapping_add(position as u32);
            (0..).zip(bytes).all(|(offset, &told)| byte(self.from, first.wrapping_add(offset)) == told)
        };
        match origins {
            Some(origins) => origins.retain(|&origin| holds(origin)),
            None => {
                let origin = |seq: u32| seq.wrapping_sub(position as u32);
                let mut found: Vec<u32> = Vec::new();
                if bytes.len() >= TELLING_BYTES {
                    let starts = self.segments.iter().map(|&(seq, _)| origin(seq));
                    found.extend(starts.filter(|&origin| holds(origin)));
                }
                if found.is_empty() {
                    let places = self
                        .segments
                        .iter()
                        .flat_map(|&(seq, length)| (0..length).map(move |offset| origin(seq.wrapping_add(offset))));
                    found.extend(places.filter(|&origin| holds(origin)));
                }
                found.sort_unstable();
                found.dedup();
                *origins = Some(found);
            }
        }
        let any = origins.as_ref().is_some_and(|origins| !origins.is_empty());
        assert!(any, "{:?} never sent {bytes:?} as its bytes from {position} on", self.from);
    }
}

/// The byte that `from` sends for a sequence number. Mixed, so that a few bytes tell where in the stream they are.
fn byte(from: Endpoint, seq: u32) -> u8 {
    let mut mixed = (seq ^ u32::from(from.port) << 16).wrapping_mul(0x9e37_79b1);
    mixed ^= mixed >> 15;
    mixed = mixed.wrapping_mul(0x85eb_ca77);
    (mixed >> 24) as u8
}
