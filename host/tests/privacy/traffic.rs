//! Traffic that is full of secrets, each of which says what it is: [`WORD`] or [`NUMBER`] is in all of them.
//!
//! Names that are published on purpose (paths, tables, collections, keys of documents, users) hold neither.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::mongodb::{self, Bson};
use crate::mysql;
use crate::support::Capture;

/// In every secret that is text.
pub(crate) const WORD: &str = "hushhush";
/// In every secret that is a number: no time, port or size of the traffic has these digits.
pub(crate) const NUMBER: &str = "7777777";

/// All protocols that have a stock decoder, and one that has none.
pub(crate) fn all() -> Capture {
    let mut capture = Capture::default();
    http(&mut capture);
    mysql_sessions(&mut capture);
    mongodb_session(&mut capture);
    let unknown = &mut capture.connection(5001, 9999);
    unknown.client("\x01\x02 login hushhush-unknown\n").server("\x03 hushhush-unknown-answer\n").close();
    capture.connection(5002, 443).client(b"\x16\x03\x01\x00\x20 hushhush-tls").close();
    capture
}

/// What the other end of a broken decoder's connection says, its order between two secrets that nobody asked for.
pub(crate) fn broken(order: &str) -> Capture {
    let mut capture = all();
    let connection = &mut capture.connection(6001, 7);
    connection.client("> fine\n").server("hushhush-answer-before\n");
    connection.client(format!("{order}\nhushhush-behind-the-order")).server("hushhush-answer-behind\n").close();
    capture
}

