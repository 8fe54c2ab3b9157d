//! What an operator sees of a running podtap: the real program, asked by a real client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

mod support;

use support::agent::{Agent, Metrics};

fn tour() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/http/tests/captures/nginx-tour.pcap");
    std::fs::read(path).unwrap()
}

#[test]
fn metrics_are_what_the_summary_says_in_the_end() {
    let mut agent = Agent::replay(&[], &[]);
    agent.feed(&tour());
    let metrics = agent.metrics_with(|metrics| metrics.sum("podtap_packets_total") == 1297.0);
    metrics.add_up();
    assert_eq!(metrics.get("podtap_events_total{kind=\"exchange\"}"), 293.0);
    // By server and outcome, all of them once; those with a duration in the buckets.
    assert_eq!(metrics.sum("podtap_requests_total"), 293.0);
    let of = |outcome| {
        format!("podtap_requests_total{{protocol=\"http\",server_port=\"8080\",vantage=\"\",outcome=\"{outcome}\"}}")
    };
    assert_eq!((metrics.get(&of("ok")), metrics.get(&of("no_response"))), (286.0, 1.0));
    assert_eq!(metrics.sum("podtap_request_duration_seconds_count"), 292.0);
    let bucket = |le| {
        format!(
            "podtap_request_duration_seconds_bucket{{protocol=\"http\",server_port=\"8080\",vantage=\"\",outcome=\"ok\",le=\"{le}\"}}"
        )
    };
    assert_eq!(metrics.get(&bucket("+Inf")), 286.0);
    assert!(metrics.get(&bucket("0.001")) > 100.0 && metrics.get(&bucket("0.0001")) < metrics.get(&bucket("0.001")));
    assert_eq!(metrics.get("podtap_decoder_exchanges_total{decoder=\"http\"}"), 293.0);
    assert!(metrics.get("podtap_decoder_seconds_total{decoder=\"http\"}") > 0.0);
    assert!(metrics.get("podtap_decoder_memory_bytes{decoder=\"http\"}") > 65536.0);

    let run = agent.finish();
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    for (sample, name) in [
        ("podtap_exchanges_total", "exchanges"),
        ("podtap_packets_total", "packets"),
        ("podtap_packets_by_fate_total{fate=\"tracked\"}", "packets tracked"),
        ("podtap_connections_total", "connections"),
        ("podtap_connections_detected_total", "connections detected"),
        ("podtap_connections_of_known_servers_total", "connections of known servers"),
        ("podtap_payload_bytes_total", "payload bytes"),
        ("podtap_payload_bytes_by_fate_total{fate=\"decoded\"}", "payload bytes decoded"),
        ("podtap_payload_bytes_by_fate_total{fate=\"skipped\"}", "payload bytes skipped"),
        ("podtap_payload_bytes_by_fate_total{fate=\"undetected\"}", "payload bytes undetected"),
        (
            "podtap_connections_undetected_by_reason_total{reason=\"refused_by_all_decoders\"}",
            "undetected refused by all decoders",
        ),
    ] {
        assert_eq!(metrics.get(sample), run.count(name) as f64, "{sample}, {}", run.stderr);
    }
}

#[test]
fn metrics_add_up_in_the_middle_of_everything() {
    let (mut agent, capture) = (Agent::replay(&[], &[]), tour());
    let mut fed = 0;
    for part in capture.chunks(capture.len() / 7) {
        agent.feed(part);
        fed += 1;
        let before = agent.metrics().sum("podtap_packets_total");
        if fed > 1 {
            agent.metrics_with(|metrics| metrics.sum("podtap_packets_total") > before || before == 1297.0).add_up();
        }
    }
    agent.metrics_with(|metrics| metrics.sum("podtap_packets_total") == 1297.0).add_up();
}

