//! One core's turn.
//!
//! ```text
//! submit, wait ─▶ completions ─▶ mesh ─▶ timers ─▶ log write ─▶ log reads ─▶ messages ─▶ replies ─┐
//!       ▲                                             │ submitted at once                         │
//!       └─────────────────────────────────────────────┴──────────────────────────────────────────┘
//! ```
//!
//! The log write is submitted before messages are encoded, because the disk is what everybody waits
//! for. Everything else a turn produces is submitted by the system call in which the next turn
//! waits. Under load that call finds completions and does not wait, so turns grow and the cost of
//! each system call, log write, frame and send is shared by more requests.

use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::membership::DECIDING_CORE;
use engine::request::Ticket;
use engine::session::{NodeFacts, NodeInfo, NodeQuery, Order, render_dbsize, render_info};
use engine::shard::StringShard;
use engine::time::Time;
use net::resp::value::Value;
use plog::vocabulary::BootEpoch;
use serde_json::json;

use crate::core_setup::CoreSetup;
use crate::mesh::MeshEnd;
use crate::mesh::message::MeshMessage;
use crate::node::known_incarnations::KnownIncarnations;
use crate::node::known_membership::KnownMembership;
use crate::node::log_line;
use crate::reactor::clients::client_table::{AskedOfNode, ClientTable, Stages};
use crate::reactor::clients::ticket;
use crate::reactor::clock;
use crate::reactor::events::{Known, handle_event};
use crate::reactor::fatal_reason::FatalReason;
use crate::reactor::file_driver::FileDriver;
use crate::reactor::member_orders::{OrderedNode, configuration_json};
use crate::reactor::memory_watch::MemoryWatch;
use crate::reactor::metrics::{Metrics, record};
use crate::reactor::node_shared::{CoreCounters, NodeShared};
use crate::reactor::peers::peer_table::{PeerTable, PeerTableSetup};
use crate::reactor::plog_driver::{PlogDriver, Reserve};
use crate::reactor::rejoin_watch::RejoinWatch;
use crate::reactor::ring::{Completion, Ring};
use crate::reactor::router::Router;
use crate::reactor::shard_json::shard_json;
use crate::reactor::slab::Key;
use crate::reactor::status_gather::{Gathered, StatusGather, Wanted};
use crate::reactor::user_data::Kind;

/// How long each stage of stopping may take, in microseconds.
const STOP_PATIENCE_US: u64 = 3_000_000;

/// How long a core sleeps at most while it waits for a spare segment or a slow stage of stopping,
/// which come without a completion.
const SHORT_SLEEP: Duration = Duration::from_millis(5);

/// How often gauges that cost something are published, in microseconds.
const PUBLISH_US: u64 = 1_000_000;

/// The owner of the doorbell's operation.
const NOBODY: Key = Key { index: 0, generation: 0 };

/// Why a core cannot start.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The kernel makes no ring.
    #[error(
        "core {core} gets no io_uring: {error}; see the preflight checks for what it needs (kernel \
         6.1 or newer, kernel.io_uring_disabled = 0, no seccomp filter against it, enough memlock)"
    )]
    Ring {
        /// The core.
        core: u16,
        /// Why.
        error: io::Error,
    },
}

/// What a turn came to.
#[derive(Debug)]
pub enum Turn {
    /// Something was done; more may be there already.
    Busy,
    /// Nothing happened within the time given.
    Idle,
    /// The core stopped as it was told to. It must not be turned again.
    Stopped,
    /// The core cannot go on. It must not be turned again.
    Fatal(FatalReason),
}

/// How far a core's life is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    Running,
    /// Clients get their answers, until the given time.
    Draining {
        until: Time,
    },
    /// All cores' clients were answered here; the others' still may not be, until the given time.
    Drained {
        until: Time,
    },
    /// What is still in memory goes to the log, until the given time.
    Flushing {
        until: Time,
    },
    Stopped,
}

