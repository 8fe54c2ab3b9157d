//! The engine against a naive model: a map of bytes for each direction, and the rules of delivery written for it.

use std::collections::BTreeMap;

use podtap_stream::{Chunk, Closed, Connection, ConnectionId, Facts, Gap, GapReason, Limits, Side, SideFacts, Sink};
use proptest::prelude::*;

use crate::robustness::cases;
use crate::script::Run;
use crate::wire::{Tcp, a, b};

/// What a sink is told; neighbours of a kind are joined, since chunks follow segments and the model knows only bytes.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Data(Side, u64, Vec<u8>),
    Gap(Side, u64, u64, GapReason),
    End(Side, u64),
}

#[derive(Debug, Default)]
struct Story(Vec<Told>, Option<Facts>);

impl Story {
    fn data(&mut self, side: Side, position: u64, bytes: &[u8]) {
        match self.0.last_mut() {
            Some(Told::Data(last, start, joined)) if *last == side && *start + joined.len() as u64 == position => {
                joined.extend(bytes);
            }
            _ => self.0.push(Told::Data(side, position, bytes.to_vec())),
        }
    }

    fn gap(&mut self, side: Side, position: u64, length: u64, reason: GapReason) {
        match self.0.last_mut() {
            Some(Told::Gap(last, start, joined, why))
                if *last == side && *start + *joined == position && *why == reason =>
            {
                *joined += length;
            }
            _ => self.0.push(Told::Gap(side, position, length, reason)),
        }
    }
}

impl Sink for Story {
    fn opened(&mut self, _: &Connection) {}
    fn data(&mut self, _: ConnectionId, side: Side, chunk: Chunk<'_>) {
        Story::data(self, side, chunk.position, chunk.bytes);
    }
    fn gap(&mut self, _: ConnectionId, side: Side, gap: Gap) {
        Story::gap(self, side, gap.position, gap.length, gap.reason);
    }
    fn end(&mut self, _: ConnectionId, side: Side, position: u64, _: u64) {
        self.0.push(Told::End(side, position));
    }
    fn closed(&mut self, _: &Connection, closed: &Closed) {
        assert!(self.1.replace(closed.facts).is_none());
    }
}

#[derive(Debug, Default)]
struct Direction {
    position: u64,
    /// Bytes seen from `position` on; `None` if the snaplen cut them.
    seen: BTreeMap<u64, Option<u8>>,
    acked: u64,
    skip_until: u64,
    fin: Option<u64>,
    ended: bool,
    facts: SideFacts,
}

impl Direction {
    /// What the facts say of payload: each byte of a segment within the stream was seen before, or was not.
    fn note_payload(&mut self, segment: &Segment) {
        let fin_again = segment.fin && self.fin.is_some();
        let (start, end) = (segment.start, segment.start + segment.bytes.len() as u64);
        let fin = if segment.fin && self.fin.is_none() { u64::MAX } else { self.fin.unwrap_or(u64::MAX) };
        let within = (start..end).filter(|&position| position < self.position || position < fin);
        let (again, new): (Vec<u64>, Vec<u64>) =
            within.partition(|position| *position < self.position || self.seen.contains_key(position));
        let facts = &mut self.facts;
        facts.payload_bytes += new.len() as u64;
        let probe = end - start == 1 && end == self.position && self.seen.is_empty();
        if (!again.is_empty() && !probe) || fin_again {
            facts.retransmitted_segments += 1;
            facts.retransmitted_bytes += again.len() as u64;
            facts.payload_bytes += again.len() as u64;
        } else if !new.is_empty() && self.seen.last_key_value().is_some_and(|(last, _)| start < *last) {
            facts.out_of_order_segments += 1;
        }
    }

    fn hole_end(&self) -> Option<u64> {
        let end = self.seen.first_key_value().map(|(start, _)| *start).or(self.fin);
        end.filter(|end| *end > self.position)
    }

    fn acknowledged_loss(&self) -> Option<u64> {
        let end = self.acked.min(self.fin.unwrap_or(u64::MAX));
        let least = if self.hole_end().is_some() { 1 } else { 2 };
        (end >= self.position + least).then_some(end)
    }
}

