//! Decoders that change while podtap runs: new connections get the new version, open ones keep theirs, and nothing that
//! is decoded is lost or doubled.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use podtap::config::{Config, HumanDuration, OutputFormat};
use podtap::event::Event;
use podtap::pipeline::{Decoders, Replay, Report, replay_with};
use podtap::publish::{Colour, Delivery, Output, Outputs, PublishError};
use support::Capture;
use tempfile::TempDir;

/// The HTTP decoder as another version of itself.
fn http(version: u8) -> Vec<u8> {
    let mut component = fs::read(support::plugins("plugins").join("http.wasm")).expect("`cargo xtask plugins`");
    let own = env!("CARGO_PKG_VERSION").as_bytes();
    // The names of the contract have a version, too.
    let is_own = |at: &usize| component[*at..].starts_with(own) && component[at - 1] != b'@';
    let found: Vec<_> = (1..component.len()).filter(is_own).collect();
    let [at] = found[..] else { panic!("the version stands in {} places", found.len()) };
    component[at + own.len() - 1] = b'0' + version;
    component
}

/// Exchanges as a test compares them, and the decoders that found them.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    exchanges: BTreeMap<String, u64>,
    decoders: BTreeSet<String>,
}

/// The time of a turn of a capture that is replayed in a loop.
const TURN_NS: u64 = 1000 * 1_000_000_000;

impl Output for Seen {
    fn publish(&mut self, event: Event<'_>) -> Result<(), PublishError> {
        let Event::Exchange(exchange) = event else { return Ok(()) };
        let mut content = self.0.lock().unwrap();
        let what = format!(
            "{} {} {:?} {:?} midstream {}",
            exchange.time.0 % TURN_NS,
            exchange.client.port,
            exchange.summary,
            exchange.outcome,
            exchange.connection.midstream,
        );
        *content.exchanges.entry(what).or_default() += 1;
        content.decoders.insert(exchange.decoder.to_string());
        Ok(())
    }

    fn finish(&mut self) -> Result<Delivery, PublishError> {
        Ok(Delivery::default())
    }
}

/// podtap at work in this process, on what a test writes into a pipe.
struct Running {
    folder: TempDir,
    pipe: Option<File>,
    /// Bytes of a capture that went into the pipe.
    written: usize,
    decoders: Arc<Decoders>,
    seen: Seen,
    thread: std::thread::JoinHandle<Report>,
}

impl Running {
    fn start(directories: &[PathBuf]) -> Running {
        let mut config = Config::default();
        config.plugins.directories = directories.to_vec();
        config.plugins.reload_interval = HumanDuration(Duration::from_secs(3600));
        config.output.format = Some(OutputFormat::None);
        let mut decoders = Decoders::load(&config).expect("plugins are built: `cargo xtask plugins`");
        decoders.watch(&config);
        let (decoders, seen) = (Arc::new(decoders), Seen::default());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (shared, output, file) = (Arc::clone(&decoders), seen.clone(), path.clone());
        let thread = std::thread::spawn(move || {
            let mut outputs = Outputs::open(&config, Colour::Never).unwrap();
            outputs.add(output);
            let request = Replay { files: &[file], filter: None, config: &config, progress: &mut |_| () };
            replay_with(&shared, request, &mut outputs).unwrap()
        });
        let pipe = Some(File::options().write(true).open(path).unwrap());
        let running = Running { folder, pipe, written: 0, decoders, seen, thread };
        running.wait(0);
        running
    }

    /// Writes what has come to a capture, and waits until it was read.
    fn write(&mut self, capture: &Capture) {
        let bytes = capture.file(101);
        let pipe = self.pipe.as_mut().unwrap();
        pipe.write_all(&bytes[std::mem::replace(&mut self.written, bytes.len())..]).unwrap();
        while rustix::io::ioctl_fionread(&*pipe).unwrap() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // It is decoded at once.
        std::thread::sleep(Duration::from_millis(20));
    }

