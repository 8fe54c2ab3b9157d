//! `cargo xtask bench`: podtap's CPU time against a bare libpcap loop over the same file and against tshark, workload by
//! workload, and what of it is the sandbox's and the stream engine's.
//!
//! CPU time (user and system) rather than elapsed time, for that is what an agent takes from the machine it watches.
//! The programs take turns, and the median of their runs counts: what else the machine does meets all alike.

use std::fmt::Write;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::mem::MaybeUninit;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bench_workloads::{self, Workload};
use crate::{bench_flame, bench_instructions, bench_kafka, bench_live, bench_scaling, process, release, workspace};

/// How large, how often, and whether to keep the result.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    /// Exchanges in each capture of small ones, at least
    #[arg(long, default_value_t = 500_000)]
    exchanges: usize,
    /// Runs of each program but tshark, which is so much slower that one will do
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Only captures whose name has this in it
    #[arg(long, value_name = "NAME", conflicts_with = "write")]
    only: Option<String>,
    /// Write the result to docs/benchmarks/DATE.md
    #[arg(long)]
    write: bool,
}

#[derive(clap::Subcommand)]
enum Other {
    /// Publishing to a real Apache Kafka: CPU time and throughput by format and compression
    Kafka(bench_kafka::Args),
    /// Watching a server live under full load: CPU time for each request, and the requests that are lost by it
    Live(bench_live::Args),
    /// How the cost grows with connections, decoders, and the size of events
    Scaling(bench_scaling::Args),
    /// Where the instructions of an exchange go, as a flame graph
    Flame(bench_flame::Args),
    /// Instructions for an exchange, whatever else the machine does; whether they have become more
    Instructions(bench_instructions::Args),
    /// Makes a capture in the network that it is started in, for the bench itself
    #[command(hide = true)]
    LargeCapture(bench_workloads::LargeCapture),
}

/// What is measured.
struct Contender {
    name: &'static str,
    program: String,
    arguments: Vec<String>,
    /// Compiles its decoders anew each time.
    without_cache: bool,
    runs: Vec<Usage>,
}

/// The one that is run once.
const TSHARK: &str = "tshark";

/// A program for HTTP alone, on gopacket: xtask/peers/gopacket.
const GO: &str = "Go program, JSON";

/// What one run took.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    /// User and system.
    pub(crate) cpu_seconds: f64,
    pub(crate) elapsed_seconds: f64,
    pub(crate) memory_bytes: u64,
}

/// Measures and prints a Markdown page.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.other {
        Some(Other::Kafka(args)) => return bench_kafka::run(args),
        Some(Other::Live(args)) => return bench_live::run(args),
        Some(Other::Scaling(args)) => return bench_scaling::run(args),
        Some(Other::Flame(args)) => return bench_flame::run(args),
        Some(Other::Instructions(args)) => return bench_instructions::run(args),
        Some(Other::LargeCapture(args)) => return args.make(),
        None => {}
    }
    let examples = ["--example", "pcap_loop", "--example", "stream_cost", "--example", "throughput"];
    let podtap = release::build_with(&[&["--bin", "podtap-decoder-cost"], &examples[..]].concat())?;
    let podtap = podtap.display().to_string();
    let (mut workloads, mut missing) = bench_workloads::all(args.exchanges)?;
    if let Some(only) = &args.only {
        workloads.retain(|workload| workload.name.contains(only));
        ensure!(!workloads.is_empty(), "no capture has {only} in its name");
    }
    if let Err(error) = bench_live::go_program() {
        missing.push(format!("{GO}: {error:#}"));
    }
    missing.extend((process::find(TSHARK).is_none()).then(|| "tshark: not installed".to_owned()));
    missing.push("Packetbeat, Zeek, Suricata: no package of the distribution".to_owned());

    let mut page = format!(
        "Captures of real servers under load, made by `cargo xtask bench`. CPU time, user and system; median of {} runs \
         that took turns,\nof tshark one run. Memory: the most of all runs.\n",
        args.rounds.max(1)
    );
    let mut versions = Vec::new();
    for workload in &workloads {
        let exchanges = exchanges(&podtap, workload)?;
        let mut contenders = contenders(&podtap, workload);
        if let Some(go) = contenders.iter().find(|contender| contender.name == GO) {
            let found = go_exchanges(go)?;
            ensure!(found == exchanges, "{}: {GO} finds {found} exchanges, podtap {exchanges}", workload.name);
        }
        for round in 0..args.rounds.max(1) {
            for contender in contenders.iter_mut().filter(|contender| round == 0 || contender.name != TSHARK) {
                let usage = contender.run()?;
                contender.runs.push(usage);
            }
        }
        page += &table(workload, exchanges, &contenders)?;
        page += &sandbox(workload, exchanges, &contenders, args.rounds)?;
        if versions.is_empty() {
            versions = programs(&contenders)?;
        }
    }
    page += &start_up(&podtap, args.rounds)?;
    for reason in missing {
        writeln!(page, "\nNot measured: {reason}")?;
    }
    page += &stream_engine(&workloads[0])?;
    writeln!(page, "\nMachine: {}\n\n{}", machine()?, versions.join("\n"))?;
    print!("{page}");
    if args.write {
        write_page(&page, "")?;
    }
    Ok(())
}

