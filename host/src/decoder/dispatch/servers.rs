//! Which plugin took the connections of a server, so that it is asked first about the next one, and that of a connection
//! seen from its middle it is known who is the server.
//!
//! Learned only from connections whose opening was seen: rather no entry than a client taken for a server. Whoever it
//! names is asked all the same, so a wrong entry costs one question. Bounded in number, oldest first out, and in time of
//! the packets.

use std::collections::{HashMap, VecDeque};

use podtap_stream::{Endpoint, Side};

use crate::decoder::tracked::Tracked;

/// Servers known at once.
pub(crate) const MAX_SERVERS: usize = 4096;

/// After how long without a connection that it took a server is forgotten.
pub(crate) const LIFETIME_NS: u64 = 600_000_000_000;

#[derive(Debug, Default)]
pub(super) struct Servers {
    known: HashMap<Endpoint, Known>,
    /// In order of arrival, some of them forgotten since.
    order: VecDeque<Endpoint>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    plugin: usize,
    at_ns: u64,
}

impl Servers {
    /// The plugin of a connection's server, and which side is the client.
    pub(super) fn hint(&self, tracked: &Tracked, now_ns: u64) -> Option<(usize, Side)> {
        let of = |server: Endpoint| {
            let known = self.known.get(&server)?;
            (known.at_ns.abs_diff(now_ns) < LIFETIME_NS).then_some(known.plugin)
        };
        match tracked.client {
            Some(client) => Some((of(tracked.server())?, client)),
            None => match (of(tracked.a), of(tracked.b)) {
                (None, Some(plugin)) => Some((plugin, Side::A)),
                (Some(plugin), None) => Some((plugin, Side::B)),
                // If both are servers, nobody knows.
                _ => None,
            },
        }
    }

    /// The plugin took a connection of this server.
    pub(super) fn learn(&mut self, server: Endpoint, plugin: usize, now_ns: u64) {
        if self.known.insert(server, Known { plugin, at_ns: now_ns }).is_none() {
            self.order.push_back(server);
            while self.order.len() > MAX_SERVERS
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
    }

    pub(super) fn forget(&mut self, server: Endpoint) {
        self.known.remove(&server);
    }

    /// The servers of a plugin are those of another from now on, or of none.
    pub(super) fn pass_on(&mut self, plugin: usize, to: Option<usize>) {
        self.known.retain(|_, known| {
            if known.plugin == plugin {
                known.plugin = to.unwrap_or(plugin);
                return to.is_some();
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use podtap_stream::{Connection, ConnectionId, OpenedBy};

    use super::*;

    fn endpoint(number: usize) -> Endpoint {
        let [.., a, b] = number.to_be_bytes();
        Endpoint { address: [192, 0, a, b].into(), port: 80 }
    }

    fn tracked(a: usize, b: usize, opened_by: OpenedBy) -> Tracked {
        let id = ConnectionId { index: 0, generation: 0 };
        Tracked::new(&Connection { id, a: endpoint(a), b: endpoint(b), opened_by, start_ns: 0 })
    }

    #[test]
    fn a_server_is_known_by_its_endpoint_for_a_while() {
        let mut servers = Servers::default();
        servers.learn(endpoint(1), 5, 1000);
        let hint = |servers: &Servers, a, b, opened_by, now_ns| servers.hint(&tracked(a, b, opened_by), now_ns);
        assert_eq!(hint(&servers, 2, 1, OpenedBy::Handshake, 1001), Some((5, Side::A)));
        assert_eq!(hint(&servers, 1, 2, OpenedBy::Handshake, 1001), None);
        assert_eq!(hint(&servers, 2, 1, OpenedBy::Midstream, 1001), Some((5, Side::A)));
        assert_eq!(hint(&servers, 1, 2, OpenedBy::Midstream, 1001), Some((5, Side::B)));
        assert_eq!(hint(&servers, 2, 1, OpenedBy::Handshake, 1000 + LIFETIME_NS), None);
        servers.learn(endpoint(2), 6, 1000);
        assert_eq!(hint(&servers, 1, 2, OpenedBy::Midstream, 1001), None);
        servers.pass_on(6, None);
        assert_eq!(hint(&servers, 1, 2, OpenedBy::Midstream, 1001), Some((5, Side::B)));
        servers.pass_on(5, Some(7));
        assert_eq!(hint(&servers, 1, 2, OpenedBy::Midstream, 1001), Some((7, Side::B)));
        servers.forget(endpoint(1));
        assert_eq!(hint(&servers, 2, 1, OpenedBy::Handshake, 1001), None);
    }

    #[test]
    fn the_oldest_go_first() {
        let mut servers = Servers::default();
        for number in 0..MAX_SERVERS + 10 {
            servers.learn(endpoint(number), 0, 0);
            // Forgotten and learned again.
            servers.forget(endpoint(number));
            servers.learn(endpoint(number), 0, 0);
        }
        assert!(servers.known.len() <= MAX_SERVERS && servers.order.len() <= MAX_SERVERS);
        assert!(servers.known.contains_key(&endpoint(MAX_SERVERS + 9)));
        assert!(!servers.known.contains_key(&endpoint(0)));
    }
}
