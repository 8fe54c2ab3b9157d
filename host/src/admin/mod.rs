//! What podtap tells of itself over HTTP: `/metrics`, `/healthz`, `/readyz`, `/config`, and where that is allowed, the traffic
//! that goes by: on a page for people at `/`, as events at `/exchanges`.
//!
//! ```text
//!  worker ── a snapshot, about once a second ──> Board <── at each request ── thread of the server <── HTTP
//!  outputs <───────────── asked how they are ──────┘
//! ```
//!
//! Nothing here is on the way of a packet or an event: the worker counts for itself, and where the server is off it does
//! not even look at the clock. What is told holds no payload and no secret, and but for events, no address.

mod exchanges;
mod health;
mod metrics;
mod page;
mod process;
mod sample;
mod server;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::decoder::{DecoderStatus, Waiting};
use crate::pipeline::Report;
use crate::publish::{Broadcast, OutputStatus, Outputs, Refused, Subscription, Watched};
use crate::requests::Requests;

pub(crate) use metrics::known_count;
pub use metrics::{Kind, METRICS, Metric, Source};
pub use sample::{Sample, Value};
pub(crate) use server::fixed;
pub use server::{AdminError, Server};

/// How often the worker leaves a snapshot.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What a worker says of itself, or all of them together.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Totals and losses.
    pub report: Report,
    /// Connections that are tracked.
    pub connections: u64,
    /// Packets that wait for other fragments.
    pub fragments_waiting: u64,
    /// Payload that waits for payload before it.
    pub reassembly_bytes: u64,
    /// Payload that waits behind reassembly.
    pub waiting: Waiting,
    /// Decoders by name.
    pub decoders: BTreeMap<String, DecoderStatus>,
    /// Exchanges and connections that were published.
    pub events: [u64; 2],
    /// Requests, where they are counted.
    pub requests: Option<Requests>,
    /// Why outputs get no more events.
    pub failed_outputs: Vec<String>,
    /// Of new connections, the part that is decoded.
    pub decoded_share: f64,
    /// Interfaces that are captured on, and whether each is open; none where files are read.
    pub interfaces: Vec<(String, bool)>,
}

impl Snapshot {
    /// Of all workers, each of which captures on the same interfaces.
    fn of_all(workers: &[Arc<Snapshot>]) -> Arc<Snapshot> {
        match workers {
            [] => Arc::new(Snapshot { decoded_share: 1.0, ..Snapshot::default() }),
            [one] => Arc::clone(one),
            [first, others @ ..] => {
                let mut all = Snapshot::clone(first);
                others.iter().for_each(|other| all.add(other));
                all.decoded_share /= workers.len() as f64;
                Arc::new(all)
            }
        }
    }

    fn add(&mut self, other: &Snapshot) {
        self.report.add(&other.report);
        self.connections += other.connections;
        self.fragments_waiting += other.fragments_waiting;
        self.reassembly_bytes += other.reassembly_bytes;
        self.waiting.detection_bytes += other.waiting.detection_bytes;
        self.waiting.batch_bytes += other.waiting.batch_bytes;
        for (name, status) in &other.decoders {
            self.decoders.entry(name.clone()).or_default().add(status);
        }
        for (count, more) in self.events.iter_mut().zip(other.events) {
            *count += more;
        }
        if let (Some(requests), Some(others)) = (&mut self.requests, &other.requests) {
            requests.add(others);
        }
        let new = other.failed_outputs.iter().filter(|why| !self.failed_outputs.contains(why)).cloned();
        let new: Vec<_> = new.collect();
        self.failed_outputs.extend(new);
        self.decoded_share += other.decoded_share;
        for ((_, is_open), (_, other_is_open)) in self.interfaces.iter_mut().zip(&other.interfaces) {
            *is_open &= other_is_open;
        }
    }
}

/// Where workers leave what the server tells. Clones are of the same board.
#[derive(Clone)]
pub struct Board(Arc<Inner>);

/// A snapshot, and when it was left.
type Left = (Arc<Snapshot>, Instant);

