//! The fields of a MySQL exchange, named by the OpenTelemetry conventions where they have a name.

podtap_sdk::fields! {
    /// `mariadb` where the server's greeting says so, else `mysql`; absent where the greeting was not seen.
    pub SYSTEM: Text = "db.system.name";
    /// Current database when the command was sent; of a login or a change of database the one asked for.
    pub NAMESPACE: Text = "db.namespace";
    /// The statement with `?` for every literal, without comments; as sent only where the configuration says so.
    pub QUERY_TEXT: Text = "db.query.text";
    /// Verb and first table of the statement.
    pub QUERY_SUMMARY: Text = "db.query.summary";
    /// The procedure that a `CALL` names.
    pub PROCEDURE: Text = "db.stored_procedure.name";
    /// Error number of the server, as text; absent on success.
    pub STATUS_CODE: Text = "db.response.status_code";
    /// Rows of all results.
    pub RETURNED_ROWS: Uint = "db.response.returned_rows";
    /// Error number of the server; absent on success.
    pub ERROR_TYPE: Text = "error.type";
    /// The protocol's name of the command: `COM_QUERY`, `COM_STMT_EXECUTE`; absent for a login.
    pub COMMAND: Text = "mysql.command";
    /// 16 hex digits that are the same for statements that differ in their literals only.
    pub QUERY_DIGEST: Text = "mysql.query.digest";
    /// The text is not the whole statement: more than is kept, or than can be read for sure.
    pub QUERY_TRUNCATED: Flag = "mysql.query.truncated";
    /// Rows that the statement changed, of all its results.
    pub AFFECTED_ROWS: Uint = "mysql.affected_rows";
    /// First generated id of the last insert.
    pub INSERT_ID: Uint = "mysql.insert_id";
    /// Warnings that the server counted in the last result; absent for none.
    pub WARNINGS: Uint = "mysql.warnings";
    /// Results, where a command has several.
    pub RESULTS: Uint = "mysql.results";
    /// SQLSTATE of the error.
    pub SQLSTATE: Text = "mysql.sqlstate";
    /// The server's words on the error, what is quoted in them and numbers replaced by `?`.
    pub ERROR_MESSAGE: Text = "mysql.error.message";
    /// Number of the prepared statement.
    pub STATEMENT_ID: Uint = "mysql.statement_id";
    /// The rows stay in a cursor at the server and are fetched later.
    pub CURSOR: Flag = "mysql.cursor";
    /// The client was asked for a file (LOAD DATA LOCAL) and sent so many bytes of it.
    pub INFILE_BYTES: Uint = "mysql.local_infile_bytes";
    /// Who is logged in.
    pub USER: Text = "mysql.user";
    /// The server's number of the connection.
    pub CONNECTION_ID: Uint = "mysql.connection_id";
    /// The server's version, of a login.
    pub SERVER_VERSION: Text = "mysql.server_version";
    /// Authentication plugin that decided a login.
    pub AUTH_PLUGIN: Text = "mysql.auth_plugin";
    /// The connection goes on encrypted: nothing more of it is decoded.
    pub TLS: Flag = "mysql.tls";
    /// The connection goes on compressed: `zlib` or `zstd`.
    pub COMPRESSION: Text = "mysql.compression";
    /// Trace that the statement belongs to, from a `traceparent` in one of its comments.
    pub TRACE_ID: Text = "trace_id";
    /// Span that sent the statement, from a `traceparent` in one of its comments.
    pub SPAN_ID: Text = "span_id";
}
