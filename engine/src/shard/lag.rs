//! Who lags: up to where each core of the peers confirmed to hold what this core holds as chosen,
//! and telling one what it may lack.
//!
//! What this core holds is ordered by when it was chosen here durably ([`plog::advances`]), and cut
//! by *marks*. A peer's core that confirmed a mark lacks nothing before it. What came after is told
//! from the entities that advanced lately, or, when it lagged for so long that these were given up,
//! by a walk over all entities that leaves out those that did not advance. Who confirmed nothing in
//! this boot has to compare everything ([`digest`](crate::shard::digest)).
//!
//! Nothing of a walk is kept here: its place stands in each question.

use std::collections::BTreeMap;

use net::peer::message::{
    LagAnswer, LagCursor, LagFound, LagPage, LagPlace, LagQuestion, LagRequest, LaggingEntity,
    PeerMessage, Position,
};
use net::resp::slot::shard_of;
use plog::advances::Mark;
use plog::vocabulary::{AcceptorId, EntityId, Entry};

use crate::context::REPLICAS_MAX;
use crate::shard::digest::Held;
use crate::shard::{PeerCore, Shard};
use crate::state_machine::StateMachine;
use crate::status::as_u64;

/// Entities told at a time.
pub(super) const PAGE: usize = 512;

/// Entities looked at for one page: clients wait meanwhile.
const LOOKS_MAX: usize = 1024;

/// Up to where each core of the peers holds what this core holds, in the present generation of its
/// node and this boot of this one. As many as the peers have cores.
#[derive(Debug, Default)]
pub(crate) struct Lags {
    confirmed: BTreeMap<PeerCore, Mark>,
}

impl Lags {
    /// A later generation of a node has confirmed nothing.
    pub(crate) fn forget(&mut self, member: AcceptorId) {
        self.confirmed.retain(|peer, _| peer.acceptor != member);
    }
}

impl<M: StateMachine> Shard<M> {
    /// Whether this core remembers who lags. A follower's tells nobody anything.
    pub(super) fn keeps_lags(&self) -> bool {
        self.context.config.lag_entities_max > 0 && !self.context.config.is_follower()
    }

    /// Where this core stands now. `None` when it does not remember who lags, or marks ran out.
    pub(super) fn position(&mut self) -> Option<Position> {
        if !self.keeps_lags() {
            return None;
        }
        let mark = self.context.log.index_mut().mark_advances()?;
        Some(Position { boot: self.context.config.epoch, mark: mark.0 })
    }

    /// Takes note of what a peer's core says to hold durably. It holds that for the rest of its
    /// generation, so a late word changes nothing.
    fn note_confirmed(&mut self, from: PeerCore, position: Position) {
        let mark = Mark(position.mark);
        let is_mine = position.boot == self.context.config.epoch;
        if is_mine && self.context.log.index().advances().has_ended(mark) {
            let confirmed = self.lags.confirmed.entry(from).or_default();
            *confirmed = mark.max(*confirmed);
            self.look_who_catches_up();
            self.compare_if_in_step(from);
        }
    }

    /// What a peer's core confirmed last.
    pub(super) fn confirmed_by(&self, peer: PeerCore) -> Option<Mark> {
        self.lags.confirmed.get(&peer).copied()
    }

    /// Whether a peer's core may lack something that this one holds.
    pub(super) fn may_lack(&self, peer: PeerCore) -> bool {
        let advances = self.context.log.index().advances();
        self.lags.confirmed.get(&peer).is_none_or(|mark| advances.any_after(*mark))
    }

    /// A peer's core asks what it lacks.
    pub(super) fn answer_lag(&mut self, from: PeerCore, request: &LagRequest) {
        if let Some(position) = request.confirmed {
            self.note_confirmed(from, position);
        }
        let (to, found) = match &request.asks {
            LagQuestion::Nothing => return,
            LagQuestion::Since => {
                let to = self.position();
                (to, self.begin_page(from, request.core_count, to))
            }
            LagQuestion::More(place) => (None, self.next_page_for(from, request.core_count, place)),
            LagQuestion::Range(range) => {
                // Before anything is compared: what advances from here on comes after it.
                let to = if range.after.is_none() { self.position() } else { None };
                (to, self.compare_range(from, request, range))
            }
        };
        if let LagFound::Page(page) = &found {
            self.context.counters.lag_pages += 1;
            self.context.counters.lag_entities += as_u64(page.entities.len());
        }
        let answer = LagAnswer { question: request.question, to, found };
        self.send_sweep(from, PeerMessage::LagAnswer(answer));
    }

