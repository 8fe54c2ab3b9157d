//! HTTP/1 as podtap sees it: RFC 9112 syntax, RFC 9110 semantics, of a connection that somebody else speaks.
//!
//! The client's side is a row of requests, the server's a row of responses in the same order (RFC 9112 section 9.3.2).
//! Each is a head, of which an exchange keeps the facts, and a body, which is passed over.

#![forbid(unsafe_code)]

mod anomaly;
mod config;
mod exchange;
mod fields;
mod framing;
mod head;
mod lines;
mod probe;
mod route;
mod target;
mod trace;

use std::cell::Cell;
use std::rc::Rc;

use podtap_sdk::{Break, Connection, Decoder, Descriptor, Exchanges, Outcome, Stream, Tasks, Verdict};

use anomaly::Anomalies;
pub use anomaly::Anomaly;
use config::Config;
use exchange::State;
use fields::{ATTRIBUTES, REQUEST_BODY_SIZE, RESPONSE_BODY_SIZE, STATUS};
use framing::Body;
use head::{Head, MAX_HEAD};

/// The longest chunk-size line read, extensions included (RFC 9112 section 7.1.1).
const MAX_CHUNK_LINE: usize = 4096;

/// The decoder.
#[derive(Debug)]
pub struct Http {
    config: Rc<Config>,
}

impl Decoder for Http {
    const DESCRIPTOR: Descriptor = Descriptor {
        name: "http",
        version: env!("CARGO_PKG_VERSION"),
        doc: "HTTP/1.1, HTTP/1.0 and HTTP/0.9",
        protocols: &["http"],
        ports: &[80, 8080, 8000, 3000, 5000, 8081, 8888, 9090],
        attributes: ATTRIBUTES,
        status: Some(STATUS.index()),
    };

    fn configure(config: &str) -> Result<Http, String> {
        Ok(Http { config: Rc::new(Config::parse(config)?) })
    }

    fn probe(&self, from_server: bool, head: &[u8]) -> Verdict {
        if from_server { probe::response(head) } else { probe::request(head) }
    }

    fn connect(&self, connection: &mut Connection) -> Tasks {
        let shared = Shared {
            exchanges: connection.exchanges_completed_by(exchange::complete),
            config: Rc::clone(&self.config),
            simple: Rc::default(),
        };
        let (exchanges, of_client) = (shared.exchanges.clone(), shared.clone());
        let mut first = !connection.is_midstream();
        let request = async move |client: &mut Stream, _: &_| {
            let first = std::mem::take(&mut first);
            request(client, &of_client, first).await
        };
        let response = async move |server: &mut Stream, _: &_| response(server, &shared).await;
        Tasks::new(
            exchanges.requests(connection, probe::find_request, request),
            exchanges.responses(connection, probe::find_response, response),
        )
    }
}

podtap_sdk::export!(Http);

/// What the tasks of a connection have in common.
#[derive(Clone)]
struct Shared {
    exchanges: Exchanges<State>,
    config: Rc<Config>,
    /// The request was one of HTTP/0.9.
    simple: Rc<Cell<bool>>,
}

/// What a request's head says of what follows.
enum Follows {
    /// It was no head: empty lines alone.
    Nothing,
    Body(Body),
    /// Nothing that matters: the request was one of HTTP/0.9.
    Simple,
}

async fn request(client: &mut Stream, shared: &Shared, first: bool) -> Result<(), Break> {
    client.message().await?;
    let end = |bytes: &[u8], scanned| match simple_request(first, bytes) {
        Some((length, _)) => Some(length),
        None => head::end_of_head(bytes, scanned),
    };
    let read = |bytes: &[u8]| {
        if let Some((length, target)) = simple_request(first, bytes) {
            shared.exchanges.request(|exchange| exchange::describe_simple(exchange, target, &shared.config));
            return Some((length, Ok(Follows::Simple)));
        }
        Head::read(bytes, |length, head| {
            if head.start_line.is_empty() {
                return (length, Ok(Follows::Nothing));
            }
            let Some(line) = head::request_line(head.start_line) else { return (length, Err(Break::Malformed)) };
            let describe = |exchange: &mut _| exchange::describe_request(exchange, &line, head, &shared.config);
            (length, Ok(Follows::Body(shared.exchanges.request(describe))))
        })
    };
    let framing = match client.parse(end, MAX_HEAD, read).await?? {
        // A server ignores empty lines, and so does the next turn (RFC 9112 section 2.2).
        Follows::Nothing => return Ok(()),
        Follows::Body(framing) => framing,
        Follows::Simple => {
            shared.exchanges.request_end(client, |_| ());
            shared.simple.set(true);
            // The connection has but this exchange (RFC 1945 section 4.1).
            client.rest().await;
            return Err(Break::End);
        }
    };
    let mut anomalies = Anomalies::default();
    let size = body(client, framing, &mut anomalies).await;
    if !anomalies.is_empty() {
        shared.exchanges.open_request(|exchange| exchange.state.anomalies.add(anomalies));
    }
    let size = size?;
    shared.exchanges.request_end(client, |exchange| {
        if let Some(size) = size {
            exchange.set(REQUEST_BODY_SIZE, size);
        }
    });
    Ok(())
}

