//! A conversation in MongoDB.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: podtap_fuzz::seeds::conversation::<podtap_mongodb::Mongodb>(),
    |input: &[u8]| podtap_fuzz::mongodb(input)
);
