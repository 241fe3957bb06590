//! A node's clock: it runs a little fast or slow, and jumps forward when the machine was suspended.
//! It never goes back, as the clock the daemon reads does not.

use engine::time::Time;

/// See the module page.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Parts of a million by which it is fast.
    drift_ppm: i64,
    /// Microseconds it is ahead, besides.
    ahead_us: u64,
}

impl Clock {
    /// A clock that is fast by so many parts of a million (slow, if negative).
    ///
    /// # Panics
    ///
    /// When the drift would make it stand still or run backwards.
    #[must_use]
    pub fn new(drift_ppm: i64) -> Self {
        assert!(drift_ppm > -1_000_000, "a clock goes forward");
        Self { drift_ppm, ahead_us: 0 }
    }

    /// Lets it jump forward.
    pub fn jump(&mut self, microseconds: u64) {
        self.ahead_us += microseconds;
    }

    fn rate(&self) -> u128 {
        u128::try_from(1_000_000 + self.drift_ppm).expect("above zero, as checked")
    }

    /// What it shows at a time of the world.
    #[must_use]
    pub fn at(&self, world_us: u64) -> Time {
        let own = u128::from(world_us) * self.rate() / 1_000_000;
        let own = u64::try_from(own).expect("a run is far shorter than a clock's range");
        Time(own + self.ahead_us)
    }

    /// The first time of the world at which it shows `time` or more.
    #[must_use]
    pub fn world_us(&self, time: Time) -> u64 {
        let own = u128::from(time.0.saturating_sub(self.ahead_us));
        let world = (own * 1_000_000).div_ceil(self.rate());
        u64::try_from(world).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use engine::time::Time;

    use super::Clock;

    #[test]
    fn a_timer_fires_when_the_clock_shows_its_time_and_not_before() {
        for drift in [-100_000, -1, 0, 1, 50_000] {
            let mut clock = Clock::new(drift);
            clock.jump(123);
            for time in [0, 1, 124, 1_000, 999_999, 1_234_567_890] {
                let due = clock.world_us(Time(time));
                assert!(clock.at(due) >= Time(time), "{drift} {time}");
                assert!(due == 0 || clock.at(due - 1) < Time(time), "{drift} {time}");
            }
        }
    }
}
