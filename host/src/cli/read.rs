//! `podtap read`: events of a topic, a file or a pipe on standard output.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::{Flag, load_config, report_error, report_warning};
use crate::publish::{Colour, PublishError};
use crate::read::{self, Form, From, Options, ReadError, Source, Topic};

#[derive(Debug, Args)]
pub(super) struct ReadArguments {
    /// Events in MessagePack or JSON lines; - is standard input
    #[arg(value_name = "FILE", conflicts_with_all = ["brokers", "topic", "follow", "from"])]
    file: Option<PathBuf>,

    /// Read from Kafka through these brokers, comma-separated
    #[arg(long, value_name = "HOST:PORT,...")]
    brokers: Option<String>,

    /// Kafka topic of the events
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,

    /// At the end of the topic, wait for more
    #[arg(long)]
    follow: bool,

    /// Where in the topic to begin; end needs --follow
    #[arg(long, value_enum, default_value_t, value_name = "WHERE")]
    from: From,

    /// How events are written to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Form,

    /// Stop after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// Colours in text
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: Colour,

    /// Configuration file whose section kafka says how to connect (.yaml, .yml, .toml or .json)
    #[arg(long, env = "PODTAP_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ReadArguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        if self.from == From::End && !self.follow {
            return Ok(usage("--from end without --follow reads nothing; add --follow"));
        }
        let config;
        let source = match &self.file {
            Some(file) => Source::File(file),
            None => {
                config = load_config(self.config.as_deref(), &self.flags())?;
                if config.kafka.brokers.is_empty() {
                    return Ok(usage("nothing to read; give a file, - for standard input, or --brokers and --topic"));
                }
                let (kafka, from, follow) = (&config.kafka, self.from, self.follow);
                Source::Topic(Topic { kafka, name: &config.kafka.topic, from, follow })
            }
        };
        let options = Options { form: self.output, colour: self.color, count: self.count };
        match read::read(&source, &options, &mut |problem| report_warning(problem)) {
            Ok(counts) if counts.unreadable == 0 => Ok(ExitCode::SUCCESS),
            Ok(counts) => {
                let records = if counts.unreadable == 1 { "1 record is" } else { "records are" };
                let number = if counts.unreadable == 1 { String::new() } else { format!("{} ", counts.unreadable) };
                report_error(&format!(
                    "{number}{records} no event that can be read; {} events were shown",
                    counts.shown
                ));
                Ok(ExitCode::FAILURE)
            }
            Err(ReadError::Output(PublishError::ReaderGone)) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(error.into()),
        }
    }

    fn flags(&self) -> Vec<Flag> {
        let list = |text: &String| text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect::<Value>();
        let brokers =
            self.brokers.as_ref().map(|text| Flag { name: "--brokers", key: "kafka.brokers", value: list(text) });
        let topic = self.topic.clone().map(|name| Flag { name: "--topic", key: "kafka.topic", value: name.into() });
        brokers.into_iter().chain(topic).collect()
    }
}

/// A command line that makes no sense.
fn usage(message: &str) -> ExitCode {
    report_error(message);
    ExitCode::from(2)
}
