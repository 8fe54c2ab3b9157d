//! Bounds of the engine's memory and patience.

/// Bounds; each has a default fit for a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections tracked at once, those that are over but remembered included. Beyond, the cheapest to lose goes: of
    /// those that are half-open or over, the oldest of the more numerous kind, then the longest idle.
    pub max_connections: u32,
    /// Out-of-order bytes kept for one side of a connection. Beyond, the hole before them is declared a gap.
    pub side_buffer_bytes: u32,
    /// Out-of-order bytes kept in all, and 64 for each segment they came in. Beyond, the connection that asks for more
    /// gives up its oldest hole.
    pub total_buffer_bytes: u64,
    /// Out-of-order segments kept for one side of a connection.
    pub side_buffer_segments: u32,
    /// Packet time after which a hole is declared a gap though the receiver did not acknowledge past it, ns.
    /// Eight times as long where the receiver acknowledged all before it: it asks for a retransmission.
    pub gap_timeout_ns: u64,
    /// Packet time without a packet after which a connection is let go, ns.
    pub idle_timeout_ns: u64,
    /// The same for a connection of which only SYNs were seen, ns.
    pub handshake_timeout_ns: u64,
    /// How long a closed connection is remembered, so that retransmissions are not taken for a new one: packet time
    /// since the close, ns. 32 times as long since a retransmission that came after it, as their intervals double; the
    /// last that counts comes within 32 times of the close, the first after a sixteenth: before, it may be a copy of what
    /// was captured on another interface.
    pub close_timeout_ns: u64,
    /// IP fragments kept in all, with what their entries take. Beyond, the oldest datagram is given up.
    pub fragment_buffer_bytes: u32,
    /// Packet time after which a datagram is given up whose fragments have not all come, ns.
    pub fragment_timeout_ns: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_connections: 65_536,
            side_buffer_bytes: 1 << 20,
            total_buffer_bytes: 16 << 20,
            side_buffer_segments: 1_024,
            gap_timeout_ns: 2_000_000_000,
            idle_timeout_ns: 600_000_000_000,
            handshake_timeout_ns: 10_000_000_000,
            close_timeout_ns: 2_000_000_000,
            fragment_buffer_bytes: 1 << 20,
            fragment_timeout_ns: 5_000_000_000,
        }
    }
}
