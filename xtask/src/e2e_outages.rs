//! `cargo xtask e2e outages`: does every event arrive at a real Apache Kafka, or is it counted, while brokers go away, the
//! network is cut, the disk is full and podtap is killed? Does that cost no more memory than is bounded, and does the
//! thread that decodes never wait?
//!
//! There are three brokers, and each record is on two of them before it is acknowledged. podtap reads a capture from a
//! pipe, over and over (see `e2e_outages_traffic`). What it should have published is what it makes of the same packets in
//! a file; what arrived is compared with that by id. Each check has a topic of its own:
//!
//! 1. A broker that leads partitions is killed and started again, several times, under load; then leaders are moved while
//!    all brokers are there. With a large spool, nothing is lost.
//! 2. The network between podtap and all brokers is cut. The same.
//! 3. The brokers are frozen, and spool and queues are small: what is dropped is counted exactly.
//! 4. The same with a spool on a full disk, where one can be mounted.
//! 5. The same with bounds as they are by default and without a spool: podtap takes no more memory than they add up to.
//! 6. podtap is killed at random moments. What was in the spool then arrives after the last start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::e2e_outages_traffic::{Ended, Loops, Podtap};
use crate::kafka_cluster::Cluster;
use crate::network_cut::Network;
use crate::process::Signal;
use crate::{e2e_kafka, e2e_live, process, release, workspace};

/// How long to go on.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often a broker is killed and started again
    #[arg(long, default_value_t = 2)]
    restarts: u32,
    /// For how long the network is cut
    #[arg(long, default_value_t = 10)]
    cut_seconds: u64,
    /// How often podtap is killed
    #[arg(long, default_value_t = 10)]
    kills: u32,
    /// An executable with its plugins beside it, to check instead of building the release
    #[arg(long)]
    podtap: Option<PathBuf>,
}

impl Default for Args {
    fn default() -> Args {
        Args { restarts: 2, cut_seconds: 10, kills: 10, podtap: None }
    }
}

/// Kills between two times that podtap is left to deliver what is in its spool.
const KILLS_IN_BLOCK: u32 = 10;
/// Between two repetitions of the capture at an even pace: about 3,000 events a second.
const PACE: Duration = Duration::from_millis(100);
/// Repetitions while the network is cut, at most: what is fed is kept, to be compared with.
const MAX_CUT_REPETITIONS: u64 = 600;
/// A broker takes its time to start on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(180);

/// What publishing to Kafka takes at most by default: docs/limits.md has the sum.
const PUBLISHING_BYTES: u64 = (16 + 82) << 20;

/// A bound that makes the spool needed, and a client that looks for brokers more often than it would.
const LITTLE_MEMORY: [(&str, &str); 1] = [(
    "PODTAP_KAFKA_LIBRDKAFKA_OPTIONS",
    "queue.buffering.max.kbytes=1024,reconnect.backoff.max.ms=500,topic.metadata.refresh.interval.ms=1000",
)];
/// A queue that is soon full where the spool takes nothing. Where it does, this would be too little for a disk that takes
/// a second to force writes out, as one does that builds are using.
const LITTLE_QUEUE: (&str, &str) = ("PODTAP_DELIVERY_QUEUE_BYTES", "1MiB");

/// Runs all checks.
pub(crate) fn run(args: &Args) -> Result<()> {
    let podtap = args.podtap.clone().map_or_else(release::build, Ok)?;
    let python = e2e_kafka::python()?;
    let folder = workspace::target().join("e2e/outages");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let network = match e2e_live::unavailable() {
        None => Some(Network::make()?),
        Some(why) => {
            println!("skipped: a network that is cut: {why}; the brokers are frozen instead");
            None
        }
    };
    let cluster = Cluster::start(network.as_ref().map(|network| network.address.as_str()))?;
    let random = Random(std::process::id().into());
    let (loops, topic) = (Loops::read()?, String::new());
    let mut check = Checks { podtap, python, folder, network, cluster, loops, random, topic };
    check.restarts(args.restarts)?;
    check.cut(Duration::from_secs(args.cut_seconds))?;
    check.small_spool()?;
    check.full_disk()?;
    check.memory()?;
    // A block at a time: what a block leaves behind is delivered and compared before the next one adds to it.
    let (blocks, rest) = (args.kills / KILLS_IN_BLOCK, args.kills % KILLS_IN_BLOCK);
    for block in 0..blocks {
        check.kills(&format!("kills-{block}"), KILLS_IN_BLOCK)?;
    }
    if rest > 0 {
        check.kills("kills-rest", rest)?;
    }
    println!("outages: podtap killed {} times", args.kills);
    Ok(())
}

struct Checks {
    podtap: PathBuf,
    python: PathBuf,
    folder: PathBuf,
    /// Before the brokers, which listen in it.
    network: Option<Network>,
    cluster: Cluster,
    loops: Loops,
    random: Random,
    topic: String,
}

