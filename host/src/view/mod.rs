//! What traffic looks like: events in, and out of them, at any time, what people look at first.
//!
//! Counts, failures, rates over time, percentiles and bytes by protocol, server and operation; who calls whom; single
//! exchanges worth a look; and what was lost, without which none of it can be judged. `podtap report` and `podtap top` show
//! it. Percentiles are those of the summary of a replay (see [`crate::latency`]).
//!
//! Memory is bounded whatever comes: rows and edges beyond their bounds are counted together under `other`, so that the
//! counts of all rows, and of all edges, are those of all exchanges.

mod figures;
mod filtered;
mod meaning;
mod single;
mod timeline;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use crate::event::{ConnectionEvent, Event, Exchange, Opened, Outcome, Reason, Vantage};
use crate::latency::Latencies;
use crate::pipeline::Report;
use crate::read::{Known, Record};
use crate::summary::OTHER;

pub use figures::{Count, Rate};
pub use filtered::Filtered;
pub use meaning::meaning;
pub use single::{Kept, Single};
pub(crate) use single::{MAX_KEPT, MAX_KEPT_OF_ROW, MAX_SINGLE_BYTES, MAX_TEXT_BYTES};
pub(crate) use timeline::MAX_SLOTS;
pub use timeline::{Slot, Timeline};

/// Operations of servers that have a row of their own. A row takes about 13 kB for each outcome that it has.
pub(crate) const MAX_ROWS: usize = 256;
/// Pairs of client and server that have an edge of their own.
pub(crate) const MAX_EDGES: usize = 256;
/// Addresses whose service is known by name.
pub(crate) const MAX_NAMES: usize = 256;
/// Bytes of a name that is a key here; a longer one is cut, as decoders have low cardinality to keep.
pub(crate) const MAX_NAME_BYTES: usize = 128;

/// What was seen, in figures.
#[derive(Debug)]
pub struct View {
    rows: Vec<Row>,
    places: HashMap<Key<'static>, usize>,
    /// Beyond [`MAX_ROWS`].
    other: Row,
    edges: HashMap<EdgeKey<'static>, Traffic>,
    /// Beyond [`MAX_EDGES`].
    other_edges: Traffic,
    /// Names of services, as agents beside them have them.
    names: HashMap<IpAddr, Box<str>>,
    timeline: Timeline,
    kept: Kept,
    traffic: Traffic,
    connections: Connections,
    /// First byte of the first exchange and last byte of the last, ns since 1970.
    span: Option<(u64, u64)>,
    incomplete: Incomplete,
    left_out: LeftOut,
    /// Of the capture, once it is over.
    report: Option<Report>,
}

/// Exchanges, those of them that failed, and their payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Exchanges.
    pub exchanges: u64,
    /// Those that failed: answered with an error, not answered, or cut off.
    pub failures: u64,
    /// Payload bytes of requests.
    pub request_bytes: u64,
    /// Payload bytes of responses.
    pub response_bytes: u64,
}

/// Connections that events told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// All.
    pub all: u64,
    /// That the server refused.
    pub refused: u64,
    /// That nothing answered.
    pub unanswered: u64,
    /// That were reset once open.
    pub reset: u64,
    /// Payload bytes that were sent again.
    pub retransmitted_bytes: u64,
}

/// What exchanges say of themselves that was not captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incomplete {
    /// Exchanges of which bytes were lost.
    pub exchanges: u64,
    /// Those bytes.
    pub bytes: u64,
}

/// Records of a topic or a file that are not in the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// That are no event that can be read.
    pub unreadable: u64,
    /// That are events of a later version.
    pub unknown: u64,
    /// That the filter could not be applied to.
    pub unfiltered: u64,
    /// That came faster than they were taken in.
    pub missed: u64,
}

/// An operation of a server.
#[derive(Debug)]
pub struct Row {
    /// Protocol; `other` beyond the bound.
    pub protocol: Box<str>,
    /// None: of more than one, beyond the bound.
    pub server: Option<SocketAddr>,
    /// Empty: the decoder names none.
    pub operation: Box<str>,
    /// Its counts.
    pub traffic: Traffic,
    /// Over time.
    pub timeline: Timeline,
    /// Single exchanges.
    pub kept: Kept,
    outcomes: [Option<Box<Ended>>; Outcome::ALL.len()],
}

