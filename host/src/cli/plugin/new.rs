//! `podtap plugin new`: a crate with a decoder of a small text protocol, its tests, a capture, and the SDK.
//!
//! All of it is in the program: the template is `sdk/template`, compiled and tested as it is; the SDK is `sdk/`, with a
//! manifest of its own. Nothing that exists is written over.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::cli::print;

/// The word that stands for the name in the template.
const PLACEHOLDER: &str = "template";

const MAX_NAME: usize = 32;

macro_rules! embedded {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../../", $folder, "/", $name)))),+]
    };
}

/// The template, by path in the new crate. All but the capture is text.
const TEMPLATE: &[(&str, &[u8])] = embedded!("sdk/template":
    "Cargo.toml",
    "README.md",
    "rustfmt.toml",
    "src/lib.rs",
    "tests/decoder.rs",
    "tests/captures/first.pcap",
    "tests/captures/first.jsonl",
);

/// The SDK, by path in its folder.
const SDK: &[(&str, &[u8])] = embedded!("sdk":
    "src/bindings.rs",
    "src/delimiter.rs",
    "src/digest.rs",
    "src/exchanges.rs",
    "src/exchanges/by_id.rs",
    "src/exchanges/in_order.rs",
    "src/fields.rs",
    "src/instance.rs",
    "src/lib.rs",
    "src/packed.rs",
    "src/stream.rs",
    "src/testing.rs",
    "wit/podtap-decoder.wit",
);

const SDK_MANIFEST: &str = include_str!("../../../../sdk/Cargo.toml");
const WORKSPACE_MANIFEST: &str = include_str!("../../../../Cargo.toml");

/// Makes the crate.
pub(super) fn new(name: &str, folder: Option<&Path>) -> anyhow::Result<ExitCode> {
    check_name(name)?;
    let folder = folder.map_or_else(|| PathBuf::from(name), Path::to_owned);
    if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        bail!("{}: is there already: choose another place with --dir", folder.display());
    }
    for (path, content) in files(name)? {
        let file = folder.join(path);
        let write = || fs::create_dir_all(file.parent().unwrap_or(&folder)).and_then(|()| fs::write(&file, content));
        write().with_context(|| format!("{}: cannot be written", file.display()))?;
    }
    let folder = folder.display();
    print(&format!(
        "{folder}: a decoder of a small text protocol; make it yours in {folder}/src/lib.rs\n\
         cd {folder} && cargo test && podtap plugin test\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The contract's rule for names, and what Rust and this crate take up.
fn check_name(name: &str) -> anyhow::Result<()> {
    let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_lower) {
        bail!("{name:?} is no name of a decoder: use 1 to {MAX_NAME} of a-z, 0-9 and -");
    }
    if name == "sdk" || name == "stream" || name.starts_with('-') {
        bail!("{name:?} cannot be the name of a crate podtap-{name}: choose another one");
    }
    Ok(())
}

/// Every file of the new crate.
fn files(name: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = vec![(".gitignore".to_owned(), b"/target\n*.wasm\n".to_vec())];
    for &(path, content) in TEMPLATE {
        let content = match std::str::from_utf8(content) {
            Ok(text) if !path.ends_with(".pcap") => named(text, path, name).into_bytes(),
            _ => content.to_vec(),
        };
        files.push((path.to_owned(), content));
    }
    files.push(("podtap-sdk/Cargo.toml".to_owned(), sdk_manifest()?.into_bytes()));
    files.extend(SDK.iter().map(|&(path, content)| (format!("podtap-sdk/{path}"), content.to_vec())));
    Ok(files)
}

fn named(text: &str, path: &str, name: &str) -> String {
    // Names of Rust have no hyphens.
    let crate_name = format!("podtap_{}", name.replace('-', "_"));
    let text = text.replace(&format!("podtap_{PLACEHOLDER}"), &crate_name).replace(PLACEHOLDER, name);
    match path {
        // A workspace of its own, wherever it lies.
        "Cargo.toml" => text.replace("path = \"..\"", "path = \"podtap-sdk\"") + "\n[workspace]\n",
        _ => text,
    }
}

/// The SDK's manifest with what it takes from the workspace filled in.
fn sdk_manifest() -> anyhow::Result<String> {
    let mut manifest: toml::Table = SDK_MANIFEST.parse()?;
    let workspace: toml::Table = WORKSPACE_MANIFEST.parse()?;
    let shared = &workspace["workspace"];
    for section in ["package", "dependencies"] {
        let Some(entries) = manifest.get_mut(section).and_then(toml::Value::as_table_mut) else { continue };
        for (key, value) in entries.iter_mut().filter(|(_, value)| value.get("workspace").is_some()) {
            let found = shared.get(section).and_then(|section| section.get(key));
            *value = found.with_context(|| format!("{section}.{key} is not in the workspace"))?.clone();
        }
    }
    manifest.remove("lints");
    manifest.remove("dev-dependencies");
    Ok(toml::to_string(&manifest)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn names_are_those_of_the_contract() {
        for good in ["redis", "a", "my-protocol", "3scale", "match"] {
            check_name(good).unwrap();
        }
        for bad in ["", "Redis", "my_protocol", "a/b", "..", "-a", "sdk", "name-that-is-far-longer-than-allowed"] {
            check_name(bad).unwrap_err();
        }
    }

    #[test]
    fn the_sdk_goes_along_whole() {
        let (mut on_disk, mut folders) = (Vec::new(), vec!["src".to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(root().join("sdk").join(&folder)).unwrap() {
                let entry = entry.unwrap();
                let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
                if entry.path().is_dir() { folders.push(path) } else { on_disk.push(path) }
            }
        }
        on_disk.sort();
        let embedded: Vec<_> = SDK.iter().map(|(path, _)| *path).filter(|path| path.starts_with("src/")).collect();
        assert_eq!(embedded, on_disk, "add to SDK in host/src/cli/plugin/new.rs what is new in sdk/src");
    }

    #[test]
    fn the_sdks_dependencies_are_those_of_the_workspace() {
        let manifest: toml::Table = sdk_manifest().unwrap().parse().unwrap();
        let workspace: toml::Table = WORKSPACE_MANIFEST.parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        assert!(dependencies.contains_key("wit-bindgen") && dependencies.contains_key("memchr"));
        for (name, dependency) in dependencies {
            assert_eq!(*dependency, workspace["workspace"]["dependencies"][name], "{name}");
        }
        assert_eq!(manifest["package"]["version"], workspace["workspace"]["package"]["version"]);
        assert!(!manifest.contains_key("lints"));
    }

    #[test]
    fn no_trace_of_the_template_or_of_this_workspace_is_left() {
        for (path, content) in files("my-kv").unwrap().into_iter().filter(|(path, _)| !path.starts_with("podtap-sdk/"))
        {
            if let Ok(text) = String::from_utf8(content) {
                assert!(!text.contains(PLACEHOLDER) && !text.contains("workspace = true"), "{path}:\n{text}");
            }
        }
    }
}
