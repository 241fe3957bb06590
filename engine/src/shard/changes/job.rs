//! A page of changes that is being made: what was read of the log, and what it tells.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::rc::Rc;

use plog::assemble::LoadedImage;
use plog::frame_walk::{FramePlace, WalkedFrame};
use plog::log_record::{LogRecord, LoggedValue};
use plog::planted;
use plog::vocabulary::{EntityId, Entry, Lsn, ValueId};

use crate::batch::Batch;
use crate::entity_state;
use crate::request::{ChangesQuestion, Ticket};
use crate::session::glob;
use crate::state_machine::StateMachine;
use crate::tail::change::{Change, What};
use crate::tail::position::LogPosition;

/// Bytes of keys and values on a page, but for those of its last line.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Lines on a page, at most.
const PAGE_LINES_MAX: usize = 4096;

/// A frame that was read for a page.
#[derive(Clone, Copy, Debug)]
struct Scanned {
    place: FramePlace,
    last: Lsn,
    /// Bytes read up to its end.
    end: usize,
}

/// A value that was accepted in an entry, and may be chosen.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) id: ValueId,
    /// Where it was found, among the frames read; `None`: it was read by itself.
    pub(super) frame: Option<usize>,
    pub(super) bytes: Rc<[u8]>,
}

/// A record that lines come from.
#[derive(Debug)]
enum Telling {
    Applied { entity: EntityId, entry: Entry, value_id: ValueId },
    TakenOver { entity: EntityId, image: LoadedImage },
}

impl Telling {
    fn entity(&self) -> EntityId {
        match self {
            Self::Applied { entity, .. } | Self::TakenOver { entity, .. } => *entity,
        }
    }
}

/// One line, but for the position.
struct SaidOfKey {
    what: What,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    entry: Entry,
}

/// A record after which the stream may stand.
#[derive(Debug)]
struct Pending {
    lsn: Lsn,
    /// The record before it.
    before: Lsn,
    telling: Telling,
}

/// A page being made.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ticket: Ticket,
    question: ChangesQuestion,
    after: LogPosition,
    /// The next frame, and how many bytes to read from it on.
    pub(super) place: FramePlace,
    pub(super) wanted: u32,
    /// See [`ShardConfig::tail_read_bytes`](crate::config::ShardConfig::tail_read_bytes).
    pub(super) read_bytes: u32,
    frames: Vec<Scanned>,
    values: BTreeMap<(EntityId, Entry), Vec<Accepted>>,
    pending: VecDeque<Pending>,
    /// The mark right before, to tell an image that belongs to it.
    mark: Option<(EntityId, Entry, u32)>,
    /// The last record read.
    last: Lsn,
    bytes: usize,
    fresh_bytes: usize,
    pub(super) reached_end: bool,
    /// The entry whose value is being read by itself.
    pub(super) looked_up: Option<(EntityId, Entry, ValueId)>,
    pub(super) changes: Vec<Change>,
    page_bytes: usize,
    /// Where the lines end, when not all that was read is told.
    cut: Option<(Lsn, u32)>,
}

impl Job {
    /// The page that a question asks for, of which nothing was read.
    pub(super) fn new(
        ticket: Ticket,
        question: ChangesQuestion,
        after: LogPosition,
        read_bytes: u32,
    ) -> Self {
        Self {
            ticket,
            question,
            after,
            place: after.scan.behind_header(),
            wanted: read_bytes,
            read_bytes,
            frames: Vec::new(),
            values: BTreeMap::new(),
            pending: VecDeque::new(),
            mark: None,
            last: Lsn::ZERO,
            bytes: 0,
            fresh_bytes: 0,
            reached_end: false,
            looked_up: None,
            changes: Vec::new(),
            page_bytes: 0,
            cut: None,
        }
    }

    /// The value that has to be read before the first record that waits can be told.
    pub(super) fn missing_value(&self) -> Option<(EntityId, Entry, ValueId)> {
        match self.pending.front()?.telling {
            Telling::Applied { entity, entry, value_id } => {
                let is_missing = self.value(entity, entry, value_id).is_none();
                is_missing.then_some((entity, entry, value_id))
            }
            Telling::TakenOver { .. } => None,
        }
    }

