//! What is known of one peer: the bytes of `peers/node-N`.
//!
//! ```text
//! offset  bytes  meaning, all little-endian
//!      0     16  incarnation met last; 0: none was met
//!     16      4  generation in which it was met
//!     20      4  latest generation of the peer that was heard of, never below the one before
//! ```
//!
//! Version 1 had the incarnation alone: both generations were 0.

use plog::vocabulary::Generation;

use crate::node::two_copies::FactKind;

/// The files of what is known.
pub(crate) const KIND: FactKind = FactKind { name: "node-", magic: *b"CertPeer", version: 2 };

/// What is known of one peer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KnownLife {
    /// The incarnation met last, unless none was met.
    pub incarnation: Option<u128>,
    /// The generation in which it was met.
    pub generation: Generation,
    /// The latest generation of the peer that was heard of, from itself or from others: its votes
    /// of earlier ones do not count.
    pub heard: Generation,
}

impl KnownLife {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.incarnation.unwrap_or(0).to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.generation.0.to_le_bytes());
        bytes.extend_from_slice(&self.heard.0.to_le_bytes());
        bytes
    }

    /// What `fact` holds; `None` when it cannot have been written so.
    pub(crate) fn decode(fact: &[u8]) -> Option<Self> {
        let (incarnation, rest) = fact.split_first_chunk::<16>()?;
        let incarnation = u128::from_le_bytes(*incarnation);
        let incarnation = (incarnation != 0).then_some(incarnation);
        if rest.is_empty() {
            return Some(Self { incarnation, ..Self::default() });
        }
        let (generation, heard) = rest.split_first_chunk::<4>()?;
        let number = |bytes: [u8; 4]| Generation(u32::from_le_bytes(bytes));
        let (generation, heard) = (number(*generation), number(heard.try_into().ok()?));
        let makes_sense = generation <= heard && heard <= Generation::LAST;
        makes_sense.then_some(Self { incarnation, generation, heard })
    }

    /// What counts when the two copies hold these: a crash between them leaves the first ahead.
    /// `None` when they contradict each other.
    pub(crate) fn later(self, other: Self) -> Option<Self> {
        let age = |life: Self| (life.generation, life.heard, life.incarnation.is_some());
        match age(self).cmp(&age(other)) {
            std::cmp::Ordering::Equal => (self == other).then_some(self),
            std::cmp::Ordering::Less => Some(other),
            std::cmp::Ordering::Greater => Some(self),
        }
    }

    /// What is known once the peer was met as `incarnation` of `generation`; `None` when it must
    /// not be let in: it has forgotten what it promised, or is an older copy of itself.
    ///
    /// One incarnation is let into each generation, so that two replacements of a node never share
    /// one.
    pub(super) fn met(self, incarnation: u128, generation: Generation) -> Option<Self> {
        let known = self.incarnation;
        let is_later =
            known.is_none_or(|known| known == incarnation) || generation > self.generation;
        if !is_later || generation < self.heard {
            return None;
        }
        Some(Self { incarnation: Some(incarnation), generation, heard: generation })
    }
}

#[cfg(test)]
mod tests {
    use plog::vocabulary::Generation;

    use super::KnownLife;

    const fn life(incarnation: u128, generation: u32, heard: u32) -> KnownLife {
        let incarnation = if incarnation == 0 { None } else { Some(incarnation) };
        KnownLife { incarnation, generation: Generation(generation), heard: Generation(heard) }
    }

    #[test]
    fn what_is_known_survives_and_version_1_is_of_generation_0() {
        for known in [life(7, 0, 0), life(7, 2, 5), life(0, 0, 3)] {
            assert_eq!(KnownLife::decode(&known.encode()), Some(known));
        }
        assert_eq!(KnownLife::decode(&9_u128.to_le_bytes()), Some(life(9, 0, 0)));
        for wrong in [life(7, 2, 1), life(7, 0, 4095)] {
            assert_eq!(KnownLife::decode(&wrong.encode()), None);
        }
        for length in (0..28).filter(|length| ![16, 24].contains(length)) {
            assert_eq!(KnownLife::decode(&vec![0; length]), None);
        }
    }

    #[test]
    fn one_incarnation_is_let_into_each_generation() {
        let never = KnownLife::default();
        assert_eq!(never.met(7, Generation(0)), Some(life(7, 0, 0)));
        let known = life(7, 1, 1);
        assert_eq!(known.met(7, Generation(1)), Some(known), "it came back");
        assert_eq!(known.met(7, Generation(0)), None, "an old copy of itself");
        assert_eq!(known.met(7, Generation(2)), Some(life(7, 2, 2)), "a log of it was damaged");
        assert_eq!(known.met(8, Generation(1)), None, "another one of the same generation");
        assert_eq!(known.met(8, Generation(2)), Some(life(8, 2, 2)), "it was replaced");
        // Others were told of a later one: whoever is of it may come, and nobody before it.
        let heard = life(7, 1, 3);
        assert_eq!(heard.met(7, Generation(1)), None);
        assert_eq!(heard.met(8, Generation(2)), None);
        assert_eq!(heard.met(8, Generation(3)), Some(life(8, 3, 3)));
        assert_eq!(life(0, 0, 2).met(8, Generation(1)), None);
    }

    #[test]
    fn of_two_copies_the_later_one_counts_and_contradictions_are_told() {
        assert_eq!(life(7, 0, 0).later(life(8, 1, 1)), Some(life(8, 1, 1)));
        assert_eq!(life(7, 0, 2).later(life(7, 0, 1)), Some(life(7, 0, 2)));
        assert_eq!(life(7, 0, 0).later(life(7, 0, 0)), Some(life(7, 0, 0)));
        assert_eq!(life(7, 0, 0).later(life(8, 0, 0)), None);
        assert_eq!(life(0, 0, 1).later(life(8, 1, 1)), Some(life(8, 1, 1)));
    }
}
