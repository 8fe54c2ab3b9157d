//! Conversations through the decoder as native code, cut, lost and begun in every way. Captures go through the component
//! by `podtap plugin test`.

use podtap_redis::Redis;
use podtap_sdk::testing::{Conversation, Cut};
use podtap_sdk::{Instance, Verdict};

/// A command as clients send it.
fn command(words: &[&str]) -> String {
    let bulks = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), bulks.collect::<String>())
}

/// Each exchange without times and sizes: outcome, operation, target, and attributes that are not always there.
fn short(conversation: &Conversation) -> Vec<String> {
    let shorten = |line: String| {
        let (head, rest) = line.split_once(" request ").unwrap_or((&line, ""));
        let status = rest.split_once("db.response.status_code=").map_or("", |(_, status)| status);
        format!("{head} {status}").trim_end().to_owned()
    };
    conversation.robust_exchanges::<Redis>().into_iter().map(shorten).collect()
}

#[test]
fn a_command_and_its_reply() {
    let conversation = Conversation::new().client(command(&["set", "colour", "blue"])).server("+OK\r\n").close();
    assert_eq!(
        conversation.robust_exchanges::<Redis>(),
        ["ok SET colour request 1..1 (35 bytes) response 2..2 (5 bytes) db.system.name=redis redis.arguments=2 \
          db.operation.name=SET"]
    );
}

#[test]
fn every_kind_of_reply_is_one() {
    let replies = [
        "+OK\r\n",
        ":-7\r\n",
        "$5\r\nhe\r\no\r\n",
        "$0\r\n\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*3\r\n:1\r\n*2\r\n$1\r\na\r\n*-1\r\n-ERR inside\r\n",
    ];
    for reply in replies {
        let conversation = Conversation::new()
            .client(command(&["GET", "a"]))
            .server(reply)
            .client(command(&["GET", "b"]))
            .server(reply)
            .close();
        assert_eq!(short(&conversation), ["ok GET a", "ok GET b"], "{reply:?}");
    }
}

#[test]
fn errors_have_their_code_and_not_their_text() {
    let conversation = Conversation::new()
        .client(command(&["LPUSH", "text", "secret"]))
        .server("-WRONGTYPE Operation against a key\r\n")
        .client(command(&["NOSUCH", "secret"]))
        .server("-ERR unknown command 'NOSUCH', with args beginning with: 'secret'\r\n")
        .client(command(&["FCALL", "f", "0"]))
        .server("-\r\n")
        .close();
    assert_eq!(short(&conversation), ["error LPUSH text WRONGTYPE", "error NOSUCH  ERR", "error FCALL  ERR"]);
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let commands = command(&["MULTI"]) + &command(&["INCR", "a"]) + &command(&["GET", "b"]) + &command(&["EXEC"]);
    let replies = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n-WRONGTYPE x\r\n$1\r\nb\r\n";
    let conversation = Conversation::new().client(commands).server(replies).close();
    assert_eq!(short(&conversation), ["ok MULTI", "ok INCR a", "ok GET b", "ok EXEC"]);
}

#[test]
fn inline_commands_are_words() {
    let conversation = Conversation::new()
        .client("\r\nping\r\n")
        .server("+PONG\r\n")
        .client("  config   get maxmemory \n")
        .server("*0\r\n")
        .client("set colour blue\r\nget colour\r\n")
        .server("+OK\r\n$4\r\nblue\r\n")
        .close();
    assert_eq!(short(&conversation), ["ok PING", "ok CONFIG GET", "ok SET colour", "ok GET colour"]);
}

#[test]
fn nothing_secret_is_published() {
    let secrets: [&[&str]; 10] = [
        &["AUTH", "secret"],
        &["AUTH", "default", "secret"],
        &["HELLO", "2", "AUTH", "default", "secret"],
        &["CONFIG", "SET", "requirepass", "secret"],
        &["ACL", "SETUSER", "u", ">secret"],
        &["EVAL", "return 'secret'", "0"],
        &["ECHO", "secret"],
        &["PUBLISH", "secret", "secret"],
        &["SET", "key", "secret"],
        &["se cret", "secret"],
    ];
    for words in secrets {
        let inline = words.join(" ") + "\r\n";
        for sent in [command(words), inline] {
            let conversation = Conversation::new().client(&sent).server("-ERR secret\r\n").close();
            let exchanges = conversation.robust_exchanges::<Redis>();
            assert!(exchanges.len() == 1 && !exchanges[0].contains("secret"), "{sent:?}: {exchanges:?}");
        }
    }
}

#[test]
fn long_values_are_passed_over() {
    let long = "x".repeat(100_000);
    let conversation = Conversation::new()
        .client(command(&["EVAL", &long, "0"]))
        .server(format!("$100000\r\n{long}\r\n"))
        .client(command(&["SET", "key", &long]))
        .server("+OK\r\n")
        .client(command(&["ECHO", &long]))
        .server(format!("*2\r\n$100000\r\n{long}\r\n:1\r\n"))
        .close();
    assert_eq!(short(&conversation), ["ok EVAL", "ok SET key", "ok ECHO"]);
}

