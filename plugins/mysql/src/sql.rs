//! Statements without their secrets: SQL in, out comes its text with `?` for every literal, verb and table.
//!
//! Lexical rules: MySQL manual, "Literal Values", "Schema Object Names", "Comments". Comments are left out, but for the
//! content of version comments, which is executed. Lists of literals behind IN and rows of them behind VALUES become one
//! `(?)`, so that statements that differ in their length alone have one text.
//!
//! It errs towards `?`: text in double quotes may be a name (ANSI_QUOTES), and is replaced all the same; so is what stands
//! in backticks and looks like no name. Where quotation marks may have swapped places, nothing is kept from the first of
//! them on: where one lacks its end, or a character set that nobody told of (SET NAMES) may turn their meaning round.

/// How much of a statement's text is kept.
pub(crate) const MAX_TEXT: usize = 4096;

/// A list that will become `(?)` is kept up to so many literals, in case it turns out to hold more than literals.
const MAX_LIST: usize = 64;

/// Parentheses deeper than this are passed on as they are.
const MAX_DEPTH: usize = 32;

/// A table's name longer than this is cut.
const MAX_TARGET: usize = 192;

/// No name has more bytes: 256 characters, of an alias (MySQL manual, "Identifier Length Limits"), of 4 bytes.
const MAX_NAME: usize = 1024;

/// How strings end, which the session decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quoting {
    /// A backslash takes the meaning from the next byte (not so in the SQL mode NO_BACKSLASH_ESCAPES).
    pub(crate) backslash: bool,
    pub(crate) pairs: Pairs,
}

impl Default for Quoting {
    fn default() -> Quoting {
        Quoting { backslash: true, pairs: Pairs::None }
    }
}

/// The lowest byte that begins a character of two.
const FIRST_LEAD: u8 = 0x81;

/// Characters of two bytes, the second of which may look like a backslash or a backtick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairs {
    None,
    /// sjis and cp932.
    Sjis,
    Big5,
    /// gbk, and gb18030: those of its characters that have four bytes hold no such byte.
    Gbk,
}

impl Pairs {
    /// Do two bytes make a character (`ismbchar_sjis` and the like in MySQL's strings/ctype-*.c)? A quotation mark or a
    /// digit is never the second one.
    fn pair(self, lead: u8, trail: u8) -> bool {
        match self {
            Pairs::None => false,
            Pairs::Sjis => matches!(lead, 0x81..=0x9f | 0xe0..=0xfc) && matches!(trail, 0x40..=0x7e | 0x80..=0xfc),
            Pairs::Big5 => matches!(lead, 0xa1..=0xf9) && matches!(trail, 0x40..=0x7e | 0xa1..=0xfe),
            Pairs::Gbk => matches!(lead, 0x81..=0xfe) && matches!(trail, 0x40..=0x7e | 0x80..=0xfe),
        }
    }
}

/// A statement without literals. Its buffers are used again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) text: Vec<u8>,
    /// `SELECT`, `CREATE TABLE`; `OTHER` for what is no verb of SQL.
    pub(crate) operation: Vec<u8>,
    /// First table, procedure or database that it names; may be empty.
    pub(crate) target: Vec<u8>,
    /// Trace and span of a `traceparent` comment.
    pub(crate) trace: Option<([u8; 32], [u8; 16])>,
    /// The text is not the whole of it.
    pub(crate) truncated: bool,
}

impl Statement {
    /// Reads `sql`, of which the end is missing where `truncated`.
    pub(crate) fn parse(&mut self, sql: &[u8], truncated: bool, quoting: Quoting) {
        self.text.clear();
        self.operation.clear();
        self.target.clear();
        self.trace = None;
        self.truncated = truncated;
        let mut reader = Reader {
            sql,
            at: 0,
            quoting,
            out: self,
            space: false,
            last: Last::Start,
            lists: [List::default(); MAX_DEPTH],
            depth: 0,
            rows_end: None,
            in_version: false,
            first: None,
            doubtful: None,
            unclosed: false,
            expect: Expect::Verb,
            introduced: Introduced::Nothing,
        };
        reader.read();
        reader.forget_doubtful();
        while let [.., b';' | b' '] = self.text.as_slice() {
            self.text.pop();
        }
        if self.operation.is_empty() {
            self.operation.extend_from_slice(b"OTHER");
        }
    }

