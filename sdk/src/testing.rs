//! Tests of decoders without podtap: a conversation is written down, fed natively, and its exchanges are compared.
//!
//! ```
//! # use podtap_sdk::*;
//! # struct Silent;
//! # impl Decoder for Silent {
//! #     const DESCRIPTOR: Descriptor = Descriptor { name: "s", version: "1", doc: "", protocols: &["s"], ports: &[],
//! #         attributes: &[], status: None };
//! #     fn configure(_: &str) -> Result<Silent, String> { Ok(Silent) }
//! #     fn probe(&self, _: bool, _: &[u8]) -> Verdict { Verdict::No }
//! #     fn connect(&self, c: &mut Connection) -> Tasks {
//! #         let (mut client, mut server) = (c.client(), c.server());
//! #         Tasks::new(async move { client.rest().await; Ok(()) }, async move { server.rest().await; Ok(()) })
//! #     }
//! # }
//! use podtap_sdk::testing::Conversation;
//!
//! let conversation = Conversation::new().client("ping\n").server("pong\n").close();
//! assert_eq!(conversation.exchanges::<Silent>(), Vec::<String>::new());
//! ```

use crate::bindings::podtap::decoder::types::{Batch, OpenedConnection, Output, ValueKind};
use crate::stream::FROM_SERVER;
use crate::{Decoder, Instance};

const DATA: u8 = 0;
const GAP: u8 = 1;
const END: u8 = 2;
const CLOSED: u8 = 3;

#[derive(Clone, Debug)]
struct Step {
    ms: u64,
    kind: u8,
    side: u8,
    bytes: Vec<u8>,
    length: u32,
}

/// What both sides sent, in order. Step n, counted from 1, happens at n ms.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    steps: Vec<Step>,
    midstream: bool,
    config: String,
}

/// How a conversation is cut into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Each step is a segment, all in one batch.
    Whole,
    /// Segments of so many bytes, each in a batch of its own.
    Pieces(usize),
    /// Segments of random lengths, each in a batch of its own; the same for the same seed.
    Random(u64),
}

/// Losses, cuts and beginnings that [`Conversation::robust_exchanges`] tries of each kind.
const ROUNDS: u64 = 64;

impl Conversation {
    /// Nothing was said yet.
    pub fn new() -> Conversation {
        Conversation::default()
    }

    /// Seen from its middle.
    pub fn midstream() -> Conversation {
        Conversation { midstream: true, ..Conversation::default() }
    }

    /// Read by a decoder with this configuration, a JSON object.
    pub fn configured(self, config: &str) -> Conversation {
        Conversation { config: config.to_owned(), ..self }
    }

    fn step(mut self, kind: u8, side: u8, bytes: &[u8], length: u32) -> Conversation {
        let ms = self.steps.len() as u64 + 1;
        self.steps.push(Step { ms, kind, side, bytes: bytes.to_vec(), length });
        self
    }

    /// The client sends.
    pub fn client(self, bytes: impl AsRef<[u8]>) -> Conversation {
        self.step(DATA, 0, bytes.as_ref(), 0)
    }

    /// The server sends.
    pub fn server(self, bytes: impl AsRef<[u8]>) -> Conversation {
        self.step(DATA, FROM_SERVER, bytes.as_ref(), 0)
    }

    /// So many bytes of the client were lost.
    pub fn client_gap(self, length: u32) -> Conversation {
        self.step(GAP, 0, b"", length)
    }

    /// So many bytes of the server were lost.
    pub fn server_gap(self, length: u32) -> Conversation {
        self.step(GAP, FROM_SERVER, b"", length)
    }

    /// The client sends FIN.
    pub fn client_end(self) -> Conversation {
        self.step(END, 0, b"", 0)
    }

    /// The server sends FIN.
    pub fn server_end(self) -> Conversation {
        self.step(END, FROM_SERVER, b"", 0)
    }

    /// The connection is over.
    pub fn close(self) -> Conversation {
        self.step(CLOSED, 0, b"", 0)
    }

    /// The connection is reset.
    pub fn reset(self) -> Conversation {
        self.step(CLOSED, 0, b"", 1)
    }

    /// The exchanges, one line each, after checking that they are the same however the conversation is cut.
    ///
    /// # Panics
    /// When they differ, or the decoder refuses its configuration.
    #[track_caller]
    pub fn exchanges<D: Decoder>(&self) -> Vec<String> {
        let whole = self.cut::<D>(Cut::Whole);
        for size in [1, 2, 3, 7, 64, 1460] {
            let pieces = self.cut::<D>(Cut::Pieces(size));
            assert_eq!(pieces, whole, "in segments of {size} bytes (left) other than whole (right)");
        }
        whole
    }

