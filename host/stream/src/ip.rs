//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers: addresses out, the frame left at the TCP header and as long as the IP
//! header says (link padding is dropped).
//!
//! Checksums are never verified: a capture on the sending host sees them before the network card has filled them in.
//! Fragments are not put together.

use crate::frame::{Frame, NoSegment};
use crate::link::IpVersion;

/// IPv6 extension headers read one behind the other. RFC 8200, section 4.1, expects each at most once.
const MAX_EXTENSION_HEADERS: usize = 8;
/// An IP length of 0 stands for a packet larger than the field (TSO, BIG TCP: RFC 2675). Those of Linux end at 512 KiB;
/// far more is a broken capture record.
const MAX_UNSTATED_LEN: usize = 1 << 20;

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// Source and destination of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addresses {
    /// IPv4, source first.
    V4([u8; 4], [u8; 4]),
    /// IPv6, source first.
    V6([u8; 16], [u8; 16]),
}

/// Reads the IP headers off `frame`.
pub(crate) fn addresses(version: IpVersion, frame: &mut Frame<'_>) -> Result<Addresses, NoSegment> {
    match version {
        IpVersion::V4 => v4(frame),
        IpVersion::V6 => v6(frame),
    }
}

fn v4(frame: &mut Frame<'_>) -> Result<Addresses, NoSegment> {
    let wire_len = frame.wire_len;
    let header @ &[version_ihl, _, len_high, len_low, _, _, fragment_high, fragment_low, _, protocol, ..] =
        frame.take::<20>()?;
    let &[.., s0, s1, s2, s3, d0, d1, d2, d3] = header;
    let header_len = usize::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || header_len < 20 {
        return Err(NoSegment::Malformed);
    }
    let total_len = match usize::from(u16::from_be_bytes([len_high, len_low])) {
        0 if wire_len <= MAX_UNSTATED_LEN => wire_len,
        stated => stated,
    };
    let Some(payload_len) = total_len.checked_sub(header_len) else { return Err(NoSegment::Malformed) };
    frame.take_slice(header_len - 20)?; // options
    frame.set_wire_len(payload_len);
    // More Fragments or an offset; the topmost bits are Reserved and Don't Fragment.
    if u16::from_be_bytes([fragment_high, fragment_low]) & 0x3fff != 0 {
        return Err(NoSegment::Fragment);
    }
    match protocol {
        TCP => Ok(Addresses::V4([s0, s1, s2, s3], [d0, d1, d2, d3])),
        _ => Err(NoSegment::NotTcp),
    }
}

fn v6(frame: &mut Frame<'_>) -> Result<Addresses, NoSegment> {
    let &[version, _, _, _, len_high, len_low, mut next_header, _] = frame.take::<8>()?;
    let source = *frame.take::<16>()?;
    let destination = *frame.take::<16>()?;
    if version >> 4 != 6 {
        return Err(NoSegment::Malformed);
    }
    match usize::from(u16::from_be_bytes([len_high, len_low])) {
        0 if frame.wire_len <= MAX_UNSTATED_LEN => {}
        stated => frame.set_wire_len(stated),
    }
    for _ in 0..=MAX_EXTENSION_HEADERS {
        match next_header {
            TCP => return Ok(Addresses::V6(source, destination)),
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let &[next, length, ..] = frame.take::<8>()?;
                frame.take_slice(usize::from(length) * 8)?;
                next_header = next;
            }
            AUTHENTICATION => {
                // RFC 4302, section 2.2: length in 4-byte units, minus 2.
                let &[next, length, ..] = frame.take::<8>()?;
                frame.take_slice(usize::from(length) * 4)?;
                next_header = next;
            }
            FRAGMENT => {
                let &[next, _, high, low, ..] = frame.take::<8>()?;
                // Offset and the M flag; both 0 is an atomic fragment (RFC 6946), a whole packet.
                if u16::from_be_bytes([high, low]) & 0xfff9 != 0 {
                    return Err(NoSegment::Fragment);
                }
                next_header = next;
            }
            _ => return Err(NoSegment::NotTcp),
        }
    }
    Err(NoSegment::Malformed)
}