/// Writes a page of today among the others; `DATE` in it becomes that of today.
pub(crate) fn write_page(page: &str, ending: &str) -> Result<()> {
    let date = today()?;
    write(&format!("{date}{ending}.md"), &format!("# {date}\n\n{}", page.replace("DATE", &date)))
}

/// Writes a drawing beside the page of the same ending.
pub(crate) fn write_drawing(drawing: &str, ending: &str) -> Result<()> {
    write(&format!("{}{ending}.svg", today()?), drawing)
}

fn today() -> Result<String> {
    Ok(process::output(Command::new("date").args(["--utc", "+%F"]))?.trim().to_owned())
}

fn write(name: &str, text: &str) -> Result<()> {
    let folder = workspace::root().join("docs/benchmarks");
    fs::create_dir_all(&folder)?;
    let written = folder.join(name);
    fs::write(&written, text)?;
    println!("\nwritten: {}", workspace::short(&written));
    Ok(())
}

/// What podtap finds in it. That it is what is there, the end-to-end checks show.
fn exchanges(podtap: &str, workload: &Workload) -> Result<usize> {
    let mut replay = release::command(podtap);
    replay.arg("replay").arg(&workload.capture).args(["--output", "json", "--no-summary", "--output-file"]);
    let exchanges = lines_by(&mut replay)?;
    ensure!(exchanges > 0, "{}: no exchange", workload.name);
    Ok(exchanges)
}

/// What the program in Go finds.
fn go_exchanges(go: &Contender) -> Result<usize> {
    let mut command = Command::new(&go.program);
    lines_by(command.args(go.arguments.iter().take(2)).arg("-o"))
}

/// How many lines a program writes into the file that is its last argument.
fn lines_by(command: &mut Command) -> Result<usize> {
    let file = workspace::target().join("bench/exchanges.jsonl");
    process::output(command.arg(&file))?;
    let lines = BufReader::new(fs::File::open(&file)?).split(b'\n').count();
    fs::remove_file(&file)?;
    Ok(lines)
}

/// Who reads the capture of a workload: a bare loop first, then podtap.
fn contenders(podtap: &str, workload: &Workload) -> Vec<Contender> {
    let file = workload.capture.display().to_string();
    let looping = workspace::target().join("release/examples/pcap_loop").display().to_string();
    let to_null = |format| ["replay", &file, "--output", format, "--output-file", "/dev/null"];
    let mut contenders = vec![
        Contender::new("bare libpcap loop", &looping, &[&file]),
        Contender::new("podtap, MessagePack", podtap, &to_null("msgpack")),
        Contender::new("podtap, JSON", podtap, &to_null("json")),
    ];
    let go = bench_live::go_target();
    if workload.decoder == "http" && go.is_file() {
        contenders.push(Contender::new(GO, &go.display().to_string(), &["-r", &file, "-o", "/dev/null"]));
    }
    if process::find(TSHARK).is_some() {
        let (filter, fields) = workload.tshark;
        let mut arguments = vec!["-r", &file, "-Y", filter, "-T", "fields"];
        arguments.extend(fields.split(' ').flat_map(|field| ["-e", field]));
        contenders.push(Contender::new(TSHARK, TSHARK, &arguments));
    }
    contenders
}

