//! What end-to-end tests share: captures made by hand, and podtap run as a user runs it.

#![allow(dead_code)]

pub(crate) mod agent;
pub(crate) mod tmux;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

/// A pcap file with TCP connections between 192.0.2.1 and 192.0.2.2, raw IP, a packet a millisecond.
#[derive(Clone, Default)]
pub(crate) struct Capture {
    /// Each with its time, ms.
    packets: Vec<(u32, Vec<u8>)>,
    /// Time of the next packet.
    now_ms: u32,
    /// Where conversations go on.
    next: HashMap<(u16, u16), (u32, u32)>,
}

/// One of its connections, with the sequence numbers of both sides.
pub(crate) struct Conversation<'a> {
    capture: &'a mut Capture,
    ports: (u16, u16),
    next: (u32, u32),
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

impl Capture {
    /// A connection with its handshake.
    pub(crate) fn connection(&mut self, client: u16, server: u16) -> Conversation<'_> {
        self.on(client, server, true)
    }

    /// A new connection, or one that goes on.
    pub(crate) fn on(&mut self, client: u16, server: u16, opens: bool) -> Conversation<'_> {
        let ports = (client, server);
        if !opens {
            let next = self.next.get(&ports).copied().unwrap_or((1000, 5000));
            return Conversation { capture: self, ports, next };
        }
        let mut conversation = Conversation { capture: self, ports, next: (1000, 5000) };
        conversation.segment(true, SYN, b"");
        conversation.segment(false, SYN | ACK, b"");
        conversation.segment(true, ACK, b"");
        conversation
    }

    /// Nothing happens for a while.
    pub(crate) fn pause(&mut self, ms: u32) {
        self.now_ms += ms;
    }

    /// Packets so far.
    pub(crate) fn packet_count(&self) -> usize {
        self.packets.len()
    }

    /// The same without the packets at these places.
    pub(crate) fn without(&self, mut is_lost: impl FnMut(usize) -> bool) -> Capture {
        let kept = self.packets.iter().enumerate().filter(|(place, _)| !is_lost(*place));
        Capture { packets: kept.map(|(_, packet)| packet.clone()).collect(), ..Capture::default() }
    }

    /// The file, of a link type (101: raw IP).
    pub(crate) fn file(&self, link_type: u32) -> Vec<u8> {
        let mut file: Vec<u8> =
            [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, link_type].into_iter().flat_map(u32::to_le_bytes).collect();
        for (ms, packet) in &self.packets {
            let length = packet.len() as u32;
            let header = [1_700_000_000 + ms / 1000, ms % 1000 * 1000, length, length];
            file.extend(header.into_iter().flat_map(u32::to_le_bytes));
            file.extend(packet);
        }
        file
    }
}

impl Conversation<'_> {
    /// The client sends.
    pub(crate) fn client(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.segment(true, ACK, bytes.as_ref());
        self
    }

    /// The server sends.
    pub(crate) fn server(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.segment(false, ACK, bytes.as_ref());
        self
    }

    /// Both send FIN.
    pub(crate) fn close(&mut self) {
        self.segment(true, FIN | ACK, b"");
        self.segment(false, FIN | ACK, b"");
        self.segment(true, ACK, b"");
    }

    /// The server sends RST.
    pub(crate) fn reset(&mut self) {
        self.segment(false, RST | ACK, b"");
    }

    fn segment(&mut self, from_client: bool, flags: u8, payload: &[u8]) {
        let (sequence, acknowledged) = if from_client { self.next } else { (self.next.1, self.next.0) };
        let (source, destination) = if from_client { self.ports } else { (self.ports.1, self.ports.0) };
        let (from, to) = if from_client { (1, 2) } else { (2, 1) };
        let mut packet = vec![0x45, 0];
        packet.extend((40 + payload.len() as u16).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, from, 192, 0, 2, to]);
        packet.extend(source.to_be_bytes());
        packet.extend(destination.to_be_bytes());
        packet.extend(sequence.to_be_bytes());
        packet.extend(if flags & ACK == 0 { 0 } else { acknowledged }.to_be_bytes());
        packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(payload);
        self.capture.packets.push((self.capture.now_ms, packet));
        self.capture.now_ms += 1;
        let sent = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        let side = if from_client { &mut self.next.0 } else { &mut self.next.1 };
        *side = side.wrapping_add(sent);
        self.capture.next.insert(self.ports, self.next);
    }
}

