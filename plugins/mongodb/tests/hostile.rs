//! What no message may do, and what no value may get out of: losses, lies about lengths, depth, size, and secrets.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use podtap_mongodb::Mongodb;
use podtap_sdk::testing::{Conversation, Cut};
use proptest::prelude::*;
use support::{Bson, answer, ask, compressed, message, msg, sequence};

/// Counts what each thread allocates, for the bound on memory.
struct Counting;

thread_local! {
    /// What the thread has allocated beyond what it has freed, and the most of that.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count_bytes(bytes: isize) {
    LIVE.set(LIVE.get() + bytes);
    PEAK.set(PEAK.get().max(LIVE.get()));
}

// SAFETY: every call is passed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_bytes(layout.size().cast_signed());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count_bytes(-layout.size().cast_signed());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(id: u32) -> Vec<u8> {
    ask(id, &doc! { "count" => "c", "$db" => "d" })
}

fn ok() -> Bson {
    doc! { "n" => 1, "ok" => 1.0 }
}

/// Outcome and summary of each exchange, and the kind of fault.
#[track_caller]
fn check(conversation: &Conversation, expected: &[&str]) {
    let lines: Vec<String> = conversation
        .exchanges::<Mongodb>()
        .iter()
        .map(|line| {
            let (head, _) = line.split_once(" re").unwrap_or((line, ""));
            let fault = line.split_once("mongodb.malformed=").map(|(_, fault)| format!(" malformed {fault}"));
            head.to_owned()
                + &fault.unwrap_or_default().split(" db.").next().unwrap_or_default().replace(" mongodb.n=1", "")
        })
        .collect();
    assert_eq!(lines, expected);
}

/// A request whose body's first document is changed, its answer, and a sound exchange behind it.
fn with(change: impl Fn(&mut Vec<u8>), body: &Bson) -> Conversation {
    let mut request = ask(1, body);
    change(&mut request);
    Conversation::new().client(request).server(answer(1, &ok())).client(count(2)).server(answer(2, &ok()))
}

#[test]
fn lies_about_lengths_are_faults_of_their_message_alone() {
    let filter = doc! { "find" => "c", "filter" => doc! { "a" => "text" }, "$db" => "d" };
    let at = |bytes: &[u8], what: &[u8]| {
        bytes.windows(what.len()).position(|window| window == what).expect("is there") + what.len()
    };
    for length in [-1_i32, i32::MIN, i32::MAX, 0, 4, 1000] {
        let lie = length.to_le_bytes();
        let nested = |bytes: &mut Vec<u8>| {
            let at = at(bytes, b"filter\0");
            bytes[at..at + 4].copy_from_slice(&lie);
        };
        check(&with(nested, &filter), &["ok find c malformed length", "ok count d.c"]);
        let outermost = |bytes: &mut Vec<u8>| bytes[21..25].copy_from_slice(&lie);
        check(&with(outermost, &filter), &["ok malformed length", "ok count d.c"]);
        if length != 4 {
            let text = |bytes: &mut Vec<u8>| {
                let at = at(bytes, b"\x02a\0");
                bytes[at..at + 4].copy_from_slice(&lie);
            };
            check(&with(text, &filter), &["ok find c malformed length", "ok count d.c"]);
        }
    }
    let unknown = |bytes: &mut Vec<u8>| {
        let at = at(bytes, b"\x02a\0") - 3;
        bytes[at] = 0x42;
    };
    check(&with(unknown, &filter), &["ok find c malformed type", "ok count d.c"]);
    let kind = |bytes: &mut Vec<u8>| bytes[20] = 7;
    check(&with(kind, &filter), &["ok malformed section", "ok count d.c"]);
}

#[test]
fn depth_ends_in_a_fault_and_so_does_what_is_compressed_and_is_not() {
    let deep = |levels| (0..levels).fold(doc! {}, |inner, _| Bson::Document(vec![("a".into(), inner)]));
    let find = |levels| Bson::Document(vec![("find".into(), "c".into()), ("filter".into(), deep(levels))]);
    check(&with(|_| (), &find(90)), &["ok find c", "ok count d.c"]);
    check(&with(|_| (), &find(300)), &["ok find c malformed depth", "ok count d.c"]);
    let bad = compressed(&count(1), 2, |_| b"nonsense".to_vec());
    let conversation =
        Conversation::new().client(bad).server(answer(1, &ok())).client(count(2)).server(answer(2, &ok()));
    check(&conversation, &["ok malformed compression", "ok count d.c"]);
}

