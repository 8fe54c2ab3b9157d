//! Bounds of the stream engine.

use std::time::Duration;

use podtap_stream::Limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{ByteSize, HumanDuration};

/// Bounds of TCP reassembly and of fragments, in memory and patience. Times are times of the packets, not of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stream {
    /// Connections tracked at once, those that are remembered for `close_timeout` included. Beyond, the cheapest to lose
    /// goes: of those that are half-open or over, the oldest of the more numerous kind, then the longest idle. Fewer by
    /// default where podtap's memory is limited, see limits.md.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub max_connections: u32,
    /// Out-of-order bytes kept for one side of a connection. Beyond, the hole before them is declared lost.
    #[schemars(extend("x-minimum" = "4KiB", "x-maximum" = "1GiB"))]
    pub side_buffer_bytes: ByteSize,
    /// Out-of-order bytes kept in all. Beyond, the connection that asks for more gives up its oldest hole.
    /// Less by default where podtap's memory is limited, see limits.md.
    #[schemars(extend("x-minimum" = "64KiB", "x-maximum" = "64GiB"))]
    pub total_buffer_bytes: ByteSize,
    /// Out-of-order segments kept for one side of a connection.
    #[schemars(range(min = 1, max = 65_536))]
    pub side_buffer_segments: u32,
    /// After how long missing bytes are declared lost though the receiver did not acknowledge what follows them.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h"))]
    pub gap_timeout: HumanDuration,
    /// After how long without a packet a connection is let go.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "24h"))]
    pub idle_timeout: HumanDuration,
    /// The same for a connection of which only the opening (SYN) was seen.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub handshake_timeout: HumanDuration,
    /// How long a closed connection is remembered, so that retransmissions are not taken for a new one; 32 times as long
    /// once one came, which a copy of a packet that comes within a sixteenth of it is not.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub close_timeout: HumanDuration,
    /// IP fragments kept in all, until their datagram is complete. Beyond, the oldest datagram is given up.
    #[schemars(extend("x-minimum" = "0", "x-maximum" = "1GiB"))]
    pub fragment_buffer_bytes: ByteSize,
    /// After how long a datagram is given up whose fragments have not all come.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h"))]
    pub fragment_timeout: HumanDuration,
}

impl Default for Stream {
    fn default() -> Stream {
        let limits = Limits::default();
        let duration = |ns| HumanDuration(Duration::from_nanos(ns));
        Stream {
            max_connections: limits.max_connections,
            side_buffer_bytes: ByteSize(limits.side_buffer_bytes.into()),
            total_buffer_bytes: ByteSize(limits.total_buffer_bytes),
            side_buffer_segments: limits.side_buffer_segments,
            gap_timeout: duration(limits.gap_timeout_ns),
            idle_timeout: duration(limits.idle_timeout_ns),
            handshake_timeout: duration(limits.handshake_timeout_ns),
            close_timeout: duration(limits.close_timeout_ns),
            fragment_buffer_bytes: ByteSize(limits.fragment_buffer_bytes.into()),
            fragment_timeout: duration(limits.fragment_timeout_ns),
        }
    }
}

impl Stream {
    /// As the engine takes them.
    pub fn limits(&self) -> Limits {
        Limits {
            max_connections: self.max_connections,
            side_buffer_bytes: u32::try_from(self.side_buffer_bytes.0).unwrap_or(u32::MAX),
            total_buffer_bytes: self.total_buffer_bytes.0,
            side_buffer_segments: self.side_buffer_segments,
            gap_timeout_ns: self.gap_timeout.as_ns(),
            idle_timeout_ns: self.idle_timeout.as_ns(),
            handshake_timeout_ns: self.handshake_timeout.as_ns(),
            close_timeout_ns: self.close_timeout.as_ns(),
            fragment_buffer_bytes: u32::try_from(self.fragment_buffer_bytes.0).unwrap_or(u32::MAX),
            fragment_timeout_ns: self.fragment_timeout.as_ns(),
        }
    }

    /// Those of one of so many engines: what is bounded for all connections together is divided.
    pub fn limits_of_each(&self, engines: u32) -> Limits {
        let limits = self.limits();
        Limits {
            max_connections: (limits.max_connections / engines).max(1),
            total_buffer_bytes: limits.total_buffer_bytes / u64::from(engines),
            fragment_buffer_bytes: limits.fragment_buffer_bytes / engines,
            ..limits
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_engine() {
        assert_eq!(Stream::default().limits(), Limits::default());
    }

    #[test]
    fn engines_together_take_what_one_may() {
        let (one, each) = (Stream::default().limits(), Stream::default().limits_of_each(4));
        assert_eq!(
            (each.max_connections * 4, each.total_buffer_bytes * 4),
            (one.max_connections, one.total_buffer_bytes)
        );
        assert_eq!(
            (each.fragment_buffer_bytes * 4, each.side_buffer_bytes),
            (one.fragment_buffer_bytes, one.side_buffer_bytes)
        );
        assert_eq!(Stream::default().limits_of_each(1), one);
    }
}
