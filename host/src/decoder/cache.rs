//! Compiled plugins on disk: compiling one takes 50 ms and more, reading it back a fraction of one.
//!
//! What is read back is machine code, so it is only taken from a folder of this user that nobody else can write to, and
//! only when its checksum holds: a file torn by a crash or a full disk is compiled anew. Names carry the digest of the
//! plugin and that of the compiler's version and settings. Where there is no such folder (a read-only file system, no
//! home), plugins are compiled every time.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Files kept; the oldest go first.
pub(crate) const MAX_FILES: usize = 64;

/// The longest file read back.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Permission bits that let group or others write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

const CHECKSUM: usize = 32;

/// A folder of compiled plugins, or none.
#[derive(Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// Nothing is kept.
    pub fn none() -> Cache {
        Cache { folder: None }
    }

    /// `podtap` below `$XDG_CACHE_HOME`, else below `~/.cache`.
    pub fn of_this_user() -> Cache {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        base.map_or(Cache::none(), |base| Cache::in_folder(base.join("podtap")))
    }

    /// The folder, where there is one.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// In this folder, which is made where it is missing; nothing is kept where that fails or others may write to it.
    pub fn in_folder(folder: PathBuf) -> Cache {
        match DirBuilder::new().recursive(true).mode(0o700).create(&folder).and_then(|()| fs::symlink_metadata(&folder))
        {
            Ok(metadata) if metadata.is_dir() && is_private(&metadata) => Cache { folder: Some(folder) },
            Ok(_) => {
                tracing::warn!(folder = %folder.display(), "others may write to the cache folder: it is not used");
                Cache::none()
            }
            Err(error) => {
                tracing::debug!(folder = %folder.display(), %error, "no cache folder");
                Cache::none()
            }
        }
    }

    /// The compiled component, from the cache or compiled now; `digest` is that of `wasm`.
    pub(super) fn component(
        &self,
        engine: &Engine,
        wasm: &[u8],
        digest: &crate::config::Digest,
    ) -> Result<Component, wasmtime::Error> {
        let Some(folder) = &self.folder else { return Component::new(engine, wasm) };
        let mut settings = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut settings);
        let file = folder.join(format!("{digest}-{:016x}.bin", settings.finish()));
        match read(&file) {
            Ok(code) => {
                // SAFETY: the bytes are what `precompile_component` gave: the file lies in a folder that only this user
                // can write to, is this user's own, and its checksum holds. wasmtime checks version and settings.
                match unsafe { Component::deserialize(engine, code) } {
                    Ok(component) => return Ok(component),
                    Err(error) => tracing::debug!(file = %file.display(), %error, "compiled anew"),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::debug!(file = %file.display(), %error, "compiled anew"),
        }
        let component = Component::new(engine, wasm)?;
        if let Err(error) = component.serialize().map_err(io::Error::other).and_then(|code| write(&file, &code)) {
            tracing::debug!(file = %file.display(), %error, "not kept");
        }
        remove_oldest(folder);
        Ok(component)
    }
}

fn is_private(metadata: &Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & WRITABLE_BY_OTHERS == 0
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nofollow).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || !is_private(&metadata) || metadata.len() > MAX_FILE_BYTES {
        return Err(io::Error::other("not a private file of this user"));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    match bytes.split_first_chunk::<CHECKSUM>() {
        Some((checksum, code)) if *checksum == *Sha256::digest(code) => Ok(code.to_vec()),
        _ => Err(io::Error::other("checksum does not hold")),
    }
}

/// Whole or not at all: another podtap may be reading.
fn write(path: &Path, code: &[u8]) -> io::Result<()> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let written = file.write_all(&Sha256::digest(code)).and_then(|()| file.write_all(code));
    let result = written.and_then(|()| fs::rename(&new, path));
    if result.is_err() {
        let _ = fs::remove_file(&new);
    }
    result
}

fn remove_oldest(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let dated = |entry: fs::DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()));
    let mut files: Vec<_> = entries.filter_map(|entry| dated(entry.ok()?)).collect();
    files.sort();
    for (_, path) in files.iter().take(files.len().saturating_sub(MAX_FILES)) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn compile(cache: &Cache, engine: &Engine, wasm: &[u8]) {
        cache.component(engine, wasm, &crate::config::Digest::of(wasm)).unwrap();
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn a_component_is_kept_and_read_back_and_a_torn_file_compiled_anew() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(folder.path().join("podtap"));
        let engine = Engine::default();
        let wasm = wat::parse_str("(component)").unwrap();
        compile(&cache, &engine, &wasm);
        let [file] = &files(&folder.path().join("podtap"))[..] else { panic!("not one file") };
        let kept = fs::read(file).unwrap();
        assert!(read(file).is_ok());
        compile(&cache, &engine, &wasm);
        for torn in [&kept[..kept.len() - 1], &kept[..10], &[]] {
            fs::write(file, torn).unwrap();
            assert!(read(file).is_err());
            compile(&cache, &engine, &wasm);
            assert_eq!(fs::read(file).unwrap(), kept);
        }
    }

    #[test]
    fn what_others_may_write_to_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("podtap");
        let cache = Cache::in_folder(path.clone());
        let wasm = wat::parse_str("(component)").unwrap();
        compile(&cache, &Engine::default(), &wasm);
        let file = files(&path).remove(0);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(read(&file).is_err());
        let link = path.join("link.bin");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(read(&file).is_ok() && read(&link).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::in_folder(path).folder.is_none());
    }

    #[test]
    fn no_more_files_than_allowed_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..MAX_FILES + 3 {
            fs::write(folder.path().join(n.to_string()), "").unwrap();
        }
        remove_oldest(folder.path());
        assert_eq!(files(folder.path()).len(), MAX_FILES);
    }
}
