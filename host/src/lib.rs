//! podtap as a library: captures in, one event per request/response exchange out, and one per connection if asked for.

pub mod admin;
pub mod author;
pub mod capture;
pub mod cli;
pub mod config;
pub mod decoder;
pub mod event;
pub mod filter;
pub mod latency;
mod log;
pub mod pipeline;
pub mod privileges;
pub mod publish;
pub mod read;
pub mod reference;
pub mod report;
pub mod requests;
pub mod stop;
pub mod summary;
pub mod top;
pub mod view;
