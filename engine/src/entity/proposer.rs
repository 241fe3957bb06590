//! The proposer: turns waiting commands into a value, and gets some value chosen.

use std::rc::Rc;

use net::peer::message::{EntryMessage, PeerMessage, Request};
use net::resp::value::Value;
use plog::entry_record::EntryRecord;
use plog::planted;
use plog::vocabulary::{Ballot, BootEpoch, Entry, ValueId};

use crate::batch::BatchBuilder;
use crate::context::{Context, Gated, Origin};
use crate::entity::acceptor::carried;
use crate::entity::learner::Evidence;
use crate::entity::{Entity, Waiting};
use crate::errors;
use crate::state_machine::StateMachine;
use crate::time::Time;

/// Where a proposal stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Promises are being collected.
    Preparing,
    /// A value was sent out to be accepted.
    Accepting(ValueId),
    /// A higher ballot was seen; the next prepare starts then.
    BackingOff(Time),
}

/// A command in a proposed value, with the reply it gets if that value is chosen.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) waiting: Waiting,
    pub(crate) reply: Value,
}

/// The clients' value of a proposal. Once sent out it stays with the proposal until the entry is
/// chosen: until then it may still win.
#[derive(Debug)]
pub(crate) struct OwnValue {
    pub(crate) id: ValueId,
    pub(crate) commands: Vec<InFlight>,
}

/// This node's attempt to get an entry chosen.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) entry: Entry,
    ballot: Ballot,
    phase: Phase,
    pub(crate) own: Option<OwnValue>,
    sent_at: Time,
}

impl Proposal {
    /// When silence calls for a repetition, or the back-off ends.
    pub(crate) fn due(&self, retry_us: u64) -> Time {
        match self.phase {
            Phase::BackingOff(until) => until,
            Phase::Preparing | Phase::Accepting(_) => self.sent_at.after_us(retry_us),
        }
    }

    pub(crate) fn deadlines(&self) -> impl Iterator<Item = Time> + '_ {
        self.own.iter().flat_map(|own| own.commands.iter().map(|command| command.waiting.deadline))
    }

    /// Takes out the commands whose time is over. The proposal goes on without them.
    pub(crate) fn take_expired(&mut self, now: Time) -> Vec<Origin> {
        let Some(own) = &mut self.own else { return Vec::new() };
        let is_late = |command: &InFlight| command.waiting.deadline <= now;
        if !own.commands.iter().any(is_late) {
            return Vec::new();
        }
        let commands = std::mem::take(&mut own.commands);
        let (late, kept): (Vec<_>, Vec<_>) = commands.into_iter().partition(is_late);
        own.commands = kept;
        late.into_iter().map(|command| command.waiting.origin).collect()
    }

    pub(crate) fn into_origins(self) -> impl Iterator<Item = Origin> {
        self.own.into_iter().flat_map(|own| own.commands).map(|command| command.waiting.origin)
    }
}

/// What the waiting commands come to on the current state.
pub(crate) struct Built {
    /// The commands, in order; `replies` has the reply of each.
    pub(crate) commands: Vec<Waiting>,
    replies: Vec<Value>,
    value: Rc<[u8]>,
    /// Whether the batch has to be decided by an entry: it changes something, or notes a request.
    pub(crate) has_effects: bool,
}

impl<M: StateMachine> Entity<M> {
    /// Runs the waiting commands, up to a batch's limits, on the state at `applied`. Answers those
    /// that were applied before. `None` when none is left.
    pub(super) fn build_value(&mut self, context: &mut Context) -> Option<Built> {
        let mut overlay = M::Overlay::default();
        let mut builder = BatchBuilder::default();
        let mut commands = Vec::new();
        let mut replies = Vec::new();
        while let Some(waiting) = self.waiting.front() {
            let cost: usize = waiting.arguments.iter().map(<[u8]>::len).sum();
            let full = commands.len() >= context.config.batch_commands_max
                || M::effect_bytes(&overlay) + builder.size() + cost
                    > context.config.batch_bytes_max;
            if full && !commands.is_empty() {
                break;
            }
            let waiting = self.waiting.pop_front().expect("just seen");
            if let Some(id) = &waiting.request_id {
                if let Some(reply) = self.earlier_reply(id).filter(|_| !planted!("id-unchecked")) {
                    context.counters.duplicates += 1;
                    context.reply(waiting.origin, reply, self.applied);
                    continue;
                }
                if let Some(reply) = builder.reply_to(id) {
                    context.counters.duplicates += 1;
                    commands.push(waiting);
                    replies.push(reply);
                    continue;
                }
            }
            let reply = self.state.evaluate(&mut overlay, &waiting.arguments);
            // A write is noted even if it changes nothing: another copy of it may be about, and
            // must not take effect after this one was answered. A read may be run again; its
            // reply, which can be large, has no place in the log.
            if let Some(id) = &waiting.request_id
                && M::is_write(&waiting.arguments)
                && (!planted!("write-without-effect-forgotten") || M::has_effects(&overlay))
            {
                builder.add_request(id, &reply);
            }
            commands.push(waiting);
            replies.push(reply);
        }
        if commands.is_empty() {
            return None;
        }
        let has_effects = M::has_effects(&overlay) || builder.has_requests();
        let value: Rc<[u8]> = if has_effects {
            builder.finish(|out| M::encode_effects(&overlay, out)).into()
        } else {
            Rc::from([])
        };
        Some(Built { commands, replies, value, has_effects })
    }

