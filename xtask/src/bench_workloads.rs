//! What `cargo xtask bench` measures with: captures of real servers under load of real clients, made once and kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{drivers, e2e_mysql, e2e_nginx, mongodb, process, workspace};

/// A capture, and what is to be known of it.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// What goes by, in a sentence.
    pub(crate) what: &'static str,
    pub(crate) capture: PathBuf,
    /// Name of the decoder that has all of its exchanges.
    pub(crate) decoder: &'static str,
    /// tshark's filter for what it is to print, and the fields.
    pub(crate) tshark: (&'static str, &'static str),
}

const HTTP: (&str, &str) =
    ("http", "frame.time_epoch ip.src tcp.stream http.request.method http.request.uri http.response.code");
const MYSQL: (&str, &str) =
    ("mysql", "frame.time_epoch ip.src tcp.stream mysql.command mysql.query mysql.response_code");
const MONGODB: (&str, &str) = ("mongo", "frame.time_epoch ip.src tcp.stream mongo.opcode mongo.element.name");

/// All of them, as far as they can be had here; of the others, why not. `exchanges`: how many, of small ones.
pub(crate) fn all(exchanges: usize) -> Result<(Vec<Workload>, Vec<String>)> {
    let folder = workspace::target().join("bench");
    let traffic = e2e_nginx::make(&e2e_nginx::Args { exchanges, reuse: true })?;
    let workload = |name, what, capture, decoder, tshark| Workload { name, what, capture, decoder, tshark };
    let mut workloads = vec![workload(
        "http-small",
        "nginx under wrk: answers of about 1 KiB, several paths, methods and statuses, a part of it pipelined",
        traffic.capture,
        "http",
        HTTP,
    )];
    let large = kept(&folder.join("http-large"), exchanges, |folder| {
        Ok(vec![e2e_nginx::make_large(folder, exchanges.div_ceil(800))?.0])
    })?;
    let what = "nginx under wrk: answers of 100 KiB to 1 MiB";
    workloads.extend(large.into_iter().map(|capture| workload("http-large", what, capture, "http", HTTP)));
    let mut missing = Vec::new();
    match kept(&folder.join("http-large-1500"), exchanges, |folder| {
        LargeCapture { folder: folder.to_owned(), exchanges: exchanges.div_ceil(800) }.make_in_segments()
    }) {
        Ok(captures) => {
            let what = "the same in segments of an Ethernet, 1500 bytes each";
            let name = "http-large, MTU 1500";
            workloads.extend(captures.into_iter().map(|capture| workload(name, what, capture, "http", HTTP)));
        }
        Err(error) => missing.push(format!("http-large, MTU 1500: {error:#}")),
    }
    let sysbench = kept(&folder.join("mysql"), exchanges, |folder| Ok(e2e_mysql::captures(folder, exchanges)?.into()))?;
    let names = [
        ("mysql, prepared", "MariaDB under sysbench's oltp_read_write, with prepared statements"),
        ("mysql, text", "the same, with statements as text"),
    ];
    workloads.extend(
        sysbench.into_iter().zip(names).map(|(capture, (name, what))| workload(name, what, capture, "mysql", MYSQL)),
    );
    // This server is slow, and tshark takes four times as long for twice as many.
    let commands = exchanges.div_ceil(20);
    match kept(&folder.join("mongodb"), exchanges, |folder| Ok(vec![mongodb_load(folder, commands)?])) {
        Ok(captures) => {
            let what =
                "a MongoDB wire server (nx-27017) under pymongo: finds of one and of twenty, inserts, updates, deletes";
            workloads
                .extend(captures.into_iter().map(|capture| workload("mongodb", what, capture, "mongodb", MONGODB)));
        }
        Err(error) if error.is::<drivers::Unavailable>() => missing.push(format!("mongodb: {error}")),
        Err(error) => return Err(error),
    }
    Ok((workloads, missing))
}

/// nginx's large answers, captured.
#[derive(clap::Args)]
pub(crate) struct LargeCapture {
    folder: PathBuf,
    exchanges: usize,
}

impl LargeCapture {
    pub(crate) fn make(&self) -> Result<()> {
        e2e_nginx::make_large(&self.folder, self.exchanges).map(drop)
    }

    /// In a network namespace of its own, whose loopback sends what an Ethernet would: no segment is larger than its MTU.
    fn make_in_segments(&self) -> Result<Vec<PathBuf>> {
        let mut command = Command::new(process::find("unshare").context("unshare is not installed")?);
        let script = "ip link set lo mtu 1500 gso_max_segs 1 up && exec \"$0\" bench large-capture \"$1\" \"$2\"";
        command.args(["--net", "sh", "-c", script]).arg(std::env::current_exe()?);
        process::output(command.arg(&self.folder).arg(self.exchanges.to_string()))?;
        Ok(vec![self.folder.join("nginx.pcap")])
    }
}

fn mongodb_load(folder: &Path, commands: usize) -> Result<PathBuf> {
    let mut driver = mongodb::packages()?;
    driver.arg(workspace::root().join("xtask/e2e/mongodb_load.py"));
    let capture = folder.join("mongodb.pcap");
    mongodb::tour(driver, &capture, commands, None)?;
    Ok(capture)
}

/// The captures that `make` put into the folder, by an earlier run where that made as much.
fn kept(folder: &Path, size: usize, make: impl FnOnce(&Path) -> Result<Vec<PathBuf>>) -> Result<Vec<PathBuf>> {
    // Written last: it marks a run that ended well.
    let list = folder.join(format!("captures-{size}"));
    if let Ok(names) = fs::read_to_string(&list) {
        return Ok(names.lines().map(PathBuf::from).collect());
    }
    fs::create_dir_all(folder)?;
    let captures = make(folder).with_context(|| workspace::short(folder))?;
    let names: Vec<_> = captures.iter().map(|capture| capture.display().to_string()).collect();
    fs::write(&list, names.join("\n"))?;
    Ok(captures)
}
