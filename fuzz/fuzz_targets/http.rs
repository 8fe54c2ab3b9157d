//! A conversation in HTTP.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: podtap_fuzz::seeds::conversation::<podtap_http::Http>(),
    |input: &[u8]| podtap_fuzz::http(input)
);
