//! `cargo xtask e2e mysql`: does podtap see exactly the statements that a MariaDB server executed?
//!
//! sysbench puts load on a server of its own, once with prepared statements and once with text; tcpdump captures it from
//! before the first connection to after the last one, podtap replays the capture, and what it found is compared with the
//! server's counters: statements by kind (`Com_select`, `Com_stmt_execute`, ...) and rows sent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::{self, Running, Signal};
use crate::traffic::Tcpdump;
use crate::{e2e_lossy as lossy, e2e_mysql_drivers, e2e_zeek, release, workspace};

/// How much.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Statements in each capture, at least
    #[arg(long, default_value_t = 20_000)]
    pub(crate) statements: usize,
    /// An executable with its plugins beside it, to check instead of building the release
    #[arg(long)]
    pub(crate) podtap: Option<PathBuf>,
}

/// Programs that the check needs.
pub(crate) const PROGRAMS: [&str; 5] = ["mariadbd", "mariadb-install-db", "mariadb", "sysbench", "tcpdump"];

/// Statements of one transaction of sysbench's `oltp_read_write`.
const TRANSACTION: usize = 20;

/// The server's counters and the exchanges that each counts: by operation, or by command where it begins with `COM_`.
const COUNTERS: [(&str, &str); 11] = [
    ("Com_select", "SELECT"),
    ("Com_insert", "INSERT"),
    ("Com_update", "UPDATE"),
    ("Com_delete", "DELETE"),
    ("Com_begin", "BEGIN"),
    ("Com_commit", "COMMIT"),
    ("Com_rollback", "ROLLBACK"),
    ("Com_set_option", "SET"),
    ("Com_stmt_prepare", "COM_STMT_PREPARE"),
    ("Com_stmt_execute", "COM_STMT_EXECUTE"),
    ("Com_stmt_reset", "COM_STMT_RESET"),
];

const ROWS: &str = "Rows_sent";

/// Makes both captures, replays them and compares.
pub(crate) fn run(args: &Args) -> Result<()> {
    let podtap = args.podtap.clone().map_or_else(release::build, Ok)?;
    let folder = workspace::target().join("e2e/mysql");
    let server = Server::start(&folder, "127.0.0.1")?;
    for (name, mode) in MODES {
        let capture = folder.join(format!("{name}.pcap"));
        let counted = load(&server, &capture, mode, args.statements)?;
        let events = capture.with_extension("jsonl");
        let mut replay = release::command(podtap.clone());
        replay.arg("replay").arg(&capture).args(["--output", "json", "--output-file"]).arg(&events);
        process::output(&mut replay)?;
        let seen = seen(&events)?;
        compare(&counted, &seen).with_context(|| format!("{name}: {}", capture.display()))?;
        let statements: u64 = COUNTERS.iter().take(6).filter_map(|(counter, _)| counted.get(*counter)).sum();
        println!("mysql, {name}: {statements} statements and {} rows, as the server counted them", counted[ROWS]);
        println!("mysql, {name}, 1 packet in 100 lost: {}", lossy::check(&podtap, &capture, &events)?);
    }
    println!("mysql, drivers: {}", e2e_mysql_drivers::check(&podtap, &folder, server.port, &server.socket)?);
    println!("mysql, captures of Zeek's: {}", e2e_zeek::check(&podtap)?);
    server.stop()
}

/// sysbench's modes of prepared statements, by the name of the capture.
pub(crate) const MODES: [(&str, &str); 2] = [("prepared", "auto"), ("text", "disable")];

/// A capture for each mode, of at least so many statements.
pub(crate) fn captures(folder: &Path, statements: usize) -> Result<[PathBuf; 2]> {
    let server = Server::start(folder, "127.0.0.1")?;
    let captures = MODES.map(|(name, _)| folder.join(format!("{name}.pcap")));
    for (capture, (_, mode)) in captures.iter().zip(MODES) {
        load(&server, capture, mode, statements)?;
    }
    server.stop()?;
    Ok(captures)
}

