//! Order, overlaps, holes and their evidence.

use podtap_stream::{Engine, Limits, LinkType, Packet};

use crate::script::{Recorder, Run, check};
use crate::wire::{a, b};

const OPENED: &str = "opened Handshake by 40000";
const MIDSTREAM: &str = "opened Midstream by 40000";

#[test]
fn in_order_payload_is_handed_on_by_packet() {
    check(
        &[a(-1).syn(), b(-1).syn().ack(0), a(0).ack(0), a(0).data("abc").ack(0), a(3).data("de").ack(0)],
        &[OPENED, "A 0 abc", "A 3 de"],
    );
}

#[test]
fn in_order_payload_is_a_slice_of_the_packet() {
    struct Same<'a>(&'a [u8], bool);
    impl podtap_stream::Sink for Same<'_> {
        fn opened(&mut self, _: &podtap_stream::Connection) {}
        fn data(&mut self, _: podtap_stream::ConnectionId, _: podtap_stream::Side, chunk: podtap_stream::Chunk<'_>) {
            self.1 = self.0.as_ptr_range().contains(&chunk.bytes.as_ptr());
        }
        fn gap(&mut self, _: podtap_stream::ConnectionId, _: podtap_stream::Side, _: podtap_stream::Gap) {}
        fn end(&mut self, _: podtap_stream::ConnectionId, _: podtap_stream::Side, _: u64, _: u64) {}
        fn closed(&mut self, _: &podtap_stream::Connection, _: &podtap_stream::Closed) {}
    }
    let data = a(0).data("abc").ack(0).ip_bytes();
    let mut sink = Same(&data, false);
    let packet = Packet { link_type: LinkType::Raw, time_ns: 0, data: &data, original_len: data.len() as u32 };
    Engine::new(Limits::default()).packet(&packet, &mut sink);
    assert!(sink.1);
}

#[test]
fn reordered_segments_keep_their_capture_time() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), a(2).data("cd").at(2_000_000_000), a(0).data("ab").at(2_000_000_005)]);
    run.tells(&[OPENED, "A 0 ab", "A 2 cd"]);
    assert_eq!(run.recorder.times, [2_000_000_005, 2_000_000_000]);
}

#[test]
fn the_first_bytes_captured_win() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), a(2).data("CD"), a(1).data("bcde"), a(0).data("a"), a(0).data("zzzzzz")]);
    run.tells(&[OPENED, "A 0 a", "A 1 b", "A 2 CD", "A 4 e", "A 5 z"]);
    assert_eq!(run.engine.counters().bytes_conflicting, 2);
    assert_eq!(run.engine.counters().bytes_duplicate, 7);
}

#[test]
fn an_in_order_segment_does_not_replace_what_waits_within_it() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), a(2).data("C"), a(4).data("E"), a(0).data("abcdefg")]);
    run.tells(&[OPENED, "A 0 ab", "A 2 C", "A 3 d", "A 4 E", "A 5 fg"]);
    assert_eq!(run.engine.counters().bytes_conflicting, 2);
}

#[test]
fn a_packet_captured_twice_is_a_duplicate() {
    let once = [
        a(-1).syn(),
        b(-1).syn().ack(0),
        a(0).ack(0),
        a(0).data("ab").ack(0),
        b(0).data("xy").ack(2),
        a(2).fin().ack(2),
        b(2).fin().ack(3),
        a(3).ack(3),
    ];
    let twice: Vec<_> = once.iter().flat_map(|segment| [segment.clone(), segment.clone()]).collect();
    check(&twice, &[OPENED, "A 0 ab", "B 0 xy", "A 2 end", "B 2 end", "closed Finished"]);
}

#[test]
fn data_on_a_syn_begins_at_position_0() {
    check(&[a(-1).syn().data("abc"), b(-1).syn().ack(3), a(3).data("d").ack(0)], &[OPENED, "A 0 abc", "A 3 d"]);
    // The server did not take it, so it comes again.
    check(&[a(-1).syn().data("abc"), b(-1).syn().ack(0), a(0).data("abcd").ack(0)], &[OPENED, "A 0 abc", "A 3 d"]);
}

