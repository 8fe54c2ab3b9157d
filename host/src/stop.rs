//! The end that somebody asks for: SIGTERM and SIGINT become a fact that every stage can look at.
//!
//! A first signal asks for an orderly end within a time of grace; a second one ends the process at once, as signals do
//! where nobody listens.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Whether an end is asked for, and by when it has to come. Clones are of the same end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    requested: Arc<AtomicBool>,
    /// When that was first seen.
    since: OnceLock<Instant>,
    grace: Duration,
    /// Readable once a signal came.
    notice: Option<UnixStream>,
}

impl Stop {
    /// An end by signal, with a time of grace.
    ///
    /// # Errors
    /// The system's, where signals cannot be listened to.
    pub fn on_signals(grace: Duration) -> io::Result<Stop> {
        let requested = Arc::new(AtomicBool::new(false));
        let (notice, sender) = UnixStream::pair()?;
        for signal in [SIGTERM, SIGINT] {
            // First, so that it acts from the second signal on.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&requested))?;
            signal_hook::flag::register(signal, Arc::clone(&requested))?;
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        Ok(Stop(Arc::new(Inner { requested, since: OnceLock::new(), grace, notice: Some(notice) })))
    }

    /// One that is asked for by [`Stop::request`] alone.
    pub fn by_hand(grace: Duration) -> Stop {
        Stop(Arc::new(Inner { grace, ..Inner::default() }))
    }

    /// Asks for the end.
    pub fn request(&self) {
        self.0.requested.store(true, Ordering::Relaxed);
    }

    /// Is it asked for?
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::Relaxed)
    }

    /// When the grace is over; none while no end is asked for.
    pub fn deadline(&self) -> Option<Instant> {
        self.is_requested().then(|| *self.0.since.get_or_init(Instant::now) + self.0.grace)
    }

    /// Is the grace over?
    pub fn is_overdue(&self) -> bool {
        self.deadline().is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Becomes readable with the first signal; none where no signals are listened to.
    pub fn notice(&self) -> Option<BorrowedFd<'_>> {
        self.0.notice.as_ref().map(AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_begins_with_the_request() {
        let stop = Stop::by_hand(Duration::from_millis(30));
        assert_eq!((stop.is_requested(), stop.deadline(), stop.is_overdue()), (false, None, false));
        stop.clone().request();
        assert!(stop.is_requested() && stop.deadline().is_some() && !stop.is_overdue());
        std::thread::sleep(Duration::from_millis(40));
        assert!(stop.is_overdue());
    }
}
