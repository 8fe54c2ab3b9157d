//! `podtap run`: captures until it is told to end.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::common::{Common, list};
use super::conclude;
use crate::capture::Live;
use crate::config::{Config, Flag};
use crate::decoder::Cache;
use crate::pipeline::{self, Decoders};
use crate::privileges;
use crate::publish::Outputs;
use crate::stop::Stop;

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// Network interfaces, comma-separated; any is all of them
    #[arg(short, long, value_name = "NAME,...")]
    interface: Option<String>,

    /// Capture only packets that match, in libpcap's filter language
    #[arg(long, value_name = "BPF")]
    filter: Option<String>,

    #[command(flatten)]
    common: Common,
}

impl RunArguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let Some(config) = self.common.config(self.flags())? else { return Ok(ExitCode::from(2)) };
        let stop = Stop::on_signals(Duration::from_secs(10)).context("signals cannot be listened to")?;
        // With the rights that it takes; from then on without.
        let live = Live::open(&config.capture)?;
        for (measure, came_of_it) in privileges::give_up(&writable(&config)) {
            match came_of_it {
                Ok(words) => tracing::info!("{measure}: {words}"),
                Err(words) => tracing::warn!("{measure}: not in effect: {words}"),
            }
        }
        let mut decoders = Decoders::load(&config)?;
        decoders.watch(&config);
        let mut outputs = Outputs::open(&config, self.common.color)?;
        let interfaces: Vec<_> = live.open_interfaces().collect();
        tracing::info!(interfaces = interfaces.join(","), "capturing");
        let done = pipeline::run(&decoders, live, &stop, &config, &mut outputs);
        conclude(done, &mut outputs, self.common.no_summary)
    }

    fn flags(&self) -> Vec<Flag> {
        let interfaces = self.interface.as_deref().map(|names| ("--interface", "capture.interfaces", list(names)));
        let filter = self.filter.as_deref().map(|filter| ("--filter", "capture.filter", Value::from(filter)));
        interfaces.into_iter().chain(filter).map(|(name, key, value)| Flag { name, key, value }).collect()
    }
}

/// Where podtap writes, but for what is open by then.
fn writable(config: &Config) -> Vec<PathBuf> {
    let parent =
        |file: &PathBuf| file.parent().filter(|parent| *parent != Path::new("")).map_or(".".into(), Path::to_owned);
    let mut writable: Vec<_> = config.output.file.as_ref().map(parent).into_iter().collect();
    if config.plugins.cache {
        // Made now, while that may be done.
        writable.extend(Cache::of_this_user().folder().map(Path::to_owned));
    }
    writable
}
