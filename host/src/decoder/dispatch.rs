//! Takes streams from the engine, finds out whose they are (`detect`), and feeds them to plugins in batches.
//!
//! ```text
//!   opened ──> detecting ──verdict yes──> decoding ──closed──> (batch fed) ──> id free
//!                  │                         │
//!                  └──verdict no──> ignored <┴── blame, plugin set aside
//! ```
//! Where a plugin hands a connection over (`hand_over`), its id is closed and a successor is detected.
//!
//! Invariants: an id is reused only after the batch with its `closed` was fed; a plugin hears of a connection (`opened`)
//! before anything of it; after a failure the connections of the lost instance are told anew, as midstream. The end of
//! a connection is reported when its last id is free, so that no exchange comes behind it.

mod admission;
mod counters;
mod detect;
mod failures;
mod hand_over;
mod lanes;
mod plugins;
mod quarantine;
mod reload;
mod servers;
mod status;

use std::collections::BTreeMap;
use std::time::Instant;

use podtap_stream::{Chunk, CloseReason, Closed, Connection, ConnectionId, Engine, Gap, Side, Sink};

use super::batch::{Batch, Entry, Place};
use super::descriptor::Descriptor;
use super::log_gate::LogGate;
use super::output::{DemandKind, Row};
use super::sandbox::{Failure, Instance, Plugin, Runtime};
use super::tracked::{Ended, State, Table, Tracked, index};
pub use admission::{Admission, Refusal};
pub use counters::{DecoderCounters, DispatchCounters, Undetected};
use detect::Kept;
use lanes::Lanes;
use plugins::Plugins;
pub use plugins::{MAX_PLUGINS, MAX_VERSIONS};
use servers::Servers;
pub use status::{DecoderStatus, Waiting};

/// Bounds that no configuration changes, for their reference.
pub(crate) mod fixed {
    pub(crate) use super::detect::{MAX_WAITING_BYTES, MIDSTREAM_ATTEMPTS};
    pub(crate) use super::hand_over::MAX_HAND_OVERS;
    pub(crate) use super::quarantine::{LONGEST_NS, SHORTEST_NS};
    pub(crate) use super::servers::{LIFETIME_NS, MAX_SERVERS};
}

/// Bounds of the dispatcher.
#[derive(Clone, Copy, Debug)]
pub struct DispatchLimits {
    /// Entries in one batch, about.
    pub batch_entries: usize,
    /// Payload in one batch, about.
    pub batch_bytes: usize,
    /// Bytes of one side that wait for a verdict.
    pub head_bytes: usize,
    /// Memory of all that waits for a verdict, bytes.
    pub waiting_bytes: usize,
    /// Connections that one instance has, where there are places for more instances.
    pub connections_per_instance: u32,
    /// Instances at once, of all plugins; each has one even so.
    pub instances: usize,
    /// Exchanges that one call may return.
    pub exchanges_per_call: usize,
    /// Failures in a row after which a plugin is set aside for a while.
    pub failures_allowed: u32,
}

/// Receives each exchange with its connection.
pub type Take<'a> = &'a mut dyn FnMut(&mut Tracked, &Descriptor, Row<'_>);

/// See the module.
pub struct Dispatcher<'r> {
    runtime: &'r Runtime,
    limits: DispatchLimits,
    plugins: Plugins,
    lanes: Lanes,
    /// By configuration, the name of the plugin that a server port belongs to.
    port_names: BTreeMap<u16, String>,
    /// Its number, where there is a plugin of that name.
    ports: BTreeMap<u16, usize>,
    servers: Servers,
    table: Table,
    /// Capture time of what the engine told last.
    now_ns: u64,
    kept: Kept,
    /// Lanes whose batch is full.
    full: Vec<usize>,
    demands: Vec<StreamDemand>,
    admission: Option<Box<dyn Admission>>,
    /// Connections to be reported as over; none where nobody asks for them.
    ended: Option<Vec<Ended>>,
    counters: DispatchCounters,
    /// Whether it is measured how long calls take.
    times_calls: bool,
    failure_log: LogGate,
    log_lines_dropped_before: u64,
}

