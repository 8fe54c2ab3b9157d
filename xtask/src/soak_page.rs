//! What `cargo xtask soak` has seen, in words for the terminal and for docs/soak.md, and as the drawing docs/soak.svg.

use std::fmt::{self, Write};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::bench::machine;
use crate::soak::{CATCH_UP_SECONDS, CAUGHT_UP_SECONDS, Seen};
use crate::soak_samples::{Sample, Third, thirds};
use crate::{process, workspace};

/// Writes both into docs/.
pub(crate) fn write(seen: &Seen, podtap: &Path) -> Result<()> {
    let docs = workspace::root().join("docs");
    fs::write(docs.join("soak.svg"), drawing(seen)?)?;
    fs::write(docs.join("soak.md"), page(seen, podtap)?)?;
    println!("written: docs/soak.md, docs/soak.svg");
    Ok(())
}

fn page(seen: &Seen, podtap: &Path) -> Result<String> {
    let minutes = seen.plan.length.as_secs() / 60;
    let date = process::output(Command::new("date").args(["--utc", "+%F"]))?;
    let version = process::output(Command::new(podtap).arg("--version"))?;
    let slack = seen.plan.slack_bytes >> 20;
    Ok(format!(
        "<!-- Written by `cargo xtask soak --minutes {minutes} --write`, which makes it anew. -->\n\n\
         # A long run\n\n\
         What podtap takes over time, while traffic, decoders and brokers come and go: {minutes} minutes on {}, on a machine \
         with\nother work. podtap captured live with two workers and a spool, and published to three brokers of a real Apache \
         Kafka.\nnginx was under many short connections and under few long ones, and moved to other ports; MariaDB was under \
         sysbench, with\nstatements as text and prepared ones; a MongoDB server under pymongo; beside, connections were reset, \
         refused or\nasked nothing. All decoders were exchanged every {} s, as an update of a ConfigMap does it, and every {} s \
         a broker ended,\nkilled or asked to in turns, and came back.\n\n\
         ![Memory, descriptors and delivery lag over time](soak.svg)\n\n\
         Memory steps up where decoders are compiled for the first time while podtap runs. Of each third of the time the medians:\n\n\
         {}\n\
         The run fails where\n\n\
         - the median of the last third is above that of the middle one, by more than {slack} MiB of memory or {} descriptors,\n\
         - {CATCH_UP_SECONDS} s after a broker leads again more waits than what came in the last {CAUGHT_UP_SECONDS} s,\n\
         - a packet, a byte or a connection is in none or in two of podtap's counts,\n\
         - an exchange or a connection that podtap counted is not in the topic, by its id, or one is there that it did not count,\n\
         - where the kernel dropped nothing: what was answered differs from nginx's logs, the statements and rows from MariaDB's\n  \
         own counters, or the commands from those that pymongo asked,\n\
         - podtap's log has an error, or a warning other than that brokers are away.\n\n\
         Lag is how long ago podtap had published as many events as have been acknowledged by now. Machine: {}; {}.\n",
        date.trim(),
        seen.plan.swap_every.as_secs(),
        seen.plan.restart_every.unwrap_or_default().as_secs(),
        figures(seen)?,
        seen.plan.slack_descriptors,
        machine()?,
        version.trim(),
    ))
}

