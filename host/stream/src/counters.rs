//! Every packet and every payload byte has exactly one fate, and each is counted here.

use crate::engine::GapReason;

/// Totals since the engine was made. The sums hold at any time between two calls (see [`Counters::adds_up`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets given to the engine.
    pub packets: u64,
    // The fates of packets: each of `packets` is in exactly one of these.
    /// TCP segments of a tracked connection (with or without payload).
    pub packets_tracked: u64,
    /// TCP segments of a connection that the consumer ignores.
    pub packets_ignored: u64,
    /// Whole packets of another protocol than TCP over IP (ARP, UDP, ...).
    pub packets_not_tcp: u64,
    /// A link type that the engine does not read.
    pub packets_unknown_link: u64,
    /// A link, IP or TCP header that contradicts itself.
    pub packets_malformed: u64,
    /// A header that the snaplen cut off.
    pub packets_truncated: u64,
    /// Headers one in the other, more than are read.
    pub packets_too_deep: u64,
    /// IP fragments, but those that completed a datagram: these count as what it held.
    pub packets_fragment: u64,
    /// TCP segments of no connection tracked that begin none either: a RST, a FIN without payload, or a segment without
    /// SYN, payload and acknowledgement.
    pub packets_stray: u64,
    /// Of those tracked and ignored: segments of a connection that was closed before. All others are in its
    /// [`crate::Facts`].
    pub packets_late: u64,

    // What became of `packets_fragment`.
    /// Waits for the rest of its datagram now.
    pub fragments_waiting: u64,
    /// Became part of a datagram that was put together.
    pub fragments_joined: u64,
    /// Repeated bytes at hand.
    pub fragments_duplicate: u64,
    /// Of datagrams whose fragments contradict one another.
    pub fragments_overlapping: u64,
    /// The rest did not come within [`crate::Limits::fragment_timeout_ns`], or before the capture ended.
    pub fragments_expired: u64,
    /// Given up because [`crate::Limits::fragment_buffer_bytes`] was reached.
    pub fragments_evicted: u64,
    /// Datagrams put together.
    pub datagrams_joined: u64,

    /// TCP payload bytes captured, in packets tracked, ignored and stray.
    pub bytes: u64,
    // The fates of payload bytes.
    /// Handed to the consumer.
    pub bytes_delivered: u64,
    /// Left out because the consumer asked to skip them.
    pub bytes_skipped: u64,
    /// Of connections that the consumer ignores.
    pub bytes_ignored: u64,
    /// Seen before: retransmissions and overlaps, keep-alive bytes.
    pub bytes_duplicate: u64,
    /// Outside the window, or behind a RST or FIN.
    pub bytes_out_of_window: u64,
    /// Buffered out of order now, waiting for the hole before them.
    pub bytes_buffered: u64,
    /// Buffered when the consumer began to ignore their connection, and dropped.
    pub bytes_abandoned: u64,

    /// Duplicate bytes that differed from what was delivered or buffered first (only buffered ones can be compared).
    pub bytes_conflicting: u64,
    // Bytes that were never captured, declared as gaps to the consumer, by [`crate::GapReason`].
    /// The receiver acknowledged them.
    pub bytes_gap_acknowledged: u64,
    /// Too much waited behind them.
    pub bytes_gap_buffer_limit: u64,
    /// They did not come in time.
    pub bytes_gap_timeout: u64,
    /// The snaplen cut them off.
    pub bytes_gap_snaplen: u64,
    /// The stream went on far away.
    pub bytes_gap_resync: u64,
    /// The connection ended before they came.
    pub bytes_gap_connection_end: u64,
    /// Gaps declared.
    pub gaps: u64,

    /// Connections tracked now.
    pub connections: u64,
    /// Connections seen.
    pub connections_total: u64,
    /// Connections let go because the table was full.
    pub connections_evicted: u64,
}

impl Counters {
    /// All bytes that were never captured.
    pub fn bytes_gap(&self) -> u64 {
        self.bytes_gap_acknowledged
            + self.bytes_gap_buffer_limit
            + self.bytes_gap_timeout
            + self.bytes_gap_snaplen
            + self.bytes_gap_resync
            + self.bytes_gap_connection_end
    }

    pub(crate) fn note_gap(&mut self, reason: GapReason, length: u64) {
        self.gaps += 1;
        *match reason {
            GapReason::Acknowledged => &mut self.bytes_gap_acknowledged,
            GapReason::BufferLimit => &mut self.bytes_gap_buffer_limit,
            GapReason::Timeout => &mut self.bytes_gap_timeout,
            GapReason::Snaplen => &mut self.bytes_gap_snaplen,
            GapReason::Resync => &mut self.bytes_gap_resync,
            GapReason::ConnectionEnd => &mut self.bytes_gap_connection_end,
        } += length;
    }

    /// Do the fates of packets and bytes sum up to what came in?
    pub fn adds_up(&self) -> bool {
        let packets = self.packets_tracked
            + self.packets_ignored
            + self.packets_not_tcp
            + self.packets_unknown_link
            + self.packets_malformed
            + self.packets_truncated
            + self.packets_too_deep
            + self.packets_fragment
            + self.packets_stray;
        let bytes = self.bytes_delivered
            + self.bytes_skipped
            + self.bytes_ignored
            + self.bytes_duplicate
            + self.bytes_out_of_window
            + self.bytes_buffered
            + self.bytes_abandoned;
        let fragments = self.fragments_waiting
            + self.fragments_joined
            + self.fragments_duplicate
            + self.fragments_overlapping
            + self.fragments_expired
            + self.fragments_evicted;
        packets == self.packets && bytes == self.bytes && fragments == self.packets_fragment
    }
}
