//! What plugins/http does, as a state machine written by hand without the SDK's streams, tasks and pairing: the measure
//! of what those cost (docs/decisions/0002). Not a product.
//!
//! It parses heads, targets and framing by the very functions of plugins/http, and gives the same exchanges with the
//! same attributes for all that a complete capture of keep-alive, pipelined or chunked HTTP holds, which
//! examples/style_cost.rs checks. It leaves out what such a capture never asks for: trace ids; after a gap outside of a body, or nonsense, it gives up the
//! connection, and it never hands one over.
//!
//! ```text
//!   Head ──Content-Length──> Length ──────────────────────────────────> Head
//!     ├──chunked──> ChunkSize ──> Chunk ──> ChunkEnd ──> ChunkSize ...
//!     │                 └──last──> Trailers ────────────────────────────> Head
//!     └──neither──> UntilClose
//! ```

use std::collections::VecDeque;

use podtap_sdk::{Batch, Output};

#[path = "../../../../plugins/http/src/fields.rs"]
#[allow(unreachable_pub, dead_code)]
mod fields;
#[path = "../../../../plugins/http/src/framing.rs"]
#[allow(dead_code)]
mod framing;
#[path = "../../../../plugins/http/src/head.rs"]
#[allow(dead_code)]
mod head;
#[path = "../../../../plugins/http/src/target.rs"]
#[allow(dead_code)]
mod target;

mod columns;
#[cfg(target_arch = "wasm32")]
mod guest;

use columns::{Outcome, Pending, emit, output_like};
use fields::{
    CONTENT_TYPE, ERROR_TYPE, HOST, METHOD, METHOD_ORIGINAL, PATH, QUERY, REQUEST_BODY_SIZE, RESPONSE_BODY_SIZE,
    SCHEME, STATUS, USER_AGENT, VERSION,
};
use framing::{Asked, Body};
use head::{Head, MAX_HEAD, is_registered};
use target::Target;

const DATA: u8 = 0;
const GAP: u8 = 1;
const CLOSED: u8 = 3;
const FROM_SERVER: u8 = 128;
const MAX_CHUNK_LINE: usize = 4096;
const MAX_WAITING: usize = 256;
const WORTH_A_DEMAND: u64 = 2048;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// Up to this position.
    Length(u64),
    ChunkSize,
    /// Up to this position.
    Chunk(u64),
    ChunkEnd,
    /// So many bytes of them so far.
    Trailers(usize),
    UntilClose,
    GivenUp,
}

/// Time, size and loss of a message.
#[derive(Clone, Copy, Default)]
struct Span {
    start_ns: u64,
    end_ns: u64,
    bytes: u64,
    lost_bytes: u64,
}

struct Side {
    state: State,
    /// The first bytes of a head or line that is not complete.
    carry: Vec<u8>,
    started: bool,
    position: u64,
    skip_to: u64,
    message_position: u64,
    message: Span,
    body_bytes: u64,
    /// A message has begun.
    open: bool,
}

impl Side {
    fn new() -> Side {
        Side {
            state: State::Head,
            carry: Vec::new(),
            started: false,
            position: 0,
            skip_to: 0,
            message_position: 0,
            message: Span::default(),
            body_bytes: 0,
            open: false,
        }
    }

    fn span(&self) -> Span {
        Span { bytes: self.position - self.message_position, ..self.message }
    }
}

struct Connection {
    client: Side,
    server: Side,
    waiting: VecDeque<Box<Pending>>,
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Pending>>,
}

/// All connections.
pub struct ByHand {
    connections: Vec<Option<Connection>>,
    output: Output,
}

impl Default for ByHand {
    fn default() -> ByHand {
        ByHand { connections: Vec::new(), output: output_like(None) }
    }
}

