//! The batches that podtap would hand to a decoder, made of a capture: what is measured of decoders is measured with them.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use podtap::capture::CaptureFile;
use podtap::config::Config;
use podtap::decoder::{Batch, Demand, DemandKind, Entry, Place};
use podtap_sdk::{OpenedConnection, Output};
use podtap_stream::{
    Chunk, Closed, Connection, ConnectionId, Endpoint, Engine, Gap, LinkType, OpenedBy, Packet, Side, Sink,
};

/// A batch, and the connections that it opens.
pub type Filled = (Batch, Vec<OpenedConnection>);

/// Hands a capture over batch by batch, as podtap would were all its connections of the decoder, and does what `feed`
/// demands.
///
/// # Errors
/// When it cannot be read, and those of `feed`.
pub fn replay(capture: &Path, mut feed: impl FnMut(Filled) -> Result<Vec<Demand>>) -> Result<()> {
    let config = Config::default();
    let mut engine = Engine::new(config.stream.limits());
    let mut gatherer = Gatherer::default();
    let (max_entries, max_bytes) = (config.decoder.batch_entries as usize, config.decoder.batch_bytes.0 as usize);
    let mut file = CaptureFile::open(capture)?;
    while let Some(record) = file.next_record()? {
        let link_type = LinkType::from_number(record.link_type);
        let packet =
            Packet { link_type, time_ns: record.time_ns, data: record.data, original_len: record.original_len };
        engine.packet(&packet, &mut gatherer);
        if gatherer.batch.0.len() >= max_entries || gatherer.batch.0.data_len() >= max_bytes {
            for demand in feed(std::mem::take(&mut gatherer.batch))? {
                gatherer.carry_out(demand, &mut engine);
            }
        }
    }
    engine.finish(&mut gatherer);
    feed(gatherer.batch).map(drop)
}

/// The batches of a capture, where nothing is demanded.
///
/// # Errors
/// When it cannot be read.
pub fn batches(capture: &Path) -> Result<Vec<Filled>> {
    let mut batches = Vec::new();
    replay(capture, |batch| {
        batches.push(batch);
        Ok(Vec::new())
    })?;
    Ok(batches)
}

/// Fills batches as podtap does. Who opened a connection is its client; those seen from their middle are left out.
#[derive(Default)]
struct Gatherer {
    batch: Filled,
    ids: HashMap<ConnectionId, u32>,
    /// By id.
    connections: HashMap<u32, ConnectionId>,
    next_id: u32,
}

impl Gatherer {
    fn push(&mut self, connection: ConnectionId, side: Side, time_ns: u64, position: u64, entry: Entry<'_>) {
        let Some(&id) = self.ids.get(&connection) else { return };
        self.batch.0.push(Place { connection: id, from_server: side == Side::B, time_ns, position }, entry);
    }

    fn carry_out(&self, demand: Demand, engine: &mut Engine) {
        let Some(&connection) = self.connections.get(&demand.connection) else { return };
        let side = if demand.from_server { Side::B } else { Side::A };
        match demand.kind {
            DemandKind::Skip => engine.skip_to(connection, side, demand.position),
            DemandKind::Ignore | DemandKind::Detect => engine.ignore(connection),
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
        self.connections.insert(id, connection.id);
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
        if let Some(id) = self.ids.remove(&connection.id) {
            self.connections.remove(&id);
        }
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
            Entry::Cut => (2, 1),
            Entry::Closed(how) => (3, how),
        };
        columns.connections.push(place.connection);
        columns.kinds.push(if place.from_server { kind | FROM_SERVER } else { kind });
        columns.times.push(place.time_ns);
        columns.positions.push(place.position);
        columns.lengths.push(length);
    }
    columns
}

/// What a decoder that is linked natively demands.
pub fn demands(output: &Output) -> Vec<Demand> {
    let places = output.demand_connections.iter().zip(&output.demand_positions);
    let demand = |((&connection, &position), &kind): ((&u32, &u64), &u8)| {
        let of_kind = [DemandKind::Skip, DemandKind::Ignore, DemandKind::Detect];
        let kind_of = *of_kind.get(usize::from(kind & !FROM_SERVER))?;
        Some(Demand { connection, from_server: kind & FROM_SERVER != 0, kind: kind_of, position })
    };
    places.zip(&output.demand_kinds).filter_map(demand).collect()
}

/// The bit of the server's side in kinds of entries and demands.
const FROM_SERVER: u8 = 128;
