//! `cargo xtask e2e chaos`: does podtap go on through what goes wrong around it, and is everything counted?
//!
//! In each check nothing panics, every packet and every byte is in one place at the end, and what comes after the disturbance
//! is seen as if there had been none. Chance is by a seed, which is printed: `--seed` repeats a run.
//!
//! | what goes wrong | where it is shown |
//! |---|---|
//! | packets lost, out of order, twice, with other bytes, cut (snaplen) | here, `damaged`; pairs under losses: `e2e losses` |
//! | a capture file that is cut, or has nonsense for a packet's length | here, `damaged_files`; each by itself: host/tests/bad_input.rs |
//! | a clock that jumps, back and far ahead | here, `damaged` |
//! | an interface that goes away and comes back | `e2e live` |
//! | more traffic than podtap can take | `e2e live` (`e2e_live_overload`) |
//! | no file descriptors left | here, `descriptors` |
//! | decoders deleted while they are used, and put back | here, `decoders`; changed a thousand times: host/tests/reload.rs |
//! | decoders that loop, hoard, trap, lie | host/tests/hostile.rs, host/tests/sandbox.rs; in little memory: `e2e memory` |
//! | a twentieth of a core | here, `throttled` |
//! | little memory | `e2e memory` |
//! | a disk that is full, brokers that are killed, cut off, frozen; podtap killed | `e2e outages` |
//! | brokers that refuse, or lose a topic | host/tests/publish_live.rs |
//! | something that is no broker, and answers nonsense | here, `nonsense_for_a_broker` |

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cgroup::{self, Cgroup};
use crate::e2e_page::address;
use crate::{process, release, sums, workspace};

/// How much.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Damaged captures of each kind
    #[arg(long, default_value_t = 10)]
    rounds: u64,
    /// Of what is random; without it another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// An executable with its plugins beside it, to check instead of building the release
    #[arg(long)]
    podtap: Option<PathBuf>,
}

impl Default for Args {
    fn default() -> Args {
        Args { rounds: 3, seed: None, podtap: None }
    }
}

/// Captures that are damaged; each has one link type, and times in microseconds.
const CAPTURES: [&str; 3] = [
    "http/tests/captures/nginx-tour.pcap",
    "mysql/tests/captures/session.pcap",
    "mongodb/tests/captures/pymongo-plain.pcap",
];

/// When the whole capture comes behind a damaged one, Unix seconds, and how times of that year begin. No jump of a clock
/// leads there, so that its exchanges are known by their time.
const AFTERWARDS: (u32, &str) = (3_800_000_000, "2090-");

/// From one time that a capture is fed to the next: longer than any connection is remembered.
const SHIFT_SECONDS: u32 = 4000;

/// What is waited for comes within this, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs all checks.
pub(crate) fn run(args: &Args) -> Result<()> {
    let podtap = args.podtap.clone().map_or_else(release::build, Ok)?;
    let folder = workspace::target().join("e2e/chaos");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let seed = args.seed.unwrap_or_else(|| std::process::id().into());
    println!("chaos: --seed {seed}");
    // Never 0, from which nothing random comes.
    let mut check = Checks { podtap, folder, random: Random(seed.wrapping_mul(2) + 1) };
    for capture in CAPTURES {
        let file = workspace::root().join("plugins").join(capture);
        let whole = Records::read(&file)?;
        let events = check.replay(&[&file], "whole", "")?;
        for damage in Damage::ALL {
            for _ in 0..args.rounds {
                check.damaged(&whole, damage, events)?;
            }
        }
        check.damaged_files(&file, events)?;
        println!(
            "chaos: {capture}: {} rounds of {} kinds of damage, and the whole after each",
            args.rounds,
            Damage::ALL.len()
        );
    }
    check.descriptors()?;
    check.decoders()?;
    match cgroup::unavailable() {
        Some(why) => println!("skipped: chaos: a twentieth of a core: {why}"),
        None => check.throttled()?,
    }
    check.nonsense_for_a_broker()
}

struct Checks {
    podtap: PathBuf,
    folder: PathBuf,
    random: Random,
}

