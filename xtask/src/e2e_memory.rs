//! `cargo xtask e2e memory`: does podtap stay within the memory of its pod, whatever the traffic and its decoders do?
//!
//! It runs in a control group, where the kernel kills what takes more than its bound. It reads captures that are made to
//! cost it most (`hostile_traffic`), all of them together, captures of others where `PODTAP_CAPTURES` has them, and one that
//! orders a hostile decoder (host/tests/guests/misbehave) to do its worst. That with no configuration at all, in each of
//! [`LIMITS_MIB`]; and in each from a pipe while Kafka is away, so that as much waits as may. In the least also live, on the
//! loopback interface.
//!
//! It may neither be killed nor panic, and every packet and every byte has to be in one place.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cgroup::Cgroup;
use crate::hostile_traffic::{self, Capture};
use crate::process::{self, Running, Signal};
use crate::{release, sums, workspace};

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What podtap's memory is limited to, in MiB, one run each
    #[arg(long, value_delimiter = ',', default_values_t = LIMITS_MIB)]
    limits_mib: Vec<u64>,
    /// An executable with `plugins` and `test-plugins` beside it, to check instead of building the release
    #[arg(long)]
    podtap: Option<PathBuf>,
}

impl Args {
    /// The least only.
    pub(crate) fn least() -> Args {
        Args { limits_mib: LIMITS_MIB.into_iter().min().into_iter().collect(), podtap: None }
    }
}

/// What deploy/ gives a sidecar, and those from which on podtap lowers its bounds (docs/limits.md).
const LIMITS_MIB: [u64; 3] = [256, 128, 64];

/// Connections of the live check, each with a request of so many bytes without an end.
const LIVE_CONNECTIONS: usize = 400;
const LIVE_BYTES: usize = 60_000;

/// Runs all checks.
pub(crate) fn run(args: &Args) -> Result<()> {
    let podtap = args.podtap.clone().map_or_else(release::build, Ok)?;
    let folder = workspace::target().join("e2e/memory");
    fs::create_dir_all(&folder)?;
    let mut inputs = Vec::new();
    for (name, what, write) in hostile_traffic::CASES {
        let file = folder.join(name).with_extension("pcap");
        let mut capture = Capture::create(&file)?;
        write(&mut capture)?;
        inputs.push(Input {
            what: what.to_owned(),
            files: vec![file],
            packets: Some(capture.finish()?),
            decoders: None,
        });
    }
    let file = folder.join("orders.pcap");
    let mut capture = Capture::create(&file)?;
    hostile_traffic::orders(&mut capture)?;
    let decoders = podtap.with_file_name("test-plugins");
    ensure!(decoders.join("misbehave.wasm").is_file(), "no misbehave.wasm in {}", decoders.display());
    let decoders = Some(decoders);
    let what = "a decoder that loops, hoards, recurses and floods, over and over".to_owned();
    inputs.push(Input { what, files: vec![file], packets: Some(capture.finish()?), decoders });
    match std::env::var_os("PODTAP_CAPTURES") {
        Some(captures) => {
            let mut files = Vec::new();
            find(Path::new(&captures), &mut files)?;
            let what = format!("{} captures of others", files.len());
            inputs.push(Input { what, files, packets: None, decoders: None });
        }
        None => println!("skipped: memory: captures of others: PODTAP_CAPTURES is not set"),
    }
    for &limit_mib in &args.limits_mib {
        let limit = Limit { mib: limit_mib };
        let mut most = 0;
        for input in &inputs {
            most = most.max(limit.replay(&podtap, input, &folder)?);
        }
        most = most.max(limit.without_kafka(&podtap, &folder)?);
        println!("memory: at most {} of {limit_mib} MiB", mebibytes(most));
    }
    if let Some(&mib) = args.limits_mib.iter().min() {
        Limit { mib }.live(&podtap, &folder)?;
    }
    // Half a gigabyte, which is made anew in seconds.
    Ok(fs::remove_dir_all(folder)?)
}

/// What podtap reads.
struct Input {
    what: String,
    files: Vec<PathBuf>,
    /// Packets in the files, where they are known.
    packets: Option<u64>,
    /// A folder of further decoders.
    decoders: Option<PathBuf>,
}

/// What podtap may take.
#[derive(Clone, Copy)]
struct Limit {
    mib: u64,
}

impl Limit {
    fn group(self) -> Result<Cgroup> {
        Cgroup::make("memory", Some(self.mib << 20), None)
    }

