//! Where plugins are found, and which one is taken.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use podtap::config::{Digest, Plugins};
use podtap::decoder::{Cache, Fate, Limits, LoadError, Loaded, Runtime, search_path};
use tempfile::TempDir;

fn runtime() -> Runtime {
    let limits = Limits { memory_bytes: 16 << 20, call_timeout: Duration::from_secs(1) };
    Runtime::new(limits, Cache::none()).expect("WebAssembly runs here")
}

fn load(directories: &[PathBuf]) -> Loaded {
    podtap::decoder::load(&runtime(), directories, &Plugins::default())
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
    let loaded = load(&directories);
    assert_eq!(loaded.refused().count(), 0);
    let found: Vec<_> = loaded.plugins.iter().map(|it| (it.descriptor.name.as_str(), it.path.clone())).collect();
    let expected = [("http", second.path().join("mine.wasm")), ("misbehave", first.path().join("other.wasm"))];
    assert_eq!(found, expected);
}

#[test]
fn hidden_files_and_other_endings_are_passed_over() {
    let http = built("plugins", "http");
    let folder = folder(&[(&http, ".http.wasm"), (&http, "http.wasm.new"), (&http, "wasm"), (&http, "http.gz")]);
    fs::create_dir(folder.path().join("folder.wasm")).unwrap();
    let loaded = load(&[folder.path().to_owned()]);
    assert!(loaded.plugins.is_empty() && loaded.files.is_empty());
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
    let loaded = load(&[folder.path().to_owned()]);
    let paths: Vec<_> = loaded.plugins.iter().map(|plugin| plugin.path.clone()).collect();
    assert_eq!(paths, ["http.wasm", "misbehave.wasm.gz"].map(|name| folder.path().join(name)));
    assert_eq!(loaded.files.len(), 2, "each once: {:?}", loaded.files);
}

#[test]
fn a_directory_that_is_named_twice_is_read_once() {
    let folder = folder(&[(&built("plugins", "http"), "http.wasm")]);
    let link = tempfile::tempdir().unwrap();
    symlink(folder.path(), link.path().join("again")).unwrap();
    let directories = [folder.path().to_owned(), "/nowhere".into(), "/nowhere".into(), link.path().join("again")];
    let loaded = load(&directories);
    let paths: Vec<_> = loaded.files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(paths, [link.path().join("again/http.wasm")]);
}

#[test]
fn each_file_is_accounted_for() {
    let http = built("plugins", "http");
    let first = folder(&[(&http, "a.wasm"), (&http, "b.wasm")]);
    let second = folder(&[(&http, "c.wasm")]);
    fs::write(second.path().join("d.wasm"), "no component").unwrap();
    let loaded = load(&[first.path().to_owned(), second.path().to_owned()]);
    let (b, c) = (first.path().join("b.wasm"), second.path().join("c.wasm"));
    let digest = Some(Digest::of(&fs::read(&http).unwrap()));
    let [one, two, three, four] = loaded.files.as_slice() else { panic!("{:?}", loaded.files) };
    assert!(matches!(&one.fate, Fate::Replaced(_, by) if *by == b) && one.digest == digest);
    assert!(matches!(&two.fate, Fate::Replaced(_, by) if *by == c) && two.digest == digest);
    assert!(matches!(&three.fate, Fate::Used(label) if label.starts_with("http/")) && three.path == c);
    assert!(matches!(&four.fate, Fate::Refused(LoadError::NotAComponent(_))) && four.digest.is_some());
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
    let loaded = load(&[built("plugins", "http").parent().unwrap().to_owned()]);
    let http = loaded.plugins.iter().find(|plugin| plugin.descriptor.name == "http").unwrap();
    assert_eq!(http.descriptor.label, format!("http/{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(http.descriptor.protocols, ["http"]);
    assert!(http.descriptor.ports.contains(&80));
    assert_eq!(http.descriptor.status_attribute(), Some("http.response.status_code"));
}