/// Exchanges that ended in one way.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// How many.
    pub count: u64,
    /// Durations of those that have one.
    pub latencies: Latencies,
}

/// A protocol's operation and outcome, over all servers: a row of the summary of a replay.
#[derive(Clone, Debug)]
pub struct OutcomeRow<'v> {
    /// Protocol.
    pub protocol: &'v str,
    /// Empty: the decoder names none.
    pub operation: &'v str,
    /// How it ended.
    pub outcome: Outcome,
    /// How often, and how long it took.
    pub ended: Ended,
}

/// Who calls whom.
#[derive(Clone, Copy, Debug)]
pub struct Edge<'v> {
    /// None, as for the others: of more than one, beyond the bound.
    pub client: Option<IpAddr>,
    /// Who is called.
    pub server: Option<SocketAddr>,
    /// In what protocol.
    pub protocol: &'v str,
    /// How much.
    pub traffic: Traffic,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key<'k> {
    protocol: Cow<'k, str>,
    server: SocketAddr,
    operation: Cow<'k, str>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct EdgeKey<'k> {
    client: IpAddr,
    server: SocketAddr,
    protocol: Cow<'k, str>,
}

impl Traffic {
    fn record(&mut self, exchange: &Exchange<'_>) {
        self.exchanges += 1;
        self.failures += u64::from(exchange.outcome.is_failure());
        self.request_bytes = self.request_bytes.saturating_add(exchange.client.bytes.unwrap_or(0));
        self.response_bytes = self.response_bytes.saturating_add(exchange.server.bytes.unwrap_or(0));
    }

    /// Payload bytes of both directions.
    pub fn bytes(&self) -> u64 {
        self.request_bytes.saturating_add(self.response_bytes)
    }
}

impl Row {
    fn new(protocol: &str, server: Option<SocketAddr>, operation: &str) -> Row {
        Row {
            protocol: protocol.into(),
            server,
            operation: operation.into(),
            traffic: Traffic::default(),
            timeline: Timeline::default(),
            kept: Kept::new(MAX_KEPT_OF_ROW),
            outcomes: Default::default(),
        }
    }

    fn record(&mut self, exchange: &Exchange<'_>, single: &Arc<Single>) {
        self.traffic.record(exchange);
        self.timeline.record(exchange.time.0, exchange.outcome.is_failure());
        self.kept.take(single);
        let ended = self.outcomes[exchange.outcome as usize].get_or_insert_default();
        ended.count += 1;
        if let Some(ns) = exchange.duration {
            ended.latencies.record(ns);
        }
    }

    /// By outcome, what there is.
    pub fn outcomes(&self) -> impl Iterator<Item = (Outcome, &Ended)> {
        Outcome::ALL.into_iter().zip(&self.outcomes).filter_map(|(outcome, ended)| Some((outcome, ended.as_deref()?)))
    }

    /// Durations over all outcomes.
    pub fn latencies(&self) -> Cow<'_, Latencies> {
        let mut all: Option<Cow<'_, Latencies>> = None;
        for (_, ended) in self.outcomes() {
            match &mut all {
                None => all = Some(Cow::Borrowed(&ended.latencies)),
                Some(all) => all.to_mut().add(&ended.latencies),
            }
        }
        all.unwrap_or_default()
    }
}

impl Default for View {
    fn default() -> View {
        View {
            rows: Vec::new(),
            places: HashMap::new(),
            other: Row::new(OTHER, None, OTHER),
            edges: HashMap::new(),
            other_edges: Traffic::default(),
            names: HashMap::new(),
            timeline: Timeline::default(),
            kept: Kept::new(MAX_KEPT),
            traffic: Traffic::default(),
            connections: Connections::default(),
            span: None,
            incomplete: Incomplete::default(),
            left_out: LeftOut::default(),
            report: None,
        }
    }
}

impl View {
    /// Takes an event in.
    pub fn record(&mut self, event: Event<'_>) {
        match event {
            Event::Exchange(exchange) => self.record_exchange(exchange),
            Event::Connection(connection) => self.connections.record(connection),
        }
    }

