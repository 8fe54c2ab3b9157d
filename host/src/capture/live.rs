//! Packets from network interfaces, by libpcap.
//!
//! ```text
//!  opener (a thread of its own, the only one with CAP_NET_RAW) ──> open interfaces ──> read, in turns
//!     ^                                                                 │
//!     └──────────── once a second, for those that have gone ────────────┘
//! ```
//!
//! Where there are several workers, each has its own opening of every interface, and the kernel spreads connections over
//! those (see `fanout`).
//!
//! The kernel fills a ring of each interface and drops what does not fit, which is counted. libpcap itself sees to it that
//! a packet of the loopback interface is read once, though the kernel shows it twice.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use pcap::{Active, Capture, Error, Linktype, Precision};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Record;
use super::fanout::Groups;
use crate::config;

/// Packets read of an interface before it is the next one's turn.
const TURN: usize = 256;

/// An interface that cannot be captured on.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// There is none of that name.
    #[error("{interface}: there is no such interface; there are: {known}")]
    NoInterface {
        /// As configured.
        interface: String,
        /// Those that there are.
        known: String,
    },
    /// The kernel refuses.
    #[error(
        "{interface}: capturing is not permitted; it needs CAP_NET_RAW: run podtap as root, or give the program the file \
         capability (setcap cap_net_raw+ep), in Kubernetes with securityContext.capabilities.add: [NET_RAW] (Pod \
         Security \"privileged\" or an exception) and no shell as entry point"
    )]
    NotPermitted {
        /// As configured.
        interface: String,
    },
    /// The filter is wrong.
    #[error("{interface}: filter `{expression}`: {reason}")]
    Filter {
        /// As configured.
        interface: String,
        /// As configured.
        expression: String,
        /// libpcap's words.
        reason: String,
    },
    /// Anything else that libpcap says.
    #[error("{interface}: cannot be captured on: {reason}")]
    Other {
        /// As configured.
        interface: String,
        /// libpcap's words.
        reason: String,
    },
}

/// Packets that never came up, over all interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Found no room in the ring.
    pub kernel: u64,
    /// Dropped by the interface or its driver.
    pub interface: u64,
    /// Left out, as they came before the interface was shared between workers: each of those has them.
    pub before_sharing: u64,
}

/// An interface, open or gone.
struct Source {
    name: String,
    capture: Option<Capture<Active>>,
    link_type: u32,
    sharing: Sharing,
    drops: Drops,
    /// Of the capture that is open; libpcap counts in 32 bits, and from its opening.
    seen: [u32; 2],
    /// The opener has been asked for it, and answers here.
    asked: Option<mpsc::Receiver<Opened>>,
}

/// All interfaces, as one worker reads them.
pub struct Live {
    sources: Vec<Source>,
    /// One of the workers counts what the interfaces dropped: each opening says it of the whole interface.
    is_first: bool,
    opener: Opener,
    /// Whose turn it is.
    next: usize,
}

impl Live {
    /// Opens every interface for every worker.
    ///
    /// # Errors
    /// When one of them cannot be opened: later it may come and go, at the start it is a mistake.
    pub fn open(config: &config::Capture) -> Result<Vec<Live>, LiveError> {
        let opener = Opener::start(config.clone());
        let mut lives = Vec::new();
        for number in 0..config.workers.max(1) {
            let mut sources = Vec::new();
            for name in &config.interfaces {
                let opened = opener.ask(name).recv();
                let ended = |mpsc::RecvError| other(name, "the thread that opens interfaces has ended");
                let name = name.clone();
                sources.push(Source::new(name, opened.map_err(ended)??));
            }
            lives.push(Live { sources, is_first: number == 0, opener: opener.clone(), next: 0 });
        }
        Ok(lives)
    }

