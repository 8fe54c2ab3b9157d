//! A folder as the kubelet mounts a ConfigMap: each name is a link through `..data`, which is a link to the folder of a
//! version. An update makes a folder of the new version, swaps `..data` by a rename, and removes the folder before.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// See the module.
pub(crate) struct ConfigMap {
    folder: PathBuf,
    version: u32,
}

impl ConfigMap {
    /// Of a folder that is there, without a version so far.
    pub(crate) fn new(folder: &Path) -> ConfigMap {
        ConfigMap { folder: folder.to_owned(), version: 0 }
    }

    /// The next version, with these files.
    pub(crate) fn put(&mut self, files: &[(&str, Vec<u8>)]) -> Result<()> {
        let (before, now) = (self.version, self.version + 1);
        let content = self.folder.join(format!("..{now}"));
        fs::create_dir(&content)?;
        for (name, bytes) in files {
            fs::write(content.join(name), bytes)?;
        }
        symlink(format!("..{now}"), self.folder.join("..data_tmp"))?;
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data"))?;
        for (name, _) in files.iter().filter(|(name, _)| !self.folder.join(name).is_symlink()) {
            symlink(Path::new("..data").join(name), self.folder.join(name))?;
        }
        if before > 0 {
            fs::remove_dir_all(self.folder.join(format!("..{before}")))?;
        }
        self.version = now;
        Ok(())
    }
}
