//! What both sides of a connection know: capabilities, database, prepared statements, where the dialogue stands.
//!
//! ```text
//!   Greeting ──> Login ──> Command <──> Infile
//!      │                      ^
//!      └─> Tls (the end)      └─ connections seen from their middle begin here
//! ```

use std::collections::VecDeque;
use std::rc::Rc;

use podtap_sdk::Losses;

use crate::config::Config;
use crate::sql::{Pairs, Quoting, Statement};

/// Capability flags (dev.mysql.com, "Capabilities Flags"; the upper half are MariaDB's own, mariadb.com/kb/en/connection).
pub(crate) mod capability {
    /// In a server's greeting: it is MySQL, or an old MariaDB.
    pub(crate) const MYSQL: u64 = 1;
    pub(crate) const CONNECT_WITH_DB: u64 = 1 << 3;
    pub(crate) const COMPRESS: u64 = 1 << 5;
    pub(crate) const PROTOCOL_41: u64 = 1 << 9;
    pub(crate) const SSL: u64 = 1 << 11;
    pub(crate) const SECURE_CONNECTION: u64 = 1 << 15;
    pub(crate) const PLUGIN_AUTH: u64 = 1 << 19;
    pub(crate) const PLUGIN_AUTH_LENENC: u64 = 1 << 21;
    pub(crate) const SESSION_TRACK: u64 = 1 << 23;
    pub(crate) const DEPRECATE_EOF: u64 = 1 << 24;
    pub(crate) const OPTIONAL_METADATA: u64 = 1 << 25;
    pub(crate) const ZSTD: u64 = 1 << 26;
    pub(crate) const QUERY_ATTRIBUTES: u64 = 1 << 27;
}

/// Status flags (dev.mysql.com, "SERVER_STATUS_flags_enum").
pub(crate) mod status {
    pub(crate) const MORE_RESULTS: u16 = 0x0008;
    pub(crate) const CURSOR_EXISTS: u16 = 0x0040;
    pub(crate) const NO_BACKSLASH_ESCAPES: u16 = 0x0200;
    pub(crate) const STATE_CHANGED: u16 = 0x4000;
}

/// Prepared statements that a connection may have remembered, and the bytes of their texts together.
const MAX_STATEMENTS: usize = 1024;
const MAX_STATEMENT_BYTES: usize = 128 * 1024;

/// Names longer than this are cut: a user's has up to 128 characters, a database's 64 (MySQL manual, "Identifier Length
/// Limits" and CREATE USER of MariaDB).
const MAX_NAME: usize = 512;

/// The id that means "prepared last" (mariadb.com/kb/en/com_stmt_execute).
const LAST_PREPARED: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing came from the client yet.
    Greeting,
    /// The client has said who it is; packets of the plugin's follow, both ways.
    Login,
    Command,
    /// The client sends a file, up to an empty packet.
    Infile,
    /// What follows is encrypted.
    Tls,
}

/// How a login's packets will go on being packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Zlib,
    Zstd,
}

impl Compression {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Compression::Zlib => "zlib",
            Compression::Zstd => "zstd",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) config: Config,
    pub(crate) phase: Phase,
    /// Those of the greeting; none where it was not seen.
    pub(crate) server_capabilities: Option<u64>,
    /// Those in effect; none for a connection seen from its middle.
    pub(crate) capabilities: Option<u64>,
    pub(crate) mariadb: bool,
    pub(crate) server_version: Vec<u8>,
    pub(crate) connection_id: Option<u32>,
    pub(crate) user: Vec<u8>,
    pub(crate) namespace: Vec<u8>,
    /// The database and user that become current when the server agrees.
    pub(crate) pending_namespace: Option<Vec<u8>>,
    pub(crate) pending_user: Option<Vec<u8>>,
    pub(crate) auth_plugin: Vec<u8>,
    pub(crate) quoting: Quoting,
    /// In effect since the login was accepted.
    pub(crate) compression: Option<Compression>,
    pub(crate) pending_compression: Option<Compression>,
    /// The server's side goes on compressed from its next byte; so does the client's.
    pub(crate) repack: bool,
    pub(crate) repack_client: bool,
    /// The last result is followed by another one.
    pub(crate) more_results: bool,
    /// Sequence id that the response's first packet will have, where that is known.
    pub(crate) sequence: Option<u8>,
    /// Bytes of a file that the client sends now.
    pub(crate) infile_bytes: u64,
    /// Where statements without literals are put together.
    pub(crate) scratch: Statement,
    /// What was lost of the server's side, as it is read now.
    pub(crate) server_losses: Losses,
    /// A command waits for its response; so many bytes of the server's were lost before.
    pub(crate) waiting: Option<u64>,
    /// Its response has begun.
    pub(crate) answering: bool,
    /// What is known of end-of-file packets: from capabilities, or from those seen.
    pub(crate) deprecate_eof: Option<bool>,
    /// The statement that the client has sent last to be prepared: the response need not be there yet.
    pub(crate) last_prepared: Option<Rc<Statement>>,
    statements: VecDeque<(u32, Rc<Statement>)>,
    statement_bytes: usize,
    /// Statements may have been prepared that are not remembered: before the capture, or too many.
    statements_forgotten: bool,
}

