//! Puts what was read of a request and its response into the fields of their exchange.

use podtap_sdk::{Exchange, Field, Flag, Text, digest};

use crate::fields::{
    ACKNOWLEDGED, APPLICATION_NAME, BATCH_SIZE, CHECKSUM_VALID, CODE_NAME, COLLECTION, COMMENT, COMPRESSOR, CURSOR_ID,
    DELETED, DRIVER, ERROR_LABELS, ERROR_MESSAGE, ERROR_TYPE, MALFORMED, MONITORING, N, N_MODIFIED, NAMESPACE, OPCODE,
    OPERATION, OPERATION_BATCH_SIZE, PIPELINE, QUERY_DIGEST, QUERY_SUMMARY, QUERY_TEXT, READ_PREFERENCE, REPLIES,
    RESPONSE_STATUS, RETURNED_ROWS, SPAN_ID, SYSTEM, TRACE_ID, TRANSACTION_NUMBER, UPSERTED, WRITE_CONCERN_ERROR,
    WRITE_ERROR_CODES, WRITE_ERRORS,
};
use crate::request::Request;
use crate::response::Response;
use crate::wire::Opcode;
use crate::{Message, Shared, redact};

/// What an exchange remembers of its request until its response has come.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// A legacy query or OP_GET_MORE.
    pub(crate) returns_documents: bool,
    /// An OP_QUERY that wants all batches without asking again.
    pub(crate) exhaust: bool,
    delete: bool,
    /// The request was captured.
    known: bool,
    has_cursor: bool,
    replies: u64,
    returned: Option<u64>,
}

/// Flag of OP_QUERY.
const EXHAUST: u32 = 1 << 6;

pub(crate) fn request(exchange: &mut Exchange<Asked>, message: Message<Request>, shared: &Shared, acknowledged: bool) {
    let mut request = message.reader.listener;
    let opcode = message.header.opcode;
    exchange.state = Asked {
        returns_documents: request.returns_documents,
        exhaust: opcode == Opcode::Query && request.flags & EXHAUST != 0,
        delete: request.operation == b"delete",
        known: true,
        has_cursor: request.cursor_id.is_some(),
        ..Asked::default()
    };
    let monitoring = request.is_monitoring();
    if monitoring && !shared.config.report_monitoring {
        return exchange.leave_out();
    }
    let target = join(&request.database, b".", &request.collection);
    exchange.describe(&request.operation, &target, b"");
    exchange.set(SYSTEM, "mongodb");
    text(exchange, NAMESPACE, &request.database);
    text(exchange, COLLECTION, &request.collection);
    text(exchange, OPERATION, &request.operation);
    let query = request.shape.finish();
    if query != b"{}" {
        exchange.set(QUERY_TEXT, query);
        exchange.set(QUERY_DIGEST, digest(query).as_slice());
    }
    text(exchange, QUERY_SUMMARY, &join(&request.operation, b" ", &request.collection));
    if request.batch > 1 {
        exchange.set(OPERATION_BATCH_SIZE, request.batch);
    }
    if let Some(cursor_id) = request.cursor_id {
        exchange.set(CURSOR_ID, cursor_id);
    }
    if let Some(size) = request.batch_size {
        exchange.set(BATCH_SIZE, size);
    }
    text(exchange, PIPELINE, &request.pipeline);
    text(exchange, COMMENT, &request.comment);
    // A comment may be a trace context, or have one.
    let parent = if request.traceparent.is_empty() { &request.comment } else { &request.traceparent };
    if let Some((trace, span)) = traceparent(parent) {
        exchange.set(TRACE_ID, trace);
        exchange.set(SPAN_ID, span);
    }
    if let Some(number) = request.transaction_number {
        exchange.set(TRANSACTION_NUMBER, number);
    }
    text(exchange, READ_PREFERENCE, &request.read_preference);
    let client = shared.client.borrow();
    text(exchange, APPLICATION_NAME, &client.application);
    text(exchange, DRIVER, &join(&client.driver, b" ", &client.driver_version));
    if let Some(opcode) = opcode.legacy() {
        exchange.set(OPCODE, opcode);
    }
    if let Some(compressor) = message.compressor {
        exchange.set(COMPRESSOR, compressor.name());
    }
    flag(exchange, ACKNOWLEDGED, (!acknowledged).then_some(false));
    flag(exchange, MONITORING, monitoring.then_some(true));
    flag(exchange, CHECKSUM_VALID, message.reader.checksum_valid.filter(|valid| !valid));
    if let Some(fault) = message.reader.fault {
        exchange.set(MALFORMED, fault.name());
    }
}

