//! A cluster in one thread: nodes, network, disks, clocks, and who watches them.
//!
//! Everything that happens is an event at a time of the world, in microseconds. A step takes the
//! next one, hands it to the shard it is for, does what the shard wants done, and shows all of it
//! to the [`Checkers`]. The first violation ends the run.

use std::collections::BTreeMap;

use engine::abstention::Abstention;
use engine::config::ShardConfig;
use engine::context::Event as ShardEvent;
use engine::request::{
    ChangesQuestion, Command, CoreQuestion, EntityRequest, Freshness, Reply, Ticket,
};
use engine::shard::{PLogRead, PeerCore, StringShard};
use engine::status::Counters;
use engine::tail::Question;
use net::peer::message::PeerMessage;
use net::resp::arguments::Arguments;
use net::resp::slot::{entity_of, shard_of};
use net::resp::value::Value;
use plog::checkpoint::pointer::Pointer;
use plog::configuration::Configuration;
use plog::index::EntityIndex;
use plog::segment::{SegmentId, SpareId};
use plog::vocabulary::{AcceptorId, BootEpoch, EntityId, Entry, Generation};

use crate::checkers::{Boot, Checkers, Violation};
use crate::coverage::Coverage;
use crate::faults::Faults;
use crate::random::Random;
use crate::trace::{Trace, What};
use crate::world::clock::Clock;
use crate::world::event_queue::EventQueue;
use crate::world::followers::FollowerWatch;
use crate::world::link::Link;
use crate::world::node::{Core, Node};

pub use crate::world::link::Transport;

pub mod clock;
mod event_queue;
mod events;
mod files;
mod followers;
mod link;
mod membership;
mod mirrors;
mod network;
mod node;
mod operator;
mod registration;

/// Names a core of a node.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CoreId {
    /// The node.
    pub node: u8,
    /// Its core.
    pub core: u16,
}

impl CoreId {
    fn peer(self) -> PeerCore {
        PeerCore { acceptor: AcceptorId(self.node), core: self.core }
    }
}

/// Which messages are kept back: by sender, receiver and content.
pub type HoldRule = dyn Fn(CoreId, CoreId, &PeerMessage) -> bool;

/// The rule in force.
struct Hold(Box<HoldRule>);

impl std::fmt::Debug for Hold {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Hold")
    }
}

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// Everything that happens by chance follows from it.
    pub seed: u64,
    /// How many cores each node has; as many nodes as numbers.
    pub cores: Vec<u16>,
    /// How many cores each follower has; as many followers as numbers.
    pub followers: Vec<u16>,
    /// What goes wrong by itself.
    pub faults: Faults,
    /// How frames travel.
    pub transport: Transport,
    /// Changes the shards' configuration.
    pub configure: fn(&mut ShardConfig),
    /// Bytes of a segment.
    pub segment_size: u32,
    /// Bytes at which a frame is closed; `None`: a quarter of a segment.
    pub frame_size_max: Option<u32>,
    /// Segments that a log may have.
    pub segments_max: usize,
    /// Whether new segments are old files that hold their frames still.
    pub recycles: bool,
    /// How fast or slow a clock may be, in parts of a million.
    pub drift_ppm_max: u32,
    /// Whether a mirror follows the log of each core.
    pub mirrors: bool,
    /// How replicas find out what they lack; `None`: as the configuration has it.
    pub lagging: Option<Lagging>,
    /// How many nodes vote at first, where that changes; `None`: all, for ever.
    pub membership: Option<u8>,
}

/// How replicas find out what they lack.
#[derive(Clone, Copy, Debug)]
pub struct Lagging {
    /// How often all is compared, in microseconds; 0: only when nobody knows who lags.
    pub digest_every_us: u64,
    /// Entities that advanced lately of which a shard remembers it; 0: it never knows who lags.
    pub entities_max: usize,
}

impl WorldConfig {
    /// Nodes with so many cores each, as many as numbers, with which nothing goes wrong by itself.
    #[must_use]
    pub fn calm(seed: u64, cores: &[u16]) -> Self {
        Self {
            seed,
            cores: cores.to_vec(),
            followers: Vec::new(),
            faults: Faults::NONE,
            transport: Transport::Datagrams,
            configure: |_| {},
            segment_size: 256 << 10,
            frame_size_max: None,
            segments_max: usize::MAX,
            recycles: false,
            drift_ppm_max: 0,
            mirrors: false,
            lagging: None,
            membership: None,
        }
    }
}

