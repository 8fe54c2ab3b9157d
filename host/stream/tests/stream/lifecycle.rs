//! How connections begin and end.

use podtap_stream::Limits;

use crate::script::{Run, check};
use crate::wire::{a, b};

const OPENED: &str = "opened Handshake by 40000";
const SECOND: u64 = 1_000_000_000;

#[test]
fn a_connection_without_payload_is_never_told() {
    check(&[a(-1).syn(), b(-1).syn().ack(0), a(0).ack(0), a(0).fin().ack(0), b(0).fin().ack(1), a(1).ack(1)], &[]);
    check(&[a(-1).syn(), b(0).rst().ack(0)], &[]);
    check(&[a(-1).syn()], &[]);
}

#[test]
fn a_side_that_ended_before_the_first_payload_is_told_behind_opened() {
    check(
        &[a(-1).syn(), b(-1).syn().ack(0), a(0).fin().ack(0), b(0).data("x").ack(1), b(1).fin().ack(1)],
        &[OPENED, "A 0 end", "B 0 x", "B 1 end", "closed Finished"],
    );
}

#[test]
fn the_receiver_of_a_syn_ack_is_a() {
    check(&[b(-1).syn().ack(0), b(0).data("hello").ack(0)], &[OPENED, "B 0 hello"]);
    check(
        &[b(-1).syn().ack(0), a(-1).syn(), a(0).data("x").ack(0), b(0).data("y").ack(1)],
        &[OPENED, "A 0 x", "B 0 y"],
    );
}

#[test]
fn a_handshake_captured_late_still_tells_who_opened() {
    check(&[a(0).ack(0), b(-1).syn().ack(0), a(0).data("x").ack(0)], &[OPENED, "A 0 x"]);
    check(&[b(0).ack(0), a(-1).syn(), b(-1).syn().ack(0), b(0).data("x").ack(0)], &[OPENED, "B 0 x"]);
}

#[test]
fn both_sides_may_open_at_once() {
    check(
        &[
            a(-1).syn(),
            b(-1).syn(),
            a(-1).syn().ack(0),
            b(-1).syn().ack(0),
            b(0).data("x").ack(0),
            a(0).data("y").ack(1),
        ],
        &[OPENED, "B 0 x", "A 0 y"],
    );
}

#[test]
fn an_acknowledgement_may_come_before_the_second_syn() {
    // The handshake in four steps of RFC 9293, section 3.5, and in five.
    check(
        &[a(-1).syn(), b(-1).ack(0), b(-1).syn(), a(0).data("x").ack(0), b(0).data("y").ack(1)],
        &["opened Handshake by 40000", "A 0 x", "B 0 y"],
    );
    check(
        &[
            a(-1).syn(),
            b(-1).ack(0),
            b(-1).syn(),
            a(-1).syn().ack(0),
            b(0).ack(0),
            a(0).data("x").ack(0),
            b(0).data("y"),
        ],
        &["opened Handshake by 40000", "A 0 x", "B 0 y"],
    );
    // Its number may be any.
    check(
        &[a(-1).syn(), b(900).ack(0), b(-1).syn(), a(0).data("x").ack(0), b(0).data("y").ack(1)],
        &["opened Handshake by 40000", "A 0 x", "B 0 y"],
    );
}

#[test]
fn a_syn_proxy_may_change_its_number() {
    check(&[a(-1).syn(), b(-1).shift(999).syn().ack(0), b(-1).syn().ack(0), b(0).data("x").ack(0)], &[OPENED, "B 0 x"]);
}

#[test]
fn of_several_answers_to_a_syn_the_one_that_is_taken_counts() {
    let lost = b(-1).shift(1 << 31).syn().ack(0);
    let ask = a(0).data("ask").ack(0);
    check(
        &[a(-1).syn(), b(-1).syn().ack(0), ask.clone(), lost.clone(), b(0).data("answer").ack(3)],
        &[OPENED, "A 0 ask", "B 0 answer"],
    );
    check(
        &[a(-1).syn(), b(-1).syn().ack(0), lost.clone(), ask, lost, b(0).data("answer").ack(3)],
        &[OPENED, "A 0 ask", "B 0 answer"],
    );
}

#[test]
fn a_syn_ack_not_captured_is_known_by_its_acknowledgement() {
    check(
        &[a(-1).syn(), a(0).ack(0), b(4).data("answer").ack(0), a(0).ack(10)],
        &[OPENED, "B 0 gap 4 Acknowledged", "B 4 answer"],
    );
}

#[test]
fn half_closed_the_other_side_goes_on() {
    check(
        &[
            a(-1).syn(),
            b(-1).syn().ack(0),
            a(0).data("q").fin().ack(0),
            b(0).data("r").ack(2),
            b(1).data("s").ack(2),
            b(2).fin().ack(2),
        ],
        &[OPENED, "A 0 q", "A 1 end", "B 0 r", "B 1 s", "B 2 end", "closed Finished"],
    );
}

