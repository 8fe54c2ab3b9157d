//! Differences that are understood: with podtap not at fault, or by choice.

use std::fmt;

use crate::stream::Difference;

/// A capture, a stream of it, what podtap has of it and what the other tool has.
pub(crate) struct Known(&'static str, &'static str, &'static str, &'static str);

/// Why accounts differ, and those that differ for it.
pub(crate) type List = &'static [(Reason, &'static [Known])];

/// Why two accounts differ.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reason {
    /// An acknowledgement or a FIN shows bytes that the capture has not, and none of the side come after them. tshark
    /// states a gap only before data, Zeek only for a side that it saw.
    NothingBehind,
    /// Segments behind a hole, and no acknowledgement of it after them: tshark keeps them back for ever.
    KeptBack,
    /// In midstream, the first packet of the side is a keep-alive, whose sequence number is one less than that of the
    /// byte to come (RFC 9293, section 3.8.4). tshark holds that one to be missing.
    KeepAlive,
    /// SYNs were answered with several sequence numbers; tshark keeps to the first, the connection came to be with the
    /// last.
    SeveralSynAcks,
    /// A retransmission has other bytes. podtap takes those that were captured first. tshark takes those of the segment
    /// that reaches back to the hole, over those that wait behind it.
    Overlap,
    /// The snaplen cut all payload off, which tshark does not state.
    Snaplen,
    /// Payload behind a RST that was in place, which tshark pays no heed to. Nobody receives it (RFC 9293, section
    /// 3.10.7.1).
    AfterReset,
    /// The payload of a RST: text for people, no part of the stream (RFC 9293, section 3.5.3).
    ResetPayload,
    /// By the packets' times the connection was idle for longer than podtap remembers one.
    Idle,
    /// IP fragments overlap. podtap drops such a datagram, as Linux does; tshark puts it together.
    FragmentOverlap,
    /// A link type that podtap does not read.
    LinkType,
}

impl Known {
    pub(crate) fn file(&self) -> &str {
        self.0
    }

    pub(crate) fn is(&self, difference: &Difference) -> bool {
        let Known(file, stream, podtap, other) = self;
        *file == difference.file
            && *stream == difference.stream
            && *podtap == difference.podtap
            && *other == difference.other
    }
}

/// As it stands in a list.
impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Known(file, stream, podtap, other) = self;
        write!(f, "Known({file:?}, {stream:?}, {podtap:?}, {other:?}),")
    }
}

