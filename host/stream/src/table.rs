//! The connection table: finds a connection by its ends, and knows which one has been quiet longest.
//!
//! Slots live in a slab, so that an index names a connection; the hash index holds slot numbers only. Lists run through
//! the slots, each ordered by time, so that expiry and eviction look at list heads only. Connections are told apart by
//! addresses and ports alone.
//!
//! Invariants: a slot in use is in exactly one list of [`Life`], and maybe in the list of those with holes; the hash
//! index holds exactly the slots in use.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::connection::{ConnectionId, Endpoint};
use crate::ip::Addresses;
use crate::limits::Limits;
use crate::tcp::Segment;
use crate::tracked::Tracked;

/// No slot.
const NONE: u32 = u32::MAX;
/// Not in the list of those with holes.
const NO_HOLE: u64 = u64::MAX;
/// The slab grows by an eighth, at least by this: doubling would waste up to half of the memory.
const MIN_GROWTH: usize = 64;

/// How many times [`Limits::close_timeout_ns`] a closed connection is kept after a late retransmission: the next one may
/// take twice as long (RFC 6298, section 5.5), up to a minute at least (section 2.4).
const LINGERING_PATIENCE: u64 = 32;

/// The ends of a connection, the same for both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    low: [u64; 2],
    high: [u64; 2],
    low_port: u16,
    high_port: u16,
    v6: bool,
}

/// Which end of a [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Low,
    High,
}

impl End {
    pub(crate) fn other(self) -> End {
        match self {
            End::Low => End::High,
            End::High => End::Low,
        }
    }
}

impl Key {
    /// The key of the segment's connection, and the end that sent it.
    pub(crate) fn of(segment: &Segment<'_>) -> (Key, End) {
        let (source, destination, v6) = match segment.addresses {
            Addresses::V4(source, destination) => {
                ([0, u64::from(u32::from_be_bytes(source))], [0, u64::from(u32::from_be_bytes(destination))], false)
            }
            Addresses::V6(source, destination) => (halves(source), halves(destination), true),
        };
        let (source_port, destination_port) = (segment.source_port, segment.destination_port);
        if (source, source_port) <= (destination, destination_port) {
            let key = Key { low: source, high: destination, low_port: source_port, high_port: destination_port, v6 };
            (key, End::Low)
        } else {
            let key = Key { low: destination, high: source, low_port: destination_port, high_port: source_port, v6 };
            (key, End::High)
        }
    }

    pub(crate) fn endpoint(&self, end: End) -> Endpoint {
        let ([high, low], port) = match end {
            End::Low => (self.low, self.low_port),
            End::High => (self.high, self.high_port),
        };
        let bits = u128::from(high) << 64 | u128::from(low);
        let address = if self.v6 { IpAddr::V6(bits.into()) } else { IpAddr::V4((bits as u32).into()) };
        Endpoint { address, port }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ports = u64::from(self.low_port) << 32 | u64::from(self.high_port) << 16 | u64::from(self.v6);
        let ([low_0, low_1], [high_0, high_1]) = (self.low, self.high);
        if self.v6 {
            state.write_u64(low_0);
            state.write_u64(low_1);
            state.write_u64(high_0);
            state.write_u64(high_1);
        } else {
            state.write_u64(low_1 << 32 | high_1);
        }
        state.write_u64(ports);
    }
}

fn halves(address: [u8; 16]) -> [u64; 2] {
    let bits = u128::from_be_bytes(address);
    [(bits >> 64) as u64, bits as u64]
}

/// The list that a connection is in, by how dear it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Only SYNs were seen, or only acknowledgements of one side.
    HalfOpen,
    /// Was closed; kept for late retransmissions.
    Closing,
    /// Was closed, and such a retransmission came.
    Lingering,
    /// All others.
    Established,
}

impl Life {
    const ALL: [Life; 4] = [Life::HalfOpen, Life::Closing, Life::Lingering, Life::Established];