    /// Takes less memory: for statements that are kept.
    pub(crate) fn size(&self) -> usize {
        self.text.len() + self.operation.len() + self.target.len()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Start,
    Word,
    Literal,
    Other(u8),
}

/// What a word made of the next parenthesis.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Introduced {
    #[default]
    Nothing,
    In,
    Values,
}

#[derive(Clone, Copy, Default)]
struct List {
    /// Where its parenthesis stands in the text; what stands before a further row of VALUES.
    start: usize,
    introduced: Introduced,
    /// A further row: up to here the text is the row before.
    follows: Option<usize>,
    /// Nothing but literals so far, and how many.
    pure: bool,
    literals: usize,
    /// It begins with SELECT or WITH: a FROM in it names tables.
    query: bool,
    empty: bool,
}

/// What the next word may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Verb,
    /// CREATE, DROP, ALTER and the like: of what kind.
    Kind,
    Target,
    /// A dot, then more of the target.
    MoreTarget,
    Nothing,
    Done,
}

/// Where in the statement's text and target a quotation mark stands.
#[derive(Clone, Copy)]
struct Mark {
    text: usize,
    target: usize,
    space: bool,
}

struct Reader<'a, 'b> {
    sql: &'a [u8],
    at: usize,
    quoting: Quoting,
    out: &'b mut Statement,
    space: bool,
    last: Last,
    lists: [List; MAX_DEPTH],
    depth: usize,
    /// The text ends with a row of VALUES here.
    rows_end: Option<usize>,
    /// In a version comment, which may be none for this server: then it ends at the first `*/`.
    in_version: bool,
    /// The first quotation mark or backtick: if one turns out to have no end, they may have swapped places since.
    first: Option<Mark>,
    /// The first string that may have been misread: with a backslash, of which it may be unknown whether it escapes. That
    /// shows in the end alone.
    doubtful: Option<Mark>,
    /// A quotation mark has no end, though the statement has.
    unclosed: bool,
    expect: Expect,
    introduced: Introduced,
}

fn is_word(byte: u8) -> bool {
    // Looked up, for it is asked of nearly every byte.
    const WORD: [bool; 256] = {
        let (mut words, mut byte) = ([false; 256], 0);
        while byte < words.len() {
            words[byte] = matches!(byte as u8, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'$' | 0x80..);
            byte += 1;
        }
        words
    };
    WORD[usize::from(byte)]
}

