//! Whether a process of this network namespace has a TCP socket, asked of the kernel for that one socket
//! (sock_diag(7); linux/inet_diag.h). Its tables of all sockets in /proc would take up to a third of a second to read.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::Duration;

use podtap_stream::Endpoint;
use socket2::{Domain, Protocol, Socket, Type};

/// The kernel answers at once; this is for one that does not.
const TIMEOUT: Duration = Duration::from_millis(100);

/// Of a request: nlmsghdr and inet_diag_req_v2.
const REQUEST_BYTES: usize = 16 + 56;
/// Of an answer: nlmsghdr and inet_diag_msg, without attributes.
const ANSWER_BYTES: usize = 16 + 72;

const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// A socket to ask with.
#[derive(Debug)]
pub(super) struct SockDiag {
    socket: Socket,
    /// Of the last question.
    sequence: u32,
}

impl SockDiag {
    /// Fails where the kernel has no sock_diag for TCP, as well: it would answer that nothing is there.
    pub(super) fn open() -> io::Result<SockDiag> {
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM, Some(Protocol::from(4)))?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        let mut diag = SockDiag { socket, sequence: 0 };
        let known = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let nobody = Endpoint { address: Ipv4Addr::UNSPECIFIED.into(), port: 0 };
        let end = Endpoint { address: Ipv4Addr::LOCALHOST.into(), port: known.local_addr()?.port() };
        match diag.has_process(end, nobody)? {
            true => Ok(diag),
            false => Err(Error::new(ErrorKind::Unsupported, "the kernel has no sock_diag for TCP")),
        }
    }

    /// Has a process the socket of this end that is connected to this peer?
    pub(super) fn has_process(&mut self, end: Endpoint, peer: Endpoint) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.write_all(&request(end, peer, self.sequence))?;
        let mut answer = [0; 1024];
        loop {
            let length = self.socket.read(&mut answer)?;
            // An answer that came too late is not to this question.
            if let Some(has) = read_answer(&answer[..length], self.sequence, peer)? {
                return Ok(has);
            }
        }
    }
}

fn request(end: Endpoint, peer: Endpoint, sequence: u32) -> [u8; REQUEST_BYTES] {
    let mut request = [0; REQUEST_BYTES];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(REQUEST_BYTES as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    put(8, &sequence.to_ne_bytes());
    let family = if end.address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    put(16, &[family as u8, libc::IPPROTO_TCP as u8]);
    // In any state.
    put(20, &u32::MAX.to_ne_bytes());
    put(24, &end.port.to_be_bytes());
    put(26, &peer.port.to_be_bytes());
    for (at, address) in [(28, end.address), (44, peer.address)] {
        match address {
            IpAddr::V4(address) => put(at, &address.octets()),
            IpAddr::V6(address) => put(at, &address.octets()),
        }
    }
    // Of any interface and any cookie (INET_DIAG_NOCOOKIE).
    put(64, &[0xff; 8]);
    request
}

/// None where it is to another question.
fn read_answer(answer: &[u8], sequence: u32, peer: Endpoint) -> io::Result<Option<bool>> {
    let number = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    let short = || Error::new(ErrorKind::InvalidData, "the kernel's answer is cut short");
    let (kind, answers) = (kind.ok_or_else(short)?, number(8).ok_or_else(short)?);
    if answers != sequence {
        return Ok(None);
    }
    if i32::from(kind) == libc::NLMSG_ERROR {
        let error = Error::from_raw_os_error((number(16).ok_or_else(short)? as i32).wrapping_neg());
        return match error.kind() {
            ErrorKind::NotFound => Ok(Some(false)),
            _ => Err(error),
        };
    }
    // Where nothing is connected the kernel tells of what listens there. What has no process any more has no inode.
    let (port, inode) = (answer.get(22..24), number(ANSWER_BYTES - 4).ok_or_else(short)?);
    Ok(Some(port == Some(&peer.port.to_be_bytes()) && inode != 0))
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};

    use super::*;

    fn endpoint(address: SocketAddr) -> Endpoint {
        Endpoint { address: address.ip().to_canonical(), port: address.port() }
    }

    #[test]
    fn sockets_have_a_process_while_they_are_open() {
        let mut diag = SockDiag::open().unwrap();
        // The last takes IPv4 as IPv6.
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                println!("skipped: {address}: no IPv6");
                continue;
            };
            let to = match address {
                "[::]:0" => (Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port()).into(),
                _ => listener.local_addr().unwrap(),
            };
            let client = TcpStream::connect(to).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let (end, peer) = (endpoint(client.local_addr().unwrap()), endpoint(client.peer_addr().unwrap()));
            assert!(diag.has_process(end, peer).unwrap() && diag.has_process(peer, end).unwrap(), "{address}");
            let other = Endpoint { port: end.port ^ 1, ..end };
            // The listener would be found for it.
            assert!(!diag.has_process(other, peer).unwrap() && !diag.has_process(peer, other).unwrap(), "{address}");
            drop(client);
            assert!(!diag.has_process(end, peer).unwrap(), "{address}");
            assert!(diag.has_process(peer, end).unwrap(), "{address}");
            drop(accepted);
            assert!(!diag.has_process(peer, end).unwrap(), "{address}");
        }
    }

    #[test]
    fn answers_of_every_kind() {
        let peer = Endpoint { address: Ipv4Addr::LOCALHOST.into(), port: 80 };
        for short in [&[][..], &[0; 8], &[0; 11]] {
            assert_eq!(read_answer(short, 0, peer).unwrap_err().kind(), ErrorKind::InvalidData);
        }
        let mut answer = [0; ANSWER_BYTES];
        answer[8] = 7;
        answer[22..24].copy_from_slice(&80_u16.to_be_bytes());
        assert_eq!(read_answer(&answer, 8, peer).unwrap(), None);
        assert_eq!(read_answer(&answer, 7, peer).unwrap(), Some(false));
        answer[ANSWER_BYTES - 4] = 1;
        assert_eq!(read_answer(&answer, 7, peer).unwrap(), Some(true));
        assert_eq!(read_answer(&answer[..80], 7, peer).unwrap_err().kind(), ErrorKind::InvalidData);
        answer[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        answer[16..20].copy_from_slice(&(-libc::ENOENT).to_ne_bytes());
        assert_eq!(read_answer(&answer, 7, peer).unwrap(), Some(false));
        answer[16..20].copy_from_slice(&(-libc::EACCES).to_ne_bytes());
        assert_eq!(read_answer(&answer, 7, peer).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
}
