//! Does podtap see in MySQL captures what Zeek saw in them?
//!
//! Reads the folder that PODTAP_CAPTURES names: `mysql/zeek-NAME.pcap` and, in `mysql/zeek-NAME.expected/`, Zeek's own
//! `mysql.log` of it, of which the order, commands, arguments and outcomes are compared. Where they differ on purpose:
//!
//! - Zeek logs `quit`, which podtap reports only where configured.
//! - Zeek has no line for a server that refuses before the client has said anything; podtap reports it as unmatched.
//! - What Zeek calls rows is 0 for most results; podtap's count is not compared.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{process, release};

/// Compares all captures; says how many there were, or why none was looked at.
pub(crate) fn check(podtap: &Path) -> Result<String> {
    let Some(folder) = std::env::var_os("PODTAP_CAPTURES") else {
        return Ok("skipped: PODTAP_CAPTURES does not name a folder with captures".to_owned());
    };
    let mut captures: Vec<_> = fs::read_dir(Path::new(&folder).join("mysql"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap" || extension == "pcapng"))
        .collect();
    captures.sort();
    let (mut compared, mut lines) = (0, 0);
    for capture in captures {
        let Some(log) = log_of(&capture)? else { continue };
        let expected = logged(&log);
        let mut replay = release::command(podtap);
        replay.env("PODTAP_PLUGINS_CONFIG", r#"{"mysql": {"raw_query_text": true}}"#);
        replay.arg("replay").arg(&capture).args(["--output", "json"]);
        let found = seen(&process::output(&mut replay)?)?;
        ensure!(expected == found, "{}: Zeek saw\n{expected:#?}\npodtap saw\n{found:#?}", capture.display());
        compared += 1;
        lines += expected.len();
    }
    ensure!(compared > 0, "no capture of Zeek's in {}", Path::new(&folder).display());
    Ok(format!("{lines} commands in {compared} captures"))
}

/// Zeek's log of a capture; none where it has none.
fn log_of(capture: &Path) -> Result<Option<String>> {
    let Ok(entries) = fs::read_dir(capture.with_extension("expected")) else { return Ok(None) };
    for entry in entries {
        let path = entry?.path();
        if path.to_string_lossy().ends_with("mysql.log") {
            return Ok(Some(fs::read_to_string(path)?));
        }
    }
    Ok(None)
}

/// Command, argument and outcome of each line of Zeek's log: ts, uid, four of the connection, then cmd, arg, success.
fn logged(log: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in log.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<_> = line.split('\t').collect();
        let [_, _, _, _, _, _, command, argument, success, ..] = fields[..] else { continue };
        // `-`: none was seen; for `statistics`, whose response has no outcome of its own.
        let outcome = if success == "F" { "error" } else { "ok" };
        let argument = argument.trim_matches(|letter| letter == '(' || letter == ')');
        let argument = if argument == "empty" { "" } else { fields[7] };
        if command != "quit" {
            found.push(format!("{command} {argument} {outcome}"));
        }
    }
    found
}

/// The same of podtap's events.
fn seen(events: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for line in events.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        let outcome = event["outcome"].as_str().unwrap_or_default();
        let attributes = &event["attributes"];
        let text = |name: &str| attributes[name].as_str().unwrap_or_default();
        let (command, argument) = match text("mysql.command") {
            "" => ("login".to_owned(), text("mysql.user")),
            "COM_QUERY" => ("query".to_owned(), text("db.query.text")),
            "COM_CHANGE_USER" => ("change_user".to_owned(), text("mysql.user")),
            other => (other.trim_start_matches("COM_").to_lowercase(), ""),
        };
        // A login that goes on in TLS: Zeek sees no more of it, and logs nothing.
        let encrypted = attributes["mysql.tls"] == true;
        if outcome != "unmatched" && !encrypted {
            found.push(format!("{command} {argument} {outcome}"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{logged, seen};

    #[test]
    fn log_and_events_are_read_alike() {
        let log = "#fields\nt\tu\ta\t1\tb\t2\tlogin\troot\tF\t-\tno\nt\tu\ta\t1\tb\t2\tquery\tselect 1\tT\t0\t-\n\
                   t\tu\ta\t1\tb\t2\tquit\t(empty)\t-\t-\t-\n";
        let events = r#"{"outcome":"error","attributes":{"mysql.user":"root"}}
{"outcome":"ok","attributes":{"mysql.command":"COM_QUERY","db.query.text":"select 1","mysql.user":"root"}}"#;
        assert_eq!(logged(log), ["login root error", "query select 1 ok"]);
        assert_eq!(seen(events).unwrap(), logged(log));
    }
}
