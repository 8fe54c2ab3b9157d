//! `cargo xtask plugins`: compiles every crate in plugins/ to WebAssembly, makes a component of it and puts it where
//! podtap looks first: `plugins/` beside its executable.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use wit_component::ComponentEncoder;

use crate::toolchain::Toolchain;
use crate::{process, workspace};

/// Beside which of podtap's executables the plugins go.
#[derive(clap::Args, Clone, Copy, Default)]
pub(crate) struct Args {
    /// Only beside the release build
    #[arg(long, conflicts_with = "debug")]
    release: bool,
    /// Only beside the debug build
    #[arg(long)]
    debug: bool,
}

/// Builds all plugins. Guests have a profile of their own, the same beside either build of podtap.
pub(crate) fn run(args: Args) -> Result<()> {
    let folders: Vec<PathBuf> = [("debug", !args.release), ("release", !args.debug)]
        .into_iter()
        .filter(|&(_, wanted)| wanted)
        .map(|(profile, _)| workspace::target().join(profile).join("plugins"))
        .collect();
    let packages = packages()?;
    if packages.is_empty() {
        bail!("no crate in plugins/");
    }
    let toolchain = Toolchain::require()?;
    for (package, module) in compile(&toolchain, &packages)? {
        let name = package.strip_prefix("podtap-").unwrap_or(&package);
        let component = component(&module).with_context(|| format!("plugins/{name}: no component comes of it"))?;
        for folder in &folders {
            let file = folder.join(name).with_extension("wasm");
            if write_changed(&file, &component)? {
                let size = component.len().div_ceil(1024);
                println!("{} ({size} KiB, by {})", workspace::short(&file), toolchain.describe());
            }
        }
    }
    Ok(())
}

/// Names of the workspace's packages that lie in plugins/.
fn packages() -> Result<Vec<String>> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args(["metadata", "--no-deps", "--format-version=1"]);
    let metadata: Value = serde_json::from_str(&process::output(&mut cargo)?)?;
    let folder = workspace::root().join("plugins");
    let packages = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    Ok(packages
        .iter()
        .filter(|package| Path::new(package["manifest_path"].as_str().unwrap_or_default()).starts_with(&folder))
        .filter_map(|package| Some(package["name"].as_str()?.to_owned()))
        .collect())
}

/// Compiles the packages; returns each one's name and core module.
fn compile(toolchain: &Toolchain, packages: &[String]) -> Result<Vec<(String, PathBuf)>> {
    let mut cargo = toolchain.cargo_build();
    cargo.args(["--quiet", "--lib", "--message-format=json-render-diagnostics"]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the plugins do not compile");
    }
    let mut modules = Vec::new();
    for line in output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).context("cargo's messages are no JSON")?;
        let manifest = message["manifest_path"].as_str().unwrap_or_default();
        let files = message["filenames"].as_array().map(Vec::as_slice).unwrap_or_default();
        let module = files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm"));
        if let (Some(module), true) = (module, Path::new(manifest).starts_with(workspace::root().join("plugins"))) {
            let name = message["target"]["name"].as_str().context("cargo names no target")?;
            modules.push((name.replace('_', "-"), PathBuf::from(module)));
        }
    }
    if modules.len() != packages.len() {
        bail!(
            "{} plugins, but {} modules: is `crate-type = [\"cdylib\", \"rlib\"]` set?",
            packages.len(),
            modules.len()
        );
    }
    Ok(modules)
}

/// The core module as a component, checked against the world that its bindings name.
fn component(module: &Path) -> Result<Vec<u8>> {
    let module = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}

/// Writes the file unless it is the same already; whole or not at all, for a running podtap may be looking.
fn write_changed(file: &Path, content: &[u8]) -> Result<bool> {
    if fs::read(file).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    fs::create_dir_all(file.parent().context("a file in the target folder")?)?;
    let new = file.with_extension("wasm.new");
    fs::write(&new, content).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(true)
}
