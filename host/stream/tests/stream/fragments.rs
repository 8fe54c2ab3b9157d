//! Fragments of IP datagrams.

use podtap_stream::{Counters, Engine, Limits, LinkType, Packet};
use proptest::prelude::*;

use crate::robustness::cases;
use crate::script::Recorder;
use crate::tunnels::udp;
use crate::wire::{a, ipv4};

/// An IPv4 fragment of the datagram with this identification; offset in bytes.
fn v4(identification: u16, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let flags_offset = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
    let mut packet = ipv4(6, flags_offset, [10, 0, 0, 1], [10, 0, 0, 2], payload);
    packet[4..6].copy_from_slice(&identification.to_be_bytes());
    packet
}

fn v6(identification: u32, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let flags_offset = (offset as u16 | u16::from(more)).to_be_bytes();
    let header = [&[6, 0], &flags_offset[..], &identification.to_be_bytes()].concat();
    crate::wire::ipv6(44, &[&header, payload].concat())
}

/// A segment with this payload.
fn tcp(payload: &str) -> Vec<u8> {
    a(0).data(payload).ack(0).tcp_bytes()
}

/// What the recorder tells of a segment that came whole.
fn told(payload: &str) -> Vec<String> {
    vec!["opened Midstream by 40000".to_owned(), format!("A 0 {payload}")]
}

struct Run {
    engine: Engine,
    recorder: Recorder,
    now_ns: u64,
}

impl Run {
    fn new(limits: Limits) -> Run {
        Run { engine: Engine::new(limits), recorder: Recorder::default(), now_ns: 1 }
    }

    fn send(&mut self, packets: &[Vec<u8>]) -> &mut Run {
        for data in packets {
            let original_len = data.len() as u32;
            let packet = Packet { link_type: LinkType::Raw, time_ns: self.now_ns, data, original_len };
            self.engine.packet(&packet, &mut self.recorder);
            assert!(self.engine.counters().adds_up(), "{:?}", self.engine.counters());
        }
        self
    }

    fn counters(&self) -> Counters {
        *self.engine.counters()
    }
}

#[track_caller]
fn check(packets: &[Vec<u8>], payload: Option<&str>) -> Counters {
    let mut run = Run::new(Limits::default());
    run.send(packets);
    assert_eq!(run.recorder.lines, payload.map(told).unwrap_or_default());
    run.counters()
}

const TEXT: &str = "a payload of some length, to be cut";

#[test]
fn fragments_become_a_segment_in_any_order() {
    let tcp = tcp(TEXT);
    for fragment in [|o, m, p: &[u8]| v4(7, o, m, p), |o, m, p: &[u8]| v6(7, o, m, p)] {
        let parts = [fragment(0, true, &tcp[..8]), fragment(8, true, &tcp[8..32]), fragment(32, false, &tcp[32..])];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let packets = order.map(|index: usize| parts[index].clone());
            let counters = check(&packets, Some(TEXT));
            let counts = (counters.packets_fragment, counters.packets_tracked, counters.datagrams_joined);
            assert_eq!(counts, (2, 1, 1));
            assert_eq!((counters.fragments_joined, counters.fragments_waiting), (2, 0));
        }
    }
}

#[test]
fn a_datagram_that_is_not_complete_is_no_segment() {
    let tcp = tcp(TEXT);
    let counters = check(&[v4(7, 0, true, &tcp[..24]), v4(7, 32, false, &tcp[32..])], None);
    assert_eq!((counters.packets_fragment, counters.fragments_waiting), (2, 2));
    let counters = check(&[v4(7, 0, true, &tcp[..32]), v4(7, 32, true, &tcp[32..48])], None);
    assert_eq!((counters.packets_fragment, counters.fragments_waiting), (2, 2));
}

#[test]
fn datagrams_are_told_apart() {
    let tcp = tcp(TEXT);
    let other = ipv4(6, 4, [10, 0, 0, 1], [10, 0, 0, 3], &tcp[32..]);
    check(&[v4(7, 0, true, &tcp[..32]), v4(8, 32, false, &tcp[32..]), other], None);
    check(&[v6(7, 0, true, &tcp[..32]), v6(1 << 16 | 7, 32, false, &tcp[32..])], None);
}

