//! `docs/limits.md`: every bound on what traffic, files and decoders can make podtap do, what happens at it, and the count
//! that shows it.

use std::fmt::{self, Write as _};

use super::{cell, default_of};
use crate::admin::fixed as admin;
use crate::capture::{MAX_INTERFACES, MAX_PACKET};
use crate::config::{ByteSize, Config, HumanDuration, MEMORY_STEPS};
use crate::decoder::{MAX_INSTANCES, MAX_PLUGINS, MAX_VERSIONS, fixed};
use crate::log::MAX_WAITING_BYTES;
use crate::publish::spool::MAX_SET_ASIDE;
use crate::publish::{
    LIBRDKAFKA_RECORD_BYTES, MAX_CHUNKS, MAX_READERS, MAX_SPARE_BYTES, MAX_TOPICS, TOPIC_PATIENCE, librdkafka_queue,
};
use crate::summary::MAX_ROWS;
use crate::{filter, read, report, view};

/// A bound.
pub struct Limit {
    /// What is bounded, and how where no configuration says it.
    bound: Bound,
    /// What happens at it.
    then: &'static str,
    /// Names of the counts that show it, as [`crate::pipeline::Report`] has them.
    pub counts: &'static [&'static str],
}

enum Bound {
    /// A key of the configuration.
    Key(&'static str),
    /// What it is, and its value.
    Fixed(&'static str, String),
}

impl Limit {
    /// The key of the configuration that sets it.
    pub fn key(&self) -> Option<&'static str> {
        match self.bound {
            Bound::Key(key) => Some(key),
            Bound::Fixed(..) => None,
        }
    }
}

const INTRODUCTION: &str = "\
<!-- Made from host/src/reference/limits.rs; `PODTAP_UPDATE_DOCS=1 cargo test -p podtap --test docs` writes it anew. -->

# Limits

Whatever traffic, files and decoders do, podtap takes a bounded amount of memory and time, and what is lost at a bound is
counted. The counts are those of the summary at the end of a replay (there with blanks for `_`). Keys of the
configuration are explained in [configuration.md](configuration.md); the other bounds are fixed.

In all, under traffic that is made to cost most, podtap took 165 MiB with the bounds by default, and 223 MiB where Kafka was
away as well. Most of that is what decoders keep (`decoder.memory_bytes`, for each) and connections that are open at once.
Where the memory of its container is limited to less than 256MiB, it lowers what costs most, unless the configuration sets
it, and says so in its log:

| limit | lowered to |
|---|---|
";

/// What follows the table of what is lowered.
const FITTED: &str = "
`cargo xtask e2e memory` holds it to 256, 128 and 64 MiB. That is with one capture worker and the three stock decoders: a
further worker has further instances of them.
";

type Rows = Vec<Limit>;

fn key(key: &'static str, then: &'static str, counts: &'static [&'static str]) -> Limit {
    Limit { bound: Bound::Key(key), then, counts }
}

fn fixed(what: &'static str, value: impl fmt::Display, then: &'static str, counts: &'static [&'static str]) -> Limit {
    Limit { bound: Bound::Fixed(what, value.to_string()), then, counts }
}

fn bytes(bytes: usize) -> ByteSize {
    ByteSize(bytes as u64)
}

fn time(ns: u64) -> HumanDuration {
    HumanDuration(std::time::Duration::from_nanos(ns))
}

