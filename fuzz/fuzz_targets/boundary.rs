//! What a decoder returns.
#![no_main]

libfuzzer_sys::fuzz_target!(init: podtap_fuzz::seeds::boundary(), |input: &[u8]| podtap_fuzz::boundary(input));
