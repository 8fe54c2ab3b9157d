//! The server's side: greeting, then responses, each read as its command demands.
//!
//! dev.mysql.com, "Command Phase" (the response of each command), "ERR_Packet", "COM_QUERY Response", "COM_STMT_PREPARE
//! Response"; mariadb.com/kb/en, "Progress reporting". A response goes on where its packets' sequence ids do.

use std::cell::RefCell;
use std::rc::Rc;

use podtap_sdk::{Break, Exchanges, Outcome, Stream, Verdict};

use crate::command::{Asked, Kind};
use crate::fields::{
    AFFECTED_ROWS, AUTH_PLUGIN, COMMAND, COMPRESSION, CURSOR, ERROR_MESSAGE, ERROR_TYPE, INFILE_BYTES, INSERT_ID,
    RESULTS, RETURNED_ROWS, SQLSTATE, STATEMENT_ID, STATUS_CODE, SYSTEM, WARNINGS,
};
use crate::handshake;
use crate::rows::{Done, EOF, EOF_LENGTH, ERR, Ended, KEEP, PROGRESS, Rows};
use crate::session::{Phase, Session, capability, name, status};
use crate::sql::redact_message;
use crate::wire::{HEADER, Header, Payload, packet};

type Shared = Rc<RefCell<Session>>;

/// First byte of a request for a file.
const LOCAL_INFILE: u8 = 0xfb;

/// How much of an error's message is published.
const MAX_MESSAGE: usize = 512;

/// The server's side of a connection, from wherever the session stands.
pub(crate) async fn responses(
    server: &mut Stream,
    session: &Shared,
    exchanges: &Exchanges<Asked>,
) -> Result<(), Break> {
    session.borrow_mut().server_losses = server.losses();
    loop {
        match response(server, session, exchanges).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(Break::End) => return Err(Break::End),
            Err(Break::Gap | Break::Malformed) => resync(server, session, exchanges).await,
        }
    }
}

pub(crate) async fn resync(server: &mut Stream, session: &Shared, exchanges: &Exchanges<Asked>) {
    {
        // A server says nothing unasked: the response that was awaited has begun in what is lost, and the next one that
        // begins answers a later command. Where that was lost, too, it may not be taken for the one that is known.
        let mut session = session.borrow_mut();
        (session.answering, session.waiting) = (false, None);
    }
    exchanges.resync_responses(server, |bytes| find(bytes, session)).await;
}

/// As [`resync`], where a connection is seen from its middle: a command that was seen already waits for what comes first.
pub(crate) async fn begin_midstream(server: &mut Stream, session: &Shared, exchanges: &Exchanges<Asked>) {
    session.borrow_mut().server_losses = server.losses();
    exchanges.first_response(server, |bytes| find(bytes, session)).await;
}

/// The response that is waited for at a segment's start.
fn find(bytes: &[u8], session: &Shared) -> Option<usize> {
    let mut session = session.borrow_mut();
    // What is lost, or not recognised, may have been that response.
    let waits = session.waiting == Some(session.server_losses.bytes());
    let fits = waits && plausible(bytes, session.sequence.unwrap_or(1)) == Verdict::Yes;
    if !fits {
        session.waiting = None;
    }
    fits.then_some(0)
}

/// The first packet of a response.
enum First {
    Greeting,
    Wrong,
    /// More of a login, or a progress report: the response's next packet follows.
    More,
    Done,
    Error,
    Columns(u64),
    Infile,
    Prepared {
        id: u32,
        parameters: u16,
        columns: u16,
        metadata: bool,
    },
    /// A packet of a kind that the command alone tells.
    Other,
}

/// What the results of a command come to.
#[derive(Default)]
struct Totals {
    results: u64,
    rows: Option<u64>,
    affected_rows: Option<u64>,
    insert_id: u64,
    warnings: u16,
    cursor: bool,
}

