//! A recorded run of a log: every step it took on its disk, with what each was to make durable.
//!
//! The run is played by a generator of fixed numbers: many entities, records of every kind and
//! size, frames that fill a segment, clean restarts, crashes in the middle of a write, and old
//! segments that come back as spares with their bytes in them. The expectation, which records the
//! disk must hold, is kept beside it from what was appended and written, never from what a scan
//! found.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use plog::block::BLOCK_SIZE;
use plog::entry_record::EntryRecord;
use plog::frame::FrameHeader;
use plog::index::Index;
use plog::log::{Log, LogConfig, SegmentWrite, Urgency};
use plog::log_record::{LogRecord, LoggedValue};
use plog::segment::{SegmentHeader, SegmentId, SpareId};
use plog::vocabulary::{EntityId, Entry, Lsn};

use crate::disk::{
    Disk, HELD, Numbers, accepted, ballot, chosen, entry, identity, image, value, value_id,
};

/// A record and its number.
pub type Numbered = (Lsn, LogRecord);

/// One write, as the log handed it out.
#[derive(Clone)]
pub struct Write {
    pub segment: SegmentId,
    /// Byte offset in the file.
    pub offset: usize,
    pub bytes: Vec<u8>,
    pub opens: Option<SpareId>,
    /// What it makes durable.
    pub records: Rc<[Numbered]>,
}

impl fmt::Debug for Write {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, offset, .. } = self;
        write!(formatter, "{} blocks at {segment}+{offset}, ", self.blocks())?;
        write!(formatter, "{} records from {:?} on", self.records.len(), self.records[0].0)
    }
}

impl Write {
    pub fn new(write: &SegmentWrite, appended: &mut VecDeque<Numbered>) -> Self {
        let offset = usize::try_from(write.offset).expect("fits");
        let bytes = write.buffer.to_vec();
        let frame = if offset == 0 { BLOCK_SIZE } else { 0 };
        let header = FrameHeader::parse(&bytes[frame..], &identity(), write.segment);
        let header = header.expect("the log writes good frames");
        let count = usize::try_from(header.record_count).expect("fits");
        let records: Rc<[Numbered]> = appended.drain(..count).collect();
        assert_eq!(records.first().map(|(lsn, _)| *lsn), Some(header.first_lsn));
        assert_eq!(records.last().map(|(lsn, _)| *lsn), Some(header.last_lsn()));
        Self { segment: write.segment, offset, bytes, opens: write.opens, records }
    }

    pub fn blocks(&self) -> usize {
        self.bytes.len() / BLOCK_SIZE
    }

    /// Where the frame begins in the file: behind the segment's header, if that goes with it.
    pub fn frame_begin(&self) -> usize {
        self.offset.max(BLOCK_SIZE)
    }

    pub fn frame_end(&self) -> usize {
        self.offset + self.bytes.len()
    }

    /// Puts those blocks on `file` whose bits are set in `kept`.
    pub fn put(&self, file: &mut [u8], kept: u32) {
        for (block, bytes) in self.bytes.chunks(BLOCK_SIZE).enumerate() {
            if kept & 1 << block != 0 {
                let to = self.offset + block * BLOCK_SIZE;
                file[to..to + BLOCK_SIZE].copy_from_slice(bytes);
            }
        }
    }

    /// All of its blocks, as [`Write::put`] takes them.
    pub fn all_blocks(&self) -> u32 {
        assert!(self.blocks() < 32, "a segment of these tests has fewer blocks");
        (1 << self.blocks()) - 1
    }

    /// Whether the frame stands in `file`, whatever became of the segment's header. A block that
    /// was lost may have held the same bytes before.
    pub fn is_whole_in(&self, file: &[u8]) -> bool {
        let begin = self.frame_begin();
        file[begin..self.frame_end()] == self.bytes[begin - self.offset..]
    }
}

/// What the log, or its driver, did.
#[derive(Clone, Debug)]
pub enum Step {
    /// A spare of zeros was made.
    Spare(SpareId),
    /// The oldest segment became a spare, its bytes still in it.
    Recycle(SegmentId, SpareId),
    /// A write became durable.
    Write(Write),
    /// Everything stopped while a write was under way, of which these blocks reached the disk; then
    /// the log was recovered.
    Crash(Write, u32),
    /// The log stopped with nothing under way, and was recovered.
    Restart,
}

/// A frame that stands whole on the disk.
#[derive(Clone, Debug)]
pub struct DurableFrame {
    pub segment: SegmentId,
    pub begin: usize,
    pub end: usize,
    pub records: Rc<[Numbered]>,
}

/// The disk after some steps of a run, and what it must hold.
#[derive(Clone, Default)]
pub struct Image {
    pub disk: Disk,
    /// In the order of the log.
    pub frames: Vec<DurableFrame>,
    /// The greatest number that was ever given to a record that was on its way to the disk.
    pub appended: Lsn,
    /// Segments in files with an earlier life.
    pub recycled: Vec<SegmentId>,
    recycled_spares: Vec<SpareId>,
}

