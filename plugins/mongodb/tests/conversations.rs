//! Conversations and the exchanges they mean, however they are cut into segments.

mod support;

use podtap_mongodb::Mongodb;
use podtap_sdk::testing::Conversation;
use podtap_sdk::{Batch, Instance, OpenedConnection};
use support::{Bson, answer, ask, compressed, message, msg, sequence};

/// The exchanges as lines, without what is in every one.
fn lines(conversation: &Conversation) -> Vec<String> {
    let lines = conversation.exchanges::<Mongodb>();
    lines.iter().map(|line| line.replace(" db.system.name=mongodb", "")).collect()
}

/// The exchanges have these words, in this order, each behind the last one's end.
#[track_caller]
fn check(conversation: &Conversation, expected: &[&[&str]]) {
    let lines = lines(conversation);
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, words) in lines.iter().zip(expected) {
        let mut rest = line.as_str();
        for word in *words {
            match rest.find(word) {
                Some(at) => rest = &rest[at + word.len()..],
                None => panic!("no {word:?} in {rest:?} of\n{line}"),
            }
        }
    }
}

fn turns(turns: &[(Vec<u8>, Vec<u8>)]) -> Conversation {
    let conversation = turns.iter().fold(Conversation::new(), |all, (ask, answer)| all.client(ask).server(answer));
    conversation.client_end().server_end().close()
}

fn ok() -> Bson {
    doc! { "n" => 1, "ok" => 1.0 }
}

fn batch(name: &str, id: i64, documents: usize) -> Bson {
    let documents = vec![doc! { "_id" => 1, "ok" => 0, "name" => "x".repeat(100).as_str() }; documents];
    Bson::Document(vec![
        (
            "cursor".into(),
            Bson::Document(vec![
                (name.into(), Bson::Array(documents)),
                ("id".into(), id.into()),
                ("ns".into(), "shop.orders".into()),
            ]),
        ),
        ("ok".into(), 1.0.into()),
    ])
}

#[test]
fn every_fact_of_a_find() {
    let find = doc! {
        "find" => "orders",
        "filter" => doc! { "status" => doc! { "$in" => vec![Bson::from("open"), "late".into()] }, "total" => 7.5 },
        "sort" => doc! { "_id" => -1 },
        "batchSize" => 100,
        "comment" => "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "lsid" => doc! { "id" => Bson::Binary(vec![7; 16]) },
        "txnNumber" => 3_i64,
        "$db" => "shop",
        "$readPreference" => doc! { "mode" => "secondaryPreferred" },
    };
    assert_eq!(
        lines(&turns(&[(ask(1, &find), answer(1, &batch("firstBatch", 77, 3)))])),
        ["ok find shop.orders request 1..1 (342 bytes) response 2..2 (508 bytes) db.namespace=shop \
            db.collection.name=orders db.operation.name=find \
            db.query.text={\"find\":\"orders\",\"filter\":{\"status\":{\"$in\":[\"?string\"]},\"total\":\"?number\"},\
            \"sort\":{\"_id\":\"?number\"},\"batchSize\":\"?number\"} mongodb.query_digest=853b372621e929fd \
            db.query.summary=find orders mongodb.batch_size=100 \
            mongodb.comment=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 \
            trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331 mongodb.transaction_number=3 \
            mongodb.read_preference=secondaryPreferred db.response.returned_rows=3 mongodb.cursor_id=77"]
    );
}

#[test]
fn documents_of_an_insert_are_counted_wherever_they_stand() {
    let documents = vec![doc! { "a" => 1 }, doc! { "b" => "x".repeat(5000).as_str() }, doc! {}];
    let inline = doc! { "insert" => "c", "documents" => documents.clone(), "ordered" => true, "$db" => "d" };
    let body = doc! { "insert" => "c", "ordered" => true, "$db" => "d" };
    let body = [&[0][..], &body.bytes()].concat();
    let documents = sequence("documents", &documents);
    let sections = |first: &[u8], second: &[u8]| message(2013, 1, 0, &[&[0; 4], first, second].concat());
    for request in [ask(1, &inline), sections(&body, &documents), sections(&documents, &body)] {
        check(
            &turns(&[(request, answer(1, &doc! { "n" => 3, "ok" => 1.0 }))]),
            &[&["ok insert d.c ", "\"documents\":\"?array<?object>\"", "db.operation.batch.size=3", "mongodb.n=3"]],
        );
    }
}

