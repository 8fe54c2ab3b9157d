//! Instances of plugins, each with the connections that it has and the batch that it is about to be given.
//!
//! A plugin has one instance, and more where its connections are more than an instance may have. There are at most as
//! many as [`super::DispatchLimits::instances`]: beyond that, connections share the
//! instance that has the fewest. An instance without connections is dropped, unless it is its plugin's last, which is
//! asked about new connections.

use super::Dispatcher;
use crate::decoder::batch::Batch;
use crate::decoder::sandbox::Instance;
use crate::decoder::tracked::{State, Table};

/// An instance with its connections.
pub(super) struct Lane {
    /// Index of its plugin.
    pub(super) plugin: usize,
    /// None: its plugin is set aside.
    pub(super) instance: Option<Instance>,
    pub(super) batch: Batch,
    /// Ids that are free when the batch has been fed.
    pub(super) closed: Vec<u32>,
    /// Connections that are decoded here, those included that are closed by the batch.
    pub(super) connections: u32,
}

/// Lanes under numbers that are used again.
#[derive(Default)]
pub(super) struct Lanes {
    places: Vec<Option<Lane>>,
    free: Vec<usize>,
}

impl Lanes {
    pub(super) fn insert(&mut self, plugin: usize, instance: Instance) -> usize {
        let (batch, closed) = (Batch::default(), Vec::new());
        let lane = Some(Lane { plugin, instance: Some(instance), batch, closed, connections: 0 });
        match self.free.pop() {
            Some(number) => {
                self.places[number] = lane;
                number
            }
            None => {
                self.places.push(lane);
                self.places.len() - 1
            }
        }
    }

    pub(super) fn remove(&mut self, number: usize) {
        if self.places.get_mut(number).and_then(Option::take).is_some() {
            self.free.push(number);
        }
    }

    pub(super) fn get(&self, number: usize) -> Option<&Lane> {
        self.places.get(number)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Lane> {
        self.places.get_mut(number)?.as_mut()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// All numbers there are or were.
    pub(super) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.places.len()
    }

    /// A connection of a lane is no longer decoded there.
    pub(super) fn leave(&mut self, table: &Table, id: u32) {
        if let Some(State::Decoding { lane, .. }) = table.get(id).map(|tracked| &tracked.state)
            && let Some(lane) = self.get_mut(*lane)
        {
            lane.connections = lane.connections.saturating_sub(1);
        }
    }
}

impl Dispatcher<'_> {
    /// The lane that takes one connection more: the oldest with room, else a new one, else that with the fewest.
    pub(super) fn lane_with_room(&mut self, plugin: usize) -> Option<usize> {
        // One without an instance is left from before its plugin was set aside, and goes with the next flush.
        let usable = |lane: &usize| self.lanes.get(*lane).filter(|lane| lane.instance.is_some());
        let load = |lane: &usize| usable(lane).map_or(u32::MAX, |lane| lane.connections);
        let bound = self.limits.connections_per_instance;
        let lanes = &self.plugins.get(plugin)?.lanes;
        if let Some(&lane) = lanes.iter().find(|lane| load(lane) < bound) {
            return Some(lane);
        }
        let least = lanes.iter().copied().min_by_key(load);
        let added = self.add_lane(plugin);
        if added.is_none() {
            self.counters.connections_beyond_bound += 1;
        }
        added.or(least)
    }

    /// A fresh instance beside the others, where there is a place for one.
    fn add_lane(&mut self, plugin: usize) -> Option<usize> {
        if self.lanes.len() >= self.limits.instances {
            return None;
        }
        let used = self.plugins.get_mut(plugin)?;
        match self.runtime.instance(&used.plugin) {
            Ok(instance) => {
                let lane = self.lanes.insert(plugin, instance);
                used.lanes.push(lane);
                Some(lane)
            }
            Err(error) => {
                // Counted by the caller; a line for each connection would be too much.
                let name = &used.plugin.descriptor.name;
                tracing::debug!(plugin = name, %error, "a further instance could not be made");
                None
            }
        }
    }

    /// Drops a lane that nothing needs any more.
    pub(super) fn drop_if_empty(&mut self, number: usize) {
        let Some(lane) = self.lanes.get(number) else { return };
        let plugin = lane.plugin;
        let Some(used) = self.plugins.get_mut(plugin) else { return };
        let is_empty = lane.connections == 0 && lane.closed.is_empty() && lane.batch.is_empty();
        if is_empty && (used.lanes.len() > 1 || used.retired) {
            used.lanes.retain(|other| *other != number);
            self.lanes.remove(number);
            self.plugins.remove_if_gone(plugin);
        }
    }
}
