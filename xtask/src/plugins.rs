//! `cargo xtask plugins`: compiles every crate in plugins/ to WebAssembly, makes a component of it and puts it where
//! podtap looks first: `plugins/` beside its executable. The decoders that tests need (host/tests/guests/,
//! sdk/template/, sdk/examples/) go to `test-plugins/` and `example-plugins/` beside it, where podtap does not look by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use podtap_toolchain::{TARGET, Toolchain, component};
use serde_json::Value;

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
    let Some(toolchain) = Toolchain::find()? else {
        bail!("no compiler for {TARGET}: `cargo xtask setup` installs one");
    };
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
    const FOLDERS: [(&str, &str); 4] = [
        ("plugins", "plugins"),
        ("host/tests/guests", "test-plugins"),
        ("sdk/template", "test-plugins"),
        ("sdk/examples", "example-plugins"),
    ];
    FOLDERS.into_iter().find_map(|(sources, folder)| manifest.starts_with(sources).then_some(folder))
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
    let names: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
    let compiled = toolchain.compile(workspace::root(), &workspace::target().join("guest"), &names)?;
    let modules = compiled
        .into_iter()
        .filter_map(|module| Some((Package { name: module.name, folder: folder(&module.manifest)? }, module.path)));
    let modules: Vec<_> = modules.collect();
    if modules.len() != packages.len() {
        bail!(
            "{} plugins, but {} modules: is `crate-type = [\"cdylib\", \"rlib\"]` set?",
            packages.len(),
            modules.len()
        );
    }
    Ok(modules)
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
