//! Captures that are made to cost podtap as much as they can: connections that never open, messages that never end,
//! lengths beyond all bounds, holes before a megabyte. Raw IPv4 in pcap files; times begin at a fixed day.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;

/// A capture: its name, what is in it, and what writes it.
pub(crate) type Case = (&'static str, &'static str, fn(&mut Capture) -> Result<()>);

/// All of them.
pub(crate) const CASES: [Case; 12] = [
    ("half-open", "100,000 connections that are never answered", half_open),
    ("first-words", "70,000 connections at once, each in the middle of its first request", first_words),
    ("endless-heads", "1,000 HTTP requests at once, 70 kB of each without an end of its head", endless_heads),
    ("pipelined", "100 HTTP connections with 256 requests of 4 kB each and no answer", pipelined),
    ("holes", "200 connections, each with a hole before half a megabyte", holes),
    ("fragments", "100,000 first fragments", fragments),
    ("mysql-packets", "MySQL packets of 16 MB, three a message, from both sides", mysql_packets),
    ("mysql-statements", "500 MySQL connections with 32 prepared statements of 4 kB each", mysql_statements),
    ("mongodb-lengths", "2,000 MongoDB messages at once that say to be 48 MB long, and one that is", mongodb_lengths),
    ("mongodb-commands", "20,000 MongoDB commands of different names", mongodb_commands),
    ("servers", "20,000 HTTP servers, each on a port of its own", servers),
    ("together", "most of these at once", together),
];

const SYN: u8 = 2;
const ACK: u8 = 16;

/// More than one packet of this is never needed.
const SEGMENT: usize = 32 << 10;

/// A pcap file that is written.
pub(crate) struct Capture {
    file: BufWriter<File>,
    now_us: u64,
    /// The last byte of servers' addresses.
    server: u8,
    /// Packets so far.
    packets: u64,
}

/// Both ends of a connection, client's first, and the next byte of each.
struct Connection {
    ends: [([u8; 4], u16); 2],
    next: [u32; 2],
}

impl Capture {
    /// A file with nothing in it yet.
    pub(crate) fn create(path: &Path) -> Result<Capture> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        // Raw IP is link type 101.
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 0x0004_0000, 101] {
            file.write_all(&word.to_le_bytes())?;
        }
        Ok(Capture { file, now_us: 1_700_000_000_000_000, server: 1, packets: 0 })
    }

    /// All of it on its way to the disk; how many packets these are.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.file.flush()?;
        Ok(self.packets)
    }

    fn record(&mut self, packet: &[u8]) -> Result<()> {
        let length = packet.len() as u32;
        for word in [(self.now_us / 1_000_000) as u32, (self.now_us % 1_000_000) as u32, length, length] {
            self.file.write_all(&word.to_le_bytes())?;
        }
        self.now_us += 5;
        self.packets += 1;
        self.file.write_all(packet)
    }

    /// A segment of a side (0: client), which its sequence number does not move on.
    fn segment_at(&mut self, of: &Connection, side: usize, sequence: u32, flags: u8, payload: &[u8]) -> Result<()> {
        let ((source, from), (target, to)) = (of.ends[side], of.ends[1 - side]);
        let mut packet = ip(6, 20 + payload.len(), [0, 0], source, target);
        packet.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
        packet.extend(sequence.to_be_bytes());
        packet.extend(if flags & ACK == 0 { 0 } else { of.next[1 - side] }.to_be_bytes());
        packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(payload);
        self.record(&packet)
    }

    /// What a side sends, in as many segments as it takes.
    fn send(&mut self, of: &mut Connection, side: usize, payload: &[u8]) -> Result<()> {
        for part in payload.chunks(SEGMENT) {
            self.segment_at(of, side, of.next[side], ACK, part)?;
            of.next[side] = of.next[side].wrapping_add(part.len() as u32);
        }
        Ok(())
    }

    /// A connection with its handshake, the number of which gives it addresses and a port of its own.
    fn open(&mut self, number: u32, server_port: u16) -> Result<Connection> {
        let mut connection = self.connection(number, server_port);
        self.segment_at(&connection, 0, 999, SYN, b"")?;
        self.segment_at(&connection, 1, 4999, SYN | ACK, b"")?;
        self.segment_at(&connection, 0, 1000, ACK, b"")?;
        connection.next = [1000, 5000];
        Ok(connection)
    }

    /// So many connections to a port, all open to the end, on which so many exchanges go by in turns, each a few pieces: of
    /// the client (0) or the server (1).
    pub(crate) fn exchanges(
        &mut self,
        connections: u32,
        port: u16,
        exchanges: u32,
        pieces: &[(usize, &[u8])],
    ) -> Result<()> {
        let opened = (0..connections).map(|number| self.open(number, port)).collect::<Result<Vec<_>>>();
        let mut opened = opened?;
        let turns = (0..connections as usize).cycle().take(exchanges as usize);
        for at in turns {
            for (side, bytes) in pieces {
                self.send(&mut opened[at], *side, bytes)?;
            }
        }
        Ok(())
    }

    fn connection(&self, number: u32, server_port: u16) -> Connection {
        let [_, a, b, c] = number.to_be_bytes();
        // Of the addresses that RFC 2544 has for tests.
        let client = ([198, 18, a, b], 10_000 + u16::from(c));
        Connection { ends: [client, ([198, 19, 0, self.server], server_port)], next: [1000, 5000] }
    }
}

