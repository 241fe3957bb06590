//! A mirror of a core's keys that remembers which of them changed since they were shown.

use std::collections::{BTreeMap, BTreeSet};

use engine::replayer::{KeptIds, StateMirror};
use engine::state_machine::InvalidState;
use engine::state_machine::mirror::{ChosenValue, Mirror, Standing};
use engine::state_machine::strings::Strings;
use plog::assemble::LoadedImage;
use plog::vocabulary::{EntityId, Entry};

/// What was shown of an entity that changed since: the entry it stood at, and its keys.
#[derive(Debug)]
struct Shown {
    entry: Entry,
    keys: BTreeSet<Box<[u8]>>,
}

/// See the module page.
#[derive(Debug)]
pub struct ShownKeys {
    mirror: StateMirror<Strings>,
    changed: BTreeMap<EntityId, Shown>,
}

/// One key to show.
#[derive(Debug)]
pub struct ShownKey<'a> {
    pub entity: EntityId,
    /// The last entry of the entity that is part of it.
    pub entry: Entry,
    pub key: &'a [u8],
    /// Its value and version; `None` when it is gone.
    pub value: Option<(&'a [u8], Entry)>,
}

impl ShownKeys {
    pub fn new() -> Self {
        // How many request ids the replicas keep does not stand in the files.
        Self { mirror: StateMirror::new(KeptIds::None), changed: BTreeMap::new() }
    }

    /// Hands the keys that changed since the last call to `show`.
    pub fn show(&mut self, mut show: impl FnMut(ShownKey<'_>)) {
        for (entity, shown) in std::mem::take(&mut self.changed) {
            let Some(state) = self.mirror.state(entity) else { continue };
            let entry = self.mirror.stands_at(entity).entry;
            for (key, value, version) in state.iter().filter(|(.., at)| *at > shown.entry) {
                show(ShownKey { entity, entry, key, value: Some((value, version)) });
            }
            for key in shown.keys.iter().filter(|key| state.value(key).is_none()) {
                show(ShownKey { entity, entry, key, value: None });
            }
        }
    }

    /// How many entities and keys there are.
    pub fn counts(&self) -> (usize, usize) {
        let entities = || self.mirror.standings().filter_map(|(id, _)| self.mirror.state(id));
        (entities().count(), entities().map(|state| state.iter().count()).sum())
    }

    fn note(&mut self, entity: EntityId) {
        let Self { mirror, changed } = self;
        changed.entry(entity).or_insert_with(|| Shown {
            entry: mirror.stands_at(entity).entry,
            keys: mirror
                .state(entity)
                .map(|state| state.iter().map(|(key, ..)| key.into()).collect())
                .unwrap_or_default(),
        });
    }
}

impl Mirror for ShownKeys {
    fn stands_at(&self, entity: EntityId) -> Standing {
        self.mirror.stands_at(entity)
    }

    fn execute_for_checkpoint(&mut self, chosen: &ChosenValue<'_>) -> Result<(), InvalidState> {
        self.note(chosen.entity);
        self.mirror.execute_for_checkpoint(chosen)
    }

    fn load_checkpoint(
        &mut self,
        entity: EntityId,
        image: &LoadedImage,
    ) -> Result<(), InvalidState> {
        self.note(entity);
        self.mirror.load_checkpoint(entity, image)
    }

    fn agrees_with(&self, entity: EntityId, image: &LoadedImage) -> bool {
        self.mirror.agrees_with(entity, image)
    }

    fn memory_bytes(&self) -> usize {
        self.mirror.memory_bytes()
    }
}
