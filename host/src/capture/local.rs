//! What is of this host, and what is of podtap itself.
//!
//! podtap's own connections (to Kafka, to whoever reads its metrics) are not to be observed, or each event would make
//! more of them. They are known by the sockets that this process has, whatever their address, and however late they come.
//! One that was closed before anybody looked is taken for podtap's own where it is to a peer of podtap's and no other
//! process has it.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use podtap_stream::Endpoint;

/// Sockets are looked up again for a new connection, but no more often.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// For so long after a socket has come, where it is connected to is looked up again: it is there before it is connected.
const SETTLING: Duration = Duration::from_secs(5);

/// Peers of podtap's that are remembered.
const MAX_PEERS: usize = 1024;

const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// Addresses of this host's interfaces (in a pod: of the pod).
pub fn addresses() -> Vec<IpAddr> {
    let devices = pcap::Device::list().unwrap_or_else(|error| {
        tracing::warn!(%error, "the addresses of this host are not known: events have no vantage");
        Vec::new()
    });
    let mut addresses: Vec<_> =
        devices.iter().flat_map(|device| &device.addresses).map(|address| address.addr.to_canonical()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// TCP sockets of this process.
#[derive(Debug, Default)]
pub struct OwnSockets {
    inodes: BTreeSet<u64>,
    connected: HashSet<Endpoint>,
    /// Whom it is, or was, connected to.
    peers: HashSet<Endpoint>,
    listening: HashSet<u16>,
    looked: Option<Instant>,
    /// When the sockets were last found to be others than before.
    changed: Option<Instant>,
    reads: u64,
}

impl OwnSockets {
    /// Looks which sockets there are, unless that was done a moment ago.
    pub fn look(&mut self) {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_INTERVAL) {
            self.look_now();
        }
    }

    /// Looks which sockets there are.
    pub fn look_now(&mut self) {
        self.looked = Some(Instant::now());
        match inodes() {
            Ok(inodes) if inodes == self.inodes => {}
            Ok(inodes) => (self.inodes, self.changed) = (inodes, self.looked),
            Err(error) => return tracing::debug!(%error, "the sockets of this process are not known"),
        }
        if self.changed.is_some_and(|changed| changed.elapsed() < SETTLING) {
            self.read_tables();
            self.reads += 1;
        }
    }

    /// How often something may have become known: where it is another number, what was not podtap's own may be now.
    pub fn reads(&self) -> u64 {
        self.reads
    }

    fn read_tables(&mut self) {
        self.connected.clear();
        self.listening.clear();
        for row in rows() {
            if !self.inodes.contains(&row.inode) {
                continue;
            }
            if row.listens {
                self.listening.insert(row.end.port);
                continue;
            }
            self.connected.insert(row.end);
            if self.peers.len() < MAX_PEERS {
                self.peers.insert(row.peer);
            }
        }
    }

    /// Is one of the connection's ends a socket of this process, or was it? `local`: the addresses of this host.
    pub fn own(&self, ends: [Endpoint; 2], local: &[IpAddr]) -> bool {
        let is_own = |end: &Endpoint| {
            self.connected.contains(end) || (self.listening.contains(&end.port) && local.contains(&end.address))
        };
        let [a, b] = ends;
        let was_own = |end: Endpoint, peer| local.contains(&end.address) && self.was_own(end, peer);
        ends.iter().any(is_own) || was_own(a, b) || was_own(b, a)
    }

    /// Is nobody known who else may have connected to this peer from there?
    fn was_own(&self, end: Endpoint, peer: Endpoint) -> bool {
        // What has no process any more has no inode.
        self.peers.contains(&peer) && !rows().any(|row| row.end == end && row.peer == peer && row.inode != 0)
    }
}

/// The kernel's TCP sockets of this network namespace.
fn rows() -> impl Iterator<Item = Row> {
    // Without IPv6 there is no second table.
    let tables = TABLES.into_iter().map(|table| fs::read_to_string(table).unwrap_or_default());
    tables.flat_map(|table| table.lines().skip(1).filter_map(Row::parse).collect::<Vec<_>>())
}

/// Of the sockets that this process has open.
fn inodes() -> io::Result<BTreeSet<u64>> {
    let mut inodes = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        // One that was closed meanwhile is no socket of ours any more.
        let Ok(target) = entry.and_then(|entry| fs::read_link(entry.path())) else { continue };
        let inode: Option<u64> =
            target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inodes.extend(inode);
    }
    Ok(inodes)
}

