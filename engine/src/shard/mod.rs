//! One core's share of the entities.
//!
//! The shard is driven from outside, and decides everything inside. Three kinds of methods:
//! *getters*; `handle_*` for what happened, with the time as an argument; and `poll_*` for what to
//! do next. One turn of a driver:
//!
//! 1. call `handle_*` for everything that arrived;
//! 2. [`Shard::poll_write`]: start the log write it returns, one at a time; report it with
//!    [`Shard::handle_written`] when it is durable;
//! 3. [`Shard::poll_read`] until `None`: read these places of the log, report each with
//!    [`Shard::handle_read`];
//! 4. [`Shard::poll_message`] and [`Shard::poll_reply`] until `None`: send them. All they rest on
//!    is durable already;
//! 5. sleep until something happens or [`Shard::poll_timeout`], then [`Shard::handle_tick`].
//!
//! A failed write or sync is not an event the protocol carries on after: the driver stops.

use std::collections::BTreeMap;
use std::rc::Rc;

use net::peer::message::PeerMessage;
use plog::block::AlignedBuffer;
use plog::checkpoint::pointer::Pointer;
use plog::checkpoint::table::Row;
use plog::index::Index;
use plog::location::Location;
use plog::log::{Log, SegmentWrite};
use plog::log_config::LogConfig;
use plog::log_record::LogRecord;
use plog::planted;
use plog::recovery::{RecoveredTail, ScannedRecord};
use plog::segment::SpareId;
use plog::summary::RecordSummary;
use plog::vocabulary::{AcceptorId, EntityId, Entry, Generation, Lsn};

use crate::config::ShardConfig;
use crate::context::{Context, Event, Gated, Origin, Outgoing};
use crate::entity::Entity;
use crate::errors;
use crate::membership::Membership;
use crate::request::{EntityRequest, Reply, Ticket};
use crate::shard::abstaining::Abstaining;
use crate::shard::catching_up::CatchingUp;
use crate::shard::changes::ChangePages;
use crate::shard::checkpointing::Checkpointing;
use crate::shard::cleaning::Cleaning;
use crate::shard::consumers::Consumers;
use crate::shard::entity_table::EntityTable;
use crate::shard::following::{Following, may_say};
use crate::shard::lag::Lags;
use crate::shard::loading::Loading;
use crate::shard::log_reads::LogReads;
use crate::shard::marks::Unmarked;
use crate::shard::membership::Versions;
use crate::shard::memory::{Room, is_write};
use crate::shard::pace::Pace;
use crate::shard::rejoining::Rejoining;
use crate::shard::relays::Relays;
use crate::shard::serving::CatchUpJob;
use crate::shard::settling::Settling;
use crate::shard::sweep::Sweeps;
use crate::shard::transfer::{Transfer, TransferPages};
use crate::shard::unlike::Unlike;
use crate::state_machine::StateMachine;
use crate::state_machine::strings::Strings;
use crate::status::{Counters, Glance, ShardStatus, as_u64};
use crate::time::Time;

pub(crate) use crate::shard::entity_table::Place;
pub(crate) use crate::shard::followers::Followers;

pub use crate::shard::checkpointing::{FileJob, FileStep, NoCheckpoint};
pub use crate::shard::consumers::{
    LOCKS_MAX, LockId, LockLost, LockRefused, LockedCheckpoint, LogFreed, MIRRORS_MAX, MirrorId,
    MirrorRefused,
};
pub use crate::shard::followers::FOLLOWERS_MAX;
pub use crate::shard::following::FollowingStatus;
pub use crate::shard::loading::FinishedLoad;
pub use crate::shard::log_reads::{PLogRead, ReadFailed, ReadId};
pub use crate::shard::pace::{CatchUpRates, Rate, share_of_rate};

mod abstaining;
mod catching_up;
mod changes;
mod checkpointing;
mod cleaning;
mod consumers;
mod digest;
mod entity_table;
mod followers;
mod following;
mod generations;
mod lag;
mod loading;
mod log_reads;
mod marks;
mod membership;
mod memory;
mod messages;
mod pace;
mod rejoining;
mod relays;
mod serving;
mod settling;
mod sweep;
mod transfer;
mod unlike;

