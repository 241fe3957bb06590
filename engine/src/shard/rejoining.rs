//! Voting again after a loss: what a core without its log has to learn before it takes part.
//!
//! ```text
//! sweeping ──f + 1 others swept──▶ catching up ──no floor left──▶ settling ──durable──▶ as ever
//! ```
//!
//! While it *sweeps* the core votes for nothing. It walks all entities of f + 1 other replicas,
//! each of which knows this generation durably and tells the last entry of which it holds anything.
//! The highest of these is the entity's *floor*: what this replica forgot of later entries can no
//! longer be counted by anybody. An entity that has applied its floor takes part again; the others
//! decide the entries up to it. When all have, and what was learned is durable, the core is whole.
//! See `docs/PROTOCOL.md`, "Rejoining".

use std::collections::BTreeMap;

use net::peer::message::{PeerMessage, SweepAnswer, SweepRequest};
use net::resp::slot::shard_of;
use plog::checkpoint::pointer::Pointer;
use plog::planted;
use plog::recovery::RecoveredTail;
use plog::vocabulary::{AcceptorId, EntityId, Entry, Lsn};

use crate::abstention::Abstention;
use crate::context::Event;
use crate::shard::sweep::PAGE;
use crate::shard::{PeerCore, Shard};
use crate::state_machine::StateMachine;
use crate::time::Time;

/// An unanswered page, or one that did not count, is asked for again after so many times the retry.
const PATIENCE_RETRIES: u64 = 4;

/// How far the walk through one core of a peer is.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    after: Option<EntityId>,
    /// When a page was asked for, while its link is up.
    asked: Option<Time>,
    is_up: bool,
    is_done: bool,
}

#[derive(Debug)]
enum Stage {
    Sweeping(BTreeMap<PeerCore, Walk>),
    CatchingUp,
    /// All floors are reached; what was learned has to be durable up to here.
    Settling(Lsn),
}

/// See the module page.
#[derive(Debug)]
pub(crate) struct Rejoining {
    cause: Abstention,
    stage: Stage,
    /// How many cores each peer has, as far as it was met.
    core_counts: BTreeMap<AcceptorId, u16>,
    /// Where the next entity to catch up is looked for.
    cursor: Option<EntityId>,
}

impl Rejoining {
    pub(super) fn is_sweeping(&self) -> bool {
        matches!(self.stage, Stage::Sweeping(_))
    }

    pub(super) fn cause(&self) -> Abstention {
        self.cause
    }
}

impl<M: StateMachine> Shard<M> {
    /// Ends recovery of a core that lost its log before this generation: `tail` and `checkpoint`
    /// are of what it logged in this generation, if anything. It votes when it knows what it may.
    ///
    /// # Panics
    ///
    /// When recovery was finished before, or the loss was in this generation.
    pub fn finish_recovery_rejoining(
        &mut self,
        tail: Option<RecoveredTail>,
        checkpoint: Option<Pointer>,
        cause: Abstention,
    ) {
        if self.context.config.is_follower() {
            // It promised nothing, so that there is nothing it must not vote on.
            self.finish_recovery(tail, checkpoint);
            self.context.events.push_back(Event::BegunAnew);
            return;
        }
        assert!(
            cause.since.generation() < self.context.config.epoch.generation(),
            "what was lost in a generation is made up for by the next"
        );
        self.finish_recovery(tail, checkpoint);
        let stage = Stage::Sweeping(BTreeMap::new());
        let core_counts = BTreeMap::new();
        self.rejoining = Some(Rejoining { cause, stage, core_counts, cursor: None });
    }

    /// Why the core is not whole, while it rejoins.
    #[must_use]
    pub fn rejoins(&self) -> Option<Abstention> {
        self.rejoining.as_ref().map(Rejoining::cause)
    }

    /// Whether this replica must not vote on the entity yet.
    pub(super) fn is_rejoining(&self, id: EntityId) -> bool {
        let Some(rejoining) = &self.rejoining else { return false };
        rejoining.is_sweeping() || self.context.floors.contains_key(&id)
    }

    /// Entities that may not take part yet; while it sweeps, those found so far.
    pub(super) fn rejoin_left(&self) -> u64 {
        let left = u64::try_from(self.context.floors.len()).expect("a count fits 64 bits");
        let sweeps = self.rejoining.as_ref().is_some_and(Rejoining::is_sweeping);
        left.max(u64::from(sweeps))
    }

