//! By which configuration a node goes, and what it promised of the next: the bytes of `membership`.
//!
//! ```text
//! offset  bytes  meaning, all little-endian
//!      0      6  configuration by which the node goes
//!      6      1  1: it knows up to which instance it may have forgotten votes; 0: it does not
//!      7      1  1: it accepted a configuration in the instance below; 0: none
//!      8      4  that instance; 0 while it does not know
//!     12      4  instance of the votes that follow
//!     16      9  highest ballot it promised
//!     25      9  ballot at which it accepted last; 0 for none
//!     34      6  what it accepted; 0 for nothing
//! ```
//!
//! A configuration is its version (4 bytes), its voters and its learners (a byte each, a bit for
//! each node). A ballot is its round (4), the boot epoch of its proposer (4), and the proposer (1).

use engine::membership::MembershipVotes;
use plog::configuration::{Configuration, Members, SLOTS_MAX};
use plog::vocabulary::{AcceptorId, Ballot, BootEpoch};

use crate::node::two_copies::FactKind;

/// The file.
pub(crate) const MEMBERSHIP: FactKind =
    FactKind { name: "membership", magic: *b"CertMbrs", version: 1 };

const SIZE: usize = 40;

/// See the module page. It only grows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MembershipFacts {
    /// By which the node goes.
    pub configuration: Configuration,
    /// What it promised and accepted of the next.
    pub votes: MembershipVotes,
}

impl MembershipFacts {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { configuration, votes } = self;
        let nothing = Configuration::UNKNOWN;
        let (accepted_at, accepted) = votes.accepted.unwrap_or((Ballot::NONE, nothing));
        let mut bytes = Vec::with_capacity(SIZE);
        push_configuration(&mut bytes, configuration);
        bytes.push(u8::from(votes.floor.is_some()));
        bytes.push(u8::from(votes.accepted.is_some()));
        bytes.extend_from_slice(&votes.floor.unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&votes.instance.to_le_bytes());
        push_ballot(&mut bytes, votes.promised);
        push_ballot(&mut bytes, accepted_at);
        push_configuration(&mut bytes, &accepted);
        bytes
    }

    /// What `fact` holds; `None` when it cannot have been written so.
    pub(crate) fn decode(fact: &[u8]) -> Option<Self> {
        let bytes: &[u8; SIZE] = fact.try_into().ok()?;
        let flag = |at: usize| match bytes[at] {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        let (knows_floor, has_accepted) = (flag(6)?, flag(7)?);
        let configuration = configuration_at(bytes, 0);
        let (floor, instance) = (u32_at(bytes, 8), u32_at(bytes, 12));
        let (promised, accepted_at) = (ballot_at(bytes, 16), ballot_at(bytes, 25));
        let accepted = configuration_at(bytes, 34);
        configuration.validate(SLOTS_MAX).ok()?;
        accepted.validate(SLOTS_MAX).ok()?;
        let is_sound = (knows_floor || floor == 0)
            && accepted_at <= promised
            && has_accepted == (accepted_at != Ballot::NONE)
            && has_accepted == (accepted != Configuration::UNKNOWN)
            && (!has_accepted || accepted.version == instance);
        let votes = MembershipVotes {
            instance,
            promised,
            accepted: has_accepted.then_some((accepted_at, accepted)),
            floor: knows_floor.then_some(floor),
        };
        is_sound.then_some(Self { configuration, votes })
    }

    /// What counts when the two copies hold these: a crash between them leaves the first ahead.
    /// `None` when they contradict each other.
    pub(crate) fn later(self, other: Self) -> Option<Self> {
        let age = |facts: Self| {
            let Self { configuration, votes } = facts;
            let accepted = votes.accepted.map(|(ballot, _)| ballot);
            (
                (configuration != Configuration::UNKNOWN, configuration.version),
                (votes.instance, votes.promised, accepted, votes.floor),
            )
        };
        let (own, others) = (age(self), age(other));
        let is_ahead = own.0 >= others.0 && own.1 >= others.1;
        let is_behind = own.0 <= others.0 && own.1 <= others.1;
        match (is_ahead, is_behind) {
            (true, true) => (self == other).then_some(self),
            (true, false) => Some(self),
            (false, true) => Some(other),
            (false, false) => None,
        }
    }
}

