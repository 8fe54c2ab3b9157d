//! `podtap read`: events of a topic, a file or a pipe on standard output.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::from_topic::FromTopic;
use super::load_config;
use super::shown::{Shown, usage};
use crate::read::{Source, Topic};

#[derive(Debug, Args)]
pub(super) struct ReadArguments {
    /// Events in MessagePack or JSON lines; - is standard input
    #[arg(value_name = "FILE", conflicts_with_all = ["brokers", "topic", "follow", "from"])]
    file: Option<PathBuf>,

    #[command(flatten)]
    topic: FromTopic,

    #[command(flatten)]
    shown: Shown,

    /// Configuration file whose section kafka says how to connect (.yaml, .yml, .toml or .json)
    #[arg(long, env = "PODTAP_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ReadArguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let filter = match self.shown.filter() {
            Ok(filter) => filter,
            Err(problem) => return Ok(usage(&problem)),
        };
        let config;
        let source = match &self.file {
            Some(file) => Source::File(file),
            None => {
                config = load_config(self.config.as_deref(), &self.topic.flags())?;
                let instead = "nothing to read; give a file, - for standard input";
                if let Some(problem) = self.topic.problem(&config.kafka, instead) {
                    return Ok(usage(&problem));
                }
                let (kafka, from, follow) = (&config.kafka, self.topic.from, self.topic.follow);
                Source::Topic(Topic { kafka, name: &config.kafka.topic, from, follow })
            }
        };
        self.shown.show(&source, filter)
    }
}
