//! Link types, and the way from a link header to the IP header behind it.
//!
//! Captured bytes in, the network protocol and its bytes out. VLAN ids are passed over: they may differ by direction,
//! and no connection is told from another by them. Tunnels, PPP and MPLS are not read.

use crate::frame::{Frame, NoSegment};

/// 802.1Q and 802.1ad tags read one behind the other. More are held to be nonsense.
const MAX_TAGS: usize = 4;

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
    /// A number that the engine does not read; its packets are counted and passed over.
    Unknown(u32),
}

impl LinkType {
    /// The link type of a LINKTYPE_ number as capture files have it.
    pub fn from_number(number: u32) -> LinkType {
        match number {
            0 => LinkType::Null,
            1 => LinkType::Ethernet,
            12 | 14 | 101 => LinkType::Raw,
            108 => LinkType::Loop,
            113 => LinkType::LinuxSll,
            228 => LinkType::Ipv4,
            229 => LinkType::Ipv6,
            276 => LinkType::LinuxSll2,
            other => LinkType::Unknown(other),
        }
    }

    /// Reads the link header off `frame` and tells which IP version comes next.
    pub(crate) fn network(self, frame: &mut Frame<'_>) -> Result<IpVersion, NoSegment> {
        match self {
            LinkType::Ethernet => {
                let [.., high, low] = *frame.take::<14>()?;
                ether_payload(u16::from_be_bytes([high, low]), frame)
            }
            LinkType::LinuxSll => {
                // Packet type (2), ARPHRD_ (2), address length (2), address (8), protocol (2).
                let [_, _, arp_high, arp_low, .., high, low] = *frame.take::<16>()?;
                sll_payload([arp_high, arp_low], [high, low], frame)
            }
            LinkType::LinuxSll2 => {
                // Protocol (2), reserved (2), interface (4), ARPHRD_ (2), packet type (1), address length (1), address
                // (8).
                let [high, low, _, _, _, _, _, _, arp_high, arp_low, ..] = *frame.take::<20>()?;
                sll_payload([arp_high, arp_low], [high, low], frame)
            }
            LinkType::Null | LinkType::Loop => bsd_payload(*frame.take::<4>()?),
            LinkType::Raw => match frame.bytes.first().map(|first| first >> 4) {
                Some(4) => Ok(IpVersion::V4),
                Some(6) => Ok(IpVersion::V6),
                Some(_) => Err(NoSegment::Malformed),
                None => Err(NoSegment::Truncated),
            },
            LinkType::Ipv4 => Ok(IpVersion::V4),
            LinkType::Ipv6 => Ok(IpVersion::V6),
            LinkType::Unknown(_) => Err(NoSegment::UnknownLink),
        }
    }
}

/// Which IP header comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IpVersion {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

/// What follows an EtherType, or, below 1536, a length of IEEE 802.3.
fn ether_payload(mut ether_type: u16, frame: &mut Frame<'_>) -> Result<IpVersion, NoSegment> {
    for _ in 0..=MAX_TAGS {
        match ether_type {
            0x0800 => return Ok(IpVersion::V4),
            0x86dd => return Ok(IpVersion::V6),
            // 802.1Q, 802.1ad, and two numbers that switches used for the outer tag before 802.1ad.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                let [_, _, high, low] = *frame.take::<4>()?;
                ether_type = u16::from_be_bytes([high, low]);
            }
            0..=1535 => return snap_payload(frame),
            _ => return Err(NoSegment::NotTcp),
        }
    }
    Err(NoSegment::Malformed)
}

/// IEEE 802.2 LLC with a SNAP header (RFC 1042) carries an EtherType; all other LLC is no IP.
fn snap_payload(frame: &mut Frame<'_>) -> Result<IpVersion, NoSegment> {
    match frame.take::<8>() {
        Ok(&[0xaa, 0xaa, 0x03, 0, 0, 0, 0x08, 0x00]) => Ok(IpVersion::V4),
        Ok(&[0xaa, 0xaa, 0x03, 0, 0, 0, 0x86, 0xdd]) => Ok(IpVersion::V6),
        Err(NoSegment::Truncated) => Err(NoSegment::Truncated),
        _ => Err(NoSegment::NotTcp),
    }
}

/// The protocol field is an EtherType unless the ARPHRD_ type says otherwise; 4 announces LLC.
fn sll_payload(arp_type: [u8; 2], protocol: [u8; 2], frame: &mut Frame<'_>) -> Result<IpVersion, NoSegment> {
    const ARPHRD_NETLINK: u16 = 824;
    const LINUX_802_2: u16 = 4;
    let protocol = u16::from_be_bytes(protocol);
    if u16::from_be_bytes(arp_type) == ARPHRD_NETLINK || (protocol < 1536 && protocol != LINUX_802_2) {
        return Err(NoSegment::NotTcp);
    }
    ether_payload(protocol, frame)
}

/// AF_INET is 2 everywhere; AF_INET6 is 10 on Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS. The numbers
/// are small, so that their byte order shows.
fn bsd_payload(family: [u8; 4]) -> Result<IpVersion, NoSegment> {
    let little = u32::from_le_bytes(family);
    match if little > 0xffff { little.swap_bytes() } else { little } {
        2 => Ok(IpVersion::V4),
        10 | 24 | 28 | 30 => Ok(IpVersion::V6),
        _ => Err(NoSegment::NotTcp),
    }
}
