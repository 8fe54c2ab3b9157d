//! From capture files and interfaces to published events: the only place that knows every stage.

mod live;
mod telling;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use podtap_stream::{CloseReason, Engine, LinkType, OpenedBy, Packet, Side};

use crate::admin::Board;
use crate::capture::{CaptureError, CaptureFile, Drops, Filter, FilterError, Record};
use crate::config::Config;
use crate::decoder::{
    self, Catalog, Descriptor, DispatchCounters, DispatchLimits, Dispatcher, Ended, Row, Runtime, Tracked, Undetected,
    Waiting, Watch,
};
use crate::event::{
    self, Attributes, ConnectionEvent, ConnectionIdentity, Event, Exchange, Loss, Opened, Party, Peer, Reason,
    Redaction, Resource, Role, Timestamp, Timing, Value, Vantage,
};
use crate::publish::{Outputs, Printable, PublishError};
use crate::stop::Stop;

pub use live::run;
use telling::Telling;

/// Bytes of a file between two reports of progress.
const PROGRESS_STEP: u64 = 1 << 20;

/// What is to be replayed.
pub struct Replay<'a> {
    /// Capture files; `-` is standard input.
    pub files: &'a [PathBuf],
    /// A packet filter in libpcap's language.
    pub filter: Option<&'a str>,
    /// The configuration.
    pub config: &'a Config,
    /// Called now and then with the bytes read so far.
    pub progress: &'a mut dyn FnMut(u64),
}

/// What was counted: by a replay at its end, by podtap that is running so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Counted work.
    pub totals: Vec<(&'static str, u64)>,
    /// Counted losses.
    pub losses: Vec<(&'static str, u64)>,
    /// One line for each file or plugin that could not be used, or not wholly.
    pub problems: Vec<String>,
}

impl Report {
    /// What another worker of the same run has counted, too.
    pub fn add(&mut self, other: &Report) {
        for (sums, counts) in [(&mut self.totals, &other.totals), (&mut self.losses, &other.losses)] {
            for &(name, count) in counts {
                match sums.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, sum)) => *sum += count,
                    None => sums.push((name, count)),
                }
            }
        }
        for problem in &other.problems {
            if !self.problems.contains(problem) {
                self.problems.push(problem.clone());
            }
        }
    }

    /// A total or a loss by its name; 0 where there is none of it.
    pub fn count(&self, name: &str) -> u64 {
        self.totals.iter().chain(&self.losses).find_map(|&(known, count)| (known == name).then_some(count)).unwrap_or(0)
    }

    /// Of what every packet, every byte of payload and every connection that no decoder claimed is in exactly one place.
    pub fn sums(&self) -> [Sum; 3] {
        let named = |name: &'static str| (name, self.count(name));
        let sum = |total, parts: &[&'static str]| Sum {
            total: named(total),
            parts: parts.iter().map(|&part| named(part)).collect(),
        };
        [
            sum("packets", &PLACES_OF_PACKETS),
            sum("payload_bytes", &PLACES_OF_BYTES),
            sum("connections_undetected", &Undetected::ALL.map(|(_, name)| name)),
        ]
    }

    /// Is every packet, every byte of payload and every connection that no decoder claimed in exactly one place?
    pub fn adds_up(&self) -> bool {
        self.sums().iter().all(Sum::holds)
    }
}

