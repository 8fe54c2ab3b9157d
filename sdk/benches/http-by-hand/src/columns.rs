//! Exchanges that are not complete, and the columns they go into.

use podtap_sdk::Output;

use crate::Span;
use crate::framing::Asked;

/// Outcomes as numbered in the contract.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    Ok,
    Error,
    NoResponse,
    Aborted,
    Unmatched,
}

#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) asked: Asked,
    pub(crate) request: Option<Span>,
    pub(crate) request_open: bool,
    pub(crate) answering: bool,
    pub(crate) failed: bool,
    head_lengths: [u32; 2],
    text: Vec<u8>,
    ids: Vec<u16>,
    values: Vec<u64>,
}

impl Pending {
    /// Comes first: its text stands before that of the attributes.
    pub(crate) fn describe(&mut self, operation: &[u8], target: &[u8]) {
        self.text.extend_from_slice(operation);
        self.text.extend_from_slice(target);
        self.head_lengths = [operation.len() as u32, target.len() as u32];
    }

    pub(crate) fn text(&mut self, id: u16, value: &[u8]) {
        self.text.extend_from_slice(value);
        self.number(id, value.len() as u64);
    }

    pub(crate) fn number(&mut self, id: u16, value: u64) {
        self.ids.push(id);
        self.values.push(value);
    }

    /// Makes it new, with its buffers kept.
    pub(crate) fn reset(&mut self) {
        let (mut text, mut ids, mut values) =
            (std::mem::take(&mut self.text), std::mem::take(&mut self.ids), std::mem::take(&mut self.values));
        text.clear();
        ids.clear();
        values.clear();
        *self = Pending { text, ids, values, ..Pending::default() };
    }
}

pub(crate) fn emit(output: &mut Output, id: u32, exchange: &Pending, response: Span, outcome: Outcome) {
    let request = exchange.request.unwrap_or_default();
    output.exchange_connections.push(id);
    output.protocols.push(0);
    output.outcomes.push(outcome as u8);
    output.times.extend([request.start_ns, request.end_ns, response.start_ns, response.end_ns]);
    output.sizes.extend([request.bytes, response.bytes, request.lost_bytes + response.lost_bytes]);
    output.text_lengths.extend([exchange.head_lengths[0], exchange.head_lengths[1], 0]);
    output.text.extend_from_slice(&exchange.text);
    output.attribute_counts.push(exchange.ids.len() as u16);
    output.attribute_ids.extend_from_slice(&exchange.ids);
    output.attribute_values.extend_from_slice(&exchange.values);
}

/// Empty, with room for as much as `other` holds.
pub(crate) fn output_like(other: Option<&Output>) -> Output {
    let room = |length: fn(&Output) -> usize| other.map_or(0, length);
    Output {
        exchange_connections: Vec::with_capacity(room(|it| it.exchange_connections.len())),
        protocols: Vec::with_capacity(room(|it| it.protocols.len())),
        outcomes: Vec::with_capacity(room(|it| it.outcomes.len())),
        times: Vec::with_capacity(room(|it| it.times.len())),
        sizes: Vec::with_capacity(room(|it| it.sizes.len())),
        text_lengths: Vec::with_capacity(room(|it| it.text_lengths.len())),
        attribute_counts: Vec::with_capacity(room(|it| it.attribute_counts.len())),
        attribute_ids: Vec::with_capacity(room(|it| it.attribute_ids.len())),
        attribute_values: Vec::with_capacity(room(|it| it.attribute_values.len())),
        text: Vec::with_capacity(room(|it| it.text.len())),
        demand_connections: Vec::new(),
        demand_kinds: Vec::new(),
        demand_positions: Vec::new(),
        undecoded_bytes: 0,
    }
}
