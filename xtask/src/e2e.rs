//! `cargo xtask e2e`: podtap against real servers, each check a module of its own.

use anyhow::Result;

use crate::{e2e_deploy, e2e_kafka, e2e_losses, e2e_mongodb, e2e_mysql, e2e_nginx};

#[derive(clap::Subcommand)]
pub(crate) enum Check {
    /// The exchanges of nginx under load against its access log
    Nginx(e2e_nginx::Args),
    /// The same capture with packets left out
    Losses(e2e_losses::Args),
    /// The statements of MariaDB under load against its own counters
    Mysql(e2e_mysql::Args),
    /// What Kafka's consumers read against what podtap writes to a file
    Kafka,
    /// The commands of a MongoDB driver against its own command monitoring
    Mongodb,
    /// What is in deploy/: manifests, chart, unit, and the configurations in them
    Deploy(e2e_deploy::Args),
}

/// Runs one check.
pub(crate) fn run(check: &Check) -> Result<()> {
    match check {
        Check::Nginx(args) => e2e_nginx::run(args),
        Check::Losses(args) => e2e_losses::run(args),
        Check::Mysql(args) => e2e_mysql::run(args),
        Check::Kafka => e2e_kafka::run(),
        Check::Mongodb => e2e_mongodb::run(),
        Check::Deploy(args) => e2e_deploy::run(args),
    }
}
