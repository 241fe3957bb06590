//! Sweeps: asking each core of the peers what this replica lacks of what it holds.
//!
//! A node that was away converges by itself this way, whether or not anyone touches the entities.
//! A walk asks what advanced since this core confirmed something; where nobody knows what it holds,
//! and now and then as the backstop, all entities are compared, range by range.
//!
//! ```text
//!            ┌────────── the next page ──────────┐
//!            ▼                                   │
//! asked ──answer──▶ paused ──nothing waits───────┘
//!                     │ the last page
//!                     ▼
//!              catching up ──all is here──▶ settling ──durable──▶ confirmed, resting
//! ```
//!
//! A walk starts when a link comes up, when the peer hints that this core may lack something, and
//! when all is to be compared. See `docs/PROTOCOL.md`, "Sweeps".

use std::collections::BTreeMap;

use net::peer::message::{
    LagAnswer, LagCursor, LagFound, LagPage, LagPlace, LagQuestion, LagRange, LagRequest,
    LaggingEntity, PeerMessage, Position, SweepAnswer, SweepRequest, SweptEntity,
};
use net::resp::slot::shard_of;
use plog::index::{EntityIndex, Index};
use plog::planted;
use plog::vocabulary::{AcceptorId, EntityId, Entry, Lsn};

use crate::context::Event;
use crate::shard::digest::{RANGE_LEAST, RANGE_MOST};
use crate::shard::rejoining::Rejoining;
use crate::shard::{PeerCore, Shard};
use crate::state_machine::StateMachine;
use crate::status::as_u64;
use crate::time::Time;

/// Entities asked for at a time by a core that rejoins, or follows.
pub(super) const PAGE: u32 = 512;

/// An unanswered page is asked for again after this time, in microseconds.
const PATIENCE_US: u64 = 1_000_000;

/// Entities that a walk found behind and that are behind still. With more of them it goes on, and
/// confirms nothing.
const OWED_MAX: usize = 4096;

/// After so many sweeps' time everything is compared with a peer that came back and is not in step
/// yet.
const WAITS_SWEEPS: u64 = 10;

/// What a walk asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// What advanced since this core confirmed something.
    Since,
    /// Everything, range by range.
    Compare,
}

#[derive(Debug)]
struct Walk {
    kind: Kind,
    /// What was asked last; asked again as it is when no answer comes.
    asked: LagRequest,
    is_first_page: bool,
    /// Where the next page of what advanced begins.
    place: Option<LagPlace>,
    /// Where the next range begins, and how many entities it takes in.
    after: Option<EntityId>,
    range: usize,
    /// What this core may confirm in the end.
    to: Option<Position>,
    /// Found behind, and behind still when it was looked at last; with the entry that was shown.
    owed: BTreeMap<EntityId, Entry>,
    /// More were behind than could be kept in mind.
    has_lost_count: bool,
    /// Entities found behind.
    missing: u64,
    /// Entities that the peer still has to tell, as far as it said.
    left: u64,
    /// When all pages were there, or something was found waiting after that.
    listed: Time,
    /// The link came up for it: a word is due when all is made up for.
    follows_absence: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Not asked anything yet.
    Fresh,
    /// A page was asked for, and is asked for again then.
    Asked(Time),
    /// The next page waits for the entities found behind.
    Paused,
    /// All pages are there, and entities are still behind; looked at again then.
    CatchingUp(Time),
    /// Nothing is behind; what was learned has to be durable up to here.
    Settling(Lsn),
    /// Done; the next walk starts then, if anything is due.
    Resting(Option<Time>),
}

/// One core of a peer while its link is up.
#[derive(Debug)]
struct Link {
    core_count: u16,
    stage: Stage,
    walk: Option<Walk>,
    /// Start over when this walk is done.
    again: bool,
    /// When that core is told that it may lack something, if it may.
    hint_at: Option<Time>,
    /// This core's own position when the link came up.
    joined: Option<Position>,
    /// Comparing everything waits for that core to be in step with this one, but no longer than
    /// this.
    compare_by: Time,
    waits_to_compare: bool,
}