/// A row of /proc/net/tcp or tcp6 (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Row {
    end: Endpoint,
    peer: Endpoint,
    listens: bool,
    inode: u64,
}

impl Row {
    fn parse(line: &str) -> Option<Row> {
        let mut words = line.split_ascii_whitespace();
        let (end, peer) = (parse_end(words.nth(1)?)?, parse_end(words.next()?)?);
        let (state, inode) = (words.next()?, words.nth(5)?);
        Some(Row { end, peer, listens: state == "0A", inode: inode.parse().ok()? })
    }
}

fn parse_end(text: &str) -> Option<Endpoint> {
    let (address, port) = text.split_once(':')?;
    Some(Endpoint { address: parse_address(address)?, port: u16::from_str_radix(port, 16).ok()? })
}

/// The kernel prints each four bytes, which are in network order, as a number of its own order.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut octets = [0; 16];
            for (index, four) in octets.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(index * 8)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn rows_of_the_kernels_tables() {
        let end = |address: &str, port| Endpoint { address: address.parse().unwrap(), port };
        let v4 = "   1: 0100007F:1F90 0200007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0";
        let (at, peer) = (end("127.0.0.1", 8080), end("127.0.0.2", 54321));
        assert_eq!(Row::parse(v4), Some(Row { end: at, peer, listens: false, inode: 4711 }));
        let v6 = "   0: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 0A \
                  00000000:00000000 00:00000000 00000000 0 0 12 1 0";
        let (at, peer) = (end("127.0.0.1", 80), end("::", 0));
        assert_eq!(Row::parse(v6), Some(Row { end: at, peer, listens: true, inode: 12 }));
        for bad in ["", "0: 1:2", "0: 0100007F:XX 0:0 0A 0 0 0 0 0 1", "0: é100007F:0050 0:0 0A 0 0 0 0 0 1"] {
            assert_eq!(Row::parse(bad), None, "{bad}");
        }
    }

    fn endpoint(address: std::net::SocketAddr) -> Endpoint {
        Endpoint { address: address.ip(), port: address.port() }
    }

    #[test]
    fn sockets_of_this_process_are_its_own() {
        let mut own = OwnSockets::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = endpoint(listener.local_addr().unwrap());
        let client = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let ends = [endpoint(client.local_addr().unwrap()), server];
        let stranger = Endpoint { address: "192.0.2.1".parse().unwrap(), port: server.port };
        own.look();
        assert!(own.own(ends, &[]));
        // A listener's port is its own on addresses of this host only.
        assert!(own.own([stranger, server], &[server.address]) && !own.own([stranger, stranger], &[server.address]));
        // Closed, but to a known peer, and nobody else's.
        drop(client);
        std::thread::sleep(LOOK_INTERVAL);
        own.look();
        assert!(own.own(ends, &[server.address]));
        // From elsewhere it never was.
        assert!(!own.own([stranger, server], &[]));
    }

    #[test]
    fn a_socket_that_was_there_before_it_was_connected_is_known_later() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = endpoint(listener.local_addr().unwrap());
        runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            let mut own = OwnSockets::default();
            own.look_now();
            let reads = own.reads();
            let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
            let ends = [endpoint(client.local_addr().unwrap()), server];
            assert!(!own.own(ends, &[]));
            // The sockets are the same as before.
            own.look_now();
            assert!(own.own(ends, &[]) && own.reads() > reads);
        });
    }

    #[test]
    fn this_host_has_an_address() {
        assert!(addresses().contains(&"127.0.0.1".parse().unwrap()), "{:?}", addresses());
    }
}
