//! No literal of any statement is in any event at defaults, and no error repeats one.

mod support;

use podtap_mysql::MySql;
use podtap_sdk::testing::{Conversation, Cut};
use proptest::prelude::*;
use support::*;

/// What every literal holds.
const SECRET: &str = "s3cr3t";
const SECRET_NUMBER: &str = "7777777";

/// A literal that holds a secret, as each way of writing one allows.
fn literal() -> impl Strategy<Value = String> {
    let inside = "[ a-z'\"`\\\\;#*/()?,%-]{0,12}";
    let quoted = (inside, inside, prop::sample::select(vec!['\'', '"'])).prop_map(|(before, after, quote)| {
        let text = format!("{before}{SECRET}{after}").replace('\\', "\\\\");
        let doubled = text.replace(quote, &format!("{quote}{quote}"));
        format!("{quote}{doubled}{quote}")
    });
    let escaped = (inside, prop::sample::select(vec!['\'', '"'])).prop_map(|(before, quote)| {
        let text = before.replace('\\', "\\\\").replace(quote, &format!("\\{quote}"));
        format!("{quote}{text}{SECRET}\\{quote}{SECRET}{quote}")
    });
    let prefixed = (prop::sample::select(vec!["N", "n", "_utf8mb4", "_binary ", "DATE "]), quoted.clone())
        .prop_map(|(prefix, literal)| format!("{prefix}{literal}"));
    let number =
        prop::sample::select(vec!["{}", "-{}", "+{}", "{}.5", ".{}", "1.{}e10", "{}e-3", "0x{}", "0b{}", "x'{}'"])
            .prop_map(|form| form.replace("{}", SECRET_NUMBER));
    let joined = (quoted.clone(), escaped.clone()).prop_map(|(first, second)| format!("{first} {second}"));
    prop_oneof![quoted, escaped, prefixed, number, joined]
}

fn comment() -> impl Strategy<Value = String> {
    let inside = "[ a-z'\"`;?,%-]{0,10}";
    prop_oneof![
        inside.prop_map(|text| format!("/* {text}{SECRET}{text} */")),
        inside.prop_map(|text| format!("-- {text}{SECRET}{text}\n")),
        inside.prop_map(|text| format!("#{text}{SECRET}{text}\n")),
        Just(format!("/*+ {SECRET} */")),
    ]
}

/// What may stand between literals.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec![
            "SELECT", "FROM", "WHERE", "IN", "VALUES", "(", ")", ",", "=", "<>", "AND", "t1", "`a b`", "`q``'`", "db.t", "f(",
            "INSERT INTO t", "UPDATE t SET a", "+", "-", ".", "@v", ":=", "NULL", "?", ";", "/*!40101", "*/", "LIKE", "--1",
            "SET", "CALL p(", "COUNT(*)", "\t", "\n",
        ])
        .prop_map(str::to_owned),
        2 => comment(),
    ]
}

fn statement() -> impl Strategy<Value = String> {
    let piece = prop_oneof![3 => word(), 2 => literal()];
    (prop::collection::vec(piece, 1..30), prop::collection::vec(prop::sample::select(vec![" ", " ", "\n"]), 30))
        .prop_map(|(pieces, spaces)| {
            let joined = pieces.iter().zip(spaces).map(|(piece, space)| format!("{piece}{space}"));
            joined.collect::<String>()
        })
}

fn check(conversation: &Conversation, sql: &str) {
    let lines = conversation.cut::<MySql>(Cut::Whole).join("\n");
    assert!(!lines.contains(SECRET), "{sql}\n{lines}");
    // Digests and ids have digits, too, but none so many of a kind.
    assert!(!lines.contains(SECRET_NUMBER), "{sql}\n{lines}");
}

/// Collations whose characters may have a backslash or a backtick as their second byte.
const SJIS: u8 = 13;
const BIG5: u8 = 1;
const GBK: u8 = 28;
const UTF8: u8 = 45;

/// Events of a statement in a session that was logged in to with a collation; midstream without one.
fn events(collation: Option<u8>, sql: &[u8]) -> String {
    let conversation = match collation {
        None => Conversation::midstream(),
        Some(collation) => {
            let mut login = login(USUAL);
            login[12] = collation;
            Conversation::new().server(greeting("8.0.36", USUAL)).client(login).server(ok(2))
        }
    };
    conversation.client(command(3, sql)).server(ok(1)).cut::<MySql>(Cut::Whole).join("\n")
}