    /// Whether this node alone may propose the next entry without a prepare: it originated the
    /// value chosen before it, in this boot, and did not speak on the entry yet.
    ///
    /// The *originator of the value* counts, never the owner of a ballot: a value that another node
    /// rescued is chosen at two ballots, and two owners would both skip the prepare.
    pub(super) fn is_pre_authorised(&self, context: &Context) -> bool {
        let Some(last) = &self.last else { return false };
        let by_ballot = planted!("pre-authorised-by-ballot")
            && last.decided.as_ref().is_some_and(|(ballot, _)| {
                (ballot.acceptor, ballot.epoch) == (context.me(), context.config.epoch)
            });
        let is_originator =
            last.value_id.originator == context.me() && last.value_id.epoch == context.config.epoch;
        (is_originator || by_ballot)
            && self
                .slots
                .get(self.applied.next())
                .is_none_or(|slot| slot.local().promised.is_none() && slot.local().is_empty())
    }

    pub(super) fn propose_pre_authorised(&mut self, context: &mut Context, built: Built) {
        assert!(self.proposal.is_none() && built.has_effects);
        context.counters.pre_authorised += 1;
        let ballot = Ballot::pre_authorised(context.config.epoch, context.me());
        let entry = self.applied.next();
        self.slots.open(&mut context.slot_pool, entry).prepare(ballot, context.log.durable());
        let phase = Phase::Preparing;
        let sent_at = context.now;
        self.proposal = Some(Box::new(Proposal { entry, ballot, phase, own: None, sent_at }));
        self.accept_built(context, built);
    }

    /// Starts a round of promises for the next entry.
    pub(super) fn start_prepare(&mut self, context: &mut Context) {
        let entry = self.applied.next();
        let own = match self.proposal.take() {
            Some(earlier) => {
                assert_eq!(earlier.entry, entry, "a proposal ends when its entry is chosen");
                earlier.own
            }
            None => None,
        };
        context.counters.prepares += 1;
        let slot = self.slots.open(&mut context.slot_pool, entry);
        let mut epoch = context.config.epoch;
        if planted!("ballot-reused-after-restart") {
            epoch = BootEpoch(1);
        }
        let ballot = slot.highest_ballot().next_for(epoch, context.me());
        slot.prepare(ballot, context.log.durable());
        self.last_lsn = slot.log(context, self.id, entry, false);
        let phase = Phase::Preparing;
        let sent_at = context.now;
        self.proposal = Some(Box::new(Proposal { entry, ballot, phase, own, sent_at }));
        self.await_own_vote(context, entry);
        self.broadcast_proposal(context);
        self.wake_by(context, context.now.after_us(context.config.retry_us));
    }

    fn await_own_vote(&self, context: &mut Context, entry: Entry) {
        context.gate.hold(self.last_lsn, Gated::OwnVote(self.id, entry));
    }

    /// The own record of `entry` is durable now.
    pub(crate) fn handle_own_vote(&mut self, context: &mut Context, entry: Entry) {
        if planted!("answered-before-chosen")
            && let Some(proposal) = &mut self.proposal
            && let Some(own) = proposal.own.as_mut().filter(|_| proposal.entry == entry)
        {
            for command in own.commands.drain(..) {
                context.reply(command.waiting.origin, command.reply, entry);
            }
        }
        if self.slots.get(entry).is_some() {
            self.count_votes(context, entry);
            self.drive(context);
        }
    }