#[test]
fn a_bulk_write_counts_operations_and_shapes_no_inserted_document() {
    let insert = doc! { "insert" => 0, "document" => doc! { "private" => 1 } };
    let update =
        doc! { "update" => 0, "filter" => doc! { "a" => 1 }, "updateMods" => doc! { "$inc" => doc! { "b" => 1 } } };
    let namespaces = [doc! { "ns" => "d.c" }];
    let shape = r#""ops":[{"insert":"?number","document":"?object"}"#;
    for (operations, size) in [(vec![insert.clone()], 0), (vec![insert.clone(), insert, update], 3)] {
        let inline = doc! {
            "bulkWrite" => 1, "ops" => operations.clone(), "nsInfo" => namespaces.to_vec(), "$db" => "admin",
        };
        let sections = [
            &[0; 5][..],
            &doc! { "bulkWrite" => 1, "$db" => "admin" }.bytes(),
            &sequence("ops", &operations),
            &sequence("nsInfo", &namespaces),
        ];
        for request in [ask(1, &inline), message(2013, 1, 0, &sections.concat())] {
            let lines = turns(&[(request, answer(1, &doc! { "ok" => 1.0 }))]).exchanges::<Mongodb>();
            assert!(lines[0].contains(shape) && !lines[0].contains("private"), "{lines:?}");
            let counted = lines[0].ends_with(&format!(" db.operation.batch.size={size}"));
            assert!(counted || (size == 0 && !lines[0].contains("batch.size")), "{lines:?}");
        }
    }
}

#[test]
fn updates_deletes_and_pipelines() {
    let update =
        doc! { "q" => doc! { "_id" => 1 }, "u" => doc! { "$set" => doc! { "a" => "secret" } }, "upsert" => true };
    let updates = message(
        2013,
        1,
        0,
        &[
            &[0; 5][..],
            &doc! { "update" => "c", "$db" => "d" }.bytes(),
            &sequence("updates", &[update.clone(), update]),
        ]
        .concat(),
    );
    let upserted = vec![doc! { "index" => 0, "_id" => 1 }];
    let delete = doc! { "delete" => "c", "deletes" => vec![doc! { "q" => doc! {}, "limit" => 0 }], "$db" => "d" };
    let aggregate = doc! {
        "aggregate" => "c",
        "pipeline" => vec![doc! { "$match" => doc! { "a" => 1 } }, doc! { "$limit" => 5 }],
        "cursor" => doc! { "batchSize" => 2 },
        "$db" => "d",
    };
    let modify = doc! { "findAndModify" => "c", "query" => doc! { "a" => 1 }, "remove" => true, "$db" => "d" };
    let found =
        doc! { "lastErrorObject" => doc! { "n" => 1, "updatedExisting" => false }, "value" => doc! {}, "ok" => 1.0 };
    let distinct = doc! { "distinct" => "c", "key" => "a", "$db" => "d" };
    check(
        &turns(&[
            (updates, answer(1, &doc! { "n" => 2, "nModified" => 1, "upserted" => upserted, "ok" => 1.0 })),
            (ask(2, &delete), answer(2, &doc! { "n" => 9, "ok" => 1.0 })),
            (ask(3, &aggregate), answer(3, &batch("firstBatch", 0, 2))),
            (ask(4, &modify), answer(4, &found)),
            (ask(5, &distinct), answer(5, &doc! { "values" => vec![Bson::from(1), 2.into()], "ok" => 1.0 })),
        ]),
        &[
            &[
                "ok update d.c ",
                "{\"update\":\"c\",\"updates\":[{\"q\":{\"_id\":\"?number\"},\"u\":{\"$set\":{\"a\":\"?string\"}},\
                 \"upsert\":\"?bool\"}]}",
                "batch.size=2",
                "mongodb.n=2 mongodb.n_modified=1 mongodb.upserted=1",
            ],
            &["ok delete d.c ", "mongodb.n=9 mongodb.deleted=9"],
            &[
                "ok aggregate d.c ",
                "mongodb.batch_size=2 mongodb.pipeline=$match,$limit ",
                "rows=2 mongodb.cursor_id=0",
            ],
            &["ok findAndModify d.c ", "returned_rows=1 mongodb.n=1"],
            &["ok distinct d.c ", "\"key\":\"?string\"", "returned_rows=2"],
        ],
    );
}

