//! `cargo xtask e2e`: podtap against real servers, each check a module of its own.

use anyhow::Result;

use crate::{e2e_kafka, e2e_losses, e2e_nginx};

#[derive(clap::Subcommand)]
pub(crate) enum Check {
    /// The exchanges of nginx under load against its access log
    Nginx(e2e_nginx::Args),
    /// The same capture with packets left out
    Losses(e2e_losses::Args),
    /// What Kafka's consumers read against what podtap writes to a file
    Kafka,
}

/// Runs one check.
pub(crate) fn run(check: &Check) -> Result<()> {
    match check {
        Check::Nginx(args) => e2e_nginx::run(args),
        Check::Losses(args) => e2e_losses::run(args),
        Check::Kafka => e2e_kafka::run(),
    }
}