impl Link {
    /// When it goes on by itself.
    fn due(&self) -> Option<Time> {
        let stage = match self.stage {
            Stage::Asked(until) => Some(until),
            Stage::CatchingUp(at) => Some(at),
            Stage::Resting(until) => until,
            Stage::Fresh | Stage::Paused | Stage::Settling(_) => None,
        };
        stage.into_iter().chain(self.hint_at).min()
    }
}

/// What is known of a core of a peer, whether its link is up or not.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Up to this position of it, this core holds everything durably that they share.
    confirmed: Option<Position>,
    /// When all is to be compared again.
    compare_at: Option<Time>,
}

/// The sweeps of all peer cores, and the entities they found.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    links: BTreeMap<PeerCore, Link>,
    known: BTreeMap<PeerCore, Known>,
    /// Questions asked.
    questions: u64,
    /// When the first of them is due: it is asked for after every event, and rarely changes.
    next_due: Option<Time>,
    /// What has to be durable for the first one that settles.
    settles_at: Option<Lsn>,
}

impl Sweeps {
    pub(crate) fn forget(&mut self, peer: PeerCore) {
        self.links.remove(&peer);
        self.look_when_due();
    }

    /// Entities that peers have to tell yet in the walks under way, as far as they said.
    pub(crate) fn left(&self) -> u64 {
        let walks = self.links.values().filter_map(|link| link.walk.as_ref());
        walks.map(|walk| walk.left).sum()
    }

    pub(crate) fn next_due(&self) -> Option<Time> {
        self.next_due
    }

    /// Whose links are up.
    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerCore> + Clone {
        self.links.keys().copied()
    }

    /// How many cores a peer has, if a link of it is up.
    pub(crate) fn core_count(&self, acceptor: AcceptorId) -> Option<u16> {
        let mut links = self.links.iter();
        links.find(|(peer, _)| peer.acceptor == acceptor).map(|(_, link)| link.core_count)
    }

    /// To be called after the stage of a walk has changed.
    fn look_when_due(&mut self) {
        self.next_due = self.links.values().filter_map(Link::due).min();
        let settling = self.links.values().filter_map(|link| match link.stage {
            Stage::Settling(lsn) => Some(lsn),
            _ => None,
        });
        self.settles_at = settling.min();
    }

    fn set_stage(&mut self, peer: PeerCore, stage: Stage) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.stage = stage;
            self.look_when_due();
        }
    }
}

impl<M: StateMachine> Shard<M> {
    /// A link from a peer's core came up.
    pub(super) fn add_sweep_link(&mut self, peer: PeerCore, core_count: u16) {
        let config = &self.context.config;
        let digest_every_us = config.digest_every_us;
        let now = self.context.now;
        // What was chosen before the link came up is durable soon after, and so can be told.
        let soon = config.lazy_flush_us + config.lazy_flush_us / 4;
        let hint_at = self.keeps_lags().then(|| now.after_us(soon.min(config.sweep_every_us)));
        let compare_by = now.after_us(WAITS_SWEEPS * config.sweep_every_us);
        let joined = self.position();
        let link = Link {
            core_count,
            stage: Stage::Fresh,
            walk: None,
            again: false,
            hint_at,
            joined,
            compare_by,
            waits_to_compare: false,
        };
        self.sweeps.links.insert(peer, link);
        let known = self.sweeps.known.entry(peer).or_default();
        if digest_every_us > 0 {
            known.compare_at.get_or_insert_with(|| now.after_us(digest_every_us));
        }
        self.sweeps.look_when_due();
        self.look_who_catches_up();
    }

