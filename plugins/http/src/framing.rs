//! How long a body is (RFC 9112 section 6.3), in the order of precedence that the section gives.

use crate::anomaly::{Anomalies, Anomaly};
use crate::head::Version;

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
    length: Length,
}

/// What Content-Length says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Length {
    #[default]
    Missing,
    Known(u64),
    /// No number, or several that differ.
    Invalid,
}

impl Declared {
    /// Takes note of a Content-Length field: 1*DIGIT (RFC 9110 section 8.6). Several that are the same, in one field or
    /// in many, are one; others make the message invalid (6.3, item 5).
    pub(crate) fn length(&mut self, value: &[u8], anomalies: &mut Anomalies) {
        for item in value.split(|&byte| byte == b',') {
            self.length = match (self.length, decimal(item.trim_ascii())) {
                (Length::Missing, Some(length)) => Length::Known(length),
                (Length::Known(known), Some(length)) if known == length => {
                    anomalies.note(Anomaly::RepeatedContentLength);
                    Length::Known(known)
                }
                (Length::Known(_), Some(_)) => {
                    anomalies.note(Anomaly::ConflictingContentLength);
                    Length::Invalid
                }
                (Length::Invalid, Some(_)) => Length::Invalid,
                (_, None) => {
                    anomalies.note(Anomaly::InvalidContentLength);
                    Length::Invalid
                }
            };
        }
    }

    /// Takes note of a Transfer-Encoding field. Several fields are one list (RFC 9110 section 5.3), whose empty items do
    /// not count (5.6.1). Chunked frames the message only as the last coding, and stands there once (6.1).
    pub(crate) fn transfer_encoding(&mut self, value: &[u8], anomalies: &mut Anomalies) {
        self.transfer_coding = true;
        for coding in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty()) {
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            anomalies.note_if(self.chunked && chunked, Anomaly::RepeatedChunked);
            self.chunked = chunked;
        }
    }

    /// Notes what is wrong with the fields together.
    pub(crate) fn check(self, version: Version, anomalies: &mut Anomalies) {
        if self.transfer_coding {
            let length = self.length != Length::Missing;
            anomalies.note_if(length, Anomaly::ContentLengthAndTransferEncoding);
            anomalies.note_if(!self.chunked, Anomaly::ChunkedIsNotLast);
            anomalies.note_if(version != Version::Http11, Anomaly::TransferEncodingInHttp10);
        }
    }

    /// The body of a request.
    pub(crate) fn of_request(self) -> Body {
        match self {
            Declared { chunked: true, .. } => Body::Chunked,
            // With a transfer coding that is not chunked, or an invalid length, the end cannot be known: the server is to
            // answer 400 and close (6.3, items 4 and 5).
            Declared { transfer_coding: true, .. } | Declared { length: Length::Invalid, .. } => Body::UntilClose,
            Declared { length: Length::Known(length), .. } => Body::Length(length),
            Declared { length: Length::Missing, .. } => Body::None,
        }
    }

    /// The body of a final response (6.3, items 1 to 8).
    pub(crate) fn of_response(self, status: u16, asked: Asked) -> Body {
        match (status, asked, self) {
            (101, ..) | (200..=299, Asked::Connect, _) => Body::Tunnel,
            (204 | 304, ..) | (_, Asked::Head, _) => Body::None,
            (.., Declared { chunked: true, .. }) => Body::Chunked,
            (.., Declared { transfer_coding: true, .. } | Declared { length: Length::Invalid, .. }) => Body::UntilClose,
            (.., Declared { length: Length::Known(length), .. }) => Body::Length(length),
            (.., Declared { length: Length::Missing, .. }) => Body::UntilClose,
        }
    }

    /// Is there content, by the fields alone? A chunked body may turn out to be empty.
    pub(crate) fn has_content(self) -> bool {
        self.transfer_coding || matches!(self.length, Length::Known(1..))
    }
}

/// A number of decimal digits alone; none where it does not fit.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |byte: &u8| u64::from(byte - b'0');
    // With up to 19 digits nothing overflows: checks are dear in the sandbox.
    let (few, more) = digits.split_at(digits.len().min(19));
    let value = few.iter().fold(0_u64, |value, byte| value * 10 + digit(byte));
    more.iter().try_fold(value, |value, byte| value.checked_mul(10)?.checked_add(digit(byte)))
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

