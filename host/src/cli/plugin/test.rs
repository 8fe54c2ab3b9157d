//! `podtap plugin test`: a decoder on captures, as they are and as networks and captures make of them, through the
//! sandbox; on request also on mutated ones, and against the contract.
//!
//! A line for each capture and variant. What is random has a seed, which is named where something is wrong.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::{build, load};
use crate::author::{Bench, Outcome, Random, Recording, Recut, Variant, check_contract, connection_of, mutated};
use crate::cli::{load_config, print, report_error};
use crate::publish::Printable;

/// Seeds that are tried of each random variant.
const ROUNDS: u64 = 8;

const VARIANTS: [Variant; 5] =
    [Variant::ByteByByte, Variant::RandomSplits, Variant::Reordered, Variant::Losses, Variant::Midstream];

#[derive(Debug, Args)]
pub(in crate::cli) struct TestArguments {
    /// The decoder (.wasm, .wasm.gz or .wasm.zst), or its crate, which is built first
    #[arg(default_value = ".", value_name = "FILE|DIR")]
    decoder: PathBuf,

    /// Directory with captures, and the events of each beside it as .jsonl [default: tests/captures in the crate]
    #[arg(long, value_name = "DIR")]
    captures: Option<PathBuf>,

    /// Write the events beside the captures anew; read the difference
    #[arg(long)]
    update: bool,

    /// The first seed of what is random
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,

    /// Where captures are written that it does not decode as it should; without it, those of --fuzz alone, where you are
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,

    /// Then feed it mutated captures for so many seconds
    #[arg(long, value_name = "SECONDS")]
    fuzz: Option<u64>,

    /// Then check it against the contract, call by call; needs no captures
    #[arg(long)]
    contract: bool,

    /// Configuration file (.yaml, .yml, .toml or .json)
    #[arg(long, env = "PODTAP_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A capture and what is known of it.
struct Capture {
    path: PathBuf,
    name: String,
    recording: Recording,
}

impl TestArguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let config = load_config(self.config.as_deref(), &[])?;
        let is_crate = self.decoder.is_dir();
        let file = if is_crate { build::build(&self.decoder)? } else { self.decoder.clone() };
        let folder = self.captures.clone().or_else(|| is_crate.then(|| self.decoder.join("tests/captures")));
        let captures = match &folder {
            Some(folder) => captures(folder)?,
            None if self.contract => Vec::new(),
            None => bail!("name the directory of the captures with --captures, or check the contract with --contract"),
        };
        let (runtime, plugin) = load(&file, &config)?;
        // It is refused here if it does not take its configuration.
        runtime.instance(&plugin).with_context(|| file.display().to_string())?;
        let name = plugin.descriptor.name.clone();
        let status = plugin.descriptor.status_attribute().map(str::to_owned);
        let mut report = Report::new(&captures);
        if self.contract {
            let recordings: Vec<_> = captures.iter().map(|capture| capture.recording.clone()).collect();
            let (entries, bytes) = (config.decoder.batch_entries as usize, config.decoder.batch_bytes.0 as usize);
            for check in check_contract(&runtime, &plugin, &recordings, entries, bytes) {
                let fault = check.fault.map(|fault| format!("{fault}; the rule: {}", check.rule));
                report.line(
                    "contract",
                    check.name,
                    fault.map_or_else(|| Ok(String::new()), |fault| Err(vec![fault])),
                )?;
            }
        }
        let mut bench = Bench::new(runtime, plugin, config)?;
        let mut test = Test { arguments: self, file: &file, bench: &mut bench, status, name };
        for capture in &captures {
            test.capture(capture, &mut report)?;
        }
        if let Some(seconds) = self.fuzz {
            test.fuzz(&captures, Duration::from_secs(seconds), &mut report)?;
        }
        if report.failed > 0 {
            report_error(&format!("{} of {} checks failed; the lines above say how", report.failed, report.checks));
            return Ok(ExitCode::FAILURE);
        }
        print(&format!("{} checks passed\n", report.checks))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The captures of a folder, in order of their names; events without a capture are an error.
fn captures(folder: &Path) -> anyhow::Result<Vec<Capture>> {
    let in_folder = || folder.display().to_string();
    let entries = fs::read_dir(folder).with_context(in_folder)?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let has =
        |path: &Path, endings: &[&str]| path.extension().is_some_and(|it| endings.iter().any(|ending| it == *ending));
    let is_capture = |path: &Path| has(path, &["pcap", "pcapng", "cap"]);
    for golden in paths.iter().filter(|path| has(path, &["jsonl"])) {
        if !paths.iter().any(|path| is_capture(path) && path.with_extension("jsonl") == **golden) {
            bail!("{}: events without a capture: put the capture beside them, or remove them", golden.display());
        }
    }
    let mut captures = Vec::new();
    for path in paths.into_iter().filter(|path| is_capture(path)) {
        let recording = Recording::read(&path).with_context(|| path.display().to_string())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        captures.push(Capture { path, name, recording });
    }
    if captures.is_empty() {
        bail!("{}: no capture in it (.pcap, .pcapng): make one with `tcpdump -w`", folder.display());
    }
    Ok(captures)
}

/// Lines, and how many of them are bad.
struct Report {
    width: usize,
    checks: u32,
    failed: u32,
}

impl Report {
    fn new(captures: &[Capture]) -> Report {
        let names = captures.iter().map(|capture| capture.name.len());
        Report { width: names.max().unwrap_or(0).max("contract".len()), checks: 0, failed: 0 }
    }