#[test]
fn duplicates_are_passed_over() {
    let tcp = tcp(TEXT);
    let (first, second, last) =
        (v4(7, 0, true, &tcp[..32]), v4(7, 32, true, &tcp[32..48]), v4(7, 48, false, &tcp[48..]));
    let part = v4(7, 8, true, &tcp[8..16]);
    let packets = [&first, &first, &part, &last, &last, &second].map(Clone::clone);
    let counters = check(&packets, Some(TEXT));
    assert_eq!((counters.fragments_duplicate, counters.fragments_joined), (3, 2));
}

#[test]
fn an_overlap_spoils_the_datagram() {
    let tcp = tcp(TEXT);
    let mut other = tcp[8..16].to_vec();
    other[0] ^= 1;
    let last = v4(7, 32, false, &tcp[32..]);
    for spoiler in [
        v4(7, 8, true, &other),       // other bytes
        v4(7, 8, true, &tcp[8..40]),  // over the edge
        v4(7, 8, false, &tcp[8..16]), // an end in the middle
    ] {
        let counters = check(&[v4(7, 0, true, &tcp[..32]), spoiler, last.clone()], None);
        assert_eq!((counters.fragments_overlapping, counters.fragments_waiting), (2, 1));
    }
    // Two ends; more behind the end; an end before what came.
    for (first, second) in [
        (v4(7, 16, false, &tcp[16..32]), v4(7, 32, false, &tcp[32..])),
        (v4(7, 16, false, &tcp[16..32]), v4(7, 32, true, &tcp[32..40])),
        (v4(7, 32, true, &tcp[32..40]), v4(7, 16, false, &tcp[16..32])),
    ] {
        let counters = check(&[first, second, v4(7, 0, true, &tcp[..16])], None);
        assert_eq!((counters.fragments_overlapping, counters.fragments_waiting), (2, 1));
    }
}

#[test]
fn nonsense_is_malformed() {
    for packet in [
        v4(7, 0, true, &[0; 12]),       // does not end at a multiple of 8
        v4(7, 8, false, &[]),           // empty
        v4(7, 65_528, false, &[0; 16]), // behind the greatest length
        v6(7, 65_528, false, &[0; 16]),
    ] {
        assert_eq!(check(&[packet], None).packets_malformed, 1);
    }
}

#[test]
fn what_cannot_hold_tcp_is_not_kept() {
    let icmp = ipv4(1, 0x2000, [1; 4], [2; 4], &[0; 8]);
    assert_eq!(check(&[icmp], None).packets_not_tcp, 1);
}

#[test]
fn a_fragment_that_the_snaplen_cut_is_truncated() {
    let (mut engine, mut recorder) = (Engine::new(Limits::default()), Recorder::default());
    let data = v4(7, 0, true, &tcp(TEXT)[..32]);
    let packet = Packet { link_type: LinkType::Raw, time_ns: 1, data: &data[..40], original_len: data.len() as u32 };
    engine.packet(&packet, &mut recorder);
    assert_eq!(engine.counters().packets_truncated, 1);
}

#[test]
fn the_rest_must_come_in_time() {
    let tcp = tcp(TEXT);
    let mut run = Run::new(Limits { fragment_timeout_ns: 100, ..Limits::default() });
    run.send(&[v4(7, 0, true, &tcp[..32])]);
    run.now_ns = 102;
    run.send(&[v4(7, 32, false, &tcp[32..])]);
    assert!(run.recorder.lines.is_empty());
    assert_eq!((run.counters().fragments_expired, run.counters().fragments_waiting), (1, 1));
    run.send(&[v4(7, 0, true, &tcp[..32])]);
    assert_eq!(run.recorder.lines, told(TEXT));
    run.send(&[v4(8, 0, true, &tcp[..32])]);
    run.engine.finish(&mut run.recorder);
    assert_eq!((run.counters().fragments_expired, run.counters().fragments_waiting), (2, 0));
    assert!(run.counters().adds_up());
}

