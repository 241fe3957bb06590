//! What must never happen, looked at after every event.

use std::collections::BTreeMap;

use engine::shard::StringShard;
use plog::vocabulary::{EntityId, Entry};

/// Compares what every shard of every node holds.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    /// agreement: the one chain of each entity at each entry, by whoever showed it first.
    chains: BTreeMap<(EntityId, Entry), u32>,
    /// order: how far each node's shard had applied each entity in this boot.
    applied: BTreeMap<(u8, u32, EntityId), Entry>,
    /// Comparisons made.
    pub checked: u64,
}

impl Checker {
    /// Looks at a shard after an event.
    ///
    /// # Panics
    ///
    /// When an invariant is broken.
    pub fn check(&mut self, node: u8, epoch: u32, shard: &StringShard) {
        for (entity, entry, chain) in shard.chains() {
            self.checked += 1;
            let agreed = *self.chains.entry((entity, entry)).or_insert(chain);
            assert_eq!(agreed, chain, "agreement: {entity:?} {entry:?} differs on node {node}");
            let before = self.applied.entry((node, epoch, entity)).or_default();
            assert!(entry >= *before, "monotonic: {entity:?} went back on node {node}");
            *before = entry;
        }
        let counters = shard.status().counters;
        assert_eq!(counters.diverged, 0, "divergence on node {node}");
    }
}
