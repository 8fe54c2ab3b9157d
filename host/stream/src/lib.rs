//! Packets in, ordered TCP payload and gaps out.
//!
//! [`Engine::packet`] takes one captured packet and tells a [`Sink`] what became known by it: payload in stream order,
//! gaps where bytes will never come, ends. In-order payload is handed on as a slice of the packet, without a copy.
//!
//! ```text
//! packet ─> link, ip, tunnel ─> tcp ─> table ─> tracked ─> delivery ─> Sink
//!                └─> fragments ─^               (one stream and one assembler a side)
//! ```
//!
//! - Checksums are not verified: offloading makes those of a capture wrong.
//! - Where segments overlap, the first byte captured for a position counts. Where fragments do, their datagram is
//!   dropped (see `fragments`).
//! - Urgent data stays in the stream where it was sent (RFC 6093, section 2.2: TCP has no data out of band).
//! - When a hole becomes a gap, and how the two sides stay in order, is written down in `delivery`; what opens, closes
//!   and replaces a connection in `tracked`.
//! - Every connection is told when it ends, also one that never carried payload, with what was seen of it (`facts`).
//! - A closed connection is remembered for a while ([`Limits::close_timeout_ns`]), so that late retransmissions are not
//!   taken for a new one. It takes room in the table, but counts as a connection no more.
//!
//! Never here: I/O, a clock (time is the packet's), unsafe code, a panic on any input, memory beyond [`Limits`].

#![forbid(unsafe_code)]

mod assembler;
mod clock;
mod connection;
mod counters;
mod delivery;
mod engine;
mod facts;
mod fragments;
mod frame;
mod ip;
mod limits;
mod link;
mod packet;
mod seq;
mod stream;
mod table;
mod tcp;
mod tracked;
mod tunnel;

pub use connection::{CloseReason, Closed, Connection, ConnectionId, Endpoint, OpenedBy, Side};
pub use counters::Counters;
pub use engine::{Chunk, Engine, Gap, GapReason, Packet, Sink};
pub use facts::{Facts, SideFacts};
pub use fragments::MAX_PIECES;
pub use limits::Limits;
pub use link::LinkType;
pub use packet::MAX_HEADERS;
