//! Bad input: one clear line that says what, where and what to do; an exit code that says the job was not done; and
//! whatever could be done is done.

mod support;

use std::path::{Path, PathBuf};

use support::{Capture, podtap, podtap_reading};
use tempfile::TempDir;

const GET: &str = "GET /hello HTTP/1.1\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn capture() -> Capture {
    let mut capture = Capture::default();
    capture.connection(40000, 80).client(GET).server(OK).close();
    capture
}

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a file in a temporary folder");
    path
}

/// Replaying the file gives `exchanges` exchanges, exit code 1, and one line with all of `parts`.
#[track_caller]
fn check(path: &Path, exchanges: usize, parts: &[&str]) {
    let path = path.to_str().expect("a path in UTF-8");
    let run = podtap(&["replay", path, "--output", "json"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert_eq!(run.exchanges().len(), exchanges, "{}", run.stderr);
    let errors = run.errors();
    let [error] = errors.as_slice() else { panic!("not one line: {errors:#?}") };
    for part in [path].iter().chain(parts) {
        assert!(error.contains(part), "no {part:?} in {error:?}");
    }
}

#[test]
fn a_good_file_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "good.pcap", &capture().file(101));
    let run = podtap(&["replay", path.to_str().unwrap(), "--output", "json"]);
    assert_eq!((run.code, run.errors().len(), run.exchanges().len()), (Some(0), 0, 1), "{}", run.stderr);
    assert_eq!(run.exchanges()[0]["summary"], "GET /hello");
}

#[test]
fn standard_input_is_a_file_like_any_other() {
    let run = podtap_reading(&["replay", "-", "--output", "json"], &capture().file(101));
    assert_eq!((run.code, run.exchanges().len()), (Some(0), 1), "{}", run.stderr);
    let run = podtap_reading(&["replay", "-", "--output", "json"], b"");
    assert_eq!(run.code, Some(1));
    assert!(run.errors()[0].contains("standard input: is empty"), "{}", run.stderr);
}

#[test]
fn a_pipe_that_goes_on_gives_its_exchanges_at_once() {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_podtap"))
        .args(["replay", "-", "--output", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut capture = capture();
    capture.connection(40001, 80);
    let file = capture.file(101);
    // Standard input stays open, in the middle of a record: the line must come all the same.
    let (whole, rest) = file.split_at(file.len() - 10);
    stdin.write_all(whole).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("GET /hello"), "{line}");
    stdin.write_all(rest).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_missing_file() {
    check(Path::new("/nowhere/at-all.pcap"), 0, &["No such file"]);
}

#[test]
fn a_folder() {
    let folder = tempfile::tempdir().unwrap();
    check(folder.path(), 0, &["cannot be read"]);
}

#[test]
fn an_empty_file() {
    let folder = tempfile::tempdir().unwrap();
    check(&write(&folder, "empty.pcap", b""), 0, &["is empty"]);
}

#[test]
fn a_file_that_is_no_capture() {
    let folder = tempfile::tempdir().unwrap();
    check(&write(&folder, "notes.pcap", b"dear diary"), 0, &["is not a capture file", "tcpdump -w"]);
}

#[test]
fn a_file_cut_off_in_a_record_gives_what_stands_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut capture = capture();
    capture.connection(40001, 80).client(GET).server(OK).close();
    let mut file = capture.file(101);
    file.truncate(file.len() - 10);
    check(&write(&folder, "cut.pcap", &file), 2, &["is cut off at byte", "decoded"]);
}

#[test]
fn a_damaged_file_gives_what_stands_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = capture().file(101);
    file.extend([0xff; 32]);
    check(&write(&folder, "damaged.pcap", &file), 1, &["is damaged at byte"]);
}

#[test]
fn a_link_type_that_podtap_does_not_read() {
    let folder = tempfile::tempdir().unwrap();
    check(&write(&folder, "user.pcap", &capture().file(147)), 0, &["8 packets of link type 147", "capture on"]);
}

#[test]
fn a_bad_file_keeps_no_other_from_being_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(&folder, "good.pcap", &capture().file(101));
    let run = podtap(&["replay", "/nowhere.pcap", good.to_str().unwrap(), "--output", "json"]);
    assert_eq!((run.code, run.errors().len(), run.exchanges().len()), (Some(1), 1, 1), "{}", run.stderr);
}

