//! The words shared by the log, the wire and consensus: ids, ballots, cursors.
//!
//! They stand in this crate because everything else depends on it. Each is a newtype, so that an
//! entry can never be passed where an entity is meant.

use rkyv::{Archive, Deserialize, Serialize};

/// A 64-bit id owning one strictly ordered log; the unit of ordering, atomicity and recovery
/// ("entity" in PaxosStore).
///
/// For keys it is made of the key's slot (upper 16 bits) and a stable 48-bit hash of the key's tag
/// (lower 48 bits); consensus treats it as opaque.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd,
)]
pub struct EntityId(pub u64);

impl EntityId {
    /// The cluster slot in the upper 16 bits, 0..16384 for an entity made from a key.
    #[must_use]
    pub fn slot(self) -> u16 {
        u16::try_from(self.0 >> 48).expect("a u64 shifted by 48 fits 16 bits")
    }
}

/// One slot of an entity's log, numbered 1, 2, 3 …; decided by one Paxos instance. 0 is "before
/// the first".
#[derive(
    Archive,
    Serialize,
    Deserialize,
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
)]
pub struct Entry(pub u64);

impl Entry {
    /// Before the first entry: nothing was ever decided.
    pub const ZERO: Self = Self(0);

    /// The entry after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("entries never run out"))
    }

    /// The entry before this one, and [`Entry::ZERO`] before itself.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// A replica's index 0..n in an entity's replica set (n = 3 or 5).
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd,
)]
pub struct AcceptorId(pub u8);

impl AcceptorId {
    /// This acceptor's position in a table of all acceptors.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Counts the starts of one node, from 1. Bumped and made durable before the node speaks, so that
/// nothing of an earlier start, even what never reached the disk, can be mistaken for this one's.
#[derive(
    Archive,
    Serialize,
    Deserialize,
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
)]
pub struct BootEpoch(pub u32);

impl BootEpoch {
    /// The generation that this boot belongs to.
    #[must_use]
    pub fn generation(self) -> Generation {
        Generation(self.0.saturating_sub(1) >> EPOCH_BITS)
    }
}

/// Boots of one generation: 2 to this power.
const EPOCH_BITS: u32 = 20;

/// Counts how often a node lost what it may have promised, from 0.
///
/// Generation g has the boot epochs g * 2^20 + 1 to (g + 1) * 2^20, so ballots and value ids of two
/// generations never collide, and whoever knows a boot knows its generation.
#[derive(
    Archive,
    Serialize,
    Deserialize,
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
)]
pub struct Generation(pub u32);

impl Generation {
    /// That of a node's first data directory.
    pub const FIRST: Self = Self(0);

    /// The last one: the boot epochs of the next would not fit 32 bits.
    pub const LAST: Self = Self((u32::MAX >> EPOCH_BITS) - 1);

    /// The next one, if there is one.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        (self < Self::LAST).then_some(Self(self.0 + 1))
    }

    /// The boot epoch before its first boot.
    ///
    /// # Panics
    ///
    /// Beyond [`Generation::LAST`].
    #[must_use]
    pub fn epoch_before(self) -> BootEpoch {
        assert!(self <= Self::LAST);
        BootEpoch(self.0 << EPOCH_BITS)
    }
}

/// A totally ordered proposal number, unique to one acceptor and one boot of it.
///
/// Ordered by round, then boot epoch, then acceptor. Round 0 is reserved for the pre-authorised
/// proposer; a real prepare uses round ≥ 1. [`Ballot::NONE`] is below every ballot anyone can own.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd,
)]
pub struct Ballot {
    // `derive(Ord)` compares in field order.
    /// Attempt number; 0 only for a pre-authorised proposal.
    pub round: u32,
    /// Boot epoch of the proposer, at least 1.
    pub epoch: BootEpoch,
    /// The proposer.
    pub acceptor: AcceptorId,
}

impl Ballot {
    /// "Prepared nothing, promised nothing, accepted nothing".
    pub const NONE: Self = Self { round: 0, epoch: BootEpoch(0), acceptor: AcceptorId(0) };

    /// The reserved ballot of a pre-authorised proposer.
    #[must_use]
    pub fn pre_authorised(epoch: BootEpoch, acceptor: AcceptorId) -> Self {
        assert!(epoch.0 > 0, "a node that speaks has a boot epoch");
        Self { round: 0, epoch, acceptor }
    }

    /// The smallest ballot of this proposer that is above `self` and not pre-authorised.
    #[must_use]
    pub fn next_for(self, epoch: BootEpoch, acceptor: AcceptorId) -> Self {
        assert!(epoch.0 > 0, "a node that speaks has a boot epoch");
        let round = self.round.checked_add(1).expect("rounds never run out");
        let next = Self { round, epoch, acceptor };
        assert!(next > self && next.round > 0);
        next
    }

    /// Whether this is [`Ballot::NONE`].
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl Default for Ballot {
    fn default() -> Self {
        Self::NONE
    }
}

/// Names a value for ever: the acceptor that first proposed it (its *originator*), that acceptor's
/// boot epoch, and a counter of that boot, from 1.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd,
)]
pub struct ValueId {
    /// Who first proposed the value. Only this acceptor may be pre-authorised for the next entry.
    pub originator: AcceptorId,
    /// The originator's boot.
    pub epoch: BootEpoch,
    /// Unique within that boot of that shard, from 1.
    pub counter: u64,
}

/// A position in a core's PLog: the number of a record, from 1. "Durable up to LSN x" is what
/// gates messages and replies. 0 is before the first record.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Depends on nothing: always durable.
    pub const ZERO: Self = Self(0);

    /// The LSN of the record after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("LSNs never run out"))
    }
}

#[cfg(test)]
mod tests {
    use super::{AcceptorId, Ballot, BootEpoch, Generation};

    #[test]
    fn ballots_order_by_round_then_epoch_then_acceptor() {
        let (a, b) = (AcceptorId(0), AcceptorId(2));
        let pre = Ballot::pre_authorised(BootEpoch(9), b);
        let first = Ballot::NONE.next_for(BootEpoch(1), a);
        assert!(Ballot::NONE < pre, "none is below even a pre-authorised ballot");
        assert!(pre < first, "every real prepare is above every pre-authorised ballot");
        assert!(first < Ballot::NONE.next_for(BootEpoch(1), b));
        assert!(first < Ballot::NONE.next_for(BootEpoch(2), a));
    }

    #[test]
    fn every_boot_belongs_to_one_generation() {
        assert_eq!(BootEpoch(1).generation(), Generation::FIRST);
        for generation in [Generation(0), Generation(1), Generation(77), Generation::LAST] {
            let before = generation.epoch_before().0;
            assert_eq!(BootEpoch(before + 1).generation(), generation);
            assert_eq!(BootEpoch(before + (1 << 20)).generation(), generation);
            let next = generation.next();
            assert_eq!(next.is_none(), generation == Generation::LAST);
            let after = BootEpoch(before + (1 << 20) + 1).generation();
            assert!(after > generation && next.is_none_or(|next| next == after));
        }
    }

    #[test]
    fn a_ballot_of_an_earlier_boot_is_never_made_again() {
        let a = AcceptorId(1);
        let before = Ballot::NONE.next_for(BootEpoch(1), a);
        let after = Ballot::NONE.next_for(BootEpoch(2), a);
        assert_ne!(before, after);
        assert!(before < after);
    }
}