impl Image {
    pub fn play(&mut self, step: &Step, segment_size: u32) {
        match step {
            Step::Spare(spare) => {
                let size = usize::try_from(segment_size).expect("fits");
                assert!(self.disk.spares.insert(*spare, vec![0; size]).is_none());
            }
            Step::Recycle(segment, spare) => {
                let file = self.disk.files.remove(segment).expect("held");
                assert!(self.disk.spares.insert(*spare, file).is_none());
                self.frames.retain(|frame| frame.segment != *segment);
                self.recycled.retain(|held| held != segment);
                self.recycled_spares.push(*spare);
            }
            Step::Write(write) => self.write(write, write.all_blocks()),
            Step::Crash(write, kept) => self.write(write, *kept),
            Step::Restart => {}
        }
    }

    /// Puts a write on the disk but for one piece of `size` bytes, smaller than a block: its block
    /// is torn.
    pub fn tear(&mut self, write: &Write, piece: usize, size: usize) {
        let file = self.disk.files.get_mut(&write.segment).expect("opened before");
        let begin = write.offset + piece * size;
        let old = file[begin..begin + size].to_vec();
        write.put(file, write.all_blocks());
        file[begin..begin + size].copy_from_slice(&old);
        self.note_frame(write);
    }

    fn write(&mut self, write: &Write, kept: u32) {
        if let Some(spare) = write.opens {
            let file = self.disk.spares.remove(&spare).expect("made before");
            assert!(self.disk.files.insert(write.segment, file).is_none(), "opened once");
            if let Some(known) = self.recycled_spares.iter().position(|held| *held == spare) {
                self.recycled_spares.remove(known);
                self.recycled.push(write.segment);
            }
        }
        let file = self.disk.files.get_mut(&write.segment).expect("opened before");
        write.put(file, kept);
        self.note_frame(write);
    }

    fn note_frame(&mut self, write: &Write) {
        if write.is_whole_in(&self.disk.files[&write.segment]) {
            self.frames.push(DurableFrame {
                segment: write.segment,
                begin: write.frame_begin(),
                end: write.frame_end(),
                records: Rc::clone(&write.records),
            });
        }
        let (last, _) = write.records.last().expect("a frame has records");
        self.appended = self.appended.max(*last);
    }

    /// What recovery must deliver, of `from` and later segments.
    pub fn records(&self, from: SegmentId) -> impl Iterator<Item = &Numbered> {
        let frames = self.frames.iter().filter(move |frame| frame.segment >= from);
        frames.flat_map(|frame| frame.records.iter())
    }
}

/// A run: its steps from a disk without files on.
#[derive(Clone, Debug)]
pub struct Run {
    pub config: LogConfig,
    pub steps: Vec<Step>,
}

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub config: LogConfig,
    /// Turns, each with up to a few writes.
    pub turns: u64,
    /// Segments held; older ones are recycled.
    pub segments: usize,
    /// Each record's value or state is up to one of these lengths, in bytes.
    pub lengths: [usize; 8],
}

/// The sizes of a run's log, in blocks.
pub fn config_of(segment_blocks: usize, frame_blocks_max: usize) -> LogConfig {
    let bytes = |blocks: usize| u32::try_from(blocks * BLOCK_SIZE).expect("fits");
    LogConfig {
        segment_size: bytes(segment_blocks),
        frame_size_max: bytes(frame_blocks_max),
        spare_segments: 1,
        ..LogConfig::for_identity(identity())
    }
}

/// Bytes without a pattern; now and then whole blocks of zeros, which look like nothing written.
fn any_bytes(numbers: &mut Numbers, length: usize) -> Rc<[u8]> {
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| numbers.below(u64::MAX).to_le_bytes())
        .take(length.div_ceil(8))
        .flatten()
        .collect();
    bytes.truncate(length);
    if numbers.below(8) == 0 {
        bytes[length / 4..].fill(0);
    }
    bytes.into()
}

/// A record of any kind and size, of one of 40 entities.
pub fn any_record(numbers: &mut Numbers, lengths: [usize; 8]) -> LogRecord {
    let length = lengths[pick(numbers, 8)];
    let length = pick(numbers, length + 1);
    let bytes = any_bytes(numbers, length);
    let (entity, number) = (numbers.below(40), 1 + numbers.below(6));
    let (id, round) = (1 + numbers.below(3), 1 + u32::try_from(numbers.below(9)).expect("fits"));
    let record = EntryRecord { chosen: numbers.below(8) == 0, ..accepted(round, id) };
    match numbers.below(8) {
        0..=2 => entry(entity, number, record, LoggedValue::Inline(bytes)),
        3 => entry(entity, number, record, LoggedValue::Earlier),
        4 => {
            let promised = EntryRecord { promised: ballot(round), ..EntryRecord::default() };
            entry(entity, number, promised, LoggedValue::None)
        }
        5 => value(entity, number, id, bytes),
        6 => chosen(entity, number, round, id),
        _ => match image(entity, numbers.below(4), 0) {
            LogRecord::Image { entity, applied, chain, last_value_id, .. } => {
                LogRecord::Image { entity, applied, chain, last_value_id, state: bytes }
            }
            _ => unreachable!("an image was made"),
        },
    }
}

