//! What the stream engine costs on top of reading a file: a bare libpcap loop against the same loop with the engine.
//!
//! `stream_cost FILE FOLDER` takes a capture (Ethernet), derives harder ones from it, which it writes to FOLDER, and
//! prints a Markdown table: nanoseconds per packet, each the median of rounds that take turns.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pcap::{Capture, Packet as Captured, PacketHeader};
use podtap_stream::{Chunk, Closed, Connection, ConnectionId, Engine, Gap, Limits, LinkType, Packet, Side, Sink};

const ROUNDS: usize = 11;
const CONNECTIONS: u32 = 100_000;
/// Packets of each of the many connections: the handshake, a request, its answer.
const PACKETS_PER_CONNECTION: usize = 5;

type Record = (PacketHeader, Vec<u8>);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(file), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: stream_cost FILE FOLDER".into());
    };
    let records = read(&file)?;
    let variant = |name: &str| folder.join(format!("{name}.pcap"));
    write(&variant("reordered"), &reordered(&records))?;
    write(&variant("lossy"), &lossy(&records))?;
    write(&variant("interleaved"), &interleaved(&records)?)?;
    drop(records);

    println!("| traffic | packets | bare libpcap loop | with the engine | the engine | gaps |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (name, file) in [
        ("in order", file),
        ("1 % of packets reordered", variant("reordered")),
        ("10 % of packets lost", variant("lossy")),
        ("100,000 interleaved connections", variant("interleaved")),
    ] {
        let (mut bare, mut engine, mut counted) = (Vec::new(), Vec::new(), None);
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let packets = bare_loop(&file)?;
            bare.push(start.elapsed().as_nanos() as f64 / packets as f64);
            let start = Instant::now();
            let counters = *engine_loop(&file)?.counters();
            engine.push(start.elapsed().as_nanos() as f64 / packets as f64);
            assert!(counters.adds_up() && counters.packets == packets);
            counted = Some(counters);
        }
        let (bare, engine) = (median(&mut bare), median(&mut engine));
        let (packets, gaps) = counted.map_or((0, 0), |counters| (counters.packets, counters.gaps));
        println!("| {name} | {packets} | {bare:.0} ns | {engine:.0} ns | {:.0} ns | {gaps} |", engine - bare);
    }

    let file = variant("interleaved");
    let before = resident_bytes();
    let engine = engine_loop(&file)?;
    let connections = engine.counters().connections;
    let bytes = resident_bytes().saturating_sub(before);
    println!(
        "\n{connections} idle connections take {} MB, {} bytes each.",
        bytes / 1_000_000,
        bytes / connections.max(1)
    );
    Ok(())
}

/// Counts the bytes it is given.
#[derive(Default)]
struct Sum(u64);

impl Sink for Sum {
    fn opened(&mut self, _: &Connection) {}
    fn data(&mut self, _: ConnectionId, _: Side, chunk: Chunk<'_>) {
        self.0 += chunk.bytes.len() as u64;
    }
    fn gap(&mut self, _: ConnectionId, _: Side, _: Gap) {}
    fn end(&mut self, _: ConnectionId, _: Side, _: u64, _: u64) {}
    fn closed(&mut self, _: &Connection, _: &Closed) {}
}

fn bare_loop(file: &Path) -> Result<u64, pcap::Error> {
    let mut capture = Capture::from_file(file)?;
    let (mut packets, mut bytes) = (0, 0);
    each(&mut capture, |packet| {
        packets += 1;
        bytes += u64::from(packet.header.caplen);
    })?;
    std::hint::black_box(bytes);
    Ok(packets)
}

fn engine_loop(file: &Path) -> Result<Engine, pcap::Error> {
    let mut capture = Capture::from_file(file)?;
    let link_type = LinkType::from_number(capture.get_datalink().0.cast_unsigned());
    let mut engine = Engine::new(Limits { max_connections: 131_072, ..Limits::default() });
    let mut sum = Sum::default();
    each(&mut capture, |packet| {
        let PacketHeader { ts, len, .. } = *packet.header;
        let time_ns = ts.tv_sec.cast_unsigned() * 1_000_000_000 + ts.tv_usec.cast_unsigned() * 1_000;
        engine.packet(&Packet { link_type, time_ns, data: packet.data, original_len: len }, &mut sum);
    })?;
    std::hint::black_box(sum.0);
    Ok(engine)
}

fn each(capture: &mut Capture<pcap::Offline>, mut visit: impl FnMut(Captured<'_>)) -> Result<(), pcap::Error> {
    loop {
        match capture.next_packet() {
            Ok(packet) => visit(packet),
            Err(pcap::Error::NoMorePackets) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn read(file: &Path) -> Result<Vec<Record>, pcap::Error> {
    let mut records = Vec::new();
    each(&mut Capture::from_file(file)?, |packet| records.push((*packet.header, packet.data.to_vec())))?;
    Ok(records)
}

fn write(file: &Path, records: &[Record]) -> Result<(), pcap::Error> {
    let mut savefile = Capture::dead(pcap::Linktype::ETHERNET)?.savefile(file)?;
    for (header, data) in records {
        savefile.write(&Captured { header, data });
    }
    savefile.flush()
}

/// The same numbers at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// One packet in a hundred comes behind the next few. Times stay with the places, as a capture has them.
fn reordered(records: &[Record]) -> Vec<Record> {
    let (mut random, mut records) = (Random(1), records.to_vec());
    for index in 0..records.len().saturating_sub(8) {
        if random.below(100) == 0 {
            let later = index + 1 + random.below(7) as usize;
            for place in index..later {
                let (first, second) = records.split_at_mut(place + 1);
                let (one, other) = (&mut first[place], &mut second[0]);
                std::mem::swap(one, other);
                std::mem::swap(&mut one.0.ts, &mut other.0.ts);
            }
        }
    }
    records
}

fn lossy(records: &[Record]) -> Vec<Record> {
    let mut random = Random(1);
    records.iter().filter(|_| random.below(10) > 0).cloned().collect()
}

/// The first packets of the first connection, from many clients, all first packets first.
fn interleaved(records: &[Record]) -> Result<Vec<Record>, Box<dyn Error>> {
    let ports = |data: &[u8]| -> Option<(u16, u16)> {
        let ports = data.get(34..38)?;
        Some((u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]])))
    };
    let is_syn = |data: &[u8]| data.get(47).is_some_and(|flags| flags & 0x12 == 0x02);
    let syn = records.iter().position(|(_, data)| is_syn(data)).ok_or("no connection opens in the capture")?;
    let (client, server) = ports(&records[syn].1).ok_or("a SYN is too short")?;
    let of_connection =
        |data: &[u8]| ports(data).is_some_and(|(a, b)| (a, b) == (client, server) || (b, a) == (client, server));
    let first: Vec<&Record> =
        records[syn..].iter().filter(|(_, data)| of_connection(data)).take(PACKETS_PER_CONNECTION).collect();
    let mut all = Vec::new();
    for (header, data) in first {
        for connection in 0..CONNECTIONS {
            let mut data = data.clone();
            // The client's address: source (26) or destination (30) of the IPv4 header.
            let place = if ports(&data) == Some((client, server)) { 26 } else { 30 };
            let [_, x, y, z] = connection.to_be_bytes();
            data[place..place + 4].copy_from_slice(&[10, x, y, z]);
            all.push((*header, data));
        }
    }
    Ok(all)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Of this process, from /proc; 0 where there is none.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4_096
}
