//! The thread that brings records from the queue to librdkafka, through the spool where there is one.
//!
//! ```text
//!  queue ──> [spool: append] ──> from memory, or from the spool where that lags behind ──> librdkafka
//!                                      ^                                                      │
//!                                      └── given back: refused for a reason that may pass <───┤
//!                                          spool: settled, segments deleted <─────────────────┘ acknowledged
//! ```
//!
//! Where traffic is live it never ends by itself: brokers may be away for as long as they are. Where it is recorded, it
//! gives up when it cannot go on and nothing was acknowledged for `kafka.timeout`. At the end it waits as long, or until
//! the grace of a signal is over.
//!
//! Invariant: events accepted + recovered = delivered + failed + left in the spool, where what is missing in the sum at
//! the end counts as failed, under a reason of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{Answer, Client};
use super::progress::{self, Progress};
use super::reports::{RETRY, Reports};
use crate::config::HumanDuration;
use crate::publish::queue::{Chunk, Queue};
use crate::publish::record::{self, First};
use crate::publish::spool::{Appended, Spool};
use crate::publish::{PublishError, QUEUE_FULL, SpoolCounts, Traffic};
use crate::stop::Stop;

/// The longest wait while there is something to look after.
const LOOK: Duration = Duration::from_millis(50);
/// How long, at the end, what was purged may take to be reported.
const PURGE: Duration = Duration::from_secs(2);
/// Between two lines that say that brokers are away.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// The reason of events that made room for newer ones in the spool.
const SPOOL_FULL: &str = "spool_full";
/// The reason of events of the spool that could not be read again.
const SPOOL_DAMAGED: &str = "spool_damaged";

/// See the module.
pub(super) struct Sender {
    pub(super) queue: Arc<Queue>,
    pub(super) client: Client,
    pub(super) reports: Reports,
    pub(super) spool: Option<Spool>,
    pub(super) traffic: Traffic,
    pub(super) stop: Stop,
    pub(super) timeout: HumanDuration,
    /// A chunk on its way from memory, and where that goes on.
    pub(super) waiting: Option<Waiting>,
    /// Records that librdkafka took.
    pub(super) sent: u64,
    /// Records that it did not take, by reason.
    pub(super) refused: BTreeMap<String, u64>,
    /// Once so many are settled, librdkafka is asked again whether it has room.
    pub(super) room_at: u64,
    /// When it last looked for new credentials.
    pub(super) looked: Option<Instant>,
    /// Nothing is sent before: the topic cannot be used just now.
    pub(super) paused_until: Option<Instant>,
    pub(super) watch: Watch,
    /// Where it says how it goes, and when it last did.
    pub(super) progress: progress::Watch,
    pub(super) told: Option<Instant>,
}

pub(super) struct Waiting {
    chunk: Chunk,
    offset: usize,
    /// Of the spool; 0: in none.
    segment: usize,
}

/// What became of all records.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) delivered: u64,
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) spool: Option<SpoolCounts>,
    /// Why it ended before its time.
    pub(super) error: Option<PublishError>,
}

/// How far records of some bytes went.
#[derive(Default)]
struct Passed {
    bytes: usize,
    records: u64,
    taken: u64,
    /// Reasons of records that were not.
    refused: Vec<String>,
    /// librdkafka has no room for the next one.
    is_full: bool,
    /// Why the next one, and all others, have to wait.
    not_now: Option<String>,
    fatal: Option<String>,
}

impl Sender {
    /// Works until all is sent after the queue's end, or it gives up.
    pub(super) fn run(mut self) -> Sent {
        let error = self.work().err();
        self.conclude(error)
    }

    fn work(&mut self) -> Result<(), PublishError> {
        loop {
            let ended = self.queue.has_ended();
            let received = self.receive();
            let moved = self.send()? || received;
            self.settle();
            let in_flight = self.in_flight();
            let is_idle = in_flight == 0 && !moved && !self.has_unsent();
            if ended && (is_idle || self.stop.is_overdue()) {
                return Ok(());
            }
            self.watch.look(&self.reports, &self.client, in_flight, is_idle);
            self.renew_credentials();
            if !moved || self.told.is_none_or(|told| told.elapsed() >= LOOK) {
                self.tell(is_idle);
            }
            if moved {
                continue;
            }
            if self.is_out_of_patience(ended) {
                return if ended { Ok(()) } else { Err(self.stalled(in_flight)) };
            }
            self.rest(ended, is_idle);
        }
    }