impl Reader<'_, '_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.sql.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn read(&mut self) {
        while let Some(&byte) = self.sql.get(self.at) {
            if self.out.text.len() > MAX_TEXT {
                break;
            }
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c | 0 => {
                    self.at += 1;
                    self.space = true;
                }
                b'#' => self.line_comment(),
                // "Comments": -- needs a space or control character behind it.
                b'-' if self.peek(1) == b'-' && matches!(self.peek(2), 0..=b' ' | 0x7f) => self.line_comment(),
                b'/' if self.peek(1) == b'*' => self.comment(),
                b'*' if self.peek(1) == b'/' => {
                    // The end of a version comment.
                    self.at += 2;
                    self.in_version = false;
                    self.space = true;
                }
                b'\'' | b'"' => self.string(byte),
                b'`' => self.name(),
                b'0'..=b'9' => self.number(),
                b'.' if self.peek(1).is_ascii_digit() && !self.after_name() => self.number(),
                _ if is_word(byte) => self.word(),
                b'(' => self.open(),
                b')' => self.close(),
                b'?' => {
                    self.at += 1;
                    self.literal();
                }
                _ => {
                    self.at += 1;
                    self.other(byte);
                }
            }
        }
        if self.out.text.len() > MAX_TEXT {
            self.out.text.truncate(MAX_TEXT);
            self.out.truncated = true;
        }
    }

    /// What stands behind a mark that may have been misread may be literals.
    fn forget_doubtful(&mut self) {
        let mark = match (self.unclosed, self.out.truncated) {
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
    fn mark(&mut self) -> Mark {
        let mark = Mark { text: self.out.text.len(), target: self.out.target.len(), space: self.space };
        self.first.get_or_insert(mark);
        mark
    }

    /// Text or target were made shorter: marks in what is gone stand at the end of what is left.
    fn pull_marks(&mut self) {
        for mark in [&mut self.first, &mut self.doubtful].into_iter().flatten() {
            if mark.text > self.out.text.len() {
                (mark.text, mark.space) = (self.out.text.len(), false);
            }
            mark.target = mark.target.min(self.out.target.len());
        }
    }

    /// From a mark on, this cannot be read with certainty.
    fn stop(&mut self, mark: Mark) {
        self.doubtful.get_or_insert(mark);
        self.out.truncated = true;
        self.at = self.sql.len();
    }

    /// The byte at a place is the second half of a character, or would be one in a character set that nobody told of.
    fn may_be_half(&self, at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|before| self.sql.get(before));
        self.quoting.pairs == Pairs::None && before.is_some_and(|&before| before >= FIRST_LEAD)
    }

    /// The end of a version comment stands between two places, so that what was read there may be none of the statement.
    fn ends_version(&self, start: usize, end: usize) -> bool {
        let ends = |inside: &[u8]| inside.windows(2).any(|pair| pair == b"*/");
        self.in_version && self.sql.get(start..end).is_some_and(ends)
    }

    /// Bytes of the character at a place.
    fn character(&self, at: usize) -> usize {
        match self.sql.get(at..).unwrap_or_default() {
            &[lead, trail, ..] if self.quoting.pairs.pair(lead, trail) => 2,
            _ => 1,
        }
    }

    fn after_name(&self) -> bool {
        matches!(self.last, Last::Word | Last::Other(b')'))
    }

    fn line_comment(&mut self) {
        let rest = self.sql.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
        self.trace(rest.get(..end).unwrap_or_default());
        if self.ends_version(self.at, self.at + end) {
            let mark = self.mark();
            return self.stop(mark);
        }
        self.at += end;
        self.space = true;
    }

    fn comment(&mut self) {
        // "Comments": /*! and, in MariaDB, /*M! are executed, with a version number perhaps.
        let version = if self.peek(2) == b'!' { 3 } else { 4 };
        if self.peek(2) == b'!' || (self.peek(2) == b'M' && self.peek(3) == b'!') {
            self.at += version;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
            self.space = true;
            self.in_version = true;
            return;
        }
        let rest = self.sql.get(self.at..).unwrap_or_default();
        let inside = rest.get(2..).unwrap_or_default();
        let end = inside.windows(2).position(|pair| pair == b"*/").map_or(rest.len(), |at| at + 4);
        self.trace(rest.get(..end).unwrap_or_default());
        self.at += end;
        self.space = true;
    }

    /// `traceparent='00-TRACE-SPAN-FLAGS'` as sqlcommenter writes it (W3C Trace Context 3.2).
    fn trace(&mut self, comment: &[u8]) {
        const KEY: &[u8] = b"traceparent=";
        let Some(at) = comment.windows(KEY.len()).position(|piece| piece == KEY) else { return };
        let value = comment.get(at + KEY.len()..).unwrap_or_default();
        let value = value.strip_prefix(b"'").or(value.strip_prefix(b"\"")).unwrap_or(value);
        let mut parts = value.split(|&byte| byte == b'-').skip(1);
        let (Some(trace), Some(span)) = (parts.next(), parts.next()) else { return };
        let id = |id: &[u8]| {
            id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) && id.iter().any(|&byte| byte != b'0')
        };
        let span = span.get(..16).unwrap_or_default();
        if let (Some(trace), Some(&found)) = (trace.first_chunk::<32>(), span.first_chunk::<16>())
            && id(trace)
            && id(span)
        {
            self.out.trace = Some((*trace, found));
        }
    }

    /// "String Literals": a quote in a string is doubled or has a backslash before it.
    fn string(&mut self, quote: u8) {
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
                if self.quoting.backslash {
                    unsure = unsure || (self.may_be_half(self.at) && self.escapes_quote(quote));
                    self.at += 1;
                }
                self.at += 1;
            } else if byte >= FIRST_LEAD {
                let length = self.character(self.at);
                backslash = backslash || (length > 1 && self.peek(1) == b'\\');
                self.at += length;
            } else {
                self.at += 1;
            }
        };
        // Whether backslashes escape may be unknown. Where that was guessed wrongly, strings and what is between them
        // swap places, and in the end one lacks its end.
        if backslash {
            self.doubtful.get_or_insert(mark);
        }
        self.unclosed |= !closed && !self.out.truncated;
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

    /// Backslashes stand here with the quotation mark behind them that would end the string.
    fn escapes_quote(&self, quote: u8) -> bool {
        let rest = self.sql.get(self.at..).unwrap_or_default();
        rest.iter().find(|&&byte| byte != b'\\') == Some(&quote)
    }

    fn number(&mut self) {
        while is_word(self.peek(0)) || self.peek(0) == b'.' {
            let exponent = matches!(self.peek(0), b'e' | b'E') && matches!(self.peek(1), b'+' | b'-');
            self.at += if exponent && self.peek(2).is_ascii_digit() { 2 } else { self.character(self.at) };
        }
        // A sign belongs to it where nothing stands before that it could be subtracted from.
        if let (Last::Other(b'-' | b'+'), false) = (self.last, self.space) {
            let before = self.out.text.split_last().map_or(&b""[..], |(_, before)| before.trim_ascii_end());
            if matches!(before, [.., b'(' | b',' | b'=' | b'<' | b'>']) {
                self.out.text.pop();
            }
        }
        self.literal();
    }

    fn put_space(&mut self) {
        if std::mem::take(&mut self.space) && !self.out.text.is_empty() && !self.out.text.ends_with(b" ") {
            self.out.text.push(b' ');
        }
    }

    /// A literal, a placeholder, or a word that stands for a value.
    fn literal(&mut self) {
        self.leave_target();
        self.introduced = Introduced::Nothing;
        let list = self.list();
        if let Some(list) = list {
            list.literals += 1;
            list.empty = false;
            if list.pure && list.introduced != Introduced::Nothing && list.literals > MAX_LIST {
                self.space = false;
                self.last = Last::Literal;
                return;
            }
        }
        self.put_space();
        self.out.text.push(b'?');
        self.last = Last::Literal;
    }

    fn list(&mut self) -> Option<&mut List> {
        self.depth.checked_sub(1).and_then(|top| self.lists.get_mut(top))
    }

    fn impure(&mut self) {
        self.rows_end = None;
        if let Some(list) = self.list() {
            list.pure = false;
            list.empty = false;
        }
    }

    fn open(&mut self) {
        let follows = if self.last == Last::Other(b',') { self.rows_end } else { None };
        let introduced = std::mem::take(&mut self.introduced);
        self.leave_target();
        if follows.is_none() {
            self.impure();
        }
        self.at += 1;
        self.put_space();
        let start = self.out.text.len();
        self.out.text.push(b'(');
        if let Some(list) = self.lists.get_mut(self.depth) {
            let introduced = if follows.is_some() { Introduced::Values } else { introduced };
            *list = List { start, introduced, follows, pure: true, literals: 0, query: false, empty: true };
        }
        self.depth += 1;
        self.last = Last::Other(b'(');
    }

    fn close(&mut self) {
        self.at += 1;
        self.leave_target();
        let list = self.list().copied();
        self.depth = self.depth.saturating_sub(1);
        self.last = Last::Other(b')');
        match list {
            Some(list) if list.pure && list.literals > 0 && list.introduced != Introduced::Nothing => {
                self.space = false;
                if let Some(row) = list.follows {
                    self.out.text.truncate(row);
                    self.pull_marks();
                } else {
                    self.out.text.truncate(list.start + 1);
                    self.pull_marks();
                    self.out.text.extend_from_slice(b"?)");
                }
                if list.introduced == Introduced::Values {
                    self.rows_end = Some(self.out.text.len());
                }
            }
            _ => {
                self.rows_end = None;
                self.put_space();
                self.out.text.push(b')');
            }
        }
    }

    fn other(&mut self, byte: u8) {
        match byte {
            b',' if self.list().is_some_and(|list| list.pure && list.literals >= MAX_LIST) => {
                self.space = false;
                self.last = Last::Other(byte);
                return;
            }
            b',' | b'-' | b'+' => {}
            b';' => {
                // The first statement names the exchange.
                if self.expect != Expect::Verb {
                    self.expect = Expect::Done;
                }
                self.impure();
            }
            b'.' if self.expect == Expect::MoreTarget => {
                self.out.target.push(b'.');
                self.expect = Expect::Target;
                self.put(b".");
                return;
            }
            _ => self.impure(),
        }
        if byte == b'@' && self.expect == Expect::Target {
            self.expect = Expect::Nothing;
        }
        self.leave_target();
        self.put(&[byte]);
    }

    fn put(&mut self, piece: &[u8]) {
        if let Some(rows_end) = self.rows_end
            && piece != b","
            && self.out.text.len() >= rows_end
        {
            self.rows_end = None;
        }
        self.put_space();
        self.out.text.extend_from_slice(piece);
        self.last = Last::Other(piece.last().copied().unwrap_or_default());
    }

    /// `name`, with a doubled mark for a mark in it. What can be none is taken for a literal.
    fn name(&mut self) {
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
        self.unclosed |= !closed && !self.out.truncated;
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

    fn target(&mut self, name: &[u8]) {
        match self.expect {
            Expect::Target => {
                let room = MAX_TARGET.saturating_sub(self.out.target.len());
                self.out.target.extend_from_slice(name.get(..room).unwrap_or(name));
                self.expect = Expect::MoreTarget;
            }
            _ => self.leave_target(),
        }
    }

    /// The target is complete.
    fn leave_target(&mut self) {
        match self.expect {
            Expect::MoreTarget => self.expect = Expect::Done,
            Expect::Target => self.expect = Expect::Nothing,
            _ => {}
        }
    }

    fn word(&mut self) {
        let rest = self.sql.get(self.at..).unwrap_or_default();
        let mut length = 0;
        while let Some(&byte) = rest.get(length)
            && is_word(byte)
        {
            length += if byte < FIRST_LEAD { 1 } else { self.character(self.at + length) };
        }
        let word = rest.get(..length).unwrap_or_default();
        if let [b'$', tag @ ..] = word
            && let Some(end) = tag.iter().position(|&byte| byte == b'$')
        {
            return self.dollar_quoted(end + 2);
        }
        self.at += length;
        // "String Literals": N'...', x'...', b'...' and _charset'...' are one literal each.
        if matches!(self.peek(0), b'\'' | b'"')
            && (matches!(word, [b'n' | b'N' | b'x' | b'X' | b'b' | b'B'] | [b'_', ..]))
        {
            return;
        }
        let mut upper = [0; 16];
        let upper = match upper.get_mut(..length) {
            Some(upper) => {
                upper.iter_mut().zip(word).for_each(|(upper, byte)| *upper = byte.to_ascii_uppercase());
                &*upper
            }
            None => b"",
        };
        let behind_dot = self.last == Last::Other(b'.');
        if matches!(upper, b"NULL" | b"DEFAULT" | b"TRUE" | b"FALSE") && !behind_dot {
            if let Some(list) = self.list() {
                list.literals += 1;
                list.empty = false;
            }
            self.leave_target();
        } else {
            if let Some(list) = self.list()
                && list.empty
            {
                list.query = matches!(upper, b"SELECT" | b"WITH" | b"TABLE" | b"VALUES");
            }
            self.impure();
            if !behind_dot || self.expect == Expect::Target {
                self.keyword(word, upper);
            }
        }
        self.introduced = match upper {
            b"IN" => Introduced::In,
            b"VALUES" | b"VALUE" => Introduced::Values,
            _ => Introduced::Nothing,
        };
        self.put_space();
        self.out.text.extend_from_slice(word);
        self.last = Last::Word;
    }

    /// A string between two tags of this length, such as `$$` (MySQL 9.0 manual, "CREATE FUNCTION": AS).
    fn dollar_quoted(&mut self, tag: usize) {
        let mark = self.mark();
        let (tag, rest) = self.sql.get(self.at..).unwrap_or_default().split_at_checked(tag).unwrap_or_default();
        // To older servers it is a name: what this takes for the string may hold marks of strings.
        self.doubtful.get_or_insert(mark);
        let Some(end) = rest.windows(tag.len()).position(|piece| piece == tag) else {
            self.unclosed |= !self.out.truncated;
            return self.stop(mark);
        };
        let start = self.at;
        self.at += tag.len() + end + tag.len();
        if self.ends_version(start, self.at) {
            return self.stop(mark);
        }
        self.literal();
    }

    fn keyword(&mut self, word: &[u8], upper: &[u8]) {
        let does = matches!(upper, b"SELECT" | b"INSERT" | b"UPDATE" | b"DELETE" | b"REPLACE");
        if does && self.depth == 0 && self.out.operation == b"WITH" {
            // What the statement does with its common table expressions.
            self.out.operation.clear();
            self.out.target.clear();
            self.pull_marks();
            self.expect = Expect::Verb;
        }
        match self.expect {
            Expect::Verb => self.verb(upper),
            Expect::Kind => match upper {
                b"TABLE" | b"VIEW" | b"DATABASE" | b"SCHEMA" | b"PROCEDURE" | b"FUNCTION" | b"TRIGGER" | b"EVENT"
                | b"SEQUENCE" => {
                    self.out.operation.push(b' ');
                    self.out.operation.extend_from_slice(upper);
                    self.expect = Expect::Target;
                }
                b"INDEX" | b"USER" | b"ROLE" | b"SERVER" | b"TABLES" => {
                    self.out.operation.push(b' ');
                    self.out.operation.extend_from_slice(upper);
                    self.expect = Expect::Done;
                }
                _ if self.out.operation == b"TRUNCATE" => {
                    self.expect = Expect::Target;
                    self.target(word);
                }
                _ => {}
            },
            Expect::Target => match upper {
                b"LOW_PRIORITY" | b"HIGH_PRIORITY" | b"DELAYED" | b"QUICK" | b"IGNORE" | b"INTO" | b"FROM" | b"IF"
                | b"NOT" | b"EXISTS" | b"ONLY" => {}
                b"SELECT" | b"WITH" => self.expect = Expect::Nothing,
                _ => self.target(word),
            },
            Expect::MoreTarget => self.expect = Expect::Done,
            Expect::Nothing => match upper {
                b"FROM" | b"JOIN" if self.depth == 0 || self.list().is_some_and(|list| list.query) => {
                    self.expect = Expect::Target;
                }
                b"TABLE" if self.out.operation == b"LOAD" => self.expect = Expect::Target,
                _ => {}
            },
            Expect::Done => {}
        }
    }

    fn verb(&mut self, upper: &[u8]) {
        self.expect = match upper {
            b"SELECT" | b"DELETE" | b"SHOW" | b"WITH" | b"LOAD" | b"HANDLER" => Expect::Nothing,
            b"INSERT" | b"REPLACE" | b"UPDATE" | b"CALL" | b"USE" | b"DESCRIBE" | b"DESC" => Expect::Target,
            b"CREATE" | b"DROP" | b"ALTER" | b"TRUNCATE" | b"RENAME" | b"OPTIMIZE" | b"ANALYZE" | b"CHECK"
            | b"REPAIR" | b"LOCK" => Expect::Kind,
            b"SET" | b"BEGIN" | b"START" | b"COMMIT" | b"ROLLBACK" | b"SAVEPOINT" | b"RELEASE" | b"EXPLAIN"
            | b"GRANT" | b"REVOKE" | b"UNLOCK" | b"DO" | b"PREPARE" | b"EXECUTE" | b"DEALLOCATE" | b"XA" | b"KILL"
            | b"FLUSH" | b"RESET" | b"PURGE" | b"CHANGE" | b"STOP" | b"INSTALL" | b"UNINSTALL" | b"VALUES"
            | b"TABLE" | b"HELP" | b"SIGNAL" | b"SHUTDOWN" | b"BINLOG" | b"CACHE" | b"CHECKSUM" | b"CLONE"
            | b"IMPORT" | b"RESTART" | b"RESIGNAL" | b"GET" | b"BACKUP" => Expect::Done,
            _ => {
                self.out.operation.extend_from_slice(b"OTHER");
                self.expect = Expect::Done;
                return;
            }
        };
        self.out.operation.extend_from_slice(upper);
    }
}

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

