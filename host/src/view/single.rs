//! Single exchanges that are worth a look: the latest, the slowest, those that failed. Bounded in number and in bytes.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::event::{Exchange, Loss, Outcome, Timestamp, Timing, Value};

/// Bytes that are kept of one text of an exchange.
pub(crate) const MAX_TEXT_BYTES: usize = 1024;
/// Bytes that are kept of all texts of an exchange.
pub(crate) const MAX_SINGLE_BYTES: usize = 8 << 10;
/// Exchanges of each kind that are kept of all traffic.
pub(crate) const MAX_KEPT: usize = 25;
/// Exchanges of each kind that are kept of one operation of one server.
pub(crate) const MAX_KEPT_OF_ROW: usize = 10;

/// One exchange, apart from the event that told of it.
#[derive(Debug, PartialEq)]
pub struct Single {
    /// Of the event.
    pub id: Box<str>,
    /// First byte of the request.
    pub time: Timestamp,
    /// First byte of the request to last byte of the response, ns.
    pub duration: Option<u64>,
    /// Moments between.
    pub timing: Timing,
    /// Protocol.
    pub protocol: Box<str>,
    /// One line a person reads.
    pub summary: Box<str>,
    /// How it ended.
    pub outcome: Outcome,
    /// Who asked.
    pub client: SocketAddr,
    /// Who was asked.
    pub server: SocketAddr,
    /// Payload bytes of request and response.
    pub bytes: [Option<u64>; 2],
    /// What of it was lost.
    pub loss: Option<Loss>,
    /// Its connection, and its number on that.
    pub connection: (Box<str>, u32),
    /// Names and values, as many as there is room for.
    pub attributes: Vec<(Box<str>, Box<str>)>,
    /// Attributes there was no room for.
    pub attributes_left_out: usize,
}

impl Single {
    pub(super) fn new(exchange: &Exchange<'_>) -> Single {
        let mut room = MAX_SINGLE_BYTES;
        let [id, protocol, connection] =
            [&exchange.id, &exchange.protocol, &exchange.connection.id].map(|name| kept(name, &mut room));
        let summary = match (&exchange.summary, &exchange.operation, &exchange.target) {
            (Some(summary), ..) => kept(summary, &mut room),
            (None, Some(operation), Some(target)) => {
                let (operation, target) = (kept(operation, &mut room), kept(target, &mut room));
                [&*operation, " ", &*target].concat().into()
            }
            (None, Some(one), None) | (None, None, Some(one)) => kept(one, &mut room),
            (None, None, None) => "-".into(),
        };
        let mut attributes = Vec::new();
        for (name, value) in &exchange.attributes.0 {
            let value = match value {
                Value::Flag(value) => value.to_string().into(),
                Value::Uint(value) => value.to_string().into(),
                Value::Int(value) => value.to_string().into(),
                Value::Float(value) => value.to_string().into(),
                Value::Text(text) => kept(text, &mut room),
            };
            let name = kept(name, &mut room);
            if room == 0 {
                break;
            }
            attributes.push((name, value));
        }
        Single {
            id,
            time: exchange.time,
            duration: exchange.duration,
            timing: exchange.timing,
            protocol,
            summary,
            outcome: exchange.outcome,
            client: SocketAddr::new(exchange.client.address, exchange.client.port),
            server: SocketAddr::new(exchange.server.address, exchange.server.port),
            bytes: [exchange.client.bytes, exchange.server.bytes],
            loss: exchange.loss.clone(),
            connection: (connection, exchange.connection.exchange),
            attributes_left_out: exchange.attributes.0.len() - attributes.len(),
            attributes,
        }
    }
}

/// As much of a text as there is room for. What is cut off shows as such.
fn kept(text: &str, room: &mut usize) -> Box<str> {
    let most = MAX_TEXT_BYTES.min(*room);
    if text.len() <= most {
        // Numbers, and a name without letters, take room as well.
        *room -= text.len().max(1).min(*room);
        return text.into();
    }
    *room -= most;
    let end = (0..=most).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    [&text[..end], "…"].concat().into()
}

