//! The proposer of the next configuration: at most one change at a time, and only when the present
//! version is settled.

use net::peer::message::MembershipMessage;
use plog::configuration::{Change, Configuration, Members};
use plog::planted;
use plog::vocabulary::{AcceptorId, Ballot};

use crate::context::Context;
use crate::membership::{Membership, MembershipRefused, send};
use crate::time::Time;

/// A round's first random pause after a higher ballot, in retries.
const BACK_OFF_RETRIES: u64 = 2;

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Promises are collected: whose there are, and what was accepted at the highest ballot.
    Preparing(Members, Option<(Ballot, Configuration)>),
    /// Votes are collected for this value.
    Accepting(Configuration, Members),
    /// A higher ballot was promised.
    BackingOff,
}

/// An attempt to have a configuration chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// What this node's operator wants.
    wanted: Configuration,
    ballot: Ballot,
    phase: Phase,
    /// What is unanswered is asked again then, or the next attempt begins.
    due: Time,
    /// It is given up then.
    deadline: Time,
}

impl Round {
    pub(super) fn version(&self) -> u32 {
        self.wanted.version
    }

    pub(super) fn due(&self) -> Time {
        self.due.min(self.deadline)
    }

    pub(super) fn forget(&mut self, member: AcceptorId) {
        match &mut self.phase {
            Phase::Preparing(who, _) | Phase::Accepting(_, who) => *who = who.without(member),
            Phase::BackingOff => {}
        }
    }
}

impl Membership {
    /// Begins to have a change decided. What it will make of the present configuration, and that
    /// configuration if it is chosen at once.
    ///
    /// # Errors
    ///
    /// When it must not be proposed, or not yet; then others are asked for what is not known.
    pub(crate) fn propose(
        &mut self,
        context: &mut Context,
        change: Change,
    ) -> Result<(Configuration, Option<Configuration>), MembershipRefused> {
        let present = context.configuration;
        let Configuration { version, voters, .. } = present;
        let node = context.me().0;
        if !context.config.changes_membership {
            return Err(MembershipRefused::Static);
        }
        if !voters.contains(context.me()) {
            return Err(MembershipRefused::NotAVoter { node, voters });
        }
        if let Some(round) = &self.round {
            return Err(MembershipRefused::UnderWay { version: round.wanted.version });
        }
        let slots = context.config.replicas;
        let wanted =
            present.after(change, slots).map_err(|reason| MembershipRefused::Change { reason })?;
        if !self.is_settled(context) && !planted!("next-version-unsettled") {
            self.ask(context, voters);
            let (settled, needed) = (self.settled.and(voters), voters.majority());
            return Err(MembershipRefused::NotSettled { version, settled, needed });
        }
        if let Change::Promote(learner) = change
            && !self.settled.contains(learner)
            && !planted!("learner-votes-behind")
        {
            self.ask(context, Members::NONE.with(learner));
            return Err(MembershipRefused::LearnerBehind { node: learner.0 });
        }
        let (ballot, due) = (self.promised(wanted.version), context.now);
        let deadline = context.now.after_us(context.config.request_timeout_us);
        self.round = Some(Round { wanted, ballot, phase: Phase::BackingOff, due, deadline });
        Ok((wanted, self.continue_round(context)))
    }

    /// Goes on with a round when something is due.
    pub(super) fn continue_round(&mut self, context: &mut Context) -> Option<Configuration> {
        let mut round = self.round?;
        if round.deadline <= context.now {
            // What was sent out may be chosen yet; whoever proposes next brings it to its end.
            self.round = None;
            return None;
        }
        if round.due > context.now {
            return None;
        }
        if matches!(round.phase, Phase::BackingOff) {
            let highest = round.ballot.max(self.promised(round.wanted.version)).max(self.used);
            round.ballot = highest.next_for(context.config.epoch, context.me());
            self.used = round.ballot;
            round.phase = Phase::Preparing(Members::NONE, None);
            context.counters.membership_rounds += 1;
        }
        self.ask_for_votes(context, round)
    }

    /// Asks those who did not answer, itself first.
    fn ask_for_votes(&mut self, context: &mut Context, mut round: Round) -> Option<Configuration> {
        let (instance, ballot, me) = (round.wanted.version, round.ballot, context.me());
        round.due = context.now.after_us(context.config.retry_us);
        self.round = Some(round);
        let (request, answered) = match round.phase {
            Phase::Preparing(promised, _) => {
                (MembershipMessage::Prepare { instance, ballot }, promised)
            }
            Phase::Accepting(configuration, voted) => {
                (MembershipMessage::Accept { instance, ballot, configuration }, voted)
            }
            Phase::BackingOff => return None,
        };
        for peer in context.configuration.voters.iter().filter(|peer| *peer != me) {
            if !answered.contains(peer) {
                send(context, peer, request);
            }
        }
        // The own vote is durable before anything leaves that rests on it.
        let own = match request {
            MembershipMessage::Accept { configuration, .. } => {
                self.accept(context, instance, ballot, configuration)
            }
            _ => self.promise(context, instance, ballot),
        };
        own.and_then(|own| self.handle_answer(context, me, own))
    }

    /// An acceptor's answer; perhaps the last one that was missing.
    pub(super) fn handle_answer(
        &mut self,
        context: &mut Context,
        from: AcceptorId,
        answer: MembershipMessage,
    ) -> Option<Configuration> {
        let mut round = self.round?;
        let voters = context.configuration.voters;
        let current = round.wanted.version;
        match (answer, round.phase) {
            (
                MembershipMessage::Promise { instance, ballot, accepted },
                Phase::Preparing(promised, best),
            ) if (instance, ballot) == (current, round.ballot) => {
                let promised = promised.with(from);
                let best = [best, accepted].into_iter().flatten().max_by_key(|(at, _)| *at);
                round.phase = Phase::Preparing(promised, best);
                if voters.is_majority(promised) {
                    let value = best.map_or(round.wanted, |(_, value)| value);
                    round.phase = Phase::Accepting(value, Members::NONE);
                    return self.ask_for_votes(context, round);
                }
            }
            (MembershipMessage::Accepted { instance, ballot }, Phase::Accepting(value, voted))
                if (instance, ballot) == (current, round.ballot) =>
            {
                let voted = voted.with(from);
                round.phase = Phase::Accepting(value, voted);
                if voters.is_majority(voted) {
                    self.round = None;
                    return Some(value);
                }
            }
            (MembershipMessage::Refused { instance, ballot }, _)
                if instance == current && ballot > round.ballot =>
            {
                let pause = BACK_OFF_RETRIES * context.config.retry_us;
                round.ballot = ballot;
                round.phase = Phase::BackingOff;
                round.due = context.now.after_us(1 + context.random.below(pause));
            }
            _ => {}
        }
        self.round = Some(round);
        None
    }
}
