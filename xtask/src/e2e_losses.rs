//! `cargo xtask e2e losses`: what podtap makes of the nginx capture when packets of it are missing.
//!
//! One packet in a hundred is left out at random, from a seed. Of the exchanges whose packets are all there at least 97 %
//! must still be reported as they were, none may get another's response, and what was lost must show: in the event that
//! it touches, or as an exchange that is reported by halves, and in the count of bytes in gaps.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{e2e_nginx, process, release};

/// How much, and what is left out.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) traffic: e2e_nginx::Args,
    /// Which packets are left out
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many of a thousand packets are left out
    #[arg(long, default_value_t = 10)]
    pub(crate) per_mille: u64,
}

impl Args {
    /// One packet of a hundred, of a capture.
    pub(crate) fn of(traffic: e2e_nginx::Args) -> Args {
        Args { traffic, seed: 1, per_mille: 10 }
    }
}

/// The least share of whole exchanges that must be reported, in percent.
const LEAST_PERCENT: f64 = 97.0;

/// A connection: its client's port, and which one of those of this port.
type Connection = (u64, usize);

/// Makes the captures, replays both and compares.
pub(crate) fn run(args: &Args) -> Result<()> {
    let podtap = release::build()?;
    let traffic = e2e_nginx::make(&args.traffic)?;
    let lossy = traffic.capture.with_file_name("nginx-lossy.pcap");
    let lost = leave_out(&traffic.capture, &lossy, args)?;
    let (whole, _) = replay(&podtap, &traffic.capture)?;
    let (events, gap_bytes) = replay(&podtap, &lossy)?;
    let verdict = Verdict::of(&whole, &lost, &events)?;
    println!(
        "losses: {} of {} packets left out (seed {}), {} bytes of payload, of which podtap counts {gap_bytes} in gaps",
        lost.packets, lost.of_packets, args.seed, lost.bytes
    );
    println!("{verdict}");
    ensure!(verdict.wrong.is_empty(), "pairs that are none:\n{}", verdict.wrong.join("\n"));
    ensure!(verdict.silent.is_empty(), "losses that do not show:\n{}", verdict.silent.join("\n"));
    ensure!(verdict.percent() >= LEAST_PERCENT, "less than {LEAST_PERCENT} % of the whole exchanges are reported");
    // Of the last bytes of a connection nothing tells that they are missing.
    ensure!(
        gap_bytes <= lost.bytes + lost.fins && gap_bytes * 100 >= lost.bytes * 97,
        "{gap_bytes} of {} lost bytes and {} FINs are counted",
        lost.bytes,
        lost.fins
    );
    Ok(())
}

/// What was left out of a capture.
#[derive(Default)]
struct Lost {
    packets: u64,
    of_packets: u64,
    bytes: u64,
    /// FINs: each takes a place in the sequence, and of one that is missing but acknowledged nobody can tell that it was none
    /// of the payload (RFC 9293 section 3.4).
    fins: u64,
    /// By connection and side, client's first: stream positions of the bytes that are missing, in order of the capture.
    ranges: HashMap<(Connection, usize), Vec<(u64, u64)>>,
    /// Of bytes that are missing once, but were sent again: they come late.
    late: HashMap<(Connection, usize), Vec<(u64, u64)>>,
    /// How far each side had sent.
    sent: HashMap<(Connection, usize), u64>,
}

impl Lost {
    /// Takes note of payload, in order of the capture.
    fn note(&mut self, connection: Connection, side: usize, (start, end): (u64, u64), left_out: bool) {
        let key = (connection, side);
        let sent = self.sent.entry(key).or_default();
        let again = start < *sent;
        *sent = end.max(*sent);
        match (again, left_out) {
            (false, true) => {
                self.bytes += end - start;
                self.ranges.entry(key).or_default().push((start, end));
            }
            (true, false) => {
                let Some(ranges) = self.ranges.get_mut(&key) else { return };
                let late = ranges.extract_if(.., |&mut (from, to)| start <= from && to <= end);
                for (from, to) in late {
                    self.bytes -= to - from;
                    self.late.entry(key).or_default().push((from, to));
                }
            }
            _ => {}
        }
    }
}

