//! Which decoder a connection is given to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::ByteSize;

/// Which decoder a connection is given to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Detection {
    /// For a server port, the name of the decoder of all its connections. Other connections are recognised by their
    /// first bytes.
    pub ports: BTreeMap<u16, String>,
    /// How much of the beginning of a connection is kept while no decoder has recognised it.
    #[schemars(extend("x-minimum" = "64", "x-maximum" = "64KiB"))]
    pub head_bytes: ByteSize,
}

impl Default for Detection {
    fn default() -> Detection {
        Detection { ports: BTreeMap::new(), head_bytes: ByteSize(4096) }
    }
}
