//! What no input may do to podtap: one function for each fuzz target.
//!
//! Bytes in; a panic where podtap breaks a promise. `cargo xtask fuzz` runs them under libFuzzer, the tests run them on
//! the inputs in `regressions/`, each of which broke a promise once.
//!
//! ```text
//! packet   ─> one packet ──────────┐
//! packets  ─> a script of packets ─┴─> podtap-stream ─> checker
//! capture  ─> a capture file ─> podtap::pipeline, with the decoders that were built beside podtap
//! http, mysql, mongodb ─> a conversation ─> the decoder, natively ─> ledger
//! boundary ─> a guest's memory ─> podtap::decoder, and the pipeline ─> a reading by hand
//! config   ─> a file and variables ─> podtap::config ─> what is shown of it ─> the same
//! spool    ─> segments, or steps and damage ─> podtap::publish::spool ─> sums
//! msgpack  ─> events ─> podtap::read ─> both formats ─> the same
//! filter   ─> an expression ─> podtap::filter ─> a few events
//! ```

mod boundary;
mod capture;
mod checker;
mod config;
mod conversation;
mod filter;
mod image;
mod memory;
mod msgpack;
mod packet;
mod packets;
mod scratch;
mod script;
pub mod seeds;
mod spool;
mod wire;

use conversation::conversation;

pub use boundary::boundary;
pub use capture::capture;
pub use config::config;
pub use filter::filter;
pub use msgpack::msgpack;
pub use packet::packet;
pub use packets::packets;
pub use spool::spool;

use podtap_http::Http;
use podtap_mongodb::Mongodb;
use podtap_mysql::MySql;

/// A conversation in HTTP, or what a peer takes for it.
pub fn http(input: &[u8]) {
    conversation::<Http>("{}", input);
}

/// The same in MySQL.
pub fn mysql(input: &[u8]) {
    conversation::<MySql>("{}", input);
}

/// The same in MongoDB. Nothing is left out, so that it can be seen whether every byte is in an exchange.
pub fn mongodb(input: &[u8]) {
    conversation::<Mongodb>(r#"{"report_monitoring": true}"#, input);
}
