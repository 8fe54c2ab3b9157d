//! Everything that is done to podtap: set-up, demo, tests, plugins, Kafka. `cargo xtask help` lists it.

mod bench;
mod bench_flame;
mod bench_instructions;
mod bench_kafka;
mod bench_live;
mod bench_scaling;
mod bench_workloads;
mod captures;
mod cgroup;
mod compiler;
mod config_map;
mod demo;
mod drivers;
mod e2e;
mod e2e_chaos;
mod e2e_consumers;
mod e2e_deploy;
mod e2e_kafka;
mod e2e_live;
mod e2e_live_overload;
mod e2e_losses;
mod e2e_lossy;
mod e2e_memory;
mod e2e_mongodb;
mod e2e_mysql;
mod e2e_mysql_drivers;
mod e2e_nginx;
mod e2e_outages;
mod e2e_outages_traffic;
mod e2e_page;
mod e2e_security;
mod e2e_zeek;
mod examples;
mod fuzz;
mod hostile_traffic;
mod kafka;
mod kafka_cluster;
mod memcached;
mod mongodb;
mod network_cut;
mod plugins;
mod process;
mod release;
mod sanitize;
mod setup;
mod soak;
mod soak_page;
mod soak_samples;
mod soak_traffic;
mod sums;
mod supply_chain;
mod test;
mod traffic;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Everything that is done to podtap
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Install what is missing to build podtap
    Setup(setup::Args),
    /// Build podtap and show what it does
    Demo(demo::Args),
    /// Check everything: format, lints, tests, end-to-end checks
    Test(test::Args),
    /// Build the decoder plugins and put them beside podtap's executables
    Plugins(plugins::Args),
    /// Run a real Apache Kafka on 127.0.0.1
    #[command(subcommand)]
    Kafka(kafka::Action),
    /// Check podtap against real servers
    #[command(subcommand)]
    E2e(e2e::Check),
    /// Watch live traffic for a long time while connections, decoders and brokers come and go
    Soak(soak::Args),
    /// Make the shipped captures anew from a real nginx and real clients
    Captures(captures::Args),
    /// Check the example decoders in C and JavaScript against a capture of a real memcached
    Examples(examples::Args),
    /// Search for inputs that break podtap
    Fuzz(fuzz::Args),
    /// Run tests under Miri and AddressSanitizer, with a nightly compiler
    Sanitize(sanitize::Args),
    /// Measure podtap's CPU time against libpcap and tshark
    Bench(bench::Args),
    /// Check licences, sources, versions and advisories of what podtap is made of
    Deny,
    /// Write what a release is made of, as a software bill of materials (CycloneDX)
    Sbom(supply_chain::SbomArgs),
}

fn main() -> ExitCode {
    let success = |()| ExitCode::SUCCESS;
    let done = match Task::parse() {
        Task::Setup(args) => setup::run(args).map(success),
        Task::Demo(args) => demo::run(&args).map(success),
        Task::Test(args) => test::run(&args),
        Task::Plugins(args) => plugins::run(args).map(success),
        Task::Kafka(action) => kafka::run(&action).map(success),
        Task::E2e(check) => e2e::run(&check).map(success),
        Task::Soak(args) => soak::run(&args).map(success),
        Task::Captures(args) => captures::run(&args).map(success),
        Task::Examples(args) => examples::run(&args).map(success),
        Task::Fuzz(args) => fuzz::run(&args).map(success),
        Task::Sanitize(args) => sanitize::run(&args).map(success),
        Task::Bench(args) => bench::run(&args).map(success),
        Task::Deny => supply_chain::deny().map(success),
        Task::Sbom(args) => supply_chain::sbom(&args).map(success),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
