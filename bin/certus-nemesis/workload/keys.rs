//! The key space: which keys there are, and what is done with them.

use crate::random::Random;

const HOT_REGISTERS: u32 = 8;
const REGISTERS: u32 = 1500;
const PAIRS: u32 = 40;
const VERSIONED: u32 = 24;
const HOT_COUNTERS: u32 = 4;
const COUNTERS: u32 = 64;

/// How many keys there are.
pub const COUNT: u32 = REGISTERS + PAIRS + VERSIONED + COUNTERS;

/// What is done with a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Values are set, swapped, set on condition of the value, and read.
    Register,
    /// Two keys of one tag, always set and read together.
    Pair,
    /// Values are set on condition of the version, and read together with it.
    Versioned,
    /// Ones are added.
    Counter,
}

impl Kind {
    /// The kind of the key at this position.
    pub fn of(key: u32) -> Self {
        match key {
            0..REGISTERS => Self::Register,
            _ if key < REGISTERS + PAIRS => Self::Pair,
            _ if key < REGISTERS + PAIRS + VERSIONED => Self::Versioned,
            _ => Self::Counter,
        }
    }
}

/// A key by chance: often a hot one, else any.
pub fn draw(random: &mut Random) -> u32 {
    let below = |random: &mut Random, bound: u32| {
        let drawn = random.below(usize::try_from(bound).expect("a small number"));
        u32::try_from(drawn).expect("below a small number")
    };
    match below(random, 100) {
        0..30 => below(random, HOT_REGISTERS),
        30..60 => below(random, REGISTERS),
        60..70 => REGISTERS + below(random, PAIRS),
        70..82 => REGISTERS + PAIRS + below(random, VERSIONED),
        82..91 => REGISTERS + PAIRS + VERSIONED + below(random, HOT_COUNTERS),
        _ => REGISTERS + PAIRS + VERSIONED + below(random, COUNTERS),
    }
}

/// The key at this position; of a pair, the first.
pub fn name_of(key: u32) -> String {
    match Kind::of(key) {
        Kind::Register => format!("register-{key}"),
        Kind::Pair => format!("{{pair-{key}}}:one"),
        Kind::Versioned => format!("versioned-{key}"),
        Kind::Counter => format!("counter-{key}"),
    }
}

/// The second key of a pair.
pub fn second_name_of(key: u32) -> String {
    format!("{{pair-{key}}}:two")
}

#[cfg(test)]
mod tests {
    use super::{COUNT, Kind, draw, name_of};
    use crate::random::Random;

    #[test]
    fn all_kinds_are_drawn_and_no_name_is_given_twice() {
        let mut random = Random::new(1);
        let drawn: Vec<u32> = (0..1000).map(|_| draw(&mut random)).collect();
        for kind in [Kind::Register, Kind::Pair, Kind::Versioned, Kind::Counter] {
            assert!(drawn.iter().any(|key| Kind::of(*key) == kind), "{kind:?}");
        }
        assert!(drawn.iter().all(|key| *key < COUNT));
        let mut names: Vec<String> = (0..COUNT).map(name_of).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), usize::try_from(COUNT).unwrap());
    }
}
