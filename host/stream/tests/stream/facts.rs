//! What is told of a connection when it ends.

use podtap_stream::{CloseReason, Closed, Connection, Endpoint, Facts, Limits, OpenedBy, Side, SideFacts};

use crate::script::Run;
use crate::wire::{Tcp, a, b};

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// The one connection of these segments, closed at the latest by the end of the capture.
#[track_caller]
fn only(segments: &[Tcp]) -> (Connection, Closed) {
    let mut run = Run::new(Limits::default());
    run.send(segments).finish();
    let [only] = run.recorder.closed[..] else { panic!("{:?}", run.recorder.closed) };
    only
}

#[track_caller]
fn facts(segments: &[Tcp]) -> Facts {
    only(segments).1.facts
}

fn handshake() -> [Tcp; 3] {
    [a(-1).syn(), b(-1).syn().ack(0), a(0).ack(0)]
}

/// What follows a handshake.
fn established(segments: &[Tcp]) -> Vec<Tcp> {
    handshake().into_iter().chain(segments.iter().cloned()).collect()
}

/// Retransmitted segments, retransmitted bytes, out-of-order segments and payload of A.
#[track_caller]
fn check_payload(segments: &[Tcp], expected: (u32, u64, u32, u64)) {
    let SideFacts { retransmitted_segments, retransmitted_bytes, out_of_order_segments, payload_bytes, .. } =
        facts(&established(segments)).a;
    assert_eq!((retransmitted_segments, retransmitted_bytes, out_of_order_segments, payload_bytes), expected);
}

#[test]
fn a_whole_connection() {
    let (connection, closed) = only(&established(&[
        a(0).data("question").ack(0),
        b(0).data("ans").ack(8),
        b(3).data("wer").ack(8),
        a(8).fin().ack(6),
        b(6).fin().ack(9),
        a(9).ack(7), // late
    ]));
    assert_eq!((connection.a.port, connection.b.port), (40_000, 80));
    assert_eq!((closed.reason, closed.time_ns), (CloseReason::Finished, SECOND + 8_000));
    let side = SideFacts { syn: true, fin: true, ..SideFacts::default() };
    let expected = Facts {
        last_ns: SECOND + 8_000,
        established: true,
        ignored: false,
        syn_to_syn_ack_ns: Some(1_000),
        syn_ack_to_ack_ns: Some(1_000),
        a: SideFacts { packets: 4, position: 8, payload_bytes: 8, ..side },
        b: SideFacts { packets: 4, position: 6, payload_bytes: 6, ..side },
    };
    assert_eq!(closed.facts, expected);
    assert_eq!(connection.start_ns, SECOND + 1_000);
}

#[test]
fn handshake_times_are_from_the_first_syn_and_the_first_answer() {
    let times = |segments: &[Tcp]| {
        let facts = facts(segments);
        (facts.syn_to_syn_ack_ns, facts.syn_ack_to_ack_ns)
    };
    let (syn, answer, ack) = (a(-1).syn(), b(-1).syn().ack(0), a(0).ack(0));
    let at = |segment: &Tcp, ms: u64| segment.clone().at(SECOND + ms * MS);
    assert_eq!(times(&[at(&syn, 0), at(&answer, 5), at(&ack, 7)]), (Some(5 * MS), Some(2 * MS)));
    assert_eq!(times(&[at(&syn, 0), at(&syn, 1_000), at(&answer, 1_005)]), (Some(1_005 * MS), None));
    assert_eq!(times(&[at(&syn, 0), at(&answer, 5), at(&answer, 900), at(&ack, 901)]), (Some(5 * MS), Some(896 * MS)));
    // Nothing is made up for what was not seen.
    assert_eq!(times(&[at(&answer, 5), at(&ack, 7)]), (None, Some(2 * MS)));
    assert_eq!(times(&[at(&syn, 0), at(&ack, 7)]), (None, None));
    assert_eq!(times(&[at(&answer, 5), at(&syn, 6), at(&ack, 7)]), (None, Some(2 * MS)));
    assert_eq!(times(&[at(&ack, 5), at(&b(0).ack(0), 6)]), (None, None));
    assert_eq!(times(&[at(&syn, 9), at(&answer, 5), at(&ack, 4)]), (None, None));
    // Data may come with the acknowledgement.
    assert_eq!(times(&[at(&syn, 0), at(&answer, 0), at(&a(0).data("x").ack(0), 3)]), (Some(0), Some(3 * MS)));
}