impl ByHand {
    /// `feed` of the contract.
    pub fn feed(&mut self, batch: Batch) -> Output {
        for opened in &batch.opened {
            let index = opened.id as usize;
            if self.connections.len() <= index {
                self.connections.resize_with(index + 1, || None);
            }
            self.connections[index] = Some(Connection {
                client: Side::new(),
                server: Side::new(),
                waiting: VecDeque::new(),
                spare: Vec::new(),
            });
        }
        let mut rest = batch.data.as_slice();
        let entries = batch.connections.iter().zip(&batch.kinds).zip(&batch.times);
        let places = batch.positions.iter().zip(&batch.lengths);
        for (((&id, &kind), &time), (&position, &length)) in entries.zip(places) {
            let data = if kind & !FROM_SERVER == DATA {
                let (data, after) = rest.split_at(length as usize);
                rest = after;
                data
            } else {
                &[]
            };
            let Some(slot) = self.connections.get_mut(id as usize) else { continue };
            let Some(connection) = slot else { continue };
            match kind & !FROM_SERVER {
                DATA => connection.data(id, kind & FROM_SERVER, data, position, time, &mut self.output),
                GAP => connection.gap(kind & FROM_SERVER, length.into(), position, time),
                CLOSED => {
                    connection.close(id, length == 1, &mut self.output);
                    *slot = None;
                }
                _ => {}
            }
        }
        let next = output_like(Some(&self.output));
        std::mem::replace(&mut self.output, next)
    }
}

impl Connection {
    fn side(&mut self, from_server: u8) -> &mut Side {
        if from_server == 0 { &mut self.client } else { &mut self.server }
    }

    fn data(&mut self, id: u32, from_server: u8, mut data: &[u8], position: u64, time: u64, output: &mut Output) {
        let side = self.side(from_server);
        if !side.started {
            (side.started, side.position) = (true, position);
        } else if position > side.position && position <= side.skip_to {
            side.position = position;
        }
        while !data.is_empty() {
            let side = self.side(from_server);
            if !side.open {
                side.open = true;
                side.message_position = side.position;
                side.message = Span { start_ns: time, ..Span::default() };
                side.body_bytes = 0;
            }
            match side.state {
                State::Head => data = self.head(id, from_server, data, time, output),
                State::Length(target) | State::Chunk(target) => {
                    let wanted = target.saturating_sub(side.position).min(data.len() as u64);
                    data = &data[wanted as usize..];
                    side.position += wanted;
                    if wanted > 0 {
                        side.message.end_ns = time;
                    }
                    if side.position == target {
                        self.body_passed(id, from_server, output);
                    } else if target - side.position > WORTH_A_DEMAND && side.skip_to < target - 1 {
                        side.skip_to = target - 1;
                        output.demand_connections.push(id);
                        output.demand_kinds.push(from_server);
                        output.demand_positions.push(target - 1);
                    }
                }
                State::ChunkSize | State::ChunkEnd | State::Trailers(_) => {
                    data = self.line(id, from_server, data, time, output);
                }
                State::UntilClose => {
                    side.position += data.len() as u64;
                    side.body_bytes += data.len() as u64;
                    side.message.end_ns = time;
                    return;
                }
                State::GivenUp => {
                    output.undecoded_bytes += data.len() as u64;
                    return;
                }
            }
        }
    }

    /// All of a body or chunk of known length is there.
    fn body_passed(&mut self, id: u32, from_server: u8, output: &mut Output) {
        let side = self.side(from_server);
        if let State::Chunk(_) = side.state {
            side.state = State::ChunkEnd;
        } else {
            let bytes = side.body_bytes;
            self.message_end(id, from_server, Some(bytes), output);
        }
    }

