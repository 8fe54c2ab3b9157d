//! `cargo xtask bench kafka`: what publishing to a real Apache Kafka takes of podtap's CPU, and how many events a second go
//! through, by format, compression and spool.
//!
//! podtap replays a capture several times over, in one run, to a broker on 127.0.0.1 with a topic of its own. The same
//! without Kafka, to /dev/null, is the base: what is more than that is the cost of publishing. CPU time is that of podtap's
//! process alone; the broker's is not counted, but it runs on the same machine, which is in the events a second.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::bench::{Usage, machine, measure, median};
use crate::{e2e_nginx, kafka, process, release, workspace};

/// How large, how often, and whether to keep the result.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Exchanges in the capture, at least
    #[arg(long, default_value_t = 50_000)]
    exchanges: usize,
    /// How often one run replays it
    #[arg(long, default_value_t = 8)]
    repetitions: usize,
    /// Runs of each kind, which take turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Write the result to docs/benchmarks/DATE-kafka.md
    #[arg(long)]
    write: bool,
    /// An executable with its plugins beside it, to measure instead of building the release
    #[arg(long)]
    podtap: Option<PathBuf>,
}

const FORMATS: [(&str, &str); 2] = [("msgpack", "MessagePack"), ("json", "JSON")];

/// A way to publish, and the runs of it.
struct Way {
    format: &'static str,
    name: &'static str,
    /// None: to /dev/null.
    compression: Option<&'static str>,
    spooled: bool,
    runs: Vec<Usage>,
    /// Bytes that the broker has of it.
    stored_bytes: u64,
}

/// Measures and prints a Markdown page; says why where it cannot.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(why) = kafka::unavailable() {
        println!("skipped: bench kafka: {why} (`cargo xtask setup --kafka` installs what is missing)");
        return Ok(());
    }
    let podtap = args.podtap.clone().map_or_else(release::build, Ok)?;
    let traffic = e2e_nginx::make(&e2e_nginx::Args { exchanges: args.exchanges, reuse: true })?;
    let broker = kafka::Borrowed::borrow()?;
    let spool = workspace::target().join("bench/spool");
    let mut ways = ways();
    for round in 0..args.rounds.max(1) {
        for (number, way) in ways.iter_mut().enumerate() {
            let mut command = release::command(&podtap);
            command.arg("replay").args(vec![&traffic.capture; args.repetitions]);
            let topic = format!("bench-{number}-{round}-{}", std::process::id());
            match way.compression {
                None => command.args(["--output", way.format, "--output-file", "/dev/null"]),
                Some(compression) => {
                    if way.spooled {
                        command.env("PODTAP_SPOOL_DIRECTORY", &spool);
                    }
                    command.env("PODTAP_KAFKA_COMPRESSION", compression);
                    command.args(["--kafka-brokers", &broker.0.address, "--kafka-topic", &topic]);
                    command.args(["--kafka-format", way.format])
                }
            };
            way.runs.push(measure(&mut command)?);
            if way.compression.is_some() {
                way.stored_bytes = stored_bytes(&topic)?;
                // What it keeps in memory and writes to the disk is to be the same for all.
                delete(&broker.0.address, &topic)?;
            }
        }
    }
    let events = fs::read_to_string(&traffic.log)?.lines().count() * args.repetitions;
    let page = page(&ways, events, args)?;
    print!("{page}");
    if args.write {
        let date = process::output(Command::new("date").args(["--utc", "+%F"]))?;
        let written = workspace::root().join(format!("docs/benchmarks/{}-kafka.md", date.trim()));
        fs::write(&written, format!("# {}, publishing to Kafka\n\n{page}", date.trim()))?;
        println!("\nwritten: {}", workspace::short(&written));
    }
    Ok(())
}

fn ways() -> Vec<Way> {
    let way = |(format, name), compression, spooled| Way {
        format,
        name,
        compression,
        spooled,
        runs: Vec::new(),
        stored_bytes: 0,
    };
    let of_format = |format| {
        let to_kafka = ["none", "lz4", "zstd"].map(|compression| way(format, Some(compression), false));
        [way(format, None, false)].into_iter().chain(to_kafka).chain([way(format, Some("lz4"), true)])
    };
    FORMATS.into_iter().flat_map(of_format).collect()
}

/// What is in the segments of a topic's partitions.
fn stored_bytes(topic: &str) -> Result<u64> {
    let mut bytes = 0;
    for partition in fs::read_dir(kafka::folder().join("data"))? {
        let partition = partition?;
        let name = partition.file_name().to_string_lossy().into_owned();
        if name.rsplit_once('-').is_none_or(|(of, _)| of != topic) {
            continue;
        }
        for file in fs::read_dir(partition.path())? {
            let file = file?;
            if file.path().extension().is_some_and(|extension| extension == "log") {
                bytes += file.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}

fn delete(brokers: &str, topic: &str) -> Result<()> {
    let mut tool = kafka::tool("org.apache.kafka.tools.TopicCommand");
    process::output(tool.args(["--bootstrap-server", brokers, "--delete", "--topic", topic])).map(drop)
}

/// The result as Markdown.
fn page(ways: &[Way], events: usize, args: &Args) -> Result<String> {
    let mut page = String::new();
    writeln!(
        page,
        "{events} events in each run: a capture of nginx under wrk (made by `cargo xtask e2e nginx`), {} times over, with key\n\
         and headers as they are by default, to one Apache Kafka broker on the same machine, with acknowledgement.\n\
         Medians of {} runs that took turns. CPU time, user and system, is podtap's alone, with reading, reassembly and\n\
         decoding; the cost of publishing is what is more than in the first row of a format. The broker's CPU time is not\n\
         counted, but it shares the cores with podtap, which is in the events a second. Memory: the most of all runs.\n",
        args.repetitions,
        args.rounds.max(1),
    )?;
    writeln!(
        page,
        "| format | compression | events a second | CPU per event | of that publishing | bytes stored per event | memory |"
    )?;
    writeln!(page, "|---|---|---:|---:|---:|---:|---:|")?;
    let per_event = |seconds: f64| seconds * 1e6 / events as f64;
    let mut base = 0.0;
    for way in ways {
        let cpu = per_event(median(way.runs.iter().map(|run| run.cpu_seconds)));
        let elapsed = median(way.runs.iter().map(|run| run.elapsed_seconds));
        let (to, publishing, stored) = match way.compression {
            None => {
                base = cpu;
                ("to /dev/null".to_owned(), "-".to_owned(), "-".to_owned())
            }
            Some(compression) => (
                format!("{compression}{}", if way.spooled { ", with a spool" } else { "" }),
                format!("{:.2} µs", cpu - base),
                format!("{:.0}", way.stored_bytes as f64 / events as f64),
            ),
        };
        let memory = way.runs.iter().map(|run| run.memory_bytes).max().context("every way has runs")?;
        writeln!(
            page,
            "| {} | {to} | {:.0} | {cpu:.2} µs | {publishing} | {stored} | {} MiB |",
            way.name,
            events as f64 / elapsed,
            memory >> 20,
        )?;
    }
    writeln!(page, "\nMachine: {}\n", machine()?)?;
    let mut git = Command::new("git");
    git.current_dir(workspace::root()).args(["describe", "--always", "--dirty"]);
    writeln!(page, "- commit {}", process::output(&mut git)?.trim())?;
    writeln!(page, "- Apache Kafka {}, one broker with a heap of 512 MiB", kafka::VERSION)?;
    writeln!(page, "- `cargo xtask bench kafka --rounds {} --repetitions {}`", args.rounds, args.repetitions)?;
    Ok(page)
}
