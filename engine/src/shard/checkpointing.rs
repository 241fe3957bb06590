//! Checkpoints of a shard: when they begin, and what goes into them.
//!
//! The walk comes past every entity in the index's order, a frame at a time, while the shard goes
//! on serving. An entity in memory gives its image; one that is only an image on disk is copied
//! without being parsed, many with one read; any other is loaded first. What an open entry has in
//! the log before the checkpoint's floor is appended anew.
//!
//! *Safe to adopt* when all of that is durable: then the checkpoint and the log from its floor on
//! say all that this replica promised, accepted and learned.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use plog::block::AlignedBuffer;
use plog::checkpoint::CheckpointId;
use plog::checkpoint::pointer::Pointer;
use plog::checkpoint::writer::{CheckpointWrite, CheckpointWriter, WrittenImage};
use plog::location::{Location, copy_back};
use plog::planted;
use plog::segment::{SegmentId, SpareId};
use plog::summary::RecordSummary;
use plog::vocabulary::{EntityId, Entry, Lsn};

use crate::context::Event;
use crate::shard::log_reads::{Purpose, ReadFailed};
use crate::shard::{LogSpace, Shard};
use crate::state_machine::StateMachine;
use crate::time::Time;

/// Entities looked up in the index at a time.
const PAGE: usize = 256;

/// Reads for a checkpoint under way: loads, and stretches that are copied.
const READS_MAX: usize = 16;

/// Images lying together are copied with one read up to this many bytes.
const RUN_BYTES_MAX: u32 = 256 << 10;

/// What to do with files, one thing after the other.
#[derive(Debug)]
pub enum FileStep {
    /// Write to a checkpoint's part, which is made when the offset is 0. Report it with
    /// [`Shard::handle_checkpoint_written`].
    Write(CheckpointWrite),
    /// What may block: to be done apart from the core.
    Job(FileJob),
}

/// What may block when it is done with files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileJob {
    /// Make all parts of the checkpoint durable under their names, then the pointer, in both
    /// copies. Report it with [`Shard::handle_adopted`].
    Adopt(Pointer),
    /// Delete the parts of a checkpoint that no longer counts. Not reported.
    Remove {
        /// Which.
        checkpoint: CheckpointId,
        /// How many parts it has.
        parts: u16,
    },
    /// A segment is no longer needed: rename it to a spare and sync the directory, or delete it.
    /// Report it with [`Shard::handle_freed`], and the spare with [`Shard::handle_spare`].
    Free {
        /// The segment.
        segment: SegmentId,
        /// What it becomes; `None`: delete it.
        becomes: Option<SpareId>,
    },
}

/// Why a checkpoint that was asked for will not come.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoCheckpoint {
    /// The log is damaged; nothing is written any more.
    #[error("this core abstains and writes nothing")]
    Abstains,
    /// There is nothing to hold.
    #[error("this core has never written anything")]
    NothingLogged,
}

/// How long a checkpoint waits for entities whose images are lost, in microseconds.
const HEALING_PATIENCE_US: u64 = 30_000_000;

/// An image that goes into the checkpoint as it is.
#[derive(Clone, Copy, Debug)]
struct Copied {
    entity: EntityId,
    applied: Entry,
    keys: u32,
    image: Location,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Walking,
    /// All is written; the log has to be durable up to here.
    Settling(Lsn),
    Adopting,
}

#[derive(Debug)]
struct Walk {
    writer: CheckpointWriter,
    /// Where the log was when it began.
    position: u64,
    /// The last entity of the pages fetched so far.
    cursor: Option<EntityId>,
    page: VecDeque<EntityId>,
    has_all_pages: bool,
    /// Entities that are being loaded for it.
    loading: BTreeSet<EntityId>,
    /// Entities whose image was lost, and that have not got another yet.
    healing: BTreeSet<EntityId>,
    /// These are waited for until then.
    heals_until: Time,
    /// Images on disk that lie together, and may be joined by the next.
    run: Vec<Copied>,
    /// Those that are being read.
    runs: BTreeMap<u64, Vec<Copied>>,
    next_run: u64,
    stage: Stage,
}

/// See the module page.
#[derive(Debug, Default)]
pub(crate) struct Checkpointing {
    walk: Option<Walk>,
    /// The one that counts.
    adopted: Option<Pointer>,
    /// Where the log was when that one began.
    position: u64,
    /// Those before, until nothing reads them any more and no lock is on them: one, and one for
    /// each lock.
    superseded: Vec<Pointer>,
    /// When the next write may start, for the rate limit.
    next_write: Time,
    /// An operator wants one now.
    is_requested: bool,
}

