//! What is known of a connection as a whole when it ends.

use crate::engine::GapReason;

/// Facts of a connection; those known from its beginning are in [`crate::Connection`].
///
/// They are of the segments captured, up to the close: late ones (see [`crate::Limits::close_timeout_ns`]), such as the
/// acknowledgement of the last FIN, are in none. What is said of loss and repetition is read off sequence numbers alone,
/// with these biases:
///
/// - A packet captured twice (on the `any` device, say) is a retransmission.
/// - A segment whose first sending was lost before the capture point is out of order, not a retransmission. One that
///   comes after its bytes were given up as a gap, or in midstream before the first byte seen, is a retransmission.
/// - Keep-alive and zero-window probes are told by their length, no or one byte, and their place, right before the next
///   byte. They are in no count but `packets`. So a last segment of a single byte, sent again, is taken for one; and a
///   probe with a byte of new data makes a retransmission of the segment that sends this byte with others.
/// - From [`crate::Engine::ignore`] on, holes are not kept: no gap or out-of-order segment is noted any more, and what
///   comes late is a retransmission.
///
/// Counts of 32 bits stay at their maximum once they reach it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Greatest capture time of its packets, ns since epoch.
    pub last_ns: u64,
    /// More was seen than SYNs and RSTs; in midstream, payload, or segments of both sides.
    pub established: bool,
    /// The consumer ignored it before its end, see above for what is not known then.
    pub ignored: bool,
    /// From the first SYN of A, also where that was sent again, to the first SYN-ACK of B, ns. Absent unless the SYN
    /// was the first packet and the SYN-ACK was seen.
    pub syn_to_syn_ack_ns: Option<u64>,
    /// From the first SYN-ACK of B to the first segment of A that follows, ns. Absent unless both were seen, in order.
    pub syn_ack_to_ack_ns: Option<u64>,
    /// What side A sent.
    pub a: SideFacts,
    /// What side B sent.
    pub b: SideFacts,
}

/// Facts of what one side sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideFacts {
    /// TCP segments of any kind.
    pub packets: u32,
    /// Where its stream came to: behind the last byte that was handed on, skipped, declared lost or, once the connection
    /// was ignored, seen.
    pub position: u64,
    /// Payload on the wire, snaplen or not, each byte as often as it was sent. Not in it: probes, the text of a RST, and
    /// what is outside the window or behind the FIN.
    pub payload_bytes: u64,
    /// Segments that sent a SYN, a FIN or payload seen before, whatever new they sent with it.
    pub retransmitted_segments: u32,
    /// Payload seen before, a part of `payload_bytes`.
    pub retransmitted_bytes: u64,
    /// Segments with new payload only, from before the farthest byte seen.
    pub out_of_order_segments: u32,
    /// Times that it closed its receive window, by advertising 0 after something else. SYN and RST do not count.
    pub zero_windows: u32,
    /// Gaps declared in what it sent.
    pub gaps: u32,
    /// Bytes in those gaps.
    pub gap_bytes: u64,
    /// Its SYN was seen: of A the SYN, of B the SYN-ACK, or its own SYN where both opened at once.
    pub syn: bool,
    /// Its FIN was seen.
    pub fin: bool,
}

impl SideFacts {
    /// Distinct bytes of its stream on the wire.
    pub fn new_bytes(&self) -> u64 {
        self.payload_bytes - self.retransmitted_bytes
    }
}

/// What is noted of a side as it happens; the rest of its facts follows from its stream. Touched by few packets.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) retransmitted_bytes: u64,
    pub(crate) gap_bytes: u64,
    /// Bytes that the stream went past though they were on no packet; the snaplen's are.
    pub(crate) unseen_bytes: u64,
    pub(crate) retransmitted_segments: u32,
    pub(crate) out_of_order_segments: u32,
    pub(crate) zero_windows: u32,
    pub(crate) gaps: u32,
}

impl Tally {
    /// A segment sent a SYN, a FIN or so many bytes of payload that were seen before.
    pub(crate) fn note_retransmission(&mut self, bytes: u64) {
        self.retransmitted_segments = self.retransmitted_segments.saturating_add(1);
        self.retransmitted_bytes += bytes;
    }

    pub(crate) fn note_out_of_order(&mut self) {
        self.out_of_order_segments = self.out_of_order_segments.saturating_add(1);
    }

    pub(crate) fn note_zero_window(&mut self) {
        self.zero_windows = self.zero_windows.saturating_add(1);
    }

    pub(crate) fn note_gap(&mut self, length: u64, reason: GapReason) {
        self.gaps = self.gaps.saturating_add(1);
        self.gap_bytes += length;
        if reason != GapReason::Snaplen {
            self.unseen_bytes += length;
        }
    }
}
