//! `cargo xtask captures`: makes the captures that ship with the decoders anew, from real servers and real clients.
//!
//! `nginx-tour.pcap` has a few hundred exchanges of many kinds; `nginx-tour.log` beside it is nginx's own record of
//! them, tab-separated: method, URI, status, bytes sent, connection number, number of the request on the connection,
//! the client's port, protocol version, host. What is asked and answered is the same in every run; times and ports are
//! not, so the goldens made from the capture change with it.
//!
//! `chromium-tour.pcap` and its log are a page that a headless Chromium loads from the same nginx (`browser.html`).
//!
//! `servers-tour.pcap` has what Apache httpd, Node, Python's http.server and Go's net/http make of the same protocol, asked
//! by curl, Node, Python and Go.
//!
//! `pymongo-*.pcap` of the MongoDB decoder are a driver's tour of commands, plain and by each compressor;
//! `pymongo-*.commands` beside them is what the driver's command monitoring saw, as `xtask/captures/mongodb.py` writes it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, Running};
use crate::traffic::{Nginx, Tcpdump};
use crate::{mongodb, workspace};

/// How to make the captures.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only those of one decoder
    #[arg(value_enum)]
    decoder: Option<Decoder>,
    /// Port of 127.0.0.1 and ::1 that nginx listens on
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

/// Whose captures.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Decoder {
    Http,
    Mongodb,
}

/// Documents in the driver's tour: enough for many batches, few enough to ship.
const DOCUMENTS: usize = 200;

/// Makes the captures; nothing of what ships is touched unless all of the decoder's went well.
pub(crate) fn run(args: &Args) -> Result<()> {
    let wanted = |decoder| args.decoder.is_none_or(|only| only == decoder);
    if wanted(Decoder::Http) {
        http(args)?;
    }
    if wanted(Decoder::Mongodb) {
        pymongo()?;
    }
    Ok(())
}

fn pymongo() -> Result<()> {
    let folder = workspace::target().join("captures/mongodb");
    let mut made = Vec::new();
    for compressor in mongodb::COMPRESSORS {
        let capture = folder.join(format!("pymongo-{}.pcap", compressor.unwrap_or("plain")));
        let record = mongodb::tour(mongodb::pymongo()?, &capture, DOCUMENTS, compressor)?;
        made.push((capture, record));
    }
    let shipped = workspace::root().join("plugins/mongodb/tests/captures");
    fs::create_dir_all(&shipped)?;
    for (capture, record) in made {
        let to = shipped.join(capture.file_name().context("a capture has a name")?);
        fs::copy(&capture, &to)?;
        fs::write(to.with_extension("commands"), &record)?;
        let size = fs::metadata(&to)?.len().div_ceil(1024);
        println!("{}: {} commands, {size} KiB", workspace::short(&to), record.lines().count());
    }
    Ok(())
}

fn http(args: &Args) -> Result<()> {
    let folder = workspace::target().join("captures");
    write_site(&folder.join("site"))?;
    nginx(args, &folder, "nginx-tour", || {
        let mut clients = Command::new("python3");
        clients.arg(workspace::root().join("xtask/captures/clients.py")).arg(args.port.to_string());
        let said = process::output(clients.current_dir(&folder))?;
        said.trim().parse().context("clients.py prints a number")
    })?;
    nginx(args, &folder, "chromium-tour", || browse(args.port, &folder.join("chromium")))?;
    servers(&folder)
}

/// Names of a Chromium without windows, or that needs none; Debian's packages have the first two.
const CHROMIUMS: [&str; 4] = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];

/// What `browser.html` asks for, itself included.
const PAGE_REQUESTS: usize = 35;

/// Where a Chromium is, if there is one.
pub(crate) fn chromium_program() -> Option<PathBuf> {
    CHROMIUMS.into_iter().find_map(process::find)
}

/// A Chromium without a window, with a profile of its own that is new, and with nothing to ask of the world.
pub(crate) fn chromium(profile: &Path) -> Result<Command> {
    let program = chromium_program().context("no Chromium: `apt-get install chromium-headless-shell` brings it")?;
    // Caches of an earlier run would answer instead of a server.
    let _ = fs::remove_dir_all(profile);
    let mut browser = Command::new("timeout");
    browser.arg("60").arg(program).args(["--headless", "--disable-gpu", "--no-first-run", "--lang=en-GB"]);
    // Nothing of its own: no updates, no other hosts.
    browser.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    browser.arg("--host-resolver-rules=MAP shop.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1");
    if process::is_root() {
        browser.arg("--no-sandbox");
    }
    browser.arg(format!("--user-data-dir={}", profile.display()));
    Ok(browser)
}

