//! `cargo xtask e2e mongodb`: does podtap see exactly the commands that the driver's own command monitoring saw?
//!
//! pymongo runs a tour of commands (a find over 10,000 documents with getMore, writes, write errors, errors) against a
//! real server, once for each compressor and once without. podtap replays the capture, and for each client the row of
//! its exchanges is compared with the driver's record: command, database, outcome, counts, in the same order.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{mongodb, process, release, workspace};

/// Documents that the tour inserts and finds.
const DOCUMENTS: usize = 10_000;

/// Makes the captures, replays them and compares.
pub(crate) fn run() -> Result<()> {
    let packages = mongodb::packages()?;
    let podtap = release::build()?;
    let folder = workspace::target().join("e2e/mongodb");
    for compressor in mongodb::COMPRESSORS {
        let name = compressor.unwrap_or("plain");
        let capture = folder.join(format!("{name}.pcap"));
        let record = mongodb::tour(&packages, &capture, DOCUMENTS, compressor)?;
        fs::write(capture.with_extension("commands"), &record)?;
        let events = capture.with_extension("jsonl");
        let mut replay = release::command(&podtap);
        replay.arg("replay").arg(&capture).args(["--output", "json", "--output-file"]).arg(&events);
        process::output(&mut replay)?;
        let (said, seen) = (commands(&record)?, exchanges(&fs::read_to_string(&events)?)?);
        compare(&said, &seen).with_context(|| format!("{name}: see {}", workspace::short(&capture)))?;
        let count: usize = said.values().map(Vec::len).sum();
        println!("mongodb, {name}: {count} commands, the same in the driver's record and in podtap's events");
    }
    Ok(())
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
    let mut rows = Rows::new();
    for line in events.lines() {
        let event: Value = serde_json::from_str(line)?;
        let attributes = &event["attributes"];
        let application = attributes["mongodb.application_name"].as_str().unwrap_or("nobody");
        let operation = event["operation"].as_str().unwrap_or_default();
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