    /// Takes a chunk, into the spool if there is one. False: there was none, or there is one on its way already.
    fn receive(&mut self) -> bool {
        if self.waiting.is_some() {
            if self.spool.as_ref().is_some_and(Spool::is_to_be_tried_again) {
                self.spool_waiting();
            }
            return false;
        }
        let Some(mut chunk) = self.queue.take() else { return false };
        if self.client.gives_up() && (self.paused_until.is_some() || self.reports.has_given_back()) {
            self.client.learn_topics(&chunk.bytes);
        }
        let mut segment = 0;
        if let Some(spool) = &mut self.spool {
            record::seal(&mut chunk.bytes);
            match spool.append(&chunk.bytes, chunk.events) {
                Appended::Next(number) => segment = number as usize,
                Appended::Behind => {
                    self.queue.done(chunk);
                    return true;
                }
                Appended::Refused => {}
            }
        }
        self.waiting = Some(Waiting { chunk, offset: 0, segment });
        true
    }

    /// The rest of a chunk that the spool did not take, into it after all.
    fn spool_waiting(&mut self) {
        let Some(mut waiting) = self.waiting.take() else { return };
        if let Some(spool) = self.spool.as_mut().filter(|_| waiting.segment == 0) {
            let records = waiting.records();
            match spool.append_again(waiting.chunk.bytes.get(waiting.offset..).unwrap_or_default(), records) {
                Appended::Next(number) => waiting.segment = number as usize,
                Appended::Behind => return self.queue.done(waiting.chunk),
                Appended::Refused => {}
            }
        }
        self.waiting = Some(waiting);
    }

    /// Sends some of what is next. True: there may be more to do at once.
    fn send(&mut self) -> Result<bool, PublishError> {
        let is_full = self.reports.lock().settled < self.room_at;
        let is_paused = self.paused_until.is_some_and(|moment| Instant::now() < moment);
        let has_given_back = self.reports.has_given_back();
        if is_full || is_paused || has_given_back {
            self.leave_to_spool();
        }
        if is_full || is_paused {
            return Ok(false);
        }
        if self.paused_until.take().is_some() {
            self.ask_for_topics();
        }
        if has_given_back {
            return self.send_again();
        }
        if self.waiting.as_ref().is_none_or(|waiting| waiting.segment == 0)
            && let Some(spool) = &mut self.spool
            && let Some((segment, bytes)) = spool.unsent()
        {
            let passed = pass(&mut self.client, bytes, segment as usize);
            spool.advance(passed.bytes, passed.records);
            return self.note(passed, segment as usize);
        }
        let Some(mut waiting) = self.waiting.take() else { return Ok(false) };
        let segment = waiting.segment;
        let passed = pass(&mut self.client, &waiting.chunk.bytes[waiting.offset..], segment);
        waiting.offset += passed.bytes;
        if let Some(spool) = self.spool.as_mut().filter(|_| segment > 0) {
            spool.advance(passed.bytes, passed.records);
        }
        // What is in the spool is read from there, once there is room.
        if segment > 0 || !passed.is_interrupted() {
            self.queue.done(waiting.chunk);
        } else {
            self.waiting = Some(waiting);
        }
        self.note(passed, segment)
    }

    /// Makes way for the next chunk, where the spool has what is on its way from memory.
    fn leave_to_spool(&mut self) {
        if let Some(waiting) = self.waiting.take_if(|waiting| waiting.segment > 0) {
            self.queue.done(waiting.chunk);
        }
    }

    /// Sends what was given back, once it is time.
    fn send_again(&mut self) -> Result<bool, PublishError> {
        let Some(mut again) = self.reports.take_given_back() else { return Ok(false) };
        // Else librdkafka would refuse them for as long as it takes what it knew of the topic for true.
        self.ask_for_topics();
        let mut moved = false;
        while let Some((segment, bytes)) = again.pop_front() {
            let passed = pass(&mut self.client, &bytes, segment);
            if passed.is_interrupted() {
                again.push_front((segment, bytes));
                self.reports.give_back(std::mem::take(&mut again));
            }
            moved |= self.note(passed, segment)?;
        }
        Ok(moved)
    }

