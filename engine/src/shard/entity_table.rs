//! The entities in memory.
//!
//! A slab of entities, found through 256 small hash tables: a single large one would stall the core
//! for a long time at a rehash. Walks go by slab position, and so have the same order on every run.
//!
//! Two hands go round (the CLOCK algorithm): one over all entities, and one over the *large* ones
//! alone, which have a limit of their own.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use ahash::RandomState;
use plog::memory::{block_bytes, hash_table_bytes};
use plog::planted;
use plog::vocabulary::EntityId;

use crate::entity::Entity;
use crate::state_machine::StateMachine;

const SUB_TABLES: usize = 256;

type SubTable = HashMap<EntityId, usize, RandomState>;

/// See the module page.
///
/// Invariants: `slab[table[id]]` is the entity `id`; every other position is in `free`. `bytes` is
/// the sum of what every entity's [`Place`] says, `large_bytes` of those in `large`; and an entity
/// is in `large`, once, exactly if it was large when it was last counted.
#[derive(Debug)]
pub(crate) struct EntityTable<M: StateMachine> {
    tables: Vec<SubTable>,
    slab: Vec<Option<Box<Entity<M>>>>,
    free: Vec<usize>,
    /// The evictor's hand: the position it looks at next.
    hand: usize,
    /// The entity found last: the next look-up is most often for the same.
    recent: Cell<Option<(EntityId, usize)>>,
    /// Bytes of the hash tables.
    table_bytes: usize,
    /// Bytes of the entities, as last counted.
    bytes: usize,
    /// Entities whose state is larger than so many bytes are large; 0: none is.
    large_above: usize,
    /// The large entities by turn: the hand looks at the first and puts it last.
    large: BTreeMap<u64, EntityId>,
    next_turn: u64,
    large_bytes: usize,
}

/// What the table keeps of an entity.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// Its bytes, as last counted.
    bytes: usize,
    /// Its turn among the large ones; 0: it is not large.
    turn: u64,
}

impl Place {
    pub(crate) fn is_large(self) -> bool {
        self.turn != 0
    }
}

fn sub_table(id: EntityId) -> usize {
    // Ids are hashes already, but their upper bits are slots: mix, then take the top.
    usize::try_from(id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56).expect("8 bits fit a usize")
}

fn bytes_of(table: &SubTable) -> usize {
    hash_table_bytes(table.capacity(), size_of::<(EntityId, usize)>())
}

