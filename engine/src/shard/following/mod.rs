//! A core that follows: it has no vote, and holds what a replica's cores learn.
//!
//! ```text
//! follower's core                                     a replica's core
//!    │ ── Follow 1 ────────────────────────────────────▶ │ a stream begins
//!    │ ◀─────────────────────────── FollowAnswer 1, s, 0 │ all before it is durable
//!    │ ── Sweep ───────────────────────────────────────▶ │ … and what is missing is caught up
//!    │ ◀────────────────────────────── Told s, 1, 2, 3 … │ what it learns from now on
//!    │ ── Follow 2 ────────────────────────────────────▶ │
//!    │ ◀─────────────────────────── FollowAnswer 2, s, 3 │ in step as of Follow 2
//! ```
//!
//! All that the replica learned before its stream began is found by a [walk](walk) over its
//! entities, all that it learns later is told, and the numbers say whether a notice is missing:
//! then it all begins anew. So when the walk is done, the last notice told has come, and nothing
//! that was shown is missing any more, the follower holds all that the replica held when it was
//! asked. How long ago that was is the *staleness*. A connection keeps the order; on it this rests.
//!
//! When a core of the replica is silent, gone, or not whole, another replica is followed, as if
//! nothing had come of it before.
//!
//! **The door.** What makes a follower one is that its id is outside of the replica set
//! ([`ShardConfig::is_follower`]). [`Shard::handle_message`] lets nothing in but what replicas say
//! of chosen entries ([`may_hear`]), so no entity of a follower ever sees a prepare, a vote or a
//! check; and [`Shard::poll_message`] asserts that nothing leaves but questions ([`may_say`]).
//!
//! [`ShardConfig::is_follower`]: crate::config::ShardConfig::is_follower
//! [`Shard::handle_message`]: crate::shard::Shard::handle_message
//! [`Shard::poll_message`]: crate::shard::Shard::poll_message

use std::collections::{BTreeMap, VecDeque};

use net::peer::message::{
    ChosenNotice, FollowAnswer, FollowRequest, NewerNotice, PeerMessage, ToldNotice,
};
use net::resp::value::Value;
use plog::planted;
use plog::vocabulary::{AcceptorId, EntityId};

use crate::context::Event;
use crate::errors;
use crate::request::{EntityRequest, Freshness};
use crate::shard::following::walk::Walk;
use crate::shard::rejoining::shares_entities;
use crate::shard::{PeerCore, Shard};
use crate::state_machine::StateMachine;
use crate::time::Time;

mod walk;

/// A replica that left so many questions unanswered is left for another.
const PATIENCE_QUESTIONS: u64 = 5;

/// Questions whose answers still say something.
const QUESTIONS_MAX: usize = 16;

/// How a core that follows stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FollowingStatus {
    /// Whom it follows; `None` while it finds nobody.
    pub replica: Option<AcceptorId>,
    /// When it was last known to hold all that the replica held; `None`: never since it started.
    pub in_step_at: Option<Time>,
    /// Entities that it was told of and has not caught up with.
    pub lagging: usize,
}

/// One core of the replica that is followed.
#[derive(Debug)]
struct Source {
    /// Questions sent, with the time, oldest first.
    asked: VecDeque<(u64, Time)>,
    /// `None` before its first answer, and once notices are missing.
    stream: Option<Stream>,
    /// When it last answered, or began to be asked.
    heard_at: Time,
    /// It does not take this core as a follower.
    has_refused: bool,
    /// When this core was last in step with it.
    in_step_at: Option<Time>,
}

/// What a core tells. The walk is of the stream: one that began earlier says nothing of what was
/// learned between the two.
#[derive(Debug)]
struct Stream {
    name: u64,
    /// The last notice up to which all have come, or are in the walk.
    received: u64,
    walk: Walk,
}

/// See the module page.
#[derive(Debug, Default)]
pub(crate) struct Following {
    /// Cores of replicas that can be heard, each with the number of cores of its node.
    up: BTreeMap<PeerCore, u16>,
    replica: Option<AcceptorId>,
    sources: BTreeMap<PeerCore, Source>,
    /// When the next questions are due, while a replica is followed.
    renew_at: Option<Time>,
    /// Entities that miss what was shown of them, with when this core was last in step by then.
    /// They are in memory, or being loaded.
    lagging: BTreeMap<EntityId, Time>,
    in_step_at: Option<Time>,
}

