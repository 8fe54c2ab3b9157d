//! Conversations and the exchanges they mean, however they are cut into segments. Packets are those of the manuals:
//! dev.mysql.com, "Client/Server Protocol"; mariadb.com/kb/en, "Clientserver protocol".

mod support;

use podtap_mysql::MySql;
use podtap_sdk::testing::{Conversation, Cut};
use support::*;

/// The exchanges begin with these lines, in order; attributes are only compared as far as written.
#[track_caller]
fn check(conversation: &Conversation, expected: &[&str]) {
    compare(&conversation.exchanges::<MySql>(), expected);
}

#[track_caller]
fn compare(exchanges: &[String], expected: &[&str]) {
    let short: Vec<_> = exchanges
        .iter()
        .zip(expected.iter().map(Some).chain(std::iter::repeat(None)))
        .map(|(line, expected)| match expected {
            Some(expected) if line.starts_with(*expected) => *expected,
            _ => line,
        })
        .collect();
    assert_eq!(short, expected);
}

/// A connection whose user is logged in; its first exchange is the login.
fn logged_in(capabilities: u64) -> Conversation {
    Conversation::new()
        .server(greeting("8.0.36", capabilities))
        .client(login(capabilities))
        .server(packet(2, [1, 3]))
        .server(ok(3))
}

/// The exchanges behind the login.
#[track_caller]
fn check_behind_login(conversation: &Conversation, expected: &[&str]) {
    let exchanges = conversation.exchanges::<MySql>();
    assert!(exchanges[0].starts_with("ok LOGIN"), "{exchanges:?}");
    compare(&exchanges[1..], expected);
}

#[test]
fn every_fact_of_a_login() {
    check(
        &logged_in(USUAL),
        &["ok LOGIN  request 2..2 (100 bytes) response 3..4 (17 bytes) db.system.name=mysql mysql.connection_id=7 \
           mysql.server_version=8.0.36 db.namespace=shop mysql.user=app mysql.auth_plugin=caching_sha2_password"],
    );
}

#[test]
fn every_path_of_a_login() {
    let hello = || Conversation::new().server(greeting("8.0.36", USUAL)).client(login(USUAL));
    // caching_sha2_password without TLS: full authentication asks for the server's key.
    let full = hello()
        .server(packet(2, [1, 4]))
        .client(packet(3, [2]))
        .server(packet(4, b"\x01-----BEGIN PUBLIC KEY-----"))
        .client(packet(5, [0x77; 256]))
        .server(ok(6));
    check(&full, &["ok LOGIN  request 2..2 (100 bytes) response 3..7"]);
    let switched =
        hello().server(packet(2, b"\xfemysql_native_password\x0012345678901234567890\0")).client(packet(3, [0x11; 20]));
    let line = switched.clone().server(ok(4)).exchanges::<MySql>().remove(0);
    assert!(line.ends_with("mysql.auth_plugin=mysql_native_password"), "{line}");
    let refused = switched.server(packet(4, error_payload(1045, "28000", "Access denied for user 'app'@'192.0.2.1'")));
    let line = refused.exchanges::<MySql>().remove(0);
    assert!(line.starts_with("error LOGIN") && line.contains("db.response.status_code=1045"), "{line}");
    assert!(line.contains("mysql.sqlstate=28000 mysql.error.message=Access denied for user ?"), "{line}");
}

#[test]
fn a_server_that_refuses_at_once_is_told() {
    let refused = Conversation::new().server(packet(0, [&[0xff][..], &[0x10, 4], b"Too many connections"].concat()));
    check(&refused, &["unmatched response 1..1 (27 bytes) db.response.status_code=1040"]);
}

#[test]
fn tls_is_told_and_what_follows_is_left_alone() {
    let request = [&((USUAL | SSL) as u32).to_le_bytes()[..], &[0, 0, 0, 1, 45], &[0; 23]].concat();
    let conversation = Conversation::new()
        .server(greeting("8.0.36", USUAL | SSL))
        .client(packet(1, request))
        .client(b"\x16\x03\x01\x00\x05hello")
        .server(b"\x16\x03\x03\x00\x05hello")
        .client(query("SELECT 1"))
        .close();
    let line = conversation.cut::<MySql>(Cut::Whole);
    compare(&line, &["ok LOGIN  request 2..2 (36 bytes) response 4..4"]);
    assert!(line[0].contains("mysql.tls=true"), "{line:?}");
}

