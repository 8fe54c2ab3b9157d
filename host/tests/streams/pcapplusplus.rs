//! PcapPlusPlus's account of its own test captures: the text of both sides, in the order in which it hands it on.
//!
//! Its tests also change the packets before they are read: move, remove and repeat them. So does this one; the packet
//! numbers are from its `TcpReassemblyTests.cpp` and count from 0, each after the changes before.
//!
//! Of the texts beside the captures, these are not compared: `one_tcp_stream_missing_data_output.txt`, where it hands
//! on the second segment of a message before the first, of which 20 bytes are missing; those with "manual close", where
//! its consumer closes the connection halfway; `one_ipv6_http_stream2.txt` and on, of a capture that is not there.

use crate::engine::{self, Record};
use crate::{Folder, skip};

/// A capture, what is done to its packets, and the texts expected, one a connection.
struct Case {
    capture: &'static str,
    change: fn(&mut Vec<Record>),
    texts: &'static [&'static str],
}

const ONE_STREAM: &str = "tcp-weird/pcapplusplus-one_tcp_stream.pcap";
const ONE_WITH_FIN: &str = "http/pcapplusplus-one_http_stream_fin2.pcap";

const CASES: &[Case] = &[
    Case { capture: ONE_STREAM, change: |_| {}, texts: &["one_tcp_stream_output.txt"] },
    Case {
        // In midstream.
        capture: ONE_STREAM,
        change: |packets| drop(packets.drain(..2)),
        texts: &["one_tcp_stream_output.txt"],
    },
    Case {
        capture: ONE_STREAM,
        change: |packets| {
            // Wholly and in part, and with more bytes than the original had.
            let again = [
                (5, part(&packets[4], 0, 1420)),
                (12, part(&packets[10], 10, 1350)),
                (16, part(&packets[13], 0, 1340)),
                (25, part(&packets[21], 0, 1430)),
                (33, part(&packets[28], 10, 1370)),
                (40, part(&packets[34], 10, 91)),
            ];
            again.into_iter().for_each(|(at, packet)| packets.insert(at, packet));
        },
        texts: &["one_tcp_stream_retransmission_output.txt"],
    },
    Case {
        capture: ONE_STREAM,
        change: |packets| {
            packets.swap(9, 10);
            let late = packets.remove(18);
            packets.insert(23, late);
            reverse_last_answer(packets);
        },
        texts: &["one_tcp_stream_out_of_order_output.txt"],
    },
    Case {
        capture: ONE_STREAM,
        change: |packets| {
            packets.remove(30);
            reverse_last_answer(packets);
        },
        texts: &["one_tcp_stream_missing_data_output_ooo.txt"],
    },
    Case { capture: ONE_WITH_FIN, change: |_| {}, texts: &["one_http_stream_fin2_output.txt"] },
    Case {
        // A segment behind the FIN.
        capture: ONE_WITH_FIN,
        change: |packets| {
            let late = packets.remove(6);
            packets.insert(12, late);
        },
        texts: &["one_http_stream_fin2_output2.txt"],
    },
    Case {
        capture: "http/pcapplusplus-one_http_stream_rst.pcap",
        change: |_| {},
        texts: &["one_http_stream_rst_output.txt"],
    },
    Case {
        capture: "http/pcapplusplus-one_ipv6_http_stream.pcap",
        change: |_| {},
        texts: &["one_ipv6_http_stream.txt"],
    },
    Case {
        capture: "http/pcapplusplus-three_http_streams.pcap",
        change: |_| {},
        texts: &[
            "three_http_streams_conn_1_output.txt",
            "three_http_streams_conn_2_output.txt",
            "three_http_streams_conn_3_output.txt",
        ],
    },
];

#[test]
fn text_is_that_of_pcapplusplus() {
    let test = "text as PcapPlusPlus has it";
    let Some(folder) = Folder::open(test) else { return };
    if !CASES.iter().any(|case| folder.has(case.capture)) {
        return skip(test, "no capture of PcapPlusPlus in the folder");
    }
    for (number, case) in CASES.iter().enumerate() {
        let Case { capture, change, texts } = case;
        if !folder.has(capture) {
            continue;
        }
        let mut packets = engine::packets(&folder.path(capture));
        change(&mut packets);
        let expected = folder.path(capture).with_extension("expected");
        let read = |text: &&str| std::fs::read(expected.join(text)).expect("the text is beside the capture");
        let mut expected: Vec<Vec<u8>> = texts.iter().map(read).collect();
        let mut conversations = engine::run(&packets).conversations;
        // Theirs are in the order of a hash.
        expected.sort();
        conversations.sort();
        for (ours, theirs) in conversations.iter().zip(&expected) {
            let at = ours.iter().zip(theirs).take_while(|(our, their)| our == their).count();
            let (our_rest, their_rest) = (ours[at..].escape_ascii(), theirs[at..].escape_ascii());
            assert!(
                ours == theirs,
                "case {number}, {capture}: from {at}:\npodtap: {our_rest}\nPcapPlusPlus: {their_rest}"
            );
        }
        assert_eq!(conversations.len(), expected.len(), "connections in case {number}, {capture}");
    }
}

/// The server's last answer in reverse order. Without the client's acknowledgements of it: where they come before the
/// segments, the segments are held to be lost.
fn reverse_last_answer(packets: &mut Vec<Record>) {
    let mut answer = packets.split_off(24);
    answer.retain(|packet| source_port(packet) == 80);
    answer.reverse();
    packets.append(&mut answer);
}

/// A segment with another part of its payload, `from` bytes into it; behind its end, asterisks. Ethernet and IPv4.
fn part(packet: &Record, from: usize, length: usize) -> Record {
    let mut data = packet.data.clone();
    let tcp = tcp(packet);
    let start = tcp + usize::from(data[tcp + 12] >> 4) * 4;
    let end = IP + usize::from(u16::from_be_bytes([data[IP + 2], data[IP + 3]]));
    let mut payload = data[start + from..end.min(start + from + length)].to_vec();
    payload.resize(length, b'*');
    let seq = u32::from_be_bytes([data[tcp + 4], data[tcp + 5], data[tcp + 6], data[tcp + 7]]);
    data[tcp + 4..tcp + 8].copy_from_slice(&seq.wrapping_add(from as u32).to_be_bytes());
    data.truncate(start);
    data.extend(payload);
    let ip_length = (data.len() - IP) as u16;
    data[IP + 2..IP + 4].copy_from_slice(&ip_length.to_be_bytes());
    Record { original_len: data.len() as u32, data, ..*packet }
}

/// Where the IPv4 header of an Ethernet frame begins.
const IP: usize = 14;

/// Where the TCP header begins.
fn tcp(packet: &Record) -> usize {
    IP + usize::from(packet.data[IP] & 0x0f) * 4
}

fn source_port(packet: &Record) -> u16 {
    u16::from_be_bytes([packet.data[tcp(packet)], packet.data[tcp(packet) + 1]])
}