    /// Notes which peers have a core that was away and has not confirmed yet what this one held
    /// when it came back: they are busy, and other work waits there.
    pub(super) fn look_who_catches_up(&mut self) {
        let mut catching_up = 0;
        for peer in self.sweeps.peers() {
            let joined = self.sweeps.links.get(&peer).and_then(|link| link.joined);
            let confirmed = self.confirmed_by(peer);
            let is_behind =
                joined.is_some_and(|joined| confirmed.is_none_or(|c| c.0 < joined.mark));
            catching_up |= u8::from(is_behind) << peer.acceptor.0;
        }
        self.context.catching_up = catching_up;
    }

    /// Sends what belongs to a sweep.
    pub(super) fn send_sweep(&mut self, peer: PeerCore, message: PeerMessage) {
        self.context.counters.sweep_messages += 1;
        self.context.send_to_core(peer, message);
    }

    /// Starts a walk that asks a peer's core what is missing here, or makes a running one start
    /// over at its end.
    pub(super) fn start_sweep(&mut self, peer: PeerCore) {
        if !self.is_between_members(peer) {
            return;
        }
        let Some(link) = self.sweeps.links.get_mut(&peer) else { return };
        match link.stage {
            _ if link.waits_to_compare => {}
            Stage::Fresh => self.begin_walk(peer, Kind::Since, true),
            Stage::Resting(_) => self.begin_walk(peer, Kind::Since, false),
            _ => link.again = true,
        }
    }

    fn begin_walk(&mut self, peer: PeerCore, kind: Kind, follows_absence: bool) {
        let asked = LagRequest {
            question: 0,
            core_count: self.context.config.core_count,
            confirmed: None,
            asks: LagQuestion::Nothing,
        };
        let walk = Walk {
            kind,
            asked,
            is_first_page: true,
            place: None,
            after: None,
            range: RANGE_LEAST,
            to: None,
            owed: BTreeMap::new(),
            has_lost_count: false,
            missing: 0,
            left: 0,
            listed: self.context.now,
            follows_absence,
        };
        let Some(link) = self.sweeps.links.get_mut(&peer) else { return };
        (link.again, link.waits_to_compare) = (false, false);
        link.walk = Some(walk);
        self.ask_page(peer);
    }

    /// Asks for the next page of a walk.
    fn ask_page(&mut self, peer: PeerCore) {
        let Some(link) = self.sweeps.links.get(&peer) else { return };
        let Some(walk) = &link.walk else { return };
        let asks = match (walk.kind, walk.place) {
            (Kind::Since, None) => LagQuestion::Since,
            (Kind::Since, Some(place)) => LagQuestion::More(place),
            (Kind::Compare, _) => {
                LagQuestion::Range(self.range_after(peer, link.core_count, walk.after, walk.range))
            }
        };
        let confirmed = self.sweeps.known.get(&peer).and_then(|known| known.confirmed);
        // An answer to a question of an earlier boot must not pass for one of this boot's.
        self.sweeps.questions += 1;
        let question = u64::from(self.context.config.epoch.0) << 32 | self.sweeps.questions;
        let link = self.sweeps.links.get_mut(&peer).expect("just seen");
        let walk = link.walk.as_mut().expect("just seen");
        walk.asked = LagRequest { question, confirmed, asks, ..walk.asked };
        self.repeat_question(peer);
    }

    fn repeat_question(&mut self, peer: PeerCore) {
        let link = self.sweeps.links.get(&peer);
        let Some(walk) = link.and_then(|link| link.walk.as_ref()) else { return };
        // The first one may be lost because the way there is not up yet, only the way back.
        let retry_us = self.context.config.retry_us;
        let patience_us = if walk.is_first_page { retry_us } else { PATIENCE_US };
        let (asked, until) = (walk.asked, self.context.now.after_us(patience_us));
        self.sweeps.set_stage(peer, Stage::Asked(until));
        self.send_sweep(peer, PeerMessage::Lag(asked));
    }

