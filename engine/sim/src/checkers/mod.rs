//! What must never happen, looked at at every step by an observer who sees every disk, every
//! message and every reply.
//!
//! Each file holds one rule, named as in the design's table of invariants, with the memory it
//! needs. [`Checkers`] hands every event to those it concerns and keeps count: a run in which
//! nothing was compared has shown nothing.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use ahash::AHasher;
use engine::membership::MembershipVotes;
use engine::request::Reply;
use engine::shard::{FinishedLoad, StringShard};
use net::peer::message::{LagAnswer, LagRequest, PeerMessage};
use net::resp::slot::shard_of;
use plog::configuration::Configuration;
use plog::log_record::LogRecord;
use plog::vocabulary::{EntityId, Generation, Lsn};

use crate::checkers::abstention::Abstention;
use crate::checkers::agreement::Agreement;
use crate::checkers::bounds::Bounds;
use crate::checkers::cursors::Cursors;
use crate::checkers::follower::Follower;
use crate::checkers::lagging::Lagging;
use crate::checkers::membership::Membership;
use crate::checkers::order::Order;
use crate::checkers::promises::Promises;
use crate::checkers::rejoin::Rejoin;
use crate::checkers::reveal::Reveal;
use crate::mirroring::DiskReplayer;

pub use crate::violation::Violation;

mod abstention;
pub mod acknowledged;
pub mod agreement;
pub mod bounds;
pub mod cursors;
mod follower;
mod lagging;
mod loads;
pub mod membership;
mod mirror;
pub mod order;
pub mod promises;
pub mod recovery;
mod rejoin;
pub mod reveal;
pub mod tail;
mod votes;

/// What a rule remembers, for looking things up only: in which order they stand, differs between
/// runs.
type Table<K, V> = HashMap<K, V, BuildHasherDefault<AHasher>>;

/// A core of a node in one of its boots.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Boot {
    /// The node.
    pub node: u8,
    /// Its core.
    pub core: u16,
    /// Counts the node's starts.
    pub start: u32,
}

/// Comparisons made, by rule.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Compared {
    /// Votes and chosen marks on disk.
    pub votes: u64,
    /// Promises on disk.
    pub promises: u64,
    /// Messages.
    pub messages: u64,
    /// Replies.
    pub replies: u64,
    /// Entities of shards, against the chosen history.
    pub applied: u64,
    /// Shards' cursors and queues.
    pub shards: u64,
    /// Recoveries.
    pub recoveries: u64,
    /// Entities of mirrors, against the chosen history and what nodes hold.
    pub mirrored: u64,
    /// Entities of which a core confirmed that it holds all.
    pub confirmed: u64,
}

impl Compared {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { votes, promises, messages, replies, applied, shards, .. } = self;
        let Self { recoveries, mirrored, confirmed, .. } = self;
        votes + promises + messages + replies + applied + shards + recoveries + mirrored + confirmed
    }
}

/// All checkers of a run.
#[derive(Clone, Debug)]
pub struct Checkers {
    /// What is chosen, as the disks say.
    pub agreement: Agreement,
    /// Who votes.
    pub membership: Membership,
    abstention: Abstention,
    follower: Follower,
    promises: Promises,
    rejoin: Rejoin,
    reveal: Reveal,
    order: Order,
    cursors: Cursors,
    bounds: Bounds,
    lagging: Lagging,
    /// Comparisons made.
    pub compared: Compared,
}

impl Checkers {
    /// For nodes with so many cores each, of which these vote at first; those behind so many
    /// replicas follow.
    #[must_use]
    pub fn new(first: Configuration, cores: &[u16], replicas: usize) -> Self {
        Self {
            agreement: Agreement::new(first, cores),
            membership: Membership::new(first, &cores[..replicas]),
            abstention: Abstention::default(),
            follower: Follower::new(replicas),
            promises: Promises::default(),
            rejoin: Rejoin::default(),
            reveal: Reveal::default(),
            order: Order::default(),
            cursors: Cursors::default(),
            bounds: Bounds::default(),
            lagging: Lagging::default(),
            compared: Compared::default(),
        }
    }

    /// A record reached the disk of a node that knows such generations of all, and goes by such a
    /// version of the membership.
    ///
    /// # Errors
    ///
    /// The rule it breaks.
    pub fn durable(
        &mut self,
        node: u8,
        known: &[Generation; 5],
        version: u32,
        record: &LogRecord,
    ) -> Result<(), Violation> {
        self.compared.votes += 1;
        self.follower.durable(node, record)?;
        self.agreement.durable(node, known, version, record)?;
        self.membership.durable(node, record);
        if let LogRecord::Entry { entity, entry, record, .. } = record {
            self.compared.promises += 1;
            self.promises.durable(node, *entity, *entry, record)?;
            self.reveal.durable(node, *entity, *entry, record);
        }
        Ok(())
    }

