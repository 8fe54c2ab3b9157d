//! `cargo xtask fuzz`: runs the fuzz targets in fuzz/ under libFuzzer, with the stable compiler and nothing installed.
//!
//! Coverage is LLVM's own pass, which `rustc` takes from the command line. It goes into the workspace's crates only, by
//! [`RUSTC_WORKSPACE_WRAPPER`]: then everything else is what the tests have built already, and coverage shows podtap's
//! code rather than that of wasmtime and librdkafka.
//!
//! [`RUSTC_WORKSPACE_WRAPPER`]: https://doc.rust-lang.org/cargo/reference/config.html#buildrustc-workspace-wrapper

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{plugins, process, setup, workspace};

/// A fuzz target.
struct Target {
    name: &'static str,
    /// Length of inputs; what is longer says no more.
    max_len: usize,
    /// File of words in fuzz/dictionaries/.
    dictionary: Option<&'static str>,
}

const TARGETS: [Target; 6] = [
    Target { name: "packet", max_len: 1 << 10, dictionary: Some("packet.dict") },
    Target { name: "packets", max_len: 2 << 10, dictionary: None },
    Target { name: "capture", max_len: 64 << 10, dictionary: Some("capture.dict") },
    Target { name: "http", max_len: 8 << 10, dictionary: Some("http.dict") },
    Target { name: "mysql", max_len: 8 << 10, dictionary: Some("mysql.dict") },
    Target { name: "mongodb", max_len: 8 << 10, dictionary: Some("mongodb.dict") },
];

/// What libFuzzer needs to know of a program: counters of edges with their places, and what is compared. Arithmetic is
/// checked as in the tests, and code is optimised, so that more inputs can be tried.
const RUSTC_FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions -Coverflow-checks -Copt-level=3 \
    -Ccodegen-units=8";

/// Memory of a process; podtap takes some 60 MiB.
const RSS_LIMIT_MB: u32 = 2048;
/// For one input, seconds; the slowest take milliseconds.
const TIMEOUT_SECONDS: u32 = 10;

/// What to fuzz, and for how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fuzz targets; all when none is named
    #[arg(value_name = "TARGET", value_parser = TARGETS.map(|target| target.name))]
    targets: Vec<String>,
    /// How long each runs, in seconds
    #[arg(long, default_value_t = 60, conflicts_with = "minutes")]
    seconds: u64,
    /// How long each runs, in minutes
    #[arg(long)]
    minutes: Option<u64>,
    /// Processes of each, which share what they find
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,
}

impl Args {
    /// All targets, one process, for so long each.
    pub(crate) fn for_seconds(seconds: u64) -> Self {
        Self { targets: Vec::new(), seconds, minutes: None, jobs: 1 }
    }
}

/// Builds, seeds and runs; an error when an input was found that breaks a promise.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run(setup::Args::default())?;
    // The target `capture` runs them.
    plugins::run(plugins::Args::default())?;
    let wanted = |target: &&Target| args.targets.is_empty() || args.targets.iter().any(|name| name == target.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(wanted).collect();
    build(&targets)?;
    let seconds = args.minutes.map_or(args.seconds, |minutes| minutes * 60);
    let mut failed = Vec::new();
    for target in targets {
        target.seed()?;
        if !target.run(seconds, args.jobs)? {
            failed.push(target.name);
        }
    }
    if !failed.is_empty() {
        bail!("found in {} what must not happen", failed.join(", "));
    }
    Ok(())
}

/// `target/fuzz/`.
fn folder() -> PathBuf {
    workspace::target().join("fuzz")
}

/// Builds the targets with coverage, into `target/fuzz/bin/`.
fn build(targets: &[&Target]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    // `--workspace` for the features of dependencies, which are those of `cargo test --workspace` then.
    cargo.current_dir(workspace::root()).args(["build", "--workspace"]).env("RUSTC_WORKSPACE_WRAPPER", wrapper()?);
    for target in targets {
        cargo.args(["--bin", target.name]);
    }
    process::run(&mut cargo)?;
    fs::create_dir_all(folder().join("bin"))?;
    for target in targets {
        // The next `cargo build` may put one without coverage in its place.
        let (built, kept) = (workspace::target().join("debug").join(target.name), target.executable());
        if kept.exists() {
            fs::remove_file(&kept)?;
        }
        fs::hard_link(&built, &kept).with_context(|| format!("cannot make {}", kept.display()))?;
    }
    Ok(())
}

