//! Cold entities come back from the log when they are touched; what arrives meanwhile is parked.

use net::peer::message::{CatchUpRequest, PeerMessage};
use plog::index::{EntityIndex, LoadPlan};
use plog::location::{Location, read_back};
use plog::log_record::LogRecord;
use plog::memory::block_bytes;
use plog::vocabulary::{AcceptorId, EntityId, Entry};

use crate::context::{Event, Origin};
use crate::entity::Entity;
use crate::errors;
use crate::request::EntityRequest;
use crate::shard::log_reads::{Purpose, ReadFailed, ReadId};
use crate::shard::memory::EVICTION_STEPS;
use crate::shard::{PeerCore, Shard};
use crate::state_machine::StateMachine;
use crate::time::Time;

/// An entity on its way from the log.
#[derive(Debug)]
pub(crate) struct Loading {
    plan: LoadPlan,
    /// The image first, then the records, as they come in.
    records: Vec<Option<LogRecord>>,
    missing: usize,
    /// Bytes of all records together.
    bytes: usize,
    pub(super) parked: Vec<Parked>,
    begun: Time,
    /// The image could not be read, and peers have it.
    lost_image: Option<Location>,
}

/// A load that came to its end: the entity is in memory, and what waited for it was handled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FinishedLoad {
    /// Which entity.
    pub entity: EntityId,
    /// The last entry of it that is applied.
    pub applied: Entry,
    /// Records that were read back for it, at least 1.
    pub records: usize,
    /// From the first read being asked for to now, in microseconds.
    pub took_us: u64,
}

/// What waits for an entity.
#[derive(Debug)]
pub(crate) enum Parked {
    Request(Origin, EntityRequest),
    Message(PeerCore, PeerMessage),
    CatchUp(PeerCore, CatchUpRequest),
    Behind(AcceptorId, Entry),
    /// A majority of the others has this chain at an entry.
    OtherChain(Entry, u32),
}

impl Parked {
    /// Memory it takes, in bytes.
    fn bytes(&self) -> usize {
        let held = match self {
            Self::Request(_, EntityRequest::Command(command)) => command.arguments.size(),
            Self::Message(_, message) => message.value_bytes(),
            Self::Request(..) | Self::CatchUp(..) | Self::Behind(..) | Self::OtherChain(..) => 0,
        };
        size_of::<Self>() + block_bytes(held)
    }
}

impl<M: StateMachine> Shard<M> {
    /// Starts loading an indexed entity. False when there is nothing to read: then it is in memory,
    /// and new.
    pub(super) fn load(&mut self, id: EntityId) -> bool {
        let plan = self.context.log.index().load_plan(id);
        let locations: Vec<_> = plan.image.iter().chain(&plan.records).copied().collect();
        let missing = locations.len();
        if missing == 0 {
            // Only bytes of a value whose acceptor record never reached the disk.
            self.entities.insert(Entity::new(id));
            return false;
        }
        let records = locations.iter().map(|_| None).collect();
        let bytes: u64 = locations.iter().map(|location| u64::from(location.length)).sum();
        self.context.counters.loads += 1;
        self.context.counters.load_reads += u64::try_from(missing).expect("a count fits 64 bits");
        self.context.counters.load_bytes += bytes;
        let bytes = usize::try_from(bytes).expect("this machine has 64-bit addresses");
        self.loading_bytes += bytes;
        let begun = self.context.now;
        let parked = Vec::new();
        let loading = Loading { plan, records, missing, bytes, parked, begun, lost_image: None };
        self.loading.insert(id, loading);
        for (position, location) in locations.into_iter().enumerate() {
            self.log_reads.start(Purpose::Load(id, position), location);
        }
        true
    }

    pub(super) fn park_request(&mut self, origin: Origin, id: EntityId, request: EntityRequest) {
        // Commands are bounded as such; parked ones are not held yet, so count them here.
        if self.parked >= self.context.config.waiting_commands_max {
            self.context.counters.busy += 1;
            self.context.turn_away(origin, errors::busy());
            return;
        }
        self.park(id, Parked::Request(origin, request));
    }

    pub(super) fn park_message(&mut self, id: EntityId, from: PeerCore, message: PeerMessage) {
        if self.parked >= self.context.config.parked_messages_max {
            self.context.counters.messages_refused += 1;
            return;
        }
        self.park(id, Parked::Message(from, message));
    }

    pub(super) fn park(&mut self, id: EntityId, parked: Parked) {
        let loading = self.loading.get_mut(&id).expect("parked for an entity being loaded");
        self.parked += 1;
        self.parked_bytes += parked.bytes();
        loading.parked.push(parked);
    }

