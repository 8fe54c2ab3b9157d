//! One direction of a connection: how sequence numbers map to stream positions, and what is known of its progress.
//!
//! Pure bookkeeping: nothing is handed on from here (see `delivery`).

use crate::assembler::Assembler;
use crate::facts::{SideFacts, Tally};
use crate::seq::Seq;
use crate::tcp::Segment;

/// A sequence number farther than this from the next one expected is held to be garbage, not a hole: 64 MiB, the
/// largest receive buffer met in practice. The bias: after a capture loss of more than this the first segment is given
/// up, too (see [`Stream::resynchronises`]); in return no single packet declares a gap of gigabytes.
pub(crate) const PLAUSIBLE_DISTANCE: i64 = 64 << 20;

/// The window shift assumed where no handshake was seen; the one of Linux by default.
const USUAL_WINDOW_SCALE: u8 = 7;

/// The least window assumed for a RST: one that was advertised before the last packets may be stale.
const MIN_WINDOW: u32 = 65_535;

/// No FIN yet.
const NO_FIN: u64 = u64::MAX;

/// One direction.
#[derive(Debug)]
pub(crate) struct Stream {
    /// All before this stream position was handed on, skipped or declared lost.
    pub(crate) position: u64,
    /// The receiver has all before this position, as far as it said.
    pub(crate) acked: u64,
    /// Bytes before this position are not wanted.
    pub(crate) skip_until: u64,
    /// Position of the FIN.
    fin: u64,
    /// What waits behind a hole; `None` when nothing does.
    pub(crate) waiting: Option<Box<Assembler>>,
    /// What the consumer knows as position 0: more than 0 where the first bytes announced in midstream never came.
    base: u32,
    /// Segments of this side; stays at its maximum.
    packets: u32,
    /// Sequence number at `position`.
    next: Seq,
    /// End of the last segment that was implausibly far away; of no meaning unless `strayed`.
    strange: Seq,
    /// The window that this side last advertised, in bytes; [`MIN_WINDOW`] before.
    window: u32,
    window_scale: u8,
    /// How well `next` is known.
    pub(crate) origin: Origin,
    /// The FIN was reached in order.
    pub(crate) ended: bool,
    /// The last segment with payload was implausibly far away.
    strayed: bool,
}

/// How the sequence number of position 0 was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Not yet.
    Unknown,
    /// From a segment without payload or an acknowledgement in mid-connection. A keep-alive probe is one less than the
    /// truth, and some stacks send nonsense.
    Guessed,
    /// From a SYN, or from payload.
    Known,
}

impl Stream {
    pub(crate) fn new() -> Stream {
        Stream {
            position: 0,
            acked: 0,
            skip_until: 0,
            fin: NO_FIN,
            waiting: None,
            base: 0,
            packets: 0,
            next: Seq(0),
            strange: Seq(0),
            window: MIN_WINDOW,
            window_scale: USUAL_WINDOW_SCALE,
            origin: Origin::Unknown,
            ended: false,
            strayed: false,
        }
    }

    /// The next byte expected has sequence number `next`. Only while nothing was seen.
    pub(crate) fn begin(&mut self, next: Seq, origin: Origin) {
        self.next = next;
        self.origin = origin;
        self.acked = 0;
    }

    /// Nothing was handed on or kept, so that position 0 may still move.
    pub(crate) fn untouched(&self) -> bool {
        self.position == 0 && self.waiting.is_none() && self.fin == NO_FIN
    }

    /// Sequence number of position 0.
    pub(crate) fn first(&self) -> Seq {
        self.next.before(self.position)
    }

    /// Where `seq` lies relative to `position`.
    pub(crate) fn offset(&self, seq: Seq) -> i64 {
        seq.distance_from(self.next)
    }

    /// Moves on by `length` bytes.
    pub(crate) fn advance(&mut self, length: u64) {
        self.position += length;
        self.next = self.next.after(length);
    }

    /// The stream begins at `end`, because what was announced before it never came: midstream, position 0 is the first
    /// byte seen. False if it has begun.
    pub(crate) fn begin_late(&mut self, end: u64) -> bool {
        let begins = self.origin == Origin::Guessed && self.position == 0;
        if begins {
            self.advance(end);
            self.base = u32::try_from(end).unwrap_or(u32::MAX); // always fits: it is a distance of sequence numbers
            if self.skip_until > 0 {
                self.skip_until = self.skip_until.saturating_add(end);
            }
        }
        begins
    }

    /// The position as the consumer knows it.
    pub(crate) fn told_position(&self) -> u64 {
        self.position - u64::from(self.base)
    }

    /// A position that the consumer knows, as one of the stream.
    pub(crate) fn own_position(&self, told: u64) -> u64 {
        told.saturating_add(self.base.into())
    }

    /// The receiver acknowledged all before the hole, maybe some of it, but not its end: it wants the rest, too.
    pub(crate) fn hole_is_wanted(&self) -> bool {
        self.acked >= self.position && self.acked > 0
    }

