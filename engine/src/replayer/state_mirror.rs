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
    /// All that were seen, for who does not know how many the replicas keep: as many as they do, or
    /// more. Images are compared with the newest.
    Seen,
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
        let limit = match self.kept_ids {
            KeptIds::Most(limit) => Some(limit),
            KeptIds::Seen => Some(usize::MAX),
            KeptIds::None => None,
        };
        if let Some(limit) = limit {
            for (id, reply) in batch.requests() {
                if self.kept_ids == KeptIds::Seen {
                    // One that comes again is one that the replicas have forgotten.
                    mirrored.request_ids.forget(id);
                }
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
            KeptIds::Most(_) | KeptIds::Seen => request_ids,
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
        let Ok((ids, state)) = entity_state::split(&image.state) else { return false };
        let is_same_state = || {
            let mut own = Vec::new();
            mirrored.state.encode(&mut own);
            own == state
        };
        match self.kept_ids {
            KeptIds::Most(_) => self.encoded(entity).as_deref() == Some(&*image.state),
            KeptIds::Seen => mirrored.request_ids.ends_with(&ids) && is_same_state(),
            KeptIds::None => is_same_state(),
        }
    }

    fn memory_bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use net::resp::value::Value;
    use plog::assemble::LoadedImage;
    use plog::vocabulary::{AcceptorId, BootEpoch, EntityId, Entry, ValueId};

    use super::{KeptIds, StateMirror};
    use crate::batch::{Batch, BatchBuilder};
    use crate::entity_state;
    use crate::request_ids::RequestIds;
    use crate::state_machine::StateMachine as _;
    use crate::state_machine::mirror::{ChosenValue, Mirror as _, Standing};
    use crate::state_machine::strings::Strings;

    const ENTITY: EntityId = EntityId(1);

    #[test]
    fn a_mirror_that_keeps_all_ids_agrees_with_replicas_that_forget_some() {
        let mut mirror = StateMirror::<Strings>::new(KeptIds::Seen);
        let (mut ids, mut state) = (RequestIds::default(), Strings::default());
        // The replicas keep two, so the fourth request is one that they have forgotten.
        for (id, entry) in [b"a", b"b", b"c", b"a", b"d"].into_iter().zip((1..).map(Entry)) {
            let mut batch = BatchBuilder::default();
            batch.add_request(id, &Value::Integer(1));
            let value = batch.finish(|_| ());
            let batch = Batch::parse(&value).unwrap();
            for (id, reply) in batch.requests() {
                assert!(ids.remember(id, reply, 2));
            }
            state.apply(entry, batch.effects()).unwrap();
            let epoch = BootEpoch(1);
            let value_id = ValueId { originator: AcceptorId(0), epoch, counter: entry.0 };
            let standing = Standing { entry, chain: 7 };
            let chosen = ChosenValue { entity: ENTITY, standing, value_id, batch };
            mirror.execute_for_checkpoint(&chosen).unwrap();
            let bytes = entity_state::encode(&ids, &state).into();
            let image = LoadedImage { applied: entry, chain: 7, last_value_id: None, state: bytes };
            assert!(mirror.agrees_with(ENTITY, &image), "entry {}", entry.0);
            let mut others = RequestIds::default();
            assert!(others.remember(b"x", b":1\r\n", 2));
            let state = entity_state::encode(&others, &state).into();
            let image = LoadedImage { state, ..image };
            assert!(!mirror.agrees_with(ENTITY, &image), "ids that it never saw");
        }
        let bytes = mirror.encoded(ENTITY).unwrap();
        let (kept, _) = entity_state::split(&bytes).unwrap();
        assert_eq!(kept.len(), 4, "a, which came again, b, c and d");
        assert!(kept.ends_with(&ids));
    }
}
