//! Whatever the bytes are, there is no panic, the sums hold, and the promises of the sink are kept.

use podtap_stream::{Engine, Limits, LinkType, Packet, Side};
use proptest::prelude::*;

use crate::script::Recorder;
use crate::tunnels::udp;
use crate::wire::{Tcp, ipv4, ipv6};

const LINK_TYPES: [u32; 16] = [0, 1, 12, 14, 101, 108, 113, 228, 229, 276, 9, 51, 204, 239, 258, 7];

fn link_header(link_type: u32, v6: bool) -> Vec<u8> {
    let ether_type: [u8; 2] = if v6 { [0x86, 0xdd] } else { [8, 0] };
    match link_type {
        0 | 108 => vec![if v6 { 30 } else { 2 }, 0, 0, 0],
        1 => [&[1; 12][..], &ether_type].concat(),
        113 => [&[0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0][..], &ether_type].concat(),
        276 => [&ether_type[..], &[0; 18]].concat(),
        _ => Vec::new(),
    }
}

prop_compose! {
    /// A valid packet with few ports, near sequence numbers and all flags.
    fn valid_packet()(
        link_type in prop::sample::select(&LINK_TYPES[..]),
        v6: bool,
        from_a: bool,
        seq in prop_oneof![4 => 0u32..64, 1 => any::<u32>()],
        ack in prop_oneof![4 => 0u32..64, 1 => any::<u32>()],
        flags: u8,
        window: u16,
        payload in prop::collection::vec(any::<u8>(), 0..40),
        port in 0u16..3,
        fragment in prop_oneof![6 => Just(0u16), 1 => prop::sample::select(&[0x2000u16, 0x2001, 1, 2, 3][..])],
        tunnel in 0u8..12,
        snaplen in prop_oneof![4 => Just(usize::MAX), 1 => 0usize..90],
    ) -> (u32, Vec<u8>, usize) {
        let tcp = Tcp { from_a, seq, ack, flags, window, payload, ports: (port, 3), time_ns: None, snaplen }.tcp_bytes();
        let ip = match (v6, from_a) {
            (true, _) => ipv6(6, &tcp),
            (false, true) => ipv4(6, fragment, [1; 4], [2; 4], &tcp),
            (false, false) => ipv4(6, fragment, [2; 4], [1; 4], &tcp),
        };
        let ip = match tunnel {
            0 => ipv4(4, 0, [3; 4], [4; 4], &ip),
            1 => ipv4(17, 0, [3; 4], [4; 4], &udp(4789, &[&[8; 8][..], &link_header(1, v6), &ip].concat())),
            2 => ipv4(47, 0, [3; 4], [4; 4], &[&[0x30, 1][..], &link_header(1, v6)[12..], &[0; 8], &ip].concat()),
            3 => ipv4(17, 0, [3; 4], [4; 4], &udp(2152, &[&[0x34, 255, 0, 90, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0], &ip[..]].concat())),
            _ => ip,
        };
        let mut data = link_header(link_type, v6);
        data.extend(ip);
        let len = data.len();
        data.truncate(snaplen);
        (link_type, data, len)
    }
}

prop_compose! {
    fn damaged_packet()(
        (link_type, mut data, len) in valid_packet(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) -> (u32, Vec<u8>, usize) {
        for (at, value) in changes {
            if !data.is_empty() {
                let at = at.index(data.len());
                data[at] = value;
            }
        }
        (link_type, data, len)
    }
}

fn noise() -> impl Strategy<Value = (u32, Vec<u8>, usize)> {
    let data = prop::collection::vec(any::<u8>(), 0..100);
    (prop::sample::select(&LINK_TYPES[..]), data, prop_oneof![0usize..200, any::<u32>().prop_map(|len| len as usize)])
}

fn small_limits() -> impl Strategy<Value = Limits> {
    (1u32..4, 0u32..100, 0u64..1_000, 0u32..6, 0u64..100).prop_map(|(connections, side, total, segments, time)| {
        Limits {
            max_connections: connections,
            side_buffer_bytes: side,
            total_buffer_bytes: total,
            side_buffer_segments: segments,
            gap_timeout_ns: time,
            idle_timeout_ns: time * 4,
            handshake_timeout_ns: time * 2,
            close_timeout_ns: time,
            fragment_buffer_bytes: side * 16,
            fragment_timeout_ns: time,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn no_packets_break_the_engine(
        limits in prop_oneof![Just(Limits::default()), small_limits()],
        packets in prop::collection::vec(
            (prop_oneof![8 => valid_packet(), 4 => damaged_packet(), 1 => noise()], -5i64..20, 0u8..40, 0u64..50),
            0..60,
        ),
    ) {
        let mut engine = Engine::new(limits);
        let mut recorder = Recorder { skipping: true, ..Recorder::default() };
        let mut time_ns = 1_000i64;
        for ((link_type, data, original_len), step, demand, position) in packets {
            time_ns += step;
            let link_type = LinkType::from_number(link_type);
            let time_ns = time_ns as u64;
            engine.packet(&Packet { link_type, time_ns, data: &data, original_len: original_len as u32 }, &mut recorder);
            prop_assert!(engine.counters().adds_up(), "{:?}", engine.counters());
            prop_assert!(engine.counters().bytes_buffered <= limits.total_buffer_bytes);
            match (demand, recorder.last_id) {
                (0, Some(id)) => engine.ignore(id),
                (1, Some(id)) => engine.skip_to(id, Side::A, position),
                (2, Some(id)) => engine.skip_to(id, Side::B, position * 100),
                _ => {}
            }
            prop_assert!(engine.counters().adds_up(), "{:?}", engine.counters());
        }
        engine.finish(&mut recorder);
        let counters = engine.counters();
        prop_assert!(counters.adds_up());
        prop_assert_eq!((counters.bytes_buffered, counters.fragments_waiting, counters.connections), (0, 0, 0));
        recorder.check_sums(counters);
    }
}

/// Enough to find most of what there is; PROPTEST_CASES asks for more.
pub(crate) fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000)
}
