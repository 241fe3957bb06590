//! The last phase: a replica hears that a peer's history is another than its own.
//!
//! Which of the two is wrong it cannot know, so it must stop serving that entity at once, loudly,
//! while the others serve on. It comes after the judges: nothing else here makes histories differ.

use engine::request::Freshness;
use net::resp::value::Value;
use plog::vocabulary::{EntityId, Entry};

use crate::checkers::Violation;
use crate::random::Random;
use crate::run::{PROMPT_US, Run};

impl Run<'_> {
    pub(super) fn divergence(&mut self) -> Result<(), Violation> {
        let mut random = Random::stream(self.plan.seed, "divergence");
        let mut nodes = self.whole_nodes();
        nodes.retain(|node| !self.world.is_damageable(*node));
        let entities = self.entities();
        let majority = usize::from(self.plan.replicas / 2 + 1);
        if nodes.len() <= majority || entities.is_empty() {
            return Ok(());
        }
        let entity = entities[random.index(entities.len())];
        let node = nodes.swap_remove(random.index(nodes.len()));
        let other = nodes[random.index(nodes.len())];
        self.diverge(&mut random, entity, node, other)?;
        let mut followers = self.world.followers();
        match followers.next() {
            Some(follower) => self.diverge(&mut random, entity, follower, other),
            None => Ok(()),
        }
    }

    /// A node hears from another of another history of an entity.
    fn diverge(
        &mut self,
        random: &mut Random,
        entity: EntityId,
        node: u8,
        other: u8,
    ) -> Result<(), Violation> {
        let applied = self.world.chosen_here(node, entity);
        if applied == Entry::ZERO {
            return Ok(());
        }
        self.world.coverage.divergences += 1;
        // From here on its count of diverged entities may rise.
        self.world.may_be_damaged(node);
        let is_told_by_notice = !self.pretends(random, node, entity)?;
        if is_told_by_notice {
            self.world.tell_of_another_history(node, other, entity, applied);
        }
        let mut ways = [Freshness::Linearizable, Freshness::Local];
        if !is_told_by_notice {
            // A read check would compare the chains, too: nobody but the sweep may have found it.
            ways.reverse();
        }
        for freshness in ways {
            for (at, serves) in [(node, false), (other, true)] {
                let ticket =
                    self.world.submit_for(at, entity, &["GET", "nothing"], None, freshness);
                let deadline = self.world.now() + PROMPT_US;
                let reply = self.await_reply(ticket, deadline)?;
                let is_right = match &reply {
                    Some(Value::Error(_)) => !serves,
                    Some(Value::Null) => serves,
                    _ => false,
                };
                if !is_right {
                    let what = format!(
                        "node {node} heard of another history of {entity:?}, and node {at} \
                         answered {reply:?}"
                    );
                    return Err(Violation::new("divergence", what));
                }
            }
        }
        let ticket = self.world.inspect_entity(node, entity);
        let deadline = self.world.now() + PROMPT_US;
        let Some(Value::Map(fields)) = self.await_reply(ticket, deadline)? else {
            return Err(Violation::new("divergence", "an entity cannot be looked at"));
        };
        let told = (Value::bulk(&b"diverged"[..]), Value::Integer(1));
        if !fields.contains(&told) {
            let what = format!("node {node} does not say that {entity:?} diverged: {fields:?}");
            return Err(Violation::new("divergence", what));
        }
        Ok(())
    }

    /// Lets a node have a wrong copy of an entity, in some of the runs in which the others compare
    /// it sooner or later, and waits until they did. Whether it was so. With a follower's copy
    /// nobody compares.
    fn pretends(
        &mut self,
        random: &mut Random,
        node: u8,
        entity: EntityId,
    ) -> Result<bool, Violation> {
        if self.world.is_follower(node) {
            return Ok(false);
        }
        let nodes: Vec<u8> = (0..self.world.node_count()).collect();
        let config = *self.world.shard(self.world.owner(node, entity)).config();
        let is_kept = config.entities_in_memory_max > 2 && config.values_on_disk_above == 0;
        let is_compared = config.digest_every_us > 0
            && nodes.iter().all(|node| self.world.knows_all_chains(*node))
            && nodes.iter().all(|other| other == &node || !self.world.is_damageable(*other));
        if !is_kept || self.plan.mix.mirrors || !is_compared || random.below(2) == 0 {
            return Ok(false);
        }
        let words = ["GET", "nothing"];
        let ticket = self.world.submit_for(node, entity, &words, None, Freshness::Local);
        let deadline = self.world.now() + PROMPT_US;
        self.await_reply(ticket, deadline)?;
        if !self.world.pretend_another_history(node, entity) {
            return Ok(false);
        }
        self.world.coverage.wrong_copies += 1;
        self.world.advance(2 * config.digest_every_us + 500_000);
        self.fine()?;
        Ok(true)
    }
}
