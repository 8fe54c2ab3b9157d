//! Writes messages as the specifications have them: BSON 1.1, MongoDB Wire Protocol, Legacy Opcodes.

#![allow(dead_code)]

/// A BSON value.
#[derive(Clone, Debug)]
pub(crate) enum Bson {
    Double(f64),
    Text(String),
    Document(Vec<(String, Bson)>),
    Array(Vec<Bson>),
    Binary(Vec<u8>),
    ObjectId([u8; 12]),
    Bool(bool),
    Date(i64),
    Null,
    Regex(String, String),
    Code(String),
    CodeWithScope(String, Vec<(String, Bson)>),
    Int32(i32),
    Timestamp(u64),
    Int64(i64),
    Decimal([u8; 16]),
    MinKey,
}

impl From<&str> for Bson {
    fn from(text: &str) -> Bson {
        Bson::Text(text.into())
    }
}

impl From<i32> for Bson {
    fn from(number: i32) -> Bson {
        Bson::Int32(number)
    }
}

impl From<i64> for Bson {
    fn from(number: i64) -> Bson {
        Bson::Int64(number)
    }
}

impl From<f64> for Bson {
    fn from(number: f64) -> Bson {
        Bson::Double(number)
    }
}

impl From<bool> for Bson {
    fn from(flag: bool) -> Bson {
        Bson::Bool(flag)
    }
}

impl From<Vec<Bson>> for Bson {
    fn from(values: Vec<Bson>) -> Bson {
        Bson::Array(values)
    }
}

/// A document: `doc! { "find" => "orders", "filter" => doc! { "a" => 1 } }`.
#[macro_export]
macro_rules! doc {
    ($($key:literal => $value:expr),* $(,)?) => {
        $crate::support::Bson::Document(vec![$(($key.to_owned(), $crate::support::Bson::from($value))),*])
    };
}

impl Bson {
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Bson::Double(_) => 0x01,
            Bson::Text(_) => 0x02,
            Bson::Document(_) => 0x03,
            Bson::Array(_) => 0x04,
            Bson::Binary(_) => 0x05,
            Bson::ObjectId(_) => 0x07,
            Bson::Bool(_) => 0x08,
            Bson::Date(_) => 0x09,
            Bson::Null => 0x0a,
            Bson::Regex(..) => 0x0b,
            Bson::Code(_) => 0x0d,
            Bson::CodeWithScope(..) => 0x0f,
            Bson::Int32(_) => 0x10,
            Bson::Timestamp(_) => 0x11,
            Bson::Int64(_) => 0x12,
            Bson::Decimal(_) => 0x13,
            Bson::MinKey => 0xff,
        }
    }

    /// The value as it stands behind its name; a whole document for one.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Bson::Double(value) => value.to_le_bytes().to_vec(),
            Bson::Text(text) | Bson::Code(text) => string(text),
            Bson::Document(elements) => document(elements.iter().map(|(name, value)| (name.clone(), value))),
            Bson::Array(values) => document(values.iter().enumerate().map(|(n, value)| (n.to_string(), value))),
            Bson::Binary(bytes) => [&(bytes.len() as u32).to_le_bytes()[..], &[0], bytes].concat(),
            Bson::ObjectId(id) => id.to_vec(),
            Bson::Bool(value) => vec![u8::from(*value)],
            Bson::Date(value) | Bson::Int64(value) => value.to_le_bytes().to_vec(),
            Bson::Null | Bson::MinKey => Vec::new(),
            Bson::Regex(pattern, options) => [pattern.as_bytes(), &[0], options.as_bytes(), &[0]].concat(),
            Bson::CodeWithScope(code, scope) => {
                let rest = [string(code), Bson::Document(scope.clone()).bytes()].concat();
                [&(rest.len() as u32 + 4).to_le_bytes()[..], &rest].concat()
            }
            Bson::Int32(value) => value.to_le_bytes().to_vec(),
            Bson::Timestamp(value) => value.to_le_bytes().to_vec(),
            Bson::Decimal(bytes) => bytes.to_vec(),
        }
    }
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u32 + 1).to_le_bytes()[..], text.as_bytes(), &[0]].concat()
}

fn document<'a>(elements: impl Iterator<Item = (String, &'a Bson)>) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for (name, value) in elements {
        bytes.push(value.kind());
        bytes.extend(name.as_bytes());
        bytes.push(0);
        bytes.extend(value.bytes());
    }
    bytes.push(0);
    let length = (bytes.len() as u32).to_le_bytes();
    bytes[..4].copy_from_slice(&length);
    bytes
}

/// A message with its header.
pub(crate) fn message(opcode: u32, id: u32, response_to: u32, body: &[u8]) -> Vec<u8> {
    let header = [body.len() as u32 + 16, id, response_to, opcode];
    [header.map(u32::to_le_bytes).concat(), body.to_vec()].concat()
}

/// OP_MSG with a body section.
pub(crate) fn msg(id: u32, response_to: u32, flags: u32, body: &Bson) -> Vec<u8> {
    message(2013, id, response_to, &[&flags.to_le_bytes()[..], &[0], &body.bytes()].concat())
}

/// A document sequence section.
pub(crate) fn sequence(name: &str, documents: &[Bson]) -> Vec<u8> {
    let documents = documents.iter().map(Bson::bytes).collect::<Vec<_>>().concat();
    let size = (4 + name.len() + 1 + documents.len()) as u32;
    [&[1][..], &size.to_le_bytes(), name.as_bytes(), &[0], &documents].concat()
}

/// A request by OP_MSG.
pub(crate) fn ask(id: u32, body: &Bson) -> Vec<u8> {
    msg(id, 0, 0, body)
}

/// A response by OP_MSG.
pub(crate) fn answer(response_to: u32, body: &Bson) -> Vec<u8> {
    msg(response_to + 1000, response_to, 0, body)
}

/// A message as OP_COMPRESSED.
pub(crate) fn compressed(message: &[u8], compressor: u8, compress: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (header, body) = message.split_at(16);
    let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let size = (body.len() as u32).to_le_bytes();
    let body = [&header[12..16], &size, &[compressor], &compress(body)].concat();
    self::message(2012, number(4), number(8), &body)
}
