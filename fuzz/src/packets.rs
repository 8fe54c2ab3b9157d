//! A sequence of packets, and of what a consumer demands of the engine meanwhile.
//!
//! An input is a script: the limits, then operations of one byte and what they need. The lower 3 bits of an operation
//! are a direction (see [`ends`]), the upper 5 are a number of [`op`]. Senders go on where they ended, so that most
//! scripts are TCP as it should be; operations turn packets round, lose them, cut them, send them again.

use podtap_stream::{Engine, Limits, Packet, Side};

use crate::checker::{Checker, Sent};
use crate::script::Script;
use crate::wire::{ACK, DIRECTIONS, FIN, Fragments, RST, SYN, Segment, Way, ends};

/// Payload and packets of one script: enough for all that goes wrong, and a script takes milliseconds at most.
const MAX_PAYLOAD_BYTES: u32 = 128 << 10;
const MAX_PACKETS: u32 = 4096;

/// Numbers of operations. Those of no name are [`op::DATA`].
pub(crate) mod op {
    /// Length: payload, in order.
    pub(crate) const DATA: u8 = 0;
    /// Length in units of 16 bytes: payload, in order.
    pub(crate) const MUCH_DATA: u8 = 1;
    /// Acknowledges all that the other end sent.
    pub(crate) const ACKNOWLEDGE: u8 = 2;
    /// A number: where the new connection's sequence numbers begin.
    pub(crate) const SYN: u8 = 3;
    /// The same: the answer to a SYN.
    pub(crate) const SYN_ACK: u8 = 4;
    /// Length: the last payload.
    pub(crate) const FIN: u8 = 5;
    pub(crate) const RST: u8 = 6;
    /// How far back, and length: payload sent again, maybe cut otherwise, maybe with new payload behind.
    pub(crate) const AGAIN: u8 = 7;
    /// Length: payload that is not captured.
    pub(crate) const LOST: u8 = 8;
    /// How far ahead, and length: payload, but the next one begins where this one would have, were it in order.
    pub(crate) const AHEAD: u8 = 9;
    /// Flags, signed distance of sequence number and acknowledgement, length, window: any segment near by.
    pub(crate) const NEAR: u8 = 10;
    /// The same in more bytes: any segment at all, and the sender goes on from there.
    pub(crate) const FAR: u8 = 11;
    /// The window (2 bytes) that the sender advertises from now on.
    pub(crate) const WINDOW: u8 = 12;
    /// Power of two: time passes, ns.
    pub(crate) const LATER: u8 = 13;
    /// Power of two: the next packets are from the past.
    pub(crate) const EARLIER: u8 = 14;
    /// Connection, signed distance (2 bytes): the consumer wants no bytes before.
    pub(crate) const SKIP: u8 = 15;
    /// Connection: the consumer wants no more of it.
    pub(crate) const IGNORE: u8 = 16;
    /// The capture ends, and another one begins.
    pub(crate) const FINISH: u8 = 17;
    // Of the next segment only.
    /// Length (2 bytes): only so much of the packet is captured.
    pub(crate) const SNAPLEN: u8 = 18;
    /// How many VLAN tags.
    pub(crate) const TAGS: u8 = 19;
    /// Size, and how: in IP fragments.
    pub(crate) const FRAGMENTS: u8 = 20;
    /// How often more it is captured.
    pub(crate) const COPIES: u8 = 21;
    /// Other bytes than a retransmission brings.
    pub(crate) const CONFLICT: u8 = 22;
    /// How many bytes less than all it acknowledges.
    pub(crate) const ACKNOWLEDGE_LESS: u8 = 23;
    /// It is captured when the script says so.
    pub(crate) const HOLD: u8 = 24;
    /// What was held is captured.
    pub(crate) const RELEASE: u8 = 25;
    /// The link type and the tunnel from now on.
    pub(crate) const LINK: u8 = 26;
}

/// Runs a script. The engine keeps every promise of its sink, and what it tells is what was sent.
pub fn packets(input: &[u8]) {
    run(input);
}

/// Runs a script and gives the number of bytes that were compared with what was sent.
pub(crate) fn run(input: &[u8]) -> u64 {
    let mut script = Script::new(input);
    let mut run = Run::begin(&mut script);
    while !script.is_over() && run.packets < MAX_PACKETS {
        run.step(&mut script);
    }
    run.release();
    run.finish();
    run.checker.bytes_compared
}