pub(crate) fn response(exchange: &mut Exchange<Asked>, message: Message<Response>, shared: &Shared) {
    let response = message.reader.listener;
    if !exchange.state.known {
        // Monitoring goes on for as long as a connection does: most of what is seen from its middle.
        if response.is_hello && !shared.config.report_monitoring {
            exchange.leave_out();
        }
        let dot = response.namespace.iter().position(|&byte| byte == b'.');
        let (database, collection) = response.namespace.split_at(dot.unwrap_or(response.namespace.len()));
        exchange.describe(b"", &response.namespace, b"");
        exchange.set(SYSTEM, "mongodb");
        text(exchange, NAMESPACE, database);
        text(exchange, COLLECTION, collection.get(1..).unwrap_or_default());
    }
    exchange.state.replies += 1;
    if let Some(returned) = response.returned {
        exchange.state.returned = Some(exchange.state.returned.unwrap_or(0).saturating_add(returned));
    }
    flag(exchange, CHECKSUM_VALID, message.reader.checksum_valid.filter(|valid| !valid));
    if let Some(fault) = message.reader.fault {
        exchange.set(MALFORMED, fault.name());
    }
    let more = message.header.opcode == Opcode::Msg && response.flags & crate::flags::MORE_TO_COME != 0;
    if more || (exchange.state.exhaust && response.cursor_id.is_some_and(|id| id != 0)) {
        // The last one says the rest.
        return;
    }
    if let Some(returned) = exchange.state.returned {
        exchange.set(RETURNED_ROWS, returned);
    }
    if exchange.state.replies > 1 {
        exchange.set(REPLIES, exchange.state.replies);
    }
    // A request's own cursor stays.
    if let Some(cursor_id) = response.cursor_id.filter(|_| !exchange.state.has_cursor) {
        exchange.set(CURSOR_ID, cursor_id);
    }
    if let Some(n) = response.n {
        exchange.set(N, n);
        if exchange.state.delete {
            exchange.set(DELETED, n);
        }
    }
    if let Some(modified) = response.n_modified {
        exchange.set(N_MODIFIED, modified);
    }
    if let Some(upserted) = response.upserted {
        exchange.set(UPSERTED, upserted);
    }
    if response.is_error() {
        error(exchange, &response);
    }
}

fn error(exchange: &mut Exchange<Asked>, response: &Response) {
    if let Some(code) = response.status() {
        let code = code.to_string();
        exchange.set(RESPONSE_STATUS, code.as_str());
        exchange.set(ERROR_TYPE, code.as_str());
    }
    text(exchange, CODE_NAME, &response.code_name);
    text(exchange, ERROR_MESSAGE, &redact::message(&response.message));
    text(exchange, ERROR_LABELS, &response.labels);
    if response.write_errors > 0 {
        exchange.set(WRITE_ERRORS, response.write_errors);
        text(exchange, WRITE_ERROR_CODES, response.write_error_codes().as_bytes());
    }
    if let Some(code) = response.write_concern_error {
        exchange.set(WRITE_CONCERN_ERROR, code);
    }
}

/// Sets a field to a text that is not empty.
fn text(exchange: &mut Exchange<Asked>, field: Field<Text>, value: &[u8]) {
    if !value.is_empty() {
        exchange.set(field, value);
    }
}

fn flag(exchange: &mut Exchange<Asked>, field: Field<Flag>, value: Option<bool>) {
    if let Some(value) = value {
        exchange.set(field, value);
    }
}

/// Both, or the one that is not empty.
fn join(first: &[u8], between: &[u8], second: &[u8]) -> Vec<u8> {
    let between = if first.is_empty() || second.is_empty() { b"" } else { between };
    [first, between, second].concat()
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
