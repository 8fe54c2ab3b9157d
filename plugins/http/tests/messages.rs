//! Syntax and semantics of single messages: what is read, what is marked, and what the decoder publishes of it.

use podtap_http::Http;
use podtap_sdk::testing::Conversation;
use podtap_sdk::{Decoder, Instance, Verdict};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const NONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// Each exchange of a conversation, as its outcome, summary and the values of the attributes named, `-` where there is
/// none.
#[track_caller]
fn check(conversation: Conversation, attributes: &[&str], expected: &[&str]) {
    let found: Vec<_> = conversation
        .exchanges::<Http>()
        .iter()
        .map(|line| {
            let (said, _) =
                line.split_once(" request ").or_else(|| line.split_once(" response ")).unwrap_or((line, ""));
            let values = attributes.iter().map(|name| value(line, name).unwrap_or("-"));
            std::iter::once(said).chain(values).collect::<Vec<_>>().join(" | ")
        })
        .collect();
    assert_eq!(found, expected);
}

/// The value of an attribute, up to the name of the next one.
fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    let next = Http::DESCRIPTOR.attributes.iter().filter_map(|attribute| rest.find(&format!(" {}=", attribute.name)));
    Some(&rest[..next.min().unwrap_or(rest.len())])
}

/// Requests with their responses, then the end.
fn turns(turns: &[(&str, &str)]) -> Conversation {
    let all = turns.iter().fold(Conversation::new(), |all, (request, response)| all.client(request).server(response));
    all.client_end().server_end().close()
}

/// A GET with these fields.
fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

#[test]
fn http_0_9_is_a_line_and_a_body() {
    check(
        turns(&[("GET /old?a=b\r\n", "<p>Hello</p>")]),
        &["network.protocol.version", "url.query", "http.response.status_code", "http.response.body.size"],
        &["ok GET /old | 0.9 | a=b | - | 12"],
    );
    // A body may begin like a status line.
    for body in ["H", "HTTP", "HTTPS is better"] {
        let size = body.len();
        check(turns(&[("GET /h\r\n", body)]), &["http.response.body.size"], &[&format!("ok GET /h | {size}")]);
    }
    // A server that does not speak it answers as it can.
    let refused = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno\n";
    check(
        turns(&[("GET /old\r\n", refused)]),
        &["network.protocol.version", "http.response.status_code", "http.response.body.size"],
        &["ok GET /old | 0.9 | 400 | 3"],
    );
}

#[test]
fn every_form_of_a_target() {
    let attributes = &["url.scheme", "server.address", "http.route", "podtap.http.anomaly"];
    check(
        turns(&[
            ("GET http://u:p@a.example:80/x?y HTTP/1.1\r\nHost: b.example\r\n\r\n", OK),
            ("OPTIONS * HTTP/1.1\r\nHost: b.example:81\r\n\r\n", NONE),
            ("GET /a b HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", OK),
            ("GET /a//../%2e HTTP/1.1\r\nHost: \r\n\r\n", OK),
        ]),
        attributes,
        &[
            "ok GET /x | http | a.example | /x | -",
            "ok OPTIONS * | http | b.example | - | -",
            "ok GET /a b | http | ::1 | /a b | space_in_start_line",
            "ok GET /a//../%2e | http | - | /a//../%2e | -",
        ],
    );
    check(
        turns(&[("CONNECT u:p@h.example:443 HTTP/1.1\r\nHost: h.example:443\r\n\r\n", "HTTP/1.1 403 No\r\n\r\n")]),
        attributes,
        &["ok CONNECT h.example:443 | http | h.example | - | -"],
    );
}

#[test]
fn smuggling_shapes_are_read_by_the_rfc_and_marked() {
    let anomaly = &["podtap.http.anomaly", "http.request.body.size"];
    for (request, expected) in [
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "content_length_and_transfer_encoding | 1",
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            "repeated_content_length | 1",
        ),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "repeated_chunked | 0"),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "transfer_encoding_in_http_1_0 | 0"),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "obs_fold | 1"),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 1\r\n\r\na", "space_before_colon | 1"),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", "bare_lf | 1"),
        ("POST / HTTP/1.1\r\nHost: h\nContent-Length: 1\r\n\r\na", "bare_lf | 1"),
        ("GET / HTTP/1.1\r\nHost: h\r\nA: b\rContent-Length: 1\r\n\r\n", "bare_cr | -"),
        ("GET / HTTP/1.1\r\n\r\n", "missing_host | -"),
        ("GET / HTTP/1.0\r\n\r\n", "- | -"),
        ("GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", "repeated_host | -"),
        (" GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "space_in_start_line | -"),
    ] {
        let method = if request.contains("POST") { "POST" } else { "GET" };
        let (next, ok) = (format!("ok GET /next | {}", "- | -"), format!("ok {method} / | {expected}"));
        check(turns(&[(request, OK), ("GET /next HTTP/1.1\r\nHost: h\r\n\r\n", OK)]), anomaly, &[&ok, &next]);
    }
}

