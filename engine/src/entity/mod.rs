//! One entity on this node: acceptor, proposer, learner and reader of one strictly ordered log.
//!
//! The roles are files of this folder. [`Entity::drive`] decides what the entity does next; each
//! handler ends with it.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use net::peer::message::{NewerNotice, PeerMessage};
use net::resp::arguments::Arguments;
use net::resp::value::Value;
use plog::memory::{block_bytes, shared_bytes};
use plog::planted;
use plog::vocabulary::{AcceptorId, Ballot, EntityId, Entry, Lsn, ValueId};

use crate::context::{Context, Origin};
use crate::entity::catch_up::CatchUpRound;
use crate::entity::doubt::Doubt;
use crate::entity::forwarding::Forwarded;
use crate::entity::open_entries::OpenEntries;
use crate::entity::proposer::Proposal;
use crate::entity::read_check::ReadRound;
use crate::errors;
use crate::request::{Command, Freshness};
use crate::request_ids::RequestIds;
use crate::shard::Place;
use crate::state_machine::StateMachine;
use crate::time::Time;

mod acceptor;
mod catch_up;
pub(crate) mod doubt;
mod entry_slot;
mod finish;
pub(crate) mod forwarding;
mod image;
mod inspect;
mod learner;
pub(crate) mod open_entries;
mod proposer;
mod read_check;
mod recovery;
mod tell_state;

/// How far beyond its contiguous entries a replica votes; messages for entries further ahead are
/// taken as lost, but for what they say of `max_chosen`.
pub(crate) const ENTRIES_AHEAD_MAX: u64 = 16;

/// How many chosen values an entity remembers by name.
const RECENT_MAX: usize = 8;

/// A command that is not in a proposal yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) origin: Origin,
    pub(crate) arguments: Arguments,
    pub(crate) request_id: Option<Box<[u8]>>,
    pub(crate) deadline: Time,
    /// Rounds this command's value lost.
    pub(crate) lost: u32,
    /// Whether this node proposes it itself, whoever else does.
    pub(crate) keep: bool,
    /// Whether another replica may have proposed it.
    pub(crate) exposed: bool,
}

impl Waiting {
    /// Answers a command that ran out of time or rounds outside a proposal of this node.
    fn fail(self, context: &mut Context, error: Value) {
        if self.exposed {
            context.counters.unknown += 1;
            context.refuse(self.origin, errors::unknown());
        } else {
            context.refuse(self.origin, error);
        }
    }
}

/// The newest chosen entry, kept to answer those who are one behind.
#[derive(Debug)]
pub(crate) struct LastChosen {
    pub(crate) value_id: ValueId,
    /// `None` after a load or an image: then the value is found in the log.
    pub(crate) decided: Option<(Ballot, Rc<[u8]>)>,
}

