//! Where decoders come from, and what they are told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::ByteSize;

/// Where decoders come from, and what they are told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Plugins {
    /// Directories with decoders (`.wasm`, or packed: `.wasm.gz`, `.wasm.zst`), searched after `plugins` beside the program and `/usr/lib/podtap/plugins`.
    /// Of two decoders with the same name, the one found later is used.
    pub directories: Vec<PathBuf>,
    /// For a decoder's name, its own configuration. What may stand there is in that decoder's documentation.
    pub config: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
    /// Whether compiled decoders are kept in `podtap` below `$XDG_CACHE_HOME` or `~/.cache`, so that podtap starts faster
    /// the next time. A folder that others can write to is never used.
    pub cache: bool,
    /// How long a decoder's file may be, and what it unpacks to.
    #[schemars(extend("x-minimum" = "4KiB", "x-maximum" = "1GiB"))]
    pub max_bytes: ByteSize,
}

impl Default for Plugins {
    fn default() -> Plugins {
        Plugins { directories: Vec::new(), config: BTreeMap::new(), cache: true, max_bytes: ByteSize(16 << 20) }
    }
}
