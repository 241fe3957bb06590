//! The followers of this core: cores of nodes without a vote that are told of every entry that it
//! learns.
//!
//! A follower asks for it and goes on asking; whoever does not is forgotten. Nothing here waits for
//! a follower: what cannot be sent to it is dropped by the world, and it finds out by the numbers
//! of the notices. Their list is short, and nothing is kept for them beside it.
//!
//! Until a follower shows that it knows its stream, each answer waits until all that was appended
//! by then is durable. A sweep answers from what is durable, so whatever was learned before that
//! answer is in a sweep that begins after it; what is learned later is told. Whoever no longer
//! knows the stream that it knew begins another. See [`following`](crate::shard::following) for the
//! other side.

use std::rc::Rc;

use net::peer::message::{
    CarriedValue, FollowAnswer, FollowRequest, PeerMessage, ToldNotice, ToldValue,
};
use net::resp::slot::shard_of;
use plog::planted;
use plog::vocabulary::{Ballot, EntityId, Entry, Lsn, ValueId};

use crate::context::{Context, Gated, Outgoing};
use crate::shard::{PeerCore, Shard};
use crate::state_machine::StateMachine;
use crate::time::Time;

/// Cores of followers that one core tells; further ones are refused, and go elsewhere.
pub const FOLLOWERS_MAX: usize = 64;

/// A follower is told on for so many times the pause between its questions.
const LEASE_QUESTIONS: u64 = 10;

#[derive(Debug)]
struct Follower {
    peer: PeerCore,
    /// Cores of its node.
    core_count: u16,
    stream: u64,
    /// Notices of the stream so far.
    told: u64,
    /// It is told until then, unless it asks again.
    until: Time,
    /// It knows the stream, and has swept or sweeps what was before.
    knows_stream: bool,
}

/// See the module page.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    list: Vec<Follower>,
}

impl Followers {
    /// Cores that are told now.
    pub(crate) fn count(&self, now: Time) -> usize {
        self.list.iter().filter(|follower| follower.until > now).count()
    }

    fn forget(&mut self, peer: PeerCore) {
        self.list.retain(|follower| follower.peer != peer);
    }
}

impl Context {
    /// Tells the followers that own the entity of an entry that is applied here now.
    pub(crate) fn tell_followers(
        &mut self,
        entity: EntityId,
        entry: Entry,
        chain: u32,
        value: Option<(Ballot, ValueId, &Rc<[u8]>)>,
    ) {
        if self.followers.list.is_empty() {
            return;
        }
        let now = self.now;
        self.followers.list.retain(|follower| follower.until > now);
        for follower in &mut self.followers.list {
            if shard_of(entity, follower.core_count) != follower.peer.core {
                continue;
            }
            follower.told += 1;
            self.counters.told += 1;
            let (stream, number) = (follower.stream, follower.told);
            let value = value.map(|(ballot, id, bytes)| {
                let value = CarriedValue { id, bytes: Rc::clone(bytes) };
                ToldValue { ballot, value }
            });
            let notice = ToldNotice { stream, number, entity, entry, chain, value };
            let (to, core) = (follower.peer.acceptor, Some(follower.peer.core));
            self.messages.push_back(Outgoing { to, core, message: PeerMessage::Told(notice) });
        }
    }

    /// The stream of a follower that asks, an old one or a new one, and what must be durable before
    /// it is told of it; `None` when there are too many.
    fn stream_for(&mut self, peer: PeerCore, request: FollowRequest) -> Option<(&Follower, Lsn)> {
        let FollowRequest { stream, core_count, .. } = request;
        let now = self.now;
        let until = now.after_us(LEASE_QUESTIONS * self.config.follow_every_us);
        let followers = &mut self.followers.list;
        followers.retain(|known| known.until > now);
        followers.retain(|known| {
            let goes_on = !known.knows_stream || stream == Some(known.stream);
            known.peer != peer || known.core_count == core_count && goes_on
        });
        let place = match followers.iter().position(|known| known.peer == peer) {
            Some(place) => place,
            None if followers.len() >= FOLLOWERS_MAX => return None,
            None => {
                self.next_stream += 1;
                let (stream, knows_stream) = (self.next_stream, false);
                followers.push(Follower { peer, core_count, stream, told: 0, until, knows_stream });
                followers.len() - 1
            }
        };
        let follower = &mut followers[place];
        follower.until = until;
        follower.knows_stream |= stream == Some(follower.stream);
        if follower.knows_stream {
            return Some((follower, Lsn::ZERO));
        }
        self.log.flush();
        Some((follower, self.log.appended()))
    }
}

impl<M: StateMachine> Shard<M> {
    /// A follower's core asks to be told.
    pub(super) fn handle_follow(&mut self, from: PeerCore, request: FollowRequest) {
        let number = request.number;
        let found = if self.may_tell() { self.context.stream_for(from, request) } else { None };
        let Some((follower, needs)) = found else {
            self.refuse_follower(from, number);
            return;
        };
        let answer = FollowAnswer { number, stream: Some(follower.stream), told: follower.told };
        if needs <= self.context.log.durable() || planted!("stream-before-durable") {
            self.answer_follower(from, answer);
        } else {
            self.context.gate.hold(needs, Gated::FollowAnswer(from, answer));
        }
    }

    /// Whether this core votes and is whole: what it does not hear itself, it would not tell.
    fn may_tell(&self) -> bool {
        self.context.is_voter(self.context.me())
            && self.rejoining.is_none()
            && self.abstaining.count() == 0
            && self.context.in_doubt == 0
    }

    /// Tells a follower of its stream, if this core is whole still.
    pub(super) fn answer_follower(&mut self, to: PeerCore, answer: FollowAnswer) {
        if self.may_tell() {
            self.context.send_to_core(to, PeerMessage::FollowAnswer(answer));
        } else {
            self.refuse_follower(to, answer.number);
        }
    }

    fn refuse_follower(&mut self, to: PeerCore, number: u64) {
        self.context.counters.follows_refused += 1;
        self.forget_follower(to);
        let answer = FollowAnswer { number, stream: None, told: 0 };
        self.context.send_to_core(to, PeerMessage::FollowAnswer(answer));
    }

    /// A follower's core is gone, or has to look for another.
    pub(super) fn forget_follower(&mut self, peer: PeerCore) {
        self.context.followers.forget(peer);
    }

    /// What a node outside of the replica set may ask of a replica: to be told, to see which
    /// entities there are, for chosen entries, and what to think of a copy in doubt. It has no
    /// other say here.
    pub(super) fn follower_message(&mut self, from: PeerCore, message: PeerMessage) {
        match message {
            PeerMessage::Follow(request) => self.handle_follow(from, request),
            PeerMessage::Sweep(_)
            | PeerMessage::CatchUp(_)
            | PeerMessage::Compare(_)
            | PeerMessage::Copy(_) => self.message(from, message),
            PeerMessage::Heartbeat | PeerMessage::Generations(_) => {}
            _ => self.context.counters.followers_unheard += 1,
        }
    }
}
