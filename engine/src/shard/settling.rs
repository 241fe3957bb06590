//! Settling a configuration: learning all that was chosen before it.
//!
//! ```text
//! walking ──a majority walked──▶ catching up ──no floor left──▶ writing ──durable──▶ settled
//! ```
//!
//! That the majorities of neighbouring versions meet does not carry what was chosen in one version
//! over to the one after the next. So each core walks all entities of a majority of the voters of
//! its version, all of which go by it, and learns each up to the last entry of which any of them
//! holds anything. It serves and votes meanwhile. The next version is proposed when a majority is
//! through. See `docs/PROTOCOL.md`, "Membership".

use std::collections::{BTreeMap, BTreeSet};

use net::peer::message::{PeerMessage, SweepAnswer, SweepRequest};
use net::resp::slot::shard_of;
use plog::planted;
use plog::vocabulary::{AcceptorId, EntityId, Entry, Lsn};

use crate::context::Event;
use crate::entity::Entity;
use crate::shard::rejoining::shares_entities;
use crate::shard::sweep::PAGE;
use crate::shard::{PeerCore, Reach, Room, Shard};
use crate::state_machine::StateMachine;
use crate::time::Time;

/// Entities learned at a time.
const UNDER_WAY_MAX: usize = 64;

/// Floors looked at in one go.
const LOOKS_MAX: usize = 1024;

/// An unanswered page is asked for again after so many times the retry.
const PATIENCE_RETRIES: u64 = 4;

/// How far the walk through one core is; of this one, too.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    after: Option<EntityId>,
    asked: Option<Time>,
    is_done: bool,
}

#[derive(Debug)]
enum Stage {
    Walking,
    CatchingUp,
    /// What was learned has to be durable up to here.
    Writing(Lsn),
    Settled,
}

/// See the module page.
#[derive(Debug)]
pub(crate) struct Settling {
    stage: Stage,
    walks: BTreeMap<PeerCore, Walk>,
    own: Walk,
    /// Up to where each entity has to be learned; at most as many as the core may hold. What is
    /// there already is left out.
    floors: BTreeMap<EntityId, Entry>,
    under_way: BTreeSet<EntityId>,
    /// When it goes on by itself.
    due: Option<Time>,
}

impl<M: StateMachine> Shard<M> {
    /// The configuration is another one, or the core starts.
    pub(super) fn begin_settling(&mut self) {
        let follows = self.context.configuration.version > 0;
        self.settling = (follows && self.context.is_member()).then(|| Settling {
            stage: Stage::Walking,
            walks: BTreeMap::new(),
            own: Walk::default(),
            floors: BTreeMap::new(),
            under_way: BTreeSet::new(),
            due: Some(self.context.now),
        });
    }

    pub(super) fn next_settling_due(&self) -> Option<Time> {
        self.settling.as_ref()?.due
    }

    /// Entities of which it is known that they have to be learned.
    pub(super) fn settling_left(&self) -> u64 {
        let Some(settling) = &self.settling else { return 0 };
        let left = u64::try_from(settling.floors.len()).expect("a count fits 64 bits");
        left.max(u64::from(!matches!(settling.stage, Stage::Settled)))
    }

    /// Goes on, when it is time.
    pub(super) fn continue_settling(&mut self) {
        let now = self.context.now;
        let is_whole = self.rejoining.is_none() && self.abstaining.count() == 0;
        let patience = now.after_us(PATIENCE_RETRIES * self.context.config.retry_us);
        let Some(settling) = &mut self.settling else { return };
        if settling.due.is_none_or(|due| due > now) {
            return;
        }
        // Who may have lost something learns that first.
        settling.due = Some(patience);
        if !is_whole {
            return;
        }
        match settling.stage {
            Stage::Walking => {
                self.walk_itself();
                self.ask_settle_pages();
                self.end_walking_if_enough();
            }
            Stage::CatchingUp => self.learn_floors(),
            Stage::Writing(lsn) => self.end_settling(lsn),
            Stage::Settled => settling.due = None,
        }
    }

    /// What was logged is durable up to somewhere.
    pub(super) fn settle_written(&mut self) {
        if let Some(Settling { stage: Stage::Writing(lsn), .. }) = &self.settling {
            let lsn = *lsn;
            self.end_settling(lsn);
        }
    }

    fn end_settling(&mut self, lsn: Lsn) {
        if lsn > self.context.log.durable() {
            return;
        }
        let Some(settling) = &mut self.settling else { return };
        (settling.stage, settling.due) = (Stage::Settled, None);
        let version = self.context.configuration.version;
        self.context.counters.configurations_settled += 1;
        self.context.events.push_back(Event::Settled { version });
    }

    /// The next page of what this core holds itself.
    fn walk_itself(&mut self) {
        let limit = usize::try_from(PAGE).expect("a page is small");
        let Some(settling) = &self.settling else { return };
        if settling.own.is_done {
            return;
        }
        let page = self.context.log.index().entities_after(settling.own.after, limit);
        let after = page.last().map(|held| held.entity);
        let is_done = page.len() < limit;
        for held in page {
            self.note_floor(held.entity, held.last);
        }
        let now = self.context.now;
        let Some(settling) = &mut self.settling else { return };
        settling.own = Walk { after, asked: None, is_done };
        if !is_done {
            settling.due = Some(now);
        }
    }

