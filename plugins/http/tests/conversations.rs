//! Conversations and the exchanges they mean, however they are cut into segments.

use podtap_http::Http;
use podtap_sdk::testing::Conversation;

/// The exchanges begin with these lines, in order; attributes are only compared as far as written.
#[track_caller]
fn check(conversation: &Conversation, expected: &[&str]) {
    let exchanges = conversation.exchanges::<Http>();
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

/// A conversation in keep-alive: `(request, response)` in turn, then closed.
fn turns(turns: &[(&str, &str)]) -> Conversation {
    let conversation =
        turns.iter().fold(Conversation::new(), |all, (request, response)| all.client(request).server(response));
    conversation.client_end().server_end().close()
}

#[test]
fn every_fact_of_an_exchange() {
    let request = "POST /a/b?c=d HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: test/1\r\nContent-Length: 3\r\n\
        traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\nabc";
    let response = "HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nwait";
    check(
        &turns(&[(request, response)]),
        &["error POST /a/b request 1..1 (163 bytes) response 2..2 (70 bytes) http.request.method=POST url.path=/a/b \
           url.query=c=d url.scheme=http http.route=/a/b \
           network.protocol.version=1.1 server.address=shop.example \
           user_agent.original=test/1 trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331 \
           http.request.body.size=3 http.response.status_code=503 error.type=503 \
           http.response.header.content-type=text/plain http.response.body.size=4"],
    );
}

#[test]
fn keep_alive_with_bodies_of_every_framing() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nabcd\r\n1\r\ne\r\n0\r\nTrailer: t\r\n\r\n";
    let upload = "PUT /u HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    check(
        &turns(&[
            ("GET /1 HTTP/1.1\r\n\r\n", ok),
            ("GET /2 HTTP/1.1\r\n\r\n", chunked),
            (upload, "HTTP/1.1 204 No Content\r\n\r\n"),
            ("HEAD /4 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
            ("GET /5 HTTP/1.1\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"),
            ("GET /6 HTTP/1.1\r\n\r\n", ok),
        ]),
        &[
            "ok GET /1 request 1..1 (19 bytes) response 2..2 (40 bytes)",
            "ok GET /2 request 3..3 (19 bytes) response 4..4 (83 bytes)",
            "ok PUT /u request 5..5 (60 bytes) response 6..6 (27 bytes)",
            "ok HEAD /4 request 7..7 (20 bytes) response 8..8 (39 bytes)",
            "ok GET /5 request 9..9 (19 bytes) response 10..10 (49 bytes)",
            "ok GET /6 request 11..11 (19 bytes) response 12..12 (40 bytes)",
        ],
    );
}

