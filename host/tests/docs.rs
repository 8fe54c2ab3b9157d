//! The reference pages are what the library makes of its types.

use std::collections::BTreeSet;
use std::path::Path;

use podtap::admin::{METRICS, Source};
use podtap::config::{self, Config, OutputFormat};
use podtap::pipeline::{Replay, Report, replay};
use podtap::publish::{Colour, Outputs};
use podtap::reference::limits;

fn check(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("PODTAP_UPDATE_DOCS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let line = found.lines().zip(made.lines()).position(|(found, made)| found != made);
    assert!(
        found == made,
        "docs/{name} is not what the types say (first at line {}); \
         PODTAP_UPDATE_DOCS=1 cargo test -p podtap --test docs writes it anew",
        line.unwrap_or_else(|| found.lines().count().min(made.lines().count())) + 1
    );
}

#[test]
fn configuration_page_is_current() {
    check("configuration.md", &podtap::reference::configuration_page());
}

#[test]
fn events_page_is_current() {
    check("events.md", &podtap::reference::events_page());
}

#[test]
fn limits_page_is_current() {
    check("limits.md", &podtap::reference::limits_page());
}

#[test]
fn metrics_page_is_current() {
    check("metrics.md", &podtap::reference::metrics_page());
}

/// What a replay of nothing counts: every name there is.
fn report() -> Report {
    let mut config = Config::default();
    config.events.connections = true;
    config.output.format = Some(OutputFormat::None);
    let mut outputs = Outputs::open(&config, Colour::Never).unwrap();
    let request = Replay { files: &[], filter: None, config: &config, progress: &mut |_| () };
    replay(request, &mut outputs).unwrap()
}

#[test]
fn every_bound_of_the_configuration_is_on_the_limits_page() {
    let named: BTreeSet<_> = limits().iter().flat_map(|(_, limits)| limits).filter_map(|limit| limit.key()).collect();
    let keys = config::sections().iter().flat_map(|section| &section.keys);
    let bounds = keys.filter(|key| key.range.is_some()).map(|key| key.path.as_str());
    assert_eq!(bounds.collect::<BTreeSet<_>>(), named);
}

/// Counts of what is left out or damaged without any bound being reached.
const NO_BOUNDS: [&str; 25] = [
    "packets_dropped_by_interface",
    "packets_before_sharing",
    "packets_filtered",
    "packets_ignored",
    "packets_not_tcp",
    "packets_unknown_link",
    "packets_malformed",
    "packets_truncated",
    "fragments_duplicate",
    "payload_bytes_ignored",
    "payload_bytes_duplicate",
    "payload_bytes_conflicting",
    "payload_bytes_out_of_window",
    "payload_bytes_abandoned",
    "payload_bytes_undecoded",
    "payload_bytes_of_unknown_connections",
    "gaps",
    "acknowledged_gap_bytes",
    "snaplen_gap_bytes",
    "resync_gap_bytes",
    "connection_end_gap_bytes",
    "decoder_traps",
    "decoder_invalid_outputs",
    "decoder_demands_ignored",
    "undetected_ended_before_verdict",
];

#[test]
fn every_count_of_a_loss_is_on_the_limits_page_or_is_of_no_bound() {
    let named: BTreeSet<_> =
        limits().iter().flat_map(|(_, limits)| limits).flat_map(|limit| limit.counts).copied().collect();
    let counted: BTreeSet<_> = report().losses.iter().map(|(name, _)| *name).collect();
    let others: BTreeSet<_> = NO_BOUNDS.into_iter().collect();
    assert_eq!(named.difference(&counted).collect::<Vec<_>>(), Vec::<&&str>::new(), "no such counts");
    assert_eq!(named.intersection(&others).collect::<Vec<_>>(), Vec::<&&str>::new(), "counts of bounds after all");
    let known: BTreeSet<_> = named.union(&others).copied().collect();
    assert_eq!(counted.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new(), "counts of no known bound");
}

#[test]
fn every_count_is_a_metric_and_is_it_once() {
    let counts = METRICS.iter().flat_map(|(_, metrics)| *metrics).flat_map(|metric| match metric.source {
        Source::Count(name) => vec![name],
        Source::Counts(counts) => counts.iter().map(|(_, name)| *name).collect(),
        Source::Of(_) => Vec::new(),
    });
    let mut counts: Vec<_> = counts.collect();
    counts.sort_unstable();
    // Those that a report has only where there are any.
    let mut expected = vec!["fragments_joined", "decoders_reloaded", "own_connections"];
    let report = report();
    expected.extend(report.totals.iter().chain(&report.losses).map(|(name, _)| *name));
    expected.sort_unstable();
    assert_eq!(counts, expected);
}
