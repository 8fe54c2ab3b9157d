//! A folder of this process for what podtap reads from files: in memory where the system has such a place.

use std::fs;
use std::path::{Path, PathBuf};

const IN_MEMORY: &str = "/dev/shm";
const PREFIX: &str = "podtap-fuzz-";

/// An empty folder for a purpose. libFuzzer ends without destructors, so those of processes that are gone are removed here.
pub(crate) fn folder(purpose: &str) -> PathBuf {
    let base = PathBuf::from(IN_MEMORY);
    let base = if base.is_dir() { base } else { std::env::temp_dir() };
    let all = fs::read_dir(&base).expect("a folder for files of no importance");
    for entry in all.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
            // Another process may do the same.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = base.join(format!("{PREFIX}{}-{purpose}", std::process::id()));
    fs::create_dir_all(&folder).expect("a new folder");
    folder
}