/// Everything that one core is.
#[derive(Debug)]
pub struct Core {
    // The ring is dropped last: it waits until the kernel is done with what the others own.
    clients: ClientTable,
    peers: PeerTable,
    plog: PlogDriver,
    files: FileDriver,
    shard: StringShard,
    mesh: MeshEnd,
    gather: StatusGather,
    metrics: Metrics,
    node_info: Rc<NodeInfo>,
    shared: Arc<NodeShared>,
    core: u16,
    core_count: u16,
    node_id: u8,
    replicas: u8,
    started: Time,
    life: Life,
    /// Whether this turn left work for the next one that no completion announces.
    has_more: bool,
    asked: Vec<AskedOfNode>,
    completions: Vec<Completion>,
    next_publish: Time,
    memory_watch: MemoryWatch,
    requests_published: u64,
    epoch: BootEpoch,
    rejoin_watch: RejoinWatch,
    known_incarnations: Arc<KnownIncarnations>,
    /// Who the members are, where they change.
    membership: Option<Arc<KnownMembership>>,
    /// As it was when the shard was told last.
    membership_changes: u64,
    /// The version of which core 0 was told that the node settled it.
    settled_told: Option<u32>,
    /// As they were when the shard was told last.
    generation_changes: u64,
    ring: Ring,
}

impl Core {
    /// Takes over the calling thread's share: accepts, dials, and is ready for its first turn.
    ///
    /// # Errors
    ///
    /// When the kernel gives it no ring.
    pub fn new(setup: CoreSetup) -> Result<Self, CoreError> {
        let (core, core_count) = (setup.core, setup.core_count);
        assert_eq!(setup.mesh.core(), core, "each core has its own end of the mesh");
        assert_eq!(setup.mesh.core_count(), core_count, "the mesh is the node's");
        let mut ring = Ring::new().map_err(|error| CoreError::Ring { core, error })?;
        let mut clients = ClientTable::new(
            core,
            core_count,
            setup.limits,
            Rc::clone(&setup.node_info),
            setup.client_listeners,
        );
        let mut peers = PeerTable::new(PeerTableSetup {
            core,
            core_count,
            identity: setup.identity,
            peers: setup.peers,
            listener: setup.peer_listener,
            limits: setup.limits,
            known_incarnations: Arc::clone(&setup.known_incarnations),
            shared: Arc::clone(&setup.shared),
        });
        let memory_watch = MemoryWatch::new(setup.shard_config.memory_bytes_max, core, core_count);
        clients.start(&mut ring);
        peers.start(&mut ring);
        if core_count > 1 {
            ring.wait_for_doorbell(NOBODY, setup.mesh.doorbell());
        }
        Ok(Self {
            clients,
            peers,
            plog: PlogDriver::new(setup.log_files, setup.slow_operation_us),
            files: FileDriver::new(setup.file_worker, setup.disk_reserve),
            shard: setup.shard,
            mesh: setup.mesh,
            gather: StatusGather::default(),
            metrics: Metrics::default(),
            node_info: setup.node_info,
            shared: setup.shared,
            core,
            core_count,
            node_id: setup.identity.node_id,
            replicas: setup.identity.replicas,
            started: clock::now(),
            life: Life::Running,
            has_more: true,
            asked: Vec::new(),
            completions: Vec::new(),
            next_publish: Time(0),
            memory_watch,
            requests_published: 0,
            epoch: BootEpoch(setup.identity.boot_epoch),
            rejoin_watch: RejoinWatch::default(),
            generation_changes: setup.known_incarnations.changes(),
            known_incarnations: setup.known_incarnations,
            // It may have changed since the shard was told.
            membership_changes: u64::MAX,
            membership: setup.membership,
            settled_told: None,
            ring,
        })
    }

    /// Does what there is to do, after waiting for something for at most `wait_max`.
    pub fn turn(&mut self, wait_max: Duration) -> Turn {
        match self.try_turn(wait_max) {
            Ok(turn) => turn,
            Err(reason) => Turn::Fatal(reason),
        }
    }