/// Nothing secret of the statement is in its event, which says whether it shows all of the text.
#[track_caller]
fn hides(collation: Option<u8>, sql: impl AsRef<[u8]>, text: &str, truncated: bool) {
    let sql = sql.as_ref();
    let lines = events(collation, sql);
    let shown = String::from_utf8_lossy(sql.get(..200).unwrap_or(sql));
    assert!(!lines.contains(SECRET) && !lines.contains(SECRET_NUMBER), "{shown}\n{lines}");
    assert!(lines.contains(&format!("db.query.text={text} mysql.query.digest=")), "{shown}\n{lines}");
    assert_eq!(lines.contains("mysql.query.truncated"), truncated, "{shown}\n{lines}");
}

#[test]
fn every_form_of_a_literal_is_hidden() {
    for literal in [
        "'s3cr3t'",
        "\"s3cr3t\"",
        "N's3cr3t'",
        "_utf8's3cr3t'",
        "_utf8mb4 's3cr3t'",
        "x'7777777'",
        "X'7777777'",
        "b'7777777'",
        "0x7777777",
        "0b7777777",
        "7777777",
        "-7777777",
        ".7777777",
        "1.7777777e1",
        "'s3cr3t' 's3cr3t'",
        "'s3cr3t",
        "\"s3cr3t",
        "x'7777777",
        "N's3cr3t",
        "_utf8'it''s s3cr3t",
        "'it\\'s s3cr3t",
        "$$ `s3cr3t` it's $$",
        "$tag$ // 7777777 $$ $tag$",
    ] {
        let lines = events(Some(UTF8), format!("SELECT {literal}").as_bytes());
        assert!(!lines.contains(SECRET) && !lines.contains(SECRET_NUMBER), "{literal}\n{lines}");
    }
    hides(Some(UTF8), "CREATE FUNCTION f AS $js$ `s3cr3t` $js$ , 1", "CREATE FUNCTION f AS ? , ?", false);
    hides(Some(UTF8), "CREATE FUNCTION f AS $js$ `s3cr3t` $$", "CREATE FUNCTION f AS ?", true);
}

#[test]
fn a_mark_without_its_end_hides_all_behind_the_first() {
    hides(None, "INSERT INTO `users VALUES ('bob','s3cr3t')", "INSERT INTO ?", true);
    hides(None, "SELECT a` FROM t WHERE b = 7777777 AND `c` = 1", "SELECT a?", true);
    hides(None, "SELECT a FROM t WHERE b = 'O'Brien' AND c = 's3cr3t'", "SELECT a FROM t WHERE b = ?", true);
    hides(
        None,
        "SELECT a FROM t WHERE b = 'a\\\\' AND c IN ('it'' , 's3cr3t', 's')",
        "SELECT a FROM t WHERE b = ?",
        true,
    );
    // However far behind: in a text that is longer than what is kept, and in one that is cut.
    for rows in [300, 3000] {
        let rows = "('Ann','s3cr3t'),".repeat(rows);
        hides(
            None,
            format!("INSERT INTO u (n,m) VALUES ('O'Brien','s3cr3t'),{rows}(1,2)"),
            "INSERT INTO u (n,m) VALUES (?",
            true,
        );
    }
    let columns = "a , ".repeat(2000);
    hides(None, format!("SELECT b = ' O ' Brien ' , ' s3cr3t ' , {columns} c"), "SELECT b = ?", true);
}

#[test]
fn a_word_beside_a_string_hides_all_behind_the_first() {
    // Each mark has its end, and yet they are not what they seem.
    hides(None, "INSERT t VALUES ('O'Brien','s3cr3t'),('D'Arcy','s3cr3t')", "INSERT t VALUES (?", true);
    hides(None, "SELECT `a` = 'b' , c's3cr3t', s3cr3t'", "SELECT ?", true);
    hides(
        Some(UTF8),
        "SELECT a FROM t WHERE b='s3cr3t'AND c LIKE's3cr3t'or\"d\"IN('s3cr3t')",
        "SELECT a FROM t WHERE b=?AND c LIKE?or?IN(?)",
        false,
    );
}

#[test]
fn what_is_no_name_is_hidden() {
    hides(None, "SELECT a` , 's3cr3t' , `b", "SELECT a?b", false);
    hides(None, "USE `s3cr3t'`", "USE ?", false);
    hides(None, format!("SELECT `{}` FROM t", SECRET.repeat(1000)), "SELECT ? FROM t", false);
    let lines = events(None, format!("SELECT {}", "a".repeat(10_000)).as_bytes());
    assert!(lines.len() < 5000 && lines.contains("mysql.query.truncated"), "{lines}");
}

