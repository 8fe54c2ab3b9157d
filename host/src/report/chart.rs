//! Drawings of the page, as SVG within it: no script, no file beside. Each is one image with a title that says in words what
//! it shows; the tables hold the figures.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::escape::Escaped;
use crate::event::Timestamp;
use crate::latency::Latencies;
use crate::publish::DisplayDuration;
use crate::view::{Count, Edge, Rate, Slot, Timeline, View};

/// Width of the drawings that fill the page.
const WIDTH: f64 = 1000.0;
/// Room at the left for the numbers of the axis.
const LEFT: f64 = 46.0;
const TOP: f64 = 16.0;
const PLOT: f64 = 130.0;
/// Room for what stands below the axis.
const BELOW: f64 = 22.0;

/// A column of a bar chart: exchanges that did not fail, those that did, and what it says where it is pointed at.
struct Bar {
    ok: u64,
    failed: u64,
    title: String,
}

/// Bars of equal width over an axis; `labels` are put below at places from 0 to 1, `marks` are lines through it.
fn bars(
    out: &mut String,
    (id, title): (&str, &str),
    bars: &[Bar],
    labels: &[(f64, String)],
    marks: &[(f64, String)],
) -> fmt::Result {
    let height = TOP + PLOT + BELOW;
    let width = WIDTH - LEFT;
    write!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}\"><title id=\"{id}\">{}</title>",
        Escaped(title)
    )?;
    let highest = bars.iter().map(|bar| bar.ok + bar.failed).max().unwrap_or(0).max(1);
    let step = step(highest);
    let most = highest.div_ceil(step) * step;
    let scale = PLOT / most as f64;
    for value in (0..=most).step_by(step as usize) {
        let y = TOP + PLOT - value as f64 * scale;
        let class = if value == 0 { "axis" } else { "grid" };
        write!(out, "<path class=\"{class}\" d=\"M{LEFT} {y:.1}H{WIDTH}\"/>")?;
        write!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 6.0, y + 3.5, Count(value))?;
    }
    let each = width / bars.len().max(1) as f64;
    // A hair between them, unless there are too many.
    let bar_width = (each - 1.0).max(each * 0.8).min(48.0);
    for (index, bar) in bars.iter().enumerate().filter(|(_, bar)| bar.ok + bar.failed > 0) {
        let x = LEFT + each * index as f64 + (each - bar_width) / 2.0;
        // What is there is to be seen, however little of it.
        let tall = |count: u64| if count == 0 { 0.0 } else { (count as f64 * scale).max(1.5) };
        let (ok, failed) = (tall(bar.ok), tall(bar.failed));
        let base = TOP + PLOT;
        write!(out, "<g><title>{}</title>", Escaped(&bar.title))?;
        for (class, tall, bottom) in [("ok", ok, base), ("failed", failed, base - ok)] {
            if tall > 0.0 {
                let y = bottom - tall;
                write!(
                    out,
                    "<path class=\"{class}\" d=\"M{x:.1} {y:.1}h{bar_width:.1}v{tall:.1}h-{bar_width:.1}z\"/>"
                )?;
            }
        }
        out.push_str("</g>");
    }
    for (place, text) in marks {
        let x = LEFT + width * place;
        let (anchor, beside) = if *place > 0.9 { ("end", -4.0) } else { ("start", 4.0) };
        write!(out, "<path class=\"mark\" d=\"M{x:.1} {:.1}V{:.1}\"/>", TOP - 10.0, TOP + PLOT)?;
        write!(
            out,
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{text}</text>",
            x + beside,
            TOP - 3.0
        )?;
    }
    for (place, text) in labels {
        let x = LEFT + width * place;
        let anchor = if *place < 0.04 {
            "start"
        } else if *place > 0.96 {
            "end"
        } else {
            "middle"
        };
        write!(out, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{text}</text>", TOP + PLOT + 15.0)?;
    }
    out.push_str("</svg>\n");
    Ok(())
}

/// Between two lines of the axis: 1, 2 or 5 of a power of ten, for three to six of them.
fn step(highest: u64) -> u64 {
    let mut step = 1;
    for factor in [2, 5, 10].into_iter().cycle() {
        if highest.div_ceil(step) <= 5 {
            break;
        }
        // 1, 2, 5, 10: each from the power of ten before.
        let power = 10_u64.pow(step.ilog10());
        step = power.saturating_mul(factor);
    }
    step
}