    fn try_turn(&mut self, wait_max: Duration) -> Result<Turn, FatalReason> {
        if self.life == Life::Stopped {
            return Ok(Turn::Stopped);
        }
        self.wait(wait_max)?;
        let now = clock::now();
        self.has_more = false;
        self.learn_generations(now);
        self.learn_membership(now);
        let completed = self.handle_completions(now)?;
        let crossed = self.core_count > 1 && self.drain_mesh(now);
        let ticked = self.handle_timers(now);
        let replied = self.carry_out(now)?;
        self.advance_life(now);
        let busy = completed > 0 || crossed || ticked || replied || self.has_more;
        self.metrics.counters.turns += 1;
        if busy {
            let end = clock::now();
            record(&mut self.metrics.turn_us, end.since_us(now));
            record(&mut self.metrics.turn_completions, completed);
            self.publish_each_turn(end);
        }
        Ok(match self.life {
            Life::Stopped => Turn::Stopped,
            _ if busy => Turn::Busy,
            _ => Turn::Idle,
        })
    }

    /// Submits what the last turn queued, and sleeps until something comes.
    fn wait(&mut self, wait_max: Duration) -> Result<(), FatalReason> {
        let mut wait = wait_max;
        if self.has_more {
            wait = Duration::ZERO;
        } else {
            let now = clock::now();
            let due = [self.shard.poll_timeout(), Some(self.peers.next_tick())];
            if let Some(due) = due.into_iter().flatten().min() {
                wait = wait.min(Duration::from_micros(due.since_us(now)));
            }
            if self.plog.awaits_spare()
                || self.files.must_look_again()
                || self.life != Life::Running
            {
                wait = wait.min(SHORT_SLEEP);
            }
        }
        let sleeps = self.core_count > 1 && !wait.is_zero();
        if sleeps && !self.mesh.prepare_sleep() {
            return self.ring.enter(Duration::ZERO).map_err(|error| FatalReason::Ring { error });
        }
        let entered = self.ring.enter(wait);
        if sleeps {
            self.mesh.wake();
        }
        entered.map_err(|error| FatalReason::Ring { error })
    }

    fn handle_completions(&mut self, now: Time) -> Result<u64, FatalReason> {
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.reap(&mut completions);
        let count = u64::try_from(completions.len()).expect("a count fits 64 bits");
        for completion in completions.drain(..) {
            self.handle_completion(now, completion)?;
        }
        self.completions = completions;
        Ok(count)
    }

    fn handle_completion(&mut self, now: Time, completion: Completion) -> Result<(), FatalReason> {
        let Self { ring, shard, metrics, peers, clients, plog, files, mesh, .. } = self;
        let counters = &mut metrics.counters;
        match completion.kind {
            Kind::ClientReceive => {
                let log_is_writing = plog.is_writing();
                let mut router = Router { now, shard, mesh, metrics, log_is_writing };
                clients.handle_received(completion, ring, &mut router);
            }
            Kind::ClientSend => clients.handle_sent(completion, ring, counters),
            Kind::InboundReceive => {
                peers.handle_inbound_received(now, completion, ring, shard, counters);
            }
            Kind::OutboundSend => peers.handle_link_sent(now, completion, ring, counters),
            Kind::LogWrite => {
                if let Some(segment) = plog.handle_written(now, completion, shard, metrics)? {
                    files.note_reached(segment);
                }
            }
            Kind::LogRead => plog.handle_read(now, completion, shard, ring, metrics)?,
            Kind::ClientAccept => {
                clients.handle_accept(&completion, now, ring, counters);
            }
            Kind::PeerAccept => peers.handle_accept(now, &completion, ring),
            Kind::InboundSend => peers.handle_inbound_sent(now, &completion, shard),
            Kind::OutboundConnect => peers.handle_connected(now, &completion, ring),
            Kind::OutboundReceive => peers.handle_link_received(now, completion, ring),
            Kind::Doorbell => ring.wait_for_doorbell(NOBODY, mesh.doorbell()),
            Kind::CheckpointWrite => files.handle_written(now, completion, shard, metrics)?,
            Kind::Cancel => unreachable!("the ring keeps these to itself"),
        }
        Ok(())
    }

