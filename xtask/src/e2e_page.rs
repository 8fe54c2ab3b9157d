//! `cargo xtask e2e page`: what a browser makes of podtap's pages: that of `podtap report`, and the one of a podtap that is
//! running. What axe-core says of their accessibility, in light and in dark; their pictures, which the README shows; and
//! whether the one that renews itself goes on doing so, and does not grow, while a thousand exchanges come a second.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::e2e_outages_traffic::{Loops, Podtap, memory_bytes};
use crate::{captures, drivers, process, release, workspace};

/// What this check needs beside a Chromium.
pub(crate) const PROGRAMS: [&str; 2] = ["node", "npm"];

/// Rules of WCAG 2.2, levels A and AA, and what axe-core calls best practice; and what drives the browser.
const PACKAGES: [&str; 2] = ["axe-core@4.10.3", "puppeteer-core@25.16.0"];
/// Between two repetitions of the capture, which has 293 exchanges: a thousand a second.
const PACE: Duration = Duration::from_millis(293);
/// How much more memory a page or podtap may have at the end than when everything on it was full for the first time.
const GROWTH: f64 = 1.25;

/// What to do with the pictures, and how long to look.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Keep the pictures for the README (docs/images)
    #[arg(long)]
    write: bool,

    /// For how long the page of a podtap that is running is looked at
    #[arg(long, default_value_t = 45)]
    seconds: u32,

    /// An executable of podtap instead of the release build
    #[arg(long)]
    podtap: Option<PathBuf>,
}

impl Default for Args {
    fn default() -> Args {
        Args { write: false, seconds: 45, podtap: None }
    }
}

/// Why there can be no check here.
pub(crate) fn unavailable() -> Option<String> {
    captures::chromium_program().is_none().then(|| "no Chromium: `apt-get install chromium-headless-shell`".to_owned())
}

/// Runs the check.
pub(crate) fn run(args: &Args) -> Result<()> {
    let podtap = args.podtap.clone().map_or_else(release::build, Ok)?;
    let folder = workspace::target().join("e2e/page");
    fs::create_dir_all(&folder)?;
    let pictures = if args.write { workspace::root().join("docs/images") } else { folder.clone() };
    report(&podtap, &folder, &pictures.join("report.png"))?;
    live(&podtap, &folder, &pictures.join("page.png"), args.seconds)
}

/// The page of a capture.
fn report(podtap: &Path, folder: &Path, picture: &Path) -> Result<()> {
    let page = folder.join("report.html");
    let mut report = release::command(podtap);
    report.arg("report").arg(workspace::http_captures().join("nginx-tour.pcap")).arg("-o").arg(&page);
    process::output(&mut report)?;
    look(&format!("file://{}", page.display()), picture)
}

/// The page of a podtap that is running.
fn live(podtap: &Path, folder: &Path, picture: &Path, seconds: u32) -> Result<()> {
    let mut loops = Loops::read()?;
    loops.record(&folder.join("live.pcap"))?;
    let mut command = release::command(podtap);
    command.args(["replay", "-", "--output", "none"]);
    command.envs([("PODTAP_ADMIN_LISTEN", "127.0.0.1:0"), ("PODTAP_ADMIN_EXCHANGES", "true")]);
    command.env("PODTAP_AGENT_RESOURCE", "service.name=shop");
    let log = folder.join("live.log");
    let mut podtap = Podtap::start(&mut command, &loops.header, log.clone())?;
    let url = format!("http://{}/", address(&log)?);

    // Somebody has to look for anything to be kept.
    process::output(Command::new("curl").args(["-sf", &url]))?;
    std::thread::sleep(Duration::from_millis(1500));
    loops.feed(&mut podtap, 1, Duration::from_millis(1500))?;
    look(&url, picture)?;

    let mut browser = node("hold", &url)?.arg(seconds.to_string()).stdout(std::process::Stdio::piped()).spawn()?;
    let (process, begun, mut early) = (podtap.id(), Instant::now(), None);
    let patience = Duration::from_secs(u64::from(seconds) + 60);
    loops.feed_until(&mut podtap, PACE, patience, || {
        if early.is_none() && begun.elapsed() > Duration::from_secs(u64::from(seconds) / 3) {
            early = memory_bytes(process, "VmRSS");
        }
        Ok(browser.try_wait()?.is_some())
    })?;
    let late = memory_bytes(process, "VmRSS").context("podtap has ended")?;
    let said = browser.wait_with_output()?;
    ensure!(said.status.success(), "the page did not hold");
    let said: Value = serde_json::from_slice(&said.stdout)?;
    let number = |at: &str| said.pointer(at).and_then(Value::as_f64).with_context(|| format!("{at} in {said}"));
    let rate = (number("/last")? - number("/first")?) / (f64::from(seconds) * 2.0 / 3.0);
    ensure!(rate > 500.0, "only {rate:.0} exchanges came a second");
    let early = early.context("podtap was looked at")?;
    for (what, early, late) in [
        ("nodes of the page", number("/early/nodes")?, number("/late/nodes")?),
        ("bytes of its heap", number("/early/heap")?, number("/late/heap")?),
        ("bytes of podtap", early as f64, late as f64),
    ] {
        println!("{what}: {early:.0} when full, {late:.0} at the end");
        ensure!(late <= early * GROWTH, "{what}: from {early:.0} to {late:.0}");
    }
    println!("the page of a running podtap: {seconds} s at {rate:.0} exchanges a second");
    podtap.peak_at_end().map(drop)
}

/// A picture, and what axe-core says.
fn look(url: &str, picture: &Path) -> Result<()> {
    print!("{}", process::output(node("look", url)?.arg(picture))?);
    ensure!(fs::metadata(picture)?.len() > 10_000, "{}: nothing is on it", workspace::short(picture));
    println!("{}", workspace::short(picture));
    Ok(())
}

fn node(task: &str, url: &str) -> Result<Command> {
    let chromium = captures::chromium_program().context("no Chromium")?;
    let mut node = drivers::node("page", &PACKAGES)?;
    node.arg(workspace::root().join("xtask/e2e/page.js")).arg(task).arg(chromium).arg(url);
    Ok(node)
}

/// Of the admin server, which podtap tells in its log.
pub(crate) fn address(log: &Path) -> Result<String> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        for line in fs::read_to_string(log)?.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            if line["message"] == "admin: listening" {
                return Ok(line["address"].as_str().context("the address is text")?.to_owned());
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("podtap does not listen, see {}", workspace::short(log))
}
