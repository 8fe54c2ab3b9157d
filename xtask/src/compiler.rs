//! Tests, lints and fuzz targets are compiled over the release build's dependencies: those are compiled once, which is most of
//! the time from a fresh clone, and are as they ship. Only the workspace's own crates get other flags, from a compiler that
//! cargo calls as its [`rustc-workspace-wrapper`].
//!
//! [`rustc-workspace-wrapper`]: https://doc.rust-lang.org/cargo/reference/config.html#buildrustc-workspace-wrapper

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace;

/// As cargo's profile for tests: compiled soon, with arithmetic checked.
pub(crate) const CHECKED: &str = "-Copt-level=0 -Ccodegen-units=256 -Cdebug-assertions -Coverflow-checks";

/// `cargo SUBCOMMAND --workspace --release` with the compiler, or `driver` as the compiler, that is given these flags too.
///
/// Of the workspace as a whole, for the features of dependencies.
pub(crate) fn cargo(subcommand: &str, driver: Option<&Path>, flags: &str) -> Result<Command> {
    // Told by no variable: tests compile crates of others.
    let wrapper = format!("build.rustc-workspace-wrapper={:?}", wrapper(driver, flags)?);
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args(["--config", &wrapper, subcommand, "--workspace", "--release"]);
    Ok(cargo)
}

/// A program that adds flags to a call of the compiler. Cargo tells wrappers by their path, so that one with other flags has
/// another name.
fn wrapper(driver: Option<&Path>, flags: &str) -> Result<String> {
    let driver = driver.map(|driver| format!("{:?} ", driver.display().to_string())).unwrap_or_default();
    let script = format!("#!/bin/sh\nexec {driver}\"$@\" {flags}\n");
    let mut hasher = DefaultHasher::new();
    script.hash(&mut hasher);
    let folder = workspace::target().join("compiler");
    let file = folder.join(format!("{:016x}", hasher.finish()));
    if !file.exists() {
        fs::create_dir_all(&folder)?;
        let new = file.with_extension("new");
        fs::write(&new, script)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        fs::rename(&new, &file)?;
    }
    file.into_os_string().into_string().ok().context("the path of the target folder is not in UTF-8")
}
