//! Link types, and the headers between a link header and IP.
//!
//! VLAN ids and MPLS labels are passed over: they may differ by direction, and no connection is told from another by
//! them.

use crate::frame::{Frame, NoSegment};
use crate::packet::Header;

/// A link type the engine reads, by its LINKTYPE_ number (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkType {
    /// LINKTYPE_ETHERNET (1), with 802.1Q and QinQ tags.
    Ethernet,
    /// LINKTYPE_NULL (0): BSD loopback, address family in the byte order of the capturing host.
    Null,
    /// LINKTYPE_LOOP (108): OpenBSD loopback, address family in network byte order.
    Loop,
    /// LINKTYPE_RAW (101) and the DLT_RAW numbers 12 and 14: an IP packet, its version by the first nibble.
    Raw,
    /// LINKTYPE_IPV4 (228).
    Ipv4,
    /// LINKTYPE_IPV6 (229).
    Ipv6,
    /// LINKTYPE_LINUX_SLL (113).
    LinuxSll,
    /// LINKTYPE_LINUX_SLL2 (276).
    LinuxSll2,
    /// LINKTYPE_PPP (9) and LINKTYPE_PPP_HDLC (50): PPP with or without address and control field, and Cisco HDLC.
    Ppp,
    /// LINKTYPE_PPP_WITH_DIR (204) and LINKTYPE_PPP_PPPD (166): the same behind a byte for the direction.
    PppWithDirection,
    /// LINKTYPE_PPP_ETHER (51): PPPoE without an Ethernet header.
    PppEther,
    /// LINKTYPE_C_HDLC (104): Cisco HDLC.
    CiscoHdlc,
    /// LINKTYPE_NFLOG (239): packets that Linux netfilter logged.
    Nflog,
    /// LINKTYPE_PKTAP (258): Apple's `any` device, another link type inside.
    Pktap,
    /// A number that the engine does not read; its packets are counted and passed over.
    Unknown(u32),
}

impl LinkType {
    /// The link type of a LINKTYPE_ number as capture files have it.
    pub fn from_number(number: u32) -> LinkType {
        match number {
            0 => LinkType::Null,
            1 => LinkType::Ethernet,
            9 | 50 => LinkType::Ppp,
            12 | 14 | 101 => LinkType::Raw,
            51 => LinkType::PppEther,
            104 => LinkType::CiscoHdlc,
            108 => LinkType::Loop,
            113 => LinkType::LinuxSll,
            166 | 204 => LinkType::PppWithDirection,
            228 => LinkType::Ipv4,
            229 => LinkType::Ipv6,
            239 => LinkType::Nflog,
            258 => LinkType::Pktap,
            276 => LinkType::LinuxSll2,
            other => LinkType::Unknown(other),
        }
    }

    /// Reads the link header off `frame`, but for those that may come again within a packet.
    #[inline]
    pub(crate) fn read(self, frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
        match self {
            LinkType::Ethernet => Ok(Header::Ethernet),
            LinkType::LinuxSll => {
                // Packet type (2), ARPHRD_ (2), address length (2), address (8), protocol (2).
                let [_, _, arp_high, arp_low, .., high, low] = *frame.take::<16>()?;
                sll([arp_high, arp_low], [high, low])
            }
            LinkType::LinuxSll2 => {
                // Protocol (2), reserved (2), interface (4), ARPHRD_ (2), packet type (1), address length (1), address
                // (8).
                let [high, low, _, _, _, _, _, _, arp_high, arp_low, ..] = *frame.take::<20>()?;
                sll([arp_high, arp_low], [high, low])
            }
            LinkType::Null | LinkType::Loop => bsd(*frame.take::<4>()?),
            LinkType::Raw => Ok(Header::Ip),
            LinkType::Ipv4 => Ok(Header::Ipv4),
            LinkType::Ipv6 => Ok(Header::Ipv6),
            LinkType::Ppp => hdlc(frame),
            LinkType::PppWithDirection => {
                frame.take::<1>()?;
                hdlc(frame)
            }
            LinkType::PppEther => pppoe(frame),
            LinkType::CiscoHdlc => cisco_hdlc(frame),
            LinkType::Nflog => nflog(frame),
            LinkType::Pktap => pktap(frame),
            LinkType::Unknown(_) => Err(NoSegment::UnknownLink),
        }
    }
}

