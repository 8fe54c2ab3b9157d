//! Packets as the manuals write them, for conversations.
#![allow(dead_code)]

/// Capability flags of a usual client and server: protocol 4.1, secure passwords, plugins, transactions.
pub(crate) const USUAL: u64 = 0x0008_a20d;
pub(crate) const DEPRECATE_EOF: u64 = 1 << 24;
pub(crate) const QUERY_ATTRIBUTES: u64 = 1 << 27;
pub(crate) const OPTIONAL_METADATA: u64 = 1 << 25;
pub(crate) const COMPRESS: u64 = 1 << 5;
pub(crate) const ZSTD: u64 = 1 << 26;
pub(crate) const SESSION_TRACK: u64 = 1 << 23;
pub(crate) const SSL: u64 = 1 << 11;

/// A packet.
pub(crate) fn packet(sequence: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let [a, b, c, _] = (payload.len() as u32).to_le_bytes();
    [&[a, b, c, sequence], payload].concat()
}

/// Packets with ids that go up from `first`.
pub(crate) fn packets<P: AsRef<[u8]>>(first: u8, payloads: impl IntoIterator<Item = P>) -> Vec<u8> {
    let numbered = payloads.into_iter().enumerate();
    numbered.flat_map(|(index, payload)| packet(first.wrapping_add(index as u8), payload)).collect()
}

pub(crate) fn command(byte: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    packet(0, [&[byte], body.as_ref()].concat())
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    command(3, sql)
}

/// Protocol::HandshakeV10 of a MySQL server.
pub(crate) fn greeting(version: &str, capabilities: u64) -> Vec<u8> {
    let mut payload = vec![10];
    payload.extend_from_slice(version.as_bytes());
    payload.extend_from_slice(&[0, 7, 0, 0, 0]);
    payload.extend_from_slice(b"12345678\0");
    payload.extend_from_slice(&(capabilities as u16).to_le_bytes());
    payload.push(45);
    payload.extend_from_slice(&2_u16.to_le_bytes());
    payload.extend_from_slice(&((capabilities >> 16) as u16).to_le_bytes());
    payload.push(21);
    payload.extend_from_slice(&[0; 6]);
    payload.extend_from_slice(&((capabilities >> 32) as u32).to_le_bytes());
    payload.extend_from_slice(b"123456789012\0caching_sha2_password\0");
    packet(0, payload)
}

/// Protocol::HandshakeResponse41 of a user `app` for database `shop`.
pub(crate) fn login(capabilities: u64) -> Vec<u8> {
    let mut payload = ((capabilities | 8) as u32).to_le_bytes().to_vec();
    payload.extend_from_slice(&[0, 0, 0, 1, 45]);
    payload.extend_from_slice(&[0; 19]);
    payload.extend_from_slice(&((capabilities >> 32) as u32).to_le_bytes());
    payload.extend_from_slice(b"app\0\x20");
    payload.extend_from_slice(&[0x55; 32]);
    payload.extend_from_slice(b"shop\0caching_sha2_password\0");
    packet(1, payload)
}

pub(crate) fn ok_payload(affected: u8, insert_id: u8, status: u16, warnings: u16) -> Vec<u8> {
    let mut payload = vec![0, affected, insert_id];
    payload.extend_from_slice(&status.to_le_bytes());
    payload.extend_from_slice(&warnings.to_le_bytes());
    payload
}

pub(crate) fn ok(sequence: u8) -> Vec<u8> {
    packet(sequence, ok_payload(0, 0, 2, 0))
}

pub(crate) fn eof_payload(status: u16) -> Vec<u8> {
    [&[0xfe, 0, 0][..], &status.to_le_bytes()].concat()
}

/// What ends rows: EOF, or OK in its place.
pub(crate) fn end_payload(deprecate_eof: bool, status: u16) -> Vec<u8> {
    let mut payload = ok_payload(0, 0, status, 0);
    payload[0] = 0xfe;
    if deprecate_eof { payload } else { eof_payload(status) }
}

pub(crate) fn error_payload(number: u16, state: &str, message: &str) -> Vec<u8> {
    [&[0xff], &number.to_le_bytes()[..], b"#", state.as_bytes(), message.as_bytes()].concat()
}

/// A column definition (Protocol::ColumnDefinition41).
pub(crate) fn definition(name: &str) -> Vec<u8> {
    let mut payload = b"\x03def\x04shop\x01t\x01t".to_vec();
    for _ in 0..2 {
        payload.push(name.len() as u8);
        payload.extend_from_slice(name.as_bytes());
    }
    payload.extend_from_slice(&[12, 45, 0, 255, 0, 0, 0, 253, 0, 0, 0, 0, 0]);
    payload
}

/// The payloads of a text result of one column.
pub(crate) fn result(deprecate_eof: bool, rows: &[&str], status: u16) -> Vec<Vec<u8>> {
    let mut payloads = vec![vec![1], definition("a")];
    if !deprecate_eof {
        payloads.push(eof_payload(status));
    }
    payloads.extend(rows.iter().map(|row| [&[row.len() as u8], row.as_bytes()].concat()));
    payloads.push(end_payload(deprecate_eof, status));
    payloads
}
