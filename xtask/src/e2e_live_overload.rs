//! A part of `cargo xtask e2e live`: more traffic than podtap may decode, and more than it can read.
//!
//! What is decoded is whole connections: of each of them, every exchange that nginx has logged is in an event, and of the
//! others none. Where the kernel drops packets, less is decoded, and no event is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::e2e_live::{INTERFACE, Podtap, SERVER_ADDRESS, client_wrk, start_nginx};
use crate::process::{self, Signal};
use crate::{release, workspace};

/// Requests of a connection: then nginx closes it.
const REQUESTS: usize = 20;
/// Connections that are open at once.
const OPEN: usize = 16;

/// Both cases.
pub(crate) fn run(podtap: &Path, folder: &Path, client: &str) -> Result<()> {
    share_of_a_core(podtap, folder, client)?;
    kernel_drops(podtap, folder, client)
}

/// An exchange as both sides know it: no two requests have the same path.
struct Logged {
    connection: String,
    response_bytes: u64,
}

/// Full load for some seconds while podtap captures, with something done to it meanwhile. Gives what nginx logged, by path;
/// podtap's events; and what podtap said.
fn under_load(
    podtap: &Path,
    folder: &Path,
    client: &str,
    settings: &[(&str, &str)],
    meanwhile: impl FnOnce(&Podtap) -> Result<()>,
) -> Result<(BTreeMap<String, Logged>, Vec<Value>, String)> {
    let mut command = release::command(podtap);
    command.envs(settings.iter().copied());
    let started = Podtap::start(command, folder, &["--interface", INTERFACE])?;
    let port = process::free_port()?;
    let nginx = start_nginx(folder, port, |all| {
        all.replace("keepalive_requests 1000000", &format!("keepalive_requests {REQUESTS}"))
    })?;
    let mut wrk = client_wrk(client);
    wrk.args(["-t", "1", "-c", &OPEN.to_string(), "-d", "6s", "-s"])
        .arg(workspace::root().join("xtask/e2e/unique.lua"));
    let mut load =
        wrk.arg(format!("http://{SERVER_ADDRESS}:{port}/")).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    meanwhile(&started)?;
    load.wait()?;
    let mut logged = BTreeMap::new();
    for line in nginx.stop()?.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [_, uri, _, sent, connection, ..] = fields[..] else { continue };
        logged.insert(uri.to_owned(), Logged { connection: connection.to_owned(), response_bytes: sent.parse()? });
    }
    let (events, said) = started.stop_with_drops()?;
    Ok((logged, events, said))
}

fn path(event: &Value) -> Result<&str> {
    event.pointer("/attributes/url.path").and_then(Value::as_str).with_context(|| format!("no path: {event}"))
}

/// podtap may use a small part of a core.
fn share_of_a_core(podtap: &Path, folder: &Path, client: &str) -> Result<()> {
    let (logged, events, said) =
        under_load(podtap, folder, client, &[("PODTAP_CAPTURE_MAX_CPU_PERCENT", "5")], |_| Ok(()))?;
    ensure!(!said.contains("dropped by kernel"), "the kernel dropped packets:\n{said}");
    ensure!(said.contains("% of new connections are decoded"), "nothing was left out:\n{said}");
    // wrk ends where it is: of its last connections, one side may know what the other does not.
    let complete = |requests: &usize| *requests == REQUESTS;
    let mut by_connection: BTreeMap<&str, usize> = BTreeMap::new();
    logged.values().for_each(|exchange| *by_connection.entry(&exchange.connection).or_default() += 1);
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for event in &events {
        let path = path(event)?;
        match logged.get(path) {
            Some(exchange) => {
                seen.entry(&exchange.connection).or_default().insert(path);
            }
            None => ensure!(event["outcome"] != "ok", "an exchange that nginx does not know: {event}"),
        }
    }
    let of_all = by_connection.values().filter(|requests| complete(requests)).count();
    let mut whole = 0;
    for (connection, paths) in &seen {
        if complete(&by_connection[connection]) {
            ensure!(complete(&paths.len()), "{} of {REQUESTS} exchanges of a connection:\n{said}", paths.len());
            whole += 1;
        }
    }
    ensure!(whole > 0 && whole < of_all, "{whole} connections of {of_all} were decoded:\n{said}");
    println!(
        "live, at most 5 % of a core: {whole} of {of_all} connections decoded, {} of {} exchanges, each connection whole",
        events.len(),
        logged.len()
    );
    Ok(())
}

/// podtap does not come to read for a while, and the kernel's buffer is small.
fn kernel_drops(podtap: &Path, folder: &Path, client: &str) -> Result<()> {
    let halted = |podtap: &Podtap| -> Result<()> {
        std::thread::sleep(Duration::from_secs(2));
        process::send(Signal::Freeze, podtap.process.id())?;
        std::thread::sleep(Duration::from_secs(1));
        process::send(Signal::Thaw, podtap.process.id())?;
        podtap.wait_for("too much traffic", 1)
    };
    let small = [("PODTAP_CAPTURE_BUFFER_BYTES", "256KiB")];
    let (logged, events, said) = under_load(podtap, folder, client, &small, halted)?;
    ensure!(said.contains("packets dropped by kernel"), "the kernel dropped nothing:\n{said}");
    let mut whole = 0;
    for event in &events {
        let is_whole = event["outcome"] == "ok" && event.get("loss").is_none();
        // What was cut by a loss may be without its path, or its end.
        let Some(path) = event.pointer("/attributes/url.path").and_then(Value::as_str) else {
            ensure!(!is_whole, "an exchange without a path: {event}");
            continue;
        };
        let Some(exchange) = logged.get(path) else {
            ensure!(!is_whole, "an exchange that nginx does not know: {event}");
            continue;
        };
        if is_whole {
            let bytes = event.pointer("/server/bytes").and_then(Value::as_u64);
            ensure!(bytes == Some(exchange.response_bytes), "nginx sent {} bytes: {event}", exchange.response_bytes);
            whole += 1;
        }
    }
    ensure!(whole > 0, "no exchange was seen:\n{said}");
    let dropped = said.lines().find_map(|line| line.trim().strip_suffix("  packets dropped by kernel"));
    println!(
        "live, halted for a second: {} packets dropped by the kernel; {whole} of {} exchanges seen whole, none wrong; then \
         less was decoded",
        dropped.unwrap_or_default(),
        logged.len()
    );
    Ok(())
}
