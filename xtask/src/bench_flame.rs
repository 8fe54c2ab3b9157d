//! `cargo xtask bench flame`: where the instructions of an exchange go, as a flame graph.
//!
//! Valgrind's callgrind counts them, see `bench_instructions`, and who calls whom; functions of a decoder are named by
//! Wasmtime. It keeps no whole stacks: what a function takes is divided among its callers as they called it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use inferno::flamegraph::{self, Options};

use crate::{process, release, workspace};

/// What to look at.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of the stock decoder
    #[arg(long, default_value = "http")]
    decoder: String,
    /// A capture in the folder of its tests
    #[arg(long, default_value = "nginx-tour")]
    capture: String,
    /// Where to write the drawing
    #[arg(long, default_value = "docs/images/flame.svg")]
    output: String,
}

/// Rounds that are counted.
const ROUNDS: u64 = 3;
/// What is less than this part of the whole is drawn with others, as `...`.
const LEAST: f64 = 0.001;
/// Recursion ends here.
const DEEPEST: usize = 60;
/// The function in which all is counted.
const ROOT: &str = "counted_rounds";

/// Counts and draws.
pub(crate) fn run(args: &Args) -> Result<()> {
    release::build_with(&["--bin", "podtap-replays"])?;
    let release = workspace::target().join("release");
    let captures = workspace::root().join("plugins").join(&args.decoder).join("tests/captures");
    let counts = workspace::target().join("bench/callgrind.out");
    fs::create_dir_all(workspace::target().join("bench"))?;
    let mut valgrind = release::command("valgrind");
    valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", counts.display()));
    valgrind.args(["--collect-atstart=no", "--toggle-collect=*counted_rounds*", "--compress-strings=no"]);
    valgrind.args(["--compress-pos=no"]).arg(release.join("podtap-replays"));
    valgrind.arg(release.join("plugins").join(&args.decoder).with_extension("wasm"));
    valgrind.arg(captures.join(&args.capture).with_extension("pcap")).args([&ROUNDS.to_string(), "named"]);
    let output = process::captured(&mut valgrind)?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut words = said.split_whitespace();
    let exchanges: u64 = words.next().and_then(|word| word.parse().ok()).context("podtap-replays says nothing")?;
    let map = words.next().context("podtap-replays does not tell its process")?;
    let map = Path::new("/tmp").join(format!("perf-{map}.map"));
    let names = Names::parse(&fs::read_to_string(&map).with_context(|| map.display().to_string())?);
    let graph = Graph::parse(&fs::read_to_string(&counts)?, &names)?;
    fs::remove_file(map)?;

    let divisor = (ROUNDS * exchanges) as f64;
    let stacks = graph.stacks(divisor)?;
    let mut options = Options::default();
    options.title = format!("{} instructions of an exchange ({}, {})", total(&stacks), args.decoder, args.capture);
    options.count_name = "instructions".to_owned();
    options.deterministic = true;
    options.image_width = Some(1200);
    let to = workspace::root().join(&args.output);
    let file = BufWriter::new(File::create(&to).with_context(|| to.display().to_string())?);
    flamegraph::from_lines(&mut options, stacks.iter().map(String::as_str), file)?;
    println!("written: {}", workspace::short(&to));
    Ok(())
}

/// Sum of the numbers at the ends of lines.
fn total(stacks: &[String]) -> u64 {
    stacks.iter().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

/// Functions that Wasmtime compiled: first address, length, name.
struct Names(Vec<(u64, u64, String)>);

impl Names {
    /// Of a perf map: lines of address and length in hexadecimal, and the name.
    fn parse(text: &str) -> Names {
        let mut names: Vec<_> = text
            .lines()
            .filter_map(|line| {
                let mut parts = line.splitn(3, ' ');
                let mut number = || u64::from_str_radix(parts.next()?.trim_start_matches("0x"), 16).ok();
                let (start, length) = (number()?, number()?);
                Some((start, length, parts.next()?.to_owned()))
            })
            .collect();
        names.sort();
        Names(names)
    }

    /// The name of a function as callgrind has it: one without symbols is an address.
    fn of(&self, function: &str) -> String {
        let Some(address) = function.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok()) else {
            return short(function);
        };
        let after = self.0.partition_point(|(start, ..)| *start <= address);
        match after.checked_sub(1).and_then(|at| self.0.get(at)) {
            Some((start, length, name)) if address - start < *length => format!("{} [decoder]", short(name)),
            _ => "?".to_owned(),
        }
    }
}

/// As it stands in the source, without hashes and without callgrind's marks of recursion.
fn short(name: &str) -> String {
    let name = name.split('\'').next().unwrap_or(name);
    // Of Wasmtime: `wasm[0]::function[75]::NAME`.
    let name = name.strip_prefix("wasm[").and_then(|rest| rest.splitn(3, "::").nth(2)).unwrap_or(name);
    let name = format!("{:#}", rustc_demangle::demangle(name));
    let (path, hash) = name.rsplit_once("::h").unwrap_or((&name, ""));
    let is_hash = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    (if is_hash { path } else { &name }).replace(';', ":")
}