/// Is any of these bytes in one of the ranges of a connection's side?
fn touches(
    ranges: &HashMap<(Connection, usize), Vec<(u64, u64)>>,
    connection: Connection,
    side: usize,
    (start, end): (u64, u64),
) -> bool {
    let ranges = ranges.get(&(connection, side)).map(Vec::as_slice).unwrap_or_default();
    ranges.iter().any(|&(from, to)| from < end && start < to)
}

/// A TCP segment of an Ethernet frame with IPv4, as tcpdump captures them on the loopback interface.
struct Segment {
    ports: [u16; 2],
    sequence: u32,
    fin: bool,
    syn: bool,
    ack: bool,
    payload: u32,
}

impl Segment {
    fn parse(frame: &[u8]) -> Option<Segment> {
        let word = |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let ip = (word(frame, 12)? == 0x0800).then(|| frame.get(14..))??;
        let ip_header = usize::from(ip.first()? & 15) * 4;
        let tcp = (*ip.get(9)? == 6).then(|| ip.get(ip_header..))??;
        let tcp_header = usize::from(tcp.get(12)? >> 4) * 4;
        let flags = *tcp.get(13)?;
        Some(Segment {
            ports: [word(tcp, 0)?, word(tcp, 2)?],
            sequence: u32::from(word(tcp, 4)?) << 16 | u32::from(word(tcp, 6)?),
            fin: flags & 1 != 0,
            syn: flags & 2 != 0,
            ack: flags & 16 != 0,
            payload: u32::from(word(ip, 2)?).checked_sub((ip_header + tcp_header) as u32)?,
        })
    }
}

/// Copies a capture without some of its packets.
fn leave_out(from: &Path, to: &Path, args: &Args) -> Result<Lost> {
    let mut input = BufReader::with_capacity(1 << 20, File::open(from)?);
    let mut output = BufWriter::with_capacity(1 << 20, File::create(to)?);
    let mut header = [0; 24];
    input.read_exact(&mut header)?;
    ensure!(header[..4] == [0xd4, 0xc3, 0xb2, 0xa1], "{} is no pcap file as tcpdump writes it", from.display());
    output.write_all(&header)?;
    let mut lost = Lost::default();
    // By client's port: how many connections there were, and where the sides of the last one begin.
    let mut connections: HashMap<u16, (usize, [u32; 2])> = HashMap::new();
    let mut random = args.seed.wrapping_mul(2).wrapping_add(1);
    let mut record = [0; 16];
    let mut frame = Vec::new();
    while !input.fill_buf()?.is_empty() {
        input.read_exact(&mut record)?;
        let length = u32::from_le_bytes([record[8], record[9], record[10], record[11]]);
        ensure!(length <= 1 << 18, "a packet of {length} bytes");
        frame.resize(length as usize, 0);
        input.read_exact(&mut frame)?;
        let segment = Segment::parse(&frame).context("a packet that is no TCP over IPv4 over Ethernet")?;
        if segment.syn && !segment.ack {
            let (count, starts) = connections.entry(segment.ports[0]).or_default();
            *count += 1;
            starts[0] = segment.sequence.wrapping_add(1);
        }
        let side = usize::from(!connections.contains_key(&segment.ports[0]));
        let client = segment.ports[side];
        let (count, starts) = connections.get_mut(&client).context("a connection without its beginning")?;
        if segment.syn && segment.ack {
            starts[1] = segment.sequence.wrapping_add(1);
        }
        lost.of_packets += 1;
        // xorshift64* by Marsaglia and Vigna.
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        let left_out = (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % 1000 < args.per_mille;
        if segment.payload > 0 {
            let start = u64::from(segment.sequence.wrapping_sub(starts[side]));
            let range = (start, start + u64::from(segment.payload));
            lost.note((u64::from(client), *count), side, range, left_out);
        }
        if left_out {
            lost.packets += 1;
            lost.fins += u64::from(segment.fin);
        } else {
            output.write_all(&record)?;
            output.write_all(&frame)?;
        }
    }
    output.flush()?;
    Ok(lost)
}

/// The events of a capture, by connection in the order of their first exchange.
type Events = BTreeMap<Connection, Vec<Value>>;

/// Replays a capture; gives also the bytes that podtap counts in gaps.
fn replay(podtap: &Path, capture: &Path) -> Result<(Events, u64)> {
    let file = capture.with_extension("jsonl");
    let mut replay = release::command(podtap);
    replay.arg("replay").arg(capture).args(["--color", "never", "--output", "json", "--output-file"]).arg(&file);
    let output = process::captured(&mut replay)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let gap_bytes = said
        .lines()
        .filter_map(|line| {
            let (number, name) = line.trim().split_once("  ")?;
            name.contains("gap bytes").then(|| number.parse::<u64>().ok())?
        })
        .sum();
    Ok((events(BufReader::new(File::open(&file)?))?, gap_bytes))
}

fn events(lines: impl BufRead) -> Result<Events> {
    let mut by_id: HashMap<String, Vec<Value>> = HashMap::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(&line?)?;
        let id = event["connection"]["id"].as_str().context("an event without a connection")?.to_owned();
        by_id.entry(id).or_default().push(event);
    }
    let mut connections: Vec<_> = by_id.into_values().collect();
    let first = |events: &Vec<Value>| events.iter().filter_map(|event| event["time"].as_str().map(str::to_owned)).min();
    connections.sort_by_cached_key(first);
    let mut counts: HashMap<u64, usize> = HashMap::new();
    let mut found = Events::new();
    for mut events in connections {
        events.sort_by_key(|event| event["connection"]["exchange"].as_u64());
        let port =
            events.first().and_then(|event| event["client"]["port"].as_u64()).context("an event without a port")?;
        let count = counts.entry(port).or_default();
        *count += 1;
        found.insert((port, *count), events);
    }
    Ok(found)
}

