//! The client's side: handshake response, then commands (dev.mysql.com, "Command Phase"; mariadb.com/kb/en,
//! "Clientserver protocol").
//!
//! A packet with sequence id 0 begins a command, for the client begins each with 0; what has another id goes on with
//! something: a login, a file.

use std::cell::RefCell;
use std::rc::Rc;

use podtap_sdk::{Break, Exchange, Exchanges, Stream, Verdict, digest};

use crate::fields::{
    COMMAND, CONNECTION_ID, NAMESPACE, PROCEDURE, QUERY_DIGEST, QUERY_SUMMARY, QUERY_TEXT, QUERY_TRUNCATED,
    SERVER_VERSION, SPAN_ID, STATEMENT_ID, SYSTEM, TLS, TRACE_ID, USER,
};
use crate::handshake::{self, Response};
use crate::session::{Phase, Session, capability, name};
use crate::sql::Statement;
use crate::wire::{HEADER, Header, Payload, packet, visible};

/// How much of a command is read. Statements beyond are marked as cut.
const KEEP: usize = 16 * 1024;

/// How much of a raw statement is published: what podtap keeps of a text.
const MAX_RAW_TEXT: usize = 8 * 1024;

/// OpenTelemetry's bound on `db.query.summary`.
const MAX_SUMMARY: usize = 255;

/// What a command's response looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command was not captured.
    #[default]
    Unknown,
    Login,
    /// The connection goes on encrypted.
    Tls,
    /// OK, ERR or EOF.
    Status,
    /// A text without a header.
    Text,
    /// Column definitions.
    Columns,
    Results,
    Prepare,
    /// Rows of a cursor.
    Fetch,
    /// Events without end.
    Replication,
    /// None.
    Silent,
}

/// What a response must know of its command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    /// The statement being prepared.
    pub(crate) statement: Option<Rc<Statement>>,
}

/// Name, response and the least length of the payload, its first byte included.
pub(crate) fn command(byte: u8) -> Option<(&'static str, Kind, usize)> {
    Some(match byte {
        0x01 => ("COM_QUIT", Kind::Silent, 1),
        0x02 => ("COM_INIT_DB", Kind::Status, 1),
        0x03 => ("COM_QUERY", Kind::Results, 2),
        0x04 => ("COM_FIELD_LIST", Kind::Columns, 2),
        0x05 => ("COM_CREATE_DB", Kind::Status, 2),
        0x06 => ("COM_DROP_DB", Kind::Status, 2),
        0x07 => ("COM_REFRESH", Kind::Status, 2),
        0x08 => ("COM_SHUTDOWN", Kind::Status, 1),
        0x09 => ("COM_STATISTICS", Kind::Text, 1),
        0x0a => ("COM_PROCESS_INFO", Kind::Results, 1),
        0x0c => ("COM_PROCESS_KILL", Kind::Status, 5),
        0x0d => ("COM_DEBUG", Kind::Status, 1),
        0x0e => ("COM_PING", Kind::Status, 1),
        0x11 => ("COM_CHANGE_USER", Kind::Login, 3),
        0x12 => ("COM_BINLOG_DUMP", Kind::Replication, 11),
        0x13 => ("COM_TABLE_DUMP", Kind::Replication, 3),
        0x15 => ("COM_REGISTER_SLAVE", Kind::Status, 18),
        0x16 => ("COM_STMT_PREPARE", Kind::Prepare, 2),
        0x17 => ("COM_STMT_EXECUTE", Kind::Results, 10),
        0x18 => ("COM_STMT_SEND_LONG_DATA", Kind::Silent, 7),
        0x19 => ("COM_STMT_CLOSE", Kind::Silent, 5),
        0x1a => ("COM_STMT_RESET", Kind::Status, 5),
        0x1b => ("COM_SET_OPTION", Kind::Status, 3),
        0x1c => ("COM_STMT_FETCH", Kind::Fetch, 9),
        0x1e => ("COM_BINLOG_DUMP_GTID", Kind::Replication, 11),
        0x1f => ("COM_RESET_CONNECTION", Kind::Status, 1),
        0x20 => ("COM_CLONE", Kind::Replication, 1),
        0xfa => ("COM_STMT_BULK_EXECUTE", Kind::Results, 7),
        _ => return None,
    })
}