    /// Reads what there is, up to some hundred packets; their number. 0: there was none.
    ///
    /// `take` gets each packet with its time, and says whether to go on; where it does not, the rest of the turn is lost.
    pub fn read(&mut self, mut take: impl FnMut(&Record<'_>) -> bool) -> u32 {
        let count = self.sources.len();
        let mut read = 0;
        for turn in 0..count {
            let Some(source) = self.sources.get_mut((self.next + turn) % count.max(1)) else { continue };
            read += source.read(&mut take);
        }
        self.next = self.next.wrapping_add(1) % count.max(1);
        read
    }

    /// Waits until there may be packets, or `notice` is readable; at most so long.
    pub fn wait(&self, notice: Option<BorrowedFd<'_>>, at_most: Duration) {
        let captures = self.sources.iter().filter_map(|source| source.capture.as_ref()).map(AsFd::as_fd);
        let mut descriptors: Vec<_> =
            captures.chain(notice).map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN)).collect();
        let timeout = Timespec { tv_sec: 0, tv_nsec: at_most.min(Duration::from_millis(999)).subsec_nanos().into() };
        // Interrupted or not: whoever waits looks again.
        let _ = poll(&mut descriptors, Some(&timeout));
    }

    /// To be called now and then: counts drops, and opens again what had gone.
    pub fn look_after(&mut self) -> Drops {
        let mut drops = Drops::default();
        for source in &mut self.sources {
            source.count_drops();
            drops.kernel += source.drops.kernel;
            drops.before_sharing += source.drops.before_sharing;
            drops.interface += if self.is_first { source.drops.interface } else { 0 };
            match source.asked.as_ref().map(mpsc::Receiver::try_recv) {
                Some(Err(mpsc::TryRecvError::Empty)) => continue,
                Some(Ok(Ok(opened))) => {
                    source.take(opened);
                    tracing::info!(interface = source.name, "captured on again");
                }
                Some(Ok(Err(error))) => tracing::debug!(%error, "not there yet"),
                Some(Err(mpsc::TryRecvError::Disconnected)) | None => {}
            }
            source.asked = source.capture.is_none().then(|| self.opener.ask(&source.name));
        }
        drops
    }

    /// All interfaces, and whether each is open now.
    pub fn interfaces(&self) -> impl Iterator<Item = (&str, bool)> {
        self.sources.iter().map(|source| (source.name.as_str(), source.capture.is_some()))
    }

    /// Names of the interfaces that are open now.
    pub fn open_interfaces(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter(|source| source.capture.is_some()).map(|source| source.name.as_str())
    }
}

impl Source {
    fn new(name: String, Open { capture, sharing }: Open) -> Source {
        let link_type = link_type(capture.get_datalink());
        Source { name, capture: Some(capture), link_type, sharing, drops: Drops::default(), seen: [0; 2], asked: None }
    }

    fn take(&mut self, Open { capture, sharing }: Open) {
        self.link_type = link_type(capture.get_datalink());
        (self.sharing, self.seen) = (sharing, [0; 2]);
        self.capture = Some(capture);
    }

    /// Packets are lent from the ring, without a copy.
    fn read(&mut self, take: &mut impl FnMut(&Record<'_>) -> bool) -> u32 {
        let Source { capture, link_type, sharing, drops, .. } = self;
        let Some(capture) = capture else { return 0 };
        let (mut read, mut goes_on) = (0, true);
        let turn = capture.dispatch(Some(TURN), |packet| {
            read += 1;
            // With nanosecond precision the field of microseconds holds nanoseconds.
            let seconds = u64::try_from(packet.header.ts.tv_sec).unwrap_or(0);
            let nanoseconds = u64::try_from(packet.header.ts.tv_usec).unwrap_or(0);
            let time_ns = seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
            if sharing.leaves_out(time_ns) {
                drops.before_sharing += 1;
            } else if goes_on {
                let (link_type, original_len) = (*link_type, packet.header.len);
                goes_on = take(&Record { link_type, time_ns, data: packet.data, original_len });
            }
        });
        match turn {
            Ok(0) => self.sharing.all_is_read(),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(interface = self.name, reason = %error, "capturing has ended; tried again each second");
                // What the kernel dropped of it before is lost with it otherwise.
                self.count_drops();
                self.capture = None;
            }
        }
        read
    }