fn push_configuration(bytes: &mut Vec<u8>, configuration: &Configuration) {
    bytes.extend_from_slice(&configuration.version.to_le_bytes());
    bytes.extend_from_slice(&[configuration.voters.to_bits(), configuration.learners.to_bits()]);
}

fn push_ballot(bytes: &mut Vec<u8>, ballot: Ballot) {
    bytes.extend_from_slice(&ballot.round.to_le_bytes());
    bytes.extend_from_slice(&ballot.epoch.0.to_le_bytes());
    bytes.push(ballot.acceptor.0);
}

fn u32_at(bytes: &[u8; SIZE], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn configuration_at(bytes: &[u8; SIZE], at: usize) -> Configuration {
    Configuration {
        version: u32_at(bytes, at),
        voters: Members::from_bits(bytes[at + 4]),
        learners: Members::from_bits(bytes[at + 5]),
    }
}

fn ballot_at(bytes: &[u8; SIZE], at: usize) -> Ballot {
    let (round, epoch) = (u32_at(bytes, at), BootEpoch(u32_at(bytes, at + 4)));
    Ballot { round, epoch, acceptor: AcceptorId(bytes[at + 8]) }
}

#[cfg(test)]
mod tests {
    use engine::membership::MembershipVotes;
    use plog::configuration::{Change, Configuration};
    use plog::vocabulary::{AcceptorId, Ballot, BootEpoch};

    use super::MembershipFacts;

    fn ballot(round: u32) -> Ballot {
        Ballot { round, epoch: BootEpoch(7), acceptor: AcceptorId(2) }
    }

    fn facts() -> MembershipFacts {
        let first = Configuration::initial(3);
        let next = first.after(Change::AddLearner(AcceptorId(4)), 5).unwrap();
        let accepted = Some((ballot(3), next));
        let votes = MembershipVotes { instance: 1, promised: ballot(5), accepted, floor: Some(0) };
        MembershipFacts { configuration: first, votes }
    }

    #[test]
    fn what_a_node_promised_survives_and_what_makes_no_sense_is_refused() {
        let unknown = Configuration::UNKNOWN;
        let lost = MembershipFacts { configuration: unknown, votes: MembershipVotes::LOST };
        let promised = MembershipVotes { accepted: None, ..facts().votes };
        for known in [facts(), lost, MembershipFacts { votes: promised, ..facts() }] {
            assert_eq!(MembershipFacts::decode(&known.encode()), Some(known));
        }
        let bytes = facts().encode();
        // A third value of a flag; accepted above the promise; voters of no slot; learner and
        // voter at once; accepted for another instance; nothing accepted that is named.
        for (at, byte) in [(6, 2), (16, 2), (4, 0x20), (5, 1), (12, 2), (7, 0)] {
            let mut wrong = bytes.clone();
            wrong[at] = byte;
            assert_eq!(MembershipFacts::decode(&wrong), None, "byte {at}");
        }
        assert_eq!(MembershipFacts::decode(&bytes[1..]), None);
    }

    #[test]
    fn of_two_copies_the_later_one_counts_and_contradictions_are_told() {
        let known = facts();
        let adopted = MembershipFacts { configuration: known.votes.accepted.unwrap().1, ..known };
        let promised = MembershipFacts {
            votes: MembershipVotes { promised: ballot(6), ..known.votes },
            ..known
        };
        for later in [adopted, promised] {
            assert_eq!(later.later(known), Some(later));
            assert_eq!(known.later(later), Some(later));
            assert_eq!(later.later(later), Some(later));
        }
        assert_eq!(adopted.later(promised), None, "each is ahead of the other");
        let other = known.configuration.after(Change::AddLearner(AcceptorId(3)), 5).unwrap();
        let other = MembershipFacts { configuration: other, ..known };
        assert_eq!(adopted.later(other), None, "one version, two configurations");
        let unknown = MembershipFacts { configuration: Configuration::UNKNOWN, ..known };
        assert_eq!(unknown.later(known), Some(known));
    }
}
