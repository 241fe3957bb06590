//! The replayer: keeps a mirror machine in step with one core's checkpoint and log
//! ("Replayer" in `PhxPaxos`).
//!
//! It is fed with what a start reads, by the same readers: the rows and images of a checkpoint,
//! then the log's records in LSN order. Of each entity it executes every chosen entry once and in
//! order. **What is only accepted is never executed**: it is held back until a record says that it
//! is chosen, or an image comes that contains the entry.
//!
//! ```text
//!  checkpoint: rows, images ─▶ Mirror::load_checkpoint        entry k of an entity, with its chain
//!  log: values, votes ───────▶ held back, by entity and entry
//!       "chosen" ────────────▶ entry k+1 ─▶ Mirror::execute_for_checkpoint
//!       images ──────────────▶ at k: compared; above k: loaded
//! ```
//!
//! How to drive it, until [`Replayer::wants`] says otherwise:
//!
//! 1. [`Wants::Checkpoint`]: [`Replayer::begin`] with the one that counts, every row to
//!    [`Replayer::load_row`], every image to [`Replayer::load_image`], then
//!    [`Replayer::finish_loading`].
//! 2. [`Wants::Log`]: the segments from that one on, in order: [`Replayer::begin_segment`], and
//!    each record to [`Replayer::handle_record`]. Records at or below the LSN named are ignored, so
//!    a segment that grows is read again.
//! 3. Say where it stands ([`Replayer::stands_at`]) to whoever frees segments.
//!
//! A segment that was freed before it was read is noticed, and so is damage: it has to begin anew.
//! Chains and images are compared as it goes. A difference stops it for good, with entity and
//! entry: the log contradicts itself, or the mirror is not deterministic.

use std::collections::{BTreeMap, BTreeSet};

use plog::assemble::LoadedImage;
use plog::checkpoint::pointer::Pointer;
use plog::checkpoint::table::Row;
use plog::log_record::{LogRecord, LoggedValue};
use plog::planted;
use plog::recovery::ScannedRecord;
use plog::segment::SegmentId;
use plog::vocabulary::{EntityId, Entry, Lsn};

use crate::batch::Batch;
use crate::chain;
use crate::replayer::open_entity::OpenEntity;
use crate::state_machine::mirror::{ChosenValue, Mirror, Standing};

pub use crate::replayer::state_mirror::{KeptIds, StateMirror};

mod open_entity;
mod state_mirror;
#[cfg(test)]
mod tests;

/// Limits of a replayer, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReplayerConfig {
    /// Of what is held back: values of entries that are not known to be chosen, or not yet in
    /// turn. Beyond it, it has to begin anew from a later checkpoint.
    pub held_bytes_max: usize,
    /// Of the mirror. Beyond it the replayer stops for good.
    pub mirror_bytes_max: usize,
}

impl Default for ReplayerConfig {
    fn default() -> Self {
        Self { held_bytes_max: 256 << 20, mirror_bytes_max: 1 << 30 }
    }
}

/// What to feed it with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wants {
    /// A checkpoint, from its beginning.
    Checkpoint,
    /// The log.
    Log {
        /// From this segment on, which must be there.
        from: SegmentId,
        /// Up to here it was read.
        after: Lsn,
    },
    /// Nothing: it is paused, or stopped for good.
    Nothing,
}

/// What a mirror stands at in all; for one entity, see [`Mirror::stands_at`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StandsAt {
    /// Nothing before this segment is needed to go on from the mirror's state: the oldest of the
    /// one being read and those with something that is held back.
    pub segment: SegmentId,
    /// The last record read.
    pub last: Lsn,
    /// Entries that are held back.
    pub held: usize,
    /// Entities of which the checkpoint says that their records could not be read: they are left
    /// out.
    pub left_out: usize,
}

