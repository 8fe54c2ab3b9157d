//! How long a body is (RFC 9112 section 6.3), in the order of precedence that the section gives.

/// The end of a message's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunked transfer coding (RFC 9112 section 7.1).
    Chunked,
    /// Up to the end of the connection.
    UntilClose,
    /// There is none.
    None,
    /// No body: behind the head the connection is another protocol's.
    Tunnel,
}

/// What the header fields say of the body, not yet what follows from method and status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    transfer_coding: bool,
    chunked: bool,
    length: Option<u64>,
}

impl Declared {
    /// Takes note of a Content-Length field. Of repeated ones the first counts: senders of two that differ are wrong
    /// (6.3, item 5).
    pub(crate) fn length(&mut self, value: &[u8]) {
        self.length = self.length.or_else(|| content_length(value));
    }

    /// Takes note of a Transfer-Encoding field. Chunked frames the message only as the last coding (6.1).
    pub(crate) fn transfer_encoding(&mut self, value: &[u8]) {
        self.transfer_coding = true;
        let last = value.rsplit(|&byte| byte == b',').next().unwrap_or_default();
        self.chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
    }

    /// The body of a request.
    pub(crate) fn of_request(self) -> Body {
        match self {
            Declared { chunked: true, .. } => Body::Chunked,
            // With a transfer coding that is not chunked the length cannot be known (6.3, item 4).
            Declared { transfer_coding: true, .. } => Body::UntilClose,
            Declared { length, .. } => length.map_or(Body::None, Body::Length),
        }
    }

    /// The body of a final response (6.3, items 1 to 8).
    pub(crate) fn of_response(self, status: u16, asked: Asked) -> Body {
        match (status, asked, self) {
            (101, ..) | (200..=299, Asked::Connect, _) => Body::Tunnel,
            (204 | 304, ..) | (_, Asked::Head, _) => Body::None,
            (.., Declared { chunked: true, .. }) => Body::Chunked,
            (.., Declared { transfer_coding: true, .. }) => Body::UntilClose,
            (.., Declared { length, .. }) => length.map_or(Body::UntilClose, Body::Length),
        }
    }
}

/// 1*DIGIT (RFC 9110 section 8.6); a list of equal values is one value (6.3, item 5).
fn content_length(value: &[u8]) -> Option<u64> {
    let first = value.split(|&byte| byte == b',').next()?.trim_ascii();
    let digits = std::str::from_utf8(first).ok()?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// What of the request decides the body of its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Any other method, or one that was not captured.
    #[default]
    Other,
    Head,
    Connect,
}

/// chunk-size [ chunk-ext ] CRLF (RFC 9112 section 7.1).
pub(crate) fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at(digits);
    // The grammar allows white space before a semicolon; more than 16 digits do not fit.
    let rest = rest.trim_ascii();
    if digits == 0 || digits > 16 || !(rest.is_empty() || rest.starts_with(b";")) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Head;

    fn declared(fields: &str) -> Declared {
        let head = format!("start line\r\n{fields}\r\n");
        Head::parse(head.as_bytes()).map(|(_, head)| head.body).unwrap_or_default()
    }

    fn response(fields: &str, status: u16, asked: Asked) -> Body {
        declared(fields).of_response(status, asked)
    }

    fn request(fields: &str) -> Body {
        declared(fields).of_request()
    }

    #[test]
    fn transfer_encoding_comes_before_content_length() {
        let both = "Content-Length: 5\r\nTransfer-Encoding: gzip, Chunked\r\n";
        assert_eq!(response(both, 200, Asked::Other), Body::Chunked);
        assert_eq!(request(both), Body::Chunked);
        assert_eq!(response("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", 200, Asked::Other), Body::UntilClose);
    }

    #[test]
    fn responses_that_have_no_body_whatever_they_say() {
        let length = "Content-Length: 5\r\n";
        assert_eq!(response(length, 200, Asked::Head), Body::None);
        assert_eq!(response(length, 204, Asked::Other), Body::None);
        assert_eq!(response(length, 304, Asked::Other), Body::None);
        assert_eq!(response(length, 200, Asked::Connect), Body::Tunnel);
        assert_eq!(response(length, 404, Asked::Connect), Body::Length(5));
        assert_eq!(response("", 101, Asked::Other), Body::Tunnel);
    }

    #[test]
    fn without_any_length_a_request_is_empty_and_a_response_goes_on_until_close() {
        assert_eq!(request(""), Body::None);
        assert_eq!(response("", 200, Asked::Other), Body::UntilClose);
    }

    #[test]
    fn content_lengths_that_are_none_do_not_count() {
        for bad in ["-5", "+5", "", "5x", "0x5", "99999999999999999999"] {
            assert_eq!(request(&format!("Content-Length: {bad}\r\n")), Body::None, "{bad}");
        }
        assert_eq!(request("Content-Length: 5, 5\r\n"), Body::Length(5));
        assert_eq!(request("Content-Length: 18446744073709551615\r\n"), Body::Length(u64::MAX));
    }

    #[test]
    fn chunk_sizes() {
        for (line, expected) in [
            ("0\r\n", Some(0)),
            ("1a\r\n", Some(26)),
            ("1A ;ext=\"v\"\r\n", Some(26)),
            ("000000000000000a\n", Some(10)),
            ("ffffffffffffffff\r\n", Some(u64::MAX)),
            ("0ffffffffffffffff\r\n", None),
            ("\r\n", None),
            ("-1\r\n", None),
            ("5 5\r\n", None),
        ] {
            assert_eq!(chunk_size(line.as_bytes()), expected, "{line}");
        }
    }
}
