//! A decoder that loops, panics, hoards or recurses costs the connection that made it do so, and no other.

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Capture, Run, podtap};

/// Replays with the misbehaving decoder beside the stock ones.
fn replay(capture: &Capture, settings: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let (file, config) = (folder.path().join("a.pcap"), folder.path().join("podtap.yaml"));
    std::fs::write(&file, capture.file(101)).unwrap();
    std::fs::write(&config, settings).unwrap();
    let plugins = support::plugins("test-plugins");
    let paths = [&file, &config, &plugins].map(|path| path.to_str().unwrap().to_owned());
    podtap(&["replay", &paths[0], "--config", &paths[1], "--plugins", &paths[2], "--output", "json"])
}

/// Two good connections of the misbehaving decoder and one of HTTP, with `order` on a fourth between their requests.
fn with_order(order: &str) -> Capture {
    let mut capture = Capture::default();
    capture.connection(1001, 7).client("> a\n").server("a\n").client("> b\n").server("b\n");
    capture.connection(1002, 80).client("GET /1 HTTP/1.1\r\n\r\n").server("HTTP/1.1 204 No\r\n\r\n").close();
    capture.connection(1003, 7).client("> before\n").server("y\n").client(format!("{order}\n")).server("z\n").close();
    capture.connection(1004, 7).client("> c\n").server("c\n").close();
    capture
}

fn targets(run: &Run) -> Vec<String> {
    let mut targets: Vec<_> =
        run.exchanges().iter().map(|exchange| exchange["target"].as_str().unwrap_or_default().to_owned()).collect();
    targets.sort();
    targets
}

