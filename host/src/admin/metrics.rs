//! Every metric, declared once: its name, its labels, what it means and where its values come from. What `/metrics`
//! shows and docs/metrics.md says are made of this list.
//!
//! Labels are bounded: names of decoders, outputs, reasons and outcomes, and ports of servers up to `admin.max_servers`.
//! No address, path or statement is a label.

use super::Scrape;
use super::sample::{Sample, Value, one};
use crate::decoder::{DecoderStatus, FailureKind};
use crate::pipeline::WAITING;
use crate::publish::{OutputStatus, SpoolStatus};
use crate::requests::Row;

/// What a value does in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from 0 at the start.
    Counter,
    /// Rises and falls.
    Gauge,
    /// How many values were within each of a row of bounds.
    Histogram,
}

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// As Prometheus has it; of histograms, without `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// What it does in time.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    /// Where its values come from.
    pub source: Source,
}

/// Where the values of a metric come from.
#[derive(Debug)]
pub enum Source {
    /// A count of [`crate::pipeline::Report`].
    Count(&'static str),
    /// Several, each with the value of the one label.
    Counts(&'static [(&'static str, &'static str)]),
    /// Something else.
    Of(fn(&Scrape) -> Vec<Sample>),
}

/// A count of [`crate::pipeline::Report`], by the name that another podtap gives it; none where this one has none of it.
pub(crate) fn known_count(name: &str) -> Option<&'static str> {
    let of_metric = |metric: &'static Metric| match metric.source {
        Source::Count(count) => vec![count],
        Source::Counts(counts) => counts.iter().map(|(_, count)| *count).collect(),
        Source::Of(_) => Vec::new(),
    };
    let counts = METRICS.iter().flat_map(|(_, metrics)| *metrics).flat_map(of_metric);
    counts.chain(WAITING).find(|count| *count == name)
}

const fn count(name: &'static str, count: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels: &[], help, source: Source::Count(count) }
}

const fn counts(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    counts: &'static [(&'static str, &'static str)],
) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help, source: Source::Counts(counts) }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    of: fn(&Scrape) -> Vec<Sample>,
) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help, source: Source::Of(of) }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    of: fn(&Scrape) -> Vec<Sample>,
) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help, source: Source::Of(of) }
}

const SERVER: &[&str] = &["protocol", "server_port", "vantage", "outcome"];

/// All metrics, by what they are of.
pub static METRICS: &[(&str, &[Metric])] = &[
    ("Requests", REQUESTS),
    ("Packets", PACKETS),
    ("Payload", PAYLOAD),
    ("Connections", CONNECTIONS),
    ("Decoders", DECODERS),
    ("Events and outputs", OUTPUTS),
    ("podtap itself", ITSELF),
];

const REQUESTS: &[Metric] = &[
    counter(
        "podtap_requests_total",
        SERVER,
        "Exchanges that were published, those included whose duration is not known.",
        |scrape| scrape.requests(|row| Value::Whole(row.durations.exchanges)),
    ),
    Metric {
        name: "podtap_request_duration_seconds",
        kind: Kind::Histogram,
        labels: SERVER,
        help: "From the first byte of the request to the last of the response.",
        source: Source::Of(|scrape| scrape.requests(|row| Value::Histogram(Box::new(row.durations.clone())))),
    },
];

