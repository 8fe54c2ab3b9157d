//! A whole capture file.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use podtap::config::{Config, OutputFormat};
use podtap::pipeline::{Decoders, Replay, Report, replay_with};
use podtap::publish::{Colour, Outputs};

/// What a report may say of a file.
const PROBLEMS: [&str; 6] = [
    "is empty",
    "is not a capture file",
    "is a pcap file of version",
    "is cut off at byte",
    "is damaged at byte",
    "of link type",
];

/// What may not happen in the decoders that podtap ships, whatever a peer sends.
const FAILURES: [&str; 10] = [
    "connections_blamed",
    "decoder_traps",
    "decoder_deadlines",
    "decoder_memory_breaches",
    "decoder_invalid_outputs",
    "decoder_oversized_outputs",
    "decoder_demands_ignored",
    "decoder_log_lines_dropped",
    "decoders_quarantined",
    "payload_bytes_of_unknown_connections",
];

thread_local! {
    static BENCH: Bench = Bench::stock();
}

/// Replays a capture file. Its report adds up and names at most one problem, of a known kind, and no decoder fails.
pub fn capture(input: &[u8]) {
    let report = BENCH.with(|bench| bench.replay(input));
    assert!(report.adds_up(), "{report:#?}");
    assert!(report.problems.len() <= 1, "{report:#?}");
    for problem in &report.problems {
        assert!(PROBLEMS.iter().any(|kind| problem.contains(kind)), "{problem}");
    }
    for failure in FAILURES {
        assert_eq!(report.count(failure), 0, "{failure}: {report:#?}");
    }
}

/// What all replays share: compiling the decoders takes longer than thousands of replays.
pub(crate) struct Bench {
    decoders: Decoders,
    /// They take turns, by the length of the input.
    configs: Vec<Config>,
    memory: Memory,
}

impl Bench {
    /// The stock decoders, and each way of writing events.
    fn stock() -> Bench {
        let configs = [OutputFormat::Text, OutputFormat::Json, OutputFormat::Msgpack].map(|format| {
            let mut config = Config::default();
            config.plugins.directories = vec![plugins()];
            config.output.format = Some(format);
            config.output.file = Some("/dev/null".into());
            config
        });
        let decoders = Decoders::load(&configs[0]).expect("decoders are built: `cargo xtask plugins`");
        Bench::new(decoders, configs.into())
    }

    pub(crate) fn new(decoders: Decoders, configs: Vec<Config>) -> Bench {
        let memory = Memory::new("capture");
        Bench { decoders, configs, memory }
    }

    pub(crate) fn replay(&self, input: &[u8]) -> Report {
        self.memory.hold(input);
        let config = &self.configs[input.len() % self.configs.len()];
        let files = std::slice::from_ref(&self.memory.name);
        let mut outputs = Outputs::open(config, Colour::Never).expect("/dev/null opens");
        let request = Replay { files, filter: None, config, progress: &mut |_| () };
        replay_with(&self.decoders, request, &mut outputs).expect("/dev/null takes everything")
    }
}

/// A file in memory, read by its name as any other.
pub(crate) struct Memory {
    file: File,
    pub(crate) name: PathBuf,
}

impl Memory {
    pub(crate) fn new(title: &str) -> Memory {
        let memory = rustix::fs::memfd_create(title, rustix::fs::MemfdFlags::CLOEXEC);
        let file = File::from(memory.expect("Linux has files in memory"));
        let name = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Memory { file, name }
    }

    /// Holds this, and nothing else.
    pub(crate) fn hold(&self, content: &[u8]) {
        self.file.set_len(0).expect("a file in memory can be emptied");
        self.file.write_all_at(content, 0).expect("a file in memory can be written");
    }
}

/// The folder of the decoders that were built for this target folder: executables lie at various depths in it.
pub(crate) fn plugins() -> PathBuf {
    let executable = std::env::current_exe().expect("Linux knows it");
    let candidates = |folder: &Path| ["plugins", "debug/plugins", "release/plugins"].map(|name| folder.join(name));
    let found = executable.ancestors().flat_map(candidates).find(|folder| folder.join("http.wasm").is_file());
    found.expect("decoders are built: `cargo xtask plugins`")
}