    /// Until the directories were looked into once more than `looks`.
    fn wait(&self, looks: u64) {
        let start = Instant::now();
        while self.decoders.looks() <= looks {
            assert!(start.elapsed() < Duration::from_secs(20), "nobody looks into the directories");
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Until a change was seen; perhaps only half of it, if the directories were being looked into meanwhile.
    fn change_quickly(&self, change: impl FnOnce()) {
        let looks = self.decoders.looks();
        change();
        self.wait(looks);
    }

    /// Until a change was seen and nothing is left to be seen.
    fn change(&self, change: impl FnOnce()) {
        self.change_quickly(change);
        let mut looks = 0;
        while looks != self.decoders.looks() {
            looks = self.decoders.looks();
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn finish(mut self) -> (Report, Content) {
        self.pipe = None;
        let report = self.thread.join().unwrap();
        assert!(report.adds_up(), "{report:#?}");
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!(report.count("payload_bytes_of_unknown_connections"), 0, "{report:#?}");
        drop(self.folder);
        let content = std::mem::take(&mut *self.seen.0.lock().unwrap());
        (report, content)
    }
}

fn put(folder: &Path, name: &str, content: &[u8]) {
    let new = folder.join(".new");
    fs::write(&new, content).unwrap();
    fs::rename(new, folder.join(name)).unwrap();
}

const REQUEST: &str = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
const RESPONSE: &str = "HTTP/1.1 204 No\r\n\r\n";

#[test]
fn open_connections_finish_with_the_version_that_they_have() {
    let (installed, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(installed.path(), "http.wasm", &http(0));
    put(folder.path(), "http.wasm", &http(1));
    let mut running = Running::start(&[installed.path().to_owned(), folder.path().to_owned()]);
    let mut capture = Capture::default();
    capture.connection(1001, 80).client(REQUEST);
    running.write(&capture);
    running.change(|| put(folder.path(), "http.wasm", &http(2)));
    capture.connection(1002, 80).client(REQUEST).server(RESPONSE);
    capture.on(1001, 80, false).server(RESPONSE).client(REQUEST).server(RESPONSE);
    running.write(&capture);
    // Something that is no decoder changes nothing.
    running.change(|| put(folder.path(), "http.wasm", b"\0asm and no more"));
    capture.connection(1003, 80).client(REQUEST).server(RESPONSE);
    running.write(&capture);
    // The installed one takes the place of one that is removed.
    running.change(|| fs::remove_file(folder.path().join("http.wasm")).unwrap());
    capture.connection(1004, 80).client(REQUEST).server(RESPONSE).close();
    capture.on(1001, 80, false).client(REQUEST).server(RESPONSE).close();
    running.write(&capture);
    let (report, content) = running.finish();
    assert_eq!(report.count("exchanges"), 6, "{report:#?}");
    assert_eq!(report.count("decoders_reloaded"), 2, "{report:#?}");
    assert!(content.exchanges.keys().all(|what| what.ends_with("Ok midstream false")), "{:#?}", content.exchanges);
    let versions = ["http/0.1.0", "http/0.1.1", "http/0.1.2"].map(str::to_owned);
    assert_eq!(content.decoders, versions.into());
}

#[test]
fn with_too_many_versions_connections_of_the_oldest_move_on() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "http.wasm", &http(1));
    let mut running = Running::start(&[folder.path().to_owned()]);
    let mut capture = Capture::default();
    for round in 0..70_u16 {
        capture.connection(1000 + round, 80).client(REQUEST).server(RESPONSE).client(REQUEST);
        running.write(&capture);
        running.change_quickly(|| put(folder.path(), "http.wasm", &http(2 + (round % 2) as u8)));
    }
    for round in 0..70 {
        capture.on(1000 + round, 80, false).server(RESPONSE).client(REQUEST).server(RESPONSE).close();
    }
    running.write(&capture);
    let (report, content) = running.finish();
    let moved = report.count("connections_moved_to_other_version");
    assert!((1..=30).contains(&moved), "{report:#?}");
    let count =
        |end: &str| content.exchanges.iter().filter(|(what, _)| what.ends_with(end)).map(|(_, n)| n).sum::<u64>();
    // The exchange in whose midst a connection moves is told of in two halves.
    assert_eq!(count("Ok midstream false"), 3 * 70 - 2 * moved, "{:#?}", content.exchanges);
    assert_eq!(count("NoResponse midstream false"), moved, "{:#?}", content.exchanges);
    assert_eq!(count("Unmatched midstream true"), moved, "{:#?}", content.exchanges);
    assert_eq!(count("Ok midstream true"), moved, "{:#?}", content.exchanges);
}

/// Writes a capture over and over, each turn later than the one before. Gives the number of turns.
fn write_in_a_loop(mut pipe: File, capture: &[u8], stop: &AtomicBool) -> u64 {
    let (header, records) = capture.split_at(24);
    pipe.write_all(header).unwrap();
    let mut turns = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut turn = records.to_vec();
        let mut at = 0;
        while at < turn.len() {
            let field = |at: usize| u32::from_le_bytes(turn[at..at + 4].try_into().unwrap());
            let (seconds, length) = (field(at), field(at + 8));
            let seconds = seconds + (turns * TURN_NS / 1_000_000_000) as u32;
            turn[at..at + 4].copy_from_slice(&seconds.to_le_bytes());
            at += 16 + length as usize;
        }
        pipe.write_all(&turn).unwrap();
        turns += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    turns
}

fn memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// How often decoders change in the test below.
const CHANGES: u64 = 1000;

#[test]
fn a_thousand_changes_while_a_capture_is_replayed_lose_and_double_nothing() {
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/http/tests/captures/nginx-tour.pcap");
    let capture = fs::read(capture).unwrap();
    // A folder as people fill it, and a ConfigMap as Kubernetes mounts it.
    let (plain, mounted) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let swap = |version: u64| {
        let data = mounted.path().join(format!("..{version}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("http.wasm"), http((version % 4) as u8)).unwrap();
        symlink(format!("..{version}"), mounted.path().join("..data_tmp")).unwrap();
        let old = fs::read_link(mounted.path().join("..data"));
        fs::rename(mounted.path().join("..data_tmp"), mounted.path().join("..data")).unwrap();
        if let Ok(old) = old {
            fs::remove_dir_all(mounted.path().join(old)).unwrap();
        }
    };
    swap(0);
    symlink("..data/http.wasm", mounted.path().join("http.wasm")).unwrap();
    let mut running = Running::start(&[mounted.path().to_owned(), plain.path().to_owned()]);
    let (pipe, stop) = (running.pipe.take().unwrap(), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (stop, capture) = (Arc::clone(&stop), capture.clone());
        std::thread::spawn(move || write_in_a_loop(pipe, &capture, &stop))
    };
    let misbehave = fs::read(support::plugins("test-plugins").join("misbehave.wasm")).expect("`cargo xtask plugins`");
    let own = plain.path().join("http.wasm");
    let mut memory_after_a_while = 0;
    for step in 0..CHANGES {
        running.change_quickly(|| match step % 8 {
            0 | 4 => put(plain.path(), "http.wasm", &http((step / 4 % 5) as u8 + 4)),
            // In place, so that it may be seen half written.
            1 => fs::write(&own, http((step / 8 % 2) as u8 + 2)).unwrap(),
            2 => fs::write(&own, &http(9)[..20_000 + step as usize]).unwrap(),
            3 => swap(step),
            5 => put(plain.path(), "other.wasm", &misbehave),
            6 => fs::remove_file(&own).unwrap(),
            _ => fs::remove_file(plain.path().join("other.wasm")).unwrap(),
        });
        if step == CHANGES / 4 {
            memory_after_a_while = memory_bytes();
        }
    }
    let memory = memory_bytes();
    stop.store(true, Ordering::Relaxed);
    let turns = writer.join().unwrap();
    let (report, content) = running.finish();
    println!("{CHANGES} changes, {} reloads, {turns} turns", report.count("decoders_reloaded"));
    println!("memory: {memory_after_a_while} bytes after a quarter of the changes, {memory} in the end");
    assert!(report.count("decoders_reloaded") >= CHANGES / 2, "{report:#?}");
    assert!(content.decoders.len() > 5, "{:?}", content.decoders);
    assert_eq!(report.count("connections_moved_to_other_version"), 0, "{report:#?}");
    assert_eq!(report.count("exchanges"), 293 * turns, "{report:#?}");
    // What stands more than once in the capture stands so in every turn.
    for (what, count) in &content.exchanges {
        assert_eq!(count % turns, 0, "{count} times in {turns} turns: {what}");
    }
    assert!(memory < memory_after_a_while + (24 << 20), "{memory_after_a_while} bytes have become {memory}");
}