impl Checks {
    /// Replays files, whose counts have to add up; how many exchanges there are whose time begins with `since`.
    fn replay(&self, files: &[&Path], what: &str, since: &str) -> Result<usize> {
        let events_file = self.folder.join("events.jsonl");
        let mut command = release::command(&self.podtap);
        command.args(["replay", "--output", "json", "--output-file"]).arg(&events_file).args(files);
        let output = process::captured(&mut command)?;
        let said = String::from_utf8_lossy(&output.stderr);
        // 1 is for a file that is damaged, which is said.
        let is_said = output.status.success() || said.contains("podtap: error: ");
        ensure!(matches!(output.status.code(), Some(0 | 1)) && is_said, "{what}: {}\n{said}", output.status);
        ensure!(!sums::has_panicked(&said), "{what}:\n{said}");
        sums::summary_adds_up(&said).with_context(|| format!("{what}:\n{said}"))?;
        let mut events = 0;
        for line in fs::read_to_string(&events_file)?.lines() {
            let event: Value = serde_json::from_str(line)?;
            events += usize::from(event["time"].as_str().is_some_and(|time| time.starts_with(since)));
        }
        Ok(events)
    }

    /// A damaged capture, and behind it the whole one, later: all exchanges of the whole one are there.
    fn damaged(&mut self, whole: &Records, damage: Damage, events: usize) -> Result<()> {
        let seed = self.random.0;
        let mut damaged = whole.damaged(damage, &mut self.random);
        let shift = AFTERWARDS.0 - whole.records.first().context("a capture has packets")?.seconds;
        damaged.records.extend(whole.records.iter().map(|record| record.later(shift)));
        let file = self.folder.join("damaged.pcap");
        fs::write(&file, damaged.bytes())?;
        let what = format!("{damage:?} by {seed:#x}, see {}", workspace::short(&file));
        let found = self.replay(&[&file], &what, AFTERWARDS.1)?;
        ensure!(found == events, "{what}: {found} exchanges of {events} after it");
        Ok(())
    }

    /// A file that cannot be read to its end, and a whole one behind it.
    fn damaged_files(&mut self, file: &Path, events: usize) -> Result<()> {
        let bytes = fs::read(file)?;
        let cut = self.folder.join("cut.pcap");
        for what in ["cut", "nonsense for a packet's length"] {
            let mut bytes = bytes.clone();
            let at = 24 + self.random.below(bytes.len() as u64 - 24) as usize;
            match what {
                "cut" => bytes.truncate(at),
                _ => {
                    let mut records = Records::parse(&bytes)?;
                    let place = self.random.below(records.records.len() as u64) as usize;
                    records.records[place].nonsense = true;
                    bytes = records.bytes();
                }
            }
            fs::write(&cut, bytes)?;
            let before = self.replay(&[&cut], what, "")?;
            let found = self.replay(&[&cut, file], what, "")?;
            ensure!(found == before + events, "{what} at {at}: {before} exchanges, then {found} and not {events} more");
        }
        Ok(())
    }

    /// Clients of the admin server take all descriptors that there are.
    fn descriptors(&mut self) -> Result<()> {
        let mut podtap = Podtap::start(release::command(&self.podtap), &self.folder, &[])?;
        podtap.feed(1)?;
        podtap.wait_for("exchanges", |metrics| sums::metric(metrics, "podtap_exchanges_total") > 0.0)?;
        let open = fs::read_dir(format!("/proc/{}/fd", podtap.child.id()))?.count() as u64;
        limit_descriptors(podtap.child.id(), open + 3)?;
        let address = podtap.address.clone();
        let clients = (0..64).map(|_| TcpStream::connect(&address)).collect::<std::io::Result<Vec<_>>>();
        let clients = clients.context("the kernel takes connections that podtap does not")?;
        // Long enough for it to try, and to find that there is none left.
        std::thread::sleep(Duration::from_secs(1));
        podtap.feed(2)?;
        std::thread::sleep(Duration::from_secs(1));
        drop(clients);
        podtap.wait_for("all exchanges", |metrics| {
            sums::metric(metrics, "podtap_exchanges_total") == (3 * EXCHANGES_OF_FEED) as f64
        })?;
        podtap.end(3 * EXCHANGES_OF_FEED)?;
        println!(
            "chaos: {open} descriptors and 3 more, 64 clients: decoded as before, and asked again when they had gone"
        );
        Ok(())
    }

