//! Every entity of one core, once, from its files, while a node may be writing them.
//!
//! The checkpoint that counts has an image of every entity, each of some moment; what changed since
//! is in the log behind it. Only entities that the log names are put together in memory. All others
//! go from the checkpoint to the backup one by one, so memory goes by what changed since the
//! checkpoint, and not by what there is:
//!
//! ```text
//!  1. log, from the floor on:  which entities it names, and where it ends   ┐
//!  2. tables of the parts:     where the images of these are                │ as long as the log is
//!  3. their images, then the log up to that end ─▶ Replayer ─▶ their states ┘ there
//!  4. these states, then all other images of the parts ─▶ the backup
//! ```
//!
//! Nothing keeps the files for it. The parts are held open, and nobody writes to a part again, so
//! they stay what they are when the node removes them. Segments are used again: when one goes
//! before step 3 is done, all begins anew from the checkpoint that counts then, and twice as fast
//! if a rate was wanted: a node that writes faster than that would be ahead for ever. In step 4
//! nothing can go any more, however slowly it reads, and the rate holds again.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::iter::Peekable;
use std::path::PathBuf;
use std::rc::Rc;
use std::slice::Iter;

use engine::replayer::{BeginAnew, KeptIds, ReplayError, Replayer, ReplayerConfig, StateMirror};
use engine::state_machine::strings::Strings;
use plog::backup_manifest::BackedUpCore;
use plog::block::AlignedBuffer;
use plog::checkpoint::PartId;
use plog::checkpoint::pointer::Pointer;
use plog::checkpoint::table::Row;
use plog::identity::LogIdentity;
use plog::location::{Location, ReadBackError, read_back};
use plog::log_record::LogRecord;
use plog::recovery::{Recovered, ScannedRecord};
use plog::segment::SegmentId;
use plog::verify::VerifyReport;
use plog::vocabulary::{EntityId, Lsn};
use runtime::node::checkpoint_files::{CheckpointError, read_pointer, read_tables};

use crate::backup::error::BackupError;
use crate::backup::image_files::ImageFiles;
use crate::backup::portable_image::portable_image;
use crate::node_files::log_files::{Going, Listing, LogFiles, LogFilesError, Pass};
use crate::node_files::part_file::read_part;
use crate::node_files::reading::Source as _;
use crate::progress::Progress;

type Result<T> = std::result::Result<T, BackupError>;

/// How often it begins anew.
const ATTEMPTS: usize = 20;

/// Images with no more than this between them are read at once, …
const GAP_BYTES: u64 = 16 << 10;

/// … as long as they are no more than this.
const RUN_BYTES: u64 = 1 << 20;

/// What an entity that the log names is counted for, beside its state: its places in the tables.
const NAMED_BYTES: usize = 128;

/// See the module page.
pub struct CoreReader {
    pub directory: PathBuf,
    pub identity: LogIdentity,
    /// The segment that the log is known to have reached.
    pub reached: Option<SegmentId>,
    /// Memory for what changed since the checkpoint.
    pub mebibytes: u32,
    pub progress: Rc<Progress>,
}

/// A try at steps 1 to 3.
enum Tried {
    Done(Assembled),
    /// Files went away, or changed in a way that looks like damage.
    Moved(Option<ReplayError>),
}

/// What steps 1 to 3 come to.
struct Assembled {
    /// The parts of the checkpoint, open.
    parts: BTreeMap<PartId, File>,
    /// The entities that the log names.
    named: BTreeSet<EntityId>,
    states: StateMirror<Strings>,
    checkpoint: u64,
    last: Lsn,
    held_back: u64,
}

/// What step 2 finds.
struct Images {
    /// The parts of the checkpoint, open.
    parts: BTreeMap<PartId, File>,
    /// Rows of the entities that the log names, in the order of their images.
    rows: Vec<Row>,
}

/// What step 1 finds.
struct Named {
    entities: BTreeSet<EntityId>,
    last: Lsn,
}

impl CoreReader {
    /// Reads the core into `images`.
    ///
    /// # Errors
    ///
    /// When the files are damaged, cannot be read, or what changed does not fit into memory; and
    /// when `images` cannot be written.
    pub fn read(&self, images: &mut ImageFiles) -> Result<BackedUpCore> {
        let assembled = self.assemble()?;
        self.progress.restore_rate();
        let before = images.images();
        let mut keys = 0;
        for (entity, standing) in assembled.states.standings() {
            let state = assembled.states.encoded(entity).expect("it has a standing").into();
            let (applied, chain) = (standing.entry, standing.chain);
            let image = LogRecord::Image { entity, applied, chain, last_value_id: None, state };
            let (image, count) = portable_image(&image).map_err(|what| self.damaged(what))?;
            keys += u64::from(count);
            images.push(&image, count).map_err(BackupError::Write)?;
        }
        for (part, file) in &assembled.parts {
            keys += self.copy_part(*part, file, &assembled.named, images)?;
        }
        Ok(BackedUpCore {
            entities: images.images() - before,
            keys,
            checkpoint: assembled.checkpoint,
            last: assembled.last,
            held_back: assembled.held_back,
        })
    }