/// A count, and those that it is the sum of.
#[derive(Debug)]
pub struct Sum {
    /// The count of all.
    pub total: (&'static str, u64),
    /// The counts of its parts.
    pub parts: Vec<(&'static str, u64)>,
}

impl Sum {
    /// Is it their sum?
    pub fn holds(&self) -> bool {
        self.parts.iter().map(|(_, count)| count).sum::<u64>() == self.total.1
    }
}

/// What waits does so while podtap is running; at the end, nothing does.
pub(crate) const WAITING: [&str; 2] = ["fragments_waiting", "payload_bytes_waiting"];

/// Every packet is in one of these.
const PLACES_OF_PACKETS: [&str; 15] = [
    "packets_tracked",
    WAITING[0],
    "packets_filtered",
    "packets_ignored",
    "packets_not_tcp",
    "packets_unknown_link",
    "packets_malformed",
    "packets_truncated",
    "packets_too_deep",
    "packets_stray",
    "fragments_joined",
    "fragments_duplicate",
    "fragments_overlapping",
    "fragments_expired",
    "fragments_evicted",
];

/// Every byte of payload is in one of these.
const PLACES_OF_BYTES: [&str; 9] = [
    "payload_bytes_decoded",
    "payload_bytes_skipped",
    WAITING[1],
    "payload_bytes_ignored",
    "payload_bytes_duplicate",
    "payload_bytes_out_of_window",
    "payload_bytes_abandoned",
    "payload_bytes_undetected",
    "payload_bytes_in_failed_calls",
];

/// Nothing could be done.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Events cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The filter is wrong.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Another output than those of a configuration.
    #[error("an output here takes events of one worker only; capture.workers can be 1 with it")]
    OneWorker,
    /// The system gives no thread.
    #[error("no thread for a worker: {0}; fewer are asked for by capture.workers")]
    Thread(std::io::Error),
    /// WebAssembly cannot be run here.
    #[error("decoders cannot be run on this machine: {0}")]
    Sandbox(wasmtime::Error),
    /// There is no decoder at all.
    #[error("no decoder found in {}: put .wasm files there (or packed: .wasm.gz, .wasm.zst), or name a directory with --plugins; \
         --connections alone needs none", list(.0))]
    NoDecoder(Vec<PathBuf>),
    /// The configuration names a decoder that is not there.
    #[error("{key}: there is no decoder `{name}`; there are: {known}")]
    UnknownDecoder {
        /// Key of the configuration.
        key: String,
        /// The decoder it names.
        name: String,
        /// Those that were found.
        known: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Replays capture files, one after the other, each as a capture of its own.
///
/// # Errors
/// When nothing could be done, or events cannot be published any more. What is wrong with a single file or plugin is in
/// the report.
pub fn replay(request: Replay<'_>, outputs: &mut Outputs) -> Result<Report, PipelineError> {
    replay_until(&Stop::default(), None, request, outputs)
}

/// As [`replay`], but where an end is asked for, no more is read than has been. How it goes is left on the board.
///
/// # Errors
/// As [`replay`].
pub fn replay_until(
    stop: &Stop,
    board: Option<&Board>,
    request: Replay<'_>,
    outputs: &mut Outputs,
) -> Result<Report, PipelineError> {
    let mut decoders = Decoders::load(request.config)?;
    // What is replayed from a file gives the same events each time.
    if is_live(request.files) {
        decoders.watch(request.config);
    }
    replay_loaded(&decoders, stop, board, request, outputs)
}

/// Do packets of any of these come as they are captured? Taken for granted where it is something else than a plain file.
pub fn is_live(files: &[PathBuf]) -> bool {
    let is_file = |path: &PathBuf| {
        if path == Path::new("-") {
            let stat = rustix::fs::fstat(std::io::stdin());
            return stat.is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file());
        }
        // One that is not there will be an error of its own.
        path.metadata().map_or(true, |metadata| metadata.is_file())
    };
    !files.iter().all(is_file)
}

/// Decoders as a configuration has them, for any number of replays: to compile them takes longer than most replays do.
pub struct Decoders {
    runtime: Arc<Runtime>,
    plugins: Vec<decoder::Plugin>,
    /// One line for each plugin that could not be used.
    problems: Vec<String>,
    /// What the search path held, until someone watches it.
    catalog: Option<Catalog>,
    watch: Option<Watch>,
}

impl Decoders {
    /// Finds and compiles them.
    ///
    /// # Errors
    /// When there is none, or the configuration names one that is not there.
    pub fn load(config: &Config) -> Result<Decoders, PipelineError> {
        let runtime = Arc::new(runtime(config)?);
        let mut problems = Vec::new();
        let catalog = usable_plugins(&runtime, config, &mut problems)?;
        let mut plugins = catalog.plugins();
        if plugins.len() > decoder::MAX_PLUGINS {
            problems.push(format!("{} decoders found; the first {} are used", plugins.len(), decoder::MAX_PLUGINS));
            plugins.truncate(decoder::MAX_PLUGINS);
        }
        for (port, name) in &config.detection.ports {
            let names = plugins.iter().map(|plugin| plugin.descriptor.name.as_str());
            check_name(names, &format!("detection.ports.{port}"), name)?;
        }
        Ok(Decoders { runtime, plugins, problems, catalog: Some(catalog), watch: None })
    }

    /// One line for each decoder that cannot be used, and each setting about decoders that does nothing.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// One alone, whatever else is found.
    pub fn only(runtime: Runtime, plugin: decoder::Plugin) -> Decoders {
        Decoders { runtime: Arc::new(runtime), plugins: vec![plugin], problems: Vec::new(), catalog: None, watch: None }
    }

    /// Looks for changed decoders from now on, as the configuration has it, and uses them in replays that are under way.
    pub fn watch(&mut self, config: &Config) {
        let interval = config.plugins.reload_interval.0;
        if let Some(catalog) = self.catalog.take_if(|_| !interval.is_zero()) {
            match Watch::start(Arc::clone(&self.runtime), catalog, interval) {
                Ok(watch) => self.watch = Some(watch),
                Err(error) => tracing::error!(%error, "changed decoders are not noticed"),
            }
        }
    }

    /// How often the search path was looked into for changes.
    pub fn looks(&self) -> u64 {
        self.watch.as_ref().map_or(0, Watch::looks)
    }
}

/// The sandbox, with the cache and the limits that a configuration has.
///
/// # Errors
/// When WebAssembly cannot be run here.
pub fn runtime(config: &Config) -> Result<Runtime, PipelineError> {
    let cache = if config.plugins.cache { decoder::Cache::of_this_user() } else { decoder::Cache::none() };
    let limits = decoder::Limits {
        memory_bytes: config.decoder.memory_bytes.as_usize(),
        workers: config.capture.workers,
        call_timeout: config.decoder.call_timeout.0,
    };
    Runtime::new(limits, cache).map_err(PipelineError::Sandbox)
}

/// As [`replay`], with fresh instances of decoders that were loaded before. Of the request's configuration, what it
/// says of plugins and of limits for decoders was decided then.
///
/// # Errors
/// As [`replay`].
pub fn replay_with(decoders: &Decoders, request: Replay<'_>, outputs: &mut Outputs) -> Result<Report, PipelineError> {
    replay_loaded(decoders, &Stop::default(), None, request, outputs)
}

fn replay_loaded(
    decoders: &Decoders,
    stop: &Stop,
    board: Option<&Board>,
    request: Replay<'_>,
    outputs: &mut Outputs,
) -> Result<Report, PipelineError> {
    let config = request.config;
    let mut filter = request.filter.map(Filter::new).transpose()?;
    let mut report = Report { problems: decoders.problems.clone(), ..Report::default() };
    board.inspect(|board| board.watch(outputs, 1));
    let seat = Seat { index: 0, of: 1, board };
    let mut worker = Worker::new(decoders, stop, seat, config, outputs, &mut report);
    let mut read = 0;
    for path in request.files.iter().take_while(|_| !stop.is_requested()) {
        let result = worker.file(path, filter.as_mut(), &mut |bytes| (request.progress)(read + bytes));
        read += match result {
            Ok(bytes) => bytes,
            Err(FileError::Publish(error)) => return Err(error.into()),
            // It ends where it was told to.
            Err(FileError::File(_)) if stop.is_requested() => 0,
            Err(FileError::File(problem)) => {
                report.problems.push(format!("{}: {problem}", name(path)));
                0
            }
        };
    }
    report.problems.extend(worker.publisher.outputs.finish().err().map(|error| error.to_string()));
    worker.report(&mut report);
    Ok(report)
}

fn name(path: &Path) -> Cow<'_, str> {
    if path == Path::new("-") { "standard input".into() } else { path.to_string_lossy() }
}

/// For a decoder's name, the attribute that holds the status of its exchanges.
fn status_attributes(plugins: &[decoder::Plugin]) -> HashMap<String, String> {
    let descriptors = plugins.iter().map(|plugin| &plugin.descriptor);
    let named = descriptors.filter_map(|it| Some((it.name.clone(), it.status_attribute()?.to_owned())));
    named.collect()
}

/// The search path with at least one usable plugin, unless none is needed.
fn usable_plugins(runtime: &Runtime, config: &Config, problems: &mut Vec<String>) -> Result<Catalog, PipelineError> {
    let path = decoder::search_path(&config.plugins.directories);
    let mut catalog = Catalog::new(path.clone(), config.plugins.clone());
    problems.extend(catalog.look(runtime).map(|(path, error)| format!("{}: {error}", path.display())));
    problems.extend(catalog.pin_problems());
    for directory in config.plugins.directories.iter().filter(|directory| !directory.is_dir()) {
        problems.push(format!("{}: is not a directory of plugins", directory.display()));
    }
    // Connections are told of without one.
    if catalog.plugins().is_empty() && !config.events.connections {
        problems.iter().for_each(|problem| tracing::error!("{}", Printable(problem)));
        return Err(PipelineError::NoDecoder(path));
    }
    for name in config.plugins.config.keys() {
        check_name(catalog.names(), "plugins.config", name)?;
    }
    Ok(catalog)
}

/// Is there the decoder that a key of the configuration names?
fn check_name<'p>(
    mut names: impl Iterator<Item = &'p str> + Clone,
    key: &str,
    name: &str,
) -> Result<(), PipelineError> {
    let known = names.clone();
    if names.any(|known| known == name) {
        return Ok(());
    }
    Err(PipelineError::UnknownDecoder {
        key: key.to_owned(),
        name: name.to_owned(),
        known: known.collect::<Vec<_>>().join(", "),
    })
}

