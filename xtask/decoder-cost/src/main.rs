//! What a stock decoder costs in its sandbox, and what the same decoder costs linked natively: the same batches, made of a
//! capture, are fed to both in turn.
//!
//! `decoder-cost PLUGINS DECODER CAPTURE [ROUNDS]` prints CPU time for an exchange of both, in ns, and how many exchanges
//! there were. In the sandbox's time is all that the boundary takes: batches copied in, columns copied out and checked. In
//! neither is what comes before and after: packets, streams, events.
//!
//! Demands are not carried out: what a decoder need not see is given to both.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use podtap::capture::CaptureFile;
use podtap::config::{ByteSize, Config};
use podtap::decoder::{Batch, Cache, ComponentFile, Entry, Limits, Place, Runtime};
use podtap_http::Http;
use podtap_mongodb::Mongodb;
use podtap_mysql::MySql;
use podtap_sdk::{Decoder, Instance, OpenedConnection};
use podtap_stream::{
    Chunk, Closed, Connection, ConnectionId, Endpoint, Engine, Gap, LinkType, OpenedBy, Packet, Side, Sink,
};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [plugins, decoder, capture, rest @ ..] = arguments.as_slice() else {
        bail!("usage: decoder-cost PLUGINS DECODER CAPTURE [ROUNDS]");
    };
    let rounds = rest.first().map_or(Ok(7), |rounds| rounds.parse()).context("ROUNDS is a number")?;
    let plugin = Path::new(plugins).join(decoder).with_extension("wasm");
    let capture = Path::new(capture);
    match decoder.as_str() {
        "http" => compare::<Http>(&plugin, capture, rounds),
        "mysql" => compare::<MySql>(&plugin, capture, rounds),
        "mongodb" => compare::<Mongodb>(&plugin, capture, rounds),
        _ => bail!("{decoder}: not a stock decoder (http, mysql, mongodb)"),
    }
}

fn compare<D: Decoder>(plugin: &Path, capture: &Path, rounds: usize) -> Result<()> {
    let batches = batches(capture).with_context(|| capture.display().to_string())?;
    let limits = Limits { memory_bytes: 64 << 20, workers: 1, call_timeout: Duration::from_secs(1) };
    let runtime = Runtime::new(limits, Cache::of_this_user()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let plugin = runtime.load(&ComponentFile::read(plugin, ByteSize(16 << 20))?)?;
    let (mut native, mut sandboxed, mut exchanges) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds.max(1) {
        let mut instance = runtime.instance(&plugin)?;
        let start = cpu_time();
        let mut in_sandbox = 0;
        for (batch, _) in &batches {
            in_sandbox += instance.feed(batch, &plugin.descriptor, |rows| rows.len())?;
        }
        sandboxed.push(cpu_time() - start);

        let mut instance = Instance::<D>::new("{}").map_err(anyhow::Error::msg)?;
        // The decoder owns what it is given, in the sandbox as well.
        let owned: Vec<_> = batches.iter().map(|(batch, opened)| contract(batch, opened)).collect();
        let start = cpu_time();
        exchanges = owned.into_iter().map(|batch| instance.feed(batch).exchange_connections.len()).sum();
        native.push(cpu_time() - start);
        ensure!(exchanges == in_sandbox, "{exchanges} exchanges natively, {in_sandbox} in the sandbox");
    }
    ensure!(exchanges > 0, "{}: no exchange", capture.display());
    let each = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_nanos() as f64 / exchanges as f64
    };
    println!("{:.0} {:.0} {exchanges}", each(&mut native), each(&mut sandboxed));
    Ok(())
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// A batch, and the connections that it opens.
type Filled = (Batch, Vec<OpenedConnection>);

/// What podtap would hand over of a capture, were all its connections of the decoder.
fn batches(capture: &Path) -> Result<Vec<Filled>> {
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
fn contract(batch: &Batch, opened: &[OpenedConnection]) -> podtap_sdk::Batch {
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
