//! `cargo xtask plugins`: compiles every crate in plugins/ to WebAssembly, makes a component of it and puts it where
//! podtap looks first: `plugins/` beside its executable. The decoders that tests need (host/tests/guests/) go to
//! `test-plugins/` beside it, those that measure the SDK (sdk/benches/) to `bench-plugins/`, where podtap does not look by
//! itself.

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
    let profiles = [("debug", !args.release), ("release", !args.debug)];
    let profiles = || profiles.into_iter().filter(|&(_, wanted)| wanted).map(|(profile, _)| profile);
    let packages = packages()?;
    if packages.is_empty() {
        bail!("no crate in plugins/");
    }
    let toolchain = Toolchain::require()?;
    for (package, module) in compile(&toolchain, &packages)? {
        let name = package.name.strip_prefix("podtap-").unwrap_or(&package.name);
        let component = component(&module).with_context(|| format!("{name}: no component comes of it"))?;
        for profile in profiles() {
            let file = workspace::target().join(profile).join(package.folder).join(name).with_extension("wasm");
            if write_changed(&file, &component)? {
                let size = component.len().div_ceil(1024);
                println!("{} ({size} KiB, by {})", workspace::short(&file), toolchain.describe());
            }
        }
    }
    Ok(())
}

/// A guest of the workspace.
struct Package {
    name: String,
    /// The folder beside podtap's executable that its component goes to.
    folder: &'static str,
}

/// The folder that a package's component goes to; none for what is no guest.
fn folder(manifest: &Path) -> Option<&'static str> {
    let manifest = manifest.strip_prefix(workspace::root()).ok()?;
    [("plugins", "plugins"), ("host/tests/guests", "test-plugins"), ("sdk/benches", "bench-plugins")]
        .into_iter()
        .find_map(|(sources, folder)| manifest.starts_with(sources).then_some(folder))
}

/// The workspace's guests.
fn packages() -> Result<Vec<Package>> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args(["metadata", "--no-deps", "--format-version=1"]);
    let metadata: Value = serde_json::from_str(&process::output(&mut cargo)?)?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    Ok(packages
        .iter()
        .filter_map(|package| {
            let folder = folder(Path::new(package["manifest_path"].as_str()?))?;
            Some(Package { name: package["name"].as_str()?.to_owned(), folder })
        })
        .collect())
}

/// Compiles the packages; returns each with its core module.
fn compile(toolchain: &Toolchain, packages: &[Package]) -> Result<Vec<(Package, PathBuf)>> {
    let mut cargo = toolchain.cargo_build();
    cargo.args(["--quiet", "--lib", "--message-format=json-render-diagnostics"]);
    for package in packages {
        cargo.args(["--package", &package.name]);
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
        if let (Some(module), Some(folder)) = (module, folder(Path::new(manifest))) {
            let name = message["target"]["name"].as_str().context("cargo names no target")?;
            modules.push((Package { name: name.replace('_', "-"), folder }, PathBuf::from(module)));
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
pub(crate) fn component(module: &Path) -> Result<Vec<u8>> {
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