#[test]
fn openmetrics_is_for_whoever_accepts_it() {
    let agent = Agent::replay(&[], &[]);
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
    let (status, media_type, body) = agent.get("/metrics", accept);
    assert_eq!((status, media_type.as_str()), (200, "application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(
        body.contains("# TYPE podtap_packets counter\npodtap_packets_total 0\n") && body.ends_with("# EOF\n"),
        "{body}"
    );
}

#[test]
fn a_server_too_many_is_counted_under_other_and_none_where_requests_are_switched_off() {
    let mut capture = support::Capture::default();
    for port in 0..6 {
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        capture.connection(40_000 + port, 8000 + port).client(request).server(response).close();
    }
    for (servers, by_name, by_other) in [("2", 2.0, 4.0), ("0", 0.0, 0.0)] {
        let mut agent = Agent::replay(&[], &[("PODTAP_ADMIN_MAX_SERVERS", servers)]);
        agent.feed(&capture.file(101));
        let metrics = agent.metrics_with(|metrics| metrics.sum("podtap_exchanges_total") == 6.0);
        let other = "podtap_requests_total{protocol=\"other\",server_port=\"other\",vantage=\"\",outcome=\"ok\"}";
        let other = metrics.0.get(other).copied().unwrap_or(0.0);
        assert_eq!((metrics.sum("podtap_requests_total") - other, other), (by_name, by_other));
    }
}

#[test]
fn health_and_readiness_are_told_with_reasons() {
    let agent = Agent::replay(&[], &[]);
    agent.metrics_with(|metrics| metrics.get("podtap_ready") == 1.0);
    assert_eq!(agent.get("/readyz", "*/*").2, "ok\n");
    assert_eq!(agent.get("/healthz", "*/*"), (200, "text/plain; charset=utf-8".to_owned(), "ok\n".to_owned()));
    assert_eq!(agent.get("/nothing", "*/*").0, 404);

    // An output that fails: nothing can be written to a full device.
    let settings = [("PODTAP_OUTPUT_FORMAT", "json"), ("PODTAP_OUTPUT_FILE", "/dev/full")];
    let mut command = Command::new(env!("CARGO_BIN_EXE_podtap"));
    let brokers = ["--kafka-brokers", "127.0.0.1:1", "--kafka-topic", "x"];
    let mut agent = Agent::start(command.args(["replay", "-"]).args(brokers), &settings);
    let mut capture = support::Capture::default();
    for number in 0..2000_u16 {
        let request = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(200));
        capture.connection(10_000 + number, 80).client(request).server("HTTP/1.1 204 No\r\n\r\n").close();
    }
    agent.feed(&capture.file(101));
    agent.metrics_with(|metrics| metrics.sum("podtap_exchanges_total") == 2000.0);
    // The next event after the failure shows it.
    let mut capture = support::Capture::default();
    for number in 0..2000_u16 {
        capture
            .connection(20_000 + number, 80)
            .client("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .server("HTTP/1.1 204 No\r\n\r\n")
            .close();
    }
    agent.feed(&capture.file(101)[24..]);
    let metrics = agent.metrics_with(|metrics| metrics.get("podtap_ready") == 0.0);
    assert_eq!(metrics.get("podtap_outputs_failed"), 1.0);
    let (status, _, body) = agent.get("/readyz", "*/*");
    assert_eq!(status, 503);
    assert!(body.starts_with("output: /dev/full: events cannot be written: No space left on device"), "{body}");
    assert_eq!(agent.get("/healthz", "*/*").0, 200);
}

#[test]
fn a_kafka_that_is_away_for_long_is_a_reason_and_its_events_are_seen_to_wait() {
    let settings = [
        ("PODTAP_KAFKA_BROKERS", "127.0.0.1:1"),
        ("PODTAP_KAFKA_TOPIC", "exchanges"),
        ("PODTAP_KAFKA_TIMEOUT", "1s"),
        ("PODTAP_DELIVERY_SHUTDOWN_GRACE", "1s"),
    ];
    let mut agent = Agent::replay(&[], &settings);
    agent.metrics_with(|metrics| metrics.get("podtap_ready") == 1.0);
    agent.feed(&tour());
    let metrics = agent.metrics_with(|metrics| metrics.get("podtap_ready") == 0.0);
    assert!(metrics.get("podtap_kafka_silence_seconds") >= 1.0);
    let wait =
        metrics.sum("podtap_kafka_in_flight_events") + metrics.get("podtap_output_queue_events{output=\"kafka\"}");
    assert_eq!(wait, 293.0);
    let (status, _, body) = agent.get("/readyz", "*/*");
    assert!(status == 503 && body.starts_with("kafka: nothing was acknowledged for "), "{status} {body}");
}

#[test]
fn the_configuration_is_told_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("podtap.yaml");
    let text = "kafka:\n  brokers: [127.0.0.1:1]\n  topic: x\n  sasl_mechanism: plain\n  sasl_username: me\n  \
                sasl_password: hunter2\n  librdkafka_options: {ssl.key.password: hunter2}\n";
    std::fs::write(&file, text).unwrap();
    let agent = Agent::replay(&["--config", file.to_str().unwrap()], &[("PODTAP_DELIVERY_SHUTDOWN_GRACE", "1s")]);
    let (status, media_type, body) = agent.get("/config", "*/*");
    assert_eq!((status, media_type.as_str()), (200, "application/json"));
    let config: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(config["kafka"]["sasl_username"], "me");
    assert_eq!((&config["kafka"]["sasl_password"], config["admin"]["max_servers"].as_u64()), (&"***".into(), Some(64)));
    assert!(!body.contains("hunter2"), "{body}");
}

