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
//! ```

mod capture;
mod checker;
mod conversation;
mod memory;
mod packet;
mod packets;
mod script;
pub mod seeds;
mod wire;

use conversation::conversation;

pub use capture::capture;
pub use packet::packet;
pub use packets::packets;

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