/// The exchanges that are kept.
#[derive(Debug)]
pub struct Kept {
    most: usize,
    latest: VecDeque<Arc<Single>>,
    slowest: Vec<Arc<Single>>,
    failed: VecDeque<Arc<Single>>,
}

impl Kept {
    /// So many of each kind.
    pub(super) fn new(most: usize) -> Kept {
        Kept { most, latest: VecDeque::new(), slowest: Vec::new(), failed: VecDeque::new() }
    }

    pub(super) fn take(&mut self, single: &Arc<Single>) {
        let newest = |list: &mut VecDeque<Arc<Single>>| {
            if list.len() == self.most {
                list.pop_front();
            }
            list.push_back(Arc::clone(single));
        };
        newest(&mut self.latest);
        if single.outcome.is_failure() {
            newest(&mut self.failed);
        }
        if single.duration.is_some() {
            let place = self.slowest.partition_point(|kept| order(kept) < order(single));
            if place < self.most {
                self.slowest.truncate(self.most - 1);
                self.slowest.insert(place, Arc::clone(single));
            }
        }
    }

    /// The last that came, the newest first.
    pub fn latest(&self) -> impl ExactSizeIterator<Item = &Arc<Single>> {
        self.latest.iter().rev()
    }

    /// Those that took longest, the slowest first.
    pub fn slowest(&self) -> impl ExactSizeIterator<Item = &Arc<Single>> {
        self.slowest.iter()
    }

    /// The last that failed, the newest first.
    pub fn failed(&self) -> impl ExactSizeIterator<Item = &Arc<Single>> {
        self.failed.iter().rev()
    }
}

/// The slowest first; the same whatever order they come in.
fn order(single: &Single) -> (Reverse<Option<u64>>, Timestamp, &str) {
    (Reverse(single.duration), single.time, &single.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Attributes;
    use crate::reference::example_event;

    fn take(kept: &mut Kept, ms: u64, outcome: Outcome) {
        let mut exchange = example_event();
        (exchange.duration, exchange.outcome) = (Some(ms * 1_000_000), outcome);
        kept.take(&Arc::new(Single::new(&exchange)));
    }

    fn ms<'a>(singles: impl Iterator<Item = &'a Arc<Single>>) -> Vec<u64> {
        singles.map(|single| single.duration.unwrap() / 1_000_000).collect()
    }

    #[test]
    fn the_latest_the_slowest_and_the_failed_are_kept() {
        let mut kept = Kept::new(3);
        for (number, duration) in [5, 1, 9, 7, 3, 8].into_iter().enumerate() {
            take(&mut kept, duration, if number % 2 == 0 { Outcome::Ok } else { Outcome::Error });
        }
        assert_eq!(ms(kept.latest()), [8, 3, 7]);
        assert_eq!(ms(kept.slowest()), [9, 8, 7]);
        assert_eq!(ms(kept.failed()), [8, 7, 1]);
    }

    #[test]
    fn what_is_kept_of_an_exchange_is_bounded_and_says_so() {
        let mut exchange = example_event();
        let long = "ä".repeat(1 << 20);
        exchange.summary = Some(long.as_str().into());
        exchange.attributes = Attributes(
            (0..1000).map(|number| (format!("name.{number}").into(), Value::Text(long.as_str().into()))).collect(),
        );
        let single = Single::new(&exchange);
        assert!(single.summary.len() <= MAX_TEXT_BYTES + 3 && single.summary.ends_with('…'));
        let bytes: usize = single.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes <= MAX_SINGLE_BYTES + 3 * single.attributes.len(), "{bytes}");
        assert!(!single.attributes.is_empty());
        assert_eq!(single.attributes.len() + single.attributes_left_out, 1000);

        exchange.attributes = Attributes((0..100_000).map(|_| ("".into(), Value::Uint(1))).collect());
        assert!(Single::new(&exchange).attributes.len() <= MAX_SINGLE_BYTES);
        assert_eq!(Single::new(&example_event()).attributes.len(), 5);
    }
}
