//! HTTP/1 as podtap sees it: RFC 9112 syntax, RFC 9110 semantics, of a connection that somebody else speaks.
//!
//! The client's side is a row of requests, the server's a row of responses in the same order (RFC 9112 section 9.3.2).
//! Each is a head, of which an exchange keeps the facts, and a body, which is passed over.

#![forbid(unsafe_code)]

mod fields;
mod framing;
mod head;
mod target;

use podtap_sdk::{Break, Connection, Decoder, Descriptor, Exchange, Exchanges, Outcome, Stream, Tasks, Verdict};

use fields::{
    ATTRIBUTES, CONTENT_TYPE, ERROR_TYPE, HOST, METHOD, METHOD_ORIGINAL, PATH, QUERY, REQUEST_BODY_SIZE,
    RESPONSE_BODY_SIZE, SCHEME, SPAN_ID, STATUS, TRACE_ID, USER_AGENT, VERSION,
};
use framing::{Asked, Body};
use head::{Head, MAX_HEAD, METHODS, RequestLine, is_registered};
use target::Target;

/// The longest chunk-size line read, extensions included (RFC 9112 section 7.1.1).
const MAX_CHUNK_LINE: usize = 4096;

/// From so many bytes of a first line on, a known method and an absolute path are enough for [`probe_request`].
const LONG_FIRST_LINE: usize = 512;

/// The decoder.
#[derive(Debug)]
pub struct Http;

impl Decoder for Http {
    const DESCRIPTOR: Descriptor = Descriptor {
        name: "http",
        version: env!("CARGO_PKG_VERSION"),
        doc: "HTTP/1.0 and HTTP/1.1",
        protocols: &["http"],
        ports: &[80, 8080, 8000, 3000, 5000, 8081, 8888, 9090],
        attributes: ATTRIBUTES,
        status: Some(STATUS.index()),
    };

    fn configure(config: &str) -> Result<Http, String> {
        match config.trim() {
            "" | "{}" => Ok(Http),
            _ => Err("http takes no configuration: remove its section".into()),
        }
    }

    fn probe(&self, from_server: bool, head: &[u8]) -> Verdict {
        if from_server { probe_response(head) } else { probe_request(head) }
    }

    fn connect(&self, connection: &mut Connection) -> Tasks {
        let exchanges = connection.exchanges();
        let midstream = connection.is_midstream();
        Tasks::new(
            requests(connection.client(), exchanges.clone(), midstream),
            responses(connection.server(), exchanges, midstream),
        )
    }
}

podtap_sdk::export!(Http);

async fn requests(mut client: Stream, exchanges: Exchanges<Asked>, midstream: bool) -> Result<(), Break> {
    if midstream {
        client.resync(find_request).await;
    }
    loop {
        match request(&mut client, &exchanges).await {
            Ok(()) => {}
            Err(Break::End) => return Err(Break::End),
            Err(Break::Gap | Break::Malformed) => exchanges.resync_requests(&mut client, find_request).await,
        }
    }
}

async fn request(client: &mut Stream, exchanges: &Exchanges<Asked>) -> Result<(), Break> {
    client.message().await?;
    let read = |bytes: &[u8]| {
        let (length, head) = Head::parse(bytes)?;
        if head.start_line.is_empty() {
            return Some((length, Ok(None)));
        }
        let request = |line| exchanges.request(|exchange| describe_request(exchange, &line, &head));
        let framing = head::request_line(head.start_line).map(request);
        Some((length, framing.map(Some).ok_or(Break::Malformed)))
    };
    // Nothing but empty lines: a server ignores them, and so does the next turn (RFC 9112 section 2.2).
    let Some(framing) = client.parse(head::end_of_head, MAX_HEAD, read).await?? else { return Ok(()) };
    let size = body(client, framing).await?;
    exchanges.request_end(client, |exchange| {
        if let Some(size) = size {
            exchange.set(REQUEST_BODY_SIZE, size);
        }
    });
    Ok(())
}

async fn responses(mut server: Stream, exchanges: Exchanges<Asked>, midstream: bool) -> Result<(), Break> {
    if midstream {
        server.resync(find_response).await;
    }
    loop {
        match response(&mut server, &exchanges).await {
            Ok(()) => {}
            Err(Break::End) => return Err(Break::End),
            Err(Break::Gap | Break::Malformed) => exchanges.resync_responses(&mut server, find_response).await,
        }
    }
}

async fn response(server: &mut Stream, exchanges: &Exchanges<Asked>) -> Result<(), Break> {
    server.message().await?;
    let (status, framing) = loop {
        let read = |bytes: &[u8]| {
            let (length, head) = Head::parse(bytes)?;
            let response = |status| (status, exchanges.response(|it| describe_response(it, status, &head)));
            let line = head::status_line(head.start_line).map(|line| response(line.status));
            Some((length, line.ok_or(Break::Malformed)))
        };
        match server.parse(head::end_of_head, MAX_HEAD, read).await?? {
            // Interim: the final response follows (RFC 9110 section 15.2). 101 is final on this connection.
            (100 | 102..=199, _) => {}
            (status, framing) => break (status, framing),
        }
    };
    let size = body(server, framing).await?;
    if let Some(size) = size {
        exchanges.response(|exchange| exchange.set(RESPONSE_BODY_SIZE, size));
    }
    exchanges.finish(server, if status >= 500 { Outcome::Error } else { Outcome::Ok });
    if framing == Body::Tunnel {
        server.hand_over();
    }
    Ok(())
}

