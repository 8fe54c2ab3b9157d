//! Pairing by id: what an author of a decoder gets without keeping a time, a size or a loss.

use podtap_sdk::testing::{Conversation, Cut};
use podtap_sdk::{
    Batch, Break, Connection, Decoder, Descriptor, ExchangesById, Instance, MAX_OPEN, OpenedConnection, Outcome,
    Stream, Tasks, Verdict,
};

/// Messages of four bytes: `>` or `!` (nobody answers) with an id in a request; `<` (answers), `+` (answers, and more
/// follow under the next id), `-` (an error) or `?` (cannot be understood) in a response; `#` is a request left out. Each
/// ends with a newline.
struct Numbered;

impl Decoder for Numbered {
    const DESCRIPTOR: Descriptor = Descriptor {
        name: "numbered",
        version: "0.1.0",
        doc: "Numbered messages.",
        protocols: &["numbered"],
        ports: &[7],
        attributes: &[],
        status: None,
    };

    fn configure(_: &str) -> Result<Numbered, String> {
        Ok(Numbered)
    }

    fn probe(&self, _: bool, _: &[u8]) -> Verdict {
        Verdict::Yes
    }

    fn connect(&self, connection: &mut Connection) -> Tasks {
        let exchanges = connection.exchanges_by_id();
        Tasks::new(requests(connection.client(), exchanges.clone()), responses(connection.server(), exchanges))
    }
}

fn find(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| b"<>".contains(byte))
}

fn id(message: [u8; 4]) -> u64 {
    message[1..3].iter().fold(0, |id, digit| id * 10 + u64::from(digit - b'0'))
}

async fn requests(mut client: Stream, exchanges: ExchangesById<()>) -> Result<(), Break> {
    loop {
        let request = async {
            client.message().await?;
            let kind = client.peek(3, |head| head.to_vec()).await?;
            let number = id([0, kind[1], kind[2], 0]);
            exchanges.request(number, |exchange| {
                exchange.describe(b"ask", number.to_string().as_bytes(), b"");
                if kind[0] == b'#' {
                    exchange.leave_out();
                }
            });
            client.array::<4>().await?;
            match kind[0] {
                b'!' => exchanges.request_end_unanswered(&client, |_| ()),
                _ => exchanges.request_end(&client, |_| ()),
            }
            Ok(())
        };
        match request.await {
            Ok(()) => {}
            Err(Break::End) => return Err(Break::End),
            Err(_) => exchanges.resync_requests(&mut client, find).await,
        }
    }
}

async fn responses(mut server: Stream, exchanges: ExchangesById<()>) -> Result<(), Break> {
    loop {
        let response = async {
            server.message().await?;
            let head = server.peek(3, |head| head.to_vec()).await?;
            let number = id([0, head[1], head[2], 0]);
            exchanges.response(number, |_| ());
            server.array::<4>().await?;
            match head[0] {
                b'+' => exchanges.continues(&server, number + 1),
                b'-' => exchanges.finish(&server, Outcome::Error),
                b'?' => exchanges.abort(&server),
                _ => exchanges.finish(&server, Outcome::Ok),
            }
            Ok(())
        };
        match response.await {
            Ok(()) => {}
            Err(Break::End) => return Err(Break::End),
            Err(_) => exchanges.resync_responses(&mut server, find).await,
        }
    }
}

#[track_caller]
fn check(conversation: &Conversation, expected: &[&str]) {
    assert_eq!(conversation.exchanges::<Numbered>(), expected);
}

#[test]
fn responses_find_their_requests_in_any_order() {
    check(
        &Conversation::new().client(">01\n>02\n").client(">03\n").server("-03\n<01\n").server("<02\n").close(),
        &[
            "error ask 3 request 2..2 (4 bytes) response 3..3 (4 bytes)",
            "ok ask 1 request 1..1 (4 bytes) response 3..3 (4 bytes)",
            "ok ask 2 request 1..1 (4 bytes) response 4..4 (4 bytes)",
        ],
    );
}

#[test]
fn several_replies_are_one_response_even_with_others_between() {
    check(
        &Conversation::new()
            .client(">01\n")
            .server("+01\n")
            .client(">09\n")
            .server("<09\n+02\n")
            .server("<03\n")
            .close(),
        &[
            "ok ask 9 request 3..3 (4 bytes) response 4..4 (4 bytes)",
            "ok ask 1 request 1..1 (4 bytes) response 2..5 (12 bytes)",
        ],
    );
}

#[test]
fn replies_that_come_while_a_request_is_being_sent_leave_it_alone() {
    check(
        &Conversation::new()
            .client(">01\n")
            .client(">02")
            .server("+01\n<77\n")
            .client("\n")
            .server("<02\n<02\n")
            .close(),
        &[
            "unmatched response 3..3 (4 bytes)",
            // 02 is two things here: the continued 01, which is older and answered first, and the request 02.
            "ok ask 1 request 1..1 (4 bytes) response 3..5 (8 bytes)",
            "ok ask 2 request 2..4 (4 bytes) response 5..5 (4 bytes)",
        ],
    );
}

#[test]
fn a_request_that_nobody_answers_is_over_with_its_last_byte() {
    check(
        &Conversation::new().client("!01\n>02\n").server("<02\n").client("!03\n"),
        &[
            "ok ask 1 request 1..1 (4 bytes)",
            "ok ask 2 request 1..1 (4 bytes) response 2..2 (4 bytes)",
            "ok ask 3 request 3..3 (4 bytes)",
        ],
    );
}

#[test]
fn what_is_left_out_is_not_reported_and_takes_its_response_along() {
    check(&Conversation::new().client("#01\n>02\n").server("<01\n").reset(), &["aborted ask 2 request 1..1 (4 bytes)"]);
}

