//! The decoder's configuration: a JSON object of a few keys, each checked; an error names the key.

use podtap_sdk::{Exchange, Field, Text};
use serde_json::Value;

use crate::fields::*;
use crate::head::{fields, is_token};
use crate::route::Routes;
use crate::target::without_user_info;

/// What is configured.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) routes: Routes,
    pub(crate) request_headers: Headers,
    pub(crate) response_headers: Headers,
}

/// The keys, as errors list them.
const KEYS: &str = "automatic_routes, request_headers, response_headers, routes";

/// More patterns or header fields are a mistake.
const MAX_ITEMS: usize = 1000;

/// Fields that no configuration publishes: they hold credentials.
const NEVER: [&str; 5] = ["authorization", "cookie", "proxy-authorization", "set-cookie", "set-cookie2"];

impl Config {
    pub(crate) fn parse(json: &str) -> Result<Config, String> {
        let value = match json.trim() {
            "" => Value::Object(serde_json::Map::new()),
            json => serde_json::from_str(json).map_err(|error| format!("not JSON: {error}"))?,
        };
        let Value::Object(section) = value else { return Err("not an object with keys and values".to_owned()) };
        let (mut patterns, mut automatic, mut request, mut response) = (vec![], true, vec![], vec![]);
        for (key, value) in section {
            match key.as_str() {
                "routes" => patterns = texts(&key, value)?,
                "automatic_routes" => {
                    automatic = value.as_bool().ok_or_else(|| format!("{key} is neither true nor false: {value}"))?;
                }
                "request_headers" => request = texts(&key, value)?,
                "response_headers" => response = texts(&key, value)?,
                _ => return Err(format!("{key} is not known; there are {KEYS}")),
            }
        }
        Ok(Config {
            routes: Routes::new(patterns, automatic).map_err(|why| format!("routes: {why}"))?,
            request_headers: Headers::new(request, REQUEST, REQUEST_HEADERS)
                .map_err(|why| format!("request_headers: {why}"))?,
            response_headers: Headers::new(response, RESPONSE, RESPONSE_HEADERS)
                .map_err(|why| format!("response_headers: {why}"))?,
        })
    }
}

/// A list of texts.
fn texts(key: &str, value: Value) -> Result<Vec<String>, String> {
    let wrong = || format!("{key} is not a list of up to {MAX_ITEMS} texts");
    let Value::Array(items) = value else { return Err(wrong()) };
    if items.len() > MAX_ITEMS {
        return Err(wrong());
    }
    let text = |item| if let Value::String(text) = item { Ok(text) } else { Err(wrong()) };
    items.into_iter().map(text).collect()
}

/// Header fields of one kind of message that are to be published.
#[derive(Debug)]
pub(crate) struct Headers {
    /// By name: those with an attribute of their own.
    own: Vec<(&'static str, Field<Text>)>,
    /// All others share one.
    others: Vec<String>,
    shared: Field<Text>,
}

/// Fields of requests that have an attribute of their own when they are configured.
const REQUEST: &[(&str, Field<Text>)] = &[
    ("accept", REQUEST_ACCEPT),
    ("accept-encoding", REQUEST_ACCEPT_ENCODING),
    ("accept-language", REQUEST_ACCEPT_LANGUAGE),
    ("cache-control", REQUEST_CACHE_CONTROL),
    ("content-encoding", REQUEST_CONTENT_ENCODING),
    ("content-type", REQUEST_CONTENT_TYPE),
    ("forwarded", REQUEST_FORWARDED),
    ("origin", REQUEST_ORIGIN),
    ("range", REQUEST_RANGE),
    ("referer", REQUEST_REFERER),
    ("via", REQUEST_VIA),
    ("x-forwarded-for", REQUEST_X_FORWARDED_FOR),
    ("x-forwarded-host", REQUEST_X_FORWARDED_HOST),
    ("x-forwarded-proto", REQUEST_X_FORWARDED_PROTO),
    ("x-real-ip", REQUEST_X_REAL_IP),
    ("x-request-id", REQUEST_ID),
];

/// The same of responses.
const RESPONSE: &[(&str, Field<Text>)] = &[
    ("age", RESPONSE_AGE),
    ("cache-control", RESPONSE_CACHE_CONTROL),
    ("content-encoding", RESPONSE_CONTENT_ENCODING),
    ("content-type", RESPONSE_CONTENT_TYPE),
    ("etag", RESPONSE_ETAG),
    ("location", RESPONSE_LOCATION),
    ("retry-after", RESPONSE_RETRY_AFTER),
    ("server", RESPONSE_SERVER),
    ("via", RESPONSE_VIA),
    ("x-cache", RESPONSE_X_CACHE),
    ("x-request-id", RESPONSE_REQUEST_ID),
];

impl Headers {
    fn new(names: Vec<String>, known: &[(&'static str, Field<Text>)], shared: Field<Text>) -> Result<Headers, String> {
        let mut headers = Headers { own: Vec::new(), others: Vec::new(), shared };
        for name in names {
            let name = name.to_ascii_lowercase();
            if NEVER.contains(&name.as_str()) {
                return Err(format!("{name} holds credentials, and is never published"));
            }
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(format!("{name:?} is no name of a header field"));
            }
            match known.iter().find(|(known, _)| *known == name) {
                Some(&known) => headers.own.push(known),
                None => headers.others.push(name),
            }
        }
        Ok(headers)
    }

    /// Is nothing configured?
    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.others.is_empty()
    }

    /// Sets what is configured of a header section. Fields that repeat are one list (RFC 9110 section 5.3).
    pub(crate) fn set<T>(&self, section: &[u8], exchange: &mut Exchange<T>) {
        let value = |name: &str| {
            let same = fields(section).filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
            let values: Vec<_> = same.map(|(_, value)| without_user_info(value)).collect();
            (!values.is_empty()).then(|| values.join(&b", "[..]))
        };
        for &(name, field) in &self.own {
            if let Some(value) = value(name) {
                exchange.set(field, value.as_slice());
            }
        }
        let mut lines = Vec::new();
        for name in &self.others {
            if let Some(value) = value(name) {
                lines.push([name.as_bytes(), b": ", &value].concat());
            }
        }
        if !lines.is_empty() {
            exchange.set(self.shared, lines.join(&b'\n').as_slice());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_key() {
        for (json, expected) in [
            ("[]", "not an object with keys and values"),
            (r#"{"route": []}"#, "route is not known; there are automatic_routes, "),
            (r#"{"routes": "/a"}"#, "routes is not a list of up to 1000 texts"),
            (r#"{"routes": ["/a", 1]}"#, "routes is not a list of up to 1000 texts"),
            (r#"{"routes": ["a"]}"#, "routes: \"a\" does not begin with a slash"),
            (r#"{"automatic_routes": "no"}"#, "automatic_routes is neither true nor false: \"no\""),
            (r#"{"request_headers": ["Cookie"]}"#, "request_headers: cookie holds credentials, and is never published"),
            (r#"{"response_headers": ["a b"]}"#, "response_headers: \"a b\" is no name of a header field"),
        ] {
            let error = Config::parse(json).err().unwrap_or_default();
            assert!(error.starts_with(expected), "{json}: {error}");
        }
    }

    #[test]
    fn nothing_needs_to_be_configured() {
        for json in ["", "{}", " { } "] {
            assert!(Config::parse(json).is_ok_and(|config| config.request_headers.is_empty()), "{json}");
        }
    }
}
