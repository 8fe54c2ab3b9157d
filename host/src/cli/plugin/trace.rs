//! `podtap plugin trace`: for one connection of a capture, what went into a decoder, what came out, and where it lost its
//! way. Entries are given one by one, and nothing is left out that the decoder does not need, so that all is seen.
//!
//! The only place where podtap shows payload: on the terminal of the one who has the capture, escaped and in pieces.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use podtap_stream::{CloseReason, Connection, OpenedBy, Side};

use super::load;
use crate::author::{Happening, Recorded, Recording};
use crate::cli::print;
use crate::config::Config;
use crate::decoder::{Batch, DemandKind, Descriptor, Entry, Instance, Place, Row, Rows, Verdict};
use crate::event::Value;
use crate::publish::Printable;

/// Bytes of payload that are shown of a segment.
const MAX_PREVIEW: usize = 48;

pub(super) fn trace(file: &Path, capture: &Path, number: Option<usize>, config: &Config) -> anyhow::Result<ExitCode> {
    let (runtime, plugin) = load(file, config)?;
    let recording = Recording::read(capture).with_context(|| capture.display().to_string())?;
    let connections = &recording.connections;
    let index = match number {
        None if connections.len() == 1 => 0,
        Some(number) if (1..=connections.len()).contains(&number) => number - 1,
        _ => bail!("{}", which(capture, &recording)),
    };
    let mut instance = runtime.instance(&plugin).with_context(|| file.display().to_string())?;
    let mut trace =
        Trace { out: String::new(), descriptor: &plugin.descriptor, connection: connections[index], swapped: false };
    let of_it: Vec<_> = recording.recorded.iter().filter(|recorded| recorded.connection == index).collect();
    let ended = trace.run(&mut instance, index + 1, &of_it);
    print(&trace.out)?;
    ended.with_context(|| file.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Which connections there are to choose from.
fn which(capture: &Path, recording: &Recording) -> String {
    let shown = recording.connections.iter().enumerate().take(20).map(|(index, connection)| {
        let [a, b] = [connection.a, connection.b].map(|end| format!("{}:{}", end.address, end.port));
        format!("{} {a} -> {b}", index + 1)
    });
    let list = shown.collect::<Vec<_>>().join(", ");
    let more = if recording.connections.len() > 20 { ", ..." } else { "" };
    match recording.connections.len() {
        0 => format!("{}: no TCP connection in it carries payload", capture.display()),
        count => format!("{}: has {count} connections; choose one with --connection: {list}{more}", capture.display()),
    }
}

struct Trace<'t> {
    out: String,
    descriptor: &'t Descriptor,
    connection: Connection,
    /// Side B is the client.
    swapped: bool,
}

impl Trace<'_> {
    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{text}");
    }

    fn run(&mut self, instance: &mut Instance, number: usize, recorded: &[&Recorded]) -> anyhow::Result<()> {
        let Connection { a, b, opened_by, start_ns, .. } = self.connection;
        self.probe(instance, recorded)?;
        let (client, server) = if self.swapped { (b, a) } else { (a, b) };
        let midstream = opened_by == OpenedBy::Midstream;
        self.line(format_args!(
            "connection {number}: {}:{} -> {}:{}{}",
            client.address,
            client.port,
            server.address,
            server.port,
            if midstream { ", from its middle" } else { "" }
        ));
        let mut batch = Batch::default();
        batch.open(0, client, server, midstream);
        for recorded in recorded {
            self.entry(&mut batch, recorded, start_ns);
            let fed = instance.feed(&batch, self.descriptor, |rows| self.rows(&rows, start_ns));
            batch.clear();
            if let Err(failure) = fed {
                self.line(format_args!("{:12}  !! the decoder fails: {failure}", ""));
                bail!("the decoder fails on this entry: {failure}");
            }
        }
        Ok(())
    }

    /// Asks as podtap does; who is the client shows in that where the capture does not say.
    fn probe(&mut self, instance: &mut Instance, recorded: &[&Recorded]) -> anyhow::Result<()> {
        let first = |wanted: Side| {
            recorded.iter().find_map(|recorded| match &recorded.happening {
                Happening::Data(side, _, bytes) if *side == wanted => Some(bytes.as_slice()),
                _ => None,
            })
        };
        let mut is_client = [false; 2];
        for (index, side) in [Side::A, Side::B].into_iter().enumerate() {
            let Some(head) = first(side) else { continue };
            let known = self.connection.opened_by == OpenedBy::Handshake;
            for from_server in
                [false, true].into_iter().filter(|from_server| !known || *from_server == (side == Side::B))
            {
                let verdict = instance.probe(from_server, head)?;
                is_client[index] |= !from_server && verdict == Verdict::Yes;
                let name = if from_server { "server" } else { "client" };
                let said = match verdict {
                    Verdict::Yes => "yes",
                    Verdict::No => "no",
                    Verdict::NeedMore => "need more",
                };
                self.line(format_args!("probe as {name}'s: {said:<9}  {}", preview(head)));
            }
        }
        self.swapped = self.connection.opened_by == OpenedBy::Midstream && is_client == [false, true];
        Ok(())
    }

    fn entry(&mut self, batch: &mut Batch, recorded: &Recorded, start_ns: u64) {
        let time_ns = recorded.time_ns;
        let place = |side: Side, position| Place {
            connection: 0,
            from_server: (side == Side::B) != self.swapped,
            time_ns,
            position,
        };
        let name = |place: Place| if place.from_server { "server" } else { "client" };
        let time = Offset(time_ns.saturating_sub(start_ns));
        match &recorded.happening {
            Happening::Data(side, position, bytes) => {
                let place = place(*side, *position);
                batch.push(place, Entry::Data(bytes));
                let length = bytes.len();
                self.line(format_args!("{time}  {} {position:>8} {length:>6}  {}", name(place), preview(bytes)));
            }
            Happening::Gap(side, position, length) => {
                let place = place(*side, *position);
                batch.push(place, Entry::Gap(*length));
                self.line(format_args!("{time}  {} {position:>8} {length:>6}  gap: never captured", name(place)));
            }
            Happening::End(side, position) => {
                let place = place(*side, *position);
                batch.push(place, Entry::End);
                self.line(format_args!("{time}  {} {position:>8}         end", name(place)));
            }
            Happening::Closed(reason) => {
                let (how, said) = match reason {
                    CloseReason::Finished => (0, "finished"),
                    CloseReason::Reset(_) | CloseReason::Refused => (1, "reset"),
                    _ => (2, "no longer tracked"),
                };
                batch.push(place(Side::A, 0), Entry::Closed(how));
                self.line(format_args!("{time}  closed: {said}"));
            }
        }
    }

    fn rows(&mut self, rows: &Rows<'_>, start_ns: u64) {
        for row in rows.each() {
            let Row { outcome, times, sizes: [request, response, lost], texts, attributes, .. } = row;
            let [operation, target, summary] = &texts;
            let what = if summary.is_empty() { format!("{operation} {target}") } else { summary.to_string() };
            let moments = times.map(|time| match time {
                0 => "?".to_owned(),
                time => Offset(time.saturating_sub(start_ns)).to_string().trim().to_owned(),
            });
            let mut line = format!(
                "=> {} {}  request {} to {}, {request} bytes; response {} to {}, {response} bytes",
                outcome.name(),
                Printable(what.trim()),
                moments[0],
                moments[1],
                moments[2],
                moments[3]
            );
            if lost > 0 {
                let _ = write!(line, "; {lost} bytes lost");
            }
            for (name, value) in attributes {
                let _ = match value {
                    Value::Text(text) => write!(line, "  {name}={}", Printable(&text)),
                    Value::Uint(number) => write!(line, "  {name}={number}"),
                    Value::Int(number) => write!(line, "  {name}={number}"),
                    Value::Float(number) => write!(line, "  {name}={number}"),
                    Value::Flag(flag) => write!(line, "  {name}={flag}"),
                };
            }
            self.line(format_args!("{:12}  {line}", ""));
        }
        for demand in rows.demands() {
            let side = if demand.from_server { "server" } else { "client" };
            let what = match demand.kind {
                DemandKind::Skip => format!("{side}'s bytes before {} are not needed", demand.position),
                DemandKind::Ignore => "no more of this connection".to_owned(),
                DemandKind::Detect => format!("another protocol from {} of the {side} on", demand.position),
            };
            self.line(format_args!("{:12}  => demand: {what}", ""));
        }
        if rows.undecoded_bytes() > 0 {
            let bytes = rows.undecoded_bytes();
            self.line(format_args!("{:12}  !! {bytes} bytes undecoded: the decoder has lost its way", ""));
        }
    }
}

/// Seconds since the connection's first packet.
struct Offset(u64);

impl std::fmt::Display for Offset {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:>5}.{:06}", self.0 / 1_000_000_000, self.0 % 1_000_000_000 / 1000)
    }
}

/// The beginning of some bytes, with everything that is not plain ASCII escaped.
fn preview(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(MAX_PREVIEW)];
    let more = if bytes.len() > shown.len() { "..." } else { "" };
    format!("\"{}\"{more}", shown.escape_ascii())
}
