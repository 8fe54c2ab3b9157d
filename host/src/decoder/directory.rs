//! Where plugins are looked for, what was found there, and what of it has changed since.
//!
//! In: the directories of the search path, as often as someone looks. Out: the usable plugins, one per name. A file that
//! was looked at before is read again only where its metadata may have changed, and compiled again only where its digest
//! has. Where a file's content goes bad, the plugin that it was before stays in use for as long as there is the file.
//! What the system cannot tell just now (too many open files, a file server that is away) is not taken for an absence:
//! a directory then holds what it held before.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::packed::{ComponentFile, FileError, Packing};
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
    /// Directories that the last look could not look into.
    unread: Vec<PathBuf>,
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
        Catalog { directories, config, files: Vec::new(), unread: Vec::new() }
    }

    /// Looks into the directories; those that do not exist are passed over. Plugins are loaded as the configuration has
    /// it. Gives the files that have gone bad, or otherwise bad, since the last look.
    pub fn look(&mut self, runtime: &Runtime) -> impl Iterator<Item = (&Path, &LoadError)> {
        let mut found = Vec::new();
        let unread_before = std::mem::take(&mut self.unread);
        for directory in each_once(&self.directories) {
            found.extend(files_of(directory).unwrap_or_else(|error| {
                if !unread_before.iter().any(|before| before == directory) {
                    let directory = directory.display();
                    tracing::warn!(%directory, %error, "cannot be looked into: decoders found there before stay in use");
                }
                self.unread.push(directory.to_owned());
                let known = self.files.iter().map(|found| found.path.clone());
                known.filter(|path| path.parent() == Some(directory)).collect()
            }));
        }
        let mut before: HashMap<PathBuf, Found> =
            self.files.drain(..).map(|found| (found.path.clone(), found)).collect();
        let mut bad = Vec::new();
        let named = &self.config.files;
        let found = found.into_iter().filter(|path| !named.contains(path));
        let paths: Vec<_> = found.chain(named.iter().cloned()).collect();
        for path in paths {
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
            Some(before) if stamp.is_some() && before.stamp == stamp && !before.was_unreadable() => return before,
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

    /// Is what is known of it no more than that the system could not read it?
    fn was_unreadable(&self) -> bool {
        matches!(self.error, Some(LoadError::File(FileError::Io(_))))
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

/// The plugins of a directory in order of their names; none where there is no directory. Hidden files are passed over, and
/// no folder is looked into: Kubernetes keeps the old and the new content of a mounted ConfigMap in hidden ones.
fn files_of(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let is_absence = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let entries = match std::fs::read_dir(directory) {
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        entries => entries?,
    };
    let is_plugin = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // Whoever reads it says why, where its metadata cannot be read either.
        let is_file = || path.metadata().map_or_else(|error| !is_absence(&error), |metadata| metadata.is_file());
        !hidden && Packing::of(path).is_some() && is_file()
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let mut files: Vec<_> = paths.into_iter().filter(is_plugin).collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::time::SystemTime;

    use super::super::cache::Cache;
    use super::super::sandbox::Limits;
    use super::*;

    fn runtime() -> Runtime {
        let limits = Limits { memory_bytes: 1 << 20, workers: 1, call_timeout: Duration::from_secs(1) };
        Runtime::without_pool(limits, Cache::none(), false).unwrap()
    }

    /// A file that was not written to for a while.
    fn settled(path: &Path) {
        fs::write(path, "no component").unwrap();
        let long_ago = SystemTime::now() - 2 * UNSETTLED;
        File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }

    fn paths(catalog: &Catalog) -> Vec<&Path> {
        catalog.files.iter().map(|found| found.path.as_path()).collect()
    }

    #[test]
    fn a_directory_that_cannot_be_looked_into_holds_what_it_held_before() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second, away] = ["first", "second", "away"].map(|name| folder.path().join(name));
        let files = [first.join("a.wasm"), second.join("b.wasm")];
        [&first, &second].iter().for_each(|directory| fs::create_dir(directory).unwrap());
        files.iter().for_each(|file| settled(file));
        let (mut catalog, runtime) = (Catalog::new(vec![first.clone(), second.clone()], Plugins::default()), runtime());
        assert_eq!(catalog.look(&runtime).count(), 2);
        // As a file server that is away: an error, and not the answer that there is nothing.
        fs::rename(&first, &away).unwrap();
        symlink(&first, &first).unwrap();
        fs::remove_file(&files[1]).unwrap();
        catalog.look(&runtime).count();
        assert_eq!((paths(&catalog), &catalog.unread), (vec![files[0].as_path()], &vec![first.clone()]));
        fs::remove_file(&first).unwrap();
        fs::rename(&away, &first).unwrap();
        catalog.look(&runtime).count();
        assert_eq!((paths(&catalog), catalog.unread.len()), (vec![files[0].as_path()], 0));
        fs::remove_dir_all(&first).unwrap();
        catalog.look(&runtime).count();
        assert!(catalog.files.is_empty());
    }

    #[test]
    fn a_file_that_could_not_be_read_is_read_again_though_it_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wasm");
        settled(&path);
        let look = |error| {
            let (path, stamp) = (path.clone(), Stamp::of(&path));
            assert!(stamp.is_some());
            let before =
                Found { path: path.clone(), digest: None, label: None, stamp, plugin: None, error: Some(error) };
            Found::look(path, Some(before), &runtime(), &Plugins::default()).error.unwrap()
        };
        let unreadable = FileError::Io(rustix::io::Errno::MFILE.into());
        assert!(matches!(look(unreadable.into()), LoadError::NotAComponent(_)));
        // What is wrong with its content is known as long as that is the same.
        assert!(matches!(look(LoadError::CoreModule), LoadError::CoreModule));
    }
}
