//! Link and IP headers, tunnels, and the fate of packets that hold no TCP segment.

use podtap_stream::{Counters, Engine, Limits, LinkType, Packet};

use crate::script::Recorder;
use crate::wire::{a, ipv4, ipv6};

/// What a packet counts as besides `packets`.
#[derive(Debug, PartialEq)]
pub(crate) enum Fate {
    Tracked,
    NotTcp,
    UnknownLink,
    Malformed,
    Truncated,
    TooDeep,
    Fragment,
}

#[track_caller]
fn check(link_type: LinkType, data: &[u8], original_len: usize, expected: Fate) {
    let (mut engine, mut recorder) = (Engine::new(Limits::default()), Recorder::default());
    engine.packet(&Packet { link_type, time_ns: 1, data, original_len: original_len as u32 }, &mut recorder);
    let counters = engine.counters();
    assert!(counters.adds_up());
    let Counters {
        packets_tracked,
        packets_not_tcp,
        packets_unknown_link,
        packets_malformed,
        packets_truncated,
        packets_too_deep,
        packets_fragment,
        ..
    } = *counters;
    let fates = [
        (packets_tracked, Fate::Tracked),
        (packets_not_tcp, Fate::NotTcp),
        (packets_unknown_link, Fate::UnknownLink),
        (packets_malformed, Fate::Malformed),
        (packets_truncated, Fate::Truncated),
        (packets_too_deep, Fate::TooDeep),
        (packets_fragment, Fate::Fragment),
    ];
    let fate = fates.into_iter().find(|(count, _)| *count == 1).map(|(_, fate)| fate);
    let tracked = expected == Fate::Tracked;
    assert_eq!(fate, Some(expected));
    let lines: &[&str] = if tracked { &["opened Midstream by 40000", "A 0 payload"] } else { &[] };
    assert_eq!(recorder.lines, lines);
}

#[track_caller]
pub(crate) fn check_whole(link_type: LinkType, data: &[u8], expected: Fate) {
    check(link_type, data, data.len(), expected);
}

pub(crate) fn tcp() -> Vec<u8> {
    a(0).data("payload").ack(0).tcp_bytes()
}

pub(crate) fn v4() -> Vec<u8> {
    a(0).data("payload").ack(0).ip_bytes()
}

pub(crate) fn v6() -> Vec<u8> {
    ipv6(6, &tcp())
}

pub(crate) fn ethernet(header: &[u8], ip: &[u8]) -> Vec<u8> {
    [&[2; 12][..], header, ip].concat()
}

#[test]
fn every_number_has_its_link_type() {
    for (number, link_type) in [
        (0, LinkType::Null),
        (1, LinkType::Ethernet),
        (12, LinkType::Raw),
        (14, LinkType::Raw),
        (101, LinkType::Raw),
        (9, LinkType::Ppp),
        (50, LinkType::Ppp),
        (51, LinkType::PppEther),
        (104, LinkType::CiscoHdlc),
        (108, LinkType::Loop),
        (113, LinkType::LinuxSll),
        (166, LinkType::PppWithDirection),
        (204, LinkType::PppWithDirection),
        (228, LinkType::Ipv4),
        (229, LinkType::Ipv6),
        (239, LinkType::Nflog),
        (258, LinkType::Pktap),
        (276, LinkType::LinuxSll2),
        (105, LinkType::Unknown(105)),
    ] {
        assert_eq!(LinkType::from_number(number), link_type);
    }
}