#[test]
fn a_body_of_many_segments_ends_with_its_last_byte() {
    let conversation = Conversation::new()
        .client("GET /large HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        .server("x".repeat(6000))
        .server("x".repeat(3999))
        .server("x")
        .client("GET /next HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    check(
        &conversation,
        &[
            "ok GET /large request 1..1 (23 bytes) response 2..5 (10042 bytes)",
            "ok GET /next request 6..6 (22 bytes) response 7..7 (38 bytes)",
        ],
    );
}

#[test]
fn a_response_without_length_ends_with_the_connection() {
    let conversation = Conversation::new()
        .client("GET / HTTP/1.0\r\n\r\n")
        .server("HTTP/1.0 200 OK\r\n\r\nsome")
        .server(" more")
        .server_end()
        .client_end()
        .close();
    check(&conversation, &["ok GET / request 1..1 (18 bytes) response 2..3 (28 bytes)"]);
}

#[test]
fn a_response_without_length_is_not_ended_by_a_reset() {
    let cut = Conversation::new().client("GET / HTTP/1.0\r\n\r\n").server("HTTP/1.0 200 OK\r\n\r\npart").reset();
    check(&cut, &["aborted GET / request 1..1 (18 bytes) response 2..2 (23 bytes)"]);
    let simple = Conversation::new().client("GET /\r\n").server("<p>part").reset();
    check(&simple, &["aborted GET / request 1..1 (7 bytes) response 2..2 (7 bytes)"]);
    // What ended before is not cut by a reset behind it.
    let ended = Conversation::new().client("GET /\r\n").server("<p>all").server_end().reset();
    check(&ended, &["ok GET / request 1..1 (7 bytes) response 2..2 (6 bytes)"]);
}

#[test]
fn pipelined_requests_get_their_responses_in_order() {
    let conversation = Conversation::new()
        .client("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\nb")
        .server("HTTP/1.1 500 Oh\r\nContent-Length: 1\r\n\r\nc");
    check(
        &conversation,
        &[
            "ok GET /1 request 1..1 (19 bytes) response 2..2 (39 bytes)",
            "ok GET /2 request 1..1 (19 bytes) response 2..2 (39 bytes)",
            "error GET /3 request 1..1 (19 bytes) response 3..3 (39 bytes)",
        ],
    );
}

#[test]
fn interim_responses_belong_to_the_exchange() {
    let conversation = Conversation::new()
        .client("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .server("HTTP/1.1 100 Continue\r\n\r\n")
        .client("body")
        .server("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        .client("GET / HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    check(
        &conversation,
        &[
            "ok POST / request 1..3 (64 bytes) response 2..4 (96 bytes)",
            "ok GET / request 5..5 (18 bytes) response 6..6 (38 bytes)",
        ],
    );
}

#[test]
fn an_early_response_ends_the_exchange_before_the_request_is_complete() {
    let conversation = Conversation::new()
        .client("POST /big HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
        .server("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        .client("x".repeat(97))
        .client("GET / HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    check(
        &conversation,
        &[
            "ok POST /big request 1..? (46 bytes) response 2..2 (45 bytes)",
            "ok GET / request 4..4 (18 bytes) response 5..5 (38 bytes)",
        ],
    );
}

#[test]
fn what_is_open_at_the_end_is_told() {
    let get = "GET / HTTP/1.1\r\n\r\n";
    check(&Conversation::new().client(get).client_end().server_end().close(), &["no_response GET / request 1..1"]);
    check(&Conversation::new().client(get).reset(), &["aborted GET / request 1..1"]);
    let half = Conversation::new().client(get).server("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    check(&half.clone().close(), &["aborted GET / request 1..1 (18 bytes) response 2..2 (42 bytes)"]);
    let upload = Conversation::new().client("PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf").close();
    check(&upload, &["aborted PUT / request 1..? (41 bytes)"]);
}

#[test]
fn a_body_that_was_left_out_is_as_long_as_it_came() {
    let cut_off = Conversation::new()
        .client("GET / HTTP/1.1\r\n\r\n")
        .server(["HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", &"x".repeat(50_000)].concat());
    let expected = ["aborted GET / request 1..1 (18 bytes) response 2..2 (50043 bytes)"];
    check(&cut_off.clone().reset(), &expected);
    check(&cut_off.clone().close(), &expected);
    check(&cut_off.server_end().close(), &expected);
}

#[test]
fn a_response_without_its_request_is_unmatched() {
    let conversation = Conversation::midstream()
        .server("lf of a body\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .client("GET / HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 204 No Content\r\n\r\n");
    let exchanges = conversation.cut::<Http>(podtap_sdk::testing::Cut::Whole);
    assert!(
        exchanges[0].starts_with("unmatched response 1..1 (38 bytes) http.response.status_code=200"),
        "{exchanges:?}"
    );
    assert!(exchanges[1].starts_with("ok GET / request 2..2 (18 bytes) response 3..3 (27 bytes)"), "{exchanges:?}");
}

#[test]
fn a_first_response_that_is_lost_is_not_the_next_one() {
    let conversation = Conversation::midstream()
        .client("GET /1 HTTP/1.1\r\n\r\n")
        .server_gap(40)
        .client("GET /2 HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 204 No Content\r\n\r\n");
    let exchanges = conversation.cut::<Http>(podtap_sdk::testing::Cut::Whole);
    assert!(exchanges[0].starts_with("no_response GET /1 "), "{exchanges:?}");
    assert!(exchanges[1].starts_with("ok GET /2 "), "{exchanges:?}");
}

#[test]
fn a_gap_in_a_body_is_a_loss_and_no_more() {
    let conversation = Conversation::new()
        .client("GET /1 HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nab")
        .server_gap(4)
        .server("gh")
        .client("GET /2 HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    check(
        &conversation,
        &[
            "ok GET /1 request 1..1 (19 bytes) response 2..4 (46 bytes) lost 4 ",
            "ok GET /2 request 5..5 (19 bytes) response 6..6 (38 bytes) http",
        ],
    );
}

#[test]
fn a_gap_over_a_response_pairs_nothing_wrongly() {
    let conversation = Conversation::new()
        .client("GET /1 HTTP/1.1\r\n\r\n")
        .server_gap(100)
        .client("GET /2 HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .client("GET /3 HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 204 OK\r\n\r\n")
        .close();
    // Segments that cut the status line hide where the response begins, so only whole ones are compared.
    let exchanges = conversation.cut::<Http>(podtap_sdk::testing::Cut::Whole);
    assert!(exchanges[0].starts_with("no_response GET /1 request 1..1 (19 bytes) lost 100"), "{exchanges:?}");
    assert!(exchanges[1].starts_with("ok GET /2 request 3..3 (19 bytes) response 4..4"), "{exchanges:?}");
    assert!(exchanges[2].starts_with("ok GET /3"), "{exchanges:?}");
}

#[test]
fn nonsense_ends_nothing_but_itself() {
    let conversation = Conversation::new()
        .client("GET /1 HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        .client("GET /2 HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let exchanges = conversation.cut::<Http>(podtap_sdk::testing::Cut::Whole);
    assert!(exchanges[0].starts_with("aborted GET /1"), "{exchanges:?}");
    assert!(exchanges[1].starts_with("ok GET /2 request 3..3 (19 bytes) response 4..4 (38 bytes)"), "{exchanges:?}");
}

#[test]
fn an_endless_head_does_not_stall_the_connection() {
    let conversation = Conversation::new()
        .client(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(70_000)))
        .client("GET /2 HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let conversation = conversation.client("GET /3 HTTP/1.1\r\n\r\n").server("HTTP/1.1 204 No Content\r\n\r\n");
    let exchanges = conversation.cut::<Http>(podtap_sdk::testing::Cut::Whole);
    // The response may as well be to the first request.
    assert!(exchanges[0].starts_with("unmatched response 3..3 (38 bytes)"), "{exchanges:?}");
    assert!(exchanges[1].starts_with("no_response GET /2"), "{exchanges:?}");
    assert!(exchanges[2].starts_with("ok GET /3"), "{exchanges:?}");
}

#[test]
fn another_protocol_after_an_upgrade_is_left_alone() {
    let conversation = Conversation::new()
        .client("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        .server("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
        .server([0x81, 3, b'a', b'b', b'c'])
        .client([0x81, 0x83, 1, 2, 3, 4, 5, 6, 7])
        .client("GET /of-the-tunnel HTTP/1.1\r\n\r\n")
        .close();
    check(&conversation, &["ok GET /ws request 1..1"]);
}

#[test]
fn empty_lines_before_a_request_are_passed_over() {
    check(
        &turns(&[
            ("\r\nGET /1 HTTP/1.1\r\n\r\n\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"),
            ("GET /2 HTTP/1.1\n\n", "HTTP/1.1 204 No Content\n\n"),
        ]),
        &["ok GET /1 request 1..1", "ok GET /2 request 3..3"],
    );
}
