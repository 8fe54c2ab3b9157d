//! No secret of the traffic is in anything that podtap writes at defaults: events in each format, in a file, in Kafka, in the
//! spool and over HTTP; the log as verbose as it can be; metrics, configuration, pages and screens; and what is left of a
//! run that was killed.
//!
//! The traffic is in `privacy/traffic.rs`. That secrets would be found is shown by a configuration that publishes them.

mod support;

#[path = "../../plugins/mongodb/tests/support/mod.rs"]
mod mongodb;
#[path = "../../plugins/mysql/tests/support/mod.rs"]
mod mysql;
#[path = "privacy/traffic.rs"]
mod traffic;

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use podtap::top::{Feed, Page, Progress, Screen, Source, Status, draw};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use support::{Capture, podtap};
use tempfile::TempDir;
use traffic::{NUMBER, WORD};

/// A password of podtap's own, which is as secret as those of the traffic.
const OWN: &str = "hushhush-of-podtap";

/// Publishes what is secret: statements as they are, and fields of requests.
const TELLING: &str = "plugins: {config: {mysql: {raw_query_text: true}, http: {request_headers: [referer]}}}\n";

/// The marks of secrets, as they are and as encodings show them.
fn marks() -> Vec<Vec<u8>> {
    let mut marks = vec![WORD.into(), NUMBER.into()];
    marks.push(WORD.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into());
    // In base64 at each of three places; what the bytes around it decide is left out.
    for before in 0..3 {
        let text = BASE64_STANDARD_NO_PAD.encode([&vec![b'.'; before][..], WORD.as_bytes()].concat());
        let from = [0, 2, 3][before];
        marks.push(text[from..text.len() - 1].into());
    }
    marks
}

/// The first secret in it, with what is around it.
fn leak(output: &[u8]) -> Option<String> {
    let marks = marks();
    let is_mark = |at: &usize| {
        let rest = &output[*at..];
        marks.iter().any(|mark| rest.len() >= mark.len() && rest[..mark.len()].eq_ignore_ascii_case(mark))
    };
    let at = (0..output.len()).find(is_mark)?;
    Some(String::from_utf8_lossy(&output[at.saturating_sub(200)..output.len().min(at + 100)]).into_owned())
}

/// An output that was written, as `shown` is in it, and holds no secret.
#[track_caller]
fn check(what: &str, output: impl AsRef<[u8]>, shown: &str) {
    let output = output.as_ref();
    assert!(String::from_utf8_lossy(output).contains(shown), "{what} has no {shown:?}");
    if let Some(near) = leak(output) {
        panic!("{what} holds a secret:\n{near}");
    }
}

/// A folder with the capture, and a configuration.
fn folder(capture: &Capture, settings: &str) -> (TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, config) = (path("a.pcap"), path("podtap.yaml"));
    fs::write(&file, capture.file(101)).unwrap();
    fs::write(&config, settings).unwrap();
    (folder, file, config)
}

/// Standard output and the file of events of a replay, and its standard error, as verbose as it can be.
fn replayed(capture: &Capture, settings: &str, format: &str, plugins: &[&str]) -> (Vec<u8>, String) {
    // Once without the log, so that decoders are compiled: of that, hundreds of megabytes would be logged.
    podtap(&[&["replay", "/dev/null"], plugins].concat());
    let (folder, file, config) =
        folder(capture, &format!("{settings}log: {{level: trace}}\nevents: {{connections: true}}\n"));
    let events = folder.path().join("events");
    let arguments =
        ["replay", &file, "--config", &config, "--output", format, "--output-file", events.to_str().unwrap()];
    let run = podtap(&[&arguments[..], plugins].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    (fs::read(events).unwrap(), run.stderr)
}

const FORMATS: [&str; 3] = ["json", "msgpack", "text"];

#[test]
fn events_hold_no_secret() {
    for format in FORMATS {
        let (events, log) = replayed(&traffic::all(), "", format, &[]);
        for shown in ["/private", "SELECT", "users", "find"] {
            check(format, &events, shown);
        }
        check("the summary", log, "mongodb");
    }
}

#[test]
fn a_secret_would_be_found_in_every_format() {
    // A line of text has no room for what it publishes.
    for format in ["json", "msgpack"] {
        let (events, _) = replayed(&traffic::all(), TELLING, format, &[]);
        assert!(leak(&events).is_some(), "{format}");
    }
    for hidden in ["...hushHUSH...", "68757368687573680a", "7777777"] {
        assert!(leak(hidden.as_bytes()).is_some(), "{hidden}");
    }
    for before in ["", "a", "ab", "app:"] {
        let text = BASE64_STANDARD_NO_PAD.encode(format!("{before}hushhush-basic"));
        assert!(leak(text.as_bytes()).is_some(), "{text}");
    }
    assert_eq!(leak(b"hush, 777777"), None);
}

#[test]
fn what_is_lost_of_the_traffic_brings_no_secret_to_light() {
    // Each packet by itself, and further ones by chance.
    let whole = traffic::all();
    let packets = whole.packet_count();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let captures = (0..40).map(|_| {
        whole.without(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33).is_multiple_of(10)
        })
    });
    let captures: Vec<_> = captures.chain((0..10).map(|part| whole.without(|place| place % 10 == part))).collect();
    let folder = tempfile::tempdir().unwrap();
    let files = captures.iter().enumerate().map(|(number, capture)| {
        let file = folder.path().join(format!("{number}.pcap"));
        fs::write(&file, capture.file(101)).unwrap();
        file.to_str().unwrap().to_owned()
    });
    let files: Vec<_> = files.collect();
    assert!(packets > 100 && captures.iter().all(|capture| capture.packet_count() < packets));
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let run = podtap(&[&["replay", "--output", "json", "--connections"], &files[..]].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    check("events", run.stdout, "gap_bytes");
    check("the summary", run.stderr, "gap bytes");
}

