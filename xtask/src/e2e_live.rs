//! `cargo xtask e2e live`: does podtap see live what a server in a network namespace of its own serves?
//!
//! ```text
//!  client's namespace: wrk ── veth pair, segments offloaded or not ── server's namespace: nginx, podtap run
//! ```
//!
//! podtap captures there as root, and in the shape of a sidecar: as user 65532 with CAP_NET_RAW alone, from a root file
//! system that is read-only, with one worker and with two. Its events are compared with nginx's access log, with what MariaDB
//! counts and with what Redis counts. A decoder comes while traffic flows; there is more traffic than podtap may decode; the
//! interface is taken away and comes again. At last podtap publishes to a broker on an interface that it captures on: of that
//! nothing may be seen.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::config_map::ConfigMap;
use crate::process::{self, Running, Signal};
use crate::traffic::Nginx;
use crate::{e2e_live_overload, e2e_mysql, e2e_nginx, kafka, release, workspace};

/// Programs that the check needs.
pub(crate) const PROGRAMS: [&str; 8] = ["nginx", "wrk", "curl", "ip", "ethtool", "setpriv", "setcap", "unshare"];

/// Programs of a part of it that is skipped without.
const REDIS: [&str; 3] = ["redis-server", "redis-cli", "redis-benchmark"];

/// How much.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Exchanges of each run, at least
    #[arg(long, default_value_t = 20_000)]
    pub(crate) exchanges: usize,
    /// An executable with its plugins beside it, to check instead of building the release
    #[arg(long)]
    pub(crate) podtap: Option<PathBuf>,
    /// The client's namespace: set by the check itself, which runs in the server's
    #[arg(long, hide = true)]
    client: Option<String>,
}

impl Args {
    pub(crate) fn of(exchanges: usize) -> Args {
        Args { exchanges, podtap: None, client: None }
    }
}

pub(crate) const SERVER_ADDRESS: &str = "10.107.0.1";
const CLIENT_ADDRESS: &str = "10.107.0.2";
/// In the server's namespace.
pub(crate) const INTERFACE: &str = "podtap0";

/// Why it cannot run here, beside programs that are missing.
pub(crate) fn unavailable() -> Option<&'static str> {
    if !process::is_root() {
        return Some("namespaces need root");
    }
    let name = format!("podtap-{}-try", std::process::id());
    match process::captured(ip().args(["netns", "add", &name])) {
        Ok(output) if output.status.success() => {
            let _ = process::captured(ip().args(["netns", "del", &name]));
            None
        }
        _ => Some("network namespaces cannot be made here"),
    }
}

/// Makes the namespaces and checks in them.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(client) = &args.client {
        return inside(args, client);
    }
    let podtap = args.podtap.clone().map_or_else(release::build, Ok)?;
    let namespaces = Namespaces::make()?;
    let mut check = namespaces.within(&namespaces.server, std::env::current_exe()?);
    check.args(["e2e", "live", "--client", &namespaces.client, "--exchanges", &args.exchanges.to_string()]);
    process::run(check.arg("--podtap").arg(&podtap))?;
    match kafka::unavailable() {
        Some(why) => println!("skipped: podtap's own connections to Kafka: {why}"),
        None => own_connections(&podtap)?,
    }
    Ok(())
}

fn ip() -> Command {
    Command::new(process::find("ip").unwrap_or_else(|| "ip".into()))
}

/// Two network namespaces with a veth pair between; removed when dropped.
pub(crate) struct Namespaces {
    pub(crate) server: String,
    pub(crate) client: String,
}

impl Namespaces {
    /// Makes them, with the pair between.
    pub(crate) fn make() -> Result<Namespaces> {
        let name = |side: &str| format!("podtap-{}-{side}", std::process::id());
        let namespaces = Namespaces { server: name("server"), client: name("client") };
        for namespace in [&namespaces.server, &namespaces.client] {
            process::output(ip().args(["netns", "add", namespace]))?;
            process::output(ip().args(["-n", namespace, "link", "set", "lo", "up"]))?;
        }
        link(&namespaces.server, &namespaces.client)?;
        Ok(namespaces)
    }

    /// A command that runs a program in one of them.
    pub(crate) fn within(&self, namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = ip();
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            let _ = process::captured(ip().args(["netns", "del", namespace]));
        }
    }
}

