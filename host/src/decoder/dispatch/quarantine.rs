//! A plugin that fails again and again is set aside for a while.
//!
//! ```text
//!   in use ──more failures in a row than allowed──> set aside ──time is over──> a fresh instance ──> in use
//! ```
//!
//! The time is 1 s at first and twice as long each time, up to 5 min; it begins anew once the plugin was in use for as
//! long as the longest. It is the time of the packets, so that a replay does the same each time.
//!
//! A row of failures ends with a batch that the plugin takes whole. So one that fails now and then, for connections that
//! are each ignored afterwards, stays in use: rather CPU time spent on failures than exchanges of other connections lost.
//! While it is set aside its connections are ignored for good, also those that outlive the time: rather a connection
//! lost than its middle taken for a beginning.

use super::Dispatcher;
use super::servers::Servers;
use crate::decoder::tracked::{State, Tracked};
use crate::event::Timestamp;

pub(crate) const SHORTEST_NS: u64 = 1_000_000_000;
pub(crate) const LONGEST_NS: u64 = 300 * SHORTEST_NS;

/// Whether a plugin is used, and how it came to that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) failures_in_a_row: u32,
    aside: bool,
    /// When it was set aside last, and for how long; 0: never.
    since_ns: u64,
    for_ns: u64,
}

impl Standing {
    fn set_aside(&mut self, now_ns: u64) {
        // Time may leap where a packet's is wrong: far from then in either direction it is over.
        let since_back = now_ns.abs_diff(self.since_ns.saturating_add(self.for_ns));
        self.for_ns = match self.for_ns {
            0 => SHORTEST_NS,
            _ if since_back >= LONGEST_NS => SHORTEST_NS,
            last => last.saturating_mul(2).min(LONGEST_NS),
        };
        (self.aside, self.since_ns, self.failures_in_a_row) = (true, now_ns, 0);
    }

    pub(super) fn is_aside(&self) -> bool {
        self.aside
    }

    fn is_over(&self, now_ns: u64) -> bool {
        now_ns.abs_diff(self.since_ns) >= self.for_ns
    }
}

impl Dispatcher<'_> {
    /// Is the plugin used? One whose time is over gets a fresh instance.
    pub(super) fn in_use(&mut self, plugin: usize) -> bool {
        let Some(standing) = self.plugins.get(plugin).map(|used| &used.standing) else { return false };
        !standing.aside || (standing.is_over(self.now_ns) && self.try_again(plugin))
    }

    fn try_again(&mut self, plugin: usize) -> bool {
        self.forget_batches(plugin);
        let Some(used) = self.plugins.get_mut(plugin) else { return false };
        let name = &used.plugin.descriptor.name;
        match self.runtime.instance(&used.plugin) {
            Ok(instance) => {
                let Some(lane) = used.lanes.first().and_then(|&lane| self.lanes.get_mut(lane)) else { return false };
                lane.instance = Some(instance);
                used.standing.aside = false;
                tracing::info!(plugin = name, "decoder is tried again");
                true
            }
            Err(error) => {
                self.set_aside(plugin, &error.to_string());
                false
            }
        }
    }

    /// The plugin is not used for a while; its connections are ignored.
    pub(super) fn set_aside(&mut self, plugin: usize, why: &str) {
        let now_ns = self.now_ns;
        let Some(used) = self.plugins.get_mut(plugin) else { return };
        used.standing.set_aside(now_ns);
        used.counters.quarantines += 1;
        let until = Timestamp(now_ns.saturating_add(used.standing.for_ns));
        let name = &used.plugin.descriptor.name;
        tracing::error!(plugin = name, why, %until, "decoder keeps failing and is set aside");
        self.counters.plugins_quarantined += 1;
        let (lanes, retired) = (used.lanes.clone(), used.retired);
        let of_it = |(id, tracked): (u32, &Tracked)| {
            matches!(&tracked.state, State::Decoding { lane, .. } if lanes.contains(lane)).then_some(id)
        };
        let lost: Vec<u32> = self.table.iter().filter_map(of_it).collect();
        for id in lost {
            if self.table.get(id).is_some_and(|tracked| !tracked.over && tracked.successor.is_none()) {
                self.counters.connections_quarantined += 1;
            }
            self.fail(id);
        }
        for lane in &lanes {
            if let Some(lane) = self.lanes.get_mut(*lane) {
                lane.instance = None;
            }
        }
        self.forget_batches(plugin);
        if retired {
            lanes.into_iter().for_each(|lane| self.drop_if_empty(lane));
        }
        self.servers.pass_on(plugin, None);
    }

    /// What the plugin's instances were about to be given is lost with them. Ids stay taken until the next feed, for a
    /// batch may be under way.
    fn forget_batches(&mut self, plugin: usize) {
        for &lane in self.plugins.get(plugin).map(|used| &used.lanes).into_iter().flatten() {
            if let Some(lane) = self.lanes.get_mut(lane) {
                self.counters.bytes_failed += lane.batch.data_len() as u64;
                lane.batch.clear();
            }
        }
    }

    /// The capture is over: the next one has a time of its own, and what was learned in this one is no rule there.
    pub fn capture_over(&mut self) {
        self.servers = Servers::default();
        for plugin in self.plugins.numbers() {
            let standing = self.plugins.get_mut(plugin).map(|used| std::mem::take(&mut used.standing));
            if standing.is_some_and(|standing| standing.aside) {
                self.try_again(plugin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = SHORTEST_NS;

    #[test]
    fn the_time_doubles_up_to_a_bound_and_begins_anew() {
        let mut standing = Standing::default();
        let mut now = 1000 * SECOND;
        let mut took = Vec::new();
        for _ in 0..11 {
            standing.set_aside(now);
            assert!(!standing.is_over(now + standing.for_ns - 1));
            now += standing.for_ns;
            assert!(standing.is_over(now));
            took.push(standing.for_ns / SECOND);
            now += SECOND;
        }
        assert_eq!(took, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        standing.set_aside(now + 300 * SECOND);
        assert_eq!(standing.for_ns, SECOND);
    }

    #[test]
    fn a_leap_of_time_does_not_prolong_it() {
        let mut standing = Standing::default();
        standing.set_aside(u64::MAX - 5);
        assert!(!standing.is_over(u64::MAX - 9));
        assert!(standing.is_over(1000 * SECOND));
    }
}
