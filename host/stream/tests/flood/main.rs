//! A SYN flood: memory stays within the bound on connections, and those that carry data are not touched. Alone in its
//! process, whose memory it measures.

use std::io::Write as _;

use podtap_stream::{Chunk, Closed, Connection, ConnectionId, Engine, Gap, Limits, LinkType, Packet, Side, Sink};

const FLOOD: u32 = 10_000_000;
const ESTABLISHED: u16 = 10_000;
const MAX_CONNECTIONS: u32 = 65_536;
/// What a connection may take in all: its slot, its place in the index, and room for both to grow.
const BYTES_PER_CONNECTION: u64 = 700;

/// Checks that the payload of each connection comes in order and without loss.
#[derive(Default)]
struct Check {
    next: Vec<u64>,
    chunks: u64,
}

impl Sink for Check {
    fn opened(&mut self, _: &Connection) {}

    fn data(&mut self, id: ConnectionId, _: Side, chunk: Chunk<'_>) {
        let index = id.index as usize;
        if self.next.len() <= index {
            self.next.resize(index + 1, 0);
        }
        assert_eq!(self.next[index], chunk.position);
        self.next[index] += chunk.bytes.len() as u64;
        self.chunks += 1;
    }

    fn gap(&mut self, id: ConnectionId, side: Side, gap: Gap) {
        panic!("{id:?} {side:?} {gap:?}");
    }

    fn end(&mut self, id: ConnectionId, side: Side, _: u64, _: u64) {
        panic!("{id:?} {side:?} has ended");
    }

    fn closed(&mut self, connection: &Connection, closed: &Closed) {
        assert!(connection.a.address.to_string().starts_with("11."), "{connection:?} {closed:?}");
    }
}

/// A segment to 10.0.0.1:80, 40 bytes of headers.
fn packet(source: [u8; 4], port: u16, flags: u8, seq: u32, payload: &[u8]) -> Vec<u8> {
    let total_len = (40 + payload.len() as u16).to_be_bytes();
    let mut bytes = vec![0x45, 0, total_len[0], total_len[1], 0, 0, 0x40, 0, 64, 6, 0, 0];
    bytes.extend(source);
    bytes.extend([10, 0, 0, 1]);
    bytes.extend(port.to_be_bytes());
    bytes.extend(80_u16.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(payload);
    bytes
}

/// Greatest and present memory of this process; `None` where there is no /proc.
fn memory_bytes() -> Option<[u64; 2]> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
    };
    Some([field("VmHWM:")?, field("VmRSS:")?])
}

#[test]
fn ten_million_syns_cost_bounded_memory_and_no_connection() {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    let limits = Limits { max_connections: MAX_CONNECTIONS, ..Limits::default() };
    let (mut engine, mut check) = (Engine::new(limits), Check::default());
    let before = memory_bytes();
    let mut time_ns = 1_000_000_000;
    let mut send = |engine: &mut Engine, check: &mut Check, data: &[u8]| {
        time_ns += 1_000; // a million packets a second
        let packet = Packet { link_type: LinkType::Ipv4, time_ns, data, original_len: data.len() as u32 };
        engine.packet(&packet, check);
    };

    for client in 0..ESTABLISHED {
        send(&mut engine, &mut check, &packet([10, 0, 0, 2], client, SYN, 0, &[]));
        send(&mut engine, &mut check, &packet([10, 0, 0, 2], client, ACK, 1, b"first"));
    }
    let mut syn = packet([0; 4], 0, SYN, 0, &[]);
    for number in 0..FLOOD {
        let [_, x, y, z] = number.to_be_bytes();
        syn[12..16].copy_from_slice(&[11, x, y, z]);
        syn[20..22].copy_from_slice(&(number as u16).to_be_bytes());
        send(&mut engine, &mut check, &syn);
    }
    for client in 0..ESTABLISHED {
        send(&mut engine, &mut check, &packet([10, 0, 0, 2], client, ACK, 6, b"second"));
    }

    let counters = engine.counters();
    assert!(counters.adds_up());
    assert_eq!(check.chunks, 2 * u64::from(ESTABLISHED));
    assert_eq!(counters.connections, u64::from(MAX_CONNECTIONS));
    assert_eq!(counters.connections_total, u64::from(FLOOD) + u64::from(ESTABLISHED));
    let gone = u64::from(FLOOD) + u64::from(ESTABLISHED) - u64::from(MAX_CONNECTIONS);
    assert_eq!(counters.connections_evicted, gone);
    let (Some([_, before]), Some([peak, _])) = (before, memory_bytes()) else {
        writeln!(std::io::stderr(), "skipped: memory under a SYN flood: no /proc here")
            .expect("standard error is open");
        return;
    };
    let bound = u64::from(MAX_CONNECTIONS) * BYTES_PER_CONNECTION;
    assert!(peak - before <= bound, "{} bytes, {} a connection", peak - before, (peak - before) / 65_536);
}