/// The orders of all other connections are carried out whatever `order` does, which is counted as `loss`.
#[track_caller]
fn check(order: &str, settings: &str, loss: &str) {
    let run = replay(&with_order(order), settings);
    let targets = targets(&run);
    for target in ["/1", "> a", "> b", "> c"] {
        assert_eq!(targets.iter().filter(|found| *found == target).count(), 1, "{order}: {target} in {targets:?}");
    }
    assert!(!targets.contains(&order.to_owned()), "{order}: {targets:?}");
    assert!(run.stderr.contains(loss), "{order}: no {loss:?} in {}", run.stderr);
    assert!(run.stderr.contains("connections blamed"), "{order}: {}", run.stderr);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn without_harm_every_exchange_is_there() {
    let run = replay(&with_order("> fine"), "");
    assert_eq!(targets(&run), ["/1", "> a", "> b", "> before", "> c", "> fine"], "{}", run.stderr);
}

#[test]
fn a_panic() {
    check("> panic", "", "decoder traps");
}

#[test]
fn infinite_recursion() {
    check("> recurse", "", "decoder traps");
}

#[test]
fn an_endless_loop_ends_at_the_deadline() {
    let start = Instant::now();
    check("> loop", "decoder: {call_timeout: 20ms}", "decoder deadlines");
    // Two calls run into it. Far more time than that passes for compiling and starting.
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_hoard_ends_at_the_memory_limit() {
    check("> grow", "decoder: {memory_bytes: 8MiB, call_timeout: 10s}", "decoder memory breaches");
}

/// Panics in a row, more than are allowed, and then a harmless connection.
fn panics(capture: &mut Capture, port: u16) {
    for port in port..port + 4 {
        capture.connection(port, 7).client("> panic\n").server("x\n");
    }
    capture.connection(port + 4, 7).client(format!("> {port} at once\n")).server("y\n");
}

#[test]
fn a_plugin_that_keeps_failing_is_set_aside_for_longer_each_time() {
    let mut capture = Capture::default();
    capture.connection(1002, 80).client("GET /1 HTTP/1.1\r\n\r\n").server("HTTP/1.1 204 No\r\n\r\n").close();
    let round = |capture: &mut Capture, port: u16, pause_ms: u32| {
        panics(capture, port);
        capture.pause(pause_ms);
        capture.connection(port + 5, 7).client(format!("> {port} after {pause_ms}\n")).server("y\n");
    };
    // For one second, which ends in the second round.
    round(&mut capture, 2000, 900);
    round(&mut capture, 2100, 200);
    // For two.
    round(&mut capture, 2200, 1100);
    round(&mut capture, 2300, 1100);
    // For four.
    round(&mut capture, 2400, 2900);
    // In use for so long that it begins anew.
    capture.pause(400_000);
    round(&mut capture, 2500, 1100);
    capture.connection(1003, 80).client("GET /2 HTTP/1.1\r\n\r\n").server("HTTP/1.1 204 No\r\n\r\n").close();
    let settings = "decoder: {failures_allowed: 2, batch_entries: 1}";
    let run = replay(&capture, settings);
    assert_eq!(
        targets(&run),
        ["/1", "/2", "> 2100 after 200", "> 2300 after 1100", "> 2500 after 1100"],
        "{}",
        run.stderr
    );
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("decoders quarantined"), "{}", run.stderr);
    assert!(run.stderr.contains("connections of quarantined decoders"), "{}", run.stderr);
    let line = run.stderr.lines().find(|line| line.contains("set aside")).unwrap_or_default();
    for part in ["misbehave", "unreachable", "2023-11-14T22:13:21.0"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(replay(&capture, settings).stdout, run.stdout);
}

#[test]
fn after_a_quarantine_connections_spread_over_fresh_instances() {
    let mut capture = Capture::default();
    for port in 1001..1005 {
        capture.connection(port, 7).client("> a\n").server("a\n");
    }
    capture.connection(1005, 7).client("> panic\n");
    capture.pause(1100);
    for port in 2001..2005 {
        capture.connection(port, 7).client("> b\n").server("b\n");
    }
    let run = replay(&capture, "decoder: {failures_allowed: 0, batch_entries: 1, connections_per_instance: 1}");
    assert_eq!(targets(&run), [["> a"; 4], ["> b"; 4]].concat(), "{}", run.stderr);
    assert_eq!(run.count("connections of quarantined decoders"), 5, "{}", run.stderr);
}

#[test]
fn a_quarantine_ends_with_its_capture() {
    let folder = tempfile::tempdir().unwrap();
    let (mut bad, mut good) = (Capture::default(), Capture::default());
    panics(&mut bad, 2000);
    good.connection(1001, 7).client("> a\n").server("a\n").close();
    let [first, second] = [(bad, "1.pcap"), (good, "2.pcap")].map(|(capture, name)| {
        let path = folder.path().join(name);
        std::fs::write(&path, capture.file(101)).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let plugins = support::plugins("test-plugins");
    let run = podtap(&["replay", &first, &second, "--plugins", plugins.to_str().unwrap(), "--output", "json"]);
    assert!(run.stderr.contains("decoders quarantined"), "{}", run.stderr);
    assert_eq!(targets(&run), ["> a"], "{}", run.stderr);
}

#[test]
fn a_panic_in_probe_keeps_no_other_decoder_from_the_connection() {
    let mut capture = Capture::default();
    capture.connection(1001, 7).client("> a\n").server("a\n");
    capture.connection(1003, 7).client("! whose is this\n").server("y\n").close();
    capture.connection(1002, 80).client("GET /1 HTTP/1.1\r\n\r\n").server("HTTP/1.1 204 No\r\n\r\n").close();
    capture.connection(1004, 7).client("> c\n").server("c\n").close();
    let run = replay(&capture, "");
    assert_eq!(targets(&run), ["/1", "> a", "> c"], "{}", run.stderr);
}

#[test]
fn a_flood_of_log_lines_is_bounded_and_harmless_to_a_terminal() {
    let run = replay(&with_order("> log"), "log: {level: info}");
    assert!(targets(&run).contains(&"> log".to_owned()), "{}", run.stderr);
    assert!(run.stderr.len() < 64 * 1024, "{} bytes of log", run.stderr.len());
    assert!(!run.stderr.contains('\u{1b}'), "{}", run.stderr);
}

#[test]
fn connections_seen_from_their_middle_say_so_after_a_failure() {
    let run = replay(&with_order("> panic"), "");
    let midstream = |exchange: &Value| exchange["connection"]["midstream"] == true;
    assert!(run.exchanges().iter().any(midstream), "{}", run.stdout);
}

#[test]
fn a_connection_that_changes_protocol_is_detected_anew() {
    let mut capture = Capture::default();
    let connection = &mut capture.connection(1001, 80);
    connection.client("GET /up HTTP/1.1\r\nUpgrade: misbehave\r\n\r\n").server("HTTP/1.1 101 Yes\r\n\r\n");
    connection.client("> a\n").server("a\n").client("> b\n").server("b\n").close();
    // A batch for each entry, so that the change is known before what follows it comes.
    let run = replay(&capture, "decoder: {batch_entries: 1}");
    assert_eq!(targets(&run), ["/up", "> a", "> b"], "{}", run.stderr);
    let numbers: Vec<_> = run.exchanges().iter().map(|exchange| exchange["connection"]["exchange"].clone()).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

/// What follows a change of protocol is in the batch that brings the change, in a later one, or in the same segment.
#[test]
fn what_follows_a_change_of_protocol_is_detected_wherever_it_is() {
    let mut capture = Capture::default();
    let mut talk = |port: u16, welcome: &str, closes: bool| {
        let mut connection = capture.connection(port, 80);
        connection.client("GET /up HTTP/1.1\r\nUpgrade: misbehave\r\n\r\n");
        connection.server(format!("HTTP/1.1 101 Yes\r\n\r\n{welcome}"));
        connection.client("> a\n").server("a\n").client("> b\n").server("b\n");
        if closes {
            connection.close();
        }
    };
    talk(1001, "", true);
    talk(1002, "", false);
    // In one segment: the server speaks first.
    talk(1003, "> welcome\n", true);
    capture.connection(1004, 7).client("> c\n").server("c\n").close();
    for entries in [1, 2, 3, 5, 8, 13, 512] {
        for ports in ["", "detection: {ports: {80: http}}"] {
            let run = replay(&capture, &format!("decoder: {{batch_entries: {entries}}}\n{ports}"));
            let expected = [["/up"; 3], ["> a"; 3], ["> b"; 3]].concat();
            let expected = ["", "> c"].into_iter().chain(expected);
            let mut expected: Vec<_> = expected.map(str::to_owned).collect();
            expected.sort();
            assert_eq!(targets(&run), expected, "{entries}: {}", run.stderr);
            assert!(!run.stderr.contains("lost or left out"), "{entries}: {}", run.stderr);
        }
    }
}

#[test]
fn a_change_of_protocol_is_carried_out_in_a_batch_that_another_connection_spoils() {
    let mut capture = Capture::default();
    capture.connection(1001, 7).client("> x\n").server("x\n").client("> again\n> after\n").server("y\n");
    capture.connection(1002, 7).client("> panic\n");
    capture.on(1001, 7, false).server("y\n").client("> last\n").server("z\n").close();
    capture.connection(1003, 7).client("> again\n").client("> end\n").close();
    for entries in [1, 2, 3, 4, 5, 6, 7, 8, 9, 512] {
        let run = replay(&capture, &format!("decoder: {{batch_entries: {entries}}}"));
        let targets = targets(&run);
        for target in ["> x", "> after", "> last", "> end"] {
            let found = targets.iter().filter(|found| *found == target).count();
            assert_eq!(found, 1, "{entries}: {target} in {targets:?}: {}", run.stderr);
        }
        assert_eq!(run.count("connections blamed"), 1, "{entries}: {}", run.stderr);
        assert_eq!(run.count("payload bytes in failed calls"), 8, "{entries}: {}", run.stderr);
        assert_eq!(run.count("payload bytes decoded") + 8, run.count("payload bytes"), "{entries}: {}", run.stderr);
    }
}

#[test]
fn a_change_of_protocol_on_a_connection_that_is_gone_already_harms_no_other() {
    let mut capture = Capture::default();
    let upgrade = "GET /up HTTP/1.1\r\nUpgrade: misbehave\r\n\r\n";
    capture.connection(1001, 80).client(upgrade).server("HTTP/1.1 101 Yes\r\n\r\n").close();
    // Time goes by, until the engine uses its place in the table again.
    let mut talk = |port: u16, exchanges: u32| {
        let mut connection = capture.connection(port, 80);
        for number in 0..exchanges {
            let get = format!("GET /{port}/{number} HTTP/1.1\r\n\r\n");
            connection.client(get).server("HTTP/1.1 204 No\r\n\r\n");
        }
    };
    talk(1002, 100);
    talk(1003, 300);
    let run = replay(&capture, "stream: {close_timeout: 100ms}");
    assert_eq!(run.exchanges().len(), 401, "{}", run.stderr);
    assert!(!run.stderr.contains("undetected"), "{}", run.stderr);
}

#[test]
fn a_failure_in_an_instance_of_its_own_touches_no_other_connection() {
    let sorted = |run: &Run| {
        let mut lines: Vec<_> = run.stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let run = replay(&with_order("> panic"), "decoder: {connections_per_instance: 1}");
    let other = |line: &String| !line.contains("1003");
    let [expected, found] = [sorted(&replay(&with_order("> fine!"), "")), sorted(&run)]
        .map(|lines| lines.into_iter().filter(other).collect::<Vec<_>>());
    assert_eq!(found, expected, "{}", run.stderr);
    assert_eq!(found.len(), 4);
}

#[test]
fn connections_spread_over_instances_as_far_as_there_are_places() {
    let mut capture = Capture::default();
    for round in 0..2 {
        for port in 1000..1400 {
            capture.on(port, 7, round == 0).client(format!("> {port}\n")).server("y\n");
        }
    }
    let targets_of = |settings: &str| {
        let run = replay(&capture, settings);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        (targets(&run), run.stderr)
    };
    let (expected, stderr) = targets_of("");
    assert!(expected.len() == 800 && !stderr.contains("lost or left out"), "{stderr}");
    for bound in [399, 100, 7, 1] {
        let (found, stderr) = targets_of(&format!("decoder: {{connections_per_instance: {bound}}}"));
        assert_eq!(found, expected, "{bound}");
        assert_eq!(stderr.contains("connections beyond instance bound"), bound == 1, "{bound}: {stderr}");
    }
}

/// Each connection has one event, behind its exchanges, which are as many as it says.
#[track_caller]
fn check_ends(capture: &Capture, settings: &str, connections: usize) -> Vec<Value> {
    let run = replay(capture, &format!("events: {{connections: true}}\n{settings}"));
    let mut exchanges: HashMap<String, u64> = HashMap::new();
    let mut ends = Vec::new();
    for event in run.exchanges() {
        let connection = event["connection"]["id"].to_string();
        if event["kind"] == "connection" {
            assert_eq!(
                event["exchanges"].as_u64().unwrap_or_default(),
                exchanges.remove(&connection).unwrap_or_default()
            );
            ends.push(event);
        } else {
            *exchanges.entry(connection).or_default() += 1;
        }
    }
    assert!(exchanges.is_empty(), "behind the end of their connection, or without one: {exchanges:?}");
    assert_eq!(ends.len(), connections, "{}", run.stderr);
    ends
}

#[test]
fn a_connection_has_one_end_whatever_its_decoder_does() {
    for order in ["> fine", "> panic", "> recurse"] {
        for settings in ["", "decoder: {batch_entries: 1}", "decoder: {failures_allowed: 0}"] {
            check_ends(&with_order(order), settings, 4);
        }
    }
}

#[test]
fn a_connection_that_changes_protocol_has_one_end() {
    let mut capture = Capture::default();
    let connection = &mut capture.connection(1001, 80);
    connection.client("GET /up HTTP/1.1\r\nUpgrade: misbehave\r\n\r\n").server("HTTP/1.1 101 Yes\r\n\r\n");
    connection.client("> a\n").server("a\n").client("> b\n").server("b\n").close();
    let ends = check_ends(&capture, "decoder: {batch_entries: 1}", 1);
    assert_eq!((&ends[0]["exchanges"], &ends[0]["protocol"]), (&Value::from(3), &Value::from("misbehave")));
    // In one batch, the change is known when the connection is gone.
    let ends = check_ends(&capture, "", 1);
    assert_eq!((&ends[0]["exchanges"], &ends[0]["closed"]["reason"]), (&Value::from(3), &Value::from("fin")));
}