impl Checks {
    fn restarts(&mut self, restarts: u32) -> Result<()> {
        let mut podtap = self.start("restarts", Some("restarts-spool".as_ref()), &LITTLE_MEMORY)?;
        self.loops.feed(&mut podtap, 10, PACE)?;
        for _ in 0..restarts {
            let leader = self.leader()?;
            self.cluster.stop(leader, Signal::Kill)?;
            self.loops.feed(&mut podtap, 30, PACE)?;
            self.cluster.begin(leader)?;
            self.loops.feed_until(&mut podtap, PACE, PATIENCE, || self.cluster.answers(leader))?;
            self.loops.feed(&mut podtap, 10, PACE)?;
        }
        let mut moved = self.python("move-leaders").spawn()?;
        self.loops.feed_until(&mut podtap, PACE, PATIENCE, || Ok(moved.try_wait()?.is_some()))?;
        ensure!(moved.wait()?.success(), "the leaders were not moved");
        self.loops.feed(&mut podtap, 10, PACE)?;
        let ended = podtap.end()?;
        self.compare(&format!("{restarts} restarts of a leader, and leaders moved"), &ended, false)
    }

    fn cut(&mut self, time: Duration) -> Result<()> {
        let mut podtap = self.start("cut", Some("cut-spool".as_ref()), &LITTLE_MEMORY)?;
        self.loops.feed(&mut podtap, 10, PACE)?;
        let what = match &self.network {
            Some(network) => {
                network.cut()?;
                "network namespace cut off"
            }
            None => {
                self.cluster.freeze()?;
                "brokers frozen"
            }
        };
        let pace = PACE.max(time / u32::try_from(MAX_CUT_REPETITIONS)?);
        let end = Instant::now() + time;
        self.loops.feed_until(&mut podtap, pace, time + PATIENCE, || Ok(Instant::now() >= end))?;
        match &self.network {
            Some(network) => network.mend()?,
            None => self.cluster.thaw()?,
        }
        self.loops.feed(&mut podtap, 10, PACE)?;
        let ended = podtap.end()?;
        self.compare(&format!("{what} for {} s", time.as_secs()), &ended, false)
    }

    fn small_spool(&mut self) -> Result<()> {
        let small = [("PODTAP_SPOOL_MAX_BYTES", "4MiB"), ("PODTAP_SPOOL_SEGMENT_BYTES", "1MiB"), LITTLE_QUEUE];
        let settings = [&LITTLE_MEMORY[..], &small[..]].concat();
        let ended = self.frozen("small", Some("small-spool".as_ref()), &settings, 100)?;
        self.compare("brokers frozen, a small spool", &ended, true)
    }

    fn full_disk(&mut self) -> Result<()> {
        let disk = self.folder.join("disk");
        fs::create_dir_all(&disk)?;
        let Some(_mounted) = Mounted::tiny(&disk) else {
            println!("skipped: a spool on a full disk: no file system can be mounted here");
            return Ok(());
        };
        let settings = [&LITTLE_MEMORY[..], &[LITTLE_QUEUE]].concat();
        let ended = self.frozen("full", Some("disk/spool".as_ref()), &settings, 100)?;
        self.compare("brokers frozen, the spool's disk full", &ended, true)
    }

    /// As much waits as may by default, in the queue and in librdkafka.
    fn memory(&mut self) -> Result<()> {
        let without = self.capture("without");
        self.loops.record(&without)?;
        let mut command = release::command(&self.podtap);
        command.args(["replay", "-", "--output", "msgpack", "--output-file", "/dev/null"]);
        let mut podtap = Podtap::start(&mut command, &self.loops.header, self.folder.join("without.log"))?;
        self.loops.feed(&mut podtap, 50, PACE / 5)?;
        let bound = podtap.peak_at_end()? + PUBLISHING_BYTES;
        fs::remove_file(without)?;
        let ended = self.frozen("memory", None, &[], 400)?;
        let (peak, bound) = (ended.peak_bytes >> 20, bound >> 20);
        ensure!(peak <= bound, "{peak} MiB of memory, where the bounds add up to {bound} MiB");
        println!("outages: {peak} MiB of memory, where the bounds add up to {bound} MiB");
        self.compare("brokers frozen, bounds as by default", &ended, true)
    }

    /// Traffic that finds little room while the brokers are frozen.
    fn frozen(&mut self, name: &str, spool: Option<&Path>, settings: &[(&str, &str)], loops: u32) -> Result<Ended> {
        let mut podtap = self.start(name, spool, settings)?;
        self.loops.feed(&mut podtap, 5, PACE)?;
        self.cluster.freeze()?;
        let fed = self.loops.feed(&mut podtap, loops, PACE / 5);
        self.cluster.thaw()?;
        fed?;
        self.loops.feed(&mut podtap, 5, PACE)?;
        podtap.end()
    }