struct Inner {
    /// Of each worker the last snapshot, and when it was left.
    snapshots: Mutex<Vec<Option<Left>>>,
    outputs: Mutex<Vec<Arc<dyn Watched>>>,
    /// The worker waits for whoever writes what it reads, and so has nothing to say.
    waits: AtomicBool,
    /// The effective configuration, in JSON; secrets are not in it.
    config: String,
    max_servers: usize,
    /// None where it is not allowed.
    broadcast: Option<Broadcast>,
    /// What is looked at.
    pages: page::Pages,
    /// Of the service that it is part of, or of the host.
    name: String,
    /// After so long without an acknowledgement, Kafka is taken to be away.
    kafka_patience: Duration,
    /// Whether decoders are needed: not where only connections are told of.
    needs_decoders: bool,
}

impl Board {
    /// Of a configuration; none where nobody can ask.
    pub fn of(config: &Config) -> Option<Board> {
        config.admin.address()?;
        Some(Board(Arc::new(Inner {
            snapshots: Mutex::default(),
            outputs: Mutex::default(),
            waits: AtomicBool::new(false),
            config: shown(config),
            broadcast: config.admin.exchanges.then(Broadcast::default),
            pages: page::Pages::default(),
            name: name(config),
            max_servers: config.admin.max_servers as usize,
            kafka_patience: config.kafka.timeout.0,
            needs_decoders: !config.events.connections,
        })))
    }

    /// From now on so many workers leave snapshots, and the outputs are asked how they are, and count requests.
    pub(crate) fn watch(&self, outputs: &mut Outputs, workers: usize) {
        *lock(&self.0.snapshots) = vec![None; workers];
        if self.0.max_servers > 0 {
            outputs.count_requests(self.0.max_servers);
        }
        if let Some(broadcast) = &self.0.broadcast {
            outputs.broadcast(broadcast.clone());
        }
        *lock(&self.0.outputs) = outputs.watched();
    }

    /// Leaves a worker's snapshot.
    pub(crate) fn put(&self, worker: usize, snapshot: Snapshot) {
        if let Some(place) = lock(&self.0.snapshots).get_mut(worker) {
            *place = Some((Arc::new(snapshot), Instant::now()));
        }
    }

    /// The worker begins, or has ended, to wait for input.
    pub(crate) fn waits(&self, waits: bool) {
        self.0.waits.store(waits, Ordering::Relaxed);
    }

    /// One reader more of events.
    fn subscribe(&self) -> Result<Subscription, Refused> {
        self.0.broadcast.as_ref().ok_or(Refused::Ended)?.subscribe()
    }

    /// All that can be told now.
    fn scrape(&self) -> Scrape {
        let last = lock(&self.0.snapshots).clone();
        let outputs = lock(&self.0.outputs).iter().map(|output| output.status()).collect();
        let has_begun = !last.is_empty() && last.iter().all(Option::is_some);
        let (snapshots, left): (Vec<_>, Vec<_>) = last.into_iter().flatten().unzip();
        let snapshot = Snapshot::of_all(&snapshots);
        let age = left.iter().map(Instant::elapsed).max().unwrap_or_default();
        let process = process::Process::now();
        let readers = self.0.broadcast.as_ref().map(|broadcast| [broadcast.count(), broadcast.lost()]);
        let waits = self.0.waits.load(Ordering::Relaxed);
        let log_lost = crate::log::lost();
        let mut scrape =
            Scrape { snapshot, has_begun, age, waits, outputs, process, readers, log_lost, is_ready: false };
        scrape.is_ready = health::complaints(&scrape, &self.0).is_empty();
        scrape
    }
}

/// What people know this podtap by.
fn name(config: &Config) -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    config.agent.resource.get("service.name").cloned().unwrap_or_else(host)
}

/// A configuration as it is told: secrets are masked by their types, what decoders are told is theirs to know.
fn shown(config: &Config) -> String {
    let mut shown = serde_json::to_value(config).unwrap_or_default();
    for (_, settings) in shown["plugins"]["config"].as_object_mut().into_iter().flatten() {
        settings.as_object_mut().into_iter().flatten().for_each(|(_, value)| *value = "***".into());
    }
    format!("{shown:#}\n")
}

