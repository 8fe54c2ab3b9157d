//! What `cargo xtask soak` does to podtap: traffic of clients in another namespace at a moderate rate, decoders that
//! change, brokers that go and come. Each goes on in a thread of its own until the time is over or another one has failed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::config_map::ConfigMap;
use crate::e2e_live::{SERVER_ADDRESS, client_wrk, of_client, start_nginx};
use crate::kafka_cluster::Cluster;
use crate::process::{self, Running, Signal};
use crate::{e2e_mysql, e2e_nginx, mongodb, workspace};

/// Connections of the turns of short ones, and the pause before each request, ms: some 400 requests a second.
const SHORT: (&str, &str, &str) = ("40", "50", "150");
/// Of the turns of few ones in between, some 400 a second as well.
const FEW: (&str, &str, &str) = ("8", "10", "30");
/// Of those that stay open all the time, some 600 a second.
const LASTING: (&str, &str, &str) = ("12", "10", "30");
/// A second.
const STATEMENTS: usize = 400;
/// A second.
const COMMANDS: u64 = 100;
/// Connections on which nothing is asked, a second.
const CHURN: &str = "20";

/// A broker that is gone for a shorter time is hardly missed.
const AWAY: Duration = Duration::from_secs(10);
/// What a broker takes to come back, to catch up and to lead again, and podtap to deliver what has waited.
const RECOVERY: Duration = Duration::from_secs(60);
/// The machine may have other things to do.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long all goes on.
pub(crate) struct Time {
    begun: Instant,
    length: Duration,
    has_failed: AtomicBool,
}

impl Time {
    /// From now on.
    pub(crate) fn begin(length: Duration) -> Time {
        Time { begun: Instant::now(), length, has_failed: AtomicBool::new(false) }
    }

    /// Seconds since the begin.
    pub(crate) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Until the end; nothing where something has failed.
    fn left(&self) -> Duration {
        let left = self.length.saturating_sub(self.begun.elapsed());
        if self.has_failed.load(Ordering::Relaxed) { Duration::ZERO } else { left }
    }

    /// Waits until so long after the begin; whether there is time then.
    pub(crate) fn wait_for(&self, moment: Duration) -> bool {
        while !self.is_over() && self.begun.elapsed() < moment {
            std::thread::sleep(Duration::from_millis(50));
        }
        !self.is_over()
    }

    /// Does something that ends everything where it fails.
    pub(crate) fn with<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = work();
        if done.is_err() {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        done
    }

    /// Runs a program to its end, unless something else fails meanwhile; what it has printed.
    fn run(&self, mut command: Command, output: &Path) -> Result<String> {
        command.stdin(Stdio::null()).stdout(File::create(output)?);
        let mut running = Running::start(&mut command)?;
        let status = loop {
            match running.status()? {
                Some(status) => break status,
                None if self.has_failed.load(Ordering::Relaxed) => return Ok(String::new()),
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        ensure!(status.success(), "{}: {status}, see {}", process::line(&command), workspace::short(output));
        Ok(fs::read_to_string(output)?)
    }
}

/// Where the clients are, and where files go.
pub(crate) struct Place<'a> {
    pub(crate) client: &'a str,
    pub(crate) folder: &'a Path,
    /// Length of a turn.
    pub(crate) turn: Duration,
}

impl Place<'_> {
    /// An nginx under many short connections and under few long ones, in turns. After two of them it is started again,
    /// on another port. Gives how many requests its logs have.
    pub(crate) fn nginx_in_turns(&self, time: &Time) -> Result<u64> {
        let folder = self.site("turns")?;
        let mut logged = 0;
        while !time.is_over() {
            let port = process::free_port()?;
            let nginx = start_nginx(&folder, port, |as_it_is| as_it_is)?;
            for (load, close) in [(SHORT, Some("close")), (FEW, None)] {
                if let Some(turn) = self.next_turn(time) {
                    time.run(self.wrk(port, load, turn, close), &folder.join("wrk.txt"))?;
                }
            }
            logged += nginx.stop()?.lines().count() as u64;
        }
        Ok(logged)
    }

    /// An nginx with few connections that stay open all the time. Beside, on the same port and on a closed one,
    /// connections that ask nothing. The same, and how many of those.
    pub(crate) fn nginx_lasting(&self, time: &Time) -> Result<(u64, u64)> {
        let folder = self.site("lasting")?;
        let (port, closed) = (process::free_port()?, process::free_port()?);
        let nginx = start_nginx(&folder, port, |as_it_is| as_it_is)?;
        let mut churn = of_client(self.client, "python3");
        churn.arg(workspace::root().join("xtask/e2e/churn.py"));
        churn.args([SERVER_ADDRESS, &port.to_string(), &closed.to_string(), &time.left().as_secs().to_string(), CHURN]);
        let churned = std::thread::scope(|scope| {
            let churn = scope.spawn(|| time.with(|| time.run(churn, &folder.join("churn.txt"))));
            time.run(self.wrk(port, LASTING, time.left(), None), &folder.join("wrk.txt"))?;
            churn.join().map_err(|_| anyhow::anyhow!("a thread has panicked"))?
        })?;
        let logged = nginx.stop()?.lines().count() as u64;
        Ok((logged, churned.trim().parse().unwrap_or(0)))
    }

