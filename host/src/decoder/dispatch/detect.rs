//! Whose a connection is: by configured port, else by what each plugin's probe says of its first bytes.
//!
//! Pieces of a connection that nobody has claimed come in; the connection is claimed, kept for the next piece, or ignored.
//! What is kept is bounded, for one connection and for all.

use std::collections::BTreeMap;

use podtap_stream::{Chunk, Side};

use super::Dispatcher;
use crate::decoder::Verdict;
use crate::decoder::batch::Entry;
use crate::decoder::tracked::{Claim, Detecting, State, Tracked, index};

/// On a connection seen from its middle, how many pieces are tried for the start of a message.
const MIDSTREAM_ATTEMPTS: u32 = 16;

/// Bytes that wait for a verdict in all connections together; beyond, a connection is not waited for.
const MAX_WAITING_BYTES: usize = 8 << 20;

impl Dispatcher<'_> {
    /// Payload of a connection that nobody has claimed.
    pub(super) fn detect(&mut self, id: u32, side: Side, chunk: Chunk<'_>) {
        let Some(tracked) = self.table.get_mut(id) else { return self.unknown(Entry::Data(chunk.bytes)) };
        // What the plugin of the port handed over is of another protocol.
        let of_port = match tracked.hand_overs() {
            0 => by_port(&self.ports, tracked.client, [tracked.a.port, tracked.b.port]),
            _ => None,
        };
        let State::Detecting(waiting) = &mut tracked.state else { return };
        if let Some((slot, client)) = of_port {
            tracked.client = Some(client);
            return self.assign(id, slot, side, chunk);
        }
        // The common way: the first piece decides, nothing is kept.
        let Some(waiting) = waiting else {
            let mut refused = 0;
            return match self.ask(id, side, chunk.bytes, &mut refused) {
                Answer::Yes { slot, client } => {
                    if let Some(tracked) = self.table.get_mut(id) {
                        tracked.client = Some(client);
                    }
                    self.assign(id, slot, side, chunk);
                }
                answer => {
                    if let Some(Tracked { state: State::Detecting(waiting), .. }) = self.table.get_mut(id) {
                        let kept = Detecting { refused, ..Detecting::default() };
                        waiting.insert(Box::new(kept)).keep(side, chunk);
                        self.waiting_bytes += chunk.bytes.len();
                    }
                    self.undecided(id, side, &answer);
                }
            };
        };
        waiting.keep(side, chunk);
        self.waiting_bytes += chunk.bytes.len();
        let head = std::mem::take(&mut waiting.heads[index(side)]);
        let mut refused = waiting.refused;
        let answer = self.ask(id, side, &head, &mut refused);
        if let Some(Tracked { state: State::Detecting(Some(waiting)), client, .. }) = self.table.get_mut(id) {
            waiting.heads[index(side)] = head;
            waiting.refused = refused;
            if let Answer::Yes { slot, client: found } = answer {
                *client = Some(found);
                return self.assign_waiting(id, slot);
            }
        }
        self.undecided(id, side, &answer);
    }

    /// Asks the plugins that have not refused yet, those with the port first.
    fn ask(&mut self, id: u32, side: Side, head: &[u8], refused: &mut u64) -> Answer {
        let Some(tracked) = self.table.get(id) else { return Answer::No };
        let (known, ports) = (tracked.client, [tracked.a.port, tracked.b.port]);
        let other = if side == Side::A { Side::B } else { Side::A };
        let mut more = false;
        for usual in [true, false] {
            for slot in 0..self.slots.len() {
                let descriptor = &self.slots[slot].plugin.descriptor;
                if *refused & (1 << slot) != 0 || descriptor.ports.iter().any(|port| ports.contains(port)) != usual {
                    continue;
                }
                let directions: &[(bool, Side)] = match known {
                    Some(client) if client == side => &[(false, side)],
                    Some(client) => &[(true, client)],
                    None => &[(false, side), (true, other)],
                };
                let mut refuses = true;
                for &(from_server, client) in directions {
                    match self.probe(slot, from_server, head) {
                        Verdict::Yes => return Answer::Yes { slot, client },
                        Verdict::NeedMore => refuses = false,
                        Verdict::No => {}
                    }
                }
                if refuses {
                    *refused |= 1 << slot;
                } else {
                    more = true;
                }
            }
        }
        if more { Answer::NeedMore } else { Answer::No }
    }

    fn probe(&mut self, slot: usize, from_server: bool, head: &[u8]) -> Verdict {
        let Some(instance) = &mut self.slots[slot].instance else { return Verdict::No };
        match instance.probe(from_server, head) {
            Ok(verdict) => verdict,
            Err(failure) => {
                self.replace(slot, &failure);
                Verdict::No
            }
        }
    }

    /// No plugin has said yes: wait, try the next piece, or give up.
    fn undecided(&mut self, id: u32, side: Side, answer: &Answer) {
        let Some(tracked) = self.table.get_mut(id) else { return };
        let midstream = tracked.midstream;
        let State::Detecting(Some(waiting)) = &mut tracked.state else { return };
        let too_long = waiting.heads[index(side)].len() >= self.limits.head_bytes;
        let wait = matches!(answer, Answer::NeedMore) && !too_long && self.waiting_bytes <= MAX_WAITING_BYTES;
        if wait {
            return;
        }
        if midstream && waiting.attempts < MIDSTREAM_ATTEMPTS {
            return self.drop_waiting(id);
        }
        self.counters.connections_undetected += 1;
        self.ignore(id);
    }

    /// The connection belongs to a plugin, which gets the piece that decided it.
    fn assign(&mut self, id: u32, slot: usize, side: Side, chunk: Chunk<'_>) {
        self.counters.connections_detected += 1;
        let claim = self.claim_of(slot);
        let Some(tracked) = self.table.get_mut(id) else { return self.unknown(Entry::Data(chunk.bytes)) };
        tracked.state = State::Decoding { slot, opened: false };
        tracked.note_claim(claim);
        let place = tracked.place(id, side, chunk.time_ns, chunk.position);
        self.push(slot, place, Entry::Data(chunk.bytes));
    }

    /// Which of several protocols it is, the exchanges will say.
    fn claim_of(&self, slot: usize) -> Claim {
        let only = self.slots[slot].plugin.descriptor.protocols.len() == 1;
        Claim { slot, protocol: only.then_some(0) }
    }

    /// The connection belongs to a plugin, which gets all that was kept.
    fn assign_waiting(&mut self, id: u32, slot: usize) {
        let claim = self.claim_of(slot);
        let Some(tracked) = self.table.get_mut(id) else { return };
        tracked.note_claim(claim);
        let state = std::mem::replace(&mut tracked.state, State::Decoding { slot, opened: false });
        let State::Detecting(Some(waiting)) = state else { return };
        self.counters.connections_detected += 1;
        self.waiting_bytes -= waiting.bytes();
        let places = tracked.places(id);
        let mut rest = [waiting.heads[0].as_slice(), waiting.heads[1].as_slice()];
        for &(side, time_ns, position, length) in &waiting.pieces {
            let Some((bytes, after)) = rest[index(side)].split_at_checked(length) else { break };
            rest[index(side)] = after;
            self.push(slot, places(side, time_ns, position), Entry::Data(bytes));
        }
        for side in [Side::A, Side::B] {
            if let Some((position, time_ns)) = waiting.ends[index(side)] {
                self.push(slot, places(side, time_ns, position), Entry::End);
            }
        }
    }

    /// What a connection kept for a verdict is of no use any more.
    pub(super) fn drop_waiting(&mut self, id: u32) {
        if let Some(Tracked { state: State::Detecting(Some(waiting)), .. }) = self.table.get_mut(id) {
            let bytes = waiting.bytes();
            self.waiting_bytes -= bytes;
            self.counters.bytes_undetected += bytes as u64;
            **waiting = Detecting { attempts: waiting.attempts + 1, ends: waiting.ends, ..Detecting::default() };
        }
    }
}