#[test]
fn late_retransmissions_find_the_closed_connection() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), b(-1).syn().ack(0), a(0).data("q").fin().ack(0), b(0).data("r").fin().ack(2)]);
    run.tells(&[OPENED, "A 0 q", "A 1 end", "B 0 r", "B 1 end", "closed Finished"]);
    run.send(&[a(0).data("q").fin().ack(0), b(0).data("r").fin().ack(2), b(0).data("rst"), a(2).ack(2)]).tells(&[]);
    let counters = run.engine.counters();
    assert_eq!((counters.bytes_duplicate, counters.bytes_out_of_window), (3, 2));
    assert_eq!((counters.connections, counters.connections_total, counters.packets_tracked), (0, 1, 8));
    run.finish().tells(&[]);
}

#[test]
fn a_closed_connection_is_forgotten_after_its_timeout() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), a(0).data("q"), a(1).rst().at(10 * SECOND)]).tells(&[OPENED, "A 0 q", "closed Reset(A)"]);
    run.send(&[a(0).data("q").at(12 * SECOND)]).tells(&["opened Midstream by 40000", "A 0 q"]);
}

#[test]
fn a_closed_connection_is_remembered_while_retransmissions_come() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), a(0).data("q"), a(1).rst().at(10 * SECOND)]).tells(&[OPENED, "A 0 q", "closed Reset(A)"]);
    // Each after twice the time.
    for second in [11, 13, 17, 25, 41, 73] {
        run.send(&[a(0).data("q").at(second * SECOND)]).tells(&[]);
    }
    run.send(&[a(-1).port(9).syn().at(136 * SECOND)]);
    run.send(&[a(0).data("q").at(137 * SECOND)]).tells(&["opened Midstream by 40000", "A 0 q"]);
}

#[test]
fn a_copy_of_the_last_segment_is_no_retransmission() {
    let mut run = Run::new(Limits::default());
    let last = b(0).data("r").fin().ack(2);
    run.send(&[a(-1).syn(), b(-1).syn().ack(0), a(0).data("q").fin().ack(0), last.clone().at(10 * SECOND)]);
    run.tells(&[OPENED, "A 0 q", "A 1 end", "B 0 r", "B 1 end", "closed Finished"]);
    // As captured on another interface.
    run.send(&[last.at(10 * SECOND + SECOND / 1000)]).tells(&[]);
    run.send(&[a(0).data("n").at(12 * SECOND)]).tells(&["opened Midstream by 40000", "A 0 n"]);
}

#[test]
fn retransmissions_do_not_make_a_closed_connection_remembered_for_ever() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), a(0).data("q"), a(1).rst().at(10 * SECOND)]).tells(&[OPENED, "A 0 q", "closed Reset(A)"]);
    for second in [11, 70, 100, 130] {
        run.send(&[a(0).data("q").at(second * SECOND)]).tells(&[]);
    }
    run.send(&[a(0).data("q").at(160 * SECOND)]).tells(&["opened Midstream by 40000", "A 0 q"]);
}

#[test]
fn a_port_used_again_without_a_syn_is_another_connection() {
    for far in [-100_000_000, 100_000_000, 2_000_000_000, -2_000_000_000] {
        let mut run = Run::new(Limits::default());
        run.send(&[a(-1).syn(), b(-1).syn().ack(0), a(0).data("q").fin().ack(0), b(0).data("r").fin().ack(2)]);
        run.tells(&[OPENED, "A 0 q", "A 1 end", "B 0 r", "B 1 end", "closed Finished"]);
        // What is of no use for a new one, or may be garbage, leaves it remembered.
        run.send(&[a(far).ack(2), a(far).rst(), a(far).rst().data("x"), a(far).fin().ack(2)]).tells(&[]);
        run.send(&[a(far).data("n").ack(70), b(70).data("m")]);
        run.tells(&["opened Midstream by 40000", "A 0 n", "B 0 m"]).finish();
    }
}

#[test]
fn an_ignored_connection_is_remembered_too() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), b(-1).syn().ack(0), a(0).data("q").ack(0)]);
    run.engine.ignore(run.recorder.last_id.expect("opened"));
    run.send(&[a(1).fin().ack(0), b(0).fin().ack(2).at(10 * SECOND), a(2).ack(1)]);
    run.tells(&[OPENED, "A 0 q", "closed Finished"]);
    run.send(&[a(0).data("q").fin().ack(0).at(11 * SECOND), a(0).data("q").fin().ack(0).at(19 * SECOND)]).tells(&[]);
    assert_eq!(run.engine.counters().connections_total, 1);
}

#[test]
fn a_reset_hands_on_what_waits_first() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), b(-1).syn().ack(0), a(0).data("ab").ack(0), a(4).data("ef").ack(0), b(0).rst()]);
    run.tells(&[OPENED, "A 0 ab", "A 2 gap 2 ConnectionEnd", "A 4 ef", "closed Reset(B)"]);
    run.send(&[a(6).data("late").ack(0)]).tells(&[]).finish();
    assert_eq!(run.engine.counters().bytes_out_of_window, 4);
}

