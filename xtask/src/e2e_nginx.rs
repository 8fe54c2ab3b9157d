//! `cargo xtask e2e nginx`: does podtap see exactly the exchanges that nginx served?
//!
//! wrk puts load on an nginx, tcpdump captures it from before the first connection to after the last one, podtap
//! replays the capture, and what it found is compared with nginx's own access log: the same exchanges (method, URI,
//! status, bytes both ways), on the same connections, in the same order. How the load ends without a request in
//! flight is told in `xtask/e2e/load.lua`; that it did is checked against the log's length.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::{self, Running, Signal};
use crate::traffic::{Nginx, Tcpdump};
use crate::{release, workspace};

/// How much, and whether anew.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Exchanges in the capture, at least
    #[arg(long, default_value_t = 50_000)]
    pub(crate) exchanges: usize,
    /// Take the capture of an earlier run where it is large enough
    #[arg(long)]
    pub(crate) reuse: bool,
}

/// Threads of a wrk run, each with one connection at a time.
const THREADS: usize = 16;

/// Pipelining depth of wrk's runs with keep-alive; they share the load.
const DEPTHS: [usize; 4] = [1, 1, 4, 8];

/// Programs that the check needs.
pub(crate) const PROGRAMS: [&str; 3] = ["nginx", "wrk", "tcpdump"];

/// A capture and the server's own record of what is in it.
pub(crate) struct Traffic {
    pub(crate) capture: PathBuf,
    pub(crate) log: PathBuf,
}

/// Makes the capture, replays it and compares.
pub(crate) fn run(args: &Args) -> Result<()> {
    let podtap = release::build()?;
    let traffic = make(args)?;
    let logged = Exchanges::of_log(&fs::read_to_string(&traffic.log)?)?;
    let events = traffic.capture.with_extension("jsonl");
    let mut replay = release::command(podtap);
    replay.arg("replay").arg(&traffic.capture).args(["--output", "json", "--output-file"]).arg(&events);
    process::output(&mut replay)?;
    let seen = Exchanges::of_events(&fs::read_to_string(&events)?)?;
    compare(&logged, &seen)?;
    println!(
        "nginx: {} exchanges on {} connections, the same in nginx's access log and in podtap's events",
        logged.count(),
        logged.connections.len()
    );
    Ok(())
}

/// The traffic of an earlier run where that is allowed and will do, else new one.
pub(crate) fn make(args: &Args) -> Result<Traffic> {
    let folder = workspace::target().join("e2e/nginx");
    let traffic = Traffic { capture: folder.join("nginx.pcap"), log: folder.join("nginx.log") };
    if args.reuse && fs::read_to_string(&traffic.log).is_ok_and(|log| log.lines().count() >= args.exchanges) {
        return Ok(traffic);
    }
    make_site(&folder)?;
    // Its absence marks a run that did not end well.
    let _ = fs::remove_file(&traffic.log);
    whole(|| {
        capture(&folder, &traffic, |nginx, server| put_load(nginx, || Command::new("wrk"), server, args.exchanges))
    })?;
    Ok(traffic)
}

/// Attempts until the kernel has dropped no packet.
fn whole(mut attempt: impl FnMut() -> Result<u64>) -> Result<()> {
    for _ in 0..3 {
        let dropped = attempt()?;
        if dropped == 0 {
            return Ok(());
        }
        println!("the kernel dropped {dropped} packets; once more");
    }
    bail!("the kernel dropped packets in every attempt: the machine is too busy for a complete capture")
}

/// The pages that the load asks for, of 500 bytes to 2 KiB.
pub(crate) fn make_site(folder: &Path) -> Result<()> {
    make_pages(folder, |page| 30 + page * 2)
}

/// Pages of so many lines, each of about 15 bytes.
fn make_pages(folder: &Path, lines: impl Fn(usize) -> usize) -> Result<()> {
    for page in 0..50 {
        let file = folder.join(format!("site/pages/{page}.html"));
        fs::create_dir_all(file.parent().context("a file in a folder")?)?;
        fs::write(file, format!("<p>Page {page}</p>\n").repeat(lines(page)))?;
    }
    Ok(())
}