    fn line(&mut self, subject: &str, check: &str, result: Result<String, Vec<String>>) -> anyhow::Result<()> {
        self.checks += 1;
        let (word, rest) = match result {
            Ok(said) => ("ok", vec![said]),
            Err(faults) => {
                self.failed += 1;
                ("FAILED", faults)
            }
        };
        let mut out = format!("{:<width$}  {check:<30}  {word}", Printable(subject).to_string(), width = self.width);
        let mut rest = rest.into_iter().filter(|line| !line.is_empty());
        if word == "ok" {
            rest.by_ref().take(1).for_each(|said| out += &format!("  {said}"));
        }
        rest.for_each(|line| out += &format!("\n    {}", Printable(&line)));
        print(&(out + "\n"))
    }
}

struct Test<'t> {
    arguments: &'t TestArguments,
    file: &'t Path,
    bench: &'t mut Bench,
    /// The attribute that holds the status.
    status: Option<String>,
    name: String,
}

/// What may not change of an exchange, however much of others was lost.
type Core = [Value; 5];

impl Test<'_> {
    fn capture(&mut self, capture: &Capture, report: &mut Report) -> anyhow::Result<()> {
        let whole = self.bench.replay(&capture.path)?;
        let result = self.golden(capture, &whole)?;
        report.line(&capture.name, "whole", result)?;
        let as_captured = Recut::pcap(&capture.recording, Variant::AsCaptured, 0);
        let expected = self.bench.replay_bytes(&as_captured, 512)?.exchanges();
        for variant in VARIANTS {
            let result = self.variant(capture, variant, &expected)?;
            report.line(&capture.name, variant.name(), result)?;
        }
        Ok(())
    }

    /// Compares with the events beside the capture, or writes them.
    fn golden(&self, capture: &Capture, whole: &Outcome) -> anyhow::Result<Result<String, Vec<String>>> {
        let golden = capture.path.with_extension("jsonl");
        let mut faults = whole.faults.clone();
        let found: String = whole.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        let said = format!("{} exchanges, {} bytes undecoded", whole.lines.len(), whole.undecoded_bytes);
        let expected = fs::read_to_string(&golden).ok();
        if self.arguments.update {
            let changed = expected.as_ref() != Some(&found);
            fs::write(&golden, &found).with_context(|| golden.display().to_string())?;
            let state = if changed { "written anew" } else { "unchanged" };
            return Ok(if faults.is_empty() {
                Ok(format!("{said}; {} {state}", golden.display()))
            } else {
                Err(faults)
            });
        }
        match expected {
            None => faults.push(format!("no events beside it: {} writes them", self.update_command())),
            Some(expected) => {
                let lines = expected.lines().count().max(found.lines().count());
                let at = |text: &str, line: usize| text.lines().nth(line).unwrap_or("nothing").to_owned();
                if let Some(line) = (0..lines).find(|&line| at(&expected, line) != at(&found, line)) {
                    faults.push(format!("{}, line {}:", golden.display(), line + 1));
                    faults.push(format!("expected {}", at(&expected, line)));
                    faults.push(format!("found    {}", at(&found, line)));
                    faults.push(format!("{} takes what was found", self.update_command()));
                }
            }
        }
        Ok(if faults.is_empty() { Ok(said) } else { Err(faults) })
    }

    fn update_command(&self) -> String {
        let captures = self.arguments.captures.as_ref();
        let captures = captures.map(|folder| format!(" --captures {}", folder.display())).unwrap_or_default();
        format!("`podtap plugin test {}{captures} --update`", self.arguments.decoder.display())
    }

    fn variant(
        &mut self,
        capture: &Capture,
        variant: Variant,
        expected: &[Value],
    ) -> anyhow::Result<Result<String, Vec<String>>> {
        let rounds = if variant.is_random() { ROUNDS } else { 1 };
        let (mut again, mut partial) = (0, 0);
        for seed in self.arguments.seed..self.arguments.seed.saturating_add(rounds) {
            let packets = Recut::pcap(&capture.recording, variant, seed);
            // Batches of another length each time: what is kept from call to call is kept at other places.
            let batch_entries = [512, 1, 2, 7, 64][(seed % 5) as usize];
            let outcome = self.bench.replay_bytes(&packets, batch_entries)?;
            let found = outcome.exchanges();
            let mut faults = outcome.faults;
            match variant {
                Variant::Losses | Variant::Midstream => {
                    let (golden, marked, wrong) = self.against(expected, &found);
                    (again, partial) = (again + golden, partial + marked);
                    faults.extend(
                        wrong.map(|wrong| {
                            format!("an exchange that never was, and does not say what it lacks: {wrong}")
                        }),
                    );
                }
                _ => faults.extend(difference(expected, &found)),
            }
            if !faults.is_empty() {
                if variant.is_random() {
                    faults.push(format!("again with --seed {seed}"));
                }
                if let Some(folder) = &self.arguments.keep {
                    let stem = capture.path.file_stem().unwrap_or_default().to_string_lossy();
                    let name = format!("{}-{stem}-{}-{seed}.pcap", self.name, variant.name().replace(' ', "-"));
                    faults.push(self.keep(&folder.join(name), &packets)?);
                }
                return Ok(Err(faults));
            }
        }
        Ok(Ok(match variant {
            Variant::Losses | Variant::Midstream => {
                format!(
                    "{again} exchanges as in the whole, {partial} marked as partial, of {}",
                    expected.len() as u64 * rounds
                )
            }
            Variant::ByteByByte | Variant::AsCaptured => "the same exchanges".to_owned(),
            _ => format!("the same exchanges, {rounds} times"),
        }))
    }

    /// Writes a capture that is not decoded as it should be; how to look at it.
    fn keep(&self, file: &Path, packets: &[u8]) -> anyhow::Result<String> {
        fs::write(file, packets).with_context(|| file.display().to_string())?;
        Ok(format!("the input is kept: podtap replay --plugin {} {}", self.file.display(), file.display()))
    }

    /// How many are exchanges of the whole capture, how many say that they are partial, and the first that is neither.
    fn against(&self, expected: &[Value], found: &[Value]) -> (u64, u64, Option<Value>) {
        let mut known: HashMap<Core, usize> = HashMap::new();
        for exchange in expected {
            *known.entry(self.core(exchange)).or_default() += 1;
        }
        let (mut again, mut marked) = (0, 0);
        for exchange in found {
            let left = known.get_mut(&self.core(exchange)).filter(|left| **left > 0);
            if let Some(left) = left {
                *left -= 1;
                again += 1;
            } else if is_partial(exchange) {
                marked += 1;
            } else {
                return (again, marked, Some(exchange.clone()));
            }
        }
        (again, marked, None)
    }

    fn core(&self, exchange: &Value) -> Core {
        let status = self.status.as_ref().map(|name| exchange["attributes"][name.as_str()].clone());
        let field = |name: &str| exchange[name].clone();
        [
            connection_of(exchange).into(),
            field("operation"),
            field("target"),
            field("outcome"),
            status.unwrap_or_default(),
        ]
    }

    fn fuzz(&mut self, captures: &[Capture], time: Duration, report: &mut Report) -> anyhow::Result<()> {
        if captures.is_empty() {
            bail!("--fuzz mutates captures: name their directory with --captures");
        }
        let (start, mut seed) = (Instant::now(), self.arguments.seed);
        while start.elapsed() < time {
            let mut random = Random(seed);
            let recording = &captures[random.below(captures.len())].recording;
            let mutated = mutated(recording, &mut random);
            let variants = [Variant::AsCaptured, Variant::RandomSplits, Variant::Losses, Variant::Midstream];
            let packets = Recut::pcap(&mutated, variants[random.below(variants.len())], random.bits());
            let outcome = self.bench.replay_bytes(&packets, 512)?;
            if !outcome.faults.is_empty() {
                let mut faults = outcome.faults;
                let folder = self.arguments.keep.clone().unwrap_or_default();
                faults.push(self.keep(&folder.join(format!("{}-fuzz-{seed}.pcap", self.name)), &packets)?);
                return report.line("fuzz", &format!("seed {seed}"), Err(faults));
            }
            seed = seed.wrapping_add(1);
        }
        let inputs = seed - self.arguments.seed;
        report.line(
            "fuzz",
            &format!("{} s", time.as_secs()),
            Ok(format!("{inputs} mutated captures, the next seed is {seed}")),
        )
    }
}

fn is_partial(exchange: &Value) -> bool {
    matches!(exchange["outcome"].as_str(), Some("no_response" | "aborted" | "unmatched"))
        || exchange.get("loss").is_some()
        || exchange["connection"]["midstream"] == true
}

/// The first exchange that is another one.
fn difference(expected: &[Value], found: &[Value]) -> Vec<String> {
    let count = expected.len().max(found.len());
    let Some(place) = (0..count).find(|&place| expected.get(place) != found.get(place)) else { return Vec::new() };
    let shown = |exchange: Option<&Value>| exchange.map_or_else(|| "nothing".to_owned(), Value::to_string);
    vec![
        format!("expected {}", shown(expected.get(place))),
        format!("found    {}", shown(found.get(place))),
        format!("{} exchanges, expected {}", found.len(), expected.len()),
    ]
}
