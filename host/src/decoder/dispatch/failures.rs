//! What follows when a call fails: a fresh instance takes over the connections of the lost one, as midstream, and the
//! batch is given again entry by entry, which shows the connection to blame. That one is ignored from then on.

use std::time::Instant;

use super::{Dispatcher, StreamDemand, Take};
use crate::decoder::batch::{Batch, Entry};
use crate::decoder::log_gate::Verdict;
use crate::decoder::sandbox::Failure;
use crate::decoder::tracked::State;

impl Dispatcher<'_> {
    /// The call with `batch` failed: a fresh instance takes over and gets the batch again, entry by entry, which shows the
    /// connection to blame.
    pub(super) fn recover(&mut self, number: usize, batch: &Batch, failure: Failure, take: Take<'_>) {
        if !self.replace(number, &failure) {
            self.counters.bytes_failed += batch.data_len() as u64;
            return;
        }
        let mut one = Batch::default();
        for (place, entry) in batch.entries() {
            let bytes = if let Entry::Data(bytes) = entry { bytes.len() as u64 } else { 0 };
            let Some(tracked) = self.table.get_mut(place.connection) else {
                self.unknown(entry);
                continue;
            };
            // Handed over by an entry before this one. Its plugin hears only that it is closed, its successor only where
            // the engine says so.
            if let Some(successor) = tracked.successor {
                let (side, over, closed) =
                    (tracked.side(place.from_server), tracked.over, matches!(entry, Entry::Closed(_)));
                if over || !closed {
                    self.deliver(successor, side, place, entry);
                }
                if !closed {
                    continue;
                }
            }
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
            let Err(failure) = self.call(number, &one, take) else { continue };
            self.counters.bytes_failed += bytes;
            self.counters.connections_blamed += 1;
            self.fail(place.connection);
            // Where the plugin is set aside by this, the rest is counted as failed.
            self.replace(number, &failure);
        }
    }

    /// A fresh instance in the place of a lost one; false where the plugin is set aside instead.
    pub(super) fn replace(&mut self, number: usize, failure: &Failure) -> bool {
        let counter = match failure {
            Failure::Trap(_) => &mut self.counters.failures_trap,
            Failure::Deadline => &mut self.counters.failures_deadline,
            Failure::Memory => &mut self.counters.failures_memory,
            Failure::TooMuch(_) => &mut self.counters.failures_too_much,
            Failure::Output(_) => &mut self.counters.failures_output,
        };
        *counter += 1;
        let Some(lane) = self.lanes.get_mut(number) else { return false };
        let plugin = lane.plugin;
        let Some(used) = self.plugins.get_mut(plugin) else { return false };
        used.standing.failures_in_a_row += 1;
        used.counters.failures[failure.kind() as usize] += 1;
        // The old one goes first: it holds a place in the pool.
        lane.instance = None;
        let name = &used.plugin.descriptor.name;
        match self.failure_log.line(Instant::now()) {
            Verdict::Write => tracing::warn!(plugin = name, %failure, "decoder failed"),
            Verdict::DropFirst => tracing::warn!("so many failures of decoders that further ones are counted only"),
            Verdict::Drop => {}
        }
        if used.standing.failures_in_a_row > self.limits.failures_allowed {
            self.set_aside(plugin, &failure.to_string());
            return false;
        }
        match self.runtime.instance(&used.plugin) {
            Ok(instance) => lane.instance = Some(instance),
            Err(error) => {
                self.set_aside(plugin, &error.to_string());
                return false;
            }
        }
        for tracked in self.table.iter_mut() {
            if let State::Decoding { lane, opened } = &mut tracked.state
                && *lane == number
            {
                *opened = false;
                tracked.midstream = true;
            }
        }
        self.tell_anew(number);
        true
    }

    /// Where the instance was replaced while a batch was being gathered, the fresh one hears of its connections.
    fn tell_anew(&mut self, number: usize) {
        let Some(lane) = self.lanes.get_mut(number) else { return };
        let batch = &mut lane.batch;
        for id in batch.forget_opened() {
            if let Some(tracked) = self.table.get_mut(id)
                && let State::Decoding { opened, .. } = &mut tracked.state
                && !std::mem::replace(opened, true)
            {
                batch.open(id, tracked.client(), tracked.server(), tracked.midstream);
            }
        }
    }

    /// Nothing more of a connection that no plugin claimed.
    pub(super) fn ignore(&mut self, id: u32) {
        self.drop_waiting(id);
        self.end_in(id, State::Ignored { failed: false });
    }

    /// Nothing more of a connection, for its plugin failed.
    pub(super) fn fail(&mut self, id: u32) {
        self.end_in(id, State::Ignored { failed: true });
    }

    fn end_in(&mut self, id: u32, state: State) {
        self.lanes.leave(&self.table, id);
        if let Some(tracked) = self.table.get_mut(id) {
            tracked.state = state;
            if tracked.successor.is_none() {
                self.demands.push(StreamDemand::Ignore(tracked.stream));
            }
        }
    }
}