fn pick(numbers: &mut Numbers, limit: usize) -> usize {
    usize::try_from(numbers.below(u64::try_from(limit).expect("fits"))).expect("fits")
}

struct Recorder {
    numbers: Numbers,
    plan: Plan,
    run: Run,
    image: Image,
    log: Log,
    /// Not handed out for writing yet.
    appended: VecDeque<Numbered>,
}

/// Plays and records a run. The same arguments give the same run.
pub fn record(seed: u64, plan: Plan) -> Run {
    let config = plan.config;
    let mut recorder = Recorder {
        numbers: Numbers(seed),
        plan,
        run: Run { config, steps: Vec::new() },
        image: Image::default(),
        log: Log::new(config, None).with_index(Index::new(HELD)),
        appended: VecDeque::new(),
    };
    for turn in 0..plan.turns {
        recorder.turn(turn);
    }
    recorder.run
}

impl Recorder {
    fn step(&mut self, step: Step) {
        self.image.play(&step, self.run.config.segment_size);
        self.run.steps.push(step);
    }

    fn append(&mut self, record: LogRecord) {
        let urgency = if self.numbers.below(4) == 0 { Urgency::Lazy } else { Urgency::Now };
        let lsn = self.log.append(&record, urgency);
        self.appended.push_back((lsn, record));
    }

    fn turn(&mut self, turn: u64) {
        for _ in 0..=self.numbers.below(6) {
            let record = any_record(&mut self.numbers, self.plan.lengths);
            // What does not fit this run's segments at all cannot be appended.
            if record.encoded_length() <= self.run.config.record_size_max() {
                self.append(record);
            }
        }
        if turn % 16 == 9 {
            self.append(self.filler());
        }
        if self.numbers.below(3) > 0 {
            self.log.flush();
        }
        loop {
            self.make_room();
            let Some(write) = self.log.poll_write() else { break };
            let recorded = Write::new(&write, &mut self.appended);
            if self.numbers.below(12) == 0 {
                let kept = u32::try_from(self.numbers.below(1 << recorded.blocks()));
                self.step(Step::Crash(recorded, kept.expect("fits")));
                self.resume();
                return;
            }
            if self.numbers.below(3) == 0 {
                // Arrives while the disk is busy.
                let (entity, number) = (self.numbers.below(40), 1 + self.numbers.below(6));
                self.append(chosen(entity, number, 3, 1));
            }
            self.step(Step::Write(recorded));
            self.log.handle_written(write.buffer);
        }
        if self.numbers.below(20) == 0 {
            self.step(Step::Restart);
            self.resume();
        }
    }

    /// A record that fills a segment alone.
    fn filler(&self) -> LogRecord {
        let mut filler = value(3, 1, 3, [].into());
        let length = self.run.config.record_size_max() - filler.encoded_length();
        if let LogRecord::Value { bytes, .. } = &mut filler {
            *bytes = any_bytes(&mut Numbers(length as u64), length);
        }
        assert_eq!(filler.encoded_length(), self.run.config.record_size_max());
        filler
    }

    fn make_room(&mut self) {
        while self.image.disk.files.len() > self.plan.segments {
            let freed = self.log.free(self.log.oldest_segment());
            let Ok(freed) = freed else { break };
            self.step(Step::Recycle(freed.segment, freed.spare));
            self.log.handle_spare(freed.spare);
        }
        while self.log.spares_wanted() > 0 {
            let spare = self.log.name_spare();
            self.step(Step::Spare(spare));
            self.log.handle_spare(spare);
        }
    }

    fn resume(&mut self) {
        self.appended.clear();
        let scan = self.image.disk.scan();
        self.log = Log::new(self.run.config, scan.outcome.tail()).with_index(scan.index);
        for spare in self.image.disk.spares.keys() {
            self.log.handle_spare(*spare);
        }
    }
}

/// The header of a segment, if it survived and is the one of this life.
pub fn header_of(segment: SegmentId, file: &[u8]) -> Option<SegmentHeader> {
    let header = SegmentHeader::parse_for(&file[..BLOCK_SIZE], &identity()).ok()?;
    (header.segment == segment).then_some(header)
}

/// The entities that the records are of.
pub fn entities(records: &[Numbered]) -> Vec<EntityId> {
    let mut entities: Vec<EntityId> = records.iter().map(|(_, record)| record.entity()).collect();
    entities.sort_unstable();
    entities.dedup();
    entities
}

/// A record of no run: what a log appends when it goes on.
pub fn later_record(number: u64, length: usize) -> LogRecord {
    let bytes = any_bytes(&mut Numbers(number + 77), length);
    let record = EntryRecord { value_id: Some(value_id(number)), ..accepted(2, number) };
    LogRecord::Entry {
        entity: EntityId(1000 + number),
        entry: Entry(1),
        record,
        value: LoggedValue::Inline(bytes),
    }
}
