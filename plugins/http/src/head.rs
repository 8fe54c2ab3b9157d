//! Request and response heads: start line and header fields (RFC 9112 sections 2 to 5).
//!
//! In: bytes that begin with a head. Out: what an exchange or the framing of the body needs of it, as slices, and what is
//! wrong with it. Lenient as RFC 9112 allows recipients to be: bare LF ends a line (2.2), obsolete line folding is read
//! as white space (5.2).

use crate::anomaly::{Anomalies, Anomaly};
use crate::framing::Declared;
use crate::lines::Lines;

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
    /// White space stands where it does not belong.
    pub(crate) spaced: bool,
}

/// A status line (RFC 9112 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatusLine {
    pub(crate) version: Version,
    pub(crate) status: u16,
}

/// HTTP/1.x by its minor version (RFC 9112 section 2.3), or what was before it (RFC 1945 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http09,
    Http10,
    Http11,
}

impl Version {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Version::Http09 => "0.9",
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
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Is it a method that is its own operation: one of RFC 9110 section 9, or PATCH (RFC 5789)?
pub(crate) fn is_registered(method: &[u8]) -> bool {
    // As patterns: a length and a comparison each, where a search would be nine calls.
    matches!(method, b"GET" | b"HEAD" | b"POST" | b"PUT" | b"DELETE" | b"CONNECT" | b"OPTIONS" | b"TRACE" | b"PATCH")
}

/// A head: its start line, and of its header section what podtap has a use for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) start_line: &'a [u8],
    /// The lines behind it, the empty one included.
    pub(crate) section: &'a [u8],
    pub(crate) body: Declared,
    pub(crate) anomalies: Anomalies,
    pub(crate) host: Option<&'a [u8]>,
    pub(crate) user_agent: Option<&'a [u8]>,
    pub(crate) content_type: Option<&'a [u8]>,
    pub(crate) upgrade: Option<&'a [u8]>,
    pub(crate) traceparent: Option<&'a [u8]>,
    pub(crate) b3: Option<&'a [u8]>,
    pub(crate) b3_trace_id: Option<&'a [u8]>,
    pub(crate) b3_span_id: Option<&'a [u8]>,
    pub(crate) request_id: Option<&'a [u8]>,
}

impl<'a> Head<'a> {
    /// Gives the head that `bytes` begin with to `take`, with its length; none while its end is not there. Empty lines
    /// before the start line are passed over (RFC 9112 section 2.2); a head of nothing else has an empty start line. A
    /// line without a colon is passed over; of repeated fields the first one is taken.
    pub(crate) fn read<T>(bytes: &[u8], take: impl FnOnce(usize, &Head<'_>) -> T) -> Option<T> {
        let mut head = Head::default();
        let length = head.parse(bytes)?;
        if !head.anomalies.has(Anomaly::ObsFold) {
            return Some(take(length, &head));
        }
        let unfolded = unfold(head.section);
        let mut whole = Head { start_line: head.start_line, anomalies: head.anomalies, ..Head::default() };
        whole.fields(&mut Lines::of(&unfolded))?;
        whole.section = &unfolded;
        Some(take(length, &whole))
    }

    /// As [`Head::read`], but of a folded field only the first line is read. Gives the length.
    fn parse(&mut self, bytes: &'a [u8]) -> Option<usize> {
        let mut lines = Lines::of(bytes);
        self.start_line = lines.next()?;
        if self.start_line.is_empty() {
            self.start_line = lines.next()?;
        }
        let before = lines.position();
        if !self.start_line.is_empty() {
            self.fields(&mut lines)?;
            self.section = &bytes[before..lines.position()];
        }
        self.anomalies.note_if(lines.has_bare_cr(), Anomaly::BareCr);
        self.anomalies.note_if(lines.has_bare_lf(), Anomaly::BareLf);
        Some(lines.position())
    }

    /// Reads the lines behind the start line, the empty one included.
    // In line, with all that it calls for every line: a call takes more instructions than the work does.
    #[inline(always)]
    fn fields(&mut self, lines: &mut Lines<'a>) -> Option<()> {
        loop {
            let line = lines.next()?;
            // Most lines are of no interest; by their first letter they cost next to nothing.
            let Some(first) = line.first() else { return Some(()) };
            match first | 0x20 {
                b'b' => self.take(line, b"b3", |head| &mut head.b3),
                b'c' => {
                    if let Some(value) = self.value(line, b"content-length") {
                        self.body.length(value, &mut self.anomalies);
                    } else {
                        self.take(line, b"content-type", |head| &mut head.content_type);
                    }
                }
                b'h' => {
                    if let Some(value) = self.value(line, b"host") {
                        self.anomalies.note_if(self.host.is_some(), Anomaly::RepeatedHost);
                        self.host.get_or_insert(value);
                    }
                }
                b't' => {
                    if let Some(value) = self.value(line, b"transfer-encoding") {
                        self.body.transfer_encoding(value, &mut self.anomalies);
                    } else {
                        self.take(line, b"traceparent", |head| &mut head.traceparent);
                    }
                }
                b'u' => {
                    self.take(line, b"user-agent", |head| &mut head.user_agent);
                    self.take(line, b"upgrade", |head| &mut head.upgrade);
                }
                b'x' => {
                    self.take(line, b"x-request-id", |head| &mut head.request_id);
                    self.take(line, b"x-b3-traceid", |head| &mut head.b3_trace_id);
                    self.take(line, b"x-b3-spanid", |head| &mut head.b3_span_id);
                }
                // A space, or with that bit a tab.
                b' ' | b')' if matches!(first, b' ' | b'\t') => self.anomalies.note(Anomaly::ObsFold),
                _ => {}
            }
        }
    }

    /// Keeps the value of the field of this name where the line is the first one that has it.
    #[inline(always)]
    fn take<const N: usize>(
        &mut self,
        line: &'a [u8],
        name: &[u8; N],
        place: impl for<'h> Fn(&'h mut Head<'a>) -> &'h mut Option<&'a [u8]>,
    ) {
        if let Some(value) = self.value(line, name) {
            place(self).get_or_insert(value);
        }
    }

    /// The value where the line is a field of this name, which is in lower case.
    #[inline(always)]
    fn value<const N: usize>(&mut self, line: &'a [u8], name: &[u8; N]) -> Option<&'a [u8]> {
        let (found, rest) = line.split_first_chunk()?;
        match rest {
            [b':', value @ ..] if is(found, name) => Some(trim(value)),
            [b' ' | b'\t', ..] if is(found, name) => {
                let value = rest.trim_ascii_start().strip_prefix(b":")?;
                self.anomalies.note(Anomaly::SpaceBeforeColon);
                Some(trim(value))
            }
            _ => None,
        }
    }
}

/// Without the white space around it.
#[inline(always)]
fn trim(value: &[u8]) -> &[u8] {
    // As nearly every value is: behind one space.
    match value {
        [b' ', value @ ..] if matches!(value, [first, .., last] if *first > b' ' && *last > b' ') => value,
        _ => value.trim_ascii(),
    }
}

/// The fields of a header section, in order: names as sent, values without white space around them.
pub(crate) fn fields(section: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    section.split(|&byte| byte == b'\n').filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        Some((line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii()))
    })
}

