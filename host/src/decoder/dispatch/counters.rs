//! What the dispatcher counts.

use std::time::Duration;

use crate::decoder::sandbox::FailureKind;

/// What happened to the payload that the engine delivered, and to calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DispatchCounters {
    /// Payload that plugins took.
    pub bytes_decoded: u64,
    /// Payload of connections that no plugin claimed, up to the verdict.
    pub bytes_undetected: u64,
    /// Payload in calls that failed, or for a plugin that is set aside.
    pub bytes_failed: u64,
    /// Payload that plugins took and could make nothing of (part of `bytes_decoded`).
    pub bytes_undecoded: u64,
    /// Payload of connections that the dispatcher does not know: none, unless an invariant is broken.
    pub bytes_unknown: u64,
    /// Connections that a plugin claimed.
    pub connections_detected: u64,
    /// Connections that none claimed, by [`Undetected`].
    pub connections_undetected: [u64; Undetected::ALL.len()],
    /// Connections that went to the plugin of their server (part of `connections_detected`).
    pub connections_of_known_servers: u64,
    /// Connections that share an instance with more than it is to have, for want of places.
    pub connections_beyond_bound: u64,
    /// Connections blamed for a failure, and ignored from then on.
    pub connections_blamed: u64,
    /// Calls that trapped.
    pub failures_trap: u64,
    /// Calls that ran past their deadline.
    pub failures_deadline: u64,
    /// Calls that wanted too much memory.
    pub failures_memory: u64,
    /// Calls that returned what the contract does not allow.
    pub failures_output: u64,
    /// Calls that returned more than podtap takes.
    pub failures_too_much: u64,
    /// Demands for connections that the plugin does not have.
    pub demands_ignored: u64,
    /// Exchanges of which a text was cut.
    pub exchanges_truncated: u64,
    /// Times that a plugin was set aside.
    pub plugins_quarantined: u64,
    /// Connections ignored because their plugin was set aside.
    pub connections_quarantined: u64,
    /// Versions of plugins that were taken into use after the start.
    pub plugins_reloaded: u64,
    /// Connections that went on with another version of their plugin, from their middle.
    pub connections_moved: u64,
    /// Connections ignored because their plugin was removed, and waited for the last of them too long.
    pub connections_of_removed_plugins: u64,
    /// Connections of podtap's own, which are not decoded.
    pub connections_own: u64,
    /// Connections not decoded for want of time.
    pub connections_left_out: u64,
    /// Exchanges found.
    pub exchanges: u64,
}

/// What one plugin did, all its versions and instances together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecoderCounters {
    /// Calls that handed over a batch.
    pub calls: u64,
    /// Time that these took, where that is measured.
    pub time: Duration,
    /// Exchanges that they returned.
    pub exchanges: u64,
    /// Calls of any kind that failed, by [`FailureKind`].
    pub failures: [u64; FailureKind::ALL.len()],
    /// Times that it was set aside.
    pub quarantines: u64,
}

impl DecoderCounters {
    pub(super) fn add(&mut self, other: &DecoderCounters) {
        self.calls += other.calls;
        self.time += other.time;
        self.exchanges += other.exchanges;
        self.quarantines += other.quarantines;
        for (count, more) in self.failures.iter_mut().zip(other.failures) {
            *count += more;
        }
    }
}

/// Why no plugin claimed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undetected {
    /// All plugins refused it.
    RefusedByAll,
    /// One wanted to see more than is kept of a beginning.
    HeadTooLong,
    /// It ended before a verdict.
    EndedBeforeVerdict,
    /// Too much waited for verdicts in all.
    NoRoomToWait,
    /// All others refused it, and one was set aside.
    DecoderQuarantined,
    /// It was handed over too often.
    HandedOverInCircles,
}

impl Undetected {
    /// Each with its name as a count.
    pub const ALL: [(Undetected, &'static str); 6] = [
        (Undetected::RefusedByAll, "undetected_refused_by_all_decoders"),
        (Undetected::HeadTooLong, "undetected_head_too_long"),
        (Undetected::EndedBeforeVerdict, "undetected_ended_before_verdict"),
        (Undetected::NoRoomToWait, "undetected_no_room_to_wait"),
        (Undetected::DecoderQuarantined, "undetected_decoder_quarantined"),
        (Undetected::HandedOverInCircles, "undetected_handed_over_in_circles"),
    ];
}

impl DispatchCounters {
    pub(super) fn undetected(&mut self, why: Undetected) {
        // As many as there are variants, in their order.
        self.connections_undetected[why as usize] += 1;
    }
}
