//! Error messages without the values that servers put into them.
//!
//! Errs towards taking too much: everything from the first quote or bracket to the last one goes, as does every word with
//! a digit in it but for the server's own names of errors. What a server writes bare and in letters only stays.

use crate::reader::MAX_TEXT;

/// Bytes of a message that are published.
const MAX_MESSAGE: usize = 256;

/// The message with `?` for what may be a value.
pub(crate) fn message(text: &[u8]) -> Vec<u8> {
    let opens = |at: usize| match text[at] {
        b'{' | b'[' | b'(' | b'"' | b'`' | b'<' => true,
        // Not the apostrophe of a word.
        b'\'' => at == 0 || !text[at - 1].is_ascii_alphanumeric(),
        _ => false,
    };
    let closes = |byte: &u8| matches!(byte, b'}' | b']' | b')' | b'"' | b'\'' | b'`' | b'>');
    let first = (0..text.len()).find(|&at| opens(at)).unwrap_or(text.len());
    // One that does not close reaches to the end. In a message that was cut, what closes may be within a value.
    let last =
        text.iter().rposition(closes).filter(|&last| last > first && text.len() < MAX_TEXT).unwrap_or(text.len());
    let behind = (last + 1).min(text.len());
    let open = (behind..text.len()).find(|&at| opens(at)).unwrap_or(text.len());
    let mut redacted = Vec::new();
    words(&text[..first], &mut redacted);
    if first < text.len() {
        redacted.push(b'?');
    }
    words(&text[behind..open], &mut redacted);
    if open < text.len() {
        redacted.push(b'?');
    }
    redacted.truncate(MAX_MESSAGE);
    redacted
}

fn words(text: &[u8], redacted: &mut Vec<u8>) {
    for (index, word) in text.split(|&byte| byte == b' ').enumerate() {
        if index > 0 {
            redacted.push(b' ');
        }
        // E11000, which names the kind of error.
        let number = word.strip_prefix(b"E").unwrap_or_default();
        let code = number.len() == 5 && number.iter().all(u8::is_ascii_digit);
        // What is not ASCII is no server's wording.
        let plain = word.iter().all(|byte| byte.is_ascii_alphabetic() || byte.is_ascii_punctuation() && *byte != b'@');
        redacted.extend_from_slice(if plain || code { word } else { b"?" });
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_TEXT, message};

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&message(text.as_bytes())), expected);
    }

    #[test]
    fn values_go() {
        check(
            "E11000 duplicate key error collection: shop.orders index: email_1 dup key: { email: \"a\"b} c\" }",
            "E11000 duplicate key error collection: shop.orders index: ? dup key: ?",
        );
        check(
            "Cannot apply $inc to a value of type {_id: 7, a: 'x'} in 'b' and more",
            "Cannot apply $inc to a value of type ? and more",
        );
        check("can't find x@example.com or 192.0.2.1 or 7", "can't find ? or ? or ?");
        check("no such command: 'foo", "no such command: ?");
        check("(a) is out of range [foo", "? is out of range ?");
        // As long as it is read: the rest of the value is not there.
        let cut = format!("dup key: {{ a: \"it's {}", "foo ".repeat(200));
        check(&cut[..MAX_TEXT], "dup key: ?");
        check("unquoted geschäft here", "unquoted ? here");
        check("", "");
    }
}
