//! `cargo xtask sanitize`: tests under tools that see what a wrong access to memory does before it does harm. They take a
//! nightly compiler, so that this is no part of `cargo xtask test`.
//!
//! - [Miri] interprets the tests of the stream engine, and finds undefined behaviour in it and in what it uses.
//! - [AddressSanitizer] watches the heap and the stack of the tests that reach libraries in C (librdkafka, zstd, libpcap) and
//!   compiled decoders. What cargo compiles of C is watched as well; what comes from the system is so where it calls libc.
//!
//! [Miri]: https://github.com/rust-lang/miri
//! [AddressSanitizer]: https://clang.llvm.org/docs/AddressSanitizer.html

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{plugins, process, setup, workspace};

/// Which tool.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One of them; both when none is named
    tool: Option<Tool>,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Tool {
    /// The stream engine under Miri
    Miri,
    /// What reaches libraries in C under AddressSanitizer
    Address,
}

/// Runs the tests; an error when one fails, or a tool finds something.
pub(crate) fn run(args: &Args) -> Result<()> {
    let wanted = |tool| args.tool.is_none_or(|only| only == tool);
    if wanted(Tool::Miri) {
        miri()?;
    }
    if wanted(Tool::Address) {
        address()?;
    }
    Ok(())
}

fn nightly(arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    // That of the caller is for its own toolchain.
    cargo.current_dir(workspace::root()).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").arg("+nightly");
    cargo.args(arguments);
    cargo
}

fn miri() -> Result<()> {
    let installed = process::captured(&mut nightly(&["miri", "--version"]));
    ensure!(
        installed.is_ok_and(|output| output.status.success()),
        "no Miri: `rustup toolchain install nightly --component miri,rust-src`"
    );
    let mut cargo = nightly(&["miri", "test", "--package", "podtap-stream", "--lib", "--test", "stream"]);
    // It is some thousand times slower. Files are where proptest keeps what has failed.
    cargo.env("PROPTEST_CASES", "2").env("MIRIFLAGS", "-Zmiri-disable-isolation");
    process::run(cargo.env("CARGO_TARGET_DIR", workspace::target().join("miri")))
}

/// Tests of podtap that go through C: capture files, events to Kafka and back, decoders from the cache.
const TESTS_THROUGH_C: [&str; 8] =
    ["bad_input", "captures", "golden", "plugin_files", "publish", "publish_kafka", "read", "sandbox"];

fn address() -> Result<()> {
    let version = process::captured(&mut nightly(&["--version"]));
    ensure!(
        version.is_ok_and(|output| output.status.success()),
        "no nightly compiler: `rustup toolchain install nightly`"
    );
    const NO_CLANG: &str = "no clang with AddressSanitizer: on Debian, `apt install clang libclang-rt-dev`";
    let clang = process::find("clang").context(NO_CLANG)?;
    let runtime = format!("-print-file-name=libclang_rt.asan-{}.a", std::env::consts::ARCH);
    // A name that is not found comes back as it is.
    let runtime = process::output(Command::new(&clang).arg(runtime))?;
    ensure!(Path::new(runtime.trim()).is_absolute(), NO_CLANG);
    setup::run(setup::Args::default())?;
    plugins::run(plugins::Args::default())?;
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = workspace::target().join("address");
    // Tests look for decoders beside podtap's executable.
    let beside = folder.join(&target).join("debug");
    fs::create_dir_all(&beside)?;
    for plugins in ["plugins", "test-plugins", "example-plugins"] {
        let (from, to) = (workspace::target().join("debug").join(plugins), beside.join(plugins));
        if !to.exists() {
            symlink(&from, &to).with_context(|| format!("cannot make {}", to.display()))?;
        }
    }
    let mut cargo = nightly(&["test", "--workspace", "--no-fail-fast", "--target", &target, "--lib"]);
    for test in TESTS_THROUGH_C {
        cargo.args(["--test", test]);
    }
    // With a target, these are not for what is run while compiling.
    cargo.env("RUSTFLAGS", "-Zsanitizer=address").env("CC", clang);
    // The variables that librdkafka's own configuration knows, which links programs to see what there is.
    cargo.env("CFLAGS", "-fsanitize=address -fno-omit-frame-pointer").env("LDFLAGS", "-fsanitize=address");
    // Wasmtime takes the signals of its guests. What is held at the end is no leak that matters: caches for the whole run.
    cargo.env("ASAN_OPTIONS", "detect_leaks=0:handle_segv=0:handle_sigfpe=0:handle_sigill=0:allow_user_segv_handler=1");
    process::run(cargo.env("CARGO_TARGET_DIR", folder))
}
