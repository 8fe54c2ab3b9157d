//! Tunnels: what lies in them is read as if it came bare.

use podtap_stream::{Engine, Limits, LinkType, Packet};

use crate::links::{Fate, check_whole, ethernet, tcp, v4, v6};
use crate::script::Recorder;
use crate::wire::{a, b, ipv4, ipv6};

/// A UDP datagram to a port.
pub(crate) fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16 + 8).to_be_bytes();
    [&[0xc0, 0x00], &port.to_be_bytes()[..], &length, &[0, 0], payload].concat()
}

fn in_ip(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4(protocol, 0, [172, 16, 0, 1], [172, 16, 0, 2], payload)
}

#[track_caller]
fn check(protocol: u8, parts: &[&[u8]], expected: Fate) {
    check_whole(LinkType::Raw, &in_ip(protocol, &parts.concat()), expected);
}

#[track_caller]
fn check_udp(port: u16, parts: &[&[u8]], expected: Fate) {
    check(17, &[&udp(port, &parts.concat())], expected);
}

#[test]
fn ip_in_ip() {
    check(4, &[&v4()], Fate::Tracked);
    check(41, &[&v6()], Fate::Tracked);
    check_whole(LinkType::Raw, &ipv6(4, &v4()), Fate::Tracked);
    check_whole(LinkType::Raw, &ipv6(41, &v6()), Fate::Tracked);
    check(51, &[&[6, 4], &[0; 22], &tcp()], Fate::Tracked); // AH
    check(97, &[&[0x30, 0], &ethernet(&[8, 0], &v4())], Fate::Tracked); // EtherIP
    check(137, &[&[0, 0, 1, 64], &v4()], Fate::Tracked); // MPLS
    check(4, &[&v6()], Fate::Malformed);
}

#[test]
fn tunnels_in_tunnels_end_somewhere() {
    let nested = |depth: usize| (0..depth).fold(v4(), |inner, _| in_ip(4, &inner));
    check_whole(LinkType::Raw, &nested(4), Fate::Tracked);
    check_whole(LinkType::Raw, &nested(40), Fate::TooDeep);
}

#[test]
fn gre() {
    check(47, &[&[0, 0, 8, 0], &v4()], Fate::Tracked);
    check(47, &[&[0, 0, 0x86, 0xdd], &v6()], Fate::Tracked);
    // Checksum, key, sequence number.
    check(47, &[&[0xb0, 0, 8, 0], &[0; 12], &v4()], Fate::Tracked);
    check(47, &[&[0x20, 0, 0x65, 0x58], &[0; 4], &ethernet(&[8, 0], &v4())], Fate::Tracked);
    // PPTP: version 1, with key, sequence and acknowledgement number.
    check(47, &[&[0x30, 0x81, 0x88, 0x0b], &[0; 12], &[0xff, 3, 0, 0x21], &v4()], Fate::Tracked);
    check(47, &[&[0x30, 0x81, 0x88, 0x0b], &[0; 12], &[0, 0x21], &v4()], Fate::Tracked);
    // ERSPAN types I, II, III, III with a subheader.
    let frame = ethernet(&[8, 0], &v4());
    check(47, &[&[0, 0, 0x88, 0xbe], &frame], Fate::Tracked);
    check(47, &[&[0x10, 0, 0x88, 0xbe], &[0; 12], &frame], Fate::Tracked);
    check(47, &[&[0x10, 0, 0x22, 0xeb], &[0; 16], &frame], Fate::Tracked);
    check(47, &[&[0x10, 0, 0x22, 0xeb], &[0; 15], &[1], &[0; 8], &frame], Fate::Tracked);
    check(47, &[&[0x40, 0, 8, 0], &v4()], Fate::NotTcp); // source route
    check(47, &[&[0, 2, 8, 0], &v4()], Fate::NotTcp);
    check_udp(4754, &[&[0, 0, 8, 0], &v4()], Fate::Tracked);
}

#[test]
fn vxlan() {
    let frame = ethernet(&[8, 0], &v4());
    for port in [4789, 8472, 4790] {
        check_udp(port, &[&[8, 0, 0, 0, 0, 0, 7, 0], &frame], Fate::Tracked);
        check_udp(port, &[&[0, 0, 0, 0, 0, 0, 7, 0], &frame], Fate::NotTcp);
    }
    check_udp(4790, &[&[0x0c, 0, 0, 1, 0, 0, 7, 0], &v4()], Fate::Tracked);
    check_udp(4790, &[&[0x0c, 0, 0, 2, 0, 0, 7, 0], &v6()], Fate::Tracked);
    check_udp(4790, &[&[0x0c, 0, 0, 3, 0, 0, 7, 0], &frame], Fate::Tracked);
    check_udp(53, &[&[8, 0, 0, 0, 0, 0, 7, 0], &frame], Fate::NotTcp);
}

