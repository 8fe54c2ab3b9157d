//! The decoder's section of the configuration.

use serde_json::{Map, Value};

/// What can be configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// Publish statements as they were sent, literals and comments included.
    pub(crate) raw_query_text: bool,
    /// Report COM_QUIT, which has no response.
    pub(crate) report_quit: bool,
}

impl Config {
    pub(crate) fn parse(text: &str) -> Result<Config, String> {
        let text = if text.trim().is_empty() { "{}" } else { text };
        let section: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("mysql: not a section of keys: {error}"))?;
        let mut config = Config::default();
        for (key, value) in &section {
            let place = match key.as_str() {
                "raw_query_text" => &mut config.raw_query_text,
                "report_quit" => &mut config.report_quit,
                _ => return Err(format!("{key}: mysql has no such key; it has raw_query_text and report_quit")),
            };
            *place = value.as_bool().ok_or_else(|| format!("{key}: {value} is neither true nor false"))?;
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
        assert_eq!(Config::parse("{}"), Ok(Config::default()));
        let both = Config { raw_query_text: true, report_quit: true };
        assert_eq!(Config::parse(r#"{"raw_query_text": true, "report_quit": true}"#), Ok(both));
        assert!(Config::parse(r#"{"raw": true}"#).unwrap_err().starts_with("raw: "));
        assert!(Config::parse(r#"{"report_quit": "yes"}"#).unwrap_err().starts_with("report_quit: "));
        assert!(Config::parse("[]").is_err());
    }
}