    /// The bytes of a read's `location.blocks()` arrived, or could not be had.
    pub fn handle_read(&mut self, now: Time, read: ReadId, blocks: Result<&[u8], ReadFailed>) {
        self.context.now = now;
        let Some((purpose, location)) = self.log_reads.finish(read) else { return };
        let record = || read_back(location, blocks.ok()?).ok();
        match purpose {
            Purpose::Load(id, position) => self.handle_loaded(id, position, location, record()),
            Purpose::CatchUp(job, position) => self.handle_served(job, position, record()),
            Purpose::Copy(run) => self.handle_copied(run, location, blocks),
            Purpose::Transfer(page, run) => self.handle_transfer_read(page, run, location, blocks),
            Purpose::Changes(page) => self.handle_changes_read(page, blocks),
            Purpose::ChangedValue(page) => self.handle_changed_value(page, record()),
        }
        self.settle_memory();
    }

    fn handle_loaded(
        &mut self,
        id: EntityId,
        position: usize,
        location: Location,
        record: Option<LogRecord>,
    ) {
        let Some(loading) = self.loading.get_mut(&id) else { return };
        match record.filter(|record| record.entity() == id) {
            Some(record) => loading.records[position] = Some(record),
            // What is chosen the others have, too; what was promised stands in the records alone.
            None if position == 0
                && loading.plan.image.is_some()
                && self.context.configuration.voters.count() > 1 =>
            {
                loading.lost_image = Some(location);
            }
            None => {
                self.give_up(id, location);
                return;
            }
        }
        loading.missing -= 1;
        if loading.missing > 0 {
            return;
        }
        let loading = self.loading.remove(&id).expect("just seen");
        self.loading_bytes -= loading.bytes;
        let records = loading.records.len();
        let mut assembler = loading.plan.assembler();
        for record in loading.records.into_iter().flatten() {
            if assembler.push(record).is_err() {
                unreachable!("records of other entities were refused above");
            }
        }
        let loaded = assembler.finish();
        if let Some(image) = &loaded.image {
            let (applied, chain) = (image.applied, image.chain);
            self.context.log.index_mut().set_image_chain(id, applied, chain);
        }
        self.evict(EVICTION_STEPS);
        let mut entity = Entity::new(id);
        if let Some(at) = loading.lost_image {
            let known = self.context.log.index().get(id);
            let applied = known.map_or(Entry::ZERO, EntityIndex::applied);
            entity.restore_without_image(&mut self.context, applied, &loaded);
            self.context.counters.images_lost += 1;
            self.context.events.push_back(Event::ImageLost { entity: id, at });
        } else {
            entity.restore(&mut self.context, &loaded);
        }
        // A checkpoint that came past does not make it worth keeping.
        entity.referenced = !loading.parked.is_empty();
        let counted = self.context.log.index().get(id).map_or(0, |known| u64::from(known.keys()));
        self.keys = self.keys - counted.min(self.keys) + u64::from(entity.key_count());
        self.finished_load = Some(FinishedLoad {
            entity: id,
            applied: entity.applied(),
            records,
            took_us: self.context.now.since_us(loading.begun),
        });
        self.entities.insert(entity);
        let place = self.entities.get(id).expect("just put there").place;
        self.context.counters.large_loads += u64::from(place.is_large());
        self.checkpoint_loaded(id);
        self.marked(id);
        self.unpark(id, loading.parked);
    }

    /// A record cannot be read: acknowledged promises may be lost, so the entity abstains here.
    fn give_up(&mut self, id: EntityId, at: Location) {
        let loading = self.loading.remove(&id).expect("called for an entity being loaded");
        self.loading_bytes -= loading.bytes;
        self.abstaining.add_unreadable(id);
        self.checkpoint_loaded(id);
        self.marked(id);
        let _ = self.catching_up.caught_up(id);
        if let Some(following) = &mut self.following {
            following.note_lag(id, false);
        }
        self.context.events.push_back(Event::Unreadable { entity: id, at });
        self.unpark(id, loading.parked);
    }

    /// What waited for an entity goes the way that is open now.
    fn unpark(&mut self, id: EntityId, parked: Vec<Parked>) {
        self.parked -= parked.len();
        self.parked_bytes -= parked.iter().map(Parked::bytes).sum::<usize>();
        for parked in parked {
            match parked {
                Parked::Request(origin, request) => self.request(origin, id, request),
                Parked::Message(from, message) => self.message(from, message),
                Parked::CatchUp(from, request) => {
                    self.message(from, PeerMessage::CatchUp(request));
                }
                Parked::Behind(from, entry) => self.note_behind(id, entry, from),
                Parked::OtherChain(entry, chain) => self.hear_of_another_history(id, entry, chain),
            }
        }
    }
}
