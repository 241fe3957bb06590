//! Mirrors: of a disk as it is, to compare; and, where a mix asks for them, one beside each core
//! that follows its log while the node runs, lags, pauses, locks checkpoints and begins anew.
//!
//! A live mirror survives its node's crashes, as a process beside it would. It registers with each
//! boot anew, and then every segment that it needs has to be there until it is told otherwise.

use engine::replayer::{BeginAnew, ReplayError, Wants};
use engine::shard::{LockRefused, LockedCheckpoint, MirrorId, MirrorRefused, StringShard};
use plog::segment::SegmentId;

use crate::checkers::Violation;
use crate::mirroring::{DiskReplayer, follow, load_part, new_replayer, replay};
use crate::world::{CoreId, Event, World};

/// A live mirror looks again after this time at most, in microseconds.
const STEP_MAX_US: u64 = 20_000;

/// Or, one time in so many, after this one.
const LAGS_ONE_IN: u64 = 12;
const LAG_MAX_US: u64 = 600_000;

/// Records it takes at a time, at most.
const RECORDS_MAX: u64 = 400;

/// It pauses one time in so many.
const PAUSES_ONE_IN: u64 = 10;

/// A mirror beside a core.
#[derive(Debug)]
pub(super) struct LiveMirror {
    replayer: DiskReplayer,
    /// With the boot that runs.
    registered: Option<MirrorId>,
    /// Mirrors that kept too much, by that boot's count, when this one was last told that its
    /// segments are kept.
    overruns: u64,
    /// The checkpoint being read, and the next of its parts.
    loading: Option<(LockedCheckpoint, u16)>,
}

impl LiveMirror {
    fn new(request_ids_max: usize) -> Self {
        Self {
            replayer: new_replayer(request_ids_max),
            registered: None,
            overruns: 0,
            loading: None,
        }
    }

    /// The node starts: no boot before has told this one of locks and mirrors.
    fn register_anew(&mut self, shard: &mut StringShard) {
        self.loading = None;
        self.registered = None;
        self.overruns = 0;
        let Some(at) = self.replayer.stands_at() else { return };
        match shard.register_mirror(at.segment) {
            Ok(mirror) => self.registered = Some(mirror),
            Err(MirrorRefused::Freed(freed)) => drop(self.replayer.lost_segment(freed.oldest)),
            Err(MirrorRefused::TooMany | MirrorRefused::Abstains) => {}
        }
    }

    /// Tells the shard that the log from `segment` on is needed. Whether it is kept.
    fn need_from(&mut self, shard: &mut StringShard, segment: SegmentId) -> bool {
        let is_kept = match self.registered {
            Some(mirror) => shard.mirror_stands_at(mirror, segment).is_ok(),
            None => {
                self.registered = shard.register_mirror(segment).ok();
                self.registered.is_some()
            }
        };
        if is_kept {
            self.overruns = shard.counters().mirrors_overrun;
        }
        is_kept
    }
}

impl World {
    /// Puts a mirror beside every core.
    pub(super) fn add_mirrors(&mut self) {
        for node in 0..self.node_count() {
            for id in self.core_ids(node) {
                let limit = self.shard(id).config().request_ids_max;
                self.core(id).mirror = Some(LiveMirror::new(limit));
                self.schedule_mirror(id);
            }
        }
    }

    fn schedule_mirror(&mut self, to: CoreId) {
        let lags = self.chances.mirrors.below(LAGS_ONE_IN) == 0;
        let delay = self.chances.mirrors.below(if lags { LAG_MAX_US } else { STEP_MAX_US });
        self.schedule(1 + delay, Event::Mirror { to });
    }

    /// A node started: its mirrors go on.
    pub(super) fn register_mirrors(&mut self, node: u8) {
        for core in &mut self.nodes[usize::from(node)].cores {
            if let (Some(mirror), Some(shard)) = (&mut core.mirror, &mut core.shard) {
                mirror.register_anew(shard);
            }
        }
    }

    /// A live mirror does what comes next.
    pub(super) fn step_mirror(&mut self, to: CoreId) {
        self.schedule_mirror(to);
        // A disk that may be damaged proves nothing.
        if !self.is_up(to.node) || self.is_damageable(to.node) {
            return;
        }
        let Some(mut mirror) = self.core(to).mirror.take() else { return };
        let before = mirror.replayer.counters();
        let stepped = match mirror.replayer.wants() {
            Wants::Nothing => {
                mirror.replayer.resume();
                Ok(())
            }
            Wants::Checkpoint => self.load_mirror(to, &mut mirror),
            Wants::Log { .. } => self.follow_log(to, &mut mirror),
        };
        let after = mirror.replayer.counters();
        self.coverage.mirrored_entries += after.executed - before.executed;
        self.coverage.mirror_images += after.loaded - before.loaded;
        self.coverage.mirrors_begun_anew += after.begun_anew - before.begun_anew;
        if after.executed > before.executed && self.chances.mirrors.below(PAUSES_ONE_IN) == 0 {
            mirror.replayer.pause();
            self.coverage.mirror_pauses += 1;
        }
        let looked = stepped.and_then(|()| self.checker.mirrored(to.node, &mirror.replayer));
        self.core(to).mirror = Some(mirror);
        self.note(looked);
        self.pump(to);
    }