/// The header of an IPv4 packet.
fn ip(protocol: u8, payload: usize, fragment: [u8; 2], source: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload as u16).to_be_bytes());
    packet.extend([0, 0, fragment[0], fragment[1], 64, protocol, 0, 0]);
    packet.extend([source, target].concat());
    packet
}

fn half_open(capture: &mut Capture) -> Result<()> {
    (0..100_000).try_for_each(|number| {
        let connection = capture.connection(number, 80);
        capture.segment_at(&connection, 0, 999, SYN, b"")
    })
}

fn first_words(capture: &mut Capture) -> Result<()> {
    for number in 0..70_000 {
        let mut connection = capture.open(number, 80)?;
        capture.send(&mut connection, 0, b"GET /index.html HTTP/1.1\r\nHost: a.example\r\nAccept: ")?;
    }
    Ok(())
}

/// Many connections on which a client goes on in turns.
fn in_turns(capture: &mut Capture, connections: u32, port: u16, turns: &[&[u8]]) -> Result<()> {
    let opened = (0..connections).map(|number| capture.open(number, port)).collect::<Result<Vec<_>>>();
    let mut opened = opened?;
    for turn in turns {
        for connection in &mut opened {
            capture.send(connection, 0, turn)?;
        }
    }
    Ok(())
}

fn endless_heads(capture: &mut Capture) -> Result<()> {
    let field = [&b"X-Endless: "[..], &[b'a'; 987], b"\r\n"].concat().repeat(10);
    let turns = [&b"GET / HTTP/1.1\r\n"[..]].into_iter().chain([&field[..]; 7]);
    in_turns(capture, 1000, 80, &turns.collect::<Vec<_>>())
}

