//! The command line: flags to settings, a run, an exit code.
//!
//! Each error is one line on standard error that says what, where, and what to do.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use common::Common;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use tracing_subscriber::EnvFilter;

use crate::admin::{Board, Server};
use crate::config::{self, Config, Flag, Loaded, Log, LogFormat, LogLevel, OutputFormat, TrafficChoice};
use crate::log;
use crate::pipeline::{self, PipelineError, Replay, Report};
use crate::publish::{Outputs, PublishError, Traffic, Waits};
use crate::reference;
use crate::stop::Stop;

mod common;
mod from_topic;
mod manual;
mod plugin;
mod read;
mod report;
mod run;
mod shown;
mod tap;
mod top;
mod validate;

/// Input below this is read before a bar would be of use.
const PROGRESS_BAR_BYTES: u64 = 16 << 20;

const EXIT_CODES: &str = "Exit codes: 0, done; 1, the job could not be done, or not wholly; 2, the command line makes no sense. \
    A signal that ends live traffic is no failure, nor are events that wait in the spool for the next run.";

/// podtap reads captured network traffic and publishes one event per request/response exchange.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Capture, and publish the exchanges that are seen, until told to end
    Run(run::RunArguments),
    /// Publish the exchanges of capture files
    Replay(Box<ReplayArguments>),
    /// Show the events of a Kafka topic, a file or a pipe
    Read(Box<read::ReadArguments>),
    /// Show what a running podtap sees, as it sees it
    Tap(tap::TapArguments),
    /// Show what traffic there is, on the terminal: of captures, of events in a file, of a Kafka topic
    Top(Box<top::TopArguments>),
    /// Make a page about captures, or about events in files, to look at in a browser
    Report(Box<report::ReportArguments>),
    /// Check a configuration file, with the environment's variables over it, and the decoders that it is for
    Validate(validate::ValidateArguments),
    /// Look at decoders
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Print a JSON Schema
    Schema {
        /// Of what
        of: SchemaOf,
    },
    /// Write manual pages, one for each command
    Man(manual::ManArguments),
    /// Print what lets a shell complete commands and flags
    Completion(manual::CompletionArguments),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SchemaOf {
    /// A published exchange, in its JSON form
    Event,
    /// The event of a connection (events.connections), in its JSON form
    Connection,
    /// The configuration file
    Config,
}

#[derive(Debug, Args)]
struct ReplayArguments {
    /// Capture files (pcap or pcapng); - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Read only packets that match, in libpcap's filter language
    #[arg(long, value_name = "BPF")]
    filter: Option<String>,

    #[command(flatten)]
    common: Common,
}

impl Arguments {
    /// Does what was asked.
    pub fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Run(arguments) => arguments.run(),
            Command::Replay(arguments) => arguments.run(),
            Command::Read(arguments) => arguments.run(),
            Command::Tap(arguments) => arguments.run(),
            Command::Top(arguments) => arguments.run(),
            Command::Report(arguments) => arguments.run(),
            Command::Validate(arguments) => arguments.run(),
            Command::Plugin(command) => command.run(),
            Command::Schema { of } => print_schema(of),
            Command::Man(arguments) => arguments.run(),
            Command::Completion(arguments) => arguments.run(),
        };
        let code = done.unwrap_or_else(|error| {
            report_error(&format!("{error:#}"));
            ExitCode::FAILURE
        });
        log::flush();
        code
    }
}

/// The one form that errors have.
fn report_error(message: &str) {
    let line = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    say(&format!("podtap: error: {}\n", crate::publish::Printable(&line)));
}

fn report_warning(message: &str) {
    say(&format!("podtap: warning: {}\n", crate::publish::Printable(message)));
}

/// Whole lines, behind what was logged before.
fn say(lines: &str) {
    // Where standard error is closed there is nowhere to say so.
    let _ = log::Stderr.write_all(lines.as_bytes());
}

/// Prints to standard output, whose reader may go at any time.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

