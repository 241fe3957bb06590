//! The acceptor: folds a peer's symmetric message into the entry's records.

use std::rc::Rc;

use net::peer::message::{CarriedValue, ChosenNotice, EntryMessage, PeerMessage, Request};
use plog::entry_record::EntryRecord;
use plog::planted;
use plog::vocabulary::{AcceptorId, Entry, Lsn, ValueId};

use crate::context::{Context, Gated};
use crate::entity::entry_slot::EntrySlot;
use crate::entity::learner::Evidence;
use crate::entity::{ENTRIES_AHEAD_MAX, Entity};
use crate::state_machine::StateMachine;

impl<M: StateMachine> Entity<M> {
    /// The symmetric message (PaxosStore section 3.2): `from`'s record, and ours as it knows it.
    pub(crate) fn handle_entry_message(
        &mut self,
        context: &mut Context,
        from: AcceptorId,
        message: &EntryMessage,
    ) {
        // An entry is opened only when the one before it is known to be chosen.
        self.note_max_chosen(message.max_chosen.max(message.entry.previous()), from);
        if self.has_diverged() {
            self.drive(context);
            return;
        }
        if message.entry <= self.applied {
            if !message.mine.chosen && !self.is_late_vote(message) {
                self.tell_chosen(context, from, message);
            }
        } else if message.entry.0 > self.applied.0 + ENTRIES_AHEAD_MAX {
            context.counters.messages_ahead += 1;
        } else {
            self.fold(context, from, message);
        }
        self.drive(context);
    }

    /// Whether this is just the vote of one more acceptor for what is chosen already: it was sent,
    /// or is being sent, the notice. Should that get lost, the next message or a sweep makes up for
    /// it.
    fn is_late_vote(&self, message: &EntryMessage) -> bool {
        let last = self.last.as_ref().map(|last| last.value_id);
        message.request.is_none()
            && message.entry == self.applied
            && last.is_some()
            && message.mine.value_id == last
    }

    /// The sender works on an entry that is settled here: "losers are told at once".
    fn tell_chosen(&self, context: &mut Context, to: AcceptorId, message: &EntryMessage) {
        if let Some(last) = &self.last
            && let Some((ballot, value)) = &last.decided
            && message.entry == self.applied
        {
            let requested = message.request.and_then(|request| request.value_id);
            let held = [message.mine.value_id, requested].contains(&Some(last.value_id));
            let notice = ChosenNotice {
                entity: self.id,
                entry: message.entry,
                ballot: *ballot,
                value_id: last.value_id,
                chain: self.chain,
                value: (!held).then(|| Rc::clone(value)),
            };
            context.send(to, PeerMessage::Chosen(notice));
        } else {
            self.send_newer(context, to);
        }
    }

