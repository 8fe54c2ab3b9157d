//! Bounds that fit into little memory.
//!
//! A container has a memory limit; who passes it is killed. The defaults are for [`ROOMY`] and more. With less, the bounds
//! that cost most are lowered, unless the configuration sets them. `cargo xtask e2e memory` holds each step to its limit.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::{ByteSize, Config};

const MIB: u64 = 1 << 20;

/// From here on nothing is lowered.
const ROOMY: u64 = 256 * MIB;

/// Bounds for less memory.
pub(crate) struct Step {
    /// For limits from this one on, in bytes; the last is for all below as well.
    pub(crate) from: u64,
    decoder_memory: u64,
    connections: u32,
    buffers: u64,
    queue: u64,
}

/// From the roomiest to the least.
pub(crate) const STEPS: [Step; 2] = [
    Step { from: 128 * MIB, decoder_memory: 16 * MIB, connections: 16_384, buffers: 8 * MIB, queue: 4 * MIB },
    Step { from: 64 * MIB, decoder_memory: 8 * MIB, connections: 8192, buffers: 4 * MIB, queue: 2 * MIB },
];

impl Step {
    fn of(limit: u64) -> Option<&'static Step> {
        if limit >= ROOMY {
            return None;
        }
        STEPS.iter().find(|step| limit >= step.from).or(STEPS.last())
    }

    /// What is lowered, and to what, as a configuration writes it.
    pub(crate) fn bounds(&self) -> [(&'static str, String); 4] {
        let bytes = |bytes| ByteSize(bytes).to_string();
        [
            (DECODER_MEMORY, bytes(self.decoder_memory)),
            (CONNECTIONS, self.connections.to_string()),
            (BUFFERS, bytes(self.buffers)),
            (QUEUE, bytes(self.queue)),
        ]
    }
}

const DECODER_MEMORY: &str = "decoder.memory_bytes";
const CONNECTIONS: &str = "stream.max_connections";
const BUFFERS: &str = "stream.total_buffer_bytes";
const QUEUE: &str = "delivery.queue_bytes";

/// Lowers what is not in `set`, the paths of the keys that the configuration sets, to what fits into `limit` bytes. Returns
/// a line for the log, where anything was lowered.
pub(super) fn fit(config: &mut Config, set: &HashSet<String>, limit: u64) -> Option<String> {
    let step = Step::of(limit)?;
    let side_buffer = config.stream.side_buffer_bytes.0;
    let mut lowered = Vec::new();
    // Not below what the configuration asks for one side.
    let step = Step { buffers: step.buffers.max(side_buffer), ..*step };
    for (key, bound) in step.bounds().into_iter().filter(|(key, _)| !set.contains(*key)) {
        match key {
            DECODER_MEMORY => config.decoder.memory_bytes = ByteSize(step.decoder_memory),
            CONNECTIONS => config.stream.max_connections = step.connections,
            BUFFERS => config.stream.total_buffer_bytes = ByteSize(step.buffers),
            _ => config.delivery.queue_bytes = ByteSize(step.queue),
        }
        lowered.push(format!("{key} {bound}"));
    }
    let memory = ByteSize(limit);
    (!lowered.is_empty()).then(|| format!("bounds for the {memory} of memory that there are: {}", lowered.join(", ")))
}

/// The least memory limit of the control groups that this process is in, in bytes; none where there is no limit.
///
/// Linux, "Control Group v2" (memory.max) and "Memory Resource Controller" (memory.limit_in_bytes); cgroups(7).
pub fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_of(&groups, Path::new("/sys/fs/cgroup"))
}

fn limit_of(groups: &str, mounted: &Path) -> Option<u64> {
    /// Version 1 writes "no limit" as the largest number of whole pages.
    const NONE: u64 = 1 << 62;
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (root, file) = match controllers {
            "" => (mounted.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (mounted.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        // In a container the path may be that of the host, of which only the end is mounted: at the root.
        let inner = Path::new(path.trim_start_matches('/'));
        inner
            .ancestors()
            .filter_map(|group| fs::read_to_string(root.join(group).join(file)).ok()?.trim().parse::<u64>().ok())
            .collect()
    });
    limits.min().filter(|&limit| limit < NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_are_not_set_are_lowered_to_the_memory_there_is() {
        let set = HashSet::from([CONNECTIONS.to_owned()]);
        let mut config = Config::default();
        assert_eq!(fit(&mut config, &set, ROOMY), None);
        assert_eq!(config, Config::default());

        let said = fit(&mut config, &set, 100 * MIB).unwrap();
        assert_eq!(
            said,
            "bounds for the 100MiB of memory that there are: decoder.memory_bytes 8MiB, stream.total_buffer_bytes 4MiB, \
             delivery.queue_bytes 2MiB"
        );
        assert_eq!(config.stream.max_connections, Config::default().stream.max_connections);
        assert_eq!(config.decoder.memory_bytes, ByteSize(8 * MIB));
        assert_eq!(config.validate(), []);

        let (mut least, mut half) = (Config::default(), Config::default());
        fit(&mut least, &HashSet::new(), MIB).unwrap();
        fit(&mut half, &HashSet::new(), 128 * MIB).unwrap();
        assert_eq!((least.stream.max_connections, half.stream.max_connections), (8192, 16_384));

        let mut large = Config::default();
        large.stream.side_buffer_bytes = ByteSize(10 * MIB);
        fit(&mut large, &HashSet::new(), MIB).unwrap();
        assert_eq!(large.validate(), []);
    }

    #[test]
    fn the_least_limit_on_the_way_to_the_root_counts() {
        let mounted = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = mounted.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("pods/one/memory.max", "max\n");
        write("pods/memory.max", "1000\n");
        write("memory/pods/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/memory.limit_in_bytes", "2000\n");
        let limit = |groups| limit_of(groups, mounted.path());
        assert_eq!(limit("0::/pods/one\n"), Some(1000));
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit("4:cpu,cpuacct:/pods\n3:memory:/pods\n"), Some(2000));
        assert_eq!(limit("3:memory:/../elsewhere\n"), Some(2000));
        assert_eq!(limit("nonsense\n:\n"), None);
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit("3:memory:/pods\n"), None);
    }
}