#[test]
fn statements_and_their_results() {
    for eof in [0, DEPRECATE_EOF] {
        let deprecated = eof != 0;
        let conversation = logged_in(USUAL | eof)
            .client(query("SELECT a FROM t WHERE b = 'secret' /* c */"))
            .server(packets(1, result(deprecated, &["x", "yy", ""], 2)))
            .client(query("INSERT INTO t VALUES (1, 'secret')"))
            .server(packet(1, ok_payload(1, 9, 2, 3)))
            .client(query("SELECT nothing FROM t"))
            .server(packets(1, result(deprecated, &[], 2)))
            .client(query("SELEC 'secret'"))
            .server(packet(1, error_payload(1064, "42000", "You have an error near 'SELEC 'secret'' at line 1")));
        check_behind_login(
            &conversation,
            &[
                "ok SELECT t request 5..5 (47 bytes) response 6..6",
                "ok INSERT t request 7..7 (39 bytes) response 8..8 (11 bytes) mysql.command=COM_QUERY db.system.name=mysql \
                 mysql.connection_id=7 db.query.summary=INSERT t db.query.text=INSERT INTO t VALUES (?) \
                 mysql.query.digest=",
                "ok SELECT t",
                "error OTHER ",
            ],
        );
        let lines = conversation.exchanges::<MySql>();
        assert!(lines[1].contains("db.query.text=SELECT a FROM t WHERE b = ? "), "{}", lines[1]);
        assert!(lines[1].ends_with("db.namespace=shop mysql.user=app db.response.returned_rows=3"), "{}", lines[1]);
        assert!(lines[2].ends_with("mysql.affected_rows=1 mysql.insert_id=9 mysql.warnings=3"), "{}", lines[2]);
        assert!(lines[3].ends_with("db.response.returned_rows=0"), "{}", lines[3]);
        assert!(lines[4].contains("mysql.error.message=You have an error near ? at line ?"), "{}", lines[4]);
        assert!(!lines.concat().contains("secret"), "{lines:?}");
    }
}

#[test]
fn a_command_may_have_several_results() {
    for eof in [0, DEPRECATE_EOF] {
        let deprecated = eof != 0;
        let mut payloads = result(deprecated, &["1", "2"], 2 | 8);
        payloads.extend(result(deprecated, &["3"], 2 | 8));
        payloads.push(ok_payload(5, 0, 2, 0));
        let conversation = logged_in(USUAL | eof).client(query("CALL p(1)")).server(packets(1, payloads));
        let line = conversation.exchanges::<MySql>().remove(1);
        assert!(line.starts_with("ok CALL p") && line.contains("db.stored_procedure.name=p"), "{line}");
        assert!(line.ends_with("db.response.returned_rows=3 mysql.affected_rows=5 mysql.results=3"), "{line}");
    }
}

#[test]
fn rows_may_end_in_an_error() {
    let mut payloads = result(true, &["1"], 2);
    payloads.pop();
    payloads.push(error_payload(1317, "70100", "Query execution was interrupted"));
    let conversation = logged_in(USUAL | DEPRECATE_EOF).client(query("SELECT a FROM t")).server(packets(1, payloads));
    check_behind_login(&conversation, &["error SELECT t"]);
}

/// COM_STMT_PREPARE_OK with its definitions.
fn prepared(id: u8, columns: u8, parameters: u8, deprecate_eof: bool) -> Vec<u8> {
    let mut payloads = vec![vec![0, id, 0, 0, 0, columns, 0, parameters, 0, 0, 0, 0]];
    for count in [parameters, columns].into_iter().filter(|&count| count > 0) {
        payloads.extend((0..count).map(|_| definition("?")));
        if !deprecate_eof {
            payloads.push(eof_payload(2));
        }
    }
    packets(1, payloads)
}

fn execute(id: u8) -> Vec<u8> {
    command(0x17, [id, 0, 0, 0, 0, 1, 0, 0, 0])
}

