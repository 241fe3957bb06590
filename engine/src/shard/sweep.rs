//! Sweeps: walking a peer's entities to find those this replica is behind on.
//!
//! A node that was away converges by itself this way, whether or not anyone touches the entities. A
//! sweep starts when a link comes up, when the peer says that it had to drop messages, and now and
//! then as the backstop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use net::peer::message::{PeerMessage, SweepAnswer, SweepRequest, SweptEntity};
use net::resp::slot::shard_of;
use plog::index::EntityIndex;
use plog::planted;
use plog::vocabulary::{AcceptorId, EntityId, Entry};

use crate::shard::loading::Parked;
use crate::shard::pace::CatchUpRates;
use crate::shard::{PeerCore, Reach, Room, Shard};
use crate::state_machine::StateMachine;
use crate::status::as_u64;
use crate::time::Time;

/// Entities asked for at a time.
pub(super) const PAGE: u32 = 512;

/// Entities caught up at a time; with it the memory and traffic of a sweep is bounded.
const CATCHING_UP_MAX: usize = 64;

/// An unanswered page is asked for again after this time, in microseconds.
const PATIENCE_US: u64 = 1_000_000;

#[derive(Debug)]
struct Sweep {
    /// Where the next page begins.
    after: Option<EntityId>,
    state: SweepState,
    /// Start over when this one is done.
    again: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SweepState {
    /// A page was asked for at that time.
    Asked(Time),
    /// The next page waits for the entities found behind.
    Paused,
    /// Done; the next sweep starts then.
    Resting(Time),
}

impl Sweep {
    /// When it goes on by itself.
    fn due(&self) -> Option<Time> {
        match self.state {
            SweepState::Asked(at) => Some(at.after_us(PATIENCE_US)),
            SweepState::Resting(until) => Some(until),
            SweepState::Paused => None,
        }
    }
}

/// The sweeps of all peer cores, and the entities they found.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    sweeps: BTreeMap<PeerCore, Sweep>,
    /// When the first of them is due: it is asked for after every event, and rarely changes.
    next_due: Option<Time>,
    /// What each peer showed to be missing here, and is not asked for yet.
    found: BTreeMap<AcceptorId, VecDeque<(EntityId, Entry)>>,
    catching_up: BTreeSet<EntityId>,
    /// When the pace lets the next entity be asked for, if one waits for that.
    waits_until: Option<Time>,
}

impl Sweeps {
    pub(crate) fn forget(&mut self, peer: PeerCore) {
        self.sweeps.remove(&peer);
        self.look_when_due();
    }

    /// Notes that an entity is no longer behind. Whether a sweep waited for it.
    pub(crate) fn caught_up(&mut self, id: EntityId) -> bool {
        !self.catching_up.is_empty() && self.catching_up.remove(&id)
    }

    /// Whether something that a peer showed is not caught up with yet.
    pub(crate) fn catches_up_with(&self, peer: AcceptorId) -> bool {
        !self.catching_up.is_empty() || self.found.contains_key(&peer)
    }

    pub(crate) fn behind(&self) -> usize {
        self.waiting() + self.catching_up.len()
    }

    /// Entities that are behind and not asked for yet.
    fn waiting(&self) -> usize {
        self.found.values().map(VecDeque::len).sum()
    }

    /// The next entity to ask for, among those of peers for which it `is_time`.
    fn next_found(
        &mut self,
        is_time: impl Fn(AcceptorId) -> bool,
    ) -> Option<(EntityId, Entry, AcceptorId)> {
        let (from, found) = self.found.iter_mut().find(|(from, _)| is_time(**from))?;
        let from = *from;
        let (id, chosen) = found.pop_front()?;
        if found.is_empty() {
            self.found.remove(&from);
        }
        Some((id, chosen, from))
    }

    pub(crate) fn next_due(&self) -> Option<Time> {
        self.next_due
    }

    /// When an entity that waits for the pace may be asked for.
    pub(crate) fn next_catch_up_due(&self) -> Option<Time> {
        self.waits_until
    }

    /// To be called after the state of a sweep has changed.
    fn look_when_due(&mut self) {
        self.next_due = self.sweeps.values().filter_map(Sweep::due).min();
    }
}

