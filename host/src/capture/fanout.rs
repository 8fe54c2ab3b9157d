//! Groups of openings of one interface over which the kernel spreads connections (packet(7), PACKET_FANOUT).
//!
//! Which opening gets a packet follows from a hash of both ends that is the same in either direction, so that a connection
//! comes to one of them whole. Fragments of IPv4 are put together by the kernel before: without ports they would go
//! elsewhere, as those of IPv6 do. In tunnels over UDP it is the outer ends that are hashed, which differ by direction.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// By the name of the interface, the number of its group in this network namespace.
#[derive(Debug, Default)]
pub(super) struct Groups(HashMap<String, u16>);

const KIND: u32 = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_DEFRAG;

impl Groups {
    /// Puts an open capture of an interface into the group of those before it. True: it is the first of a group.
    pub(super) fn join(&mut self, name: &str, capture: &impl AsFd) -> io::Result<bool> {
        let capture = capture.as_fd();
        let joined = match self.0.get(name) {
            Some(&number) => set(capture, KIND << 16 | u32::from(number)).is_ok(),
            None => false,
        };
        // The number may be of an interface of that name that has gone.
        if !joined {
            set(capture, (KIND | libc::PACKET_FANOUT_FLAG_UNIQUEID) << 16)?;
            self.0.insert(name.to_owned(), number(capture)?);
        }
        Ok(!joined)
    }
}

fn set(capture: BorrowedFd<'_>, value: u32) -> io::Result<()> {
    let length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: the kernel reads so many bytes of `value`, which lives longer.
    let result = unsafe {
        libc::setsockopt(
            capture.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_FANOUT,
            std::ptr::from_ref(&value).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The number of the group that a capture is in.
fn number(capture: BorrowedFd<'_>) -> io::Result<u16> {
    let (mut value, mut length) = (0_u32, size_of::<u32>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `length` bytes of `value`, and how many to `length`; both live longer.
    let result = unsafe {
        libc::getsockopt(
            capture.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_FANOUT,
            std::ptr::from_mut(&mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(value as u16) } else { Err(io::Error::last_os_error()) }
}