/// A demand as the engine takes it.
enum StreamDemand {
    Skip(ConnectionId, Side, u64),
    Ignore(ConnectionId),
}

impl<'r> Dispatcher<'r> {
    /// With the plugins (at most [`MAX_PLUGINS`]) and an instance of each. `port_names` gives server ports to plugins.
    /// `report_ends`: for [`Dispatcher::report_ended`].
    pub fn new(
        runtime: &'r Runtime,
        plugins: Vec<(Plugin, Instance)>,
        port_names: BTreeMap<u16, String>,
        limits: DispatchLimits,
        report_ends: bool,
    ) -> Dispatcher<'r> {
        let mut dispatcher = Dispatcher {
            runtime,
            limits,
            plugins: Plugins::default(),
            lanes: Lanes::default(),
            port_names,
            ports: BTreeMap::new(),
            servers: Servers::default(),
            table: Table::default(),
            now_ns: 0,
            kept: Kept::default(),
            full: Vec::new(),
            demands: Vec::new(),
            admission: None,
            ended: report_ends.then(Vec::new),
            counters: DispatchCounters::default(),
            times_calls: false,
            failure_log: LogGate::default(),
            log_lines_dropped_before: runtime.log_lines_dropped(),
        };
        for (plugin, instance) in plugins.into_iter().take(MAX_PLUGINS) {
            dispatcher.take_into_use(plugin, instance);
        }
        dispatcher.number_ports();
        dispatcher
    }

    /// Totals so far.
    pub fn counters(&self) -> &DispatchCounters {
        &self.counters
    }

    /// Lines of plugins that were kept out of the log.
    pub fn log_lines_dropped(&self) -> u64 {
        self.runtime.log_lines_dropped() - self.log_lines_dropped_before
    }

    /// Feeds full batches and passes demands on; to be called after every packet.
    pub fn after_packet(&mut self, engine: &mut Engine, take: Take<'_>) {
        while let Some(lane) = self.full.pop() {
            if self.lanes.get(lane).is_some_and(|lane| is_full(&lane.batch, &self.limits)) {
                self.feed(lane, take);
            }
        }
        self.pass_on_demands(engine);
    }

    /// Feeds all batches, full or not.
    pub fn flush(&mut self, engine: &mut Engine, take: Take<'_>) {
        // A batch may hand connections over, and so leave entries in others: as often as a connection may be.
        let mut waiting = true;
        while std::mem::take(&mut waiting) {
            for lane in self.lanes.numbers() {
                if self.lanes.get(lane).is_some_and(|lane| !lane.batch.is_empty() || !lane.closed.is_empty()) {
                    self.feed(lane, take);
                    waiting = true;
                }
            }
        }
        self.full.clear();
        self.pass_on_demands(engine);
    }

    /// Connections that are over, each after its last exchange; to be called after every packet and flush.
    pub fn report_ended(&mut self, take: &mut dyn FnMut(&Ended)) {
        self.ended.iter_mut().flat_map(|ended| ended.drain(..)).for_each(|ended| take(&ended));
    }

    fn pass_on_demands(&mut self, engine: &mut Engine) {
        for demand in self.demands.drain(..) {
            match demand {
                StreamDemand::Skip(connection, side, position) => engine.skip_to(connection, side, position),
                StreamDemand::Ignore(connection) => engine.ignore(connection),
            }
        }
    }

    fn push(&mut self, lane: usize, place: Place, entry: Entry<'_>) {
        let Some(tracked) = self.table.get_mut(place.connection) else { return self.unknown(entry) };
        let Some(batch) = self.lanes.get_mut(lane).map(|lane| &mut lane.batch) else { return self.unknown(entry) };
        if let State::Decoding { opened, .. } = &mut tracked.state
            && !std::mem::replace(opened, true)
        {
            batch.open(place.connection, tracked.client(), tracked.server(), tracked.midstream);
        }
        batch.push(place, entry);
        if is_full(batch, &self.limits) {
            self.full.push(lane);
        }
    }

    /// Of a connection that is not in the table. Counted, so that a broken invariant shows.
    fn unknown(&mut self, entry: Entry<'_>) {
        if let Entry::Data(bytes) = entry {
            self.counters.bytes_unknown += bytes.len() as u64;
        }
    }

    fn feed(&mut self, number: usize, take: Take<'_>) {
        let Some(lane) = self.lanes.get_mut(number) else { return };
        let plugin = lane.plugin;
        let mut batch = std::mem::take(&mut lane.batch);
        // Those after are handed over by this batch, and free only when the next one has been fed.
        let closed = lane.closed.len();
        if !batch.is_empty() {
            match self.call(number, &batch, take) {
                Ok(()) => self.plugins.went_well(plugin),
                Err(failure) => self.recover(number, &batch, failure, take),
            }
        }
        let Some(lane) = self.lanes.get_mut(number) else { return };
        // What was handed over is closed in the next batch already.
        if lane.batch.is_empty() {
            batch.clear();
            lane.batch = batch;
        }
        let rest = lane.closed.split_off(closed);
        for id in std::mem::replace(&mut lane.closed, rest) {
            self.release(id);
        }
        self.drop_if_empty(number);
    }

    /// One call of `feed`: its exchanges are taken and its demands noted, or nothing happened.
    fn call(&mut self, number: usize, batch: &Batch, take: Take<'_>) -> Result<(), Failure> {
        let lane = self.lanes.get_mut(number);
        let Some((plugin, instance)) = lane.and_then(|lane| Some((lane.plugin, lane.instance.as_mut()?))) else {
            self.counters.bytes_failed += batch.data_len() as u64;
            return Ok(());
        };
        let Some(used) = self.plugins.get(plugin) else { return Ok(()) };
        let descriptor = &used.plugin.descriptor;
        let (table, demands, counters) = (&mut self.table, &mut self.demands, &mut self.counters);
        let exchanges_per_call = self.limits.exchanges_per_call;
        let mut anew = Vec::new();
        let mut exchanges = 0;
        let began = self.times_calls.then(Instant::now);
        let fed = instance.feed(batch, descriptor, |rows| {
            // A connection that closed in this batch, or was handed over by the last one, is still there.
            let owned = |id: u32| {
                let state = table.get(id).map(|tracked| &tracked.state);
                matches!(state, Some(State::Decoding { lane, .. }) if *lane == number)
            };
            if rows.len() > exchanges_per_call {
                return Err(Failure::TooMuch("more exchanges than decoder.exchanges_per_call"));
            }
            if !rows.connections().all(owned) {
                return Err(Failure::Output("an exchange of a connection that it does not have"));
            }
            // Whatever the plugin says, it is part of what plugins took.
            let taken = counters.bytes_decoded + batch.data_len() as u64;
            counters.bytes_undecoded = counters.bytes_undecoded.saturating_add(rows.undecoded_bytes()).min(taken);
            exchanges = rows.len() as u64;
            counters.exchanges += exchanges;
            for row in rows.each() {
                counters.exchanges_truncated += u64::from(row.truncated);
                if let Some(tracked) = table.get_mut(row.connection) {
                    tracked.note_claim(used.protocols.get(row.protocol));
                    take(tracked, descriptor, row);
                }
            }
            for demand in rows.demands() {
                let owned = |tracked: &&Tracked| {
                    matches!(tracked.state, State::Decoding { lane, .. } if lane == number)
                        && tracked.successor.is_none()
                };
                let Some(tracked) = table.get(demand.connection).filter(owned) else {
                    counters.demands_ignored += 1;
                    continue;
                };
                match demand.kind {
                    DemandKind::Skip => {
                        let side = tracked.side(demand.from_server);
                        demands.push(StreamDemand::Skip(tracked.stream, side, demand.position));
                    }
                    DemandKind::Ignore => demands.push(StreamDemand::Ignore(tracked.stream)),
                    DemandKind::Detect => anew.push(demand),
                }
            }
            Ok(())
        });
        if let Some(used) = self.plugins.get_mut(plugin) {
            used.counters.calls += 1;
            used.counters.exchanges += exchanges;
            used.counters.time += began.map(|began| began.elapsed()).unwrap_or_default();
        }
        fed??;
        let given = if anew.is_empty() { 0 } else { self.hand_over(number, batch, &anew) };
        self.counters.bytes_decoded += batch.data_len() as u64 - given;
        Ok(())
    }
}

