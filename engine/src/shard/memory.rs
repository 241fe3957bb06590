//! One limit for all that grows with data: cold entities leave memory when it is reached.
//!
//! ```text
//!   limit ─┬─ the index: what is left of entities that are not in memory; at most three quarters,
//!          │  then writes that would make a new entity are refused
//!          └─ the rest, an eighth at least: entities in memory, what loads read, what is parked
//!             └─ of it, for large entities: their cache
//! ```
//!
//! Entities in use cannot leave. When they alone pass their share, commands for entities that are
//! not in memory are answered `BUSY`, and peers' messages about such are dropped as lost, until
//! some are done.

use plog::index::Index;
use plog::planted;
use plog::vocabulary::EntityId;

use crate::context::Origin;
use crate::errors;
use crate::request::EntityRequest;
use crate::shard::Shard;
use crate::state_machine::StateMachine;

/// Entities looked at for eviction per new one.
pub(super) const EVICTION_STEPS: usize = 8;

/// Entities looked at for eviction at a time, when there are too many bytes.
const EVICTION_STEPS_MAX: usize = 256;

/// Entities looked at for eviction when the limit is set anew: half a millisecond, fifty times a
/// second.
const EVICTION_STEPS_IDLE: usize = 2048;

/// Bytes for whose sake one more entity is looked at.
const BYTES_PER_STEP: usize = 256;

/// Of the limit, the index takes at most so many quarters.
const INDEX_QUARTERS: usize = 3;

/// Of the limit, entities in memory may take the n-th part whatever the index takes.
const ENTITIES_PART_MIN: usize = 8;

/// Whether the shard can take a further entity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Room {
    /// Yes.
    Made,
    /// Too many entities in memory are in use at this moment.
    NotInMemory,
    /// The log holds as many entities as it may.
    NotOnDisk,
    /// The index of the entities takes all the memory that it may.
    NotInIndex,
}

impl<M: StateMachine> Shard<M> {
    /// What all that grows with data may take from now on, in bytes, as [`ShardStatus`] accounts
    /// it. The world changes it when the process takes more than is accounted.
    ///
    /// [`ShardStatus`]: crate::status::ShardStatus
    pub fn set_memory_limit(&mut self, bytes: usize) {
        self.memory_limit = bytes;
        if self.bytes_over() > 0 {
            // Nothing else may happen for a long time that would make entities go.
            self.evict(EVICTION_STEPS_IDLE);
        }
    }

    /// Bytes of all that grows with data and may leave memory, or be done soon.
    pub(super) fn working_bytes(&self) -> usize {
        self.entities.memory_bytes() + self.loading_bytes + self.parked_bytes
    }

    /// Bytes of all that grows with data.
    pub(super) fn accounted_bytes(&self) -> usize {
        self.working_bytes() + self.index_bytes()
    }

    fn index_bytes(&self) -> usize {
        self.recovering
            .as_ref()
            .map_or_else(|| self.context.log.index().memory_bytes(), Index::memory_bytes)
    }

    /// What [`Shard::working_bytes`] may come to.
    fn working_bytes_max(&self) -> usize {
        let rest = self.memory_limit.saturating_sub(self.index_bytes());
        rest.max(self.memory_limit / ENTITIES_PART_MIN)
    }

    fn bytes_over(&self) -> usize {
        self.working_bytes().saturating_sub(self.working_bytes_max())
    }

    fn is_over_memory(&self) -> bool {
        self.entities.len() >= self.context.config.entities_in_memory_max || self.bytes_over() > 0
    }

    /// Whether what is in use passes its share by so much that nothing more may come into memory;
    /// what is not in use leaves first.
    pub(super) fn is_far_over_memory(&mut self) -> bool {
        let is_far = |shard: &Self| shard.bytes_over() > shard.working_bytes_max() / 16;
        if is_far(self) {
            self.evict_bytes();
        }
        is_far(self)
    }

    /// Evicts cold entities if memory says so, and tells whether a new one may come.
    pub(super) fn make_room(&mut self) -> Room {
        self.evict(EVICTION_STEPS);
        // Entities in use cannot be evicted; they are as many as there are commands and messages
        // in flight, which have limits of their own. Twice the limit is out of their reach, unless
        // it is set very low.
        let is_crowded = self.entities.len() >= 2 * self.context.config.entities_in_memory_max;
        if is_crowded || self.is_far_over_memory() {
            Room::NotInMemory
        } else if self.context.log.index().len() >= self.context.config.entities_max {
            Room::NotOnDisk
        } else if self.index_bytes() / INDEX_QUARTERS >= self.memory_limit / 4 {
            Room::NotInIndex
        } else {
            Room::Made
        }
    }

