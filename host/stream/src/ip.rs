//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers: addresses out, the frame left at the payload and as long as the IP header
//! says (link padding is dropped).
//!
//! Checksums are never verified: a capture on the sending host sees them before the network card has filled them in.
//! A source route is not followed: the addresses are those of the header, as on the wire.

use crate::frame::{Frame, NoSegment};
use crate::packet::{Fragment, Header};

/// An IP length of 0 stands for a packet larger than the field (TSO, BIG TCP: RFC 2675). Those of Linux end at 512 KiB;
/// far more is a broken capture record.
const MAX_UNSTATED_LEN: usize = 1 << 20;
/// What a datagram holds at most when it is put together: the length fields have 16 bits.
pub(crate) const MAX_DATAGRAM_BYTES: usize = 65_535;

// Protocol numbers (IANA, "Assigned Internet Protocol Numbers").
const HOP_BY_HOP: u8 = 0;
const IPV4: u8 = 4;
pub(crate) const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6: u8 = 41;
const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
const GRE: u8 = 47;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const ETHERIP: u8 = 97;
const MPLS: u8 = 137;

/// Source and destination of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Addresses {
    /// IPv4, source first.
    V4([u8; 4], [u8; 4]),
    /// IPv6, source first.
    V6([u8; 16], [u8; 16]),
}

impl Addresses {
    pub(crate) fn is_v6(&self) -> bool {
        matches!(self, Addresses::V6(..))
    }
}

/// What an IPv4 header says.
pub(crate) struct V4 {
    pub(crate) addresses: Addresses,
    pub(crate) protocol: u8,
    pub(crate) identification: u16,
    /// Offset in bytes and More Fragments, where the packet is a fragment.
    pub(crate) fragment: Option<(usize, bool)>,
}

/// What the Fragment header of IPv6 says (RFC 8200, section 4.5).
pub(crate) struct V6Fragment {
    pub(crate) protocol: u8,
    pub(crate) identification: u32,
    pub(crate) offset: usize,
    pub(crate) more: bool,
}

/// Tells the version of an IP packet by its first nibble.
pub(crate) fn version(frame: &Frame<'_>) -> Result<Header, NoSegment> {
    let [first] = frame.peek()?;
    match first >> 4 {
        4 => Ok(Header::Ipv4),
        6 => Ok(Header::Ipv6),
        _ => Err(NoSegment::Malformed),
    }
}

/// Reads an IPv4 header.
#[inline(always)]
pub(crate) fn v4(frame: &mut Frame<'_>) -> Result<V4, NoSegment> {
    let wire_len = frame.wire_len;
    let header @ &[version_ihl, _, len_high, len_low, id_high, id_low, fragment_high, fragment_low, _, protocol, ..] =
        frame.take::<20>()?;
    let &[.., s0, s1, s2, s3, d0, d1, d2, d3] = header;
    let header_len = usize::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || header_len < 20 {
        return Err(NoSegment::Malformed);
    }
    let total_len = match usize::from(u16::from_be_bytes([len_high, len_low])) {
        0 if wire_len <= MAX_UNSTATED_LEN => wire_len,
        stated => stated,
    };
    let Some(payload_len) = total_len.checked_sub(header_len) else { return Err(NoSegment::Malformed) };
    frame.take_slice(header_len - 20)?; // options
    frame.set_wire_len(payload_len);
    // Reserved, Don't Fragment, More Fragments; offset in units of 8 bytes.
    let flags_offset = u16::from_be_bytes([fragment_high, fragment_low]);
    let (more, offset) = (flags_offset & 0x2000 != 0, usize::from(flags_offset & 0x1fff) * 8);
    Ok(V4 {
        addresses: Addresses::V4([s0, s1, s2, s3], [d0, d1, d2, d3]),
        protocol,
        identification: u16::from_be_bytes([id_high, id_low]),
        fragment: (more || offset > 0).then_some((offset, more)),
    })
}

/// Reads an IPv6 header.
pub(crate) fn v6(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    let &[version, _, _, _, len_high, len_low, next_header, _] = frame.take::<8>()?;
    let source = *frame.take::<16>()?;
    let destination = *frame.take::<16>()?;
    if version >> 4 != 6 {
        return Err(NoSegment::Malformed);
    }
    match usize::from(u16::from_be_bytes([len_high, len_low])) {
        0 if frame.wire_len <= MAX_UNSTATED_LEN => {}
        stated => frame.set_wire_len(stated),
    }
    Ok(Header::Payload(Addresses::V6(source, destination), next_header))
}

/// What carries IP further: extension headers of IPv6 and tunnels.
pub(crate) fn payload(addresses: Addresses, protocol: u8, frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    match protocol {
        HOP_BY_HOP | ROUTING | DESTINATION if addresses.is_v6() => {
            let &[next, length, ..] = frame.take::<8>()?;
            frame.take_slice(usize::from(length) * 8)?;
            Ok(Header::Payload(addresses, next))
        }
        AUTHENTICATION => {
            // RFC 4302, section 2.2: length in 4-byte units, minus 2.
            let &[next, length, ..] = frame.take::<8>()?;
            frame.take_slice(usize::from(length) * 4)?;
            Ok(Header::Payload(addresses, next))
        }
        IPV4 => Ok(Header::Ipv4),
        IPV6 => Ok(Header::Ipv6),
        GRE => Ok(Header::Gre),
        UDP => Ok(Header::Udp),
        MPLS => Ok(Header::Mpls), // RFC 4023
        ETHERIP => {
            frame.take::<2>()?; // RFC 3378
            Ok(Header::Ethernet)
        }
        _ => Err(NoSegment::NotTcp),
    }
}

/// Reads the Fragment header of IPv6.
pub(crate) fn v6_fragment(frame: &mut Frame<'_>) -> Result<V6Fragment, NoSegment> {
    let &[protocol, _, high, low, i0, i1, i2, i3] = frame.take::<8>()?;
    // Offset in units of 8 bytes from the fourth bit on, two reserved bits, the M flag.
    let offset_more = u16::from_be_bytes([high, low]);
    Ok(V6Fragment {
        protocol,
        identification: u32::from_be_bytes([i0, i1, i2, i3]),
        offset: usize::from(offset_more & 0xfff8),
        more: offset_more & 1 != 0,
    })
}

/// The rest of the frame as a fragment.
pub(crate) fn fragment<'a>(
    frame: &Frame<'a>,
    addresses: Addresses,
    identification: u32,
    protocol: u8,
    offset: usize,
    more: bool,
    headers_left: u8,
) -> Result<Fragment<'a>, NoSegment> {
    let payload = frame.bytes;
    let length = frame.wire_len;
    // All but the last one end at a multiple of 8: RFC 791, section 3.2, and RFC 8200, section 4.5.
    if length == 0 || offset + length > MAX_DATAGRAM_BYTES || (more && !length.is_multiple_of(8)) {
        return Err(NoSegment::Malformed);
    }
    let carries_tcp = match protocol {
        TCP | UDP | IPV4 | IPV6 | GRE | MPLS | ETHERIP | AUTHENTICATION => true,
        HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT => addresses.is_v6(),
        _ => false,
    };
    if !carries_tcp {
        return Err(NoSegment::NotTcp);
    }
    if payload.len() < length {
        return Err(NoSegment::Truncated);
    }
    Ok(Fragment { addresses, identification, protocol, offset, more, payload, headers_left })
}
