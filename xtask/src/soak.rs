//! `cargo xtask soak`: does podtap stay as it is for a long time, while all changes around it?
//!
//! ```text
//!  client's namespace: wrk, sysbench, pymongo ── veth pair ── server's namespace: nginx, MariaDB, a MongoDB server,
//!                                                             podtap run, three brokers of Kafka
//! ```
//!
//! podtap captures with two workers and publishes with a spool. Connections come and go, servers move to other ports,
//! decoders are exchanged, brokers end and come back (see `soak_traffic`). It is looked at once a second (see
//! `soak_samples`). In the end
//!
//! 1. its memory and descriptors are in the last third of the time what they were in the middle one,
//! 2. what waits for Kafka has gone soon after each time that a broker was away,
//! 3. every packet, byte and connection is in one place of its counts,
//! 4. each exchange and each connection that it counted is in the topic, and no other,
//! 5. the exchanges are those that nginx logged, MariaDB counted and pymongo asked, unless the kernel dropped packets,
//! 6. its log has no warning but that of brokers that are away.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::e2e_live::{self, INTERFACE, Namespaces};
use crate::e2e_page::address;
use crate::kafka_cluster::Cluster;
use crate::process::{self, Running, Signal};
use crate::soak_samples::{Sample, Third, Watched, thirds};
use crate::soak_traffic::{Decoders, Outage, Place, Time, restart_brokers};
use crate::{e2e_kafka, e2e_mysql, kafka, mongodb, release, soak_page, sums, workspace};

/// How long, and whether to keep the result.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long there is traffic
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Write the result to docs/soak.md and docs/soak.svg
    #[arg(long)]
    write: bool,
    /// An executable with its plugins beside it, to check instead of building the release
    #[arg(long)]
    podtap: Option<PathBuf>,
    /// Half a minute, without brokers that end: set by `cargo xtask e2e soak`
    #[arg(long, hide = true)]
    short: bool,
    /// The client's namespace: set by the check itself, which runs in the server's
    #[arg(long, hide = true)]
    client: Option<String>,
}

impl Args {
    /// Of `cargo xtask e2e soak`.
    pub(crate) fn short(podtap: Option<PathBuf>) -> Args {
        Args { minutes: 0, write: false, podtap, short: true, client: None }
    }
}

/// What is done when.
pub(crate) struct Plan {
    pub(crate) length: Duration,
    pub(crate) turn: Duration,
    pub(crate) swap_every: Duration,
    pub(crate) restart_every: Option<Duration>,
    /// By how much more memory the last third may have than the middle one.
    pub(crate) slack_bytes: u64,
    /// And by how many more descriptors.
    pub(crate) slack_descriptors: f64,
}

impl Plan {
    fn of(args: &Args) -> Plan {
        let seconds = Duration::from_secs;
        if args.short {
            return Plan {
                length: seconds(24),
                turn: seconds(4),
                swap_every: seconds(9),
                restart_every: None,
                // Its start is still in the middle third.
                slack_bytes: 16 << 20,
                slack_descriptors: 8.0,
            };
        }
        Plan {
            length: seconds(60 * args.minutes.max(1)),
            turn: seconds(20),
            swap_every: seconds(60),
            restart_every: Some(seconds(120)),
            // Pages that allocators keep, now here, now there.
            slack_bytes: 4 << 20,
            slack_descriptors: 2.0,
        }
    }
}

/// As much waits when all is well: podtap counts once a second.
pub(crate) const CAUGHT_UP_SECONDS: f64 = 3.0;
/// How soon after a broker leads again.
pub(crate) const CATCH_UP_SECONDS: f64 = 30.0;

/// How long podtap may take to take up decoders.
const COMPILING: Duration = Duration::from_secs(60);

const TOPIC: &str = "soak";
const WORKERS: usize = 2;

