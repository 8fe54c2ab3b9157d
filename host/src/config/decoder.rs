//! What a decoder may use.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{ByteSize, HumanDuration};

/// What a decoder may use. A decoder that breaks a bound is stopped and a fresh one takes over its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Decoder {
    /// Memory of one decoder instance. Less by default where podtap's memory is limited, see limits.md.
    #[schemars(extend("x-minimum" = "1MiB", "x-maximum" = "4GiB"))]
    pub memory_bytes: ByteSize,
    /// Time that one call of a decoder may take.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1m"))]
    pub call_timeout: HumanDuration,
    /// Segments handed over in one call, at most.
    #[schemars(range(min = 1, max = 65_536))]
    pub batch_entries: u32,
    /// Payload handed over in one call, at most.
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "16MiB"))]
    pub batch_bytes: ByteSize,
    /// Connections of one decoder instance. 1 isolates them wholly from each other, for three times the CPU time and more; there
    /// are at most 256 instances, and beyond those connections share the instance that has the fewest.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub connections_per_instance: u32,
    /// Exchanges that one call of a decoder may report. More are a failure, and none of them is taken.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub exchanges_per_call: u32,
    /// How many failures in a row, with no batch between them that it took whole, a decoder may have. With one more it is
    /// set aside and its connections are ignored: for one second, then twice as long each time, up to five minutes, in
    /// the time of the packets.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub failures_allowed: u32,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder {
            memory_bytes: ByteSize(64 << 20),
            call_timeout: HumanDuration(Duration::from_millis(100)),
            batch_entries: 512,
            batch_bytes: ByteSize(64 << 10),
            connections_per_instance: 65_536,
            exchanges_per_call: 65_536,
            failures_allowed: 3,
        }
    }
}