/// What the sandbox adds: the decoder fed with the same batches natively, and how much less the whole would take so.
fn sandbox(workload: &Workload, exchanges: usize, contenders: &[Contender], rounds: usize) -> Result<String> {
    let mut command = release::command(workspace::target().join("release/podtap-decoder-cost"));
    command.arg(workspace::target().join("release/plugins")).arg(workload.decoder).arg(&workload.capture);
    let said = process::output(command.arg(rounds.to_string()))?;
    let numbers: Vec<f64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [native, sandboxed, _] = numbers[..] else { bail!("podtap-decoder-cost says {said}") };
    let whole = contenders[1].median_cpu_seconds() * 1e9 / exchanges as f64;
    Ok(format!(
        "\nThe decoder: {:.2} µs an exchange in its sandbox, boundary included, {:.2} µs natively ({:.2} times). Natively, \
         the whole would\ntake {:.2} times less.\n",
        sandboxed / 1e3,
        native / 1e3,
        sandboxed / native,
        whole / (whole - sandboxed + native)
    ))
}

/// Until the first exchange of a small capture: what is paid once.
fn start_up(podtap: &str, rounds: usize) -> Result<String> {
    let small = workspace::http_captures().join("nginx-tour.pcap").display().to_string();
    let arguments = ["replay", &small, "--output-file", "/dev/null"];
    let mut warm = Contender::new("start-up", podtap, &arguments);
    let mut cold = Contender { without_cache: true, ..Contender::new("first start-up", podtap, &arguments) };
    for _ in 0..rounds.max(1) {
        for contender in [&mut warm, &mut cold] {
            let usage = contender.run()?;
            contender.runs.push(usage);
        }
    }
    Ok(format!(
        "\n## Start-up\n\nA capture of a few hundred exchanges, decoders {}: {:.0} ms with the compiled decoders in the \
         cache, {:.0} ms where\nthey are compiled first (CPU time).\n",
        decoders()?,
        warm.median_cpu_seconds() * 1e3,
        cold.median_cpu_seconds() * 1e3
    ))
}

fn stream_engine(workload: &Workload) -> Result<String> {
    let folder = workspace::target().join("bench");
    fs::create_dir_all(&folder)?;
    let example = |name: &str| Command::new(workspace::target().join("release/examples").join(name));
    let stream_cost = process::output(example("stream_cost").arg(&workload.capture).arg(&folder))?;
    let memory = process::output(example("throughput").arg("memory"))?;
    Ok(format!(
        "\n## The stream engine\n\nThe capture of {} and what is derived from it: CPU time per packet of a bare libpcap \
         loop, and of the same\nloop with the engine and a consumer that adds up bytes (`stream_cost`, median of its \
         rounds).\n\n{stream_cost}\nMemory of {memory}",
        workload.name
    ))
}

impl Contender {
    fn new(name: &'static str, program: &str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { name, program: program.to_owned(), arguments, without_cache: false, runs: Vec::new() }
    }

    fn command(&self) -> Command {
        let mut command = release::command(&self.program);
        command.args(&self.arguments);
        if self.without_cache {
            command.env("PODTAP_PLUGINS_CACHE", "false");
        }
        command
    }

    fn run(&self) -> Result<Usage> {
        measure(&mut self.command())
    }

    fn median_cpu_seconds(&self) -> f64 {
        median(self.runs.iter().map(|run| run.cpu_seconds))
    }

    fn memory_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.memory_bytes).max().unwrap_or_default()
    }
}

/// Runs a command to its end, without output; what it took is that of its process alone.
pub(crate) fn measure(command: &mut Command) -> Result<Usage> {
    // A file in place of /dev/null would measure the file system.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start {}", process::line(command)))?;
    let (status, usage) = wait(child, begun)?;
    if status != 0 {
        bail!("{} failed", process::line(command));
    }
    Ok(usage)
}