    /// As [`Conversation::exchanges`], after checking also that the decoder stands what captures do to a conversation:
    ///
    /// - segments of random lengths: the same exchanges;
    /// - bytes lost in random places: each exchange is one of the whole conversation (operation, target, outcome and
    ///   status), or says that it is not whole: by bytes lost, or as `no_response`, `aborted` or `unmatched`;
    /// - a beginning in the middle: no panic. Which request a response answers may be unknowable then.
    ///
    /// In none of them are more bytes undecoded than were given.
    ///
    /// Segments out of order are no matter of a decoder: podtap puts them in order.
    ///
    /// # Panics
    /// When the decoder does not; the message has the seed.
    #[track_caller]
    pub fn robust_exchanges<D: Decoder>(&self) -> Vec<String> {
        let whole = self.seen::<D>(Cut::Whole);
        let lines = self.exchanges::<D>();
        for seed in 0..ROUNDS {
            let pieces = self.cut::<D>(Cut::Random(seed));
            assert_eq!(pieces, lines, "in random segments (left; seed {seed}) other than whole (right)");
            for seen in self.with_losses(seed).seen::<D>(Cut::Whole) {
                let known = whole.iter().any(|whole| whole.core == seen.core);
                assert!(
                    known || seen.is_partial,
                    "with losses (seed {seed}), an exchange that never was: {}",
                    seen.line
                );
            }
        }
        for first in 1..self.steps.len() {
            // That it stands it is all that can be asked: which request a response answers may be unknowable.
            Conversation { steps: self.steps[first..].to_vec(), midstream: true, config: self.config.clone() }
                .seen::<D>(Cut::Random(first as u64));
        }
        lines
    }

    /// Cut at random, with some of the pieces lost.
    fn with_losses(&self, seed: u64) -> Conversation {
        let mut random = Random(seed);
        let mut steps = Vec::new();
        for step in &self.steps {
            let mut rest = step.bytes.as_slice();
            if step.kind != DATA {
                steps.push(step.clone());
            }
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(random.up_to(rest.len()));
                rest = after;
                let lost = random.up_to(4) == 1;
                let (kind, bytes) = if lost { (GAP, Vec::new()) } else { (DATA, piece.to_vec()) };
                let length = if lost { piece.len() as u32 } else { 0 };
                steps.push(Step { kind, bytes, length, ..step.clone() });
            }
        }
        Conversation { steps, midstream: self.midstream, config: self.config.clone() }
    }

    /// The exchanges, one line each: `OUTCOME SUMMARY request A..B (N bytes) response C..D (M bytes) lost L name=value ...`
    /// with times in ms and without what was not seen.
    ///
    /// # Panics
    /// When the decoder refuses its configuration.
    pub fn cut<D: Decoder>(&self, cut: Cut) -> Vec<String> {
        self.seen::<D>(cut).into_iter().map(|seen| seen.line).collect()
    }

    fn seen<D: Decoder>(&self, cut: Cut) -> Vec<Seen> {
        let mut random = Random(if let Cut::Random(seed) = cut { seed } else { 0 });
        let (mut given, mut undecoded) = (0, 0);
        let config = if self.config.is_empty() { "{}" } else { &self.config };
        let mut instance = match Instance::<D>::new(config) {
            Ok(instance) => instance,
            Err(error) => panic!("the decoder refuses its configuration: {error}"),
        };
        let mut lines = Vec::new();
        let mut batch = empty();
        batch.opened.push(OpenedConnection {
            id: 0,
            client_address: "192.0.2.1".into(),
            client_port: 49152,
            server_address: "192.0.2.2".into(),
            server_port: D::DESCRIPTOR.ports.first().copied().unwrap_or(1),
            midstream: self.midstream,
        });
        // By side: the next position, and that up to which bytes are to be left out.
        let (mut next, mut skip) = ([0_u64; 2], [0_u64; 2]);
        for step in &self.steps {
            if step.kind == CLOSED {
                // As podtap tells of it: how far each side came, then that it is over.
                for (side, position) in [0, FROM_SERVER].into_iter().zip(next) {
                    batch.connections.push(0);
                    batch.kinds.push(END | side);
                    batch.times.push(step.ms * 1_000_000);
                    batch.positions.push(position);
                    // Where it is not closed by both sides.
                    batch.lengths.push(u32::from(step.length != 0));
                }
            }
            let side = usize::from(step.side != 0);
            let mut rest = step.bytes.as_slice();
            given += rest.len() as u64;
            loop {
                let size = match cut {
                    Cut::Whole => rest.len(),
                    Cut::Pieces(size) => size,
                    Cut::Random(_) => random.up_to(rest.len()),
                };
                let (piece, after) = rest.split_at(size.min(rest.len()));
                rest = after;
                let leave_out = skip[side].saturating_sub(next[side]).min(piece.len() as u64) as usize;
                if leave_out < piece.len() || step.kind != DATA {
                    batch.connections.push(0);
                    batch.kinds.push(step.kind | step.side);
                    batch.times.push(step.ms * 1_000_000);
                    batch.positions.push(next[side] + leave_out as u64);
                    batch.lengths.push(step.length + (piece.len() - leave_out) as u32);
                    batch.data.extend_from_slice(&piece[leave_out..]);
                }
                next[side] += piece.len() as u64 + if step.kind == GAP { u64::from(step.length) } else { 0 };
                if cut != Cut::Whole {
                    let output = instance.feed(std::mem::replace(&mut batch, empty()));
                    undecoded += output.undecoded_bytes;
                    read::<D>(&output, &mut lines, &mut skip);
                }
                if rest.is_empty() {
                    break;
                }
            }
        }
        let output = instance.feed(batch);
        undecoded += output.undecoded_bytes;
        assert!(undecoded <= given, "{undecoded} bytes undecoded of {given}");
        read::<D>(&output, &mut lines, &mut skip);
        lines
    }
}

