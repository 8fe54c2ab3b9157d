//! How the dispatcher and its plugins are just now, for whoever looks after them about once a second.

use std::collections::BTreeMap;

use super::Dispatcher;
use super::counters::DecoderCounters;

/// A plugin, all its versions together.
#[derive(Clone, Debug, Default)]
pub struct DecoderStatus {
    /// What it did.
    pub counters: DecoderCounters,
    /// Instances that it has.
    pub instances: u64,
    /// Their memory.
    pub memory_bytes: u64,
    /// Whether it takes new connections or is set aside; none where it is gone, or on its way out.
    pub usable: Option<bool>,
}

impl DecoderStatus {
    /// Of another worker. It is usable where it is in any.
    pub fn add(&mut self, other: &DecoderStatus) {
        self.counters.add(&other.counters);
        self.instances += other.instances;
        self.memory_bytes += other.memory_bytes;
        self.usable = self.usable.max(other.usable);
    }
}

/// Payload that the engine has delivered and that nobody has taken yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Of connections that wait for a verdict.
    pub detection_bytes: u64,
    /// In batches that are not full.
    pub batch_bytes: u64,
}

impl Dispatcher<'_> {
    /// From now on, it is measured how long calls take: two looks at the clock for a call.
    pub fn time_calls(&mut self) {
        self.times_calls = true;
    }

    /// Plugins by name, those included that are gone.
    pub fn decoders(&self) -> BTreeMap<String, DecoderStatus> {
        let counters = self.plugins.counters().into_iter();
        let mut all: BTreeMap<_, _> =
            counters.map(|(name, counters)| (name, DecoderStatus { counters, ..DecoderStatus::default() })).collect();
        for (_, used) in self.plugins.iter() {
            let Some(status) = all.get_mut(&used.plugin.descriptor.name) else { continue };
            if !used.retired {
                status.usable = Some(!used.standing.is_aside());
            }
            let instances = used.lanes.iter().filter_map(|&lane| self.lanes.get(lane)?.instance.as_ref());
            for instance in instances {
                status.instances += 1;
                status.memory_bytes += instance.memory_bytes() as u64;
            }
        }
        all
    }

    /// Payload that waits here.
    pub fn waiting(&self) -> Waiting {
        let lanes = self.lanes.numbers().filter_map(|number| self.lanes.get(number));
        let batch_bytes = lanes.map(|lane| lane.batch.data_len() as u64).sum();
        Waiting { detection_bytes: self.kept.payload_bytes as u64, batch_bytes }
    }
}
