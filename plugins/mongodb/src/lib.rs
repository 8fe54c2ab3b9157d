//! MongoDB as podtap sees it: the wire protocol with OP_MSG, OP_COMPRESSED and the legacy opcodes, over BSON documents
//! (MongoDB manual, "MongoDB Wire Protocol" and "Legacy Opcodes"; BSON 1.1; MongoDB driver specifications).
//!
//! Both sides are a row of messages, each as long as its header says. A response names the request that it answers
//! (`responseTo`), and by that they are paired. Of documents an exchange keeps names, numbers of documents, errors and
//! the shape of what was asked: never a value.

#![forbid(unsafe_code)]

mod checksum;
mod compressed;
mod config;
mod describe;
mod fields;
mod reader;
mod redact;
mod request;
mod response;
mod shape;
mod wire;

use std::cell::RefCell;
use std::rc::Rc;

use podtap_sdk::{Break, Connection, Decoder, Descriptor, ExchangesById, Outcome, Stream, Tasks, Verdict};

use compressed::{Compressor, MAX_COMPRESSED};
use config::Config;
use describe::Asked;
use fields::{ATTRIBUTES, RESPONSE_STATUS};
use reader::{Listener, Reader};
use request::{Client, Request};
use response::Response;
use wire::{COMPRESSED_HEADER, HEADER, Header, MAX_MESSAGE, Opcode, flags, u32_at};

/// The decoder.
#[derive(Debug)]
pub struct Mongodb {
    config: Config,
}

impl Decoder for Mongodb {
    const DESCRIPTOR: Descriptor = Descriptor {
        name: "mongodb",
        version: env!("CARGO_PKG_VERSION"),
        doc: "MongoDB wire protocol",
        protocols: &["mongodb"],
        ports: &[27017, 27018, 27019],
        attributes: ATTRIBUTES,
        status: Some(RESPONSE_STATUS.index()),
    };

    fn configure(config: &str) -> Result<Mongodb, String> {
        Ok(Mongodb { config: Config::parse(config)? })
    }

    fn probe(&self, from_server: bool, head: &[u8]) -> Verdict {
        wire::probe(from_server, head)
    }

    fn connect(&self, connection: &mut Connection) -> Tasks {
        let shared = Shared { exchanges: connection.exchanges_by_id(), client: Rc::default(), config: self.config };
        let (exchanges, of_client) = (shared.exchanges.clone(), shared.clone());
        let request = async move |client: &mut Stream, _: &_| request(client, &of_client).await;
        let response = async move |server: &mut Stream, _: &_| response(server, &shared).await;
        Tasks::new(
            exchanges.requests(connection, |bytes: &[u8]| wire::find(false, bytes), request),
            exchanges.responses(connection, |bytes: &[u8]| wire::find(true, bytes), response),
        )
    }
}

podtap_sdk::export!(Mongodb);

/// What both sides of a connection know.
#[derive(Clone)]
struct Shared {
    exchanges: ExchangesById<Asked>,
    /// What the handshake said.
    client: Rc<RefCell<Client>>,
    config: Config,
}

/// A message whose body was read as far as it goes.
struct Message<L> {
    header: Header,
    reader: Reader<L>,
    compressor: Option<Compressor>,
    /// Bytes of the body that mattered were lost.
    broken: bool,
}

async fn request(client: &mut Stream, shared: &Shared) -> Result<(), Break> {
    client.message().await?;
    let (bytes, header) = header(client, false).await?;
    let id = u64::from(header.request_id);
    shared.exchanges.request(id, |_| ());
    let mut message = body(client, bytes, header, Request::new).await?;
    if let Some(said) = message.reader.listener.client.take() {
        *shared.client.borrow_mut() = said;
    }
    let opcode = message.header.opcode;
    let unanswered = match opcode {
        Opcode::Msg => message.reader.listener.flags & flags::MORE_TO_COME != 0,
        opcode => opcode.unanswered(),
    };
    let describe = |exchange: &mut _| describe::request(exchange, message, shared, !unanswered);
    if unanswered {
        shared.exchanges.request_end_unanswered(client, describe);
    } else {
        shared.exchanges.request_end(client, describe);
    }
    Ok(())
}

