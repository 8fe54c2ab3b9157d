//! `cargo xtask e2e consumers`: do the example consumers of deploy/kafka read what podtap writes to a file?
//!
//! The topic is created by `deploy/kafka/create-topic.sh` on a real Apache Kafka, shipped captures are replayed to it, one
//! of them twice, and the consumers in Python, Rust and Java run as their README says, and `podtap read` beside them. What
//! each says is compared by `xtask/e2e/consumers.py` with what it counts in podtap's own file of the same captures. The
//! SQL of docs/consumers.md is run on that file by `xtask/e2e/sql.py`.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::process::{self, Running, Signal};
use crate::{e2e_kafka, kafka, release, workspace};

/// Programs that the check needs, beside those of the broker and of `e2e kafka`.
pub(crate) const PROGRAMS: [&str; 2] = ["javac", "python3"];

/// In the order of their time.
const CAPTURES: [&str; 4] = [
    "plugins/http/tests/captures/nginx-tour.pcap",
    "plugins/http/tests/captures/servers-tour.pcap",
    "plugins/mysql/tests/captures/tour.pcap",
    "plugins/mongodb/tests/captures/pymongo-plain.pcap",
];

/// For how long a minute of these captures waits for late events: they are of two days.
const GRACE_MINUTES: &str = "2880";

/// ClickHouse and DuckDB as Python packages.
const ENGINES: [&str; 2] = ["chdb-core==26.9.0", "duckdb==2.0.1"];

/// Publishes, consumes and compares.
pub(crate) fn run() -> Result<()> {
    let podtap = release::build_with(&["--bin", "podtap-consumer"])?;
    let folder = workspace::target().join("e2e/consumers");
    fs::create_dir_all(&folder)?;
    let streams = compile(&folder)?;
    let python = e2e_kafka::python()?;
    let broker = kafka::Borrowed::borrow()?;
    let brokers = broker.0.address.as_str();

    let topic = |name: &str| format!("podtap-consumers-{name}-{}", std::process::id());
    let (json, msgpack, results) = (topic("json"), topic("msgpack"), topic("results"));
    let topics_tool = topics_tool(&folder)?;
    for topic in [&json, &msgpack, &results] {
        let mut create = Command::new(workspace::root().join("deploy/kafka/create-topic.sh"));
        create.env("KAFKA_TOPICS", &topics_tool);
        process::output(create.args([brokers, topic, "3", "1"]))?;
    }
    let mut java = Command::new("java");
    java.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    java.arg(format!("{}:{}", streams.display(), kafka::class_path()?));
    java.args(["RequestsPerMinute", brokers, &json, &results, GRACE_MINUTES]);
    let log = File::create(folder.join("streams.log"))?;
    java.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let java = Running::start(&mut java)?;

    let events = folder.join("events.jsonl");
    publish(&podtap, brokers, &json, &msgpack, &events)?;
    let output = |name: &str| folder.join(name);
    capture(&mut consumer(&python, brokers, &msgpack, "python"), &output("python.jsonl"))?;
    let rust = workspace::target().join("release/podtap-consumer");
    let mut rust = Command::new(rust);
    capture(rust.args([brokers, &msgpack, "rust", "--until-end"]), &output("rust.txt"))?;
    let mut read = release::command(&podtap);
    let read = read.args(["read", "--brokers", brokers, "--topic", &msgpack, "--output", "json"]);
    capture(read, &output("read.jsonl"))?;

    let mut compare = Command::new(&python);
    compare.arg(workspace::root().join("xtask/e2e/consumers.py")).args(["--brokers", brokers, "--results", &results]);
    compare.arg("--events").arg(&events);
    for (name, file) in [("--python", "python.jsonl"), ("--rust", "rust.txt"), ("--read", "read.jsonl")] {
        compare.arg(name).arg(output(file));
    }
    process::run(&mut compare)?;
    java.stop(Signal::Terminate)?;

    let mut sql = Command::new(engines()?);
    sql.arg(workspace::root().join("xtask/e2e/sql.py")).arg(workspace::root().join("docs/consumers.md")).arg(&events);
    process::run(&mut sql)
}

/// Compiles the example of Kafka Streams as its README says; returns the folder of its classes.
fn compile(folder: &Path) -> Result<PathBuf> {
    let classes = folder.join("classes");
    let mut javac = Command::new("javac");
    javac.args(["-Xlint:all", "-Werror", "-d"]).arg(&classes).args(["-cp", &kafka::class_path()?]);
    process::output(javac.arg(workspace::root().join("deploy/kafka/streams/RequestsPerMinute.java")))?;
    Ok(classes)
}

/// Kafka's tool of that name, which Maven's jars have no script for.
fn topics_tool(folder: &Path) -> Result<PathBuf> {
    let file = folder.join("kafka-topics.sh");
    let tool = kafka::tool("org.apache.kafka.tools.TopicCommand");
    let words = std::iter::once(tool.get_program()).chain(tool.get_args());
    let line: Vec<_> = words.map(|word| format!("'{}'", word.display())).collect();
    fs::write(&file, format!("#!/bin/sh\ncd '{}'\nexec {} \"$@\"\n", folder.display(), line.join(" ")))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

/// Replays the captures to both topics and to one file of JSON lines. The first one goes to the topics twice, as it does
/// after a crash; to that of MessagePack the second time as JSON, for a topic may hold both.
fn publish(podtap: &Path, brokers: &str, json: &str, msgpack: &str, events: &Path) -> Result<()> {
    let replay = |capture: &str, options: &[&str]| {
        let mut podtap = release::command(podtap);
        podtap.arg("replay").arg(workspace::root().join(capture)).arg("--connections");
        process::output(podtap.args(options))
    };
    let to_topic = |capture: &str, topic: &str, format: &str| {
        replay(capture, &["--kafka-brokers", brokers, "--kafka-topic", topic, "--kafka-format", format]).map(drop)
    };
    let mut lines = String::new();
    for capture in CAPTURES {
        to_topic(capture, json, "json")?;
        to_topic(capture, msgpack, "msgpack")?;
        lines += &replay(capture, &["--output", "json"])?;
    }
    to_topic(CAPTURES[0], json, "json")?;
    to_topic(CAPTURES[0], msgpack, "json")?;
    Ok(fs::write(events, lines)?)
}

/// The example in Python.
fn consumer(python: &Path, brokers: &str, topic: &str, group: &str) -> Command {
    let mut consumer = Command::new(python);
    consumer.arg(workspace::root().join("deploy/kafka/python/consume.py"));
    consumer.args([brokers, topic, group, "--until-end"]);
    consumer
}

/// Runs a command, its standard output to a file.
fn capture(command: &mut Command, file: &Path) -> Result<()> {
    Ok(fs::write(file, process::output(command)?)?)
}

/// Python with ClickHouse and DuckDB, in an environment of its own.
fn engines() -> Result<PathBuf> {
    let environment = workspace::target().join("venv-sql");
    let (python, marker) = (environment.join("bin/python"), environment.join("requirements"));
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == ENGINES.join("\n")) {
        return Ok(python);
    }
    println!("Installing by pip into {} (600 MB): {}", workspace::short(&environment), ENGINES.join(", "));
    process::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    process::output(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--no-deps"]).args(ENGINES))?;
    fs::write(marker, ENGINES.join("\n"))?;
    Ok(python)
}
