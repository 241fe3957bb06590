//! Which key the next request asks for: all alike, or few of them hot.
//!
//! The zipf sampler is rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to
//! generate variates from monotone discrete distributions", 1996): constant memory and about one
//! draw per sample for any number of keys. Its ranks are then scrambled by a bijection, so that
//! the hot keys are not neighbours and no two ranks fall on one key.

use std::str::FromStr;

use crate::random::{Random, mix};

/// How requests are spread over the keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Every key is as likely as the next.
    Uniform,
    /// The key of rank `r` has weight `1 / r^skew`.
    Zipf {
        /// Exponent, above zero; 0.99 is customary.
        skew: f64,
    },
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "uniform" {
            return Ok(Self::Uniform);
        }
        let skew = match text.split_once(':') {
            None if text == "zipf" => Some(0.99),
            Some(("zipf", skew)) => skew.parse().ok(),
            Some(_) | None => None,
        };
        match skew {
            Some(skew) if skew > 0.0 && skew <= 10.0 => Ok(Self::Zipf { skew }),
            Some(_) | None => Err(format!(
                "distribution {text:?} is not known: use uniform or zipf:SKEW with a skew above \
                 0 and up to 10, for example zipf:0.99"
            )),
        }
    }
}

/// Draws key indices in `0..key_count`.
#[derive(Clone, Debug)]
pub enum KeySampler {
    /// Every index alike.
    Uniform {
        /// How many keys there are.
        key_count: u64,
    },
    /// Ranks by [`Zipf`], scrambled.
    Zipf {
        /// Draws the rank.
        zipf: Zipf,
        /// Turns the rank into an index.
        scramble: Scramble,
    },
}

impl KeySampler {
    /// Returns a sampler over `key_count` keys, at least one.
    pub fn new(distribution: Distribution, key_count: u64) -> Self {
        assert!(key_count > 0, "a sampler needs at least one key");
        match distribution {
            Distribution::Uniform => Self::Uniform { key_count },
            Distribution::Zipf { skew } => {
                Self::Zipf { zipf: Zipf::new(key_count, skew), scramble: Scramble::new(key_count) }
            }
        }
    }

    /// Returns the index of the next key.
    pub fn sample(&self, random: &mut Random) -> u64 {
        match self {
            Self::Uniform { key_count } => random.below(*key_count),
            Self::Zipf { zipf, scramble } => scramble.apply(zipf.sample(random) - 1),
        }
    }
}

/// Draws ranks `1..=rank_count` with weight `1 / rank^skew`.
#[derive(Clone, Debug)]
pub struct Zipf {
    rank_count: f64,
    skew: f64,
    integral_first: f64,
    integral_last: f64,
    threshold: f64,
}

impl Zipf {
    /// Returns a sampler over `rank_count` ranks.
    pub fn new(rank_count: u64, skew: f64) -> Self {
        assert!(rank_count > 0 && skew > 0.0, "zipf over {rank_count} ranks, skew {skew}");
        let rank_count = rank_count as f64;
        Self {
            rank_count,
            skew,
            integral_first: integral(1.5, skew) - 1.0,
            integral_last: integral(rank_count + 0.5, skew),
            threshold: 2.0 - integral_inverse(integral(2.5, skew) - weight(2.0, skew), skew),
        }
    }

    /// Returns a rank, 1 being the hottest.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the rank was clamped to 1..=rank_count, which came from an integer"
    )]
    pub fn sample(&self, random: &mut Random) -> u64 {
        loop {
            let area =
                self.integral_last + random.unit() * (self.integral_first - self.integral_last);
            let inverse = integral_inverse(area, self.skew);
            let rank = (inverse + 0.5).floor().clamp(1.0, self.rank_count);
            if rank - inverse <= self.threshold
                || area >= integral(rank + 0.5, self.skew) - weight(rank, self.skew)
            {
                return rank as u64;
            }
        }
    }
}

/// The weight of `rank`.
fn weight(rank: f64, skew: f64) -> f64 {
    (-skew * rank.ln()).exp()
}

/// The integral of [`weight`], up to a constant: `(x^(1-skew) - 1) / (1-skew)`, `ln x` at skew 1.
fn integral(x: f64, skew: f64) -> f64 {
    let log = x.ln();
    exp_m1_over((1.0 - skew) * log) * log
}

