//! The program `podtap`: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use podtap::cli::Arguments;

fn main() -> ExitCode {
    Arguments::parse().run()
}
