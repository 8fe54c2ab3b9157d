//! `cargo xtask test`: everything that must hold before a change goes in, step by step.
//!
//! A step that fails does not keep the next ones from running. A step that cannot run here says why in one line.

use std::process::{Command, ExitCode, Output};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};

use crate::{
    bench_instructions, cgroup, compiler, e2e_chaos, e2e_consumers, e2e_deploy, e2e_kafka, e2e_live, e2e_losses,
    e2e_memory, e2e_mysql, e2e_nginx, e2e_outages, e2e_page, e2e_security, examples, fuzz, kafka, mongodb, plugins,
    process, release, setup, soak, supply_chain, workspace,
};

/// How long each fuzz target runs: it shows that they work, and finds what is found soon.
const FUZZ_SECONDS: u64 = 5;

/// How often the stock decoders are tried on what is random, with so many seeds each time.
const SEED_ROUNDS: u64 = 4;
const SEEDS_IN_ROUND: u64 = 8;

/// How thorough.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave fuzzing and the end-to-end checks out
    #[arg(long)]
    quick: bool,
}

/// Counts of steps by how they ended.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: Vec<&'static str>,
    skipped: u32,
}

/// Runs all steps; the exit code says whether all that ran have passed.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::run(setup::Args::default())?;
    let mut tally = Tally::default();
    tally.step("format", || cargo(&["fmt", "--all", "--check"]));
    tally.step("plugins", || plugins::run(plugins::Args::default()));
    tally.step("clippy", || tests(&["--all-targets", "--no-run"]));
    tally.step("cargo test", || tests(&["--no-fail-fast"]));
    match supply_chain::unavailable() {
        Some(why) => tally.skip("deny", &why),
        None => tally.step("deny", supply_chain::deny),
    }
    if args.quick {
        tally.skip("stock decoders", "--quick");
        tally.skip("instructions", "--quick");
        tally.skip("fuzz", "--quick");
        tally.skip("e2e nginx", "--quick");
        tally.skip("e2e losses", "--quick");
        tally.skip("e2e live", "--quick");
        tally.skip("e2e soak", "--quick");
        tally.skip("e2e memory", "--quick");
        tally.skip("e2e chaos", "--quick");
        tally.skip("e2e mongodb", "--quick");
        tally.skip("e2e mysql", "--quick");
        tally.skip("e2e kafka", "--quick");
        tally.skip("e2e outages", "--quick");
        tally.skip("e2e security", "--quick");
        tally.skip("e2e consumers", "--quick");
        tally.skip("e2e deploy", "--quick");
        tally.skip("e2e page", "--quick");
        tally.skip("examples", "--quick");
        println!("Kafka: tested on librdkafka's mock cluster only");
    } else {
        tally.step("stock decoders", stock_decoders);
        let unprivileged = || (!process::can_be_privileged()).then(|| "a capture needs root or sudo".to_owned());
        let uninstalled = || mongodb::packages().err().map(|error| format!("pip cannot install it: {error:#}"));
        // It mostly waits for a slow server.
        let e2e_mongodb = match missing(&mongodb::PROGRAMS).or_else(&unprivileged).or_else(uninstalled) {
            Some(why) => Err(why),
            None => Ok(Beside::start(&["e2e", "mongodb"])),
        };
        match missing(&bench_instructions::PROGRAMS).or_else(bench_instructions::unavailable) {
            Some(why) => tally.skip("instructions", &why),
            None => tally.step("instructions", || bench_instructions::run(&bench_instructions::Args::default())),
        }
        tally.step("fuzz", || fuzz::run(&fuzz::Args::for_seconds(FUZZ_SECONDS)));
        // What follows needs the processors for itself.
        match e2e_mongodb {
            Err(why) => tally.skip("e2e mongodb", &why),
            Ok(beside) => tally.step("e2e mongodb", || beside.finish()),
        }
        match missing(&e2e_nginx::PROGRAMS).or_else(&unprivileged) {
            Some(why) => {
                tally.skip("e2e nginx", &why);
                tally.skip("e2e losses", &why);
            }
            None => {
                let args = e2e_nginx::Args { exchanges: 50_000, reuse: false };
                tally.step("e2e nginx", || e2e_nginx::run(&args));
                // Of the capture that was made just now.
                let traffic = e2e_nginx::Args { exchanges: 50_000, reuse: true };
                tally.step("e2e losses", || e2e_losses::run(&e2e_losses::Args::of(traffic)));
            }
        }
        match missing(&e2e_live::PROGRAMS).or_else(|| e2e_live::unavailable().map(str::to_owned)) {
            Some(why) => {
                tally.skip("e2e live", &why);
                tally.skip("e2e soak", &why);
            }
            None => {
                tally.step("e2e live", || e2e_live::run(&e2e_live::Args::of(20_000)));
                match soak::unavailable() {
                    Some(why) => tally.skip("e2e soak", why),
                    None => tally.step("e2e soak", || soak::run(&soak::Args::short(None))),
                }
            }
        }
        match cgroup::unavailable() {
            Some(why) => tally.skip("e2e memory", why),
            None => tally.step("e2e memory", || e2e_memory::run(&e2e_memory::Args::least())),
        }
        tally.step("e2e chaos", || e2e_chaos::run(&e2e_chaos::Args::default()));
        match examples::unavailable() {
            Some(why) => tally.skip("examples", &why),
            None => tally.step("examples", || examples::run(&examples::Args::default())),
        }
        match missing(&e2e_mysql::PROGRAMS).or_else(&unprivileged) {
            Some(why) => tally.skip("e2e mysql", &why),
            None => tally.step("e2e mysql", || e2e_mysql::run(&e2e_mysql::Args { statements: 20_000, podtap: None })),
        }
        match missing(&e2e_deploy::PROGRAMS) {
            Some(why) => tally.skip("e2e deploy", &why),
            None => tally.step("e2e deploy", || e2e_deploy::run(&e2e_deploy::Args::default())),
        }
        match missing(&e2e_page::PROGRAMS).or_else(e2e_page::unavailable) {
            Some(why) => tally.skip("e2e page", &why),
            None => tally.step("e2e page", || e2e_page::run(&e2e_page::Args::default())),
        }
        match kafka::unavailable().map(str::to_owned).or_else(|| missing(&e2e_kafka::PROGRAMS)) {
            Some(why) => {
                tally.skip("e2e kafka", &why);
                tally.skip("e2e outages", &why);
                tally.skip("e2e security", &why);
                tally.skip("e2e consumers", &why);
                println!("Kafka: tested on librdkafka's mock cluster only");
            }
            None => {
                // Started once for both; where it does not start, they say so.
                let broker = kafka::Borrowed::borrow();
                tally.step("e2e kafka", e2e_kafka::run);
                match missing(&e2e_consumers::PROGRAMS) {
                    Some(why) => tally.skip("e2e consumers", &why),
                    None => tally.step("e2e consumers", e2e_consumers::run),
                }
                drop(broker);
                tally.step("e2e outages", || e2e_outages::run(&e2e_outages::Args::default()));
                match missing(&e2e_security::PROGRAMS) {
                    Some(why) => tally.skip("e2e security", &why),
                    None => tally.step("e2e security", || e2e_security::run(&e2e_security::Args::default())),
                }
                println!("Kafka: tested on a real Apache Kafka, and on librdkafka's mock cluster in `cargo test`");
            }
        }
    }
    if !tally.failed.is_empty() {
        println!("failed: {}", tally.failed.join(", "));
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed.len(), tally.skipped);
    Ok(if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Tally {
    fn step(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) {
        println!("== {name}");
        let start = Instant::now();
        match step() {
            Ok(()) => {
                self.passed += 1;
                println!("passed: {name} ({} s)", start.elapsed().as_secs());
            }
            Err(error) => {
                self.failed.push(name);
                println!("failed: {name}: {error:#}");
            }
        }
    }

    fn skip(&mut self, name: &str, why: &str) {
        self.skipped += 1;
        println!("skipped: {name}: {why}");
    }
}

/// A step in a process of its own, beside others. Its output is shown when it has ended.
struct Beside(JoinHandle<Result<Output>>);

impl Beside {
    fn start(arguments: &'static [&str]) -> Beside {
        Beside(thread::spawn(move || process::captured(Command::new(std::env::current_exe()?).args(arguments))))
    }

    fn finish(self) -> Result<()> {
        let ended = self.0.join().map_err(|_| anyhow!("the thread that waits for it has panicked"))?;
        let Output { status, stdout, stderr } = ended?;
        for text in [stdout, stderr] {
            print!("{}", String::from_utf8_lossy(&text));
        }
        ensure!(status.success(), "{status}");
        Ok(())
    }
}

/// The stock decoders on their own captures, cut, reordered, with losses and from the middle, as their authors would have it.
fn stock_decoders() -> Result<()> {
    let podtap = release::build()?;
    let kept = workspace::target().join("e2e/decoders");
    std::fs::create_dir_all(&kept)?;
    for decoder in ["http", "mongodb", "mysql"] {
        let component = workspace::target().join("release/plugins").join(decoder).with_extension("wasm");
        let captures = workspace::root().join("plugins").join(decoder).join("tests/captures");
        for round in 0..SEED_ROUNDS {
            let mut test = release::command(&podtap);
            test.args(["plugin", "test"]).arg(&component).arg("--captures").arg(&captures).arg("--keep").arg(&kept);
            test.args(["--seed", &(1 + round * SEEDS_IN_ROUND).to_string()]);
            // Once, as no seed matters for it.
            process::run(test.args(Some("--contract").filter(|_| round == 0)))?;
        }
    }
    Ok(())
}

/// Compiles or runs the tests, with clippy as their compiler and warnings as errors: so lints take no compilation of their own.
/// `cargo clippy` calls its driver in the same way.
fn tests(arguments: &[&str]) -> Result<()> {
    let driver = process::find("clippy-driver").context("clippy is not installed: `rustup component add clippy`")?;
    let mut cargo = compiler::cargo("test", Some(&driver), compiler::CHECKED)?;
    cargo.env("CLIPPY_ARGS", "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__");
    process::run(cargo.args(arguments))
}

fn cargo(arguments: &[&str]) -> Result<()> {
    process::run(Command::new("cargo").current_dir(workspace::root()).args(arguments))
}

/// Why programs keep a check from running; `None` when all are there.
fn missing(programs: &[&str]) -> Option<String> {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| process::find(program).is_none()).collect();
    (!missing.is_empty()).then(|| format!("no {} (`cargo xtask setup --e2e --kafka` installs it)", missing.join(", ")))
}
