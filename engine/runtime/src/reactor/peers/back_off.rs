//! How long a link rests before it is dialled again.

/// First rest, in microseconds.
const FIRST_US: u64 = 50_000;

/// Longest rest, in microseconds.
const LAST_US: u64 = 1_000_000;

/// Doubling rests with jitter, so that links that broke together are not dialled together.
#[derive(Debug)]
pub struct BackOff {
    rest_us: u64,
    random: u64,
}

impl BackOff {
    /// Starts at the shortest rest. `seed` sets this link's jitter apart from others'.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // The generator never leaves 0, so it must not start there.
        Self { rest_us: FIRST_US, random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// The next rest, in microseconds: between half and the whole of a value that doubles.
    pub fn next_us(&mut self) -> u64 {
        let whole = self.rest_us;
        self.rest_us = (whole * 2).min(LAST_US);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        whole / 2 + self.random % (whole / 2 + 1)
    }

    /// The link is up: the next rest is the shortest again.
    pub fn reset(&mut self) {
        self.rest_us = FIRST_US;
    }
}

#[cfg(test)]
mod tests {
    use super::{BackOff, FIRST_US, LAST_US};

    #[test]
    fn rests_double_up_to_a_second_and_start_over_after_success() {
        let mut back_off = BackOff::new(0);
        let mut whole = FIRST_US;
        for _ in 0..20 {
            let rest = back_off.next_us();
            assert!((whole / 2..=whole).contains(&rest), "{rest} of {whole}");
            whole = (whole * 2).min(LAST_US);
        }
        assert_eq!(whole, LAST_US);
        back_off.reset();
        assert!(back_off.next_us() <= FIRST_US);
    }

    #[test]
    fn links_with_different_seeds_rest_differently() {
        let rests = |seed| {
            let mut back_off = BackOff::new(seed);
            (0..6).map(|_| back_off.next_us()).collect::<Vec<_>>()
        };
        assert_ne!(rests(1), rests(2));
    }
}
