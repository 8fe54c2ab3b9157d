//! Whatever comes, the decoder neither panics nor lets its memory grow, and what it reports adds up.

mod support;

use podtap_mysql::MySql;
use podtap_sdk::{Batch, Instance, OpenedConnection, Output};
use proptest::prelude::*;
use support::*;

/// What happens on a connection.
#[derive(Clone, Debug)]
enum Step {
    Data(bool, Vec<u8>),
    Gap(bool, u32),
    End(bool),
    Closed(u32),
}

fn piece() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let capabilities = prop::sample::select(vec![
        USUAL,
        USUAL | DEPRECATE_EOF,
        USUAL | COMPRESS,
        USUAL | ZSTD | DEPRECATE_EOF,
        USUAL | QUERY_ATTRIBUTES | OPTIONAL_METADATA,
        USUAL & !1 | DEPRECATE_EOF | 0x1f << 32,
    ]);
    prop_oneof![
        capabilities.clone().prop_map(|capabilities| (true, greeting("8.0.36", capabilities))),
        capabilities.prop_map(|capabilities| (false, login(capabilities))),
        Just((true, ok(2))),
        Just((true, ok(1))),
        any::<bool>().prop_map(|eof| (true, packets(1, result(eof, &["x", "yy"], 2)))),
        any::<bool>().prop_map(|eof| (true, packets(1, result(eof, &["x"], 10)))),
        Just((true, packet(1, error_payload(1064, "42000", "near 'x' at line 1")))),
        Just((true, packet(1, b"\xfb/a/file"))),
        Just((false, query("SELECT a FROM t WHERE b = 'c'"))),
        Just((false, command(0x17, [1, 0, 0, 0, 0, 1, 0, 0, 0]))),
        Just((true, packets(1, [vec![0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], definition("?"), definition("a")]))),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(byte, body)| (false, command(byte, body))),
        (any::<bool>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(server, sequence, payload)| (server, packet(sequence, payload))),
        // A compressed packet that may be anything.
        (any::<bool>(), prop::collection::vec(any::<u8>(), 1..60), 0_u8..100).prop_map(|(server, body, plain)| {
            (server, [&[body.len() as u8, 0, 0, 0, plain, 0, 0], body.as_slice()].concat())
        }),
        (any::<bool>(), prop::collection::vec(any::<u8>(), 1..60)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => piece().prop_map(|(server, bytes)| Step::Data(server, bytes)),
        // One byte changed, or the end cut off.
        4 => (piece(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|((server, mut bytes), at, byte)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            Step::Data(server, bytes)
        }),
        2 => (piece(), any::<prop::sample::Index>()).prop_map(|((server, mut bytes), at)| {
            bytes.truncate(1 + at.index(bytes.len()));
            Step::Data(server, bytes)
        }),
        2 => (any::<bool>(), prop_oneof![1_u32..300, Just(u32::MAX)]).prop_map(|(server, length)| Step::Gap(server, length)),
        1 => any::<bool>().prop_map(Step::End),
        1 => (0_u32..3).prop_map(Step::Closed),
    ]
}

/// The sums that podtap demands of an output.
fn check(output: &Output, given: u64) {
    let exchanges = output.outcomes.len();
    assert_eq!(output.times.len(), exchanges * 4);
    assert_eq!(output.sizes.len(), exchanges * 3);
    let attributes: usize = output.attribute_counts.iter().map(|&count| usize::from(count)).sum();
    assert_eq!(output.attribute_ids.len(), attributes);
    for times in output.times.chunks(4) {
        assert!(times[1] == 0 || times[0] <= times[1], "a request that ends before it begins");
        assert!(times[3] == 0 || times[2] <= times[3], "a response that ends before it begins");
    }
    assert!(output.undecoded_bytes <= given, "{} undecoded of {given}", output.undecoded_bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks_the_decoder(midstream in any::<bool>(), steps in prop::collection::vec(step(), 1..60), cut in 1_usize..80) {
        let mut instance = Instance::<MySql>::new("{}").expect("a configuration");
        let mut opened = vec![OpenedConnection {
            id: 0,
            client_address: String::new(),
            client_port: 1,
            server_address: String::new(),
            server_port: 2,
            midstream,
        }];
        let (mut positions, mut given, mut undecoded) = ([0_u64; 2], 0_u64, 0_u64);
        for (number, step) in steps.into_iter().enumerate() {
            let entries: Vec<(u8, u32, Vec<u8>)> = match step {
                Step::Data(server, bytes) => {
                    let side = u8::from(server) << 7;
                    bytes.chunks(cut).map(|piece| (side, piece.len() as u32, piece.to_vec())).collect()
                }
                Step::Gap(server, length) => vec![(1 | u8::from(server) << 7, length, Vec::new())],
                Step::End(server) => vec![(2 | u8::from(server) << 7, 0, Vec::new())],
                Step::Closed(how) => vec![(3, how, Vec::new())],
            };
            for (kind, length, data) in entries {
                let position = &mut positions[usize::from(kind >> 7)];
                given += data.len() as u64;
                let output = instance.feed(Batch {
                    opened: std::mem::take(&mut opened),
                    connections: vec![0],
                    kinds: vec![kind],
                    times: vec![number as u64 + 1],
                    positions: vec![*position],
                    lengths: vec![length],
                    data,
                });
                if kind & 127 < 2 {
                    *position += u64::from(length);
                }
                undecoded += output.undecoded_bytes;
                check(&output, given);
                assert!(undecoded <= given, "{undecoded} undecoded of {given}");
            }
        }
    }
}
