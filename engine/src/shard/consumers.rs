//! Who else lives on what this shard has on disk: *locks* on its checkpoint, and *mirrors*.
//!
//! Whoever sends or copies a checkpoint locks it first; a mirror follows the log from the
//! checkpoint on ([`crate::replayer`]). Both need files that the shard itself would let go, so the
//! cleaner goes by the minimum of what all of them stand at. `PhxPaxos` took the maximum, and a
//! slower machine lost its log.
//!
//! ```text
//!              ┌ floor of the checkpoint that counts: what this shard needs
//!   minimum of ┤ floors of locked checkpoints
//!              └ segments at which mirrors stand
//! ```
//!
//! Nobody can fill the disk by it:
//!
//! - there are at most [`LOCKS_MAX`] locks and [`MIRRORS_MAX`] mirrors;
//! - a lock ends at its deadline unless it is renewed;
//! - a mirror keeps at most `mirror_log_bytes` of log;
//! - when the log nears its limit, all of them give way to what this shard needs itself.
//!
//! A lock or a mirror that gave way is told so when it speaks next, and begins anew from the
//! checkpoint that counts then.

use std::collections::BTreeMap;

use plog::checkpoint::pointer::Pointer;
use plog::checkpoint::{CheckpointId, PartId};
use plog::planted;
use plog::segment::SegmentId;

use crate::shard::Shard;
use crate::state_machine::StateMachine;
use crate::status::as_u64;
use crate::time::Time;

/// Locks that a shard's checkpoints may have at a time. As many superseded checkpoints are kept.
pub const LOCKS_MAX: usize = 4;

/// Mirrors that may be registered with a shard.
pub const MIRRORS_MAX: usize = 8;

/// Names a lock on a checkpoint. Never used twice in a boot.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LockId(u64);

/// Names a registered mirror. Never used twice in a boot.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct MirrorId(u64);

/// A checkpoint whose parts, with the log from its floor on, stay as they are while it is locked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LockedCheckpoint {
    /// For [`Shard::renew_checkpoint_lock`] and [`Shard::unlock_checkpoint`].
    pub lock: LockId,
    /// Which checkpoint, its size and floor.
    pub pointer: Pointer,
    /// When the lock ends unless it is renewed.
    pub until: Time,
}

impl LockedCheckpoint {
    /// The files ("`GetCheckpointState`"). The size of each stands in its seal, and what the
    /// checkpoint stands at, entity by entity, in its table.
    pub fn parts(&self) -> impl Iterator<Item = PartId> + use<> {
        let Pointer { checkpoint, parts, .. } = self.pointer;
        (0..parts).map(move |number| checkpoint.part(number))
    }
}

/// Why a checkpoint is not locked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LockRefused {
    /// None was adopted yet: the log alone says everything.
    #[error("there is no checkpoint yet; read the log from its first segment on")]
    NoCheckpoint,
    /// As many locks as there may be.
    #[error("{LOCKS_MAX} locks are held on checkpoints already; unlock one, or wait for its end")]
    TooMany,
    /// The log is damaged, and so may be the checkpoint.
    #[error("this shard abstains, and hands out nothing of what it holds; ask another replica")]
    Abstains,
}

/// The lock is gone: it was not renewed in time, or gave way when the log neared its limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the lock on the checkpoint ended; lock the one that counts now and begin anew")]
pub struct LockLost;

/// What a mirror stands at is no longer kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the log is no longer kept from segment {wanted} on, it begins with {oldest}; begin anew from \
     the checkpoint that counts"
)]
pub struct LogFreed {
    /// Where the mirror stands.
    pub wanted: SegmentId,
    /// The oldest segment there is.
    pub oldest: SegmentId,
}

/// Why a mirror is not registered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MirrorRefused {
    /// What it stands at is not there.
    #[error("{0}")]
    Freed(#[from] LogFreed),
    /// As many as there may be.
    #[error("{MIRRORS_MAX} mirrors are registered already; unregister one")]
    TooMany,
    /// The log is damaged.
    #[error("this shard abstains, and its log must not be followed; follow another replica's")]
    Abstains,
}

