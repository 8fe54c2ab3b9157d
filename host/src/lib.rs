//! podtap as a library: captures in, one event per request/response exchange out.

pub mod config;
pub mod event;
