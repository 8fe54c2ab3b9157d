//! Events that are read back.
#![no_main]

libfuzzer_sys::fuzz_target!(init: podtap_fuzz::seeds::msgpack(), |input: &[u8]| podtap_fuzz::msgpack(input));
