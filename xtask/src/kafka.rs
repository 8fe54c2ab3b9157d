//! `cargo xtask kafka up|down|status`: a real Apache Kafka for development and tests, one process (KRaft: broker and
//! controller in one) on 127.0.0.1.
//!
//! Its jars come from Maven Central. Everything lives in target/kafka: jars, configuration, data, log, and `broker`
//! with the process number and the address of what runs. It starts empty every time.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{self, Running, Signal};
use crate::workspace;

/// Of the jars that are fetched.
pub(crate) const VERSION: &str = "4.3.1";
/// Kafka's own line of slf4j; without a binding it would log nothing.
const SLF4J_VERSION: &str = "1.7.36";

#[derive(clap::Subcommand)]
pub(crate) enum Action {
    /// Start it, unless it runs already, and print its address
    Up {
        /// Port of 127.0.0.1; default: 9092, or any free one where that is taken
        #[arg(long)]
        port: Option<u16>,
    },
    /// Stop it
    Down,
    /// Say whether it runs, and where
    Status,
}

/// Does what was asked on the command line.
pub(crate) fn run(action: &Action) -> Result<()> {
    match action {
        Action::Up { port } => {
            let broker = up(*port, &Extra::default())?;
            println!("Apache Kafka {VERSION} answers at {}", broker.address);
        }
        Action::Down => match running() {
            Some(broker) => {
                down(&broker)?;
                println!("Apache Kafka at {} has been stopped", broker.address);
            }
            None => println!("Apache Kafka does not run"),
        },
        Action::Status => match running() {
            Some(broker) => println!("Apache Kafka answers at {} (process {})", broker.address, broker.process),
            None => println!("Apache Kafka does not run"),
        },
    }
    Ok(())
}

/// A broker that runs.
pub(crate) struct Broker {
    process: u32,
    /// `HOST:PORT`, as a client wants it.
    pub(crate) address: String,
    started_here: bool,
}

/// A broker for as long as a task needs it: stopped when dropped, unless it ran before.
pub(crate) struct Borrowed(pub(crate) Broker);

impl Borrowed {
    /// Takes the broker that runs, or starts one.
    pub(crate) fn borrow() -> Result<Self> {
        up(None, &Extra::default()).map(Self)
    }

    /// Starts one that is nobody else's, on a port that nobody expects it on.
    pub(crate) fn own(extra: &Extra) -> Result<Self> {
        if let Some(broker) = running() {
            bail!("Apache Kafka runs already, at {}: stop it with `cargo xtask kafka down`", broker.address);
        }
        up(Some(process::free_port()?), extra).map(Self)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if self.0.started_here
            && let Err(error) = down(&self.0)
        {
            eprintln!("Apache Kafka could not be stopped: {error:#}");
        }
    }
}

/// Kafka's jars with those of Kafka Streams, as a class path; fetches what is missing.
pub(crate) fn class_path() -> Result<String> {
    fetch_libraries()?;
    Ok(classes(&libraries()))
}

/// Why no broker can be started here; `None` when one can.
pub(crate) fn unavailable() -> Option<&'static str> {
    if process::find("java").is_none() {
        return Some("no Java");
    }
    if !libraries_complete() && process::find("mvn").is_none() {
        return Some("no Maven to fetch Apache Kafka's jars");
    }
    None
}

/// A Java program of Kafka's own, such as its console consumer. Its log goes to target/kafka/tools.log.
pub(crate) fn tool(class: &str) -> Command {
    let mut java = java(&folder(), "256m", "tools.log");
    java.arg(class);
    java
}

/// What a check needs beside the usual.
#[derive(Default)]
pub(crate) struct Extra {
    /// One more listener, as `,NAME://HOST:PORT`.
    pub(crate) listener: String,
    /// More lines of server.properties.
    pub(crate) properties: String,
    /// Arguments to `StorageTool format`.
    pub(crate) format: Vec<String>,
}

/// Has all that a server needs.
pub(crate) fn get_ready() -> Result<()> {
    if let Some(why) = unavailable() {
        bail!("{why}: `cargo xtask setup --kafka` installs what is missing");
    }
    fetch_libraries()
}

fn up(port: Option<u16>, extra: &Extra) -> Result<Broker> {
    if let Some(broker) = running() {
        return match port {
            Some(port) if !broker.address.ends_with(&format!(":{port}")) => {
                bail!("Apache Kafka runs already, at {}: stop it with `cargo xtask kafka down`", broker.address)
            }
            _ => Ok(broker),
        };
    }
    get_ready()?;

    let port = match port {
        Some(port) if process::listens(port) => bail!("port {port} of 127.0.0.1 is taken"),
        Some(port) => port,
        None if !process::listens(9092) => 9092,
        None => process::free_port()?,
    };
    let folder = folder();
    let properties = properties(port, process::free_port()?, &extra.listener) + &extra.properties;
    fs::write(folder.join("server.properties"), properties)?;
    format(&folder, &[&["--standalone".to_owned()], &extra.format[..]].concat())?;

    let broker = start(port)?;
    fs::write(folder.join("broker"), format!("{} {}\n", broker.process, broker.address))?;
    Ok(broker)
}

/// Starts the server, which goes on beyond this program's end.
fn start(port: u16) -> Result<Broker> {
    let folder = folder();
    // A process group of its own: Ctrl-C here is not meant for it.
    let mut running = Running::start(server(&folder, "512m")?.process_group(0))?;
    let process = running.id();
    running
        .wait_until(Duration::from_secs(90), || answers(&folder, port))
        .with_context(|| format!("Apache Kafka does not start, see {}", workspace::short(&log(&folder))))?;
    running.leave();
    Ok(Broker { process, address: format!("127.0.0.1:{port}"), started_here: true })
}

