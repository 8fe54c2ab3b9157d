//! Looks for decoders that have changed while podtap runs, and loads them, away from the way of packets.
//!
//! In: a catalog. Out: the plugins that are to be used from now on, for whoever asks. Directories are looked into when
//! the system says that something changed there (inotify), and every so often, for there are file systems and
//! directories of which it does not say so. Several changes in a row are waited for, up to a bound.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::directory::Catalog;
use super::sandbox::{Plugin, Runtime};

/// So long nothing more must have changed.
const QUIET: Duration = Duration::from_millis(10);

/// So long is waited for that.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// A thread that keeps a catalog up to date, until it is dropped.
pub struct Watch {
    shared: Arc<Shared>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    plugins: Mutex<Arc<[Plugin]>>,
    /// How often they were replaced.
    generation: AtomicU64,
    /// Looks into the directories that came to an end.
    looks: AtomicU64,
}

impl Watch {
    /// Starts with plugins that are in use already. They are looked after at once, then at every notice and `interval`.
    ///
    /// # Errors
    /// The system's, where there can be no thread.
    pub fn start(runtime: Arc<Runtime>, catalog: Catalog, interval: Duration) -> std::io::Result<Watch> {
        let shared = Arc::new(Shared::default());
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let watcher = Watcher { shared: Arc::clone(&shared), stop: Arc::clone(&stop), runtime, catalog, interval };
        let thread = std::thread::Builder::new().name("podtap-plugins".into()).spawn(move || watcher.run())?;
        Ok(Watch { shared, stop, thread: Some(thread) })
    }

    /// The plugins, where they are others than when the caller's `generation` (0 at first) was set.
    pub fn newer(&self, generation: &mut u64) -> Option<Arc<[Plugin]>> {
        // The common way: no lock.
        if self.shared.generation.load(Ordering::Acquire) == *generation {
            return None;
        }
        let plugins = self.shared.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        *generation = self.shared.generation.load(Ordering::Acquire);
        Some(Arc::clone(&plugins))
    }

    /// How often the directories were looked into. Who sees it rise by two after a change knows that it was seen.
    pub fn looks(&self) -> u64 {
        self.shared.looks.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It cannot fail: the counter is far from full.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Watcher {
    shared: Arc<Shared>,
    stop: Arc<OwnedFd>,
    runtime: Arc<Runtime>,
    catalog: Catalog,
    interval: Duration,
}

impl Watcher {
    fn run(mut self) {
        let notices = match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(notices) => Some(notices),
            Err(error) => {
                let every = self.interval;
                tracing::warn!(%error, ?every, "no notices of changed decoders: directories are looked into only every so often");
                None
            }
        };
        loop {
            if let Some(notices) = &notices {
                self.catalog.directories().iter().for_each(|directory| watch(notices, directory));
            }
            self.look();
            if self.wait(notices.as_ref()) == Wake::Stop {
                return;
            }
        }
    }

    /// Until there is a reason to look again.
    fn wait(&self, notices: Option<&OwnedFd>) -> Wake {
        let mut wake = wait_for(&self.stop, notices, self.interval);
        let since = Instant::now();
        while wake == Wake::Notice {
            notices.into_iter().for_each(drain);
            if since.elapsed() >= LONGEST_WAIT {
                break;
            }
            wake = wait_for(&self.stop, notices, QUIET);
        }
        wake
    }

    fn look(&mut self) {
        let before = self.catalog.plugins();
        for (path, error) in self.catalog.look(&self.runtime) {
            tracing::warn!(file = %path.display(), %error, "not a usable decoder; the one before, if any, stays in use");
        }
        let plugins = self.catalog.plugins();
        let same = |(one, other): (&Plugin, &Plugin)| one.is(other);
        if before.len() != plugins.len() || !before.iter().zip(&plugins).all(same) {
            *self.shared.plugins.lock().unwrap_or_else(PoisonError::into_inner) = plugins.into();
            self.shared.generation.fetch_add(1, Ordering::Release);
        }
        self.shared.looks.fetch_add(1, Ordering::Release);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Stop,
    Notice,
    Time,
}

fn wait_for(stop: &OwnedFd, notices: Option<&OwnedFd>, time: Duration) -> Wake {
    let mut waited_for: Vec<_> =
        std::iter::once(stop).chain(notices).map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let timeout = Timespec::try_from(time).ok();
    match poll(&mut waited_for, timeout.as_ref()) {
        // A signal: whoever waits looks once more than needed.
        Ok(0) | Err(_) => Wake::Time,
        Ok(_) if waited_for[0].revents().contains(PollFlags::IN) => Wake::Stop,
        Ok(_) => Wake::Notice,
    }
}

/// What the notices say does not matter: all is looked at.
fn drain(notices: &OwnedFd) {
    let mut buffer = [0; 4096];
    while rustix::io::read(notices.as_fd(), &mut buffer).is_ok_and(|read| read > 0) {}
}

/// Again where it was watched before: the directory may be another one by now.
fn watch(notices: &OwnedFd, directory: &PathBuf) {
    let changes = WatchFlags::CLOSE_WRITE
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ATTRIB;
    // One that is not there is looked for at every interval.
    let _ = inotify::add_watch(notices, directory, changes | WatchFlags::ONLYDIR);
}