#[test]
fn prepared_statements_are_known_by_their_id() {
    for eof in [0, DEPRECATE_EOF] {
        let deprecated = eof != 0;
        let conversation = logged_in(USUAL | eof)
            .client(command(0x16, "SELECT a FROM t WHERE b = ? AND c = 'secret'"))
            .server(prepared(1, 1, 2, deprecated))
            .client(command(0x16, "UPDATE u SET a = ?"))
            .server(prepared(2, 0, 1, deprecated))
            .client(command(0x18, b"\x01\0\0\0\0\0secret"))
            .client(execute(1))
            .server(packets(1, result(deprecated, &["x"], 2)))
            .client(execute(2))
            .server(ok(1))
            .client(command(0x1a, [1, 0, 0, 0]))
            .server(ok(1))
            .client(command(0x19, [1, 0, 0, 0]))
            .client(execute(1))
            .server(packet(1, error_payload(1243, "HY000", "Unknown prepared statement handler (1)")));
        check_behind_login(
            &conversation,
            &[
                "ok PREPARE t request 5..5",
                "ok PREPARE u request 7..7",
                "ok SELECT t request 10..10",
                "ok UPDATE u request 12..12",
                "ok RESET t request 14..14",
                "error EXECUTE ",
            ],
        );
        let lines = conversation.exchanges::<MySql>();
        assert!(lines[3].contains(
            "mysql.statement_id=1 db.query.summary=SELECT t db.query.text=SELECT a FROM t WHERE b = ? AND c = ? "
        ));
        assert!(lines[3].ends_with("db.response.returned_rows=1"), "{}", lines[3]);
        assert!(lines[6].contains("mysql.command=COM_STMT_EXECUTE"), "{}", lines[6]);
    }
}

/// MariaDB's drivers send an execution along with the statement, before its id is known.
#[test]
fn the_statement_prepared_last_is_known_before_the_server_has_answered() {
    let last = command(0x17, [0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0]);
    let conversation = logged_in(USUAL | DEPRECATE_EOF)
        .client(command(0x16, "SELECT a FROM t"))
        .server(prepared(1, 1, 0, true))
        .client([command(0x16, "UPDATE u SET a = 1"), last.clone()].concat())
        .server([prepared(2, 0, 0, true), ok(1)].concat())
        .client(execute(1))
        .server(packets(1, result(true, &["x"], 2)))
        .client(&last)
        .server(ok(1))
        .client(command(0x1f, ""))
        .server(ok(1))
        .client(&last)
        .server(packet(1, error_payload(1243, "HY000", "Unknown prepared statement handler")));
    check_behind_login(
        &conversation,
        &[
            "ok PREPARE t request 5..5",
            "ok PREPARE u request 7..7",
            "ok UPDATE u request 7..7",
            "ok SELECT t request 9..9",
            "ok UPDATE u request 11..11",
            "ok RESET_CONNECTION ",
            "error EXECUTE ",
        ],
    );
}

#[test]
fn cursors_are_fetched() {
    let open = [vec![1], definition("a"), eof_payload(0x42)];
    let row = vec![0, 0, 1, b'x'];
    let conversation = logged_in(USUAL)
        .client(execute(9))
        .server(packets(1, open))
        .client(command(0x1c, [9, 0, 0, 0, 2, 0, 0, 0]))
        .server(packets(1, [row.clone(), row, eof_payload(0x42)]))
        .client(command(0x1c, [9, 0, 0, 0, 2, 0, 0, 0]))
        .server(packets(1, [eof_payload(0x82)]));
    let lines = conversation.exchanges::<MySql>();
    assert!(lines[1].ends_with("mysql.cursor=true") && !lines[1].contains("returned_rows"), "{lines:?}");
    assert!(lines[2].contains("ok FETCH") && lines[2].contains("db.response.returned_rows=2"), "{lines:?}");
    assert!(lines[3].ends_with("db.response.returned_rows=0"), "{lines:?}");
}

