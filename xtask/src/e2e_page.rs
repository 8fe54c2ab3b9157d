//! `cargo xtask e2e page`: the page of `podtap report` in a real browser: what axe-core says of its accessibility, in light
//! and in dark, and its picture, which the README shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{captures, drivers, process, release, workspace};

/// What this check needs beside a Chromium.
pub(crate) const PROGRAMS: [&str; 2] = ["node", "npm"];

/// Rules of WCAG 2.2, levels A and AA, and what axe-core calls best practice.
const AXE: &str = "axe-core@4.10.3";
/// Of the picture, in CSS pixels.
const WINDOW: &str = "--window-size=1240,1190";

/// What to do with the picture.
#[derive(Default, clap::Args)]
pub(crate) struct Args {
    /// Keep the picture for the README (docs/images/report.png)
    #[arg(long)]
    write: bool,

    /// An executable of podtap instead of the release build
    #[arg(long)]
    podtap: Option<PathBuf>,
}

/// Why there can be no check here.
pub(crate) fn unavailable() -> Option<String> {
    captures::chromium_program().is_none().then(|| "no Chromium: `apt-get install chromium-headless-shell`".to_owned())
}

/// Runs the check.
pub(crate) fn run(args: &Args) -> Result<()> {
    let podtap = args.podtap.clone().map_or_else(release::build, Ok)?;
    let folder = workspace::target().join("page");
    fs::create_dir_all(&folder)?;
    let page = folder.join("report.html");
    let mut report = release::command(&podtap);
    report.arg("report").arg(workspace::http_captures().join("nginx-tour.pcap")).arg("-o").arg(&page);
    process::output(&mut report)?;

    let picture = if args.write { workspace::root().join("docs/images/report.png") } else { folder.join("report.png") };
    let mut browser = browser(&folder)?;
    browser.arg(WINDOW).arg("--hide-scrollbars").arg(format!("--screenshot={}", picture.display()));
    process::output(browser.arg(address(&page)))?;
    ensure!(fs::metadata(&picture)?.len() > 10_000, "{}: nothing is on it", workspace::short(&picture));
    println!("{}", workspace::short(&picture));

    let axe = process::output(
        drivers::node("axe", &[AXE])?.args(["-e", "process.stdout.write(require('axe-core').source)"]),
    )?;
    let html = fs::read_to_string(&page)?;
    let dark = html.replace("(prefers-color-scheme: dark)", "all");
    ensure!(dark != html, "the page has no dark colours");
    for (name, html) in [("light", html), ("dark", dark)] {
        let passed = check(&folder, name, &html, &axe)?;
        println!("axe-core, {name}: {passed} rules passed, none broken");
    }
    Ok(())
}

/// Has axe-core look at the page; how many rules it keeps.
fn check(folder: &Path, name: &str, html: &str, axe: &str) -> Result<u64> {
    /// What the browser finds behind the page: the script, and where it puts what it found.
    const SCRIPT: &str = "axe.run().then(found => { document.body.innerHTML = ''; \
        document.body.textContent = 'found' + JSON.stringify({ passes: found.passes.length, \
        broken: found.violations.map(it => [it.id, it.help, it.nodes.slice(0, 3).map(node => node.html)]) }) + 'end'; })";
    // Its own policy lets no script run, which is as it should be.
    let (before, rest) =
        html.split_once("<meta http-equiv=\"Content-Security-Policy\"").context("the page has a policy")?;
    let (_, rest) = rest.split_once('>').context("its tag ends")?;
    let copy = folder.join(format!("axe-{name}.html"));
    let page =
        format!("{before}{rest}<script>{}</script><script>{SCRIPT}</script>", axe.replace("</script", "<\\/script"));
    fs::write(&copy, page)?;
    let mut browser = browser(folder)?;
    browser.args(["--virtual-time-budget=30000", "--dump-dom", WINDOW]);
    let dom = process::output(browser.arg(address(&copy)))?;
    let found = dom.split_once("<body>found").and_then(|(_, rest)| rest.split_once("end</body>"));
    let (found, _) = found.context("axe-core did not come to an end")?;
    let found: serde_json::Value =
        serde_json::from_str(&found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))?;
    let broken = found["broken"].as_array().context("a list of what is broken")?;
    if !broken.is_empty() {
        bail!("axe-core, {name}: {}", serde_json::to_string_pretty(broken)?);
    }
    found["passes"].as_u64().filter(|passed| *passed > 10).context("axe-core looked at next to nothing")
}

fn browser(folder: &Path) -> Result<Command> {
    captures::chromium(&folder.join("chromium"))
}

fn address(page: &Path) -> String {
    format!("file://{}", page.display())
}