/// A header section with folded lines joined: a line break and the white space behind it are read as white space (RFC
/// 9112 section 5.2). What begins with white space directly behind the start line is left out (2.2).
fn unfold(section: &[u8]) -> Vec<u8> {
    let mut unfolded = Vec::with_capacity(section.len());
    for line in section.split_inclusive(|&byte| byte == b'\n') {
        if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            let kept = unfolded.trim_ascii_end().len();
            if kept == 0 {
                continue;
            }
            unfolded.truncate(kept);
        }
        unfolded.extend_from_slice(line);
    }
    unfolded
}

/// Is it this name, which is in lower case, in whatever case?
#[inline(always)]
fn is<const N: usize>(name: &[u8; N], lower: &[u8; N]) -> bool {
    // Of fixed length, eight bytes at a time, and without a branch: few instructions. That a CR is taken for a hyphen
    // does no harm, for it ends no line there.
    let ((name, name_rest), (lower, lower_rest)) = (name.as_chunks::<8>(), lower.as_chunks::<8>());
    let eights = name.iter().zip(lower).fold(0, |different, (name, lower)| {
        different | (u64::from_le_bytes(*name) | 0x2020_2020_2020_2020) ^ u64::from_le_bytes(*lower)
    });
    let ones = name_rest.iter().zip(lower_rest).fold(0, |different, (byte, lower)| different | (byte | 0x20) ^ lower);
    eights | u64::from(ones) == 0
}

/// method SP request-target SP HTTP-version (RFC 9112 section 3). Between them runs of white space are taken for one
/// space, as section 3 allows; a target may hold spaces, as some clients send them.
pub(crate) fn request_line(line: &[u8]) -> Option<RequestLine<'_>> {
    let trimmed = line.trim_ascii();
    let (front, version) = trimmed.split_at_checked(trimmed.len().checked_sub(8)?)?;
    let version = Version::parse(version)?;
    let front = front.strip_suffix(b" ")?;
    let space = front.iter().position(|&byte| byte == b' ')?;
    let (method, rest) = (&front[..space], &front[space + 1..]);
    let target = rest.trim_ascii();
    let spaced = line.len() > trimmed.len() || rest.len() > target.len() || memchr::memchr(b' ', target).is_some();
    let token = is_registered(method) || (!method.is_empty() && method.iter().all(|&byte| is_token(byte)));
    (token && !target.is_empty()).then_some(RequestLine { method, target, version, spaced })
}

