//! One page about traffic: a view in, HTML out, in one file that needs nothing else.
//!
//! Of a capture, it has no JavaScript and loads nothing: its own policy forbids it to, so that text from traffic would do
//! nothing even where it were not escaped. Of a podtap that is running, one script renews it (`live.js`), and it is readable
//! without that. The same view gives the same page.

mod chart;
mod escape;

use std::fmt::{self, Display, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::event::{Outcome, Timestamp};
use crate::latency::Latencies;
use crate::publish::{Bytes, DisplayDuration};
use crate::view::{self, Count, Rate, Row, Single, View};
use escape::Escaped;

const STYLE: &str = include_str!("style.css");
/// Nothing is loaded, nothing runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
/// Nothing but the one script, which asks for nothing but the page.
const LIVE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; \
                           base-uri 'none'; form-action 'self'";
/// Of the script, beside the page.
const SCRIPT_NAME: &str = "live.js";

/// Rows of a table that are shown; a line below says what is left out.
pub(crate) const MAX_SHOWN_ROWS: usize = 100;
/// Names of files in the title.
const MAX_TITLE_NAMES: usize = 3;

/// Sections, by the name of their anchor.
const SECTIONS: [(&str, &str); 8] = [
    ("over-time", "Over time"),
    ("durations", "Durations"),
    ("operations", "Operations"),
    ("outcomes", "Outcomes"),
    ("slowest", "Slowest"),
    ("failed", "Failed"),
    ("map", "Who calls whom"),
    ("losses", "Lost or left out"),
];

/// What a page is made of.
#[derive(Clone, Copy, Debug)]
pub struct Page<'p> {
    /// Names of the files, or of the podtap that is running.
    pub names: &'p [String],
    /// What was in them.
    pub view: &'p View,
    /// What could not be read, or not wholly, a line each.
    pub problems: &'p [String],
    /// Of a podtap that is running.
    pub live: Option<Live<'p>>,
}

/// A page that renews itself.
#[derive(Clone, Copy, Debug)]
pub struct Live<'p> {
    /// Only what matches is on it, in CEL; empty: all.
    pub filter: &'p str,
}

