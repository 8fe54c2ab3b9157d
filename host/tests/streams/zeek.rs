//! Zeek's account: how many bytes each side of a connection sent and how many of them the capture lacks, from the
//! `conn.log`s beside the captures.

use std::net::{IpAddr, SocketAddr};

use crate::stream::{Connection, Difference, Stream};
use crate::{Folder, engine, find, known, settle, skip};

/// Logs that Zeek's tests made from another capture than the one they are beside.
const OF_ANOTHER_CAPTURE: &[&str] = &[
    "core.print-bpf-filters--conn.log",
    "core.tcp.rxmit-history--conn-2.log",
    "scripts.base.protocols.mysql.encrypted-aws-rds--tls-13.conn.log",
    "scripts.policy.protocols.conn.mac-logging--conn1.log",
    "scripts.policy.protocols.conn.speculative-service--conn-wiki.log",
];

#[test]
fn lengths_are_those_of_zeek() {
    let test = "lengths as Zeek has them";
    let Some(folder) = Folder::open(test) else { return };
    let mut differences = Vec::new();
    let (mut logs, mut compared, mut missing) = (0, 0, 0);
    for file in &folder.captures {
        let expected = folder.path(file).with_extension("expected");
        if !expected.is_dir() {
            continue;
        }
        let mut texts = Vec::new();
        find(&expected, &mut |path| {
            let name = path.file_name().expect("a file").to_string_lossy();
            if name.contains("conn") && name.contains(".log") && !OF_ANOTHER_CAPTURE.contains(&&*name) {
                texts.push(std::fs::read_to_string(path).expect("a log"));
            }
        });
        let tables: Vec<Vec<Row>> = texts.iter().filter_map(|text| Row::table(text)).collect();
        if tables.is_empty() {
            continue;
        }
        let connections = engine::run(&engine::packets(&folder.path(file))).connections;
        for rows in tables {
            logs += 1;
            let mut rest: Vec<&Connection> = connections.iter().collect();
            for row in rows {
                let (Connection { ends, .. }, sides) = Connection::new(row.originator, row.responder);
                let at = rest.iter().position(|connection| connection.ends == ends);
                let streams = at.map(|at| &rest.remove(at).streams);
                let [originator, responder] = sides.map(|side| streams.map(|streams| &streams[side]));
                let podtap = row.of(originator, responder);
                compared += 1;
                missing += podtap.missed;
                if podtap != row {
                    let stream = format!("{} > {}", row.originator, row.responder);
                    let (podtap, other) = (podtap.to_string(), row.to_string());
                    differences.push(Difference { file: file.clone(), stream, podtap, other });
                }
            }
            for Connection { ends: [a, b], streams } in rest {
                let (stream, podtap) = (format!("{a} - {b}"), format!("{}, {}", streams[0], streams[1]));
                differences.push(Difference { file: file.clone(), stream, podtap, other: "not logged".to_owned() });
            }
        }
    }
    if logs == 0 {
        return skip(test, "no conn.log in the folder");
    }
    println!("{logs} logs, {compared} connections, {missing} bytes missing");
    settle(&folder, "ZEEK", known::ZEEK, &differences);
}

/// A TCP connection of a `conn.log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    originator: SocketAddr,
    responder: SocketAddr,
    /// What each of them sent, missing bytes included; none where the log does not say.
    bytes: [Option<u64>; 2],
    /// Bytes missing, of both.
    missed: u64,
    /// Is some of it missing? By the letters G and g of the history.
    gaps: Option<[bool; 2]>,
}

impl Row {
    /// The TCP connections of a log, if it states their lengths.
    fn table(text: &str) -> Option<Vec<Row>> {
        let fields = |line: &'_ str| {
            line.strip_prefix("#fields\t").or((!line.starts_with('#')).then_some(line)).map(str::to_owned)
        };
        let mut lines = text.lines().filter_map(fields);
        let header = lines.next()?;
        let column = |name: &str| header.split('\t').position(|column| column == name);
        let [orig_h, orig_p] = [column("id.orig_h")?, column("id.orig_p")?];
        let [resp_h, resp_p] = [column("id.resp_h")?, column("id.resp_p")?];
        let [orig_bytes, resp_bytes] = [column("orig_bytes")?, column("resp_bytes")?];
        let missed = column("missed_bytes")?;
        let (proto, history) = (column("proto"), column("history"));
        let mut rows = Vec::new();
        for line in lines {
            let fields: Vec<&str> = line.split('\t').collect();
            if proto.is_some_and(|proto| fields[proto] != "tcp") {
                continue;
            }
            let end = |host: usize, port: usize| {
                let host: IpAddr = fields[host].parse().expect("an address");
                SocketAddr::new(host, fields[port].parse().expect("a port"))
            };
            rows.push(Row {
                originator: end(orig_h, orig_p),
                responder: end(resp_h, resp_p),
                bytes: [orig_bytes, resp_bytes].map(|column| fields[column].parse().ok()),
                missed: fields[missed].parse().expect("a number"),
                gaps: history.map(|history| ['G', 'g'].map(|letter| fields[history].contains(letter))),
            });
        }
        Some(rows)
    }

    /// The same, as podtap has it.
    fn of(&self, originator: Option<&Stream>, responder: Option<&Stream>) -> Row {
        let lengths =
            [originator, responder].map(|stream| stream.map_or((0, 0), |one| (one.captured(), one.missing())));
        let [(_, originator_missing), (_, responder_missing)] = lengths;
        let mut bytes = self.bytes;
        for (stated, (captured, missing)) in bytes.iter_mut().zip(lengths) {
            *stated = stated.map(|_| captured + missing);
        }
        Row {
            bytes,
            missed: originator_missing + responder_missing,
            gaps: self.gaps.map(|_| [originator_missing > 0, responder_missing > 0]),
            ..*self
        }
    }
}

/// Lengths of originator and responder, and in brackets how much is missing of whom.
impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [originator, responder] = self.bytes.map(|bytes| bytes.map_or("-".to_owned(), |bytes| bytes.to_string()));
        let letters: String =
            ['G', 'g'].iter().zip(self.gaps.unwrap_or_default()).filter(|(_, has)| *has).map(|(l, _)| l).collect();
        write!(f, "{originator}, {responder} [{}{letters}]", self.missed)
    }
}
