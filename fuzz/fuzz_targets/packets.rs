//! A sequence of packets, and demands of a consumer.
#![no_main]

libfuzzer_sys::fuzz_target!(init: podtap_fuzz::seeds::packets(), |input: &[u8]| podtap_fuzz::packets(input));