#[test]
fn a_syn_or_fin_sent_again_is_a_retransmission() {
    let facts = facts(&[
        a(-1).syn(),
        a(-1).syn(),
        b(-1).syn().ack(0),
        b(-1).syn().ack(0),
        b(-1).syn().ack(0),
        a(0).fin().ack(0),
        a(0).fin().ack(0),
    ]);
    assert_eq!((facts.a.retransmitted_segments, facts.b.retransmitted_segments), (2, 2));
    assert_eq!((facts.a.packets, facts.b.packets, facts.a.payload_bytes), (4, 3, 0));
}

#[test]
fn a_syn_that_comes_behind_its_answer_is_none() {
    let facts = facts(&[b(-1).syn().ack(0), a(-1).syn(), a(0).ack(0)]);
    assert_eq!((facts.a.retransmitted_segments, facts.a.syn, facts.b.syn), (0, true, true));
}

#[test]
fn refused_is_a_reset_in_answer_to_the_syn() {
    let (connection, closed) = only(&[a(-1).syn(), b(0).shift(0).rst().ack(0)]);
    assert_eq!((connection.opened_by, connection.b.port), (OpenedBy::Handshake, 80));
    assert_eq!((closed.reason, closed.time_ns), (CloseReason::Refused, SECOND + 2_000));
    assert_eq!((closed.facts.a.packets, closed.facts.b.packets, closed.facts.b.syn), (1, 1, false));
    assert_eq!(only(&[a(-1).syn(), a(-1).syn(), b(0).rst().ack(0)]).1.reason, CloseReason::Refused);
    // Answered first, it is not refused any more; nor where the answer came alone.
    assert_eq!(only(&[a(-1).syn(), b(-1).syn().ack(0), b(0).rst().ack(0)]).1.reason, CloseReason::Reset(Side::B));
    assert_eq!(only(&[b(-1).syn().ack(0), a(0).rst()]).1.reason, CloseReason::Reset(Side::A));
    assert_eq!(only(&[a(0).ack(0), b(0).rst().ack(0)]).1.reason, CloseReason::Reset(Side::B));
}

#[test]
fn a_refused_connection_tried_again_is_another_one() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), b(0).rst().ack(0), a(-1).syn(), b(0).rst().ack(0)]).finish();
    let reasons: Vec<_> = run.recorder.closed.iter().map(|(_, closed)| closed.reason).collect();
    assert_eq!(reasons, [CloseReason::Refused, CloseReason::Refused]);
}

#[test]
fn a_reset_names_its_sender() {
    for (reset, by) in [(a(1).rst(), Side::A), (b(0).rst(), Side::B), (b(0).rst().ack(1), Side::B)] {
        let (_, closed) = only(&established(&[a(0).data("x").ack(0), reset]));
        assert_eq!(closed.reason, CloseReason::Reset(by));
        assert_eq!(closed.facts.a.packets + closed.facts.b.packets, 5);
    }
}

#[test]
fn a_reset_that_is_not_taken_is_a_packet_and_no_more() {
    let (_, closed) = only(&established(&[a(1_000_000).rst().window(0), a(0).data("x").ack(0)]));
    assert_eq!((closed.reason, closed.facts.a.packets), (CloseReason::CaptureEnd, 4));
    assert_eq!((closed.facts.a.zero_windows, closed.facts.a.payload_bytes), (0, 1));
}

#[test]
fn a_window_closes_once_until_it_opens() {
    let facts = facts(&established(&[
        b(0).ack(1).window(0),
        b(0).ack(1).window(0),
        b(0).ack(1).window(9),
        b(0).ack(1).window(0),
        b(0).rst().window(0),
    ]));
    assert_eq!((facts.a.zero_windows, facts.b.zero_windows), (0, 2));
    // The first window seen may be closed already.
    assert_eq!(self::facts(&[a(0).ack(0).window(0)]).a.zero_windows, 1);
}

#[test]
fn bytes_seen_before_are_retransmitted() {
    check_payload(&[a(0).data("abcd").ack(0), a(0).data("abcd").ack(0)], (1, 4, 0, 8));
    check_payload(&[a(0).data("abcd").ack(0), a(2).data("cdef").ack(0)], (1, 2, 0, 8));
    // So are those that wait behind a hole.
    check_payload(&[a(2).data("cd").ack(0), a(2).data("cd").ack(0), a(0).data("ab").ack(0)], (1, 2, 1, 6));
    check_payload(&[a(2).data("cd").ack(0), a(0).data("abcd").ack(0)], (1, 2, 0, 6));
    check_payload(&[a(2).data("cd").ack(0), a(1).data("bcde").ack(0), a(0).data("a").ack(0)], (1, 2, 1, 7));
    // And those that were given up meanwhile.
    check_payload(&[a(2).data("cd").ack(0), b(0).ack(2), a(0).data("ab").ack(0)], (1, 2, 0, 4));
}