/// A MariaDB server in a folder of its own.
pub(crate) struct Server {
    process: Running,
    port: u16,
    socket: PathBuf,
}

impl Server {
    /// Starts it, and waits until it listens on this address.
    pub(crate) fn start(folder: &Path, address: &str) -> Result<Self> {
        let data = folder.join("data");
        let _ = fs::remove_dir_all(&data);
        fs::create_dir_all(folder)?;
        let user = if process::is_root() { "--user=root" } else { "--skip-slave-start" };
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        process::output(install.arg(user).arg(format!("--datadir={}", data.display())))?;
        let port = process::free_port()?;
        // A socket's path may have 107 bytes, which a target folder can exceed.
        let socket = std::env::temp_dir().join(format!("podtap-e2e-{}.sock", std::process::id()));
        let log = File::create(folder.join("server.log"))?;
        let program = process::find("mariadbd").context("mariadbd is not installed: `cargo xtask setup --e2e`")?;
        let mut command = Command::new(program);
        command.args(["--no-defaults", "--skip-grant-tables", "--skip-log-bin"]);
        command.arg(format!("--bind-address={address}"));
        command.args(["--innodb-flush-log-at-trx-commit=0", "--max-prepared-stmt-count=100000", user]);
        command.arg(format!("--datadir={}", data.display())).arg(format!("--port={port}"));
        command.arg(format!("--socket={}", socket.display())).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut process = Running::start(&mut command)?;
        process.wait_until(Duration::from_secs(60), || process::listens(port))?;
        let server = Self { process, port, socket };
        server.sql("CREATE DATABASE sbtest")?;
        Ok(server)
    }

    /// Executes a statement over the socket, which is not captured.
    fn sql(&self, statement: &str) -> Result<String> {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "-N", "-B", "-u", "root"]).arg("-S").arg(&self.socket).args(["-e", statement]);
        process::output(&mut client)
    }

    /// All counters. Reading them sends so many rows itself, which are counted afterwards.
    fn counters(&self) -> Result<BTreeMap<String, u64>> {
        let status =
            self.sql("SHOW GLOBAL STATUS WHERE Variable_name LIKE 'Com\\_%' OR Variable_name = 'Rows_sent'")?;
        let line =
            |line: &str| line.split_once('\t').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        Ok(status.lines().filter_map(line).collect())
    }

    /// What it counts while something is done.
    pub(crate) fn counted(&self, work: impl FnOnce() -> Result<()>) -> Result<BTreeMap<String, u64>> {
        let before = self.counters()?;
        work()?;
        let difference = |(name, value): (String, u64)| {
            let earlier = before.get(&name).copied().unwrap_or(0);
            (name, value.saturating_sub(earlier))
        };
        let mut counted: BTreeMap<String, u64> = self.counters()?.into_iter().map(difference).collect();
        if let Some(rows) = counted.get_mut(ROWS) {
            *rows = rows.saturating_sub(before.len() as u64);
        }
        Ok(counted)
    }

    /// An action of sysbench's `oltp_read_write`, by a command that runs sysbench and reaches the server at this address.
    pub(crate) fn sysbench(
        &self,
        command: Command,
        address: &str,
        mode: &str,
        statements: usize,
        action: &str,
    ) -> Command {
        let mut command = self.oltp(command, address, mode);
        command.arg("--time=0").arg(format!("--events={}", statements.div_ceil(TRANSACTION))).arg(action);
        command
    }

    /// The same as a run of some time, with so many statements a second.
    pub(crate) fn sysbench_at(
        &self,
        command: Command,
        address: &str,
        mode: &str,
        time: Duration,
        rate: usize,
    ) -> Command {
        let mut command = self.oltp(command, address, mode);
        command.arg(format!("--time={}", time.as_secs())).arg("--events=0");
        command.arg(format!("--rate={}", rate.div_ceil(TRANSACTION))).arg("run");
        command
    }

    fn oltp(&self, mut command: Command, address: &str, mode: &str) -> Command {
        command.args(["oltp_read_write", "--db-driver=mysql", "--mysql-user=root", "--mysql-ssl=off"]);
        command.args(["--mysql-db=sbtest", "--tables=4", "--table-size=2000", "--threads=4"]);
        command.arg(format!("--mysql-host={address}")).arg(format!("--mysql-port={}", self.port));
        command.arg(format!("--db-ps-mode={mode}"));
        command
    }

    /// Ends it.
    pub(crate) fn stop(self) -> Result<()> {
        self.process.stop(Signal::Terminate)
    }
}

