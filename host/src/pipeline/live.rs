//! From network interfaces to published events, until an end is asked for.
//!
//! Each worker, a thread, reads, reassembles and decodes its share of the connections. It never waits but for packets: then
//! all that was held back has been handed on. Once a second it looks after everything else. Workers share nothing but the
//! queues of the outputs.

use std::cell::RefCell;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use podtap_stream::{Connection, Endpoint};

use super::telling::LiveStatus;
use super::{Decoders, PipelineError, Report, Seat, Worker};
use crate::admin::Board;
use crate::capture::{Drops, Live, OwnSockets, addresses};
use crate::config::Config;
use crate::decoder::{Admission, Refusal};
use crate::publish::{Outputs, PublishError};
use crate::stop::Stop;

/// How often it is looked after what is no packet.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// How long the thread waits for packets before it looks whether there is something else to do.
const WAIT: Duration = Duration::from_millis(200);

/// How long packets are read at most that were captured before an end was asked for; never longer than half of the grace.
const LAST_READS: Duration = Duration::from_secs(1);

/// How often the addresses of this host are looked up.
const ADDRESSES: Duration = Duration::from_secs(10);

/// Captures and publishes until an end is asked for, with a worker for each of `lives`, which share connections between
/// them. How it goes is left on the board.
///
/// # Errors
/// When events cannot be published, or a thread cannot be started.
pub fn run(
    decoders: &Decoders,
    lives: Vec<Live>,
    stop: &Stop,
    board: Option<&Board>,
    config: &Config,
    outputs: &mut Outputs,
) -> Result<Report, PipelineError> {
    board.inspect(|board| board.watch(outputs, lives.len()));
    let of = u32::try_from(lives.len()).unwrap_or(u32::MAX);
    let seat = |index| Seat { index, of, board };
    let mut report = Report { problems: decoders.problems.clone(), ..Report::default() };
    let mut lives = lives.into_iter();
    let Some(first) = lives.next() else { return Ok(report) };
    let others: Option<Vec<_>> = lives.map(|live| Some((live, outputs.branch()?))).collect();
    let others = others.ok_or(PipelineError::OneWorker)?;
    let mut failed = std::thread::scope(|scope| {
        let (mut started, mut failed) = (Vec::new(), None);
        for (index, (live, mut outputs)) in (1..).zip(others) {
            let work = move || (work(decoders, live, stop, seat(index), config, &mut outputs), outputs);
            match std::thread::Builder::new().name(format!("podtap-worker-{index}")).spawn_scoped(scope, work) {
                Ok(thread) => started.push(thread),
                Err(error) => {
                    stop.request();
                    failed = Some(PipelineError::Thread(error));
                }
            }
        }
        let mut take = |(counted, why): (Report, Option<PublishError>)| {
            report.add(&counted);
            // The first says it; another may only know that there is an end.
            failed = failed.take().or(why.map(PipelineError::Publish));
        };
        take(work(decoders, first, stop, seat(0), config, outputs));
        for thread in started {
            match thread.join() {
                Ok((done, branch)) => {
                    outputs.absorb(branch);
                    take(done);
                }
                Err(_) => {
                    let problems = vec!["a worker has panicked: what it had counted is lost".to_owned()];
                    take((Report { problems, ..Report::default() }, None));
                }
            }
        }
        failed
    });
    // Why, the output itself says.
    failed.take_if(|failed| matches!(failed, PipelineError::Publish(PublishError::Ended)));
    match failed {
        Some(error) => Err(error),
        None => {
            report.problems.extend(outputs.finish().err().map(|error| error.to_string()));
            Ok(report)
        }
    }
}

