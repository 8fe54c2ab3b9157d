//! `cargo xtask demo`: from nothing to exchanges on the screen, and with `--kafka` to a topic and back.

use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::{kafka, process, release, setup, workspace};

/// How far the demo goes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also publish to a real Apache Kafka and read the events back
    #[arg(long)]
    kafka: bool,
}

/// Records of the topic that are shown.
const SHOWN: usize = 3;

/// Shows what podtap does.
pub(crate) fn run(args: &Args) -> Result<()> {
    heading("Build", "podtap and its HTTP decoder, compiled to WebAssembly. The first time takes some minutes.");
    setup::run(setup::Args { kafka: args.kafka, e2e: false })?;
    let podtap = release::build()?;
    let capture = workspace::http_captures().join("nginx-tour.pcap");

    let logged = fs::read_to_string(capture.with_extension("log"))?.lines().count();
    heading(
        "Replay",
        &format!(
            "A capture of a real nginx and its clients: {logged} exchanges, from plain to odd. podtap rebuilds the\n\
             TCP connections, hands the bytes to the decoder in its sandbox, and prints one line per exchange."
        ),
    );
    let mut replay = podtap_replay(&podtap, &capture);
    shown(&replay);
    process::run(&mut replay)?;

    if args.kafka {
        publish(&podtap, &capture, logged)?;
    }
    heading("Next", "Replay a capture of your own:");
    println!("$ {} replay FILE", workspace::short(&podtap));
    if !args.kafka {
        println!("\nPublish to a real Apache Kafka and read the events back:");
        println!("$ cargo xtask demo --kafka");
    }
    Ok(())
}

/// Publishes the capture's events and reads them back by Kafka's own consumer.
fn publish(podtap: &Path, capture: &Path, expected: usize) -> Result<()> {
    heading("Publish", "The same events to a topic of a real Apache Kafka, as JSON (MessagePack is the default).");
    let broker = kafka::Borrowed::borrow()?;
    let brokers = broker.0.address.as_str();
    let topic = format!("podtap-demo-{}", std::process::id());
    let mut replay = podtap_replay(podtap, capture);
    replay.args(["--kafka-brokers", brokers, "--kafka-topic", &topic, "--kafka-format", "json"]);
    shown(&replay);
    process::run(&mut replay)?;

    heading("Consume", "What a program downstream sees: headers, key and value, read by Kafka's console consumer.");
    let mut consumer = kafka::tool("org.apache.kafka.tools.consumer.ConsoleConsumer");
    consumer.args(["--bootstrap-server", brokers, "--topic", &topic, "--from-beginning"]);
    consumer.args(["--max-messages", &expected.to_string(), "--timeout-ms", "15000"]);
    consumer.args(["--formatter-property", "print.headers=true", "--formatter-property", "print.key=true"]);
    let output = consumer.stdin(Stdio::null()).stderr(Stdio::null()).output().context("cannot start java")?;
    let records = String::from_utf8(output.stdout)?;
    for record in records.lines().take(SHOWN) {
        let mut fields = record.splitn(3, '\t');
        for name in ["headers", "key", "value"] {
            println!("{name:>7}  {}", fields.next().unwrap_or_default());
        }
        println!();
    }
    let count = records.lines().count();
    ensure!(count == expected, "{count} records came back, {expected} were expected");
    println!("... and {} more: {count} records, one per exchange.", count - SHOWN.min(count));
    Ok(())
}

fn podtap_replay(podtap: &Path, capture: &Path) -> Command {
    let mut replay = release::command(podtap);
    replay.arg("replay").arg(capture);
    replay
}

/// Prints a command as one would type it in the project's root.
fn shown(command: &Command) {
    println!("$ {}\n", process::line(command).replace(&format!("{}/", workspace::root().display()), ""));
}

fn heading(title: &str, what: &str) {
    let (bold, plain) = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    println!("\n{bold}== {title}{plain}\n{what}\n");
}