/// Captures a run of sysbench; what the server counted meanwhile.
fn load(server: &Server, capture: &Path, mode: &str, statements: usize) -> Result<BTreeMap<String, u64>> {
    let sysbench = |action| server.sysbench(Command::new("sysbench"), "127.0.0.1", mode, statements, action);
    for _ in 0..3 {
        process::output(&mut sysbench("prepare"))?;
        let tcpdump = Tcpdump::start(capture, &format!("tcp port {}", server.port))?;
        let counted = server.counted(|| process::output(&mut sysbench("run")).map(drop))?;
        let dropped = tcpdump.stop()?;
        process::output(&mut sysbench("cleanup"))?;
        if dropped == 0 {
            return Ok(counted);
        }
        println!("the kernel dropped {dropped} packets; once more");
    }
    bail!("the kernel dropped packets in every attempt: the machine is too busy for a complete capture")
}

/// What podtap's events add up to, by the names of the server's counters.
pub(crate) fn seen(events: &Path) -> Result<BTreeMap<String, u64>> {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for line in BufReader::new(File::open(events)?).lines() {
        let line = line?;
        let event: Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
        // An error counts for the server as well: sysbench's transactions may run into one another.
        let outcome = event["outcome"].as_str().unwrap_or_default();
        ensure!(matches!(outcome, "ok" | "error"), "an exchange without its response: {line}");
        let command = event["attributes"]["mysql.command"].as_str().unwrap_or_default();
        let operation = event["operation"].as_str().unwrap_or_default();
        let rows = event["attributes"]["db.response.returned_rows"].as_u64().unwrap_or(0);
        add(&mut seen, command, operation, 1, rows);
    }
    Ok(seen)
}

/// So many exchanges of a command and an operation, with the rows of all of them.
pub(crate) fn add(seen: &mut BTreeMap<String, u64>, command: &str, operation: &str, exchanges: u64, rows: u64) {
    for (counter, of) in COUNTERS {
        let executes = matches!(command, "COM_QUERY" | "COM_STMT_EXECUTE");
        if of == command || (of == operation && executes) {
            *seen.entry(counter.to_owned()).or_default() += exchanges;
        }
    }
    *seen.entry(ROWS.to_owned()).or_default() += rows;
}

/// An error unless podtap has seen what the server has counted.
pub(crate) fn compare(counted: &BTreeMap<String, u64>, seen: &BTreeMap<String, u64>) -> Result<()> {
    let names = COUNTERS.iter().map(|(counter, _)| *counter).chain([ROWS]);
    let value = |of: &BTreeMap<String, u64>, name: &str| of.get(name).copied().unwrap_or(0);
    let differences: Vec<String> = names
        .filter(|name| value(counted, name) != value(seen, name))
        .map(|name| format!("  {name}: the server {}, podtap {}", value(counted, name), value(seen, name)))
        .collect();
    ensure!(differences.is_empty(), "the server and podtap count differently:\n{}", differences.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{ROWS, compare};

    #[test]
    fn a_difference_is_named() {
        let counted = BTreeMap::from([("Com_select".to_owned(), 3), (ROWS.to_owned(), 7)]);
        let mut seen = counted.clone();
        assert!(compare(&counted, &seen).is_ok());
        seen.insert("Com_select".to_owned(), 2);
        let said = compare(&counted, &seen).unwrap_err().to_string();
        assert!(said.ends_with("Com_select: the server 3, podtap 2"), "{said}");
    }
}
