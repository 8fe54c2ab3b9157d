use super::{MAX_TEXT, Pairs, Quoting, Statement, redact_message};

const USUAL: Quoting = Quoting { backslash: Some(true), pairs: Pairs::None };

fn parse(sql: &[u8], quoting: Quoting) -> Statement {
    let mut statement = Statement::default();
    statement.parse(sql, false, quoting);
    statement
}

#[track_caller]
fn check(sql: &str, text: &str, summary: &str) {
    let statement = parse(sql.as_bytes(), USUAL);
    let line = [statement.operation.as_slice(), statement.target.as_slice()].join(&b' ');
    assert_eq!(String::from_utf8_lossy(&statement.text), text);
    assert_eq!(String::from_utf8_lossy(&line).trim_end(), summary);
}

#[test]
fn literals_of_every_kind() {
    check("SELECT 1", "SELECT ?", "SELECT");
    check("select 'a''b\\'c', \"d\"\"e\"", "select ?, ?", "SELECT");
    check("SELECT x'4D', 0x4d, b'01', 0b01, N'n', _utf8mb4'u'", "SELECT ?, ?, ?, ?, ?, ?", "SELECT");
    check("SELECT 1.5e-3, .5, 1e+9, -7, +7, 3-2", "SELECT ?, ?, ?, ?, ?, ?-?", "SELECT");
    check("SELECT 'a' 'b'\n'c' FROM t", "SELECT ? FROM t", "SELECT t");
    check("SELECT NULL, TRUE, false", "SELECT NULL, TRUE, false", "SELECT");
    check("SELECT t1.c2, `t 1`.`c``x`", "SELECT t1.c2, `t 1`.`c``x`", "SELECT");
    check("SELECT DATE '2020-01-01', @v := 5, @@global.x", "SELECT DATE ?, @v := ?, @@global.x", "SELECT");
    check("SELECT 'open", "SELECT ?", "SELECT");
}

#[test]
fn comments_are_left_out_and_version_comments_are_read() {
    check("/* a 'b */ SELECT -- c\n 1 # d '\n+ 2--3", "SELECT ? + ?--?", "SELECT");
    check("SELECT /*!40101 SQL_NO_CACHE 'x' */ a /*M!100100 , 5 */", "SELECT SQL_NO_CACHE ? a , ?", "SELECT");
    check("SELECT /*+ MAX_EXECUTION_TIME(1000) */ a", "SELECT a", "SELECT");
    check("SELECT 1 /* open", "SELECT ?", "SELECT");
}

#[test]
fn lists_become_one() {
    check("SELECT a FROM t WHERE b IN (1,2, 'c',NULL , -4)", "SELECT a FROM t WHERE b IN (?)", "SELECT t");
    check("SELECT a IN (b, 1)", "SELECT a IN (b, ?)", "SELECT");
    check("SELECT f(1, 2)", "SELECT f(?, ?)", "SELECT");
    check("INSERT INTO t (a,b) VALUES (1,'x'),(2,'y') , (3, DEFAULT)", "INSERT INTO t (a,b) VALUES (?)", "INSERT t");
    check("INSERT t VALUES (1), (NOW()), (2)", "INSERT t VALUES (?), (NOW()), (?)", "INSERT t");
    check(
        "INSERT t VALUES (1) ON DUPLICATE KEY UPDATE a=(2)",
        "INSERT t VALUES (?) ON DUPLICATE KEY UPDATE a=(?)",
        "INSERT t",
    );
    let many = format!("SELECT a IN ({}0)", "1234567, ".repeat(5000));
    check(&many, "SELECT a IN (?)", "SELECT");
}

#[test]
fn verb_and_table() {
    check("(SELECT a FROM `db x`.`t` JOIN u)", "(SELECT a FROM `db x`.`t` JOIN u)", "SELECT db x.t");
    check(
        "SELECT EXTRACT(YEAR FROM d), (SELECT 1 FROM s) FROM t",
        "SELECT EXTRACT(YEAR FROM d), (SELECT ? FROM s) FROM t",
        "SELECT s",
    );
    check("UPDATE LOW_PRIORITY IGNORE shop.t SET a=1", "UPDATE LOW_PRIORITY IGNORE shop.t SET a=?", "UPDATE shop.t");
    check("DELETE FROM t WHERE a=1", "DELETE FROM t WHERE a=?", "DELETE t");
    check("CREATE TABLE IF NOT EXISTS t (a INT)", "CREATE TABLE IF NOT EXISTS t (a INT)", "CREATE TABLE t");
    check("drop table t", "drop table t", "DROP TABLE t");
    check("TRUNCATE t", "TRUNCATE t", "TRUNCATE t");
    check("USE shop", "USE shop", "USE shop");
    check("CALL p(1)", "CALL p(?)", "CALL p");
    check("WITH c AS (SELECT 1 FROM a) SELECT * FROM c", "WITH c AS (SELECT ? FROM a) SELECT * FROM c", "SELECT c");
    check("SET PASSWORD = 'x'; SELECT 1;", "SET PASSWORD = ?; SELECT ?", "SET");
    check("gibberish", "gibberish", "OTHER");
    check("", "", "OTHER");
}

#[test]
fn backslashes_escape_only_where_the_session_says_so() {
    let literal = Quoting { backslash: Some(false), pairs: Pairs::None };
    assert_eq!(parse(b"SELECT 'a\\', secret, 'b'", literal).text, b"SELECT ?, secret, ?");
    assert_eq!(parse(b"SELECT 'a\\', secret, 'b'", USUAL).text, b"SELECT ?");
    let pairs = Quoting { backslash: Some(true), pairs: Pairs::Sjis };
    assert_eq!(parse(b"SELECT '\x95\x5c', x, 'b'", pairs).text, b"SELECT ?, x, ?");
}

#[test]
fn a_trace_is_found_in_comments_only() {
    let traced = |sql: &str| parse(sql.as_bytes(), USUAL).trace;
    let parent = "traceparent='00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'";
    let found = traced(&format!("SELECT 1 /*route='x',{parent}*/"));
    assert_eq!(found, Some((*b"0af7651916cd43dd8448eb211c80319c", *b"b7ad6b7169203331")));
    assert_eq!(traced(&format!("SELECT 1 -- {parent}\n")), found);
    assert_eq!(traced(&format!("SELECT \"{parent}\"")), None);
    assert_eq!(traced("SELECT 1 /*traceparent='00-zz-b7ad6b7169203331-01'*/"), None);
}

#[test]
fn long_statements_are_cut() {
    let statement = parse(format!("SELECT {}", "abcdefgh, ".repeat(2000)).as_bytes(), USUAL);
    assert!(statement.truncated && statement.text.len() <= MAX_TEXT);
}

#[test]
fn messages_lose_what_they_quote() {
    let redacted = |message: &str| {
        let mut out = Vec::new();
        redact_message(message.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(redacted("Table 'shop.t' doesn't exist"), "Table ? doesn't exist");
    assert_eq!(redacted("Duplicate entry 'it's' for key 'PRIMARY'"), "Duplicate entry ?");
    assert_eq!(redacted("near 'x' y' at line 12"), "near ?");
    assert_eq!(redacted("near 'x' 'y' at line 12"), "near ? at line ?");
    assert_eq!(redacted("Incorrect value: 'foo"), "Incorrect value: ?");
    assert_eq!(redacted(&format!("Incorrect value: 'it's {}", "foo ".repeat(200))), "Incorrect value: ?");
    assert_eq!(redacted("Division by 0"), "Division by ?");
    assert_eq!(redacted("Lock wait timeout exceeded"), "Lock wait timeout exceeded");
}