#[derive(Debug, Default)]
struct Model {
    directions: [Direction; 2],
    opened: bool,
    closed: bool,
    story: Story,
    delivered: u64,
    skipped: u64,
    missing: u64,
}

impl Model {
    fn at(&mut self, side: Side) -> &mut Direction {
        &mut self.directions[side as usize]
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Skip(side, position) if !self.closed => {
                let direction = self.at(*side);
                direction.skip_until = direction.skip_until.max(*position);
            }
            Step::Segment(segment) if !self.closed => self.segment(segment),
            _ => {}
        }
    }

    fn segment(&mut self, segment: &Segment) {
        let (side, other) = (segment.side, other(segment.side));
        if let Some(ack) = segment.ack {
            let direction = self.at(other);
            direction.acked = direction.acked.max(ack);
            self.settle(other);
        }
        let direction = self.at(side);
        direction.facts.packets += 1;
        direction.note_payload(segment);
        let end = segment.start + segment.bytes.len() as u64;
        let seen_end = direction.seen.last_key_value().map_or(direction.position, |(last, _)| last + 1);
        if segment.fin && direction.fin.is_none() && end >= seen_end {
            direction.fin = Some(end);
        }
        let mut any = false;
        for (position, byte) in (segment.start..).zip(&segment.bytes) {
            let captured = position < segment.start + segment.captured;
            if position < direction.position || direction.fin.is_some_and(|fin| position >= fin) {
                continue;
            }
            any = true;
            let entry = direction.seen.entry(position).or_default();
            if entry.is_none() && captured {
                *entry = Some(*byte);
            }
        }
        if any {
            self.deliver(side);
        }
        self.reach_fin(side);
        self.settle(side);
        self.closed = self.directions.iter().all(|direction| direction.ended);
    }

    /// Holes that were acknowledged and have something behind them.
    fn settle(&mut self, side: Side) {
        while let Some(end) = self.at(side).hole_end().filter(|end| *end <= self.at(side).acked) {
            self.lose(side, end, GapReason::Acknowledged);
            self.deliver(side);
            self.reach_fin(side);
        }
    }

    /// What is next in order, behind what it acknowledges of the other side.
    fn deliver(&mut self, side: Side) {
        let position = self.at(side).position;
        if !self.at(side).seen.contains_key(&position) {
            return;
        }
        while let Some(end) = self.at(other(side)).acknowledged_loss() {
            let end = self.at(other(side)).hole_end().map_or(end, |hole| hole.min(end));
            self.lose(other(side), end, GapReason::Acknowledged);
            self.deliver_alone(other(side));
            self.reach_fin(other(side));
        }
        self.deliver_alone(side);
    }

    fn deliver_alone(&mut self, side: Side) {
        loop {
            let direction = self.at(side);
            let position = direction.position;
            match direction.seen.remove(&position) {
                None => return,
                Some(None) => self.lose(side, position + 1, GapReason::Snaplen),
                Some(Some(_)) if position < direction.skip_until => {
                    direction.position += 1;
                    self.skipped += 1;
                }
                Some(Some(byte)) => {
                    direction.position += 1;
                    self.delivered += 1;
                    self.open();
                    self.story.data(side, position, &[byte]);
                }
            }
        }
    }

    fn lose(&mut self, side: Side, end: u64, reason: GapReason) {
        let position = std::mem::replace(&mut self.at(side).position, end);
        self.missing += end - position;
        self.at(side).facts.gap_bytes += end - position;
        self.open();
        self.story.gap(side, position, end - position, reason);
    }

    fn open(&mut self) {
        if !std::mem::replace(&mut self.opened, true) {
            for side in [Side::A, Side::B] {
                if self.at(side).ended {
                    let position = self.at(side).position;
                    self.story.0.push(Told::End(side, position));
                }
            }
        }
    }

    fn reach_fin(&mut self, side: Side) {
        let direction = self.at(side);
        let position = direction.position;
        if direction.fin == Some(position) && !direction.ended {
            direction.ended = true;
            if self.opened {
                self.story.0.push(Told::End(side, position));
            }
        }
    }

    fn finish(&mut self) {
        for side in [Side::A, Side::B] {
            if self.closed {
                return;
            }
            loop {
                let (acknowledged, hole) = (self.at(side).acknowledged_loss(), self.at(side).hole_end());
                match acknowledged {
                    Some(end) => self.lose(side, end, GapReason::Acknowledged),
                    None if hole.is_some() => self.lose(side, hole.unwrap_or_default(), GapReason::ConnectionEnd),
                    None => break,
                }
                self.deliver(side);
                self.reach_fin(side);
            }
        }
    }
}

