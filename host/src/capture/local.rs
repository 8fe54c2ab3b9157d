//! What is of this host, and what is of podtap itself.
//!
//! podtap's own connections (to Kafka, to whoever reads its metrics) are not to be observed, or each event would make
//! more of them. They are known by the sockets that this process has, whatever their address, and however late they come.
//! One that was closed before anybody looked is taken for podtap's own where it is to a peer of podtap's and no other
//! process has it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use podtap_stream::Endpoint;
use socket2::{SockAddr, SockRef, Type};

use super::sock_diag::SockDiag;

/// Sockets are looked up again for a new connection, but no more often.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Peers of podtap's that are remembered.
const MAX_PEERS: usize = 1024;

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
#[derive(Debug)]
pub struct OwnSockets {
    /// None where the kernel does not tell who has a socket.
    diag: Option<SockDiag>,
    connected: HashSet<Endpoint>,
    listening: HashSet<u16>,
    /// Whom it is, or was, connected to.
    peers: HashSet<Endpoint>,
    looked: Option<Instant>,
    changes: u64,
}

impl Default for OwnSockets {
    fn default() -> OwnSockets {
        let diag = SockDiag::open().inspect_err(say_unknown).ok();
        let (connected, listening, peers) = Default::default();
        OwnSockets { diag, connected, listening, peers, looked: None, changes: 0 }
    }
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
        let sockets = match sockets() {
            Ok(sockets) => sockets,
            Err(error) => return tracing::debug!(%error, "the sockets of this process are not known"),
        };
        let (mut connected, mut listening) = (HashSet::new(), HashSet::new());
        for Own { end, peer, listens } in sockets {
            match listens {
                true => drop(listening.insert(end.port)),
                false => drop(connected.insert(end)),
            }
            self.peers.extend(peer.filter(|_| self.peers.len() < MAX_PEERS));
        }
        if (&connected, &listening) != (&self.connected, &self.listening) {
            (self.connected, self.listening) = (connected, listening);
            self.changes += 1;
        }
    }

    /// Where it is another number than before, what was not podtap's own may be now.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Is one of the connection's ends a socket of this process, or was it? `local`: the addresses of this host.
    pub fn own(&mut self, ends: [Endpoint; 2], local: &[IpAddr]) -> bool {
        let is_own = |end: &Endpoint| {
            self.connected.contains(end) || (self.listening.contains(&end.port) && local.contains(&end.address))
        };
        let [a, b] = ends;
        ends.iter().any(is_own)
            || [(a, b), (b, a)].into_iter().any(|(end, peer)| local.contains(&end.address) && self.was_own(end, peer))
    }

    /// Is nobody known who else may have connected to this peer from there?
    fn was_own(&mut self, end: Endpoint, peer: Endpoint) -> bool {
        let Some(diag) = self.diag.as_mut().filter(|_| self.peers.contains(&peer)) else { return false };
        match diag.has_process(end, peer) {
            Ok(has) => !has,
            Err(error) => {
                say_unknown(&error);
                self.diag = None;
                false
            }
        }
    }
}

fn say_unknown(error: &io::Error) {
    tracing::debug!(%error, "a connection of podtap's own that ends at once may be taken for one of others");
}

/// A TCP socket of this process.
struct Own {
    end: Endpoint,
    /// None while it is not connected.
    peer: Option<Endpoint>,
    listens: bool,
}

/// Those that have an address. Each is asked for itself: the kernel's tables would have those of every process, and take as
/// long as a third of a second to read.
fn sockets() -> io::Result<Vec<Own>> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        // One that was closed meanwhile is no socket of ours any more.
        let Ok(entry) = entry else { continue };
        let is_socket =
            fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str().as_bytes().starts_with(b"socket:["));
        let number = entry.file_name().to_str().and_then(|number| number.parse().ok()).filter(|_| is_socket);
        let Some(number) = number else { continue };
        // SAFETY: nothing but system calls that ask is done with it. Where another thread closes it meanwhile, they fail, or
        // tell of another socket of this process.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let socket = SockRef::from(&descriptor);
        let endpoint = |address: io::Result<SockAddr>| {
            let address = address.ok()?.as_socket()?;
            Some(Endpoint { address: address.ip().to_canonical(), port: address.port() })
        };
        let Some(end) = endpoint(socket.local_addr()).filter(|end| end.port != 0) else { continue };
        if socket.r#type().is_ok_and(|kind| kind == Type::STREAM) {
            let (peer, listens) = (endpoint(socket.peer_addr()), socket.is_listener().unwrap_or(false));
            sockets.push(Own { end, peer, listens });
        }
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

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
            let changes = own.changes();
            let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
            let ends = [endpoint(client.local_addr().unwrap()), server];
            assert!(!own.own(ends, &[]));
            own.look_now();
            assert!(own.own(ends, &[]) && own.changes() > changes);
        });
    }

    #[test]
    fn this_host_has_an_address() {
        assert!(addresses().contains(&"127.0.0.1".parse().unwrap()), "{:?}", addresses());
    }
}