#[cfg(test)]
mod tests {
    use super::{MAX_TEXT, Pairs, Quoting, Statement, redact_message};

    fn parse(sql: &[u8], quoting: Quoting) -> Statement {
        let mut statement = Statement::default();
        statement.parse(sql, false, quoting);
        statement
    }

    #[track_caller]
    fn check(sql: &str, text: &str, summary: &str) {
        let statement = parse(sql.as_bytes(), Quoting::default());
        let line = [statement.operation.as_slice(), statement.target.as_slice()].join(&b' ');
        assert_eq!(String::from_utf8_lossy(&statement.text), text);
        assert_eq!(String::from_utf8_lossy(&line).trim_end(), summary);
    }

    #[test]
    fn literals_of_every_kind() {
        check("SELECT 1", "SELECT ?", "SELECT");
        check("select 'a''b\\'c', \"d\"\"e\"", "select ?, ?", "SELECT");
        check("SELECT x'4D', 0x4d, b'01', 0b01, N'n', _utf8mb4'u'", "SELECT ?, ?, ?, ?, ?, ?", "SELECT");
        check("SELECT 1.5e-3, .5, 1e+9, -7, +7, 3-2", "SELECT ?, ?, ?, ?, ?, ?-?", "SELECT");
        check("SELECT 'a' 'b'\n'c' FROM t", "SELECT ? FROM t", "SELECT t");
        check("SELECT NULL, TRUE, false", "SELECT NULL, TRUE, false", "SELECT");
        check("SELECT t1.c2, `t 1`.`c``x`", "SELECT t1.c2, `t 1`.`c``x`", "SELECT");
        check("SELECT DATE '2020-01-01', @v := 5, @@global.x", "SELECT DATE ?, @v := ?, @@global.x", "SELECT");
        check("SELECT 'open", "SELECT ?", "SELECT");
    }