/// Something that will happen.
#[derive(Debug)]
enum Event {
    /// Bytes arrive. They are void if the connection is another by then.
    Frame {
        from: CoreId,
        to: CoreId,
        sender: Generation,
        generation: u32,
        bytes: Vec<u8>,
    },
    Written {
        to: CoreId,
        start: u32,
        failed: bool,
    },
    Read {
        to: CoreId,
        start: u32,
        read: PLogRead,
    },
    PartWritten {
        to: CoreId,
        start: u32,
    },
    Adopted {
        to: CoreId,
        start: u32,
        pointer: Pointer,
    },
    Freed {
        to: CoreId,
        start: u32,
        segment: SegmentId,
        becomes: Option<SpareId>,
    },
    /// The shard's timeout, as it was when this was scheduled.
    Tick {
        to: CoreId,
        start: u32,
        at: u64,
    },
    /// A node with new disks asks another to register it.
    Register {
        node: CoreId,
        to: u8,
        start: u32,
    },
    /// A live mirror looks at its log.
    Mirror {
        to: CoreId,
    },
    Dial {
        from: CoreId,
        to: CoreId,
        generation: u32,
    },
    /// A connection on which nothing has arrived for long is given up.
    Silence {
        from: CoreId,
        to: CoreId,
        generation: u32,
    },
}

/// The streams of chance, one for each class of faults.
#[derive(Debug)]
struct Chances {
    /// For whoever drives the world.
    driver: Random,
    delay: Random,
    loss: Random,
    duplication: Random,
    corruption: Random,
    straggler: Random,
    split: Random,
    disk: Random,
    tear: Random,
    errors: Random,
    files: Random,
    mirrors: Random,
    strays: Random,
}

/// See the module page.
#[derive(Debug)]
pub struct World {
    now: u64,
    config: WorldConfig,
    chances: Chances,
    nodes: Vec<Node>,
    links: BTreeMap<(CoreId, CoreId), Link>,
    events: EventQueue,
    /// Whom each command was given to, by ticket.
    asked: Vec<(u8, EntityId)>,
    replies: BTreeMap<u64, (u64, Reply)>,
    /// Links (from, to) that let nothing through.
    cut: Vec<(u8, u8)>,
    /// Nodes without room on their disks.
    full: Vec<u8>,
    /// Nodes whose disks may lose what they hold, by rot or failed reads.
    may_be_damaged: Vec<u8>,
    held: Vec<(CoreId, CoreId, PeerMessage)>,
    hold: Option<Hold>,
    /// Look at everything that happens.
    pub checker: Checkers,
    /// What was reached.
    pub coverage: Coverage,
    /// What happened.
    pub trace: Trace,
    violation: Option<Violation>,
    /// Of the boots that ended.
    counters: Counters,
    /// Of these, followers'.
    ended_followers: Counters,
    /// What followers claim, by their cores.
    watches: BTreeMap<CoreId, FollowerWatch>,
    /// Followers that a message went astray to.
    strayed: Vec<CoreId>,
    /// Frames delivered.
    pub delivered: u64,
}

impl World {
    /// A cluster of `cores.len()` nodes with that many cores each, all up and connecting, on a
    /// network of datagrams.
    #[must_use]
    pub fn new(seed: u64, cores: &[u16], faults: Faults, configure: fn(&mut ShardConfig)) -> Self {
        Self::with_config(WorldConfig { faults, configure, ..WorldConfig::calm(seed, cores) })
    }

