//! How many exchanges there were, over time, in a bounded number of slots of equal width.
//!
//! Slots begin at multiples of their width since 1970. Where the time seen becomes longer than [`MAX_SLOTS`] of them, they
//! become wider, by the steps of [`WIDTHS_NS`], each of which is a multiple of the one before: nothing is spread over two
//! slots, and of two timelines the one that saw less can be shown beside the other.

use std::collections::VecDeque;

/// The most slots of a timeline.
pub(crate) const MAX_SLOTS: usize = 120;

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;
const HOUR: u64 = 3_600 * S;
const DAY: u64 = 24 * HOUR;
/// Widths of slots. [`MAX_SLOTS`] of the last hold all time that there is in ns.
const WIDTHS_NS: [u64; 20] = [
    MS,
    5 * MS,
    10 * MS,
    50 * MS,
    100 * MS,
    500 * MS,
    S,
    5 * S,
    10 * S,
    30 * S,
    60 * S,
    300 * S,
    600 * S,
    1_800 * S,
    HOUR,
    6 * HOUR,
    DAY,
    10 * DAY,
    100 * DAY,
    10_000 * DAY,
];

/// What began in the time of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Exchanges.
    pub exchanges: u32,
    /// Those of them that failed.
    pub failures: u32,
}

impl Slot {
    fn add(&mut self, other: Slot) {
        self.exchanges = self.exchanges.saturating_add(other.exchanges);
        self.failures = self.failures.saturating_add(other.failures);
    }
}

/// Counts over time. The first slot and the last have something in them.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Index of their width.
    step: usize,
    /// Start of the first slot, in widths since 1970.
    first: u64,
    slots: VecDeque<Slot>,
}

impl Timeline {
    /// Counts an exchange that began then, ns since 1970.
    pub(super) fn record(&mut self, ns: u64, failed: bool) {
        let slot = Slot { exchanges: 1, failures: u32::from(failed) };
        if self.slots.is_empty() {
            self.first = ns / self.width_ns();
        }
        loop {
            let number = ns / self.width_ns();
            let low = self.first.min(number);
            let high = number.max(self.first + (self.slots.len() as u64).saturating_sub(1));
            if high - low < MAX_SLOTS as u64 {
                (low..self.first).for_each(|_| self.slots.push_front(Slot::default()));
                self.first = low;
                let index = (number - low) as usize;
                if index >= self.slots.len() {
                    self.slots.resize(index + 1, Slot::default());
                }
                return self.slots[index].add(slot);
            }
            self.widen();
        }
    }

    /// Takes the next width. There is one: all time fits into slots of the last.
    fn widen(&mut self) {
        let factor = WIDTHS_NS[self.step + 1] / self.width_ns();
        let first = self.first / factor;
        let mut wider: VecDeque<Slot> = VecDeque::new();
        for (number, slot) in (self.first..).zip(&self.slots) {
            let index = (number / factor - first) as usize;
            if index == wider.len() {
                wider.push_back(Slot::default());
            }
            wider[index].add(*slot);
        }
        *self = Timeline { step: self.step + 1, first, slots: wider };
    }

    /// The width of its slots, ns.
    pub fn width_ns(&self) -> u64 {
        WIDTHS_NS[self.step]
    }

    /// When its first slot begins, ns since 1970.
    pub fn start_ns(&self) -> u64 {
        self.first * self.width_ns()
    }

    /// Its slots, the oldest first.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = Slot> + '_ {
        self.slots.iter().copied()
    }

    /// Its slots as those of a timeline that has seen all that this one has, and maybe more.
    pub fn beside(&self, whole: &Timeline) -> Vec<Slot> {
        let mut aligned = vec![Slot::default(); whole.slots.len()];
        let factor = whole.width_ns() / self.width_ns();
        for (number, slot) in (self.first..).zip(&self.slots) {
            let index = (number / factor.max(1)).checked_sub(whole.first).and_then(|index| usize::try_from(index).ok());
            if let Some(place) = index.and_then(|index| aligned.get_mut(index)) {
                place.add(*slot);
            }
        }
        aligned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times_ns: &[u64]) -> Timeline {
        let mut timeline = Timeline::default();
        times_ns.iter().for_each(|&ns| timeline.record(ns, ns % 2 == 1));
        timeline
    }

    fn total(slots: impl IntoIterator<Item = Slot>) -> u32 {
        slots.into_iter().map(|slot| slot.exchanges).sum()
    }

    #[test]
    fn every_width_is_a_multiple_of_the_one_before_and_the_last_holds_all_time() {
        assert!(WIDTHS_NS.windows(2).all(|pair| pair[1] % pair[0] == 0 && pair[1] > pair[0]));
        assert!(u64::MAX / WIDTHS_NS[WIDTHS_NS.len() - 1] < MAX_SLOTS as u64);
    }

    #[test]
    fn slots_are_wide_enough_for_all_that_was_seen_and_no_wider() {
        let start = 1_767_225_600 * S;
        let timeline = of(&[start, start + 119 * MS]);
        assert_eq!((timeline.width_ns(), timeline.slots().len(), timeline.start_ns()), (MS, 120, start));
        let timeline = of(&[start, start + 120 * MS]);
        assert_eq!((timeline.width_ns(), timeline.slots().len()), (5 * MS, 25));
        let timeline = of(&[start, start + 3 * S, start + 90 * S + 1]);
        assert_eq!((timeline.width_ns(), timeline.slots().len()), (S, 91));
        let busy: Vec<_> = timeline.slots().enumerate().filter(|(_, slot)| slot.exchanges > 0).collect();
        let slot = |failures| Slot { exchanges: 1, failures };
        assert_eq!(busy, [(0, slot(0)), (3, slot(0)), (90, slot(1))]);
    }

    #[test]
    fn times_in_any_order_and_from_anywhere_are_all_counted() {
        let mut times = vec![u64::MAX, 0, 1, u64::MAX / 2];
        // Numbers that look like chance: Knuth's multiplicative hash.
        times.extend((0..2000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (number % 50)));
        for end in [1, 2, 3, 4, 500, times.len()] {
            let timeline = of(&times[..end]);
            assert_eq!(total(timeline.slots()), end as u32);
            assert!(timeline.slots().len() <= MAX_SLOTS);
        }
    }

    #[test]
    fn a_part_stands_beside_the_whole() {
        let start = 1_767_225_600 * S;
        let times: Vec<_> = (0..500).map(|number| start + number * 77 * MS).collect();
        let (whole, part) = (of(&times), of(&times[100..110]));
        assert!(part.width_ns() < whole.width_ns());
        let beside = part.beside(&whole);
        assert_eq!((beside.len(), total(beside.iter().copied())), (whole.slots().len(), 10));
        assert!(beside.iter().zip(whole.slots()).all(|(part, whole)| part.exchanges <= whole.exchanges));
        assert_eq!(whole.beside(&whole), whole.slots().collect::<Vec<_>>());
    }
}
