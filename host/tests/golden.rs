//! Shipped captures give exactly the events beside them, the exchanges of the server's own log, and what the README shows.
//!
//! `PODTAP_UPDATE_GOLDEN=1 cargo test -p podtap --test golden` writes goldens and README anew; read the difference.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use podtap::event::Redaction;
use serde_json::Value;
use support::podtap;

/// Lines of the replay that the README shows.
const README_LINES: usize = 12;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the project's root")
}

/// Files with an extension in the folders of all decoders' captures.
fn captures(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for plugin in std::fs::read_dir(root().join("plugins")).expect("plugins") {
        let Ok(files) = std::fs::read_dir(plugin.expect("an entry").path().join("tests/captures")) else { continue };
        found.extend(files.map(|file| file.expect("an entry").path()));
    }
    found.retain(|path| path.extension().is_some_and(|found| found == extension));
    found.sort();
    found
}

fn replay(capture: &Path, output: &str) -> support::Run {
    let run = podtap(&["replay", capture.to_str().expect("UTF-8"), "--output", output, "--color", "never"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    run
}

/// Compares with the file, or writes it when the environment says so.
#[track_caller]
fn check(path: &Path, actual: &str) {
    if std::env::var_os("PODTAP_UPDATE_GOLDEN").is_some() {
        return std::fs::write(path, actual).expect("the golden can be written");
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if let Some(line) = expected.lines().zip(actual.lines()).position(|(expected, actual)| expected != actual) {
        let at = |text: &str| text.lines().nth(line).unwrap_or_default().to_owned();
        panic!(
            "{}, line {}:\n  expected {}\n  found    {}\nPODTAP_UPDATE_GOLDEN=1 cargo test -p podtap --test golden",
            path.display(),
            line + 1,
            at(&expected),
            at(actual)
        );
    }
    assert_eq!(actual.lines().count(), expected.lines().count(), "lines in {} (right)", path.display());
}

#[test]
fn captures_give_the_events_beside_them() {
    let captures = captures("pcap");
    assert!(!captures.is_empty());
    for capture in captures {
        check(&capture.with_extension("jsonl"), &replay(&capture, "json").stdout);
    }
}

#[test]
fn no_golden_is_without_its_capture() {
    for golden in captures("jsonl") {
        assert!(golden.with_extension("pcap").is_file(), "{} has no capture", golden.display());
    }
}

#[test]
fn a_second_replay_gives_the_same_events_and_each_has_an_id_of_its_own() {
    for capture in captures("pcap") {
        let first = replay(&capture, "json");
        assert!(first.stdout == replay(&capture, "json").stdout, "{}", capture.display());
        let ids: HashSet<_> = first.exchanges().iter().map(|exchange| exchange["id"].to_string()).collect();
        assert_eq!(ids.len(), first.exchanges().len(), "ids that are not unique in {}", capture.display());
    }
}

/// Method, request target (its query redacted as in events) and status of each line of an nginx log as
/// `cargo xtask captures` writes it.
fn logged(log: &str) -> BTreeMap<(String, String, u64), usize> {
    let mut found = BTreeMap::new();
    for line in log.lines() {
        let columns: Vec<_> = line.split('\t').collect();
        let [method, target, status, ..] = columns.as_slice() else { panic!("not a line of the log: {line}") };
        let target = match target.split_once('?') {
            Some((path, query)) => {
                let mut query = query.into();
                Redaction::new(&[]).redact_query(&mut query);
                format!("{path}?{query}")
            }
            None => (*target).to_owned(),
        };
        *found.entry(((*method).to_owned(), target, status.parse().expect("a status"))).or_default() += 1;
    }
    found
}

#[test]
fn exchanges_are_those_of_the_servers_log() {
    let logs = captures("log");
    assert!(!logs.is_empty());
    for log in logs {
        let expected = logged(&std::fs::read_to_string(&log).expect("the log can be read"));
        let mut found = BTreeMap::new();
        for exchange in replay(&log.with_extension("pcap"), "json").exchanges() {
            let attributes = &exchange["attributes"];
            let text = |name: &str| attributes[name].as_str().unwrap_or_default().to_owned();
            let method = match attributes.get("http.request.method_original").and_then(Value::as_str) {
                Some(original) => original.to_owned(),
                None => text("http.request.method"),
            };
            let query = text("url.query");
            let target = if query.is_empty() { text("url.path") } else { format!("{}?{query}", text("url.path")) };
            // 499 is nginx's own word for a client that went away before the response.
            let status = attributes["http.response.status_code"].as_u64().unwrap_or(499);
            *found.entry((method, target, status)).or_default() += 1;
        }
        let differences: Vec<_> = expected
            .keys()
            .chain(found.keys())
            .filter(|key| expected.get(key) != found.get(key))
            .map(|key| format!("{key:?}: logged {:?}, found {:?}", expected.get(key), found.get(key)))
            .collect();
        assert!(differences.is_empty(), "{}:\n{}", log.display(), differences.join("\n"));
    }
}

#[test]
fn the_readme_shows_what_podtap_prints() {
    const CAPTURE: &str = "plugins/http/tests/captures/nginx-tour.pcap";
    let path = root().join("README.md");
    let readme = std::fs::read_to_string(&path).expect("the README can be read");
    let run = replay(&root().join(CAPTURE), "text");
    let mut lines = format!("$ podtap replay {CAPTURE}\n");
    for line in run.stdout.lines().take(README_LINES) {
        let _ = writeln!(lines, "{line}");
    }
    lines += "...\n";
    let shown = with_block(&with_block(&readme, "<!-- lines -->", &lines), "<!-- summary -->", &run.stderr);
    check(&path, &shown);
}

/// The text with the content of the console block behind a marker replaced.
fn with_block(text: &str, marker: &str, content: &str) -> String {
    let (before, rest) = text.split_once(&format!("{marker}\n```console\n")).expect("the README has the marker");
    let (_, after) = rest.split_once("```\n").expect("the block ends");
    format!("{before}{marker}\n```console\n{content}```\n{after}")
}