    /// A cluster as described, all up and connecting.
    #[must_use]
    pub fn with_config(config: WorldConfig) -> Self {
        let seed = config.seed;
        let stream = |purpose| Random::stream(seed, purpose);
        let mut clocks = stream("clocks");
        let drift_max = i64::from(config.drift_ppm_max);
        let slots = u8::try_from(config.cores.len()).expect("few nodes");
        let first = Configuration::initial(config.membership.unwrap_or(slots));
        let cores: Vec<u16> = config.cores.iter().chain(&config.followers).copied().collect();
        let nodes = cores.iter().zip(0..).map(|(cores, id)| {
            let range = 2 * u64::from(config.drift_ppm_max) + 1;
            let drift = i64::try_from(clocks.below(range)).expect("small") - drift_max;
            Node::new(id, *cores, config.cores.len(), Clock::new(drift), first)
        });
        let nodes: Vec<Node> = nodes.collect();
        let chances = Chances {
            driver: Random::new(seed),
            delay: stream("delay"),
            loss: stream("loss"),
            duplication: stream("duplication"),
            corruption: stream("corruption"),
            straggler: stream("straggler"),
            split: stream("split"),
            disk: stream("disk"),
            tear: stream("tear"),
            errors: stream("errors"),
            files: stream("files"),
            mirrors: stream("mirrors"),
            strays: stream("strays"),
        };
        let checker = Checkers::new(first, &cores, config.cores.len());
        let mut world = Self {
            now: 1,
            config,
            chances,
            nodes,
            links: BTreeMap::new(),
            events: EventQueue::default(),
            asked: vec![(0, EntityId(0))],
            replies: BTreeMap::new(),
            cut: Vec::new(),
            full: Vec::new(),
            may_be_damaged: Vec::new(),
            held: Vec::new(),
            hold: None,
            checker,
            coverage: Coverage::default(),
            trace: Trace::default(),
            violation: None,
            counters: Counters::default(),
            ended_followers: Counters::default(),
            watches: BTreeMap::new(),
            strayed: Vec::new(),
            delivered: 0,
        };
        for node in world.all_nodes() {
            world.start(node);
        }
        if world.config.mirrors {
            world.add_mirrors();
        }
        world
    }

    /// Number of replicas; followers come on top.
    #[must_use]
    pub fn node_count(&self) -> u8 {
        u8::try_from(self.config.cores.len()).expect("few nodes")
    }

