//! What is known of a request: command, target, shape, and what the client said about itself.
//!
//! Hears a message by [`Listener`]. Of values only those pass that name things (database, collection, application) or
//! are listed by name in [`Request::top`]; of all others the shape keeps the type.

use crate::reader::{Follow, Listener, Prologue, Value};
use crate::shape::Shape;
use crate::wire::Opcode;

/// Bytes of a name or comment that are kept.
const MAX_KEPT: usize = 256;

/// Stages of a pipeline that are named.
const MAX_STAGES: usize = 64;

/// Commands whose first value is the collection they act on (manual, "Database Commands"); of others it may be anything.
const ON_COLLECTION: &[&[u8]] = &[
    b"aggregate",
    b"analyze",
    b"cloneCollectionAsCapped",
    b"clearJumboFlag",
    b"collMod",
    b"collStats",
    b"compact",
    b"convertToCapped",
    b"count",
    b"create",
    b"createIndexes",
    b"createSearchIndexes",
    b"delete",
    b"deleteIndexes",
    b"distinct",
    b"drop",
    b"dropIndexes",
    b"dropSearchIndex",
    b"find",
    b"findAndModify",
    b"findandmodify",
    b"geoSearch",
    b"insert",
    b"killCursors",
    b"listIndexes",
    b"mapReduce",
    b"mapreduce",
    b"planCacheClear",
    b"planCacheClearFilters",
    b"planCacheListFilters",
    b"planCacheSetFilter",
    b"reIndex",
    b"update",
    b"updateSearchIndex",
    b"validate",
];

/// Handshakes, authentication and pings: asked by drivers for themselves.
const MONITORING: &[&[u8]] = &[
    b"hello",
    b"isMaster",
    b"ismaster",
    b"ping",
    b"saslStart",
    b"saslContinue",
    b"authenticate",
    b"getnonce",
    b"logout",
];

/// Arguments of every command, which are not of its shape (Driver specifications, "OP_MSG", "Sessions",
/// "Transactions", "Stable API").
const GENERIC: &[&[u8]] = &[
    b"$audit",
    b"$client",
    b"$clusterTime",
    b"$configServerState",
    b"$configTime",
    b"$replData",
    b"$topologyTime",
    b"apiDeprecationErrors",
    b"apiStrict",
    b"apiVersion",
    b"autocommit",
    b"lsid",
    b"maxTimeMS",
    b"mayBypassWriteBlocking",
    b"readConcern",
    b"signature",
    b"startTransaction",
    b"writeConcern",
];

/// Which field at depth 1 the elements below belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    #[default]
    Other,
    /// Documents, updates, deletes, operations: counted.
    Batch,
    Pipeline,
    Comment,
    ReadPreference,
    /// Options of a cursor.
    Cursor,
    /// Cursors to be killed.
    Cursors,
    /// The handshake's description of the client.
    Client,
}

/// What a connection's handshake says of the client (Driver specifications, "MongoDB Handshake").
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    pub(crate) application: Vec<u8>,
    pub(crate) driver: Vec<u8>,
    pub(crate) driver_version: Vec<u8>,
}

/// A request as far as it was read.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) flags: u32,
    pub(crate) operation: Vec<u8>,
    pub(crate) database: Vec<u8>,
    pub(crate) collection: Vec<u8>,
    pub(crate) shape: Shape,
    pub(crate) batch: u64,
    pub(crate) cursor_id: Option<i64>,
    pub(crate) batch_size: Option<i64>,
    pub(crate) pipeline: Vec<u8>,
    pub(crate) comment: Vec<u8>,
    /// A comment's field of this name.
    pub(crate) traceparent: Vec<u8>,
    pub(crate) transaction_number: Option<i64>,
    pub(crate) read_preference: Vec<u8>,
    pub(crate) client: Option<Client>,
    /// An OP_QUERY that is a query, or an OP_GET_MORE: what is returned are the documents themselves.
    pub(crate) returns_documents: bool,
    legacy: Option<Opcode>,
    /// Its documents are arguments of a legacy opcode, not commands.
    bare: bool,
    /// The command stands in the `$query` of its document, as for routers (manual, "OP_QUERY").
    wrapped: bool,
    field: Field,
    in_driver: bool,
    stages: usize,
    /// The elements that come belong into the shape.
    shaping: bool,
}

impl Request {
    pub(crate) fn new(opcode: Opcode) -> Request {
        let mut request = Request { legacy: opcode.legacy().map(|_| opcode), ..Request::default() };
        request.operation = match opcode {
            Opcode::Insert => b"insert".to_vec(),
            Opcode::Update => b"update".to_vec(),
            Opcode::Delete => b"delete".to_vec(),
            Opcode::GetMore => b"getMore".to_vec(),
            Opcode::KillCursors => b"killCursors".to_vec(),
            _ => Vec::new(),
        };
        request.shape.open(b"", false);
        request
    }

