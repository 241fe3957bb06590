//! The last phase: histories differ, or seem to.
//!
//! A replica hears that a peer's history is another than its own. Which of the two is wrong it
//! cannot know, so it must stop serving that entity itself at once, loudly, while the others serve
//! on, its own clients, too; and with everybody there it must find out, and serve again. In some
//! runs one copy is really wrong, or, of five, two are in the same way. It comes after the judges:
//! nothing else here makes histories differ.

use engine::request::Freshness;
use net::resp::value::Value;
use plog::vocabulary::{AcceptorId, EntityId, Entry};

use crate::checkers::Violation;
use crate::random::Random;
use crate::run::{PROMPT_US, Run};

/// With everybody there, doubts end within this time.
const HEALS_WITHIN_US: u64 = 20_000_000;

impl Run<'_> {
    pub(super) fn divergence(&mut self) -> Result<(), Violation> {
        let mut random = Random::stream(self.plan.seed, "divergence");
        let mut nodes = self.whole_nodes();
        nodes.retain(|node| !self.world.is_damageable(*node));
        let entities = self.entities();
        let voters = self.world.newest_configuration().voters;
        let majority = voters.majority();
        if nodes.len() <= majority || entities.is_empty() {
            return Ok(());
        }
        let entity = entities[random.index(entities.len())];
        let node = nodes.swap_remove(random.index(nodes.len()));
        let other = nodes[random.index(nodes.len())];
        let applied = self.world.chosen_here(node, entity);
        // The others alone have to go on, and to outvote it.
        let go_on = voters.without(AcceptorId(node)).count() >= majority;
        if applied == Entry::ZERO || !go_on {
            return Ok(());
        }
        self.world.coverage.divergences += 1;
        // From here on its count of diverged entities may rise.
        self.world.may_be_damaged(node);
        if !self.pretends(&mut random, node, entity, &nodes)? {
            self.is_told(node, other, entity, applied)?;
        }
        self.heals(entity, &self.whole_nodes())?;
        match self.world.followers().next() {
            Some(follower) => self.follower_diverges(follower, other, entity),
            None => Ok(()),
        }
    }

    /// The same, told to a follower; that a copy of it is wrong nobody compares by himself.
    fn follower_diverges(
        &mut self,
        follower: u8,
        other: u8,
        entity: EntityId,
    ) -> Result<(), Violation> {
        let applied = self.world.chosen_here(follower, entity);
        if applied == Entry::ZERO || self.world.abstains(follower, entity) {
            return Ok(());
        }
        self.world.coverage.divergences += 1;
        self.world.may_be_damaged(follower);
        self.is_told(follower, other, entity, applied)?;
        self.heals(entity, &[follower])
    }

    /// A notice says that an entity's history is another than the node's.
    fn is_told(
        &mut self,
        node: u8,
        other: u8,
        entity: EntityId,
        applied: Entry,
    ) -> Result<(), Violation> {
        self.world.tell_of_another_history(node, other, entity, applied);
        let ticket = self.world.inspect_entity(node, entity);
        let words = ["GET", "nothing"];
        let reads = self.world.is_follower(node);
        let local =
            reads.then(|| self.world.submit_for(node, entity, &words, None, Freshness::Local));
        let deadline = self.world.now() + PROMPT_US;
        let Some(Value::Map(fields)) = self.await_reply(ticket, deadline)? else {
            return Err(Violation::new("divergence", "an entity cannot be looked at"));
        };
        let told = (Value::bulk(&b"diverged"[..]), Value::Integer(1));
        if !fields.contains(&told) {
            let what = format!("node {node} does not say that {entity:?} diverged: {fields:?}");
            return Err(Violation::new("divergence", what));
        }
        if let Some(local) = local
            && let Some(Value::Null) = self.await_reply(local, deadline)?
        {
            let what = format!("follower {node} reads {entity:?}, of which its copy is in doubt");
            return Err(Violation::new("divergence", what));
        }
        // Its clients are served through the others; a follower's are not.
        let replicas = [node, other].into_iter().filter(|node| *node < self.world.node_count());
        for node in replicas.collect::<Vec<u8>>() {
            let reply = self.read(node, entity, Freshness::Linearizable)?;
            if reply != Some(Value::Null) {
                let what =
                    format!("of an entity in doubt at another node {node} answered {reply:?}");
                return Err(Violation::new("divergence", what));
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        node: u8,
        entity: EntityId,
        freshness: Freshness,
    ) -> Result<Option<Value>, Violation> {
        let ticket = self.world.submit_for(node, entity, &["GET", "nothing"], None, freshness);
        let deadline = self.world.now() + PROMPT_US;
        self.await_reply(ticket, deadline)
    }

    /// Lets a node have a wrong copy of an entity, in some of the runs in which the others compare
    /// it sooner or later, and waits until they did; of five nodes, sometimes two. Whether it was
    /// so.
    fn pretends(
        &mut self,
        random: &mut Random,
        node: u8,
        entity: EntityId,
        others: &[u8],
    ) -> Result<bool, Violation> {
        let nodes = self.whole_nodes();
        let config = *self.world.shard(self.world.owner(node, entity)).config();
        let is_kept = config.entities_in_memory_max > 2 && config.values_on_disk_above == 0;
        let is_compared = config.digest_every_us > 0
            && nodes.iter().all(|node| self.world.knows_all_chains(*node))
            && nodes.iter().all(|other| other == &node || !self.world.is_damageable(*other));
        if !is_kept || self.plan.mix.mirrors || !is_compared || random.below(2) == 0 {
            return Ok(false);
        }
        self.read(node, entity, Freshness::Local)?;
        if !self.world.pretend_another_history(node, entity) {
            return Ok(false);
        }
        self.world.coverage.wrong_copies += 1;
        let voters = self.world.newest_configuration().voters.count();
        if voters == 5 && random.below(2) == 0 {
            let second = others[random.index(others.len())];
            self.read(second, entity, Freshness::Local)?;
            if self.world.pretend_another_history(second, entity) {
                self.world.coverage.wrong_copies_alike += 1;
                self.world.may_be_damaged(second);
            }
        } else if random.below(2) == 0 {
            // A read check compares the chains, too, and makes right copies doubtful.
            for other in nodes.iter().filter(|other| **other != node) {
                self.world.may_be_damaged(*other);
            }
            for other in others {
                self.read(*other, entity, Freshness::Linearizable)?;
            }
        }
        let before = self.doubts(node, entity);
        self.world.advance(2 * config.digest_every_us + 500_000);
        self.fine()?;
        // Nobody but the sweep may have found it.
        if before + self.doubts(node, entity) == 0 {
            let what = format!("node {node} does not find that its copy of {entity:?} is wrong");
            return Err(Violation::new("divergence", what));
        }
        Ok(true)
    }

    /// How often a node found a copy to be doubtful.
    fn doubts(&self, node: u8, entity: EntityId) -> u64 {
        self.world.shard(self.world.owner(node, entity)).counters().diverged
    }

    /// With everybody there, all copies come to be the same, and serve.
    fn heals(&mut self, entity: EntityId, nodes: &[u8]) -> Result<(), Violation> {
        let deadline = self.world.now() + HEALS_WITHIN_US;
        loop {
            self.world.advance(20_000);
            self.fine()?;
            let doubtful = |node: &&u8| {
                let shard = self.world.shard(self.world.owner(**node, entity));
                shard.glance().in_doubt > 0
            };
            let Some(node) = nodes.iter().find(doubtful) else { break };
            if self.world.now() > deadline {
                let what = format!("node {node} never comes to have {entity:?} like the others");
                return Err(Violation::new("divergence", what));
            }
        }
        for node in nodes {
            let ways = [Freshness::Local, Freshness::Linearizable];
            // A follower serves reads of the first kind alone.
            let ways = if self.world.is_follower(*node) { &ways[..1] } else { &ways[..] };
            for freshness in ways.iter().copied() {
                let reply = self.read(*node, entity, freshness)?;
                if reply != Some(Value::Null) && !self.world.abstains(*node, entity) {
                    let what = format!("node {node} has {entity:?} again, and answers {reply:?}");
                    return Err(Violation::new("divergence", what));
                }
            }
        }
        for (node, entry, chain) in self.world.chains(entity) {
            let chosen = self.world.checker.agreement.chain_at(entity, entry);
            if chosen.is_some_and(|chosen| chosen != chain) {
                let what = format!("node {node} serves a wrong copy of {entity:?} at {entry:?}");
                return Err(Violation::new("divergence", what));
            }
        }
        Ok(())
    }
}
