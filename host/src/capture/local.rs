//! What is of this host, and what is of podtap itself.
//!
//! podtap's own connections (to Kafka, to whoever reads its metrics) are not to be observed, or each event would make
//! more of them. They are known by the sockets that this process has, whatever their address, and however late they come.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use podtap_stream::Endpoint;

/// Sockets are looked up again for a new connection, but no more often.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

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
    connected: HashSet<(IpAddr, u16)>,
    listening: HashSet<u16>,
    looked: Option<Instant>,
}

impl OwnSockets {
    /// Looks which sockets there are, unless that was done a moment ago. Tells whether they have changed.
    pub fn look(&mut self) -> bool {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_INTERVAL) {
            return false;
        }
        self.looked = Some(Instant::now());
        match inodes() {
            Ok(inodes) if inodes == self.inodes => false,
            Ok(inodes) => {
                self.inodes = inodes;
                self.read_tables();
                true
            }
            Err(error) => {
                tracing::debug!(%error, "the sockets of this process are not known");
                false
            }
        }
    }

    fn read_tables(&mut self) {
        self.connected.clear();
        self.listening.clear();
        for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
            // Without IPv6 there is no second one.
            let rows = fs::read_to_string(table).unwrap_or_default();
            for row in rows.lines().skip(1).filter_map(Row::parse).filter(|row| self.inodes.contains(&row.inode)) {
                if row.listens {
                    self.listening.insert(row.port);
                } else {
                    self.connected.insert((row.address, row.port));
                }
            }
        }
    }

    /// Is one of the connection's ends a socket of this process? `local`: the addresses of this host.
    pub fn own(&self, ends: [Endpoint; 2], local: &[IpAddr]) -> bool {
        ends.iter().any(|end| {
            self.connected.contains(&(end.address, end.port))
                || (self.listening.contains(&end.port) && local.contains(&end.address))
        })
    }
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
    address: IpAddr,
    port: u16,
    listens: bool,
    inode: u64,
}

impl Row {
    fn parse(line: &str) -> Option<Row> {
        let mut words = line.split_ascii_whitespace();
        let (address, port) = words.nth(1)?.split_once(':')?;
        let (state, inode) = (words.nth(1)?, words.nth(5)?);
        Some(Row {
            address: parse_address(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
            listens: state == "0A",
            inode: inode.parse().ok()?,
        })
    }
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
        let v4 = "   1: 0100007F:1F90 0200007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0";
        let expected = Row { address: "127.0.0.1".parse().unwrap(), port: 8080, listens: false, inode: 4711 };
        assert_eq!(Row::parse(v4), Some(expected));
        let v6 = "   0: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 0A \
                  00000000:00000000 00:00000000 00000000 0 0 12 1 0";
        let expected = Row { address: "127.0.0.1".parse().unwrap(), port: 80, listens: true, inode: 12 };
        assert_eq!(Row::parse(v6), Some(expected));
        for bad in ["", "0: 1:2", "0: 0100007F:XX 0:0 0A 0 0 0 0 0 1", "0: é100007F:0050 0:0 0A 0 0 0 0 0 1"] {
            assert_eq!(Row::parse(bad), None, "{bad}");
        }
    }

    fn endpoint(address: std::net::SocketAddr) -> Endpoint {
        Endpoint { address: address.ip(), port: address.port() }
    }

    #[test]
    fn sockets_of_this_process_are_its_own_as_long_as_they_are_there() {
        let mut own = OwnSockets::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = endpoint(listener.local_addr().unwrap());
        let client = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let ends = [endpoint(client.local_addr().unwrap()), server];
        let stranger = Endpoint { address: "192.0.2.1".parse().unwrap(), port: server.port };
        assert!(own.look());
        assert!(own.own(ends, &[]));
        // A listener's port is its own on addresses of this host only.
        assert!(own.own([stranger, server], &[server.address]) && !own.own([stranger, stranger], &[server.address]));
        drop((client, listener));
        std::thread::sleep(LOOK_INTERVAL);
        assert!(own.look());
        assert!(!own.own(ends, &[server.address]));
    }

    #[test]
    fn this_host_has_an_address() {
        assert!(addresses().contains(&"127.0.0.1".parse().unwrap()), "{:?}", addresses());
    }
}
