//! Where a run's chances come from: one seed, a stream of numbers for each purpose.
//!
//! Each class of faults draws from a stream of its own, so that taking one class away leaves the
//! chances of the others as they were, and a failing run can be made smaller.

/// A stream of numbers, the same for the same seed (Steele, Lea and Flood's SplitMix64).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A stream.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The stream of `purpose` in the run of `seed`.
    #[must_use]
    pub fn stream(seed: u64, purpose: &str) -> Self {
        let mut mixer = Self::new(seed);
        for byte in purpose.bytes() {
            mixer.state = mixer.draw() ^ u64::from(byte);
        }
        Self::new(mixer.draw())
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// Whether something of `rate` in a million happens.
    pub fn happens(&mut self, rate: u32) -> bool {
        rate > 0 && self.below(1_000_000) < u64::from(rate)
    }

    /// An index below `length`.
    ///
    /// # Panics
    ///
    /// When `length` is 0.
    pub fn index(&mut self, length: usize) -> usize {
        assert!(length > 0, "there is something to choose from");
        let length = u64::try_from(length).expect("a length fits 64 bits");
        usize::try_from(self.below(length)).expect("below a usize")
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let numbers = |purpose| {
            let mut stream = Random::stream(7, purpose);
            [stream.draw(), stream.draw(), stream.draw()]
        };
        assert_eq!(numbers("loss"), numbers("loss"));
        assert_ne!(numbers("loss"), numbers("delay"));
    }

    #[test]
    fn rates_are_in_parts_of_a_million() {
        let mut stream = Random::new(1);
        let hits = (0..100_000).filter(|_| stream.happens(50_000)).count();
        assert!((4_000..6_000).contains(&hits), "{hits} of 100,000 at 5 %");
        assert!(!(0..1000).any(|_| stream.happens(0)));
    }
}
