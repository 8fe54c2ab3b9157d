//! Request and response heads: start line and header fields (RFC 9112 sections 2 to 5).
//!
//! In: bytes that begin with a head. Out: what an exchange or the framing of the body needs of it, as slices. Lenient as
//! RFC 9112 allows recipients to be: bare LF ends a line (2.2), obsolete line folding is passed over (5.2).

use crate::framing::Declared;

/// The longest head read; servers refuse far shorter ones.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// Finds the empty line that ends a head (RFC 9112 section 2.1); a line may end in a bare LF (2.2).
pub(crate) fn end_of_head(bytes: &[u8], scanned: usize) -> Option<usize> {
    // The last LF before `scanned` may be the one before the empty line.
    let mut from = scanned.saturating_sub(2);
    while let Some(at) = position(bytes, from, b'\n') {
        match bytes.get(at + 1..) {
            Some([b'\n', ..]) => return Some(at + 2),
            Some([b'\r', b'\n', ..]) => return Some(at + 3),
            _ => from = at + 1,
        }
    }
    None
}

fn position(bytes: &[u8], from: usize, byte: u8) -> Option<usize> {
    memchr::memchr(byte, bytes.get(from..)?).map(|at| from + at)
}

/// A request line (RFC 9112 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestLine<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) version: Version,
}

/// A status line (RFC 9112 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatusLine {
    pub(crate) version: Version,
    pub(crate) status: u16,
}

/// HTTP/1.x by its minor version (RFC 9112 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    Http11,
}

impl Version {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
        }
    }

    /// A minor version above 1 is to be taken as 1 (RFC 9110 section 2.5).
    fn parse(text: &[u8]) -> Option<Version> {
        match text {
            b"HTTP/1.0" => Some(Version::Http10),
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => Some(Version::Http11),
            _ => None,
        }
    }
}

/// Bytes of a token (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Methods that are their own operation: those of RFC 9110 section 9 and PATCH (RFC 5789).
pub(crate) const METHODS: [&[u8]; 9] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];

/// Is it one of [`METHODS`]?
pub(crate) fn is_registered(method: &[u8]) -> bool {
    // As patterns: a length and a comparison each, where a search would be nine calls.
    matches!(method, b"GET" | b"HEAD" | b"POST" | b"PUT" | b"DELETE" | b"CONNECT" | b"OPTIONS" | b"TRACE" | b"PATCH")
}

/// A head: its start line, and of its header section what podtap has a use for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) start_line: &'a [u8],
    pub(crate) body: Declared,
    pub(crate) host: Option<&'a [u8]>,
    pub(crate) user_agent: Option<&'a [u8]>,
    pub(crate) traceparent: Option<&'a [u8]>,
    pub(crate) content_type: Option<&'a [u8]>,
}

impl<'a> Head<'a> {
    /// The head that `bytes` begin with, and its length; none while its end is not there. Empty lines before the start
    /// line are passed over (RFC 9112 section 2.2); a head of nothing else has an empty start line. A line without a
    /// colon is passed over; of a folded field only the first line is taken; of repeated fields the first one.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<(usize, Head<'a>)> {
        let mut head = Head::default();
        let (mut rest, mut empty_lines) = (bytes, 0);
        while head.start_line.is_empty() {
            let (line, after) = split_line(rest)?;
            (head.start_line, rest) = (line, after);
            empty_lines += usize::from(line.is_empty());
            if empty_lines == 2 {
                return Some((bytes.len() - rest.len(), head));
            }
        }
        loop {
            let (line, after) = split_line(rest)?;
            rest = after;
            // Most lines are of no interest; by their first letter they cost next to nothing.
            match line.first().map(u8::to_ascii_lowercase) {
                None => return Some((bytes.len() - rest.len(), head)),
                Some(b'c' | b'h' | b't' | b'u') => head.field(line),
                Some(_) => {}
            }
        }
    }

    fn field(&mut self, line: &'a [u8]) {
        let Some(colon) = memchr::memchr(b':', line) else { return };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let place = match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => &mut self.host,
            10 if name.eq_ignore_ascii_case(b"user-agent") => &mut self.user_agent,
            11 if name.eq_ignore_ascii_case(b"traceparent") => &mut self.traceparent,
            12 if name.eq_ignore_ascii_case(b"content-type") => &mut self.content_type,
            14 if name.eq_ignore_ascii_case(b"content-length") => return self.body.length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => return self.body.transfer_encoding(value),
            _ => return,
        };
        place.get_or_insert(value);
    }
}

/// The first line without its ending, and what follows; none while its end is not there.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', bytes)?;
    Some((bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]), &bytes[end + 1..]))
}

