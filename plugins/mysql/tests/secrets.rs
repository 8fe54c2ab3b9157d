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
}
