//! A cluster in one thread: nodes, network, disks, clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use engine::config::ShardConfig;
use engine::request::{Command, EntityRequest, Freshness, Ticket};
use engine::shard::{PLogRead, PeerCore, StringShard};
use engine::time::Time;
use net::peer::frame::{FrameDecoder, FrameEncoder};
use net::peer::message::PeerMessage;
use net::resp::arguments::Arguments;
use net::resp::slot::{entity_of, shard_of};
use net::resp::value::Value;
use plog::identity::LogIdentity;
use plog::log::SegmentWrite;
use plog::log_config::LogConfig;
use plog::recovery::{Recovered, Scanner};
use plog::vocabulary::{AcceptorId, BootEpoch, EntityId, Entry};

use crate::checker::Checker;
use crate::disk::Disk;
use crate::faults::Faults;

const FRAME_SIZE_MAX: usize = 8 << 20;
const SEGMENT_SIZE: u32 = 256 << 10;

/// Names a core of a node.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CoreId {
    /// The node.
    pub node: u8,
    /// Its core.
    pub core: u16,
}

#[derive(Debug)]
struct Core {
    id: CoreId,
    disk: Disk,
    /// `None` while the node is down.
    shard: Option<StringShard>,
    write: Option<SegmentWrite>,
    tick_at: Option<u64>,
}

#[derive(Debug)]
struct Node {
    epoch: u32,
    cores: Vec<Core>,
}

/// Something that will happen. Events of a node that crashed in between carry an old epoch, and do
/// not.
#[derive(Debug)]
enum Event {
    Frame { from: CoreId, to: CoreId, bytes: Vec<u8> },
    Written { to: CoreId, epoch: u32 },
    Read { to: CoreId, epoch: u32, read: PLogRead },
    Tick { to: CoreId, epoch: u32 },
    LinkUp { from: CoreId, to: CoreId, from_epoch: u32, epoch: u32 },
}

/// See the module page.
#[derive(Debug)]
pub struct World {
    now: u64,
    random: u64,
    faults: Faults,
    nodes: Vec<Node>,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    pending: BTreeMap<u64, Event>,
    next_event: u64,
    next_ticket: u64,
    replies: BTreeMap<u64, (u64, Value)>,
    /// Links (from, to) that lose everything.
    cut: Vec<(u8, u8)>,
    configure: fn(&mut ShardConfig),
    /// Looks at everything after every event.
    pub checker: Checker,
    /// Frames delivered.
    pub delivered: u64,
    /// Messages delivered that match [`World::hold`].
    held: Vec<(CoreId, CoreId, PeerMessage)>,
    hold: Option<fn(CoreId, CoreId, &PeerMessage) -> bool>,
}

impl World {
    /// A cluster of `cores.len()` nodes, each with that many cores, all up and connected.
    #[must_use]
    pub fn new(seed: u64, cores: &[u16], faults: Faults, configure: fn(&mut ShardConfig)) -> Self {
        let nodes = cores.iter().zip(0..).map(|(count, node)| Node {
            epoch: 0,
            cores: (0..*count)
                .map(|core| Core {
                    id: CoreId { node, core },
                    disk: Disk::default(),
                    shard: None,
                    write: None,
                    tick_at: None,
                })
                .collect(),
        });
        let mut world = Self {
            now: 1,
            random: seed,
            faults,
            nodes: nodes.collect(),
            events: BinaryHeap::new(),
            pending: BTreeMap::new(),
            next_event: 0,
            next_ticket: 0,
            replies: BTreeMap::new(),
            cut: Vec::new(),
            configure,
            checker: Checker::default(),
            delivered: 0,
            held: Vec::new(),
            hold: None,
        };
        for node in 0..world.node_count() {
            world.start(node);
        }
        world
    }

    /// Number of nodes.
    #[must_use]
    pub fn node_count(&self) -> u8 {
        u8::try_from(self.nodes.len()).expect("few nodes")
    }

