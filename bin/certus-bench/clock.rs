//! Monotonic time as nanoseconds since the start of the program.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds in one second.
pub const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A monotonic clock whose copies, in all threads, count from the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// Starts the clock at zero.
    pub fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    /// Returns the nanoseconds since [`Clock::start`].
    pub fn now_ns(self) -> u64 {
        duration_ns(self.epoch.elapsed())
    }
}

/// Returns a number that differs from run to run: the nanoseconds of the day's clock.
pub fn run_number() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, duration_ns)
}

/// Returns `duration` in nanoseconds; `u64::MAX` (584 years) when it is longer than that.
pub fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