    pub(super) fn next_rejoin_due(&self) -> Option<Time> {
        let Stage::Sweeping(walks) = &self.rejoining.as_ref()?.stage else { return None };
        let patience = PATIENCE_RETRIES * self.context.config.retry_us;
        let asked = walks.values().filter(|walk| walk.is_up && !walk.is_done);
        asked.filter_map(|walk| walk.asked).map(|at| at.after_us(patience)).min()
    }

    /// A link from a peer's core is up: it can be swept.
    pub(super) fn rejoin_peer_up(&mut self, peer: PeerCore, core_count: u16) {
        let Some(rejoining) = &mut self.rejoining else { return };
        rejoining.core_counts.insert(peer.acceptor, core_count);
        let Stage::Sweeping(walks) = &mut rejoining.stage else { return };
        let walk = walks.entry(peer).or_default();
        walk.is_up = true;
        if !walk.is_done {
            self.ask_rejoin_page(peer);
        }
    }

    pub(super) fn rejoin_peer_down(&mut self, peer: PeerCore) {
        if let Some(Rejoining { stage: Stage::Sweeping(walks), .. }) = &mut self.rejoining
            && let Some(walk) = walks.get_mut(&peer)
        {
            (walk.is_up, walk.asked) = (false, None);
        }
    }

    /// What was said in an earlier configuration does not count in this one.
    pub(super) fn forget_all_rejoin_sweeps(&mut self) {
        (0..self.context.config.replicas)
            .for_each(|member| self.forget_rejoin_sweeps(AcceptorId(member)));
    }

    /// A peer is of another generation: what its earlier one said is said by nobody any more.
    pub(super) fn forget_rejoin_sweeps(&mut self, member: AcceptorId) {
        if let Some(Rejoining { stage: Stage::Sweeping(walks), .. }) = &mut self.rejoining {
            for (_, walk) in walks.iter_mut().filter(|(peer, _)| peer.acceptor == member) {
                (walk.after, walk.is_done) = (None, false);
            }
        }
    }

    fn ask_rejoin_page(&mut self, peer: PeerCore) {
        let now = self.context.now;
        let Some(Rejoining { stage: Stage::Sweeping(walks), .. }) = &mut self.rejoining else {
            return;
        };
        let Some(walk) = walks.get_mut(&peer) else { return };
        walk.asked = Some(now);
        let message = PeerMessage::Sweep(SweepRequest { after: walk.after, limit: PAGE });
        self.context.send_to_core(peer, message);
    }

    /// A page of a peer's entities: taken if the core rejoins and still sweeps.
    pub(super) fn take_rejoin_page(&mut self, from: PeerCore, answer: &SweepAnswer) {
        let generation = self.context.config.epoch.generation();
        let config = self.context.config;
        let Some(Rejoining { stage: Stage::Sweeping(walks), .. }) = &mut self.rejoining else {
            return;
        };
        let Some(walk) = walks.get_mut(&from) else { return };
        let is_current = walk.asked.is_some() && !walk.is_done && walk.after == answer.after;
        // A word that does not count is asked for again later.
        if !is_current || answer.counts_for != Some(generation) {
            return;
        }
        let is_mine = |entity| shard_of(entity, config.core_count) == config.core;
        for swept in answer.entities.iter().filter(|swept| is_mine(swept.entity)) {
            let known = self.context.floors.len();
            let floor = self.context.floors.get_mut(&swept.entity);
            match floor {
                Some(floor) => *floor = swept.last.max(*floor),
                None if known >= config.entities_max => {
                    // More than this core may hold: it goes on abstaining.
                    self.context.counters.messages_refused += 1;
                    return;
                }
                None if swept.last == Entry::ZERO => {}
                None => {
                    self.context.floors.insert(swept.entity, swept.last);
                }
            }
        }
        walk.after = answer.entities.last().map(|swept| swept.entity);
        walk.is_done = answer.done || walk.after.is_none();
        walk.asked = None;
        if walk.is_done {
            self.context.counters.sweeps += 1;
            self.end_sweeping_if_enough();
        } else {
            self.ask_rejoin_page(from);
        }
    }

    /// How many other replicas have to be swept: so many that every majority that this replica's
    /// forgotten vote could be counted with has one of them.
    fn sweeps_needed(&self) -> usize {
        let needed = self.context.majority();
        if planted!("rejoin-trusts-one-sweep") { needed - 1 } else { needed }
    }

