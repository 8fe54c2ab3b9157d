//! Puts IP datagrams together from their fragments (RFC 791, section 3.2; RFC 8200, section 4.5).
//!
//! Fragments in, in any order, whole payloads out. Not for TCP alone: a tunnel's datagram may come in fragments, too.
//!
//! Overlaps: a fragment that repeats bytes at hand is a duplicate and passed over. One that overlaps what is at hand in
//! any other way, or contradicts where the datagram ends, spoils the datagram: all of it is dropped, and what comes of
//! it later starts anew. So do Linux for both versions, RFC 5722 and RFC 8200 for IPv6; other hosts put such IPv4
//! datagrams together, each in its own way, so that no choice of bytes would be right.
//!
//! Bounds: bytes in all ([`Limits::fragment_buffer_bytes`]: beyond, the oldest datagram is given up), packet time
//! ([`Limits::fragment_timeout_ns`] from the first fragment seen, after which the identification may mean another
//! datagram), and [`MAX_PIECES`].
//!
//! Invariants: the pieces of a datagram are sorted and do not overlap; `order` holds every datagram once, and may hold
//! some that are gone.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::counters::Counters;
use crate::ip::Addresses;
use crate::limits::Limits;
use crate::packet::Fragment;

/// Pieces of one datagram. 64 KiB over the least MTU of IPv6 (1280) are 54.
pub const MAX_PIECES: usize = 256;
/// What a datagram is charged beyond its data, for its entries.
const DATAGRAM_COST: usize = 256;
/// What a piece is charged beyond its data.
const PIECE_COST: usize = 64;

/// Which datagram a fragment is of. RFC 8200 leaves the protocol out; there it is that of the first fragment, and others
/// may state another. Bias: such a datagram is never put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    addresses: Addresses,
    identification: u32,
    protocol: u8,
}

/// The payload of an IP datagram.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) addresses: Addresses,
    pub(crate) protocol: u8,
    pub(crate) payload: Vec<u8>,
    pub(crate) headers_left: u8,
}

/// Pieces of a datagram.
#[derive(Debug)]
struct Waiting {
    /// Tells it from others that had its key.
    serial: u64,
    since_ns: u64,
    pieces: Vec<Piece>,
    /// Where the payload ends, once the last fragment was seen.
    end: Option<usize>,
    bytes: usize,
}

#[derive(Debug)]
struct Piece {
    start: usize,
    bytes: Box<[u8]>,
}

impl Piece {
    fn end(&self) -> usize {
        self.start + self.bytes.len()
    }
}

/// What a fragment did.
enum Step {
    Kept,
    Duplicate,
    Spoilt,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    datagrams: HashMap<Key, Waiting>,
    /// By age.
    order: VecDeque<(Key, u64)>,
    serial: u64,
    cost: usize,
}

impl Fragments {
    /// Takes a fragment; gives the datagram if it was the last one missing.
    ///
    /// Counts the fragment unless it completes a datagram: what that holds is for the caller to count.
    pub(crate) fn add(
        &mut self,
        fragment: &Fragment<'_>,
        now_ns: u64,
        limits: &Limits,
        counters: &mut Counters,
    ) -> Option<Datagram> {
        self.expire(now_ns, limits, counters);
        let Fragment { addresses, identification, protocol, headers_left, .. } = *fragment;
        let key = Key { addresses, identification, protocol };
        if !self.make_room(fragment.payload.len() + PIECE_COST + DATAGRAM_COST, limits, counters) {
            counters.packets_fragment += 1;
            counters.fragments_evicted += 1;
            return None;
        }
        let serial = self.serial;
        let waiting = self.datagrams.entry(key).or_insert_with(|| {
            self.order.push_back((key, serial));
            self.serial += 1;
            self.cost += DATAGRAM_COST;
            Waiting { serial, since_ns: now_ns, pieces: Vec::new(), end: None, bytes: 0 }
        });
        let serial = waiting.serial;
        match waiting.add(fragment) {
            Step::Kept if waiting.is_whole() => {
                let payload = waiting.join();
                self.cost += fragment.payload.len() + PIECE_COST;
                counters.fragments_waiting += 1;
                // This one does not count as a fragment.
                counters.fragments_joined += self.remove(key, serial, counters) - 1;
                counters.datagrams_joined += 1;
                return Some(Datagram { addresses, protocol, payload, headers_left });
            }
            Step::Kept => {
                self.cost += fragment.payload.len() + PIECE_COST;
                counters.fragments_waiting += 1;
            }
            Step::Duplicate => counters.fragments_duplicate += 1,
            Step::Spoilt => counters.fragments_overlapping += 1 + self.remove(key, serial, counters),
        }
        counters.packets_fragment += 1;
        None
    }

