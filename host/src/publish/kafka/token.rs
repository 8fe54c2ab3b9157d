//! The token of SASL OAUTHBEARER, out of a file that somebody else keeps fresh: a projected token of Kubernetes, say.
//!
//! librdkafka asks for it when it connects, and again when four fifths of its lifetime are over; each time the file is
//! read anew. A token that is a JWT (RFC 7519) says itself how long it is good for and whose it is; its signature is for
//! the brokers to check. Of any other, neither is known: it is read again every minute.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use rdkafka::client::OAuthToken;
use serde::Deserialize;

use crate::config;
use crate::publish::PublishError;

/// No token is longer: brokers take less.
const MAX_BYTES: u64 = 64 << 10;
/// The file is read anew after four fifths of that at the latest.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// For how long a token is used that does not say it.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(75);

/// OAUTHBEARER is chosen by an option of librdkafka.
pub(crate) const NO_TOKEN_FILE: &str = "kafka.sasl_token_file is not set";

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct TokenFile {
    path: PathBuf,
    /// Whose it is, where it does not say.
    name: String,
}

/// What of a JWT's claims is used.
#[derive(Deserialize)]
struct Claims {
    /// Seconds since 1970; there may be a fraction (RFC 7519, 2).
    exp: Option<f64>,
    sub: Option<String>,
}

/// A token cannot be used. Nothing of it is shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    #[error("it is empty")]
    Empty,
    #[error("it is longer than {} KiB", MAX_BYTES >> 10)]
    TooLong,
    #[error("it holds more than a token: letters, digits and -._~+/= are allowed (RFC 6750)")]
    NoToken,
    #[error("the token in it has expired; whoever writes the file has to write a fresh one")]
    Expired,
}

impl TokenFile {
    /// The one that a configuration names, if it names one; it has to hold a token, fresh or not.
    pub(crate) fn of(config: &config::Kafka) -> Result<Option<TokenFile>, PublishError> {
        let Some(path) = config.sasl_token_file.clone() else { return Ok(None) };
        let file = TokenFile { path, name: config.client_id.clone() };
        match read(&file.path) {
            Ok(_) => Ok(Some(file)),
            Err(error) => Err(PublishError::KafkaToken { path: file.path, reason: error.to_string() }),
        }
    }

    /// What librdkafka is to prove itself with from now on.
    pub(crate) fn token(&self) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let token = read(&self.path).and_then(|text| token(text, &self.name, now));
        token.map_err(|error| format!("kafka.sasl_token_file: {}: {error}", self.path.display()).into())
    }
}

fn read(path: &Path) -> Result<String, TokenError> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    let token = text.trim_ascii();
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    match token.len() as u64 {
        0 => Err(TokenError::Empty),
        _ if text.len() as u64 > MAX_BYTES => Err(TokenError::TooLong),
        _ if !token.bytes().all(is_of_token) => Err(TokenError::NoToken),
        _ => Ok(token.to_owned()),
    }
}

fn token(token: String, name: &str, now: Duration) -> Result<OAuthToken, TokenError> {
    let claims = claims(&token);
    let expiry = match claims.as_ref().and_then(|claims| claims.exp) {
        // Out of all range saturates.
        Some(seconds) => Duration::from_millis((seconds * 1e3) as u64),
        None => now + UNKNOWN_LIFETIME,
    };
    if expiry <= now {
        return Err(TokenError::Expired);
    }
    let principal_name = claims.and_then(|claims| claims.sub).filter(|sub| !sub.contains('\0'));
    Ok(OAuthToken {
        token,
        principal_name: principal_name.unwrap_or_else(|| name.to_owned()),
        lifetime_ms: i64::try_from(expiry.min(now + LONGEST_LIFETIME).as_millis()).unwrap_or(i64::MAX),
    })
}

/// Those of a JWT: header, claims and signature with dots between.
fn claims(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    serde_json::from_slice(&BASE64URL.decode(claims).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn jwt(claims: &str) -> String {
        format!("{}.{}.", BASE64URL.encode(r#"{"alg":"none"}"#), BASE64URL.encode(claims))
    }

    fn file(content: &[u8]) -> Result<String, TokenError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, content).unwrap();
        read(&path)
    }

    #[test]
    fn a_jwt_says_how_long_it_is_good_for_and_whose_it_is() {
        let read = token(jwt(r#"{"sub":"shop","exp":1700000060,"aud":["kafka"]}"#), "podtap", NOW).unwrap();
        assert_eq!((read.principal_name.as_str(), read.lifetime_ms), ("shop", 1_700_000_060_000));
        let read = token(jwt(r#"{"exp":1700000060.5}"#), "podtap", NOW).unwrap();
        assert_eq!((read.principal_name.as_str(), read.lifetime_ms), ("podtap", 1_700_000_060_500));
        assert!(matches!(token(jwt(r#"{"exp":1700000000}"#), "podtap", NOW), Err(TokenError::Expired)));
        assert!(matches!(token(jwt(r#"{"exp":-5}"#), "podtap", NOW), Err(TokenError::Expired)));
        assert_eq!(token(jwt(r#"{"exp":1e300}"#), "podtap", NOW).unwrap().lifetime_ms, 1_700_086_400_000);
    }

    #[test]
    fn any_other_token_is_read_again_soon() {
        for text in ["opaque", "a.b.c", "..", "a.b", &jwt("[]"), &jwt("{}")] {
            let read = token(text.to_owned(), "podtap", NOW).unwrap();
            assert_eq!((read.token.as_str(), read.lifetime_ms), (text, 1_700_000_075_000));
        }
    }

    #[test]
    fn a_file_that_holds_no_token_is_refused_and_not_shown() {
        assert_eq!(file(b" abc.def.\n").unwrap(), "abc.def.");
        assert!(matches!(file(b""), Err(TokenError::Empty)));
        assert!(matches!(file(b"\n"), Err(TokenError::Empty)));
        assert!(matches!(file(b"two words"), Err(TokenError::NoToken)));
        assert!(matches!(file(b"nul\0"), Err(TokenError::NoToken)));
        assert!(matches!(file(b"\xff\xfe"), Err(TokenError::Unreadable(_))));
        assert!(matches!(file(&[b'a'; (64 << 10) + 1]), Err(TokenError::TooLong)));
        assert!(!file(b"hunter2 hunter2").unwrap_err().to_string().contains("hunter2"));
    }
}
