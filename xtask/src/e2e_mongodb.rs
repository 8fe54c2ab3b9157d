//! `cargo xtask e2e mongodb`: does podtap see exactly the commands that a driver's own command monitoring saw?
//!
//! Drivers run a tour of commands (a find over 10,000 documents with getMore, writes, write errors, errors) against a
//! real server, once for each compressor and once without. podtap replays the capture, and for each client the row of
//! its exchanges is compared with the driver's record: command, database, outcome, counts, in the same order.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{drivers, mongodb, process, release, workspace};

/// Documents that the tour inserts and finds.
const DOCUMENTS: usize = 10_000;

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// An executable with its plugins beside it, to check instead of building the release
    #[arg(long)]
    pub(crate) podtap: Option<PathBuf>,
}

/// A driver, its program, and the compressors that it has without more packages.
struct Driver {
    name: &'static str,
    program: fn() -> Result<Command>,
    compressors: &'static [Option<&'static str>],
}

const DRIVERS: [Driver; 5] = [
    Driver { name: "pymongo", program: mongodb::pymongo, compressors: &mongodb::COMPRESSORS },
    Driver { name: "node", program: node, compressors: &[None, Some("zlib")] },
    Driver { name: "java", program: java, compressors: &[None, Some("zlib")] },
    Driver { name: "go", program: || drivers::go("mongodb_tour_go"), compressors: &[None, Some("snappy")] },
    Driver { name: "rust", program: || drivers::rust("mongodb_tour"), compressors: &[None, Some("zstd")] },
];

fn node() -> Result<Command> {
    let mut node = drivers::node("mongodb", &["mongodb@7.9.0"])?;
    node.arg(drivers::programs().join("mongodb_tour.cjs"));
    Ok(node)
}

fn java() -> Result<Command> {
    drivers::java("MongodbTour.java", &["org.mongodb:mongodb-driver-sync:5.14.0", "org.slf4j:slf4j-nop:2.0.17"])
}

/// Makes the captures, replays them and compares.
pub(crate) fn run(args: &Args) -> Result<()> {
    let podtap = args.podtap.clone().map_or_else(release::build, Ok)?;
    let folder = workspace::target().join("e2e/mongodb");
    for driver in &DRIVERS {
        for &compressor in driver.compressors {
            let program = match (driver.program)() {
                Ok(program) => program,
                Err(error) if error.is::<drivers::Unavailable>() => {
                    println!("skipped: mongodb, driver {}: {error}", driver.name);
                    break;
                }
                Err(error) => return Err(error),
            };
            let name = format!("{}, {}", driver.name, compressor.unwrap_or("plain"));
            let capture = folder.join(format!("{}.pcap", name.replace(", ", "-")));
            let record = mongodb::tour(program, &capture, DOCUMENTS, compressor)?;
            let count = check(&podtap, &capture, &record).with_context(|| name.clone())?;
            println!("mongodb, {name}: {count} commands, the same in the driver's record and in podtap's events");
        }
    }
    Ok(())
}

/// Compares a driver's record with what podtap makes of the capture; the number of commands.
fn check(podtap: &Path, capture: &Path, record: &str) -> Result<usize> {
    fs::write(capture.with_extension("commands"), record)?;
    let events = capture.with_extension("jsonl");
    let mut replay = release::command(podtap);
    replay.arg("replay").arg(capture).args(["--output", "json", "--output-file"]).arg(&events);
    process::output(&mut replay)?;
    let (said, seen) = (commands(record)?, exchanges(&fs::read_to_string(&events)?)?);
    compare(&said, &seen).with_context(|| format!("see {}", workspace::short(capture)))?;
    Ok(said.values().map(Vec::len).sum())
}

/// The rows of commands, by application.
type Rows = BTreeMap<String, Vec<String>>;