/// Reads a response; false where the server's side changes the way it is packed.
async fn response(server: &mut Stream, session: &Shared, exchanges: &Exchanges<Asked>) -> Result<bool, Break> {
    server.message().await?;
    if session.borrow().phase == Phase::Tls {
        return tls(server, exchanges).await;
    }
    let mut kind = Kind::Unknown;
    let mut totals = Totals::default();
    let (mut first, mut last) = packet(server, KEEP, |header, payload| {
        let session = &mut *session.borrow_mut();
        begin(header, payload, session, exchanges, &mut kind, &mut totals)
    })
    .await?;
    let checked = session.borrow().compression.is_none();
    let mut failed = false;
    loop {
        let next = checked.then(|| last.wrapping_add(1));
        match first {
            First::Greeting => return Ok(true),
            First::Wrong => return Err(Break::Malformed),
            First::Error => {
                failed = true;
                break;
            }
            First::Done => {
                if !more_results(session) {
                    break;
                }
            }
            First::More => {}
            First::Infile => session.borrow_mut().phase = Phase::Infile,
            First::Other if kind == Kind::Replication => {
                finish(server, session, exchanges, &totals, Outcome::Ok);
                server.ignore_connection();
                server.rest().await;
                return Err(Break::End);
            }
            First::Other => break,
            First::Prepared { id, parameters, columns, metadata } => {
                if metadata {
                    failed = prepared(server, session, exchanges, next, [parameters, columns]).await?;
                }
                if !failed {
                    let statement = exchanges.response(|exchange| {
                        exchange.set(STATEMENT_ID, id);
                        exchange.state.statement.take()
                    });
                    if let Some(statement) = statement {
                        session.borrow_mut().remember(id, statement);
                    }
                }
                break;
            }
            First::Columns(definitions) => {
                let mut rows = Rows::new(next, definitions);
                if matches!(kind, Kind::Columns | Kind::Fetch) {
                    rows.behind_definitions = false;
                }
                if kind == Kind::Fetch {
                    // The packet that was read is the first row.
                    rows.rows = 1;
                }
                let (more, error) = result(server, session, exchanges, &mut rows, &mut totals).await?;
                failed = error;
                if kind == Kind::Columns {
                    totals.rows = None;
                }
                if failed || !more {
                    break;
                }
                last = rows.sequence.unwrap_or_default().wrapping_sub(1);
            }
        }
        // The next packet of the same response.
        let strict = checked && !matches!(first, First::Infile | First::More);
        let expected = last.wrapping_add(1);
        (first, last) = packet(server, KEEP, |header, payload| {
            if strict && header.sequence != expected {
                return First::Wrong;
            }
            let session = &mut *session.borrow_mut();
            classify(header, payload, session, exchanges, kind, &mut totals)
        })
        .await?;
    }
    finish(server, session, exchanges, &totals, if failed { Outcome::Error } else { Outcome::Ok });
    Ok(!std::mem::take(&mut session.borrow_mut().repack))
}

async fn tls(server: &mut Stream, exchanges: &Exchanges<Asked>) -> Result<bool, Break> {
    server.piece(1, |_| ()).await?;
    exchanges.finish(server, Outcome::Ok);
    server.ignore_connection();
    server.rest().await;
    Err(Break::End)
}

/// The first packet of all, or of a response.
fn begin(
    header: Header,
    payload: &[u8],
    session: &mut Session,
    exchanges: &Exchanges<Asked>,
    kind: &mut Kind,
    totals: &mut Totals,
) -> First {
    if session.phase == Phase::Greeting && session.server_capabilities.is_none() {
        if handshake::greeting(payload, session).is_some() {
            return First::Greeting;
        }
        // The server may refuse instead ("Initial Handshake"): too many connections, a host that is not allowed.
        if payload.first() != Some(&ERR) {
            return First::Wrong;
        }
    } else if session.waiting.is_none() && header.sequence > 1 {
        // What goes on with a response that is over for us.
        if payload.len() == EOF_LENGTH && payload.first() == Some(&EOF) {
            session.deprecate_eof = Some(false);
        }
        return First::Wrong;
    } else if session.compression.is_none()
        && session.waiting.is_some()
        && session.sequence.is_some_and(|expected| expected != header.sequence)
    {
        return First::Wrong;
    }
    session.answering = true;
    *kind = exchanges.response(|exchange| exchange.state.kind);
    if *kind == Kind::Unknown
        && let Some(system) = session.system()
    {
        exchanges.response(|exchange| exchange.set(SYSTEM, system));
    }
    classify(header, payload, session, exchanges, *kind, totals)
}