/// The inverse of [`integral`].
fn integral_inverse(area: f64, skew: f64) -> f64 {
    // Rounding can push the argument just below the pole at -1.
    let scaled = (area * (1.0 - skew)).max(-1.0);
    (ln_1p_over(scaled) * area).exp()
}

/// `(e^x - 1) / x`, by its series near zero where the quotient loses its digits.
fn exp_m1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 * (1.0 + x / 3.0) }
}

/// `ln(1 + x) / x`, by its series near zero.
fn ln_1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x * (0.5 - x / 3.0) }
}

/// A bijection on `0..key_count` that looks random.
///
/// It permutes the smallest power of two that holds all keys with steps that can each be undone,
/// and walks on while the result lies outside: fewer than two rounds on average.
#[derive(Clone, Debug)]
pub struct Scramble {
    key_count: u64,
    mask: u64,
    shift: u32,
}

impl Scramble {
    /// Returns the bijection on `0..key_count`.
    pub fn new(key_count: u64) -> Self {
        let mask = key_count.checked_next_power_of_two().map_or(u64::MAX, |power| power - 1);
        Self { key_count, mask, shift: (mask.count_ones() / 2).max(1) }
    }

    /// Returns the image of `index`, which must be below `key_count`.
    pub fn apply(&self, index: u64) -> u64 {
        assert!(index < self.key_count, "{index} is not below {}", self.key_count);
        let mut image = index;
        loop {
            for round in 1..=3 {
                // An odd factor can be undone modulo a power of two, and so can a right shift.
                image = image.wrapping_mul(mix(round) | 1).wrapping_add(mix(!round)) & self.mask;
                image ^= image >> self.shift;
            }
            if image < self.key_count {
                return image;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Distribution, KeySampler, Scramble, Zipf};
    use crate::random::Random;
    use crate::slot::slot_of;

    #[test]
    fn zipf_frequencies_follow_the_weights() {
        const DRAWS: u32 = 200_000;
        for skew in [0.5, 0.99, 1.0, 1.5] {
            let zipf = Zipf::new(1000, skew);
            let mut random = Random::new(42);
            let mut counts = vec![0_u32; 1001];
            for _ in 0..DRAWS {
                counts[usize::try_from(zipf.sample(&mut random)).unwrap()] += 1;
            }
            assert_eq!(counts[0], 0);
            let total: f64 = (1..=1000_u32).map(|rank| f64::from(rank).powf(-skew)).sum();
            for rank in [1_u32, 2, 3, 10] {
                let want = f64::from(rank).powf(-skew) / total;
                let got = f64::from(counts[rank as usize]) / f64::from(DRAWS);
                let tolerance = 5.0 * (want / f64::from(DRAWS)).sqrt();
                assert!((got - want).abs() < tolerance, "{skew} {rank}: {got}, not {want}");
            }
        }
    }

    #[test]
    fn scrambling_loses_no_key() {
        for key_count in [1_u64, 2, 3, 100, 1024, 1025] {
            let scramble = Scramble::new(key_count);
            let mut images: Vec<u64> = (0..key_count).map(|index| scramble.apply(index)).collect();
            images.sort_unstable();
            assert_eq!(images, (0..key_count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn hot_keys_spread_over_the_slots() {
        let scramble = Scramble::new(100_000);
        let mut quarters = [0_u32; 4];
        for rank in 0..100 {
            let key = format!("key:{}", scramble.apply(rank));
            quarters[slot_of(key.as_bytes()) / 4096] += 1;
        }
        assert!(quarters.iter().all(|&count| count >= 10), "{quarters:?}");
    }

    #[test]
    fn one_key_is_always_drawn() {
        let mut random = Random::new(3);
        for text in ["uniform", "zipf", "zipf:1.2"] {
            let sampler = KeySampler::new(text.parse().unwrap(), 1);
            assert!((0..100).all(|_| sampler.sample(&mut random) == 0));
        }
    }

    #[test]
    fn a_distribution_is_read_or_refused_by_name() {
        assert_eq!("zipf:0.5".parse(), Ok(Distribution::Zipf { skew: 0.5 }));
        for text in ["", "zipf:", "zipf:-1", "zipf:NaN", "normal:1"] {
            let error = text.parse::<Distribution>().unwrap_err();
            assert!(error.contains(&format!("{text:?}")) && error.contains("use uniform"));
        }
    }
}
