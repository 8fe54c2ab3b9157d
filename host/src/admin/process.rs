//! What the kernel says of this process (proc(5)).

use std::time::Duration;

/// None: not known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    /// User and system, of all threads.
    pub(super) cpu: Option<Duration>,
    /// In RAM.
    pub(super) resident_bytes: Option<u64>,
}

impl Process {
    pub(super) fn now() -> Process {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let seconds = u64::try_from(time.tv_sec).ok();
        let cpu = seconds.map(|seconds| Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0)));
        Process { cpu, resident_bytes: resident_bytes() }
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_has_used_time() {
        let process = Process::now();
        assert!(process.cpu.is_some_and(|cpu| cpu > Duration::ZERO));
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}