/// What there was to see.
pub(crate) struct Seen {
    pub(crate) plan: Plan,
    pub(crate) decoders: usize,
    pub(crate) samples: Vec<Sample>,
    pub(crate) swaps: Vec<f64>,
    pub(crate) outages: Vec<Outage>,
    /// From SIGTERM to the end.
    pub(crate) drain: Duration,
    /// podtap's own.
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) topic: Topic,
    witnesses: Witnesses,
}

/// What the servers and clients say.
struct Witnesses {
    nginx: u64,
    mariadb: Option<BTreeMap<String, u64>>,
    mongodb: Option<u64>,
    churned: u64,
}

/// What is in the topic, each event once.
pub(crate) struct Topic {
    pub(crate) records: u64,
    pub(crate) events: u64,
    rows: Vec<Row>,
}

/// So many events that have all of this in common.
#[derive(serde::Deserialize)]
struct Row {
    kind: Option<String>,
    protocol: Option<String>,
    command: Option<String>,
    operation: Option<String>,
    outcome: Option<String>,
    events: u64,
    returned_rows: u64,
}

/// Why it cannot run here, beside programs that are missing.
pub(crate) fn unavailable() -> Option<&'static str> {
    e2e_live::unavailable().or_else(kafka::unavailable)
}

/// Makes the namespaces and checks in them.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(client) = &args.client {
        return inside(args, client);
    }
    let podtap = args.podtap.clone().map_or_else(release::build, Ok)?;
    // What comes from elsewhere: there is no way out of the namespaces.
    kafka::get_ready()?;
    e2e_kafka::python()?;
    if let Err(error) = mongodb::packages() {
        println!("pip cannot install what MongoDB's part needs: {error:#}");
    }
    let namespaces = Namespaces::make()?;
    let mut check = namespaces.within(&namespaces.server, std::env::current_exe()?);
    check.args(["soak", "--client", &namespaces.client, "--minutes", &args.minutes.to_string()]);
    check.args([("--short", args.short), ("--write", args.write)].iter().filter(|(_, is)| *is).map(|(flag, _)| flag));
    process::run(check.arg("--podtap").arg(podtap))
}

fn inside(args: &Args, client: &str) -> Result<()> {
    let podtap = args.podtap.as_ref().context("the outer check names the program")?;
    let folder = workspace::target().join("e2e/soak");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let seen = watch(Plan::of(args), podtap, &folder, client)?;
    print!("{}", soak_page::figures(&seen)?);
    seen.judge(&folder)?;
    if args.write {
        soak_page::write(&seen, podtap)?;
    }
    Ok(())
}

