//! CPU time of the SDK's style against the state machine by hand, outside the sandbox, on a capture of HTTP.
//!
//! The capture is read once into batches: little-endian pcap, Ethernet, IPv4, TCP segments in order, nothing lost, as
//! `cargo xtask e2e nginx` makes it. Then both decode the same batches in turn, and the medians are printed; with `sdk`
//! or `hand` behind the file, one of them decodes once, for callgrind.
//!
//! `cargo run --release -p podtap-http-by-hand --example style_cost -- FILE`

use std::collections::HashMap;
use std::time::Instant;

use podtap_http::Http;
use podtap_http_by_hand::ByHand;
use podtap_sdk::{Batch, Instance, OpenedConnection, Output};

const ROUNDS: usize = 31;
/// As podtap has it.
const ENTRIES: usize = 512;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("which capture?")?;
    let only = arguments.next();
    let batches = batches(&std::fs::read(file)?);
    let sdk = || {
        let mut instance = Instance::<Http>::new("{}").unwrap_or_else(|error| panic!("{error}"));
        run(&batches, |batch| instance.feed(batch))
    };
    let hand = || {
        let mut decoder = ByHand::default();
        run(&batches, |batch| decoder.feed(batch))
    };
    match only.as_deref() {
        Some("sdk") => println!("{} exchanges", sdk().1.len()),
        Some("hand") => println!("{} exchanges", hand().1.len()),
        _ => {
            let (sdk_found, hand_found) = (sdk().1, hand().1);
            if sdk_found != hand_found {
                return Err("they do not find the same".into());
            }
            let mut times = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                times[0].push(sdk().0);
                times[1].push(hand().0);
            }
            let [sdk, hand] = times.map(|mut times| {
                times.sort_unstable();
                times[ROUNDS / 2] as f64 / sdk_found.len() as f64
            });
            println!("{} exchanges, ns each: SDK {sdk:.1}, by hand {hand:.1}; {:.3}", sdk_found.len(), sdk / hand);
        }
    }
    Ok(())
}

/// An exchange: outcome, times, sizes, text, and of its attributes the number.
type Found = Vec<(u8, Vec<u64>, Vec<u64>, Vec<u32>, u16)>;

/// Nanoseconds in the decoder, and what it found.
fn run(batches: &[Batch], mut feed: impl FnMut(Batch) -> Output) -> (u64, Found) {
    let (mut elapsed, mut found) = (0, Vec::new());
    for batch in batches {
        let batch = copy(batch);
        let start = Instant::now();
        let output = feed(batch);
        elapsed += start.elapsed().as_nanos() as u64;
        for at in 0..output.outcomes.len() {
            found.push((
                output.outcomes[at],
                output.times[at * 4..at * 4 + 4].to_vec(),
                output.sizes[at * 3..at * 3 + 3].to_vec(),
                output.text_lengths[at * 3..at * 3 + 3].to_vec(),
                output.attribute_counts[at],
            ));
        }
    }
    (elapsed, found)
}

fn copy(batch: &Batch) -> Batch {
    let opened = |it: &OpenedConnection| OpenedConnection {
        id: it.id,
        client_address: it.client_address.clone(),
        client_port: it.client_port,
        server_address: it.server_address.clone(),
        server_port: it.server_port,
        midstream: it.midstream,
    };
    Batch {
        opened: batch.opened.iter().map(opened).collect(),
        connections: batch.connections.clone(),
        kinds: batch.kinds.clone(),
        times: batch.times.clone(),
        positions: batch.positions.clone(),
        lengths: batch.lengths.clone(),
        data: batch.data.clone(),
    }
}

fn empty() -> Batch {
    Batch {
        opened: vec![],
        connections: vec![],
        kinds: vec![],
        times: vec![],
        positions: vec![],
        lengths: vec![],
        data: vec![],
    }
}

/// Every payload segment as an entry; connections open with their SYN, and all close at the end.
fn batches(pcap: &[u8]) -> Vec<Batch> {
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (mut at, mut batches, mut batch) = (24, Vec::new(), empty());
    // By the client's port: id, and the next position of both sides.
    let mut connections: HashMap<u16, (u32, [u64; 2])> = HashMap::new();
    let (mut ids, mut time) = (0, 0);
    let mut server_port = None;
    while at + 16 <= pcap.len() {
        time = u64::from(word(pcap, at)) * 1_000_000_000 + u64::from(word(pcap, at + 4)) * 1000;
        let length = word(pcap, at + 8) as usize;
        let ip = &pcap[at + 16 + 14..at + 16 + length];
        at += 16 + length;
        let header = usize::from(ip[0] & 15) * 4;
        let tcp = &ip[header..usize::from(u16::from_be_bytes([ip[2], ip[3]]))];
        let ports = [u16::from_be_bytes([tcp[0], tcp[1]]), u16::from_be_bytes([tcp[2], tcp[3]])];
        let payload = &tcp[usize::from(tcp[12] >> 4) * 4..];
        if tcp[13] & 0x12 == 0x02 {
            server_port = Some(ports[1]);
            connections.insert(ports[0], (ids, [0; 2]));
            batch.opened.push(OpenedConnection {
                id: ids,
                client_address: "127.0.0.1".into(),
                client_port: ports[0],
                server_address: "127.0.0.1".into(),
                server_port: ports[1],
                midstream: false,
            });
            ids += 1;
        }
        let from_server = Some(ports[0]) == server_port;
        let client = if from_server { ports[1] } else { ports[0] };
        let Some((id, positions)) = connections.get_mut(&client).filter(|_| !payload.is_empty()) else { continue };
        let position = &mut positions[usize::from(from_server)];
        batch.connections.push(*id);
        batch.kinds.push(if from_server { 128 } else { 0 });
        batch.times.push(time);
        batch.positions.push(*position);
        batch.lengths.push(payload.len() as u32);
        batch.data.extend_from_slice(payload);
        *position += payload.len() as u64;
        if batch.kinds.len() == ENTRIES {
            batches.push(std::mem::replace(&mut batch, empty()));
        }
    }
    for id in 0..ids {
        batch.connections.push(id);
        batch.kinds.push(3);
        batch.times.push(time);
        batch.positions.push(0);
        batch.lengths.push(0);
    }
    batches.push(batch);
    batches
}
