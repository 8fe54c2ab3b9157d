//! Where plugins are looked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::sandbox::{LoadError, Plugin, Runtime};

/// Where packages install plugins.
const INSTALLED: &str = "/usr/lib/podtap/plugins";

/// The plugins of a search path.
pub struct Loaded {
    /// One per name, in order of names.
    pub plugins: Vec<Plugin>,
    /// Files that are no usable plugins.
    pub refused: Vec<(PathBuf, LoadError)>,
}

/// Directories in order: `plugins` beside the executable, the installed ones, those that config and flags name.
pub fn search_path(named: &[PathBuf]) -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join("plugins")));
    beside.into_iter().chain([INSTALLED.into()]).chain(named.iter().cloned()).collect()
}

/// Loads every `.wasm` of the directories; of plugins with the same name the later one stays. Directories that do not
/// exist are passed over.
pub fn load(runtime: &Runtime, directories: &[PathBuf]) -> Loaded {
    let mut plugins = BTreeMap::new();
    let mut refused = Vec::new();
    for path in directories.iter().flat_map(|directory| files(directory)) {
        match runtime.load(&path) {
            Ok(plugin) => {
                plugins.insert(plugin.descriptor.name.clone(), plugin);
            }
            Err(error) => refused.push((path, error)),
        }
    }
    Loaded { plugins: plugins.into_values().collect(), refused }
}

/// The `.wasm` files of a directory in order of their names. Hidden files are passed over: Kubernetes keeps the old and
/// the new content of a mounted ConfigMap in them.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let is_plugin = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden && path.extension().is_some_and(|extension| extension == "wasm") && path.is_file()
    };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_plugin).collect();
    files.sort();
    files
}