#[test]
fn bytes_that_the_snaplen_cut_were_on_the_wire() {
    let cut = a(0).data("abcd").ack(0).captured(1);
    check_payload(std::slice::from_ref(&cut), (0, 0, 0, 4));
    check_payload(&[cut.clone(), cut], (1, 4, 0, 8));
    let (ahead, whole) = (a(2).data("cdef").ack(0).captured(1), a(2).data("cdef").ack(0));
    check_payload(&[ahead.clone(), whole, a(0).data("ab").ack(0)], (1, 4, 1, 10));
    check_payload(&[ahead, a(0).data("abcdef").ack(0)], (1, 4, 0, 10));
}

#[test]
fn segments_that_fill_a_hole_are_out_of_order() {
    check_payload(&[a(2).data("cd").ack(0), a(0).data("ab").ack(0), a(4).data("e").ack(0)], (0, 0, 1, 5));
    check_payload(
        &[a(6).data("g").ack(0), a(2).data("c").ack(0), a(4).data("e").ack(0), a(0).data("ab").ack(0)],
        (0, 0, 3, 5),
    );
}

#[test]
fn probes_are_no_retransmissions() {
    let sent = a(0).data("abc").ack(0);
    check_payload(&[sent.clone(), a(2).ack(0), a(2).data("\0").ack(0), a(3).data("d").ack(0)], (0, 0, 0, 4));
    // A probe of a closed window with a byte of new data counts once, by the segment that sends the byte with others.
    let probe = a(3).data("d").ack(0);
    check_payload(&[sent, probe.clone(), probe.clone(), probe, a(3).data("def").ack(0)], (1, 1, 0, 7));
}

#[test]
fn what_is_outside_the_stream_is_no_payload() {
    check_payload(&[a(1 << 30).data("far").ack(0), a(0).data("ab").ack(0)], (0, 0, 0, 2));
    check_payload(&[a(0).data("ab").fin().ack(0), a(3).data("behind").ack(0)], (0, 0, 0, 2));
    check_payload(&[a(0).data("ab").ack(0), a(2).data("go away").rst()], (0, 0, 0, 2));
}

#[test]
fn a_packet_captured_twice_is_a_retransmission() {
    let twice: Vec<_> = established(&[a(0).data("ab").ack(0)]).into_iter().flat_map(|one| [one.clone(), one]).collect();
    let facts = facts(&twice);
    assert_eq!((facts.a.retransmitted_segments, facts.b.retransmitted_segments), (2, 1));
    assert_eq!((facts.a.packets, facts.a.retransmitted_bytes, facts.a.payload_bytes), (6, 2, 4));
}

#[test]
fn half_closed_one_fin_was_seen() {
    let (_, closed) = only(&established(&[a(0).data("q").fin().ack(0), b(0).data("r").ack(2)]));
    assert_eq!((closed.reason, closed.facts.a.fin, closed.facts.b.fin), (CloseReason::CaptureEnd, true, false));
}

#[test]
fn in_midstream_no_handshake_is_told() {
    let (connection, closed) = only(&[a(7).data("ab").ack(9), b(9).data("cde").ack(9), a(9).ack(12)]);
    assert_eq!((connection.opened_by, connection.a.port), (OpenedBy::Midstream, 40_000));
    let expected = Facts {
        last_ns: SECOND + 3_000,
        established: true,
        a: SideFacts { packets: 2, position: 2, payload_bytes: 2, ..SideFacts::default() },
        b: SideFacts { packets: 1, position: 3, payload_bytes: 3, ..SideFacts::default() },
        ..Facts::default()
    };
    assert_eq!(closed.facts, expected);
}

#[test]
fn facts_follow_the_sides_when_the_opener_is_known_late() {
    let (connection, closed) = only(&[b(0).ack(0), a(-1).syn(), b(-1).syn().ack(0), b(0).data("x").ack(0)]);
    assert_eq!((connection.opened_by, connection.a.port), (OpenedBy::Handshake, 40_000));
    assert_eq!((closed.facts.a.packets, closed.facts.b.packets, closed.facts.b.payload_bytes), (1, 3, 1));
    assert_eq!((closed.facts.a.syn, closed.facts.b.syn), (true, true));
}

