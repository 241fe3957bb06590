//! Which generation of each replica counts.
//!
//! A replica that lost what it may have promised goes on as a later generation. Whoever learns of
//! that forgets what it saw of the earlier one, and says so with everything it sends from then on;
//! so a vote given to the later generation's knowledge is never counted with a vote of the earlier
//! one. See `docs/PROTOCOL.md`, "Generations".

use net::peer::message::GenerationsNotice;
use plog::planted;
use plog::vocabulary::{AcceptorId, Generation};

use crate::context::{Event, REPLICAS_MAX};
use crate::shard::Shard;
use crate::shard::loading::Parked;
use crate::state_machine::StateMachine;
use crate::time::Time;

impl<M: StateMachine> Shard<M> {
    /// What this node knew durably of the others' generations when it started, by acceptor. Call
    /// before anything else.
    pub fn know_generations(&mut self, known: [Generation; REPLICAS_MAX]) {
        if planted!("generation-not-durable") {
            return;
        }
        let me = self.context.me();
        let replicas = usize::from(self.context.config.replicas);
        for (at, generation) in known.into_iter().enumerate().take(replicas) {
            if at != me.index() {
                self.context.generations[at] = generation;
            }
        }
    }

    /// What every frame to a peer has to begin with; `None` while no replica lost anything.
    #[must_use]
    pub fn generations(&self) -> Option<GenerationsNotice> {
        let known = self.context.generations;
        known.iter().any(|known| *known > Generation::FIRST).then_some(GenerationsNotice { known })
    }

    /// A replica goes on as a later generation, which this node knows durably.
    pub fn handle_generation(&mut self, now: Time, member: AcceptorId, generation: Generation) {
        self.context.now = now;
        self.learn_generation(member, generation);
    }

    /// The generation of each replica that counts here, by acceptor.
    #[must_use]
    pub fn known_generations(&self) -> [Generation; REPLICAS_MAX] {
        self.context.generations
    }

    /// Takes note of a replica's generation, and forgets what was seen of an earlier one.
    pub(super) fn learn_generation(&mut self, member: AcceptorId, generation: Generation) {
        if member.index() >= usize::from(self.context.config.replicas) {
            return;
        }
        let known = self.context.generations[member.index()];
        if generation <= known {
            return;
        }
        if member == self.context.me() {
            if !self.is_superseded {
                self.is_superseded = true;
                self.context.events.push_back(Event::Superseded { by: generation });
            }
            return;
        }
        self.context.generations[member.index()] = generation;
        self.context.counters.generations_learned += 1;
        self.context.events.push_back(Event::Generation { member, generation });
        if !planted!("older-generation-counted") {
            for entity in self.entities.iter_mut() {
                entity.forget_peer(member);
            }
        }
        let mut dropped = 0;
        for loading in self.loading.values_mut() {
            let before = loading.parked.len();
            loading.parked.retain(|parked| match parked {
                Parked::Message(from, _) | Parked::CatchUp(from, _) => from.acceptor != member,
                Parked::Request(..) | Parked::Behind(..) | Parked::OtherChain(..) => true,
            });
            dropped += before - loading.parked.len();
        }
        self.parked -= dropped;
        self.forget_rejoin_sweeps(member);
        self.lags.forget(member);
        self.unlike.forget(member);
    }
}