#[test]
fn long_names_and_long_patterns_are_passed_over_with_their_document() {
    let long = "k".repeat(5000);
    let filter = Bson::Document(vec![(long.clone(), 1.into()), ("b".into(), 1.into())]);
    let pattern = doc! { "a" => Bson::Regex(long, "i".into()), "b" => 1 };
    for filter in [filter, pattern] {
        let find = doc! { "find" => "c", "filter" => filter, "limit" => 1, "$db" => "d" };
        check(&with(|_| (), &find), &["ok find d.c", "ok count d.c"]);
    }
}

#[test]
fn a_header_that_cannot_be_is_searched_past() {
    let mut bad = count(1);
    bad[0..4].copy_from_slice(&(-1_i32).to_le_bytes());
    let conversation = Conversation::new().client(bad).client(count(2)).server(answer(2, &ok())).close();
    let lines = conversation.cut::<Mongodb>(Cut::Whole);
    assert!(lines.len() == 1 && lines[0].starts_with("ok count d.c"), "{lines:?}");
}

#[test]
fn losses_inside_a_message_leave_the_rest_alone() {
    let find = ask(1, &doc! { "find" => "c", "filter" => doc! { "a" => "x".repeat(400).as_str() }, "$db" => "d" });
    let batch = answer(
        1,
        &doc! { "cursor" => doc! { "firstBatch" => vec![doc! { "a" => "x".repeat(4000).as_str() }], "id" => 0_i64, "ns" => "d.c" }, "ok" => 1.0 },
    );
    // In a request: what was read stays, and the response finds it.
    let conversation = Conversation::new()
        .client(&find[..60])
        .client_gap(200)
        .client(&find[260..])
        .server(&batch)
        .client(count(2))
        .server(answer(2, &ok()));
    let lines = conversation.exchanges::<Mongodb>();
    assert!(lines[0].starts_with("ok find c request") && lines[0].contains("lost 200"), "{lines:?}");
    assert!(lines[1].starts_with("ok count d.c"), "{lines:?}");
    // In a document of a batch, which is not needed: nothing is missing but bytes.
    let conversation = Conversation::new().client(&find).server(&batch[..1000]).server_gap(500).server(&batch[1500..]);
    let lines = conversation.exchanges::<Mongodb>();
    assert!(lines[0].starts_with("ok find d.c") && lines[0].contains("lost 500"), "{lines:?}");
    assert!(lines[0].contains("returned_rows=1 mongodb.cursor_id=0"), "{lines:?}");
    // Where the answer itself was lost, none is made up.
    let conversation = Conversation::new()
        .client(&find)
        .server(&batch[..4100])
        .server_gap(batch.len() as u32 - 4100)
        .client(count(2))
        .server(answer(2, &ok()));
    check(&conversation, &["aborted find d.c", "ok count d.c"]);
    // A header was lost: what was asked is given up once a later request is answered.
    let conversation =
        Conversation::new().client(&find).server_gap(30).server(&batch[30..]).client(count(2)).server(answer(2, &ok()));
    let lines = conversation.cut::<Mongodb>(Cut::Whole);
    assert!(lines[0].starts_with("no_response find d.c") && lines[0].contains("lost 30"), "{lines:?}");
    assert!(lines[1].starts_with("ok count d.c"), "{lines:?}");
}

#[test]
fn in_midstream_the_next_message_is_found() {
    let conversation = Conversation::midstream()
        .client(&count(1)[7..])
        .server(&answer(1, &ok())[30..])
        .client(count(2))
        .server(answer(2, &ok()));
    let lines = conversation.cut::<Mongodb>(Cut::Whole);
    assert!(lines.len() == 1 && lines[0].starts_with("ok count d.c request 3..3"), "{lines:?}");
}