    /// Time of the world, in microseconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// A number below `bound`, from the world's seed: for whoever drives it.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.chances.driver.below(bound)
    }

    /// The rule that was broken, if one was. Nothing happens after that.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    fn note(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.violation.get_or_insert(violation);
        }
    }

    /// Whether a node runs.
    #[must_use]
    pub fn is_up(&self, node: u8) -> bool {
        self.nodes[usize::from(node)].cores[0].shard.is_some()
    }

    /// How often a node was started.
    #[must_use]
    pub fn epoch(&self, node: u8) -> u32 {
        self.nodes[usize::from(node)].epoch
    }

    fn core(&mut self, id: CoreId) -> &mut Core {
        &mut self.nodes[usize::from(id.node)].cores[usize::from(id.core)]
    }

    fn core_ids(&self, node: u8) -> Vec<CoreId> {
        self.nodes[usize::from(node)].cores.iter().map(|core| core.id).collect()
    }

    /// A shard of a running node.
    ///
    /// # Panics
    ///
    /// When the node is down.
    #[must_use]
    pub fn shard(&self, id: CoreId) -> &StringShard {
        let core = &self.nodes[usize::from(id.node)].cores[usize::from(id.core)];
        core.shard.as_ref().expect("the node is up")
    }

    /// The core of `node` that owns `entity`.
    #[must_use]
    pub fn owner(&self, node: u8, entity: EntityId) -> CoreId {
        CoreId { node, core: shard_of(entity, self.nodes[usize::from(node)].core_count()) }
    }

    /// Gives a command to a node's core that owns its first key. Returns the name of its reply.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn submit(&mut self, node: u8, words: &[&str]) -> u64 {
        self.submit_bytes(node, words, None, Freshness::Linearizable)
    }

    /// Like [`World::submit`], applied at most once under `request_id`.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn submit_once(&mut self, node: u8, words: &[&str], request_id: &str) -> u64 {
        self.submit_bytes(node, words, Some(request_id.as_bytes()), Freshness::Linearizable)
    }

    /// Gives a command of any bytes to a node's core that owns its first key.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn submit_bytes(
        &mut self,
        node: u8,
        words: &[impl AsRef<[u8]>],
        request_id: Option<&[u8]>,
        freshness: Freshness,
    ) -> u64 {
        self.submit_for(node, entity_of(words[1].as_ref()), words, request_id, freshness)
    }

    /// Gives a command to a node's core that owns `entity`.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn submit_for(
        &mut self,
        node: u8,
        entity: EntityId,
        words: &[impl AsRef<[u8]>],
        request_id: Option<&[u8]>,
        freshness: Freshness,
    ) -> u64 {
        let mut arguments = Arguments::default();
        for word in words {
            arguments.push(word.as_ref());
        }
        let request_id = request_id.map(Into::into);
        let command = Command { arguments, request_id, freshness };
        self.request(node, entity, EntityRequest::Command(command))
    }

    fn request(&mut self, node: u8, entity: EntityId, request: EntityRequest) -> u64 {
        let sequence = u64::try_from(self.asked.len()).expect("a count fits 64 bits");
        self.asked.push((node, entity));
        let to = self.owner(node, entity);
        let ticket = Ticket { core: to.core, connection: 1, sequence };
        let now = self.nodes[usize::from(node)].clock.at(self.now);
        self.trace.note(self.now, What::Asked { node, entity, ticket: sequence });
        let shard = self.core(to).shard.as_mut().expect("submitted to a node that is up");
        shard.handle_request(now, ticket, entity, request);
        self.pump(to);
        sequence
    }

    /// Asks a core of a node what a tail wants to know, `count` lines or entities of it at most.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn ask_tail(&mut self, node: u8, core: u16, question: Question, count: usize) -> u64 {
        let of_core = EntityId((u64::from(core) * 16) << 48);
        let (entity, request) = match question {
            Question::Changes(after) => {
                let changes = ChangesQuestion { after, pattern: None, count };
                (of_core, EntityRequest::Core(CoreQuestion::Changes(Box::new(changes))))
            }
            Question::Entities(after) => {
                (of_core, EntityRequest::Core(CoreQuestion::Entities { after, count }))
            }
            Question::State(entity) => (entity, EntityRequest::State { pattern: None }),
        };
        self.request(node, entity, request)
    }

    /// How many cores a node has.
    #[must_use]
    pub fn core_count(&self, node: u8) -> u16 {
        self.nodes[usize::from(node)].core_count()
    }

    /// How often a node was started, also with other disks.
    #[must_use]
    pub fn starts(&self, node: u8) -> u32 {
        self.nodes[usize::from(node)].starts
    }

    /// Asks a node what it knows of a key's entity.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn inspect(&mut self, node: u8, key: &str) -> u64 {
        self.inspect_entity(node, entity_of(key.as_bytes()))
    }

    /// Asks a node what it knows of an entity.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn inspect_entity(&mut self, node: u8, entity: EntityId) -> u64 {
        self.request(node, entity, EntityRequest::Inspect)
    }

    /// The reply to a command, with the time it came.
    #[must_use]
    pub fn reply(&self, ticket: u64) -> Option<(u64, &Value)> {
        self.replies.get(&ticket).map(|(at, reply)| (*at, &reply.value))
    }

    /// The reply to a command as the engine gave it, with the time it came. It is forgotten.
    pub fn take_reply(&mut self, ticket: u64) -> Option<(u64, Reply)> {
        self.replies.remove(&ticket)
    }

    /// Steps until `done`, at most to `deadline`. Whether it was reached.
    pub fn run_until(&mut self, deadline: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        while !done(self) {
            if self.violation.is_some() {
                return false;
            }
            let next = self.events.next_at();
            if next.is_none_or(|at| at > deadline) {
                self.now = self.now.max(deadline);
                return done(self);
            }
            self.step();
        }
        true
    }

    /// Steps until a command is answered, at most for `patience_us`; the answer.
    ///
    /// # Panics
    ///
    /// When there is none in time, or a rule was broken.
    pub fn answer(&mut self, ticket: u64, patience_us: u64) -> Value {
        let deadline = self.now + patience_us;
        let answered = self.run_until(deadline, |world| world.reply(ticket).is_some());
        self.assert_fine();
        assert!(answered, "command {ticket} was not answered in {patience_us} us");
        self.replies[&ticket].1.value.clone()
    }

    /// Lets `duration_us` pass.
    ///
    /// # Panics
    ///
    /// When a rule was broken.
    pub fn run_for(&mut self, duration_us: u64) {
        self.advance(duration_us);
        self.assert_fine();
    }

    /// Lets `duration_us` pass, or stops at a violation.
    pub fn advance(&mut self, duration_us: u64) {
        let deadline = self.now + duration_us;
        self.run_until(deadline, |_| false);
    }

    fn assert_fine(&self) {
        if let Some(violation) = &self.violation {
            panic!("{violation}\n{}", self.trace);
        }
    }

    /// The applied entry and chain of an entity on every running node that has it in memory.
    #[must_use]
    pub fn chains(&self, entity: EntityId) -> Vec<(u8, Entry, u32)> {
        (0..self.node_count())
            .filter(|node| self.is_up(*node))
            .filter_map(|node| {
                let (entry, chain) = self.shard(self.owner(node, entity)).applied(entity)?;
                Some((node, entry, chain))
            })
            .collect()
    }

    /// The last entry of `entity` up to which a running node has all, in memory or on disk.
    ///
    /// # Panics
    ///
    /// When the node is down.
    #[must_use]
    pub fn chosen_here(&self, node: u8, entity: EntityId) -> Entry {
        let shard = self.shard(self.owner(node, entity));
        let applied = shard.applied(entity).map_or(Entry::ZERO, |(entry, _)| entry);
        let known = shard.log().index().get(entity);
        let logged = known.map_or(Entry::ZERO, EntityIndex::contiguous_chosen);
        applied.max(logged)
    }

    /// Log writes made durable on a core.
    #[must_use]
    pub fn writes(&self, id: CoreId) -> u64 {
        self.nodes[usize::from(id.node)].cores[usize::from(id.core)].disk.writes
    }

    /// What all shards of all boots counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let running = self.nodes.iter().flat_map(|node| &node.cores);
        running
            .filter_map(|core| core.shard.as_ref())
            .fold(self.counters, |sum, shard| sum.plus(shard.counters()))
    }

    fn schedule(&mut self, delay: u64, event: Event) {
        self.schedule_at(self.now + delay, event);
    }

    fn schedule_at(&mut self, at: u64, event: Event) {
        self.events.schedule(at, event);
    }

    /// Does what a core's shard wants done.
    fn pump(&mut self, id: CoreId) {
        let start = self.nodes[usize::from(id.node)].starts;
        let is_full = self.full.contains(&id.node);
        let Some(shard) = self.core(id).shard.as_mut() else { return };
        while !is_full && shard.spares_wanted() > 0 {
            let spare = shard.name_spare();
            shard.handle_spare(spare);
        }
        if let Some(write) = shard.poll_write() {
            self.begin_write(id, start, write);
        }
        self.pump_files(id, start);
        while let Some(read) = self.core(id).shard.as_mut().and_then(StringShard::poll_read) {
            let delay = 1 + self.chances.disk.below(self.config.faults.read_max_us);
            self.schedule(delay, Event::Read { to: id, start, read });
        }
        let boot = Boot { node: id.node, core: id.core, start };
        while let Some(event) = self.core(id).shard.as_mut().and_then(StringShard::poll_event) {
            self.handle_event(id, boot, event);
        }
        // All that leaves is shown to the checkers, held back or not.
        while let Some(outgoing) = self.core(id).shard.as_mut().and_then(StringShard::poll_message)
        {
            let node = outgoing.to.0;
            let to = match outgoing.core {
                Some(core) => CoreId { node, core },
                None => {
                    let entity = outgoing.message.entity().expect("routed by its entity");
                    self.owner(node, entity)
                }
            };
            let shard = self.core(id).shard.as_ref().expect("it just spoke");
            let known = shard.generations().map(|notice| notice.known).unwrap_or_default();
            let version = shard.configuration().version;
            let receiver = (to.node, to.core);
            let shown = (self.checker.generations(boot, &known))
                .and_then(|()| self.checker.message(boot, receiver, version, &outgoing.message));
            self.note(shown);
            self.look_at_lag(boot, to, &outgoing.message);
            if !self.followers().is_empty() {
                self.take_picture(id, to, &outgoing.message);
                self.stray(id, to, &outgoing.message);
            }
            self.send(id, to, outgoing.message);
            if self.dies_now(id.node) {
                return;
            }
        }
        while let Some(reply) = self.core(id).shard.as_mut().and_then(StringShard::poll_reply) {
            let sequence = reply.ticket.sequence;
            let place = usize::try_from(sequence).expect("a ticket is a place");
            let (_, entity) = self.asked[place];
            let shown = self.checker.reply(id.node, entity, &reply);
            self.note(shown);
            let entry = reply.entry;
            self.trace
                .note(self.now, What::Replied { node: id.node, entity, ticket: sequence, entry });
            let before = self.replies.insert(sequence, (self.now, reply));
            assert!(before.is_none(), "a command is answered once");
            if self.dies_now(id.node) {
                return;
            }
        }
        self.schedule_tick(id, start);
        let damageable = self.is_damageable(id.node);
        let Self { nodes, checker, .. } = self;
        let core = &nodes[usize::from(id.node)].cores[usize::from(id.core)];
        if let Some(shard) = &core.shard {
            let looked = checker.shard(boot, shard, damageable);
            self.note(looked);
        }
        if self.is_follower(id.node) {
            self.look_at_claim(id);
        } else {
            self.pump_strayed();
        }
    }

    /// What a shard wants known, made durable before anything else leaves it.
    fn handle_event(&mut self, id: CoreId, boot: Boot, event: ShardEvent) {
        let node = &mut self.nodes[usize::from(id.node)];
        let epoch = BootEpoch(node.epoch);
        match event {
            ShardEvent::Unreadable { entity, at } => {
                self.coverage.unreadable_entities += 1;
                let core = self.core(id);
                if core.abstention.is_none_or(|known| known.is_made_up_for(epoch)) {
                    core.abstention = Some(Abstention::of_unreadable(epoch, at));
                }
                self.checker.unreadable(boot, entity);
            }
            ShardEvent::Generation { member, generation } => {
                node.learn(member.0, generation);
            }
            ShardEvent::Follows { .. } => self.begin_watch(id),
            ShardEvent::BegunAnew => {
                let core = self.core(id);
                core.abstention = core.abstention.filter(|known| !known.is_made_up_for(epoch));
            }
            ShardEvent::Rejoined => {
                self.coverage.rejoins += 1;
                let core = self.core(id);
                // What was lost meanwhile is not made up for.
                core.abstention = core.abstention.filter(|known| !known.is_made_up_for(epoch));
                if self.is_whole(id.node) {
                    let version = self.configuration_of(id.node).version;
                    let whole = self.checker.whole_again(id.node, version);
                    self.note(whole);
                }
            }
            ShardEvent::Superseded { by } => {
                let what = format!("{boot:?} hears of its own later generation {by:?}");
                self.note(Err(Violation::new("rejoin", what)));
            }
            ShardEvent::Swept { entities } => {
                self.coverage.floors_waited_for += u64::try_from(entities).expect("few");
            }
            ShardEvent::InStep { .. } => self.coverage.in_step_again += 1,
            ShardEvent::Configuration(configuration) => self.adopt(id, boot, configuration),
            ShardEvent::MembershipVotes(votes) => self.keep_membership_votes(id, votes),
            ShardEvent::Settled { version } => self.settle(id, boot, version),
            ShardEvent::Healed { .. } => self.coverage.healed += 1,
            ShardEvent::ImageLost { .. } => self.coverage.lost_images += 1,
            ShardEvent::ConfigurationDiffers { member, theirs } => {
                let what = format!("{boot:?} hears from {member:?} of another {theirs}");
                self.note(Err(Violation::new("membership", what)));
            }
            ShardEvent::Diverged { .. } | ShardEvent::ChainDiffers { .. } => {}
        }
    }

    /// Shows what a message says of who lags, together with the log of its sender.
    fn look_at_lag(&mut self, from: Boot, to: CoreId, message: &PeerMessage) {
        let core_count = self.nodes[usize::from(to.node)].core_count();
        let Self { nodes, checker, .. } = self;
        let core = &nodes[usize::from(from.node)].cores[usize::from(from.core)];
        let shard = core.shard.as_ref().expect("it just spoke");
        let looked = checker.lag(from, (to.node, to.core), core_count, shard, message);
        self.note(looked);
    }

    fn schedule_tick(&mut self, id: CoreId, start: u32) {
        let clock = self.nodes[usize::from(id.node)].clock;
        let now = self.now;
        let core = self.core(id);
        let Some(timeout) = core.shard.as_ref().and_then(StringShard::poll_timeout) else { return };
        let at = clock.world_us(timeout).max(now);
        if core.tick_at.is_none_or(|tick| at < tick) {
            core.tick_at = Some(at);
            self.schedule_at(at, Event::Tick { to: id, start, at });
        }
    }

    /// Counts down to a crash in the middle of a node's outputs. Whether it has come.
    fn dies_now(&mut self, node: u8) -> bool {
        let state = &mut self.nodes[usize::from(node)];
        match &mut state.dies_after {
            None => false,
            Some(0) => {
                state.dies_after = None;
                self.coverage.crashes_between_outputs += 1;
                self.crash(node);
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }
}