    /// Sends the proposal's request to every peer that has not answered it.
    fn broadcast_proposal(&mut self, context: &mut Context) {
        let proposal = self.proposal.as_mut().expect("called with a proposal");
        proposal.sent_at = context.now;
        let ballot = proposal.ballot;
        let value_id = match proposal.phase {
            Phase::Accepting(id) => Some(id),
            Phase::Preparing => None,
            Phase::BackingOff(_) => return,
        };
        let slot = self.slots.get_mut(proposal.entry).expect("a proposal has its slot");
        let mut mine = *slot.durable(context.log.durable());
        if value_id.is_some() && mine.value_id != value_id {
            // A message carries one value at most, so that it fits a frame. What was accepted
            // before, at a lower ballot, needs no showing any more.
            mine = EntryRecord { accepted: Ballot::NONE, value_id: None, ..mine };
        }
        for peer in context.voting_peers() {
            let view = slot.view(peer);
            let answered = match value_id {
                Some(_) => view.accepted == ballot,
                None => view.promised == ballot,
            };
            if answered {
                continue;
            }
            let message = EntryMessage {
                entity: self.id,
                entry: proposal.entry,
                mine,
                yours: *view,
                request: Some(Request { ballot, value_id }),
                values: carried(slot, peer, value_id.or(mine.value_id)),
                max_chosen: self.max_chosen,
            };
            if let Some(id) = value_id {
                slot.note_sent(peer, id);
            }
            // Not gated: `mine` is durable, and a request reveals no vote of this node.
            context.send(peer, PeerMessage::Entry(message));
        }
    }

    /// Something about the votes of `entry` changed: a majority of acceptances chooses, a majority
    /// of promises lets the proposer go on, a higher promise stops it.
    pub(super) fn count_votes(&mut self, context: &mut Context, entry: Entry) {
        let Some(slot) = self.slots.get(entry) else { return };
        if slot.local().chosen {
            return;
        }
        if let Some((ballot, id)) = slot.majority_accepted(context) {
            self.learn(context, entry, ballot, id, Evidence::Counted);
            return;
        }
        let Some(proposal) = &self.proposal else { return };
        if proposal.entry != entry {
            return;
        }
        match proposal.phase {
            Phase::BackingOff(_) => {}
            Phase::Preparing | Phase::Accepting(_) if slot.promised_above(proposal.ballot) => {
                self.lose_round(context);
            }
            Phase::Preparing => {
                if slot.promises(proposal.ballot, context) >= context.majority() {
                    self.accept_some_value(context);
                }
            }
            Phase::Accepting(_) => {}
        }
    }

    /// A majority promised: the value accepted at the highest ballot has to be proposed, else the
    /// clients' value, else a no-op.
    fn accept_some_value(&mut self, context: &mut Context) {
        let proposal = self.proposal.as_ref().expect("called with a proposal");
        let slot = self.slots.get(proposal.entry).expect("a proposal has its slot");
        let skips = planted!("rescue-skipped") && proposal.own.is_none();
        if let Some((_, id)) = slot.highest_accepted().filter(|_| !skips) {
            context.counters.rescues += 1;
            self.accept_value(context, id);
            return;
        }
        assert!(proposal.own.is_none(), "an own value once proposed is in the own record");
        match self.build_value_at_round(context) {
            Some(built) => self.accept_built(context, built),
            None => {
                context.counters.no_ops += 1;
                let id = context.new_value_id();
                let entry = self.proposal.as_ref().expect("still there").entry;
                let slot = self.slots.get_mut(entry).expect("a proposal has its slot");
                slot.add_value(id, Rc::from([]));
                self.accept_value(context, id);
            }
        }
    }

    /// The waiting commands as a value, if the state they would run on is the current one.
    fn build_value_at_round(&mut self, context: &mut Context) -> Option<Built> {
        let entry = self.proposal.as_ref()?.entry;
        if entry == self.applied.next() { self.build_value(context) } else { None }
    }

    fn accept_built(&mut self, context: &mut Context, built: Built) {
        let id = context.new_value_id();
        let proposal = self.proposal.as_mut().expect("called with a proposal");
        let slot = self.slots.get_mut(proposal.entry).expect("a proposal has its slot");
        slot.add_value(id, built.value);
        let commands = built.commands.into_iter().zip(built.replies);
        let commands = commands.map(|(waiting, reply)| InFlight { waiting, reply }).collect();
        proposal.own = Some(OwnValue { id, commands });
        self.accept_value(context, id);
    }

