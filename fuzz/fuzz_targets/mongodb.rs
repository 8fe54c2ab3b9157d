//! A conversation in MongoDB, or what a peer takes for it.
#![no_main]

use podtap_mongodb::Mongodb;

libfuzzer_sys::fuzz_target!(init: podtap_fuzz::seeds::conversation::<Mongodb>(), |input: &[u8]| {
    podtap_fuzz::conversation::<Mongodb>(input)
});
