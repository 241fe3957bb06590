//! The acceptor of the next configuration: promises and votes, durable before they are told.

use net::peer::message::MembershipMessage;
use plog::configuration::Configuration;
use plog::vocabulary::Ballot;

use crate::context::{Context, Event};
use crate::membership::{Membership, MembershipVotes};

impl Membership {
    /// Whether this node has a vote on the version after its own: it is a voter of its own, and
    /// forgot nothing of that instance.
    fn may_vote(&self, context: &Context, instance: u32) -> bool {
        let configuration = &context.configuration;
        instance == configuration.version + 1
            && configuration.voters.contains(context.me())
            && self.votes.floor.is_some_and(|floor| instance > floor)
    }

    /// The votes in an instance; of an earlier one they are of no use any more.
    pub(super) fn votes_in(&self, instance: u32) -> MembershipVotes {
        if self.votes.instance == instance {
            self.votes
        } else {
            MembershipVotes { instance, floor: self.votes.floor, ..MembershipVotes::NONE }
        }
    }

    /// The highest ballot promised in an instance.
    pub(super) fn promised(&self, instance: u32) -> Ballot {
        self.votes_in(instance).promised
    }

    fn change(&mut self, context: &mut Context, votes: MembershipVotes) {
        if votes != self.votes {
            assert!(votes.instance >= self.votes.instance, "instances follow each other");
            self.votes = votes;
            context.events.push_back(Event::MembershipVotes(votes));
        }
    }

    /// Asked for a promise: the answer, if there is one.
    pub(super) fn promise(
        &mut self,
        context: &mut Context,
        instance: u32,
        ballot: Ballot,
    ) -> Option<MembershipMessage> {
        if !self.may_vote(context, instance) {
            return None;
        }
        let mut votes = self.votes_in(instance);
        if ballot < votes.promised {
            return Some(MembershipMessage::Refused { instance, ballot: votes.promised });
        }
        votes.promised = ballot;
        self.change(context, votes);
        Some(MembershipMessage::Promise { instance, ballot, accepted: votes.accepted })
    }

    /// Asked for a vote: the answer, if there is one.
    pub(super) fn accept(
        &mut self,
        context: &mut Context,
        instance: u32,
        ballot: Ballot,
        configuration: Configuration,
    ) -> Option<MembershipMessage> {
        if !self.may_vote(context, instance) || !configuration.follows(&context.configuration) {
            return None;
        }
        let mut votes = self.votes_in(instance);
        if ballot < votes.promised {
            return Some(MembershipMessage::Refused { instance, ballot: votes.promised });
        }
        (votes.promised, votes.accepted) = (ballot, Some((ballot, configuration)));
        self.change(context, votes);
        Some(MembershipMessage::Accepted { instance, ballot })
    }
}
