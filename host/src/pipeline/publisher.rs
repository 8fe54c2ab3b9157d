//! From exchanges and ends of connections, as decoders and the stream engine tell of them, to events.

use std::borrow::Cow;
use std::net::IpAddr;

use podtap_stream::{CloseReason, OpenedBy, Side};

use crate::config::Config;
use crate::decoder::{Descriptor, Ended, Row, Tracked};
use crate::event::{
    self, Attributes, ConnectionEvent, ConnectionIdentity, Event, Exchange, Loss, Opened, Party, Peer, Reason,
    Redaction, Resource, Role, Timestamp, Timing, Value, Vantage,
};
use crate::publish::{Outputs, PublishError};

/// Puts exchanges and ends of connections in their envelope and publishes them.
pub(super) struct Publisher<'o> {
    agent: &'o str,
    resource: &'o Resource,
    redaction: Redaction,
    pub(super) outputs: &'o mut Outputs,
    /// Addresses of this host; none where the capture is from elsewhere.
    pub(super) local: Vec<IpAddr>,
    /// Room for the summary of an exchange.
    summary: String,
    /// Why nothing can be published any more.
    pub(super) failed: Option<PublishError>,
}

impl<'o> Publisher<'o> {
    pub(super) fn new(config: &'o Config, outputs: &'o mut Outputs) -> Publisher<'o> {
        Publisher {
            agent: &config.agent.id,
            resource: &config.agent.resource,
            redaction: Redaction::new(&config.redaction.query_keys),
            outputs,
            local: Vec::new(),
            summary: String::new(),
            failed: None,
        }
    }
}

impl Publisher<'_> {
    pub(super) fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = self.outputs.flush().err();
        }
    }

    pub(super) fn take(&mut self, tracked: &mut Tracked, descriptor: &Descriptor, row: Row<'_>) {
        if self.failed.is_some() {
            return;
        }
        let Row { protocol, outcome, times, sizes, texts, mut attributes, query, truncated, .. } = row;
        let [request_start, request_end, response_start, response_end] = times;
        let [request_bytes, response_bytes, lost_bytes] = sizes;
        let (request_seen, response_seen) = (request_start != 0, response_start != 0);
        let time = if request_seen { request_start } else { response_start };
        let offset = |moment: u64| (moment != 0).then(|| moment.saturating_sub(time));

        let [operation, target, summary] = texts.map(|text| (!text.is_empty()).then_some(text));
        let (operation, target) = (operation.as_deref().map(Cow::Borrowed), target.as_deref().map(Cow::Borrowed));
        let summary = summary.or_else(|| match (&operation, &target) {
            (Some(operation), Some(target)) => {
                self.summary.clear();
                self.summary.extend([&**operation, " ", target]);
                Some(Cow::Borrowed(self.summary.as_str()))
            }
            (one, other) => one.as_ref().or(other.as_ref()).cloned(),
        });
        if let Some((_, Value::Text(query))) = query.and_then(|index| attributes.get_mut(index)) {
            self.redaction.redact_query(query);
        }

        let number = tracked.number_exchange();
        let (client, server, midstream) = (tracked.client(), tracked.server(), tracked.midstream);
        let identity = tracked.identity(self.agent);
        let id = identity.exchange_id(number);
        let exchange = Exchange {
            id: Cow::Borrowed(id.as_str()),
            time: Timestamp(time),
            duration: if request_seen { offset(response_end) } else { None },
            timing: Timing {
                request_end: offset(request_end),
                response_start: offset(response_start),
                response_end: offset(response_end),
            },
            protocol: Cow::Borrowed(&descriptor.protocols[protocol]),
            decoder: Cow::Borrowed(&descriptor.label),
            operation,
            target,
            summary,
            outcome,
            client: Peer { address: client.address, port: client.port, bytes: request_seen.then_some(request_bytes) },
            server: Peer { address: server.address, port: server.port, bytes: response_seen.then_some(response_bytes) },
            vantage: vantage(&self.local, client.address, server.address),
            connection: event::Connection { id: Cow::Borrowed(&identity.id), exchange: number, midstream },
            loss: (lost_bytes > 0 || truncated)
                .then_some(Loss { gap_bytes: (lost_bytes > 0).then_some(lost_bytes), truncated }),
            attributes: Attributes(attributes),
            resource: Cow::Borrowed(self.resource),
        };
        self.failed = self.outputs.publish(Event::Exchange(&exchange)).err();
    }

    pub(super) fn take_ended(&mut self, ended: &Ended) {
        if self.failed.is_some() {
            return;
        }
        let Ended { connection, closed, client, exchanges, protocol } = ended;
        let facts = &closed.facts;
        let [a, b] = [(connection.a, &facts.a), (connection.b, &facts.b)]
            .map(|(end, facts_of_side)| Party::new(end, facts_of_side, !facts.ignored));
        let (client_end, server_end, endpoints) = match client {
            Some(Side::A) => (Some(a), Some(b), None),
            Some(Side::B) => (Some(b), Some(a), None),
            None => (None, None, Some([a, b])),
        };
        let opened = match connection.opened_by {
            _ if closed.reason == CloseReason::Refused => Opened::Refused,
            OpenedBy::Midstream => Opened::Midstream,
            OpenedBy::Handshake if facts.b.packets == 0 && !facts.established => Opened::Unanswered,
            OpenedBy::Handshake => Opened::Handshake,
        };
        let (reason, reset_by) = match closed.reason {
            CloseReason::Finished => (Reason::Fin, None),
            CloseReason::Reset(side) => (Reason::Reset, Some(side)),
            CloseReason::Refused => (Reason::Reset, Some(Side::B)),
            CloseReason::Idle => (Reason::Idle, None),
            CloseReason::Evicted => (Reason::Evicted, None),
            CloseReason::Replaced => (Reason::Replaced, None),
            CloseReason::CaptureEnd => (Reason::CaptureEnd, None),
        };
        let role = |side| client.map(|client| if client == side { Role::Client } else { Role::Server });
        let identity = ConnectionIdentity::new(self.agent, connection.a, connection.b, connection.start_ns);
        let event = ConnectionEvent {
            kind: event::Kind::Connection,
            id: Cow::Borrowed(identity.event_id()),
            time: Timestamp(connection.start_ns),
            duration: facts.last_ns - connection.start_ns,
            opened,
            connect_time: facts.syn_to_syn_ack_ns,
            handshake_time: facts.syn_ack_to_ack_ns,
            closed: event::End { reason, by: reset_by.and_then(role) },
            protocol: protocol.as_deref().map(Cow::Borrowed),
            exchanges: *exchanges,
            client: client_end,
            server: server_end,
            endpoints,
            connection: event::Name { id: Cow::Borrowed(&identity.id) },
            resource: Cow::Borrowed(self.resource),
        };
        self.failed = self.outputs.publish(Event::Connection(&event)).err();
    }
}

/// On whose side a host with these addresses is; of a connection within it, on the server's.
fn vantage(local: &[IpAddr], client: IpAddr, server: IpAddr) -> Option<Vantage> {
    if local.is_empty() {
        return None;
    }
    Some(match (local.contains(&server), local.contains(&client)) {
        (true, _) => Vantage::Server,
        (false, true) => Vantage::Client,
        (false, false) => Vantage::Between,
    })
}