    /// Whether something that was read is still to be told.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether enough was read.
    pub(super) fn is_done(&self) -> bool {
        self.reached_end || self.fresh_bytes >= size(self.read_bytes) || self.is_full()
    }

    /// Whether it tells all that the log holds.
    pub(super) fn is_at_end(&self) -> bool {
        self.reached_end && self.cut.is_none()
    }

    /// Frames read so far.
    pub(super) fn frames(&self) -> usize {
        self.frames.len()
    }

    fn is_full(&self) -> bool {
        self.changes.len() >= self.question.count.clamp(1, PAGE_LINES_MAX)
            || self.page_bytes >= PAGE_BYTES_MAX
    }

    /// Takes in one frame.
    pub(super) fn take_frame(&mut self, frame: &WalkedFrame<'_>) -> Result<(), String> {
        let (first, last) = (frame.header.first_lsn, frame.header.last_lsn());
        let told = self.after.told;
        let passes_over = |before: &Scanned| before.last < told && first > told;
        if self.frames.last().is_some_and(passes_over) {
            let told = told.0;
            return Err(format!("record {told} is not in this log: it is another copy of it"));
        }
        let length = size(frame.header.frame_length);
        self.bytes += length;
        if last > told {
            self.fresh_bytes += length;
        }
        let number = self.frames.len();
        self.frames.push(Scanned { place: self.place, last, end: self.bytes });
        self.place = frame.next;
        let place = frame.header.segment;
        frame
            .records(|lsn, record| self.take_record(number, lsn, record))
            .map_err(|error| format!("a record of segment {place} cannot be read: {error}"))
    }

    fn take_record(&mut self, frame: usize, lsn: Lsn, record: LogRecord) {
        let is_fresh = lsn > self.after.told;
        let before = if self.last > Lsn::ZERO { self.last } else { self.after.told };
        let mark = self.mark.take();
        self.last = lsn;
        let telling = match record {
            LogRecord::Entry { entity, entry, record, value: LoggedValue::Inline(bytes) } => {
                if let Some(id) = record.value_id {
                    self.add_value((entity, entry), Accepted { id, frame: Some(frame), bytes });
                }
                return;
            }
            LogRecord::Value { entity, entry, value_id: id, bytes } => {
                self.add_value((entity, entry), Accepted { id, frame: Some(frame), bytes });
                return;
            }
            LogRecord::Entry { .. } => return,
            LogRecord::Chosen { entity, entry, value_id, chain, .. } => {
                self.mark = Some((entity, entry, chain));
                Telling::Applied { entity, entry, value_id }
            }
            record @ LogRecord::Image { .. } => {
                let entity = record.entity();
                let image = LoadedImage::of(&record).expect("it is one");
                let is_of_mark = mark == Some((entity, image.applied, image.chain));
                if is_of_mark || planted!("take-over-not-told") {
                    return;
                }
                Telling::TakenOver { entity, image }
            }
        };
        if is_fresh {
            self.pending.push_back(Pending { lsn, before, telling });
        } else if let Telling::Applied { entity, entry, .. } = telling {
            // It was told: none of its values is waited for any more.
            self.values.remove(&(entity, entry));
        }
    }

    pub(super) fn add_value(&mut self, of: (EntityId, Entry), value: Accepted) {
        let values = self.values.entry(of).or_default();
        values.retain(|known| known.id != value.id);
        values.push(value);
    }

    fn value(&self, entity: EntityId, entry: Entry, id: ValueId) -> Option<&[u8]> {
        let values = self.values.get(&(entity, entry))?;
        values.iter().find(|value| value.id == id).map(|value| &*value.bytes)
    }

