//! Where decoders come from, and what they are told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where decoders come from, and what they are told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Plugins {
    /// Directories with decoders (`.wasm`), searched after `plugins` beside the program and `/usr/lib/podtap/plugins`.
    /// Of two decoders with the same name, the one found later is used.
    pub directories: Vec<PathBuf>,
    /// For a decoder's name, its own configuration. What may stand there is in that decoder's documentation.
    pub config: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
}
