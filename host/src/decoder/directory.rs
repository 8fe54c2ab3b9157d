//! Where plugins are looked for, and what was found there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::packed::{ComponentFile, Packing};
use super::pins::{self, check_pin};
use super::sandbox::{LoadError, Plugin, Runtime};
use crate::config::{Digest, Plugins};

/// Where packages install plugins.
const INSTALLED: &str = "/usr/lib/podtap/plugins";

/// What the directories of a search path hold.
pub struct Loaded {
    /// The usable plugins, one per name, in order of names.
    pub plugins: Vec<Plugin>,
    /// Every file, in the order of the search path.
    pub files: Vec<Found>,
    /// Names of pins that no file fits.
    pub idle_pins: Vec<String>,
}

impl Loaded {
    /// One line for each pin that guards nothing.
    pub fn pin_problems(&self) -> impl Iterator<Item = String> {
        self.idle_pins.iter().map(|pin| {
            format!("plugins.pins.{pin}: no file has this name, or this digest; `podtap plugin list` shows those that are there")
        })
    }

    /// Files that are no usable plugins.
    pub fn refused(&self) -> impl Iterator<Item = (&Path, &LoadError)> {
        self.files.iter().filter_map(|file| match &file.fate {
            Fate::Refused(error) => Some((file.path.as_path(), error)),
            _ => None,
        })
    }
}

/// A file of a search path.
#[derive(Debug)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Digest of its component, where it could be read.
    pub digest: Option<Digest>,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a file.
#[derive(Debug)]
pub enum Fate {
    /// The plugin of this name and version is used.
    Used(String),
    /// The plugin of this name and version gives way to that of a file found later.
    Replaced(String, PathBuf),
    /// It is no usable plugin.
    Refused(LoadError),
}

/// Directories in order: `plugins` beside the executable, the installed ones, those that config and flags name.
pub fn search_path(named: &[PathBuf]) -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join("plugins")));
    beside.into_iter().chain([INSTALLED.into()]).chain(named.iter().cloned()).collect()
}

/// Loads every plugin of the directories, as the configuration has it; of plugins with the same name the later one
/// stays. Directories that do not exist are passed over.
pub fn load(runtime: &Runtime, directories: &[PathBuf], config: &Plugins) -> Loaded {
    let mut plugins: BTreeMap<String, Plugin> = BTreeMap::new();
    let mut files = Vec::new();
    for path in each_once(directories).into_iter().flat_map(files_of) {
        let (digest, loaded) = load_file(runtime, &path, config);
        let fate = match loaded {
            Ok(mut plugin) => {
                plugin.set_config_of(config);
                let label = plugin.descriptor.label.clone();
                if let Some(earlier) = plugins.insert(plugin.descriptor.name.clone(), plugin) {
                    replace(&mut files, &earlier, &path);
                }
                Fate::Used(label)
            }
            Err(error) => Fate::Refused(error),
        };
        files.push(Found { path, digest, fate });
    }
    let idle_pins = pins::idle(config, &files).into_iter().map(str::to_owned).collect();
    Loaded { plugins: plugins.into_values().collect(), files, idle_pins }
}

fn load_file(runtime: &Runtime, path: &Path, config: &Plugins) -> (Option<Digest>, Result<Plugin, LoadError>) {
    let file = match ComponentFile::read(path, config.max_bytes) {
        Ok(file) => file,
        Err(error) => return (None, Err(error.into())),
    };
    // Before anything looks into it.
    (Some(file.digest), check_pin(&file, config).and_then(|()| runtime.load(&file)))
}

fn replace(files: &mut [Found], earlier: &Plugin, by: &Path) {
    for file in files.iter_mut().filter(|file| file.path == earlier.path) {
        if matches!(file.fate, Fate::Used(_)) {
            file.fate = Fate::Replaced(earlier.descriptor.label.clone(), by.to_owned());
        }
    }
}

/// The directories without repetitions; of one that comes twice the later place counts, as it does for its plugins.
fn each_once(directories: &[PathBuf]) -> Vec<&Path> {
    let same = |one: &PathBuf, other: &PathBuf| match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    };
    let again = |(index, directory)| directories[index + 1..].iter().any(|later| same(directory, later));
    directories.iter().enumerate().filter(|entry| !again(*entry)).map(|(_, directory)| directory.as_path()).collect()
}

/// The plugins of a directory in order of their names. Hidden files are passed over, and no folder is looked into:
/// Kubernetes keeps the old and the new content of a mounted ConfigMap in hidden ones.
fn files_of(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let is_plugin = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden && Packing::of(path).is_some() && path.is_file()
    };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_plugin).collect();
    files.sort();
    files
}
