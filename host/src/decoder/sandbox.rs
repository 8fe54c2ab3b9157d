//! Plugins in wasmtime: compiled once, instantiated as often as it takes, each call within a deadline and a memory cap.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, ProfilingStrategy, Store, StoreLimitsBuilder,
    Trap, UpdateDeadline,
};

use super::batch::Batch;
use super::bindings::podtap::decoder::host::{Host, Level};
use super::bindings::podtap::decoder::types::{self, Output, Verdict};
use super::bindings::{Plugin as Guest, PluginPre};
use super::cache::Cache;
use super::contract::{self, CONTRACT_VERSIONS};
use super::descriptor::Descriptor;
use super::dispatch::MAX_VERSIONS;
use super::log_gate::{LogGate, LogGates, Verdict as LogVerdict};
use super::memory::Memory;
use super::packed::{ComponentFile, FileError};
use crate::config::{Digest, Plugins};

/// Deadlines are counted in ticks of this length. When a container's CPU quota halts the whole process, the ticks halt
/// with it, so that a plugin is not blamed for the pause; nor is it when other threads had the CPU (see [`overdue`]).
const TICK: Duration = Duration::from_millis(5);

/// Bytes that lists in one returned value may take in the host, all text included, however a plugin overlaps them in its
/// memory.
pub(crate) const MAX_RETURNED_BYTES: usize = 32 << 20;

/// Instances that connections are spread over.
pub const MAX_INSTANCES: u32 = 256;

/// Core instances, tables and linear memories of one instance, of which the pool holds as many for each. What the Rust
/// toolchain and wit-component make has three, two and one; languages with a runtime of their own bring it as modules
/// beside, JavaScript's QuickJS 13 instances and three memories.
pub(crate) const MAX_CORE_INSTANCES: u32 = 16;
pub(crate) const MAX_TABLES: u32 = 8;
pub(crate) const MAX_MEMORIES: u32 = 3;

/// Elements of one table: functions that may be called through a pointer, of which a decoder has some hundred.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 10_000;

/// Bytes of one log line.
pub(crate) const MAX_LOG_BYTES: usize = 512;

/// What an instance may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Linear memory, bytes.
    pub memory_bytes: usize,
    /// Threads that have instances, each of its own.
    pub workers: u32,
    /// Time of one call; longer where others have the CPU meanwhile.
    pub call_timeout: Duration,
}

/// Why a file is not a usable plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read or unpacked.
    #[error(transparent)]
    File(#[from] FileError),
    /// The configuration has another digest for a file of this name.
    #[error(
        "is not the component that was pinned: plugins.pins.{pin} is {pinned}, but its SHA-256 is {found}; put the right \
         one there, or change the pin if you trust this one"
    )]
    PinnedToAnother {
        /// Name of the pin.
        pin: String,
        /// Its digest.
        pinned: Digest,
        /// The file's.
        found: Digest,
    },
    /// The configuration takes pinned components only.
    #[error("is not pinned, and plugins.require_pins is set: if you trust it, add to plugins.pins `{name}: {found}`")]
    Unpinned {
        /// Name of the file, without its packing.
        name: String,
        /// Its digest.
        found: Digest,
    },
    /// It is a core module.
    #[error(
        "is a core WebAssembly module, not a component: build it with `podtap plugin build`, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// It is something else.
    #[error("is not a WebAssembly component: {0}")]
    NotAComponent(String),
    /// It wants more than the world gives.
    #[error(
        "asks for imports that podtap does not give ({0}): a decoder has only podtap:decoder/host; build it without WASI"
    )]
    Imports(String),
    /// It is made for a version of the contract that this podtap does not speak.
    #[error(
        "is made for podtap:decoder@{wanted}, and this podtap speaks {spoken}: build it anew with podtap-sdk {sdk}, or \
         run it with a podtap that speaks {wanted}",
        spoken = CONTRACT_VERSIONS.join(", "),
        sdk = env!("CARGO_PKG_VERSION") // the SDK has podtap's own
    )]
    ContractVersion {
        /// The version.
        wanted: String,
    },
    /// It does not export the decoder interface.
    #[error(
        "is not a decoder for this podtap: it does not export podtap:decoder/decoder@{newest}",
        newest = CONTRACT_VERSIONS[CONTRACT_VERSIONS.len() - 1]
    )]
    NoDecoder,
    /// Its types or functions are not those of the contract's text.
    #[error("is not a decoder for this podtap: it does not keep to the contract it names: {0}")]
    Contract(String),
    /// It failed while it was described or configured.
    #[error("failed in `{call}`: {failure}")]
    Failed {
        /// The call.
        call: &'static str,
        /// How.
        failure: Failure,
    },
    /// Its descriptor breaks a rule.
    #[error("describes itself wrongly: {0}")]
    Descriptor(String),
    /// It refused its configuration.
    #[error("refuses its configuration (plugins.config.{name}): {message}")]
    Configuration {
        /// Name of the decoder.
        name: String,
        /// Its own words.
        message: String,
    },
}

