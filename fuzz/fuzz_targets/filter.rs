//! A filter of events.
#![no_main]

libfuzzer_sys::fuzz_target!(init: podtap_fuzz::seeds::filter(), |input: &[u8]| podtap_fuzz::filter(input));