/// As tshark 4.0 has it; another version may follow streams otherwise.
pub(crate) const TSHARK: List = &[
    (
        Reason::NothingBehind,
        &[
            Known("http/deepflow-client-ip.pcap", "192.168.2.1:54034 > 192.168.10.37:8080", "1410 [308]", "1410"),
            Known("http/suricata-http-async-cli.pcap", "127.0.0.1:8080 > 127.0.0.1:50215", "[261]", "0"),
            Known("http/suricata-http-async-srv.pcap", "127.0.0.1:50215 > 127.0.0.1:8080", "[80]", "0"),
            Known("http/zeek-http_bro.org-filtered.pcap", "10.0.2.15:55079 - 192.150.187.43:80", "[1932], [83457]", ""),
            Known(
                "http/zeek-http_bro.org-filtered.pcap",
                "10.0.2.15:55080 - 192.150.187.43:80",
                "[1741], [235084]",
                "",
            ),
            Known("http/zeek-http_bro.org-filtered.pcap", "10.0.2.15:55081 - 192.150.187.43:80", "[1709], [55545]", ""),
            Known("http/zeek-http_bro.org-filtered.pcap", "10.0.2.15:55082 - 192.150.187.43:80", "[844], [20292]", ""),
            Known("http/zeek-http_bro.org-filtered.pcap", "10.0.2.15:55083 - 192.150.187.43:80", "[839], [17540]", ""),
            Known("http/zeek-http_bro.org-filtered.pcap", "10.0.2.15:55085 - 192.150.187.43:80", "[819], [32910]", ""),
            Known("http/zeek-http_bro.org-filtered.pcap", "10.0.2.15:55120 - 192.150.187.43:80", "[654], [2585]", ""),
            Known("mqtt/suricata-mqtt-events-invalid-qos.pcap", "[::1]:1883 > [::1]:38500", "4 [4]", "4"),
            Known("mqtt/suricata-mqtt-events-unintroduced.pcap", "[::1]:1883 > [::1]:38108", "[4]", "0"),
            Known("mqtt/suricata-mqtt-events-unintroduced.pcap", "[::1]:38108 > [::1]:1883", "73 [3]", "73"),
            Known("other/arkime-aerospike.pcap", "10.0.0.2:3000 > 10.0.0.1:53226", "[84]", "0"),
            Known(
                "other/deepflow-rocketmq_rocketmq-pull-message.pcap",
                "192.169.0.5:50738 > 192.169.0.4:10911",
                "753 [1092] 753 [364] 364 ... 1870 [2539]",
                "753 [1092] 753 [364] 364",
            ),
            Known(
                "postgres/suricata-pgsql-bug-6080-probe-test-01.pcap",
                "172.16.1.1:1050 > 172.16.4.19:5432",
                "[52]",
                "0",
            ),
            Known("tcp-weird/suricata-tcp-async-01.pcap", "10.0.1.150:55774 > 123.125.50.47:143", "[484]", "0"),
            Known("tcp-weird/zeek-mixed-vlan-mpls.pcap", "10.34.0.1:23 > 10.1.2.1:11001", "[49]", "0"),
            Known("tcp-weird/zeek-raw_packets.pcap", "74.125.21.138:443 > 192.168.1.103:49171", "[60]", "0"),
            Known(
                "tcp-weird/zeek-tcp_one-sided-2745.pcap",
                "245.181.165.133:1433 - 247.180.123.139:2745",
                "0, [53]",
                "",
            ),
            Known("tcp-weird/zeek-tcp_one-sided-2745.pcap", "91.189.148.149:2745 - 245.181.165.131:281", "[68], 0", ""),
        ],
    ),
    (
        Reason::KeptBack,
        &[
            Known(
                "other/deepflow-rocketmq_rocketmq-consumer-otel.pcap",
                "10.96.56.216:10911 > 10.0.0.44:52180",
                "499 [577] 499 [341] 499",
                "499 [577] 499",
            ),
            Known(
                "other/deepflow-rocketmq_rocketmq-producer-otel.pcap",
                "10.96.56.216:10911 > 10.0.0.45:55728",
                "242 [484] 242 [1073] 242",
                "242 [484] 242",
            ),
            Known(
                "other/deepflow-rocketmq_rocketmq-pull-message.pcap",
                "192.169.0.4:10911 > 192.169.0.5:50738",
                "470 [819] 802",
                "470",
            ),
            Known(
                "tcp-weird/suricata-tcp-rst-unacked-stream-10.pcap",
                "174.56.47.59:80 > 10.3.11.101:49309",
                "35576 [1288] 14168 [5152] 2576",
                "35576 [1288] 14168",
            ),
            Known(
                "tcp-weird/suricata-tcp-rst-unacked-stream-11.pcap",
                "47.32.209.86:80 > 10.11.23.101:49470",
                "1576 [1288] 2576 [1288] 1288 ... 14456 [12400]",
                "1576 [1288] 2576 [1288] 1288 ... 11880 [3864]",
            ),
        ],
    ),
    (
        Reason::KeepAlive,
        &[
            Known("mysql/deepflow-mysql-statement.pcap", "172.20.105.208:33286 > 172.20.58.80:30130", "283", "[1] 283"),
            Known("mysql/deepflow-mysql-statement.pcap", "172.20.105.208:33960 > 172.20.58.80:30130", "48", "[1] 48"),
            Known("mysql/deepflow-mysql-statement.pcap", "172.20.105.208:35986 > 172.20.58.80:30130", "31", "[1] 31"),
            Known("mysql/deepflow-mysql-statement.pcap", "172.20.105.208:38014 > 172.20.58.80:30130", "31", "[1] 31"),
            Known("mysql/deepflow-mysql-statement.pcap", "172.20.105.208:57478 > 172.20.58.80:30130", "75", "[1] 75"),
            Known("mysql/deepflow-mysql-statement.pcap", "172.20.105.208:57482 > 172.20.58.80:30130", "75", "[1] 75"),
            Known("mysql/deepflow-mysql-statement.pcap", "172.20.105.208:57484 > 172.20.58.80:30130", "48", "[1] 48"),
        ],
    ),
    (
        Reason::SeveralSynAcks,
        &[Known(
            "tcp-weird/suricata-tcp-fastopen-10-syn-data-ignore.pcap",
            "17.253.144.10:443 > 192.168.0.45:51615",
            "6068",
            "[1180489186] 6068",
        )],
    ),
    (
        Reason::Overlap,
        &[Known(
            "tcp-weird/zeek-tcp_reassembly.pcap",
            "63.193.213.194:2564 > 128.3.97.175:80",
            "1714 [8] 4372 [8] 5808 ... 28832 [4376]",
            "1714 [8] 4372 [8] 5808 ... 28832 [4376], 52 bytes not the same, from 13366",
        )],
    ),
    (
        Reason::Snaplen,
        &[Known(
            "tcp-weird/zeek-tcp_retransmit-fast009.pcap",
            "10.0.88.85:50368 - 192.168.0.27:80",
            "[474], [23783]",
            "",
        )],
    ),
    (
        Reason::AfterReset,
        &[
            Known(
                "tcp-weird/suricata-issue-3341-tcphdr-01.pcap",
                "178.128.142.56:443 - 192.168.1.24:31337",
                "",
                "0, 1023",
            ),
            Known("tcp-weird/zeek-tcp_rst-inject-rae.pcap", "1.2.0.2:2527 > 1.2.0.3:6649", "25", "175"),
            Known("tls/zeek-tls_tls13draft16-ff52.a01.pcap", "138.68.41.77:443 > 192.150.187.20:36778", "777", "801"),
        ],
    ),
    (
        Reason::ResetPayload,
        &[
            Known("tcp-weird/tcpdump-tcp_rst_data-trunc.pcap", "172.16.133.41:52875 - 199.204.31.89:80", "", "0, 57"),
            Known("tcp-weird/tcpdump-tcp_rst_data.pcap", "172.16.133.41:52875 - 199.204.31.89:80", "", "0, 58"),
            Known(
                "tcp-weird/tcpdump-tcp_rst_diag_payload-trunc.pcap",
                "192.0.2.1:43018 - 192.168.0.1:8080",
                "",
                "6, 0",
            ),
            Known("tcp-weird/tcpdump-tcp_rst_diag_payload.pcap", "192.0.2.1:39829 - 192.168.0.1:8080", "", "8, 0"),
        ],
    ),
    (
        Reason::Idle,
        &[Known(
            "tcp-weird/arkime-y2038-bgp.pcap",
            "192.168.100.1:25820 - 192.168.100.2:179",
            "[45], 45; 19, 19",
            "19, 64",
        )],
    ),
    (
        Reason::FragmentOverlap,
        &[Known("tcp-weird/zeek-ipv4_fragmented-4.pcap", "10.0.0.1:80 - 128.32.46.142:7790", "", "0, 69")],
    ),
    (Reason::LinkType, &[Known("http/arkime-80211http.pcap", "14.17.32.211:80 - 172.5.5.113:49417", "", "3945, 4083")]),
];

/// As Zeek's tests have it.
pub(crate) const ZEEK: List = &[(
    Reason::NothingBehind,
    &[Known("tcp-weird/zeek-mixed-vlan-mpls.pcap", "10.1.2.1:11001 > 10.34.0.1:23", "26, 49 [49g]", "26, 0 [0]")],
)];