    #[test]
    fn comments_are_left_out_and_version_comments_are_read() {
        check("/* a 'b */ SELECT -- c\n 1 # d '\n+ 2--3", "SELECT ? + ?--?", "SELECT");
        check("SELECT /*!40101 SQL_NO_CACHE 'x' */ a /*M!100100 , 5 */", "SELECT SQL_NO_CACHE ? a , ?", "SELECT");
        check("SELECT /*+ MAX_EXECUTION_TIME(1000) */ a", "SELECT a", "SELECT");
        check("SELECT 1 /* open", "SELECT ?", "SELECT");
    }

    #[test]
    fn lists_become_one() {
        check("SELECT a FROM t WHERE b IN (1,2, 'c',NULL , -4)", "SELECT a FROM t WHERE b IN (?)", "SELECT t");
        check("SELECT a IN (b, 1)", "SELECT a IN (b, ?)", "SELECT");
        check("SELECT f(1, 2)", "SELECT f(?, ?)", "SELECT");
        check(
            "INSERT INTO t (a,b) VALUES (1,'x'),(2,'y') , (3, DEFAULT)",
            "INSERT INTO t (a,b) VALUES (?)",
            "INSERT t",
        );
        check("INSERT t VALUES (1), (NOW()), (2)", "INSERT t VALUES (?), (NOW()), (?)", "INSERT t");
        check(
            "INSERT t VALUES (1) ON DUPLICATE KEY UPDATE a=(2)",
            "INSERT t VALUES (?) ON DUPLICATE KEY UPDATE a=(?)",
            "INSERT t",
        );
        let many = format!("SELECT a IN ({}0)", "1234567, ".repeat(5000));
        check(&many, "SELECT a IN (?)", "SELECT");
    }

