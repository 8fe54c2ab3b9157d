//! Decoders: found, loaded, run in their sandbox, and held to the contract in `wit/`.
//!
//! In: payload of connections, in batches. Out: checked rows, one per exchange, and demands. What a plugin returns is
//! never trusted: every index, length, count and sum is checked before use, and a call that traps, runs past its
//! deadline or breaks a limit ends its instance, not podtap.

mod batch;
#[allow(clippy::all)]
mod bindings;
mod cache;
mod contract;
mod descriptor;
mod directory;
mod dispatch;
mod log_gate;
mod memory;
mod output;
mod packed;
mod pins;
mod sandbox;
mod tracked;
mod watch;

/// Bounds that no configuration changes, for their reference.
pub(crate) mod fixed {
    pub(crate) use super::cache::MAX_FILES as MAX_CACHED;
    pub(crate) use super::descriptor::{MAX_ATTRIBUTES as MAX_DECLARED_ATTRIBUTES, MAX_PORTS, MAX_PROTOCOLS};
    pub(crate) use super::dispatch::fixed::*;
    pub(crate) use super::log_gate::{BURST, INTERVAL};
    pub(crate) use super::output::{MAX_ATTRIBUTES, MAX_DEMANDS, MAX_EXCHANGE_TEXT, MAX_TEXT};
    pub(crate) use super::sandbox::{
        MAX_CORE_INSTANCES, MAX_LOG_BYTES, MAX_MEMORIES, MAX_RETURNED_BYTES, MAX_TABLE_ELEMENTS, MAX_TABLES,
    };
}

pub use batch::{Batch, Entry, Place};
pub use bindings::podtap::decoder::types::Verdict;
pub use cache::Cache;
pub use contract::CONTRACT_VERSIONS;
pub use descriptor::{Attribute, Descriptor, ValueKind};
pub use directory::{Catalog, Fate, Found, search_path};
pub use dispatch::{
    Admission, DecoderCounters, DecoderStatus, DispatchCounters, DispatchLimits, Dispatcher, MAX_PLUGINS, MAX_VERSIONS,
    Refusal, Take, Undetected, Waiting,
};
pub use output::{Demand, DemandKind, Row, Rows};
pub use packed::{ComponentFile, FileError, Packing};
pub use pins::check_pin;
pub use sandbox::{Failure, FailureKind, Instance, Limits, LoadError, MAX_INSTANCES, Plugin, Runtime};
pub use tracked::{Ended, Tracked};
pub use watch::Watch;
