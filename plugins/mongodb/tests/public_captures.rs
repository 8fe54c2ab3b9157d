//! Captures of other projects, whose own expectations are named beside each. They do not ship: PODTAP_CAPTURES says where
//! they are.

use std::path::Path;

use podtap_mongodb::Mongodb;
use podtap_sdk::testing::{Conversation, Cut};

/// The TCP payload of a capture (pcap, Ethernet, IPv4) of one connection to `port` that lost and repeated nothing.
fn conversation(file: &Path, port: u16) -> Conversation {
    let bytes = std::fs::read(file).expect("the capture can be read");
    let mut conversation = Conversation::midstream();
    let mut rest = &bytes[24..];
    while rest.len() > 16 {
        let length = u32::from_le_bytes(rest[8..12].try_into().expect("four bytes")) as usize;
        let packet = &rest[16 + 14..16 + length];
        rest = &rest[16 + length..];
        let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        let segment = &packet[usize::from(packet[0] & 15) * 4..total];
        let payload = &segment[usize::from(segment[12] >> 4) * 4..];
        if payload.is_empty() {
            continue;
        }
        let from_server = u16::from_be_bytes([segment[0], segment[1]]) == port;
        conversation = if from_server { conversation.server(payload) } else { conversation.client(payload) };
    }
    conversation.close()
}

/// File, server's port, and of each exchange how it begins and, behind `|`, what else it has.
const EXPECTED: &[(&str, u16, &[&str])] = &[
    // Packetbeat's test_0025: one `find`, 50 bytes asked, 514 answered, one document.
    ("packetbeat-mongo_one_row.pcap", 27017, &["ok find test.restaurants|(50 bytes)|(514 bytes)|returned_rows=1 "]),
    // One `find` of 101 documents.
    ("packetbeat-mongodb_more_rows.pcap", 27017, &["ok find test.restaurants|(50 bytes)|returned_rows=101 "]),
    // Inserts by command; between them the shell asks isMaster, which is left out.
    (
        "packetbeat-mongodb_inserts.pcap",
        27017,
        &["ok insert testDB.testCollection|mongodb.n=1", "ok insert testDB.testCollection|mongodb.n=1"],
    ),
    ("packetbeat-mongodb_find.pcap", 27017, &["ok find testDB.testCollection|returned_rows=1 "]),
    (
        "packetbeat-mongodb_create_collection.pcap",
        27017,
        &["ok find testDB.system.namespaces", "ok find testDB.system.namespaces", "ok create testDB.testCollection"],
    ),
    // Nothing but isMaster.
    ("packetbeat-mongodb_use_db.pcap", 27017, &[]),
    // DeepFlow's .result: a message a line; isMaster, saslContinue and the like are left out here.
    ("deepflow-mongo-msg.pcap", 3717, &["ok find sky-test.query"]),
    (
        "deepflow-mongo.pcap",
        27017,
        &[
            "ok whatsmyuri admin",
            "ok buildinfo admin",
            "ok getLog admin",
            "ok buildInfo test",
            "ok getCmdLineOpts admin",
            "ok buildInfo test",
            "error replSetGetStatus admin|status_code=76 |code_name=NoReplicationEnabled",
            "ok getLog admin",
            "ok endSessions admin",
        ],
    ),
];

#[test]
fn exchanges_are_those_that_other_projects_expect() {
    let Some(folder) = std::env::var_os("PODTAP_CAPTURES") else {
        return println!("skipped: PODTAP_CAPTURES is not set");
    };
    for (file, port, expected) in EXPECTED {
        let path = Path::new(&folder).join("mongodb").join(file);
        if !path.is_file() {
            println!("skipped: no {}", path.display());
            continue;
        }
        let lines = conversation(&path, *port).cut::<Mongodb>(Cut::Whole);
        assert_eq!(lines.len(), expected.len(), "{file}: {lines:#?}");
        for (line, expected) in lines.iter().zip(*expected) {
            let mut parts = expected.split('|');
            let head = parts.next().unwrap_or_default();
            assert!(line.starts_with(&format!("{head} request")), "{file}: no {head:?} in\n{line}");
            for part in parts {
                assert!(line.contains(part), "{file}: no {part:?} in\n{line}");
            }
        }
    }
}