fn classify(
    header: Header,
    payload: &[u8],
    session: &mut Session,
    exchanges: &Exchanges<Asked>,
    kind: Kind,
    totals: &mut Totals,
) -> First {
    let Some(&byte) = payload.first() else { return First::Wrong };
    if byte == ERR && kind != Kind::Text {
        return error(payload, session, exchanges);
    }
    match (kind, byte) {
        (Kind::Login, 0) => {
            accept_login(session, exchanges);
            done(payload, session, totals)
        }
        (Kind::Login, _) => {
            // "Protocol::AuthSwitchRequest": another plugin.
            if byte == EOF
                && let Some(plugin) = Payload(payload.get(1..).unwrap_or_default()).nul_text()
            {
                session.auth_plugin = name(plugin).to_vec();
            }
            First::More
        }
        (Kind::Status, 0 | EOF) => done(payload, session, totals),
        (Kind::Text | Kind::Replication, _) => First::Other,
        (Kind::Prepare, 0) => prepare_ok(payload, session).unwrap_or(First::Wrong),
        (Kind::Columns, EOF) => First::Other,
        (Kind::Columns, 3) => First::Columns(0),
        (Kind::Fetch, EOF) => {
            totals.rows = Some(0);
            done(payload, session, totals)
        }
        (Kind::Fetch, 0) => First::Columns(0),
        (Kind::Results | Kind::Unknown, 0) => {
            let first = done(payload, session, totals);
            if let Some(done) = Done::parse(payload) {
                totals.affected_rows = Some(totals.affected_rows.unwrap_or(0).saturating_add(done.affected_rows));
                totals.insert_id = if totals.insert_id == 0 { done.insert_id } else { totals.insert_id };
                totals.results += 1;
            }
            first
        }
        (Kind::Results | Kind::Unknown, LOCAL_INFILE) => First::Infile,
        (Kind::Unknown, EOF) if header.length == EOF_LENGTH => done(payload, session, totals),
        (Kind::Results | Kind::Unknown, _) => {
            let mut payload = Payload(payload);
            let (count, metadata) = (payload.lenenc(), payload.u8());
            match count {
                // A table has at most 4096 columns (MySQL manual, "Limits on Table Column Count"); a result has some more.
                Some(count @ 1..=65_535) if header.length <= 4 => {
                    totals.results += 1;
                    // "Text Resultset": a flag says whether definitions follow, where that was agreed on.
                    First::Columns(if metadata == Some(0) { 0 } else { count })
                }
                _ => First::Wrong,
            }
        }
        _ => First::Wrong,
    }
}

fn done(payload: &[u8], session: &mut Session, totals: &mut Totals) -> First {
    let Some(done) = Done::parse(payload) else { return First::Wrong };
    session.status(done.status);
    session.more_results = done.status & status::MORE_RESULTS != 0;
    totals.warnings = done.warnings;
    session.accept();
    if done.status & status::STATE_CHANGED != 0
        && session.has(capability::SESSION_TRACK, false)
        && let Some(schema) = done.schema()
    {
        session.namespace = name(schema).to_vec();
    }
    First::Done
}

fn more_results(session: &Shared) -> bool {
    session.borrow().more_results
}