    pub(super) fn handle_lag_answer(&mut self, from: PeerCore, answer: LagAnswer) {
        let Some(link) = self.sweeps.links.get_mut(&from) else { return };
        let Some(walk) = &mut link.walk else { return };
        let is_asked = matches!(link.stage, Stage::Asked(_));
        if !is_asked || walk.asked.question != answer.question {
            return; // an answer to an earlier question
        }
        if std::mem::take(&mut walk.is_first_page) {
            walk.to = answer.to;
        }
        match (answer.found, walk.asked.asks) {
            (LagFound::Abstains, _) => self.rest(from, true),
            (LagFound::Unknown, LagQuestion::Since | LagQuestion::More(_)) => {
                let follows_absence = walk.follows_absence;
                self.compare_in_time(from, follows_absence);
            }
            (LagFound::Equal, LagQuestion::Range(range)) => self.end_equal_range(from, &range),
            (LagFound::EqualWithoutChains, LagQuestion::Range(range)) => {
                self.context.counters.digests_without_chains += 1;
                self.end_equal_range(from, &range);
            }
            (LagFound::Page(page), LagQuestion::Range(range)) => {
                self.context.counters.digests_unequal += 1;
                let after = match page.next {
                    Some(LagCursor::After(after)) => after,
                    Some(LagCursor::Recent(_)) | None => None,
                };
                let goes_on = after.is_some_and(|next| {
                    range.after.is_none_or(|before| Index::comes_after(next, before))
                });
                walk.after = after;
                walk.range = RANGE_LEAST;
                self.take_page(from, &page);
                self.end_page(from, !goes_on);
            }
            (LagFound::Page(page), LagQuestion::Since | LagQuestion::More(_)) => {
                walk.place = page.next.zip(walk.to).map(|(cursor, to)| {
                    let from = page.from;
                    LagPlace { from, to, cursor }
                });
                walk.left = page.left.unwrap_or_default();
                let is_last = walk.place.is_none();
                self.take_page(from, &page);
                self.end_page(from, is_last);
            }
            // No answer to what was asked; it is asked again.
            _ => {}
        }
        self.continue_catch_ups();
    }

    /// A range holds the same here and there: the next one may be larger.
    fn end_equal_range(&mut self, from: PeerCore, range: &LagRange) {
        self.context.counters.digests_equal += 1;
        if let Some(walk) = self.sweeps.links.get_mut(&from).and_then(|link| link.walk.as_mut()) {
            walk.after = range.last;
            walk.range = RANGE_MOST.min(2 * walk.range);
        }
        self.end_page(from, range.last.is_none());
    }

    /// Nobody knows what this core holds of a peer's core's: everything is compared. A peer that
    /// was away is about to be told what it lacks, if this core remembers it; compared before that,
    /// it would differ everywhere.
    fn compare_in_time(&mut self, peer: PeerCore, follows_absence: bool) {
        let now = self.context.now;
        let waits = self.is_about_to_be_told(peer);
        let Some(link) = self.sweeps.links.get_mut(&peer) else { return };
        if waits && now < link.compare_by {
            (link.walk, link.waits_to_compare) = (None, true);
            let until = link.compare_by;
            self.sweeps.set_stage(peer, Stage::Resting(Some(until)));
            return;
        }
        self.context.counters.sweeps_whole += 1;
        self.begin_walk(peer, Kind::Compare, follows_absence);
    }

    /// Whether a peer's core confirmed something before its link came up, and since then nothing
    /// that this core held by that time.
    fn is_about_to_be_told(&self, peer: PeerCore) -> bool {
        let joined = self.sweeps.links.get(&peer).and_then(|link| link.joined);
        let confirmed = self.confirmed_by(peer);
        joined.zip(confirmed).is_some_and(|(joined, confirmed)| confirmed.0 < joined.mark)
    }

    /// A peer's core confirmed something: what waited for that goes on.
    pub(super) fn compare_if_in_step(&mut self, peer: PeerCore) {
        let waits = self.sweeps.links.get(&peer).is_some_and(|link| link.waits_to_compare);
        if waits && !self.is_about_to_be_told(peer) {
            self.context.counters.sweeps_whole += 1;
            self.begin_walk(peer, Kind::Compare, false);
        }
    }

