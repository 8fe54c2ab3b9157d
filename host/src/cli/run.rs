//! `podtap run`: captures until it is told to end.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::common::{Common, list};
use super::{conclude, serve};
use crate::admin::Board;
use crate::capture::Live;
use crate::config::{Config, Flag, TrafficChoice};
use crate::decoder::Cache;
use crate::log;
use crate::pipeline::{self, Decoders};
use crate::privileges;
use crate::publish::{Outputs, Traffic, Waits};
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
        let stop = Stop::on_signals(config.delivery.shutdown_grace.0).context("signals cannot be listened to")?;
        // With the rights that it takes; from then on without.
        let lives = Live::open(&config.capture)?;
        let measures = privileges::give_up(&writable(&config));
        log::write_aside();
        for (measure, came_of_it) in measures {
            match came_of_it {
                Ok(words) => tracing::info!("{measure}: {words}"),
                Err(words) => tracing::warn!("{measure}: not in effect: {words}"),
            }
        }
        let board = Board::of(&config);
        let _server = serve(&config, board.as_ref())?;
        let decoders = Decoders::load_and_watch(&config)?;
        let traffic = match config.delivery.traffic {
            TrafficChoice::Auto | TrafficChoice::Live => Traffic::Live,
            TrafficChoice::Recorded => Traffic::Recorded,
        };
        let waits = Waits { traffic, stop: stop.clone(), ..Waits::recorded(&config) };
        let mut outputs = Outputs::open_for(&config, self.common.color, &waits)?;
        let interfaces: Vec<_> = lives.iter().take(1).flat_map(Live::open_interfaces).collect();
        tracing::info!(interfaces = interfaces.join(","), workers = lives.len(), "capturing");
        let done = pipeline::run(&decoders, lives, &stop, board.as_ref(), &config, &mut outputs);
        conclude(done, &mut outputs, &config, self.common.no_summary, || None)
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
    // Made now, while that may be done; where it cannot be, whoever needs it says so.
    writable.extend(config.spool.directory.clone().inspect(|folder| drop(std::fs::create_dir_all(folder))));
    if config.plugins.cache {
        writable.extend(Cache::of_this_user().folder().map(Path::to_owned));
    }
    writable
}