impl Page<'_> {
    /// The page.
    pub fn html(&self) -> String {
        let mut out = String::with_capacity(128 << 10);
        // Writing to a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let title = self.title();
        let title = Escaped(&title);
        let policy = if self.live.is_some() { LIVE_POLICY } else { POLICY };
        writeln!(
            out,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
             <meta name=\"generator\" content=\"podtap {}\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>",
            env!("CARGO_PKG_VERSION")
        )?;
        if self.live.is_some() {
            writeln!(out, "<script src=\"{SCRIPT_NAME}\" defer></script>")?;
        }
        writeln!(out, "</head>\n<body>\n<header>\n<h1>{title}</h1>")?;
        out.push_str("<div data-part=\"when\">");
        self.when(out)?;
        out.push_str("</div>\n");
        if let Some(live) = self.live {
            controls(out, live)?;
        }
        out.push_str("<nav aria-label=\"Sections\"><ul>");
        for (id, name) in SECTIONS {
            write!(out, "<li><a href=\"#{id}\">{name}</a></li>")?;
        }
        out.push_str("</ul></nav>\n</header>\n<main>\n");
        self.problems(out)?;
        self.figures(out)?;
        self.over_time(out)?;
        section(out, "durations")?;
        out.push_str("<figure tabindex=\"0\"><figcaption>First byte of the request to last byte of the response.");
        legend(out);
        out.push_str("</figcaption>\n");
        chart::distribution(out, self.view)?;
        end_section(out, "</figure>\n");
        self.operations(out)?;
        self.outcomes(out)?;
        section(out, "slowest")?;
        self.singles(
            out,
            "Those that took longest, the slowest first. Open one for its attributes.",
            self.view.kept().slowest(),
        )?;
        end_section(out, "");
        section(out, "failed")?;
        self.singles(
            out,
            "Answered with an error, not answered, or cut off; the latest first.",
            self.view.kept().failed(),
        )?;
        end_section(out, "");
        self.map(out)?;
        self.losses(out)?;
        writeln!(
            out,
            "</main>\n<footer>Made by podtap {} from captured traffic. Times are UTC. Percentiles are exact to two digits.</footer>\n\
             </body>\n</html>",
            env!("CARGO_PKG_VERSION")
        )
    }

    fn title(&self) -> String {
        let shown = self.names.iter().take(MAX_TITLE_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
        match self.names.len().saturating_sub(MAX_TITLE_NAMES) {
            0 if self.live.is_some() => format!("Traffic at {shown}"),
            0 => format!("Traffic in {shown}"),
            more => format!("Traffic in {shown} and {more} more files"),
        }
    }

    fn when(&self, out: &mut String) -> fmt::Result {
        let Some((first, last)) = self.view.span() else {
            let says = if self.live.is_some() { "No exchange so far." } else { "No exchange was found." };
            return writeln!(out, "<p class=\"quiet\">{says}</p>");
        };
        let (from, to) = (moment(first), moment(last));
        // Of the same day, the date once.
        let to = to.strip_prefix(&from[..11]).unwrap_or(&to);
        writeln!(out, "<p class=\"quiet\">{from} to {to} UTC, {}</p>", DisplayDuration(last - first))
    }

    fn problems(&self, out: &mut String) -> fmt::Result {
        if self.problems.is_empty() {
            return Ok(());
        }
        out.push_str("<section aria-labelledby=\"problems\">\n<h2 id=\"problems\" class=\"bad\">Not everything could be read</h2>\n<ul>");
        for problem in self.problems {
            write!(out, "<li>{}</li>", Escaped(problem))?;
        }
        out.write_str("</ul>\n</section>\n")
    }

    fn figures(&self, out: &mut String) -> fmt::Result {
        let view = self.view;
        let traffic = view.traffic();
        let failed =
            if traffic.exchanges == 0 { 0.0 } else { 100.0 * traffic.failures as f64 / traffic.exchanges as f64 };
        let latencies = view.latencies();
        let [p50, p95, p99] = latencies.percentiles().map(duration);
        let servers = view.rows().filter_map(|row| row.server).collect::<std::collections::BTreeSet<_>>().len();
        let lost = view.losses().len();
        let connections = view.connections();
        let mut figures = vec![
            ("exchanges", Count(traffic.exchanges).to_string(), Rate(view.rate(traffic.exchanges)).to_string()),
            ("failed", Count(traffic.failures).to_string(), format!("{failed:.1} %")),
            ("p50", p50, "median".to_owned()),
            ("p95", p95, String::new()),
            ("p99", p99, format!("longest {}", duration(latencies.longest()))),
            (
                "payload",
                Bytes(traffic.bytes()).to_string(),
                format!("{} in, {} out", Bytes(traffic.request_bytes), Bytes(traffic.response_bytes)),
            ),
            ("servers", Count(servers as u64).to_string(), plural(view.edges().len(), "edge", "edges")),
        ];
        if connections.all > 0 {
            let bad = [
                (connections.refused, "refused"),
                (connections.unanswered, "unanswered"),
                (connections.reset, "reset"),
            ];
            let bad: Vec<_> = bad
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{} {what}", Count(*count)))
                .collect();
            let bad = if bad.is_empty() { "none refused or reset".to_owned() } else { bad.join(", ") };
            figures.push(("connections", Count(connections.all).to_string(), bad));
        }
        figures.push(match lost {
            0 => ("losses", "none".to_owned(), "everything was read".to_owned()),
            lost => ("losses", plural(lost, "kind", "kinds"), "<a href=\"#losses\">what they are</a>".to_owned()),
        });
        out.push_str("<dl class=\"figures\" data-part=\"figures\">");
        for (name, figure, more) in figures {
            write!(out, "<div><dt>{name}</dt><dd>{figure}<small>{more}</small></dd></div>")?;
        }
        out.write_str("</dl>\n")
    }

    fn over_time(&self, out: &mut String) -> fmt::Result {
        section(out, "over-time")?;
        let width = chart::span(self.view.timeline().width_ns());
        write!(
            out,
            "<figure tabindex=\"0\"><figcaption>Exchanges by the time of their first byte, in slots of {width}."
        )?;
        legend(out);
        out.push_str("</figcaption>\n");
        chart::timeline(out, self.view)?;
        end_section(out, "</figure>\n");
        Ok(())
    }

    fn operations(&self, out: &mut String) -> fmt::Result {
        section(out, "operations")?;
        let mut rows: Vec<&Row> = self.view.rows().collect();
        // Stable: those of the same count as they came; the one for all others stays last.
        rows.sort_by_key(|row| (row.server.is_none(), std::cmp::Reverse(row.traffic.exchanges)));
        table(
            out,
            "By protocol, server and operation; the most frequent first. Percentiles are over all outcomes.",
            &[
                ("protocol", ""),
                ("server", ""),
                ("operation", ""),
                ("count", "n"),
                ("rate", "n"),
                ("failed", "n"),
                ("p50", "n"),
                ("p95", "n"),
                ("p99", "n"),
                ("in", "n"),
                ("out", "n"),
                ("over time", ""),
            ],
        )?;
        for row in rows.iter().take(MAX_SHOWN_ROWS) {
            let traffic = row.traffic;
            write!(out, "<tr><td>{}</td><td class=\"m once\">", Escaped(&row.protocol))?;
            match row.server {
                Some(server) => self.server(out, server)?,
                None => out.push_str("other"),
            }
            write!(out, "</td><th scope=\"row\">{}</th>", Escaped(or_dash(&row.operation)))?;
            number(out, Count(traffic.exchanges))?;
            number(out, Rate(self.view.rate(traffic.exchanges)))?;
            failures(out, traffic.failures)?;
            percentiles(out, &row.latencies())?;
            number(out, Bytes(traffic.request_bytes))?;
            number(out, Bytes(traffic.response_bytes))?;
            out.push_str("<td>");
            chart::sparkline(out, &row.timeline, self.view.timeline())?;
            out.push_str("</td></tr>\n");
        }
        end_table(out, rows.len())?;
        end_section(out, "");
        Ok(())
    }

    fn outcomes(&self, out: &mut String) -> fmt::Result {
        section(out, "outcomes")?;
        let rows = self.view.outcomes();
        table(
            out,
            "By protocol, operation and outcome, over all servers: as podtap replay shows it at its end.",
            &[
                ("protocol", ""),
                ("operation", ""),
                ("outcome", ""),
                ("count", "n"),
                ("p50", "n"),
                ("p95", "n"),
                ("p99", "n"),
            ],
        )?;
        for row in rows.iter().take(MAX_SHOWN_ROWS) {
            let (protocol, operation) = (Escaped(row.protocol), Escaped(or_dash(row.operation)));
            write!(out, "<tr><td>{protocol}</td><th scope=\"row\">{operation}</th>")?;
            outcome(out, row.outcome)?;
            number(out, Count(row.ended.count))?;
            percentiles(out, &row.ended.latencies)?;
            out.push_str("</tr>\n");
        }
        end_table(out, rows.len())?;
        end_section(out, "");
        Ok(())
    }

    fn singles<'s>(
        &self,
        out: &mut String,
        caption: &str,
        singles: impl ExactSizeIterator<Item = &'s Arc<Single>>,
    ) -> fmt::Result {
        if singles.len() == 0 {
            return out.write_str("<p class=\"quiet\">None.</p>\n");
        }
        let columns = [
            ("time", ""),
            ("client", ""),
            ("server", ""),
            ("protocol", ""),
            ("outcome", ""),
            ("took", "n"),
            ("bytes", "n"),
            ("what", ""),
        ];
        table(out, caption, &columns)?;
        for single in singles {
            let time = Timestamp(single.time.0).to_string();
            write!(out, "<tr><td class=\"once\">{}</td><td class=\"m once\">", &time[11..23])?;
            self.client(out, single.client.ip())?;
            out.push_str("</td><td class=\"m once\">");
            self.server(out, single.server)?;
            write!(out, "</td><td>{}</td>", Escaped(&single.protocol))?;
            outcome(out, single.outcome)?;
            number(out, duration(single.duration))?;
            let bytes = single.bytes.into_iter().flatten().reduce(u64::saturating_add);
            number(out, bytes.map_or_else(|| "-".to_owned(), |bytes| Bytes(bytes).to_string()))?;
            write!(out, "<td class=\"text\"><details data-id=\"{}\">", Escaped(&single.id))?;
            write!(out, "<summary class=\"m\">{}</summary><dl>", Escaped(&single.summary))?;
            let mut pair =
                |name: &str, value: &str| write!(out, "<dt>{}</dt><dd>{}</dd>", Escaped(name), Escaped(value));
            pair("id", &single.id)?;
            pair("connection", &format!("{}, exchange {}", single.connection.0, single.connection.1))?;
            pair("client", &single.client.to_string())?;
            if let Some(lost) = single.loss.as_ref().and_then(|loss| loss.gap_bytes) {
                pair("lost", &format!("{} of its bytes", Count(lost)))?;
            }
            for (name, value) in &single.attributes {
                pair(name, value)?;
            }
            if single.attributes_left_out > 0 {
                pair("left out", &plural(single.attributes_left_out, "further attribute", "further attributes"))?;
            }
            out.push_str("</dl></details></td></tr>\n");
        }
        out.write_str("</tbody></table></div>\n")
    }

    fn map(&self, out: &mut String) -> fmt::Result {
        section(out, "map")?;
        let edges = self.view.edges();
        if edges.is_empty() {
            end_section(out, "<p class=\"quiet\">Nobody.</p>\n");
            return Ok(());
        }
        out.push_str("<figure tabindex=\"0\"><figcaption>Clients to the left, servers to the right. A line is the thicker the more exchanges it stands for; where any failed it has their colour.</figcaption>\n");
        let left_out = chart::map(out, self.view, &edges)?;
        out.push_str("</figure>\n");
        if left_out > 0 {
            writeln!(out, "<p class=\"quiet\">{} in the table only.</p>", plural(left_out, "edge is", "edges are"))?;
        }
        let columns = [
            ("client", ""),
            ("server", ""),
            ("protocol", ""),
            ("count", "n"),
            ("rate", "n"),
            ("failed", "n"),
            ("in", "n"),
            ("out", "n"),
        ];
        table(out, "The same in figures", &columns)?;
        for edge in edges.iter().take(MAX_SHOWN_ROWS) {
            out.push_str("<tr><th scope=\"row\" class=\"m once\">");
            match edge.client {
                Some(client) => self.client(out, client)?,
                None => out.push_str("other"),
            }
            out.push_str("</th><td class=\"m once\">");
            match edge.server {
                Some(server) => self.server(out, server)?,
                None => out.push_str("other"),
            }
            write!(out, "</td><td>{}</td>", Escaped(edge.protocol))?;
            number(out, Count(edge.traffic.exchanges))?;
            number(out, Rate(self.view.rate(edge.traffic.exchanges)))?;
            failures(out, edge.traffic.failures)?;
            number(out, Bytes(edge.traffic.request_bytes))?;
            number(out, Bytes(edge.traffic.response_bytes))?;
            out.push_str("</tr>\n");
        }
        end_table(out, edges.len())?;
        end_section(out, "");
        Ok(())
    }

    fn losses(&self, out: &mut String) -> fmt::Result {
        section(out, "losses")?;
        if let Some(report) = self.view.report() {
            let since = if self.live.is_some() { " since podtap was started" } else { "" };
            write!(out, "<p>Everything that was captured{since} is in exactly one place:</p>\n<ul>")?;
            for sum in report.sums().iter().filter(|sum| sum.total.1 > 0) {
                let parts: Vec<_> =
                    sum.parts.iter().filter(|(_, count)| *count > 0).map(|&part| counted(part)).collect();
                write!(out, "<li>{} = {}", counted(sum.total), parts.join(" + "))?;
                out.push_str(if sum.holds() {
                    "</li>"
                } else {
                    " <strong class=\"bad\">(does not add up: a fault in podtap; please report it)</strong></li>"
                });
            }
            out.push_str("</ul>\n");
        }
        let losses = self.view.losses();
        if losses.is_empty() {
            end_section(out, "<p>Nothing was lost or left out.</p>\n");
            return Ok(());
        }
        table(out, "What was lost or left out, and what that means", &[("count", "n"), ("what", ""), ("meaning", "")])?;
        for (name, count) in losses {
            out.push_str("<tr>");
            number(out, Count(count))?;
            writeln!(
                out,
                "<th scope=\"row\">{}</th><td>{}</td></tr>",
                name.replace('_', " "),
                Escaped(view::meaning(name))
            )?;
        }
        out.push_str("</tbody></table></div>\n");
        end_section(out, "");
        Ok(())
    }

    fn client(&self, out: &mut String, address: IpAddr) -> fmt::Result {
        match self.view.name(address) {
            Some(name) => write!(out, "{} <span class=\"quiet\">{address}</span>", Escaped(name)),
            None => write!(out, "{address}"),
        }
    }

    fn server(&self, out: &mut String, server: SocketAddr) -> fmt::Result {
        match self.view.name(server.ip()) {
            Some(name) => write!(out, "{} <span class=\"quiet\">{server}</span>", Escaped(name)),
            None => write!(out, "{server}"),
        }
    }
}