#[test]
fn comments_hide_what_they_hold_and_swap_nothing() {
    hides(None, "SELECT 1 /* 's3cr3t", "SELECT ?", false);
    hides(None, "SELECT 1 --\x7f it's\n, 's3cr3t'", "SELECT ? , ?", false);
    // A comment for a version that this server is not: it ends where it ends, whatever is open in it.
    hides(None, "/*!99999 it's */ SELECT 's3cr3t', 'it''s'", "?", true);
    hides(None, "/*M!999999 it's */ SELECT 's3cr3t', 'a\\'s'", "?", true);
    hides(None, "/*!99999 a ` */ SELECT 7777777, `b`", "a ?", true);
    hides(None, "/*!99999 # */ SELECT 'a\n s3cr3t'", "?", true);
    hides(None, "/*!40101 SET @a='s3cr3t' */ , 's3cr3t'", "SET @a=? , ?", false);
    // The end of none, and a comment in a comment.
    hides(None, "SELECT */* s3cr3t */ FROM t", "SELECT * FROM t", false);
    hides(None, "SELECT a*/* it's */2, 's3cr3t' /* it's */", "SELECT a* ?, ?", false);
    hides(None, "/*!99999 a /*!99999 b */ it's */ SELECT 's3cr3t' /* it's */", "a ?", true);
}

#[test]
fn characters_of_two_bytes_end_no_literal() {
    // Half-width katakana are one byte.
    hides(Some(SJIS), b"INSERT t VALUES ('\xb1', 's3cr3t')", "INSERT t VALUES (?)", false);
    hides(Some(SJIS), b"SELECT a IN ('\x83\\', 's3cr3t')", "SELECT a IN (?)", false);
    for collation in [SJIS, BIG5, GBK] {
        // What is no second byte stands for itself.
        hides(Some(collation), b"SELECT '\xe0', 's3cr3t'", "SELECT ?, ?", false);
        hides(Some(collation), b"SELECT 'a\xe0\"', 's3cr3t'", "SELECT ?, ?", false);
        let names = b"SELECT \xe0` , `\xe0`a` FROM t WHERE a = 7777777 AND b = 's3cr3t'";
        let lines = events(Some(collation), names);
        assert!(lines.contains(" FROM t WHERE a = ? AND b = ?"), "{lines}");
        assert!(!lines.contains("truncated"), "{lines}");
    }
    hides(Some(GBK), b"SELECT '\x81\x30\x81\x30\\'s3cr3t', 's3cr3t'", "SELECT ?, ?", false);
    hides(Some(BIG5), b"SELECT '\x81\\'s3cr3t', 's3cr3t'", "SELECT ?, ?", false);
}

#[test]
fn nothing_is_shown_behind_what_an_unknown_character_set_may_turn_round() {
    // SET NAMES gbk is seen by nobody: is it a letter before an escaped quotation mark, or one character and the end?
    hides(Some(UTF8), b"SELECT '\x83\\', 's3cr3t', 'a\\'s'", "SELECT ?", true);
    hides(Some(UTF8), b"SELECT '\x83\\\\', 's3cr3t\\''", "SELECT ?", true);
    hides(Some(UTF8), b"SELECT '\x83\\n', 's3cr3t'", "SELECT ?, ?", false);
    hides(Some(UTF8), b"SELECT * FROM \x83` WHERE a = 7777777 AND \x83` = 1", "SELECT * FROM \u{fffd}?", true);
    hides(Some(UTF8), b"SELECT `\x83`` , 7777777 , `b`", "SELECT ?", true);
    hides(Some(UTF8), b"SELECT `\x83`a` , 7777777 , `b`", "SELECT ?", true);
    hides(Some(UTF8), "SELECT `\u{e9}`, `\u{e9}`.`a` FROM t", "SELECT `\u{e9}`, `\u{e9}`.`a` FROM t", false);
}

