//! Seeds of the targets that are conversations: the conversations of captures that a decoder takes for its own.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use podtap_sdk::{Decoder, Instance, Verdict};
use podtap_stream::{
    Chunk, Closed, Connection, ConnectionId, Engine, Gap, Limits, LinkType, OpenedBy, Packet, Side, Sink,
};

use super::{Record, captures, records, write};
use crate::conversation::{MIDSTREAM, op};

/// A longer conversation becomes several seeds.
const MAX_SEED_BYTES: usize = 4 << 10;
/// Each of these begins with so much of the conversation at least: with what both sides agree on.
const OPENING_BYTES: usize = 512;
/// Length of pieces.
const PIECE: u8 = 7;

/// Seeds for a decoder.
pub fn conversation<D: Decoder>() {
    write(|| captures().iter().flat_map(|file| scripts::<D>(file, MAX_SEED_BYTES)).collect());
}

/// The conversations of a capture that a decoder takes, as scripts of about so many bytes. Of payload longer than a
/// quarter of that the rest is filled, for a body's bytes do not matter.
fn scripts<D: Decoder>(file: &Path, max_bytes: usize) -> BTreeSet<Vec<u8>> {
    let decoder = Instance::<D>::new("{}").expect("no decoder needs a configuration");
    let mut conversations = Conversations::default();
    let mut engine = Engine::new(Limits::default());
    for Record { link_type, time_ns, data } in records(file) {
        let link_type = LinkType::from_number(link_type);
        let packet = Packet { link_type, time_ns, data: &data, original_len: data.len() as u32 };
        engine.packet(&packet, &mut conversations);
    }
    engine.finish(&mut conversations);
    conversations.done.iter().flat_map(|recorded| recorded.scripts(&decoder, max_bytes)).collect()
}

/// Conversations as the stream engine tells them.
#[derive(Default)]
struct Conversations {
    open: HashMap<ConnectionId, Recorded>,
    done: Vec<Recorded>,
}

/// What was said on a connection.
#[derive(Default)]
struct Recorded {
    midstream: bool,
    steps: Vec<(Side, Step)>,
}

enum Step {
    Data(Vec<u8>),
    Gap(u32),
    End,
}

impl Step {
    /// Operations that do it.
    fn operations(&self, from_server: u8, max_payload_bytes: usize) -> Vec<u8> {
        match self {
            Step::Data(payload) => data(from_server, payload, max_payload_bytes),
            Step::Gap(length) => [&[op::HUGE_GAP << 1 | from_server][..], &length.to_le_bytes()].concat(),
            Step::End => vec![op::END << 1 | from_server],
        }
    }
}

impl Recorded {
    /// Scripts of it, if the decoder takes it; none otherwise.
    fn scripts<D: Decoder>(&self, decoder: &Instance<D>, max_bytes: usize) -> Vec<Vec<u8>> {
        let Some(client) = self.client(decoder) else { return Vec::new() };
        let max_payload_bytes = max_bytes / 4;
        // Cut where the client asks after it was answered: there a message ends, mostly.
        let turns = self.steps.chunk_by(|(before, _), (after, _)| *before == client || *after != client);
        let mut turns = turns.map(|turn| {
            let operations =
                turn.iter().map(|(side, step)| step.operations(u8::from(*side != client), max_payload_bytes));
            operations.flatten().collect::<Vec<u8>>()
        });
        let mut opening = vec![if self.midstream { MIDSTREAM } else { 0 }, PIECE - 1];
        while opening.len() < OPENING_BYTES
            && let Some(operations) = turns.next()
        {
            opening.extend(operations);
        }
        let (mut scripts, mut script) = (Vec::new(), opening.clone());
        for operations in turns {
            if script.len() + operations.len() > max_bytes {
                scripts.push(std::mem::replace(&mut script, opening.clone()));
            }
            script.extend(operations);
        }
        scripts.push(script);
        scripts
    }

    /// The side of the client, by the handshake of TCP or by what was said first.
    fn client<D: Decoder>(&self, decoder: &Instance<D>) -> Option<Side> {
        let first = |of: Side| self.steps.iter().find(|(side, _)| *side == of).map(|(_, step)| step);
        let takes = |from_server: bool, side: Side| match first(side) {
            Some(Step::Data(payload)) => decoder.probe(from_server, payload) == Verdict::Yes,
            _ => false,
        };
        let is_client = |client: Side, server: Side| takes(false, client) || takes(true, server);
        if is_client(Side::A, Side::B) {
            Some(Side::A)
        } else {
            (self.midstream && is_client(Side::B, Side::A)).then_some(Side::B)
        }
    }
}

/// Operations that send payload; what is longer than `max_bytes` is filled.
fn data(from_server: u8, payload: &[u8], max_bytes: usize) -> Vec<u8> {
    let (head, rest) = payload.split_at(payload.len().min(max_bytes));
    let mut operations = Vec::new();
    for piece in head.chunks(u16::MAX.into()) {
        match u8::try_from(piece.len()) {
            Ok(length) => operations.extend([op::DATA << 1 | from_server, length]),
            Err(_) => {
                operations.push(op::MUCH_DATA << 1 | from_server);
                operations.extend((piece.len() as u16).to_le_bytes());
            }
        }
        operations.extend(piece);
    }
    for piece in rest.chunks(u16::MAX.into()) {
        operations.extend([op::FILL << 1 | from_server, piece[0]]);
        operations.extend((piece.len() as u16).to_le_bytes());
    }
    operations
}

impl Sink for Conversations {
    fn opened(&mut self, connection: &Connection) {
        let midstream = connection.opened_by == OpenedBy::Midstream;
        self.open.insert(connection.id, Recorded { midstream, ..Recorded::default() });
    }

    fn data(&mut self, id: ConnectionId, side: Side, chunk: Chunk<'_>) {
        if let Some(recorded) = self.open.get_mut(&id) {
            recorded.steps.push((side, Step::Data(chunk.bytes.to_vec())));
        }
    }

    fn gap(&mut self, id: ConnectionId, side: Side, gap: Gap) {
        let length = u32::try_from(gap.length).unwrap_or(u32::MAX);
        if let Some(recorded) = self.open.get_mut(&id) {
            recorded.steps.push((side, Step::Gap(length)));
        }
    }

    fn end(&mut self, id: ConnectionId, side: Side, _position: u64, _time_ns: u64) {
        if let Some(recorded) = self.open.get_mut(&id) {
            recorded.steps.push((side, Step::End));
        }
    }

    fn closed(&mut self, connection: &Connection, _closed: &Closed) {
        self.done.extend(self.open.remove(&connection.id));
    }
}

#[cfg(test)]
mod tests {
    use podtap_http::Http;
    use podtap_mongodb::Mongodb;
    use podtap_mysql::MySql;

    use super::*;
    use crate::conversation::compare;

    /// Exchanges of a shipped capture, compared in pieces.
    fn compared<D: Decoder>(capture: &str) -> usize {
        let file = super::super::ours().join(capture);
        scripts::<D>(&file, usize::MAX).iter().map(|script| compare::<D>("{}", script, true)).sum()
    }

    #[test]
    fn shipped_conversations_are_the_same_in_pieces() {
        let compared = [
            compared::<Http>("http/tests/captures/nginx-tour.pcap"),
            compared::<MySql>("mysql/tests/captures/session.pcap"),
            compared::<Mongodb>("mongodb/tests/captures/pymongo-plain.pcap"),
        ];
        println!("{compared:?}");
        assert!(compared.iter().all(|&exchanges| exchanges > 50), "{compared:?}");
    }
}