/// What one request is answered from.
#[derive(Clone, Debug)]
pub struct Scrape {
    snapshot: Arc<Snapshot>,
    /// There was a snapshot of each worker.
    has_begun: bool,
    /// Of the oldest snapshot.
    age: Duration,
    /// The worker waits for input.
    waits: bool,
    outputs: Vec<OutputStatus>,
    process: process::Process,
    /// Readers of events, and events that they lost; none where nobody may read.
    readers: Option<[u64; 2]>,
    /// Lines of the log that were lost.
    log_lost: u64,
    is_ready: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it holds is replaced as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{LibrdkafkaOptions, Secret};

    fn scrape() -> Scrape {
        let config = Config {
            admin: crate::config::Admin { listen: Some("127.0.0.1:0".into()), ..Default::default() },
            ..Config::default()
        };
        Board::of(&config).unwrap().scrape()
    }

    fn all() -> impl Iterator<Item = &'static Metric> {
        METRICS.iter().flat_map(|(_, metrics)| *metrics)
    }

    #[test]
    fn names_follow_the_rule_and_no_two_metrics_are_one_family() {
        let mut families = BTreeSet::new();
        for Metric { name, kind, labels, help, source } in all() {
            assert!(
                name.starts_with("podtap_") && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(families.insert(name.trim_end_matches("_total")), "{name}: there is another of that family");
            assert!(help.ends_with('.'), "{name}: {help}");
            if let Source::Counts(_) = source {
                assert_eq!(labels.len(), 1, "{name}");
            }
        }
    }

    #[test]
    fn what_workers_say_is_told_as_of_one() {
        use crate::decoder::DecoderStatus;
        let snapshot = |count: u64, usable, is_open| {
            let status = DecoderStatus { instances: count, usable: Some(usable), ..DecoderStatus::default() };
            let totals = vec![("packets", count), ("exchanges", 1)];
            Arc::new(Snapshot {
                report: Report { totals, losses: vec![("gaps", count)], problems: vec!["x".to_owned()] },
                connections: count,
                decoders: [("http".to_owned(), status)].into(),
                events: [count, 1],
                failed_outputs: vec!["full".to_owned()],
                decoded_share: 1.0 / count as f64,
                interfaces: vec![("eth0".to_owned(), true), ("eth1".to_owned(), is_open)],
                ..Snapshot::default()
            })
        };
        assert_eq!(Snapshot::of_all(&[]).decoded_share, 1.0);
        let all = Snapshot::of_all(&[snapshot(1, false, true), snapshot(2, true, false)]);
        assert_eq!((all.report.count("packets"), all.report.count("exchanges"), all.report.count("gaps")), (3, 2, 3));
        assert_eq!((all.connections, all.events, all.decoded_share), (3, [3, 2], 0.75));
        assert_eq!((all.report.problems.len(), all.failed_outputs.len()), (1, 1));
        assert_eq!((all.decoders["http"].instances, all.decoders["http"].usable), (3, Some(true)));
        assert_eq!(all.interfaces, [("eth0".to_owned(), true), ("eth1".to_owned(), false)]);
    }

    #[test]
    fn secrets_are_not_told() {
        let mut config = Config::default();
        config.kafka.sasl_password = Secret("hunter2".into());
        let options = [("sasl.password", "hunter2"), ("ssl.key.pem", "hunter2"), ("linger.ms", "7")];
        config.kafka.librdkafka_options =
            LibrdkafkaOptions(options.map(|(name, value)| (name.into(), value.into())).into());
        let settings = serde_json::json!({"token": "hunter2", "deep": {"er": ["hunter2"]}});
        config.plugins.config.insert("mine".into(), settings.as_object().unwrap().clone());
        let shown = shown(&config);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("\"linger.ms\": \"7\"") && shown.contains("\"token\": \"***\""), "{shown}");
    }

    #[test]
    fn both_formats_have_every_metric_that_has_a_value() {
        use sample::TextFormat;
        let scrape = scrape();
        for format in [TextFormat::OpenMetrics, TextFormat::Prometheus] {
            let page = format.write(scrape.clone()).unwrap();
            assert_eq!(page.ends_with("# EOF\n"), format == TextFormat::OpenMetrics);
            for metric in all().filter(|metric| !metric.samples(&scrape).is_empty()) {
                let is_there = page
                    .lines()
                    .any(|line| line.strip_prefix(metric.name).is_some_and(|rest| rest.starts_with([' ', '{'])));
                assert!(is_there, "{}\n{page}", metric.name);
            }
        }
    }
}