impl Sink for Dispatcher<'_> {
    fn opened(&mut self, connection: &Connection) {
        let tracked = self.admit(connection);
        self.table.insert(tracked);
    }

    fn data(&mut self, connection: ConnectionId, side: Side, chunk: Chunk<'_>) {
        self.now_ns = chunk.time_ns;
        match self.table.id(connection) {
            Some(id) => self.payload(id, side, chunk),
            None => self.unknown(Entry::Data(chunk.bytes)),
        }
    }

    fn gap(&mut self, connection: ConnectionId, side: Side, gap: Gap) {
        self.now_ns = gap.time_ns;
        if let Some(id) = self.table.id(connection) {
            self.missing(id, side, gap.time_ns, gap.position, gap.length);
        }
    }

    fn end(&mut self, connection: ConnectionId, side: Side, position: u64, time_ns: u64) {
        self.now_ns = time_ns;
        if let Some(id) = self.table.id(connection) {
            self.side_over(id, side, time_ns, position, false);
        }
    }

    fn closed(&mut self, connection: &Connection, closed: &Closed) {
        self.now_ns = closed.time_ns;
        let Some(id) = self.table.id(connection.id) else {
            // It never carried anything.
            if let Some(ended) = &mut self.ended
                && self.admission.as_mut().and_then(|it| it.refuse(connection)) != Some(Refusal::Own)
            {
                ended.push(Ended::new(connection, closed));
            }
            return;
        };
        if self.ended.is_some()
            && let Some(tracked) = self.table.get(id).filter(|tracked| !tracked.untold)
        {
            tracked.note_end(connection, closed);
        }
        // What was left out at a decoder's demand is known to it only by where the side ends.
        for (side, facts) in [(Side::A, &closed.facts.a), (Side::B, &closed.facts.b)] {
            if !facts.fin && self.table.get(id).is_some_and(|tracked| matches!(tracked.state, State::Decoding { .. })) {
                self.side_over(id, side, closed.time_ns, facts.position, true);
            }
        }
        let how = match closed.reason {
            CloseReason::Finished => 0,
            CloseReason::Reset(_) | CloseReason::Refused => 1,
            CloseReason::Idle | CloseReason::Evicted | CloseReason::Replaced | CloseReason::CaptureEnd => 2,
        };
        self.over(id, closed.time_ns, how);
    }
}