#[test]
fn whoever_connects_and_says_nothing_keeps_nobody_else_out() {
    let agent = Agent::replay(&[], &[]);
    let silent: Vec<_> = (0..40).map(|_| TcpStream::connect(&agent.address).unwrap()).collect();
    let since = Instant::now();
    assert_eq!(agent.get("/healthz", "*/*").0, 200);
    assert!(since.elapsed() < Duration::from_secs(25), "{:?}", since.elapsed());
    drop(silent);
    let mut flood = TcpStream::connect(&agent.address).unwrap();
    let head = [b"GET /healthz HTTP/1.1\r\nx: ".as_slice(), &[b'x'; 100_000]].concat();
    // It is cut off before all is sent, or answered with an error.
    let _ = flood.write_all(&head);
    let mut answer = Vec::new();
    let _ = flood.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn an_address_that_is_taken_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("podtap.yaml");
    let config = |listen: &str| {
        std::fs::write(&file, format!("admin: {{listen: \"{listen}\"}}\n")).unwrap();
        support::podtap(&["replay", "-", "--config", file.to_str().unwrap()])
    };
    let run = config(&taken.local_addr().unwrap().to_string());
    assert_eq!(run.code, Some(1));
    assert!(
        run.stderr.contains("admin.listen: 127.0.0.1:") && run.stderr.contains("choose another address"),
        "{}",
        run.stderr
    );
    let run = config(":19464");
    assert!(run.stderr.contains("podtap.yaml:1: admin.listen: \":19464\" is no address with a port"), "{}", run.stderr);
}

/// A network namespace of its own, with nothing but a loopback interface, and podtap on that.
struct Pod {
    agent: Agent,
    /// Serves on port 8000.
    server: Child,
}