impl Checkpointing {
    /// After a start from `adopted`.
    pub(crate) fn after(adopted: Option<Pointer>, segment_size: u32) -> Self {
        let position = adopted.map_or(0, |adopted| (adopted.floor.0 - 1) * u64::from(segment_size));
        Self { adopted, position, ..Self::default() }
    }

    /// The first segment that is needed.
    pub(crate) fn floor(&self) -> SegmentId {
        self.adopted.map_or(SegmentId::FIRST, |adopted| adopted.floor)
    }

    /// The checkpoint that counts.
    pub(crate) fn adopted(&self) -> Option<Pointer> {
        self.adopted
    }

    pub(crate) fn size(&self) -> u64 {
        self.adopted.map_or(0, |adopted| adopted.bytes)
    }

    /// The number of the checkpoint that counts, 0 for none.
    pub(crate) fn number(&self) -> u64 {
        self.adopted.map_or(0, |adopted| adopted.checkpoint.0)
    }

    fn next_id(&self) -> CheckpointId {
        self.adopted.map_or(CheckpointId::FIRST, |last| last.checkpoint.next())
    }

    pub(crate) fn is_running(&self) -> bool {
        self.walk.is_some()
    }

    /// When the rate limit lets the next write start, or an entity is waited for no longer, if that
    /// is later than `now`.
    pub(crate) fn next_due(&self, now: Time) -> Option<Time> {
        let walk = self.walk.as_ref()?;
        let heals = (!walk.healing.is_empty()).then_some(walk.heals_until);
        let dues = heals.into_iter().chain([self.next_write]);
        dues.filter(|due| walk.stage == Stage::Walking && *due > now).min()
    }
}

impl Walk {
    fn reads(&self) -> usize {
        self.loading.len() + self.runs.len()
    }
}

impl<M: StateMachine> Shard<M> {
    /// Begins a checkpoint as soon as possible, whatever was logged since the last one. One that is
    /// under way began before and does not count.
    ///
    /// # Errors
    ///
    /// When there will be none.
    pub fn request_checkpoint(&mut self) -> Result<CheckpointId, NoCheckpoint> {
        if self.abstaining.is_whole_shard() {
            return Err(NoCheckpoint::Abstains);
        }
        if self.context.log.floor_now().is_none() {
            return Err(NoCheckpoint::NothingLogged);
        }
        self.checkpointing.is_requested = true;
        let running = self.checkpointing.walk.as_ref().map(|walk| walk.writer.id());
        Ok(running.map_or_else(|| self.checkpointing.next_id(), CheckpointId::next))
    }

    /// Whether a checkpoint is being written or adopted.
    #[must_use]
    pub fn is_checkpointing(&self) -> bool {
        self.checkpointing.is_running()
    }

    /// Bytes of log written since the checkpoint that counts began.
    pub(super) fn log_since_checkpoint(&self) -> u64 {
        self.context.log.position().saturating_sub(self.checkpointing.position)
    }

    /// What to do next with the files of checkpoints and freed segments; `None` when nothing is
    /// due. It goes by a pace, and may be asked before anything was handled.
    pub fn poll_file_step(&mut self, now: Time) -> Option<FileStep> {
        self.context.now = now;
        if self.abstaining.is_whole_shard() {
            return None;
        }
        if let Some(job) = self.poll_remove().or_else(|| self.poll_free()) {
            return Some(FileStep::Job(job));
        }
        if self.checkpointing.walk.is_none() {
            self.begin_checkpoint_if_due();
        }
        self.continue_checkpoint()
    }

    /// A superseded checkpoint that nobody needs goes.
    fn poll_remove(&mut self) -> Option<FileJob> {
        let is_free = |old: &Pointer| {
            let first = old.checkpoint.part(0).file();
            let last = old.checkpoint.part(u16::MAX).file();
            !self.consumers.has_locked(old.checkpoint)
                && !self.log_reads.reads_from(|file| file >= first && file <= last)
        };
        let position = self.checkpointing.superseded.iter().position(is_free)?;
        let Pointer { checkpoint, parts, .. } = self.checkpointing.superseded.remove(position);
        Some(FileJob::Remove { checkpoint, parts })
    }