impl Following {
    /// When this core was last in step with all cores that it follows, but for what lags.
    fn as_of(&self) -> Time {
        let all = self.sources.values().map(|source| source.in_step_at.unwrap_or_default());
        all.min().unwrap_or_default()
    }

    fn walks(&self) -> impl Iterator<Item = (PeerCore, &Walk)> {
        let streams =
            self.sources.iter().filter_map(|(peer, of)| Some((peer, of.stream.as_ref()?)));
        streams.map(|(peer, stream)| (*peer, &stream.walk))
    }

    fn walks_mut(&mut self) -> impl Iterator<Item = &mut Walk> {
        let streams = self.sources.values_mut().filter_map(|source| source.stream.as_mut());
        streams.map(|stream| &mut stream.walk)
    }

    pub(super) fn next_due(&self) -> Option<Time> {
        self.walks().filter_map(|(_, walk)| walk.due()).chain(self.renew_at).min()
    }

    /// An entity misses something, or nothing any more.
    pub(super) fn note_lag(&mut self, id: EntityId, is_behind: bool) {
        if is_behind {
            let as_of = self.as_of();
            self.lagging.entry(id).or_insert(as_of);
        } else {
            self.lagging.remove(&id);
        }
    }

    /// What was found could not be taken in, for want of memory: other walks have to find it, and
    /// those that are done begin anew at `retry_at`.
    pub(super) fn note_missed(&mut self, retry_at: Time) {
        for walk in self.walks_mut() {
            walk.note_missed(retry_at);
        }
    }
}

/// Whether a follower hears such a message of a replica: it says what is chosen, or answers it.
pub(super) fn may_hear(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Chosen(_)
        | PeerMessage::Newer(_)
        | PeerMessage::CatchUpAnswer(_)
        | PeerMessage::Image(_)
        | PeerMessage::SweepAnswer(_)
        | PeerMessage::SweepHint
        | PeerMessage::Generations(_)
        | PeerMessage::FollowAnswer(_)
        | PeerMessage::Told(_)
        | PeerMessage::Compared(_)
        | PeerMessage::Heartbeat => true,
        PeerMessage::Entry(_)
        | PeerMessage::ReadCheck(_)
        | PeerMessage::ReadAnswer(_)
        | PeerMessage::CatchUp(_)
        | PeerMessage::Forward(_)
        | PeerMessage::ForwardAnswer(_)
        | PeerMessage::Sweep(_)
        | PeerMessage::Finish(_)
        | PeerMessage::Lag(_)
        | PeerMessage::LagAnswer(_)
        | PeerMessage::Transfer(_)
        | PeerMessage::TransferPage(_)
        | PeerMessage::Compare(_)
        | PeerMessage::Copy(_)
        | PeerMessage::Follow(_) => planted!("follower-votes"),
    }
}

/// Whether a follower says such a thing: it asks, and says nothing that could be counted.
pub(super) fn may_say(message: &PeerMessage) -> bool {
    let asks = [PeerMessage::Heartbeat, PeerMessage::SweepHint].contains(message)
        || matches!(
            message,
            PeerMessage::Follow(_)
                | PeerMessage::Sweep(_)
                | PeerMessage::CatchUp(_)
                | PeerMessage::Compare(_)
                | PeerMessage::Copy(_)
                | PeerMessage::Generations(_)
        );
    asks || planted!("follower-votes")
}

impl<M: StateMachine> Shard<M> {
    /// How this core stands with whom it follows; `None` for a replica's.
    #[must_use]
    pub fn following(&self) -> Option<FollowingStatus> {
        let Following { replica, in_step_at, lagging, .. } = self.following.as_deref()?;
        let (replica, in_step_at) = (*replica, *in_step_at);
        Some(FollowingStatus { replica, in_step_at, lagging: lagging.len() })
    }