/// Why a call failed. The instance cannot be used any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A trap: a panic, an access out of bounds, exhausted stack.
    #[error("trap: {0}")]
    Trap(String),
    /// The deadline passed.
    #[error("ran past its deadline")]
    Deadline,
    /// It wanted more memory, or larger tables, than the cap.
    #[error("wanted more memory than it may have")]
    Memory,
    /// It returned more than podtap takes.
    #[error("returned too much: {0}")]
    TooMuch(&'static str),
    /// What it returned does not add up.
    #[error("returned what the contract does not allow: {0}")]
    Output(&'static str),
}

/// Kinds of [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// See [`Failure::Trap`].
    Trap,
    /// See [`Failure::Deadline`].
    Deadline,
    /// See [`Failure::Memory`].
    Memory,
    /// See [`Failure::TooMuch`].
    TooMuch,
    /// See [`Failure::Output`].
    Output,
}

impl FailureKind {
    /// Each with its count's name in a report, in order.
    pub const ALL: [(FailureKind, &'static str); 5] = [
        (FailureKind::Trap, "decoder_traps"),
        (FailureKind::Deadline, "decoder_deadlines"),
        (FailureKind::Memory, "decoder_memory_breaches"),
        (FailureKind::TooMuch, "decoder_oversized_outputs"),
        (FailureKind::Output, "decoder_invalid_outputs"),
    ];
}

impl Failure {
    /// What kind it is of.
    pub fn kind(&self) -> FailureKind {
        match self {
            Failure::Trap(_) => FailureKind::Trap,
            Failure::Deadline => FailureKind::Deadline,
            Failure::Memory => FailureKind::Memory,
            Failure::TooMuch(_) => FailureKind::TooMuch,
            Failure::Output(_) => FailureKind::Output,
        }
    }
}

/// What all plugins share: the engine and its ticking deadline.
pub struct Runtime {
    engine: Engine,
    linker: Linker<State>,
    limits: Limits,
    cache: Cache,
    logs: LogGates,
    stop: Arc<AtomicBool>,
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Runtime {
    /// Starts the ticks. Instances come of a pool, whose address space is set aside now: terabytes, of which only what is
    /// used takes memory.
    ///
    /// # Errors
    /// wasmtime's, where the platform cannot run it.
    pub fn new(limits: Limits, cache: Cache) -> Result<Runtime, wasmtime::Error> {
        // Beyond those that connections are spread over, one for each version of a plugin in each worker, so that a new one
        // always starts, and one for who loads them.
        let places = MAX_INSTANCES + limits.workers * MAX_VERSIONS as u32 + 1;
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(places)
            .total_core_instances(places * MAX_CORE_INSTANCES)
            .max_core_instances_per_component(MAX_CORE_INSTANCES)
            .total_memories(places * MAX_MEMORIES)
            .total_tables(places * MAX_TABLES)
            .max_tables_per_component(MAX_TABLES)
            .table_elements(MAX_TABLE_ELEMENTS)
            .max_memory_size(limits.memory_bytes)
            .max_memories_per_component(MAX_MEMORIES)
            .max_unused_warm_slots(4);
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        Runtime::with(config, limits, cache)
    }

    /// As [`Runtime::new`], but the address space of an instance is set aside when it is made, which takes longer: for
    /// programs that have little of it, such as those that Valgrind runs. `named`: the names of compiled functions are
    /// written to /tmp/perf-PID.map, as perf(1) reads them.
    ///
    /// # Errors
    /// As [`Runtime::new`].
    pub fn without_pool(limits: Limits, cache: Cache, named: bool) -> Result<Runtime, wasmtime::Error> {
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        if named {
            config.profiler(ProfilingStrategy::PerfMap);
        }
        Runtime::with(config, limits, cache)
    }

    fn with(mut config: Config, limits: Limits, cache: Cache) -> Result<Runtime, wasmtime::Error> {
        config.wasm_component_model(true).concurrency_support(false).epoch_interruption(true);
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        Guest::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (weak, stopped) = (engine.weak(), Arc::clone(&stop));
        std::thread::Builder::new().name("podtap-ticks".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                let Some(engine) = weak.upgrade() else { return };
                engine.increment_epoch();
            }
        })?;
        Ok(Runtime { engine, linker, limits, cache, logs: LogGates::default(), stop })
    }

