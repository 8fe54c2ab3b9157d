//! What `cargo xtask e2e outages` feeds podtap, and podtap while it is fed.
//!
//! The shipped capture comes over and over through a pipe, each time with later times, so that connections and ids are
//! new.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::{self, Signal};
use crate::workspace;

/// By which times are later from one repetition to the next: longer than any connection is kept.
const SHIFT_SECONDS: u32 = 4000;

/// A run of podtap that reads from a pipe.
pub(crate) struct Podtap {
    child: Child,
    input: Option<ChildStdin>,
    errors: PathBuf,
    /// The most memory so far.
    peak_bytes: u64,
}

/// What a run says at its end.
pub(crate) struct Ended {
    /// Events that were not delivered.
    pub(crate) dropped: u64,
    /// The most memory that it had (`VmHWM`).
    pub(crate) peak_bytes: u64,
    /// How long the thread that decodes took to hand over chunks of events.
    pub(crate) hand_over: HandOver,
}

/// As podtap logs it.
pub(crate) struct HandOver {
    chunks: u64,
    /// For 99 of 100 it was less.
    p99: Duration,
    longest: Duration,
    /// Bounds and counts.
    histogram: String,
}

impl Podtap {
    /// Starts a command that reads a capture from its standard input; its log goes to `errors`.
    pub(crate) fn start(command: &mut Command, header: &[u8], errors: PathBuf) -> Result<Podtap> {
        command.env("PODTAP_LOG_LEVEL", "debug").env("PODTAP_LOG_FORMAT", "json");
        let mut child = command.stdin(Stdio::piped()).stderr(File::create(&errors)?).spawn()?;
        let mut input = child.stdin.take().context("standard input is piped")?;
        input.write_all(header)?;
        Ok(Podtap { child, input: Some(input), errors, peak_bytes: 0 })
    }

    /// Of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends its input and waits. It has to deliver all that it does not count as lost.
    pub(crate) fn end(mut self) -> Result<Ended> {
        self.wait()?;
        let said = fs::read_to_string(&self.errors)?;
        let see = || format!("see {}", workspace::short(&self.errors));
        ensure!(said.contains("  exchanges\n"), "podtap ended without a summary, {}", see());
        ensure!(!said.contains("left in the spool"), "events were left in the spool, {}", see());
        let counts = said.lines().filter(|line| line.contains("  not delivered: "));
        let count = |line: &str| line.split_whitespace().next()?.parse::<u64>().ok();
        let dropped = counts.map(|line| count(line).context("a count begins its line")).sum::<Result<_>>()?;
        let hand_over = said.lines().rev().find_map(HandOver::of_line).with_context(see)?;
        Ok(Ended { dropped, peak_bytes: self.peak_bytes, hand_over })
    }

    /// Ends its input and waits; the most memory that it had.
    pub(crate) fn peak_at_end(mut self) -> Result<u64> {
        self.wait()?;
        Ok(self.peak_bytes)
    }

    fn wait(&mut self) -> Result<()> {
        drop(self.input.take());
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > Duration::from_secs(120) {
                bail!("podtap does not end, see {}", workspace::short(&self.errors));
            }
            self.look();
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends it without a word.
    pub(crate) fn kill(mut self) -> Result<()> {
        process::send(Signal::Kill, self.child.id())?;
        self.child.wait()?;
        Ok(())
    }

    /// Looks at its memory. That is gone with the process, so the last look is shortly before.
    fn look(&mut self) {
        self.peak_bytes = self.peak_bytes.max(memory_bytes(self.child.id(), "VmHWM").unwrap_or(0));
    }
}

/// What a process says of its memory, by the name that proc_pid_status(5) has for it; none where it has ended.
pub(crate) fn memory_bytes(process: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

impl Drop for Podtap {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl HandOver {
    /// Of a line of the log.
    fn of_line(line: &str) -> Option<HandOver> {
        let line: Value = serde_json::from_str(line).ok()?;
        let fields = line.get("fields").unwrap_or(&line);
        let number = |name: &str| fields.get(name).and_then(Value::as_u64);
        let histogram = fields.get("histogram")?.as_str()?.to_owned();
        Some(HandOver {
            chunks: number("chunks")?,
            p99: Duration::from_nanos(number("p99_ns")?),
            longest: Duration::from_nanos(number("longest_ns")?),
            histogram,
        })
    }

    /// An error unless handing over was a matter of a moment each time. A thread that waits for a broker, a disk or room
    /// would wait for as long as they are away, which is seconds. One that other programs keep from running for a while,
    /// on a machine with more of them than cores, does not wait.
    pub(crate) fn check(&self) -> Result<()> {
        let (p99, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        ensure!(self.p99 <= p99 && self.longest < longest, "the thread that decodes had to wait: {self}");
        Ok(())
    }
}

impl std::fmt::Display for HandOver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let HandOver { chunks, p99, longest, histogram } = self;
        write!(formatter, "{chunks} chunks handed over, 99 % within {p99:?}, the longest {longest:?} ({histogram})")
    }
}

/// The shipped capture, as often as it is wanted.
pub(crate) struct Loops {
    pub(crate) header: Vec<u8>,
    packets: Vec<u8>,
    /// Repetitions so far, in all checks.
    count: u32,
    record: Option<(PathBuf, File)>,
}

impl Loops {
    /// Reads it.
    pub(crate) fn read() -> Result<Loops> {
        let capture = fs::read(workspace::http_captures().join("nginx-tour.pcap"))?;
        ensure!(capture.starts_with(&0xa1b2_c3d4_u32.to_le_bytes()), "the capture is no little-endian pcap file");
        let (header, packets) = capture.split_at(24);
        Ok(Loops { header: header.to_owned(), packets: packets.to_owned(), count: 0, record: None })
    }

    /// What is fed from now on goes into this file, too, behind what is there from the same check.
    pub(crate) fn record(&mut self, path: &Path) -> Result<()> {
        if self.record.as_ref().is_none_or(|(before, _)| before != path) {
            let mut file = File::create(path)?;
            file.write_all(&self.header)?;
            self.record = Some((path.to_owned(), file));
        }
        Ok(())
    }

    /// Feeds some repetitions.
    pub(crate) fn feed(&mut self, podtap: &mut Podtap, repetitions: u32, pace: Duration) -> Result<()> {
        for _ in 0..repetitions {
            self.once(podtap)?;
            std::thread::sleep(pace);
        }
        Ok(())
    }

    /// Feeds on until `done` says so; an error after `limit`.
    pub(crate) fn feed_until(
        &mut self,
        podtap: &mut Podtap,
        pace: Duration,
        limit: Duration,
        mut done: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let start = Instant::now();
        while !done()? {
            ensure!(start.elapsed() < limit, "what was waited for did not come within {} s", limit.as_secs());
            self.once(podtap)?;
            std::thread::sleep(pace);
        }
        Ok(())
    }

    fn once(&mut self, podtap: &mut Podtap) -> Result<()> {
        self.count += 1;
        let packets = self.shifted()?;
        let (_, record) = self.record.as_mut().context("a check has a file")?;
        record.write_all(&packets)?;
        podtap.look();
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
