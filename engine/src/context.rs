//! What all entities of a shard share: the log, the outboxes, the clock's last word.

use std::collections::{BTreeMap, VecDeque};

use net::peer::message::{FollowAnswer, ForwardAnswer, PeerMessage};
use net::resp::value::{Protocol, Value};
use plog::configuration::Configuration;
use plog::location::Location;
use plog::log::{Log, Urgency};
use plog::log_record::LogRecord;
use plog::planted;
use plog::vocabulary::{AcceptorId, EntityId, Entry, Generation, Lsn, ValueId};

use crate::after_sync::AfterSync;
use crate::config::ShardConfig;
use crate::entity::open_entries::SlotPool;
use crate::membership::MembershipVotes;
use crate::random::Random;
use crate::request::{Reply, Ticket};
use crate::shard::{Followers, PeerCore};
use crate::status::Counters;
use crate::time::Time;
use crate::timers::Timers;

/// Most members a replica set can have.
pub const REPLICAS_MAX: usize = 5;

/// A peer that left a read check unanswered is asked last for so many times the retry.
const PASSED_OVER_RETRIES: u64 = 50;

/// A message on its way to a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The receiving replica.
    pub to: AcceptorId,
    /// The receiving core; `None` means the one that owns the message's entity there.
    pub core: Option<u16>,
    /// The message.
    pub message: PeerMessage,
}

/// Something an operator must hear about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// This replica's history of an entity differs from a peer's, or holds a value that cannot be
    /// applied. The entity no longer serves here.
    Diverged {
        /// The entity.
        entity: EntityId,
        /// Where it was noticed.
        entry: Entry,
        /// What was wrong.
        reason: &'static str,
    },
    /// What was told by an earlier [`Event::Diverged`] is over: a majority has the same history as
    /// this replica. The entity serves again.
    Healed {
        /// The entity.
        entity: EntityId,
        /// Where the histories were compared.
        entry: Entry,
        /// Whether it was this replica's copy all along; else it was replaced by a peer's.
        was_right: bool,
    },
    /// An entity's image could not be read back. What it promised is known, so that it loses
    /// nothing but time: it takes a peer's image, and is served through the others until a majority
    /// has confirmed that.
    ImageLost {
        /// The entity.
        entity: EntityId,
        /// The record.
        at: Location,
    },
    /// An entity's records could not be read back. It abstains here until the core has rejoined;
    /// see [`Abstention::of_unreadable`](crate::abstention::Abstention::of_unreadable).
    Unreadable {
        /// The entity.
        entity: EntityId,
        /// The record.
        at: Location,
    },
    /// A replica lost something and goes on as a later generation. To be made durable before
    /// anything leaves that is polled later.
    Generation {
        /// The replica.
        member: AcceptorId,
        /// Its generation.
        generation: Generation,
    },
    /// A later generation of this very replica is about: this process must end.
    Superseded {
        /// That generation.
        by: Generation,
    },
    /// A core that rejoins knows now what it must not vote on.
    Swept {
        /// Entities that have to catch up first.
        entities: usize,
    },
    /// All that a peer's core held when its link came up, or what advanced there since, is durable
    /// here, too; some of it was missing.
    InStep {
        /// The peer.
        member: AcceptorId,
        /// Its core.
        core: u16,
        /// Entities that were behind.
        entities: u64,
    },
    /// A peer showed another checksum chain of an entity than this replica has, in a sweep. The
    /// entity is served on, unless a majority of the others says so.
    ChainDiffers {
        /// The entity.
        entity: EntityId,
        /// Where the chains differ.
        entry: Entry,
        /// The peer.
        member: AcceptorId,
    },
    /// A core that follows turned to a replica, or finds none.
    Follows {
        /// Whom it follows now.
        replica: Option<AcceptorId>,
    },
    /// A core that follows lost its log and has another. It has no votes to make up for, so what
    /// says that it lost something can go.
    BegunAnew,
    /// A core has rejoined: it is as whole as any other, and what says otherwise can go.
    Rejoined,
    /// The core goes by a later configuration. To be made durable, and told the node's other cores,
    /// before anything leaves that is polled later.
    Configuration(Configuration),
    /// What the node promised or accepted of the next configuration. To be made durable before
    /// anything leaves that is polled later. Of core 0 only.
    MembershipVotes(MembershipVotes),
    /// A node goes by another configuration of the same version: its operator named other founders.
    /// Nothing that it says is heard.
    ConfigurationDiffers {
        /// The node.
        member: AcceptorId,
        /// By which it goes.
        theirs: Configuration,
    },
    /// The core settled this version: it holds all that was chosen before the version. When all
    /// cores of the node did, core 0 is to be told.
    Settled {
        /// The version.
        version: u32,
    },
}

/// What waits for the log.
#[derive(Debug)]
pub(crate) enum Gated {
    Message(Outgoing),
    /// A follower may be told of its stream of notices.
    FollowAnswer(PeerCore, FollowAnswer),
    /// This node's own vote in one of its proposals becomes countable.
    OwnVote(EntityId, Entry),
}