const QUIT: u8 = 0x01;
const INIT_DB: u8 = 0x02;
const QUERY: u8 = 0x03;
const CHANGE_USER: u8 = 0x11;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const CLOSE: u8 = 0x19;
const RESET: u8 = 0x1a;
const FETCH: u8 = 0x1c;
const RESET_CONNECTION: u8 = 0x1f;
const BULK_EXECUTE: u8 = 0xfa;

type Shared = Rc<RefCell<Session>>;

/// The client's side of a connection, from wherever the session stands.
pub(crate) async fn commands(client: &mut Stream, session: &Shared, exchanges: &Exchanges<Asked>) -> Result<(), Break> {
    loop {
        match message(client, session, exchanges).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(Break::End) => return Err(Break::End),
            Err(Break::Gap | Break::Malformed) => {
                resync(client, session, exchanges).await;
            }
        }
    }
}

async fn resync(client: &mut Stream, session: &Shared, exchanges: &Exchanges<Asked>) {
    {
        let mut session = session.borrow_mut();
        if session.phase == Phase::Infile {
            session.phase = Phase::Command;
        }
        session.sequence = None;
        // Another one may have been in what is missing.
        session.last_prepared = None;
    }
    exchanges.resync_requests(client, find).await;
}

/// As [`resync`], where a connection is seen from its middle: nothing that was seen is lost.
pub(crate) async fn begin_midstream(client: &mut Stream, session: &Shared) {
    session.borrow_mut().sequence = None;
    client.resync(find).await;
}

/// What a packet of the client's was.
enum Sent {
    /// Of an exchange, which begins with it.
    Request,
    /// Nothing that is reported.
    Other,
    /// A piece of a file, of so many bytes.
    File(usize),
    Wrong,
}

/// Reads a message; false where the client's side changes the way it is packed.
async fn message(client: &mut Stream, session: &Shared, exchanges: &Exchanges<Asked>) -> Result<bool, Break> {
    client.message().await?;
    if session.borrow().phase == Phase::Tls {
        client.rest().await;
        return Err(Break::End);
    }
    if std::mem::take(&mut session.borrow_mut().repack_client) {
        return Ok(false);
    }
    let mut first = None;
    let read = |header: Header, payload: &[u8]| {
        first = Some(header);
        let session = &mut *session.borrow_mut();
        match session.phase {
            Phase::Greeting if header.sequence != 0 => login(payload, session, exchanges),
            Phase::Infile => Sent::File(header.length),
            _ if header.sequence == 0 => begin(header, payload, session, exchanges),
            // More of a login: what proves an identity.
            Phase::Login => Sent::Other,
            _ => Sent::Wrong,
        }
    };
    let (sent, last) = packet(client, KEEP, read).await?;
    match sent {
        Sent::Wrong => return Err(Break::Malformed),
        Sent::Other => {}
        Sent::File(length) => {
            let mut session = session.borrow_mut();
            session.infile_bytes += length as u64;
            if length == 0 {
                // dev.mysql.com, "LOCAL INFILE Request": an empty packet ends the file.
                session.phase = Phase::Command;
                session.sequence = Some(last.wrapping_add(1));
            }
        }
        Sent::Request => {
            exchanges.request_end(client, |_| ());
            session.borrow_mut().sequence = Some(last.wrapping_add(1));
        }
    }
    Ok(true)
}