#[test]
fn keep_alives_are_duplicates() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), b(-1).syn().ack(0), a(0).data("abc").ack(0), b(0).ack(3)]);
    run.send(&[a(2).ack(0), b(0).ack(3), a(2).data("\0").ack(0), b(0).ack(3), a(3).data("d").ack(0)]);
    run.tells(&[OPENED, "A 0 abc", "A 3 d"]);
    assert_eq!(run.engine.counters().bytes_duplicate, 1);
}

#[test]
fn a_keep_alive_seen_first_does_not_make_a_hole() {
    check(&[a(9).ack(0), a(10).data("x").ack(0)], &[MIDSTREAM, "A 0 x"]);
    check(&[a(9).ack(0), b(0).ack(10), a(10).data("x").ack(0)], &[MIDSTREAM, "A 0 x"]);
    check(
        &[b(0).ack(10), a(9).data("\0").ack(0), b(0).ack(10), a(10).data("x").ack(0)],
        &["opened Midstream by 80", "B 0 x"],
    );
}

#[test]
fn a_zero_window_probe_is_its_byte() {
    check(
        &[a(-1).syn(), a(0).data("ab"), a(2).data("c"), b(0).ack(2), a(2).data("c"), b(0).ack(2), a(2).data("cde")],
        &[OPENED, "A 0 ab", "A 2 c", "A 3 de"],
    );
}

#[test]
fn a_large_offloaded_segment_is_one_chunk() {
    let payload = vec![b'x'; 512 << 10];
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), a(0).data(&payload).ack(0), b(0).ack(512 << 10), a(512 << 10).data("y").ack(0)]);
    assert_eq!(run.engine.counters().bytes_delivered, (512 << 10) + 1);
    assert_eq!(run.engine.counters().gaps, 0);
}

#[test]
fn a_hole_acknowledged_with_something_behind_is_a_gap_at_once() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), b(-1).syn().ack(0), a(0).data("ab").ack(0), a(5).data("f").ack(0)]);
    run.tells(&[OPENED, "A 0 ab"]).send(&[b(0).ack(2), b(0).ack(4)]).tells(&[]);
    run.send(&[b(0).ack(6)]).tells(&["A 2 gap 3 Acknowledged", "A 5 f"]);
    assert_eq!(run.engine.counters().bytes_gap(), 3);
}

#[test]
fn an_acknowledgement_captured_before_its_data_declares_nothing() {
    check(&[a(-1).syn(), b(-1).syn().ack(0), b(0).ack(3), a(0).data("abc").ack(0)], &[OPENED, "A 0 abc"]);
}

#[test]
fn later_data_shows_the_loss_of_what_was_acknowledged() {
    check(
        &[a(-1).syn(), b(-1).syn().ack(0), b(0).ack(3), a(3).data("d").ack(0)],
        &[OPENED, "A 0 gap 3 Acknowledged", "A 3 d"],
    );
}

#[test]
fn a_lost_request_is_a_gap_before_its_response() {
    check(
        &[a(-1).syn(), b(-1).syn().ack(0), b(0).data("answer").ack(9)],
        &[OPENED, "A 0 gap 9 Acknowledged", "B 0 answer"],
    );
}

#[test]
fn what_waits_behind_a_lost_request_comes_before_the_response_too() {
    check(
        &[a(-1).syn(), b(-1).syn().ack(0), a(4).data("efg").ack(0), b(0).data("answer").ack(7)],
        &[OPENED, "A 0 gap 4 Acknowledged", "A 4 efg", "B 0 answer"],
    );
}

#[test]
fn lost_exchanges_are_gaps_before_the_next_one() {
    // Request and response 0..4 were not captured; the next request shows the loss of both.
    check(
        &[a(-1).syn(), b(-1).syn().ack(0), a(4).data("next").ack(4), b(4).data("answer").ack(8)],
        &[OPENED, "A 0 gap 4 Acknowledged", "B 0 gap 4 Acknowledged", "A 4 next", "B 4 answer"],
    );
}

