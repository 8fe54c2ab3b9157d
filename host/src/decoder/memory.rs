//! The linear memory of one instance, of all its core instances together: bounded and counted.

use wasmtime::{ResourceLimiter, StoreLimits};

/// What a store asks before memory or a table grows.
pub(super) struct Memory {
    limits: StoreLimits,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(limits: StoreLimits) -> Memory {
        Memory { limits, bytes: 0 }
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
        // The size in the beginning comes as growth from nothing. wasmtime holds each memory to its own maximum.
        let total = self.bytes.saturating_sub(current).saturating_add(desired);
        if maximum.is_some_and(|maximum| desired > maximum) {
            return self.limits.memory_growing(current, desired, maximum);
        }
        let allowed = self.limits.memory_growing(self.bytes, total, None)?;
        if allowed {
            self.bytes = total;
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