    /// Somebody holds something of this entry. False when there is no room to keep that in mind.
    fn note_floor(&mut self, id: EntityId, last: Entry) -> bool {
        let has_it = self.known_chosen(id) >= last;
        let entities_max = self.context.config.entities_max;
        let Some(settling) = &mut self.settling else { return false };
        if has_it {
            return true;
        }
        let has_room = settling.floors.len() < entities_max;
        match settling.floors.get_mut(&id) {
            Some(floor) => *floor = last.max(*floor),
            None if !has_room => return false,
            None => {
                settling.floors.insert(id, last);
            }
        }
        true
    }

    /// Asks the voters' cores that did not answer.
    fn ask_settle_pages(&mut self) {
        let now = self.context.now;
        let patience = PATIENCE_RETRIES * self.context.config.retry_us;
        let voters = self.context.configuration.voters;
        let peers: Vec<PeerCore> =
            self.sweeps.peers().filter(|peer| voters.contains(peer.acceptor)).collect();
        for peer in peers {
            let Some(settling) = &mut self.settling else { return };
            let walk = settling.walks.entry(peer).or_default();
            if !walk.is_done && walk.asked.is_none_or(|at| at.after_us(patience) <= now) {
                walk.asked = Some(now);
                let request = SweepRequest { after: walk.after, limit: PAGE };
                self.context.send_to_core(peer, PeerMessage::Sweep(request));
            }
        }
    }

    /// A page of a peer's entities, said in the present version: taken if the core walks.
    pub(super) fn take_settle_page(&mut self, from: PeerCore, answer: &SweepAnswer) {
        let config = self.context.config;
        let Some(settling) = &self.settling else { return };
        let Some(walk) = settling.walks.get(&from) else { return };
        let is_current = matches!(settling.stage, Stage::Walking)
            && walk.asked.is_some()
            && !walk.is_done
            && walk.after == answer.after;
        // Who may have lost something cannot say what it promised; it is asked again later.
        if !is_current || answer.counts_for.is_none() {
            return;
        }
        for swept in &answer.entities {
            if shard_of(swept.entity, config.core_count) == config.core
                && !self.note_floor(swept.entity, swept.last)
            {
                // More than this core may hold: it does not settle, and asks on.
                self.context.counters.messages_refused += 1;
                return;
            }
        }
        let Some(settling) = &mut self.settling else { return };
        let after = answer.entities.last().map(|swept| swept.entity);
        let is_done = answer.done || after.is_none();
        settling.walks.insert(from, Walk { after, asked: None, is_done });
        settling.due = Some(self.context.now);
        self.continue_settling();
    }

    fn end_walking_if_enough(&mut self) {
        let config = self.context.config;
        let Some(settling) = &self.settling else { return };
        let core_count = |acceptor| self.sweeps.core_count(acceptor);
        let is_walked = |peer: AcceptorId| {
            let Some(count) = core_count(peer) else { return false };
            let own = (config.core, config.core_count);
            let mut cores = (0..count).filter(|core| shares_entities((*core, count), own));
            cores.all(|core| {
                let walk = settling.walks.get(&PeerCore { acceptor: peer, core });
                walk.is_some_and(|walk| walk.is_done)
            })
        };
        let others = self.context.voting_peers().filter(|peer| is_walked(*peer)).count();
        let own = usize::from(self.context.is_voter(self.context.me()));
        let is_enough = others + own >= self.context.majority();
        if !settling.own.is_done || !is_enough {
            return;
        }
        let now = self.context.now;
        let Some(settling) = &mut self.settling else { return };
        if planted!("settled-without-learning") {
            settling.floors.clear();
        }
        (settling.stage, settling.due) = (Stage::CatchingUp, Some(now));
        self.continue_settling();
    }

    /// Learns the next entities, and looks which are there.
    fn learn_floors(&mut self) {
        let now = self.context.now;
        for _ in 0..LOOKS_MAX {
            let Some(settling) = &self.settling else { return };
            let is_new = |id: &EntityId| !settling.under_way.contains(id);
            let under_way = settling.under_way.len();
            let reached = (settling.under_way.iter())
                .find(|id| self.known_chosen(**id) >= settling.floors[*id])
                .copied();
            let next = settling.floors.keys().find(|id| is_new(id)).copied();
            let next = next.filter(|_| under_way < UNDER_WAY_MAX);
            let Some(settling) = &mut self.settling else { return };
            match (reached, next) {
                (Some(id), _) => {
                    settling.under_way.remove(&id);
                    settling.floors.remove(&id);
                    self.context.counters.floors_reached += 1;
                }
                (None, Some(id)) => {
                    settling.under_way.insert(id);
                }
                (None, None) => break,
            }
        }
        let retry = now.after_us(self.context.config.retry_us);
        let Some(settling) = &mut self.settling else { return };
        settling.due = Some(retry);
        if settling.floors.is_empty() {
            let lsn = self.context.log.appended();
            settling.stage = Stage::Writing(lsn);
            self.context.log.flush();
            self.settle_written();
            return;
        }
        let waiting: Vec<(EntityId, Entry)> =
            settling.under_way.iter().map(|id| (*id, settling.floors[id])).collect();
        for (id, floor) in waiting {
            self.finish_here(id, floor);
        }
    }

    fn finish_here(&mut self, id: EntityId, floor: Entry) {
        match self.reach(id) {
            Reach::Ready => {}
            Reach::Absent if self.make_room() == Room::Made => {
                self.entities.insert(Entity::new(id));
            }
            // It is read, or there is no room: looked at again soon.
            Reach::Absent | Reach::Loading | Reach::Abstaining => return,
        }
        self.with_entity(id, |entity, context| entity.finish_here(context, floor));
    }
}
