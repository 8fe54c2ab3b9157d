//! `cargo xtask bench live`: what watching a server under full load takes, live: CPU time for each request, and the requests
//! that the load generator loses by it.
//!
//! ```text
//!  client's namespace: wrk ── veth pair ── server's namespace: nginx, and one program that captures
//! ```
//!
//! Programs take turns, and the median of their runs counts. All share the machine's cores, so a program that captures
//! takes its time from the server and the load generator, as an agent beside a busy service does.

use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::{Usage, machine, median, write_page};
use crate::e2e_live::{INTERFACE, Namespaces, SERVER_ADDRESS, client_wrk, start_nginx, unavailable};
use crate::process::{self, Signal};
use crate::{bench, e2e_nginx, release, workspace};

/// How long, how often, and whether to keep the result.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Length of one run
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Runs of each program
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Write the result to docs/benchmarks/DATE-live.md
    #[arg(long)]
    write: bool,
    /// An executable with its plugins beside it, to measure instead of building the release
    #[arg(long)]
    podtap: Option<PathBuf>,
    /// The client's namespace: set by the benchmark itself, which runs in the server's
    #[arg(long, hide = true)]
    client: Option<String>,
}

/// Connections of the load generator, which asks on each as soon as it is answered.
const CONNECTIONS: &str = "64";

/// A program that captures, and how to know that it does.
struct Watcher {
    name: &'static str,
    command: Option<fn(&Path) -> Command>,
    /// What it says when it captures.
    ready: &'static str,
    end: Signal,
    runs: Vec<Run>,
}

struct Run {
    requests_per_second: f64,
    requests: u64,
    usage: Option<Usage>,
    /// Packets that the kernel dropped, and exchanges that were seen, where the program says so.
    dropped: Option<u64>,
    exchanges: Option<u64>,
}

/// Measures and prints a Markdown page; says why where it cannot.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(client) = &args.client {
        return inside(args, client);
    }
    if let Some(why) = unavailable() {
        println!("skipped: bench live: {why}");
        return Ok(());
    }
    let podtap = args.podtap.clone().map_or_else(release::build, Ok)?;
    let namespaces = Namespaces::make()?;
    let mut bench = namespaces.within(&namespaces.server, std::env::current_exe()?);
    bench.args(["bench", "live", "--client", &namespaces.client, "--seconds", &args.seconds.to_string()]);
    bench.args(["--rounds", &args.rounds.to_string(), "--podtap"]).arg(podtap);
    if args.write {
        bench.arg("--write");
    }
    process::run(&mut bench)
}

fn inside(args: &Args, client: &str) -> Result<()> {
    let podtap = args.podtap.as_ref().context("the outer program names it")?;
    let folder = workspace::target().join("bench/live");
    e2e_nginx::make_site(&folder)?;
    let port = process::free_port()?;
    let nginx = start_nginx(&folder, port, |configuration| {
        configuration.replace("access_log access.log exchanges;", "access_log off;")
    })?;
    let url = format!("http://{SERVER_ADDRESS}:{port}/items/1");
    let mut watchers = watchers();
    for _ in 0..args.rounds.max(1) {
        for watcher in &mut watchers {
            let run = watcher.run(podtap, &folder, client, &url, args.seconds)?;
            watcher.runs.push(run);
        }
    }
    nginx.stop()?;
    let mut page = format!(
        "An nginx of one process under `wrk -t 1 -c {CONNECTIONS}`, answers of 1.1 kB, as fast as it goes; {} runs of {} s that \
         took turns, medians.\nCPU time is user and system, of the program and what it started.\n\n",
        args.rounds, args.seconds
    );
    page += "| program | requests/s | of those alone | CPU per request | packets dropped by the kernel | exchanges seen |\n";
    page += "|---|---:|---:|---:|---:|---:|\n";
    let alone = median(watchers[0].runs.iter().map(|run| run.requests_per_second));
    for watcher in &watchers {
        page += &watcher.row(alone)?;
    }
    page += "\n```\n";
    for command in watchers.iter().filter_map(|watcher| watcher.command) {
        let root = format!("{}/", workspace::root().display());
        writeln!(page, "{}", process::line(&command(podtap)).replace(&root, ""))?;
    }
    writeln!(page, "```\n\nMachine: {}", machine()?)?;
    print!("{page}");
    if args.write {
        write_page(&page, "-live")?;
    }
    Ok(())
}