#[test]
fn a_decoder_that_breaks_tells_no_secret() {
    let plugins = support::plugins("test-plugins");
    for (order, said) in [
        ("> panic", "as ordered"),
        ("> quote", "its text may be of the traffic"),
        ("> recurse", "call stack exhausted"),
        ("> columns", "misbehave"),
    ] {
        let (events, log) = replayed(&traffic::broken(order), "", "json", &["--plugins", plugins.to_str().unwrap()]);
        check("events", events, "> fine");
        check("the log", log, said);
    }
}

/// podtap that reads a pipe, with a Kafka that is not there, a spool, and an admin server.
struct Running {
    child: Child,
    folder: TempDir,
    address: String,
}

impl Running {
    fn start() -> Running {
        let folder = tempfile::tempdir().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_podtap"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PODTAP_")) {
            command.env_remove(name);
        }
        let child = command
            .args(["replay", "-", "--connections", "--kafka-brokers", &closed, "--kafka-topic", "exchanges"])
            .env("PODTAP_SPOOL_DIRECTORY", folder.path().join("spool"))
            .env("PODTAP_ADMIN_LISTEN", "127.0.0.1:0")
            .env("PODTAP_ADMIN_EXCHANGES", "true")
            .env("PODTAP_KAFKA_FORMAT", "json")
            .env("PODTAP_KAFKA_SASL_MECHANISM", "plain")
            .env("PODTAP_KAFKA_SASL_USERNAME", "podtap")
            .env("PODTAP_KAFKA_SASL_PASSWORD", OWN)
            .env("PODTAP_KAFKA_LIBRDKAFKA_OPTIONS", "debug=all")
            .env("PODTAP_LOG_LEVEL", "trace")
            .stdin(Stdio::piped())
            .stdout(File::create(folder.path().join("stdout")).unwrap())
            .stderr(File::create(folder.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut running = Running { child, folder, address: String::new() };
        running.wait("it listens", |running| {
            let log = running.said("stderr");
            let line = log.lines().find(|line| line.contains("admin: listening"));
            let line = line.and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            running.address = line.map(|line| line["address"].as_str().unwrap().to_owned()).unwrap_or_default();
            !running.address.is_empty()
        });
        running
    }

    fn wait(&mut self, what: &str, mut is_done: impl FnMut(&mut Running) -> bool) {
        let begun = Instant::now();
        while !is_done(self) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what} never: {}", self.said("stderr"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn said(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join(name)).unwrap()).into_owned()
    }

    fn get(&self, path: &str) -> String {
        let config = ureq::config::Config::builder().http_status_as_error(false).build();
        let mut response =
            ureq::Agent::new_with_config(config).get(format!("http://{}{path}", self.address)).call().unwrap();
        response.body_mut().read_to_string().unwrap()
    }

    fn metric(&self, name: &str) -> f64 {
        support::agent::Metrics::parse(&self.get("/metrics")).sum(name)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("spool")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_running_podtap_tells_no_secret_and_leaves_none_on_disk_when_it_is_killed() {
    use std::io::Write as _;
    let expected = podtap_exchanges(&traffic::all());
    let mut running = Running::start();
    let url = format!("http://{}", running.address);
    let tap = Command::new(env!("CARGO_BIN_EXE_podtap"))
        .args(["tap", "--agent", &url, "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let page = running.get("/");
    assert!(page.contains("No exchange so far."), "{page}");
    running.wait("both read", |running| running.metric("podtap_exchanges_readers") == 2.0);
    running.child.stdin.as_mut().unwrap().write_all(&traffic::all().file(101)).unwrap();
    // What is open when the pipe ends is not over yet: not all exchanges come.
    running.wait("exchanges come", |running| running.metric("podtap_exchanges_total") > expected / 2.0);
    running.wait("the page shows them", |running| running.get("/").contains("/private"));
    running.wait("the spool has them", |running| {
        running.segments().iter().any(|segment| fs::read(segment).unwrap().windows(8).any(|word| word == b"/private"))
    });
    for (path, shown) in [
        ("/", "SELECT"),
        ("/metrics", "protocol=\"mysql\""),
        ("/config", "\"sasl_password\": \"***\""),
        ("/healthz", ""),
        ("/readyz", ""),
    ] {
        let body = running.get(path);
        // However it is laid out.
        check(path, body.replace("\":\"", "\": \""), shown);
    }
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let tapped = tap.wait_with_output().unwrap();
    check("tap", tapped.stdout, "/private");
    check("tap's errors", tapped.stderr, "");
    check("the log", running.said("stderr"), "librdkafka");
    check("standard output", running.said("stdout"), "");
    let segments = running.segments();
    assert!(!segments.is_empty());
    for segment in segments {
        check("a segment of the spool", fs::read(segment).unwrap(), "");
    }
}

fn podtap_exchanges(capture: &Capture) -> f64 {
    let (_folder, file, _) = folder(capture, "");
    podtap(&["replay", &file, "--output", "json"]).exchanges().len() as f64
}

#[test]
fn records_in_kafka_hold_no_secret() {
    let (_folder, file, config) = folder(&traffic::all(), "");
    let expected = podtap_exchanges(&traffic::all()) as usize;
    for format in ["json", "msgpack"] {
        let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).unwrap();
        cluster.create_topic("exchanges", 1, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        fs::write(&config, format!("kafka: {{format: {format}}}\n")).unwrap();
        let run =
            podtap(&["replay", &file, "--config", &config, "--kafka-brokers", &brokers, "--kafka-topic", "exchanges"]);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let mut settings = ClientConfig::new();
        let consumer: BaseConsumer =
            settings.set("bootstrap.servers", brokers).set("group.id", "test").create().unwrap();
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset("exchanges", 0, Offset::Beginning).unwrap();
        consumer.assign(&partitions).unwrap();
        let (begun, mut records, mut count) = (Instant::now(), Vec::new(), 0);
        while count < expected {
            assert!(begun.elapsed() < Duration::from_secs(30), "{count} records");
            let Some(record) = consumer.poll(Duration::from_millis(100)) else { continue };
            let record = record.unwrap();
            count += 1;
            let parts = [record.payload(), record.key()].into_iter().flatten();
            parts.for_each(|part| records.extend(part));
            let headers = record.headers().into_iter().flat_map(Headers::iter);
            headers
                .for_each(|header| records.extend([header.key.as_bytes(), header.value.unwrap_or_default()].concat()));
        }
        check(format, records, "/private");
    }
}

#[test]
fn pages_and_what_is_read_back_hold_no_secret() {
    let (folder, file, _) = folder(&traffic::all(), "");
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (page, events) = (path("report.html"), path("events.jsonl"));
    let run = podtap(&["report", &file, "-o", &page]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    check("the page", fs::read(&page).unwrap(), "/private");
    check("what `report` says", run.stderr, "exchanges");
    let run = podtap(&["replay", &file, "--output-file", &events]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    check("what is read back", podtap(&["read", &events]).stdout, "/private");
    let run = podtap(&["report", &events, "-o", &page]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    check("the page of events", fs::read(&page).unwrap(), "/private");
}

#[test]
fn no_screen_of_top_holds_a_secret() {
    let (_folder, file, _) = folder(&traffic::all(), "");
    let source = Source::Captures(vec![Path::new(&file).to_owned()], None);
    let feeding = Feed { source, config: Arc::new(support::config()), speed: None }.start(None).unwrap();
    while feeding.progress() == Progress::Reading {
        std::thread::sleep(Duration::from_millis(10));
    }
    let view = feeding.view.lock();
    let mut screen = Screen::new("a.pcap", None, false);
    let mut terminal = Terminal::new(TestBackend::new(400, 100)).unwrap();
    let mut shown = String::new();
    let mut press = |screen: &mut Screen, code: KeyCode, shown: &mut String| {
        screen.key(KeyEvent::new(code, KeyModifiers::NONE), &view);
        let status = Status { progress: &Progress::Over, problems: &[] };
        terminal.draw(|frame| draw(frame, screen, &view, status)).unwrap();
        *shown += &support::lines(terminal.backend().buffer()).join("\n");
    };
    for row in 0..view.rows().count() {
        press(&mut screen, KeyCode::Home, &mut shown);
        (0..row).for_each(|_| press(&mut screen, KeyCode::Down, &mut shown));
        press(&mut screen, KeyCode::Enter, &mut shown);
        for single in 0..screen.listed(&view).len() {
            press(&mut screen, KeyCode::Home, &mut shown);
            (0..single).for_each(|_| press(&mut screen, KeyCode::Down, &mut shown));
            press(&mut screen, KeyCode::Enter, &mut shown);
            assert_eq!(screen.page, Page::Exchange);
            press(&mut screen, KeyCode::Esc, &mut shown);
        }
        press(&mut screen, KeyCode::Esc, &mut shown);
    }
    for word in ["/private", "SELECT", "mongodb.query_digest"] {
        check("a screen", &shown, word);
    }
}