    /// Tells of the first record that waits. False when the page ended before all of it was told.
    pub(super) fn tell_first<M: StateMachine>(&mut self) -> Result<bool, String> {
        let Some(pending) = self.pending.pop_front() else { return Ok(true) };
        let Pending { lsn, before, telling } = pending;
        let entity = telling.entity();
        let said = self.said_by::<M>(&telling)?;
        let skip = if before == self.after.told { self.after.lines } else { 0 };
        let count = u32::try_from(said.len()).expect("an entity's keys are counted by 32 bits");
        for (number, said) in (1..=count).zip(said).skip_while(|(number, _)| *number <= skip) {
            if self.is_full() {
                self.cut = Some((before, number - 1));
                return Ok(false);
            }
            let SaidOfKey { what, key, value, entry } = said;
            let is_of_key = !matches!(what, What::BeginReset | What::EndReset);
            let pattern = self.question.pattern.as_deref().filter(|_| is_of_key);
            if pattern.is_some_and(|pattern| !glob::matches_exactly(pattern, &key)) {
                continue;
            }
            let is_last = number == count || planted!("position-beyond-the-line");
            let (told, lines) = if is_last { (lsn, 0) } else { (before, number) };
            let position = LogPosition { told, lines, ..self.after };
            self.page_bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            self.changes.push(Change { position, entity, entry, what, key, value });
        }
        if let Telling::Applied { entity, entry, .. } = telling {
            self.values.remove(&(entity, entry));
        }
        if self.is_full() && !self.pending.is_empty() {
            self.cut = Some((lsn, 0));
            return Ok(false);
        }
        Ok(true)
    }

    /// All lines of a record, whatever was told of it already.
    fn said_by<M: StateMachine>(&self, telling: &Telling) -> Result<Vec<SaidOfKey>, String> {
        let mut said = Vec::new();
        match telling {
            Telling::Applied { entity, entry, value_id } => {
                let value = self.value(*entity, *entry, *value_id).expect("found before");
                let unreadable = |error: &dyn Display| {
                    format!("entry {} of entity {:x} cannot be read: {error}", entry.0, entity.0)
                };
                let batch = Batch::parse(value).map_err(|error| unreadable(&error))?;
                let effects = M::each_change(batch.effects(), |key, value| {
                    let what = if value.is_some() { What::Set } else { What::Delete };
                    let (key, value) = (key.to_vec(), value.map(<[u8]>::to_vec));
                    said.push(SaidOfKey { what, key, value, entry: *entry });
                });
                effects.map_err(|error| unreadable(&error))?;
            }
            Telling::TakenOver { entity, image } => {
                let (_, state) = entity_state::decode::<M>(&image.state, image.applied)
                    .map_err(|error| format!("an image of entity {:x}: {error}", entity.0))?;
                let whole =
                    |what| SaidOfKey { what, key: Vec::new(), value: None, entry: image.applied };
                said.push(whole(What::BeginReset));
                state.each_key(|key, value, entry| {
                    let (key, value) = (key.to_vec(), Some(value.to_vec()));
                    said.push(SaidOfKey { what: What::State, key, value, entry });
                });
                said.push(whole(What::EndReset));
            }
        }
        Ok(said)
    }

    /// Where the page ends.
    pub(super) fn next(&self) -> LogPosition {
        let (told, lines) = match self.cut {
            Some(cut) if !planted!("page-end-skips-lines") => cut,
            Some(_) | None if self.last > self.after.told => (self.last, 0),
            Some(_) | None => return self.after,
        };
        // The frame of the last record told, or an earlier one with a value whose mark is to come.
        let own = self.frames.iter().position(|frame| frame.last >= told).unwrap_or(0);
        let own_end = self.frames[own].end;
        let is_near = |frame: &usize| {
            let held = self.frames.get(*frame);
            held.is_some_and(|held| *frame < own && own_end - held.end <= size(self.read_bytes))
        };
        let waited = self.values.values().flatten().filter_map(|value| value.frame);
        let first = waited.filter(is_near).min().unwrap_or(own);
        LogPosition { scan: self.frames[first].place, told, lines, ..self.after }
    }
}

pub(super) fn size(bytes: u32) -> usize {
    usize::try_from(bytes).expect("32 bits fit a usize")
}
