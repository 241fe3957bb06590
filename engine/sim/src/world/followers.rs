//! Followers: nodes behind the replicas in the world's list, so that their number is outside of the
//! replica set. What is special about them is looked at here.
//!
//! Whenever one says that it was in step as of some moment, it must hold all that the replica it
//! follows had applied by then, of which a picture was taken. On datagrams that is not so: the
//! claim rests on a connection that keeps the order.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use engine::shard::StringShard;
use engine::status::Counters;
use engine::time::Time;
use net::peer::message::PeerMessage;
use plog::vocabulary::{EntityId, Entry, Generation};

use crate::checkers::Violation;
use crate::disk::Disk;
use crate::trace::What;
use crate::world::{CoreId, Transport, World};

/// One message of replicas in so many also reaches a follower, which must not heed it.
const STRAYS_ONE_IN: u64 = 64;

/// Pictures kept of each core that is followed.
const PICTURES_MAX: usize = 64;

/// What a replica's core had applied when it was asked, by the asker's clock.
#[derive(Debug)]
struct Picture {
    at: Time,
    applied: Vec<(EntityId, Entry)>,
}

/// Of one core of a follower.
#[derive(Debug, Default)]
pub(super) struct FollowerWatch {
    pictures: BTreeMap<CoreId, VecDeque<Picture>>,
    in_step_at: Option<Time>,
}

impl World {
    /// The followers; they stand behind the replicas.
    #[must_use]
    pub fn followers(&self) -> Range<u8> {
        self.node_count()..u8::try_from(self.nodes.len()).expect("few nodes")
    }

    /// All nodes, with a vote or without.
    #[must_use]
    pub fn all_nodes(&self) -> Range<u8> {
        0..self.followers().end
    }

    /// Whether a node has no vote.
    #[must_use]
    pub fn is_follower(&self, node: u8) -> bool {
        node >= self.node_count()
    }

    /// Whether all cores of a follower were in step with a replica since it was started.
    #[must_use]
    pub fn is_in_step(&self, node: u8) -> bool {
        let shards = self.nodes[usize::from(node)].cores.iter().map(|core| core.shard.as_ref());
        let status = |shard: Option<&StringShard>| shard.and_then(StringShard::following);
        shards.map(status).all(|status| status.is_some_and(|status| status.in_step_at.is_some()))
    }

    /// What the cores of followers counted in all their boots.
    #[must_use]
    pub fn follower_counters(&self) -> Counters {
        let replicas = usize::from(self.node_count());
        let running = self.nodes[replicas..].iter().flat_map(|node| &node.cores);
        running
            .filter_map(|core| core.shard.as_ref())
            .fold(self.ended_followers, |sum, shard| sum.plus(shard.counters()))
    }

    /// Takes a follower that is down its disks away. It begins anew, and nobody need know.
    ///
    /// # Panics
    ///
    /// When it runs, or is none.
    pub fn wipe_follower(&mut self, node: u8) {
        assert!(self.is_follower(node) && !self.is_up(node), "wiped when it is down");
        let fresh = 1 + u128::from(self.chances.errors.draw());
        self.nodes[usize::from(node)].wipe(fresh);
        self.nodes[usize::from(node)].registering = None;
        for id in self.core_ids(node) {
            let core = self.core(id);
            (core.disk, core.log_generation) = (Disk::default(), Generation::FIRST);
            self.lose_core(id, Generation::FIRST);
        }
        self.checker.wiped(node);
        self.coverage.followers_wiped += 1;
        self.trace.note(self.now, What::Wipe { node });
    }

    /// A message that one replica says to another goes astray as well, to a follower.
    pub(super) fn stray(&mut self, from: CoreId, to: CoreId, message: &PeerMessage) {
        let followers = self.followers();
        let is_for_replicas = matches!(
            message,
            PeerMessage::Entry(_)
                | PeerMessage::ReadCheck(_)
                | PeerMessage::Forward(_)
                | PeerMessage::Finish(_)
                | PeerMessage::CatchUp(_)
        );
        if followers.is_empty() || self.is_follower(to.node) || !is_for_replicas {
            return;
        }
        let chance = self.chances.strays.below(STRAYS_ONE_IN * followers.len() as u64);
        let Some(node) =
            u8::try_from(chance).ok().and_then(|nth| followers.clone().nth(nth.into()))
        else {
            return;
        };
        if !self.is_up(node) || self.is_follower(from.node) {
            return;
        }
        self.coverage.strays += 1;
        let entity = message.entity().expect("these are about an entity");
        let owner = self.owner(node, entity);
        let now = self.clock_of(node);
        let generation = self.nodes[usize::from(from.node)].boot().generation();
        let shard = self.core(owner).shard.as_mut().expect("just seen");
        shard.handle_message(now, from.peer(), generation, message.clone());
        self.strayed.push(owner);
    }

    /// What followers were driven to by messages that went astray.
    pub(super) fn pump_strayed(&mut self) {
        while let Some(id) = self.strayed.pop() {
            self.pump(id);
        }
    }

    /// A follower turns to another replica: what it claims is about that one from now on.
    pub(super) fn begin_watch(&mut self, id: CoreId) {
        self.watches.insert(id, FollowerWatch::default());
    }

    /// A follower asks a core to tell on: what that core holds by now.
    pub(super) fn take_picture(&mut self, from: CoreId, to: CoreId, message: &PeerMessage) {
        if !matches!(message, PeerMessage::Follow(_))
            || self.config.transport != Transport::Streams
            || !self.is_up(to.node)
        {
            return;
        }
        let at = self.clock_of(from.node);
        let mine = |entity: EntityId| self.owner(from.node, entity) == from;
        let applied = self.shard(to).chains().filter(|(entity, _, _)| mine(*entity));
        let applied = applied.map(|(entity, entry, _)| (entity, entry)).collect();
        let watch = self.watches.entry(from).or_default();
        let pictures = watch.pictures.entry(to).or_default();
        if pictures.len() >= PICTURES_MAX {
            pictures.pop_front();
        }
        pictures.push_back(Picture { at, applied });
    }

    /// Looks at what a follower's core claims, if it claims something new.
    pub(super) fn look_at_claim(&mut self, id: CoreId) {
        let core = &self.nodes[usize::from(id.node)].cores[usize::from(id.core)];
        let status = core.shard.as_ref().and_then(StringShard::following);
        let Some(in_step_at) = status.and_then(|status| status.in_step_at) else { return };
        let Some(watch) = self.watches.get_mut(&id) else { return };
        if watch.in_step_at.is_some_and(|before| before >= in_step_at) {
            return;
        }
        watch.in_step_at = Some(in_step_at);
        let mut wanted: Vec<(CoreId, EntityId, Entry)> = Vec::new();
        for (of, pictures) in &mut watch.pictures {
            while pictures.get(1).is_some_and(|picture| picture.at <= in_step_at) {
                pictures.pop_front();
            }
            if let Some(picture) = pictures.front().filter(|picture| picture.at <= in_step_at) {
                wanted.extend(picture.applied.iter().map(|(entity, entry)| (*of, *entity, *entry)));
            }
        }
        self.coverage.claims_in_step += 1;
        for (of, entity, entry) in wanted {
            let held = self.chosen_here(id.node, entity);
            if held < entry && !self.abstains(id.node, entity) && !self.is_damageable(id.node) {
                let what = format!(
                    "{id:?} says that it was in step at {in_step_at:?}, and holds {entity:?} up to \
                     {held:?}; {of:?} held {entry:?} by then"
                );
                self.note(Err(Violation::new("staleness", what)));
            }
        }
    }
}
