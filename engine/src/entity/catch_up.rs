//! Catching up: chosen entries this node misses are asked for by range, from the peer that showed
//! them first, then from the others.

use std::rc::Rc;

use net::peer::message::{
    CarriedValue, CatchUpAnswer, CatchUpRequest, ChosenEntry, EntityImage, PeerMessage,
};
use plog::vocabulary::{AcceptorId, Entry};

use crate::context::Context;
use crate::entity::learner::Evidence;
use crate::entity::{ENTRIES_AHEAD_MAX, Entity, RECENT_MAX};
use crate::state_machine::StateMachine;
use crate::time::Time;

/// A request under way.
#[derive(Debug)]
pub(crate) struct CatchUpRound {
    pub(super) asked: AcceptorId,
    pub(crate) sent_at: Time,
    /// It asks for an entry to be finished, not for chosen ones.
    pub(super) finishes: bool,
}

impl<M: StateMachine> Entity<M> {
    /// Whether every peer was asked and none brought anything.
    pub(super) fn is_catch_up_fruitless(&self, context: &Context) -> bool {
        self.catch_up.is_none() && self.fruitless >= 2 * u32::from(context.config.replicas)
    }

    pub(super) fn start_catch_up(&mut self, context: &mut Context) {
        if self.catch_up.is_some() {
            return;
        }
        let Some(asked) = self.next_to_ask(context) else {
            // Nobody is connected; a link coming up or a message from a peer starts it again.
            self.catch_up =
                Some(CatchUpRound { asked: context.me(), sent_at: context.now, finishes: false });
            self.wake_by(context, context.now.after_us(context.config.retry_us));
            return;
        };
        self.catch_up = Some(CatchUpRound { asked, sent_at: context.now, finishes: false });
        context.counters.catch_ups += 1;
        let first = self.applied.next();
        // While the fate of an own value is open, ask for that entry alone: an image that jumps
        // over it would not tell.
        let last = match &self.proposal {
            Some(proposal) if proposal.own.is_some() => first,
            _ => self.max_chosen.min(Entry(self.applied.0 + ENTRIES_AHEAD_MAX)),
        };
        let request = CatchUpRequest { entity: self.id, first, last };
        context.send(asked, PeerMessage::CatchUp(request));
        self.wake_by(context, context.now.after_us(context.config.retry_us));
    }

    /// Nobody at hand holds what is missing, and a follower can only ask: it asks again later.
    pub(super) fn rest_from_catching_up(&mut self, context: &mut Context) {
        self.fruitless = 0;
        let (asked, sent_at) = (context.me(), context.now);
        self.catch_up = Some(CatchUpRound { asked, sent_at, finishes: false });
        self.wake_by(context, context.now.after_us(context.config.retry_us));
    }

    /// The peer that showed the newest entry first, then all in turn.
    pub(super) fn next_to_ask(&self, context: &Context) -> Option<AcceptorId> {
        let start = self.active_peer.unwrap_or(context.config.acceptor);
        context
            .replicas_from(u64::from(start.0) + u64::from(self.fruitless))
            .find(|peer| *peer != context.me() && context.is_up(*peer))
    }

    pub(super) fn retry_catch_up(&mut self, context: &mut Context) {
        let Some(round) = &self.catch_up else { return };
        if context.now < round.sent_at.after_us(context.config.retry_us) {
            return;
        }
        if round.asked != context.me() {
            context.counters.retries += 1;
        }
        self.fruitless = self.fruitless.saturating_add(1);
        self.catch_up = None;
    }

    /// Chosen entries from a peer.
    pub(crate) fn handle_catch_up_answer(
        &mut self,
        context: &mut Context,
        from: AcceptorId,
        answer: &CatchUpAnswer,
    ) {
        if !self.learns() {
            return;
        }
        self.note_max_chosen(answer.max_chosen, from);
        let before = self.applied;
        for chosen in &answer.entries {
            let entry = chosen.entry;
            if entry <= self.applied || entry.0 > self.applied.0 + ENTRIES_AHEAD_MAX {
                continue;
            }
            let slot = self.slots.open(&mut context.slot_pool, entry);
            slot.add_value(chosen.value.id, Rc::clone(&chosen.value.bytes));
            context.counters.catch_up_entries += 1;
            self.learn(context, entry, chosen.ballot, chosen.value.id, Evidence::Told);
        }
        self.end_catch_up(from, before);
        self.drive(context);
    }

    fn end_catch_up(&mut self, from: AcceptorId, before: Entry) {
        let was_asked = self.catch_up.as_ref().is_some_and(|round| round.asked == from);
        if self.applied > before {
            self.fruitless = 0;
            self.catch_up = None;
        } else if was_asked {
            self.fruitless = self.fruitless.saturating_add(1);
            self.catch_up = None;
        }
    }

    /// The newest chosen entry, if its value is in memory.
    pub(crate) fn newest(&self) -> Option<ChosenEntry> {
        let last = self.last.as_ref()?;
        let (ballot, bytes) = last.decided.as_ref()?;
        let value = CarriedValue { id: last.value_id, bytes: Rc::clone(bytes) };
        Some(ChosenEntry { entry: self.applied, ballot: *ballot, value })
    }

    /// What the planted bug `unchosen-served` takes for a chosen entry: whatever was accepted.
    pub(crate) fn open_as_if_chosen(&self, entry: Entry) -> Option<ChosenEntry> {
        let slot = self.slots.get(entry)?;
        let id = slot.local().value_id?;
        let value = CarriedValue { id, bytes: Rc::clone(slot.value(id)?) };
        Some(ChosenEntry { entry, ballot: slot.local().accepted, value })
    }

    /// A whole entity from a peer that no longer holds the entries, or for which this is less.
    pub(crate) fn handle_image(
        &mut self,
        context: &mut Context,
        from: AcceptorId,
        image: &EntityImage,
    ) {
        self.note_max_chosen(image.max_chosen.max(image.applied), from);
        if self.took_copy(context, from, image) {
            self.drive(context);
            return;
        }
        if !self.learns() {
            return;
        }
        let before = self.applied;
        if image.applied > self.applied && self.install_image(context, image) {
            self.go_on_from_image(context, image);
        }
        self.end_catch_up(from, before);
        self.drive(context);
    }

    /// A peer's image stands in the place of what was here.
    pub(super) fn go_on_from_image(&mut self, context: &mut Context, image: &EntityImage) {
        context.counters.images_installed += 1;
        self.log_image(context);
        self.doubt_image();
        context.tell_followers(self.id, self.applied, self.chain, None);
        self.recent = image.recent.iter().copied().take(RECENT_MAX).collect();
        self.abandon_proposal(context);
        while self.apply_next(context, false) {}
    }
}
