//! A second state machine beside the serving one: fed by a [`crate::replayer::Replayer`] with what
//! is chosen, and with a checkpoint of its own.
//!
//! The serving machine ([`StateMachine`](super::StateMachine)) needs none of this: its checkpoint
//! is made by the shard's walk, entity by entity. A mirror is for what wants another form of the
//! data (sums, a search index, a copy elsewhere) without being in the path of a command. It is
//! for all entities of a core, and keeps its state where it likes.
//!
//! The verbs by `PhxPaxos`'s names, of the serving machine and of a mirror:
//!
//! - `Execute`: [`StateMachine::apply`](super::StateMachine::apply); a mirror has none.
//! - `ExecuteForCheckpoint`: not needed by the serving machine, whose images are taken by the walk;
//!   [`Mirror::execute_for_checkpoint`].
//! - `GetCheckpointInstanceID`: the entry in a row of the checkpoint's table, and in all
//!   [`Shard::stands_at`]; [`Mirror::stands_at`], and in all [`Replayer::stands_at`].
//! - `LockCheckpointState`, `GetCheckpointState`, `UnLockCheckpointState`:
//!   [`Shard::lock_checkpoint`], [`LockedCheckpoint::parts`], [`Shard::unlock_checkpoint`]; between
//!   [`Replayer::pause`] and [`Replayer::resume`] nothing changes a mirror.
//! - `LoadCheckpointState`: [`Shard::recover_checkpointed`], at a start;
//!   [`Mirror::load_checkpoint`].
//!
//! [`Shard::stands_at`]: crate::shard::Shard::stands_at
//! [`Shard::lock_checkpoint`]: crate::shard::Shard::lock_checkpoint
//! [`Shard::unlock_checkpoint`]: crate::shard::Shard::unlock_checkpoint
//! [`Shard::recover_checkpointed`]: crate::shard::Shard::recover_checkpointed
//! [`LockedCheckpoint::parts`]: crate::shard::LockedCheckpoint::parts
//! [`Replayer::stands_at`]: crate::replayer::Replayer::stands_at
//! [`Replayer::pause`]: crate::replayer::Replayer::pause
//! [`Replayer::resume`]: crate::replayer::Replayer::resume

use core::fmt::Debug;

use plog::assemble::LoadedImage;
use plog::vocabulary::{EntityId, Entry, ValueId};

use crate::batch::Batch;
use crate::state_machine::InvalidState;

/// How far a mirror is with one entity.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// The last entry that is part of it; [`Entry::ZERO`] of an entity that it has nothing of.
    pub entry: Entry,
    /// The entity's checksum chain at that entry.
    pub chain: u32,
}

/// A chosen value, to be executed once, in the order of entries.
#[derive(Clone, Copy, Debug)]
pub struct ChosenValue<'a> {
    /// Of which entity.
    pub entity: EntityId,
    /// Where the mirror stands with it when it has executed this: at this entry.
    pub standing: Standing,
    /// The value's name.
    pub value_id: ValueId,
    /// What was chosen: the effects, in the serving machine's encoding, and the requests' ids.
    pub batch: Batch<'a>,
}

/// See the module page.
///
/// Deterministic. What it keeps durably it may write when it likes: its own checkpoint holds, with
/// its state, the [`Standing`] of every entity and the segment of [`StandsAt`] as of that moment,
/// and a new [`Replayer::from_own_checkpoint`] goes on from there.
///
/// [`StandsAt`]: crate::replayer::StandsAt
/// [`Replayer::from_own_checkpoint`]: crate::replayer::Replayer::from_own_checkpoint
pub trait Mirror: Debug {
    /// What it stands at with an entity ("`GetCheckpointInstanceID`", for one entity).
    fn stands_at(&self, entity: EntityId) -> Standing;

    /// Executes the value of the entry after the one it stands at ("`ExecuteForCheckpoint`").
    /// Afterwards it stands at `chosen.standing`.
    ///
    /// # Errors
    ///
    /// When it cannot: the replayer stops for good, since the log does not say what it said when
    /// it was written.
    fn execute_for_checkpoint(&mut self, chosen: &ChosenValue<'_>) -> Result<(), InvalidState>;

    /// Replaces what it has of an entity by an image, of a later entry than it stands at
    /// ("`LoadCheckpointState`"). Afterwards it stands at the image's entry and chain.
    ///
    /// # Errors
    ///
    /// When the bytes are not an image ([`crate::entity_state`]).
    fn load_checkpoint(
        &mut self,
        entity: EntityId,
        image: &LoadedImage,
    ) -> Result<(), InvalidState>;

    /// Whether it has come to the same as an image of the entry that it stands at, as far as it can
    /// tell.
    fn agrees_with(&self, entity: EntityId, image: &LoadedImage) -> bool;

    /// Approximate memory used, in bytes.
    fn memory_bytes(&self) -> usize;
}
