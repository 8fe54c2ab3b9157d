//! The one place that decides how guests are compiled to WebAssembly.
//!
//! Rust's wasm32-unknown-unknown target as rustup installs it is all that is needed. Where rustup cannot fetch targets
//! (behind a mirror, on a build farm), Debian's `rustc-web` compiles, with the standard library built from
//! `rust-web-src`: cargo's own `-Zbuild-std`, which a stable cargo allows under `RUSTC_BOOTSTRAP`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{process, workspace};

/// The target that guests are compiled for. No WASI: a guest imports what the WIT world gives, and nothing else.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// What compiles guests.
pub(crate) enum Toolchain {
    /// The current toolchain has the target installed.
    Installed,
    /// Debian's rustc with the standard library from source.
    Debian { linker: PathBuf },
}

impl Toolchain {
    /// Chooses from what is installed; `None` when nothing is.
    pub(crate) fn find() -> Result<Option<Self>> {
        let sysroot = sysroot()?;
        if sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
            return Ok(Some(Self::Installed));
        }
        let debian = Path::new("/usr/lib/rustlib/src/rust/library/std/Cargo.toml").is_file()
            && Path::new(DEBIAN_RUSTC).is_file();
        Ok(linker(&sysroot)?.filter(|_| debian).map(|linker| Self::Debian { linker }))
    }

    /// As `find`; an error that says what to do when nothing is installed.
    pub(crate) fn require() -> Result<Self> {
        match Self::find()? {
            Some(toolchain) => Ok(toolchain),
            None => bail!("no compiler for {TARGET}: `cargo xtask setup` installs one"),
        }
    }

    /// Whether there is a linker, so that Debian's packages need bring none.
    pub(crate) fn has_linker() -> Result<bool> {
        Ok(linker(&sysroot()?)?.is_some())
    }

    /// One line for people.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::Installed => "the Rust toolchain's own wasm32-unknown-unknown",
            Self::Debian { .. } => "Debian's rustc-web, standard library from rust-web-src",
        }
    }

    /// `cargo build` for guests: target, profile and flags are set, packages are left to the caller.
    pub(crate) fn cargo_build(&self) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(workspace::root());
        cargo.args(["build", "--target", TARGET, "--profile", "guest"]);
        // Apart from the host's builds: neither waits for the other, nor throws out what the other made.
        cargo.env("CARGO_TARGET_DIR", workspace::target().join("guest"));
        // These would win over the flags for the target.
        cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        let mut flags = String::from("-C target-feature=+simd128");
        if let Self::Debian { linker } = self {
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

fn sysroot() -> Result<PathBuf> {
    Ok(PathBuf::from(process::output(Command::new("rustc").args(["--print", "sysroot"]))?.trim()))
}

/// A linker for WebAssembly: the one that comes with Rust, else LLVM's.
fn linker(sysroot: &Path) -> Result<Option<PathBuf>> {
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let own = sysroot.join("lib/rustlib").join(host).join("bin/rust-lld");
    if own.is_file() {
        return Ok(Some(own));
    }
    Ok(["wasm-ld", "wasm-ld-19"].iter().find_map(|name| process::find(name)))
}
