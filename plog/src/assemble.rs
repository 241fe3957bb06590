//! Rebuilding an entity from its records.
//!
//! Loading one entity through the index and replaying all of them at start must not differ, so both
//! feed the same assembler, which applies the rule on the page of [`crate::index`]. Loading skips
//! the records that later ones made useless, and is told what the skipped chosen marks said.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::entry_record::EntryRecord;
use crate::index::KnownChosen;
use crate::log_record::{LogRecord, LoggedValue};
use crate::vocabulary::{Ballot, EntityId, Entry, ValueId};

/// The latest image of an entity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoadedImage {
    /// The last entry that is part of the state.
    pub applied: Entry,
    /// The checksum chain at `applied`.
    pub chain: u32,
    /// The value chosen at `applied`.
    pub last_value_id: Option<ValueId>,
    /// The state machine's state.
    pub state: Rc<[u8]>,
}

impl LoadedImage {
    /// The image that a record holds, if it is of that kind.
    #[must_use]
    pub fn of(record: &LogRecord) -> Option<Self> {
        let LogRecord::Image { applied, chain, last_value_id, state, .. } = record else {
            return None;
        };
        Some(Self {
            applied: *applied,
            chain: *chain,
            last_value_id: *last_value_id,
            state: Rc::clone(state),
        })
    }
}

/// One entry above the image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoadedEntry {
    /// Which entry.
    pub entry: Entry,
    /// What the acceptor holds of it. Passes [`EntryRecord::validate`].
    pub record: EntryRecord,
    /// The value's bytes; absent when the record names no value, or no record held its bytes.
    pub value: Option<Rc<[u8]>>,
    /// The checksum chain at this entry, when a chosen mark named it.
    pub chain: Option<u32>,
}

/// An entity as its durable records tell it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoadedEntity {
    /// The entity.
    pub entity: EntityId,
    /// Its latest image.
    pub image: Option<LoadedImage>,
    /// The entries above the image that have an entry record or a chosen mark, ascending.
    pub entries: Vec<LoadedEntry>,
}

/// A record of another entity was fed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a record of entity {:#x} was read where one of {:#x} should be; the index or the disk is damaged",
    found.0, expected.0
)]
pub struct OtherEntity {
    /// The record's entity.
    pub found: EntityId,
    /// The assembler's entity.
    pub expected: EntityId,
}

#[derive(Debug, Default)]
struct Parts {
    /// The latest entry record.
    record: Option<EntryRecord>,
    /// What the latest record that said chosen named.
    chosen: Option<(Ballot, ValueId, Option<u32>)>,
    values: Vec<(ValueId, Rc<[u8]>)>,
}

impl Parts {
    fn store(&mut self, id: ValueId, bytes: Rc<[u8]>) {
        self.values.retain(|(held, _)| *held != id);
        self.values.push((id, bytes));
    }

    fn choose(&mut self, ballot: Ballot, id: ValueId, chain: Option<u32>) {
        // An entry record that says chosen knows no chain; a mark of the same value did.
        let before = self.chosen.filter(|(_, chosen, _)| *chosen == id);
        let chain = chain.or_else(|| before.and_then(|(_, _, chain)| chain));
        self.chosen = Some((ballot, id, chain));
    }

    fn finish(self, entry: Entry) -> Option<LoadedEntry> {
        if self.record.is_none() && self.chosen.is_none() {
            return None;
        }
        let mut record = self.record.unwrap_or_default();
        if let Some((ballot, id, _)) = self.chosen {
            record.accepted = ballot;
            record.value_id = Some(id);
            record.chosen = true;
        }
        let named = |id| self.values.into_iter().find(|(held, _)| *held == id);
        let value = record.value_id.and_then(named).map(|(_, bytes)| bytes);
        let chain = self.chosen.and_then(|(_, _, chain)| chain);
        Some(LoadedEntry { entry, record, value, chain })
    }
}

/// Rebuilds one entity from its records, fed in LSN order (the image of a
/// [`crate::index::LoadPlan`] first).
#[derive(Debug)]
pub struct Assembler {
    entity: EntityId,
    image: Option<LoadedImage>,
    entries: BTreeMap<Entry, Parts>,
    known: Vec<KnownChosen>,
}

impl Assembler {
    /// An assembler for all records of an entity.
    #[must_use]
    pub fn new(entity: EntityId) -> Self {
        Self::with_chosen(entity, Vec::new())
    }

    /// An assembler for the records of a load plan; see [`crate::index::LoadPlan::assembler`].
    #[must_use]
    pub fn with_chosen(entity: EntityId, known: Vec<KnownChosen>) -> Self {
        Self { entity, image: None, entries: BTreeMap::new(), known }
    }

    fn applied(&self) -> Entry {
        self.image.as_ref().map_or(Entry::ZERO, |image| image.applied)
    }

    /// Takes the next record.
    ///
    /// # Errors
    ///
    /// When the record is of another entity; nothing changes then.
    pub fn push(&mut self, record: LogRecord) -> Result<(), OtherEntity> {
        let found = record.entity();
        if found != self.entity {
            return Err(OtherEntity { found, expected: self.entity });
        }
        let entry = record.entry();
        if let Some(image) = LoadedImage::of(&record) {
            if entry >= self.applied() {
                self.image = Some(image);
                self.entries = self.entries.split_off(&entry.next());
            }
            return Ok(());
        }
        if entry <= self.applied() {
            return Ok(());
        }
        let parts = self.entries.entry(entry).or_default();
        match record {
            LogRecord::Entry { record, value, .. } => {
                if let Some(id) = record.value_id {
                    if let LoggedValue::Inline(bytes) = value {
                        parts.store(id, bytes);
                    }
                    if record.chosen {
                        parts.choose(record.accepted, id, None);
                    }
                }
                parts.record = Some(record);
            }
            LogRecord::Value { value_id, bytes, .. } => parts.store(value_id, bytes),
            LogRecord::Chosen { ballot, value_id, chain, .. } => {
                parts.choose(ballot, value_id, Some(chain));
            }
            LogRecord::Image { .. } => unreachable!("handled above"),
        }
        Ok(())
    }

    /// The entity.
    #[must_use]
    pub fn finish(mut self) -> LoadedEntity {
        let applied = self.applied();
        for known in self.known.drain(..).filter(|known| known.entry > applied) {
            let parts = self.entries.entry(known.entry).or_default();
            // The index has seen every record, so what it says replaces what the few read said.
            parts.chosen = Some((known.ballot, known.value_id, known.chain));
        }
        let entries =
            self.entries.into_iter().filter_map(|(entry, parts)| parts.finish(entry)).collect();
        LoadedEntity { entity: self.entity, image: self.image, entries }
    }
}