fn pipelined(capture: &mut Capture) -> Result<()> {
    let request = [b"GET /", &[b'a'; 4000][..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    in_turns(capture, 100, 80, &[&request.repeat(8)[..]; 32])
}

fn holes(capture: &mut Capture) -> Result<()> {
    let opened = (0..200).map(|number| capture.open(number, 80)).collect::<Result<Vec<_>>>();
    let opened = opened?;
    for part in 0..16 {
        for connection in &opened {
            let sequence = connection.next[0] + 1 + part * SEGMENT as u32;
            capture.segment_at(connection, 0, sequence, ACK, &[b'a'; SEGMENT])?;
        }
    }
    Ok(())
}

fn fragments(capture: &mut Capture) -> Result<()> {
    for number in 0..100_000_u32 {
        let [a, b, c, d] = number.to_be_bytes();
        // More fragments follow; the identification is 0, the addresses differ.
        let mut packet = ip(6, 1400, [0x20, 0], [198, 18, a, b], [198, 19, c, d]);
        packet.extend([0; 1400]);
        capture.record(&packet)?;
    }
    Ok(())
}

/// A packet of MySQL's protocol.
fn mysql(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = (payload.len() as u32).to_le_bytes();
    [&[a, b, c, sequence], payload].concat()
}

/// A MySQL connection after its login: protocol 4.1, no TLS, no compression.
fn mysql_login(capture: &mut Capture, number: u32) -> Result<Connection> {
    let mut connection = capture.open(number, 3306)?;
    let greeting = b"\x0a8.0.36\0\x01\0\0\x0012345678\0\x0d\xa2\x2d\x02\0\x08\0\x15\0\0\0\0\0\0\0\0\0\x00123456789012\0mysql_native_password\0";
    capture.send(&mut connection, 1, &mysql(0, greeting))?;
    let login = [&b"\x0d\xa2\x08\0\0\0\0\x01\x2d"[..], &[0; 23], b"app\0\0shop\0mysql_native_password\0"].concat();
    capture.send(&mut connection, 0, &mysql(1, &login))?;
    capture.send(&mut connection, 1, &mysql(2, b"\0\0\0\x02\0\0\0"))?;
    Ok(connection)
}

fn mysql_packets(capture: &mut Capture) -> Result<()> {
    const LONGEST: usize = (1 << 24) - 1;
    let mut connection = mysql_login(capture, 0)?;
    let statement = [b"\x03SELECT '", &vec![b'a'; LONGEST - 9][..]].concat();
    for (side, first) in [(0, &statement[..]), (1, &vec![b'a'; LONGEST])] {
        capture.send(&mut connection, side, &mysql(0, first))?;
        capture.send(&mut connection, side, &mysql(1, &vec![b'a'; LONGEST]))?;
        capture.send(&mut connection, side, &mysql(2, b"a'"))?;
    }
    Ok(())
}

fn mysql_statements(capture: &mut Capture) -> Result<()> {
    for number in 0..500 {
        let mut connection = mysql_login(capture, number)?;
        for id in 1..33_u8 {
            // As many names, so that nothing is shortened.
            let names: Vec<_> = (0..400).map(|name| format!("name{name:05}")).collect();
            let statement = format!("\u{16}SELECT {} FROM t", names.join(","));
            capture.send(&mut connection, 0, &mysql(0, statement.as_bytes()))?;
            capture.send(&mut connection, 1, &mysql(1, &[0, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))?;
        }
    }
    Ok(())
}

/// OP_MSG of a command, which says to be so long.
fn mongodb(length: u32, id: u32, command: &str, rest: &[u8]) -> Vec<u8> {
    let mut body = [&[2], command.as_bytes(), b"\0\x02\0\0\0a\0\x02$db\0\x02\0\0\0d\0"].concat();
    body.extend(rest);
    let document = if rest.is_empty() { body.len() + 5 } else { length as usize - 21 };
    let length = if rest.is_empty() { body.len() as u32 + 26 } else { length };
    let mut message = [length, id, 0, 2013, 0].map(u32::to_le_bytes).concat();
    message.push(0);
    message.extend((document as u32).to_le_bytes());
    message.extend(body);
    if rest.is_empty() {
        message.push(0);
    }
    message
}

fn mongodb_lengths(capture: &mut Capture) -> Result<()> {
    const LONGEST: u32 = 48_000_000;
    // An array of documents that goes on to the end.
    let begun = mongodb(LONGEST, 1, "insert", b"\x04documents\0\0\x1b\xb7\0");
    in_turns(capture, 2000, 27017, &[&begun[..], &[0; 4096]])?;
    let mut whole = capture.open(2000, 27017)?;
    capture.send(&mut whole, 0, &begun)?;
    let zeros = vec![0; 1 << 20];
    let mut left = LONGEST as usize - begun.len();
    while left > 0 {
        let part = left.min(zeros.len());
        capture.send(&mut whole, 0, &zeros[..part])?;
        left -= part;
    }
    Ok(())
}

fn mongodb_commands(capture: &mut Capture) -> Result<()> {
    let mut connection = capture.open(0, 27017)?;
    for id in 1..20_001 {
        capture.send(&mut connection, 0, &mongodb(0, id, &format!("command{id}"), b""))?;
        let mut answer = mongodb(0, id + 100_000, "ok", b"");
        answer[8..12].copy_from_slice(&id.to_le_bytes());
        capture.send(&mut connection, 1, &answer)?;
    }
    Ok(())
}

fn servers(capture: &mut Capture) -> Result<()> {
    for number in 0..20_000 {
        let mut connection = capture.open(number, 1000 + number as u16)?;
        capture.send(&mut connection, 0, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        capture.send(&mut connection, 1, b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
    Ok(())
}

/// Nothing of what is open ends before the next begins.
fn together(capture: &mut Capture) -> Result<()> {
    for case in [first_words, endless_heads, mysql_statements, holes, mongodb_lengths, half_open, mongodb_commands] {
        case(capture)?;
        capture.server += 1;
    }
    Ok(())
}

/// Orders for the decoder of host/tests/guests/misbehave, each on connections of its own. It is no case of [`CASES`]: podtap
/// needs that decoder.
pub(crate) fn orders(capture: &mut Capture) -> Result<()> {
    for number in 0..10 {
        for (place, order) in
            (0..).zip(["grow", "giant", "flood", "recurse", "loop", "panic", "log", "long", "demands"])
        {
            let mut connection = capture.open(number * 16 + place, 7)?;
            capture.send(&mut connection, 0, format!("> {order}\n").as_bytes())?;
            capture.send(&mut connection, 1, b"done\n")?;
        }
    }
    Ok(())
}