/// Why a mirror has to begin anew from a checkpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BeginAnew {
    /// A segment was freed before it was read.
    #[error("segment {wanted} is gone, the log goes on with {found}")]
    Gap {
        /// What comes next.
        wanted: SegmentId,
        /// What was found instead.
        found: SegmentId,
    },
    /// A record behind damage: what is lost before it is not known.
    #[error("the log is damaged before record {}", lsn.0)]
    Damage {
        /// The record.
        lsn: Lsn,
    },
    /// Too much is held back.
    #[error("{bytes} bytes are held back, at most {max} may be")]
    HeldBack {
        /// How much.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The checkpoint's images and its table differ.
    #[error("the checkpoint's tables name {rows} images, {images} were found")]
    Images {
        /// By the tables.
        rows: u64,
        /// Read.
        images: u64,
    },
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// It has to begin anew. It wants a checkpoint now; the mirror keeps what it has, and entities
    /// of which the checkpoint has a later entry are loaded.
    #[error("the mirror must begin anew: {0}")]
    BeginAnew(#[from] BeginAnew),
    /// It stopped for good.
    #[error("entity {:016x} entry {}: {what}", entity.0, entry.0)]
    Diverged {
        /// The entity.
        entity: EntityId,
        /// Where it was noticed.
        entry: Entry,
        /// What is wrong.
        what: &'static str,
    },
    /// It stopped for good.
    #[error("the mirror needs {bytes} bytes of memory, at most {max} are allowed")]
    Full {
        /// How many.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReplayCounters {
    /// Records taken.
    pub records: u64,
    /// Entries executed.
    pub executed: u64,
    /// Images loaded, of checkpoints and of the log.
    pub loaded: u64,
    /// Chains that a record named and that were right.
    pub chains: u64,
    /// Images that were compared and were the same.
    pub compared: u64,
    /// How often it had to begin anew.
    pub begun_anew: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    NeedsCheckpoint,
    /// Images that the rows name, and those that came.
    Loading {
        floor: SegmentId,
        rows: u64,
        images: u64,
    },
    Replaying {
        /// The segment being read, or the first one.
        segment: SegmentId,
        /// Whether it was begun.
        has_begun: bool,
    },
    Stopped(ReplayError),
}

/// See the module page.
///
/// Invariant: the mirror stands at entry k of an entity only if a record or image fed so far says
/// of each entry up to k that it is chosen.
#[derive(Debug)]
pub struct Replayer<K: Mirror> {
    config: ReplayerConfig,
    mirror: K,
    phase: Phase,
    is_paused: bool,
    /// Entities with something that is held back or not compared yet.
    open: BTreeMap<EntityId, OpenEntity>,
    held_bytes: usize,
    left_out: BTreeSet<EntityId>,
    last: Lsn,
    counters: ReplayCounters,
}

impl<K: Mirror> Replayer<K> {
    /// A replayer for a mirror that has nothing yet. It wants a checkpoint.
    #[must_use]
    pub fn new(config: ReplayerConfig, mirror: K) -> Self {
        Self {
            config,
            mirror,
            phase: Phase::NeedsCheckpoint,
            is_paused: false,
            open: BTreeMap::new(),
            held_bytes: 0,
            left_out: BTreeSet::new(),
            last: Lsn::ZERO,
            counters: ReplayCounters::default(),
        }
    }

    /// A replayer for a mirror that was made from a checkpoint of its own, with the segment of
    /// [`StandsAt`] of that time. It wants the log from there on.
    #[must_use]
    pub fn from_own_checkpoint(config: ReplayerConfig, mirror: K, segment: SegmentId) -> Self {
        let phase = Phase::Replaying { segment, has_begun: false };
        Self { phase, ..Self::new(config, mirror) }
    }

    /// What it wants to be fed with.
    #[must_use]
    pub fn wants(&self) -> Wants {
        match self.phase {
            Phase::Stopped(_) => Wants::Nothing,
            _ if self.is_paused => Wants::Nothing,
            Phase::NeedsCheckpoint | Phase::Loading { .. } => Wants::Checkpoint,
            Phase::Replaying { segment, .. } => Wants::Log { from: segment, after: self.last },
        }
    }

    /// Executes nothing until [`Replayer::resume`]: the mirror stays as it is, to be copied or
    /// sent.
    pub fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Goes on.
    pub fn resume(&mut self) {
        self.is_paused = false;
    }

    /// The mirror.
    #[must_use]
    pub fn mirror(&self) -> &K {
        &self.mirror
    }

    /// The mirror, for what is not the replayer's: writing its checkpoint, forgetting what was
    /// shown.
    pub fn mirror_mut(&mut self) -> &mut K {
        &mut self.mirror
    }

    /// The mirror, as it is; nothing is fed any more.
    #[must_use]
    pub fn into_mirror(self) -> K {
        self.mirror
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> ReplayCounters {
        self.counters
    }

    /// Why it stopped for good, if it did.
    #[must_use]
    pub fn stopped(&self) -> Option<ReplayError> {
        match self.phase {
            Phase::Stopped(error) => Some(error),
            _ => None,
        }
    }

    /// Whether an entity is left out: see [`StandsAt::left_out`].
    #[must_use]
    pub fn leaves_out(&self, entity: EntityId) -> bool {
        self.left_out.contains(&entity)
    }

    /// What it stands at in all: the minimum over all entities. `None` while it has no checkpoint.
    #[must_use]
    pub fn stands_at(&self) -> Option<StandsAt> {
        let Phase::Replaying { segment, .. } = self.phase else { return None };
        let held = self.open.values().filter_map(OpenEntity::oldest_segment);
        Some(StandsAt {
            segment: held.min().map_or(segment, |oldest| oldest.min(segment)),
            last: self.last,
            held: self.open.values().map(OpenEntity::held).sum(),
            left_out: self.left_out.len(),
        })
    }

    // Loading a checkpoint.

    /// Begins with the checkpoint that counts; with none, the log says everything from its first
    /// segment on. An attempt before is forgotten.
    ///
    /// # Panics
    ///
    /// When it does not want a checkpoint.
    pub fn begin(&mut self, pointer: Option<&Pointer>) {
        assert!(self.wants() == Wants::Checkpoint, "fed with what it wants");
        self.forget_open();
        let floor = pointer.map_or(SegmentId::FIRST, |pointer| pointer.floor);
        self.phase = Phase::Loading { floor, rows: 0, images: 0 };
    }

    /// The next row of the checkpoint's tables.
    ///
    /// # Panics
    ///
    /// When nothing was begun.
    pub fn load_row(&mut self, row: &Row) {
        let Phase::Loading { rows, .. } = &mut self.phase else { panic!("begun before it is fed") };
        match row.image {
            Some(_) => *rows += 1,
            None => {
                self.left_out.insert(row.entity);
            }
        }
    }

    /// The next image of the checkpoint's parts, in any order.
    ///
    /// # Errors
    ///
    /// When it differs from what the mirror has of that entry, or cannot be read.
    ///
    /// # Panics
    ///
    /// When nothing was begun, or the record is not an image.
    pub fn load_image(&mut self, record: &LogRecord) -> Result<(), ReplayError> {
        let Phase::Loading { images, .. } = &mut self.phase else {
            panic!("begun before it is fed")
        };
        *images += 1;
        let image = LoadedImage::of(record).expect("a checkpoint holds images only");
        let taken = self.take_image(record.entity(), &image);
        self.settle(taken)
    }

    /// All rows and images were fed: from now on it wants the log.
    ///
    /// # Errors
    ///
    /// When images are missing.
    ///
    /// # Panics
    ///
    /// When nothing was begun.
    pub fn finish_loading(&mut self) -> Result<(), ReplayError> {
        let Phase::Loading { floor, rows, images } = self.phase else {
            panic!("begun before it is finished")
        };
        if rows != images {
            return self.settle(Err(BeginAnew::Images { rows, images }.into()));
        }
        self.phase = Phase::Replaying { segment: floor, has_begun: false };
        Ok(())
    }

    // Replaying the log.

    /// The next segment of the log, or once more the one being read.
    ///
    /// # Errors
    ///
    /// When it is a later one: what is between was freed.
    ///
    /// # Panics
    ///
    /// When it does not want the log, or only from a later segment on.
    pub fn begin_segment(&mut self, found: SegmentId) -> Result<(), ReplayError> {
        let Wants::Log { from, .. } = self.wants() else { panic!("fed with what it wants") };
        let Phase::Replaying { segment, has_begun } = &mut self.phase else {
            unreachable!("it wants the log")
        };
        let wanted = if *has_begun { from.next() } else { from };
        assert!(found >= from, "segments are fed in ascending order");
        if found != from && found != wanted {
            return self.settle(Err(BeginAnew::Gap { wanted, found }.into()));
        }
        (*segment, *has_begun) = (found, true);
        Ok(())
    }

    /// The segment that it wants is not there: it was freed. `found` is the oldest that is.
    pub fn lost_segment(&mut self, found: SegmentId) -> ReplayError {
        let wanted = match self.phase {
            Phase::Replaying { segment, .. } => segment,
            _ => SegmentId::FIRST,
        };
        let lost = ReplayError::BeginAnew(BeginAnew::Gap { wanted, found });
        self.settle::<()>(Err(lost)).expect_err("an error stays one")
    }

    /// The next record of the segment begun last. One that was taken before is ignored.
    ///
    /// # Errors
    ///
    /// When it has to begin anew, or stops for good.
    ///
    /// # Panics
    ///
    /// When it does not want the log.
    pub fn handle_record(&mut self, scanned: &ScannedRecord) -> Result<(), ReplayError> {
        assert!(matches!(self.wants(), Wants::Log { .. }), "fed with what it wants");
        if scanned.lsn <= self.last {
            return Ok(());
        }
        if scanned.after_damage {
            return self.settle(Err(BeginAnew::Damage { lsn: scanned.lsn }.into()));
        }
        self.last = scanned.lsn;
        self.counters.records += 1;
        let taken = self.take_record(&scanned.record, scanned.location.segment());
        self.settle(taken)
    }

    fn take_record(&mut self, record: &LogRecord, segment: SegmentId) -> Result<(), ReplayError> {
        let (entity, entry) = (record.entity(), record.entry());
        if self.left_out.contains(&entity) {
            return Ok(());
        }
        if let Some(image) = LoadedImage::of(record) {
            return self.take_image(entity, &image);
        }
        let standing = self.mirror.stands_at(entity);
        if entry <= standing.entry {
            return match record {
                LogRecord::Chosen { chain, .. } => self.compare_chain(entity, entry, *chain),
                _ => Ok(()),
            };
        }
        let open = self.open.entry(entity).or_default();
        let before = open.bytes();
        let held = open.held_entry(entry);
        match record {
            LogRecord::Entry { record, value, .. } => {
                if let (LoggedValue::Inline(bytes), Some(id)) = (value, record.value_id) {
                    held.store(id, bytes, segment);
                }
                held.name(record.value_id);
                let is_chosen = record.chosen || planted!("mirror-applies-unchosen");
                if let Some(id) = record.value_id.filter(|_| is_chosen)
                    && !held.choose(id, None, segment)
                {
                    return Err(diverged(entity, entry, TWO_VALUES));
                }
            }
            LogRecord::Value { value_id, bytes, .. } => held.store(*value_id, bytes, segment),
            LogRecord::Chosen { value_id, chain, .. } => {
                if !held.choose(*value_id, Some(*chain), segment) {
                    return Err(diverged(entity, entry, TWO_VALUES));
                }
            }
            LogRecord::Image { .. } => unreachable!("taken above"),
        }
        self.held_bytes = self.held_bytes - before + open.bytes();
        self.advance(entity)?;
        let (bytes, max) = (self.held_bytes, self.config.held_bytes_max);
        if bytes > max {
            return Err(BeginAnew::HeldBack { bytes, max }.into());
        }
        self.look_at_memory()
    }

    /// Executes what is chosen and in turn.
    fn advance(&mut self, entity: EntityId) -> Result<(), ReplayError> {
        loop {
            let Standing { entry: last, chain } = self.mirror.stands_at(entity);
            let Some(open) = self.open.get_mut(&entity) else { return Ok(()) };
            let before = open.bytes();
            open.close_up_to(last);
            let mut entry = last.next();
            if planted!("mirror-skips-entry") {
                entry = open.first_ready().unwrap_or(entry);
            }
            let ready = open.take_ready(entry);
            self.held_bytes = self.held_bytes - before + open.bytes();
            if open.is_empty() {
                self.open.remove(&entity);
            }
            let Some((value_id, value, said)) = ready else { return Ok(()) };
            let standing = Standing { entry, chain: chain::extend(chain, &value) };
            match said {
                Some(said) if said != standing.chain => {
                    return Err(diverged(entity, entry, OTHER_CHAIN));
                }
                Some(_) => self.counters.chains += 1,
                // The mark with the chain comes later.
                None => self.open.entry(entity).or_default().expect_chain(standing),
            }
            let batch =
                Batch::parse(&value).map_err(|_| diverged(entity, entry, "it is not a batch"))?;
            let chosen = ChosenValue { entity, standing, value_id, batch };
            self.mirror
                .execute_for_checkpoint(&chosen)
                .map_err(|_| diverged(entity, entry, "the mirror cannot execute it"))?;
            self.counters.executed += 1;
            if self.mirror.stands_at(entity) != standing {
                return Err(diverged(entity, entry, NOT_THERE));
            }
        }
    }

    fn take_image(&mut self, entity: EntityId, image: &LoadedImage) -> Result<(), ReplayError> {
        let standing = self.mirror.stands_at(entity);
        let entry = image.applied;
        if entry < standing.entry {
            return Ok(());
        }
        if let Some(open) = self.open.get_mut(&entity) {
            open.forget_chains();
        }
        if entry == standing.entry {
            if image.chain != standing.chain {
                return Err(diverged(entity, entry, OTHER_CHAIN));
            }
            if !self.mirror.agrees_with(entity, image) {
                return Err(diverged(entity, entry, "its image is another than the mirror's"));
            }
            self.counters.compared += 1;
            return Ok(());
        }
        self.mirror
            .load_checkpoint(entity, image)
            .map_err(|_| diverged(entity, entry, "its image cannot be read"))?;
        self.counters.loaded += 1;
        if self.mirror.stands_at(entity) != (Standing { entry, chain: image.chain }) {
            return Err(diverged(entity, entry, NOT_THERE));
        }
        self.advance(entity)?;
        self.look_at_memory()
    }

    /// A mark names the chain at an entry that was executed.
    fn compare_chain(
        &mut self,
        entity: EntityId,
        entry: Entry,
        chain: u32,
    ) -> Result<(), ReplayError> {
        let standing = self.mirror.stands_at(entity);
        let expected = self.open.get_mut(&entity).and_then(|open| open.expected_chain(entry));
        if self.open.get(&entity).is_some_and(OpenEntity::is_empty) {
            self.open.remove(&entity);
        }
        let here = (entry == standing.entry).then_some(standing.chain);
        match expected.or(here) {
            Some(known) if known != chain => Err(diverged(entity, entry, OTHER_CHAIN)),
            Some(_) => {
                self.counters.chains += 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn look_at_memory(&self) -> Result<(), ReplayError> {
        let (bytes, max) = (self.mirror.memory_bytes(), self.config.mirror_bytes_max);
        if bytes > max { Err(ReplayError::Full { bytes, max }) } else { Ok(()) }
    }

    fn forget_open(&mut self) {
        self.open.clear();
        self.held_bytes = 0;
        self.left_out.clear();
    }

    /// What an error means for what comes next.
    fn settle<T>(&mut self, result: Result<T, ReplayError>) -> Result<T, ReplayError> {
        match &result {
            Ok(_) => {}
            Err(ReplayError::BeginAnew(_)) => {
                self.counters.begun_anew += 1;
                self.forget_open();
                // The log is read anew from a checkpoint's floor, which may be before this.
                self.last = Lsn::ZERO;
                self.phase = Phase::NeedsCheckpoint;
            }
            Err(error) => self.phase = Phase::Stopped(*error),
        }
        result
    }
}

const TWO_VALUES: &str = "two values are said to be chosen";
const OTHER_CHAIN: &str = "its checksum chain is another than the mirror's";
const NOT_THERE: &str = "the mirror does not stand where it was brought";

fn diverged(entity: EntityId, entry: Entry, what: &'static str) -> ReplayError {
    ReplayError::Diverged { entity, entry, what }
}
