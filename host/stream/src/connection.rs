//! What a consumer learns of a connection.

use std::net::IpAddr;

use crate::facts::Facts;

/// Names a tracked connection until its [`crate::Sink::closed`]. `index` is dense and reused, `generation` tells the
/// users of one index apart, so that a late demand never reaches the wrong connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// Slot in the connection table; below [`crate::Limits::max_connections`].
    pub index: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// One end of a connection.
///
/// `A` opened the connection where [`OpenedBy`] knows who did; otherwise `A` sent the first packet that was seen, which
/// says nothing about who is the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The opener, or the sender of the first packet seen.
    A,
    /// The other one.
    B,
}

/// Address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// IPv4 or IPv6 address.
    pub address: IpAddr,
    /// TCP port.
    pub port: u16,
}

/// How the first packet showed who opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenedBy {
    /// Its SYN was seen, or the SYN-ACK that answers it: side A is the client, streams start at position 0.
    Handshake,
    /// Picked up in mid-connection: who is the client is not known, position 0 is the first byte seen.
    Midstream,
}

/// A connection, as far as its first packets tell.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// Its name in all that follows.
    pub id: ConnectionId,
    /// Side A.
    pub a: Endpoint,
    /// Side B.
    pub b: Endpoint,
    /// Whether A is known to be the client.
    pub opened_by: OpenedBy,
    /// Capture time of its first packet, ns since epoch.
    pub start_ns: u64,
}

/// Why a connection is no longer tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Both sides sent FIN.
    Finished,
    /// This side sent a RST within the window.
    Reset(Side),
    /// B answered A's SYN with a RST, before anything else.
    Refused,
    /// No packet for [`crate::Limits::idle_timeout_ns`].
    Idle,
    /// The table was full and this one the cheapest to lose.
    Evicted,
    /// A new SYN took over the 4-tuple.
    Replaced,
    /// The capture ended.
    CaptureEnd,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
    /// Capture time of the packet that showed it, ns since epoch.
    pub time_ns: u64,
    /// What was seen of the connection, this packet included.
    pub facts: Facts,
}