/// Where a command came from, and so where its reply goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    Client(Ticket),
    Forwarded { from: AcceptorId, forward: u64, entity: EntityId },
}

/// See the module page.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: ShardConfig,
    pub(crate) now: Time,
    pub(crate) log: Log,
    pub(crate) random: Random,
    pub(crate) timers: Timers,
    pub(crate) gate: AfterSync<Gated>,
    pub(crate) messages: VecDeque<Outgoing>,
    pub(crate) replies: VecDeque<Reply>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) counters: Counters,
    pub(crate) slot_pool: SlotPool,
    /// Who votes.
    pub(crate) configuration: Configuration,
    /// The generation of each acceptor that counts.
    pub(crate) generations: [Generation; REPLICAS_MAX],
    /// After a loss: up to where each entity must not vote here. Empty once all have caught up.
    pub(crate) floors: BTreeMap<EntityId, Entry>,
    /// Who is told of what this core learns.
    pub(crate) followers: Followers,
    /// Inbound links per acceptor that are up.
    pub(crate) links_up: [u16; REPLICAS_MAX],
    /// Until when read checks ask others first, per acceptor: it left one unanswered.
    passed_over_until: [Time; REPLICAS_MAX],
    /// Who was away and has not made up for it yet, one bit each: read checks ask others first.
    pub(crate) catching_up: u8,
    /// Commands held by the shard's entities, in whatever stage.
    pub(crate) commands_held: usize,
    /// Bytes of state held by the shard's entities.
    pub(crate) state_bytes: usize,
    /// Entities whose copy here is in doubt.
    pub(crate) in_doubt: u64,
    /// Images asked for in place of such copies, and not here yet.
    pub(crate) copies_asked: usize,
    /// No room for the log, and why: writes are refused.
    pub(crate) log_full: Option<LogFull>,
    /// When the oldest lazy record must be flushed.
    pub(crate) lazy_deadline: Option<Time>,
    next_value: u64,
    next_check: u64,
    next_forward: u64,
    /// The last stream of notices to a follower.
    pub(crate) next_stream: u64,
    /// The last question of this follower.
    pub(crate) next_follow: u64,
}

/// Why a log has no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LogFull {
    /// The disk has none.
    Disk,
    /// It holds as many segments as it may, and an operator keeps the cleaner from freeing any.
    CleanerPaused,
}

impl Context {
    pub(crate) fn new(config: ShardConfig, log: Log) -> Self {
        let first_of_boot = u64::from(config.epoch.0) << 32;
        let mut generations = [Generation::FIRST; REPLICAS_MAX];
        if !config.is_follower() {
            generations[config.acceptor.index()] = config.epoch.generation();
        }
        Self {
            configuration: Configuration::initial(config.first_voters),
            generations,
            floors: BTreeMap::new(),
            config,
            now: Time::default(),
            log,
            random: Random::new(config.seed),
            timers: Timers::default(),
            gate: AfterSync::default(),
            messages: VecDeque::new(),
            replies: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            slot_pool: SlotPool::default(),
            followers: Followers::default(),
            links_up: [0; REPLICAS_MAX],
            catching_up: 0,
            passed_over_until: [Time::default(); REPLICAS_MAX],
            commands_held: 0,
            state_bytes: 0,
            in_doubt: 0,
            copies_asked: 0,
            log_full: None,
            lazy_deadline: None,
            next_value: 0,
            // An answer to a question of an earlier boot must not pass for one of this boot's.
            next_check: if planted!("earlier-boots-answer") { 0 } else { first_of_boot },
            next_forward: if planted!("earlier-boots-answer") { 0 } else { first_of_boot },
            next_stream: first_of_boot,
            next_follow: first_of_boot,
        }
    }

    pub(crate) fn me(&self) -> AcceptorId {
        self.config.acceptor
    }

    /// Whether a node has a place in the replica set; all others follow.
    pub(crate) fn is_replica(&self, node: AcceptorId) -> bool {
        node.0 < self.config.replicas
    }

    /// The other members; all of them for a follower.
    pub(crate) fn peers(&self) -> impl Iterator<Item = AcceptorId> + use<> {
        self.configuration.members().without(self.config.acceptor).iter()
    }

    /// The others that vote.
    pub(crate) fn voting_peers(&self) -> impl Iterator<Item = AcceptorId> + use<> {
        self.configuration.voters.without(self.config.acceptor).iter()
    }

    /// Whether what `acceptor` promises, accepts and answers counts.
    pub(crate) fn is_voter(&self, acceptor: AcceptorId) -> bool {
        self.configuration.voters.contains(acceptor)
    }

    /// Whether this replica is a member, so that it may take part at all.
    pub(crate) fn is_member(&self) -> bool {
        self.configuration.members().contains(self.config.acceptor)
    }

