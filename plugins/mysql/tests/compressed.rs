//! The compressed protocol: the same conversation, packed or not, gives the same exchanges but for sizes on the wire.

mod support;

use miniz_oxide::deflate::compress_to_vec_zlib;
use podtap_mysql::MySql;
use podtap_sdk::testing::{Conversation, Cut};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use support::*;

#[derive(Clone, Copy, Debug)]
enum How {
    Zlib,
    Zstd,
    /// Frames whose payload is not compressed, as for short ones.
    Plain,
}

/// dev.mysql.com, "Compressed Packet".
fn frame(how: How, content: &[u8]) -> Vec<u8> {
    let packed = match how {
        How::Zlib => compress_to_vec_zlib(content, 6),
        How::Zstd => compress_to_vec(content, CompressionLevel::Fastest),
        How::Plain => content.to_vec(),
    };
    let plain = if matches!(how, How::Plain) { 0 } else { content.len() as u32 };
    let [a, b, c, _] = (packed.len() as u32).to_le_bytes();
    let [x, y, z, _] = plain.to_le_bytes();
    [&[a, b, c, 0, x, y, z], packed.as_slice()].concat()
}

fn logged_in(how: How) -> Conversation {
    let capability = if matches!(how, How::Zstd) { ZSTD } else { COMPRESS };
    let capabilities = USUAL | capability | DEPRECATE_EOF;
    Conversation::new().server(greeting("8.0.36", capabilities)).client(login(capabilities)).server(ok(2))
}

/// Without what must differ: sizes, and that the login says how it goes on.
fn same(line: &str) -> String {
    let end = line.find(" mysql.compression=").unwrap_or(line.len());
    let words = line[..end].split(' ').filter(|word| !word.starts_with('(') && *word != "bytes)");
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn packed_and_not_the_exchanges_are_the_same() {
    let rows = ["some text that repeats, some text that repeats"; 300];
    let response = packets(1, result(true, &rows, 2));
    let steps: [(Vec<u8>, Vec<u8>); 4] = [
        (query("SELECT a FROM t WHERE b = 'secret'"), response),
        (command(0x0e, ""), ok(1)),
        (query("INSERT INTO t VALUES (1)"), packet(1, ok_payload(1, 9, 2, 0))),
        (query("SELEC"), packet(1, error_payload(1064, "42000", "You have an error"))),
    ];
    let plain = steps.iter().fold(
        Conversation::new()
            .server(greeting("8.0.36", USUAL | DEPRECATE_EOF))
            .client(login(USUAL | DEPRECATE_EOF))
            .server(ok(2)),
        |all, (request, response)| all.client(request).server(response),
    );
    let expected: Vec<_> = plain.exchanges::<MySql>().iter().map(|line| same(line)).collect();
    for how in [How::Zlib, How::Zstd, How::Plain] {
        let packed = steps.iter().fold(logged_in(how), |all, (request, response)| {
            // A response over two frames, cut in the middle of a packet.
            let (first, second) = response.split_at(response.len() / 2);
            all.client(frame(how, request)).server([frame(how, first), frame(how, second)].concat())
        });
        let lines = packed.exchanges::<MySql>();
        let found: Vec<_> = lines.iter().map(|line| same(line)).collect();
        assert_eq!(found[1..], expected[1..], "{how:?}");
        let name = if matches!(how, How::Zstd) { "zstd" } else { "zlib" };
        assert!(lines[0].contains(&format!("mysql.compression={name}")), "{how:?} {}", lines[0]);
    }
}

#[test]
fn sizes_are_those_on_the_wire() {
    let request = frame(How::Zlib, &query(&format!("SELECT '{}'", "x".repeat(5000))));
    let response = frame(How::Zlib, &packets(1, result(true, &["1"], 2)));
    let sizes = format!("request 4..4 ({} bytes) response 5..5 ({} bytes)", request.len(), response.len());
    let line = logged_in(How::Zlib).client(request).server(response).exchanges::<MySql>().remove(1);
    assert!(line.contains(&sizes), "{line}, not {sizes}");
}

#[test]
fn a_gap_in_a_frame_is_a_loss_and_what_follows_is_read() {
    let long = frame(How::Plain, &packets(1, result(true, &["abcdefgh"; 40], 2)));
    let conversation = logged_in(How::Zlib)
        .client(frame(How::Plain, &query("SELECT 1 FROM a")))
        .server(&long[..200])
        .server_gap(100)
        .server(&long[300..])
        .client(frame(How::Plain, &query("SELECT 2 FROM b")))
        .server(frame(How::Zlib, &packets(1, result(true, &["1", "2"], 2))));
    let lines = conversation.cut::<MySql>(Cut::Whole);
    assert!(lines[1].contains("SELECT a") && lines[1].contains("lost 100"), "{lines:#?}");
    assert!(lines[2].starts_with("ok SELECT b") && lines[2].ends_with("returned_rows=2"), "{lines:#?}");
}

#[test]
fn a_gap_over_frames_pairs_nothing_wrongly() {
    let conversation = logged_in(How::Zlib)
        .client(frame(How::Plain, &query("SELECT 1 FROM a")))
        .server_gap(100)
        .client(frame(How::Plain, &query("SELECT 2 FROM b")))
        .server(frame(How::Zlib, &packets(1, result(true, &["1", "2"], 2))));
    let lines = conversation.cut::<MySql>(Cut::Whole);
    assert!(lines[1].starts_with("no_response SELECT a") && lines[1].contains("lost 100"), "{lines:#?}");
    assert!(lines[2].starts_with("ok SELECT b") && lines[2].ends_with("returned_rows=2"), "{lines:#?}");
}

#[test]
fn frames_that_are_not_what_they_say_end_nothing_but_themselves() {
    let good = || frame(How::Zlib, &packets(1, result(true, &["1", "2"], 2)));
    let mut longer = good();
    longer[4] -= 9;
    let mut wrong = good();
    let middle = wrong.len() / 2;
    wrong[middle..].fill(0xaa);
    for bad in [longer, wrong, vec![5, 0, 0, 0, 9, 0, 0, 1, 2, 3, 4, 5]] {
        let conversation = logged_in(How::Zlib)
            .client(frame(How::Plain, &query("SELECT 1 FROM a")))
            .server(bad)
            .client(frame(How::Plain, &query("SELECT 2 FROM b")))
            .server(good());
        let lines = conversation.cut::<MySql>(Cut::Whole);
        assert!(!lines[1].starts_with("ok"), "{lines:#?}");
        assert!(lines[2].starts_with("ok SELECT b") && lines[2].ends_with("returned_rows=2"), "{lines:#?}");
    }
}
