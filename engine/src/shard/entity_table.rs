//! The entities in memory.
//!
//! Split into 256 ordered trees: no rehash of a large table ever stalls the core, and walks have the
//! same order everywhere.

use std::collections::BTreeMap;
use std::ops::Bound;

use plog::vocabulary::EntityId;

use crate::entity::Entity;
use crate::state_machine::StateMachine;

const SUB_TABLES: usize = 256;

/// See the module page.
#[derive(Debug)]
pub(crate) struct EntityTable<M: StateMachine> {
    tables: Vec<BTreeMap<EntityId, Box<Entity<M>>>>,
    count: usize,
    /// The evictor's hand: the sub-table, and the entity it looked at last.
    hand: (usize, Option<EntityId>),
}

fn sub_table(id: EntityId) -> usize {
    // Ids are hashes already, but their upper bits are slots: mix, then take the top.
    usize::try_from(id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56).expect("8 bits fit a usize")
}

impl<M: StateMachine> EntityTable<M> {
    pub(crate) fn new() -> Self {
        Self {
            tables: (0..SUB_TABLES).map(|_| BTreeMap::new()).collect(),
            count: 0,
            hand: (0, None),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn get(&self, id: EntityId) -> Option<&Entity<M>> {
        self.tables[sub_table(id)].get(&id).map(|entity| &**entity)
    }

    pub(crate) fn get_mut(&mut self, id: EntityId) -> Option<&mut Entity<M>> {
        self.tables[sub_table(id)].get_mut(&id).map(|entity| &mut **entity)
    }

    pub(crate) fn insert(&mut self, entity: Entity<M>) {
        let id = entity.id;
        let before = self.tables[sub_table(id)].insert(id, Box::new(entity));
        assert!(before.is_none(), "an entity is in memory once");
        self.count += 1;
    }

    pub(crate) fn remove(&mut self, id: EntityId) -> Option<Box<Entity<M>>> {
        let removed = self.tables[sub_table(id)].remove(&id)?;
        self.count -= 1;
        Some(removed)
    }

    /// Moves the hand to the next entity, round and round (the CLOCK algorithm).
    pub(crate) fn advance_hand(&mut self) -> Option<EntityId> {
        if self.count == 0 {
            return None;
        }
        // At most one full round, and the rest of the sub-table it began in.
        for _ in 0..=SUB_TABLES {
            let (table, after) = self.hand;
            let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
            if let Some((id, _)) = self.tables[table].range((begin, Bound::Unbounded)).next() {
                self.hand = (table, Some(*id));
                return Some(*id);
            }
            self.hand = ((table + 1) % SUB_TABLES, None);
        }
        None
    }

    /// All entities, in a stable order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entity<M>> {
        self.tables.iter().flat_map(|table| table.values()).map(|entity| &**entity)
    }
}