/// What is shown, and whether it goes on.
fn controls(out: &mut String, live: Live<'_>) -> fmt::Result {
    writeln!(
        out,
        "<form class=\"controls\" role=\"search\"><label for=\"filter\">Filter, in CEL</label> \
         <input id=\"filter\" name=\"filter\" value=\"{}\" spellcheck=\"false\" autocomplete=\"off\" \
         placeholder='protocol == \"http\" &amp;&amp; duration &gt; duration(\"100ms\")'/> <button>Apply</button> \
         <button id=\"pause\" type=\"button\" aria-pressed=\"false\" hidden=\"hidden\">Pause</button> \
         <span id=\"state\" class=\"quiet\" role=\"status\"></span></form>",
        Escaped(live.filter)
    )
}

fn section(out: &mut String, id: &str) -> fmt::Result {
    let name = SECTIONS.iter().find_map(|(known, name)| (*known == id).then_some(*name)).unwrap_or(id);
    writeln!(out, "<section aria-labelledby=\"{id}\" data-part=\"{id}\">\n<h2 id=\"{id}\">{name}</h2>")
}

fn end_section(out: &mut String, before: &str) {
    out.push_str(before);
    out.push_str("</section>\n");
}

/// Which colour is what.
fn legend(out: &mut String) {
    out.push_str(" <span class=\"once\"><span class=\"key ok\"></span>fine</span> <span class=\"once\"><span class=\"key failed\"></span>failed</span>");
}

