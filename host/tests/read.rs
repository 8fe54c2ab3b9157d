//! `podtap read`: what was published comes back as it was, from files, pipes and topics (librdkafka's mock cluster).

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use clap::Parser as _;
use podtap::cli::Arguments;
use podtap::config;
use podtap::event::{Encoder, Event, Format, Loss};
use podtap::filter::Filter;
use podtap::publish::{Kafka, Output as _, Waits};
use podtap::reference::{example_connection_event, example_event};
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::types::RDKafkaRespErr;
use support::{Run, podtap, podtap_reading};

const TOPIC: &str = "exchanges";

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// Exchanges and connections of several protocols, with losses and in the middle.
const CAPTURES: [&str; 3] = [
    "http/tests/captures/nginx-tour.pcap",
    "mysql/tests/captures/tour.pcap",
    "mongodb/tests/captures/pymongo-snappy.pcap",
];

fn encoded(format: Format, numbers: std::ops::Range<u32>) -> Vec<u8> {
    let mut encoder = Encoder::new(format);
    let mut bytes = Vec::new();
    for number in numbers {
        let mut exchange = example_event();
        exchange.connection.exchange = number;
        bytes.extend(encoder.encode(Event::Exchange(&exchange)).unwrap());
        if format == Format::Json {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// Numbers of the exchanges that were shown as JSON.
fn numbers(run: &Run) -> Vec<u64> {
    let number = |event: &serde_json::Value| event["connection"]["exchange"].as_u64().unwrap();
    let mut numbers: Vec<_> = run.exchanges().iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[track_caller]
fn check_ok(run: &Run) {
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
}

#[test]
fn every_format_comes_back_as_replay_writes_each() {
    let folder = tempfile::tempdir().unwrap();
    for capture in CAPTURES {
        let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(capture);
        let files = ["json", "msgpack", "text"].map(|format| {
            let file = folder.path().join(format).display().to_string();
            let replay = ["replay", capture.to_str().unwrap(), "--connections", "--no-summary"];
            check_ok(&podtap(&[&replay[..], &["--output", format, "--output-file", &file]].concat()));
            file
        });
        let [json, msgpack, text] = files.each_ref().map(|file| fs::read(file).unwrap());
        assert!(text.iter().filter(|&&byte| byte == b'\n').count() > 10);
        for file in &files[..2] {
            for (form, expected) in [("json", &json), ("text", &text)] {
                let run = podtap(&["read", file, "--output", form]);
                check_ok(&run);
                assert!(run.stdout.as_bytes() == expected, "{file} as {form}:\n{}", run.stdout);
            }
            let mut command = Command::new(env!("CARGO_BIN_EXE_podtap"));
            let output = command.args(["read", file, "--output", "msgpack"]).output().unwrap();
            assert!(output.stdout == msgpack, "{file} as msgpack");
        }
    }
}

#[test]
fn standard_input_may_hold_both_formats() {
    let input = [encoded(Format::Json, 0..3), encoded(Format::Msgpack, 3..5), encoded(Format::Json, 5..6)].concat();
    let run = podtap_reading(&["read", "-", "--output", "json"], &input);
    check_ok(&run);
    assert_eq!(numbers(&run), [0, 1, 2, 3, 4, 5]);
    let run = podtap_reading(&["read", "-"], &input);
    assert!(run.stdout.starts_with("00:00:00.123Z 10.1.0.5:51544 -> 10.1.0.9:80 http 200  1.24ms    850B GET /api"));
    check_ok(&podtap_reading(&["read", "-"], b""));
}

#[test]
fn fields_and_kinds_of_later_versions_come_through() {
    let later =
        "{\"id\":\"1\",\"time\":\"2027-01-01T00:00:00Z\",\"kind\":\"later\",\"big\":123456789012345678901234567890}";
    let run = podtap_reading(&["read", "-", "--output", "json"], later.as_bytes());
    check_ok(&run);
    assert_eq!(run.stdout, format!("{later}\n"));
    let run = podtap_reading(&["read", "-"], later.replace("1234", "1").as_bytes());
    check_ok(&run);
    assert!(run.stdout.starts_with("00:00:00.000Z later {\"id\":\"1\",\"time\":"), "{}", run.stdout);
}

#[test]
fn count_stops_after_so_many() {
    let input = encoded(Format::Msgpack, 0..10);
    for count in [0, 1, 7] {
        let run = podtap_reading(&["read", "-", "--output", "json", "--count", &count.to_string()], &input);
        check_ok(&run);
        assert_eq!(numbers(&run), (0..count).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_no_event_is_named_and_the_others_are_shown() {
    let good = encoded(Format::Json, 0..2);
    let input = [&good[..], b"{\"id\":1}\n", &good, b"{\"id\":\"1\",,}\n", &good].concat();
    let run = podtap_reading(&["read", "-", "--output", "json"], &input);
    assert_eq!((run.code, numbers(&run).len()), (Some(1), 6));
    let (first, second) = (good.len(), 2 * good.len() + 9 + 10);
    assert_eq!(
        run.stderr,
        format!(
            "podtap: warning: standard input: byte {first}: no event of podtap: it has no `id` that is text\n\
             podtap: warning: standard input: byte {second}: key must be a string\n\
             podtap: error: 2 records are no event that can be read; 6 events were shown\n"
        )
    );
    let many = podtap_reading(&["read", "-"], &b"{}\n".repeat(1000));
    assert_eq!(many.stderr.lines().count(), 11);
    assert_eq!(many.errors(), ["podtap: error: 1000 records are no event that can be read; 0 events were shown"]);
}

#[test]
fn a_stream_that_cannot_be_read_on_ends_after_what_was_before() {
    let input = [&encoded(Format::Msgpack, 0..3)[..], b"\xc1"].concat();
    let run = podtap_reading(&["read", "-", "--output", "json"], &input);
    assert_eq!((run.code, numbers(&run)), (Some(1), vec![0, 1, 2]));
    let place = input.len() - 1;
    assert!(run.errors()[0].starts_with(&format!("podtap: error: standard input: byte {place}: 0xc1 begins no event")));
    let run = podtap(&["read", "/nonexistent"]);
    assert!(run.errors()[0].starts_with("podtap: error: /nonexistent: cannot be read: "), "{}", run.stderr);
    let run = podtap(&["read", "/"]);
    assert!(run.errors()[0].starts_with("podtap: error: /: cannot be read: "), "{}", run.stderr);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events");
    fs::write(&file, encoded(Format::Json, 0..5000)).unwrap();
    let mut child = reader(&["read", file.to_str().unwrap(), "--output", "json"]);
    let mut first = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    for arguments in [
        &["read"][..],
        &["read", "a", "--brokers", "b:1"],
        &["read", "a", "--follow"],
        &["read", "--brokers", "b:1", "--topic", "t", "--from", "end"],
        &["read", "a", "--output", "none"],
    ] {
        assert_eq!(podtap(arguments).code, Some(2), "{arguments:?}");
    }
    let run = podtap(&["read", "--brokers", "a:1"]);
    assert!(run.errors()[0].contains("kafka.topic: not set"), "{}", run.stderr);
}

/// A podtap that runs.
fn reader(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podtap"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 3, 1).unwrap();
    cluster
}

fn publish(cluster: &Cluster, format: Format, numbers: std::ops::Range<u32>) {
    let brokers = cluster.bootstrap_servers().split(',').map(str::to_owned).collect();
    let settings = config::Kafka { brokers, topic: TOPIC.to_owned(), format, ..config::Kafka::default() };
    let mut kafka = Kafka::open(&settings, None, &Waits::recorded(&config::Config::default())).unwrap();
    for number in numbers {
        let mut exchange = example_event();
        exchange.connection.exchange = number;
        // Over all partitions.
        exchange.connection.id = number.to_string().into();
        kafka.publish(Event::Exchange(&exchange)).unwrap();
    }
    kafka.finish().unwrap();
}

fn read_topic(cluster: &Cluster, more: &[&str]) -> Run {
    let brokers = cluster.bootstrap_servers();
    podtap(&[&["read", "--brokers", &brokers, "--topic", TOPIC, "--output", "json"], more].concat())
}

#[test]
fn a_topic_is_read_to_its_end_whatever_its_formats() {
    let cluster = cluster();
    let run = read_topic(&cluster, &[]);
    check_ok(&run);
    assert_eq!(run.stdout, "");
    publish(&cluster, Format::Msgpack, 0..500);
    publish(&cluster, Format::Json, 500..1000);
    let run = read_topic(&cluster, &[]);
    check_ok(&run);
    assert_eq!(numbers(&run), (0..1000).collect::<Vec<_>>());
    let run = read_topic(&cluster, &["--count", "10"]);
    check_ok(&run);
    assert_eq!(numbers(&run).len(), 10);
}

#[test]
fn records_of_others_are_named_by_partition_and_offset() {
    let cluster = cluster();
    publish(&cluster, Format::Msgpack, 0..5);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
    let foreign: [&[u8]; 3] = [b"hello", b"{}", b"\x81\xa2id\xdb\xff\xff\xff\xff"];
    for value in foreign {
        producer.send(BaseRecord::<(), [u8]>::to(TOPIC).partition(1).payload(value)).unwrap();
    }
    producer.send(BaseRecord::<(), [u8]>::to(TOPIC).partition(1)).unwrap();
    producer.flush(std::time::Duration::from_secs(10)).unwrap();
    publish(&cluster, Format::Json, 5..10);
    let connection =
        Encoder::new(Format::Json).encode(Event::Connection(&example_connection_event())).unwrap().to_vec();
    producer.send(BaseRecord::<(), [u8]>::to(TOPIC).partition(0).payload(&connection)).unwrap();
    producer.flush(std::time::Duration::from_secs(10)).unwrap();

    let run = read_topic(&cluster, &[]);
    assert_eq!((run.code, run.exchanges().len()), (Some(1), 11));
    let lines: Vec<_> = run.stderr.lines().collect();
    for (line, end) in lines.iter().zip([
        ", byte 0: neither JSON nor a MessagePack map",
        ", byte 0: no event of podtap: it has no `id` that is text",
        ", byte 9: cut off in the middle",
        ", byte 0: neither JSON nor a MessagePack map",
    ]) {
        assert!(line.starts_with("podtap: warning: exchanges: partition 1, offset "), "{line}");
        assert!(line.ends_with(end), "{line}");
    }
    assert_eq!(lines[4], "podtap: error: 4 records are no event that can be read; 11 events were shown");
}

#[test]
fn follow_goes_on_with_what_is_published_later() {
    let cluster = cluster();
    publish(&cluster, Format::Msgpack, 0..5);
    let brokers = cluster.bootstrap_servers();
    let start = |from: &str| {
        let arguments =
            ["read", "--brokers", &brokers, "--topic", TOPIC, "--follow", "--from", from, "--output", "json"];
        let mut child = reader(&arguments);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    };
    let (mut whole, mut lines) = start("beginning");
    for _ in 0..5 {
        lines.next().unwrap().unwrap();
    }
    let (mut newest, mut newest_lines) = start("end");
    // It says nothing of where it has got to: so until it must have seen one.
    let shown = std::thread::spawn(move || newest_lines.next().unwrap().unwrap());
    let mut number = 5;
    while !shown.is_finished() {
        publish(&cluster, Format::Json, number..number + 1);
        number += 1;
        assert!(lines.next().unwrap().unwrap().contains("\"exchange\":"));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let first: serde_json::Value = serde_json::from_str(&shown.join().unwrap()).unwrap();
    assert!(first["connection"]["exchange"].as_u64().unwrap() >= 5, "{first}");
    for child in [&mut whole, &mut newest] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn what_keeps_a_topic_from_being_read_is_one_line() {
    let cluster = cluster();
    cluster.topic_error("missing", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let brokers = cluster.bootstrap_servers();
    let run = podtap(&["read", "--brokers", &brokers, "--topic", "missing"]);
    assert_eq!(
        run.stderr,
        format!("podtap: error: kafka: topic \"missing\" on {brokers}: there is none; check the name\n")
    );
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("podtap.yaml");
    let settings = |more: &str| {
        fs::write(&file, format!("kafka:\n  brokers: [{closed:?}]\n  topic: t\n  connect_timeout: 500ms\n{more}"))
            .unwrap();
        podtap(&["read", "--config", file.to_str().unwrap()])
    };
    let run = settings("");
    let expected = format!("podtap: error: kafka: no answer from {closed} within 500ms (");
    assert!(run.stderr.starts_with(&expected) && run.stderr.contains("Connection refused"), "{}", run.stderr);
    assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 1));
    let run = settings("  librdkafka_options:\n    no.such.password: hunter2\n");
    assert!(run.stderr.contains("no.such.password") && !run.stderr.contains("hunter2"), "{}", run.stderr);
}

/// Events of the captures that ship, and examples of what there is none of in them: an exchange with a loss, a connection.
fn shipped_events() -> String {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let goldens = CAPTURES.map(|capture| fs::read_to_string(plugins.join(capture).with_extension("jsonl")).unwrap());
    let mut lossy = example_event();
    lossy.loss = Some(Loss { gap_bytes: Some(1460), ..Loss::default() });
    let mut events = goldens.concat();
    for event in [Event::Exchange(&lossy), Event::Connection(&example_connection_event())] {
        events += std::str::from_utf8(Encoder::new(Format::Json).encode(event).unwrap()).unwrap();
        events.push('\n');
    }
    events
}

#[test]
fn a_filter_leaves_out_what_does_not_match_and_says_what_it_cannot_compare() {
    let events = shipped_events();
    let read = |filter: &str| podtap_reading(&["read", "-", "--output", "json", "--filter", filter], events.as_bytes());
    let run = read("protocol == 'http' && attributes['http.response.status_code'] >= 500");
    check_ok(&run);
    let status = |event: &serde_json::Value| event["attributes"]["http.response.status_code"].as_u64().unwrap_or(0);
    let all: Vec<serde_json::Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected: Vec<_> = all.into_iter().filter(|event| status(event) >= 500).collect();
    assert!(!expected.is_empty());
    assert_eq!(run.exchanges(), expected);

    let run = read("target > 5");
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert_eq!(run.stderr.lines().count(), 11);
    assert!(run.stderr.starts_with("podtap: warning: standard input: byte 0: filter: "), "{}", run.stderr);
    let shown = podtap_reading(&["read", "-", "--filter", "outcome != 'ok'", "--count", "2"], events.as_bytes());
    check_ok(&shown);
    assert_eq!(shown.stdout.lines().count(), 2);
}

fn page(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The blocks of a language.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let fenced = page.split("\n```").skip(1).step_by(2);
    fenced.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

#[test]
fn every_filter_of_the_page_about_them_matches_some_shipped_events() {
    let events = shipped_events();
    let fields = |line| serde_json::from_str::<serde_json::Map<_, _>>(line).unwrap();
    let all: Vec<_> = events.lines().map(fields).collect();
    let page = page("docs/filter.md");
    let filters: Vec<_> = blocks(&page, "cel").into_iter().flat_map(str::lines).collect();
    assert!(filters.len() > 10);
    for source in filters {
        let filter = Filter::parse(source).unwrap_or_else(|error| panic!("{source}: {error}"));
        let matching =
            all.iter().filter(|fields| filter.matches(fields).unwrap_or_else(|what| panic!("{source}: {what}")));
        let matching = matching.count();
        assert!(0 < matching && matching < all.len(), "{source}: {matching} of {}", all.len());
    }
}

#[test]
fn errors_of_filters_are_those_that_the_page_shows() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("events.jsonl"), shipped_events()).unwrap();
    let page = page("docs/filter.md");
    for block in blocks(&page, "console") {
        for (command, expected) in
            block.strip_prefix("$ ").unwrap().split("\n$ ").map(|one| one.split_once('\n').unwrap())
        {
            let mut bash = Command::new("bash");
            let beside = Path::new(env!("CARGO_BIN_EXE_podtap")).parent().unwrap();
            bash.env("PATH", format!("{}:{}", beside.display(), std::env::var("PATH").unwrap()));
            let output = bash.current_dir(folder.path()).args(["-c", command]).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{command}");
            assert_eq!(String::from_utf8(output.stderr).unwrap().trim_end(), expected.trim_end(), "{command}");
        }
    }
}

#[test]
fn commands_that_the_pages_show_are_understood() {
    const COMMANDS: [&str; 5] = ["podtap read ", "podtap top ", "podtap report ", "podtap man ", "podtap completion "];
    let mut commands = 0;
    for path in ["README.md", "docs/consumers.md", "deploy/kafka/README.md"] {
        let page = page(path);
        let lines = blocks(&page, "sh").into_iter().flat_map(str::lines);
        for line in lines.filter(|line| COMMANDS.iter().any(|command| line.starts_with(command))) {
            // As the shell takes it apart.
            let say = format!("podtap() {{ printf '%s\\0' podtap \"$@\"; }}; {}", line.split(" | ").next().unwrap());
            let output = Command::new("bash").args(["-c", &say]).output().unwrap();
            let words = String::from_utf8(output.stdout).unwrap();
            let understood = Arguments::try_parse_from(words.split_terminator('\0'));
            assert!(understood.is_ok(), "{path}: {line}: {}", understood.unwrap_err());
            if let Some(filter) = words.split('\0').skip_while(|word| *word != "--filter").nth(1) {
                Filter::parse(filter).unwrap();
            }
            commands += 1;
        }
    }
    assert!(commands >= 12, "{commands}");
}