const PACKETS: &[Metric] = &[
    count(
        "podtap_packets_total",
        "packets",
        "Packets that came up. Each is in one of podtap_packets_by_fate_total, or waits as a fragment.",
    ),
    counts(
        "podtap_packets_by_fate_total",
        &["fate"],
        "Packets by what became of them.",
        &[
            ("tracked", "packets_tracked"),
            ("filtered", "packets_filtered"),
            ("ignored", "packets_ignored"),
            ("not_tcp", "packets_not_tcp"),
            ("unknown_link", "packets_unknown_link"),
            ("malformed", "packets_malformed"),
            ("truncated", "packets_truncated"),
            ("too_deep", "packets_too_deep"),
            ("stray", "packets_stray"),
            ("fragment_joined", "fragments_joined"),
            ("fragment_duplicate", "fragments_duplicate"),
            ("fragment_overlapping", "fragments_overlapping"),
            ("fragment_expired", "fragments_expired"),
            ("fragment_evicted", "fragments_evicted"),
        ],
    ),
    gauge("podtap_fragments_waiting", &[], "Packets that wait for the other fragments of their datagram.", |scrape| {
        one(scrape.snapshot.fragments_waiting)
    }),
    counts(
        "podtap_packets_dropped_total",
        &["by"],
        "Packets that never came up: the kernel had no room for them, or the interface dropped them.",
        &[("kernel", "packets_dropped_by_kernel"), ("interface", "packets_dropped_by_interface")],
    ),
    count(
        "podtap_packets_before_sharing_total",
        "packets_before_sharing",
        "Packets that came before workers shared their interface, and so to each of them: they are left out.",
    ),
    gauge(
        "podtap_capture_interfaces",
        &["state"],
        "Interfaces that are captured on, and those that have gone.",
        |scrape| {
            let state =
                |open: bool| scrape.snapshot.interfaces.iter().filter(|(_, is_open)| *is_open == open).count() as u64;
            vec![Sample::of(["open"], state(true)), Sample::of(["gone"], state(false))]
        },
    ),
];

const PAYLOAD: &[Metric] = &[
    count(
        "podtap_payload_bytes_total",
        "payload_bytes",
        "TCP payload that was captured. Each byte is in one of podtap_payload_bytes_by_fate_total, or waits in podtap_payload_waiting_bytes.",
    ),
    counts(
        "podtap_payload_bytes_by_fate_total",
        &["fate"],
        "Payload by what became of it.",
        &[
            ("decoded", "payload_bytes_decoded"),
            ("skipped", "payload_bytes_skipped"),
            ("ignored", "payload_bytes_ignored"),
            ("duplicate", "payload_bytes_duplicate"),
            ("out_of_window", "payload_bytes_out_of_window"),
            ("abandoned", "payload_bytes_abandoned"),
            ("undetected", "payload_bytes_undetected"),
            ("in_failed_calls", "payload_bytes_in_failed_calls"),
        ],
    ),
    gauge(
        "podtap_payload_waiting_bytes",
        &["for"],
        "Payload that waits for bytes before it, for a decoder's verdict, or for a batch to be full.",
        |scrape| {
            let snapshot = &scrape.snapshot;
            vec![
                Sample::of(["reassembly"], snapshot.reassembly_bytes),
                Sample::of(["verdict"], snapshot.waiting.detection_bytes),
                Sample::of(["batch"], snapshot.waiting.batch_bytes),
            ]
        },
    ),
    counts(
        "podtap_payload_bytes_odd_total",
        &["how"],
        "Payload that is in podtap_payload_bytes_by_fate_total too: taken by a decoder that could make nothing of it, sent twice \
         with different content, or of a connection that podtap has lost sight of.",
        &[
            ("undecoded", "payload_bytes_undecoded"),
            ("conflicting", "payload_bytes_conflicting"),
            ("of_unknown_connections", "payload_bytes_of_unknown_connections"),
        ],
    ),
    count("podtap_gaps_total", "gaps", "Holes in streams that were declared."),
    counts(
        "podtap_gap_bytes_total",
        &["reason"],
        "Bytes missing in streams, by why no more was waited for them.",
        &[
            ("acknowledged", "acknowledged_gap_bytes"),
            ("buffer_limit", "buffer_limit_gap_bytes"),
            ("timeout", "timeout_gap_bytes"),
            ("snaplen", "snaplen_gap_bytes"),
            ("resync", "resync_gap_bytes"),
            ("connection_end", "connection_end_gap_bytes"),
        ],
    ),
];

