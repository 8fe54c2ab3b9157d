//! `cargo xtask e2e outages`: does every event arrive at a real Apache Kafka, or is it counted, while brokers go away and
//! podtap is killed?
//!
//! podtap reads a capture from a pipe, over and over, each time with later times, so that connections and ids are new.
//! What it should have published is what it makes of the same packets in a file. Four checks, each with a topic of its
//! own:
//!
//! 1. The broker is killed several times and started again, and once frozen: its connections stay open and nothing is
//!    answered, as when a network is cut. With a large spool, nothing is lost.
//! 2. The broker is frozen, and spool and queues are small: what is dropped is counted exactly.
//! 3. The same with a spool on a full disk, where one can be mounted.
//! 4. podtap is killed at random moments. What was in the spool then arrives after the last start.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, Signal};
use crate::{e2e_kafka, kafka, release, workspace};

/// How long to go on.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often the broker is killed
    #[arg(long, default_value_t = 2)]
    outages: u32,
    /// How often podtap is killed
    #[arg(long, default_value_t = 10)]
    kills: u32,
}

impl Default for Args {
    fn default() -> Args {
        Args { outages: 2, kills: 10 }
    }
}

/// Between two repetitions of the capture at an even pace: about 3,000 events a second.
const PACE: Duration = Duration::from_millis(100);
/// By which times are later from one repetition to the next: longer than any connection is kept.
const SHIFT_SECONDS: u32 = 4000;

/// Runs all checks.
pub(crate) fn run(args: &Args) -> Result<()> {
    let podtap = release::build()?;
    let python = e2e_kafka::python()?;
    let folder = workspace::target().join("e2e/outages");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    // So that one that was killed may soon come back under its number.
    let properties = "broker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=500\n".to_owned();
    let broker = kafka::Victim::start(&kafka::Extra { properties, ..kafka::Extra::default() })?;
    let mut check = Checks { podtap, python, folder, broker, loops: Loops::read()?, topic: String::new() };
    check.outages(args.outages)?;
    check.small_spool()?;
    check.full_disk()?;
    check.kills(args.kills)
}

struct Checks {
    podtap: PathBuf,
    python: PathBuf,
    folder: PathBuf,
    broker: kafka::Victim,
    loops: Loops,
    topic: String,
}

impl Checks {
    fn outages(&mut self, outages: u32) -> Result<()> {
        let mut podtap = self.start("outages", &self.folder.join("outages-spool"), &[])?;
        for _ in 0..outages {
            self.loops.feed(&mut podtap, 15, PACE)?;
            self.broker.kill()?;
            self.loops.feed(&mut podtap, 15, PACE)?;
            self.broker.revive()?;
        }
        self.broker.freeze()?;
        self.loops.feed(&mut podtap, 30, PACE)?;
        self.broker.thaw()?;
        self.loops.feed(&mut podtap, 5, PACE)?;
        let dropped = podtap.end()?;
        ensure!(dropped == 0, "{dropped} events were not delivered, with room for all of them in the spool");
        self.compare("outages", dropped)
    }

    fn small_spool(&mut self) -> Result<()> {
        let little = [("PODTAP_SPOOL_MAX_BYTES", "4MiB"), ("PODTAP_SPOOL_SEGMENT_BYTES", "1MiB")];
        let dropped = self.frozen("small", &self.folder.join("small-spool"), &little)?;
        ensure!(dropped > 0, "nothing was dropped, so nothing is shown");
        self.compare("small", dropped)
    }

    fn full_disk(&mut self) -> Result<()> {
        let disk = self.folder.join("disk");
        fs::create_dir_all(&disk)?;
        let Some(_mounted) = Mounted::tiny(&disk) else {
            println!("skipped: a spool on a full disk: no file system can be mounted here");
            return Ok(());
        };
        let dropped = self.frozen("disk", &disk.join("spool"), &[])?;
        ensure!(dropped > 0, "nothing was dropped, so the disk was not full");
        self.compare("disk", dropped)
    }

    /// Traffic that finds little room while the broker is frozen; returns what was dropped of it.
    fn frozen(&mut self, name: &str, spool: &Path, settings: &[(&str, &str)]) -> Result<u64> {
        let mut podtap = self.start(name, spool, settings)?;
        self.loops.feed(&mut podtap, 5, PACE)?;
        self.broker.freeze()?;
        self.loops.feed(&mut podtap, 100, PACE / 5)?;
        self.broker.thaw()?;
        self.loops.feed(&mut podtap, 5, PACE)?;
        podtap.end()
    }

    fn kills(&mut self, kills: u32) -> Result<()> {
        let (spool, ids) = (self.folder.join("kills-spool"), self.folder.join("kills.ids"));
        let mut random = Random(std::process::id().into());
        for kill in 0..kills {
            let mut podtap = self.start("kills", &spool, &[])?;
            // Every other time nothing is acknowledged in between.
            let is_frozen = kill % 2 == 1;
            if is_frozen {
                self.broker.freeze()?;
            }
            let moment = Instant::now() + Duration::from_millis(100 + random.below(900));
            let killed = self.loops.feed_until(&mut podtap, moment);
            podtap.kill()?;
            if is_frozen {
                self.broker.thaw()?;
            }
            killed?;
            let mut spooled = Command::new(&self.python);
            spooled.arg(workspace::root().join("xtask/e2e/outages.py")).arg("spooled");
            process::run(spooled.arg("--spool").arg(&spool).arg("--ids").arg(&ids))?;
        }
        ensure!(fs::metadata(&ids)?.len() > 0, "the spool was empty at every kill, so nothing is shown");
        let mut last = self.start("kills", &spool, &[])?;
        self.loops.feed(&mut last, 1, PACE)?;
        let dropped = last.end()?;
        ensure!(dropped == 0, "{dropped} events were not delivered");
        let left = fs::read_dir(&spool)?.count();
        ensure!(left == 1, "{} segments are left", left - 1);
        let events = self.events("kills")?;
        process::run(self.python("contains").arg("--events").arg(events).arg("--ids").arg(ids))
    }

