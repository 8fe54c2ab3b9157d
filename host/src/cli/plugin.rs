//! `podtap plugin`: what a decoder's file holds, and which decoders are found.
//!
//! Decoders are compiled and asked what they are, in the same sandbox and under the same pins as in a replay. What they
//! say of themselves is written by strangers: on its way to a terminal it is escaped, as captured text is.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use serde_json::{Value, json};

use super::{load_config, plugins_flag, print, report_error};
use crate::config::Config;
use crate::decoder::{self, Catalog, ComponentFile, Fate, Found, LoadError, MAX_PLUGINS, Packing, Plugin, ValueKind};
use crate::pipeline::{self, PipelineError};
use crate::publish::{Bytes, DisplayDuration, Printable};

#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {
    /// Show what a decoder's file holds
    Inspect {
        /// The decoder (.wasm, .wasm.gz or .wasm.zst)
        file: PathBuf,

        /// Print a JSON object instead of text
        #[arg(long)]
        json: bool,

        /// Configuration file (.yaml, .yml, .toml or .json)
        #[arg(long, env = "PODTAP_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// List every decoder that is found: which are used, and why others are not
    List {
        /// Directory with decoders; may be given several times, replaces those of the configuration
        #[arg(long, value_name = "DIR")]
        plugins: Vec<PathBuf>,

        /// Configuration file (.yaml, .yml, .toml or .json)
        #[arg(long, env = "PODTAP_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

impl PluginCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            PluginCommand::Inspect { file, json, config } => inspect(&file, json, load_config(config.as_deref(), &[])?),
            PluginCommand::List { plugins, config } => {
                list(&load_config(config.as_deref(), plugins_flag(&plugins).as_slice())?)
            }
        }
    }
}

fn inspect(path: &Path, as_json: bool, mut config: Config) -> anyhow::Result<ExitCode> {
    // Else the time to compile it would be that of reading it back.
    config.plugins.cache = false;
    let runtime = pipeline::runtime(&config)?;
    let look = || {
        let file = ComponentFile::read(path, config.plugins.max_bytes)?;
        decoder::check_pin(&file, &config.plugins)?;
        let plugin = runtime.load(&file)?;
        Ok::<_, LoadError>((file, plugin))
    };
    let (file, mut plugin) = look().with_context(|| path.display().to_string())?;
    let mut text = String::new();
    if as_json {
        writeln!(text, "{}", ascii(&format!("{:#}", inspection(&file, &plugin, &config))))?;
    } else {
        write_inspection(&mut text, &file, &plugin, &config)?;
    }
    print(&text)?;
    // It was shown what it is, and yet it may not be usable as it is configured.
    plugin.set_config_of(&config.plugins);
    runtime.instance(&plugin).with_context(|| path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn inspection(file: &ComponentFile, plugin: &Plugin, config: &Config) -> Value {
    let descriptor = &plugin.descriptor;
    let attributes = descriptor.attributes.iter();
    let attributes: Value = attributes
        .map(|attribute| json!({ "name": attribute.name, "type": type_name(attribute.kind), "doc": attribute.doc }))
        .collect();
    json!({
        "file": file.path.to_string_lossy(),
        "name": descriptor.name,
        "version": descriptor.version,
        "doc": descriptor.doc,
        "contract_version": plugin.contract_version,
        "protocols": descriptor.protocols,
        "ports": descriptor.ports,
        "imports": plugin.imports,
        "packing": file.packing.to_string(),
        "file_bytes": file.file_bytes,
        "component_bytes": file.component.len(),
        "sha256": file.digest,
        "compile_ns": compile_ns(plugin),
        "memory_bytes": plugin.memory_bytes,
        "max_memory_bytes": config.decoder.memory_bytes.0,
        "attributes": attributes,
        "status_attribute": descriptor.status_attribute(),
    })
}

fn compile_ns(plugin: &Plugin) -> u64 {
    u64::try_from(plugin.compile_time.as_nanos()).unwrap_or(u64::MAX)
}

/// JSON with every letter beyond ASCII escaped, for among them are those that act on a terminal.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        // Both stand within texts only, where serde_json has escaped the other controls.
        if letter.is_ascii() && letter != '\x7f' {
            out.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

fn write_inspection(out: &mut String, file: &ComponentFile, plugin: &Plugin, config: &Config) -> fmt::Result {
    let descriptor = &plugin.descriptor;
    let bytes = |bytes: usize| format!("{bytes} bytes ({})", Bytes(bytes as u64));
    let size = match file.packing {
        Packing::Plain => bytes(file.component.len()),
        packing => format!("{}, packed with {packing} {}", bytes(file.component.len()), bytes(file.file_bytes)),
    };
    let ports: Vec<_> = descriptor.ports.iter().map(u16::to_string).collect();
    for (name, value) in [
        ("file", file.path.to_string_lossy().into_owned()),
        ("name", descriptor.name.clone()),
        ("version", descriptor.version.clone()),
        ("about", descriptor.doc.clone()),
        ("contract", format!("podtap:decoder@{}", plugin.contract_version)),
        ("protocols", descriptor.protocols.join(", ")),
        ("ports", ports.join(", ")),
        ("imports", plugin.imports.join(", ")),
        ("size", size),
        ("sha256", file.digest.to_string()),
        ("compiled", format!("in {}", DisplayDuration(compile_ns(plugin)))),
        ("memory", format!("{} when fresh, at most {}", bytes(plugin.memory_bytes), config.decoder.memory_bytes)),
    ] {
        let value = if value.is_empty() { "-" } else { &value };
        writeln!(out, "{name:<9}  {}", Printable(value))?;
    }
    if descriptor.attributes.is_empty() {
        return Ok(());
    }
    let mut lines = vec![("attribute", "type", "meaning".to_owned())];
    for attribute in &descriptor.attributes {
        let is_status = descriptor.status_attribute() == Some(&attribute.name);
        let meaning = Printable(&attribute.doc);
        let meaning = if is_status { format!("{meaning} (the status)") } else { meaning.to_string() };
        lines.push((&attribute.name, type_name(attribute.kind), meaning));
    }
    let width = lines.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
    out.push('\n');
    lines.iter().try_for_each(|(name, kind, meaning)| writeln!(out, "{name:<width$}  {kind:<5}  {meaning}"))
}

/// As `wit/` has it.
fn type_name(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Text => "text",
        ValueKind::Uint => "uint",
        ValueKind::Int => "int",
        ValueKind::Float => "float",
        ValueKind::Flag => "flag",
    }
}

fn list(config: &Config) -> anyhow::Result<ExitCode> {
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
