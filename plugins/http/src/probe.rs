//! Is this HTTP/1, and where does a message begin? Errs towards no: what is not certainly HTTP/1 is somebody else's.

use podtap_sdk::Verdict;

use crate::head::{is_registered, is_token, request_line, simple_request, status_line};

/// From so many bytes of a first line on, a known method and an absolute path are enough for [`request`].
const LONG_FIRST_LINE: usize = 512;

/// Of a client's first bytes, or of those at the start of a line.
pub(crate) fn request(head: &[u8]) -> Verdict {
    let head = trim_empty_lines(head);
    let Some(line_end) = memchr::memchr(b'\n', head) else {
        let method_end = head.iter().position(|&byte| byte == b' ').unwrap_or(head.len());
        let (method, rest) = head.split_at(method_end);
        // Whatever the line may yet become is waited for, or the verdict would depend on where segments are cut.
        return if !method.iter().copied().all(is_token) || (method.is_empty() && !rest.is_empty()) {
            Verdict::No
        } else if head.len() >= LONG_FIRST_LINE && is_registered(method) && rest.starts_with(b" /") {
            Verdict::Yes
        } else {
            Verdict::NeedMore
        };
    };
    if is_request_line(&head[..line_end]) || simple_request(head).is_some() { Verdict::Yes } else { Verdict::No }
}

/// Any method will do, but not also any target.
fn is_request_line(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    request_line(line).is_some_and(|line| is_registered(line.method) || !line.spaced)
}

/// Of a server's first bytes, or of those at the start of a line.
pub(crate) fn response(head: &[u8]) -> Verdict {
    // The status code and what follows it: 13 bytes.
    match head.get(..13) {
        Some(start) => {
            let line = start.split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or_default();
            if status_line(line).is_some() { Verdict::Yes } else { Verdict::No }
        }
        None if b"HTTP/1.".starts_with(&head[..head.len().min(7)]) => Verdict::NeedMore,
        None => Verdict::No,
    }
}

/// Where in the middle of a stream a request begins.
pub(crate) fn find_request(bytes: &[u8]) -> Option<usize> {
    let is_start = |line: &[u8]| match memchr::memchr(b'\n', line) {
        Some(end) => is_request_line(&line[..end]),
        None => request(line) == Verdict::Yes,
    };
    find_line(bytes, is_start)
}

/// Where in the middle of a stream a response begins.
pub(crate) fn find_response(bytes: &[u8]) -> Option<usize> {
    find_line(bytes, |line| response(line) == Verdict::Yes)
}

/// The offset of the first line that `is_start` accepts.
fn find_line(bytes: &[u8], is_start: impl Fn(&[u8]) -> bool) -> Option<usize> {
    let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', bytes).map(|at| at + 1));
    starts.into_iter().find(|&at| at < bytes.len() && !bytes[at].is_ascii_whitespace() && is_start(&bytes[at..]))
}

fn trim_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_1_is_http_1() {
        for (head, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Verdict::Yes),
            (b"\r\nM-SEARCH * HTTP/1.1\r\n", Verdict::Yes),
            (b"GET /old\r\n", Verdict::Yes),
            (b"GE", Verdict::NeedMore),
            (b"BREW", Verdict::NeedMore),
            (b"BREW /pot HTTP/1.1", Verdict::NeedMore),
            (b"BREW /pot HTTP/1.1\r\n", Verdict::Yes),
            (b" GET / ", Verdict::No),
            (b"a:b", Verdict::No),
            (b"GET /a", Verdict::NeedMore),
            (b"", Verdict::NeedMore),
            (b"GET key\r\n", Verdict::No),
            (b"get key\r\n", Verdict::No),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Verdict::No),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Verdict::No),
            (b"OPTIONS rtsp://h/ RTSP/1.0\r\n", Verdict::No),
            (b"INVITE sip:a@b SIP/2.0\r\n", Verdict::No),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Verdict::No),
        ] {
            assert_eq!(request(head), expected, "{}", head.escape_ascii());
        }
        for (head, expected) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], Verdict::Yes),
            (b"HTTP/1.0 404\r\n", Verdict::Yes),
            (b"HTTP/1.1 2", Verdict::NeedMore),
            (b"HTTP/2 200 OK\r\n", Verdict::No),
            (b"RTSP/1.0 200 OK\r\n", Verdict::No),
            (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00", Verdict::No),
        ] {
            assert_eq!(response(head), expected, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn a_long_first_line_need_not_be_whole() {
        let line = format!("GET /{}", "x".repeat(LONG_FIRST_LINE));
        assert_eq!(request(line.as_bytes()), Verdict::Yes);
        assert_eq!(request(&line.as_bytes()[..100]), Verdict::NeedMore);
    }

    #[test]
    fn a_message_is_found_at_the_start_of_a_line() {
        assert_eq!(find_request(b"tail\r\nGET / HTTP/1.1\r\n"), Some(6));
        assert_eq!(find_request(b"see GET / HTTP/1.1\r\n"), None);
        assert_eq!(find_request(b"GET /a\r\n"), None);
        assert_eq!(find_response(b"tail\nHTTP/1.1 200 OK\r\n"), Some(5));
        assert_eq!(find_response(b"HTTP/1.1"), None);
    }
}