    /// podtap with a pipe, a topic and a spool; what a check feeds it goes into a file of that name as well.
    fn start(&mut self, name: &str, spool: &Path, settings: &[(&str, &str)]) -> Result<Podtap> {
        self.topic = format!("outages-{name}");
        self.loops.record(&self.capture(name))?;
        let mut command = release::command(&self.podtap);
        command.args(["replay", "-", "--kafka-brokers", self.broker.address(), "--kafka-topic", &self.topic]);
        command.env("PODTAP_SPOOL_DIRECTORY", spool).envs(settings.iter().copied());
        // Little memory, so that the spool is needed.
        command.env("PODTAP_DELIVERY_QUEUE_BYTES", "1MiB");
        command.env(
            "PODTAP_KAFKA_LIBRDKAFKA_OPTIONS",
            "queue.buffering.max.kbytes=1024,reconnect.backoff.max.ms=500,topic.metadata.refresh.interval.ms=1000",
        );
        let errors = self.folder.join(format!("{name}.log"));
        let mut child = command.stdin(Stdio::piped()).stderr(File::create(&errors)?).spawn()?;
        let mut input = child.stdin.take().context("standard input is piped")?;
        input.write_all(&self.loops.header)?;
        Ok(Podtap { child, input: Some(input), errors })
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

    fn compare(&mut self, name: &str, dropped: u64) -> Result<()> {
        let events = self.events(name)?;
        process::run(self.python("compare").arg("--events").arg(events).args(["--dropped", &dropped.to_string()]))
    }

    fn python(&self, task: &str) -> Command {
        let mut python = Command::new(&self.python);
        python.arg(workspace::root().join("xtask/e2e/outages.py")).arg(task);
        python.args(["--brokers", self.broker.address(), "--topic", &self.topic]);
        python
    }
}

/// A run of podtap that reads from a pipe.
struct Podtap {
    child: Child,
    input: Option<ChildStdin>,
    errors: PathBuf,
}

impl Podtap {
    /// Ends its input and waits; returns how many events it says were not delivered.
    fn end(mut self) -> Result<u64> {
        drop(self.input.take());
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > Duration::from_secs(60) {
                bail!("podtap does not end, see {}", workspace::short(&self.errors));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let said = fs::read_to_string(&self.errors)?;
        ensure!(
            said.contains("  exchanges\n"),
            "podtap ended without a summary, see {}",
            workspace::short(&self.errors)
        );
        ensure!(!said.contains("left in the spool"), "events were left in the spool:\n{said}");
        let counts = said.lines().filter(|line| line.contains("  not delivered: "));
        let count = |line: &str| line.split_whitespace().next()?.parse::<u64>().ok();
        counts.map(|line| count(line).context("a count begins its line")).sum()
    }

    fn kill(mut self) -> Result<()> {
        process::send(Signal::Kill, self.child.id())?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Podtap {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The shipped capture, as often as it is wanted.
struct Loops {
    header: Vec<u8>,
    packets: Vec<u8>,
    /// Repetitions so far, in all checks.
    count: u32,
    record: Option<(PathBuf, File)>,
}

impl Loops {
    fn read() -> Result<Loops> {
        let capture = fs::read(workspace::http_captures().join("nginx-tour.pcap"))?;
        ensure!(capture.starts_with(&0xa1b2_c3d4_u32.to_le_bytes()), "the capture is no little-endian pcap file");
        let (header, packets) = capture.split_at(24);
        Ok(Loops { header: header.to_owned(), packets: packets.to_owned(), count: 0, record: None })
    }

    /// What is fed from now on goes into this file, too, behind what is there from the same check.
    fn record(&mut self, path: &Path) -> Result<()> {
        if self.record.as_ref().is_none_or(|(before, _)| before != path) {
            let mut file = File::create(path)?;
            file.write_all(&self.header)?;
            self.record = Some((path.to_owned(), file));
        }
        Ok(())
    }

    /// Feeds some repetitions.
    fn feed(&mut self, podtap: &mut Podtap, repetitions: u32, pace: Duration) -> Result<()> {
        for _ in 0..repetitions {
            self.once(podtap)?;
            std::thread::sleep(pace);
        }
        Ok(())
    }

    fn feed_until(&mut self, podtap: &mut Podtap, moment: Instant) -> Result<()> {
        while Instant::now() < moment {
            self.once(podtap)?;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn once(&mut self, podtap: &mut Podtap) -> Result<()> {
        self.count += 1;
        let packets = self.shifted()?;
        let (_, record) = self.record.as_mut().context("a check has a file")?;
        record.write_all(&packets)?;
        podtap.input.as_mut().context("the input is open")?.write_all(&packets).context("podtap reads no more")
    }

    /// The packets with later times: a record's header is seconds, fraction, length in the file, length on the wire.
    fn shifted(&self) -> Result<Vec<u8>> {
        let (mut packets, mut at) = (self.packets.clone(), 0);
        while at < packets.len() {
            let number =
                |at: usize| packets.get(at..).and_then(|rest| rest.first_chunk()).map(|it| u32::from_le_bytes(*it));
            let (seconds, length) = number(at).zip(number(at + 8)).context("the capture is cut")?;
            let later = seconds.wrapping_add(self.count * SHIFT_SECONDS);
            packets[at..at + 4].copy_from_slice(&later.to_le_bytes());
            at += 16 + length as usize;
        }
        Ok(packets)
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
