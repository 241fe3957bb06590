//! Marks that a crash took: which entries the log says are chosen without one.
//!
//! Whoever reads the log forward, as [tails](crate::shard::changes) do, learns from the *mark*
//! ([`LogRecord::Chosen`]) that an entry was applied, and when. Each entry that is applied is
//! marked then; but one that was learned from a peer is called chosen by its entry record, too, and
//! a crash can leave that and take the mark. The start after it applies the entry, so it has to
//! mark it: such entities are loaded, a few at a time, and a load marks what has none
//! ([`Entity::restore`](crate::entity::Entity::restore)).

use std::collections::{BTreeSet, VecDeque};

use plog::log_record::LogRecord;
use plog::vocabulary::{EntityId, Entry};

use crate::shard::Shard;
use crate::state_machine::StateMachine;
use crate::time::Time;

/// Entities being loaded for it at a time.
const LOADS_MAX: usize = 16;

/// See the module page.
#[derive(Debug, Default)]
pub(crate) struct Unmarked {
    /// While the log is scanned: chosen by an entry record, and not marked since. An entry's mark
    /// comes with it or soon after, so these are few; at most those that can be open at a time.
    entries: BTreeSet<(EntityId, Entry)>,
    /// To be loaded.
    queued: VecDeque<EntityId>,
    /// Being loaded.
    loading: BTreeSet<EntityId>,
}

impl Unmarked {
    /// The next record of the log while a node starts.
    pub(crate) fn note(&mut self, record: &LogRecord) {
        match record {
            LogRecord::Entry { entity, entry, record, .. } if record.chosen => {
                self.entries.insert((*entity, *entry));
            }
            LogRecord::Chosen { entity, entry, .. } if !self.entries.is_empty() => {
                self.entries.remove(&(*entity, *entry));
            }
            // Whatever it jumps over is told with it.
            LogRecord::Image { entity, applied, .. } if !self.entries.is_empty() => {
                let jumped = (*entity, Entry::ZERO)..=(*entity, *applied);
                while let Some(entry) = self.entries.range(jumped.clone()).next().copied() {
                    self.entries.remove(&entry);
                }
            }
            _ => {}
        }
    }

    /// When the first loads are to begin: with the first tick, since a start knows no time.
    pub(crate) fn next_due(&self) -> Option<Time> {
        (!self.queued.is_empty() && self.loading.is_empty()).then_some(Time::default())
    }
}

impl<M: StateMachine> Shard<M> {
    /// The log was scanned: what lacks a mark gets one.
    pub(super) fn begin_marking(&mut self) {
        let entries = std::mem::take(&mut self.unmarked.entries);
        let index = self.context.log.index();
        let lacks_mark = |(entity, entry): &(EntityId, Entry)| {
            let known = index.get(*entity);
            known.is_some_and(|known| {
                *entry > known.applied()
                    && *entry <= known.contiguous_chosen()
                    && known.chain_at(*entry).is_none()
            })
        };
        let entities: BTreeSet<EntityId> =
            entries.into_iter().filter(lacks_mark).map(|(entity, _)| entity).collect();
        for entity in &entities {
            if self.entities.get(*entity).is_some() {
                self.drop_from_memory(*entity);
            }
        }
        self.unmarked.queued = entities.into_iter().collect();
    }

    /// Loads the next entities that lack marks.
    pub(super) fn continue_marking(&mut self) {
        while self.unmarked.loading.len() < LOADS_MAX {
            let Some(entity) = self.unmarked.queued.pop_front() else { return };
            let is_in_memory = self.entities.get(entity).is_some();
            if is_in_memory || self.loading.contains_key(&entity) || !self.load(entity) {
                continue; // loaded by now, or soon, for another reason
            }
            self.unmarked.loading.insert(entity);
        }
    }

    /// A load ended, with its marks or without.
    pub(super) fn marked(&mut self, entity: EntityId) {
        if !self.unmarked.loading.is_empty() && self.unmarked.loading.remove(&entity) {
            self.continue_marking();
        }
    }
}