#[derive(Clone, Copy, Debug)]
struct Mirror {
    stands_at: SegmentId,
    /// It kept too much, and keeps nothing until it has moved on.
    gave_way: bool,
}

/// See the module page.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    locks: BTreeMap<LockId, (Pointer, Time)>,
    mirrors: BTreeMap<MirrorId, Mirror>,
    named: u64,
}

impl Consumers {
    fn name(&mut self) -> u64 {
        self.named += 1;
        self.named
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.locks.is_empty() && self.mirrors.is_empty()
    }

    pub(crate) fn locks(&self) -> usize {
        self.locks.len()
    }

    pub(crate) fn mirrors(&self) -> usize {
        self.mirrors.len()
    }

    /// Whether the files of a checkpoint must stay.
    pub(crate) fn has_locked(&self, checkpoint: CheckpointId) -> bool {
        self.locks.values().any(|(pointer, _)| pointer.checkpoint == checkpoint)
    }

    /// When the next lock ends.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.locks.values().map(|(_, until)| *until).min()
    }

    /// Ends the locks whose time is over. How many.
    fn expire(&mut self, now: Time) -> usize {
        let before = self.locks.len();
        self.locks.retain(|_, (_, until)| *until > now);
        before - self.locks.len()
    }

    /// Lets go of all that keeps segments before `needed`. How many locks and mirrors did.
    fn give_way(&mut self, needed: SegmentId) -> (usize, usize) {
        let before = self.locks.len();
        self.locks.retain(|_, (pointer, _)| pointer.floor >= needed);
        (before - self.locks.len(), self.give_way_to(needed))
    }

    /// Lets the mirrors go that stand before `needed`. How many did not know before.
    fn give_way_to(&mut self, needed: SegmentId) -> usize {
        let late = |mirror: &&mut Mirror| mirror.stands_at < needed && !mirror.gave_way;
        self.mirrors.values_mut().filter(late).map(|mirror| mirror.gave_way = true).count()
    }

    /// The first segment that any of them needs.
    fn first_needed(&self) -> Option<SegmentId> {
        let locked = self.locks.values().map(|(pointer, _)| pointer.floor);
        let mirrored = self.mirrors.values().filter(|mirror| !mirror.gave_way);
        locked.chain(mirrored.map(|mirror| mirror.stands_at)).min()
    }
}

impl<M: StateMachine> Shard<M> {
    /// Keeps the checkpoint that counts, and the log from its floor on, as they are until
    /// [`Shard::unlock_checkpoint`], or for `checkpoint_lock_us` if it is not renewed
    /// ("`LockCheckpointState`"). A newer checkpoint may be adopted meanwhile.
    ///
    /// # Errors
    ///
    /// When there is none, or nothing more can be locked.
    pub fn lock_checkpoint(&mut self, now: Time) -> Result<LockedCheckpoint, LockRefused> {
        self.context.now = now;
        if self.abstaining.is_whole_shard() {
            return Err(LockRefused::Abstains);
        }
        let pointer = self.checkpointing.adopted().ok_or(LockRefused::NoCheckpoint)?;
        self.expire_locks();
        if self.consumers.locks.len() >= LOCKS_MAX {
            self.context.counters.checkpoint_locks_refused += 1;
            return Err(LockRefused::TooMany);
        }
        self.context.counters.checkpoint_locks += 1;
        let lock = LockId(self.consumers.name());
        let until = now.after_us(self.context.config.checkpoint_lock_us);
        self.consumers.locks.insert(lock, (pointer, until));
        Ok(LockedCheckpoint { lock, pointer, until })
    }

    /// Puts a lock's end off. When it ends now.
    ///
    /// # Errors
    ///
    /// When it ended already: what was read under it since it was renewed last may be of other
    /// files.
    pub fn renew_checkpoint_lock(&mut self, now: Time, lock: LockId) -> Result<Time, LockLost> {
        self.context.now = now;
        self.expire_locks();
        let (_, until) = self.consumers.locks.get_mut(&lock).ok_or(LockLost)?;
        *until = now.after_us(self.context.config.checkpoint_lock_us);
        Ok(*until)
    }