/// A program that adds [`RUSTC_FLAGS`] to a call of the compiler. Cargo tells wrappers by their path, so that one with
/// other flags has another name.
fn wrapper() -> Result<PathBuf> {
    let script = format!("#!/bin/sh\nexec \"$@\" {RUSTC_FLAGS}\n");
    let mut hasher = DefaultHasher::new();
    script.hash(&mut hasher);
    let file = folder().join(format!("rustc-{:016x}", hasher.finish()));
    if !file.exists() {
        fs::create_dir_all(folder())?;
        let new = file.with_extension("new");
        fs::write(&new, script)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        fs::rename(&new, &file)?;
    }
    Ok(file)
}

impl Target {
    fn executable(&self) -> PathBuf {
        folder().join("bin").join(self.name)
    }

    fn corpus(&self) -> PathBuf {
        folder().join("corpus").join(self.name)
    }

    fn seeds(&self) -> PathBuf {
        folder().join("seeds").join(self.name)
    }

    fn artifacts(&self) -> PathBuf {
        folder().join("artifacts").join(self.name)
    }

    /// Has the target write its seeds anew.
    fn seed(&self) -> Result<()> {
        if self.seeds().exists() {
            fs::remove_dir_all(self.seeds())?;
        }
        let mut command = Command::new(self.executable());
        process::output(command.arg("-runs=0").env("PODTAP_FUZZ_SEEDS", self.seeds())).map(drop)
    }

    /// Runs it and prints what came of it; false when an input was found that breaks a promise.
    fn run(&self, seconds: u64, jobs: u32) -> Result<bool> {
        let logs = folder().join("logs");
        for folder in [&self.corpus(), &self.artifacts(), &logs] {
            fs::create_dir_all(folder)?;
        }
        let logs: Vec<PathBuf> = (1..=jobs).map(|job| logs.join(format!("{}-{job}.log", self.name))).collect();
        let running = logs.iter().map(|log| self.start(seconds, log)).collect::<Result<Vec<Child>>>()?;
        let (mut runs, mut coverage, mut fine) = (0, 0, true);
        for (mut child, log) in running.into_iter().zip(&logs) {
            let status = child.wait()?;
            let log = Log::read(log)?;
            runs += log.runs();
            coverage = coverage.max(log.coverage());
            if !status.success() {
                fine = false;
                log.print_failure(&self.executable(), &status.to_string());
            }
        }
        let corpus = fs::read_dir(self.corpus())?.count();
        println!("{}: {runs} runs, {coverage} edges covered, {corpus} inputs in the corpus", self.name);
        Ok(fine)
    }

    fn start(&self, seconds: u64, log: &Path) -> Result<Child> {
        let mut command = Command::new(self.executable());
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={}", self.max_len))
            .arg(format!("-rss_limit_mb={RSS_LIMIT_MB}"))
            .arg(format!("-timeout={TIMEOUT_SECONDS}"))
            .arg(format!("-artifact_prefix={}/", self.artifacts().display()))
            .arg("-print_final_stats=1");
        if let Some(dictionary) = self.dictionary {
            let file = workspace::root().join("fuzz/dictionaries").join(dictionary);
            command.arg(format!("-dict={}", file.display()));
        }
        command.arg(self.corpus()).arg(self.seeds());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?);
        command.spawn().with_context(|| format!("cannot start {}", self.executable().display()))
    }
}

/// What a process wrote.
struct Log {
    path: PathBuf,
    text: String,
}

impl Log {
    fn read(path: &Path) -> Result<Self> {
        // A panic may quote bytes.
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { path: path.to_owned(), text: String::from_utf8_lossy(&bytes).into_owned() })
    }

    fn runs(&self) -> u64 {
        self.last_number_after("stat::number_of_executed_units:")
    }

    fn coverage(&self) -> u64 {
        self.last_number_after(" cov: ")
    }

    fn last_number_after(&self, label: &str) -> u64 {
        let rest = self.text.rsplit_once(label).map(|(_, rest)| rest.split_whitespace().next());
        rest.flatten().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// What went wrong, which input it was, and what to do with it.
    fn print_failure(&self, executable: &Path, status: &str) {
        let telling = |line: &&str| line.contains("panicked at") || line.starts_with("==");
        let first = self.text.lines().position(|line| telling(&line)).unwrap_or(0);
        for line in self.text.lines().skip(first).take(4) {
            println!("    {line}");
        }
        println!("    {status}, log: {}", workspace::short(&self.path));
        let Some((_, rest)) = self.text.rsplit_once("Test unit written to ") else { return };
        let input = workspace::short(Path::new(rest.lines().next().unwrap_or_default()));
        let executable = workspace::short(executable);
        println!("    again:   {executable} {input}");
        println!("    shorter: {executable} -minimize_crash=1 -max_total_time=60 {input}");
    }
}
