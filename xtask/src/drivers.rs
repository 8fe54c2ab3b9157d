//! Drivers of databases for the checks against them, each by its language's own package manager, into `target/drivers/`.
//!
//! Their programs are in `xtask/e2e/drivers/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{process, workspace};

/// A language or a package that cannot be had here: not the fault of what is checked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unavailable(String);

/// Where the programs are.
pub(crate) fn programs() -> PathBuf {
    workspace::root().join("xtask/e2e/drivers")
}

/// A Python with packages, as pip names them.
pub(crate) fn python(name: &str, packages: &[&str]) -> Result<Command> {
    let folder = install("pip", name, packages, |folder| {
        process::output(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        process::output(Command::new(folder.join("bin/pip")).args(["install", "--quiet"]).args(packages)).map(drop)
    })?;
    Ok(Command::new(folder.join("bin/python")))
}

/// A Node that finds packages, as npm names them, by `require`.
pub(crate) fn node(name: &str, packages: &[&str]) -> Result<Command> {
    needs("node")?;
    let folder = install("npm", name, packages, |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]).arg(folder);
        process::output(npm.args(packages)).map(drop)
    })?;
    let mut node = Command::new("node");
    node.env("NODE_PATH", folder.join("node_modules"));
    Ok(node)
}

/// A Java that runs the class of a source file among the programs, with artifacts, as `group:artifact:version`.
pub(crate) fn java(source: &str, artifacts: &[&str]) -> Result<Command> {
    needs("javac")?;
    let name = Path::new(source).file_stem().and_then(|stem| stem.to_str()).context("a source file has a name")?;
    let folder = install("Maven", name, artifacts, |folder| {
        let pom = folder.join("pom.xml");
        fs::write(&pom, project(artifacts))?;
        let mut maven = Command::new("mvn");
        maven.args(["--batch-mode", "--quiet", "--file"]).arg(&pom);
        maven.arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies");
        process::output(maven.arg(format!("-DoutputDirectory={}", folder.join("jars").display()))).map(drop)
    })?;
    let classes = folder.join("classes");
    let path = format!("{}/jars/*:{}", folder.display(), classes.display());
    let mut javac = Command::new("javac");
    process::output(javac.args(["-cp", &path, "-d"]).arg(&classes).arg(programs().join(source)))?;
    let mut java = Command::new("java");
    java.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &path, name]);
    Ok(java)
}

/// A program in Go, a folder among the programs.
pub(crate) fn go(name: &str) -> Result<Command> {
    needs("go")?;
    let (sources, program) = (programs().join(name), folder().join(name));
    fetch("Go", process::output(Command::new("go").current_dir(&sources).args(["mod", "download"])))?;
    process::output(Command::new("go").current_dir(&sources).args(["build", "-o"]).arg(&program))?;
    Ok(Command::new(program))
}

/// A program in Rust, of the crate among the programs, which is none of the workspace's.
pub(crate) fn rust(name: &str) -> Result<Command> {
    let (manifest, target) = (programs().join("rust/Cargo.toml"), folder().join("rust"));
    let cargo = |command: &str| {
        let mut cargo = Command::new("cargo");
        cargo.args([command, "--quiet", "--locked", "--manifest-path"]).arg(&manifest);
        cargo
    };
    fetch("Cargo", process::output(&mut cargo("fetch")))?;
    process::output(cargo("build").arg("--target-dir").arg(&target))?;
    Ok(Command::new(target.join("debug").join(name)))
}

fn needs(program: &str) -> Result<()> {
    process::find(program).map(drop).ok_or_else(|| Unavailable(format!("no {program}")).into())
}

fn fetch<T>(by: &str, fetched: Result<T>) -> Result<T> {
    fetched.map_err(|error| Unavailable(format!("{by} cannot fetch it: {error:#}")).into())
}

fn folder() -> PathBuf {
    workspace::target().join("drivers")
}

/// The folder that `how` has filled, now or in an earlier run, with just these packages.
fn install(by: &str, name: &str, packages: &[&str], how: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = folder().join(format!("{}-{name}", by.to_lowercase()));
    let installed = folder.join("installed");
    if fs::read_to_string(&installed).is_ok_and(|list| list == packages.join("\n")) {
        return Ok(folder);
    }
    println!("Installing by {by} into {}: {}", workspace::short(&folder), packages.join(", "));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    fetch(by, how(&folder))?;
    fs::write(installed, packages.join("\n"))?;
    Ok(folder)
}

/// A Maven project that does nothing but depend on artifacts.
fn project(artifacts: &[&str]) -> String {
    let dependency = |artifact: &&str| {
        let mut parts = artifact.splitn(3, ':');
        let [group, id, version] = [(); 3].map(|()| parts.next().unwrap_or_default());
        format!(
            "    <dependency><groupId>{group}</groupId><artifactId>{id}</artifactId><version>{version}</version>\
             </dependency>\n"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  \
         <groupId>podtap</groupId><artifactId>drivers</artifactId><version>1</version>\n  <dependencies>\n{}  \
         </dependencies>\n</project>\n",
        artifacts.iter().map(dependency).collect::<String>()
    )
}