#[test]
fn one_byte_acknowledged_with_nothing_behind_is_taken_for_a_fin() {
    check(
        &[a(-1).syn(), b(-1).syn().ack(0), a(0).data("ab").ack(0), b(0).data("xy").ack(3)],
        &[OPENED, "A 0 ab", "B 0 xy"],
    );
}

#[test]
fn a_direction_never_captured_is_gaps() {
    check(
        &[b(0).data("x").ack(50), b(1).data("y").ack(90)],
        &["opened Midstream by 80", "A 0 x", "B 0 gap 40 Acknowledged", "A 1 y"],
    );
}

#[test]
fn an_acknowledged_loss_is_told_at_the_end() {
    check(
        &[a(-1).syn(), b(-1).syn().ack(0), a(0).data("ab").ack(0), b(0).ack(7)],
        &[OPENED, "A 0 ab", "A 2 gap 5 Acknowledged"],
    );
}

#[test]
fn what_waits_at_the_end_is_handed_on_behind_a_gap() {
    check(
        &[a(-1).syn(), a(0).data("ab"), a(5).data("f"), a(8).data("i").fin()],
        &[OPENED, "A 0 ab", "A 2 gap 3 ConnectionEnd", "A 5 f", "A 6 gap 2 ConnectionEnd", "A 8 i", "A 9 end"],
    );
}

#[test]
fn a_fin_out_of_order_waits_for_the_bytes_before_it() {
    check(&[a(-1).syn(), a(3).fin(), a(0).data("abc")], &[OPENED, "A 0 abc", "A 3 end"]);
    check(&[a(-1).syn(), a(2).data("c").fin(), a(0).data("ab")], &[OPENED, "A 0 ab", "A 2 c", "A 3 end"]);
}

#[test]
fn a_lost_tail_before_a_fin_is_a_gap_when_acknowledged() {
    check(
        &[a(-1).syn(), b(-1).syn().ack(0), a(0).data("ab").ack(0), a(6).fin().ack(0), b(0).ack(7)],
        &[OPENED, "A 0 ab", "A 2 gap 4 Acknowledged", "A 6 end"],
    );
}

#[test]
fn bytes_behind_a_fin_are_out_of_window() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), a(0).data("abc").fin(), a(2).data("cde"), a(3).data("d")]);
    run.tells(&[OPENED, "A 0 abc", "A 3 end"]);
    assert_eq!(run.engine.counters().bytes_out_of_window, 3);
    assert_eq!(run.engine.counters().bytes_duplicate, 1);
}

#[test]
fn a_fin_that_contradicts_bytes_seen_is_not_believed() {
    check(
        &[a(-1).syn(), a(0).data("abc"), a(5).data("f"), a(2).fin(), a(4).fin(), a(3).data("de")],
        &[OPENED, "A 0 abc", "A 3 de", "A 5 f"],
    );
}

#[test]
fn payload_that_the_snaplen_cut_is_a_gap() {
    check(
        &[a(-1).syn(), a(0).data("abcdef").captured(2), a(6).data("ghi").captured(0), a(9).data("j")],
        &[OPENED, "A 0 ab", "A 2 gap 4 Snaplen", "A 6 gap 3 Snaplen", "A 9 j"],
    );
}

#[test]
fn what_the_snaplen_cut_behind_a_hole_waits_for_its_turn() {
    check(
        &[a(-1).syn(), a(4).data("efgh").captured(2), a(0).data("abcd"), a(8).data("i")],
        &[OPENED, "A 0 abcd", "A 4 ef", "A 6 gap 2 Snaplen", "A 8 i"],
    );
}

#[test]
fn bytes_captured_later_replace_what_the_snaplen_cut() {
    check(
        &[a(-1).syn(), a(4).data("efghijkl").captured(2), a(7).data("hij"), a(0).data("abcdefgh")],
        &[OPENED, "A 0 abcd", "A 4 ef", "A 6 g", "A 7 hij", "A 10 gap 2 Snaplen"],
    );
}

