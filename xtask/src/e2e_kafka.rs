//! `cargo xtask e2e kafka`: do Kafka's consumers read exactly what podtap writes to a file?
//!
//! Replays the shipped capture to a real Apache Kafka in both formats and to files, and leaves the comparison to
//! clients of other make: `xtask/e2e/kafka.py` with librdkafka's Python client, and kcat.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{kafka, process, release, workspace};

/// Programs that the check needs, beside those of the broker.
pub(crate) const PROGRAMS: [&str; 2] = ["kcat", "python3"];

const REQUIREMENTS: [&str; 2] = ["confluent-kafka==2.16.1", "msgpack==1.2.4"];

/// Publishes, reads back and compares.
pub(crate) fn run() -> Result<()> {
    let podtap = release::build()?;
    let python = python()?;
    let folder = workspace::target().join("e2e/kafka");
    fs::create_dir_all(&folder)?;
    let broker = kafka::Borrowed::borrow()?;
    let brokers = broker.0.address.as_str();

    let capture = workspace::http_captures().join("nginx-tour.pcap");
    let replay = |options: &[&str]| {
        let mut podtap = release::command(&podtap);
        process::output(podtap.arg("replay").arg(&capture).args(options)).map(drop)
    };
    let mut compare = Command::new(python);
    compare.arg(workspace::root().join("xtask/e2e/kafka.py")).args(["--brokers", brokers]);
    for format in ["msgpack", "json"] {
        // A new topic each time: the broker may have been running for long.
        let topic = format!("podtap-e2e-{format}-{}", std::process::id());
        replay(&["--kafka-brokers", brokers, "--kafka-topic", &topic, "--kafka-format", format])?;
        let file = file(&folder, format);
        replay(&["--output", format, "--output-file", &file])?;
        compare.args([format!("--{format}-topic"), topic, format!("--{format}-file"), file]);
    }
    let second = file(&folder, "second.json");
    replay(&["--output", "json", "--output-file", &second])?;
    process::run(compare.args(["--second-file", &second]))
}

fn file(folder: &Path, name: &str) -> String {
    folder.join(format!("events.{name}")).display().to_string()
}

/// Python with the packages that the comparison needs, in an environment of its own.
pub(crate) fn python() -> Result<PathBuf> {
    let environment = workspace::target().join("venv");
    let python = environment.join("bin/python");
    let marker = environment.join("requirements");
    let requirements = REQUIREMENTS.join("\n");
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == requirements) {
        return Ok(python);
    }
    process::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    process::output(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(REQUIREMENTS))?;
    fs::write(marker, requirements)?;
    Ok(python)
}
