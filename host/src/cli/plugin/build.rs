//! `podtap plugin build`: a crate to a component, and how large it is. Installs nothing.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use podtap_toolchain::{TARGET, Toolchain, component};

use crate::cli::print;
use crate::publish::Printable;

/// What a Kubernetes ConfigMap may hold, all its files together.
const CONFIG_MAP_BYTES: usize = 1 << 20;

/// zstd's strongest usual level: a decoder is packed once, and unpacked as fast at any level.
const ZSTD_LEVEL: i32 = 19;

/// Builds the crate of a folder and gives the component's file.
pub(super) fn build(folder: &Path) -> anyhow::Result<PathBuf> {
    if !folder.join("Cargo.toml").is_file() {
        bail!(
            "{}: no Cargo.toml: go to a decoder's crate, or make one with `podtap plugin new NAME`",
            folder.display()
        );
    }
    let Some(toolchain) = Toolchain::find()? else {
        bail!(
            "no compiler for {TARGET}: run `rustup target add {TARGET}`, or on Debian and Ubuntu `apt-get install \
             rustc-web rust-web-src lld`"
        );
    };
    let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| folder.join("target"), PathBuf::from);
    let target = std::env::current_dir()?.join(target).join("guest");
    let in_folder = || folder.display().to_string();
    let compiled = toolchain.compile(&folder, &target, &[]).with_context(in_folder)?;
    let manifest = folder.join("Cargo.toml");
    let Some(module) = compiled.iter().find(|module| module.manifest == manifest) else {
        bail!("{}: gives no module: set `crate-type = [\"cdylib\", \"rlib\"]` below [lib]", manifest.display());
    };
    let made = component(&module.path).with_context(|| format!("{}: no component comes of it", folder.display()))?;
    let name = module.name.strip_prefix("podtap-").unwrap_or(&module.name);
    let file = folder.join(name).with_extension("wasm");
    // Whole or not at all: a running podtap may be looking.
    let new = file.with_extension("wasm.new");
    std::fs::write(&new, &made)
        .and_then(|()| std::fs::rename(&new, &file))
        .with_context(|| file.display().to_string())?;
    print(&sizes(&file, &made)?)?;
    Ok(file)
}

fn sizes(file: &Path, component: &[u8]) -> anyhow::Result<String> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(component)?;
    let gzip = gzip.finish()?.len();
    let mut packed = Vec::with_capacity(zstd_safe::compress_bound(component.len()));
    let zstd = zstd_safe::compress(&mut packed, component, ZSTD_LEVEL)
        .map_err(|code| anyhow::anyhow!("zstd: {}", zstd_safe::get_error_name(code)))?;
    let plain = component.len();
    let fits = match [plain, gzip.min(zstd)].map(|bytes| bytes <= CONFIG_MAP_BYTES) {
        [true, _] => "fits a ConfigMap (1 MiB)",
        [_, true] => "fits a ConfigMap (1 MiB) when packed with gzip or zstd",
        _ => "does not fit a ConfigMap (1 MiB): mount it from an image or a volume",
    };
    let mut out = String::new();
    writeln!(out, "{}", Printable(&file.to_string_lossy()))?;
    writeln!(out, "{plain} bytes, gzip {gzip}, zstd {zstd}; {fits}")?;
    Ok(out)
}
