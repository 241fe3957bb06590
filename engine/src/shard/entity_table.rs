//! The entities in memory.
//!
//! A slab of entities, found through 256 small hash tables: a single large one would stall the core
//! for a long time at a rehash. Walks go by slab position, and so have the same order on every run.

use std::cell::Cell;
use std::collections::HashMap;

use ahash::RandomState;
use plog::vocabulary::EntityId;

use crate::entity::Entity;
use crate::state_machine::StateMachine;

const SUB_TABLES: usize = 256;

/// See the module page.
///
/// Invariant: `slab[table[id]]` is the entity `id`; every other position is in `free`.
#[derive(Debug)]
pub(crate) struct EntityTable<M: StateMachine> {
    tables: Vec<HashMap<EntityId, usize, RandomState>>,
    slab: Vec<Option<Box<Entity<M>>>>,
    free: Vec<usize>,
    /// The evictor's hand: the position it looks at next.
    hand: usize,
    /// The entity found last: the next look-up is most often for the same.
    recent: Cell<Option<(EntityId, usize)>>,
}

fn sub_table(id: EntityId) -> usize {
    // Ids are hashes already, but their upper bits are slots: mix, then take the top.
    usize::try_from(id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56).expect("8 bits fit a usize")
}

impl<M: StateMachine> EntityTable<M> {
    pub(crate) fn new() -> Self {
        // Fixed seeds: nothing about a run depends on chance.
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let tables = (0..SUB_TABLES).map(|_| HashMap::with_hasher(hasher.clone())).collect();
        Self { tables, slab: Vec::new(), free: Vec::new(), hand: 0, recent: Cell::new(None) }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    fn position(&self, id: EntityId) -> Option<usize> {
        if let Some((recent, position)) = self.recent.get()
            && recent == id
        {
            return Some(position);
        }
        let position = self.tables[sub_table(id)].get(&id).copied()?;
        self.recent.set(Some((id, position)));
        Some(position)
    }

    pub(crate) fn get(&self, id: EntityId) -> Option<&Entity<M>> {
        self.slab[self.position(id)?].as_deref()
    }

    pub(crate) fn get_mut(&mut self, id: EntityId) -> Option<&mut Entity<M>> {
        let position = self.position(id)?;
        self.slab[position].as_deref_mut()
    }

    pub(crate) fn insert(&mut self, entity: Entity<M>) {
        let id = entity.id;
        let entity = Some(Box::new(entity));
        let position = match self.free.pop() {
            Some(position) => {
                self.slab[position] = entity;
                position
            }
            None => {
                self.slab.push(entity);
                self.slab.len() - 1
            }
        };
        let before = self.tables[sub_table(id)].insert(id, position);
        assert!(before.is_none(), "an entity is in memory once");
    }

    pub(crate) fn remove(&mut self, id: EntityId) -> Option<Box<Entity<M>>> {
        let position = self.tables[sub_table(id)].remove(&id)?;
        self.recent.set(None);
        self.free.push(position);
        self.slab[position].take()
    }

    /// Brings entities into the processor's caches. The look-ups do not depend on each other, so
    /// their cache misses overlap; done one by one, with work between, they would not.
    pub(crate) fn touch(&self, ids: impl Iterator<Item = EntityId>) {
        let mut touched = 0;
        for id in ids {
            if let Some(entity) = self.get(id) {
                touched ^= entity.touch();
            }
        }
        std::hint::black_box(touched);
    }

    /// Moves the hand to the next entity, round and round (the CLOCK algorithm).
    pub(crate) fn advance_hand(&mut self) -> Option<EntityId> {
        for _ in 0..self.slab.len() {
            let position = self.hand % self.slab.len();
            self.hand = position + 1;
            if let Some(entity) = &self.slab[position] {
                return Some(entity.id);
            }
        }
        None
    }

    /// All entities, to be changed, in a stable order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entity<M>> {
        self.slab.iter_mut().flatten().map(|entity| &mut **entity)
    }

    /// All entities, in a stable order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entity<M>> {
        self.slab.iter().flatten().map(|entity| &**entity)
    }
}