#[test]
fn lengths_beyond_all_bounds_are_waited_for_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut capture = Capture::default();
    for (port, length) in [(40000, "Content-Length: 18446744073709551615"), (40001, "Transfer-Encoding: chunked")] {
        let body = if port == 40000 { "abc" } else { "fffffffffffffffe\r\nabc" };
        let response = format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n{body}");
        let mut connection = capture.connection(port, 80);
        connection.client(GET).server(response).server("x".repeat(1400)).server("y".repeat(1400)).close();
    }
    capture.connection(40002, 80).client(GET).server(OK).close();
    let path = write(&folder, "long.pcap", &capture.file(101));
    let run = podtap(&["replay", path.to_str().unwrap(), "--output", "json"]);
    let mut outcomes: Vec<_> = run.exchanges().iter().map(|exchange| exchange["outcome"].to_string()).collect();
    outcomes.sort();
    assert_eq!((run.code, outcomes), (Some(0), vec!["\"aborted\"".into(), "\"aborted\"".into(), "\"ok\"".into()]));
    assert!(!run.stderr.contains("decoder"), "{}", run.stderr);
}

#[test]
fn a_filter_that_libpcap_refuses() {
    let run = podtap(&["replay", "/nowhere.pcap", "--filter", "port and"]);
    assert_eq!(run.code, Some(1));
    assert!(run.errors()[0].contains("filter `port and` is not valid"), "{}", run.stderr);
}

#[test]
fn a_filter_leaves_out_what_does_not_pass() {
    let folder = tempfile::tempdir().unwrap();
    let mut capture = capture();
    capture.connection(40001, 81).client(GET).server(OK).close();
    let path = write(&folder, "two.pcap", &capture.file(101));
    let run = podtap(&["replay", path.to_str().unwrap(), "--output", "json", "--filter", "port 81"]);
    assert_eq!((run.code, run.exchanges().len()), (Some(0), 1), "{}", run.stderr);
    assert_eq!(run.exchanges()[0]["server"]["port"], 81);
}

/// With a plugin directory that holds such a file, HTTP is decoded as ever, and one line says what is wrong.
#[track_caller]
fn check_plugin(wasm: &[u8], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let good = write(&folder, "good.pcap", &capture().file(101));
    let plugins = tempfile::tempdir().unwrap();
    let plugin = write(&plugins, "mine.wasm", wasm);
    let arguments = ["replay", good.to_str().unwrap(), "--output", "json", "--plugins"];
    let run = podtap(&[&arguments[..], &[plugins.path().to_str().unwrap()]].concat());
    assert_eq!((run.code, run.exchanges().len()), (Some(1), 1), "{}", run.stderr);
    let errors = run.errors();
    let [error] = errors.as_slice() else { panic!("not one line: {errors:#?}") };
    for part in [plugin.to_str().unwrap()].iter().chain(parts) {
        assert!(error.contains(part), "no {part:?} in {error:?}");
    }
}

#[test]
fn a_plugin_that_is_no_component() {
    check_plugin(b"#!/bin/sh", &["is not a WebAssembly component"]);
    check_plugin(b"", &["is not a WebAssembly component"]);
    check_plugin(b"\0asm\x01\0\0\0", &["is a core WebAssembly module", "wasm-tools component new"]);
    check_plugin(b"\0asm\x0d\0\x01\0garbage", &["is not a WebAssembly component"]);
}

#[test]
fn a_plugin_that_asks_for_more_than_the_world_gives() {
    let wasm = wat::parse_str(r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#).unwrap();
    check_plugin(&wasm, &["asks for imports that podtap does not give (wasi:cli/environment@0.2.0)"]);
}

#[test]
fn a_plugin_that_is_no_decoder() {
    check_plugin(
        &wat::parse_str("(component)").unwrap(),
        &["is not a decoder for this podtap", "podtap:decoder/decoder"],
    );
}

#[test]
fn a_plugin_that_has_the_names_of_the_contract_and_not_its_functions() {
    let component = r#"(component (instance $none) (export "podtap:decoder/decoder@0.1.0" (instance $none)))"#;
    let said = "is not a decoder for this podtap: it does not keep to the contract it names";
    check_plugin(&wat::parse_str(component).unwrap(), &[said]);
    let component = r#"(component (import "podtap:decoder/host@0.1.0" (instance (export "log" (func))))
        (instance $none) (export "podtap:decoder/decoder@0.1.0" (instance $none)))"#;
    check_plugin(&wat::parse_str(component).unwrap(), &[said]);
}

