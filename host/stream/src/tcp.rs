//! TCP segments (RFC 9293, section 3.1). No checksum is verified (see `ip`).

use crate::frame::{Frame, NoSegment};
use crate::ip::Addresses;
use crate::seq::Seq;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// A TCP segment as far as it was captured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) addresses: Addresses,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    /// Sequence number of the first payload byte (that of the SYN, plus one, on a SYN).
    pub(crate) seq: Seq,
    /// With the ACK flag only.
    pub(crate) ack: Option<Seq>,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    /// As in the header, not scaled.
    pub(crate) window: u16,
    /// Of a SYN that offers one (RFC 7323, section 2.2), at most 14.
    pub(crate) window_scale: Option<u8>,
    /// Payload captured.
    pub(crate) payload: &'a [u8],
    /// Payload bytes behind it that the snaplen cut off.
    pub(crate) cut: u64,
}

impl<'a> Segment<'a> {
    /// The segment that is all of `frame`.
    #[inline(always)]
    pub(crate) fn parse(addresses: Addresses, frame: &mut Frame<'a>) -> Result<Segment<'a>, NoSegment> {
        let &[sp0, sp1, dp0, dp1, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, _, _, _, _] =
            frame.take::<20>()?;
        let Some(options_len) = (usize::from(offset >> 4) * 4).checked_sub(20) else {
            return Err(NoSegment::Malformed);
        };
        let options = frame.take_slice(options_len)?;
        let syn = flags & SYN != 0;
        Ok(Segment {
            addresses,
            source_port: u16::from_be_bytes([sp0, sp1]),
            destination_port: u16::from_be_bytes([dp0, dp1]),
            seq: Seq(u32::from_be_bytes([s0, s1, s2, s3])).after(u64::from(syn)),
            ack: (flags & ACK != 0).then(|| Seq(u32::from_be_bytes([a0, a1, a2, a3]))),
            syn,
            fin: flags & FIN != 0,
            rst: flags & RST != 0,
            window: u16::from_be_bytes([w0, w1]),
            window_scale: if syn { window_scale(options) } else { None },
            payload: frame.bytes,
            cut: (frame.wire_len - frame.bytes.len()) as u64,
        })
    }

    /// Payload bytes on the wire.
    pub(crate) fn payload_len(&self) -> u64 {
        self.payload.len() as u64 + self.cut
    }
}

fn window_scale(mut options: &[u8]) -> Option<u8> {
    loop {
        match *options {
            [] | [0, ..] => return None,          // End of Option List
            [1, ref rest @ ..] => options = rest, // No-Operation
            [3, 3, shift, ..] => return Some(shift.min(14)),
            // The length counts kind and length; below 2 it would not end.
            [_, length, ..] if length >= 2 => options = options.get(usize::from(length)..)?,
            _ => return None,
        }
    }
}
