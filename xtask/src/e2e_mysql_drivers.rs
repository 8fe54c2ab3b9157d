//! The same session by several drivers against a MariaDB server, plain, compressed, and by a server that marks the end of
//! rows as of old (without CLIENT_DEPRECATE_EOF, by `mysql_proxy.py`): podtap makes the same events of each, and those
//! that [`EXPECTED`] says.
//!
//! A driver's own statements (variables, character sets) are left out, and so is how it sends one: as text or prepared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::{self, Running};
use crate::traffic::Tcpdump;
use crate::{drivers, release};

/// A driver: its name, with which its users' names begin, its program, and the modes that it can.
struct Driver {
    name: &'static str,
    program: fn() -> Result<Command>,
    modes: &'static [Mode],
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Plain,
    Zlib,
    /// By the proxy.
    Eof,
}

use Mode::{Eof, Plain, Zlib};

const DRIVERS: [Driver; 7] = [
    Driver { name: "pymysql", program: python, modes: &[Plain, Eof] },
    Driver { name: "connector_python", program: python, modes: &[Plain, Zlib, Eof] },
    Driver { name: "mysql2", program: node, modes: &[Plain, Zlib, Eof] },
    // Compressed, it sends the end of a local file under a sequence number of old, and the server hangs up.
    Driver { name: "mariadb_j", program: java, modes: &[Plain, Eof] },
    Driver { name: "connector_j", program: java, modes: &[Plain, Zlib, Eof] },
    Driver { name: "go", program: || drivers::go("mysql_session_go"), modes: &[Plain, Zlib, Eof] },
    // Of a server that does not deprecate EOF it takes the packet behind the rows for one too many.
    Driver { name: "mysql_async", program: || drivers::rust("mysql_session"), modes: &[Plain, Zlib] },
];

fn python() -> Result<Command> {
    let mut python = drivers::python("mysql", &["PyMySQL==1.2.4", "mysql-connector-python==26.10.0"])?;
    python.arg(drivers::programs().join("mysql_session.py"));
    Ok(python)
}

fn node() -> Result<Command> {
    let mut node = drivers::node("mysql", &["mysql2@3.24.6"])?;
    node.arg(drivers::programs().join("mysql_session.cjs"));
    Ok(node)
}

fn java() -> Result<Command> {
    drivers::java(
        "MysqlSession.java",
        &["org.mariadb.jdbc:mariadb-java-client:3.5.11", "com.mysql:mysql-connector-j:9.7.0"],
    )
}

/// What podtap is to see of each statement of `mysql_session.tsv`: outcome, operation, rows, rows affected, error.
const EXPECTED: [&str; 18] = [
    "ok CREATE TABLE rows - affected 0 error -",
    "ok INSERT rows - affected 2 error -",
    "ok INSERT rows - affected 1 error -",
    "ok INSERT rows - affected 1 error -",
    "ok SELECT rows 3 affected - error -",
    "ok SELECT rows 0 affected - error -",
    "ok SELECT rows 1 affected - error -",
    "error SELECT rows - affected - error 1054",
    "error INSERT rows - affected - error 1062",
    "ok UPDATE rows - affected 2 error -",
    "ok UPDATE rows - affected 1 error -",
    "ok BEGIN rows - affected 0 error -",
    "ok DELETE rows - affected 1 error -",
    "ok ROLLBACK rows - affected 0 error -",
    "ok SELECT rows 6 affected 0 error -",
    "ok LOAD rows - affected 2 error -",
    "ok SELECT rows 1296 affected - error -",
    "ok DROP TABLE rows - affected 0 error -",
];

/// What must be the same for every driver beside that.
const SAME: [&str; 7] = [
    "db.query.text",
    "db.query.summary",
    "mysql.query.digest",
    "db.namespace",
    "mysql.insert_id",
    "mysql.sqlstate",
    "mysql.error.message",
];

/// Runs all sessions and compares; says how many there were, and prints what was skipped.
pub(crate) fn check(podtap: &Path, folder: &Path, port: u16, socket: &Path) -> Result<String> {
    let session = folder.join("session");
    let file = folder.join("items.csv");
    fs::write(&file, "mittens,3\nhats,4\n")?;
    let statements = fs::read_to_string(drivers::programs().join("mysql_session.tsv"))?;
    fs::write(&session, statements.replace("@FILE@", &file.display().to_string()))?;
    let proxy_port = process::free_port()?;
    let mut proxy = Command::new("python3");
    proxy.arg(drivers::programs().join("mysql_proxy.py")).arg(proxy_port.to_string()).arg(socket);
    let mut proxy = Running::start(proxy.stdin(Stdio::null()))?;
    proxy.wait_until(Duration::from_secs(10), || process::listens(proxy_port))?;

    let capture = folder.join("drivers.pcap");
    let tcpdump = Tcpdump::start(&capture, &format!("tcp port {port} or tcp port {proxy_port}"))?;
    let mut users = Vec::new();
    for driver in &DRIVERS {
        let mut program = match (driver.program)() {
            Ok(program) => program,
            Err(error) if error.is::<drivers::Unavailable>() => {
                println!("skipped: mysql, driver {}: {error}", driver.name);
                continue;
            }
            Err(error) => return Err(error),
        };
        program.arg(&session);
        for mode in driver.modes {
            let (port, end) = match mode {
                Plain => (port, ""),
                Zlib => (port, "_zlib"),
                Eof => (proxy_port, "_eof"),
            };
            let user = format!("{}{end}", driver.name);
            program.arg(format!("{user},{port},{}", u8::from(*mode == Zlib)));
            users.push(user);
        }
        process::output(&mut program)?;
    }
    ensure!(tcpdump.stop()? == 0, "the kernel dropped packets: try again on a quieter machine");
    let mut replay = release::command(podtap);
    let seen = seen(&process::output(replay.arg("replay").arg(&capture).args(["--output", "json"]))?)?;
    compare(&users, &seen)?;
    Ok(format!("{} sessions of {} statements", users.len(), EXPECTED.len()))
}