#[test]
fn a_plugin_that_is_made_for_another_version_of_the_contract() {
    let said = [
        "is made for podtap:decoder@0.2.0, and this podtap speaks 0.1.0",
        concat!(
            "build it anew with podtap-sdk ",
            env!("CARGO_PKG_VERSION"),
            ", or run it with a podtap that speaks 0.2.0"
        ),
    ];
    check_plugin(&wat::parse_str(r#"(component (import "podtap:decoder/host@0.2.0" (instance)))"#).unwrap(), &said);
    // A whole decoder, whose every name has the other version.
    let mut component = std::fs::read(support::plugins("plugins").join("http.wasm")).unwrap();
    for at in 0..component.len() - 6 {
        if component[at..].starts_with(b"@0.1.0") {
            component[at..at + 6].copy_from_slice(b"@0.2.0");
        }
    }
    check_plugin(&component, &said);
}

#[test]
fn a_plugin_directory_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(&folder, "good.pcap", &capture().file(101));
    let run = podtap(&["replay", good.to_str().unwrap(), "--output", "json", "--plugins", "/nowhere"]);
    assert_eq!((run.code, run.exchanges().len()), (Some(1), 1), "{}", run.stderr);
    assert!(run.errors()[0].contains("/nowhere"), "{}", run.stderr);
}

#[test]
fn a_plugin_that_refuses_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(&folder, "good.pcap", &capture().file(101));
    let config = write(&folder, "podtap.yaml", b"plugins:\n  config:\n    misbehave: {mood: bad}\n");
    let run = podtap(&[
        "replay",
        good.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
        "--plugins",
        support::plugins("test-plugins").to_str().unwrap(),
        "--output",
        "json",
    ]);
    assert_eq!((run.code, run.exchanges().len()), (Some(1), 1), "{}", run.stderr);
    assert!(run.errors()[0].contains("plugins.config.misbehave): it has no key `mood`"), "{}", run.stderr);
}

#[test]
fn a_configuration_that_names_a_decoder_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(&folder, "good.pcap", &capture().file(101));
    for (section, key) in [
        ("detection: {ports: {6379: redis}}", "detection.ports.6379: there is no decoder `redis`"),
        ("plugins: {config: {redis: {}}}", "plugins.config: there is no decoder `redis`"),
    ] {
        let config = write(&folder, "podtap.yaml", section.as_bytes());
        let run = podtap(&["replay", good.to_str().unwrap(), "--config", config.to_str().unwrap()]);
        assert_eq!(run.code, Some(1));
        assert!(run.errors()[0].contains(key), "{}", run.stderr);
    }
}

#[test]
fn an_unknown_key_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = write(&folder, "podtap.yaml", b"kafka:\n  topik: a\n");
    for arguments in [&["validate"][..], &["replay", "/nowhere.pcap", "--config"]] {
        let run = podtap(&[arguments, &[config.to_str().unwrap()]].concat());
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        for part in ["podtap.yaml:2", "kafka.topik", "topic"] {
            assert!(run.stderr.contains(part), "no {part:?} in {}", run.stderr);
        }
    }
}

#[test]
fn a_broker_that_does_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(&folder, "good.pcap", &capture().file(101));
    let config = write(&folder, "podtap.yaml", b"kafka: {connect_timeout: 1s}\n");
    // Nothing listens on the discard port of this machine.
    let run = podtap(&[
        "replay",
        good.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
        "--kafka-brokers",
        "127.0.0.1:9",
        "--kafka-topic",
        "t",
    ]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let errors = run.errors();
    let [error] = errors.as_slice() else { panic!("not one line: {errors:#?}") };
    for part in ["127.0.0.1:9", "1s"] {
        assert!(error.contains(part), "no {part:?} in {error:?}");
    }
}
