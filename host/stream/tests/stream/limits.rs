//! Bounds on memory and patience.

use podtap_stream::{Counters, Engine, Limits, LinkType, Packet};

use crate::script::{Recorder, Run};
use crate::wire::{Tcp, a, b, ipv4};

const OPENED: &str = "opened Handshake by 40000";
const SECOND: u64 = 1_000_000_000;

#[test]
fn too_many_bytes_behind_a_hole_give_it_up() {
    let mut run = Run::new(Limits { side_buffer_bytes: 4, ..Limits::default() });
    run.send(&[a(-1).syn(), a(2).data("cd"), a(6).data("gh")]).tells(&[]);
    run.send(&[a(9).data("j")]).tells(&[OPENED, "A 0 gap 2 BufferLimit", "A 2 cd"]);
    run.send(&[a(4).data("ef")]).tells(&["A 4 ef", "A 6 gh"]);
    // More than the bound at once is not kept at all.
    run.send(&[a(20).data("xxxxx")]).tells(&[
        "A 8 gap 1 BufferLimit",
        "A 9 j",
        "A 10 gap 10 BufferLimit",
        "A 20 xxxxx",
    ]);
}

#[test]
fn too_many_segments_behind_a_hole_give_it_up() {
    let mut run = Run::new(Limits { side_buffer_segments: 2, ..Limits::default() });
    run.send(&[a(-1).syn(), a(2).data("c"), a(4).data("e")]).tells(&[]);
    run.send(&[a(6).data("g")]).tells(&[OPENED, "A 0 gap 2 BufferLimit", "A 2 c"]).finish();
}

#[test]
fn the_total_bound_is_paid_by_the_connection_that_asks() {
    let mut run = Run::new(Limits { total_buffer_bytes: 200, ..Limits::default() });
    run.send(&[a(-1).port(1).syn(), a(-1).port(2).syn(), a(2).port(1).data([b'x'; 100])]).tells(&[]);
    run.send(&[a(2).port(2).data([b'y'; 100])]);
    let lines = &run.recorder.lines;
    assert_eq!(lines[..2], ["opened Handshake by 2", "A 0 gap 2 BufferLimit"]);
    assert_eq!(run.engine.counters().bytes_buffered, 100);
    run.finish();
}

#[test]
fn a_hole_is_given_up_after_its_time() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), a(2).data("c").at(10 * SECOND)]).tells(&[]);
    // A packet of another connection is enough; this one is of another protocol.
    let data = ipv4(17, 0, [1; 4], [2; 4], &[0; 8]);
    let mut packet = Packet { link_type: LinkType::Raw, time_ns: 12 * SECOND - 1, data: &data, original_len: 28 };
    run.engine.packet(&packet, &mut run.recorder);
    run.tells(&[]);
    packet.time_ns += 1;
    run.engine.packet(&packet, &mut run.recorder);
    run.tells(&[OPENED, "A 0 gap 2 Timeout", "A 2 c"]);
}

#[test]
fn timers_go_on_after_the_clock_was_set_back() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn().at(5000 * SECOND), a(2).data("c").at(5001 * SECOND), a(-1).port(9).syn().at(5001 * SECOND)]);
    // An hour back. That it is no single packet from the past is known after a second.
    let later = |seconds: u64| a(0).port(8).rst().at((1400 + seconds) * SECOND);
    run.send(&[later(0), later(1), later(2)]).tells(&[]);
    run.send(&[later(3)]).tells(&[OPENED, "A 0 gap 2 Timeout", "A 2 c"]);
    run.send(&[later(10)]);
    assert_eq!(run.recorder.closed.len(), 0);
    run.send(&[later(11)]);
    assert_eq!(run.recorder.closed.len(), 1);
    assert_eq!(run.recorder.closed[0].1.time_ns, 1411 * SECOND);
    run.send(&[later(601)]).tells(&["closed Idle"]);
}

#[test]
fn a_hole_that_the_receiver_asks_for_lasts_longer() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), b(-1).syn().ack(0), a(0).data("ab").ack(0), a(4).data("e").ack(0).at(10 * SECOND)]);
    run.send(&[b(0).ack(2).at(11 * SECOND), b(0).ack(2).at(25 * SECOND)]).tells(&[OPENED, "A 0 ab"]);
    run.send(&[b(0).ack(2).at(30 * SECOND)]).tells(&["A 2 gap 2 Timeout", "A 4 e"]);
}

#[test]
fn each_hole_has_its_time_after_the_one_before_was_filled() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), a(2).data("c").at(10 * SECOND), a(5).data("f").at(10 * SECOND)]);
    run.send(&[a(0).data("ab").at(11 * SECOND), a(-1).port(9).syn().at(12 * SECOND)]);
    run.tells(&[OPENED, "A 0 ab", "A 2 c"]);
    run.send(&[a(3).data("de").at(12 * SECOND + SECOND / 2)]).tells(&["A 3 de", "A 5 f"]);
}

#[test]
fn a_hole_before_a_fin_is_given_up_too() {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), b(-1).syn().ack(0), b(0).data("x").fin().ack(0), a(2).fin().ack(0).at(10 * SECOND)]);
    run.tells(&[OPENED, "B 0 x", "B 1 end"]);
    run.send(&[a(-1).port(9).syn().at(13 * SECOND)]).tells(&["A 0 gap 2 Timeout", "A 2 end", "closed Finished"]);
}

