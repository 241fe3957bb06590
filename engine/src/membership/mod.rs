//! Deciding the next configuration: one instance of Paxos for each version, on core 0 of each node.
//!
//! Instance v + 1 decides configuration v + 1. Its acceptors are the voters of v, so its quorums
//! are never in doubt, whoever knows of which version. The roles are the files of this folder. What
//! an acceptor promised and accepted is a fact of the node ([`MembershipVotes`]), durable before
//! anything leaves that was polled after it. See `docs/PROTOCOL.md`, "Membership".

use net::peer::message::{HeldVotes, MembershipMessage, MembershipState, PeerMessage};
use plog::configuration::{ChangeRefused, Configuration, Members};
use plog::vocabulary::{AcceptorId, Ballot};

use crate::context::{Context, Event};
use crate::membership::proposer::Round;
use crate::shard::PeerCore;
use crate::time::Time;

mod acceptor;
mod proposer;

#[cfg(test)]
mod tests;

/// The core of each node that decides.
pub const DECIDING_CORE: u16 = 0;

const NOTHING_HELD: HeldVotes = HeldVotes { promised: Ballot::NONE, accepted: None };

/// What is unanswered is asked again after so many times the retry.
const ASKS_AFTER_RETRIES: u64 = 4;

/// What a node promised and accepted as an acceptor of the next configuration. A fact of the node,
/// durable before it is told; when it is lost, the node's votes in that instance are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MembershipVotes {
    /// The instance that these are of; the node has said nothing in a later one.
    pub instance: u32,
    /// The highest ballot it promised.
    pub promised: Ballot,
    /// What it accepted last, and at which ballot.
    pub accepted: Option<(Ballot, Configuration)>,
    /// It has a vote in later instances only; `None` for a node that may have forgotten votes, and
    /// did not learn yet from others what these can have been.
    pub floor: Option<u32>,
}

impl MembershipVotes {
    /// Of a node that never voted.
    pub const NONE: Self =
        Self { instance: 0, promised: Ballot::NONE, accepted: None, floor: Some(0) };

    /// Of a node that lost what it voted.
    pub const LOST: Self = Self { floor: None, ..Self::NONE };
}

/// Why a change of the membership was not begun. Nothing was changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MembershipRefused {
    /// It does not fit.
    #[error("{reason}")]
    Change {
        /// Why.
        reason: ChangeRefused,
    },
    /// This node has none.
    #[error("the members of this cluster are those it was started with, for ever")]
    Static,
    /// Another one is being decided here.
    #[error("configuration {version} is being decided at this node; wait until it is")]
    UnderWay {
        /// The version.
        version: u32,
    },
    /// Whoever does not vote does not propose.
    #[error("node {node} has no vote; give the command to one that has: {voters}")]
    NotAVoter {
        /// This node.
        node: u8,
        /// Who votes.
        voters: Members,
    },
    /// The last change is not settled.
    #[error(
        "configuration {version} is settled by {settled} and {needed} voters have to; wait until \
         they hold what was chosen before it, then try again"
    )]
    NotSettled {
        /// The version.
        version: u32,
        /// Who settled it, as far as is known here.
        settled: Members,
        /// How many voters make a majority.
        needed: usize,
    },
    /// The learner is not in step.
    #[error("node {node} does not hold yet what was chosen before it was added; try again later")]
    LearnerBehind {
        /// The learner.
        node: u8,
    },
}

/// How the membership stands, as far as a node knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MembershipStatus {
    /// By which it goes.
    pub configuration: Configuration,
    /// Who settled that version.
    pub settled: Members,
    /// Whether a majority of the voters did, so that the next change may follow.
    pub is_settled: bool,
    /// The version that this node's operator wants decided.
    pub under_way: Option<u32>,
}

/// See the module page. Of all cores but [`DECIDING_CORE`] it stays as it was made.
#[derive(Debug)]
pub(crate) struct Membership {
    votes: MembershipVotes,
    round: Option<Round>,
    /// Who settled the present version, as far as is known.
    settled: Members,
    /// While it is not known where this node has a vote: who said in the present version what it
    /// holds.
    answered: Members,
    /// What they hold of the next configuration: the highest promise, and what was accepted last.
    found: HeldVotes,
    /// When it asks again.
    asks_at: Option<Time>,
    /// The highest ballot of its own in this boot: none is used twice, voter or not.
    used: Ballot,
}

impl Default for Membership {
    fn default() -> Self {
        Self {
            votes: MembershipVotes::NONE,
            round: None,
            settled: Members::NONE,
            answered: Members::NONE,
            found: NOTHING_HELD,
            asks_at: None,
            used: Ballot::NONE,
        }
    }
}

impl Membership {
    /// What the node held durably when it started.
    pub(crate) fn recover(&mut self, votes: MembershipVotes) {
        self.votes = votes;
        self.asks_at = self.votes.floor.is_none().then(Time::default);
    }

    /// What an acceptor says of itself.
    pub(crate) fn votes(&self) -> MembershipVotes {
        self.votes
    }

