//! `podtap report`: a page about captures, or about events in files.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use super::common::Decoding;
use super::shown::usage;
use super::{overwritten, print, progress_bar, report_error};
use crate::filter::Filter;
use crate::pipeline::{self, Decoders, Replay};
use crate::publish::Outputs;
use crate::read::{self, Source};
use crate::report::Page;
use crate::view::{Count, Filtered, Shared};

#[derive(Debug, Args)]
pub(super) struct ReportArguments {
    /// Capture files (pcap or pcapng), or files of events in MessagePack or JSON lines
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Where the page (HTML) is written; - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Only events that match, in CEL: 'protocol == "http" && duration > duration("100ms")'
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,

    /// Read only packets that match, in libpcap's filter language
    #[arg(long, value_name = "BPF")]
    packet_filter: Option<String>,

    #[command(flatten)]
    decoding: Decoding,
}

impl ReportArguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        if let Some(file) = overwritten(&self.files, &self.output) {
            anyhow::bail!("{}: both read and written; choose another --output", file.display());
        }
        let (events, captures): (Vec<_>, Vec<_>) =
            self.files.iter().cloned().partition(|file| read::holds_events(file));
        if let (Some(_), Some(file)) = (&self.packet_filter, events.first()) {
            return Ok(usage(&format!("--packet-filter: {} holds events; --filter is for them", file.display())));
        }
        let filter = match self.filter.as_deref().map(Filter::parse).transpose() {
            Ok(filter) => filter.map(Arc::new),
            Err(error) => return Ok(usage(&format!("--filter: {error}"))),
        };
        let mut into = Filtered { view: Shared::default(), filter };
        let mut problems = Vec::new();
        if !captures.is_empty() {
            problems.extend(self.replay(&captures, into.clone())?);
        }
        for file in &events {
            problems.extend(read_events(file, &mut into));
        }
        let view = into.view;
        let names: Vec<_> = self.files.iter().map(|file| name(file)).collect();
        let page = Page { names: &names, view: &view.lock(), problems: &problems, live: None }.html();
        self.write(&page)?;
        problems.iter().for_each(|problem| report_error(problem));
        if self.output != Path::new("-") {
            let exchanges = Count(view.lock().traffic().exchanges);
            let _ = writeln!(io::stderr(), "{}: {exchanges} exchanges", self.output.display());
        }
        Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Decodes captures into the view; what is wrong with one of them is a problem.
    fn replay(&self, files: &[PathBuf], into: Filtered) -> anyhow::Result<Vec<String>> {
        let mut config = self.decoding.load(Vec::new())?;
        let decoders = Decoders::load(&config)?;
        // After the decoders, without which there is nothing to see: services that are down show by their connections.
        config.events.connections = true;
        let mut outputs = Outputs::default();
        let view = into.view.clone();
        outputs.add(into);
        let bar = progress_bar(files);
        let mut progress = |bytes| bar.set_position(bytes);
        let request = Replay { files, filter: self.packet_filter.as_deref(), config: &config, progress: &mut progress };
        let replayed = pipeline::replay_with(&decoders, request, &mut outputs);
        bar.finish_and_clear();
        let mut report = replayed?;
        let problems = std::mem::take(&mut report.problems);
        view.lock().set_report(report);
        Ok(problems)
    }

    fn write(&self, page: &str) -> anyhow::Result<()> {
        if self.output == Path::new("-") {
            return print(page);
        }
        fs::write(&self.output, page).with_context(|| format!("{}: cannot be written", self.output.display()))
    }
}

/// Takes the events of a file into the view.
fn read_events(file: &Path, into: &mut Filtered) -> Vec<String> {
    let mut problems = Vec::new();
    let mut problem = |text: &str| problems.push(text.to_owned());
    match read::read_into(&Source::File(file), into, None, &mut problem) {
        Ok(counts) => {
            let mut view = into.view.lock();
            view.left_out().unreadable += counts.unreadable;
            view.left_out().unfiltered += counts.unfiltered;
        }
        Err(error) => problems.push(error.to_string()),
    }
    problems
}

/// A file's name without its folder, which says nothing about traffic.
fn name(file: &Path) -> String {
    match file.file_name() {
        _ if file == Path::new("-") => "standard input".to_owned(),
        Some(name) => name.to_string_lossy().into_owned(),
        None => file.display().to_string(),
    }
}