    /// The directory of decoders is deleted while they are used, and comes back.
    fn decoders(&mut self) -> Result<()> {
        let plugins = self.podtap.with_file_name("plugins");
        let (alone, kept) = (self.folder.join("alone"), self.folder.join("alone/plugins"));
        fs::create_dir_all(&kept)?;
        // A program finds the plugins that are beside what its link leads to, so it has to be a file of its own.
        let program = alone.join("podtap");
        if fs::hard_link(&self.podtap, &program).is_err() {
            fs::copy(&self.podtap, &program)?;
        }
        let put = || -> Result<()> {
            fs::create_dir_all(&kept)?;
            for entry in fs::read_dir(&plugins)? {
                let entry = entry?;
                symlink(fs::canonicalize(entry.path())?, kept.join(entry.file_name()))?;
            }
            Ok(())
        };
        put()?;
        let interval = [("PODTAP_PLUGINS_RELOAD_INTERVAL", "200ms")];
        let mut podtap = Podtap::start(release::command(&program), &self.folder, &interval)?;
        podtap.feed(1)?;
        podtap.wait_for("exchanges", |metrics| exchanges(metrics) == EXCHANGES_OF_FEED)?;
        fs::remove_dir_all(&kept)?;
        // What was loaded anew, or is gone, is taken note of with the next packets.
        std::thread::sleep(Duration::from_secs(1));
        podtap.feed(1)?;
        podtap.wait_for_log("no decoders any more", "decoder is removed")?;
        podtap.wait_for("undetected connections", |metrics| {
            sums::metric(metrics, "podtap_connections_undetected_total") > 2.0
        })?;
        put()?;
        std::thread::sleep(Duration::from_secs(1));
        podtap.feed(1)?;
        podtap.wait_for_log("decoders again", "further decoder")?;
        podtap.wait_for("exchanges again", |metrics| exchanges(metrics) >= 2 * EXCHANGES_OF_FEED)?;
        podtap.end(2 * EXCHANGES_OF_FEED)?;
        println!("chaos: decoders deleted and put back: what came between is counted as undetected");
        Ok(())
    }

    /// A twentieth of a core: it takes longer, and nothing is lost, no decoder taken for one that loops.
    fn throttled(&mut self) -> Result<()> {
        const FEEDS: u32 = 50;
        let group = Cgroup::make("throttled", None, Some(5))?;
        let begun = Instant::now();
        let mut podtap = Podtap::start(group.command(&self.podtap), &self.folder, &[])?;
        podtap.feed(FEEDS)?;
        let expected = u64::from(FEEDS) * EXCHANGES_OF_FEED;
        podtap.wait_for("all exchanges", |metrics| exchanges(metrics) == expected)?;
        let counts = podtap.end(expected)?;
        for failure in ["decoder deadlines", "connections blamed", "packets dropped by kernel"] {
            ensure!(!counts.contains_key(failure), "{failure}: {:?}", counts.get(failure));
        }
        println!("chaos: 5 % of a core: {expected} exchanges in {:.1?}", begun.elapsed());
        Ok(())
    }

    /// What is no broker and answers nonsense: no event is taken for delivered, and with a spool all are kept.
    fn nonsense_for_a_broker(&mut self) -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let mut random = Random(self.random.next());
        // It ends with this program.
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let length = 1 + random.below(4096) as usize;
                let mut bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
                // A length that Kafka's protocol may have, half of the time: the nonsense behind it is then read.
                if random.below(2) == 0 && length > 4 {
                    bytes[..4].copy_from_slice(&(length as u32 - 4).to_be_bytes());
                }
                let _ = client.set_read_timeout(Some(Duration::from_millis(50)));
                let _ = client.read(&mut [0; 1024]);
                let _ = client.write_all(&bytes);
            }
        });
        let (broker, spool) = (format!("127.0.0.1:{port}"), self.folder.join("spool"));
        let spool = spool.to_str().context("a path in UTF-8")?;
        let settings = [
            ("PODTAP_KAFKA_BROKERS", broker.as_str()),
            ("PODTAP_KAFKA_TOPIC", "chaos"),
            ("PODTAP_DELIVERY_SHUTDOWN_GRACE", "2s"),
            ("PODTAP_KAFKA_TIMEOUT", "2s"),
            // Tried often.
            ("PODTAP_KAFKA_LIBRDKAFKA_OPTIONS", "reconnect.backoff.ms=10,reconnect.backoff.max.ms=50"),
            ("PODTAP_SPOOL_DIRECTORY", spool),
        ];
        for (settings, is_spooled) in [(&settings[..5], false), (&settings[..], true)] {
            let mut podtap = Podtap::start(release::command(&self.podtap), &self.folder, settings)?;
            podtap.feed(3)?;
            podtap.wait_for("all exchanges", |metrics| exchanges(metrics) == 3 * EXCHANGES_OF_FEED)?;
            std::thread::sleep(Duration::from_secs(3));
            let counts = podtap.end(3 * EXCHANGES_OF_FEED)?;
            let undelivered: u64 =
                counts.iter().filter(|(name, _)| name.starts_with("not delivered")).map(|(_, count)| count).sum();
            let left = counts.get("events left in the spool").copied().unwrap_or(0);
            let expected = if is_spooled { (0, 3 * EXCHANGES_OF_FEED) } else { (3 * EXCHANGES_OF_FEED, 0) };
            ensure!((undelivered, left) == expected, "{undelivered} not delivered, {left} left in the spool");
        }
        println!("chaos: a broker that answers nonsense: each event is counted as not delivered, or is in the spool");
        Ok(())
    }
}

