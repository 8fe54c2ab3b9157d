//! A control group with bounds of memory and CPU time, as a pod has them. Version 2 where it is the system's, else version 1
//! (cgroups(7); Linux, "Control Group v2" and "Memory Resource Controller").

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process;

const ROOT: &str = "/sys/fs/cgroup";

/// CPU time is given out anew after so long.
const PERIOD_US: u64 = 100_000;

/// Moves itself into the groups before `--`, and becomes what is behind it.
const ENTER: &str =
    r#"while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@""#;

/// See the module. Removed when dropped, once nothing is in it.
pub(crate) struct Cgroup {
    /// One, or of version 1 one for each bound.
    folders: Vec<PathBuf>,
    version: u8,
}

/// Why none can be made here.
pub(crate) fn unavailable() -> Option<&'static str> {
    if !process::is_root() {
        return Some("control groups need root");
    }
    match Cgroup::make("try", Some(64 << 20), Some(50)) {
        Ok(_) => None,
        Err(_) => Some("control groups with bounds cannot be made here"),
    }
}

impl Cgroup {
    /// A group with so much memory, without swap, and so much of one core; as root.
    pub(crate) fn make(name: &str, memory_bytes: Option<u64>, cpu_percent: Option<u64>) -> Result<Cgroup> {
        let name = format!("podtap-{}-{name}", std::process::id());
        let root = Path::new(ROOT);
        let quota_us = cpu_percent.map(|percent| PERIOD_US * percent / 100);
        if root.join("cgroup.controllers").is_file() {
            let controllers = [memory_bytes.map(|_| "+memory"), quota_us.map(|_| "+cpu")];
            let wanted: Vec<_> = controllers.into_iter().flatten().collect();
            write(root, "cgroup.subtree_control", &wanted.join(" "))?;
            let group = Cgroup { folders: vec![root.join(name)], version: 2 };
            fs::create_dir(&group.folders[0])?;
            if let Some(bytes) = memory_bytes {
                write(&group.folders[0], "memory.max", &bytes.to_string())?;
                // Not there where the system has no swap.
                let _ = write(&group.folders[0], "memory.swap.max", "0");
            }
            if let Some(quota) = quota_us {
                write(&group.folders[0], "cpu.max", &format!("{quota} {PERIOD_US}"))?;
            }
            return Ok(group);
        }
        let mut group = Cgroup { folders: Vec::new(), version: 1 };
        if let Some(bytes) = memory_bytes {
            let folder = group.make_folder(root.join("memory").join(&name))?;
            write(&folder, "memory.limit_in_bytes", &bytes.to_string())?;
            // As above.
            let _ = write(&folder, "memory.memsw.limit_in_bytes", &bytes.to_string());
        }
        if let Some(quota) = quota_us {
            let folder = group.make_folder(root.join("cpu").join(&name))?;
            write(&folder, "cpu.cfs_period_us", &PERIOD_US.to_string())?;
            write(&folder, "cpu.cfs_quota_us", &quota.to_string())?;
        }
        Ok(group)
    }

    fn make_folder(&mut self, folder: PathBuf) -> Result<PathBuf> {
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        self.folders.push(folder.clone());
        Ok(folder)
    }

    /// A command that runs a program in it.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", ENTER, "sh"]).args(&self.folders).arg("--").arg(program);
        command
    }

    /// The most memory that it had at once: of programs, of what the kernel has for them, and of files that they read first.
    pub(crate) fn peak_bytes(&self) -> Result<u64> {
        let file = if self.version == 2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        Ok(fs::read_to_string(self.folders[0].join(file))?.trim().parse()?)
    }

    /// How often the kernel has killed for memory.
    pub(crate) fn kills(&self) -> Result<u64> {
        let file = if self.version == 2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.folders[0].join(file))?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(line.with_context(|| format!("{file} has no oom_kill"))?.trim().parse()?)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            // It is busy until the last process is wholly gone.
            for _ in 0..20 {
                if fs::remove_dir(folder).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn write(folder: &Path, file: &str, text: &str) -> Result<()> {
    let path = folder.join(file);
    fs::write(&path, text).with_context(|| path.display().to_string())
}
