//! `cargo xtask e2e soak`: does podtap stay as it is while connections come and go for a long time?
//!
//! It captures live what an nginx in a network namespace of its own serves: under many short connections, then under few
//! long ones, in turns. Between turns its memory and its descriptors are looked at. Once it has seen both kinds of turn,
//! neither may grow; and in the end every packet and every byte is in one place, and every request in an event.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::e2e_live::{INTERFACE, Namespaces, SERVER_ADDRESS, client_wrk, start_nginx};
use crate::e2e_outages_traffic::memory_bytes;
use crate::e2e_page::address;
use crate::process::{self, Running, Signal};
use crate::{e2e_nginx, release, sums, workspace};

/// How long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// An executable with its plugins beside it, to check instead of building the release
    #[arg(long)]
    podtap: Option<PathBuf>,
    /// The client's namespace: set by the check itself, which runs in the server's
    #[arg(long, hide = true)]
    client: Option<String>,
}

impl Args {
    pub(crate) fn of(seconds: u64) -> Args {
        Args { seconds, podtap: None, client: None }
    }
}

/// Length of a turn.
const TURN_SECONDS: u64 = 5;
/// What a program of this kind may take more without growing: pages that allocators keep, now here, now there.
const SLACK_BYTES: u64 = 4 << 20;

/// Makes the namespaces and checks in them.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(client) = &args.client {
        return inside(args, client);
    }
    let podtap = args.podtap.clone().map_or_else(release::build, Ok)?;
    let namespaces = Namespaces::make()?;
    let mut check = namespaces.within(&namespaces.server, std::env::current_exe()?);
    check.args(["e2e", "soak", "--client", &namespaces.client, "--seconds", &args.seconds.to_string(), "--podtap"]);
    process::run(check.arg(podtap))
}

fn inside(args: &Args, client: &str) -> Result<()> {
    let podtap = args.podtap.as_ref().context("the outer check names the program")?;
    let folder = workspace::target().join("e2e/soak");
    e2e_nginx::make_site(&folder)?;
    let log = folder.join("podtap.log");
    let mut command = release::command(podtap);
    command.args([
        "run",
        "--interface",
        INTERFACE,
        "--connections",
        "--output",
        "msgpack",
        "--output-file",
        "/dev/null",
    ]);
    command.env("PODTAP_ADMIN_LISTEN", "127.0.0.1:0").env("PODTAP_LOG_FORMAT", "json");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
    let mut podtap = Running::start(&mut command)?;
    let says = |words: &str| fs::read_to_string(&log).is_ok_and(|said| said.contains(words));
    podtap.wait_until(Duration::from_secs(60), || says("\"capturing\""))?;
    let port = process::free_port()?;
    let without_log =
        |configuration: String| configuration.replace("access_log access.log exchanges;", "access_log off;");
    let nginx = start_nginx(&folder, port, without_log)?;
    let url = format!("http://{SERVER_ADDRESS}:{port}/items/1");

    let (begun, mut requests, mut turns) = (Instant::now(), 0, 0);
    let (mut early, mut late) = (None, (0, 0));
    while begun.elapsed() < Duration::from_secs(args.seconds) || turns < 3 {
        let mut wrk = client_wrk(client);
        wrk.args(["-t", "1", "-d", &format!("{TURN_SECONDS}s"), &url]);
        match turns % 2 {
            0 => wrk.args(["-c", "200", "-H", "Connection: close"]),
            _ => wrk.args(["-c", "16"]),
        };
        let said = process::output(&mut wrk)?;
        let line =
            said.lines().find(|line| line.contains("requests in")).context("wrk says how many requests it made")?;
        requests += line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0_u64);
        turns += 1;
        let memory = memory_bytes(podtap.id(), "VmRSS").context("podtap has ended")?;
        let descriptors = fs::read_dir(format!("/proc/{}/fd", podtap.id()))?.count();
        late = (memory, descriptors);
        if turns == 2 {
            early = Some(late);
        }
    }
    nginx.stop()?;
    // The worker leaves its counts about once a second.
    std::thread::sleep(Duration::from_secs(3));
    let metrics = process::output(Command::new("curl").arg("-sf").arg(format!("http://{}/metrics", address(&log)?)))?;
    podtap.stop(Signal::Terminate)?;
    let said = fs::read_to_string(&log)?;
    let see = || format!("see {}", workspace::short(&log));
    let (early, mebibytes) = (early.context("there were turns")?, |bytes: u64| bytes as f64 / 1024.0 / 1024.0);
    println!(
        "soak: {} s, {requests} requests, half of the time each on a connection of its own: {:.1} MiB of memory when both \
         kinds of load had come, {:.1} MiB at the end; {} and {} descriptors",
        begun.elapsed().as_secs(),
        mebibytes(early.0),
        mebibytes(late.0),
        early.1,
        late.1
    );
    ensure!(late.0 <= early.0 + SLACK_BYTES, "its memory grows, {}", see());
    ensure!(late.1 <= early.1, "its descriptors grow, {}", see());
    sums::metrics_add_up(&metrics)?;
    let counts = sums::summary_adds_up(&said)?;
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    ensure!(count("packets dropped by kernel") == 0, "the kernel dropped packets, {}", see());
    // wrk counts what was answered in full in its time; a few more were asked.
    let exchanges = count("exchanges");
    ensure!(
        exchanges >= requests && exchanges <= requests + requests / 50 + 1000,
        "{exchanges} exchanges of {requests}"
    );
    println!("soak: {exchanges} exchanges, every packet and byte in one place, none dropped by the kernel");
    Ok(())
}