impl<M: StateMachine> EntityTable<M> {
    /// An empty table, in which entities with more than `large_above` bytes of state are large; 0:
    /// none is.
    pub(crate) fn new(large_above: usize) -> Self {
        // Fixed seeds: nothing about a run depends on chance.
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let tables = (0..SUB_TABLES).map(|_| HashMap::with_hasher(hasher.clone())).collect();
        Self {
            tables,
            slab: Vec::new(),
            free: Vec::new(),
            hand: 0,
            recent: Cell::new(None),
            table_bytes: 0,
            bytes: 0,
            large_above,
            large: BTreeMap::new(),
            next_turn: 0,
            large_bytes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    /// Bytes of all entities and of the table itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        let slab = block_bytes(self.slab.capacity() * size_of::<Option<Box<Entity<M>>>>());
        let free = block_bytes(self.free.capacity() * size_of::<usize>());
        // A turn and an id each, in nodes that are half full at least.
        let large = self.large.len() * 2 * size_of::<(u64, EntityId)>();
        self.bytes + self.table_bytes + slab + free + large
    }

    /// [`EntityTable::memory_bytes`], with every entity counted anew: for checkers.
    pub(crate) fn memory_bytes_anew(&self) -> usize {
        let anew: usize = self.iter().map(Entity::memory_bytes).sum();
        self.memory_bytes() - self.bytes + anew
    }

    pub(crate) fn large_len(&self) -> usize {
        self.large.len()
    }

    pub(crate) fn large_bytes(&self) -> usize {
        self.large_bytes
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
        let table = &mut self.tables[sub_table(id)];
        let bytes = bytes_of(table);
        let before = table.insert(id, position);
        assert!(before.is_none(), "an entity is in memory once");
        self.table_bytes = self.table_bytes - bytes + bytes_of(table);
        self.recount(id);
    }

    pub(crate) fn remove(&mut self, id: EntityId) -> Option<Box<Entity<M>>> {
        let position = self.tables[sub_table(id)].remove(&id)?;
        self.recent.set(None);
        self.free.push(position);
        let entity = self.slab[position].take();
        if let Some(entity) = &entity {
            if !planted!("evicted-still-counted") {
                self.bytes -= entity.place.bytes;
            }
            if entity.place.is_large() {
                self.large_bytes -= entity.place.bytes;
                self.large.remove(&entity.place.turn);
            }
        }
        entity
    }

    /// Counts an entity's bytes, which may have changed, after giving back what it needs no longer.
    pub(crate) fn recount(&mut self, id: EntityId) {
        let position = self.position(id).expect("called for an entity in memory");
        let entity = self.slab[position].as_deref_mut().expect("found by its id");
        let before = entity.place;
        entity.trim();
        let bytes = entity.memory_bytes();
        let is_large = self.large_above > 0 && entity.state_bytes() > self.large_above;
        entity.place.bytes = bytes;
        self.bytes = self.bytes - before.bytes + bytes;
        if !is_large && !before.is_large() {
            return;
        }
        if is_large && !before.is_large() {
            self.next_turn += 1;
            entity.place.turn = self.next_turn;
            self.large.insert(self.next_turn, id);
        } else if !is_large {
            entity.place.turn = 0;
            self.large.remove(&before.turn);
        }
        let count = |place: Place| if place.is_large() { place.bytes } else { 0 };
        self.large_bytes = self.large_bytes - count(before) + count(entity.place);
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

    /// Moves the hand to the next entity, round and round.
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

    /// Moves the hand of the large entities to the next of them, round and round.
    pub(crate) fn advance_large_hand(&mut self) -> Option<EntityId> {
        let (_, id) = self.large.pop_first()?;
        self.next_turn += 1;
        self.large.insert(self.next_turn, id);
        let turn = self.next_turn;
        self.get_mut(id).expect("large entities are in memory").place.turn = turn;
        Some(id)
    }

    /// All entities, in a stable order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entity<M>> {
        self.slab.iter().flatten().map(|entity| &**entity)
    }
}

#[cfg(test)]
mod tests {
    use plog::memory::block_bytes;
    use plog::vocabulary::EntityId;

    use super::EntityTable;
    use crate::entity::Entity;
    use crate::state_machine::strings::Strings;

    #[test]
    fn what_leaves_the_table_is_no_longer_counted() {
        let mut table: EntityTable<Strings> = EntityTable::new(0);
        for number in 0..1000 {
            table.insert(Entity::new(EntityId(number)));
        }
        let entity = block_bytes(size_of::<Entity<Strings>>());
        assert_eq!(entity, 448, "the entity itself; see the table of memory in OPERATIONS.md");
        assert_eq!(table.bytes, 1000 * entity);
        assert_eq!(table.memory_bytes(), table.memory_bytes_anew());
        assert!(table.memory_bytes() > 1000 * (entity + 24), "its places in the tables count");
        for number in 0..1000 {
            assert!(table.remove(EntityId(number)).is_some());
        }
        assert_eq!((table.bytes, table.large_bytes(), table.large_len()), (0, 0, 0));
    }

    #[test]
    fn large_entities_take_turns_and_others_never_come() {
        // The state of none is smaller than its own size.
        let mut table: EntityTable<Strings> = EntityTable::new(1);
        assert!(table.advance_large_hand().is_none());
        for number in 1..=3 {
            let mut entity = Entity::new(EntityId(number));
            entity.pretend_state_bytes(if number == 2 { 1 } else { 2 });
            table.insert(entity);
        }
        assert_eq!(table.large_len(), 2);
        let turns = [(); 3].map(|()| table.advance_large_hand().map(|id| id.0));
        assert_eq!(turns, [Some(1), Some(3), Some(1)]);
        table.get_mut(EntityId(3)).expect("just put there").pretend_state_bytes(1);
        table.recount(EntityId(3));
        assert_eq!(table.large_len(), 1, "one that shrank is large no longer");
        assert_eq!(table.large_bytes(), block_bytes(size_of::<Entity<Strings>>()));
        table.remove(EntityId(1));
        assert_eq!((table.large_bytes(), table.advance_large_hand()), (0, None));
    }
}