    fn record_exchange(&mut self, exchange: &Exchange<'_>) {
        let start = exchange.time.0;
        let end = start.saturating_add(exchange.duration.unwrap_or(0));
        let (first, last) = self.span.unwrap_or((start, end));
        self.span = Some((first.min(start), last.max(end)));
        self.traffic.record(exchange);
        self.timeline.record(start, exchange.outcome.is_failure());
        if let Some(bytes) = exchange.loss.as_ref().and_then(|loss| loss.gap_bytes) {
            self.incomplete.exchanges += 1;
            self.incomplete.bytes = self.incomplete.bytes.saturating_add(bytes);
        }
        let single = Arc::new(Single::new(exchange));
        self.kept.take(&single);
        self.row(exchange).record(exchange, &single);
        self.edge(exchange).record(exchange);
        self.learn_name(exchange);
    }

    fn row(&mut self, exchange: &Exchange<'_>) -> &mut Row {
        let server = SocketAddr::new(exchange.server.address, exchange.server.port);
        let protocol = name(&exchange.protocol);
        let operation = name(exchange.operation.as_deref().unwrap_or_default());
        let key = Key { protocol: protocol.into(), server, operation: operation.into() };
        let place = match self.places.get(&key) {
            Some(&place) => place,
            None if self.rows.len() < MAX_ROWS => {
                let place = self.rows.len();
                let (protocol_key, operation_key) = (protocol.to_owned(), operation.to_owned());
                self.places
                    .insert(Key { protocol: protocol_key.into(), server, operation: operation_key.into() }, place);
                self.rows.push(Row::new(protocol, Some(server), operation));
                place
            }
            None => return &mut self.other,
        };
        &mut self.rows[place]
    }

    fn edge(&mut self, exchange: &Exchange<'_>) -> &mut Traffic {
        let (client, protocol) = (exchange.client.address, name(&exchange.protocol));
        let server = SocketAddr::new(exchange.server.address, exchange.server.port);
        let is_known = self.edges.contains_key(&EdgeKey { client, server, protocol: protocol.into() });
        if !is_known && self.edges.len() >= MAX_EDGES {
            return &mut self.other_edges;
        }
        self.edges.entry(EdgeKey { client, server, protocol: protocol.to_owned().into() }).or_default()
    }

    /// Beside an agent that says what it is part of runs one of both ends.
    fn learn_name(&mut self, exchange: &Exchange<'_>) {
        let address = match exchange.vantage {
            Some(Vantage::Server) => exchange.server.address,
            Some(Vantage::Client) => exchange.client.address,
            Some(Vantage::Between) | None => return,
        };
        if let Some(service) = exchange.resource.get("service.name")
            && self.names.len() < MAX_NAMES
            && !self.names.contains_key(&address)
        {
            self.names.insert(address, name(service).into());
        }
    }

    /// Takes an event in that was read back.
    pub fn record_read(&mut self, record: &Record) {
        match record.known() {
            Some(Known::Exchange(exchange)) => self.record_exchange(&exchange),
            Some(Known::Connection(connection)) => self.connections.record(&connection),
            None => self.left_out.unknown += 1,
        }
    }

    /// Records that are not in the figures.
    pub fn left_out(&mut self) -> &mut LeftOut {
        &mut self.left_out
    }

    /// What the capture counted, once it is over.
    pub fn set_report(&mut self, report: Report) {
        self.report = Some(report);
    }

    /// What the capture counted; none while it goes on, and where there is none.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// All that were seen.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Connections that events told of.
    pub fn connections(&self) -> Connections {
        self.connections
    }

    /// First byte of the first exchange and last byte of the last, ns since 1970.
    pub fn span(&self) -> Option<(u64, u64)> {
        self.span
    }

    /// So many in that time, in a second; none where no time has passed.
    pub fn rate(&self, exchanges: u64) -> Option<f64> {
        let (first, last) = self.span?;
        (last > first).then(|| exchanges as f64 * 1e9 / (last - first) as f64)
    }