#[test]
fn half_open_connections_are_evicted_first() {
    let mut run = Run::new(Limits { max_connections: 3, ..Limits::default() });
    run.send(&[a(0).port(1).data("x"), a(-1).port(2).syn(), a(0).port(3).data("y")]);
    run.send(&[a(-1).port(4).syn(), a(-1).port(5).syn(), a(1).port(1).data("x"), a(1).port(3).data("y")]);
    run.tells(&["opened Midstream by 1", "A 0 x", "opened Midstream by 3", "A 0 y", "A 1 x", "A 1 y"]);
    // No half-open one left: the one quiet longest goes.
    run.send(&[a(0).port(5).data("z"), a(0).port(6).data("n")]);
    run.tells(&["opened Handshake by 5", "A 0 z", "closed Evicted", "opened Midstream by 6", "A 0 n"]);
    assert_eq!(run.engine.counters().connections_evicted, 3);
    assert_eq!(run.engine.counters().connections, 3);
    assert!(run.recorder.last_id.expect("opened").index < 3);
    run.send(&[a(2).port(3).data("y")]).tells(&["A 2 y"]).finish();
}

#[test]
fn a_syn_flood_costs_no_established_connection() {
    const SYNS: u32 = if cfg!(miri) { 500 } else { 100_000 };
    let limits = Limits { max_connections: 100, ..Limits::default() };
    let (mut engine, mut recorder) = (Engine::new(limits), Recorder::default());
    for port in 0..50 {
        a(0).port(port).data("x").send(&mut engine, SECOND, &mut recorder);
    }
    recorder.lines.clear();
    for i in 0..SYNS {
        let [_, x, y, z] = i.to_be_bytes();
        let data = ipv4(6, 0, [11, x, y, z], [10, 0, 0, 2], &a(-1).syn().tcp_bytes());
        let packet = Packet { link_type: LinkType::Raw, time_ns: SECOND, data: &data, original_len: 40 };
        engine.packet(&packet, &mut recorder);
    }
    assert!(recorder.lines.is_empty());
    assert_eq!(engine.counters().connections, 100);
    for port in 0..50 {
        a(1).port(port).data("y").send(&mut engine, SECOND, &mut recorder);
    }
    assert_eq!(recorder.lines, vec!["A 1 y"; 50]);
}

/// A connection that is over.
fn over(port: u16) -> [Tcp; 4] {
    let [syn, syn_ack, q, r] =
        [a(-1).syn(), b(-1).syn().ack(0), a(0).data("q").fin().ack(0), b(0).data("r").fin().ack(2)];
    [syn, syn_ack, q, r].map(|segment| segment.port(port))
}

#[test]
fn handshakes_are_not_evicted_for_connections_that_are_over() {
    let mut run = Run::new(Limits { max_connections: 8, ..Limits::default() });
    for port in 1..9 {
        run.send(&over(port));
    }
    run.recorder.lines.clear();
    let syns: Vec<_> = (11..15).map(|port| a(-1).port(port).syn()).collect();
    run.send(&syns).tells(&[]);
    for port in 11..15 {
        run.send(&[a(0).port(port).data("x")]).tells(&[&format!("opened Handshake by {port}"), "A 0 x"]);
    }
    assert_eq!(run.engine.counters().connections_evicted, 0);
    run.finish();
}

#[test]
fn a_syn_flood_does_not_make_connections_that_are_over_forgotten() {
    let mut run = Run::new(Limits { max_connections: 20, ..Limits::default() });
    for port in 1..5 {
        run.send(&over(port));
    }
    run.recorder.lines.clear();
    for port in 100..1000 {
        run.send(&[a(-1).port(port).syn()]);
    }
    for port in 1..5 {
        run.send(&over(port)[2..]);
    }
    run.tells(&[]);
    assert_eq!(run.engine.counters().packets_late, 8);
    run.finish();
}

#[test]
fn a_table_of_no_size_still_holds_one() {
    let mut run = Run::new(Limits { max_connections: 0, ..Limits::default() });
    run.send(&[a(0).port(1).data("x"), a(0).port(2).data("y")]).finish();
    let expected = ["opened Midstream by 1", "A 0 x", "closed Evicted", "opened Midstream by 2", "A 0 y"];
    assert_eq!(run.recorder.lines[..5], expected);
}

#[test]
fn without_any_room_loss_is_told_at_once() {
    let limits = Limits { side_buffer_bytes: 0, total_buffer_bytes: 0, side_buffer_segments: 0, ..Limits::default() };
    let mut run = Run::new(limits);
    run.send(&[a(-1).syn(), a(2).data("cd"), a(0).data("ab")]);
    run.tells(&[OPENED, "A 0 gap 2 BufferLimit", "A 2 cd"]);
    let expected = Counters {
        packets: 3,
        packets_tracked: 3,
        bytes: 4,
        bytes_delivered: 2,
        bytes_duplicate: 2,
        bytes_gap_buffer_limit: 2,
        gaps: 1,
        connections: 1,
        connections_total: 1,
        ..Counters::default()
    };
    assert_eq!(*run.engine.counters(), expected);
}