    /// Virtual time in microseconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// A number below `bound`, from the world's seed.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    /// Whether a node runs.
    #[must_use]
    pub fn is_up(&self, node: u8) -> bool {
        self.nodes[usize::from(node)].cores[0].shard.is_some()
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// From now on everything from `from` to `to` is lost.
    pub fn cut(&mut self, from: u8, to: u8) {
        self.cut.push((from, to));
    }

    /// Ends all cuts. The links were never seen to go down, as with a network that only drops.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Messages for which `hold` says so are kept back until [`World::release_held`].
    pub fn hold(&mut self, hold: fn(CoreId, CoreId, &PeerMessage) -> bool) {
        self.hold = Some(hold);
    }

    /// Delivers the messages kept back, and keeps back no more.
    pub fn release_held(&mut self) -> usize {
        self.hold = None;
        let held = std::mem::take(&mut self.held);
        let count = held.len();
        for (from, to, message) in held {
            self.send_frame(from, to, &[message]);
        }
        count
    }

    /// Delivers those of the messages kept back that match, in order; the others stay.
    pub fn release_matching(&mut self, matches: fn(CoreId, CoreId, &PeerMessage) -> bool) -> usize {
        let held = std::mem::take(&mut self.held);
        let mut count = 0;
        for (from, to, message) in held {
            if matches(from, to, &message) {
                self.send_frame(from, to, &[message]);
                count += 1;
            } else {
                self.held.push((from, to, message));
            }
        }
        count
    }

    /// How many messages are kept back.
    #[must_use]
    pub fn held_count(&self) -> usize {
        self.held.len()
    }

    fn core(&mut self, id: CoreId) -> &mut Core {
        &mut self.nodes[usize::from(id.node)].cores[usize::from(id.core)]
    }

    /// How often a node was started.
    #[must_use]
    pub fn epoch(&self, node: u8) -> u32 {
        self.nodes[usize::from(node)].epoch
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
        let count = self.nodes[usize::from(node)].cores.len();
        let count = u16::try_from(count).expect("few cores");
        CoreId { node, core: shard_of(entity, count) }
    }

    /// Starts a node from its disks, as the daemon does.
    ///
    /// # Panics
    ///
    /// When it runs already, or a disk is damaged.
    pub fn start(&mut self, node: u8) {
        assert!(!self.is_up(node), "started when it is down");
        let replicas = self.node_count();
        let index = usize::from(node);
        self.nodes[index].epoch += 1;
        let epoch = self.nodes[index].epoch;
        let core_count = u16::try_from(self.nodes[index].cores.len()).expect("few cores");
        let configure = self.configure;
        for core in &mut self.nodes[index].cores {
            let mut config = ShardConfig::new(AcceptorId(node), replicas, BootEpoch(epoch));
            config.core = core.id.core;
            config.core_count = core_count;
            configure(&mut config);
            let identity =
                LogIdentity { cluster: 7, node, incarnation: 77, core: core.id.core, core_count };
            let mut log_config = LogConfig::for_identity(identity);
            log_config.segment_size = SEGMENT_SIZE;
            log_config.frame_size_max = SEGMENT_SIZE / 4;
            core.shard = Some(recover(config, log_config, &core.disk));
            core.write = None;
            core.tick_at = None;
        }
        self.connect(node);
        for core in 0..core_count {
            self.pump(CoreId { node, core });
        }
    }

    /// Tells everyone about the links of a node that came up.
    fn connect(&mut self, node: u8) {
        let mine: Vec<CoreId> = self.nodes[usize::from(node)].cores.iter().map(|c| c.id).collect();
        let others: Vec<CoreId> = (self.nodes.iter().flat_map(|node| &node.cores))
            .filter(|core| core.id.node != node && core.shard.is_some())
            .map(|core| core.id)
            .collect();
        for me in mine {
            for other in &others {
                for (from, to) in [(me, *other), (*other, me)] {
                    let delay = self.delay();
                    let event = Event::LinkUp {
                        from,
                        to,
                        from_epoch: self.epoch(from.node),
                        epoch: self.epoch(to.node),
                    };
                    self.schedule(delay, event);
                }
            }
        }
    }

    /// Kills a node: what its disks were writing is torn at random.
    ///
    /// # Panics
    ///
    /// When it is down already.
    pub fn crash(&mut self, node: u8) {
        assert!(self.is_up(node), "crashed when it is up");
        let cores: Vec<CoreId> = self.nodes[usize::from(node)].cores.iter().map(|c| c.id).collect();
        for id in cores {
            // All, none, or any subset of the blocks under way survive.
            let survival = [0, 500, 1000][usize::try_from(self.below(3)).expect("below 3")];
            let draws: Vec<bool> = (0..2048).map(|_| self.below(1000) < survival).collect();
            let core = self.core(id);
            core.shard = None;
            if let Some(write) = core.write.take() {
                let survives = |block: usize| draws[block % draws.len()];
                core.disk.write_some(write.segment, write.offset, &write.buffer, survives);
            }
        }
        let peers: Vec<(CoreId, CoreId)> = (self.nodes.iter().flat_map(|n| &n.cores))
            .filter(|core| core.shard.is_some())
            .flat_map(|core| {
                self.nodes[usize::from(node)].cores.iter().map(move |dead| (core.id, dead.id))
            })
            .collect();
        let now = Time(self.now);
        for (alive, dead) in peers {
            let peer = PeerCore { acceptor: AcceptorId(dead.node), core: dead.core };
            let was_up = !self.pending.values().any(|event| {
                matches!(event, Event::LinkUp { from, to, .. } if *from == dead && *to == alive)
            });
            // A link that never came up does not go down; its event is void by its epoch.
            if was_up {
                let shard = self.core(alive).shard.as_mut().expect("filtered for it");
                shard.handle_peer_down(now, peer);
                self.pump(alive);
            } else {
                self.pending.retain(|_, event| {
                    let Event::LinkUp { from, to, .. } = event else { return true };
                    *from != dead || *to != alive
                });
            }
        }
        // Events towards the dead node are void by their epoch.
        self.pending
            .retain(|_, event| !matches!(event, Event::LinkUp { to, .. } if to.node == node));
    }

    /// Gives a command to a node's core that owns its first key. Returns the name of its reply.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn submit(&mut self, node: u8, words: &[&str]) -> u64 {
        self.submit_command(node, words, None, Freshness::Linearizable)
    }

