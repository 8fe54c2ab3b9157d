//! A configuration file to a tree of values, with the line of each where the format gives it.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::Problem;

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Its values; an object.
    pub(super) tree: Value,
    lines: HashMap<String, u64>,
}

impl Source {
    /// Reads a file, in the format of its extension: `.toml`, `.json`, else YAML.
    pub(super) fn read(path: &Path) -> Result<Source, Problem> {
        let problem = |origin: String, message: String| Problem { origin: Some(origin), key: None, message };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            problem(
                name.clone(),
                format!("the configuration file cannot be read: {error}; check the path after --config"),
            )
        })?;
        let at = |line: Option<u64>| line.map_or_else(|| name.clone(), |line| format!("{name}:{line}"));
        let source = match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => {
                toml_source(&text).map_err(|(line, what)| problem(at(line), format!("not TOML: {what}")))?
            }
            Some("json") => {
                json_source(&text).map_err(|(line, what)| problem(at(line), format!("not JSON: {what}")))?
            }
            Some("yaml" | "yml") | None => {
                yaml_source(&text).map_err(|(line, what)| problem(at(line), format!("not YAML: {what}")))?
            }
            Some(other) => {
                let message = format!("configuration in .{other} is not supported; use .yaml, .yml, .toml or .json");
                return Err(problem(name, message));
            }
        };
        match source.tree {
            Value::Object(_) => Ok(source),
            // A file with comments only.
            Value::Null => Ok(Source { tree: Value::Object(Map::new()), ..source }),
            _ => Err(problem(at(Some(1)), "a map of sections is expected, such as `kafka:`".to_owned())),
        }
    }

    /// The line where a key stands.
    pub(super) fn line(&self, key: &str) -> Option<u64> {
        self.lines.get(key).copied()
    }
}

/// Line and message.
type Failure = (Option<u64>, String);

fn yaml_source(text: &str) -> Result<Source, Failure> {
    let failure = |error: serde_saphyr::Error| {
        let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
        (line, one_line(&error.without_snippet().to_string()))
    };
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Source::default());
    }
    let located: serde_saphyr::Spanned<Located> = serde_saphyr::from_str(text).map_err(failure)?;
    let mut lines = HashMap::new();
    let tree = flatten(located.value, String::new(), &mut lines);
    Ok(Source { tree, lines })
}

fn json_source(text: &str) -> Result<Source, Failure> {
    let tree = serde_json::from_str(text).map_err(|error| (Some(error.line() as u64), error.to_string()))?;
    // JSON is YAML, whose reader knows lines; where it cannot read this one, there are no lines.
    let lines = yaml_source(text).map(|source| source.lines).unwrap_or_default();
    Ok(Source { tree, lines })
}

fn toml_source(text: &str) -> Result<Source, Failure> {
    let line_at = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count() as u64;
    let failure = |error: toml::de::Error| (error.span().map(|span| line_at(span.start)), one_line(error.message()));
    let tree = toml::from_str(text).map_err(failure)?;
    let table = toml::de::DeTable::parse(text).map_err(failure)?;
    let mut lines = HashMap::new();
    toml_lines(table.get_ref(), "", &line_at, &mut lines);
    Ok(Source { tree, lines })
}

fn toml_lines(
    table: &toml::de::DeTable<'_>,
    prefix: &str,
    line_at: &dyn Fn(usize) -> u64,
    lines: &mut HashMap<String, u64>,
) {
    for (key, value) in table {
        let path = join(prefix, key.get_ref());
        lines.insert(path.clone(), line_at(key.span().start));
        if let Some(inner) = value.get_ref().as_table() {
            toml_lines(inner, &path, line_at, lines);
        }
    }
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// A YAML node whose map entries know their lines.
enum Located {
    Scalar(Value),
    List(Vec<Located>),
    Map(Vec<(serde_saphyr::Spanned<String>, Located)>),
}

fn flatten(node: Located, path: String, lines: &mut HashMap<String, u64>) -> Value {
    match node {
        Located::Scalar(value) => value,
        Located::List(items) => items.into_iter().map(|item| flatten(item, path.clone(), lines)).collect(),
        Located::Map(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                let path = join(&path, &key.value);
                if key.referenced.line() > 0 {
                    lines.insert(path.clone(), key.referenced.line());
                }
                map.insert(key.value, flatten(value, path, lines));
            }
            Value::Object(map)
        }
    }
}

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Located, D::Error> {
        struct Node;
        impl<'de> Visitor<'de> for Node {
            type Value = Located;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Located, E> {
                Ok(Located::Scalar(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Located, E> {
                Ok(Located::Scalar(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Located, E> {
                Ok(Located::Scalar(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Located, E> {
                Ok(Located::Scalar(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Located, E> {
                Ok(Located::Scalar(value.into()))
            }

            fn visit_unit<E>(self) -> Result<Located, E> {
                Ok(Located::Scalar(Value::Null))
            }

            fn visit_none<E>(self) -> Result<Located, E> {
                Ok(Located::Scalar(Value::Null))
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Located, D::Error> {
                Located::deserialize(deserializer)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Located, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Located::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Located, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Located::Map(entries))
            }
        }
        deserializer.deserialize_any(Node)
    }
}