/// Reads the addresses and the type of an Ethernet frame.
#[inline]
pub(crate) fn ethernet(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    let [.., high, low] = *frame.take::<14>()?;
    Ok(match u16::from_be_bytes([high, low]) {
        // Below 1536 it is a length: IEEE 802.3, section 3.2.6.
        0..=1535 => Header::Llc,
        ether_type => Header::EtherType(ether_type),
    })
}

/// What follows an EtherType (IEEE; IANA "IEEE 802 Numbers").
#[inline]
pub(crate) fn ether_type(ether_type: u16, frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    match ether_type {
        0x0800 => Ok(Header::Ipv4),
        0x86dd => Ok(Header::Ipv6),
        // 802.1Q, 802.1ad, and two numbers that switches used for the outer tag before 802.1ad.
        0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
            let [_, _, high, low] = *frame.take::<4>()?;
            Ok(tagged([high, low]))
        }
        // Cisco VN-Tag: direction, interfaces.
        0x8926 => {
            let [_, _, _, _, high, low] = *frame.take::<6>()?;
            Ok(tagged([high, low]))
        }
        // 802.1BR E-TAG: priority, extension numbers.
        0x893f => {
            let [.., high, low] = *frame.take::<8>()?;
            Ok(tagged([high, low]))
        }
        0x8847 | 0x8848 => Ok(Header::Mpls),
        0x8864 => pppoe(frame),
        // Transparent Ethernet bridging, in GRE and Geneve; 802.1ah, whose tag has four more bytes.
        0x6558 => Ok(Header::Ethernet),
        0x88e7 => {
            frame.take::<4>()?;
            Ok(Header::Ethernet)
        }
        0x880b => Ok(Header::Ppp), // in GRE: RFC 2637
        _ => Err(NoSegment::NotTcp),
    }
}

/// Behind a tag stands a length as well.
fn tagged(ether_type: [u8; 2]) -> Header {
    match u16::from_be_bytes(ether_type) {
        0..=1535 => Header::Llc,
        ether_type => Header::EtherType(ether_type),
    }
}

/// IEEE 802.2 LLC with a SNAP header (RFC 1042) carries an EtherType; all other LLC is no IP.
pub(crate) fn llc(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    match *frame.take::<3>()? {
        [0xaa, 0xaa, 0x03] => match *frame.take::<5>()? {
            [0, 0, 0, high, low] => Ok(Header::EtherType(u16::from_be_bytes([high, low]))),
            _ => Err(NoSegment::NotTcp),
        },
        _ => Err(NoSegment::NotTcp),
    }
}

/// PPP protocol numbers (RFC 1661; IANA). A compressed number has one byte, which is odd (section 6.5). Before it stand
/// address and control field of HDLC-like framing (RFC 1662, section 3.1), unless they are compressed away.
pub(crate) fn ppp(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    if frame.bytes.starts_with(&[0xff, 0x03]) {
        frame.take::<2>()?;
    }
    let [first] = *frame.take::<1>()?;
    let protocol = if first & 1 == 1 { u16::from(first) } else { u16::from_be_bytes([first, frame.take::<1>()?[0]]) };
    match protocol {
        0x0021 => Ok(Header::Ipv4),          // RFC 1332
        0x0057 => Ok(Header::Ipv6),          // RFC 5072
        0x0281 | 0x0283 => Ok(Header::Mpls), // RFC 3032, section 4
        _ => Err(NoSegment::NotTcp),
    }
}

/// A label stack entry (RFC 3032, section 2.1). Nothing in it says what lies below the last one.
///
/// Bias: a first nibble of 4 or 6 is taken for IP. Else it is a pseudowire of Ethernet, behind a control word (RFC 4448,
/// section 4.6) if that yields a known EtherType.
pub(crate) fn mpls(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    let [_, _, bottom, _] = *frame.take::<4>()?;
    if bottom & 1 == 0 {
        return Ok(Header::Mpls);
    }
    let [first] = *frame.peek()?;
    match first >> 4 {
        4 => return Ok(Header::Ipv4),
        6 => return Ok(Header::Ipv6),
        0 => {}
        _ => return Ok(Header::Ethernet),
    }
    if let Ok(&[.., high, low]) = frame.peek::<18>()
        && matches!([high, low], [0x08, 0x00] | [0x86, 0xdd] | [0x81, 0x00] | [0x88, 0xa8] | [0x88, 0x47])
    {
        frame.take::<4>()?;
    }
    Ok(Header::Ethernet)
}