fn watchers() -> Vec<Watcher> {
    let watcher = |name, command, ready, end| Watcher { name, command: Some(command), ready, end, runs: Vec::new() };
    let mut watchers = vec![
        Watcher { name: "nothing", command: None, ready: "", end: Signal::Terminate, runs: Vec::new() },
        watcher("podtap, MessagePack", |podtap| of_podtap(podtap, "msgpack"), "\"capturing\"", Signal::Terminate),
        watcher("podtap, two workers", of_two_workers, "\"capturing\"", Signal::Terminate),
        watcher("podtap, JSON", |podtap| of_podtap(podtap, "json"), "\"capturing\"", Signal::Terminate),
    ];
    match go_program() {
        Ok(()) => watchers.push(watcher("a Go program, for HTTP alone", of_go, "capturing", Signal::Terminate)),
        Err(error) => println!("not measured: the Go program: {error:#}"),
    }
    if process::find("tcpdump").is_some() {
        let command = |_: &Path| {
            let mut tcpdump = Command::new("tcpdump");
            tcpdump.args(["-i", INTERFACE, "-n", "-w", "/dev/null"]);
            tcpdump
        };
        watchers.push(watcher("tcpdump -w /dev/null", command, "listening on", Signal::Interrupt));
    }
    if process::find("tshark").is_some() {
        let command = |_: &Path| {
            let mut tshark = Command::new("tshark");
            tshark.args(["-i", INTERFACE, "-n", "-Y", "http", "-T", "fields"]);
            tshark.args(["-e", "http.request.uri", "-e", "http.response.code"]);
            tshark
        };
        watchers.push(watcher("tshark", command, "Capturing on", Signal::Interrupt));
    }
    watchers
}

pub(crate) fn go_target() -> PathBuf {
    workspace::target().join("bench/gopacket-http")
}

/// Builds the peer that is written in Go.
pub(crate) fn go_program() -> Result<()> {
    let mut go = Command::new(process::find("go").context("no go")?);
    go.current_dir(workspace::root().join("xtask/peers/gopacket")).args(["build", "-o"]).arg(go_target()).arg(".");
    process::output(&mut go).map(drop)
}

fn of_go(_: &Path) -> Command {
    let mut command = Command::new(go_target());
    command.args(["-i", INTERFACE, "-o", "/dev/null"]);
    command
}

fn of_podtap(podtap: &Path, format: &str) -> Command {
    let mut command = release::command(podtap);
    command.args(["run", "--interface", INTERFACE, "--output", format, "--output-file", "/dev/null"]);
    command
}

fn of_two_workers(podtap: &Path) -> Command {
    let mut command = of_podtap(podtap, "msgpack");
    command.env("PODTAP_CAPTURE_WORKERS", "2");
    command
}

impl Watcher {
    fn run(&self, podtap: &Path, folder: &Path, client: &str, url: &str, seconds: u32) -> Result<Run> {
        let log = folder.join("watcher.log");
        let child = match self.command {
            None => None,
            Some(command) => {
                let mut command = command(podtap);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
                let begun = Instant::now();
                let child = command.spawn().with_context(|| process::line(&command))?;
                while !fs::read_to_string(&log)?.contains(self.ready) {
                    ensure!(begun.elapsed() < Duration::from_secs(30), "{} does not begin", self.name);
                    std::thread::sleep(Duration::from_millis(50));
                }
                Some((child, begun))
            }
        };
        let duration = format!("{seconds}s");
        let mut wrk = client_wrk(client);
        let said = process::output(wrk.args(["-t", "1", "-c", CONNECTIONS, "-d", &duration, url]))?;
        let number = |before: &str| -> Option<f64> {
            let line = said.lines().find(|line| line.contains(before))?;
            line.split_whitespace().find_map(|word| word.parse().ok())
        };
        let requests = number("requests in").context("wrk says how many requests it made")?;
        let requests_per_second = number("Requests/sec").context("wrk says how many requests it made a second")?;
        let usage = match child {
            None => None,
            Some((child, begun)) => {
                // What waits in the capture buffer is still to be read.
                std::thread::sleep(Duration::from_millis(500));
                process::send(self.end, child.id())?;
                Some(bench::wait(child, begun)?.1)
            }
        };
        let said = if usage.is_some() { fs::read_to_string(&log)? } else { String::new() };
        // podtap and tcpdump say so in their own words; podtap leaves out what is nothing.
        let count = |words: &str| {
            let line = said.lines().find(|line| line.contains(words))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let exchanges = count("  exchanges");
        let dropped = count("packets dropped by kernel").or(exchanges.map(|_| 0));
        Ok(Run { requests_per_second, requests: requests as u64, usage, dropped, exchanges })
    }

    fn row(&self, alone: f64) -> Result<String> {
        let mut row = String::new();
        let per_second = median(self.runs.iter().map(|run| run.requests_per_second));
        write!(row, "| {} | {per_second:.0} | {:.0} % | ", self.name, 100.0 * per_second / alone)?;
        let cpu = |run: &Run| Some(run.usage?.cpu_seconds * 1e6 / run.requests as f64);
        let cpu: Vec<_> = self.runs.iter().filter_map(cpu).collect();
        match cpu.is_empty() {
            true => row.push_str("- | "),
            false => write!(row, "{:.2} µs | ", median(cpu.into_iter()))?,
        }
        let total = |of: fn(&Run) -> Option<u64>| self.runs.iter().map(of).sum::<Option<u64>>();
        match total(|run| run.dropped) {
            Some(dropped) if self.command.is_some() => write!(row, "{dropped} | ")?,
            _ => row.push_str("- | "),
        }
        match total(|run| run.exchanges) {
            Some(exchanges) => {
                let requests: u64 = self.runs.iter().map(|run| run.requests).sum();
                writeln!(row, "{exchanges} of {requests} |")?;
            }
            None => row.push_str("- |\n"),
        }
        Ok(row)
    }
}