    /// Why a follower does not do what a client asks, if it does not.
    pub(super) fn follower_refusal(&self, request: &EntityRequest) -> Option<Value> {
        let following = self.following.as_deref()?;
        let EntityRequest::Command(command) = request else { return None };
        if M::is_write(&command.arguments) {
            return Some(errors::follower_write());
        }
        if command.freshness != Freshness::Local {
            return Some(errors::follower_read());
        }
        let Some(in_step_at) = following.in_step_at else {
            return Some(errors::follower_not_in_step());
        };
        let staleness = self.context.now.since_us(in_step_at);
        let most = self.context.config.staleness_max_us;
        (most > 0 && staleness > most).then(|| errors::follower_stale(staleness, most))
    }

    /// A core of a replica can be heard.
    pub(super) fn follow_peer_up(&mut self, peer: PeerCore, core_count: u16) {
        let Some(following) = self.following.as_deref_mut() else { return };
        following.up.insert(peer, core_count);
        if following.replica.is_none() {
            self.follow_next();
        }
    }

    /// A core of a replica can no longer be heard.
    pub(super) fn follow_peer_down(&mut self, peer: PeerCore) {
        let Some(following) = self.following.as_deref_mut() else { return };
        following.up.remove(&peer);
        if following.sources.contains_key(&peer) {
            self.follow_next();
        }
    }

    /// The cores of a replica that share entities with this one, if all can be heard.
    fn cores_to_follow(&self, replica: AcceptorId) -> Option<Vec<PeerCore>> {
        let up = &self.following.as_deref()?.up;
        let of_replica = |core| PeerCore { acceptor: replica, core };
        let (_, core_count) = up.range(of_replica(0)..=of_replica(u16::MAX)).next()?;
        let config = &self.context.config;
        let shared = (0..*core_count)
            .filter(|core| shares_entities((*core, *core_count), (config.core, config.core_count)));
        let cores: Vec<PeerCore> = shared.map(of_replica).collect();
        cores.iter().all(|core| up.contains_key(core)).then_some(cores)
    }

    /// Follows the next replica that can be heard, the same one if there is no other.
    fn follow_next(&mut self) {
        let before = self.following.as_deref().and_then(|following| following.replica);
        // Followers spread over the replicas by their ids.
        let me = self.context.me().0;
        let first = before.map_or(me, |before| before.0 + 1);
        let mut order = self.context.replicas_from(first.into());
        let next = order.find_map(|replica| Some((replica, self.cores_to_follow(replica)?)));
        let now = self.context.now;
        let Some(following) = self.following.as_deref_mut() else { return };
        following.sources.clear();
        following.replica = next.as_ref().map(|(replica, _)| *replica);
        following.renew_at = None;
        if following.replica != before {
            let replica = following.replica;
            self.context.events.push_back(Event::Follows { replica });
            let has_failed_over = before.is_some() && replica.is_some();
            self.context.counters.failovers += u64::from(has_failed_over);
        }
        let Some((_, cores)) = next else { return };
        for core in cores {
            let source = Source {
                asked: VecDeque::new(),
                stream: None,
                heard_at: now,
                has_refused: false,
                in_step_at: None,
            };
            following.sources.insert(core, source);
        }
        self.ask_on();
    }

    /// Asks all cores that are followed to tell on.
    fn ask_on(&mut self) {
        let (now, every) = (self.context.now, self.context.config.follow_every_us);
        let core_count = self.context.config.core_count;
        let Some(following) = self.following.as_deref_mut() else { return };
        following.renew_at = Some(now.after_us(every));
        for (peer, source) in &mut following.sources {
            self.context.next_follow += 1;
            let number = self.context.next_follow;
            if source.asked.len() >= QUESTIONS_MAX {
                source.asked.pop_front();
            }
            source.asked.push_back((number, now));
            let stream = source.stream.as_ref().map(|stream| stream.name);
            let request = FollowRequest { number, stream, core_count };
            self.context.send_to_core(*peer, PeerMessage::Follow(request));
        }
    }

    /// Time passed: asks again, or turns to another replica.
    pub(super) fn continue_following(&mut self) {
        self.continue_due_walks();
        let now = self.context.now;
        let patience = PATIENCE_QUESTIONS * self.context.config.follow_every_us;
        let Some(following) = self.following.as_deref() else { return };
        if following.renew_at.is_none_or(|due| due > now) {
            return;
        }
        let is_lost =
            |source: &Source| source.has_refused || source.heard_at.after_us(patience) <= now;
        if following.sources.values().any(is_lost) {
            self.follow_next();
        } else {
            self.ask_on();
        }
    }

