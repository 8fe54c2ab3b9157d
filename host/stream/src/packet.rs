//! From a captured packet to what it holds for us: a TCP segment or a fragment of an IP datagram.
//!
//! Headers are read one by one; each names the next. What one costs is bounded by its own length, and there are at most
//! [`MAX_HEADERS`] of them, so that no nesting of tunnels costs more.
//!
//! ```text
//! link type ─> Ethernet ─> EtherType ─> IPv4, IPv6 ─┬─> TCP segment
//!                 ^    <─ tags, MPLS, PPPoE, PPP    ├─> fragment
//!                 └──────────<── IP in IP, GRE, VXLAN, Geneve, GTP-U
//! ```

use crate::engine::Packet;
use crate::frame::{Frame, NoSegment};
use crate::ip::{self, Addresses};
use crate::tcp::Segment;
use crate::{LinkType, link, tunnel};

/// Headers read one in the other: a tag, an extension header and a tunnel count as any other. Two tunnels in one
/// another with tags take fifteen.
pub const MAX_HEADERS: u8 = 24;

/// What comes next in a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Header {
    /// IEEE 802.3, destination address first.
    Ethernet,
    /// What an EtherType names.
    EtherType(u16),
    /// IEEE 802.2 LLC.
    Llc,
    /// RFC 1661.
    Ppp,
    /// A label stack entry of MPLS.
    Mpls,
    /// IP, its version in the first nibble.
    Ip,
    /// RFC 791.
    Ipv4,
    /// RFC 8200.
    Ipv6,
    /// The payload of IP between these addresses, by its protocol number.
    Payload(Addresses, u8),
    /// RFC 2784.
    Gre,
    /// RFC 768, of which only tunnels are of interest.
    Udp,
}

/// What a packet holds.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// A TCP segment.
    Segment(Segment<'a>),
    /// A fragment of a datagram that may hold a TCP segment.
    Fragment(Fragment<'a>),
}

/// A fragment of an IP datagram. Never empty, wholly captured, and its end is at most [`ip::MAX_DATAGRAM_BYTES`].
#[derive(Debug)]
pub(crate) struct Fragment<'a> {
    pub(crate) addresses: Addresses,
    /// The identification field: 16 bits of IPv4, 32 of IPv6.
    pub(crate) identification: u32,
    /// What the datagram holds, by IP protocol number.
    pub(crate) protocol: u8,
    /// Where it begins in the datagram's payload, in bytes.
    pub(crate) offset: usize,
    /// It is not the last one.
    pub(crate) more: bool,
    pub(crate) payload: &'a [u8],
    /// How many headers may follow.
    pub(crate) headers_left: u8,
}

/// The segment of a packet as nearly all are, TCP in IPv4 in Ethernet; `None` for all else, and [`parse`] tells what it
/// is. The same headers, read in line with the caller: a segment that is handed back through memory costs 10 ns more, as
/// much as a third of all that is done with it.
#[inline(always)]
pub(crate) fn usual<'a>(packet: &Packet<'a>) -> Option<Segment<'a>> {
    let mut frame = Frame::new(packet.data, packet.original_len);
    if packet.link_type != LinkType::Ethernet || !matches!(frame.take::<14>(), Ok([.., 0x08, 0x00])) {
        return None;
    }
    match ip::v4(&mut frame) {
        Ok(ip::V4 { addresses, protocol: ip::TCP, fragment: None, .. }) => Segment::parse(addresses, &mut frame).ok(),
        _ => None,
    }
}

/// Reads a packet from its link header on.
pub(crate) fn parse<'a>(packet: &Packet<'a>) -> Result<Content<'a>, NoSegment> {
    let mut frame = Frame::new(packet.data, packet.original_len);
    let header = packet.link_type.read(&mut frame)?;
    walk(header, frame, MAX_HEADERS)
}

/// Reads the payload of a datagram that was put together.
pub(crate) fn parse_payload(
    addresses: Addresses,
    protocol: u8,
    payload: &[u8],
    headers_left: u8,
) -> Result<Content<'_>, NoSegment> {
    let frame = Frame { bytes: payload, wire_len: payload.len(), is_stated: true };
    walk(Header::Payload(addresses, protocol), frame, headers_left)
}

fn walk<'a>(mut header: Header, mut frame: Frame<'a>, mut headers_left: u8) -> Result<Content<'a>, NoSegment> {
    let frame = &mut frame;
    loop {
        headers_left = headers_left.checked_sub(1).ok_or(NoSegment::TooDeep)?;
        header = match header {
            Header::Ethernet => link::ethernet(frame)?,
            Header::EtherType(ether_type) => link::ether_type(ether_type, frame)?,
            Header::Llc => link::llc(frame)?,
            Header::Ppp => link::ppp(frame)?,
            Header::Mpls => link::mpls(frame)?,
            Header::Ip => ip::version(frame)?,
            Header::Ipv4 => {
                let ip::V4 { addresses, protocol, identification, fragment } = ip::v4(frame)?;
                if let Some((offset, more)) = fragment {
                    let identification = u32::from(identification);
                    return ip::fragment(frame, addresses, identification, protocol, offset, more, headers_left)
                        .map(Content::Fragment);
                }
                Header::Payload(addresses, protocol)
            }
            Header::Ipv6 => ip::v6(frame)?,
            Header::Payload(addresses, ip::TCP) => return Segment::parse(addresses, frame).map(Content::Segment),
            Header::Payload(addresses, ip::FRAGMENT) if addresses.is_v6() => {
                let ip::V6Fragment { protocol, identification, offset, more } = ip::v6_fragment(frame)?;
                if offset == 0 && !more {
                    // An atomic fragment is a whole datagram: RFC 6946.
                    Header::Payload(addresses, protocol)
                } else {
                    return ip::fragment(frame, addresses, identification, protocol, offset, more, headers_left)
                        .map(Content::Fragment);
                }
            }
            Header::Payload(addresses, protocol) => ip::payload(addresses, protocol, frame)?,
            Header::Gre => tunnel::gre(frame)?,
            Header::Udp => tunnel::udp(frame)?,
        };
    }
}