#[test]
fn a_reset_outside_the_window_is_not_believed() {
    check(
        &[
            a(-1).syn(),
            b(-1).syn().ack(0),
            a(0).data("ab").ack(0),
            a(1_000_000).rst(),
            a(-70_000).rst(),
            b(80_000).rst(),
            a(2).data("cd").ack(0),
            a(60_000).rst(),
        ],
        &[OPENED, "A 0 ab", "A 2 cd", "closed Reset(A)"],
    );
}

#[test]
fn the_text_of_a_reset_is_not_payload() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), a(0).data("ab"), a(2).data("go away").rst()]).tells(&[OPENED, "A 0 ab", "closed Reset(A)"]);
    assert_eq!(run.engine.counters().bytes_out_of_window, 7);
}

#[test]
fn a_new_syn_replaces_the_connection() {
    check(
        &[a(-1).syn(), a(0).data("ab"), a(4).data("e"), a(-1).shift(50_000).syn(), a(0).shift(50_000).data("new")],
        &[OPENED, "A 0 ab", "A 2 gap 2 ConnectionEnd", "A 4 e", "closed Replaced", OPENED, "A 0 new"],
    );
}

#[test]
fn a_repeated_syn_does_not() {
    check(
        &[
            a(-1).syn(),
            a(-1).syn(),
            a(0).data("ab"),
            a(-1).syn(),
            b(-1).syn().ack(0),
            b(-1).syn().ack(2),
            a(2).data("c"),
        ],
        &[OPENED, "A 0 ab", "A 2 c"],
    );
}

#[test]
fn a_syn_ack_of_another_connection_replaces_too() {
    check(
        &[a(0).data("ab").ack(10), b(10).data("x").ack(2), b(-1).shift(70_000).syn().ack(500), a(500).data("new")],
        &["opened Midstream by 40000", "A 0 ab", "B 0 x", "closed Replaced", OPENED, "A 0 new"],
    );
}

#[test]
fn a_port_is_used_again_after_the_end() {
    let first = [a(-1).syn(), b(-1).syn().ack(0), a(0).data("q").fin().ack(0), b(0).data("r").fin().ack(2)];
    let again: Vec<_> = first.iter().chain(&first).cloned().collect();
    // The same numbers are a late retransmission, others a new connection.
    check(&again, &[OPENED, "A 0 q", "A 1 end", "B 0 r", "B 1 end", "closed Finished"]);
    check(
        &[&first[..], &[a(-1).shift(9).syn(), a(0).shift(9).data("n")]].concat(),
        &[OPENED, "A 0 q", "A 1 end", "B 0 r", "B 1 end", "closed Finished", OPENED, "A 0 n"],
    );
}

#[test]
fn a_refused_connection_may_be_tried_again_with_the_same_number() {
    check(
        &[a(-1).syn(), b(0).shift(0).rst().ack(0), a(-1).syn(), b(-1).syn().ack(0), a(0).data("x").ack(0)],
        &[OPENED, "A 0 x"],
    );
}

#[test]
fn segments_of_no_use_are_stray() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(0).rst(), a(0).fin().ack(0), a(0), a(0).rst().data("text")]).tells(&[]);
    let counters = run.engine.counters();
    assert_eq!((counters.packets_stray, counters.bytes_out_of_window, counters.connections_total), (4, 4, 0));
}

#[test]
fn quiet_connections_are_let_go() {
    let limits = Limits::default();
    let mut run = Run::new(limits);
    run.recorder.show_index = true;
    run.send(&[a(-1).port(1).syn().at(SECOND), a(0).port(2).data("x").at(SECOND), a(3).port(2).data("y").at(SECOND)]);
    run.send(&[a(0).port(3).data("z").at(400 * SECOND)]);
    assert_eq!(run.engine.counters().connections, 2);
    run.tells(&[
        "1: opened Midstream by 2",
        "1: A 0 x",
        "1: A 1 gap 2 Timeout",
        "1: A 3 y",
        "0: opened Midstream by 3",
        "0: A 0 z",
    ]);
    run.send(&[a(1).port(3).data("z").at(601 * SECOND)]).tells(&["1: closed Idle", "0: A 1 z"]);
}

#[test]
fn timestamps_that_run_backwards_expire_nothing() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(0).data("x").at(1_000 * SECOND), a(1).data("y").at(SECOND), a(2).data("z").at(1_001 * SECOND)]);
    run.finish().tells(&["opened Midstream by 40000", "A 0 x", "A 1 y", "A 2 z", "closed CaptureEnd"]);
    assert_eq!(run.recorder.times, [1_000 * SECOND, SECOND, 1_001 * SECOND]);
}

#[test]
fn a_capture_after_another_has_a_time_of_its_own() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(0).data("x").at(10_000 * SECOND)]);
    run.finish().tells(&["opened Midstream by 40000", "A 0 x", "closed CaptureEnd"]);
    // Earlier by hours: its connections are idle by its own time.
    run.send(&[a(0).data("x").at(SECOND), a(1).data("y").at(700 * SECOND)]);
    run.tells(&["opened Midstream by 40000", "A 0 x", "closed Idle", "opened Midstream by 40000", "A 0 y"]);
}