/// An instance of each plugin.
fn start_plugins(
    runtime: &Runtime,
    plugins: &[decoder::Plugin],
    problems: &mut Vec<String>,
) -> Vec<(decoder::Plugin, decoder::Instance)> {
    let mut started = Vec::new();
    for plugin in plugins {
        match runtime.instance(plugin) {
            Ok(instance) => started.push((plugin.clone(), instance)),
            Err(error) => problems.push(format!("{}: {error}", plugin.path.display())),
        }
    }
    started
}

/// Which of the workers one is, and where it leaves how it goes.
#[derive(Clone, Copy)]
struct Seat<'r> {
    index: usize,
    /// Workers in all.
    of: u32,
    board: Option<&'r Board>,
}

/// One thread's way from packets to events.
struct Worker<'r, 'o> {
    engine: Engine,
    dispatcher: Dispatcher<'r>,
    publisher: Publisher<'o>,
    watch: Option<&'r Watch>,
    stop: &'r Stop,
    /// Which plugins of the watch are in use.
    generation: u64,
    board: Option<Telling<'r>>,
    packets_filtered: u64,
    /// Packets of interfaces that never came up.
    drops: Drops,
}

impl<'r, 'o> Worker<'r, 'o> {
    /// Ready for packets. What is wrong with single plugins goes to the report.
    fn new(
        decoders: &'r Decoders,
        stop: &'r Stop,
        seat: Seat<'r>,
        config: &'o Config,
        outputs: &'o mut Outputs,
        report: &mut Report,
    ) -> Worker<'r, 'o> {
        let Decoders { runtime, plugins, watch, .. } = decoders;
        outputs.set_status_attributes(&status_attributes(plugins));
        let plugins = start_plugins(runtime, plugins, &mut report.problems);
        let ports = config.detection.ports.clone();
        let dispatch_limits = DispatchLimits {
            batch_entries: config.decoder.batch_entries as usize,
            batch_bytes: config.decoder.batch_bytes.0 as usize,
            head_bytes: config.detection.head_bytes.0 as usize,
            connections_per_instance: config.decoder.connections_per_instance,
            instances: (decoder::MAX_INSTANCES / seat.of) as usize,
            exchanges_per_call: config.decoder.exchanges_per_call as usize,
            failures_allowed: config.decoder.failures_allowed,
        };
        let mut worker = Worker {
            engine: Engine::new(config.stream.limits_of_each(seat.of)),
            dispatcher: Dispatcher::new(runtime, plugins, ports, dispatch_limits, config.events.connections),
            publisher: Publisher {
                agent: &config.agent.id,
                resource: &config.agent.resource,
                redaction: Redaction::new(&config.redaction.query_keys),
                outputs,
                local: Vec::new(),
                summary: String::new(),
                failed: None,
            },
            watch: watch.as_ref(),
            stop,
            generation: 0,
            board: None,
            packets_filtered: 0,
            drops: Drops::default(),
        };
        if let Some(board) = seat.board {
            worker.tell_on(board, seat.index);
        }
        worker
    }
}

