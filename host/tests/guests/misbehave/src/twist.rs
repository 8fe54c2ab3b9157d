//! What the SDK returns, changed as ordered into what no decoder should return.

use std::cell::Cell;

use podtap_sdk::bindings::exports::podtap::decoder::decoder::{Batch, Descriptor, Guest, Output, Verdict};

use crate::Misbehave;

type Honest = podtap_sdk::Guest<Misbehave>;
type Twist = fn(&mut Output);

thread_local! {
    /// And whether it waits for an output with exchanges.
    static TWIST: Cell<Option<(bool, Twist)>> = const { Cell::new(None) };
    /// Calls of `feed` that go well.
    static CALLS_LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
}

/// The plugin.
#[derive(Debug)]
pub struct Twisted;

impl Guest for Twisted {
    fn describe() -> Descriptor {
        <Honest as Guest>::describe()
    }

    fn configure(config: String) -> Result<(), String> {
        <Honest as Guest>::configure(config)
    }

    fn probe(from_server: bool, head: Vec<u8>) -> Verdict {
        <Honest as Guest>::probe(from_server, head)
    }

    fn feed(batch: Batch) -> Output {
        let left = CALLS_LEFT.get();
        assert!(left > 0, "one call too many");
        CALLS_LEFT.set(left.saturating_sub(u32::from(left < u32::MAX)));
        let mut output = <Honest as Guest>::feed(batch);
        if let Some((needs_exchange, twist)) = TWIST.take() {
            if needs_exchange && output.exchange_connections.is_empty() {
                TWIST.set(Some((needs_exchange, twist)));
            } else {
                twist(&mut output);
            }
        }
        output
    }
}

/// Orders about what is returned.
pub(crate) fn order(order: &[u8]) {
    let twist: Twist = match order {
        b"> flood" => |output| repeat_last(output, 70_000),
        // More than podtap takes, and less than the instance may have.
        b"> giant" => |output| output.text = vec![b'x'; 40 << 20],
        // The second connection of a capture, which is not of this decoder, and one that nobody has.
        b"> foreign" => |output| output.exchange_connections.iter_mut().for_each(|id| *id = 1),
        b"> nobody" => |output| output.exchange_connections.iter_mut().for_each(|id| *id = 4_000_000),
        b"> columns" => |output| output.times.truncate(1),
        b"> undecoded" => |output| output.undecoded_bytes = u64::MAX,
        b"> demand foreign" => |output| {
            for (connection, kind) in [(1, 0), (1, 1), (1, 2), (4_000_000, 1)] {
                demand(output, connection, kind, u64::MAX);
            }
        },
        b"> skip" => |output| {
            // The third connection, which has the order; both sides.
            demand(output, 2, 0, u64::MAX);
            demand(output, 2, 128, u64::MAX);
        },
        b"> demands" => |output| (0..200_000).for_each(|position| demand(output, 0, 0, position)),
        b"> count down" => return CALLS_LEFT.set(2),
        _ => return,
    };
    TWIST.set(Some((matches!(order, b"> foreign" | b"> nobody" | b"> columns"), twist)));
}

fn demand(output: &mut Output, connection: u32, kind: u8, position: u64) {
    output.demand_connections.push(connection);
    output.demand_kinds.push(kind);
    output.demand_positions.push(position);
}

/// The last exchange many times over; one without attributes where there is none.
fn repeat_last(output: &mut Output, times: usize) {
    let connection = output.exchange_connections.last().copied().unwrap_or(0);
    for _ in 0..times {
        output.exchange_connections.push(connection);
        output.protocols.push(0);
        output.outcomes.push(0);
        output.times.extend([1; 4]);
        output.sizes.extend([1; 3]);
        output.text_lengths.extend([0; 3]);
        output.attribute_counts.push(0);
    }
}
