//! Takes streams from the engine, finds out whose they are (`detect`), and feeds them to plugins in batches.
//!
//! ```text
//!   opened ──> detecting ──verdict yes──> decoding ──closed──> (batch fed) ──> id free
//!                  │                         │
//!                  └──verdict no──> ignored <┴── demand, blame, plugin dead
//! ```
//!
//! Invariants: an id is reused only after the batch with its `closed` was fed; a plugin hears of a connection (`opened`)
//! before anything of it; after a failure the connections of the lost instance are told anew, as midstream. The end of
//! a connection is reported when its last id is free, so that no exchange comes behind it.

mod detect;

use std::collections::BTreeMap;

use podtap_stream::{Chunk, CloseReason, Closed, Connection, ConnectionId, Engine, Gap, Side, Sink};

use super::batch::{Batch, Entry, Place};
use super::descriptor::Descriptor;
use super::output::{DemandKind, Row};
use super::sandbox::{Failure, Instance, Plugin, Runtime};
use super::tracked::{Claim, Ended, State, Table, Tracked, index};

/// Plugins that can be asked about one connection: bits of a word.
pub const MAX_PLUGINS: usize = 64;

/// Bounds of the dispatcher.
#[derive(Clone, Copy, Debug)]
pub struct DispatchLimits {
    /// Entries in one batch, about.
    pub batch_entries: usize,
    /// Payload in one batch, about.
    pub batch_bytes: usize,
    /// Bytes of one side that wait for a verdict.
    pub head_bytes: usize,
    /// Failures in a row after which a plugin is not used any more.
    pub failures_allowed: u32,
}

/// What happened to the payload that the engine delivered, and to calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DispatchCounters {
    /// Payload that plugins took.
    pub bytes_decoded: u64,
    /// Payload of connections that no plugin claimed, up to the verdict.
    pub bytes_undetected: u64,
    /// Payload in calls that failed, or for a plugin that is not used any more.
    pub bytes_failed: u64,
    /// Payload that plugins took and could make nothing of (part of `bytes_decoded`).
    pub bytes_undecoded: u64,
    /// Connections that a plugin claimed.
    pub connections_detected: u64,
    /// Connections that none claimed.
    pub connections_undetected: u64,
    /// Connections blamed for a failure, and ignored from then on.
    pub connections_blamed: u64,
    /// Calls that trapped.
    pub failures_trap: u64,
    /// Calls that ran past their deadline.
    pub failures_deadline: u64,
    /// Calls that wanted too much memory.
    pub failures_memory: u64,
    /// Calls that returned what the contract does not allow.
    pub failures_output: u64,
    /// Plugins given up.
    pub plugins_given_up: u64,
    /// Exchanges found.
    pub exchanges: u64,
}

/// Receives each exchange with its connection.
pub type Take<'a> = &'a mut dyn FnMut(&mut Tracked, &Descriptor, Row<'_>);

struct Slot {
    plugin: Plugin,
    /// None: given up.
    instance: Option<Instance>,
    batch: Batch,
    /// Ids that are free when the batch has been fed.
    closed: Vec<u32>,
    failures_in_a_row: u32,
}

/// See the module.
pub struct Dispatcher<'r> {
    runtime: &'r Runtime,
    limits: DispatchLimits,
    slots: Vec<Slot>,
    /// Slot of the plugin that a server port belongs to by configuration.
    ports: BTreeMap<u16, usize>,
    table: Table,
    waiting_bytes: usize,
    full: bool,
    demands: Vec<StreamDemand>,
    /// Connections to be reported as over; none where nobody asks for them.
    ended: Option<Vec<Ended>>,
    counters: DispatchCounters,
}

/// A demand as the engine takes it.
enum StreamDemand {
    Skip(ConnectionId, Side, u64),
    Ignore(ConnectionId),
}

