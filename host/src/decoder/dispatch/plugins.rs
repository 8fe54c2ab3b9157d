//! The plugins in use, under numbers, with the versions of them that are on their way out.
//!
//! A version that was replaced or removed is retired: nobody is asked about new connections there, and those that it
//! has finish with it. With its last connection it is gone, and its number is free.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::counters::DecoderCounters;
use super::quarantine::Standing;
use crate::decoder::sandbox::Plugin;

/// Versions of plugins that can be asked about one connection, retired ones included: bits of a word.
pub const MAX_VERSIONS: usize = 64;

/// Plugins in use at once, so that each can be replaced.
pub const MAX_PLUGINS: usize = MAX_VERSIONS / 2;

/// A plugin with its instances.
pub(super) struct Used {
    pub(super) plugin: Plugin,
    /// Its protocols, as connections keep them beyond the time of their plugin.
    pub(super) protocols: Vec<Rc<str>>,
    /// Oldest first; empty only where it is retired.
    pub(super) lanes: Vec<usize>,
    pub(super) standing: Standing,
    pub(super) counters: DecoderCounters,
    /// It takes no more connections.
    pub(super) retired: bool,
    /// How many versions came before it.
    pub(super) age: u64,
}

/// At most [`MAX_VERSIONS`].
#[derive(Default)]
pub(super) struct Plugins {
    places: Vec<Option<Used>>,
    added: u64,
    /// Of versions that are gone, by name.
    gone: BTreeMap<String, DecoderCounters>,
}

impl Plugins {
    /// The number that the next one gets; none where all are taken.
    pub(super) fn free(&self) -> Option<usize> {
        let free = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        (free < MAX_VERSIONS).then_some(free)
    }

    /// Adds a plugin under a number that [`Plugins::free`] gave.
    pub(super) fn insert(&mut self, number: usize, plugin: Plugin, lane: usize) {
        let protocols = plugin.descriptor.protocols.iter().map(|name| name.as_str().into()).collect();
        let age = self.added;
        self.added += 1;
        let (standing, counters) = (Standing::default(), DecoderCounters::default());
        let used = Used { plugin, protocols, lanes: vec![lane], standing, counters, retired: false, age };
        if self.places.len() <= number {
            self.places.resize_with(number + 1, || None);
        }
        self.places[number] = Some(used);
    }

    pub(super) fn get(&self, number: usize) -> Option<&Used> {
        self.places.get(number)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Used> {
        self.places.get_mut(number)?.as_mut()
    }

    /// All numbers there are or were.
    pub(super) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.places.len()
    }

    /// Each with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Used)> {
        self.places.iter().enumerate().filter_map(|(number, used)| Some((number, used.as_ref()?)))
    }

    /// The number of the one in use that has this name.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.iter().find(|(_, used)| !used.retired && used.plugin.descriptor.name == name).map(|(number, _)| number)
    }

    /// A batch was taken whole.
    pub(super) fn went_well(&mut self, number: usize) {
        if let Some(used) = self.get_mut(number) {
            used.standing.failures_in_a_row = 0;
        }
    }

    /// A retired one goes with its last instance.
    pub(super) fn remove_if_gone(&mut self, number: usize) {
        if let Some(place) = self.places.get_mut(number)
            && let Some(used) = place.take_if(|used| used.retired && used.lanes.is_empty())
        {
            // Whoever changes decoders under ever new names: their counts are together from then on.
            let name = used.plugin.descriptor.name;
            let is_new = !self.gone.contains_key(&name) && self.gone.len() >= MAX_VERSIONS;
            let name = if is_new { "other".to_owned() } else { name };
            self.gone.entry(name).or_default().add(&used.counters);
        }
    }

    /// Counts by name of the plugin, all versions together.
    pub(super) fn counters(&self) -> BTreeMap<String, DecoderCounters> {
        let mut all = self.gone.clone();
        for (_, used) in self.iter() {
            all.entry(used.plugin.descriptor.name.clone()).or_default().add(&used.counters);
        }
        all
    }
}
