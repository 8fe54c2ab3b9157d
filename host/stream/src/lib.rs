//! Packets in, ordered TCP payload and gaps out.
//!
//! [`Engine::packet`] takes one captured packet and tells a [`Sink`] what became known by it: payload in stream order,
//! gaps where bytes will never come, ends. In-order payload is handed on as a slice of the packet, without a copy.
//!
//! Never here: I/O, a clock (time is the packet's), unsafe code, a panic on any input, memory beyond [`Limits`].

#![forbid(unsafe_code)]

mod assembler;
mod connection;
mod counters;
mod delivery;
mod engine;
mod frame;
mod ip;
mod limits;
mod link;
mod seq;
mod stream;
mod table;
mod tcp;
mod tracked;

pub use connection::{CloseReason, Closed, Connection, ConnectionId, Endpoint, OpenedBy, Side};
pub use counters::Counters;
pub use engine::{Chunk, Engine, Gap, GapReason, Packet, Sink};
pub use limits::Limits;
pub use link::LinkType;