/// Does all of it.
fn watch(plan: Plan, podtap: &Path, folder: &Path, client: &str) -> Result<Seen> {
    let python = e2e_kafka::python()?;
    let (cluster, mariadb, mongodb) = thread::scope(|scope| {
        let cluster = scope.spawn(|| Cluster::start(None));
        let mongodb = scope.spawn(|| mongodb::Server::start(folder, "0.0.0.0"));
        let mariadb = mariadb(folder);
        (join(cluster), mariadb, join(mongodb))
    });
    let (mut cluster, mariadb) = (cluster?, mariadb?);
    let mongodb = mongodb.map_err(|error| println!("skipped: soak, MongoDB: {error:#}")).ok();
    let brokers = cluster.addresses();
    let of_topic = |task: &str| {
        let mut command = Command::new(&python);
        command.arg(workspace::root().join("xtask/e2e/outages.py")).arg(task);
        command.args(["--brokers", &brokers, "--topic", TOPIC]);
        command
    };

    let (program, log) = (folder.join("podtap"), folder.join("podtap.log"));
    // Without the stock decoders, which are found beside it.
    fs::copy(podtap, &program)?;
    let mut decoders = Decoders::install(podtap, &folder.join("decoders"))?;
    let mut running = start(&program, folder, &log, &brokers)?;
    let says = |words: &str| fs::read_to_string(&log).is_ok_and(|said| said.contains(words));
    running
        .wait_until(Duration::from_secs(60), || says("\"capturing\""))
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    let watched = Watched { process: running.id(), address: address(&log)? };
    println!("soak: {} s of traffic, see {}", plan.length.as_secs(), workspace::short(folder));

    let place = Place { client, folder, turn: plan.turn };
    let time = Time::begin(plan.length);
    let sql = &|| mariadb.as_ref().map(|server| place.mariadb(&time, server)).transpose();
    let documents = &|| mongodb.as_ref().map(|server| place.mongodb(&time, server)).transpose();
    let (samples, swaps, outages, witnesses) = thread::scope(|scope| {
        let samples = scope.spawn(|| time.with(|| watched.watch(&time, &folder.join("samples.csv"))));
        let swaps = scope.spawn(|| time.with(|| decoders.swap_often(&time, plan.swap_every)));
        let restart = |every| restart_brokers(&mut cluster, &time, every, of_topic);
        let outages = scope.spawn(|| time.with(|| plan.restart_every.map_or(Ok(Vec::new()), restart)));
        let turns = scope.spawn(|| time.with(|| place.nginx_in_turns(&time)));
        let lasting = scope.spawn(|| time.with(|| place.nginx_lasting(&time)));
        let (sql, documents) = (scope.spawn(|| time.with(sql)), scope.spawn(|| time.with(documents)));
        let (turns, lasting, mariadb, mongodb) = (join(turns), join(lasting), join(sql), join(documents));
        let (samples, swaps, outages) = (join(samples), join(swaps), join(outages));
        let (lasting, churned) = lasting?;
        let witnesses = Witnesses { nginx: turns? + lasting, mariadb: mariadb?, mongodb: mongodb?, churned };
        anyhow::Ok((samples?, swaps?, outages?, witnesses))
    })?;
    mariadb.map_or(Ok(()), e2e_mysql::Server::stop)?;
    drop(mongodb);

    // Compiling the decoders that came last takes its time where the machine has other work. If it takes longer than this,
    // the counts show it.
    let exchanged = swaps.len() * decoders.count() * WORKERS;
    let begun = Instant::now();
    while begun.elapsed() < COMPILING
        && sums::metric(&watched.metrics()?, "podtap_decoders_reloaded_total") < exchanged as f64
    {
        thread::sleep(Duration::from_secs(1));
    }
    // The workers leave their counts about once a second.
    thread::sleep(Duration::from_secs(3));
    sums::metrics_add_up(&watched.metrics()?)?;
    let asked = Instant::now();
    running.stop(Signal::Terminate)?;
    let drain = asked.elapsed();
    let counts = sums::summary_adds_up(&fs::read_to_string(&log)?)?;
    let topic = Topic::read(&process::output(&mut of_topic("count"))?)?;
    Ok(Seen { plan, decoders: decoders.count(), samples, swaps, outages, drain, counts, topic, witnesses })
}

/// One that has tables, or none where it is not installed.
fn mariadb(folder: &Path) -> Result<Option<e2e_mysql::Server>> {
    if let Some(missing) = e2e_mysql::PROGRAMS.into_iter().find(|program| process::find(program).is_none()) {
        println!("skipped: soak, MariaDB: no {missing} (`cargo xtask setup --e2e` installs it)");
        return Ok(None);
    }
    let server = e2e_mysql::Server::start(&folder.join("mariadb"), "0.0.0.0")?;
    process::output(&mut server.sysbench(Command::new("sysbench"), "127.0.0.1", "auto", 0, "prepare"))?;
    Ok(Some(server))
}

fn start(program: &Path, folder: &Path, log: &Path, brokers: &str) -> Result<Running> {
    let mut podtap = release::command(program);
    podtap.args(["run", "--interface", INTERFACE, "--connections", "--plugins"]).arg(folder.join("decoders"));
    podtap.args(["--kafka-brokers", brokers, "--kafka-topic", TOPIC]);
    podtap.envs([("PODTAP_ADMIN_LISTEN", "127.0.0.1:0"), ("PODTAP_LOG_FORMAT", "json")]);
    podtap.env("PODTAP_CAPTURE_WORKERS", WORKERS.to_string());
    podtap.env("PODTAP_SPOOL_DIRECTORY", folder.join("spool"));
    // What is compiled here, nobody needs again.
    podtap.env("XDG_CACHE_HOME", folder.join("cache"));
    podtap.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?);
    Running::start(&mut podtap)
}

