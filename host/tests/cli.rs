//! The program as people call it: exit codes, and one clear line for each mistake.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn podtap(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podtap"));
    command.args(arguments);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PODTAP_")) {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    podtap(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Exit code 1 and one line on standard error that begins so.
fn check_error(output: &Output, expected: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with(&format!("podtap: error: {expected}")), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for arguments in [
        &[][..],
        &["replay"],
        &["replay", "--nonsense", "a"],
        &["replay", "--output", "xml", "a"],
        &["validate"],
        &["plugin"],
        &["plugin", "inspect"],
        &["plugin", "list", "a"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains("Usage:") || stderr.contains("possible values: text, json, msgpack, none"), "{stderr}");
    }
}

#[test]
fn help_and_version_exit_with_0() {
    assert_eq!(text(&run(&["--version"]).stdout), format!("podtap {}\n", env!("CARGO_PKG_VERSION")));
    let help = run(&["replay", "--help"]);
    assert!(help.status.success());
    for flag in ["--output", "--kafka-brokers", "--plugins", "--config", "--filter", "--color", "--no-summary"] {
        assert!(text(&help.stdout).contains(flag), "{flag}");
    }
}

#[test]
fn validate_says_ok_or_lists_every_problem() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "good.yaml", "kafka:\n  brokers: [a:9092]\n  topic: exchanges\n");
    let output = run(&["validate", good.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), format!("{}: ok\n", good.display()));
    assert!(output.stderr.is_empty());

    let bad = write(folder.path(), "bad.yaml", "kafka:\n  topics: a\nstream:\n  max_connections: 0\n");
    let output = run(&["validate", bad.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let bad = bad.display();
    assert_eq!(
        text(&output.stderr),
        format!(
            "podtap: error: {bad}:2: kafka.topics: unknown key; did you mean kafka.topic?\n\
             podtap: error: {bad}:4: stream.max_connections: 0 is out of range: allowed are 1 to 16777216\n"
        )
    );
    check_error(&run(&["validate", "/nonexistent.yaml"]), "/nonexistent.yaml: the configuration file cannot be read: ");
}

#[test]
fn validate_takes_the_environment_as_a_run_does() {
    let folder = tempfile::tempdir().unwrap();
    let content =
        "kafka:\n  brokers: [a:9092]\n  topic: '{service.name}.events'\n  sasl_mechanism: plain\n  sasl_username: me\n";
    let file = write(folder.path(), "podtap.yaml", content);
    let file = file.to_str().unwrap();
    let output = run(&["validate", file]);
    assert_eq!(output.status.code(), Some(1));
    let problems = text(&output.stderr);
    assert_eq!(problems.lines().count(), 2, "{problems}");
    assert!(problems.contains("kafka.topic: ") && problems.contains("kafka.sasl_password: not set"), "{problems}");
    let of_a_pod = [("PODTAP_KAFKA_SASL_PASSWORD", "secret"), ("PODTAP_AGENT_RESOURCE", "service.name=shop")];
    let output = podtap(&["validate", file]).envs(of_a_pod).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn validate_finds_what_a_run_would_end_with() {
    let folder = tempfile::tempdir().unwrap();
    let broken = "capture:\n  filter: tcp prot 80\nkafka:\n  brokers: [a:9092]\n  topic: events\n  \
                  librdkafka_options: {linger: 5}\nplugins:\n  config:\n    htp: {}\n    http: {nonsense: 1}\n";
    let file = write(folder.path(), "podtap.yaml", broken);
    let output = run(&["validate", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let problems = text(&output.stderr);
    for problem in [
        "podtap: error: capture.filter: filter `tcp prot 80` is not valid",
        "podtap: error: kafka: linger: \"5\": No such configuration property",
        "podtap: error: plugins.config: there is no decoder `htp`",
        "http.wasm: refuses its configuration (plugins.config.http): ",
    ] {
        assert!(problems.contains(problem), "{problem}: {problems}");
    }
    // On `any` there are no Ethernet headers.
    let file = write(folder.path(), "any.yaml", "capture: {interfaces: [any], filter: ether host 0:1:2:3:4:5}\n");
    check_error(&run(&["validate", file.to_str().unwrap()]), "capture.filter: filter `ether host 0:1:2:3:4:5` is not");
    let file = write(folder.path(), "eth0.yaml", "capture: {interfaces: [eth0], filter: ether host 0:1:2:3:4:5}\n");
    assert_eq!(run(&["validate", file.to_str().unwrap()]).status.code(), Some(0));
}

#[test]
fn validate_warns_of_what_is_on_another_machine() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = "plugins: {directories: [/of/a/pod], config: {redis: {}}}\nkafka:\n  brokers: [a:9092]\n  topic: events\n  \
                     tls: true\n  tls_ca_file: /of/a/secret/ca.crt\n";
    let file = write(folder.path(), "podtap.yaml", elsewhere);
    let output = run(&["validate", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let warnings: Vec<_> = text(&output.stderr).lines().collect();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    for (warning, what) in warnings.iter().zip(["/of/a/pod: not here", "`redis`", "kafka.tls_ca_file: ", "kafka: not"])
    {
        assert!(warning.starts_with("podtap: warning: ") && warning.contains(what), "{warning}");
    }
    // With the decoders that will be there, what is said of them is checked.
    let here = Path::new(env!("CARGO_BIN_EXE_podtap")).with_file_name("plugins");
    let output = run(&["validate", "--plugins", here.to_str().unwrap(), file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("podtap: error: plugins.config: there is no decoder `redis`"));
}

#[test]
fn schemas_are_json() {
    let schemas =
        [("event", "podtap.exchange/1"), ("connection", "podtap.connection/1"), ("config", "podtap configuration")];
    for (of, title) in schemas {
        let output = run(&["schema", of]);
        assert!(output.status.success());
        let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(schema["title"], title);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = podtap(&["schema", "event"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(stderr, "");
}

#[test]
fn replay_refuses_a_wrong_configuration_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let bad = write(folder.path(), "bad.yaml", "kafka:\n  topics: a\n");
    let bad = bad.to_str().unwrap();
    let expected = format!("{bad}:2: kafka.topics: unknown key; did you mean kafka.topic?");
    check_error(&run(&["replay", "--config", bad, "a.pcap"]), &expected);
    check_error(&podtap(&["replay", "a.pcap"]).env("PODTAP_CONFIG", bad).output().unwrap(), &expected);
    check_error(
        &podtap(&["replay", "a.pcap"]).env("PODTAP_STREAM_MAX_CONNECTIONS", "x").output().unwrap(),
        "PODTAP_STREAM_MAX_CONNECTIONS: stream.max_connections: \"x\" is not a whole number",
    );
    check_error(
        &run(&["replay", "--kafka-brokers", "a:1", "a.pcap"]),
        "kafka.topic: not set, but kafka.brokers is; name the topic of the events",
    );
}

#[test]
fn a_topic_without_brokers_is_a_usage_error() {
    let output = run(&["replay", "--kafka-topic", "a", "a.pcap"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--kafka-brokers"));
}

#[test]
fn replay_refuses_to_write_over_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let capture = write(folder.path(), "a.pcap", "precious");
    let name = capture.to_str().unwrap();
    check_error(&run(&["replay", name, "--output-file", name]), &format!("{name}: both a capture file and the output"));
    assert_eq!(std::fs::read_to_string(&capture).unwrap(), "precious");
}

#[test]
fn a_broker_that_does_not_answer_is_one_line_and_nothing_else_happens() {
    let folder = tempfile::tempdir().unwrap();
    let capture = write(folder.path(), "a.pcap", "");
    let output = write(folder.path(), "events.jsonl", "kept");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let result = podtap(&["replay", capture.to_str().unwrap(), "--kafka-brokers", &closed, "--kafka-topic", "t"])
        .args(["--output-file", output.to_str().unwrap()])
        .env("PODTAP_KAFKA_CONNECT_TIMEOUT", "500ms")
        .output()
        .unwrap();
    check_error(&result, &format!("kafka: no answer from {closed} within 500ms"));
    assert!(text(&result.stderr).contains("Connection refused"), "{}", text(&result.stderr));
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "kept");
}

#[test]
fn an_output_file_that_cannot_be_made_is_named() {
    check_error(
        &run(&["replay", "a.pcap", "--output-file", "/nonexistent/events.jsonl"]),
        "/nonexistent/events.jsonl: the output file cannot be written: ",
    );
}