    fn count_drops(&mut self) {
        let Some(Ok(stat)) = self.capture.as_mut().map(Capture::stats) else { return };
        self.drops.kernel += u64::from(stat.dropped.wrapping_sub(self.seen[0]));
        self.drops.interface += went_on(stat.if_dropped, self.seen[1]);
        self.seen = [stat.dropped, stat.if_dropped];
    }
}

/// By how much a counter of the interface went on. libpcap makes it from the system's own, which is 0 once the interface has
/// gone, or was set up anew: then it goes back.
fn went_on(now: u32, before: u32) -> u64 {
    u64::try_from(now.wrapping_sub(before).cast_signed()).unwrap_or(0)
}

/// The LINKTYPE_ number of what libpcap calls otherwise inside.
fn link_type(dlt: Linktype) -> u32 {
    match dlt.0 {
        // DLT_RAW.
        12 => 101,
        other => u32::try_from(other).unwrap_or(u32::MAX),
    }
}

/// Since when workers share an interface: what one captured between opening it and joining the others, these have.
///
/// Those packets are the first ones, and known by their time; the clock may be set back later.
#[derive(Debug)]
struct Sharing {
    /// Ns since the epoch; 0 once those from before have all been read.
    since_ns: u64,
    /// By then the kernel has handed over what came before.
    handed_over: Instant,
}

impl Sharing {
    /// How long the kernel may take for it beyond what it may hold packets back.
    const SLACK: Duration = Duration::from_secs(1);

    /// Began just now, where packets are held back for so long.
    fn now(held_back: Duration) -> Sharing {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since_ns = u64::try_from(now.as_nanos()).unwrap_or(0);
        Sharing { since_ns, handed_over: Instant::now() + held_back + Sharing::SLACK }
    }

    /// With one worker, or as the first of several.
    fn none() -> Sharing {
        Sharing { since_ns: 0, handed_over: Instant::now() }
    }

    /// Of the next packet: is it from before?
    fn leaves_out(&mut self, time_ns: u64) -> bool {
        let before = time_ns < self.since_ns;
        if !before {
            self.since_ns = 0;
        }
        before
    }

    /// There are no packets left just now.
    fn all_is_read(&mut self) {
        if self.since_ns > 0 && Instant::now() >= self.handed_over {
            self.since_ns = 0;
        }
    }
}

/// An interface that is captured on.
struct Open {
    capture: Capture<Active>,
    sharing: Sharing,
}

type Opened = Result<Open, LiveError>;

/// Opens interfaces on a thread that keeps the right to, which all other threads give up. An interface is asked for by its
/// name, with where the answer goes.
#[derive(Clone)]
struct Opener(mpsc::Sender<(String, mpsc::Sender<Opened>)>);

impl Opener {
    fn start(config: config::Capture) -> Opener {
        let (asks, asked) = mpsc::channel::<(String, mpsc::Sender<Opened>)>();
        let open_all = move || {
            crate::privileges::keep_only_net_raw();
            let mut groups = Groups::default();
            for (name, answer) in asked {
                // Who asked may have gone.
                let _ = answer.send(open(&config, &name, &mut groups));
            }
        };
        // Where no thread can be started, the answer never comes, which is told.
        if let Err(error) = std::thread::Builder::new().name("open-interfaces".to_owned()).spawn(open_all) {
            tracing::error!(%error, "no thread to open interfaces");
        }
        Opener(asks)
    }

    /// Where the answer comes; none ever does once the thread has ended.
    fn ask(&self, name: &str) -> mpsc::Receiver<Opened> {
        let (answer, answers) = mpsc::channel();
        // Where it cannot be sent, it is dropped, and the answer's other end with it.
        let _ = self.0.send((name.to_owned(), answer));
        answers
    }
}