/// All bounds, by what they are of.
pub fn limits() -> [(&'static str, Rows); 9] {
    const BLAMED: &str = "connections_blamed";
    let kafka = |queue: usize| {
        let (bytes, records) = librdkafka_queue(queue);
        (queue + bytes + records * LIBRDKAFKA_RECORD_BYTES + MAX_SPARE_BYTES).div_ceil(1 << 20)
    };
    let queue = Config::default().delivery.queue_bytes.as_usize();
    let ((most_bytes, most_records), (least_bytes, least_records)) = (librdkafka_queue(queue), librdkafka_queue(0));
    [
        (
            "Packets and connections",
            vec![
                fixed(
                    "length of a captured packet",
                    bytes(MAX_PACKET),
                    "the file is damaged: what was read of it before is used, and the error says where",
                    &[],
                ),
                key(
                    "capture.workers",
                    "no further thread reads; what these cannot take, the kernel drops",
                    &["packets_dropped_by_kernel"],
                ),
                key("capture.snaplen", "the rest of the packet is a gap in its connection", &[]),
                key("capture.buffer_bytes", "the kernel drops the packet", &["packets_dropped_by_kernel"]),
                key("capture.batch_timeout", "what the kernel has is handed over", &[]),
                key(
                    "capture.max_cpu_percent",
                    "a part of the new connections is not decoded: half of it while there is too much, and twice as many again \
                     when there was not for ten seconds",
                    &["connections_left_out"],
                ),
                fixed("interfaces of one pcapng section", MAX_INTERFACES, "the same", &[]),
                fixed(
                    "headers read one in the other",
                    podtap_stream::MAX_HEADERS,
                    "the packet is left out",
                    &["packets_too_deep"],
                ),
                key(
                    "stream.max_connections",
                    "the cheapest to lose is let go: of those that are half-open or over, the oldest of the more numerous kind, then \
                     the longest idle",
                    &["connections_evicted"],
                ),
                key(
                    "stream.side_buffer_bytes",
                    "the hole before the bytes that wait is declared a gap",
                    &["buffer_limit_gap_bytes"],
                ),
                key("stream.side_buffer_segments", "the same", &["buffer_limit_gap_bytes"]),
                key(
                    "stream.total_buffer_bytes",
                    "the connection that asks for more gives up its oldest hole",
                    &["buffer_limit_gap_bytes"],
                ),
                key("stream.gap_timeout", "the hole is declared a gap", &["timeout_gap_bytes"]),
                key(
                    "stream.idle_timeout",
                    "the connection is let go; its open exchanges are published as they are",
                    &[],
                ),
                key("stream.handshake_timeout", "the same", &[]),
                key(
                    "stream.close_timeout",
                    "the connection is forgotten; where payload or an acknowledgement still comes of it, that is taken for a \
                     connection seen from its middle, and the rest is stray",
                    &["packets_stray"],
                ),
                key("stream.fragment_buffer_bytes", "the oldest datagram is given up", &["fragments_evicted"]),
                key("stream.fragment_timeout", "the datagram is given up", &["fragments_expired"]),
                fixed(
                    "pieces of one datagram",
                    podtap_stream::MAX_PIECES,
                    "the datagram is given up",
                    &["fragments_overlapping"],
                ),
            ],
        ),
        (
            "Detection",
            vec![
                key(
                    "detection.head_bytes",
                    "who wants to see more does not get the connection",
                    &["connections_undetected", "undetected_head_too_long", "payload_bytes_undetected"],
                ),
                fixed(
                    "memory of what waits for a verdict in all connections",
                    format!("{}, or half of `stream.total_buffer_bytes` if less", bytes(fixed::MAX_WAITING_BYTES)),
                    "a connection whose decoder wants to see more is not waited for",
                    &["undetected_no_room_to_wait"],
                ),
                fixed(
                    "pieces of a connection seen from its middle that are tried for the start of a message",
                    fixed::MIDSTREAM_ATTEMPTS,
                    "it is left alone",
                    &["undetected_refused_by_all_decoders"],
                ),
                fixed(
                    "changes of protocol of one connection",
                    fixed::MAX_HAND_OVERS,
                    "it is left alone",
                    &["undetected_handed_over_in_circles"],
                ),
                fixed(
                    "servers whose decoder is remembered",
                    fixed::MAX_SERVERS,
                    "the oldest is forgotten, and all decoders are asked about it anew",
                    &[],
                ),
                fixed(
                    "time without a connection after which a server is forgotten",
                    time(fixed::LIFETIME_NS),
                    "the same",
                    &[],
                ),
            ],
        ),
        (
            "Files of decoders",
            vec![
                key("plugins.max_bytes", "the file is refused; no more than this was unpacked of it", &[]),
                fixed(
                    "decoders in use",
                    MAX_PLUGINS,
                    "those after, in order of their names, are not used, and an error says so",
                    &[],
                ),
                fixed(
                    "versions of decoders that have connections",
                    MAX_VERSIONS,
                    "connections of the oldest that was replaced go on from their middle with the version of today, or are ignored where there is none",
                    &["connections_moved_to_other_version", "connections_of_removed_decoders"],
                ),
                key("plugins.reload_interval", "the directories are looked into", &[]),
                fixed(
                    "attributes, protocols, ports in a descriptor",
                    format!("{}, {}, {}", fixed::MAX_DECLARED_ATTRIBUTES, fixed::MAX_PROTOCOLS, fixed::MAX_PORTS),
                    "the decoder is refused",
                    &[],
                ),
                fixed("compiled decoders kept on disk", fixed::MAX_CACHED, "the oldest is removed", &[]),
            ],
        ),
        (
            "A decoder at work",
            vec![
                key(
                    "decoder.memory_bytes",
                    "the instance ends; a fresh one takes over its connections, and the one to blame is ignored",
                    &["decoder_memory_breaches", BLAMED, "payload_bytes_in_failed_calls"],
                ),
                fixed(
                    "elements of a table",
                    fixed::MAX_TABLE_ELEMENTS,
                    "the same",
                    &["decoder_memory_breaches", BLAMED],
                ),
                fixed(
                    "core instances, tables, memories of an instance",
                    format!("{}, {}, {}", fixed::MAX_CORE_INSTANCES, fixed::MAX_TABLES, fixed::MAX_MEMORIES),
                    "the decoder is refused",
                    &[],
                ),
                key(
                    "decoder.call_timeout",
                    "the call ends, and with it the instance, as above",
                    &["decoder_deadlines", BLAMED, "payload_bytes_in_failed_calls"],
                ),
                key("decoder.batch_entries", "the batch is handed over", &[]),
                key("decoder.batch_bytes", "the same", &[]),
                key("decoder.connections_per_instance", "a further instance is made", &[]),
                fixed(
                    "instances that connections are spread over",
                    MAX_INSTANCES,
                    "connections share the instance that has the fewest",
                    &["connections_beyond_instance_bound"],
                ),
                key(
                    "decoder.failures_allowed",
                    "the decoder is set aside, and its connections are ignored",
                    &["decoders_quarantined", "connections_of_quarantined_decoders", "undetected_decoder_quarantined"],
                ),
                fixed(
                    "time that a decoder is set aside for, at first and at most",
                    format!("{}, {}", time(fixed::SHORTEST_NS), time(fixed::LONGEST_NS)),
                    "it is tried again",
                    &[],
                ),
                fixed(
                    "log lines of a decoder",
                    format!("one each {}, {} at once", time(fixed::INTERVAL.as_nanos() as u64), fixed::BURST),
                    "further ones are dropped",
                    &["decoder_log_lines_dropped"],
                ),
                fixed("length of a log line", bytes(fixed::MAX_LOG_BYTES), "it is cut", &[]),
            ],
        ),
        (
            "What a decoder returns",
            vec![
                key(
                    "decoder.exchanges_per_call",
                    "nothing of the call is taken, and the instance ends, as above",
                    &["decoder_oversized_outputs", BLAMED],
                ),
                fixed(
                    "all lists of one call",
                    bytes(fixed::MAX_RETURNED_BYTES),
                    "the same",
                    &["decoder_oversized_outputs", BLAMED],
                ),
                fixed("demands of one call", fixed::MAX_DEMANDS, "the same", &["decoder_oversized_outputs", BLAMED]),
                fixed(
                    "attributes of an exchange",
                    fixed::MAX_ATTRIBUTES,
                    "the same",
                    &["decoder_oversized_outputs", BLAMED],
                ),
                fixed(
                    "one text of an exchange",
                    bytes(fixed::MAX_TEXT),
                    "it is cut, and the event says so",
                    &["exchanges_truncated"],
                ),
                fixed(
                    "all texts of an exchange",
                    bytes(fixed::MAX_EXCHANGE_TEXT),
                    "the same",
                    &["exchanges_truncated"],
                ),
            ],
        ),
        (
            "Publishing",
            vec![
                fixed("rows of the summary", MAX_ROWS, "further operations are counted together as `other`", &[]),
                key(
                    "delivery.queue_bytes",
                    "where files are replayed, reading waits; where traffic is live, the oldest events are dropped, counted as \
                     not delivered: `queue_full`",
                    &[],
                ),
                fixed(
                    "events that librdkafka holds, beside that queue",
                    format!(
                        "{}, {most_records} events; for a smaller queue less: twice its bytes, at least {} and \
                         {least_records} events",
                        bytes(most_bytes),
                        bytes(least_bytes)
                    ),
                    "events wait in the spool, or in the queue",
                    &[],
                ),
                fixed(
                    "memory that Kafka takes in all",
                    format!("{}MiB; {}MiB with a queue of 2MiB", kafka(queue), kafka(2 << 20)),
                    "the sum of both queues, where librdkafka needs up to 1KiB for an event beside its value",
                    &[],
                ),
                fixed(
                    "topics, where `kafka.topic` has one for each protocol",
                    MAX_TOPICS,
                    "events of further protocols go to the topic of a protocol `other`",
                    &[],
                ),
                fixed(
                    "time that events wait for one of these topics which takes none, while others do",
                    HumanDuration(TOPIC_PATIENCE),
                    "where traffic is live, its events are counted as not delivered: `topic_refused`; it is tried again as \
                     often",
                    &[],
                ),
                key(
                    "spool.max_bytes",
                    "where files are replayed, reading waits; where traffic is live, the oldest events are dropped, counted as \
                     not delivered: `spool_full`",
                    &[],
                ),
                key("spool.segment_bytes", "another file is begun", &[]),
                fixed(
                    "damaged files of the spool that are kept, beside those bytes",
                    MAX_SET_ASIDE,
                    "further ones are deleted; the log says so, and their bytes are counted as damaged",
                    &[],
                ),
                key("spool.fsync_interval", "what was written is forced onto the disk", &[]),
                key(
                    "kafka.connect_timeout",
                    "podtap ends with an error; where traffic is live, it says so in the log and goes on",
                    &[],
                ),
                key(
                    "kafka.timeout",
                    "where files are replayed and events cannot wait any longer, and at the end of any input: what is not \
                     acknowledged stays in the spool, or is given up, counted as not delivered: \
                     `not_acknowledged_in_time`",
                    &[],
                ),
                key(
                    "delivery.shutdown_grace",
                    "podtap ends; what was not sent stays in the spool, or is given up",
                    &[],
                ),
            ],
        ),
        (
            "Whoever asks podtap how it is",
            vec![
                key(
                    "admin.max_servers",
                    "requests of further servers are counted together, with `other` for their protocol and port",
                    &[],
                ),
                fixed("connections at once", admin::MAX_CONNECTIONS, "further ones wait in the kernel", &[]),
                fixed("readers of events at once, pages among them", MAX_READERS, "further ones are refused", &[]),
                fixed(
                    "pages with different filters",
                    admin::MAX_PAGES,
                    "further ones are refused; what each may hold is said below, under `report` and `top`",
                    &[],
                ),
                fixed("time that a page is kept without a look", HumanDuration(admin::PATIENCE), "it begins anew", &[]),
                fixed(
                    "events that wait for a reader",
                    bytes(MAX_CHUNKS * (64 << 10)),
                    "it loses those that come then, and is told how many: `podtap_exchanges_readers_lost_events_total`",
                    &[],
                ),
                fixed(
                    "lines of the log that wait for standard error",
                    bytes(MAX_WAITING_BYTES),
                    "further ones are lost: `podtap_log_lost_lines_total`",
                    &[],
                ),
                fixed("length of a request's line and headers", bytes(admin::MAX_HEAD_BYTES), "it is refused", &[]),
                fixed("time for a request", HumanDuration(admin::REQUEST_TIMEOUT), "the connection is closed", &[]),
            ],
        ),
        (
            "Reading events back",
            vec![
                fixed(
                    "length of an event",
                    bytes(read::MAX_EVENT_BYTES),
                    "a file or pipe is not read on; a Kafka record is named and left out",
                    &[],
                ),
                fixed("nesting of an event", read::MAX_DEPTH, "the event is named and left out", &[]),
                fixed("length of a filter", bytes(filter::MAX_BYTES), "it is refused", &[]),
                fixed("nesting of brackets in a filter", filter::MAX_NESTING, "the same", &[]),
                fixed(
                    "loops in a filter (`exists`, `map` and the like), of these in one another",
                    format!("{}, {}", filter::MAX_LOOPS, filter::MAX_LOOPS_NESTED),
                    "the same",
                    &[],
                ),
            ],
        ),
        (
            "Looking at traffic: `report`, `top` and the page of a running podtap",
            vec![
                fixed("operations of servers", view::MAX_ROWS, "further ones are counted together as `other`", &[]),
                fixed("pairs of client and server", view::MAX_EDGES, "the same", &[]),
                fixed("services known by name", view::MAX_NAMES, "further ones show by their addresses", &[]),
                fixed("slots of a timeline", view::MAX_SLOTS, "slots become wider", &[]),
                fixed("length of a protocol or operation", bytes(view::MAX_NAME_BYTES), "it is cut", &[]),
                fixed(
                    "latest, slowest and failed exchanges, of all and of each operation",
                    format!("{}, {} each", view::MAX_KEPT, view::MAX_KEPT_OF_ROW),
                    "the others are in the figures only",
                    &[],
                ),
                fixed(
                    "one text of such an exchange, all its texts",
                    format!("{}, {}", bytes(view::MAX_TEXT_BYTES), bytes(view::MAX_SINGLE_BYTES)),
                    "it is cut; attributes that are left out are counted beside it",
                    &[],
                ),
                fixed("rows of a table in a report", report::MAX_SHOWN_ROWS, "a line says how many are not shown", &[]),
            ],
        ),
    ]
}

/// `docs/limits.md`.
pub fn limits_page() -> String {
    let mut page = String::from(INTRODUCTION);
    for (at, step) in MEMORY_STEPS.iter().enumerate() {
        let below = if at + 1 < MEMORY_STEPS.len() { "from" } else { "below that; tested from" };
        let bounds = step.bounds().map(|(key, bound)| format!("`{key}` {bound}")).join(", ");
        let _ = writeln!(page, "| {below} {} | {bounds} |", ByteSize(step.from));
    }
    page.push_str(FITTED);
    for (of, limits) in limits() {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {of}\n\n| what | bound | at it | counts |\n|---|---|---|---|\n");
        for limit in limits {
            let (what, value) = match &limit.bound {
                Bound::Fixed(what, value) => ((*what).to_owned(), value.clone()),
                Bound::Key(key) => (format!("`{key}`"), default_of(key)),
            };
            let counts: Vec<_> = limit.counts.iter().map(|count| format!("`{count}`")).collect();
            let counts = if counts.is_empty() { "-".to_owned() } else { counts.join(", ") };
            let _ = writeln!(page, "| {what} | {} | {} | {counts} |", cell(&value), cell(limit.then));
        }
    }
    page
}
