//! Events of connections: one for each, of real connections of every fate, after its exchanges, and none where they are
//! not asked for.
//!
//! `PODTAP_UPDATE_GOLDEN=1 cargo test -p podtap --test connections` writes the golden anew; read the difference.

mod support;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use podtap::event::{ConnectionEvent, Exchange};
use serde::Deserialize;
use serde_json::Value;
use support::{Capture, podtap};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The capture of `captures/connections.py`, and one with many exchanges.
fn captures() -> [PathBuf; 2] {
    [path("tests/captures/connections.pcap"), path("../plugins/http/tests/captures/nginx-tour.pcap")]
}

fn replay(capture: &Path, more: &[&str]) -> support::Run {
    let mut arguments = vec!["replay", capture.to_str().expect("UTF-8"), "--color", "never"];
    arguments.extend(more);
    let run = podtap(&arguments);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    run
}

#[test]
fn a_response_that_its_connection_ends_is_whole_only_behind_a_fin() {
    let mut capture = Capture::default();
    for port in 1001..1004 {
        capture.connection(port, 80).client("GET / HTTP/1.0\r\n\r\n").server("HTTP/1.0 200 OK\r\n\r\nbody");
    }
    capture.on(1001, 80, false).close();
    capture.on(1002, 80, false).reset();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.pcap");
    std::fs::write(&file, capture.file(101)).expect("the capture can be written");
    let exchanges = replay(&file, &["--output", "json"]).exchanges();
    let outcomes: HashMap<_, _> = exchanges
        .iter()
        .map(|it| (it["client"]["port"].as_u64(), it["outcome"].as_str().unwrap_or_default()))
        .collect();
    // The third was still open when the capture ended.
    let expected = [(1001, "ok"), (1002, "aborted"), (1003, "aborted")];
    assert_eq!(outcomes, expected.map(|(port, outcome)| (Some(port), outcome)).into());
}

#[test]
fn real_connections_of_every_fate() {
    let found = replay(&captures()[0], &["--output", "json", "--connections"]).stdout;
    let golden = path("tests/captures/connections.jsonl");
    if std::env::var_os("PODTAP_UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &found).expect("the golden can be written");
    }
    let expected = std::fs::read_to_string(&golden).expect("the golden can be read");
    assert_eq!(found, expected, "PODTAP_UPDATE_GOLDEN=1 cargo test -p podtap --test connections");

    // By port, as connections.py lists them.
    let mut fates: Vec<_> = found
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line is a JSON object"))
        .filter(|event| event["kind"] == "connection")
        .map(|event| {
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            let server = if event["endpoints"].is_array() { &event["endpoints"][1] } else { &event["server"] };
            let fate = [&event["opened"], &event["closed"]["reason"], &event["closed"]["by"], &event["protocol"]];
            (server["port"].as_u64().expect("a port"), fate.map(text).join(" "))
        })
        .collect();
    fates.sort();
    let fates: Vec<_> = fates.iter().map(|(port, fate)| (*port, fate.as_str())).collect();
    let expected = [
        (47_001, "refused reset server -"),
        (47_002, "handshake fin - http"),
        (47_003, "handshake reset server http"),
        (47_004, "handshake reset client http"),
        (47_005, "unanswered capture_end - -"),
        (47_006, "midstream capture_end - -"),
    ];
    assert_eq!(fates, expected);
}

#[test]
fn an_event_of_a_connection_comes_after_its_exchanges_and_counts_them() {
    for capture in captures() {
        let run = replay(&capture, &["--output", "json", "--connections"]);
        let mut exchanges: HashMap<String, u64> = HashMap::new();
        let (mut ids, mut events, mut over) = (HashSet::new(), 0, HashSet::new());
        for event in run.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("a JSON object")) {
            let connection = event["connection"]["id"].as_str().expect("an id").to_owned();
            assert!(ids.insert(event["id"].to_string()), "an id that was there before: {event}");
            if event["kind"] == "connection" {
                let counted = exchanges.get(&connection).copied();
                assert_eq!(event["exchanges"].as_u64().filter(|count| *count > 0), counted, "{event}");
                assert!(over.insert(connection));
                events += 1;
            } else {
                assert!(!over.contains(&connection), "an exchange behind the end of its connection: {event}");
                *exchanges.entry(connection).or_default() += 1;
            }
        }
        assert!(exchanges.keys().all(|connection| over.contains(connection)));
        assert!(run.stderr.contains(&format!("  {events}  connection events\n")), "{}", run.stderr);
    }
}

#[test]
fn a_second_replay_gives_the_same() {
    for capture in captures() {
        let events = || replay(&capture, &["--output", "json", "--connections"]).stdout;
        assert!(events() == events(), "{}", capture.display());
    }
}

#[test]
fn without_being_asked_for_there_are_none_and_the_rest_is_the_same() {
    for capture in captures() {
        let (with, without) =
            (replay(&capture, &["--output", "json", "--connections"]), replay(&capture, &["--output", "json"]));
        let exchanges: String = with
            .stdout
            .lines()
            .filter(|line| !line.starts_with("{\"kind\":\"connection\""))
            .flat_map(|line| [line, "\n"])
            .collect();
        assert!(exchanges == without.stdout && with.stdout != without.stdout);
        let summary: String = with
            .stderr
            .lines()
            .filter(|line| !line.contains("connection events"))
            .flat_map(|line| [line, "\n"])
            .collect();
        assert_eq!(summary, without.stderr);
    }
}

/// What a consumer reads, typed.
#[derive(Debug, PartialEq)]
enum Read<'a> {
    Exchange(Box<Exchange<'a>>),
    Connection(Box<ConnectionEvent<'a>>),
}

#[test]
fn messagepack_and_json_carry_the_same_and_a_reader_tells_the_kinds_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    for capture in captures() {
        let write = |name: &str| {
            let file = folder.path().join(name);
            replay(&capture, &["--connections", "--output-file", file.to_str().expect("UTF-8")]);
            std::fs::read(file).expect("the output can be read")
        };
        let json = String::from_utf8(write("events.jsonl")).expect("UTF-8");
        let read = |line| match serde_json::from_str(line) {
            Ok(connection) => Read::Connection(Box::new(connection)),
            Err(_) => Read::Exchange(Box::new(serde_json::from_str(line).expect("an exchange"))),
        };
        let json: Vec<_> = json.lines().map(read).collect();
        let msgpack_file = write("events.msgpack");
        let mut rest = msgpack_file.as_slice();
        let mut msgpack = Vec::new();
        while !rest.is_empty() {
            let start = rest;
            let connection = ConnectionEvent::deserialize(&mut rmp_serde::Deserializer::new(&mut rest));
            msgpack.push(match connection {
                Ok(connection) => Read::Connection(Box::new(connection)),
                Err(_) => {
                    rest = start;
                    let exchange = Exchange::deserialize(&mut rmp_serde::Deserializer::new(&mut rest));
                    Read::Exchange(Box::new(exchange.expect("an exchange")))
                }
            });
        }
        assert_eq!(json, msgpack);
        assert!(json.iter().any(|event| matches!(event, Read::Connection(_))));
    }
}
