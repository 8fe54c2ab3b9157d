//! `cargo xtask fuzz`: runs the fuzz targets in fuzz/ under libFuzzer, with the stable compiler and nothing installed.
//!
//! Coverage is LLVM's own pass, which `rustc` takes from the command line. It goes into the workspace's crates only, by
//! [`compiler`]: so it shows podtap's code rather than that of wasmtime and librdkafka.

mod page;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{compiler, plugins, process, setup, workspace};
use page::Figures;

/// A fuzz target.
struct Target {
    name: &'static str,
    /// Length of inputs; what is longer says no more.
    max_len: usize,
    /// File of words in fuzz/dictionaries/.
    dictionary: Option<&'static str>,
    /// What no input may do, for the page.
    promise: &'static str,
}

const TARGETS: [Target; 11] = [
    Target {
        name: "packet",
        max_len: 1 << 10,
        dictionary: Some("packet.dict"),
        promise: "No packet of any link type, with any tunnels, breaks the stream engine, and each is counted \
            once.",
    },
    Target {
        name: "packets",
        max_len: 2 << 10,
        dictionary: None,
        promise: "Segments in any order, with losses, repetitions, fragments and demands: the bytes of each side \
            come out once, in order and as they were sent; what is missing is a gap; memory stays within its \
            bounds; the counts add up.",
    },
    Target {
        name: "capture",
        max_len: 64 << 10,
        dictionary: Some("capture.dict"),
        promise: "A capture file, through the stock decoders in their sandbox to events: its report adds up and \
            names at most one problem, of a known kind, and no decoder fails.",
    },
    Target {
        name: "http",
        max_len: 8 << 10,
        dictionary: Some("http.dict"),
        promise: "A conversation of both sides, with losses, from the start or the middle: what the decoder \
            returns is well-formed, is the same however the bytes were cut and batched, has no size beyond \
            what was sent and no time before an earlier one; memory is bounded, and none is kept of what is \
            closed.",
    },
    Target { name: "mysql", max_len: 8 << 10, dictionary: Some("mysql.dict"), promise: "The same." },
    Target { name: "mongodb", max_len: 8 << 10, dictionary: Some("mongodb.dict"), promise: "The same." },
    Target {
        name: "boundary",
        max_len: 4 << 10,
        dictionary: None,
        promise: "A guest that returns any addresses, lengths and values, of an output, a descriptor, an answer to \
            its configuration, a verdict or a log line, ends in a failure that is named, or in rows within \
            every bound, which are those that a reading of its memory by hand gives; from its packets on, \
            the counts of the pipeline add up.",
    },
    Target {
        name: "config",
        max_len: 4 << 10,
        dictionary: Some("config.dict"),
        promise: "A file in YAML, TOML or JSON, and variables over it: refused with what is wrong and where, or \
            taken with every value within its range; then what podtap shows of it is read as the same \
            configuration, secrets aside.",
    },
    Target {
        name: "spool",
        max_len: 2 << 10,
        dictionary: None,
        promise: "Segments of any content, and a spool that is killed, cut and damaged between its runs: only \
            whole records with right checksums come back, in order, all that stand before the first damage \
            of their file; the others are counted; the bytes on the disk are those that are counted, within \
            the bound.",
    },
    Target {
        name: "msgpack",
        max_len: 4 << 10,
        dictionary: Some("msgpack.dict"),
        promise: "Events in MessagePack and JSON, from whoever wrote them: no length or depth takes more memory \
            than its bound; an error has its place; what is read comes back from both formats as the same, \
            and its line does nothing to a terminal.",
    },
    Target {
        name: "filter",
        max_len: 512,
        dictionary: Some("filter.dict"),
        promise: "An expression is refused with what is wrong and where, or understood in bounded memory; it decides the \
            same each time, and as it does in brackets, and no event matches both it and its opposite.",
    },
];

/// What libFuzzer needs to know of a program: counters of edges with their places, and what is compared. Arithmetic is
/// checked as in the tests.
const RUSTC_FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions -Coverflow-checks";

/// For long runs: that more inputs can be tried is worth the time to compile.
const RUSTC_FLAGS_LONG: &str = "-Copt-level=3 -Ccodegen-units=8";
/// For short ones.
const RUSTC_FLAGS_SHORT: &str = "-Copt-level=0 -Ccodegen-units=256";
/// What is short, in seconds.
const SHORT_SECONDS: u64 = 30;

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
    /// Run what was built before
    #[arg(long)]
    no_build: bool,
    /// Add the figures to docs/fuzzing.json, and make docs/fuzzing.md of it
    #[arg(long)]
    write: bool,
    /// Forget the figures of runs before, for what a target tries is another thing now
    #[arg(long, requires = "write")]
    anew: bool,
}