    /// A core writes a record, which is durable now.
    ///
    /// # Errors
    ///
    /// The rule it breaks.
    pub fn written(
        &mut self,
        by: Boot,
        known: &[Generation; 5],
        version: u32,
        record: &LogRecord,
    ) -> Result<(), Violation> {
        self.abstention.written(by, record.entity())?;
        self.rejoin.written(by, self.agreement.configurations(), record)?;
        self.durable(by.node, known, version, record)
    }

    /// A core begins anew, in this generation: what it held of the entities it owns is gone.
    pub fn lost(
        &mut self,
        node: u8,
        core: u16,
        generation: Generation,
        owns: impl Fn(EntityId) -> bool,
    ) {
        self.abstention.forget(node, core);
        self.agreement.lost(node, &owns);
        self.membership.lost(node, &owns);
        self.promises.forget(node, &owns);
        self.reveal.forget(node, &owns);
        self.rejoin.lost((node, core), generation, owns, &self.agreement);
    }

    /// Whether a core lost what it held, in whatever boot.
    #[must_use]
    pub fn has_lost(&self, node: u8, core: u16) -> bool {
        self.rejoin.lost.contains(&(node, core))
    }

    /// What goes before the messages that a core sends.
    ///
    /// # Errors
    ///
    /// When it said more before.
    pub fn generations(&mut self, from: Boot, known: &[Generation; 5]) -> Result<(), Violation> {
        self.rejoin.generations(from, known)
    }

    /// A core's log was found damaged, and there is no other yet: it abstains.
    pub fn found_damaged(&mut self, boot: Boot) {
        self.abstention.found_damaged(boot);
    }

    /// A core could not read an entity back: that abstains for as long as the core runs.
    pub fn unreadable(&mut self, boot: Boot, entity: EntityId) {
        self.abstention.unreadable(boot, entity);
    }

    /// A message leaves a core, said in a version of the membership.
    ///
    /// # Errors
    ///
    /// The rule it breaks.
    pub fn message(
        &mut self,
        from: Boot,
        to: (u8, u16),
        version: u32,
        message: &PeerMessage,
    ) -> Result<(), Violation> {
        self.compared.messages += 1;
        self.membership.speaks(from, version)?;
        self.follower.message(from, message)?;
        self.agreement.message(from.node, message)?;
        self.reveal.message(from.node, message, &self.agreement)?;
        let said_in = (version, self.agreement.configurations());
        self.rejoin.message(from, to, said_in, message)?;
        self.abstention.message(from, message)
    }