/// The shard of the default state machine.
pub type StringShard = Shard<Strings>;

/// One core of a peer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct PeerCore {
    /// The replica.
    pub acceptor: AcceptorId,
    /// Its core.
    pub core: u16,
}

/// What the handshake of a link said of the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerLife {
    /// Its generation; durable here before the link counts as up.
    pub generation: Generation,
    /// How many of its cores own entities, at least 1.
    pub core_count: u16,
}

/// Whether the log has room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogSpace {
    /// Segments can be made.
    Available,
    /// The disk is full: writes are refused, reads go on.
    Full,
    /// The same, and what was set aside for that day has been given back: freed segments are
    /// deleted and not kept as spares, so that it can be set aside again.
    FullReserveGivenBack,
}

/// See the module page.
#[derive(Debug)]
pub struct Shard<M: StateMachine> {
    context: Context,
    entities: EntityTable<M>,
    log_config: LogConfig,
    log_space: LogSpace,
    /// Filled while the log is scanned at start.
    recovering: Option<Index>,
    loading: BTreeMap<EntityId, Loading>,
    log_reads: LogReads,
    catch_up_jobs: BTreeMap<u64, CatchUpJob>,
    next_job: u64,
    sweeps: Sweeps,
    catching_up: CatchingUp,
    lags: Lags,
    unlike: Unlike,
    /// How fast entities that a sweep found catch up.
    pace: Pace,
    checkpointing: Checkpointing,
    cleaning: Cleaning,
    consumers: Consumers,
    abstaining: Abstaining,
    rejoining: Option<Rejoining>,
    /// The next configuration.
    membership: Membership,
    versions: Versions,
    /// Since the configuration is another one.
    settling: Option<Settling>,
    /// Many entities asked for at once, after a loss.
    transfer: Option<Transfer>,
    /// The same for others.
    transfer_pages: TransferPages,
    /// What tails ask.
    change_pages: ChangePages,
    /// Entries that the log calls chosen without the mark that tails look for.
    unmarked: Unmarked,
    /// Of a follower's core: whom it follows. A replica's has none.
    following: Option<Box<Following>>,
    /// A later generation of this replica is about.
    is_superseded: bool,
    relays: Relays,
    /// Messages and requests parked for entities being loaded.
    parked: usize,
    /// Bytes of their values and arguments.
    parked_bytes: usize,
    /// Bytes of the records that loads are reading.
    loading_bytes: usize,
    /// See [`Shard::set_memory_limit`].
    memory_limit: usize,
    finished_load: Option<FinishedLoad>,
    keys: u64,
}

impl<M: StateMachine> Shard<M> {
    /// A shard that has seen nothing yet. Feed it the log's records with
    /// [`Shard::recover_record`], then call [`Shard::finish_recovery`], or
    /// [`Shard::finish_recovery_abstaining`] if it is damaged.
    #[must_use]
    pub fn new(config: ShardConfig, log_config: LogConfig) -> Self {
        let log = Log::new(log_config, None);
        Self {
            context: Context::new(config, log),
            entities: EntityTable::new(config.values_on_disk_above),
            log_config,
            log_space: LogSpace::Available,
            recovering: Some(Index::for_recovery(config.hold_entries)),
            loading: BTreeMap::new(),
            log_reads: LogReads::default(),
            catch_up_jobs: BTreeMap::new(),
            next_job: 0,
            sweeps: Sweeps::default(),
            catching_up: CatchingUp::default(),
            lags: Lags::default(),
            unlike: Unlike::default(),
            pace: Pace::new(config.catch_up_rates),
            checkpointing: Checkpointing::default(),
            cleaning: Cleaning::new(&log_config),
            consumers: Consumers::default(),
            abstaining: Abstaining::default(),
            rejoining: None,
            membership: Membership::default(),
            versions: Versions::default(),
            settling: None,
            transfer: None,
            transfer_pages: TransferPages::default(),
            change_pages: ChangePages::default(),
            unmarked: Unmarked::default(),
            following: config.is_follower().then(Box::default),
            is_superseded: false,
            relays: Relays::default(),
            parked: 0,
            parked_bytes: 0,
            loading_bytes: 0,
            memory_limit: config.memory_bytes_max,
            finished_load: None,
            keys: 0,
        }
    }