/// What was seen of a user.
#[derive(Default)]
struct Seen {
    compressed: bool,
    /// By statement, as [`EXPECTED`] has it, and the attributes of [`SAME`].
    statements: Vec<(String, String)>,
}

fn seen(events: &str) -> Result<BTreeMap<String, Seen>> {
    let mut users: BTreeMap<String, Seen> = BTreeMap::new();
    for line in events.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        let attributes = &event["attributes"];
        let text = |name: &str| attributes[name].as_str().unwrap_or_default();
        let seen = users.entry(text("mysql.user").to_owned()).or_default();
        seen.compressed |= text("mysql.compression") == "zlib";
        let operation = event["operation"].as_str().unwrap_or_default();
        let executes = matches!(text("mysql.command"), "COM_QUERY" | "COM_STMT_EXECUTE");
        if executes && (text("db.query.text").contains("items") || matches!(operation, "BEGIN" | "ROLLBACK")) {
            let number = |name: &str| attributes[name].as_u64().map_or("-".to_owned(), |number| number.to_string());
            let (rows, affected) = (number("db.response.returned_rows"), number("mysql.affected_rows"));
            let error = attributes["db.response.status_code"].as_str().unwrap_or("-");
            let outcome = event["outcome"].as_str().unwrap_or_default();
            let expected = format!("{outcome} {operation} rows {rows} affected {affected} error {error}");
            let same: Vec<String> = SAME.iter().map(|name| format!("{name}={}", attributes[*name])).collect();
            seen.statements.push((expected, same.join(" ")));
        }
    }
    Ok(users)
}

fn compare(users: &[String], seen: &BTreeMap<String, Seen>) -> Result<()> {
    let first = users.first().context("no driver could be installed")?;
    let first = seen.get(first).with_context(|| format!("nothing of {first}"))?;
    for user in users {
        let seen = seen.get(user).with_context(|| format!("nothing of {user}"))?;
        ensure!(seen.compressed == user.ends_with("_zlib"), "{user}: compressed: {}", seen.compressed);
        for index in 0..EXPECTED.len().max(seen.statements.len()) {
            let (expected, is) = (EXPECTED.get(index), seen.statements.get(index));
            ensure!(
                expected.copied() == is.map(|(expected, _)| expected.as_str()),
                "{user}, statement {index}: {expected:?} was to be seen, podtap saw {is:?}"
            );
            let other = first.statements.get(index);
            ensure!(
                other.map(|(_, same)| same) == is.map(|(_, same)| same),
                "statement {index} is not the same for {} and {user}:\n{other:?}\n{is:?}",
                users[0]
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{EXPECTED, compare, seen};

    /// Events of a session, with the digests that are given.
    fn events(user: &str, digest: &str, left_out: usize) -> String {
        let event = |expected: &str| {
            let (head, error) = expected.split_once(" error ").unwrap();
            let (head, affected) = head.split_once(" affected ").unwrap();
            let (head, rows) = head.split_once(" rows ").unwrap();
            let (outcome, operation) = head.split_once(' ').unwrap();
            let number = |text: &str| text.replace('-', "null");
            format!(
                r#"{{"outcome":"{outcome}","operation":"{operation}","attributes":{{"mysql.command":"COM_QUERY",
                "mysql.user":"{user}","db.query.text":"items","mysql.query.digest":"{digest}",
                "db.response.returned_rows":{},"mysql.affected_rows":{},"db.response.status_code":"{error}"}}}}"#,
                number(rows),
                number(affected)
            )
            .replace('\n', "")
        };
        EXPECTED.iter().skip(left_out).map(|expected| event(expected) + "\n").collect()
    }

    #[test]
    fn every_difference_is_an_error() {
        let users = ["a", "b"].map(str::to_owned);
        let check = |of_a: &str, of_b: &str| compare(&users, &seen(&[of_a, of_b].concat()).unwrap()).is_ok();
        let a = events("a", "1", 0);
        assert!(check(&a, &events("b", "1", 0)));
        assert!(!check(&a, &events("b", "2", 0)) && !check(&a, &events("b", "1", 1)) && !check(&a, ""));
        assert!(!check(&a, &events("b", "1", 0).repeat(2)));
    }
}