    fn head<'a>(&mut self, id: u32, from_server: u8, data: &'a [u8], time: u64, output: &mut Output) -> &'a [u8] {
        let side = self.side(from_server);
        let visible = data.get(..MAX_HEAD).unwrap_or(data);
        if side.carry.is_empty()
            && let Some((length, head)) = Head::parse(visible)
        {
            side.position += length as u64;
            side.message.end_ns = time;
            self.head_read(id, from_server, &head, output);
            return &data[length..];
        }
        let mut carry = std::mem::take(&mut side.carry);
        let (had, room) = (carry.len(), MAX_HEAD.saturating_sub(carry.len()));
        carry.extend_from_slice(data.get(..room).unwrap_or(data));
        let Some(length) = head::end_of_head(&carry, had) else {
            let taken = carry.len() - had;
            if carry.len() >= MAX_HEAD {
                side.state = State::GivenUp;
                output.undecoded_bytes += carry.len() as u64;
            } else {
                side.carry = carry;
            }
            return &data[taken..];
        };
        side.position += length as u64;
        side.message.end_ns = time;
        match Head::parse(&carry[..length]) {
            Some((_, head)) => self.head_read(id, from_server, &head, output),
            None => side.state = State::GivenUp,
        }
        carry.clear();
        self.side(from_server).carry = carry;
        &data[length - had..]
    }

    fn head_read(&mut self, id: u32, from_server: u8, head: &Head<'_>, output: &mut Output) {
        let body = if from_server == 0 {
            if head.start_line.is_empty() {
                self.client.open = false;
                return;
            }
            self.request(id, head, output)
        } else {
            match self.response(head) {
                Some(None) => return,
                Some(Some(body)) => Some(body),
                None => None,
            }
        };
        let side = self.side(from_server);
        match body {
            None | Some(Body::Tunnel) => side.state = State::GivenUp,
            Some(Body::None) => self.message_end(id, from_server, None, output),
            Some(Body::Length(0)) => self.message_end(id, from_server, Some(0), output),
            Some(Body::Length(length)) => {
                side.state = State::Length(side.position.saturating_add(length));
                side.body_bytes = length;
            }
            Some(Body::Chunked) => side.state = State::ChunkSize,
            Some(Body::UntilClose) => side.state = State::UntilClose,
        }
    }

    fn request(&mut self, id: u32, head: &Head<'_>, output: &mut Output) -> Option<Body> {
        let line = head::request_line(head.start_line)?;
        if self.waiting.len() >= MAX_WAITING
            && let Some(oldest) = self.waiting.pop_front()
        {
            emit(output, id, &oldest, Span::default(), Outcome::NoResponse);
        }
        let mut pending = self.spare.pop().unwrap_or_default();
        let known = is_registered(line.method);
        let operation: &[u8] = if known { line.method } else { b"_OTHER" };
        pending.asked = match operation {
            b"HEAD" => Asked::Head,
            b"CONNECT" => Asked::Connect,
            _ => Asked::Other,
        };
        let target = Target::parse(line.target, pending.asked == Asked::Connect);
        pending.describe(operation, target.path);
        pending.text(METHOD.index(), operation);
        if !known {
            pending.text(METHOD_ORIGINAL.index(), line.method);
        }
        pending.text(PATH.index(), target.path);
        if let Some(query) = target.query {
            pending.text(QUERY.index(), query);
        }
        pending.text(SCHEME.index(), target.scheme.unwrap_or(b"http"));
        pending.text(VERSION.index(), line.version.text().as_bytes());
        if let Some(host) = target.host.or(head.host.map(target::host)) {
            pending.text(HOST.index(), host);
        }
        if let Some(user_agent) = head.user_agent {
            pending.text(USER_AGENT.index(), user_agent);
        }
        pending.request_open = true;
        self.waiting.push_back(pending);
        Some(head.body.of_request())
    }

    /// The body of a final response; an inner none for an interim one.
    fn response(&mut self, head: &Head<'_>) -> Option<Option<Body>> {
        let status = head::status_line(head.start_line)?.status;
        if (100..=199).contains(&status) && status != 101 {
            return Some(None);
        }
        if self.waiting.is_empty() {
            self.waiting.push_front(self.spare.pop().unwrap_or_default());
        }
        let pending = &mut self.waiting[0];
        pending.answering = true;
        pending.number(STATUS.index(), status.into());
        if status >= 500 {
            pending.failed = true;
            pending.text(ERROR_TYPE.index(), head.start_line.get(9..12).unwrap_or_default());
        }
        if let Some(content_type) = head.content_type {
            pending.text(CONTENT_TYPE.index(), content_type);
        }
        Some(Some(head.body.of_response(status, pending.asked)))
    }

    fn message_end(&mut self, id: u32, from_server: u8, body_bytes: Option<u64>, output: &mut Output) {
        let side = self.side(from_server);
        (side.state, side.open) = (State::Head, false);
        let span = side.span();
        if from_server == 0 {
            if let Some(newest) = self.waiting.back_mut()
                && newest.request_open
            {
                newest.request_open = false;
                newest.request = Some(span);
                if let Some(bytes) = body_bytes {
                    newest.number(REQUEST_BODY_SIZE.index(), bytes);
                }
            }
        } else if let Some(mut exchange) = self.waiting.pop_front() {
            if let Some(bytes) = body_bytes {
                exchange.number(RESPONSE_BODY_SIZE.index(), bytes);
            }
            if exchange.request_open {
                exchange.request = Some(Span { end_ns: 0, ..self.client.span() });
            }
            let outcome = match (&exchange.request, exchange.failed) {
                (None, _) => Outcome::Unmatched,
                (_, true) => Outcome::Error,
                (_, false) => Outcome::Ok,
            };
            emit(output, id, &exchange, span, outcome);
            if self.spare.len() < 4 {
                exchange.reset();
                self.spare.push(exchange);
            }
        }
    }

    /// A line of a chunked body.
    fn line<'a>(&mut self, id: u32, from_server: u8, data: &'a [u8], time: u64, output: &mut Output) -> &'a [u8] {
        let side = self.side(from_server);
        let taken = memchr::memchr(b'\n', data).map_or(data.len(), |at| at + 1);
        let (piece, rest) = data.split_at(taken);
        let complete = piece.ends_with(b"\n");
        side.position += taken as u64;
        side.message.end_ns = time;
        let mut carry = std::mem::take(&mut side.carry);
        if carry.len() + taken > if let State::Trailers(_) = side.state { MAX_HEAD } else { MAX_CHUNK_LINE } {
            side.state = State::GivenUp;
            output.undecoded_bytes += (carry.len() + taken) as u64;
            return rest;
        }
        let line = if complete && carry.is_empty() {
            piece
        } else {
            carry.extend_from_slice(piece);
            if !complete {
                side.carry = carry;
                return rest;
            }
            carry.as_slice()
        };
        let mut ended = None;
        side.state = match side.state {
            State::ChunkSize => match framing::chunk_size(line) {
                Some(0) => State::Trailers(0),
                Some(size) => {
                    side.body_bytes = side.body_bytes.saturating_add(size);
                    State::Chunk(side.position.saturating_add(size))
                }
                None => State::GivenUp,
            },
            State::ChunkEnd if matches!(line, b"\r\n" | b"\n") => State::ChunkSize,
            State::Trailers(_) if line.len() <= 2 => {
                ended = Some(side.body_bytes);
                State::Head
            }
            State::Trailers(before) if before + line.len() <= MAX_HEAD => State::Trailers(before + line.len()),
            _ => State::GivenUp,
        };
        carry.clear();
        side.carry = carry;
        if ended.is_some() {
            self.message_end(id, from_server, ended, output);
        }
        rest
    }

    fn gap(&mut self, from_server: u8, length: u64, position: u64, time: u64) {
        let side = self.side(from_server);
        let inside = match side.state {
            State::Length(target) | State::Chunk(target) => position.saturating_add(length) < target,
            State::UntilClose => true,
            _ => false,
        };
        if inside {
            side.position = position + length;
            side.message.end_ns = time;
            side.message.lost_bytes += length;
        } else {
            side.state = State::GivenUp;
        }
    }

    fn close(&mut self, id: u32, reset: bool, output: &mut Output) {
        if self.server.state == State::UntilClose && !reset {
            let bytes = self.server.body_bytes;
            self.message_end(id, FROM_SERVER, Some(bytes), output);
        }
        while let Some(mut exchange) = self.waiting.pop_front() {
            let open = exchange.request_open;
            if open {
                exchange.request = Some(Span { end_ns: 0, ..self.client.span() });
            }
            let outcome = match (&exchange.request, exchange.answering || reset || open) {
                (None, _) => Outcome::Unmatched,
                (_, true) => Outcome::Aborted,
                (_, false) => Outcome::NoResponse,
            };
            let response = if exchange.answering { self.server.span() } else { Span::default() };
            emit(output, id, &exchange, response, outcome);
        }
    }
}
