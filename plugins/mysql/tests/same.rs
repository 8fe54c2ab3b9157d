//! The same statements by every client, compressed and not, are the same events but for what must differ.
//!
//! `captures/session.pcap` has them (`make_captures.sh`), `captures/session.jsonl` what podtap makes of it, which a test of
//! podtap's own holds to the decoder.

use std::collections::BTreeMap;

use serde_json::Value;

/// What must be the same. Sizes, times and numbers of connections differ, and how a client asks for another database.
const SAME: [&str; 10] = [
    "db.query.text",
    "db.query.summary",
    "mysql.query.digest",
    "db.response.returned_rows",
    "db.response.status_code",
    "mysql.affected_rows",
    "mysql.insert_id",
    "mysql.warnings",
    "mysql.sqlstate",
    "mysql.error.message",
];

/// A statement's event as far as it must be the same; none for those that a client makes by itself.
fn statement(event: &Value) -> Option<String> {
    let attributes = &event["attributes"];
    // The command line's own, behind each USE.
    if attributes["db.query.text"] == "SELECT DATABASE()" {
        return None;
    }
    let operation = event["operation"].as_str()?;
    let outcome = event["outcome"].as_str()?;
    match (attributes["mysql.command"].as_str()?, operation) {
        ("COM_INIT_DB", _) | ("COM_QUERY", "USE") => Some(format!("{outcome} USE {}", event["target"])),
        ("COM_QUERY", "SET") => None,
        ("COM_QUERY", _) => {
            let fields = SAME.iter().map(|name| format!("{name}={}", attributes[*name]));
            let namespace = &attributes["db.namespace"];
            Some(format!("{outcome} {operation} in {namespace} {}", fields.collect::<Vec<_>>().join(" ")))
        }
        _ => None,
    }
}

#[test]
fn every_client_gives_the_same_events() {
    let golden = include_str!("captures/session.jsonl");
    let statements = include_str!("session.sql").lines().count();
    let mut by_user: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in golden.lines() {
        let event: Value = serde_json::from_str(line).expect("an event");
        let user = event["attributes"]["mysql.user"].as_str().expect("a user").to_owned();
        by_user.entry(user).or_default().extend(statement(&event));
    }
    let users: Vec<_> = by_user.keys().map(String::as_str).collect();
    assert_eq!(users, ["connector", "connector_zlib", "mariadb", "mariadb_zlib", "pymysql"]);
    for (user, events) in &by_user {
        assert_eq!(events.len(), statements, "{user}: {events:#?}");
        assert_eq!(events, &by_user["pymysql"], "{user} (left) and pymysql (right)");
    }
}

#[test]
fn compressed_connections_say_so() {
    let golden = include_str!("captures/session.jsonl");
    let compressed = golden.lines().filter(|line| line.contains(r#""mysql.compression":"zlib""#)).count();
    assert_eq!(compressed, 2);
}
