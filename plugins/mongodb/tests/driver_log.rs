//! The shipped captures' events are the commands of the driver's own record beside them, and the same however the driver
//! compressed them. That podtap makes these events of these captures is held by its own test of goldens.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

fn captures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/captures")
}

fn lines(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(captures().join(file)).expect("the file ships");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

const KINDS: [&str; 4] = ["plain", "zlib", "snappy", "zstd"];

#[test]
fn events_are_the_commands_that_the_driver_recorded() {
    for kind in KINDS {
        let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in lines(&format!("pymongo-{kind}.commands")) {
            let row =
                ["command", "database", "outcome", "returned", "n", "write_errors"].map(|key| line[key].to_string());
            said.entry(line["application"].to_string()).or_default().push(row.join(" "));
        }
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in lines(&format!("pymongo-{kind}.jsonl")) {
            let attributes = &event["attributes"];
            let operation = event["operation"].as_str().expect("an operation");
            // The record has no word for documents that come outside a cursor.
            let outside = matches!(operation, "distinct" | "findAndModify");
            let row = [
                &event["operation"],
                &attributes["db.namespace"],
                &event["outcome"],
                if outside { &Value::Null } else { &attributes["db.response.returned_rows"] },
                if outside { &Value::Null } else { &attributes["mongodb.n"] },
                &attributes["mongodb.write_errors"],
            ];
            let application = attributes["mongodb.application_name"].to_string();
            seen.entry(application).or_default().push(row.map(Value::to_string).join(" "));
        }
        assert!(said.values().map(Vec::len).sum::<usize>() > 50, "{kind}: {said:?}");
        assert_eq!(seen, said, "{kind}: podtap's events (left), the driver's record (right)");
    }
}

#[test]
fn compression_changes_nothing_but_bytes_and_times() {
    let events = |kind: &str| -> Vec<Value> {
        let mut events = lines(&format!("pymongo-{kind}.jsonl"));
        for event in &mut events {
            let event = event.as_object_mut().expect("an object");
            for key in ["id", "time", "duration", "timing", "client", "server"] {
                event.remove(key);
            }
            event["connection"].as_object_mut().expect("an object").remove("id");
            // Of every connection the client's first message is the handshake, which is never compressed.
            let attributes = event["attributes"].as_object_mut().expect("an object");
            let compressor = attributes.remove("mongodb.compressor");
            assert_eq!(compressor.as_ref().and_then(Value::as_str).unwrap_or("plain"), kind);
            // The server makes these up.
            attributes.remove("mongodb.cursor_id");
        }
        events
    };
    let plain = events("plain");
    for kind in &KINDS[1..] {
        assert_eq!(events(kind), plain, "{kind} (left), plain (right)");
    }
}
