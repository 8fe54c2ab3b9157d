//! Other versions of plugins, while connections are open.
//!
//! ```text
//!   in use ──another version, or none──> retired ──last connection over──> gone
//!                                           └──too many retired, and it is the oldest──> its connections move on
//! ```
//! New connections are given to new versions from then on; those that are open finish with the version that has them.
//! Versions that wait for their last connection are bounded in number: beyond that, connections of the oldest go on
//! in midstream with the version of today, or are ignored where there is none.

use podtap_stream::Engine;

use super::lanes::Lane;
use super::plugins::Used;
use super::{Dispatcher, MAX_PLUGINS, Take};
use crate::decoder::batch::{Entry, Place};
use crate::decoder::sandbox::{Instance, Plugin};
use crate::decoder::tracked::{State, Tracked};

/// How a connection ended, as the contract has it.
const NO_LONGER_TRACKED: u32 = 2;

impl Dispatcher<'_> {
    /// From now on these plugins are used (at most [`MAX_PLUGINS`]), and no others. One that cannot be started
    /// leaves the version before it in use.
    pub fn reload(&mut self, plugins: &[Plugin], engine: &mut Engine, take: Take<'_>) {
        let plugins = &plugins[..plugins.len().min(MAX_PLUGINS)];
        let gone = |used: &Used| {
            !used.retired && !plugins.iter().any(|plugin| plugin.descriptor.name == used.plugin.descriptor.name)
        };
        let gone: Vec<_> = self.plugins.iter().filter(|(_, used)| gone(used)).map(|(number, _)| number).collect();
        for number in gone {
            self.retire(number, None);
        }
        for plugin in plugins {
            let before = self.plugins.named(&plugin.descriptor.name);
            if before.and_then(|number| self.plugins.get(number)).is_some_and(|used| used.plugin.is(plugin)) {
                continue;
            }
            let (name, version, path) = (&plugin.descriptor.name, &plugin.descriptor.version, plugin.path.display());
            if self.plugins.free().is_none() {
                self.end_oldest(take);
            }
            match self.runtime.instance(plugin) {
                Ok(instance) => {
                    let number = self.take_into_use(plugin.clone(), instance);
                    self.counters.plugins_reloaded += 1;
                    match before {
                        Some(before) => {
                            self.retire(before, number);
                            tracing::info!(plugin = name, version, file = %path, "decoder in another version");
                        }
                        None => tracing::info!(plugin = name, version, file = %path, "further decoder"),
                    }
                }
                Err(error) => {
                    tracing::error!(plugin = name, version, file = %path, %error, "decoder cannot be started");
                }
            }
        }
        self.table.forget_refusals();
        self.number_ports();
        self.pass_on_demands(engine);
    }

    /// A plugin with its first instance, under its number.
    pub(super) fn take_into_use(&mut self, plugin: Plugin, instance: Instance) -> Option<usize> {
        let number = self.plugins.free()?;
        let lane = self.lanes.insert(number, instance);
        self.plugins.insert(number, plugin, lane);
        Some(number)
    }

    /// Which ports are whose, as the plugins are now.
    pub(super) fn number_ports(&mut self) {
        let number = |(&port, name): (&u16, &String)| match self.plugins.named(name) {
            Some(number) => Some((port, number)),
            None => {
                tracing::warn!(
                    port,
                    decoder = name,
                    "detection.ports: there is no such decoder now; its connections are recognised by their first bytes"
                );
                None
            }
        };
        self.ports = self.port_names.iter().filter_map(number).collect();
    }

    /// No more connections for a version.
    fn retire(&mut self, number: usize, by: Option<usize>) {
        let Some(used) = self.plugins.get_mut(number) else { return };
        used.retired = true;
        if by.is_none() {
            tracing::info!(
                plugin = used.plugin.descriptor.name,
                "decoder is removed; connections that it has finish with it"
            );
        }
        let lanes = used.lanes.clone();
        self.servers.pass_on(number, by);
        lanes.into_iter().for_each(|lane| self.drop_if_empty(lane));
    }

    /// The retired version that waits longest gives its connections up.
    fn end_oldest(&mut self, take: Take<'_>) {
        let retired = self.plugins.iter().filter(|(_, used)| used.retired);
        let Some((_, used)) = retired.min_by_key(|(_, used)| used.age) else { return };
        let (lanes, name) = (used.lanes.clone(), used.plugin.descriptor.name.clone());
        self.feed_all(&lanes, take);
        // It reports what it has of them.
        for (id, lane) in self.connections_of(&lanes) {
            let place = Place { connection: id, from_server: false, time_ns: self.now_ns, position: 0 };
            self.push(lane, place, Entry::Closed(NO_LONGER_TRACKED));
        }
        self.feed_all(&lanes, take);
        let next = self.plugins.named(&name);
        for (id, _) in self.connections_of(&lanes) {
            match next.and_then(|next| self.lane_with_room(next)) {
                Some(lane) => self.move_to(lane, id),
                None => {
                    self.counters.connections_of_removed_plugins += 1;
                    self.fail(id);
                }
            }
        }
        lanes.into_iter().for_each(|lane| self.drop_if_empty(lane));
    }

    /// Gives instances what waits for them, and what they hand over with that.
    fn feed_all(&mut self, lanes: &[usize], take: Take<'_>) {
        let is_busy = |lane: &Lane| !lane.batch.is_empty() || !lane.closed.is_empty();
        while let Some(&lane) = lanes.iter().find(|lane| self.lanes.get(**lane).is_some_and(is_busy)) {
            self.feed(lane, take);
        }
    }

    /// Connections that are decoded in these lanes, each with its own.
    fn connections_of(&self, lanes: &[usize]) -> Vec<(u32, usize)> {
        let of_them = |(id, tracked): (u32, &Tracked)| match tracked.state {
            State::Decoding { lane, .. } if lanes.contains(&lane) && tracked.successor.is_none() => Some((id, lane)),
            _ => None,
        };
        self.table.iter().filter_map(of_them).collect()
    }

    /// A connection goes on with another version, from its middle.
    fn move_to(&mut self, number: usize, id: u32) {
        self.lanes.leave(&self.table, id);
        let (Some(tracked), Some(lane)) = (self.table.get_mut(id), self.lanes.get_mut(number)) else { return };
        tracked.state = State::Decoding { lane: number, opened: false };
        tracked.midstream = true;
        lane.connections += 1;
        self.counters.connections_moved += 1;
    }
}