impl<M: StateMachine> Shard<M> {
    /// Starts a sweep of a peer's core, or makes a running one start over at its end.
    pub(super) fn start_sweep(&mut self, peer: PeerCore) {
        match self.sweeps.sweeps.get_mut(&peer) {
            Some(sweep) if !matches!(sweep.state, SweepState::Resting(_)) => sweep.again = true,
            Some(_) | None => {
                let state = SweepState::Paused;
                self.sweeps.sweeps.insert(peer, Sweep { after: None, state, again: false });
                self.ask_page(peer);
            }
        }
    }

    fn ask_page(&mut self, peer: PeerCore) {
        let now = self.context.now;
        let Some(sweep) = self.sweeps.sweeps.get_mut(&peer) else { return };
        sweep.state = SweepState::Asked(now);
        let message = PeerMessage::Sweep(SweepRequest { after: sweep.after, limit: PAGE });
        self.sweeps.look_when_due();
        self.context.send_to_core(peer, message);
    }

    /// A peer sweeps this shard.
    pub(super) fn answer_sweep(&mut self, from: PeerCore, request: SweepRequest) {
        let limit = request.limit.min(PAGE);
        let limit = usize::try_from(limit).expect("a page is small");
        let page = self.context.log.index().entities_after(request.after, limit);
        let done = page.len() < limit;
        let entities = page
            .iter()
            .map(|held| {
                // Memory may be ahead of what is durable.
                let applied =
                    self.entities.get(held.entity).map_or(Entry::ZERO, |entity| entity.applied());
                let chosen = if self.abstaining.covers(held.entity) {
                    Entry::ZERO
                } else {
                    held.chosen.max(applied)
                };
                // What is not durable was shown to nobody, and will be shown only together with
                // the asker's generation.
                let mut last = held.last.max(chosen);
                if planted!("floor-from-chosen-only") {
                    last = chosen;
                }
                SweptEntity { entity: held.entity, chosen, last }
            })
            .collect();
        // Whoever may have lost something cannot say what was promised.
        let is_whole = self.rejoining.is_none() && self.abstaining.count() == 0;
        let generation = self.context.generations.get(from.acceptor.index()).copied();
        let counts_for = generation.filter(|_| is_whole && self.context.is_replica(from.acceptor));
        let after = request.after;
        let answer = SweepAnswer { after, entities, done, counts_for };
        self.context.send_to_core(from, PeerMessage::SweepAnswer(answer));
    }

    pub(super) fn handle_sweep_answer(&mut self, from: PeerCore, answer: &SweepAnswer) {
        if self.took_rejoin_page(from, answer) {
            return;
        }
        let rest_until = self.context.now.after_us(self.context.config.sweep_every_us);
        let Some(sweep) = self.sweeps.sweeps.get_mut(&from) else { return };
        if !matches!(sweep.state, SweepState::Asked(_)) || sweep.after != answer.after {
            return; // an answer to an earlier question
        }
        sweep.after = answer.entities.last().map(|swept| swept.entity);
        sweep.state = SweepState::Paused;
        if answer.done || sweep.after.is_none() {
            self.context.counters.sweeps += 1;
            sweep.after = None;
            if !std::mem::take(&mut sweep.again) {
                sweep.state = SweepState::Resting(rest_until);
                if let Some(following) = &mut self.following {
                    following.note_swept(from);
                }
            }
        }
        self.sweeps.look_when_due();
        let config = self.context.config;
        for swept in answer.entities.iter().filter(|_| !planted!("sweep-ignored")) {
            let mine = shard_of(swept.entity, config.core_count) == config.core;
            if mine && self.known_chosen(swept.entity) < swept.chosen {
                self.context.counters.swept_behind += 1;
                let found = self.sweeps.found.entry(from.acceptor).or_default();
                found.push_back((swept.entity, swept.chosen));
            }
        }
        self.continue_catch_ups();
    }

    pub(super) fn known_chosen(&self, id: EntityId) -> Entry {
        match self.entities.get(id) {
            Some(entity) => entity.applied(),
            None => {
                let known = self.context.log.index().get(id);
                known.map_or(Entry::ZERO, EntityIndex::contiguous_chosen)
            }
        }
    }