const CONNECTIONS: &[Metric] = &[
    count("podtap_connections_total", "connections", "TCP connections that were seen."),
    gauge("podtap_connections_tracked", &[], "TCP connections that are tracked now.", |scrape| {
        one(scrape.snapshot.connections)
    }),
    count("podtap_connections_detected_total", "connections_detected", "Connections that a decoder claimed."),
    count(
        "podtap_connections_of_known_servers_total",
        "connections_of_known_servers",
        "Of those, the ones whose server had a decoder already.",
    ),
    count("podtap_connections_undetected_total", "connections_undetected", "Connections that no decoder claimed."),
    counts(
        "podtap_connections_undetected_by_reason_total",
        &["reason"],
        "The same, by why.",
        &[
            ("refused_by_all_decoders", "undetected_refused_by_all_decoders"),
            ("head_too_long", "undetected_head_too_long"),
            ("ended_before_verdict", "undetected_ended_before_verdict"),
            ("no_room_to_wait", "undetected_no_room_to_wait"),
            ("decoder_quarantined", "undetected_decoder_quarantined"),
            ("handed_over_in_circles", "undetected_handed_over_in_circles"),
        ],
    ),
    counts(
        "podtap_connections_affected_total",
        &["reason"],
        "Connections that were let go, left out, or went on with a loss.",
        &[
            ("evicted", "connections_evicted"),
            ("left_out", "connections_left_out"),
            ("beyond_instance_bound", "connections_beyond_instance_bound"),
            ("blamed", "connections_blamed"),
            ("decoder_quarantined", "connections_of_quarantined_decoders"),
            ("decoder_removed", "connections_of_removed_decoders"),
            ("moved_to_other_version", "connections_moved_to_other_version"),
        ],
    ),
    count("podtap_own_connections_total", "own_connections", "podtap's own connections, which are not decoded."),
    gauge(
        "podtap_decoded_connections_ratio",
        &[],
        "Of new connections, the part that is decoded: 1, or less where there is too much traffic. Of capture files always 1.",
        |scrape| one(scrape.snapshot.decoded_share),
    ),
];

const DECODERS: &[Metric] = &[
    count("podtap_exchanges_total", "exchanges", "Exchanges that decoders found."),
    counter("podtap_decoder_exchanges_total", &["decoder"], "The same, by decoder.", |scrape| {
        scrape.decoders(|it| Value::Whole(it.counters.exchanges))
    }),
    counter("podtap_decoder_calls_total", &["decoder"], "Batches that decoders were given.", |scrape| {
        scrape.decoders(|it| Value::Whole(it.counters.calls))
    }),
    counter(
        "podtap_decoder_seconds_total",
        &["decoder"],
        "Time that these calls took, with the publishing of their exchanges.",
        |scrape| scrape.decoders(|it| Value::Real(it.counters.time.as_secs_f64())),
    ),
    counter(
        "podtap_decoder_failures_total",
        &["decoder", "reason"],
        "Calls that trapped, ran past their deadline, wanted too much memory, or returned too much or what is not allowed.",
        decoder_failures,
    ),
    counts(
        "podtap_decoder_failures_by_reason_total",
        &["reason"],
        "The same, of all decoders.",
        &[
            ("trap", "decoder_traps"),
            ("deadline", "decoder_deadlines"),
            ("memory", "decoder_memory_breaches"),
            ("oversized_output", "decoder_oversized_outputs"),
            ("invalid_output", "decoder_invalid_outputs"),
        ],
    ),
    counter(
        "podtap_decoder_quarantines_total",
        &["decoder"],
        "Times that a decoder was set aside because it kept failing.",
        |scrape| scrape.decoders(|it| Value::Whole(it.counters.quarantines)),
    ),
    count("podtap_decoders_quarantined_total", "decoders_quarantined", "The same, of all decoders."),
    gauge("podtap_decoder_usable", &["decoder"], "1: takes new connections; 0: set aside.", |scrape| {
        let decoders = scrape.snapshot.decoders.iter();
        decoders.filter_map(|(name, it)| Some(Sample::of([name], u64::from(it.usable?)))).collect()
    }),
    gauge("podtap_decoder_instances", &["decoder"], "Instances of a decoder.", |scrape| {
        scrape.decoders(|it| Value::Whole(it.instances))
    }),
    gauge("podtap_decoder_memory_bytes", &["decoder"], "Memory of a decoder's instances.", |scrape| {
        scrape.decoders(|it| Value::Whole(it.memory_bytes))
    }),
    count(
        "podtap_decoders_reloaded_total",
        "decoders_reloaded",
        "Decoders that were new or changed after the start, once for each worker.",
    ),
    count(
        "podtap_decoder_demands_ignored_total",
        "decoder_demands_ignored",
        "Demands of decoders for connections that they do not have.",
    ),
    count(
        "podtap_decoder_log_lines_dropped_total",
        "decoder_log_lines_dropped",
        "Lines of decoders that were kept out of the log.",
    ),
    count("podtap_exchanges_truncated_total", "exchanges_truncated", "Exchanges of which a text was cut."),
];

