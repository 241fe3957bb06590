//! What a message from a peer has to satisfy before consensus sees it.
//!
//! The archive's own check proves that bytes are messages; these rules prove that the messages make
//! sense. Beyond them, numbers that no cluster reaches in its life (a round above [`ROUND_MAX`], an
//! entry above [`ENTRY_MAX`]) are refused, so that adding one to a peer's number never overflows.

use plog::configuration::{Configuration, InvalidConfiguration};
use plog::entry_record::{EntryRecord, InvalidRecord};
use plog::vocabulary::{Ballot, Entry, Generation, ValueId};

use crate::peer::message::{
    CarriedValue, LagFound, LagQuestion, LagRequest, MembershipMessage, PeerMessage, ToldNotice,
    TransferRequest,
};

/// Most values one entry message carries: the accepted one and the requested one.
pub const VALUES_MAX: usize = 2;

/// Largest plausible entry: at a million entries per second, some 146,000 years.
pub const ENTRY_MAX: Entry = Entry(1 << 62);

/// Largest plausible round of a ballot.
pub const ROUND_MAX: u32 = 1 << 31;

/// Whose record a message's record is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Whose {
    /// The sender's.
    #[error("the sender's")]
    Mine,
    /// The receiver's, as the sender knows it.
    #[error("the receiver's")]
    Yours,
}

/// Which rule a message breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidMessage {
    /// A record breaks its own rules.
    #[error("{whose} record is invalid: {reason}")]
    Record {
        /// Whose record.
        whose: Whose,
        /// Which rule.
        reason: InvalidRecord,
    },
    /// Entries count from 1.
    #[error("entry 0 does not exist, entries count from 1")]
    EntryZero,
    /// An entry beyond [`ENTRY_MAX`].
    #[error("entry {} is beyond every entry a log can reach", entry.0)]
    ImplausibleEntry {
        /// The entry.
        entry: Entry,
    },
    /// A ballot's round beyond [`ROUND_MAX`].
    #[error("round {round} is beyond every round a proposer can reach")]
    ImplausibleRound {
        /// The round.
        round: u32,
    },
    /// A generation beyond [`Generation::LAST`].
    #[error("generation {generation} is beyond every generation a node can have")]
    ImplausibleGeneration {
        /// The generation.
        generation: u32,
    },
    /// The acceptor of a ballot or value is outside the replica set.
    #[error("acceptor {acceptor} is not in a replica set of {replicas}")]
    ForeignAcceptor {
        /// The acceptor named.
        acceptor: u8,
        /// Size of the replica set.
        replicas: u8,
    },
    /// A request asks for a promise of nothing.
    #[error("a request without a ballot")]
    RequestWithoutBallot,
    /// More than [`VALUES_MAX`] values.
    #[error("{count} values are carried, at most {VALUES_MAX} can be named")]
    TooManyValues {
        /// How many.
        count: usize,
    },
    /// A node without a core asks, or is asked.
    #[error("a node has at least one core, not 0")]
    NoCores,
    /// A range that ends before it begins.
    #[error("range from entry {} to entry {} ends before it begins", first.0, last.0)]
    InvertedRange {
        /// First entry.
        first: Entry,
        /// Last entry.
        last: Entry,
    },
    /// Entries of a catch-up answer do not follow each other.
    #[error("entry {} follows entry {} in a catch-up answer", next.0, previous.0)]
    NotConsecutive {
        /// The entry before.
        previous: Entry,
        /// The entry after it.
        next: Entry,
    },
    /// Something is no configuration.
    #[error("{reason}")]
    Configuration {
        /// Which rule it breaks.
        reason: InvalidConfiguration,
    },
    /// An instance of membership that there cannot be.
    #[error("instance {instance} of membership does not exist; they count from 1 up to {last}")]
    ImplausibleInstance {
        /// The instance.
        instance: u32,
        /// The last one there can be.
        last: u32,
    },
    /// A configuration is proposed as another version than its instance decides.
    #[error("instance {instance} of membership is to decide configuration {version}")]
    OtherInstance {
        /// The instance.
        instance: u32,
        /// The configuration's version.
        version: u32,
    },
}

