//! Events on the terminal or in a file.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Events on standard output or in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Output {
    /// How events are written: `text`, one line for people; `json`, one JSON object a line; `msgpack`, MessagePack maps
    /// one after the other; `none`, not at all. When not set: by the extension of `output.file` (`.jsonl`, `.ndjson`
    /// and `.json`; `.msgpack` and `.mp`; else `text`); without a file, `text`, but `none` where Kafka is used.
    pub format: Option<OutputFormat>,
    /// File to write to, replacing what it held, instead of standard output.
    pub file: Option<PathBuf>,
}

/// How events are written to standard output or a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// One line an exchange, for people.
    Text,
    /// One JSON object a line.
    Json,
    /// MessagePack maps one after the other.
    Msgpack,
    /// Nothing.
    None,
}

impl Output {
    /// The format, chosen where it is not set.
    pub fn effective_format(&self, with_kafka: bool) -> OutputFormat {
        let extension = |file: &Path| file.extension().and_then(|extension| extension.to_str().map(str::to_owned));
        match (self.format, &self.file) {
            (Some(format), _) => format,
            (None, Some(file)) => match extension(file).as_deref() {
                Some("jsonl" | "ndjson" | "json") => OutputFormat::Json,
                Some("msgpack" | "mp") => OutputFormat::Msgpack,
                _ => OutputFormat::Text,
            },
            (None, None) if with_kafka => OutputFormat::None,
            (None, None) => OutputFormat::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unset_format_follows_from_file_and_kafka() {
        let of =
            |file: Option<&str>, kafka| Output { format: None, file: file.map(PathBuf::from) }.effective_format(kafka);
        assert_eq!(of(None, false), OutputFormat::Text);
        assert_eq!(of(None, true), OutputFormat::None);
        assert_eq!(of(Some("a.jsonl"), true), OutputFormat::Json);
        assert_eq!(of(Some("a.msgpack"), false), OutputFormat::Msgpack);
        assert_eq!(of(Some("a.log"), true), OutputFormat::Text);
        let set = Output { format: Some(OutputFormat::Text), file: Some("a.json".into()) };
        assert_eq!(set.effective_format(true), OutputFormat::Text);
    }
}