    // Recovery.

    /// The next entity of the checkpoint that counts. Call for all, before the log's records: this
    /// is *loading* a checkpoint ("`LoadCheckpointState`"), without parsing a value. An image is
    /// read when its entity is touched.
    pub fn recover_checkpointed(&mut self, row: &Row) {
        let index = self.recovering.as_mut().expect("rows are recovered before anything else");
        if row.image.is_none() {
            self.abstaining.add_unreadable(row.entity);
            return;
        }
        index.note_checkpointed(row);
        self.keys += u64::from(row.keys);
    }

    /// The next records of the log from the checkpoint's floor on. Call for all, in LSN order. A
    /// few dozen at a time are faster than one: what they need is brought into the processor's
    /// caches together.
    pub fn recover_records(&mut self, records: &[ScannedRecord]) {
        let index = self.recovering.as_ref().expect("records are recovered before anything else");
        let ids = || records.iter().map(|scanned| scanned.record.entity());
        index.touch(ids());
        self.entities.touch(ids());
        for scanned in records {
            self.recover_record(scanned.lsn, scanned.location, &scanned.record);
        }
    }

    /// The next record of the log from the checkpoint's floor on. Call for all, in LSN order.
    pub fn recover_record(&mut self, lsn: Lsn, location: Location, record: &LogRecord) {
        assert!(lsn > Lsn::ZERO);
        let index = self.recovering.as_mut().expect("records are recovered before anything else");
        let id = record.entity();
        if self.abstaining.covers(id) {
            return;
        }
        let known = index.len();
        index.note(&RecordSummary::of(record), location);
        self.unmarked.note(record);
        let is_new = index.len() > known;
        if is_new {
            self.entities.insert(Entity::new(id));
        }
        // An entity that was evicted stays cold: the index has what it takes to load it.
        if let Some(entity) = self.entities.get_mut(id) {
            let before = u64::from(entity.key_count());
            let is_complete = entity.recover_record(&mut self.context, record);
            self.keys = self.keys - before + u64::from(entity.key_count());
            self.entities.recount(id);
            if !is_complete {
                self.drop_from_memory(id);
            }
            self.evict_while_recovering(is_new);
        }
    }

    /// All records were recovered; `tail` says where the log goes on, `None` for an empty one, and
    /// `checkpoint` which checkpoint counts.
    pub fn finish_recovery(&mut self, tail: Option<RecoveredTail>, checkpoint: Option<Pointer>) {
        let index = self.recovering.take().expect("recovery is finished once");
        self.context.log = Log::new(self.log_config, tail).with_index(index);
        let advances = if self.keeps_lags() { self.context.config.lag_entities_max } else { 0 };
        self.context.log.index_mut().keep_advances(advances);
        self.checkpointing = Checkpointing::after(checkpoint, self.log_config.segment_size);
        self.begin_marking();
    }

    // What happened.

    /// A client's request.
    pub fn handle_request(
        &mut self,
        now: Time,
        ticket: Ticket,
        entity: EntityId,
        request: EntityRequest,
    ) {
        self.context.now = now;
        let origin = Origin::Client(ticket);
        let request = match request {
            EntityRequest::Core(question) => {
                self.answer_tail(ticket, question);
                return;
            }
            request => request,
        };
        if self.context.commands_held >= self.context.config.waiting_commands_max {
            self.context.counters.busy += 1;
            self.context.turn_away(origin, errors::busy());
            return;
        }
        self.request(origin, entity, request);
        self.settle_memory();
    }