const OUTPUTS: &[Metric] = &[
    counter("podtap_events_total", &["kind"], "Events that were published, to each output.", |scrape| {
        let [exchanges, connections] = scrape.snapshot.events;
        vec![Sample::of(["exchange"], exchanges), Sample::of(["connection"], connections)]
    }),
    counter(
        "podtap_output_delivered_events_total",
        &["output"],
        "Events that arrived: were written, or acknowledged by Kafka.",
        |scrape| scrape.outputs(|output| output.delivered),
    ),
    counter(
        "podtap_output_lost_events_total",
        &["output", "reason"],
        "Events that did not arrive, by why: queue_full, spool_full, topic_refused, an error of Kafka; where the output failed, not_written \
         and output_failed.",
        lost_events,
    ),
    gauge("podtap_output_queue_bytes", &["output"], "Bytes that wait in an output's queue.", |scrape| {
        scrape.outputs(|output| output.queue_bytes)
    }),
    gauge("podtap_output_queue_events", &["output"], "Events that wait in an output's queue.", |scrape| {
        scrape.outputs(|output| output.queue_events)
    }),
    gauge("podtap_outputs_failed", &[], "Outputs that failed and get no more events.", |scrape| {
        one(scrape.snapshot.failed_outputs.len() as u64)
    }),
    gauge("podtap_kafka_in_flight_events", &[], "Events that were sent to Kafka and are not acknowledged.", |scrape| {
        scrape.kafka(|kafka| Some(Value::Whole(kafka.in_flight)))
    }),
    gauge(
        "podtap_kafka_silence_seconds",
        &[],
        "For how long Kafka has acknowledged nothing while there was something to acknowledge; 0: all is well.",
        |scrape| scrape.kafka(|kafka| Some(Value::Real(kafka.silent_for.as_secs_f64()))),
    ),
    gauge("podtap_spool_bytes", &[], "Size of the spool.", |scrape| scrape.spool(|spool| spool.bytes)),
    counter(
        "podtap_spool_recovered_events_total",
        &[],
        "Events of earlier runs that were found in the spool.",
        |scrape| scrape.spool(|spool| spool.recovered),
    ),
    counter(
        "podtap_spool_bypassed_events_total",
        &[],
        "Events that the spool's disk refused; they went on from memory, or into the spool later.",
        |scrape| scrape.spool(|spool| spool.bypassed),
    ),
    counter(
        "podtap_spool_damaged_bytes_total",
        &[],
        "Bytes of earlier runs in the spool that were no whole events, those of damaged files included.",
        |scrape| scrape.spool(|spool| spool.damaged_bytes),
    ),
];

