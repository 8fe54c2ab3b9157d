//! A conversation in MySQL.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: podtap_fuzz::seeds::conversation::<podtap_mysql::MySql>(),
    |input: &[u8]| podtap_fuzz::mysql(input)
);