    /// Takes note of the entities on a page that are behind here.
    fn take_page(&mut self, from: PeerCore, page: &LagPage) {
        let config = self.context.config;
        self.forget_what_is_here(from);
        let mut owed = Vec::new();
        for lagging in page.entities.iter().filter(|_| !planted!("sweep-ignored")) {
            let LaggingEntity { entity, chosen, .. } = *lagging;
            if shard_of(entity, config.core_count) != config.core {
                continue;
            }
            if self.known_chosen(entity) < chosen {
                self.context.counters.swept_behind += 1;
                self.catching_up.add(from.acceptor, entity, chosen);
                owed.push((entity, chosen));
            } else {
                self.compare_chain(from.acceptor, lagging);
            }
        }
        let Some(walk) = self.sweeps.links.get_mut(&from).and_then(|link| link.walk.as_mut())
        else {
            return;
        };
        walk.missing += as_u64(owed.len());
        walk.owed.extend(owed);
        if walk.owed.len() > OWED_MAX {
            walk.has_lost_count = true;
            walk.owed.clear();
        }
    }

    /// A page was taken, perhaps the last one.
    fn end_page(&mut self, peer: PeerCore, is_last: bool) {
        if !is_last {
            self.sweeps.set_stage(peer, Stage::Paused);
            return;
        }
        let now = self.context.now;
        self.context.counters.sweeps += 1;
        let Some(walk) = self.sweeps.links.get_mut(&peer).and_then(|link| link.walk.as_mut())
        else {
            return;
        };
        walk.listed = now;
        let digest_every_us = self.context.config.digest_every_us;
        if walk.kind == Kind::Compare && digest_every_us > 0 {
            let known = self.sweeps.known.entry(peer).or_default();
            known.compare_at = Some(now.after_us(digest_every_us));
        }
        self.sweeps.set_stage(peer, Stage::CatchingUp(now.after_us(PATIENCE_US)));
    }

    /// Crosses out what a walk found behind and is behind no more.
    fn forget_what_is_here(&mut self, peer: PeerCore) {
        self.with_owed(peer, |shard, owed| owed.retain(|id, chosen| shard.is_owed(*id, *chosen)));
    }

    /// The same up to the first that is behind still: for what happens after each message of many.
    fn forget_first_that_are_here(&mut self, peer: PeerCore) {
        self.with_owed(peer, |shard, owed| {
            while let Some(first) = owed.first_entry()
                && !shard.is_owed(*first.key(), *first.get())
            {
                first.remove();
            }
        });
    }

    fn with_owed(
        &mut self,
        peer: PeerCore,
        change: impl FnOnce(&Self, &mut BTreeMap<EntityId, Entry>),
    ) {
        let Some(walk) = self.sweeps.links.get_mut(&peer).and_then(|link| link.walk.as_mut())
        else {
            return;
        };
        let mut owed = std::mem::take(&mut walk.owed);
        change(self, &mut owed);
        if let Some(walk) = self.sweeps.links.get_mut(&peer).and_then(|link| link.walk.as_mut()) {
            walk.owed = owed;
        }
    }

    /// Whether an entity has to catch up before anything may be confirmed. One that abstains does
    /// so in the next generation, which has confirmed nothing; and while one is in doubt, nothing
    /// is confirmed at all.
    fn is_owed(&self, id: EntityId, chosen: Entry) -> bool {
        let learns = self.entities.get(id).is_none_or(crate::entity::Entity::learns);
        self.known_chosen(id) < chosen && learns && !self.abstaining.covers(id)
    }

