//! The one place that decides how decoders are compiled to WebAssembly: for `cargo xtask plugins`, which makes those of
//! this repository, and for `podtap plugin build`, which makes those of others.
//!
//! In: the folder of a package or workspace. Out: its modules, and components of them. Nothing is installed here.
//!
//! Rust's wasm32-unknown-unknown target as rustup installs it is all that is needed. Where rustup cannot fetch targets
//! (behind a mirror, on a build farm), Debian's `rustc-web` compiles, with the standard library built from
//! `rust-web-src`: cargo's own `-Zbuild-std`, which a stable cargo allows under `RUSTC_BOOTSTRAP`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use wit_component::ComponentEncoder;

/// The target that guests are compiled for. No WASI: a guest imports what the WIT world gives, and nothing else.
pub const TARGET: &str = "wasm32-unknown-unknown";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The profile of guests: speed before size (a decoder is about 45 kB either way). Given on the command line, so that it
/// is the same for every crate, whatever its manifest says.
const PROFILE: [&str; 7] = [
    "profile.guest.inherits=\"release\"",
    "profile.guest.opt-level=3",
    "profile.guest.lto=\"fat\"",
    "profile.guest.codegen-units=1",
    "profile.guest.panic=\"abort\"",
    "profile.guest.debug=false",
    "profile.guest.strip=\"debuginfo\"",
];

/// What compiles guests.
#[derive(Debug)]
pub enum Toolchain {
    /// The current toolchain has the target installed.
    Installed,
    /// Debian's rustc with the standard library from source.
    Debian {
        /// What links.
        linker: PathBuf,
    },
}

/// A compiled library.
#[derive(Debug)]
pub struct Module {
    /// The manifest of its package.
    pub manifest: PathBuf,
    /// Name of the library, with `-` for `_`.
    pub name: String,
    /// The core module.
    pub path: PathBuf,
}

impl Toolchain {
    /// Chooses from what is installed; `None` when nothing is.
    ///
    /// # Errors
    /// When there is no Rust at all.
    pub fn find() -> Result<Option<Toolchain>> {
        let sysroot = sysroot()?;
        if sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
            return Ok(Some(Toolchain::Installed));
        }
        let debian = Path::new("/usr/lib/rustlib/src/rust/library/std/Cargo.toml").is_file()
            && Path::new(DEBIAN_RUSTC).is_file();
        Ok(linker(&sysroot)?.filter(|_| debian).map(|linker| Toolchain::Debian { linker }))
    }

    /// Whether there is a linker, so that Debian's packages need bring none.
    ///
    /// # Errors
    /// When there is no Rust at all.
    pub fn has_linker() -> Result<bool> {
        Ok(linker(&sysroot()?)?.is_some())
    }

    /// One line for people.
    pub fn describe(&self) -> &'static str {
        match self {
            Toolchain::Installed => "the Rust toolchain's own wasm32-unknown-unknown",
            Toolchain::Debian { .. } => "Debian's rustc-web, standard library from rust-web-src",
        }
    }

    /// Compiles libraries of the package or workspace in `folder`: all of them, or the `packages` that are named. What
    /// cargo has to say goes to standard error. `target` is apart from the builds of the host: neither waits for the
    /// other, nor throws out what the other made.
    ///
    /// # Errors
    /// When they do not compile.
    pub fn compile(&self, folder: &Path, target: &Path, packages: &[&str]) -> Result<Vec<Module>> {
        let mut cargo = self.cargo_build(folder, target);
        cargo.args(["--quiet", "--lib", "--message-format=json-render-diagnostics"]);
        for package in packages {
            cargo.args(["--package", package]);
        }
        let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
        if !output.status.success() {
            bail!("it does not compile; cargo says above why");
        }
        let mut modules = Vec::new();
        for line in output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let message: Value = serde_json::from_slice(line).context("cargo's messages are no JSON")?;
            let files = message["filenames"].as_array().map(Vec::as_slice).unwrap_or_default();
            let module = files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm"));
            if let Some(module) = module {
                modules.push(Module {
                    manifest: message["manifest_path"].as_str().unwrap_or_default().into(),
                    name: message["target"]["name"].as_str().unwrap_or_default().replace('_', "-"),
                    path: module.into(),
                });
            }
        }
        Ok(modules)
    }

    fn cargo_build(&self, folder: &Path, target: &Path) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(folder);
        cargo.args(["build", "--target", TARGET, "--profile", "guest"]);
        for setting in PROFILE {
            cargo.args(["--config", setting]);
        }
        cargo.env("CARGO_TARGET_DIR", target);
        // These would win over the flags for the target.
        cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        let mut flags = String::from("-C target-feature=+simd128");
        if let Toolchain::Debian { linker } = self {
            cargo.arg("-Zbuild-std=std,panic_abort");
            cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
            if !linker.ends_with("rust-lld") {
                flags.push_str(" -C linker-flavor=wasm-lld");
            }
        }
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", flags);
        cargo
    }
}

/// The core module as a component, checked against the world that its bindings name.
///
/// # Errors
/// When it is no module, or does not export what its world says.
pub fn component(module: &Path) -> Result<Vec<u8>> {
    let module = std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}

fn sysroot() -> Result<PathBuf> {
    Ok(PathBuf::from(rustc(&["--print", "sysroot"])?.trim()))
}

/// A linker for WebAssembly: the one that comes with Rust, else LLVM's.
fn linker(sysroot: &Path) -> Result<Option<PathBuf>> {
    let version = rustc(&["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let own = sysroot.join("lib/rustlib").join(host).join("bin/rust-lld");
    if own.is_file() {
        return Ok(Some(own));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["wasm-ld", "wasm-ld-19"].into_iter();
    Ok(names.flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name))).find(|it| it.is_file()))
}

fn rustc(arguments: &[&str]) -> Result<String> {
    let output = Command::new("rustc").args(arguments).output().context("rustc does not start; install Rust")?;
    if !output.status.success() {
        bail!("rustc {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("rustc wrote no UTF-8")
}
