//! Whose a connection is: by configured port, else by what each plugin's probe says of its first bytes.
//!
//! Pieces of a connection that nobody has claimed come in; the connection is claimed, kept for the next piece, or ignored.
//! What is kept is bounded, for one connection and for all.

use std::collections::BTreeMap;

use podtap_stream::{Chunk, Side};

use super::Dispatcher;
use super::counters::Undetected;
use crate::decoder::Verdict;
use crate::decoder::batch::Entry;
use crate::decoder::tracked::{Detecting, Piece, State, Tracked, index};

/// On a connection seen from its middle, how many pieces are tried for the start of a message.
pub(crate) const MIDSTREAM_ATTEMPTS: u32 = 16;

/// Memory of all that waits for a verdict, in all workers together; beyond, a connection is not waited for.
pub(crate) const MAX_WAITING_BYTES: usize = 8 << 20;

/// What all connections keep for a verdict.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) payload_bytes: usize,
    /// With what keeping it costs.
    memory_bytes: usize,
}

impl Kept {
    fn add(&mut self, waiting: &Detecting) {
        self.payload_bytes += waiting.bytes();
        self.memory_bytes += waiting.memory_bytes();
    }

    fn remove(&mut self, waiting: &Detecting) {
        self.payload_bytes -= waiting.bytes();
        self.memory_bytes -= waiting.memory_bytes();
    }
}

