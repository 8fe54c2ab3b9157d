//! What podtap makes of captures of HTTP, against what Zeek, Suricata and Packetbeat say is in them.
//!
//! Captures and expectations are in the folder that PODTAP_CAPTURES names. Where podtap and another differ, the bytes
//! and the RFCs decide; every difference that is understood is in [`KNOWN`], and one that no longer shows is an error.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use podtap::event::Redaction;
use serde_json::Value;
use support::podtap;

/// Folders of captures with HTTP in them.
const FOLDERS: [&str; 2] = ["http", "tcp-weird"];

/// Capture, how differences begin, how many there are, and why podtap is right or what it does not do.
const KNOWN: &[(&str, &str, usize, &str)] = &[
    (
        "suricata-http-not09",
        "suricata: 0 instead of 1",
        1,
        "the request is a line without version, HTTP/0.9 has no fields (RFC 1945, 4.1), and the server answered as such",
    ),
    (
        "zeek-http_261_variant-03-cl_negative",
        "zeek: only zeek GET /smuggled",
        1,
        "Content-Length: -1 makes the end of the request unknowable (RFC 9112, 6.3): what follows is no request",
    ),
    (
        "zeek-http_261_variant-10-multi_value_te",
        "zeek: only zeek GET /smuggled",
        1,
        "chunked is not the last coding, so the end of the request is unknowable (RFC 9112, 6.3)",
    ),
    (
        "zeek-http_http-09-content-length-confusion",
        "zeek: only",
        4,
        "the first response has Content-Length: 4 and so takes four of the 19 bytes; Zeek gives all to the second",
    ),
    (
        "zeek-http_http-bad-request-with-version",
        "zeek: only zeek 49157 80",
        1,
        "the client's first bytes are 0xdd 0 0 0: podtap takes no connection that does not begin as HTTP does",
    ),
    (
        "zeek-http_http-inner-transfer-encoding-ossfuzz",
        "zeek: only zeek 51650 80 ETA unknown_HTTP_metm",
        1,
        "made by a fuzzer: the first line is no request line",
    ),
    (
        "zeek-http_http-inner-transfer-encoding-reproducer",
        "zeek: only",
        2,
        "podtap counts bytes on the wire, Zeek what gzip unpacks to, and line ends that are not there",
    ),
    (
        "zeek-http_http-lower-case",
        "zeek: only",
        4,
        "a status line `http/1.1` is none (RFC 9112, 2.3); and one of the two logs is of another capture",
    ),
    (
        "zeek-http_http-non-printable-characters",
        "zeek: only",
        6,
        "podtap publishes URIs as sent, Zeek unescapes them and escapes what does not print",
    ),
    ("zeek-http_http_09", "zeek: only zeek 42964 80 POST /zeek.html", 1, "HTTP/0.9 has GET alone (RFC 1945, 4.1)"),
    ("zeek-http_pipelined-requests", "zeek: only", 4, "podtap counts bytes on the wire, Zeek what gzip unpacks to"),
    ("zeek-websocket_wstunnel-http", "zeek: only", 3, "Zeek reads the HTTP within the WebSocket; podtap hands it over"),
];

/// What may be compared of an exchange.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
struct Exchange {
    client_port: u64,
    server_port: u64,
    method: String,
    uri: String,
    host: String,
    user_agent: String,
    version: String,
    status: String,
    request_size: String,
    response_size: String,
}