/// What a function takes by itself, and through each that it calls.
#[derive(Default)]
struct Function {
    name: String,
    own: u64,
    calls: HashMap<usize, u64>,
}

struct Graph {
    functions: Vec<Function>,
}

impl Graph {
    /// Of a file of callgrind (its manual, "Callgrind Format Specification"), neither names nor positions compressed.
    fn parse(text: &str, names: &Names) -> Result<Graph> {
        let mut graph = Graph { functions: Vec::new() };
        let mut known: HashMap<String, usize> = HashMap::new();
        let (mut current, mut callee, mut is_call) = (None, None, false);
        for line in text.lines() {
            let function = |graph: &mut Graph, known: &mut HashMap<String, usize>, name: &str| {
                let name = names.of(name);
                *known.entry(name.clone()).or_insert_with(|| {
                    graph.functions.push(Function { name, ..Function::default() });
                    graph.functions.len() - 1
                })
            };
            if let Some(name) = line.strip_prefix("fn=") {
                current = Some(function(&mut graph, &mut known, name));
            } else if let Some(name) = line.strip_prefix("cfn=") {
                callee = Some(function(&mut graph, &mut known, name));
            } else if line.starts_with("calls=") {
                is_call = true;
            } else if line.starts_with(|first: char| first.is_ascii_digit() || first == '+' || first == '-') {
                let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok()).unwrap_or(0);
                let Some(caller) = current else { continue };
                match (std::mem::take(&mut is_call), callee) {
                    // Within the same function, as where one was put into another: no stack grows by it.
                    (true, Some(called)) if called == caller => {}
                    (true, Some(called)) => *graph.functions[caller].calls.entry(called).or_default() += cost,
                    _ => graph.functions[caller].own += cost,
                }
            }
        }
        ensure!(!graph.functions.is_empty(), "callgrind has counted nothing");
        Ok(graph)
    }

    /// Lines of a flame graph: functions from the root on, and what the last one takes by itself, divided.
    fn stacks(&self, divisor: f64) -> Result<Vec<String>> {
        let named = |function: &Function| function.name.contains(ROOT);
        let root = self.functions.iter().position(named).with_context(|| format!("no function {ROOT}"))?;
        let mut lines = Vec::new();
        let whole = self.inclusive(root);
        self.walk(root, whole, &mut Vec::new(), whole * LEAST, divisor, &mut lines);
        Ok(lines)
    }

    fn inclusive(&self, at: usize) -> f64 {
        let function = &self.functions[at];
        (function.own + function.calls.values().sum::<u64>()) as f64
    }

    fn walk(&self, at: usize, cost: f64, stack: &mut Vec<usize>, least: f64, divisor: f64, lines: &mut Vec<String>) {
        let function = &self.functions[at];
        stack.push(at);
        let names: Vec<_> = stack.iter().map(|&at| self.functions[at].name.as_str()).collect();
        let names = names.join(";");
        let share = cost / self.inclusive(at).max(1.0);
        let mut calls: Vec<_> = function.calls.iter().collect();
        calls.sort();
        let mut rest = 0.0;
        for (&called, &inclusive) in calls {
            let inclusive = inclusive as f64 * share;
            if inclusive < least || stack.len() >= DEEPEST || stack.contains(&called) {
                rest += inclusive;
            } else {
                self.walk(called, inclusive, stack, least, divisor, lines);
            }
        }
        stack.pop();
        for (ending, cost) in [("", function.own as f64 * share), (";...", rest)] {
            let cost = (cost / divisor).round();
            if cost >= 1.0 {
                lines.push(format!("{names}{ending} {cost:.0}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_divided_among_callers() {
        let names = Names::parse("0x1000 20 decode::h0123456789abcdef\n");
        assert_eq!(names.of("0x000000000000101f"), "decode [decoder]");
        assert_eq!(names.of("0x1020"), "?");
        let text = "fn=counted_rounds\n1 10\ncfn=a\ncalls=1 5\n1 40\ncfn=b\ncalls=1 5\n1 20\nfn=a\n2 20\ncfn=b\ncalls=1 3\n\
                    2 20\nfn=b\n3 40\n";
        let graph = Graph::parse(text, &names).unwrap();
        let mut stacks = graph.stacks(10.0).unwrap();
        stacks.sort();
        assert_eq!(stacks, ["counted_rounds 1", "counted_rounds;a 2", "counted_rounds;a;b 2", "counted_rounds;b 2"]);
        assert_eq!(total(&stacks), 7);
    }
}