enum FileError {
    /// Of this file; what was read of it is published.
    File(String),
    Publish(PublishError),
}

impl Worker<'_, '_> {
    /// Replays one file to its end, or as far as it can be read. Gives the bytes read.
    fn file(
        &mut self,
        path: &Path,
        filter: Option<&mut Filter>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, FileError> {
        // A pipe may have nothing for a while, not even the head of a file.
        self.waits();
        let opened = CaptureFile::open_until(path, self.stop).map_err(|error| FileError::File(error.to_string()));
        self.tell_after_wait();
        let mut file = opened?;
        let result = self.packets(&mut file, filter, progress);
        // Whatever happened to the file, what was decoded of it is to be seen.
        self.finish();
        if let Some(error) = self.publisher.failed.take() {
            return Err(FileError::Publish(error));
        }
        result.map(|()| file.position())
    }

    /// Takes a packet; gives its link type.
    fn packet(&mut self, record: &Record<'_>) -> LinkType {
        let &Record { link_type, time_ns, data, original_len } = record;
        let link_type = LinkType::from_number(link_type);
        self.engine.packet(&Packet { link_type, time_ns, data, original_len }, &mut self.dispatcher);
        self.settle();
        link_type
    }

    /// No packet came up to this time.
    fn advance(&mut self, now_ns: u64) {
        self.engine.advance(now_ns, &mut self.dispatcher);
        self.settle();
    }

    /// After what the engine was told.
    fn settle(&mut self) {
        self.dispatcher.after_packet(&mut self.engine, &mut |tracked, descriptor, row| {
            self.publisher.take(tracked, descriptor, row);
        });
        self.dispatcher.report_ended(&mut |ended| self.publisher.take_ended(ended));
    }

    /// The capture is over.
    fn finish(&mut self) {
        self.engine.finish(&mut self.dispatcher);
        self.flush();
        self.dispatcher.capture_over();
    }

    /// Hands over what waits for a full batch.
    fn flush(&mut self) {
        self.dispatcher.flush(&mut self.engine, &mut |tracked, descriptor, row| {
            self.publisher.take(tracked, descriptor, row);
        });
        self.dispatcher.report_ended(&mut |ended| self.publisher.take_ended(ended));
    }

    /// Uses the plugins that the watch has found.
    fn reload(&mut self) {
        if let Some(plugins) = self.watch.and_then(|watch| watch.newer(&mut self.generation)) {
            self.dispatcher.reload(&plugins, &mut self.engine, &mut |tracked, descriptor, row| {
                self.publisher.take(tracked, descriptor, row);
            });
            self.publisher.outputs.set_status_attributes(&status_attributes(&plugins));
        }
    }

    fn packets(
        &mut self,
        file: &mut CaptureFile,
        mut filter: Option<&mut Filter>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), FileError> {
        let file_error = |error: CaptureError| FileError::File(error.to_string());
        let mut next_progress = PROGRESS_STEP;
        let mut unknown: BTreeMap<u32, u64> = BTreeMap::new();
        let mut seen = 0_u32;
        loop {
            // Looked at now and then only: a call costs something.
            seen = seen.wrapping_add(1);
            if seen.is_multiple_of(1024) {
                self.reload();
                self.tell_if_due();
                if self.stop.is_requested() {
                    break;
                }
                if file.may_wait() {
                    self.publisher.flush();
                }
                if file.position() >= next_progress {
                    next_progress = file.position() + PROGRESS_STEP;
                    progress(file.position());
                }
            }
            let waits = file.would_wait();
            if waits {
                self.flush();
                self.publisher.flush();
                self.tell_before_wait(file);
            }
            let Some(record) = file.next_record().map_err(file_error)? else { break };
            if waits {
                self.tell_after_wait();
                self.reload();
            }
            if let Some(filter) = &mut filter {
                match filter.passes(record.link_type, record.data) {
                    Ok(true) => {}
                    Ok(false) => {
                        self.packets_filtered += 1;
                        continue;
                    }
                    Err(error) => return Err(FileError::File(error.to_string())),
                }
            }
            if let LinkType::Unknown(number) = self.packet(&record) {
                *unknown.entry(number).or_default() += 1;
            }
            if self.publisher.failed.is_some() {
                return Ok(());
            }
        }
        progress(file.position());
        match unknown.first_key_value() {
            None => Ok(()),
            Some((number, packets)) => Err(FileError::File(format!(
                "has {packets} packets of link type {number}, which podtap does not read; capture on an Ethernet, \
                 loopback, `any` or IP interface (all link types: tcpdump.org/linktypes.html)"
            ))),
        }
    }

    /// Totals and named losses. Every packet that came up, and every byte of payload, is in one of them.
    fn report(&self, report: &mut Report) {
        let stream = self.engine.counters();
        let DispatchCounters {
            bytes_decoded,
            bytes_undetected,
            bytes_failed,
            bytes_undecoded,
            bytes_unknown,
            connections_detected,
            connections_undetected,
            connections_of_known_servers,
            connections_beyond_bound,
            connections_blamed,
            failures_trap,
            failures_deadline,
            failures_memory,
            failures_output,
            failures_too_much,
            demands_ignored,
            exchanges_truncated,
            plugins_quarantined,
            connections_quarantined,
            plugins_reloaded,
            connections_moved,
            connections_of_removed_plugins,
            connections_own,
            connections_left_out,
            exchanges,
        } = *self.dispatcher.counters();
        report.totals = vec![
            ("exchanges", exchanges),
            ("packets", stream.packets + self.packets_filtered),
            ("packets_tracked", stream.packets_tracked),
            ("connections", stream.connections_total),
            ("connections_detected", connections_detected),
            ("connections_of_known_servers", connections_of_known_servers),
            ("payload_bytes", stream.bytes),
            ("payload_bytes_decoded", bytes_decoded),
            ("payload_bytes_skipped", stream.bytes_skipped),
        ];
        let Waiting { detection_bytes, batch_bytes } = self.dispatcher.waiting();
        let rare = [
            ("fragments_joined", stream.fragments_joined),
            (WAITING[0], stream.fragments_waiting),
            (WAITING[1], stream.bytes_buffered + detection_bytes + batch_bytes),
            ("decoders_reloaded", plugins_reloaded),
            ("own_connections", connections_own),
        ];
        report.totals.extend(rare.into_iter().filter(|(_, count)| *count > 0));
        report.losses = vec![
            ("packets_filtered", self.packets_filtered),
            ("packets_dropped_by_kernel", self.drops.kernel),
            ("packets_dropped_by_interface", self.drops.interface),
            ("packets_ignored", stream.packets_ignored),
            ("packets_not_tcp", stream.packets_not_tcp),
            ("packets_unknown_link", stream.packets_unknown_link),
            ("packets_malformed", stream.packets_malformed),
            ("packets_truncated", stream.packets_truncated),
            ("packets_too_deep", stream.packets_too_deep),
            ("fragments_duplicate", stream.fragments_duplicate),
            ("fragments_overlapping", stream.fragments_overlapping),
            ("fragments_expired", stream.fragments_expired),
            ("fragments_evicted", stream.fragments_evicted),
            ("packets_stray", stream.packets_stray),
            ("payload_bytes_ignored", stream.bytes_ignored),
            ("payload_bytes_duplicate", stream.bytes_duplicate),
            ("payload_bytes_conflicting", stream.bytes_conflicting),
            ("payload_bytes_out_of_window", stream.bytes_out_of_window),
            ("payload_bytes_abandoned", stream.bytes_abandoned),
            ("payload_bytes_undetected", bytes_undetected),
            ("payload_bytes_undecoded", bytes_undecoded),
            ("payload_bytes_in_failed_calls", bytes_failed),
            // No place of the sum in `adds_up`: it is to show.
            ("payload_bytes_of_unknown_connections", bytes_unknown),
            ("gaps", stream.gaps),
            ("acknowledged_gap_bytes", stream.bytes_gap_acknowledged),
            ("buffer_limit_gap_bytes", stream.bytes_gap_buffer_limit),
            ("timeout_gap_bytes", stream.bytes_gap_timeout),
            ("snaplen_gap_bytes", stream.bytes_gap_snaplen),
            ("resync_gap_bytes", stream.bytes_gap_resync),
            ("connection_end_gap_bytes", stream.bytes_gap_connection_end),
            ("connections_evicted", stream.connections_evicted),
            ("connections_undetected", connections_undetected.iter().sum()),
            ("connections_beyond_instance_bound", connections_beyond_bound),
            ("connections_blamed", connections_blamed),
            ("decoder_traps", failures_trap),
            ("decoder_deadlines", failures_deadline),
            ("decoder_memory_breaches", failures_memory),
            ("decoder_invalid_outputs", failures_output),
            ("decoder_oversized_outputs", failures_too_much),
            ("decoder_demands_ignored", demands_ignored),
            ("decoder_log_lines_dropped", self.dispatcher.log_lines_dropped()),
            ("exchanges_truncated", exchanges_truncated),
            ("decoders_quarantined", plugins_quarantined),
            ("connections_of_quarantined_decoders", connections_quarantined),
            ("connections_moved_to_other_version", connections_moved),
            ("connections_of_removed_decoders", connections_of_removed_plugins),
            ("connections_left_out", connections_left_out),
        ];
        let reasons = Undetected::ALL.iter().zip(connections_undetected);
        report.losses.extend(reasons.map(|(&(_, name), count)| (name, count)));
    }
}

/// Puts exchanges and ends of connections in their envelope and publishes them.
struct Publisher<'o> {
    agent: &'o str,
    resource: &'o Resource,
    redaction: Redaction,
    outputs: &'o mut Outputs,
    /// Addresses of this host; none where the capture is from elsewhere.
    local: Vec<IpAddr>,
    /// Room for the summary of an exchange.
    summary: String,
    /// Why nothing can be published any more.
    failed: Option<PublishError>,
}

