//! MySQL's client/server protocol as podtap sees it: MySQL and MariaDB, a connection that somebody else speaks.
//!
//! The client begins each command, the server answers each before the next (dev.mysql.com, "Command Phase"). Both sides
//! are read on their own; what one must know of the other is in the `Session` that they share.
//!
//! Never kept: values, rows, secrets of a login. Statements are published without their literals, unless the
//! configuration says otherwise. The X protocol (port 33060) is another one, and is left alone.

#![forbid(unsafe_code)]

mod command;
mod compress;
mod config;
mod fields;
mod handshake;
mod reply;
mod rows;
mod session;
mod sql;
mod wire;

use std::cell::RefCell;
use std::rc::Rc;

use podtap_sdk::{Break, Connection, Decoder, Descriptor, Stream, Tasks, Verdict};

use config::Config;
use fields::{ATTRIBUTES, STATUS_CODE};
use session::Session;
use wire::{HEADER, Header};

/// The decoder.
#[derive(Debug)]
pub struct MySql {
    config: Config,
}

impl Decoder for MySql {
    const DESCRIPTOR: Descriptor = Descriptor {
        name: "mysql",
        version: env!("CARGO_PKG_VERSION"),
        doc: "MySQL and MariaDB",
        protocols: &["mysql"],
        ports: &[3306, 3307, 4000, 6033, 4006],
        attributes: ATTRIBUTES,
        status: Some(STATUS_CODE.index()),
    };

    fn configure(config: &str) -> Result<MySql, String> {
        Config::parse(config).map(|config| MySql { config })
    }

    fn probe(&self, from_server: bool, head: &[u8]) -> Verdict {
        if from_server { probe_server(head) } else { probe_client(head) }
    }

    fn connect(&self, connection: &mut Connection) -> Tasks {
        let exchanges = connection.exchanges();
        let midstream = connection.is_midstream();
        let session = Rc::new(RefCell::new(Session::new(self.config, midstream)));
        let (mut client, mut server) = (connection.client(), connection.server());
        let (of_client, of_server) = ((Rc::clone(&session), exchanges.clone()), (session, exchanges));
        let commands = async move {
            let (session, exchanges) = of_client;
            if midstream {
                command::begin_midstream(&mut client, &session).await;
            }
            if command::commands(&mut client, &session, &exchanges).await.is_err() {
                return Err(Break::End);
            }
            let read = async |mut inner: Stream| command::commands(&mut inner, &session, &exchanges).await;
            client.unpack(compress::frames, read).await;
            Err(Break::End)
        };
        let responses = async move {
            let (session, exchanges) = of_server;
            if midstream {
                reply::begin_midstream(&mut server, &session, &exchanges).await;
            }
            if reply::responses(&mut server, &session, &exchanges).await.is_err() {
                return Err(Break::End);
            }
            let read = async |mut inner: Stream| reply::responses(&mut inner, &session, &exchanges).await;
            server.unpack(compress::frames, read).await;
            Err(Break::End)
        };
        Tasks::new(commands, responses)
    }
}

podtap_sdk::export!(MySql);

/// A greeting, or what is sent instead of one, or a response in mid-connection. It errs towards no.
fn probe_server(head: &[u8]) -> Verdict {
    let Some(header) = Header::parse(head) else { return Verdict::NeedMore };
    let Some(&first) = head.get(HEADER) else { return Verdict::NeedMore };
    match (header.sequence, first) {
        (0, 9 | 10) => {
            let version = head.get(HEADER + 1..).unwrap_or_default();
            match version.iter().position(|&byte| byte == 0) {
                Some(end) if handshake::is_version(&version[..end]) && header.length > end + 5 => Verdict::Yes,
                None if version.is_empty() || handshake::is_version(version) => Verdict::NeedMore,
                _ => Verdict::No,
            }
        }
        // Refused at once: too many connections (1040), a host that is blocked (1129) or not allowed (1130).
        (0, rows::ERR) => reply::plausible(head, 0),
        (1, _) => reply::plausible(head, 1),
        _ => Verdict::No,
    }
}

/// A handshake response, or a command in mid-connection. It errs towards no.
fn probe_client(head: &[u8]) -> Verdict {
    match Header::parse(head) {
        // "Protocol::HandshakeResponse41": flags for protocol 4.1 and secure passwords, then bytes that are reserved.
        Some(Header { length: 32.., sequence: 1 }) => match head.get(HEADER..HEADER + 28) {
            Some(fixed) => {
                let reserved = &fixed[9..];
                let fits = fixed[1] & 0x02 != 0 && reserved.iter().all(|&byte| byte == 0);
                if fits { Verdict::Yes } else { Verdict::No }
            }
            None => Verdict::NeedMore,
        },
        _ => command::plausible(head, false),
    }
}
