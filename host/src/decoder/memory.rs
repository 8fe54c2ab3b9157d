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

#[cfg(test)]
mod tests {
    use wasmtime::StoreLimitsBuilder;

    use super::*;

    #[test]
    fn all_memories_of_an_instance_together_have_one_bound() {
        let mut memory = Memory::new(StoreLimitsBuilder::new().memory_size(100).build());
        assert!(memory.memory_growing(0, 40, None).unwrap());
        assert!(memory.memory_growing(0, 50, None).unwrap());
        assert!(!memory.memory_growing(40, 60, None).unwrap());
        assert!(memory.memory_growing(40, 50, None).unwrap());
        assert_eq!(memory.bytes(), 100);
        // One's own maximum is no bound of the others.
        assert!(!memory.memory_growing(50, 51, Some(50)).unwrap());
    }
}
