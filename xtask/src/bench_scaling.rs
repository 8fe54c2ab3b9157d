//! `cargo xtask bench scaling`: how podtap's cost grows with connections, with decoders, and with the size of an event.
//!
//! Made captures of HTTP in raw IPv4, for a real server with a hundred thousand connections is not to be had on one machine.
//! Each has the same number of exchanges, so that one thing differs at a time. How it grows with capture workers shows
//! `cargo xtask bench live`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::bench::{self, Usage};
use crate::hostile_traffic::Capture;
use crate::{process, release, workspace};

/// How large, how often, and whether to keep the result.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Exchanges in each capture
    #[arg(long, default_value_t = 200_000)]
    exchanges: u32,
    /// Runs of each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Write the result to docs/benchmarks/DATE-scaling.md and .svg
    #[arg(long)]
    write: bool,
}

/// Connections that are open at once.
const CONNECTIONS: [u32; 6] = [1, 10, 100, 1000, 10_000, 100_000];
/// Where another thing is looked at.
const USUAL_CONNECTIONS: u32 = 100;
/// Bytes that a request's path has.
const PATHS: [usize; 5] = [16, 64, 256, 1024, 4096];
const USUAL_PATH: usize = 16;
/// More than the default, for the largest number of connections; so that nothing is let go of.
const BOUNDS: [(&str, &str); 1] = [("PODTAP_STREAM_MAX_CONNECTIONS", "200000")];

/// What one capture takes.
struct Point {
    /// Of what differs.
    value: f64,
    /// Median of the runs, without what a capture of no exchanges takes.
    ns_per_exchange: f64,
    memory_bytes: u64,
}

/// A thing that differs.
struct Series {
    name: &'static str,
    points: Vec<Point>,
}

/// Makes the captures, measures, and prints a Markdown page.
pub(crate) fn run(args: &Args) -> Result<()> {
    let podtap = release::build()?;
    let folder = workspace::target().join("bench/scaling");
    fs::create_dir_all(&folder)?;
    let bench = Bench { podtap: &podtap, exchanges: args.exchanges, rounds: args.rounds.max(1) };
    let nothing = folder.join("nothing.pcap");
    Capture::create(&nothing)?.finish()?;
    let start = bench.measure(&nothing, None)?;

    let mut connections = Vec::new();
    for count in CONNECTIONS {
        let capture = bench.capture(&folder, count, USUAL_PATH)?;
        connections.push(bench.point(count.into(), &bench.measure(&capture, None)?, &start));
        fs::remove_file(capture)?;
    }
    let usual = bench.capture(&folder, USUAL_CONNECTIONS, USUAL_PATH)?;
    let mut decoders = Vec::new();
    for (count, plugins) in decoder_folders(&podtap, &folder)? {
        let start = bench.measure(&nothing, Some(&plugins))?;
        decoders.push(bench.point(count as f64, &bench.measure(&usual, Some(&plugins))?, &start));
    }
    let mut sizes = Vec::new();
    for path in PATHS {
        let capture = bench.capture(&folder, USUAL_CONNECTIONS, path)?;
        let bytes = bench.event_bytes(&capture, &folder)?;
        sizes.push(bench.point(bytes, &bench.measure(&capture, None)?, &start));
        fs::remove_file(capture)?;
    }
    fs::remove_dir_all(&folder)?;
    let all = [
        Series { name: "connections at once", points: connections },
        Series { name: "decoders loaded", points: decoders },
        Series { name: "bytes of an event", points: sizes },
    ];
    let page = page(args, &all)?;
    print!("{page}");
    if args.write {
        bench::write_page(&page, "-scaling")?;
        bench::write_drawing(&drawing(&all)?, "-scaling")?;
    }
    Ok(())
}

struct Bench<'b> {
    podtap: &'b Path,
    exchanges: u32,
    rounds: usize,
}