    fn begin_checkpoint_if_due(&mut self) {
        let config = &self.context.config;
        let since = self.log_since_checkpoint();
        let proportion =
            self.checkpointing.size().saturating_mul(config.checkpoint_log_percent) / 100;
        let is_due = config.checkpoint_log_bytes > 0
            && since >= config.checkpoint_log_bytes
            && (since >= proportion || self.is_log_near_its_limit());
        // On a full disk one is due as soon as a segment can go for it, and no sooner.
        let makes_room = config.checkpoint_log_bytes > 0
            && self.log_space != LogSpace::Available
            && self.context.log.floor_now().is_some_and(|now| now > self.checkpointing.floor());
        // One that is locked may stay; one that is read goes in a moment.
        let is_locked = |old: &Pointer| self.consumers.has_locked(old.checkpoint);
        let is_alone = self.checkpointing.superseded.iter().all(is_locked);
        if !is_due && !makes_room && !self.checkpointing.is_requested || !is_alone {
            return;
        }
        let Some(mut floor) = self.context.log.floor_now() else { return };
        if planted!("floor-too-late") {
            floor = floor.next();
        }
        self.checkpointing.is_requested = false;
        let id = self.checkpointing.next_id();
        let begin = self.context.log.appended();
        let part_bytes = self.context.config.checkpoint_part_bytes;
        let writer = CheckpointWriter::new(self.log_config.identity, id, floor, begin, part_bytes);
        self.checkpointing.next_write = self.context.now;
        self.checkpointing.walk = Some(Walk {
            writer,
            position: self.context.log.position(),
            cursor: None,
            page: VecDeque::new(),
            has_all_pages: false,
            loading: BTreeSet::new(),
            healing: BTreeSet::new(),
            heals_until: Time::default(),
            run: Vec::new(),
            runs: BTreeMap::new(),
            next_run: 0,
            stage: Stage::Walking,
        });
    }

    fn continue_checkpoint(&mut self) -> Option<FileStep> {
        let stage = self.checkpointing.walk.as_ref()?.stage;
        match stage {
            Stage::Adopting => None,
            Stage::Settling(lsn) => {
                let is_settled = self.context.log.durable() >= lsn;
                (is_settled || planted!("adopted-before-durable")).then(|| self.adopt())
            }
            Stage::Walking => {
                self.walk_on();
                let now = self.context.now;
                let next_write = self.checkpointing.next_write;
                let walk = self.checkpointing.walk.as_mut().expect("just seen");
                if now >= next_write
                    && let Some(write) = walk.writer.poll_write()
                {
                    self.pace(write.buffer.len());
                    return Some(FileStep::Write(write));
                }
                let walk = self.checkpointing.walk.as_mut().expect("just seen");
                if !walk.writer.is_done() {
                    return None;
                }
                // What was appended anew has to be durable before the old copies go.
                walk.stage = Stage::Settling(self.context.log.appended());
                self.context.log.open_reserve(true);
                if !planted!("adopted-before-durable") {
                    self.context.log.flush();
                }
                None
            }
        }
    }

    /// Puts off the next write, as the rate limit asks.
    fn pace(&mut self, bytes: usize) {
        let rate = self.context.config.checkpoint_bytes_per_second;
        if rate == 0 || self.is_log_near_its_limit() {
            return;
        }
        let bytes = u64::try_from(bytes).expect("a write is small");
        self.checkpointing.next_write = self.context.now.after_us(bytes * 1_000_000 / rate);
    }

    fn adopt(&mut self) -> FileStep {
        let walk = self.checkpointing.walk.as_mut().expect("called for a walk that is done");
        walk.stage = Stage::Adopting;
        if planted!("removed-before-adopted") {
            self.checkpointing.superseded.extend(self.checkpointing.adopted);
        }
        let writer = &walk.writer;
        let pointer = Pointer {
            checkpoint: writer.id(),
            parts: writer.parts(),
            floor: writer.floor(),
            settled: self.context.log.last_record(),
            bytes: writer.bytes(),
        };
        if planted!("failed-checkpoint-adopted")
            && let Some(adopted) = &mut self.checkpointing.adopted
        {
            adopted.floor = pointer.floor;
        }
        FileStep::Job(FileJob::Adopt(pointer))
    }