    /// Lets the next entities catch up, then asks for the next pages.
    pub(super) fn continue_catch_ups(&mut self) {
        let now = self.context.now;
        while self.sweeps.catching_up.len() < CATCHING_UP_MAX {
            let is_time = |peer| self.pace.opens_at(peer) <= now;
            let Some((id, chosen, from)) = self.sweeps.next_found(is_time) else { break };
            if self.known_chosen(id) < chosen {
                // One that catches up already may have to go further than it knew.
                self.sweeps.catching_up.insert(id);
                self.note_behind(id, chosen, from);
            }
        }
        self.catch_up_to_floors();
        self.sweeps.waits_until = self.pace_lets_go_on_at();
        self.context.counters.catch_up_waits += u64::from(self.sweeps.waits_until.is_some());
        let (sweeps, found) = (&self.sweeps.sweeps, &self.sweeps.found);
        let paused = |(peer, sweep): (&PeerCore, &Sweep)| {
            let is_next = sweep.state == SweepState::Paused && !found.contains_key(&peer.acceptor);
            is_next.then_some(*peer)
        };
        let next: Vec<PeerCore> = sweeps.iter().filter_map(paused).collect();
        for peer in next {
            self.ask_page(peer);
        }
    }

    /// Lets the next entities below their floors catch up, while this core rejoins.
    fn catch_up_to_floors(&mut self) {
        // As many tries as there are places: one that finds no memory is tried again later.
        for _ in self.sweeps.catching_up.len()..CATCHING_UP_MAX {
            if self.pace.opens_for_all_at() > self.context.now {
                return;
            }
            let catching_up = std::mem::take(&mut self.sweeps.catching_up);
            let next = self.next_below_floor(|id| catching_up.contains(&id));
            self.sweeps.catching_up = catching_up;
            let Some(id) = next else { return };
            self.sweeps.catching_up.insert(id);
            self.note_behind(id, Entry::ZERO, self.context.me());
        }
    }

    /// When an entity that waits for the pace may be asked for, if one does.
    fn pace_lets_go_on_at(&self) -> Option<Time> {
        let catching_up = self.sweeps.catching_up.len();
        if catching_up >= CATCHING_UP_MAX {
            return None; // whichever is done first lets the next begin
        }
        let found = self.sweeps.found.keys().map(|peer| self.pace.opens_at(*peer)).min();
        let all = self.pace.opens_for_all_at();
        let floors_wait = all > self.context.now && self.floors_left() > catching_up;
        found.into_iter().chain(floors_wait.then_some(all)).min()
    }

    /// How fast this shard may catch up from now on.
    pub fn set_catch_up_rates(&mut self, rates: CatchUpRates) {
        self.pace.set_rates(rates);
        self.continue_catch_ups();
    }

    /// How fast this shard may catch up.
    #[must_use]
    pub fn catch_up_rates(&self) -> CatchUpRates {
        self.pace.rates()
    }

    /// Counts what a peer sent for catching up, asked for by a sweep or not.
    pub(super) fn count_caught_up(&mut self, from: AcceptorId, message: &PeerMessage) {
        let (entries, bytes) = match message {
            PeerMessage::CatchUpAnswer(answer) => {
                let bytes = answer.entries.iter().map(|entry| entry.value.bytes.len()).sum();
                (answer.entries.len(), bytes)
            }
            PeerMessage::Image(image) => (1, image.state.len()),
            _ => return,
        };
        let (entries, bytes) = (as_u64(entries), as_u64(bytes));
        self.context.counters.catch_up_bytes += bytes;
        self.pace.charge(self.context.now, from, entries, bytes);
    }

    /// A peer holds more of an entity than this replica does.
    pub(super) fn note_behind(&mut self, id: EntityId, chosen: Entry, from: AcceptorId) {
        match self.reach(id) {
            Reach::Ready => {}
            Reach::Absent => {
                if self.make_room() != Room::Made {
                    self.sweeps.catching_up.remove(&id);
                    if let Some(following) = &mut self.following {
                        following.note_missed();
                    }
                    return;
                }
                self.entities.insert(crate::entity::Entity::new(id));
            }
            Reach::Loading => {
                self.park(id, Parked::Behind(from, chosen));
                return;
            }
            Reach::Abstaining => {
                self.sweeps.catching_up.remove(&id);
                return;
            }
        }
        self.with_entity(id, |entity, context| entity.handle_behind(context, from, chosen));
    }

    /// Sweeps that rest, or whose question got lost.
    pub(super) fn continue_sweeps(&mut self) {
        let now = self.context.now;
        let is_due = |sweep: &Sweep| sweep.due().is_some_and(|due| due <= now);
        let due: Vec<PeerCore> = (self.sweeps.sweeps.iter())
            .filter_map(|(peer, sweep)| is_due(sweep).then_some(*peer))
            .collect();
        for peer in due {
            self.ask_page(peer);
        }
    }
}