    /// Like [`World::submit`], applied at most once under `request_id`.
    pub fn submit_once(&mut self, node: u8, words: &[&str], request_id: &str) -> u64 {
        self.submit_command(node, words, Some(request_id), Freshness::Linearizable)
    }

    fn submit_command(
        &mut self,
        node: u8,
        words: &[&str],
        request_id: Option<&str>,
        freshness: Freshness,
    ) -> u64 {
        let entity = entity_of(words[1].as_bytes());
        let request = EntityRequest::Command(Command {
            arguments: Arguments::from_slices(words),
            request_id: request_id.map(|id| id.as_bytes().into()),
            freshness,
        });
        self.request(node, entity, request)
    }

    fn request(&mut self, node: u8, entity: EntityId, request: EntityRequest) -> u64 {
        self.next_ticket += 1;
        let sequence = self.next_ticket;
        let to = self.owner(node, entity);
        let ticket = Ticket { core: to.core, connection: 1, sequence };
        let now = Time(self.now);
        let shard = self.core(to).shard.as_mut().expect("submitted to a node that is up");
        shard.handle_request(now, ticket, entity, request);
        self.pump(to);
        sequence
    }

    /// Asks a node what it knows of a key's entity.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn inspect(&mut self, node: u8, key: &str) -> u64 {
        let entity = entity_of(key.as_bytes());
        self.request(node, entity, EntityRequest::Inspect)
    }

    /// The reply to a command, with the time it came.
    #[must_use]
    pub fn reply(&self, ticket: u64) -> Option<&(u64, Value)> {
        self.replies.get(&ticket)
    }

    /// Lets the next thing happen. False when nothing is left to happen.
    pub fn step(&mut self) -> bool {
        let Some(Reverse((at, number))) = self.events.pop() else { return false };
        self.now = self.now.max(at);
        let Some(event) = self.pending.remove(&number) else { return true };
        let now = Time(self.now);
        let target = match event {
            Event::Frame { from, to, bytes } => {
                if self.core(to).shard.is_none() {
                    return true;
                }
                self.delivered += 1;
                let mut decoder = FrameDecoder::new(FRAME_SIZE_MAX, self.node_count());
                decoder.push(&bytes);
                let sender = PeerCore { acceptor: AcceptorId(from.node), core: from.core };
                while let Some(messages) = decoder.next_frame().expect("frames are not corrupted") {
                    let shard = self.core(to).shard.as_mut().expect("just seen");
                    for message in messages {
                        shard.handle_message(now, sender, message);
                    }
                }
                to
            }
            Event::Written { to, epoch } => {
                if self.epoch(to.node) != epoch || self.core(to).shard.is_none() {
                    return true;
                }
                let core = self.core(to);
                let write = core.write.take().expect("a write was under way");
                core.disk.write(write.segment, write.offset, &write.buffer);
                core.shard.as_mut().expect("just seen").handle_written(now, write.buffer);
                to
            }
            Event::Read { to, epoch, read } => {
                if self.epoch(to.node) != epoch || self.core(to).shard.is_none() {
                    return true;
                }
                let core = self.core(to);
                let bytes = core.disk.read(read.location);
                core.shard.as_mut().expect("just seen").handle_read(now, read.read, Ok(&bytes));
                to
            }
            Event::Tick { to, epoch } => {
                if self.epoch(to.node) != epoch || self.core(to).shard.is_none() {
                    return true;
                }
                let core = self.core(to);
                core.tick_at = None;
                core.shard.as_mut().expect("just seen").handle_tick(now);
                to
            }
            Event::LinkUp { from, to, from_epoch, epoch } => {
                let current = self.epoch(to.node) == epoch && self.epoch(from.node) == from_epoch;
                if !current || self.core(to).shard.is_none() || self.core(from).shard.is_none() {
                    return true;
                }
                let peer = PeerCore { acceptor: AcceptorId(from.node), core: from.core };
                self.core(to).shard.as_mut().expect("just seen").handle_peer_up(now, peer);
                to
            }
        };
        self.pump(target);
        true
    }

    /// Steps until `done`, at most to `deadline`. Whether it was reached.
    pub fn run_until(&mut self, deadline: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        while !done(self) {
            let next = self.events.peek().map(|Reverse((at, _))| *at);
            if next.is_none_or(|at| at > deadline) {
                self.now = self.now.max(deadline.min(next.unwrap_or(deadline)));
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
    /// When there is none in time.
    pub fn answer(&mut self, ticket: u64, patience_us: u64) -> Value {
        let deadline = self.now + patience_us;
        let answered = self.run_until(deadline, |world| world.reply(ticket).is_some());
        assert!(answered, "command {ticket} was not answered in {patience_us} us");
        self.replies[&ticket].1.clone()
    }

    /// Lets `duration_us` pass.
    pub fn run_for(&mut self, duration_us: u64) {
        let deadline = self.now + duration_us;
        self.run_until(deadline, |_| false);
        self.now = deadline;
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

    /// Log writes made durable on a core.
    #[must_use]
    pub fn writes(&self, id: CoreId) -> u64 {
        self.nodes[usize::from(id.node)].cores[usize::from(id.core)].disk.writes
    }

    fn delay(&mut self) -> u64 {
        let longest = self.faults.delay_max_us;
        let delay = 1 + self.below(longest);
        if self.below(1000) < self.faults.straggler { delay * 50 } else { delay }
    }

    fn schedule(&mut self, delay: u64, event: Event) {
        self.next_event += 1;
        self.events.push(Reverse((self.now + delay, self.next_event)));
        self.pending.insert(self.next_event, event);
    }

    /// Does what a core's shard wants done.
    fn pump(&mut self, id: CoreId) {
        let epoch = self.epoch(id.node);
        let Some(shard) = self.core(id).shard.as_mut() else { return };
        while shard.spares_wanted() > 0 {
            let spare = shard.name_spare();
            shard.handle_spare(spare);
        }
        let write = shard.poll_write();
        let reads: Vec<PLogRead> = std::iter::from_fn(|| shard.poll_read()).collect();
        let messages: Vec<_> = std::iter::from_fn(|| shard.poll_message()).collect();
        let replies: Vec<_> = std::iter::from_fn(|| shard.poll_reply()).collect();
        let timeout = shard.poll_timeout();
        if let Some(write) = write {
            let core = self.core(id);
            if write.opens.is_some() {
                let size = usize::try_from(SEGMENT_SIZE).expect("fits");
                core.disk.create(write.segment, size);
            }
            assert!(core.write.is_none(), "one write is in flight at a time");
            core.write = Some(write);
            let delay = 1 + self.below(self.faults.write_max_us);
            self.schedule(delay, Event::Written { to: id, epoch });
        }
        for read in reads {
            let delay = 1 + self.below(self.faults.read_max_us);
            self.schedule(delay, Event::Read { to: id, epoch, read });
        }
        for outgoing in messages {
            let node = outgoing.to.0;
            let to = match outgoing.core {
                Some(core) => CoreId { node, core },
                None => {
                    let entity = outgoing.message.entity().expect("routed by its entity");
                    self.owner(node, entity)
                }
            };
            if self.hold.is_some_and(|hold| hold(id, to, &outgoing.message)) {
                self.held.push((id, to, outgoing.message));
            } else {
                self.send_frame(id, to, &[outgoing.message]);
            }
        }
        for reply in replies {
            let before = self.replies.insert(reply.ticket.sequence, (self.now, reply.value));
            assert!(before.is_none(), "a command is answered once");
        }
        if let Some(Time(at)) = timeout {
            let now = self.now;
            let core = self.core(id);
            if core.tick_at.is_none_or(|tick| at < tick) {
                core.tick_at = Some(at);
                self.schedule(at.saturating_sub(now), Event::Tick { to: id, epoch });
            }
        }
        let Self { nodes, checker, .. } = self;
        let core = &nodes[usize::from(id.node)].cores[usize::from(id.core)];
        if let Some(shard) = &core.shard {
            checker.check(id.node, epoch, shard);
        }
    }

    fn send_frame(&mut self, from: CoreId, to: CoreId, messages: &[PeerMessage]) {
        let is_cut = self.cut.contains(&(from.node, to.node));
        if is_cut || self.below(1000) < self.faults.loss {
            return;
        }
        let mut bytes = Vec::new();
        let mut encoder = FrameEncoder::new(FRAME_SIZE_MAX);
        encoder.encode(messages, &mut bytes).expect("messages fit a frame");
        if self.below(1000) < self.faults.duplication {
            let delay = self.delay();
            self.schedule(delay, Event::Frame { from, to, bytes: bytes.clone() });
        }
        let delay = self.delay();
        self.schedule(delay, Event::Frame { from, to, bytes });
    }
}

/// What the daemon does at start, on a simulated disk.
fn recover(config: ShardConfig, log_config: LogConfig, disk: &Disk) -> StringShard {
    let mut shard = StringShard::new(config, log_config);
    let mut scanner = Scanner::new(log_config.identity);
    for (segment, bytes) in disk.segments() {
        scanner.begin_segment(segment, bytes.len() as u64);
        let fed = scanner.feed(bytes, &mut |scanned| {
            shard.recover_record(scanned.lsn, scanned.location, &scanned.record);
        });
        fed.expect("the segments are this log's own");
    }
    let outcome = scanner.finish();
    assert!(!matches!(outcome, Recovered::Damaged { .. }), "a crash never damages: {outcome:?}");
    shard.finish_recovery(outcome.tail());
    shard
}
