//! Where a message of a peer's core goes: to a part of the shard, or to the entity that it is
//! about, which may have to be loaded first.

use net::peer::message::{
    CompareRequest, CopyRequest, PeerMessage, ReadAnswer, ReadCheck, ReadOutcome,
};
use plog::vocabulary::{AcceptorId, EntityId, Entry, Generation};

use crate::entity::Entity;
use crate::shard::following::may_hear;
use crate::shard::memory::Room;
use crate::shard::{PeerCore, Reach, Shard};
use crate::state_machine::StateMachine;
use crate::time::Time;

impl<M: StateMachine> Shard<M> {
    /// A message from a peer's core. Its content was validated when it was decoded. `generation`
    /// is the one that the sender was of, as its link's handshake said.
    pub fn handle_message(
        &mut self,
        now: Time,
        from: PeerCore,
        generation: Generation,
        message: PeerMessage,
    ) {
        self.context.now = now;
        if from.acceptor == self.context.me() {
            return;
        }
        let is_follower = self.context.config.is_follower();
        if !self.context.is_replica(from.acceptor) {
            if !is_follower && self.hears(from, &message) {
                self.follower_message(from, message);
                self.settle_memory();
            }
            return;
        }
        if is_follower && !may_hear(&message) {
            self.context.counters.follower_unheard += 1;
            return;
        }
        self.learn_generation(from.acceptor, generation);
        if generation < self.context.generations[from.acceptor.index()] || self.is_superseded {
            self.context.counters.messages_outdated += 1;
            return;
        }
        if self.hears(from, &message) {
            self.message(from, message);
        }
        self.settle_memory();
    }

    pub(super) fn message(&mut self, from: PeerCore, message: PeerMessage) {
        if let PeerMessage::Membership(message) = &message {
            self.handle_membership(from, message);
            return;
        }
        if let PeerMessage::Told(told) = message {
            // Counted, whatever becomes of its entity here.
            self.handle_told(from, told);
            return;
        }
        if self.took_abstaining(from, &message) {
            return;
        }
        match message {
            PeerMessage::Heartbeat | PeerMessage::Configuration(_) => {}
            PeerMessage::Membership(_) => unreachable!("taken above"),
            PeerMessage::Generations(notice) => {
                for (member, generation) in (0..).map(AcceptorId).zip(notice.known) {
                    self.learn_generation(member, generation);
                }
            }
            PeerMessage::ForwardAnswer(answer) if self.relays.holds(answer.forward) => {
                self.relays.handle_answer(&mut self.context, from.acceptor, &answer);
            }
            PeerMessage::Sweep(request) => self.answer_sweep(from, request),
            PeerMessage::SweepAnswer(answer) if self.following.is_some() => {
                self.take_walk_page(from, &answer);
            }
            PeerMessage::SweepAnswer(answer) => {
                self.take_rejoin_page(from, &answer);
                self.take_settle_page(from, &answer);
            }
            PeerMessage::Lag(request) => self.answer_lag(from, &request),
            PeerMessage::LagAnswer(answer) => self.handle_lag_answer(from, answer),
            // The numbers of notices say to a follower what is missing.
            PeerMessage::SweepHint if self.following.is_some() => {}
            PeerMessage::SweepHint => {
                self.start_sweep(from);
                self.ask_for_page_again(from);
            }
            PeerMessage::Transfer(request) => self.answer_transfer(from, request),
            PeerMessage::TransferPage(page) => self.handle_transfer_page(from, page),
            PeerMessage::Image(ref image) if self.took_transferred(from, image) => {
                self.count_transferred(from.acceptor, image);
                self.message_for_entity(from, message);
            }
            PeerMessage::FollowAnswer(answer) => self.handle_follow_answer(from, answer),
            // Only followers ask for that.
            PeerMessage::Follow(_) => {}
            PeerMessage::Told(_) => unreachable!("taken above"),
            PeerMessage::CatchUp(request) => self.serve_catch_up(from, request),
            PeerMessage::Compare(CompareRequest { entity, .. })
            | PeerMessage::Copy(CopyRequest { entity, .. })
                if self.reach(entity) == Reach::Absent => {}
            PeerMessage::ReadCheck(check) if self.reach(check.entity) == Reach::Absent => {
                // The index has the last word: nothing of this entity was ever written here.
                self.call_empty(from.acceptor, check);
                if check.entry > Entry::ZERO.next() {
                    self.note_behind(check.entity, check.entry.previous(), from.acceptor);
                }
            }
            PeerMessage::ReadAnswer(_)
            | PeerMessage::Compared(_)
            | PeerMessage::CatchUpAnswer(_)
            | PeerMessage::Image(_)
            | PeerMessage::ForwardAnswer(_) => {
                self.count_caught_up(from.acceptor, &message);
                // Answers: whoever asked is in memory, or no longer cares.
                let id = message.entity().expect("answers are about an entity");
                if self.entities.get(id).is_some() {
                    self.deliver(id, from.acceptor, message);
                }
            }
            PeerMessage::Entry(_)
            | PeerMessage::Chosen(_)
            | PeerMessage::Newer(_)
            | PeerMessage::ReadCheck(_)
            | PeerMessage::Finish(_)
            | PeerMessage::Compare(_)
            | PeerMessage::Copy(_)
            | PeerMessage::Forward(_) => self.message_for_entity(from, message),
        }
    }