/// A finished run of podtap.
pub(crate) struct Run {
    /// Exit code.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// CPU time, user and system, but for the last milliseconds.
    pub(crate) cpu: Duration,
    /// The most memory it had at once, bytes, but for the last milliseconds.
    pub(crate) memory_bytes: u64,
}

impl Run {
    /// The exchanges, of `--output json`.
    pub(crate) fn exchanges(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a line is a JSON object")).collect()
    }

    /// A count of the summary, by the words that stand behind it; 0 where it is not there.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let counts = self.stderr.lines().filter_map(|line| line.trim().split_once("  "));
        let mut named = counts.filter(|(_, words)| words.split(" (").next().is_some_and(|words| words.trim() == name));
        named.find_map(|(number, _)| number.parse().ok()).unwrap_or(0)
    }

    /// The lines that say what went wrong.
    pub(crate) fn errors(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| line.starts_with("podtap: error: ")).collect()
    }
}

/// Runs podtap with arguments and without configuration from the environment.
#[track_caller]
pub(crate) fn podtap(arguments: &[&str]) -> Run {
    podtap_reading(arguments, &[])
}

/// As [`podtap`], with bytes on standard input.
#[track_caller]
pub(crate) fn podtap_reading(arguments: &[&str], input: &[u8]) -> Run {
    use std::io::Write as _;
    assert!(
        plugins("plugins").join("http.wasm").is_file(),
        "no plugins beside podtap: `cargo xtask plugins` builds them (`cargo xtask test` does all)"
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_podtap"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PODTAP_") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("podtap starts");
    let mut stdin = child.stdin.take().expect("it was piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // podtap may end before it has read everything.
        let _ = stdin.write_all(&input);
    });
    let (id, (done, ended)) = (child.id(), mpsc::channel::<()>());
    let watch = std::thread::spawn(move || {
        let mut most = (Duration::ZERO, 0);
        while ended.recv_timeout(Duration::from_millis(2)) == Err(mpsc::RecvTimeoutError::Timeout) {
            most = used(id).unwrap_or(most);
        }
        most
    });
    let output = child.wait_with_output().expect("podtap ends");
    drop(done);
    let (cpu, memory_bytes) = watch.join().expect("the watch does not panic");
    writer.join().expect("the writer does not panic");
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("output is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("messages are UTF-8"),
        cpu,
        memory_bytes,
    }
}

/// CPU time and peak memory of a process; none where it is gone.
fn used(id: u32) -> Option<(Duration, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = peak.trim().strip_suffix(" kB")?.parse().ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may hold blanks; utime and stime are the 12th and 13th field behind it, in 1/100 s.
    let ticks: u64 = stat
        .rsplit_once(')')?
        .1
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Some((Duration::from_millis(ticks * 10), kib * 1024))
}

/// The folder of this name beside podtap's executable.
pub(crate) fn plugins(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_podtap")).with_file_name(name)
}

/// The rows of the table in a section of a report, each cell as text; numbers without what sets thousands apart.
pub(crate) fn table(page: &str, section: &str) -> Vec<Vec<String>> {
    let (_, section) = page.split_once(&format!("<h2 id=\"{section}\">")).expect("the section is there");
    let section = section.split("</section>").next().unwrap_or_default();
    let Some((_, body)) = section.split_once("<tbody>") else { return Vec::new() };
    let rows = body.split("</tbody>").next().unwrap_or_default().split("</tr>");
    let cells = |row: &str| -> Vec<String> {
        // `<tr>` and `<title>` begin with the same letter.
        let cells = row.split("<t").skip(1).filter(|cell| cell.starts_with(['d', 'h']));
        cells.map(|cell| text(&cell[cell.find('>').map_or(0, |end| end + 1)..]).replace(',', "")).collect()
    };
    rows.map(cells).filter(|cells| !cells.is_empty()).collect()
}

/// Text without its markup.
fn text(html: &str) -> String {
    let (mut text, mut rest) = (String::new(), html);
    while let Some((before, after)) = rest.split_once('<') {
        text += before;
        rest = after.split_once('>').map_or("", |(_, after)| after);
    }
    text += rest;
    text.trim().to_owned()
}

/// What is on a screen, line by line.
pub(crate) fn lines(buffer: &ratatui::buffer::Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width);
    buffer.content().chunks(width).map(|cells| cells.iter().map(|cell| cell.symbol()).collect()).collect()
}

/// The configuration of podtap with the stock decoders, for tests that decode in their own process.
pub(crate) fn config() -> podtap::config::Config {
    let mut config = podtap::config::Config::default();
    config.plugins.directories = vec![plugins("plugins")];
    config
}
