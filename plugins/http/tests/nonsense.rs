//! No bytes break the decoder: pieces of HTTP in any order, from either side, cut and lost anywhere.

use podtap_http::Http;
use podtap_sdk::testing::{Conversation, Cut};
use proptest::prelude::*;

/// What smugglers and broken programs put together.
const PIECES: [&str; 40] = [
    "GET / HTTP/1.1\r\n",
    "POST /a?b HTTP/1.0\r\n",
    "CONNECT h:1 HTTP/1.1\r\n",
    "HEAD http://u@h/ HTTP/1.1\n",
    "GET /old\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n",
    "HTTP/1.0 204\r\n",
    "HTTP/1.1 205 Reset\r\n",
    "HTTP/1.1 999 \r\n",
    "http/1.1 200 OK\r\n",
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    "\0",
    "\u{fffd}",
    "Host: h\r\n",
    "Host : [::1\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 18446744073709551615\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length: 1, 1\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: x\r\n chunked\r\n",
    "Upgrade: websocket\r\n",
    "traceparent: 00-",
    "b3: 1-2-3-4\r\n",
    "0\r\n\r\n",
    "5;x\r\nhello\r\n",
    "ffffffffffffffff\r\n",
    "10000000000000000\r\n",
    "-1\r\n",
    "hello",
    "/{id}/1.2/",
    "\r\n\r\n",
];

/// A piece from one of the sides, or a gap, or the end of a side.
fn step() -> impl Strategy<Value = (u8, usize, u32)> {
    (prop_oneof![8 => 0..2_u8, 1 => 2..4_u8, 1 => 4..6_u8], 0..PIECES.len(), prop_oneof![1..20_u32, Just(u32::MAX)])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn no_bytes_break_the_decoder(
        midstream in any::<bool>(),
        steps in prop::collection::vec(step(), 0..40),
        size in 1_usize..30,
    ) {
        let start = if midstream { Conversation::midstream() } else { Conversation::new() };
        let all = steps.iter().fold(start, |all, &(kind, piece, length)| match kind {
            0 => all.client(PIECES[piece]),
            1 => all.server(PIECES[piece]),
            2 => all.client_gap(length),
            3 => all.server_gap(length),
            4 => all.client_end(),
            _ => all.server_end(),
        });
        for cut in [Cut::Whole, Cut::Pieces(1), Cut::Pieces(size)] {
            for line in all.clone().close().cut::<Http>(cut) {
                let paired = line.starts_with("ok ") || line.starts_with("error ");
                let answered = line.contains("status_code=") || line.contains("protocol.version=0.9");
                prop_assert!(!paired || answered, "{}", line);
            }
        }
    }
}