fn login(payload: &[u8], session: &mut Session, exchanges: &Exchanges<Asked>) -> Sent {
    let Some(response) = handshake::response(payload, session) else { return Sent::Wrong };
    exchanges.request(|exchange| {
        exchange.describe(b"LOGIN", b"", b"");
        about(exchange, session);
        if !session.server_version.is_empty() {
            exchange.set(SERVER_VERSION, session.server_version.as_slice());
        }
        let namespace = session.pending_namespace.as_deref().unwrap_or_default();
        if !namespace.is_empty() {
            exchange.set(NAMESPACE, namespace);
        }
        exchange.state.kind = match response {
            Response::Login => Kind::Login,
            Response::Tls => {
                exchange.set(TLS, true);
                Kind::Tls
            }
        };
        if let Some(user) = session.pending_user.as_deref().filter(|user| !user.is_empty()) {
            exchange.set(USER, user);
        }
    });
    session.phase = if response == Response::Tls { Phase::Tls } else { Phase::Login };
    session.wait();
    Sent::Request
}

/// What every exchange of a session says.
fn about(exchange: &mut Exchange<Asked>, session: &Session) {
    if let Some(system) = session.system() {
        exchange.set(SYSTEM, system);
    }
    if let Some(id) = session.connection_id {
        exchange.set(CONNECTION_ID, id);
    }
}

fn begin(header: Header, payload: &[u8], session: &mut Session, exchanges: &Exchanges<Asked>) -> Sent {
    let Some((&byte, body)) = payload.split_first() else { return Sent::Wrong };
    let Some((name_of_command, kind, least)) = command(byte) else { return Sent::Wrong };
    if header.length < least {
        return Sent::Wrong;
    }
    session.phase = Phase::Command;
    match byte {
        CLOSE => {
            if let Some(id) = Payload(body).u32() {
                session.forget(id);
            }
            return Sent::Other;
        }
        QUIT if session.config.report_quit => {}
        _ if kind == Kind::Silent => return Sent::Other,
        CHANGE_USER => {
            session.phase = Phase::Login;
            session.forget_all();
        }
        RESET_CONNECTION => {
            session.forget_all();
            session.forget_character_set();
        }
        _ => {}
    }
    session.refuse();
    session.sequence = None;
    session.wait();
    session.infile_bytes = 0;
    exchanges.request(|exchange| {
        exchange.state.kind = kind;
        exchange.set(COMMAND, name_of_command);
        about(exchange, session);
        let operation = name_of_command.strip_prefix("COM_").unwrap_or(name_of_command);
        let operation = operation.strip_prefix("STMT_").unwrap_or(operation).as_bytes();
        exchange.describe(operation, b"", b"");
        let truncated = header.length > payload.len();
        match byte {
            QUERY => query(exchange, session, body, truncated),
            PREPARE => prepare(exchange, session, body, truncated),
            EXECUTE | BULK_EXECUTE | RESET | FETCH => {
                let statement = prepared(exchange, session, byte, body);
                if statement.is_some_and(|statement| statement.sets) {
                    session.forget_character_set();
                }
            }
            INIT_DB => {
                exchange.describe(operation, name(body), b"");
                session.pending_namespace = Some(name(body).to_vec());
            }
            CHANGE_USER => _ = handshake::change_user(body, session),
            _ => {}
        }
        let namespace = session.pending_namespace.as_deref().filter(|_| byte != QUERY).unwrap_or(&session.namespace);
        if !namespace.is_empty() {
            exchange.set(NAMESPACE, namespace);
        }
        let user = session.pending_user.as_deref().unwrap_or(&session.user);
        if !user.is_empty() {
            exchange.set(USER, user);
        }
    });
    Sent::Request
}

fn query(exchange: &mut Exchange<Asked>, session: &mut Session, body: &[u8], truncated: bool) {
    let sql = without_attributes(body, session).unwrap_or_default();
    let mut statement = std::mem::take(&mut session.scratch);
    statement.parse(sql, truncated, session.quoting);
    describe(exchange, &statement, statement.operation.as_slice());
    text(exchange, session, &statement, sql);
    if statement.operation == b"USE" {
        session.pending_namespace = Some(name(&statement.target).to_vec());
    }
    if statement.sets {
        session.forget_character_set();
    }
    session.scratch = statement;
}