#[test]
fn ethernet_with_and_without_tags() {
    check_whole(LinkType::Ethernet, &ethernet(&[8, 0], &v4()), Fate::Tracked);
    check_whole(LinkType::Ethernet, &ethernet(&[0x86, 0xdd], &v6()), Fate::Tracked);
    check_whole(LinkType::Ethernet, &ethernet(&[0x81, 0, 0, 7, 8, 0], &v4()), Fate::Tracked);
    check_whole(LinkType::Ethernet, &ethernet(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 0x86, 0xdd], &v6()), Fate::Tracked);
    check_whole(LinkType::Ethernet, &ethernet(&[0x81, 0, 0, 7].repeat(23), &v4()), Fate::TooDeep);
    check_whole(LinkType::Ethernet, &ethernet(&[8, 6], &[0; 28]), Fate::NotTcp);
    check_whole(LinkType::Ethernet, &ethernet(&[0, 80, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &v4()), Fate::Tracked);
    check_whole(LinkType::Ethernet, &ethernet(&[0, 39, 0x42, 0x42, 3], &[0; 35]), Fate::NotTcp);
    check_whole(LinkType::Ethernet, &ethernet(&[0, 80, 0xaa, 0xaa, 3, 0, 0, 12, 8, 0], &v4()), Fate::NotTcp);
    // 802.1Q with LLC; 802.1ah; VN-Tag; E-TAG.
    check_whole(
        LinkType::Ethernet,
        &ethernet(&[0x81, 0, 0, 7, 0, 80, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &v4()),
        Fate::Tracked,
    );
    check_whole(LinkType::Ethernet, &ethernet(&[0x88, 0xe7, 0, 0, 0, 1], &ethernet(&[8, 0], &v4())), Fate::Tracked);
    check_whole(LinkType::Ethernet, &ethernet(&[0x89, 0x3f, 0, 1, 0, 2, 0, 0, 8, 0], &v4()), Fate::Tracked);
    check_whole(LinkType::Ethernet, &ethernet(&[0x89, 0x26, 0, 1, 0, 2, 8, 0], &v4()), Fate::Tracked);
}

#[test]
fn ethernet_padding_is_no_payload() {
    check_whole(LinkType::Ethernet, &[ethernet(&[8, 0], &v4()), vec![0; 9]].concat(), Fate::Tracked);
    check_whole(LinkType::Ethernet, &[ethernet(&[0x86, 0xdd], &v6()), vec![0; 9]].concat(), Fate::Tracked);
}

#[test]
fn linux_cooked() {
    let sll =
        |arp: u8, protocol: &[u8], ip: &[u8]| [&[0, 0, 3, arp, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0], protocol, ip].concat();
    check_whole(LinkType::LinuxSll, &sll(4, &[8, 0], &v4()), Fate::Tracked);
    check_whole(LinkType::LinuxSll, &sll(4, &[0x86, 0xdd], &v6()), Fate::Tracked);
    check_whole(LinkType::LinuxSll, &sll(4, &[0x81, 0, 0, 7, 8, 0], &v4()), Fate::Tracked);
    check_whole(LinkType::LinuxSll, &sll(0x38, &[8, 0], &v4()), Fate::NotTcp); // ARPHRD_NETLINK
    check_whole(LinkType::LinuxSll, &sll(4, &[0, 1], &v4()), Fate::NotTcp);
    let sll2 = |protocol: &[u8], ip: &[u8]| [protocol, &[0; 6], &[0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0], ip].concat();
    check_whole(LinkType::LinuxSll2, &sll2(&[8, 0], &v4()), Fate::Tracked);
    check_whole(LinkType::LinuxSll2, &sll2(&[0x86, 0xdd], &v6()), Fate::Tracked);
    check_whole(LinkType::LinuxSll2, &sll2(&[8, 6], &v4()), Fate::NotTcp);
}

#[test]
fn bsd_loopback_in_both_byte_orders() {
    for link_type in [LinkType::Null, LinkType::Loop] {
        check_whole(link_type, &[&[2, 0, 0, 0], &v4()[..]].concat(), Fate::Tracked);
        check_whole(link_type, &[&[0, 0, 0, 2], &v4()[..]].concat(), Fate::Tracked);
        for family in [10, 24, 28, 30] {
            check_whole(link_type, &[&[family, 0, 0, 0], &v6()[..]].concat(), Fate::Tracked);
            check_whole(link_type, &[&[0, 0, 0, family], &v6()[..]].concat(), Fate::Tracked);
        }
        check_whole(link_type, &[&[7, 0, 0, 0], &v4()[..]].concat(), Fate::NotTcp);
    }
}

#[test]
fn bare_ip() {
    check_whole(LinkType::Raw, &v4(), Fate::Tracked);
    check_whole(LinkType::Raw, &v6(), Fate::Tracked);
    check_whole(LinkType::Raw, &[0x50; 40], Fate::Malformed);
    check_whole(LinkType::Ipv4, &v4(), Fate::Tracked);
    check_whole(LinkType::Ipv6, &v6(), Fate::Tracked);
    check_whole(LinkType::Ipv4, &v6(), Fate::Malformed);
    check_whole(LinkType::Ipv6, &v4(), Fate::Malformed);
    check_whole(LinkType::Unknown(105), &v4(), Fate::UnknownLink);
}

#[test]
fn ip_options_are_passed_over() {
    let mut packet = v4();
    packet[0] = 0x47;
    packet[3] += 8;
    packet.splice(20..20, [1; 8]);
    check_whole(LinkType::Raw, &packet, Fate::Tracked);
}

#[test]
fn ipv6_extension_headers_are_passed_over() {
    let with = |headers: &[&[u8]]| ipv6(headers[0][0], &[&headers.concat()[1..], &tcp()[..]].concat());
    // The first byte of each is its number; the next header of the one before follows from it.
    check_whole(LinkType::Raw, &with(&[&[0], &[6, 0, 0, 0, 0, 0, 0, 0]]), Fate::Tracked);
    check_whole(LinkType::Raw, &with(&[&[43], &[60, 0, 0, 0, 0, 0, 0, 0], &[6, 1], &[0; 14]]), Fate::Tracked);
    check_whole(LinkType::Raw, &with(&[&[51], &[6, 4], &[0; 22]]), Fate::Tracked);
    check_whole(LinkType::Raw, &with(&[&[44], &[6, 0, 0, 0, 0, 0, 0, 0]]), Fate::Tracked);
    check_whole(LinkType::Raw, &with(&[&[60], &[60, 0, 0, 0, 0, 0, 0, 0].repeat(30)]), Fate::TooDeep);
    check_whole(LinkType::Raw, &with(&[&[0], &[6, 255, 0, 0, 0, 0, 0, 0]]), Fate::Malformed);
    check_whole(LinkType::Raw, &ipv6(58, &[0; 30]), Fate::NotTcp);
}

#[test]
fn other_protocols_are_not_tcp() {
    check_whole(LinkType::Raw, &ipv4(6, 0x4000, [10, 0, 0, 1], [10, 0, 0, 2], &tcp()), Fate::Tracked);
    check_whole(LinkType::Raw, &ipv4(17, 0, [1; 4], [2; 4], &tcp()), Fate::NotTcp);
    check_whole(
        LinkType::Raw,
        &ipv4(60, 0, [1; 4], [2; 4], &[&[6, 0, 0, 0, 0, 0, 0, 0], &tcp()[..]].concat()),
        Fate::NotTcp,
    );
}

#[test]
fn ppp_in_all_its_framings() {
    let ppp = |header: &[u8], protocol: &[u8], ip: &[u8]| [header, protocol, ip].concat();
    for link_type in [LinkType::Ppp, LinkType::PppWithDirection] {
        let direction: &[u8] = if link_type == LinkType::Ppp { &[] } else { &[1] };
        let hdlc = [direction, &[0xff, 3]].concat();
        check_whole(link_type, &ppp(&hdlc, &[0, 0x21], &v4()), Fate::Tracked);
        check_whole(link_type, &ppp(&hdlc, &[0x21], &v4()), Fate::Tracked); // compressed protocol number
        check_whole(link_type, &ppp(direction, &[0, 0x57], &v6()), Fate::Tracked);
        check_whole(link_type, &ppp(direction, &[0x57], &v6()), Fate::Tracked);
        check_whole(link_type, &ppp(&hdlc, &[0xc0, 0x21], &[1; 20]), Fate::NotTcp); // LCP
        check_whole(link_type, &ppp(direction, &[0x0f, 0, 8, 0], &v4()), Fate::Tracked); // Cisco HDLC
        check_whole(link_type, &ppp(&hdlc, &[0x02, 0x81, 0, 0, 0x11, 64], &v4()), Fate::Tracked); // MPLS
    }
    check_whole(LinkType::CiscoHdlc, &ppp(&[0x8f, 0], &[0x86, 0xdd], &v6()), Fate::Tracked);
}

#[test]
fn pppoe() {
    let session = |code: u8, ip: &[u8]| {
        let length = (ip.len() as u16 + 2).to_be_bytes();
        [&[0x11, code, 0, 9], &length[..], &[0, 0x21], ip, &[0; 5]].concat()
    };
    check_whole(LinkType::Ethernet, &ethernet(&[0x88, 0x64], &session(0, &v4())), Fate::Tracked);
    check_whole(LinkType::PppEther, &session(0, &v4()), Fate::Tracked);
    check_whole(LinkType::PppEther, &session(9, &v4()), Fate::NotTcp);
    check_whole(LinkType::PppEther, &[&[0x21], &session(0, &v4())[1..]].concat(), Fate::Malformed);
}

#[test]
fn mpls() {
    let labels = |count: usize, below: &[u8]| {
        let stack = [[0, 1, 0, 64].repeat(count - 1), vec![0, 2, 1, 64]].concat();
        ethernet(&[0x88, 0x47], &[&stack[..], below].concat())
    };
    check_whole(LinkType::Ethernet, &labels(1, &v4()), Fate::Tracked);
    check_whole(LinkType::Ethernet, &labels(3, &v6()), Fate::Tracked);
    // Pseudowires, with a control word and without.
    check_whole(LinkType::Ethernet, &labels(1, &[&[0; 4], &ethernet(&[8, 0], &v4())[..]].concat()), Fate::Tracked);
    check_whole(LinkType::Ethernet, &labels(1, &ethernet(&[8, 0], &v4())), Fate::Tracked);
    check_whole(LinkType::Ethernet, &labels(1, &[&[0xb2; 12][..], &[8, 0], &v4()].concat()), Fate::Tracked);
    check_whole(LinkType::Ethernet, &labels(1, &[]), Fate::Malformed);
    check_whole(LinkType::Ethernet, &labels(30, &v4()), Fate::TooDeep);
}

#[test]
fn nflog() {
    let prefix = |big_endian: bool| {
        let number = |number: u16| if big_endian { number.to_be_bytes() } else { number.to_le_bytes() };
        // An attribute of 5 bytes, padded to 8; then the payload.
        let length = number(4 + v4().len() as u16);
        [&[2, 0, 0, 5][..], &number(5), &number(10), &[0; 4], &length, &number(9), &v4()].concat()
    };
    check_whole(LinkType::Nflog, &prefix(false), Fate::Tracked);
    check_whole(LinkType::Nflog, &prefix(true), Fate::Tracked);
    check_whole(LinkType::Nflog, &[2, 0, 0, 5, 3, 0, 10, 0], Fate::Malformed);
    check_whole(LinkType::Nflog, &[2, 1, 0, 5, 8, 0, 10, 0], Fate::NotTcp);
    check_whole(LinkType::Nflog, &[2, 0, 0, 5, 4, 0, 10, 0], Fate::Malformed);
}

#[test]
fn pktap() {
    let header = |length: u8, kind: u8, link_type: u8| {
        [&[length, 0, 0, 0, kind, 0, 0, 0, link_type, 0, 0, 0][..], &vec![7; usize::from(length.max(12)) - 12]].concat()
    };
    check_whole(LinkType::Pktap, &[header(108, 1, 1), ethernet(&[8, 0], &v4())].concat(), Fate::Tracked);
    check_whole(LinkType::Pktap, &[header(108, 1, 0), vec![2, 0, 0, 0], v4()].concat(), Fate::Tracked);
    check_whole(LinkType::Pktap, &[header(108, 2, 1), ethernet(&[8, 0], &v4())].concat(), Fate::NotTcp);
    check_whole(LinkType::Pktap, &header(11, 1, 1), Fate::Malformed);
    check_whole(LinkType::Pktap, &[&[12, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0], &v4()[..]].concat(), Fate::Malformed); // itself
}

#[test]
fn headers_that_contradict_themselves_are_malformed() {
    let change = |at: usize, value: u8| {
        let mut packet = v4();
        packet[at] = value;
        packet
    };
    check_whole(LinkType::Raw, &change(0, 0x44), Fate::Malformed); // header length below 20
    check_whole(LinkType::Raw, &change(3, 19), Fate::Malformed); // total length below the header
    check_whole(LinkType::Raw, &change(32, 0x40), Fate::Malformed); // data offset below 20
    check_whole(LinkType::Raw, &change(32, 0xf0), Fate::Malformed); // data offset behind the end
    check_whole(LinkType::Raw, &v4()[..39], Fate::Truncated); // the IP header promises more
    check_whole(LinkType::Raw, &v4()[..19], Fate::Malformed);
    check_whole(LinkType::Ethernet, &[0; 13], Fate::Malformed);
}

#[test]
fn headers_that_the_snaplen_cut_are_truncated() {
    let packet = ethernet(&[8, 0], &v4());
    for captured in 0..54 {
        check(LinkType::Ethernet, &packet[..captured], packet.len(), Fate::Truncated);
    }
    let packet = v6();
    for captured in 0..60 {
        check(LinkType::Raw, &packet[..captured], packet.len(), Fate::Truncated);
    }
}

#[test]
fn a_total_length_of_0_means_all_that_came() {
    let mut packet = v4();
    packet[2..4].fill(0);
    check_whole(LinkType::Raw, &packet, Fate::Tracked);
    let mut packet = v6();
    packet[4..6].fill(0);
    check_whole(LinkType::Raw, &packet, Fate::Tracked);
    check(LinkType::Raw, &packet, 1 << 30, Fate::Malformed);
}