    pub(crate) fn timeout_ns(self, limits: &Limits) -> u64 {
        match self {
            Life::HalfOpen => limits.handshake_timeout_ns,
            Life::Closing => limits.close_timeout_ns,
            Life::Lingering => limits.close_timeout_ns.saturating_mul(LINGERING_PATIENCE),
            Life::Established => limits.idle_timeout_ns,
        }
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The connection was quiet for too long.
    Expired(u32),
    /// The connection has had a hole for too long.
    Hole(u32),
}

/// `repr(C)`: what every packet needs lies side by side, also within [`Tracked`].
#[derive(Debug)]
#[repr(C)]
struct Slot {
    hole_node: Node,
    /// Engine time at which it came into the list of those with holes, or [`NO_HOLE`].
    hole_ns: u64,
    /// Engine time of the last packet that counts for expiry.
    last_ns: u64,
    life_node: Node,
    life: Life,
    tracked: Tracked,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    previous: u32,
    next: u32,
}

const ALONE: Node = Node { previous: NONE, next: NONE };
const EMPTY: List = List { head: NONE, tail: NONE, length: 0 };

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
    length: u32,
}

/// Names a list, and with it the node of a slot that is in it.
#[derive(Clone, Copy)]
enum Chain {
    Life(Life),
    Hole,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Table {
    slots: Vec<Option<Slot>>,
    /// Generation of the next use of each slot that is free.
    free: Vec<ConnectionId>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    half_open: List,
    closing: List,
    lingering: List,
    established: List,
    with_hole: List,
    /// The slot found last: packets of a connection come in bursts.
    last_found: u32,
    /// No list head is due before.
    next_due_ns: u64,
}

impl Table {
    pub(crate) fn new() -> Table {
        Table {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            half_open: EMPTY,
            closing: EMPTY,
            lingering: EMPTY,
            established: EMPTY,
            with_hole: EMPTY,
            last_found: NONE,
            next_due_ns: u64::MAX,
        }
    }

    /// Slots in use.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// The slot of the connection between these ends.
    pub(crate) fn find(&mut self, key: &Key) -> Option<u32> {
        if self.get(self.last_found).is_some_and(|tracked| tracked.key == *key) {
            return Some(self.last_found);
        }
        let hash = self.hasher.hash_one(key);
        let found = *self.index.find(hash, |&index| self.get(index).is_some_and(|tracked| tracked.key == *key))?;
        self.last_found = found;
        Some(found)
    }

