//! A file whose end comes early where an end is asked for.

use std::fs::File;
use std::io::{self, Read};

use rustix::event::{PollFd, PollFlags, poll};

use crate::stop::Stop;

/// See the module.
pub(super) struct Stoppable {
    pub(super) file: File,
    /// It is a pipe or the like: a read may take any time.
    pub(super) may_wait: bool,
    pub(super) stop: Stop,
}

impl Read for Stoppable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(notice) = self.stop.notice().filter(|_| self.may_wait) {
            let mut waited_for =
                [PollFd::new(&self.file, PollFlags::IN), PollFd::from_borrowed_fd(notice, PollFlags::IN)];
            poll(&mut waited_for, None)?;
        }
        if self.stop.is_requested() { Ok(0) } else { self.file.read(buffer) }
    }
}
