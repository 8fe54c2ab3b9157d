//! Write a podtap decoder as straight-line code.
//!
//! podtap rebuilds TCP connections from captured packets and hands their payload to decoders, which run in a sandbox.
//! A decoder implements [`Decoder`]: it says what it is, recognises its protocol, and for each connection gives two
//! tasks, one per side, that read like a description of the protocol:
//!
//! ```
//! use podtap_sdk::{Break, Connection, Decoder, Descriptor, Exchanges, Field, Outcome, Stream, Tasks, Text, Verdict};
//!
//! podtap_sdk::fields! {
//!     /// The word that was sent.
//!     WORD: Text = "echo.word";
//! }
//!
//! /// Each line is a request, each line back its response.
//! struct Echo;
//!
//! impl Decoder for Echo {
//!     const DESCRIPTOR: Descriptor = Descriptor {
//!         name: "echo",
//!         version: "0.1.0",
//!         doc: "Lines that come back.",
//!         protocols: &["echo"],
//!         ports: &[7],
//!         attributes: ATTRIBUTES,
//!         status: None,
//!     };
//!
//!     fn configure(config: &str) -> Result<Echo, String> {
//!         podtap_sdk::unconfigured(Echo, config)
//!     }
//!
//!     fn probe(&self, _from_server: bool, head: &[u8]) -> Verdict {
//!         if head.is_ascii() { Verdict::Yes } else { Verdict::No }
//!     }
//!
//!     fn connect(&self, connection: &mut Connection) -> Tasks {
//!         let exchanges = connection.exchanges();
//!         Tasks::new(
//!             exchanges.requests(connection, find_line, request),
//!             exchanges.responses(connection, find_line, response),
//!         )
//!     }
//! }
//!
//! async fn request(client: &mut Stream, exchanges: &Exchanges<()>) -> Result<(), Break> {
//!     client.message().await?;
//!     let read = |line: &[u8]| {
//!         exchanges.request(|exchange| {
//!             exchange.describe(b"echo", b"", b"");
//!             exchange.set(WORD, line);
//!         });
//!     };
//!     client.until(b"\n", 1024, read).await?;
//!     exchanges.request_end(client, |_| ());
//!     Ok(())
//! }
//!
//! async fn response(server: &mut Stream, exchanges: &Exchanges<()>) -> Result<(), Break> {
//!     server.message().await?;
//!     server.until(b"\n", 1024, |_| ()).await?;
//!     exchanges.finish(server, Outcome::Ok);
//!     Ok(())
//! }
//!
//! /// After a loss: what follows the first line's end.
//! fn find_line(bytes: &[u8]) -> Option<usize> {
//!     bytes.iter().position(|&byte| byte == b'\n').map(|end| end + 1)
//! }
//!
//! podtap_sdk::export!(Echo);
//! # fn main() {}
//! ```
//!
//! Tasks await nothing but the methods of their own [`Stream`]; time, sizes and losses are kept for them.

#![deny(unsafe_code)]

#[doc(hidden)]
pub mod bindings;
mod delimiter;
mod digest;
mod exchanges;
mod fields;
mod instance;
mod packed;
mod stream;
pub mod testing;

pub use bindings::exports::podtap::decoder::decoder::Verdict;
pub use bindings::podtap::decoder::host::Level;
pub use bindings::podtap::decoder::types::{Batch, OpenedConnection, Output};
pub use delimiter::Delimiter;
pub use digest::digest;
pub use exchanges::by_id::ExchangesById;
pub use exchanges::in_order::Exchanges;
pub use exchanges::{Exchange, MAX_OPEN, MAX_WAITING, MAX_WAITING_BY_ID, Outcome};
pub use fields::{Attribute, Field, FieldKind, Flag, Float, Int, Settable, Text, Uint};
#[doc(hidden)]
pub use instance::Guest;
pub use instance::{Connection, Decoder, Descriptor, Instance, Tasks, unconfigured};
pub use packed::Unpacked;
pub use stream::{Break, Losses, Stream};

/// A line for podtap's log, rate-limited there. Never put payload in it. Outside the sandbox it goes to standard error.
pub fn log(level: Level, message: &str) {
    if cfg!(target_arch = "wasm32") {
        bindings::podtap::decoder::host::log(level, message);
    } else {
        eprintln!("{message}");
    }
}

/// Makes the crate a plugin: exports a [`Decoder`] under the contract. Natively it adds nothing.
#[macro_export]
macro_rules! export {
    ($decoder:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type PodtapGuest = $crate::Guest<$decoder>;
    $crate::bindings::export_component!(PodtapGuest with_types_in $crate::bindings);
        };
    };
}