/// Two tables, as Markdown.
pub(crate) fn figures(seen: &Seen) -> Result<String> {
    let mut page = "| | first third | middle | last | most |\n|---|---:|---:|---:|---:|\n".to_owned();
    let mebibytes = |value: f64| format!("{:.1} MiB", value / 1024.0 / 1024.0);
    let whole = |value: f64| format!("{value:.0}");
    let seconds = |value: f64| format!("{value:.1} s");
    let of = |value: fn(&Sample) -> f64| thirds(&seen.samples, value);
    row(&mut page, "memory (RSS)", &seen.memory(), mebibytes)?;
    row(&mut page, "of that, of decoders", &of(|sample| sample.decoder_bytes as f64), mebibytes)?;
    row(&mut page, "descriptors", &seen.descriptors(), whole)?;
    row(&mut page, "threads", &of(|sample| sample.threads as f64), whole)?;
    row(&mut page, "connections tracked", &of(|sample| sample.connections as f64), whole)?;
    row(&mut page, "delivery lag", &of(|sample| sample.lag_seconds), seconds)?;
    row(&mut page, "events that wait", &of(|sample| sample.waiting_events as f64), whole)?;
    row(&mut page, "spool", &of(|sample| sample.spool_bytes as f64), mebibytes)?;

    let (exchanges, connections) = (seen.counted("exchanges"), seen.counted("connection events"));
    let of_protocol = |name: &str| format!("{} {name}", seen.topic.exchanges_of(name));
    let cpu = match (seen.samples.first(), seen.samples.last()) {
        (Some(first), Some(last)) => (last.cpu_seconds - first.cpu_seconds) / (last.seconds - first.seconds).max(1.0),
        _ => 0.0,
    };
    let rows = [
        ("exchanges".to_owned(), format!("{exchanges} ({})", ["http", "mysql", "mongodb"].map(of_protocol).join(", "))),
        ("connections".to_owned(), connections.to_string()),
        ("of these events, in the topic".to_owned(), format!("{} of {}", seen.topic.events, exchanges + connections)),
        ("in the topic twice".to_owned(), (seen.topic.records - seen.topic.events).to_string()),
        ("packets".to_owned(), seen.counted("packets").to_string()),
        ("packets dropped by the kernel".to_owned(), seen.counted("packets dropped by kernel").to_string()),
        ("CPU time".to_owned(), format!("{:.1} % of a core", cpu * 100.0)),
        ("decoders exchanged".to_owned(), format!("{} times all {}", seen.swaps.len(), seen.decoders)),
        ("brokers that ended and came back".to_owned(), seen.outages.len().to_string()),
        (format!("longest time with a lag of more than {CAUGHT_UP_SECONDS} s"), format!("{:.0} s", seen.longest_lag())),
        ("from SIGTERM to the end".to_owned(), format!("{:.1} s", seen.drain.as_secs_f64())),
    ];
    page += "\n| | |\n|---|---:|\n";
    for (name, value) in rows {
        writeln!(page, "| {name} | {value} |")?;
    }
    Ok(page)
}

fn row(page: &mut String, name: &str, thirds: &[Third; 3], show: impl Fn(f64) -> String) -> fmt::Result {
    let [first, middle, last] = thirds.each_ref().map(|third| show(third.median));
    let most = thirds.iter().map(|third| third.most).fold(0.0, f64::max);
    writeln!(page, "| {name} | {first} | {middle} | {last} | {} |", show(most))
}

const WIDTH: f64 = 860.0;
/// Room for the numbers of the axes.
const LEFT: f64 = 48.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 44.0;
/// Of one panel, and what is between two.
const PANEL: f64 = 120.0;
const BETWEEN: f64 = 34.0;
const BELOW: f64 = 28.0;
/// Points of a line, at most. Of several samples the greatest is drawn, so that no peak is left out.
const POINTS: usize = 430;

/// Shows in the colours that its viewer prefers.
const STYLE: &str = "svg{--page:#fff;--text:#24292f;--quiet:#59636e;--grid:#d8dee4;--line:#0b62c4;--away:#f6d9a8;--swap:#9aa4ae}\
    @media(prefers-color-scheme:dark){svg{--page:#16181a;--text:#d6d8d4;--quiet:#989e9a;--grid:#33383d;--line:#62b8d8;\
    --away:#5a4520;--swap:#697077}}\
    .page{fill:var(--page)}text{fill:var(--quiet);font:12px system-ui,sans-serif}.name{fill:var(--text)}\
    .grid{stroke:var(--grid)}.line{stroke:var(--line);stroke-width:1.5;fill:none;stroke-linejoin:round}\
    .away{fill:var(--away)}.swap{stroke:var(--swap)}";

