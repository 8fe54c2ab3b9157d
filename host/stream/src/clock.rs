//! The engine's time, on which timers run: it goes on with the greatest capture time seen.
//!
//! Capture times in, engine time out; the system's clock is never asked. A packet from the past changes nothing, as packets
//! of several interfaces may come in turns. Where all are from long before, for a while, the clock that capture times come
//! from was set back, or one before was nonsense: engine time goes on from there, or timers would stand still until that
//! clock is there again. Bias: one packet from the far future makes all connections old.

/// Capture times that are so much less than the greatest one are of a clock that was set back, ns. Less is waited for.
const SET_BACK_NS: u64 = 60_000_000_000;

/// For how long all must be, ns of capture time: one packet is nonsense.
const SUSTAINED_NS: u64 = 1_000_000_000;

/// The most that engine time goes on at once, ns: more than any timeout, so that no capture time brings it to its end.
const LONGEST_STEP_NS: u64 = 1 << 48;

/// No packet from long before.
const NONE: u64 = u64::MAX;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Engine time, ns; never goes back.
    pub(crate) now_ns: u64,
    /// The capture time that it stands for.
    pub(crate) capture_ns: u64,
    /// The least capture time since all are from long before, or [`NONE`].
    back_ns: u64,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { now_ns: 0, capture_ns: 0, back_ns: NONE }
    }

    /// Something was captured at `time_ns`, or nothing until then. True when engine time went on.
    pub(crate) fn reach(&mut self, time_ns: u64) -> bool {
        if time_ns > self.capture_ns {
            self.now_ns = self.now_ns.saturating_add((time_ns - self.capture_ns).min(LONGEST_STEP_NS));
            self.start_from(time_ns);
            return true;
        }
        if self.capture_ns - time_ns >= SET_BACK_NS {
            self.long_before(time_ns);
        } else {
            self.back_ns = NONE;
        }
        false
    }

    #[cold]
    fn long_before(&mut self, time_ns: u64) {
        self.back_ns = self.back_ns.min(time_ns);
        if time_ns - self.back_ns >= SUSTAINED_NS {
            self.start_from(time_ns);
        }
    }

    fn start_from(&mut self, time_ns: u64) {
        (self.capture_ns, self.back_ns) = (time_ns, NONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Engine time after each of these capture times, seconds since the first.
    fn engine_seconds(times: &[u64]) -> Vec<u64> {
        let mut clock = Clock::new();
        clock.reach(times[0] * SECOND);
        let start_ns = clock.now_ns;
        let mut after = |&time: &u64| {
            clock.reach(time * SECOND);
            (clock.now_ns - start_ns) / SECOND
        };
        times.iter().map(&mut after).collect()
    }

    #[test]
    fn a_packet_from_the_past_changes_nothing() {
        assert_eq!(engine_seconds(&[5000, 5010, 4000, 5011, 4002, 5012, 4960, 5013]), [0, 10, 10, 11, 11, 12, 12, 13]);
    }

    #[test]
    fn time_goes_on_after_the_clock_was_set_back() {
        assert_eq!(engine_seconds(&[5000, 5010, 1400, 1400, 1401, 1402, 1405]), [0, 10, 10, 10, 10, 11, 14]);
        // One that was set back a little is waited for.
        assert_eq!(engine_seconds(&[5000, 4950, 4960, 4999, 5001]), [0, 0, 0, 0, 1]);
    }

    #[test]
    fn time_goes_on_after_a_time_in_the_far_future() {
        assert_eq!(engine_seconds(&[5000, 9000, 5001, 5002, 5003]), [0, 4000, 4000, 4000, 4001]);
        let mut clock = Clock::new();
        for time_ns in [0, u64::MAX, SECOND, 2 * SECOND].repeat(100) {
            clock.reach(time_ns);
        }
        let before_ns = clock.now_ns;
        assert!(clock.reach(3 * SECOND) && clock.now_ns == before_ns + SECOND);
    }
}
