//! Telling tails what changed: pages read from this core's log.
//!
//! A tail names a place in the log, and gets what is told by the records after it. Nothing is kept
//! of who asked. What the records say:
//!
//! - A *mark* ([`LogRecord::Chosen`]): its entry was applied, after the one before it. The entry's
//!   value, which stands in an earlier record, says which keys changed.
//! - An *image* that does not stand right behind the mark of its own entry, with the chain of that:
//!   this core took the whole entity over from another replica. The image is told key by key.
//! - Everything else is about votes, and only its values matter, for marks to come.
//!
//! ```text
//! log   … │ frame │ frame │ frame │ frame │ …            durable up to ^end
//!           ^scan: values, for marks behind ^told: lines begin here
//! ```
//!
//! Reading begins at `scan`, far enough before the last record told that nearly every value is come
//! across. One that was accepted long before it was chosen is read by itself, from where the index
//! has it. If the index has forgotten it, or segments are gone, the tail is told so, and has to go
//! on from the entities' states ([`tell_state`](crate::entity::Entity::tell_state)).
//!
//! Costs nothing while nobody asks: no record is written for it, and nothing is noted when one is.

use std::collections::{BTreeMap, VecDeque};

use net::resp::value::Value;
use plog::block::BLOCK_SIZE;
use plog::frame_walk::{FramePlace, NoFrame, WalkedFrame};
use plog::location::Location;
use plog::log_record::LogRecord;
use plog::segment::SegmentId;
use plog::vocabulary::{EntityId, Entry, ValueId};

use crate::context::Origin;
use crate::errors;
use crate::request::{ChangesQuestion, CoreQuestion, Ticket};
use crate::shard::Shard;
use crate::shard::changes::job::{Accepted, Job, size};
use crate::shard::log_reads::{Purpose, ReadFailed};
use crate::shard::serving::value_in;
use crate::state_machine::StateMachine;
use crate::status::as_u64;
use crate::tail::change::{Listing, Page, State};
use crate::tail::position::LogPosition;

mod job;

/// Pages that a core makes at a time.
const PAGES_MAX: usize = 4;

/// Questions that wait for one of these.
const WAITING_MAX: usize = 256;

/// Entities listed at a time, at most.
const LISTED_MAX: usize = 256;

/// The pages being made, and who waits for one.
#[derive(Debug, Default)]
pub(crate) struct ChangePages {
    next: u64,
    jobs: BTreeMap<u64, Job>,
    waiting: VecDeque<(Ticket, ChangesQuestion)>,
}

/// What comes of a step.
#[derive(Debug)]
enum Step {
    /// A value has to be read from there.
    LookUp(Location),
    /// The rest of the log has to be read.
    ReadOn,
    /// The page is done.
    Done,
    /// It cannot be made.
    Gone(String),
}

impl<M: StateMachine> Shard<M> {
    /// A tail asks.
    pub(super) fn answer_tail(&mut self, ticket: Ticket, question: CoreQuestion) {
        if let Some(refusal) = self.tail_refusal(&question) {
            self.context.counters.tail_refused += 1;
            self.context.turn_away(Origin::Client(ticket), refusal);
            return;
        }
        match question {
            CoreQuestion::Entities { after, count } => {
                let listing = self.list_entities(after, count.clamp(1, LISTED_MAX));
                self.answer_core(ticket, listing.into_value());
            }
            CoreQuestion::Changes(question) => self.answer_changes(ticket, *question),
        }
    }

    /// Why nothing is told: this core does not hold all that it should.
    fn tail_refusal(&self, question: &CoreQuestion) -> Option<Value> {
        if self.abstaining.count() > 0 || self.rejoining.is_some() {
            return Some(errors::tail_not_whole());
        }
        let begins = matches!(question, CoreQuestion::Changes(changes) if changes.after.is_none());
        let following = self.following();
        let is_in_step = following.is_none_or(|following| following.in_step_at.is_some());
        (begins && !is_in_step).then(errors::tail_not_in_step)
    }

    fn answer_core(&mut self, ticket: Ticket, value: Value) {
        self.context.answer(Origin::Client(ticket), value, Entry::ZERO);
    }

    fn list_entities(&self, after: Option<EntityId>, count: usize) -> Listing {
        let held = self.context.log.index().entities_after(after, count);
        let next = (held.len() == count).then(|| held.last().map(|held| held.entity)).flatten();
        // Of the others nothing is chosen here.
        let chosen = held.into_iter().filter(|held| held.chosen > Entry::ZERO);
        Listing { next, entities: chosen.map(|held| held.entity).collect() }
    }

    /// Where the log ends now: all that is told by then is durable.
    fn end_of_log(&self) -> LogPosition {
        let log = &self.context.log;
        let first = FramePlace { segment: SegmentId::FIRST, offset: 0, chain: 0 };
        LogPosition {
            log: self.log_config.identity.incarnation_low(),
            scan: log.end().unwrap_or(first).behind_header(),
            told: log.last_record(),
            lines: 0,
        }
    }