impl Bench<'_> {
    /// So many connections, on which exchanges go by in turns, all open to the end.
    fn capture(&self, folder: &Path, connections: u32, path: usize) -> Result<PathBuf> {
        let file = folder.join(format!("{connections}-{path}.pcap"));
        let mut capture = Capture::create(&file)?;
        let path = "p".repeat(path.saturating_sub(1));
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n"
        );
        let body = "b".repeat(1024);
        let response = format!(
            "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Tue, 15 Nov 2022 08:12:31 GMT\r\nContent-Type: text/plain\r\n\
             Content-Length: {}\r\nConnection: keep-alive\r\n\r\n{body}",
            body.len()
        );
        let turns = [(0, request.as_bytes()), (1, response.as_bytes())];
        capture.exchanges(connections, 80, self.exchanges, &turns)?;
        capture.finish()?;
        Ok(file)
    }

    fn command(&self, capture: &Path) -> std::process::Command {
        let mut command = release::command(self.podtap);
        command.arg("replay").arg(capture).args(["--output", "msgpack"]).envs(BOUNDS);
        command
    }

    /// All runs of a capture.
    fn measure(&self, capture: &Path, plugins: Option<&Path>) -> Result<Vec<Usage>> {
        (0..self.rounds)
            .map(|_| {
                let mut command = self.command(capture);
                command.args(["--output-file", "/dev/null"]);
                if let Some(plugins) = plugins {
                    command.env("PODTAP_PLUGINS_DIRECTORIES", plugins);
                }
                bench::measure(&mut command)
            })
            .collect()
    }

    fn point(&self, value: f64, runs: &[Usage], start: &[Usage]) -> Point {
        let seconds = |runs: &[Usage]| bench::median(runs.iter().map(|run| run.cpu_seconds));
        Point {
            value,
            ns_per_exchange: (seconds(runs) - seconds(start)).max(0.0) * 1e9 / f64::from(self.exchanges),
            memory_bytes: runs.iter().map(|run| run.memory_bytes).max().unwrap_or_default(),
        }
    }

    /// Length of an event; all exchanges have to be there.
    fn event_bytes(&self, capture: &Path, folder: &Path) -> Result<f64> {
        let events = folder.join("events.msgpack");
        let mut command = self.command(capture);
        let said = process::captured(command.arg("--output-file").arg(&events))?;
        let found = format!("  {}  exchanges", self.exchanges);
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        ensure!(said.contains(found.trim_start()), "not {} exchanges: {said}", self.exchanges);
        let bytes = fs::metadata(&events)?.len();
        fs::remove_file(&events)?;
        Ok(bytes as f64 / f64::from(self.exchanges))
    }
}

/// Folders with one decoder, two and so on: that of HTTP first, then the others that are built.
fn decoder_folders(podtap: &Path, folder: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let release = podtap.parent().context("a folder of the program")?;
    let mut files = Vec::new();
    for name in ["plugins/http", "plugins/mysql", "plugins/mongodb", "example-plugins/redis", "test-plugins/template"] {
        files.push(release.join(name).with_extension("wasm"));
    }
    (1..=files.len())
        .map(|count| {
            let of_count = folder.join(format!("decoders-{count}"));
            fs::create_dir_all(&of_count)?;
            for file in &files[..count] {
                let name = file.file_name().context("a file")?;
                fs::copy(file, of_count.join(name)).with_context(|| file.display().to_string())?;
            }
            Ok((count, of_count))
        })
        .collect()
}

fn page(args: &Args, all: &[Series]) -> Result<String> {
    let mut page = format!(
        "Captures made by `cargo xtask bench scaling`: {} exchanges of HTTP each, a request of some 120 bytes and a response of \
         1.2 KiB;\nunless said otherwise on {USUAL_CONNECTIONS} connections. CPU time of a replay, user and system, without \
         what a capture without a packet takes; median of {} runs.\n\n![Time of an exchange](DATE-scaling.svg)\n",
        args.exchanges,
        args.rounds.max(1)
    );
    for series in all {
        writeln!(page, "\n| {} | time of an exchange | memory |\n|---:|---:|---:|", series.name)?;
        for point in &series.points {
            let mebibytes = point.memory_bytes as f64 / 1024.0 / 1024.0;
            writeln!(page, "| {:.0} | {:.2} µs | {mebibytes:.1} MiB |", point.value, point.ns_per_exchange / 1e3)?;
        }
        if let [first, .., last] = &series.points[..]
            && series.name.starts_with("connections")
        {
            let bytes = last.memory_bytes.saturating_sub(first.memory_bytes) as f64 / (last.value - first.value);
            writeln!(page, "\nA connection that was decoded and is idle takes {bytes:.0} bytes in all.")?;
        }
    }
    writeln!(page, "\nMachine: {}", bench::machine()?)?;
    Ok(page)
}

