//! Another protocol begins on a connection: the plugin that had it hears that it is over, and what the batch holds behind
//! that point goes to detection, as if it had come afterwards.
//!
//! The plugin names a position of one side. Of the other side, what was captured before the first byte behind it stays
//! with the plugin: rather bytes of the new protocol lost than bytes of the old one taken for its beginning.

use std::collections::BTreeMap;

use podtap_stream::{Chunk, Side};

use super::counters::Undetected;
use super::{Dispatcher, StreamDemand};
use crate::decoder::batch::{Batch, Entry, Place};
use crate::decoder::output::Demand;

/// Times that one connection is handed over. There are two in a tunnel through a proxy (CONNECT, then TLS); what wants
/// more goes in circles.
pub(crate) const MAX_HAND_OVERS: u32 = 16;

/// A connection after the change of protocol.
struct Successor {
    id: u32,
    /// Where the new protocol begins.
    side: Side,
    position: u64,
    /// The entries behind it have begun.
    reached: bool,
}

impl Dispatcher<'_> {
    /// Carries out demands for detection, of the plugin that took `batch`. Gives the payload of the batch that went to
    /// detection.
    pub(super) fn hand_over(&mut self, lane: usize, batch: &Batch, demands: &[Demand]) -> u64 {
        let mut successors = BTreeMap::new();
        for demand in demands {
            if let Some(successor) = self.succeed(lane, batch, demand) {
                successors.insert(demand.connection, successor);
            }
        }
        let mut given = 0;
        for (place, entry) in batch.entries() {
            let Some(successor) = successors.get_mut(&place.connection) else { continue };
            let Some(side) = self.table.get(place.connection).map(|tracked| tracked.side(place.from_server)) else {
                continue;
            };
            if let Some((position, entry)) = successor.of_it(side, place.position, entry) {
                if let Entry::Data(bytes) = entry {
                    given += bytes.len() as u64;
                }
                self.deliver(successor.id, side, Place { position, ..place }, entry);
            }
        }
        for successor in successors.into_values().filter(|successor| !successor.reached) {
            // In what is still to come, or exactly where the batch ends.
            if let Some(tracked) = self.table.get(successor.id) {
                self.demands.push(StreamDemand::Skip(tracked.stream, successor.side, successor.position));
            }
        }
        given
    }

    /// For the plugin the connection is over. A new one takes its place, which is to be detected.
    fn succeed(&mut self, lane: usize, batch: &Batch, demand: &Demand) -> Option<Successor> {
        let id = demand.connection;
        let tracked = self.table.get(id).filter(|tracked| tracked.successor.is_none())?;
        let side = tracked.side(demand.from_server);
        let (over, next) = (tracked.over, tracked.handed_over());
        if !over {
            let place = Place { connection: id, from_server: false, time_ns: batch.last_time_ns(), position: 0 };
            self.push(lane, place, Entry::Closed(0));
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.closed.push(id);
            }
        }
        let in_circles = next.hand_overs() > MAX_HAND_OVERS;
        // The engine may have given the place of one that is over to another.
        let successor = if over { self.table.insert_apart(next) } else { self.table.insert(next) };
        if let Some(tracked) = self.table.get_mut(id) {
            tracked.successor = Some(successor);
        }
        if in_circles {
            self.counters.undetected(Undetected::HandedOverInCircles);
            self.ignore(successor);
        }
        Some(Successor { id: successor, side, position: demand.position, reached: false })
    }

    /// Something that happened on a connection, not told by the engine but given back by a plugin.
    pub(super) fn deliver(&mut self, id: u32, side: Side, place: Place, entry: Entry<'_>) {
        let Place { time_ns, position, .. } = place;
        match entry {
            Entry::Data(bytes) => self.payload(id, side, Chunk { position, time_ns, bytes }),
            Entry::Gap(length) => self.missing(id, side, time_ns, position, length),
            Entry::End => self.side_over(id, side, time_ns, position, false),
            Entry::Cut => self.side_over(id, side, time_ns, position, true),
            Entry::Closed(how) => self.over(id, time_ns, how),
        }
    }
}

impl Successor {
    /// What of an entry is of the new protocol, and where it begins.
    fn of_it<'b>(&mut self, side: Side, position: u64, entry: Entry<'b>) -> Option<(u64, Entry<'b>)> {
        let length = match entry {
            Entry::Data(bytes) => bytes.len() as u64,
            Entry::Gap(length) => length,
            // That a side sends no more is so whatever the protocol.
            Entry::End | Entry::Cut | Entry::Closed(_) => return Some((position, entry)),
        };
        if side != self.side {
            return self.reached.then_some((position, entry));
        }
        let before = self.position.saturating_sub(position);
        self.reached |= before <= length;
        if before >= length {
            return None;
        }
        let entry = match entry {
            // Shorter than the payload: it fits.
            Entry::Data(bytes) => Entry::Data(bytes.get(before as usize..).unwrap_or_default()),
            Entry::Gap(length) => Entry::Gap(length - before),
            other => other,
        };
        Some((position + before, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(found: Option<(u64, Entry<'_>)>) -> String {
        found.map_or("-".to_owned(), |(position, entry)| format!("{position} {entry:?}"))
    }

    #[test]
    fn entries_are_cut_where_the_new_protocol_begins() {
        let mut successor = Successor { id: 0, side: Side::B, position: 12, reached: false };
        let mut check = |side, position, entry, expected: &str| {
            assert_eq!(shown(successor.of_it(side, position, entry)), expected);
        };
        check(Side::A, 5, Entry::Data(b"old"), "-");
        check(Side::A, 8, Entry::End, "8 End");
        check(Side::B, 0, Entry::Gap(9), "-");
        check(Side::B, 9, Entry::Data(b"oldn"), "12 Data([110])");
        check(Side::A, 8, Entry::Data(b"n"), "8 Data([110])");
        check(Side::B, 13, Entry::Gap(2), "13 Gap(2)");
        check(Side::B, 15, Entry::Closed(1), "15 Closed(1)");
        let mut successor = Successor { id: 0, side: Side::B, position: 12, reached: false };
        let mut check = |side, position, entry, expected: &str| {
            assert_eq!(shown(successor.of_it(side, position, entry)), expected);
        };
        check(Side::B, 10, Entry::Data(b"ol"), "-");
        check(Side::A, 0, Entry::Data(b"n"), "0 Data([110])");
        let mut successor = Successor { id: 0, side: Side::B, position: 12, reached: false };
        assert_eq!(shown(successor.of_it(Side::B, 10, Entry::Gap(5))), "12 Gap(3)");
        let mut successor = Successor { id: 0, side: Side::B, position: u64::MAX, reached: false };
        assert_eq!(shown(successor.of_it(Side::B, 10, Entry::Gap(5))), "-");
        assert!(!successor.reached);
    }
}
