//! `docs/metrics.md`: every metric.

use std::fmt::Write as _;

use super::cell;
use crate::admin::{Kind, METRICS, Metric, Source};
use crate::requests::BUCKETS_NS;

const INTRODUCTION: &str = "\
<!-- Made from host/src/admin/metrics.rs; `PODTAP_UPDATE_DOCS=1 cargo test -p podtap --test docs` writes it anew. -->

# Metrics

Where `admin.listen` is set, podtap answers `GET /metrics` in Prometheus' text format, or as OpenMetrics 1.0 to whoever
accepts that. Beside it there is

- `/healthz`: 200, or 503 where the thread that decodes has said nothing for a minute: end it and start it again,
- `/readyz`: 200, or 503 with what is wrong, a line each: an interface that has gone, no decoder that can be used, an
  output that failed, a Kafka that has acknowledged nothing for `kafka.timeout`, a thread that says nothing,
- `/config`: the effective configuration as JSON, without secrets.

The numbers come from the thread that decodes, which leaves them about once a second; nothing is counted for them on the
way of a packet. Counts of the summary and of [limits.md](limits.md) are here under the names in the last column:
what adds up there adds up here, at every moment, together with what waits.

No address, path or statement is a label. The server's port is one, for `admin.max_servers` servers; further ones are
counted together as `other`. 0 switches request metrics off. `vantage` is on whose side podtap was: `server` for
requests to this host or pod, `client` for those that it makes; where it is not known there is no such label.
";

/// See the module.
pub fn metrics_page() -> String {
    let mut page = String::from(INTRODUCTION);
    for (of, metrics) in METRICS {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {of}\n\n| metric | type | labels | meaning | counts |\n|---|---|---|---|---|\n");
        for metric in *metrics {
            let Metric { name, kind, labels, help, source } = metric;
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let code = |text: &str| format!("`{text}`");
            let mut names: Vec<_> = labels.iter().copied().map(code).collect();
            let counts = match source {
                Source::Count(count) => vec![code(count)],
                Source::Counts(counts) => {
                    let values: Vec<_> = counts.iter().map(|(value, _)| code(value)).collect();
                    names.iter_mut().for_each(|name| *name = format!("{name}: {}", values.join(", ")));
                    counts.iter().map(|(_, count)| code(count)).collect()
                }
                Source::Of(_) => Vec::new(),
            };
            let or_none = |list: Vec<String>| if list.is_empty() { "-".to_owned() } else { list.join(", ") };
            let (names, counts) = (or_none(names), or_none(counts));
            let _ = writeln!(page, "| `{name}` | {kind} | {names} | {} | {counts} |", cell(help));
        }
    }
    let bounds: Vec<_> = BUCKETS_NS.iter().map(|ns| (*ns as f64 / 1e9).to_string()).collect();
    let _ = write!(
        page,
        "\nThe bounds of `podtap_request_duration_seconds` are, in seconds, {}. Those from 0.005 on are what OpenTelemetry \
         says of `http.server.request.duration`; those below tell the answers of databases, caches and neighbours on the \
         same host apart.\n",
        bounds.join(", ")
    );
    page
}
