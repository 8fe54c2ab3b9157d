//! What is known of a response: did it go well, how many documents, and if not, why (manual, "Database Commands",
//! "Response"; Legacy Opcodes, "OP_REPLY").
//!
//! Hears a message by [`Listener`]. Documents of batches are counted and passed over.

use crate::reader::{Follow, Listener, Prologue, Value};

/// Bytes of a name or message that are kept.
const MAX_KEPT: usize = 256;

/// Distinct codes of write errors, and labels, that are kept.
const MAX_LISTED: usize = 16;

/// Flags of OP_REPLY.
mod reply_flags {
    pub(super) const CURSOR_NOT_FOUND: u32 = 1;
    pub(super) const QUERY_FAILURE: u32 = 2;
}

/// Which field the elements below belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    #[default]
    Other,
    Cursor,
    Batch,
    WriteErrors,
    WriteConcernError,
    WriteConcernErrors,
    LastError,
    Upserted,
    Labels,
}

/// A response as far as it was read.
#[derive(Debug, Default)]
pub(crate) struct Response {
    pub(crate) flags: u32,
    /// The message is an OP_REPLY.
    legacy: bool,
    /// What it holds are documents, not the answer of a command.
    documents: bool,
    pub(crate) ok: Option<bool>,
    pub(crate) code: Option<i64>,
    pub(crate) code_name: Vec<u8>,
    pub(crate) message: Vec<u8>,
    pub(crate) labels: Vec<u8>,
    pub(crate) n: Option<i64>,
    pub(crate) n_modified: Option<i64>,
    pub(crate) upserted: Option<u64>,
    pub(crate) returned: Option<u64>,
    pub(crate) cursor_id: Option<i64>,
    /// Of the cursor.
    pub(crate) namespace: Vec<u8>,
    pub(crate) write_errors: u64,
    write_error_codes: Vec<i64>,
    /// Where it has no code, 0.
    pub(crate) write_concern_error: Option<i64>,
    /// It answers a handshake.
    pub(crate) is_hello: bool,
    field: Field,
    listed: usize,
}

impl Response {
    /// `legacy`: an OP_REPLY; `documents`: to a legacy query or OP_GET_MORE.
    pub(crate) fn new(legacy: bool, documents: bool) -> Response {
        Response { legacy, documents: legacy && documents, ..Response::default() }
    }

    /// The server did not do what was asked, or not all of it.
    pub(crate) fn is_error(&self) -> bool {
        let legacy = reply_flags::CURSOR_NOT_FOUND | reply_flags::QUERY_FAILURE;
        self.ok == Some(false)
            || self.write_errors > 0
            || self.write_concern_error.is_some()
            || (self.legacy && self.flags & legacy != 0)
    }

    /// The command's code, else its first write error's, else its write concern error's.
    pub(crate) fn status(&self) -> Option<i64> {
        self.code.or(self.write_error_codes.first().copied()).or(self.write_concern_error)
    }

    pub(crate) fn write_error_codes(&self) -> String {
        self.write_error_codes.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
    }

    fn top(&mut self, name: &[u8], value: Value<'_>) -> Follow {
        self.field = Field::Other;
        match (name, value) {
            (b"ok", value) => {
                self.ok = match value {
                    Value::Double(ok) => Some(ok != 0.0),
                    value => value.integer().map(|ok| ok != 0),
                };
            }
            (b"code", value) => self.code = value.integer(),
            (b"codeName", Value::Text(name)) => self.code_name = kept(name),
            (b"errmsg" | b"$err", Value::Text(message)) => self.message = message.to_vec(),
            (b"n", value) => self.n = value.integer(),
            (b"nModified", value) => self.n_modified = value.integer(),
            // What a bulkWrite command counts.
            (b"nErrors", value) => self.write_errors = value.integer().and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            (b"nUpserted", value) => self.upserted = value.integer().and_then(|n| u64::try_from(n).ok()),
            // The document that a findAndModify found, or null.
            (b"value", Value::Document) => self.returned = Some(1),
            (b"value", Value::Other("null")) => self.returned = Some(0),
            (b"ismaster" | b"isWritablePrimary" | b"maxWireVersion", _) => self.is_hello = true,
            (name, Value::Document) => {
                self.field = match name {
                    b"cursor" => Field::Cursor,
                    b"writeConcernError" => {
                        self.write_concern_error = Some(0);
                        Field::WriteConcernError
                    }
                    b"lastErrorObject" => Field::LastError,
                    _ => return Follow::Past,
                };
                return Follow::Into;
            }
            (name, Value::Array) => {
                self.field = match name {
                    b"writeErrors" => Field::WriteErrors,
                    b"writeConcernErrors" => Field::WriteConcernErrors,
                    b"upserted" => Field::Upserted,
                    b"errorLabels" => Field::Labels,
                    // Of a distinct.
                    b"values" => Field::Batch,
                    _ => return Follow::Past,
                };
                if self.field == Field::Batch {
                    self.returned = Some(0);
                }
                return Follow::Into;
            }
            _ => {}
        }
        Follow::Past
    }

