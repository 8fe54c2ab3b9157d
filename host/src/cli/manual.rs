//! `podtap man` and `podtap completion`: what is installed beside the program, made from the command line itself.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Arguments, print};

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// Folder for the pages; made where it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct CompletionArguments {
    /// For which shell
    shell: Shell,
}

impl ManArguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let written =
            write_pages(&self.out).with_context(|| format!("{}: pages cannot be written", self.out.display()))?;
        let _ = writeln!(io::stderr(), "{}: {written} pages", self.out.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// A page for the program and one for each of its commands, in section 1; returns how many.
fn write_pages(folder: &Path) -> io::Result<usize> {
    fs::create_dir_all(folder)?;
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let mut written = 0;
    let mut left = vec![command];
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
        // `podtap-plugin-new`, as pages of subcommands are called; built, commands know their parents.
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        fs::write(folder.join(format!("{name}.1")), page)?;
        written += 1;
    }
    Ok(written)
}

impl CompletionArguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "podtap", &mut script);
        print(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}