/// A PPPoE session header (RFC 2516, section 4).
fn pppoe(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    let [version_type, code, _, _, high, low] = *frame.take::<6>()?;
    if version_type != 0x11 {
        return Err(NoSegment::Malformed);
    }
    if code != 0 {
        return Err(NoSegment::NotTcp); // discovery
    }
    frame.set_wire_len(usize::from(u16::from_be_bytes([high, low])));
    Ok(Header::Ppp)
}

/// PPP, or Cisco HDLC, told by its address.
fn hdlc(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    match frame.peek() {
        Ok([0x0f | 0x8f, 0x00]) => cisco_hdlc(frame),
        _ => Ok(Header::Ppp),
    }
}

/// Address, control, EtherType.
fn cisco_hdlc(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    let [_, _, high, low] = *frame.take::<4>()?;
    Ok(Header::EtherType(u16::from_be_bytes([high, low])))
}

/// The protocol field is an EtherType unless the ARPHRD_ type says otherwise; 4 announces LLC.
fn sll(arp_type: [u8; 2], protocol: [u8; 2]) -> Result<Header, NoSegment> {
    const ARPHRD_NETLINK: u16 = 824;
    const LINUX_802_2: u16 = 4;
    match (u16::from_be_bytes(arp_type), u16::from_be_bytes(protocol)) {
        (ARPHRD_NETLINK, _) => Err(NoSegment::NotTcp),
        (_, LINUX_802_2) => Ok(Header::Llc),
        (_, 0..=1535) => Err(NoSegment::NotTcp),
        (_, ether_type) => Ok(Header::EtherType(ether_type)),
    }
}

/// AF_INET is 2 everywhere; AF_INET6 is 10 on Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS. The numbers
/// are small, so that their byte order shows.
fn bsd(family: [u8; 4]) -> Result<Header, NoSegment> {
    let little = u32::from_le_bytes(family);
    match if little > 0xffff { little.swap_bytes() } else { little } {
        2 => Ok(Header::Ipv4),
        10 | 24 | 28 | 30 => Ok(Header::Ipv6),
        _ => Err(NoSegment::NotTcp),
    }
}

/// A header (family, version, resource id), then attributes as netlink has them: length and type in the byte order of
/// the capturing host, padded to 4 bytes. The packet is the value of NFULA_PAYLOAD.
fn nflog(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    const NFULA_PAYLOAD: u16 = 9;
    let [_, version, _, _] = *frame.take::<4>()?;
    if version != 0 {
        return Err(NoSegment::NotTcp);
    }
    loop {
        let [l0, l1, t0, t1] = *frame.take::<4>()?;
        let little = u16::from_le_bytes([t0, t1]);
        // Types are small; in the other byte order they are not.
        let big_endian = little > 0xff;
        let (length, kind) = if big_endian {
            (u16::from_be_bytes([l0, l1]), u16::from_be_bytes([t0, t1]))
        } else {
            (u16::from_le_bytes([l0, l1]), little)
        };
        let Some(length) = usize::from(length).checked_sub(4) else { return Err(NoSegment::Malformed) };
        if kind == NFULA_PAYLOAD {
            frame.set_wire_len(length);
            return Ok(Header::Ip);
        }
        frame.take_slice(length.next_multiple_of(4))?;
    }
}

/// Length of the header, type of the record, and the link type (a DLT_ number, which for those read here equals the
/// LINKTYPE_), all in the byte order of Apple's hosts.
fn pktap(frame: &mut Frame<'_>) -> Result<Header, NoSegment> {
    const PTH_TYPE_PACKET: [u8; 4] = [1, 0, 0, 0];
    let &[l0, l1, l2, l3, t0, t1, t2, t3, d0, d1, d2, d3] = frame.take::<12>()?;
    let Some(rest) = (u32::from_le_bytes([l0, l1, l2, l3]) as usize).checked_sub(12) else {
        return Err(NoSegment::Malformed);
    };
    frame.take_slice(rest)?;
    if [t0, t1, t2, t3] != PTH_TYPE_PACKET {
        return Err(NoSegment::NotTcp);
    }
    match LinkType::from_number(u32::from_le_bytes([d0, d1, d2, d3])) {
        LinkType::Pktap => Err(NoSegment::Malformed),
        inner => inner.read(frame),
    }
}