impl Args {
    /// All targets, one process, for so long each.
    pub(crate) fn for_seconds(seconds: u64) -> Self {
        Self { targets: Vec::new(), seconds, minutes: None, jobs: 1, no_build: false, write: false, anew: false }
    }
}

/// Builds, seeds and runs; an error when an input was found that breaks a promise.
pub(crate) fn run(args: &Args) -> Result<()> {
    let wanted = |target: &&Target| args.targets.is_empty() || args.targets.iter().any(|name| name == target.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(wanted).collect();
    let seconds = args.minutes.map_or(args.seconds, |minutes| minutes * 60);
    if !args.no_build {
        setup::run(setup::Args::default())?;
        // The targets `capture` and `boundary` run them.
        plugins::run(plugins::Args::default())?;
        // Edges are other ones where other flags are; those on the page are of long runs.
        build(&targets, if args.write || seconds > SHORT_SECONDS { RUSTC_FLAGS_LONG } else { RUSTC_FLAGS_SHORT })?;
    }
    let mut failed = Vec::new();
    for target in targets {
        target.seed()?;
        let (figures, is_fine) = target.run(seconds, args.jobs)?;
        if args.write {
            page::add(target.name, figures, args.anew)?;
        }
        if !is_fine {
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

/// Builds the targets with coverage, into `target/fuzz/bin/`, as optimised as these flags say.
fn build(targets: &[&Target], optimised: &str) -> Result<()> {
    let mut cargo = compiler::cargo("build", None, &format!("{RUSTC_FLAGS} {optimised}"))?;
    for target in targets {
        cargo.args(["--bin", target.name]);
    }
    process::run(&mut cargo)?;
    fs::create_dir_all(folder().join("bin"))?;
    for target in targets {
        // The next `cargo build` may put one without coverage in its place.
        let (built, kept) = (workspace::target().join("release").join(target.name), target.executable());
        if kept.exists() {
            fs::remove_file(&kept)?;
        }
        fs::hard_link(&built, &kept).with_context(|| format!("cannot make {}", kept.display()))?;
    }
    Ok(())
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

    /// Inputs that broke a promise once.
    fn findings(&self) -> Result<u64> {
        match fs::read_dir(workspace::root().join("fuzz/regressions").join(self.name)) {
            Ok(entries) => Ok(entries.count() as u64),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Runs it and prints what came of it; false when an input was found that breaks a promise.
    fn run(&self, seconds: u64, jobs: u32) -> Result<(Figures, bool)> {
        let logs = folder().join("logs");
        for folder in [&self.corpus(), &self.artifacts(), &logs] {
            fs::create_dir_all(folder)?;
        }
        let logs: Vec<PathBuf> = (1..=jobs).map(|job| logs.join(format!("{}-{job}.log", self.name))).collect();
        let cpu_before = cpu_of_children()?;
        let running = logs.iter().map(|log| self.start(seconds, log)).collect::<Result<Vec<Child>>>()?;
        let (mut runs, mut coverage, mut edges, mut fine) = (0, 0, 0, true);
        for (mut child, log) in running.into_iter().zip(&logs) {
            let status = child.wait()?;
            let log = Log::read(log)?;
            runs += log.runs();
            coverage = coverage.max(log.coverage());
            edges = edges.max(log.edges());
            if !status.success() {
                fine = false;
                log.print_failure(&self.executable(), &status.to_string());
            }
        }
        let corpus = fs::read_dir(self.corpus())?.count();
        println!("{}: {runs} runs, {coverage} of {edges} edges covered, {corpus} inputs in the corpus", self.name);
        let figures = Figures {
            cpu_minutes: (cpu_of_children()? - cpu_before).as_secs_f64() / 60.0,
            executions: runs,
            edges_covered: coverage,
            edges,
            corpus: corpus as u64,
            findings: self.findings()?,
        };
        Ok((figures, fine))
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

/// CPU time of processes that were waited for: cutime and cstime, the 16th and 17th field of proc_pid_stat(5), in the
/// hundredths of a second that Linux counts in for users.
fn cpu_of_children() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, behind_name) = stat.rsplit_once(')').context("no name in /proc/self/stat")?;
    let ticks = behind_name.split_whitespace().skip(13).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
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

    /// All there are in the program: `INFO: Loaded 1 modules   (790 inline 8-bit counters)`.
    fn edges(&self) -> u64 {
        let counters = self.text.split_once(" inline 8-bit counters)").and_then(|(before, _)| before.rsplit_once('('));
        counters.and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
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
