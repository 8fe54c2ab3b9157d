//! What of one direction arrived ahead of a hole: sorted, without overlaps, each piece with its capture time.
//!
//! Runs of bytes in, pieces out at the front. Positions are stream positions. The policy for overlaps is "first wins":
//! bytes that are here stay, later ones for the same positions are compared with them and dropped. Only a run that the
//! snaplen cut off yields to bytes that come later. The caller bounds what is put in (see [`Assembler::cost_of`]).
//!
//! Invariants: pieces are sorted, not empty and do not overlap; `bytes` is the sum of the data kept.

use std::collections::VecDeque;

/// What a piece is charged beyond its data, for its entry and the allocation.
const PIECE_COST: u64 = 64;

/// A part of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Run<'a> {
    /// Captured bytes.
    Captured(&'a [u8]),
    /// This many bytes that the snaplen cut off.
    Cut(u64),
}

impl<'a> Run<'a> {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Run::Captured(bytes) => bytes.len() as u64,
            Run::Cut(length) => *length,
        }
    }

    /// Bytes in it that were captured.
    pub(crate) fn captured(&self) -> u64 {
        match self {
            Run::Captured(bytes) => bytes.len() as u64,
            Run::Cut(_) => 0,
        }
    }

    /// The first `at` bytes and the rest; all of it and nothing if it is not longer.
    pub(crate) fn split_at(self, at: u64) -> (Run<'a>, Run<'a>) {
        match self {
            Run::Captured(bytes) => {
                let (head, tail) = bytes.split_at(bytes.len().min(usize::try_from(at).unwrap_or(usize::MAX)));
                (Run::Captured(head), Run::Captured(tail))
            }
            Run::Cut(length) => (Run::Cut(length.min(at)), Run::Cut(length.saturating_sub(at))),
        }
    }
}

/// What is known of the bytes of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The bytes.
    Data(Box<[u8]>),
    /// They came, and nobody wants them.
    Skipped,
    /// They were sent, and the snaplen cut them off.
    Cut,
}

/// A run of bytes behind a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) time_ns: u64,
    pub(crate) content: Content,
}

/// What became of the captured bytes of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inserted {
    /// Kept.
    pub(crate) buffered: u64,
    /// Not kept, because they lie before the position skipped to.
    pub(crate) skipped: u64,
    /// Were here before.
    pub(crate) duplicate: u64,
    /// Of the duplicates, those that differ from what is here.
    pub(crate) conflicting: u64,
    /// Bytes of the run, captured or cut, of which nothing was here before.
    pub(crate) new: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    pieces: VecDeque<Piece>,
    bytes: u64,
    /// Pieces with [`Content::Cut`], so that the common case need not look for them.
    cut_pieces: usize,
    /// When a hole was last filled.
    progress_ns: u64,
}

impl Assembler {
    /// Where the first piece begins.
    pub(crate) fn front_start(&self) -> Option<u64> {
        self.pieces.front().map(|piece| piece.start)
    }

    /// Since when the hole before the first piece has been the next to be filled: what waits came, or the hole before
    /// it was filled. Retransmissions come one after the other, each hole has its time.
    pub(crate) fn hole_since_ns(&self) -> Option<u64> {
        self.pieces.front().map(|piece| piece.time_ns.max(self.progress_ns))
    }

    /// A hole was filled.
    pub(crate) fn set_progress(&mut self, time_ns: u64) {
        self.progress_ns = time_ns;
    }

    /// Where the last piece ends.
    pub(crate) fn back_end(&self) -> Option<u64> {
        self.pieces.back().map(|piece| piece.end)
    }

