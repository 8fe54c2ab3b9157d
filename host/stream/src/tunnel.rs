//! Tunnels that carry IP or Ethernet: GRE, and those over UDP, told by its destination port.
//!
//! Bias: a UDP datagram of another protocol to one of these ports is taken for the tunnel if its header would be valid;
//! what then looks like neither IP nor TCP is counted as such, and changes nothing. Keys and network identifiers are
//! passed over: a connection is known by its addresses and ports alone, so that two tenants with the same ones are
//! glued together where the capture sees both.

use crate::frame::{Frame, NoSegment};
use crate::packet::Header;

// Ports (IANA, "Service Name and Transport Protocol Port Number Registry").
const GTP_U: u16 = 2152;
const GRE_IN_UDP: u16 = 4754;
const VXLAN: u16 = 4789;
const VXLAN_GPE: u16 = 4790;
const GENEVE: u16 = 6081;
const MPLS_IN_UDP: u16 = 6635;
/// Linux's own default for VXLAN, from before the registration.
const VXLAN_LINUX: u16 = 8472;

/// Reads a UDP header (RFC 768), and what it carries if that is a tunnel.
pub(crate) fn udp(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    let &[_, _, port_high, port_low, len_high, len_low, _, _] = frame.take::<8>()?;
    // 0 is a jumbogram or offloaded; less than the header is no length.
    if let Some(length) = usize::from(u16::from_be_bytes([len_high, len_low])).checked_sub(8) {
        frame.set_wire_len(length);
    }
    match u16::from_be_bytes([port_high, port_low]) {
        VXLAN | VXLAN_LINUX => vxlan(frame),
        VXLAN_GPE => vxlan_gpe(frame),
        GENEVE => geneve(frame),
        GTP_U => gtp_u(frame),
        GRE_IN_UDP => gre(frame),
        MPLS_IN_UDP => Ok(Header::Mpls),
        _ => Err(NoSegment::NotTcp),
    }
}

/// GRE (RFC 2784, with key and sequence number of RFC 2890), the one of PPTP (RFC 2637), and mirrored traffic in ERSPAN
/// (draft-foschiano-erspan).
pub(crate) fn gre(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    let &[flags, version, high, low] = frame.take::<4>()?;
    let (checksum, routing, key, sequence) = (flags & 0x80, flags & 0x40, flags & 0x20, flags & 0x10);
    let acknowledgement = version & 0x80;
    // The deprecated source route of RFC 1701 is not read.
    if routing != 0 || version & 0x07 > 1 {
        return Err(NoSegment::NotTcp);
    }
    let optional = [checksum, key, sequence, acknowledgement];
    frame.take_slice(optional.iter().filter(|&&present| present != 0).count() * 4)?;
    match u16::from_be_bytes([high, low]) {
        // ERSPAN: type I has no header and no sequence number.
        0x88be => {
            if sequence != 0 {
                frame.take::<8>()?;
            }
            Ok(Header::Ethernet)
        }
        // ERSPAN type III; the last bit announces a subheader.
        0x22eb => {
            let &[.., last] = frame.take::<12>()?;
            if last & 1 == 1 {
                frame.take::<8>()?;
            }
            Ok(Header::Ethernet)
        }
        protocol => Ok(Header::EtherType(protocol)),
    }
}

/// RFC 7348, section 5: only the I flag means something here.
fn vxlan(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    match *frame.take::<8>()? {
        [flags, ..] if flags & 0x08 != 0 => Ok(Header::Ethernet),
        _ => Err(NoSegment::NotTcp),
    }
}

/// draft-ietf-nvo3-vxlan-gpe, section 3: with the P flag a byte names what follows.
fn vxlan_gpe(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    match *frame.take::<8>()? {
        [flags, _, _, next, ..] if flags & 0x0c == 0x0c => match next {
            1 => Ok(Header::Ipv4),
            2 => Ok(Header::Ipv6),
            3 => Ok(Header::Ethernet),
            5 => Ok(Header::Mpls),
            _ => Err(NoSegment::NotTcp),
        },
        [flags, ..] if flags & 0x08 != 0 => Ok(Header::Ethernet),
        _ => Err(NoSegment::NotTcp),
    }
}

/// RFC 8926, section 3.4: version and length of the options in 4-byte units, flags, EtherType, network identifier.
fn geneve(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    let &[version_length, _, high, low, ..] = frame.take::<8>()?;
    if version_length >> 6 != 0 {
        return Err(NoSegment::NotTcp);
    }
    frame.take_slice(usize::from(version_length & 0x3f) * 4)?;
    Ok(Header::EtherType(u16::from_be_bytes([high, low])))
}

/// 3GPP TS 29.281, section 5: a T-PDU of version 1, maybe with extension headers.
fn gtp_u(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    const T_PDU: u8 = 255;
    let &[flags, kind, len_high, len_low, ..] = frame.take::<8>()?;
    // Version 1 of GTP, not GTP'.
    if flags & 0xf0 != 0x30 || kind != T_PDU {
        return Err(NoSegment::NotTcp);
    }
    frame.set_wire_len(usize::from(u16::from_be_bytes([len_high, len_low])));
    // E, S and PN: each of them brings all the optional fields.
    if flags & 0x07 != 0 {
        let &[_, _, _, mut next] = frame.take::<4>()?;
        // Each extension header is at least 4 bytes of the packet, so that this ends.
        while flags & 0x04 != 0 && next != 0 {
            let [units] = *frame.peek()?;
            let header = frame.take_slice(usize::from(units) * 4)?;
            let Some(&last) = header.last() else { return Err(NoSegment::Malformed) };
            next = last;
        }
    }
    Ok(Header::Ip)
}