    /// Where brokers reject what proved who this client is, and it was replaced meanwhile, goes on with what is there now.
    fn renew_credentials(&mut self) {
        let is_live = self.traffic == Traffic::Live;
        if !is_live || self.watch.last_progress.elapsed() < RETRY || self.looked.is_some_and(|at| at.elapsed() < RETRY)
        {
            return;
        }
        self.looked = Some(Instant::now());
        // The next attempt to connect says it again.
        if self.reports.take_rejected() && self.client.has_new_credentials() {
            match self.client.renew() {
                Ok(()) => {
                    tracing::info!("kafka: password, certificate or key are new: another producer goes on with them")
                }
                Err(error) => tracing::warn!("kafka: password, certificate or key are new and cannot be used: {error}"),
            }
        }
    }

    fn ask_for_topics(&mut self) {
        if self.client.gives_up() {
            if let Some(waiting) = &self.waiting {
                self.client.learn_topics(&waiting.chunk.bytes);
            }
            self.queue.look_at_newest(|bytes| self.client.learn_topics(bytes));
        }
        self.client.ask_for_topics();
    }

    /// Counts; gives whether anything went on.
    fn note(&mut self, passed: Passed, segment: usize) -> Result<bool, PublishError> {
        self.sent += passed.taken;
        let refused = passed.refused.len() as u64;
        for reason in passed.refused {
            *self.refused.entry(reason).or_default() += 1;
        }
        if let Some(spool) = self.spool.as_mut().filter(|_| refused > 0) {
            spool.settle(segment as u64, refused);
        }
        if passed.is_full {
            // Room for a good part of the queue, so that waiter and sender do not take turns at every record.
            self.room_at = self.reports.wake_after(self.in_flight() / 8);
        }
        if let Some(why) = passed.not_now {
            tracing::debug!(why, "kafka: nothing can be sent for now");
            self.reports.note_error(why);
            self.paused_until = Some(Instant::now() + RETRY);
        }
        if let Some(fatal) = passed.fatal {
            if self.traffic == Traffic::Recorded {
                return Err(PublishError::KafkaFatal(fatal));
            }
            match self.client.renew() {
                Ok(()) => tracing::error!("kafka: the producer had to stop: {fatal}; another one goes on"),
                Err(error) => {
                    tracing::error!("kafka: the producer had to stop: {fatal}; no other one can be made: {error}");
                    self.paused_until = Some(Instant::now() + RETRY);
                }
            }
        }
        Ok(passed.bytes > 0)
    }

    /// Tells the spool what needs it no more.
    fn settle(&mut self) {
        if let Some(spool) = &mut self.spool {
            for (segment, records) in self.reports.take_settled() {
                spool.settle(segment as u64, records);
            }
            spool.tick();
        }
    }

    /// Says how it goes, to whoever looks.
    fn tell(&mut self, is_idle: bool) {
        self.told = Some(Instant::now());
        self.progress.tell(Progress {
            sent: self.sent,
            lost: self.lost().collect(),
            silent_since: (!is_idle).then_some(self.watch.last_progress),
            spool: self.spool.as_ref().map(Spool::status),
        });
    }

    /// What never reached librdkafka, by reason.
    fn lost(&self) -> impl Iterator<Item = (String, u64)> {
        let (dropped, damaged) = self.spool.as_ref().map_or((0, 0), Spool::lost);
        let here = [(QUEUE_FULL, self.queue.dropped()), (SPOOL_FULL, dropped), (SPOOL_DAMAGED, damaged)];
        let here = here.into_iter().map(|(reason, count)| (reason.to_owned(), count));
        here.chain(self.refused.clone()).filter(|(_, count)| *count > 0)
    }

    fn in_flight(&self) -> u64 {
        self.sent - self.reports.lock().settled
    }

    fn has_unsent(&self) -> bool {
        self.waiting.is_some()
            || self.spool.as_ref().is_some_and(|spool| !spool.is_caught_up())
            || self.reports.has_given_back()
    }

    fn is_out_of_patience(&self, ended: bool) -> bool {
        let is_blocked = || self.waiting.as_ref().is_some_and(|waiting| waiting.segment == 0);
        match self.stop.deadline() {
            Some(deadline) if ended => Instant::now() >= deadline,
            _ if ended || self.traffic == Traffic::Recorded && is_blocked() => {
                self.watch.last_progress.elapsed() >= self.timeout.0
            }
            _ => false,
        }
    }

    fn stalled(&self, in_flight: u64) -> PublishError {
        let waiting = self.waiting.as_ref().map_or(0, Waiting::records);
        PublishError::KafkaStalled {
            brokers: self.client.brokers.clone(),
            waited: self.timeout.to_string(),
            pending: in_flight + waiting + self.queue.waiting(),
            last: self.reports.last_error(),
        }
    }