impl<'r> Dispatcher<'r> {
    /// With the plugins (at most [`MAX_PLUGINS`]) and an instance of each. `ports` gives server ports to plugins by their
    /// index. `report_ends`: for [`Dispatcher::report_ended`].
    pub fn new(
        runtime: &'r Runtime,
        plugins: Vec<(Plugin, Instance)>,
        ports: BTreeMap<u16, usize>,
        limits: DispatchLimits,
        report_ends: bool,
    ) -> Dispatcher<'r> {
        let slot = |(plugin, instance)| Slot {
            plugin,
            instance: Some(instance),
            batch: Batch::default(),
            closed: Vec::new(),
            failures_in_a_row: 0,
        };
        Dispatcher {
            runtime,
            limits,
            slots: plugins.into_iter().take(MAX_PLUGINS).map(slot).collect(),
            ports,
            table: Table::default(),
            waiting_bytes: 0,
            full: false,
            demands: Vec::new(),
            ended: report_ends.then(Vec::new),
            counters: DispatchCounters::default(),
        }
    }

    /// Totals so far.
    pub fn counters(&self) -> &DispatchCounters {
        &self.counters
    }

    /// Feeds full batches and passes demands on; to be called after every packet.
    pub fn after_packet(&mut self, engine: &mut Engine, take: Take<'_>) {
        if self.full {
            self.full = false;
            for slot in 0..self.slots.len() {
                if self.is_full(slot) {
                    self.feed(slot, take);
                }
            }
        }
        self.pass_on_demands(engine);
    }

    /// Feeds all batches, full or not.
    pub fn flush(&mut self, engine: &mut Engine, take: Take<'_>) {
        for slot in 0..self.slots.len() {
            self.feed(slot, take);
            // Once more for connections that were handed over, which are closed by it.
            self.feed(slot, take);
        }
        self.pass_on_demands(engine);
    }

    /// Connections that are over, each after its last exchange, with the protocol where a plugin knew one; to be called
    /// after every packet and flush.
    pub fn report_ended(&mut self, take: &mut dyn FnMut(&Ended, Option<&str>)) {
        for ended in self.ended.iter_mut().flat_map(|ended| ended.drain(..)) {
            let protocol = ended.claim.and_then(|claim| {
                let protocols = &self.slots.get(claim.slot)?.plugin.descriptor.protocols;
                protocols.get(claim.protocol?).map(String::as_str)
            });
            take(&ended, protocol);
        }
    }

    fn pass_on_demands(&mut self, engine: &mut Engine) {
        for demand in self.demands.drain(..) {
            match demand {
                StreamDemand::Skip(connection, side, position) => engine.skip_to(connection, side, position),
                StreamDemand::Ignore(connection) => engine.ignore(connection),
            }
        }
    }

    fn is_full(&self, slot: usize) -> bool {
        let batch = &self.slots[slot].batch;
        batch.len() >= self.limits.batch_entries || batch.data_len() >= self.limits.batch_bytes
    }

    fn push(&mut self, id: u32, slot: usize, side: Side, time_ns: u64, position: u64, entry: Entry<'_>) {
        let Some(tracked) = self.table.get_mut(id) else { return };
        let batch = &mut self.slots[slot].batch;
        if let State::Decoding { opened, .. } = &mut tracked.state
            && !std::mem::replace(opened, true)
        {
            batch.open(id, tracked.client(), tracked.server(), tracked.midstream);
        }
        batch.push(Place { connection: id, from_server: tracked.is_server(side), time_ns, position }, entry);
        self.full |= self.is_full(slot);
    }

    fn feed(&mut self, slot: usize, take: Take<'_>) {
        let mut batch = std::mem::take(&mut self.slots[slot].batch);
        // Those after are handed over by this batch, and free only when the next one has been fed.
        let closed = self.slots[slot].closed.len();
        if !batch.is_empty() {
            match self.call(slot, &batch, take) {
                Ok(()) => self.slots[slot].failures_in_a_row = 0,
                Err(failure) => self.recover(slot, &batch, failure, take),
            }
        }
        let held = &mut self.slots[slot];
        for id in held.closed.drain(..closed) {
            release(&mut self.table, &mut self.ended, id);
        }
        // What was handed over is closed in the next batch already.
        if held.batch.is_empty() {
            batch.clear();
            held.batch = batch;
        }
    }

    /// One call of `feed`: its exchanges are taken and its demands noted, or nothing happened.
    fn call(&mut self, slot: usize, batch: &Batch, take: Take<'_>) -> Result<(), Failure> {
        let held = &mut self.slots[slot];
        let Some(instance) = &mut held.instance else {
            self.counters.bytes_failed += batch.data_len() as u64;
            return Ok(());
        };
        let descriptor = &held.plugin.descriptor;
        let (table, demands, counters) = (&mut self.table, &mut self.demands, &mut self.counters);
        let mut anew = Vec::new();
        instance.feed(batch, descriptor, |rows| {
            let owned = |id: u32| {
                let state = table.get(id).map(|tracked| &tracked.state);
                // A connection that closed in this batch is still there; one just ignored may still answer.
                matches!(state, Some(State::Decoding { slot: owner, .. }) if *owner == slot)
                    || matches!(state, Some(State::Ignored))
            };
            if !rows.connections().all(owned) {
                return Err(Failure::Output("an exchange of a connection that it does not have"));
            }
            counters.bytes_undecoded += rows.undecoded_bytes();
            counters.exchanges += rows.len() as u64;
            for row in rows.each() {
                if let Some(tracked) = table.get_mut(row.connection) {
                    tracked.note_claim(Claim { slot, protocol: Some(row.protocol) });
                    take(tracked, descriptor, row);
                }
            }
            for demand in rows.demands() {
                let Some(tracked) = table.get(demand.connection) else { continue };
                if !matches!(tracked.state, State::Decoding { slot: owner, .. } if owner == slot) {
                    continue;
                }
                match demand.kind {
                    DemandKind::Skip => {
                        let side = tracked.side(demand.from_server);
                        demands.push(StreamDemand::Skip(tracked.stream, side, demand.position));
                    }
                    DemandKind::Ignore => demands.push(StreamDemand::Ignore(tracked.stream)),
                    DemandKind::Detect => anew.push(demand.connection),
                }
            }
            Ok(())
        })??;
        self.counters.bytes_decoded += batch.data_len() as u64;
        for id in anew {
            self.hand_over(slot, id);
        }
        Ok(())
    }

    /// The plugin is done with the connection, which goes on in another protocol; unless it is over already.
    fn hand_over(&mut self, slot: usize, id: u32) {
        if self.slots[slot].closed.contains(&id) {
            return;
        }
        let Some(tracked) = self.table.get(id) else { return };
        let next = tracked.handed_over();
        self.push(id, slot, Side::A, next.start_ns, 0, Entry::Closed(0));
        self.slots[slot].closed.push(id);
        if let Some(tracked) = self.table.get_mut(id) {
            tracked.state = State::Ignored;
        }
        self.table.insert(next);
    }

    /// The call with `batch` failed: a fresh instance takes over and gets the batch again, entry by entry, which shows the
    /// connection to blame.
    fn recover(&mut self, slot: usize, batch: &Batch, failure: Failure, take: Take<'_>) {
        if !self.replace(slot, &failure) {
            self.counters.bytes_failed += batch.data_len() as u64;
            return;
        }
        let mut one = Batch::default();
        for (place, entry) in batch.entries() {
            let bytes = if let Entry::Data(bytes) = entry { bytes.len() as u64 } else { 0 };
            let Some(tracked) = self.table.get_mut(place.connection) else { continue };
            let State::Decoding { opened, .. } = &mut tracked.state else {
                self.counters.bytes_failed += bytes;
                continue;
            };
            one.clear();
            if !std::mem::replace(opened, true) {
                one.open(place.connection, tracked.client(), tracked.server(), true);
            }
            one.push(place, entry);
            let Err(failure) = self.call(slot, &one, take) else { continue };
            self.counters.bytes_failed += bytes;
            self.counters.connections_blamed += 1;
            self.ignore(place.connection);
            // Where the plugin is given up by this, `call` counts the rest as failed.
            self.replace(slot, &failure);
        }
    }

    /// A fresh instance in the place of a lost one; false when the plugin is given up.
    fn replace(&mut self, slot: usize, failure: &Failure) -> bool {
        let counter = match failure {
            Failure::Trap(_) => &mut self.counters.failures_trap,
            Failure::Deadline => &mut self.counters.failures_deadline,
            Failure::Memory => &mut self.counters.failures_memory,
            Failure::Output(_) => &mut self.counters.failures_output,
        };
        *counter += 1;
        let held = &mut self.slots[slot];
        held.failures_in_a_row += 1;
        // The old one goes first: it holds a place in the pool.
        held.instance = None;
        let name = &held.plugin.descriptor.name;
        tracing::warn!(plugin = name, %failure, "decoder failed; a fresh instance takes over");
        if held.failures_in_a_row <= self.limits.failures_allowed {
            match self.runtime.instance(&held.plugin) {
                Ok(instance) => held.instance = Some(instance),
                Err(error) => tracing::error!(plugin = name, %error, "a fresh instance could not be made"),
            }
        }
        let alive = held.instance.is_some();
        if !alive {
            self.counters.plugins_given_up += 1;
            tracing::error!(plugin = name, failures = held.failures_in_a_row, "decoder is not used any more");
        }
        for tracked in self.table.iter_mut() {
            if let State::Decoding { slot: owner, opened } = &mut tracked.state
                && *owner == slot
            {
                *opened = false;
                tracked.midstream = true;
                if !alive {
                    self.demands.push(StreamDemand::Ignore(tracked.stream));
                }
            }
        }
        alive
    }

    /// The instance was replaced while a batch was being gathered: the fresh one hears of its connections.
    fn tell_anew(&mut self, slot: usize) {
        let batch = &mut self.slots[slot].batch;
        for id in batch.forget_opened() {
            if let Some(tracked) = self.table.get_mut(id)
                && let State::Decoding { opened, .. } = &mut tracked.state
                && !std::mem::replace(opened, true)
            {
                batch.open(id, tracked.client(), tracked.server(), tracked.midstream);
            }
        }
    }

    fn ignore(&mut self, id: u32) {
        self.drop_waiting(id);
        if let Some(tracked) = self.table.get_mut(id) {
            tracked.state = State::Ignored;
            self.demands.push(StreamDemand::Ignore(tracked.stream));
        }
    }
}

