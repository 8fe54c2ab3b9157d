//! What stands between quotation marks, backticks and dollar tags, and what to do where they may have been misread.

use super::quoting::{FIRST_LEAD, Pairs};
use super::{Introduced, Last, MAX_KEYWORD, Reader, is_word, may_touch, upper_case};

/// No name has more bytes: 256 characters, of an alias (MySQL manual, "Identifier Length Limits"), of 4 bytes.
const MAX_NAME: usize = 1024;

/// Where in the statement's text and target a quotation mark stands.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    text: usize,
    target: usize,
    space: bool,
}

impl Reader<'_, '_> {
    /// What stands behind a mark that may have been misread may be literals.
    pub(super) fn forget_doubtful(&mut self) {
        let mark = match (self.swapped, self.out.truncated) {
            (true, _) => self.first,
            (false, true) => self.doubtful,
            (false, false) => None,
        };
        let Some(mark) = mark else { return };
        self.out.text.truncate(mark.text);
        self.out.target.truncate(mark.target);
        self.out.trace = None;
        self.out.truncated = true;
        self.space = mark.space;
        self.put_space();
        self.out.text.push(b'?');
    }

    /// A quotation mark stands here.
    pub(super) fn mark(&mut self) -> Mark {
        let mark = Mark { text: self.out.text.len(), target: self.out.target.len(), space: self.space };
        self.first.get_or_insert(mark);
        mark
    }

    /// Text or target were made shorter: marks in what is gone stand at the end of what is left.
    pub(super) fn pull_marks(&mut self) {
        for mark in [&mut self.first, &mut self.doubtful].into_iter().flatten() {
            if mark.text > self.out.text.len() {
                (mark.text, mark.space) = (self.out.text.len(), false);
            }
            mark.target = mark.target.min(self.out.target.len());
        }
    }

    /// From a mark on, this cannot be read with certainty.
    pub(super) fn stop(&mut self, mark: Mark) {
        self.doubtful.get_or_insert(mark);
        self.out.truncated = true;
        self.at = self.sql.len();
    }

    /// A quotation mark stands where none can be: it ends what began before.
    pub(super) fn stop_at_swapped(&mut self) {
        self.mark();
        self.swapped = true;
        self.at = self.sql.len();
    }

    /// The byte at a place is the second half of a character, or would be one in a character set that nobody told of.
    fn may_be_half(&self, at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|before| self.sql.get(before));
        self.quoting.pairs == Pairs::None && before.is_some_and(|&before| before >= FIRST_LEAD)
    }

    /// The end of a version comment stands between two places, so that what was read there may be none of the statement.
    pub(super) fn ends_version(&self, start: usize, end: usize) -> bool {
        let ends = |inside: &[u8]| inside.windows(2).any(|pair| pair == b"*/");
        self.in_version && self.sql.get(start..end).is_some_and(ends)
    }

    /// Bytes of the character at a place.
    pub(super) fn character(&self, at: usize) -> usize {
        match self.sql.get(at..).unwrap_or_default() {
            &[lead, trail, ..] if self.quoting.pairs.pair(lead, trail) => 2,
            _ => 1,
        }
    }

    /// "String Literals": a quote in a string is doubled or has a backslash before it.
    pub(super) fn string(&mut self, quote: u8) {
        let mark = self.mark();
        let start = self.at;
        self.at += 1;
        let (mut backslash, mut unsure) = (false, false);
        let closed = loop {
            let Some(&byte) = self.sql.get(self.at) else { break false };
            if byte == quote {
                self.at += 1;
                if self.peek(0) != quote {
                    break true;
                }
                self.at += 1;
            } else if byte == b'\\' {
                backslash = true;
                // All that stand here at once: to count them at each would take as long as the square of them.
                let run = self.backslashes();
                match self.quoting.backslash {
                    Some(false) => self.at += run,
                    known => {
                        let is_odd = run % 2 == 1;
                        let is_in_doubt = self.may_be_half(self.at) || (is_odd && known.is_none());
                        unsure |= is_in_doubt && self.peek(run) == quote;
                        self.at += run + usize::from(is_odd);
                    }
                }
            } else if byte >= FIRST_LEAD {
                let length = self.character(self.at);
                backslash = backslash || (length > 1 && self.peek(1) == b'\\');
                self.at += length;
            } else {
                self.at += 1;
            }
        };
        if backslash {
            self.doubtful.get_or_insert(mark);
        }
        if closed && self.touches_word() {
            return self.stop_at_swapped();
        }
        self.swapped |= !closed && !self.out.truncated;
        if unsure || self.ends_version(start, self.at) {
            return self.stop(mark);
        }
        // Neighbouring strings are one.
        if self.last == Last::Literal && self.out.text.ends_with(b"?") {
            self.space = false;
            return;
        }
        self.literal();
    }

    /// How many backslashes stand here.
    fn backslashes(&self) -> usize {
        let rest = self.sql.get(self.at..).unwrap_or_default();
        rest.iter().take_while(|&&byte| byte == b'\\').count()
    }

    /// A word begins here that cannot stand right behind a string.
    fn touches_word(&self) -> bool {
        let rest = self.sql.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| !is_word(byte)).unwrap_or(rest.len());
        let mut upper = [0; MAX_KEYWORD];
        length > 0 && !may_touch(upper_case(rest.get(..length).unwrap_or_default(), &mut upper))
    }

    /// `name`, with a doubled mark for a mark in it. What can be none is taken for a literal.
    pub(super) fn name(&mut self) {
        let mark = self.mark();
        let start = self.at + 1;
        let mut unsure = self.may_be_half(self.at);
        let mut end = start;
        let mut quotes = false;
        let closed = loop {
            let Some(&byte) = self.sql.get(end) else { break false };
            if byte == b'`' {
                let next = self.sql.get(end + 1).copied().unwrap_or_default();
                unsure = unsure || ((next == b'`' || is_word(next)) && self.may_be_half(end));
                if next != b'`' {
                    break true;
                }
                end += 1;
            }
            quotes |= matches!(byte, b'\'' | b'"');
            end += if byte < FIRST_LEAD { 1 } else { self.character(end) };
        };
        self.swapped |= !closed && !self.out.truncated;
        if !closed || unsure || self.ends_version(start, end) {
            return self.stop(mark);
        }
        let name = self.sql.get(start..end).unwrap_or_default();
        let quoted = self.sql.get(self.at..=end).unwrap_or_default();
        self.at = end + 1;
        if quotes || name.len() > MAX_NAME {
            return self.literal();
        }
        self.impure();
        self.introduced = Introduced::Nothing;
        self.put_space();
        self.out.text.extend_from_slice(quoted);
        self.last = Last::Word;
        self.target(name);
    }

    /// A string between two tags of this length, such as `$$` (MySQL 9.0 manual, "CREATE FUNCTION": AS).
    pub(super) fn dollar_quoted(&mut self, tag: usize) {
        let mark = self.mark();
        let (tag, rest) = self.sql.get(self.at..).unwrap_or_default().split_at_checked(tag).unwrap_or_default();
        // To older servers it is a name: what this takes for the string may hold marks of strings.
        self.doubtful.get_or_insert(mark);
        let Some(end) = rest.windows(tag.len()).position(|piece| piece == tag) else {
            self.swapped |= !self.out.truncated;
            return self.stop(mark);
        };
        let start = self.at;
        self.at += tag.len() + end + tag.len();
        if self.ends_version(start, self.at) {
            return self.stop(mark);
        }
        self.literal();
    }
}