    /// The capture is over: what waits will not be put together.
    pub(crate) fn finish(&mut self, counters: &mut Counters) {
        while let Some((key, serial)) = self.order.pop_front() {
            counters.fragments_expired += self.remove(key, serial, counters);
        }
    }

    /// Gives up the oldest datagrams until `cost` fits in; false if it never does.
    fn make_room(&mut self, cost: usize, limits: &Limits, counters: &mut Counters) -> bool {
        while self.cost + cost > limits.fragment_buffer_bytes as usize {
            let Some((key, serial)) = self.order.pop_front() else { return false };
            counters.fragments_evicted += self.remove(key, serial, counters);
        }
        true
    }

    fn expire(&mut self, now_ns: u64, limits: &Limits, counters: &mut Counters) {
        while let Some(&(key, serial)) = self.order.front() {
            let waiting = self.datagrams.get(&key).filter(|waiting| waiting.serial == serial);
            if waiting.is_some_and(|waiting| waiting.since_ns.saturating_add(limits.fragment_timeout_ns) > now_ns) {
                break;
            }
            self.order.pop_front();
            counters.fragments_expired += self.remove(key, serial, counters);
        }
        // Datagrams that were put together leave their entries behind.
        if self.order.len() > 2 * self.datagrams.len() + 64 {
            self.order.retain(|(key, serial)| self.datagrams.get(key).is_some_and(|waiting| waiting.serial == *serial));
        }
    }

    /// Removes a datagram if it is there; gives the number of its pieces, which wait no more.
    fn remove(&mut self, key: Key, serial: u64, counters: &mut Counters) -> u64 {
        if self.datagrams.get(&key).is_none_or(|waiting| waiting.serial != serial) {
            return 0;
        }
        let Some(waiting) = self.datagrams.remove(&key) else { return 0 };
        self.cost -= DATAGRAM_COST + waiting.bytes + waiting.pieces.len() * PIECE_COST;
        counters.fragments_waiting -= waiting.pieces.len() as u64;
        waiting.pieces.len() as u64
    }
}

impl Waiting {
    fn add(&mut self, fragment: &Fragment<'_>) -> Step {
        let (start, end) = (fragment.offset, fragment.offset + fragment.payload.len());
        let index = self.pieces.partition_point(|piece| piece.end() <= start);
        if let Some(piece) = self.pieces.get(index)
            && piece.start < end
        {
            let at_hand = start.checked_sub(piece.start).and_then(|skip| piece.bytes.get(skip..)?.get(..end - start));
            let repeats = at_hand == Some(fragment.payload) && (fragment.more || self.end == Some(end));
            return if repeats { Step::Duplicate } else { Step::Spoilt };
        }
        let seen_end = self.pieces.last().map_or(0, Piece::end);
        let contradicts = match (self.end, fragment.more) {
            (Some(known), true) => end > known,
            (Some(_), false) => true, // a second end
            (None, false) => end < seen_end,
            (None, true) => false,
        };
        if contradicts || self.pieces.len() == MAX_PIECES {
            return Step::Spoilt;
        }
        if !fragment.more {
            self.end = Some(end);
        }
        self.bytes += fragment.payload.len();
        self.pieces.insert(index, Piece { start, bytes: fragment.payload.into() });
        Step::Kept
    }

    fn is_whole(&self) -> bool {
        self.end == Some(self.bytes)
    }

    fn join(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.bytes);
        for piece in &self.pieces {
            payload.extend_from_slice(&piece.bytes);
        }
        payload
    }
}