/// Checks a message from a peer of a replica set of `replicas`.
///
/// # Errors
///
/// Names the first rule that is broken.
pub fn check(message: &PeerMessage, replicas: u8) -> Result<(), InvalidMessage> {
    let rules = Rules { replicas };
    match message {
        PeerMessage::Entry(message) => {
            check_entry(message.entry)?;
            check_plausible(message.max_chosen)?;
            rules.check_record(&message.mine, Whose::Mine)?;
            rules.check_record(&message.yours, Whose::Yours)?;
            if let Some(request) = &message.request {
                if request.ballot.is_none() {
                    return Err(InvalidMessage::RequestWithoutBallot);
                }
                rules.check_ballot(request.ballot)?;
                request.value_id.map_or(Ok(()), |id| rules.check_value_id(id))?;
            }
            if message.values.len() > VALUES_MAX {
                return Err(InvalidMessage::TooManyValues { count: message.values.len() });
            }
            message.values.iter().try_for_each(|value| rules.check_value(value))
        }
        PeerMessage::Chosen(message) => {
            check_entry(message.entry)?;
            rules.check_ballot(message.ballot)?;
            rules.check_value_id(message.value_id)
        }
        PeerMessage::Newer(message) => check_plausible(message.max_chosen),
        PeerMessage::ReadCheck(message) => check_entry(message.entry),
        PeerMessage::ReadAnswer(message) => {
            check_entry(message.entry)?;
            check_plausible(message.max_chosen)?;
            check_plausible(message.applied)
        }
        PeerMessage::CatchUp(message) => {
            check_entry(message.first)?;
            check_entry(message.last)?;
            if message.first > message.last {
                let (first, last) = (message.first, message.last);
                return Err(InvalidMessage::InvertedRange { first, last });
            }
            Ok(())
        }
        PeerMessage::CatchUpAnswer(message) => {
            check_plausible(message.max_chosen)?;
            for chosen in &message.entries {
                check_entry(chosen.entry)?;
                rules.check_ballot(chosen.ballot)?;
                rules.check_value(&chosen.value)?;
            }
            for pair in message.entries.windows(2) {
                let (previous, next) = (pair[0].entry, pair[1].entry);
                if next != previous.next() {
                    return Err(InvalidMessage::NotConsecutive { previous, next });
                }
            }
            Ok(())
        }
        PeerMessage::Image(message) => {
            check_plausible(message.applied)?;
            check_plausible(message.max_chosen)?;
            message.last_value_id.map_or(Ok(()), |id| rules.check_value_id(id))
        }
        PeerMessage::SweepAnswer(message) => {
            for swept in &message.entities {
                check_plausible(swept.last)?;
                if swept.chosen > swept.last {
                    let (first, last) = (swept.chosen, swept.last);
                    return Err(InvalidMessage::InvertedRange { first, last });
                }
            }
            message.counts_for.map_or(Ok(()), check_generation)
        }
        PeerMessage::Generations(message) => {
            message.known.iter().try_for_each(|generation| check_generation(*generation))
        }
        PeerMessage::Finish(message) => check_entry(message.entry),
        PeerMessage::Compared(message) => check_plausible(message.applied),
        PeerMessage::Copy(message) => check_plausible(message.entry),
        PeerMessage::Lag(message) => check_lag(message),
        PeerMessage::LagAnswer(message) => check_found(&message.found),
        PeerMessage::Transfer(TransferRequest { core_count: 0, .. }) => {
            Err(InvalidMessage::NoCores)
        }
        PeerMessage::Configuration(configuration) => rules.check_configuration(configuration),
        PeerMessage::Membership(message) => rules.check_membership(message),
        PeerMessage::Follow(message) if message.core_count == 0 => Err(InvalidMessage::NoCores),
        PeerMessage::Told(message) => rules.check_told(message),
        PeerMessage::Follow(_)
        | PeerMessage::FollowAnswer(_)
        | PeerMessage::Forward(_)
        | PeerMessage::ForwardAnswer(_)
        | PeerMessage::Sweep(_)
        | PeerMessage::SweepHint
        | PeerMessage::Transfer(_)
        | PeerMessage::TransferPage(_)
        | PeerMessage::Compare(_)
        | PeerMessage::Heartbeat => Ok(()),
    }
}

/// What a replica asks another that it lacks.
fn check_lag(message: &LagRequest) -> Result<(), InvalidMessage> {
    match message.asks {
        _ if message.core_count == 0 => Err(InvalidMessage::NoCores),
        LagQuestion::Range(range) if range.core_count == 0 => Err(InvalidMessage::NoCores),
        LagQuestion::Nothing
        | LagQuestion::Since
        | LagQuestion::More(_)
        | LagQuestion::Range(_) => Ok(()),
    }
}

/// What a replica tells another that it lacks.
fn check_found(found: &LagFound) -> Result<(), InvalidMessage> {
    match found {
        LagFound::Page(page) => {
            page.entities.iter().try_for_each(|lagging| check_entry(lagging.chosen))
        }
        LagFound::Abstains | LagFound::Unknown | LagFound::Equal | LagFound::EqualWithoutChains => {
            Ok(())
        }
    }
}