fn join<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread has panicked"))?
}

impl Topic {
    /// Of what `xtask/e2e/outages.py count` prints.
    fn read(said: &str) -> Result<Topic> {
        let said: Value = serde_json::from_str(said)?;
        let number = |name: &str| said[name].as_u64().with_context(|| format!("no {name}"));
        Ok(Topic {
            records: number("records")?,
            events: number("events")?,
            rows: serde_json::from_value(said["rows"].clone())?,
        })
    }

    fn count(&self, which: impl Fn(&Row) -> bool) -> u64 {
        self.rows.iter().filter(|row| which(row)).map(|row| row.events).sum()
    }

    /// Of exchanges of a protocol.
    pub(crate) fn exchanges_of(&self, protocol: &str) -> u64 {
        self.count(|row| row.kind.is_none() && row.protocol.as_deref() == Some(protocol))
    }

    /// Events of connections.
    pub(crate) fn connections(&self) -> u64 {
        self.count(|row| row.kind.as_deref() == Some("connection"))
    }
}

impl Seen {
    pub(crate) fn memory(&self) -> [Third; 3] {
        thirds(&self.samples, |sample| sample.resident_bytes as f64)
    }

    pub(crate) fn descriptors(&self) -> [Third; 3] {
        thirds(&self.samples, |sample| sample.descriptors as f64)
    }

    /// How long after each outage nothing but the usual waits; none where that was never so.
    pub(crate) fn catch_ups(&self) -> Vec<Option<f64>> {
        let caught_up = |outage: &Outage| {
            let mut after = self.samples.iter().filter(|sample| sample.seconds >= outage.until);
            after.find(|sample| sample.lag_seconds <= CAUGHT_UP_SECONDS).map(|sample| sample.seconds - outage.until)
        };
        self.outages.iter().map(caught_up).collect()
    }

    /// The longest time in a row in which more than the usual waited.
    pub(crate) fn longest_lag(&self) -> f64 {
        let (mut longest, mut since) = (0.0, None);
        for sample in &self.samples {
            since = (sample.lag_seconds > CAUGHT_UP_SECONDS).then(|| since.unwrap_or(sample.seconds));
            longest = since.map_or(0.0, |since| sample.seconds - since + 1.0).max(longest);
        }
        longest
    }

    /// A count of the summary.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Events that podtap says it did not deliver.
    pub(crate) fn undelivered(&self) -> u64 {
        self.counts.iter().filter(|(name, _)| name.starts_with("not delivered: ")).map(|(_, count)| count).sum()
    }

    /// Whether it has seen all that there was.
    fn is_whole(&self) -> bool {
        ["packets dropped by kernel", "connections left out"].iter().all(|name| self.counted(name) == 0)
    }

    /// An error where something is not as the module has it.
    fn judge(&self, folder: &Path) -> Result<()> {
        let [_, middle, last] = self.memory();
        let mebibytes = |bytes: f64| bytes / 1024.0 / 1024.0;
        ensure!(
            last.median <= middle.median + self.plan.slack_bytes as f64,
            "its memory grows, from {:.1} to {:.1} MiB",
            mebibytes(middle.median),
            mebibytes(last.median)
        );
        let [_, middle, last] = self.descriptors();
        ensure!(
            last.median <= middle.median + self.plan.slack_descriptors,
            "its descriptors grow, from {} to {}",
            middle.median,
            last.median
        );
        for (outage, caught_up) in self.outages.iter().zip(self.catch_ups()) {
            ensure!(
                caught_up.is_some_and(|seconds| seconds <= CATCH_UP_SECONDS),
                "events still wait {CATCH_UP_SECONDS} s after the outage that began at {:.0} s",
                outage.from
            );
        }
        // Each worker takes each of them into use.
        let swapped = (self.swaps.len() * self.decoders * WORKERS) as u64;
        let reloaded = self.counted("decoders reloaded");
        ensure!(reloaded == swapped, "the workers were to take {swapped} decoders into use, and took {reloaded}");
        self.compare_with_topic()?;
        if self.is_whole() {
            self.compare_with_witnesses()?;
        } else {
            println!("skipped: the counts of servers and clients: podtap has not seen all that there was");
        }
        log_is_clean(&fs::read_to_string(folder.join("podtap.log"))?)
    }

