//! The contract's types and calls, generated from `wit/`.

#![allow(missing_docs, unreachable_pub, unsafe_code)]

wit_bindgen::generate!({
    world: "plugin",
    path: "wit",
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "podtap_sdk::bindings",
});