    /// After something happened: large entities beyond their cache go, and if there are too many
    /// bytes all the same, cold ones.
    pub(super) fn settle_memory(&mut self) {
        self.evict_large();
        self.evict_bytes();
    }

    fn evict_bytes(&mut self) {
        let over = self.bytes_over();
        if over > 0 {
            self.evict((over / BYTES_PER_STEP).clamp(EVICTION_STEPS, EVICTION_STEPS_MAX));
        }
    }

    /// A client's command cannot be taken on for now: what is in use takes all memory.
    pub(super) fn turn_away_for_memory(&mut self, origin: Origin) {
        self.context.counters.busy += 1;
        self.context.turn_away(origin, errors::memory_in_use());
    }

    pub(super) fn evict(&mut self, steps: usize) {
        for _ in 0..steps {
            if !self.is_over_memory() {
                return;
            }
            let Some(id) = self.entities.advance_hand() else { return };
            let keeps_used = true;
            self.evict_if_cold(id, keeps_used, planted!("evicted-before-durable"));
        }
    }

    fn evict_large(&mut self) {
        let cache_max = self.context.config.values_cache_bytes;
        for _ in 0..EVICTION_STEPS {
            if self.entities.large_bytes() <= cache_max {
                return;
            }
            let Some(id) = self.entities.advance_large_hand() else { return };
            // Without a cache none is kept for having been used.
            let keeps_used = cache_max > 0;
            if self.evict_if_cold(id, keeps_used, planted!("large-evicted-before-durable")) {
                self.context.counters.large_evictions += 1;
            }
        }
    }

    /// Lets the entity under a hand go, if nobody needs it and, when `keeps_used`, it was not used
    /// since the hand came by last. Whether it went. `too_early` is for planted bugs only.
    fn evict_if_cold(&mut self, id: EntityId, keeps_used: bool, too_early: bool) -> bool {
        let log = &self.context.log;
        let durable = if too_early { log.appended() } else { log.durable() };
        let entity = self.entities.get_mut(id).expect("the hand points at an entity");
        let used = std::mem::take(&mut entity.referenced) && keeps_used;
        let goes = !used && entity.is_evictable(durable);
        if goes {
            self.drop_from_memory(id);
        }
        goes
    }

    /// Makes room while the log is scanned, after a record that `is_new` of an entity.
    pub(super) fn evict_while_recovering(&mut self, is_new: bool) {
        // Whatever was read from the log is durable.
        let cache_max = self.context.config.values_cache_bytes;
        while self.entities.large_bytes() > cache_max {
            let Some(id) = self.entities.advance_large_hand() else { break };
            let entity = self.entities.get_mut(id).expect("the hand points at an entity");
            if entity.has_diverged() {
                break;
            }
            self.drop_from_memory(id);
        }
        if !is_new && self.bytes_over() == 0 {
            return;
        }
        for _ in 0..EVICTION_STEPS {
            if !self.is_over_memory() {
                return;
            }
            let Some(id) = self.entities.advance_hand() else { return };
            let entity = self.entities.get_mut(id).expect("the hand points at an entity");
            if std::mem::take(&mut entity.referenced) || entity.has_diverged() {
                continue;
            }
            self.drop_from_memory(id);
        }
    }

    pub(super) fn drop_from_memory(&mut self, id: EntityId) {
        let mut entity = self.entities.remove(id).expect("called for an entity in memory");
        entity.release_accounts(&mut self.context);
        self.context.counters.evictions += 1;
        self.context.counters.open_evictions += u64::from(entity.has_open_entries());
        let keys = entity.key_count();
        match &mut self.recovering {
            Some(index) => index.set_keys(id, keys),
            None => self.context.log.index_mut().set_keys(id, keys),
        }
    }

    /// Bytes accounted, and the same with every entity counted anew: for checkers.
    #[must_use]
    pub fn accounted_and_counted_bytes(&self) -> (usize, usize) {
        let entities = self.entities.memory_bytes();
        let accounted = self.accounted_bytes();
        (accounted, accounted - entities + self.entities.memory_bytes_anew())
    }
}

/// Whether a request may change an entity.
pub(super) fn is_write<M: StateMachine>(request: &EntityRequest) -> bool {
    match request {
        EntityRequest::Command(command) => M::is_write(&command.arguments),
        EntityRequest::Inspect | EntityRequest::State { .. } | EntityRequest::Core(_) => false,
    }
}
