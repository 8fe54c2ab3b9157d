//! Request targets (RFC 9112 section 3.2).

/// A request target taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// Path; `*` of the asterisk form, the authority of a CONNECT.
    pub(crate) path: &'a [u8],
    pub(crate) query: Option<&'a [u8]>,
    /// Only the absolute form has one.
    pub(crate) scheme: Option<&'a [u8]>,
    /// Host without port or user; of the absolute and authority forms.
    pub(crate) host: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    /// Takes every form; what fits none is a path.
    pub(crate) fn parse(target: &'a [u8], connect: bool) -> Target<'a> {
        if connect {
            return Target { path: without_user(target), query: None, scheme: None, host: Some(host(target)) };
        }
        // A fragment is never sent (RFC 9110 section 7.1), but some clients do.
        let target = match memchr::memchr(b'#', target) {
            Some(at) => &target[..at],
            None => target,
        };
        let (rest, scheme, host) = match absolute(target) {
            Some((scheme, authority, rest)) => (rest, Some(scheme), Some(host(authority))),
            None => (target, None, None),
        };
        let (path, query) = match memchr::memchr(b'?', rest) {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        let path = if path.is_empty() { b"/" } else { path };
        Target { path, query: query.filter(|query| !query.is_empty()), scheme, host }
    }
}

/// scheme "://" authority path-abempty [ "?" query ], split behind the authority.
fn absolute(target: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    if target.starts_with(b"/") {
        return None;
    }
    let colon = memchr::memchr(b':', target)?;
    let (scheme, rest) = target.split_at(colon);
    let rest = rest.strip_prefix(b"://")?;
    let of_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let valid = scheme.first()?.is_ascii_alphabetic() && scheme.iter().all(of_scheme);
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    valid.then_some((scheme, &rest[..end], &rest[end..]))
}

/// The host of `[ userinfo "@" ] host [ ":" port ]` (RFC 3986 section 3.2), an IPv6 address without its brackets.
pub(crate) fn host(authority: &[u8]) -> &[u8] {
    let host = without_user(authority);
    if let Some(literal) = host.strip_prefix(b"[") {
        return literal.split(|&byte| byte == b']').next().unwrap_or_default();
    }
    host.split(|&byte| byte == b':').next().unwrap_or_default()
}

/// `host [ ":" port ]` of an authority.
fn without_user(authority: &[u8]) -> &[u8] {
    memchr::memrchr(b'@', authority).map_or(authority, |at| &authority[at + 1..])
}

/// A header field's value, with the user information left out of every URL in it.
pub(crate) fn without_user_info(value: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr::memmem::find(rest, b"//") {
        let (before, authority) = rest.split_at(at + 2);
        let end = authority.iter().position(|byte| b"/?#\"<>, \t".contains(byte)).unwrap_or(authority.len());
        kept.extend_from_slice(before);
        kept.extend_from_slice(without_user(&authority[..end]));
        rest = &authority[end..];
    }
    kept.extend_from_slice(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, path: &str, query: Option<&str>, scheme: Option<&str>, host: Option<&str>) {
        let expected = Target {
            path: path.as_bytes(),
            query: query.map(str::as_bytes),
            scheme: scheme.map(str::as_bytes),
            host: host.map(str::as_bytes),
        };
        assert_eq!(Target::parse(target.as_bytes(), false), expected, "{target}");
    }

    #[test]
    fn every_form_of_a_target() {
        check("/a/b?c=d?e", "/a/b", Some("c=d?e"), None, None);
        check("/a?", "/a", None, None, None);
        check("*", "*", None, None, None);
        check("http://u:p@h.example:80/a?b", "/a", Some("b"), Some("http"), Some("h.example"));
        check("http://h", "/", None, Some("http"), Some("h"));
        check("http://[::1]:80?q", "/", Some("q"), Some("http"), Some("::1"));
        check("/a://b", "/a://b", None, None, None);
        check("/a#fragment", "/a", None, None, None);
        check("?q", "/", Some("q"), None, None);
    }

    #[test]
    fn user_information_is_left_out() {
        check("git+ssh://u:p@h/a", "/a", None, Some("git+ssh"), Some("h"));
        assert_eq!(Target::parse(b"u:p@example.com:443", true).path, b"example.com:443");
        for (value, expected) in [
            ("http://u:p@h/a?b=c@d", "http://h/a?b=c@d"),
            ("<https://u@h>, //u:p@i:80", "<https://h>, //i:80"),
            ("a@b", "a@b"),
            ("http://h", "http://h"),
        ] {
            assert_eq!(without_user_info(value.as_bytes()), expected.as_bytes(), "{value}");
        }
    }

    #[test]
    fn the_target_of_connect_is_an_authority() {
        let target = Target::parse(b"example.com:443", true);
        assert_eq!((target.path, target.host), (&b"example.com:443"[..], Some(&b"example.com"[..])));
    }
}