#[test]
fn where_the_server_begins_to_push_nothing_is_paired_any_more() {
    let message = "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n";
    let subscribed = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n";
    let conversation = Conversation::new()
        .client(command(&["GET", "k"]) + &command(&["SUBSCRIBE", "a", "b"]))
        .server("$-1\r\n")
        .server(subscribed)
        .server(message)
        .client(command(&["PING"]))
        .server(message)
        .close();
    assert_eq!(short(&conversation), ["ok GET k", "ok SUBSCRIBE"]);

    let conversation =
        Conversation::new().client("MONITOR\r\n").server("+OK\r\n+1.2 [0 127.0.0.1:5] \"get\" \"k\"\r\n").close();
    assert_eq!(short(&conversation), ["ok MONITOR"]);

    let silent = command(&["CLIENT", "REPLY", "OFF"]) + &command(&["GET", "a"]) + &command(&["CLIENT", "REPLY", "ON"]);
    let conversation = Conversation::new().client(silent).server("+OK\r\n").close();
    assert_eq!(short(&conversation), ["ok CLIENT REPLY"]);

    let conversation = Conversation::new()
        .client(command(&["HELLO", "3"]) + &command(&["GET", "a"]))
        .server("%1\r\n$5\r\nproto\r\n:3\r\n_\r\n")
        .close();
    assert_eq!(short(&conversation), ["ok HELLO"]);
}

#[test]
fn behind_a_lost_subscription_a_message_answers_nothing() {
    let message = "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n";
    let conversation =
        Conversation::new().client_gap(30).server(message).client(command(&["PING"])).server(message).close();
    assert!(conversation.cut::<Redis>(Cut::Whole).iter().all(|exchange| !exchange.starts_with("ok ")));
}

#[test]
fn behind_a_lost_request_nothing_is_paired_wrongly() {
    let conversation = Conversation::new()
        .client_gap(20)
        .client(command(&["GET", "b"]) + &command(&["GET", "c"]))
        .server("$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n")
        .close();
    for exchange in conversation.cut::<Redis>(Cut::Whole) {
        assert!(!exchange.starts_with("ok "), "{exchange}");
    }
}

#[test]
fn a_lost_reply_leaves_its_command_alone() {
    let conversation = Conversation::new()
        .client(command(&["GET", "a"]))
        .server_gap(7)
        .client(command(&["GET", "b"]))
        .server("$1\r\nb\r\n")
        .close();
    let exchanges = conversation.cut::<Redis>(Cut::Whole);
    assert!(exchanges[0].starts_with("no_response GET a ") && exchanges[1].starts_with("ok GET b "), "{exchanges:?}");
}

#[test]
fn from_the_middle_it_begins_with_a_command() {
    let conversation = Conversation::midstream()
        .client("of a value\r\n")
        .server("+OK\r\n")
        .client(command(&["GET", "a"]))
        .server("$-1\r\n")
        .close();
    let exchanges = conversation.cut::<Redis>(Cut::Whole);
    assert!(exchanges[0].starts_with("unmatched ") && exchanges[1].starts_with("ok GET a "), "{exchanges:?}");
}

#[test]
fn it_is_recognised_by_its_commands() {
    let redis = Instance::<Redis>::new("{}").unwrap();
    let get = command(&["get", "a"]);
    assert_eq!(redis.probe(false, get.as_bytes()), Verdict::Yes);
    for length in 0..get.len() - 9 {
        assert_eq!(redis.probe(false, &get.as_bytes()[..length]), Verdict::NeedMore, "{length}");
    }
    // A reply of the server, too, or an inline command, if not of another protocol: the other side tells.
    assert_eq!(redis.probe(false, command(&["red", "blue"]).as_bytes()), Verdict::NeedMore);
    assert_eq!(redis.probe(false, b"GET / HTTP/1.1\r\n"), Verdict::NeedMore);
    assert_eq!(redis.probe(true, get.as_bytes()), Verdict::NeedMore);
    assert_eq!(redis.probe(true, b"+OK POP3 server ready\r\n"), Verdict::NeedMore);
    for reply in ["+OK\r\n", "+PONG\r\n", "$-1\r\n", "$3\r\nred\r\n"] {
        assert_eq!(redis.probe(true, reply.as_bytes()), Verdict::Yes, "{reply}");
    }
    for (from_server, other) in
        [(false, &b"\x16\x03\x01\x02\x00"[..]), (true, b"HTTP/1.1 200 OK\r\n"), (true, b"220 ftp\r\n")]
    {
        assert_eq!(redis.probe(from_server, other), Verdict::No, "{other:?}");
    }
}

/// How many exchanges ended how, of so many commands that are sent at once and then answered.
fn outcomes(commands: usize) -> [usize; 3] {
    let conversation = Conversation::new()
        .client(command(&["SET", "a", "b"]).repeat(commands))
        .server("+OK\r\n".repeat(commands))
        .close();
    let exchanges = conversation.cut::<Redis>(Cut::Whole);
    ["ok ", "no_response ", "unmatched"].map(|outcome| exchanges.iter().filter(|it| it.starts_with(outcome)).count())
}

#[test]
fn a_long_pipeline_is_paired_and_its_length_bounded() {
    assert_eq!(outcomes(4096), [4096, 0, 0]);
    assert_eq!(outcomes(4100), [4096, 4, 4]);
}