#[test]
fn geneve() {
    let frame = ethernet(&[0x86, 0xdd], &v6());
    check_udp(6081, &[&[0, 0, 0x65, 0x58, 0, 0, 7, 0], &frame], Fate::Tracked);
    check_udp(6081, &[&[2, 0, 0x65, 0x58, 0, 0, 7, 0], &[0; 8], &frame], Fate::Tracked); // options
    check_udp(6081, &[&[0, 0, 0x08, 0x00, 0, 0, 7, 0], &v4()], Fate::Tracked);
    check_udp(6081, &[&[0x40, 0, 0x65, 0x58, 0, 0, 7, 0], &frame], Fate::NotTcp);
    check_udp(6081, &[&[0x3f, 0, 0x65, 0x58, 0, 0, 7, 0], &frame[..60]], Fate::Malformed);
}

#[test]
fn gtp_u() {
    let pdu = |flags: u8, optional: &[u8], ip: &[u8]| {
        let length = ((optional.len() + ip.len()) as u16).to_be_bytes();
        [&[flags, 255], &length[..], &[0, 0, 0, 9], optional, ip].concat()
    };
    check_udp(2152, &[&pdu(0x30, &[], &v4())], Fate::Tracked);
    check_udp(2152, &[&pdu(0x32, &[0, 1, 0, 0], &v6())], Fate::Tracked);
    // Two extension headers.
    check_udp(2152, &[&pdu(0x34, &[0, 0, 0, 0x85, 1, 0, 0, 0x40, 2, 0, 0, 0, 0, 0, 0, 0], &v4())], Fate::Tracked);
    check_udp(2152, &[&pdu(0x34, &[0, 0, 0, 0x85, 0, 0, 0, 0], &v4())], Fate::Malformed); // one without length
    check_udp(2152, &[&[0x30, 1, 0, 4, 0, 0, 0, 9, 0, 0, 0, 0]], Fate::NotTcp); // echo request
    check_udp(2152, &[&pdu(0x50, &[], &v4())], Fate::NotTcp); // version 2
}

#[test]
fn the_inner_length_counts() {
    // Padding behind the inner packet, and a UDP length that ends before it.
    check_udp(4789, &[&[8, 0, 0, 0, 0, 0, 7, 0], &ethernet(&[8, 0], &v4()), &[0; 9]], Fate::Tracked);
    let mut datagram = udp(2152, &[&[0x30, 255, 0, 47, 0, 0, 0, 9], &v4()[..]].concat());
    datagram.extend([0; 9]);
    check(17, &[&datagram], Fate::Tracked);
}

#[test]
fn an_inner_length_is_not_believed_beyond_an_outer_one() {
    // PPPoE with an acknowledgement whose IP header claims six bytes more: Ethernet's padding. Then the real bytes.
    let pppoe = |ip: &[u8], claimed: u8| {
        let mut packet = [&[0x11, 0, 0, 9, 0, ip.len() as u8 + 2, 0, 0x21], ip].concat();
        packet[11] += claimed;
        ethernet(&[0x88, 0x64], &[packet, vec![0; 6]].concat())
    };
    let (mut engine, mut recorder) = (Engine::new(Limits::default()), Recorder::default());
    for (ip, claimed) in [(b(0).ack(0).ip_bytes(), 6), (b(0).data("payload").ack(0).ip_bytes(), 0)] {
        let data = pppoe(&ip, claimed);
        let original_len = data.len() as u32;
        engine.packet(&Packet { link_type: LinkType::Ethernet, time_ns: 1, data: &data, original_len }, &mut recorder);
    }
    assert_eq!(recorder.lines, ["opened Midstream by 80", "A 0 payload"]);
}

#[test]
fn vlan_ids_may_differ_by_direction() {
    let (mut engine, mut recorder) = (Engine::new(Limits::default()), Recorder::default());
    for (vlan, segment) in [(5, a(-1).syn()), (9, b(-1).syn().ack(0)), (5, a(0).data("x").ack(0)), (9, b(0).data("y"))]
    {
        let data = ethernet(&[0x81, 0, 0, vlan, 8, 0], &segment.ip_bytes());
        let original_len = data.len() as u32;
        engine.packet(&Packet { link_type: LinkType::Ethernet, time_ns: 1, data: &data, original_len }, &mut recorder);
    }
    assert_eq!(recorder.lines, ["opened Handshake by 40000", "A 0 x", "B 0 y"]);
}