#[test]
fn garbage_far_ahead_makes_no_gap() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), a(0).data("ab"), a(1 << 30).data("zz"), a(3 << 30).data("yy"), a(2).data("cd")]);
    run.tells(&[OPENED, "A 0 ab", "A 2 cd"]);
    assert_eq!(run.engine.counters().bytes_out_of_window, 4);
    run.send(&[b(0).ack(1 << 30)]).finish().tells(&["closed CaptureEnd"]);
}

#[test]
fn two_far_segments_in_a_row_move_the_stream_there() {
    check(
        &[a(-1).syn(), a(0).data("ab"), a(9).data("j"), a(1 << 30).data("zz"), a((1 << 30) + 2).data("yy")],
        &[
            OPENED,
            "A 0 ab",
            "A 2 gap 7 Resync",
            "A 9 j",
            &format!("A 10 gap {} Resync", (1 << 30) + 2 - 10),
            &format!("A {} yy", (1 << 30) + 2),
        ],
    );
}

#[test]
fn positions_go_on_past_4_gib() {
    // Each step is 60 MiB of acknowledged loss; the wrap of the sequence number must not show.
    let step = 60_i64 << 20;
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), b(-1).syn().ack(0)]);
    for i in 1..=100 {
        run.send(&[b(0).ack(i * step), a(i * step).data("x").ack(0)]);
    }
    let expected = format!("A {} x", 100 * step);
    assert_eq!(run.recorder.lines.last(), Some(&expected));
    run.finish();
}

#[test]
fn midstream_position_0_is_the_first_payload_byte() {
    check(&[a(700).data("ab").ack(100), b(100).data("x").ack(702)], &[MIDSTREAM, "A 0 ab", "B 0 x"]);
}

#[test]
fn midstream_an_acknowledgement_tells_where_both_sides_are() {
    // The first payload of either side is captured behind the second.
    check(
        &[a(10).ack(20), b(22).data("x").ack(10), b(20).data("uv").ack(10), a(13).data("cd"), a(10).data("abc")],
        &[MIDSTREAM, "B 0 uv", "B 2 x", "A 0 abc", "A 3 cd"],
    );
}

#[test]
fn midstream_a_wild_acknowledgement_is_forgotten() {
    let wild = a(0).data("x").ack(1 << 31);
    check(&[wild, b(0).data("y").ack(1)], &[MIDSTREAM, "A 0 x", "B 0 y"]);
}

#[test]
fn midstream_what_was_announced_and_never_came_is_no_gap() {
    check(&[a(0).data("ask").ack(7), b(50).data("answer").ack(3)], &[MIDSTREAM, "A 0 ask", "B 0 answer"]);
    check(
        &[a(0).data("ask").ack(7), b(50).data("answer").ack(3), a(3).data("next").ack(56), b(56).data("more").ack(7)],
        &[MIDSTREAM, "A 0 ask", "B 0 answer", "A 3 next", "B 6 more"],
    );
    check(
        &[a(0).data("ask").ack(7), b(50).data("answer").ack(3), b(60).data("tail").ack(3), a(3).ack(64)],
        &[MIDSTREAM, "A 0 ask", "B 0 answer", "B 6 gap 4 Acknowledged", "B 10 tail"],
    );
}

#[test]
fn midstream_a_skip_counts_from_the_first_byte_seen() {
    let mut run = Run::new(Limits::default());
    run.recorder.skipping = true;
    run.send(&[a(0).data("ask").ack(7)]).tells(&[MIDSTREAM, "A 0 ask"]);
    run.engine.skip_to(run.recorder.last_id.expect("opened"), podtap_stream::Side::B, 3);
    run.send(&[b(50).data("answer").ack(3), a(3).ack(56)]).tells(&["B 3 wer"]);
    run.engine.skip_to(run.recorder.last_id.expect("opened"), podtap_stream::Side::B, 8);
    run.send(&[b(56).data("more").ack(3)]).tells(&["B 8 re"]).finish();
}

