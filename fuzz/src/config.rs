//! The configuration: a file of any of its formats, and variables of the environment over it.

use std::path::{Path, PathBuf};

use podtap::config::{Config, ConfigError, Loaded, sections};

use crate::scratch;
use crate::script::Script;

/// Endings that name a format; what comes after them has none, and is YAML.
const FORMATS: [&str; 3] = ["yaml", "toml", "json"];
const JSON: usize = 2;
/// How a secret is shown.
const MASK: &str = "***";

thread_local! {
    static FILES: Files = Files::new();
}

/// Loads a configuration. It is refused with what is wrong and where, or it is taken, and then what podtap shows of it is
/// the same configuration again.
///
/// An input begins with a byte whose lowest two bits are the format, and whose others are a number of variables. Each
/// of these is two bytes, the number of a key, and its value behind its length; for a number that no key has, the name
/// comes before, likewise. The rest is the file.
pub fn config(input: &[u8]) {
    let mut script = Script::new(input);
    let first = script.u8();
    let keys: Vec<_> = sections().iter().flat_map(|section| &section.keys).collect();
    let variables: Vec<_> = (0..first >> 2)
        .map(|_| {
            let key = keys.get(usize::from(script.u16()));
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let name = key.map(|key| key.environment_name());
            (name.unwrap_or_else(|| text(script.slice_of_u8())), text(script.slice_of_u8()))
        })
        .collect();
    let file = script.rest();
    FILES.with(|files| {
        let path = files.hold(usize::from(first & 3), file);
        match Config::load(Some(path), variables.clone(), &[]) {
            Ok(Loaded { config, warnings, .. }) => {
                for warning in warnings {
                    let mut places = variables.iter().map(|(name, _)| name.as_str()).chain(["agent.resource: "]);
                    assert!(places.any(|place| warning.starts_with(place)), "{warning:?} names no place");
                }
                check(&config, files);
            }
            Err(error) => check_error(&error, path, &variables),
        }
    });
}

/// It keeps its bounds, and what is shown of it is read as the same.
fn check(config: &Config, files: &Files) {
    assert_eq!(config.validate(), [], "{config:?}");
    let shown = serde_json::to_string(config).expect("a configuration is JSON");
    // In YAML not every character of JSON may stand.
    let path = files.hold(JSON, shown.as_bytes());
    let again = Config::load(Some(path), [], &[]).unwrap_or_else(|error| panic!("{error}: {shown}")).config;
    assert_eq!(serde_json::to_string(&again).expect("a configuration is JSON"), shown);
    // A secret is not shown, and so is another one.
    assert!(again == *config || shown.contains(MASK), "{again:?} and {config:?}");
}

fn check_error(error: &ConfigError, path: &Path, variables: &[(String, String)]) {
    assert!(!error.0.is_empty());
    let file = path.display().to_string();
    for problem in &error.0 {
        let shown = problem.to_string();
        assert!(!problem.message.is_empty() && !shown.contains(char::is_control), "{shown:?}");
        let Some(origin) = &problem.origin else {
            // Of no single place: it contradicts something that is not set.
            assert!(problem.key.is_some(), "{shown:?}");
            continue;
        };
        let is_variable = variables.iter().any(|(name, _)| origin == name);
        assert!(origin.starts_with(&file) || is_variable, "{shown:?}");
        assert!(problem.key.is_some() || origin.starts_with(&file), "{shown:?}");
    }
}

/// A file for each format.
struct Files {
    names: Vec<PathBuf>,
}

impl Files {
    fn new() -> Files {
        let folder = scratch::folder("config");
        let named = FORMATS.iter().map(|format| folder.join("podtap").with_extension(format));
        Files { names: named.chain([folder.join("podtap")]).collect() }
    }

    fn hold(&self, format: usize, content: &[u8]) -> &Path {
        let name = &self.names[format];
        std::fs::write(name, content).expect("a file in memory can be written");
        name
    }
}