/// Has Chromium load the page; the number of requests that nginx should have logged.
fn browse(port: u16, profile: &Path) -> Result<usize> {
    let mut browser = chromium(profile)?;
    browser.arg("--dump-dom");
    let page = process::output(browser.arg(format!("http://127.0.0.1:{port}/browser.html")))?;
    ensure!(page.contains(r#"<p id="said">done</p>"#), "the page does not say that it is done:\n{page}");
    Ok(PAGE_REQUESTS)
}

/// Captures what `clients` ask of an nginx, and ships it if that logged as many exchanges as they say.
fn nginx(args: &Args, folder: &Path, name: &str, clients: impl FnOnce() -> Result<usize>) -> Result<()> {
    let scripts = workspace::root().join("xtask/captures");

    let upstream_port = process::free_port()?;
    let mut upstream = Command::new("python3");
    upstream.arg(scripts.join("upstream.py")).arg(upstream_port.to_string()).stdin(Stdio::null());
    let mut upstream = Running::start(&mut upstream)?;
    upstream.wait_until(Duration::from_secs(10), || process::listens(upstream_port))?;

    let ports = [("PORT", args.port), ("UPSTREAM", upstream_port), ("DEAD", process::free_port()?)];
    let nginx = Nginx::start(folder, include_str!("../captures/nginx.conf"), &ports)?;
    let capture = folder.join(format!("{name}.pcap"));
    let tcpdump = Tcpdump::start(&capture, &format!("tcp port {}", args.port))?;
    let expected = clients()?;
    let dropped = tcpdump.stop()?;
    let log = nginx.stop()?;

    let logged = log.lines().count();
    if dropped != 0 {
        bail!("the kernel dropped {dropped} packets: try again on a quieter machine");
    }
    if logged != expected {
        bail!("nginx logged {logged} exchanges, the clients made {expected}: see {}", folder.display());
    }
    let shipped = workspace::http_captures();
    fs::create_dir_all(&shipped)?;
    let shipped = shipped.join(format!("{name}.pcap"));
    fs::copy(&capture, &shipped)?;
    fs::write(shipped.with_extension("log"), log)?;
    let size = fs::metadata(&capture)?.len().div_ceil(1024);
    println!("{}: {logged} exchanges, {size} KiB", workspace::short(&shipped));
    Ok(())
}

/// What the servers of other programs need, and the Debian packages that bring it.
const SERVERS: [(&str, &str); 3] = [("apache2", "apache2-bin"), ("node", "nodejs"), ("go", "golang-go")];

fn servers(folder: &Path) -> Result<()> {
    for (program, package) in SERVERS {
        if process::find(program).is_none() {
            bail!("no {program}: `apt-get install {package}` brings it");
        }
    }
    let scripts = workspace::root().join("xtask/captures/servers");
    let go = folder.join("go-http");
    process::run(Command::new("go").args(["build", "-o"]).arg(&go).arg(scripts.join("server.go")))?;
    let mut ports = Vec::new();
    while ports.len() < 4 {
        let port = process::free_port()?;
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    let mut tour = Command::new("python3");
    tour.arg(scripts.join("tour.py")).arg(folder).arg(go).arg(&scripts).args(ports.iter().map(u16::to_string));
    let mut tour = tour.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = BufReader::new(tour.stdout.take().context("standard output is piped")?).lines();
    let mut next = || said.next().context("tour.py ended too soon")?.context("tour.py says what is no text");
    if next()? != "ready" {
        bail!("tour.py does not begin");
    }
    let capture = folder.join("servers-tour.pcap");
    let filter: Vec<_> = ports.iter().map(|port| format!("tcp port {port}")).collect();
    let tcpdump = Tcpdump::start(&capture, &filter.join(" or "))?;
    writeln!(tour.stdin.take().context("standard input is piped")?)?;
    let exchanges = next()?;
    let dropped = tcpdump.stop()?;
    if dropped != 0 || !tour.wait()?.success() {
        bail!("the tour of servers did not go well; the kernel dropped {dropped} packets");
    }
    let shipped = workspace::http_captures().join("servers-tour.pcap");
    fs::copy(&capture, &shipped)?;
    let size = fs::metadata(&capture)?.len().div_ceil(1024);
    println!("{}: {exchanges} exchanges, {size} KiB", workspace::short(&shipped));
    Ok(())
}

/// The files that the servers serve.
fn write_site(site: &Path) -> Result<()> {
    fs::create_dir_all(site)?;
    let paragraph = "<p>Warm socks in all colours, sent the same day.</p>\n";
    fs::write(site.join("index.html"), format!("<!doctype html>\n<title>Shop</title>\n{}", paragraph.repeat(6)))?;
    fs::write(site.join("large.html"), paragraph.repeat(100 * 1024 / paragraph.len()))?;
    fs::write(site.join("style.css"), "p { margin: 1em auto; color: #333 }\n".repeat(20))?;
    fs::write(site.join("app.js"), "document.title = 'Shop';\n".repeat(200))?;
    fs::write(site.join("browser.html"), include_str!("../captures/browser.html"))?;
    fs::write(site.join("logo.png"), [0x89, b'P', b'N', b'G', 0, 255, 10, 13].repeat(60))?;
    Ok(())
}
