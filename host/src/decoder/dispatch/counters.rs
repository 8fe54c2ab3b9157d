//! What the dispatcher counts.

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
    /// Connections that none claimed.
    pub connections_undetected: u64,
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
    /// Exchanges found.
    pub exchanges: u64,
}
