//! The configuration: one file, `PODTAP_...` variables over it, flags over both.
//!
//! In comes text of three origins; out goes one checked [`Config`], or every problem with where it stands and what
//! may stand there. One struct a section gives parsing, defaults, JSON Schema and the reference page; its doc comments
//! are the reference's words. Nothing here touches the network or starts anything.

mod admin;
mod agent;
mod capture;
mod decoder;
mod delivery;
mod detection;
mod digest;
mod environment;
mod events;
mod fit;
mod kafka;
mod keys;
mod log;
mod output;
mod plugins;
mod redaction;
mod secret;
mod source;
mod spool;
mod stream;
mod units;

pub use admin::Admin;
pub use agent::Agent;
pub use capture::Capture;
pub use decoder::Decoder;
pub use delivery::{Delivery, TrafficChoice};
pub use detection::Detection;
pub use digest::Digest;
pub use events::Events;
pub(crate) use fit::STEPS as MEMORY_STEPS;
pub use fit::memory_limit;
pub use kafka::{Compression, Kafka, LibrdkafkaOptions, PROTOCOL_IN_TOPIC, RecordKey, RecordTimestamp, SaslMechanism};
pub use keys::{Key, Kind, Section, schema, sections};
pub use log::{Log, LogFormat, LogLevel};
pub use output::{Output, OutputFormat};
pub use plugins::Plugins;
pub use redaction::Redaction;
pub use secret::Secret;
pub use spool::Spool;
pub use stream::Stream;
pub use units::{ByteSize, HumanDuration};

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::publish::Printable;
use environment::Variable;
use source::Source;

/// Configuration of podtap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "podtap configuration")]
pub struct Config {
    /// Who this podtap is.
    pub agent: Agent,
    /// Where `podtap run` captures, and how. Capture files have nothing of it.
    pub capture: Capture,
    /// Where decoders come from, and what they are told.
    pub plugins: Plugins,
    /// Which decoder a connection is given to.
    pub detection: Detection,
    /// Bounds of TCP reassembly, in memory and patience. Times are times of the packets, not of the clock.
    pub stream: Stream,
    /// What a decoder may use. A decoder that breaks a bound is stopped and a fresh one takes over its connections.
    pub decoder: Decoder,
    /// Which events there are.
    pub events: Events,
    /// Which secrets are taken out of events before they are published.
    pub redaction: Redaction,
    /// Events on standard output or in a file.
    pub output: Output,
    /// Events to Apache Kafka, one record an event.
    pub kafka: Kafka,
    /// How long events wait for their outputs, and what happens when they cannot wait any longer.
    pub delivery: Delivery,
    /// A directory that keeps events until Kafka has acknowledged them: while the brokers are away, and when podtap ends or is
    /// killed. The next run with the same directory sends what is left, with the same ids.
    pub spool: Spool,
    /// What podtap tells of itself over HTTP: metrics, health, its configuration.
    pub admin: Admin,
    /// podtap's own log, on standard error.
    pub log: Log,
}

/// A configuration and what is odd about its origins.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// One line each.
    pub warnings: Vec<String>,
    /// What was lowered, and why, see [`Loaded::fit`]; a line for the log.
    pub fitted: Option<String>,
    /// Paths of the keys that are set.
    set: HashSet<String>,
}

impl Loaded {
    /// Lowers bounds that are not set, so that podtap stays within `limit` bytes of memory.
    pub fn fit(&mut self, limit: u64) {
        self.fitted = fit::fit(&mut self.config, &self.set, limit);
    }
}

/// A key set on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag: `--kafka-topic`.
    pub name: &'static str,
    /// The key: `kafka.topic`.
    pub key: &'static str,
    /// Its value.
    pub value: Value,
}

/// One thing that is wrong: where, which key, and what may stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `podtap.yaml:12`, `PODTAP_KAFKA_TIMEOUT` or `--kafka-topic`; none where it is of no single place.
    pub origin: Option<String>,
    /// The key's path; none where the file could not be read at all.
    pub key: Option<String>,
    /// The value, and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names and values of a file may hold anything.
        for part in [&self.origin, &self.key].into_iter().flatten() {
            write!(formatter, "{}: ", Printable(part))?;
        }
        write!(formatter, "{}", Printable(&self.message))
    }
}

/// A configuration that cannot be used; at least one problem.
#[derive(Debug)]
pub struct ConfigError(pub Vec<Problem>);

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.first() else { return Ok(()) };
        write!(formatter, "{first}")?;
        match self.0.len() - 1 {
            0 => Ok(()),
            more => write!(formatter, " (and {more} more: `podtap validate FILE` lists those of a file)"),
        }
    }
}