fn prepare(exchange: &mut Exchange<Asked>, session: &mut Session, body: &[u8], truncated: bool) {
    let mut statement = Statement::default();
    statement.parse(body, truncated, session.quoting);
    describe(exchange, &statement, b"PREPARE");
    text(exchange, session, &statement, body);
    statement.text.shrink_to_fit();
    let statement = Rc::new(statement);
    session.last_prepared = Some(Rc::clone(&statement));
    exchange.state.statement = Some(statement);
}

/// The statement, where it is known.
fn prepared<'s>(exchange: &mut Exchange<Asked>, session: &'s Session, byte: u8, body: &[u8]) -> Option<&'s Statement> {
    let id = Payload(body).u32()?;
    exchange.set(STATEMENT_ID, id);
    let Some(statement) = session.prepared(id) else {
        if session.unknown_statement_is_lost() {
            exchange.lacks_earlier();
        }
        return None;
    };
    let operation: &[u8] = match byte {
        RESET => b"RESET",
        FETCH => b"FETCH",
        _ => &statement.operation,
    };
    describe(exchange, statement, operation);
    text(exchange, session, statement, b"");
    Some(statement)
}

/// Operation, table and summary.
fn describe(exchange: &mut Exchange<Asked>, statement: &Statement, operation: &[u8]) {
    exchange.describe(operation, &statement.target, b"");
    let mut summary = [0; MAX_SUMMARY];
    let length = statement.operation.len();
    let with_target = length + 1 + statement.target.len();
    let whole = match summary.get_mut(..with_target) {
        Some(summary) if !statement.target.is_empty() => {
            summary[..length].copy_from_slice(&statement.operation);
            summary[length] = b' ';
            summary[length + 1..].copy_from_slice(&statement.target);
            &*summary
        }
        _ => &statement.operation,
    };
    exchange.set(QUERY_SUMMARY, whole);
    if statement.operation == b"CALL" && !statement.target.is_empty() {
        exchange.set(PROCEDURE, statement.target.as_slice());
    }
}

/// Text and digest. `raw` is the statement as sent, where it was.
fn text(exchange: &mut Exchange<Asked>, session: &Session, statement: &Statement, raw: &[u8]) {
    let cut = raw.get(..MAX_RAW_TEXT).unwrap_or(raw);
    let raw_wanted = session.config.raw_query_text && !raw.is_empty();
    exchange.set(QUERY_TEXT, if raw_wanted { cut } else { &statement.text });
    exchange.set(QUERY_DIGEST, digest(&statement.text).as_slice());
    if statement.truncated || (raw_wanted && cut.len() < raw.len()) {
        exchange.set(QUERY_TRUNCATED, true);
    }
    if let Some((trace, span)) = statement.trace.filter(|_| !raw.is_empty()) {
        exchange.set(TRACE_ID, trace.as_slice());
        exchange.set(SPAN_ID, span.as_slice());
    }
}

/// The statement of a COM_QUERY behind its attributes (dev.mysql.com, "COM_QUERY", CLIENT_QUERY_ATTRIBUTES). Where the
/// login was not seen: a statement begins with no control character but white space, attributes do.
fn without_attributes<'a>(body: &'a [u8], session: &Session) -> Option<&'a [u8]> {
    let begins_so = matches!(body.first(), Some(0..=8));
    if !session.has(capability::QUERY_ATTRIBUTES, begins_so) {
        return Some(body);
    }
    let mut payload = Payload(body);
    let count = usize::try_from(payload.lenenc()?).ok()?;
    let sets = payload.lenenc()?;
    if count == 0 || sets != 1 {
        return Some(payload.0);
    }
    payload.take(count.div_ceil(8))?;
    let nulls = body.get(body.len() - payload.0.len() - count.div_ceil(8)..)?;
    let types_follow = payload.u8()? == 1;
    if !types_follow {
        return None;
    }
    let start = payload;
    for _ in 0..count {
        payload.u16()?;
        payload.lenenc_text()?;
    }
    let mut types = start;
    for index in 0..count {
        let kind = types.u16()? & 0xff;
        types.lenenc_text()?;
        if nulls.get(index / 8)? >> (index % 8) & 1 == 0 {
            value(&mut payload, kind)?;
        }
    }
    Some(payload.0)
}

