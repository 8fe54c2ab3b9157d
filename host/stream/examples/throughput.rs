//! What a packet costs: `cargo run --release -p podtap-stream --example throughput`.
//!
//! Synthetic traffic, made beforehand; prints nanoseconds per packet (the median batch) and what became of them.
//! With `memory` as argument: the memory of 100,000 idle connections instead (Linux).

use std::time::Instant;

use podtap_stream::{Chunk, Closed, Connection, ConnectionId, Engine, Gap, Limits, LinkType, Packet, Side, Sink};

const PAYLOAD: usize = 1_000;
const PACKETS: usize = 1_000_000;
/// Packets made at once: few, so that they are in the cache as they are behind a capture loop.
const BATCH: usize = 1_000;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("memory") {
        return memory();
    }
    run("in order, one connection", 1, |_| Fate::Sent);
    run("in order, 100 connections", 100, |_| Fate::Sent);
    run("1 % reordered", 100, |random| if random % 100 == 0 { Fate::Late } else { Fate::Sent });
    run("10 % lost", 100, |random| if random % 10 == 0 { Fate::Lost } else { Fate::Sent });
    run("100k interleaved connections", 100_000, |_| Fate::Sent);
}

/// Adds up what it is told.
#[derive(Default)]
struct Sum {
    bytes: u64,
    gaps: u64,
}

impl Sink for Sum {
    fn opened(&mut self, _: &Connection) {}
    fn data(&mut self, _: ConnectionId, _: Side, chunk: Chunk<'_>) {
        self.bytes += chunk.bytes.len() as u64;
    }
    fn gap(&mut self, _: ConnectionId, _: Side, _: Gap) {
        self.gaps += 1;
    }
    fn end(&mut self, _: ConnectionId, _: Side, _: u64, _: u64) {}
    fn closed(&mut self, _: &Connection, _: &Closed) {}
}

enum Fate {
    Sent,
    /// Behind the next packet of the connection.
    Late,
    Lost,
}

/// Every fourth packet is an acknowledgement of the other side.
fn run(name: &str, connections: usize, fate: impl Fn(u64) -> Fate) {
    let mut random = 1_u64;
    let mut sent = vec![0_u32; connections];
    let mut late: Vec<Option<Vec<u8>>> = vec![None; connections];
    let mut engine = Engine::new(Limits { max_connections: 131_072, ..Limits::default() });
    let mut sink = Sum::default();
    let (mut packets, mut time_ns, mut costs_ns) = (0, 1_000_000_000, Vec::new());
    for _ in 0..PACKETS / BATCH {
        let mut batch = Vec::with_capacity(BATCH);
        for i in 0..BATCH {
            let connection = (packets + i) % connections;
            let acknowledges = (packets + i) / connections % 4 == 3;
            if acknowledges {
                let missing = if late[connection].is_some() { PAYLOAD as u32 } else { 0 };
                batch.push(packet(connection, false, 0, sent[connection].wrapping_sub(missing), 0));
                continue;
            }
            let data = packet(connection, true, sent[connection], 0, PAYLOAD);
            sent[connection] = sent[connection].wrapping_add(PAYLOAD as u32);
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match fate(random >> 33) {
                Fate::Sent => batch.push(data),
                Fate::Late if late[connection].is_none() => {
                    late[connection] = Some(data);
                    continue;
                }
                Fate::Late => batch.push(data),
                Fate::Lost => continue,
            }
            batch.extend(late[connection].take());
        }
        packets += BATCH;
        let start = Instant::now();
        for data in &batch {
            time_ns += 1_000;
            let packet = Packet { link_type: LinkType::Ethernet, time_ns, data, original_len: data.len() as u32 };
            engine.packet(&packet, &mut sink);
        }
        costs_ns.push(start.elapsed().as_nanos() as f64 / batch.len() as f64);
    }
    let counters = *engine.counters();
    assert!(counters.adds_up());
    costs_ns.sort_by(f64::total_cmp);
    println!(
        "{name:30} {:6.1} ns/packet   {} packets, {} bytes delivered, {} gaps, {} duplicate bytes",
        costs_ns[costs_ns.len() / 2],
        counters.packets,
        sink.bytes,
        sink.gaps,
        counters.bytes_duplicate,
    );
}

fn packet(connection: usize, forth: bool, seq: u32, ack: u32, payload: usize) -> Vec<u8> {
    let [_, high, middle, low] = (connection as u32 / 50_000).to_be_bytes();
    let client = ([10, high, middle, low], 1_024 + (connection % 50_000) as u16);
    let server = ([192, 168, 0, 1], 80);
    let (source, destination) = if forth { (client, server) } else { (server, client) };
    let mut bytes = vec![2; 12];
    bytes.extend([8, 0, 0x45, 0]);
    bytes.extend((40 + payload as u16).to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend(source.0);
    bytes.extend(destination.0);
    bytes.extend(source.1.to_be_bytes());
    bytes.extend(destination.1.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend(ack.to_be_bytes());
    bytes.extend([0x50, 0x10, 0x40, 0, 0, 0, 0, 0]);
    bytes.resize(bytes.len() + payload, 0);
    bytes
}

fn memory() {
    let before = resident_bytes();
    let mut engine = Engine::new(Limits { max_connections: 131_072, ..Limits::default() });
    let mut sink = Sum::default();
    for connection in 0..100_000 {
        for data in [packet(connection, true, 0, 0, 10), packet(connection, false, 0, 10, 10)] {
            let packet = Packet { link_type: LinkType::Ethernet, time_ns: 1, data: &data, original_len: 64 };
            engine.packet(&packet, &mut sink);
        }
    }
    let connections = engine.counters().connections;
    println!("{connections} idle connections: {} bytes each", (resident_bytes() - before) / connections);
}

/// Of this process, from /proc; 0 where there is none.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4_096
}