#[test]
fn every_other_command() {
    let conversation = logged_in(USUAL)
        .client(command(0x0e, ""))
        .server(ok(1))
        .client(command(2, "other"))
        .server(ok(1))
        .client(command(9, ""))
        .server(packet(1, "Uptime: 1  Threads: 1"))
        .client(query("USE `third`"))
        .server(ok(1))
        .client(command(4, "t\0"))
        .server(packets(1, [definition("a"), definition("b"), eof_payload(2)]))
        .client(command(0x1b, [0, 0]))
        .server(packet(1, eof_payload(2)))
        .client(command(0x1f, ""))
        .server(ok(1))
        .client(command(0x11, b"root\0\0fourth\0\x2d\0mysql_native_password\0"))
        .server(packet(1, b"\xfemysql_native_password\x0012345678901234567890\0"))
        .client(packet(2, [3; 20]))
        .server(ok(3))
        .client(command(0x0c, [1, 0, 0, 0]))
        .server(packet(1, error_payload(1094, "HY000", "Unknown thread id: 1")))
        .client(command(1, ""))
        .client_end()
        .server_end()
        .close();
    check_behind_login(
        &conversation,
        &[
            "ok PING ",
            "ok INIT_DB other",
            "ok STATISTICS ",
            "ok USE third",
            "ok FIELD_LIST ",
            "ok SET_OPTION ",
            "ok RESET_CONNECTION ",
            "ok CHANGE_USER ",
            "error PROCESS_KILL ",
        ],
    );
    let lines = conversation.exchanges::<MySql>();
    let namespaces: Vec<_> = lines.iter().map(|line| line.split("db.namespace=").nth(1).unwrap_or_default()).collect();
    let namespaces: Vec<_> = namespaces.iter().map(|rest| rest.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(
        namespaces,
        ["shop", "shop", "other", "other", "other", "third", "third", "third", "fourth", "fourth"],
        "{lines:#?}"
    );
    assert!(lines[9].contains("mysql.user=root"), "{}", lines[9]);
}

#[test]
fn a_file_is_counted_and_never_kept() {
    let conversation = logged_in(USUAL)
        .client(query("LOAD DATA LOCAL INFILE '/tmp/secret' INTO TABLE t"))
        .server(packet(1, b"\xfb/tmp/secret"))
        .client(packet(2, "1,secret\n"))
        .client(packet(3, "2,secret\n"))
        .client(packet(4, ""))
        .server(packet(5, ok_payload(2, 0, 2, 0)))
        .client(query("SELECT 1"))
        .server(packets(1, result(false, &["1"], 2)));
    check_behind_login(&conversation, &["ok LOAD t", "ok SELECT "]);
    let lines = conversation.exchanges::<MySql>();
    assert!(lines[1].ends_with("mysql.affected_rows=2 mysql.local_infile_bytes=18"), "{}", lines[1]);
    assert!(!lines.concat().contains("secret"), "{lines:?}");
}

#[test]
fn query_attributes_stand_before_the_statement() {
    let capabilities = USUAL | QUERY_ATTRIBUTES;
    let none = [b"\0\x01", &b"SELECT 1"[..]].concat();
    // Two of them: a string named n1, an 8-byte integer named n2.
    let two = [&b"\x02\x01\0\x01\xfe\0\x02n1\x08\0\x02n2\x06secret"[..], &[7, 0, 0, 0, 0, 0, 0, 0], b"SELECT 2 FROM t"];
    let conversation = logged_in(capabilities)
        .client(command(3, none))
        .server(packets(1, result(false, &["1"], 2)))
        .client(command(3, two.concat()))
        .server(packets(1, result(false, &["1"], 2)));
    check_behind_login(&conversation, &["ok SELECT ", "ok SELECT t"]);
    assert!(!conversation.exchanges::<MySql>().concat().contains("secret"));
}

#[test]
fn metadata_may_be_left_out() {
    for eof in [0, DEPRECATE_EOF] {
        let deprecated = eof != 0;
        let mut without = vec![vec![1, 0]];
        without.extend(result(deprecated, &["x", "y"], 2).into_iter().skip(2));
        let mut with = result(deprecated, &["x"], 2);
        with[0] = vec![1, 1];
        let conversation = logged_in(USUAL | OPTIONAL_METADATA | eof)
            .client(query("SELECT a FROM t"))
            .server(packets(1, without))
            .client(query("SELECT a FROM u"))
            .server(packets(1, with));
        check_behind_login(&conversation, &["ok SELECT t", "ok SELECT u"]);
        let lines = conversation.exchanges::<MySql>();
        assert!(lines[1].ends_with("returned_rows=2") && lines[2].ends_with("returned_rows=1"), "{lines:?}");
    }
}

#[test]
fn mariadbs_own() {
    // Without the flag CLIENT_MYSQL: the upper capabilities are MariaDB's; bulk operations and metadata that is cached.
    let capabilities = USUAL & !1 | DEPRECATE_EOF | 0b1_0101 << 32;
    let mut cached = vec![vec![1, 0]];
    cached.extend(result(true, &["x"], 2).into_iter().skip(2));
    let progress = [&b"\xff\xff\xff\x01\x01\x02"[..], &[0, 0, 0], b"\x05stage"].concat();
    let conversation = Conversation::new()
        .server(greeting("11.4.2-MariaDB", capabilities))
        .client(login(capabilities))
        .server(ok(2))
        .client(query("ALTER TABLE t ADD b INT"))
        .server(packet(1, &progress))
        .server(packet(2, &progress))
        .server(packet(3, ok_payload(0, 0, 2, 0)))
        .client(execute(3))
        .server(packets(1, cached))
        .client(command(0xfa, [3, 0, 0, 0, 0x80, 0, 3, 0, 0, 1]))
        .server(packet(1, ok_payload(2, 0, 2, 0)));
    check_behind_login(&conversation, &["ok ALTER TABLE t request", "ok EXECUTE ", "ok BULK_EXECUTE "]);
    let lines = conversation.exchanges::<MySql>();
    assert!(lines[0].contains("db.system.name=mariadb"), "{}", lines[0]);
    assert!(lines[1].contains("response 5..7"), "{}", lines[1]);
}

#[test]
fn progress_reports_end_no_result() {
    let progress = b"\xff\xff\xff\x01\x01\x02\0\0\0\x05stage".to_vec();
    for (capabilities, deprecated) in [(USUAL, false), (USUAL | DEPRECATE_EOF, true)] {
        let payloads = result(deprecated, &["x", "y"], 2);
        for place in 1..payloads.len() {
            let mut payloads = payloads.clone();
            payloads.splice(place..place, [progress.clone(), progress.clone()]);
            let conversation = logged_in(capabilities)
                .client(query("CHECK TABLE t"))
                .server(packets(1, payloads))
                .client(query("SELECT 1"))
                .server(packet(1, error_payload(1105, "HY000", "no")));
            check_behind_login(&conversation, &["ok CHECK", "error SELECT"]);
            let lines = conversation.exchanges::<MySql>();
            assert!(lines[1].contains("db.response.returned_rows=2"), "{}", lines[1]);
        }
    }
}

#[test]
fn the_server_may_tell_of_another_database() {
    // Session state: the schema, type 1.
    let mut changed = ok_payload(0, 0, 0x4002, 0);
    changed.extend_from_slice(b"\0\x07\x01\x05\x04next");
    let conversation = logged_in(USUAL | SESSION_TRACK)
        .client(query("CALL change_database()"))
        .server(packet(1, changed))
        .client(command(0x0e, ""))
        .server(ok(1));
    let lines = conversation.exchanges::<MySql>();
    assert!(lines[2].contains("db.namespace=next"), "{}", lines[2]);
}

#[test]
fn replication_is_told_and_left_alone() {
    let conversation = logged_in(USUAL)
        .client(command(0x12, b"\x04\0\0\0\0\0\x01\0\0\0binlog.1"))
        .server(packet(1, [0; 40]))
        .server(packet(2, [0; 40]))
        .close();
    check_behind_login(&conversation, &["ok BINLOG_DUMP  request 5..5"]);
}

#[test]
fn large_packets_are_passed_over() {
    const MAX: usize = 0xff_ffff;
    // A row of 16 MiB - 1 + 100 bytes: its length takes 9 bytes, and the packet is continued.
    let value = MAX + 100 - 9;
    let mut row = vec![0xfe];
    row.extend_from_slice(&(value as u64).to_le_bytes());
    row.resize(MAX, b'x');
    let conversation = logged_in(USUAL | DEPRECATE_EOF)
        .client(query("SELECT a FROM t"))
        .server(packets(1, [vec![1], definition("a")]))
        .server(packet(3, &row))
        .server(packet(4, [b'x'; 100]))
        .server(packets(5, [end_payload(true, 2)]))
        .client(packet(0, [b"\x03SELECT '", &[b'y'; MAX - 9][..]].concat()))
        .client(packet(1, b"' FROM t"))
        .server(packets(2, result(true, &["1"], 2)));
    let lines = conversation.cut::<MySql>(Cut::Pieces(1460));
    compare(&lines[1..], &["ok SELECT t request 5..5", "ok SELECT  request 10..11"]);
    assert!(lines[1].ends_with("db.response.returned_rows=1"), "{}", lines[1]);
    assert!(lines[2].contains("mysql.query.truncated=true") && lines[2].ends_with("returned_rows=1"), "{}", lines[2]);
    assert_eq!(lines, conversation.cut::<MySql>(Cut::Whole));
}

#[test]
fn a_connection_seen_from_its_middle() {
    for eof in [false, true] {
        let conversation = Conversation::midstream()
            .client(query("SELECT a FROM t"))
            .server(packets(1, result(eof, &["x"], 2)))
            .client(execute(4))
            .server(packets(1, result(eof, &["x", "y"], 2)))
            .client(command(0x16, "SELECT ? FROM t"))
            .server(prepared(5, 1, 1, eof))
            .client(execute(5))
            .server(packets(1, result(eof, &["x"], 2)));
        let lines = conversation.cut::<MySql>(Cut::Whole);
        compare(&lines, &["ok SELECT t", "ok EXECUTE ", "ok PREPARE t", "ok SELECT t"]);
        assert!(lines[1].ends_with("returned_rows=2"), "{}", lines[1]);
    }
}

#[test]
fn a_first_response_that_is_lost_is_not_the_next_one() {
    let conversation = Conversation::midstream()
        .client(query("SELECT a FROM t"))
        .server_gap(11)
        .client(query("SELECT a FROM u"))
        .server(ok(1))
        .client(query("SELECT a FROM v"))
        .server(ok(1));
    let expected = ["no_response SELECT t", "ok SELECT u", "ok SELECT v"];
    compare(&conversation.cut::<MySql>(Cut::Whole), &expected);
}

#[test]
fn a_gap_in_rows_is_a_loss_and_what_cannot_be_known_is_not_told() {
    let payloads = result(true, &["abcdefgh", "abcdefgh"], 2);
    let bytes = packets(1, payloads);
    let (start, lost, rest) = (bytes.len() - 24 - 2, 6, bytes.len() - 24 + 4);
    let conversation = logged_in(USUAL | DEPRECATE_EOF)
        .client(query("SELECT a FROM t"))
        .server(&bytes[..start])
        .server_gap(lost)
        .server(&bytes[rest..])
        .client(query("SELECT 2"))
        .server(packets(1, result(true, &["1"], 2)));
    let lines = conversation.cut::<MySql>(Cut::Whole);
    assert!(lines[2].starts_with("ok SELECT  request"), "{lines:#?}");
    assert!(lines[1].contains("lost 6"), "{lines:#?}");
}

#[test]
fn a_gap_over_a_response_pairs_nothing_wrongly() {
    let conversation = logged_in(USUAL | DEPRECATE_EOF)
        .client(query("SELECT 1 FROM a"))
        .server_gap(100)
        .client(query("SELECT 2 FROM b"))
        .server(packets(1, result(true, &["1", "2"], 2)))
        .client(query("SELECT 3 FROM c"))
        .server(packets(1, result(true, &["1", "2", "3"], 2)));
    let lines = conversation.cut::<MySql>(Cut::Whole);
    compare(&lines[1..], &["no_response SELECT a", "ok SELECT b", "ok SELECT c"]);
    assert!(lines[2].ends_with("returned_rows=2") && lines[3].ends_with("returned_rows=3"), "{lines:#?}");
}

#[test]
fn a_gap_over_a_command_leaves_its_response_unmatched() {
    let conversation = logged_in(USUAL | DEPRECATE_EOF)
        .client_gap(20)
        .server(packets(1, result(true, &["1"], 2)))
        .client(query("SELECT 2 FROM b"))
        .server(packets(1, result(true, &["1", "2"], 2)));
    let lines = conversation.cut::<MySql>(Cut::Whole);
    compare(&lines[1..], &["unmatched response 6..6", "ok SELECT b"]);
}

#[test]
fn a_response_whose_command_was_lost_answers_no_other_one() {
    let conversation = logged_in(USUAL | DEPRECATE_EOF)
        .client(query("SELECT 1 FROM a"))
        .server_gap(100)
        // Of a command that was lost as well.
        .server(packet(1, ok_payload(1, 0, 2, 0)))
        .client_gap(20)
        .client(query("SELECT 3 FROM c"))
        .server(packets(1, result(true, &["1", "2", "3"], 2)))
        .client(query("SELECT 4 FROM d"))
        .server(packets(1, result(true, &["1", "2"], 2)));
    let lines = conversation.cut::<MySql>(Cut::Whole);
    // Both sides lost something: what follows at once is not paired, what is asked after an answer is.
    compare(&lines[1..], &["no_response SELECT a", "unmatched response 10..10", "no_response SELECT c", "ok SELECT d"]);
}

#[test]
fn a_connection_seen_from_the_middle_of_a_response() {
    let conversation = Conversation::midstream()
        .server(packets(9, [b"\x01x"]))
        .client(query("SELECT a FROM t"))
        .server(packets(1, result(true, &["x"], 2)));
    compare(&conversation.cut::<MySql>(Cut::Whole), &["ok SELECT t"]);
}