    /// Adds the connection that `make` makes; there must be none between its ends.
    pub(crate) fn insert(&mut self, now_ns: u64, limits: &Limits, make: impl FnOnce(ConnectionId) -> Tracked) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            if self.slots.len() == self.slots.capacity() {
                self.slots.reserve_exact(MIN_GROWTH.max(self.slots.len() / 8));
            }
            self.slots.push(None);
            ConnectionId { index: (self.slots.len() - 1) as u32, generation: 0 }
        });
        let tracked = make(id);
        let hash = self.hasher.hash_one(tracked.key);
        let life = Life::HalfOpen;
        let slot = Slot { tracked, life, last_ns: now_ns, life_node: ALONE, hole_ns: NO_HOLE, hole_node: ALONE };
        if let Some(vacant) = self.slots.get_mut(id.index as usize) {
            *vacant = Some(slot);
        }
        let Table { index, slots, hasher, .. } = self;
        index.insert_unique(hash, id.index, |&other| match slots.get(other as usize) {
            Some(Some(slot)) => hasher.hash_one(slot.tracked.key),
            _ => 0, // not reached: the index holds slots in use only
        });
        self.push_back(Chain::Life(life), id.index, now_ns.saturating_add(life.timeout_ns(limits)));
        self.last_found = id.index;
        id.index
    }

    /// Frees a slot; its id will not come again.
    pub(crate) fn remove(&mut self, index: u32) {
        let Some(slot) = self.slot(index) else { return };
        let (life, id, hash) = (slot.life, slot.tracked.id, self.hasher.hash_one(slot.tracked.key));
        self.unlink(Chain::Life(life), index);
        self.set_hole(index, false, 0, 0);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == index) {
            entry.remove();
        }
        if let Some(slot) = self.slots.get_mut(index as usize) {
            *slot = None;
        }
        self.free.push(ConnectionId { index, generation: id.generation.wrapping_add(1) });
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Tracked> {
        self.slot(index).map(|slot| &slot.tracked)
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Tracked> {
        self.slot_mut(index).map(|slot| &mut slot.tracked)
    }

    /// The connection that had this name, unless it is gone.
    pub(crate) fn by_id(&mut self, id: ConnectionId) -> Option<&mut Tracked> {
        self.get_mut(id.index).filter(|tracked| tracked.id == id)
    }

    /// A packet came: the connection is now the one used last among those of its kind.
    pub(crate) fn touch(&mut self, index: u32, life: Life, now_ns: u64, limits: &Limits) {
        let Some(slot) = self.slot_mut(index) else { return };
        slot.last_ns = now_ns;
        let old = slot.life;
        slot.life = life;
        if old == life && slot.life_node.next == NONE {
            return; // is the last one
        }
        self.unlink(Chain::Life(old), index);
        self.push_back(Chain::Life(life), index, now_ns.saturating_add(life.timeout_ns(limits)));
    }

    /// Notes whether a connection has a hole, and since when.
    pub(crate) fn set_hole(&mut self, index: u32, hole: bool, now_ns: u64, timeout_ns: u64) {
        let Some(slot) = self.slot_mut(index) else { return };
        let listed = slot.hole_ns != NO_HOLE;
        if hole && !listed {
            slot.hole_ns = now_ns.min(NO_HOLE - 1);
            self.push_back(Chain::Hole, index, now_ns.saturating_add(timeout_ns));
        } else if listed && !hole {
            slot.hole_ns = NO_HOLE;
            self.unlink(Chain::Hole, index);
        }
    }

    /// The connection that is the cheapest to lose: an established one only where there is no other. Of the others, the
    /// oldest of that kind of which there are most: so a flood of SYNs costs its own, and neither it nor many closed
    /// connections leave the others no room.
    pub(crate) fn victim(&mut self) -> Option<u32> {
        let cheap = [self.half_open, self.closing, self.lingering];
        let most = cheap.into_iter().max_by_key(|list| list.length).filter(|list| list.length > 0);
        Some(most.unwrap_or(self.established).head).filter(|&head| head != NONE)
    }

    /// The next one that is due. The caller must deal with it, or it is due again.
    pub(crate) fn due(&mut self, now_ns: u64, limits: &Limits) -> Option<Due> {
        if now_ns < self.next_due_ns {
            return None;
        }
        let mut next_due_ns = u64::MAX;
        for life in Life::ALL {
            let head = self.list(Chain::Life(life)).head;
            let Some(slot) = self.slot(head) else { continue };
            let due_ns = slot.last_ns.saturating_add(life.timeout_ns(limits));
            if due_ns <= now_ns {
                return Some(Due::Expired(head));
            }
            next_due_ns = next_due_ns.min(due_ns);
        }
        let head = self.with_hole.head;
        if let Some(slot) = self.slot(head) {
            let due_ns = slot.hole_ns.saturating_add(limits.gap_timeout_ns);
            if due_ns <= now_ns {
                return Some(Due::Hole(head));
            }
            next_due_ns = next_due_ns.min(due_ns);
        }
        self.next_due_ns = next_due_ns;
        None
    }

    fn slot(&self, index: u32) -> Option<&Slot> {
        self.slots.get(index as usize)?.as_ref()
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    fn list(&mut self, chain: Chain) -> &mut List {
        match chain {
            Chain::Life(Life::HalfOpen) => &mut self.half_open,
            Chain::Life(Life::Closing) => &mut self.closing,
            Chain::Life(Life::Lingering) => &mut self.lingering,
            Chain::Life(Life::Established) => &mut self.established,
            Chain::Hole => &mut self.with_hole,
        }
    }

    fn node(&mut self, chain: Chain, index: u32) -> Option<&mut Node> {
        let slot = self.slot_mut(index)?;
        Some(match chain {
            Chain::Life(_) => &mut slot.life_node,
            Chain::Hole => &mut slot.hole_node,
        })
    }

    fn unlink(&mut self, chain: Chain, index: u32) {
        let Some(&mut Node { previous, next }) = self.node(chain, index) else { return };
        self.list(chain).length -= 1;
        match self.node(chain, previous) {
            Some(node) => node.next = next,
            None => self.list(chain).head = next,
        }
        match self.node(chain, next) {
            Some(node) => node.previous = previous,
            None => self.list(chain).tail = previous,
        }
    }

    /// Appends to a list; the list is due at `due_ns` if it was empty.
    fn push_back(&mut self, chain: Chain, index: u32, due_ns: u64) {
        let list = self.list(chain);
        let previous = list.tail;
        list.tail = index;
        list.length += 1;
        if let Some(node) = self.node(chain, index) {
            *node = Node { previous, next: NONE };
        }
        match self.node(chain, previous) {
            Some(node) => node.next = index,
            None => {
                self.list(chain).head = index;
                self.next_due_ns = self.next_due_ns.min(due_ns);
            }
        }
    }
}