/// Captures until an end is asked for, which it does itself where it cannot go on. Gives why that is.
fn work(
    decoders: &Decoders,
    mut live: Live,
    stop: &Stop,
    seat: Seat<'_>,
    config: &Config,
    outputs: &mut Outputs,
) -> (Report, Option<PublishError>) {
    let mut report = Report::default();
    let mut worker = Worker::new(decoders, stop, seat, config, outputs, &mut report);
    let own = Shared::default();
    worker.dispatcher.admit_by(Box::new(Gate { own: own.clone(), hasher: BuildHasherDefault::default() }));
    let mut keeper = Keeper::new(own.clone(), config.capture.max_cpu_percent);
    keeper.look_up_addresses(&mut worker);
    // Outputs have their connections by now.
    own.with(|known| known.sockets.look());
    let mut idle = false;
    while !stop.is_requested() {
        let read = live.read(|record| {
            worker.packet(record);
            worker.publisher.failed.is_none()
        });
        if worker.publisher.failed.is_some() {
            break;
        }
        if read == 0 {
            worker.flush();
            worker.publisher.flush();
            live.wait(stop.notice(), WAIT);
        }
        idle = read == 0 && (idle || keeper.is_due());
        if keeper.is_due() {
            keeper.look_after(&mut worker, &mut live, idle, config.capture.batch_timeout.0);
            idle = true;
        }
    }
    stop.request();
    if worker.publisher.failed.is_none() {
        let at_most = LAST_READS.min(config.delivery.shutdown_grace.0 / 2);
        read_last(&mut worker, &mut live, config.capture.batch_timeout.0, at_most);
    }
    let failed = worker.publisher.failed.take();
    keeper.let_go_of_own(&mut worker);
    worker.finish();
    worker.drops = live.look_after();
    worker.report(&mut report);
    let failed = failed.or_else(|| worker.publisher.failed.take());
    (report, failed)
}

/// Reads what was captured until now, which the kernel may hold back for so long.
fn read_last(worker: &mut Worker<'_, '_>, live: &mut Live, held_back: Duration, at_most: Duration) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    // It looks for packets to hand over as often as that, and takes them when none came since.
    let handed_over = (2 * held_back).min(at_most);
    let began = Instant::now();
    loop {
        let mut is_from_before = false;
        let read = live.read(|record| {
            is_from_before |= record.time_ns <= now_ns;
            worker.packet(record);
            worker.publisher.failed.is_none()
        });
        let took = began.elapsed();
        // By then every interface has had its turn.
        let is_over = took >= handed_over && (read == 0 || !is_from_before);
        if is_over || worker.publisher.failed.is_some() {
            return;
        }
        if took >= at_most {
            tracing::warn!("an end was asked for: packets that the kernel holds are not read");
            return;
        }
        if read == 0 {
            live.wait(None, handed_over.saturating_sub(took));
        }
    }
}

/// What the gate and its keeper know together.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Known>>);

struct Known {
    sockets: OwnSockets,
    local: Vec<IpAddr>,
    /// Of new connections, so many in [`ALL`] are decoded.
    share: u32,
}

impl Default for Known {
    fn default() -> Known {
        Known { sockets: OwnSockets::default(), local: Vec::new(), share: ALL }
    }
}

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.0.borrow_mut())
    }
}

/// The whole of connections.
const ALL: u32 = 1 << 16;
/// The least of them that is decoded, whatever the load: 1 of 64.
const LEAST: u32 = ALL / 64;

/// Lets new connections in.
struct Gate {
    own: Shared,
    hasher: BuildHasherDefault<DefaultHasher>,
}

impl Admission for Gate {
    fn refuse(&mut self, connection: &Connection) -> Option<Refusal> {
        let ends = [connection.a, connection.b];
        let share = self.own.with(|known| {
            if ends.iter().any(|end| known.local.contains(&end.address)) {
                known.sockets.look();
            }
            if known.sockets.own(ends, &known.local) { None } else { Some(known.share) }
        });
        match share {
            None => Some(Refusal::Own),
            Some(share) if share < ALL && place(&self.hasher, ends) >= share => Some(Refusal::LeftOut),
            Some(_) => None,
        }
    }
}

/// A number below [`ALL`] that a connection has by its ends.
fn place(hasher: &impl BuildHasher, ends: [Endpoint; 2]) -> u32 {
    (hasher.hash_one(ends) >> 48) as u32
}

/// Looks after what is no packet.
struct Keeper {
    own: Shared,
    /// As of the last time that connections were looked through for podtap's own.
    changes: u64,
    looked: Instant,
    addresses_looked: Instant,
    load: Load,
    drops: Drops,
}

impl Keeper {
    fn new(own: Shared, max_cpu_percent: u32) -> Keeper {
        let now = Instant::now();
        let load = Load { max_cpu_percent, cpu: cpu_time(), share: ALL, calm: 0 };
        Keeper { own, changes: 0, looked: now, addresses_looked: now, load, drops: Drops::default() }
    }

    fn is_due(&self) -> bool {
        self.looked.elapsed() >= LOOK_AFTER
    }

