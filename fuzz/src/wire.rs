//! Builds the packets of a script: TCP in IPv4 or IPv6, whole or in fragments, behind one of several link headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use podtap_stream::{Endpoint, LinkType};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// Two for each connection: what its one end sends, and what the other one does.
pub(crate) const DIRECTIONS: usize = 8;

const TCP: u8 = 6;
const IPV6_FRAGMENT: u8 = 44;

/// The sender and the receiver of a direction. The connections share addresses or ports, and one is IPv6.
pub(crate) fn ends(direction: usize) -> (Endpoint, Endpoint) {
    let v4 = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    let v6 = |last| IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last));
    let (client, server) = match direction / 2 {
        0 => ((v4(1), 40_000), (v4(2), 80)),
        1 => ((v4(1), 40_001), (v4(2), 80)),
        2 => ((v6(1), 40_000), (v6(2), 80)),
        // To itself, as on a loopback interface; the lower end is the server.
        _ => ((v4(1), 40_000), (v4(1), 80)),
    };
    let endpoint = |(address, port)| Endpoint { address, port };
    let (client, server) = (endpoint(client), endpoint(server));
    if direction.is_multiple_of(2) { (client, server) } else { (server, client) }
}

/// A TCP segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) direction: usize,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// The shift that a SYN offers.
    pub(crate) window_scale: Option<u8>,
    pub(crate) payload: Vec<u8>,
}

/// How the packet of a segment is sent and captured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    /// Place in [`Way::link_type`] and in [`Way::tunnel`].
    pub(crate) link: u8,
    /// VLAN tags, on Ethernet.
    pub(crate) tags: u8,
    pub(crate) fragments: Option<Fragments>,
    /// Bytes of the packet that are captured.
    pub(crate) snaplen: Option<u16>,
}

/// In what pieces a packet is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragments {
    /// Payload of each but the last, in units of 8 bytes; at least 1.
    pub(crate) units: u8,
    pub(crate) reversed: bool,
    pub(crate) twice: bool,
    pub(crate) without_first: bool,
    pub(crate) without_last: bool,
}

impl Segment {
    /// The packets it is sent in, from the link header on. `identification` tells its fragments from those of others.
    pub(crate) fn packets(&self, way: Way, identification: u16) -> Vec<Vec<u8>> {
        let (from, to) = ends(self.direction);
        let segment = self.bytes(from.port, to.port);
        let fragments = match way.fragments {
            None => vec![ip(from.address, to.address, &segment, None)],
            Some(fragments) => {
                let pieces = segment.chunks(usize::from(fragments.units.max(1)) * 8).enumerate();
                let last = pieces.len() - 1;
                let mut packets: Vec<Vec<u8>> = pieces
                    .filter(|&(place, _)| !(fragments.without_first && place == 0))
                    .filter(|&(place, _)| !(fragments.without_last && place == last))
                    .map(|(place, piece)| {
                        // At most 31 units a piece and few pieces: the field has 13 bits.
                        let offset = place as u16 * u16::from(fragments.units.max(1));
                        let fragment = Fragment { identification, offset, more: place != last };
                        ip(from.address, to.address, piece, Some(fragment))
                    })
                    .collect();
                if fragments.twice {
                    packets = packets.iter().flat_map(|packet| [packet.clone(), packet.clone()]).collect();
                }
                if fragments.reversed {
                    packets.reverse();
                }
                packets
            }
        };
        let v6 = from.address.is_ipv6();
        fragments.into_iter().map(|packet| way.tunnel(v6, packet)).collect()
    }

