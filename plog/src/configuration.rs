//! Who votes: the replica set's members in one version.
//!
//! A version follows another by one node: a learner more, a learner that becomes a voter, or a
//! member less. So a majority of the voters of one and a majority of those of the next have a voter
//! in common, which all of `docs/PROTOCOL.md`, "Membership", rests on.

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

use crate::vocabulary::AcceptorId;

/// Most nodes that can be named: the slots of a replica set.
pub const SLOTS_MAX: u8 = 5;

/// A set of nodes of one replica set.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Members(u8);

impl Members {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// The nodes 0 to `count` - 1.
    ///
    /// # Panics
    ///
    /// When there are fewer slots.
    #[must_use]
    pub fn first(count: u8) -> Self {
        assert!(count <= SLOTS_MAX, "there are {SLOTS_MAX} slots, not {count}");
        Self((1 << count) - 1)
    }

    /// Those and one more.
    #[must_use]
    pub fn with(self, member: AcceptorId) -> Self {
        Self(self.0 | 1 << member.0)
    }

    /// Those without one.
    #[must_use]
    pub fn without(self, member: AcceptorId) -> Self {
        if self.contains(member) { Self(self.0 & !(1 << member.0)) } else { self }
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a node is one of them.
    #[must_use]
    pub fn contains(self, member: AcceptorId) -> bool {
        member.0 < SLOTS_MAX && self.0 & (1 << member.0) != 0
    }

    /// How many they are.
    #[must_use]
    pub fn count(self) -> usize {
        usize::try_from(self.0.count_ones()).expect("few")
    }

    /// Each of them, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = AcceptorId> + Clone + use<> {
        (0..SLOTS_MAX).map(AcceptorId).filter(move |member| self.contains(*member))
    }

    /// More than half of them.
    #[must_use]
    pub fn majority(self) -> usize {
        self.count() / 2 + 1
    }

    /// Whether `some` hold a majority of these.
    #[must_use]
    pub fn is_majority(self, some: Self) -> bool {
        self.and(some).count() >= self.majority()
    }
}

impl fmt::Display for Members {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.iter().map(|member| member.0.to_string()).collect();
        formatter.write_str(if names.is_empty() { "nobody" } else { "" })?;
        formatter.write_str(&names.join(", "))
    }
}

/// Who votes, and who only learns. See the module page.
///
/// Invariants: there is a voter, but in [`Configuration::UNKNOWN`]; nobody is voter and learner at
/// once.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Configuration {
    /// 0 for what a node is started with; each change is one more.
    pub version: u32,
    /// Who votes: a majority of them chooses.
    pub voters: Members,
    /// Who holds everything and has no vote.
    pub learners: Members,
}

/// One step from a version to the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// A node that is no member becomes a learner.
    AddLearner(AcceptorId),
    /// A learner becomes a voter.
    Promote(AcceptorId),
    /// A voter or learner is no member any more.
    Remove(AcceptorId),
}

impl Change {
    /// Whom it concerns.
    #[must_use]
    pub fn member(self) -> AcceptorId {
        match self {
            Self::AddLearner(member) | Self::Promote(member) | Self::Remove(member) => member,
        }
    }
}

/// Why a change does not fit a configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChangeRefused {
    /// A node that cannot be named.
    #[error("node {node} cannot be a member: nodes are numbered from 0 to {last}")]
    NoSuchSlot {
        /// The node.
        node: u8,
        /// The last number there is.
        last: u8,
    },
    /// It is a member.
    #[error("node {node} is a member already; remove it first if it is to be another one")]
    Member {
        /// The node.
        node: u8,
    },
    /// It is no learner.
    #[error("node {node} is no learner, and only a learner becomes a voter; add it first")]
    NotALearner {
        /// The node.
        node: u8,
    },
    /// It is no member.
    #[error("node {node} is no member, so it cannot be removed; members are {members}")]
    NotAMember {
        /// The node.
        node: u8,
        /// Who is.
        members: Members,
    },
    /// Nobody would vote.
    #[error("node {node} is the only voter; make another node a voter before it is removed")]
    LastVoter {
        /// The node.
        node: u8,
    },
}

/// Why something is no configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidConfiguration {
    /// Nobody votes.
    #[error("configuration {version} has no voter")]
    NoVoter {
        /// Its version.
        version: u32,
    },
    /// A node that cannot be named.
    #[error("configuration {version} names members {members} of a replica set of {slots}")]
    NoSuchSlot {
        /// Its version.
        version: u32,
        /// Its members.
        members: Members,
        /// How many slots there are.
        slots: u8,
    },
    /// A voter that is a learner.
    #[error("configuration {version} has {both} as voters and as learners")]
    Both {
        /// Its version.
        version: u32,
        /// Who is both.
        both: Members,
    },
    /// A version that no cluster reaches.
    #[error("version {version} is beyond every configuration a cluster can have")]
    ImplausibleVersion {
        /// The version.
        version: u32,
    },
}