    /// When [`Membership::handle_tick`] is next needed.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.asks_at.into_iter().chain(self.round.as_ref().map(Round::due)).min()
    }

    /// A later version is adopted: nothing that was said in an earlier one matters any more.
    pub(crate) fn adopted(&mut self, context: &Context) {
        self.round = None;
        (self.settled, self.answered) = (Members::NONE, Members::NONE);
        self.found = NOTHING_HELD;
        if self.votes.floor.is_none() {
            self.asks_at = Some(context.now);
        }
    }

    /// A node has settled a version.
    pub(crate) fn note_settled(&mut self, context: &Context, node: AcceptorId, version: u32) {
        if version == context.configuration.version {
            self.settled = self.settled.with(node);
        }
    }

    /// Whether it is known that a majority of the voters settled the present version. The first
    /// one follows nothing.
    pub(crate) fn is_settled(&self, context: &Context) -> bool {
        let Configuration { version, voters, .. } = context.configuration;
        version == 0 || voters.is_majority(self.settled)
    }

    /// A later generation of a node is about: the earlier one's votes count no more.
    pub(crate) fn forget(&mut self, member: AcceptorId) {
        // Whoever is asked again may have promised more by then, never less.
        self.answered = self.answered.without(member);
        if let Some(round) = &mut self.round {
            round.forget(member);
        }
    }

    /// A message about membership. The configuration that it shows to be chosen, if it does.
    pub(crate) fn handle_message(
        &mut self,
        context: &mut Context,
        from: AcceptorId,
        message: &MembershipMessage,
    ) -> Option<Configuration> {
        match *message {
            MembershipMessage::Ask => {
                let state = self.state(context);
                send(context, from, MembershipMessage::State(state));
                None
            }
            MembershipMessage::State(state) => {
                self.handle_state(context, from, state);
                None
            }
            MembershipMessage::Prepare { instance, ballot } => {
                if let Some(answer) = self.promise(context, instance, ballot) {
                    send(context, from, answer);
                }
                None
            }
            MembershipMessage::Accept { instance, ballot, configuration } => {
                if let Some(answer) = self.accept(context, instance, ballot, configuration) {
                    send(context, from, answer);
                }
                None
            }
            MembershipMessage::Promise { .. }
            | MembershipMessage::Accepted { .. }
            | MembershipMessage::Refused { .. } => self.handle_answer(context, from, *message),
        }
    }

    /// Time passed.
    pub(crate) fn handle_tick(&mut self, context: &mut Context) -> Option<Configuration> {
        if self.asks_at.is_some_and(|at| at <= context.now) {
            let patience = ASKS_AFTER_RETRIES * context.config.retry_us;
            self.asks_at = Some(context.now.after_us(patience));
            self.ask(context, context.configuration.voters);
        }
        self.continue_round(context)
    }

    pub(crate) fn status(&self, context: &Context) -> MembershipStatus {
        let configuration = context.configuration;
        let settled =
            if configuration.version == 0 { configuration.members() } else { self.settled };
        let under_way = self.round.as_ref().map(Round::version);
        MembershipStatus { configuration, settled, is_settled: self.is_settled(context), under_way }
    }

    /// Asks all members what they know.
    pub(crate) fn ask_members(&self, context: &mut Context) {
        self.ask(context, context.configuration.members());
    }

    /// Asks nodes what they know.
    fn ask(&self, context: &mut Context, nodes: Members) {
        for node in nodes.without(context.me()).iter() {
            send(context, node, MembershipMessage::Ask);
        }
    }

    fn state(&self, context: &Context) -> MembershipState {
        let version = context.configuration.version;
        let votes = self.votes_in(version + 1);
        let held = votes.floor.map(|_| {
            let MembershipVotes { promised, accepted, .. } = votes;
            HeldVotes { promised, accepted }
        });
        let settled = version == 0 || self.settled.contains(context.me());
        MembershipState { version, held, settled }
    }

    fn handle_state(&mut self, context: &mut Context, from: AcceptorId, state: MembershipState) {
        if state.version != context.configuration.version {
            return; // late: whoever is behind hears of it with every message
        }
        if state.settled {
            self.settled = self.settled.with(from);
        }
        let Some(held) = state.held.filter(|_| self.votes.floor.is_none()) else { return };
        self.found.promised = held.promised.max(self.found.promised);
        self.found.accepted =
            [self.found.accepted, held.accepted].into_iter().flatten().max_by_key(|(at, _)| *at);
        self.answered = self.answered.with(from);
        let others = self.answered.without(context.me());
        if context.configuration.voters.is_majority(others) {
            // Whatever it may have forgotten counted together with what one of these holds; what
            // they come to hold later they give in knowledge of the loss.
            let HeldVotes { promised, accepted } = self.found;
            let (instance, floor) = (state.version + 1, Some(state.version));
            self.votes = MembershipVotes { instance, promised, accepted, floor };
            self.asks_at = None;
            context.events.push_back(Event::MembershipVotes(self.votes));
        }
    }
}

/// Sends to the deciding core of a node.
fn send(context: &mut Context, to: AcceptorId, message: MembershipMessage) {
    let peer = PeerCore { acceptor: to, core: DECIDING_CORE };
    context.counters.membership_messages += 1;
    context.send_to_core(peer, PeerMessage::Membership(message));
}
