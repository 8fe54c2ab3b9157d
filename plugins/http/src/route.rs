//! The route of a request: its path with what differs from request to request replaced, so that routes are few.
//!
//! A configured pattern comes first; where none fits, segments that look like ids become `{id}`. Errs towards too many
//! routes: a name that only looks odd stays.

use podtap_sdk::{Settable, Text};

/// How a route is made of a path.
#[derive(Debug)]
pub(crate) struct Routes {
    patterns: Vec<Pattern>,
    automatic: bool,
}

#[derive(Debug)]
struct Pattern {
    text: String,
    /// Segments behind the first slash; none: anything.
    segments: Vec<Option<String>>,
    /// Ends in `*`: more segments may follow, or none.
    open: bool,
}

impl Routes {
    /// Takes patterns as configured: paths in which `{name}` stands for any one segment, and `*` at the end for any rest.
    /// `Err` is the one at fault and why.
    pub(crate) fn new(patterns: Vec<String>, automatic: bool) -> Result<Routes, String> {
        let patterns = patterns.into_iter().map(Pattern::new).collect::<Result<_, _>>()?;
        Ok(Routes { patterns, automatic })
    }

    /// The route of a path; none where no pattern fits and there is no automatic one.
    pub(crate) fn of<'a>(&'a self, path: &'a [u8]) -> Option<Route<'a>> {
        if let Some(pattern) = self.patterns.iter().find(|pattern| pattern.fits(path)) {
            return Some(Route::Configured(&pattern.text));
        }
        self.automatic.then_some(Route::Automatic(path))
    }
}

impl Pattern {
    fn new(text: String) -> Result<Pattern, String> {
        let Some(path) = text.strip_prefix('/') else { return Err(format!("{text:?} does not begin with a slash")) };
        let (path, open) = match path.strip_suffix('*') {
            Some("") => ("", true),
            Some(path) => {
                (path.strip_suffix('/').ok_or(format!("{text:?}: `*` stands alone in the last segment"))?, true)
            }
            None => (path, false),
        };
        let segment = |segment: &str| match segment.strip_prefix('{') {
            Some(name) if name.len() > 1 && name.find('}') == Some(name.len() - 1) => Ok(None),
            None if !segment.contains(['{', '}', '*']) => Ok(Some(segment.to_owned())),
            _ => Err(format!("{text:?}: a segment is plain text or `{{name}}`")),
        };
        let segments = if path.is_empty() && open { Ok(vec![]) } else { path.split('/').map(segment).collect() };
        Ok(Pattern { segments: segments?, open, text })
    }

    fn fits(&self, path: &[u8]) -> bool {
        let Some(path) = path.strip_prefix(b"/") else { return false };
        let mut segments = path.split(|&byte| byte == b'/');
        for expected in &self.segments {
            let fits = |segment: &[u8]| match expected {
                Some(text) => segment == text.as_bytes(),
                None => !segment.is_empty(),
            };
            if !segments.next().is_some_and(fits) {
                return false;
            }
        }
        self.open || segments.next().is_none()
    }
}

/// A route, as a value of a text field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Route<'a> {
    Configured(&'a str),
    /// The path that it is made of.
    Automatic(&'a [u8]),
}

impl Settable<Text> for Route<'_> {
    fn put(self, text: &mut Vec<u8>) -> u64 {
        let path = match self {
            Route::Configured(route) => return route.put(text),
            Route::Automatic(path) => path,
        };
        // Every id has a digit in it. What lies between ids is copied in one piece.
        let (before, mut copied, mut start, mut digit) = (text.len(), 0, 0, false);
        for at in 0..=path.len() {
            let byte = path.get(at).copied().unwrap_or(b'/');
            digit |= byte.is_ascii_digit();
            if byte != b'/' {
                continue;
            }
            if digit && let Some(length) = id_length(&path[start..at]) {
                text.extend_from_slice(&path[copied..start]);
                text.extend_from_slice(PLACEHOLDER);
                copied = start + length;
            }
            (start, digit) = (at + 1, false);
        }
        text.extend_from_slice(path.get(copied..).unwrap_or_default());
        (text.len() - before) as u64
    }
}

const PLACEHOLDER: &[u8] = b"{id}";

/// Hashes have at least so many hex digits; shorter ones may be words.
const MIN_HASH: usize = 12;