/// A capture in which bodies of 100 KiB to 1 MiB go by, and how many.
pub(crate) fn make_large(folder: &Path, exchanges: usize) -> Result<(PathBuf, usize)> {
    make_pages(folder, |page| 7_000 + page * 1_250)?;
    let traffic = Traffic { capture: folder.join("nginx.pcap"), log: folder.join("nginx.log") };
    let answers = exchanges.div_ceil(THREADS);
    let put_load = |nginx: &Nginx, server: &str| {
        load(nginx, Command::new("wrk"), server, THREADS * answers, &[&answers.to_string(), "1", "large", "pages"])
    };
    whole(|| capture(folder, &traffic, put_load))?;
    Ok((traffic.capture, THREADS * answers))
}

/// One attempt; returns how many packets the kernel dropped.
fn capture(folder: &Path, traffic: &Traffic, put_load: impl Fn(&Nginx, &str) -> Result<()>) -> Result<u64> {
    let port = process::free_port()?;
    let nginx = Nginx::start(folder, include_str!("../e2e/nginx.conf"), &[("PORT", port)])?;
    let tcpdump = Tcpdump::start(&traffic.capture, &format!("tcp port {port}"))?;
    put_load(&nginx, &format!("127.0.0.1:{port}"))?;
    let dropped = tcpdump.stop()?;
    let log = nginx.stop()?;
    if dropped == 0 {
        fs::write(&traffic.log, log)?;
    }
    Ok(dropped)
}

/// At least so many exchanges with `server`, by the wrk that the command starts.
pub(crate) fn put_load(nginx: &Nginx, wrk: impl Fn() -> Command, server: &str, exchanges: usize) -> Result<()> {
    let mut expected = 0;
    for (run, depth) in DEPTHS.into_iter().enumerate() {
        let answers = exchanges.div_ceil(DEPTHS.len() * THREADS * depth) * depth;
        expected += THREADS * answers;
        load(nginx, wrk(), server, expected, &[&answers.to_string(), &depth.to_string(), &run.to_string()])?;
    }
    // A connection for every request, for a fiftieth of them.
    let answers = exchanges.div_ceil(50 * THREADS);
    expected += THREADS * answers;
    load(nginx, wrk(), server, expected, &[&answers.to_string(), "1", "close", "close"])?;
    ensure!(nginx.logged() == expected, "nginx logged {} exchanges, not {expected}", nginx.logged());
    Ok(())
}

/// Runs wrk until nginx has logged `expected` exchanges in all. Its threads stop by themselves; wrk as a whole would
/// wait for the end of its time.
fn load(nginx: &Nginx, mut wrk: Command, server: &str, expected: usize, arguments: &[&str]) -> Result<()> {
    let threads = THREADS.to_string();
    wrk.args(["-t", &threads, "-c", &threads, "-d", "120s", "-s"]);
    wrk.arg(workspace::root().join("xtask/e2e/load.lua")).arg(format!("http://{server}/")).arg("--");
    wrk.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let mut wrk = Running::start(&mut wrk)?;
    wrk.wait_until(Duration::from_secs(110), || nginx.logged() >= expected)?;
    wrk.stop(Signal::Interrupt)
}

/// An error unless nginx's log and podtap's events have the same exchanges; their number.
pub(crate) fn compare_texts(log: &str, events: &str) -> Result<usize> {
    let logged = Exchanges::of_log(log)?;
    compare(&logged, &Exchanges::of_events(events)?)?;
    Ok(logged.count())
}

/// What two witnesses of an exchange must agree on.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Exchange {
    method: String,
    uri: String,
    status: u64,
    request_bytes: u64,
    response_bytes: u64,
}

/// All exchanges by connection, in order. The witnesses number connections differently; they agree on the client's
/// port, and which connection was first where a port was used again.
struct Exchanges {
    connections: Vec<(u64, Vec<Exchange>)>,
}