    /// Accepts the value here, and asks the others to.
    fn accept_value(&mut self, context: &mut Context, id: ValueId) {
        let proposal = self.proposal.as_mut().expect("called with a proposal");
        let (entry, ballot) = (proposal.entry, proposal.ballot);
        proposal.phase = Phase::Accepting(id);
        // Before the own record changes: what is shown to the peers is what is durable by now.
        let slot = self.slots.get_mut(entry).expect("a proposal has its slot");
        let accepted = slot.accept(ballot, id, context.log.durable());
        assert!(accepted, "nothing higher was promised: that would have lost the round");
        self.last_lsn = slot.log(context, self.id, entry, false);
        self.await_own_vote(context, entry);
        self.broadcast_proposal(context);
        self.wake_by(context, context.now.after_us(context.config.retry_us));
    }

    /// A higher ballot is about: wait a little, longer each time, then try above it.
    fn lose_round(&mut self, context: &mut Context) {
        context.counters.lost_rounds += 1;
        let span = context.config.back_off_us << self.lost_rounds.min(6);
        self.lost_rounds = self.lost_rounds.saturating_add(1);
        let until = context.now.after_us(1 + context.random.below(span));
        let proposal = self.proposal.as_mut().expect("called with a proposal");
        if proposal.own.is_some() {
            proposal.phase = Phase::BackingOff(until);
        } else {
            // Nothing was proposed yet: the commands are free to go elsewhere.
            self.proposal = None;
            self.back_off_until = until;
        }
        self.wake_by(context, until);
    }

    pub(super) fn retry_proposal(&mut self, context: &mut Context) {
        let Some(proposal) = &mut self.proposal else { return };
        if context.now < proposal.due(context.config.retry_us) {
            return;
        }
        match proposal.phase {
            Phase::BackingOff(_) => self.start_prepare(context),
            Phase::Preparing | Phase::Accepting(_) => {
                context.counters.retries += 1;
                if planted!("no-retry") {
                    proposal.sent_at = context.now;
                    return;
                }
                let entry = proposal.entry;
                self.broadcast_proposal(context);
                // A peer whose record is known here does not repeat it: look at what is known.
                self.count_votes(context, entry);
            }
        }
    }

    /// `entry` is chosen: the clients whose value it is are answered, the others' commands go into
    /// the next entry.
    pub(super) fn end_proposal(&mut self, context: &mut Context, entry: Entry, chosen: ValueId) {
        let Some(proposal) = self.proposal.take_if(|proposal| proposal.entry == entry) else {
            return;
        };
        let Some(own) = proposal.own else { return };
        if own.id == chosen || planted!("loser-answered") {
            self.lost_rounds = 0;
            for command in own.commands {
                context.counters.writes += 1;
                context.reply(command.waiting.origin, command.reply, entry);
            }
            return;
        }
        context.counters.lost_values += 1;
        let mut again = Vec::with_capacity(own.commands.len());
        for InFlight { mut waiting, .. } in own.commands {
            waiting.lost += 1;
            if waiting.lost > context.config.lost_rounds_max {
                context.counters.try_again += 1;
                waiting.fail(context, errors::try_again());
            } else {
                again.push(waiting);
            }
        }
        self.put_back(again);
    }

    /// The state jumped to `applied`, perhaps over the proposal's entry. What was chosen there is
    /// known if it was among the last few; else whether the value won cannot be told, but for
    /// commands with a request id.
    pub(super) fn abandon_proposal(&mut self, context: &mut Context) {
        let applied = self.applied;
        let entry = self.proposal.as_ref().map(|proposal| proposal.entry);
        let Some(entry) = entry.filter(|entry| *entry <= applied) else { return };
        let back = usize::try_from(applied.0 - entry.0).unwrap_or(usize::MAX);
        if let Some(chosen) = self.recent.get(back).copied() {
            self.end_proposal(context, entry, chosen);
            return;
        }
        let proposal = self.proposal.take().expect("just seen");
        let mut again = Vec::new();
        for mut command in proposal.own.into_iter().flat_map(|own| own.commands) {
            command.waiting.exposed = true;
            if command.waiting.request_id.is_some() {
                again.push(command.waiting);
            } else {
                context.counters.unknown += 1;
                context.refuse(command.waiting.origin, errors::unknown());
            }
        }
        self.put_back(again);
    }
}