    /// Until there may be something to do.
    fn rest(&mut self, ended: bool, is_idle: bool) {
        if ended && !self.has_unsent() {
            self.reports.wake_after(self.in_flight());
        }
        let nothing_to_look_after = is_idle && self.spool.as_ref().is_none_or(Spool::is_quiet);
        self.queue.wait(self.waiting.is_none() && !ended, (!nothing_to_look_after).then_some(LOOK));
        if is_idle {
            // Nobody was asked for an acknowledgement meanwhile.
            self.watch.last_progress = Instant::now();
        }
    }

    fn conclude(mut self, error: Option<PublishError>) -> Sent {
        // Where there was no time to send, there is time to write, the oldest first.
        self.spool.iter_mut().for_each(Spool::try_again_now);
        self.spool_waiting();
        while let Some(spool) = &mut self.spool
            && let Some(mut chunk) = self.queue.take()
        {
            record::seal(&mut chunk.bytes);
            spool.append(&chunk.bytes, chunk.events);
        }
        if self.in_flight() > 0 {
            self.reports.end();
            self.client.purge();
            self.reports.wait(self.sent, PURGE);
        }
        self.settle();
        let mut sent = Sent { error, ..Sent::default() };
        {
            let counts = self.reports.lock();
            sent.delivered = counts.delivered;
            sent.failed = counts.failed.clone();
        }
        for (reason, count) in self.lost() {
            *sent.failed.entry(reason).or_default() += count;
        }
        sent.spool = self.spool.as_mut().map(Spool::close);
        sent
    }
}

impl Waiting {
    /// Not sent yet.
    fn records(&self) -> u64 {
        let (mut rest, mut records) = (self.chunk.bytes.get(self.offset..).unwrap_or_default(), 0);
        while let First::Record(_, length) = record::first(rest, false) {
            rest = rest.get(length..).unwrap_or_default();
            records += 1;
        }
        records
    }
}

impl Passed {
    fn is_interrupted(&self) -> bool {
        self.is_full || self.not_now.is_some() || self.fatal.is_some()
    }
}

/// Gives records to librdkafka, as many as it takes.
fn pass(client: &mut Client, bytes: &[u8], segment: usize) -> Passed {
    let mut passed = Passed::default();
    while let First::Record(record, length) = record::first(bytes.get(passed.bytes..).unwrap_or_default(), false) {
        match client.send(&record, segment) {
            Answer::Taken => passed.taken += 1,
            Answer::Refused(reason) => passed.refused.push(reason),
            Answer::NoRoom => {
                passed.is_full = true;
                break;
            }
            Answer::NotNow(why) => {
                passed.not_now = Some(why);
                break;
            }
            Answer::Fatal(message) => {
                passed.fatal = Some(message);
                break;
            }
        }
        passed.bytes += length;
        passed.records += 1;
    }
    passed
}

/// Sees whether the brokers acknowledge, and says so where nobody else does.
pub(super) struct Watch {
    answered: u64,
    last_progress: Instant,
    /// After how long without an acknowledgement this is said; none: never.
    complains_after: Option<Duration>,
    complained: Option<Instant>,
}

impl Watch {
    pub(super) fn new(complains_after: Option<Duration>) -> Watch {
        Watch { answered: 0, last_progress: Instant::now(), complains_after, complained: None }
    }

    fn look(&mut self, reports: &Reports, client: &Client, in_flight: u64, is_idle: bool) {
        let (brokers, topic) = (&*client.brokers, client.topic());
        let answered = reports.lock().answered;
        let now = Instant::now();
        if answered != self.answered || is_idle {
            (self.answered, self.last_progress) = (answered, now);
            if self.complained.take().is_some() {
                tracing::info!(brokers, "kafka: events are acknowledged again");
            }
            return;
        }
        let is_long = self.complains_after.is_some_and(|time| now.duration_since(self.last_progress) >= time);
        if is_long && self.complained.is_none_or(|moment| now.duration_since(moment) >= COMPLAINT_INTERVAL) {
            self.complained = Some(now);
            let seconds = now.duration_since(self.last_progress).as_secs();
            let last = reports.last_error();
            tracing::warn!(brokers, topic, seconds, in_flight, "kafka: nothing is acknowledged, tried on and on{last}");
        }
    }
}