    /// Takes what other cores sent. Whether there was anything.
    fn drain_mesh(&mut self, now: Time) -> bool {
        let mut crossed = false;
        for from in 0..self.core_count {
            while let Some(message) = self.mesh.receive(from) {
                crossed = true;
                match message {
                    MeshMessage::Request { ticket, entity, request, sent_us } => {
                        record(&mut self.metrics.mesh_us, now.0.saturating_sub(sent_us));
                        self.shard.handle_request(now, ticket, entity, request);
                    }
                    MeshMessage::Reply { ticket, encoded } => {
                        let mut stages = Stages {
                            write_us: &mut self.metrics.write_us,
                            read_us: &mut self.metrics.read_us,
                        };
                        self.clients.handle_encoded_reply(ticket, &encoded, now.0, &mut stages);
                    }
                    MeshMessage::StatusWanted { gather } => {
                        let json = self.status_json().to_string();
                        self.mesh.send_answer(from, MeshMessage::Status { gather, json });
                    }
                    MeshMessage::Order { gather, order } => {
                        let json = self.obey(order).to_string();
                        self.mesh.send_answer(from, MeshMessage::Status { gather, json });
                    }
                    MeshMessage::Status { gather, json } => {
                        let part = serde_json::from_str(&json).unwrap_or_default();
                        self.gathered(now, gather, from, part);
                    }
                }
            }
        }
        crossed
    }

    fn handle_timers(&mut self, now: Time) -> bool {
        let mut ticked = false;
        if self.shard.poll_timeout().is_some_and(|due| due <= now) {
            self.shard.handle_tick(now);
            ticked = true;
        }
        if let Some(limit) = self.memory_watch.look(now, &self.shared, resident_bytes) {
            self.shard.set_memory_limit(limit);
        }
        let reserve_given_back = self.files.reserve().is_given_back();
        let has_reserve = if reserve_given_back { Reserve::GivenBack } else { Reserve::Whole };
        self.plog.tend_spares(now, has_reserve, &mut self.shard, &mut self.metrics);
        if self.peers.next_tick() <= now {
            self.plog.watch_write(now);
            let counters = &mut self.metrics.counters;
            self.peers.handle_tick(now, &mut self.ring, &mut self.shard);
            self.clients.handle_tick(now.0, &mut self.ring, counters);
            if self.next_publish <= now {
                self.publish_each_second(now);
            }
        }
        ticked
    }

    /// Everything the shard asks for. Whether it answered anything.
    fn carry_out(&mut self, now: Time) -> Result<bool, FatalReason> {
        self.plog.note_pending(now, &self.shard);
        if self.plog.start_write(now, &mut self.shard, &mut self.ring, &mut self.metrics)? {
            self.ring.submit().map_err(|error| FatalReason::Ring { error })?;
        }
        if self.life == Life::Running {
            let Self { ring, shard, metrics, plog, files, .. } = self;
            files.turn(now, shard, plog.files_mut(), ring, metrics)?;
        }
        self.plog.start_reads(now, &mut self.shard, &mut self.ring)?;
        self.handle_events()?;
        self.send_messages(now);
        let replied = self.send_replies();
        self.answer_node_queries(now);
        let Self { ring, shard, metrics, clients, mesh, .. } = self;
        let log_is_writing = self.plog.is_writing();
        let mut router = Router { now, shard, mesh, metrics, log_is_writing };
        self.has_more |= clients.finish_turn(ring, &mut router);
        if self.core_count > 1 {
            self.mesh.ring_doorbells();
        }
        Ok(replied)
    }

    fn send_messages(&mut self, now: Time) {
        let counters = &mut self.metrics.counters;
        while let Some(outgoing) = self.shard.poll_message() {
            self.peers.send(outgoing, counters);
        }
        self.has_more |= self.peers.finish_turn(now, &mut self.ring, &mut self.shard, counters);
    }

