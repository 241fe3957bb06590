//! What may have lost promises abstains: an entity of which a record could not be read back, or the
//! whole shard after damage in its log.
//!
//! Of an entity that abstains nothing is in memory, so there is nothing that could vote, propose,
//! answer a check or be appended to the log: messages about it end here, and its clients' commands
//! go to the other replicas ([`Relays`](crate::shard::relays::Relays)). An entity abstains until
//! the node starts anew and reads its log, or begins another one, or for good once a checkpoint
//! says so; a shard abstains as long as it has that log.

use std::collections::BTreeSet;

use net::peer::message::{
    ForwardAnswer, LagAnswer, LagFound, PeerMessage, SweepAnswer, TransferPage,
};
use net::resp::value::Value;
use plog::log::Log;
use plog::planted;
use plog::recovery::RecoveredTail;
use plog::vocabulary::{EntityId, Entry};

use crate::abstention::Abstention;
use crate::context::{Context, Origin};
use crate::entity::Entity;
use crate::errors;
use crate::request::{EntityRequest, Freshness};
use crate::shard::entity_table::EntityTable;
use crate::shard::{PeerCore, Shard};
use crate::state_machine::StateMachine;

/// Who abstains.
#[derive(Debug, Default)]
pub(crate) struct Abstaining {
    /// Everybody, and why.
    shard: Option<Abstention>,
    /// Entities that the log was seen to hold when all began to abstain.
    known: usize,
    /// Single entities; at most as many as the log's index holds.
    unreadable: BTreeSet<EntityId>,
}

impl Abstaining {
    pub(crate) fn covers(&self, entity: EntityId) -> bool {
        self.shard.is_some() || self.unreadable.contains(&entity)
    }

    pub(crate) fn is_whole_shard(&self) -> bool {
        self.shard.is_some()
    }

    /// How many entities are known to abstain.
    pub(crate) fn count(&self) -> usize {
        if self.shard.is_some() { self.known.max(1) } else { self.unreadable.len() }
    }

    /// An entity abstains from now on. Whether it did not before.
    pub(crate) fn add_unreadable(&mut self, entity: EntityId) -> bool {
        self.unreadable.insert(entity)
    }

    /// The entities that abstain each for itself.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = EntityId> {
        self.unreadable.iter().copied()
    }

    /// Whether a message is about what abstains.
    fn concerns(&self, message: &PeerMessage) -> bool {
        match message.entity() {
            Some(entity) => self.covers(entity),
            None => self.shard.is_some(),
        }
    }
}

impl<M: StateMachine> Shard<M> {
    /// Ends recovery, like [`Shard::finish_recovery`], of a log that is or was found damaged: the
    /// shard abstains as a whole, forgets what it was handed of the log, and never appends to it.
    ///
    /// # Panics
    ///
    /// When recovery was finished before.
    pub fn finish_recovery_abstaining(
        &mut self,
        tail: Option<RecoveredTail>,
        abstention: Abstention,
    ) {
        let index = self.recovering.take().expect("recovery is finished once");
        let (generations, configuration) = (self.context.generations, self.context.configuration);
        self.context = Context::new(self.context.config, Log::new(self.log_config, tail));
        (self.context.generations, self.context.configuration) = (generations, configuration);
        self.abstaining =
            Abstaining { shard: Some(abstention), known: index.len(), ..Abstaining::default() };
        if !planted!("abstainer-answers-reads") {
            self.entities = EntityTable::new(self.context.config.values_on_disk_above);
            self.keys = 0;
        }
    }

    /// Why the whole shard abstains, if it does.
    #[must_use]
    pub fn abstention(&self) -> Option<Abstention> {
        self.abstaining.shard
    }

    /// Whether an entity abstains here, for itself, with the whole shard, or until it has caught up
    /// after a loss.
    #[must_use]
    pub fn abstains(&self, entity: EntityId) -> bool {
        self.abstaining.covers(entity) || self.is_rejoining(entity)
    }

    /// Whether an entity's records could not be read back here, or nothing of it may be told.
    #[must_use]
    pub fn is_unreadable(&self, entity: EntityId) -> bool {
        self.abstaining.covers(entity)
    }

    /// A client's request for an entity that abstains.
    pub(super) fn request_abstaining(
        &mut self,
        origin: Origin,
        id: EntityId,
        request: EntityRequest,
    ) {
        match request {
            EntityRequest::Inspect => {
                let value = self.inspect_abstaining(id);
                self.context.answer(origin, value, Entry::ZERO);
            }
            EntityRequest::State { .. } | EntityRequest::Core(_) => {
                self.context.turn_away(origin, errors::tail_not_whole());
            }
            EntityRequest::Command(_) if self.context.config.is_follower() => {
                self.context.turn_away(origin, errors::follower_abstains());
            }
            EntityRequest::Command(mut command) => {
                let is_write = M::is_write(&command.arguments);
                if planted!("abstainer-answers-reads")
                    && !is_write
                    && self.entities.get(id).is_some()
                {
                    command.freshness = Freshness::Local;
                    self.with_entity(id, |entity, context| {
                        entity.handle_command(context, origin, command);
                    });
                    return;
                }
                self.relays.begin(&mut self.context, id, origin, command, is_write);
            }
        }
    }