/// Feeds a message of 48 MB in segments of 64 KiB that are not kept, and gives the most memory that was in use.
fn peak(first: &[u8], filler: u8, behind: &[u8], length: usize) -> isize {
    use podtap_sdk::{Batch, Instance, OpenedConnection};

    let mut instance = Instance::<Mongodb>::new("{}").expect("the configuration is right");
    let opened = OpenedConnection {
        id: 0,
        client_address: "192.0.2.1".into(),
        client_port: 1,
        server_address: "192.0.2.2".into(),
        server_port: 27017,
        midstream: false,
    };
    let segment = vec![filler; 65536];
    let mut opened = vec![opened];
    let mut position = 0;
    let (mut peak, mut exchanges) = (0, 0);
    let mut give = |bytes: &[u8]| {
        let batch = Batch {
            opened: std::mem::take(&mut opened),
            connections: vec![0],
            kinds: vec![0],
            times: vec![1],
            positions: vec![position],
            lengths: vec![bytes.len() as u32],
            data: bytes.to_vec(),
        };
        position += bytes.len() as u64;
        let before = LIVE.get();
        PEAK.set(before);
        exchanges += instance.feed(batch).exchange_connections.len();
        peak = peak.max(PEAK.get() - before);
    };
    give(first);
    let mut left = length - first.len() - behind.len();
    while left > 0 {
        // As if nothing could be left out: the demand to skip is not heeded.
        let size = left.min(segment.len());
        give(&segment[..size]);
        left -= size;
    }
    give(behind);
    assert_eq!(exchanges, 1, "the message was understood to its end");
    peak
}

#[test]
fn a_message_of_48_mb_costs_less_than_a_mebibyte() {
    const LENGTH: usize = 48_000_000;
    // An insert that nobody answers, with one text of almost 48 MB.
    let document = LENGTH - 16 - 5;
    let text = document - 4 - 1 - (1 + 7 + 7) - (1 + 2 + 4 + 1) - (1 + 4 + 6);
    let head = [(LENGTH as u32).to_le_bytes(), [1, 0, 0, 0], [0; 4], 2013_u32.to_le_bytes()].concat();
    let body = [
        &2_u32.to_le_bytes()[..],
        &[0],
        &(document as u32).to_le_bytes(),
        b"\x02insert\0\x02\0\0\0c\0",
        b"\x02t\0",
        &(text as u32).to_le_bytes(),
    ];
    let first = [&head[..], &body.concat()].concat();
    let behind = [&[0][..], b"\x02$db\0\x02\0\0\0d\0", &[0]].concat();
    // The text's own length is whatever is between.
    let mut first = first;
    let between = LENGTH - first.len() - behind.len();
    let at = first.len() - 4;
    first[at..].copy_from_slice(&(between as u32 + 1).to_le_bytes());
    let plain = peak(&first, b'x', &behind, LENGTH);
    assert!(plain < 1 << 20, "{plain} bytes");

    // The same size compressed: the payload's beginning is sound, and its rest is never looked at.
    let inner = msg(
        1,
        0,
        2,
        &doc! { "insert" => "c", "documents" => vec![doc! { "t" => "x".repeat(2_000_000).as_str() }], "$db" => "d" },
    );
    type Pack = fn(&[u8]) -> Vec<u8>;
    let packers: [(u8, Pack); 3] = [
        (1, |bytes| snap::raw::Encoder::new().compress_vec(bytes).expect("compresses")),
        (2, |bytes| miniz_oxide::deflate::compress_to_vec_zlib(bytes, 6)),
        (3, |bytes| ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)),
    ];
    for (id, pack) in packers {
        let mut first = compressed(&inner, id, pack);
        first[0..4].copy_from_slice(&(LENGTH as u32).to_le_bytes());
        let peak = peak(&first, 0, &[0], LENGTH);
        println!("compressor {id}: {peak} bytes; plain: {plain}");
        assert!(peak < 1 << 20, "compressor {id}: {peak} bytes");
    }
}

