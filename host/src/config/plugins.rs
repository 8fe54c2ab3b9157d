//! Where decoders come from, and what they are told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::units::{ByteSize, HumanDuration};

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
    /// How often the directories are looked into for decoders that have changed, beside every time that the system says
    /// so; 0s: never, nor then. Only where packets come as they are captured: files are replayed with the decoders that
    /// were there at the start. Connections finish with the version that has them.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "1d"))]
    pub reload_interval: HumanDuration,
    /// How long a decoder's file may be, and what it unpacks to.
    #[schemars(extend("x-minimum" = "4KiB", "x-maximum" = "1GiB"))]
    pub max_bytes: ByteSize,
    /// For the name of a decoder's file (`http.wasm`, also where it is packed as `http.wasm.gz`), the SHA-256 digest of its
    /// component, as `podtap plugin list` prints it. A file of that name with another digest is not used. A component that
    /// has the digest of any pin may have another name.
    pub pins: BTreeMap<String, Digest>,
    /// Whether only decoders are used whose digest is pinned, those beside the program included. Others are not even
    /// compiled.
    pub require_pins: bool,
}

impl Plugins {
    /// What is wrong with the names of pins: one line each, for `plugins.pins`.
    pub(super) fn pin_problems(&self) -> impl Iterator<Item = String> {
        let is_name = |name: &str| {
            let plain = [".gz", ".zst"].iter().find_map(|packed| name.strip_suffix(packed)).unwrap_or(name);
            plain.ends_with(".wasm") && !name.starts_with('.') && !name.contains('/')
        };
        self.pins.keys().filter(move |name| !is_name(name)).map(|name| {
            format!("{name:?} is no name of a decoder's file: write it as in http.wasm, without the directory")
        })
    }
}

impl Default for Plugins {
    fn default() -> Plugins {
        Plugins {
            directories: Vec::new(),
            config: BTreeMap::new(),
            cache: true,
            reload_interval: HumanDuration(Duration::from_secs(10)),
            max_bytes: ByteSize(16 << 20),
            pins: BTreeMap::new(),
            require_pins: false,
        }
    }
}