    /// A message leaves a core for another one: what it says of who lags. The sender's own word
    /// counts of what it abstains.
    ///
    /// # Errors
    ///
    /// The rule it breaks.
    pub fn lag(
        &mut self,
        from: Boot,
        to: (u8, u16),
        to_core_count: u16,
        shard: &StringShard,
        message: &PeerMessage,
    ) -> Result<(), Violation> {
        let index = shard.log().index();
        match message {
            PeerMessage::LagAnswer(LagAnswer { to: Some(position), .. }) => {
                self.lagging.told(from, *position, index, |entity| shard.is_unreadable(entity))
            }
            PeerMessage::Lag(LagRequest { confirmed: Some(position), .. }) => {
                let config = shard.config();
                let holds = |entity| {
                    shard_of(entity, config.core_count) == config.core
                        && shard_of(entity, to_core_count) == to.1
                        && !shard.is_unreadable(entity)
                };
                self.compared.confirmed +=
                    self.lagging.confirmed(from, to, *position, index, holds)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A client is answered.
    ///
    /// # Errors
    ///
    /// The rule it breaks.
    pub fn reply(&mut self, node: u8, entity: EntityId, reply: &Reply) -> Result<(), Violation> {
        self.compared.replies += 1;
        acknowledged::reply(node, entity, reply, &self.agreement)
    }

    /// A shard after an event; whether its disk may have lost what it held.
    ///
    /// # Errors
    ///
    /// The rule it breaks.
    pub fn shard(
        &mut self,
        boot: Boot,
        shard: &StringShard,
        may_be_damaged: bool,
    ) -> Result<(), Violation> {
        self.compared.shards += 1;
        let (glance, counters) = (shard.glance(), shard.counters());
        self.cursors.shard(boot, &glance)?;
        self.bounds.shard(boot, &glance, shard.config())?;
        if counters.diverged > 0 && !may_be_damaged {
            let what = format!("node {} finds its own history wrong", boot.node);
            return Err(Violation::new("divergence", what));
        }
        if glance.abstaining > 0 && !may_be_damaged {
            let what = format!("node {} cannot read what it wrote", boot.node);
            return Err(Violation::new("durability", what));
        }
        // Looking at every entity is only worth while when one may have moved.
        let moves = counters.chosen + counters.images_installed + counters.loads;
        if self.order.has_moved(boot, moves) {
            self.bounds.memory(boot, shard.accounted_and_counted_bytes())?;
            self.compared.applied += self.order.shard(boot, shard, &self.agreement)?;
        }
        Ok(())
    }

    /// A core recovered its log: `durable` is the last record known to be on its disk before, and
    /// `recovered` the last one found.
    ///
    /// # Errors
    ///
    /// The rule it breaks.
    pub fn recovered(&mut self, boot: Boot, durable: Lsn, recovered: Lsn) -> Result<(), Violation> {
        self.compared.recoveries += 1;
        recovery::recovered(boot, durable, recovered)
    }

    /// A mirror executed what it found in a node's files.
    ///
    /// # Errors
    ///
    /// When it is not what was chosen.
    pub fn mirrored(&mut self, node: u8, replayer: &DiskReplayer) -> Result<(), Violation> {
        self.compared.mirrored += mirror::is_chosen(node, replayer, &self.agreement)?;
        Ok(())
    }

    /// A mirror executed all that it found in a node's files, and the shard holds the same.
    ///
    /// # Errors
    ///
    /// When it is not what was chosen, or the shard holds something else.
    pub fn replayed(
        &mut self,
        node: u8,
        shard: &StringShard,
        replayer: &DiskReplayer,
    ) -> Result<(), Violation> {
        self.mirrored(node, replayer)?;
        self.compared.mirrored += mirror::stands_with(node, shard, replayer)?;
        Ok(())
    }

    /// A shard holds what a mirror of its files holds of an entity, if it has it in memory.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn same_state(
        &mut self,
        node: u8,
        shard: &StringShard,
        replayer: &DiskReplayer,
        entity: EntityId,
    ) -> Result<(), Violation> {
        self.compared.mirrored += mirror::same_state(node, shard, replayer, entity)?;
        Ok(())
    }

    /// A load came to its end on a node that has been up for so long.
    ///
    /// # Errors
    ///
    /// The rule it breaks.
    pub fn loaded(&self, boot: Boot, up_us: u64, load: FinishedLoad) -> Result<(), Violation> {
        loads::loaded(boot, up_us, load)
    }

    /// A node lost its disks, and what it knew of the others with them.
    pub fn wiped(&mut self, node: u8) {
        self.rejoin.wiped(node);
        self.membership.wiped(node);
    }

    /// A node's disk names a configuration by which a core of it goes.
    ///
    /// # Errors
    ///
    /// The rule it breaks.
    pub fn adopted(&mut self, by: Boot, configuration: Configuration) -> Result<(), Violation> {
        self.membership.adopted(by.node, configuration, &self.agreement)?;
        self.agreement.learn_configuration(configuration);
        self.agreement.goes_by(by.node, by.core, configuration.version)
    }

    /// A core starts with the version on its node's disk.
    ///
    /// # Errors
    ///
    /// The rule it breaks.
    pub fn starts_with(&mut self, boot: Boot, version: u32) -> Result<(), Violation> {
        self.agreement.goes_by(boot.node, boot.core, version)
    }

    /// A node that lost its disks is whole again.
    ///
    /// # Errors
    ///
    /// The rule it breaks.
    pub fn whole_again(&mut self, node: u8, version: u32) -> Result<(), Violation> {
        self.membership.whole_again(node, version)
    }

    /// What a node's disk says of its votes on the membership.
    ///
    /// # Errors
    ///
    /// The rule it breaks.
    pub fn voted(&mut self, node: u8, votes: &MembershipVotes) -> Result<(), Violation> {
        self.membership.voted(node, votes)
    }

    /// A core says to hold all that was chosen before a version, of what it owns.
    ///
    /// # Errors
    ///
    /// When its disk does not.
    pub fn settled(
        &mut self,
        by: Boot,
        version: u32,
        owns: impl Fn(EntityId) -> bool,
    ) -> Result<(), Violation> {
        self.membership.settled(by, version, owns)
    }

    /// The largest queues seen.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }
}