/// How the events of the lossy capture stand to those of the whole one.
#[derive(Default)]
struct Verdict {
    exchanges: usize,
    /// Exchanges all of whose bytes are in the lossy capture.
    whole: usize,
    /// Of those, reported as they were.
    reported: usize,
    /// Reported with request and response in spite of a loss.
    damaged: usize,
    /// Reported by halves.
    halves: usize,
    wrong: Vec<String>,
    silent: Vec<String>,
}

impl Verdict {
    fn of(whole: &Events, lost: &Lost, lossy: &Events) -> Result<Verdict> {
        let mut verdict = Verdict::default();
        // What pairs there are: how many of them are whole, how many are not.
        let mut pairs: HashMap<String, [usize; 2]> = HashMap::new();
        // Those with bytes that come late, whose times differ.
        let mut late: HashMap<String, usize> = HashMap::new();
        for (&connection, events) in whole {
            let mut next = [0, 0];
            for event in events {
                let (mut touched, mut delayed) = (false, false);
                for (side, name) in ["client", "server"].into_iter().enumerate() {
                    let end = next[side] + event[name]["bytes"].as_u64().context("an event without bytes")?;
                    touched |= touches(&lost.ranges, connection, side, (next[side], end));
                    delayed |= touches(&lost.late, connection, side, (next[side], end));
                    next[side] = end;
                }
                verdict.exchanges += 1;
                verdict.whole += usize::from(!touched);
                let pair = pair(event).context("an exchange of the whole capture without its response")?;
                if delayed && !touched {
                    *late.entry(without_times(&pair)).or_default() += 1;
                } else {
                    pairs.entry(pair).or_default()[usize::from(touched)] += 1;
                }
            }
        }
        for event in lossy.values().flatten() {
            let Some(pair) = pair(event) else {
                verdict.halves += 1;
                continue;
            };
            let lost_bytes = event["loss"]["gap_bytes"].as_u64().unwrap_or(0);
            match pairs.get_mut(&pair) {
                Some([left @ (1..), _]) if lost_bytes == 0 => {
                    *left -= 1;
                    verdict.reported += 1;
                }
                Some([_, left @ (1..)]) => {
                    *left -= 1;
                    verdict.damaged += 1;
                    if lost_bytes == 0 {
                        verdict.silent.push(pair);
                    }
                }
                // It notes a loss before it.
                Some([left @ (1..), _]) => {
                    *left -= 1;
                    verdict.reported += 1;
                }
                _ => match late.get_mut(&without_times(&pair)) {
                    Some(left @ 1..) => {
                        *left -= 1;
                        verdict.reported += 1;
                    }
                    _ => verdict.wrong.push(pair),
                },
            }
        }
        Ok(verdict)
    }

