//! Three brokers of a real Apache Kafka as one cluster on 127.0.0.1, each a controller as well (KRaft): for what one broker
//! cannot show, such as a leader that goes away while the others go on.
//!
//! Every topic has three replicas, and a record is acknowledged once two have it. All is in target/kafka/cluster, and
//! starts empty every time. The brokers end with this program.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, Running, Signal};
use crate::{kafka, workspace};

/// Brokers of a cluster.
pub(crate) const BROKERS: usize = 3;

/// The machine may have other things to do.
const PATIENCE: Duration = Duration::from_secs(180);
/// Of each broker. All three are to fit beside builds.
const HEAP: &str = "256m";

/// See the module. Brokers are called by their place, from 0 on; Kafka's ids begin with 1.
pub(crate) struct Cluster {
    brokers: Vec<Broker>,
    outside: Option<String>,
}

struct Broker {
    folder: PathBuf,
    port: u16,
    outside_port: u16,
    /// None while it is down.
    running: Option<Running>,
}

impl Cluster {
    /// Starts one. `outside`: another address of this machine at which it answers too.
    pub(crate) fn start(outside: Option<&str>) -> Result<Cluster> {
        kafka::get_ready()?;
        let folder = kafka::folder().join("cluster");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let ports = ports(3 * BROKERS)?;
        let (inside, rest) = ports.split_at(BROKERS);
        let (outsides, controllers) = rest.split_at(BROKERS);
        let mut cluster = Cluster { brokers: Vec::new(), outside: outside.map(str::to_owned) };
        for (at, (&port, &outside_port)) in inside.iter().zip(outsides).enumerate() {
            let folder = folder.join((at + 1).to_string());
            fs::create_dir_all(&folder)?;
            let outside = outside.map_or_else(String::new, |address| format!(",OUTSIDE://{address}:{outside_port}"));
            fs::write(folder.join("server.properties"), properties(at, port, controllers, &outside))?;
            kafka::format(&folder, &[])?;
            cluster.brokers.push(Broker { folder, port, outside_port, running: None });
        }
        // All at once: a controller alone has no majority.
        for at in 0..BROKERS {
            cluster.begin(at)?;
        }
        for at in 0..BROKERS {
            let begun = Instant::now();
            while !cluster.answers(at)? {
                ensure!(begun.elapsed() < PATIENCE, "{} does not start", cluster.name(at));
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(cluster)
    }

    /// `HOST:PORT` of all, as a client wants them.
    pub(crate) fn addresses(&self) -> String {
        let addresses = self.brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.port));
        addresses.collect::<Vec<_>>().join(",")
    }

    /// The same by the address outside.
    pub(crate) fn outside_addresses(&self) -> Option<String> {
        let outside = self.outside.as_ref()?;
        let addresses = self.brokers.iter().map(|broker| format!("{outside}:{}", broker.outside_port));
        Some(addresses.collect::<Vec<_>>().join(","))
    }

    /// Ends one: without a word, or asked to (SIGTERM), when it first hands over what it leads.
    pub(crate) fn stop(&mut self, at: usize, signal: Signal) -> Result<()> {
        let running = self.brokers[at].running.take().with_context(|| format!("{} is down already", self.name(at)))?;
        running.stop(signal)
    }

    /// Starts one that is down, with its data, at its addresses. It takes its time: see [`Cluster::answers`].
    pub(crate) fn begin(&mut self, at: usize) -> Result<()> {
        let broker = &mut self.brokers[at];
        broker.running = Some(Running::start(&mut kafka::server(&broker.folder, HEAP)?)?);
        Ok(())
    }

    /// Whether one that was begun answers by now; an error where it has ended.
    pub(crate) fn answers(&mut self, at: usize) -> Result<bool> {
        let name = self.name(at);
        let broker = &mut self.brokers[at];
        let Some(running) = &mut broker.running else { bail!("{name} was not started") };
        if !running.is_alive()? {
            bail!("{name} ended, see {}", workspace::short(&kafka::log(&broker.folder)));
        }
        Ok(kafka::answers(&broker.folder, broker.port))
    }

    /// None of them answers anything from now on, while all connections stay open (SIGSTOP).
    pub(crate) fn freeze(&self) -> Result<()> {
        self.send(Signal::Freeze)
    }

    /// They go on (SIGCONT).
    pub(crate) fn thaw(&self) -> Result<()> {
        self.send(Signal::Thaw)
    }

    fn send(&self, signal: Signal) -> Result<()> {
        let running = self.brokers.iter().filter_map(|broker| broker.running.as_ref());
        running.map(Running::id).try_for_each(|process| process::send(signal, process))
    }

    fn name(&self, at: usize) -> String {
        format!("broker {} at port {}", at + 1, self.brokers[at].port)
    }
}

fn properties(at: usize, port: u16, controllers: &[u16], outside: &str) -> String {
    let voters = controllers.iter().enumerate().map(|(at, port)| format!("{}@127.0.0.1:{port}", at + 1));
    format!(
        "process.roles=broker,controller\n\
         node.id={}\n\
         controller.quorum.voters={}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{}{outside}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,OUTSIDE:PLAINTEXT\n\
         inter.broker.listener.name=PLAINTEXT\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs=data\n\
         num.partitions=3\n\
         default.replication.factor=3\n\
         min.insync.replicas=2\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.num.partitions=1\n\
         group.initial.rebalance.delay.ms=0\n\
         # One that was killed is soon known to be dead, and may soon come back under its number.\n\
         broker.session.timeout.ms=3000\n\
         broker.heartbeat.interval.ms=500\n\
         replica.lag.time.max.ms=5000\n\
         # Leaders move when a check says so.\n\
         auto.leader.rebalance.enable=false\n",
        at + 1,
        voters.collect::<Vec<_>>().join(","),
        controllers[at],
    )
}

/// Ports that nobody listens on, and that nobody is given for a connection while a broker is down: Linux takes those from
/// 32768 upwards.
fn ports(count: usize) -> Result<Vec<u16>> {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    let ports: Vec<u16> = (29_092..32_768).filter(is_free).take(count).collect();
    ensure!(ports.len() == count, "no {count} ports of 127.0.0.1 are free between 29092 and 32767");
    Ok(ports)
}
