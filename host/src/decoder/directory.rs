//! Where plugins are looked for, what was found there, and what of it has changed since.
//!
//! In: the directories of the search path, as often as someone looks. Out: the usable plugins, one per name. A file that
//! was looked at before is read again only where its metadata may have changed, and compiled again only where its digest
//! has. Where a file's content goes bad, the plugin that it was before stays in use for as long as there is the file.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::packed::{ComponentFile, Packing};
use super::pins::{self, check_pin};
use super::sandbox::{LoadError, Plugin, Runtime};
use crate::config::{Digest, Plugins};

/// Where packages install plugins.
const INSTALLED: &str = "/usr/lib/podtap/plugins";

/// A file that was written so shortly before it was read may have been written again without its metadata telling.
const UNSETTLED: Duration = Duration::from_secs(2);

/// What the directories of a search path hold.
#[derive(Debug)]
pub struct Catalog {
    directories: Vec<PathBuf>,
    config: Plugins,
    /// Every file, in the order of the search path.
    files: Vec<Found>,
}

/// A file of a search path.
#[derive(Debug)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Digest of its component, where it could be read.
    pub digest: Option<Digest>,
    /// Name and version of the decoder, where it could be asked.
    pub label: Option<String>,
    /// None where the metadata do not show whether the content is still the same.
    stamp: Option<Stamp>,
    /// The plugin that it is, or was before its content went bad.
    plugin: Option<Plugin>,
    /// Why it is none as it is now.
    error: Option<LoadError>,
}

/// What becomes of a file.
#[derive(Debug)]
pub enum Fate<'f> {
    /// Its plugin is used.
    Used,
    /// Its plugin gives way to that of a file found later.
    Replaced(&'f Path),
    /// It is no usable plugin. Where it was one before, that one is still used.
    Refused(&'f LoadError),
}

/// The metadata of a file, which change where its content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let metadata = path.metadata().ok()?;
        let age = metadata.modified().ok()?.elapsed().ok()?;
        (age >= UNSETTLED).then(|| Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl Catalog {
    /// Of these directories, which nobody has looked into yet.
    pub fn new(directories: Vec<PathBuf>, config: Plugins) -> Catalog {
        Catalog { directories, config, files: Vec::new() }
    }

    /// Looks into the directories; those that do not exist are passed over. Plugins are loaded as the configuration has
    /// it. Gives the files that have gone bad, or otherwise bad, since the last look.
    pub fn look(&mut self, runtime: &Runtime) -> impl Iterator<Item = (&Path, &LoadError)> {
        let mut before: HashMap<PathBuf, Found> =
            self.files.drain(..).map(|found| (found.path.clone(), found)).collect();
        let mut bad = Vec::new();
        for path in each_once(&self.directories).into_iter().flat_map(files_of) {
            let before = before.remove(&path);
            let said = before.as_ref().and_then(|found| Some(found.error.as_ref()?.to_string()));
            let found = Found::look(path, before, runtime, &self.config);
            if found.error.as_ref().is_some_and(|error| said.is_none_or(|said| said != error.to_string())) {
                bad.push(self.files.len());
            }
            self.files.push(found);
        }
        bad.into_iter().filter_map(|index| {
            let found = &self.files[index];
            Some((found.path.as_path(), found.error.as_ref()?))
        })
    }

    /// The usable plugins, one per name, in order of names: of those with the same name, the one found last.
    pub fn plugins(&self) -> Vec<Plugin> {
        let named = self.files.iter().filter_map(|found| found.plugin.as_ref());
        let by_name: BTreeMap<_, _> = named.map(|plugin| (&plugin.descriptor.name, plugin)).collect();
        by_name.into_values().cloned().collect()
    }

    /// The directories, as they were given.
    pub(super) fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// Every file and what becomes of it, in the order of the search path.
    pub fn files(&self) -> impl Iterator<Item = (&Found, Fate<'_>)> {
        self.files.iter().enumerate().map(|(index, found)| {
            let name = found.plugin.as_ref().map(|plugin| &plugin.descriptor.name);
            let same_name = |other: &&Found| other.plugin.as_ref().map(|plugin| &plugin.descriptor.name) == name;
            let fate = match (&found.error, self.files[index + 1..].iter().find(same_name)) {
                (Some(error), _) => Fate::Refused(error),
                (None, Some(later)) => Fate::Replaced(&later.path),
                (None, None) => Fate::Used,
            };
            (found, fate)
        })
    }

    /// Names of decoders, those included that are refused.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.files.iter().filter_map(|found| Some(found.label.as_deref()?.split_once('/')?.0))
    }

    /// One line for each pin that guards nothing.
    pub fn pin_problems(&self) -> impl Iterator<Item = String> {
        pins::idle(&self.config, &self.files).map(|pin| {
            format!("plugins.pins.{pin}: no file has this name, or this digest; `podtap plugin list` shows those that are there")
        })
    }
}

impl Found {
    /// Looks at a file, again where it was looked at before.
    fn look(path: PathBuf, before: Option<Found>, runtime: &Runtime, config: &Plugins) -> Found {
        // Before the content is read: what is written meanwhile has another stamp.
        let stamp = Stamp::of(&path);
        let mut found = Found { path, digest: None, label: None, stamp, plugin: None, error: None };
        let file = match before {
            Some(before) if stamp.is_some() && before.stamp == stamp => return before,
            before => match (ComponentFile::read(&found.path, config.max_bytes), before) {
                (Ok(file), Some(before)) if before.digest == Some(file.digest) => return Found { stamp, ..before },
                (file, before) => {
                    found.plugin = before.and_then(|before| before.plugin);
                    file
                }
            },
        };
        let loaded = file.map_err(LoadError::from).and_then(|file| {
            found.digest = Some(file.digest);
            // Before anything looks into it.
            check_pin(&file, config)?;
            let mut plugin = runtime.load(&file)?;
            found.label = Some(plugin.descriptor.label.clone());
            plugin.set_config_of(config);
            // Does it take its configuration?
            runtime.instance(&plugin)?;
            Ok(plugin)
        });
        match loaded {
            Ok(plugin) => found.plugin = Some(plugin),
            Err(error) => found.error = Some(error),
        }
        found
    }
}

/// Directories in order: `plugins` beside the executable, the installed ones, those that config and flags name.
pub fn search_path(named: &[PathBuf]) -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join("plugins")));
    beside.into_iter().chain([INSTALLED.into()]).chain(named.iter().cloned()).collect()
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