    fn send_replies(&mut self) -> bool {
        let Some(mut reply) = self.shard.poll_reply() else { return false };
        let now_us = clock::now().0;
        let mut stages =
            Stages { write_us: &mut self.metrics.write_us, read_us: &mut self.metrics.read_us };
        loop {
            let asker = reply.ticket.core;
            if asker == self.core {
                self.clients.handle_reply(reply.ticket, &reply.value, now_us, &mut stages);
            } else {
                // Values may share memory with this core's state: what crosses is the bytes.
                let mut encoded = Vec::new();
                reply.value.encode(ticket::protocol(reply.ticket), &mut encoded);
                let ticket = reply.ticket;
                self.mesh.send_answer(asker, MeshMessage::Reply { ticket, encoded });
            }
            match self.shard.poll_reply() {
                Some(next) => reply = next,
                None => return true,
            }
        }
    }

    fn answer_node_queries(&mut self, now: Time) {
        let mut asked = std::mem::take(&mut self.asked);
        self.clients.take_asked(&mut asked);
        let mut later = Vec::new();
        for AskedOfNode { ticket, query } in asked.drain(..) {
            let value = match &query {
                NodeQuery::DbSize => render_dbsize(&self.facts(now)),
                NodeQuery::Info { sections } => {
                    render_info(&self.node_info, &self.facts(now), sections)
                }
                NodeQuery::Status => {
                    if !self.ask_all_cores(now, ticket, Wanted::Status) {
                        later.push(AskedOfNode { ticket, query });
                    }
                    continue;
                }
                NodeQuery::Order(order) => {
                    if !self.ask_all_cores(now, ticket, Wanted::Order(*order)) {
                        later.push(AskedOfNode { ticket, query });
                    }
                    continue;
                }
            };
            self.answer(now, ticket, &value);
        }
        self.asked = later;
    }

    /// Asks every core of the node. False, and nothing is asked, when one of them owes too many
    /// answers already.
    fn ask_all_cores(&mut self, now: Time, ticket: Ticket, wanted: Wanted) -> bool {
        let others = (0..self.core_count).filter(|core| *core != self.core);
        if !others.clone().all(|core| self.mesh.has_credit(core)) {
            return false;
        }
        let gather = self.gather.ask(ticket, wanted, self.core_count);
        for core in others {
            self.mesh.send_request(
                core,
                match wanted {
                    Wanted::Status => MeshMessage::StatusWanted { gather },
                    Wanted::Order(order) => MeshMessage::Order { gather, order },
                },
            );
        }
        let own = match wanted {
            Wanted::Status => self.status_json(),
            Wanted::Order(order) => self.obey(order),
        };
        self.gathered(now, gather, self.core, own);
        true
    }

    /// Does what an operator wants of this core. What came of it.
    fn obey(&mut self, order: Order) -> serde_json::Value {
        self.has_more = true;
        match order {
            Order::Checkpoint => {
                return match self.shard.request_checkpoint() {
                    Ok(checkpoint) => json!({ "core": self.core, "checkpoint": checkpoint.0 }),
                    Err(reason) => json!({ "core": self.core, "none": reason.to_string() }),
                };
            }
            Order::PauseCleaner => {
                log_line::warn(
                    "the cleaner is paused: no segment is freed until it is resumed",
                    &[],
                );
                self.shard.pause_cleaner();
            }
            Order::ResumeCleaner => {
                log_line::info("the cleaner is resumed", &[]);
                self.shard.resume_cleaner();
            }
            Order::ShowCleaner => {}
            Order::Member(order) => {
                let node = OrderedNode {
                    core: self.core,
                    node_id: self.node_id,
                    slots: self.replicas,
                    shared: &self.shared,
                };
                return node.obey(clock::now(), &mut self.shard, order);
            }
            Order::SetCatchUpRates(changes) => {
                let rates = changes.apply(self.shard.catch_up_rates(), self.core_count);
                self.shard.set_catch_up_rates(rates);
                let mut config = self.node_info.config.borrow_mut();
                for (name, rate) in changes.settings() {
                    log_line::info(
                        "a setting was changed, until the node starts again",
                        &[("setting", &name), ("value", &rate)],
                    );
                    config.insert(name.to_owned(), rate.to_string());
                }
                return json!({ "core": self.core });
            }
        }
        let status = self.shard.status();
        json!({
            "core": self.core,
            "paused": status.cleaner_paused == 1,
            "segments": status.segments,
            "segments_max": status.segments_max,
            "segments_freeable": status.segments_freeable,
            "segments_freed": status.counters.segments_freed,
            "near_limit": status.log_near_limit == 1,
            "full": status.log_full == 1,
            "abstains": status.abstaining_cores == 1,
        })
    }