impl Dispatcher<'_> {
    /// Payload of a connection that nobody has claimed.
    pub(super) fn detect(&mut self, id: u32, side: Side, chunk: Chunk<'_>) {
        let Some(tracked) = self.table.get_mut(id) else { return self.unknown(Entry::Data(chunk.bytes)) };
        // What the plugin of the port handed over is of another protocol.
        let of_port = match tracked.hand_overs() {
            0 => by_port(&self.ports, tracked.client, [tracked.a.port, tracked.b.port]),
            _ => None,
        };
        if let Some((plugin, client)) = of_port {
            tracked.client = Some(client);
            return self.assign_by_port(id, plugin, side, chunk);
        }
        let State::Detecting(waiting) = &mut tracked.state else { return };
        // The common way: the first piece decides, nothing is kept.
        let Some(waiting) = waiting else {
            let mut refused = 0;
            return match self.ask(id, side, chunk.bytes, &mut refused) {
                Answer::Yes { plugin, client } => {
                    if let Some(tracked) = self.table.get_mut(id) {
                        tracked.client = Some(client);
                    }
                    self.assign(id, plugin, side, chunk);
                }
                answer => {
                    if let Some(Tracked { state: State::Detecting(waiting), .. }) = self.table.get_mut(id) {
                        let kept = Detecting { refused, ..Detecting::default() };
                        waiting.insert(Box::new(kept)).keep(side, chunk, &mut self.kept);
                    }
                    self.undecided(id, side, &answer);
                }
            };
        };
        waiting.keep(side, chunk, &mut self.kept);
        let head = std::mem::take(&mut waiting.heads[index(side)]);
        let mut refused = waiting.refused;
        let answer = self.ask(id, side, &head, &mut refused);
        if let Some(Tracked { state: State::Detecting(Some(waiting)), client, .. }) = self.table.get_mut(id) {
            waiting.heads[index(side)] = head;
            waiting.refused = refused;
            if let Answer::Yes { plugin, client: found } = answer {
                *client = Some(found);
                return self.assign_waiting(id, plugin);
            }
        }
        self.undecided(id, side, &answer);
    }

    /// By configuration it belongs to a plugin, which may be set aside.
    fn assign_by_port(&mut self, id: u32, plugin: usize, side: Side, chunk: Chunk<'_>) {
        if !self.in_use(plugin) {
            self.counters.bytes_failed += chunk.bytes.len() as u64;
            self.counters.connections_quarantined += 1;
            self.drop_waiting(id);
            return self.fail(id);
        }
        match self.table.get_mut(id).map(|tracked| &mut tracked.state) {
            // A side has ended already, without payload.
            Some(State::Detecting(Some(waiting))) => {
                waiting.keep(side, chunk, &mut self.kept);
                self.assign_waiting(id, plugin);
            }
            _ => self.assign(id, plugin, side, chunk),
        }
    }

    /// Asks the plugins that have not refused yet: that of the server first, then those with the port.
    fn ask(&mut self, id: u32, side: Side, head: &[u8], refused: &mut u64) -> Answer {
        let Some(tracked) = self.table.get(id) else { return Answer::No { quarantined: false } };
        let (known, ports) = (tracked.client, [tracked.a.port, tracked.b.port]);
        let other = if side == Side::A { Side::B } else { Side::A };
        let (mut more, mut quarantined, mut asked) = (false, false, None);
        // What the plugin of a server handed over is of another protocol.
        let hint = if tracked.hand_overs() == 0 { self.servers.hint(tracked, self.now_ns) } else { None };
        // In the middle of a message its own plugin says no, too.
        let may_be_wrong = (!tracked.midstream).then(|| tracked.server());
        if let Some((plugin, client)) = hint
            && *refused & (1 << plugin) == 0
        {
            match self.probe(plugin, client != side, head) {
                Verdict::Yes => {
                    self.counters.connections_of_known_servers += 1;
                    return Answer::Yes { plugin, client };
                }
                Verdict::NeedMore => more = true,
                Verdict::No => {
                    if let Some(server) = may_be_wrong {
                        self.servers.forget(server);
                    }
                    // Where the client is known there is no other direction to ask about.
                    *refused |= u64::from(known.is_some()) << plugin;
                }
            }
            asked = known.and(Some(plugin));
        }
        for usual in [true, false] {
            for plugin in self.plugins.numbers().filter(|plugin| asked != Some(*plugin)) {
                let Some(used) = self.plugins.get(plugin).filter(|used| !used.retired) else { continue };
                let descriptor = &used.plugin.descriptor;
                if *refused & (1 << plugin) != 0 || descriptor.ports.iter().any(|port| ports.contains(port)) != usual {
                    continue;
                }
                if !self.in_use(plugin) {
                    quarantined = true;
                    continue;
                }
                let directions: &[(bool, Side)] = match known {
                    Some(client) if client == side => &[(false, side)],
                    Some(client) => &[(true, client)],
                    None => &[(false, side), (true, other)],
                };
                let mut refuses = true;
                for &(from_server, client) in directions {
                    match self.probe(plugin, from_server, head) {
                        Verdict::Yes => return Answer::Yes { plugin, client },
                        Verdict::NeedMore => refuses = false,
                        Verdict::No => {}
                    }
                }
                if refuses {
                    *refused |= 1 << plugin;
                } else {
                    more = true;
                }
            }
        }
        if more { Answer::NeedMore } else { Answer::No { quarantined } }
    }

    fn probe(&mut self, plugin: usize, from_server: bool, head: &[u8]) -> Verdict {
        if !self.in_use(plugin) {
            return Verdict::No;
        }
        let Some(&lane) = self.plugins.get(plugin).and_then(|used| used.lanes.first()) else { return Verdict::No };
        let Some(instance) = self.lanes.get_mut(lane).and_then(|lane| lane.instance.as_mut()) else {
            return Verdict::No;
        };
        match instance.probe(from_server, head) {
            Ok(verdict) => verdict,
            Err(failure) => {
                self.replace(lane, &failure);
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
        let why = match answer {
            Answer::NeedMore if too_long => Undetected::HeadTooLong,
            Answer::NeedMore if self.kept.memory_bytes > self.limits.waiting_bytes => Undetected::NoRoomToWait,
            Answer::No { quarantined: true } => Undetected::DecoderQuarantined,
            Answer::No { .. } => Undetected::RefusedByAll,
            Answer::NeedMore | Answer::Yes { .. } => return,
        };
        if midstream && waiting.attempts < MIDSTREAM_ATTEMPTS {
            return self.drop_waiting(id);
        }
        self.counters.undetected(why);
        self.ignore(id);
    }

    /// The connection belongs to a plugin, which gets the piece that decided it.
    fn assign(&mut self, id: u32, plugin: usize, side: Side, chunk: Chunk<'_>) {
        let Some(lane) = self.claim(id, plugin) else { return self.unknown(Entry::Data(chunk.bytes)) };
        let Some(tracked) = self.table.get_mut(id) else { return self.unknown(Entry::Data(chunk.bytes)) };
        tracked.state = State::Decoding { lane, opened: false };
        let place = tracked.place(id, side, chunk.time_ns, chunk.position);
        self.push(lane, place, Entry::Data(chunk.bytes));
    }

    /// Notes whose the connection is, and gives the lane that takes it.
    fn claim(&mut self, id: u32, plugin: usize) -> Option<usize> {
        let number = self.lane_with_room(plugin)?;
        self.lanes.get_mut(number)?.connections += 1;
        self.counters.connections_detected += 1;
        // Which of several protocols it is, the exchanges will say.
        let protocols = &self.plugins.get(plugin)?.protocols;
        let tracked = self.table.get(id)?;
        tracked.note_claim(protocols.first().filter(|_| protocols.len() == 1));
        if !tracked.midstream && tracked.hand_overs() == 0 {
            self.servers.learn(tracked.server(), plugin, self.now_ns);
        }
        Some(number)
    }

    /// The connection belongs to a plugin, which gets all that was kept.
    fn assign_waiting(&mut self, id: u32, plugin: usize) {
        let Some(lane) = self.claim(id, plugin) else { return };
        let Some(tracked) = self.table.get_mut(id) else { return };
        let state = std::mem::replace(&mut tracked.state, State::Decoding { lane, opened: false });
        let State::Detecting(Some(waiting)) = state else { return };
        self.kept.remove(&waiting);
        let places = tracked.places(id);
        let mut rest = [waiting.heads[0].as_slice(), waiting.heads[1].as_slice()];
        for &(side, time_ns, position, length) in &waiting.pieces {
            let Some((bytes, after)) = rest[index(side)].split_at_checked(length) else { break };
            rest[index(side)] = after;
            self.push(lane, places(side, time_ns, position), Entry::Data(bytes));
        }
        for side in [Side::A, Side::B] {
            if let Some((position, time_ns)) = waiting.ends[index(side)] {
                self.push(lane, places(side, time_ns, position), Entry::End);
            }
        }
    }

    /// What a connection kept for a verdict is of no use any more.
    pub(super) fn drop_waiting(&mut self, id: u32) {
        if let Some(Tracked { state: State::Detecting(Some(waiting)), .. }) = self.table.get_mut(id) {
            self.kept.remove(waiting);
            self.counters.bytes_undetected += waiting.bytes() as u64;
            **waiting = Detecting { attempts: waiting.attempts + 1, ends: waiting.ends, ..Detecting::default() };
        }
    }
}

enum Answer {
    Yes {
        plugin: usize,
        client: Side,
    },
    /// Of all that were asked; one that is set aside was not.
    No {
        quarantined: bool,
    },
    NeedMore,
}

/// The plugin that a server port belongs to by configuration, and the client's side.
fn by_port(ports: &BTreeMap<u16, usize>, client: Option<Side>, [a, b]: [u16; 2]) -> Option<(usize, Side)> {
    match client {
        _ if ports.is_empty() => None,
        Some(Side::A) => ports.get(&b).map(|&plugin| (plugin, Side::A)),
        Some(Side::B) => ports.get(&a).map(|&plugin| (plugin, Side::B)),
        // Who listens on a configured port is the server; if both do, nobody knows.
        None => match (ports.get(&a), ports.get(&b)) {
            (None, Some(&plugin)) => Some((plugin, Side::A)),
            (Some(&plugin), None) => Some((plugin, Side::B)),
            _ => None,
        },
    }
}

impl Detecting {
    fn keep(&mut self, side: Side, chunk: Chunk<'_>, kept: &mut Kept) {
        kept.remove(self);
        self.heads[index(side)].extend_from_slice(chunk.bytes);
        self.pieces.push((side, chunk.time_ns, chunk.position, chunk.bytes.len()));
        kept.add(self);
    }

    /// Payload came, though it may have been dropped since.
    pub(super) fn had_payload(&self) -> bool {
        self.attempts > 0 || self.bytes() > 0
    }

    fn bytes(&self) -> usize {
        self.heads[0].len() + self.heads[1].len()
    }

    /// What it takes to keep pieces; without any, it is a part of the connection.
    fn memory_bytes(&self) -> usize {
        match self.pieces.capacity() {
            0 => 0,
            pieces => {
                let heads = self.heads[0].capacity() + self.heads[1].capacity();
                size_of::<Detecting>() + heads + pieces * size_of::<Piece>()
            }
        }
    }
}