#[test]
fn both_may_open_at_once() {
    let (connection, closed) = only(&[
        a(-1).syn(),
        b(-1).syn(),
        a(-1).syn().ack(0),
        b(-1).syn().ack(0),
        a(0).data("x").ack(0),
        b(0).data("y").ack(1),
    ]);
    assert_eq!((connection.opened_by, connection.a.port), (OpenedBy::Handshake, 40_000));
    let side = SideFacts { packets: 3, position: 1, payload_bytes: 1, syn: true, ..SideFacts::default() };
    assert_eq!((closed.facts.a, closed.facts.b), (side, side));
    assert_eq!(closed.facts.syn_to_syn_ack_ns, Some(3_000));
}

#[test]
fn a_connection_that_was_never_opened_is_told_once() {
    let unanswered = a(-1).syn();
    let (connection, closed) = only(std::slice::from_ref(&unanswered));
    assert_eq!(connection.b, Endpoint { address: [10, 0, 0, 2].into(), port: 80 });
    assert_eq!((closed.reason, closed.facts.b), (CloseReason::CaptureEnd, SideFacts::default()));
    assert!(!closed.facts.established);

    let reasons = |limits: Limits, segments: &[Tcp]| {
        let mut run = Run::new(limits);
        run.send(segments).tells(&[]).finish().tells(&[]);
        run.recorder.closed.iter().map(|(_, closed)| closed.reason).collect::<Vec<_>>()
    };
    let (evicted, idle, end) = (CloseReason::Evicted, CloseReason::Idle, CloseReason::CaptureEnd);
    let one = Limits { max_connections: 1, ..Limits::default() };
    assert_eq!(reasons(one, &[unanswered.clone().port(1), unanswered.clone().port(2)]), [evicted, end]);
    let later = unanswered.clone().port(2).at(100 * SECOND);
    assert_eq!(reasons(Limits::default(), &[unanswered.clone(), later]), [idle, end]);
    let another = unanswered.clone().shift(70_000);
    assert_eq!(reasons(Limits::default(), &[unanswered, another]), [CloseReason::Replaced, end]);
    let health_check = established(&[a(0).fin().ack(0), b(0).fin().ack(1), a(1).ack(1)]);
    assert_eq!(reasons(Limits::default(), &health_check), [CloseReason::Finished]);
}

#[test]
fn a_gap_says_how_long_it_was_waited_for() {
    let mut run = Run::new(Limits::default());
    let ms = |ms: u64| SECOND + ms * MS;
    run.send(&[a(-1).syn().at(ms(0)), a(2).data("c").at(ms(1)), a(5).data("f").at(ms(4)), b(0).ack(2).at(ms(10))]);
    assert_eq!(run.recorder.waits, [9 * MS]);
    // Behind the second hole, the bytes came at 4 ms.
    run.send(&[b(0).ack(6).at(ms(20))]);
    assert_eq!(run.recorder.waits, [9 * MS, 16 * MS]);
    // Where the snaplen cut it, or only an acknowledgement shows it, nothing waited.
    run.send(&[a(6).data("gh").captured(0).at(ms(30)), b(0).data("x").ack(20).at(ms(40))]);
    assert_eq!(run.recorder.waits[2..], [0, 0]);
    run.send(&[a(22).data("w").at(ms(50)), a(30).data("z").at(ms(60)), b(1).at(ms(70))]).finish();
    assert_eq!(run.recorder.waits[4..], [20 * MS, 10 * MS]);
    let facts = run.recorder.closed[0].1.facts;
    assert_eq!((facts.a.gaps, facts.a.gap_bytes, facts.a.payload_bytes), (6, 2 + 2 + 2 + 12 + 2 + 7, 6));

    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn().at(ms(0)), a(2).data("c").at(ms(1)), b(0).at(ms(2_500))]);
    assert_eq!(run.recorder.waits, [2_499 * MS]);
}

#[test]
fn an_ignored_connection_keeps_what_costs_nothing() {
    let mut run = Run::new(Limits::default());
    run.send(&established(&[a(0).data("ab").ack(0), a(4).data("ef").ack(0)]));
    run.engine.ignore(run.recorder.last_id.expect("opened"));
    run.send(&[a(2).data("cd").ack(0), a(6).data("gh").ack(0), a(6).data("gh").ack(0), a(12).data("mn").ack(0)]);
    run.send(&[a(13).data("n").ack(0), b(0).ack(14).window(0), b(0).rst()]).finish();
    let (_, closed) = run.recorder.closed[0];
    assert_eq!((closed.reason, closed.facts.ignored), (CloseReason::Reset(Side::B), true));
    let expected = SideFacts {
        packets: 9,
        position: 14,
        payload_bytes: 12,
        retransmitted_segments: 2, // what fills a hole, too
        retransmitted_bytes: 4,
        syn: true,
        ..SideFacts::default()
    };
    assert_eq!((closed.facts.a, closed.facts.b.zero_windows), (expected, 1));
}