const ITSELF: &[Metric] = &[
    gauge("podtap_exchanges_readers", &[], "Who reads /exchanges now.", |scrape| {
        scrape.readers.map(|[readers, _]| one(readers)).unwrap_or_default()
    }),
    counter(
        "podtap_exchanges_readers_lost_events_total",
        &[],
        "Events that readers of /exchanges did not get because they were too slow, of all of them added.",
        |scrape| scrape.readers.map(|[_, lost]| one(lost)).unwrap_or_default(),
    ),
    counter(
        "podtap_log_lost_lines_total",
        &[],
        "Lines of the log, and of what podtap says beside it, that standard error did not take.",
        |scrape| one(scrape.log_lost),
    ),
    gauge("podtap_build_info", &["version"], "Always 1, with podtap's version.", |_| {
        vec![Sample::of([env!("CARGO_PKG_VERSION")], 1)]
    }),
    gauge("podtap_ready", &[], "1: /readyz has no complaint; else 0.", |scrape| one(u64::from(scrape.is_ready))),
    gauge(
        "podtap_worker_age_seconds",
        &[],
        "How old these numbers are: they come from the thread that decodes, about once a second while there is something to read.",
        |scrape| one(scrape.age.as_secs_f64()),
    ),
    counter("podtap_process_cpu_seconds_total", &[], "CPU time of the process, user and system.", |scrape| {
        scrape.process.cpu.map(|cpu| one(cpu.as_secs_f64())).unwrap_or_default()
    }),
    gauge("podtap_process_resident_bytes", &[], "Memory of the process that is in RAM.", |scrape| {
        scrape.process.resident_bytes.map(one).unwrap_or_default()
    }),
];

impl Scrape {
    fn requests(&self, value: fn(&Row<'_>) -> Value) -> Vec<Sample> {
        let Some(requests) = &self.snapshot.requests else { return Vec::new() };
        let sample = |row: &Row<'_>| {
            let port = row.port.map_or("other".to_owned(), |port| port.to_string());
            let vantage = row.vantage.map_or("", |vantage| vantage.name());
            Sample::of([row.protocol, &port, vantage, row.outcome.name()], value(row))
        };
        requests.rows().iter().map(sample).collect()
    }

    fn decoders(&self, value: fn(&DecoderStatus) -> Value) -> Vec<Sample> {
        self.snapshot.decoders.iter().map(|(name, status)| Sample::of([name], value(status))).collect()
    }

    fn outputs(&self, value: fn(&OutputStatus) -> u64) -> Vec<Sample> {
        self.outputs.iter().map(|output| Sample::of([output.target.name()], value(output))).collect()
    }

    fn kafka(&self, value: impl Fn(&crate::publish::KafkaStatus) -> Option<Value>) -> Vec<Sample> {
        let kafka = self.outputs.iter().filter_map(|output| output.kafka.as_ref());
        kafka.filter_map(value).flat_map(one).collect()
    }

    fn spool(&self, value: fn(&SpoolStatus) -> u64) -> Vec<Sample> {
        self.kafka(|kafka| kafka.spool.as_ref().map(|spool| Value::Whole(value(spool))))
    }
}

fn decoder_failures(scrape: &Scrape) -> Vec<Sample> {
    /// In the order of [`FailureKind::ALL`].
    const REASONS: [&str; FailureKind::ALL.len()] =
        ["trap", "deadline", "memory", "oversized_output", "invalid_output"];
    let of_decoder = |(name, status): (&String, &DecoderStatus)| {
        let failures = REASONS.into_iter().zip(status.counters.failures);
        failures.map(|(reason, count)| Sample::of([name, reason], count)).collect::<Vec<_>>()
    };
    scrape.snapshot.decoders.iter().flat_map(of_decoder).collect()
}

fn lost_events(scrape: &Scrape) -> Vec<Sample> {
    let of_output = |output: &OutputStatus| {
        let target = output.target.name();
        output.failed.iter().map(|(reason, count)| Sample::of([target, reason], *count)).collect::<Vec<_>>()
    };
    scrape.outputs.iter().flat_map(of_output).collect()
}