impl Session {
    pub(crate) fn new(config: Config, midstream: bool) -> Session {
        Session {
            config,
            phase: if midstream { Phase::Command } else { Phase::Greeting },
            server_capabilities: None,
            capabilities: None,
            mariadb: false,
            server_version: Vec::new(),
            connection_id: None,
            user: Vec::new(),
            namespace: Vec::new(),
            pending_namespace: None,
            pending_user: None,
            auth_plugin: Vec::new(),
            quoting: Quoting::default(),
            compression: None,
            pending_compression: None,
            repack: false,
            repack_client: false,
            more_results: false,
            sequence: None,
            infile_bytes: 0,
            scratch: Statement::default(),
            server_losses: Losses::default(),
            waiting: None,
            answering: false,
            deprecate_eof: None,
            last_prepared: None,
            statements: VecDeque::new(),
            statement_bytes: 0,
            statements_forgotten: midstream,
        }
    }

    /// A command was sent, whose response comes next.
    pub(crate) fn wait(&mut self) {
        self.waiting = Some(self.server_losses.bytes());
    }

    /// Whether a capability is in effect; `unknown` where the login was not seen.
    pub(crate) fn has(&self, capability: u64, unknown: bool) -> bool {
        self.capabilities.map_or(unknown, |capabilities| capabilities & capability != 0)
    }

    pub(crate) fn system(&self) -> Option<&'static str> {
        self.server_capabilities.map(|_| if self.mariadb { "mariadb" } else { "mysql" })
    }

    /// The server agreed to what was asked.
    pub(crate) fn accept(&mut self) {
        if let Some(namespace) = self.pending_namespace.take() {
            self.namespace = namespace;
        }
        if let Some(user) = self.pending_user.take() {
            self.user = user;
        }
    }

    /// The server did not.
    pub(crate) fn refuse(&mut self) {
        (self.pending_namespace, self.pending_user) = (None, None);
    }

    pub(crate) fn remember(&mut self, id: u32, statement: Rc<Statement>) {
        self.forget(id);
        self.statement_bytes += statement.size();
        self.statements.push_back((id, statement));
        while self.statements.len() > MAX_STATEMENTS || self.statement_bytes > MAX_STATEMENT_BYTES {
            let Some((_, oldest)) = self.statements.pop_front() else { break };
            self.statement_bytes -= oldest.size();
            self.statements_forgotten = true;
        }
    }

    pub(crate) fn forget(&mut self, id: u32) {
        if let Some(at) = self.statements.iter().rposition(|(known, _)| *known == id)
            && let Some((_, statement)) = self.statements.remove(at)
        {
            self.statement_bytes -= statement.size();
        }
    }

    pub(crate) fn forget_all(&mut self) {
        self.last_prepared = None;
        self.statements.clear();
        self.statement_bytes = 0;
    }

    /// What was not remembered of the statements was lost.
    pub(crate) fn unknown_statement_is_lost(&self) -> bool {
        !self.statements_forgotten
    }

    /// The statement that was prepared under an id.
    pub(crate) fn prepared(&self, id: u32) -> Option<&Rc<Statement>> {
        if id == LAST_PREPARED {
            return self.last_prepared.as_ref();
        }
        self.statements.iter().rev().find(|(known, _)| *known == id).map(|(_, statement)| statement)
    }

    pub(crate) fn status(&mut self, status: u16) {
        self.quoting.backslash = Some(status & status::NO_BACKSLASH_ESCAPES == 0);
    }

    /// It may be another one from now on, which nobody tells.
    pub(crate) fn forget_character_set(&mut self) {
        self.quoting.pairs = Pairs::None;
    }

    /// Connection's character set, by the number of a collation (MySQL manual, "Supported Character Sets").
    pub(crate) fn collation(&mut self, number: u16) {
        self.quoting.pairs = match number {
            1 | 84 => Pairs::Big5,
            13 | 88 | 95 | 96 => Pairs::Sjis,
            28 | 87 | 248..=250 => Pairs::Gbk,
            _ => Pairs::None,
        };
    }
}

/// At most so much of a name as is kept.
pub(crate) fn name(name: &[u8]) -> &[u8] {
    name.get(..MAX_NAME).unwrap_or(name)
}
