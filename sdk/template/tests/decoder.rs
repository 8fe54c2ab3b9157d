//! Conversations through the decoder as native code, cut, lost and begun in every way. Captures go through the component
//! by `podtap plugin test`.

use podtap_template::Lines;

use podtap_sdk::testing::{Conversation, Cut};

#[test]
fn a_line_is_answered_by_a_line() {
    let conversation = Conversation::new()
        .client("SET colour blue\n")
        .server("OK\n")
        .client("GET colour\n")
        .server("OK blue\n")
        .close();
    assert_eq!(
        conversation.robust_exchanges::<Lines>(),
        [
            "ok SET colour request 1..1 (16 bytes) response 2..2 (3 bytes) template.key=colour template.status=OK",
            "ok GET colour request 3..3 (11 bytes) response 4..4 (8 bytes) template.key=colour template.status=OK",
        ]
    );
}

#[test]
fn what_the_server_refuses_is_an_error() {
    let conversation = Conversation::new().client("DEL shape\n").server("ERROR no such key\n").close();
    let exchanges = conversation.robust_exchanges::<Lines>();
    assert!(exchanges[0].starts_with("error DEL shape "), "{exchanges:?}");
    assert!(exchanges[0].ends_with("template.status=ERROR template.reason=no such key"), "{exchanges:?}");
}

#[test]
fn requests_need_not_wait_for_each_other() {
    let conversation = Conversation::new().client("GET a\nGET b\n").server("OK 1\nERROR no such key\n").close();
    let exchanges = conversation.robust_exchanges::<Lines>();
    assert!(exchanges[0].starts_with("ok GET a ") && exchanges[1].starts_with("error GET b "), "{exchanges:?}");
}

#[test]
fn behind_a_lost_request_nothing_is_paired_wrongly() {
    let conversation = Conversation::new().client_gap(6).client("GET b\nGET c\n").server("OK 1\nOK 2\nOK 3\n").close();
    // Not in every cut: where to go on after a loss is looked for within a segment.
    for exchange in conversation.cut::<Lines>(Cut::Whole) {
        assert!(!exchange.starts_with("ok "), "{exchange}");
    }
}