/// See the module page.
///
/// Invariants: `applied ≤ max_chosen`; `slots` holds entries above `applied` only; at most one of
/// `proposal` and `read_round` is set by [`Entity::drive`] at a time, and never while `applied <
/// max_chosen`, unless catch-up found nobody who has the missing entries.
#[derive(Debug)]
pub(crate) struct Entity<M: StateMachine> {
    pub(crate) id: EntityId,
    /// Highest entry known, or heard, to be chosen.
    max_chosen: Entry,
    /// Highest entry applied; everything up to it is chosen and known here (`contiguous_chosen`:
    /// learning and applying are one step).
    applied: Entry,
    /// The checksum chain at `applied`.
    chain: u32,
    /// The value chosen at `applied`. `None` only before the first entry.
    last: Option<LastChosen>,
    /// The values chosen at `applied` and at the entries before it, newest first.
    recent: VecDeque<ValueId>,
    state: M,
    /// `state.memory_bytes()` plus the request ids', as accounted in the context.
    accounted_bytes: usize,
    /// Blocks of the state and the request ids.
    state_block_bytes: usize,
    request_ids: RequestIds,
    slots: OpenEntries,
    /// Apart, like the round of reads: most entities have none of them at a time.
    proposal: Option<Box<Proposal>>,
    /// Proposing waits until then, after a lost round.
    back_off_until: Time,
    /// Rounds lost in a row.
    lost_rounds: u32,
    waiting: VecDeque<Waiting>,
    read_round: Option<Box<ReadRound>>,
    /// A read check found this entry started.
    must_finish: Option<Entry>,
    /// A replica that lost its votes waits for this entry to be chosen.
    wanted: Option<Entry>,
    catch_up: Option<CatchUpRound>,
    /// Catch-up answers that brought nothing, in a row.
    fruitless: u32,
    /// Who showed the newest entry.
    active_peer: Option<AcceptorId>,
    /// Who else proposed here, and when it was last heard of.
    duel_lease: Option<(AcceptorId, Time)>,
    forwarded: BTreeMap<u64, Forwarded>,
    timer_at: Option<Time>,
    /// Entry of the last image in the log.
    image_at: Entry,
    /// Bytes of values since that image.
    bytes_since_image: usize,
    last_lsn: Lsn,
    /// Set while the copy here may be wrong.
    doubt: Option<Box<Doubt>>,
    /// Set by use, cleared by the evictor's hand.
    pub(crate) referenced: bool,
    /// What the entity table keeps of it.
    pub(crate) place: Place,
}

impl<M: StateMachine> Entity<M> {
    pub(crate) fn new(id: EntityId) -> Self {
        Self {
            id,
            max_chosen: Entry::ZERO,
            applied: Entry::ZERO,
            chain: 0,
            last: None,
            recent: VecDeque::new(),
            state: M::default(),
            accounted_bytes: 0,
            state_block_bytes: 0,
            request_ids: RequestIds::default(),
            slots: OpenEntries::default(),
            proposal: None,
            back_off_until: Time::default(),
            lost_rounds: 0,
            waiting: VecDeque::new(),
            read_round: None,
            must_finish: None,
            wanted: None,
            catch_up: None,
            fruitless: 0,
            active_peer: None,
            duel_lease: None,
            forwarded: BTreeMap::new(),
            timer_at: None,
            image_at: Entry::ZERO,
            bytes_since_image: 0,
            last_lsn: Lsn::ZERO,
            doubt: None,
            referenced: true,
            place: Place::default(),
        }
    }

    /// Reads a little from each part of the entity that every message needs.
    pub(crate) fn touch(&self) -> u64 {
        let waiting = u64::try_from(self.waiting.len()).expect("a count fits 64 bits");
        let keys = u64::from(self.state.key_count());
        self.applied.0
            ^ self.max_chosen.0
            ^ waiting
            ^ keys
            ^ u64::from(self.chain)
            ^ u64::from(self.doubt.is_some())
    }

    pub(crate) fn applied(&self) -> Entry {
        self.applied
    }

    pub(crate) fn chain(&self) -> u32 {
        self.chain
    }

    /// See [`Shard::pretend_another_history`](crate::shard::Shard::pretend_another_history).
    pub(crate) fn pretend_another_history(&mut self) {
        self.chain = !self.chain;
    }

    pub(crate) fn key_count(&self) -> u32 {
        self.state.key_count()
    }

    /// Whether nothing would be lost by dropping this from memory: all of it is on disk and nobody
    /// waits for it.
    pub(crate) fn is_evictable(&self, durable: Lsn) -> bool {
        self.proposal.is_none()
            && self.waiting.is_empty()
            && self.read_round.is_none()
            && self.catch_up.is_none()
            && self.forwarded.is_empty()
            && self.max_chosen == self.applied
            && self.last_lsn <= durable
            && self.doubt.is_none()
    }

    /// Whether records of entries that are not applied are held.
    pub(crate) fn has_open_entries(&self) -> bool {
        self.slots.iter().next().is_some()
    }

    /// Whether the entity is behind what it heard to be chosen.
    pub(crate) fn is_behind(&self) -> bool {
        self.applied < self.max_chosen
    }

