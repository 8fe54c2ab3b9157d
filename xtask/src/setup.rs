//! `cargo xtask setup`: installs what is missing to build podtap and, on request, to test it against real programs.
//!
//! Says what it will install before it does. Knows Debian and its kin; elsewhere it names what is missing.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use podtap_toolchain::{self as toolchain, Toolchain};

use crate::{captures, examples, process};

/// What to set up, beside what a build needs.
#[derive(clap::Args, Clone, Copy, Default)]
pub(crate) struct Args {
    /// Also what a local Apache Kafka and a program for it need: a JDK and Maven
    #[arg(long)]
    pub(crate) kafka: bool,
    /// Also the programs of the end-to-end checks: nginx, wrk, MariaDB, sysbench, Redis, tcpdump, tshark, kcat, curl, Python, ip,
    /// ethtool, setcap, zstd, tmux, Valgrind, Chromium; what drivers of databases need: a JDK, Maven, Go, Node; and what builds the example decoders: clang,
    /// lld, npm
    #[arg(long)]
    pub(crate) e2e: bool,
}

/// A Debian package and how to see that what it brings is there, from wherever it came.
struct Need {
    package: &'static str,
    present: fn() -> bool,
}

const BUILD: &[Need] = &[
    Need { package: "pkg-config", present: || has("pkg-config") },
    Need { package: "libpcap-dev", present: || library("libpcap") || header("pcap/pcap.h") },
    Need { package: "libssl-dev", present: || library("openssl") },
    Need { package: "gcc", present: || has("cc") },
    Need { package: "g++", present: || has("c++") },
    Need { package: "make", present: || has("make") },
];

const KAFKA: &[Need] = &[
    Need { package: "default-jdk-headless", present: || has("java") && has("javac") },
    Need { package: "maven", present: || has("mvn") },
];

const E2E: &[Need] = &[
    Need { package: "nginx", present: || has("nginx") },
    Need { package: "wrk", present: || has("wrk") },
    Need { package: "mariadb-server", present: || has("mariadbd") && has("mariadb-install-db") },
    Need { package: "mariadb-client", present: || has("mariadb") },
    Need { package: "sysbench", present: || has("sysbench") },
    Need { package: "redis-server", present: || has("redis-server") },
    Need { package: "redis-tools", present: || has("redis-benchmark") },
    Need { package: "tcpdump", present: || has("tcpdump") },
    Need { package: "iproute2", present: || has("ip") },
    Need { package: "ethtool", present: || has("ethtool") },
    Need { package: "libcap2-bin", present: || has("setcap") },
    Need { package: "tshark", present: || has("tshark") },
    Need { package: "kcat", present: || has("kcat") },
    Need { package: "procps", present: || has("kill") },
    Need { package: "openssl", present: || has("openssl") },
    Need { package: "curl", present: || has("curl") },
    Need { package: "python3", present: || has("python3") },
    Need { package: "zstd", present: || has("zstd") },
    Need { package: "clang", present: || has("clang") },
    Need { package: "lld", present: || has("wasm-ld") },
    Need { package: "nodejs", present: || has("node") },
    Need { package: "default-jdk-headless", present: || has("javac") },
    Need { package: "maven", present: || has("mvn") },
    Need { package: "golang-go", present: || has("go") },
    Need { package: "npm", present: || has("npm") },
    Need { package: "valgrind", present: || has("valgrind") },
    Need { package: "tmux", present: || has("tmux") },
    // Its kin have none of that name: the check of the page is skipped there.
    Need { package: "chromium-headless-shell", present: || captures::chromium_program().is_some() || !is_debian() },
    Need { package: "python3-venv", present: || succeeds("python3", &["-c", "import venv, ensurepip"]) },
];

/// Installs what is missing; says nothing when nothing is.
pub(crate) fn run(args: Args) -> Result<()> {
    let groups = [(BUILD, true), (KAFKA, args.kafka), (E2E, args.e2e)];
    let needs = groups.iter().filter(|(_, wanted)| *wanted).flat_map(|(needs, _)| needs.iter());
    let mut packages: Vec<&str> = needs.filter(|need| !(need.present)()).map(|need| need.package).collect();
    packages.extend(guest_packages()?);
    install(&packages)?;
    if args.e2e { examples::install_js_tools() } else { Ok(()) }
}

/// Makes sure that guests can be compiled; returns the packages that still have to be installed for it.
fn guest_packages() -> Result<&'static [&'static str]> {
    if Toolchain::find()?.is_some() {
        return Ok(&[]);
    }
    if has("rustup") {
        println!("Adding Rust's {} target (plugins are compiled to WebAssembly):", toolchain::TARGET);
        // Where rustup's server is out of reach this fails, and Debian has what is missing.
        let mut rustup = Command::new("timeout");
        rustup.args(["120", "rustup", "target", "add", toolchain::TARGET]);
        if rustup.status().is_ok_and(|status| status.success()) && Toolchain::find()?.is_some() {
            return Ok(&[]);
        }
        println!("rustup cannot fetch it; Debian's rustc-web and rust-web-src do as well.");
    }
    Ok(if Toolchain::has_linker()? { &["rustc-web", "rust-web-src"] } else { &["rustc-web", "rust-web-src", "lld"] })
}

fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !has("apt-get") {
        bail!("missing here, by the names that Debian gives them: {list}. Install them and run this again");
    }
    if !process::can_be_privileged() {
        bail!("missing: {list}. Run as root: apt-get install {list}");
    }
    println!("Installing by apt: {list}");
    if packages.contains(&"nginx") && Path::new("/run/systemd/system").is_dir() {
        println!("(Debian starts nginx on port 80 once installed; nothing here needs that service.)");
    }
    let apt = || {
        let mut apt = process::privileged("env");
        apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]);
        apt
    };
    process::output(apt().arg("update"))?;
    process::output(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages)).map(drop)
}

fn has(program: &str) -> bool {
    process::find(program).is_some()
}

/// Debian itself, not its kin.
fn is_debian() -> bool {
    std::fs::read_to_string("/etc/os-release").is_ok_and(|text| text.lines().any(|line| line == "ID=debian"))
}

fn library(name: &str) -> bool {
    succeeds("pkg-config", &["--exists", name])
}

fn header(name: &str) -> bool {
    ["/usr/include", "/usr/local/include"].iter().any(|folder| Path::new(folder).join(name).is_file())
}

fn succeeds(program: &str, args: &[&str]) -> bool {
    process::captured(Command::new(program).args(args)).is_ok_and(|output| output.status.success())
}
