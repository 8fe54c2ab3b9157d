//! `podtap plugin inspect`: what a decoder's file holds. It is compiled and asked what it is, in the same sandbox and under
//! the same pins as in a replay.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use crate::cli::print;
use crate::config::Config;
use crate::decoder::{self, ComponentFile, LoadError, Packing, Plugin, ValueKind};
use crate::pipeline;
use crate::publish::{Bytes, DisplayDuration, Printable};

pub(super) fn inspect(path: &Path, as_json: bool, mut config: Config) -> anyhow::Result<ExitCode> {
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