    /// Gives the writer what comes next, until it has a frame to write or has to wait for a read.
    fn walk_on(&mut self) {
        loop {
            let walk = self.checkpointing.walk.as_mut().expect("called while it walks");
            if walk.writer.is_full() || walk.reads() >= READS_MAX {
                return;
            }
            let Some(id) = walk.page.pop_front() else {
                if !walk.has_all_pages {
                    self.next_page();
                    continue;
                }
                self.read_run();
                let walk = self.checkpointing.walk.as_mut().expect("still there");
                if walk.reads() > 0 {
                    return;
                }
                if walk.healing.is_empty() {
                    walk.writer.finish();
                } else if walk.heals_until <= self.context.now {
                    self.give_up_healing();
                    continue;
                }
                return;
            };
            self.come_past(id);
        }
    }

    fn next_page(&mut self) {
        let walk = self.checkpointing.walk.as_mut().expect("called while it walks");
        let page = self.context.log.index().entities_after(walk.cursor, PAGE);
        walk.has_all_pages = page.len() < PAGE;
        walk.cursor = page.last().map_or(walk.cursor, |last| Some(last.entity));
        walk.page.extend(page.iter().map(|held| held.entity));
        if walk.has_all_pages {
            // Those that abstain are in no index after a start.
            let known = self.context.log.index();
            walk.page.extend(self.abstaining.unreadable().filter(|id| known.get(*id).is_none()));
        }
    }

    fn come_past(&mut self, id: EntityId) {
        if self.abstaining.covers(id) || self.entities.get(id).is_some() {
            self.take(id);
            return;
        }
        let walk = self.checkpointing.walk.as_mut().expect("called while it walks");
        if self.loading.contains_key(&id) {
            if !planted!("checkpoint-skips-loading") {
                walk.loading.insert(id);
            }
            return;
        }
        let Some(known) = self.context.log.index().get(id) else { return };
        let above = known.entries().any(|held| held.entry() > known.applied());
        match known.image() {
            Some((applied, image)) if !above => {
                let copied = Copied { entity: id, applied, keys: known.keys(), image };
                if !walk.run.last().is_none_or(|last| joins(walk.run[0].image, last.image, image)) {
                    self.read_run();
                }
                let walk = self.checkpointing.walk.as_mut().expect("still there");
                walk.run.push(copied);
            }
            Some(_) | None => {
                if self.load(id) {
                    let walk = self.checkpointing.walk.as_mut().expect("still there");
                    walk.loading.insert(id);
                } else {
                    self.take(id);
                }
            }
        }
    }

    /// An entity in memory, or one that abstains, goes into the checkpoint.
    fn take(&mut self, id: EntityId) {
        let walk = self.checkpointing.walk.as_mut().expect("called while it walks");
        let Some(entity) = self.entities.get_mut(id) else {
            walk.writer.push_abstaining(id);
            return;
        };
        if !entity.may_heal() {
            self.leave_out(id);
            return;
        }
        if !entity.is_own() {
            if walk.healing.is_empty() {
                walk.heals_until = self.context.now.after_us(HEALING_PATIENCE_US);
            }
            walk.healing.insert(id);
            return;
        }
        entity.relocate_open_entries(&mut self.context, walk.writer.floor());
        if entity.applied() > Entry::ZERO {
            let keys = entity.key_count();
            walk.writer.push(&entity.take_image(), keys);
            self.context.counters.checkpoint_images += 1;
        }
    }

    /// An entity is in memory now, or was given up.
    pub(super) fn checkpoint_loaded(&mut self, id: EntityId) {
        let Some(walk) = self.checkpointing.walk.as_mut() else { return };
        if walk.loading.remove(&id) {
            self.take(id);
        }
    }

    /// Something happened to an entity: if it was waited for, and serves again, it is taken.
    pub(super) fn checkpoint_healed(&mut self, id: EntityId) {
        let Some(walk) = self.checkpointing.walk.as_mut() else { return };
        if walk.healing.contains(&id)
            && self.entities.get(id).is_some_and(crate::entity::Entity::is_own)
        {
            walk.healing.remove(&id);
            self.take(id);
        }
    }

    /// The others did not send in time what was lost.
    fn give_up_healing(&mut self) {
        let walk = self.checkpointing.walk.as_mut().expect("called while it walks");
        for id in std::mem::take(&mut walk.healing) {
            self.leave_out(id);
        }
    }

