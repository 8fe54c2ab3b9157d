//! Error messages, which quote parts of statements.

/// A server cuts a message that would have more bytes (MYSQL_ERRMSG_SIZE, less a character that does not fit whole).
const MIN_CUT_MESSAGE: usize = 504;

/// An error's message without what it quotes: from the first quotation mark to the last one, for what is quoted may
/// hold such marks itself; and without numbers. To the end where a mark is missing, or the message may have been cut.
pub(crate) fn redact_message(message: &[u8], out: &mut Vec<u8>) {
    out.clear();
    // Not that of "doesn't" and "can't".
    let is_quote = |at: &usize| match message.get(*at) {
        Some(b'"') => true,
        Some(b'\'') => message.get(at.saturating_sub(1)) != Some(&b'n') || message.get(at + 1..at + 3) != Some(b"t "),
        _ => false,
    };
    let first = (0..message.len()).find(is_quote);
    let is_whole = (0..message.len()).filter(is_quote).count() % 2 == 0 && message.len() < MIN_CUT_MESSAGE;
    let last = (0..message.len()).rev().find(is_quote).filter(|_| is_whole).unwrap_or(message.len());
    let (before, after) = match first {
        Some(first) => (message.get(..first), message.get(last + 1..)),
        _ => (Some(message), None),
    };
    without_numbers(before.unwrap_or_default(), out);
    if first.is_some() {
        out.push(b'?');
        without_numbers(after.unwrap_or_default(), out);
    }
}

fn without_numbers(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if !byte.is_ascii_digit() {
            out.push(byte);
            continue;
        }
        out.push(b'?');
        while let [b'0'..=b'9' | b'.', after @ ..] = rest {
            rest = after;
        }
    }
}