    /// How many voters make a majority.
    pub(crate) fn majority(&self) -> usize {
        self.configuration.majority()
    }

    /// All of the replica set once, in turn, from `first`, which is counted modulo their number.
    pub(crate) fn replicas_from(
        &self,
        first: u64,
    ) -> impl Iterator<Item = AcceptorId> + Clone + use<> {
        let replicas = self.config.replicas;
        let first = u8::try_from(first % u64::from(replicas)).expect("below the replica count");
        (0..replicas).map(move |offset| AcceptorId((first + offset) % replicas))
    }

    /// Whether this replica must not vote on the entity before it has applied more than `applied`.
    pub(crate) fn is_below_floor(&self, id: EntityId, applied: Entry) -> bool {
        !self.floors.is_empty() && self.floors.get(&id).is_some_and(|floor| applied < *floor)
    }

    pub(crate) fn is_up(&self, peer: AcceptorId) -> bool {
        self.links_up[peer.index()] > 0
    }

    /// Whether read checks had better ask others than `peer`: it abstains, is slow, or has much to
    /// make up for.
    pub(crate) fn is_passed_over(&self, peer: AcceptorId) -> bool {
        let catches_up = self.catching_up & (1 << peer.0) != 0;
        catches_up || self.now < self.passed_over_until[peer.index()]
    }

    /// `peer` left a read check unanswered.
    pub(crate) fn pass_over(&mut self, peer: AcceptorId) {
        let until = self.now.after_us(PASSED_OVER_RETRIES * self.config.retry_us);
        self.passed_over_until[peer.index()] = until;
    }

    /// `peer` answered a read check.
    pub(crate) fn take_in_again(&mut self, peer: AcceptorId) {
        self.passed_over_until[peer.index()] = Time::default();
    }

    /// Sends what rests on nothing that is not durable.
    pub(crate) fn send(&mut self, to: AcceptorId, message: PeerMessage) {
        assert!(to != self.config.acceptor, "a node does not write to itself");
        self.messages.push_back(Outgoing { to, core: None, message });
    }

    /// Sends to one core of a replica, whichever entities it owns.
    pub(crate) fn send_to_core(&mut self, peer: PeerCore, message: PeerMessage) {
        let (to, core) = (peer.acceptor, Some(peer.core));
        self.messages.push_back(Outgoing { to, core, message });
    }

    /// Sends when the log is durable up to `needs`.
    pub(crate) fn send_after(&mut self, needs: Lsn, to: AcceptorId, message: PeerMessage) {
        if needs <= self.log.durable() {
            self.send(to, message);
        } else {
            self.gate.hold(needs, Gated::Message(Outgoing { to, core: None, message }));
        }
    }

    /// Appends a record that something waits for.
    pub(crate) fn append(&mut self, record: &LogRecord) -> Lsn {
        self.log.append(record, Urgency::Now)
    }

    /// Appends a record that can be told again by the peers if it is lost.
    pub(crate) fn append_lazily(&mut self, record: &LogRecord) -> Lsn {
        if self.lazy_deadline.is_none() {
            self.lazy_deadline = Some(self.now.after_us(self.config.lazy_flush_us));
        }
        self.log.append(record, Urgency::Lazy)
    }

    /// Answers a command that was held with an error.
    pub(crate) fn refuse(&mut self, origin: Origin, error: Value) {
        self.reply(origin, error, Entry::ZERO);
    }

    /// Answers a command that was held, as of `entry`.
    pub(crate) fn reply(&mut self, origin: Origin, value: Value, entry: Entry) {
        self.commands_held = self.commands_held.checked_sub(1).expect("a held command is answered");
        self.answer(origin, value, entry);
    }

    /// Answers something that was never held with an error.
    pub(crate) fn turn_away(&mut self, origin: Origin, error: Value) {
        self.answer(origin, error, Entry::ZERO);
    }

    /// Answers something that was never held, as of `entry`.
    pub(crate) fn answer(&mut self, origin: Origin, value: Value, entry: Entry) {
        match origin {
            Origin::Client(ticket) => self.replies.push_back(Reply { ticket, value, entry }),
            Origin::Forwarded { from, forward, entity } => {
                let mut reply = Vec::new();
                value.encode(Protocol::Resp3, &mut reply);
                let answer = ForwardAnswer { forward, entity, reply: Some(reply), entry };
                self.send(from, PeerMessage::ForwardAnswer(answer));
            }
        }
    }

    /// A name never given to a value before.
    pub(crate) fn new_value_id(&mut self) -> ValueId {
        self.next_value += u64::from(!planted!("value-id-reused"));
        ValueId {
            originator: self.config.acceptor,
            epoch: self.config.epoch,
            counter: self.next_value,
        }
    }

    pub(crate) fn new_check(&mut self) -> u64 {
        self.next_check += 1;
        self.next_check
    }

    pub(crate) fn new_forward(&mut self) -> u64 {
        self.next_forward += 1;
        self.next_forward
    }
}
