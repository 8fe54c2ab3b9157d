//! The batches that podtap would hand to a decoder, made of a capture: what is measured of decoders is measured with them.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use podtap::capture::CaptureFile;
use podtap::config::Config;
use podtap::decoder::{Batch, Entry, Place};
use podtap_sdk::OpenedConnection;
use podtap_stream::{
    Chunk, Closed, Connection, ConnectionId, Endpoint, Engine, Gap, LinkType, OpenedBy, Packet, Side, Sink,
};

/// A batch, and the connections that it opens.
pub type Filled = (Batch, Vec<OpenedConnection>);

/// What podtap would hand over of a capture, were all its connections of the decoder.
///
/// # Errors
/// When it cannot be read.
pub fn batches(capture: &Path) -> Result<Vec<Filled>> {
    let config = Config::default();
    let mut engine = Engine::new(config.stream.limits());
    let mut gatherer = Gatherer {
        max_entries: config.decoder.batch_entries as usize,
        max_bytes: config.decoder.batch_bytes.0 as usize,
        ..Gatherer::default()
    };
    let mut file = CaptureFile::open(capture)?;
    while let Some(record) = file.next_record()? {
        let link_type = LinkType::from_number(record.link_type);
        let packet =
            Packet { link_type, time_ns: record.time_ns, data: record.data, original_len: record.original_len };
        engine.packet(&packet, &mut gatherer);
    }
    engine.finish(&mut gatherer);
    gatherer.done.push(std::mem::take(&mut gatherer.batch));
    Ok(gatherer.done)
}

/// Fills batches as podtap does. Who opened a connection is its client; those seen from their middle are left out.
#[derive(Default)]
struct Gatherer {
    done: Vec<Filled>,
    batch: Filled,
    ids: HashMap<ConnectionId, u32>,
    next_id: u32,
    max_entries: usize,
    max_bytes: usize,
}

impl Gatherer {
    fn push(&mut self, connection: ConnectionId, side: Side, time_ns: u64, position: u64, entry: Entry<'_>) {
        let Some(&id) = self.ids.get(&connection) else { return };
        let batch = &mut self.batch.0;
        batch.push(Place { connection: id, from_server: side == Side::B, time_ns, position }, entry);
        if batch.len() >= self.max_entries || batch.data_len() >= self.max_bytes {
            self.done.push(std::mem::take(&mut self.batch));
        }
    }
}

impl Sink for Gatherer {
    fn opened(&mut self, connection: &Connection) {
        if connection.opened_by == OpenedBy::Midstream {
            return;
        }
        // None twice: a batch speaks of those that it opens before all others.
        let id = self.next_id;
        self.next_id += 1;
        self.ids.insert(connection.id, id);
        self.batch.0.open(id, connection.a, connection.b, false);
        let text = |end: Endpoint| (end.address.to_string(), end.port);
        let ((client_address, client_port), (server_address, server_port)) = (text(connection.a), text(connection.b));
        self.batch.1.push(OpenedConnection {
            id,
            client_address,
            client_port,
            server_address,
            server_port,
            midstream: false,
        });
    }

    fn data(&mut self, connection: ConnectionId, side: Side, chunk: Chunk<'_>) {
        self.push(connection, side, chunk.time_ns, chunk.position, Entry::Data(chunk.bytes));
    }

    fn gap(&mut self, connection: ConnectionId, side: Side, gap: Gap) {
        self.push(connection, side, gap.time_ns, gap.position, Entry::Gap(gap.length));
    }

    fn end(&mut self, connection: ConnectionId, side: Side, position: u64, time_ns: u64) {
        self.push(connection, side, time_ns, position, Entry::End);
    }

    fn closed(&mut self, connection: &Connection, closed: &Closed) {
        self.push(connection.id, Side::A, closed.time_ns, 0, Entry::Closed(0));
        self.ids.remove(&connection.id);
    }
}

/// The batch as the SDK has it.
pub fn contract(batch: &Batch, opened: &[OpenedConnection]) -> podtap_sdk::Batch {
    let mut columns = podtap_sdk::Batch {
        opened: opened.to_vec(),
        connections: Vec::new(),
        kinds: Vec::new(),
        times: Vec::new(),
        positions: Vec::new(),
        lengths: Vec::new(),
        data: Vec::new(),
    };
    for (place, entry) in batch.entries() {
        let (kind, length) = match entry {
            Entry::Data(bytes) => {
                columns.data.extend_from_slice(bytes);
                (0, bytes.len() as u32)
            }
            Entry::Gap(length) => (1, length as u32),
            Entry::End => (2, 0),
            Entry::Closed(how) => (3, how),
        };
        columns.connections.push(place.connection);
        columns.kinds.push(if place.from_server { kind | 128 } else { kind });
        columns.times.push(place.time_ns);
        columns.positions.push(place.position);
        columns.lengths.push(length);
    }
    columns
}
