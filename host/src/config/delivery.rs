//! How long events wait for their outputs.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{ByteSize, HumanDuration};

/// How long events wait for their outputs, and what happens when they cannot wait any longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Delivery {
    /// Events that wait in memory for an output, each output for itself. Less by default where podtap's memory is limited,
    /// see limits.md.
    #[schemars(extend("x-minimum" = "1MiB", "x-maximum" = "16GiB"))]
    pub queue_bytes: ByteSize,
    /// What happens when an output does not keep up and its queue is full. `recorded`: reading waits, as nothing is lost by
    /// that, and after `kafka.timeout` podtap gives up. `live`: reading never waits; the oldest events of the queue are
    /// dropped and counted, and podtap goes on whatever Kafka does. `auto`: `recorded` where all input is files, `live`
    /// where it is a pipe or an interface. Set `recorded` for a pipe that can wait, such as one from `zcat`.
    pub traffic: TrafficChoice,
    /// How long podtap may take to end after SIGTERM or SIGINT: what was read is published within this time. A second
    /// signal ends it at once.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "1h"))]
    pub shutdown_grace: HumanDuration,
}

impl Default for Delivery {
    fn default() -> Delivery {
        Delivery {
            queue_bytes: ByteSize(16 << 20),
            traffic: TrafficChoice::Auto,
            shutdown_grace: HumanDuration(Duration::from_secs(10)),
        }
    }
}

/// Whether whoever sends packets can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrafficChoice {
    /// By the kind of input.
    Auto,
    /// It can.
    Recorded,
    /// It cannot.
    Live,
}