/// A script that is being run.
struct Run {
    engine: Engine,
    checker: Checker,
    time_ns: u64,
    tick_ns: u64,
    link: u8,
    senders: [Sender; DIRECTIONS],
    next: Next,
    held: Vec<(Way, Vec<u8>)>,
    /// Of fragments.
    identification: u16,
    packets: u32,
    payload_bytes: u32,
}

/// What one end of a connection sends.
#[derive(Clone, Copy)]
struct Sender {
    /// Sequence number of its next byte.
    next: u32,
    window: u16,
}

/// What is special about the next segment.
#[derive(Clone, Copy, Default)]
struct Next {
    way: Way,
    copies: u8,
    conflicts: bool,
    acknowledge_less: u8,
    hold: bool,
}

impl Run {
    fn begin(script: &mut Script<'_>) -> Run {
        let limits = limits(script);
        let mut checker = Checker::new(limits, Some(Sent::new((0..DIRECTIONS).map(ends))));
        let time_ns = 1 << 40;
        checker.latest_ns = time_ns;
        // Sequence numbers of connections seen from their middle; each direction wraps at another time.
        let sender = |direction: usize| Sender { next: (direction as u32 * 64).wrapping_neg(), window: 8_192 };
        Run {
            engine: Engine::new(limits),
            checker,
            time_ns,
            tick_ns: 1 << (script.u8() & 31),
            link: 0,
            senders: std::array::from_fn(sender),
            next: Next::default(),
            held: Vec::new(),
            identification: 0,
            packets: 0,
            payload_bytes: 0,
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let operation = script.u8();
        let direction = usize::from(operation & 7);
        let Sender { next, .. } = self.senders[direction];
        match operation >> 3 {
            op::MUCH_DATA => self.send(direction, ACK, next, u32::from(script.u8()) * 16),
            op::ACKNOWLEDGE => self.send(direction, ACK, next, 0),
            op::SYN => self.send(direction, SYN, initial(script.u8(), next), 0),
            op::SYN_ACK => self.send(direction, SYN | ACK, initial(script.u8(), next), 0),
            op::FIN => self.send(direction, FIN | ACK, next, script.u8().into()),
            op::RST => self.send(direction, RST | ACK, next, 0),
            op::AGAIN => {
                let (back, length) = (script.u8(), script.u8());
                self.send(direction, ACK, next.wrapping_sub(back.into()), length.into());
            }
            op::LOST => self.senders[direction].next = next.wrapping_add(script.u8().into()),
            op::AHEAD => {
                let (ahead, length) = (script.u8(), script.u8());
                self.send(direction, ACK, next.wrapping_add(ahead.into()), length.into());
                self.senders[direction].next = next;
            }
            op::NEAR => {
                let (flags, seq, ack) = (script.u8(), script.u8().cast_signed(), script.u8().cast_signed());
                let (length, window) = (script.u8(), script.u8());
                let seq = next.wrapping_add_signed(seq.into());
                let ack = self.senders[direction ^ 1].next.wrapping_add_signed(ack.into());
                self.segment(direction, flags, seq, ack, length.into(), u16::from(window) << 4);
            }
            op::FAR => {
                let (flags, seq, ack) = (script.u8(), script.u32(), script.u32());
                let (length, window) = (script.u16(), script.u16());
                let seq = next.wrapping_add(seq);
                let ack = self.senders[direction ^ 1].next.wrapping_add(ack);
                self.senders[direction].next = seq;
                self.segment(direction, flags, seq, ack, u32::from(length & 0x0fff), window);
            }
            op::WINDOW => self.senders[direction].window = script.u16(),
            op::LATER => self.time_ns = self.time_ns.saturating_add(1 << (script.u8() & 63)),
            op::EARLIER => self.time_ns = self.time_ns.saturating_sub(1 << (script.u8() & 63)),
            op::SKIP => {
                let (choice, distance) = (script.u8(), script.u16().cast_signed());
                self.skip(choice, if direction & 1 == 0 { Side::A } else { Side::B }, distance);
            }
            op::IGNORE => {
                if let Some(id) = self.checker.name(script.u8()) {
                    self.engine.ignore(id);
                    self.checker.ignore(id);
                    self.checker.check(self.engine.counters());
                }
            }
            op::FINISH => self.finish(),
            op::SNAPLEN => self.next.way.snaplen = Some(script.u16()),
            op::TAGS => self.next.way.tags = script.u8() % 8,
            op::FRAGMENTS => {
                let (units, how) = (script.u8(), script.u8());
                let is = |bit: u8| how & bit != 0;
                self.next.way.fragments = Some(Fragments {
                    units: units & 31,
                    reversed: is(1),
                    twice: is(2),
                    without_first: is(4),
                    without_last: is(8),
                });
            }
            op::COPIES => self.next.copies = script.u8() % 4,
            op::CONFLICT => self.next.conflicts = true,
            op::ACKNOWLEDGE_LESS => self.next.acknowledge_less = script.u8(),
            op::HOLD => self.next.hold = true,
            op::RELEASE => self.release(),
            op::LINK => self.link = script.u8(),
            _ => self.send(direction, ACK, next, script.u8().into()),
        }
    }

    /// A segment that acknowledges all that was sent in the other direction, but for what the script says.
    fn send(&mut self, direction: usize, flags: u8, seq: u32, length: u32) {
        let ack = self.senders[direction ^ 1].next.wrapping_sub(self.next.acknowledge_less.into());
        let window = self.senders[direction].window;
        self.segment(direction, flags, seq, ack, length, window);
    }

    fn segment(&mut self, direction: usize, flags: u8, seq: u32, ack: u32, length: u32, window: u16) {
        let next = std::mem::take(&mut self.next);
        let length = length.min(MAX_PAYLOAD_BYTES - self.payload_bytes);
        self.payload_bytes += length;
        let is = |flag: u8| u32::from(flags & flag != 0);
        let first = seq.wrapping_add(is(SYN));
        let end = first.wrapping_add(length + is(FIN));
        let sender = &mut self.senders[direction];
        let goes_on = end.wrapping_sub(sender.next).cast_signed() > 0;
        if goes_on || flags & SYN != 0 {
            sender.next = end;
        }
        let sent = self.checker.sent.as_mut().expect("made with it");
        let payload = sent.payload(direction, first, length, next.conflicts);
        let window_scale = (flags & SYN != 0 && window & 1 == 1).then_some((window >> 8) as u8);
        let segment = Segment { direction, seq, ack, flags, window, window_scale, payload };
        let way = Way { link: self.link, ..next.way };
        self.identification = self.identification.wrapping_add(1);
        for packet in segment.packets(way, self.identification) {
            for _ in 0..=next.copies {
                if next.hold {
                    self.held.push((way, packet.clone()));
                } else {
                    self.capture(way, &packet);
                }
            }
        }
    }

    /// The engine sees a packet.
    fn capture(&mut self, way: Way, packet: &[u8]) {
        self.packets += 1;
        self.time_ns = self.time_ns.saturating_add(self.tick_ns);
        self.checker.latest_ns = self.checker.latest_ns.max(self.time_ns);
        let data = packet.get(..way.snaplen.map_or(packet.len(), usize::from)).unwrap_or(packet);
        let original_len = packet.len() as u32;
        let packet = Packet { link_type: way.link_type(), time_ns: self.time_ns, data, original_len };
        self.engine.packet(&packet, &mut self.checker);
        self.checker.check(self.engine.counters());
    }

    fn release(&mut self) {
        for (way, packet) in std::mem::take(&mut self.held) {
            self.capture(way, &packet);
        }
    }

    fn skip(&mut self, choice: u8, side: Side, distance: i16) {
        let Some(id) = self.checker.name(choice) else { return };
        let position = match distance {
            i16::MAX => u64::MAX,
            distance => self.checker.position(id, side).saturating_add_signed(distance.into()),
        };
        self.engine.skip_to(id, side, position);
        self.checker.skip_to(id, side, position);
        self.checker.check(self.engine.counters());
    }

    fn finish(&mut self) {
        self.engine.finish(&mut self.checker);
        self.checker.check_finished(self.engine.counters());
    }
}

/// Defaults, or limits that a script soon reaches.
fn limits(script: &mut Script<'_>) -> Limits {
    let connections = script.u8();
    if connections & 1 == 0 {
        return Limits::default();
    }
    let time_ns = 1 << (script.u8() & 31);
    Limits {
        max_connections: u32::from(connections >> 1) % 5,
        side_buffer_bytes: script.u16().into(),
        total_buffer_bytes: script.u16().into(),
        side_buffer_segments: u32::from(script.u8() % 16),
        fragment_buffer_bytes: u32::from(connections) << 8,
        fragment_timeout_ns: time_ns,
        gap_timeout_ns: time_ns,
        idle_timeout_ns: time_ns << 2,
        handshake_timeout_ns: time_ns << 1,
        close_timeout_ns: time_ns,
    }
}

/// An initial sequence number: near the wrap, in the middle, or where the last connection ended.
fn initial(choice: u8, next: u32) -> u32 {
    match choice {
        0 => next,
        choice => u32::from_be_bytes([choice; 4]),
    }
}