    fn bytes(&self, source_port: u16, destination_port: u16) -> Vec<u8> {
        let options: &[u8] = match self.window_scale {
            Some(shift) => &[3, 3, shift, 0],
            None => &[],
        };
        let mut bytes = Vec::with_capacity(24 + self.payload.len());
        bytes.extend(source_port.to_be_bytes());
        bytes.extend(destination_port.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([(5 + options.len() as u8 / 4) << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes.extend(&self.payload);
        bytes
    }
}

impl Way {
    pub(crate) fn link_type(self) -> LinkType {
        match self.link % 5 {
            0 => LinkType::Ethernet,
            1 => LinkType::Raw,
            2 => LinkType::LinuxSll,
            3 => LinkType::LinuxSll2,
            _ => LinkType::Null,
        }
    }

    /// The IP packet from its link header on, maybe in a tunnel over IPv4.
    fn tunnel(self, v6: bool, packet: Vec<u8>) -> Vec<u8> {
        const UDP: u8 = 17;
        let udp = |port: u16, payload: Vec<u8>| {
            [&[0xc0, 0], &port.to_be_bytes()[..], &(8 + payload.len() as u16).to_be_bytes(), &[0, 0], &payload].concat()
        };
        let ether_type: [u8; 2] = if v6 { [0x86, 0xdd] } else { [8, 0] };
        let (protocol, payload) = match self.link / 5 % 8 {
            1 => (if v6 { 41 } else { 4 }, packet),
            2 => (47, [&[0x10, 0][..], &ether_type, &[0; 4], &packet].concat()), // GRE
            3 => (UDP, udp(4789, [&[8, 0, 0, 0, 0, 0, 1, 0][..], &[2; 12], &ether_type, &packet].concat())),
            4 => (UDP, udp(2152, [&[0x30, 255, 0xff, 0xff, 0, 0, 0, 1][..], &packet].concat())), // GTP-U
            _ => return [self.link_header(v6), packet].concat(),
        };
        let outer = IpAddr::from([172, 16, 0, 1]);
        [self.link_header(false), ip_in(protocol, outer, outer, &payload, None)].concat()
    }

    fn link_header(self, v6: bool) -> Vec<u8> {
        let ether_type: [u8; 2] = if v6 { [0x86, 0xdd] } else { [8, 0] };
        match self.link_type() {
            LinkType::Ethernet => {
                let mut header = vec![2; 12];
                for tag in 0..self.tags {
                    header.extend([0x81, 0, 0, tag]);
                }
                header.extend(ether_type);
                header
            }
            LinkType::LinuxSll => [&[0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0][..], &ether_type].concat(),
            LinkType::LinuxSll2 => [&ether_type[..], &[0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
            LinkType::Null => vec![if v6 { 30 } else { 2 }, 0, 0, 0],
            _ => Vec::new(),
        }
    }
}

/// The place of a fragment in its packet.
#[derive(Clone, Copy)]
struct Fragment {
    identification: u16,
    /// In units of 8 bytes.
    offset: u16,
    more: bool,
}

fn ip(from: IpAddr, to: IpAddr, payload: &[u8], fragment: Option<Fragment>) -> Vec<u8> {
    ip_in(TCP, from, to, payload, fragment)
}

fn ip_in(protocol: u8, from: IpAddr, to: IpAddr, payload: &[u8], fragment: Option<Fragment>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(48 + payload.len());
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let Fragment { identification, offset, more } =
                fragment.unwrap_or(Fragment { identification: 0, offset: 0, more: false });
            bytes.extend([0x45, 0]);
            bytes.extend((20 + payload.len() as u16).to_be_bytes());
            bytes.extend(identification.to_be_bytes());
            bytes.extend((u16::from(more) << 13 | offset).to_be_bytes());
            bytes.extend([64, protocol, 0, 0]);
            bytes.extend(from.octets());
            bytes.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let next_header = if fragment.is_some() { IPV6_FRAGMENT } else { protocol };
            let length = payload.len() as u16 + if fragment.is_some() { 8 } else { 0 };
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend(length.to_be_bytes());
            bytes.extend([next_header, 64]);
            bytes.extend(from.octets());
            bytes.extend(to.octets());
            if let Some(Fragment { identification, offset, more }) = fragment {
                bytes.extend([protocol, 0]);
                bytes.extend((offset << 3 | u16::from(more)).to_be_bytes());
                bytes.extend(u32::from(identification).to_be_bytes());
            }
        }
        _ => unreachable!("both ends of a direction are of one family"),
    }
    bytes.extend(payload);
    bytes
}