impl Configuration {
    /// The largest plausible version.
    pub const VERSION_MAX: u32 = 1 << 31;

    /// Of a node that joins, or lost what it knew: it waits until it is told.
    pub const UNKNOWN: Self = Self { version: 0, voters: Members::NONE, learners: Members::NONE };

    /// Whether this one takes the place of `present`: it is later, or the first that is heard of.
    #[must_use]
    pub fn is_news_to(&self, present: &Self) -> bool {
        self.version > present.version || *present == Self::UNKNOWN && self.voters.count() > 0
    }

    /// Version 0: these nodes vote.
    ///
    /// # Panics
    ///
    /// Without a voter.
    #[must_use]
    pub fn founded_by(voters: Members) -> Self {
        assert!(voters.count() > 0, "somebody has to vote");
        Self { version: 0, voters, learners: Members::NONE }
    }

    /// Version 0: the nodes 0 to `voters` - 1 vote.
    ///
    /// # Panics
    ///
    /// Without a voter, or with more than there are slots.
    #[must_use]
    pub fn initial(voters: u8) -> Self {
        assert!(voters > 0, "somebody has to vote");
        Self { version: 0, voters: Members::first(voters), learners: Members::NONE }
    }

    /// Voters and learners.
    #[must_use]
    pub fn members(&self) -> Members {
        self.voters.or(self.learners)
    }

    /// How many voters make a majority.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.voters.majority()
    }

    /// The configuration after a change, in a replica set with so many slots.
    ///
    /// # Errors
    ///
    /// When the change does not fit.
    pub fn after(&self, change: Change, slots: u8) -> Result<Self, ChangeRefused> {
        let member = change.member();
        let node = member.0;
        if node >= slots.min(SLOTS_MAX) {
            return Err(ChangeRefused::NoSuchSlot { node, last: slots.min(SLOTS_MAX) - 1 });
        }
        let mut next = Self { version: self.version + 1, ..*self };
        match change {
            Change::AddLearner(_) if self.members().contains(member) => {
                return Err(ChangeRefused::Member { node });
            }
            Change::AddLearner(_) => next.learners = self.learners.with(member),
            Change::Promote(_) if !self.learners.contains(member) => {
                return Err(ChangeRefused::NotALearner { node });
            }
            Change::Promote(_) => {
                next.learners = self.learners.without(member);
                next.voters = self.voters.with(member);
            }
            Change::Remove(_) if !self.members().contains(member) => {
                return Err(ChangeRefused::NotAMember { node, members: self.members() });
            }
            Change::Remove(_) => {
                next.learners = self.learners.without(member);
                next.voters = self.voters.without(member);
                if next.voters.count() == 0 {
                    return Err(ChangeRefused::LastVoter { node });
                }
            }
        }
        assert!(next.follows(self), "one change makes the next version");
        Ok(next)
    }

    /// Whether this is what one change makes of `previous`.
    #[must_use]
    pub fn follows(&self, previous: &Self) -> bool {
        let gone = Members(previous.members().0 & !self.members().0);
        let added = Members(self.members().0 & !previous.members().0);
        let demoted = previous.voters.and(self.learners);
        let promoted = previous.learners.and(self.voters);
        let is_voter_at_once = added.and(self.voters).count() > 0;
        self.version == previous.version + 1
            && gone.count() + added.count() + promoted.count() == 1
            && demoted.count() == 0
            && !is_voter_at_once
            && self.voters.count() > 0
    }

    /// Checks what came from a disk or the wire, for a replica set with so many slots.
    ///
    /// # Errors
    ///
    /// Names what is wrong.
    pub fn validate(&self, slots: u8) -> Result<(), InvalidConfiguration> {
        let version = self.version;
        let both = self.voters.and(self.learners);
        let members = self.members();
        if version > Self::VERSION_MAX {
            Err(InvalidConfiguration::ImplausibleVersion { version })
        } else if u16::from(members.0) >> slots.min(SLOTS_MAX) != 0 {
            Err(InvalidConfiguration::NoSuchSlot { version, members, slots })
        } else if both.count() > 0 {
            Err(InvalidConfiguration::Both { version, both })
        } else if self.voters.count() == 0 && *self != Self::UNKNOWN {
            Err(InvalidConfiguration::NoVoter { version })
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, voters, learners } = self;
        write!(formatter, "version {version}, voters {voters}, learners {learners}")
    }
}