    /// Answers a read check of an entity of which nothing was ever written here.
    pub(super) fn call_empty(&mut self, reader: AcceptorId, check: ReadCheck) {
        let answer = ReadAnswer {
            entity: check.entity,
            entry: check.entry,
            check: check.check,
            outcome: ReadOutcome::Empty,
            max_chosen: Entry::ZERO,
            applied: Entry::ZERO,
            chain: 0,
        };
        self.context.send(reader, PeerMessage::ReadAnswer(answer));
    }

    pub(super) fn message_for_entity(&mut self, from: PeerCore, message: PeerMessage) {
        let id = message.entity().expect("these are about an entity");
        if self.entities.get(id).is_none() && self.is_far_over_memory() {
            self.context.counters.messages_refused += 1;
            return;
        }
        match self.reach(id) {
            Reach::Ready => {}
            Reach::Absent => {
                if self.make_room() != Room::Made {
                    self.context.counters.messages_refused += 1;
                    return;
                }
                self.entities.insert(Entity::new(id));
            }
            Reach::Loading => {
                self.park_message(id, from, message);
                return;
            }
            Reach::Abstaining => return,
        }
        self.deliver(id, from.acceptor, message);
    }

    pub(super) fn deliver(&mut self, id: EntityId, from: AcceptorId, message: PeerMessage) {
        let log_is_full = self.context.log.is_full();
        self.with_entity(id, |entity, context| match message {
            // A vote has to be logged: better to lose the request than to grow without bound.
            PeerMessage::Entry(_)
            | PeerMessage::CatchUpAnswer(_)
            | PeerMessage::Image(_)
            | PeerMessage::Finish(_)
                if log_is_full =>
            {
                context.counters.messages_refused += 1;
            }
            PeerMessage::Chosen(notice) if log_is_full => {
                entity.handle_behind(context, from, notice.entry);
            }
            PeerMessage::Entry(message) => entity.handle_entry_message(context, from, &message),
            PeerMessage::Chosen(notice) => entity.handle_chosen(context, from, &notice),
            PeerMessage::Newer(notice) => entity.handle_newer(context, from, notice),
            PeerMessage::ReadCheck(check) => entity.handle_read_check(context, from, check),
            PeerMessage::Finish(request) => entity.handle_finish(context, from, request.entry),
            PeerMessage::ReadAnswer(answer) => entity.handle_read_answer(context, from, answer),
            PeerMessage::Compare(request) => entity.handle_compare(context, from, request),
            PeerMessage::Compared(answer) => entity.handle_compared(context, from, answer),
            PeerMessage::Copy(request) => entity.handle_copy(context, from, request),
            PeerMessage::CatchUpAnswer(answer) => {
                entity.handle_catch_up_answer(context, from, &answer);
            }
            PeerMessage::Image(image) => entity.handle_image(context, from, &image),
            PeerMessage::Forward(command) => entity.handle_forward(context, from, &command),
            PeerMessage::ForwardAnswer(answer) => {
                entity.handle_forward_answer(context, from, &answer);
            }
            PeerMessage::CatchUp(_)
            | PeerMessage::Transfer(_)
            | PeerMessage::TransferPage(_)
            | PeerMessage::Sweep(_)
            | PeerMessage::SweepAnswer(_)
            | PeerMessage::SweepHint
            | PeerMessage::Lag(_)
            | PeerMessage::LagAnswer(_)
            | PeerMessage::Heartbeat
            | PeerMessage::Follow(_)
            | PeerMessage::FollowAnswer(_)
            | PeerMessage::Told(_)
            | PeerMessage::Configuration(_)
            | PeerMessage::Membership(_)
            | PeerMessage::Generations(_) => unreachable!("handled by the shard"),
        });
    }
}