    fn begin_page(&mut self, from: PeerCore, core_count: u16, to: Option<Position>) -> LagFound {
        let (Some(to), Some(mark)) = (to, self.lags.confirmed.get(&from).copied()) else {
            return LagFound::Unknown;
        };
        let recent = self.context.log.index().advances().first_after(mark);
        match recent {
            Some(_) => self.context.counters.lag_recent += 1,
            None => self.context.counters.lag_walks += 1,
        }
        let cursor = recent.map_or(LagCursor::After(None), LagCursor::Recent);
        self.page(from, core_count, &LagPlace { from: mark.0, to, cursor })
    }

    fn next_page_for(&self, from: PeerCore, core_count: u16, place: &LagPlace) -> LagFound {
        if place.to.boot != self.context.config.epoch || !self.keeps_lags() {
            return LagFound::Unknown;
        }
        self.page(from, core_count, place)
    }

    fn page(&self, from: PeerCore, core_count: u16, place: &LagPlace) -> LagFound {
        let mut page = LagPage { entities: Vec::new(), from: place.from, next: None, left: None };
        let is_shared = |id| shard_of(id, core_count) == from.core;
        let index = self.context.log.index();
        let mut looked_at = 0;
        if let LagCursor::Recent(begin) = place.cursor
            && let Some(places) = index.advances().places_from(begin)
        {
            for (next, mark, id) in places.take_while(|(_, mark, _)| mark.0 <= place.to.mark) {
                looked_at += 1;
                // One that advanced again stands in a later place.
                let known = index.get(id).filter(|known| known.advanced() == mark);
                if let Some(known) = known.filter(|_| is_shared(id)) {
                    show(&mut page, id, self.tells(id, known));
                }
                if page.entities.len() == PAGE || looked_at == LOOKS_MAX {
                    page.next = Some(LagCursor::Recent(next));
                    page.left = Some(index.advances().end().saturating_sub(next));
                    break;
                }
            }
            return LagFound::Page(page);
        }
        let cursor = match place.cursor {
            LagCursor::After(cursor) => cursor,
            // Given up since it began: the walk over all entities tells those, too.
            LagCursor::Recent(_) => None,
        };
        index.walk_after(cursor, |id, known| {
            looked_at += 1;
            if known.advanced().0 > place.from && is_shared(id) {
                show(&mut page, id, self.tells(id, known));
            }
            let goes_on = page.entities.len() < PAGE && looked_at < LOOKS_MAX;
            if !goes_on {
                page.next = Some(LagCursor::After(Some(id)));
            }
            goes_on
        });
        LagFound::Page(page)
    }

    /// How many entities advanced since each replica confirmed something, at most; all that this
    /// core holds where it confirmed nothing. For this replica 0.
    pub(super) fn unconfirmed(&self) -> [u64; REPLICAS_MAX] {
        let mut unconfirmed = [0; REPLICAS_MAX];
        if !self.keeps_lags() {
            return unconfirmed;
        }
        let index = self.context.log.index();
        let all = as_u64(index.len());
        for peer in self.context.peers() {
            let cores = self.lags.confirmed.iter().filter(|(core, _)| core.acceptor == peer);
            let of_core = |(_, mark): (&PeerCore, &Mark)| {
                let first = index.advances().first_after(*mark);
                first.map_or(all, |first| index.advances().end() - first)
            };
            unconfirmed[peer.index()] = cores.map(of_core).max().unwrap_or(all);
        }
        unconfirmed
    }
}

/// Puts an entity on a page, if anything of it is chosen.
fn show(page: &mut LagPage, entity: EntityId, held: Held) {
    if held.chosen > Entry::ZERO {
        let Held { chosen, chain } = held;
        page.entities.push(LaggingEntity { entity, chosen, chain });
    }
}