/// How often a process is asked for its memory.
const LOOK: Duration = Duration::from_millis(5);

/// Waits for a process: its status as wait(2) has it, and what it took; of time, with what it had started and waited for.
pub(crate) fn wait(child: Child, begun: Instant) -> Result<(i32, Usage)> {
    let process = i32::try_from(child.id())?;
    let (mut status, mut memory_bytes) = (0, 0);
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    loop {
        memory_bytes = memory_bytes.max(most_memory(process));
        // SAFETY: `status` and `usage` are valid for writes for the length of the call. `child` is neither waited for
        // nor used after it, so the process number is not collected twice.
        match unsafe { libc::wait4(process, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) } {
            0 => thread::sleep(LOOK),
            ended if ended == process => break,
            _ => return Err(io::Error::last_os_error()).context("wait4"),
        }
    }
    let elapsed_seconds = begun.elapsed().as_secs_f64();
    // SAFETY: wait4 has told of the process, and with that has filled `usage`.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok((
        status,
        Usage { cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime), elapsed_seconds, memory_bytes },
    ))
}

/// The most memory that a process has had (`VmHWM` of proc_pid_status(5)), bytes; 0 when it has ended. `ru_maxrss` will not do:
/// it begins with what the process has that started it.
fn most_memory(process: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let most =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    most.unwrap_or_default() * 1024
}

/// The one in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The result of a workload as Markdown.
fn table(workload: &Workload, exchanges: usize, contenders: &[Contender]) -> Result<String> {
    let mut page = String::new();
    let mebibytes = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
    let size = mebibytes(fs::metadata(&workload.capture)?.len());
    writeln!(page, "\n## {}\n\n{exchanges} exchanges, {size:.1} MiB: {}.\n", workload.name, workload.what)?;
    let bare = contenders[0].median_cpu_seconds();
    let tshark = contenders.iter().find(|contender| contender.name == TSHARK).map(Contender::median_cpu_seconds);
    writeln!(page, "| program | CPU | per exchange | times libpcap | tshark takes | memory |")?;
    writeln!(page, "|---|---:|---:|---:|---:|---:|")?;
    for contender in contenders {
        let cpu = contender.median_cpu_seconds();
        writeln!(
            page,
            "| {} | {:.0} ms | {:.2} µs | {:.1} | {} | {:.0} MiB |",
            contender.name,
            cpu * 1e3,
            cpu * 1e6 / exchanges as f64,
            cpu / bare,
            tshark.map_or("-".to_owned(), |tshark| format!("{:.1} times as much", tshark / cpu)),
            mebibytes(contender.memory_bytes()),
        )?;
    }
    writeln!(page, "\n```")?;
    let root = format!("{}/", workspace::root().display());
    for contender in contenders {
        writeln!(page, "{}", process::line(&contender.command()).replace(&root, ""))?;
    }
    writeln!(page, "```")?;
    Ok(page)
}

/// Commit and versions, as a list.
fn programs(contenders: &[Contender]) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(workspace::root()).args(["describe", "--always", "--dirty"]);
    let mut lines = vec![format!("- commit {}", process::output(&mut git)?.trim())];
    let mut programs = vec![contenders[1].program.as_str(), "rustc"];
    programs.extend(contenders.iter().filter(|contender| contender.name == TSHARK).map(|_| TSHARK));
    for program in programs {
        let version = process::output(Command::new(program).arg("--version"))?;
        lines.push(format!("- {}", version.lines().next().unwrap_or_default()));
    }
    Ok(lines)
}

/// Names of the decoders beside the release build.
fn decoders() -> Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(workspace::target().join("release/plugins"))? {
        names.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names.join(", "))
}

/// Processor and kernel in one line.
pub(crate) fn machine() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let count = std::thread::available_parallelism()?;
    let kernel = process::output(Command::new("uname").arg("-sr"))?;
    Ok(format!("{count} x {}, {}", model.trim_start_matches([' ', '\t', ':']), kernel.trim()))
}