    /// Gives back the memory this entity was accounted for.
    pub(crate) fn release_accounts(&mut self, context: &mut Context) {
        context.state_bytes -= self.accounted_bytes;
        self.accounted_bytes = 0;
        self.end_doubt(context);
    }

    fn account(&mut self, context: &mut Context) {
        let bytes = self.state.memory_bytes() + self.request_ids.memory_bytes();
        context.state_bytes = context.state_bytes + bytes - self.accounted_bytes;
        self.accounted_bytes = bytes;
        self.state_block_bytes = self.state.block_bytes() + self.request_ids.memory_bytes();
    }

    /// Gives back what an entity with nothing to do needs no longer.
    pub(crate) fn trim(&mut self) {
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
    }

    /// Memory of the entity and all that it holds, in bytes; commands, which have limits of their
    /// own, count without their arguments.
    pub(crate) fn memory_bytes(&self) -> usize {
        let last = self.last.as_ref().and_then(|last| last.decided.as_ref());
        block_bytes(size_of::<Self>())
            + self.state_block_bytes
            + last.map_or(0, |(_, value)| shared_bytes(value.len()))
            + block_bytes(self.recent.capacity() * size_of::<ValueId>())
            + block_bytes(self.waiting.capacity() * size_of::<Waiting>())
            + self.slots.block_bytes()
            + self.doubt.as_ref().map_or(0, |_| block_bytes(size_of::<Doubt>()))
    }

    #[cfg(test)]
    pub(crate) fn pretend_state_bytes(&mut self, bytes: usize) {
        self.accounted_bytes = bytes;
    }

    /// Bytes of the state, as far as it decides what is kept in memory.
    pub(crate) fn state_bytes(&self) -> usize {
        self.accounted_bytes
    }

    /// A command for this entity.
    pub(crate) fn handle_command(
        &mut self,
        context: &mut Context,
        origin: Origin,
        command: Command,
    ) {
        let deadline = context.now.after_us(context.config.request_timeout_us);
        self.handle_command_until(context, origin, command, deadline);
    }

    pub(crate) fn handle_command_until(
        &mut self,
        context: &mut Context,
        origin: Origin,
        command: Command,
        deadline: Time,
    ) {
        context.counters.commands += 1;
        if self.has_diverged() {
            context.turn_away(origin, errors::diverged());
            return;
        }
        if command.freshness == Freshness::Local || context.log_full.is_some() {
            let mut overlay = M::Overlay::default();
            let reply = self.state.evaluate(&mut overlay, &command.arguments);
            let changes = M::has_effects(&overlay);
            if changes && let Some(why) = context.log_full {
                context.turn_away(origin, errors::log_full(why));
                return;
            }
            if !changes && command.freshness == Freshness::Local {
                context.counters.local_reads += 1;
                context.answer(origin, reply, self.applied);
                return;
            }
        }
        context.commands_held += 1;
        if self.waiting.capacity() == 0 {
            // Most entities are asked one thing at a time; do not begin with room for four.
            self.waiting.reserve_exact(1);
        }
        self.waiting.push_back(Waiting {
            origin,
            arguments: command.arguments,
            request_id: command.request_id,
            deadline,
            lost: 0,
            keep: matches!(origin, Origin::Forwarded { .. }),
            exposed: false,
        });
        self.drive(context);
        if self.timer_at.is_none() {
            // Whatever is under way wakes the entity sooner; then this deadline is seen, too.
            self.wake_by(context, deadline);
        }
    }