    /// Asked by a driver for itself.
    pub(crate) fn is_monitoring(&self) -> bool {
        MONITORING.contains(&self.operation.as_slice())
    }

    fn is_hello(&self) -> bool {
        matches!(self.operation.as_slice(), b"hello" | b"isMaster" | b"ismaster")
    }

    /// The first element of a command names it; its value is often the collection.
    fn command(&mut self, name: &[u8], value: Value<'_>) -> Follow {
        if self.legacy.is_some() && matches!(name, b"$query" | b"query") && value == Value::Document {
            self.wrapped = true;
            return Follow::Into;
        }
        let sane = !name.is_empty()
            && name.len() <= 64
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        self.operation = if sane { name.to_vec() } else { b"_OTHER".to_vec() };
        match value {
            Value::Text(collection) if ON_COLLECTION.contains(&name) => {
                self.collection = kept(collection);
                self.shape.name(name, collection);
                Follow::Past
            }
            _ => {
                if name == b"getMore" {
                    self.cursor_id = value.integer();
                }
                self.shaping = true;
                self.shape(name, value)
            }
        }
    }

    /// A field of a command behind its name.
    fn top(&mut self, name: &[u8], value: Value<'_>) -> Follow {
        self.field = Field::Other;
        self.shaping = false;
        match (name, value) {
            (b"$db", Value::Text(database)) => self.database = kept(database),
            (b"comment", Value::Text(comment)) => self.comment = kept(comment),
            (b"comment", Value::Document) => return self.into(Field::Comment),
            (b"txnNumber", value) => self.transaction_number = value.integer(),
            (b"$readPreference", Value::Document) => return self.into(Field::ReadPreference),
            (b"collection", Value::Text(collection)) if self.operation == b"getMore" => {
                self.collection = kept(collection);
                self.shape.name(name, collection);
            }
            (b"client", Value::Document) if self.is_hello() => {
                self.client = Some(Client::default());
                return self.into(Field::Client);
            }
            (name, _) if GENERIC.contains(&name) => {}
            // Documents are counted, but for their shape there is no end of fields.
            (b"documents", Value::Array) if self.operation == b"insert" => {
                self.shape.leaf(name, "array<?object>");
                return self.into(Field::Batch);
            }
            (name, value) => {
                self.shaping = true;
                if name == b"batchSize" {
                    self.batch_size = value.integer();
                }
                self.field = match (name, value) {
                    (b"updates" | b"deletes" | b"ops", Value::Array) => Field::Batch,
                    (b"pipeline", Value::Array) => Field::Pipeline,
                    (b"cursor", Value::Document) => Field::Cursor,
                    (b"cursors", Value::Array) if self.operation == b"killCursors" => Field::Cursors,
                    _ => Field::Other,
                };
                let follow = self.shape(name, value);
                // What is counted is gone into even where the shape is full.
                return if self.field == Field::Other { follow } else { Follow::Into };
            }
        }
        Follow::Past
    }

    fn into(&mut self, field: Field) -> Follow {
        self.field = field;
        Follow::Into
    }

    fn shape(&mut self, name: &[u8], value: Value<'_>) -> Follow {
        if !self.shaping {
            return Follow::Past;
        }
        if self.shape.is_full() {
            self.shaping = false;
            return Follow::Past;
        }
        match value {
            Value::Document | Value::Array => {
                self.shape.open(name, value == Value::Array);
                return Follow::Into;
            }
            Value::Text(_) => self.shape.leaf(name, "string"),
            Value::Int(_) | Value::Double(_) => self.shape.leaf(name, "number"),
            Value::Bool(_) => self.shape.leaf(name, "bool"),
            Value::Other(type_name) => self.shape.leaf(name, type_name),
        }
        Follow::Past
    }

    /// An element of a legacy opcode's document (manual, "OP_QUERY").
    fn legacy_query(&mut self, depth: usize, name: &[u8], value: Value<'_>) -> Follow {
        self.shaping = !(depth == 1 && matches!(name, b"$comment" | b"$readPreference"));
        if let (1, b"$comment", Value::Text(comment)) = (depth, name, value) {
            self.comment = kept(comment);
        }
        self.shape(name, value)
    }
}