    fn request(&mut self, origin: Origin, entity: EntityId, request: EntityRequest) {
        if !self.context.is_member() && !self.context.config.is_follower() {
            self.context.counters.commands_removed += 1;
            self.context.turn_away(origin, errors::removed());
            return;
        }
        if let Some(refusal) = self.follower_refusal(&request) {
            self.context.counters.follower_refusals += 1;
            self.context.turn_away(origin, refusal);
            return;
        }
        if self.is_rejoining(entity) {
            self.request_abstaining(origin, entity, request);
            return;
        }
        if self.entities.get(entity).is_none() && self.is_far_over_memory() {
            self.turn_away_for_memory(origin);
            return;
        }
        if let EntityRequest::State { .. } = request
            && self.is_unknown(entity)
        {
            self.answer_no_state(origin);
            return;
        }
        match self.reach(entity) {
            // While a copy is in doubt, its clients are served through the others.
            Reach::Ready if is_command(&request) && self.is_in_doubt(entity) => {
                self.request_abstaining(origin, entity, request);
                return;
            }
            Reach::Ready => {}
            Reach::Absent => {
                match self.make_room() {
                    Room::Made => {}
                    // A look at what is not there makes no entity that lasts.
                    Room::NotOnDisk | Room::NotInIndex if !is_write::<M>(&request) => {}
                    Room::NotOnDisk => {
                        self.context.turn_away(origin, errors::too_many_entities());
                        return;
                    }
                    Room::NotInIndex => {
                        self.context.turn_away(origin, errors::index_full());
                        return;
                    }
                    Room::NotInMemory => {
                        self.turn_away_for_memory(origin);
                        return;
                    }
                }
                self.entities.insert(Entity::new(entity));
            }
            Reach::Loading => {
                self.park_request(origin, entity, request);
                return;
            }
            Reach::Abstaining => {
                self.request_abstaining(origin, entity, request);
                return;
            }
        }
        self.with_entity(entity, |entity, context| match request {
            EntityRequest::Command(command) => entity.handle_command(context, origin, command),
            EntityRequest::Inspect => {
                let value = entity.inspect(context);
                context.answer(origin, value, entity.applied());
            }
            EntityRequest::State { pattern } => {
                let value = entity.tell_state(context, pattern.as_deref());
                context.answer(origin, value, entity.applied());
            }
            EntityRequest::Core(_) => unreachable!("answered before an entity is looked for"),
        });
    }

    fn is_in_doubt(&self, id: EntityId) -> bool {
        self.entities.get(id).is_some_and(Entity::has_diverged)
    }

    /// Says which entities are about to be used. Changes nothing: it only touches them, one after
    /// the other, so that the processor waits for their memory once and not each time.
    pub fn expect(&mut self, entities: impl Iterator<Item = EntityId>) {
        self.entities.touch(entities);
    }

    /// The write polled last is durable.
    pub fn handle_written(&mut self, now: Time, buffer: AlignedBuffer) {
        self.context.now = now;
        let durable = self.context.log.handle_written(buffer);
        self.judge_room();
        while let Some(item) = self.context.gate.release(durable) {
            match item {
                Gated::Message(outgoing) => self.context.messages.push_back(outgoing),
                Gated::FollowAnswer(to, answer) => self.answer_follower(to, answer),
                Gated::OwnVote(id, entry) => {
                    if self.entities.get(id).is_some() {
                        self.with_entity(id, |entity, context| {
                            entity.handle_own_vote(context, entry);
                        });
                    }
                }
            }
        }
        self.ask_for_waiting_pages();
        self.continue_rejoining();
        self.settle_sweeps();
        self.settle_written();
        self.settle_memory();
    }

    /// A pre-written spare segment is ready.
    pub fn handle_spare(&mut self, spare: SpareId) {
        self.context.log.handle_spare(spare);
        self.judge_room();
    }

    /// The disk has room for segments, or none.
    pub fn set_log_space(&mut self, space: LogSpace) {
        self.log_space = space;
        self.judge_room();
    }

