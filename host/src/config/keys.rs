//! Every key of the configuration, read from its JSON Schema: the one place that knows types, ranges and defaults.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Config;
use super::units::{ByteSize, HumanDuration};

/// A key that holds a value.
#[derive(Clone, Debug)]
pub struct Key {
    /// `kafka.topic`.
    pub path: String,
    /// What it holds.
    pub kind: Kind,
    /// Its value where nothing is configured; null: not set.
    pub default: Value,
    /// Smallest and largest value, written as people would.
    pub range: Option<(String, String)>,
    /// Its meaning.
    pub doc: String,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// One of some words.
    Choice(Vec<String>),
    /// An integer.
    Integer,
    /// `true` or `false`.
    Flag,
    /// See [`HumanDuration`].
    Duration,
    /// See [`ByteSize`].
    Size,
    /// A list of texts.
    List,
    /// A map of text to text.
    Map,
    /// A map of text to anything.
    Objects,
}

/// A section and what it is about.
#[derive(Clone, Debug)]
pub struct Section {
    /// `kafka`.
    pub name: String,
    /// One sentence.
    pub doc: String,
    /// Its keys.
    pub keys: Vec<Key>,
}

/// All sections, in the order of the configuration.
pub fn sections() -> &'static [Section] {
    static SECTIONS: LazyLock<Vec<Section>> = LazyLock::new(read_schema);
    &SECTIONS
}

/// All keys.
pub(super) fn keys() -> impl Iterator<Item = &'static Key> {
    sections().iter().flat_map(|section| &section.keys)
}

/// The JSON Schema of the configuration, for `podtap schema config` and for editors.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator();
    generator.into_root_schema_for::<Config>().to_value()
}

impl Key {
    /// The environment variable that sets it.
    pub fn environment_name(&self) -> String {
        format!("PODTAP_{}", self.path.replace('.', "_").to_uppercase())
    }

    /// What is wrong with a value's size, if anything. Values of another type pass: serde refuses those.
    pub(super) fn range_problem(&self, value: &Value) -> Option<String> {
        let (least, most) = self.range.as_ref()?;
        let number = self.measure(value)?;
        let bound = |text: &str| self.measure(&Value::from(text));
        let inside = bound(least)? <= number && number <= bound(most)?;
        (!inside).then(|| format!("{} is out of range: allowed are {least} to {most}", shown(value)))
    }

    /// The size of a value, comparable within the key.
    fn measure(&self, value: &Value) -> Option<u128> {
        match (&self.kind, value) {
            (Kind::Duration, Value::String(text)) => {
                HumanDuration::parse(text).ok().map(|duration| duration.0.as_nanos())
            }
            (Kind::Size, Value::String(text)) => ByteSize::parse(text).ok().map(|size| size.0.into()),
            (Kind::Integer, Value::String(text)) => text.parse().ok(),
            (_, Value::Number(number)) => number.as_u64().map(u128::from),
            _ => None,
        }
    }

    /// The value that a text stands for, as environment variables carry it.
    pub(super) fn value_of(&self, text: &str) -> Result<Value, String> {
        match self.kind {
            Kind::Text | Kind::Choice(_) | Kind::Duration | Kind::Size => Ok(text.into()),
            Kind::Integer => {
                text.parse::<u64>().map(Value::from).map_err(|_| format!("{text:?} is not a whole number"))
            }
            Kind::Flag => text.parse::<bool>().map(Value::from).map_err(|_| format!("{text:?} is not true or false")),
            Kind::List => Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()),
            Kind::Map | Kind::Objects if text.trim_start().starts_with('{') => {
                // The message of the JSON reader names no content: the value may be a secret.
                serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
            }
            Kind::Map => {
                let pair = |item: &str| match item.split_once('=') {
                    Some((key, value)) => Ok((key.trim().to_owned(), Value::from(value.trim()))),
                    None => Err("write it as name=value,name=value or as a JSON object".to_owned()),
                };
                text.split(',')
                    .filter(|item| !item.trim().is_empty())
                    .map(pair)
                    .collect::<Result<_, _>>()
                    .map(Value::Object)
            }
            Kind::Objects => Err("write it as a JSON object".to_owned()),
        }
    }
}

/// A value in an error message.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
        Value::Null => "nothing".to_owned(),
        scalar => scalar.to_string(),
    }
}

fn read_schema() -> Vec<Section> {
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    // `defaults` has the order of declaration, which the schema's properties may not keep.
    let names =
        |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let schema = schema();
    names(&schema["properties"])
        .into_iter()
        .map(|name| {
            let section = &schema["properties"][&name];
            let keys = names(&section["properties"]).into_iter().map(|leaf| {
                let default = defaults[&name][&leaf].clone();
                key(format!("{name}.{leaf}"), &section["properties"][&leaf], default)
            });
            Section { doc: description(section), keys: keys.collect(), name }
        })
        .collect()
}

fn key(path: String, schema: &Value, default: Value) -> Key {
    let text_of = |name: &str| match &schema[name] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let range = text_of("x-minimum").zip(text_of("x-maximum")).or_else(|| text_of("minimum").zip(text_of("maximum")));
    Key { path, kind: kind(schema), default, range, doc: description(schema) }
}

fn kind(schema: &Value) -> Kind {
    let is =
        |name: &str| schema["type"] == name || schema["type"].as_array().is_some_and(|all| all.contains(&name.into()));
    let choices = choices(schema);
    match schema["x-kind"].as_str() {
        Some("duration") => Kind::Duration,
        Some("size") => Kind::Size,
        _ if !choices.is_empty() => Kind::Choice(choices),
        _ if is("array") => Kind::List,
        _ if is("object") && schema["additionalProperties"]["type"] == "object" => Kind::Objects,
        _ if is("object") => Kind::Map,
        _ if is("integer") => Kind::Integer,
        _ if is("boolean") => Kind::Flag,
        _ => Kind::Text,
    }
}

/// The words of an enum, in any of the forms that schemars writes.
fn choices(schema: &Value) -> Vec<String> {
    let mut words = Vec::new();
    for form in ["oneOf", "anyOf", "enum"] {
        for choice in schema[form].as_array().into_iter().flatten() {
            match (choice, &choice["const"]) {
                (Value::String(word), _) | (_, Value::String(word)) => words.push(word.clone()),
                _ => words.extend(choices(choice)),
            }
        }
    }
    words
}

fn description(schema: &Value) -> String {
    // Doc comments are wrapped where the source is.
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}