    /// Decides what to do next.
    fn drive(&mut self, context: &mut Context) {
        if self.has_diverged() {
            self.refuse_all(context);
            if self.learns() && self.is_behind() && !context.log.is_full() {
                self.start_catch_up(context);
            }
            return;
        }
        if self.is_behind() && context.log.is_full() {
            // What would be learned could not be logged.
            self.wake_by(context, context.now.after_us(context.config.retry_us));
            return;
        }
        if self.is_behind() && !self.is_catch_up_fruitless(context) {
            self.start_catch_up(context);
            return;
        }
        if context.config.is_follower() {
            if self.is_behind() {
                self.rest_from_catching_up(context);
            }
            return;
        }
        if context.is_below_floor(self.id, self.applied) {
            self.ask_to_finish(context);
            return;
        }
        if self.proposal.is_some() {
            return;
        }
        let backs_off = context.now < self.back_off_until;
        if self.is_behind() {
            // Nobody at hand holds what is missing as chosen. A prepare finds it all the same.
            if backs_off {
                self.wake_by(context, self.back_off_until);
            } else {
                self.start_prepare(context);
            }
            return;
        }
        if self.read_round.is_some() {
            return;
        }
        if backs_off {
            let wants_to_propose = !self.waiting.is_empty() || self.wanted.is_some();
            if wants_to_propose && !planted!("back-off-without-end") {
                self.wake_by(context, self.back_off_until);
            }
            return;
        }
        let entry = self.applied.next();
        if self.must_finish.is_some_and(|started| started < entry) {
            self.must_finish = None;
        }
        if self.wanted.is_some_and(|wanted| wanted < entry) {
            self.wanted = None;
        }
        if self.waiting.is_empty() && self.wanted.is_none() {
            return;
        }
        let started = self.must_finish.is_some()
            || self.wanted.is_some()
            || self.slots.get(entry).is_some_and(|slot| !slot.is_empty());
        if started {
            self.start_prepare(context);
        } else {
            self.start_waiting_commands(context);
        }
    }

    /// Runs the waiting commands on the current state, and starts what they need.
    fn start_waiting_commands(&mut self, context: &mut Context) {
        let Some(built) = self.build_value(context) else {
            return; // all were answered at once
        };
        if !built.has_effects {
            self.start_read_round(context, built.commands);
        } else if self.should_forward(context) {
            self.forward(context, built.commands);
        } else if self.is_pre_authorised(context) {
            self.propose_pre_authorised(context, built);
        } else {
            // Run again when the promises are in, with whatever came meanwhile.
            self.put_back(built.commands);
            self.start_prepare(context);
        }
    }

    /// Takes note of an entry a peer knows to be chosen.
    pub(crate) fn note_max_chosen(&mut self, entry: Entry, from: AcceptorId) {
        if entry > self.max_chosen {
            self.max_chosen = entry;
            self.active_peer = Some(from);
        }
    }

    /// "You are behind."
    pub(crate) fn handle_newer(
        &mut self,
        context: &mut Context,
        from: AcceptorId,
        notice: NewerNotice,
    ) {
        self.handle_behind(context, from, notice.max_chosen);
    }

    /// A peer holds `chosen`, which is more than this replica has.
    pub(crate) fn handle_behind(&mut self, context: &mut Context, from: AcceptorId, chosen: Entry) {
        self.note_max_chosen(chosen, from);
        if chosen > self.applied {
            // Whoever says so has it: asking is worth while again.
            self.fruitless = 0;
            self.active_peer = Some(from);
            // What was to be finished is.
            let _ = self.catch_up.take_if(|round| round.finishes);
        }
        self.drive(context);
    }

    fn send_newer(&self, context: &mut Context, to: AcceptorId) {
        let notice = NewerNotice { entity: self.id, max_chosen: self.applied };
        context.send(to, PeerMessage::Newer(notice));
    }

    /// Something of this entity is due.
    pub(crate) fn handle_timer(&mut self, context: &mut Context, armed_at: Time) {
        if self.timer_at != Some(armed_at) {
            return; // an earlier one was armed since, and this is its leftover
        }
        self.timer_at = None;
        self.expire_commands(context);
        self.retry_proposal(context);
        self.retry_read_round(context);
        self.retry_catch_up(context);
        self.retry_forwarded(context);
        self.continue_doubt(context);
        self.drive(context);
        if let Some(due) = self.next_due(context) {
            self.wake_by(context, due);
        }
    }