    #[test]
    fn verb_and_table() {
        check("(SELECT a FROM `db x`.`t` JOIN u)", "(SELECT a FROM `db x`.`t` JOIN u)", "SELECT db x.t");
        check(
            "SELECT EXTRACT(YEAR FROM d), (SELECT 1 FROM s) FROM t",
            "SELECT EXTRACT(YEAR FROM d), (SELECT ? FROM s) FROM t",
            "SELECT s",
        );
        check(
            "UPDATE LOW_PRIORITY IGNORE shop.t SET a=1",
            "UPDATE LOW_PRIORITY IGNORE shop.t SET a=?",
            "UPDATE shop.t",
        );
        check("DELETE FROM t WHERE a=1", "DELETE FROM t WHERE a=?", "DELETE t");
        check("CREATE TABLE IF NOT EXISTS t (a INT)", "CREATE TABLE IF NOT EXISTS t (a INT)", "CREATE TABLE t");
        check("drop table t", "drop table t", "DROP TABLE t");
        check("TRUNCATE t", "TRUNCATE t", "TRUNCATE t");
        check("USE shop", "USE shop", "USE shop");
        check("CALL p(1)", "CALL p(?)", "CALL p");
        check("WITH c AS (SELECT 1 FROM a) SELECT * FROM c", "WITH c AS (SELECT ? FROM a) SELECT * FROM c", "SELECT c");
        check("SET PASSWORD = 'x'; SELECT 1;", "SET PASSWORD = ?; SELECT ?", "SET");
        check("gibberish", "gibberish", "OTHER");
        check("", "", "OTHER");
    }