/// Passes over a value of the binary protocol (dev.mysql.com, "Binary Protocol Value").
fn value(payload: &mut Payload<'_>, kind: u16) -> Option<()> {
    let length = match kind {
        1 => 1,
        2 | 13 => 2,
        3 | 4 | 9 => 4,
        5 | 8 => 8,
        6 => 0,
        7 | 10 | 11 | 12 => payload.u8()?.into(),
        _ => return payload.lenenc_text().map(drop),
    };
    payload.take(length).map(drop)
}

/// Do `bytes` begin with a command? It errs towards no; `weak` commands are so short that others send the like.
pub(crate) fn plausible(bytes: &[u8], weak: bool) -> Verdict {
    let Some(header) = Header::parse(bytes) else {
        return if bytes.get(3).is_none_or(|&sequence| sequence == 0) { Verdict::NeedMore } else { Verdict::No };
    };
    let Some(&byte) = bytes.get(HEADER) else {
        return if header.sequence == 0 && header.length > 0 { Verdict::NeedMore } else { Verdict::No };
    };
    let Some((_, kind, least)) = command(byte) else { return Verdict::No };
    if header.sequence != 0 || header.length < least {
        return Verdict::No;
    }
    let body = bytes.get(HEADER + 1..).unwrap_or_default();
    let body = body.get(..header.length - 1).unwrap_or(body);
    let complete = body.len() + 1 == header.length;
    let printable = |text: &[u8]| {
        let text = text.get(..24).unwrap_or(text);
        text.iter().all(|&byte| byte >= b' ' || matches!(byte, b'\t' | b'\r' | b'\n'))
    };
    let fits = match byte {
        QUERY | PREPARE => {
            // Attributes: their count, one set of them.
            let text = if let [0, 1, text @ ..] = body { text } else { body };
            let begin = text.trim_ascii_start().first().copied();
            let known =
                begin.is_none_or(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'(' | b'/' | b'#' | b'-'));
            if text.len() < 4 && !complete && known && printable(text) {
                return Verdict::NeedMore;
            }
            known && printable(text)
        }
        INIT_DB => (1..=64).contains(&body.len()) && complete && printable(body),
        EXECUTE => match body.get(4..9) {
            // Flags of a cursor; the iteration count is always 1.
            Some(&[flags, one, 0, 0, 0]) => flags < 16 && one == 1,
            Some(_) => false,
            None => return Verdict::NeedMore,
        },
        CLOSE | RESET | FETCH => header.length == least && complete,
        _ if least == 1 && kind != Kind::Replication => weak && header.length == 1,
        _ => weak && complete,
    };
    if fits { Verdict::Yes } else { Verdict::No }
}

/// The first command in a segment: at its start, or a packet that ends with it.
fn find(bytes: &[u8]) -> Option<usize> {
    if plausible(bytes, true) == Verdict::Yes {
        return Some(0);
    }
    let last = bytes.len().saturating_sub(HEADER);
    (1..last).find(|&at| {
        let rest = bytes.get(at..).unwrap_or_default();
        visible(rest, usize::MAX).is_some_and(|(header, _)| HEADER + header.length == rest.len())
            && plausible(rest, true) == Verdict::Yes
    })
}
