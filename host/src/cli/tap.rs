//! `podtap tap`: events of a running podtap on standard output, as they are made.

use std::process::ExitCode;

use clap::Args;

use super::read::{show, usage};
use crate::filter::Filter;
use crate::publish::Colour;
use crate::read::{Agent, Form, Options, Source};

/// The podtap of this machine, where its admin server listens as the documentation has it.
pub(super) const DEFAULT_AGENT: &str = "http://127.0.0.1:9464";

#[derive(Debug, Args)]
pub(super) struct TapArguments {
    /// The podtap to look at, by the address of its admin server
    #[arg(long, default_value = DEFAULT_AGENT, value_name = "URL")]
    agent: String,

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
}

impl TapArguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        // The agent applies it; what is wrong with it is said here, as by `podtap read`.
        if let Some(Err(error)) = self.filter.as_deref().map(Filter::parse) {
            return Ok(usage(&format!("--filter: {error}")));
        }
        let source = Source::Agent(Agent { url: &self.agent, filter: self.filter.as_deref(), counts: false });
        let options = Options { form: self.output, colour: self.color, filter: None, count: self.count };
        show(&source, &options)
    }
}