async fn response(server: &mut Stream, shared: &Shared) -> Result<(), Break> {
    server.message().await?;
    let (bytes, header) = header(server, true).await?;
    let id = u64::from(header.response_to);
    let (documents, exhaust) =
        shared.exchanges.response(id, |exchange| (exchange.state.returns_documents, exchange.state.exhaust));
    let new = |opcode: Opcode| Response::new(opcode == Opcode::Reply, documents);
    let message = body(server, bytes, header, new).await?;
    let response = &message.reader.listener;
    // Every reply but the last of an exhaust stream is answered to by the next one: OP_MSG says so by a flag, OP_REPLY
    // by a cursor that is still open.
    let more = match message.header.opcode {
        Opcode::Msg => response.flags & flags::MORE_TO_COME != 0,
        _ => exhaust && response.cursor_id.is_some_and(|id| id != 0),
    };
    // Without `ok` it cannot be said how it went, unless that stands behind what is read of a compressed message.
    let unknown = message.broken || message.reader.fault.is_some();
    let unknown = unknown && response.ok.is_none() && !documents;
    let outcome = if response.is_error() { Outcome::Error } else { Outcome::Ok };
    let next = u64::from(message.header.request_id);
    shared.exchanges.response(id, |exchange| describe::response(exchange, message, shared));
    if more {
        shared.exchanges.continues(server, next);
    } else if unknown {
        shared.exchanges.abort(server);
    } else {
        shared.exchanges.finish(server, outcome);
    }
    Ok(())
}

async fn header(stream: &mut Stream, from_server: bool) -> Result<([u8; HEADER], Header), Break> {
    let bytes = stream.array::<HEADER>().await?;
    let header = Header::parse(&bytes, from_server).ok_or(Break::Malformed)?;
    Ok((bytes, header))
}

/// Reads a message's body. Where bytes are lost in it, or it cannot be understood, the rest is passed over: its end is
/// known.
async fn body<L: Listener>(
    stream: &mut Stream,
    bytes: [u8; HEADER],
    mut header: Header,
    listener: impl Fn(Opcode) -> L,
) -> Result<Message<L>, Break> {
    let mut left = u64::from(header.length) - HEADER as u64;
    if header.opcode != Opcode::Compressed {
        let mut reader = Reader::new(listener(header.opcode), header.opcode, left, bytes);
        let broken = feed(stream, &mut reader, left).await?;
        return Ok(Message { header, reader, compressor: None, broken });
    }
    let head = stream.array::<COMPRESSED_HEADER>().await?;
    left = left.checked_sub(COMPRESSED_HEADER as u64).ok_or(Break::Malformed)?;
    let original = u32_at(&head, 0).and_then(Opcode::of).filter(|&original| original != Opcode::Compressed);
    let size = u32_at(&head, 4).filter(|&size| size <= MAX_MESSAGE);
    let (Some(opcode), Some(size), Some(compressor)) = (original, size, Compressor::of(head[8])) else {
        return Err(Break::Malformed);
    };
    header.opcode = opcode;
    let mut reader = Reader::new(listener(opcode), opcode, size.into(), bytes);
    let broken = if compressor == Compressor::Noop {
        feed(stream, &mut reader, left).await?
    } else {
        let mut payload = Vec::new();
        let wanted = left.min(MAX_COMPRESSED as u64) as usize;
        let broken = gather(stream, &mut payload, wanted).await?;
        let behind = left - payload.len() as u64;
        match compressor.beginning(&payload, size as usize) {
            Ok(plain) => {
                reader.push(&plain);
                if plain.len() == size as usize {
                    reader.end();
                }
            }
            Err(fault) => reader.fault = Some(fault),
        }
        drop(payload);
        stream.skip(behind).await?;
        broken
    };
    Ok(Message { header, reader, compressor: Some(compressor), broken })
}

/// Gives the next `left` bytes to a reader, but for those it has no use for. True where bytes that it wanted were lost.
async fn feed<L: Listener>(stream: &mut Stream, reader: &mut Reader<L>, mut left: u64) -> Result<bool, Break> {
    while left > 0 {
        let max = usize::try_from(left).unwrap_or(usize::MAX);
        match stream.piece(max, |bytes| (bytes.len() as u64, reader.push(bytes))).await {
            Ok((read, unwanted)) => {
                left -= read;
                let unwanted = unwanted.min(left);
                if unwanted > 0 {
                    stream.skip(unwanted).await?;
                    reader.skipped(unwanted);
                    left -= unwanted;
                }
            }
            Err(Break::Gap) => {
                stream.skip(left).await?;
                return Ok(true);
            }
            Err(other) => return Err(other),
        }
    }
    reader.end();
    Ok(false)
}

/// Appends the next `wanted` bytes to `payload`; true where some were lost, which ends it.
async fn gather(stream: &mut Stream, payload: &mut Vec<u8>, wanted: usize) -> Result<bool, Break> {
    while payload.len() < wanted {
        let max = wanted - payload.len();
        match stream.piece(max, |bytes| payload.extend_from_slice(bytes)).await {
            Ok(()) => {}
            Err(Break::Gap) => return Ok(true),
            Err(other) => return Err(other),
        }
    }
    Ok(false)
}