#[test]
fn a_request_whose_end_cannot_be_known_is_the_last_one() {
    for (fields, expected) in [
        ("Content-Length: 4\r\nContent-Length: 5", "conflicting_content_length"),
        ("Content-Length: -5", "invalid_content_length"),
        ("Transfer-Encoding: identity", "chunked_is_not_last"),
    ] {
        let request =
            format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
        let refused = "HTTP/1.1 400 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        check(turns(&[(&request, refused)]), &["podtap.http.anomaly"], &[&format!("ok POST / | {expected}")]);
    }
}

#[test]
fn responses_that_declare_what_they_must_not() {
    let anomaly = &["podtap.http.anomaly", "http.response.body.size"];
    check(
        turns(&[
            (&get(""), "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
            (&get(""), "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
            (&get(""), "HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nhi"),
            (&get(""), "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
            (&get(""), "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
            (&get(""), "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nup to the end"),
        ]),
        anomaly,
        &[
            "ok GET / | content_not_allowed | -",
            "ok GET / | - | -",
            "ok GET / | content_not_allowed | 2",
            "ok GET / | - | 0",
            "ok GET / | - | -",
            "ok GET / | conflicting_content_length | 13",
        ],
    );
}

#[test]
fn what_is_no_chunk_ends_the_exchange_and_is_marked() {
    let broken = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 5\r\n";
    check(turns(&[(&get(""), broken)]), &["podtap.http.anomaly"], &["aborted GET / | invalid_chunk"]);
    let upload = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
    check(
        turns(&[(upload, "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")]),
        &["podtap.http.anomaly"],
        &["ok PUT / | invalid_chunk"],
    );
}

#[test]
fn chunk_extensions_and_trailers_are_no_part_of_the_body() {
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        5;name=\"value\"\r\nhello\r\n00a ; x\r\n0123456789\r\n0;last\r\nX-Checksum: 1\r\nX-Other: 2\r\n\r\n";
    check(
        turns(&[(&get(""), response), (&get(""), OK)]),
        &["http.response.body.size", "podtap.http.anomaly"],
        &["ok GET / | 15 | -", "ok GET / | 2 | -"],
    );
}

#[test]
fn interim_responses_are_facts_of_the_exchange() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    check(
        turns(&[(&get(""), &format!("{interim}{OK}")), (&get(""), OK)]),
        &["podtap.http.interim", "http.response.status_code"],
        &["ok GET / | 100,103 | 200", "ok GET / | - | 200"],
    );
    // One without its final response is no answer yet.
    let only = Conversation::new().client(get("")).server("HTTP/1.1 100 Continue\r\n\r\n").close();
    check(only, &["podtap.http.interim", "http.response.status_code"], &["aborted GET / | 100 | -"]);
}

#[test]
fn what_a_connection_goes_on_with_is_named() {
    let next = &["podtap.http.next_protocol", "podtap.http.anomaly"];
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n\x01\x02";
    check(turns(&[(&get("Upgrade: websocket\r\n"), switched)]), next, &["ok GET / | websocket | -"]);
    check(turns(&[(&get(""), switched)]), next, &["ok GET / | websocket | unasked_upgrade"]);
    let alone = Conversation::new().server(switched).close();
    check(alone, next, &["unmatched | websocket | -"]);
    let h2c = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n";
    check(turns(&[(&get("Upgrade: h2c, x\r\n"), h2c)]), next, &["ok GET / | h2c | -"]);
    let connect = "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n";
    check(
        turns(&[(connect, "HTTP/1.1 200 Go\r\nContent-Length: 9\r\n\r\n\x16\x03")]),
        next,
        &["ok CONNECT h:443 | tunnel | -"],
    );
    // Refused, and the connection is still HTTP's.
    let refused = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
    check(turns(&[(connect, refused), (&get(""), OK)]), next, &["ok CONNECT h:443 | - | -", "ok GET / | - | -"]);
}

#[test]
fn headers_are_published_only_as_configured() {
    let request = get("Accept: a\r\nX-Tenant: t1\r\nReferer: http://u:p@h/x\r\nCookie: secret\r\naccept: b\r\n");
    let response = "HTTP/1.1 200 OK\r\nServer: s\r\nSet-Cookie: secret\r\nX-Node: 7\r\nContent-Length: 0\r\n\r\n";
    let attributes = &[
        "http.request.header.accept",
        "http.request.header.referer",
        "podtap.http.request.headers",
        "http.response.header.server",
        "podtap.http.response.headers",
    ];
    check(turns(&[(&request, response)]), attributes, &["ok GET / | - | - | - | - | -"]);
    let config =
        r#"{"request_headers": ["Accept", "Referer", "X-Tenant", "X-None"], "response_headers": ["server", "x-node"]}"#;
    check(
        turns(&[(&request, response)]).configured(config),
        attributes,
        &["ok GET / | a, b | http://h/x | x-tenant: t1 | s | x-node: 7"],
    );
    for key in ["request_headers", "response_headers"] {
        for name in ["Authorization", "cookie", "Set-Cookie", "Proxy-Authorization"] {
            let refused = Instance::<Http>::new(&format!(r#"{{"{key}": ["{name}"]}}"#)).err().unwrap_or_default();
            assert!(refused.starts_with(key), "{refused}");
        }
    }
}

#[test]
fn routes_are_configured_or_automatic() {
    let conversation =
        || turns(&[("GET /users/ada HTTP/1.1\r\nHost: h\r\n\r\n", OK), ("GET /o/7 HTTP/1.1\r\nHost: h\r\n\r\n", OK)]);
    let route = &["http.route"];
    check(conversation(), route, &["ok GET /users/ada | /users/ada", "ok GET /o/7 | /o/{id}"]);
    let configured = conversation().configured(r#"{"routes": ["/users/{name}"], "automatic_routes": false}"#);
    check(configured, route, &["ok GET /users/ada | /users/{name}", "ok GET /o/7 | -"]);
}

#[test]
fn a_request_id_is_that_of_the_request_else_of_the_response() {
    let ids = &["http.request.header.x-request-id", "http.response.header.x-request-id"];
    let response = "HTTP/1.1 200 OK\r\nX-Request-ID: b\r\nContent-Length: 0\r\n\r\n";
    check(
        turns(&[(&get("x-request-id: a\r\n"), response), (&get(""), response)]),
        ids,
        &["ok GET / | a | -", "ok GET / | - | b"],
    );
}

#[test]
fn credentials_are_in_no_attribute() {
    let request = "GET http://ada:secret@h/?a=b HTTP/1.1\r\nHost: ada:secret@h\r\nAuthorization: Basic secret\r\n\
        Cookie: secret\r\n\r\n";
    let response = "HTTP/1.1 200 OK\r\nSet-Cookie: secret\r\nContent-Length: 0\r\n\r\n";
    let lines = turns(&[(request, response)]).exchanges::<Http>();
    assert!(lines.len() == 1 && !lines[0].contains("secret") && !lines[0].contains("ada"), "{lines:?}");
}

#[test]
fn a_probe_that_says_yes_says_so_of_every_longer_start() {
    let instance = Instance::<Http>::new("{}").expect("no configuration is fine");
    let request = get("User-Agent: t\r\n");
    for (from_server, head) in [
        (false, request.as_bytes()),
        (true, OK.as_bytes()),
        (false, b"GET /old\r\n"),
        (false, b"BREW /pot HTTP/1.1\r\n"),
    ] {
        let verdicts: Vec<_> = (0..=head.len()).map(|length| instance.probe(from_server, &head[..length])).collect();
        let first = verdicts.iter().position(|verdict| *verdict == Verdict::Yes).expect("it is HTTP");
        assert!(verdicts[..first].iter().all(|verdict| *verdict == Verdict::NeedMore));
        assert!(verdicts[first..].iter().all(|verdict| *verdict == Verdict::Yes));
    }
}