    fn damaged(&self, what: impl Into<String>) -> BackupError {
        BackupError::Damaged { directory: self.directory.clone(), what: what.into() }
    }

    /// Step 4, of one part: copies the images of entities that the log does not name. How many keys
    /// they have.
    fn copy_part(
        &self,
        part: PartId,
        file: &File,
        named: &BTreeSet<EntityId>,
        images: &mut ImageFiles,
    ) -> Result<u64> {
        self.come_to(&format!("images of {part}"));
        let (mut keys, mut failed) = (0, None);
        let read = read_part(file, &self.identity, part, &self.progress, &mut |record| {
            if failed.is_some() || named.contains(&record.entity()) {
                return;
            }
            match portable_image(&record) {
                Ok((image, count)) => {
                    keys += u64::from(count);
                    failed = images.push(&image, count).map_err(BackupError::Write).err();
                }
                Err(what) => failed = Some(self.damaged(format!("{part}: {what}"))),
            }
        });
        read.map_err(|error| self.damaged(format!("{part}: {error}")))?;
        failed.map_or(Ok(keys), Err)
    }

    fn come_to(&self, what: &str) {
        self.progress.come_to(format!("core {}: {what}", self.identity.core));
    }

    /// Steps 1 to 3, as often as it takes.
    fn assemble(&self) -> Result<Assembled> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.try_once()? {
                Tried::Done(assembled) => return Ok(assembled),
                Tried::Moved(reason) => last = reason,
            }
            self.progress.double_rate();
        }
        let directory = self.directory.clone();
        Err(match last {
            Some(error @ ReplayError::BeginAnew(BeginAnew::HeldBack { .. })) => {
                BackupError::Replay { directory, error }
            }
            _ => BackupError::Restless { directory, attempts: ATTEMPTS },
        })
    }

    fn pointer(&self) -> Result<Option<Pointer>> {
        Ok(read_pointer(&self.directory, false).map_err(LogFilesError::from)?)
    }

    /// What looks like damage is none when another checkpoint was adopted meanwhile.
    fn moved_or<T>(&self, pointer: Option<Pointer>, error: BackupError) -> Result<Option<T>> {
        let now = self.pointer()?;
        if now.map(|now| now.checkpoint) == pointer.map(|pointer| pointer.checkpoint) {
            return Err(error);
        }
        Ok(None)
    }

    fn log(&self) -> Result<LogFiles> {
        let log = LogFiles::find(&self.directory, Some(self.identity))?;
        Ok(log.with_progress(Rc::clone(&self.progress)))
    }

    fn try_once(&self) -> Result<Tried> {
        let pointer = self.pointer()?;
        let Some(named) = self.find_named(pointer)? else { return Ok(Tried::Moved(None)) };
        let Some(Images { parts, rows }) = self.find_images(pointer, &named.entities)? else {
            return Ok(Tried::Moved(None));
        };
        let mirror_bytes_max =
            self.memory_bytes().saturating_sub(named.entities.len() * NAMED_BYTES);
        let config = ReplayerConfig { mirror_bytes_max, ..ReplayerConfig::default() };
        let mut replayer = Replayer::new(config, StateMirror::new(KeptIds::Seen));
        let replayed = self.load(&mut replayer, pointer, &parts, &rows)?;
        let replayed = match replayed {
            Ok(()) => self.replay(&mut replayer, pointer, named.last)?,
            Err(error) => Err(error),
        };
        match replayed {
            Ok(true) => {}
            Ok(false) => return Ok(Tried::Moved(None)),
            Err(error @ ReplayError::BeginAnew(_)) => return Ok(Tried::Moved(Some(error))),
            Err(ReplayError::Full { .. }) => return Err(self.too_much()),
            Err(error) => {
                return Err(BackupError::Replay { directory: self.directory.clone(), error });
            }
        }
        let at = replayer.stands_at().expect("it was replayed");
        Ok(Tried::Done(Assembled {
            parts,
            named: named.entities,
            checkpoint: pointer.map_or(0, |pointer| pointer.checkpoint.0),
            last: at.last,
            held_back: u64::try_from(at.held).expect("a count fits 64 bits"),
            states: replayer.into_mirror(),
        }))
    }

    fn memory_bytes(&self) -> usize {
        usize::try_from(self.mebibytes).unwrap_or(usize::MAX) << 20
    }

    fn too_much(&self) -> BackupError {
        BackupError::Memory { directory: self.directory.clone(), mebibytes: self.mebibytes }
    }

    /// Step 1. `None` when files went away meanwhile.
    fn find_named(&self, pointer: Option<Pointer>) -> Result<Option<Named>> {
        self.come_to("log");
        let floor = floor_of(pointer);
        let (mut entities, mut last) = (BTreeSet::new(), Lsn::ZERO);
        let entities_max = self.memory_bytes() / NAMED_BYTES;
        let pass = match self.oldest_of_log(floor)? {
            Oldest::Nothing => Pass::Enough,
            Oldest::Wanted => self.log()?.scan_from(floor, &mut |_| Going::On, &mut |scanned| {
                entities.insert(scanned.record.entity());
                last = scanned.lsn;
                if entities.len() > entities_max { Going::Enough } else { Going::On }
            })?,
            Oldest::Another(found) => {
                let what = format!("segment {floor} is gone, the log goes on with {found}");
                return self.moved_or(pointer, self.damaged(what));
            }
        };
        if entities.len() > entities_max {
            return Err(self.too_much());
        }
        let reached = match pass {
            Pass::Moved => return Ok(None),
            Pass::Enough => None,
            Pass::Done(report) => {
                if let Some(what) = damage_of(&report) {
                    return self.moved_or(pointer, self.damaged(what));
                }
                report.outcome.tail().map(|tail| tail.segment)
            }
        };
        if self.reached > reached {
            let wanted = self.reached.expect("greater than something");
            let what = format!("the log had reached segment {wanted}, which is missing");
            return self.moved_or(pointer, self.damaged(what));
        }
        if let Some(settled) = pointer.map(|pointer| pointer.settled)
            && last < settled
        {
            let what = format!(
                "the log ends at record {}, and had reached {} when its checkpoint was adopted",
                last.0, settled.0
            );
            return self.moved_or(pointer, self.damaged(what));
        }
        Ok(Some(Named { entities, last }))
    }

    fn oldest_of_log(&self, floor: SegmentId) -> Result<Oldest> {
        let listing = Listing::read(&self.directory)?;
        Ok(match listing.segments.range(floor..).next() {
            Some((oldest, _)) if *oldest == floor => Oldest::Wanted,
            Some((oldest, _)) => Oldest::Another(*oldest),
            None if listing.segments.is_empty() => Oldest::Nothing,
            None => Oldest::Another(floor.next()),
        })
    }

    /// Step 2: the parts, open, and the rows of `named` entities. `None` when files went away.
    fn find_images(
        &self,
        pointer: Option<Pointer>,
        named: &BTreeSet<EntityId>,
    ) -> Result<Option<Images>> {
        let Some(counts) = pointer else {
            return Ok(Some(Images { parts: BTreeMap::new(), rows: Vec::new() }));
        };
        self.come_to("tables of the checkpoint");
        let mut rows = Vec::new();
        let (mut abstains, mut told) = (None, 0);
        let goes_on = |_, bytes: u64| {
            self.progress.took(usize::try_from(bytes - told).unwrap_or(usize::MAX));
            told = bytes;
            true
        };
        let read = read_tables(&self.directory, &self.identity, counts, goes_on, |row| {
            if row.image.is_none() {
                abstains.get_or_insert(row.entity);
            } else if named.contains(&row.entity) {
                rows.push(row);
            }
        });
        let parts = match read {
            Ok(parts) => parts,
            Err(error @ CheckpointError::Io { .. }) if !error.is_damage() => {
                return Err(LogFilesError::from(error).into());
            }
            Err(error) => return self.moved_or(pointer, self.damaged(error.to_string())),
        };
        if let Some(entity) = abstains {
            return Err(BackupError::EntityAbstains { directory: self.directory.clone(), entity });
        }
        rows.sort_unstable_by_key(|row| row.image);
        let parts = parts.into_iter().map(|(part, file)| (part, File::from(file))).collect();
        Ok(Some(Images { parts, rows }))
    }

    /// Step 3, its first half: the images of `rows`.
    fn load(
        &self,
        replayer: &mut Replayer<StateMirror<Strings>>,
        pointer: Option<Pointer>,
        parts: &BTreeMap<PartId, File>,
        rows: &[Row],
    ) -> Result<std::result::Result<(), ReplayError>> {
        self.come_to("images of what changed");
        replayer.begin(pointer.as_ref());
        let mut rows = rows.iter().peekable();
        while let Some(run) = Run::next(&mut rows) {
            let blocks = self.read_run(parts, &run)?;
            for row in &run.rows {
                let image = row.image.expect("a run is made of images");
                let record = run.record(image, &blocks);
                let record =
                    record.map_err(|error| self.damaged(format!("{}: {error}", run.part)))?;
                if record.entity() != row.entity {
                    let what = "a table of the checkpoint names another entity's image";
                    return Err(self.damaged(what));
                }
                replayer.load_row(row);
                if let Err(error) = replayer.load_image(&record) {
                    return Ok(Err(error));
                }
            }
        }
        Ok(replayer.finish_loading())
    }

    fn read_run(&self, parts: &BTreeMap<PartId, File>, run: &Run<'_>) -> Result<AlignedBuffer> {
        let mut buffer = AlignedBuffer::zeroed(run.length());
        parts[&run.part]
            .read_full(&mut buffer, run.begin, run.length())
            .map_err(|error| self.damaged(format!("{}: {error}", run.part)))?;
        self.progress.took(run.length());
        Ok(buffer)
    }

    /// Step 3, its second half: the log up to `last`. Whether it was all there.
    fn replay(
        &self,
        replayer: &mut Replayer<StateMirror<Strings>>,
        pointer: Option<Pointer>,
        last: Lsn,
    ) -> Result<std::result::Result<bool, ReplayError>> {
        if last == Lsn::ZERO {
            return Ok(Ok(true));
        }
        self.come_to("log, once more");
        let replayer = RefCell::new(replayer);
        let failed = Cell::new(None);
        let going = |result: std::result::Result<(), ReplayError>| match result {
            Ok(()) => Going::On,
            Err(error) => {
                failed.set(Some(error));
                Going::Enough
            }
        };
        let mut visit = |scanned: &ScannedRecord| {
            if scanned.lsn > last {
                return Going::Enough;
            }
            going(replayer.borrow_mut().handle_record(scanned))
        };
        let mut begin = |segment| going(replayer.borrow_mut().begin_segment(segment));
        self.log()?.scan_from(floor_of(pointer), &mut begin, &mut visit)?;
        match failed.take() {
            Some(error) => Ok(Err(error)),
            None => Ok(Ok(replayer.borrow().stands_at().is_some_and(|at| at.last == last))),
        }
    }
}