fn open(config: &config::Capture, name: &str, groups: &mut Groups) -> Result<Open, LiveError> {
    let refused = |error: Error| refusal(name, &error);
    let number = |bytes: u64| i32::try_from(bytes).unwrap_or(i32::MAX);
    let timeout = config.batch_timeout.0;
    let mut capture = Capture::from_device(name)
        .map_err(refused)?
        .snaplen(number(config.snaplen.into()))
        .promisc(config.promiscuous)
        .buffer_size(number(config.buffer_bytes_of_each()))
        .timeout(number(timeout.as_millis() as u64).max(1))
        .immediate_mode(timeout.is_zero())
        .precision(Precision::Nano)
        .open()
        .map_err(refused)?;
    if !config.filter.is_empty() {
        capture.filter(&config.filter, true).map_err(|error| LiveError::Filter {
            interface: name.to_owned(),
            expression: config.filter.clone(),
            reason: words(&error),
        })?;
    }
    let mut sharing = Sharing::none();
    if config.workers > 1 {
        let is_first = groups
            .join(name, &capture)
            .map_err(|error| other(name, &format!("it cannot be shared by workers: {error}")))?;
        if !is_first {
            sharing = Sharing::now(timeout);
        }
    }
    let capture = capture.setnonblock().map_err(refused)?;
    Ok(Open { capture, sharing })
}

fn refusal(name: &str, error: &Error) -> LiveError {
    let interface = name.to_owned();
    let reason = words(error);
    if reason.contains("permission") || reason.contains("Operation not permitted") {
        return LiveError::NotPermitted { interface };
    }
    let known: Vec<_> = pcap::Device::list().unwrap_or_default().into_iter().map(|device| device.name).collect();
    if reason.contains("No such device") || reason.contains("doesn't exist") || !known.iter().any(|known| known == name)
    {
        return LiveError::NoInterface { interface, known: known.join(", ") };
    }
    other(name, &reason)
}

fn other(name: &str, reason: &str) -> LiveError {
    LiveError::Other { interface: name.to_owned(), reason: reason.to_owned() }
}

/// libpcap's own words, without what the crate puts before them.
fn words(error: &Error) -> String {
    match error {
        Error::PcapError(words) => words.clone(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_from_before_the_sharing_are_the_first_ones_only() {
        let mut sharing = Sharing { since_ns: 100, handed_over: Instant::now() };
        assert_eq!([98, 99, 100, 40, 99].map(|time_ns| sharing.leaves_out(time_ns)), [true, true, false, false, false]);
        // Not one came before the clock was set back.
        let mut sharing = Sharing { since_ns: 100, handed_over: Instant::now() + Duration::from_secs(3600) };
        sharing.all_is_read();
        assert!(sharing.leaves_out(40));
        sharing.handed_over = Instant::now();
        sharing.all_is_read();
        assert!(!sharing.leaves_out(40));
    }

    #[test]
    fn a_counter_that_goes_back_counts_nothing() {
        assert_eq!((went_on(7, 5), went_on(1, u32::MAX), went_on(5, 7)), (2, 2, 0));
        assert_eq!(went_on(0_u32.wrapping_sub(300), 0), 0);
    }

    #[test]
    fn what_an_interface_dropped_is_counted_by_one_worker() {
        let drops = Drops { kernel: 3, interface: 5, before_sharing: 1 };
        let of = |is_first| {
            let name = "gone".to_owned();
            let (sharing, seen) = (Sharing::none(), [0; 2]);
            let source = Source { name, capture: None, link_type: 0, sharing, drops, seen, asked: None };
            Live { sources: vec![source], is_first, opener: Opener(mpsc::channel().0), next: 0 }.look_after()
        };
        assert_eq!((of(true), of(false)), (drops, Drops { interface: 0, ..drops }));
    }

    #[test]
    fn who_asks_is_not_kept_waiting_where_the_thread_has_ended() {
        let (asks, asked) = mpsc::channel();
        let opener = Opener(asks);
        let early = opener.ask("lo");
        drop(asked);
        assert!(early.recv().is_err() && opener.ask("lo").recv().is_err());
    }
}