/// Exchanges over time.
pub(super) fn timeline(out: &mut String, view: &View) -> fmt::Result {
    let timeline = view.timeline();
    let (start, width) = (timeline.start_ns(), timeline.width_ns());
    let slots: Vec<Slot> = timeline.slots().collect();
    let time = |slot: usize| clock(start + width * slot as u64, width);
    let columns: Vec<_> = slots
        .iter()
        .enumerate()
        .map(|(index, slot)| {
            let (all, failed) = (u64::from(slot.exchanges), u64::from(slot.failures));
            let title = format!("{}: {} exchanges, {} failed", time(index), Count(all), Count(failed));
            Bar { ok: all - failed, failed, title }
        })
        .collect();
    let label = |part: usize| {
        let slot = slots.len() * part / 4;
        (slot as f64 / slots.len() as f64, time(slot))
    };
    // Of few slots, their own times; else the quarters.
    let labels: Vec<_> = match slots.len() {
        0 => Vec::new(),
        1..8 => vec![label(0)],
        _ => (0..5).map(label).collect(),
    };
    let busiest = slots.iter().map(|slot| slot.exchanges).max().unwrap_or(0);
    let title = format!(
        "Exchanges over time, in {} slots of {}: at most {} in one",
        slots.len(),
        span(width),
        Count(u64::from(busiest))
    );
    bars(out, ("timeline-title", &title), &columns, &labels, &[])
}

/// A moment, as precise as slots of that width need it: `21:44:08.25`.
fn clock(ns: u64, width_ns: u64) -> String {
    let text = Timestamp(ns).to_string();
    let (date, time) = text.split_at(11);
    let (seconds, fraction) = time.split_at(8);
    match width_ns {
        0..100_000_000 => format!("{seconds}{}", &fraction[..4]),
        100_000_000..1_000_000_000 => format!("{seconds}{}", &fraction[..2]),
        1_000_000_000..86_400_000_000_000 => seconds.to_owned(),
        _ => date.trim_end_matches('T').to_owned(),
    }
}

/// A round span of time: `500 ms`, `5 s`, `10 min`, `6 h`, `1 d`.
pub(super) fn span(ns: u64) -> String {
    const UNITS: [(u64, &str); 5] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "min"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
    ];
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| ns >= *unit && ns.is_multiple_of(*unit)).unwrap_or((1, "ns"));
    format!("{} {name}", ns / unit)
}

/// Parts of a decade of the distribution: powers of the tenth root of ten, in percent.
const TENTHS: [u64; 10] = [100, 126, 158, 200, 251, 316, 398, 501, 631, 794];
/// Decades of the distribution, from 1 us to beyond an hour.
const DECADES: u32 = 10;

/// How long exchanges took, on a logarithmic scale.
pub(super) fn distribution(out: &mut String, view: &View) -> fmt::Result {
    let edges: Vec<u64> = (0..DECADES).flat_map(|decade| TENTHS.map(|tenth| tenth * 10 * 10_u64.pow(decade))).collect();
    let (mut ok, mut failed) = (Latencies::default(), Latencies::default());
    for (outcome, ended) in view.rows().flat_map(|row| row.outcomes()) {
        if outcome.is_failure() { failed.add(&ended.latencies) } else { ok.add(&ended.latencies) }
    }
    let all = view.latencies();
    // The first part lies below 1 us.
    let parts: Vec<_> = ok.spread(&edges).into_iter().zip(failed.spread(&edges)).collect();
    let busy = |(ok, failed): &(u64, u64)| ok + failed > 0;
    let (Some(first), Some(last)) = (parts.iter().position(busy), parts.iter().rposition(busy)) else {
        return out.write_str("<p class=\"quiet\">No exchange has a duration.</p>\n");
    };
    // Whole decades around, so that the axis has a label at least.
    let first = first.saturating_sub(1) / 10 * 10 + 1;
    let last = (last.div_ceil(10) * 10).min(parts.len() - 1);
    let below = |part: usize| edges.get(part).copied().unwrap_or(u64::MAX);
    let columns: Vec<_> = (first..=last)
        .map(|part| {
            let (mut ok, mut failed) = parts[part];
            let from = DisplayDuration(if part == 1 { 0 } else { edges[part - 1] });
            if part == 1 {
                (ok, failed) = (ok + parts[0].0, failed + parts[0].1);
            }
            let title = format!(
                "{from} to {}: {} exchanges, {} failed",
                DisplayDuration(below(part)),
                Count(ok + failed),
                Count(failed)
            );
            Bar { ok, failed, title }
        })
        .collect();
    let place = |ns: u64| {
        let tenths = 10.0 * (ns.max(1_000) as f64 / 1_000.0).log10();
        ((tenths - (first - 1) as f64) / columns.len() as f64).clamp(0.0, 1.0)
    };
    let decades = (first - 1..=last).step_by(10).filter_map(|part| edges.get(part));
    let labels: Vec<_> = decades.map(|&ns| (place(ns), round_duration(ns))).collect();
    let marks: Vec<_> = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]
        .into_iter()
        .filter_map(|(name, share)| Some((place(all.quantile(share)?), name.to_owned())))
        .collect();
    // Where they stand close together, the last name stands for all.
    let marks: Vec<_> = marks
        .iter()
        .enumerate()
        .map(|(index, (place, name))| {
            let covered = marks.get(index + 1).is_some_and(|(next, _)| next - place < 0.03);
            (*place, if covered { String::new() } else { name.clone() })
        })
        .collect();
    let [p50, p95, p99] = all.percentiles().map(|ns| DisplayDuration(ns.unwrap_or(0)));
    let title = format!(
        "Durations of {} exchanges on a logarithmic scale: p50 {p50}, p95 {p95}, p99 {p99}",
        Count(all.count())
    );
    bars(out, ("distribution-title", &title), &columns, &labels, &marks)
}