    fn look_up_addresses(&mut self, worker: &mut Worker<'_, '_>) {
        self.addresses_looked = Instant::now();
        let local = addresses();
        worker.publisher.local.clone_from(&local);
        self.own.with(|known| known.local = local);
    }

    /// Of connections that were let in before it was known that they are podtap's own, nothing is told.
    fn let_go_of_own(&mut self, worker: &mut Worker<'_, '_>) {
        self.own.with(|known| {
            known.sockets.look_now();
            if std::mem::replace(&mut self.changes, known.sockets.changes()) != known.sockets.changes() {
                let (sockets, local) = (&mut known.sockets, &known.local);
                worker.dispatcher.let_go_of_own(|it| sockets.own([it.client(), it.server()], local));
            }
        });
    }

    /// `idle`: nothing was read for a second.
    fn look_after(&mut self, worker: &mut Worker<'_, '_>, live: &mut Live, idle: bool, held_back: Duration) {
        let took = self.looked.elapsed();
        self.looked = Instant::now();
        if self.addresses_looked.elapsed() >= ADDRESSES {
            self.look_up_addresses(worker);
        }
        self.let_go_of_own(worker);
        worker.reload();
        if idle {
            // What was captured before has been read.
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            worker.advance(now.saturating_sub(held_back + LOOK_AFTER).as_nanos() as u64);
        }
        let drops = live.look_after();
        let dropped = drops.kernel - self.drops.kernel;
        self.drops = drops;
        if let Some(share) = self.load.judge(dropped, took) {
            let percent = 100 * share / ALL;
            match share {
                ALL => tracing::info!("all new connections are decoded again"),
                _ => tracing::warn!(
                    packets_dropped = dropped,
                    "too much traffic: {percent} % of new connections are decoded"
                ),
            }
            self.own.with(|known| known.share = share);
        }
        if worker.tells() {
            worker.drops = drops;
            worker.tell(LiveStatus {
                decoded_share: f64::from(self.load.share) / f64::from(ALL),
                interfaces: live.interfaces().map(|(name, is_open)| (name.to_owned(), is_open)).collect(),
            });
        }
    }
}

/// How much of what comes is decoded.
struct Load {
    max_cpu_percent: u32,
    /// Of this thread, so far.
    cpu: Duration,
    share: u32,
    /// Looks in a row without overload.
    calm: u32,
}

impl Load {
    /// After so many looks without overload, more is decoded.
    const CALM: u32 = 10;

    /// The new share, where it changes.
    fn judge(&mut self, dropped: u64, took: Duration) -> Option<u32> {
        let cpu = cpu_time();
        let used = cpu.saturating_sub(self.cpu);
        self.cpu = cpu;
        let over =
            self.max_cpu_percent < 100 && used.as_nanos() * 100 > took.as_nanos() * u128::from(self.max_cpu_percent);
        self.judge_by(dropped > 0 || over)
    }

    fn judge_by(&mut self, overload: bool) -> Option<u32> {
        let before = self.share;
        if overload {
            self.calm = 0;
            self.share = (self.share / 2).max(LEAST);
        } else {
            self.calm += 1;
            if self.calm >= Load::CALM {
                self.calm = 0;
                self.share = (self.share * 2).min(ALL);
            }
        }
        (self.share != before).then_some(self.share)
    }
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_load_half_is_left_out_and_comes_back_when_it_is_calm() {
        let mut load = Load { max_cpu_percent: 100, cpu: Duration::ZERO, share: ALL, calm: 0 };
        assert_eq!(load.judge_by(false), None);
        assert_eq!(load.judge_by(true), Some(ALL / 2));
        assert_eq!(load.judge_by(true), Some(ALL / 4));
        assert_eq!((1..Load::CALM).find_map(|_| load.judge_by(false)), None);
        assert_eq!(load.judge_by(false), Some(ALL / 2));
        for _ in 0..20 {
            load.judge_by(true);
        }
        assert_eq!(load.share, LEAST);
    }

    #[test]
    fn a_connection_is_in_or_out_by_its_ends_alone() {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let end = |port| Endpoint { address: "192.0.2.1".parse().unwrap(), port };
        let places: Vec<_> = (0..4000).map(|port| place(&hasher, [end(port), end(80)])).collect();
        assert!(places.iter().all(|&place| place < ALL));
        let half = places.iter().filter(|&&place| place < ALL / 2).count();
        assert!((1800..2200).contains(&half), "{half}");
        assert_eq!(places[7], place(&hasher, [end(7), end(80)]));
    }
}