    fn gathered(&mut self, now: Time, gather: u64, core: u16, part: serde_json::Value) {
        let Some(gathered) = self.gather.answer(gather, core, part) else { return };
        let Gathered { ticket, wanted, parts: cores } = gathered;
        if let Wanted::Order(Order::SetCatchUpRates(_)) = wanted {
            self.answer(now, ticket, &Value::OK);
            return;
        }
        if wanted != Wanted::Status {
            let document = json!({
                "node_id": self.node_id,
                "boot_epoch": self.node_info.boot_epoch,
                "cores": cores,
            });
            self.answer(now, ticket, &Value::Bulk(document.to_string().into()));
            return;
        }
        let live: Vec<u8> =
            self.facts(now).live.into_iter().filter(|(_, live)| *live).map(|(id, _)| id).collect();
        let document = json!({
            "node_id": self.node_id,
            "replicas": self.replicas,
            "boot_epoch": self.node_info.boot_epoch,
            "generation": self.epoch.generation().0,
            "version": self.node_info.certus_version,
            "uptime_s": now.since_us(self.started) / 1_000_000,
            "live": live,
            "membership": self.shared.configuration().map(|present| configuration_json(&present)),
            "cores": cores,
        });
        self.answer(now, ticket, &Value::Bulk(document.to_string().into()));
    }

    fn answer(&mut self, now: Time, ticket: Ticket, value: &Value) {
        let mut stages =
            Stages { write_us: &mut self.metrics.write_us, read_us: &mut self.metrics.read_us };
        self.clients.handle_reply(ticket, value, now.0, &mut stages);
    }

    fn facts(&self, now: Time) -> NodeFacts {
        let shared = &self.shared;
        NodeFacts {
            uptime_s: now.since_us(self.started) / 1_000_000,
            connected_clients: shared.sum(|core| &core.connections),
            connections_received: shared.sum(|core| &core.accepted),
            connections_rejected: shared.sum(|core| &core.refused),
            commands_processed: shared.sum(|core| &core.commands),
            commands_per_s: shared.sum(|core| &core.commands_per_s),
            input_bytes: shared.sum(|core| &core.bytes_in),
            output_bytes: shared.sum(|core| &core.bytes_out),
            keys: shared.sum(|core| &core.keys),
            entities: shared.sum(|core| &core.entities),
            entities_in_memory: shared.sum(|core| &core.entities_in_memory),
            state_bytes: shared.sum(|core| &core.state_bytes),
            index_bytes: shared.sum(|core| &core.index_bytes),
            accounted_bytes: shared.sum(|core| &core.accounted_bytes),
            memory_limit: shared.memory_budget.load(Ordering::Relaxed),
            resident_bytes: resident_bytes(),
            log_bytes: shared.sum(|core| &core.log_bytes),
            abstaining_cores: shared.sum(|core| &core.abstaining),
            rejoining_cores: shared.sum(|core| &core.rejoining),
            generation: self.epoch.generation().0,
            cleaner_paused_cores: shared.sum(|core| &core.cleaner_paused),
            log_full_cores: shared.sum(|core| &core.log_full),
            loading: false,
            follower_cores: shared.sum(|core| &core.followers),
            follows: self.shard.following().and_then(|status| status.replica).map(|of| of.0),
            staleness_us: self.staleness_us(now),
            live: (0..self.replicas)
                .map(|node_id| (node_id, node_id == self.node_id || shared.is_live(node_id)))
                .collect(),
        }
    }

    /// How long ago the core of this node that lags most was in step with a replica.
    fn staleness_us(&self, now: Time) -> Option<u64> {
        self.shard.following()?;
        let in_step = |core: &CoreCounters| core.in_step_us.load(Ordering::Relaxed);
        let oldest = self.shared.cores.iter().map(in_step).min().unwrap_or_default();
        (oldest > 0).then(|| now.since_us(Time(oldest)))
    }

