//! A recording as packets again, its payload cut and carried otherwise: what networks and captures do to a conversation.
//!
//! In: a recording, a variant, a seed. Out: a pcap file of TCP in bare IP. The same seed gives the same file.

use std::net::IpAddr;

use podtap_stream::{CloseReason, Connection, Endpoint, OpenedBy, Side};

use super::Random;
use super::recording::{Happening, Recording};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Payload of one packet at most, so that its length fits in the IP header.
const MAX_PIECE: usize = 32 << 10;

/// How payload is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// In the segments of the capture.
    AsCaptured,
    /// A segment for each byte.
    ByteByByte,
    /// In segments of random lengths.
    RandomSplits,
    /// As that, in another order within what a side sends at once, and some of them twice.
    Reordered,
    /// As random splits, some of which the capture has lost.
    Losses,
    /// As random splits, with the beginning of each connection not captured.
    Midstream,
}

impl Variant {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Variant::AsCaptured => "as captured",
            Variant::ByteByByte => "byte by byte",
            Variant::RandomSplits => "random splits",
            Variant::Reordered => "reordered",
            Variant::Losses => "losses",
            Variant::Midstream => "midstream",
        }
    }

    /// Does the seed matter?
    pub fn is_random(self) -> bool {
        !matches!(self, Variant::AsCaptured | Variant::ByteByByte)
    }
}

struct Segment {
    connection: usize,
    time_ns: u64,
    side: Side,
    flags: u8,
    sequence: u32,
    acknowledged: u32,
    payload: Vec<u8>,
    /// Not captured.
    lost: bool,
}

/// Makes packets of a recording.
pub struct Recut<'r> {
    recording: &'r Recording,
    /// Of each connection: the next sequence number of each side.
    next: Vec<[u32; 2]>,
    segments: Vec<Segment>,
}

impl<'r> Recut<'r> {
    /// A pcap file of the recording.
    pub fn pcap(recording: &'r Recording, variant: Variant, seed: u64) -> Vec<u8> {
        let next = recording.connections.iter().map(|_| [1000, 5000]).collect();
        let mut recut = Recut { recording, next, segments: Vec::new() };
        let mut random = Random(seed);
        recut.segments(variant, &mut random);
        match variant {
            Variant::Reordered => recut.reorder(&mut random),
            Variant::Losses => recut.lose(&mut random),
            Variant::Midstream => recut.lose_beginnings(&mut random),
            Variant::AsCaptured | Variant::ByteByByte | Variant::RandomSplits => {}
        }
        recut.file()
    }

    fn segments(&mut self, variant: Variant, random: &mut Random) {
        let mut opened = vec![false; self.recording.connections.len()];
        for recorded in &self.recording.recorded {
            let (number, time_ns) = (recorded.connection, recorded.time_ns);
            if !std::mem::replace(&mut opened[number], true) {
                let Connection { opened_by, start_ns, .. } = self.recording.connections[number];
                if opened_by == OpenedBy::Handshake {
                    for (side, flags) in [(Side::A, SYN), (Side::B, SYN | ACK), (Side::A, ACK)] {
                        self.send(number, start_ns, side, flags, &[]);
                    }
                }
            }
            match &recorded.happening {
                Happening::Data(side, _, bytes) => {
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        let longest = rest.len().min(MAX_PIECE);
                        let length = match variant {
                            Variant::AsCaptured => longest,
                            Variant::ByteByByte => 1,
                            // Short ones matter most, for they cut what is read at once.
                            _ if random.one_in(2) => 1 + random.below(longest.min(16)),
                            _ => 1 + random.below(longest),
                        };
                        let (piece, after) = rest.split_at(length);
                        self.send(number, time_ns, *side, ACK, piece);
                        rest = after;
                    }
                }
                Happening::Gap(side, _, length) => {
                    let next = &mut self.next[number][index(*side)];
                    *next = next.wrapping_add(*length as u32);
                    // The receiver has them, so they will not come.
                    self.send(number, time_ns, other(*side), ACK, &[]);
                }
                Happening::End(side, _) => self.send(number, time_ns, *side, FIN | ACK, &[]),
                Happening::Closed(CloseReason::Reset(side)) => self.send(number, time_ns, *side, RST | ACK, &[]),
                Happening::Closed(_) => {}
            }
        }
    }

    fn send(&mut self, connection: usize, time_ns: u64, side: Side, flags: u8, payload: &[u8]) {
        let [sequence, acknowledged] = [side, other(side)].map(|side| self.next[connection][index(side)]);
        let acknowledged = if flags & ACK == 0 { 0 } else { acknowledged };
        let taken = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        self.next[connection][index(side)] = sequence.wrapping_add(taken);
        let payload = payload.to_vec();
        self.segments.push(Segment { connection, time_ns, side, flags, sequence, acknowledged, payload, lost: false });
    }

    /// Shuffles what a side sends without hearing from the other one; what was heard would show what is missing.
    fn reorder(&mut self, random: &mut Random) {
        let mut from = 0;
        while from < self.segments.len() {
            let same = |it: &Segment| {
                let first = &self.segments[from];
                it.connection == first.connection && it.side == first.side && !it.payload.is_empty()
            };
            let run = self.segments[from..].iter().take_while(|it| same(it)).count();
            // Not far: a hole is kept open for a bounded number of bytes.
            let run = run.min(2 + random.below(6));
            for last in (1..run).rev() {
                let place = random.below(last + 1);
                let (one, another) = (from + last, from + place);
                let times = (self.segments[one].time_ns, self.segments[another].time_ns);
                self.segments.swap(one, another);
                (self.segments[one].time_ns, self.segments[another].time_ns) = times;
            }
            from += run.max(1);
        }
        let mut twice = Vec::with_capacity(self.segments.len());
        for segment in self.segments.drain(..) {
            if !segment.payload.is_empty() && random.one_in(8) {
                twice.push(Segment { payload: segment.payload.clone(), ..segment });
            }
            twice.push(segment);
        }
        self.segments = twice;
    }

    fn lose(&mut self, random: &mut Random) {
        let mut with_payload: Vec<_> = self.segments.iter_mut().filter(|it| !it.payload.is_empty()).collect();
        // At least one, also of few.
        let certain = random.below(with_payload.len());
        for (place, segment) in with_payload.iter_mut().enumerate() {
            segment.lost = place == certain || random.one_in(12);
        }
    }

    fn lose_beginnings(&mut self, random: &mut Random) {
        for connection in 0..self.recording.connections.len() {
            let mut of_it: Vec<_> = self.segments.iter_mut().filter(|it| it.connection == connection).collect();
            let lost = 1 + random.below(of_it.len());
            of_it.iter_mut().take(lost.max(3)).for_each(|segment| segment.lost = true);
        }
    }

    fn file(&self) -> Vec<u8> {
        // Nanoseconds, version 2.4, raw IP.
        let header = [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 0x4_0000, 101];
        let mut file: Vec<u8> = header.into_iter().flat_map(u32::to_le_bytes).collect();
        for segment in self.segments.iter().filter(|segment| !segment.lost) {
            let Connection { a, b, .. } = self.recording.connections[segment.connection];
            let (from, to) = if segment.side == Side::A { (a, b) } else { (b, a) };
            let packet = packet(segment, from, to);
            let seconds = u32::try_from(segment.time_ns / 1_000_000_000).unwrap_or(u32::MAX);
            let record = [seconds, (segment.time_ns % 1_000_000_000) as u32, packet.len() as u32, packet.len() as u32];
            file.extend(record.into_iter().flat_map(u32::to_le_bytes));
            file.extend(packet);
        }
        file
    }
}

