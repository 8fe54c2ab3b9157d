//! Events shown on standard output, as `podtap read` and `podtap tap` do, by the same flags.

use std::process::ExitCode;

use clap::Args;

use super::{report_error, report_warning};
use crate::filter::Filter;
use crate::publish::{Colour, PublishError};
use crate::read::{self, Counts, Form, Options, ReadError, Source};

/// Which events, and how.
#[derive(Debug, Args)]
pub(super) struct Shown {
    /// How events are written to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Form,

    /// Show only events that match, in CEL: 'protocol == "http" && duration > duration("100ms")'
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) filter: Option<String>,

    /// Stop after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// Colours in text
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: Colour,
}

impl Shown {
    /// The filter, or what is wrong with it.
    pub(super) fn filter(&self) -> Result<Option<Filter>, String> {
        self.filter.as_deref().map(Filter::parse).transpose().map_err(|error| format!("--filter: {error}"))
    }

    /// Shows events to the end, those that match where there is a filter.
    pub(super) fn show(&self, source: &Source<'_>, filter: Option<Filter>) -> anyhow::Result<ExitCode> {
        let options = Options { form: self.output, colour: self.color, filter, count: self.count };
        match read::read(source, &options, &mut |problem| report_warning(problem)) {
            Ok(counts) => Ok(verdict(counts)),
            Err(ReadError::Output(PublishError::ReaderGone)) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(error.into()),
        }
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