    /// Compiles the component of a file, checks it and asks it what it is.
    ///
    /// # Errors
    /// Why it is not a usable plugin.
    pub fn load(&self, file: &ComponentFile) -> Result<Plugin, LoadError> {
        let ComponentFile { path, component: wasm, digest, .. } = file;
        if wasm_layer(wasm) == Some(0) {
            return Err(LoadError::CoreModule);
        }
        let start = Instant::now();
        let component = self
            .cache
            .component(&self.engine, wasm, digest)
            .map_err(|error| LoadError::NotAComponent(one_line(&error)))?;
        let compile_time = start.elapsed();
        let component_type = component.component_type();
        let imports: Vec<_> = component_type.imports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        let exports: Vec<_> = component_type.exports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        let contract_version = contract::version(&imports, &exports)?;
        let breach = |error: wasmtime::Error| LoadError::Contract(one_line(&error));
        let guest = PluginPre::new(self.linker.instantiate_pre(&component).map_err(breach)?).map_err(breach)?;
        let start = |failure| LoadError::Failed { call: "start", failure };
        let file = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let mut instance = Instance::bare(self, &guest, &file).map_err(start)?;
        let descriptor = instance.descriptor()?;
        let (path, digest, config) = (path.clone(), *digest, "{}".to_owned());
        let memory_bytes = instance.memory_bytes();
        Ok(Plugin { path, digest, descriptor, contract_version, imports, compile_time, memory_bytes, guest, config })
    }

    /// Lines of plugins that were kept out of the log, since the start.
    pub fn log_lines_dropped(&self) -> u64 {
        self.logs.dropped()
    }

    /// A fresh, configured instance of a plugin.
    ///
    /// # Errors
    /// When it fails to start, or refuses its configuration.
    pub fn instance(&self, plugin: &Plugin) -> Result<Instance, LoadError> {
        let start = |failure| LoadError::Failed { call: "start", failure };
        let mut instance = Instance::bare(self, &plugin.guest, &plugin.descriptor.name).map_err(start)?;
        let refused =
            instance.configure(&plugin.config).map_err(|failure| LoadError::Failed { call: "configure", failure })?;
        match refused {
            None => Ok(instance),
            Some(words) => {
                let (name, message) = (plugin.descriptor.name.clone(), words_of(&words));
                Err(LoadError::Configuration { name, message })
            }
        }
    }
}

impl Runtime {
    /// A fresh instance that was told nothing yet, to try the contract call by call.
    ///
    /// # Errors
    /// When it fails to start.
    pub(crate) fn bare_instance(&self, plugin: &Plugin) -> Result<Instance, Failure> {
        Instance::bare(self, &plugin.guest, &plugin.descriptor.name)
    }
}

/// A compiled plugin.
#[derive(Clone)]
pub struct Plugin {
    /// Its file.
    pub path: PathBuf,
    /// Digest of its component.
    pub digest: Digest,
    /// What it is.
    pub descriptor: Descriptor,
    /// The version of `podtap:decoder` that it is made for.
    pub contract_version: &'static str,
    /// Names of the interfaces that it imports.
    pub imports: Vec<String>,
    /// How long it took to compile it, or to read it from the cache.
    pub compile_time: Duration,
    /// Linear memory of an instance that has just described itself.
    pub memory_bytes: usize,
    guest: PluginPre<State>,
    config: String,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Plugin")
            .field("path", &self.path)
            .field("descriptor", &self.descriptor)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    /// Is it the same decoder, wherever its file is? Their configuration is the same while podtap runs.
    pub fn is(&self, other: &Plugin) -> bool {
        self.digest == other.digest
    }

    /// Sets what `configure` is given to the plugin's section of the configuration.
    pub fn set_config_of(&mut self, config: &Plugins) {
        if let Some(section) = config.config.get(&self.descriptor.name) {
            self.config = serde_json::Value::Object(section.clone()).to_string();
        }
    }
}

/// A plugin's instance: its memory, its connections.
pub struct Instance {
    store: Store<State>,
    guest: Guest,
    ticks: u64,
}