impl Listener for Request {
    fn prologue(&mut self, prologue: &Prologue<'_>) {
        self.flags = prologue.flags;
        self.cursor_id = prologue.cursor_id;
        let Some(opcode) = self.legacy else { return };
        let dot = prologue.namespace.iter().position(|&byte| byte == b'.').unwrap_or(prologue.namespace.len());
        let (database, collection) = prologue.namespace.split_at(dot);
        let collection = collection.get(1..).unwrap_or_default();
        self.database = kept(database);
        // A command is a query of this collection (Legacy Opcodes, "OP_QUERY").
        if opcode == Opcode::Query && collection == b"$cmd" {
            return;
        }
        self.collection = kept(collection);
        self.bare = true;
        match opcode {
            Opcode::Query => {
                self.operation = b"find".to_vec();
                self.returns_documents = true;
                self.batch_size = Some(prologue.number.into());
                self.shape.name(b"find", collection);
            }
            Opcode::GetMore => {
                self.returns_documents = true;
                self.batch_size = Some(prologue.number.into());
            }
            _ => {}
        }
    }

    fn document(&mut self, index: u32) -> Follow {
        let name: &[u8] = match (self.legacy, index) {
            (None, _) => return Follow::Into,
            (Some(Opcode::Query), 0) if !self.returns_documents => return Follow::Into,
            (Some(Opcode::Query), 0) => b"filter",
            (Some(Opcode::Query), _) => b"projection",
            (Some(Opcode::Insert), _) => {
                self.batch += 1;
                return Follow::Past;
            }
            (Some(Opcode::Update | Opcode::Delete), 0) => b"q",
            (Some(Opcode::Update), _) => b"u",
            _ => return Follow::Past,
        };
        self.shape.close_to(1);
        self.shaping = true;
        self.shape(name, Value::Document)
    }

    fn sequence(&mut self, name: &[u8]) -> Follow {
        // Before the body the command is not known; the drivers' only such sequence of documents is an insert's.
        self.field = match name {
            b"documents" | b"updates" | b"deletes" | b"ops" => Field::Batch,
            _ => Field::Other,
        };
        self.shaping = name != b"documents";
        if self.shaping {
            self.shape(name, Value::Array);
        } else {
            self.shape.leaf(name, "array<?object>");
        }
        Follow::Into
    }

    fn element(&mut self, depth: usize, name: &[u8], value: Value<'_>) -> Follow {
        if self.bare {
            return self.legacy_query(depth, name, value);
        }
        let depth = if self.wrapped { depth - 1 } else { depth };
        if depth == 0 {
            // What stands beside `$query`.
            return Follow::Past;
        }
        if depth == 1 {
            return if self.operation.is_empty() { self.command(name, value) } else { self.top(name, value) };
        }
        match (self.field, depth, name, value) {
            (Field::Batch, 2, ..) => self.batch += 1,
            // What a bulk write inserts.
            (Field::Batch, 3, b"document", Value::Document) => return self.shape(name, Value::Other("object")),
            (Field::Pipeline, 2, _, Value::Document) => {
                // Its stage is named even where the shape is full.
                self.shape(name, value);
                return Follow::Into;
            }
            (Field::Pipeline, 3, ..) if self.stages < MAX_STAGES => {
                if self.stages > 0 {
                    self.pipeline.push(b',');
                }
                self.pipeline
                    .extend(name.iter().filter(|byte| byte.is_ascii_alphanumeric() || **byte == b'$').take(64));
                self.stages += 1;
            }
            (Field::Comment, 2, b"traceparent", Value::Text(text)) => self.traceparent = kept(text),
            (Field::ReadPreference, 2, b"mode", Value::Text(mode)) => self.read_preference = kept(mode),
            (Field::Cursor, 2, b"batchSize", value) => self.batch_size = value.integer(),
            (Field::Cursors, 2, ..) => self.cursor_id = self.cursor_id.or(value.integer()),
            (Field::Client, 2, b"application" | b"driver", Value::Document) => {
                self.in_driver = name == b"driver";
                return Follow::Into;
            }
            (Field::Client, 3, name, Value::Text(text)) => {
                if let Some(client) = &mut self.client {
                    // Only the driver has a version.
                    let place = match name {
                        b"version" => &mut client.driver_version,
                        b"name" if self.in_driver => &mut client.driver,
                        b"name" => &mut client.application,
                        _ => return Follow::Past,
                    };
                    *place = kept(text);
                }
            }
            _ => {}
        }
        self.shape(name, value)
    }

    fn leave(&mut self, _depth: usize) {
        if self.shaping {
            self.shape.close();
        }
    }
}

fn kept(text: &[u8]) -> Vec<u8> {
    text.get(..MAX_KEPT).unwrap_or(text).to_vec()
}
