//! Runs a list of segments through an engine and writes down, one line a call, what the sink was told.

use podtap_stream::{Chunk, Closed, Connection, ConnectionId, Counters, Engine, Gap, Limits, Side, SideFacts, Sink};

use crate::wire::Tcp;

/// Writes down calls, and checks the promises of [`Sink`].
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) lines: Vec<String>,
    /// Connections open, with the position of each side; sides that skip are not checked for contiguity.
    pub(crate) open: Vec<(ConnectionId, [u64; 2], [bool; 2])>,
    pub(crate) skipping: bool,
    /// Prefix lines with the slot.
    pub(crate) show_index: bool,
    pub(crate) last_id: Option<ConnectionId>,
    pub(crate) times: Vec<u64>,
    /// How long each gap had been waited for.
    pub(crate) waits: Vec<u64>,
    /// What each end was told with.
    pub(crate) closed: Vec<(Connection, Closed)>,
}

impl Recorder {
    fn line(&mut self, id: ConnectionId, text: String) {
        self.lines.push(if self.show_index { format!("{}: {text}", id.index) } else { text });
    }

    /// After `finish`: every connection was told closed, once, and what was told of all is what was counted.
    #[track_caller]
    pub(crate) fn check_sums(&self, counters: &Counters) {
        assert_eq!(self.closed.len() as u64, counters.connections_total);
        let sides = || self.closed.iter().flat_map(|(_, closed)| [closed.facts.a, closed.facts.b]);
        let sum = |fact: fn(SideFacts) -> u64| sides().map(fact).sum::<u64>();
        let counted = counters.packets_tracked + counters.packets_ignored - counters.packets_late;
        assert_eq!(sum(|side| side.packets.into()), counted);
        assert_eq!((sum(|side| side.gap_bytes), sum(|side| side.gaps.into())), (counters.bytes_gap(), counters.gaps));
        assert!(sides().all(|side| side.retransmitted_bytes <= side.payload_bytes));
    }

    fn advance(&mut self, id: ConnectionId, side: Side, position: u64, length: u64) {
        let (_, positions, ended) =
            self.open.iter_mut().find(|(open, ..)| *open == id).expect("a call for a connection that is not open");
        let expected = &mut positions[side as usize];
        assert!(length > 0 && !ended[side as usize]);
        assert!(*expected == position || (self.skipping && *expected < position), "{position}, expected {expected}");
        *expected = position + length;
    }
}

impl Sink for Recorder {
    fn opened(&mut self, connection: &Connection) {
        assert!(self.open.iter().all(|(open, ..)| *open != connection.id));
        self.open.push((connection.id, [0; 2], [false; 2]));
        self.last_id = Some(connection.id);
        let text = format!("opened {:?} by {}", connection.opened_by, connection.a.port);
        self.line(connection.id, text);
    }

    fn data(&mut self, id: ConnectionId, side: Side, chunk: Chunk<'_>) {
        self.advance(id, side, chunk.position, chunk.bytes.len() as u64);
        self.times.push(chunk.time_ns);
        self.line(id, format!("{side:?} {} {}", chunk.position, String::from_utf8_lossy(chunk.bytes)));
    }

    fn gap(&mut self, id: ConnectionId, side: Side, gap: Gap) {
        self.advance(id, side, gap.position, gap.length);
        self.waits.push(gap.waited_ns);
        self.line(id, format!("{side:?} {} gap {} {:?}", gap.position, gap.length, gap.reason));
    }

    fn end(&mut self, id: ConnectionId, side: Side, position: u64, _time_ns: u64) {
        let (_, positions, ended) = self.open.iter_mut().find(|(open, ..)| *open == id).expect("not open");
        assert!(!ended[side as usize]);
        ended[side as usize] = true;
        assert!(positions[side as usize] == position || self.skipping);
        self.line(id, format!("{side:?} {position} end"));
    }

    fn closed(&mut self, connection: &Connection, closed: &Closed) {
        self.closed.push((*connection, *closed));
        // One that never carried anything is told here only; the lines leave it out.
        if let Some(place) = self.open.iter().position(|(open, ..)| *open == connection.id) {
            self.open.remove(place);
            self.line(connection.id, format!("closed {:?}", closed.reason));
        }
    }
}

/// An engine with its recorder and a clock that ticks a microsecond per packet.
pub(crate) struct Run {
    pub(crate) engine: Engine,
    pub(crate) recorder: Recorder,
    pub(crate) time_ns: u64,
}

impl Run {
    pub(crate) fn new(limits: Limits) -> Run {
        Run { engine: Engine::new(limits), recorder: Recorder::default(), time_ns: 1_000_000_000 }
    }

    pub(crate) fn send(&mut self, segments: &[Tcp]) -> &mut Run {
        for segment in segments {
            self.time_ns += 1_000;
            let time_ns = segment.time_ns.unwrap_or(self.time_ns);
            self.time_ns = self.time_ns.max(time_ns);
            segment.send(&mut self.engine, time_ns, &mut self.recorder);
            assert!(self.engine.counters().adds_up(), "after {segment:?}: {:?}", self.engine.counters());
        }
        self
    }

    pub(crate) fn finish(&mut self) -> &mut Run {
        self.engine.finish(&mut self.recorder);
        let counters = self.engine.counters();
        assert!(counters.adds_up(), "{counters:?}");
        assert_eq!((counters.bytes_buffered, counters.fragments_waiting, counters.connections), (0, 0, 0));
        assert!(self.recorder.open.is_empty());
        self.recorder.check_sums(counters);
        self
    }

    /// The lines since the last call.
    #[track_caller]
    pub(crate) fn tells(&mut self, expected: &[&str]) -> &mut Run {
        assert_eq!(std::mem::take(&mut self.recorder.lines), expected);
        self
    }
}

/// Sends segments with default limits and compares all that is told until after `finish`, which must not be told of in
/// `expected` if it is the plain end of a connection.
#[track_caller]
pub(crate) fn check(segments: &[Tcp], expected: &[&str]) {
    let mut run = Run::new(Limits::default());
    run.send(segments).finish();
    let lines = std::mem::take(&mut run.recorder.lines);
    let told: Vec<&str> = lines.iter().map(String::as_str).filter(|line| *line != "closed CaptureEnd").collect();
    assert_eq!(told, expected);
}
