//! Where packets come from.

mod fanout;
mod file;
mod filter;
mod live;
mod local;
mod sock_diag;
mod stoppable;

pub use file::{CaptureError, CaptureFile, Record};
pub(crate) use file::{MAX_INTERFACES, MAX_PACKET};
pub use filter::{Filter, FilterError};
pub use live::{Drops, Live, LiveError};
pub use local::{OwnSockets, addresses};
