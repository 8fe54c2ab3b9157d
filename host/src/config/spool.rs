//! Events on disk on their way to Kafka.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{ByteSize, HumanDuration};

/// A directory that keeps events until Kafka has acknowledged them: while the brokers are away, and when podtap ends or is
/// killed. The next run with the same directory sends what is left, with the same ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// The directory, of this podtap alone; it is made where there is none. Not set: events wait in memory only.
    pub directory: Option<PathBuf>,
    /// How large it may become. Beyond it the oldest events are dropped and counted; where files are replayed, reading
    /// waits instead.
    #[schemars(extend("x-minimum" = "2MiB", "x-maximum" = "16384GiB"))]
    pub max_bytes: ByteSize,
    /// Size of one file in it. A file is deleted when Kafka has acknowledged all of its events, so after a kill up to this
    /// much is sent twice.
    #[schemars(extend("x-minimum" = "1MiB", "x-maximum" = "1GiB"))]
    pub segment_bytes: ByteSize,
    /// How often what was written is forced onto the disk; 0s: after each write. What was written survives the end of
    /// podtap in any case; this is for a machine that loses its power.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "1h"))]
    pub fsync_interval: HumanDuration,
}

impl Default for Spool {
    fn default() -> Spool {
        Spool {
            directory: None,
            max_bytes: ByteSize(1 << 30),
            segment_bytes: ByteSize(8 << 20),
            fsync_interval: HumanDuration(Duration::from_secs(1)),
        }
    }
}
