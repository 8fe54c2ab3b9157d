//! Standard error, which holds nobody up.
//!
//! In: lines of the log, and what the command line says, from any thread. Out: the same to standard error, in order.
//! Whoever writes to a terminal that is halted, or to a collector that does not read, waits for it. So once
//! [`write_aside`] was called, a thread of its own does that and no other. Lines that find no room are lost, counted, and
//! told of once there is room again. Before, and in commands where nothing is missed meanwhile, each thread writes for itself.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Of lines that wait. Those that are being written take as much at most.
pub(crate) const MAX_WAITING_BYTES: usize = 256 << 10;
/// How long the end waits for lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

static LINES: Lines = Lines::new();

/// Standard error. Each write is of whole lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if LINES.push(lines) { Ok(lines.len()) } else { io::stderr().write(lines) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From now on, a thread of its own writes to standard error. It has the rights that the caller has left.
pub(crate) fn write_aside() {
    let begun = std::thread::Builder::new().name("podtap-log".into()).spawn(|| {
        loop {
            let lost = LINES.write_some(&mut io::stderr());
            if lost > 0 {
                tracing::warn!(lines = lost, "lines of the log were lost: standard error did not take them in time");
            }
        }
    });
    match begun {
        Ok(_) => LINES.lock().is_aside = true,
        Err(error) => tracing::warn!(%error, "whoever logs waits for standard error"),
    }
}

/// Waits until all is written, for a moment at most.
pub(crate) fn flush() {
    LINES.flush(PATIENCE);
}

/// Lines that were lost so far.
pub(crate) fn lost() -> u64 {
    LINES.lost.load(Ordering::Relaxed)
}

/// Lines on their way to the thread that writes them.
struct Lines {
    state: Mutex<State>,
    /// There is something to write, or all is written.
    news: Condvar,
    lost: AtomicU64,
}

struct State {
    /// There is such a thread.
    is_aside: bool,
    waiting: Vec<u8>,
    is_writing: bool,
    /// Lost since this was last told.
    lost: u64,
}

impl Lines {
    const fn new() -> Lines {
        let state = State { is_aside: false, waiting: Vec::new(), is_writing: false, lost: 0 };
        Lines { state: Mutex::new(state), news: Condvar::new(), lost: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole between any two statements that change it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes lines, or counts them as lost. False: nobody else would write them.
    fn push(&self, lines: &[u8]) -> bool {
        let mut state = self.lock();
        if !state.is_aside {
            return false;
        }
        if state.waiting.is_empty() || state.waiting.len() + lines.len() <= MAX_WAITING_BYTES {
            state.waiting.extend_from_slice(lines);
            drop(state);
            self.news.notify_all();
        } else {
            self.lose(&mut state, lines);
        }
        true
    }

    fn lose(&self, state: &mut State, lines: &[u8]) {
        let count = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        state.lost += count;
        self.lost.fetch_add(count, Ordering::Relaxed);
    }

    /// Waits for lines and writes them; gives how many were lost since the last call.
    fn write_some(&self, target: &mut impl Write) -> u64 {
        let nothing = |state: &mut State| state.waiting.is_empty();
        let mut state = self.news.wait_while(self.lock(), nothing).unwrap_or_else(PoisonError::into_inner);
        let lines = std::mem::take(&mut state.waiting);
        state.is_writing = true;
        drop(state);
        let written = target.write_all(&lines);
        let mut state = self.lock();
        state.is_writing = false;
        // Where it is closed, nobody hears of it.
        if written.is_err() {
            self.lose(&mut state, &lines);
            state.lost = 0;
        }
        let lost = std::mem::take(&mut state.lost);
        drop(state);
        self.news.notify_all();
        lost
    }

    fn flush(&self, patience: Duration) {
        let busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        drop(self.news.wait_timeout_while(self.lock(), patience, busy));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use super::*;

    fn lines() -> Arc<Lines> {
        let lines = Arc::new(Lines::new());
        lines.lock().is_aside = true;
        lines
    }

    #[test]
    fn who_reads_nothing_holds_nobody_up_and_what_is_lost_is_counted() {
        let lines = lines();
        let (mut reader, mut writer) = io::pipe().unwrap();
        let writing = Arc::clone(&lines);
        let thread = std::thread::spawn(move || {
            let mut told = 0;
            loop {
                told += writing.write_some(&mut writer);
                let state = writing.lock();
                if !state.is_aside && state.waiting.is_empty() {
                    return told;
                }
            }
        });
        // A pipe takes 64 KiB.
        let total = 2 * MAX_WAITING_BYTES / 8 + 20_000;
        (0..total).for_each(|number| assert!(lines.push(format!("{number:07}\n").as_bytes())));
        lines.flush(Duration::from_millis(10));
        assert!(lines.lock().waiting.len() <= MAX_WAITING_BYTES);
        let lost = lines.lost.load(Ordering::Relaxed);
        assert!(lost > 0);
        let mut kept = vec![0; (total - lost as usize) * 8];
        reader.read_exact(&mut kept).unwrap();
        let kept: Vec<usize> =
            kept.chunks(8).map(|line| std::str::from_utf8(&line[..7]).unwrap().parse().unwrap()).collect();
        assert!(kept.is_sorted() && kept[..1000] == (0..1000).collect::<Vec<_>>(), "whole and in order");
        lines.flush(Duration::from_secs(20));
        let mut state = lines.lock();
        state.waiting.extend_from_slice(b"last\n");
        state.is_aside = false;
        drop(state);
        lines.news.notify_all();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), thread.join().unwrap()), ("last\n", lost));
    }

    #[test]
    fn a_closed_standard_error_loses_lines_and_nothing_else() {
        let lines = lines();
        let (_, mut writer) = io::pipe().unwrap();
        lines.push(b"one\ntwo\n");
        assert_eq!(lines.write_some(&mut writer), 0);
        assert_eq!(lines.lost.load(Ordering::Relaxed), 2);
        lines.flush(Duration::from_secs(20));
    }

    #[test]
    fn without_a_thread_for_it_nothing_is_kept() {
        let lines = Lines::new();
        assert!(!lines.push(b"one\n"));
        lines.flush(Duration::from_secs(20));
        assert_eq!((lines.lock().waiting.len(), lines.lost.load(Ordering::Relaxed)), (0, 0));
    }
}
