//! Which decoder a connection is given to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use super::units::ByteSize;

/// Which decoder a connection is given to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Detection {
    /// For a server port, the name of the decoder of all its connections. Other connections are recognised by their
    /// first bytes.
    #[serde(deserialize_with = "ports")]
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

/// Keys are read here, so that a bad one is named.
fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u16, String>, D::Error> {
    let entries = BTreeMap::<String, String>::deserialize(deserializer)?;
    let entry = |(port, decoder): (String, String)| match port.parse() {
        Ok(1..) if decoder.is_empty() => {
            Err(D::Error::custom(format!("port {port}: the name of a decoder is missing")))
        }
        Ok(number @ 1..) => Ok((number, decoder)),
        _ => Err(D::Error::custom(format!("{port:?} is no port: allowed are 1 to 65535"))),
    };
    entries.into_iter().map(entry).collect()
}
