//! *order*: what a replica applied is entries 1 to k of the chosen history, and k never goes down
//! within a boot.

use std::collections::BTreeMap;

use engine::shard::StringShard;
use plog::vocabulary::{EntityId, Entry};

use crate::checkers::agreement::Agreement;
use crate::checkers::{Boot, Table, Violation};

/// How far each shard had applied each entity in this boot.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    applied: BTreeMap<(u8, u16), (u32, BTreeMap<EntityId, Entry>)>,
    moves: Table<Boot, u64>,
}

impl Order {
    /// Whether a shard's count of what can move an entity is another than at the last look.
    pub(super) fn has_moved(&mut self, boot: Boot, moves: u64) -> bool {
        self.moves.insert(boot, moves) != Some(moves)
    }

    /// Compares all entities in memory. How many there were.
    pub(super) fn shard(
        &mut self,
        boot: Boot,
        shard: &StringShard,
        agreement: &Agreement,
    ) -> Result<u64, Violation> {
        let Boot { node, core, start } = boot;
        let (of, applied) = self.applied.entry((node, core)).or_default();
        if *of != start {
            (*of, *applied) = (start, BTreeMap::new());
        }
        let mut count = 0;
        for (entity, entry, chain) in shard.chains() {
            count += 1;
            let before = applied.entry(entity).or_default();
            if entry == *before {
                continue;
            }
            if entry < *before {
                let what =
                    format!("node {node} goes back from {before:?} to {entry:?} of {entity:?}");
                return Err(Violation::new("order", what));
            }
            *before = entry;
            agreement.chain_is(node, entity, entry, chain)?;
        }
        Ok(count)
    }
}