/// Passes over a body. Its size without framing; none where there is no body.
async fn body(stream: &mut Stream, framing: Body) -> Result<Option<u64>, Break> {
    match framing {
        Body::None | Body::Tunnel => Ok(None),
        Body::Length(length) => {
            stream.skip(length).await?;
            Ok(Some(length))
        }
        Body::Chunked => chunks(stream).await.map(Some),
        Body::UntilClose => Ok(Some(stream.rest().await)),
    }
}

/// Passes over a chunked body (RFC 9112 section 7.1): chunks, the last chunk, trailers.
async fn chunks(stream: &mut Stream) -> Result<u64, Break> {
    let mut total: u64 = 0;
    loop {
        let size = stream.until(b"\n", MAX_CHUNK_LINE, framing::chunk_size).await?.ok_or(Break::Malformed)?;
        if size == 0 {
            break;
        }
        stream.skip(size).await?;
        stream.until(b"\n", 2, |end| matches!(end, b"\r\n" | b"\n")).await?.then_some(()).ok_or(Break::Malformed)?;
        total = total.saturating_add(size);
    }
    let mut trailers = 0;
    while trailers <= MAX_HEAD {
        match stream.until(b"\n", MAX_HEAD, <[u8]>::len).await? {
            // An empty line: as short as its ending.
            1 | 2 => return Ok(total),
            length => trailers += length,
        }
    }
    Err(Break::Malformed)
}

fn describe_request(exchange: &mut Exchange<Asked>, line: &RequestLine<'_>, head: &Head<'_>) -> Body {
    let known = is_registered(line.method);
    let operation: &[u8] = if known { line.method } else { b"_OTHER" };
    exchange.state = match operation {
        b"HEAD" => Asked::Head,
        b"CONNECT" => Asked::Connect,
        _ => Asked::Other,
    };
    let target = Target::parse(line.target, exchange.state == Asked::Connect);
    exchange.describe(operation, target.path, b"");
    exchange.set(METHOD, operation);
    if !known {
        exchange.set(METHOD_ORIGINAL, line.method);
    }
    exchange.set(PATH, target.path);
    if let Some(query) = target.query {
        exchange.set(QUERY, query);
    }
    exchange.set(SCHEME, target.scheme.unwrap_or(b"http"));
    exchange.set(VERSION, line.version.text());
    // A host in the target comes before the field (RFC 9112 section 3.2.2).
    if let Some(host) = target.host.or(head.host.map(target::host)) {
        exchange.set(HOST, host);
    }
    if let Some(user_agent) = head.user_agent {
        exchange.set(USER_AGENT, user_agent);
    }
    if let Some((trace, span)) = head.traceparent.and_then(traceparent) {
        exchange.set(TRACE_ID, trace);
        exchange.set(SPAN_ID, span);
    }
    head.body.of_request()
}

fn describe_response(exchange: &mut Exchange<Asked>, status: u16, head: &Head<'_>) -> Body {
    if (100..=199).contains(&status) && status != 101 {
        return Body::None;
    }
    exchange.set(STATUS, status);
    if status >= 500 {
        exchange.set(ERROR_TYPE, head.start_line.get(9..12).unwrap_or_default());
    }
    if let Some(content_type) = head.content_type {
        exchange.set(CONTENT_TYPE, content_type);
    }
    head.body.of_response(status, exchange.state)
}

/// version "-" trace-id "-" parent-id "-" trace-flags, lower-case hex; all zeros are no id (W3C Trace Context 3.2).
fn traceparent(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = value.split(|&byte| byte == b'-');
    let (_version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let is_id = |id: &[u8], length| {
        let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        id.len() == length && id.iter().all(hex) && id.iter().any(|&byte| byte != b'0')
    };
    (is_id(trace, 32) && is_id(span, 16)).then_some((trace, span))
}

/// Errs towards no: what is not certainly HTTP/1 is somebody else's.
fn probe_request(head: &[u8]) -> Verdict {
    let head = trim_empty_lines(head);
    let Some(line_end) = memchr::memchr(b'\n', head) else {
        let method_end = head.iter().position(|&byte| byte == b' ').unwrap_or(head.len());
        let method = &head[..method_end];
        return if head.is_empty() || (method_end == head.len() && METHODS.iter().any(|known| known.starts_with(method)))
        {
            Verdict::NeedMore
        } else if !is_registered(method) {
            Verdict::No
        } else if head.len() >= LONG_FIRST_LINE && head[method_end + 1..].starts_with(b"/") {
            Verdict::Yes
        } else {
            Verdict::NeedMore
        };
    };
    if head::request_line(&head[..line_end]).is_some() { Verdict::Yes } else { Verdict::No }
}

fn probe_response(head: &[u8]) -> Verdict {
    // The status code and what follows it: 13 bytes.
    match head.get(..13) {
        Some(start) => {
            let line = start.split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or_default();
            if head::status_line(line).is_some() { Verdict::Yes } else { Verdict::No }
        }
        None if b"HTTP/1.".starts_with(&head[..head.len().min(7)]) => Verdict::NeedMore,
        None => Verdict::No,
    }
}

fn find_request(bytes: &[u8]) -> Option<usize> {
    find_line(bytes, |line| probe_request(line) == Verdict::Yes)
}

fn find_response(bytes: &[u8]) -> Option<usize> {
    find_line(bytes, |line| probe_response(line) == Verdict::Yes)
}

/// The offset of the first line that `is_start` accepts.
fn find_line(bytes: &[u8], is_start: impl Fn(&[u8]) -> bool) -> Option<usize> {
    let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', bytes).map(|at| at + 1));
    starts.into_iter().find(|&at| at < bytes.len() && !bytes[at].is_ascii_whitespace() && is_start(&bytes[at..]))
}

fn trim_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}