    fn kills(&mut self, name: &str, kills: u32) -> Result<()> {
        let (spool, ids) = (self.folder.join(format!("{name}-spool")), self.folder.join(format!("{name}.ids")));
        for kill in 0..kills {
            let mut podtap = self.start(name, Some(&spool), &LITTLE_MEMORY)?;
            // Every other time nothing is acknowledged in between.
            let is_frozen = kill % 2 == 1;
            if is_frozen {
                self.cluster.freeze()?;
            }
            let moment = Instant::now() + Duration::from_millis(100 + self.random.below(900));
            let pace = Duration::from_millis(10);
            let fed = self.loops.feed_until(&mut podtap, pace, PATIENCE, || Ok(Instant::now() >= moment));
            podtap.kill()?;
            if is_frozen {
                self.cluster.thaw()?;
            }
            fed?;
            let mut spooled = Command::new(&self.python);
            spooled.arg(workspace::root().join("xtask/e2e/outages.py")).arg("spooled");
            process::run(spooled.arg("--spool").arg(&spool).arg("--ids").arg(&ids))?;
        }
        ensure!(fs::metadata(&ids)?.len() > 0, "the spool was empty at every kill, so nothing is shown");
        let mut last = self.start(name, Some(&spool), &LITTLE_MEMORY)?;
        self.loops.feed(&mut last, 1, PACE)?;
        let dropped = last.end()?.dropped;
        ensure!(dropped == 0, "{dropped} events were not delivered");
        let left = fs::read_dir(&spool)?.count();
        ensure!(left == 1, "{} segments are left", left - 1);
        let events = self.events(name)?;
        process::run(self.python("contains").arg("--events").arg(&events).arg("--ids").arg(ids))?;
        fs::remove_file(events)?;
        Ok(fs::remove_file(self.capture(name))?)
    }

    /// podtap with a pipe and a topic; what a check feeds it goes into a file of that name as well. The spool lies in the
    /// check's folder.
    fn start(&mut self, name: &str, spool: Option<&Path>, settings: &[(&str, &str)]) -> Result<Podtap> {
        self.topic = format!("outages-{name}");
        self.loops.record(&self.capture(name))?;
        let through_network = (name == "cut").then_some(self.network.as_ref()).flatten();
        let mut command = match through_network {
            Some(network) => network.within(&self.podtap),
            None => release::command(&self.podtap),
        };
        let brokers = through_network.and_then(|_| self.cluster.outside_addresses());
        let brokers = brokers.unwrap_or_else(|| self.cluster.addresses());
        command.args(["replay", "-", "--kafka-brokers", &brokers, "--kafka-topic", &self.topic]);
        command.envs(settings.iter().copied());
        if let Some(spool) = spool {
            command.env("PODTAP_SPOOL_DIRECTORY", self.folder.join(spool));
        }
        Podtap::start(&mut command, &self.loops.header, self.folder.join(format!("{name}.log")))
    }

    fn capture(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pcap"))
    }

    /// What podtap makes of all that a check has fed.
    fn events(&mut self, name: &str) -> Result<PathBuf> {
        let events = self.folder.join(format!("{name}.jsonl"));
        let mut replay = release::command(&self.podtap);
        replay.arg("replay").arg(self.capture(name)).args(["--output", "json", "--output-file"]).arg(&events);
        process::output(&mut replay)?;
        Ok(events)
    }

    /// Are the events of this check's topic those that it fed, but for those that podtap counts as dropped?
    fn compare(&mut self, what: &str, ended: &Ended, drops: bool) -> Result<()> {
        let Ended { dropped, peak_bytes, hand_over } = ended;
        match drops {
            true => ensure!(*dropped > 0, "{what}: nothing was dropped, so nothing is shown"),
            false => ensure!(*dropped == 0, "{what}: {dropped} events were not delivered, with room in the spool"),
        }
        println!("outages: {what}: at most {} MiB of memory, {hand_over}", peak_bytes >> 20);
        let name = self.topic.trim_start_matches("outages-").to_owned();
        let events = self.events(&name)?;
        process::run(self.python("compare").arg("--events").arg(&events).args(["--dropped", &dropped.to_string()]))?;
        hand_over.check()?;
        // Hundreds of megabytes, which nobody reads any more.
        fs::remove_file(events)?;
        Ok(fs::remove_file(self.capture(&name))?)
    }

    /// The broker that leads most partitions of this check's topic.
    fn leader(&self) -> Result<usize> {
        let id: usize = process::output(&mut self.python("leader"))?.trim().parse()?;
        id.checked_sub(1).context("ids begin with 1")
    }

    fn python(&self, task: &str) -> Command {
        let mut python = Command::new(&self.python);
        python.arg(workspace::root().join("xtask/e2e/outages.py")).arg(task);
        python.args(["--brokers", &self.cluster.addresses(), "--topic", &self.topic]);
        python
    }
}

/// A file system of 1 MiB in memory, gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn tiny(at: &Path) -> Option<Mounted> {
        if !process::can_be_privileged() {
            return None;
        }
        let mut mount = process::privileged("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=0777", "tmpfs"]).arg(at);
        process::captured(&mut mount).ok()?.status.success().then(|| Mounted(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = process::output(process::privileged("umount").arg(&self.0)) {
            eprintln!("{} is still mounted: {error:#}", self.0.display());
        }
    }
}

/// Xorshift (Marsaglia 2003): kills come at other moments each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