    fn publish_each_turn(&self, now: Time) {
        let published = &self.shared.cores[usize::from(self.core)];
        let counters = &self.metrics.counters;
        let count = |count: usize| u64::try_from(count).expect("a count fits 64 bits");
        published.keys.store(self.shard.key_count(), Ordering::Relaxed);
        published.connections.store(count(self.clients.len()), Ordering::Relaxed);
        published.accepted.store(counters.accepted, Ordering::Relaxed);
        published.refused.store(counters.refused_connections, Ordering::Relaxed);
        published.commands.store(counters.requests, Ordering::Relaxed);
        published.bytes_in.store(counters.client_bytes_in, Ordering::Relaxed);
        published.bytes_out.store(counters.client_bytes_out, Ordering::Relaxed);
        if let Some(status) = self.shard.following() {
            let in_step_us = status.in_step_at.map_or(0, |at| at.0);
            published.in_step_us.store(in_step_us, Ordering::Relaxed);
        }
        published.last_turn_us.store(now.0, Ordering::Relaxed);
    }

    fn publish_each_second(&mut self, now: Time) {
        self.next_publish = now.after_us(PUBLISH_US);
        self.publish_each_turn(now);
        let status = self.shard.status();
        self.rejoin_watch.look(now, &status);
        let published = &self.shared.cores[usize::from(self.core)];
        published.followers.store(status.followers, Ordering::Relaxed);
        published.entities.store(status.entities_on_disk, Ordering::Relaxed);
        published.entities_in_memory.store(status.entities_in_memory, Ordering::Relaxed);
        published.state_bytes.store(status.state_bytes, Ordering::Relaxed);
        published.index_bytes.store(status.index_bytes, Ordering::Relaxed);
        published.accounted_bytes.store(status.accounted_bytes, Ordering::Relaxed);
        published.abstaining.store(status.abstaining_cores, Ordering::Relaxed);
        published.rejoining.store(status.rejoining_cores, Ordering::Relaxed);
        published.cleaner_paused.store(status.cleaner_paused, Ordering::Relaxed);
        published.log_full.store(status.log_full, Ordering::Relaxed);
        published.log_bytes.store(self.log_file_bytes(), Ordering::Relaxed);
        let requests = self.metrics.counters.requests;
        published.commands_per_s.store(requests - self.requests_published, Ordering::Relaxed);
        self.requests_published = requests;
    }

    /// Size of all segment files: they all have the size of the newest.
    fn log_file_bytes(&self) -> u64 {
        let files = self.plog.files();
        let newest = files
            .newest()
            .and_then(|segment| files.segment(segment)?.try_clone_to_owned().ok())
            .and_then(|file| File::from(file).metadata().ok());
        let count = u64::try_from(files.count()).expect("a count fits 64 bits");
        newest.map_or(0, |newest| newest.len() * count)
    }

    fn handle_events(&mut self) -> Result<(), FatalReason> {
        while let Some(event) = self.shard.poll_event() {
            let known = Known {
                incarnations: &self.known_incarnations,
                membership: self.membership.as_deref(),
                counters: &self.shared.cores[usize::from(self.core)],
                node_id: self.node_id,
            };
            handle_event(&event, self.epoch, &known, &mut self.files)?;
        }
        Ok(())
    }

    /// Tells the shard what other cores learned of the generations of peers.
    fn learn_generations(&mut self, now: Time) {
        let changes = self.known_incarnations.changes();
        if changes != self.generation_changes {
            self.generation_changes = changes;
            self.peers.learn_generations(now, &mut self.ring, &mut self.shard);
        }
    }

    /// Tells the shard what other cores learned of the membership.
    fn learn_membership(&mut self, now: Time) {
        let Some(membership) = &self.membership else { return };
        let changes = membership.changes();
        if changes != self.membership_changes {
            self.membership_changes = changes;
            let configuration = membership.facts().configuration;
            self.shard.handle_configuration(now, configuration);
            self.shared.goes_by(&configuration);
        }
        let version = self.shard.configuration().version;
        if self.core == DECIDING_CORE
            && self.settled_told != Some(version)
            && self.shared.has_settled(version)
        {
            self.settled_told = Some(version);
            self.shard.handle_node_settled(now, version);
        }
    }