impl Exchanges {
    /// From nginx's log: method, URI, status, bytes sent, connection, its request, client's port, request's bytes, and
    /// of a body, which nginx does not count with those where it throws bodies away, as it does with all of these.
    fn of_log(log: &str) -> Result<Self> {
        let mut connections: BTreeMap<u64, (u64, BTreeMap<u64, Exchange>)> = BTreeMap::new();
        for line in log.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [method, uri, status, sent, connection, request, port, length, body] = fields[..] else {
                bail!("a log line of {} fields: {line}", fields.len())
            };
            let exchange = Exchange {
                method: method.to_owned(),
                uri: uri.to_owned(),
                status: status.parse()?,
                request_bytes: length.parse::<u64>()? + if body.is_empty() { 0 } else { body.parse()? },
                response_bytes: sent.parse()?,
            };
            let (_, requests) = connections.entry(connection.parse()?).or_insert((port.parse()?, BTreeMap::new()));
            requests.insert(request.parse()?, exchange);
        }
        Ok(Self::sorted(connections.into_values()))
    }

    /// From podtap's events, one JSON object a line.
    fn of_events(events: &str) -> Result<Self> {
        let mut connections: BTreeMap<(String, String), (u64, BTreeMap<u64, Exchange>)> = BTreeMap::new();
        // Sorted by the time of their first exchange, for ports that were used again.
        let mut first: BTreeMap<String, String> = BTreeMap::new();
        for line in events.lines() {
            let event: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
            let field = |pointer: &str| event.pointer(pointer).with_context(|| format!("no {pointer} in {line}"));
            let text = |pointer: &str| -> Result<String> {
                Ok(field(pointer)?.as_str().with_context(|| format!("{pointer} is no text in {line}"))?.to_owned())
            };
            let number = |pointer: &str| -> Result<u64> {
                field(pointer)?.as_u64().with_context(|| format!("{pointer} is no number in {line}"))
            };
            let mut uri = text("/attributes/url.path")?;
            if let Ok(query) = text("/attributes/url.query") {
                uri.push('?');
                uri.push_str(&query);
            }
            let exchange = Exchange {
                method: text("/attributes/http.request.method")?,
                uri,
                status: number("/attributes/http.response.status_code")?,
                request_bytes: number("/client/bytes")?,
                response_bytes: number("/server/bytes")?,
            };
            let id = text("/connection/id")?;
            let start = first.entry(id.clone()).or_insert(text("/time")?).clone();
            let (_, exchanges) = connections.entry((start, id)).or_insert((number("/client/port")?, BTreeMap::new()));
            if exchanges.insert(number("/connection/exchange")?, exchange).is_some() {
                bail!("this exchange's number was used before on its connection: {line}");
            }
        }
        Ok(Self::sorted(connections.into_values()))
    }

    /// By port, and among those of one port in the order given.
    fn sorted(connections: impl Iterator<Item = (u64, BTreeMap<u64, Exchange>)>) -> Self {
        let mut connections: Vec<_> =
            connections.map(|(port, exchanges)| (port, exchanges.into_values().collect())).collect();
        connections.sort_by_key(|&(port, _)| port);
        Self { connections }
    }

    fn count(&self) -> usize {
        self.connections.iter().map(|(_, exchanges)| exchanges.len()).sum()
    }

    /// How often every exchange occurs.
    fn counts(&self) -> BTreeMap<&Exchange, i64> {
        let mut counts = BTreeMap::new();
        for exchange in self.connections.iter().flat_map(|(_, exchanges)| exchanges) {
            *counts.entry(exchange).or_insert(0) += 1;
        }
        counts
    }
}