#[test]
fn answers_to_nothing_that_announce_more_do_not_pile_up() {
    const ANSWERS: u32 = 20_000;
    let flood: Vec<u8> = (0..ANSWERS).flat_map(|n| msg(n, 1_000_000 + n, 2, &doc! {})).collect();
    let conversation = Conversation::new().server(flood).client(count(1)).server(answer(1, &ok()));
    let lines = conversation.cut::<Mongodb>(Cut::Whole);
    // What is not reported waits.
    let waiting = ANSWERS as usize + 1 - lines.len();
    assert!(waiting <= 256, "{waiting}");
    let (last, others) = lines.split_last().expect("there are some");
    assert!(last.starts_with("ok count d.c"), "{last}");
    assert!(others.iter().all(|line| line.starts_with("unmatched")), "{others:?}");
}

/// A mark that no key, name or comment has.
const SECRET: &str = "s3cr3t";

fn secret_value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        Just(Bson::from(SECRET)),
        Just(Bson::Text(format!("{SECRET}\u{e9}\"'{{}}"))),
        Just(Bson::Binary(SECRET.into())),
        Just(Bson::Regex(SECRET.into(), "i".into())),
        Just(Bson::Code(SECRET.into())),
        Just(Bson::CodeWithScope(SECRET.into(), vec![("k".into(), SECRET.into())])),
        Just(Bson::Int32(i32::from_le_bytes(*b"s3cr"))),
        Just(Bson::Int64(i64::from_le_bytes(*b"s3cr3t!!"))),
        Just(Bson::Double(f64::from_bits(u64::from_le_bytes(*b"s3cr3t!!")))),
        Just(Bson::Date(i64::from_le_bytes(*b"s3cr3t!!"))),
        Just(Bson::Decimal(*b"s3cr3ts3cr3ts3cr")),
        Just(Bson::ObjectId(*b"s3cr3ts3cr3t")),
        any::<bool>().prop_map(Bson::Bool),
        Just(Bson::Null),
        Just(Bson::MinKey),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let key =
            prop_oneof![Just("$in"), Just("$set"), Just("a"), Just("b.c"), Just("name"), Just("code"), Just("$db2")];
        prop_oneof![
            prop::collection::vec((key, inner.clone()), 0..6)
                .prop_map(|all| Bson::Document(all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
            prop::collection::vec(inner, 0..6).prop_map(Bson::Array),
        ]
    })
}

/// Values of any kind under the names of all sorts of fields, in a command.
fn secret_command() -> impl Strategy<Value = Bson> {
    let command = prop_oneof![
        Just("find"),
        Just("insert"),
        Just("update"),
        Just("delete"),
        Just("aggregate"),
        Just("findAndModify"),
        Just("createUser"),
        Just("saslStart"),
        Just("explain"),
        Just("bulkWrite"),
        Just("getMore"),
        Just("custom"),
    ];
    let field = prop_oneof![
        Just("filter"),
        Just("documents"),
        Just("updates"),
        Just("deletes"),
        Just("pipeline"),
        Just("query"),
        Just("u"),
        Just("sort"),
        Just("pwd"),
        Just("payload"),
        Just("ops"),
        Just("cursor"),
        Just("let"),
        Just("lsid"),
        Just("roles"),
    ];
    (command, prop::collection::vec((field, secret_value()), 0..6)).prop_map(|(command, fields)| {
        // Names of collections are published; the first value of other commands may be anything.
        let on_collection =
            !matches!(command, "createUser" | "saslStart" | "explain" | "bulkWrite" | "getMore" | "custom");
        let first = if on_collection { "orders".into() } else { Bson::from(SECRET) };
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        let all = std::iter::once((command.to_owned(), first)).chain(fields);
        Bson::Document(all.chain([("$db".to_owned(), "shop".into())]).collect())
    })
}

fn assert_nothing_leaks(lines: &[String]) {
    let numbers = [i32::from_le_bytes(*b"s3cr").to_string(), i64::from_le_bytes(*b"s3cr3t!!").to_string()];
    for line in lines {
        for secret in [SECRET, "s3cr", &numbers[0], &numbers[1]] {
            // A cursor's id is a number of the server's, not a value.
            let line =
                line.replace(&format!("mongodb.cursor_id={secret}"), "").replace(&format!("batch_size={secret}"), "");
            assert!(!line.contains(secret), "{secret} in {line}");
        }
    }
}

