//! A configuration, and variables over it.
#![no_main]

libfuzzer_sys::fuzz_target!(init: podtap_fuzz::seeds::config(), |input: &[u8]| podtap_fuzz::config(input));