fn accept_login(session: &mut Session, exchanges: &Exchanges<Asked>) {
    session.phase = Phase::Command;
    if let Some(compression) = session.pending_compression.take() {
        session.compression = Some(compression);
        (session.repack, session.repack_client) = (true, true);
        exchanges.response(|exchange| exchange.set(COMPRESSION, compression.name()));
    }
    if !session.auth_plugin.is_empty() {
        exchanges.response(|exchange| exchange.set(AUTH_PLUGIN, session.auth_plugin.as_slice()));
    }
}

/// dev.mysql.com, "ERR_Packet".
fn error(payload: &[u8], session: &mut Session, exchanges: &Exchanges<Asked>) -> First {
    let mut payload = Payload(payload.get(1..).unwrap_or_default());
    let Some(number) = payload.u16() else { return First::Wrong };
    if number == PROGRESS {
        return First::More;
    }
    session.refuse();
    if session.phase == Phase::Infile {
        session.phase = Phase::Command;
    }
    let state = payload.0.strip_prefix(b"#").and_then(|rest| rest.split_at_checked(5));
    let (state, message) = state.map_or((None, payload.0), |(state, message)| (Some(state), message));
    let mut redacted = Vec::new();
    redact_message(message.get(..MAX_MESSAGE).unwrap_or(message), &mut redacted);
    let number = number.to_string();
    exchanges.response(|exchange| {
        exchange.set(STATUS_CODE, number.as_str());
        exchange.set(ERROR_TYPE, number.as_str());
        if let Some(state) = state {
            exchange.set(SQLSTATE, state);
        }
        if !redacted.is_empty() {
            exchange.set(ERROR_MESSAGE, redacted.as_slice());
        }
        if exchange.state.kind == Kind::Unknown {
            exchange.set(COMMAND, "unknown");
        }
    });
    First::Error
}

/// dev.mysql.com, "COM_STMT_PREPARE_OK".
fn prepare_ok(payload: &[u8], session: &Session) -> Option<First> {
    let mut payload = Payload(payload);
    payload.u8()?;
    let (id, columns, parameters) = (payload.u32()?, payload.u16()?, payload.u16()?);
    payload.take(3);
    let metadata = payload.u8().is_none_or(|follows| follows != 0 || !session.has(capability::OPTIONAL_METADATA, true));
    Some(First::Prepared { id, parameters, columns, metadata })
}

/// The definitions of parameters and columns; true for an error in their place.
async fn prepared(
    server: &mut Stream,
    session: &Shared,
    exchanges: &Exchanges<Asked>,
    mut sequence: Option<u8>,
    counts: [u16; 2],
) -> Result<bool, Break> {
    for (turn, count) in counts.into_iter().enumerate().filter(|&(_, count)| count > 0) {
        let mut rows = Rows::new(sequence, count.into());
        rows.only_definitions = true;
        if let Ended::Last(payload) = rows.read(server).await? {
            let session = &mut *session.borrow_mut();
            error(&payload, session, exchanges);
            return Ok(true);
        }
        let mut deprecated = session.borrow().deprecate_eof;
        let more_follow = turn == 0 && counts.get(1).is_some_and(|&columns| columns > 0);
        if deprecated.is_none() && more_follow {
            let found = server.peek(HEADER + 1, |bytes| bytes.get(HEADER) != Some(&EOF)).await?;
            deprecated = Some(found);
            session.borrow_mut().deprecate_eof = deprecated;
        }
        if deprecated == Some(false) {
            let expected = rows.sequence;
            let is_eof = |header: Header, payload: &[u8]| {
                payload.first() == Some(&EOF) && expected.is_none_or(|expected| expected == header.sequence)
            };
            if !packet(server, KEEP, is_eof).await?.0 {
                return Err(Break::Malformed);
            }
            rows.sequence = expected.map(|sequence| sequence.wrapping_add(1));
        }
        sequence = rows.sequence;
    }
    Ok(false)
}