proptest! {
    #[test]
    fn values_never_leave(
        command in secret_command(),
        documents in prop::collection::vec(secret_value(), 0..4),
        reply in secret_value(),
        message in "[a-z ]{0,20}",
        size in 1_usize..200,
    ) {
        let documents: Vec<Bson> = documents.into_iter().filter(|value| matches!(value, Bson::Document(_))).collect();
        let body = [&[0; 5][..], &command.bytes(), &sequence("documents", &documents), &sequence("updates", &documents)].concat();
        let quoted = format!("{message} \"{SECRET}\" {message} {{ a: {SECRET} }}, '{SECRET}'");
        let error = Bson::Document(vec![
            ("ok".into(), 0.0.into()),
            ("errmsg".into(), quoted.as_str().into()),
            ("value".into(), reply.clone()),
            ("writeErrors".into(), Bson::Array(vec![doc! { "code" => 11000, "errmsg" => quoted.as_str(), "keyValue" => reply }])),
        ]);
        let conversation = Conversation::new()
            .client(support::message(2013, 1, 0, &body))
            .server(answer(1, &error))
            .client(ask(2, &command))
            .server(answer(2, &error))
            .close();
        assert_nothing_leaks(&conversation.cut::<Mongodb>(Cut::Pieces(size)));
        prop_assert_eq!(conversation.cut::<Mongodb>(Cut::Pieces(size)), conversation.cut::<Mongodb>(Cut::Whole));
    }

    #[test]
    fn no_bytes_do_harm_and_cuts_change_nothing(
        start in prop_oneof![
            Just(count(1)),
            Just(message(2004, 1, 0, b"\0\0\0\0d.c\0\0\0\0\0\0\0\0\0\x05\0\0\0\0")),
            Just(compressed(&count(1), 2, |bytes| miniz_oxide::deflate::compress_to_vec_zlib(bytes, 6))),
        ],
        changes in prop::collection::vec((16_usize..80, any::<u8>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..200),
        size in 1_usize..100,
    ) {
        let mut bytes = start;
        let length = bytes.len();
        for (at, byte) in changes {
            bytes[at % length.max(17)] = byte;
        }
        let conversation = Conversation::new().client(&bytes).server(answer(1, &ok())).client(&tail).server(&tail).close();
        conversation.cut::<Mongodb>(Cut::Whole);
        conversation.cut::<Mongodb>(Cut::Pieces(size));
    }

    /// Every exchange that is a pair is the right one: the nth request asks of collection n and its answer says n.
    #[test]
    fn losses_never_make_a_wrong_pair(
        lost in prop::collection::vec(any::<bool>(), 400..800),
        rate in 1_usize..40,
        size in 20_usize..200,
    ) {
        let mut conversation = Conversation::new();
        let mut segments = lost.iter().cycle().enumerate().map(|(index, lost)| *lost && index % rate == 0);
        for n in 1..40 {
            let text = "x".repeat(n * 13 % 300);
            let name = format!("c{n}x");
            let request = Bson::Document(vec![
                ("count".into(), name.as_str().into()),
                ("query".into(), doc! { "a" => text.as_str() }),
                ("$db".into(), "d".into()),
            ]);
            let reply = Bson::Document(vec![
                ("padding".into(), Bson::from(text.as_str())),
                ("n".into(), (n as i32).into()),
                ("ok".into(), 1.0.into()),
            ]);
            for (server, bytes) in [(false, ask(n as u32, &request)), (true, answer(n as u32, &reply))] {
                for piece in bytes.chunks(size) {
                    conversation = match (segments.next().unwrap_or_default(), server) {
                        (false, false) => conversation.client(piece),
                        (false, true) => conversation.server(piece),
                        (true, false) => conversation.client_gap(piece.len() as u32),
                        (true, true) => conversation.server_gap(piece.len() as u32),
                    };
                }
            }
        }
        for line in conversation.close().cut::<Mongodb>(Cut::Whole) {
            let collection = line.split_once("collection.name=c").and_then(|(_, rest)| rest.split_once('x'));
            let answered = line.split_once("mongodb.n=").map(|(_, n)| n.split(' ').next().unwrap_or_default());
            if let (Some((asked, _)), Some(answered)) = (collection, answered) {
                prop_assert_eq!(asked, answered, "{}", line);
            }
        }
    }
}