    fn command(self, group: &Cgroup, podtap: &Path) -> Command {
        let mut command = group.command(podtap);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PODTAP_")) {
            command.env_remove(name);
        }
        command
    }

    /// The most memory that the group had.
    fn replay(self, podtap: &Path, input: &Input, folder: &Path) -> Result<u64> {
        let group = self.group()?;
        let mut command = self.command(&group, podtap);
        command
            .args(["replay", "--connections", "--output", "msgpack", "--output-file", "/dev/null"])
            .args(&input.files);
        if let Some(decoders) = &input.decoders {
            // It is to go on whatever it does.
            command.arg("--plugins").arg(decoders).env("PODTAP_DECODER_FAILURES_ALLOWED", "1000000");
        }
        let output = process::captured(&mut command)?;
        let said = String::from_utf8_lossy(&output.stderr);
        let log = folder.join("podtap.log");
        fs::write(&log, &output.stderr)?;
        let what = format!("{}, {} MiB: see {}", input.what, self.mib, workspace::short(&log));
        let peak = group.peak_bytes()?;
        ensure!(group.kills()? == 0, "the kernel killed podtap for its memory, at {} MiB: {what}", mebibytes(peak));
        // Captures of others are damaged in part, which is 1.
        let expected = if input.packets.is_some() { 0..=0 } else { 0..=1 };
        ensure!(output.status.code().is_some_and(|code| expected.contains(&code)), "{}: {what}", output.status);
        ensure!(!sums::has_panicked(&said), "it panicked: {what}");
        let counts = sums::summary_adds_up(&said).context(what.clone())?;
        let packets = counts.get("packets").copied();
        ensure!(input.packets.is_none() || packets == input.packets, "{packets:?} packets: {what}");
        println!("memory: {} MiB of {}: {}", mebibytes(peak), self.mib, input.what);
        Ok(peak)
    }

    /// What costs most, as live traffic, with a Kafka that is not there.
    fn without_kafka(self, podtap: &Path, folder: &Path) -> Result<u64> {
        let (group, log) = (self.group()?, folder.join("podtap.log"));
        let mut command = self.command(&group, podtap);
        let nobody = format!("127.0.0.1:{}", process::free_port()?);
        command.args(["replay", "-", "--connections", "--kafka-topic", "memory", "--kafka-brokers", &nobody]);
        command.env("PODTAP_DELIVERY_TRAFFIC", "live").env("PODTAP_DELIVERY_SHUTDOWN_GRACE", "1s");
        command.stdin(File::open(folder.join("together.pcap"))?);
        let output = command.stdout(Stdio::null()).output()?;
        fs::write(&log, &output.stderr)?;
        let (said, peak) = (String::from_utf8_lossy(&output.stderr), group.peak_bytes()?);
        let see = || format!("{} MiB, {}, see {}", mebibytes(peak), output.status, workspace::short(&log));
        // 1: events were not delivered.
        ensure!(group.kills()? == 0 && output.status.code() == Some(1) && !sums::has_panicked(&said), see());
        let counts = sums::summary_adds_up(&said).with_context(see)?;
        let sum =
            |name: &str| counts.iter().filter(|(of, _)| of.starts_with(name)).map(|(_, count)| count).sum::<u64>();
        let events = sum("exchanges") + sum("connection events");
        ensure!(
            events == sum("not delivered: "),
            "{events} events, {} not delivered: {}",
            sum("not delivered: "),
            see()
        );
        println!("memory: {} MiB of {}: most of these at once, without Kafka", mebibytes(peak), self.mib);
        Ok(peak)
    }

    /// Live, on the loopback interface: many requests at once without an end.
    fn live(self, podtap: &Path, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        let (group, log) = (self.group()?, folder.join("live.log"));
        let mut command = self.command(&group, podtap);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        command.args(["run", "--interface", "lo", "--filter", &format!("tcp port {port}"), "--connections"]);
        command.args(["--output", "msgpack", "--output-file", "/dev/null"]).env("PODTAP_LOG_FORMAT", "json");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let mut podtap = Running::start(&mut command)?;
        let said = || fs::read_to_string(&log).unwrap_or_default();
        podtap.wait_until(Duration::from_secs(60), || said().contains("\"capturing\""))?;
        let mut connections = Vec::new();
        for _ in 0..LIVE_CONNECTIONS {
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            client.write_all(b"GET / HTTP/1.1\r\nX-Endless: ")?;
            connections.push((client, listener.accept()?.0));
        }
        let part = vec![b'a'; LIVE_BYTES];
        for (client, server) in &mut connections {
            // What is not read fills the kernel's buffers, which hold this much.
            client.write_all(&part)?;
            server.set_nonblocking(true)?;
        }
        std::thread::sleep(Duration::from_secs(2));
        drop(connections);
        std::thread::sleep(Duration::from_secs(1));
        podtap.stop(Signal::Terminate)?;
        let (peak, kills) = (group.peak_bytes()?, group.kills()?);
        ensure!(kills == 0 && !sums::has_panicked(&said()), "killed or panicked, see {}", workspace::short(&log));
        let counts = sums::summary_adds_up(&said())?;
        // All at once is more than the kernel keeps for podtap: what it dropped is known by what was acknowledged.
        let count = |name: &str| counts.get(name).copied().unwrap_or(0);
        let seen = count("payload bytes") + count("acknowledged gap bytes");
        let sent = (LIVE_CONNECTIONS * LIVE_BYTES) as u64;
        ensure!(seen >= sent, "{seen} of {sent} bytes seen or missed, see {}", workspace::short(&log));
        println!(
            "memory: {} MiB of {}, live: {LIVE_CONNECTIONS} HTTP requests at once without an end",
            mebibytes(peak),
            self.mib
        );
        Ok(())
    }
}

/// Capture files in a folder and those below.
fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "pcap" || ending == "pcapng" || ending == "cap") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