    /// Looks whether all that a walk found is here; then what was learned has to become durable.
    fn continue_walk(&mut self, peer: PeerCore) {
        let now = self.context.now;
        let waits = self.catching_up.waits_for(peer.acceptor);
        let is_listed = |link: &Link| matches!(link.stage, Stage::CatchingUp(_));
        if !self.sweeps.links.get(&peer).is_some_and(is_listed) {
            return;
        }
        if waits {
            // It is asked for as the pace allows.
            self.note_waiting(peer);
            return;
        }
        self.forget_first_that_are_here(peer);
        let Some(walk) = self.sweeps.links.get(&peer).and_then(|link| link.walk.as_ref()) else {
            return;
        };
        if !walk.owed.is_empty() {
            let sweep_every_us = self.context.config.sweep_every_us.max(PATIENCE_US);
            if walk.listed.after_us(sweep_every_us) <= now {
                // Others may have advanced meanwhile: from the beginning.
                self.rest(peer, true);
            }
            return;
        }
        let known = self.sweeps.known.get(&peer).copied().unwrap_or_default();
        let is_whole = !walk.has_lost_count && self.context.in_doubt == 0;
        match walk.to {
            None => self.rest(peer, false),
            Some(_) if !is_whole => self.rest(peer, true),
            Some(to) if known.confirmed == Some(to) => self.rest(peer, false),
            Some(_) => {
                let mut lsn = self.context.log.appended();
                if planted!("lag-confirmed-before-durable") {
                    lsn = Lsn::ZERO;
                }
                self.sweeps.set_stage(peer, Stage::Settling(lsn));
                self.settle_sweeps();
            }
        }
    }

    fn note_waiting(&mut self, peer: PeerCore) {
        let now = self.context.now;
        if let Some(walk) = self.sweeps.links.get_mut(&peer).and_then(|link| link.walk.as_mut()) {
            walk.listed = now;
        }
    }

    /// What is owed and not on its way, because there was no memory for it, is asked for again.
    fn ask_for_owed(&mut self, peer: PeerCore) {
        self.forget_what_is_here(peer);
        let Some(walk) = self.sweeps.links.get(&peer).and_then(|link| link.walk.as_ref()) else {
            return;
        };
        if !self.catching_up.waits_for(peer.acceptor) {
            let is_idle = |id: &EntityId| !self.catching_up.is_under_way(*id);
            let idle = walk.owed.iter().filter(|(id, _)| is_idle(id));
            let idle: Vec<(EntityId, Entry)> = idle.map(|(id, chosen)| (*id, *chosen)).collect();
            for (id, chosen) in idle {
                self.catching_up.add(peer.acceptor, id, chosen);
            }
        }
        let look_at = self.context.now.after_us(PATIENCE_US);
        self.sweeps.set_stage(peer, Stage::CatchingUp(look_at));
    }

    /// Confirms what is durable by now. Called after each write.
    pub(super) fn settle_sweeps(&mut self) {
        let durable = self.context.log.durable();
        if self.sweeps.settles_at.is_none_or(|lsn| lsn > durable) {
            return;
        }
        let is_settled = |link: &Link| matches!(link.stage, Stage::Settling(lsn) if lsn <= durable);
        let settled: Vec<PeerCore> = (self.sweeps.links.iter())
            .filter_map(|(peer, link)| is_settled(link).then_some(*peer))
            .collect();
        for peer in settled {
            self.confirm(peer);
        }
    }

    fn confirm(&mut self, peer: PeerCore) {
        let Some(walk) = self.sweeps.links.get(&peer).and_then(|link| link.walk.as_ref()) else {
            return;
        };
        let (confirmed, missing) = (walk.to, walk.missing);
        let is_news = walk.follows_absence && missing > 0;
        let request = LagRequest { confirmed, asks: LagQuestion::Nothing, ..walk.asked };
        self.sweeps.known.entry(peer).or_default().confirmed = confirmed;
        self.context.counters.lag_confirmed += 1;
        self.send_sweep(peer, PeerMessage::Lag(request));
        if is_news {
            let (member, core) = (peer.acceptor, peer.core);
            self.context.events.push_back(Event::InStep { member, core, entities: missing });
        }
        self.rest(peer, false);
    }

