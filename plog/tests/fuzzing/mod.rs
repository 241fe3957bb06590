//! What the fuzz targets of all crates share.
//!
//! A target is a property of a decoder: something that holds for every input, good, hostile or
//! noise. An input is made by a [`Plan`]: a sample or a value made for the occasion, changed here
//! and there, with its checksums made right again or not. Plans come from `bolero`, which also
//! finds a small one when a property fails.
//!
//! In an ordinary test run the plans are the same every time ([`FixedSeeds`]); with one of
//! `bolero`'s own variables set, as `scripts/fuzz` does, its engine makes new ones.

pub mod allocation;
pub mod plan;

use std::collections::BTreeMap;
use std::env;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, catch_unwind};

use bolero::bolero_engine::input::Bytes;
use bolero::bolero_engine::{Engine, Failure, Test, panic};
use bolero::generator::TypeGenerator;
use bolero::generator::bolero_generator::driver;

pub use crate::fuzzing::plan::{Format, Plan};

/// Numbers that look random and are the same in every run (`SplitMix64`).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a size fits 64 bits");
        usize::try_from(self.next() % end).expect("below a size")
    }

    pub fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// Fewer than `end` bytes.
    pub fn bytes(&mut self, end: usize) -> Vec<u8> {
        (0..self.below(end)).map(|_| self.byte()).collect()
    }
}

/// What became of the inputs, so that a target none of whose inputs got anywhere fails.
#[derive(Debug, Default)]
pub struct Tally {
    outcomes: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts an outcome by the name of its variant.
    pub fn count(&mut self, outcome: &impl Debug) {
        let text = format!("{outcome:?}");
        let name =
            text.split(|letter: char| !letter.is_alphanumeric()).find(|part| !part.is_empty());
        *self.outcomes.entry(name.unwrap_or_default().to_owned()).or_default() += 1;
    }

    /// Fails unless each of these outcomes was met so often.
    pub fn expect(&self, least: u64, outcomes: &[&str]) {
        for outcome in outcomes {
            let count = self.outcomes.get(*outcome).copied().unwrap_or(0);
            assert!(count >= least, "{outcome} was met {count} times: {self:?}");
        }
    }
}

/// Bytes that a plan is made of. Few plans need so many.
const PLAN_BYTES: usize = 2048;

/// Makes the same plans in every run.
#[derive(Clone, Copy, Debug)]
pub struct FixedSeeds {
    /// How many plans.
    pub count: u64,
}

impl<T: Test> Engine<T> for FixedSeeds
where
    T::Value: Debug,
{
    type Output = ();

    fn run(self, mut test: T, options: driver::Options) {
        panic::set_hook();
        let forward = panic::forward_panic(false);
        for number in 0..self.count {
            let bytes = plan_bytes(number);
            let Err(error) = test.test(&mut Bytes::new(&bytes, &options)) else { continue };
            let failure = test.shrink(bytes.clone(), None, &options).unwrap_or_else(|| {
                let input = test.generate_value(&mut Bytes::new(&bytes, &options));
                Failure { seed: None, error, input }
            });
            panic::forward_panic(forward);
            panic!("fixed plan {number}, made smaller: {failure}");
        }
        panic::forward_panic(forward);
    }
}

fn plan_bytes(seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0xD134_2543_DE82_EF95));
    std::iter::repeat_with(|| random.next().to_le_bytes()).take(PLAN_BYTES / 8).flatten().collect()
}

/// Whether `bolero`'s own engine makes the plans.
pub fn makes_new_plans() -> bool {
    env::vars_os().any(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("BOLERO_RANDOM_") || name == "CARGO_BOLERO_SELECT"
    })
}

/// Runs a property, given a plan and a [`Tally`], on so many plans of the ordinary test run, or on
/// new ones; then `$expected`, given the tally.
macro_rules! fuzz {
    ($count:expr, $property:expr, $expected:expr) => {{
        let property: fn(&$crate::fuzzing::Plan, &mut $crate::fuzzing::Tally) = $property;
        let mut tally = $crate::fuzzing::Tally::default();
        if $crate::fuzzing::makes_new_plans() {
            bolero::check!()
                .with_type::<$crate::fuzzing::Plan>()
                .for_each(|plan: &$crate::fuzzing::Plan| property(plan, &mut tally));
        } else {
            bolero::TestTarget::new($crate::fuzzing::FixedSeeds { count: $count })
                .with_type::<$crate::fuzzing::Plan>()
                .for_each(|plan: &$crate::fuzzing::Plan| property(plan, &mut tally));
            let expected: fn(&$crate::fuzzing::Tally) = $expected;
            expected(&tally);
        }
    }};
}
pub(crate) use fuzz;

/// Whether a property fails for one of so many plans: it is given a decoder in which something was
/// planted.
pub fn fails<P>(count: u64, property: P) -> bool
where
    P: Fn(&Plan, &mut Tally) + RefUnwindSafe,
{
    let options = driver::Options::default();
    let mut tally = Tally::default();
    (0..count).any(|seed| {
        let bytes = plan_bytes(seed);
        let mut driver = driver::ByteSliceDriver::new(&bytes, &options);
        let Some(plan) = Plan::generate(&mut driver) else { return false };
        catch_unwind(AssertUnwindSafe(|| property(&plan, &mut tally))).is_err()
    })
}