/// Exchanges of one time that [`Podtap::feed`] feeds.
const EXCHANGES_OF_FEED: u64 = 293;

fn exchanges(metrics: &str) -> u64 {
    sums::metric(metrics, "podtap_exchanges_total") as u64
}

/// podtap that reads a pipe, with an admin server.
struct Podtap {
    child: Child,
    input: Option<ChildStdin>,
    log: PathBuf,
    address: String,
    whole: Records,
    fed: u32,
}

impl Podtap {
    /// `command` runs podtap, with no arguments yet.
    fn start(mut command: Command, folder: &Path, settings: &[(&str, &str)]) -> Result<Podtap> {
        let log = folder.join("podtap.log");
        command.args(["replay", "-"]);
        if !settings.iter().any(|(name, _)| *name == "PODTAP_KAFKA_BROKERS") {
            command.args(["--output", "msgpack", "--output-file", "/dev/null"]);
        }
        command.env("PODTAP_ADMIN_LISTEN", "127.0.0.1:0").env("PODTAP_LOG_FORMAT", "json");
        command.envs(settings.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        let mut input = child.stdin.take();
        let whole = Records::read(&workspace::http_captures().join("nginx-tour.pcap"))?;
        input.as_mut().context("it is piped")?.write_all(&whole.header)?;
        let mut podtap = Podtap { child, input, log, address: String::new(), whole, fed: 0 };
        podtap.address = address(&podtap.log)?;
        Ok(podtap)
    }

    /// The shipped capture so often, each time later.
    fn feed(&mut self, times: u32) -> Result<()> {
        for _ in 0..times {
            self.fed += 1;
            let later = self.whole.records.iter().map(|record| record.later(self.fed * SHIFT_SECONDS));
            let bytes: Vec<u8> = later.flat_map(|record| record.bytes()).collect();
            self.input.as_mut().context("the input is open")?.write_all(&bytes).context("podtap reads no more")?;
        }
        Ok(())
    }

    /// Its metrics, where it answers.
    fn metrics(&self) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: podtap\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    fn wait_for(&mut self, what: &str, holds: impl Fn(&str) -> bool) -> Result<()> {
        self.wait(what, |podtap| podtap.metrics().is_some_and(|metrics| holds(&metrics)))
    }

    fn wait_for_log(&mut self, what: &str, words: &str) -> Result<()> {
        self.wait(what, |podtap| fs::read_to_string(&podtap.log).is_ok_and(|said| said.contains(words)))
    }

    fn wait(&mut self, what: &str, holds: impl Fn(&Podtap) -> bool) -> Result<()> {
        let begun = Instant::now();
        while !holds(self) {
            if let Some(status) = self.child.try_wait()? {
                bail!("{what}: podtap has ended: {status}, see {}", workspace::short(&self.log));
            }
            ensure!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}, see {}", workspace::short(&self.log));
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Ends its input and waits; its counts, which add up, with so many exchanges.
    fn end(mut self, exchanges: u64) -> Result<std::collections::BTreeMap<String, u64>> {
        drop(self.input.take());
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(begun.elapsed() < PATIENCE, "podtap does not end, see {}", workspace::short(&self.log));
            std::thread::sleep(Duration::from_millis(20));
        };
        let said = fs::read_to_string(&self.log)?;
        let see = || format!("{status}, see {}", workspace::short(&self.log));
        let is_said = status.success() || said.contains("podtap: error: ");
        ensure!(matches!(status.code(), Some(0 | 1)) && is_said && !sums::has_panicked(&said), see());
        let counts = sums::summary_adds_up(&said).with_context(see)?;
        let found = counts.get("exchanges").copied().unwrap_or(0);
        ensure!(found == exchanges, "{found} exchanges of {exchanges}: {}", see());
        Ok(counts)
    }
}

impl Drop for Podtap {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// It may have no more descriptors than this.
fn limit_descriptors(process: u32, most: u64) -> Result<()> {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    let process = libc::pid_t::try_from(process)?;
    // SAFETY: prlimit reads the one structure, which outlives the call, and writes nowhere as the other pointer is null.
    if unsafe { libc::prlimit(process, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) } != 0 {
        return Err(std::io::Error::last_os_error()).context("prlimit");
    }
    Ok(())
}

/// What is done to a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// One packet in ten is not there.
    Lost,
    /// One in ten comes up to twenty places later.
    Reordered,
    /// One in ten comes again, up to twenty places later.
    Doubled,
    /// One in ten has a few other bytes, in headers or payload.
    Corrupted,
    /// One in ten is captured in part.
    Cut,
    /// The clock jumps at one in fifty, years back or ahead.
    Clock,
}

/// How far a clock jumps at most.
const JUMP_SECONDS: u32 = 5 * 365 * 86_400;

impl Damage {
    const ALL: [Damage; 6] =
        [Damage::Lost, Damage::Reordered, Damage::Doubled, Damage::Corrupted, Damage::Cut, Damage::Clock];
}

/// A pcap file, little-endian.
#[derive(Clone)]
struct Records {
    header: Vec<u8>,
    records: Vec<Record>,
}

#[derive(Clone)]
struct Record {
    seconds: u32,
    fraction: u32,
    original_length: u32,
    data: Vec<u8>,
    /// It says to have more bytes than there may be.
    nonsense: bool,
}

impl Record {
    fn later(&self, seconds: u32) -> Record {
        Record { seconds: self.seconds.wrapping_add(seconds), ..self.clone() }
    }