/// A power of ten: `1us`, `100ms`, `10s`.
fn round_duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{}us", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{}ms", ns / 1_000_000),
        _ => format!("{}s", ns / 1_000_000_000),
    }
}

/// Exchanges of one row over the time of all; the table beside it has the figures.
pub(super) fn sparkline(out: &mut String, part: &Timeline, whole: &Timeline) -> fmt::Result {
    /// More columns than this cannot be told apart.
    const COLUMNS: usize = 40;
    let slots = part.beside(whole);
    let each = slots.len().div_ceil(COLUMNS).max(1);
    let columns: Vec<(u64, u64)> = slots
        .chunks(each)
        .map(|slots| {
            let sum = |count: fn(&Slot) -> u32| slots.iter().map(|slot| u64::from(count(slot))).sum::<u64>();
            (sum(|slot| slot.exchanges), sum(|slot| slot.failures))
        })
        .collect();
    let highest = columns.iter().map(|(all, _)| *all).max().unwrap_or(0).max(1) as f64;
    out.push_str("<svg viewBox=\"0 0 120 18\" aria-hidden=\"true\" focusable=\"false\">");
    let width = 120.0 / columns.len().max(1) as f64;
    let bar = (width * 0.85).min(10.0);
    for (index, (all, failed)) in columns.iter().enumerate().filter(|(_, (all, _))| *all > 0) {
        let x = width * index as f64;
        let tall = (*all as f64 / highest * 17.0).max(1.0);
        let class = if *failed > 0 { "failed" } else { "ok" };
        write!(out, "<path class=\"{class}\" d=\"M{x:.1} 18v-{tall:.1}h{bar:.1}v{tall:.1}z\"/>")?;
    }
    out.write_str("</svg>")
}

/// Nodes on a side of the map, and edges.
const MAX_NODES: usize = 14;
const MAX_DRAWN: usize = 40;