/// An error that shows the first differences, unless both are the same.
fn compare(logged: &Exchanges, seen: &Exchanges) -> Result<()> {
    let mut difference = logged.counts();
    for (exchange, count) in seen.counts() {
        *difference.entry(exchange).or_insert(0) -= count;
    }
    difference.retain(|_, count| *count != 0);
    let totals = format!("nginx logged {} exchanges, podtap saw {}", logged.count(), seen.count());
    if !difference.is_empty() {
        let lines: Vec<String> =
            difference.iter().take(10).map(|(exchange, count)| format!("  {:+} {exchange:?}", -count)).collect();
        let first = lines.join("\n");
        bail!("{totals}; {} kinds differ, first (+: podtap's, -: nginx's):\n{first}", difference.len());
    }
    ensure!(
        logged.connections.len() == seen.connections.len(),
        "{totals}, but on {} and {} connections",
        logged.connections.len(),
        seen.connections.len()
    );
    for ((port, logged), (seen_port, seen)) in logged.connections.iter().zip(&seen.connections) {
        ensure!(port == seen_port, "a connection from port {port} in the log, from port {seen_port} in the events");
        if let Some(at) = (0..logged.len().max(seen.len())).find(|&at| logged.get(at) != seen.get(at)) {
            bail!(
                "connection from port {port}, exchange {at}: nginx logged {:?}, podtap saw {:?}",
                logged.get(at),
                seen.get(at)
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Exchanges, compare};

    const LOG: &str = "GET\t/a?b=c\t200\t10\t7\t1\t4000\t20\t\nPOST\t/b\t404\t30\t7\t2\t4000\t33\t7\n\
                       GET\t/a?b=c\t200\t10\t9\t1\t4000\t20\t\n";

    fn event(connection: &str, exchange: u64, method: &str, path: &str, status: u64, bytes: (u64, u64)) -> String {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query = if query.is_empty() { String::new() } else { format!(r#""url.query":"{query}","#) };
        format!(
            r#"{{"time":"2026-01-01T00:00:0{exchange}Z","client":{{"port":4000,"bytes":{}}},"server":{{"bytes":{}}},
            "connection":{{"id":"{connection}","exchange":{exchange}}},"attributes":{{"url.path":"{path}",{query}
            "http.request.method":"{method}","http.response.status_code":{status}}}}}"#,
            bytes.0, bytes.1
        )
        .replace('\n', "")
    }

    /// How log and events differ; empty where they agree.
    fn check(events: &[String]) -> String {
        let (log, events) = (Exchanges::of_log(LOG).unwrap(), Exchanges::of_events(&events.join("\n")).unwrap());
        compare(&log, &events).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_same_exchanges_on_a_port_used_twice_agree() {
        let events = [
            event("y", 0, "GET", "/a?b=c", 200, (20, 10)),
            event("y", 1, "POST", "/b", 404, (40, 30)),
            event("z", 0, "GET", "/a?b=c", 200, (20, 10)).replace("00:00Z", "00:05Z"),
        ];
        assert_eq!(check(&events), "");
    }

    #[test]
    fn a_missing_exchange_is_named() {
        let events = [event("y", 0, "GET", "/a?b=c", 200, (20, 10)), event("y", 1, "POST", "/b", 404, (40, 30))];
        assert!(check(&events).contains("nginx logged 3 exchanges, podtap saw 2"));
        assert!(check(&events).contains(r#"-1 Exchange { method: "GET", uri: "/a?b=c""#));
    }

    #[test]
    fn another_order_or_connection_is_an_error() {
        let swapped = [
            event("y", 0, "POST", "/b", 404, (40, 30)),
            event("y", 1, "GET", "/a?b=c", 200, (20, 10)),
            event("z", 0, "GET", "/a?b=c", 200, (20, 10)).replace("00:00Z", "00:05Z"),
        ];
        assert!(check(&swapped).contains("connection from port 4000, exchange 0"));
        let joined = [
            event("y", 0, "GET", "/a?b=c", 200, (20, 10)),
            event("y", 1, "POST", "/b", 404, (40, 30)),
            event("y", 2, "GET", "/a?b=c", 200, (20, 10)),
        ];
        assert!(check(&joined).contains("but on 2 and 1 connections"));
    }
}