const WIDTH: f64 = 760.0;
const PANEL: f64 = 170.0;
const LEFT: f64 = 56.0;
const GAP: f64 = 70.0;

/// A panel for each thing that differs, side by side; powers of ten or two to the right, time upwards from 0.
fn drawing(all: &[Series]) -> Result<String> {
    const HEIGHT: f64 = 240.0;
    const TOP: f64 = 30.0;
    const BOTTOM: f64 = 190.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" role=\"img\" \
         aria-labelledby=\"t\">\n<title id=\"t\">CPU time of an exchange by connections, decoders and size</title>\n\
         <style>svg{{--page:#fff;--text:#24292f;--quiet:#59636e;--grid:#d8dee4;--line:#0b62c4}}\
         @media(prefers-color-scheme:dark){{svg{{--page:#16181a;--text:#d6d8d4;--quiet:#989e9a;--grid:#33383d;--line:#62b8d8}}}}\
         .page{{fill:var(--page)}}text{{fill:var(--quiet);font:12px system-ui,sans-serif}}.name{{fill:var(--text)}}\
         .grid{{stroke:var(--grid)}}.line{{stroke:var(--line);stroke-width:1.5;fill:none}}.dot{{fill:var(--line)}}</style>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n"
    );
    let times = all.iter().flat_map(|series| &series.points).map(|point| point.ns_per_exchange / 1e3);
    let most = times.fold(0.0, f64::max).max(1.0).ceil();
    for (at, series) in all.iter().enumerate() {
        let left = LEFT + at as f64 * (PANEL + GAP);
        let logarithmic = series.name != "decoders loaded";
        let place = |value: f64| if logarithmic { value.max(1.0).ln() } else { value };
        let ends = [&series.points[0], &series.points[series.points.len() - 1]].map(|point| place(point.value));
        let x = |value: f64| left + (place(value) - ends[0]) / (ends[1] - ends[0]).max(1e-9) * PANEL;
        let y = |ns: f64| BOTTOM - ns / 1e3 / most * (BOTTOM - TOP);
        for step in 0..=4 {
            let value = most * f64::from(step) / 4.0;
            let height = y(value * 1e3);
            writeln!(out, "<path class=\"grid\" d=\"M{left:.0} {height:.1}h{PANEL}\"/>")?;
            writeln!(
                out,
                "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                left - 6.0,
                height + 4.0
            )?;
        }
        let mut line = String::new();
        for point in &series.points {
            let (x, y) = (x(point.value), y(point.ns_per_exchange));
            write!(line, "{}{x:.1} {y:.1}", if line.is_empty() { "M" } else { "L" })?;
            writeln!(out, "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>")?;
            writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 18.0,
                short(point.value)
            )?;
        }
        writeln!(out, "<path class=\"line\" d=\"{line}\"/>")?;
        let middle = left + PANEL / 2.0;
        writeln!(
            out,
            "<text class=\"name\" x=\"{middle:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            BOTTOM + 38.0,
            series.name
        )?;
    }
    writeln!(out, "<text class=\"name\" x=\"12\" y=\"18\">µs of CPU time for an exchange</text>\n</svg>")?;
    Ok(out)
}

fn short(value: f64) -> String {
    if value >= 1000.0 { format!("{:.0}k", value / 1000.0) } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_has_a_point_for_each_capture() {
        let point = |value, ns_per_exchange| Point { value, ns_per_exchange, memory_bytes: 1 << 20 };
        let series = |name| Series { name, points: vec![point(1.0, 1500.0), point(1000.0, 3000.0)] };
        let drawing = drawing(&[series("connections at once"), series("decoders loaded")]).unwrap();
        assert_eq!(drawing.matches("<circle").count(), 4);
        assert!(drawing.contains("cx=\"56.0\" cy=\"110.0\"") && drawing.contains(">1k</text>"), "{drawing}");
    }
}