    /// A field of a write error.
    fn write_error(&mut self, name: &[u8], value: Value<'_>) {
        match (name, value) {
            (b"code", value) => {
                if let Some(code) = value.integer()
                    && self.write_error_codes.len() < MAX_LISTED
                    && !self.write_error_codes.contains(&code)
                {
                    self.write_error_codes.push(code);
                }
            }
            (b"errmsg", Value::Text(message)) if self.message.is_empty() => self.message = message.to_vec(),
            _ => {}
        }
    }

    fn write_concern(&mut self, name: &[u8], value: Value<'_>) {
        match (name, value) {
            (b"code", value) => self.write_concern_error = value.integer().or(self.write_concern_error),
            (b"codeName", Value::Text(name)) if self.code_name.is_empty() => self.code_name = kept(name),
            (b"errmsg", Value::Text(message)) if self.message.is_empty() => self.message = message.to_vec(),
            _ => {}
        }
    }
}

impl Listener for Response {
    fn prologue(&mut self, prologue: &Prologue<'_>) {
        self.flags = prologue.flags;
        if self.documents {
            self.cursor_id = prologue.cursor_id;
            self.returned = u64::try_from(prologue.number).ok();
            self.documents = self.flags & reply_flags::QUERY_FAILURE == 0;
        }
    }

    fn document(&mut self, index: u32) -> Follow {
        // Of a command there is one.
        if self.documents || index > 0 { Follow::Past } else { Follow::Into }
    }

    fn sequence(&mut self, _name: &[u8]) -> Follow {
        // No server sends documents so.
        Follow::Past
    }

    fn element(&mut self, depth: usize, name: &[u8], value: Value<'_>) -> Follow {
        if depth == 1 {
            return self.top(name, value);
        }
        match (self.field, depth, name, value) {
            (Field::Cursor, 2, b"firstBatch" | b"nextBatch", Value::Array) => {
                self.returned = Some(0);
                return Follow::Into;
            }
            (Field::Cursor, 2, b"id", value) => self.cursor_id = value.integer(),
            (Field::Cursor, 2, b"ns", Value::Text(namespace)) => self.namespace = kept(namespace),
            (Field::Cursor, 3, ..) | (Field::Batch, 2, ..) => self.returned = Some(self.returned.unwrap_or(0) + 1),
            (Field::WriteErrors, 2, _, Value::Document) => {
                self.write_errors += 1;
                return Follow::Into;
            }
            (Field::WriteErrors, 3, name, value) => self.write_error(name, value),
            (Field::WriteConcernErrors, 2, _, Value::Document) => {
                self.write_concern_error = self.write_concern_error.or(Some(0));
                return Follow::Into;
            }
            (Field::WriteConcernError, 2, name, value) | (Field::WriteConcernErrors, 3, name, value) => {
                self.write_concern(name, value);
            }
            (Field::Upserted, 2, ..) => self.upserted = Some(self.upserted.unwrap_or(0) + 1),
            (Field::LastError, 2, b"n", value) => self.n = value.integer(),
            (Field::LastError, 2, b"upserted", _) => self.upserted = Some(1),
            (Field::Labels, 2, _, Value::Text(label)) if self.listed < MAX_LISTED => {
                if self.listed > 0 {
                    self.labels.push(b',');
                }
                self.labels.extend(label.iter().filter(|byte| byte.is_ascii_alphanumeric()).take(64));
                self.listed += 1;
            }
            _ => {}
        }
        Follow::Past
    }

    fn leave(&mut self, _depth: usize) {}
}

fn kept(text: &[u8]) -> Vec<u8> {
    text.get(..MAX_KEPT).unwrap_or(text).to_vec()
}
