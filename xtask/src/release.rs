//! The release build of podtap with its plugins, which the demo, the end-to-end checks and the benchmark run.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{plugins, process, workspace};

/// Brings the release build up to date; returns the executable.
pub(crate) fn build() -> Result<PathBuf> {
    build_with(&[])
}

/// The same, and other targets of the workspace, as cargo's flags name them.
///
/// Of the workspace as a whole: with `--package`, cargo chooses other features of what all have in common, and compiles all
/// that needs them anew, which is most of Wasmtime.
pub(crate) fn build_with(targets: &[&str]) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args(["build", "--release", "--workspace", "--bin", "podtap"]);
    process::run(cargo.args(targets))?;
    plugins::run(plugins::Args::default())?;
    Ok(workspace::target().join("release/podtap"))
}

/// A command that runs `program`, podtap, with none of the caller's environment that configures podtap.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PODTAP_") {
            command.env_remove(name);
        }
    }
    command
}