impl Members {
    /// A byte with a bit for each.
    #[must_use]
    pub fn to_bits(self) -> u8 {
        self.0
    }

    /// Those whose bits are set; [`Configuration::validate`] looks whether they can be.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, ChangeRefused, Configuration, Members, SLOTS_MAX};
    use crate::vocabulary::AcceptorId;

    fn changes() -> impl Iterator<Item = Change> {
        (0..=SLOTS_MAX).map(AcceptorId).flat_map(|member| {
            [Change::AddLearner(member), Change::Promote(member), Change::Remove(member)]
        })
    }

    /// Every configuration that changes can make of three voters.
    fn reachable() -> Vec<Configuration> {
        let mut all = vec![Configuration::initial(3)];
        let mut next = 0;
        while next < all.len() {
            let from = all[next];
            next += 1;
            for change in changes() {
                let Ok(to) = from.after(change, SLOTS_MAX) else { continue };
                let is_known = |known: &Configuration| {
                    (known.voters, known.learners) == (to.voters, to.learners)
                };
                if !all.iter().any(is_known) {
                    all.push(to);
                }
            }
        }
        all
    }

    #[test]
    fn all_majorities_of_neighbours_share_a_voter() {
        let all = reachable();
        // Each slot is a voter, a learner or nothing, and somebody votes.
        assert_eq!(all.len(), 3_usize.pow(5) - 2_usize.pow(5));
        let subsets = || (0..1_u8 << SLOTS_MAX).map(Members);
        let mut pairs = 0;
        for from in &all {
            assert_eq!(from.validate(SLOTS_MAX), Ok(()));
            for to in changes().filter_map(|change| from.after(change, SLOTS_MAX).ok()) {
                assert!(to.follows(from) && !from.follows(&to) && !to.follows(&to));
                for of_from in subsets().filter(|some| from.voters.is_majority(*some)) {
                    for of_to in subsets().filter(|some| to.voters.is_majority(*some)) {
                        let from_voters = of_from.and(from.voters);
                        assert!(from_voters.and(of_to.and(to.voters)).count() > 0);
                        pairs += 1;
                    }
                }
            }
        }
        assert!(pairs > 100_000, "{pairs}");
    }

    #[test]
    fn majorities_two_changes_apart_need_not_meet() {
        let three = Configuration::initial(3);
        let with = |to: Configuration, change| to.after(change, SLOTS_MAX).unwrap();
        let four = with(three, Change::AddLearner(AcceptorId(3)));
        let four = with(four, Change::Promote(AcceptorId(3)));
        let five = with(four, Change::AddLearner(AcceptorId(4)));
        let five = with(five, Change::Promote(AcceptorId(4)));
        let (early, late) = (Members(0b0_0011), Members(0b1_1100));
        assert!(three.voters.is_majority(early) && five.voters.is_majority(late));
        assert_eq!(early.and(late), Members::NONE);
    }

    #[test]
    fn a_change_that_does_not_fit_is_refused_with_what_to_do() {
        let one = Configuration::initial(1);
        let refused = |change| one.after(change, 3).unwrap_err();
        let node = AcceptorId;
        let members = one.voters;
        assert_eq!(refused(Change::Remove(node(0))), ChangeRefused::LastVoter { node: 0 });
        let absent = ChangeRefused::NotAMember { node: 1, members };
        assert_eq!(refused(Change::Remove(node(1))), absent);
        assert_eq!(refused(Change::Promote(node(1))), ChangeRefused::NotALearner { node: 1 });
        assert_eq!(refused(Change::AddLearner(node(0))), ChangeRefused::Member { node: 0 });
        let outside = ChangeRefused::NoSuchSlot { node: 3, last: 2 };
        assert_eq!(refused(Change::AddLearner(node(3))), outside);
        assert!(absent.to_string().ends_with("members are 0"));
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        let good = Configuration::initial(3);
        let invalid = |configuration: Configuration| configuration.validate(3).is_err();
        assert!(!invalid(good));
        assert!(invalid(Configuration { version: 1, voters: Members::NONE, ..good }));
        assert!(!invalid(Configuration::UNKNOWN));
        assert!(invalid(Configuration { learners: Members(0b100), ..good }));
        assert!(invalid(Configuration { learners: Members(0b1000), ..good }));
        assert!(invalid(Configuration { learners: Members(0b1000_0000), ..good }));
        assert!(invalid(Configuration { version: u32::MAX, ..good }));
    }
}
