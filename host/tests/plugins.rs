//! Where plugins are found, and which one is taken.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use podtap::config::{Digest, Plugins};
use podtap::decoder::{Cache, Catalog, Fate, Limits, LoadError, Runtime, search_path};
use tempfile::TempDir;

fn runtime() -> Runtime {
    let limits = Limits { memory_bytes: 16 << 20, workers: 1, call_timeout: Duration::from_secs(1) };
    Runtime::new(limits, Cache::none()).expect("WebAssembly runs here")
}

/// A look into directories, in which no file is bad unless a test says so.
fn load(directories: &[PathBuf]) -> Catalog {
    let mut catalog = Catalog::new(directories.to_vec(), Plugins::default());
    let _ = catalog.look(&runtime());
    catalog
}

fn paths(catalog: &Catalog) -> Vec<PathBuf> {
    catalog.files().map(|(found, _)| found.path.clone()).collect()
}

/// A component that `cargo xtask plugins` has built.
fn built(folder: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_podtap")).with_file_name(folder).join(name).with_extension("wasm")
}

/// A folder with copies of components under names of their own.
fn folder(files: &[(&Path, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, name) in files {
        fs::copy(file, folder.path().join(name)).expect("plugins are built: `cargo xtask plugins`");
    }
    folder
}

#[test]
fn of_two_with_one_name_the_later_is_taken() {
    let (http, misbehave) = (built("plugins", "http"), built("test-plugins", "misbehave"));
    let first = folder(&[(&http, "http.wasm"), (&misbehave, "other.wasm")]);
    let second = folder(&[(&http, "mine.wasm")]);
    let directories = [first.path().to_owned(), "/nowhere".into(), second.path().to_owned()];
    let catalog = load(&directories);
    let found: Vec<_> = catalog.plugins().into_iter().map(|it| (it.descriptor.name, it.path)).collect();
    let expected = [("http", second.path().join("mine.wasm")), ("misbehave", first.path().join("other.wasm"))];
    assert_eq!(found, expected.map(|(name, path)| (name.to_owned(), path)));
}

#[test]
fn hidden_files_and_other_endings_are_passed_over() {
    let http = built("plugins", "http");
    let folder = folder(&[(&http, ".http.wasm"), (&http, "http.wasm.new"), (&http, "wasm"), (&http, "http.gz")]);
    fs::create_dir(folder.path().join("folder.wasm")).unwrap();
    let catalog = load(&[folder.path().to_owned()]);
    assert!(catalog.plugins().is_empty() && paths(&catalog).is_empty());
}

#[test]
fn a_mounted_config_map_is_found_through_its_links() {
    // As Kubernetes mounts it: name -> ..data/name, ..data -> the folder of this version; an older one may still be there.
    let folder = tempfile::tempdir().unwrap();
    let (http, misbehave) = (built("plugins", "http"), built("test-plugins", "misbehave"));
    let packed = Command::new("gzip").arg("-c").arg(&misbehave).output().expect("gzip is there").stdout;
    for version in ["..2026_01_01_12_00_00.1", "..2026_01_02_12_00_00.2"] {
        let version = folder.path().join(version);
        fs::create_dir(&version).unwrap();
        fs::copy(&http, version.join("http.wasm")).unwrap();
        fs::write(version.join("misbehave.wasm.gz"), &packed).unwrap();
    }
    symlink("..2026_01_02_12_00_00.2", folder.path().join("..data")).unwrap();
    for name in ["http.wasm", "misbehave.wasm.gz"] {
        symlink(Path::new("..data").join(name), folder.path().join(name)).unwrap();
    }
    let catalog = load(&[folder.path().to_owned()]);
    let expected = ["http.wasm", "misbehave.wasm.gz"].map(|name| folder.path().join(name));
    assert_eq!(catalog.plugins().iter().map(|plugin| plugin.path.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(paths(&catalog), expected, "each once");
}

#[test]
fn a_directory_that_is_named_twice_is_read_once() {
    let folder = folder(&[(&built("plugins", "http"), "http.wasm")]);
    let link = tempfile::tempdir().unwrap();
    symlink(folder.path(), link.path().join("again")).unwrap();
    let directories = [folder.path().to_owned(), "/nowhere".into(), "/nowhere".into(), link.path().join("again")];
    assert_eq!(paths(&load(&directories)), [link.path().join("again/http.wasm")]);
}

#[test]
fn each_file_is_accounted_for() {
    let http = built("plugins", "http");
    let first = folder(&[(&http, "a.wasm"), (&http, "b.wasm")]);
    let second = folder(&[(&http, "c.wasm")]);
    fs::write(second.path().join("d.wasm"), "no component").unwrap();
    let catalog = load(&[first.path().to_owned(), second.path().to_owned()]);
    let (b, c) = (first.path().join("b.wasm"), second.path().join("c.wasm"));
    let digest = Some(Digest::of(&fs::read(&http).unwrap()));
    let files: Vec<_> = catalog.files().collect();
    let [(one, first), (two, second), (three, third), (four, fourth)] = files.as_slice() else { panic!("{files:?}") };
    assert!(matches!(first, Fate::Replaced(by) if **by == b) && one.digest == digest);
    assert!(matches!(second, Fate::Replaced(by) if **by == c) && two.digest == digest);
    assert!(matches!(third, Fate::Used) && three.path == c && three.label.as_deref() == Some("http/0.1.0"));
    assert!(matches!(fourth, Fate::Refused(LoadError::NotAComponent(_))) && four.digest.is_some());
}

#[test]
fn named_directories_come_after_the_installed_ones() {
    let path = search_path(&["/etc/one".into(), "/etc/two".into()]);
    let [beside, installed, one, two] = path.as_slice() else { panic!("{path:?}") };
    assert!(beside.ends_with("plugins") && beside.is_absolute());
    assert_eq!([installed, one, two], [Path::new("/usr/lib/podtap/plugins"), "/etc/one".as_ref(), "/etc/two".as_ref()]);
}

#[test]
fn a_descriptor_says_what_a_decoder_is() {
    let plugins = load(&[built("plugins", "http").parent().unwrap().to_owned()]).plugins();
    let http = plugins.iter().find(|plugin| plugin.descriptor.name == "http").unwrap();
    assert_eq!(http.descriptor.label, format!("http/{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(http.descriptor.protocols, ["http"]);
    assert!(http.descriptor.ports.contains(&80));
    assert_eq!(http.descriptor.status_attribute(), Some("http.response.status_code"));
}