    /// Makes sure `handle_timer` is called at `at` or earlier.
    fn wake_by(&mut self, context: &mut Context, at: Time) {
        if self.timer_at.is_none_or(|armed| at < armed) {
            self.timer_at = Some(at);
            context.timers.arm(at, self.id);
        }
    }

    fn next_due(&self, context: &Context) -> Option<Time> {
        let retry = context.config.retry_us;
        let mut due: Option<Time> = None;
        let mut sooner = |at: Time| due = Some(due.map_or(at, |earliest| earliest.min(at)));
        if let Some(proposal) = &self.proposal {
            sooner(proposal.due(retry));
            proposal.deadlines().for_each(&mut sooner);
        }
        if let Some(round) = &self.read_round {
            sooner(round.retry_at(retry));
            round.reads.iter().for_each(|read| sooner(read.deadline));
        }
        if let Some(round) = &self.catch_up {
            sooner(round.sent_at.after_us(retry));
        }
        for forwarded in self.forwarded.values() {
            sooner(forwarded.sent_at.after_us(2 * retry));
            sooner(forwarded.command.deadline);
        }
        self.waiting.iter().for_each(|waiting| sooner(waiting.deadline));
        self.doubt_due().into_iter().for_each(&mut sooner);
        let wants_to_propose =
            !self.waiting.is_empty() || self.wanted.is_some() || self.is_behind();
        let wants_to_propose = wants_to_propose && !planted!("back-off-without-end");
        if wants_to_propose && context.now < self.back_off_until {
            sooner(self.back_off_until);
        }
        // Never in the past: what was due has just been done.
        due.map(|at| at.max(context.now.after_us(1)))
    }

    fn expire_commands(&mut self, context: &mut Context) {
        let now = context.now;
        let expired = |waiting: &Waiting| waiting.deadline <= now;
        if self.waiting.iter().any(expired) {
            let waiting = std::mem::take(&mut self.waiting);
            let (late, kept): (VecDeque<_>, VecDeque<_>) = waiting.into_iter().partition(expired);
            self.waiting = kept;
            for command in late {
                context.counters.cluster_down += 1;
                command.fail(context, errors::cluster_down());
            }
        }
        if let Some(round) = &mut self.read_round {
            let reads = std::mem::take(&mut round.reads);
            let (late, kept): (Vec<_>, Vec<_>) = reads.into_iter().partition(expired);
            round.reads = kept;
            if round.reads.is_empty() {
                self.read_round = None;
            }
            for command in late {
                context.counters.cluster_down += 1;
                command.fail(context, errors::cluster_down());
            }
        }
        if let Some(proposal) = &mut self.proposal {
            for origin in proposal.take_expired(now) {
                context.counters.unknown += 1;
                context.refuse(origin, errors::unknown());
            }
        }
        self.expire_forwarded(context);
    }

    fn refuse_all(&mut self, context: &mut Context) {
        for waiting in self.waiting.drain(..) {
            waiting.fail(context, errors::diverged());
        }
        if let Some(round) = self.read_round.take() {
            for read in round.reads {
                read.fail(context, errors::diverged());
            }
        }
        if let Some(proposal) = self.proposal.take() {
            for origin in proposal.into_origins() {
                context.counters.unknown += 1;
                context.refuse(origin, errors::unknown());
            }
        }
        for (_, forwarded) in std::mem::take(&mut self.forwarded) {
            context.counters.unknown += 1;
            context.refuse(forwarded.command.origin, errors::unknown());
        }
        if !self.learns() {
            self.catch_up = None;
        }
    }

    fn put_back(&mut self, commands: Vec<Waiting>) {
        for command in commands.into_iter().rev() {
            self.waiting.push_front(command);
        }
    }

    /// The answer to a request that was applied before.
    fn earlier_reply(&self, id: &[u8]) -> Option<Value> {
        self.request_ids.reply_to(id).and_then(crate::batch::decode_reply)
    }
}
