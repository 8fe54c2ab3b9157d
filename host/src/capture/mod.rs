//! Where packets come from.

mod file;
mod filter;

pub use file::{CaptureError, CaptureFile, Record};
pub use filter::{Filter, FilterError};