#[test]
fn a_response_to_nobody_is_unmatched_and_one_without_meaning_aborts() {
    check(
        &Conversation::new().client(">01\n").server("<44\n?01\n").close(),
        &["unmatched response 2..2 (4 bytes)", "aborted ask 1 request 1..1 (4 bytes) response 2..2 (4 bytes)"],
    );
}

#[test]
fn the_oldest_is_given_up_where_too_many_wait_and_so_is_one_whose_id_comes_again() {
    // Beyond 99 the first digit goes on behind `9`: `:0` is 100.
    let many: String = (0..257_u32).map(|n| format!(">{}{}\n", (b'0' + (n / 10) as u8) as char, n % 10)).collect();
    check(&Conversation::new().client(many), &["no_response ask 0 request 1..1 (4 bytes)"]);
    check(&Conversation::new().client(">01\n>01\n"), &["no_response ask 1 request 1..1 (4 bytes)"]);
}

#[test]
fn after_a_loss_the_pairs_stay_right() {
    // 01's response was lost; that shows when a later request is answered.
    check(
        &Conversation::new().client(">01\n>02\n").server_gap(4).server("<02\n").client(">03\n").server("<03\n").close(),
        &[
            "no_response ask 1 request 1..1 (4 bytes) lost 4",
            "ok ask 2 request 1..1 (4 bytes) response 3..3 (4 bytes)",
            "ok ask 3 request 4..4 (4 bytes) response 5..5 (4 bytes)",
        ],
    );
    // A response that is broken off, a request that is, and one that was never seen.
    check(
        &Conversation::new()
            .client(">01\n>02\n")
            .server("<01")
            .server_gap(1)
            .server("<02\n")
            .client(">05")
            .client_gap(5)
            .client(">06\n")
            .server("<03\n<06\n")
            .close(),
        &[
            "aborted ask 1 request 1..1 (4 bytes) response 2..? (0 bytes) lost 1",
            "ok ask 2 request 1..1 (4 bytes) response 4..4 (4 bytes)",
            "unmatched response 8..8 (4 bytes)",
            "ok ask 6 request 7..7 (4 bytes) response 8..8 (4 bytes)",
            "no_response ask 5 request 5..? (0 bytes) lost 5",
        ],
    );
}

#[test]
fn an_exchange_that_is_answered_before_the_end_of_its_request_waits_for_that() {
    // The end comes late, in another order than on the wire.
    check(
        &Conversation::new().client(">01").server("<01\n").client("\n").close(),
        &["ok ask 1 request 1..3 (4 bytes) response 2..2 (4 bytes)"],
    );
    // It does not come at all: that shows only now, and the exchange says so.
    let lost = Conversation::new().client(">01").server("<01\n").client_gap(1).client(">02\n").server("<02\n").close();
    assert_eq!(
        lost.cut::<Numbered>(Cut::Whole),
        [
            "ok ask 1 request 1..? (0 bytes) response 2..2 (4 bytes) lost 1",
            "ok ask 2 request 4..4 (4 bytes) response 5..5 (4 bytes)"
        ]
    );
    let never = Conversation::new().client(">01").server("-01\n").close();
    assert_eq!(never.cut::<Numbered>(Cut::Whole), ["error ask 1 request 1..? (0 bytes) response 2..2 (4 bytes)"]);
}

#[test]
fn a_response_that_has_begun_is_not_that_of_a_later_request_with_its_id() {
    check(
        &Conversation::new().server("<07").client(">07\n").server("\n").server("<07\n").close(),
        &["unmatched response 1..3 (4 bytes)", "ok ask 7 request 2..2 (4 bytes) response 4..4 (4 bytes)"],
    );
    let unfinished = Conversation::new().server("<07").client(">07\n").close();
    assert_eq!(
        unfinished.cut::<Numbered>(Cut::Whole),
        ["unmatched response 1..? (0 bytes)", "no_response ask 7 request 2..2 (4 bytes)"]
    );
}

#[test]
fn a_request_that_is_being_read_stays_where_an_instance_is_full() {
    let mut instance = Instance::<Numbered>::new("{}").unwrap();
    let opened = |id| OpenedConnection {
        id,
        client_address: "192.0.2.1".into(),
        client_port: 49152,
        server_address: "192.0.2.2".into(),
        server_port: 7,
        midstream: false,
    };
    let batch = |pieces: &[(u32, u8, u64, &str)]| Batch {
        opened: Vec::new(),
        connections: pieces.iter().map(|piece| piece.0).collect(),
        kinds: pieces.iter().map(|piece| piece.1).collect(),
        times: vec![1; pieces.len()],
        positions: pieces.iter().map(|piece| piece.2).collect(),
        lengths: pieces.iter().map(|piece| piece.3.len() as u32).collect(),
        data: pieces.iter().flat_map(|piece| piece.3.bytes()).collect(),
    };
    let hundred = (0..100).map(|id| format!(">{id:02}\n")).collect::<String>();
    let others = MAX_OPEN as u32 / 100 + 1;
    let mut fill = batch(&(1..=others).map(|id| (id, 0, 0, &*hundred)).collect::<Vec<_>>());
    fill.opened = (0..=others).map(opened).collect();
    instance.feed(fill);
    let server = 128;
    let output = instance.feed(batch(&[
        (0, 0, 0, ">01"),
        (0, server, 0, "<99\n"),
        (0, server, 4, "<98\n"),
        (0, 0, 3, "\n"),
        (0, server, 8, "<01\n"),
    ]));
    assert_eq!(output.outcomes, [4, 4, 0]);
}