    /// All exchanges over time.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Single exchanges of all.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Operations of servers, in the order in which they came; that of those beyond the bound last.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().chain(Some(&self.other).filter(|other| other.traffic.exchanges > 0))
    }

    /// Durations of all.
    pub fn latencies(&self) -> Latencies {
        let mut all = Latencies::default();
        self.rows().flat_map(Row::outcomes).for_each(|(_, ended)| all.add(&ended.latencies));
        all
    }

    /// Protocols, operations and outcomes over all servers, as the summary of a replay has them: by protocol, then the
    /// most frequent first.
    pub fn outcomes(&self) -> Vec<OutcomeRow<'_>> {
        let mut rows: Vec<OutcomeRow<'_>> = Vec::new();
        let mut places = HashMap::new();
        for row in self.rows() {
            for (outcome, ended) in row.outcomes() {
                let (protocol, operation) = (&*row.protocol, &*row.operation);
                let place = *places.entry((protocol, operation, outcome)).or_insert(rows.len());
                match rows.get_mut(place) {
                    Some(known) => {
                        known.ended.count += ended.count;
                        known.ended.latencies.add(&ended.latencies);
                    }
                    None => rows.push(OutcomeRow { protocol, operation, outcome, ended: ended.clone() }),
                }
            }
        }
        let is_other = |row: &OutcomeRow<'_>| row.protocol == OTHER;
        rows.sort_by(|a, b| {
            let of_a = (is_other(a), a.protocol, b.ended.count, a.operation, a.outcome);
            of_a.cmp(&(is_other(b), b.protocol, a.ended.count, b.operation, b.outcome))
        });
        rows
    }

    /// Who calls whom, the most calls first; those beyond the bound last.
    pub fn edges(&self) -> Vec<Edge<'_>> {
        let known = self.edges.iter().map(|(key, &traffic)| Edge {
            client: Some(key.client),
            server: Some(key.server),
            protocol: &key.protocol,
            traffic,
        });
        let mut edges: Vec<_> = known.collect();
        edges.sort_by(|a, b| {
            let of_a = (b.traffic.exchanges, a.server, a.client, a.protocol);
            of_a.cmp(&(a.traffic.exchanges, b.server, b.client, b.protocol))
        });
        let other = Edge { client: None, server: None, protocol: OTHER, traffic: self.other_edges };
        edges.extend(Some(other).filter(|other| other.traffic.exchanges > 0));
        edges
    }

    /// The name of the service at an address, where an agent beside it told.
    pub fn name(&self, address: IpAddr) -> Option<&str> {
        self.names.get(&address).map(AsRef::as_ref)
    }

    /// What was lost or left out, by name, without what is nothing: by the capture, once it is over, and by what events say
    /// of themselves.
    pub fn losses(&self) -> Vec<(&'static str, u64)> {
        let own = [
            ("exchanges_incomplete", self.incomplete.exchanges),
            ("exchange_bytes_lost", self.incomplete.bytes),
            ("records_unreadable", self.left_out.unreadable),
            ("records_of_later_versions", self.left_out.unknown),
            ("records_unfiltered", self.left_out.unfiltered),
            ("records_missed", self.left_out.missed),
        ];
        let of_capture = self.report.iter().flat_map(|report| &report.losses).copied();
        of_capture.chain(own).filter(|(_, count)| *count > 0).collect()
    }
}

impl Connections {
    fn record(&mut self, event: &ConnectionEvent<'_>) {
        self.all += 1;
        match event.opened {
            Opened::Refused => self.refused += 1,
            Opened::Unanswered => self.unanswered += 1,
            Opened::Handshake | Opened::Midstream => self.reset += u64::from(event.closed.reason == Reason::Reset),
        }
        let again = event.ends().map(|end| end.retransmitted_bytes).fold(0, u64::saturating_add);
        self.retransmitted_bytes = self.retransmitted_bytes.saturating_add(again);
    }
}

/// As much of a name as a key has.
fn name(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_NAME_BYTES)).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or_default()]
}

/// A view that is filled on one thread and looked at on another, from a capture or from events that are read back.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<View>>);

impl Shared {
    /// The view, for as long as nothing is to be taken in.
    pub fn lock(&self) -> MutexGuard<'_, View> {
        // A view is whole between any two events.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