/// The veth pair, with its addresses.
fn link(server: &str, client: &str) -> Result<()> {
    let add = ["-n", server, "link", "add", INTERFACE, "type", "veth", "peer", "name", "podtap1", "netns", client];
    process::output(ip().args(add))?;
    for (namespace, interface, address) in [(server, INTERFACE, SERVER_ADDRESS), (client, "podtap1", CLIENT_ADDRESS)] {
        process::output(ip().args(["-n", namespace, "address", "add", &format!("{address}/24"), "dev", interface]))?;
        process::output(ip().args(["-n", namespace, "link", "set", interface, "up"]))?;
    }
    Ok(())
}

/// A podtap that captures.
pub(crate) struct Podtap {
    pub(crate) process: Running,
    pub(crate) events: PathBuf,
    log: PathBuf,
}

impl Podtap {
    /// Starts it with these options; returns once it captures.
    pub(crate) fn start(mut command: Command, folder: &Path, options: &[&str]) -> Result<Podtap> {
        let (events, log) = (folder.join("events.jsonl"), folder.join("podtap.log"));
        command.args(["run", "--output", "json"]).args(options);
        command.stdin(Stdio::null()).stdout(File::create(&events)?).stderr(File::create(&log)?);
        let mut podtap = Podtap { process: Running::start(&mut command)?, events, log };
        let says = |log: &Path, words: &str| fs::read_to_string(log).is_ok_and(|said| said.contains(words));
        podtap
            .process
            .wait_until(Duration::from_secs(60), || says(&podtap.log, "\"capturing\""))
            .with_context(|| fs::read_to_string(&podtap.log).unwrap_or_default())?;
        Ok(podtap)
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Until it has said it so often.
    pub(crate) fn wait_for(&self, words: &str, times: usize) -> Result<()> {
        let start = Instant::now();
        while self.said().matches(words).count() < times {
            ensure!(start.elapsed() < Duration::from_secs(20), "podtap does not say {words:?}: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Ends it, what it has captured included. Gives its events and what it said.
    fn stop(self) -> Result<(Vec<Value>, String)> {
        let (events, said) = self.stop_with_drops()?;
        ensure!(!said.contains("dropped by kernel"), "the kernel dropped packets:\n{said}");
        Ok((events, said))
    }

    /// As [`Podtap::stop`], but the kernel may have dropped packets.
    pub(crate) fn stop_with_drops(self) -> Result<(Vec<Value>, String)> {
        // Longer than packets wait in the kernel's buffer for company.
        std::thread::sleep(Duration::from_millis(500));
        let Podtap { process, events, log } = self;
        process.stop(Signal::Terminate)?;
        let said = fs::read_to_string(log)?;
        let events = fs::read_to_string(events)?;
        let events: Result<Vec<_>, _> = events.lines().map(serde_json::from_str).collect();
        Ok((events?, said))
    }

    /// How many of its workers have had work to do.
    fn busy_workers(&self) -> Result<usize> {
        let mut busy = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let thread = thread?.path();
            let name = fs::read_to_string(thread.join("comm"))?;
            // Time on a CPU, ns (proc(5)).
            let time = fs::read_to_string(thread.join("schedstat"))?;
            let ns: u64 = time.split(' ').next().and_then(|ns| ns.parse().ok()).context("no time in schedstat")?;
            busy += usize::from(matches!(name.trim(), "podtap" | "podtap-worker-1") && ns > 20_000_000);
        }
        Ok(busy)
    }
}

/// In the server's namespace.
fn inside(args: &Args, client: &str) -> Result<()> {
    let podtap = args.podtap.as_ref().context("the outer check names the program")?;
    let folder = workspace::target().join("e2e/live");
    e2e_nginx::make_site(&folder)?;
    let sidecar = Sidecar::install(podtap)?;
    for offloaded in ["on", "off"] {
        for (interface, exec) in [(INTERFACE, None), ("podtap1", Some(client))] {
            let mut ethtool = exec.map_or_else(|| Command::new("ethtool"), |client| of_client(client, "ethtool"));
            ethtool.args(["-K", interface]);
            process::output(ethtool.args(["tso", offloaded, "gso", offloaded, "gro", offloaded]))?;
        }
        let shapes = [
            ("as root", 1, release::command(podtap)),
            ("as a sidecar", 1, sidecar.command()),
            ("as a sidecar", 2, sidecar.command()),
        ];
        for (shape, workers, mut command) in shapes {
            command.env("PODTAP_CAPTURE_WORKERS", workers.to_string());
            let started = Podtap::start(command, &folder, &["--interface", INTERFACE])?;
            let port = process::free_port()?;
            let nginx = start_nginx(&folder, port, |as_it_is| as_it_is)?;
            e2e_nginx::put_load(&nginx, || client_wrk(client), &format!("{SERVER_ADDRESS}:{port}"), args.exchanges)?;
            let log = nginx.stop()?;
            let (events, busy) = (started.events.clone(), started.busy_workers()?);
            ensure!(busy == workers, "{busy} of {workers} workers have seen packets");
            let (seen, said) = started.stop()?;
            let count = e2e_nginx::compare_texts(&log, &fs::read_to_string(events)?)
                .with_context(|| format!("{shape}, offloads {offloaded}:\n{said}"))?;
            ensure!(
                seen.iter().all(|event| event["vantage"] == "server"),
                "an event whose vantage is not the server's"
            );
            println!(
                "live, {shape}, workers {workers}, offloads {offloaded}: {count} exchanges, the same in nginx's log and in \
                 podtap's events"
            );
        }
    }
    mariadb(podtap, &folder, client)?;
    redis(podtap, &folder, client)?;
    decoder_arrives(podtap, &folder, client)?;
    e2e_live_overload::run(podtap, &folder, client)?;
    (1..=2).try_for_each(|workers| interface_goes_and_comes(podtap, &folder, client, workers))
}

/// nginx on all addresses of its namespace, its configuration changed.
pub(crate) fn start_nginx(folder: &Path, port: u16, change: impl FnOnce(String) -> String) -> Result<Nginx> {
    let everywhere = include_str!("../e2e/nginx.conf").replace("listen 127.0.0.1:", "listen 0.0.0.0:");
    Nginx::start(folder, &change(everywhere), &[("PORT", port)])
}

/// wrk in the client's namespace.
pub(crate) fn client_wrk(client: &str) -> Command {
    of_client(client, "wrk")
}

/// A program in the client's namespace.
pub(crate) fn of_client(client: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = ip();
    command.args(["netns", "exec", client]).arg(program);
    command
}

/// The same for statements: what podtap sees of a MariaDB is what that counts.
fn mariadb(podtap: &Path, folder: &Path, client: &str) -> Result<()> {
    const STATEMENTS: usize = 20_000;
    if let Some(missing) = e2e_mysql::PROGRAMS.into_iter().find(|program| process::find(program).is_none()) {
        println!("skipped: live, MariaDB: no {missing} (`cargo xtask setup --e2e` installs it)");
        return Ok(());
    }
    let server = e2e_mysql::Server::start(&folder.join("mariadb"), "0.0.0.0")?;
    let sysbench = |action| server.sysbench(of_client(client, "sysbench"), SERVER_ADDRESS, "auto", STATEMENTS, action);
    process::output(&mut sysbench("prepare"))?;
    let started = Podtap::start(release::command(podtap), folder, &["--interface", INTERFACE])?;
    let counted = server.counted(|| process::output(&mut sysbench("run")).map(drop))?;
    let events = started.events.clone();
    let (seen, said) = started.stop()?;
    e2e_mysql::compare(&counted, &e2e_mysql::seen(&events)?).with_context(|| said)?;
    server.stop()?;
    println!("live, MariaDB: {} exchanges, as the server counted statements and rows", seen.len());
    Ok(())
}

/// And for commands: an example decoder, and what Redis counts.
fn redis(podtap: &Path, folder: &Path, client: &str) -> Result<()> {
    const COMMANDS: &str = "10000";
    if let Some(missing) = REDIS.into_iter().find(|program| process::find(program).is_none()) {
        println!("skipped: live, Redis: no {missing} (`cargo xtask setup --e2e` installs it)");
        return Ok(());
    }
    let plugins = workspace::target().join("release/example-plugins").display().to_string();
    let (port, data) = (process::free_port()?.to_string(), tempfile::tempdir()?);
    let mut server = Command::new("redis-server");
    server.current_dir(data.path()).args([
        "--port",
        &port,
        "--bind",
        "0.0.0.0",
        "--protected-mode",
        "no",
        "--save",
        "",
    ]);
    let mut server = Running::start(server.stdin(Stdio::null()).stdout(Stdio::null()))?;
    let ask = |words: &[&str]| process::output(Command::new("redis-cli").args(["-p", &port]).args(words));
    server.wait_until(Duration::from_secs(20), || ask(&["ping"]).is_ok_and(|said| said.trim() == "PONG"))?;
    let started = Podtap::start(release::command(podtap), folder, &["--interface", INTERFACE, "--plugins", &plugins])?;
    ask(&["config", "resetstat"])?;
    let mut benchmark = of_client(client, "redis-benchmark");
    benchmark.args(["-h", SERVER_ADDRESS, "-p", &port, "-n", COMMANDS, "-c", "8", "-P", "4", "-q"]);
    process::output(benchmark.args(["-t", "set,get,incr,lpush,rpop,sadd,hset,mset"]))?;
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for line in ask(&["info", "commandstats"])?.lines() {
        let Some((name, counts)) = line.strip_prefix("cmdstat_").and_then(|line| line.split_once(":calls=")) else {
            continue;
        };
        let calls = counts.split(',').next().context("a count")?.parse()?;
        counted.insert(name.replace('|', " ").to_uppercase(), calls);
    }
    // Of the question itself, which did not come by the interface.
    counted.remove("CONFIG RESETSTAT");
    let (events, said) = started.stop()?;
    server.stop(Signal::Terminate)?;
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for event in &events {
        let name = event["operation"].as_str().with_context(|| format!("no operation: {event}"))?;
        *seen.entry(name.to_owned()).or_default() += 1;
    }
    ensure!(seen == counted, "podtap saw {seen:?}, Redis counted {counted:?}:\n{said}");
    println!("live, Redis: {} commands, as the server counted each kind", events.len());
    Ok(())
}

/// podtap as in a pod: another user, one capability, nothing to write to.
struct Sidecar {
    folder: tempfile::TempDir,
}

impl Sidecar {
    fn install(podtap: &Path) -> Result<Sidecar> {
        // Where that user can read it.
        let folder = tempfile::Builder::new().prefix("podtap-sidecar-").tempdir_in("/tmp")?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let program = folder.path().join("podtap");
        fs::copy(podtap, &program)?;
        let plugins = podtap.parent().context("a program lies in a folder")?.join("plugins");
        fs::create_dir(folder.path().join("plugins"))?;
        for file in fs::read_dir(&plugins).with_context(|| plugins.display().to_string())? {
            let file = file?;
            fs::copy(file.path(), folder.path().join("plugins").join(file.file_name()))?;
        }
        process::output(
            Command::new(process::find("setcap").context("no setcap")?).arg("cap_net_raw+ep").arg(&program),
        )?;
        Ok(Sidecar { folder })
    }

    fn command(&self) -> Command {
        // No shell between setpriv and podtap.
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "mount -o remount,bind,ro / && exec \"$@\"", "sidecar"]);
        command.args(["setpriv", "--reuid=65532", "--regid=65532", "--clear-groups", "--bounding-set=-all,+net_raw"]);
        command.arg(self.folder.path().join("podtap"));
        command
    }
}

/// A decoder arrives while traffic flows, in the way in which the kubelet updates a ConfigMap that is mounted: what is
/// asked on connections from then on is decoded.
fn decoder_arrives(podtap: &Path, folder: &Path, client: &str) -> Result<()> {
    const AFTER: usize = 20;
    let plugins = podtap.parent().context("a program lies in a folder")?.join("plugins");
    let mounted = tempfile::tempdir()?;
    let (mut map, decoder) = (ConfigMap::new(mounted.path()), |name| fs::read(plugins.join(name)));
    map.put(&[("mysql.wasm", decoder("mysql.wasm")?)])?;
    let directory = mounted.path().display().to_string();
    let options = ["--interface", INTERFACE, "--plugins", &directory];
    // Without the stock decoders, which are found beside it.
    let program = mounted.path().join("podtap");
    fs::copy(podtap, &program)?;
    let started = Podtap::start(release::command(&program), folder, &options)?;
    let port = process::free_port()?;
    let nginx = start_nginx(folder, port, |as_it_is| as_it_is)?;
    let url = |path: &str| format!("http://{SERVER_ADDRESS}:{port}/items/{path}");
    let mut wrk = client_wrk(client);
    wrk.args(["-t", "1", "-c", "4", "-d", "8s", "-H", "Connection: close", &url("1")]);
    let mut load = wrk.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(fs::metadata(&started.events)?.len() == 0, "there are events before there is a decoder for them");
    map.put(&[("mysql.wasm", decoder("mysql.wasm")?), ("http.wasm", decoder("http.wasm")?)])?;
    started.wait_for("further decoder", 1)?;
    load.wait()?;
    for number in 0..AFTER {
        let mut curl = of_client(client, "curl");
        curl.args(["--silent", "--fail", "--output", "/dev/null"]);
        process::output(curl.arg(url(&format!("after-{number}"))))?;
    }
    let served = nginx.stop()?.lines().count();
    let (events, said) = started.stop()?;
    let path = |event: &Value| event.pointer("/attributes/url.path").and_then(Value::as_str).map(str::to_owned);
    let after = events.iter().filter_map(path).filter(|path| path.starts_with("/items/after-")).count();
    ensure!(after == AFTER, "{after} events of {AFTER} requests after the decoder had come:\n{said}");
    ensure!(events.len() > after && events.len() < served, "{} events of {served} requests:\n{said}", events.len());
    println!(
        "live: a decoder came with a ConfigMap while traffic flowed: {} of {served} requests, all since",
        events.len()
    );
    Ok(())
}

/// The interface is removed while podtap captures, and made again.
fn interface_goes_and_comes(podtap: &Path, folder: &Path, client: &str, workers: usize) -> Result<()> {
    let mut command = release::command(podtap);
    command.env("PODTAP_CAPTURE_WORKERS", workers.to_string());
    let started = Podtap::start(command, folder, &["--interface", INTERFACE])?;
    let server = process::output(ip().args(["netns", "identify"]))?.trim().to_owned();
    process::output(ip().args(["link", "del", INTERFACE]))?;
    started.wait_for("capturing has ended", workers)?;
    link(&server, client)?;
    started.wait_for("captured on again", workers)?;
    let port = process::free_port()?;
    let nginx = start_nginx(folder, port, |as_it_is| as_it_is)?;
    for _ in 0..3 {
        let mut curl = of_client(client, "curl");
        curl.args(["--silent", "--fail"]);
        process::output(curl.arg(format!("http://{SERVER_ADDRESS}:{port}/items/1")))?;
    }
    nginx.stop()?;
    let (events, said) = started.stop()?;
    ensure!(events.len() == 3, "{} events of 3 requests after the interface was back:\n{said}", events.len());
    println!("live, workers {workers}: the interface went and came again, and is captured on again");
    Ok(())
}

/// podtap captures on the interface by which it reaches the broker.
fn own_connections(podtap: &Path) -> Result<()> {
    let folder = workspace::target().join("e2e/live");
    let broker = kafka::Borrowed::borrow()?;
    let brokers = broker.0.address.as_str();
    let topic = format!("podtap-live-{}", std::process::id());
    let options = ["--interface", "lo", "--connections", "--kafka-brokers", brokers, "--kafka-topic", &topic];
    let started = Podtap::start(release::command(podtap), &folder, &options)?;
    let port = process::free_port()?;
    e2e_nginx::make_site(&folder)?;
    let nginx = start_nginx(&folder, port, |as_it_is| as_it_is)?;
    for _ in 0..20 {
        let url = format!("http://127.0.0.1:{port}/items/1");
        process::output(Command::new("curl").args(["--silent", "--fail", &url]))?;
        std::thread::sleep(Duration::from_millis(100));
    }
    nginx.stop()?;
    let (events, said) = started.stop()?;
    let kafka_port: u64 = brokers.rsplit_once(':').context("an address has a port")?.1.parse()?;
    let ports = |event: &Value| {
        let ends = ["/client/port", "/server/port", "/endpoints/0/port", "/endpoints/1/port"];
        ends.map(|end| event.pointer(end).and_then(Value::as_u64))
    };
    let exchanges = events.iter().filter(|event| event.pointer("/attributes/url.path").is_some()).count();
    if let Some(own) = events.iter().find(|event| ports(event).contains(&Some(kafka_port))) {
        bail!("podtap told of its own connection: {own}");
    }
    ensure!(exchanges == 20, "{exchanges} events of 20 requests:\n{said}");
    ensure!(said.contains("own connections"), "podtap saw none of its own connections:\n{said}");
    println!(
        "live: {exchanges} exchanges published to a broker on the same interface, and none of podtap's own connections told"
    );
    Ok(())
}