    /// Lets a locked checkpoint go when the shard no longer needs it ("`UnLockCheckpointState`").
    ///
    /// # Errors
    ///
    /// When the lock ended already.
    pub fn unlock_checkpoint(&mut self, now: Time, lock: LockId) -> Result<(), LockLost> {
        self.context.now = now;
        self.expire_locks();
        self.consumers.locks.remove(&lock).map(drop).ok_or(LockLost)
    }

    /// From now on the log is kept from `from` on for a mirror that stands there, within the bounds
    /// of the [module page](self). Call it again after every start, before anything is polled.
    ///
    /// # Errors
    ///
    /// When it was freed already, or there are too many mirrors.
    pub fn register_mirror(&mut self, from: SegmentId) -> Result<MirrorId, MirrorRefused> {
        if self.abstaining.is_whole_shard() {
            return Err(MirrorRefused::Abstains);
        }
        self.is_kept(from)?;
        if self.consumers.mirrors.len() >= MIRRORS_MAX {
            return Err(MirrorRefused::TooMany);
        }
        let mirror = MirrorId(self.consumers.name());
        self.consumers.mirrors.insert(mirror, Mirror { stands_at: from, gave_way: false });
        Ok(mirror)
    }

    /// A mirror stands at `segment` now: it needs nothing before
    /// ([`crate::replayer::StandsAt::segment`], "`GetCheckpointInstanceID`").
    ///
    /// # Errors
    ///
    /// When that is not kept any more. The mirror stays registered; it says where it stands when it
    /// has begun anew.
    ///
    /// # Panics
    ///
    /// When it is not registered.
    pub fn mirror_stands_at(
        &mut self,
        mirror: MirrorId,
        segment: SegmentId,
    ) -> Result<(), LogFreed> {
        let kept = self.is_kept(segment);
        let known = self.consumers.mirrors.get_mut(&mirror).expect("a registered mirror speaks");
        *known = Mirror { stands_at: segment, gave_way: kept.is_err() };
        kept
    }

    /// Keeps nothing for a mirror any more.
    pub fn unregister_mirror(&mut self, mirror: MirrorId) {
        self.consumers.mirrors.remove(&mirror);
    }

    /// The first segment that this shard, a lock or a mirror needs: what all of them together stand
    /// at. A segment before it may go at any time.
    #[must_use]
    pub fn stands_at(&self) -> SegmentId {
        let own = self.checkpointing.floor();
        if planted!("checkpoint-stands-at-maximum") {
            return own;
        }
        self.consumers.first_needed().map_or(own, |first| first.min(own))
    }

    fn is_kept(&self, wanted: SegmentId) -> Result<(), LogFreed> {
        let oldest = self.context.log.oldest_segment();
        if wanted >= oldest { Ok(()) } else { Err(LogFreed { wanted, oldest }) }
    }

    pub(super) fn expire_locks(&mut self) {
        let expired = self.consumers.expire(self.context.now);
        self.context.counters.checkpoint_locks_expired += as_u64(expired);
    }

    /// Ends what has kept more than it may. For the cleaner, before it looks what may go.
    pub(super) fn limit_consumers(&mut self) {
        self.expire_locks();
        let mut broken = 0;
        let mut overrun = 0;
        if self.is_log_near_its_limit() {
            (broken, overrun) = self.consumers.give_way(self.checkpointing.floor());
        }
        let kept = self.context.config.mirror_log_bytes;
        let before = self.context.log.position().saturating_sub(kept);
        let first = SegmentId(1 + before / u64::from(self.log_config.segment_size));
        overrun += self.consumers.give_way_to(first.min(self.checkpointing.floor()));
        self.context.counters.checkpoint_locks_broken += as_u64(broken);
        self.context.counters.mirrors_overrun += as_u64(overrun);
    }
}