/// Of a line, what both witnesses can say.
fn row(text: [Option<&Value>; 3], numbers: [Option<&Value>; 3]) -> String {
    let text = text.map(|value| value.and_then(Value::as_str).unwrap_or("-").to_owned());
    let numbers = numbers.map(|value| value.map_or("-".to_owned(), Value::to_string));
    format!("{} returned {} n {} write errors {}", text.join(" "), numbers[0], numbers[1], numbers[2])
}

/// From the driver's record, one JSON object a line.
fn commands(record: &str) -> Result<Rows> {
    let mut rows = Rows::new();
    for line in record.lines() {
        let line: Value = serde_json::from_str(line)?;
        let application = line["application"].as_str().context("a command without an application")?;
        let text = [line.get("command"), line.get("database"), line.get("outcome")];
        let numbers = [line.get("returned"), line.get("n"), line.get("write_errors")];
        rows.entry(application.to_owned()).or_default().push(row(text, numbers));
    }
    Ok(rows)
}

/// From podtap's events. What the driver's record has no word for (documents of a distinct or findAndModify) is left out.
fn exchanges(events: &str) -> Result<Rows> {
    let (mut rows, mut before) = (Rows::new(), String::new());
    for line in events.lines() {
        let event: Value = serde_json::from_str(line)?;
        let attributes = &event["attributes"];
        // nx-27017 answers the last command of Node's driver, which asks for no answer (moreToCome).
        if event["outcome"] == "unmatched" && before == "endSessions" {
            continue;
        }
        let application = attributes["mongodb.application_name"].as_str().unwrap_or("nobody");
        let operation = event["operation"].as_str().unwrap_or_default();
        operation.clone_into(&mut before);
        let text = [event.get("operation"), attributes.get("db.namespace"), event.get("outcome")];
        let returned = attributes.get("db.response.returned_rows");
        let returned = returned.filter(|_| !matches!(operation, "distinct" | "findAndModify"));
        let n = attributes.get("mongodb.n").filter(|_| operation != "findAndModify");
        rows.entry(application.to_owned())
            .or_default()
            .push(row(text, [returned, n, attributes.get("mongodb.write_errors")]));
    }
    Ok(rows)
}

fn compare(said: &Rows, seen: &Rows) -> Result<()> {
    for application in said.keys().chain(seen.keys()) {
        let empty = Vec::new();
        let (said, seen) = (said.get(application).unwrap_or(&empty), seen.get(application).unwrap_or(&empty));
        if let Some(at) = (0..said.len().max(seen.len())).find(|&at| said.get(at) != seen.get(at)) {
            bail!("{application}, command {at}: the driver said {:?}, podtap saw {:?}", said.get(at), seen.get(at));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{commands, compare, exchanges};

    const SAID: &str = r#"{"application":"a","command":"find","database":"d","outcome":"ok","returned":2}
{"application":"a","command":"insert","database":"d","outcome":"error","n":1,"write_errors":1}"#;

    fn event(operation: &str, outcome: &str, attributes: &str) -> String {
        let attributes = format!(r#"{{"mongodb.application_name":"a","db.namespace":"d",{attributes}}}"#);
        format!(r#"{{"operation":"{operation}","outcome":"{outcome}","attributes":{attributes}}}"#)
    }

    #[test]
    fn every_difference_is_an_error() {
        let find = event("find", "ok", r#""db.response.returned_rows":2"#);
        let insert = event("insert", "error", r#""mongodb.n":1,"mongodb.write_errors":1"#);
        let check = |events: &[&String]| {
            let events: Vec<&str> = events.iter().map(|event| event.as_str()).collect();
            compare(&commands(SAID).unwrap(), &exchanges(&events.join("\n")).unwrap()).is_ok()
        };
        assert!(check(&[&find, &insert]));
        assert!(!check(&[&insert, &find]) && !check(&[&find]) && !check(&[&find, &insert, &insert]));
        assert!(!check(&[&find, &event("insert", "ok", r#""mongodb.n":1,"mongodb.write_errors":1"#)]));
        assert!(!check(&[&find, &event("insert", "error", r#""mongodb.n":2,"mongodb.write_errors":1"#)]));
    }
}