/// "GET" SP request-target, the whole of a request in HTTP/0.9 (RFC 1945 section 4.1): its length and target, if `bytes`
/// begin with one, or with empty lines and one.
pub(crate) fn simple_request(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let length = start + memchr::memchr(b'\n', &bytes[start..])? + 1;
    let target = bytes[start..length].strip_prefix(b"GET ")?.trim_ascii();
    let is_target = target.starts_with(b"/") || target.starts_with(b"http://");
    (is_target && !target.iter().any(u8::is_ascii_whitespace)).then_some((length, target))
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
        assert!(is_registered(b"GET") && is_registered(b"PATCH"));
        assert!(!is_registered(b"get") && !is_registered(b""));
    }

    #[test]
    fn request_lines() {
        let check = |line: &str, expected: Option<(&str, &str, Version)>| {
            let expected = expected.map(|(method, target, version)| RequestLine {
                method: method.as_bytes(),
                target: target.as_bytes(),
                version,
                spaced: false,
            });
            let line_without_spaces = |line| RequestLine { spaced: false, ..line };
            assert_eq!(request_line(line.as_bytes()).map(line_without_spaces), expected, "{line}");
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
    fn white_space_that_does_not_belong_in_a_request_line() {
        for (line, expected) in [
            ("GET / HTTP/1.1", false),
            (" GET / HTTP/1.1", true),
            ("GET  / HTTP/1.1", true),
            ("GET /  HTTP/1.1", true),
            ("GET /a b HTTP/1.1", true),
            ("GET / HTTP/1.1 ", true),
        ] {
            assert_eq!(request_line(line.as_bytes()).map(|line| line.spaced), Some(expected), "{line}");
        }
    }

    #[test]
    fn simple_requests() {
        for (bytes, expected) in [
            (&b"GET /a\r\n"[..], Some((8, &b"/a"[..]))),
            (b"\nGET http://h/a \nrest", Some((17, b"http://h/a"))),
            (b"GET /a HTTP/1.1\r\n", None),
            (b"GET /a", None),
            (b"GET a\r\n", None),
            (b"POST /a\r\n", None),
            (b"\r\n", None),
        ] {
            assert_eq!(simple_request(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_head_gives_what_is_of_use_and_its_length() {
        let bytes = b"\r\nGET / HTTP/1.1\r\nHost: a:80 \r\nUnusual\r\nUSER-AGENT:t\r\nContent-Length: 3\r\n\r\nabc";
        let mut head = Head::default();
        let length = head.parse(bytes).unwrap();
        assert_eq!(length, bytes.len() - 3);
        assert_eq!(head.start_line, b"GET / HTTP/1.1");
        assert_eq!((head.host, head.user_agent), (Some(&b"a:80"[..]), Some(&b"t"[..])));
        assert_eq!(head.content_type, None);
        assert_eq!(head.body.of_request(), crate::framing::Body::Length(3));
        assert!(head.anomalies.is_empty());
        for incomplete in 0..length {
            assert_eq!(Head::default().parse(&bytes[..incomplete]), None);
        }
    }

    #[test]
    fn a_folded_field_is_read_as_one_line() {
        let bytes = b"GET / HTTP/1.1\r\n lost: 1\r\nUser-Agent: a\r\n\tb:\r\n  c\r\nHost: h\r\nhost: i\r\n\r\n";
        let read = Head::read(bytes, |length, head| {
            assert_eq!((head.user_agent, head.host), (Some(&b"a\tb:  c"[..]), Some(&b"h"[..])));
            let fields: Vec<_> = fields(head.section).map(|(name, _)| name.escape_ascii().to_string()).collect();
            assert_eq!(fields, ["User-Agent", "Host", "host"]);
            (length, head.anomalies.names())
        });
        assert_eq!(read, Some((bytes.len(), "obs_fold,repeated_host".to_owned())));
    }

    #[test]
    fn a_bare_cr_is_found() {
        let anomalies = |bytes: &[u8]| Head::read(bytes, |_, head| head.anomalies.names()).unwrap();
        assert_eq!(anomalies(b"A\r\nA: b\r\n\r\n"), "");
        assert_eq!(anomalies(b"A\r\nA: b\rC: d\r\n\r\n"), "bare_cr");
        assert_eq!(anomalies(b"\r\nA\rB\r\n\r\n"), "bare_cr");
        assert_eq!(anomalies(b"A\nB\r\n\n"), "bare_lf");
    }

    #[test]
    fn a_head_ends_where_its_end_is_found() {
        for bytes in [&b"A b\n\n"[..], b"\r\nA b\nh:\r\n\nx", b"\n\n", b"\r\n\r\nx", b"\n\nA b"] {
            let length = Head::default().parse(bytes);
            assert_eq!(length, end_of_head(bytes, 0), "{}", bytes.escape_ascii());
        }
    }
}
