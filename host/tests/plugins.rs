//! Where plugins are found, and which one is taken.

use std::path::{Path, PathBuf};
use std::time::Duration;

use podtap::decoder::{Cache, Limits, Runtime, load, search_path};
use tempfile::TempDir;

fn runtime() -> Runtime {
    let limits = Limits { memory_bytes: 16 << 20, call_timeout: Duration::from_secs(1) };
    Runtime::new(limits, Cache::none()).expect("WebAssembly runs here")
}

/// A component that `cargo xtask plugins` has built.
fn built(folder: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_podtap")).with_file_name(folder).join(name).with_extension("wasm")
}

/// A folder with copies of components under names of their own.
fn folder(files: &[(&Path, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, name) in files {
        std::fs::copy(file, folder.path().join(name)).expect("plugins are built: `cargo xtask plugins`");
    }
    folder
}

#[test]
fn of_two_with_one_name_the_later_is_taken() {
    let (http, misbehave) = (built("plugins", "http"), built("test-plugins", "misbehave"));
    let first = folder(&[(&http, "http.wasm"), (&misbehave, "other.wasm")]);
    let second = folder(&[(&http, "mine.wasm")]);
    let directories = [first.path().to_owned(), "/nowhere".into(), second.path().to_owned()];
    let loaded = load(&runtime(), &directories);
    assert!(loaded.refused.is_empty());
    let found: Vec<_> = loaded.plugins.iter().map(|it| (it.descriptor.name.as_str(), it.path.clone())).collect();
    let expected = [("http", second.path().join("mine.wasm")), ("misbehave", first.path().join("other.wasm"))];
    assert_eq!(found, expected);
}

#[test]
fn hidden_files_and_other_endings_are_passed_over() {
    let http = built("plugins", "http");
    let folder = folder(&[(&http, ".http.wasm"), (&http, "http.wasm.new"), (&http, "wasm")]);
    std::fs::create_dir(folder.path().join("folder.wasm")).unwrap();
    let loaded = load(&runtime(), &[folder.path().to_owned()]);
    assert!(loaded.plugins.is_empty() && loaded.refused.is_empty());
}

#[test]
fn a_mounted_config_map_is_found_through_its_links() {
    // As Kubernetes mounts it: name -> ..data/name, ..data -> ..2026_01_01.
    let folder = tempfile::tempdir().unwrap();
    let version = folder.path().join("..2026_01_01");
    std::fs::create_dir(&version).unwrap();
    std::fs::copy(built("plugins", "http"), version.join("http.wasm")).unwrap();
    std::os::unix::fs::symlink("..2026_01_01", folder.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/http.wasm", folder.path().join("http.wasm")).unwrap();
    let loaded = load(&runtime(), &[folder.path().to_owned()]);
    assert_eq!(loaded.plugins.len(), 1);
    assert_eq!(loaded.plugins[0].path, folder.path().join("http.wasm"));
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
    let loaded = load(&runtime(), &[built("plugins", "http").parent().unwrap().to_owned()]);
    let http = loaded.plugins.iter().find(|plugin| plugin.descriptor.name == "http").unwrap();
    assert_eq!(http.descriptor.label, format!("http/{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(http.descriptor.protocols, ["http"]);
    assert!(http.descriptor.ports.contains(&80));
    assert_eq!(http.descriptor.status_attribute(), Some("http.response.status_code"));
}