/// The exchanges that podtap sees.
fn seen(capture: &Path) -> Vec<Exchange> {
    let run = podtap(&["replay", capture.to_str().expect("UTF-8"), "--output", "json", "--color", "never"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let exchanges = run.exchanges();
    exchanges.iter().filter(|exchange| exchange["protocol"] == "http").map(Exchange::of_event).collect()
}

impl Exchange {
    fn of_event(event: &Value) -> Exchange {
        let attribute = |name: &str| match &event["attributes"][name] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let (path, query) = (attribute("url.path"), attribute("url.query"));
        let original = attribute("http.request.method_original");
        Exchange {
            client_port: event["client"]["port"].as_u64().unwrap_or_default(),
            server_port: event["server"]["port"].as_u64().unwrap_or_default(),
            method: if original.is_empty() { attribute("http.request.method") } else { original },
            uri: if query.is_empty() { path } else { format!("{path}?{query}") },
            host: attribute("server.address"),
            user_agent: attribute("user_agent.original"),
            version: attribute("network.protocol.version"),
            status: attribute("http.response.status_code"),
            request_size: attribute("http.request.body.size"),
            response_size: attribute("http.response.body.size"),
        }
    }

    /// By the name that Zeek has for it. Its version is that of whichever message came last, and is left out.
    fn of_zeek(&self, column: &str) -> Option<String> {
        let size = |size: &str| if size.is_empty() { "0".to_owned() } else { size.to_owned() };
        Some(match column {
            "id.orig_p" => self.client_port.to_string(),
            "id.resp_p" => self.server_port.to_string(),
            "method" => self.method.clone(),
            "uri" => self.uri.clone(),
            "status_code" => self.status.clone(),
            "request_body_len" => size(&self.request_size),
            "response_body_len" => size(&self.response_size),
            _ => return None,
        })
    }

    /// By the name that Suricata has for it.
    fn of_suricata(&self, key: &str) -> Option<String> {
        Some(match key {
            "http.url" => self.uri.clone(),
            "http.status" => self.status.clone(),
            "http.http_method" => self.method.clone(),
            // An IPv6 address has no brackets in `server.address`.
            "http.hostname" if self.host.contains(':') => format!("[{}]", self.host),
            "http.hostname" => self.host.clone(),
            "http.http_user_agent" => self.user_agent.clone(),
            "http.protocol" => format!("HTTP/{}", self.version),
            _ => return None,
        })
    }

    /// By the name that Packetbeat has for it.
    fn of_packetbeat(&self, key: &str) -> Option<String> {
        let path = self.uri.split('?').next().unwrap_or_default();
        Some(match key {
            "url.path" => path.to_owned(),
            "query" => format!("{} {path}", self.method),
            "http.request.method" => self.method.clone(),
            "http.response.status_code" => self.status.clone(),
            "client.port" => self.client_port.to_string(),
            "server.port" => self.server_port.to_string(),
            _ => return None,
        })
    }
}

/// A URI as podtap publishes it.
fn published(uri: &str) -> String {
    let uri = uri.split('#').next().unwrap_or_default();
    // Of the absolute form only path and query are compared.
    let uri = match uri.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..])) {
        Some(rest) if !uri.starts_with('/') => rest,
        _ => uri,
    };
    match uri.split_once('?') {
        Some((path, "")) => path.to_owned(),
        Some((path, query)) => {
            let mut query = query.into();
            Redaction::new(&[]).redact_query(&mut query);
            format!("{path}?{query}")
        }
        None => uri.to_owned(),
    }
}

