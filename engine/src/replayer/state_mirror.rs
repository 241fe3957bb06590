//! A mirror that keeps every entity's state in memory, as the serving machine would.

use std::collections::BTreeMap;
use std::collections::btree_map;

use plog::assemble::LoadedImage;
use plog::vocabulary::EntityId;

use crate::entity_state;
use crate::request_ids::RequestIds;
use crate::state_machine::mirror::{ChosenValue, Mirror, Standing};
use crate::state_machine::{InvalidState, StateMachine};

/// What an entity costs beside its state: its place in the table.
const OVERHEAD_BYTES: usize = 64;

#[derive(Debug, Default)]
struct Mirrored<M> {
    standing: Standing,
    state: M,
    request_ids: RequestIds,
}

impl<M: StateMachine> Mirrored<M> {
    fn bytes(&self) -> usize {
        OVERHEAD_BYTES + self.state.memory_bytes() + self.request_ids.memory_bytes()
    }
}

/// Which request ids are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeptIds {
    /// As many per entity as the replicas keep (`request_ids_max`): images are compared in full.
    Most(usize),
    /// None: images are compared without.
    None,
}

/// See the module page. Its checkpoint is the shard's: it has none of its own.
#[derive(Debug)]
pub struct StateMirror<M> {
    entities: BTreeMap<EntityId, Mirrored<M>>,
    kept_ids: KeptIds,
    bytes: usize,
}

impl<M: StateMachine> StateMirror<M> {
    /// A mirror without an entity.
    #[must_use]
    pub fn new(kept_ids: KeptIds) -> Self {
        Self { entities: BTreeMap::new(), kept_ids, bytes: 0 }
    }

    /// The state of an entity.
    #[must_use]
    pub fn state(&self, entity: EntityId) -> Option<&M> {
        self.entities.get(&entity).map(|mirrored| &mirrored.state)
    }

    /// Every entity with what it stands at, ascending.
    pub fn standings(&self) -> impl Iterator<Item = (EntityId, Standing)> {
        self.entities.iter().map(|(entity, mirrored)| (*entity, mirrored.standing))
    }

    /// The entity as [`entity_state`] encodes it.
    #[must_use]
    pub fn encoded(&self, entity: EntityId) -> Option<Vec<u8>> {
        let mirrored = self.entities.get(&entity)?;
        Some(entity_state::encode(&mirrored.request_ids, &mirrored.state))
    }
}

impl<M: StateMachine> Mirror for StateMirror<M> {
    fn stands_at(&self, entity: EntityId) -> Standing {
        self.entities.get(&entity).map(|mirrored| mirrored.standing).unwrap_or_default()
    }

    fn execute_for_checkpoint(&mut self, chosen: &ChosenValue<'_>) -> Result<(), InvalidState> {
        let (entry, batch) = (chosen.standing.entry, chosen.batch);
        let mirrored = match self.entities.entry(chosen.entity) {
            btree_map::Entry::Occupied(occupied) => occupied.into_mut(),
            btree_map::Entry::Vacant(vacant) => {
                let mirrored = vacant.insert(Mirrored::default());
                self.bytes += mirrored.bytes();
                mirrored
            }
        };
        let before = mirrored.bytes();
        mirrored.state.apply(entry, batch.effects())?;
        if let KeptIds::Most(limit) = self.kept_ids {
            for (id, reply) in batch.requests() {
                if !mirrored.request_ids.remember(id, reply, limit) {
                    let what = "a request id that was applied before";
                    return Err(InvalidState { what, offset: 0, length: id.len() });
                }
            }
        }
        mirrored.standing = chosen.standing;
        self.bytes = self.bytes - before + mirrored.bytes();
        Ok(())
    }

    fn load_checkpoint(
        &mut self,
        entity: EntityId,
        image: &LoadedImage,
    ) -> Result<(), InvalidState> {
        let (request_ids, state) = entity_state::decode(&image.state, image.applied)?;
        let request_ids = match self.kept_ids {
            KeptIds::Most(_) => request_ids,
            KeptIds::None => RequestIds::default(),
        };
        let standing = Standing { entry: image.applied, chain: image.chain };
        let mirrored = Mirrored { standing, state, request_ids };
        self.bytes += mirrored.bytes();
        if let Some(before) = self.entities.insert(entity, mirrored) {
            self.bytes -= before.bytes();
        }
        Ok(())
    }

    fn agrees_with(&self, entity: EntityId, image: &LoadedImage) -> bool {
        let Some(mirrored) = self.entities.get(&entity) else { return false };
        let Ok((_, state)) = entity_state::split(&image.state) else { return false };
        match self.kept_ids {
            KeptIds::Most(_) => self.encoded(entity).as_deref() == Some(&*image.state),
            KeptIds::None => {
                let mut own = Vec::new();
                mirrored.state.encode(&mut own);
                own == state
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        self.bytes
    }
}