impl Config {
    /// The configuration of a file, of environment variables and of flags, each stronger than the one before.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
        flags: &[Flag],
    ) -> Result<Loaded, ConfigError> {
        let mut merge = Merge::default();
        if let Some(path) = file {
            match Source::read(path) {
                Ok(source) => merge.file(path, &source),
                Err(problem) => return Err(ConfigError(vec![problem])),
            }
        }
        let mut variables: Vec<_> = variables.into_iter().collect();
        variables.sort(); // so that messages have one order
        for (name, text) in &variables {
            merge.variable(name, text);
        }
        for flag in flags {
            if let Some(key) = keys::keys().find(|key| key.path == flag.key) {
                merge.set(key, flag.value.clone(), |_| flag.name.to_owned());
            }
        }
        merge.finish()
    }

    /// Every value that is out of its range, or contradicts another.
    pub fn validate(&self) -> Vec<Problem> {
        let tree = serde_json::to_value(self).unwrap_or_default();
        let out_of_range = keys::keys().filter_map(|key| {
            let (section, name) = key.path.split_once('.')?;
            key.range_problem(&tree[section][name]).map(|message| problem(&key.path, message))
        });
        out_of_range.chain(self.contradictions()).collect()
    }

    /// What no single value shows.
    fn contradictions(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse = |key: &str, message: String| problems.push(problem(key, message));
        let kafka = &self.kafka;
        if !kafka.brokers.is_empty() && kafka.topic.is_empty() {
            refuse("kafka.topic", "not set, but kafka.brokers is; name the topic of the events".to_owned());
        }
        if let Err(message) = kafka.topic_of(&self.agent.resource) {
            refuse("kafka.topic", message);
        }
        for broker in &kafka.brokers {
            let port = broker.rsplit_once(':').and_then(|(host, port)| {
                if host.is_empty() || host.contains(char::is_whitespace) { None } else { port.parse::<u16>().ok() }
            });
            if port.is_none_or(|port| port == 0) {
                refuse("kafka.brokers", format!("{broker:?} is no broker: write host:port, such as kafka:9092"));
            }
        }
        for (key, message) in kafka.security_problems() {
            refuse(key, message.to_owned());
        }
        if let Some(message) = self.admin.listen_problem() {
            refuse("admin.listen", message);
        }
        for message in self.plugins.pin_problems() {
            refuse("plugins.pins", message);
        }
        // The segment that is written must never be the one that makes room.
        if self.spool.max_bytes.0 < self.spool.segment_bytes.0.saturating_mul(2) {
            let message = format!(
                "{} is less than twice spool.segment_bytes ({}); allowed is that or more",
                self.spool.max_bytes, self.spool.segment_bytes
            );
            refuse("spool.max_bytes", message);
        }
        if self.spool.directory.is_some() && kafka.brokers.is_empty() {
            refuse("spool.directory", "set, but kafka.brokers is not: only events for Kafka are spooled".to_owned());
        }
        if self.stream.total_buffer_bytes < self.stream.side_buffer_bytes {
            let message = format!(
                "{} is less than stream.side_buffer_bytes ({}); allowed is that or more",
                self.stream.total_buffer_bytes, self.stream.side_buffer_bytes
            );
            refuse("stream.total_buffer_bytes", message);
        }
        problems
    }
}

fn problem(key: &str, message: String) -> Problem {
    Problem { origin: None, key: Some(key.to_owned()), message }
}