/// Three panels over one axis of time.
fn drawing(seen: &Seen) -> Result<String> {
    let [memory, descriptors, lag]: [fn(&Sample) -> f64; 3] = [
        |sample| sample.resident_bytes as f64 / 1024.0 / 1024.0,
        |sample| sample.descriptors as f64,
        |sample| sample.lag_seconds,
    ];
    let panels = [("Memory (RSS), MiB", memory), ("Descriptors", descriptors), ("Delivery lag, s", lag)];
    let seconds = seen.plan.length.as_secs_f64();
    let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * (at / seconds).clamp(0.0, 1.0);
    let bottom = TOP + panels.len() as f64 * (PANEL + BETWEEN) - BETWEEN;
    let height = bottom + BELOW;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" role=\"img\" \
         aria-labelledby=\"t\">\n<title id=\"t\">podtap's memory, descriptors and delivery lag over {:.0} minutes</title>\n\
         <style>{STYLE}</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n",
        seconds / 60.0
    );
    for outage in &seen.outages {
        let (from, until) = (x(outage.from), x(outage.until));
        let width = (until - from).max(1.0);
        writeln!(
            out,
            "<rect class=\"away\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{:.1}\"/>",
            bottom - TOP
        )?;
    }
    for (at, (name, value)) in panels.into_iter().enumerate() {
        let top = TOP + at as f64 * (PANEL + BETWEEN);
        panel(&mut out, (name, top), &seen.samples, value, x)?;
    }
    let mut swaps = String::new();
    for &swap in &seen.swaps {
        write!(swaps, "M{:.1} {bottom:.1}v-6", x(swap))?;
    }
    writeln!(out, "<path class=\"swap\" d=\"{swaps}\"/>")?;
    let step = (seconds / 60.0 / 5.0).ceil().max(1.0) * 60.0;
    for label in (0..).map(|label| f64::from(label) * step).take_while(|&label| label <= seconds) {
        let anchor = if label == 0.0 {
            "start"
        } else if label + step > seconds {
            "end"
        } else {
            "middle"
        };
        let (x, y, minutes) = (x(label), bottom + 18.0, label / 60.0);
        let unit = if label == 0.0 { " min" } else { "" };
        writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{minutes:.0}{unit}</text>")?;
    }
    writeln!(
        out,
        "<rect class=\"away\" x=\"{LEFT}\" y=\"10\" width=\"14\" height=\"10\"/><text x=\"{}\" y=\"19\">a broker is away</text>\
         <path class=\"swap\" d=\"M{} 11v8\"/><text x=\"{}\" y=\"19\">decoders exchanged</text>\n</svg>",
        LEFT + 20.0,
        LEFT + 140.0,
        LEFT + 146.0
    )?;
    Ok(out)
}

/// A line over an axis that begins with 0.
fn panel(
    out: &mut String,
    (name, top): (&str, f64),
    samples: &[Sample],
    value: impl Fn(&Sample) -> f64,
    x: impl Fn(f64) -> f64,
) -> fmt::Result {
    let most = samples.iter().map(&value).fold(0.0, f64::max);
    let step = step(most);
    let steps = (most / step).ceil().max(1.0);
    let y = |value: f64| top + PANEL - PANEL * value / (steps * step);
    for line in 0..=steps as u32 {
        let value = f64::from(line) * step;
        let y = y(value);
        writeln!(
            out,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0
        )?;
    }
    writeln!(out, "<text class=\"name\" x=\"{LEFT}\" y=\"{:.1}\">{name}</text>", top - 8.0)?;
    let mut line = String::new();
    for part in samples.chunks(samples.len().div_ceil(POINTS).max(1)) {
        let highest = part.iter().map(&value).fold(0.0, f64::max);
        let before = if line.is_empty() { 'M' } else { 'L' };
        write!(line, "{before}{:.1} {:.1}", x(part[0].seconds), y(highest))?;
    }
    writeln!(out, "<path class=\"line\" d=\"{line}\"/>")
}

/// Between two lines of the axis: 1, 2 or 5 of a power of ten, so that there are at most five.
fn step(most: f64) -> f64 {
    let steps = (0..).flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10_f64.powi(power)));
    steps.take(30).find(|step| most / step <= 4.0).unwrap_or(f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn an_axis_has_few_lines_at_round_numbers() {
        for (most, expected) in [(0.0, 1.0), (4.0, 1.0), (4.1, 2.0), (19.0, 5.0), (48.0, 20.0), (81.0, 50.0)] {
            assert!((step(most) - expected).abs() < 1e-9, "{most}");
        }
    }
}
