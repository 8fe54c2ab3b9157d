//! docs/fuzzing.md: what each target promises, and what its runs came to, as docs/fuzzing.json has it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::TARGETS;
use crate::workspace;

/// What the runs of a target came to. Of the corpus and what it covers, as the last run left it.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) cpu_minutes: f64,
    pub(super) executions: u64,
    pub(super) edges_covered: u64,
    pub(super) edges: u64,
    pub(super) corpus: u64,
    /// Inputs in fuzz/regressions/.
    pub(super) findings: u64,
}

/// By target.
type All = BTreeMap<String, Figures>;

fn docs(name: &str) -> PathBuf {
    workspace::root().join("docs").join(name)
}

fn known() -> Result<All> {
    let path = docs("fuzzing.json");
    if !path.exists() {
        return Ok(All::new());
    }
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// Adds a run to those before, or puts it in their place, and makes the page anew.
pub(super) fn add(target: &str, mut figures: Figures, anew: bool) -> Result<()> {
    let mut all = known()?;
    if let Some(before) = all.get(target)
        && !anew
    {
        figures.cpu_minutes += before.cpu_minutes;
        figures.executions += before.executions;
    }
    figures.cpu_minutes = (figures.cpu_minutes * 10.0).round() / 10.0;
    all.insert(target.to_owned(), figures);
    fs::write(docs("fuzzing.json"), serde_json::to_string_pretty(&all)? + "\n")?;
    fs::write(docs("fuzzing.md"), page(&all))?;
    Ok(())
}

fn page(all: &All) -> String {
    let mut page = "\
<!-- Made from xtask/src/fuzz.rs and docs/fuzzing.json; `cargo xtask fuzz --write` writes it anew. -->

# Fuzzing

Traffic, files, decoders, configurations and filters come from others. `cargo xtask fuzz` searches for inputs that break
podtap, with [libFuzzer](https://llvm.org/docs/LibFuzzer.html): it changes inputs at random and keeps those that reach
code that none reached before. Each target is a function in `fuzz/src` that takes any bytes and panics where a promise is
broken. An input that broke one is kept in `fuzz/regressions/`, and `cargo test` runs it from then on.

## What each target promises

"
    .to_owned();
    for target in &TARGETS {
        page += &format!("- **{}**: {}\n", target.name, target.promise);
    }
    page += "
Beside its own promises, none panics, overflows a number, takes ten seconds for an input, or 2 GiB of memory.

## What has been run

Added up over all runs since a target last changed what it tries. Edges are those of podtap's own crates in the target's
program, most of which a target is not meant to reach; those covered, and the corpus, are as the last run left them.
Findings are the inputs in `fuzz/regressions/`.

| target | CPU time | inputs tried | edges covered | of | corpus | findings |
|---|---:|---:|---:|---:|---:|---:|
";
    for target in &TARGETS {
        let Some(figures) = all.get(target.name) else { continue };
        page += &format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            target.name,
            time(figures.cpu_minutes),
            thousands(figures.executions),
            thousands(figures.edges_covered),
            thousands(figures.edges),
            thousands(figures.corpus),
            figures.findings
        );
    }
    page
}

fn time(minutes: f64) -> String {
    if minutes < 90.0 { format!("{minutes:.0} min") } else { format!("{:.1} h", minutes / 60.0) }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_figures_say() {
        let all = known().unwrap();
        let unknown: Vec<_> = all.keys().filter(|name| !TARGETS.iter().any(|target| target.name == **name)).collect();
        assert!(unknown.is_empty(), "docs/fuzzing.json: no targets: {unknown:?}");
        if std::env::var_os("PODTAP_UPDATE_DOCS").is_some() {
            fs::write(docs("fuzzing.md"), page(&all)).unwrap();
        }
        let found = fs::read_to_string(docs("fuzzing.md")).unwrap_or_default();
        assert!(
            found == page(&all),
            "docs/fuzzing.md is not what docs/fuzzing.json says; `PODTAP_UPDATE_DOCS=1 cargo test -p xtask` writes it anew"
        );
    }

    #[test]
    fn figures_are_shown_for_people() {
        assert_eq!([0, 999, 1000, 12_345_678].map(thousands), ["0", "999", "1,000", "12,345,678"]);
        assert_eq!([0.4, 89.4, 90.0].map(time), ["0 min", "89 min", "1.5 h"]);
    }
}
