//! The end of a TCP connection, as a consumer reads it: the schema [`CONNECTION_SCHEMA`], typed once.
//!
//! In a file, `kind` tells these events from exchanges, which have none. It is on the newer kind only, so that
//! exchanges stay as they were; its value has no version, so that a filter on it outlives one.

use std::borrow::Cow;
use std::net::IpAddr;

use podtap_stream::{Endpoint, SideFacts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Resource, Timestamp, resource_is_empty};

/// Name and version of the schema.
pub const CONNECTION_SCHEMA: &str = "podtap.connection/1";

/// A TCP connection that is over: closed, or no longer tracked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "podtap.connection/1")]
pub struct ConnectionEvent<'a> {
    /// Always `connection`. Exchanges have no `kind`.
    pub kind: Kind,
    /// Deterministic: the same packets give the same id, and no exchange has it. Lets a consumer drop duplicates of
    /// at-least-once delivery.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// First packet. Capture time.
    pub time: Timestamp,
    /// First packet to last packet, ns.
    pub duration: u64,
    /// How it began.
    pub opened: Opened,
    /// First SYN to first SYN-ACK, ns; with the time that repeated SYNs took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_time: Option<u64>,
    /// First SYN-ACK to the client's next segment, ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_time: Option<u64>,
    /// How it ended.
    pub closed: End,
    /// Protocol of its last exchange, or the one that was recognised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Cow<'a, str>>,
    /// Exchanges published; absent when no decoder recognised the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchanges: Option<u32>,
    /// Who opened it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Party>,
    /// Who was connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Party>,
    /// Instead of `client` and `server` where nobody knows which is which: two maps as those, the sender of the first
    /// packet first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<[Party; 2]>,
    /// The connection, as its exchanges name it.
    pub connection: Name<'a>,
    /// Where the agent runs.
    #[serde(default, skip_serializing_if = "resource_is_empty")]
    pub resource: Cow<'a, Resource>,
}

/// What tells the event from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The end of a connection.
    Connection,
}

/// How a connection began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Opened {
    /// By a SYN that was answered; the SYN, the answer or both were seen.
    Handshake,
    /// Not at all: the server answered the SYN with a RST.
    Refused,
    /// Not at all: nothing answered the SYN.
    Unanswered,
    /// Before the capture.
    Midstream,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct End {
    /// Why it is no longer tracked.
    pub reason: Reason,
    /// Who sent the RST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Role>,
}

/// Why a connection is no longer tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Both sides sent FIN.
    Fin,
    /// A RST.
    Reset,
    /// No packet for `stream.idle_timeout`, or `stream.handshake_timeout` where it was never established.
    Idle,
    /// There were too many connections, see `stream.max_connections`.
    Evicted,
    /// A SYN opened another one between the same addresses and ports.
    Replaced,
    /// The capture ended.
    CaptureEnd,
}

/// An end of a connection, by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Who opened it.
    Client,
    /// Who was connected to.
    Server,
}

/// One end of a connection, and what it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Party {
    /// IPv4 or IPv6 address, as text.
    #[serde(with = "super::address_as_text")]
    #[schemars(with = "String")]
    pub address: IpAddr,
    /// TCP port.
    pub port: u16,
    /// TCP segments.
    pub packets: u32,
    /// Payload bytes, each as often as it was sent.
    pub bytes: u64,
    /// Segments that sent a SYN, a FIN or payload seen before. A packet that was captured twice counts as one.
    pub retransmitted_segments: u32,
    /// Payload bytes seen before, a part of `bytes`.
    pub retransmitted_bytes: u64,
    /// Segments that came behind later ones, or again where they were lost before the capture. Absent, as `gaps` and
    /// `gap_bytes`, where podtap did not follow the connection to its end, as no decoder did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_order_segments: Option<u32>,
    /// Times that its receive window closed.
    pub zero_windows: u32,
    /// Gaps in what was captured of its payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gaps: Option<u32>,
    /// Payload bytes in those gaps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_bytes: Option<u64>,
    /// Its SYN was seen: the client's, or the server's SYN-ACK.
    pub syn: bool,
    /// Its FIN was seen.
    pub fin: bool,
}

impl Party {
    /// An end and the facts of what it sent. `followed`: the stream was, up to its end.
    pub fn new(end: Endpoint, facts: &SideFacts, followed: bool) -> Party {
        Party {
            address: end.address,
            port: end.port,
            packets: facts.packets,
            bytes: facts.payload_bytes,
            retransmitted_segments: facts.retransmitted_segments,
            retransmitted_bytes: facts.retransmitted_bytes,
            out_of_order_segments: followed.then_some(facts.out_of_order_segments),
            zero_windows: facts.zero_windows,
            gaps: followed.then_some(facts.gaps),
            gap_bytes: followed.then_some(facts.gap_bytes),
            syn: facts.syn,
            fin: facts.fin,
        }
    }
}

/// What a connection is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Name<'a> {
    /// The `connection.id` of its exchanges: community id v1, a dash, and the time of its first packet in ns.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
}

impl ConnectionEvent<'_> {
    /// Both ends: client and server, or in the order of `endpoints`.
    pub fn ends(&self) -> impl Iterator<Item = &Party> {
        self.client.iter().chain(&self.server).chain(self.endpoints.iter().flatten())
    }
}
