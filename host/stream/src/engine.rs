//! The engine: see the crate's documentation.

use crate::{Closed, Connection, ConnectionId, Counters, Limits, LinkType, Side};

/// A packet as captured.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Link type of the interface it was captured on.
    pub link_type: LinkType,
    /// Capture time, ns since epoch.
    pub time_ns: u64,
    /// The bytes captured, from the link header on.
    pub data: &'a [u8],
    /// Length on the wire; more than `data.len()` when a snaplen cut it.
    pub original_len: u32,
}

/// Payload of one side, next in stream order.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Stream position of the first byte.
    pub position: u64,
    /// Capture time of the segment that brought it, ns since epoch.
    pub time_ns: u64,
    /// The payload; never empty.
    pub bytes: &'a [u8],
}

/// Why bytes are held to be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The receiver acknowledged them: it has them, the capture has not.
    Acknowledged,
    /// Too much waited behind the hole (bytes or segments).
    BufferLimit,
    /// They did not come within [`Limits::gap_timeout_ns`].
    Timeout,
    /// The snaplen cut them off.
    Snaplen,
    /// The connection ended with the hole open.
    ConnectionEnd,
}

/// Bytes that will never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Stream position of the first missing byte.
    pub position: u64,
    /// How many are missing; at least 1.
    pub length: u64,
    /// Capture time at which they were given up, ns since epoch.
    pub time_ns: u64,
    /// Why.
    pub reason: GapReason,
}

/// Receives what the engine finds. Within a side, chunks and gaps are contiguous in `position`, except for bytes
/// skipped on demand. No call comes before `opened` nor after `closed` of a connection.
pub trait Sink {
    /// The connection is about to carry its first payload or gap. One that never does is never reported.
    fn opened(&mut self, connection: &Connection);
    /// Payload, in order.
    fn data(&mut self, connection: ConnectionId, side: Side, chunk: Chunk<'_>);
    /// A gap, in order.
    fn gap(&mut self, connection: ConnectionId, side: Side, gap: Gap);
    /// The side will send no more: its FIN was reached in order.
    fn end(&mut self, connection: ConnectionId, side: Side, position: u64, time_ns: u64);
    /// The connection is gone; its id may come again with another generation.
    fn closed(&mut self, connection: ConnectionId, closed: Closed);
}

/// Link, IP and TCP parsing, the connection table and reassembly.
#[derive(Debug)]
pub struct Engine {
    counters: Counters,
}

impl Engine {
    /// An engine without connections.
    pub fn new(_limits: Limits) -> Engine {
        Engine { counters: Counters::default() }
    }

    /// Takes one packet and tells `sink` what became known by it.
    pub fn packet(&mut self, _packet: &Packet<'_>, _sink: &mut dyn Sink) {}

    /// From now on, payload of `side` before `position` is not needed: it is neither buffered nor handed on. Gaps there
    /// are still declared, those by snaplen included. Advice: a position in the past changes nothing.
    pub fn skip_to(&mut self, _connection: ConnectionId, _side: Side, _position: u64) {}

    /// From now on the connection is of no interest: nothing of it is buffered or handed on but its `closed`.
    pub fn ignore(&mut self, _connection: ConnectionId) {}

    /// The capture is over: hands on what is buffered, with the holes as gaps, and closes every connection.
    pub fn finish(&mut self, _sink: &mut dyn Sink) {}

    /// What happened to every packet and byte so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
