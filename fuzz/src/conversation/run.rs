//! Gives a conversation to a decoder as podtap does: in batches, without what it asks to leave out.

use podtap_sdk::{Batch, Decoder, Instance, OpenedConnection};

use super::ledger::{Exchange, Ledger};
use super::{Conversation, What};
use crate::memory::held_bytes;

const DATA: u8 = 0;
const GAP: u8 = 1;
const END: u8 = 2;
const CLOSED: u8 = 3;
const FROM_SERVER: u8 = 128;

/// What a decoder may hold of one connection, beside the batch that it is given.
const MAX_HELD_BYTES: isize = 1 << 20;
/// What it may hold of no connection.
const MAX_LEFT_BYTES: isize = 4 << 10;
/// More pieces take too long: those of longer conversations are longer.
const MAX_PIECES: usize = 8 << 10;

/// How a conversation is cut.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    /// Segments are of so many bytes at most, or more where there are many, and of one step.
    pub(super) size: usize,
    /// All in one batch; else each in a batch of its own, without what the decoder asked to leave out.
    pub(super) one_batch: bool,
}

/// What a decoder made of a conversation.
pub(super) struct Read {
    pub(super) exchanges: Vec<Exchange>,
    /// Every byte is in an exchange.
    pub(super) all_decoded: bool,
}

/// Gives a conversation to a new instance of a decoder.
pub(super) fn run<D: Decoder>(instance: Instance<D>, conversation: &Conversation<'_>, cut: Cut) -> Read {
    let mut reader = Reader::new(instance, conversation.midstream);
    let given: usize = conversation.steps.iter().map(|step| step.what.len()).sum();
    let size = cut.size.max(given / MAX_PIECES);
    for (number, step) in (1..).zip(&conversation.steps) {
        reader.ledger.now_ns = number * 1_000_000;
        let side = usize::from(step.from_server);
        match step.what {
            What::Gap(length) => {
                reader.entry(GAP, side, length);
                reader.advance(side, length.into());
            }
            What::End => reader.entry(END, side, 0),
            What::Data(_) | What::Fill(..) => {
                let mut from = 0;
                while from < step.what.len() {
                    let length = size.min(step.what.len() - from);
                    reader.data(side, &step.what, from, length);
                    from += length;
                    if !cut.one_batch {
                        reader.feed();
                    }
                }
            }
        }
        if !cut.one_batch {
            reader.feed();
        }
    }
    reader.close(conversation.reset)
}

/// A decoder that reads one connection.
struct Reader<D> {
    instance: Instance<D>,
    batch: Batch,
    /// By side: the next position, and that up to which bytes are to be left out.
    next: [u64; 2],
    skip_to: [u64; 2],
    ledger: Ledger,
    exchanges: Vec<Exchange>,
    /// Memory that was held before, and that is none of the decoder's.
    held_before: isize,
}

impl<D: Decoder> Reader<D> {
    fn new(instance: Instance<D>, midstream: bool) -> Reader<D> {
        let (ledger, exchanges, held_before) = (Ledger::default(), Vec::new(), held_bytes());
        let mut batch = empty();
        batch.opened.push(OpenedConnection {
            id: 0,
            client_address: "192.0.2.1".into(),
            client_port: 49152,
            server_address: "192.0.2.2".into(),
            server_port: D::DESCRIPTOR.ports.first().copied().unwrap_or(1),
            midstream,
        });
        Reader { instance, batch, next: [0; 2], skip_to: [0; 2], ledger, exchanges, held_before }
    }

    fn entry(&mut self, kind: u8, side: usize, length: u32) {
        self.batch.connections.push(0);
        self.batch.kinds.push(kind | if side == 1 { FROM_SERVER } else { 0 });
        self.batch.times.push(self.ledger.now_ns);
        self.batch.positions.push(self.next[side]);
        self.batch.lengths.push(length);
    }

    fn advance(&mut self, side: usize, length: u64) {
        self.next[side] += length;
        self.ledger.stream_bytes[side] += length;
    }

    /// A piece of payload, without what was asked to be left out.
    fn data(&mut self, side: usize, what: &What<'_>, from: usize, length: usize) {
        let left_out = self.skip_to[side].saturating_sub(self.next[side]).min(length as u64) as usize;
        self.advance(side, left_out as u64);
        if left_out < length {
            let length = length - left_out;
            what.append(&mut self.batch.data, from + left_out, length);
            self.entry(DATA, side, length as u32);
            self.advance(side, length as u64);
            self.ledger.given_bytes += length as u64;
        }
    }

    fn feed(&mut self) {
        let output = self.instance.feed(std::mem::replace(&mut self.batch, empty()));
        let before = held_bytes();
        self.exchanges.extend(self.ledger.read(&D::DESCRIPTOR, &output));
        self.held_before += held_bytes() - before;
        for (&kind, &position) in output.demand_kinds.iter().zip(&output.demand_positions) {
            if kind & !FROM_SERVER == 0 {
                let side = usize::from(kind & FROM_SERVER != 0);
                self.skip_to[side] = self.skip_to[side].max(position);
            }
        }
        drop(output);
        let held = held_bytes() - self.held_before;
        assert!(held <= MAX_HELD_BYTES, "{held} bytes held");
    }

    fn close(mut self, reset: bool) -> Read {
        self.entry(CLOSED, 0, reset.into());
        self.feed();
        // An instance keeps room for as long an output as the last one.
        self.feed();
        self.feed();
        let held = held_bytes() - self.held_before;
        assert!(held <= MAX_LEFT_BYTES, "{held} bytes held of a connection that is closed");
        self.ledger.check();
        Read { exchanges: self.exchanges, all_decoded: self.ledger.is_all_decoded() }
    }
}

fn empty() -> Batch {
    Batch {
        opened: Vec::new(),
        connections: Vec::new(),
        kinds: Vec::new(),
        times: Vec::new(),
        positions: Vec::new(),
        lengths: Vec::new(),
        data: Vec::new(),
    }
}
