//! A conversation in MySQL, or what a peer takes for it.
#![no_main]

use podtap_mysql::MySql;

libfuzzer_sys::fuzz_target!(init: podtap_fuzz::seeds::conversation::<MySql>(), |input: &[u8]| {
    podtap_fuzz::conversation::<MySql>(input)
});
