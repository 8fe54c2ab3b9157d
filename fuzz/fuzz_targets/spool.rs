//! A spool's directory.
#![no_main]

libfuzzer_sys::fuzz_target!(init: podtap_fuzz::seeds::spool(), |input: &[u8]| podtap_fuzz::spool(input));