impl Instance {
    fn bare(runtime: &Runtime, guest: &PluginPre<State>, name: &str) -> Result<Instance, Failure> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(runtime.limits.memory_bytes)
            .memories(MAX_MEMORIES as usize)
            .table_elements(MAX_TABLE_ELEMENTS)
            .tables(MAX_TABLES as usize)
            .instances(MAX_CORE_INSTANCES as usize)
            .trap_on_grow_failure(true)
            .build();
        let memory = Memory::new(limits);
        let state = State { memory, log: runtime.logs.of(name), name: name.to_owned(), cpu_at_half_time: None };
        let mut store = Store::new(&runtime.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(MAX_RETURNED_BYTES);
        // Half the time, twice: see `overdue`. A deadline of n ticks may end after n - 1.
        let half = runtime.limits.call_timeout / 2;
        let ticks = u64::try_from(half.as_nanos().div_ceil(TICK.as_nanos()) + 1).unwrap_or(u64::MAX / 2);
        store.set_epoch_deadline(ticks);
        store.epoch_deadline_callback(move |mut context| {
            let interrupt = overdue(&mut context.data_mut().cpu_at_half_time, thread_cpu_time(), half);
            Ok(if interrupt { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(ticks) })
        });
        let guest = guest.instantiate(&mut store).map_err(failure)?;
        Ok(Instance { store, guest, ticks })
    }

    /// What the plugin says of itself, checked.
    ///
    /// # Errors
    /// When it cannot say it, or breaks a rule.
    pub fn descriptor(&mut self) -> Result<Descriptor, LoadError> {
        let said = self.describe().map_err(|failure| LoadError::Failed { call: "describe", failure })?;
        Descriptor::check(said).map_err(LoadError::Descriptor)
    }

    pub(crate) fn describe(&mut self) -> Result<types::Descriptor, Failure> {
        self.prepare();
        self.guest.podtap_decoder_decoder().call_describe(&mut self.store).map_err(failure)
    }

    /// Gives its own words where it refuses the configuration.
    ///
    /// # Errors
    /// The instance is lost.
    pub fn configure(&mut self, config: &str) -> Result<Option<String>, Failure> {
        self.prepare();
        let answer = self.guest.podtap_decoder_decoder().call_configure(&mut self.store, config).map_err(failure)?;
        Ok(answer.err())
    }

    /// Its linear memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.store.data().memory.bytes()
    }

    /// Does a connection whose side begins with `head` belong to the plugin?
    ///
    /// # Errors
    /// The instance is lost.
    pub fn probe(&mut self, from_server: bool, head: &[u8]) -> Result<Verdict, Failure> {
        self.prepare();
        self.guest.podtap_decoder_decoder().call_probe(&mut self.store, from_server, head).map_err(failure)
    }

    /// Hands over a batch and takes what it meant, unchecked.
    ///
    /// # Errors
    /// The instance is lost.
    pub(super) fn feed_unchecked(&mut self, batch: &Batch) -> Result<Output, Failure> {
        self.prepare();
        let decoder = self.guest.podtap_decoder_decoder();
        batch.with_contract(|batch| decoder.call_feed(&mut self.store, batch)).map_err(failure)
    }

    /// Hands over a batch and gives its checked output to `take`.
    ///
    /// # Errors
    /// The instance is lost, and of the batch nothing was taken.
    pub fn feed<R>(
        &mut self,
        batch: &Batch,
        descriptor: &Descriptor,
        take: impl FnOnce(super::Rows<'_>) -> R,
    ) -> Result<R, Failure> {
        let output = self.feed_unchecked(batch)?;
        let rows = super::Rows::check(&output, descriptor)?;
        Ok(take(rows))
    }

    fn prepare(&mut self) {
        self.store.set_epoch_deadline(self.ticks);
        self.store.data_mut().cpu_at_half_time = None;
    }
}

/// What the host keeps for an instance.
struct State {
    memory: Memory,
    log: Arc<LogGate>,
    /// Who writes log lines.
    name: String,
    /// CPU time of this thread when half of the running call's time was over.
    cpu_at_half_time: Option<Duration>,
}

/// Called when half of a call's wall time is over, and again after each further half: is the call to be ended? Wall time
/// also passes while other threads have the CPU, which is no fault of the plugin's. So it ends only when it has also used
/// half as much CPU since it was first asked; where it has the CPU to itself, that is when its time is over.
fn overdue(cpu_at_half_time: &mut Option<Duration>, cpu: Duration, half: Duration) -> bool {
    match cpu_at_half_time {
        Some(since) => cpu.saturating_sub(*since) >= half / 2,
        None => {
            *cpu_at_half_time = Some(cpu);
            false
        }
    }
}

