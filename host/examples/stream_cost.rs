//! What the stream engine costs on top of reading a file: a bare libpcap loop against the same loop with the engine.
//!
//! `stream_cost FILE FOLDER` takes a capture (Ethernet), derives harder ones from it, which it writes to FOLDER, and
//! prints a Markdown table: nanoseconds of CPU time per packet, each the median of rounds that take turns.

use std::error::Error;
use std::path::{Path, PathBuf};

use pcap::{Capture, Packet as Captured, PacketHeader};
use podtap_stream::{
    Chunk, Closed, Connection, ConnectionId, Counters, Engine, Gap, Limits, LinkType, Packet, Side, Sink,
};

const ROUNDS: usize = 15;
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
        ("1 % of packets up to seven places late", variant("reordered")),
        ("10 % of packets lost", variant("lossy")),
        ("100,000 interleaved connections", variant("interleaved")),
    ] {
        let (mut bare, mut engine, mut counted) = (Vec::new(), Vec::new(), Counters::default());
        for _ in 0..ROUNDS {
            let start_ns = cpu_ns();
            let packets = bare_loop(&file)?;
            bare.push((cpu_ns() - start_ns) / packets as f64);
            let start_ns = cpu_ns();
            counted = engine_loop(&file)?;
            engine.push((cpu_ns() - start_ns) / packets as f64);
            assert!(counted.adds_up() && counted.packets == packets);
        }
        let (bare, engine, Counters { packets, gaps, .. }) = (median(&mut bare), median(&mut engine), counted);
        println!("| {name} | {packets} | {bare:.0} ns | {engine:.0} ns | {:.0} ns | {gaps} |", engine - bare);
    }
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

fn engine_loop(file: &Path) -> Result<Counters, pcap::Error> {
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
    Ok(*engine.counters())
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

/// One packet in a hundred comes behind the next few, of whatever connection and side. Times stay with the places, as a capture has them.
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

/// The first packets of a connection, from many clients, all first packets first.
fn interleaved(records: &[Record]) -> Result<Vec<Record>, Box<dyn Error>> {
    let syns = records.iter().enumerate().filter(|(_, (_, data))| flags(data) & 0x12 == 0x02);
    let start =
        syns.map(|(syn, (_, data))| (ports(data), first_packets(&records[syn..], ports(data)))).find(|(_, first)| {
            first.len() == PACKETS_PER_CONNECTION && first.iter().all(|(_, data)| flags(data) & 0x05 == 0)
        });
    let (client_to_server, first) = start.ok_or("no connection in the capture opens and stays open")?;
    let mut all = Vec::new();
    for (header, data) in first {
        for connection in 0..CONNECTIONS {
            let mut data = data.clone();
            // The client's address: source (26) or destination (30) of the IPv4 header.
            let place = if ports(&data) == client_to_server { 26 } else { 30 };
            let [_, x, y, z] = connection.to_be_bytes();
            data[place..place + 4].copy_from_slice(&[10, x, y, z]);
            all.push((*header, data));
        }
    }
    Ok(all)
}

fn first_packets(records: &[Record], [source, destination]: [u16; 2]) -> Vec<&Record> {
    let of_connection = |data: &[u8]| [[source, destination], [destination, source]].contains(&ports(data));
    records.iter().filter(|(_, data)| of_connection(data)).take(PACKETS_PER_CONNECTION).collect()
}

/// Ports of TCP in IPv4 without options in Ethernet.
fn ports(data: &[u8]) -> [u16; 2] {
    let port = |at| data.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    [port(34), port(36)]
}

/// TCP flags: FIN 1, SYN 2, RST 4, ACK 16.
fn flags(data: &[u8]) -> u8 {
    data.get(47).copied().unwrap_or_default()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of this thread.
fn cpu_ns() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
