//! `cargo xtask e2e`: podtap against real servers, each check a module of its own.

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    e2e_chaos, e2e_consumers, e2e_deploy, e2e_kafka, e2e_live, e2e_losses, e2e_memory, e2e_mongodb, e2e_mysql,
    e2e_nginx, e2e_outages, e2e_page, e2e_security, soak,
};

#[derive(clap::Subcommand)]
pub(crate) enum Check {
    /// The exchanges of nginx under load against its access log
    Nginx(e2e_nginx::Args),
    /// The same capture with packets left out
    Losses(e2e_losses::Args),
    /// The statements of MariaDB under load against its own counters
    Mysql(e2e_mysql::Args),
    /// What podtap sees live, in network namespaces
    Live(e2e_live::Args),
    /// `cargo xtask soak` for half a minute, with brokers that stay
    Soak {
        /// An executable with its plugins beside it, to check instead of building the release
        #[arg(long)]
        podtap: Option<PathBuf>,
    },
    /// The memory of a pod under hostile traffic and hostile decoders, in a control group
    Memory(e2e_memory::Args),
    /// Damaged captures, clocks that jump, no descriptors, no CPU time, decoders that are gone, a Kafka that talks nonsense
    Chaos(e2e_chaos::Args),
    /// What Kafka's consumers read against what podtap writes to a file
    Kafka,
    /// What arrives at Kafka while brokers are killed or cut off, disks are full, and podtap is killed
    Outages(e2e_outages::Args),
    /// TLS, client certificates, SASL and tokens with a real Apache Kafka
    Security(e2e_security::Args),
    /// The example consumers of deploy/kafka, and what docs/consumers.md shows, against podtap's own file
    Consumers,
    /// The commands of MongoDB drivers against their own command monitoring
    Mongodb(e2e_mongodb::Args),
    /// The pages of `podtap report` and of a running podtap in a browser: accessibility, pictures, growth
    Page(e2e_page::Args),
    /// What is in deploy/: manifests, chart, unit, and the configurations in them
    Deploy(e2e_deploy::Args),
}

/// Runs one check.
pub(crate) fn run(check: &Check) -> Result<()> {
    match check {
        Check::Nginx(args) => e2e_nginx::run(args),
        Check::Losses(args) => e2e_losses::run(args),
        Check::Mysql(args) => e2e_mysql::run(args),
        Check::Live(args) => e2e_live::run(args),
        Check::Soak { podtap } => soak::run(&soak::Args::short(podtap.clone())),
        Check::Memory(args) => e2e_memory::run(args),
        Check::Chaos(args) => e2e_chaos::run(args),
        Check::Kafka => e2e_kafka::run(),
        Check::Outages(args) => e2e_outages::run(args),
        Check::Security(args) => e2e_security::run(args),
        Check::Consumers => e2e_consumers::run(),
        Check::Mongodb(args) => e2e_mongodb::run(args),
        Check::Page(args) => e2e_page::run(args),
        Check::Deploy(args) => e2e_deploy::run(args),
    }
}