/// Values on their way into one tree.
///
/// Every value is checked alone when it is set, so that all problems are found and each can name its origin; the tree
/// holds good values only.
#[derive(Default)]
struct Merge {
    tree: Map<String, Value>,
    origins: HashMap<String, String>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Merge {
    fn file(&mut self, path: &Path, source: &Source) {
        let origin = |key: &str| match source.line(key) {
            Some(line) => format!("{}:{line}", path.display()),
            None => path.display().to_string(),
        };
        for (name, values) in source.tree.as_object().into_iter().flatten() {
            let Some(section) = sections().iter().find(|section| section.name == *name) else {
                self.refuse(origin(name), name, unknown(name, "section", sections().iter().map(|all| &*all.name)));
                continue;
            };
            let values = match values {
                Value::Object(values) => values,
                Value::Null => continue, // all its keys are commented out
                other => {
                    let message = format!("{} where a map of keys is expected", keys::shown(other));
                    self.refuse(origin(name), name, message);
                    continue;
                }
            };
            for (leaf, value) in values {
                let path = format!("{name}.{leaf}");
                match section.keys.iter().find(|key| key.path == path) {
                    Some(_) if value.is_null() => {}
                    Some(key) => self.set(key, value.clone(), origin),
                    None => {
                        let known = keys::keys().map(|key| &*key.path);
                        self.refuse(origin(&path), &path, unknown(&path, "key", known));
                    }
                }
            }
        }
    }

    fn variable(&mut self, name: &str, text: &str) {
        match environment::classify(name) {
            Variable::Sets(key) => match key.value_of(text) {
                Ok(value) => self.set(key, value, |_| name.to_owned()),
                Err(message) => self.refuse(name.to_owned(), &key.path, message),
            },
            Variable::Unknown => {
                let names: Vec<_> = keys::keys().map(Key::environment_name).collect();
                let message = unknown(name, "variable", names.iter().map(String::as_str));
                self.warnings.push(format!("{name}: {message}; it is not used"));
            }
            Variable::Other => {}
        }
    }

    /// `origin` says where a path stands, be it that of the key or one within its value.
    fn set(&mut self, key: &Key, value: Value, origin: impl Fn(&str) -> String) {
        let Some((section, name)) = key.path.split_once('.') else { return };
        if let Some((path, message)) = value_problem(key, section, name, &value) {
            return self.refuse(origin(&path), &path, message);
        }
        let section = self.tree.entry(section).or_insert_with(|| json!({}));
        match (section.get_mut(name), value) {
            // Maps add up: passwords come by the environment, the rest by the file.
            (Some(Value::Object(present)), Value::Object(more)) => present.extend(more),
            (Some(present), value) => *present = value,
            (None, value) => section[name] = value,
        }
        self.origins.insert(key.path.clone(), origin(&key.path));
    }

    fn refuse(&mut self, origin: String, key: &str, message: String) {
        self.problems.push(Problem { origin: Some(origin), key: Some(key.to_owned()), message });
    }

    fn finish(mut self) -> Result<Loaded, ConfigError> {
        match serde_json::from_value::<Config>(Value::Object(self.tree)) {
            Ok(mut config) => {
                config.agent.resource.retain(|name, value| {
                    if value.is_empty() {
                        self.warnings.push(format!("agent.resource: {name} is empty; events do without it"));
                    }
                    !value.is_empty()
                });
                for mut found in config.contradictions() {
                    found.origin = found.key.as_ref().and_then(|key| self.origins.get(key)).cloned();
                    self.problems.push(found);
                }
                if self.problems.is_empty() {
                    let set = self.origins.into_keys().collect();
                    return Ok(Loaded { config, warnings: self.warnings, fitted: None, set });
                }
            }
            Err(error) => self.problems.push(Problem { origin: None, key: None, message: error.to_string() }),
        }
        Err(ConfigError(self.problems))
    }
}

/// What is wrong with a value of a key, if anything: the path down to the fault, and the message.
fn value_problem(key: &Key, section: &str, name: &str, value: &Value) -> Option<(String, String)> {
    if let Err(error) = serde_path_to_error::deserialize::<_, Config>(json!({ section: { name: value } })) {
        let path = error.path().to_string();
        let mut message = error.into_inner().to_string();
        if message.ends_with("expected a string") && (value.is_number() || value.is_boolean() || path != key.path) {
            message.push_str("; put the value into quotes");
        }
        return Some((path, message));
    }
    key.range_problem(value).map(|message| (key.path.clone(), message))
}

/// For a name that nothing has: the nearest that something has.
fn unknown<'a>(name: &str, what: &str, known: impl Iterator<Item = &'a str>) -> String {
    /// Below, names look alike by chance only.
    const ALIKE: f64 = 0.8;
    let parts = |path: &'a str| path.rsplit_once('.').unwrap_or(("", path.trim_start_matches("PODTAP_")));
    let (prefix, leaf) = name.rsplit_once('.').unwrap_or(("", name.trim_start_matches("PODTAP_")));
    let alike = |path: &'a str| match parts(path) {
        (known_prefix, known_leaf) if known_prefix == prefix => strsim::jaro_winkler(leaf, known_leaf),
        // A key of another section that has exactly this name was meant.
        (_, known_leaf) if known_leaf == leaf => 0.99,
        _ => 0.0,
    };
    let nearest = known.map(|path| (alike(path), path)).max_by(|one, other| one.0.total_cmp(&other.0));
    match nearest {
        Some((alike, nearest)) if alike >= ALIKE => format!("unknown {what}; did you mean {nearest}?"),
        _ => format!("unknown {what}; docs/configuration.md and `podtap schema config` list all"),
    }
}
