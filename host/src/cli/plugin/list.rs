//! `podtap plugin list`: every decoder that is found, and what becomes of it.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::cli::{print, report_error};
use crate::config::Config;
use crate::decoder::{self, Catalog, Fate, Found, MAX_PLUGINS};
use crate::pipeline::{self, PipelineError};
use crate::publish::Printable;

pub(super) fn list(config: &Config) -> anyhow::Result<ExitCode> {
    let runtime = pipeline::runtime(config)?;
    let path = decoder::search_path(&config.plugins.directories);
    let mut catalog = Catalog::new(path.clone(), config.plugins.clone());
    // The list shows what is bad.
    let _ = catalog.look(&runtime);
    let missing = config.plugins.directories.iter().filter(|directory| !directory.is_dir());
    let missing = missing.map(|directory| format!("{}: is not a directory of plugins", directory.display()));
    let mut problems: Vec<_> = missing.chain(catalog.pin_problems()).collect();
    let lines: Vec<_> = catalog.files().map(|(found, fate)| Line::new(found, &fate)).collect();
    if lines.is_empty() {
        problems.push(PipelineError::NoDecoder(path).to_string());
    } else {
        print(&table(&lines))?;
        let refused = lines.iter().filter(|line| line.cells[0] == REFUSED).count();
        if refused > 0 {
            problems.push(format!("{refused} of {} files cannot be used as decoders; the list says why", lines.len()));
        }
    }
    let plugins = catalog.plugins().len();
    if plugins > MAX_PLUGINS {
        problems.push(format!("{plugins} decoders found; the first {MAX_PLUGINS} are used"));
    }
    problems.iter().for_each(|problem| report_error(problem));
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const USED: &str = "used";
const REPLACED: &str = "replaced";
const REFUSED: &str = "refused";

/// A file in the list.
struct Line {
    /// State, decoder, digest, file.
    cells: [String; 4],
    /// Why it is not used.
    reason: Option<String>,
}

impl Line {
    fn new(found: &Found, fate: &Fate<'_>) -> Line {
        let (state, reason) = match fate {
            Fate::Used => (USED, None),
            Fate::Replaced(by) => (REPLACED, Some(format!("by {}, which is found later", by.display()))),
            Fate::Refused(error) => (REFUSED, Some(error.to_string())),
        };
        let label = found.label.as_deref().unwrap_or("-").to_owned();
        let digest = found.digest.map_or("-".to_owned(), |digest| digest.to_string());
        Line { cells: [state.to_owned(), label, digest, found.path.display().to_string()], reason }
    }
}

/// A line a file, and below it why it is not used.
fn table(lines: &[Line]) -> String {
    let header = Line { cells: ["state", "decoder", "sha256", "file"].map(str::to_owned), reason: None };
    let lines = || std::iter::once(&header).chain(lines);
    let width = |column: usize| lines().map(|line| line.cells[column].len()).max().unwrap_or_default();
    let [state_width, decoder_width, digest_width] = [width(0), width(1), width(2)];
    let mut out = String::new();
    for Line { cells: [state, decoder, digest, file], reason } in lines() {
        // Writing to a String cannot fail.
        let _ = write!(out, "{state:<state_width$}  {decoder:<decoder_width$}  {digest:<digest_width$}  ");
        let _ = writeln!(out, "{}", Printable(file));
        if let Some(reason) = reason {
            let _ = writeln!(out, "{:state_width$}  {}", "", Printable(reason));
        }
    }
    out
}