/// Images of one part that are read at once, since they are near each other.
struct Run<'a> {
    part: PartId,
    begin: u64,
    end: u64,
    rows: Vec<&'a Row>,
}

impl<'a> Run<'a> {
    /// The next one of rows in the order of their images.
    fn next(rows: &mut Peekable<Iter<'a, Row>>) -> Option<Self> {
        let place = |row: &Row| {
            let image = row.image.expect("rows without one were left out");
            let part = PartId::of_file(image.segment()).expect("a row of a part's table");
            let (begin, length) = image.blocks();
            (part, begin, begin + length as u64)
        };
        let first = rows.next()?;
        let (part, begin, end) = place(first);
        let mut run = Self { part, begin, end, rows: vec![first] };
        while let Some(row) = rows.next_if(|row| {
            let (part, from, to) = place(row);
            part == run.part && from <= run.end + GAP_BYTES && to <= run.begin + RUN_BYTES
        }) {
            run.end = run.end.max(place(row).2);
            run.rows.push(row);
        }
        Some(run)
    }

    fn length(&self) -> usize {
        usize::try_from(self.end - self.begin).expect("one image, or a run")
    }

    fn record(
        &self,
        image: Location,
        blocks: &[u8],
    ) -> std::result::Result<LogRecord, ReadBackError> {
        let (at, length) = image.blocks();
        let from = usize::try_from(at - self.begin).expect("one image, or a run");
        read_back(image, &blocks[from..from + length])
    }
}

/// The oldest segment of a log, from where it is wanted on.
enum Oldest {
    /// There is no segment at all.
    Nothing,
    Wanted,
    Another(SegmentId),
}

fn floor_of(pointer: Option<Pointer>) -> SegmentId {
    pointer.map_or(SegmentId::FIRST, |pointer| pointer.floor)
}

/// What is damaged in a log, and where.
fn damage_of(report: &VerifyReport) -> Option<String> {
    let Recovered::Damaged { segment, offset, reason, .. } = &report.outcome else { return None };
    Some(format!("the log is damaged in segment {segment} at byte {offset}: {reason}"))
}