/// As [`read_config`]; with it the log starts.
fn load_config(file: Option<&Path>, flags: &[Flag]) -> anyhow::Result<Config> {
    let loaded = read_config(file, flags)?;
    start_log(loaded.config.log);
    for warning in &loaded.warnings {
        report_warning(warning);
    }
    if let Some(fitted) = &loaded.fitted {
        tracing::info!("{fitted}");
    }
    Ok(loaded.config)
}

/// The configuration of a file, the environment and flags, with bounds that fit into the memory there is.
fn read_config(file: Option<&Path>, flags: &[Flag]) -> anyhow::Result<Loaded> {
    let mut loaded = Config::load(file, variables(), flags)?;
    if let Some(limit) = config::memory_limit() {
        loaded.fit(limit);
    }
    Ok(loaded)
}

/// The environment. Variables that are not UTF-8 are none of ours.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Directories of `--plugins`, as a flag sets them.
fn plugins_flag(directories: &[PathBuf]) -> Option<Flag> {
    paths_flag("--plugins", "plugins.directories", directories)
}

fn paths_flag(name: &'static str, key: &'static str, paths: &[PathBuf]) -> Option<Flag> {
    let value: Value = paths.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    (!paths.is_empty()).then_some(Flag { name, key, value })
}

fn print_schema(of: SchemaOf) -> anyhow::Result<ExitCode> {
    let schema = match of {
        SchemaOf::Event => reference::exchange_schema(),
        SchemaOf::Connection => reference::connection_schema(),
        SchemaOf::Config => config::schema(),
    };
    print(&format!("{schema:#}\n"))?;
    Ok(ExitCode::SUCCESS)
}

impl ReplayArguments {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let Some(config) = self.common.config(Vec::new())? else { return Ok(ExitCode::from(2)) };
        if let Some(file) = self.input_to_be_overwritten(&config) {
            anyhow::bail!("{}: both a capture file and the output file; choose another --output-file", file.display());
        }
        let stop = Stop::on_signals(config.delivery.shutdown_grace.0).context("signals cannot be listened to")?;
        let waits = Waits { traffic: self.traffic(&config), stop: stop.clone(), ..Waits::recorded(&config) };
        if waits.traffic == Traffic::Live {
            log::write_aside();
        }
        let board = Board::of(&config);
        let _server = serve(&config, board.as_ref())?;
        let mut outputs = Outputs::open_for(&config, self.common.color, &waits)?;
        let bar = self.progress_bar(&config);
        let mut progress = |bytes| bar.set_position(bytes);
        let request =
            Replay { files: &self.files, filter: self.filter.as_deref(), config: &config, progress: &mut progress };
        let replayed = pipeline::replay_until(&stop, board.as_ref(), request, &mut outputs);
        bar.finish_and_clear();
        conclude(replayed, &mut outputs, &config, self.common.no_summary, || {
            let cut_off = stop.is_requested() && waits.traffic == Traffic::Recorded;
            cut_off.then(|| "ended by a signal before all of the input was read".to_owned())
        })
    }

    fn traffic(&self, config: &Config) -> Traffic {
        match config.delivery.traffic {
            TrafficChoice::Auto if pipeline::is_live(&self.files) => Traffic::Live,
            TrafficChoice::Auto | TrafficChoice::Recorded => Traffic::Recorded,
            TrafficChoice::Live => Traffic::Live,
        }
    }

    /// Opening the output would empty this capture file.
    fn input_to_be_overwritten(&self, config: &Config) -> Option<&PathBuf> {
        overwritten(&self.files, config.output.file.as_ref()?)
    }

    fn progress_bar(&self, config: &Config) -> ProgressBar {
        let format = config.output.effective_format(!config.kafka.brokers.is_empty());
        // Lines that scroll by are progress enough, and would tear the bar apart.
        let lines_on_terminal =
            format != OutputFormat::None && config.output.file.is_none() && io::stdout().is_terminal();
        if lines_on_terminal { ProgressBar::hidden() } else { progress_bar(&self.files) }
    }
}