/// Tokens of letters and digits (ULID, KSUID, base 62) have at least so many.
const MIN_TOKEN: usize = 20;

/// How much of a segment is an id; none where none is.
fn id_length(segment: &[u8]) -> Option<usize> {
    if is_id(segment) {
        return Some(segment.len());
    }
    // Of a file's name the extension stays.
    let stem = segment.iter().rposition(|&byte| byte == b'.')?;
    (stem > 0 && is_id(&segment[..stem])).then_some(stem)
}

/// Numbers and dates, UUIDs, hashes, and long tokens of letters and digits.
fn is_id(segment: &[u8]) -> bool {
    let (mut digits, mut hex, mut dashes) = (0, 0, 0);
    for byte in segment {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'a'..=b'f' | b'A'..=b'F' => hex += 1,
            b'-' => dashes += 1,
            byte if byte.is_ascii_alphabetic() => {}
            _ => return false,
        }
    }
    if digits == 0 {
        return false;
    }
    let length = segment.len();
    let letters = length - digits - dashes;
    let number = letters == 0;
    let hash = digits + hex == length && length >= MIN_HASH;
    let uuid = length == 36 && letters == hex && dashes == 4 && [8, 13, 18, 23].iter().all(|&at| segment[at] == b'-');
    let token = dashes == 0 && length >= MIN_TOKEN && digits >= 2;
    number || hash || uuid || token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(routes: &Routes, path: &str, expected: &str) {
        let mut text = b"before".to_vec();
        let length = routes.of(path.as_bytes()).map(|route| route.put(&mut text)).unwrap_or_default();
        assert_eq!(text.escape_ascii().to_string(), format!("before{expected}"), "{path}");
        assert_eq!(length, expected.len() as u64);
    }

    fn routes(patterns: &[&str], automatic: bool) -> Result<Routes, String> {
        Routes::new(patterns.iter().map(|&pattern| pattern.to_owned()).collect(), automatic)
    }

    #[test]
    fn what_looks_like_an_id_is_replaced() {
        let automatic = routes(&[], true).unwrap();
        for (path, expected) in [
            ("/", "/"),
            ("*", "*"),
            ("/users/42", "/users/{id}"),
            ("/users/42/orders/7/", "/users/{id}/orders/{id}/"),
            ("/v1/items", "/v1/items"),
            ("/pages/17.html", "/pages/{id}.html"),
            ("/.7", "/.7"),
            ("/days/2026-11-24", "/days/{id}"),
            ("/a/123e4567-e89b-12d3-a456-426614174000/b", "/a/{id}/b"),
            ("/commit/59807616e1fa", "/commit/{id}"),
            ("/commit/59807616e1fa2540724bfbac14d7976d7e4a3860", "/commit/{id}"),
            ("/face2face", "/face2face"),
            ("/events/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/events/{id}"),
            ("/how-to-win-in-2026-and-later", "/how-to-win-in-2026-and-later"),
            ("/7/a/8/b9/10", "/{id}/a/{id}/b9/{id}"),
            ("/caf%C3%A9", "/caf%C3%A9"),
        ] {
            check(&automatic, path, expected);
        }
    }

    #[test]
    fn the_first_pattern_that_fits_is_the_route() {
        let patterns = ["/users/me", "/users/{user}", "/files/*", "/users/{user}/orders/{order}"];
        let routes = routes(&patterns, false).unwrap();
        for (path, expected) in [
            ("/users/me", "/users/me"),
            ("/users/ada", "/users/{user}"),
            ("/users/", ""),
            ("/users/ada/orders/1", "/users/{user}/orders/{order}"),
            ("/users/ada/orders/1/2", ""),
            ("/files", "/files/*"),
            ("/files/a/b", "/files/*"),
            ("/filesystem", ""),
            ("files/a", ""),
        ] {
            check(&routes, path, expected);
        }
        check(&super::Routes::new(vec!["/*".into()], false).unwrap(), "/any/thing", "/*");
    }

    #[test]
    fn patterns_that_are_none_are_refused() {
        for bad in ["", "users", "/a*", "/{", "/{}", "/a{b}", "/{a}b", "/*/a"] {
            assert!(routes(&[bad], true).is_err(), "{bad}");
        }
    }
}