/// Begins a table that may be wider than the window; columns with their class. One of few columns is no wider than they are.
fn table(out: &mut String, caption: &str, columns: &[(&str, &str)]) -> fmt::Result {
    let class = if columns.len() < 8 { " class=\"narrow\"" } else { "" };
    write!(
        out,
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table{class}><caption>{0}</caption><thead><tr>",
        Escaped(caption)
    )?;
    for (name, class) in columns {
        match *class {
            "" => write!(out, "<th scope=\"col\">{name}</th>")?,
            class => write!(out, "<th scope=\"col\" class=\"{class}\">{name}</th>")?,
        }
    }
    out.write_str("</tr></thead><tbody>\n")
}

/// Ends a table of so many rows, of which no more than the bound are shown.
fn end_table(out: &mut String, rows: usize) -> fmt::Result {
    out.push_str("</tbody></table></div>\n");
    match rows.saturating_sub(MAX_SHOWN_ROWS) {
        0 => Ok(()),
        more => {
            writeln!(out, "<p class=\"quiet\">{} not shown.</p>", plural(more, "further row is", "further rows are"))
        }
    }
}

fn number(out: &mut String, value: impl Display) -> fmt::Result {
    write!(out, "<td class=\"n\">{value}</td>")
}

fn failures(out: &mut String, count: u64) -> fmt::Result {
    let class = if count > 0 { "n bad" } else { "n quiet" };
    write!(out, "<td class=\"{class}\">{}</td>", Count(count))
}

fn percentiles(out: &mut String, latencies: &Latencies) -> fmt::Result {
    latencies.percentiles().into_iter().try_for_each(|ns| number(out, duration(ns)))
}

fn outcome(out: &mut String, outcome: Outcome) -> fmt::Result {
    let class = if outcome.is_failure() { "once bad" } else { "once" };
    write!(out, "<td class=\"{class}\">{}</td>", outcome.name().replace('_', " "))
}

fn duration(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".to_owned(), |ns| DisplayDuration(ns).to_string())
}

/// A count with its name, as in `12 packets stray`.
fn counted((name, count): (&str, u64)) -> String {
    format!("{} {}", Count(count), name.replace('_', " "))
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", Count(count as u64), if count == 1 { one } else { many })
}

fn or_dash(name: &str) -> &str {
    if name.is_empty() { "-" } else { name }
}

/// `2026-11-24 16:33:28.821`.
fn moment(ns: u64) -> String {
    Timestamp(ns).to_string()[..23].replace('T', " ")
}

#[cfg(test)]
mod tests;
