//! The learner: what is chosen is applied in order, once, and told on.

use std::rc::Rc;

use net::peer::message::{ChosenNotice, PeerMessage};
use plog::log_record::LogRecord;
use plog::planted;
use plog::vocabulary::{AcceptorId, Ballot, Entry, ValueId};

use crate::batch::Batch;
use crate::chain;
use crate::context::Context;
use crate::entity::doubt::Held;
use crate::entity::entry_slot::EntrySlot;
use crate::entity::{ENTRIES_AHEAD_MAX, Entity, LastChosen, RECENT_MAX};
use crate::state_machine::StateMachine;

/// How this node knows that an entry is chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Evidence {
    /// It counted a majority itself.
    Counted,
    /// A peer said so.
    Told,
}

impl<M: StateMachine> Entity<M> {
    /// A peer says that an entry is chosen.
    pub(crate) fn handle_chosen(
        &mut self,
        context: &mut Context,
        from: AcceptorId,
        notice: &ChosenNotice,
    ) {
        if !self.learns() {
            return;
        }
        self.note_max_chosen(notice.entry, from);
        if notice.entry == self.applied {
            self.check_chain(context, notice.entry, notice.chain);
        }
        if notice.entry > self.applied && notice.entry.0 <= self.applied.0 + ENTRIES_AHEAD_MAX {
            let slot = self.slots.open(&mut context.slot_pool, notice.entry);
            if let Some(value) = &notice.value {
                slot.add_value(notice.value_id, Rc::clone(value));
            }
            let mut id = notice.value_id;
            if planted!("notice-for-what-was-accepted")
                && let Some(accepted) = slot.local().value_id
            {
                id = accepted;
            }
            // Without the value's bytes the notice only says how far the others are.
            if slot.value(id).is_some() {
                let (entry, ballot) = (notice.entry, notice.ballot);
                self.learn(context, entry, ballot, id, Evidence::Told);
                self.check_chain(context, entry, notice.chain);
            }
        }
        self.drive(context);
    }

    /// `entry` is chosen with a value this node holds.
    pub(super) fn learn(
        &mut self,
        context: &mut Context,
        entry: Entry,
        ballot: Ballot,
        id: ValueId,
        evidence: Evidence,
    ) {
        assert!(entry > self.applied);
        let slot = self.slots.get_mut(entry).expect("learned with its value in the slot");
        if slot.local().chosen && slot.local().value_id != Some(id) {
            self.diverge(context, entry, Held::Nothing, "two values were chosen in one entry");
            return;
        }
        if !slot.choose(ballot, id, context.log.durable()) {
            return;
        }
        context.counters.chosen += 1;
        self.max_chosen = self.max_chosen.max(entry);
        let next = entry == self.applied.next();
        if !(next && slot.is_logged(id)) {
            // The peers can tell it again: nothing waits for this record.
            self.last_lsn = slot.log(context, self.id, entry, true);
        }
        let tell = evidence == Evidence::Counted
            && self.proposal.as_ref().is_some_and(|proposal| proposal.entry == entry);
        while self.apply_next(context, tell) {}
    }

    /// Applies the entry after `applied` if it is chosen. Whether it was.
    pub(super) fn apply_next(&mut self, context: &mut Context, tell: bool) -> bool {
        let entry = self.applied.next();
        if !self.learns() || !self.slots.get(entry).is_some_and(|slot| slot.local().chosen) {
            return false;
        }
        let slot = self.slots.remove(entry).expect("just seen");
        let record = *slot.local();
        let id = record.value_id.expect("a chosen record names its value");
        let value = Rc::clone(slot.value(id).expect("a chosen value has its bytes"));
        if !self.apply_value(context, entry, id, record.accepted, &value) {
            return false;
        }
        let mark = LogRecord::Chosen {
            entity: self.id,
            entry,
            ballot: record.accepted,
            value_id: id,
            chain: self.chain,
        };
        self.last_lsn = context.append_lazily(&mark);
        // Right behind the mark: so who reads the log tells it from an image that jumps.
        self.log_image_if_due(context);
        context.tell_followers(self.id, entry, self.chain, Some((record.accepted, id, &value)));
        if tell {
            self.tell_peers(context, &slot, entry);
        }
        context.slot_pool.give(slot);
        self.end_proposal(context, entry, id);
        true
    }

    /// Applies a chosen value to the state. False when it cannot be.
    pub(super) fn apply_value(
        &mut self,
        context: &mut Context,
        entry: Entry,
        id: ValueId,
        ballot: Ballot,
        value: &Rc<[u8]>,
    ) -> bool {
        assert_eq!(entry, self.applied.next(), "entries are applied in order, once each");
        let Ok(batch) = Batch::parse(value) else {
            self.diverge(context, entry, Held::Nothing, "the chosen value is not a batch");
            return false;
        };
        let skips = planted!("applied-without-effects") && self.slots.get(entry.next()).is_some();
        if !skips && self.state.apply(entry, batch.effects()).is_err() {
            self.diverge(
                context,
                entry,
                Held::Nothing,
                "the chosen value's effects cannot be applied",
            );
            return false;
        }
        for (request, reply) in batch.requests() {
            let limit = context.config.request_ids_max;
            let fresh = self.request_ids.remember(request, reply, limit);
            if !fresh {
                self.diverge(context, entry, Held::Nothing, "a request id was applied twice");
                return false;
            }
        }
        self.chain = chain::extend(self.chain, value);
        self.recent.truncate(RECENT_MAX - 1);
        self.recent.push_front(id);
        self.applied = entry;
        self.max_chosen = self.max_chosen.max(entry);
        self.last = Some(LastChosen { value_id: id, decided: Some((ballot, Rc::clone(value))) });
        self.bytes_since_image += value.len() + RECORD_OVERHEAD_BYTES;
        self.account(context);
        true
    }

    /// The proposer tells the others; no value where it was sent already.
    fn tell_peers(&self, context: &mut Context, slot: &EntrySlot, entry: Entry) {
        let record = slot.local();
        let id = record.value_id.expect("a chosen record names its value");
        for peer in context.peers() {
            if slot.view(peer).chosen {
                continue;
            }
            let value = slot.value(id).filter(|_| !slot.was_sent(peer, id));
            let notice = ChosenNotice {
                entity: self.id,
                entry,
                ballot: record.accepted,
                value_id: id,
                chain: self.chain,
                value: value.map(Rc::clone),
            };
            context.send(peer, PeerMessage::Chosen(notice));
        }
    }
}

/// What the log holds of an entry beside its value, roughly.
const RECORD_OVERHEAD_BYTES: usize = 160;
