//! How fast the decoder is outside the sandbox: one keep-alive connection, requests and responses of usual size.
//!
//! Prints ns per exchange. `cargo run --release -p podtap-http --example native_rate`

use std::time::Instant;

use podtap_http::Http;
use podtap_sdk::{Batch, Instance, OpenedConnection};

const REQUEST: &str = "GET /api/users/42?page=3 HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: load/1.0 (test)\r\n\
    Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\r\n";
const RESPONSE_HEAD: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 21:44:08 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 512\r\nLast-Modified: Mon, 23 Nov 2026 21:00:00 GMT\r\n\
    Connection: keep-alive\r\nETag: \"65f0-200\"\r\nAccept-Ranges: bytes\r\n\r\n";

fn main() -> Result<(), String> {
    let response = format!("{RESPONSE_HEAD}{}", "x".repeat(512));
    let mut instance = Instance::<Http>::new("{}")?;
    let pairs = 64;
    let rounds: u64 = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(20_000);
    let mut positions = [0_u64; 2];
    let mut found = 0;
    let start = Instant::now();
    for round in 0..rounds {
        let mut batch = Batch {
            opened: vec![],
            connections: vec![],
            kinds: vec![],
            times: vec![],
            positions: vec![],
            lengths: vec![],
            data: vec![],
        };
        if round == 0 {
            batch.opened.push(OpenedConnection {
                id: 0,
                client_address: "192.0.2.1".into(),
                client_port: 49152,
                server_address: "192.0.2.2".into(),
                server_port: 80,
                midstream: false,
            });
        }
        for n in 0..pairs {
            for (side, bytes) in [REQUEST, &response].into_iter().enumerate() {
                batch.connections.push(0);
                batch.kinds.push(if side == 0 { 0 } else { 128 });
                batch.times.push(round * 1000 + n);
                batch.positions.push(positions[side]);
                batch.lengths.push(bytes.len() as u32);
                batch.data.extend_from_slice(bytes.as_bytes());
                positions[side] += bytes.len() as u64;
            }
        }
        found += instance.feed(batch).exchange_connections.len() as u64;
    }
    let each = start.elapsed().as_nanos() as u64 / found.max(1);
    println!("{found} exchanges, {each} ns each");
    Ok(())
}