impl Sink for Dispatcher<'_> {
    fn opened(&mut self, connection: &Connection) {
        self.table.insert(Tracked::new(connection));
    }

    fn data(&mut self, connection: ConnectionId, side: Side, chunk: Chunk<'_>) {
        let Some(id) = self.table.id(connection) else { return };
        let Some(tracked) = self.table.get(id) else { return };
        match tracked.state {
            State::Decoding { slot, .. } => {
                self.push(id, slot, side, chunk.time_ns, chunk.position, Entry::Data(chunk.bytes));
            }
            State::Detecting(_) => self.detect(id, side, chunk),
            // Between the verdict and the engine's hearing of it.
            State::Ignored => self.counters.bytes_undetected += chunk.bytes.len() as u64,
        }
    }

    fn gap(&mut self, connection: ConnectionId, side: Side, gap: Gap) {
        let Some(id) = self.table.id(connection) else { return };
        let Some(tracked) = self.table.get_mut(id) else { return };
        match &mut tracked.state {
            State::Decoding { slot, .. } => {
                let slot = *slot;
                self.push(id, slot, side, gap.time_ns, gap.position, Entry::Gap(gap.length));
            }
            // What was kept has a hole now: the next piece starts anew, in the middle.
            State::Detecting(_) => {
                tracked.midstream = true;
                self.drop_waiting(id);
            }
            State::Ignored => {}
        }
    }

    fn end(&mut self, connection: ConnectionId, side: Side, position: u64, time_ns: u64) {
        let Some(id) = self.table.id(connection) else { return };
        let Some(tracked) = self.table.get_mut(id) else { return };
        match &mut tracked.state {
            State::Decoding { slot, .. } => {
                let slot = *slot;
                self.push(id, slot, side, time_ns, position, Entry::End);
            }
            State::Detecting(waiting) => {
                waiting.get_or_insert_default().ends[index(side)] = Some((position, time_ns));
            }
            State::Ignored => {}
        }
    }

    fn closed(&mut self, connection: &Connection, closed: &Closed) {
        let Some(id) = self.table.id(connection.id) else {
            // It never carried anything.
            self.ended.iter_mut().for_each(|ended| ended.push(Ended::new(connection, closed)));
            return;
        };
        let Some(tracked) = self.table.get(id) else { return };
        if self.ended.is_some() {
            tracked.note_end(connection, closed);
        }
        match &tracked.state {
            State::Decoding { slot, .. } => {
                let slot = *slot;
                let how = match closed.reason {
                    CloseReason::Finished => 0,
                    CloseReason::Reset(_) | CloseReason::Refused => 1,
                    CloseReason::Idle | CloseReason::Evicted | CloseReason::Replaced | CloseReason::CaptureEnd => 2,
                };
                self.push(id, slot, Side::A, closed.time_ns, 0, Entry::Closed(how));
                self.slots[slot].closed.push(id);
            }
            State::Detecting(_) => {
                self.counters.connections_undetected += 1;
                self.drop_waiting(id);
                release(&mut self.table, &mut self.ended, id);
            }
            State::Ignored => release(&mut self.table, &mut self.ended, id),
        }
    }
}

/// Frees an id. The connection is reported once none of its ids is left.
fn release(table: &mut Table, ended: &mut Option<Vec<Ended>>, id: u32) {
    let tracked = table.remove(id);
    if let Some(ended) = ended {
        ended.extend(tracked.and_then(Tracked::into_ended));
    }
}