    /// What was lost of the entity does not come back: it abstains, and the core rejoins at the
    /// next start.
    fn leave_out(&mut self, id: EntityId) {
        let walk = self.checkpointing.walk.as_mut().expect("called while it walks");
        walk.writer.push_abstaining(id);
        let plan = self.context.log.index().load_plan(id);
        let known = plan.image.or_else(|| plan.records.first().copied());
        // What is in no file is named by where the log begins that has to go.
        let at = known.unwrap_or_else(|| Location::new(walk.writer.floor(), 0, 8, 0));
        if self.entities.get(id).is_some() {
            self.drop_from_memory(id);
        }
        if self.abstaining.add_unreadable(id) {
            self.context.events.push_back(Event::Unreadable { entity: id, at });
        }
    }

    /// Reads the images collected so far.
    fn read_run(&mut self) {
        let walk = self.checkpointing.walk.as_mut().expect("called while it walks");
        let (Some(first), Some(last)) = (walk.run.first(), walk.run.last()) else { return };
        let location = span(first.image, last.image);
        let run = walk.next_run;
        walk.next_run += 1;
        let copied = std::mem::take(&mut walk.run);
        walk.runs.insert(run, copied);
        self.log_reads.start(Purpose::Copy(run), location);
    }

    pub(super) fn handle_copied(
        &mut self,
        run: u64,
        location: Location,
        blocks: Result<&[u8], ReadFailed>,
    ) {
        let Some(walk) = self.checkpointing.walk.as_mut() else { return };
        let Some(images) = walk.runs.remove(&run) else { return };
        let mut lost = Vec::new();
        for copied in images {
            let Copied { entity, applied, keys, image } = copied;
            let bytes = blocks.ok().and_then(|blocks| copy_back(image, location, blocks).ok());
            if let Some(bytes) = bytes {
                walk.writer.push_encoded(entity, applied, bytes, keys);
                self.context.counters.checkpoint_copies += 1;
            } else {
                lost.push(entity);
            }
        }
        for entity in lost {
            // In memory it is whole, or on its way to be. Else it is read once more, by itself.
            let is_here = self.entities.get(entity).is_some() || self.abstaining.covers(entity);
            if is_here || !self.loading.contains_key(&entity) && !self.load(entity) {
                self.take(entity);
            } else if let Some(walk) = self.checkpointing.walk.as_mut() {
                walk.loading.insert(entity);
            }
        }
    }

    /// The checkpoint's write polled last reached its file.
    ///
    /// # Panics
    ///
    /// When none was under way.
    pub fn handle_checkpoint_written(&mut self, now: Time, buffer: AlignedBuffer) {
        self.context.now = now;
        let walk = self.checkpointing.walk.as_mut().expect("a write was handed out");
        self.context.counters.checkpoint_bytes +=
            u64::try_from(buffer.len()).expect("a write is small");
        let oldest = self.context.log.oldest_segment();
        for image in walk.writer.handle_written(buffer) {
            let WrittenImage { entity, applied, chain, location } = image;
            let index = self.context.log.index_mut();
            let chain = Some(chain);
            index.note(&RecordSummary::Image { entity, applied, chain }, location);
            index.forget_before(entity, oldest);
        }
    }

    /// The checkpoint polled for adoption counts from now on.
    ///
    /// # Panics
    ///
    /// When none was handed out.
    pub fn handle_adopted(&mut self, now: Time, pointer: Pointer) {
        self.context.now = now;
        let walk = self.checkpointing.walk.take().expect("an adoption was handed out");
        assert!(walk.stage == Stage::Adopting && walk.writer.id() == pointer.checkpoint);
        self.context.counters.checkpoints += 1;
        self.context.log.open_reserve(false);
        self.checkpointing.superseded.extend(self.checkpointing.adopted.replace(pointer));
        self.checkpointing.position = walk.position;
    }
}

/// The stretch of a file from `first` to `last`, read at once.
pub(super) fn span(first: Location, last: Location) -> Location {
    let length = last.offset + last.length - first.offset;
    Location::new(first.segment(), first.offset, length, 0)
}

/// Whether `next` can be read with the run from `first` to `last`.
pub(super) fn joins(first: Location, last: Location, next: Location) -> bool {
    let end = last.offset + last.length;
    next.segment() == first.segment()
        && next.offset >= end
        && next.offset - end <= RUN_BYTES_MAX / 4
        && next.offset + next.length - first.offset <= RUN_BYTES_MAX
}