/// Answers by HTTP what is on the board, where there is one.
fn serve(config: &Config, board: Option<&Board>) -> anyhow::Result<Option<Server>> {
    let started = config.admin.address().zip(board).map(|(address, board)| Server::start(address, board.clone()));
    Ok(started.transpose()?)
}

/// The input that would be overwritten by this output.
fn overwritten<'f>(inputs: &'f [PathBuf], output: &Path) -> Option<&'f PathBuf> {
    let output = output.canonicalize().ok()?;
    inputs.iter().find(|file| file.canonicalize().is_ok_and(|file| file == output))
}

/// A bar where someone looks at it, for input that takes a while; else one that is never drawn.
fn progress_bar(files: &[PathBuf]) -> ProgressBar {
    let sizes = files.iter().map(|file| file.metadata().ok().filter(|data| data.is_file()).map(|data| data.len()));
    let Some(total) = sizes.sum::<Option<u64>>() else { return ProgressBar::hidden() };
    if total <= PROGRESS_BAR_BYTES || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
    let template = "{bar:40} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// The end of a run: what went wrong (`more` than was counted), the summary, and the exit code.
fn conclude(
    done: Result<Report, PipelineError>,
    outputs: &mut Outputs,
    config: &Config,
    no_summary: bool,
    more: impl FnOnce() -> Option<String>,
) -> anyhow::Result<ExitCode> {
    let finished = outputs.finish();
    let (report, problems) = match done {
        Err(error) if is_reader_gone(&error) => return Ok(ExitCode::SUCCESS),
        // What was published before is still worth a summary; the losses follow from the one problem.
        Err(error) => (Report::default(), vec![error.to_string()]),
        Ok(mut report) => {
            let mut problems = std::mem::take(&mut report.problems);
            problems.extend(finished.err().map(|error| error.to_string()));
            problems.extend(undelivered(outputs));
            problems.extend(more());
            (report, problems)
        }
    };
    for problem in &problems {
        report_error(problem);
    }
    if let (Some(left), Some(spool)) = (left_in_spool(outputs), &config.spool.directory) {
        report_warning(&format!("{left} events are left in {}; the next run sends them", spool.display()));
    }
    // Where nothing was read, the problems say all there is to say.
    if !no_summary && (problems.is_empty() || outputs.summary().events() > 0 || report.count("packets") > 0) {
        let table = outputs.summary().table(&report.totals, &report.losses, outputs.delivery());
        // On a terminal the lines of the exchanges stand right above.
        let gap = if io::stderr().is_terminal() { "\n" } else { "" };
        say(&format!("{gap}{table}"));
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The problem that events did not arrive, if any did not.
fn undelivered(outputs: &Outputs) -> Option<String> {
    let delivery = outputs.delivery().filter(|delivery| delivery.failed_total() > 0)?;
    let reasons: Vec<_> = delivery.failed.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    Some(format!(
        "{} events were not delivered ({}); {} were; where the input is a file, replay it again: events keep their ids",
        delivery.failed_total(),
        reasons.join(", "),
        delivery.delivered
    ))
}

fn left_in_spool(outputs: &Outputs) -> Option<u64> {
    outputs.delivery()?.spool.map(|spool| spool.left).filter(|&left| left > 0)
}

/// The word of a choice, as configuration files have it.
fn word(choice: impl serde::Serialize) -> Value {
    serde_json::to_value(choice).unwrap_or_default()
}

fn is_reader_gone(error: &PipelineError) -> bool {
    matches!(error, PipelineError::Publish(PublishError::ReaderGone))
}

/// The log goes to standard error. Libraries only get to say what is wrong, unless everything is asked for.
fn start_log(log: Log) {
    let level = log.level.name();
    let filter = match log.level {
        LogLevel::Trace | LogLevel::Error => level.to_owned(),
        _ => format!("warn,podtap={level},podtap_stream={level}"),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).with_writer(|| log::Stderr);
    let text = match log.format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    // An error means that a subscriber is there already, which then gets the log.
    let _ = match text {
        true => subscriber.with_target(false).try_init().map_err(drop),
        false => subscriber.json().flatten_event(true).try_init().map_err(drop),
    };
}