    /// A replica's core tells this one, or does not.
    pub(super) fn handle_follow_answer(&mut self, from: PeerCore, answer: FollowAnswer) {
        let now = self.context.now;
        let Some(following) = self.following.as_deref_mut() else { return };
        let Some(source) = following.sources.get_mut(&from) else { return };
        let Some(place) = source.asked.iter().position(|(number, _)| *number == answer.number)
        else {
            return; // to a question of long ago, or answered already
        };
        let (_, asked_at) = source.asked[place];
        source.asked.drain(..=place);
        let Some(stream) = answer.stream else {
            source.has_refused = true;
            return;
        };
        source.heard_at = now;
        let Some(known) = source.stream.as_ref().filter(|known| known.name == stream) else {
            let is_left_out = if planted!("walk-of-an-earlier-stream") {
                source.in_step_at.is_some()
            } else {
                planted!("fail-over-without-sweep") && self.context.counters.failovers > 0
            };
            let walk = if is_left_out { Walk::left_out() } else { Walk::begun() };
            source.stream = Some(Stream { name: stream, received: answer.told, walk });
            self.context.counters.streams_followed += 1;
            self.continue_page_walks();
            return;
        };
        if answer.told != known.received {
            self.note_gap(from, answer.told);
            return;
        }
        if !known.walk.is_whole() || self.catching_up.is_busy_with(from.acceptor) {
            return;
        }
        source.in_step_at = Some(asked_at);
        if following.sources.values().any(|source| source.in_step_at.is_none()) {
            return;
        }
        let lagging = following.lagging.values().min().copied();
        let as_of = lagging.map_or(following.as_of(), |lagging| lagging.min(following.as_of()));
        if as_of > Time::default() {
            following.in_step_at = following.in_step_at.max(Some(as_of));
        }
    }

    /// Notices of a stream up to `told` are lost. What they told of need not be durable there yet,
    /// so a walk would not have to find it: another stream begins, as if there had been none.
    fn note_gap(&mut self, from: PeerCore, told: u64) {
        let Some(following) = self.following.as_deref_mut() else { return };
        let Some(source) = following.sources.get_mut(&from) else { return };
        self.context.counters.told_lost += 1;
        if let Some(stream) = &mut source.stream
            && planted!("told-gap-ignored")
        {
            stream.received = stream.received.max(told);
            return;
        }
        // Answers to what was asked before are about the stream that has a gap.
        source.asked.clear();
        source.stream = None;
    }

    /// A replica tells of an entry that it has applied.
    pub(super) fn handle_told(&mut self, from: PeerCore, told: ToldNotice) {
        let Some(following) = self.following.as_deref_mut() else { return };
        let source = following.sources.get_mut(&from);
        let stream = source.and_then(|source| source.stream.as_mut());
        let stream = stream.filter(|stream| stream.name == told.stream);
        let expected = stream.as_ref().map_or(0, |stream| stream.received + 1);
        let is_next = expected == told.number;
        if let Some(stream) = stream.filter(|_| is_next) {
            stream.received = told.number;
        }
        if expected > 0 && told.number > expected {
            self.note_gap(from, told.number);
        }
        self.context.counters.told_received += 1;
        let (id, entry) = (told.entity, told.entry);
        let refused = self.context.counters.messages_refused;
        let message = match told.value {
            Some(value) => PeerMessage::Chosen(ChosenNotice {
                entity: id,
                entry,
                ballot: value.ballot,
                value_id: value.value.id,
                chain: told.chain,
                value: Some(value.value.bytes),
            }),
            None => PeerMessage::Newer(NewerNotice { entity: id, max_chosen: entry }),
        };
        self.message_for_entity(from, message);
        let following = self.following.as_deref_mut().expect("just seen");
        if self.loading.contains_key(&id) {
            following.note_lag(id, true);
        }
        if self.context.counters.messages_refused > refused {
            // No memory for it, or no room: as good as lost.
            self.note_gap(from, 0);
        }
    }
}
