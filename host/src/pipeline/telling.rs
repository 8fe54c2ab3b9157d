//! What the worker leaves on the board for whoever asks how podtap is: about once a second, and where it waits for input,
//! so that what is there is not old.

use std::time::Instant;

use super::{Report, Worker};
use crate::admin::{self, Board, Snapshot};
use crate::capture::CaptureFile;

/// The board, and when something was left there.
#[derive(Clone, Copy)]
pub(super) struct Telling<'r> {
    board: &'r Board,
    /// Whose snapshots they are.
    index: usize,
    told: Instant,
}

/// What live capture has beside everything else.
#[derive(Default)]
pub(super) struct LiveStatus {
    pub(super) decoded_share: f64,
    pub(super) interfaces: Vec<(String, bool)>,
}

impl<'r> Worker<'r, '_> {
    /// From now on it tells.
    pub(super) fn tell_on(&mut self, board: &'r Board, index: usize) {
        self.dispatcher.time_calls();
        self.board = Some(Telling { board, index, told: Instant::now() });
        self.tell(LiveStatus { decoded_share: 1.0, ..LiveStatus::default() });
    }

    /// Does anybody want to know?
    pub(super) fn tells(&self) -> bool {
        self.board.is_some()
    }

    pub(super) fn tell(&mut self, live: LiveStatus) {
        let Some(Telling { board, index, .. }) = self.board else { return };
        // Whoever reads along does not wait longer than that, nor unseen.
        self.publisher.flush();
        let mut report = Report::default();
        self.report(&mut report);
        let stream = self.engine.counters();
        let outputs = &*self.publisher.outputs;
        let (exchanges, events) = (outputs.summary().exchanges(), outputs.summary().events());
        let LiveStatus { decoded_share, interfaces } = live;
        let snapshot = Snapshot {
            report,
            connections: stream.connections,
            fragments_waiting: stream.fragments_waiting,
            reassembly_bytes: stream.bytes_buffered,
            waiting: self.dispatcher.waiting(),
            decoders: self.dispatcher.decoders(),
            events: [exchanges, events - exchanges],
            requests: outputs.requests().cloned(),
            failed_outputs: outputs.failures().map(ToString::to_string).collect(),
            decoded_share,
            interfaces,
        };
        board.put(index, snapshot);
        if let Some(telling) = &mut self.board {
            telling.told = Instant::now();
        }
    }

    /// To be called now and then while files are read.
    pub(super) fn tell_if_due(&mut self) {
        if self.board.as_ref().is_some_and(|telling| telling.told.elapsed() >= admin::INTERVAL) {
            self.tell(LiveStatus { decoded_share: 1.0, ..LiveStatus::default() });
        }
    }

    /// Before a read that may take any time. Where packets come one by one, not each of them makes a snapshot.
    pub(super) fn tell_before_wait(&mut self, file: &CaptureFile) {
        let Some(Telling { told, .. }) = self.board else { return };
        if !file.wait_for_input(admin::INTERVAL.saturating_sub(told.elapsed())) {
            self.tell(LiveStatus { decoded_share: 1.0, ..LiveStatus::default() });
            self.waits();
        }
    }

    /// From now on nothing is to be expected of this thread.
    pub(super) fn waits(&self) {
        if let Some(Telling { board, .. }) = self.board {
            board.waits(true);
        }
    }

    pub(super) fn tell_after_wait(&mut self) {
        if let Some(Telling { board, .. }) = self.board {
            board.waits(false);
            // Somebody may have begun to read along meanwhile.
            self.publisher.flush();
        }
    }
}