/// chunk-size [ chunk-ext ] CRLF (RFC 9112 section 7.1): the size, and whether a bare LF ends the line.
pub(crate) fn chunk_size(line: &[u8]) -> Option<(u64, bool)> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at(digits);
    let bare = !rest.ends_with(b"\r\n");
    // The grammar allows white space before a semicolon, and some servers fill up with it; more than 16 digits do not
    // fit.
    let rest = rest.trim_ascii();
    if digits == 0 || digits > 16 || !(rest.is_empty() || rest.starts_with(b";")) {
        return None;
    }
    let value = |byte: &u8| char::from(*byte).to_digit(16).map(u64::from);
    let size = size.iter().filter_map(value).fold(0, |size, digit| size << 4 | digit);
    Some((size, bare))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Head;

    fn declared(fields: &str) -> (Declared, String) {
        let bytes = format!("start line\r\n{fields}\r\n");
        let read = |head: &Head<'_>| {
            let mut anomalies = head.anomalies;
            head.body.check(Version::Http11, &mut anomalies);
            (head.body, anomalies.names())
        };
        Head::read(bytes.as_bytes(), |_, head| read(head)).expect("a whole head")
    }

    fn response(fields: &str, status: u16, asked: Asked) -> Body {
        declared(fields).0.of_response(status, asked)
    }

    fn request(fields: &str) -> Body {
        declared(fields).0.of_request()
    }

    #[test]
    fn transfer_encoding_comes_before_content_length() {
        let both = "Content-Length: 5\r\nTransfer-Encoding: gzip, Chunked\r\n";
        assert_eq!(response(both, 200, Asked::Other), Body::Chunked);
        assert_eq!(request(both), Body::Chunked);
        assert_eq!(declared(both).1, "content_length_and_transfer_encoding");
        assert_eq!(response("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", 200, Asked::Other), Body::UntilClose);
    }

    #[test]
    fn chunked_counts_only_as_the_last_coding() {
        for (fields, expected, anomalies) in [
            ("Transfer-Encoding: chunked\r\n", Body::Chunked, ""),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Body::Chunked, ""),
            ("Transfer-Encoding: , chunked, ,\r\n", Body::Chunked, ""),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Body::UntilClose, "chunked_is_not_last"),
            ("Transfer-Encoding: chunked, chunked\r\n", Body::Chunked, "repeated_chunked"),
            ("Transfer-Encoding: xchunked\r\n", Body::UntilClose, "chunked_is_not_last"),
            ("Transfer-Encoding:\r\n chunked\r\n", Body::Chunked, "obs_fold"),
            ("Transfer-Encoding : chunked\r\n", Body::Chunked, "space_before_colon"),
        ] {
            assert_eq!((request(fields), declared(fields).1.as_str()), (expected, anomalies), "{fields}");
        }
    }

    #[test]
    fn responses_that_have_no_body_whatever_they_say() {
        let length = "Content-Length: 5\r\n";
        assert_eq!(response(length, 200, Asked::Head), Body::None);
        assert_eq!(response(length, 204, Asked::Other), Body::None);
        assert_eq!(response(length, 304, Asked::Other), Body::None);
        assert_eq!(response(length, 205, Asked::Other), Body::Length(5));
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
    fn a_content_length_that_is_none_leaves_the_end_unknown() {
        for bad in ["-5", "+5", "", "5x", "0x5", "5 5", "99999999999999999999", "5,"] {
            let fields = format!("Content-Length: {bad}\r\n");
            assert_eq!(request(&fields), Body::UntilClose, "{bad}");
            assert_eq!(declared(&fields).1, "invalid_content_length", "{bad}");
        }
        assert_eq!(request("Content-Length: 18446744073709551615\r\n"), Body::Length(u64::MAX));
    }

    #[test]
    fn content_lengths_that_repeat_and_that_differ() {
        for (fields, expected, anomalies) in [
            ("Content-Length: 5, 05\r\n", Body::Length(5), "repeated_content_length"),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Body::Length(5), "repeated_content_length"),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Body::UntilClose, "conflicting_content_length"),
            ("Content-Length: 5, 6, 5\r\n", Body::UntilClose, "conflicting_content_length"),
        ] {
            assert_eq!((request(fields), declared(fields).1.as_str()), (expected, anomalies), "{fields}");
        }
    }

    #[test]
    fn chunk_sizes() {
        for (line, expected) in [
            ("0\r\n", Some((0, false))),
            ("1a\r\n", Some((26, false))),
            ("1A ;ext=\"v\"\r\n", Some((26, false))),
            ("5  \r\n", Some((5, false))),
            ("000000000000000a\n", Some((10, true))),
            ("ffffffffffffffff\r\n", Some((u64::MAX, false))),
            ("0ffffffffffffffff\r\n", None),
            ("\r\n", None),
            ("-1\r\n", None),
            ("0x5\r\n", None),
            ("5 5\r\n", None),
        ] {
            assert_eq!(chunk_size(line.as_bytes()), expected, "{line}");
        }
    }
}
