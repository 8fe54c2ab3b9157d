//! One packet of any link type.
#![no_main]

libfuzzer_sys::fuzz_target!(init: podtap_fuzz::seeds::packet(), |input: &[u8]| podtap_fuzz::packet(input));
