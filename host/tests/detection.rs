//! Whose a connection is found to be, and why that of some is not found.

mod support;

use support::{Capture, Run, podtap};

fn replay(capture: &Capture, settings: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let (file, config) = (folder.path().join("a.pcap"), folder.path().join("podtap.yaml"));
    std::fs::write(&file, capture.file(101)).unwrap();
    std::fs::write(&config, settings).unwrap();
    let plugins = support::plugins("test-plugins");
    let paths = [&file, &config, &plugins].map(|path| path.to_str().unwrap());
    let run = podtap(&["replay", paths[0], "--config", paths[1], "--plugins", paths[2], "--output", "json"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    run
}

const GET: &str = "GET /1 HTTP/1.1\r\n\r\n";
const DONE: &str = "HTTP/1.1 204 No\r\n\r\n";

/// Clients and protocols of the exchanges, and how many connections went to the plugin of their server.
#[track_caller]
fn check(capture: &Capture, exchanges: &[(u64, &str)], hits: u64) {
    let run = replay(capture, "decoder: {batch_entries: 1}");
    let mut found: Vec<_> = run
        .exchanges()
        .iter()
        .map(|exchange| {
            (exchange["client"]["port"].as_u64().unwrap(), exchange["protocol"].as_str().unwrap().to_owned())
        })
        .collect();
    found.sort();
    let found: Vec<_> = found.iter().map(|(port, protocol)| (*port, protocol.as_str())).collect();
    assert_eq!(found, exchanges, "{}", run.stderr);
    assert_eq!(run.count("connections of known servers"), hits, "{}", run.stderr);
}

#[test]
fn the_plugin_of_a_server_is_asked_first() {
    let mut capture = Capture::default();
    for port in 1001..1004 {
        capture.connection(port, 8000).client(GET).server(DONE).close();
    }
    capture.connection(1004, 8001).client(GET).server(DONE).close();
    check(&capture, &[(1001, "http"), (1002, "http"), (1003, "http"), (1004, "http")], 2);
}

#[test]
fn another_protocol_on_a_known_server_is_found_all_the_same() {
    let mut capture = Capture::default();
    capture.connection(1001, 8000).client(GET).server(DONE).close();
    capture.connection(1002, 8000).client("> a\n").server("a\n").close();
    capture.connection(1003, 8000).client("> b\n").server("b\n").close();
    capture.connection(1004, 8000).client(GET).server(DONE).close();
    check(&capture, &[(1001, "http"), (1002, "misbehave"), (1003, "misbehave"), (1004, "http")], 1);
}

#[test]
fn a_server_is_forgotten_in_time() {
    let mut capture = Capture::default();
    capture.connection(1001, 8000).client(GET).server(DONE).close();
    capture.pause(599_000);
    capture.connection(1002, 8000).client(GET).server(DONE).close();
    capture.pause(601_000);
    capture.connection(1003, 8000).client(GET).server(DONE).close();
    check(&capture, &[(1001, "http"), (1002, "http"), (1003, "http")], 1);
}

#[test]
fn of_a_connection_seen_from_its_middle_it_is_known_who_is_the_server() {
    // Both sides of this protocol look alike: without a hint, who speaks first is taken for the client.
    let mut capture = Capture::default();
    capture.on(1001, 8000, false).server("> hello\n").client("> a\n").server("> b\n");
    check(&capture, &[(8000, "misbehave"), (8000, "misbehave")], 0);
    let mut capture = Capture::default();
    capture.connection(1000, 8000).client("> a\n").server("a\n").close();
    capture.on(1001, 8000, false).server("> hello\n").client("> a\n").server("> b\n");
    // The greeting answers what was not captured.
    check(&capture, &[(1000, "misbehave"), (1001, "misbehave"), (1001, "misbehave")], 1);
}

#[test]
fn a_quarantine_makes_its_servers_forgotten() {
    let mut capture = Capture::default();
    capture.connection(1000, 8000).client("> a\n").server("a\n").close();
    capture.connection(1001, 8000).client("> panic\n");
    capture.pause(1100);
    capture.connection(1002, 8000).client("> b\n").server("b\n").close();
    let run = replay(&capture, "decoder: {failures_allowed: 0, batch_entries: 1}");
    assert_eq!(run.count("decoders quarantined"), 1, "{}", run.stderr);
    // That of the one that panicked.
    assert_eq!((run.exchanges().len(), run.count("connections of known servers")), (2, 1), "{}", run.stderr);
}

#[test]
fn a_connection_without_a_decoder_is_counted_by_why() {
    let mut capture = Capture::default();
    capture.connection(1001, 7).client("nonsense\n").close();
    capture.connection(1002, 7).client("?").close();
    capture.connection(1003, 7).client("?".repeat(60)).client("?".repeat(60)).client("> a\n").close();
    let run = replay(&capture, "detection: {head_bytes: 100}");
    let counts = ["refused by all decoders", "ended before verdict", "head too long"]
        .map(|why| run.count(&format!("undetected {why}")));
    assert_eq!((run.count("connections undetected"), counts), (3, [1, 1, 1]), "{}", run.stderr);

    let mut capture = Capture::default();
    for port in 1000..1180 {
        capture.connection(port, 7).client("?".repeat(50_000));
    }
    let run = replay(&capture, "detection: {head_bytes: 64KiB}");
    let (ended, no_room) = (run.count("undetected ended before verdict"), run.count("undetected no room to wait"));
    assert_eq!((ended + no_room, no_room), (180, 180 - (8 << 20) / 50_400), "{}", run.stderr);

    let mut capture = Capture::default();
    capture.connection(1001, 7).client("> panic\n");
    capture.connection(1002, 7).client("> a\n");
    let run = replay(&capture, "decoder: {failures_allowed: 0, batch_entries: 1}");
    assert_eq!(run.count("undetected decoder quarantined"), 1, "{}", run.stderr);
}

#[test]
fn what_is_sent_byte_by_byte_waits_for_as_much_memory_as_it_takes() {
    let mut capture = Capture::default();
    for port in 1000..1100 {
        let mut conversation = capture.connection(port, 7);
        for _ in 0..400 {
            conversation.client("?");
        }
    }
    // 17 KiB for each of them, where half of this is for those that wait.
    let run = replay(&capture, "stream: {total_buffer_bytes: 1MiB}");
    let (ended, no_room) = (run.count("undetected ended before verdict"), run.count("undetected no room to wait"));
    assert_eq!(ended + no_room, 100, "{}", run.stderr);
    assert!((25..35).contains(&ended), "{}", run.stderr);
}
