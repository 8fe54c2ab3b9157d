//! `podtap read`: events of a topic, a file or a pipe on standard output.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::from_topic::FromTopic;
use super::{load_config, report_error, report_warning};
use crate::filter::Filter;
use crate::publish::{Colour, PublishError};
use crate::read::{self, Counts, Form, Options, ReadError, Source, Topic};

#[derive(Debug, Args)]
pub(super) struct ReadArguments {
    /// Events in MessagePack or JSON lines; - is standard input
    #[arg(value_name = "FILE", conflicts_with_all = ["brokers", "topic", "follow", "from"])]
    file: Option<PathBuf>,

    #[command(flatten)]
    topic: FromTopic,

    /// How events are written to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Form,

    /// Show only events that match, in CEL: 'protocol == "http" && duration > duration("100ms")'
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,

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
        let filter = match self.filter.as_deref().map(Filter::parse).transpose() {
            Ok(filter) => filter,
            Err(error) => return Ok(usage(&format!("--filter: {error}"))),
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
        let options = Options { form: self.output, colour: self.color, filter, count: self.count };
        show(&source, &options)
    }
}

/// Shows events to the end.
pub(super) fn show(source: &Source<'_>, options: &Options) -> anyhow::Result<ExitCode> {
    match read::read(source, options, &mut |problem| report_warning(problem)) {
        Ok(counts) => Ok(verdict(counts)),
        Err(ReadError::Output(PublishError::ReaderGone)) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
    }
}

/// What was left out is said, and is a failure.
fn verdict(counts: Counts) -> ExitCode {
    let Counts { shown, unreadable, unfiltered, lost } = counts;
    if lost > 0 {
        report_warning(&format!("{lost} events were not read quickly enough and are not here"));
    }
    let records = |count: u64| if count == 1 { "1 record".to_owned() } else { format!("{count} records") };
    if unreadable > 0 {
        let are = if unreadable == 1 { "is" } else { "are" };
        report_error(&format!("{} {are} no event that can be read; {shown} events were shown", records(unreadable)));
    }
    if unfiltered > 0 {
        report_error(&format!("the filter could not be applied to {}, which were left out", records(unfiltered)));
    }
    if unreadable + unfiltered == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A command line that makes no sense.
pub(super) fn usage(message: &str) -> ExitCode {
    report_error(message);
    ExitCode::from(2)
}
