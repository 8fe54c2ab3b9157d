//! tshark's account of a capture: its "follow TCP stream", in raw form.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::stream::{Compared, Connection, Difference, compare};
use crate::{Folder, engine, known, settle, skip};

#[test]
fn bytes_are_those_of_tshark() {
    let test = "bytes as tshark has them";
    let Some(folder) = Folder::open(test) else { return };
    let version = Command::new("tshark").arg("--version").output().ok().filter(|output| output.status.success());
    let Some(version) = version else {
        return skip(test, "no tshark (`cargo xtask setup --e2e` installs it)");
    };
    let version = String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().to_owned();
    if !version.contains(" 4.0.") {
        return skip(test, &format!("{version}; the list of differences is that of 4.0"));
    }
    let next = AtomicUsize::new(0);
    let results: Mutex<(Compared, Vec<Difference>)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(file) = folder.captures.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let path = folder.path(file);
                    let podtap = engine::run(&engine::packets(&path));
                    let tshark = connections(&path, podtap.connections_total);
                    let mut differences = Vec::new();
                    let compared = compare(file, podtap.connections, tshark, &mut differences);
                    let mut results = results.lock().expect("no thread panicked");
                    results.0 += compared;
                    results.1.append(&mut differences);
                }
            });
        }
    });
    let (compared, mut differences) = results.into_inner().expect("no thread panicked");
    differences.sort_by(|one, other| (&one.file, &one.stream).cmp(&(&other.file, &other.stream)));
    println!("{} captures, {compared:?}", folder.captures.len());
    settle(&folder, "TSHARK", known::TSHARK, &differences);
    assert!(compared.equal_bytes > 0, "tshark followed no stream");
}

/// The connections of a capture in tshark's order. `guess` is how many streams there are, more or less.
fn connections(path: &Path, guess: u64) -> Vec<Connection> {
    let mut output = run(path, guess);
    let streams = streams(&output);
    if streams > guess {
        output = run(path, streams);
    }
    follow(&output).into_values().collect()
}

/// How many streams the packets are of.
fn streams(output: &str) -> u64 {
    let packets = output.lines().take_while(|line| !line.starts_with("===="));
    // A packet is of more than one where TCP is within TCP.
    let numbers = packets.flat_map(|streams| streams.split(',')).filter_map(|stream| stream.parse::<u64>().ok());
    numbers.max().map_or(0, |last| last + 1)
}

/// A line for each packet and then the first `streams` streams, all of one run.
fn run(path: &Path, streams: u64) -> String {
    let mut tshark = Command::new("tshark");
    // No names, and nobody's preferences.
    tshark.env("WIRESHARK_CONFIG_DIR", env!("CARGO_TARGET_TMPDIR")).arg("-n").arg("-r").arg(path);
    tshark.args(["-T", "fields", "-e", "tcp.stream"]);
    for stream in 0..streams {
        tshark.args(["-z", &format!("follow,tcp,raw,{stream}")]);
    }
    // It fails where a capture is damaged, but gives what stands before.
    let output = tshark.stdin(Stdio::null()).output().expect("tshark runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The streams with their numbers.
fn follow(output: &str) -> BTreeMap<u64, Connection> {
    let mut found = BTreeMap::new();
    let mut lines = output.lines().skip_while(|line| !line.starts_with("===="));
    while let Some(line) = lines.find(|line| line.starts_with("Filter: ")) {
        let number = line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("tcp.stream eq N");
        let mut node = || lines.next()?.split_once(": ")?.1.parse::<SocketAddr>().ok();
        // A number that no stream has is answered with ends of nothing.
        let (Some(first), Some(second)) = (node(), node()) else { continue };
        let (mut connection, sides) = Connection::new(first, second);
        for line in lines.by_ref().take_while(|line| !line.starts_with("====")) {
            // A tab before what the second sent.
            let (digits, side) = line.strip_prefix('\t').map_or((line, sides[0]), |digits| (digits, sides[1]));
            let bytes = from_hex(digits).expect("hexadecimal digits");
            let stream = &mut connection.streams[side];
            match missing(&bytes) {
                Some(length) => stream.push_gap(length),
                None => stream.push(&bytes),
            }
        }
        found.insert(number, connection);
    }
    found
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    digits.as_bytes().chunks(2).map(|pair| Some(value(*pair.first()?)? << 4 | value(*pair.get(1)?)?)).collect()
}

/// The length of a gap, which tshark states in the place of the bytes.
fn missing(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
    text.strip_prefix('[')?.strip_suffix(" bytes missing in capture file]")?.parse().ok()
}
