//! What podtap makes of captures of MySQL, against what DeepFlow and Packetbeat say is in them (Zeek's logs are compared
//! by `cargo xtask e2e mysql`).
//!
//! Captures and expectations are in the folder that PODTAP_CAPTURES names. Where podtap and another differ, the bytes and
//! the manuals decide; every difference that is understood is in [`KNOWN`], and one that no longer shows is an error.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::podtap;

/// Capture, how differences begin, how many there are, and why podtap is right or what it does not do.
const KNOWN: &[(&str, &str, usize, &str)] = &[
    (
        "deepflow-mysql-compressed-response",
        "only deepflow",
        1,
        "compressed, and the login that agreed on it is not in the capture: podtap takes it for no MySQL",
    ),
    ("deepflow-mysql-error", "only deepflow: error", 1, "podtap takes values out of an error's message"),
    ("deepflow-mysql-error", "only podtap: error Unknown database ?", 1, "the same"),
    ("deepflow-mysql-use", "only deepflow", 1, "compressed as well, without its login"),
];

/// Capture, a field and its value, and how many exchanges Packetbeat's tests count with it; no field: all.
const PACKETBEAT: &[(&str, &str, &str, usize)] = &[
    ("mysql_connection", "db.query.text", "SELECT DATABASE()", 1),
    ("mysql_int_string_operations", "", "", 157),
    ("mysql_int_string_operations", "operation", "SHOW", 10),
    ("mysql_int_string_operations", "operation", "ALTER TABLE", 4),
    ("mysql_int_string_operations", "operation", "SET", 3),
    ("mysql_int_string_operations", "operation", "CREATE TABLE", 2),
    ("mysql_long_result", "", "", 1),
    ("mysql_long_result", "db.response.returned_rows", "15", 1),
];

/// podtap's exchanges, statements as they were sent.
fn seen(capture: &Path) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("podtap.yaml");
    std::fs::write(&config, "plugins:\n  config:\n    mysql:\n      raw_query_text: true\n")
        .expect("it can be written");
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    podtap(&["replay", &path(capture), "--output", "json", "--config", &path(&config)]).exchanges()
}

/// A request as DeepFlow's dump and podtap both know it: command, statement, bytes. And an error's message.
fn deepflow(dump: &str) -> BTreeMap<String, i32> {
    let mut counts = BTreeMap::new();
    for line in dump.lines() {
        let (object, _) = line.rsplit_once(" is_mysql").expect("a line of DeepFlow's");
        let message: Value = serde_json::from_str(object).expect("an object");
        let resource = message["request_resource"].as_str().unwrap_or_default();
        if let Some(error) = message["response_execption"].as_str() {
            *counts.entry(format!("error {error}")).or_default() -= 1;
        }
        let command = match message["request_type"].as_u64() {
            Some(0) if resource.starts_with("Login") => "LOGIN",
            Some(2) => "COM_INIT_DB",
            Some(3) => "COM_QUERY",
            Some(22) => "COM_STMT_PREPARE",
            Some(23) => "COM_STMT_EXECUTE",
            // Responses; and COM_QUIT and COM_STMT_CLOSE, which podtap does not report.
            _ => continue,
        };
        let text = if matches!(command, "COM_QUERY" | "COM_STMT_PREPARE") { resource } else { "" };
        *counts.entry(format!("{command} {} bytes {text}", message["captured_request_byte"])).or_default() -= 1;
    }
    counts
}

fn compare(mut counts: BTreeMap<String, i32>, seen: &[Value]) -> Vec<String> {
    for exchange in seen {
        let attributes = &exchange["attributes"];
        let command = attributes["mysql.command"].as_str().unwrap_or("LOGIN");
        let text = match command {
            "COM_QUERY" | "COM_STMT_PREPARE" => attributes["db.query.text"].as_str().unwrap_or_default(),
            _ => "",
        };
        *counts.entry(format!("{command} {} bytes {text}", exchange["client"]["bytes"])).or_default() += 1;
        if let Some(error) = attributes["mysql.error.message"].as_str() {
            *counts.entry(format!("error {error}")).or_default() += 1;
        }
    }
    let side = |count: i32| if count < 0 { "only deepflow" } else { "only podtap" };
    counts.iter().filter(|(_, count)| **count != 0).map(|(what, count)| format!("{}: {what}", side(*count))).collect()
}

#[test]
fn others_see_the_same_exchanges() {
    let Some(folder) = std::env::var_os("PODTAP_CAPTURES").map(|folder| PathBuf::from(folder).join("mysql")) else {
        return println!("skipped: PODTAP_CAPTURES names no folder of captures");
    };
    let mut differences: Vec<(String, String)> = Vec::new();
    let mut compared = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder of captures") {
        let capture = entry.expect("an entry").path();
        let name = capture.file_stem().expect("a name").to_string_lossy().into_owned();
        let Some(of_deepflow) = name.strip_prefix("deepflow-") else { continue };
        if capture.extension().is_none_or(|extension| extension != "pcap") {
            continue;
        }
        let dump = capture.with_extension("expected").join(format!("{of_deepflow}.result"));
        let dump = std::fs::read_to_string(&dump).expect("DeepFlow's dump");
        let found = compare(deepflow(&dump), &seen(&capture));
        differences.extend(found.into_iter().map(|difference| (name.clone(), difference)));
        compared += 1;
    }
    assert!(compared > 0, "no capture of DeepFlow's in {}", folder.display());
    for (name, key, value, expected) in PACKETBEAT {
        let capture = folder.join(format!("packetbeat-{name}.pcap"));
        let fits = |exchange: &&Value| {
            let found = if *key == "operation" { &exchange[key] } else { &exchange["attributes"][key] };
            key.is_empty() || found.as_str().map_or_else(|| found.to_string(), str::to_owned) == *value
        };
        let found = seen(&capture).iter().filter(fits).count();
        assert_eq!(found, *expected, "packetbeat-{name}: exchanges with {key} {value}");
    }
    for (capture, begins, number, why) in KNOWN {
        let is_known = |(name, difference): &(String, String)| name == capture && difference.starts_with(begins);
        let before = differences.len();
        differences.retain(|difference| !is_known(difference));
        assert_eq!(before - differences.len(), *number, "{capture}, {begins}: {why}");
    }
    assert!(differences.is_empty(), "{differences:#?}");
    println!("{compared} captures of DeepFlow's, {} counts of Packetbeat's", PACKETBEAT.len());
}
