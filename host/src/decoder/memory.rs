//! The linear memory of one instance: capped and counted.

use wasmtime::{ResourceLimiter, StoreLimits, StoreLimitsBuilder};

/// What a store asks before memory grows. Growing beyond the cap is a trap, for a guest that is told no goes on wrongly.
pub(super) struct Memory {
    limits: StoreLimits,
    bytes: usize,
}

impl Memory {
    pub(super) fn capped(bytes: usize) -> Memory {
        Memory { limits: StoreLimitsBuilder::new().memory_size(bytes).trap_on_grow_failure(true).build(), bytes: 0 }
    }

    /// Bytes that the instance has.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, wasmtime::Error> {
        let allowed = self.limits.memory_growing(current, desired, maximum)?;
        if allowed {
            // An instance has one memory: its size in the beginning comes as growth from nothing.
            self.bytes = desired;
        }
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<(), wasmtime::Error> {
        self.limits.memory_grow_failed(error)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, wasmtime::Error> {
        self.limits.table_growing(current, desired, maximum)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> Result<(), wasmtime::Error> {
        self.limits.table_grow_failed(error)
    }

    fn instances(&self) -> usize {
        self.limits.instances()
    }

    fn tables(&self) -> usize {
        self.limits.tables()
    }

    fn memories(&self) -> usize {
        self.limits.memories()
    }
}
