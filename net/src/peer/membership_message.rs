//! What core 0 of one node tells core 0 of another about the next configuration.
//!
//! Instance v + 1 decides configuration v + 1, and its acceptors are the voters of v. See
//! `docs/PROTOCOL.md`, "Membership".

#![expect(missing_docs, reason = "of what rkyv derives; all fields here have theirs")]

use plog::configuration::Configuration;
use plog::vocabulary::Ballot;
use rkyv::{Archive, Deserialize, Serialize};

/// See the module page.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub enum MembershipMessage {
    /// What do you know of membership?
    Ask,
    /// Answer to [`MembershipMessage::Ask`].
    State(MembershipState),
    /// Asks for a promise.
    Prepare {
        /// The instance, at least 1.
        instance: u32,
        /// The ballot.
        ballot: Ballot,
    },
    /// No lower ballot will be accepted. Durable at the sender.
    Promise {
        /// The instance.
        instance: u32,
        /// The ballot that was asked for.
        ballot: Ballot,
        /// What the sender accepted last, and at which ballot.
        accepted: Option<(Ballot, Configuration)>,
    },
    /// Asks for a vote.
    Accept {
        /// The instance.
        instance: u32,
        /// The ballot.
        ballot: Ballot,
        /// The value.
        configuration: Configuration,
    },
    /// A vote. Durable at the sender.
    Accepted {
        /// The instance.
        instance: u32,
        /// The ballot.
        ballot: Ballot,
    },
    /// The sender promised a higher ballot than was asked for.
    Refused {
        /// The instance.
        instance: u32,
        /// The ballot that it promised.
        ballot: Ballot,
    },
}

/// What a node knows of membership.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct MembershipState {
    /// The version by which it goes.
    pub version: u32,
    /// What it promised and accepted in the instance after that version; `None` while it asks that
    /// itself, because it may have forgotten some.
    pub held: Option<HeldVotes>,
    /// Whether all its cores settled that version.
    pub settled: bool,
}

/// What an acceptor holds of the next configuration. Durable at the sender.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeldVotes {
    /// The highest ballot that it promised.
    pub promised: Ballot,
    /// What it accepted last, and at which ballot.
    pub accepted: Option<(Ballot, Configuration)>,
}
