//! A conversation of two sides, read by a decoder natively. Knows no protocol.
//!
//! An input is a script: two bytes of how it is read, then operations of one byte and what they need. The lowest bit of
//! an operation is the side (1: the server), the others are a number of [`op`]. Step n, counted from 1, happens at n ms.

use podtap_sdk::{Decoder, Instance};

use crate::script::Script;

mod ledger;
mod run;

use ledger::Exchange;
use run::Cut;

/// Payload and steps of one conversation: more than a decoder may hold, and it takes milliseconds at most.
const MAX_BYTES: usize = 4 << 20;
const MAX_STEPS: usize = 4096;

/// Numbers of operations. Those of no name are [`op::DATA`].
pub(crate) mod op {
    /// Length, and as many bytes: payload.
    pub(crate) const DATA: u8 = 0;
    /// Length in 2 bytes, and as many bytes: payload.
    pub(crate) const MUCH_DATA: u8 = 1;
    /// A byte and a length in 2 bytes: payload of this byte.
    pub(crate) const FILL: u8 = 2;
    /// A number: the last payload of the side, so often.
    pub(crate) const AGAIN: u8 = 3;
    /// Length in 2 bytes: bytes that were lost.
    pub(crate) const GAP: u8 = 4;
    /// Length in 4 bytes: the same.
    pub(crate) const HUGE_GAP: u8 = 5;
    /// The side sends no more.
    pub(crate) const END: u8 = 6;
}

/// Of the first byte of a script: bytes were sent before.
pub(crate) const MIDSTREAM: u8 = 1;
/// The connection is reset in the end.
pub(crate) const RESET: u8 = 2;

/// A decoder reads a conversation as a whole, step by step, and in pieces of the length that the second byte of the
/// script says. It finds exchanges that keep what [`ledger::Ledger`] says, and the same ones in one batch and in many. In
/// pieces they are the same as in steps if every byte of the conversation is in an exchange; else where a message begins
/// behind what made no sense may show by where a segment does.
pub(crate) fn conversation<D: Decoder>(config: &str, input: &[u8]) {
    compare::<D>(config, input, false);
}

/// As [`conversation`], for one that may be known to be as the protocol has it; the number of its exchanges that are the
/// same in pieces.
pub(crate) fn compare<D: Decoder>(config: &str, input: &[u8], well_formed: bool) -> usize {
    let conversation = Conversation::read(input);
    let run = |cut| run::run(Instance::<D>::new(config).expect("a configuration"), &conversation, cut);
    let [in_steps, in_pieces] = [usize::MAX, conversation.piece].map(|size| {
        let [many, one] = [false, true].map(|one_batch| run(Cut { size, one_batch }));
        same(&many.exchanges, &one.exchanges);
        one
    });
    let is_certain = conversation.is_complete() && (well_formed || in_steps.all_decoded);
    if is_certain {
        same(&in_pieces.exchanges, &in_steps.exchanges);
    }
    if is_certain { in_steps.exchanges.len() } else { 0 }
}

fn same(left: &[Exchange], right: &[Exchange]) {
    for index in 0..left.len().max(right.len()) {
        let (left, right) = (left.get(index), right.get(index));
        let same = left.zip(right).is_some_and(|(left, right)| left.is_same(right));
        assert!(same, "otherwise cut, other exchanges:\n{left:?}\n{right:?}");
    }
}

/// What both sides send, in order.
struct Conversation<'i> {
    midstream: bool,
    reset: bool,
    piece: usize,
    steps: Vec<Step<'i>>,
}

/// A step of one side.
struct Step<'i> {
    from_server: bool,
    what: What<'i>,
}

#[derive(Clone, Copy)]
enum What<'i> {
    Data(&'i [u8]),
    Fill(u8, usize),
    Gap(u32),
    End,
}

impl What<'_> {
    /// Of payload, how much.
    fn len(&self) -> usize {
        match *self {
            What::Data(bytes) => bytes.len(),
            What::Fill(_, length) => length,
            What::Gap(_) | What::End => 0,
        }
    }

    /// So many bytes of its payload from a place on, behind `bytes`.
    fn append(&self, bytes: &mut Vec<u8>, from: usize, length: usize) {
        match *self {
            What::Data(all) => bytes.extend_from_slice(&all[from..from + length]),
            What::Fill(byte, _) => bytes.resize(bytes.len() + length, byte),
            What::Gap(_) | What::End => {}
        }
    }
}

impl<'i> Conversation<'i> {
    fn is_complete(&self) -> bool {
        !self.midstream && !self.steps.iter().any(|step| matches!(step.what, What::Gap(_)))
    }

    fn read(input: &'i [u8]) -> Conversation<'i> {
        let mut script = Script::new(input);
        let (flags, piece) = (script.u8(), usize::from(script.u8()) + 1);
        let mut steps: Vec<Step<'i>> = Vec::new();
        let (mut last, mut ended, mut given) = ([What::Data(b""); 2], [false; 2], 0);
        while !script.is_over() {
            let operation = script.u8();
            let side = usize::from(operation & 1);
            let (what, times) = match operation >> 1 {
                op::MUCH_DATA => (What::Data(script.slice_of_u16()), 1),
                op::FILL => (What::Fill(script.u8(), script.u16().into()), 1),
                op::AGAIN => (last[side], script.u8().into()),
                op::GAP => (What::Gap(script.u16().into()), 1),
                op::HUGE_GAP => (What::Gap(script.u32()), 1),
                op::END => (What::End, 1),
                _ => (What::Data(script.slice_of_u8()), 1),
            };
            // The stream engine gives no empty entry, and none behind the end of a side.
            let is_empty = what.len() == 0 && !matches!(what, What::End | What::Gap(1..));
            if is_empty || ended[side] {
                continue;
            }
            match what {
                What::Data(_) | What::Fill(..) => last[side] = what,
                What::End => ended[side] = true,
                What::Gap(_) => {}
            }
            for _ in 0..times {
                given += what.len();
                if given > MAX_BYTES || steps.len() >= MAX_STEPS {
                    break;
                }
                steps.push(Step { from_server: side == 1, what });
            }
        }
        Conversation { midstream: flags & MIDSTREAM != 0, reset: flags & RESET != 0, piece, steps }
    }
}