    fn answer_changes(&mut self, ticket: Ticket, question: ChangesQuestion) {
        let end = self.end_of_log();
        let Some(after) = question.after else {
            let page = Page { next: end, is_at_end: true, changes: Vec::new() };
            self.answer_core(ticket, page.into_value());
            return;
        };
        if let Err(reason) = self.check_position(after, end) {
            self.tell_gone(ticket, &reason);
            return;
        }
        if after.told == end.told {
            let page = Page { next: after, is_at_end: true, changes: Vec::new() };
            self.answer_core(ticket, page.into_value());
            return;
        }
        if self.change_pages.jobs.len() < PAGES_MAX {
            self.start_changes(ticket, question, after);
        } else if self.change_pages.waiting.len() < WAITING_MAX {
            self.context.counters.tail_waits += 1;
            self.change_pages.waiting.push_back((ticket, question));
        } else {
            self.context.counters.tail_refused += 1;
            self.answer_core(ticket, errors::tail_busy());
        }
    }

    /// Whether this log holds what comes after a position, as far as is known without reading.
    fn check_position(&self, after: LogPosition, end: LogPosition) -> Result<(), String> {
        let oldest = self.context.log.oldest_segment();
        let (scan, begin) = (after.scan, FramePlace { chain: 0, ..end.scan });
        if after.log != end.log {
            let (of, is) = (after.log, end.log);
            return Err(format!(
                "the position is of another log ({of:x}) than this core's ({is:x}): of another \
                 node, or of one that was lost"
            ));
        }
        if scan.segment < oldest {
            let gone = scan.segment;
            return Err(format!(
                "the log no longer reaches back to the position: segment {gone} was freed, the \
                 oldest is {oldest}; log.hold_bytes says how much is kept"
            ));
        }
        if !size(scan.offset).is_multiple_of(BLOCK_SIZE) {
            return Err(format!("no frame begins at offset {} of a segment", scan.offset));
        }
        if after.told > end.told || (FramePlace { chain: 0, ..scan }) > begin {
            return Err(format!(
                "the position is beyond this log's end, record {}: it is of another copy of it",
                end.told.0
            ));
        }
        Ok(())
    }

    fn tell_gone(&mut self, ticket: Ticket, reason: &str) {
        self.context.counters.tail_gone += 1;
        self.answer_core(ticket, errors::tail_gone(reason));
    }

    fn start_changes(&mut self, ticket: Ticket, question: ChangesQuestion, after: LogPosition) {
        let read_bytes = self.context.config.tail_read_bytes;
        let job = Job::new(ticket, question, after, read_bytes);
        self.change_pages.next += 1;
        let number = self.change_pages.next;
        self.read_changes(number, job);
    }

    /// Reads the next stretch of the log for a page.
    fn read_changes(&mut self, number: u64, mut job: Job) {
        let log = &self.context.log;
        let end = self.end_of_log().scan;
        if job.place.segment < log.oldest_segment() {
            let gone = job.place.segment;
            self.end_changes(job, Step::Gone(format!("segment {gone} was freed meanwhile")));
            return;
        }
        let limit = |segment: SegmentId| {
            if segment == end.segment { end.offset } else { self.log_config.segment_size }
        };
        if job.place.offset >= limit(job.place.segment) && job.place.segment < end.segment {
            job.place = job.place.in_next_segment();
        }
        let left = limit(job.place.segment).saturating_sub(job.place.offset);
        if left == 0 {
            job.reached_end = true;
            let step = self.tell_changes(&mut job);
            self.go_on_with_changes(number, job, step);
            return;
        }
        let length = job.wanted.min(left);
        // Not of a record: whoever reads it looks at the frames' own checksums.
        let location = Location::new(job.place.segment, job.place.offset, length, 0);
        self.context.counters.tail_bytes += u64::from(length);
        self.log_reads.start(Purpose::Changes(number), location);
        self.change_pages.jobs.insert(number, job);
    }

    /// A stretch of the log was read for a page.
    pub(super) fn handle_changes_read(&mut self, number: u64, blocks: Result<&[u8], ReadFailed>) {
        let Some(mut job) = self.change_pages.jobs.remove(&number) else { return };
        let step = match blocks {
            Err(_) => Step::Gone("the log could not be read; see the node's log".to_owned()),
            Ok(blocks) => match self.scan_changes(&mut job, blocks) {
                Ok(()) => self.tell_changes(&mut job),
                Err(reason) => Step::Gone(reason),
            },
        };
        self.go_on_with_changes(number, job, step);
    }

    /// A value was read by itself.
    pub(super) fn handle_changed_value(&mut self, number: u64, record: Option<LogRecord>) {
        let Some(mut job) = self.change_pages.jobs.remove(&number) else { return };
        let step = job.looked_up.take().and_then(|(entity, entry, id)| {
            let value = value_in(record?, entity, id)?;
            job.add_value((entity, entry), Accepted { id, frame: None, bytes: value });
            Some(self.tell_changes(&mut job))
        });
        let unreadable = || Step::Gone("a value could not be read; see the node's log".to_owned());
        self.go_on_with_changes(number, job, step.unwrap_or_else(unreadable));
    }

