//! Secrets out of events, before anything is published.

use std::borrow::Cow;

/// What stands in for a secret.
const REDACTED: &str = "REDACTED";

/// Query keys whose values sign or authorise a request, after the OpenTelemetry conventions for `url.query`.
const SECRET_QUERY_KEYS: [&str; 7] = [
    "AWSAccessKeyId",
    "Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Goog-Signature",
    "sig",
];

/// Query keys that usually hold a credential. Errs towards leaving a key out: names that often hold something else, such as
/// `key`, `code` and `session`, are for who knows them to be secret.
const CREDENTIAL_QUERY_KEYS: [&str; 17] = [
    "access_token",
    "api_key",
    "apikey",
    "api-key",
    "auth_token",
    "client_secret",
    "id_token",
    "jsessionid",
    "jwt",
    "passwd",
    "password",
    "phpsessid",
    "pwd",
    "refresh_token",
    "secret",
    "sessionid",
    "token",
];

/// Which attributes hide what. Errs towards hiding: keys are compared without regard to case.
#[derive(Clone, Debug, Default)]
pub struct Redaction {
    query_keys: Vec<String>,
}

impl Redaction {
    /// The standard keys and `more_query_keys`.
    pub fn new(more_query_keys: &[String]) -> Redaction {
        let standard = SECRET_QUERY_KEYS.iter().chain(&CREDENTIAL_QUERY_KEYS).map(|key| (*key).to_owned());
        Redaction { query_keys: standard.chain(more_query_keys.iter().cloned()).collect() }
    }

    /// Does the attribute of this name need [`Redaction::redact_query`]?
    pub fn is_query(name: &str) -> bool {
        name == "url.query"
    }

    /// Replaces the values of secret keys in a query string.
    pub fn redact_query(&self, query: &mut Cow<'_, str>) {
        if !query.split('&').any(|pair| self.is_secret(pair)) {
            return;
        }
        let mut out = String::with_capacity(query.len());
        for (index, pair) in query.split('&').enumerate() {
            if index > 0 {
                out.push('&');
            }
            match pair.split_once('=') {
                Some((key, _)) if self.is_secret(pair) => {
                    out.push_str(key);
                    out.push('=');
                    out.push_str(REDACTED);
                }
                _ => out.push_str(pair),
            }
        }
        *query = Cow::Owned(out);
    }

    fn is_secret(&self, pair: &str) -> bool {
        let Some((key, value)) = pair.split_once('=') else { return false };
        if value.is_empty() {
            return false;
        }
        let same = |secret: &String| secret.eq_ignore_ascii_case(key);
        // A key may hide behind percent-encoding; decoding allocates, so only where there is any.
        self.query_keys.iter().any(same) || (key.contains('%') && self.query_keys.iter().any(|s| decodes_to(key, s)))
    }
}

/// Does percent-encoded `key` decode to `plain`, without regard to case?
fn decodes_to(key: &str, plain: &str) -> bool {
    let mut rest = key.as_bytes();
    for &expected in plain.as_bytes() {
        let byte = match rest {
            [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = tail;
                hex(*high) * 16 + hex(*low)
            }
            [byte, tail @ ..] => {
                rest = tail;
                *byte
            }
            [] => return false,
        };
        if !byte.eq_ignore_ascii_case(&expected) {
            return false;
        }
    }
    rest.is_empty()
}

/// The value of an ASCII hex digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_reference_names_every_key_of_a_credential() {
        let page = crate::reference::configuration_page();
        let row = page.lines().find(|line| line.contains("`redaction.query_keys`")).unwrap_or_default();
        for key in CREDENTIAL_QUERY_KEYS {
            assert!(row.contains(&format!("`{key}`")), "{key}: {row}");
        }
    }

    fn check(query: &str, expected: &str) {
        let mut redacted = Cow::Borrowed(query);
        Redaction::new(&["token".to_owned()]).redact_query(&mut redacted);
        assert_eq!(redacted, expected);
    }

    #[test]
    fn values_of_secret_keys_are_replaced_and_nothing_else() {
        check("a=1&b=2", "a=1&b=2");
        check("a=1&X-Amz-Signature=abc&b=2", "a=1&X-Amz-Signature=REDACTED&b=2");
        check("sig=abc=def", "sig=REDACTED");
        check("SIG=abc", "SIG=REDACTED");
        check("token=t&tokens=t", "token=REDACTED&tokens=t");
        check("sig=&sig&&=x", "sig=&sig&&=x");
        check("", "");
    }

    #[test]
    fn percent_encoding_does_not_hide_a_key() {
        check("X-Amz%2DSignature=abc", "X-Amz%2DSignature=REDACTED");
        check("si%67=abc&si%6=x&%=y", "si%67=REDACTED&si%6=x&%=y");
    }
}
