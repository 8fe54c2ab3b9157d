//! Flags that commands share: of those that decode, and of those that publish as well.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::{load_config, paths_flag, plugins_flag, read_config, report_error, word};
use crate::config::{Config, Flag, Loaded, LogLevel, OutputFormat};
use crate::event::Format;
use crate::publish::Colour;

/// What captures are decoded with.
#[derive(Debug, Args)]
pub(super) struct Decoding {
    /// Directory with decoders; may be given several times, replaces those of the configuration
    #[arg(long, value_name = "DIR")]
    plugins: Vec<PathBuf>,

    /// A decoder's file beside those directories, found last; may be given several times
    #[arg(long, value_name = "FILE")]
    plugin: Vec<PathBuf>,

    /// Configuration file (.yaml, .yml, .toml or .json)
    #[arg(long, env = "PODTAP_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Decoding {
    /// The configuration with these flags and `more`; with it the log starts.
    pub(super) fn load(&self, more: Vec<Flag>) -> anyhow::Result<Config> {
        load_config(self.config.as_deref(), &self.flags(more))
    }

    /// As [`Decoding::load`], without the log, and what is to be warned of.
    pub(super) fn load_silently(&self, more: Vec<Flag>) -> anyhow::Result<Loaded> {
        read_config(self.config.as_deref(), &self.flags(more))
    }

    fn flags(&self, mut flags: Vec<Flag>) -> Vec<Flag> {
        flags.extend(plugins_flag(&self.plugins));
        flags.extend(paths_flag("--plugin", "plugins.files", &self.plugin));
        flags
    }
}

#[derive(Debug, Args)]
pub(super) struct Common {
    /// How events are written to standard output or to --output-file
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<OutputFormat>,

    /// Publish an event for each TCP connection too
    #[arg(long)]
    connections: bool,

    /// Write events to a file instead of standard output
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,

    /// Publish to Kafka through these brokers, comma-separated
    #[arg(long, value_name = "HOST:PORT,...")]
    kafka_brokers: Option<String>,

    /// Kafka topic of the events
    #[arg(long, value_name = "NAME")]
    kafka_topic: Option<String>,

    /// How events are encoded for Kafka
    #[arg(long, value_enum, value_name = "FORMAT")]
    kafka_format: Option<Format>,

    #[command(flatten)]
    decoding: Decoding,

    /// Colours in text on standard output
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(super) color: Colour,

    /// Do not print the summary on standard error
    #[arg(long)]
    pub(super) no_summary: bool,

    /// The least that is logged on standard error
    #[arg(long, value_enum, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
}

impl Common {
    /// The configuration with these flags and `more` of the command's own; none where they make no sense, which was said.
    pub(super) fn config(&self, more: Vec<Flag>) -> anyhow::Result<Option<Config>> {
        let mut flags = self.flags();
        flags.extend(more);
        let config = self.decoding.load(flags)?;
        if config.kafka.brokers.is_empty() && (self.kafka_topic.is_some() || self.kafka_format.is_some()) {
            report_error("--kafka-topic and --kafka-format need brokers; add --kafka-brokers or set kafka.brokers");
            return Ok(None);
        }
        Ok(Some(config))
    }

    fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        let mut set = |name, key, value: Option<Value>| {
            flags.extend(value.map(|value| Flag { name, key, value }));
        };
        let path = |path: &PathBuf| Value::from(path.to_string_lossy().into_owned());
        set("--connections", "events.connections", self.connections.then_some(true.into()));
        set("--output", "output.format", self.output.map(word));
        set("--output-file", "output.file", self.output_file.as_ref().map(path));
        set("--kafka-brokers", "kafka.brokers", self.kafka_brokers.as_deref().map(list));
        set("--kafka-topic", "kafka.topic", self.kafka_topic.clone().map(Value::from));
        set("--kafka-format", "kafka.format", self.kafka_format.map(word));
        set("--log-level", "log.level", self.log_level.map(word));
        flags
    }
}

/// A list with commas between.
pub(super) fn list(text: &str) -> Value {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}