impl Publisher<'_> {
    fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = self.outputs.flush().err();
        }
    }

    fn take(&mut self, tracked: &mut Tracked, descriptor: &Descriptor, row: Row<'_>) {
        if self.failed.is_some() {
            return;
        }
        let Row { protocol, outcome, times, sizes, texts, mut attributes, query, truncated, .. } = row;
        let [request_start, request_end, response_start, response_end] = times;
        let [request_bytes, response_bytes, lost_bytes] = sizes;
        let (request_seen, response_seen) = (request_start != 0, response_start != 0);
        let time = if request_seen { request_start } else { response_start };
        let offset = |moment: u64| (moment != 0).then(|| moment.saturating_sub(time));

        let [operation, target, summary] = texts.map(|text| (!text.is_empty()).then_some(text));
        let (operation, target) = (operation.as_deref().map(Cow::Borrowed), target.as_deref().map(Cow::Borrowed));
        let summary = summary.or_else(|| match (&operation, &target) {
            (Some(operation), Some(target)) => {
                self.summary.clear();
                self.summary.extend([&**operation, " ", target]);
                Some(Cow::Borrowed(self.summary.as_str()))
            }
            (one, other) => one.as_ref().or(other.as_ref()).cloned(),
        });
        if let Some((_, Value::Text(query))) = query.and_then(|index| attributes.get_mut(index)) {
            self.redaction.redact_query(query);
        }

        let number = tracked.number_exchange();
        let (client, server, midstream) = (tracked.client(), tracked.server(), tracked.midstream);
        let identity = tracked.identity(self.agent);
        let id = identity.exchange_id(number);
        let exchange = Exchange {
            id: Cow::Borrowed(id.as_str()),
            time: Timestamp(time),
            duration: if request_seen { offset(response_end) } else { None },
            timing: Timing {
                request_end: offset(request_end),
                response_start: offset(response_start),
                response_end: offset(response_end),
            },
            protocol: Cow::Borrowed(&descriptor.protocols[protocol]),
            decoder: Cow::Borrowed(&descriptor.label),
            operation,
            target,
            summary,
            outcome,
            client: Peer { address: client.address, port: client.port, bytes: request_seen.then_some(request_bytes) },
            server: Peer { address: server.address, port: server.port, bytes: response_seen.then_some(response_bytes) },
            vantage: vantage(&self.local, client.address, server.address),
            connection: event::Connection { id: Cow::Borrowed(&identity.id), exchange: number, midstream },
            loss: (lost_bytes > 0 || truncated)
                .then_some(Loss { gap_bytes: (lost_bytes > 0).then_some(lost_bytes), truncated }),
            attributes: Attributes(attributes),
            resource: Cow::Borrowed(self.resource),
        };
        self.failed = self.outputs.publish(Event::Exchange(&exchange)).err();
    }

    fn take_ended(&mut self, ended: &Ended) {
        if self.failed.is_some() {
            return;
        }
        let Ended { connection, closed, client, exchanges, protocol } = ended;
        let facts = &closed.facts;
        let [a, b] = [(connection.a, &facts.a), (connection.b, &facts.b)]
            .map(|(end, facts_of_side)| Party::new(end, facts_of_side, !facts.ignored));
        let (client_end, server_end, endpoints) = match client {
            Some(Side::A) => (Some(a), Some(b), None),
            Some(Side::B) => (Some(b), Some(a), None),
            None => (None, None, Some([a, b])),
        };
        let opened = match connection.opened_by {
            _ if closed.reason == CloseReason::Refused => Opened::Refused,
            OpenedBy::Midstream => Opened::Midstream,
            OpenedBy::Handshake if facts.b.packets == 0 && !facts.established => Opened::Unanswered,
            OpenedBy::Handshake => Opened::Handshake,
        };
        let (reason, reset_by) = match closed.reason {
            CloseReason::Finished => (Reason::Fin, None),
            CloseReason::Reset(side) => (Reason::Reset, Some(side)),
            CloseReason::Refused => (Reason::Reset, Some(Side::B)),
            CloseReason::Idle => (Reason::Idle, None),
            CloseReason::Evicted => (Reason::Evicted, None),
            CloseReason::Replaced => (Reason::Replaced, None),
            CloseReason::CaptureEnd => (Reason::CaptureEnd, None),
        };
        let role = |side| client.map(|client| if client == side { Role::Client } else { Role::Server });
        let identity = ConnectionIdentity::new(self.agent, connection.a, connection.b, connection.start_ns);
        let event = ConnectionEvent {
            kind: event::Kind::Connection,
            id: Cow::Borrowed(identity.event_id()),
            time: Timestamp(connection.start_ns),
            duration: facts.last_ns - connection.start_ns,
            opened,
            connect_time: facts.syn_to_syn_ack_ns,
            handshake_time: facts.syn_ack_to_ack_ns,
            closed: event::End { reason, by: reset_by.and_then(role) },
            protocol: protocol.as_deref().map(Cow::Borrowed),
            exchanges: *exchanges,
            client: client_end,
            server: server_end,
            endpoints,
            connection: event::Name { id: Cow::Borrowed(&identity.id) },
            resource: Cow::Borrowed(self.resource),
        };
        self.failed = self.outputs.publish(Event::Connection(&event)).err();
    }
}

/// On whose side a host with these addresses is; of a connection within it, on the server's.
fn vantage(local: &[IpAddr], client: IpAddr, server: IpAddr) -> Option<Vantage> {
    if local.is_empty() {
        return None;
    }
    Some(match (local.contains(&server), local.contains(&client)) {
        (true, _) => Vantage::Server,
        (false, true) => Vantage::Client,
        (false, false) => Vantage::Between,
    })
}
