//! The connection phase: greeting, handshake response, change of user.
//!
//! dev.mysql.com, "Connection Phase"; mariadb.com/kb/en/connection. What proves who somebody is, is never looked at.

use crate::session::{Compression, Session, capability as cap, name};
use crate::wire::Payload;

/// Versions of the handshake.
const V10: u8 = 10;
const V9: u8 = 9;

/// Bytes of a handshake response up to the user: without a user it is a request for TLS.
const SSL_REQUEST: usize = 32;

/// The server's first packet; none where it is none.
pub(crate) fn greeting(payload: &[u8], session: &mut Session) -> Option<()> {
    let mut payload = Payload(payload);
    let protocol = payload.u8()?;
    let version = payload.nul_text()?;
    let connection_id = payload.u32()?;
    if !is_version(version) || !matches!(protocol, V9 | V10) {
        return None;
    }
    let mut capabilities = 0;
    session.mariadb = contains(version, b"MariaDB");
    if protocol == V10 {
        // "Protocol::HandshakeV10": what proves the client's password has 8 bytes here and more behind.
        payload.take(9)?;
        capabilities = u64::from(payload.u16()?);
        if let (Some(_collation), Some(status), Some(upper), Some(plugin_data)) =
            (payload.u8(), payload.u16(), payload.u16(), payload.u8())
        {
            session.status(status);
            capabilities |= u64::from(upper) << 16;
            payload.take(6)?;
            let extended = payload.u32()?;
            // mariadb.com/kb/en/connection, "Initial Handshake Packet": only without the flag CLIENT_MYSQL.
            if capabilities & cap::MYSQL == 0 {
                capabilities |= u64::from(extended) << 32;
                session.mariadb = true;
            }
            if capabilities & (cap::SECURE_CONNECTION | cap::PLUGIN_AUTH) != 0 {
                payload.take(usize::from(plugin_data).saturating_sub(8).max(13));
            }
            if capabilities & cap::PLUGIN_AUTH != 0
                && let Some(plugin) = payload.nul_text()
            {
                session.auth_plugin = name(plugin).to_vec();
            }
        }
    }
    session.server_version = name(version).to_vec();
    session.connection_id = Some(connection_id);
    session.server_capabilities = Some(capabilities);
    Some(())
}

pub(crate) fn is_version(version: &[u8]) -> bool {
    (1..=128).contains(&version.len()) && version.iter().all(|byte| (b' '..=b'~').contains(byte))
}

fn contains(text: &[u8], piece: &[u8]) -> bool {
    text.windows(piece.len()).any(|window| window == piece)
}

/// What the client's first packet asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    Login,
    Tls,
}

/// The client's first packet ("Protocol::HandshakeResponse"); none where it makes no sense. The session knows
/// afterwards who asks for what.
pub(crate) fn response(bytes: &[u8], session: &mut Session) -> Option<Response> {
    let mut payload = Payload(bytes);
    let mut client = u64::from(payload.u16()?);
    if client & cap::PROTOCOL_41 == 0 {
        return response_320(payload, client, session);
    }
    client |= u64::from(payload.u16()?) << 16;
    payload.u32()?;
    session.collation(payload.u8()?.into());
    payload.take(19)?;
    let extended = payload.u32()?;
    let server = session.server_capabilities;
    if server.is_none_or(|server| server & cap::MYSQL == 0) {
        client |= u64::from(extended) << 32;
    }
    let capabilities = server.map_or(client, |server| server & client);
    session.capabilities = Some(capabilities);
    session.deprecate_eof = Some(capabilities & cap::DEPRECATE_EOF != 0);
    if client & cap::SSL != 0 && bytes.len() == SSL_REQUEST {
        return Some(Response::Tls);
    }
    let user = payload.nul_text().unwrap_or_default();
    session.pending_user = Some(name(user).to_vec());
    secret(&mut payload, client)?;
    if client & cap::CONNECT_WITH_DB != 0
        && let Some(database) = payload.nul_text()
    {
        session.pending_namespace = Some(name(database).to_vec());
    }
    if client & cap::PLUGIN_AUTH != 0
        && let Some(plugin) = payload.nul_text()
    {
        session.auth_plugin = name(plugin).to_vec();
    }
    // Where both are offered zlib is taken (MySQL manual, "Connection Compression Control").
    session.pending_compression = match capabilities {
        both if both & cap::COMPRESS != 0 => Some(Compression::Zlib),
        zstd if zstd & cap::ZSTD != 0 => Some(Compression::Zstd),
        _ => None,
    };
    Some(Response::Login)
}

/// "Protocol::HandshakeResponse320", of clients before 4.1.
fn response_320(mut payload: Payload<'_>, client: u64, session: &mut Session) -> Option<Response> {
    payload.take(3)?;
    session.capabilities = Some(client);
    session.deprecate_eof = Some(false);
    if client & cap::SSL != 0 && payload.0.is_empty() {
        return Some(Response::Tls);
    }
    session.pending_user = Some(name(payload.nul_text()?).to_vec());
    if client & cap::CONNECT_WITH_DB != 0 {
        payload.nul_text();
        session.pending_namespace = payload.nul_text().map(|database| name(database).to_vec());
    }
    session.pending_compression = (client & cap::COMPRESS != 0).then_some(Compression::Zlib);
    Some(Response::Login)
}

/// Passes over what proves the client's identity.
fn secret(payload: &mut Payload<'_>, client: u64) -> Option<()> {
    if client & cap::PLUGIN_AUTH_LENENC != 0 {
        payload.lenenc_text()?;
    } else if client & cap::SECURE_CONNECTION != 0 {
        let length = payload.u8()?;
        payload.take(length.into())?;
    } else {
        payload.nul_text();
    }
    Some(())
}

/// COM_CHANGE_USER behind its first byte (dev.mysql.com, "COM_CHANGE_USER").
pub(crate) fn change_user(payload: &[u8], session: &mut Session) -> Option<()> {
    let mut payload = Payload(payload);
    session.pending_user = Some(name(payload.nul_text()?).to_vec());
    let length = payload.u8()?;
    payload.take(length.into())?;
    let database = payload.nul_text().unwrap_or_default();
    session.pending_namespace = Some(name(database).to_vec());
    if let Some(collation) = payload.u16() {
        session.collation(collation);
    }
    if session.has(cap::PLUGIN_AUTH, true)
        && let Some(plugin) = payload.nul_text()
    {
        session.auth_plugin = name(plugin).to_vec();
    }
    Some(())
}
