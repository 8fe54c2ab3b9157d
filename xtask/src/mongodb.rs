//! A real MongoDB server and driver around a capture: nx-27017 and pymongo, from PyPI, in a folder of their own.
//!
//! nx-27017 knows no compression, so a proxy (`xtask/captures/mongodb_proxy.py`) speaks OP_COMPRESSED to the driver and
//! plain OP_MSG to it; what is captured is between driver and proxy. `xtask/captures/mongodb.py` says what is asked, and
//! writes down what the driver's command monitoring saw.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{self, Running};
use crate::traffic::Tcpdump;
use crate::{drivers, workspace};

/// Programs that are needed beside what pip installs.
pub(crate) const PROGRAMS: [&str; 2] = ["python3", "tcpdump"];

/// What pip installs.
const PACKAGES: [&str; 2] = ["pymongo[snappy,zstd]==4.20.1", "nx-27017==0.8.1"];

/// How the driver is told to compress; none at first.
pub(crate) const COMPRESSORS: [Option<&str>; 4] = [None, Some("zlib"), Some("snappy"), Some("zstd")];

/// Python with the server and its driver; installs them where they are not there.
pub(crate) fn packages() -> Result<Command> {
    drivers::python("mongodb", &PACKAGES)
}

/// pymongo's tour.
pub(crate) fn pymongo() -> Result<Command> {
    let mut driver = packages()?;
    driver.arg(workspace::root().join("xtask/captures/mongodb.py")).arg("--limited");
    Ok(driver)
}

/// nx-27017 for as long as this is kept. It has no documents at first.
pub(crate) struct Server {
    _process: Running,
    pub(crate) port: u16,
}

impl Server {
    /// Starts it with its log in a folder, and waits until it listens on this address.
    pub(crate) fn start(folder: &Path, address: &str) -> Result<Server> {
        let port = process::free_port()?;
        let mut server = Command::new(Path::new(packages()?.get_program()).with_file_name("nx-27017"));
        server.args(["--data-dir", "memory", "--host", address, "-p", &port.to_string()]);
        server.arg("--log-file").arg(folder.join("nx.log")).arg("--pid-file").arg(folder.join("nx.pid"));
        let mut server = Running::start(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?;
        server.wait_until(Duration::from_secs(60), || process::listens(port))?;
        Ok(Server { _process: server, port })
    }
}

/// Runs a driver's tour over so many documents, captured into `capture`; returns the driver's record.
pub(crate) fn tour(mut driver: Command, capture: &Path, documents: usize, compressor: Option<&str>) -> Result<String> {
    let folder = capture.parent().context("a capture is in a folder")?;
    fs::create_dir_all(folder)?;
    let scripts = workspace::root().join("xtask/captures");
    let (python, server) = (packages()?, Server::start(folder, "127.0.0.1")?);
    let server_port = server.port;
    let (mut port, mut _proxy) = (server_port, None);
    if let Some(compressor) = compressor {
        port = process::free_port()?;
        let mut proxy = python;
        proxy.arg(scripts.join("mongodb_proxy.py")).args([port, server_port].map(|port| port.to_string()));
        let mut proxy = Running::start(proxy.arg(compressor).stdin(Stdio::null()))?;
        proxy.wait_until(Duration::from_secs(60), || process::listens(port))?;
        // Runs for as long as the tour does.
        _proxy = Some(proxy);
    }

    let tcpdump = Tcpdump::start(capture, &format!("tcp port {port}"))?;
    driver.arg(format!("mongodb://127.0.0.1:{port}/")).arg(documents.to_string());
    if let Some(compressor) = compressor {
        driver.args(["--compressor", compressor]);
    }
    let record = process::output(&mut driver)?;
    let dropped = tcpdump.stop()?;
    ensure!(dropped == 0, "the kernel dropped {dropped} packets: try again on a quieter machine");
    Ok(record)
}