/// Who calls whom: clients to the left, servers to the right. Returns how many edges are left to the table.
pub(super) fn map(out: &mut String, view: &View, edges: &[Edge<'_>]) -> Result<usize, fmt::Error> {
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    let mut drawn = Vec::new();
    for edge in edges {
        let (Some(client), Some(server)) = (edge.client, edge.server) else { continue };
        let new = (!clients.contains(&client), !servers.contains(&server));
        let is_full = new.0 && clients.len() == MAX_NODES || new.1 && servers.len() == MAX_NODES;
        if drawn.len() == MAX_DRAWN || is_full {
            continue;
        }
        clients.extend(new.0.then_some(client));
        servers.extend(new.1.then_some(server));
        drawn.push((client, server, edge));
    }
    const ROW: f64 = 34.0;
    const BOX: f64 = 250.0;
    let height = ROW * clients.len().max(servers.len()).max(1) as f64 + 4.0;
    let y = |index: usize, of: usize| height / 2.0 + ROW * (index as f64 - (of as f64 - 1.0) / 2.0);
    let title = format!("Who calls whom: {} clients, {} servers", clients.len(), servers.len());
    write!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-labelledby=\"map-title\"><title id=\"map-title\">{title}</title>"
    )?;
    // Protocols between the same two are one line.
    let mut lines: BTreeMap<(usize, usize), Vec<&Edge<'_>>> = BTreeMap::new();
    for (client, server, edge) in &drawn {
        let place = |found: Option<usize>| found.unwrap_or_default();
        let from = place(clients.iter().position(|known| known == client));
        let to = place(servers.iter().position(|known| known == server));
        lines.entry((from, to)).or_default().push(edge);
    }
    for ((from, to), edges) in &lines {
        let calls: u64 = edges.iter().map(|edge| edge.traffic.exchanges).sum();
        let failures: u64 = edges.iter().map(|edge| edge.traffic.failures).sum();
        let (start, end) = (y(*from, clients.len()), y(*to, servers.len()));
        let thick = 1.0 + (calls as f64).log2() * 0.7;
        let class = if failures > 0 { "link failing" } else { "link" };
        let (left, right, middle) = (BOX, WIDTH - BOX, WIDTH / 2.0);
        write!(out, "<g><title>{} exchanges, {} failed</title>", Count(calls), Count(failures))?;
        write!(
            out,
            "<path class=\"{class}\" stroke-width=\"{thick:.1}\" d=\"M{left} {start:.1}C{middle} {start:.1} {middle} {end:.1} {right} {end:.1}\"/></g>"
        )?;
    }
    for (index, client) in clients.iter().enumerate() {
        let name = view.name(*client).map_or_else(|| client.to_string(), |name| format!("{name} ({client})"));
        let calls: u64 =
            drawn.iter().filter(|(known, ..)| known == client).map(|(.., edge)| edge.traffic.exchanges).sum();
        node(out, 0.5, y(index, clients.len()), &name, &format!("{} exchanges", Count(calls)))?;
    }
    for (index, server) in servers.iter().enumerate() {
        let name = view.name(server.ip()).map_or_else(|| server.to_string(), |name| format!("{name} ({server})"));
        let mut protocols: Vec<_> =
            drawn.iter().filter(|(_, known, _)| known == server).map(|(.., edge)| edge.protocol).collect();
        protocols.sort_unstable();
        protocols.dedup();
        let calls: u64 =
            drawn.iter().filter(|(_, known, _)| known == server).map(|(.., edge)| edge.traffic.exchanges).sum();
        let rate = Rate(view.rate(calls));
        node(out, WIDTH - BOX - 0.5, y(index, servers.len()), &name, &format!("{} {rate}", protocols.join(", ")))?;
    }
    out.push_str("</svg>\n");
    Ok(edges.len() - drawn.len())
}

/// A box with a name and what it does.
fn node(out: &mut String, x: f64, y: f64, name: &str, what: &str) -> fmt::Result {
    /// Letters that fit.
    const LETTERS: usize = 38;
    let cut = |text: &str| match text.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    write!(out, "<rect class=\"node\" x=\"{x}\" y=\"{:.1}\" width=\"250\" height=\"30\" rx=\"3\"/>", y - 15.0)?;
    write!(out, "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>", x + 8.0, y - 2.0, Escaped(cut(name)))?;
    write!(out, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", x + 8.0, y + 10.5, Escaped(cut(what)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_few_lines_at_round_numbers() {
        for (highest, expected) in [
            (1, 1),
            (5, 1),
            (6, 2),
            (10, 2),
            (11, 5),
            (26, 10),
            (99, 20),
            (260, 100),
            (u64::MAX / 2, 2_000_000_000_000_000_000),
        ] {
            assert_eq!(step(highest), expected, "{highest}");
        }
    }

    #[test]
    fn spans_and_moments_are_as_precise_as_needed() {
        for (ns, text) in [
            (1_000_000, "1 ms"),
            (500_000_000, "500 ms"),
            (30_000_000_000, "30 s"),
            (600_000_000_000, "10 min"),
            (86_400_000_000_000, "1 d"),
        ] {
            assert_eq!(span(ns), text);
        }
        let ns = 1_767_225_600_123_456_789;
        assert_eq!(clock(ns, 1_000_000), "00:00:00.123");
        assert_eq!(clock(ns, 100_000_000), "00:00:00.1");
        assert_eq!(clock(ns, 5_000_000_000), "00:00:00");
        assert_eq!(clock(ns, 86_400_000_000_000), "2026-01-01");
    }
}
