//! Where things are: the project's root and what lies in its target folder.

use std::path::{Path, PathBuf};

/// The project's root.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask/ lies in the project's root")
}

/// The target folder: `CARGO_TARGET_DIR` where set (relative to the root), else `target/`.
pub(crate) fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Captures that ship with the HTTP decoder.
pub(crate) fn http_captures() -> PathBuf {
    root().join("plugins/http/tests/captures")
}

/// The path as seen from the root where it lies below, for messages.
pub(crate) fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
