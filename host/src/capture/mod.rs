//! Where packets come from.

mod file;
mod filter;
mod stoppable;

pub use file::{CaptureError, CaptureFile, Record};
pub(crate) use file::{MAX_INTERFACES, MAX_PACKET};
pub use filter::{Filter, FilterError};