/// An exchange.
struct Seen {
    line: String,
    /// Outcome, operation, target, summary and status: what may not change, however much was lost.
    core: String,
    /// It says that it is not whole.
    is_partial: bool,
}

/// Numbers that look random and are the same for the same seed (splitmix64).
struct Random(u64);

impl Random {
    /// From 1 to `max`; 0 for 0.
    fn up_to(&mut self, max: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        if max == 0 { 0 } else { ((bits ^ (bits >> 31)) % max as u64) as usize + 1 }
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

/// Adds a line for each exchange, and notes demands to skip.
fn read<D: Decoder>(output: &Output, lines: &mut Vec<Seen>, skip: &mut [u64; 2]) {
    let mut text = output.text.as_slice();
    let mut take = |length: u64| {
        let (piece, rest) = text.split_at(length as usize);
        text = rest;
        String::from_utf8_lossy(piece).into_owned()
    };
    let mut attribute = 0;
    for index in 0..output.exchange_connections.len() {
        let outcome = ["ok", "error", "no_response", "aborted", "unmatched"][usize::from(output.outcomes[index])];
        let heads = [0, 1, 2].map(|n| take(output.text_lengths[index * 3 + n].into()));
        let mut line = match heads.each_ref().map(String::as_str) {
            ["", "", ""] => outcome.to_owned(),
            [operation, target, ""] => format!("{outcome} {operation} {target}"),
            [_, _, summary] => format!("{outcome} {summary}"),
        };
        let mut core = line.clone();
        for (n, name) in ["request", "response"].into_iter().enumerate() {
            let ms = |at: usize| match output.times[index * 4 + n * 2 + at] {
                0 => "?".to_owned(),
                ns => (ns / 1_000_000).to_string(),
            };
            if output.times[index * 4 + n * 2] != 0 {
                line += &format!(" {name} {}..{} ({} bytes)", ms(0), ms(1), output.sizes[index * 3 + n]);
            }
        }
        if output.sizes[index * 3 + 2] != 0 {
            line += &format!(" lost {}", output.sizes[index * 3 + 2]);
        }
        for _ in 0..output.attribute_counts[index] {
            let declared = D::DESCRIPTOR.attributes[usize::from(output.attribute_ids[attribute])];
            let bits = output.attribute_values[attribute];
            let value = match declared.kind {
                ValueKind::Text => take(bits),
                ValueKind::Uint => bits.to_string(),
                ValueKind::Int => bits.cast_signed().to_string(),
                ValueKind::Float => f64::from_bits(bits).to_string(),
                ValueKind::Flag => (bits != 0).to_string(),
            };
            if D::DESCRIPTOR.status == Some(output.attribute_ids[attribute]) {
                core += &format!(" {value}");
            }
            line += &format!(" {}={value}", declared.name);
            attribute += 1;
        }
        let is_partial = output.sizes[index * 3 + 2] != 0 || output.outcomes[index] > 1;
        lines.push(Seen { line, core, is_partial });
    }
    for (&kind, &position) in output.demand_kinds.iter().zip(&output.demand_positions) {
        if kind & !FROM_SERVER == 0 {
            let side = usize::from(kind & FROM_SERVER != 0);
            skip[side] = skip[side].max(position);
        }
    }
}
