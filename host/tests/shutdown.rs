//! SIGTERM and SIGINT: what was read is published within the grace, and what is left is said.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::Capture;

const CONNECTIONS: u16 = 5000;

fn capture() -> Vec<u8> {
    let mut capture = Capture::default();
    for port in 0..CONNECTIONS {
        capture.connection(10_000 + port, 80);
    }
    capture.file(101)
}

/// podtap that publishes connections: no decoder is needed for that.
fn podtap(input: &str, settings: &[(&str, &str)], options: &[&str]) -> Child {
    command(input, settings, options).spawn().unwrap()
}

fn command(input: &str, settings: &[(&str, &str)], options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podtap"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PODTAP_")) {
        command.env_remove(name);
    }
    command.args(["replay", input, "--connections"]).args(options).envs(settings.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn signal(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}

/// Its exit and standard error, while its input stays open.
fn end(mut child: Child, within: Duration) -> Output {
    let input = child.stdin.take();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < within, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(input);
    child.wait_with_output().unwrap()
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// An address where nobody listens.
fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_signal_ends_reading_from_a_pipe_and_what_was_read_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.jsonl");
    let mut child = podtap("-", &[], &["--output-file", events.to_str().unwrap()]);
    let file = capture();
    // Not to the end: the last packet is cut.
    child.stdin.as_mut().unwrap().write_all(&file[..file.len() - 7]).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    signal(&child);
    let output = end(child, Duration::from_secs(20));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(lines(&events), usize::from(CONNECTIONS));
    assert!(!text(&output.stderr).contains("error"), "{}", text(&output.stderr));
}

#[test]
fn an_output_that_takes_nothing_holds_an_end_up_for_the_grace_and_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pcap");
    std::fs::write(&file, capture()).unwrap();
    let little = [("PODTAP_DELIVERY_QUEUE_BYTES", "1MiB"), ("PODTAP_DELIVERY_SHUTDOWN_GRACE", "300ms")];
    let child = podtap(file.to_str().unwrap(), &little, &["--output", "json", "--no-summary"]);
    std::thread::sleep(Duration::from_millis(1500));
    signal(&child);
    let output = end(child, Duration::from_secs(20));
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("standard output: events cannot be written: whoever reads it"), "{stderr}");
}

#[test]
fn what_cannot_be_sent_in_time_is_left_in_the_spool_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let broker = closed_port();
    let settings = [("PODTAP_SPOOL_DIRECTORY", spool.to_str().unwrap()), ("PODTAP_DELIVERY_SHUTDOWN_GRACE", "300ms")];
    let mut child = podtap("-", &settings, &["--kafka-brokers", &broker, "--kafka-topic", "t"]);
    child.stdin.as_mut().unwrap().write_all(&capture()).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    signal(&child);
    let output = end(child, Duration::from_secs(20));
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let expected = format!("podtap: warning: {CONNECTIONS} events are left in {}; the next run", spool.display());
    assert!(stderr.contains(&expected), "{stderr}");
    assert!(stderr.contains(&format!("{CONNECTIONS}  events left in the spool\n")), "{stderr}");
}

#[test]
fn without_a_spool_what_cannot_be_sent_in_time_is_an_error_and_counted() {
    let settings = [("PODTAP_DELIVERY_SHUTDOWN_GRACE", "300ms")];
    let mut child = podtap("-", &settings, &["--kafka-brokers", &closed_port(), "--kafka-topic", "t"]);
    child.stdin.as_mut().unwrap().write_all(&capture()).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    signal(&child);
    let output = end(child, Duration::from_secs(20));
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("{CONNECTIONS}  not delivered: not acknowledged in time")), "{stderr}");
}

#[test]
fn a_standard_error_that_nobody_reads_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.jsonl");
    let (reader, writer) = std::io::pipe().unwrap();
    let settings = [("PODTAP_KAFKA_CONNECT_TIMEOUT", "300ms"), ("PODTAP_DELIVERY_SHUTDOWN_GRACE", "300ms")];
    let broker = closed_port();
    let options = ["--kafka-brokers", &broker, "--kafka-topic", "t", "--output-file", events.to_str().unwrap()];
    let mut command = command("-", &settings, &options);
    let mut child = command.stderr(writer.try_clone().unwrap()).spawn().unwrap();
    drop(command);
    std::thread::sleep(Duration::from_millis(1500));
    // No byte more goes into the pipe.
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while rustix::io::write(&writer, b"\n").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    child.stdin.as_mut().unwrap().write_all(&capture()).unwrap();
    // So long that brokers which do not answer are logged.
    std::thread::sleep(Duration::from_millis(2000));
    signal(&child);
    let output = end(child, Duration::from_secs(20));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(lines(&events), usize::from(CONNECTIONS));
    drop(reader);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut child = podtap("-", &[], &["--kafka-brokers", &closed_port(), "--kafka-topic", "t"]);
    child.stdin.as_mut().unwrap().write_all(&capture()).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    signal(&child);
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it waits for the broker");
    signal(&child);
    let output = end(child, Duration::from_secs(5));
    assert_eq!(output.status.signal(), Some(Signal::TERM.as_raw()));
    let _ = output.stdout.bytes().count();
}