    fn bytes(&self) -> Vec<u8> {
        let length = if self.nonsense { u32::MAX } else { self.data.len() as u32 };
        let header = [self.seconds, self.fraction, length, self.original_length].map(u32::to_le_bytes).concat();
        [header, self.data.clone()].concat()
    }
}

impl Records {
    fn read(file: &Path) -> Result<Records> {
        Records::parse(&fs::read(file)?).with_context(|| file.display().to_string())
    }

    fn parse(bytes: &[u8]) -> Result<Records> {
        ensure!(bytes.starts_with(&0xa1b2_c3d4_u32.to_le_bytes()), "it is no little-endian pcap file");
        let (header, mut rest) = bytes.split_at_checked(24).context("it has no header")?;
        let mut records = Vec::new();
        while let Some((record, behind)) = rest.split_first_chunk::<16>() {
            let word = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
            let (data, behind) = behind.split_at_checked(word(8) as usize).context("it is cut")?;
            let [seconds, fraction, original_length] = [word(0), word(4), word(12)];
            records.push(Record { seconds, fraction, original_length, data: data.to_vec(), nonsense: false });
            rest = behind;
        }
        Ok(Records { header: header.to_vec(), records })
    }

    fn bytes(&self) -> Vec<u8> {
        self.header.iter().copied().chain(self.records.iter().flat_map(Record::bytes)).collect()
    }

    fn damaged(&self, damage: Damage, random: &mut Random) -> Records {
        // With the place that each goes to.
        let mut placed: Vec<(u64, Record)> = Vec::new();
        let mut jump = 0_u32;
        for (place, record) in (0..).zip(&self.records) {
            let (mut record, is_hit) = (record.clone(), random.below(10) == 0);
            let mut at = place;
            match damage {
                Damage::Lost if is_hit => continue,
                Damage::Reordered if is_hit => at += random.below(20),
                Damage::Doubled if is_hit => placed.push((place + random.below(20), record.clone())),
                Damage::Corrupted if is_hit => {
                    for _ in 0..1 + random.below(4) {
                        let at = random.below(record.data.len() as u64) as usize;
                        record.data[at] = random.next() as u8;
                    }
                }
                Damage::Cut if is_hit => record.data.truncate(random.below(record.data.len() as u64) as usize),
                Damage::Clock => {
                    if random.below(50) == 0 {
                        jump = (random.below(2 * u64::from(JUMP_SECONDS)) as u32).wrapping_sub(JUMP_SECONDS);
                    }
                    record.seconds = record.seconds.wrapping_add(jump);
                }
                _ => {}
            }
            placed.push((at, record));
        }
        // Stable, so that all else stays in order.
        placed.sort_by_key(|(at, _)| *at);
        Records { header: self.header.clone(), records: placed.into_iter().map(|(_, record)| record).collect() }
    }
}

/// xorshift64 by Marsaglia.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, below: u64) -> u64 {
        (self.next() >> 11) % below.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_damage_again_and_all_kinds_do_some() {
        let whole = Records::read(&workspace::http_captures().join("nginx-tour.pcap")).unwrap();
        for damage in Damage::ALL {
            let [first, second] = [1, 1].map(|seed| whole.damaged(damage, &mut Random(seed)).bytes());
            assert!(first == second && first != whole.bytes(), "{damage:?}");
        }
        assert!(Records::parse(&whole.bytes()).unwrap().bytes() == whole.bytes());
    }
}