#[test]
fn skipped_bytes_are_neither_kept_nor_handed_on() {
    let mut run = Run::new(Limits::default());
    run.recorder.skipping = true;
    run.send(&[a(-1).syn(), b(-1).syn().ack(0), a(0).data("ab").ack(0), a(4).data("efgh").ack(0)]);
    run.tells(&[OPENED, "A 0 ab"]);
    let id = run.recorder.last_id.expect("opened");
    run.engine.skip_to(id, podtap_stream::Side::A, 14);
    assert!(run.engine.counters().adds_up());
    assert_eq!(run.engine.counters().bytes_buffered, 0);
    // Waits without data: 4..8; 12..14 of the next; the hole 2..4 comes late.
    run.send(&[a(12).data("mnop").ack(0)]);
    assert_eq!(run.engine.counters().bytes_buffered, 2);
    run.send(&[a(2).data("cd").ack(0), a(8).data("ijkl").ack(0), a(16).data("q").ack(0)]);
    run.tells(&["A 14 op", "A 16 q"]);
    assert_eq!(run.engine.counters().bytes_skipped, 4 + 2 + 2 + 4);
    run.engine.skip_to(id, podtap_stream::Side::A, 3);
    run.send(&[a(17).data("r").ack(0)]).tells(&["A 17 r"]).finish();
}

#[test]
fn gaps_are_declared_within_a_skip() {
    let mut run = Run::new(Limits::default());
    run.recorder.skipping = true;
    run.send(&[a(-1).syn(), b(-1).syn().ack(0), a(0).data("ab").ack(0)]).tells(&[OPENED, "A 0 ab"]);
    run.engine.skip_to(run.recorder.last_id.expect("opened"), podtap_stream::Side::A, 20);
    run.send(&[a(4).data("efgh").ack(0), b(0).ack(8), a(8).data("ijkl").captured(1).ack(0), a(12).data("mn").ack(0)]);
    run.tells(&["A 2 gap 2 Acknowledged", "A 9 gap 3 Snaplen"]);
    run.send(&[a(14).data("opqrstuvw").ack(0)]).tells(&["A 20 uvw"]).finish();
}

#[test]
fn an_ignored_connection_is_told_only_its_end() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), b(-1).syn().ack(0), a(0).data("ab").ack(0), a(4).data("ef").ack(0)]);
    run.tells(&[OPENED, "A 0 ab"]);
    run.engine.ignore(run.recorder.last_id.expect("opened"));
    assert!(run.engine.counters().adds_up());
    run.send(&[a(2).data("cd").ack(0), b(0).data("x").ack(6), a(6).fin().ack(1)]).tells(&[]);
    run.send(&[b(1).fin().ack(7), a(7).ack(2), a(6).data("late").ack(2)]).tells(&["closed Finished"]);
    let counters = run.engine.counters();
    assert_eq!((counters.packets_ignored, counters.bytes_ignored, counters.bytes_abandoned), (6, 7, 2));
}

#[test]
fn a_stale_name_reaches_nobody() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), a(0).data("ab")]);
    let id = run.recorder.last_id.expect("opened");
    run.send(&[a(-1).shift(77).syn()]); // replaced: the slot is used again
    run.engine.ignore(id);
    run.engine.skip_to(id, podtap_stream::Side::A, 100);
    run.send(&[a(0).shift(77).data("new")]);
    run.tells(&[OPENED, "A 0 ab", "closed Replaced", OPENED, "A 0 new"]);
    let new = run.recorder.last_id.expect("opened");
    assert_eq!(new.index, id.index);
    assert_ne!(new.generation, id.generation);
}

#[test]
fn a_recorder_that_is_given_nothing_is_told_nothing() {
    let mut recorder = Recorder::default();
    Engine::new(Limits::default()).finish(&mut recorder);
    assert!(recorder.lines.is_empty());
}
