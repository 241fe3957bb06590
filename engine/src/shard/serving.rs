//! Answers catch-up requests, from memory or from the log.

use std::rc::Rc;

use net::peer::message::{CarriedValue, CatchUpAnswer, CatchUpRequest, ChosenEntry, PeerMessage};
use plog::location::Location;
use plog::log_record::{LogRecord, LoggedValue};
use plog::planted;
use plog::vocabulary::{Ballot, EntityId, Entry, ValueId};

use crate::shard::loading::Parked;
use crate::shard::log_reads::Purpose;
use crate::shard::{PeerCore, Reach, Shard};
use crate::state_machine::StateMachine;

/// A catch-up answer whose values are being read.
#[derive(Debug)]
pub(crate) struct CatchUpJob {
    to: PeerCore,
    entity: EntityId,
    range: Vec<(Entry, Ballot, ValueId, Location)>,
    values: Vec<Option<Rc<[u8]>>>,
    missing: usize,
}

/// Answers being read at a time; further requests are answered with an image, or dropped as lost.
const JOBS_MAX: usize = 512;

/// An image of up to this many bytes per missing entry is cheaper than the entries.
const IMAGE_BYTES_PER_ENTRY: usize = 128;

impl<M: StateMachine> Shard<M> {
    pub(super) fn serve_catch_up(&mut self, from: PeerCore, request: CatchUpRequest) {
        let id = request.entity;
        if self.entities.get(id).is_none()
            && !self.loading.contains_key(&id)
            && let Some(known) = self.context.log.index().get(id)
        {
            let last = request.last.min(known.chosen());
            if self.start_job(from, id, request.first, last) {
                return;
            }
        }
        match self.reach(id) {
            Reach::Ready => {}
            Reach::Loading => {
                if self.parked < self.context.config.parked_messages_max {
                    self.park(id, Parked::CatchUp(from, request));
                }
                return;
            }
            Reach::Absent | Reach::Abstaining => {
                self.send_nothing(from, id, Entry::ZERO);
                return;
            }
        }
        let entity = self.entities.get(id).expect("just reached");
        if planted!("unchosen-served")
            && let Some(open) = entity.open_as_if_chosen(request.first)
        {
            let answer = CatchUpAnswer { entity: id, max_chosen: open.entry, entries: vec![open] };
            self.context.send(from.acceptor, PeerMessage::CatchUpAnswer(answer));
            return;
        }
        if entity.has_diverged() || entity.applied() < request.first {
            let applied = entity.applied();
            self.send_nothing(from, id, applied);
            return;
        }
        if let Some(newest) = entity.newest().filter(|newest| newest.entry == request.first) {
            let answer =
                CatchUpAnswer { entity: id, max_chosen: newest.entry, entries: vec![newest] };
            self.context.send(from.acceptor, PeerMessage::CatchUpAnswer(answer));
            return;
        }
        let last = request.last.min(entity.applied());
        let count = usize::try_from(last.0 - request.first.0 + 1).expect("asked for few");
        let prefer_image = count > 1 && entity.image_bytes() <= count * IMAGE_BYTES_PER_ENTRY;
        if prefer_image || !self.start_job(from, id, request.first, last) {
            let entity = self.entities.get(id).expect("just reached");
            self.context.send(from.acceptor, PeerMessage::Image(entity.image()));
        }
    }

    pub(super) fn send_nothing(&mut self, to: PeerCore, entity: EntityId, max_chosen: Entry) {
        let answer = CatchUpAnswer { entity, entries: Vec::new(), max_chosen };
        self.context.send(to.acceptor, PeerMessage::CatchUpAnswer(answer));
    }

    /// Starts reading the entries, as many as fit an answer. False when they are not all held.
    fn start_job(&mut self, to: PeerCore, id: EntityId, first: Entry, last: Entry) -> bool {
        if first > last || self.catch_up_jobs.len() >= JOBS_MAX {
            return false;
        }
        let Some(mut range) = self.context.log.index().chosen_range(id, first, last) else {
            return false;
        };
        let mut bytes = 0;
        let limit = self.context.config.catch_up_bytes_max;
        let fits = range.iter().take_while(|(_, _, _, location)| {
            bytes += usize::try_from(location.length).expect("32 bits fit a usize");
            bytes <= limit
        });
        let fitting = fits.count().max(1);
        range.truncate(fitting);
        self.next_job += 1;
        let job = self.next_job;
        for (position, (_, _, _, location)) in range.iter().enumerate() {
            self.log_reads.start(Purpose::CatchUp(job, position), *location);
        }
        let missing = range.len();
        let values = range.iter().map(|_| None).collect();
        self.catch_up_jobs.insert(job, CatchUpJob { to, entity: id, range, values, missing });
        true
    }

    pub(super) fn handle_served(&mut self, job: u64, position: usize, record: Option<LogRecord>) {
        let Some(work) = self.catch_up_jobs.get_mut(&job) else { return };
        let (_, _, id, _) = work.range[position];
        // What began to abstain meanwhile has no more to say.
        let record = record.filter(|_| !self.abstaining.covers(work.entity));
        let Some(value) = record.and_then(|record| value_in(record, work.entity, id)) else {
            // Unreadable here: let the asker find it elsewhere.
            let work = self.catch_up_jobs.remove(&job).expect("just seen");
            self.send_nothing(work.to, work.entity, Entry::ZERO);
            return;
        };
        work.values[position] = Some(value);
        work.missing -= 1;
        if work.missing > 0 {
            return;
        }
        let work = self.catch_up_jobs.remove(&job).expect("just seen");
        let max_chosen = work.range.last().map_or(Entry::ZERO, |(entry, _, _, _)| *entry);
        let entries = work.range.iter().zip(work.values).filter_map(|(item, bytes)| {
            let (entry, ballot, id, _) = *item;
            Some(ChosenEntry { entry, ballot, value: CarriedValue { id, bytes: bytes? } })
        });
        let answer = CatchUpAnswer { entity: work.entity, entries: entries.collect(), max_chosen };
        self.context.send(work.to.acceptor, PeerMessage::CatchUpAnswer(answer));
    }
}

/// The bytes of the value `id` in a record that should hold them.
pub(super) fn value_in(record: LogRecord, entity: EntityId, id: ValueId) -> Option<Rc<[u8]>> {
    if record.entity() != entity {
        return None;
    }
    match record {
        LogRecord::Entry { record, value: LoggedValue::Inline(bytes), .. } => {
            (record.value_id == Some(id)).then_some(bytes)
        }
        LogRecord::Value { value_id, bytes, .. } => (value_id == id).then_some(bytes),
        LogRecord::Entry { .. } | LogRecord::Chosen { .. } | LogRecord::Image { .. } => None,
    }
}
