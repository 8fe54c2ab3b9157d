//! Which topic an event goes to: the same for all, or one for each protocol.
//!
//! Names are made of what the configuration says and of protocols as decoders call them, never of anything that traffic
//! carries. The spool may bring protocols of earlier runs, so their number has a bound as well.

use crate::config::PROTOCOL_IN_TOPIC;

/// Topics of one run.
pub(crate) const MAX_TOPICS: usize = 64;
/// Stands in the place of protocols beyond that bound.
const OTHER: &str = "other";
/// Stands in the place of the protocol of a connection that no decoder knows.
const UNKNOWN: &str = "unknown";

/// See the module.
pub(super) struct Topics {
    pattern: String,
    /// By protocol; where the pattern holds none, a single one.
    named: Vec<(Box<[u8]>, String)>,
    is_single: bool,
}

impl Topics {
    pub(super) fn new(pattern: &str) -> Topics {
        let is_single = !pattern.contains(PROTOCOL_IN_TOPIC);
        let named = if is_single { vec![(Box::default(), pattern.to_owned())] } else { Vec::new() };
        Topics { pattern: pattern.to_owned(), named, is_single }
    }

    /// As configured.
    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The topic of all events, where that is one.
    pub(super) fn single(&self) -> Option<&str> {
        self.is_single.then_some(&self.pattern)
    }

    /// Those that were used so far.
    pub(super) fn used(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(|(_, topic)| topic.as_str())
    }

    /// That of a protocol; of none where that is empty.
    pub(super) fn of(&mut self, protocol: &[u8]) -> &str {
        let protocol = match protocol {
            _ if self.is_single => &[],
            [] => UNKNOWN.as_bytes(),
            protocol => protocol,
        };
        let at = self.place(protocol).unwrap_or_else(|| {
            let is_last = self.named.len() + 1 >= MAX_TOPICS;
            let protocol = if is_last { OTHER.as_bytes() } else { protocol };
            self.place(protocol).unwrap_or_else(|| {
                self.named.push((protocol.into(), topic(&self.pattern, protocol)));
                self.named.len() - 1
            })
        });
        &self.named[at].1
    }

    fn place(&self, protocol: &[u8]) -> Option<usize> {
        self.named.iter().position(|(known, _)| **known == *protocol)
    }
}

/// Names of protocols are of a-z, 0-9 and `-`. What comes from a file might not be.
fn topic(pattern: &str, protocol: &[u8]) -> String {
    let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let name: String = protocol.iter().map(|byte| if is_fine(byte) { char::from(*byte) } else { '_' }).collect();
    pattern.replace(PROTOCOL_IN_TOPIC, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_protocol_in_its_name_there_is_one_topic() {
        let mut topics = Topics::new("events");
        assert_eq!((topics.of(b"http").to_owned(), topics.of(b"").to_owned()), ("events".into(), "events".into()));
        assert_eq!((topics.single(), topics.used().count()), (Some("events"), 1));
    }

    #[test]
    fn each_protocol_has_a_topic_and_what_is_of_none_has_one() {
        let mut topics = Topics::new("podtap.{protocol}.v1");
        assert_eq!((topics.single(), topics.used().count()), (None, 0));
        assert_eq!(topics.of(b"http"), "podtap.http.v1");
        assert_eq!(topics.of(b"mysql"), "podtap.mysql.v1");
        assert_eq!(topics.of(b""), "podtap.unknown.v1");
        assert_eq!(topics.of(b"../\xff"), "podtap...__.v1");
        assert_eq!(topics.of(b"http"), "podtap.http.v1");
        assert_eq!(topics.used().count(), 4);
    }

    #[test]
    fn there_are_no_more_topics_than_the_bound() {
        let mut topics = Topics::new("{protocol}");
        for number in 0..1000 {
            topics.of(format!("p{number}").as_bytes());
        }
        assert_eq!(topics.used().count(), MAX_TOPICS);
        assert_eq!(topics.of(b"p999"), "other");
        assert_eq!(topics.of(b"p1"), "p1");
    }
}