/// CPU time that this thread has used. Asked only in calls that take long.
fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Host for State {
    fn log(&mut self, level: Level, message: wasmtime::component::__internal::String) {
        let is_wanted = match level {
            Level::Error => tracing::enabled!(tracing::Level::ERROR),
            Level::Warn => tracing::enabled!(tracing::Level::WARN),
            Level::Info => tracing::enabled!(tracing::Level::INFO),
            Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
        };
        // What nobody would see keeps no other line out.
        if !is_wanted {
            return;
        }
        match self.log.line(Instant::now()) {
            LogVerdict::Write => {}
            LogVerdict::DropFirst => {
                tracing::warn!(plugin = self.name, "writes so many log lines that some are dropped, and counted");
                return;
            }
            LogVerdict::Drop => return,
        }
        let (plugin, message) = (&self.name, words_of(&message));
        match level {
            Level::Error => tracing::error!(plugin, "{message}"),
            Level::Warn => tracing::warn!(plugin, "{message}"),
            Level::Info => tracing::info!(plugin, "{message}"),
            Level::Debug => tracing::debug!(plugin, "{message}"),
        }
    }
}

impl types::Host for State {}

/// What a plugin says in its own words: cut, on one line, and harmless to a terminal.
fn words_of(text: &str) -> String {
    let mut words = String::new();
    for letter in text[..text.floor_char_boundary(MAX_LOG_BYTES)].chars() {
        match letter {
            '"' | '\'' | '\\' => words.push(letter),
            letter => words.extend(letter.escape_debug()),
        }
    }
    words
}

fn failure(error: wasmtime::Error) -> Failure {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Failure::Deadline,
        Some(trap) => Failure::Trap(trap.to_string()),
        // These have no type of their own.
        None => match format!("{error:?}") {
            // StoreLimits, where memory or a table may not grow, and where it cannot.
            text if text.contains("forcing trap when growing") => Failure::Memory,
            text if text.contains("growth failure to be a trap") => Failure::Memory,
            text if text.contains("fuel allocated for hostcalls has been exhausted") => {
                Failure::TooMuch("lists of more than 32 MiB")
            }
            _ => Failure::Trap(one_line(&error)),
        },
    }
}

/// The layer of a WebAssembly binary: 0 for a core module, 1 for a component.
fn wasm_layer(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [0, b'a', b's', b'm', _, _, low, high, ..] => Some(u16::from_le_bytes([*low, *high])),
        _ => None,
    }
}

/// An error and its causes on one line of bounded length.
fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_when_it_had_the_cpu_and_not_while_it_waits_for_it() {
        let (mut state, half, ms) = (None, Duration::from_millis(50), Duration::from_millis);
        assert!(!overdue(&mut state, ms(1000), half));
        assert!(!overdue(&mut state, ms(1003), half));
        assert!(!overdue(&mut state, ms(1024), half));
        assert!(overdue(&mut state, ms(1050), half));
    }

    #[test]
    fn words_of_a_plugin_are_cut_and_on_one_line() {
        assert_eq!(words_of("a \"b\"\r\nc\u{1b}[2J\u{202e}"), "a \"b\"\\r\\nc\\u{1b}[2J\\u{202e}");
        assert_eq!(words_of(&"ä".repeat(16 << 20)), "ä".repeat(MAX_LOG_BYTES / 2));
    }

    #[test]
    fn log_lines_that_nobody_sees_keep_no_other_out() {
        let memory = Memory::new(StoreLimitsBuilder::new().build());
        let mut state = State { memory, log: Arc::default(), name: "a".to_owned(), cpu_at_half_time: None };
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(std::io::sink);
        tracing::subscriber::with_default(subscriber.finish(), || {
            (0..100).for_each(|_| state.log(Level::Debug, "not seen".to_owned()));
            assert_eq!(state.log.line(Instant::now()), LogVerdict::Write);
            (0..100).for_each(|_| state.log(Level::Info, "seen".to_owned()));
            assert_eq!(state.log.line(Instant::now()), LogVerdict::Drop);
        });
    }

    #[test]
    fn the_cpu_time_of_a_thread_goes_on_when_it_works() {
        let start = thread_cpu_time();
        while thread_cpu_time() == start {
            std::hint::spin_loop();
        }
    }
}