    fn percent(&self) -> f64 {
        100.0 * self.reported as f64 / self.whole.max(1) as f64
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Verdict { exchanges, whole, reported, damaged, halves, wrong, silent } = self;
        write!(
            f,
            "{exchanges} exchanges, {whole} of them whole: {reported} reported as they were ({:.2} %); {damaged} more with \
             their loss, {halves} by halves, {} wrongly, {} silently",
            self.percent(),
            wrong.len(),
            silent.len()
        )
    }
}

/// What a pair is known by: client, request, response and when each of them began; none where one is missing.
fn pair(event: &Value) -> Option<String> {
    if !matches!(event["outcome"].as_str()?, "ok" | "error") {
        return None;
    }
    let attributes = &event["attributes"];
    let text = |name: &str| attributes[name].as_str().unwrap_or_default();
    Some(format!(
        "{} {} {}?{} {}\t{} +{}",
        event["client"]["port"],
        text("http.request.method"),
        text("url.path"),
        text("url.query"),
        attributes["http.response.status_code"],
        event["time"].as_str()?,
        event["timing"]["response_start"]
    ))
}

/// What is left of a [`pair`] where the times are not known.
fn without_times(pair: &str) -> String {
    pair.split('\t').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(exchange: u64, path: &str, status: u64, gap: u64) -> Value {
        serde_json::json!({
            "time": format!("2026-01-01T00:00:0{exchange}Z"),
            "outcome": "ok",
            "client": {"port": 4000, "bytes": 10},
            "server": {"bytes": 20},
            "connection": {"id": "x", "exchange": exchange},
            "timing": {"response_start": 5},
            "loss": {"gap_bytes": gap},
            "attributes": {"http.request.method": "GET", "url.path": path, "http.response.status_code": status},
        })
    }

    fn events_of(events: &[Value]) -> Events {
        let lines: Vec<_> = events.iter().map(Value::to_string).collect();
        super::events(lines.join("\n").as_bytes()).unwrap()
    }

    /// Of three exchanges the second misses bytes of its response.
    fn check(lossy: &[Value]) -> Verdict {
        let whole = events_of(&[event(0, "/a", 200, 0), event(1, "/b", 200, 0), event(2, "/c", 404, 0)]);
        let mut lost = Lost::default();
        lost.ranges.insert(((4000, 1), 1), vec![(25, 30)]);
        Verdict::of(&whole, &lost, &events_of(lossy)).unwrap()
    }

    #[test]
    fn whole_and_damaged_exchanges_are_told_apart() {
        let verdict = check(&[event(0, "/a", 200, 0), event(1, "/b", 200, 5), event(2, "/c", 404, 0)]);
        assert_eq!((verdict.exchanges, verdict.whole, verdict.reported, verdict.damaged), (3, 2, 2, 1));
        assert!(verdict.wrong.is_empty() && verdict.silent.is_empty());
    }

    #[test]
    fn another_response_is_a_wrong_pair_and_a_loss_unsaid_is_silent() {
        let verdict = check(&[event(0, "/a", 200, 0), event(1, "/b", 200, 0), event(2, "/c", 200, 0)]);
        assert_eq!((verdict.wrong.len(), verdict.silent.len()), (1, 1));
    }

    #[test]
    fn what_is_sent_again_is_not_lost() {
        let mut lost = Lost::default();
        for (range, left_out) in [((0, 10), true), ((10, 20), false), ((0, 10), false), ((10, 20), true)] {
            lost.note((4000, 1), 0, range, left_out);
        }
        assert!(!touches(&lost.ranges, (4000, 1), 0, (0, 20)));
        assert!(touches(&lost.late, (4000, 1), 0, (5, 6)));
        assert_eq!(lost.bytes, 0);
    }

    #[test]
    fn half_an_exchange_is_no_pair() {
        let mut half = event(0, "/a", 200, 0);
        half["outcome"] = "unmatched".into();
        let verdict = check(&[half]);
        assert_eq!((verdict.reported, verdict.halves, verdict.wrong.len()), (0, 1, 0));
    }
}