fn other(side: Side) -> Side {
    if side == Side::A { Side::B } else { Side::A }
}

#[derive(Clone, Debug)]
struct Segment {
    side: Side,
    start: u64,
    bytes: Vec<u8>,
    /// How many of them the snaplen left.
    captured: u64,
    fin: bool,
    ack: Option<u64>,
}

impl Segment {
    fn packet(&self) -> Tcp {
        let position = self.start as i64;
        let mut tcp = if self.side == Side::A { a(position) } else { b(position) };
        tcp = tcp.data(&self.bytes).captured(self.captured as usize);
        if let Some(ack) = self.ack {
            tcp = tcp.ack(ack as i64);
        }
        if self.fin { tcp.fin() } else { tcp }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Segment(Segment),
    Skip(Side, u64),
}

fn side() -> impl Strategy<Value = Side> {
    prop::sample::select(&[Side::A, Side::B][..])
}

/// The byte that the stream really has at a position. Printable.
fn byte(side: Side, position: u64, version: u8) -> u8 {
    b'0' + ((position * 7 + side as u64 * 3 + u64::from(version) * 11) % 64) as u8
}

prop_compose! {
    /// Any segment within the first bytes of a stream; `version` makes bytes that conflict.
    fn any_segment()(
        side in side(),
        start in 0u64..60,
        length in prop_oneof![1 => Just(0), 6 => 1u64..14],
        version in prop_oneof![6 => Just(0u8), 1 => 1u8..3],
        cut in prop_oneof![5 => Just(0u64), 1 => 1u64..14],
        fin in prop::bool::weighted(0.05),
        ack in prop::option::of(0u64..64),
    ) -> Segment {
        let bytes: Vec<u8> = (start..start + length).map(|position| byte(side, position, version)).collect();
        Segment { side, start, bytes, captured: length.saturating_sub(cut), fin, ack }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => any_segment().prop_map(Step::Segment),
        1 => (side(), 0u64..80).prop_map(|(side, position)| Step::Skip(side, position)),
    ]
}

fn told(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut run = Run::new(Limits::default());
    run.send(&[a(-1).syn(), b(-1).syn().ack(0)]);
    let (mut model, mut story) = (Model::default(), Story::default());
    for (tick, step) in steps.iter().enumerate() {
        model.step(step);
        match step {
            Step::Skip(side, position) => {
                run.engine.skip_to(ConnectionId { index: 0, generation: 0 }, *side, *position);
            }
            Step::Segment(segment) => segment.packet().send(&mut run.engine, 2_000_000_000 + tick as u64, &mut story),
        }
        prop_assert!(run.engine.counters().adds_up(), "{:?}", run.engine.counters());
        prop_assert_eq!(&story.0, &model.story.0, "after {:?}", step);
        let waiting = model.directions.iter().flat_map(|direction| {
            direction.seen.iter().filter(|(position, byte)| byte.is_some() && **position >= direction.skip_until)
        });
        // A piece that spans the position skipped to stays whole.
        prop_assert!(run.engine.counters().bytes_buffered >= waiting.count() as u64 || model.closed);
    }
    run.engine.finish(&mut story);
    model.finish();
    prop_assert_eq!(&story.0, &model.story.0);
    let counters = run.engine.counters();
    prop_assert!(counters.adds_up());
    prop_assert_eq!(counters.bytes_buffered, 0);
    prop_assert_eq!(counters.bytes_delivered, model.delivered);
    prop_assert_eq!(counters.bytes_skipped, model.skipped);
    prop_assert_eq!(counters.bytes_gap(), model.missing);

    let facts = story.1.expect("closed");
    prop_assert_eq!(
        u64::from(facts.a.packets + facts.b.packets),
        counters.packets_tracked + counters.packets_ignored - counters.packets_late
    );
    prop_assert_eq!(u64::from(facts.a.gaps + facts.b.gaps), counters.gaps);
    for (found, direction) in [facts.a, facts.b].into_iter().zip(&model.directions) {
        let syn = 1;
        let expected = SideFacts {
            packets: direction.facts.packets + syn,
            position: direction.position,
            gaps: found.gaps, // the model joins neighbours
            syn: true,
            fin: direction.fin.is_some(),
            ..direction.facts
        };
        prop_assert_eq!(found, expected);
        prop_assert_eq!(found.new_bytes() + found.retransmitted_bytes, found.payload_bytes);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn any_segments_give_what_the_model_gives(steps in prop::collection::vec(any_step(), 0..50)) {
        told(&steps)?;
    }

    #[test]
    fn without_loss_any_order_gives_the_whole_stream(
        lengths in prop::collection::vec(1u64..20, 1..30),
        extra in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..10),
        order in any::<u64>(),
    ) {
        let bounds: Vec<u64> = std::iter::once(0).chain(lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        })).collect();
        let total = *bounds.last().expect("not empty");
        let mut ranges: Vec<(u64, u64)> = bounds.windows(2).map(|pair| (pair[0], pair[1])).collect();
        // Retransmissions cut otherwise.
        for (from, to) in extra {
            let (from, to) = (from.index(total as usize) as u64, to.index(total as usize) as u64);
            ranges.push((from.min(to), from.max(to) + 1));
        }
        let mut state = order;
        ranges.sort_by_cached_key(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        });
        let mut run = Run::new(Limits::default());
        run.send(&[a(-1).syn()]);
        let mut story = Story::default();
        for (tick, (from, to)) in ranges.into_iter().enumerate() {
            let bytes: Vec<u8> = (from..to).map(|position| byte(Side::A, position, 0)).collect();
            let segment = Segment { side: Side::A, start: from, captured: to - from, bytes, fin: to == total, ack: None };
            segment.packet().send(&mut run.engine, 2_000_000_000 + tick as u64, &mut story);
        }
        let whole: Vec<u8> = (0..total).map(|position| byte(Side::A, position, 0)).collect();
        prop_assert_eq!(story.0, vec![Told::Data(Side::A, 0, whole), Told::End(Side::A, total)]);
        prop_assert_eq!(run.engine.counters().bytes_conflicting, 0);
    }

    #[test]
    fn exchanges_stay_in_order_whatever_is_lost(
        exchanges in prop::collection::vec((2u64..30, 2u64..30, any::<[bool; 4]>()), 1..20),
    ) {
        // One request, its acknowledgement, one response, its acknowledgement; any of them may be lost.
        let (mut requests, mut responses) = (0, 0);
        let mut run = Run::new(Limits::default());
        run.send(&[a(-1).syn(), b(-1).syn().ack(0)]);
        let mut story = Story::default();
        let mut ends = Vec::new();
        for (tick, (request, response, lost)) in exchanges.into_iter().enumerate() {
            let payload = |length: u64| vec![b'x'; length as usize];
            let packets = [
                a(requests as i64).data(payload(request)).ack(responses as i64),
                b(responses as i64).ack((requests + request) as i64),
                b(responses as i64).data(payload(response)).ack((requests + request) as i64),
                a((requests + request) as i64).ack((responses + response) as i64),
            ];
            for (packet, _) in packets.iter().zip(lost).filter(|(_, lost)| !lost) {
                packet.send(&mut run.engine, 2_000_000_000 + tick as u64, &mut story);
            }
            requests += request;
            responses += response;
            ends.push((requests, responses));
        }
        // When a byte of a response is told, all of its request has been.
        let mut position = 0;
        for told in &story.0 {
            match told {
                Told::Data(Side::A, start, bytes) => position = start + bytes.len() as u64,
                Told::Gap(Side::A, start, length, _) => position = start + length,
                Told::Data(Side::B, start, bytes) => {
                    let last = start + bytes.len() as u64;
                    let needed = ends.iter().find(|(_, responses)| *responses >= last).expect("in range").0;
                    prop_assert!(position >= needed, "{position} {needed} {:?}", story.0);
                }
                _ => {}
            }
        }
    }
}