/// What happened on a connection, under its id.
impl Dispatcher<'_> {
    fn payload(&mut self, id: u32, side: Side, chunk: Chunk<'_>) {
        let Some(tracked) = self.table.get(id) else { return self.unknown(Entry::Data(chunk.bytes)) };
        match tracked.state {
            State::Decoding { lane, .. } => {
                let place = tracked.place(id, side, chunk.time_ns, chunk.position);
                self.push(lane, place, Entry::Data(chunk.bytes));
            }
            State::Detecting(_) => self.detect(id, side, chunk),
            // Between the verdict and the engine's hearing of it.
            State::Ignored { failed: false } => self.counters.bytes_undetected += chunk.bytes.len() as u64,
            State::Ignored { failed: true } => self.counters.bytes_failed += chunk.bytes.len() as u64,
        }
    }

    fn missing(&mut self, id: u32, side: Side, time_ns: u64, position: u64, length: u64) {
        let Some(tracked) = self.table.get_mut(id) else { return };
        match tracked.state {
            State::Decoding { lane, .. } => {
                let place = tracked.place(id, side, time_ns, position);
                self.push(lane, place, Entry::Gap(length));
            }
            // What was kept has a hole now: the next piece starts anew, in the middle.
            State::Detecting(_) => {
                tracked.midstream = true;
                self.drop_waiting(id);
            }
            State::Ignored { .. } => {}
        }
    }

    /// `cut`: without a FIN.
    fn side_over(&mut self, id: u32, side: Side, time_ns: u64, position: u64, cut: bool) {
        let Some(tracked) = self.table.get_mut(id) else { return };
        match &mut tracked.state {
            State::Decoding { lane, .. } => {
                let lane = *lane;
                let place = tracked.place(id, side, time_ns, position);
                self.push(lane, place, if cut { Entry::Cut } else { Entry::End });
            }
            State::Detecting(waiting) => {
                waiting.get_or_insert_default().ends[index(side)] = Some((position, time_ns));
            }
            State::Ignored { .. } => {}
        }
    }

    fn over(&mut self, id: u32, time_ns: u64, how: u32) {
        let Some(tracked) = self.table.get_mut(id) else { return };
        tracked.over = true;
        let first = tracked.hand_overs() == 0;
        match &tracked.state {
            State::Decoding { lane, .. } => {
                let lane = *lane;
                let place = Place { connection: id, from_server: false, time_ns, position: 0 };
                self.push(lane, place, Entry::Closed(how));
                if let Some(lane) = self.lanes.get_mut(lane) {
                    lane.closed.push(id);
                }
            }
            State::Detecting(waiting) => {
                // Behind a hand-over there may be nothing to detect.
                if first || waiting.as_ref().is_some_and(|waiting| waiting.had_payload()) {
                    self.counters.undetected(Undetected::EndedBeforeVerdict);
                }
                self.drop_waiting(id);
                self.release(id);
            }
            State::Ignored { .. } => self.release(id),
        }
    }

    /// Frees an id. The connection is reported once none of its ids is left.
    fn release(&mut self, id: u32) {
        self.lanes.leave(&self.table, id);
        let tracked = self.table.remove(id);
        if let Some(ended) = &mut self.ended {
            ended.extend(tracked.and_then(Tracked::into_ended));
        }
    }
}

fn is_full(batch: &Batch, limits: &DispatchLimits) -> bool {
    batch.len() >= limits.batch_entries || batch.data_len() >= limits.batch_bytes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::decoder::{Cache, Limits};

    #[test]
    fn payload_of_a_connection_that_was_never_opened_is_counted() {
        let limits = Limits { memory_bytes: 1 << 20, workers: 1, call_timeout: Duration::from_secs(1) };
        let runtime = Runtime::new(limits, Cache::none()).unwrap();
        let limits = DispatchLimits {
            batch_entries: 1,
            batch_bytes: 1,
            head_bytes: 64,
            waiting_bytes: 64,
            connections_per_instance: 1,
            instances: 1,
            exchanges_per_call: 1,
            failures_allowed: 0,
        };
        let mut dispatcher = Dispatcher::new(&runtime, Vec::new(), BTreeMap::new(), limits, false);
        let connection = ConnectionId { index: 3, generation: 1 };
        dispatcher.data(connection, Side::A, Chunk { position: 0, time_ns: 1, bytes: b"lost" });
        assert_eq!(dispatcher.counters(), &DispatchCounters { bytes_unknown: 4, ..DispatchCounters::default() });
    }
}