    /// A MariaDB that was made ready, under statements as text and prepared ones, in turns. Gives what it has counted.
    pub(crate) fn mariadb(&self, time: &Time, server: &e2e_mysql::Server) -> Result<BTreeMap<String, u64>> {
        server.counted(|| {
            for (_, mode) in e2e_mysql::MODES.iter().cycle() {
                let Some(turn) = self.next_turn(time) else { break };
                let sysbench = of_client(self.client, "sysbench");
                let sysbench = server.sysbench_at(sysbench, SERVER_ADDRESS, mode, turn, STATEMENTS);
                time.run(sysbench, &self.folder.join("sysbench.txt"))?;
            }
            Ok(())
        })
    }

    /// A MongoDB server under a driver that comes and goes. Gives how many finds, inserts, updates and deletes it asked.
    pub(crate) fn mongodb(&self, time: &Time, server: &mongodb::Server) -> Result<u64> {
        let python = mongodb::packages()?;
        let mut asked = 0;
        while let Some(turn) = self.next_turn(time) {
            let mut load = of_client(self.client, python.get_program());
            load.arg(workspace::root().join("xtask/e2e/mongodb_load.py"));
            load.arg(format!("mongodb://{SERVER_ADDRESS}:{}/", server.port));
            let commands = COMMANDS * turn.as_secs();
            load.args([commands, COMMANDS].map(|number| number.to_string()));
            time.run(load, &self.folder.join("pymongo.txt"))?;
            // One more inserts what is found.
            asked += commands + 1;
        }
        Ok(asked)
    }

    fn site(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        e2e_nginx::make_site(&folder)?;
        Ok(folder)
    }

    /// None where there is no time for one.
    fn next_turn(&self, time: &Time) -> Option<Duration> {
        let turn = self.turn.min(time.left());
        (turn >= Duration::from_secs(1)).then_some(turn)
    }

    fn wrk(&self, port: u16, load: (&str, &str, &str), turn: Duration, close: Option<&str>) -> Command {
        let (connections, least, most) = load;
        let mut wrk = client_wrk(self.client);
        wrk.args(["-t", "1", "-c", connections, "-d", &format!("{}s", turn.as_secs()), "-s"]);
        wrk.arg(workspace::root().join("xtask/e2e/soak.lua")).arg(format!("http://{SERVER_ADDRESS}:{port}/"));
        wrk.args(["--", least, most]).args(close);
        wrk
    }
}

/// The stock decoders in a folder that is a ConfigMap: each version with another mark, so that all of them are new.
pub(crate) struct Decoders {
    map: ConfigMap,
    components: Vec<(String, Vec<u8>)>,
    version: u32,
}

impl Decoders {
    /// Of the folder of decoders beside `podtap`, into an empty folder.
    pub(crate) fn install(podtap: &Path, folder: &Path) -> Result<Decoders> {
        let mut components = Vec::new();
        for file in fs::read_dir(podtap.with_file_name("plugins"))? {
            let file = file?;
            components.push((file.file_name().to_string_lossy().into_owned(), fs::read(file.path())?));
        }
        fs::create_dir_all(folder)?;
        let mut decoders = Decoders { map: ConfigMap::new(folder), components, version: 0 };
        decoders.swap()?;
        Ok(decoders)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.components.len()
    }

    /// Changes all of them every so often; at which seconds.
    pub(crate) fn swap_often(&mut self, time: &Time, every: Duration) -> Result<Vec<f64>> {
        let mut swaps = Vec::new();
        // The last one is not so late that podtap has no time to take it up.
        while time.wait_for(every * (swaps.len() as u32 + 1)) && time.left() > Duration::from_secs(5) {
            self.swap()?;
            swaps.push(time.seconds());
        }
        Ok(swaps)
    }

    fn swap(&mut self) -> Result<()> {
        self.version += 1;
        // A custom section (WebAssembly core specification, 5.5.3): its id, its length, its name with its length.
        let mark = [&[0, 9, 4][..], b"soak", &self.version.to_le_bytes()].concat();
        let marked = self.components.iter().map(|(name, bytes)| (name.as_str(), [&bytes[..], &mark].concat()));
        self.map.put(&marked.collect::<Vec<_>>())
    }
}

/// A broker that was away.
pub(crate) struct Outage {
    /// When it ended, and when it led again what it had led, in seconds since the begin.
    pub(crate) from: f64,
    pub(crate) until: f64,
}

/// Every so often the broker that leads most ends, killed or asked to in turns, comes back, and gets its leaders again.
pub(crate) fn restart_brokers(
    cluster: &mut Cluster,
    time: &Time,
    every: Duration,
    python: impl Fn(&str) -> Command,
) -> Result<Vec<Outage>> {
    let mut outages = Vec::new();
    while time.wait_for(every * (outages.len() as u32) + every / 2) && time.left() > AWAY + RECOVERY {
        let leader: usize = process::output(&mut python("leader"))?.trim().parse()?;
        let leader = leader.checked_sub(1).context("ids begin with 1")?;
        let from = time.seconds();
        cluster.stop(leader, if outages.len() % 2 == 0 { Signal::Kill } else { Signal::Terminate })?;
        std::thread::sleep(AWAY);
        cluster.begin(leader)?;
        let begun = Instant::now();
        while !cluster.answers(leader)? {
            ensure!(begun.elapsed() < PATIENCE, "a broker does not come back");
            std::thread::sleep(Duration::from_millis(100));
        }
        process::output(&mut python("move-leaders"))?;
        outages.push(Outage { from, until: time.seconds() });
    }
    Ok(outages)
}