/// A request of HTTP/0.9 is the first of its connection, or it is none.
fn simple_request(first: bool, bytes: &[u8]) -> Option<(usize, &[u8])> {
    if first { head::simple_request(bytes) } else { None }
}

/// How the answer to a request of HTTP/0.9 begins where the server does not speak that.
const STATUS_LINE: &[u8] = b"HTTP/";

/// A response's head: its status and what follows.
type Answer = Result<(u16, Body), Break>;

async fn response(server: &mut Stream, shared: &Shared) -> Result<(), Break> {
    server.message().await?;
    let read = |bytes: &[u8]| {
        Head::read(bytes, |length, head| {
            let Some(line) = head::status_line(head.start_line) else { return (length, Err(Break::Malformed)) };
            let describe = |exchange: &mut _| exchange::describe_response(exchange, line, head, &shared.config);
            let body = shared.exchanges.response(describe);
            (length, Ok((line.status, body)))
        })
    };
    if shared.simple.get() {
        for (index, expected) in STATUS_LINE.iter().enumerate() {
            match server.exact(1, |byte| byte == [*expected]).await {
                Ok(true) => {}
                Ok(false) => return simple_response(server, shared, index + 1).await,
                Err(Break::End) => return simple_response(server, shared, index).await,
                Err(why) => return Err(why),
            }
        }
    }
    let (status, framing) = loop {
        let answer: Answer = if shared.simple.take() {
            // Its start was read already.
            server
                .until(head::end_of_head, MAX_HEAD, |rest| read(&[STATUS_LINE, rest].concat()))
                .await?
                .ok_or(Break::Malformed)?
                .1
        } else {
            server.parse(head::end_of_head, MAX_HEAD, read).await?
        };
        match answer? {
            // Interim: the final response follows (RFC 9110 section 15.2). 101 is final on this connection.
            (100 | 102..=199, _) => {}
            answer => break answer,
        }
    };
    let mut anomalies = Anomalies::default();
    let size = body(server, framing, &mut anomalies).await;
    if !anomalies.is_empty() {
        shared.exchanges.response(|exchange| exchange.state.anomalies.add(anomalies));
    }
    if let Some(size) = size? {
        shared.exchanges.response(|exchange| exchange.set(RESPONSE_BODY_SIZE, size));
    }
    shared.exchanges.finish(server, if status >= 500 { Outcome::Error } else { Outcome::Ok });
    if framing == Body::Tunnel {
        server.hand_over();
    }
    Ok(())
}

/// The response of HTTP/0.9: a body up to the end, of which `read` bytes were read.
async fn simple_response(server: &mut Stream, shared: &Shared, read: usize) -> Result<(), Break> {
    shared.exchanges.response(|_| ());
    let size = read as u64 + until_close(server).await?;
    shared.exchanges.response(|exchange| exchange.set(RESPONSE_BODY_SIZE, size));
    shared.exchanges.finish(server, Outcome::Ok);
    Ok(())
}

/// Passes over a body. Its size without framing; none where there is no body.
async fn body(stream: &mut Stream, framing: Body, anomalies: &mut Anomalies) -> Result<Option<u64>, Break> {
    match framing {
        Body::None | Body::Tunnel => Ok(None),
        Body::Length(length) => {
            stream.skip(length).await?;
            Ok(Some(length))
        }
        Body::Chunked => {
            let size = chunks(stream, anomalies).await;
            anomalies.note_if(size == Err(Break::Malformed), Anomaly::InvalidChunk);
            size.map(Some)
        }
        Body::UntilClose => until_close(stream).await.map(Some),
    }
}

/// Passes over a body that ends with its side: not where the connection breaks before (RFC 9112 section 8).
async fn until_close(stream: &mut Stream) -> Result<u64, Break> {
    let size = stream.rest().await;
    if stream.is_cut() { Err(Break::End) } else { Ok(size) }
}

/// Passes over a chunked body (RFC 9112 section 7.1): chunks, the last chunk, trailers.
async fn chunks(stream: &mut Stream, anomalies: &mut Anomalies) -> Result<u64, Break> {
    let mut total: u64 = 0;
    loop {
        let line = stream.until(b"\n", MAX_CHUNK_LINE, framing::chunk_size).await?;
        let (size, bare) = line.ok_or(Break::Malformed)?;
        anomalies.note_if(bare, Anomaly::BareLf);
        if size == 0 {
            break;
        }
        stream.skip(size).await?;
        let bare = |end: &[u8]| match end {
            b"\r\n" => Some(false),
            b"\n" => Some(true),
            _ => None,
        };
        let bare = stream.until(b"\n", 2, bare).await?.ok_or(Break::Malformed)?;
        anomalies.note_if(bare, Anomaly::BareLf);
        total = total.saturating_add(size);
    }
    let mut trailers = 0;
    while trailers <= MAX_HEAD {
        let (length, bare) = stream.until(b"\n", MAX_HEAD, |line| (line.len(), !line.ends_with(b"\r\n"))).await?;
        anomalies.note_if(bare, Anomaly::BareLf);
        // An empty line: as short as its ending.
        if length == if bare { 1 } else { 2 } {
            return Ok(total);
        }
        trailers += length;
    }
    Err(Break::Malformed)
}