impl Pod {
    /// None where it cannot be made here, which is said.
    fn start(settings: &[(&str, &str)]) -> Option<Pod> {
        let may = Command::new("unshare").args(["-n", "true"]).output();
        if !may.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: a network namespace takes root and unshare");
            return None;
        }
        let script = format!("ip link set lo up && exec {} run -i lo --output none", env!("CARGO_BIN_EXE_podtap"));
        let settings = [settings, &[("PODTAP_ADMIN_LISTEN", "127.0.0.1:19464")]].concat();
        let agent = Agent::start(Command::new("unshare").args(["-n", "sh", "-c", &script]), &settings);
        let folder = env!("CARGO_MANIFEST_DIR");
        let mut server = Command::new("nsenter");
        server.args(["-t", &agent.child.id().to_string(), "-n", "python3", "-m", "http.server", "-d", folder, "8000"]);
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pod = Pod { agent, server };
        let since = Instant::now();
        while pod.get("http://127.0.0.1:8000/Cargo.toml").is_none() {
            assert!(since.elapsed() < Duration::from_secs(30), "python3 -m http.server does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(pod)
    }

    /// The body, by a client in the namespace.
    fn get(&self, url: &str) -> Option<String> {
        let mut curl = Command::new("nsenter");
        curl.args(["-t", &self.agent.child.id().to_string(), "-n", "curl", "-sf", url]);
        let output = curl.output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn metrics_with(&self, hold: impl Fn(&Metrics) -> bool) -> Metrics {
        let since = Instant::now();
        loop {
            let metrics = Metrics::parse(&self.get("http://127.0.0.1:19464/metrics").unwrap());
            if hold(&metrics) {
                return metrics;
            }
            assert!(since.elapsed() < Duration::from_secs(30), "it never came to that: {metrics:#?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn a_live_agent_tells_of_its_service_and_not_of_who_asks_it() {
    let Some(pod) = Pod::start(&[]) else { return };
    // The one that has shown that the server is up: podtap captures since before it listened.
    let before =
        pod.metrics_with(|metrics| metrics.get("podtap_ready") == 1.0 && metrics.sum("podtap_requests_total") > 0.0);
    let before = before.sum("podtap_requests_total");
    for _ in 0..20 {
        pod.get("http://127.0.0.1:8000/Cargo.toml").unwrap();
    }
    let of = |outcome| {
        format!(
            "podtap_requests_total{{protocol=\"http\",server_port=\"8000\",vantage=\"server\",outcome=\"{outcome}\"}}"
        )
    };
    let metrics = pod.metrics_with(|metrics| metrics.sum("podtap_requests_total") >= before + 20.0);
    assert_eq!(metrics.get(&of("ok")), before + 20.0, "{metrics:#?}");
    // All requests are the service's: of those to podtap itself none.
    assert_eq!(metrics.sum("podtap_requests_total"), before + 20.0, "{metrics:#?}");
    assert!(metrics.sum("podtap_own_connections_total") > 0.0);
    metrics.add_up();
    assert_eq!(metrics.get("podtap_capture_interfaces{state=\"open\"}"), 1.0);
    assert_eq!(metrics.get("podtap_decoded_connections_ratio"), 1.0);
    assert_eq!(pod.get("http://127.0.0.1:19464/readyz").unwrap(), "ok\n");
}

#[test]
fn a_live_agent_says_at_once_what_is_wrong_with_decoders_and_takes_what_comes_later() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.wasm");
    std::fs::write(&file, "no decoder").unwrap();
    let settings = [
        ("PODTAP_PLUGINS_DIRECTORIES", folder.path().to_str().unwrap()),
        ("PODTAP_PLUGINS_RELOAD_INTERVAL", "1s"),
        ("PODTAP_DETECTION_PORTS", "9000=template,9001=http"),
    ];
    let Some(mut pod) = Pod::start(&settings) else { return };
    assert_eq!(pod.get("http://127.0.0.1:19464/readyz").unwrap(), "ok\n");
    std::fs::copy(support::plugins("test-plugins").join("template.wasm"), &file).unwrap();
    pod.metrics_with(|metrics| metrics.get("podtap_decoders_reloaded_total") == 1.0);
    kill_process(Pid::from_child(&pod.agent.child), Signal::TERM).unwrap();
    let log = pod.agent.end().stderr;
    let place = |words: &str| log.find(words).unwrap_or_else(|| panic!("no {words} in {log}"));
    let begins = place("\"capturing\"");
    assert!(place("mine.wasm: is not a WebAssembly component") < begins, "{log}");
    assert!(place("detection.ports.9000: there is no decoder `template`") < begins, "{log}");
    assert!(!log.contains("detection.ports.9001"), "{log}");
    assert!(place("further decoder") > begins, "{log}");
}

/// Lines of /exchanges, read by curl.
struct Reader {
    curl: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Reader {
    fn of(agent: &Agent, query: &str) -> Reader {
        let before = agent.metrics().sum("podtap_exchanges_readers");
        let url = format!("http://{}/exchanges{query}", agent.address);
        let mut curl =
            Command::new("timeout").args(["60", "curl", "-sN", &url]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(curl.stdout.take().unwrap());
        agent.metrics_with(|metrics| metrics.sum("podtap_exchanges_readers") > before);
        Reader { curl, lines }
    }

    /// What comes, up to the end of the stream.
    fn all(mut self) -> Vec<serde_json::Value> {
        let mut text = String::new();
        self.lines.read_to_string(&mut text).unwrap();
        assert!(self.curl.wait().unwrap().success());
        text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

const EXCHANGES: (&str, &str) = ("PODTAP_ADMIN_EXCHANGES", "true");

/// The tour's events as `--output json` has them.
fn tour_events() -> Vec<serde_json::Value> {
    support::podtap_reading(&["replay", "-", "--output", "json"], &tour()).exchanges()
}

#[test]
fn whoever_reads_along_gets_the_events_that_the_outputs_get_or_those_that_match() {
    let mut agent = Agent::replay(&[], &[EXCHANGES]);
    let everything = Reader::of(&agent, "");
    let errors = Reader::of(&agent, "?filter=outcome+%3D%3D+%22error%22");
    agent.feed(&tour());
    agent.metrics_with(|metrics| metrics.sum("podtap_exchanges_total") == 293.0);
    assert_eq!(agent.finish().code, Some(0));
    let end = serde_json::json!({"kind": "end", "lost": 0});
    let mut expected = tour_events();
    let matching: Vec<_> =
        expected.iter().filter(|event| event["outcome"] == "error").cloned().chain([end.clone()]).collect();
    expected.push(end);
    assert_eq!(everything.all(), expected);
    assert_eq!(matching.len(), 7);
    assert_eq!(errors.all(), matching);
}

#[test]
fn tap_shows_events_as_read_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    let lines: String = tour_events().iter().map(|event| format!("{event}\n")).collect();
    std::fs::write(&file, lines).unwrap();
    for (arguments, expected) in [
        (&["--output", "json"][..], &["--output", "json"][..]),
        (&["--filter", "outcome == \"error\""], &["--filter", "outcome == \"error\""]),
        (&["--count", "5"], &["--count", "5"]),
    ] {
        let mut agent = Agent::replay(&[], &[EXCHANGES]);
        let url = format!("http://{}", agent.address);
        let tap = Command::new(env!("CARGO_BIN_EXE_podtap"))
            .args(["tap", "--agent", &url])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        agent.metrics_with(|metrics| metrics.sum("podtap_exchanges_readers") == 1.0);
        agent.feed(&tour());
        agent.metrics_with(|metrics| metrics.sum("podtap_exchanges_total") == 293.0);
        agent.finish();
        let output = tap.wait_with_output().unwrap();
        let read = support::podtap(&[&["read", file.to_str().unwrap()][..], expected].concat());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), read.stdout);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
        assert!(!read.stdout.is_empty());
    }
}

#[test]
fn a_reader_that_is_too_slow_is_told_what_it_lost_and_podtap_goes_on() {
    let mut agent = Agent::replay(&[], &[EXCHANGES]);
    let mut slow = Reader::of(&agent, "");
    let mut capture = support::Capture::default();
    let request = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(2000));
    for _ in 0..8_u16 {
        for number in 0..1000_u16 {
            capture.connection(10_000 + number, 80).client(&request).server("HTTP/1.1 204 No\r\n\r\n").close();
        }
    }
    // Nobody takes what curl prints, so that all on the way fills up.
    agent.feed(&capture.file(101));
    let metrics = agent.metrics_with(|metrics| metrics.sum("podtap_exchanges_total") == 8000.0);
    let lost = metrics.get("podtap_exchanges_readers_lost_events_total");
    assert!(lost > 0.0, "nothing was lost");
    assert_eq!(metrics.get("podtap_events_total{kind=\"exchange\"}"), 8000.0);
    let (mut events, mut missing) = (0, 0);
    loop {
        let mut line = String::new();
        assert!(slow.lines.read_line(&mut line).unwrap() > 0, "{events} events, {missing} missing, and then nothing");
        if line.trim().is_empty() {
            continue;
        }
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        match line["kind"].as_str() {
            Some("lost") => missing += line["events"].as_u64().unwrap(),
            _ => events += 1,
        }
        if events + missing == 8000 {
            break;
        }
    }
    assert_eq!(missing as f64, lost);
    drop(agent.input.take());
    assert_eq!(slow.all(), [serde_json::json!({"kind": "end", "lost": missing})]);
    assert_eq!(agent.finish().code, Some(0));
}

#[test]
fn events_are_read_only_where_that_is_allowed_and_by_a_few() {
    let agent = Agent::replay(&[], &[]);
    for path in ["/exchanges", "/"] {
        assert_eq!(agent.get(path, "*/*").0, 403);
    }
    let url = format!("http://{}", agent.address);
    let tap = support::podtap(&["tap", "--agent", &url]);
    assert_eq!(tap.errors(), [format!("podtap: error: {url}/exchanges: admin.exchanges is not set")]);
    drop(agent);
    let tap = support::podtap(&["tap", "--agent", &url]);
    assert!(
        tap.code == Some(1) && tap.stderr.contains("is podtap running there, with admin.listen set?"),
        "{}",
        tap.stderr
    );
    assert_eq!(support::podtap(&["tap", "--filter", "outcome =="]).code, Some(2));

    let agent = Agent::replay(&[], &[EXCHANGES]);
    let (status, _, body) = agent.get("/exchanges?filter=nonsense", "*/*");
    assert!(status == 400 && body.starts_with("filter: column 1, at \"nonsense\""), "{status} {body}");
    assert_eq!(agent.get("/exchanges?fitler=true", "*/*").0, 400);
    let readers: Vec<_> = (0..4).map(|_| Reader::of(&agent, "")).collect();
    for path in ["/exchanges", "/"] {
        assert_eq!(agent.get(path, "*/*").0, 503);
    }
    for mut reader in readers {
        reader.curl.kill().unwrap();
        reader.curl.wait().unwrap();
    }
    // One that goes is noticed with the next event or sign of life.
    agent.metrics_with(|metrics| metrics.sum("podtap_exchanges_readers") < 4.0);
}

#[test]
fn the_page_shows_what_comes_while_somebody_looks_and_what_matches() {
    let mut agent = Agent::replay(&[], &[EXCHANGES, ("PODTAP_AGENT_RESOURCE", "service.name=shop<i>")]);
    let (status, media_type, page) = agent.get("/", "*/*");
    assert_eq!((status, media_type.as_str()), (200, "text/html; charset=utf-8"));
    assert!(page.contains("<h1>Traffic at shop&lt;i&gt;</h1>") && page.contains("No exchange so far."), "{page}");
    let errors = "/?filter=outcome+%3D%3D+%22error%22";
    assert_eq!(agent.get(errors, "*/*").0, 200);
    let (_, media_type, script) = agent.get("/live.js", "*/*");
    assert!(media_type.starts_with("text/javascript") && page.contains("src=\"live.js\"") && !script.is_empty());
    agent.metrics_with(|metrics| metrics.sum("podtap_exchanges_readers") == 2.0);
    agent.feed(&tour());
    agent.metrics_with(|metrics| metrics.sum("podtap_exchanges_total") == 293.0);
    let count = |path: &str| {
        let rows = support::table(&agent.get(path, "*/*").2, "outcomes");
        rows.iter().map(|row| row[3].parse::<u64>().unwrap()).sum::<u64>()
    };
    let since = Instant::now();
    while (count("/"), count(errors)) != (293, 6) {
        assert!(since.elapsed() < Duration::from_secs(30), "{} {}", count("/"), count(errors));
        std::thread::sleep(Duration::from_millis(50));
    }
    // A filter that nobody understands shows nothing, says why, and is no reader.
    let (status, _, page) = agent.get("/?filter=%3Cb%3E", "*/*");
    assert!(status == 200 && page.contains("filter: column 1, at &quot;&lt;b&gt;&quot;"), "{status} {page}");
    assert_eq!(agent.get("/?fitler=true", "*/*").0, 400);
    let (status, _, body) = agent.get("/?filter=true", "*/*");
    assert!(status == 503 && body.contains("2 are pages with different filters"), "{status} {body}");
    assert_eq!(agent.metrics().sum("podtap_exchanges_readers"), 2.0);
}

#[test]
fn counts_are_told_to_a_reader_who_asks_for_them() {
    let mut agent = Agent::replay(&[], &[EXCHANGES]);
    let reader = Reader::of(&agent, "?counts=true&filter=false");
    agent.feed(&tour());
    agent.metrics_with(|metrics| metrics.sum("podtap_packets_total") == 1297.0);
    std::thread::sleep(Duration::from_millis(1500));
    let run = agent.finish();
    let lines = reader.all();
    let counts = lines.iter().rfind(|line| line["kind"] == "counts").unwrap();
    let told = ["totals", "losses"].map(|kind| counts[kind].as_object().unwrap());
    for (name, count) in told.into_iter().flatten().filter(|(_, count)| **count != 0) {
        assert_eq!(count.as_u64(), Some(run.count(&name.replace('_', " "))), "{name}, {}", run.stderr);
    }
    assert!(told[0].len() > 5 && told[1]["payload_bytes_undetected"] != 0, "{counts}");
}

#[test]
fn what_the_kernel_holds_back_is_read_before_the_end() {
    let Some(mut pod) = Pod::start(&[("PODTAP_CAPTURE_BATCH_TIMEOUT", "400ms")]) else { return };
    let before =
        pod.metrics_with(|metrics| metrics.get("podtap_ready") == 1.0 && metrics.sum("podtap_requests_total") > 0.0);
    let before = before.sum("podtap_requests_total") as u64;
    for _ in 0..5 {
        pod.get("http://127.0.0.1:8000/Cargo.toml").unwrap();
    }
    kill_process(Pid::from_child(&pod.agent.child), Signal::TERM).unwrap();
    let run = pod.agent.end();
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.count("exchanges"), before + 5, "{}", run.stderr);
}