    #[test]
    fn backslashes_escape_only_where_the_session_says_so() {
        let literal = Quoting { backslash: false, pairs: Pairs::None };
        assert_eq!(parse(b"SELECT 'a\\', secret, 'b'", literal).text, b"SELECT ?, secret, ?");
        assert_eq!(parse(b"SELECT 'a\\', secret, 'b'", Quoting::default()).text, b"SELECT ?");
        let pairs = Quoting { backslash: true, pairs: Pairs::Sjis };
        assert_eq!(parse(b"SELECT '\x95\x5c', x, 'b'", pairs).text, b"SELECT ?, x, ?");
    }

    #[test]
    fn a_trace_is_found_in_comments_only() {
        let traced = |sql: &str| parse(sql.as_bytes(), Quoting::default()).trace;
        let parent = "traceparent='00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'";
        let found = traced(&format!("SELECT 1 /*route='x',{parent}*/"));
        assert_eq!(found, Some((*b"0af7651916cd43dd8448eb211c80319c", *b"b7ad6b7169203331")));
        assert_eq!(traced(&format!("SELECT 1 -- {parent}\n")), found);
        assert_eq!(traced(&format!("SELECT \"{parent}\"")), None);
        assert_eq!(traced("SELECT 1 /*traceparent='00-zz-b7ad6b7169203331-01'*/"), None);
    }

    #[test]
    fn long_statements_are_cut() {
        let statement = parse(format!("SELECT {}", "abcdefgh, ".repeat(2000)).as_bytes(), Quoting::default());
        assert!(statement.truncated && statement.text.len() <= MAX_TEXT);
    }

    #[test]
    fn messages_lose_what_they_quote() {
        let redacted = |message: &str| {
            let mut out = Vec::new();
            redact_message(message.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(redacted("Table 'shop.t' doesn't exist"), "Table ? doesn't exist");
        assert_eq!(redacted("Duplicate entry 'it's' for key 'PRIMARY'"), "Duplicate entry ?");
        assert_eq!(redacted("near 'x' y' at line 12"), "near ?");
        assert_eq!(redacted("near 'x' 'y' at line 12"), "near ? at line ?");
        assert_eq!(redacted("Incorrect value: 'foo"), "Incorrect value: ?");
        assert_eq!(redacted(&format!("Incorrect value: 'it's {}", "foo ".repeat(200))), "Incorrect value: ?");
        assert_eq!(redacted("Division by 0"), "Division by ?");
        assert_eq!(redacted("Lock wait timeout exceeded"), "Lock wait timeout exceeded");
    }
}
