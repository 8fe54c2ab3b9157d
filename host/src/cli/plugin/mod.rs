//! `podtap plugin`: what a decoder's file holds, which decoders are found, and what the author of one needs: a crate to
//! begin with, its component, its tests, and a look at what goes in and comes out.
//!
//! Decoders run in the same sandbox and under the same pins as in a replay. What they say of themselves is written by
//! strangers: on its way to a terminal it is escaped, as captured text is.

mod build;
mod inspect;
mod list;
mod new;
mod test;
mod trace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;

use super::{load_config, plugins_flag};
use crate::config::Config;
use crate::decoder::{self, ComponentFile, LoadError, Plugin, Runtime};
use crate::pipeline;

#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {
    /// Make a crate with a decoder of a small text protocol, to begin with
    New {
        /// Name of the decoder: 1 to 32 of a-z, 0-9 and -
        name: String,

        /// Where the crate goes [default: the name]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Compile a decoder's crate, and make NAME.wasm of it
    Build {
        /// The crate
        #[arg(default_value = ".", value_name = "DIR")]
        folder: PathBuf,
    },
    /// Test a decoder on captures: whole, cut, reordered, with losses and from the middle
    Test(test::TestArguments),
    /// Show what went into a decoder and what came out, for one connection of a capture. Shows payload
    Trace {
        /// The decoder (.wasm, .wasm.gz or .wasm.zst)
        file: PathBuf,

        /// The capture (pcap or pcapng)
        #[arg(long, value_name = "FILE")]
        capture: PathBuf,

        /// Which of its connections, from 1 on, in the order of their first payload
        #[arg(long, value_name = "N")]
        connection: Option<usize>,

        /// Configuration file (.yaml, .yml, .toml or .json)
        #[arg(long, env = "PODTAP_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Show what a decoder's file holds
    Inspect {
        /// The decoder (.wasm, .wasm.gz or .wasm.zst)
        file: PathBuf,

        /// Print a JSON object instead of text
        #[arg(long)]
        json: bool,

        /// Configuration file (.yaml, .yml, .toml or .json)
        #[arg(long, env = "PODTAP_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// List every decoder that is found: which are used, and why others are not
    List {
        /// Directory with decoders; may be given several times, replaces those of the configuration
        #[arg(long, value_name = "DIR")]
        plugins: Vec<PathBuf>,

        /// Configuration file (.yaml, .yml, .toml or .json)
        #[arg(long, env = "PODTAP_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

impl PluginCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            PluginCommand::New { name, dir } => new::new(&name, dir.as_deref()),
            PluginCommand::Build { folder } => build::build(&folder).map(|_| ExitCode::SUCCESS),
            PluginCommand::Test(arguments) => arguments.run(),
            PluginCommand::Trace { file, capture, connection, config } => {
                trace::trace(&file, &capture, connection, &load_config(config.as_deref(), &[])?)
            }
            PluginCommand::Inspect { file, json, config } => {
                inspect::inspect(&file, json, load_config(config.as_deref(), &[])?)
            }
            PluginCommand::List { plugins, config } => {
                list::list(&load_config(config.as_deref(), plugins_flag(&plugins).as_slice())?)
            }
        }
    }
}

/// The decoder of a file with its configuration, and what it runs in.
fn load(path: &Path, config: &Config) -> anyhow::Result<(Runtime, Plugin)> {
    let runtime = pipeline::runtime(config)?;
    let look = || {
        let file = ComponentFile::read(path, config.plugins.max_bytes)?;
        decoder::check_pin(&file, &config.plugins)?;
        let mut plugin = runtime.load(&file)?;
        plugin.set_config_of(&config.plugins);
        Ok::<_, LoadError>(plugin)
    };
    let plugin = look().with_context(|| path.display().to_string())?;
    Ok((runtime, plugin))
}