    /// The other side acknowledged all before `ack`.
    pub(crate) fn acknowledge(&mut self, ack: Seq) {
        let offset = self.offset(ack);
        if offset.abs() > PLAUSIBLE_DISTANCE {
            if self.untouched() {
                // Not the number that the handshake or an earlier acknowledgement told, and the receiver must know.
                self.begin(ack, Origin::Guessed);
            }
        } else if offset == 1 && self.origin == Origin::Guessed && self.untouched() {
            self.begin(ack, Origin::Guessed); // the guess was a keep-alive probe
        } else {
            self.acked = self.acked.max(self.position.saturating_add_signed(offset));
        }
    }

    /// Position of the FIN.
    pub(crate) fn fin(&self) -> Option<u64> {
        (self.fin != NO_FIN).then_some(self.fin)
    }

    /// Notes a FIN. The first one counts, and none that contradicts bytes already seen.
    pub(crate) fn set_fin(&mut self, position: u64) {
        if self.fin == NO_FIN && position >= self.seen_end() {
            self.fin = position;
        }
    }

    /// The end of the farthest byte seen.
    pub(crate) fn seen_end(&self) -> u64 {
        self.waiting.as_ref().and_then(|waiting| waiting.back_end()).unwrap_or(self.position)
    }

    /// Where the hole at `position` ends, if something shows that there is one: a piece behind it, or the FIN.
    pub(crate) fn hole_end(&self) -> Option<u64> {
        match &self.waiting {
            Some(waiting) => waiting.front_start(),
            None => self.fin().filter(|&fin| fin > self.position),
        }
    }

    /// Since when something has waited behind the hole at `position`.
    pub(crate) fn hole_since_ns(&self) -> Option<u64> {
        self.waiting.as_ref()?.hole_since_ns()
    }

    /// Up to where bytes are missing because the other side acknowledged more than was seen, whether or not something
    /// waits behind. One byte with nothing behind is taken for a FIN that was not captured.
    pub(crate) fn acknowledged_loss(&self) -> Option<u64> {
        let end = self.acked.min(self.fin);
        let missing = end.checked_sub(self.position)?;
        match self.hole_end() {
            Some(_) => missing > 0,
            None => missing > 1,
        }
        .then_some(end)
    }

    /// A segment came from `seq` to `end`, implausibly far away. True when it goes on where the last such one ended:
    /// then the stream is there, and what lies between was lost. Bias: a second garbage segment in a row is believed.
    pub(crate) fn resynchronises(&mut self, seq: Seq, end: Seq) -> bool {
        if seq == end {
            return false;
        }
        let follows = self.strayed && self.strange == seq && self.fin == NO_FIN;
        self.strayed = !follows;
        self.strange = end;
        follows
    }

    /// How far ahead `seq` lies if it does not lie behind.
    pub(crate) fn forward(&self, seq: Seq) -> u64 {
        seq.forward_from(self.next)
    }

    /// Notes the window that this side advertised, and the scale if it did so in a SYN. True when it closed by this.
    pub(crate) fn set_window(&mut self, segment: &Segment<'_>) -> bool {
        let open = self.window != 0;
        if segment.syn {
            self.window_scale = segment.window_scale.unwrap_or(0);
            self.window = u32::from(segment.window); // never scaled in a SYN: RFC 7323, section 2.2
        } else {
            self.window = u32::from(segment.window) << self.window_scale;
        }
        open && self.window == 0 && !segment.syn
    }

    /// Would the receiver, which advertises `window`, take a RST of this side at `seq` (RFC 9293, section 3.10.7.4)?
    /// What it has received is known by its acknowledgements at least, by what was captured at most.
    pub(crate) fn takes_reset_at(&self, seq: Seq, window: u32) -> bool {
        let window = i64::from(window.max(MIN_WINDOW));
        let acked = i64::try_from(self.acked).unwrap_or(i64::MAX) - i64::try_from(self.position).unwrap_or(i64::MAX);
        // A FIN takes a sequence number of its own.
        (acked.clamp(-window, 0)..=acked.max(0) + window + 1).contains(&self.offset(seq))
    }

    /// The window that this side last advertised.
    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    pub(crate) fn note_packet(&mut self) {
        self.packets = self.packets.saturating_add(1);
    }

    /// With what was noted as it happened; whether its SYN was seen is for the caller to say.
    pub(crate) fn facts(&self, tally: &Tally) -> SideFacts {
        SideFacts {
            packets: self.packets,
            position: self.told_position(),
            payload_bytes: self.told_position() - tally.unseen_bytes + tally.retransmitted_bytes,
            retransmitted_segments: tally.retransmitted_segments,
            retransmitted_bytes: tally.retransmitted_bytes,
            out_of_order_segments: tally.out_of_order_segments,
            zero_windows: tally.zero_windows,
            gaps: tally.gaps,
            gap_bytes: tally.gap_bytes,
            syn: false,
            fin: self.ended || self.fin != NO_FIN,
        }
    }
}