#[test]
fn errors_are_told_whether_or_not_the_command_is_ok() {
    let write_error = |index: i32, code: i32| {
        doc! { "index" => index, "code" => code, "errmsg" => "E11000 duplicate key error dup key: { a: \"secret\" }" }
    };
    let duplicates = doc! { "n" => 1, "writeErrors" => vec![write_error(1, 11000), write_error(2, 11000), write_error(3, 121)], "ok" => 1.0 };
    let failed = doc! {
        "ok" => 0.0, "errmsg" => "Transaction 7 was 'aborted'", "code" => 251, "codeName" => "NoSuchTransaction",
        "errorLabels" => vec![Bson::from("TransientTransactionError")],
    };
    let concern = doc! { "n" => 1, "writeConcernError" => doc! { "code" => 64, "codeName" => "WriteConcernTimeout" }, "ok" => 1.0 };
    let insert = doc! { "insert" => "c", "$db" => "d" };
    check(
        &turns(&[
            (ask(1, &insert), answer(1, &duplicates)),
            (ask(2, &insert), answer(2, &failed)),
            (ask(3, &insert), answer(3, &concern)),
        ]),
        &[
            &[
                "error insert d.c ",
                "db.response.status_code=11000 error.type=11000",
                "mongodb.error_message=E11000 duplicate key error dup key: ? mongodb.write_errors=3 \
                 mongodb.write_error_codes=11000,121",
            ],
            &[
                "error insert d.c ",
                "status_code=251 ",
                "code_name=NoSuchTransaction mongodb.error_message=Transaction ? was ? \
                 mongodb.error_labels=TransientTransactionError",
            ],
            &["error insert d.c ", "status_code=64 ", "mongodb.write_concern_error=64"],
        ],
    );
}

#[test]
fn handshakes_authentication_and_pings_are_left_out_but_what_the_client_says_of_itself_stays() {
    let client = doc! {
        "driver" => doc! { "name" => "PyMongo", "version" => "4.20.1" },
        "os" => doc! { "type" => "Linux", "name" => "Linux", "version" => "6" },
        "application" => doc! { "name" => "shop" },
    };
    let hello = doc! { "hello" => 1, "client" => client, "$db" => "admin" };
    let sasl =
        doc! { "saslStart" => 1, "mechanism" => "SCRAM-SHA-256", "payload" => Bson::Binary(vec![1]), "$db" => "admin" };
    check(
        &turns(&[
            (ask(1, &hello), answer(1, &doc! { "isWritablePrimary" => true, "ok" => 1.0 })),
            (ask(2, &sasl), answer(2, &ok())),
            (ask(3, &doc! { "ping" => 1, "$db" => "admin" }), answer(3, &ok())),
            (ask(4, &doc! { "dbStats" => 1, "$db" => "d" }), answer(4, &ok())),
        ]),
        &[&["ok dbStats d ", "mongodb.application_name=shop mongodb.driver=PyMongo 4.20.1"]],
    );
}

