//! `podtap validate`: what would keep a run with this configuration, in this environment, from starting or from doing all of
//! its job. Nothing is captured, and no broker is asked.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{plugins_flag, print, report_error, report_warning, start_log, variables};
use crate::capture::Filter;
use crate::config::Config;
use crate::pipeline::Decoders;
use crate::publish::{Kafka, Waits};

/// LINKTYPE_LINUX_SLL: packets of the pseudo-interface `any`.
const LINUX_SLL: u32 = 113;

#[derive(Debug, Args)]
pub(super) struct ValidateArguments {
    /// Configuration file (.yaml, .yml, .toml or .json)
    file: PathBuf,

    /// Directory with decoders; may be given several times, replaces those of the configuration
    #[arg(long, value_name = "DIR")]
    plugins: Vec<PathBuf>,
}

/// What was found.
#[derive(Default)]
struct Findings {
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl ValidateArguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let flags: Vec<_> = plugins_flag(&self.plugins).into_iter().collect();
        let mut findings = Findings::default();
        match Config::load(Some(&self.file), variables(), &flags) {
            Ok(loaded) => {
                start_log(loaded.config.log);
                findings.warnings = loaded.warnings;
                findings.traffic(&loaded.config);
                findings.decoders(&loaded.config);
                findings.kafka(&loaded.config);
            }
            Err(error) => findings.problems.extend(error.0.iter().map(ToString::to_string)),
        }
        findings.warnings.iter().for_each(|warning| report_warning(warning));
        findings.problems.iter().for_each(|problem| report_error(problem));
        if !findings.problems.is_empty() {
            return Ok(ExitCode::FAILURE);
        }
        print(&format!("{}: ok\n", self.file.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Findings {
    fn traffic(&mut self, config: &Config) {
        let capture = &config.capture;
        if capture.filter.is_empty() {
            return;
        }
        let compiled = Filter::new(&capture.filter).and_then(|mut filter| {
            let on_any = capture.interfaces.iter().any(|name| name == "any");
            if on_any { filter.passes(LINUX_SLL, &[]).map(drop) } else { Ok(()) }
        });
        self.problems.extend(compiled.err().map(|error| format!("capture.filter: {error}")));
    }

    /// Decoders check what the configuration says to them. The file may be for another machine: where a directory is not
    /// here, it is not known which decoders will be.
    fn decoders(&mut self, config: &Config) {
        let absent: Vec<_> = config.plugins.directories.iter().filter(|directory| !directory.is_dir()).collect();
        for directory in &absent {
            let directory = directory.display();
            self.warnings.push(format!(
                "{directory}: not here, so its decoders are not checked; --plugins DIR checks those of another directory"
            ));
        }
        match Decoders::find(config) {
            Ok((decoders, missing)) => {
                self.problems.extend(decoders.problems().iter().cloned());
                let missing = missing.iter().map(ToString::to_string);
                if absent.is_empty() { &mut self.problems } else { &mut self.warnings }.extend(missing);
            }
            Err(error) => self.problems.push(error.to_string()),
        }
    }

    fn kafka(&mut self, config: &Config) {
        let absent = config.kafka.files().filter(|(_, file)| !file.exists());
        let absent: Vec<_> = absent.map(|(key, file)| format!("{key}: {}: not here", file.display())).collect();
        if absent.is_empty() {
            self.problems
                .extend(Kafka::check(&config.kafka, &Waits::recorded(config)).err().map(|error| error.to_string()));
        } else {
            self.warnings.extend(absent);
            self.warnings.push("kafka: not checked without these files".to_owned());
        }
    }
}
