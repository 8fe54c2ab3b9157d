//! `podtap tap`: events of a running podtap on standard output, as they are made.

use std::process::ExitCode;

use clap::Args;

use super::shown::{Shown, usage};
use crate::read::{Agent, Source};

/// The podtap of this machine, where its admin server listens as the documentation has it.
pub(super) const DEFAULT_AGENT: &str = "http://127.0.0.1:19464";

#[derive(Debug, Args)]
pub(super) struct TapArguments {
    /// The podtap to look at, by the address of its admin server
    #[arg(long, default_value = DEFAULT_AGENT, value_name = "URL")]
    agent: String,

    #[command(flatten)]
    shown: Shown,
}

impl TapArguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        // The agent applies it; what is wrong with it is said here.
        if let Err(problem) = self.shown.filter() {
            return Ok(usage(&problem));
        }
        let source = Source::Agent(Agent { url: &self.agent, filter: self.shown.filter.as_deref(), counts: false });
        self.shown.show(&source, None)
    }
}
