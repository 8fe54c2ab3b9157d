//! `cargo xtask bench instructions`: how many instructions an exchange takes, from a capture file to its event, with the
//! decoder in its sandbox; and whether that has become more.
//!
//! Valgrind's callgrind counts them, the same for every run to some millionths, whatever else the machine does. So this is what
//! a change is judged by in `cargo xtask test`; how long they take is for `cargo xtask bench`. The figures to compare with
//! hold for the compilers that they were made with: with others, nothing is compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use podtap_toolchain::Toolchain;
use serde::{Deserialize, Serialize};

use crate::{process, release, workspace};

/// Programs that it needs.
pub(crate) const PROGRAMS: [&str; 1] = ["valgrind"];

/// Whether to keep the result.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Write the figures to docs/benchmarks/instructions.json, to compare with from now on
    #[arg(long)]
    write: bool,
}

/// Captures that are replayed: a decoder, and a capture in its folder.
const CAPTURES: [(&str, &str); 4] =
    [("http", "nginx-tour"), ("http", "chromium-tour"), ("mysql", "tour"), ("mongodb", "pymongo-plain")];

/// Rounds that are counted.
const ROUNDS: u64 = 5;

/// What is more by so many percent, is too much.
const TOLERATED_PERCENT: f64 = 5.0;

/// What is compared with.
#[derive(Serialize, Deserialize)]
struct Figures {
    /// Of host and guests.
    compilers: String,
    /// For each capture, of one exchange.
    instructions: BTreeMap<String, u64>,
}

fn path() -> PathBuf {
    workspace::root().join("docs/benchmarks/instructions.json")
}

fn known() -> Result<Figures> {
    let path = path();
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn compilers() -> Result<String> {
    let host = process::output(Command::new("rustc").arg("--version"))?;
    let guest = Toolchain::find()?.context("no compiler for guests: `cargo xtask setup` installs one")?;
    Ok(format!("{}, guests by {}, {}", host.trim(), guest.describe(), std::env::consts::ARCH))
}

/// Why there is nothing to compare with, beside programs that are missing.
pub(crate) fn unavailable() -> Option<String> {
    let compared = || -> Result<Option<String>> {
        let (known, here) = (known()?.compilers, compilers()?);
        Ok((known != here).then(|| format!("its figures are of {known}; here is {here}")))
    };
    compared().unwrap_or_else(|error| Some(format!("{error:#}")))
}

/// Counts, prints, and compares.
pub(crate) fn run(args: &Args) -> Result<()> {
    release::build_with(&["--bin", "podtap-replays"])?;
    let mut instructions = BTreeMap::new();
    for (decoder, capture) in CAPTURES {
        let each = count(decoder, capture)?;
        instructions.insert(format!("{decoder}, {capture}"), each);
    }
    let figures = Figures { compilers: compilers()?, instructions };
    if args.write {
        fs::write(path(), format!("{}\n", serde_json::to_string_pretty(&figures)?))?;
        println!("written: {}", workspace::short(&path()));
        return Ok(());
    }
    let known = known()?;
    ensure!(
        known.compilers == figures.compilers,
        "the figures are of {}; here is {}",
        known.compilers,
        figures.compilers
    );
    let mut more = Vec::new();
    for (name, &each) in &figures.instructions {
        let before = *known.instructions.get(name).with_context(|| format!("{name} is not in {}", path().display()))?;
        let percent = 100.0 * (each as f64 / before as f64 - 1.0);
        println!("instructions, {name}: {each} an exchange, {percent:+.2} % against {before}");
        if percent > TOLERATED_PERCENT {
            more.push(format!("{name} {percent:+.1} %"));
        }
    }
    if !more.is_empty() {
        bail!(
            "an exchange takes more than {TOLERATED_PERCENT} % more instructions: {}; where that is meant: `cargo xtask bench \
             instructions --write`",
            more.join(", ")
        );
    }
    Ok(())
}

/// Instructions for an exchange of a capture.
fn count(decoder: &str, capture: &str) -> Result<u64> {
    let release = workspace::target().join("release");
    let folder = workspace::root().join("plugins").join(decoder).join("tests/captures");
    let mut valgrind = release::command("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"]);
    valgrind.arg("--toggle-collect=*counted_rounds*").arg(release.join("podtap-replays"));
    valgrind.arg(release.join("plugins").join(decoder).with_extension("wasm"));
    valgrind.arg(folder.join(capture).with_extension("pcap")).arg(ROUNDS.to_string());
    let output = process::captured(&mut valgrind)?;
    let (said, counts) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}: {counts}", process::line(&valgrind));
    let exchanges = said.split_whitespace().next().unwrap_or_default();
    let exchanges: u64 = exchanges.parse().with_context(|| format!("podtap-replays says {said}"))?;
    let collected = counts.lines().find_map(|line| line.split_once("Collected : "));
    let (_, collected) = collected.with_context(|| format!("callgrind does not count: {counts}"))?;
    Ok(collected.trim().parse::<u64>()? / ROUNDS / exchanges)
}
