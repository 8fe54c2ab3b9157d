//! podtap's own account of a capture.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use podtap::capture::CaptureFile;
use podtap_stream::{
    Chunk, Closed, Connection, ConnectionId, Endpoint, Engine, Gap, Limits, LinkType, Packet, Side, Sink,
};

use crate::stream;

/// A packet of a capture.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) link_type: u32,
    pub(crate) time_ns: u64,
    pub(crate) data: Vec<u8>,
    pub(crate) original_len: u32,
}

/// What the stream engine made of packets.
#[derive(Default)]
pub(crate) struct Account {
    /// The connections that carried something, in the order in which they began to.
    pub(crate) connections: Vec<stream::Connection>,
    /// What each of these carried, of both sides, in the order in which it was handed on; in the place of a gap,
    /// `[N bytes missing]`.
    pub(crate) conversations: Vec<Vec<u8>>,
    /// How many connections there were, those without payload too.
    pub(crate) connections_total: u64,
}

/// The packets of a capture; of a damaged one those before the damage.
pub(crate) fn packets(path: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    if let Ok(mut capture) = CaptureFile::open(path) {
        while let Ok(Some(record)) = capture.next_record() {
            let podtap::capture::Record { link_type, time_ns, data, original_len } = record;
            records.push(Record { link_type, time_ns, data: data.to_vec(), original_len });
        }
    }
    records
}

/// Gives packets to an engine with the limits that podtap has.
pub(crate) fn run(records: &[Record]) -> Account {
    let mut engine = Engine::new(Limits::default());
    let mut collector = Collector::default();
    for Record { link_type, time_ns, data, original_len } in records {
        let link_type = LinkType::from_number(*link_type);
        let packet = Packet { link_type, time_ns: *time_ns, data, original_len: *original_len };
        engine.packet(&packet, &mut collector);
    }
    engine.finish(&mut collector);
    collector.account.connections_total = engine.counters().connections_total;
    collector.account
}

#[derive(Default)]
struct Collector {
    account: Account,
    /// Which connection an id means, and at which index its sides A and B are.
    open: HashMap<ConnectionId, (usize, [usize; 2])>,
}

impl Collector {
    /// Where the next piece of a side goes: its stream and the conversation.
    fn place(&mut self, id: ConnectionId, side: Side) -> (&mut stream::Stream, &mut Vec<u8>) {
        let (connection, [a, b]) = self.open[&id];
        let index = if side == Side::A { a } else { b };
        (&mut self.account.connections[connection].streams[index], &mut self.account.conversations[connection])
    }
}

impl Sink for Collector {
    fn opened(&mut self, connection: &Connection) {
        let address = |end: Endpoint| SocketAddr::new(end.address, end.port);
        let (collected, sides) = stream::Connection::new(address(connection.a), address(connection.b));
        self.open.insert(connection.id, (self.account.connections.len(), sides));
        self.account.connections.push(collected);
        self.account.conversations.push(Vec::new());
    }

    fn data(&mut self, id: ConnectionId, side: Side, chunk: Chunk<'_>) {
        let (stream, conversation) = self.place(id, side);
        stream.push(chunk.bytes);
        conversation.extend_from_slice(chunk.bytes);
    }

    fn gap(&mut self, id: ConnectionId, side: Side, gap: Gap) {
        let (stream, conversation) = self.place(id, side);
        stream.push_gap(gap.length);
        conversation.extend_from_slice(format!("[{} bytes missing]", gap.length).as_bytes());
    }

    fn end(&mut self, _: ConnectionId, _: Side, _: u64, _: u64) {}

    fn closed(&mut self, _: &Connection, _: &Closed) {}
}
