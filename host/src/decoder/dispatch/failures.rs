//! What follows when a call fails: a fresh instance takes over the connections of the lost one, as midstream, and the
//! batch is given again entry by entry, which shows the connection to blame. That one is ignored from then on.

use super::{Dispatcher, StreamDemand, Take};
use crate::decoder::batch::{Batch, Entry};
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
            // Handed over by an entry before this one. Its plugin hears only that it is closed.
            if let Some(successor) = tracked.successor {
                let side = tracked.side(place.from_server);
                self.deliver(successor, side, place, entry);
                if !matches!(entry, Entry::Closed(_)) {
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
            self.ignore(place.connection);
            // Where the plugin is given up by this, `call` counts the rest as failed.
            self.replace(number, &failure);
        }
    }

    /// A fresh instance in the place of a lost one; false when the plugin is given up.
    pub(super) fn replace(&mut self, number: usize, failure: &Failure) -> bool {
        let counter = match failure {
            Failure::Trap(_) => &mut self.counters.failures_trap,
            Failure::Deadline => &mut self.counters.failures_deadline,
            Failure::Memory => &mut self.counters.failures_memory,
            Failure::Output(_) => &mut self.counters.failures_output,
        };
        *counter += 1;
        let Some(lane) = self.lanes.get_mut(number) else { return false };
        let used = &mut self.plugins[lane.plugin];
        used.failures_in_a_row += 1;
        // The old one goes first: it holds a place in the pool.
        lane.instance = None;
        let name = &used.plugin.descriptor.name;
        tracing::warn!(plugin = name, %failure, "decoder failed; a fresh instance takes over");
        if used.failures_in_a_row <= self.limits.failures_allowed {
            match self.runtime.instance(&used.plugin) {
                Ok(instance) => lane.instance = Some(instance),
                Err(error) => tracing::error!(plugin = name, %error, "a fresh instance could not be made"),
            }
        }
        let alive = lane.instance.is_some();
        let mut lost = vec![number];
        if !alive {
            lost.clone_from(&used.lanes);
            self.counters.plugins_given_up += 1;
            tracing::error!(plugin = name, failures = used.failures_in_a_row, "decoder is not used any more");
            for &lane in &lost {
                if let Some(lane) = self.lanes.get_mut(lane) {
                    lane.instance = None;
                }
            }
        }
        for tracked in self.table.iter_mut() {
            if let State::Decoding { lane, opened } = &mut tracked.state
                && lost.contains(lane)
            {
                *opened = false;
                tracked.midstream = true;
                if !alive && tracked.successor.is_none() {
                    self.demands.push(StreamDemand::Ignore(tracked.stream));
                }
            }
        }
        self.tell_anew(number);
        alive
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

    pub(super) fn ignore(&mut self, id: u32) {
        self.drop_waiting(id);
        self.lanes.leave(&self.table, id);
        if let Some(tracked) = self.table.get_mut(id) {
            tracked.state = State::Ignored;
            if tracked.successor.is_none() {
                self.demands.push(StreamDemand::Ignore(tracked.stream));
            }
        }
    }
}