/// What a log of Zeek's HTTP analyser and podtap do not have in common; each line has the columns that can be compared.
fn zeek(log: &str, seen: &[Exchange]) -> Vec<String> {
    let mut columns: Vec<&str> = Vec::new();
    let mut counts = BTreeMap::<String, i64>::new();
    for line in log.lines() {
        if let Some(names) = line.strip_prefix("#fields\t") {
            columns = names.split('\t').collect();
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        if columns.is_empty() {
            // Cut: the names are the first line.
            columns = line.split('\t').collect();
            continue;
        }
        let known =
            columns.iter().zip(line.split('\t')).filter(|(column, _)| Exchange::default().of_zeek(column).is_some());
        let values: Vec<_> = known
            .map(|(column, value)| match (*column, value) {
                (_, "-") => String::new(),
                // Its way of saying that there was no status line.
                ("status_code", "0") => String::new(),
                ("uri", uri) => published(uri),
                (_, value) => value.to_owned(),
            })
            .collect();
        // An entry for what was no message at all says nothing but ports and zeros.
        let of_message = |(column, value): &(&&str, &str)| {
            matches!(**column, "method" | "uri" | "status_code") && !matches!(*value, "-" | "0")
        };
        if columns.iter().zip(line.split('\t')).any(|pair| of_message(&pair)) {
            *counts.entry(values.join(" ")).or_default() -= 1;
        }
    }
    if columns.iter().all(|column| Exchange::default().of_zeek(column).is_none()) {
        return Vec::new();
    }
    for exchange in seen {
        let values: Vec<_> = columns.iter().filter_map(|column| exchange.of_zeek(column)).collect();
        *counts.entry(values.join(" ")).or_default() += 1;
    }
    counts.retain(|_, count| *count != 0);
    counts
        .iter()
        .map(|(values, count)| format!("zeek: {} {values}", if *count < 0 { "only zeek" } else { "only podtap" }))
        .collect()
}

/// The checks of http events in a test.yaml that do not hold.
fn suricata(test: &str, seen: &[Exchange]) -> Vec<String> {
    let test: Value = serde_saphyr::from_str(test).expect("a test.yaml is YAML");
    let mut differences = Vec::new();
    for check in test["checks"].as_array().into_iter().flatten() {
        let filter = &check["filter"];
        let Some(expected) = filter["match"].as_object() else { continue };
        if expected.get("event_type").and_then(Value::as_str) != Some("http") {
            continue;
        }
        let known = |key: &str| key == "event_type" || Exchange::default().of_suricata(key).is_some();
        if !expected.keys().all(|key| known(key)) {
            continue;
        }
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let fits = |exchange: &&Exchange| {
            expected.iter().filter(|(key, _)| *key != "event_type").all(|(key, value)| {
                let value = text(value);
                let value = if key == "http.url" { published(&value) } else { value };
                exchange.of_suricata(key) == Some(value)
            })
        };
        let found = seen.iter().filter(fits).count();
        if filter["count"].as_u64() != Some(found as u64) {
            let expected = Value::Object(expected.clone());
            differences.push(format!("suricata: {found} instead of {} with {expected}", filter["count"]));
        }
    }
    differences
}

/// The assertions of a test in Python about this capture that do not hold: fields of one object.
fn packetbeat(test: &str, capture: &str, seen: &[Exchange]) -> Vec<String> {
    let mut differences = Vec::new();
    for function in test.split("def test_").filter(|function| function.contains(&format!("pcap=\"{capture}\""))) {
        let asserted: Vec<_> = function
            .lines()
            .filter_map(|line| line.trim().strip_prefix("assert o[\"")?.split_once("\"] == "))
            .map(|(key, value)| (key, value.trim_matches('"')))
            .filter(|(key, _)| Exchange::default().of_packetbeat(key).is_some())
            .collect();
        let fits = |exchange: &&Exchange| {
            asserted.iter().all(|(key, value)| exchange.of_packetbeat(key).as_deref() == Some(value))
        };
        if !seen.iter().any(|exchange| fits(&exchange)) {
            differences.push(format!("packetbeat: nothing with {asserted:?}"));
        }
        if function.contains("len(objs) == 1") && seen.len() != 1 {
            differences.push(format!("packetbeat: {} exchanges instead of 1", seen.len()));
        }
    }
    differences
}

#[test]
fn others_see_the_same_exchanges() {
    let Some(folder) = std::env::var_os("PODTAP_CAPTURES").map(PathBuf::from) else {
        return println!("skipped: PODTAP_CAPTURES names no folder of captures");
    };
    let mut compared = BTreeMap::<&str, usize>::new();
    let mut differences = Vec::new();
    let mut captures: Vec<PathBuf> = FOLDERS
        .iter()
        .flat_map(|name| std::fs::read_dir(folder.join(name)).expect("the folder of captures"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap" || extension == "pcapng"))
        .collect();
    captures.sort();
    for capture in captures {
        let name = capture.file_stem().expect("a name").to_string_lossy().into_owned();
        let Ok(files) = std::fs::read_dir(capture.with_extension("expected")) else { continue };
        let mut files: Vec<PathBuf> = files.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        let mut seen_here = None;
        for file in files {
            let file_name = file.file_name().expect("a name").to_string_lossy().into_owned();
            let is_log = file_name.contains("--http.log") && !file_name.ends_with("json");
            let is_test = file_name.ends_with("test.yaml");
            if !is_log && !is_test && !file_name.ends_with(".py") {
                continue;
            }
            let text = std::fs::read_to_string(&file).expect("an expectation can be read");
            let seen = seen_here.get_or_insert_with(|| seen(&capture));
            let (source, found) = if is_log {
                ("zeek", zeek(&text, seen))
            } else if is_test {
                ("suricata", suricata(&text, seen))
            } else {
                let pcap = format!("{}.pcap", name.strip_prefix("packetbeat-").unwrap_or(&name));
                ("packetbeat", packetbeat(&text, &pcap, seen))
            };
            *compared.entry(source).or_default() += 1;
            differences.extend(found.into_iter().map(|difference| (name.clone(), difference)));
        }
    }
    println!("compared {compared:?}");
    let mut shown = vec![0; KNOWN.len()];
    differences.retain(|(name, difference)| {
        let known = KNOWN.iter().position(|(capture, begin, ..)| capture == name && difference.starts_with(begin));
        known.inspect(|&known| shown[known] += 1).is_none()
    });
    let differences: Vec<_> = differences.iter().map(|(name, difference)| format!("{name}: {difference}")).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    for (known, shown) in KNOWN.iter().zip(shown) {
        assert_eq!(shown, known.2, "differences that are known as {known:?}");
    }
    assert!(compared.values().sum::<usize>() > 50, "{compared:?}");
}

/// Captures of other protocols in which there is HTTP nevertheless: upgrades to h2c, and one on PostgreSQL's port.
const HTTP_ELSEWHERE: [&str; 3] =
    ["suricata-http2-deflate-case", "suricata-http2-keywords2", "zeek-postgresql_http-on-port-5432"];

#[test]
fn no_other_protocol_is_taken_for_http() {
    let Some(folder) = std::env::var_os("PODTAP_CAPTURES").map(PathBuf::from) else {
        return println!("skipped: PODTAP_CAPTURES names no folder of captures");
    };
    let mut replayed = 0;
    for protocol in std::fs::read_dir(&folder).expect("the folder of captures") {
        let protocol = protocol.expect("an entry");
        if !protocol.path().is_dir() || FOLDERS.contains(&protocol.file_name().to_string_lossy().as_ref()) {
            continue;
        }
        for capture in std::fs::read_dir(protocol.path()).expect("a folder of captures") {
            let capture = capture.expect("an entry").path();
            if capture.extension().is_none_or(|extension| extension != "pcap" && extension != "pcapng") {
                continue;
            }
            let name = capture.file_stem().expect("a name").to_string_lossy();
            let found = seen(&capture);
            assert_eq!(!found.is_empty(), HTTP_ELSEWHERE.contains(&name.as_ref()), "{name}: {found:#?}");
            replayed += 1;
        }
    }
    assert!(replayed > 100, "{replayed} captures");
}