/// TCP in IPv4 or IPv6. Checksums are left out: podtap, as most who capture, does not verify them.
fn packet(segment: &Segment, from: Endpoint, to: Endpoint) -> Vec<u8> {
    let tcp_bytes = 20 + segment.payload.len() as u16;
    let mut packet = Vec::with_capacity(60 + segment.payload.len());
    match (from.address, to.address) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet.extend([0x45, 0]);
            packet.extend((20 + tcp_bytes).to_be_bytes());
            packet.extend([0, 0, 0, 0, 64, 6, 0, 0]);
            packet.extend(from.octets().into_iter().chain(to.octets()));
        }
        (from, to) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(tcp_bytes.to_be_bytes());
            packet.extend([6, 64]);
            packet.extend(octets(from).into_iter().chain(octets(to)));
        }
    }
    packet.extend(from.port.to_be_bytes());
    packet.extend(to.port.to_be_bytes());
    packet.extend(segment.sequence.to_be_bytes());
    packet.extend(segment.acknowledged.to_be_bytes());
    packet.extend([0x50, segment.flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(&segment.payload);
    packet
}

fn index(side: Side) -> usize {
    usize::from(side == Side::B)
}

fn other(side: Side) -> Side {
    if side == Side::A { Side::B } else { Side::A }
}

/// The recording with some of its payload changed: bytes flipped, cut out, put in, or taken from elsewhere.
pub fn mutated(recording: &Recording, random: &mut Random) -> Recording {
    const TELLING: [u8; 8] = [0, 0xff, 0x7f, 0x80, b'\n', b' ', b'-', b'9'];
    let mut recording = recording.clone();
    let often = 1 + random.below(8);
    let donor = random.below(recording.recorded.len());
    let donor = match recording.recorded.get(donor).map(|it| &it.happening) {
        Some(Happening::Data(_, _, bytes)) => bytes.clone(),
        _ => vec![0; 16],
    };
    for recorded in &mut recording.recorded {
        let Happening::Data(_, _, bytes) = &mut recorded.happening else { continue };
        if !random.one_in(often) {
            continue;
        }
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            match random.below(6) {
                0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
                1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = TELLING[random.below(TELLING.len())]),
                2 => drop(bytes.drain(at..(at + random.below(16)).min(bytes.len()))),
                3 => {
                    let put = (0..random.below(16)).map(|_| random.bits() as u8).collect::<Vec<_>>();
                    drop(bytes.splice(at..at, put));
                }
                4 => bytes.truncate(at),
                _ => {
                    let length = random.below(donor.len().min(64));
                    drop(bytes.splice(at..at, donor[..length].iter().copied()));
                }
            }
        }
    }
    recording
}