#[test]
fn monitoring_is_reported_on_request() {
    let ping = [ask(1, &doc! { "ping" => 1, "$db" => "admin" }), ask(2, &doc! { "count" => "c" })].concat();
    let answers = [answer(1, &ok()), answer(2, &ok())].concat();
    for (config, expected) in [("{}", 1), (r#"{"report_monitoring": true}"#, 2)] {
        let mut instance = Instance::<Mongodb>::new(config).expect("the configuration is right");
        let output = instance.feed(Batch {
            opened: vec![OpenedConnection {
                id: 0,
                client_address: "192.0.2.1".into(),
                client_port: 1,
                server_address: "192.0.2.2".into(),
                server_port: 27017,
                midstream: false,
            }],
            connections: vec![0, 0],
            // Data of the client, then of the server.
            kinds: vec![0, 128],
            times: vec![1, 2],
            positions: vec![0, 0],
            lengths: vec![ping.len() as u32, answers.len() as u32],
            data: [&ping[..], &answers].concat(),
        });
        assert_eq!(output.exchange_connections.len(), expected, "{config}");
        assert_eq!(output.undecoded_bytes, 0, "{config}");
    }
}

#[test]
fn what_nobody_answers_is_over_at_once() {
    let insert =
        doc! { "insert" => "c", "documents" => vec![doc! {}], "writeConcern" => doc! { "w" => 0 }, "$db" => "d" };
    let conversation = Conversation::new()
        .client(msg(1, 0, 2, &insert))
        .client(ask(2, &doc! { "count" => "c" }))
        .server(answer(2, &ok()));
    check(
        &conversation,
        &[
            &["ok insert d.c request 1..1 (101 bytes) db.namespace", "mongodb.acknowledged=false"],
            &["ok count c request 2..2"],
        ],
    );
}

#[test]
fn an_exhaust_stream_is_one_exchange() {
    let get_more = doc! { "getMore" => 77_i64, "collection" => "orders", "$db" => "shop" };
    let reply = |id, to, flags, cursor| msg(id, to, flags, &batch("nextBatch", cursor, 2));
    let conversation = Conversation::new()
        .client(msg(1, 0, 1 << 16, &get_more))
        .server(reply(500, 1, 2, 77))
        .server(reply(501, 500, 2, 77))
        .client(ask(2, &doc! { "count" => "c", "$db" => "d" }))
        .server(reply(502, 501, 0, 0))
        .server(answer(2, &ok()));
    check(
        &conversation,
        &[
            &[
                "ok getMore shop.orders request 1..1 ",
                "response 2..5 ",
                "cursor_id=77 ",
                "returned_rows=6 mongodb.replies=3",
            ],
            &["ok count d.c request 4..4 ", "response 6..6 "],
        ],
    );
}

#[test]
fn replies_name_what_they_answer_in_any_order() {
    let count = |id, collection: &str| {
        ask(id, &Bson::Document(vec![("count".into(), collection.into()), ("$db".into(), "d".into())]))
    };
    let conversation = Conversation::new().client([count(1, "a"), count(2, "b"), count(3, "c")].concat()).server(
        [answer(3, &ok()), answer(99, &batch("firstBatch", 0, 1)), answer(1, &ok()), answer(2, &ok())].concat(),
    );
    check(
        &conversation,
        &[
            &["ok count d.c "],
            &["unmatched  shop.orders response", "db.namespace=shop db.collection.name=orders "],
            &["ok count d.a "],
            &["ok count d.b "],
        ],
    );
}

/// `database.collection` and NUL.
fn namespace(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn reply(id: u32, response_to: u32, flags: u32, cursor: i64, documents: &[Bson]) -> Vec<u8> {
    let head = [&flags.to_le_bytes()[..], &cursor.to_le_bytes(), &[0; 4], &(documents.len() as u32).to_le_bytes()];
    message(
        1,
        id,
        response_to,
        &[head.concat(), documents.iter().map(Bson::bytes).collect::<Vec<_>>().concat()].concat(),
    )
}

fn query(id: u32, flags: u32, name: &str, documents: &[Bson]) -> Vec<u8> {
    let documents = documents.iter().map(Bson::bytes).collect::<Vec<_>>().concat();
    let wanted = 5_u32.to_le_bytes();
    message(2004, id, 0, &[&flags.to_le_bytes()[..], &namespace(name), &[0; 4], &wanted, &documents].concat())
}

#[test]
fn legacy_opcodes() {
    let zero = [0; 4];
    let update = [&zero[..], &namespace("d.c"), &zero, &doc! { "a" => 1 }.bytes(), &doc! { "b" => 1 }.bytes()].concat();
    let insert = [&zero[..], &namespace("d.c"), &doc! {}.bytes(), &doc! { "a" => 1 }.bytes()].concat();
    let delete = [&zero[..], &namespace("d.c"), &zero, &doc! { "a" => doc! { "$gt" => 1 } }.bytes()].concat();
    let more = [&zero[..], &namespace("d.c"), &7_u32.to_le_bytes(), &77_u64.to_le_bytes()].concat();
    let kill = [&zero[..], &2_u32.to_le_bytes(), &77_u64.to_le_bytes(), &78_u64.to_le_bytes()].concat();
    let conversation = Conversation::new()
        .client(query(1, 0, "d.c", &[doc! { "a" => "x" }, doc! { "b" => 1 }]))
        .server(reply(9, 1, 0, 77, &[doc! { "ok" => 0 }, doc! {}]))
        .client(message(2005, 2, 0, &more))
        .server(reply(10, 2, 1, 0, &[]))
        .client(message(2001, 3, 0, &update))
        .client(message(2002, 4, 0, &insert))
        .client(message(2006, 5, 0, &delete))
        .client(message(2007, 6, 0, &kill))
        .client(query(7, 0, "d.$cmd", &[doc! { "count" => "c", "query" => doc! { "a" => 1 } }]))
        .server(reply(11, 7, 8, 0, &[ok()]))
        .client(query(8, 0, "d.$cmd", &[doc! { "$query" => doc! { "drop" => "c" }, "$readPreference" => doc! {} }]))
        .server(reply(12, 8, 8, 0, &[doc! { "ok" => 0.0, "code" => 26, "errmsg" => "ns not found" }]))
        .client(query(9, 0, "d.c", &[doc! { "$bad" => 1 }]))
        .server(reply(13, 9, 2, 0, &[doc! { "$err" => "unknown operator: $bad", "code" => 2 }]));
    check(
        &conversation,
        &[
            &[
                "ok find d.c ",
                "{\"find\":\"c\",\"filter\":{\"a\":\"?string\"},\"projection\":{\"b\":\"?number\"}}",
                "mongodb.opcode=OP_QUERY",
                "returned_rows=2 mongodb.cursor_id=77",
            ],
            &[
                "error getMore d.c ",
                "mongodb.cursor_id=77 mongodb.batch_size=7 mongodb.opcode=OP_GET_MORE",
                "returned_rows=0",
            ],
            &[
                "ok update d.c request 5..5 ",
                "\"q\":{\"a\":\"?number\"},\"u\":{\"b\":\"?number\"}",
                "acknowledged=false",
            ],
            &["ok insert d.c request 6..6 ", "batch.size=2", "opcode=OP_INSERT"],
            &["ok delete d.c ", "{\"q\":{\"a\":{\"$gt\":\"?number\"}}}"],
            &["ok killCursors ", "cursor_id=77 mongodb.opcode=OP_KILL_CURSORS"],
            &["ok count d.c request 9..9 ", "{\"count\":\"c\",\"query\":{\"a\":\"?number\"}}", "mongodb.n=1"],
            &["error drop d.c ", "status_code=26 ", "mongodb.error_message=ns not found"],
            &["error find d.c ", "status_code=2 ", "error_message=unknown operator: $bad"],
        ],
    );
}

#[test]
fn a_legacy_exhaust_query_is_one_exchange() {
    let conversation = Conversation::new()
        .client(query(1, 1 << 6, "d.c", &[doc! {}]))
        .server(reply(9, 1, 0, 77, &[doc! {}]))
        .server(reply(10, 9, 0, 77, &[doc! {}, doc! {}]))
        .server(reply(11, 10, 0, 0, &[doc! {}]));
    check(&conversation, &[&["ok find d.c ", "response 2..4 ", "returned_rows=4 mongodb.replies=3"]]);
}

/// Id, name, and how it compresses.
type Compressor = (u8, &'static str, fn(&[u8]) -> Vec<u8>);

fn compressors() -> [Compressor; 4] {
    [
        (0, "noop", |bytes| bytes.to_vec()),
        (1, "snappy", |bytes| snap::raw::Encoder::new().compress_vec(bytes).expect("compresses")),
        (2, "zlib", |bytes| miniz_oxide::deflate::compress_to_vec_zlib(bytes, 6)),
        (3, "zstd", |bytes| ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)),
    ]
}

#[test]
fn compressed_messages_mean_the_same() {
    let ask = ask(1, &doc! { "find" => "orders", "filter" => doc! { "a" => 1 }, "$db" => "shop" });
    let answer = answer(1, &batch("firstBatch", 77, 300));
    for (id, name, compress) in compressors() {
        let conversation = turns(&[(compressed(&ask, id, compress), compressed(&answer, id, compress))]);
        let compressor = format!("mongodb.compressor={name}");
        check(&conversation, &[&["ok find shop.orders ", &compressor, "returned_rows=300 mongodb.cursor_id=77"]]);
    }
}

#[test]
fn of_a_long_compressed_message_the_beginning_is_read() {
    let answer = answer(1, &batch("firstBatch", 77, 10_000));
    for (id, _, compress) in compressors() {
        let conversation = Conversation::new()
            .client(ask(1, &doc! { "find" => "orders", "$db" => "shop" }))
            .server(compressed(&answer, id, compress))
            .client(ask(2, &doc! { "count" => "c", "$db" => "d" }))
            .server(support::answer(2, &ok()));
        check(&conversation, &[&["ok find shop.orders ", "returned_rows="], &["ok count d.c "]]);
    }
}

#[test]
fn a_checksum_is_verified() {
    // As `Crc32c` of the decoder's own tests, from its definition: bit by bit.
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
        })
    };
    let summed = |id, change: u32| {
        let body = [&1_u32.to_le_bytes()[..], &[0], &doc! { "count" => "c", "$db" => "d" }.bytes(), &[0; 4]].concat();
        let mut message = message(2013, id, 0, &body);
        let end = message.len() - 4;
        let sum = (crc(&message[..end]) ^ change).to_le_bytes();
        message[end..].copy_from_slice(&sum);
        message
    };
    let conversation = turns(&[(summed(1, 0), answer(1, &ok())), (summed(2, 1), answer(2, &ok()))]);
    let lines = lines(&conversation);
    assert!(!lines[0].contains("checksum") && lines[1].contains("mongodb.checksum_valid=false"), "{lines:#?}");
}