/// method SP request-target SP HTTP-version (RFC 9112 section 3). Between them runs of white space are taken for one
/// space, as section 3 allows; a target may hold spaces, as some clients send them.
pub(crate) fn request_line(line: &[u8]) -> Option<RequestLine<'_>> {
    let line = line.trim_ascii();
    let first = memchr::memchr(b' ', line)?;
    let (method, rest) = line.split_at(first);
    let last = rest.iter().rposition(|&byte| byte == b' ')?;
    let version = Version::parse(&rest[last + 1..])?;
    let target = rest[..last].trim_ascii();
    let token = is_registered(method) || (!method.is_empty() && method.iter().all(|&byte| is_token(byte)));
    (token && !target.is_empty()).then_some(RequestLine { method, target, version })
}

/// HTTP-version SP status-code SP [ reason-phrase ] (RFC 9112 section 4); the second space is often left out.
pub(crate) fn status_line(line: &[u8]) -> Option<StatusLine> {
    let version = Version::parse(line.get(..8)?)?;
    match line.get(8..)? {
        [b' ', hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..]
            if rest.first().is_none_or(|&byte| byte == b' ') =>
        {
            let digit = |byte: u8| u16::from(byte - b'0');
            Some(StatusLine { version, status: digit(*hundreds) * 100 + digit(*tens) * 10 + digit(*ones) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line_of_either_ending() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest"[..], Some(24)),
            (b"GET / HTTP/1.1\nA: b\n\nrest", Some(21)),
            (b"GET / HTTP/1.1\r\nA: b\r\n\r", None),
            (b"GET / HTTP/1.1\r\nA: b\r\n", None),
            (b"", None),
        ] {
            assert_eq!(end_of_head(bytes, 0), expected, "{}", bytes.escape_ascii());
            // However much was seen before.
            for scanned in 0..expected.unwrap_or(bytes.len()).min(bytes.len()) {
                assert_eq!(end_of_head(bytes, scanned), expected, "{} from {scanned}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn registered_methods() {
        assert!(METHODS.iter().all(|method| is_registered(method)));
        assert!(!is_registered(b"get") && !is_registered(b""));
    }

    #[test]
    fn request_lines() {
        let check = |line: &str, expected: Option<(&str, &str, Version)>| {
            let expected = expected.map(|(method, target, version)| RequestLine {
                method: method.as_bytes(),
                target: target.as_bytes(),
                version,
            });
            assert_eq!(request_line(line.as_bytes()), expected, "{line}");
        };
        check("GET /a?b HTTP/1.1", Some(("GET", "/a?b", Version::Http11)));
        check("OPTIONS * HTTP/1.0", Some(("OPTIONS", "*", Version::Http10)));
        check("GET /a b HTTP/1.1", Some(("GET", "/a b", Version::Http11)));
        check("M-SEARCH  *  HTTP/1.9", Some(("M-SEARCH", "*", Version::Http11)));
        for bad in ["", "GET", "GET /", "GET HTTP/1.1", "G(T / HTTP/1.1", "PRI * HTTP/2.0", "GET / HTTP/1.11"] {
            check(bad, None);
        }
    }

    #[test]
    fn status_lines() {
        let check = |line: &str, expected: Option<u16>| {
            assert_eq!(status_line(line.as_bytes()).map(|line| line.status), expected, "{line}");
        };
        check("HTTP/1.1 200 OK", Some(200));
        check("HTTP/1.0 404", Some(404));
        check("HTTP/1.1 999 ", Some(999));
        for bad in ["", "HTTP/1.1", "HTTP/1.1 20", "HTTP/1.1 2000", "HTTP/1.1 099", "HTTP/2 200", "HTTP/1.1  200"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_head_gives_what_is_of_use_and_its_length() {
        let bytes = b"\r\nGET / HTTP/1.1\r\nHost: a:80 \r\nhost: b\r\nX-Fold: 1\r\n\thost: c\r\nUnusual\r\n\
            USER-AGENT:t\r\nContent-Length: 3\r\n\r\nabc";
        let (length, head) = Head::parse(bytes).unwrap();
        assert_eq!(length, bytes.len() - 3);
        assert_eq!(head.start_line, b"GET / HTTP/1.1");
        assert_eq!((head.host, head.user_agent), (Some(&b"a:80"[..]), Some(&b"t"[..])));
        assert_eq!(head.content_type, None);
        assert_eq!(head.body.of_request(), crate::framing::Body::Length(3));
        for incomplete in 0..length {
            assert_eq!(Head::parse(&bytes[..incomplete]), None);
        }
    }

    #[test]
    fn a_head_ends_where_its_end_is_found() {
        for bytes in [&b"A b\n\n"[..], b"\r\nA b\nh:\r\n\nx", b"\n\n", b"\r\n\r\nx", b"\n\nA b"] {
            let length = Head::parse(bytes).map(|(length, _)| length);
            assert_eq!(length, end_of_head(bytes, 0), "{}", bytes.escape_ascii());
        }
    }
}