enum Answer {
    Yes { slot: usize, client: Side },
    No,
    NeedMore,
}

/// The slot that a server port belongs to by configuration, and the client's side.
fn by_port(ports: &BTreeMap<u16, usize>, client: Option<Side>, [a, b]: [u16; 2]) -> Option<(usize, Side)> {
    match client {
        _ if ports.is_empty() => None,
        Some(Side::A) => ports.get(&b).map(|&slot| (slot, Side::A)),
        Some(Side::B) => ports.get(&a).map(|&slot| (slot, Side::B)),
        // Who listens on a configured port is the server; if both do, nobody knows.
        None => match (ports.get(&a), ports.get(&b)) {
            (None, Some(&slot)) => Some((slot, Side::A)),
            (Some(&slot), None) => Some((slot, Side::B)),
            _ => None,
        },
    }
}

impl Detecting {
    fn keep(&mut self, side: Side, chunk: Chunk<'_>) {
        self.heads[index(side)].extend_from_slice(chunk.bytes);
        self.pieces.push((side, chunk.time_ns, chunk.position, chunk.bytes.len()));
    }

    /// Payload came, though it may have been dropped since.
    pub(super) fn had_payload(&self) -> bool {
        self.attempts > 0 || self.bytes() > 0
    }

    fn bytes(&self) -> usize {
        self.heads[0].len() + self.heads[1].len()
    }
}
