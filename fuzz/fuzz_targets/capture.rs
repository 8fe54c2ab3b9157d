//! A whole capture file.
#![no_main]

libfuzzer_sys::fuzz_target!(init: podtap_fuzz::seeds::capture(), |input: &[u8]| podtap_fuzz::capture(input));
