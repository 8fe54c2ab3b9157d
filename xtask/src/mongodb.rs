//! A real MongoDB server and driver around a capture: nx-27017 and pymongo, from PyPI, in a folder of their own.
//!
//! nx-27017 knows no compression, so a proxy (`xtask/captures/mongodb_proxy.py`) speaks OP_COMPRESSED to the driver and
//! plain OP_MSG to it; what is captured is between driver and proxy. `xtask/captures/mongodb.py` says what is asked, and
//! writes down what the driver's command monitoring saw.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{self, Running};
use crate::traffic::Tcpdump;
use crate::workspace;

/// Programs that are needed beside what pip installs.
pub(crate) const PROGRAMS: [&str; 2] = ["python3", "tcpdump"];

/// What pip installs.
const PACKAGES: [&str; 2] = ["pymongo[snappy,zstd]==4.20.1", "nx-27017==0.8.1"];

/// How the driver is told to compress; none at first.
pub(crate) const COMPRESSORS: [Option<&str>; 4] = [None, Some("zlib"), Some("snappy"), Some("zstd")];

/// The folder with Python's packages; installs them where they are not there.
pub(crate) fn packages() -> Result<PathBuf> {
    let folder = workspace::target().join("mongodb/venv");
    let installed = folder.join("installed");
    if fs::read_to_string(&installed).is_ok_and(|list| list == PACKAGES.join("\n")) {
        return Ok(folder);
    }
    println!("Installing by pip into {}: {}", workspace::short(&folder), PACKAGES.join(", "));
    process::output(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    process::output(Command::new(folder.join("bin/pip")).args(["install", "--quiet"]).args(PACKAGES))?;
    fs::write(installed, PACKAGES.join("\n"))?;
    Ok(folder)
}

/// Runs the driver's tour over so many documents, captured into `capture`; returns the driver's record.
pub(crate) fn tour(packages: &Path, capture: &Path, documents: usize, compressor: Option<&str>) -> Result<String> {
    let folder = capture.parent().context("a capture is in a folder")?;
    fs::create_dir_all(folder)?;
    let scripts = workspace::root().join("xtask/captures");
    let server_port = process::free_port()?;
    let mut server = Command::new(packages.join("bin/nx-27017"));
    server.args(["--data-dir", "memory", "-p", &server_port.to_string(), "--log-file"]).arg(folder.join("nx.log"));
    server.arg("--pid-file").arg(folder.join("nx.pid"));
    let mut server = Running::start(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?;
    server.wait_until(Duration::from_secs(60), || process::listens(server_port))?;
    let python = packages.join("bin/python");
    let (mut port, mut _proxy) = (server_port, None);
    if let Some(compressor) = compressor {
        port = process::free_port()?;
        let mut proxy = Command::new(&python);
        proxy.arg(scripts.join("mongodb_proxy.py")).args([port, server_port].map(|port| port.to_string()));
        let mut proxy = Running::start(proxy.arg(compressor).stdin(Stdio::null()))?;
        proxy.wait_until(Duration::from_secs(60), || process::listens(port))?;
        // Runs for as long as the tour does.
        _proxy = Some(proxy);
    }

    let tcpdump = Tcpdump::start(capture, &format!("tcp port {port}"))?;
    let mut driver = Command::new(&python);
    driver.arg(scripts.join("mongodb.py")).arg(format!("mongodb://127.0.0.1:{port}/")).arg(documents.to_string());
    driver.arg("--limited");
    if let Some(compressor) = compressor {
        driver.args(["--compressor", compressor]);
    }
    let record = process::output(&mut driver)?;
    let dropped = tcpdump.stop()?;
    ensure!(dropped == 0, "the kernel dropped {dropped} packets: try again on a quieter machine");
    Ok(record)
}