    /// A walk is over. One that came to nothing is tried again after a while.
    fn rest(&mut self, peer: PeerCore, tries_again: bool) {
        let retry_at = self.context.now.after_us(self.context.config.sweep_every_us);
        let compare_at = self.sweeps.known.get(&peer).and_then(|known| known.compare_at);
        let Some(link) = self.sweeps.links.get_mut(&peer) else { return };
        link.walk = None;
        let retry_at = tries_again.then_some(retry_at);
        link.stage = Stage::Resting(retry_at.into_iter().chain(compare_at).min());
        let again = std::mem::take(&mut link.again);
        self.sweeps.look_when_due();
        if again && !tries_again {
            self.begin_walk(peer, Kind::Since, false);
        }
    }

    /// A peer that rejoins, or a follower, walks all entities of this shard.
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

    pub(super) fn known_chosen(&self, id: EntityId) -> Entry {
        match self.entities.get(id) {
            Some(entity) => entity.applied(),
            None => {
                let known = self.context.log.index().get(id);
                known.map_or(Entry::ZERO, EntityIndex::contiguous_chosen)
            }
        }
    }

    /// Asks for the next pages, and looks how far the walks are that have all of them.
    pub(super) fn continue_walks(&mut self) {
        let is_open = |link: &Link| matches!(link.stage, Stage::Paused | Stage::CatchingUp(_));
        let open: Vec<(PeerCore, Stage)> = (self.sweeps.links.iter())
            .filter_map(|(peer, link)| is_open(link).then_some((*peer, link.stage)))
            .collect();
        for (peer, stage) in open {
            if stage != Stage::Paused {
                self.continue_walk(peer);
            } else if !self.catching_up.waits_for(peer.acceptor) {
                self.ask_page(peer);
            }
        }
    }

    /// Walks that rest, whose question got lost, or whose entities do not come; and hints.
    pub(super) fn continue_sweeps(&mut self) {
        let now = self.context.now;
        if self.sweeps.next_due.is_none_or(|due| due > now) {
            return;
        }
        let is_due = |link: &Link| link.due().is_some_and(|due| due <= now);
        let due: Vec<PeerCore> = (self.sweeps.links.iter())
            .filter_map(|(peer, link)| is_due(link).then_some(*peer))
            .collect();
        for peer in due {
            self.hint_if_due(peer);
            let Some(link) = self.sweeps.links.get(&peer) else { continue };
            match link.stage {
                Stage::Asked(until) if until <= now => self.repeat_question(peer),
                Stage::CatchingUp(at) if at <= now => {
                    self.ask_for_owed(peer);
                    self.continue_catch_ups();
                }
                Stage::Resting(Some(until)) if until <= now => {
                    let known = self.sweeps.known.get(&peer).copied().unwrap_or_default();
                    self.context.counters.sweeps_whole += u64::from(link.waits_to_compare);
                    let compares =
                        known.compare_at.is_some_and(|at| at <= now) || link.waits_to_compare;
                    let kind = if compares { Kind::Compare } else { Kind::Since };
                    self.begin_walk(peer, kind, false);
                }
                _ => {}
            }
        }
    }

    /// Tells a peer's core that it may lack something, now and then while that is so.
    fn hint_if_due(&mut self, peer: PeerCore) {
        let now = self.context.now;
        let next = now.after_us(self.context.config.sweep_every_us);
        let Some(link) = self.sweeps.links.get_mut(&peer) else { return };
        if link.hint_at.is_none_or(|at| at > now) {
            return;
        }
        link.hint_at = Some(next);
        self.sweeps.look_when_due();
        let is_sweeping = self.rejoining.as_ref().is_some_and(Rejoining::is_sweeping);
        if !self.is_between_members(peer) {
            return;
        }
        if !is_sweeping && !self.abstaining.is_whole_shard() && self.may_lack(peer) {
            self.context.counters.lag_hints += 1;
            self.send_sweep(peer, PeerMessage::SweepHint);
        }
    }
}