/// The server of a folder, with the data that it has there.
pub(crate) fn server(folder: &Path, heap: &str) -> Result<Command> {
    let mut server = java(folder, heap, "System.out");
    server.args(["kafka.Kafka", "server.properties"]);
    let output = File::create(log(folder))?;
    server.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    Ok(server)
}

/// Whether the server of a folder answers at a port of 127.0.0.1 by now.
pub(crate) fn answers(folder: &Path, port: u16) -> bool {
    process::listens(port) && fs::read_to_string(log(folder)).is_ok_and(|log| log.contains("Kafka Server started"))
}

/// What the server of a folder says.
pub(crate) fn log(folder: &Path) -> PathBuf {
    folder.join("server.log")
}

/// Makes the data of a server anew, by its server.properties.
pub(crate) fn format(folder: &Path, arguments: &[String]) -> Result<()> {
    if folder.join("data").exists() {
        fs::remove_dir_all(folder.join("data"))?;
    }
    let mut format = java(folder, "256m", "tools.log");
    // Any 16 bytes in Base64 do as the cluster's id.
    format.args(["kafka.tools.StorageTool", "format", "-t", "cG9kdGFwLXRlc3RzLTAwMQ", "-c", "server.properties"]);
    process::output(format.args(arguments)).map(drop)
}

fn down(broker: &Broker) -> Result<()> {
    process::send(Signal::Terminate, broker.process)?;
    let start = Instant::now();
    while is_broker(broker.process) {
        if start.elapsed() > Duration::from_secs(20) {
            process::send(Signal::Kill, broker.process)?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    fs::remove_file(folder().join("broker"))?;
    Ok(())
}

/// The broker that an earlier `up` started and that still runs.
fn running() -> Option<Broker> {
    let file = fs::read_to_string(folder().join("broker")).ok()?;
    let (process, address) = file.trim().split_once(' ')?;
    let process = process.parse().ok().filter(|&process| is_broker(process))?;
    Some(Broker { process, address: address.to_owned(), started_here: false })
}

/// Process numbers are used again: only one that runs Kafka's main class is ours. False once it has ended, even while
/// nobody has collected its exit status.
fn is_broker(process: u32) -> bool {
    fs::read(format!("/proc/{process}/cmdline"))
        .is_ok_and(|command| command.split(|&byte| byte == 0).any(|word| word == b"kafka.Kafka"))
}

pub(crate) fn folder() -> PathBuf {
    workspace::target().join("kafka")
}

fn libraries() -> PathBuf {
    folder().join(format!("libraries-{VERSION}"))
}

/// Whether an earlier run copied all jars of today's list.
fn libraries_complete() -> bool {
    fs::read_to_string(libraries().join("complete")).is_ok_and(|copied| copied == project())
}

/// Copies Kafka's jars from Maven Central, by Maven's own cache.
fn fetch_libraries() -> Result<()> {
    if libraries_complete() {
        return Ok(());
    }
    println!("Fetching Apache Kafka {VERSION} from Maven Central (57 MB, once)");
    fs::create_dir_all(libraries())?;
    let pom = folder().join("pom.xml");
    fs::write(&pom, project())?;
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "--file"]).arg(&pom);
    maven.args(["org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies", "-DincludeScope=runtime"]);
    maven.arg(format!("-DoutputDirectory={}", libraries().display()));
    process::output(&mut maven)?;
    fs::write(libraries().join("complete"), project())?;
    Ok(())
}

/// A Maven project that does nothing but depend on Kafka. RocksDB, more than all the rest, is left out: the example of
/// Kafka Streams keeps its state in memory.
fn project() -> String {
    let dependency = |group: &str, artifact: &str, version: &str, exclusions: &str| {
        format!(
            "    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version>{exclusions}</dependency>\n"
        )
    };
    let no_rocksdb = "<exclusions><exclusion><groupId>org.rocksdb</groupId><artifactId>rocksdbjni</artifactId>\
                      </exclusion></exclusions>";
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  \
         <groupId>podtap</groupId><artifactId>kafka</artifactId><version>1</version>\n  <dependencies>\n{}{}{}{}  \
         </dependencies>\n</project>\n",
        dependency("org.apache.kafka", "kafka_2.13", VERSION, ""),
        dependency("org.apache.kafka", "kafka-tools", VERSION, ""),
        dependency("org.apache.kafka", "kafka-streams", VERSION, no_rocksdb),
        dependency("org.slf4j", "slf4j-simple", SLF4J_VERSION, ""),
    )
}

fn properties(port: u16, controller_port: u16, listener: &str) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{listener}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs=data\n\
         num.partitions=3\n\
         offsets.topic.num.partitions=1\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n"
    )
}

/// `java` in a folder with Kafka's jars, tuned for a short life.
fn java(folder: &Path, heap: &str, log: &str) -> Command {
    let mut java = Command::new("java");
    java.current_dir(folder).arg(format!("-Xmx{heap}")).args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    java.arg(format!("-Dorg.slf4j.simpleLogger.logFile={log}"));
    java.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-Dorg.slf4j.simpleLogger.showDateTime=true"]);
    java.arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS");
    java.arg("-cp").arg(classes(&libraries()));
    java
}

fn classes(folder: &Path) -> String {
    format!("{}/*", folder.display())
}