    fn advance_life(&mut self, now: Time) {
        let until = now.after_us(STOP_PATIENCE_US);
        match self.life {
            Life::Running => {
                if self.shared.is_stopping() {
                    log_line::info(
                        "stopping: answering what was asked",
                        &[("connections", &self.clients.len())],
                    );
                    self.clients.stop(&mut self.ring);
                    self.life = Life::Draining { until };
                    self.has_more = true;
                }
            }
            Life::Draining { until: end } => {
                if self.clients.is_empty() || end <= now {
                    if !self.clients.is_empty() {
                        log_line::warn(
                            "stopping: some clients were not answered in time",
                            &[("connections", &self.clients.len())],
                        );
                        self.clients.close_all();
                        self.has_more = true;
                    }
                    self.shared.cores_drained.fetch_add(1, Ordering::AcqRel);
                    self.life = Life::Drained { until: end };
                }
            }
            Life::Drained { until: end } => {
                let drained = self.shared.cores_drained.load(Ordering::Acquire);
                if drained >= self.core_count || end <= now {
                    self.life = Life::Flushing { until };
                    self.has_more = true;
                }
            }
            Life::Flushing { until: end } => {
                self.shard.flush();
                let flushed = self.shard.log().pending_bytes() == 0 && !self.plog.is_writing();
                if flushed || end <= now {
                    if !flushed {
                        log_line::warn(
                            "stopping: not all lazy records reached the log; nothing acknowledged \
                             is in them",
                            &[("bytes", &self.shard.log().pending_bytes())],
                        );
                    }
                    self.peers.stop(now, &mut self.ring, &mut self.shard);
                    log_line::info("core stopped", &[]);
                    self.life = Life::Stopped;
                } else {
                    self.has_more = !self.plog.is_writing();
                }
            }
            Life::Stopped => {}
        }
    }

    /// What this core did and does: counters, gauges, and where a request's time goes.
    #[must_use]
    pub fn status_json(&self) -> serde_json::Value {
        let now = clock::now();
        let following = self.shard.following().map(|status| {
            json!({
                "replica": status.replica.map(|replica| replica.0),
                "staleness_us": status.in_step_at.map(|at| now.since_us(at)),
                "lagging": status.lagging,
            })
        });
        let ring = self.ring.counters();
        let log = self.shard.log().counters();
        json!({
            "core": self.core,
            "connections": self.clients.len(),
            "shard": shard_json(&self.shard.status()),
            "abstains": self.shard.abstention().map(|abstention| abstention.to_string()),
            "following": following,
            "rejoins": self.shard.rejoins().map(|cause| cause.to_string()),
            "generations": self.shard.known_generations().map(|known| known.0)
                [..usize::from(self.replicas)],
            "log": {
                "frames": log.frames,
                "records": log.records,
                "payload_bytes": log.payload_bytes,
                "bytes": log.bytes,
                "segments_opened": log.segments_opened,
                "flushes": log.flushes,
                "segments": self.plog.files().count(),
                "reads_in_flight": self.plog.reads_in_flight(),
            },
            "disk_reserve": {
                "bytes": self.files.reserve().bytes(),
                "given_back": u64::from(self.files.reserve().is_given_back()),
                "times_given_back": self.files.reserve().times_given_back(),
                "checkpoint_waits_for_room": u64::from(self.files.waits_for_room()),
            },
            "ring": {
                "enters": ring.enters,
                "submitted": ring.submitted,
                "completed": ring.completed,
                "in_flight": self.ring.in_flight(),
            },
            "peers": self.peers.json(),
            "metrics": self.metrics.json(),
        })
    }
}

/// Memory of the process as the system counts it, in bytes; 0 when it does not say.
fn resident_bytes() -> u64 {
    // Fields of this file are in pages; the second is what is resident.
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages: u64 = text.split(' ').nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
    // SAFETY: asks for a constant of the system.
    let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page_size).unwrap_or(0)
}