    /// An inbound link from a peer's core is up: what it sends arrives from now on.
    pub fn handle_peer_up(&mut self, now: Time, peer: PeerCore, life: PeerLife) {
        self.context.now = now;
        if !self.context.is_replica(peer.acceptor) {
            return; // it asks when it wants something, and tells nothing
        }
        self.learn_generation(peer.acceptor, life.generation);
        self.context.links_up[peer.acceptor.index()] += 1;
        if self.context.config.is_follower() {
            if !self.abstaining.is_whole_shard() {
                self.follow_peer_up(peer, life.core_count);
            }
            return;
        }
        self.add_sweep_link(peer, life.core_count);
        self.greet(peer);
        self.meet_with(peer, life.core_count);
    }

    /// A peer's core can be asked, now that its link is up, or it is a member.
    fn meet_with(&mut self, peer: PeerCore, core_count: u16) {
        if self.rejoining.as_ref().is_some_and(Rejoining::is_sweeping) {
            self.rejoin_peer_up(peer, core_count);
        } else if !self.abstaining.is_whole_shard() {
            self.start_sweep(peer);
            self.ask_for_page_again(peer);
        }
    }

    /// An inbound link went down.
    pub fn handle_peer_down(&mut self, now: Time, peer: PeerCore) {
        self.context.now = now;
        if !self.context.is_replica(peer.acceptor) {
            self.forget_follower(peer);
            return;
        }
        let links = &mut self.context.links_up[peer.acceptor.index()];
        *links = links.checked_sub(1).expect("a link goes down after it came up");
        self.sweeps.forget(peer);
        self.look_who_catches_up();
        self.transfer_pages.forget(peer);
        self.rejoin_peer_down(peer);
        self.follow_peer_down(peer);
    }

    /// The world had to drop messages to a peer's core.
    pub fn handle_dropped(&mut self, peer: PeerCore) {
        if self.abstaining.is_whole_shard() {
            return; // a sweep would find nothing here
        }
        self.context.send_to_core(peer, PeerMessage::SweepHint);
    }

    /// Time passed.
    pub fn handle_tick(&mut self, now: Time) {
        self.context.now = now;
        while let Some((armed_at, id)) = self.context.timers.pop_due(now) {
            if self.entities.get(id).is_some() {
                self.with_entity(id, |entity, context| entity.handle_timer(context, armed_at));
            }
        }
        if self.context.lazy_deadline.is_some_and(|deadline| deadline <= now) {
            self.context.lazy_deadline = None;
            self.context.log.flush();
        }
        self.relays.handle_tick(&mut self.context);
        self.expire_locks();
        self.continue_following();
        self.continue_sweeps();
        self.continue_transfer();
        if self.catching_up.next_due().is_some_and(|due| due <= now) {
            self.continue_catch_ups();
        }
        self.continue_rejoining();
        self.continue_membership();
        self.continue_settling();
        if self.unmarked.next_due().is_some() {
            self.continue_marking();
        }
        self.settle_memory();
    }

    /// Makes everything pending go out with the next write, as before a stop.
    pub fn flush(&mut self) {
        self.context.log.flush();
    }

    // What to do next.

    /// The next log write; one is in flight at a time.
    #[must_use]
    pub fn poll_write(&mut self) -> Option<SegmentWrite> {
        let write = self.context.log.poll_write();
        let may_write = !self.abstaining.is_whole_shard() || planted!("abstainer-votes");
        assert!(write.is_none() || may_write, "a damaged log is never appended to");
        write
    }

    /// The next log read.
    #[must_use]
    pub fn poll_read(&mut self) -> Option<PLogRead> {
        self.log_reads.poll()
    }

    /// The next message.
    #[must_use]
    pub fn poll_message(&mut self) -> Option<Outgoing> {
        let outgoing = self.context.messages.pop_front()?;
        let may_leave = !self.context.config.is_follower() || may_say(&outgoing.message);
        assert!(may_leave, "a follower has no say: {outgoing:?}");
        Some(outgoing)
    }

    /// The next reply.
    #[must_use]
    pub fn poll_reply(&mut self) -> Option<Reply> {
        self.context.replies.pop_front()
    }

