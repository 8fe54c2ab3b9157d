//! Live capture.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{ByteSize, HumanDuration};

/// Where `podtap run` captures, and how. Capture files have nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capture {
    /// Network interfaces; `any` is all there are, those that come later too. Several by name are read in turns, not in
    /// order of time: where the directions of a connection go by different ones, use `any`.
    pub interfaces: Vec<String>,
    /// Capture only packets that match, in libpcap's filter language (pcap-filter(7)); empty: all. The kernel decides, so
    /// that what does not match costs little. podtap's own connections are left out in any case.
    pub filter: String,
    /// Bytes kept of a packet. Less than a packet has is a gap in its connection.
    #[schemars(range(min = 96, max = 262_144))]
    pub snaplen: u32,
    /// Capture what is not addressed to this host too, as on a mirror port.
    pub promiscuous: bool,
    /// Memory in which the kernel keeps packets until podtap reads them, for each interface. What does not fit is dropped
    /// and counted.
    #[schemars(extend("x-minimum" = "256KiB", "x-maximum" = "1GiB"))]
    pub buffer_bytes: ByteSize,
    /// Threads that read, reassemble and decode. The kernel spreads connections over them by their ends (PACKET_FANOUT), so
    /// that each is seen whole by one of them; but not the connections inside of VXLAN and Geneve, which take 1. More than
    /// one are for traffic that takes more than one core; memory that is bounded for all connections, and `buffer_bytes`, is
    /// divided between them.
    #[schemars(range(min = 1, max = 16))]
    pub workers: u32,
    /// How long the kernel may hold packets back to hand over many at once; 0s: each at once, which costs more.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "10s"))]
    pub batch_timeout: HumanDuration,
    /// CPU time that a worker may take for capturing and decoding, in percent of a core. Beyond, and where the kernel drops packets,
    /// only a part of the new connections is decoded, each wholly or not at all, until there is room again.
    #[schemars(range(min = 1, max = 100))]
    pub max_cpu_percent: u32,
}

/// The least that `buffer_bytes` may be.
const LEAST_BUFFER_BYTES: u64 = 256 << 10;

impl Capture {
    /// Of the buffer of an interface, the part of each worker.
    pub fn buffer_bytes_of_each(&self) -> u64 {
        (self.buffer_bytes.0 / u64::from(self.workers.max(1))).max(LEAST_BUFFER_BYTES)
    }
}

impl Default for Capture {
    fn default() -> Capture {
        Capture {
            interfaces: vec!["any".to_owned()],
            filter: String::new(),
            snaplen: 262_144,
            promiscuous: false,
            buffer_bytes: ByteSize(16 << 20),
            workers: 1,
            batch_timeout: HumanDuration(Duration::from_millis(50)),
            max_cpu_percent: 100,
        }
    }
}
