//! What the author of a decoder tests it with: captures recorded and cut anew, replayed through the sandbox, and the
//! contract call by call.
//!
//! In: capture files and a loaded plugin. Out: exchanges, and what is wrong. Nothing here is on the way of a packet in a
//! replay; nothing is printed.

mod bench;
mod contract;
mod recording;
mod recut;

pub(crate) use bench::connection_of;
pub use bench::{Bench, BenchError, Outcome};
pub use contract::{Check, check_contract};
pub use recording::{Happening, Recorded, Recording, RecordingError};
pub use recut::{Recut, Variant, mutated};

/// Numbers that look random and are the same for the same seed (splitmix64).
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.bits() % bound as u64) as usize }
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
