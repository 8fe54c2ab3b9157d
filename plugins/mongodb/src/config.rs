//! The decoder's section of the configuration.

use serde_json::{Map, Value};

/// What can be configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// Report handshakes, authentication steps and pings too.
    pub(crate) report_monitoring: bool,
}

impl Config {
    pub(crate) fn parse(text: &str) -> Result<Config, String> {
        let text = if text.trim().is_empty() { "{}" } else { text };
        let section: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("mongodb: not a section of keys: {error}"))?;
        let mut config = Config::default();
        for (key, value) in &section {
            match key.as_str() {
                "report_monitoring" => {
                    config.report_monitoring =
                        value.as_bool().ok_or_else(|| format!("{key}: {value} is neither true nor false"))?;
                }
                _ => return Err(format!("{key}: mongodb has no such key; it has report_monitoring")),
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn keys_are_checked_and_named() {
        assert_eq!(Config::parse(""), Ok(Config::default()));
        assert_eq!(Config::parse(r#"{"report_monitoring": true}"#), Ok(Config { report_monitoring: true }));
        assert!(Config::parse(r#"{"monitoring": true}"#).unwrap_err().starts_with("monitoring: "));
        assert!(Config::parse(r#"{"report_monitoring": 1}"#).unwrap_err().starts_with("report_monitoring: "));
        assert!(Config::parse("[]").is_err());
    }
}
