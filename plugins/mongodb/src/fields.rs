//! What a MongoDB exchange carries, named by the OpenTelemetry semantic conventions for databases.

podtap_sdk::fields! {
    /// Always `mongodb`.
    pub SYSTEM: Text = "db.system.name";
    /// Database.
    pub NAMESPACE: Text = "db.namespace";
    /// Collection that the command acts on.
    pub COLLECTION: Text = "db.collection.name";
    /// Command, as sent: `find`, `insert`, `aggregate`.
    pub OPERATION: Text = "db.operation.name";
    /// Shape of the command: keys and operators as sent, every value replaced by its type, equal neighbours in arrays once.
    pub QUERY_TEXT: Text = "db.query.text";
    /// Command and collection.
    pub QUERY_SUMMARY: Text = "db.query.summary";
    /// Digest of `db.query.text`: equal for equal shapes, on every machine.
    pub QUERY_DIGEST: Text = "mongodb.query_digest";
    /// Documents, updates, deletes or operations in the request, where there are at least two.
    pub OPERATION_BATCH_SIZE: Uint = "db.operation.batch.size";
    /// Error code: of the command, else of its first write error, else of its write concern error.
    pub RESPONSE_STATUS: Text = "db.response.status_code";
    /// Documents in the response.
    pub RETURNED_ROWS: Uint = "db.response.returned_rows";
    /// Error code, where the outcome is an error.
    pub ERROR_TYPE: Text = "error.type";
    /// Name of the error code, as the server sent it.
    pub CODE_NAME: Text = "mongodb.code_name";
    /// The server's error message, with what may be a value replaced by `?`.
    pub ERROR_MESSAGE: Text = "mongodb.error_message";
    /// Labels of the error, separated by commas: `TransientTransactionError`.
    pub ERROR_LABELS: Text = "mongodb.error_labels";
    /// Write errors in the response.
    pub WRITE_ERRORS: Uint = "mongodb.write_errors";
    /// Their distinct codes, separated by commas.
    pub WRITE_ERROR_CODES: Text = "mongodb.write_error_codes";
    /// Code of the write concern error.
    pub WRITE_CONCERN_ERROR: Int = "mongodb.write_concern_error";
    /// Documents that the server says it matched, inserted or deleted: its `n`.
    pub N: Int = "mongodb.n";
    /// Documents that an update changed.
    pub N_MODIFIED: Int = "mongodb.n_modified";
    /// Documents that an update inserted because none matched.
    pub UPSERTED: Uint = "mongodb.upserted";
    /// Documents that a delete removed.
    pub DELETED: Int = "mongodb.deleted";
    /// Cursor that the request continues or the response opens; 0: the response was the last of it.
    pub CURSOR_ID: Int = "mongodb.cursor_id";
    /// Documents that the client wants in a batch.
    pub BATCH_SIZE: Int = "mongodb.batch_size";
    /// Stages of an aggregation, separated by commas.
    pub PIPELINE: Text = "mongodb.pipeline";
    /// The command's `comment`, where it is text.
    pub COMMENT: Text = "mongodb.comment";
    /// Number of the transaction or retryable write in its session.
    pub TRANSACTION_NUMBER: Int = "mongodb.transaction_number";
    /// Mode of the read preference.
    pub READ_PREFERENCE: Text = "mongodb.read_preference";
    /// Application, as the connection's handshake names it.
    pub APPLICATION_NAME: Text = "mongodb.application_name";
    /// Driver and its version, from the connection's handshake.
    pub DRIVER: Text = "mongodb.driver";
    /// Name of the request's opcode, where it is a legacy one.
    pub OPCODE: Text = "mongodb.opcode";
    /// Compressor of the request: `snappy`, `zlib`, `zstd` or `noop`.
    pub COMPRESSOR: Text = "mongodb.compressor";
    /// False where the client wanted no response.
    pub ACKNOWLEDGED: Flag = "mongodb.acknowledged";
    /// Replies to the request, where there were several.
    pub REPLIES: Uint = "mongodb.replies";
    /// False where a message's checksum is not that of its bytes.
    pub CHECKSUM_VALID: Flag = "mongodb.checksum_valid";
    /// True of handshakes, authentication steps and pings, which are reported on request only.
    pub MONITORING: Flag = "mongodb.monitoring";
    /// What was wrong with a message that could not be read on: `length`, `depth`, `type`, `section`, `compression`.
    pub MALFORMED: Text = "mongodb.malformed";
    /// Trace that the request belongs to, from a `traceparent` in the comment.
    pub TRACE_ID: Text = "trace_id";
    /// Span that sent the request, from a `traceparent` in the comment.
    pub SPAN_ID: Text = "span_id";
}
