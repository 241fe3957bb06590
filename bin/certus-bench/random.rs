//! A small seeded random number generator (splitmix64).
//!
//! A run must be repeatable from its seed, and one draw must cost a few nanoseconds because the
//! bench shares its processor with the servers it measures.

/// A splitmix64 generator: every seed, zero included, gives a full period of 2^64 draws.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Returns a generator that repeats the same draws for the same `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Returns 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// Returns a number in `0..end`, each as likely as the next; `end` must not be zero.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "no number lies below zero");
        let product = u128::from(self.next_u64()) * u128::from(end);
        u64::try_from(product >> 64).expect("the upper half of a product fits 64 bits")
    }

    /// Returns a number in `[0, 1)` with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        const SCALE: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 * SCALE
    }
}

/// Spreads the bits of `value` over the whole word; different inputs give different outputs.
pub fn mix(value: u64) -> u64 {
    let mut mixed = value;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_same_seed_gives_the_same_draws() {
        // First output of the reference implementation for seed 0.
        assert_eq!(Random::new(0).next_u64(), 0xE220_A839_7B1D_CDAF);
        let (mut one, mut two) = (Random::new(7), Random::new(7));
        assert!((0..100).all(|_| one.next_u64() == two.next_u64()));
    }

    #[test]
    fn draws_stay_in_range_and_reach_every_number() {
        let mut random = Random::new(1);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            let drawn = usize::try_from(random.below(10)).unwrap();
            seen[drawn] += 1;
            assert!((0.0..1.0).contains(&random.unit()));
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
    }
}
