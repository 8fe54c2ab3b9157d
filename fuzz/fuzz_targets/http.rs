//! A conversation in HTTP, or what a peer takes for it.
#![no_main]

use podtap_http::Http;

libfuzzer_sys::fuzz_target!(init: podtap_fuzz::seeds::conversation::<Http>(), |input: &[u8]| {
    podtap_fuzz::conversation::<Http>(input)
});
