//! Entities that sweeps found behind catch up: so many at a time, and as fast as the pace allows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use net::peer::message::{EntityImage, PeerMessage};
use plog::vocabulary::{AcceptorId, EntityId, Entry};

use crate::entity::Entity;
use crate::shard::loading::Parked;
use crate::shard::pace::{CatchUpRates, IMAGE_ENTRIES};
use crate::shard::{Reach, Room, Shard};
use crate::state_machine::StateMachine;
use crate::status::as_u64;
use crate::time::Time;

/// Entities known to be behind. A walk asks for its next page when nothing waits that its peer
/// showed, so those that wait are no more than a page of each core of the peers.
#[derive(Debug, Default)]
pub(crate) struct CatchingUp {
    /// What each peer showed to be missing here, and is not asked for yet.
    found: BTreeMap<AcceptorId, VecDeque<(EntityId, Entry)>>,
    under_way: BTreeSet<EntityId>,
    /// When the pace lets the next entity be asked for, if one waits for that.
    waits_until: Option<Time>,
}

impl CatchingUp {
    /// Notes what a peer showed to be missing here.
    pub(crate) fn add(&mut self, from: AcceptorId, entity: EntityId, chosen: Entry) {
        self.found.entry(from).or_default().push_back((entity, chosen));
    }

    /// Whether something waits that a peer showed.
    pub(crate) fn waits_for(&self, peer: AcceptorId) -> bool {
        self.found.contains_key(&peer)
    }

    /// Whether something that a peer showed may not be caught up with yet.
    pub(crate) fn is_busy_with(&self, peer: AcceptorId) -> bool {
        !self.under_way.is_empty() || self.waits_for(peer)
    }

    /// Whether an entity was asked for.
    pub(crate) fn is_under_way(&self, id: EntityId) -> bool {
        self.under_way.contains(&id)
    }

    /// Notes that an entity is no longer behind. Whether a sweep waited for it.
    pub(crate) fn caught_up(&mut self, id: EntityId) -> bool {
        !self.under_way.is_empty() && self.under_way.remove(&id)
    }

    pub(crate) fn behind(&self) -> usize {
        self.found.values().map(VecDeque::len).sum::<usize>() + self.under_way.len()
    }

    /// When an entity that waits for the pace may be asked for.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.waits_until
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
}

impl<M: StateMachine> Shard<M> {
    /// Lets the next entities catch up, then asks for the next pages.
    pub(super) fn continue_catch_ups(&mut self) {
        if self.is_transferring() {
            // One by one comes what the transfer leaves.
            self.catching_up.waits_until = None;
            self.continue_walks();
            return;
        }
        let now = self.context.now;
        let window = self.pace.window();
        while self.catching_up.under_way.len() < window {
            let is_time = |peer| self.pace.opens_at(peer) <= now;
            let Some((id, chosen, from)) = self.catching_up.next_found(is_time) else { break };
            if self.known_chosen(id) < chosen {
                // One that catches up already may have to go further than it knew.
                self.catching_up.under_way.insert(id);
                self.note_behind(id, chosen, from);
            }
        }
        self.catch_up_to_floors();
        self.catching_up.waits_until = self.pace_lets_go_on_at();
        self.context.counters.catch_up_waits += u64::from(self.catching_up.waits_until.is_some());
        self.continue_walks();
        self.continue_page_walks();
    }

    /// Lets the next entities below their floors catch up, while this core rejoins.
    fn catch_up_to_floors(&mut self) {
        // As many tries as there are places: one that finds no memory is tried again later.
        for _ in self.catching_up.under_way.len()..self.pace.window() {
            if self.pace.opens_for_all_at() > self.context.now {
                return;
            }
            let catching_up = std::mem::take(&mut self.catching_up.under_way);
            let next = self.next_below_floor(|id| catching_up.contains(&id));
            self.catching_up.under_way = catching_up;
            let Some(id) = next else { return };
            self.catching_up.under_way.insert(id);
            self.note_behind(id, Entry::ZERO, self.context.me());
        }
    }

    /// When an entity that waits for the pace may be asked for, if one does.
    fn pace_lets_go_on_at(&self) -> Option<Time> {
        let catching_up = self.catching_up.under_way.len();
        if catching_up >= self.pace.window() {
            return None; // whichever is done first lets the next begin
        }
        let found = self.catching_up.found.keys().map(|peer| self.pace.opens_at(*peer)).min();
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

    /// Counts what a peer sent for catching up, asked for by a sweep or not, and by itself.
    pub(super) fn count_caught_up(&mut self, from: AcceptorId, message: &PeerMessage) {
        let (entries, bytes) = match message {
            PeerMessage::CatchUpAnswer(answer) => {
                let bytes = answer.entries.iter().map(|entry| entry.value.bytes.len()).sum();
                (as_u64(answer.entries.len()), bytes)
            }
            PeerMessage::Image(image) => (IMAGE_ENTRIES, image.state.len()),
            _ => return,
        };
        self.count_caught_up_as(from, entries, bytes);
    }

    /// Counts a whole entity that came with others on a page.
    pub(super) fn count_transferred(&mut self, from: AcceptorId, image: &EntityImage) {
        self.count_caught_up_as(from, 1, image.state.len());
    }

    fn count_caught_up_as(&mut self, from: AcceptorId, entries: u64, bytes: usize) {
        let bytes = as_u64(bytes);
        self.context.counters.catch_up_bytes += bytes;
        self.pace.charge(self.context.now, from, entries, bytes);
    }

    /// A peer holds more of an entity than this replica does.
    pub(super) fn note_behind(&mut self, id: EntityId, chosen: Entry, from: AcceptorId) {
        match self.reach(id) {
            Reach::Ready => {}
            Reach::Absent => {
                if self.make_room() != Room::Made {
                    self.catching_up.under_way.remove(&id);
                    let retry_at = self.context.now.after_us(self.context.config.sweep_every_us);
                    if let Some(following) = &mut self.following {
                        following.note_missed(retry_at);
                    }
                    return;
                }
                self.entities.insert(Entity::new(id));
            }
            Reach::Loading => {
                self.park(id, Parked::Behind(from, chosen));
                return;
            }
            Reach::Abstaining => {
                self.catching_up.under_way.remove(&id);
                return;
            }
        }
        self.with_entity(id, |entity, context| entity.handle_behind(context, from, chosen));
    }
}
