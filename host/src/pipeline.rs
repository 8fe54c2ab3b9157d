//! From capture files and interfaces to published events: the only place that knows every stage.

mod decoders;
mod live;
mod publisher;
mod report;
mod telling;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use podtap_stream::{Engine, LinkType, Packet};

use crate::admin::Board;
use crate::capture::{CaptureError, CaptureFile, Drops, Filter, FilterError, Record};
use crate::config::Config;
use crate::decoder::{self, DispatchLimits, Dispatcher, Watch};
use crate::publish::{Outputs, PublishError};
use crate::stop::Stop;

pub use decoders::{Decoders, runtime};
use decoders::{start_plugins, status_attributes};
pub use live::run;
use publisher::Publisher;
pub(crate) use report::WAITING;
pub use report::{Report, Sum};
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
        let stream_limits = config.stream.limits_of_each(seat.of);
        // Less than its own bound where memory is short.
        let waiting_bytes = usize::try_from(stream_limits.total_buffer_bytes / 2).unwrap_or(usize::MAX);
        let dispatch_limits = DispatchLimits {
            batch_entries: config.decoder.batch_entries as usize,
            batch_bytes: config.decoder.batch_bytes.0 as usize,
            head_bytes: config.detection.head_bytes.0 as usize,
            waiting_bytes: waiting_bytes.min(decoder::fixed::MAX_WAITING_BYTES / seat.of as usize),
            connections_per_instance: config.decoder.connections_per_instance,
            instances: (decoder::MAX_INSTANCES / seat.of) as usize,
            exchanges_per_call: config.decoder.exchanges_per_call as usize,
            failures_allowed: config.decoder.failures_allowed,
        };
        let mut worker = Worker {
            engine: Engine::new(stream_limits),
            dispatcher: Dispatcher::new(runtime, plugins, ports, dispatch_limits, config.events.connections),
            publisher: Publisher::new(config, outputs),
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
}