    pub(crate) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Data bytes kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Stream bytes that the pieces kept cover.
    pub(crate) fn covered(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.end - piece.start).sum()
    }

    /// What the pieces kept count against the total budget.
    pub(crate) fn cost(&self) -> u64 {
        self.bytes + self.pieces.len() as u64 * PIECE_COST
    }

    /// At most what one more run adds to [`Assembler::cost`], unless it fills several holes at once.
    pub(crate) fn cost_of(run: Run<'_>) -> u64 {
        run.captured() + PIECE_COST
    }

    /// The first piece, if it begins at `position`.
    pub(crate) fn pop_at(&mut self, position: u64) -> Option<Piece> {
        let piece = self.pieces.pop_front_if(|piece| piece.start == position)?;
        match &piece.content {
            Content::Data(data) => self.bytes -= data.len() as u64,
            Content::Cut => self.cut_pieces -= 1,
            Content::Skipped => {}
        }
        Some(piece)
    }

    /// Puts `run` at `start` into the holes. Bytes before `skip_until` are noted, not kept.
    pub(crate) fn insert(&mut self, start: u64, run: Run<'_>, skip_until: u64, time_ns: u64) -> Inserted {
        let mut done = Inserted::default();
        let end = start + run.len();
        let replaced = if matches!(run, Run::Captured(_)) { self.make_room(start, end) } else { 0 };
        // Most segments come in order behind the hole.
        let mut index = match self.pieces.back() {
            Some(last) if last.end > start => self.pieces.partition_point(|piece| piece.end <= start),
            _ => self.pieces.len(),
        };
        let (mut at, mut rest) = (start, run);
        while at < end {
            match self.pieces.get(index) {
                Some(piece) if piece.start <= at => {
                    let (overlap, behind) = rest.split_at(piece.end - at);
                    done.duplicate += overlap.captured();
                    done.conflicting += piece.conflicts(at, overlap);
                    at += overlap.len();
                    rest = behind;
                    index += 1;
                }
                next => {
                    let hole_end = next.map_or(end, |piece| piece.start.min(end));
                    let (fill, behind) = rest.split_at(hole_end - at);
                    index = self.fill(index, at, fill, skip_until, time_ns, &mut done);
                    done.new += fill.len();
                    at += fill.len();
                    rest = behind;
                }
            }
        }
        done.new -= replaced; // it lay within what was filled
        done
    }

    /// Drops the data before `position` and keeps the knowledge that it came. A piece that spans `position` stays.
    /// Returns the bytes dropped.
    pub(crate) fn skip_to(&mut self, position: u64) -> u64 {
        let mut dropped = 0;
        self.pieces.retain_mut(|piece| {
            if piece.end <= position
                && let Content::Data(data) = &piece.content
            {
                dropped += data.len() as u64;
                piece.content = Content::Skipped;
            }
            true
        });
        self.bytes -= dropped;
        self.join_skipped();
        dropped
    }

    /// Puts a run into one hole, before the piece at `index`. Returns the index of that piece afterwards.
    fn fill(
        &mut self,
        mut index: usize,
        start: u64,
        run: Run<'_>,
        skip_until: u64,
        time_ns: u64,
        done: &mut Inserted,
    ) -> usize {
        let bytes = match run {
            Run::Cut(length) => {
                self.cut_pieces += 1;
                self.pieces.insert(index, Piece { start, end: start + length, time_ns, content: Content::Cut });
                return index + 1;
            }
            Run::Captured(bytes) => bytes,
        };
        let skipped = skip_until.saturating_sub(start).min(bytes.len() as u64);
        let kept = bytes.get(skipped as usize..).unwrap_or_default();
        if skipped > 0 {
            done.skipped += skipped;
            let before = index.checked_sub(1).and_then(|before| self.pieces.get_mut(before));
            match before {
                Some(before) if before.end == start && before.content == Content::Skipped => before.end += skipped,
                _ => {
                    let piece = Piece { start, end: start + skipped, time_ns, content: Content::Skipped };
                    self.pieces.insert(index, piece);
                    index += 1;
                }
            }
        }
        if !kept.is_empty() {
            done.buffered += kept.len() as u64;
            self.bytes += kept.len() as u64;
            let start = start + skipped;
            let content = Content::Data(kept.into());
            self.pieces.insert(index, Piece { start, end: start + kept.len() as u64, time_ns, content });
            index += 1;
        }
        index
    }

    /// Takes runs that were cut off out of `start..end`, because their bytes have come. Returns how many they were.
    pub(crate) fn make_room(&mut self, start: u64, end: u64) -> u64 {
        if self.cut_pieces == 0 {
            return 0;
        }
        let mut taken = 0;
        let mut index = self.pieces.partition_point(|piece| piece.end <= start);
        while let Some(piece) = self.pieces.get_mut(index).filter(|piece| piece.start < end) {
            if piece.content != Content::Cut {
                index += 1;
                continue;
            }
            taken += piece.end.min(end) - piece.start.max(start);
            let behind = Piece { start: end, ..piece.clone() };
            let empty_before = piece.start >= start;
            piece.end = piece.end.min(start);
            if empty_before {
                self.pieces.remove(index);
                self.cut_pieces -= 1;
            } else {
                index += 1;
            }
            if behind.start < behind.end {
                self.pieces.insert(index, behind);
                self.cut_pieces += 1;
                break;
            }
        }
        taken
    }

    fn join_skipped(&mut self) {
        let mut joined = VecDeque::<Piece>::new();
        for piece in self.pieces.drain(..) {
            match joined.back_mut() {
                Some(last)
                    if last.end == piece.start
                        && last.content == Content::Skipped
                        && piece.content == Content::Skipped =>
                {
                    last.end = piece.end;
                }
                _ => joined.push_back(piece),
            }
        }
        self.pieces = joined;
    }
}

impl Piece {
    /// Its part of [`Assembler::cost`].
    pub(crate) fn cost(&self) -> u64 {
        match &self.content {
            Content::Data(data) => data.len() as u64 + PIECE_COST,
            Content::Skipped | Content::Cut => PIECE_COST,
        }
    }

    /// How many bytes of `run`, which begins at `at` within the piece, differ from it.
    pub(crate) fn conflicts(&self, at: u64, run: Run<'_>) -> u64 {
        let (Content::Data(data), Run::Captured(bytes)) = (&self.content, run) else { return 0 };
        let Some(data) = usize::try_from(at - self.start).ok().and_then(|skip| data.get(skip..)) else { return 0 };
        data.iter().zip(bytes).filter(|(kept, late)| kept != late).count() as u64
    }
}