fn http(capture: &mut Capture) {
    let basic = BASE64_STANDARD.encode("app:hushhush-basic");
    let keys = [
        "password",
        "passwd",
        "pwd",
        "client_secret",
        "token",
        "access_token",
        "refresh_token",
        "id_token",
        "api_key",
        "apikey",
        "PassWord",
        "pass%77ord",
        "sig",
        "Signature",
        "X-Amz-Signature",
        "X-Amz-Security-Token",
        "X-Amz-Credential",
        "AWSAccessKeyId",
        "X-Goog-Signature",
    ];
    let query: Vec<_> = keys.iter().map(|key| format!("{key}=hushhush-of-{}", key.replace('%', "-"))).collect();
    let query = query.join("&");
    let fields = format!(
        "Authorization: Basic {basic}\r\nProxy-Authorization: Bearer hushhush-proxy\r\nCookie: sid=hushhush-cookie; b=1\r\n\
         X-Api-Key: hushhush-api-key\r\nReferer: http://a/?password=hushhush-referer\r\n"
    );
    let body = "user=app&password=hushhush-body";
    let web = &mut capture.connection(1001, 80);
    web.client(format!(
        "POST http://app:hushhush-userinfo@shop.example/private?page=2&{query} HTTP/1.1\r\nHost: app:hushhush-host@shop\r\n\
         {fields}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let answer = "{\"token\":\"hushhush-answer\"}";
    web.server(format!(
        "HTTP/1.1 500 hushhush-reason\r\nSet-Cookie: sid=hushhush-set-cookie\r\nLocation: /?token=hushhush-location\r\n\
         WWW-Authenticate: Bearer error=hushhush\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    ));
    web.client(
        "GET /folded HTTP/1.1\r\nHost: a\r\nAuthorization:\r\n Bearer hushhush-folded\r\nhushhush-no-colon\r\n\r\n",
    );
    web.server(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9;e=hushhush\r\nhushhush.\r\n0\r\nTrailer: hushhush\r\n\r\n",
    );
    web.close();
    let proxied = &mut capture.connection(1002, 80);
    proxied.client("CONNECT app:hushhush-connect@db:5432 HTTP/1.1\r\nHost: db\r\n\r\n");
    proxied.server("HTTP/1.1 200 OK\r\n\r\n").client("hushhush-in-the-tunnel").server("hushhush-out-of-it").close();
    // A response without a request, one whose body ends with the connection, and a request without a response.
    capture.connection(1003, 80).server("HTTP/1.0 200 OK\r\nSet-Cookie: hushhush\r\n\r\nhushhush-until-close").close();
    capture
        .connection(1004, 80)
        .client(format!("PUT /never HTTP/1.1\r\n{fields}Content-Length: 100\r\n\r\nhushhush-cut"));
}

/// Statements whose literals are secrets, quoted in every way.
const STATEMENTS: [&str; 16] = [
    "SELECT * FROM users WHERE name = 'hushhush'",
    "SELECT * FROM users WHERE name = \"hushhush\"",
    "SELECT * FROM users WHERE name = 'it''s hushhush' AND b = 'a\\'hushhush'",
    "SELECT * FROM users WHERE name = \"say \"\"hushhush\"\"\"",
    "SELECT N'hushhush', _utf8mb4'hushhush', _binary 'hushhush', DATE 'hushhush'",
    "SELECT 'hush' 'hushhush' /* hushhush */ -- hushhush\n, 1 # hushhush",
    "INSERT INTO users VALUES (7777777, -7777777, 7777777.5, 0x7777777, x'77777777', b'1', 1.7777777e10)",
    "SELECT * FROM users WHERE id IN (7777777, 7777777, 7777777)",
    "SET PASSWORD FOR app = 'hushhush'",
    "CREATE USER app IDENTIFIED BY 'hushhush'",
    "ALTER USER app IDENTIFIED WITH mysql_native_password AS '*hushhush'",
    "CHANGE MASTER TO MASTER_USER='repl', MASTER_PASSWORD='hushhush'",
    "GRANT ALL ON *.* TO app IDENTIFIED BY PASSWORD '*hushhush'",
    "CALL login('hushhush', 7777777)",
    "SELECT 1; SET @a = 'hushhush'; SELECT 2",
    "SELECT * FROM users WHERE name = 'hushhush",
];

/// What servers say of errors, with values of statements in it.
const ERRORS: [(u16, &str); 7] = [
    (1062, "Duplicate entry 'hushhush' for key 'users.name'"),
    (1062, "Duplicate entry 'it's hushhush' for key 'users.name'"),
    (1064, "You have an error in your SQL syntax; check the manual near 'hushhush' at line 1"),
    (1064, "You have an error in your SQL syntax; check the manual near '\"hushhush' at line 7777777"),
    (1366, "Incorrect integer value: 'hushhush' for column 'a' at row 1"),
    (1366, "Incorrect integer value: 'hushhush without an end"),
    (1690, "BIGINT value is out of range in '(7777777 + 7777777)'"),
];

fn mysql_sessions(capture: &mut Capture) {
    use mysql::{command, error_payload, greeting, ok, packet, packets, query, result};
    let session = &mut capture.connection(2001, 3306);
    session.server(greeting("8.0.36", mysql::USUAL)).client(clear_password_login());
    // AuthSwitchRequest to mysql_clear_password, which is then sent as it is.
    session
        .server(packet(2, b"\xfemysql_clear_password\0hushhush-challenge\0"))
        .client(packet(3, b"hushhush-password\0"));
    session.server(ok(4));
    for statement in STATEMENTS {
        session.client(query(statement)).server(ok(1));
    }
    for (number, message) in ERRORS {
        session.client(query("INSERT INTO users VALUES ('hushhush')"));
        session.server(packet(1, error_payload(number, "HY000", message)));
    }
    session.client(query("SELECT name FROM users"));
    session.server(packets(1, result(false, &["hushhush-row", "hushhush-other-row"], 2)));
    // COM_STMT_PREPARE, COM_STMT_SEND_LONG_DATA, COM_STMT_EXECUTE with a text and a number for its parameters.
    session.client(command(0x16, "SELECT id FROM users WHERE name = ? AND pin = ? AND kind = 'hushhush'"));
    let mut prepared = vec![b"\0\x01\0\0\0\0\0\x02\0\0\0\0".to_vec()];
    prepared.extend([mysql::definition("a"), mysql::definition("b"), mysql::eof_payload(2)]);
    session.server(packets(1, prepared));
    session.client(command(0x18, b"\x01\0\0\0\0\0hushhush-long-data"));
    let mut values = b"\x01\0\0\0\0\x01\0\0\0\0\x01\xfd\0\x08\0".to_vec();
    values.extend(b"\x10hushhush-a-value");
    values.extend(7_777_777_u64.to_le_bytes());
    session.client(command(0x17, values)).server(ok(1));
    // LOAD DATA LOCAL: the server asks for a file by name, the client sends it.
    session
        .client(query("LOAD DATA LOCAL INFILE 'hushhush.csv' INTO TABLE users"))
        .server(packet(1, b"\xfbhushhush.csv"));
    session.client(packet(2, b"1,hushhush-in-a-file\n")).client(packet(3, b"")).server(ok(4));
    // COM_CHANGE_USER to `app`, with what it answers to a challenge.
    session.client(command(0x11, b"app\0\x10hushhush-scrambleshop\0\x2d\0mysql_native_password\0")).server(ok(1));
    session.close();
    // From the middle of a connection, where the decoder does not know what was agreed.
    let half = &mut capture.on(2002, 3306, false);
    half.client(query(STATEMENTS[0])).server(packet(1, error_payload(1062, "23000", ERRORS[0].1)));
    half.client(query(STATEMENTS[1])).server(ok(1)).close();
}

/// Protocol::HandshakeResponse41 whose answer to the challenge is a password as it is.
fn clear_password_login() -> Vec<u8> {
    let mut payload = ((mysql::USUAL | 8) as u32).to_le_bytes().to_vec();
    payload.extend([0, 0, 0, 1, 45]);
    payload.extend([0; 23]);
    payload.extend(b"app\0\x11hushhush-password");
    payload.extend(b"shop\0mysql_clear_password\0");
    mysql::packet(1, payload)
}

/// A document.
fn doc(fields: &[(&str, Bson)]) -> Bson {
    Bson::Document(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

/// Values of every kind that are secrets.
fn secrets() -> Bson {
    doc(&[
        ("name", "hushhush".into()),
        ("pin", 7_777_777.into()),
        ("long", 7_777_777_000_i64.into()),
        ("amount", 7_777_777.5.into()),
        ("bytes", Bson::Binary(b"hushhush-binary".to_vec())),
        ("pattern", Bson::Regex("hushhush".into(), "i".into())),
        ("code", Bson::Code("hushhush".into())),
        ("scoped", Bson::CodeWithScope("hushhush".into(), vec![("a".into(), "hushhush".into())])),
        ("id", Bson::ObjectId(*b"hushhush-oid")),
        ("list", vec![Bson::from("hushhush"), doc(&[("deep", "hushhush".into())])].into()),
    ])
}

fn mongodb_session(capture: &mut Capture) {
    use mongodb::{answer, ask, compressed, message, msg, sequence};
    let ok = || doc(&[("n", 1.into()), ("ok", 1.0.into())]);
    let session = &mut capture.connection(3001, 27017);
    let payload = || Bson::Binary(b"n,,n=app,r=hushhush-nonce".to_vec());
    let speculative = doc(&[("saslStart", 1.into()), ("mechanism", "PLAIN".into()), ("payload", payload())]);
    let hello = doc(&[("hello", 1.into()), ("speculativeAuthenticate", speculative), ("$db", "admin".into())]);
    let requests = [
        (hello, doc(&[("ok", 1.0.into()), ("speculativeAuthenticate", doc(&[("payload", payload())]))])),
        (
            doc(&[("saslStart", 1.into()), ("payload", payload()), ("$db", "admin".into())]),
            doc(&[("payload", payload()), ("conversationId", 1.into()), ("ok", 1.0.into())]),
        ),
        (doc(&[("saslContinue", 1.into()), ("payload", payload()), ("$db", "admin".into())]), ok()),
        (
            doc(&[
                ("createUser", "app".into()),
                ("pwd", "hushhush".into()),
                ("customData", secrets()),
                ("$db", "shop".into()),
            ]),
            ok(),
        ),
        (
            doc(&[
                ("find", "users".into()),
                ("filter", secrets()),
                ("limit", 7_777_777.into()),
                ("$db", "shop".into()),
            ]),
            doc(&[
                ("cursor", doc(&[("firstBatch", vec![secrets()].into()), ("id", 0_i64.into())])),
                ("ok", 1.0.into()),
            ]),
        ),
        (doc(&[("insert", "users".into()), ("documents", vec![secrets()].into()), ("$db", "shop".into())]), ok()),
        (
            doc(&[
                ("update", "users".into()),
                ("updates", vec![doc(&[("q", secrets()), ("u", doc(&[("$set", secrets())]))])].into()),
                ("$db", "shop".into()),
            ]),
            doc(&[
                ("n", 0.into()),
                ("writeErrors", vec![error("errmsg", ERROR_MESSAGES[0])].into()),
                ("ok", 1.0.into()),
            ]),
        ),
        (
            doc(&[
                ("aggregate", "users".into()),
                ("pipeline", vec![doc(&[("$match", secrets())]), doc(&[("$limit", 7_777_777.into())])].into()),
                ("$db", "shop".into()),
            ]),
            ok(),
        ),
    ];
    let mut id = 0;
    for (request, response) in &requests {
        id += 1;
        session.client(ask(id, request)).server(answer(id, response));
    }
    for text in ERROR_MESSAGES {
        id += 1;
        session.client(ask(id, &doc(&[("find", "users".into()), ("filter", secrets()), ("$db", "shop".into())])));
        session.server(answer(id, &error("errmsg", text)));
    }
    // A document sequence, OP_COMPRESSED, and opcodes of old drivers.
    let insert = doc(&[("insert", "users".into()), ("$db", "shop".into())]);
    let sections = [&[0; 4][..], &[0], &insert.bytes(), &sequence("documents", &[secrets(), secrets()])].concat();
    session.client(message(2013, 101, 0, &sections)).server(answer(101, &ok()));
    let plain = msg(102, 0, 0, &doc(&[("count", "users".into()), ("query", secrets()), ("$db", "shop".into())]));
    session.client(compressed(&plain, 0, <[u8]>::to_vec)).server(answer(102, &ok()));
    let old = [&[0; 4][..], b"shop.users\0", &[0; 4], &[5, 0, 0, 0], &secrets().bytes()].concat();
    let reply = [&[0; 16][..], &1_u32.to_le_bytes(), &secrets().bytes()].concat();
    session.client(message(2004, 103, 0, &old)).server(message(1, 104, 103, &reply));
    session.client(message(2002, 105, 0, &[&[0; 4][..], b"shop.users\0", &secrets().bytes()].concat())).close();
}

/// What a server says of errors. A word of letters only that nothing encloses would stay: docs of the decoder say so.
const ERROR_MESSAGES: [&str; 5] = [
    "E11000 duplicate key error collection: shop.users index: name_1 dup key: { name: \"hushhush\" }",
    "Authentication failed for 'hushhush'",
    "Failed to parse number '7777777' in \"hushhush\"",
    "unknown operator: $hushhush7777777",
    "(hushhush) value 7777777 is out of range [hushhush",
];

fn error(name: &str, text: &str) -> Bson {
    doc(&[("ok", 0.0.into()), (name, text.into()), ("code", 11000.into()), ("codeName", "DuplicateKey".into())])
}
