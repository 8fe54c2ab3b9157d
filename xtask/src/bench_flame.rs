//! `cargo xtask bench flame`: where the instructions of an exchange go, as a flame graph.
//!
//! Valgrind's callgrind counts them, see `bench_instructions`, and who calls whom; functions of a decoder are named by
//! Wasmtime. It keeps no whole stacks: what a function takes is divided among its callers as they called it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

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
    let frames = Frame::of(&stacks);
    let title = format!("{} instructions of an exchange ({}, {})", frames.cost, args.decoder, args.capture);
    let to = workspace::root().join(&args.output);
    fs::write(&to, drawing(&frames, &title)?).with_context(|| to.display().to_string())?;
    println!("written: {}", workspace::short(&to));
    Ok(())
}

/// A function as it is called from the one below it in the drawing.
#[derive(Default)]
struct Frame {
    /// With all that it calls.
    cost: u64,
    calls: BTreeMap<String, Frame>,
}

impl Frame {
    /// Of lines: functions with `;` between, a blank, and what the last one takes by itself.
    fn of(stacks: &[String]) -> Frame {
        let mut root = Frame::default();
        for line in stacks {
            let Some((names, cost)) = line.rsplit_once(' ') else { continue };
            let cost = cost.parse().unwrap_or(0);
            root.cost += cost;
            let mut frame = &mut root;
            for name in names.split(';') {
                frame = frame.calls.entry(name.to_owned()).or_default();
                frame.cost += cost;
            }
        }
        root
    }

    fn depth(&self) -> usize {
        self.calls.values().map(|frame| 1 + frame.depth()).max().unwrap_or(0)
    }
}

const WIDTH: f64 = 1200.0;
const ROW: f64 = 17.0;
const TOP: f64 = 28.0;
/// What is narrower is not drawn, with all that it calls.
const NARROWEST: f64 = 1.0;
/// Of a letter.
const LETTER: f64 = 6.6;

/// Callers below, what they call above them, as wide as it takes. Names and numbers show where a pointer rests.
fn drawing(root: &Frame, title: &str) -> Result<String> {
    let height = TOP + root.depth() as f64 * ROW + 8.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" role=\"img\" \
         aria-labelledby=\"t\">\n<title id=\"t\">{title}</title>\n<style>svg{{--page:#fff;--quiet:#59636e;--host:#8db4e2;\
         --guest:#e8b06a;--wasmtime:#b9a7d8}}@media(prefers-color-scheme:dark){{svg{{--page:#16181a;--quiet:#989e9a;\
         --host:#7ba3d0;--guest:#d39b55;--wasmtime:#a28fc4}}}}.page{{fill:var(--page)}}text{{fill:#16181a;\
         font:11px ui-monospace,monospace}}.say{{fill:var(--quiet)}}rect{{stroke:var(--page);stroke-width:.5}}\
         .h{{fill:var(--host)}}.g{{fill:var(--guest)}}.w{{fill:var(--wasmtime)}}</style>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n\
         <text class=\"say\" x=\"8\" y=\"17\">{title}; blue: podtap, amber: the decoder, violet: Wasmtime</text>\n"
    );
    row(&mut out, root, root.cost, 0.0, height - 8.0 - ROW)?;
    out.push_str("</svg>\n");
    Ok(out)
}

/// Draws what a frame calls, from `left` on, on the row at `top` and above.
fn row(out: &mut String, frame: &Frame, whole: u64, mut left: f64, top: f64) -> Result<()> {
    for (name, called) in &frame.calls {
        let width = called.cost as f64 / whole.max(1) as f64 * WIDTH;
        if width >= NARROWEST {
            let class = match name {
                name if name.ends_with("[decoder]") => "g",
                name if name.contains("wasmtime") => "w",
                _ => "h",
            };
            let escaped = escape(name);
            writeln!(
                out,
                "<g><title>{escaped}: {}</title><rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.0}\" \
                 width=\"{width:.1}\" height=\"{ROW}\"/>",
                called.cost
            )?;
            let letters = ((width - 6.0) / LETTER).max(0.0) as usize;
            if letters >= 4 {
                let end = last_part(name);
                let shown: String = end.chars().take(letters).collect();
                writeln!(out, "<text x=\"{:.1}\" y=\"{:.0}\">{}</text>", left + 3.0, top + 12.0, escape(&shown))?;
            }
            out.push_str("</g>\n");
            row(out, called, whole, left, top - ROW)?;
        }
        left += width;
    }
    Ok(())
}

/// The function of a path, with its type where it is one of a type.
fn last_part(name: &str) -> &str {
    let plain = name.split(" [").next().unwrap_or(name);
    let mut parts = plain.rmatch_indices("::").map(|(at, _)| at + 2);
    let from = parts.nth(1).or_else(|| plain.rfind("::").map(|at| at + 2)).unwrap_or(0);
    plain.get(from..).unwrap_or(plain)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
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
    let name = format!("{:#}", rustc_demangle::demangle(&whole(name)));
    let (path, hash) = name.rsplit_once("::h").unwrap_or((&name, ""));
    let is_hash = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    (if is_hash { path } else { &name }).replace(';', ":")
}

/// Wasmtime cuts long names off: one in the older mangling is ended where it was cut.
fn whole(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("_ZN") else { return name.to_owned() };
    let mut whole = "_ZN".to_owned();
    while let Some(digits) = rest.find(|letter: char| !letter.is_ascii_digit()).filter(|&digits| digits > 0) {
        let (length, parts) = rest.split_at(digits);
        let length = length.parse().unwrap_or(0).min(parts.len());
        let Some((part, behind)) = parts.split_at_checked(length) else { break };
        whole += &format!("{}{part}", part.len());
        rest = behind;
    }
    whole + "E"
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
        assert_eq!(short("wasm[0]::function[7]::_ZN8instance4Side3run17h072286120bbbfc2aE"), "instance::Side::run");
        assert_eq!(short("_ZN8instance13Side$LT$D$GT$3ru"), "instance::Side<D>::ru");
        assert_eq!(last_part("podtap_sdk::instance::Side::run [decoder]"), "Side::run");
        let text = "fn=counted_rounds\n1 10\ncfn=a\ncalls=1 5\n1 40\ncfn=b\ncalls=1 5\n1 20\nfn=a\n2 20\ncfn=b\ncalls=1 3\n\
                    2 20\nfn=b\n3 40\n";
        let graph = Graph::parse(text, &names).unwrap();
        let mut stacks = graph.stacks(10.0).unwrap();
        stacks.sort();
        assert_eq!(stacks, ["counted_rounds 1", "counted_rounds;a 2", "counted_rounds;a;b 2", "counted_rounds;b 2"]);
        let frames = Frame::of(&stacks);
        assert_eq!((frames.cost, frames.depth(), frames.calls["counted_rounds"].calls["a"].cost), (7, 3, 4));
        let drawing = drawing(&frames, "7 instructions").unwrap();
        assert!(
            drawing.contains("<title>a: 4</title><rect class=\"h\" x=\"0.0\" y=\"45\" width=\"685.7\""),
            "{drawing}"
        );
    }
}
