//! A follower's walk over all entities of a core that it follows, page by page.
//!
//! ```text
//!            ┌────────── the next page ──────────┐
//!            ▼                                   │
//! paused ──ask──▶ asked ──answer──▶ nothing that the replica showed waits
//!    ▲                                   │ the last page
//!    └────── after a while ────── resting ◀┘
//! ```
//!
//! A walk begins with a stream of notices and belongs to it: what the replica learned before the
//! stream is found by the walk, what it learns later is told. What is behind catches up as after a
//! replica's sweep. Replicas remember of each other how far they are, and compare digests of the
//! rest ([`sweep`](crate::shard::sweep)); of a follower nobody remembers anything, so it is shown
//! what there is.

use net::peer::message::{PeerMessage, SweepAnswer, SweepRequest};
use net::resp::slot::shard_of;
use plog::planted;
use plog::vocabulary::EntityId;

use crate::shard::sweep::PAGE;
use crate::shard::{PeerCore, Shard};
use crate::state_machine::StateMachine;
use crate::time::Time;

/// An unanswered page is asked for again after this time, in microseconds.
const PATIENCE_US: u64 = 1_000_000;

/// After a walk nothing should be missing any more. The next one, the backstop, begins after so
/// many times the pause of sweeps.
const REST_SWEEPS: u64 = 10;

/// See the module page.
#[derive(Debug)]
pub(super) struct Walk {
    stage: Stage,
    /// Where the next page begins.
    after: Option<EntityId>,
    /// Something that was found since it began could not be taken in, for want of memory.
    has_missed: bool,
    /// A walk came to its end, and nothing was missed since that one began.
    is_whole: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The next page waits for the entities found behind.
    Paused,
    /// A page was asked for, and is asked for again then.
    Asked(Time),
    /// Done; the next walk begins then.
    Resting(Time),
}

impl Walk {
    /// A walk that asks for its first page as soon as nothing waits of what was found before.
    pub(super) fn begun() -> Self {
        Self { stage: Stage::Paused, after: None, has_missed: false, is_whole: false }
    }

    /// What planted bugs take for a walk that has ended.
    pub(super) fn left_out() -> Self {
        Self { stage: Stage::Resting(Time(u64::MAX)), is_whole: true, ..Self::begun() }
    }

    /// Whether all was seen that the core held when its stream began, and could be asked for.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// When it goes on by itself.
    pub(super) fn due(&self) -> Option<Time> {
        match self.stage {
            Stage::Asked(until) | Stage::Resting(until) => Some(until),
            Stage::Paused => None,
        }
    }

    /// What was found could not be taken in: another walk has to find it, and begins at `retry_at`
    /// if this one is done.
    pub(super) fn note_missed(&mut self, retry_at: Time) {
        (self.is_whole, self.has_missed) = (false, true);
        if let Stage::Resting(until) = &mut self.stage {
            *until = retry_at.min(*until);
        }
    }

    fn begin_anew(&mut self) {
        *self = Self { is_whole: self.is_whole, ..Self::begun() };
    }

    /// Goes on after the time in [`Walk::due`].
    fn continue_after_pause(&mut self) {
        match self.stage {
            Stage::Asked(_) => self.stage = Stage::Paused,
            Stage::Resting(_) => self.begin_anew(),
            Stage::Paused => {}
        }
    }

    /// The last page is there.
    fn end(&mut self, now: Time, sweep_every_us: u64) {
        self.is_whole = !self.has_missed;
        let sweeps = if self.has_missed { 1 } else { REST_SWEEPS };
        self.stage = Stage::Resting(now.after_us(sweeps.saturating_mul(sweep_every_us)));
    }
}

impl<M: StateMachine> Shard<M> {
    fn walk_over(&mut self, peer: PeerCore) -> Option<&mut Walk> {
        let source = self.following.as_deref_mut()?.sources.get_mut(&peer)?;
        source.stream.as_mut().map(|stream| &mut stream.walk)
    }

    /// Asks for the next pages of walks for which nothing waits any more that was found.
    pub(in crate::shard) fn continue_page_walks(&mut self) {
        let Some(following) = self.following.as_deref() else { return };
        let is_paused = |walk: &Walk| walk.stage == Stage::Paused;
        let paused = following.walks().filter(|(_, walk)| is_paused(walk));
        let next: Vec<PeerCore> = (paused.map(|(peer, _)| peer))
            .filter(|peer| !self.catching_up.waits_for(peer.acceptor))
            .collect();
        let until = self.context.now.after_us(PATIENCE_US);
        for peer in next {
            let Some(walk) = self.walk_over(peer) else { continue };
            walk.stage = Stage::Asked(until);
            let request = SweepRequest { after: walk.after, limit: PAGE };
            self.send_sweep(peer, PeerMessage::Sweep(request));
        }
    }

    /// Walks whose question got lost, or that have rested.
    pub(super) fn continue_due_walks(&mut self) {
        let now = self.context.now;
        let Some(following) = self.following.as_deref_mut() else { return };
        for walk in following.walks_mut() {
            if walk.due().is_some_and(|due| due <= now) {
                walk.continue_after_pause();
            }
        }
        self.continue_page_walks();
    }

    /// A page of the entities of a core that is followed.
    pub(in crate::shard) fn take_walk_page(&mut self, from: PeerCore, answer: &SweepAnswer) {
        let (now, config) = (self.context.now, self.context.config);
        let Some(walk) = self.walk_over(from) else { return };
        if !matches!(walk.stage, Stage::Asked(_)) || walk.after != answer.after {
            return; // an answer to an earlier question
        }
        walk.stage = Stage::Paused;
        walk.after = answer.entities.last().map(|swept| swept.entity);
        if answer.done || walk.after.is_none() {
            walk.end(now, config.sweep_every_us);
            self.context.counters.sweeps += 1;
        }
        for swept in answer.entities.iter().filter(|_| !planted!("sweep-ignored")) {
            let is_mine = shard_of(swept.entity, config.core_count) == config.core;
            if is_mine && self.known_chosen(swept.entity) < swept.chosen {
                self.context.counters.swept_behind += 1;
                self.catching_up.add(from.acceptor, swept.entity, swept.chosen);
            }
        }
        self.continue_catch_ups();
    }
}
