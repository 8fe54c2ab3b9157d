//! `podtap top`: what traffic there is, on a terminal.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::common::Decoding;
use super::from_topic::FromTopic;
use super::shown::usage;
use super::tap::DEFAULT_AGENT;
use super::{report_error, report_warning};
use crate::config::{Kafka, Loaded};
use crate::filter::Filter;
use crate::publish::Colour;
use crate::read;
use crate::stop::Stop;
use crate::top::{self, Feed, Screen, Source};

#[derive(Debug, Args)]
pub(super) struct TopArguments {
    /// Capture files (pcap or pcapng), or one file of events; - is events on standard input
    #[arg(value_name = "FILE", conflicts_with_all = ["brokers", "topic", "follow", "from"])]
    files: Vec<PathBuf>,

    #[command(flatten)]
    topic: FromTopic,

    /// Look at the traffic of a podtap that is running, by the address of its admin server
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = DEFAULT_AGENT,
          conflicts_with_all = ["files", "brokers", "topic", "follow", "from", "packet_filter", "speed"])]
    agent: Option<String>,

    /// Show only events that match, in CEL: 'protocol == "http" && duration > duration("100ms")'
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,

    /// Read only packets that match, in libpcap's filter language
    #[arg(long, value_name = "BPF", conflicts_with_all = ["brokers", "topic"])]
    packet_filter: Option<String>,

    /// Let time pass so many times as fast as it did; without it, files are read as fast as can be
    #[arg(long, value_name = "FACTOR", value_parser = speed)]
    speed: Option<f64>,

    /// Colours
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: Colour,

    #[command(flatten)]
    decoding: Decoding,
}

/// More than nothing, and a number.
fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "not a number; 1 is as it happened".to_owned())?;
    if speed > 0.0 && speed.is_finite() {
        Ok(speed)
    } else {
        Err("must be more than 0; 1 is as it happened".to_owned())
    }
}

impl TopArguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        if let Some(Err(error)) = self.filter.as_deref().map(Filter::parse) {
            return Ok(usage(&format!("--filter: {error}")));
        }
        // Without the log: it would be written over what is shown.
        let Loaded { mut config, warnings, .. } = self.decoding.load_silently(self.topic.flags())?;
        config.events.connections = false;
        warnings.iter().for_each(|warning| report_warning(warning));
        let (source, name) = match self.source(&config.kafka) {
            Ok(source) => source,
            Err(message) => return Ok(usage(&message)),
        };
        if !io::stdout().is_terminal() {
            anyhow::bail!("standard output is no terminal; `podtap replay` and `podtap read` write lines");
        }
        let stop = Stop::on_signals(Duration::ZERO).context("signals cannot be listened to")?;
        let coloured = match self.color {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never,
        };
        let feed = Feed { source, config: Arc::new(config), speed: self.speed };
        let problems = top::run(&feed, Screen::new(&name, self.filter.clone(), coloured), &stop).context("terminal")?;
        problems.iter().for_each(|problem| report_error(problem));
        Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Where events come from, and its name.
    fn source(&self, kafka: &Kafka) -> Result<(Source, String), String> {
        if let Some(url) = &self.agent {
            return Ok((Source::Agent(url.clone()), url.clone()));
        }
        let holds_events = |file: &PathBuf| file == Path::new("-") || read::holds_events(file);
        match self.files.as_slice() {
            [] => {
                match self.topic.problem(kafka, "nothing to show; give files, - for events on standard input, --agent")
                {
                    Some(problem) => Err(problem),
                    None => Ok((Source::Topic(self.topic.from, self.topic.follow), format!("topic {}", kafka.topic))),
                }
            }
            [file] if holds_events(file) => {
                if self.packet_filter.is_some() {
                    return Err(format!("--packet-filter: {} holds events; --filter is for them", file.display()));
                }
                let name = if file == Path::new("-") { "standard input".into() } else { file.to_string_lossy() };
                Ok((Source::Events(file.clone()), name.into_owned()))
            }
            files => {
                if let Some(file) = files.iter().find(|file| holds_events(file)) {
                    return Err(format!("{}: events are read from one file alone", file.display()));
                }
                let name = |file: &PathBuf| file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
                let names: Vec<_> = files.iter().map(name).collect();
                Ok((Source::Captures(files.to_vec(), self.packet_filter.clone()), names.join(", ")))
            }
        }
    }
}