    fn compare_with_topic(&self) -> Result<()> {
        let (exchanges, connections) = (self.counted("exchanges"), self.counted("connection events"));
        let published = exchanges + connections;
        let (undelivered, arrived) = (self.undelivered(), self.topic.events);
        ensure!(
            arrived + undelivered == published,
            "{published} events were published and {undelivered} of them not delivered, but {arrived} are in the topic"
        );
        ensure!(undelivered == 0, "{undelivered} events were not delivered, with room in the spool");
        let told = self.topic.connections();
        ensure!(told == connections, "{connections} connections were published, {told} are in the topic");
        Ok(())
    }

    fn compare_with_witnesses(&self) -> Result<()> {
        let http = |row: &Row| row.kind.is_none() && row.protocol.as_deref() == Some("http");
        let answered = |row: &Row| matches!(row.outcome.as_deref(), Some("ok" | "error"));
        let (seen, logged) = (self.topic.count(|row| http(row) && answered(row)), self.witnesses.nginx);
        ensure!(seen == logged, "nginx logged {logged} requests, podtap saw {seen} that were answered");
        if let Some(counted) = &self.witnesses.mariadb {
            let mut seen = BTreeMap::new();
            for row in self.topic.rows.iter().filter(|row| row.protocol.as_deref() == Some("mysql")) {
                let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
                e2e_mysql::add(&mut seen, &text(&row.command), &text(&row.operation), row.events, row.returned_rows);
            }
            e2e_mysql::compare(counted, &seen)?;
        }
        if let Some(asked) = self.witnesses.mongodb {
            let operations = ["find", "insert", "update", "delete"];
            let is_asked = |row: &Row| {
                row.protocol.as_deref() == Some("mongodb")
                    && row.operation.as_deref().is_some_and(|operation| operations.contains(&operation))
            };
            let seen = self.topic.count(is_asked);
            ensure!(seen == asked, "pymongo asked {asked} times, podtap saw {seen}");
        }
        let connections = self.topic.connections();
        ensure!(connections >= self.witnesses.churned, "{connections} connections, {} of them", self.witnesses.churned);
        Ok(())
    }
}

/// An error where there is a panic, a warning or an error in a log, but for the one that no broker answers.
fn log_is_clean(log: &str) -> Result<()> {
    ensure!(!sums::has_panicked(log), "podtap has panicked");
    let is_unexpected = |line: &&str| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let message = line["message"].as_str().unwrap_or_default();
        matches!(line["level"].as_str(), Some("WARN" | "ERROR"))
            && !message.starts_with("kafka: nothing is acknowledged, tried on and on")
    };
    let unexpected: Vec<_> = log.lines().filter(is_unexpected).collect();
    ensure!(unexpected.is_empty(), "podtap complains:\n{}", unexpected.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::log_is_clean;

    #[test]
    fn a_log_may_say_that_brokers_are_away_and_nothing_worse() {
        let line = |level, message| format!("{{\"level\":\"{level}\",\"message\":\"{message}\"}}\n");
        let away = line("WARN", "kafka: nothing is acknowledged, tried on and on: timed out");
        log_is_clean(&(line("INFO", "capturing") + &away + " 3  exchanges\n")).unwrap();
        for unexpected in
            [line("WARN", "decoder failed"), line("ERROR", "capturing"), "thread 'a' panicked at b".into()]
        {
            assert!(log_is_clean(&(away.clone() + &unexpected)).is_err(), "{unexpected}");
        }
    }
}
