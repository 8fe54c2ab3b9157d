//! Builds packets.

use podtap_stream::{Engine, LinkType, Packet, Sink};

pub(crate) const ACK: u8 = 0x10;
pub(crate) const FIN: u8 = 0x01;
pub(crate) const RST: u8 = 0x04;
pub(crate) const SYN: u8 = 0x02;

/// Initial sequence numbers: A's stream wraps after two bytes.
pub(crate) const ISN_A: u32 = u32::MAX - 2;
pub(crate) const ISN_B: u32 = 5_000;

/// A TCP segment between 10.0.0.1:40000 (a) and 10.0.0.2:80 (b), in raw IPv4.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    pub(crate) from_a: bool,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) payload: Vec<u8>,
    /// Ports of a and b.
    pub(crate) ports: (u16, u16),
    /// Capture time; the next microsecond if `None`.
    pub(crate) time_ns: Option<u64>,
    /// Bytes of the packet that are captured.
    pub(crate) snaplen: usize,
}

/// A segment of a, at a stream position, without flags.
pub(crate) fn a(position: i64) -> Tcp {
    segment(true, ISN_A, position)
}

/// A segment of b.
pub(crate) fn b(position: i64) -> Tcp {
    segment(false, ISN_B, position)
}

fn segment(from_a: bool, isn: u32, position: i64) -> Tcp {
    Tcp {
        from_a,
        seq: isn.wrapping_add(1).wrapping_add(position as u32),
        ack: 0,
        flags: 0,
        window: 8_192,
        payload: Vec::new(),
        ports: (40_000, 80),
        time_ns: None,
        snaplen: usize::MAX,
    }
}

impl Tcp {
    pub(crate) fn data(mut self, payload: impl AsRef<[u8]>) -> Tcp {
        self.payload = payload.as_ref().to_vec();
        self
    }

    /// Acknowledges all before a position of the other side.
    pub(crate) fn ack(mut self, position: i64) -> Tcp {
        let isn = if self.from_a { ISN_B } else { ISN_A };
        self.ack = isn.wrapping_add(1).wrapping_add(position as u32);
        self.flags |= ACK;
        self
    }

    /// Position -1 is that of the SYN.
    pub(crate) fn syn(mut self) -> Tcp {
        self.flags |= SYN;
        self
    }

    pub(crate) fn fin(mut self) -> Tcp {
        self.flags |= FIN;
        self
    }

    pub(crate) fn rst(mut self) -> Tcp {
        self.flags |= RST;
        self
    }

    /// The window in its header.
    pub(crate) fn window(mut self, window: u16) -> Tcp {
        self.window = window;
        self
    }

    pub(crate) fn at(mut self, time_ns: u64) -> Tcp {
        self.time_ns = Some(time_ns);
        self
    }

    pub(crate) fn port(mut self, port: u16) -> Tcp {
        self.ports.0 = port;
        self
    }

    /// Adds to the sequence number: another ISN.
    pub(crate) fn shift(mut self, by: u32) -> Tcp {
        self.seq = self.seq.wrapping_add(by);
        self
    }

    /// Only so many payload bytes are captured.
    pub(crate) fn captured(mut self, payload: usize) -> Tcp {
        self.snaplen = 40 + payload;
        self
    }

    /// The TCP header and payload.
    pub(crate) fn tcp_bytes(&self) -> Vec<u8> {
        let (source, destination) = if self.from_a { self.ports } else { (self.ports.1, self.ports.0) };
        let mut bytes = Vec::new();
        bytes.extend(source.to_be_bytes());
        bytes.extend(destination.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([0x50, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.payload);
        bytes
    }

    /// The packet from the IPv4 header on. A total length that does not fit is 0, as offloading cards write it.
    pub(crate) fn ip_bytes(&self) -> Vec<u8> {
        let (source, destination) = if self.from_a { (1, 2) } else { (2, 1) };
        ipv4(6, 0, [10, 0, 0, source], [10, 0, 0, destination], &self.tcp_bytes())
    }

    pub(crate) fn send(&self, engine: &mut Engine, time_ns: u64, sink: &mut dyn Sink) {
        let bytes = self.ip_bytes();
        let data = &bytes[..bytes.len().min(self.snaplen)];
        let original_len = bytes.len() as u32;
        engine.packet(&Packet { link_type: LinkType::Raw, time_ns, data, original_len }, sink);
    }
}

pub(crate) fn ipv4(protocol: u8, fragment: u16, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let total_len = u16::try_from(20 + payload.len()).unwrap_or(0);
    let mut bytes = vec![0x45, 0];
    bytes.extend(total_len.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(source);
    bytes.extend(destination);
    bytes.extend(payload);
    bytes
}

pub(crate) fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(payload.len()).unwrap_or(0).to_be_bytes());
    bytes.extend([next_header, 64]);
    bytes.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    bytes.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    bytes.extend(payload);
    bytes
}