#[test]
fn a_character_set_that_was_known_may_be_another_one_behind_set() {
    let insert = "INSERT t VALUES ('\u{4f60}\\'s3cr3t', '\u{4f60}\\'x')";
    for (packets, is_prepared) in [
        (vec![query("SET NAMES utf8mb4")], false),
        (vec![query("SELECT 1; /*!40101 SET character_set_client = utf8mb4 */")], false),
        (vec![command(0x1f, [])], false),
        (vec![command(0x17, [1, 0, 0, 0, 0, 1, 0, 0, 0])], true),
    ] {
        let mut login = login(USUAL);
        login[12] = GBK;
        let mut conversation = Conversation::new().server(greeting("8.0.36", USUAL)).client(login).server(ok(2));
        if is_prepared {
            conversation = conversation
                .client(command(0x16, "SET NAMES utf8mb4"))
                .server(packet(1, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        }
        for packet in packets {
            conversation = conversation.client(packet).server(ok(1));
        }
        let lines = conversation.client(query(insert)).server(ok(1)).cut::<MySql>(Cut::Whole).join("\n");
        assert!(!lines.contains(SECRET) && lines.contains("INSERT t VALUES (?"), "{lines}");
    }
}

#[test]
fn what_may_be_misread_is_not_shown_of_a_statement_that_is_cut() {
    // In a session with NO_BACKSLASH_ESCAPES, of which nothing is known, or not known any more.
    let literals = "'a\\', ' , s3cr3t FROM s3cr3t WHERE ', ".repeat(1000);
    for collation in [None, Some(UTF8)] {
        hides(collation, format!("SELECT b, {literals}"), "SELECT b, ?", true);
    }
    let literals = format!("'a\\', ') s3cr3t, {} ', ", "s3cr3t, ".repeat(1000));
    let in_list = format!("SELECT b FROM t WHERE c IN (1, 2, 3, 4, {literals}");
    hides(Some(UTF8), &in_list, "SELECT b FROM t WHERE c IN (?", true);
    hides(None, &in_list, "SELECT b FROM t WHERE c IN (?, ?, ?, ?, ?", true);
    let literals = "'a\\'b', ".repeat(100);
    hides(Some(UTF8), format!("SELECT {literals}"), &format!("SELECT {}?,", "?, ".repeat(99)), false);
}

#[test]
fn nothing_is_shown_behind_a_backslash_that_may_be_none() {
    // The server has not said whether it escapes.
    hides(None, "SELECT 'a\\', 's3cr3t #'", "SELECT ?", true);
    hides(None, "SELECT 'a\\\\', 's3cr3t'", "SELECT ?, ?", false);
    hides(None, "SELECT 'a\\n', 's3cr3t'", "SELECT ?, ?", false);
    for (run, text, truncated) in [(5000, "SELECT ?, ?", false), (5001, "SELECT ?", true)] {
        hides(None, format!("SELECT 'a{}', 's3cr3t'", "\\".repeat(run)), text, truncated);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_literal_leaks(sql in statement(), keep in 0_usize..400) {
        let near = sql.chars().take(80).collect::<String>();
        let message = format!("You have an error in your SQL syntax near '{near}' at line 1");
        let hello = Conversation::new().server(greeting("8.0.36", USUAL)).client(login(USUAL)).server(ok(2));
        let conversation = hello
            .client(query(&sql))
            .server(packet(1, error_payload(1064, "42000", &message)))
            .client(command(0x16, &sql))
            .server(packet(1, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
            .client(command(0x17, [1, 0, 0, 0, 0, 1, 0, 0, 0]))
            .server(packet(1, error_payload(1062, "23000", &format!("Duplicate entry '{SECRET}' for key 'a'"))));
        check(&conversation, &sql);
        // A statement that is cut anywhere, in a literal perhaps, and one behind 16 KiB.
        let cut = sql.char_indices().map(|(at, _)| at).find(|&at| at >= keep).unwrap_or(sql.len());
        let padded = format!("SELECT a{} , {}", " ".repeat(16 * 1024 - 12 - cut.min(300)), sql);
        for sql in [&sql[..cut], &padded] {
            check(&Conversation::midstream().client(query(sql)).server(ok(1)), sql);
        }
    }

    #[test]
    fn no_literal_leaks_without_backslash_escapes(parts in prop::collection::vec("[ a-z\"\\\\;#*/()?,-]{0,12}", 1..6)) {
        let literals: Vec<_> = parts.iter().map(|part| format!("'{part}{SECRET}{part}'")).collect();
        let sql = format!("SELECT {}", literals.join(" , "));
        let conversation = Conversation::new()
            .server(greeting("8.0.36", USUAL))
            .client(login(USUAL))
            .server(packet(2, ok_payload(0, 0, 0x0202, 0)))
            .client(query(&sql))
            .server(ok(1));
        check(&conversation, &sql);
    }

    #[test]
    fn no_literal_leaks_in_any_character_set(
        collation in prop::sample::select(vec![SJIS, BIG5, GBK]),
        parts in prop::collection::vec(prop::collection::vec((0x81_u8..=0xfe, 0x40_u8..=0xfe), 0..6), 1..6),
    ) {
        let is_pair = |lead: u8, trail: u8| {
            let leads = match collation {
                SJIS => matches!(lead, 0x81..=0x9f | 0xe0..=0xfc),
                BIG5 => matches!(lead, 0xa1..=0xf9),
                _ => true,
            };
            leads && matches!(trail, 0x40..=0x7e | 0xa1..=0xfc)
        };
        let mut sql = b"SELECT ".to_vec();
        for part in parts {
            let pairs: Vec<u8> =
                part.into_iter().filter(|&(lead, trail)| is_pair(lead, trail)).flat_map(<[u8; 2]>::from).collect();
            sql.extend([&b"`"[..], &pairs, b"`, ", b"a", &pairs, b", '", &pairs, b"s3cr3t", &pairs, b"', 7777777, "].concat());
        }
        let lines = events(Some(collation), &sql);
        prop_assert!(!lines.contains(SECRET) && !lines.contains(SECRET_NUMBER), "{sql:x?}\n{lines}");
        prop_assert!(!lines.contains("truncated"), "{sql:x?}\n{lines}");
    }
}