    fn fold(&mut self, context: &mut Context, from: AcceptorId, message: &EntryMessage) {
        let slot = self.slots.open(&mut context.slot_pool, message.entry);
        for carried in &message.values {
            slot.add_value(carried.id, Rc::clone(&carried.bytes));
        }
        let requested = message.request.and_then(|request| request.value_id);
        for id in [message.mine.value_id, requested].into_iter().flatten() {
            if slot.value(id).is_some() {
                continue;
            }
            if planted!("left-out-value-empty") {
                slot.add_value(id, Rc::from([]));
                continue;
            }
            // Its bytes were left out because this node was believed to hold them. Installing the
            // value without them would be wrong (the seed did): the message is lost. The sender
            // goes by a record that was replaced since; shown the newer one, it knows better.
            context.counters.values_unresolved += 1;
            if slot.expect_answer(from, context.log.durable()) {
                // With the bytes, whatever the sender is believed to hold: else two replicas, each
                // wrong about the other, would write to and fro without end.
                let mut answer = answer(slot, from, message, self.max_chosen);
                answer.values = with_bytes(slot, answer.mine.value_id);
                context.send_after(slot.lsn(), from, PeerMessage::Entry(answer));
            }
            return;
        }
        let mut shown = message.mine;
        if planted!("early-accept-counted")
            && let Some(Request { ballot, value_id: Some(id) }) = message.request
        {
            (shown.promised, shown.accepted, shown.value_id) = (ballot, ballot, Some(id));
        }
        let view_grew = slot.fold_view(from, &shown);
        if view_grew && message.mine.prepared.acceptor == from && !message.mine.prepared.is_none()
            || message.request.is_some()
        {
            self.duel_lease = Some((from, context.now));
        }
        if message.mine.chosen {
            let id = message.mine.value_id.expect("validated: a chosen record names its value");
            self.learn(context, message.entry, message.mine.accepted, id, Evidence::Told);
            return;
        }
        let accepted = slot.local().accepted;
        let changed = vote(slot, context, &message.mine, message.request);
        let is_promise = slot.local().accepted == accepted;
        if changed && !(planted!("promise-not-logged") && is_promise) {
            self.last_lsn = slot.log(context, self.id, message.entry, false);
            // A vote of an own proposal that was on its way to the disk counts from this record on.
            if self.proposal.as_ref().is_some_and(|proposal| proposal.entry == message.entry) {
                context.gate.hold(self.last_lsn, Gated::OwnVote(self.id, message.entry));
            }
        }
        // A vote in an own proposal needs no answer: the voter hears of the outcome.
        let is_vote = message.request.is_none()
            && self.proposal.as_ref().is_some_and(|proposal| proposal.entry == message.entry);
        if !is_vote
            && slot.local().is_newer_than(&message.yours)
            && slot.expect_answer(from, context.log.durable())
        {
            let answer = answer(slot, from, message, self.max_chosen);
            let needs = if planted!("vote-before-durable") { Lsn::ZERO } else { slot.lsn() };
            context.send_after(needs, from, PeerMessage::Entry(answer));
        }
        if view_grew {
            self.count_votes(context, message.entry);
        }
    }
}

/// Raises the promise first, then accepts; equality counts. Whether the own record changed.
fn vote(
    slot: &mut EntrySlot,
    context: &Context,
    theirs: &EntryRecord,
    request: Option<Request>,
) -> bool {
    let durable = context.log.durable();
    let asked = request.map_or(theirs.promised, |request| request.ballot.max(theirs.promised));
    let mut changed = slot.promise(asked, durable);
    // A record relayed by a third node is as good as the proposer's own request.
    if let Some(id) = theirs.value_id {
        changed |= slot.accept(theirs.accepted, id, durable);
    }
    if let Some(request) = request
        && let Some(id) = request.value_id
    {
        changed |= slot.accept(request.ballot, id, durable);
    }
    changed
}

fn answer(
    slot: &EntrySlot,
    to: AcceptorId,
    message: &EntryMessage,
    max_chosen: Entry,
) -> EntryMessage {
    let mine = *slot.local();
    // What the message itself names, its sender holds; so it is not sent back. Earlier messages
    // prove nothing: the peer may have restarted and forgotten what was not durable.
    let requested = message.request.and_then(|request| request.value_id);
    let held = mine.value_id.is_some_and(|id| requested == Some(id));
    EntryMessage {
        entity: message.entity,
        entry: message.entry,
        mine,
        yours: *slot.view(to),
        request: None,
        values: if held { Vec::new() } else { carried(slot, to, mine.value_id) },
        max_chosen,
    }
}

/// The bytes of the named value, unless `to` durably holds them.
pub(super) fn carried(
    slot: &EntrySlot,
    to: AcceptorId,
    named: Option<ValueId>,
) -> Vec<CarriedValue> {
    if named == slot.view(to).value_id { Vec::new() } else { with_bytes(slot, named) }
}

fn with_bytes(slot: &EntrySlot, named: Option<ValueId>) -> Vec<CarriedValue> {
    let carried = named.map(|id| {
        let bytes = slot.value(id).expect("a named value has its bytes");
        CarriedValue { id, bytes: Rc::clone(bytes) }
    });
    carried.into_iter().collect()
}
