//! The contract's types and calls, generated from `wit/`.

#![allow(missing_docs, unreachable_pub)]

wasmtime::component::bindgen!({
    world: "plugin",
    path: "../wit",
    // Columns go in as slices: nothing is copied but into the guest's memory.
    ownership: Borrowing { duplicate_if_necessary: false },
});