/// Definitions and rows of a result: whether another follows, whether it ended in an error.
async fn result(
    server: &mut Stream,
    session: &Shared,
    exchanges: &Exchanges<Asked>,
    rows: &mut Rows,
    totals: &mut Totals,
) -> Result<(bool, bool), Break> {
    let mut ended = rows.read(server).await?;
    if let Ended::Middle(payload) = &ended {
        rows.behind_definitions = false;
        let cursor = Done::parse(payload).is_some_and(|done| done.status & status::CURSOR_EXISTS != 0);
        session.borrow_mut().deprecate_eof = Some(false);
        // "COM_STMT_EXECUTE Response": with a cursor, rows are fetched.
        if cursor {
            totals.cursor = true;
            return Ok((false, false));
        }
        ended = rows.read(server).await?;
    }
    totals.rows = Some(totals.rows.unwrap_or(0).saturating_add(rows.rows));
    let Ended::Last(payload) = ended else { return Err(Break::Malformed) };
    let session = &mut *session.borrow_mut();
    if payload.first() == Some(&ERR) {
        error(&payload, session, exchanges);
        return Ok((false, true));
    }
    if let First::Wrong = done(&payload, session, totals) {
        return Err(Break::Malformed);
    }
    if let Some(done) = Done::parse(&payload) {
        totals.cursor = done.status & status::CURSOR_EXISTS != 0;
    }
    Ok((session.more_results, false))
}

fn finish(server: &Stream, session: &Shared, exchanges: &Exchanges<Asked>, totals: &Totals, outcome: Outcome) {
    let session = &mut *session.borrow_mut();
    exchanges.response(|exchange| {
        if let Some(rows) = totals.rows.filter(|_| !(totals.cursor && totals.rows == Some(0))) {
            exchange.set(RETURNED_ROWS, rows);
        }
        if let Some(rows) = totals.affected_rows {
            exchange.set(AFFECTED_ROWS, rows);
        }
        if totals.insert_id != 0 {
            exchange.set(INSERT_ID, totals.insert_id);
        }
        if totals.warnings != 0 {
            exchange.set(WARNINGS, totals.warnings);
        }
        if totals.results > 1 {
            exchange.set(RESULTS, totals.results);
        }
        if totals.cursor {
            exchange.set(CURSOR, true);
        }
        if session.infile_bytes > 0 {
            exchange.set(INFILE_BYTES, session.infile_bytes);
        }
    });
    exchanges.finish(server, outcome);
    (session.waiting, session.answering, session.infile_bytes) = (None, false, 0);
    session.sequence = None;
}

/// Do `bytes` begin with a response whose first packet has this sequence id? It errs towards no.
pub(crate) fn plausible(bytes: &[u8], sequence: u8) -> Verdict {
    let Some(header) = Header::parse(bytes) else { return Verdict::NeedMore };
    let Some(&byte) = bytes.get(HEADER) else { return Verdict::NeedMore };
    if header.sequence != sequence || header.length == 0 {
        return Verdict::No;
    }
    let payload = bytes.get(HEADER..).unwrap_or_default();
    let behind = payload.get(header.length..).unwrap_or_default();
    let fits = match byte {
        0 => (7..=4096).contains(&header.length),
        ERR => match payload.get(1..3) {
            Some(number) => (1000..10_000).contains(&u16::from_le_bytes([number[0], number[1]])),
            None => return Verdict::NeedMore,
        },
        EOF => header.length == EOF_LENGTH,
        // A count of columns and the first definition behind it: catalog "def".
        _ => {
            let next = behind.get(3).is_some_and(|&next| next == sequence.wrapping_add(1));
            // Without definitions: rows of the binary protocol, or their end.
            let without =
                header.length == 2 && payload.get(1) == Some(&0) && matches!(behind.get(HEADER), Some(0 | &EOF));
            let definition = behind.get(HEADER..HEADER + 4) == Some(b"\x03def");
            let alone = behind.is_empty() && payload.len() == header.length;
            header.length <= 4 && (alone || next && (without || definition))
        }
    };
    if fits { Verdict::Yes } else { Verdict::No }
}