    /// Loads a checkpoint, a part at a time, under a lock.
    fn load_mirror(&mut self, to: CoreId, mirror: &mut LiveMirror) -> Result<(), Violation> {
        let now = self.clock_of(to.node);
        let identity = self.nodes[usize::from(to.node)].log_identity(to);
        let core = self.core(to);
        let shard = core.shard.as_mut().expect("just seen");
        let Some((locked, next)) = mirror.loading else {
            match shard.lock_checkpoint(now) {
                Ok(locked) => {
                    assert!(mirror.need_from(shard, locked.pointer.floor), "it was just locked");
                    mirror.replayer.begin(Some(&locked.pointer));
                    mirror.loading = Some((locked, 0));
                }
                Err(LockRefused::NoCheckpoint) => {
                    assert!(mirror.need_from(shard, SegmentId::FIRST), "nothing was freed yet");
                    mirror.replayer.begin(None);
                    mirror.replayer.finish_loading().expect("there is nothing to miss");
                }
                Err(LockRefused::TooMany | LockRefused::Abstains) => {}
            }
            return Ok(());
        };
        if shard.renew_checkpoint_lock(now, locked.lock).is_err() {
            // It was away for too long, or the log had to go.
            mirror.loading = None;
            return Ok(());
        }
        if let Some(part) = locked.parts().nth(usize::from(next)) {
            let checkpoint = locked.pointer.checkpoint;
            let found = core.disk.parts(checkpoint).find(|(found, _)| *found == part);
            let Some((_, bytes)) = found else {
                let what = format!("part {part} of a locked checkpoint of {to:?} is gone");
                return Err(Violation::new("kept", what));
            };
            mirror.loading = Some((locked, next + 1));
            return load_part(&mut mirror.replayer, &identity, part, bytes).map_err(broken(to));
        }
        mirror.loading = None;
        let unlocked = shard.unlock_checkpoint(now, locked.lock);
        assert!(unlocked.is_ok(), "it was just renewed");
        mirror.replayer.finish_loading().map_err(broken(to))
    }

    /// Reads on in the log, and says where the mirror stands.
    fn follow_log(&mut self, to: CoreId, mirror: &mut LiveMirror) -> Result<(), Violation> {
        let limit = 1 + self.chances.mirrors.below(RECORDS_MAX);
        let limit = usize::try_from(limit).expect("few");
        let identity = self.nodes[usize::from(to.node)].log_identity(to);
        let core = self.core(to);
        let shard = core.shard.as_mut().expect("just seen");
        let at = mirror.replayer.stands_at().expect("it follows the log");
        if !mirror.need_from(shard, at.segment) {
            // It kept too much, and is told; nothing else is a reason.
            let oldest = shard.log().oldest_segment();
            let is_due = shard.counters().mirrors_overrun > mirror.overruns;
            let _ = mirror.replayer.lost_segment(oldest);
            if mirror.registered.is_some() && !is_due {
                let wanted = at.segment;
                let what = format!(
                    "{to:?} freed segment {wanted}, which a mirror within its bound needs; its log \
                     begins with {oldest}"
                );
                return Err(Violation::new("kept", what));
            }
            return Ok(());
        }
        match follow(&mut mirror.replayer, &core.disk, &identity, limit) {
            Ok(()) => {}
            Err(ReplayError::BeginAnew(BeginAnew::Gap { wanted, found })) => {
                let what = format!(
                    "{to:?} was to keep segment {wanted} for a mirror; its log begins with {found}"
                );
                return Err(Violation::new("kept", what));
            }
            Err(error) => return Err(broken(to)(error)),
        }
        let shard = core.shard.as_mut().expect("just seen");
        let at = mirror.replayer.stands_at().expect("it follows the log");
        assert!(mirror.need_from(shard, at.segment), "a mirror moves forward");
        Ok(())
    }

    /// Replays what a core's disk holds from its beginning.
    ///
    /// # Errors
    ///
    /// When it contradicts itself.
    pub(super) fn replay_disk(
        &mut self,
        id: CoreId,
        limit: usize,
    ) -> Result<DiskReplayer, Violation> {
        let identity = self.nodes[usize::from(id.node)].log_identity(id);
        let mut replayer = new_replayer(limit);
        replay(&mut replayer, &self.core(id).disk, &identity).map_err(broken(id))?;
        let counters = replayer.counters();
        self.coverage.replays += 1;
        self.coverage.replayed_entries += counters.executed;
        self.coverage.replayed_images += counters.loaded;
        self.coverage.images_compared += counters.compared;
        let held = replayer.stands_at().map_or(0, |at| at.held);
        self.coverage.held_back += u64::try_from(held).expect("few");
        Ok(replayer)
    }
}

fn broken(id: CoreId) -> impl Fn(ReplayError) -> Violation {
    move |error| Violation::new("mirror", format!("the files of {id:?}: {error}"))
}