    fn abstention_reason(&self) -> String {
        if let Some(abstention) = self.abstaining.shard {
            abstention.to_string()
        } else if let Some(cause) = self.rejoins() {
            format!("{cause}, and the core rejoins")
        } else {
            "a record of it could not be read back from the log".to_owned()
        }
    }

    /// What `CERTUS ENTITY` tells of an entity that abstains.
    fn inspect_abstaining(&self, id: EntityId) -> Value {
        let field = |name: &'static str, value| (Value::bulk(name.as_bytes()), value);
        let waiting = i64::try_from(self.relays.waiting(id)).unwrap_or(i64::MAX);
        Value::Map(vec![
            field("entity", Value::bulk(format!("{:016x}", id.0).into_bytes())),
            field("abstains", Value::Integer(1)),
            field("reason", Value::bulk(self.abstention_reason().into_bytes())),
            field("waiting", Value::Integer(waiting)),
        ])
    }

    /// Whether a message is about what must not take part, for good or for now.
    fn is_out(&self, message: &PeerMessage) -> bool {
        if self.abstaining.concerns(message) {
            return true;
        }
        let Some(rejoining) = &self.rejoining else { return false };
        match message {
            PeerMessage::SweepAnswer(_)
            | PeerMessage::Generations(_)
            | PeerMessage::Configuration(_)
            | PeerMessage::Membership(_) => false,
            // What is chosen may be learned below the floor, too.
            PeerMessage::Entry(_)
            | PeerMessage::ReadCheck(_)
            | PeerMessage::CatchUp(_)
            | PeerMessage::Finish(_)
            | PeerMessage::Compare(_)
            | PeerMessage::Copy(_)
            | PeerMessage::Forward(_) => {
                message.entity().is_some_and(|entity| self.is_rejoining(entity))
            }
            _ => rejoining.is_sweeping(),
        }
    }

    /// Takes a message if it is about what abstains. Whether it was.
    pub(super) fn took_abstaining(&mut self, from: PeerCore, message: &PeerMessage) -> bool {
        if !self.is_out(message) {
            return false;
        }
        match message {
            PeerMessage::ForwardAnswer(answer) => {
                self.relays.handle_answer(&mut self.context, from.acceptor, answer);
            }
            PeerMessage::Forward(command) => {
                let (forward, entity, entry) = (command.forward, command.entity, Entry::ZERO);
                let refusal = ForwardAnswer { forward, entity, reply: None, entry };
                self.context.send(from.acceptor, PeerMessage::ForwardAnswer(refusal));
            }
            // Whoever misses something should ask elsewhere at once.
            PeerMessage::CatchUp(request) => self.send_nothing(from, request.entity, Entry::ZERO),
            PeerMessage::Sweep(request) => {
                let (after, entities) = (request.after, Vec::new());
                let counts_for = None;
                let nothing = SweepAnswer { after, entities, done: true, counts_for };
                self.context.send_to_core(from, PeerMessage::SweepAnswer(nothing));
            }
            PeerMessage::Lag(request) => {
                let found = LagFound::Abstains;
                let answer = LagAnswer { question: request.question, to: None, found };
                self.send_sweep(from, PeerMessage::LagAnswer(answer));
            }
            PeerMessage::Transfer(request) => {
                let nothing = TransferPage { begin: request.begin, next: None, sent: true };
                self.context.send_to_core(from, PeerMessage::TransferPage(nothing));
            }
            PeerMessage::ReadCheck(check) if planted!("abstainer-answers-checks") => {
                self.call_empty(from.acceptor, *check);
            }
            PeerMessage::Entry(entry) if planted!("abstainer-votes") => {
                if self.entities.get(entry.entity).is_none() {
                    self.entities.insert(Entity::new(entry.entity));
                }
                self.deliver(entry.entity, from.acceptor, message.clone());
            }
            PeerMessage::Entry(_)
            | PeerMessage::Chosen(_)
            | PeerMessage::Newer(_)
            | PeerMessage::Finish(_)
            | PeerMessage::Compare(_)
            | PeerMessage::Copy(_)
            | PeerMessage::ReadCheck(_) => self.context.counters.abstained += 1,
            // Nobody here asks.
            PeerMessage::ReadAnswer(_)
            | PeerMessage::Compared(_)
            | PeerMessage::CatchUpAnswer(_)
            | PeerMessage::Image(_)
            | PeerMessage::SweepAnswer(_)
            | PeerMessage::LagAnswer(_)
            | PeerMessage::TransferPage(_)
            | PeerMessage::SweepHint
            | PeerMessage::Heartbeat
            | PeerMessage::Configuration(_)
            | PeerMessage::Membership(_)
            | PeerMessage::Follow(_)
            | PeerMessage::FollowAnswer(_)
            | PeerMessage::Told(_)
            | PeerMessage::Generations(_) => {}
        }
        true
    }
}