/// A generation that a node can have.
fn check_generation(generation: Generation) -> Result<(), InvalidMessage> {
    if generation > Generation::LAST {
        return Err(InvalidMessage::ImplausibleGeneration { generation: generation.0 });
    }
    Ok(())
}

/// An entry that exists.
fn check_entry(entry: Entry) -> Result<(), InvalidMessage> {
    if entry == Entry::ZERO {
        return Err(InvalidMessage::EntryZero);
    }
    check_plausible(entry)
}

/// An entry, or 0 for none.
fn check_plausible(entry: Entry) -> Result<(), InvalidMessage> {
    if entry > ENTRY_MAX {
        return Err(InvalidMessage::ImplausibleEntry { entry });
    }
    Ok(())
}

struct Rules {
    replicas: u8,
}

impl Rules {
    fn check_acceptor(&self, acceptor: u8) -> Result<(), InvalidMessage> {
        if acceptor >= self.replicas {
            return Err(InvalidMessage::ForeignAcceptor { acceptor, replicas: self.replicas });
        }
        Ok(())
    }

    fn check_ballot(&self, ballot: Ballot) -> Result<(), InvalidMessage> {
        if ballot.round > ROUND_MAX {
            return Err(InvalidMessage::ImplausibleRound { round: ballot.round });
        }
        self.check_acceptor(ballot.acceptor.0)
    }

    fn check_configuration(&self, configuration: &Configuration) -> Result<(), InvalidMessage> {
        configuration
            .validate(self.replicas)
            .map_err(|reason| InvalidMessage::Configuration { reason })
    }

    fn check_membership(&self, message: &MembershipMessage) -> Result<(), InvalidMessage> {
        let last = Configuration::VERSION_MAX;
        let plausible = |instance: u32, first: u32| {
            let is_one = (first..=last).contains(&instance);
            is_one.then_some(()).ok_or(InvalidMessage::ImplausibleInstance { instance, last })
        };
        match message {
            MembershipMessage::Ask => Ok(()),
            MembershipMessage::State(state) => {
                plausible(state.version, 0)?;
                let Some(held) = state.held else { return Ok(()) };
                self.check_ballot(held.promised)?;
                held.accepted.map_or(Ok(()), |(at, value)| {
                    self.check_ballot(at)?;
                    self.check_next(state.version + 1, &value)
                })
            }
            MembershipMessage::Prepare { instance, ballot }
            | MembershipMessage::Promise { instance, ballot, accepted: None }
            | MembershipMessage::Accepted { instance, ballot }
            | MembershipMessage::Refused { instance, ballot } => {
                plausible(*instance, 1)?;
                self.check_ballot(*ballot)
            }
            MembershipMessage::Promise { instance, ballot, accepted: Some((at, value)) } => {
                plausible(*instance, 1)?;
                self.check_ballot(*ballot)?;
                self.check_ballot(*at)?;
                self.check_next(*instance, value)
            }
            MembershipMessage::Accept { instance, ballot, configuration } => {
                plausible(*instance, 1)?;
                self.check_ballot(*ballot)?;
                self.check_next(*instance, configuration)
            }
        }
    }

    /// A configuration that an instance may decide.
    fn check_next(&self, instance: u32, value: &Configuration) -> Result<(), InvalidMessage> {
        let version = value.version;
        if version != instance {
            return Err(InvalidMessage::OtherInstance { instance, version });
        }
        self.check_configuration(value)
    }

    fn check_value_id(&self, id: ValueId) -> Result<(), InvalidMessage> {
        self.check_acceptor(id.originator.0)
    }

    /// What a replica tells a follower.
    fn check_told(&self, notice: &ToldNotice) -> Result<(), InvalidMessage> {
        check_entry(notice.entry)?;
        notice.value.as_ref().map_or(Ok(()), |told| {
            self.check_ballot(told.ballot)?;
            self.check_value(&told.value)
        })
    }

    fn check_value(&self, value: &CarriedValue) -> Result<(), InvalidMessage> {
        self.check_value_id(value.id)
    }

    fn check_record(&self, record: &EntryRecord, whose: Whose) -> Result<(), InvalidMessage> {
        record
            .validate_for(self.replicas)
            .map_err(|reason| InvalidMessage::Record { whose, reason })?;
        self.check_ballot(record.prepared)?;
        self.check_ballot(record.promised)?;
        self.check_ballot(record.accepted)
    }
}