#[test]
fn memory_is_bounded_and_the_oldest_goes() {
    let limits = Limits { fragment_buffer_bytes: 10_000, ..Limits::default() };
    let mut run = Run::new(limits);
    let tcp = tcp(TEXT);
    for identification in 0..1_000 {
        run.send(&[v4(identification, 0, true, &tcp[..32])]);
    }
    // 32 bytes, 64 for the piece, 256 for the datagram.
    let counters = run.counters();
    assert_eq!((counters.fragments_waiting, counters.fragments_evicted), (28, 972));
    run.send(&[v4(900, 32, false, &tcp[32..]), v4(999, 32, false, &tcp[32..])]);
    assert_eq!(run.recorder.lines, told(TEXT));
    run.send(&[v4(1, 0, true, &[0; 9_704])]);
    assert_eq!(run.counters().fragments_evicted, 973 + 27 + 1);
    let mut none = Run::new(Limits { fragment_buffer_bytes: 0, ..Limits::default() });
    none.send(&[v4(7, 0, true, &tcp[..32]), v4(7, 32, false, &tcp[32..])]);
    assert_eq!((none.counters().fragments_evicted, none.counters().fragments_waiting), (2, 0));
}

#[test]
fn many_datagrams_one_after_the_other_leave_nothing() {
    // An interpreter takes a second for some of them.
    const MANY: u16 = if cfg!(miri) { 50 } else { 2_000 };
    let tcp = tcp(TEXT);
    let mut run = Run::new(Limits::default());
    for identification in 0..MANY {
        run.send(&[v4(identification, 0, true, &tcp[..32]), v4(identification, 32, false, &tcp[32..])]);
    }
    let counters = run.counters();
    let found = (counters.datagrams_joined, counters.fragments_waiting, counters.fragments_evicted);
    assert_eq!(found, (MANY.into(), 0, 0));
}

#[test]
fn fragments_of_a_tunnel_and_in_a_tunnel() {
    let tcp = tcp(TEXT);
    let inner = [v4(7, 0, true, &tcp[..32]), v4(7, 32, false, &tcp[32..])];
    let gtp = |ip: &[u8]| udp(2152, &[&[0x30, 255, 0, 200, 0, 0, 0, 9], ip].concat());
    let mut packets = Vec::new();
    for (identification, ip) in (20..).zip(inner) {
        let datagram = gtp(&ip);
        for (flags_offset, part) in [(0x2000, &datagram[..24]), (3, &datagram[24..])] {
            let mut packet = ipv4(17, flags_offset, [3; 4], [4; 4], part);
            packet[5] = identification;
            packets.push(packet);
        }
    }
    let counters = check(&packets, Some(TEXT));
    assert_eq!((counters.datagrams_joined, counters.packets_fragment, counters.packets_tracked), (3, 3, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// However a datagram is cut and in whatever order its fragments come, some of them twice, it is put together.
    #[test]
    fn any_cut_and_order_gives_the_datagram(
        length in 1usize..3_000,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        order in any::<u64>(),
        twice in any::<u32>(),
        is_v6: bool,
    ) {
        let text: String = (0..length).map(|index| char::from(b'a' + (index % 23) as u8)).collect();
        let tcp = tcp(&text);
        let mut bounds: Vec<usize> = cuts.iter().map(|cut| cut.index(tcp.len()) / 8 * 8).chain([0, tcp.len()]).collect();
        bounds.sort_unstable();
        bounds.dedup();
        prop_assume!(bounds.len() > 2);
        let mut fragments: Vec<Vec<u8>> = bounds.windows(2).map(|range| {
            let (part, more) = (&tcp[range[0]..range[1]], range[1] < tcp.len());
            if is_v6 { v6(1, range[0], more, part) } else { v4(1, range[0], more, part) }
        }).collect();
        let mut state = order;
        fragments.sort_by_cached_key(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        });
        let (mut packets, mut repeated) = (Vec::new(), 0);
        let last = fragments.len() - 1;
        for (index, fragment) in fragments.into_iter().enumerate() {
            if index < last && twice >> (index % 32) & 1 == 1 {
                packets.push(fragment.clone());
                repeated += 1;
            }
            packets.push(fragment);
        }
        let counters = check(&packets, Some(&text));
        prop_assert_eq!((counters.fragments_duplicate, counters.fragments_joined), (repeated, last as u64));
    }
}
