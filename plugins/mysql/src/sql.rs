//! Statements without their secrets: SQL in, out comes its text with `?` for every literal, verb and table.
//!
//! Lexical rules: MySQL manual, "Literal Values", "Schema Object Names", "Comments". Comments are left out, but for the
//! content of version comments, which is executed. Lists of literals behind IN and rows of them behind VALUES become one
//! `(?)`, so that statements that differ in their length alone have one text.
//!
//! It errs towards `?`: text in double quotes may be a name (ANSI_QUOTES), and is replaced all the same; so is what stands
//! in backticks and looks like no name. Where quotation marks may have swapped places, nothing is kept from the first of
//! them on: where one lacks its end or touches a word, or a character set that nobody told of (SET NAMES) may turn their
//! meaning round.

mod message;
mod quoted;
mod quoting;

pub(crate) use message::redact_message;
use quoted::Mark;
use quoting::FIRST_LEAD;
pub(crate) use quoting::{Pairs, Quoting};

/// How much of a statement's text is kept.
pub(crate) const MAX_TEXT: usize = 4096;

/// A list that will become `(?)` is kept up to so many literals, in case it turns out to hold more than literals.
const MAX_LIST: usize = 64;

/// Parentheses deeper than this are passed on as they are.
const MAX_DEPTH: usize = 32;

/// A table's name longer than this is cut.
const MAX_TARGET: usize = 192;

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
    /// It is SET, or holds one as a further statement: the session's character set may be another one from now on.
    pub(crate) sets: bool,
}

impl Statement {
    /// Reads `sql`, of which the end is missing where `truncated`.
    pub(crate) fn parse(&mut self, sql: &[u8], truncated: bool, quoting: Quoting) {
        self.text.clear();
        self.operation.clear();
        self.target.clear();
        self.trace = None;
        self.truncated = truncated;
        self.sets = false;
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
            swapped: false,
            expect: Expect::Verb,
            introduced: Introduced::Nothing,
        };
        reader.read();
        reader.forget_doubtful();
        if self.text.len() > MAX_TEXT {
            self.text.truncate(MAX_TEXT);
            self.truncated = true;
        }
        self.text.shrink_to(MAX_TEXT);
        while let [.., b';' | b' '] = self.text.as_slice() {
            self.text.pop();
        }
        if self.operation.is_empty() {
            self.operation.extend_from_slice(b"OTHER");
        }
    }

    /// Bytes of what is kept.
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
    /// A quotation mark has no end, though the statement has, or is where none can be.
    swapped: bool,
    expect: Expect,
    introduced: Introduced,
}

/// Longer words are no keyword that matters here.
const MAX_KEYWORD: usize = 16;

/// A word in upper case; nothing for a long one.
fn upper_case<'a>(word: &[u8], upper: &'a mut [u8; MAX_KEYWORD]) -> &'a [u8] {
    match upper.get_mut(..word.len()) {
        Some(upper) => {
            upper.iter_mut().zip(word).for_each(|(upper, byte)| *upper = byte.to_ascii_uppercase());
            upper
        }
        None => b"",
    }
}

/// Keywords that may stand beside a string without a space. Any other word there says that quotation marks are not what they
/// seem, as in 'O'Brien'.
const MAY_TOUCH: &str = "AND AS ASC BETWEEN BINARY BY CASE COLLATE COMMENT DATE DEFAULT DESC DIV ELSE END ESCAPE FROM GROUP \
    HAVING IN INTERVAL INTO IS JOIN LIKE LIMIT MOD NOT ON OR ORDER REGEXP RLIKE SELECT SET THEN TIME TIMESTAMP UNION WHEN \
    WHERE XOR";

fn may_touch(upper: &[u8]) -> bool {
    MAY_TOUCH.split_ascii_whitespace().any(|word| word.as_bytes() == upper)
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
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c | 0 => {
                    self.at += 1;
                    self.space = true;
                }
                b'#' => self.line_comment(),
                // "Comments": -- needs a space or control character behind it.
                b'-' if self.peek(1) == b'-' && matches!(self.peek(2), 0..=b' ' | 0x7f) => self.line_comment(),
                b'/' if self.peek(1) == b'*' => self.comment(),
                b'*' if self.in_version && self.peek(1) == b'/' => {
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
            if self.in_version {
                // Where the outer one ends depends on whether it is executed.
                let mark = self.mark();
                return self.stop(mark);
            }
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
        let mut upper = [0; MAX_KEYWORD];
        let upper = upper_case(word, &mut upper);
        if matches!(self.peek(0), b'\'' | b'"') && !may_touch(upper) {
            return self.stop_at_swapped();
        }
        self.out.sets |= upper == b"SET" && matches!(self.last, Last::Start | Last::Other(b';'));
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

#[cfg(test)]
mod tests;