    /// The load that the last [`Shard::handle_read`] brought to its end, if it did; for figures.
    /// Kept until the next load ends, so whoever does not ask loses it and nothing grows.
    #[must_use]
    pub fn poll_finished_load(&mut self) -> Option<FinishedLoad> {
        self.finished_load.take()
    }

    /// The next thing an operator must hear about.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.context.events.pop_front()
    }

    /// When [`Shard::handle_tick`] is next needed. May change after any other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let timers = [
            self.context.timers.next(),
            self.context.lazy_deadline,
            self.sweeps.next_due(),
            self.catching_up.next_due(),
            self.relays.next_due(),
            self.next_rejoin_due(),
            self.next_membership_due(),
            self.next_settling_due(),
            self.next_transfer_due(),
            self.following.as_deref().and_then(Following::next_due),
            self.checkpointing.next_due(self.context.now),
            self.cleaning.next_due(self.context.now),
            self.consumers.next_due(),
            self.unmarked.next_due(),
        ];
        // As a loop: this is asked after everything that happened, and most of these are none.
        let mut first: Option<Time> = None;
        for due in timers {
            if let Some(due) = due
                && first.is_none_or(|first| due < first)
            {
                first = Some(due);
            }
        }
        first
    }

    /// How many spare segments the log would like to have made; none if it is never appended to.
    #[must_use]
    pub fn spares_wanted(&self) -> usize {
        if self.abstaining.is_whole_shard() && !planted!("abstainer-votes") {
            return 0;
        }
        self.context.log.spares_wanted()
    }

    /// The name for the next spare segment to be made.
    pub fn name_spare(&mut self) -> SpareId {
        self.context.log.name_spare()
    }

    // Getters.

    /// Commands taken on and not yet answered.
    #[must_use]
    pub fn commands_held(&self) -> usize {
        self.context.commands_held
    }

    /// Keys held by this shard.
    #[must_use]
    pub fn key_count(&self) -> u64 {
        self.keys
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.context.log
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ShardConfig {
        &self.context.config
    }

    /// What happened since the shard was made.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.context.counters
    }

    /// The queues and cursors: for checkers.
    #[must_use]
    pub fn glance(&self) -> Glance {
        Glance {
            entities_in_memory: as_u64(self.entities.len()),
            commands_held: as_u64(self.context.commands_held),
            gated: as_u64(self.context.gate.len()),
            loading: as_u64(self.loading.len()),
            parked: as_u64(self.parked),
            timers: as_u64(self.context.timers.len()),
            abstaining: as_u64(self.abstaining.count()) + self.context.in_doubt,
            in_doubt: self.context.in_doubt,
            lsn_appended: self.context.log.appended().0,
            lsn_durable: self.context.log.durable().0,
        }
    }

    /// Counters and gauges.
    #[must_use]
    pub fn status(&self) -> ShardStatus {
        let glance = self.glance();
        let log = &self.context.log;
        ShardStatus {
            counters: self.context.counters,
            entities_in_memory: glance.entities_in_memory,
            entities_on_disk: as_u64(log.index().len()),
            keys: self.keys,
            state_bytes: as_u64(self.context.state_bytes),
            index_bytes: as_u64(log.index().memory_bytes()),
            accounted_bytes: as_u64(self.accounted_bytes()),
            memory_limit: as_u64(self.memory_limit),
            large_entities: as_u64(self.entities.large_len()),
            large_bytes: as_u64(self.entities.large_bytes()),
            commands_held: glance.commands_held,
            gated: glance.gated,
            loading: glance.loading,
            parked: glance.parked,
            behind: as_u64(self.catching_up.behind()),
            sweep_left: self.sweeps.left(),
            unconfirmed: self.unconfirmed(),
            followers: as_u64(self.context.followers.count(self.context.now)),
            timers: glance.timers,
            abstaining: glance.abstaining,
            abstaining_cores: u64::from(self.abstaining.is_whole_shard()),
            rejoining_cores: u64::from(self.rejoining.is_some()),
            rejoin_left: self.rejoin_left(),
            configuration: u64::from(self.context.configuration.version),
            settling_left: self.settling_left(),
            segments: as_u64(log.segments_held()),
            segments_freeable: self.freeable_segments(),
            log_since_checkpoint: self.log_since_checkpoint(),
            segments_max: as_u64(log.config().segments_max),
            cleaner_paused: u64::from(self.cleaning.is_paused()),
            log_near_limit: u64::from(self.is_log_near_its_limit()),
            log_full: u64::from(self.context.log_full.is_some()),
            checkpoint: self.checkpointing.number(),
            checkpoint_size: self.checkpointing.size(),
            checkpointing: u64::from(self.checkpointing.is_running()),
            checkpoints_locked: as_u64(self.consumers.locks()),
            mirrors: as_u64(self.consumers.mirrors()),
            lsn_appended: glance.lsn_appended,
            lsn_durable: glance.lsn_durable,
        }
    }

    /// Applied entry and chain of an entity in memory: for checkers.
    #[must_use]
    pub fn applied(&self, id: EntityId) -> Option<(Entry, u32)> {
        let known = self.entities.get(id).filter(|entity| entity.learns())?;
        Some((known.applied(), known.chain()))
    }

    /// An entity in memory as [`crate::entity_state`] encodes it: for checkers.
    #[must_use]
    pub fn encoded(&self, id: EntityId) -> Option<Rc<[u8]>> {
        self.entities.get(id).map(Entity::encode_image)
    }

    /// Every entity in memory with its applied entry and chain, in a stable order: for checkers.
    pub fn chains(&self) -> impl Iterator<Item = (EntityId, Entry, u32)> {
        let known = self.entities.iter().filter(|entity| entity.learns());
        known.map(|entity| (entity.id, entity.applied(), entity.chain()))
    }

    // Inside.

    fn reach(&mut self, id: EntityId) -> Reach {
        if self.abstaining.covers(id) {
            Reach::Abstaining
        } else if let Some(entity) = self.entities.get_mut(id) {
            entity.referenced = true;
            self.context.counters.large_hits += u64::from(entity.place.is_large());
            Reach::Ready
        } else if self.loading.contains_key(&id) {
            Reach::Loading
        } else if self.context.log.index().get(id).is_some() {
            if planted!("evicted-taken-for-empty") {
                return Reach::Absent;
            }
            if self.load(id) { Reach::Loading } else { Reach::Ready }
        } else {
            // Neither in memory nor, by the index's word, on disk: truly empty. An entity leaves
            // memory only when all its records are durable, and so indexed.
            Reach::Absent
        }
    }

    /// Runs `action` on an entity in memory, and keeps the shard's sums right.
    fn with_entity(&mut self, id: EntityId, action: impl FnOnce(&mut Entity<M>, &mut Context)) {
        let entity = self.entities.get_mut(id).expect("called for an entity in memory");
        let before = u64::from(entity.key_count());
        action(entity, &mut self.context);
        self.keys = self.keys - before + u64::from(entity.key_count());
        let applied = entity.applied();
        let is_behind = entity.is_behind() && entity.learns();
        self.entities.recount(id);
        self.checkpoint_healed(id);
        if let Some(following) = &mut self.following {
            following.note_lag(id, is_behind);
        }
        let has_reached_floor = !self.context.floors.is_empty() && self.reach_floor(id, applied);
        let is_below_floor = self.context.floors.contains_key(&id);
        if !is_behind && !is_below_floor && self.catching_up.caught_up(id) {
            self.continue_catch_ups();
        }
        if has_reached_floor {
            self.continue_rejoining();
        }
    }
}

fn is_command(request: &EntityRequest) -> bool {
    matches!(request, EntityRequest::Command(_))
}

/// Where an entity is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reach {
    /// In memory.
    Ready,
    /// On its way from the log.
    Loading,
    /// Never written here.
    Absent,
    /// Promises of it may be lost: see [`abstaining`].
    Abstaining,
}