    fn end_sweeping_if_enough(&mut self) {
        let config = self.context.config;
        let Some(Rejoining { stage: Stage::Sweeping(walks), core_counts, .. }) = &self.rejoining
        else {
            return;
        };
        let is_swept = |peer: AcceptorId| {
            let Some(count) = core_counts.get(&peer).copied() else { return false };
            let own = (config.core, config.core_count);
            let mut cores = (0..count).filter(|core| shares_entities((*core, count), own));
            cores.all(|core| {
                walks.get(&PeerCore { acceptor: peer, core }).is_some_and(|walk| walk.is_done)
            })
        };
        let swept = self.context.voting_peers().filter(|peer| is_swept(*peer)).count();
        if swept < self.sweeps_needed() {
            return;
        }
        let up: Vec<PeerCore> =
            walks.iter().filter_map(|(peer, walk)| walk.is_up.then_some(*peer)).collect();
        let mut floors = std::mem::take(&mut self.context.floors);
        floors.retain(|id, floor| self.known_chosen(*id) < *floor);
        if planted!("rejoin-votes-early") {
            floors.clear();
        }
        self.context.floors = floors;
        let left = self.context.floors.len();
        self.context.events.push_back(Event::Swept { entities: left });
        self.rejoining.as_mut().expect("just seen").stage = Stage::CatchingUp;
        for peer in up {
            self.start_sweep(peer);
        }
        self.begin_transfer();
        self.continue_catch_ups();
        self.continue_rejoining();
    }

    /// How many entities have to catch up to their floors now.
    pub(super) fn floors_left(&self) -> usize {
        let may_begin = self.rejoining.as_ref().is_some_and(|rejoining| !rejoining.is_sweeping());
        if may_begin { self.context.floors.len() } else { 0 }
    }

    /// The next entity below its floor that does not catch up yet.
    pub(super) fn next_below_floor(
        &mut self,
        is_catching_up: impl Fn(EntityId) -> bool,
    ) -> Option<EntityId> {
        let rejoining = self.rejoining.as_mut()?;
        if rejoining.is_sweeping() {
            return None;
        }
        let floors = &self.context.floors;
        let begin = rejoining.cursor.map_or(EntityId(0), |last| EntityId(last.0.wrapping_add(1)));
        let mut ids = floors.range(begin..).chain(floors.range(..begin)).map(|(id, _)| *id);
        let next = ids.find(|id| !is_catching_up(*id))?;
        rejoining.cursor = Some(next);
        Some(next)
    }

    /// An entity has applied all up to `applied`. Whether that was the floor it had to reach.
    pub(super) fn reach_floor(&mut self, id: EntityId, applied: Entry) -> bool {
        let is_reached = self.context.floors.get(&id).is_some_and(|floor| *floor <= applied);
        let sweeps = self.rejoining.as_ref().is_none_or(Rejoining::is_sweeping);
        if !is_reached || sweeps {
            return false;
        }
        self.context.floors.remove(&id);
        self.context.counters.floors_reached += 1;
        true
    }

    /// Goes on with whatever the rejoining waits for.
    pub(super) fn continue_rejoining(&mut self) {
        let Some(rejoining) = &mut self.rejoining else { return };
        match &rejoining.stage {
            Stage::Sweeping(walks) => {
                let now = self.context.now;
                let patience = PATIENCE_RETRIES * self.context.config.retry_us;
                let is_due = |walk: &Walk| {
                    let is_silent = walk.asked.is_none_or(|at| at.after_us(patience) <= now);
                    walk.is_up && !walk.is_done && is_silent
                };
                let due: Vec<PeerCore> = (walks.iter())
                    .filter_map(|(peer, walk)| is_due(walk).then_some(*peer))
                    .collect();
                for peer in due {
                    self.ask_rejoin_page(peer);
                }
            }
            Stage::CatchingUp if self.context.floors.is_empty() => {
                let lsn = self.context.log.appended();
                rejoining.stage = Stage::Settling(lsn);
                self.context.log.flush();
                self.continue_rejoining();
            }
            Stage::CatchingUp => {}
            Stage::Settling(lsn) if *lsn <= self.context.log.durable() => {
                self.rejoining = None;
                self.context.counters.rejoins += 1;
                self.context.events.push_back(Event::Rejoined);
            }
            Stage::Settling(_) => {}
        }
    }
}

/// Whether two cores, each with the number of cores of its node, own entities in common.
pub(super) fn shares_entities((a, a_count): (u16, u16), (b, b_count): (u16, u16)) -> bool {
    let common = greatest_common_divisor(a_count, b_count);
    a % common == b % common
}

fn greatest_common_divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