    fn go_on_with_changes(&mut self, number: u64, job: Job, step: Step) {
        match step {
            Step::ReadOn => self.read_changes(number, job),
            Step::LookUp(location) => {
                self.log_reads.start(Purpose::ChangedValue(number), location);
                self.change_pages.jobs.insert(number, job);
            }
            Step::Done | Step::Gone(_) => self.end_changes(job, step),
        }
    }

    /// Answers, and begins with the next one that waits.
    fn end_changes(&mut self, job: Job, step: Step) {
        if let Step::Gone(reason) = step {
            self.tell_gone(job.ticket, &reason);
        } else {
            self.context.counters.tail_pages += 1;
            self.context.counters.tail_lines += as_u64(job.changes.len());
            let next = job.next();
            let page = Page { next, is_at_end: job.is_at_end(), changes: job.changes };
            self.answer_core(job.ticket, page.into_value());
        }
        while self.change_pages.jobs.len() < PAGES_MAX
            && let Some((ticket, question)) = self.change_pages.waiting.pop_front()
        {
            // The log may have lost segments meanwhile.
            self.answer_changes(ticket, question);
        }
    }

    /// Takes in the frames at the beginning of `blocks`. An error says why there is none.
    fn scan_changes(&self, job: &mut Job, blocks: &[u8]) -> Result<(), String> {
        let identity = &self.log_config.identity;
        let end = self.end_of_log().scan;
        let mut at = 0;
        let first = job.frames();
        loop {
            let is_at_end = job.place.segment == end.segment && job.place.offset >= end.offset;
            if is_at_end {
                job.reached_end = true;
                return Ok(());
            }
            let read = WalkedFrame::read(&blocks[at..], job.place, identity);
            match read {
                Ok(frame) => {
                    at += size(frame.header.frame_length);
                    job.take_frame(&frame)?;
                    job.wanted = job.read_bytes;
                }
                Err(NoFrame::Needs(bytes)) => {
                    // Not all of it was read; the next stretch begins with it.
                    let bytes = u32::try_from(bytes).expect("a frame fits a segment");
                    let limit = self.log_config.segment_size;
                    let is_alone = job.frames() == first && job.wanted >= bytes;
                    if is_alone && job.place.segment == end.segment {
                        return Err(format!("segment {} is cut short", job.place.segment));
                    }
                    if is_alone || job.place.offset >= limit {
                        job.place = job.place.in_next_segment();
                    }
                    job.wanted = bytes.max(job.read_bytes);
                    return Ok(());
                }
                Err(NoFrame::NotHere(error)) => {
                    let first = FramePlace { offset: 0, ..job.place }.behind_header();
                    if job.place.segment >= end.segment || job.place == first {
                        let FramePlace { segment, offset, .. } = job.place;
                        return Err(format!(
                            "no frame that follows is at offset {offset} of segment {segment}: {error}"
                        ));
                    }
                    // The segment ends here, if the next one names the same frame.
                    job.place = job.place.in_next_segment();
                    return Ok(());
                }
            }
        }
    }

    /// Tells of what was read, until the page is full.
    fn tell_changes(&mut self, job: &mut Job) -> Step {
        while job.has_pending() {
            if let Some((entity, entry, value_id)) = job.missing_value() {
                return match self.find_value(entity, entry, value_id) {
                    Ok(location) => {
                        job.looked_up = Some((entity, entry, value_id));
                        Step::LookUp(location)
                    }
                    Err(reason) => Step::Gone(reason),
                };
            }
            match job.tell_first::<M>() {
                Ok(true) => {}
                Ok(false) => return Step::Done,
                Err(reason) => return Step::Gone(reason),
            }
        }
        if job.is_done() { Step::Done } else { Step::ReadOn }
    }

    /// Where the value of a chosen entry stands, if that is known still.
    fn find_value(&self, id: EntityId, entry: Entry, value: ValueId) -> Result<Location, String> {
        let range = self.context.log.index().chosen_range(id, entry, entry);
        let held = range.and_then(|range| range.first().copied());
        match held {
            Some((_, _, held, location)) if held == value => Ok(location),
            Some(_) | None => Err(format!(
                "the value of entry {} of entity {:x} is no longer at hand",
                entry.0, id.0
            )),
        }
    }

    /// Whether nothing is known of an entity, in memory or on disk.
    pub(super) fn is_unknown(&self, id: EntityId) -> bool {
        self.entities.get(id).is_none()
            && !self.loading.contains_key(&id)
            && self.context.log.index().get(id).is_none()
    }

    /// Answers for an entity that does not exist.
    pub(super) fn answer_no_state(&mut self, origin: Origin) {
        let log = self.log_config.identity.incarnation_low();
        let record = self.context.log.last_appended();
        let state = State { log, record, keys: Vec::new() };
        self.context.answer(origin, state.into_value(), Entry::ZERO);
    }
}
